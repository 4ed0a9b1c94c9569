"""Distances between magnitude spectrograms."""

from __future__ import annotations

import numpy as np

from mvsd.evaluation.metrics.clips import Samples, Waveform, checked_pair, require_rate

_FFT_SIZE, _WINDOW_SIZE, _HOP = 512, 400, 160


def stft_distance(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """Mean squared difference of linear magnitude spectrograms, 0 (identical) upwards, no unit.

    Each clip is divided by its peak; FFT 512, hop 160, Hamming window of 400 samples, frames centred, zeros
    beyond the ends. As in Chen et al., "Visual acoustic matching", CVPR 2022, and MVSD, there on clips of
    2.56 s at 16 kHz, cut from utterances that were divided by their peaks and not divided again.
    """
    reference, degraded = _magnitudes(estimate, target, sample_rate)
    return float(np.mean((degraded - reference) ** 2))


def log_stft_distance(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """As `stft_distance`, of ln(magnitude + 1e-5): what is quiet counts as much as what is loud. 0 upwards."""
    reference, degraded = _magnitudes(estimate, target, sample_rate)
    return float(np.mean((np.log(degraded + 1e-5) - np.log(reference + 1e-5)) ** 2))


def magnitude(samples: Samples) -> Samples:
    """Magnitude spectrogram of the STFT distance: (T,) -> (257, 1 + T // 160)."""
    side = (_FFT_SIZE - _WINDOW_SIZE) // 2
    window = np.pad(0.54 - 0.46 * np.cos(2 * np.pi * np.arange(_WINDOW_SIZE) / _WINDOW_SIZE), side)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, _FFT_SIZE // 2), _FFT_SIZE)[::_HOP]
    return np.abs(np.fft.rfft(frames * window)).T


def _magnitudes(estimate: Waveform, target: Waveform, sample_rate: int) -> tuple[Samples, Samples]:
    """Magnitude spectrograms (F, N) of target and estimate, each peak-normalised."""
    require_rate("the STFT distance", sample_rate)
    reference, degraded = (magnitude(clip / np.abs(clip).max()) for clip in checked_pair(target, estimate))
    return reference, degraded
