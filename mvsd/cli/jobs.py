"""One conversion as the command line runs it: checks first, then a progress bar, then how long it took."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import typer

from mvsd.cli.options import progress_bar

if TYPE_CHECKING:
    from mvsd.converter import Converter
    from mvsd.scene import Scene


def require_usable(source: Path, out: Path, response: Path | None, force: bool) -> None:
    """Raise for files that cannot be read or written, before the time is spent on a model."""
    from mvsd.audio import AudioReader, AudioWriter

    with AudioReader(source) as reader:
        AudioWriter(out, reader.sample_rate, reader.channels, force=force)
    if response is not None:
        AudioWriter(response, 16_000, 1, force=force)


def convert(
    converter: Converter,
    source: Path,
    out: Path,
    scene: Scene | None,
    *,
    seed: int,
    steps: int | None,
    force: bool,
) -> None:
    """Convert a sound file and say what was done."""
    from mvsd.files import convert_file

    started = perf_counter()
    with progress_bar("converting") as progress:
        report = convert_file(
            converter, source, out, scene, seed=seed, steps=steps, force=force, progress=progress
        )
    seconds = perf_counter() - started
    factor = seconds / max(report.seconds, 1e-9)
    typer.echo(f"{out}: {report.seconds:.2f} s in {seconds:.2f} s, real-time factor {factor:.2f}")
    if report.gain_db != 0:
        typer.echo(f"warning: {out} is lowered by {-report.gain_db:.1f} dB so as not to clip", err=True)
