"""Triangle meshes of boxes, cylinders, capsules and ellipsoids, with texture coordinates in metres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mvsd.simulation.geometry import Box, rotation

_CUBE_FACES = (  # outward normal, direction of texture u, direction of texture v
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    ((0, 0, -1), (1, 0, 0), (0, -1, 0)),
)


class Mesh(NamedTuple):
    """V vertices and F triangles.

    Attributes:
        positions, normals: (V, 3). uv: (V, 2) metres. faces: (F, 3) vertex indices, counter-clockwise from outside.
    """

    positions: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    faces: np.ndarray


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of many."""
    offsets = np.cumsum([0, *(len(mesh.positions) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.positions for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]),
    )


def rectangle(center: np.ndarray, along: np.ndarray, up: np.ndarray) -> Mesh:
    """A rectangle spanned by the half sides ``along`` and ``up``; it faces along x up."""
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    positions = center + signs[:, :1] * along + signs[:, 1:] * up
    normal = np.cross(along, up)
    half = np.array([np.linalg.norm(along), np.linalg.norm(up)])
    normals = np.tile(normal / np.linalg.norm(normal), (4, 1))
    return Mesh(positions, normals, (signs + 1) * half, np.array([[0, 1, 2], [0, 2, 3]]))


def box_mesh(box: Box) -> Mesh:
    """The mesh of a part of furniture, in the room."""
    half = np.maximum(np.array(box.size), 1e-3) / 2
    if box.shape == "box":
        mesh = _cuboid(half)
    elif box.shape == "cylinder":
        mesh = _revolve(np.array([1.0, 1, 1, 1, 0]), np.array([-1.0, -1, 1, 1, 1]), half, caps=True)
    else:
        angle = np.linspace(-np.pi / 2, np.pi / 2, 11)
        radius, height = np.cos(angle), np.sin(angle)
        if box.shape == "capsule":
            bulge = min(0.5, float(half[0] / half[2]))
            height = np.sign(height) * (1 - bulge) + bulge * height
            radius = np.sqrt(np.maximum(radius, 0.0))
        mesh = _revolve(radius, height, half, caps=False)
    turn = np.eye(3)
    turn[:2, :2] = rotation(box.yaw)
    return mesh._replace(
        positions=mesh.positions @ turn.T + np.array(box.center), normals=mesh.normals @ turn.T
    )


def _cuboid(half: np.ndarray) -> Mesh:
    sides = []
    for normal, along, up in _CUBE_FACES:
        sides.append(rectangle(np.array(normal) * half, np.array(along) * half, np.array(up) * half))
    return join(sides)


def _revolve(radius: np.ndarray, height: np.ndarray, half: np.ndarray, *, caps: bool, num: int = 18) -> Mesh:
    """A profile (radius, height) turned around z and stretched to the half sizes."""
    angle = np.linspace(0, 2 * np.pi, num + 1)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    rings = radius[:, None, None] * ring
    level = np.broadcast_to(height[:, None, None], (len(radius), num + 1, 1))
    unit = np.concatenate([rings, level], axis=-1)
    if caps:
        up = np.array([0.0, 0, 0, 1, 1])[:, None, None]
        normals = (1 - up) * np.append(ring, np.zeros((num + 1, 1)), axis=1) + up * np.array([0.0, 0, 1])
    else:
        normals = unit / half
        normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    arc = angle * (half[0] + half[1]) / 2
    uv = np.stack(np.broadcast_arrays(arc, (height[:, None] + 1) * half[2]), axis=-1)
    lower = (np.arange(len(radius) - 1)[:, None] * (num + 1) + np.arange(num)).ravel()
    upper = lower + num + 1
    faces = np.concatenate(
        [np.stack([lower, lower + 1, upper + 1], -1), np.stack([lower, upper + 1, upper], -1)]
    )
    return Mesh((unit * half).reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces)
