"""Exponential moving averages of weights, which are what is validated and exported."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class Ema(Generic[Module]):
    """A copy of a module in evaluation mode whose float32 parameters follow the original's average.

    The decay grows as ``(1 + n) / (10 + n)`` with the number n of updates, up to ``decay``, so that the start
    does not dominate short runs. Buffers are copied.
    """

    def __init__(self, module: Module, decay: float) -> None:
        self.module: Module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: Module, num_updates: int) -> None:
        """Move towards ``module`` after its update number ``num_updates``, counted from 0."""
        weight = 1.0 - min(self.decay, (1 + num_updates) / (10 + num_updates))
        averages = cast(list[Tensor], list(self.module.parameters()))
        torch._foreach_lerp_(averages, cast(list[Tensor], list(module.parameters())), weight)
        for average, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(buffer)
