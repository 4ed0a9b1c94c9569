"""What one training step sees: rows of paired, reverberant-only and anechoic-only data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mvsd.errors import ConfigError


@dataclass(frozen=True)
class Batch:
    """Rows in the order paired, reverberant only, anechoic only; what a row does not know is zero.

    Attributes:
        anechoic: (B, T) float32, the voices without rooms; zero in reverberant-only rows.
        reverberant: (B, T) float32, the voices in their rooms; zero in anechoic-only rows.
        rir: (B, R) float32, the rooms' responses with ``rir[:, 0] == 1``; zero in unpaired rows.
        scene: (B, 4, H, W) float32, canvases as `Scene.canvas` makes them.
        seeds: (B,) int64, from which all noise of a row is drawn.
        num_paired: rows that know everything.
        num_reverberant: rows that know ``reverberant`` and its scene.
        num_anechoic: rows that know ``anechoic`` and some scene.
    """

    anechoic: Tensor
    reverberant: Tensor
    rir: Tensor
    scene: Tensor
    seeds: Tensor
    num_paired: int
    num_reverberant: int
    num_anechoic: int

    def __len__(self) -> int:
        return self.num_paired + self.num_reverberant + self.num_anechoic

    def to(self, device: torch.device | str) -> Batch:
        """Move all tensors but the seeds, which feed generators on the CPU."""
        names = ("anechoic", "reverberant", "rir", "scene")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


COUNTS = ("num_paired", "num_reverberant", "num_anechoic")


def rows_of_process(counts: tuple[int, int, int], rank: int, num_processes: int) -> list[int]:
    """Rows of the whole batch that belong to process ``rank``: an equal run of each kind.

    Raises:
        ConfigError: a kind of row cannot be divided evenly.
    """
    rows, first = list[int](), 0
    for name, count in zip(COUNTS, counts, strict=True):
        share, rest = divmod(count, num_processes)
        if rest:
            raise ConfigError(f"{name} is {count}; it must be a multiple of the {num_processes} processes")
        rows += range(first + rank * share, first + (rank + 1) * share)
        first += count
    return rows
