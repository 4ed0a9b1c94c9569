"""The scene: a ResNet-18 turns the photo into tokens, and into the energy envelope it expects of the room.

The parameters are named as torchvision's `resnet18`, so that its published weights load (`load_resnet18`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NUM_TOKENS = 18  # a 96 x 192 canvas at stride 32


@dataclass(frozen=True)
class SceneEncoderConfig:
    """`width` 64 is the published ResNet-18; 32 is a quarter of its size. `depth` adds a fourth input channel."""

    width: int = 32
    depth: bool = False
    token_features: int = 256


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


class BasicBlock(nn.Module):
    """He et al. 2016, "Deep residual learning", figure 5 left."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), BatchNorm2d(channels))
            if stride != 1 or in_channels != channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        hidden = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(hidden + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """(B, 3 or 4, H, W) -> (B, 8 width, H / 32, W / 32), without the classifier."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        sizes = [width, width, 2 * width, 4 * width, 8 * width]
        for index, (size, next_size) in enumerate(itertools.pairwise(sizes), start=1):
            blocks = [
                BasicBlock(size, next_size, 1 if index == 1 else 2),
                BasicBlock(next_size, next_size, 1),
            ]
            self.add_module(f"layer{index}", nn.Sequential(*blocks))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        x: Tensor = self.maxpool(functional.relu(self.bn1(self.conv1(images))))
        for index in range(1, 5):
            x = self.get_submodule(f"layer{index}")(x)
        return x


class SceneEncoder(nn.Module):
    """Canvas (B, 4, 96, 192) of `Scene.canvas` and known (B,) bool -> tokens (B, 18, D).

    Rows that are not known get the learned null scene, whatever their canvas holds.
    """

    def __init__(self, config: SceneEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.resnet = ResNet18(4 if config.depth else 3, config.width)
        self.project = nn.Linear(8 * config.width, config.token_features)
        self.position = nn.Parameter(0.02 * torch.randn(NUM_TOKENS, config.token_features))
        self.null_tokens = nn.Parameter(0.02 * torch.randn(NUM_TOKENS, config.token_features))

    def forward(self, canvas: Tensor, known: Tensor) -> Tensor:
        """See the class."""
        features = self.resnet(canvas[:, : 4 if self.config.depth else 3])
        tokens = self.project(features.flatten(2).transpose(1, 2)) + self.position
        return torch.where(known[:, None, None], tokens.float(), self.null_tokens)

    def load_resnet18(self, weights: Mapping[str, Tensor]) -> None:
        """Load torchvision's `resnet18` state dict; a depth channel, if any, keeps its own first layer weights.

        Raises ValueError where a tensor has another shape (the published weights need `width` 64).
        """
        own = self.resnet.state_dict()
        for name, value in weights.items():
            if name.startswith("fc."):
                continue
            if name == "conv1.weight" and self.config.depth and value.shape[1] == 3:
                value = torch.cat([value, own[name][:, 3:]], dim=1)
            if name not in own or own[name].shape != value.shape:
                wanted = tuple(own[name].shape) if name in own else "no such tensor"
                raise ValueError(f"{name} has shape {tuple(value.shape)}, this encoder wants {wanted}")
            own[name] = value
        self.resnet.load_state_dict(own)
