"""Early reflections without colour: an all-pass stays, a random draw becomes nearly one, and the room is as loud."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvsd.coloration import even_early

RATE, EARLY = 16_000, 768  # samples in 48 ms


def drawn(seed: int, *, decay: float = 60.0, drr_db: float = 0.0, size: int = 4000) -> torch.Tensor:
    """Decaying noise after a direct sound of energy 1, which is left out."""
    noise = torch.randn(1, size, generator=torch.Generator().manual_seed(seed))
    noise = noise * torch.exp(-decay * torch.arange(size) / RATE)
    noise[:, 0] = 0
    return 10 ** (-drr_db / 20) * noise / noise.norm()


def colour_db(late: torch.Tensor) -> float:
    """Standard deviation of the level of direct sound and early reflections, 100 Hz to 1 kHz."""
    sound = late[0, :EARLY].numpy().astype(float)
    sound[0] = 1
    level = 20 * np.log10(np.abs(np.fft.rfft(sound, 4096)))
    return float(level[26:256].std())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), decay=st.floats(50, 150), drr_db=st.floats(-3, 12))
def test_a_draw_loses_most_of_its_colour_and_none_of_its_energy(
    seed: int, decay: float, drr_db: float
) -> None:
    late = drawn(seed, decay=decay, drr_db=drr_db)
    even = even_early(late, RATE)
    assert even.shape == late.shape and even[0, 0] == 0
    assert torch.equal(even[:, EARLY:], late[:, EARLY:])
    assert even.square().sum().item() == pytest.approx(late.square().sum().item(), rel=0.03)
    assert colour_db(even) < 0.7 * colour_db(late)


def test_an_all_pass_stays_as_it_is() -> None:
    """Schroeder 1962: -g + (1 - g^2) sum of g^(k - 1) at k D passes all frequencies alike; here over -g."""
    gain, delay = 0.4, 80
    late = torch.zeros(1, 4000)
    for count in range(1, 8):
        late[0, count * delay] = -(1 - gain**2) / gain * gain ** (count - 1)
    assert colour_db(late) < 0.1
    assert (even_early(late, RATE) - late).norm() < 0.03 * late.norm()


def test_the_envelope_stays() -> None:
    late = torch.cat([drawn(seed) for seed in range(16)])
    even = even_early(late, RATE)
    energies = [
        sound[:, :EARLY].square().view(16, 8, 96).sum((0, 2)).numpy() for sound in (late, even)
    ]  # 6 ms each
    np.testing.assert_allclose(10 * np.log10(energies[1] / energies[0]), 0, atol=1.5)


def test_rows_do_not_know_of_each_other_and_silence_stays_silent() -> None:
    late = torch.cat([drawn(1), torch.zeros(1, 4000), drawn(2, drr_db=6)])
    even = even_early(late, RATE)
    assert not even[1].any()
    for row in (0, 2):
        torch.testing.assert_close(even[row], even_early(late[row : row + 1], RATE)[0], atol=1e-5, rtol=0)


def test_has_a_finite_gradient_also_at_silence_and_for_short_responses() -> None:
    for late in (drawn(3), torch.zeros(1, 4000), drawn(4, size=500)):
        late = late.clone().requires_grad_()
        even_early(late, RATE).square().sum().backward()
        assert late.grad is not None and late.grad.isfinite().all()
