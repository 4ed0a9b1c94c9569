"""The late reverberation that an estimate explains: found where it is known, never more than the estimate tells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from mvsd.convolutive import late_reverberation
from mvsd.evaluation.metrics import si_sdr_db

RATE = 16_000
LATE = 1024  # samples: two frames of the transform, and its window's half


def speech_like(num_samples: int, seed: int = 0) -> np.ndarray:
    """Noise in syllables, with pauses."""
    generator = np.random.default_rng(seed)
    envelope = np.repeat(generator.uniform(0, 1, -(-num_samples // 2400)) ** 3, 2400)[:num_samples]
    return envelope * generator.standard_normal(num_samples)


def room(delay: int, seed: int = 1) -> np.ndarray:
    """A direct sound and a tail of 0.3 s that begins `delay` samples later."""
    generator = np.random.default_rng(seed)
    tail = 0.05 * generator.standard_normal(4000) * np.exp(-np.arange(4000) / 1500)
    return np.concatenate([[1.0], np.zeros(delay - 1), tail])


def found(recording: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    return late_reverberation(torch.from_numpy(recording)[None], torch.from_numpy(estimate)[None])[0].numpy()


def test_the_true_voice_explains_what_comes_late() -> None:
    """Two seconds of a known voice give the tail to within a tenth of its energy, and nothing of the voice."""
    dry = speech_like(5 * RATE)
    late = fftconvolve(dry, room(LATE))[: len(dry)] - dry
    estimate = found(dry + late, dry)
    assert np.sum((estimate - late) ** 2) < 0.15 * np.sum(late**2)
    assert si_sdr_db(estimate=dry + late - estimate, target=dry, sample_rate=RATE) > 6 + si_sdr_db(
        estimate=dry + late, target=dry, sample_rate=RATE
    )


def test_of_a_recording_that_its_estimate_all_but_equals_nothing_is_taken() -> None:
    """A voice predicts a little of itself, which is not a room's; in between there is a share of what is found."""
    dry, other = speech_like(5 * RATE), speech_like(5 * RATE, seed=5)
    other *= np.sqrt(np.sum(dry**2) / np.sum(other**2))
    recordings = [dry + 10 ** (level_db / 20) * other for level_db in (-20, -12.5, -8)]
    sizes = [np.sqrt(np.sum(found(recording, dry) ** 2)) for recording in recordings]
    assert sizes[0] == 0 < sizes[1] < 0.7 * sizes[2]


def test_an_echo_before_the_first_tap_stays() -> None:
    """The estimate is filtered from 32 ms on: what the room does sooner is the network's part."""
    dry = speech_like(5 * RATE)
    early = np.concatenate([[1.0], np.zeros(79), [0.7]])  # 5 ms later
    recording = fftconvolve(dry, early)[: len(dry)]
    assert np.sum(found(recording, dry) ** 2) < 0.1 * np.sum(recording**2)


@settings(max_examples=20, deadline=None)
@given(num_samples=st.integers(1, 6000), gain=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_level_of_either_does_not_matter(num_samples: int, gain: float, seed: int) -> None:
    recording, estimate = speech_like(num_samples, seed) + 0.01, speech_like(num_samples, seed + 1)
    expected = found(recording, estimate)
    assert expected.shape == (num_samples,) and np.isfinite(expected).all()
    scale = np.abs(recording).max()
    np.testing.assert_allclose(found(gain * recording, gain * estimate) / gain, expected, atol=0.01 * scale)


@pytest.mark.parametrize("silent", ["recording", "estimate", "both"])
def test_silence_explains_nothing_and_needs_no_explanation(silent: str) -> None:
    sound, nothing = speech_like(RATE), np.zeros(RATE)
    late = found(nothing if silent != "estimate" else sound, nothing if silent != "recording" else sound)
    assert np.abs(late).max() < 1e-3


def test_rows_do_not_know_of_each_other_and_no_gradient_goes_through() -> None:
    recordings, estimates = (
        torch.from_numpy(np.stack([speech_like(RATE, seed), speech_like(RATE, seed + 1)])).requires_grad_()
        for seed in (0, 2)
    )
    late = late_reverberation(recordings, estimates)
    assert not late.requires_grad
    for row in range(2):
        one = late_reverberation(recordings[row : row + 1], estimates[row : row + 1])
        torch.testing.assert_close(late[row : row + 1], one, atol=1e-4, rtol=1e-3)
