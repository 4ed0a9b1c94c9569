"""The energy envelope of a response: what is wrong with one that was expected."""

from __future__ import annotations

import math

import pytest
import torch

from mvsd.networks.envelope import EnergyEnvelope
from mvsd.spectrogram import SpectrogramConfig

ENVELOPE = EnergyEnvelope(8, SpectrogramConfig(), 193)
USUAL = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(0))


def test_what_is_right_has_no_error_and_each_row_its_own() -> None:
    wrong = USUAL.clone()
    wrong[1] += 0.1
    error = ENVELOPE.error(wrong, USUAL)
    assert error[0] == error[2] == 0
    # All cells 2 dB too high: the whole is, too.
    torch.testing.assert_close(error[1], torch.tensor(0.1**2 + 0.12 * 0.1), rtol=1e-3, atol=0)


def test_weights_are_one_on_average_and_fall_where_rooms_differ_most() -> None:
    weights = ENVELOPE.get_buffer("weights")
    assert weights.mean() == pytest.approx(1)
    ratio = weights[1] / weights[12]  # 16 ms, and 1 to 1.5 s, after the direct sound
    assert ratio == pytest.approx((16.0 / 4.5) ** 2)
    silent = torch.full((1, 7, 16), -6.0)  # -165 dB, which has no part in the whole
    for span in (1, 12):
        wrong = silent.clone()
        wrong[0, 3, span] += 0.5
        expected = weights[span] * 0.5**2 / (7 * 16)
        torch.testing.assert_close(ENVELOPE.error(wrong, silent)[0], expected, rtol=0.03, atol=0)


def test_the_level_of_the_whole_is_that_of_the_response() -> None:
    noise = torch.randn(1, 1, 257, 193, generator=torch.Generator().manual_seed(1))
    spectrogram = torch.cat([noise, torch.zeros_like(noise)], 1)
    config = ENVELOPE.spectrogram
    energy = (spectrogram / config.scale).square().sum(1).pow(1 / config.power).sum()
    measured = ENVELOPE._total_db(ENVELOPE.measure(spectrogram))
    assert measured.item() == pytest.approx(10 * math.log10(energy), abs=0.01)
