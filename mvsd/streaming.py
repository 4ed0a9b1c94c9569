"""Recordings of any length in constant memory: windows with a cross-fade, and convolution block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from scipy import fft

from mvsd.audio import rechunk

_MIN_FFT_SIZE = 2**14


def overlap_windows(
    blocks: Iterable[np.ndarray], function: Callable[[np.ndarray, int], np.ndarray], size: int, overlap: int
) -> Iterator[np.ndarray]:
    """Apply function(window (C, n), index) to overlapping windows of a stream and cross-fade the results.

    A window holds `overlap` past samples and up to `size` - `overlap` new ones. Of the shared samples the first half
    only gives context, the second half is a linear cross-fade. As many samples come out as go in.
    """
    ramp = np.concatenate([np.zeros(overlap // 2), np.linspace(0, 1, overlap - overlap // 2)]).astype(
        np.float32
    )
    context = tail = None
    for index, block in enumerate(rechunk(blocks, size - overlap)):
        window = block if context is None else np.concatenate([context, block], axis=1)
        result = function(window, index)
        if tail is not None:
            shared = result[:, : tail.shape[1]]
            faded = tail + ramp[len(ramp) - tail.shape[1] :] * (shared - tail)
            result = np.concatenate([faded, result[:, tail.shape[1] :]], axis=1)
        num_done = max(0, result.shape[1] - overlap)
        context, tail = window[:, num_done:], result[:, num_done:]
        yield result[:, :num_done]
    if tail is not None:
        yield tail


def convolve_blocks(blocks: Iterable[np.ndarray], rir: np.ndarray) -> Iterator[np.ndarray]:
    """Convolve a stream of (C, n) blocks with rir (R,) by overlap-add; the tail after the stream's end is cut.

    Sample 0 of `rir`, the direct sound, is applied as a plain factor, so that a direct sound of 1 leaves the recording
    exactly as it is. The result does not depend on how the stream is cut into blocks.
    """
    late = np.array(rir, np.float64)
    direct, late[0] = np.float32(late[0]), 0.0
    size = fft.next_fast_len(max(2 * len(late), _MIN_FFT_SIZE), real=True)
    spectrum = fft.rfft(late, size)
    pending = np.zeros((1, 0))
    for block in rechunk(blocks, size - len(late) + 1):
        num_samples = block.shape[1]
        result = fft.irfft(fft.rfft(block.astype(np.float64), size) * spectrum, size)
        result = result[:, : num_samples + len(late) - 1]
        result[:, : pending.shape[1]] += pending
        yield direct * block + result[:, :num_samples].astype(np.float32)
        pending = result[:, num_samples:]


def take(blocks: list[np.ndarray], num_samples: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Split a queue of (C, n) blocks: the first `num_samples` samples (or all, if fewer), and the rest."""
    if len(blocks) == 1:
        (queue,) = blocks  # nothing to join, so nothing to copy
    else:
        queue = np.concatenate(blocks, axis=1) if blocks else np.zeros((1, 0), np.float32)
    rest = queue[:, num_samples:]
    return queue[:, :num_samples], [rest] if rest.shape[1] else []
