"""The conditional U-Net, top to bottom in one file.

Source and noisy target come in as channels; self-attention and cross-modal attention to the scene stand only next to
the bottleneck (last encoder block, first decoder block), as in MVSD section 3: there they cost little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mvsd.config import require

_MAX_LEVELS, _MAX_BLOCKS = 16, 64  # a file from a stranger must not make us build for ever
_GROUPS = 8  # of channels that are normalised together


@dataclass(frozen=True)
class UNetConfig:
    """Width of every level, residual blocks per level, and the stride of the first convolution over bins and frames."""

    channels: tuple[int, ...] = (32, 64, 128, 192)
    num_blocks: int = 1
    stem_stride: tuple[int, int] = (2, 1)
    num_heads: int = 4
    token_features: int = 256

    def __post_init__(self) -> None:
        """Check widths and numbers; raises ConfigError."""
        require(
            1 <= len(self.channels) <= _MAX_LEVELS,
            f"a U-Net's channels are of {len(self.channels)} levels; 1 to {_MAX_LEVELS} are wanted",
        )
        require(
            all(width >= 1 and width % _GROUPS == 0 for width in self.channels),
            f"a U-Net's channels are {list(self.channels)}; multiples of {_GROUPS} are wanted",
        )
        require(
            1 <= self.num_blocks <= _MAX_BLOCKS
            and self.num_heads >= 1
            and self.channels[-1] % self.num_heads == 0,
            f"a U-Net's num_blocks is {self.num_blocks}, num_heads {self.num_heads}; 1 to {_MAX_BLOCKS} are wanted, "
            f"and heads that divide the {self.channels[-1]} channels of the last level",
        )


class UNet(nn.Module):
    """(B, C_in, F, N), c_noise (B,), tokens (B, L, D) -> (B, C_out, F, N); any F and N."""

    def __init__(self, in_channels: int, out_channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        features = 4 * widths[0]
        self.embedding = NoiseEmbedding(features)
        self.stem = nn.Conv2d(in_channels, widths[0], 5, config.stem_stride, padding=2)
        self.encoder = nn.ModuleList()
        self.decoder = nn.ModuleList()
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            innermost = level == len(widths) - 1
            self.encoder.append(Stage(width, width, features, config, attention=innermost))
            if not innermost:
                self.down.append(nn.Conv2d(width, widths[level + 1], 3, 2, padding=1))
                self.up.append(nn.Conv2d(widths[level + 1], width * 4, 1))
            self.decoder.append(Stage(2 * width, width, features, config, attention=innermost))
        self.out_norm = nn.GroupNorm(_GROUPS, widths[0])
        self.out = nn.Conv2d(widths[0], out_channels * math.prod(config.stem_stride), 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor, c_noise: Tensor, tokens: Tensor) -> Tensor:
        """See the class."""
        num_bins, num_frames = inputs.shape[-2:]
        depth = 2 ** (len(self.config.channels) - 1)
        multiples = [stride * depth for stride in self.config.stem_stride]
        padding = [-size % multiple for size, multiple in zip((num_bins, num_frames), multiples, strict=True)]
        x = functional.pad(inputs, (0, padding[1], 0, padding[0])).contiguous(
            memory_format=torch.channels_last
        )
        embedding = self.embedding(c_noise)
        x = self.stem(x)
        skips = []
        for level, stage in enumerate(self.encoder):
            x = stage(x, embedding, tokens)
            skips.append(x)
            if level < len(self.down):
                x = self.down[level](x)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](torch.cat([x, skips[level]], dim=1), embedding, tokens)
            if level > 0:
                x = functional.pixel_shuffle(self.up[level - 1](x), 2)
        x = self.out(functional.silu(self.out_norm(x)))
        return _unfold_stride(x, self.config.stem_stride)[..., :num_bins, :num_frames]


class NoiseEmbedding(nn.Module):
    """c_noise (B,) -> (B, D): sinusoids and two linear layers."""

    def __init__(self, features: int, num_frequencies: int = 32) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.logspace(-1, 2, num_frequencies) * math.pi / 2, persistent=False
        )
        self.layers = nn.Sequential(
            nn.Linear(2 * num_frequencies, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU()
        )

    def forward(self, c_noise: Tensor) -> Tensor:
        """See the class."""
        angles = c_noise.float()[:, None] * self.get_buffer("frequencies")
        embedded: Tensor = self.layers(torch.cat([angles.cos(), angles.sin()], dim=1))
        return embedded


class Stage(nn.Module):
    """The residual blocks of one level, followed by attention next to the bottleneck."""

    def __init__(
        self, in_channels: int, channels: int, features: int, config: UNetConfig, *, attention: bool
    ) -> None:
        super().__init__()
        sizes = [in_channels] + [channels] * config.num_blocks
        self.blocks = nn.ModuleList(
            ResidualBlock(size, channels, features) for size in sizes[: config.num_blocks]
        )
        self.attention = (
            SceneAttention(channels, config.token_features, config.num_heads) if attention else None
        )

    def forward(self, x: Tensor, embedding: Tensor, tokens: Tensor) -> Tensor:
        """(B, C_in, F, N) -> (B, C, F, N)."""
        for block in self.blocks:
            x = block(x, embedding)
        return x if self.attention is None else self.attention(x, tokens)


class ResidualBlock(nn.Module):
    """Two convolutions; the noise level scales and shifts between them."""

    def __init__(self, in_channels: int, channels: int, features: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_GROUPS, in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.modulation = nn.Linear(features, 2 * channels)
        self.norm2 = nn.GroupNorm(_GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C_in, F, N) -> (B, C, F, N)."""
        scale, shift = self.modulation(embedding)[..., None, None].chunk(2, dim=1)
        hidden = self.conv1(functional.silu(self.norm1(x)))
        hidden = torch.addcmul(shift, self.norm2(hidden), 1 + scale)
        summed: Tensor = self.skip(x) + self.conv2(functional.silu(hidden))
        return summed


class SceneAttention(nn.Module):
    """Self-attention over the spectrogram, then cross-modal attention to the scene tokens."""

    def __init__(self, channels: int, token_features: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.self_attention = Attention(channels, channels, num_heads)
        self.scene_norm = nn.LayerNorm(channels)
        self.scene_attention = Attention(channels, token_features, num_heads)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(B, C, F, N), (B, L, D) -> (B, C, F, N)."""
        batch, channels, num_bins, num_frames = x.shape
        normed = self.norm(x).flatten(2).transpose(1, 2)
        sequence: Tensor = x.flatten(2).transpose(1, 2) + self.self_attention(normed, normed)
        sequence = sequence + self.scene_attention(self.scene_norm(sequence), tokens)
        return (
            sequence.transpose(1, 2)
            .reshape(batch, channels, num_bins, num_frames)
            .contiguous(memory_format=torch.channels_last)
        )


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, equation 1): queries (B, Q, C), context (B, L, D) -> (B, Q, C)."""

    def __init__(self, channels: int, context_features: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(context_features, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """See the class."""
        query = self.query(queries).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key, value = self.key_value(context).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return mixed


def _unfold_stride(x: Tensor, stride: tuple[int, int]) -> Tensor:
    """(B, C S1 S2, F, N) -> (B, C, F S1, N S2): the sub-pixel inverse of a strided convolution."""
    batch, _, num_bins, num_frames = x.shape
    x = x.view(batch, -1, stride[0], stride[1], num_bins, num_frames)
    return x.permute(0, 1, 4, 2, 5, 3).reshape(batch, -1, num_bins * stride[0], num_frames * stride[1])
