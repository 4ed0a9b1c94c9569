"""From the start of a path to a clean spectrogram, in a few steps.

A sampler is a plain function and carries no `no_grad`: the closed loop of `mvsd.mutual` needs its gradient.
"""

from __future__ import annotations

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
    equation 12). On `NoisePath` that is Euler's method of Karras et al. 2022, algorithm 1.

    `source` (B, 2, F, N) is the end of a bridge and `noise` has the same shape; time runs linearly from 1 to 0.
    With gradient="last" only the last call is differentiated (Clark et al. 2024, DRaFT-1): memory does not grow
    with the number of steps, and the estimate is still a finished one.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, at least 1 is needed")
    if gradient not in ("all", "last"):
        raise ValueError(f"gradient is {gradient!r}, 'all' or 'last' is wanted")
    times = torch.linspace(1, 0, num_steps + 1, device=noise.device)
    a, b, c = path.coefficients(times[0])
    noisy = b * source + c * noise
    denoised = noisy
    for index, (time, next_time) in enumerate(pairwise(times)):
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and (gradient == "all" or index == num_steps - 1)
        ):
            denoised = denoise(noisy, time.expand(len(noisy)))
            a, b, c = path.coefficients(time)
            implied = (noisy - a * denoised - b * source) / c if c > 0 else noise
            a, b, c = path.coefficients(next_time)
            noisy = a * denoised + b * source + c * implied
    return denoised
