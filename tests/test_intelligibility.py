"""The intelligibility loss: zero where nothing differs, blind to level, and beside pystoi where it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import voices

from mvsd.audio import load_audio
from mvsd.example import SAMPLES
from mvsd.intelligibility import IntelligibilityLoss


@pytest.fixture(scope="module")
def voice() -> torch.Tensor:
    waveform, sample_rate = load_audio(SAMPLES / "voice.flac")
    assert sample_rate == 16_000
    return torch.from_numpy(waveform[:1])


@pytest.fixture(scope="module")
def loss() -> IntelligibilityLoss:
    return IntelligibilityLoss()


def degraded(voice: torch.Tensor) -> list[torch.Tensor]:
    """The voice in eight rooms and in eight noises."""
    return [torch.from_numpy(sound)[None] for sound in voices.degraded(voice[0].numpy(), range(-10, 30, 5))]


def test_of_a_voice_to_itself_at_any_level_is_zero(voice: torch.Tensor, loss: IntelligibilityLoss) -> None:
    for gain in (0.01, 1.0, 30.0):
        assert loss(gain * voice, voice).item() == pytest.approx(0, abs=1e-3)


def test_unrelated_noise_leaves_nothing(voice: torch.Tensor, loss: IntelligibilityLoss) -> None:
    noise = torch.randn(voice.shape, generator=torch.Generator().manual_seed(1))
    assert loss(noise, voice).item() == pytest.approx(1, abs=0.1)


def test_is_what_pystoi_measures(voice: torch.Tensor, loss: IntelligibilityLoss) -> None:
    pystoi = pytest.importorskip("pystoi")
    for sound in degraded(voice):
        metric = pystoi.stoi(voice[0].numpy(), sound[0].numpy(), 16_000, extended=True)
        assert 1 - loss(sound, voice).item() == pytest.approx(metric, abs=0.05)


def test_rows_do_not_know_of_each_other(voice: torch.Tensor, loss: IntelligibilityLoss) -> None:
    sounds = degraded(voice)
    together = loss(torch.cat(sounds), voice.expand(len(sounds), -1))
    alone = torch.cat([loss(sound, voice) for sound in sounds])
    np.testing.assert_allclose(together.numpy(), alone.numpy(), atol=1e-4)


def test_following_its_gradient_makes_words_clearer(voice: torch.Tensor, loss: IntelligibilityLoss) -> None:
    target = voice[:, 16_000:48_000]
    sound = degraded(target)[4].requires_grad_()
    before = loss(sound, target)
    before.sum().backward()
    assert sound.grad is not None
    step = 0.05 * sound.detach().norm() / sound.grad.norm()
    assert loss(sound.detach() - step * sound.grad, target).item() < before.item() - 0.01


def test_has_a_finite_gradient_for_silence_and_very_short_clips(
    voice: torch.Tensor, loss: IntelligibilityLoss
) -> None:
    for target in (torch.zeros_like(voice), voice[:, 20_000:20_600]):
        estimate = (0.5 * target + 1e-4).requires_grad_()
        value = loss(estimate, target)
        value.sum().backward()
        assert 0 <= value.item() <= 2
        assert estimate.grad is not None
        assert estimate.grad.isfinite().all()
