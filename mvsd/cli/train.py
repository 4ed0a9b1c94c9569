"""Commands that make rooms and models: simulate, train."""

from __future__ import annotations

import sys
from enum import Enum
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from mvsd.cli.options import Seed, progress_bar


class Population(str, Enum):
    """Which rooms are made up; see `mvsd.simulation.roomtypes`."""

    mixed = "mixed"
    homes = "homes"
    dead = "dead"


def simulate(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the shards.")],
    rooms: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many.")] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Instead of making rooms up, take those on the photos of NYU Depth v2."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Name of the split; no two splits share a room.")] = "train",
    population: Annotated[
        Population,
        typer.Option(
            help="Which rooms: mixed, homes (furnished, doors open, seen in panoramas), or dead (closets, booths)."
        ),
    ] = Population.mixed,
    image_scale: Annotated[
        int,
        typer.Option(
            min=1,
            max=8,
            metavar="N",
            help="Pictures N times 128 x 96, panoramas N times 192 x 64; photos stay as they are.",
        ),
    ] = 1,
    seed: Seed = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the first eight rooms: png, pdf or svg.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the figure, if it is there.")] = False,
) -> None:
    """Simulate rooms with picture, depth and sound; rooms that are in the folder already are kept."""
    from mvsd.data.shards import Shards
    from mvsd.figures import require_writable, room_gallery
    from mvsd.simulation.simulate import simulate_photographed, simulate_rooms

    if (rooms is None) == (photos is None):
        raise typer.BadParameter("give --rooms N or --photos DIR, one of them")
    if photos is not None and (population is not Population.mixed or image_scale != 1):
        raise typer.BadParameter(
            "--population and --image-scale are for rooms that are made up, not for --photos"
        )
    if figure is not None:
        require_writable(figure, force=force)
    started = perf_counter()
    with progress_bar("simulating") as progress:
        options: dict[str, Any] = {"seed": seed, "jobs": jobs, "split": split, "progress": progress}
        if photos is not None:
            paths = simulate_photographed(photos, out, **options)
        else:
            paths = simulate_rooms(
                out, rooms or 0, population=population.value, image_scale=image_scale, **options
            )
    if figure is not None:
        shards = Shards(paths)
        room_gallery([shards.load(index) for index in range(min(8, len(shards)))], figure, force=force)
    for path in (*paths, *([figure] if figure else ())):
        typer.echo(path)
    typer.echo(f"{perf_counter() - started:.0f} s", err=True)


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
    """Train the converters of CONFIG, on pairs or in the closed loop; the same command resumes."""
    from mvsd.training.config import describe, load_config

    resolved = load_config(config, changes or ())
    if dry_run:
        typer.echo(describe(resolved))
        return
    from accelerate import PartialState

    from mvsd.figures import conversion_figure
    from mvsd.training.loop import train as run_training
    from mvsd.training.validation import make_validation

    folder = run or Path("runs") / resolved.run
    is_done = run_training(
        resolved,
        folder,
        validate=make_validation(resolved),
        figure=partial(conversion_figure, force=True),
        progress=sys.stderr.isatty(),
    )
    PartialState().destroy_process_group()  # if there is one: none waits for another as it ends
    typer.echo(folder)
    if not is_done:
        raise KeyboardInterrupt  # said, and with its status, as for every command
