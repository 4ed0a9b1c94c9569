"""Photographed rooms: a box drawn by its closed form, whose measures must come out again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvsd.acoustics import decay_time
from mvsd.data.shards import Shards
from mvsd.errors import DataError, NotMeasurable
from mvsd.simulation.photographed import (
    CEILING,
    FLOOR,
    FOCAL_SHARE,
    METRES_PER_UNIT,
    UNKNOWN,
    Photographed,
    find_photographed,
    open_photographed,
    photographed_room,
)

pytest.importorskip("pyroomacoustics")

from mvsd.simulation.simulate import simulate_photographed
from mvsd.simulation.sound import SAMPLE_RATE, simulate_response

SIZE, CAMERA = np.array([5.0, 4.0, 2.7]), np.array([1.0, 1.2, 1.5])
WINDOW, BED = 8, 3


def box_photo(*, yaw_deg: float = 12.0, pitch_deg: float = -12.0, name: str = "0000") -> Photographed:
    """A box room seen from inside; its far wall is a window from end to end."""
    rows, columns = 120, 160
    focal = FOCAL_SHARE * columns
    across = (np.arange(columns) + 0.5 - columns / 2) / focal
    up = -(np.arange(rows) + 0.5 - rows / 2)[:, None] / focal
    rays = np.stack([np.broadcast_to(across, (rows, columns)), np.ones((rows, columns)), up + 0 * across], -1)
    pitch, yaw = np.radians(pitch_deg), np.radians(yaw_deg)
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    rays = rays @ tilt.T @ turn.T @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])  # looks along x
    with np.errstate(divide="ignore"):
        reach = np.where(rays > 0, (SIZE - CAMERA) / rays, -CAMERA / rays)
    face, depth = reach.argmin(-1), reach.min(-1)
    labels = np.zeros((rows, columns), int)
    labels[face == 2] = np.where(rays[face == 2][:, 2] < 0, FLOOR, CEILING)
    labels[(face == 0) & (rays[..., 0] > 0)] = WINDOW
    return Photographed(name, np.full((rows, columns, 3), 128, np.uint8), depth.astype(np.float32), labels)


@pytest.mark.parametrize("yaw_deg", [0.0, 12.0, -20.0])
@pytest.mark.parametrize("pitch_deg", [-15.0, -8.0])
def test_a_box_is_measured(yaw_deg: float, pitch_deg: float) -> None:
    room = photographed_room(box_photo(yaw_deg=yaw_deg, pitch_deg=pitch_deg), seed=1)
    assert room.camera.position[2] == pytest.approx(CAMERA[2], abs=0.02)
    length, _ = np.ptp(room.outline, axis=0)[[1, 0]]
    ahead = length - room.camera.position[1]  # the room's second axis is the one ahead
    assert ahead == pytest.approx(SIZE[0] - CAMERA[0], abs=0.1)
    assert 0.3 <= room.camera.position[1] <= 1.2
    assert 0.3 <= room.distance <= 2.5
    inside = np.array(room.source[:2])
    assert np.all(inside > 0) and np.all(inside < room.outline.max(0))
    assert room.source[2] < room.height


def test_the_depth_of_a_scene_is_along_the_ray() -> None:
    wall = Photographed(
        "wall", np.zeros((48, 64, 3), np.uint8), np.full((48, 64), 2.0, np.float32), np.zeros((48, 64), int)
    )
    wall.depth[0, 0] = 0
    depth = wall.scene.depth
    assert depth is not None and depth.dtype == np.float32
    slope = np.array([31.5, 23.5]) / (FOCAL_SHARE * 64)
    assert depth[24, 32] == pytest.approx(2, rel=1e-3) and depth[0, 0] == 0
    assert depth[-1, -1] == pytest.approx(2 * np.sqrt(1 + slope @ slope), rel=1e-6)


def test_the_ceiling_gives_the_height_above_a_camera_at_1_4_m() -> None:
    assert photographed_room(box_photo(pitch_deg=8.0), seed=1).height == pytest.approx(
        1.4 + SIZE[2] - CAMERA[2], abs=0.05
    )


def test_what_is_seen_of_a_material_decides_its_share() -> None:
    room = photographed_room(box_photo(), seed=1)
    glass = [p for wall in room.surfaces[2:] for p in wall.patches if p.material == "double glazing"]
    assert len(glass) == 4
    shares = {
        p.width / np.linalg.norm(w.corners[1] - w.corners[0]) for w in room.surfaces[2:] for p in w.patches
    }
    assert max(shares) - min(shares) < 1e-6 and 0.2 < max(shares) < 0.9


def test_a_bed_shortens_the_decay() -> None:
    bare = box_photo()
    made = Photographed("0001", bare.image, bare.depth, np.where(bare.labels == FLOOR, BED, bare.labels))
    rooms = (photographed_room(bare, seed=3), photographed_room(made, seed=3))
    times = [decay_time(simulate_response(room), SAMPLE_RATE) for room in rooms]
    assert times[1] < 0.8 * times[0]


def test_what_nobody_labelled_is_no_furniture() -> None:
    photo = box_photo()
    labels = np.where(photo.labels == WINDOW, UNKNOWN, photo.labels)
    labels[:, :40] = BED
    (bed,) = photographed_room(replace(photo, labels=labels), seed=1).furniture
    assert bed.name == "bedding"


@pytest.mark.parametrize("scale", [0.3, 1.5])
def test_a_floor_too_near_or_far_is_none(scale: float) -> None:
    photo = box_photo()
    far = replace(
        photo, depth=photo.depth * np.float32(scale)
    )  # the camera 0.45 or 2.25 m above what is called floor
    assert photographed_room(far, seed=1).camera.position[2] == pytest.approx(1.4)


def test_the_same_seed_gives_the_same_room() -> None:
    first, second, other = (photographed_room(box_photo(), seed) for seed in (1, 1, 2))
    assert first.source == second.source != other.source


def test_without_depth_there_is_no_room() -> None:
    photo = box_photo()
    blind = Photographed("0000", photo.image, np.where(photo.depth > 1e3, photo.depth, 0), photo.labels)
    with pytest.raises(NotMeasurable, match="depth of only 0%"):
        photographed_room(blind, seed=0)


def write(folder: Path, photos: list[Photographed]) -> Path:
    for name in ("rgb", "depth", "labels40"):
        (folder / name).mkdir()
    for photo in photos:
        Image.fromarray(photo.image.repeat(2, 0).repeat(2, 1)).save(folder / "rgb" / f"{photo.name}.jpg")
        depth = np.round(photo.depth / METRES_PER_UNIT).clip(0, 255).astype(np.uint8)
        Image.fromarray(depth).save(folder / "depth" / f"{photo.name}.png")
        Image.fromarray(photo.labels.astype(np.uint8)).save(folder / "labels40" / f"{photo.name}.png")
    rows = [f"{photo.name},{'test' if photo.name == '0002' else 'train'}" for photo in photos]
    (folder / "split.csv").write_text("\n".join(["index,split", *rows]))
    return folder


def test_photos_become_shards(tmp_path: Path) -> None:
    blind = box_photo(name="0001")
    blind = Photographed("0001", blind.image, np.zeros_like(blind.depth), blind.labels)
    (tmp_path / "nyu").mkdir()
    folder = write(tmp_path / "nyu", [box_photo(), blind, box_photo(name="0002")])
    assert find_photographed(folder, "train") == ["0000", "0001"]
    photo = open_photographed(folder, "0000")
    assert np.abs(photo.depth - box_photo().depth).max() <= METRES_PER_UNIT / 2 + 1e-6
    paths = simulate_photographed(folder, tmp_path / "rooms", jobs=1)
    (example,) = Shards([tmp_path / "rooms"])
    assert len(paths) == 1 and example.key == "train-photo-0-0000"
    assert example.scene is not None and example.scene.image.shape == (240, 320, 3)  # twice its depth
    assert example.scene.depth is not None
    np.testing.assert_allclose(example.scene.depth[::2, ::2], photo.scene.depth[::2, ::2], atol=1e-3)
    np.testing.assert_array_equal(example.scene.depth[::2, ::2], example.scene.depth[1::2, 1::2])
    assert example.rir is not None and example.rir[0] == pytest.approx(1.0, abs=1e-6)
    assert example.metadata["room"] == "photographed"


def test_bad_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split.csv cannot be read"):
        find_photographed(tmp_path, "train")
    folder = write(tmp_path, [box_photo()])
    with pytest.raises(DataError, match=r"no photos of split 'test'; it has \['train'\]"):
        find_photographed(folder, "test")
    (folder / "depth" / "0000.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="photo 0000 of .* cannot be read"):
        open_photographed(folder, "0000")
    Image.new("L", (80, 60)).save(folder / "depth" / "0000.png")
    with pytest.raises(DataError, match="wanted are equal sizes"):
        open_photographed(folder, "0000")
    with pytest.raises(DataError, match="photo 0009"):
        open_photographed(folder, "0009")
