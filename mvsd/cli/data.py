"""Commands around data sets: data check, data convert, data download."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvsd.cli.options import Device, Force, Protocol, Seed, Where, choose_device, progress_bar
from mvsd.errors import MissingExtraError, MvsdError

if TYPE_CHECKING:
    from mvsd.data.example import Example

app = typer.Typer(help="Look at data sets, turn them into shards, download the published ones.")

ShownProgress = Callable[[float, float | None], None]


class Published(str, Enum):
    """What can be downloaded."""

    soundspaces = "soundspaces-speech"
    avspeech = "acoustic-avspeech"


Data = Annotated[
    str,
    typer.Argument(metavar="DATA", help="Shards (folder, .tar or address), a benchmark, or your own folder."),
]
Split = Annotated[str, typer.Option(help="Split of a benchmark, or subfolder with shards.")]


@app.command()
def check(
    data: Data,
    split: Split = "",
    every: Annotated[
        bool, typer.Option("--all", help="Open every example, not three of each split.")
    ] = False,
) -> None:
    """Print what is in a data set, what is missing, and its licence; exit with 1 if it cannot be used."""
    from mvsd.data.check import check_dataset

    with progress_bar("opening") as progress:
        report = check_dataset(data, split=split, every=every, progress=progress)
    typer.echo(f"{data}: {report.kind}")
    for what, how_much in report.facts:
        typer.echo(f"  {what}: {how_much}")
    for what in report.missing:
        typer.echo(f"  missing: {what}")
    for problem in report.problems:
        typer.echo(f"  problem: {problem}")
    if report.licence:
        typer.echo(f"  licence: {report.licence}")
    typer.echo("usable" if report.is_usable else "not usable")
    if not report.is_usable:
        raise typer.Exit(1)


@app.command()
def convert(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the shards.")],
    split: Split = "",
    protocol: Annotated[
        Protocol, typer.Option(help="Whole utterances, or the clips of visual acoustic matching.")
    ] = Protocol.full,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N examples.")] = None,
    in_view: Annotated[
        bool, typer.Option("--in-view", help="SoundSpaces-Speech: only where the speaker is in view.")
    ] = False,
    dereverberator: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Acoustic AVSpeech: build sources with this model; dereverberator is ours."
        ),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Of the shards' names; by default the split.")] = "",
    seed: Seed = 0,
    device: Where = Device.auto,
    force: Force = False,
) -> None:
    """Turn a benchmark, or a folder of your own, into shards to train on and to evaluate with."""
    from mvsd.data.remote import is_url
    from mvsd.data.shards import write_shards

    if not is_url(data) and out.exists():
        source = Path(data).resolve().parent if Path(data).is_file() else Path(data)
        if any(folder.exists() and out.samefile(folder) for folder in (source, source / split)):
            raise typer.BadParameter(
                "--out is where DATA is, whose shards it would replace; choose another folder"
            )
    with progress_bar("looking for the speaker") as progress:
        examples = _open(data, split, protocol, limit, in_view, dereverberator, seed, device, progress)
    with progress_bar("converting") as progress:
        failures = list[MvsdError]()
        found = _usable(examples, progress, failures)
        paths = write_shards(found, out, prefix=prefix or split or "data", force=force)
    for path in paths:
        typer.echo(path)
    if failures:
        raise MvsdError(f"{len(failures)} of {len(examples)} examples failed; the reasons are above")


@app.command()
def download(
    name: Annotated[
        Published, typer.Argument(metavar="NAME", help="soundspaces-speech or acoustic-avspeech.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for archives and contents.")
    ],
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="metadata, train, val-mini, test-seen or test-unseen (soundspaces-speech); may be repeated. "
            "By default everything (hundreds of gigabytes)."
        ),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licence and accept it.")
    ] = False,
) -> None:
    """Download a published benchmark and unpack it; the same command goes on where it stopped."""
    from mvsd.data.download import BENCHMARKS, download_benchmark

    typer.echo(BENCHMARKS[name.value].licence, err=True)
    archives = download_benchmark(
        name.value, out, part or (), accept_licence=accept_licence, progress=progress_bar
    )
    for archive in archives:
        typer.echo(archive)


def _open(
    data: str,
    split: str,
    protocol: Protocol,
    limit: int | None,
    in_view: bool,
    dereverberator: str | None,
    seed: int,
    device: Device,
    progress: ShownProgress,
) -> Sequence[Example]:
    """The examples to convert."""
    from mvsd.data.avspeech import AcousticAVSpeech
    from mvsd.data.datasets import open_dataset, recognise
    from mvsd.data.protocols import ProtocolView
    from mvsd.data.soundspaces import SoundSpacesSpeech

    kind = recognise(data)
    if in_view and kind != "soundspaces":
        raise typer.BadParameter("--in-view belongs to SoundSpaces-Speech")
    if dereverberator is not None and kind != "avspeech":
        raise typer.BadParameter("--dereverberator belongs to Acoustic AVSpeech")
    if in_view:
        found = SoundSpacesSpeech(data, split, in_view_only=True, limit=limit, progress=progress)
        return ProtocolView(found, protocol.value, limit)
    if dereverberator is not None:
        from mvsd.converter import load_as

        model = load_as("dereverberator", dereverberator, choose_device(device))
        clips = AcousticAVSpeech(data, split, dereverberator=model, protocol=protocol.value, seed=seed)
        return ProtocolView(clips, protocol.value, limit)
    return open_dataset(data, split=split, protocol=protocol.value, limit=limit)


def _usable(
    examples: Sequence[Example], progress: ShownProgress, failures: list[MvsdError]
) -> Iterator[Example]:
    """The examples that can be opened; of the others the reason is told and added to `failures`."""
    for number in range(len(examples)):
        try:
            example = examples[number]
        except MissingExtraError:  # which all others lack as well
            raise
        except MvsdError as error:
            typer.echo(f"failed: {error}", err=True)
            failures.append(error)
        else:
            yield example
        progress(number + 1, len(examples))
