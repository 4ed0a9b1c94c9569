"""The response of a room: image sources and ray tracing by pyroomacoustics, put together at our sample rate.

pyroomacoustics' engine finds the specular reflections up to ``IMAGE_ORDER`` and the energy histogram of everything
else, per octave band, among the walls and the solid furniture. We assemble the response from these ourselves,
relative to the direct sound, so that the direct sound is an exact unit impulse at sample 0. Windows, doors, curtains
and rugs change the coefficients of the wall they are on in proportion to their area; things that sound passes through
or around (chairs, tables, the speaker's body) add their absorption and scattering to the floor and the walls in front
of which they stand, in proportion to these areas: all on the floor, they would leave sound between the walls alone.

Sound levels: an image source at distance d has the amplitude damping / d, a histogram entry the energy
amplitude ** 2, both per band (Schroeder, "Physically based real-time auralization", 2011, section 5.4).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from mvsd.errors import MissingExtraError
from mvsd.simulation.geometry import Box, Surface, walls_at_reflex_corners
from mvsd.simulation.materials import BANDS_HZ, MATERIALS
from mvsd.simulation.rooms import Room

SAMPLE_RATE = 16_000
NUM_SAMPLES = 24_576
SPEED_OF_SOUND = 343.0
IMAGE_ORDER = 3
NUM_RAYS = 2500
RECEIVER_RADIUS = 0.5
BIN_SECONDS = 0.002
RAY_LOSS = 6.25e-7
"""The share of its energy with which a ray is given up: after 62 dB."""

AIR_ABSORPTION = np.array([0.1, 0.3, 0.6, 1.0, 1.9, 5.8, 20.3]) * 1e-3
"""Energy attenuation per metre at 20 degrees and 30-50 % humidity, the table of pyroomacoustics."""

VOICE_DIRECTIVITY = np.array([0.10, 0.15, 0.22, 0.26, 0.33, 0.42, 0.50])
"""Share k of the dipole in the voice's pattern 1 - k + k cos(angle), per band: directivity indices of 0.8 to 5 dB,
about those of a talker (Chu and Warnock, NRC report 104, 2002)."""

_LOUD = 1e7
"""How much louder rays begin: the engine gives a ray up at ``RAY_LOSS`` of its energy, but a scattered hop at that
energy itself, which must be below what any ray that is followed can scatter."""
_FILTER_LENGTH = 512
_FILTER_LEAD = 16  # samples of fractional-delay sinc before a reflection


def load_pyroomacoustics() -> ModuleType:
    """pyroomacoustics, imported when first needed.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyroomacoustics
    except ImportError as error:
        raise MissingExtraError("simulate", "pyroomacoustics") from error
    module: ModuleType = pyroomacoustics
    return module


def simulate_response(
    room: Room,
    *,
    seed: int | None = None,
    num_rays: int = NUM_RAYS,
    directivity: np.ndarray = VOICE_DIRECTIVITY,
) -> np.ndarray:
    """Response from the speaker's mouth to the camera: (NUM_SAMPLES,) float32 at 16 kHz, ``rir[0] == 1`` exactly.

    Args:
        seed: of the ray tracer and the noise; by default the room's.
        directivity: dipole share of the source per band; zeros for an omnidirectional source.
    """
    rng = np.random.default_rng(
        [room.seed if seed is None else seed, 1]
    )  # the room was drawn with the number alone
    source, microphone = np.array(room.source), np.array(room.camera.position)
    distance = float(np.linalg.norm(microphone - source))
    front = np.array([np.cos(room.source_yaw), np.sin(room.source_yaw), 0.0])
    gain = _Directivity(front, directivity)
    direct = gain((microphone - source)[None] / distance)[:, 0]
    engine, walls = _build_engine(room)
    excess = 1 + _mean_scattering(walls)[:, None]
    rir = _specular(engine, source, microphone, distance, gain, direct, excess)
    energy = _trace(engine, source, num_rays, gain, rng) * (distance / direct[:, None]) ** 2
    rir += _diffuse(energy / excess, distance / SPEED_OF_SOUND, room.volume, rng)
    rir[0] = 1.0
    return rir.astype(np.float32)


class _Directivity:
    """Amplitude of the voice towards directions (N, 3): (7, N), 1 straight ahead."""

    def __init__(self, front: np.ndarray, share: np.ndarray) -> None:
        self.front, self.share = front, np.asarray(share)[:, None]

    def __call__(self, directions: np.ndarray) -> np.ndarray:
        cosine = directions @ self.front
        return np.asarray(np.maximum(1 - self.share + self.share * cosine, 0.15))


# ------------------------------------------------------------------------------------------------ walls


def _build_engine(room: Room) -> tuple[Any, list[Any]]:
    """The library's room, and its walls."""
    libroom = load_pyroomacoustics().libroom
    walls: list[Any] = []
    obstructing: list[int] = []

    def add(corners: np.ndarray, absorption: np.ndarray, scattering: np.ndarray, obstructs: bool) -> None:
        if obstructs:
            obstructing.append(len(walls))
        absorption = np.clip(absorption, 0.01, 0.98).astype(np.float32)
        scattering = np.clip(scattering, 0.05, 0.9).astype(np.float32)
        walls.append(libroom.Wall(np.asfortranarray(corners.T, dtype=np.float32), absorption, scattering, ""))

    reflex = walls_at_reflex_corners(room.outline)
    loose = [part for piece in (*room.furniture, room.person) if not piece.blocks for part in piece.parts]
    furnished = sum(surface.area for surface in room.surfaces if surface.name != "ceiling")
    for index, surface in enumerate(room.surfaces):
        share = surface.area / furnished if surface.name != "ceiling" else 0.0
        add(surface.corners, *_effective(surface, loose, share), index - 2 in reflex)
    for piece in room.furniture:
        if piece.blocks:
            coefficients = _average(list(piece.parts))
            for corners in _box_faces(piece.hull):
                add(corners, *coefficients, True)
    engine = libroom.Room(
        walls, obstructing, [], SPEED_OF_SOUND, IMAGE_ORDER, RAY_LOSS, NUM_SAMPLES / SAMPLE_RATE,
        RECEIVER_RADIUS, BIN_SECONDS, True,
    )  # fmt: skip
    engine.add_mic(np.array(room.camera.position, dtype=np.float32))
    return engine, walls


def _effective(surface: Surface, loose: list[Box], share: float) -> tuple[np.ndarray, np.ndarray]:
    """Absorption and scattering (7,) of a surface with its patches and a share of the loose furniture."""
    base = MATERIALS[surface.material]
    bare = max(surface.area - sum(patch.area for patch in surface.patches), 0.0)
    entries = [(bare, base), *((patch.area, MATERIALS[patch.material]) for patch in surface.patches)]
    extra = [(share * part.surface_area, MATERIALS[part.material]) for part in loose]
    absorbing = sum(area * np.array(material.absorption) for area, material in entries + extra)
    scattering = sum(area * material.scattering for area, material in entries + extra)
    total = sum(area for area, _ in entries)
    return np.asarray(absorbing / total), np.asarray(scattering / (total + sum(area for area, _ in extra)))


def _average(parts: list[Box]) -> tuple[np.ndarray, np.ndarray]:
    areas = np.array([part.surface_area for part in parts])
    absorption = np.array([MATERIALS[part.material].absorption for part in parts])
    scattering = np.array([MATERIALS[part.material].scattering for part in parts])
    return areas @ absorption / areas.sum(), areas @ scattering / areas.sum()


def _box_faces(box: Box) -> list[np.ndarray]:
    """Four sides and the top (4, 3); the corners' order makes the normals point into the box, away from the air."""
    base = box.footprint()
    low, high = box.center[2] - box.size[2] / 2 - 0.01, box.center[2] + box.size[2] / 2
    faces = []
    for i in range(4):
        first, second = base[i], base[(i + 1) % 4]
        faces.append(np.array([[*first, low], [*first, high], [*second, high], [*second, low]]))
    faces.append(np.column_stack([base[::-1], np.full(4, high)]))
    return faces


def _mean_scattering(walls: list[Any]) -> np.ndarray:
    """(7,) average over the energy that the walls reflect.

    The library's rays carry their full energy on after sending the scattered share s straight to the microphone, so
    late energy comes out 1 + s times too large. Image sources are taken without scattering: of what is reflected n
    times they are then 1 and the scattered hops s, for every n, and 1 + s is the factor to divide both by. With the
    library's own (1 - s)^n, paths scattered first and reflected last would be in neither.
    """
    reflected = np.array([wall.area() * (1 - wall.absorption.ravel()) for wall in walls])
    scattering = np.array([wall.scatter.ravel() for wall in walls])
    return np.asarray((reflected * scattering).sum(axis=0) / reflected.sum(axis=0))


# ------------------------------------------------------------------------------------- reflections and tail


def _specular(
    engine: Any,
    source: np.ndarray,
    microphone: np.ndarray,
    distance: float,
    gain: _Directivity,
    direct: np.ndarray,
    excess: np.ndarray,
) -> np.ndarray:
    """(NUM_SAMPLES,) the reflections up to ``IMAGE_ORDER``, each with its colour, delays relative to the direct sound.

    A reflection is a minimum-phase filter with the magnitudes of its bands, delayed by a fraction of samples; its
    energy is divided by ``excess`` (7, 1).
    """
    rir = np.zeros(NUM_SAMPLES)
    _set_params(engine, IMAGE_ORDER, traces=False)
    if engine.image_source_model(source.astype(np.float32)) == 0:
        return rir
    wanted = (engine.orders > 0) & (engine.visible_mics[0] > 0)
    images = engine.sources[:, wanted].astype(np.float64)
    paths = np.linalg.norm(images - microphone[:, None], axis=0)
    amplitude = engine.attenuations[:, wanted] * gain(engine.source_directions[:, wanted].T) / direct[:, None]
    amplitude *= (
        distance / paths * np.exp(-AIR_ABSORPTION[:, None] / 2 * (paths - distance)) / np.sqrt(excess)
    )
    delays = (paths - distance) / SPEED_OF_SOUND * SAMPLE_RATE
    filters = _colored_impulses(np.maximum(amplitude, 1e-6), delays % 1)
    for delay, taps in zip(delays.astype(int), filters, strict=True):
        start = delay - _FILTER_LEAD
        stop = min(start + _FILTER_LENGTH, NUM_SAMPLES)
        if stop > 0:
            rir[max(start, 0) : stop] += taps[max(-start, 0) : stop - start]
    return rir


def _colored_impulses(amplitude: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """(N, 512) minimum-phase impulses of band amplitudes (7, N) at ``_FILTER_LEAD`` + fraction samples.

    The minimum phase follows from the folded cepstrum of the magnitude (Oppenheim and Schafer, section 13.4).
    """
    frequency = np.fft.rfftfreq(_FILTER_LENGTH, 1 / SAMPLE_RATE)
    octave = np.log2(np.maximum(frequency, 1) / BANDS_HZ[0])
    index = np.clip(octave, 0, len(BANDS_HZ) - 1)
    low = np.minimum(index.astype(int), len(BANDS_HZ) - 2)
    share = (index - low)[:, None]
    log_level = np.log(amplitude)
    log_level = ((1 - share) * log_level[low] + share * log_level[low + 1]).T
    cepstrum = np.fft.irfft(log_level)
    fold = np.zeros(_FILTER_LENGTH)
    fold[0] = fold[_FILTER_LENGTH // 2] = 1
    fold[1 : _FILTER_LENGTH // 2] = 2
    spectrum = np.exp(np.fft.rfft(cepstrum * fold))
    delay = (_FILTER_LEAD + fraction)[:, None] * frequency / SAMPLE_RATE
    roll_off = np.clip((8000 - frequency) / 800, 0, 1)
    return np.fft.irfft(spectrum * np.exp(-2j * np.pi * delay) * np.sin(np.pi / 2 * roll_off) ** 2)


def _trace(
    engine: Any, source: np.ndarray, num_rays: int, gain: _Directivity, rng: np.random.Generator
) -> np.ndarray:
    """(7, bins) energy that reaches the microphone after the time of emission, without what image sources cover.

    The engine leaves out specular paths shorter than its image order; it counts one reflection less than the image
    sources do, hence the order is raised by one.
    """
    libroom = load_pyroomacoustics().libroom
    libroom.set_rng_seed(int(rng.integers(2**63)))
    _set_params(engine, IMAGE_ORDER + 1, traces=True)
    engine.microphones[0].make_omnidirectional()
    directions = _sphere(num_rays) @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    energies = _LOUD * gain(directions).T ** 2
    engine.ray_tracing(directions.astype(np.float32), energies.astype(np.float32), source.astype(np.float32))
    return np.asarray(engine.microphones[0].histograms[0].get_hist(), dtype=np.float64) / _LOUD


def _set_params(engine: Any, order: int, *, traces: bool) -> None:
    engine.set_params(
        SPEED_OF_SOUND, order, RAY_LOSS, NUM_SAMPLES / SAMPLE_RATE, RECEIVER_RADIUS, BIN_SECONDS, traces
    )


def _sphere(num: int) -> np.ndarray:
    """(num, 3) even directions: the Fibonacci lattice."""
    z = (2 * np.arange(num) + 1) / num - 1
    azimuth = np.pi * (3 - np.sqrt(5)) * np.arange(num)
    radius = np.sqrt(1 - z**2)
    return np.column_stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z])


def _diffuse(
    energy: np.ndarray, direct_seconds: float, volume: float, rng: np.random.Generator
) -> np.ndarray:
    """(NUM_SAMPLES,) noise with the energy histogram (7, bins) as its envelope, delays relative to the direct sound.

    The noise is a random sequence of impulses that grow denser as reflections do, at 4 pi c^3 t^2 / V per second
    (Schroeder 2011, section 5.3.4).
    """
    seconds = direct_seconds + np.arange(NUM_SAMPLES) / SAMPLE_RATE
    density = 4 * np.pi * SPEED_OF_SOUND**3 * seconds**2 / volume / SAMPLE_RATE
    density = np.clip(density, 0.1, 1.0)
    impulses = (
        rng.choice([-1.0, 1.0], NUM_SAMPLES) * (rng.uniform(size=NUM_SAMPLES) < density) / np.sqrt(density)
    )
    spectrum = np.fft.rfft(impulses)
    energy = _extend(energy)
    centers = (np.arange(energy.shape[1]) + 0.5) * BIN_SECONDS
    tail = np.zeros(NUM_SAMPLES)
    for band, mask in enumerate(_band_masks()):
        level = np.interp(seconds, centers, energy[band] / (BIN_SECONDS * SAMPLE_RATE), right=0.0)
        level *= np.exp(-AIR_ABSORPTION[band] * SPEED_OF_SOUND * (seconds - direct_seconds))
        tail += np.fft.irfft(spectrum * mask) * np.sqrt(level)
    return tail


def _extend(energy: np.ndarray) -> np.ndarray:
    """Let each band decay on at its late rate where the rays were given up: (7, bins) -> (7, bins up to the end).

    The rate is that of the last quarter of what arrived without a gap of 10 ms; a shorter one is chance.
    """
    num_bins = int(np.ceil(NUM_SAMPLES / SAMPLE_RATE / BIN_SECONDS)) + 50
    extended = np.zeros((len(energy), num_bins))
    for band, levels in enumerate(energy[:, :num_bins]):
        arrived = np.flatnonzero(levels > 0)
        if not len(arrived):
            continue
        first = arrived[0]
        blocks = levels[first : first + (len(levels) - first) // 5 * 5].reshape(-1, 5).mean(axis=1)
        gaps = np.flatnonzero(blocks <= blocks.max(initial=0) * 1e-6)
        num_blocks = gaps[0] if len(gaps) else len(blocks)
        late = np.arange(max(num_blocks - max(3, num_blocks // 4), 0), num_blocks)
        if len(late) < 2:
            continue
        last = first + 5 * num_blocks
        slope, offset = np.polyfit(first + 5 * late + 2, np.log(blocks[late]), 1)
        extended[band, :last] = levels[:last]
        extended[band, last:] = np.exp(offset + min(slope, -0.005) * np.arange(last, num_bins))
    return extended


def _band_masks() -> np.ndarray:
    """(7, bins) amplitude of each band over frequency, triangles over octaves; they add up to one above 60 Hz."""
    frequency = np.fft.rfftfreq(NUM_SAMPLES, 1 / SAMPLE_RATE)
    octave = np.clip(np.log2(np.maximum(frequency, 1) / BANDS_HZ[0]), 0, len(BANDS_HZ) - 1)
    distance = np.abs(octave - np.arange(len(BANDS_HZ))[:, None])
    return np.asarray(np.clip(1 - distance, 0, 1) * np.clip(frequency / 60, 0, 1))
