"""Batch normalisation as one process would do it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics span all processes, on any backend.

    `nn.SyncBatchNorm` needs a GPU; without shared statistics two processes would not train as one does.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        num_processes = torch.distributed.get_world_size() if distributed else 1
        if not self.training or num_processes == 1:
            return super().forward(x)
        sums = torch.stack([x.float().sum((0, 2, 3)), x.float().square().sum((0, 2, 3))])
        total = x.numel() / x.shape[1] * num_processes
        summed: Tensor = SumOverProcesses.apply(sums)  # type: ignore[no-untyped-call]
        mean, mean_square = summed / total
        variance = mean_square - mean.square()
        momentum = self.momentum or 0.0
        with torch.no_grad():
            self.get_buffer("running_mean").lerp_(mean, momentum)
            self.get_buffer("running_var").lerp_(variance * total / (total - 1), momentum)
            self.get_buffer("num_batches_tracked").add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        normed: Tensor = x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        return normed


class SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; every process's loss depends on it, so its gradient is summed too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        """See the class."""
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """See the class."""
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total
