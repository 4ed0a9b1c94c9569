"""Materials: one entry decides how a surface looks and how it sounds.

Absorption coefficients are the published ones of M. Vorlaender, "Auralization" (2008), appendix, as shipped with
pyroomacoustics (``Material.table_key`` names the row; a missing 8 kHz value repeats the 4 kHz one). Rows without
a key are our estimates for things the table lacks, or, of chairs, half of a row. Scattering grows with frequency
around a mid-band value, as in the guidelines that room acoustic programs give (smooth walls about 0.1, furniture 0.3
to 0.6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BANDS_HZ = (125, 250, 500, 1000, 2000, 4000, 8000)

_SCATTERING_SLOPE = np.array([0.4, 0.55, 0.8, 1.0, 1.2, 1.35, 1.45])

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """What a surface is made of.

    Attributes:
        absorption: random-incidence energy absorption coefficient per octave band of ``BANDS_HZ``, 0..1.
        scattering_mid: scattering coefficient around 1 kHz, 0..1.
        colors: typical sRGB colours, 0..1; a surface takes a random mixture of two of them.
        roughness: 0.05 glossy .. 1 matt.
        texture: pattern drawn over the colour (see ``textures.py``), or ``plain``.
        table_key: row of the published table, or None for an estimate.
    """

    name: str
    absorption: tuple[float, ...]
    scattering_mid: float
    colors: tuple[Color, ...]
    roughness: float = 1.0
    texture: str = "plain"
    table_key: str | None = None

    @property
    def scattering(self) -> np.ndarray:
        """(7,) scattering coefficient per octave band."""
        return np.clip(self.scattering_mid * _SCATTERING_SLOPE, 0.0, 0.9)

    def sample_color(self, rng: np.random.Generator) -> Color:
        """A random mixture of two typical colours, a little lighter or darker."""
        first, second = (np.array(self.colors[i]) for i in rng.integers(len(self.colors), size=2))
        weight = rng.uniform()
        mixed = (weight * first + (1 - weight) * second) * rng.uniform(0.88, 1.08)
        red, green, blue = (float(value) for value in np.clip(mixed, 0.02, 0.97))
        return red, green, blue


def _rgb(*codes: str) -> tuple[Color, ...]:
    return tuple((int(c[0:2], 16) / 255, int(c[2:4], 16) / 255, int(c[4:6], 16) / 255) for c in codes)


_WALL_PAINT = _rgb(
    "f2efe8", "e8e0d0", "d9e2e4", "dfe6d4", "e9d8c8", "c9d3da", "f0e6b8", "b9c4b1", "d8c0b8", "8fa3b0"
)
_WHITE = _rgb("f6f5f2", "eeece6")
_CARPET = _rgb("6b7280", "8b8378", "5b4636", "7a3b3b", "3f5468", "a39a86", "4e5b4b", "b8ac98")
_FABRIC = _rgb("7d8794", "4b5563", "8c5a4a", "b7a58c", "3d6b70", "6f7f57", "a8433f", "d2c4ab", "2f3e5c")
_CURTAIN = _rgb("d8cdb8", "8d2f33", "54677d", "7b6a8c", "c9b27c", "e6e2d8", "3f5a4a", "9a7f6c")
_WOOD = _rgb("b98a5a", "8a5a34", "d2ab78", "6b4226", "c49a6c", "a3703f")

_TABLE = (
    Material("painted concrete", (0.02, 0.03, 0.03, 0.03, 0.04, 0.07, 0.07), 0.08,
             _rgb("b5b5b0", "a2a39f", "c4c2bb"), 0.9, "concrete", "rough_concrete"),
    Material("plaster", (0.02, 0.02, 0.03, 0.03, 0.04, 0.05, 0.05), 0.10, _WALL_PAINT, 1.0, "plain", "hard_surface"),
    Material("gypsum board", (0.15, 0.10, 0.06, 0.04, 0.04, 0.05, 0.05), 0.10, _WALL_PAINT, 1.0, "boards",
             "plasterboard"),
    Material("brick", (0.08, 0.09, 0.12, 0.16, 0.22, 0.24, 0.24), 0.18,
             _rgb("9c4a36", "8a4030", "b06a4e"), 1.0, "bricks", "smooth_brickwork_10mm_pointing"),
    Material("painted brick", (0.01, 0.01, 0.02, 0.02, 0.02, 0.02, 0.02), 0.15,
             _rgb("eceae4", "d5d6d2"), 0.9, "painted bricks", "smooth_brickwork_flush_pointing"),
    Material("wood panelling", (0.27, 0.23, 0.22, 0.15, 0.10, 0.07, 0.06), 0.12, _WOOD, 0.5, "panels",
             "wooden_lining"),
    Material("window glass", (0.10, 0.05, 0.04, 0.03, 0.03, 0.03, 0.03), 0.06,
             _rgb("9fc4e0", "dce9f2"), 0.05, "plain", "glass_window"),
    Material("double glazing", (0.10, 0.07, 0.05, 0.03, 0.02, 0.02, 0.02), 0.06,
             _rgb("a8cbe4", "dfe9ee"), 0.05, "plain", "double_glazing_10mm"),
    Material("wooden door", (0.14, 0.10, 0.06, 0.08, 0.10, 0.10, 0.10), 0.12,
             _rgb("8a5a34", "b98a5a", "f0eee8", "6b4226"), 0.5, "grain", "wooden_door"),
    Material("parquet", (0.09, 0.06, 0.05, 0.05, 0.05, 0.04, 0.04), 0.08, _WOOD, 0.3, "planks", "audience_floor"),
    Material("floorboards", (0.18, 0.12, 0.10, 0.09, 0.08, 0.07, 0.07), 0.10, _WOOD, 0.5, "planks", "wood_1.6cm"),
    Material("linoleum", (0.02, 0.03, 0.03, 0.03, 0.03, 0.02, 0.02), 0.06,
             _rgb("9aa59a", "b3a78f", "7f8b96", "a86f5c"), 0.35, "speckle", "linoleum_on_concrete"),
    Material("ceramic tile", (0.01, 0.01, 0.01, 0.02, 0.02, 0.02, 0.02), 0.08,
             _rgb("f3f4f2", "dfe7ea", "b9cdd2", "d8cbb8", "8fa8ad"), 0.12, "tiles", "ceramic_tiles"),
    Material("marble", (0.01, 0.01, 0.01, 0.02, 0.02, 0.02, 0.02), 0.06,
             _rgb("ebe8e2", "d6d2cb", "5c5f5d"), 0.1, "marble", "marble_floor"),
    Material("concrete floor", (0.01, 0.03, 0.05, 0.02, 0.02, 0.02, 0.02), 0.08,
             _rgb("8f908d", "a3a19b", "77787a"), 0.7, "concrete", "concrete_floor"),
    Material("thin carpet", (0.02, 0.04, 0.08, 0.20, 0.35, 0.40, 0.40), 0.12, _CARPET, 1.0, "carpet squares",
             "carpet_thin"),
    Material("thick carpet", (0.08, 0.08, 0.30, 0.60, 0.75, 0.80, 0.80), 0.16, _CARPET, 1.0, "pile",
             "carpet_tufted_9m"),
    Material("rug", (0.03, 0.09, 0.20, 0.54, 0.70, 0.72, 0.72), 0.16,
             _rgb("8c2f2b", "2f4468", "c9a86a", "5d3b2a", "d9cdb5", "3f6b5c"), 1.0, "rug",
             "carpet_6mm_open_cell_foam"),
    Material("light curtain", (0.03, 0.12, 0.15, 0.27, 0.37, 0.42, 0.42), 0.25,
             _rgb("eeeae0", "e2dccb", "d5dde0"), 1.0, "folds", "curtains_cotton_0.33"),
    Material("heavy curtain", (0.30, 0.45, 0.65, 0.56, 0.59, 0.71, 0.71), 0.35, _CURTAIN, 1.0, "folds",
             "curtains_cotton_0.5"),
    Material("blinds", (0.03, 0.09, 0.24, 0.46, 0.79, 0.76, 0.76), 0.35,
             _rgb("e9e6dd", "cfd3d4"), 0.8, "slats", "blinds_half_open"),
    Material("plasterboard ceiling", (0.20, 0.15, 0.10, 0.08, 0.04, 0.02, 0.02), 0.08, _WHITE, 1.0, "plain",
             "ceiling_plasterboard"),
    Material("acoustic ceiling tile", (0.49, 0.53, 0.53, 0.75, 0.92, 0.99, 0.99), 0.20,
             _rgb("efeee9", "e2e2de"), 1.0, "ceiling tiles", "ceiling_fissured_tile"),
    Material("perforated gypsum ceiling", (0.45, 0.55, 0.60, 0.90, 0.86, 0.75, 0.75), 0.15, _WHITE, 1.0,
             "perforated", "ceiling_perforated_gypsum_board"),
    Material("acoustic panel", (0.21, 0.66, 1.00, 1.00, 0.97, 0.98, 0.98), 0.20,
             _rgb("4d6b87", "a8553f", "6f8062", "7c7f86", "c2a14e"), 1.0, "weave", "panel_fabric_covered_8pcf"),
    Material("upholstery", (0.44, 0.60, 0.77, 0.89, 0.82, 0.70, 0.70), 0.45, _FABRIC, 1.0, "weave",
             "chairs_upholstered_cloth"),
    # The table counts seating by the floor that it takes; a chair shows about twice that.
    Material("upholstered chair", (0.22, 0.30, 0.38, 0.44, 0.41, 0.35, 0.35), 0.45, _FABRIC, 1.0, "weave"),
    Material("leather", (0.40, 0.50, 0.58, 0.61, 0.58, 0.50, 0.50), 0.40,
             _rgb("5a3524", "2b2523", "8c5b38", "d0c2ac"), 0.35, "plain", "chairs_upholstered_leather"),
    Material("bedding", (0.70, 0.76, 0.81, 0.84, 0.84, 0.81, 0.81), 0.45,
             _rgb("f0ede6", "c6d3de", "dccac4", "8fa0b5", "e5dcc0", "7e5d6b"), 1.0, "quilt",
             "chairs_heavy_upholstered"),
    Material("wood", (0.18, 0.12, 0.10, 0.09, 0.08, 0.07, 0.07), 0.30, _WOOD, 0.45, "grain", "wood_16mm"),
    Material("painted wood", (0.18, 0.12, 0.10, 0.09, 0.08, 0.07, 0.07), 0.30,
             _rgb("f1efe9", "d9dcdc", "41474d", "b8c4b4", "cdb38a"), 0.4, "plain", "wood_16mm"),
    Material("wooden chair", (0.05, 0.08, 0.10, 0.12, 0.12, 0.12, 0.12), 0.40, _WOOD, 0.45, "grain",
             "chairs_wooden"),
    Material("plastic", (0.06, 0.10, 0.10, 0.20, 0.30, 0.20, 0.20), 0.35,
             _rgb("e8e8e6", "2e3033", "c4452f", "3b6ea5", "e0b23c"), 0.3, "plain", "chairs_unoccupied_plastic"),
    Material("porcelain", (0.01, 0.01, 0.01, 0.02, 0.02, 0.02, 0.02), 0.25, _rgb("f7f7f5", "f1f3f4"), 0.08,
             "plain", "ceramic_tiles"),
    Material("books", (0.25, 0.30, 0.35, 0.35, 0.35, 0.35, 0.35), 0.45,
             _rgb("8a6a4a", "6a5a4a", "9a7a58"), 0.9, "books"),
    Material("clothes", (0.20, 0.35, 0.60, 0.75, 0.80, 0.80, 0.80), 0.50, _FABRIC, 1.0, "clothes"),
    # A figure's parts have 3 m2: with it a standing person of 0.12 m2 at 125 Hz to 1.1 m2 (Kuttruff, "Room acoustics").
    Material("person", (0.04, 0.08, 0.20, 0.33, 0.38, 0.37, 0.37), 0.50, _FABRIC, 1.0),
    Material("plant", (0.05, 0.08, 0.12, 0.20, 0.30, 0.35, 0.40), 0.60, _rgb("3f6b35", "5c8a45", "2f5530"), 0.8,
             "leaves"),
    # Some of what goes out through it comes back from the room behind.
    Material("open doorway", (0.75, 0.75, 0.80, 0.80, 0.85, 0.85, 0.85), 0.40,
             _rgb("6f6a62", "a59d90", "d3cdc1", "4c4a47"), 1.0),
    Material("metal", (0.05, 0.04, 0.03, 0.03, 0.03, 0.03, 0.03), 0.20,
             _rgb("b9bec2", "8d9398", "e4e6e7", "5b6066"), 0.25),
)  # fmt: skip

MATERIALS: dict[str, Material] = {material.name: material for material in _TABLE}
