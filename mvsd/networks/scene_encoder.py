"""The scene: a network that looks at the photo turns it into tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mvsd.config import require
from mvsd.networks.efficientnet import EfficientNetLite0
from mvsd.networks.resnet import ResNet18
from mvsd.scene import canvas_size

_PIXELS_PER_TOKEN = 32  # a side
_MAX_SCALE = 8


@dataclass(frozen=True)
class SceneEncoderConfig:
    """What looks at the photo.

    `backbone` is "resnet" (ResNet-18, as in the paper; `width` 64 is the published one, 32 a quarter of its size) or
    "efficientnet" (EfficientNet-Lite0). `depth` adds a fourth input channel. The canvas is `scale` times as high and as
    wide as the smallest, of 96 x 192.
    """

    backbone: Literal["resnet", "efficientnet"] = "resnet"
    width: int = 32
    depth: bool = False
    token_features: int = 256
    scale: int = 1

    def __post_init__(self) -> None:
        """Check the scale; raises ConfigError."""
        require(1 <= self.scale <= _MAX_SCALE, f"scene.scale is {self.scale}; wanted is 1 to {_MAX_SCALE}")

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Rows and columns."""
        return canvas_size(self.scale)

    @property
    def num_tokens(self) -> int:
        """L."""
        rows, columns = self.canvas_size
        return rows * columns // _PIXELS_PER_TOKEN**2


class SceneEncoder(nn.Module):
    """Canvas (B, 4, H, W) of `Scene.canvas` and known (B,) bool -> tokens (B, L, D).

    Rows that are not known get the learned null scene, whatever their canvas holds. A canvas that is a multiple of
    `SceneEncoderConfig.canvas_size` is shrunk to it: two converters may look at one batch.
    """

    def __init__(self, config: SceneEncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = 4 if config.depth else 3
        backbone = (
            EfficientNetLite0(channels)
            if config.backbone == "efficientnet"
            else ResNet18(channels, config.width)
        )
        self.add_module(config.backbone, backbone)
        self.project = nn.Linear(backbone.num_features, config.token_features)
        self.position = nn.Parameter(0.02 * torch.randn(config.num_tokens, config.token_features))
        self.null_tokens = nn.Parameter(0.02 * torch.randn(config.num_tokens, config.token_features))

    def forward(self, canvas: Tensor, known: Tensor) -> Tensor:
        """See the class."""
        canvas = canvas[:, : 4 if self.config.depth else 3]
        if canvas.shape[-1] > self.config.canvas_size[1]:
            canvas = functional.avg_pool2d(canvas, canvas.shape[-1] // self.config.canvas_size[1])
        features = self.get_submodule(self.config.backbone)(canvas)
        tokens = self.project(features.flatten(2).transpose(1, 2)) + self.position
        return torch.where(known[:, None, None], tokens.float(), self.null_tokens)

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Load the backbone's weights as published for ImageNet; raises ValueError where they do not fit."""
        getattr(self, self.config.backbone).load_published(weights)
