"""How far away things are: what a scene's tokens are asked for in training, so that they know of size and distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from mvsd.scene import DEPTH_UNIT

_CELLS = 4  # a side, of each token
_NEAREST = 0.3  # metres; what is nearer is as near
_USUAL = 3.0  # metres


class SceneDepth(nn.Module):
    """tokens (B, L, D) -> logarithm of metres in the 4 x 4 cells of each token (B, L, 16)."""

    def __init__(self, token_features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(token_features, _CELLS**2)
        # What it asks for must not disturb an eye that sees before it has learned anything itself.
        nn.init.zeros_(self.layer.weight)
        nn.init.constant_(self.layer.bias, math.log(_USUAL))

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        expected: Tensor = self.layer(tokens).float()
        return expected

    def loss(self, tokens: Tensor, canvas: Tensor, known: Tensor) -> Tensor:
        """Mean squared error over the cells whose depth the canvas (B, 4, H, W) knows, in rows that are `known` (B,).

        A cell is known where half of its pixels are. A scalar; 0 where nothing is known.
        """
        depth = canvas[:, 3:] * known[:, None, None, None]
        size = math.isqrt(canvas[0, 0].numel() // tokens.shape[1]) // _CELLS
        share = avg_pool2d((depth > 0).float(), size)
        metres = DEPTH_UNIT * avg_pool2d(depth, size) / share.clamp(min=0.5)
        error = self(tokens) - _by_token(metres.clamp(min=_NEAREST).log())
        counts = _by_token(share >= 0.5)
        mean: Tensor = (error.square() * counts).sum() / counts.sum().clamp(min=1)
        return mean


def _by_token(cells: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, L, 16)."""
    rows, columns = (size // _CELLS for size in cells.shape[2:])
    grid = cells.reshape(-1, rows, _CELLS, columns, _CELLS).transpose(2, 3)
    return torch.reshape(grid, (-1, rows * columns, _CELLS**2))
