"""Waveform <-> the complex, magnitude-compressed spectrogram in which the converters work.

The phase is kept from end to end, so there is no vocoder and no Griffin-Lim: `decode(encode(x))` is `x`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvsd.config import require

_TINY = 1e-12  # keeps the gradient of |x|^p finite at digital silence; far below 16-bit resolution


@dataclass(frozen=True)
class SpectrogramConfig:
    """Short-time Fourier transform and compression.

    `fft_size` and `hop` are in samples, `power` is the exponent put on the magnitude (0 < power <= 1) and
    `scale` multiplies the result so that its standard deviation is near that of the diffusion's `sigma_data`.
    """

    fft_size: int = 512
    hop: int = 256
    power: float = 0.5
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        # With less overlap the way back divides by the ends of the window, which are next to nothing.
        require(
            0 < 2 * self.hop <= self.fft_size <= 2**14,
            f"spectrogram.hop is {self.hop}, fft_size {self.fft_size}; 0 < 2 hop <= fft_size <= {2**14} is wanted",
        )
        require(
            0 < self.power <= 1 and self.scale > 0,
            f"spectrogram.power is {self.power}, scale {self.scale}; 0 < power <= 1 and scale > 0 are wanted",
        )


class ComplexSpectrogram(nn.Module):
    """Short-time spectrum x |x|^(power - 1) with real and imaginary part as two channels."""

    window: Tensor

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.fft_size), persistent=False)

    @property
    def num_bins(self) -> int:
        """Number of frequency bins F."""
        return self.config.fft_size // 2 + 1

    def num_frames(self, num_samples: int) -> int:
        """Number of frames N of a waveform of `num_samples` samples."""
        return math.ceil(num_samples / self.config.hop) + 1

    def encode(self, waveform: Tensor) -> Tensor:
        """(B, T) in -1..1 -> (B, 2, F, N), F = fft_size / 2 + 1, N = T / hop rounded up, + 1."""
        config, num_samples = self.config, waveform.shape[-1]
        padded = nn.functional.pad(waveform.float(), (0, self._padded(num_samples) - num_samples))
        spectrogram = self.transform(padded)[..., : self.num_frames(num_samples)]
        return config.scale * _power(spectrogram, config.power)

    def decode(self, spectrogram: Tensor, num_samples: int) -> Tensor:
        """(B, 2, F, N) -> (B, T) with T = num_samples; the inverse of `encode`."""
        config, padded = self.config, self._padded(num_samples)
        num_missing = padded // config.hop + 1 - spectrogram.shape[-1]
        spectrogram = nn.functional.pad(spectrogram.float(), (0, max(0, num_missing)))
        linear = _power(spectrogram / config.scale, 1 / config.power)
        return self.inverse(linear, padded)[..., :num_samples]

    def transform(self, waveform: Tensor) -> Tensor:
        """Short-time spectrum of whole hops, divided by the window's norm: (B, T) -> (B, 2, F, T / hop + 1)."""
        fft_size, hop = self.config.fft_size, self.config.hop
        spectrum = torch.stft(waveform, fft_size, hop, window=self.window, center=True, return_complex=True)
        spectrogram: Tensor = torch.view_as_real(spectrum).movedim(-1, 1) / self.window.norm()
        return spectrogram

    def inverse(self, spectrum: Tensor, num_samples: int) -> Tensor:
        """The inverse of `transform`: (B, 2, F, N) -> (B, T) with T = num_samples."""
        fft_size, hop = self.config.fft_size, self.config.hop
        complex_spectrum = torch.view_as_complex((spectrum * self.window.norm()).movedim(1, -1).contiguous())
        return torch.istft(
            complex_spectrum, fft_size, hop, window=self.window, center=True, length=num_samples
        )

    def _padded(self, num_samples: int) -> int:
        """Whole hops, and at least the window that reflection at the edges needs."""
        return max(math.ceil(num_samples / self.config.hop) * self.config.hop, self.config.fft_size)


def rms(waveform: Tensor) -> Tensor:
    """Root mean square (B, 1) of (B, T), kept from zero."""
    # Clamped before the root, whose gradient at zero is infinite.
    return waveform.float().square().mean(-1, keepdim=True).clamp(min=1e-10).sqrt()


def magnitude(spectrogram: Tensor) -> Tensor:
    """(B, 2, F, N) -> (B, F, N), with a gradient that is finite at zero."""
    return (spectrogram.square().sum(1) + _TINY).sqrt()


def _power(spectrogram: Tensor, power: float) -> Tensor:
    """Raise the magnitude to `power` and keep the phase."""
    if power == 1:
        return spectrogram
    energy = spectrogram.square().sum(1, keepdim=True) + _TINY
    return spectrogram * energy.pow((power - 1) / 2)
