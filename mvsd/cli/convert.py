"""Commands that convert sound: reverb, dereverb, example."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvsd.cli.jobs import convert, require_usable
from mvsd.cli.options import (
    PHOTO_HELP,
    Depth,
    Device,
    Force,
    Model,
    Output,
    Seed,
    Source,
    Steps,
    Where,
    choose_device,
)

if TYPE_CHECKING:
    from mvsd.converter import Converter


def reverb(
    source: Source,
    scene: Annotated[Path, typer.Option(metavar="PHOTO", help=PHOTO_HELP)],
    out: Output,
    depth: Depth = None,
    save_response: Annotated[
        Path | None, typer.Option(metavar="IR.wav", help="Also write the room's impulse response, 16 kHz.")
    ] = None,
    seed: Seed = 0,
    steps: Steps = None,
    device: Where = Device.auto,
    model: Model = None,
    force: Force = False,
) -> None:
    """Put a dry voice into the room on a photo."""
    from mvsd.audio import save_audio
    from mvsd.scene import Scene

    if save_response is not None and save_response.resolve() == out.resolve():
        raise typer.BadParameter("--save-response and --out are the same file")
    require_usable(source, out, save_response, force)
    room = Scene.open(scene, depth)
    converter = _load("reverberator", model, device)
    # A model without a response says so here, before anything is written.
    response = None if save_response is None else converter.response(room, seed=seed, steps=steps)
    convert(converter, source, out, room, seed=seed, steps=steps, force=force)
    if save_response is not None and response is not None:
        save_audio(save_response, response, 16_000, subtype="FLOAT", force=force)
        typer.echo(save_response)


def dereverb(
    source: Source,
    out: Output,
    scene: Annotated[Path | None, typer.Option(metavar="PHOTO", help=PHOTO_HELP)] = None,
    depth: Depth = None,
    seed: Seed = 0,
    steps: Steps = None,
    device: Where = Device.auto,
    model: Model = None,
    force: Force = False,
) -> None:
    """Take the room out of a recording; a photo of the room is optional."""
    from mvsd.scene import Scene

    if depth is not None and scene is None:
        raise typer.BadParameter("--depth belongs to a photo; give --scene as well")
    require_usable(source, out, None, force)
    room = None if scene is None else Scene.open(scene, depth)
    converter = _load("dereverberator", model, device)
    convert(converter, source, out, room, seed=seed, steps=steps, force=force)


def example(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the sounds and the figure.")
    ] = Path("mvsd-example"),
    seed: Seed = 0,
    steps: Steps = None,
    device: Where = Device.auto,
    force: Force = False,
) -> None:
    """Do both on the voice and photo that come with mvsd."""
    from mvsd.example import run_example

    for path in run_example(out, seed=seed, steps=steps, device=choose_device(device), force=force):
        typer.echo(path)


def _load(name: str, model: Path | None, device: Device) -> Converter:
    from mvsd.converter import load

    return load(name if model is None else model, choose_device(device))
