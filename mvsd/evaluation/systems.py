"""What is compared: converters, folders of processed files, and references that need no training."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mvsd.acoustics import convolve, decay_time, drr_db, fit_response
from mvsd.audio import load_audio, resample
from mvsd.data.example import Example
from mvsd.errors import ConfigError, DataError, MissingExtraError, MvsdError, NotMeasurable
from mvsd.evaluation.clips import Clip
from mvsd.evaluation.converters import PassingError, find_code, open_converter
from mvsd.evaluation.identity import file_digest, tree_identity
from mvsd.evaluation.metrics import Task
from mvsd.hub import find_model
from mvsd.recordings import RECORDINGS
from mvsd.shipped import SHIPPED, shipped_weights

Waveform = NDArray[np.floating]

RIGHT, NONE, WRONG = "right photo", "no photo", "wrong photo"
CONDITIONS = (RIGHT, NONE, WRONG)
SHIPPED_FOR: dict[Task, str] = {"reverberation": "reverberator", "dereverberation": "dereverberator"}
PUBLISHED_ROOM = (
    0.4,
    2.0,
)  # s and dB of the constant reverberator of Chen et al., CVPR 2022, on unseen rooms
_LONGEST_ROOM = 30.0  # s
_SLACK = 0.05  # seconds by which a processed file may be longer or shorter: vocoders work in frames
_MAX_EXAMPLES = 200  # on which the constant room is chosen


class System(Protocol):
    """A row of the table for each of its conditions; small, immutable, and sent to the processes that compute."""

    @property
    def name(self) -> str:
        """As in the table."""
        ...

    @property
    def conditions(self) -> Sequence[str]:
        """What it sees: `CONDITIONS`, or only "" where it does not look at photos."""
        ...

    def basis(self) -> Path | None:
        """The file or folder from which its output follows, None where there is none."""
        ...

    def identity(self) -> Hashable:
        """JSON-able; changes when its output may change."""
        ...

    def estimate(self, clip: Clip, condition: str) -> Waveform:
        """(T,), as long as the clip's source. Raises MvsdError with the reason where there is none."""
        ...


@dataclass(frozen=True)
class Reference:
    """A row without settings and photos; a subclass says what it makes of a clip."""

    name: str
    conditions: tuple[str, ...] = ("",)

    def basis(self) -> None:
        """There is none."""

    def identity(self) -> Hashable:
        """Its name; the versions of libraries are kept apart."""
        return self.name


@dataclass(frozen=True)
class Untouched(Reference):
    """What the systems are given."""

    name: str = "untouched input"

    def estimate(self, clip: Clip, condition: str) -> Waveform:
        """The source."""
        return clip.source


@dataclass(frozen=True)
class GroundTruth(Reference):
    """What the systems should make."""

    name: str = "ground truth"

    def estimate(self, clip: Clip, condition: str) -> Waveform:
        """The target."""
        if clip.target is None:
            raise NotMeasurable("the data set does not hold what should come out")
        return clip.target


@dataclass(frozen=True)
class WPE(Reference):
    """Weighted prediction error, as in nara_wpe: 10 taps, delay 3, 3 iterations, frames of 32 ms every 8 ms.

    Yoshioka and Nakatani, "Generalization of multi-channel linear prediction methods", IEEE TASLP 20 (2012). Over the
    whole clip, one channel.
    """

    name: str = "WPE"

    def estimate(self, clip: Clip, condition: str) -> Waveform:
        """The source without its predictable part."""
        try:
            from nara_wpe.utils import istft, stft
            from nara_wpe.wpe import wpe
        except ImportError as error:
            raise MissingExtraError("baselines", error.name or "nara_wpe") from error
        shift = clip.sample_rate // 125
        size, length = 4 * shift, len(clip.source)
        padded = np.pad(np.asarray(clip.source, np.float64), (0, -length % shift))
        spectrum = stft(padded[None], size=size, shift=shift).transpose(2, 0, 1)
        estimate = wpe(spectrum, taps=10, delay=3, iterations=3).transpose(1, 2, 0)
        return np.asarray(istft(estimate, size=size, shift=shift)[0, :length], np.float32)


@dataclass(frozen=True)
class ConstantRoom:
    """One room for all: a direct sound, then exponentially decaying noise from 2.5 ms on.

    `rt60` in seconds; `drr_db`, the direct-to-reverberant ratio, in dB.
    """

    rt60: float
    drr_db: float
    conditions: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        if not (0 < self.rt60 <= _LONGEST_ROOM and math.isfinite(self.drr_db)):
            came = f"RT60 {self.rt60:g} s and DRR {self.drr_db:g} dB"
            raise ConfigError(
                f"a constant room of {came}; wanted are more than 0 to {_LONGEST_ROOM:g} s, then dB"
            )

    @property
    def name(self) -> str:
        """Says which room."""
        return f"constant room ({self.rt60:.2f} s, {self.drr_db:.1f} dB)"

    def basis(self) -> None:
        """There is none."""

    def identity(self) -> Hashable:
        """Both values in full."""
        return ("constant room", self.rt60, self.drr_db)

    def response(self, sample_rate: int, seed: int = 0) -> Waveform:
        """(R,), the direct sound a unit impulse at sample 0."""
        time = np.arange(round(1.2 * self.rt60 * sample_rate) + sample_rate // 10) / sample_rate
        rir = np.random.default_rng(seed).standard_normal(len(time)) * 10 ** (-3 * time / self.rt60)
        rir[: round(0.0025 * sample_rate) + 1] = 0
        rir *= 10 ** (-self.drr_db / 20) / np.linalg.norm(rir)
        rir[0] = 1
        return rir

    def estimate(self, clip: Clip, condition: str) -> Waveform:
        """The source in that room."""
        return convolve(clip.source, self.response(clip.sample_rate, clip.seed))[: len(clip.source)]


@dataclass(frozen=True)
class TrueDecay(Reference):
    """What T20 and DRR alone can do: per clip, the constant room with the measures of the true response."""

    name: str = "true T20 and DRR"

    def estimate(self, clip: Clip, condition: str) -> Waveform:
        """The source in a room of that decay, at the target's level."""
        rir = _true_response(clip)
        room = ConstantRoom(decay_time(rir, clip.sample_rate), drr_db(rir, clip.sample_rate))
        return clip.level * room.estimate(clip, condition)


@dataclass(frozen=True)
class TrueResponse(Reference):
    """The source convolved with the room's true impulse response: no reverberator can do better."""

    name: str = "true response"

    def estimate(self, clip: Clip, condition: str) -> Waveform:
        """The source in the room, at the target's level."""
        return clip.level * convolve(clip.source, _true_response(clip))[: len(clip.source)]


@dataclass(frozen=True)
class Model:
    """A converter: `spec` is a shipped name, a model file, or ``module:object`` of the user's own code."""

    name: str
    spec: str
    device: str = "cpu"
    steps: int | None = None
    conditions: tuple[str, ...] = CONDITIONS

    @property
    def is_file(self) -> bool:
        """Whether it is a model file, rather than a shipped name or the user's own code."""
        return self.spec not in SHIPPED and Path(self.spec).is_file()

    def basis(self) -> Path | None:
        """The model file; of the user's own code all that its package holds."""
        if self.spec in SHIPPED:
            return shipped_weights(self.spec)
        return Path(self.spec) if self.is_file else find_code(re.split("[.:]", self.spec)[0])

    def identity(self) -> Hashable:
        """Content of the model file or module; of a package names, sizes and times of its files."""
        path = self.basis()
        content = "" if path is None else tree_identity(path) if path.is_dir() else file_digest(path)
        return ("model", "" if self.is_file else self.spec, content, self.device, self.steps)

    def estimate(self, clip: Clip, condition: str) -> Waveform:
        """What the converter makes of the source and the photo of the condition."""
        scene = {RIGHT: clip.scene, NONE: None, WRONG: clip.wrong_scene}[condition]
        if scene is None and condition != NONE:
            reason = (
                "the clip has no photo" if clip.scene is None else "no other room was found in the data set"
            )
            raise NotMeasurable(reason)
        is_ours = self.spec in SHIPPED or self.is_file
        options = {"steps": self.steps} if is_ours and self.steps is not None else {}
        converter = open_converter(self.spec, self.device)
        try:
            converted = converter.convert(
                clip.source.copy(), clip.sample_rate, scene, seed=clip.seed, **options
            )
            return np.asarray(converted, np.float32)
        except MvsdError:
            raise
        except Exception as error:
            if is_ours:
                raise  # ours: a fault of the program, which must not become a row of failures
            may_pass = isinstance(error, (MemoryError, OSError)) or "memory" in str(error)
            reason = f"{self.spec} raised {type(error).__name__}: {error}"
            raise (PassingError(reason) if may_pass else MvsdError(reason)) from error


@dataclass(frozen=True)
class Processed:
    """A folder of files that another program made: KEY.wav, and so on, for every clip.

    With subfolders `right-photo`, `no-photo` or `wrong-photo` each of these is a row.
    """

    name: str
    folder: str

    @property
    def conditions(self) -> tuple[str, ...]:
        """The subfolders that are there, or just the folder."""
        there = tuple(c for c in CONDITIONS if (Path(self.folder) / c.replace(" ", "-")).is_dir())
        return there or ("",)

    def basis(self) -> Path:
        """The folder."""
        return Path(self.folder)

    def identity(self) -> Hashable:
        """Names, sizes and times of its files."""
        return ("processed", tree_identity(self.basis()))

    def estimate(self, clip: Clip, condition: str) -> Waveform:
        """The file of the clip, as mono at the clip's rate; an end that differs by up to 50 ms is cut or zero."""
        folder = Path(self.folder) / condition.replace(" ", "-")
        names = [clip.key, str(clip.metadata.get("name", clip.key))]
        paths = [folder / f"{name}{suffix}" for name in names if "/" not in name for suffix in RECORDINGS]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise NotMeasurable(f"no file that is named after the clip (.wav, .flac, .mp3, ...) in {folder}")
        waveform, rate = load_audio(path)
        mono = resample(waveform.mean(axis=0, dtype=np.float32), rate, clip.sample_rate)
        surplus = len(mono) - len(clip.source)
        if abs(surplus) > _SLACK * clip.sample_rate:
            lengths = (
                f"{len(mono) / clip.sample_rate:.3f} s, the clip {len(clip.source) / clip.sample_rate:.3f} s"
            )
            raise NotMeasurable(f"{path.name} lasts {lengths}; more than {1000 * _SLACK:.0f} ms apart")
        return np.pad(mono, (0, max(0, -surplus)))[: len(clip.source)]


def references(task: Task, constant: tuple[float, float] = PUBLISHED_ROOM) -> tuple[System, ...]:
    """The references of a task that need no training."""
    return (WPE(),) if task == "dereverberation" else (ConstantRoom(*constant), TrueDecay(), TrueResponse())


def own_systems(systems: Sequence[System]) -> list[System]:
    """Those that the user named, or the shipped model: all but the references."""
    return [system for system in systems if not isinstance(system, Reference | ConstantRoom)]


def parse_system(text: str, task: Task, *, device: str = "cpu", steps: int | None = None) -> System:
    """A system from NAME=WHAT or WHAT: a shipped name, a model file, a folder, a Hub id, or ``module:object``.

    A folder is a training run, which has a converter for the task, that of a model (`Converter.save_pretrained`), or of
    processed files. Raises MvsdError for anything else, and where the Hub does not give the model.
    """
    before, is_named, after = text.partition("=")
    spec = after if is_named else text
    name = before if is_named else (Path(spec).stem or spec)
    if not name.strip() or not spec:
        raise MvsdError(f"--system {text!r} has no name or no system; give NAME=WHAT")
    if spec in SHIPPED and spec != SHIPPED_FOR[task]:
        raise MvsdError(f"the {spec} is not made for {task}; use {SHIPPED_FOR[task]}")
    if spec in SHIPPED or Path(spec).is_file():
        return Model(name, spec, device, steps)
    of_run = Path(spec, f"{SHIPPED_FOR[task]}.safetensors")
    model = of_run if of_run.is_file() else find_model(spec)
    if model.is_file():
        return Model(name, str(model), device, steps)
    if Path(spec).is_dir():
        return Processed(name, spec)
    if re.fullmatch(r"[\w.]+:[\w.]+", spec):
        return Model(name if is_named else spec, spec, device, steps)
    wanted = f"{SHIPPED_FOR[task]}, a model file, a training run, a Hub id, processed files, or module:object"
    raise MvsdError(f"{spec!r} is no system; wanted is {wanted}")


def choose_room(examples: Sequence[Example]) -> tuple[float, float]:
    """The constant room that is nearest to a development set: median T20 (s) and median DRR (dB).

    Medians have the least mean absolute error. Responses that the set does not hold are fitted; the first 200 examples
    are looked at, but damaged ones. Raises DataError where none can be measured.
    """
    times, ratios = list[float](), list[float]()
    for index in range(min(len(examples), _MAX_EXAMPLES)):
        try:
            example = examples[index]
            rir, rate = _response(example), example.sample_rate
            time, ratio = decay_time(rir, rate), drr_db(rir, rate)
        except MvsdError:
            continue
        times.append(time)
        ratios.append(ratio)
    if not times:
        raise DataError(
            "no response of the development set can be measured; give --constant RT60 DRR instead"
        )
    return float(np.median(times)), float(np.median(ratios))


def _true_response(clip: Clip) -> Waveform:
    if clip.rir is None:
        raise NotMeasurable("the data set does not hold the room's impulse response")
    return clip.rir


def _response(example: Example) -> Waveform:
    if example.rir is not None:
        return example.rir
    if example.anechoic is None or example.reverberant is None:
        raise NotMeasurable("the example has neither a response nor both voices")
    seconds = min(1.0, len(example.anechoic) / example.sample_rate / 3)
    return fit_response(example.anechoic, example.reverberant, example.sample_rate, seconds)
