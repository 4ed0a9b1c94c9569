"""The energy envelope of a response, and how differently two responses decay: closed forms."""

from __future__ import annotations

import pytest
import torch

from mvsd.networks.envelope import EnergyEnvelope, decay_distance
from mvsd.spectrogram import SpectrogramConfig

CONFIG = SpectrogramConfig(fft_size=256, hop=128)
FRAMES, BINS = 193, 129
SECONDS_PER_FRAME = CONFIG.hop / 16_000


def decaying(rt60: float, level_db: float = 0.0) -> torch.Tensor:
    """Compressed spectrogram (1, 2, F, N) of energy that falls by 60 dB in `rt60` seconds."""
    level = level_db - 60 * SECONDS_PER_FRAME / rt60 * torch.arange(FRAMES)
    real = CONFIG.scale * 10 ** (CONFIG.power * level / 20)
    return torch.stack([real.expand(BINS, -1), torch.zeros(BINS, FRAMES)])[None]


@pytest.mark.parametrize("gain_db", [-6.0, 0.0, 3.0])
def test_a_louder_room_is_as_far_away_as_it_is_louder(gain_db: float) -> None:
    distance = decay_distance(decaying(0.4, gain_db), decaying(0.4), CONFIG)
    torch.testing.assert_close(distance, torch.tensor([abs(gain_db) / 20]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rt60", [0.3, 0.5, 0.8])
def test_a_longer_room_is_as_far_away_as_its_energy_and_its_slope(rt60: float) -> None:
    """Of exponentials what is left falls along the same line: the difference of two lines, averaged to -25 dB."""
    slopes = [60 * SECONDS_PER_FRAME / seconds for seconds in (rt60, 0.4)]
    ratios = [10 ** (-slope / 10) for slope in slopes]
    louder_db = 10 * torch.log10(torch.tensor((1 - ratios[1]) / (1 - ratios[0]))).abs()
    counted = torch.arange(FRAMES)[torch.arange(FRAMES) * slopes[1] < 25]
    expected = (louder_db + (counted * abs(slopes[0] - slopes[1])).mean()) / 20
    distance = decay_distance(decaying(rt60), decaying(0.4), CONFIG)
    torch.testing.assert_close(distance, expected[None], atol=2e-3, rtol=2e-3)


def test_each_row_is_its_own() -> None:
    both = torch.cat([decaying(0.3), decaying(0.6)])
    distance = decay_distance(both, decaying(0.3).expand(2, -1, -1, -1), CONFIG)
    assert distance[0] < 1e-5 < 0.05 < distance[1]


def test_the_distance_says_which_way_to_go() -> None:
    level = torch.tensor(-3.0, requires_grad=True)
    decay_distance(decaying(0.4) * 10 ** (CONFIG.power * level / 20), decaying(0.4), CONFIG).sum().backward()
    assert level.grad is not None
    torch.testing.assert_close(level.grad, torch.tensor(-1 / 20), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.5])
def test_a_spectrogram_made_of_an_envelope_has_it(level: float) -> None:
    envelope = EnergyEnvelope(8, CONFIG, FRAMES)
    shape = envelope(torch.zeros(2, 3, 8)).shape
    made = envelope.spectrogram_of(torch.full(shape, level))
    assert made.shape == (2, 2, BINS, FRAMES)
    torch.testing.assert_close(envelope.measure(made), torch.full(shape, level), atol=1e-4, rtol=1e-4)
