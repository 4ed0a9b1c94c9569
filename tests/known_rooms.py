"""Converters whose rooms and answers are known, and what goes through them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mvsd.blockwise import Blocks, Blockwise, Request, add_change
from mvsd.scene import Scene
from mvsd.streaming import convolve_blocks

RATE = 16_000


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def voice(num_samples: int, seed: int = 0) -> np.ndarray:
    """Noise in syllables: bursts and gaps, four to the second, low frequencies louder."""
    samples = np.cumsum(noise(num_samples, seed=seed)) * 0.1
    samples -= np.convolve(samples, np.ones(64) / 64, "same")
    syllables = np.clip(np.sin(2 * np.pi * 4 * np.arange(num_samples) / RATE), 0, 1) ** 2
    return (samples * syllables).astype(np.float32)


def room(rt60: float = 0.5, drr: float = 0.0, num_samples: int = 16_000, seed: int = 0) -> np.ndarray:
    """Exponential noise with a reverberation time and a direct-to-reverberant ratio, direct sound 1 at sample 0."""
    tail = noise(num_samples, seed=seed).astype(float) * 10 ** (-3 * np.arange(num_samples) / RATE / rt60)
    tail[:48] = 0
    tail *= np.sqrt(10 ** (-drr / 10) / np.sum(tail**2))
    tail[0] = 1
    return tail.astype(np.float32)


class Room(Blockwise):
    """A reverberator whose response is known; its seed turns the sign of the late part."""

    def __init__(self, rir: np.ndarray) -> None:
        self.rir = rir

    def response(self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None) -> np.ndarray:
        late = self.rir * (-1) ** seed
        return np.concatenate([self.rir[:1], late[1:]])

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        late = self.response(seed=request.seed)
        late[0] = 0
        rate, num_channels = request.sample_rate, request.num_channels
        return add_change(blocks, rate, num_channels, lambda low: convolve_blocks(low, late))


class Answer(Blockwise):
    """A dereverberator that knows the dry voice (C, T) and returns it in blocks of 3000 samples."""

    def __init__(self, dry: np.ndarray) -> None:
        self.dry = np.atleast_2d(dry)

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        num_read = sum(block.shape[1] for block in blocks)
        assert num_read == self.dry.shape[1]
        yield from (self.dry[:, start : start + 3000] for start in range(0, num_read, 3000))
