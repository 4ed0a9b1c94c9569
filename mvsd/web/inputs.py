"""The left of the page: what is asked for, checked as soon as it is uploaded."""

# Without `from __future__ import annotations`: Gradio, imported late, reads the annotations of the handlers.

from collections.abc import Callable
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from mvsd.decay import RT60_RANGE
from mvsd.errors import MvsdError
from mvsd.example import SAMPLES
from mvsd.web.jobs import Limits, Settings, describe_photo, describe_source
from mvsd.web.visitors import Visitors

SAMPLE_VOICE = SAMPLES / "voice.flac"
SAMPLE_ROOMS = tuple(sorted(SAMPLES.glob("*.jpg")))

_TASKS = [("Into a room", "reverb"), ("Out of a room", "dereverb"), ("From room to room", "transfer")]
_LEVELS = [("As it comes", "keep"), ("Same peak", "peak"), ("Same loudness", "lufs")]
QUIETLY = {"queue": False, "show_progress": "hidden"}


@dataclass
class Inputs:
    """The components, in the order of `Inputs.settings`."""

    task: Any
    audio: Any
    video: Any
    room: Any
    old_room: Any
    wet_db: Any
    dry_db: Any
    rt60: Any
    keep_early_ms: Any
    strength: Any
    level: Any
    seed: Any
    steps: Any

    def all(self) -> list[Any]:
        """The components in their order."""
        return [getattr(self, field.name) for field in fields(self)]

    @staticmethod
    def settings(*values: Any) -> Settings:
        """What is asked for, from the components' values. Raises MvsdError without a voice.

        Gradio makes 0 of a number that is left empty, so 0 stands for what the photo or the model has.
        """
        given = Inputs(*values)
        source = given.video or given.audio
        if source is None:
            raise MvsdError("no voice yet; upload or record one, or use the sample voice")
        return Settings(
            task=given.task,
            source=Path(source),
            room=_path(given.room) if given.task != "dereverb" else None,
            old_room=_path(given.old_room) if given.task != "reverb" else None,
            wet_db=float(given.wet_db),
            dry_db=float(given.dry_db),
            rt60=float(given.rt60) if given.rt60 else None,
            keep_early_ms=float(given.keep_early_ms),
            strength=float(given.strength),
            level=given.level,
            seed=int(given.seed or 0),
            steps=int(given.steps) if given.steps else None,
        )


def make_inputs(limits: Limits, visitors: Visitors) -> Inputs:
    """Place the components, inside a `gradio.Blocks`."""
    import gradio as gr

    task = gr.Radio(_TASKS, value="reverb", label="What to do", elem_id="task")
    audio, video = _voice(limits, visitors)
    with gr.Column(visible=False) as old_column:
        old_room, _ = _photo("The room it was recorded in (optional)", "old-room", visitors)
    with gr.Column() as room_column:
        new_room, note = _photo("The room to go to", "room", visitors)
        samples = gr.Gallery(
            [(str(path), path.stem.replace("-", " ")) for path in SAMPLE_ROOMS],
            label="Sample rooms",
            columns=len(SAMPLE_ROOMS),
            height="auto",
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            buttons=[],
            elem_id="samples",
        )

    def pick(event: gr.SelectData) -> tuple[str, str]:
        path = SAMPLE_ROOMS[int(event.index)]
        return str(path), note_html(describe_photo(path))

    samples.select(pick, None, [new_room, note], **QUIETLY)
    amounts, columns = _amounts()

    def show(chosen: str) -> list[Any]:
        is_into, is_out = chosen != "dereverb", chosen != "reverb"
        return [gr.update(visible=visible) for visible in (is_out, is_into, is_into, chosen == "dereverb")]

    task.change(show, task, [old_column, room_column, *columns], **QUIETLY)
    return Inputs(task, audio, video, new_room, old_room, *amounts)


def _voice(limits: Limits, visitors: Visitors) -> tuple[Any, Any]:
    """A sound or a video: giving the one takes the other away."""
    import gradio as gr

    with gr.Tabs():
        with gr.Tab("Sound"):
            audio = gr.Audio(
                sources=["upload", "microphone"],
                type="filepath",
                label="The voice",
                buttons=[],
                elem_id="audio",
            )
            sample = gr.Button("Use the sample voice", size="md", elem_id="sample-voice")
        with gr.Tab("Video"):
            video = gr.Video(
                sources=["upload"], label="A video with a voice", buttons=[], height=200, elem_id="video"
            )
            gr.HTML(
                note_html("Into a room without a photo, it gets the rooms that it shows."),
                elem_id="video-note",
            )
    nothing = note_html(f"Up to {limits.megabytes} MB and {limits.seconds:g} s")
    note = gr.HTML(nothing, elem_id="source-note")

    def describe(path: Path) -> str:
        return describe_source(path, limits)

    for component, other in ((audio, video), (video, audio)):
        _check_uploads(describe, visitors, component, note, nothing, other)
    sample.click(
        lambda: (str(SAMPLE_VOICE), None, note_html(describe(SAMPLE_VOICE))),
        None,
        [audio, video, note],
        **QUIETLY,
    )
    return audio, video


def _photo(label: str, name: str, visitors: Visitors) -> tuple[Any, Any]:
    import gradio as gr

    photo = gr.Image(
        type="filepath",
        sources=["upload", "webcam", "clipboard"],
        label=label,
        height=200,
        buttons=[],
        elem_id=name,
        image_mode=None,  # as it was uploaded
    )
    # Gradio would open the photo before we do, and fail in its own words.
    photo.preprocess = lambda payload: None if payload is None else payload.path
    note = gr.HTML("", elem_id=f"{name}-note")
    _check_uploads(describe_photo, visitors, photo, note, keep=lambda path: path)
    return photo, note


def _amounts() -> tuple[list[Any], list[Any]]:
    """The components from `wet_db` on, and the columns of those for into and for out of a room."""
    import gradio as gr

    shortest, longest = RT60_RANGE
    with gr.Accordion("Amount, steps, seed", open=False, elem_id="amounts"):
        with gr.Column() as into:
            wet = gr.Slider(-40, 12, 0, step=0.5, label="What the room adds (wet, dB)", elem_id="wet")
            dry = gr.Slider(-40, 12, 0, step=0.5, label="The direct voice (dry, dB)", elem_id="dry")
            rt60 = gr.Number(
                0,
                label=f"Reverberation time ({shortest:g} to {longest:g} s; 0: as the photo has it)",
                minimum=0,
                maximum=longest,
                step=0.1,
                elem_id="rt60",
            )
        with gr.Column(visible=False) as out:
            early = gr.Slider(0, 200, 0, step=5, label="Leave early sound in, up to (ms)", elem_id="early")
        strength = gr.Slider(
            0, 1, 1, step=0.05, label="Strength (0: untouched, 1: all of it)", elem_id="strength"
        )
        level = gr.Radio(_LEVELS, value="keep", label="Level of what comes out", elem_id="level")
        with gr.Row():
            steps = gr.Number(
                0,
                label="Steps (0: the model's own)",
                precision=0,
                minimum=0,
                maximum=64,
                min_width=130,
                elem_id="steps",
            )
            seed = gr.Number(
                0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1, min_width=130, elem_id="seed"
            )
    return [wet, dry, rt60, early, strength, level, seed, steps], [into, out]


def _check_uploads(
    describe: Callable[[Path], str],
    visitors: Visitors,
    component: Any,
    note: Any,
    nothing: str = "",
    other: Any = None,
    keep: Callable[[str | None], Any] | None = None,
) -> None:
    """Say at once what was uploaded, or why it cannot be used, and then take it away; `nothing` is said of nothing.

    `keep` gives what the component holds on to: by default an update without a change, for which Gradio makes the
    visitor's component anew, without what was set on it.
    """
    import gradio as gr

    others = [] if other is None else [other]
    keep = keep or (lambda _: gr.skip())

    def check(path: str | None) -> list[Any]:
        if path is None:
            return [keep(None), nothing, *(gr.skip() for _ in others)]
        try:
            return [keep(path), note_html(describe(Path(path))), *(None for _ in others)]
        except MvsdError as error:
            return [None, note_html(visitors.plain(error), is_bad=True), *(gr.skip() for _ in others)]

    component.input(check, component, [component, note, *others], **QUIETLY)


def note_html(text: str, *, is_bad: bool = False) -> str:
    """A line below a component, which is read out by a screen reader when it changes."""
    kind, role = (" bad", "alert") if is_bad else ("", "status")
    return f'<p class="note{kind}" role="{role}">{escape(text)}</p>'


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given)
