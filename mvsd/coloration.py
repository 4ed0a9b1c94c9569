"""How a response that was drawn at random is best put under a voice: its lows, and the colour of its early reflections.

A photo says how much is reflected early, not which frequencies meet the direct sound in phase. A draw decides that by
chance, and a voice's vowels take on its colour. What changes it keeps the energy: the room stays as loud as it was
drawn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mvsd.spectrogram import SpectrogramConfig

_LOW_HZ = 1000.0
_EVEN_HZ = 1400.0
_EARLY_SECONDS = 0.048
_FFT_SIZE, _SMOOTHED_HZ = (
    2048,
    200.0,
)  # at 16 kHz: bins of 7.8 Hz; the half width of what counts as one colour
_ROUNDS, _STEP = 20, 2.0


def reverberate(voice: Tensor, late: Tensor) -> Tensor:
    """A voice (B, T) with its reverberation by what follows the direct sound in a response, (B, R) -> (B, T)."""
    size = voice.shape[-1] + late.shape[-1]
    spectrum = torch.fft.rfft(voice, size) * torch.fft.rfft(late, size)
    reverberant: Tensor = voice + torch.fft.irfft(spectrum, size)[..., : voice.shape[-1]]
    return reverberant


def lower_lows(spectrogram: Tensor, config: SpectrogramConfig, gain_db: float, sample_rate: int) -> Tensor:
    """A gain on what lies below 1 kHz in a response (B, 2, F, N): all of it up to 0.7 kHz, nothing from 1.4 kHz on."""
    frequency = torch.linspace(0, sample_rate / 2, spectrogram.shape[2], device=spectrogram.device)
    share = _below(frequency, _LOW_HZ)
    lowered = spectrogram * 10 ** (config.power * gain_db * share[:, None] / 20)
    energies = [
        each.square().sum(1, keepdim=True).pow(1 / config.power).sum((2, 3), keepdim=True).clamp(min=1e-20)
        for each in (spectrogram, lowered)
    ]
    balanced: Tensor = lowered * (energies[0] / energies[1]).pow(config.power / 2)
    return balanced


def even_early(late: Tensor, sample_rate: int) -> Tensor:
    """What follows the direct sound (B, R), so that with it the first 48 ms pass all frequencies below 1.4 kHz alike.

    Together with the unit impulse at sample 0 they become nearly an all-pass, the colourless reverberator of Schroeder
    (1962): the spectrum of both is led towards its own mean over 400 Hz, in twenty rounds of projection onto that
    magnitude and back onto a sound of this length, this envelope and this energy (Gerchberg & Saxton 1972). Reflections
    move by a little in time and sign; how much is reflected, and when, stays. (B, R) with 0 at sample 0.
    """
    length = min(round(_EARLY_SECONDS * sample_rate), late.shape[1])
    fade = torch.ones(length, device=late.device)
    fade[-(length // 4) :] = torch.linspace(0, math.pi / 2, length // 4, device=late.device).cos().square()
    early = late[:, :length] * fade
    rest = late - functional.pad(early, (0, late.shape[1] - length))
    energy = early.square().sum(1, keepdim=True).clamp(min=1e-20)

    size = _FFT_SIZE * sample_rate // 16_000
    bins = torch.arange(1, math.ceil(_EVEN_HZ * 2**0.5 * size / sample_rate), device=late.device)
    share = _below(bins * sample_rate / size, _EVEN_HZ)
    angle = 2 * math.pi / size * (bins[:, None] * torch.arange(length, device=late.device) % size)
    cosine, sine = angle.cos(), angle.sin()

    def spectrum(sound: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Real and imaginary part and magnitude, the direct sound included: (B, length) -> (B, K)."""
        real, imaginary = 1 + sound @ cosine.T, -sound @ sine.T
        return real, imaginary, (real.square() + imaginary.square() + 1e-9).sqrt()

    wanted = _smoothed(spectrum(early)[2].square(), round(_SMOOTHED_HZ * size / sample_rate)).sqrt()
    where = (_smoothed(early.square(), round(0.002 * sample_rate)) + 1e-20).sqrt()
    where = _STEP * fade * where / where.amax(1, keepdim=True).clamp(min=1e-10)
    where = where * (torch.arange(length, device=late.device) > 0)
    for _ in range(_ROUNDS):
        real, imaginary, magnitude = spectrum(early)
        missing = share * (wanted / magnitude - 1)
        early = early + where * (2 / size) * ((missing * real) @ cosine - (missing * imaginary) @ sine)
        early = early * (energy / early.square().sum(1, keepdim=True).clamp(min=1e-20)).sqrt()
    return rest + functional.pad(early, (0, late.shape[1] - length))


def _below(frequency: Tensor, limit_hz: float) -> Tensor:
    """1 for what lies half an octave or more below a limit, 0 for what lies so far above it."""
    return (limit_hz * 2**0.5 / frequency.clamp(min=1)).log2().clamp(0, 1)


def _smoothed(values: Tensor, half: int) -> Tensor:
    """(B, K) -> its mean within `half` values to either side, weighted by a raised cosine."""
    half = min(half, values.shape[1] - 1)
    kernel = torch.hann_window(2 * half + 3, periodic=False, device=values.device)[1:-1]
    padded = functional.pad(values[:, None], (half, half), mode="reflect")
    return functional.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0]
