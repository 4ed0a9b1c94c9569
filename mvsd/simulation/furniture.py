"""Furniture as compounds of boxes, and the speaker's figure.

A piece is built in its own frame: x along the wall behind it (0 in the middle), y into the room (0 at the wall),
z up; ``place`` moves it into the room. Sizes are those of common household and office furniture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mvsd.simulation.geometry import Box, Furniture, rotation
from mvsd.simulation.materials import MATERIALS, Color

_SKIN: tuple[Color, ...] = ((0.94, 0.78, 0.67), (0.80, 0.60, 0.46), (0.55, 0.38, 0.27), (0.36, 0.24, 0.17))
_HAIR: tuple[Color, ...] = ((0.08, 0.06, 0.05), (0.30, 0.19, 0.10), (0.62, 0.46, 0.25), (0.55, 0.55, 0.55))


@dataclass(frozen=True)
class Piece:
    """A piece of furniture before it is placed: its size, its parts in its own frame, whether it blocks sound."""

    size: tuple[float, float, float]
    parts: tuple[Box, ...]
    blocks: bool = True


def place(name: str, piece: Piece, origin: np.ndarray, yaw: float) -> Furniture:
    """Put a piece so that the middle of its back is at ``origin`` (2,) and its x axis points along ``yaw``."""
    turn = rotation(yaw)

    def move(box: Box) -> Box:
        x, y = origin + turn @ np.array(box.center[:2])
        return replace(box, center=(float(x), float(y), box.center[2]), yaw=box.yaw + yaw)

    _, depth, height = piece.size
    biggest = max(piece.parts, key=lambda part: part.surface_area)
    hull = Box((0.0, depth / 2, height / 2), piece.size, 0.0, biggest.material, biggest.color)
    return Furniture(name, move(hull), tuple(move(part) for part in piece.parts), piece.blocks)


def _paint(rng: np.random.Generator, *materials: str) -> tuple[str, Color]:
    """One of the materials and a colour for it."""
    material = str(rng.choice(materials))
    return material, MATERIALS[material].sample_color(rng)


def _part(
    x: float, y: float, z: float, width: float, depth: float, height: float, paint: tuple[str, Color],
    shape: str = "box",
) -> Box:  # fmt: skip
    """A part whose base has its middle at (x, y, z)."""
    return Box((x, y, z + height / 2), (width, depth, height), 0.0, *paint, shape)


def _legs(width: float, depth: float, height: float, thickness: float, paint: tuple[str, Color]) -> list[Box]:
    x, inset = width / 2 - thickness, thickness
    return [
        _part(side * x, y, 0, thickness, thickness, height, paint)
        for side in (-1, 1)
        for y in (inset, depth - inset)
    ]


def _seat(rng: np.random.Generator, width: float) -> Piece:
    depth, height, seat = rng.uniform(0.8, 1.0), rng.uniform(0.75, 0.95), rng.uniform(0.38, 0.46)
    paint = _paint(rng, "upholstery", "upholstery", "leather")
    pillow = _paint(rng, "upholstery")
    parts = [
        _part(0, depth / 2, 0.06, width, depth, seat - 0.06, paint),
        _part(0, 0.12, seat, width, 0.24, height - seat, paint),
        _part(-width / 2 + 0.1, depth / 2, seat, 0.2, depth, 0.18, paint),
        _part(width / 2 - 0.1, depth / 2, seat, 0.2, depth, 0.18, paint),
        _part(-width / 2 + 0.42, 0.31, seat, 0.38, 0.14, 0.34, pillow),
    ]
    return Piece((width, depth, height), tuple(parts))


def sofa(rng: np.random.Generator) -> Piece:
    return _seat(rng, rng.uniform(1.5, 2.4))


def armchair(rng: np.random.Generator) -> Piece:
    return _seat(rng, rng.uniform(0.85, 1.05))


def bed(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.choice([0.9, 1.4, 1.6, 1.8]), rng.uniform(1.95, 2.1), rng.uniform(0.45, 0.6)
    frame, linen, pillow = _paint(rng, "wood", "painted wood"), _paint(rng, "bedding"), _paint(rng, "bedding")
    board = rng.uniform(0.8, 1.15)
    parts = [
        _part(0, depth / 2, 0.05, width, depth, 0.22, frame),
        _part(0, depth / 2 + 0.03, 0.27, width - 0.04, depth - 0.08, height - 0.27, linen),
        _part(0, 0.03, 0, width, 0.06, board, frame),
    ]
    for x in (0.0,) if width < 1.2 else (-width / 4, width / 4):
        parts.append(_part(x, 0.35, height, 0.55, 0.4, 0.12, pillow))
    return Piece((width, depth, height), tuple(parts))


def wardrobe(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.uniform(0.9, 2.2), rng.uniform(0.55, 0.65), rng.uniform(1.9, 2.2)
    paint, handle = _paint(rng, "wood", "painted wood"), _paint(rng, "metal")
    parts = [_part(0, depth / 2, 0, width, depth, height, paint)]
    num_doors = max(2, round(width / 0.5))
    for door in range(num_doors):
        x = (door + 0.5) / num_doors * width - width / 2
        parts.append(_part(x, depth, 0.08, width / num_doors - 0.025, 0.03, height - 0.14, paint))
        parts.append(_part(x + 0.15, depth + 0.03, 0.95, 0.02, 0.03, 0.18, handle))
    return Piece((width, depth + 0.03, height), tuple(parts))


def bookshelf(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.uniform(0.7, 2.0), rng.uniform(0.28, 0.38), rng.uniform(1.5, 2.2)
    return _shelves(rng, width, depth, height, "books")


def clothes_rack(rng: np.random.Generator) -> Piece:
    return _shelves(rng, rng.uniform(0.8, 1.8), rng.uniform(0.45, 0.6), rng.uniform(1.7, 2.1), "clothes")


def _shelves(rng: np.random.Generator, width: float, depth: float, height: float, content: str) -> Piece:
    frame = _paint(rng, "wood", "painted wood")
    parts = [_part(side * (width / 2 - 0.02), depth / 2, 0, 0.04, depth, height, frame) for side in (-1, 1)]
    parts.append(_part(0, 0.01, 0, width, 0.02, height, frame))
    num_rows = max(1, round(height / (0.36 if content == "books" else 1.0)))
    row = height / num_rows
    for level in range(num_rows + 1):
        parts.append(_part(0, depth / 2, min(level * row, height - 0.03), width, depth, 0.03, frame))
    for level in range(num_rows):
        if rng.uniform() < 0.9:
            filled = width * rng.uniform(0.6, 0.96)
            shift = (width - filled) / 2 * rng.uniform(-0.9, 0.9)
            tall = (row - 0.04) * rng.uniform(0.65, 0.92)
            paint = _paint(rng, content)
            parts.append(_part(shift, depth * 0.45, level * row + 0.03, filled, depth * 0.75, tall, paint))
    return Piece((width, depth, height), tuple(parts))


def sideboard(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.uniform(0.8, 1.9), rng.uniform(0.38, 0.5), rng.uniform(0.6, 0.95)
    paint = _paint(rng, "wood", "painted wood")
    parts = [_part(0, depth / 2, 0.08, width, depth - 0.03, height - 0.08, paint)]
    num_doors = max(2, round(width / 0.45))
    for door in range(num_doors):
        x = (door + 0.5) / num_doors * width - width / 2
        parts.append(_part(x, depth - 0.015, 0.12, width / num_doors - 0.03, 0.03, height - 0.18, paint))
    if rng.uniform() < 0.6:
        parts.append(_part(rng.uniform(-0.3, 0.3) * width, depth / 2, height, 0.18, 0.18, 0.26,
                           _paint(rng, "plant", "porcelain"), "cylinder"))  # fmt: skip
    return Piece((width, depth, height), tuple(parts))


def television(rng: np.random.Generator) -> Piece:
    piece, width = sideboard(rng), rng.uniform(0.9, 1.4)
    low = replace(piece, parts=piece.parts[:1])
    screen = ("plastic", (0.03, 0.03, 0.035))
    parts = [_part(0, 0.2, low.size[2] + 0.06, width, 0.06, width * 0.57, screen)]
    parts.append(_part(0, 0.2, low.size[2], 0.4, 0.2, 0.06, screen))
    return Piece((max(width, low.size[0]), low.size[1], low.size[2]), (*low.parts, *parts))


def desk(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.uniform(1.0, 1.8), rng.uniform(0.6, 0.8), rng.uniform(0.71, 0.76)
    paint = _paint(rng, "wood", "painted wood")
    dark = ("plastic", (0.05, 0.05, 0.06))
    parts = [_part(0, depth / 2, height - 0.04, width, depth, 0.04, paint)]
    parts += _legs(width, depth, height - 0.04, 0.05, _paint(rng, "metal", "wood"))
    x = rng.uniform(-0.2, 0.2) * width
    parts.append(_part(x, 0.2, height + 0.1, 0.55, 0.03, 0.33, dark))
    parts.append(_part(x, 0.2, height, 0.2, 0.15, 0.1, dark))
    chair = office_chair(rng)
    parts += [replace(part, center=(part.center[0] + x, part.center[1] + depth - 0.1, part.center[2]))
              for part in chair.parts]  # fmt: skip
    return Piece((width, depth + 0.45, height), tuple(parts), blocks=False)


def table(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.uniform(0.9, 2.2), rng.uniform(0.75, 1.0), rng.uniform(0.72, 0.77)
    paint = _paint(rng, "wood", "wood", "painted wood", "window glass")
    y = 0.45
    top = [_part(0, y + depth / 2, height - 0.04, width, depth, 0.04, paint)]
    legs = _legs(width, depth, height - 0.04, 0.06, _paint(rng, "wood", "metal"))
    top += [replace(leg, center=(leg.center[0], leg.center[1] + y, leg.center[2])) for leg in legs]
    one = chair(rng)
    for place_x in np.linspace(-0.5, 0.5, max(1, round(width / 0.7)) + 2)[1:-1] * width:
        for back in (1.0, -1.0):
            for part in one.parts:
                offset = part.center[1] + 0.15
                chair_y = offset if back > 0 else 2 * y + depth - offset
                top.append(replace(part, center=(part.center[0] + place_x, chair_y, part.center[2])))
    return Piece((width, depth + 2 * y, height), tuple(top), blocks=False)


def coffee_table(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.uniform(0.7, 1.2), rng.uniform(0.5, 0.7), rng.uniform(0.38, 0.48)
    paint = _paint(rng, "wood", "window glass", "painted wood")
    parts = [_part(0, depth / 2, height - 0.05, width, depth, 0.05, paint)]
    return Piece(
        (width, depth, height), (*parts, *_legs(width, depth, height - 0.05, 0.05, paint)), blocks=False
    )


def chair(rng: np.random.Generator) -> Piece:
    paint, seat = _paint(rng, "wooden chair", "plastic", "upholstered chair"), rng.uniform(0.43, 0.47)
    parts = [
        _part(0, 0.24, seat - 0.04, 0.44, 0.44, 0.05, paint),
        _part(0, 0.03, seat, 0.44, 0.04, rng.uniform(0.38, 0.5), paint),
        *_legs(0.44, 0.46, seat - 0.04, 0.04, paint),
    ]
    return Piece((0.46, 0.48, seat + 0.4), tuple(parts), blocks=False)


def office_chair(rng: np.random.Generator) -> Piece:
    paint, metal = _paint(rng, "upholstered chair", "plastic"), ("metal", (0.2, 0.2, 0.21))
    parts = [
        _part(0, 0.26, 0.44, 0.48, 0.46, 0.08, paint),
        _part(0, 0.5, 0.55, 0.44, 0.06, 0.5, paint),
        _part(0, 0.26, 0.05, 0.06, 0.06, 0.4, metal, "cylinder"),
        _part(0, 0.26, 0.02, 0.5, 0.06, 0.04, metal),
        _part(0, 0.26, 0.02, 0.06, 0.5, 0.04, metal),
    ]
    return Piece((0.55, 0.55, 1.0), tuple(parts), blocks=False)


def kitchen_counter(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.uniform(1.4, 3.0), 0.62, rng.uniform(0.88, 0.93)
    paint, top = _paint(rng, "painted wood", "wood"), _paint(rng, "marble", "wood", "metal")
    parts = [_part(0, depth / 2 - 0.01, 0.08, width, depth - 0.04, height - 0.12, paint),
             _part(0, depth / 2, height - 0.04, width, depth, 0.04, top)]  # fmt: skip
    num_doors = round(width / 0.55)
    for door in range(num_doors):
        x = (door + 0.5) / num_doors * width - width / 2
        parts.append(_part(x, depth - 0.02, 0.12, width / num_doors - 0.03, 0.03, height - 0.22, paint))
    parts.append(_part(0, 0.17, height + 0.5, width, 0.34, 0.65, paint))
    return Piece((width, depth, height), tuple(parts))


def fridge(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.uniform(0.55, 0.75), rng.uniform(0.6, 0.68), rng.uniform(1.5, 1.95)
    paint, split = _paint(rng, "metal"), height * 0.62
    parts = [_part(0, depth / 2 - 0.02, 0, width, depth - 0.04, height, paint),
             _part(0, depth - 0.02, 0.04, width - 0.02, 0.04, split - 0.05, paint),
             _part(0, depth - 0.02, split, width - 0.02, 0.04, height - split - 0.02, paint)]  # fmt: skip
    return Piece((width, depth, height), tuple(parts))


def filing_cabinet(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.uniform(0.4, 1.0), rng.uniform(0.45, 0.62), rng.uniform(0.7, 1.35)
    paint = _paint(rng, "metal")
    parts = [_part(0, depth / 2 - 0.01, 0, width, depth - 0.02, height, paint)]
    num_drawers = round(height / 0.33)
    for drawer in range(num_drawers):
        z, tall = drawer / num_drawers * height + 0.015, height / num_drawers - 0.03
        parts.append(_part(0, depth - 0.01, z, width - 0.03, 0.02, tall, paint))
    return Piece((width, depth, height), tuple(parts))


def bathtub(rng: np.random.Generator) -> Piece:
    width, depth, height = rng.uniform(1.5, 1.8), rng.uniform(0.7, 0.8), rng.uniform(0.52, 0.6)
    paint, rim = _paint(rng, "porcelain"), 0.07
    parts = [_part(0, depth / 2, 0, width, depth, 0.18, paint)]
    parts += [_part(0, y, 0.18, width, rim, height - 0.18, paint) for y in (rim / 2, depth - rim / 2)]
    parts += [
        _part(s * (width - rim) / 2, depth / 2, 0.18, rim, depth, height - 0.18, paint) for s in (-1, 1)
    ]
    return Piece((width, depth, height), tuple(parts))


def washbasin(rng: np.random.Generator) -> Piece:
    width = rng.uniform(0.5, 1.0)
    paint, wood = _paint(rng, "porcelain"), _paint(rng, "painted wood", "wood")
    mirror = ("window glass", (0.75, 0.80, 0.82))
    parts = [_part(0, 0.24, 0.25, width - 0.06, 0.44, 0.5, wood), _part(0, 0.25, 0.75, width, 0.5, 0.12, paint),
             _part(0, 0.02, 1.2, width * 0.9, 0.03, 0.7, mirror)]  # fmt: skip
    return Piece((width, 0.5, 0.87), tuple(parts))


def toilet(rng: np.random.Generator) -> Piece:
    paint = _paint(rng, "porcelain")
    parts = [_part(0, 0.09, 0.38, 0.4, 0.18, 0.4, paint), _part(0, 0.36, 0.0, 0.26, 0.42, 0.36, paint),
             _part(0, 0.4, 0.36, 0.38, 0.5, 0.06, paint, "cylinder")]  # fmt: skip
    return Piece((0.4, 0.65, 0.6), tuple(parts))


def plant(rng: np.random.Generator) -> Piece:
    height, spread = rng.uniform(0.8, 1.7), rng.uniform(0.4, 0.7)
    pot, leaves = _paint(rng, "porcelain", "plastic"), _paint(rng, "plant")
    parts = [_part(0, spread / 2, 0, 0.3, 0.3, 0.32, pot, "cylinder"),
             _part(0, spread / 2, 0.35, spread, spread, height - 0.35, leaves, "sphere")]  # fmt: skip
    return Piece((spread, spread, height), tuple(parts), blocks=False)


def floor_lamp(rng: np.random.Generator) -> Piece:
    metal, shade = _paint(rng, "metal"), _paint(rng, "light curtain")
    parts = [_part(0, 0.2, 0, 0.28, 0.28, 0.03, metal, "cylinder"),
             _part(0, 0.2, 0.03, 0.03, 0.03, 1.4, metal, "cylinder"),
             _part(0, 0.2, 1.4, 0.4, 0.4, 0.32, shade, "cylinder")]  # fmt: skip
    return Piece((0.42, 0.42, 1.72), tuple(parts), blocks=False)


def seat_row(rng: np.random.Generator) -> Piece:
    num_seats, paint = int(rng.integers(3, 8)), _paint(rng, "upholstered chair", "wooden chair", "plastic")
    width = num_seats * 0.56
    parts = [_part(0, 0.25, 0.38, width, 0.46, 0.07, paint), _part(0, 0.04, 0.45, width, 0.06, 0.45, paint)]
    for seat in range(num_seats + 1):
        parts.append(_part(seat * 0.56 - width / 2, 0.25, 0, 0.05, 0.4, 0.62, ("metal", (0.25, 0.25, 0.26))))
    return Piece((width, 0.5, 0.9), tuple(parts), blocks=False)


PIECES: dict[str, Callable[[np.random.Generator], Piece]] = {
    piece.__name__.replace("_", " "): piece
    for piece in (
        sofa, armchair, bed, wardrobe, bookshelf, clothes_rack, sideboard, television, desk, table, coffee_table,
        chair, office_chair, kitchen_counter, fridge, filing_cabinet, bathtub, washbasin, toilet, plant, floor_lamp,
        seat_row,
    )
}  # fmt: skip


def figure(rng: np.random.Generator, mouth_height: float) -> Piece:
    """A standing person whose mouth is at ``mouth_height``, facing +y, around the origin."""
    scale = mouth_height / 1.52
    top, trousers = _paint(rng, "person"), _paint(rng, "person")
    skin = ("person", _SKIN[int(rng.integers(len(_SKIN)))])
    hair = ("person", _HAIR[int(rng.integers(len(_HAIR)))])
    parts = [
        _part(-0.09, 0, 0.0, 0.15, 0.17, 0.84, trousers, "cylinder"),
        _part(0.09, 0, 0.0, 0.15, 0.17, 0.84, trousers, "cylinder"),
        _part(0, 0, 0.80, 0.38, 0.24, 0.58, top, "capsule"),
        _part(-0.23, 0, 0.80, 0.10, 0.12, 0.56, top, "capsule"),
        _part(0.23, 0, 0.80, 0.10, 0.12, 0.56, top, "capsule"),
        _part(0, 0, 1.34, 0.11, 0.11, 0.14, skin, "cylinder"),
        _part(0, 0.01, 1.42, 0.19, 0.21, 0.27, skin, "sphere"),
        _part(0, -0.015, 1.50, 0.205, 0.21, 0.22, hair, "sphere"),
    ]

    def resize(box: Box) -> Box:
        x, y, z = box.center
        width, depth, tall = box.size
        return replace(box, center=(x, y, z * scale), size=(width, depth, tall * scale))

    return Piece((0.56, 0.30, 1.72 * scale), tuple(resize(part) for part in parts), blocks=False)
