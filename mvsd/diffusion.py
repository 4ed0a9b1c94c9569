"""The theory: how a clean spectrogram is degraded, and the denoiser that undoes it.

A path says what lies between the clean spectrogram (time 0) and the start of sampling (time 1):

    noisy(t) = a(t) clean + b(t) source + c(t) noise

`NoisePath` starts from noise, as the paper does (a = 1, b = 0, c = sigma); `BridgePath` starts from the source
itself. One `Denoiser` and one sampler (`mvsd.sampling`) serve both. No random number is drawn here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Condition(NamedTuple):
    """What the denoiser knows: the source (B, C, F, N) on the grid of the target, and scene tokens (B, L, D).

    Where the head adds to the source or filters it, that is its first two channels.
    """

    source: Tensor
    tokens: Tensor


class Path(Protocol):
    """A way from the clean spectrogram to the start of sampling.

    Every result has the shape of `time`: (B, 1, 1, 1), or () where all of a batch are at one time, as in sampling.
    """

    def coefficients(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weights a, b, c of clean, source and noise at `time` in 0..1."""
        ...

    def preconditioning(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in and c_noise, which keep the network's input and target at unit scale."""
        ...


@dataclass(frozen=True)
class NoisePath:
    """From noise: Karras et al. 2022, "Elucidating the design space" (EDM), equation 5 and table 1.

    `sigma_data` is the standard deviation of the clean spectrogram; time 0..1 runs from `sigma_min` to `sigma_max`.
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.005
    sigma_max: float = 20.0
    rho: float = 7.0

    def sigma(self, time: Tensor) -> Tensor:
        """Noise level at `time`; exactly 0 at time 0."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return torch.where(time > 0, (low + time * (high - low)) ** self.rho, 0.0)

    def coefficients(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a = 1, b = 0, c = sigma."""
        return torch.ones_like(time), torch.zeros_like(time), self.sigma(time)

    def preconditioning(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """EDM, table 1."""
        sigma = self.sigma(time).clamp(min=self.sigma_min)
        total = (sigma**2 + self.sigma_data**2).sqrt()
        return self.sigma_data**2 / total**2, sigma * self.sigma_data / total, 1 / total, sigma.log() / 4


@dataclass(frozen=True)
class BridgePath:
    """From the source: a Brownian bridge (Li et al. 2023, BBDM, equation 4) whose noise peaks at `spread` / 2."""

    spread: float = 0.3

    def coefficients(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a = 1 - t, b = t, c = spread sqrt(t (1 - t))."""
        return 1 - time, time, self.spread * (time * (1 - time)).sqrt()

    def preconditioning(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Plain data prediction: the head adds the source, the network only what differs from it."""
        one = torch.ones_like(time)
        return torch.zeros_like(time), one, one, time


class Denoiser(nn.Module):
    """Predicts the clean spectrogram from a noisy one (data prediction).

    The network sees the noisy spectrogram and the source as channels (B, 2 + C, F, N), c_noise (B,) and tokens
    (B, L, D), and returns a residual (B, 2, F, N), followed by 2 `num_taps` channels of complex filter
    coefficients where the head is a multi-frame filter (Mack & Habets 2020, "Deep filtering", equation 4). That
    filter over the present and past frames of the source is the convolutive model of a room which WPE inverts.
    A `refiner`, a second such network, sees what the first makes before all else (4 + C channels) and does to that
    what the first does to the source.
    """

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        *,
        num_taps: int,
        adds_source: bool,
        refiner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.refiner = refiner
        self.path = path
        self.num_taps = num_taps
        self.adds_source = adds_source

    def forward(self, noisy: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """noisy (B, 2, F, N), time (B,) in 0..1 -> denoised (B, 2, F, N)."""
        c_skip, c_out, c_in, c_noise = self.path.preconditioning(time.view(-1, 1, 1, 1))
        share = 1 - c_skip  # what the noisy spectrogram does not say of the clean one is left to the source
        known = torch.cat([c_in * noisy, condition.source], dim=1)

        def corrected(network: nn.Module, inputs: Tensor, base: Tensor, filtered: Tensor) -> Tensor:
            output: Tensor = network(inputs, c_noise.flatten(), condition.tokens).float()
            # Split, not indexed: the gradient of an index is a whole tensor of zeros.
            residual, taps = output.split_with_sizes([2, 2 * self.num_taps], dim=1)
            estimate = base + c_out * residual
            return estimate + share * filter_frames(filtered, taps) if self.num_taps else estimate

        source = condition.source[:, :2]
        base = c_skip * noisy + share * source if self.adds_source else c_skip * noisy
        estimate = corrected(self.network, known, base, source)
        if self.refiner is None:
            return estimate
        return corrected(self.refiner, torch.cat([estimate, known], dim=1), estimate, estimate)

    def noisy(self, clean: Tensor, noise: Tensor, time: Tensor, source: Tensor) -> Tensor:
        """The degraded spectrogram (B, 2, F, N) at `time` (B,) on the way to `source`."""
        a, b, c = self.path.coefficients(time.view(-1, 1, 1, 1))
        return a * clean + (b * source if bool((b != 0).any()) else 0.0) + c * noise

    def loss(self, clean: Tensor, denoised: Tensor, time: Tensor) -> Tensor:
        """Squared error weighted by 1 / c_out^2 (EDM, equation 8), per example: (B,)."""
        _, c_out, _, _ = self.path.preconditioning(time.view(-1, 1, 1, 1))
        return ((denoised - clean) / c_out).square().mean((1, 2, 3))


def filter_frames(source: Tensor, taps: Tensor) -> Tensor:
    """Filter every bin over its present and past frames: (B, 2, F, N), (B, 2 K, F, N) -> (B, 2, F, N)."""
    num_taps, num_frames = taps.shape[1] // 2, source.shape[-1]
    past_real, past_imaginary = nn.functional.pad(source, (num_taps - 1, 0)).unbind(1)
    weights = taps.unbind(1)  # not by index: the gradient of each index is a whole tensor of zeros
    real, imaginary = torch.zeros_like(source[:, 0]), torch.zeros_like(source[:, 0])
    for tap in range(num_taps):
        frames = slice(num_taps - 1 - tap, num_taps - 1 - tap + num_frames)
        weight_real, weight_imaginary = weights[2 * tap], weights[2 * tap + 1]
        real = real + weight_real * past_real[..., frames] - weight_imaginary * past_imaginary[..., frames]
        imaginary = (
            imaginary + weight_real * past_imaginary[..., frames] + weight_imaginary * past_real[..., frames]
        )
    return torch.stack([real, imaginary], dim=1)
