"""Data sets of simulated rooms: many processes, the same rooms whatever their number, resumed where they stopped."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mvsd.acoustics import c50_db, decay_time, drr_db
from mvsd.data.example import Example
from mvsd.data.shards import Shards, write_shards
from mvsd.errors import ConfigError, NotMeasurable
from mvsd.scene import Scene
from mvsd.simulation.materials import BANDS_HZ
from mvsd.simulation.photographed import find_photographed, open_photographed, photographed_room
from mvsd.simulation.picture import PANORAMA_PIXELS, PHOTO_PIXELS, load_mitsuba, render
from mvsd.simulation.rooms import Room, sample_room
from mvsd.simulation.roomtypes import POPULATIONS
from mvsd.simulation.sound import SAMPLE_RATE, load_pyroomacoustics, simulate_response
from mvsd.workers import process_pool

REVISION = 3
"""Raised where the same command makes other rooms than before."""

ROOMS_PER_SHARD = 250
SHORTEST_RT60, LONGEST_RT60 = 0.08, 2.5
MAX_ATTEMPTS = 20

Progress = Callable[[int, int], None]


def simulate_rooms(
    folder: str | Path,
    num_rooms: int,
    *,
    seed: int = 0,
    jobs: int | None = None,
    split: str = "train",
    population: str = "mixed",
    image_scale: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``num_rooms`` simulated rooms to ``folder`` as shards of 250; rooms that are there already are kept.

    A room depends only on (seed, split, population, its index) and ``REVISION``: not on ``jobs``; no two splits or
    populations share one (unless a split is named like another with its population, as test-homes).

    Args:
        jobs: processes; by default one per core.
        population: "mixed" (half of them seen in a panorama), "homes" or "dead" (`mvsd.simulation.roomtypes`).
        image_scale: picture size in multiples of 128 x 96 (photo) or 192 x 64 (panorama).
        progress: called with (rooms done, num_rooms).

    Raises:
        ConfigError: an argument is out of range, or the folder's rooms are of another ``REVISION``.
        MissingExtraError: pyroomacoustics or mitsuba is not installed.
    """
    if num_rooms < 1 or image_scale < 1 or seed < 0:
        raise ConfigError(
            f"num_rooms {num_rooms} and image_scale {image_scale} must be at least 1, seed {seed} at least 0"
        )
    if population not in POPULATIONS:
        raise ConfigError(f"population is {population!r}; wanted is one of {', '.join(POPULATIONS)}")
    load_mitsuba()
    load_pyroomacoustics()
    make = partial(
        simulate_room, seed=seed, split=split, population=population, image_scale=image_scale
    )  # fmt: skip
    name = f"{family_of(split, population)}-{seed}" + (f"-x{image_scale}" if image_scale > 1 else "")
    return _write(make, num_rooms, Path(folder), name, jobs, progress)


def simulate_photographed(
    photos: str | Path,
    folder: str | Path,
    *,
    seed: int = 0,
    jobs: int | None = None,
    split: str = "train",
    progress: Progress | None = None,
) -> list[Path]:
    """Give each photo of a split of NYU Depth v2 (`mvsd.simulation.photographed`) the sound of its room, as shards.

    Photos that know too little depth, or whose room's decay is out of range, are left out.

    Raises:
        ConfigError: the seed is negative.
        DataError: ``photos`` is not that data set.
        MissingExtraError: pyroomacoustics is not installed.
    """
    if seed < 0:
        raise ConfigError(f"seed is {seed}; it must be at least 0")
    load_pyroomacoustics()
    names = find_photographed(photos, split)
    make = partial(simulate_photo, photos=str(photos), names=names, seed=seed, split=split)
    return _write(make, len(names), Path(folder), f"{split}-photographed-{seed}", jobs, progress)


def simulate_photo(index: int, *, photos: str, names: list[str], seed: int, split: str) -> Example | None:
    """Photo number ``index`` with the response of its room; None if the room cannot be told or its decay measured."""
    photo = open_photographed(photos, names[index])
    try:
        room = photographed_room(photo, room_seed(seed, f"{split} photographed", index))
        rir = simulate_response(room)
        measures = _measure(rir)
    except NotMeasurable:
        return None
    facts = {"seed": seed, "split": split, "photo": photo.name, "simulator": _versions("pyroomacoustics")}
    metadata = {**describe(room), **measures, **facts}
    return Example(f"{split}-photo-{seed}-{photo.name}", photo.scene, None, None, rir, SAMPLE_RATE, metadata)


def family_of(split: str, population: str) -> str:
    """The name of the rooms of a split and a population, from which their seeds and keys are made."""
    return split if population == "mixed" else f"{split}-{population}"


def _write(
    make: Callable[[int], Example | None],
    num_rooms: int,
    folder: Path,
    name: str,
    jobs: int | None,
    progress: Progress | None,
) -> list[Path]:
    """Shards of 250 numbers each; those that are there already are kept, one with fewer rooms is replaced.

    Raises:
        ConfigError: those that are there are of another ``REVISION``.
    """
    for shard in sorted(folder.glob("[!.]*.tar")):  # what a run that was killed leaves half begins with a dot
        _require_same_revision(shard)
    paths: list[Path] = []
    with _workers(jobs or os.cpu_count() or 1) as mapped:
        for first in range(0, num_rooms, ROOMS_PER_SHARD):
            indices = range(first, min(first + ROOMS_PER_SHARD, num_rooms))
            prefix = f"{name}-{first:06d}-{indices.stop:06d}"
            path = folder / f"{prefix}-000000.tar"
            begun = sorted(folder.glob(f"{name}-{first:06d}-??????-000000.tar"))
            if not begun or begun[-1] < path:
                examples = _report(mapped(make, indices), first, num_rooms, progress)
                written = write_shards(examples, folder, prefix=prefix, examples_per_shard=ROOMS_PER_SHARD)
                for shorter in begun:
                    shorter.unlink()
                if not written:  # every photo was left out
                    continue
            else:
                path = begun[-1]
                if progress is not None:
                    progress(indices.stop, num_rooms)
            paths.append(path)
    return paths


def _require_same_revision(shard: Path) -> None:
    simulator = Shards([shard])[0].metadata.get("simulator")
    made = REVISION if simulator is None else simulator.get("revision", 1)
    if made != REVISION:
        raise ConfigError(
            f"{shard} holds rooms of the simulator's revision {made}, this one is revision {REVISION} and makes other "
            "rooms; choose another folder, or move these away"
        )


def _report(
    examples: Iterator[Example | None], first: int, num_rooms: int, progress: Progress | None
) -> Iterator[Example]:
    for done, example in enumerate(examples, first + 1):
        if progress is not None:
            progress(done, num_rooms)
        if example is not None:
            yield example


@contextmanager
def _workers(
    jobs: int,
) -> Iterator[Callable[[Callable[[int], Example | None], range], Iterator[Example | None]]]:
    """A map in order: in this process for one job, else over freshly started processes of one thread each."""
    if jobs == 1:
        yield map
        return
    with process_pool(jobs) as executor:
        yield lambda make, indices: executor.map(make, indices, chunksize=2)


def simulate_room(
    index: int,
    *,
    seed: int = 0,
    split: str = "train",
    population: str = "mixed",
    image_scale: int = 1,
) -> Example:
    """Room number ``index`` of a split: picture, depth, response and what is known about them.

    A room whose decay cannot be measured, or is outside 0.08 to 2.5 s, is replaced by the next one of the same
    index's own series; ``metadata["replaced"]`` lists the reasons.

    Raises:
        NotMeasurable: twenty rooms in a row failed.
    """
    reasons: list[str] = []
    family = family_of(split, population)
    for attempt in range(MAX_ATTEMPTS):
        number = room_seed(seed, family, index, attempt)
        room = sample_room(number, population=population)
        rir = simulate_response(room)
        try:
            measures = _measure(rir)
        except NotMeasurable as reason:
            reasons.append(str(reason))
            continue
        width, height = PANORAMA_PIXELS if room.camera.projection == "panorama" else PHOTO_PIXELS
        image, depth = render(room, width=image_scale * width, height=image_scale * height)
        metadata = {
            **describe(room),
            **measures,
            "seed": seed,
            "split": split,
            "population": population,
            "index": index,
            "replaced": reasons,
            "simulator": _versions("pyroomacoustics", "mitsuba"),
        }
        key = f"{family}-{seed}-{index:06d}"
        return Example(key, Scene(image, depth), None, None, rir, SAMPLE_RATE, metadata)
    raise NotMeasurable(
        f"room {index} of split {split!r}, seed {seed}: {MAX_ATTEMPTS} attempts failed: {reasons[-1]}"
    )


def room_seed(seed: int, family: str, index: int, attempt: int = 0) -> int:
    """The seed of one room, of 63 bits, from the name of its split and population and the numbers."""
    entropy = [zlib.crc32(family.encode()), seed, index, attempt]
    high, low = np.random.SeedSequence(entropy).generate_state(2, np.uint32)
    return (int(high) << 31) ^ int(low)


def _measure(rir: np.ndarray) -> dict[str, Any]:
    """Decay times, direct-to-reverberant ratio and clarity; None for a band that cannot be measured."""
    if not np.all(np.isfinite(rir)):
        raise NotMeasurable("the response is not finite")
    broadband = decay_time(rir, SAMPLE_RATE, "T30")
    if not SHORTEST_RT60 <= broadband <= LONGEST_RT60:
        raise NotMeasurable(f"the reverberation time is {broadband:.2f} s")

    def in_band(band_hz: int) -> float | None:
        try:
            return round(decay_time(rir, SAMPLE_RATE, "T20", band_hz=band_hz), 4)
        except NotMeasurable:
            return None

    return {
        "rt60": round(broadband, 4),
        "rt60_kind": "T30",
        "rt60_bands": {str(band): in_band(band) for band in BANDS_HZ[:-1]},
        "rt60_bands_kind": "T20",
        "edt": round(decay_time(rir, SAMPLE_RATE, "EDT"), 4),
        "drr_db": round(drr_db(rir, SAMPLE_RATE), 3),
        "c50_db": round(c50_db(rir, SAMPLE_RATE), 3),
    }


def _versions(*libraries: str) -> dict[str, Any]:
    return {"revision": REVISION, **{name: version(name) for name in libraries}}


def describe(room: Room) -> dict[str, Any]:
    """JSON-able facts about a room: geometry, materials, positions."""

    def rounded(values: Any) -> list[float]:
        return [round(float(value), 3) for value in values]

    return {
        "room": room.kind,
        "outline": [rounded(corner) for corner in room.outline],
        "height": round(room.height, 3),
        "volume": round(room.volume, 3),
        "floor_area": round(room.floor_area, 3),
        "surface_area": round(room.surface_area, 3),
        "materials": {surface.name: surface.material for surface in room.surfaces},
        "patches": [
            {"on": surface.name, "name": patch.name, "material": patch.material, "area": round(patch.area, 3)}
            for surface in room.surfaces
            for patch in surface.patches
        ],
        "furniture": [
            {"name": piece.name, "material": piece.hull.material, "center": rounded(piece.hull.center),
             "size": rounded(piece.hull.size)}
            for piece in room.furniture
        ],
        "source": rounded(room.source),
        "source_yaw": round(room.source_yaw, 4),
        "microphone": rounded(room.camera.position),
        "distance": round(room.distance, 3),
        "projection": room.camera.projection,
        "camera": {"yaw": round(room.camera.yaw, 4), "pitch": round(room.camera.pitch, 4),
                   "fov_deg": round(room.camera.fov_deg, 2)},
        "room_seed": room.seed,
    }  # fmt: skip
