"""The scene: a network that looks at the photo turns it into tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mvsd.networks.efficientnet import EfficientNetLite0
from mvsd.networks.resnet import ResNet18

PIXELS_PER_TOKEN = 32  # a side
NUM_TOKENS = 18  # of a 96 x 192 canvas


@dataclass(frozen=True)
class SceneEncoderConfig:
    """What looks at the photo.

    `backbone` is "resnet" (ResNet-18, as in the paper; `width` 64 is the published one, 32 a quarter of its size) or
    "efficientnet" (EfficientNet-Lite0). `depth` adds a fourth input channel.
    """

    backbone: Literal["resnet", "efficientnet"] = "resnet"
    width: int = 32
    depth: bool = False
    token_features: int = 256


class SceneEncoder(nn.Module):
    """Canvas (B, 4, 96, 192) of `Scene.canvas` and known (B,) bool -> tokens (B, 18, D).

    Rows that are not known get the learned null scene, whatever their canvas holds.
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
        self.position = nn.Parameter(0.02 * torch.randn(NUM_TOKENS, config.token_features))
        self.null_tokens = nn.Parameter(0.02 * torch.randn(NUM_TOKENS, config.token_features))

    def forward(self, canvas: Tensor, known: Tensor) -> Tensor:
        """See the class."""
        features = self.get_submodule(self.config.backbone)(canvas[:, : 4 if self.config.depth else 3])
        tokens = self.project(features.flatten(2).transpose(1, 2)) + self.position
        return torch.where(known[:, None, None], tokens.float(), self.null_tokens)

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Load the backbone's weights as published for ImageNet; raises ValueError where they do not fit."""
        getattr(self, self.config.backbone).load_published(weights)
