"""What every converter that works block by block has in common, be it a model or one that wraps another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch

from mvsd.audio import HIGHEST_RATE, rechunk, resample_blocks
from mvsd.errors import MvsdError
from mvsd.scene import Scene
from mvsd.streaming import take
from mvsd.waveform import is_whole, require_channels_first, whole_rate

CORE_RATE = 16_000
_BLOCK_SECONDS = 10  # of a recording at once, as of a file
_NUM_SEEDS = 2**32

Waveform = TypeVar("Waveform", np.ndarray, torch.Tensor)
"""An array or a tensor; what comes back is of the same kind."""

Blocks = Iterable[np.ndarray]


@dataclass(frozen=True)
class Request:
    """What a stream of blocks is and what is to be made of it.

    `sample_rate` (Hz) and `num_channels` are the stream's; `scene` is the room (None: unknown), `seed` chooses among
    what it leaves open, `steps` defaults to the model's own number.
    """

    sample_rate: int
    num_channels: int
    scene: Scene | None = None
    _: KW_ONLY
    seed: int = 0
    steps: int | None = None


class AudioConverter(Protocol):
    """What the command line, the web page and the evaluation know of a converter, ours or another's."""

    def convert(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        scene: Scene | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
    ) -> np.ndarray:
        """(T,) or (C, T) -> the same shape, at the same rate, aligned to the sample."""
        ...


class BlockConverter(Protocol):
    """What a converter must do to be wrapped by another, and to have its files handled."""

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        """Blocks (C, n) -> blocks (C, m) with as many samples in all."""
        ...


class ResponseConverter(BlockConverter, Protocol):
    """A converter that generates a room's response and convolves with it."""

    def response(self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None) -> np.ndarray:
        """The response (R,) at 16 kHz, its direct sound at sample 0."""
        ...


class Blockwise(ABC):
    """A converter that says how it treats a stream of blocks; whole recordings follow from that."""

    @abstractmethod
    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        """Convert a stream of (C, n) blocks of any sizes; as many samples come out as go in."""

    def convert(
        self,
        waveform: Waveform,
        sample_rate: int,
        scene: Scene | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
    ) -> Waveform:
        """Convert a recording: (T,) or (C, T) in -1..1 -> the same shape and rate, aligned to the sample.

        An array gives an array, a tensor a tensor on the same device (without a gradient), float32 in both cases.
        `seed`, 0 to 2**32 - 1, chooses among what the scene leaves open, `steps` defaults to the model's own. Raises
        MvsdError for another shape or kind of number, for samples that are not finite in float32, and for a
        `sample_rate` (1 to `HIGHEST_RATE` Hz), seed or number of steps that is no whole number or out of range.
        """
        if isinstance(waveform, torch.Tensor):
            known = waveform.float() if waveform.is_floating_point() else waveform  # numpy has no bfloat16
            array = self._convert(known.detach().cpu().numpy(), sample_rate, scene, seed, steps)
            return torch.from_numpy(array).to(waveform.device)
        return self._convert(np.asarray(waveform), sample_rate, scene, seed, steps)

    def _convert(
        self, waveform: np.ndarray, sample_rate: int, scene: Scene | None, seed: int, steps: int | None
    ) -> np.ndarray:
        if waveform.dtype.kind != "f":
            raise MvsdError(
                f"waveform is of {waveform.dtype}; floats in -1..1 are wanted (16 bit: divide by 32768)"
            )
        require_channels_first(waveform)
        if scene is not None and not isinstance(scene, Scene):
            raise MvsdError(f"scene is a {type(scene).__name__}; give mvsd.Scene.open(photo), or None")
        sample_rate = whole_rate(sample_rate)
        if not 1 <= sample_rate <= HIGHEST_RATE:
            raise MvsdError(f"sample_rate is {sample_rate} Hz; 1 to {HIGHEST_RATE} is wanted")
        if not is_whole(seed) or not 0 <= seed < _NUM_SEEDS:
            raise MvsdError(f"seed is {seed!r}; a whole number from 0 to {_NUM_SEEDS - 1} is wanted")
        if steps is not None and (not is_whole(steps) or steps < 1):
            raise MvsdError(f"steps is {steps!r}; at least 1 is wanted, or None for the model's own number")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is told below
            channels = np.atleast_2d(waveform).astype(np.float32)
        if not np.isfinite(channels).all():
            raise MvsdError(
                "waveform holds NaN, infinity or more than float32 can; finite samples are wanted"
            )
        steps = None if steps is None else int(steps)
        request = Request(sample_rate, len(channels), scene, seed=int(seed), steps=steps)
        # In blocks: what is kept for later of a recording in one piece would be copied again for every window.
        blocks = self.convert_blocks(rechunk([channels], _BLOCK_SECONDS * sample_rate), request)
        return np.concatenate([channels[:, :0], *blocks], axis=1).reshape(waveform.shape)


def add_change(
    blocks: Blocks, sample_rate: int, num_channels: int, change: Callable[[Blocks], Blocks]
) -> Iterator[np.ndarray]:
    """Add to a stream of (C, n) blocks what `change` makes of it at 16 kHz; as many samples come out as go in.

    `change` maps a stream of (C, n) to one of the same length. Only its result is resampled, so the stream keeps its
    rate, its alignment, and its band above 8 kHz as it was.
    """
    source, kept = _keeping(blocks)
    low = resample_blocks(source, sample_rate, CORE_RATE, num_channels)
    for block in resample_blocks(change(low), CORE_RATE, sample_rate, num_channels):
        original, kept[:] = take(kept, block.shape[1])
        yield original + block[:, : original.shape[1]]
    yield from kept


def beside(
    blocks: Blocks, converter: BlockConverter, request: Request
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A stream and what a converter makes of it, in step: pairs of (C, n) blocks, source and estimate."""
    source, kept = _keeping(blocks)
    for estimate in converter.convert_blocks(source, request):
        same, kept[:] = take(kept, estimate.shape[1])
        yield same, estimate


def _keeping(blocks: Blocks) -> tuple[Iterator[np.ndarray], list[np.ndarray]]:
    """A stream, and the queue into which each of its blocks goes as it is read."""
    kept: list[np.ndarray] = []

    def keep() -> Iterator[np.ndarray]:
        for block in blocks:
            kept.append(block)
            yield block

    return keep(), kept
