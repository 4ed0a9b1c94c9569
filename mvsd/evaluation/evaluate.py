"""Systems on a data set: every clip, every row, every metric, in several processes, and again where it stopped.

The record of a clip is written whole into ``FOLDER/records/SYSTEM-FINGERPRINT/``, and taken from there when the same
is asked for again. The fingerprint covers all that a figure depends on: data, speech, system, metrics, seed, weights,
the versions of the libraries and this package's own code. So a run that was killed goes on, another setting computes
anew, and a further system leaves the others' records as they are.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mvsd.errors import DataError, MissingExtraError, ModelFileError, MvsdError, NotMeasurable
from mvsd.evaluation.clips import Clip, Waveform
from mvsd.evaluation.converters import PassingError, UnusableError
from mvsd.evaluation.identity import file_digest, tree_identity
from mvsd.evaluation.metrics import Metric, Scores, measure, speaker_embedding, versions
from mvsd.evaluation.parallel import computed, write_whole
from mvsd.evaluation.settings import Settings, forget, known_inputs, load_clip, open_examples
from mvsd.evaluation.systems import System
from mvsd.evaluation.table import Record
from mvsd.shipped import shipped_weights

_FATAL = (MissingExtraError, ModelFileError, UnusableError)  # of the whole run, not of one clip
UNREAD = "clip #"  # and its number stand for the key of a clip that could not be loaded; no key has a #
_NO_FIGURE = (
    "cli/",
    "web/",
    "training/",
    "simulation/",
    "figures",
    "report",
)  # code that no figure depends on


def evaluate(
    settings: Settings,
    folder: str | Path,
    *,
    jobs: int = 0,
    progress: Callable[[float, float | None], None] | None = None,
) -> list[Record]:
    """The records of all systems on all clips, clip by clip; those that are in the folder already are reused.

    Args:
        settings: what to do.
        folder: for the records.
        jobs: processes, each with one thread; 0 computes in this one. The figures do not depend on it, up to the
            rounding of libraries that would use more threads here.
        progress: called with (clips done, clips in all).

    Raises:
        MvsdError: the data cannot be opened, a system cannot be loaded, an extra is missing, or `require_apart` says
            so. What goes wrong with a single clip is a failure in its record, with the reason.
    """
    require_apart(settings, folder)
    forget()
    num_clips = len(open_examples(settings))
    folders = _record_folders(settings, Path(folder))
    done = {i: _read_records(folders, i) for i in range(num_clips)}
    missing = [i for i, records in done.items() if records is None]
    report = progress or (lambda done, total: None)
    report(num_clips - len(missing), num_clips)
    running = computed(_evaluate_clip, missing, (settings, folders), jobs)
    for num_computed, (index, records) in enumerate(running, 1):
        done[index] = records
        report(num_clips - len(missing) + num_computed, num_clips)
    return [record for records in done.values() for record in records or ()]


def require_apart(settings: Settings, folder: str | Path, *, is_page: bool = False) -> None:
    """Raise DataError where what is written into a folder would be taken for another state of what is evaluated.

    Results may lie below the data and the speech, whose identity leaves them out; a page may not.
    """
    given = [settings.data, str(Path(settings.data, settings.split)), settings.speech]
    roots = [Path(path).resolve() for path in given if path]
    systems = [path for system in settings.systems if (path := system.basis()) is not None]
    whole = [path.resolve() for path in (*systems, *map(Path, settings.option_files))]
    whole += roots if is_page else []
    place = Path(folder).resolve()
    if place in roots or any(place.is_relative_to(path) for path in whole):
        raise DataError(f"{folder} is part of what is evaluated; results need a folder of their own")


class _MayPass(str):
    """A reason that may be gone the next time, as a lack of memory: nothing is kept of the clip."""


def estimates(settings: Settings, clip: Clip) -> Iterator[tuple[System, str, Waveform | str]]:
    """What every system makes of a clip in every condition: a waveform, or the reason why there is none."""
    for system in settings.systems:
        for condition in system.conditions:
            yield system, condition, _estimate(system, clip, condition)


# ----------------------------------------------------------------------------------------- one clip


def _evaluate_clip(index: int, settings: Settings, folders: Sequence[Path]) -> list[Record]:
    """All systems on one clip; a system whose records are there already is left alone."""
    try:
        clip: Clip | None = load_clip(settings, index)
        reason = ""
    except _FATAL:
        raise
    except MvsdError as error:
        clip, reason = None, str(error)
    facts = {} if clip is None else clip.metadata
    known = {name: str(facts.get(name, "")) for name in ("speaker", "utterance")}
    records = []
    for system, folder in zip(settings.systems, folders, strict=True):
        found = _read_record(folder, index)
        if found is None:
            key = f"{UNREAD}{index}" if clip is None else clip.key
            found, may_pass = [], clip is None
            for condition in system.conditions:
                estimate = reason if clip is None else _estimate(system, clip, condition)
                may_pass |= isinstance(estimate, _MayPass)
                scores = _scores(settings.chosen_metrics, clip, estimate)
                embedding = _voice(settings, clip, estimate)
                found.append(
                    Record(key, settings.task, condition, scores, system.name, embedding=embedding, **known)
                )
            if not may_pass:
                _write_record(folder, index, found)
        records += found
    return records


def _estimate(system: System, clip: Clip, condition: str) -> Waveform | str:
    try:
        estimate = system.estimate(clip, condition)
    except _FATAL:
        raise
    except PassingError as error:
        return _MayPass(error)
    except MvsdError as error:
        return str(error)
    if estimate.shape != clip.source.shape:
        return f"{system.name} made {estimate.shape} of {clip.source.shape} samples"
    return estimate if np.isfinite(estimate).all() else f"{system.name} made samples that are not finite"


def _scores(metrics: Mapping[str, Metric], clip: Clip | None, estimate: Waveform | str) -> Scores:
    """What can be measured is; the rest is a failure with its reason."""
    if clip is None or isinstance(estimate, str):
        return Scores({}, dict.fromkeys(metrics, str(estimate)))
    measured = measure(metrics, estimate=estimate, sample_rate=clip.sample_rate, **known_inputs(clip))
    values, failures = dict[str, float](), dict(measured.failures)
    for name, value in measured.values.items():
        if math.isfinite(value):
            values[name] = value
        else:
            failures[name] = f"it came out as {value}"
    return Scores(values, failures, measured.weights)


def _voice(settings: Settings, clip: Clip | None, estimate: Waveform | str) -> tuple[float, ...]:
    """The estimated voice, where voices are to be compared."""
    if clip is None or isinstance(estimate, str) or settings.voice_options is None:
        return ()
    try:
        return tuple(map(float, speaker_embedding(estimate, clip.sample_rate, **settings.voice_options)))
    except NotMeasurable:
        return ()


# ---------------------------------------------------------------------------------- records and jobs


def _record_folders(settings: Settings, folder: Path) -> list[Path]:
    """One for each system, named after it and its fingerprint."""
    common = _common_identity(settings, folder)
    folders = []
    for system in settings.systems:
        facts = json.dumps([common, system.name, system.identity(), system.conditions], sort_keys=True)
        fingerprint = hashlib.sha256(facts.encode()).hexdigest()[:16]
        slug = re.sub(r"\W+", "-", system.name).strip("-").lower()[:40]
        folders.append(folder / "records" / f"{slug}-{fingerprint}")
    return folders


def _common_identity(settings: Settings, folder: Path) -> dict[str, Any]:
    """What the figures of every system depend on; `folder`, of the results, may lie among the data or the speech."""
    facts = asdict(replace(settings, systems=()))
    for name in ("data", "cache", "speech"):
        del facts[name]
    is_remote = settings.data.startswith(("http://", "https://"))
    facts["data"] = settings.data if is_remote else tree_identity(Path(settings.data), without=folder)
    facts["speech"] = tree_identity(Path(settings.speech), without=folder) if settings.speech else ""
    facts["metrics"] = [*settings.chosen_metrics, settings.voice_options]
    facts["files"] = {path: tree_identity(Path(path)) for path in settings.option_files}
    facts["weights"] = {name: file_digest(shipped_weights(name)) for name in settings.weights_beside}
    facts["versions"] = versions()
    facts["code"] = _code_identity()
    return facts


@lru_cache(maxsize=1)  # the code that runs does not change
def _code_identity() -> str:
    package = Path(__file__).parents[1]
    code = {path.relative_to(package).as_posix(): path for path in sorted(package.rglob("*.py"))}
    kept = [(name, path.read_bytes()) for name, path in code.items() if not name.startswith(_NO_FIGURE)]
    return hashlib.sha256(repr(kept).encode()).hexdigest()


def _read_records(folders: Sequence[Path], index: int) -> list[Record] | None:
    records = list[Record]()
    for folder in folders:
        found = _read_record(folder, index)
        if found is None:
            return None
        records += found
    return records


def _read_record(folder: Path, index: int) -> list[Record] | None:
    try:
        return [
            Record.from_dict(record) for record in json.loads((folder / f"{index:06d}.json").read_bytes())
        ]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None  # not there, or damaged: computed again


def _write_record(folder: Path, index: int, records: Sequence[Record]) -> None:
    write_whole(
        folder / f"{index:06d}.json", json.dumps([record.to_dict() for record in records], allow_nan=False)
    )
