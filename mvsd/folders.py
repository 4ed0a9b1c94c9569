"""A folder of recordings: the tree again in another folder, in several processes, and on from where it stopped.

`RESULTS` in the output folder is a table with a row for each file: what became of it, and everything its output depends
on. An output that is there with the size and for the settings in its row is whole (`convert` writes all or nothing) and
is kept when the folder is converted again.
"""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import IO, Protocol

from mvsd.errors import MvsdError
from mvsd.recordings import RECORDINGS, files_below
from mvsd.scene import PHOTO_SUFFIXES
from mvsd.whole_file import whole_file
from mvsd.workers import Outcome, run_in_processes

RESULTS = "mvsd-results.csv"


class ConvertOne(Protocol):
    """What converts one file; it goes to other processes, so it must be picklable."""

    def __call__(self, source: Path, output: Path, scene: Path | None) -> str:
        """Write the output whole or not at all, also over another; return what is to be said, or raise MvsdError."""
        ...


@dataclass(frozen=True)
class Task:
    """A recording by its name below the folder (with /), and its scene; `problem`: why it cannot be converted."""

    name: str
    source: Path
    output: Path
    scene: Path | None = None
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """What became of a recording: "converted", "kept", "failed" or "started", in which time, and what was said of it.

    `settings` and `inputs` (sizes and times of recording and scene) are what the output follows from, `size` is the
    output's in bytes.
    """

    file: str
    status: str
    seconds: str = ""
    message: str = ""
    scene: str = ""
    settings: str = ""
    inputs: str = ""
    size: str = ""


@dataclass(frozen=True)
class FolderReport:
    """The rows of this run in the order of their names, notes on what was passed over, and seconds in all."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    seconds: float

    def count(self, status: str) -> int:
        """How many files have this status."""
        return sum(row.status == status for row in self.rows)


def convert_folder(
    convert: ConvertOne,
    source: str | Path,
    output: str | Path,
    scene: str | Path | None = None,
    *,
    settings: str = "",
    jobs: int = 1,
    force: bool = False,
    progress: Callable[[float, float | None], None] | None = None,
) -> FolderReport:
    """Convert every recording below a folder to one of the same name below another.

    `scene` is a photo for all, or a folder of photos: for a/b.wav that is a/b.jpg (or another of `PHOTO_SUFFIXES`) in
    it, else b.jpg. `settings` says all else that an output depends on: only with the same ones it is kept; another one
    that is in the way is a failure, or with `force` is replaced. `jobs` processes work, each with one thread of torch;
    with one job it is this process. What fails is in the report, and never stops the rest; an interrupt loses no more
    than the files at work. `progress` is called with the files done and the files in all.

    Raises MvsdError where there is nothing to convert, one folder is in the other, or `jobs` is below 1.
    """
    if jobs < 1:
        raise MvsdError(f"jobs is {jobs}; at least 1 process is wanted")
    started = perf_counter()
    source, output = Path(source), Path(output)
    tasks, notes = find_tasks(source, output, None if scene is None else Path(scene))
    output.mkdir(parents=True, exist_ok=True)
    results = _Results(output / RESULTS)
    rows: dict[str, Row] = {}
    todo: list[Task] = []
    for task in tasks:
        row = _row(task, settings)
        if task.problem:
            rows[task.name] = results.refuse(replace(row, status="failed", message=task.problem))
        elif results.has(row, task.output):
            rows[task.name] = replace(results.rows[task.name], status="kept")
        elif task.output.exists() and not force and not results.is_ours(row):
            reason = f"{task.output}: exists already, and is not from {results.other(row)}; use --force to replace it"
            rows[task.name] = results.refuse(replace(row, status="failed", message=reason))
        else:
            todo.append(task)
    outcomes = run_in_processes(_Attempt(convert), todo, jobs, lambda task: results.add(_row(task, settings)))
    try:
        for task, outcome in outcomes:
            # The stamps are those from before: a recording that was changed meanwhile is converted again.
            rows[task.name] = results.add(_finished(results.rows[task.name], task.output, outcome))
            if progress is not None:
                progress(len(rows), len(tasks))
    finally:
        outcomes.close()
        results.close()
    return FolderReport(tuple(rows[task.name] for task in tasks), tuple(notes), perf_counter() - started)


def find_tasks(source: Path, output: Path, scene: Path | None = None) -> tuple[list[Task], list[str]]:
    """The recordings below `source` in order of their names, and notes on what is passed over."""
    if not source.is_dir():
        raise MvsdError(f"{source}: no such folder; give a folder of recordings")
    if output.exists() and not output.is_dir():
        raise MvsdError(f"{output}: a file; the recordings of a folder need a folder to go to")
    real = Path(os.path.realpath(source)), Path(os.path.realpath(output))
    if real[0] in (real[1], *real[1].parents) or real[1] in real[0].parents:
        raise MvsdError(
            f"{output}: one of the two folders is in the other; choose an output outside of {source}"
        )
    if scene is not None and not scene.exists():
        raise MvsdError(f"{scene}: no such photo or folder of photos")
    names, notes = _walk(source)
    if not names:
        wanted = " ".join(sorted(RECORDINGS))
        raise MvsdError(f"{source}: a folder without recordings in it or below; {wanted} are taken")
    tasks = []
    for name in names:
        task = Task(name.as_posix(), source / name, output / name)
        try:
            tasks.append(replace(task, scene=scene_for(name, scene)))
        except MvsdError as error:
            tasks.append(replace(task, problem=str(error)))
    return tasks, notes


def scene_for(name: Path, scene: Path | None) -> Path | None:
    """The photo for a recording: `scene` itself, or from that folder the one with the recording's stem.

    Raises MvsdError where there is none, or there are several.
    """
    if scene is None or not scene.is_dir():
        return scene
    for stem in (name.with_suffix(""), Path(name.stem)):
        folder = scene / stem.parent
        found = sorted(
            path
            for path in (folder.iterdir() if folder.is_dir() else ())
            if path.stem == stem.name and path.suffix.lower() in PHOTO_SUFFIXES
        )
        if len(found) > 1:
            raise MvsdError(
                f"{name}: {len(found)} photos have its name, {found[0].name} and {found[1].name}; keep one"
            )
        if found:
            return found[0]
    raise MvsdError(f"{name}: no photo of its name in {scene}; {name.stem}.jpg is wanted")


def _walk(folder: Path) -> tuple[list[Path], list[str]]:
    """Recordings relative to the folder, and notes."""
    notes: list[str] = []
    names: list[Path] = []
    num_others = 0
    for path in files_below(folder, notes.append):
        if path.suffix.lower() in RECORDINGS:
            names.append(path.relative_to(folder))
        else:
            num_others += 1
    if num_others:
        notes.append(f"{folder}: {num_others} other files are passed over")
    return sorted(names), notes


def _row(task: Task, settings: str) -> Row:
    inputs = [path for path in (task.source, task.scene) if path is not None]
    return Row(
        task.name,
        "started",
        scene="" if task.scene is None else str(task.scene),
        settings=settings,
        inputs=" ".join(stamp(path) for path in inputs),
    )


def stamp(path: Path) -> str:
    """What changes when a file does: its size and time of modification."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size}@{status.st_mtime_ns}"


def _finished(row: Row, output: Path, outcome: Outcome) -> Row:
    status = "converted" if outcome.succeeded else "failed"
    size = str(output.stat().st_size) if outcome.succeeded else ""
    return replace(row, status=status, seconds=f"{outcome.seconds:.2f}", message=outcome.message, size=size)


@dataclass(frozen=True)
class _Attempt:
    """What a worker does with a task."""

    convert: ConvertOne

    def __call__(self, task: Task) -> str:
        task.output.parent.mkdir(parents=True, exist_ok=True)
        return self.convert(task.source, task.output, task.scene)


class _Results:
    """The table, of which the last row of a file counts: rows are appended at once, and tidied up on closing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = {row.file: row for row in _read(path)}
        self._own: dict[str, Row] = {}
        self._write(self.rows.values())
        self._file = _open(path, "a")

    def add(self, row: Row) -> Row:
        self.rows[row.file] = self._own[row.file] = row
        csv.writer(self._file).writerow(_cells(row))
        self._file.flush()
        return row

    def refuse(self, row: Row) -> Row:
        """Add the failure of a file that was not worked at; what is known of an output that is there stays."""
        old = self.rows.get(row.file)
        return self.add(row) if old is None or old.status == "failed" else row

    def has(self, row: Row, output: Path) -> bool:
        """Whether the output is there, whole and from these inputs and settings."""
        old = self.rows.get(row.file)
        if (
            old is None
            or old.status != "converted"
            or (old.settings, old.inputs) != (row.settings, row.inputs)
        ):
            return False
        return output.is_file() and str(output.stat().st_size) == old.size

    def other(self, row: Row) -> str:
        """What differs from that of which an output is."""
        old = self.rows.get(row.file)
        is_same = old is not None and old.status == "converted" and old.settings == row.settings
        return "this recording and photo as they are now" if is_same else "these settings"

    def is_ours(self, row: Row) -> bool:
        """Whether these settings began to write the output and were interrupted."""
        old = self.rows.get(row.file)
        return old is not None and old.status == "started" and old.settings == row.settings

    def close(self) -> None:
        self._file.close()
        # Another run may have written meanwhile.
        rows = {row.file: row for row in _read(self.path)} | self._own
        self._write(rows[name] for name in sorted(rows))

    def _write(self, rows: Iterable[Row]) -> None:
        with whole_file(self.path) as temporary, _open(temporary, "w") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in fields(Row)])
            writer.writerows(_cells(row) for row in rows)


def _open(path: Path, mode: str) -> IO[str]:
    """A file name may have bytes that are no text."""
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")


def _cells(row: Row) -> list[str]:
    return [getattr(row, field.name) for field in fields(Row)]


def _read(path: Path) -> Iterator[Row]:
    """The rows of a table; one that was cut off by a crash is left out."""
    with contextlib.suppress(FileNotFoundError, csv.Error), _open(path, "r") as file:
        for cells in csv.reader(file):
            if len(cells) == len(fields(Row)) and cells[0] != "file":
                yield Row(*cells)
