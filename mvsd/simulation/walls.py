"""What is on a wall: doors, open doorways, windows with curtains, pictures and panels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mvsd.simulation.geometry import Patch, Surface, walls_at_reflex_corners
from mvsd.simulation.materials import MATERIALS
from mvsd.simulation.roomtypes import RoomType, draw


def sample_patches(
    kind: RoomType, wall: Surface, height: float, has_door: bool, daylight: float, rng: np.random.Generator
) -> tuple[Patch, ...]:
    """Door, window with curtains, pictures and panels, side by side along one wall."""
    length = wall.length
    patches: list[Patch] = []
    cursor = float(rng.uniform(0.1, 0.3))
    if has_door and length > 1.2:
        wide = float(rng.uniform(0.8, 1.0))
        start = cursor if rng.uniform() < 0.5 else length - cursor - wide
        patches.append(_patch("door", start, 0.0, wide, min(2.05, height - 0.1), "wooden door", rng))
        span = (start + wide + 0.15, length - 0.1) if start < length / 2 else (0.1, start - 0.15)
    else:
        span = (0.1, length - 0.1)
    room_left = span[1] - span[0]
    if room_left > 0.8 and rng.uniform() < kind.window:
        return (*patches, *_sample_window(kind, span, height, daylight, rng))
    if room_left > 1.0 and rng.uniform() < kind.panel:
        wide = float(room_left * rng.uniform(0.4, 0.95))
        start, bottom = float(rng.uniform(span[0], span[1] - wide)), float(rng.uniform(0.4, 0.9))
        panel = _patch(
            "acoustic panel", start, bottom, wide, min(height - 0.2, 2.6) - bottom, "acoustic panel", rng
        )
        return (*patches, panel)
    if room_left > 0.8 and rng.uniform() < kind.picture:
        wide, tall = (
            float(value) for value in rng.uniform(0.4, min(1.3, room_left - 0.1), size=2) * (1.0, 0.75)
        )
        start = float(rng.uniform(span[0], span[1] - wide))
        patches.append(_patch("picture", start, 1.55 - tall / 2, wide, tall, "painted wood", rng))
    return tuple(patches)


def opened(
    surfaces: tuple[Surface, ...],
    outline: np.ndarray,
    height: float,
    open_share: float,
    most: int,
    rng: np.random.Generator,
) -> tuple[Surface, ...]:
    """The surfaces, doors perhaps open, and perhaps wide doorways in as many plain walls as at `most`.

    Of the walls at an inward corner one stays closed: behind them is the same place, which cannot be two rooms.
    """
    found, num_wide = list[Surface](), 0
    corner = {f"wall {index}" for index in walls_at_reflex_corners(outline)}
    for surface in surfaces:
        chance, wide, place = rng.uniform(size=3)
        doors = [patch for patch in surface.patches if patch.name == "door"]
        length = surface.length
        taken = surface.name in corner and any(is_open(wall) for wall in found if wall.name in corner)
        if not surface.name.startswith("wall") or chance >= open_share or taken:
            found.append(surface)
        elif doors:
            door = doors[0]
            doorway = _patch("opening", door.start, 0.0, door.width, door.height, "open doorway", rng)
            found.append(
                replace(surface, patches=(doorway, *(p for p in surface.patches if p.name != "door")))
            )
        elif surface.patches or length < 1.6 or num_wide == most:
            found.append(surface)
        else:
            width = 0.9 + float(wide) * min(1.7, length - 1.5)
            start = 0.1 + float(place) * (length - 0.2 - width)
            doorway = _patch("opening", start, 0.0, width, min(2.2, height - 0.1), "open doorway", rng)
            found.append(replace(surface, patches=(doorway,)))
            num_wide += 1
    return tuple(found)


def is_open(wall: Surface) -> bool:
    """Whether a wall has an open doorway."""
    return any(patch.name == "opening" for patch in wall.patches)


def _sample_window(
    kind: RoomType, span: tuple[float, float], height: float, daylight: float, rng: np.random.Generator
) -> list[Patch]:
    wide = float(min(span[1] - span[0], rng.uniform(0.7, 3.2)) * 0.92)
    start = float(rng.uniform(span[0], span[1] - wide))
    bottom = 0.1 if rng.uniform() < 0.2 else float(rng.uniform(0.7, 1.0))
    tall = min(height - 0.25, 2.3) - bottom
    glass = "double glazing" if rng.uniform() < 0.6 else "window glass"
    window = replace(_patch("window", start, bottom, wide, tall, glass, rng), glow=0.15 + 3.0 * daylight)
    if rng.uniform() >= kind.curtain:
        return [window]
    fabric = draw({"heavy curtain": 5.0, "light curtain": 3.0, "blinds": 2.0}, rng)
    closed = rng.uniform() < 0.3
    if fabric == "blinds":
        drop = tall * float(rng.uniform(0.4, 0.95))
        lowered = _patch("blinds", start, bottom + tall - drop, wide, drop, fabric, rng)
        return [replace(window, height=tall - drop), lowered]
    sill = 0.05 if rng.uniform() < 0.7 else bottom - 0.1
    top = bottom + tall + 0.1
    if closed:
        return [_patch("curtain", max(start - 0.1, 0.02), sill, wide + 0.1, top - sill, fabric, rng)]
    side = float(wide * rng.uniform(0.15, 0.28))
    left = _patch("curtain", start, sill, side, top - sill, fabric, rng)
    right = replace(left, start=start + wide - side)
    return [replace(window, start=start + side, width=wide - 2 * side), left, right]


def _patch(
    name: str,
    start: float,
    bottom: float,
    width: float,
    height: float,
    material: str,
    rng: np.random.Generator,
) -> Patch:
    return Patch(name, start, bottom, width, height, material, MATERIALS[material].sample_color(rng))
