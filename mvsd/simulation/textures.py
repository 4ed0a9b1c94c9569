"""Procedural texture tiles: small seamless pictures that are repeated over a surface."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from mvsd.simulation.materials import Color

TEXELS = 96

TILE_METRES = {
    "tiles": 0.6, "ceiling tiles": 1.2, "planks": 1.2, "bricks": 0.78, "painted bricks": 0.78, "boards": 1.25,
    "panels": 0.8, "grain": 0.9, "concrete": 1.6, "marble": 1.5, "speckle": 0.5, "carpet squares": 1.0, "pile": 0.5,
    "rug": 1.2, "folds": 0.6, "slats": 0.5, "perforated": 0.4, "weave": 0.25, "quilt": 0.5, "books": 0.8,
    "clothes": 0.8, "leaves": 0.5,
}  # fmt: skip


def texture_tile(kind: str, color: Color, rng: np.random.Generator) -> np.ndarray:
    """(TEXELS, TEXELS, 3) sRGB 0..1; rows run down, columns along the surface; edges wrap around.

    The pattern is a shade per texel that multiplies the colour; books and clothes also vary the hue.
    """
    y, x = np.mgrid[0:TEXELS, 0:TEXELS] / TEXELS
    shade = np.ones((TEXELS, TEXELS))
    base = np.broadcast_to(np.array(color), (TEXELS, TEXELS, 3))
    if kind == "tiles":
        shade = _grid(x, y, 2, 2, 0.035, 0.62) * _per_cell(rng, y, x, 2, 2, 0.05)
    elif kind == "ceiling tiles":
        shade = _grid(x, y, 2, 2, 0.03, 0.6) * (1 - 0.25 * (_noise(rng, 0.0) > 1.3))
    elif kind == "carpet squares":
        shade = _per_cell(rng, y, x, 2, 2, 0.09) * (1 + 0.07 * _noise(rng, 0.0))
    elif kind in ("planks", "boards", "panels"):
        rows, cut = {"planks": (9, 0.06), "boards": (1, 0.006), "panels": (6, 0.09)}[kind]
        across, along = (y, x) if kind == "planks" else (x, y)
        spread = 0.0 if kind == "boards" else 0.13
        seam = np.abs((across * rows) % 1 - 0.5) > 0.5 - cut
        grain = 0.0 if kind == "boards" else 0.06
        stretch = (0.0, 6.0) if kind == "planks" else (6.0, 0.0)
        shade = _per_cell(rng, across, along, rows, 1 if kind != "planks" else 2, spread)
        shade = (
            shade
            * (1 + grain * _noise(rng, stretch))
            * np.where(seam, 0.7 if kind != "boards" else 0.94, 1.0)
        )
    elif kind in ("bricks", "painted bricks"):
        return _bricks(base, x, y, rng, painted=kind != "bricks")
    elif kind == "grain":
        shade = 1 + 0.05 * _noise(rng, (12.0, 0.7)) + 0.04 * _noise(rng, 5.0)
    elif kind == "concrete":
        shade = 1 + 0.07 * _noise(rng, 6.0) + 0.04 * _noise(rng, 1.0)
    elif kind == "marble":
        veins = np.abs(_noise(rng, 7.0))
        shade = (1 - 0.28 * np.exp(-((veins / 0.13) ** 2)) + 0.04 * _noise(rng, 4.0)) * _grid(
            x, y, 2, 2, 0.012, 0.8
        )
    elif kind in ("speckle", "pile", "weave"):
        shade = 1 + {"speckle": 0.06, "pile": 0.13, "weave": 0.09}[kind] * _noise(rng, 0.6)
    elif kind == "rug":
        return _rug(base, x, y, rng)
    elif kind == "folds":
        shade = 0.82 + 0.2 * np.sin(2 * np.pi * (5 * x + 0.08 * np.sin(2 * np.pi * x)))
    elif kind == "slats":
        shade = np.where((y * 12) % 1 < 0.25, 0.6, 1.0 - 0.12 * ((y * 12) % 1))
    elif kind == "perforated":
        shade = np.where(((x * 8) % 1 - 0.5) ** 2 + ((y * 8) % 1 - 0.5) ** 2 < 0.05, 0.45, 1.0)
    elif kind == "quilt":
        shade = 0.93 + 0.07 * np.sin(4 * np.pi * x) * np.sin(4 * np.pi * y) + 0.03 * _noise(rng, 3.0)
    elif kind in ("books", "clothes"):
        return _spines(base, rng, num=26 if kind == "books" else 14)
    elif kind == "leaves":
        shade = 1 + 0.35 * _noise(rng, 2.5)
    return np.clip(base * shade[..., None], 0.0, 1.0)


def _noise(rng: np.random.Generator, blur: float | tuple[float, float]) -> np.ndarray:
    """White noise blurred with wrap-around, unit variance; ``blur`` in texels (rows, columns)."""
    noise = rng.standard_normal((TEXELS, TEXELS))
    if blur:
        noise = gaussian_filter(noise, blur, mode="wrap")
    return np.asarray(noise / noise.std())


def _grid(x: np.ndarray, y: np.ndarray, columns: int, rows: int, line: float, dark: float) -> np.ndarray:
    """Joints between tiles."""
    joint = ((x * columns) % 1 < 2 * line) | ((y * rows) % 1 < 2 * line)
    return np.where(joint, dark, 1.0)


def _per_cell(
    rng: np.random.Generator, across: np.ndarray, along: np.ndarray, rows: int, columns: int, spread: float
) -> np.ndarray:
    """A shade per cell; every other row is shifted by half a cell."""
    row = (across * rows).astype(int)
    column = ((along + 0.5 / columns * (row % 2)) * columns).astype(int) % columns
    shades = 1 + spread * rng.uniform(-1, 1, size=(rows, columns))
    return np.asarray(shades[np.minimum(row, rows - 1), column])


def _bricks(
    base: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, *, painted: bool
) -> np.ndarray:
    rows, columns = 10, 3
    row = (y * rows).astype(int)
    along = (x * columns + 0.5 * (row % 2)) % columns
    mortar = ((y * rows) % 1 < 0.16) | (along % 1 < 0.06)
    shades = 1 + (0.03 if painted else 0.2) * rng.uniform(-1, 1, size=(rows, columns))
    bricks = base * shades[row, along.astype(int)][..., None]
    joint = base * 0.78 if painted else np.broadcast_to(np.array([0.72, 0.69, 0.64]), base.shape)
    return np.clip(np.where(mortar[..., None], joint, bricks), 0.0, 1.0)


def _rug(base: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Diamonds or stripes in a second colour."""
    other = rng.uniform(0.15, 0.9, size=3)
    diamonds = np.abs((x * 3) % 1 - 0.5) + np.abs((y * 3) % 1 - 0.5) < 0.28
    figure = diamonds if rng.uniform() < 0.5 else (x * 4) % 1 < 0.3
    shade = 1 + 0.08 * _noise(rng, 0.6)
    return np.clip(np.where(figure[..., None], 0.5 * base + 0.5 * other, base) * shade[..., None], 0.0, 1.0)


def _spines(base: np.ndarray, rng: np.random.Generator, num: int) -> np.ndarray:
    """Upright stripes of many colours: the backs of books, clothes on a rail."""
    edges = np.sort(rng.integers(0, TEXELS, size=num))
    stripe = np.searchsorted(edges, np.arange(TEXELS)) % num
    colors = np.clip(0.35 * base[0, 0] + 0.65 * rng.uniform(0.08, 0.85, size=(num, 3)), 0, 1)
    row = np.broadcast_to(colors[stripe], base.shape).copy()
    row[:, edges] *= 0.4
    return row
