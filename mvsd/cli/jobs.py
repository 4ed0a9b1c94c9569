"""Conversions as the command line runs them: one file with a progress bar, or every file of a folder."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import typer

from mvsd.cli.options import Bits, progress_bar
from mvsd.errors import MvsdError

if TYPE_CHECKING:
    from mvsd.blockwise import BlockConverter
    from mvsd.files import ConversionReport
    from mvsd.folders import FolderReport
    from mvsd.level import Level
    from mvsd.responses import KnownRoom
    from mvsd.scene import Scene
    from mvsd.video import VideoReport

# Of the options, what an output does not depend on.
_WITHOUT_INFLUENCE = ("check",)
_HEARD_DB = 0.05
_CUT_DB = -50.0
_LOWERED = "is lowered by {:.1f} dB so as not to clip"


def require_usable(source: Path, out: Path, response: Path | None, force: bool) -> int:
    """Raise for files that cannot be read or written, before the time is spent on a model; returns IN's rate in Hz."""
    if response is not None and response.resolve() == out.resolve():
        raise typer.BadParameter("--save-response and --out are the same file")
    from mvsd.audio import AudioWriter
    from mvsd.container import is_container
    from mvsd.soundtrack import open_sound
    from mvsd.video import check_video

    if is_container(out):
        check_video(source, out, force=force)
    reader = open_sound(source)
    if not is_container(out):
        AudioWriter(out, reader.sample_rate, reader.channels, force=force)
    if response is not None:
        AudioWriter(response, reader.sample_rate, 1, force=force)
    return reader.sample_rate


def require_scene(scene: Path | None, source: Path, out: Path) -> None:
    """Raise for a conversion that needs a photo and has none; a video brings its own."""
    from mvsd.audio_writer import container_of
    from mvsd.container import is_container, is_video

    if not is_container(out):
        container_of(out)  # a suffix that nothing is written to says so
    if scene is None and not is_video(out):
        way = "save a frame of it as JPEG and give that, or give OUT a video's suffix"
        advice = f"; {source} is a video: {way}" if is_video(source) else ", unless IN and OUT are videos"
        raise typer.BadParameter(f"--scene is missing: a photo of the room is needed{advice}")


def known_room(path: Path) -> KnownRoom:
    """The room of a response; warns of a file that does not look like one."""
    from mvsd.folders import stamp

    return _known_room(path, stamp(path))


@lru_cache(maxsize=1)  # for the files of a folder, the warning is said once
def _known_room(path: Path, _: str) -> KnownRoom:
    from mvsd.inspection import looks_like_response
    from mvsd.responses import load_room

    room = load_room(path)
    if not looks_like_response(room.rir, room.sample_rate):
        advice = f"of a recording make one with: mvsd response {path} -o ir.wav"
        typer.echo(f"warning: {path} does not look like an impulse response; {advice}", err=True)
    return room


def convert(
    converter: BlockConverter,
    source: Path,
    out: Path,
    scene: Scene | None,
    *,
    seed: int,
    steps: int | None,
    level: Level = "keep",
    bits: Bits | None = None,
    tail: float = 0.0,
    force: bool,
    watch: bool = True,
    adds: bool = False,
    check: bool = False,
) -> None:
    """Convert a sound file or a video and say what was done; without a scene, a video shows its own, if `watch`.

    It warns of a room that the conversion `adds` where the end of a sound file cuts it, and with `check` of changes
    that should not be.
    """
    from mvsd.check import Check, Checked
    from mvsd.files import ConversionReport
    from mvsd.video import convert_recording

    found = Check()
    around = partial(Checked, check=found) if check else None
    started = perf_counter()
    subtype = None if bits is None else bits.subtype
    sound_only = {"tail": tail, "subtype": subtype} if tail or bits else {}  # which a video has not
    with progress_bar("converting") as progress:
        report = convert_recording(
            converter,
            source,
            out,
            scene,
            watch=watch,
            around=around,
            seed=seed,
            steps=steps,
            level=level,
            force=force,
            progress=progress,
            **sound_only,
        )
    seconds = perf_counter() - started
    factor = seconds / max(report.seconds, 1e-9)
    typer.echo(f"{out}: {report.seconds:.2f} s in {seconds:.2f} s, real-time factor {factor:.2f}")
    if isinstance(report, ConversionReport) and adds and report.end_db > _CUT_DB:
        cut = f"ends while the room is still at {report.end_db:.0f} dB of its peak"
        typer.echo(f"warning: {out} {cut}; --tail 2 lets it die away", err=True)
    _tell_report(report, out, level)
    for warning in found.warnings() if check else ():
        typer.echo(f"warning: {out}: {warning}", err=True)


def _tell_report(report: ConversionReport | VideoReport, out: Path, level: Level) -> None:
    """Say what became of the level and of a video."""
    from mvsd.video import VideoReport

    if isinstance(report, VideoReport):
        if report.changes:
            times = ", ".join(f"{time:.2f}" for time in report.changes)
            typer.echo(f"{out}: the room changes at {times} s", err=True)
        for stream in report.dropped:
            typer.echo(f"warning: {out} cannot hold {stream}; it is left out", err=True)
    if level == "keep":
        tell_lowered(out, report.gain_db)
    else:
        typer.echo(f"{out}: a gain of {report.gain_db:+.1f} dB for the level ({level})", err=True)
        if report.short_db > _HEARD_DB:
            stays = f"stays {report.short_db:.1f} dB below the {level} of IN so as not to clip"
            typer.echo(f"warning: {out} {stays}; give a .wav and --bits float, or a softer IN", err=True)


def tell_lowered(path: Path, gain_db: float) -> None:
    """Say so where a file could not be written as loud as it was."""
    if gain_db != 0:
        typer.echo(f"warning: {path} {_LOWERED.format(-gain_db)}", err=True)


def convert_folder(
    command: Callable[..., None],
    *,
    source: Path,
    out: Path,
    jobs: int,
    force: bool,
    photo: str = "scene",
    **options: Any,
) -> None:
    """Run a command for every recording below a folder, as if it were called for each with the same options.

    `options` are all the command's others; that called `photo` is a photo, a folder of photos, or None. Raises
    MvsdError if a file failed, when all others are done.
    """
    from mvsd.folders import RESULTS
    from mvsd.folders import convert_folder as convert_files
    from mvsd.recordings import RECORDINGS

    scene = options.pop(photo)
    if out.suffix.lower() in RECORDINGS and not out.is_dir():
        raise typer.BadParameter(f"IN is a folder, and {out} is the name of a file; give a folder as --out")
    if options.get("save_response") is not None:
        raise typer.BadParameter("--save-response is for one recording, and IN is a folder")
    if options.get("depth") is not None and (scene is None or scene.is_dir()):
        raise typer.BadParameter("--depth belongs to a photo; give that as --scene")
    run = _Command(command, photo, tuple(options.items()))
    try:
        with progress_bar("converting") as progress:
            report = convert_files(
                run,
                source,
                out,
                scene,
                settings=_settings(command, options),
                jobs=jobs,
                force=force,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo("what is done is kept; the same command goes on from here", err=True)
        raise
    _tell(report, out / RESULTS)
    if options.get("check") and (num_kept := report.count("kept")):
        typer.echo(
            f"warning: {num_kept} files are kept and were not checked again; what a check said before is in"
            f" {out / RESULTS}",
            err=True,
        )


@dataclass(frozen=True)
class _Command:
    """A command with its options, to be called for one file after the other, here or in another process."""

    command: Callable[..., None]
    photo: str
    options: tuple[tuple[str, Any], ...]

    def __call__(self, source: Path, output: Path, scene: Path | None) -> str:
        """Returns what the command warns of."""
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
                self.command(
                    source=source, out=output, jobs=1, force=True, **{self.photo: scene}, **dict(self.options)
                )
        except typer.BadParameter as error:
            raise MvsdError(error.message) from error
        return "; ".join(line.removeprefix("warning: ") for line in said.getvalue().splitlines())


def _settings(command: Callable[..., None], options: dict[str, Any]) -> str:
    """Everything but recording and photo that an output follows from, as one line."""
    import mvsd
    from mvsd.folders import stamp
    from mvsd.shipped import SHIPPED, shipped_weights

    def text(value: Any) -> str:
        return f"{value} {stamp(value)}" if isinstance(value, Path) else str(value)

    chosen = {name: text(value) for name, value in options.items() if name not in _WITHOUT_INFLUENCE}
    weights = {name: stamp(shipped_weights(name)) for name in SHIPPED}
    return json.dumps(
        {"command": command.__name__, "version": mvsd.__version__, "weights": weights, **chosen}
    )


def _tell(report: FolderReport, results: Path) -> None:
    """Print the table; raise MvsdError if a file failed."""
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    for row in report.rows:
        if row.status == "converted" and row.message:
            typer.echo(f"{row.file}: {row.message}", err=True)
    for row in report.rows:
        if row.status == "failed":
            typer.echo(f"failed: {row.file}: {row.message}", err=True)
    _tell_unmatched([row.message for row in report.rows if row.status != "failed"])
    for status in ("converted", "kept", "failed"):
        typer.echo(f"{status:<10}{report.count(status):>8}")
    typer.echo(f"{len(report.rows)} files in {report.seconds:.1f} s; what became of each: {results}")
    if num_failed := report.count("failed"):
        raise MvsdError(f"{num_failed} of {len(report.rows)} files failed; the reasons are above")


def _tell_unmatched(messages: list[str]) -> None:
    """Warn where the files of a folder are not lowered by the same amount: they may be takes of one scene."""
    pattern = re.escape(_LOWERED).replace(re.escape("{:.1f}"), r"(\d+\.\d)")
    found = [match[1] for message in messages if (match := re.search(pattern, message))]
    if found and (len(found) < len(messages) or len(set(found)) > 1):
        low, high = min(found, key=float), max(found, key=float)
        amount = f"{low} dB" if low == high else f"{low} to {high} dB"
        came = f"{len(found)} of {len(messages)} files are lowered by {amount}, each so as not to clip"
        typer.echo(f"warning: {came}; --bits float keeps their levels (of .wav files)", err=True)
