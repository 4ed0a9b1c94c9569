"""Photos in memory, and what chance makes of one in training: another camera, another light, another place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from mvsd.config import require_not_negative, require_positive
from mvsd.errors import ConfigError
from mvsd.scene import Scene, canvas_size


@dataclass(frozen=True)
class SceneConfig:
    """What chance may do to a photo; what a network reads off it must not depend on this. The defaults are light.

    Attributes:
        jitter: standard deviation of brightness and contrast, half of it for each colour.
        blur: largest standard deviation of a random blur, pixels of the canvas: one camera is sharper than another, and
            what only a renderer's pixels show must not be learned.
        noise: largest standard deviation of random noise on the normalised colours.
        local_contrast: largest share by which details of a random size, 4 to 64 pixels, are made stronger or weaker:
            shadows and dark corners depend on a renderer or a camera's processing as much as on the room.
        crop: largest share of each side that is cut off a photo; a panorama, which has no edge, is only turned.
        depth_dropout: chance that a scene comes without depth, as most photos do.
        scale: rows and columns of the canvases in multiples of 96 x 192, the most that a converter wants
            (`SceneEncoderConfig`); `blur` counts these pixels.
    """

    jitter: float = 0.1
    blur: float = 0.0
    noise: float = 0.0
    local_contrast: float = 0.0
    crop: float = 0.0
    depth_dropout: float = 0.5
    scale: int = 1

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        require_not_negative("data.scenes", vars(self))
        require_positive("data.scenes", {"scale": self.scale})
        if self.crop >= 1:
            raise ConfigError(f"data.scenes.crop is {self.crop}; it must be less than 1")


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
        elif config.crop:
            picture = _cropped(picture, generator.uniform(1 - config.crop, 1), generator.random(2))
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
        canvas[:3, rows, columns] *= max(contrast, 0.1) * np.maximum(colours, 0.1)
        canvas[:3, rows, columns] += brightness - 1.0
        if depth < config.depth_dropout:
            canvas[3] = 0.0
        return canvas


def _cropped(picture: np.ndarray, share: float, place: np.ndarray) -> np.ndarray:
    """A piece of (4, H, W) with `share` of each side, anywhere (`place` in 0..1), enlarged to the whole's size."""
    size = picture.shape[1:]
    if 0 in size:
        return picture
    sides = [max(1, round(share * side)) for side in size]
    starts = [round(float(at) * (whole - side)) for at, whole, side in zip(place, size, sides, strict=True)]
    cells = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    piece = torch.from_numpy(np.ascontiguousarray(picture[(slice(None), *cells)]))[None]
    colours = functional.interpolate(piece[:, :3], size, mode="bilinear", align_corners=False)
    depth = functional.interpolate(
        piece[:, 3:], size, mode="nearest"
    )  # between known and unknown lies nothing
    return torch.cat([colours, depth], dim=1)[0].numpy()


def _picture_box(canvas: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that hold picture; the bars of the letterbox are zero in every channel."""
    filled = np.any(canvas != 0.0, axis=0)
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
