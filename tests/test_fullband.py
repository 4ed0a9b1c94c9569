"""Every rate and every channel: closed forms, and what must hold for any recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvsd.acoustics import convolve, decay_time
from mvsd.audio import resample
from mvsd.fullband import (
    SPEED_OF_SOUND,
    air_absorption,
    convert_by_estimate,
    convert_by_response,
    extend_response,
)

RATE, CORE = 48_000, 16_000
RATES = st.sampled_from([8000, 11_025, CORE, 16_001, 22_050, 37_123, 44_100, RATE, 96_000])
Convert = Callable[[Iterable[np.ndarray], int, int], Iterator[np.ndarray]]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def room(rt60: float = 0.4, num_samples: int = 8000) -> np.ndarray:
    """White noise with an exponential decay at 16 kHz, direct sound 1 at sample 0."""
    rir = noise(num_samples, seed=7) * 10 ** (-3 * np.arange(num_samples) / CORE / rt60)
    rir[:20], rir[0] = 0, 1
    return rir.astype(np.float32)


def by_response(blocks: Iterable[np.ndarray], sample_rate: int, _: int) -> Iterator[np.ndarray]:
    return convert_by_response(blocks, room(0.05, 1600), sample_rate)


def by(estimate: Callable[[np.ndarray, int], np.ndarray], size: int = 8192, overlap: int = 2048) -> Convert:
    def convert(blocks: Iterable[np.ndarray], sample_rate: int, num_channels: int) -> Iterator[np.ndarray]:
        return convert_by_estimate(blocks, estimate, sample_rate, num_channels, size=size, overlap=overlap)

    return convert


def softer_every_window(window: np.ndarray, index: int) -> np.ndarray:
    """Not linear in the channels, and another gain for every window and every 50 ms."""
    gain = np.interp(np.arange(len(window)), np.arange(0, 10_000, 800), [0.1, 1.0, 0.4] * 4 + [0.5])
    return (gain * window / (1 + 5 * np.abs(window)) / (1 + 0.1 * index)).astype(np.float32)


CONVERTS = {"response": by_response, "estimate": by(softer_every_window)}


def whole(convert: Convert, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    return np.concatenate(list(convert([waveform], sample_rate, len(waveform))), axis=1)


def level_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)) + 1e-30))


def band_of(rir: np.ndarray, sample_rate: int, centre_hz: float) -> np.ndarray:
    """A quarter of an octave with soft edges."""
    size = 2 * len(rir)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 1) / centre_hz)
    smooth = np.cos(np.pi / 2 * np.clip(8 * octaves, -1, 1)) ** 2
    return np.fft.irfft(np.fft.rfft(rir, size) * smooth)[: len(rir)]


def band_density(rir: np.ndarray, sample_rate: int, low_hz: float, high_hz: float) -> float:
    """Mean of the squared transfer function, which is the same at any rate."""
    frequency = np.fft.rfftfreq(len(rir), 1 / sample_rate)
    inside = (frequency >= low_hz) & (frequency < high_hz)
    return float(np.square(np.abs(np.fft.rfft(rir))[inside]).mean())


# ----------------------------------------------------------------------------- what holds for any recording


@pytest.mark.parametrize("name", CONVERTS)
@settings(max_examples=20)
@given(data=st.data(), sample_rate=RATES, num_channels=st.integers(1, 8))
def test_any_split_of_any_recording_gives_the_same_samples(
    name: str, data: st.DataObject, sample_rate: int, num_channels: int
) -> None:
    num_samples = data.draw(st.one_of(st.integers(1, 900), st.integers(1, 60_000 // num_channels)))
    cuts = sorted(data.draw(st.lists(st.integers(0, num_samples), max_size=5)))
    source = noise(num_channels, num_samples)
    before = source.copy()
    together = whole(CONVERTS[name], source, sample_rate)
    pieces = [source[:, start:stop] for start, stop in pairwise([0, *cuts, num_samples])]
    apart = np.concatenate(list(CONVERTS[name](pieces, sample_rate, num_channels)), axis=1)
    assert together.shape == source.shape
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    assert np.array_equal(together, apart)
    assert np.array_equal(source, before)


@pytest.mark.parametrize("name", CONVERTS)
@settings(max_examples=10)
@given(sample_rate=RATES, num_channels=st.integers(1, 8), silent=st.integers(0, 7))
def test_silence_stays_silence(name: str, sample_rate: int, num_channels: int, silent: int) -> None:
    source = noise(num_channels, 20_000)
    source[silent % num_channels] = 0
    assert not whole(CONVERTS[name], source, sample_rate)[silent % num_channels].any()
    assert not whole(CONVERTS[name], np.zeros_like(source), sample_rate).any()


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_silence_is_left_out_of_what_is_estimated(sample_rate: int) -> None:
    heard: list[int] = []

    def estimate(window: np.ndarray, _: int) -> np.ndarray:
        heard.append(len(window))
        return 0.5 * window

    def seconds(source: np.ndarray) -> list[float]:
        heard.clear()
        blocks = convert_by_estimate([source], estimate, sample_rate, 2, size=65_536, overlap=16_384)
        converted = np.concatenate(list(blocks), axis=1)
        assert converted.shape == source.shape
        silent = converted[:, sample_rate + 500 : sample_rate + sample_rate // 2 - 500]
        assert np.abs(silent).max() < 1e-8
        return [round(length / 16_000, 1) for length in heard]

    source = noise(2, 3 * sample_rate)
    source[:, sample_rate : sample_rate + sample_rate // 2] = 0
    assert seconds(source) == [2.5]
    source[0, -1] = source[1, : sample_rate // 2] = 0  # one channel alone, or one sample
    assert seconds(source) == [2.5]
    source[:, -sample_rate:] *= 1e-6  # less than a part of 30,000: no microphone's
    assert seconds(source) == [1.5]


@pytest.mark.parametrize("name", CONVERTS)
@settings(max_examples=10)
@given(sample_rate=RATES, num_channels=st.integers(2, 8))
def test_equal_channels_are_the_mono_result_bit_for_bit(
    name: str, sample_rate: int, num_channels: int
) -> None:
    source = noise(1, 20_000)
    mono = whole(CONVERTS[name], source, sample_rate)
    assert np.array_equal(
        whole(CONVERTS[name], np.repeat(source, num_channels, axis=0), sample_rate),
        np.repeat(mono, num_channels, axis=0),
    )


@pytest.mark.parametrize("name", CONVERTS)
def test_memory_is_constant(name: str) -> None:
    num_read = num_done = most = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal num_read
        for index in range(40):
            num_read += RATE // 4
            yield noise(2, RATE // 4, seed=index)

    for block in CONVERTS[name](source(), RATE, 2):
        num_done += block.shape[1]
        most = max(most, num_read - num_done)
    assert num_done == num_read
    assert most < 2 * RATE


# -------------------------------------------------------------------------------------- into a room


@pytest.mark.parametrize(
    ("celsius", "humidity", "expected"),
    [
        (10, 70, [0.4, 1.0, 1.9, 3.7, 9.7, 32.8, 117]),
        (20, 70, [0.3, 1.1, 2.8, 5.0, 9.0, 22.9, 76.6]),
        (15, 20, [0.6, 1.2, 2.7, 8.2, 28.2, 88.8, 202]),
    ],
)
def test_air_absorption_is_that_of_the_standard(
    celsius: float, humidity: float, expected: list[float]
) -> None:
    """ISO 9613-2:1996, table 2, in dB per kilometre, octaves from 125 Hz."""
    octaves = 1000 * 2.0 ** np.arange(-3, 4)
    db_per_km = 1000 * 10 * np.log10(np.e) * air_absorption(octaves, celsius=celsius, humidity=humidity)
    np.testing.assert_allclose(db_per_km, expected, rtol=0.02, atol=0.05)


@given(sample_rate=st.integers(8000, 96_000))
@settings(max_examples=8)
def test_the_direct_sound_is_exact_at_any_rate(sample_rate: int) -> None:
    rir = np.zeros(1000, np.float32)
    rir[0] = 0.7
    extended = extend_response(rir, sample_rate)
    assert extended[0] == np.float32(0.7)
    assert not extended[1:].any()
    source = noise(2, 5000)
    streamed = np.concatenate(list(convert_by_response([source], rir, sample_rate)), axis=1)
    assert np.array_equal(streamed, np.float32(0.7) * source)


@pytest.mark.parametrize("sample_rate", [8000, 44_100, RATE, 96_000])
def test_below_the_crossover_it_is_the_convolution_at_16_khz(sample_rate: int) -> None:
    rir, limit = room(), 0.9 * min(6600, sample_rate / 2)
    spectrum = np.fft.rfft(noise(CORE))
    spectrum[int(limit) :] = 0  # the recording ends below the crossover
    source = np.fft.irfft(spectrum).astype(np.float32)
    expected = resample(convolve(source, rir)[:CORE], CORE, sample_rate)
    wide = resample(source, CORE, sample_rate)
    estimate = np.concatenate(list(convert_by_response([wide[None]], rir, sample_rate)), axis=1)[0]
    late = level_db(expected - wide)
    assert level_db(estimate - expected) < late - 45


@pytest.mark.parametrize("centre_hz", [9334.0, 13_200.0, 16_631.0])
def test_above_it_energy_and_decay_follow_from_the_top_band_and_the_air(centre_hz: float) -> None:
    """A room that decays alike at all frequencies: what differs above is the air's alone."""
    rt60, rir = 0.8, room(0.8, 24_000)
    extended = extend_response(rir, RATE)
    known, here = air_absorption(np.sqrt(5000 * 7000)), air_absorption(centre_hz)
    faster = float(here - known) * SPEED_OF_SOUND
    band = band_of(extended[1:], RATE, centre_hz)
    wanted = 6 * np.log(10) / (6 * np.log(10) / rt60 + faster)
    assert decay_time(band[RATE // 20 :], RATE) == pytest.approx(wanted, rel=0.1)
    reference = band_of(rir, CORE, 6000)[CORE // 20 : CORE // 10]
    change_db = level_db(band[RATE // 20 : RATE // 10]) - level_db(reference)
    # The same share of an octave is wider higher up, and a response at a higher rate is smaller.
    wider_db = 10 * np.log10(centre_hz / 6000) + 20 * np.log10(CORE / RATE)
    assert change_db - wider_db == pytest.approx(-10 * np.log10(np.e) * faster * 0.075, abs=1.5)


def test_the_seed_decides_what_is_above_the_crossover_and_nothing_below() -> None:
    first, again, other = (extend_response(room(), RATE, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    difference = first.astype(float) - other
    assert band_density(difference, RATE, 7500, 20_000) > 1000 * band_density(difference, RATE, 0, 6000)


def test_at_16_khz_a_response_stays_as_it_is() -> None:
    rir = room()
    assert np.array_equal(extend_response(rir, CORE), rir)


# ------------------------------------------------------------------------------------ out of a room


@settings(max_examples=15)
@given(sample_rate=RATES, num_channels=st.integers(1, 4))
def test_an_estimate_that_changes_nothing_leaves_the_recording(sample_rate: int, num_channels: int) -> None:
    source = noise(num_channels, 30_000)
    estimate = whole(by(lambda window, _: window), source, sample_rate)
    np.testing.assert_allclose(estimate, source, atol=0 if num_channels == 1 else 1e-6)


@pytest.mark.parametrize("gain", [0.5, 0.1, 0.01])
def test_the_band_above_follows_the_top_band(gain: float) -> None:
    """The core lowers everything by a factor; what it cannot hear is lowered by its power of 0.7."""
    time = np.arange(2 * RATE) / RATE
    low, high = (np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (6000, 13_000))
    estimate = whole(by(lambda window, _: np.float32(gain) * window), (low + high)[None], RATE)[0]
    middle = slice(RATE // 2, 3 * RATE // 2)
    np.testing.assert_allclose(estimate[middle], (gain * low + gain**0.7 * high)[middle], atol=2e-3)


def test_what_the_core_makes_louder_is_not_made_louder_above() -> None:
    time = np.arange(RATE) / RATE
    source = np.sin(2 * np.pi * 13_000 * time).astype(np.float32)[None] + noise(1, RATE)
    low = resample(resample(source, RATE, CORE), CORE, RATE, num_samples=RATE)
    estimate = whole(by(lambda window, _: 2 * window), source, RATE)
    np.testing.assert_allclose(estimate, source + low, atol=1e-4)


def test_windows_leave_no_seam() -> None:
    source = noise(2, 3 * RATE)

    def estimate(window: np.ndarray, _: int) -> np.ndarray:
        return (0.3 * window).astype(np.float32)

    pieces = whole(by(estimate), source, RATE)
    once = whole(by(estimate, size=4 * CORE, overlap=0), source, RATE)
    assert level_db(pieces - once) < level_db(once) - 40


def test_a_panned_voice_stays_where_it_is() -> None:
    voice = noise(2 * RATE) * np.sin(np.arange(2 * RATE) / 4000).astype(np.float32) ** 2
    pan = np.array([[1.0], [0.3], [-0.5]], np.float32)
    estimate = whole(by(softer_every_window), pan * voice, RATE)
    level = np.sqrt(np.square(estimate).mean(axis=1))
    np.testing.assert_allclose(level / level[0], [1, 0.3, 0.5], rtol=1e-3)
    np.testing.assert_allclose(estimate, pan * estimate[0], atol=1e-4)


@pytest.mark.parametrize("sample_rate", [CORE, RATE])
def test_a_channel_that_is_turned_over_does_not_cancel_the_other(sample_rate: int) -> None:
    voice = noise(1, 20_000)
    made = whole(by(lambda window, _: np.float32(0.5) * window), np.concatenate([voice, -voice]), sample_rate)
    np.testing.assert_allclose(made[1], -made[0], atol=1e-5)
    assert level_db(made[0]) > level_db(voice) - 8


def wander_db(estimate: np.ndarray, source: np.ndarray) -> float:
    """Root mean square of the change of the level difference in frames of 20 ms."""
    levels = [
        np.square(waveform.reshape(2, -1, RATE // 50)).mean(axis=2) + 1e-12 for waveform in (estimate, source)
    ]
    differences = [10 * np.log10(left / right) for left, right in levels]
    return float(np.std(differences[0] - differences[1]))


def test_the_image_wanders_less_than_channel_by_channel() -> None:
    """Two channels that share a voice and have room of their own, and an estimate that gates each by its level."""

    def gated(window: np.ndarray, _: int) -> np.ndarray:
        power = np.convolve(np.square(window), np.ones(256) / 256, "same")
        return (window * power / (power + 0.01)).astype(np.float32)

    voice = noise(4 * RATE, seed=1) * np.sin(np.arange(4 * RATE) / 5000).astype(np.float32) ** 4
    source = np.stack([voice, 0.5 * voice]) + 0.3 * noise(2, 4 * RATE, seed=2)
    linked = whole(by(gated), source, RATE)
    separate = np.concatenate([whole(by(gated), channel[None], RATE) for channel in source])
    assert wander_db(linked, source) < 0.5 * wander_db(separate, source)
