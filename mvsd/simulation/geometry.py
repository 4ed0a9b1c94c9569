"""Shapes of a room: wall surfaces with patches on them, oriented boxes, and the tests that placement needs.

Metres; x and y span the floor, z points up, the floor is z = 0; angles in radians, counter-clockwise from above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mvsd.simulation.materials import Color


@dataclass(frozen=True)
class Box:
    """A box standing upright, turned by ``yaw``; ``shape`` only changes the looks (box, cylinder, capsule, sphere)."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    material: str
    color: Color
    shape: str = "box"

    def footprint(self, margin: float = 0.0) -> np.ndarray:
        """(4, 2) corners of the base, counter-clockwise, grown by ``margin``."""
        half_x, half_y = self.size[0] / 2 + margin, self.size[1] / 2 + margin
        corners = np.array([[-half_x, -half_y], [half_x, -half_y], [half_x, half_y], [-half_x, half_y]])
        return np.asarray(corners @ rotation(self.yaw).T + np.array(self.center[:2]))

    @property
    def surface_area(self) -> float:
        """Area of the faces that sound reaches (all but the bottom)."""
        x, y, z = self.size
        return x * y + 2 * z * (x + y)


@dataclass(frozen=True)
class Furniture:
    """A piece of furniture: ``parts`` are what is seen, ``hull`` is the room it takes.

    Attributes:
        blocks: the sound sees the hull as a solid box; otherwise only its parts' absorption counts (a chair, a table).
    """

    name: str
    hull: Box
    parts: tuple[Box, ...]
    blocks: bool = True


@dataclass(frozen=True)
class Patch:
    """A rectangle on a wall or on the floor: window, door, curtain, rug, picture.

    Attributes:
        start, width: along the wall (floor: along x), metres from the wall's first corner.
        bottom, height: above the floor (floor: along y).
        glow: radiance of a lit window relative to a lamp, 0 = none.
    """

    name: str
    start: float
    bottom: float
    width: float
    height: float
    material: str
    color: Color
    glow: float = 0.0

    @property
    def area(self) -> float:
        """Square metres."""
        return self.width * self.height


@dataclass(frozen=True)
class Surface:
    """A plane boundary of the room.

    Attributes:
        corners: (N, 3), counter-clockwise seen from outside the room.
    """

    name: str
    corners: np.ndarray
    material: str
    color: Color
    patches: tuple[Patch, ...] = ()

    @property
    def length(self) -> float:
        """Metres along the floor, of a wall."""
        return float(np.linalg.norm(self.corners[1] - self.corners[0]))

    @property
    def along(self) -> np.ndarray:
        """(3,) unit vector from a wall's first corner to its second."""
        return np.asarray((self.corners[1] - self.corners[0]) / self.length)

    @property
    def area(self) -> float:
        """Square metres, patches included."""
        edges = self.corners[1:] - self.corners[0]
        return float(np.linalg.norm(np.cross(edges[:-1], edges[1:]).sum(axis=0)) / 2)


def rotation(angle: float) -> np.ndarray:
    """(2, 2) counter-clockwise rotation."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def polygon_area(polygon: np.ndarray) -> float:
    """Signed area of an (N, 2) polygon, positive if counter-clockwise."""
    x, y = polygon.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def inside_polygon(point: np.ndarray, polygon: np.ndarray) -> bool:
    """Whether a point (2,) is inside an (N, 2) polygon, by the parity of edge crossings."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    spans = (start[:, 1] > point[1]) != (end[:, 1] > point[1])
    height = np.where(spans, end[:, 1] - start[:, 1], 1.0)
    crossing = start[:, 0] + (point[1] - start[:, 1]) / height * (end[:, 0] - start[:, 0])
    return bool(np.count_nonzero(spans & (point[0] < crossing)) % 2)


def walls_at_reflex_corners(polygon: np.ndarray) -> set[int]:
    """Edges of a counter-clockwise (N, 2) polygon that meet at an inward corner; they can hide a part of it."""
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    turns_right = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0] < -1e-9
    corners = np.flatnonzero(turns_right)
    return {int(wall) % len(polygon) for corner in corners for wall in (corner, corner - 1)}


def wall_distance(point: np.ndarray, polygon: np.ndarray) -> float:
    """Distance from a point (2,) to the outline of an (N, 2) polygon."""
    edge = np.roll(polygon, -1, axis=0) - polygon
    along = np.clip(np.sum((point - polygon) * edge, axis=1) / np.sum(edge**2, axis=1), 0, 1)
    return float(np.min(np.linalg.norm(polygon + along[:, None] * edge - point, axis=1)))


def segments_cross(start: np.ndarray, end: np.ndarray, polygon: np.ndarray) -> bool:
    """Whether the segment start-end (2,) crosses the outline of an (N, 2) polygon."""
    first, second = polygon, np.roll(polygon, -1, axis=0)

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        ab, ac = b - a, c - a
        return np.asarray(ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0])

    splits_edge = side(start, end, first) * side(start, end, second) < 0
    splits_segment = side(first, second, start) * side(first, second, end) < 0
    return bool(np.any(splits_edge & splits_segment))


def polygon_inside(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Whether an (M, 2) polygon lies wholly inside an (N, 2) polygon."""
    if not all(inside_polygon(corner, outer) for corner in inner):
        return False
    edges = zip(inner, np.roll(inner, -1, axis=0), strict=True)
    return not any(segments_cross(start, end, outer) for start, end in edges)


def rectangles_overlap(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two convex (4, 2) polygons overlap, by the separating axis theorem."""
    for polygon in (first, second):
        edges = np.roll(polygon, -1, axis=0) - polygon
        normals = np.stack([edges[:, 1], -edges[:, 0]])
        a, b = first @ normals, second @ normals
        if np.any((a.max(axis=0) <= b.min(axis=0)) | (b.max(axis=0) <= a.min(axis=0))):
            return False
    return True


def box_blocks(box: Box, start: np.ndarray, end: np.ndarray, margin: float = 0.0) -> bool:
    """Whether the segment start-end (3,) passes through a box grown by ``margin`` (slab test)."""
    to_local = np.eye(3)
    to_local[:2, :2] = rotation(-box.yaw)
    origin = to_local @ (start - np.array(box.center))
    direction = to_local @ (end - start)
    direction = np.where(np.abs(direction) < 1e-12, 1e-12, direction)
    half = np.array(box.size) / 2 + margin
    bounds = np.stack([(-half - origin) / direction, (half - origin) / direction])
    entry, leave = bounds.min(axis=0).max(), bounds.max(axis=0).min()
    return bool(max(entry, 0.0) < min(leave, 1.0))


def extrude(polygon: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Floor, ceiling and wall corners (N, 3) of a room over a counter-clockwise (N, 2) polygon.

    Corners are counter-clockwise seen from outside, so that normals point out of the room. A wall begins with its
    two floor corners, the one that is on the right seen from inside first.
    """
    low = np.column_stack([polygon, np.zeros(len(polygon))])
    high = low + np.array([0, 0, height])
    following = np.roll(np.arange(len(polygon)), -1)
    walls = [np.stack([low[i], low[j], high[j], high[i]]) for i, j in enumerate(following)]
    return low[::-1].copy(), high, walls
