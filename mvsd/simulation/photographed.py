"""Photographed rooms: from a photo with depth and labels to a room that can be simulated.

The data set is NYU Depth v2 (Silberman et al. 2012) as a folder: ``rgb/NAME.jpg``, ``depth/NAME.png`` (8 bit,
metres = value / 25.5), ``labels40/NAME.png`` (the 40 classes of Gupta et al. 2013, counted from 0) and ``split.csv``
(name, split, below a row of titles).

Depth and camera give points in space; the floor's points say what is level, the walls' points how the room is turned
and how far it reaches, the labels what its surfaces are made of. What the photo does not show (the room behind the
camera, the far side of the furniture, the talker) is drawn at random or taken to be like what it shows.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mvsd.errors import DataError, NotMeasurable
from mvsd.scene import Scene
from mvsd.simulation.furniture import figure, place
from mvsd.simulation.geometry import Box, Furniture, Patch, Surface, extrude, rotation
from mvsd.simulation.materials import MATERIALS
from mvsd.simulation.rooms import Camera, Room

FOCAL_SHARE = 518.86 / 640
"""Focal length over the picture's width: the camera of the data set."""

METRES_PER_UNIT = 1 / 25.5
FLOOR, CEILING = 1, 21
UNKNOWN = 39  # nobody labelled it: the outline of every object, and all sorts of things
WALL_MATERIALS = {0: "gypsum board", 7: "wooden door", 8: "double glazing", 10: "painted wood", 12: "blinds",
                  15: "heavy curtain", 18: "window glass", 27: "light curtain", 29: "painted wood"}  # fmt: skip
FURNITURE_MATERIALS = {2: "wood", 3: "bedding", 4: "wooden chair", 5: "upholstery", 6: "wood", 9: "books",
                       11: "wood", 13: "wood", 14: "wood", 16: "wood", 17: "upholstery", 20: "clothes",
                       22: "books", 23: "metal", 24: "plastic", 25: "light curtain", 26: "clothes", 28: "painted wood",
                       30: "clothes", 31: "wood", 32: "porcelain", 33: "porcelain", 34: "metal", 35: "porcelain",
                       36: "clothes", 37: "painted wood", 38: "wood"}  # fmt: skip

_MIN_PIXELS = 150  # of a class, to be believed
_CAMERA_HEIGHTS = 0.6, 2.0  # metres above the floor; else something low or a table was called floor
_MIN_SIDE, _MAX_SIDE = 1.8, 14.0
_MAX_STRETCH = 4.0  # pixels seen at a glancing angle count at most so much


@dataclass(frozen=True)
class Photographed:
    """One photo of the data set.

    Attributes:
        image: (H', W', 3) uint8, as large as it came.
        depth: (H, W) float32 metres along the camera's axis, 0 where unknown.
        labels: (H, W) classes 0..39.
    """

    name: str
    image: np.ndarray
    depth: np.ndarray
    labels: np.ndarray

    @property
    def scene(self) -> Scene:
        """What a converter sees of it; the depth there is along the ray, as large as the photo."""
        along_ray = np.linalg.norm(_points(self.depth), axis=-1).astype(np.float32)
        rows, columns = self.image.shape[:2]
        # Between known and unknown lies nothing.
        enlarged = Image.fromarray(along_ray).resize((columns, rows), Image.Resampling.NEAREST)
        return Scene(self.image, np.array(enlarged))


def find_photographed(folder: str | Path, split: str) -> list[str]:
    """Names of the photos of a split.

    Raises:
        DataError: the folder has no split.csv in that form, or the split is empty.
    """
    path = Path(folder) / "split.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if len(row) == 2][1:]  # the first names the columns
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); wanted is a folder with rgb, depth, labels40, split.csv"
        ) from error
    names = [name for name, of in rows if of == split]
    if not names:
        raise DataError(f"{path} has no photos of split {split!r}; it has {sorted({of for _, of in rows})}")
    return names


def open_photographed(folder: str | Path, name: str) -> Photographed:
    """Read one photo.

    Raises:
        DataError: a file is missing, damaged, or of another size.
    """
    folder = Path(folder)
    try:
        depth = _grey(folder / "depth" / f"{name}.png") * np.float32(METRES_PER_UNIT)
        labels = _grey(folder / "labels40" / f"{name}.png").astype(int)
        with Image.open(folder / "rgb" / f"{name}.jpg", formats=("JPEG",)) as photo:
            image = np.array(photo.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"photo {name} of {folder} cannot be read ({error}); get the data again") from error
    if depth.shape != labels.shape or labels.max() > UNKNOWN:
        raise DataError(
            f"photo {name} of {folder}: depth {depth.shape} and labels {labels.shape} up to {labels.max()} came;"
            " wanted are equal sizes and classes 0 to 39"
        )
    return Photographed(name, image, depth.astype(np.float32), labels)


def _grey(path: Path) -> np.ndarray:
    with Image.open(path, formats=("PNG",)) as picture:
        if picture.mode != "L":
            raise ValueError(f"{path.name} is a {picture.mode} picture, wanted is 8-bit grey")
        return np.array(picture, dtype=np.float32)


def photographed_room(photo: Photographed, seed: int) -> Room:
    """The room on a photo, with a talker somewhere in view; the same seed gives the same room.

    Raises:
        NotMeasurable: the photo knows too little depth.
    """
    rng = np.random.default_rng(seed)
    points = _points(photo.depth)
    known = photo.depth > 0
    if known.mean() < 0.2:
        raise NotMeasurable(f"photo {photo.name} knows the depth of only {known.mean():.0%} of its pixels")
    level, camera_height = _level(points, photo.labels, known)
    points = points @ level.T
    yaw = _yaw(points[known & np.isin(photo.labels, list(WALL_MATERIALS))][:, :2])
    turn = np.eye(3)
    turn[:2, :2] = rotation(-yaw)
    points = points @ turn.T
    low, high = _extent(points[known], rng)
    height = _height(points, photo.labels, known, camera_height)
    size = np.clip(high - low, _MIN_SIDE, _MAX_SIDE)
    outline = np.array([[0, 0], [size[0], 0], size, [0, size[1]]])
    camera_spot = np.clip(-low, 0.3, size - 0.3)
    areas = _areas(photo, points, known)
    surfaces, scale = _surfaces(outline, height, areas, rng)
    furniture = tuple(
        _absorber(material, scale * areas[label], rng)
        for label, material in FURNITURE_MATERIALS.items()
        if areas[label] > 0.05
    )
    position = (float(camera_spot[0]), float(camera_spot[1]), min(camera_height, height - 0.3))
    bearing = np.pi / 2 - yaw
    source, facing = _talker(position, bearing, points, size, height, rng)
    towards = rotation(facing - np.pi / 2)
    person = place("person", figure(rng, source[2]), np.array(source[:2]) - towards @ np.array([0.0, 0.1]),
                   facing - np.pi / 2)  # fmt: skip
    fov = float(np.degrees(2 * np.arctan(0.5 / FOCAL_SHARE)))
    camera = Camera(position, bearing, 0.0, fov, "perspective")
    return Room(
        seed, "photographed", outline, height, surfaces, furniture, person, source, facing, camera, 0.5, 0.5
    )


def _points(depth: np.ndarray) -> np.ndarray:
    """(H, W, 3): right, forward and up of the camera, metres."""
    rows, columns = depth.shape
    focal = FOCAL_SHARE * columns
    across = (np.arange(columns) + 0.5 - columns / 2) / focal
    down = (np.arange(rows) + 0.5 - rows / 2) / focal
    return np.stack([depth * across, depth, -depth * down[:, None]], axis=-1)


def _level(points: np.ndarray, labels: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, float]:
    """The rotation (3, 3) that makes the floor (or the ceiling) level, and the camera's height above the floor."""
    for label in (FLOOR, CEILING):
        plane = points[known & (labels == label)]
        if len(plane) < _MIN_PIXELS:
            continue
        for _ in range(3):  # what does not lie in the plane was labelled in haste
            middle = plane.mean(axis=0)
            up = np.linalg.svd(plane - middle, full_matrices=False)[2][2]
            up = up if up[2] > 0 else -up
            distance = np.abs((plane - middle) @ up)
            plane = plane[distance <= max(0.03, 2 * float(np.median(distance)))]
        height = -float(middle @ up) if label == FLOOR else 1.4
        if up[2] > 0.7 and _CAMERA_HEIGHTS[0] <= height <= _CAMERA_HEIGHTS[1]:
            right = np.cross([0.0, 1.0, 0.0], up)
            right /= np.linalg.norm(right)
            level = np.stack([right, np.cross(up, right), up])
            return level, height
    return np.eye(3), 1.4


def _yaw(walls: np.ndarray) -> float:
    """The angle by which the walls' points (N, 2) are turned against the axes: there their shadows are sharpest."""
    if len(walls) < _MIN_PIXELS:
        return 0.0

    def sharpness(angle: float) -> float:
        turned = walls @ rotation(-angle).T
        counts = [np.bincount(((axis - axis.min()) / 0.05).astype(int)) for axis in turned.T]
        return float(sum((count.astype(float) ** 2).sum() for count in counts))

    angles = np.radians(np.arange(-44, 46, 2))
    return float(max(angles, key=sharpness))


def _extent(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (2,) of the floor plan, the camera at 0; what is behind it is not far."""
    low, high = np.percentile(points[:, :2], [1, 99], axis=0)
    behind = rng.uniform(0.3, 1.2, size=(2, 2))
    return np.minimum(low, -behind[0]), np.maximum(high, behind[1])


def _height(points: np.ndarray, labels: np.ndarray, known: np.ndarray, camera_height: float) -> float:
    ceiling = points[known & (labels == CEILING)][:, 2]
    top = np.median(ceiling) if len(ceiling) >= _MIN_PIXELS else np.percentile(points[known][:, 2], 98)
    lowest = 2.2 if len(ceiling) >= _MIN_PIXELS else 2.45
    return float(np.clip(camera_height + top, lowest, 4.5))


def _areas(photo: Photographed, points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(40,) square metres that the photo shows of each class: pixels spread out over the slope of their surface."""
    facing = (photo.depth / (FOCAL_SHARE * photo.depth.shape[1])) ** 2
    along, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
    area = np.linalg.norm(np.cross(along, down), axis=-1)
    area = np.clip(area, facing, _MAX_STRETCH * facing) * known
    return np.bincount(photo.labels.ravel(), area.ravel(), minlength=UNKNOWN + 1)


def _surfaces(
    outline: np.ndarray, height: float, areas: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[Surface, ...], float]:
    """Floor, ceiling and walls, each made of what is seen of its kind; and room surface per surface seen, 1..4."""
    floor, ceiling, walls = extrude(outline, height)
    size = outline[2]
    seen = np.array([areas[label] for label in WALL_MATERIALS])
    shares = seen / seen.sum() if seen.sum() > 0.5 else np.eye(len(seen))[0]
    whole = 2 * float(np.prod(size)) + 2 * height * float(size.sum())
    scale = float(np.clip(whole / max(seen.sum() + areas[FLOOR] + areas[CEILING], 0.1), 1.0, 4.0))
    # No class tells a carpet from boards: half of each.
    carpet = Patch("rug", 0.0, 0.0, size[0], size[1] / 2, "thin carpet", MATERIALS["thin carpet"].colors[0])
    made = [
        Surface("floor", floor, "parquet", MATERIALS["parquet"].sample_color(rng), (carpet,)),
        Surface("ceiling", ceiling, "plasterboard ceiling", (0.95, 0.95, 0.93)),
    ]
    for index, corners in enumerate(walls):
        length = float(np.linalg.norm(corners[1] - corners[0]))
        starts = length * np.concatenate([[0.0], np.cumsum(shares)])
        patches = tuple(
            Patch(
                material,
                float(start),
                0.0,
                float(share * length),
                height,
                material,
                MATERIALS[material].colors[0],
            )
            for material, share, start in zip(WALL_MATERIALS.values(), shares, starts, strict=False)
            if share > 0.01 and material != WALL_MATERIALS[0]
        )
        color = MATERIALS[WALL_MATERIALS[0]].sample_color(rng)
        made.append(Surface(f"wall {index}", corners, WALL_MATERIALS[0], color, patches))
    return tuple(made), scale


def _absorber(material: str, area: float, rng: np.random.Generator) -> Furniture:
    """A cube on the floor with that much surface; sound passes around it."""
    side = float(np.sqrt(area / 5))
    box = Box((0.0, 0.0, side / 2), (side, side, side), 0.0, material, MATERIALS[material].sample_color(rng))
    return Furniture(material, box, (box,), blocks=False)


def _talker(
    position: tuple[float, float, float],
    bearing: float,
    points: np.ndarray,
    size: np.ndarray,
    height: float,
    rng: np.random.Generator,
) -> tuple[tuple[float, float, float], float]:
    """Mouth and facing of a talker whom the camera would see: nearer than what the photo shows in that direction."""
    rows, columns = points.shape[:2]
    for _ in range(100):
        column = int(rng.integers(columns // 8, columns - columns // 8))
        free = float(np.percentile(np.linalg.norm(points[: rows // 2, column, :2], axis=-1), 50))
        distance = np.exp(rng.uniform(np.log(0.7), np.log(np.clip(0.9 * free, 0.8, 2.2))))
        direction = bearing - np.arctan((column + 0.5 - columns / 2) / (FOCAL_SHARE * columns))
        spot = np.array(position[:2]) + distance * np.array([np.cos(direction), np.sin(direction)])
        if np.all(spot > 0.25) and np.all(spot < size - 0.25):
            break
    else:
        spot = np.array(position[:2]) + 0.7 * (size / 2 - position[:2]) / np.linalg.norm(
            size / 2 - position[:2]
        )
        direction = float(np.arctan2(*(spot - position[:2])[::-1]))
    mouth = (float(spot[0]), float(spot[1]), float(min(rng.uniform(1.2, 1.65), height - 0.3)))
    facing = float(direction + np.pi + np.clip(rng.normal(0, np.radians(35)), -2.0, 2.0))
    return mouth, facing
