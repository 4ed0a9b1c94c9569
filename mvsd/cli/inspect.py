"""The command that says what a file tells of a room: inspect."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from mvsd.cli.options import (
    Depth,
    Device,
    Force,
    Model,
    Seed,
    Steps,
    Where,
    choose_device,
    progress_bar,
    tell_depth,
)
from mvsd.errors import AudioFileError, MvsdError, PhotoError, VideoFileError
from mvsd.whole_file import require_free

if TYPE_CHECKING:
    import numpy as np

    from mvsd.report import Report
    from mvsd.scene import Scene

_MAX_SECONDS = 600  # of a recording; a room does not change with time
_DRAWS = 16


class Kind(str, Enum):
    """What a file is."""

    auto = "auto"
    recording = "recording"
    photo = "photo"
    response = "response"


class _Outputs(NamedTuple):
    """Where the report goes; None: nowhere."""

    json: Path | None
    figure: Path | None


def inspect(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Recording of speech, photo of a room, or impulse response."),
    ],
    kind: Annotated[Kind, typer.Option(help="What FILE is; auto looks at it.")] = Kind.auto,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder for the JSON and the figure.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the JSON there, not to the terminal.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a figure: .png, .pdf or .svg.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Responses drawn for a photo.")] = _DRAWS,
    depth: Depth = None,
    seed: Seed = 0,
    steps: Steps = None,
    device: Where = Device.auto,
    model: Model = None,
    force: Force = False,
) -> None:
    """Say what a recording, a photo or an impulse response tells of its room, as JSON and as a figure."""
    from mvsd.figures import SUFFIXES
    from mvsd.inspection import inspect_photo
    from mvsd.report_figure import report_figure

    if depth is not None and kind not in (Kind.auto, Kind.photo):
        raise typer.BadParameter("--depth belongs to a photo")
    if file.is_dir():
        raise MvsdError(f"{file}: a folder; give one recording, photo or impulse response")
    if out is not None and (out.is_file() or out.suffix.lower() in (*SUFFIXES, ".json")):
        raise typer.BadParameter(f"--out is a folder; for one file there are --figure {out.name} and --json")
    outputs = _outputs(file, out, json_file, figure, force)
    scene, sound = _open(file, kind, depth)
    waveform = None
    if scene is not None:
        from mvsd.converter import load_as

        reverberator = load_as("reverberator", model, choose_device(device))
        tell_depth(depth, reverberator)
        with progress_bar("drawing responses") as progress:
            report = inspect_photo(
                scene, reverberator, draws=draws, seed=seed, steps=steps, progress=progress
            )
    else:
        assert sound is not None
        if model is not None or steps is not None or draws != _DRAWS or seed != 0:
            raise typer.BadParameter(
                f"--model, --steps, --draws and --seed belong to a photo, and {file} is a sound"
            )
        report, waveform = _inspect_sound(*sound, kind)
    report.facts["file"] = file.name
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    _write(report, outputs, force)
    if outputs.figure is not None:
        report_figure(report, outputs.figure, scene=scene, waveform=waveform, force=force)
        typer.echo(outputs.figure, err=outputs.json is None)  # JSON on the terminal stays JSON


def _outputs(
    file: Path, out: Path | None, json_file: Path | None, figure: Path | None, force: bool
) -> _Outputs:
    """Check what would be written, before time is spent on it."""
    from mvsd.figures import SUFFIXES

    if out is not None:
        json_file = json_file or out / f"{file.stem}-report.json"
        figure = figure or out / f"{file.stem}-report.png"
    if figure is not None and figure.suffix.lower() not in SUFFIXES:
        raise MvsdError(f"{figure}: a figure is written as {', '.join(SUFFIXES)}, not as {figure.suffix!r}")
    if json_file is not None and figure is not None and json_file.resolve() == figure.resolve():
        raise typer.BadParameter("--json and --figure are the same file")
    for path in filter(None, (json_file, figure)):
        if path.resolve() == file.resolve():
            raise typer.BadParameter(f"{path} is the file that is to be inspected")
        require_free(path, force)
        if out is None and not path.parent.is_dir():
            raise MvsdError(f"{path}: there is no folder {path.parent}; make it, or choose another")
    return _Outputs(json_file, figure)


def _open(file: Path, kind: Kind, depth: Path | None) -> tuple[Scene | None, tuple[np.ndarray, int] | None]:
    """The photo, or the sound's loudest channel (T,) with its rate."""
    from mvsd.scene import Scene

    if kind is Kind.photo or depth is not None:
        return Scene.open(file, depth), None
    try:
        return None, _load_sound(file)
    except (AudioFileError, VideoFileError) as no_sound:
        if kind is not Kind.auto:
            raise
        try:
            return Scene.open(file), None
        except PhotoError as no_photo:
            if not file.is_file():
                raise MvsdError(
                    f"{file}: no such file; give a recording, a photo or an impulse response"
                ) from None
            raise MvsdError(f"{file} is neither sound nor photo ({no_photo}; {no_sound})") from None


def _load_sound(file: Path) -> tuple[np.ndarray, int]:
    """The loudest channel of the first ten minutes."""
    import numpy as np

    from mvsd.inspection import loudest_channel
    from mvsd.soundtrack import open_sound

    blocks, num_left = list[np.ndarray](), 0
    reader = open_sound(file)
    num_left = _MAX_SECONDS * reader.sample_rate
    for block in reader.blocks():
        blocks.append(block[:, :num_left])
        num_left -= blocks[-1].shape[1]
        if num_left == 0:
            break
    return loudest_channel(blocks or [np.zeros((1, 0), np.float32)]), reader.sample_rate


def _inspect_sound(waveform: np.ndarray, sample_rate: int, kind: Kind) -> tuple[Report, np.ndarray]:
    from mvsd.inspection import inspect_recording, inspect_response, looks_like_response

    is_response = kind is Kind.response or (kind is Kind.auto and looks_like_response(waveform, sample_rate))
    measure = inspect_response if is_response else inspect_recording
    return measure(waveform, sample_rate), waveform


def _write(report: Report, outputs: _Outputs, force: bool) -> None:
    from mvsd.report import save_report

    if outputs.json is None:
        typer.echo(json.dumps(report.to_dict(), indent=1, allow_nan=False))
    else:
        save_report(report, outputs.json, force=force)
        typer.echo(outputs.json)
    typer.echo(report.summary(), err=True)
