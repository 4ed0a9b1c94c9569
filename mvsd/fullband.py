"""Every rate and every channel from a core that hears one channel at 16 kHz (docs/fullband.md).

Into a room: the response that was generated at 16 kHz is continued above the core's band (`extend_response`) and the
recording is convolved at its own rate. Out of a room: the core converts one mixture of the channels; every channel
follows by the same filters (`_link`), so that the image does not wander, and the band above the core's follows by a
gain that says how much of the core's top band was room (`_top_gain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

from mvsd.audio import resampled_length
from mvsd.blockwise import CORE_RATE, Blocks, add_change
from mvsd.streaming import convolve_blocks, overlap_windows

FloatArray = NDArray[np.floating]
Estimate = Callable[[np.ndarray, int], np.ndarray]
"""One channel of a window (n,) at 16 kHz and the window's index -> what the core makes of it (n,)."""

SPEED_OF_SOUND = 343.0  # metres per second
TOP_EXPONENT = 0.7
"""Of the gain above the core's band, as a power of that in its top band; chosen in benchmarks/fullband.py."""

_CROSSOVER_HZ = (6600.0, 7200.0)  # below the edge that resampling to 16 kHz leaves in a response
_TOP_HZ = (5000.0, 7000.0)  # the core's top band, from which the bands above are continued
_ENVELOPE_SECONDS = 0.004
_FFT_SIZE, _HOP = 512, 128
_TRANSFORM = {"nperseg": _FFT_SIZE, "noverlap": _FFT_SIZE - _HOP}
_NUM_FRAMES = 5  # over which channels are compared
_OPPOSITE = -0.3  # correlation from which on a channel counts as turned over
_SILENT_DB, _SILENT_SECONDS = -90.0, 0.02  # below a window's peak for so long is what no microphone records


def convert_by_response(
    blocks: Blocks, rir: FloatArray, sample_rate: int, *, seed: int = 0
) -> Iterator[np.ndarray]:
    """Convolve a stream of (C, n) blocks at any rate with a response (R,) at 16 kHz; see `extend_response`."""
    yield from convolve_blocks(blocks, extend_response(rir, sample_rate, seed=seed))


def extend_response(rir: FloatArray, sample_rate: int, *, seed: int = 0) -> NDArray[np.float32]:
    """A response (R,) at 16 kHz, direct sound at sample 0 -> the same room's response at `sample_rate`.

    Sample 0 keeps its value, the unit impulse of the direct sound. Below 6.6 kHz the rest is the response itself; above
    7.2 kHz it is noise, drawn from `seed`, whose energy in each third of an octave follows that of the response between
    5 and 7 kHz, shortened by what the air absorbs more at that frequency (`air_absorption`). The length is R in
    seconds; at 16 kHz the response comes back as it is, below it is band-limited.
    """
    if sample_rate == CORE_RATE:
        return np.array(rir, np.float32)
    late = np.array(rir, np.float64)
    direct, late[0] = late[0], 0.0
    seconds = 2 * -(-len(late) // CORE_RATE)  # whole, so that bins at either rate are at the same frequencies
    frequency = np.arange(sample_rate * seconds // 2 + 1) / seconds
    known = fft.rfft(late, CORE_RATE * seconds)
    spectrum = np.zeros(len(frequency), np.complex128)
    spectrum[: len(known)] = known[: len(frequency)]
    if sample_rate > CORE_RATE:
        start, stop = _CROSSOVER_HZ
        turn = np.pi / 2 * np.clip((frequency - start) / (stop - start), 0, 1)
        above = _noise_above(known, sample_rate, seconds, np.random.default_rng(seed))
        spectrum = np.cos(turn) * spectrum + np.sin(turn) * above
    num_samples = resampled_length(len(late), CORE_RATE, sample_rate)
    extended = fft.irfft(spectrum, sample_rate * seconds)[:num_samples]
    extended[0] = direct
    return np.asarray(extended, np.float32)


def air_absorption(
    frequency_hz: FloatArray | float, *, celsius: float = 20.0, humidity: float = 50.0
) -> NDArray[np.float64]:
    """Energy that air absorbs per metre (1 / m) at normal pressure; `humidity` is relative, in percent.

    ISO 9613-1:1993, equations 3 to 5 and B.2, B.3. 4.343 times as much is the attenuation in dB per metre.
    """
    kelvin, hertz = celsius + 273.15, np.asarray(frequency_hz, np.float64)
    warmth = kelvin / 293.15
    saturation = 10 ** (-6.8346 * (273.16 / kelvin) ** 1.261 + 4.6151)
    water = humidity * saturation  # molar concentration in percent
    oxygen = 24 + 4.04e4 * water * (0.02 + water) / (0.391 + water)
    nitrogen = warmth**-0.5 * (9 + 280 * water * np.exp(-4.17 * (warmth ** (-1 / 3) - 1)))
    relaxation = 0.01275 * np.exp(-2239.1 / kelvin) / (oxygen + hertz**2 / oxygen)
    relaxation += 0.1068 * np.exp(-3352.0 / kelvin) / (nitrogen + hertz**2 / nitrogen)
    return np.asarray(2 * hertz**2 * (1.84e-11 * warmth**0.5 + warmth**-2.5 * relaxation))


def _noise_above(
    known: NDArray[np.complex128], sample_rate: int, seconds: int, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Spectrum of noise that decays as the top band of a response does, from its spectrum at 16 kHz.

    Both hold `seconds` of sound, bin by bin: (8000 seconds + 1,) -> (sample_rate seconds / 2 + 1,).
    """
    low_hz, high_hz = _TOP_HZ
    top = np.zeros_like(known)
    inside = slice(round(low_hz * seconds), round(high_hz * seconds))
    top[inside] = known[inside]
    window = np.hanning(round(_ENVELOPE_SECONDS * CORE_RATE) + 1)
    energy = ndimage.convolve1d(fft.irfft(top, CORE_RATE * seconds) ** 2, window / window.sum())
    time = np.arange(sample_rate * seconds) / sample_rate
    energy = np.interp(time, np.arange(CORE_RATE * seconds) / CORE_RATE, energy)
    # White noise of the same density has more energy than the band; at a higher rate a response is smaller.
    energy *= sample_rate / 2 / (high_hz - low_hz) * (CORE_RATE / sample_rate) ** 2
    noise = rng.standard_normal(len(time)) * np.sqrt(energy)
    # Third octaves fade into each other: sharp edges would ring for longer than the room.
    third = 3 * np.log2(np.maximum(np.arange(len(time) // 2 + 1) / seconds, 1) / _CROSSOVER_HZ[0])
    spectrum = np.zeros(len(third), np.complex128)
    for index in range(int(third[-1]) + 2):
        centre_hz = _CROSSOVER_HZ[0] * 2 ** (index / 3)
        more = air_absorption(centre_hz) - air_absorption(np.sqrt(low_hz * high_hz))
        band = np.clip(1 - np.abs(third - index), 0, 1)
        spectrum += band * fft.rfft(noise * np.exp(-more * SPEED_OF_SOUND * time / 2))
    return spectrum


# ------------------------------------------------------------------------------------- out of a room


def convert_by_estimate(
    blocks: Blocks, estimate: Estimate, sample_rate: int, num_channels: int, *, size: int, overlap: int
) -> Iterator[np.ndarray]:
    """Convert a stream of (C, n) blocks at any rate by an `estimate` of one channel at 16 kHz; in constant memory.

    `size` and `overlap` are those of `overlap_windows`, in samples at 16 kHz. What the estimate changes is resampled
    and added to the recording. Above 16 kHz the rest of the recording, which the core does not see, is multiplied by
    the gain of `_top_gain`. As many samples come out as go in, and silence stays silence: the estimate does not hear
    it, but what sounds before and after it put together, since a room that ends at once looks like no room at all.
    """

    def change(window: np.ndarray, index: int) -> np.ndarray:
        changed = np.zeros_like(window)
        sounds = _sounds(window[:num_channels])
        if sounds.any():
            changed[:, sounds] = change_part(window[:, sounds], index)
        return changed

    def change_part(window: np.ndarray, index: int) -> np.ndarray:
        """(C, n) -> (C, n); of a wide stream (2 C + 1, n), see `_wide`, what makes it estimate, rest and gain - 1."""
        source = window[:num_channels]
        mixture = _mixture(source)
        dry = estimate(mixture, index)
        changed: np.ndarray = _link(source, mixture, dry) - source
        if not is_wide:
            return changed
        return np.concatenate([changed, -source, _top_gain(mixture, dry)[None] - 1])

    is_wide = sample_rate > CORE_RATE
    stream, num_rows = (_wide(blocks), 2 * num_channels + 1) if is_wide else (blocks, num_channels)
    changed = add_change(
        stream, sample_rate, num_rows, lambda low: overlap_windows(low, change, size, overlap)
    )
    for block in changed:
        dry, above, gain = np.split(block, [num_channels, 2 * num_channels])
        yield dry + gain * above if is_wide else dry


def _wide(blocks: Blocks) -> Iterator[np.ndarray]:
    """(C, n) -> (2 C + 1, n): the recording to be converted, itself to be freed of the core's band, and no gain."""
    for block in blocks:
        yield np.concatenate([block, block, np.zeros_like(block[:1])])


def _sounds(window: np.ndarray) -> NDArray[np.bool_]:
    """False in silences of 20 ms or more, all channels 90 dB below the peak: (C, n) -> (n,)."""
    level = np.abs(window).max(axis=0)
    silent = level <= level.max() * 10 ** (_SILENT_DB / 20)
    for start, stop in np.flatnonzero(np.diff(silent, prepend=False, append=False)).reshape(-1, 2):
        if stop - start < min(round(_SILENT_SECONDS * CORE_RATE), len(level)):
            silent[start:stop] = False
    sounds: NDArray[np.bool_] = ~silent
    return sounds


def _mixture(window: np.ndarray) -> np.ndarray:
    """Mean of the channels (C, n) -> (n,); one that is turned over against the loudest is turned back first."""
    if (window == window[0]).all():
        return np.asarray(window[0])
    energy = np.square(window).sum(axis=1)
    loudest = int(energy.argmax())
    correlation = (window @ window[loudest]) / np.sqrt(np.maximum(energy * energy[loudest], 1e-30))
    signs = np.where(correlation < _OPPOSITE, -1, 1)
    return np.asarray((signs[:, None] * window).mean(axis=0), np.float32)


def _link(window: np.ndarray, mixture: np.ndarray, dry: np.ndarray) -> np.ndarray:
    """What became of the mixture (n,), carried over to every channel: (C, n), (n,), (n,) -> (C, n).

    In each bin of a spectrogram, by least squares over five frames, a channel is a times the mixture and the estimate
    g times the mixture. The estimate is put where the mixture was, by a, and what a leaves of the channel goes through
    the same filter as the mixture: a estimate + g (channel - a mixture). Equal channels (a = 1) are the estimate.
    """
    if (window == mixture).all():
        return np.repeat(dry[None], len(window), axis=0)
    spectrum, mixed, estimate = spectrogram(window), spectrogram(mixture), spectrogram(dry)
    power = _over_frames(mixed * mixed.conj()).real
    floor = 1e-4 * power.mean(axis=-1, keepdims=True) + 1e-12
    # Where the mixture is weak, a and g are those of the whole window.
    shares, gains = (samples @ mixture / (mixture @ mixture + 1e-12) for samples in (window, dry))
    share = (_over_frames(spectrum * mixed.conj()) + floor * shares[:, None, None]) / (power + floor)
    gain = (_over_frames(estimate * mixed.conj()) + floor * gains) / (power + floor)
    return waveform_of(share * estimate + gain * (spectrum - share * mixed), window.shape[1])


def _top_gain(source: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Gain 0..1 for what lies above the core's band: (n,), (n,) -> (n,).

    The root of the energy that the estimate left of the source between 5 and 7 kHz, to the power 0.7: the air leaves
    less of the room's sound in higher bands (measured in benchmarks/fullband.py).
    """
    low_hz, high_hz = _TOP_HZ
    inside = slice(*(round(hertz * _FFT_SIZE / CORE_RATE) for hertz in (low_hz, high_hz)))
    before, after = (
        np.square(np.abs(spectrogram(samples)[inside])).sum(axis=0) for samples in (source, estimate)
    )
    floor = 1e-8 * before.mean() + 1e-12
    gain = np.minimum((after + floor) / (before + floor), 1.0) ** (TOP_EXPONENT / 2)
    return np.asarray(np.interp(np.arange(len(source)), _HOP * np.arange(len(gain)), gain), np.float32)


def spectrogram(samples: np.ndarray) -> NDArray[np.complex128]:
    """Short-time spectrum of samples at 16 kHz, in frames of 32 ms every 8 ms: (..., n) -> (..., F, N)."""
    padded = np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, max(0, _FFT_SIZE - samples.shape[-1]))])
    return np.asarray(signal.stft(padded, **_TRANSFORM)[2])


def waveform_of(spectrum: NDArray[np.complex128], num_samples: int) -> NDArray[np.float32]:
    """The inverse of `spectrogram`: (..., F, N) -> (..., num_samples)."""
    return np.asarray(signal.istft(spectrum, **_TRANSFORM)[1][..., :num_samples], np.float32)


def _over_frames(values: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Mean over the frames around each."""
    return np.asarray(ndimage.uniform_filter1d(values, _NUM_FRAMES, axis=-1, mode="nearest"))
