"""How sure a simulated response is: other rays, many more rays, and Eyring's formula.

    python benchmarks/rooms.py --population homes --num-rooms 16
    python benchmarks/rooms.py --photos NYU-DEPTH-V2 --num-rooms 36

Of validation rooms: the mean difference of T20 between two seeds of the rays, its error against --rays rays (signed,
then absolute), and the error of DRR. Of photographed rooms: the median of T20 over that which Eyring's formula gives
for all their surfaces, by octave band.
"""

from __future__ import annotations

import argparse

import numpy as np

from mvsd.acoustics import decay_time, drr_db
from mvsd.errors import NotMeasurable
from mvsd.simulation.materials import BANDS_HZ, MATERIALS
from mvsd.simulation.photographed import find_photographed, open_photographed, photographed_room
from mvsd.simulation.rooms import Room, sample_room
from mvsd.simulation.simulate import family_of, room_seed
from mvsd.simulation.sound import AIR_ABSORPTION, SAMPLE_RATE, simulate_response


def report_rays(population: str, num_rooms: int, num_rays: int) -> str:
    """A line on rooms of a population."""
    decays, ratios = [], []
    family = family_of("validation", population)
    for index in range(num_rooms):
        room = sample_room(room_seed(0, family, index), population=population)
        responses = [simulate_response(room, seed=seed) for seed in (1, 2)]
        responses.append(simulate_response(room, seed=3, num_rays=num_rays))
        try:
            decays.append([np.log(decay_time(rir, SAMPLE_RATE)) for rir in responses])
            ratios.append([drr_db(rir, SAMPLE_RATE) for rir in responses])
        except NotMeasurable:
            continue
    first, second, many = np.array(decays).T
    ratio = np.array(ratios)[:, 0] - np.array(ratios)[:, 2]
    return (
        f"{len(decays)} {population} rooms: T20 of two seeds differs by {100 * np.abs(first - second).mean():.1f} %;"
        f" against {num_rays} rays {100 * ((first + second) / 2 - many).mean():+.1f} %,"
        f" absolute {100 * np.abs(first - many).mean():.1f} %;"
        f" DRR {ratio.mean():+.2f} dB, absolute {np.abs(ratio).mean():.2f} dB"
    )


def report_photographed(photos: str, num_rooms: int) -> str:
    """A line on rooms of photos, spread evenly over the training split."""
    names = find_photographed(photos, "train")
    found = []
    for index, name in enumerate(names[:: max(len(names) // num_rooms, 1)][:num_rooms]):
        try:
            room = photographed_room(open_photographed(photos, name), room_seed(0, "validation", index))
            rir = simulate_response(room)
            times = [decay_time(rir, SAMPLE_RATE, band_hz=band) for band in BANDS_HZ[:-1]]
        except NotMeasurable:
            continue
        found.append(np.array(times) / eyring(room)[:-1])
    octaves = "  ".join(f"{ratio:.2f}" for ratio in np.median(found, axis=0))
    return (
        f"{len(found)} photographed rooms: T20 over Eyring's, {BANDS_HZ[0]} to {BANDS_HZ[-2]} Hz: {octaves}"
    )


def eyring(room: Room) -> np.ndarray:
    """Reverberation time (7,) per octave band, all furniture counted as surface; Kuttruff, Room Acoustics, (5.24)."""
    areas = [(surface.material, surface.area) for surface in room.surfaces]
    for surface in room.surfaces:
        for patch in surface.patches:
            areas += [(patch.material, patch.area), (surface.material, -patch.area)]
    for piece in (*room.furniture, room.person):
        areas += [(part.material, part.surface_area) for part in piece.parts]
    whole = sum(area for _, area in areas)
    absorbed = sum(area * np.array(MATERIALS[material].absorption) for material, area in areas)
    air = 4 * AIR_ABSORPTION * room.volume
    return np.asarray(0.161 * room.volume / (air - whole * np.log1p(-absorbed / whole)))


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--population", default="mixed")
    parser.add_argument("--photos", help="the folder of NYU Depth v2")
    parser.add_argument("--num-rooms", type=int, default=14)
    parser.add_argument("--rays", type=int, default=40_000)
    options = parser.parse_args()
    if options.photos:
        print(report_photographed(options.photos, options.num_rooms))
    else:
        print(report_rays(options.population, options.num_rooms, options.rays))


if __name__ == "__main__":
    main()
