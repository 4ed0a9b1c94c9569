"""Sounds that the tests of the metrics share: something like a voice, and rooms of which all is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import signal

from mvsd.acoustics import convolve

RATE = 16_000


def voice(seconds: float = 3.0, seed: int = 1) -> np.ndarray:
    """Pulses of a voice pitch and noise through a formant-like filter, in syllables."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    source = signal.square(2 * np.pi * 120 * time, 0.1) + 0.1 * rng.standard_normal(len(time))
    formants = sum(
        signal.lfilter(*signal.iirpeak(hz, 4, RATE), source) for hz in (500, 1500, 2500, 4500, 6500)
    )
    syllables = np.clip(np.sin(2 * np.pi * 3 * time) + 0.3, 0, None)
    return (0.3 * formants * syllables / np.abs(formants).max()).astype(np.float32)


def room(rt60: float, drr: float, seed: int = 0, seconds: float = 1.0) -> np.ndarray:
    """A unit impulse and a decaying noise with the energy that `drr` leaves it."""
    time = np.arange(round(seconds * RATE)) / RATE
    rir = np.random.default_rng(seed).standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    rir[:41] = 0
    rir /= np.sqrt(np.sum(rir**2) * 10 ** (drr / 10))
    rir[0] = 1
    return rir


def in_room(waveform: np.ndarray, rir: np.ndarray) -> np.ndarray:
    """The recording in the room, cut to its length."""
    return convolve(waveform, rir)[: len(waveform)]


def degraded(waveform: np.ndarray, levels_db: Sequence[float]) -> list[np.ndarray]:
    """The recording in a room, and in noise, at each direct-to-reverberant and signal-to-noise ratio."""
    sounds = []
    for seed, level in enumerate(levels_db):
        noise = np.random.default_rng(1000 + seed).standard_normal(len(waveform))
        noise *= waveform.std() * 10 ** (-level / 20)
        sounds += [in_room(waveform, room(0.7, level, seed, 0.5)), waveform + noise]
    return [sound.astype(np.float32) for sound in sounds]
