"""The listening test: which two sounds are compared, and what the listeners' votes say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from mvsd.errors import DataError
from mvsd.evaluation.metrics import Task
from mvsd.evaluation.parallel import write_whole
from mvsd.evaluation.systems import RIGHT, System, own_systems
from mvsd.evaluation.table import Grid

KEY_FILE, _OLD_KEY_FILE = "listening-test.json", "listening-test-{}.json"
_KEY_FORMAT, _VOTES_FORMAT = "mvsd-listening-test-1", "mvsd-votes-1"
_MAX_BYTES = 2**24

Row = tuple[str, str]  # system, condition


@dataclass(frozen=True)
class Trial:
    """One question: two sounds of a clip; `rows` says which systems made them, in the order of `sounds`."""

    id: str
    clip: str
    sounds: tuple[str, str]
    rows: tuple[Row, Row]


@dataclass(frozen=True)
class ListeningTest:
    """The questions of a page, with the answers to who is who, which the page itself does not hold.

    One of the two rows of each trial is `ours`. `content` is a digest of all sounds, empty in the keys of old pages.
    """

    task: Task
    seed: int
    ours: Row
    trials: tuple[Trial, ...]
    content: str = ""

    @property
    def id(self) -> str:
        """A name that another test does not have, be it only of other sounds."""
        facts = {name: value for name, value in asdict(self).items() if value != ""}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def write(self, folder: str | Path) -> Path:
        """Write `KEY_FILE`; the key of another test that is there gets its id into its name. Raises DataError."""
        path = Path(folder) / KEY_FILE
        if path.is_file():
            with suppress(DataError):  # what is no key needs no keeping
                old = _read_json(path, _KEY_FORMAT).get("id")
                if old != self.id:
                    path.replace(_old_key(path, old))
        write_whole(path, json.dumps({"format": _KEY_FORMAT, "id": self.id, **asdict(self)}, indent=1) + "\n")
        return path

    @classmethod
    def read(cls, folder: str | Path, votes: str | Path | None = None) -> ListeningTest:
        """What `write` wrote: the last key, or that of the test to which a votes file belongs.

        Raises DataError where it is missing or something else.
        """
        path = Path(folder) / KEY_FILE
        if not path.is_file():
            raise DataError(
                f"{path} is not there; votes belong to the --out folder of the page they were made on"
            )
        if votes is not None:
            old = _old_key(path, _read_json(Path(votes), _VOTES_FORMAT).get("test"))
            path = old if old.is_file() else path
        try:
            record = _read_json(path, _KEY_FORMAT)
            trials = tuple(
                Trial(t["id"], t["clip"], tuple(t["sounds"]), (tuple(t["rows"][0]), tuple(t["rows"][1])))
                for t in record["trials"]
            )
            ours, content = tuple(record["ours"]), record.get("content", "")
            return cls(record["task"], record["seed"], ours, trials, content)
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(f"{path} is damaged ({error!r}); make the page again") from error


def our_row(systems: Sequence[System], heard: Collection[Row] = ()) -> Row:
    """The row that the others are compared with: the first system that is no reference, as it sees the right photo.

    Of those that see none it is the first, and of its rows the first that is among those `heard`.
    """
    own = own_systems(systems) or list(systems)
    own.sort(key=lambda system: RIGHT not in system.conditions)
    rows = [(system.name, condition) for system in own for condition in system.conditions]
    return next((row for row in rows if row in heard), rows[0])


def make_test(task: Task, seed: int, clips: Mapping[str, Sequence[Row]], ours: Row) -> ListeningTest:
    """The row `ours` against every other row, for every clip that has both, in an order drawn by the seed.

    `clips` maps the key of a clip to the rows of which there is a sound. A sound is named after its trial: a name that
    came back in each trial of a clip would tell that it is ours.
    """
    generator = np.random.default_rng(seed)
    pairs = [(clip, row) for clip, rows in clips.items() if ours in rows for row in rows if row != ours]
    trials = []
    for number, place in enumerate(generator.permutation(len(pairs))):
        clip, other = pairs[place]
        rows = (ours, other) if generator.random() < 0.5 else (other, ours)
        name = f"t{number:03d}"
        trials.append(Trial(name, clip, (f"{name}-1", f"{name}-2"), rows))
    return ListeningTest(task, seed, ours, tuple(trials))


@dataclass(frozen=True)
class Preference:
    """How often one row was chosen over another.

    `share` of the votes, 0..1, with its 95 % Wilson interval; `p_value` of the exact two-sided binomial test against a
    share of one half, and `p_adjusted`, the same after Holm's correction for all comparisons with votes. Votes are
    taken as independent, which those of one listener are only nearly.
    """

    first: Row
    second: Row
    num_votes: int
    num_first: int
    num_listeners: int
    share: float
    interval: tuple[float, float]
    p_value: float
    p_adjusted: float


def count_votes(test: ListeningTest, paths: Sequence[str | Path]) -> list[Preference]:
    """The preferences that the votes files of a test show, one for each pair of rows that was voted on.

    Raises:
        DataError: a file is no votes file, belongs to another test, or holds a vote twice.
    """
    trials = {trial.id: trial for trial in test.trials}
    chosen = dict[tuple[str, str], str]()  # listener, trial -> sound
    for path in map(Path, paths):
        record = _read_json(path, _VOTES_FORMAT)
        if record.get("test") != test.id:
            raise DataError(
                f"{path} belongs to another listening test; give the --out folder of its own page"
            )
        listener, answers = record.get("listener"), record.get("answers")
        if not isinstance(listener, str) or not isinstance(answers, list):
            raise DataError(f"{path} names no listener or holds no list of answers")
        for answer in answers:
            trial_id, sound = _answer(answer, trials, path)
            if (listener, trial_id) in chosen:
                raise DataError(f"{path}: {listener!r} has answered {trial_id} already; give every file once")
            chosen[listener, trial_id] = sound
    votes = dict[Row, list[tuple[str, bool]]]()  # the other row -> listener, whether ours was chosen
    for (listener, trial_id), sound in chosen.items():
        trial = trials[trial_id]
        other = trial.rows[trial.rows[0] == test.ours]
        is_ours = trial.rows[trial.sounds.index(sound)] == test.ours
        votes.setdefault(other, []).append((listener, is_ours))
    return _holm([_preference((test.ours, row), votes[row]) for row in sorted(votes)])


def preferences_grid(preferences: Sequence[Preference]) -> Grid:
    """A line per pair of rows."""
    lines = []
    for p in preferences:
        low, high = (100 * bound for bound in p.interval)
        share = f"{100 * p.share:.1f} [{low:.1f}, {high:.1f}]"
        counts = [str(p.num_votes), str(p.num_listeners)]
        lines.append(
            [_name(p.first), _name(p.second), share, *counts, f"{p.p_value:.2g}", f"{p.p_adjusted:.2g}"]
        )
    headings = ["preferred", "over", "in % of the votes", "votes", "listeners", "p (binomial)", "p (Holm)"]
    return Grid(headings, lines)


def _preference(pair: tuple[Row, Row], votes: Sequence[tuple[str, bool]]) -> Preference:
    num_votes, num_first = len(votes), sum(is_first for _, is_first in votes)
    test = stats.binomtest(num_first, num_votes)
    interval = test.proportion_ci(0.95, method="wilson")
    return Preference(
        *pair,
        num_votes,
        num_first,
        num_listeners=len({listener for listener, _ in votes}),
        share=num_first / num_votes,
        interval=(float(interval.low), float(interval.high)),
        p_value=float(test.pvalue),
        p_adjusted=1.0,
    )


def _holm(found: Sequence[Preference]) -> list[Preference]:
    """With `p_adjusted`; Holm, "A simple sequentially rejective multiple test procedure", 1979."""
    adjusted, highest = list(found), 0.0
    for rank, place in enumerate(sorted(range(len(found)), key=lambda place: found[place].p_value)):
        highest = max(highest, min(1.0, (len(found) - rank) * found[place].p_value))
        adjusted[place] = replace(found[place], p_adjusted=highest)
    return adjusted


def _name(row: Row) -> str:
    return ", ".join(filter(None, row))


def _old_key(path: Path, test: Any) -> Path:
    """Where the key of another test is kept; raises DataError for what is no test's id."""
    if not (isinstance(test, str) and test.isalnum()):
        raise DataError(f"{str(test)[:80]!r} names no listening test")
    return path.with_name(_OLD_KEY_FILE.format(test))


def _answer(answer: Any, trials: Mapping[str, Trial], path: Path) -> tuple[str, str]:
    """Trial and chosen sound of one answer."""
    if isinstance(answer, dict):
        trial = trials.get(str(answer.get("trial")))
        if trial is not None and answer.get("chosen") in trial.sounds:
            return trial.id, str(answer["chosen"])
    raise DataError(f"{path} has an answer that is none of the test's: {str(answer)[:80]}")


def _read_json(path: Path, wanted: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size} bytes; {_MAX_BYTES} are read")
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}") from error
    if not isinstance(record, dict) or record.get("format") != wanted:
        raise DataError(f"{path} is no file of the format {wanted}")
    return record
