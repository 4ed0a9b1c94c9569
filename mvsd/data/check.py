"""What is in a data set, what is missing, and whether it can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mvsd.acoustics import convolve
from mvsd.data import avspeech, folders, soundspaces
from mvsd.data.avspeech import AcousticAVSpeech
from mvsd.data.datasets import Kind, recognise, require_no_split, require_unique_keys, without_subfolder
from mvsd.data.download import BENCHMARKS
from mvsd.data.example import Example
from mvsd.data.folders import Folder
from mvsd.data.protocols import level_of
from mvsd.data.remote import is_url
from mvsd.data.shards import Shards
from mvsd.data.soundspaces import SoundSpacesSpeech
from mvsd.errors import DataError, MvsdError

# Utterances that others report after the filter (M2SE-VTTS; of val-mini: LeMARA).
IN_VIEW = {"train": 28_853, "val": 1_441, "val-mini": 280, "test-unseen": 1_489}
PANORAMA = (384, 1152)  # height, width

_PARTS = ("scene", "anechoic", "reverberant", "rir")
_MAX_PROBLEMS = 20


@dataclass
class DatasetReport:
    """What `check_dataset` found.

    Attributes:
        kind: as `recognise` says.
        facts: (what, how much), in words.
        missing: what is not there; the rest can be used without it.
        problems: what makes the data set, or an example of it, unusable.
        licence: notice; empty for data of one's own.
    """

    kind: Kind
    facts: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    licence: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether nothing was found that would stop an evaluation."""
        return not self.problems


def check_dataset(
    path: str | Path,
    *,
    split: str = "",
    every: bool = False,
    progress: Callable[[float, float | None], None] | None = None,
) -> DatasetReport:
    """Count what is in a data set and open three examples of each split, or every one.

    Args:
        path: as for `open_dataset`.
        split: only this one; by default all that are there.
        every: open every example.
        progress: called with (examples opened, examples to open).

    Raises:
        DataError: nothing that is known is there, or it has no splits.
    """
    path, split = without_subfolder(path, split)
    report = DatasetReport(recognise(path))
    if report.kind in ("shards", "folder"):
        require_no_split(path, split)
    check = {
        "soundspaces": _check_soundspaces,
        "avspeech": _check_avspeech,
        "shards": _check_shards,
        "folder": _check_folder,
    }[report.kind]
    for name, examples in check(path, split, report):
        numbers = range(len(examples)) if every else sorted({0, len(examples) // 2, len(examples) - 1})
        opened = _open(examples, numbers, report, progress)
        if opened:
            report.facts.append((f"{name}, opened" if name else "opened", _describe(opened, report.kind)))
        in_view = sum(bool(facts.in_view) for facts in opened)
        if every and report.kind == "soundspaces" and name in IN_VIEW and in_view != IN_VIEW[name]:
            report.missing.append(
                f"{name}: {in_view} utterances in view, {IN_VIEW[name]} are reported by others"
            )
    return report


_Splits = Iterable[tuple[str, Sequence[Example]]]


def _check_soundspaces(path: str | Path, split: str, report: DatasetReport) -> _Splits:
    folder = Path(path).resolve()
    report.licence = BENCHMARKS["soundspaces-speech"].licence
    there = soundspaces.splits_in(folder)
    report.missing += [
        f"split {name}" for name in ("train", "val-mini", "test-seen", "test-unseen") if name not in there
    ]
    for name in [split] if split else there:
        examples = SoundSpacesSpeech(folder, name)
        scenes = {file.parent.name for file in examples.paths}
        size = sum(file.stat().st_size for file in examples.paths)
        report.facts.append((name, f"{len(examples):,} utterances in {len(scenes)} homes, {_bytes(size)}"))
        silent = [scene for scene in sorted(scenes) if soundspaces.metadata_path(folder, name, scene) is None]
        if silent:
            report.missing.append(
                f"{name}: transcripts of {len(silent)} of {len(scenes)} homes (metadata.zip)"
            )
        yield name, examples


def _check_avspeech(path: str | Path, split: str, report: DatasetReport) -> _Splits:
    folder = Path(path)
    report.licence = BENCHMARKS["acoustic-avspeech"].licence
    frames = avspeech.frames(folder)
    sounds = {file.stem for file in (folder / "audio").glob("*.wav")}
    size = sum(file.stat().st_size for part in ("img", "audio") for file in (folder / part).iterdir())
    report.facts.append(("clips", f"{len(frames):,} frames, {len(sounds):,} recordings, {_bytes(size)}"))
    if mute := [frame.stem for frame in frames if frame.stem not in sounds]:
        report.problems.append(
            f"{len(mute)} frames have no recording, {mute[0]} first; get the archive again"
        )
    if not (folder / "random_rir.pkl").is_file():
        report.missing.append("random_rir.pkl, without which no source can be built")
    for name in [split] if split else avspeech.SPLITS:
        files = avspeech.split_files(frames, name)
        report.facts.append((name, f"{len(files):,} clips"))
        if not files:
            report.missing.append(f"clips enough for {name}")
            continue
        if (folder / "random_rir.pkl").is_file():
            try:
                num_rirs = len(avspeech.load_rirs(folder, name))
                report.facts.append((f"{name}, responses", f"{num_rirs:,}"))
            except DataError as error:
                report.problems.append(str(error))
        yield name, AcousticAVSpeech(folder, name)


def _check_shards(path: str | Path, split: str, report: DatasetReport) -> _Splits:
    shards = Shards(path)
    copies = [Path(file) for file in shards.paths if not is_url(file)]
    size = sum(file.stat().st_size for file in copies)
    report.facts.append(("shards", f"{len(shards.paths):,}, {_bytes(size)} on this machine"))
    report.facts.append(("examples", f"{len(shards):,}"))
    try:
        require_unique_keys(shards, path)
    except DataError as error:
        report.problems.append(str(error))
    yield "", shards


def _check_folder(path: str | Path, split: str, report: DatasetReport) -> _Splits:
    examples = Folder(Path(path))
    counts = Counter(role for files in examples.files.values() for role in files)
    report.facts.append(("names", f"{len(examples):,}"))
    report.facts += [(role, f"{counts[role]:,}") for role in folders.SUFFIXES if counts[role]]
    report.missing += [
        f"{role} of {len(examples) - counts[role]} names"
        for role in ("anechoic", "reverberant", "rir", "image")
        if counts[role] < len(examples)
    ]
    yield "", examples


@dataclass(frozen=True)
class _Opened:
    """What is remembered of an example that could be opened."""

    parts: tuple[str, ...]
    seconds: float
    shape: tuple[int, ...] | None
    in_view: bool | None
    residual_db: float | None


def _open(
    examples: Sequence[Example],
    numbers: Sequence[int],
    report: DatasetReport,
    progress: Callable[[float, float | None], None] | None,
) -> list[_Opened]:
    opened = []
    for done, number in enumerate(numbers, 1):
        try:
            opened.append(_look_at(examples[number]))
        except (MvsdError, OSError) as error:
            report.problems.append(str(error))
            if len(report.problems) >= _MAX_PROBLEMS:
                report.problems.append("and perhaps more: the check was stopped")
                break
        if progress is not None:
            progress(done, len(numbers))
    return opened


def _look_at(example: Example) -> _Opened:
    parts = tuple(part for part in _PARTS if getattr(example, part) is not None)
    voice = example.reverberant if example.reverberant is not None else example.anechoic
    residual_db = None
    if example.anechoic is not None and example.reverberant is not None and example.rir is not None:
        wet = level_of(example) * convolve(example.anechoic, example.rir)[: len(example.reverberant)]
        target = example.reverberant[: len(wet)].astype(np.float64)
        power = float(np.mean(np.square(target)))
        if power > 0:
            residual_db = 10 * np.log10(float(np.mean(np.square(target - wet))) / power + 1e-20)
    return _Opened(
        parts,
        0.0 if voice is None else len(voice) / example.sample_rate,
        None if example.scene is None else example.scene.image.shape[:2],
        example.metadata.get("in_view"),
        residual_db,
    )


def _describe(opened: Sequence[_Opened], kind: Kind) -> str:
    """What the opened examples hold, in words."""
    counts = Counter(part for facts in opened for part in facts.parts)
    words = [f"{len(opened):,} ({sum(facts.seconds for facts in opened) / 60:.1f} min of sound)"]
    words += [f"{counts[part]:,} with {part}" for part in _PARTS if counts[part]]
    if any(facts.in_view is not None for facts in opened):
        words.append(f"{sum(bool(facts.in_view) for facts in opened):,} with the speaker in view")
    shapes = {facts.shape for facts in opened if facts.shape is not None}
    if kind == "soundspaces" and shapes - {PANORAMA}:
        words.append(f"panoramas of {min(shapes - {PANORAMA})} instead of {PANORAMA} pixels")
    residuals = [facts.residual_db for facts in opened if facts.residual_db is not None]
    if residuals:
        words.append(f"reverberant = anechoic * rir within {max(residuals):.0f} dB")
    return ", ".join(words)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
