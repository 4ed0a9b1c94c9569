"""Random rooms: outline, materials, openings, furniture, a camera that is also the microphone, and a speaker."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mvsd.simulation.furniture import PIECES, Piece, figure, place
from mvsd.simulation.geometry import (
    Furniture,
    Patch,
    Surface,
    box_blocks,
    extrude,
    inside_polygon,
    polygon_area,
    polygon_inside,
    rectangles_overlap,
    rotation,
    segments_cross,
    wall_distance,
)
from mvsd.simulation.materials import MATERIALS
from mvsd.simulation.roomtypes import (
    ANY_CEILING,
    ANY_FLOOR,
    ANY_WALL,
    POPULATIONS,
    ROOM_TYPES,
    Population,
    RoomType,
    draw,
)
from mvsd.simulation.walls import opened, sample_patches

MIN_DISTANCE = 0.7


@dataclass(frozen=True)
class Camera:
    """Where the picture is taken and how it looks; the microphone is at the same place.

    Attributes:
        yaw, pitch: viewing direction, radians; a panorama has pitch 0 and its middle column at ``yaw``.
        fov_deg: horizontal field of view of a perspective picture, 360 for a panorama.
        projection: ``perspective`` or ``panorama``.
    """

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    fov_deg: float
    projection: str


@dataclass(frozen=True)
class Room:
    """One sampled room.

    Attributes:
        outline: (N, 2) counter-clockwise floor plan, metres.
        surfaces: floor, ceiling, then the walls in the order of the outline's edges.
        source: the speaker's mouth. source_yaw: direction the speaker faces, radians.
        daylight: 0 (night) .. 1 (bright). warmth: colour of the lamps, 0 (cool) .. 1 (warm).
    """

    seed: int
    kind: str
    outline: np.ndarray
    height: float
    surfaces: tuple[Surface, ...]
    furniture: tuple[Furniture, ...]
    person: Furniture
    source: tuple[float, float, float]
    source_yaw: float
    camera: Camera
    daylight: float
    warmth: float

    @property
    def floor_area(self) -> float:
        """Square metres."""
        return polygon_area(self.outline)

    @property
    def volume(self) -> float:
        """Air volume, without the furniture that blocks sound."""
        solid = sum(float(np.prod(piece.hull.size)) for piece in self.furniture if piece.blocks)
        return self.floor_area * self.height - solid

    @property
    def surface_area(self) -> float:
        """Area of floor, ceiling and walls."""
        return sum(surface.area for surface in self.surfaces)

    @property
    def distance(self) -> float:
        """From mouth to microphone."""
        return float(np.linalg.norm(np.subtract(self.source, self.camera.position)))


def sample_room(seed: int, *, population: str = "mixed") -> Room:
    """A random room of a population (`mvsd.simulation.roomtypes`); the same seed gives the same room.

    Rooms in which no speaker can be seen from anywhere are drawn again from the next number of the same stream.
    """
    rng = np.random.default_rng(seed)
    while True:
        room = _try_room(seed, rng, POPULATIONS[population])
        if room is not None:
            return room


def _try_room(seed: int, rng: np.random.Generator, population: Population) -> Room | None:
    kind = ROOM_TYPES[draw(population.weights, rng)]
    outline = _sample_outline(kind, rng)
    height = float(rng.uniform(*kind.height))
    daylight = float(rng.choice([0.0, 1.0], p=[0.25, 0.75]) * rng.uniform(0.3, 1.0))
    surfaces = _sample_surfaces(kind, outline, height, daylight, population.wild_share, rng)
    if population.open_share:
        surfaces = opened(surfaces, outline, height, population.open_share, kind.openings, rng)
    furniture = _sample_furniture(kind, outline, surfaces, height, rng)
    views = _sample_view(outline, height, furniture, population.max_distance, rng)
    if views is None:
        return None
    position, source, facing = views
    towards = rotation(facing - np.pi / 2)
    person = place("person", figure(rng, source[2]), np.array(source[:2]) - towards @ np.array([0.0, 0.1]),
                   facing - np.pi / 2)  # fmt: skip
    camera = _aim(position, source, population.panorama_share, rng)
    return Room(seed, kind.name, outline, height, surfaces, furniture, person, source, facing, camera, daylight,
                float(rng.uniform()))  # fmt: skip


def _sample_outline(kind: RoomType, rng: np.random.Generator) -> np.ndarray:
    """(N, 2) counter-clockwise floor plan of the wanted area."""
    elongation = rng.uniform(*kind.elongation)
    area = np.exp(rng.uniform(*np.log(kind.area)))
    width, depth = np.sqrt(elongation), 1 / np.sqrt(elongation)
    shape = draw(kind.shapes, rng)
    if shape == "L":
        x, y = width * rng.uniform(0.35, 0.7), depth * rng.uniform(0.35, 0.7)
        outline = np.array([[0, 0], [width, 0], [width, y], [x, y], [x, depth], [0, depth]])
    elif shape == "trapezoid":
        slant = rng.uniform(-0.25, 0.25, size=4) * np.array([width, width, depth, depth])
        outline = np.array([[0, 0], [width, 0.4 * slant[2]], [width + 0.5 * slant[0], depth + 0.5 * slant[3]],
                            [0.5 * slant[1], depth]])  # fmt: skip
    elif shape == "cut corner":
        x, y = width * rng.uniform(0.15, 0.45), depth * rng.uniform(0.15, 0.45)
        outline = np.array([[0, 0], [width, 0], [width, depth - y], [width - x, depth], [0, depth]])
    else:
        outline = np.array([[0, 0], [width, 0], [width, depth], [0, depth]])
    if rng.uniform() < 0.5:
        outline = (outline * np.array([-1, 1]))[::-1]
    outline = outline * np.sqrt(area / polygon_area(outline))
    return np.asarray(outline - outline.min(axis=0))


def _sample_surfaces(
    kind: RoomType,
    outline: np.ndarray,
    height: float,
    daylight: float,
    wild_share: float,
    rng: np.random.Generator,
) -> tuple[Surface, ...]:
    floor, ceiling, walls = extrude(outline, height)
    wild = rng.uniform() < wild_share
    floor_name = str(rng.choice(ANY_FLOOR)) if wild else draw(kind.floors, rng)
    ceiling_name = str(rng.choice(ANY_CEILING)) if wild else draw(kind.ceilings, rng)
    wall_name = str(rng.choice(ANY_WALL)) if wild else draw(kind.walls, rng)
    wall_color = MATERIALS[wall_name].sample_color(rng)
    accent = draw(kind.walls, rng) if rng.uniform() < 0.3 else wall_name
    accent_wall, accent_color = int(rng.integers(len(walls))), MATERIALS[accent].sample_color(rng)
    surfaces = [
        Surface(
            "floor",
            floor,
            floor_name,
            MATERIALS[floor_name].sample_color(rng),
            _sample_rug(kind, outline, rng),
        ),
        Surface("ceiling", ceiling, ceiling_name, MATERIALS[ceiling_name].sample_color(rng)),
    ]
    door_wall = int(np.argmax([rng.uniform() * (np.linalg.norm(wall[1] - wall[0]) > 1.4) for wall in walls]))
    for index, corners in enumerate(walls):
        is_accent = index == accent_wall
        name, color = (accent, accent_color) if is_accent else (wall_name, wall_color)
        wall = Surface(f"wall {index}", corners, name, color)
        surfaces.append(
            replace(wall, patches=sample_patches(kind, wall, height, index == door_wall, daylight, rng))
        )
    return tuple(surfaces)


def _sample_rug(kind: RoomType, outline: np.ndarray, rng: np.random.Generator) -> tuple[Patch, ...]:
    if rng.uniform() >= kind.rug:
        return ()
    span = outline.max(axis=0)
    for _ in range(10):
        width, depth = span * rng.uniform(0.3, 0.65, size=2)
        start, bottom = rng.uniform(0.1, span - np.array([width, depth]) - 0.05)
        rug = np.array([[start, bottom], [start + width, bottom], [start + width, bottom + depth],
                        [start, bottom + depth]])  # fmt: skip
        if min(width, depth) > 0.6 and polygon_inside(rug, outline):
            color = MATERIALS["rug"].sample_color(rng)
            return (Patch("rug", float(start), float(bottom), float(width), float(depth), "rug", color),)
    return ()


def _sample_furniture(
    kind: RoomType,
    outline: np.ndarray,
    surfaces: tuple[Surface, ...],
    height: float,
    rng: np.random.Generator,
) -> tuple[Furniture, ...]:
    """Furniture that stands inside the room, in front of no door, and does not overlap."""
    taken = _door_spaces(surfaces)
    furniture: list[Furniture] = []
    for name, probability, most in kind.furniture:
        for _ in range(most):
            if rng.uniform() >= probability:
                break
            piece = PIECES[name](rng)
            for _ in range(12):
                placed = _place_somewhere(name, piece, outline, surfaces, rng)
                base = placed.hull.footprint(0.03)
                top = max(part.center[2] + part.size[2] / 2 for part in placed.parts)
                fits = top < height - 0.05 and polygon_inside(placed.hull.footprint(-0.005), outline)
                if fits and not any(rectangles_overlap(base, other) for other in taken):
                    furniture.append(placed)
                    taken.append(base)
                    break
    return tuple(furniture)


def _door_spaces(surfaces: tuple[Surface, ...]) -> list[np.ndarray]:
    spaces = []
    for wall in surfaces[2:]:
        along = (wall.corners[1] - wall.corners[0])[:2]
        along = along / np.linalg.norm(along)
        inward = np.array([-along[1], along[0]])
        for patch in wall.patches:
            if patch.name in ("door", "opening"):
                first = wall.corners[0][:2] + along * patch.start
                second = first + along * patch.width
                spaces.append(np.stack([first, second, second + 0.8 * inward, first + 0.8 * inward]))
    return spaces


def _place_somewhere(
    name: str, piece: Piece, outline: np.ndarray, surfaces: tuple[Surface, ...], rng: np.random.Generator
) -> Furniture:
    """Against a random wall (avoiding windows if tall), or for tables and single chairs anywhere."""
    if name in ("table", "coffee table", "chair", "office chair", "seat row") and rng.uniform() < 0.85:
        middle = rng.uniform(0.0, outline.max(axis=0))
        first = outline[1] - outline[0]
        turn = rng.uniform(0, 2 * np.pi) if "chair" in name else rng.integers(4) * np.pi / 2
        return place(name, piece, middle, float(np.arctan2(first[1], first[0]) + turn))
    lengths = np.linalg.norm(np.roll(outline, -1, axis=0) - outline, axis=1)
    index = int(rng.choice(len(outline), p=lengths / lengths.sum()))
    wall = surfaces[2 + index]
    along = (wall.corners[1] - wall.corners[0])[:2] / lengths[index]
    slack = max(lengths[index] - piece.size[0], 0.0)
    offset = rng.choice([0.0, 1.0, rng.uniform()], p=[0.2, 0.2, 0.6]) * slack + piece.size[0] / 2
    depth_clear = 0.14 if any(patch.name in ("curtain", "blinds") for patch in wall.patches) else 0.02
    tall = max(part.center[2] + part.size[2] / 2 for part in piece.parts)
    for patch in wall.patches:
        if (
            abs(patch.start + patch.width / 2 - offset) < (patch.width + piece.size[0]) / 2
            and patch.bottom < tall
        ):
            depth_clear = 10.0 if patch.name in ("window", "picture", "acoustic panel") else depth_clear
    inward = np.array([-along[1], along[0]])
    origin = wall.corners[0][:2] + along * offset + inward * depth_clear
    return place(name, piece, origin, float(np.arctan2(along[1], along[0])))


def _sample_view(
    outline: np.ndarray,
    height: float,
    furniture: tuple[Furniture, ...],
    max_distance: float,
    rng: np.random.Generator,
) -> tuple[tuple[float, float, float], tuple[float, float, float], float] | None:
    """Camera position, mouth position and the direction the speaker faces; None if nothing was found."""
    hulls = [piece.hull for piece in furniture]
    obstacles = [part for piece in furniture for part in piece.parts]
    obstacles += [piece.hull for piece in furniture if piece.blocks]

    def free(point: np.ndarray, from_walls: float, from_furniture: float) -> bool:
        return (
            inside_polygon(point, outline)
            and wall_distance(point, outline) > from_walls
            and not any(inside_polygon(point, hull.footprint(from_furniture)) for hull in hulls)
        )

    reach = float(np.log(min(max_distance, float(np.linalg.norm(outline.max(axis=0))))))
    for attempt in range(240):
        if attempt % 20 == 0:
            distance = np.exp(rng.uniform(np.log(MIN_DISTANCE), reach))
        camera = np.append(rng.uniform(0.0, outline.max(axis=0)), rng.uniform(1.2, min(1.7, height - 0.4)))
        bearing = rng.uniform(0, 2 * np.pi)
        spot = camera[:2] + distance * np.array([np.cos(bearing), np.sin(bearing)])
        mouth = np.append(spot, rng.uniform(1.38, 1.66))
        if not free(camera[:2], 0.3, 0.25) or not free(spot, 0.4, 0.3):
            continue
        if segments_cross(camera[:2], spot, outline) or np.linalg.norm(camera - mouth) > max_distance:
            continue
        chest = mouth - np.array([0, 0, 0.25])
        if any(box_blocks(box, camera, target, 0.03) for box in obstacles for target in (mouth, chest)):
            continue
        turn = rng.normal(0, np.radians(35)) if rng.uniform() < 0.85 else rng.uniform(-2.0, 2.0)
        facing = float(bearing + np.pi + np.clip(turn, -2.0, 2.0))
        return (_triple(camera), _triple(mouth), facing)
    return None


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


def _aim(
    position: tuple[float, float, float], source: tuple[float, float, float], panorama_share: float,
    rng: np.random.Generator,
) -> Camera:  # fmt: skip
    """Turn the camera: a perspective picture has the speaker in the frame, a panorama looks anywhere."""
    towards = np.subtract(source, position)
    bearing = float(np.arctan2(towards[1], towards[0]))
    fov = float(rng.uniform(60, 90))
    shift = float(rng.uniform(-0.3, 0.3)) * np.radians(fov)
    elevation = np.arctan2(towards[2], np.hypot(towards[0], towards[1]))
    reach = 0.45 * np.arctan(
        0.75 * np.tan(np.radians(fov) / 2)
    )  # the head stays clear of the upper and lower edge
    tilt = float(np.clip(rng.uniform(-0.16, 0.02), elevation - reach, elevation + reach))
    if rng.uniform() < panorama_share:
        return Camera(position, float(rng.uniform(-np.pi, np.pi)), 0.0, 360.0, "panorama")
    return Camera(position, bearing + shift, tilt, fov, "perspective")
