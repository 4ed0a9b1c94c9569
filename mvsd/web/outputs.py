"""The right of the page: the listening, the downloads, and the room report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvsd.report_figure import report_figure
from mvsd.web.inputs import note_html
from mvsd.web.jobs import Conversion
from mvsd.web.listening import PLACEHOLDER, PLAYER_JS, Listening, file_url
from mvsd.web.room import Rooms, decay_figure, photo_report, rooms_json, rooms_table


@dataclass
class Outputs:
    """The components."""

    player: Any
    summary: Any
    video: Any
    sound_file: Any
    video_file: Any
    response_file: Any
    command: Any
    table: Any
    decay: Any
    photo_box: Any
    photo: Any
    report_file: Any

    def results(self) -> list[Any]:
        """What a conversion fills."""
        files = [self.sound_file, self.video_file, self.response_file]
        return [self.player, self.summary, self.video, *files, self.command]

    def reports(self) -> list[Any]:
        """What the room report fills, afterwards."""
        return [self.table, self.decay, self.photo_box, self.photo, self.report_file]


def make_outputs() -> Outputs:
    """Place the components, inside a `gradio.Blocks`."""
    import gradio as gr

    player = gr.HTML(PLACEHOLDER, js_on_load=PLAYER_JS, apply_default_css=False, elem_id="player")
    summary = gr.HTML("", elem_id="summary")
    video = gr.HTML("", elem_id="result-video", visible=False)
    with gr.Row():
        files = [
            gr.DownloadButton(label, visible=False, size="md", min_width=160, elem_id=name)
            for label, name in (
                ("Download the sound", "get-sound"),
                ("Download the video", "get-video"),
                ("Download ir.wav", "get-response"),
            )
        ]
    command = gr.Textbox(
        label="The same on the command line", lines=2, buttons=["copy"], visible=False, elem_id="command"
    )
    table = gr.HTML("", apply_default_css=False, elem_id="rooms")
    picture = {"interactive": False, "show_label": False}
    decay = gr.Image(**picture, visible=False, buttons=["fullscreen"], elem_id="decay")
    with gr.Accordion("What in the photo decides", open=False, visible=False, elem_id="photo-box") as box:
        photo = gr.Image(**picture, buttons=["fullscreen", "download"], elem_id="photo-report")
    report = gr.DownloadButton(
        "Download the room report (JSON)", visible=False, size="md", elem_id="get-report"
    )
    sound, film, response = files
    return Outputs(player, summary, video, sound, film, response, command, table, decay, box, photo, report)


def shown(conversion: Conversion, listening: Listening) -> list[Any]:
    """New values of `Outputs.results`."""
    import gradio as gr

    is_video, output = conversion.is_video, str(conversion.output)
    picture = f'<video controls preload="metadata" src="{file_url(conversion.output)}#t=0.001"></video>'
    response = None if conversion.response is None else str(conversion.response)
    return [
        listening.markup(),
        note_html(conversion.summary()),
        gr.update(value=picture if is_video else "", visible=is_video),
        gr.update(value=None if is_video else output, visible=not is_video),
        gr.update(value=output if is_video else None, visible=is_video),
        gr.update(value=response, visible=response is not None),
        gr.update(value=conversion.command, visible=True),
    ]


def no_report() -> list[Any]:
    """Empty values of `Outputs.reports`."""
    import gradio as gr

    hidden = gr.update(value=None, visible=False)
    return ["", hidden, gr.update(visible=False), None, hidden]


def reported(rooms: Rooms, conversion: Conversion, folder: Path) -> list[Any]:
    """New values of `Outputs.reports`, their files in `folder`."""
    import gradio as gr

    decay, picture, record = folder / "decay.png", folder / "photo-report.png", folder / "report.json"
    has_decay, photo = decay_figure(rooms, decay), photo_report(rooms)
    if photo is not None:
        report_figure(photo, picture, scene=conversion.settings.scene(), force=True)
    record.write_text(rooms_json(rooms), encoding="utf-8")
    return [
        rooms_table(rooms),
        gr.update(value=str(decay) if has_decay else None, visible=has_decay),
        gr.update(visible=photo is not None),
        None if photo is None else str(picture),
        gr.update(value=str(record), visible=True),
    ]
