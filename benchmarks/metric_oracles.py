"""The other implementations that `metrics.py` compares with. Each is imported where it is used."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from functools import lru_cache, partial
from unittest import mock

import numpy as np
from scipy import optimize, signal

from mvsd.acoustics import octave_filter
from mvsd.evaluation import metrics
from mvsd.evaluation.metrics import words

RATE = 16_000


@dataclass(frozen=True)
class Clip:
    """A voice (T,) and itself in a room."""

    dry: np.ndarray
    wet: np.ndarray


def in_band(rir: np.ndarray, band_hz: int | None) -> np.ndarray:
    """A response from its direct sound on, in one of our octave bands, as `decay_time` sees it."""
    if band_hz is None:
        return rir
    return octave_filter(np.pad(rir, (int(4 * RATE / band_hz), 0)), RATE, band_hz)


def pyrato_curve(rir: np.ndarray, band_hz: int | None, *, normalize: bool = True):
    """Decay curve after Chu and Lundeby by pyrato."""
    import pyfar
    from pyrato import edc

    smoothing = "broadband" if band_hz is None else band_hz
    return edc.energy_decay_curve_chu_lundeby(pyfar.Signal(rir, RATE), smoothing, normalize=normalize)


def pyrato_decay(rir: np.ndarray, kind: str, band_hz: int | None) -> float:
    """T20, T30 or EDT by pyrato."""
    from pyrato.parameters import reverberation_time_linear_regression

    return reverberation_time_linear_regression(pyrato_curve(in_band(rir, band_hz), band_hz), T=kind).item()


def pyrato_ratio_db(rir: np.ndarray, milliseconds: float, band_hz: int | None) -> float:
    """Early over late energy: the curve of pyrato, or, in a band, that of the late part in the band of pyfar."""
    if band_hz is None:
        from pyrato.parameters import clarity

        return clarity(pyrato_curve(rir, None), early_time_limit=milliseconds).item()
    import pyfar

    split = round(milliseconds / 1000 * RATE)
    ringing = 8 * RATE // band_hz
    parts = np.pad(rir[:split], (0, ringing)), rir[split:]
    band = {"num_fractions": 1, "frequency_range": (band_hz, band_hz), "order": 3}  # slopes as ours
    early, late = (
        pyfar.dsp.filter.fractional_octave_bands(pyfar.Signal(part, RATE), **band).time.reshape(-1)
        for part in parts
    )
    late_energy = np.nanmax(pyrato_curve(late, band_hz, normalize=False).time)  # NaN beyond the noise floor
    return 10 * np.log10(np.sum(early**2) / late_energy)


def pyroomacoustics_decay(rir: np.ndarray, decay_db: int) -> float:
    """Slope from -5 dB on by pyroomacoustics, which knows no noise floor."""
    from pyroomacoustics.experimental.rt60 import measure_rt60

    return float(measure_rt60(rir, RATE, decay_db=decay_db))


def share(level_db: float) -> float:
    """A ratio of two energies in dB as the share of the first in both."""
    return 1 / (1 + 10 ** (-level_db / 10))


def torch_magnitude(clip: np.ndarray) -> np.ndarray:
    """The spectrogram of the STFT distance by torch."""
    import torch

    samples = torch.from_numpy(clip.astype(np.float64) / np.abs(clip).max())
    window = torch.hamming_window(400, dtype=torch.float64)
    return torch.stft(samples, 512, 160, 400, window, pad_mode="constant", return_complex=True).abs().numpy()


def torchmetrics_value(name: str, *clips: np.ndarray, **options) -> float:
    """A functional metric of torchmetrics."""
    import torch
    import torchmetrics.functional.audio as functional

    return float(
        getattr(functional, name)(*(torch.from_numpy(np.float64(clip)) for clip in clips), **options)
    )


def torchmetrics_srmr(clip: np.ndarray) -> float:
    """SRMR by torchmetrics; scipy does the one filter for which it wants torchaudio."""
    import torch
    import torchmetrics.functional.audio.srmr as module

    def lfilter(x, a, b, clamp: bool = True, batching: bool = True):
        rows = [signal.lfilter(b[i].numpy(), a[i].numpy(), x[..., i, :].numpy()) for i in range(len(a))]
        y = torch.from_numpy(np.stack(rows, axis=-2))
        return y.clamp(-1, 1) if clamp else y

    filtering = types.ModuleType("torchaudio.functional.filtering")
    filtering.lfilter = lfilter
    for name in ("torchaudio", "torchaudio.functional"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules.setdefault(filtering.__name__, filtering)
    module._TORCHAUDIO_AVAILABLE = module._GAMMATONE_AVAILABLE = True
    clip = torch.from_numpy(clip.astype(np.float64))
    return module.speech_reverberation_modulation_energy_ratio(clip, RATE).item()


def speechmos_value(clip: np.ndarray) -> float:
    """DNSMOS by the code of speechmos, its networks on one thread."""
    return _speechmos(np.float64(clip).tobytes())


@lru_cache(maxsize=2)
def _speechmos(clip: bytes) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = partial(onnxruntime.InferenceSession, sess_options=options)
    with mock.patch("onnxruntime.InferenceSession", session):
        from speechmos import dnsmos

        return float(dnsmos.run(np.frombuffer(clip), RATE)["ovrl_mos"])


def resemblyzer_similarity(clip: Clip) -> float:
    """Cosine by the code of Resemblyzer, without its cutting of pauses."""
    absent = {name: mock.MagicMock() for name in ("webrtcvad", "scipy.ndimage.morphology")}
    with mock.patch.dict(sys.modules, absent):
        from resemblyzer import VoiceEncoder, normalize_volume
    encoder = VoiceEncoder("cpu", verbose=False)
    points = [
        encoder.embed_utterance(normalize_volume(np.float64(sound), -30, increase_only=True))
        for sound in (clip.dry, clip.wet)
    ]
    return float(points[0] @ points[1])


def jiwer_wer(clip: Clip) -> float:
    """Word error rate by jiwer of what is heard in the room against what is heard without."""
    import jiwer

    texts = (" ".join(words.normalized_words(metrics.recognize(np.float64(c)))) for c in (clip.dry, clip.wet))
    return 100 * jiwer.wer(*texts)


def sklearn_eer(seed: int) -> float:
    """Equal error rate from scikit-learn's ROC curve."""
    from sklearn.metrics import roc_curve

    scores, same = random_scores(seed)
    alarms, hits, _ = roc_curve(same, scores, drop_intermediate=False)
    at = np.arange(len(alarms))
    root = optimize.brentq(lambda x: np.interp(x, at, alarms) - 1 + np.interp(x, at, hits), 0, at[-1])
    return 100 * float(np.interp(root, at, alarms))


def random_scores(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a thousand trials."""
    rng = np.random.default_rng(seed)
    same = rng.random(1000) < 0.3
    return rng.standard_normal(1000) + (seed % 5) * same, same
