"""The metrics by name and task, with what a table must know of them, and how a clip is measured."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from mvsd.acoustics import OCTAVE_BANDS_HZ
from mvsd.errors import ConfigError, NotMeasurable
from mvsd.evaluation.metrics import rooms, spectra, speech
from mvsd.evaluation.metrics.clips import Samples, Waveform
from mvsd.evaluation.metrics.rt60 import rte
from mvsd.evaluation.metrics.speakers import speaker_similarity
from mvsd.evaluation.metrics.srmr import srmr
from mvsd.evaluation.metrics.words import num_words, wer

Task = Literal["reverberation", "dereverberation"]

_LIBRARIES = (
    *("mvsd", "numpy", "scipy", "torch", "pesq", "pystoi", "speechmos", "onnxruntime"),
    *("pocketsphinx", "transformers", "resemblyzer", "speechbrain", "nara-wpe"),
)
_PAIR, _ALL_CLIPS = ("estimate", "target"), ("source", "estimate", "target")


@dataclass(frozen=True)
class Metric:
    """A metric with what a table must know of it.

    `inputs` are what the function takes besides `sample_rate`: clips (source, estimate, target, each (T,)) and the
    `transcript`; `optional` what it makes use of if it is known (the true `rir`). A mean over clips is weighted by
    `weight` of the same inputs, if there is one.
    """

    function: Callable[..., float]
    unit: str
    higher_is_better: bool
    inputs: tuple[str, ...] = _PAIR
    optional: tuple[str, ...] = ()
    weight: Callable[..., float] | None = None

    @property
    def definition(self) -> str:
        """What is measured, its range and its source: the docstring, one paragraph a line."""
        options = self.function.keywords if isinstance(self.function, partial) else {}
        text = inspect.getdoc(self.function.func if options else self.function) or ""  # type: ignore[attr-defined]
        lines = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
        chosen = ", ".join(f"{name} = {value}" for name, value in options.items())
        return "\n".join([*lines, f"Here: {chosen}."] if chosen else lines)

    def using(self, **options: Any) -> Metric:
        """The same metric with options of its function set, as `METRICS[task]["wer"].using(recognizer=...)`."""
        return replace(self, function=partial(self.function, **options))


_room = partial(Metric, higher_is_better=False, inputs=_ALL_CLIPS, optional=("rir",))
_ROOM_ERRORS: Mapping[str, Metric] = {
    "t20_error": _room(rooms.t20_error, "s"),
    "t20_error_percent": _room(rooms.t20_error_percent, "%"),
    "t30_error": _room(rooms.t30_error, "s"),
    "edt_error": _room(rooms.edt_error, "s"),
    "c50_error_db": _room(rooms.c50_error_db, "dB"),
    "d50_error": _room(rooms.d50_error, ""),
    "drr_error_db": _room(rooms.drr_error_db, "dB"),
}

# The columns of a table, unless others are asked for.
METRICS: Mapping[Task, Mapping[str, Metric]] = {
    "reverberation": {
        "stft_distance": Metric(spectra.stft_distance, "", False),
        "log_stft_distance": Metric(spectra.log_stft_distance, "", False),
        "rte": Metric(rte, "s", False),
        "mose": Metric(speech.mose, "MOS", False),
        **_ROOM_ERRORS,
    },
    "dereverberation": {
        "pesq_wb": Metric(speech.pesq_wb, "MOS", True),
        "stoi": Metric(speech.stoi, "", True),
        "estoi": Metric(speech.estoi, "", True),
        "dnsmos": Metric(speech.dnsmos, "MOS", True, ("estimate",)),
        "srmr": Metric(srmr, "", True, ("estimate",)),
        "si_sdr_db": Metric(speech.si_sdr_db, "dB", True),
        "stft_distance": Metric(spectra.stft_distance, "", False),
        "residual_drr_db": Metric(rooms.residual_drr_db, "dB", True),
        "rte": Metric(rte, "s", False),
        "wer": Metric(wer, "%", False, ("estimate", "transcript"), weight=num_words),
    },
}

# What can be asked for by name.
MORE_METRICS: Mapping[Task, Mapping[str, Metric]] = {
    "reverberation": {
        f"{name}_{band_hz}hz": metric.using(band_hz=band_hz)
        for name, metric in _ROOM_ERRORS.items()
        for band_hz in OCTAVE_BANDS_HZ
    },
    "dereverberation": {"speaker_similarity": Metric(speaker_similarity, "", True)},
}


def choose(
    task: Task, names: Sequence[str] | None = None, known: Collection[str] = ("source", *_PAIR)
) -> dict[str, Metric]:
    """The metrics of a task by name, in the order asked for; by default its columns whose inputs are all `known`.

    Raises:
        ConfigError: no metric of that name.
    """
    if names is None:
        return {name: metric for name, metric in METRICS[task].items() if set(metric.inputs) <= set(known)}
    metrics = {**METRICS[task], **MORE_METRICS[task]}
    for name in names:
        if name not in metrics:
            near = difflib.get_close_matches(name, metrics, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose among {', '.join(METRICS[task])}"
            raise ConfigError(f"there is no metric {name!r} of {task}; {hint}")
    return {name: metrics[name] for name in names}


@dataclass(frozen=True)
class Scores:
    """The metrics of one clip: values by name, for those that could not be measured the reason, and the weights.

    `weights` says what a clip weighs in a mean (a word error rate: its words), by name; 1 for all that are not in it.
    """

    values: dict[str, float]
    failures: dict[str, str]
    weights: dict[str, float] = field(default_factory=dict)


def measure(
    metrics: Mapping[str, Metric],
    *,
    estimate: Waveform,
    sample_rate: int,
    source: Waveform | None = None,
    target: Waveform | None = None,
    rir: Waveform | None = None,
    transcript: str | None = None,
) -> Scores:
    """All `metrics` (as `METRICS["dereverberation"]`) of one clip; what is not measurable is a failure.

    What is not known is None: a metric that needs it fails, with that reason. `rir` is the true response from source
    to target, direct sound anywhere.
    """
    clips = {"source": source, "estimate": estimate, "target": target, "rir": rir, "transcript": transcript}
    known = {name: clip for name, clip in clips.items() if clip is not None}
    scores = Scores({}, {})
    for name, metric in metrics.items():
        inputs = {clip: known[clip] for clip in (*metric.inputs, *metric.optional) if clip in known}
        missing = [clip for clip in metric.inputs if clip not in known]
        if missing:
            scores.failures[name] = f"the {missing[0]} is not known"
            continue
        try:
            scores.values[name] = metric.function(**inputs, sample_rate=sample_rate)
        except NotMeasurable as error:
            scores.failures[name] = str(error)
            continue
        if metric.weight is not None:
            scores.weights[name] = metric.weight(**inputs)
    return scores


def bootstrap_interval(
    values: Sequence[float] | Samples,
    seed: int = 0,
    confidence: float = 0.95,
    weights: Sequence[float] | Samples | None = None,
    groups: Sequence[str] | None = None,
) -> tuple[float, float]:
    """Confidence interval of the (weighted) mean: percentiles of 2000 resampled means. Efron (1979).

    Values of one of the `groups` are drawn together (Field and Welsh 2007, the cluster bootstrap): they are no
    independent evidence. A single group says nothing of others, and counts as if its values were alone.

    Raises:
        NotMeasurable: fewer than two values, or one that is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    num_finite = int(np.isfinite(sample).sum())
    if num_finite < len(sample) or num_finite < 2:
        raise NotMeasurable(
            f"an interval needs two or more values, all finite; {num_finite} of {len(sample)} are"
        )
    weight = np.ones(len(sample)) if weights is None else np.asarray(weights, dtype=np.float64)
    total = weight * sample
    if groups is not None and len(set(groups)) > 1:
        index = np.unique(groups, return_inverse=True)[1]
        total, weight = (np.bincount(index, each).astype(np.float64) for each in (total, weight))
    drawn = np.random.default_rng(seed).choice(len(total), (2000, len(total)))
    means = total[drawn].sum(axis=1) / weight[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def versions() -> dict[str, str]:
    """Versions of Python and of every library that a figure rests on and that is installed, by name."""
    installed = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            installed[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
