"""Speech-to-reverberation modulation energy ratio: reverberation moves energy to fast modulations.

After Falk, Zheng and Chan, "A non-intrusive quality and intelligibility measure of reverberant and dereverberated
speech", IEEE TASLP 18 (2010), with the values of its reference implementation, the SRMR toolbox: 23 gammatone
channels from 125 Hz (Slaney, Apple technical report 35, 1993), eight modulation bands from 4 to 128 Hz with Q = 2.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from mvsd.errors import NotMeasurable
from mvsd.evaluation.metrics.clips import Samples, Waveform, checked

_NUM_CHANNELS, _LOWEST_HZ = 23, 125.0
_NUM_BANDS, _SLOWEST_HZ, _FASTEST_HZ, _Q = 8, 4.0, 128.0, 2.0
_NUM_SLOW_BANDS = 4  # those of speech; the faster ones are counted as reverberation
_WINDOW_SECONDS, _HOP_SECONDS = 0.256, 0.064
_EAR_Q, _MIN_BANDWIDTH_HZ = 9.26449, 24.7  # Glasberg and Moore (1990)


def srmr(*, estimate: Waveform, sample_rate: int) -> float:
    """Speech-to-reverberation modulation energy ratio, 0 upwards, higher is drier; needs no target.

    Energy of the modulations of 4 to some 20 Hz over that of faster ones, up to the band that the signal's own
    bandwidth reaches. The voice matters as much as the room (dry voices alone differ by a factor of five), so compare
    means over the same utterances. Falk et al., IEEE TASLP 18 (2010).
    """
    samples = checked(estimate, "estimate")
    if len(samples) < _WINDOW_SECONDS * sample_rate:
        raise NotMeasurable(
            f"SRMR needs {_WINDOW_SECONDS} s of sound, not {len(samples) / sample_rate:.3f} s"
        )
    energy = _modulation_energy(samples, sample_rate)
    last_band = _last_band(energy.sum(1), sample_rate)
    return float(energy[:, :_NUM_SLOW_BANDS].sum() / energy[:, _NUM_SLOW_BANDS:last_band].sum())


def _modulation_energy(samples: Samples, sample_rate: int) -> Samples:
    """Mean energy per window of each channel and modulation band: (T,) -> (23, 8), lowest channel first."""
    size = int(np.ceil(_WINDOW_SECONDS * sample_rate))
    hop = int(np.ceil(_HOP_SECONDS * sample_rate))
    num_windows = 1 + (len(samples) - size) // hop
    window = signal.get_window("hamming", size) ** 2
    energy = np.zeros((_NUM_CHANNELS, _NUM_BANDS))
    for channel, sections in enumerate(gammatone_filters(sample_rate)):
        envelope = np.abs(_analytic(signal.sosfilt(sections, samples)))
        for band, (b, a) in enumerate(_modulation_filters(sample_rate)):
            power = signal.lfilter(b, a, envelope) ** 2
            windows = np.lib.stride_tricks.sliding_window_view(power, size)[::hop][:num_windows]
            energy[channel, band] = (windows @ window).mean()
    return energy


def _last_band(channel_energy: Samples, sample_rate: int) -> int:
    """Number of modulation bands that count: those below the bandwidth of the channel that completes 90 %."""
    share = np.cumsum(channel_energy) / channel_energy.sum()
    bandwidth = _bandwidth(_centre_frequencies(sample_rate)[np.argmax(share > 0.9)])
    centres = np.geomspace(_SLOWEST_HZ, _FASTEST_HZ, _NUM_BANDS)
    lower_edges = centres - np.tan(np.pi * centres / sample_rate) / _Q * sample_rate / (2 * np.pi)
    return max(_NUM_SLOW_BANDS + 1, int(np.sum(lower_edges <= bandwidth)))


def _centre_frequencies(sample_rate: int) -> Samples:
    """Of the channels in Hz, lowest first, evenly spaced on the ERB scale up to half the sample rate."""
    offset = _EAR_Q * _MIN_BANDWIDTH_HZ
    spaced = np.geomspace(sample_rate / 2 + offset, _LOWEST_HZ + offset, _NUM_CHANNELS + 1)[1:]
    return np.asarray(spaced[::-1] - offset)


def _bandwidth(centre_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equivalent rectangular bandwidth in Hz."""
    return np.asarray(centre_hz / _EAR_Q + _MIN_BANDWIDTH_HZ)


@lru_cache(maxsize=4)
def gammatone_filters(sample_rate: int) -> NDArray[np.float64]:
    """Gammatone filters of order 4 as second-order sections (23, 4, 6), gain 1 at their centre; Slaney (1993)."""
    centres = _centre_frequencies(sample_rate)
    angle = 2 * np.pi * centres / sample_rate
    radius = np.exp(-1.019 * 2 * np.pi * _bandwidth(centres) / sample_rate)
    roots = np.sqrt(3 + np.array([1, -1, 1, -1]) * np.sqrt(8)) * np.array([1, 1, -1, -1])
    sections = np.zeros((_NUM_CHANNELS, 4, 6))
    sections[..., 0] = 1
    sections[..., 1] = -radius[:, None] * (np.cos(angle)[:, None] + roots * np.sin(angle)[:, None])
    sections[..., 3] = 1
    sections[..., 4] = (-2 * radius * np.cos(angle))[:, None]
    sections[..., 5] = (radius**2)[:, None]
    for channel, centre in zip(sections, centres, strict=True):
        channel[0, :3] /= abs(signal.freqz_sos(channel, [centre], fs=sample_rate)[1][0])
    return sections


@lru_cache(maxsize=4)
def _modulation_filters(sample_rate: int) -> list[tuple[Samples, Samples]]:
    """Second-order band-pass filters of the envelope, by the bilinear transform."""
    filters = []
    for centre in np.geomspace(_SLOWEST_HZ, _FASTEST_HZ, _NUM_BANDS):
        warped = np.tan(np.pi * centre / sample_rate)
        width = warped / _Q
        b = np.array([width, 0, -width])
        a = np.array([1 + width + warped**2, 2 * warped**2 - 2, 1 - width + warped**2])
        filters.append((b, a))
    return filters


def _analytic(samples: Samples) -> NDArray[np.complex128]:
    """Analytic signal, with a transform of a length that is fast."""
    return np.asarray(signal.hilbert(samples, fft.next_fast_len(len(samples)))[: len(samples)])
