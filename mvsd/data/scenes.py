"""Photos in memory, and what chance makes of one in training: another camera, another light, another place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from mvsd.config import require_not_negative, require_positive, require_shares
from mvsd.errors import ConfigError
from mvsd.scene import IMAGENET_MEAN, IMAGENET_STD, Scene, canvas_size


@dataclass(frozen=True)
class SceneConfig:
    """What chance may do to a photo; what a network reads off it must not depend on this. The defaults are light.

    Attributes:
        jitter: standard deviation of brightness and contrast, half of it for each colour, as light is warm or cold.
        blur: largest standard deviation of a random blur, pixels of the canvas: one camera is sharper than another, and
            what only a renderer's pixels show must not be learned.
        noise: largest standard deviation of random noise on the normalised colours.
        local_contrast: largest share by which details of a random size, 4 to 64 pixels, are made stronger or weaker:
            shadows and dark corners depend on a renderer or a camera's processing as much as on the room.
        crop: largest share of each side that is cut off a photo; a panorama, which has no edge, is only turned.
        reshape: chance that a photo is cut to another shape as well, from upright (3 : 4) to a film's (16 : 9).
        depth_dropout: chance that a scene comes without depth, as most photos do.
        scale: rows and columns of the canvases in multiples of 96 x 192, the most that a converter wants
            (`SceneEncoderConfig`); `blur` counts these pixels.
    """

    jitter: float = 0.1
    blur: float = 0.0
    noise: float = 0.0
    local_contrast: float = 0.0
    crop: float = 0.0
    reshape: float = 0.0
    depth_dropout: float = 0.5
    scale: int = 1

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        require_not_negative("data.scenes", vars(self))
        require_positive("data.scenes", {"scale": self.scale})
        require_shares("data.scenes", {"reshape": self.reshape, "depth_dropout": self.depth_dropout})
        if self.crop >= 1:
            raise ConfigError(f"data.scenes.crop is {self.crop}; it must be less than 1")


_BLACK = (IMAGENET_MEAN / IMAGENET_STD)[:, None, None]  # what lies between black and the middle
_NARROWEST, _WIDEST = 3 / 4, 16 / 9


class Scenes:
    """Canvases in memory at half precision, drawn with random turns, mirrors, framing and light."""

    def __init__(self, scenes: Iterable[Scene], scale: int = 1) -> None:
        canvases, boxes, turnable = list[np.ndarray](), list[tuple[slice, slice]](), list[bool]()
        for scene in scenes:
            canvas = scene.canvas(*canvas_size(scale))
            canvases.append(canvas.astype(np.float16))
            boxes.append(_picture_box(canvas))
            turnable.append(scene.is_panorama)
        self._canvases, self._boxes, self._turnable = canvases, boxes, turnable

    def __len__(self) -> int:
        return len(self._canvases)

    def draw(self, index: int, generator: np.random.Generator, config: SceneConfig) -> np.ndarray:
        """(4, H, W) float32 canvas: turned (panoramas) or cut (photos), mirrored, in other light, perhaps no depth."""
        turn, flip, depth = generator.random(3)
        contrast, brightness = 1.0 + config.jitter * generator.standard_normal(2)
        colours = 1.0 + 0.5 * config.jitter * generator.standard_normal((3, 1, 1))
        canvas = self._canvases[index].astype(np.float32)
        rows, columns = self._boxes[index]
        picture = canvas[:, rows, columns]
        if self._turnable[index]:
            picture = np.roll(picture, int(turn * picture.shape[-1]), axis=-1)
        elif config.crop or config.reshape:
            share, place, shape = (
                generator.uniform(1 - config.crop, 1),
                generator.random(2),
                generator.random(2),
            )
            aspect = float(_NARROWEST * (_WIDEST / _NARROWEST) ** shape[0])
            picture, (rows, columns) = _framed(
                picture, share, place, aspect if shape[1] < config.reshape else None, canvas.shape[1:]
            )
            canvas = np.zeros_like(canvas)
        if flip < 0.5:
            picture = picture[..., ::-1]
        if config.blur:
            sigma = generator.uniform(0, config.blur)
            picture = np.concatenate([ndimage.gaussian_filter(picture[:3], (0, sigma, sigma)), picture[3:]])
        if config.local_contrast:
            size = round(4 * 16 ** generator.random())
            change = generator.uniform(-config.local_contrast, config.local_contrast)
            details = picture[:3] - ndimage.uniform_filter(picture[:3], (1, size, size), mode="nearest")
            picture = np.concatenate([picture[:3] + change * details, picture[3:]])
        canvas[:, rows, columns] = picture
        if config.noise:
            noise = generator.uniform(0, config.noise) * generator.standard_normal(picture[:3].shape)
            canvas[:3, rows, columns] += noise
        colours = np.maximum(colours, 0.1)
        canvas[:3, rows, columns] *= max(contrast, 0.1) * colours
        canvas[:3, rows, columns] += brightness - 1.0 + (colours - 1) * _BLACK
        if depth < config.depth_dropout:
            canvas[3] = 0.0
        return canvas


def _framed(
    picture: np.ndarray, share: float, place: np.ndarray, aspect: float | None, canvas: tuple[int, ...]
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """A piece of (4, H, W), and where on a canvas of (rows, columns) it belongs, as large as it fits.

    It has `share` of each side, or with an `aspect` (columns by rows) as much of one of them, and lies anywhere
    (`place` in 0..1).
    """
    size = picture.shape[1:]
    if 0 in size:
        return picture, (slice(0, 0), slice(0, 0))
    wider = 1.0 if aspect is None else aspect * size[0] / size[1]
    shares = (share / max(wider, 1), share * min(wider, 1))
    wanted = [part * side for part, side in zip(shares, size, strict=True)]
    sides = [max(1, round(side)) for side in wanted]
    starts = [round(float(at) * (whole - side)) for at, whole, side in zip(place, size, sides, strict=True)]
    cells = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    piece = torch.from_numpy(np.ascontiguousarray(picture[(slice(None), *cells)]))[None]
    scale = min(whole / side for whole, side in zip(canvas, wanted, strict=True))
    fitted = [min(whole, max(1, round(scale * side))) for whole, side in zip(canvas, wanted, strict=True)]
    colours = functional.interpolate(piece[:, :3], fitted, mode="bilinear", align_corners=False)
    depth = functional.interpolate(
        piece[:, 3:], fitted, mode="nearest"
    )  # between known and unknown lies nothing
    corner = [(whole - side) // 2 for whole, side in zip(canvas, fitted, strict=True)]
    box = (slice(corner[0], corner[0] + fitted[0]), slice(corner[1], corner[1] + fitted[1]))
    return torch.cat([colours, depth], dim=1)[0].numpy(), box


def _picture_box(canvas: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that hold picture; the bars of the letterbox are zero in every channel."""
    filled = np.any(canvas != 0.0, axis=0)
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
