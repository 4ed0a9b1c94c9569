"""Command that measures: evaluate."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvsd.cli.options import Device, Protocol, Seed, Steps, choose_device, progress_bar
from mvsd.errors import MvsdError

if TYPE_CHECKING:
    from mvsd.evaluation.results import Results
    from mvsd.evaluation.settings import Settings
    from mvsd.evaluation.systems import System


class Task(str, Enum):
    """What is done to the voice."""

    reverberation = "reverberation"
    dereverberation = "dereverberation"


class Format(str, Enum):
    """How the table is printed."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    latex = "latex"
    html = "html"


def _free(page: Path | None) -> Path | None:
    """The folder for the site, if a site may be there: it is written last, and said first."""
    from mvsd.evaluation.page import require_place_for_page

    if page is not None:
        require_place_for_page(page)
    return page


_Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.")]
_Task = Annotated[Task | None, typer.Option(help="What the systems do.")]
_Data = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Shards, a benchmark, or a folder of recordings with photos."),
]
_Split = Annotated[str, typer.Option(help="Split of a benchmark, or subfolder with shards.")]
_Protocol = Annotated[Protocol, typer.Option(help="Whole utterances, or as in visual acoustic matching.")]
_Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N clips.")]
_Speech = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Dry speech, where --data are rooms without voices.")
]
_Speakers = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Only speech with such a path; may be repeated.")
]
_Seconds = Annotated[
    float | None,
    typer.Option(min=0.0, help="Length of the clips made of --speech, by default 5; 0 for whole utterances."),
]
_Cache = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder for the decoded speech, by default data/cache.")
]
_System = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=WHAT",
        help="Model file, Hub id, training run, folder of files, or module:object; may be repeated. Default: shipped.",
    ),
]
_References = Annotated[bool, typer.Option(help="Also classical references, which need no training.")]
_Constant = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="RT60 DRR", help="The constant room of the references: seconds, decibels."),
]
_Development = Annotated[
    str | None, typer.Option(metavar="PATH", help="Data on which the constant room is chosen.")
]
_Metrics = Annotated[
    list[str] | None,
    typer.Option(metavar="NAMES", help="Only these metrics, A,B or repeated; eer compares voices."),
]
_Where = Annotated[Device, typer.Option(help="Where models compute.")]
_Jobs = Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")]
_Format = Annotated[Format, typer.Option("--format", help="How the table is printed.")]
_Page = Annotated[
    Path | None,
    typer.Option(metavar="DIR", callback=_free, help="Also write a site with every sound."),
]
_Scenes = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="How many clips the site has, by default 8.")
]
_Votes = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="Only count these votes of the site's listening test; may be repeated."
    ),
]


def evaluate(
    out: _Out,
    task: _Task = None,
    data: _Data = None,
    split: _Split = "",
    protocol: _Protocol = Protocol.full,
    limit: _Limit = None,
    speech: _Speech = None,
    speakers: _Speakers = None,
    seconds: _Seconds = None,
    cache: _Cache = None,
    system: _System = None,
    references: _References = True,
    constant: _Constant = None,
    development: _Development = None,
    metrics: _Metrics = None,
    steps: Steps = None,
    device: _Where = Device.cpu,
    jobs: _Jobs = None,
    seed: Seed = 0,
    format_: _Format = Format.table,
    page: _Page = None,
    scenes: _Scenes = None,
    votes: _Votes = None,
) -> None:
    """Measure systems on a data set, with the right photo, none and a wrong one; the same command resumes."""
    if votes:
        beside = {"--task": task, "--data": data, "--page": page, "--system": system}
        typer.echo(_count(out, votes, format_.value, beside), nl=False)
        return
    if task is None or data is None:
        raise typer.BadParameter("--task and --data are needed, or --votes")
    of_speech = {"--speakers": speakers, "--seconds": seconds, "--cache": cache}
    _require_sense(page, scenes, out, constant, development, references and task is Task.reverberation)
    _require_speech(speech, of_speech, protocol)
    from mvsd.evaluation.evaluate import evaluate as run
    from mvsd.evaluation.results import Results
    from mvsd.evaluation.settings import Settings

    device_name = "cpu" if device is Device.cpu else choose_device(device)  # that imports torch
    where = {"steps": steps, "device": device_name}
    settings = Settings(
        task=task.value,
        data=data,
        systems=_systems(task.value, system or [], references, constant or development, where),
        split=split,
        protocol=protocol.value,
        limit=limit,
        speech=str(speech or ""),
        speakers=tuple(speakers or ()),
        cache=str(cache or "data/cache"),
        seconds=5.0 if seconds is None else seconds,
        metrics=tuple(_names(metrics or [])),
        seed=seed,
    )
    _require_places(settings, out, page)
    jobs = jobs or os.cpu_count() or 1
    with progress_bar("evaluating") as progress:
        results = Results(settings, run(settings, out, jobs=jobs, progress=progress))
    _tell(results, out, page, scenes, jobs, format_.value)


def _require_sense(
    page: Path | None,
    scenes: int | None,
    out: Path,
    constant: object,
    development: object,
    has_constant_room: bool,
) -> None:
    if page is None:
        _refuse({"--scenes": scenes}, "is for a --page; give that as well")
    if page is not None and page.resolve() in (out.resolve(), *out.resolve().parents):
        raise typer.BadParameter(f"--page {page} holds --out {out}; a page is a folder of its own")
    if constant and development:
        raise typer.BadParameter("--constant and --development both say what the constant room is; give one")
    if (constant or development) and not has_constant_room:
        raise typer.BadParameter("--constant and --development are for the references of reverberation")


def _require_speech(speech: Path | None, of_speech: Mapping[str, object], protocol: Protocol) -> None:
    if speech is None:
        _refuse(of_speech, "is for the clips made of --speech; give that as well")
    elif protocol is not Protocol.full:
        raise typer.BadParameter(
            "--protocol cuts the data set's own recordings; with --speech there is --seconds"
        )


def _refuse(options: Mapping[str, object], reason: str) -> None:
    """Raise BadParameter for the first of the options that is given."""
    for name, value in options.items():
        if value is not None and value != []:
            raise typer.BadParameter(f"{name} {reason}")


def _require_places(settings: Settings, out: Path, page: Path | None) -> None:
    """Raise for folders that cannot be written to, before the time is spent on what is to be written."""
    from mvsd.evaluation.evaluate import require_apart
    from mvsd.evaluation.results import require_place_for_results

    require_place_for_results(out)
    if page is not None:
        require_apart(settings, page, is_page=True)


def _systems(
    task: Any,
    texts: list[str],
    references: bool,
    room: tuple[float, float] | str | None,
    where: dict[str, Any],
) -> tuple[System, ...]:
    """Input and ground truth, the systems, and the references with a constant room or that of a data set."""
    from mvsd.data.datasets import open_dataset
    from mvsd.evaluation import systems

    chosen = texts or [systems.SHIPPED_FOR[task]]
    found = [systems.parse_system(text, task, **where) for text in chosen]
    beside: tuple[System, ...] = ()
    if references:
        if isinstance(room, str) and task == "reverberation":
            room = systems.choose_room(open_dataset(room))
        constant = room if isinstance(room, tuple) else systems.PUBLISHED_ROOM
        beside = systems.references(task, constant)
    return (systems.Untouched(), systems.GroundTruth(), *found, *beside)


def _names(texts: list[str]) -> list[str]:
    """Names separated by commas, which options of a metric have too."""
    return [name for text in texts for name in ([text] if ":" in text else text.split(","))]


def _tell(results: Results, out: Path, page: Path | None, scenes: int | None, jobs: int, form: str) -> None:
    """Write and print everything; raise MvsdError at the end for clips not read and systems without a figure."""
    results.write(out)
    typer.echo(results.show(form, _width()), nl=False)
    _tell_failures(results)
    if page is not None:
        _write_page(results, out, page, scenes or 8, jobs)
    faults = [f"{name} has no figure at all" for name in results.without_figures]
    if unread := results.unread:
        faults.insert(0, f"{len(unread)} of {results.num_clips} clips could not be read")
    if faults:
        raise MvsdError("; ".join([*faults, f"the reasons are in {out / 'clips.csv'}"]))


def _write_page(results: Results, out: Path, page: Path, num_scenes: int, jobs: int) -> None:
    from mvsd.evaluation.page import write_page
    from mvsd.figures import spectrogram_images

    with progress_bar("writing the page") as progress:
        options: dict[str, Any] = {"num_scenes": num_scenes, "jobs": jobs, "progress": progress}
        test = write_page(results, page, spectrogram_images, **options)
    test.write(out)
    typer.echo(page / "index.html", err=True)


def _count(out: Path, votes: list[Path], form: str, beside: Mapping[str, object]) -> str:
    _refuse(beside, "does nothing beside --votes; leave it out")
    from mvsd.evaluation.votes import ListeningTest, count_votes, preferences_grid

    return preferences_grid(count_votes(ListeningTest.read(out, votes[0]), votes)).show(form, _width())


def _tell_failures(results: Results, shown: int = 5) -> None:
    failures = results.failures()
    for reason, clips in list(failures.items())[:shown]:
        which = f"failed {len(clips)} of {results.num_clips} times (e.g. {clips[0]})"
        typer.echo(f"{which}: {reason}", err=True)
    if len(failures) > shown:
        typer.echo(f"and {len(failures) - shown} other reasons, in results.json", err=True)


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
