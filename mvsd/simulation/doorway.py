"""What is seen of the next room through an open doorway: a frame, and behind it floor, walls, ceiling and a lamp."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mvsd.simulation.geometry import Box, Patch, Surface
from mvsd.simulation.materials import Color
from mvsd.simulation.mesh import Mesh, rectangle
from mvsd.simulation.rooms import Room

_FRAME, _REACH = 0.06, 0.14  # metres: how wide the frame is, and how far the wall is from its other side


class Stage(Protocol):
    """Where geometry goes, see `mvsd.simulation.stage`."""

    rng: np.random.Generator

    def add(self, mesh: Mesh, material: str, color: Color) -> None:
        """A mesh of a material."""

    def add_box(self, box: Box) -> None:
        """A part of furniture."""

    def add_light(self, mesh: Mesh, radiance: np.ndarray) -> None:
        """A mesh that glows."""


def wall_pieces(wall: Surface, height: float) -> list[Mesh]:
    """The wall (metres high) as rectangles around its open doorways, which do not overlap."""
    pieces, cursor = list[Mesh](), 0.0
    openings = sorted(
        (patch for patch in wall.patches if patch.name == "opening"), key=lambda patch: patch.start
    )
    for patch in openings:
        pieces.append(_upright(wall, cursor, patch.start, 0.0, height))
        pieces.append(_upright(wall, patch.start, patch.start + patch.width, patch.height, height))
        cursor = patch.start + patch.width
    return [*pieces, _upright(wall, cursor, wall.length, 0.0, height)]


def _upright(wall: Surface, start: float, end: float, bottom: float, top: float) -> Mesh:
    """A part of a wall; it faces into the room, and its texture goes on from piece to piece."""
    along = wall.along
    middle = wall.corners[0] + along * (start + end) / 2 + np.array([0, 0, (bottom + top) / 2])
    up = np.array([0.0, 0.0, (top - bottom) / 2])
    # the wall's first corner is on the right seen from inside
    mesh = rectangle(middle, -along * (end - start) / 2, up)
    return mesh._replace(uv=mesh.uv + np.array([-end, bottom]))


def add_next_room(patch: Patch, wall: Surface, room: Room, stage: Stage) -> None:
    """The frame of an open doorway, and behind it a room that is lit or not, as far as it can be seen."""
    along = wall.along
    outward = np.array([along[1], -along[0], 0.0])
    yaw = float(np.arctan2(along[1], along[0]))
    threshold = wall.corners[0] + along * (patch.start + patch.width / 2) + outward * _REACH / 2

    def bar(sideways: float, up: float, width: float, height: float) -> None:
        x, y, z = threshold + along * sideways + np.array([0, 0, up])
        size = (width, _REACH + 0.04, height)
        stage.add_box(Box((float(x), float(y), float(z)), size, yaw, "painted wood", (0.93, 0.93, 0.91)))

    for side in (-1, 1):
        bar(side * (patch.width + _FRAME) / 2, patch.height / 2, _FRAME, patch.height)
    bar(0.0, patch.height + _FRAME / 2, patch.width + 2 * _FRAME, _FRAME)
    bar(0.0, 0.004, patch.width, 0.008)

    left, right, depth = _extent(patch, wall, stage.rng)
    height = min(room.height - 0.01, patch.height + float(stage.rng.uniform(0.15, 0.6)))
    middle = threshold + outward * (_REACH + depth) / 2 + along * (right - left) / 2
    half = (along * (left + right + patch.width) / 2, outward * depth / 2, np.array([0, 0, height / 2]))
    center = middle + half[2]
    floor = next(surface for surface in room.surfaces if surface.name == "floor")
    stage.add(rectangle(middle + np.array([0, 0, 0.004]), half[0], half[1]), floor.material, floor.color)
    stage.add(rectangle(middle + 2 * half[2], half[0], half[1]), "plaster", (0.93, 0.93, 0.91))
    stage.add(rectangle(center + half[1], half[0], half[2]), "plaster", patch.color)
    for side in (-1, 1):
        stage.add(rectangle(center + side * half[0], half[1], half[2]), "plaster", patch.color)
    brightness = float(stage.rng.choice([0.0, 1.0], p=[0.3, 0.7]) * stage.rng.uniform(3.0, 50.0))
    if brightness:
        lamp = rectangle(middle + 2 * half[2] * 0.99, along * 0.2, outward * 0.2)
        stage.add_light(
            lamp, brightness * np.array([1.0, 0.92 - 0.17 * room.warmth, 0.85 - 0.4 * room.warmth])
        )


def _extent(patch: Patch, wall: Surface, rng: np.random.Generator) -> tuple[float, float, float]:
    """How far the next room reaches left and right of the doorway, not past its wall, and how deep it is, metres."""
    left, right, depth = (float(value) for value in rng.uniform((0.1, 0.1, 1.5), (1.5, 1.5, 4.5)))
    after = wall.length - patch.start - patch.width
    return min(left, 0.9 * patch.start), min(right, 0.9 * after), depth
