"""Commands that convert sound: reverb, dereverb, transfer, response, example."""

from __future__ import annotations

import math
from enum import Enum
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvsd.cli.jobs import convert, convert_folder, require_scene, require_usable, tell_lowered
from mvsd.cli.options import (
    PHOTO_HELP,
    SCENE_HELP,
    Depth,
    Device,
    Force,
    Jobs,
    Model,
    Output,
    Seed,
    Source,
    Steps,
    Where,
    choose_device,
    tell_depth,
)

if TYPE_CHECKING:
    import numpy as np

    from mvsd.blockwise import BlockConverter
    from mvsd.converter import Converter, Direction
    from mvsd.scene import Scene


class Bits(str, Enum):
    """Sample format of a response."""

    float = "float"
    pcm24 = "24"


class Keep(str, Enum):
    """What stays equal of a recording's level."""

    keep = "keep"
    peak = "peak"
    lufs = "lufs"


_MAX_GAIN_DB = 40

Wet = Annotated[
    float, typer.Option(max=_MAX_GAIN_DB, metavar="DB", help="Gain of what the room adds; -inf is none.")
]
WetLeft = Annotated[
    float,
    typer.Option("--wet", max=_MAX_GAIN_DB, metavar="DB", help="Level at which the removed room is left in."),
]
Dry = Annotated[float, typer.Option(max=_MAX_GAIN_DB, metavar="DB", help="Gain of the direct voice.")]
Rt60 = Annotated[
    float | None,
    typer.Option(min=0.1, max=10, metavar="SECONDS", help="Bend the room to this reverberation time (T20)."),
]
LowGain = Annotated[
    float | None,
    typer.Option(
        min=-60, max=20, metavar="DB", help="Gain of the room below 1 kHz, instead of the model's own."
    ),
]
KeepEarly = Annotated[
    float,
    typer.Option(min=0, max=200, metavar="MS", help="Leave the early sound in, up to MS after the direct."),
]
Strength = Annotated[
    float, typer.Option(min=0, max=1, help="0 leaves the recording as it is, 1 converts it wholly.")
]
Shifts = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=99,
        metavar="K",
        help="The last pass is the mean of K conversions on shifted frames; more take longer.",
    ),
]
Level = Annotated[
    Keep, typer.Option(help="What stays equal: keep the gain, the highest peak, or the loudness in LUFS.")
]
Tail = Annotated[
    float,
    typer.Option(min=0, max=30, metavar="SECONDS", help="Add silence to IN, in which the room dies away."),
]
StepsIn = Annotated[
    int | None, typer.Option(min=1, help="Sampling steps into the new room; by default the model's.")
]
Check = Annotated[bool, typer.Option("--check", help="Warn if words or voice changed; needs the extra asr.")]
Photo = Annotated[Path | None, typer.Option(metavar="PHOTO", help=SCENE_HELP)]


def reverb(
    source: Source,
    out: Output,
    scene: Photo = None,
    depth: Depth = None,
    wet: Wet = 0,
    dry: Dry = 0,
    rt60: Rt60 = None,
    low_gain: LowGain = None,
    tail: Tail = 0,
    strength: Strength = 1,
    save_response: Annotated[
        Path | None, typer.Option(metavar="IR.wav", help="Also write the room's impulse response, 16 kHz.")
    ] = None,
    level: Level = Keep.keep,
    check: Check = False,
    seed: Seed = 0,
    steps: Steps = None,
    device: Where = Device.auto,
    model: Model = None,
    jobs: Jobs = 1,
    force: Force = False,
) -> None:
    """Put a dry voice into the room on a photo, or a video's sound into the rooms that it shows."""
    if source.is_dir():
        _load("reverberator", model, device, low_gain_db=low_gain)  # a model that cannot be read says so once
        convert_folder(reverb, **locals())
        return
    out = _file_in(out, source)
    from mvsd.amount import applied_room, reverberation
    from mvsd.responses import write_response

    if save_response is not None and save_response.resolve() == out.resolve():
        raise typer.BadParameter("--save-response and --out are the same file")
    require_scene(scene, out)
    _require_sound(out, tail)
    _require_photo(scene, {"--depth": depth, "--save-response": save_response})
    require_usable(source, out, save_response, force)
    room = _open(scene, depth)
    drawn = _load("reverberator", model, device, low_gain_db=low_gain)
    tell_depth(depth, drawn)
    converter = reverberation(drawn, wet_db=wet, dry_db=dry, rt60=rt60, strength=strength)
    response = None
    if save_response is not None:
        # A model without a response says so here, before anything is written.
        response = applied_room(converter).response(room, seed=seed, steps=steps)
    how: dict[str, Any] = {"seed": seed, "steps": steps, "level": level, "tail": tail}
    _convert(converter, source, out, room, check=check, force=force, **how)
    if rt60 is not None and room is not None:
        _tell_rooms(converter, drawn, room, seed, steps)
    if save_response is not None and response is not None:
        gain_db = write_response(save_response, response, 16_000, force=force)
        typer.echo(save_response)
        tell_lowered(save_response, gain_db)


def dereverb(
    source: Source,
    out: Output,
    scene: Photo = None,
    depth: Depth = None,
    wet: WetLeft = -math.inf,
    dry: Dry = 0,
    keep_early: KeepEarly = 0,
    strength: Strength = 1,
    level: Level = Keep.keep,
    check: Check = False,
    shifts: Shifts = None,
    seed: Seed = 0,
    steps: Steps = None,
    device: Where = Device.auto,
    model: Model = None,
    jobs: Jobs = 1,
    force: Force = False,
) -> None:
    """Take the room out of a recording; a photo of the room is optional."""
    if source.is_dir():
        _load("dereverberator", model, device, num_shifts=shifts)  # a model that cannot be read says so once
        convert_folder(dereverb, **locals())
        return
    out = _file_in(out, source)
    from mvsd.amount import dereverberation

    _require_photo(scene, {"--depth": depth})
    require_usable(source, out, None, force)
    room = _open(scene, depth)
    drawn = _load("dereverberator", model, device, num_shifts=shifts)
    tell_depth(depth, drawn)
    converter = dereverberation(drawn, wet_db=wet, dry_db=dry, keep_early_ms=keep_early, strength=strength)
    options: dict[str, Any] = {"seed": seed, "steps": steps, "level": level, "check": check, "force": force}
    _convert(converter, source, out, room, needs_scene=False, **options)


def transfer(
    source: Source,
    target_scene: Annotated[
        Path, typer.Option("--to", metavar="PHOTO", help=f"The room to go to. {SCENE_HELP}")
    ],
    out: Output,
    source_scene: Annotated[
        Path | None, typer.Option("--from", metavar="PHOTO", help="The room of IN; without it, blindly.")
    ] = None,
    wet: Wet = 0,
    dry: Dry = 0,
    rt60: Rt60 = None,
    low_gain: LowGain = None,
    tail: Tail = 0,
    strength: Strength = 1,
    level: Level = Keep.keep,
    check: Check = False,
    shifts: Shifts = None,
    seed: Seed = 0,
    steps: StepsIn = None,
    device: Where = Device.auto,
    dereverberator: Model = None,
    reverberator: Model = None,
    jobs: Jobs = 1,
    force: Force = False,
) -> None:
    """Move a recording from its room into the room on a photo."""
    if source.is_dir():
        _load("dereverberator", dereverberator, device, num_shifts=shifts)  # what cannot be read says so once
        _load("reverberator", reverberator, device, low_gain_db=low_gain)
        convert_folder(transfer, photo="target_scene", **locals())
        return
    out = _file_in(out, source)
    from mvsd.amount import relocation

    _require_sound(out, tail)
    require_usable(source, out, None, force)
    old, new = _open(source_scene), _open(target_scene)
    drawn = _load("reverberator", reverberator, device, low_gain_db=low_gain)
    converter = relocation(
        _load("dereverberator", dereverberator, device, num_shifts=shifts),
        drawn,
        old,
        wet_db=wet,
        dry_db=dry,
        rt60=rt60,
        strength=strength,
    )
    how: dict[str, Any] = {"seed": seed, "steps": steps, "level": level, "tail": tail}
    _convert(converter, source, out, new, check=check, force=force, **how)
    if rt60 is not None:
        _tell_rooms(converter, drawn, new, seed, steps)


def response(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help=PHOTO_HELP)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="IR.wav", help="Sound file to write.")],
    depth: Depth = None,
    rate: Annotated[int, typer.Option(min=8000, max=384_000, help="Samples per second.")] = 48_000,
    seconds: Annotated[
        float | None, typer.Option(min=0.02, max=60, help="Length; by default that of the decay.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, max=999, metavar="N", help="Draws to choose from: IR-1.wav to IR-N.wav.")
    ] = 1,
    bits: Annotated[Bits, typer.Option(help="Sample format.")] = Bits.float,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw what was written: png, pdf or svg.")
    ] = None,
    wet: Wet = 0,
    dry: Dry = 0,
    rt60: Rt60 = None,
    low_gain: LowGain = None,
    seed: Seed = 0,
    steps: Steps = None,
    device: Where = Device.auto,
    model: Model = None,
    force: Force = False,
) -> None:
    """Write the impulse response of the room on a photo, for any convolution plug-in."""
    from mvsd.amount import reverberation
    from mvsd.audio import AudioWriter
    from mvsd.figures import require_writable, response_figure
    from mvsd.responses import describe_response, room_response, write_response

    subtype = "FLOAT" if bits is Bits.float else "PCM_24"
    paths = (
        [out]
        if count == 1
        else [out.parent / f"{out.stem}-{index}{out.suffix}" for index in range(1, count + 1)]
    )
    for path in paths:
        AudioWriter(path, rate, 1, subtype=subtype, force=force)
    if figure is not None:
        require_writable(figure, force=force)
    written: dict[str, np.ndarray] = {}
    room = _open(photo, depth)
    drawn = _load("reverberator", model, device, low_gain_db=low_gain)
    tell_depth(depth, drawn)
    converter = reverberation(drawn, wet_db=wet, dry_db=dry, rt60=rt60)
    for own_seed, path in enumerate(paths, seed):
        rir = room_response(converter, room, rate, seconds=seconds, seed=own_seed, steps=steps)
        gain_db = write_response(path, rir, rate, subtype=subtype, force=force)
        typer.echo(f"{path}: seed {own_seed}, {describe_response(rir, rate)}")
        tell_lowered(path, gain_db)
        written[f"seed {own_seed}"] = rir
    if figure is not None:
        response_figure(written, rate, figure, force=force)
        typer.echo(figure)


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


@lru_cache(maxsize=2)
def _load(direction: Direction, model: Path | None, device: Device, **settings: Any) -> Converter:
    from mvsd.converter import load_as

    return load_as(direction, model, choose_device(device), **settings)


def _file_in(out: Path, source: Path) -> Path:
    """Where a recording goes: a folder stands for a file of its name in it."""
    return out / source.name if out.is_dir() else out


def _open(photo: Path | None, depth: Path | None = None) -> Scene | None:
    from mvsd.scene import Scene

    return None if photo is None else Scene.open(photo, depth)


def _require_sound(out: Path, tail: float) -> None:
    """Raise for a tail where there are pictures, which it would outlast."""
    from mvsd.container import is_container

    if tail and is_container(out):
        raise typer.BadParameter(
            f"--tail is not for {out.suffix} files, which keep their length; give a .wav"
        )


def _require_photo(scene: Path | None, options: dict[str, Path | None]) -> None:
    """Raise for an option that means nothing without --scene."""
    for name, value in options.items():
        if scene is None and value is not None:
            raise typer.BadParameter(f"{name} belongs to a photo; give --scene as well")


def _tell_rooms(
    converter: BlockConverter, drawn: BlockConverter, room: Scene | None, seed: int, steps: int | None
) -> None:
    """Say what is measured on the response that was applied, and on the one that was drawn."""
    from mvsd.amount import applied_room
    from mvsd.responses import describe_response

    after, before = (
        describe_response(applied_room(each).response(room, seed=seed, steps=steps), 16_000)
        for each in (converter, drawn)
    )
    typer.echo(f"room: {after}; as drawn: {before}", err=True)


def _convert(
    converter: BlockConverter,
    source: Path,
    out: Path,
    scene: Scene | None,
    *,
    seed: int,
    steps: int | None,
    level: Keep,
    tail: float = 0.0,
    needs_scene: bool = True,
    check: bool,
    force: bool,
) -> None:
    """Convert a file; with `check`, warn of what it changed that it should not have."""
    from mvsd.check import Check, Checked

    found = Check()
    around = partial(Checked, check=found) if check else None
    options: dict[str, Any] = {"seed": seed, "steps": steps, "level": level.value, "force": force}
    convert(converter, source, out, scene, around=around, tail=tail, needs_scene=needs_scene, **options)
    for warning in found.warnings() if check else ():
        typer.echo(f"warning: {out}: {warning}", err=True)
