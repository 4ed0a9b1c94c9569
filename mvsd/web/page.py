"""The page: inputs, outputs, and the jobs between them, one at a time for all visitors."""

# Without `from __future__ import annotations`: Gradio, imported late, reads the annotations of the handlers.

from html import escape
from pathlib import Path
from typing import Any

from mvsd.errors import MvsdError
from mvsd.web.inputs import QUIETLY, Inputs, make_inputs
from mvsd.web.jobs import Limits, Models, convert
from mvsd.web.listening import prepare_listening
from mvsd.web.outputs import Outputs, make_outputs, no_report, reported, shown
from mvsd.web.room import inspect_rooms
from mvsd.web.visitors import Visitors

_INTRODUCTION = (
    "# A voice into the room on a photo, and out of it again\n"
    "Everything is computed on the machine that serves this page; nothing is sent to any other."
)
_CHECK_EVERY, _KEPT = 600, 6 * 3600  # seconds; uploads go after that, and all of them when the page ends
_MAX_WAITING = 20
_SHOW_PROGRESS = '() => { document.getElementById("player").scrollIntoView({block: "nearest"}); return []; }'


def build_page(models: Models, limits: Limits, root: Path) -> Any:
    """The page as `gradio.Blocks`; results go below `root`, which must be Gradio's own folder."""
    import gradio as gr

    visitors = Visitors(root)
    with gr.Blocks(title="mvsd", analytics_enabled=False, delete_cache=(_CHECK_EVERY, _KEPT)) as page:
        gr.Markdown(_INTRODUCTION)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                inputs = make_inputs(limits, visitors)
                with gr.Row():
                    go = gr.Button("Convert", variant="primary", scale=3, min_width=160, elem_id="go")
                    stop = gr.Button(
                        "Stop", variant="stop", scale=1, min_width=100, visible=False, elem_id="stop"
                    )
            with gr.Column(scale=6, min_width=320, elem_classes="results"):
                outputs = make_outputs()
        _run_jobs(go, stop, inputs, outputs, models, limits, visitors)

        def leave(request: gr.Request) -> None:
            visitors.leave(str(request.session_hash))

        page.unload(leave)
    page.queue(default_concurrency_limit=1, max_size=_MAX_WAITING, api_open=False)
    return page


def _run_jobs(
    go: Any,
    stop: Any,
    inputs: Inputs,
    outputs: Outputs,
    models: Models,
    limits: Limits,
    visitors: Visitors,
) -> None:
    """Convert, then report on the rooms."""
    import gradio as gr

    latest = gr.State()

    def run(request: gr.Request, progress: Any = gr.Progress(), *values: Any) -> list[Any]:  # noqa: B008
        try:
            settings = Inputs.settings(*values)
            with visitors.job(str(request.session_hash)) as job:
                watched = job.watched(lambda share: progress(share, desc="Converting"))
                conversion = convert(settings, models, job.folder, limits, watched)
                listening = prepare_listening(settings.source, conversion.output, job.folder)
        except MvsdError as error:
            raise _failure(error, visitors) from None
        return [(conversion, listening, job), *shown(conversion, listening), *no_report()]

    def look(progress: Any = gr.Progress(), done: Any = None) -> list[Any]:  # noqa: B008
        conversion, listening, job = done
        watched = job.watched(lambda share: progress(share, desc="Looking at the room"))
        try:
            rooms = inspect_rooms(conversion, listening, models, watched)
            return reported(rooms, conversion, job.folder)
        except MvsdError as error:
            raise _failure(error, visitors) from None

    def cancel(request: gr.Request) -> Any:
        visitors.stop(str(request.session_hash))
        return gr.update(visible=False)

    alone = {"concurrency_id": "models", "concurrency_limit": 1}
    results, reports = outputs.results(), outputs.reports()
    clicked = go.click(lambda: gr.update(visible=True), None, stop, js=_SHOW_PROGRESS, **QUIETLY)
    converting = clicked.then(
        run, inputs.all(), [latest, *results, *reports], show_progress_on=[outputs.player], **alone
    )
    looking = converting.success(look, latest, reports, show_progress_on=[outputs.table], **alone)
    for last in (converting.failure, looking.then):
        last(lambda: gr.update(visible=False), None, stop, **QUIETLY)
    stop.click(cancel, None, stop, cancels=[converting, looking], **QUIETLY)


def _failure(error: MvsdError, visitors: Visitors) -> Exception:
    """What Gradio shows until it is closed; its message is HTML."""
    import gradio as gr

    failure: Exception = gr.Error(escape(visitors.plain(error)), duration=None, print_exception=False)
    return failure
