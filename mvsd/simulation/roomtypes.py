"""Kinds of rooms: how big they are, what they are made of and what stands in them, as a table of likelihoods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Weights = dict[str, float]


@dataclass(frozen=True)
class RoomType:
    """What is typical of one kind of room.

    Attributes:
        weight: how often it is drawn.
        area: smallest and largest floor, square metres. height: metres. elongation: longest side over shortest.
        shapes, floors, walls, ceilings: relative likelihoods.
        window, curtain, picture, panel: probabilities per wall that is long enough (curtain: per window).
        rug: probability.
        furniture: (piece, probability, how many at most).
        openings: how many walls without a door may open into the next room.
    """

    name: str
    weight: float
    area: tuple[float, float]
    height: tuple[float, float]
    elongation: tuple[float, float]
    shapes: Weights
    floors: Weights
    walls: Weights
    ceilings: Weights
    furniture: tuple[tuple[str, float, int], ...] = ()
    window: float = 0.35
    curtain: float = 0.5
    picture: float = 0.3
    panel: float = 0.0
    rug: float = 0.0
    openings: int = 0


_HOME = {"box": 5.0, "L": 2.5, "trapezoid": 1.5, "cut corner": 1.0}
_PLAIN = {"plaster": 4.0, "gypsum board": 4.0, "brick": 0.7, "painted brick": 0.5, "wood panelling": 0.5,
          "painted concrete": 0.4}  # fmt: skip
_HOME_FLOOR = {"parquet": 4.0, "floorboards": 2.0, "thin carpet": 1.0, "thick carpet": 1.0, "ceramic tile": 0.7,
               "linoleum": 0.5}  # fmt: skip
_HOME_CEILING = {"plaster": 3.0, "plasterboard ceiling": 5.0, "wood panelling": 0.5}
_OFFICE_CEILING = {"acoustic ceiling tile": 4.0, "perforated gypsum ceiling": 1.5, "plasterboard ceiling": 2.0,
                   "painted concrete": 1.0}  # fmt: skip

_ALL = (
    RoomType("living room", 4.0, (12, 42), (2.4, 3.1), (1.0, 1.9), _HOME, _HOME_FLOOR, _PLAIN, _HOME_CEILING,
             (("sofa", 0.95, 2), ("television", 0.7, 1), ("armchair", 0.5, 2), ("coffee table", 0.6, 1),
              ("bookshelf", 0.6, 2), ("sideboard", 0.5, 1), ("table", 0.35, 1), ("plant", 0.5, 2),
              ("floor lamp", 0.5, 1)), window=0.45, curtain=0.6, picture=0.4, rug=0.55, openings=1),
    RoomType("bedroom", 3.0, (8, 24), (2.3, 2.9), (1.0, 1.7), _HOME,
             {"thick carpet": 2.0, "thin carpet": 2.0, "parquet": 2.5, "floorboards": 2.0}, _PLAIN, _HOME_CEILING,
             (("bed", 1.0, 1), ("wardrobe", 0.85, 2), ("sideboard", 0.5, 1), ("desk", 0.3, 1),
              ("bookshelf", 0.3, 1), ("chair", 0.3, 1), ("floor lamp", 0.3, 1)), curtain=0.8, rug=0.4),
    RoomType("office", 3.0, (9, 45), (2.5, 3.3), (1.0, 2.2), _HOME,
             {"thin carpet": 4.0, "linoleum": 3.0, "parquet": 1.0, "concrete floor": 0.6}, _PLAIN, _OFFICE_CEILING,
             (("desk", 1.0, 4), ("filing cabinet", 0.7, 2), ("bookshelf", 0.6, 3), ("plant", 0.4, 2),
              ("office chair", 0.4, 2), ("sideboard", 0.3, 1)), window=0.5, curtain=0.35, picture=0.2, panel=0.08),
    RoomType("meeting room", 1.5, (14, 50), (2.5, 3.3), (1.1, 2.0), _HOME,
             {"thin carpet": 4.0, "parquet": 2.0, "linoleum": 2.0, "concrete floor": 0.7},
             {**_PLAIN, "window glass": 0.6}, _OFFICE_CEILING,
             (("table", 1.0, 2), ("sideboard", 0.5, 1), ("chair", 0.4, 3), ("plant", 0.4, 1),
              ("television", 0.4, 1)), window=0.45, curtain=0.3, panel=0.2),
    RoomType("kitchen", 2.0, (7, 22), (2.4, 2.9), (1.0, 2.0), _HOME,
             {"ceramic tile": 4.0, "linoleum": 3.0, "parquet": 2.0, "marble": 0.5},
             {"plaster": 4.0, "gypsum board": 2.0, "ceramic tile": 1.5, "painted brick": 0.5}, _HOME_CEILING,
             (("kitchen counter", 1.0, 2), ("fridge", 0.9, 1), ("table", 0.7, 1), ("chair", 0.3, 2),
              ("sideboard", 0.3, 1)), curtain=0.3, picture=0.15, openings=1),
    RoomType("bathroom", 1.6, (4.0, 11), (2.3, 2.8), (1.0, 2.0), {"box": 6.0, "L": 1.0, "cut corner": 1.0},
             {"ceramic tile": 7.0, "marble": 1.5, "linoleum": 1.0},
             {"ceramic tile": 6.0, "plaster": 2.0, "marble": 1.0, "gypsum board": 1.0},
             {"plasterboard ceiling": 4.0, "plaster": 3.0, "wood panelling": 0.3},
             (("bathtub", 0.6, 1), ("washbasin", 0.95, 1), ("toilet", 0.8, 1), ("sideboard", 0.2, 1)),
             window=0.2, curtain=0.3, picture=0.0, rug=0.3),
    RoomType("corridor", 1.2, (6, 30), (2.4, 3.2), (2.8, 6.0), {"box": 5.0, "L": 1.5},
             {"linoleum": 3.0, "parquet": 2.0, "thin carpet": 2.0, "ceramic tile": 2.0, "marble": 0.7,
              "concrete floor": 0.6}, _PLAIN,
             {"acoustic ceiling tile": 2.5, "plaster": 2.0, "plasterboard ceiling": 3.0},
             (("sideboard", 0.4, 1), ("bookshelf", 0.2, 1), ("plant", 0.3, 2), ("chair", 0.2, 2)), window=0.15,
             rug=0.3, openings=2),
    RoomType("closet", 0.8, (3.5, 7), (2.2, 2.7), (1.0, 1.8), {"box": 5.0, "cut corner": 1.0},
             {"thick carpet": 1.5, "thin carpet": 2.0, "parquet": 3.0, "linoleum": 1.0}, _PLAIN, _HOME_CEILING,
             (("clothes rack", 1.0, 3), ("wardrobe", 0.6, 1), ("bookshelf", 0.3, 1)), window=0.05, picture=0.05,
             rug=0.2),
    RoomType("hall", 1.0, (55, 150), (3.2, 5.5), (1.0, 2.0),
             {"box": 4.0, "trapezoid": 3.0, "L": 1.0, "cut corner": 1.5},
             {"parquet": 3.0, "linoleum": 2.0, "thin carpet": 3.0, "marble": 0.5},
             {**_PLAIN, "wood panelling": 3.0},
             {"acoustic ceiling tile": 4.0, "perforated gypsum ceiling": 4.0, "wood panelling": 0.7},
             (("seat row", 0.9, 8), ("table", 0.4, 3), ("bookshelf", 0.3, 3), ("plant", 0.3, 3)), window=0.4,
             curtain=0.6, panel=0.35),
    RoomType("empty room", 0.9, (6, 30), (2.3, 3.2), (1.0, 2.0), _HOME,
             {**_HOME_FLOOR, "concrete floor": 1.0}, {**_PLAIN, "painted concrete": 1.0},
             {**_HOME_CEILING, "acoustic ceiling tile": 1.0}, (("chair", 0.3, 1), ("plant", 0.2, 1)), curtain=0.15,
             picture=0.1),
    RoomType("library", 0.9, (12, 60), (2.5, 3.6), (1.0, 2.0), _HOME,
             {"parquet": 3.0, "thin carpet": 3.0, "thick carpet": 1.0, "linoleum": 1.0}, _PLAIN,
             {**_OFFICE_CEILING, "wood panelling": 1.0},
             (("bookshelf", 1.0, 8), ("table", 0.7, 2), ("armchair", 0.5, 2), ("desk", 0.3, 1)), rug=0.35),
    RoomType("studio", 0.8, (8, 30), (2.4, 3.2), (1.0, 1.7), _HOME,
             {"thick carpet": 3.0, "thin carpet": 2.0, "parquet": 2.0},
             {"plaster": 2.0, "gypsum board": 2.0, "wood panelling": 2.0, "acoustic panel": 1.0},
             {"acoustic ceiling tile": 3.0, "perforated gypsum ceiling": 2.0, "acoustic panel": 0.5},
             (("desk", 0.9, 1), ("sofa", 0.5, 1), ("bookshelf", 0.4, 1)), window=0.15, curtain=0.9, panel=0.6,
             rug=0.5),
    RoomType("open-plan home", 0.0, (25, 80), (2.4, 3.1), (1.0, 2.2), {"box": 2.0, "L": 4.0, "cut corner": 2.0},
             _HOME_FLOOR, _PLAIN, _HOME_CEILING,
             (("kitchen counter", 0.8, 2), ("fridge", 0.5, 1), ("sofa", 0.95, 3), ("armchair", 0.6, 3),
              ("coffee table", 0.8, 1), ("table", 0.9, 2), ("chair", 0.6, 4), ("television", 0.6, 1),
              ("bookshelf", 0.6, 2), ("sideboard", 0.6, 2), ("plant", 0.6, 3), ("floor lamp", 0.5, 2)),
             window=0.5, curtain=0.7, picture=0.4, rug=0.9, openings=2),
    RoomType("packed closet", 0.0, (2.6, 6), (2.2, 2.6), (1.0, 1.8), {"box": 5.0, "cut corner": 1.0},
             {"thick carpet": 4.0, "thin carpet": 1.0}, {"clothes": 4.0, "heavy curtain": 1.0},
             {"acoustic ceiling tile": 2.0, "acoustic panel": 1.0, "plasterboard ceiling": 1.0},
             (("clothes rack", 1.0, 2), ("wardrobe", 0.2, 1)), window=0.0, picture=0.0, rug=0.3),
    RoomType("vocal booth", 0.0, (2.6, 9), (2.1, 2.6), (1.0, 1.6), {"box": 5.0, "trapezoid": 2.0, "cut corner": 2.0},
             {"thick carpet": 5.0, "thin carpet": 1.0}, {"acoustic panel": 6.0, "heavy curtain": 1.0},
             {"acoustic panel": 3.0, "acoustic ceiling tile": 2.0}, (("chair", 0.4, 1), ("desk", 0.2, 1)), window=0.1,
             picture=0.0, rug=0.3),
)  # fmt: skip

ROOM_TYPES: dict[str, RoomType] = {kind.name: kind for kind in _ALL}


@dataclass(frozen=True)
class Population:
    """Which rooms occur.

    Attributes:
        weights: kind -> how often it is drawn.
        open_share: chance of each doorway to stand open, and of another plain wall to open into the next room, where
            the kind of room has such walls.
        max_distance: from mouth to microphone, metres.
        wild_share: share of rooms whose floor, walls and ceiling are of anything, whatever their kind.
        panorama_share: share of rooms seen in a 360 degree panorama instead of a perspective photo.
    """

    weights: Weights
    open_share: float
    max_distance: float
    wild_share: float
    panorama_share: float


POPULATIONS = {
    "mixed": Population({kind.name: kind.weight for kind in _ALL}, 0.0, 6.0, 0.15, 0.5),
    # Furnished homes with open doors, the talker not far, seen all around, as in the published benchmarks.
    "homes": Population({"living room": 3.5, "bedroom": 3.0, "kitchen": 1.3, "bathroom": 0.5, "corridor": 0.7,
                         "office": 0.7, "open-plan home": 4.5}, 0.7, 1.8, 0.15, 1.0),
    # Where voices are recorded dry: next to nothing comes back from the walls.
    "dead": Population({"packed closet": 1.0, "vocal booth": 1.0}, 0.0, 2.0, 0.0, 0.4),
}  # fmt: skip

ANY_FLOOR = ("parquet", "floorboards", "linoleum", "ceramic tile", "marble", "concrete floor", "thin carpet",
             "thick carpet")  # fmt: skip
ANY_WALL = ("plaster", "gypsum board", "brick", "painted brick", "painted concrete", "wood panelling",
            "ceramic tile", "acoustic panel")  # fmt: skip
ANY_CEILING = ("plaster", "plasterboard ceiling", "acoustic ceiling tile", "perforated gypsum ceiling",
               "painted concrete", "wood panelling")  # fmt: skip


def draw(weights: Weights, rng: np.random.Generator) -> str:
    """One of the names, as likely as its weight says."""
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]
