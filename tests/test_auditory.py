"""The auditory distance: zero where nothing differs, blind to level, and on the side of PESQ where it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import voices

from mvsd.audio import load_audio
from mvsd.auditory import AuditoryDistance
from mvsd.example import SAMPLES


@pytest.fixture(scope="module")
def voice() -> torch.Tensor:
    waveform, sample_rate = load_audio(SAMPLES / "voice.flac")
    assert sample_rate == 16_000
    return torch.from_numpy(waveform[:1, :48_000])


@pytest.fixture(scope="module")
def distance() -> AuditoryDistance:
    return AuditoryDistance()


def test_of_a_voice_to_itself_at_any_level_is_zero(voice: torch.Tensor, distance: AuditoryDistance) -> None:
    for gain in (0.01, 1.0, 30.0):
        different, added = distance(gain * voice, voice)
        assert different.item() < 0.1
        assert added.item() < 0.1


def test_added_sound_disturbs_more_than_missing_sound(
    voice: torch.Tensor, distance: AuditoryDistance
) -> None:
    spectrum = torch.fft.rfft(voice)
    bins = torch.arange(spectrum.shape[-1]) * 16_000 / voice.shape[-1]
    narrow = torch.fft.irfft(spectrum * (bins < 2000), voice.shape[-1])
    _, missing = distance(narrow, voice)
    _, added = distance(voice, narrow)
    assert added.item() > 2 * missing.item()


def test_ranks_rooms_and_noises_as_pesq_does(voice: torch.Tensor, distance: AuditoryDistance) -> None:
    pesq = pytest.importorskip("pesq")
    degraded = [
        torch.from_numpy(sound)[None] for sound in voices.degraded(voice[0].numpy(), range(10, 50, 5))
    ]
    heard = [pesq.pesq(16_000, voice[0].numpy(), sound[0].numpy(), "wb") for sound in degraded]
    different, added = distance(torch.cat(degraded), voice.expand(len(degraded), -1))
    order = [np.argsort(np.argsort(values)) for values in (heard, -different.numpy(), -added.numpy())]
    assert np.corrcoef(order[0], order[1])[0, 1] > 0.8
    assert np.corrcoef(order[0], order[2])[0, 1] > 0.8


def test_has_a_finite_gradient_for_speech_silence_and_very_short_clips(
    voice: torch.Tensor, distance: AuditoryDistance
) -> None:
    for target in (voice, torch.zeros_like(voice), voice[:, 20_000:20_600]):
        estimate = (0.5 * target).requires_grad_()
        different, added = distance(estimate, target)
        (different + added).sum().backward()
        assert estimate.grad is not None
        assert estimate.grad.isfinite().all()
