"""Whether bfloat16 saves time here: not every processor has instructions for it, and without them it is far slower."""

from __future__ import annotations

from time import perf_counter

import torch
from torch import Tensor, nn

_GAIN = 1.2  # how much faster bfloat16 must be
_TRIALS = 4


def bf16_is_faster(device: torch.device) -> bool:
    """Whether a convolution and its gradient take less time in bfloat16; on an accelerator, whether it knows it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    layer = nn.Conv2d(64, 64, 3, padding=1)
    sound = torch.randn(2, 64, 32, 64).contiguous(memory_format=torch.channels_last)
    return _seconds(layer, sound, bf16=False) > _GAIN * _seconds(layer, sound, bf16=True)


def _seconds(layer: nn.Module, sound: Tensor, *, bf16: bool) -> float:
    """The shortest of some trials after a first one, which prepares."""
    seconds = []
    for _ in range(1 + _TRIALS):
        started = perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            converted: Tensor = layer(sound)
        torch.autograd.grad(converted.float().square().mean(), list(layer.parameters()))
        seconds.append(perf_counter() - started)
    return min(seconds[1:])
