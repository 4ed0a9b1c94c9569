"""How good a voice sounds and how well it is understood."""

from __future__ import annotations

import importlib.util
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mvsd.errors import MissingExtraError, NotMeasurable
from mvsd.evaluation.metrics.clips import Waveform, checked, checked_pair, extra_module, require_rate

_PESQ_SECONDS = 40
_DNSMOS_WINDOW = 144_160  # 9.01 s
_DNSMOS_CALIBRATION = (-0.06766283, 1.11546468, 0.04602535)  # overall rating, published with the network

INFINITE_SI_SDR = "SI-SDR is infinite: the estimate is the target itself, or has nothing of it"


def pesq_wb(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """Wide-band PESQ at 16 kHz: listening quality, MOS-LQO 1.0 (bad) to 4.64 (identical). ITU-T P.862.2.

    The whole clip against the target, by the package pesq. Not measurable beyond 40 s: P.862 is for clips of 8 to 30 s,
    and the published code, which pesq compiles, has room for 50 stretches of speech between pauses.
    """
    reference, degraded = checked_pair(target, estimate)
    require_rate("wide-band PESQ", sample_rate)
    if len(reference) > _PESQ_SECONDS * sample_rate:
        raise NotMeasurable(
            f"PESQ is for clips of up to {_PESQ_SECONDS} s, not of {len(reference) / sample_rate:.0f} s; cut them"
        )
    pesq = extra_module("pesq")
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
    reference, degraded = checked_pair(target, estimate)
    projection = (degraded @ reference) / (reference @ reference) * reference
    signal_energy, error_energy = np.sum(projection**2), np.sum((projection - degraded) ** 2)
    if signal_energy == 0 or error_energy == 0:
        raise NotMeasurable(INFINITE_SI_SDR)
    return float(10 * np.log10(signal_energy / error_energy))


def dnsmos(*, estimate: Waveform, sample_rate: int) -> float:
    """DNSMOS P.835 overall quality, MOS 1 to 5, predicted without a target; 16 kHz. Reddy, ICASSP 2022.

    Mean over windows of 9.01 s, one second apart; a shorter clip is doubled until it fills one, as the
    reference implementation does. Depends on the level, which is taken as it is; only a clip beyond -1..1 is
    scaled to that. The network (`sig_bak_ovr.onnx`) is the one in the package speechmos.
    """
    return _overall_rating(estimate, "estimate", sample_rate)


def mose(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """MOS error: absolute difference of the `dnsmos` of estimate and target, MOS 0 (as good or bad) to 4.

    The papers use MOSNet (Lo et al., Interspeech 2019), whose only packaging needs TensorFlow 1; here the
    predictor is DNSMOS P.835 overall, so the figures are not those of the papers.
    """
    reference, degraded = checked_pair(target, estimate)
    return abs(
        _overall_rating(degraded, "estimate", sample_rate) - _overall_rating(reference, "target", sample_rate)
    )


def _overall_rating(clip: Waveform, name: str, sample_rate: int) -> float:
    samples = checked(clip, name)
    require_rate("DNSMOS", sample_rate)
    return _rating(samples.tobytes(), sample_rate)


@lru_cache(maxsize=4)  # several systems are compared with one target, and DNSMOS with MOSE
def _rating(clip: bytes, sample_rate: int) -> float:
    samples = np.frombuffer(clip)
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
    runtime = extra_module("onnxruntime")
    package = importlib.util.find_spec("speechmos")
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError("metrics", "speechmos")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # clips are measured in parallel, one process each
    return runtime.InferenceSession(
        str(Path(package.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"),
        options,
        providers=["CPUExecutionProvider"],
    )


def _stoi(estimate: Waveform, target: Waveform, sample_rate: int, *, extended: bool) -> float:
    reference, degraded = checked_pair(target, estimate)
    pystoi = extra_module("pystoi")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi warns and returns 1e-5 for a short clip
        try:
            return float(pystoi.stoi(reference, degraded, sample_rate, extended=extended))
        except (RuntimeWarning, ValueError) as error:
            raise NotMeasurable("STOI needs at least 0.4 s of speech that is not silent") from error


def _reason(error: Exception) -> str:
    """The message of an error of pesq, which carries bytes."""
    reason = error.args[0] if error.args else type(error).__name__
    return reason.decode() if isinstance(reason, bytes) else str(reason)
