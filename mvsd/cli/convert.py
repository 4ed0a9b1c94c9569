"""Commands that convert sound: reverb, dereverb, transfer, response, example."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvsd.cli.jobs import convert, convert_folder, known_room, require_scene, require_usable, tell_lowered
from mvsd.cli.options import (
    PHOTO_HELP,
    SCENE_HELP,
    Bits,
    Check,
    Depth,
    Device,
    Drr,
    Dry,
    Force,
    Heard,
    Jobs,
    Keep,
    KeepEarly,
    Known,
    Level,
    LowGain,
    Model,
    Output,
    Photo,
    Rt60,
    SampleBits,
    SaveResponse,
    Seed,
    Shifts,
    Source,
    Steps,
    StepsIn,
    Strength,
    Tail,
    Wet,
    WetLeft,
    Where,
    choose_device,
    tell_depth,
)

if TYPE_CHECKING:
    import numpy as np

    from mvsd.blind import BlindEstimate
    from mvsd.blockwise import BlockConverter, ResponseConverter
    from mvsd.converter import Converter, Direction
    from mvsd.scene import Scene


def reverb(
    source: Source,
    out: Output,
    scene: Photo = None,
    known: Known = None,
    depth: Depth = None,
    wet: Wet = 0,
    dry: Dry = 0,
    rt60: Rt60 = None,
    drr: Drr = None,
    low_gain: LowGain = None,
    tail: Tail = 0,
    strength: Strength = 1,
    save_response: SaveResponse = None,
    level: Level = Keep.keep,
    bits: SampleBits = None,
    check: Check = False,
    seed: Seed = 0,
    steps: Steps = None,
    device: Where = Device.auto,
    model: Model = None,
    jobs: Jobs = 1,
    force: Force = False,
) -> None:
    """Put a dry voice into the room on a photo, or of a response, or a video's sound into the rooms that it shows."""
    _require_one_room(known, {"--scene": scene, "--model": model, "--low-gain": low_gain, "--steps": steps})
    if source.is_dir():
        _room(known, model, device, low_gain)  # what cannot be read says so once
        convert_folder(reverb, **locals())
        return
    out = _file_in(out, source)
    from mvsd.amount import reverberation
    from mvsd.responses import room_response, write_response

    if known is None:
        require_scene(scene, source, out)
    _require_sound(out, tail, bits)
    _require_photo(scene, {"--depth": depth, "--save-response": save_response})
    rate = require_usable(source, out, save_response, force)
    room = _open(scene, depth)
    drawn = _room(known, model, device, low_gain, depth)
    amounts: dict[str, Any] = {"rt60": rt60, "drr": drr}
    converter = reverberation(drawn, wet_db=wet, dry_db=dry, strength=strength, **amounts)
    response = None
    if save_response is not None:
        # A model without a response says so here, before anything is written.
        response = room_response(converter, room, rate, seed=seed, steps=steps)
    how: dict[str, Any] = {"seed": seed, "steps": steps, "level": level.value, "tail": tail, "bits": bits}
    convert(converter, source, out, room, watch=known is None, adds=True, check=check, force=force, **how)
    if (rt60, drr) != (None, None) and (room is not None or known is not None):
        _tell_rooms(converter, drawn, room, seed, steps)
    if save_response is not None and response is not None:
        gain_db = write_response(save_response, response, rate, force=force)
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
    bits: SampleBits = None,
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

    _require_sound(out, 0, bits)
    _require_photo(scene, {"--depth": depth})
    require_usable(source, out, None, force)
    room = _open(scene, depth)
    drawn = _load("dereverberator", model, device, num_shifts=shifts)
    tell_depth(depth, drawn)
    converter = dereverberation(drawn, wet_db=wet, dry_db=dry, keep_early_ms=keep_early, strength=strength)
    how: dict[str, Any] = {"seed": seed, "steps": steps, "level": level.value, "bits": bits}
    convert(converter, source, out, room, watch=False, check=check, force=force, **how)


def transfer(
    source: Source,
    out: Output,
    target_scene: Annotated[
        Path | None, typer.Option("--to", metavar="PHOTO", help=f"The room to go to. {SCENE_HELP}")
    ] = None,
    known: Known = None,
    source_scene: Annotated[
        Path | None, typer.Option("--from", metavar="PHOTO", help="The room of IN; without it, blindly.")
    ] = None,
    wet: Wet = 0,
    dry: Dry = 0,
    rt60: Rt60 = None,
    drr: Drr = None,
    low_gain: LowGain = None,
    tail: Tail = 0,
    strength: Strength = 1,
    level: Level = Keep.keep,
    bits: SampleBits = None,
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
    """Move a recording from its room into the room on a photo, or of a response."""
    photo = {"--to": target_scene, "--reverberator": reverberator, "--low-gain": low_gain, "--steps": steps}
    _require_one_room(known, photo)
    if known is None and target_scene is None:
        raise typer.BadParameter("--to is missing: a photo of the room to go to, or --response, is needed")
    if source.is_dir():
        _load("dereverberator", dereverberator, device, num_shifts=shifts)  # what cannot be read says so once
        _room(known, reverberator, device, low_gain)
        del photo
        convert_folder(transfer, photo="target_scene", **locals())
        return
    out = _file_in(out, source)
    from mvsd.amount import relocation

    _require_sound(out, tail, bits)
    require_usable(source, out, None, force)
    old, new = _open(source_scene), _open(target_scene)
    drawn = _room(known, reverberator, device, low_gain)
    dry_voice = _load("dereverberator", dereverberator, device, num_shifts=shifts)
    amounts: dict[str, Any] = {"rt60": rt60, "drr": drr}
    gains = {"wet_db": wet, "dry_db": dry, "strength": strength}
    converter = relocation(dry_voice, drawn, old, **gains, **amounts)
    how: dict[str, Any] = {"seed": seed, "steps": steps, "level": level.value, "tail": tail, "bits": bits}
    convert(converter, source, out, new, watch=False, adds=True, check=check, force=force, **how)
    if (rt60, drr) != (None, None):
        _tell_rooms(converter, drawn, new, seed, steps)


def response(
    photo: Annotated[
        Path, typer.Argument(metavar="ROOM", help=f"{PHOTO_HELP} Or a recording of a voice in the room.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="IR.wav", help="Sound file to write.")],
    depth: Depth = None,
    heard: Heard = None,
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
    drr: Drr = None,
    low_gain: LowGain = None,
    seed: Seed = 0,
    steps: Steps = None,
    device: Where = Device.auto,
    model: Model = None,
    force: Force = False,
) -> None:
    """Write the impulse response of a room, seen on a photo or heard in a recording, for any convolution plug-in."""
    from mvsd.amount import reverberation
    from mvsd.audio import AudioWriter
    from mvsd.figures import require_writable, response_figure
    from mvsd.responses import describe_response, heard_room, room_response, write_response

    draws = range(1, count + 1)
    paths = [out] if count == 1 else [out.parent / f"{out.stem}-{draw}{out.suffix}" for draw in draws]
    for path in paths:
        AudioWriter(path, rate, 1, subtype=bits.subtype, force=force)
    if figure is not None:
        require_writable(figure, force=force)
    written: dict[str, np.ndarray] = {}
    recording = _recording(photo, {"--depth": depth, "--heard": heard}) or heard
    room = None if recording == photo else _open(photo, depth)
    drawn = _load("reverberator", model, device, low_gain_db=low_gain)
    tell_depth(depth, drawn)
    shape: Callable[..., BlockConverter] = reverberation
    if recording is not None:
        shape = partial(heard_room, heard=_listen(recording), seen=room is not None)
    converter = reverberation(shape(drawn, rt60=rt60, drr=drr), wet_db=wet, dry_db=dry)
    for own_seed, path in enumerate(paths, seed):
        rir = room_response(converter, room, rate, seconds=seconds, seed=own_seed, steps=steps)
        gain_db = write_response(path, rir, rate, subtype=bits.subtype, force=force)
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


def _room(
    known: Path | None,
    model: Path | None,
    device: Device,
    low_gain: float | None,
    depth: Path | None = None,
) -> ResponseConverter:
    """That of a response, or whatever a reverberator sees on a photo."""
    if known is None:
        drawn = _load("reverberator", model, device, low_gain_db=low_gain)
        tell_depth(depth, drawn)
        return drawn
    return known_room(known)


def _recording(path: Path, options: Mapping[str, object]) -> Path | None:
    """The path if it is a recording; raise for options that belong to a photo then."""
    from mvsd.recordings import RECORDINGS

    if path.suffix.lower() not in RECORDINGS:
        return None
    for name, value in options.items():
        if value is not None:
            raise typer.BadParameter(f"{name} belongs to a photo, and {path} is a recording")
    return path


def _listen(path: Path) -> BlindEstimate:
    """What a recording tells of its room, said as well."""
    from mvsd.audio import load_audio
    from mvsd.blind import BlindEstimator
    from mvsd.inspection import loudest_channel

    waveform, rate = load_audio(path)
    heard = BlindEstimator.load().estimate(loudest_channel([waveform]), rate)
    time = f"T20 {heard.rt60:.2f} s +- {heard.rt60_std:.2f}"
    typer.echo(f"{path}: {time}, DRR {heard.drr_db:.1f} dB +- {heard.drr_db_std:.1f} are heard", err=True)
    return heard


def _require_one_room(known: Path | None, photo: Mapping[str, object]) -> None:
    """Raise for options of a photo where the room is that of a response."""
    for name, value in photo.items():
        if known is not None and value is not None:
            raise typer.BadParameter(
                f"{name} is for the room on a photo, and --response is a room; give one of them"
            )


def _file_in(out: Path, source: Path) -> Path:
    """Where a recording goes: a folder stands for a file of its name in it."""
    return out / source.name if out.is_dir() else out


def _open(photo: Path | None, depth: Path | None = None) -> Scene | None:
    from mvsd.scene import Scene

    return None if photo is None else Scene.open(photo, depth)


def _require_sound(out: Path, tail: float, bits: Bits | None) -> None:
    """Raise for a tail where there are pictures, which it would outlast, and for bits where a codec has none."""
    from mvsd.audio_writer import closest_subtype
    from mvsd.container import is_container

    if tail and is_container(out):
        raise typer.BadParameter(
            f"--tail is not for {out.suffix} files, which keep their length; give a .wav"
        )
    if bits is not None and (is_container(out) or closest_subtype(out, bits.subtype) != bits.subtype):
        raise typer.BadParameter(f"{out.suffix} files have no samples of --bits {bits.value}; give a .wav")


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
