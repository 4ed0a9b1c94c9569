"""A room as a Mitsuba scene: surfaces, patches, furniture, the speaker's figure, lamps and windows."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from mvsd.simulation.doorway import add_next_room, wall_pieces
from mvsd.simulation.geometry import Box, Patch, Surface, inside_polygon
from mvsd.simulation.materials import MATERIALS, Color
from mvsd.simulation.mesh import Mesh, box_mesh, join, rectangle
from mvsd.simulation.rooms import Room
from mvsd.simulation.textures import TILE_METRES, texture_tile

SceneDict = dict[str, Any]

MAX_COLORS = (
    2  # per textured material and room: each costs a mesh, and Mitsuba's guides slow down with their number
)
_GLOSSY = 0.4
_WHITE: Color = (0.93, 0.93, 0.91)


def build_scene(room: Room, mi: ModuleType) -> SceneDict:
    """The dictionary that ``mitsuba.load_dict`` turns into a scene (without camera)."""
    stage = _Stage(mi, np.random.default_rng(room.seed + 3))
    for surface in room.surfaces:
        _add_surface(surface, room, stage)
    for piece in (*room.furniture, room.person):
        for part in piece.parts:
            stage.add_box(part)
    _add_lamps(room, stage)
    return stage.scene()


class _Stage:
    """Collects geometry and merges all that looks the same into one mesh."""

    def __init__(self, mi: ModuleType, rng: np.random.Generator) -> None:
        self.mi, self.rng = mi, rng
        self._plain: dict[float, list[tuple[Mesh, Color]]] = {}
        self._textured: dict[tuple[str, Color], list[Mesh]] = {}
        self._lights: list[tuple[Mesh, np.ndarray]] = []

    def add(self, mesh: Mesh, material: str, color: Color) -> None:
        entry = MATERIALS[material]
        if entry.texture == "plain":
            self._plain.setdefault(entry.roughness if entry.roughness < _GLOSSY else 1.0, []).append(
                (mesh, color)
            )
        else:
            known = [key for key in self._textured if key[0] == material]
            key = (
                (material, color)
                if len(known) < MAX_COLORS
                else min(known, key=lambda key: _distance(key[1], color))
            )
            self._textured.setdefault(key, []).append(mesh)

    def add_box(self, box: Box) -> None:
        self.add(box_mesh(box), box.material, box.color)

    def add_light(self, mesh: Mesh, radiance: np.ndarray) -> None:
        self._lights.append((mesh, radiance))

    def scene(self) -> SceneDict:
        scene: SceneDict = {"type": "scene"}
        for roughness, colored in self._plain.items():
            faces = [
                np.broadcast_to(_linear(np.array(color)), (len(mesh.faces), 3)) for mesh, color in colored
            ]
            bsdf = self._bsdf({"type": "mesh_attribute", "name": "face_color"}, roughness)
            scene[f"plain{len(scene)}"] = self._mesh(
                join([mesh for mesh, _ in colored]), bsdf, np.concatenate(faces)
            )
        for (material, color), meshes in self._textured.items():
            entry = MATERIALS[material]
            tile = _linear(texture_tile(entry.texture, color, self.rng))[::-1].astype(np.float32)
            metres = TILE_METRES[entry.texture]
            image = {"type": "bitmap", "bitmap": self.mi.Bitmap(tile), "raw": True}
            mesh = join(meshes)
            scene[f"textured{len(scene)}"] = self._mesh(
                mesh._replace(uv=mesh.uv / metres), self._bsdf(image, entry.roughness)
            )
        for mesh, radiance in self._lights:
            white = self._bsdf({"type": "rgb", "value": [0.8, 0.8, 0.8]}, 1.0)
            glow = {
                "type": "area",
                "radiance": {"type": "rgb", "value": [float(value) for value in radiance]},
            }
            scene[f"light{len(scene)}"] = self._mesh(mesh, white, light=glow)
        return scene

    def _bsdf(self, reflectance: SceneDict, roughness: float) -> SceneDict:
        """Matt, or with a clear coat (the rough plastic model takes 50 ms to set up, this one nothing)."""
        bsdf: SceneDict = {"type": "diffuse", "reflectance": reflectance}
        if roughness < _GLOSSY:
            alpha = float(np.sqrt(max(roughness, 0.06)))
            bsdf = {"type": "principled", "base_color": reflectance, "roughness": alpha, "specular": 0.5}
        return {"type": "twosided", "bsdf": bsdf}

    def _mesh(
        self,
        mesh: Mesh,
        bsdf: SceneDict,
        face_color: np.ndarray | None = None,
        light: SceneDict | None = None,
    ) -> Any:
        mi = self.mi
        properties = mi.Properties()
        properties["bsdf"] = mi.load_dict(bsdf)
        if light is not None:
            properties["light"] = mi.load_dict(light)
        shape = mi.Mesh(
            "mesh", len(mesh.positions), len(mesh.faces), props=properties, has_vertex_normals=True,
            has_vertex_texcoords=True,
        )  # fmt: skip
        if face_color is not None:
            shape.add_attribute("face_color", 3, face_color.astype(np.float32).ravel())
        parameters = mi.traverse(shape)
        parameters["vertex_positions"] = mesh.positions.astype(np.float32).ravel()
        parameters["vertex_normals"] = mesh.normals.astype(np.float32).ravel()
        parameters["vertex_texcoords"] = mesh.uv.astype(np.float32).ravel()
        parameters["faces"] = mesh.faces.astype(np.uint32).ravel()
        parameters.update()
        return shape


def _distance(first: Color, second: Color) -> float:
    return float(np.linalg.norm(np.subtract(first, second)))


def _linear(color: np.ndarray) -> np.ndarray:
    """Linear reflectance of an sRGB colour, at most 0.85 as for clean white paint."""
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return np.asarray(0.85 * linear)


def _add_surface(surface: Surface, room: Room, stage: _Stage) -> None:
    """Floor and ceiling cover the bounding box of the plan: what sticks out is behind walls or above a next room."""
    if surface.name in ("floor", "ceiling"):
        half = room.outline.max(axis=0) / 2
        upright = 1 if surface.name == "floor" else -1
        center = np.array([half[0], half[1], 0.0 if surface.name == "floor" else room.height])
        along, up = np.array([half[0], 0.0, 0.0]), np.array([0.0, upright * half[1], 0.0])
        stage.add(rectangle(center, along, up), surface.material, surface.color)
    else:
        for piece in wall_pieces(surface, room.height):
            stage.add(piece, surface.material, surface.color)
    for patch in surface.patches:
        if surface.name == "floor":
            middle = (patch.start + patch.width / 2, patch.bottom + patch.height / 2, 0.006)
            stage.add_box(Box(middle, (patch.width, patch.height, 0.012), 0.0, patch.material, patch.color))
        elif patch.name == "opening":
            add_next_room(patch, surface, room, stage)
        else:
            _add_wall_patch(patch, surface, stage)
    if surface.name not in ("floor", "ceiling"):
        _add_skirting(surface, stage)


def _add_skirting(wall: Surface, stage: _Stage) -> None:
    if wall.material in ("ceramic tile", "marble") or any(patch.bottom < 0.08 for patch in wall.patches):
        return
    first, second = wall.corners[0], wall.corners[1]
    middle = (first + second) / 2
    yaw = float(np.arctan2(second[1] - first[1], second[0] - first[0]))
    size = (float(np.linalg.norm(second - first)), 0.03, 0.08)
    stage.add_box(Box((float(middle[0]), float(middle[1]), 0.04), size, yaw, "painted wood", _WHITE))


def _add_wall_patch(patch: Patch, wall: Surface, stage: _Stage) -> None:
    along = wall.along
    inward = np.array([-along[1], along[0], 0.0])
    yaw = float(np.arctan2(along[1], along[0]))
    middle = wall.corners[0] + along * (patch.start + patch.width / 2)
    middle = middle + np.array([0, 0, patch.bottom + patch.height / 2])

    def slab(depth: float, grow: float, material: str, color: Color, shift: float = 0.0) -> None:
        x, y, z = middle + inward * (shift + depth / 2)
        size = (patch.width + 2 * grow, depth, patch.height + 2 * grow)
        stage.add_box(Box((float(x), float(y), float(z)), size, yaw, material, color))

    if patch.name == "window":
        slab(0.05, 0.05, "painted wood", _WHITE)
        _add_panes(patch, middle, along, inward, stage)
    elif patch.name == "door":
        slab(0.03, 0.04, "painted wood", _WHITE)
        slab(0.05, -0.04, patch.material, patch.color)
        handle = middle + along * (patch.width / 2 - 0.1) + inward * 0.07
        knob = (float(handle[0]), float(handle[1]), 1.02)
        stage.add_box(Box(knob, (0.12, 0.06, 0.03), yaw, "metal", (0.7, 0.7, 0.7)))
    elif patch.name == "picture":
        red, green, blue = (float(value) for value in stage.rng.uniform(0.1, 0.9, size=3))
        slab(0.03, 0.02, "wood", patch.color)
        slab(0.035, -0.02, "painted wood", (red, green, blue))
    else:
        depth = {"curtain": 0.10, "blinds": 0.04, "acoustic panel": 0.05}[patch.name]
        slab(depth, 0.0, patch.material, patch.color, 0.03 if patch.name == "curtain" else 0.01)


def _add_panes(
    patch: Patch, middle: np.ndarray, along: np.ndarray, inward: np.ndarray, stage: _Stage
) -> None:
    """Two panes: the sky by day, dark glass at night."""
    up = np.array([0, 0, patch.height / 2 - 0.03])
    for side in (-1, 1):
        center = middle + along * side * patch.width / 4 + inward * 0.056
        pane = rectangle(center, -along * (patch.width / 4 - 0.025), up)
        if patch.glow > 0.2:
            stage.add_light(pane, np.array([0.75, 0.9, 1.1]) * patch.glow)
        else:
            stage.add(pane, "window glass", (0.06, 0.07, 0.10))


def _add_lamps(room: Room, stage: _Stage) -> None:
    """One to a few ceiling lamps over the floor; brighter at night."""
    rng = stage.rng
    color = np.array([1.0, 0.92 - 0.17 * room.warmth, 0.85 - 0.4 * room.warmth])
    num_lamps = int(np.clip(round(room.floor_area / 14), 1, 6))
    power = (1.4 - 0.9 * room.daylight) * room.floor_area / num_lamps
    half = rng.uniform(0.15, 0.45) * np.array([1.0, rng.choice([1.0, 0.4])])
    size, center, spread = room.outline.max(axis=0), room.outline.mean(axis=0), 0.05
    placed = 0
    while placed < num_lamps:
        point = center + rng.uniform(-spread, spread, size=2) * size
        spread = min(0.5, spread + 0.05)
        if not inside_polygon(point, room.outline):
            continue
        middle = np.array([point[0], point[1], room.height - 0.03])
        lamp = rectangle(middle, np.array([half[0], 0, 0]), np.array([0, -half[1], 0]))
        stage.add_light(lamp, color * power / (4 * half[0] * half[1]))
        placed += 1
        spread = 0.4
