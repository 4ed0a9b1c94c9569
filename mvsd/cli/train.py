"""Commands that make rooms and models: simulate, train."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from mvsd.cli.options import Seed, progress_bar


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
    with progress_bar("simulating") as progress:
        paths = simulate_rooms(out, rooms, seed=seed, jobs=jobs, split=split, progress=progress)
    for path in paths:
        typer.echo(path)
    typer.echo(f"{rooms} rooms in {perf_counter() - started:.0f} s", err=True)


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
