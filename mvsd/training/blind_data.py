"""What the blind estimator is trained on: responses of many kinds with their measured values, and voices in them.

Simulated responses come as they are and varied; made ones cover what no simulated room has (long and very short decays,
two slopes, sparse reflections). A recording is a voice in a response, through some microphone, with some noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mvsd.blind import SAMPLE_RATE, measured_targets
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
from mvsd.errors import DataError

Samples = NDArray[np.floating[Any]]

_SPLIT_HZ = 1000.0  # between the two halves of the spectrum whose decay is varied separately
_CONTEXT_SECONDS = 2.0  # of speech before a crop, which still reverberates in it
_LOWEST_BAND_HZ = 62.5
_NUM_BANDS = 8


@dataclass(frozen=True)
class RecordingConfig:
    """How recordings differ.

    Attributes:
        cold_start: chance that nothing was said before the crop.
        noise: chance of noise.
        snr_db: its range.
        lowpass: chance of a band that ends between 3.4 and 7.5 kHz.
        highpass: chance of a band that starts between 80 and 350 Hz.
        equalizer_db: standard deviation of the microphone's gain from octave to octave.
    """

    cold_start: float = 0.4
    noise: float = 0.6
    snr_db: tuple[float, float] = (20.0, 50.0)
    lowpass: float = 0.15
    highpass: float = 0.15
    equalizer_db: float = 3.0


class Responses:
    """Responses (float16, of different lengths) and their targets (num_responses, NUM_TARGETS)."""

    def __init__(self, rooms: Shards, num_variants: int, num_made: int, seed: int) -> None:
        """Every room as it is and `num_variants` times varied, and `num_made` made ones; minutes for thousands.

        Raises:
            DataError: a room has no response, or another sample rate.
        """
        self.rirs = list[NDArray[np.float16]]()
        targets = list[NDArray[np.float32]]()

        def add(rir: Samples) -> None:
            targets.append(measured_targets(rir))
            self.rirs.append(_without_silent_end(rir).astype(np.float16))

        for index in range(len(rooms)):
            example = rooms.load(index, ("rir",))
            if example.rir is None or example.sample_rate != SAMPLE_RATE:
                raise DataError(f"{example.key} has no response at {SAMPLE_RATE} Hz; give shards of rooms")
            add(example.rir)
            for variant in range(num_variants):
                add(vary(example.rir, np.random.default_rng([seed, index, variant])))
        for index in range(num_made):
            # A number that no variant has: without any it would be the stream of the first.
            add(make(np.random.default_rng([seed, index, num_variants])))
        self.targets = np.stack(targets)

    def __len__(self) -> int:
        return len(self.rirs)


def vary(rir: Samples, generator: np.random.Generator) -> NDArray[np.float32]:
    """A response (T,) with other decays below and above 1 kHz, another level of the room, or another distance."""
    late = np.array(rir, np.float64)
    late[0] = 0
    spectrum = fft.rfft(late, 2 * len(late))
    ratio = fft.rfftfreq(2 * len(late), 1 / SAMPLE_RATE) / _SPLIT_HZ
    low = fft.irfft(spectrum / (1 + ratio**4))[: len(late)]
    # A decay that is slower than the simulated one would be cut by its end, so most become faster.
    time, change = np.arange(len(late)) / SAMPLE_RATE, generator.uniform(-3, 12)
    changes = change + generator.normal(0, 1.5, 2)
    gains = 10 ** ((generator.uniform(-8, 8) + generator.normal(0, 2, 2)) / 20)
    varied = gains[0] * low * np.exp(-changes[0] * time)
    varied += gains[1] * (late - low) * np.exp(-changes[1] * time)
    varied[0] = 1
    return np.asarray(varied, np.float32)


def make(generator: np.random.Generator) -> NDArray[np.float32]:
    """A made response: noise that decays at its own rate in each octave, sparse at first, after a direct sound."""
    rt60 = np.exp(generator.uniform(np.log(0.12), np.log(4.0)))
    tilt = np.cumsum(generator.normal(-0.04, 0.12, _NUM_BANDS))
    rt60_per_band = rt60 * np.exp(tilt - tilt[_NUM_BANDS // 2])
    num_samples = int(np.clip(1.1 * rt60_per_band.max(), 0.3, 4.0) * SAMPLE_RATE)
    time = np.arange(num_samples) / SAMPLE_RATE
    decays = 10 ** (-3 * time / rt60_per_band[:, None])
    if generator.random() < 0.3:  # a coupled space behind the room
        level = 10 ** (generator.uniform(-25, -8) / 20)
        decays += level * 10 ** (-3 * time / (generator.uniform(1.5, 3) * rt60_per_band[:, None]))
    noise = generator.standard_normal(num_samples)
    # Reflections per second rise with the square of time (Kuttruff, Room Acoustics, section 4.1).
    dense = generator.uniform(0.005, 0.12)
    chance = np.minimum(1, (time / dense) ** 2 + generator.uniform(0.001, 0.02))
    noise *= (generator.random(num_samples) < chance) / np.sqrt(chance)
    spectrum = fft.rfft(noise, 2 * num_samples)
    gains = _octave_gains(2 * num_samples) * 10 ** (generator.normal(0, 2, (_NUM_BANDS, 1)) / 20)
    late = (fft.irfft(spectrum * gains)[:, :num_samples] * decays).sum(0)
    late[: round(generator.uniform(0.0005, 0.008) * SAMPLE_RATE)] = 0  # to the first reflection
    late *= 10 ** (-generator.uniform(-12, 15) / 20) / np.sqrt(np.sum(late**2))
    late[0] = 1
    return np.asarray(late, np.float32)


class Recordings:
    """Voices in responses by number: a row is a pure function of the seed and its number."""

    def __init__(self, speech: Speech, responses: Responses, config: RecordingConfig, seed: int) -> None:
        self.speech, self.responses, self.config, self.seed = speech, responses, config, seed

    def batch(
        self, number: int, num_rows: int, num_samples: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Batch `number`: waveforms (B, T) and targets (B, NUM_TARGETS)."""
        rows = [self.row([self.seed, number, row], num_samples) for row in range(num_rows)]
        waveforms, targets = zip(*rows, strict=True)
        return np.stack(waveforms), np.stack(targets)

    def row(self, seed: list[int], num_samples: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One recording (T,) and the targets of its response."""
        generator, config = np.random.default_rng(seed), self.config
        index = int(generator.integers(len(self.responses)))
        context = 0 if generator.random() < config.cold_start else round(_CONTEXT_SECONDS * SAMPLE_RATE)
        voice = self.speech.crop(int(generator.integers(2**62)), num_samples, context)
        rir = self.responses.rirs[index].astype(np.float32)
        size = fft.next_fast_len(len(voice) + len(rir), real=True)
        spectrum = fft.rfft(voice, size) * fft.rfft(rir, size)
        frequency = fft.rfftfreq(size, 1 / SAMPLE_RATE)
        if generator.random() < config.noise:
            spectrum += self._noise(spectrum, frequency, generator)
        spectrum *= self._microphone(frequency, generator)
        recording = fft.irfft(spectrum, size)[context : context + num_samples]
        return recording.astype(np.float32), self.responses.targets[index]

    def _noise(
        self,
        spectrum: NDArray[np.complexfloating[Any, Any]],
        frequency: Samples,
        generator: np.random.Generator,
    ) -> NDArray[np.complexfloating[Any, Any]]:
        """Noise between white and brown, so and so far below the recording."""
        noise = generator.standard_normal((2, len(spectrum)), dtype=np.float32)
        shaped = (noise[0] + 1j * noise[1]) / np.maximum(frequency, 50) ** generator.uniform(0, 1)
        snr_db = generator.uniform(*self.config.snr_db)
        power = np.vdot(spectrum, spectrum).real / np.vdot(shaped, shaped).real
        return np.asarray(shaped * np.sqrt(power * 10 ** (-snr_db / 10)))

    def _microphone(self, frequency: Samples, generator: np.random.Generator) -> Samples:
        """Gain at every frequency: a smooth curve, and perhaps an end of the band."""
        config = self.config
        octaves = np.log2(np.maximum(frequency, 1) / _LOWEST_BAND_HZ)
        levels = generator.normal(0, config.equalizer_db, _NUM_BANDS)
        gain = 10 ** (np.interp(octaves, np.arange(_NUM_BANDS), levels) / 20)
        if generator.random() < config.lowpass:
            gain /= np.sqrt(1 + (frequency / generator.uniform(3400, 7500)) ** 24)
        if generator.random() < config.highpass:
            gain /= np.sqrt(1 + (generator.uniform(80, 350) / np.maximum(frequency, 1)) ** 8)
        return gain


def _octave_gains(size: int) -> Samples:
    """Gains (8, size / 2 + 1) of octaves from 62.5 Hz on whose squares add up to 1, raised-cosine between them."""
    frequency = np.maximum(fft.rfftfreq(size, 1 / SAMPLE_RATE), 1)
    octave = np.clip(np.log2(frequency / _LOWEST_BAND_HZ), 0, _NUM_BANDS - 1)
    distance = np.clip(np.abs(octave - np.arange(_NUM_BANDS)[:, None]), 0, 1)
    return np.asarray(np.cos(np.pi / 2 * distance))


def _without_silent_end(rir: Samples) -> Samples:
    """Cut where less than a millionth of the late energy is to come."""
    remaining = np.cumsum(np.square(rir[::-1], dtype=np.float64))[::-1]
    silent = remaining < 1e-6 * remaining[min(1, len(rir) - 1)]
    return rir[: max(1, int(np.argmax(silent)))] if silent.any() else rir
