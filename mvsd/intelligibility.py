"""How much of a voice's envelopes is lost, as a loss: the words, where `mvsd.auditory` hears the disturbance.

A differentiable form of ESTOI (Jensen & Taal 2016, equations 1 to 8) at 16 kHz: envelopes in third octaves, compared
over 0.38 s after they were normalised in time and across bands. It is not the metric: `mvsd.evaluation` measures with
pystoi, which resamples to 10 kHz and joins what is left of a recording when its pauses are cut out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FRAME, _HOP, _FFT_SIZE = 410, 205, 512  # samples at 16 kHz: 25.6 and 12.8 ms
_NUM_BANDS, _LOWEST_HZ = 15, 150.0
_SEGMENT = 30  # frames
_PAUSE_DB = -40.0  # below the loudest frame of the target


class IntelligibilityLoss(nn.Module):
    """Estimate and target (B, T) at 16 kHz -> 1 - ESTOI (B,): 0 for equal envelopes, 1 for unrelated ones.

    A clip in which fewer than 30 frames are voice says nothing: 0, without a gradient.
    """

    window: Tensor
    bands: Tensor

    def __init__(self, sample_rate: int = 16_000) -> None:
        super().__init__()
        with torch.device("cpu"):  # also where a converter is only sketched on the meta device
            frequency = torch.linspace(0, sample_rate / 2, _FFT_SIZE // 2 + 1)
            edges = _LOWEST_HZ * 2 ** ((2 * torch.arange(_NUM_BANDS + 1)[:, None] - 1) / 6)
            bands = ((frequency >= edges[:-1]) & (frequency < edges[1:])).float()
            self.register_buffer("window", torch.hann_window(_FRAME), persistent=False)
            self.register_buffer("bands", bands, persistent=False)

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """See the class; the level of neither matters."""
        (heard, _), (wanted, power) = self._envelopes(estimate), self._envelopes(target)
        voiced = power > power.amax(1, keepdim=True) * 10 ** (_PAUSE_DB / 10)
        losses = []
        for row, frames in enumerate(voiced):
            if int(frames.sum()) < _SEGMENT:
                losses.append(0.0 * heard[row].sum())
                continue
            pair = torch.stack([heard[row][:, frames], wanted[row][:, frames]])
            segments = pair.unfold(2, _SEGMENT, 1).transpose(1, 2)  # (2, S, K, 30)
            unit = _normalised(_normalised(segments, 3), 2)
            losses.append(1 - unit.prod(0).sum((1, 2)).mean() / _SEGMENT)
        return torch.stack(losses)

    def _envelopes(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) -> amplitude in third octaves (B, K, N) and the power of each frame (B, N)."""
        spectrum = torch.stft(
            waveform, _FFT_SIZE, _HOP, _FRAME, window=self.window, center=False, return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return (self.bands @ power + 1e-9).sqrt(), power.sum(1)


def _normalised(values: Tensor, dim: int) -> Tensor:
    """Without its mean and of norm 1 along `dim`."""
    centred = values - values.mean(dim, keepdim=True)
    unit: Tensor = centred / (centred.square().sum(dim, keepdim=True) + 1e-9).sqrt()
    return unit
