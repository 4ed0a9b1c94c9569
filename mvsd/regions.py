"""Which regions of a photo decide what room it is heard as: each is hidden in turn, and the change is measured.

Occlusion sensitivity (Zeiler and Fergus, ECCV 2014). What is measured is the energy envelope that the reverberator
predicts from the photo as it is (`mvsd.networks.envelope`): it has no randomness, so that small changes are seen. It is
that of one view, where a response with `averages_views` is drawn from the mean over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from mvsd.converter import SAMPLE_RATE, Converter
from mvsd.errors import MvsdError
from mvsd.scene import Scene

Values = NDArray[np.float64]
Box = tuple[int, int, int, int]

_BATCH = 32
_GRID_ROWS = 6  # of a picture, and as many columns as make the patches square
_MAX_COLUMNS = 16
_UPPER_DB, _LOWER_DB = -5.0, -25.0  # of T20


@dataclass(frozen=True)
class Regions:
    """Changes that a region makes: what is heard with it, less what is heard without, each (rows, columns).

    `rt60_percent` in percent of the whole picture's reverberation time, `drr_db` in dB. A positive value says that
    the region makes the room more reverberant (longer) or, of `drr_db`, drier.
    """

    rt60_percent: Values
    drr_db: Values

    def strongest(self, count: int = 3) -> list[tuple[int, int]]:
        """(row, column) of the regions with the greatest change of the reverberation time, greatest first."""
        order = np.argsort(-np.abs(self.rt60_percent), axis=None, kind="stable")[:count]
        return [divmod(int(index), self.rt60_percent.shape[1]) for index in order]


def decisive_regions(scene: Scene, expected: Callable[[list[Scene]], Values]) -> Regions:
    """Hide each patch of a coarse grid behind the picture's mean colour (its depth becomes unknown).

    `expected` says of scenes what room they show: (B, 2), reverberation time in seconds and DRR in dB.
    """
    rows, columns = grid_of(scene)
    hidden = [hide(scene, box) for box in boxes(scene, rows, columns)]
    whole = expected([scene])[0]
    parts = [expected(hidden[start : start + _BATCH]) for start in range(0, len(hidden), _BATCH)]
    without = np.concatenate(parts).reshape(rows, columns, 2)
    return Regions(100 * (1 - without[..., 0] / whole[0]), whole[1] - without[..., 1])


def grid_of(scene: Scene) -> tuple[int, int]:
    """Rows and columns of the grid laid on a picture."""
    height, width = scene.image.shape[:2]
    rows = min(_GRID_ROWS, height)
    return rows, int(np.clip(round(rows * width / height), 1, min(_MAX_COLUMNS, width)))


def boxes(scene: Scene, rows: int, columns: int) -> list[Box]:
    """(top, bottom, left, right) of the patches in pixels, row by row."""
    height, width = scene.image.shape[:2]
    tops = np.linspace(0, height, rows + 1).round().astype(int).tolist()
    lefts = np.linspace(0, width, columns + 1).round().astype(int).tolist()
    return [(top, bottom, left, right) for top, bottom in pairwise(tops) for left, right in pairwise(lefts)]


def hide(scene: Scene, box: Box) -> Scene:
    """A copy of the scene with a patch in the picture's mean colour and of unknown depth."""
    patch = np.s_[box[0] : box[1], box[2] : box[3]]
    image = scene.image.copy()
    image[patch] = scene.image.mean((0, 1)).round().astype(np.uint8)
    if scene.depth is None:
        return Scene(image)
    depth = scene.depth.copy()
    depth[patch] = 0
    return Scene(image, depth)


@torch.inference_mode()
def expected_room(converter: Converter, scenes: list[Scene]) -> Values:
    """Reverberation time (s) and DRR (dB) of the envelope that the reverberator predicts of each as it is, (B, 2).

    The time is the slope of the predicted decay curve between -5 and -25 dB, of the reverberant part alone. The
    envelope is a mean of decibels, which lies below the mean energy: good for differences, too dry as a value.

    Raises:
        MvsdError: the model generates speech, not a response.
    """
    envelope = converter.envelope
    if envelope is None:
        raise MvsdError("this model predicts no response; give a reverberator with generates = 'response'")
    config = envelope.spectrogram
    predicted = envelope(converter.tokens(list(scenes)))
    num_frames = converter.spectrogram.num_frames(converter.config.num_samples)
    flat = predicted.new_ones(len(scenes), 2, converter.spectrogram.num_bins, num_frames)
    spectrogram = envelope.pull(flat, predicted, 1.0).cpu().double()
    energy = (spectrogram / config.scale).square().sum(1).pow(1 / config.power)
    # Parseval: bins between the first and last stand for two; the window's norm is divided out by `encode`.
    weight = energy.new_full((converter.spectrogram.num_bins, 1), 2 * config.hop / config.fft_size)
    weight[[0, -1]] /= 2
    per_frame = (weight * energy).sum(1).numpy()
    times = [_decay_seconds(frames, config.hop / SAMPLE_RATE) for frames in per_frame]
    return np.stack([np.array(times), -10 * np.log10(per_frame.sum(1))], axis=1)


def _decay_seconds(energy: Values, frame_seconds: float) -> float:
    """T20 of an energy per frame (N,)."""
    remaining = np.cumsum(energy[::-1])[::-1]
    curve = 10 * np.log10(np.maximum(remaining / remaining[0], 1e-30))
    inside = np.flatnonzero((curve <= _UPPER_DB) & (curve >= _LOWER_DB))
    if len(inside) < 2:  # it falls by more than that within a frame
        inside = np.array([0, 1])
    return float(-60 / np.polyfit(inside * frame_seconds, curve[inside], 1)[0])
