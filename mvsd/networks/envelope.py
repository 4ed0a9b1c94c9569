"""The energy envelope of a room's response: what a photo can say of it before any randomness comes in.

Octave bands by widening spans of time, in decibels relative to the direct sound: a coarse energy decay relief (Jot
1992). It is measured on a response, predicted from scene tokens, and laid on the spectrogram's grid as a condition.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mvsd.spectrogram import SpectrogramConfig

NUM_BANDS = 7
_FRAMES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
_CENTRE_DB, _SPREAD_DB, _FLOOR_DB = -45.0, 20.0, -100.0
# By how much rooms differ in each span (standard deviation in dB, mean of the bands; 750 training rooms of v19).
_ROOMS_DB = (7.0, 4.5, 5.0, 5.5, 5.5, 6.0, 7.0, 8.0, 9.5, 12.0, 14.0, 16.0, 16.0, 12.0, 8.0, 5.0)
_TOTAL_WEIGHT, _TOTAL_FLOOR_DB = 0.12, -60.0


class EnergyEnvelope(nn.Module):
    """tokens (B, L, D) -> expected envelope (B, K bands, M spans), in units of 20 dB around -45 dB."""

    def __init__(self, token_features: int, spectrogram: SpectrogramConfig, num_frames: int) -> None:
        super().__init__()
        self.spectrogram = spectrogram
        edges = torch.tensor([frame for frame in _FRAMES if frame < num_frames] + [num_frames])
        num_bins = spectrogram.fft_size // 2 + 1
        bands = torch.tensor([0] + [math.ceil(num_bins / 2 ** (NUM_BANDS - 1 - k)) for k in range(NUM_BANDS)])
        self.register_buffer("bands", _cells(bands, num_bins), persistent=False)
        self.register_buffer("spans", _cells(edges, num_frames), persistent=False)
        self.register_buffer("bins_of_bands", _interpolation(bands, num_bins), persistent=False)
        self.register_buffer("frames_of_spans", _interpolation(edges, num_frames), persistent=False)
        widths = torch.tensor(_ROOMS_DB[: len(edges) - 1])
        self.register_buffer("weights", widths**-2 / (widths**-2).mean(), persistent=False)
        sizes = torch.outer(bands.diff().clamp(min=1), edges.diff())
        self.register_buffer("sizes", sizes.float(), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * token_features, token_features),
            nn.SiLU(),
            nn.Linear(token_features, NUM_BANDS * (len(edges) - 1)),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        pooled = torch.cat([tokens.mean(1), tokens.amax(1)], dim=1)
        envelope: Tensor = self.layers(pooled).float().unflatten(1, (NUM_BANDS, -1))
        return envelope

    def error(self, expected: Tensor, measured: Tensor) -> Tensor:
        """How far an expected envelope is from a measured one, both (B, K, M) -> (B,); see `Converter.envelope_loss`.

        The squared error of each cell counts by how little rooms differ there, or what is 60 dB down and more, which
        differs most and is not heard, would be most of it. A mean of decibels has too little energy, so the level of
        the whole counts too, by its absolute error.
        """
        total_db = self._total_db(expected) - self._total_db(measured)
        square = self.get_buffer("weights") * (expected - measured).square()
        return square.mean((1, 2)) + _TOTAL_WEIGHT * total_db.abs() / _SPREAD_DB

    def _total_db(self, envelope: Tensor) -> Tensor:
        """Level of the whole response (B, K, M) -> (B,), in dB."""
        power = 10 ** ((_SPREAD_DB * envelope + _CENTRE_DB) / 10)
        total: Tensor = (power * self.get_buffer("sizes")).sum((1, 2))
        return 10 * (total + 10 ** (_TOTAL_FLOOR_DB / 10)).log10()

    def measure(self, spectrogram: Tensor) -> Tensor:
        """Compressed spectrogram of a response (B, 2, F, N) -> its envelope (B, K, M)."""
        config = self.spectrogram
        energy = (spectrogram / config.scale).square().sum(1).pow(1 / config.power)
        energy = self.get_buffer("bands") @ energy @ self.get_buffer("spans").T
        level_db = (10 * (energy + 1e-20).log10()).clamp(min=_FLOOR_DB)
        return (level_db - _CENTRE_DB) / _SPREAD_DB

    def pull(self, spectrogram: Tensor, expected: Tensor, share: float) -> Tensor:
        """Move the envelope of a response (B, 2, F, N) towards `expected` (B, K, M): not at all at 0, all at 1."""
        change_db = share * _SPREAD_DB * self.expand(expected - self.measure(spectrogram))
        return spectrogram * 10 ** (self.spectrogram.power * change_db / 20)

    def expand(self, envelope: Tensor) -> Tensor:
        """(B, K, M) -> (B, 1, F, N), linear between the centres of the cells."""
        expanded = self.get_buffer("bins_of_bands") @ envelope @ self.get_buffer("frames_of_spans").T
        return expanded[:, None]


def _cells(edges: Tensor, size: int) -> Tensor:
    """Matrix (K, size) that averages over [edges[k], edges[k + 1])."""
    positions = torch.arange(size)
    inside = (positions >= edges[:-1, None]) & (positions < edges[1:, None])
    return inside.float() / inside.sum(1, keepdim=True)


def _interpolation(edges: Tensor, size: int) -> Tensor:
    """Matrix (size, K) of linear interpolation between the centres of the cells, constant outside."""
    centres = (edges[:-1] + edges[1:] - 1) / 2
    positions = torch.arange(size).float()
    right = torch.searchsorted(centres, positions).clamp(1, len(centres) - 1)
    fraction = (positions - centres[right - 1]) / (centres[right] - centres[right - 1])
    fraction = fraction.clamp(0, 1)
    matrix = torch.zeros(size, len(centres))
    matrix[torch.arange(size), right - 1] = 1 - fraction
    matrix[torch.arange(size), right] = fraction
    return matrix
