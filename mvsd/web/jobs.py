"""What the page can be asked for, as data, and doing it; nothing here knows the page."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mvsd.amount import applied_room, dereverberation, relocation, reverberation
from mvsd.audio import AudioReader
from mvsd.audio_writer import CONTAINERS
from mvsd.blockwise import BlockConverter
from mvsd.container import WITHOUT_PICTURES, has_pictures, is_video, picture_seconds
from mvsd.converter import Converter, load_as
from mvsd.errors import MvsdError
from mvsd.files import ConversionReport
from mvsd.fullband import extend_response
from mvsd.level import Level
from mvsd.responses import write_response
from mvsd.scene import Scene
from mvsd.soundtrack import Soundtrack, open_sound
from mvsd.video import VideoReport, convert_recording

Task = Literal["reverb", "dereverb", "transfer"]
"""Named as the command that does the same."""

Progress = Callable[[float, float | None], None]

RESPONSE_RATE = 48_000
_WHERE: dict[Task, str] = {
    "reverb": "in-the-room",
    "dereverb": "out-of-the-room",
    "transfer": "in-the-new-room",
}
_MAX_VALUES = 2**28  # samples of all channels: 1 GiB on the disk while it is converted
_MAX_CHANNELS = 16  # what links them holds all of a window at once
_HEARD_DB = 0.05
_LAST_FRAME_SECONDS = 2.0  # by which a container may be longer than its sound
_NO_ROOM = "no room to go to; take or choose a photo of one, or pick a sample room"


@dataclass(frozen=True)
class Limits:
    """The largest upload, in megabytes (2^20 bytes) and in seconds of sound."""

    megabytes: int = 200
    seconds: float = 300.0


@dataclass(frozen=True)
class Models:
    """The two converters, and the files they come from where these are the user's own."""

    reverberator: Converter
    dereverberator: Converter
    reverberator_file: Path | None = None
    dereverberator_file: Path | None = None

    @classmethod
    def load(cls, reverberator: Path | None, dereverberator: Path | None, device: str) -> Models:
        """Read both, those that come with mvsd where no file is given. Raises as `load_as` does."""
        return cls(
            load_as("reverberator", reverberator, device),
            load_as("dereverberator", dereverberator, device),
            reverberator,
            dereverberator,
        )


@dataclass(frozen=True)
class Settings:
    """Everything that decides a result.

    `room` is the photo of the room to go to, `old_room` that of the room of the recording. Amounts are as in
    `mvsd.amount`, `level` as in `mvsd.level`; None stands for the photo's own reverberation time and for the model's
    own number of steps.
    """

    task: Task
    source: Path
    room: Path | None = None
    old_room: Path | None = None
    wet_db: float = 0.0
    dry_db: float = 0.0
    rt60: float | None = None
    keep_early_ms: float = 0.0
    strength: float = 1.0
    level: Level = "keep"
    seed: int = 0
    steps: int | None = None

    def scene(self) -> Scene | None:
        """The photo that the converter is given. Raises PhotoError."""
        photo = self.old_room if self.task == "dereverb" else self.room
        return None if photo is None else Scene.open(photo)

    def converter(self, models: Models) -> BlockConverter:
        """The converter that does it all. Raises MvsdError for an amount out of range or a bad photo."""
        if self.task == "dereverb":
            return dereverberation(
                models.dereverberator, keep_early_ms=self.keep_early_ms, strength=self.strength
            )
        amounts: dict[str, Any] = {
            "wet_db": self.wet_db,
            "dry_db": self.dry_db,
            "rt60": self.rt60,
            "strength": self.strength,
        }
        if self.task == "reverb":
            return reverberation(models.reverberator, **amounts)
        old = None if self.old_room is None else Scene.open(self.old_room)
        return relocation(models.dereverberator, models.reverberator, old, **amounts)

    def command(self, output: Path, models: Models) -> str:
        """The command line that does the same: recording and photos without their folder, models as they were given."""
        options: dict[str, object]
        if self.task == "transfer":
            files = {
                "--reverberator": models.reverberator_file,
                "--dereverberator": models.dereverberator_file,
            }
            options = {"--from": _name(self.old_room), "--to": _name(self.room), **files}
        elif self.task == "reverb":
            options = {"--scene": _name(self.room), "--model": models.reverberator_file}
        else:
            options = {"--scene": _name(self.old_room), "--model": models.dereverberator_file}
        options["--out"] = _name(output)
        if self.task == "dereverb":
            options["--keep-early"] = self.keep_early_ms or None
        else:
            options |= {"--wet": self.wet_db or None, "--dry": self.dry_db or None, "--rt60": self.rt60}
        options["--strength"] = None if self.strength == 1 else self.strength
        options["--level"] = None if self.level == "keep" else self.level
        options |= {"--seed": self.seed, "--steps": self.steps}
        words = ["mvsd", self.task, str(_name(self.source))]
        for name, value in options.items():
            if value is not None:
                words += [name, f"{value:g}" if isinstance(value, float) else str(value)]
        return shlex.join(words)


@dataclass(frozen=True)
class Conversion:
    """A result: the file, whether it is a video, and the report.

    `rir` (R,) is the response that was applied, at 16 kHz, `response` the same as a file for other programs; both are
    None where there is none.
    """

    settings: Settings
    output: Path
    is_video: bool
    rir: NDArray[np.float32] | None
    response: Path | None
    report: ConversionReport | VideoReport
    command: str

    def summary(self) -> str:
        """One line for people."""
        line = f"{self.report.seconds:.1f} s, {_format(self.report.sample_rate, self.report.channels)}"
        if self.settings.level != "keep":
            line += f", a gain of {self.report.gain_db:+.1f} dB for the level ({self.settings.level})"
            if self.report.short_db > _HEARD_DB:
                line += f", which stays {self.report.short_db:.1f} dB below it so as not to clip"
        elif self.report.gain_db < -_HEARD_DB:
            line += f", lowered by {-self.report.gain_db:.1f} dB so as not to clip"
        if isinstance(self.report, VideoReport) and self.report.changes:
            times = ", ".join(f"{time:.1f}" for time in self.report.changes)
            line += f", the scene changes at {times} s"
        if isinstance(self.report, VideoReport) and self.report.dropped:
            line += f", left out is what {self.output.suffix} cannot hold: {', '.join(self.report.dropped)}"
        return line


def describe_source(path: Path, limits: Limits) -> str:
    """What was uploaded, in one line. Raises MvsdError for what cannot be converted, or is too long for the page."""
    sound = open_sound(path)
    seconds = _seconds(sound, limits.seconds)
    if seconds > limits.seconds:
        raise MvsdError(
            f"{path.name} is longer than the {limits.seconds:g} s that this page takes;"
            " the command line takes any length"
        )
    if seconds * sound.sample_rate * sound.channels > _MAX_VALUES:
        raise MvsdError(
            f"{path.name} ({_format(sound.sample_rate, sound.channels)}) is too much for this page;"
            " the command line takes it"
        )
    if sound.channels > _MAX_CHANNELS:
        raise MvsdError(
            f"{path.name} has {sound.channels} channels; this page takes {_MAX_CHANNELS},"
            " the command line any number"
        )
    what = "video, " if has_pictures(path) else ""
    return f"{what}{seconds:.1f} s, {_format(sound.sample_rate, sound.channels)}"


def _seconds(sound: AudioReader | Soundtrack, most: float) -> float:
    """The length of a recording, pictures included; of one above `most`, what is known when that is."""
    promised = (isinstance(sound, Soundtrack) and sound.seconds) or 0.0
    if promised > most + _LAST_FRAME_SECONDS:
        return promised
    seconds = 0.0
    for block in sound.blocks():
        seconds += float(block.shape[1] / sound.sample_rate)
        if seconds > most:
            return seconds
    return max(seconds, picture_seconds(sound.path)) if isinstance(sound, Soundtrack) else seconds


def describe_photo(path: Path) -> str:
    """The size of a photo as it is used. Raises PhotoError."""
    height, width = Scene.open(path).image.shape[:2]
    return f"{width} x {height} pixels"


def convert(
    settings: Settings, models: Models, folder: Path, limits: Limits, progress: Progress | None = None
) -> Conversion:
    """Do it, into an empty folder. Raises MvsdError, and what `progress` raises."""
    describe_source(settings.source, limits)
    shows_rooms = has_pictures(settings.source)
    if settings.room is None and (
        settings.task == "transfer" or (settings.task == "reverb" and not shows_rooms)
    ):
        raise MvsdError(_NO_ROOM)
    scene, converter = settings.scene(), settings.converter(models)
    output = folder / f"{settings.source.stem}-{_WHERE[settings.task]}{_suffix(settings.source, shows_rooms)}"
    rir = response = None
    if settings.task != "dereverb" and scene is not None and models.reverberator.generates_response:
        response = folder / "ir.wav"
        rir = applied_room(converter).response(scene, seed=settings.seed, steps=settings.steps)
        full_band = extend_response(rir, RESPONSE_RATE, seed=settings.seed)
        write_response(response, full_band, RESPONSE_RATE)
    report = convert_recording(
        converter,
        settings.source,
        output,
        scene,
        watch=settings.task != "dereverb",
        seed=settings.seed,
        steps=settings.steps,
        level=settings.level,
        progress=progress,
    )
    return Conversion(settings, output, shows_rooms, rir, response, report, settings.command(output, models))


def _suffix(source: Path, has_pictures: bool) -> str:
    """That of the source where it can be written, else one that holds everything."""
    suffix = source.suffix.lower()
    if has_pictures:
        return suffix if is_video(source) else ".mkv"
    return suffix if suffix in (*CONTAINERS, *WITHOUT_PICTURES) else ".wav"


def _format(sample_rate: int, channels: int) -> str:
    names = {1: "mono", 2: "stereo"}
    return f"{sample_rate / 1000:g} kHz, {names.get(channels, f'{channels} channels')}"


def _name(path: Path | None) -> str | None:
    """Without its folder, as an argument that is not taken for an option."""
    if path is None:
        return None
    return f"./{path.name}" if path.name.startswith("-") else path.name
