"""Simulated rooms: geometry, picture, depth and sound against closed forms and theory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from mvsd.acoustics import decay_time, drr_db
from mvsd.data.example import Example
from mvsd.data.shards import Shards
from mvsd.errors import ConfigError
from mvsd.simulation import picture, sound
from mvsd.simulation import simulate as simulate_module
from mvsd.simulation.doorway import wall_pieces
from mvsd.simulation.furniture import PIECES
from mvsd.simulation.geometry import (
    Box,
    Furniture,
    Patch,
    Surface,
    box_blocks,
    extrude,
    inside_polygon,
    polygon_area,
    polygon_inside,
    rectangles_overlap,
    segments_cross,
    walls_at_reflex_corners,
)
from mvsd.simulation.materials import BANDS_HZ, MATERIALS, Material
from mvsd.simulation.mesh import box_mesh
from mvsd.simulation.rooms import Camera, Room, sample_room
from mvsd.simulation.roomtypes import POPULATIONS, ROOM_TYPES
from mvsd.simulation.simulate import describe, room_seed, simulate_room, simulate_rooms
from mvsd.simulation.walls import is_open

pytest.importorskip("mitsuba")
pytest.importorskip("pyroomacoustics")

from mvsd.simulation.picture import render


@pytest.fixture
def uniform(monkeypatch: pytest.MonkeyPatch) -> Material:
    """A material with the same absorption (0.2) and scattering (0.1) in every band, and no air absorption."""

    class Uniform(Material):
        scattering = np.full(7, 0.1)  # type: ignore[assignment]

    material = Uniform("uniform", (0.2,) * 7, 0.1, ((0.6, 0.6, 0.6),))
    monkeypatch.setitem(MATERIALS, "uniform", material)
    monkeypatch.setattr(sound, "AIR_ABSORPTION", np.zeros(7))
    return material


def empty_box(
    size: tuple[float, float, float] = (5.0, 4.0, 2.8),
    source: tuple[float, float, float] = (1.2, 1.1, 1.4),
    microphone: tuple[float, float, float] = (3.7, 2.8, 1.6),
    seed: int = 1,
) -> Room:
    outline = np.array([[0.0, 0.0], [size[0], 0.0], [size[0], size[1]], [0.0, size[1]]])
    floor, ceiling, walls = extrude(outline, size[2])
    named = [("floor", floor), ("ceiling", ceiling), *((f"wall {i}", wall) for i, wall in enumerate(walls))]
    surfaces = tuple(Surface(name, corners, "uniform", (0.6, 0.6, 0.6)) for name, corners in named)
    nobody = Box((*source[:2], -1.0), (1e-3, 1e-3, 1e-3), 0.0, "uniform", (0.6, 0.6, 0.6))
    camera = Camera(microphone, 0.0, 0.0, 70.0, "perspective")
    person = Furniture("person", nobody, (nobody,), blocks=False)
    return Room(seed, "test", outline, size[2], surfaces, (), person, source, 0.0, camera, 0.5, 0.5)


# ---------------------------------------------------------------------------------------------- geometry


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**62), st.sampled_from(sorted(POPULATIONS)))
def test_rooms_are_consistent(seed: int, population: str) -> None:
    room = sample_room(seed, population=population)
    camera, source = np.array(room.camera.position), np.array(room.source)
    assert polygon_area(room.outline) > 0
    for point in (camera, source):
        assert inside_polygon(point[:2], room.outline)
        assert 0 < point[2] < room.height
    assert 0.5 <= room.distance <= POPULATIONS[population].max_distance
    assert not segments_cross(camera[:2], source[:2], room.outline)
    for piece in room.furniture:
        assert polygon_inside(piece.hull.footprint(-0.01), room.outline)
        assert all(polygon_inside(part.footprint(-0.02), room.outline) for part in piece.parts)
        assert not any(box_blocks(part, camera, source) for part in piece.parts)
        assert not (piece.blocks and box_blocks(piece.hull, camera, source))
    bases = [piece.hull.footprint() for piece in room.furniture]
    assert not any(rectangles_overlap(a, b) for i, a in enumerate(bases) for b in bases[:i])
    assert {surface.material for surface in room.surfaces} <= set(MATERIALS)
    for surface in room.surfaces[2:]:
        length = np.linalg.norm(surface.corners[1] - surface.corners[0])
        for patch in surface.patches:
            assert patch.start >= 0 and patch.start + patch.width <= length + 1e-6
            assert patch.bottom >= 0 and patch.bottom + patch.height <= room.height
        openings = [patch for patch in surface.patches if patch.name == "opening"]
        others = [patch for patch in surface.patches if patch.name != "opening"]
        assert len(openings) <= 1
        for opening in openings:
            assert not any(
                patch.start < opening.start + opening.width and opening.start < patch.start + patch.width
                for patch in others
            )
    corner = walls_at_reflex_corners(room.outline)
    assert sum(is_open(room.surfaces[2 + index]) for index in corner) <= 1
    json.dumps(describe(room), allow_nan=False)


def test_the_speaker_is_in_the_frame() -> None:
    for seed in range(60):
        room = sample_room(seed)
        towards = np.subtract(room.source, room.camera.position)
        angle = np.arctan2(towards[1], towards[0]) - room.camera.yaw
        angle = np.degrees((angle + np.pi) % (2 * np.pi) - np.pi)
        if room.camera.projection == "panorama":
            continue
        assert abs(angle) < room.camera.fov_deg * 0.35
        above = np.arctan2(towards[2], np.hypot(towards[0], towards[1])) - room.camera.pitch
        assert abs(above) < np.arctan(0.75 * np.tan(np.radians(room.camera.fov_deg / 2))) / 2


def test_surfaces_face_outwards_and_close_the_room(uniform: Material) -> None:
    room = empty_box()
    _, walls = sound._build_engine(room)
    center = np.array([2.5, 2.0, 1.4])
    for wall, surface in zip(walls, room.surfaces, strict=True):
        assert wall.normal @ (surface.corners[0] - center) > 0
        assert wall.area() == pytest.approx(surface.area, rel=1e-5)
    pairs = zip(walls, room.surfaces, strict=True)
    volume = sum(wall.normal @ surface.corners[0] * wall.area() for wall, surface in pairs) / 3
    assert volume == pytest.approx(room.volume, rel=1e-5)


def test_materials_are_those_of_the_published_table() -> None:
    from pyroomacoustics.parameters import materials_data

    table = {name: entry for group in materials_data["absorption"].values() for name, entry in group.items()}
    assert len(MATERIALS) >= 25
    for material in MATERIALS.values():
        assert len(material.absorption) == len(BANDS_HZ) == len(material.scattering)
        assert all(0 <= value <= 1 for value in (*material.absorption, *material.scattering))
        if material.table_key is not None:
            published = table[material.table_key]["coeffs"]
            published = [*published, *published[-1:] * (7 - len(published))]
            assert list(material.absorption) == pytest.approx(published), material.name


# ------------------------------------------------------------------------------------------- picture, depth


def test_depth_is_the_distance_along_the_ray(uniform: Material) -> None:
    room = empty_box()
    camera = replace(room.camera, fov_deg=60.0)
    image, depth = render(replace(room, camera=camera), width=32, height=24, samples_per_pixel=4)
    assert image.shape == (24, 32, 3) and image.dtype == np.uint8
    assert depth.shape == (24, 32) and depth.dtype == np.float32
    column = np.arange(32) + 0.5 - 16
    row = np.arange(24)[:, None] + 0.5 - 12
    slope = np.tan(np.radians(30)) / 16
    to_wall = (5.0 - 3.7) * np.sqrt(1 + (column * slope) ** 2 + (row * slope) ** 2)
    assert depth == pytest.approx(to_wall, rel=0.03)


def test_panorama_goes_around_clockwise(uniform: Material) -> None:
    room = empty_box()
    camera = replace(room.camera, projection="panorama", fov_deg=360.0)
    image, depth = render(replace(room, camera=camera), width=64, height=16, samples_per_pixel=2)
    assert image.shape == (16, 64, 3)
    horizon = depth[7:9].mean(axis=0)
    back, left, front, right = horizon[[0, 16, 32, 48]]
    assert [back, left, front, right] == pytest.approx([3.7, 4.0 - 2.8, 5.0 - 3.7, 2.8], rel=0.1)


def test_a_small_picture_is_a_large_one_that_was_shrunk() -> None:
    room = sample_room(5)  # seen in a photo

    def sharpness(image: np.ndarray) -> float:
        grey = image.mean(axis=-1)
        return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())

    small, large = render(room, width=64, height=48)[0], render(room, width=256, height=192)[0]
    shrunk = np.asarray(Image.fromarray(large).resize((64, 48), Image.Resampling.BILINEAR))
    assert sharpness(small) == pytest.approx(sharpness(shrunk), rel=0.15)  # a box filter: 26 % too sharp
    # Corners are as dark: 2.4 of 255 apart, 6.8 when light was smoothed however much it differs.
    light = gaussian_filter(small.astype(float) - shrunk, (2, 2, 0))
    assert np.sqrt(np.mean(light**2)) < 4


def test_the_denoiser_takes_away_chance_and_keeps_shadows() -> None:
    generator = np.random.default_rng(3)
    rows, columns = np.mgrid[:48, :64]
    light = 0.2 + np.abs(columns - 32) / 32 * (
        1 - 0.5 * np.exp(-rows / 4)
    )  # a soft crease, and a dark corner
    albedo = 0.3 + 0.6 * generator.random((48, 64, 3))
    normal, depth = np.broadcast_to([0.0, 0.0, 1.0], (48, 64, 3)), np.full((48, 64), 3.0)
    radiance = light[..., None] * albedo
    kept = picture._denoise(radiance, radiance, albedo, normal, depth)
    assert kept == pytest.approx(radiance, rel=0.02)
    halves = radiance * (1 + 0.2 * generator.standard_normal((2, 48, 64, 1)))
    cleaned = picture._denoise(halves[0], halves[1], albedo, normal, depth)

    def error(estimate: np.ndarray) -> float:
        return float(np.sqrt(np.mean((estimate / radiance - 1) ** 2)))

    assert error(cleaned) < 0.4 * error(halves.mean(axis=0))
    assert np.mean(cleaned / radiance) == pytest.approx(1, abs=0.01)


# ------------------------------------------------------------------------------------------------- sound


def test_direct_sound_is_a_unit_impulse_and_nothing_comes_before_reflections(uniform: Material) -> None:
    room = empty_box(source=(2.5, 2.0, 1.4), microphone=(3.5, 2.0, 1.4))
    rir = sound.simulate_response(room, directivity=np.zeros(7))
    assert rir.dtype == np.float32 and rir.shape == (sound.NUM_SAMPLES,)
    assert rir[0] == 1.0
    # floor and ceiling lie 1.4 m away: their reflections travel sqrt(1 + 2.8^2) m, 1.97 m more than the direct sound
    delay = (np.sqrt(1 + 2.8**2) - 1) / sound.SPEED_OF_SOUND * sound.SAMPLE_RATE
    assert np.abs(rir[1 : int(delay) - 8]).max() < 0.05
    first = int(np.argmax(np.abs(rir[1:150]))) + 1
    assert first == pytest.approx(delay, abs=1.5)
    # two reflections of amplitude sqrt((1 - absorption) / (1 + scattering)) / path
    expected = 2 * np.sqrt(0.8 / 1.1) / np.sqrt(1 + 2.8**2)
    assert rir[first - 4 : first + 5].sum() == pytest.approx(expected, rel=0.15)


def test_reverberation_time_is_that_of_eyring(uniform: Material) -> None:
    room = empty_box()
    eyring = 0.161 * room.volume / (-room.surface_area * np.log(1 - 0.2))
    measured = [
        decay_time(sound.simulate_response(room, seed=seed), sound.SAMPLE_RATE, "T30") for seed in range(3)
    ]
    assert np.mean(measured) == pytest.approx(eyring, rel=0.15)


def test_reverberant_level_is_that_of_the_diffuse_field(uniform: Material) -> None:
    room = empty_box()
    rir = sound.simulate_response(room, directivity=np.zeros(7))
    rate = -sound.SPEED_OF_SOUND * room.surface_area * np.log(1 - 0.2) / (4 * room.volume)
    start, stop = room.distance / sound.SPEED_OF_SOUND + np.array([0.03, 0.15])
    energy = (
        4 * np.pi * sound.SPEED_OF_SOUND / room.volume / rate * (np.exp(-rate * start) - np.exp(-rate * stop))
    )
    measured = np.sum(rir[480:2400].astype(float) ** 2) / room.distance**2
    assert 10 * np.log10(measured / energy) == pytest.approx(0, abs=1.5)


def test_scattering_takes_nothing_from_the_first_reflections(
    uniform: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is reflected n times all arrives, scattered or not; n = 1 to 3 are the first 25 ms of this room."""
    room = empty_box()
    energies = []
    for scattering in (0.05, 0.5):
        monkeypatch.setattr(type(uniform), "scattering", np.full(7, scattering))
        responses = [
            sound.simulate_response(room, seed=seed, directivity=np.zeros(7)).astype(float)
            for seed in range(6)
        ]
        energies.append(np.mean([np.sum(rir[48:400] ** 2) for rir in responses]))
    assert 10 * np.log10(energies[1] / energies[0]) == pytest.approx(0, abs=0.8)


def test_a_person_absorbs_what_was_measured() -> None:
    """Of a standing person 0.4 m2 in summer dress to 1.4 m2 in a coat are published for 1 kHz."""
    parts = sample_room(1).person.parts
    area = sum(part.surface_area * MATERIALS[part.material].absorption[3] for part in parts)
    assert 0.5 < area < 1.4


def test_who_turns_away_is_heard_through_the_room(uniform: Material) -> None:
    room = empty_box()
    (x, y), (to_x, to_y) = room.source[:2], room.camera.position[:2]
    bearing = float(np.arctan2(to_y - y, to_x - x))
    towards, away = (
        drr_db(sound.simulate_response(replace(room, source_yaw=bearing + turn)), sound.SAMPLE_RATE)
        for turn in (0.0, np.pi)
    )
    assert towards > away + 5


def test_loose_furniture_absorbs_as_eyring_has_it(uniform: Material) -> None:
    """It stands before the walls as well as on the floor: no sound is left between bare walls."""
    room = empty_box()
    cube = Box((0.0, 0.0, 1.0), (2.0, 2.0, 2.0), 0.0, "uniform", (0.6, 0.6, 0.6))
    cubes = tuple(Furniture("cube", cube, (cube,), blocks=False) for _ in range(4))
    surface, furniture = room.surface_area, sum(piece.hull.surface_area for piece in cubes)
    absorption = 0.2 * (surface + furniture) / surface
    eyring = 0.161 * room.volume / (-surface * np.log(1 - absorption))
    times = [
        decay_time(
            sound.simulate_response(replace(room, furniture=cubes), seed=seed), sound.SAMPLE_RATE, "T30"
        )
        for seed in range(3)
    ]
    assert np.mean(times) == pytest.approx(eyring, rel=0.15)


def test_a_decay_goes_on_at_its_rate_where_rays_miss_single_bins() -> None:
    rng = np.random.default_rng(0)
    rate = 6 * np.log(10) / 0.8 * sound.BIN_SECONDS  # of a T60 of 0.8 s, per bin
    levels = np.exp(-rate * np.arange(400)) * rng.exponential(size=(40, 400))
    levels[rng.random(levels.shape) < 0.2] = 0  # chance
    levels[:, :20] = levels[:, 250:] = 0  # before the first ray, after the last
    extended = sound._extend(levels)
    assert np.array_equal(extended[:, :250], levels[:, :250])
    late = np.log(extended[:, 300:700])
    assert np.allclose(np.diff(late, 2), 0, atol=1e-6)
    assert np.mean(late[:, 0] - late[:, 1]) == pytest.approx(rate, rel=0.1)
    assert np.mean(late[:, 0]) == pytest.approx(-rate * 300 + np.log(0.8), abs=0.3)


def test_nothing_that_arrives_is_nothing_that_goes_on() -> None:
    energy = np.zeros((2, 50))
    energy[1, 3] = 1.0
    assert not sound._extend(energy).any()


def test_a_ray_is_followed_below_what_a_decay_time_is_read_from(uniform: Material) -> None:
    """T30 is read down to -35 dB; until there the energy must be that of rays, not of their continuation."""
    room = empty_box()
    engine, _ = sound._build_engine(room)
    gain = sound._Directivity(np.array([1.0, 0.0, 0.0]), np.zeros(7))
    rng = np.random.default_rng(0)
    energy = sound._trace(engine, np.array(room.source), sound.NUM_RAYS, gain, rng)[3]
    left = np.cumsum(energy[::-1])[::-1] / energy.sum()
    last = np.flatnonzero(energy)[-1]
    assert 10 * np.log10(left[last]) < -50
    assert np.count_nonzero(energy[30 : last // 2]) > 0.9 * (last // 2 - 30)


def test_air_shortens_the_decay_as_eyring_has_it(uniform: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    per_metre = 0.05
    monkeypatch.setattr(sound, "AIR_ABSORPTION", np.full(7, per_metre))
    room = empty_box()
    absorbed = -room.surface_area * np.log(0.8) + 4 * per_metre * room.volume
    times = [
        decay_time(sound.simulate_response(room, seed=seed), sound.SAMPLE_RATE, "T30") for seed in range(3)
    ]
    assert np.mean(times) == pytest.approx(0.161 * room.volume / absorbed, rel=0.15)


def test_a_patch_takes_the_place_of_its_wall() -> None:
    white = (0.5, 0.5, 0.5)
    corners = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0], [0.0, 3.0]])
    floor = extrude(corners, 2.5)[0]
    rug = Patch("rug", 0.0, 0.0, 2.0, 1.5, "thick carpet", white)
    absorption, _ = sound._effective(Surface("floor", floor, "plaster", white, (rug,)), [], 0.0)
    plaster, carpet = (np.array(MATERIALS[name].absorption) for name in ("plaster", "thick carpet"))
    assert absorption == pytest.approx(0.75 * plaster + 0.25 * carpet)


def test_direct_to_reverberant_ratio_falls_with_distance(uniform: Material) -> None:
    ratios = []
    for x in (1.9, 2.6, 4.2):
        room = empty_box(microphone=(x, 1.6, 1.5))
        ratios.append(drr_db(sound.simulate_response(room), sound.SAMPLE_RATE))
    assert ratios[0] > ratios[1] + 2 and ratios[1] > ratios[2] + 1


def test_a_carpet_shortens_the_decay() -> None:
    room = empty_box()

    def floored(material: str) -> float:
        surfaces = [replace(surface, material="plaster") for surface in room.surfaces]
        surfaces[0] = replace(surfaces[0], material=material)
        person = replace(
            room.person, parts=tuple(replace(part, material="plaster") for part in room.person.parts)
        )
        return decay_time(
            sound.simulate_response(replace(room, surfaces=tuple(surfaces), person=person)), sound.SAMPLE_RATE
        )

    assert floored("thick carpet") < 0.75 * floored("marble")


# ------------------------------------------------------------------------------------------------- data sets


def test_a_room_is_a_function_of_seed_split_and_index() -> None:
    first, second = (simulate_room(3, seed=5, population="homes") for _ in range(2))
    assert first.key == "train-homes-5-000003"
    assert (
        first.rir is not None
        and second.rir is not None
        and first.scene is not None
        and second.scene is not None
    )
    assert np.array_equal(first.rir, second.rir)
    assert np.array_equal(first.scene.image, second.scene.image)
    assert first.metadata == second.metadata
    json.dumps(dict(first.metadata), allow_nan=False)
    assert first.anechoic is None and first.reverberant is None
    assert first.rir[0] == 1.0 and np.isfinite(first.rir).all()
    assert first.scene.image.shape == (64, 192, 3)


def test_a_home_sounds_drier_with_its_doors_open() -> None:
    num_open = 0
    for seed in range(6):
        room = sample_room(seed, population="homes")
        assert room.camera.projection == "panorama" and room.distance <= POPULATIONS["homes"].max_distance
        walls = room.surfaces[2:]
        opened = [patch for wall in walls for patch in wall.patches if patch.material == "open doorway"]
        if not opened:
            continue
        assert all(patch.height < room.height for patch in opened)
        shut = tuple(
            replace(
                wall,
                patches=tuple(
                    replace(patch, material="wooden door") if patch in opened else patch
                    for patch in wall.patches
                ),
            )
            for wall in room.surfaces
        )
        times = [
            np.mean(
                [decay_time(sound.simulate_response(home, seed=rays), sound.SAMPLE_RATE) for rays in range(3)]
            )
            for home in (room, replace(room, surfaces=shut))
        ]
        assert times[0] < 0.95 * times[1]
        num_open += 1
    assert num_open >= 3


def test_only_living_rooms_open_into_the_next_without_a_door() -> None:
    seen = set()
    for seed in range(60):
        room = sample_room(seed, population="homes")
        kind = ROOM_TYPES[room.kind]
        wide = [
            patch
            for surface in room.surfaces
            for patch in surface.patches
            if patch.name == "opening" and not 0.8 <= patch.width <= 1.0
        ]
        assert len(wide) <= kind.openings
        seen.add((kind.name, bool(wide)))
    assert {("bathroom", False), ("bedroom", False), ("open-plan home", True), ("living room", True)} <= seen


def test_through_a_doorway_the_next_room_is_seen(uniform: Material) -> None:
    """The wall is closed around it, and the depth map goes on behind it."""
    room = empty_box(microphone=(2.5, 2.0, 1.5))
    doorway = Patch("opening", 1.5, 0.0, 2.0, 2.2, "open doorway", (0.6, 0.6, 0.6))
    walls = list(room.surfaces)
    walls[2] = replace(walls[2], patches=(doorway,))  # y = 0, from x = 0 to 5
    pieces = wall_pieces(walls[2], room.height)
    area = sum(float(np.linalg.norm(np.cross(*np.diff(piece.positions[:3], axis=0)))) for piece in pieces)
    assert area == pytest.approx(walls[2].area - doorway.area)
    looks = replace(room.camera, yaw=-np.pi / 2)
    closed, opened = (
        render(replace(room, surfaces=tuple(surfaces), camera=looks), samples_per_pixel=2)[1]
        for surfaces in ([*walls[:2], replace(walls[2], patches=()), *walls[3:]], walls)
    )
    middle = np.s_[40:56, 56:72]  # 2 m to the wall
    assert np.abs(closed[middle] - 2).max() < 0.2
    assert opened[middle].min() > 3
    assert np.abs(opened - closed)[40:56, :8].max() < 0.2  # beside it is the wall


@pytest.mark.parametrize("seed", range(3))
def test_the_next_room_is_deep_behind_an_inward_corner_too(uniform: Material, seed: int) -> None:
    """A door 0.15 m from the corner of an L: the next room ends at its wall, and is no shallower for it."""
    outline = np.array([[0.0, 0.0], [6.0, 0.0], [6.0, 3.0], [3.0, 3.0], [3.0, 6.0], [0.0, 6.0]])
    door = Patch("opening", 0.15, 0.0, 0.9, 2.05, "open doorway", (0.6, 0.6, 0.6))
    walls = [
        Surface(f"wall {index}", corners, "uniform", (0.6, 0.6, 0.6), (door,) if index == 3 else ())
        for index, corners in enumerate(extrude(outline, 2.8)[2])
    ]
    room = empty_box(microphone=(1.0, 3.6, 1.5))
    room = replace(room, seed=seed, outline=outline, surfaces=(*room.surfaces[:2], *walls))
    depth = render(room, samples_per_pixel=2)[1]
    assert depth[40:52, 60:68].min() > 2 + 0.14 + 1.5 - 0.05


def test_an_unknown_population_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wanted is one of mixed, homes, dead"):
        simulate_rooms(tmp_path, 1, population="castles")


def test_splits_share_no_room() -> None:
    splits = ("train", "unpaired", "validation", "test")
    seeds = {room_seed(seed, split, index) for split in splits for seed in range(3) for index in range(500)}
    assert len(seeds) == 4 * 3 * 500


def test_populations_share_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = []

    def sample(number: int, *, population: str) -> Room:
        numbers.append(number)
        raise NotImplementedError

    monkeypatch.setattr(simulate_module, "sample_room", sample)
    for population in POPULATIONS:
        with pytest.raises(NotImplementedError):
            simulate_room(3, split="test", population=population)
    assert len(set(numbers)) == len(POPULATIONS)


def test_dead_rooms_are_of_what_is_dead() -> None:
    for seed in range(60):
        room = sample_room(seed, population="dead")
        kind = ROOM_TYPES[room.kind]
        floor, ceiling, *walls = (surface.material for surface in room.surfaces)
        assert floor in kind.floors and ceiling in kind.ceilings and set(walls) <= set(kind.walls)


def test_chairs_stand_at_their_table() -> None:
    for seed in range(20):
        piece = PIECES["table"](np.random.default_rng(seed))
        _, depth, _ = piece.size
        reach = [
            (part.center[1] - part.size[1] / 2, part.center[1] + part.size[1] / 2) for part in piece.parts
        ]
        assert all(low >= 0 and high <= depth for low, high in reach)
        top, seats = piece.parts[0], [part for part in piece.parts if part.size[:2] == (0.44, 0.44)]
        for seat in seats:
            gap = abs(seat.center[1] - top.center[1]) - (seat.size[1] + top.size[1]) / 2
            assert -0.3 < gap < 0  # tucked in
        backs = [part for part in piece.parts if part.size[:2] == (0.44, 0.04)]
        assert len(backs) == len(seats) > 0
        assert all(abs(back.center[1] - top.center[1]) > top.size[1] / 2 for back in backs)


def test_the_normals_of_a_stretched_sphere_are_its_gradient() -> None:
    half = np.array([0.5, 0.25, 0.1])
    mesh = box_mesh(Box((0.0, 0.0, 0.0), (1.0, 0.5, 0.2), 0.0, "plant", (0.2, 0.4, 0.2), "sphere"))
    gradient = mesh.positions / half**2
    gradient /= np.linalg.norm(gradient, axis=-1, keepdims=True)
    np.testing.assert_allclose(mesh.normals, gradient, atol=1e-6)


def test_failed_rooms_are_replaced_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {room_seed(0, "train", 0, 0)}
    simulate = sound.simulate_response

    def sometimes(room: Room) -> np.ndarray:
        return np.eye(1, sound.NUM_SAMPLES, dtype=np.float32)[0] if room.seed in broken else simulate(room)

    monkeypatch.setattr(simulate_module, "simulate_response", sometimes)
    example = simulate_room(0)
    assert len(example.metadata["replaced"]) == 1
    assert example.metadata["room_seed"] not in broken


def test_shards_resume(tmp_path: Path) -> None:
    seen: list[int] = []
    paths = simulate_rooms(tmp_path, 1, jobs=1, split="test", progress=lambda done, _: seen.append(done))
    written = paths[0].stat().st_mtime_ns
    assert (
        simulate_rooms(tmp_path, 1, jobs=1, split="test", progress=lambda done, _: seen.append(done)) == paths
    )
    assert paths[0].stat().st_mtime_ns == written
    assert seen == [1, 1]


def test_rooms_of_another_simulator_are_not_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_module, "simulate_room", _blank)
    written = simulate_rooms(tmp_path, 1, jobs=1, split="test")[0].read_bytes()
    monkeypatch.setattr(simulate_module, "REVISION", simulate_module.REVISION + 1)
    with pytest.raises(ConfigError, match="another folder"):
        simulate_rooms(tmp_path, 2, jobs=1, split="test")
    with pytest.raises(ConfigError, match="another folder"):
        simulate_rooms(tmp_path, 1, jobs=1, seed=1)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [written]


def test_more_rooms_take_the_place_of_fewer_and_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate_module, "ROOMS_PER_SHARD", 2)
    monkeypatch.setattr(simulate_module, "simulate_room", _blank)
    for num_rooms, names in (
        (1, ["test-0-000000-000001-000000.tar"]),
        (3, ["test-0-000000-000002-000000.tar", "test-0-000002-000003-000000.tar"]),
        (1, ["test-0-000000-000002-000000.tar", "test-0-000002-000003-000000.tar"]),
    ):
        simulate_rooms(tmp_path, num_rooms, jobs=1, split="test")
        assert sorted(path.name for path in tmp_path.iterdir()) == names
    (tmp_path / ".mvsd-0123456789abcdef.part.tar").write_bytes(b"half")  # of a run that was killed
    simulate_rooms(tmp_path, 1, jobs=1, split="test", population="homes")
    simulate_rooms(tmp_path, 1, jobs=1, split="test", image_scale=2)
    assert len(list(tmp_path.iterdir())) == 5
    assert Shards(tmp_path / names[0]).keys == ["test-0-000000", "test-0-000001"]


def _blank(index: int, *, seed: int, split: str, **_: object) -> Example:
    key, rir = f"{split}-{seed}-{index:06d}", np.eye(1, 9, dtype=np.float32)[0]
    made = {"simulator": {"revision": simulate_module.REVISION}}
    return Example(key, None, None, None, rir, 16_000, made)


def test_arguments_out_of_range() -> None:
    with pytest.raises(ConfigError, match="num_rooms 0"):
        simulate_rooms("nowhere", 0)
