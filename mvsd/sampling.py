"""From the start of a path to a clean spectrogram, in a few steps.

A sampler is a plain function and carries no `no_grad`: the closed loop of `mvsd.mutual` needs its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from mvsd.diffusion import Path

Denoise = Callable[[Tensor, Tensor], Tensor]


def sample(
    denoise: Denoise, path: Path, source: Tensor, noise: Tensor, num_steps: int, *, gradient: str = "all"
) -> Tensor:
    """Deterministic sampling in `num_steps` calls of `denoise(noisy, time)`.

    Each step keeps the noise that the present estimate implies and moves it along the path (Song et al. 2021, DDIM,
    equation 12), with the estimate extrapolated from the last two (Lu et al. 2022, DPM-Solver++, algorithm 2): steps
    of first order lose energy, and eight of them most of a room's reverberation.

    `noise` and what is returned are (B, 2, F, N). `source` is, too, where it is the end of a bridge; that of a response
    (B, 1, F, N) has no weight on its path. Time runs linearly from 1 to 0.

    With gradient="last" only the last call is differentiated (Clark et al. 2024, DRaFT-1): memory does not grow
    with the number of steps, and the estimate is still a finished one. Raises ValueError for other choices.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, at least 1 is needed")
    if gradient not in ("all", "last"):
        raise ValueError(f"gradient is {gradient!r}, 'all' or 'last' is wanted")
    times = torch.linspace(1, 0, num_steps + 1, device=noise.device)
    coefficients = [path.coefficients(time) for time in times[:-1]]
    log_snr = [_log_ratio(float(a), float(c)) for a, _, c in coefficients]
    _, b, c = coefficients[0]
    noisy = b * source + c * noise
    previous = noisy
    with torch.set_grad_enabled(torch.is_grad_enabled() and gradient == "all"):
        for index, (here, there) in enumerate(pairwise(coefficients)):
            estimate = denoised = denoise(noisy, times[index].expand(len(noisy)))
            if index > 0 and math.isfinite(log_snr[index - 1]):
                ratio = (log_snr[index + 1] - log_snr[index]) / (log_snr[index] - log_snr[index - 1])
                estimate = denoised + 0.5 * ratio * (denoised - previous)
            a, b, c = here
            implied = (noisy - a * estimate - b * source) / c if c > 0 else noise
            a, b, c = there
            noisy = a * estimate + b * source + c * implied
            previous = denoised
    return denoise(noisy, times[-2].expand(len(noisy)))


def seeded_noise(seeds: Tensor, shape: tuple[int, ...] | torch.Size, device: torch.device) -> Tensor:
    """Standard normal (B, *shape), each row drawn from its own seed, so that it does not depend on the batch."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    return torch.stack(rows).to(device)


def _log_ratio(clean: float, noise: float) -> float:
    """Half the log signal-to-noise ratio, infinite at the ends of a path."""
    if noise == 0:
        return math.inf if clean > 0 else -math.inf
    return math.log(clean / noise) if clean > 0 else -math.inf
