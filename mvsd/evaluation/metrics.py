"""Every metric of the tables: one function each, called with keywords, a number or an error.

All take mono clips (T,) of equal length and rate. `target` is what the estimate should have been: the dry
voice for dereverberation, the reverberant one for reverberation; `source` is what the converter was given. A
value that cannot be had raises `NotMeasurable` with the reason, a missing library `MissingExtraError`; no
value is ever made up.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mvsd.acoustics import decay_time, drr_db, fit_response
from mvsd.errors import MissingExtraError, NotMeasurable

Waveform = NDArray[np.floating]
Samples = NDArray[np.float64]
Task = Literal["reverberation", "dereverberation"]

_FFT_SIZE, _WINDOW_SIZE, _HOP = 512, 400, 160  # of the STFT distance, at 16 kHz
_DNSMOS_WINDOW = 144_160  # 9.01 s
_DNSMOS_CALIBRATION = (-0.06766283, 1.11546468, 0.04602535)  # overall rating, published with the network

# ----------------------------------------------------------------------------------- speech quality


def pesq_wb(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """Wide-band PESQ at 16 kHz: listening quality, MOS-LQO 1.0 (bad) to 4.64 (identical). ITU-T P.862.2."""
    reference, degraded = _pair(target, estimate)
    if sample_rate != 16_000:
        raise NotMeasurable(f"wide-band PESQ is defined at 16000 Hz, not at {sample_rate} Hz")
    pesq = _extra("pesq")
    try:
        return float(pesq.pesq(sample_rate, reference, degraded, "wb"))
    except pesq.PesqError as error:
        raise NotMeasurable(f"PESQ: {_reason(error)}") from error


def stoi(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """Short-time objective intelligibility, about 0 to 1 (identical). Taal et al., IEEE TASLP 19 (2011)."""
    return _stoi(estimate, target, sample_rate, extended=False)


def estoi(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """Extended STOI, about 0 to 1 (identical); stricter on smeared speech. Jensen, Taal, TASLP 24 (2016)."""
    return _stoi(estimate, target, sample_rate, extended=True)


def si_sdr_db(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, no upper limit; depends on alignment to the sample.

    10 log10(|a s|^2 / |a s - e|^2) with a = <e, s> / |s|^2. Le Roux et al., ICASSP 2019, eq. 5.
    """
    reference, degraded = _pair(target, estimate)
    projection = (degraded @ reference) / (reference @ reference) * reference
    signal_energy, error_energy = np.sum(projection**2), np.sum((projection - degraded) ** 2)
    if signal_energy == 0 or error_energy == 0:
        raise NotMeasurable("SI-SDR is infinite: the estimate is the target itself, or has nothing of it")
    return float(10 * np.log10(signal_energy / error_energy))


def dnsmos(*, estimate: Waveform, sample_rate: int) -> float:
    """DNSMOS P.835 overall quality, MOS 1 to 5, predicted without a target; 16 kHz. Reddy, ICASSP 2022.

    Mean over windows of 9.01 s, one second apart; a shorter clip is doubled until it fills one, as the
    reference implementation does. Depends on the level, which is taken as it is; only a clip beyond -1..1 is
    scaled to that.
    """
    samples = _checked(estimate, "estimate")
    if sample_rate != 16_000:
        raise NotMeasurable(f"DNSMOS is defined at 16000 Hz, not at {sample_rate} Hz")
    samples = samples / max(1.0, np.abs(samples).max())
    while len(samples) < _DNSMOS_WINDOW:
        samples = np.concatenate([samples, samples])
    last_start = int(len(samples) // sample_rate - 9.01) * sample_rate
    network = _dnsmos_network()
    ratings = []
    for start in range(0, last_start + 1, sample_rate):
        window = samples[start : start + _DNSMOS_WINDOW].astype(np.float32)
        rating = network.run(None, {"input_1": window[None]})[0][0, 2]
        ratings.append(np.polyval(_DNSMOS_CALIBRATION, rating))
    return float(np.mean(ratings))


@lru_cache(maxsize=1)
def _dnsmos_network() -> Any:
    """The network in the package speechmos, without that package's code, which needs librosa."""
    runtime = _extra("onnxruntime")
    package = importlib.util.find_spec("speechmos")
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError("metrics", "speechmos")
    return runtime.InferenceSession(
        str(Path(package.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"),
        providers=["CPUExecutionProvider"],
    )


# -------------------------------------------------------------------------------- spectral distance


def stft_distance(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """Mean squared difference of linear magnitude spectrograms, 0 (identical) upwards, no unit.

    Each clip is divided by its peak; FFT 512, hop 160, Hamming window of 400 samples, frames centred, zeros
    beyond the ends. As in Chen et al., "Visual acoustic matching", CVPR 2022, and MVSD, there on clips of
    2.56 s at 16 kHz.
    """
    reference, degraded = _magnitudes(estimate, target, sample_rate)
    return float(np.mean((degraded - reference) ** 2))


def log_stft_distance(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """As `stft_distance`, of ln(magnitude + 1e-5)."""
    reference, degraded = _magnitudes(estimate, target, sample_rate)
    return float(np.mean((np.log(degraded + 1e-5) - np.log(reference + 1e-5)) ** 2))


# ----------------------------------------------------------------------------------- room acoustics


def t20_error(*, source: Waveform, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """Absolute difference in seconds of the T20 of two responses: source to estimate, and source to target.

    Both are fitted alike, `mvsd.acoustics.fit_response` over 1 s; T20 after ISO 3382-1, broadband.
    """
    heard, wanted = _of_responses(decay_time, source, estimate, target, sample_rate)
    return abs(heard - wanted)


def t20_error_percent(*, source: Waveform, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """As `t20_error`, in percent of the target's T20; 5 % is just noticeable (ISO 3382-1, table A.1)."""
    heard, wanted = _of_responses(decay_time, source, estimate, target, sample_rate)
    return 100 * abs(heard - wanted) / wanted


def drr_error_db(*, source: Waveform, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """Absolute difference in dB of the direct-to-reverberant ratio of the same two responses."""
    heard, wanted = _of_responses(drr_db, source, estimate, target, sample_rate)
    return abs(heard - wanted)


def residual_drr_db(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """How dry a dereverberated voice is: DRR in dB of the response fitted from dry target to estimate.

    Higher is drier. Distortion counts as room (-20 dB of it limits the value to about 26 dB), so it is never
    too good: what an estimate hides from the ear but keeps for a partner network to find is seen here.
    """
    response = _response(("target", target), ("estimate", estimate), sample_rate)
    return drr_db(response, sample_rate)


# -------------------------------------------------------------------------------------- all at once


@dataclass(frozen=True)
class Metric:
    """A metric with what a table must know of it; `inputs` are the clips it takes."""

    function: Callable[..., float]
    unit: str
    higher_is_better: bool
    inputs: tuple[str, ...] = ("estimate", "target")


_ALL_CLIPS = ("source", "estimate", "target")
METRICS: Mapping[Task, Mapping[str, Metric]] = {
    "reverberation": {
        "stft_distance": Metric(stft_distance, "", False),
        "log_stft_distance": Metric(log_stft_distance, "", False),
        "t20_error": Metric(t20_error, "s", False, _ALL_CLIPS),
        "t20_error_percent": Metric(t20_error_percent, "%", False, _ALL_CLIPS),
        "drr_error_db": Metric(drr_error_db, "dB", False, _ALL_CLIPS),
    },
    "dereverberation": {
        "pesq_wb": Metric(pesq_wb, "MOS", True),
        "stoi": Metric(stoi, "", True),
        "estoi": Metric(estoi, "", True),
        "dnsmos": Metric(dnsmos, "MOS", True, ("estimate",)),
        "si_sdr_db": Metric(si_sdr_db, "dB", True),
        "stft_distance": Metric(stft_distance, "", False),
        "residual_drr_db": Metric(residual_drr_db, "dB", True),
    },
}


@dataclass(frozen=True)
class Scores:
    """The metrics of one clip: values by name, and for those that could not be measured the reason."""

    values: dict[str, float]
    failures: dict[str, str]


def measure(
    metrics: Mapping[str, Metric], *, source: Waveform, estimate: Waveform, target: Waveform, sample_rate: int
) -> Scores:
    """All `metrics` (as `METRICS["dereverberation"]`) of one clip; what is not measurable is a failure."""
    clips = {"source": source, "estimate": estimate, "target": target}
    scores = Scores({}, {})
    for name, metric in metrics.items():
        try:
            inputs = {clip: clips[clip] for clip in metric.inputs}
            scores.values[name] = metric.function(**inputs, sample_rate=sample_rate)
        except NotMeasurable as error:
            scores.failures[name] = str(error)
    return scores


def bootstrap_interval(
    values: Sequence[float] | Samples, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of the mean: percentiles of 2000 resampled means. Efron (1979).

    Raises:
        NotMeasurable: fewer than two values, or one that is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    num_finite = int(np.isfinite(sample).sum())
    if num_finite < len(sample) or num_finite < 2:
        raise NotMeasurable(
            f"an interval needs two or more values, all finite; {num_finite} of {len(sample)} are"
        )
    means = np.random.default_rng(seed).choice(sample, (2000, len(sample))).mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


# ------------------------------------------------------------------------------------ common pieces


def _extra(module: str) -> Any:
    """An optional module of the extra `metrics`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError("metrics", error.name or module) from error


def _checked(samples: Waveform, name: str) -> Samples:
    """A copy in double precision; refuses what no metric can use."""
    checked = np.array(samples, dtype=np.float64)
    if checked.ndim != 1:
        raise NotMeasurable(f"the {name} must be one channel of samples (T,), not of shape {checked.shape}")
    if not np.isfinite(checked).all():
        raise NotMeasurable(f"the {name} holds values that are not finite (NaN or infinity)")
    if not np.any(checked):
        raise NotMeasurable(f"the {name} is silent")
    return checked


def _pair(
    first: Waveform, second: Waveform, names: tuple[str, str] = ("target", "estimate")
) -> tuple[Samples, Samples]:
    """Both clips checked; refuses clips of different lengths."""
    pair = _checked(first, names[0]), _checked(second, names[1])
    if len(pair[0]) != len(pair[1]):
        raise NotMeasurable(
            f"the {names[0]} has {len(pair[0])} samples, the {names[1]} {len(pair[1])}; they must be aligned"
        )
    return pair


def _reason(error: Exception) -> str:
    """The message of an error of pesq, which carries bytes."""
    reason = error.args[0] if error.args else type(error).__name__
    return reason.decode() if isinstance(reason, bytes) else str(reason)


def _stoi(estimate: Waveform, target: Waveform, sample_rate: int, *, extended: bool) -> float:
    reference, degraded = _pair(target, estimate)
    pystoi = _extra("pystoi")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi warns and returns 1e-5 for a short clip
        try:
            return float(pystoi.stoi(reference, degraded, sample_rate, extended=extended))
        except (RuntimeWarning, ValueError) as error:
            raise NotMeasurable("STOI needs at least 0.4 s of speech that is not silent") from error


def _magnitudes(estimate: Waveform, target: Waveform, sample_rate: int) -> tuple[Samples, Samples]:
    """Magnitude spectrograms (F, N) of target and estimate, each peak-normalised."""
    if sample_rate != 16_000:
        raise NotMeasurable(f"the STFT distance is defined at 16000 Hz, not at {sample_rate} Hz")
    reference, degraded = (_magnitude(clip / np.abs(clip).max()) for clip in _pair(target, estimate))
    return reference, degraded


def _magnitude(samples: Samples) -> Samples:
    side = (_FFT_SIZE - _WINDOW_SIZE) // 2
    window = np.pad(0.54 - 0.46 * np.cos(2 * np.pi * np.arange(_WINDOW_SIZE) / _WINDOW_SIZE), side)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, _FFT_SIZE // 2), _FFT_SIZE)[::_HOP]
    return np.abs(np.fft.rfft(frames * window)).T


def _of_responses(
    measure: Callable[[NDArray[np.float32], int], float],
    source: Waveform,
    estimate: Waveform,
    target: Waveform,
    sample_rate: int,
) -> tuple[float, float]:
    """`measure` of the responses source to estimate and source to target."""
    values = []
    for name, clip in (("estimate", estimate), ("target", target)):
        try:
            values.append(measure(_response(("source", source), (name, clip), sample_rate), sample_rate))
        except NotMeasurable as reason:
            raise NotMeasurable(f"response of the {name}: {reason}") from reason
    return values[0], values[1]


def _response(
    source: tuple[str, Waveform], clip: tuple[str, Waveform], sample_rate: int
) -> NDArray[np.float32]:
    """Response from one named clip to another."""
    pair = _pair(source[1], clip[1], (source[0], clip[0]))
    return _cached_response(pair[0].tobytes(), pair[1].tobytes(), sample_rate)


@lru_cache(maxsize=4)  # the metrics of one clip share their fits
def _cached_response(source: bytes, clip: bytes, sample_rate: int) -> NDArray[np.float32]:
    """One second of response, and one millisecond before it for a converter that is not quite causal."""
    return fit_response(np.frombuffer(source), np.frombuffer(clip), sample_rate, 1.0, lead_seconds=0.001)
