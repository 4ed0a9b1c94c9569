"""The equal error rate of every row: is the voice still that of its speaker, over all clips together?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mvsd.errors import NotMeasurable
from mvsd.evaluation.metrics import Metric, Trial, equal_error_rate, make_trials, speaker_error_rate
from mvsd.evaluation.table import Cell, Record

METRIC = Metric(equal_error_rate, "%", False, inputs=())


@dataclass(frozen=True)
class Voices:
    """The trials, and for each row (system, condition) the cell of the table; `failures` say why it has no mean."""

    trials: Sequence[Trial]
    cells: Mapping[tuple[str, str], Cell]
    failures: Mapping[tuple[str, str], str]


def compare_voices(records: Sequence[Record], enrolled_system: str, seed: int = 0) -> Voices:
    """Every row's estimates against the dry targets, which are the estimates of `enrolled_system`.

    The trials are drawn by the seed from the clips whose speaker and target are known. A row in which they cannot be
    scored has no mean, and a reason.
    """
    speakers = {record.clip: record.speaker for record in records if record.speaker}
    rows = dict[tuple[str, str], dict[str, np.ndarray]]()
    clips = dict[tuple[str, str], int]()
    for record in records:
        row = record.system, record.condition
        clips[row] = clips.get(row, 0) + 1
        found = rows.setdefault(row, {})
        if record.embedding:
            found[record.clip] = np.array(record.embedding, np.float32)
    enrolled = next((found for row, found in rows.items() if row[0] == enrolled_system), {})
    utterances = {record.clip: record.utterance for record in records if record.utterance}
    spoken = {clip: speakers[clip] for clip in enrolled if clip in speakers}
    no_trials, trials = "", list[Trial]()
    try:
        trials = make_trials(spoken, seed=seed, utterances=utterances)
    except NotMeasurable as error:
        no_trials = str(error)
    cells, failures = dict[tuple[str, str], Cell](), dict[tuple[str, str], str]()
    for row, tested in rows.items():
        num_failures = clips[row] - len(tested)
        try:
            rate = speaker_error_rate(trials, enrolled, tested)
            cells[row] = Cell(rate.percent, rate.interval, len(tested), num_failures)
        except NotMeasurable as error:
            cells[row] = Cell(None, None, 0, clips[row])
            failures[row] = no_trials or str(error)
    return Voices(trials, cells, failures)
