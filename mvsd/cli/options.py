"""What the commands share: options with their help, the choice of a device, the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvsd.errors import MvsdError

if TYPE_CHECKING:
    from mvsd.converter import Converter


class Device(str, Enum):
    """Where a model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Protocol(str, Enum):
    """Which part of an utterance is heard."""

    full = "full"
    first = "first-2.56s"


class Bits(str, Enum):
    """Sample format of a sound file."""

    float = "float"
    pcm24 = "24"
    pcm16 = "16"

    @property
    def subtype(self) -> str:
        """libsndfile's name."""
        return {"float": "FLOAT", "24": "PCM_24", "16": "PCM_16"}[self.value]


class Keep(str, Enum):
    """What stays equal of a recording's level."""

    keep = "keep"
    peak = "peak"
    lufs = "lufs"


PHOTO_HELP = "Photo or panorama of the room: JPEG, PNG, WebP or HEIC."
SCENE_HELP = f"{PHOTO_HELP} For a folder, one for all or a folder of photos with the recordings' names."

Source = Annotated[
    Path, typer.Argument(metavar="IN", help="Recording of any rate and length, video, or folder of them.")
]
Output = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="OUT",
        help="File to write, as long as IN to the sample; in a folder that exists it gets IN's name.",
    ),
]
Depth = Annotated[
    Path | None,
    typer.Option(
        metavar="MAP",
        help="Depth of the photo, 16-bit PNG in millimetres or .npy in metres; mvsd's own models use none.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same result.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Sampling steps; by default the model's.")]
Where = Annotated[
    Device, typer.Option(help="Where to compute; auto takes a CUDA device if there is one, else the CPU.")
]
Model = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Model file, folder or Hub name; by default mvsd's own."),
]
Jobs = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Files of a folder at a time, each in a process of one thread."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing output.")]

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
Drr = Annotated[
    float | None,
    typer.Option(
        min=-20,
        max=40,
        metavar="DB",
        help="Make the room so loud: direct-to-reverberant ratio, after --rt60.",
    ),
]
LowGain = Annotated[
    float | None,
    typer.Option(
        min=-60,
        max=20,
        metavar="DB",
        help="Gain of the room below 1 kHz; mvsd's own model has -6, 0 is as drawn.",
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
Heard = Annotated[
    Path | None,
    typer.Option(
        metavar="RECORDING", help="A recording of a voice in the room on the photo, from which T20 is taken."
    ),
]
SampleBits = Annotated[
    Bits | None, typer.Option("--bits", help="Sample format of a sound file; by default that of IN.")
]
SaveResponse = Annotated[
    Path | None, typer.Option(metavar="IR.wav", help="Also write the photo's impulse response, at IN's rate.")
]
Photo = Annotated[Path | None, typer.Option(metavar="PHOTO", help=SCENE_HELP)]
Known = Annotated[
    Path | None,
    typer.Option(
        "--response",
        metavar="IR.wav",
        help="In place of a photo, the room's impulse response, measured or of mvsd response.",
    ),
]


def choose_device(device: Device) -> str:
    """The device's name for torch; auto takes a CUDA device if there is one."""
    import torch

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is Device.auto:
        return "cuda" if usable["cuda"] else "cpu"
    if not usable[device.value]:
        raise MvsdError(f"torch finds no {device.value} device on this machine; use --device auto")
    return str(device.value)


def tell_depth(depth: Path | None, model: Converter) -> None:
    """Say so where a depth map is given to a model that does not look at one."""
    if depth is not None and not model.config.scene.depth:
        typer.echo(f"warning: {depth} is not used: this model sees the photo only", err=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[float, float | None], None]]:
    """A bar on stderr where that is a terminal: called with what is done and, once it is known, what there is to do."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr)  # this one, also while it is redirected
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
