"""The command line: one verb per command, thin over the library.

Results go to stdout, talk and progress to stderr. The exit status is 0, or 1 for input that cannot be used, 2 for
wrong usage, 130 when interrupted; each of these comes with one line on stderr.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import mvsd
from mvsd.errors import MvsdError

if TYPE_CHECKING:
    from mvsd.converter import Converter
    from mvsd.scene import Scene

# Typer exports only this subclass of the class of all usage errors.
_UsageError: Any = typer.BadParameter.__bases__[0]
_INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Device(str, Enum):
    """Where a model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


PHOTO_HELP = "Photo or panorama of the room: JPEG, PNG or WebP."

Source = Annotated[
    Path, typer.Argument(metavar="IN", help="Recording: any sound file, any rate, any length.")
]
Output = Annotated[
    Path, typer.Option("--out", "-o", metavar="OUT", help="Sound file to write, as long as IN to the sample.")
]
Depth = Annotated[
    Path | None,
    typer.Option(metavar="MAP", help="Depth of the photo: 16-bit PNG in millimetres, or .npy in metres."),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same result.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Sampling steps, 1 to 8; by default the model's.")]
Where = Annotated[
    Device, typer.Option(help="Where to compute; auto takes a CUDA device if there is one, else the CPU.")
]
Model = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Model file; by default the one that comes with mvsd.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing output.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mvsd {mvsd.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Move a voice into the room on a photo, and out of it again."""


@app.command()
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
    _require_usable(source, out, save_response, force)
    room = Scene.open(scene, depth)
    converter = _load("reverberator", model, device)
    # A model without a response says so here, before anything is written.
    response = None if save_response is None else converter.response(room, seed=seed, steps=steps)
    _convert(converter, source, out, room, seed=seed, steps=steps, force=force)
    if save_response is not None and response is not None:
        save_audio(save_response, response, 16_000, subtype="FLOAT", force=force)
        typer.echo(save_response)


@app.command()
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
    _require_usable(source, out, None, force)
    room = None if scene is None else Scene.open(scene, depth)
    converter = _load("dereverberator", model, device)
    _convert(converter, source, out, room, seed=seed, steps=steps, force=force)


@app.command()
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

    for path in run_example(out, seed=seed, steps=steps, device=_choose(device), force=force):
        typer.echo(path)


@app.command()
def simulate(
    rooms: Annotated[int, typer.Option(min=1, metavar="N", help="How many.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the shards.")],
    split: Annotated[str, typer.Option(help="Name of the split; no two splits share a room.")] = "train",
    seed: Seed = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")] = None,
) -> None:
    """Simulate rooms with picture, depth and sound; rooms that are in the folder already are kept."""
    from mvsd.simulation.simulate import simulate_rooms

    started = perf_counter()
    with _progress("simulating") as progress:
        paths = simulate_rooms(out, rooms, seed=seed, jobs=jobs, split=split, progress=progress)
    for path in paths:
        typer.echo(path)
    typer.echo(f"{rooms} rooms in {perf_counter() - started:.0f} s", err=True)


@app.command()
def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML file of differences from the defaults.")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value; may be repeated."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder; by default runs/ and the run's name.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")
    ] = False,
) -> None:
    """Train both converters in the closed loop; the same command resumes."""
    from mvsd.training.config import describe, load_config

    resolved = load_config(config, changes or ())
    if dry_run:
        typer.echo(describe(resolved))
        return
    from mvsd.figures import conversion_figure
    from mvsd.training.loop import train as run_training
    from mvsd.training.validation import make_validation

    folder = run or Path("runs") / resolved.run
    run_training(
        resolved,
        folder,
        validate=make_validation(resolved),
        figure=partial(conversion_figure, force=True),
        progress=sys.stderr.isatty(),
    )
    typer.echo(folder)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; what a user can mend becomes one line, without a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may have bytes that are no text
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        command = typer.main.get_command(app)
        status = command.main(arguments, prog_name="mvsd", standalone_mode=False)
    except MvsdError as error:
        return _fail(str(error))
    except _UsageError as error:
        where = error.ctx.command_path if error.ctx else "mvsd"
        return _fail(f"{error.format_message().rstrip('.')}; see {where} --help", error.exit_code)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror or error}" if error.filename else str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        typer.echo("interrupted", err=True)
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int = 1) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return status


def _require_usable(source: Path, out: Path, response: Path | None, force: bool) -> None:
    """Raise for files that cannot be read or written, before the time is spent on a model."""
    from mvsd.audio import AudioReader, AudioWriter

    with AudioReader(source) as reader:
        AudioWriter(out, reader.sample_rate, reader.channels, force=force)
    if response is not None:
        AudioWriter(response, 16_000, 1, force=force)


def _load(name: str, model: Path | None, device: Device) -> Converter:
    from mvsd.converter import load

    return load(name if model is None else model, _choose(device))


def _choose(device: Device) -> str:
    """The device's name for torch; auto takes a CUDA device if there is one."""
    import torch

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is Device.auto:
        return "cuda" if usable["cuda"] else "cpu"
    if not usable[device.value]:
        raise MvsdError(f"torch finds no {device.value} device on this machine; use --device auto")
    return str(device.value)


def _convert(
    converter: Converter,
    source: Path,
    out: Path,
    scene: Scene | None,
    *,
    seed: int,
    steps: int | None,
    force: bool,
) -> None:
    from mvsd.files import convert_file

    started = perf_counter()
    with _progress("converting") as progress:
        report = convert_file(
            converter, source, out, scene, seed=seed, steps=steps, force=force, progress=progress
        )
    seconds = perf_counter() - started
    factor = seconds / max(report.seconds, 1e-9)
    typer.echo(f"{out}: {report.seconds:.2f} s in {seconds:.2f} s, real-time factor {factor:.2f}")
    if report.gain_db != 0:
        typer.echo(f"warning: {out} is lowered by {-report.gain_db:.1f} dB so as not to clip", err=True)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[float, float | None], None]]:
    """A bar on stderr where that is a terminal: called with what is done and, once it is known, what there is to do."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
