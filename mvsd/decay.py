"""Bending a room's response to another reverberation time.

The late part is split into octaves, and each is multiplied by an exponential. As every octave's reverberation time
changes by the same factor, the room keeps its colour: what was duller stays duller. The exponential is 1 at the direct
sound, so the energy of an exponential tail grows with its reverberation time, as Sabine's theory has it for the same
room with other walls: the direct-to-reverberant ratio moves by -10 log10(new / old), of that tail. The result's
reverberation time is measured, and the factor corrected until it is the wanted one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mvsd.acoustics import decay_time
from mvsd.errors import MvsdError, NotMeasurable

Samples = NDArray[np.float64]

RT60_RANGE = (0.1, 10.0)  # seconds: from a cupboard to a cathedral
DIRECT_SECONDS = 0.0025  # of the direct sound, as in `mvsd.acoustics.drr_db`

_LOWEST_BAND_HZ = 125.0
_NOTICEABLE = 0.05  # the relative difference that is just noticeable (ISO 3382-1, table A.1)
_TOLERANCE = _NOTICEABLE / 10
_MAX_TRIES = 20
_FADE_SECONDS = 0.02
_TRUSTED_DB = 30.0  # of a band's decay; what lies below is continued by noise of the same decay


def require_rt60(rt60: float) -> None:
    """Raise MvsdError for a reverberation time that cannot be made."""
    low, high = RT60_RANGE
    if not low <= rt60 <= high:
        raise MvsdError(
            f"a reverberation time of {rt60:g} s was asked for; {low:g} to {high:g} s can be made"
        )


def bend_decay(
    rir: NDArray[np.floating], sample_rate: int, rt60: float, *, seed: int = 0
) -> NDArray[np.float32]:
    """A response whose broadband T20 is `rt60` seconds: (R,), direct sound at sample 0 -> (S,), S >= R.

    Where the direct sound is so strong that the whole has no T20, it is the T20 of what follows. Sample 0 stays as it
    was. Below 30 dB of its decay each octave is continued by noise drawn from `seed`: there a lengthened response would
    show the floor of the one given, and end with it. S holds the whole decay to -60 dB.

    Raises:
        NotMeasurable: the response shows no decay that could be bent, or not to that time.
        MvsdError: `rt60` lies outside 0.1 to 10 seconds.
    """
    require_rt60(rt60)
    before = _broadband_time(rir, sample_rate)
    late = np.array(rir, np.float64)
    direct, late[0] = late[0], 0.0
    reverberation = late[round(DIRECT_SECONDS * sample_rate) :]
    times = [_band_time(reverberation, sample_rate, band_hz, before) for band_hz in _centres(sample_rate)]
    num_samples = max(len(late), round(sample_rate * rt60 * 1.2 * max(1.0, max(times) / before)))
    bands = _continued(_octaves(late, sample_rate), times, sample_rate, num_samples, seed)
    factor, nearest, best = rt60 / before, np.inf, late
    for _ in range(_MAX_TRIES):
        bent = _bent(bands, times, sample_rate, factor)
        bent[0] += direct
        measured = _broadband_time(bent, sample_rate)
        if abs(measured / rt60 - 1) < abs(nearest / rt60 - 1):
            nearest, best = measured, bent
        if abs(measured / rt60 - 1) < _TOLERANCE:
            break
        factor *= (rt60 / measured) ** 0.7  # single early reflections make the measure jump
    if abs(nearest / rt60 - 1) > _NOTICEABLE:
        raise NotMeasurable(
            f"the response decays in {before:.2f} s and cannot be bent to {rt60:g} s; {nearest:.2f} s is the nearest"
        )
    return best.astype(np.float32)


def _broadband_time(rir: NDArray[np.floating], sample_rate: int) -> float:
    """T20; where the direct sound holds nearly all the energy, that of what follows it."""
    try:
        return decay_time(rir, sample_rate)
    except NotMeasurable:
        return decay_time(rir[round(DIRECT_SECONDS * sample_rate) :], sample_rate)


def _bent(bands: Samples, times: list[float], sample_rate: int, factor: float) -> Samples:
    """Sum of the bands (K, S), each with its reverberation time multiplied by `factor`: (S,)."""
    seconds = np.arange(bands.shape[1]) / sample_rate
    slopes_db = -60.0 / np.array(times) * (1.0 / factor - 1.0)  # per second
    gains = 10.0 ** np.minimum(slopes_db[:, None] * seconds / 20.0, 300.0)
    return np.asarray((bands * gains).sum(axis=0))


def _band_time(rir: NDArray[np.floating], sample_rate: int, band_hz: float, whole: float) -> float:
    """T20 of an octave; that of the whole where the octave has none of its own, or one that is beyond belief."""
    try:
        time = decay_time(rir, sample_rate, band_hz=band_hz)
    except NotMeasurable:
        return whole
    return time if 0.2 < time / whole < 5 else whole


def _centres(sample_rate: int) -> list[float]:
    """Centres of the octaves from 125 Hz that lie below half the sample rate with their upper edge."""
    centres = []
    band_hz = _LOWEST_BAND_HZ
    while band_hz * np.sqrt(2) < sample_rate / 2:
        centres.append(band_hz)
        band_hz *= 2
    return centres


def _octaves(samples: Samples, sample_rate: int) -> Samples:
    """Split into octaves without delay: (R,) -> (K, R), whose sum is the whole; the outer ones hold the rest."""
    centres = _centres(sample_rate)
    size = fft.next_fast_len(2 * len(samples), real=True)
    frequency = np.maximum(fft.rfftfreq(size, 1 / sample_rate), 1e-9)
    position = np.log2(frequency / _LOWEST_BAND_HZ)[None] - np.arange(len(centres) - 1)[:, None]
    # Raised cosines an octave wide, from one centre to the next.
    below = 0.5 + 0.5 * np.cos(np.pi * np.clip(position, 0, 1))
    weights = np.diff(
        np.concatenate([np.zeros((1, len(frequency))), below, np.ones((1, len(frequency)))]), axis=0
    )
    return np.asarray(fft.irfft(weights * fft.rfft(samples, size), size, axis=1)[:, : len(samples)])


def _continued(bands: Samples, times: list[float], sample_rate: int, num_samples: int, seed: int) -> Samples:
    """The bands (K, R), each continued by noise with its own decay: (K, S)."""
    noise = np.random.default_rng(seed).standard_normal(num_samples)
    rows = [
        _continue(band, tail, time, sample_rate)
        for band, tail, time in zip(bands, _octaves(noise, sample_rate), times, strict=True)
    ]
    return np.stack(rows)


def _continue(band: Samples, noise: Samples, time: float, sample_rate: int) -> Samples:
    """A band (R,) that passes into noise (S,) where it is 30 dB below its start, or ends."""
    fade = round(_FADE_SECONDS * sample_rate)
    seconds = np.arange(len(noise)) / sample_rate
    tail = noise * 10.0 ** (-3.0 * seconds / time)
    stop = min(len(band), max(2 * fade, round(_TRUSTED_DB / 60.0 * time * sample_rate)))
    window = slice(max(0, stop - max(2 * fade, round(time * sample_rate / 6))), stop)  # its last 10 dB
    tail *= np.sqrt(np.sum(band[window] ** 2) / max(np.sum(tail[window] ** 2), 1e-300))
    turn = np.arange(1, fade + 1) / fade * np.pi / 2
    tail[stop - fade : stop] *= np.sin(turn)
    tail[: stop - fade] = band[: stop - fade]
    tail[stop - fade : stop] += band[stop - fade : stop] * np.cos(turn)
    return tail
