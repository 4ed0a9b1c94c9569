"""ResNet-18, the paper's eye (He et al. 2016, "Deep residual learning for image recognition").

The parameters are named as torchvision's `resnet18`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mvsd.networks.batch_norm import BatchNorm2d


class BasicBlock(nn.Module):
    """He et al. 2016, figure 5 left."""

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
        self.num_features = 8 * width
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

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Load torchvision's `resnet18` state dict; a depth channel, if any, keeps its own first layer weights.

        Raises ValueError where a tensor is missing or has another shape (they need `width` 64).
        """
        load_fitting(self, with_depth(weights, "conv1.weight", self.conv1.weight))


def load_fitting(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load what the network needs of `weights`; raises ValueError where one is missing or has another shape.

    The number of batches that a normalisation has seen may be missing: files of before PyTorch 0.4.1 do not have it.
    """
    for name, own in network.state_dict().items():
        if name.endswith(".num_batches_tracked") and name not in weights:
            continue
        if name not in weights or weights[name].shape != own.shape:
            came = tuple(weights[name].shape) if name in weights else "missing"
            raise ValueError(f"{name} is {came}, wanted is the shape {tuple(own.shape)}")
        own.copy_(weights[name])


def with_depth(weights: Mapping[str, Tensor], first: str, own: Tensor) -> dict[str, Tensor]:
    """The weights with the channels that the first kernel lacks (the depth of a scene) taken from `own`."""
    known = dict(weights)
    if first in known and known[first].shape == own[:, :3].shape:
        known[first] = torch.cat([known[first], own.detach()[:, 3:]], dim=1)
    return known
