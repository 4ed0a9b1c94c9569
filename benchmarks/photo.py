"""What the reverberator reads off a photo: the error of the energy envelope that it expects, before anything is drawn.

    python benchmarks/photo.py --rooms data/rooms/unpaired data/rooms/unpaired-homes
    python benchmarks/photo.py --rooms data/rooms/validation --model reverberator runs/NAME/reverberator.safetensors
    python benchmarks/photo.py --rooms data/rooms/validation-homes --looks
    python benchmarks/photo.py --rooms data/rooms/validation --views
    python benchmarks/photo.py --rooms PHOTOGRAPHED --again PHOTOGRAPHED-WITH-OTHER-SEEDS

Root mean square in dB over octave bands and spans of time (`mvsd.networks.envelope`), with the right photo, with none
and with another room's; `mean` is the error of expecting the same of every room. The reflections' own randomness is in
all of them. With --again, rooms simulated again for the same photos (`mvsd simulate --photos ... --seed N`): what of
the error no photo can tell, because talkers and what a photo does not show differ from one to the other. With --looks,
what other cameras, renderers and files make of the same pictures: the room is the same, so the error should be. With
--views, the right photo as it is, in the mirror too, and from all sides (`Scene.views`), as the reverberator is used.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from mvsd.converter import Converter, load
from mvsd.data.example import Example
from mvsd.data.shards import Shards
from mvsd.scene import Scene

ROWS = 32


def compressed(image: np.ndarray) -> np.ndarray:
    """As a JPEG of quality 30."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file))


def shrunk(image: np.ndarray) -> np.ndarray:
    """Half as high and as wide."""
    return np.asarray(Image.fromarray(image).reduce(2))


def grainy(image: np.ndarray) -> np.ndarray:
    """With noise of a standard deviation of 8 of 255."""
    return as_bytes(image + 8 * np.random.default_rng(0).standard_normal(image.shape))


def with_shadows(image: np.ndarray, factor: float) -> np.ndarray:
    """Differences from the surroundings, a sixth of the height around, times a factor."""
    size = image.shape[0] // 6
    surroundings = ndimage.gaussian_filter(image.astype(float), (size / 2, size / 2, 0))
    return as_bytes(surroundings + factor * (image - surroundings))


def as_bytes(values: np.ndarray) -> np.ndarray:
    """Rounded to 0..255."""
    return np.asarray(np.clip(np.round(values), 0, 255), np.uint8)


LOOKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda image: image,
    "JPEG": compressed,
    "half size": shrunk,
    "soft": lambda image: as_bytes(ndimage.gaussian_filter(image.astype(float), (1.5, 1.5, 0))),
    "grainy": grainy,
    "flat": lambda image: with_shadows(image, 0.6),
    "deep": lambda image: with_shadows(image, 1.5),
    "dark": lambda image: as_bytes(255 * (image / 255) ** 1.5),
    "bright": lambda image: as_bytes(255 * (image / 255) ** 0.67),
}


def response(example: Example, converter: Converter) -> torch.Tensor:
    """The room's response (R,) at the length that the converter draws."""
    assert example.rir is not None
    rir = torch.from_numpy(example.rir)[: converter.config.num_samples]
    return functional.pad(rir, (0, converter.config.num_samples - len(rir)))


def measured(converter: Converter, rirs: torch.Tensor) -> torch.Tensor:
    """The envelopes of responses (N, R)."""
    assert converter.envelope is not None
    late = rirs.clone()
    late[:, 0] -= 1
    return converter.envelope.measure(converter.spectrogram.encode(late))


def envelopes(folder: str, converter: Converter) -> dict[bytes, torch.Tensor]:
    """The envelope of each room's response, by its picture."""
    found = {}
    for example in Shards([folder]):
        assert example.scene is not None
        found[example.scene.image.tobytes()] = measured(converter, response(example, converter)[None])[0]
    return found


def report_again(folders: list[str], name: str) -> str:
    """A line on rooms that share their pictures."""
    converter = load(name)
    known = [envelopes(folder, converter) for folder in folders]
    shared = [picture for picture in known[0] if all(picture in rooms for rooms in known)]
    levels = torch.stack([torch.stack([rooms[picture] for picture in shared]) for rooms in known])
    same = levels.var(0).mean().sqrt()
    other = (levels - levels.mean((0, 1))).square().mean().sqrt()
    return f"{len(shared)} photos, {len(known)} times: same photo {20 * same:.2f}  mean {20 * other:.2f} dB"


def error_db(converter: Converter, rirs: torch.Tensor, scenes: Sequence[Scene | None]) -> float:
    """Root mean square error (dB) of what a model expects of rooms with the responses (N, R), shown these scenes."""
    assert converter.envelope is not None
    squares = []
    for start in range(0, len(rirs), ROWS):
        expected = converter.envelope(converter.tokens(scenes[start : start + ROWS]))
        squares.append((expected - measured(converter, rirs[start : start + ROWS])).square().mean((1, 2)))
    return 20 * float(torch.cat(squares).mean().sqrt())


def views_db(converter: Converter, rirs: torch.Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """`error_db` of the mean of what a model expects, shown some of the views of a scene."""
    assert converter.envelope is not None
    squares = []
    for scene, rir in zip(scenes, rirs, strict=True):
        expected = converter.envelope(converter.view_tokens(scene))
        seen = [expected[:1], expected[:: len(expected) // 2], expected]
        means = torch.stack([some.mean(0) for some in seen])
        squares.append((means - measured(converter, rir[None])).square().mean((1, 2)))
    errors = 20 * torch.stack(squares).mean(0).sqrt()
    return dict(zip(("as it is", "mirrored", "all sides"), errors.tolist(), strict=True))


def spread_db(converter: Converter, rirs: torch.Tensor) -> float:
    """The same of expecting of every room what is the mean of all."""
    starts = range(0, len(rirs), ROWS)
    known = torch.cat([measured(converter, rirs[start : start + ROWS]) for start in starts])
    return 20 * float((known - known.mean(0)).square().mean().sqrt())


def report(folder: str, name: str, looks: bool, views: bool) -> str:
    """A line for a model on some rooms: with which photo, or with which look of the right one."""
    rooms, converter = Shards([folder]), load(name)
    examples = [rooms.load(index, ("scene", "rir")) for index in range(len(rooms))]
    rirs = torch.stack([response(example, converter) for example in examples])
    right = [example.scene for example in examples if example.scene is not None]
    assert len(right) == len(examples)
    if looks:
        errors = {
            label: error_db(converter, rirs, [Scene(look(scene.image)) for scene in right])
            for label, look in LOOKS.items()
        }
    elif views:
        errors = views_db(converter, rirs, right)
    else:
        half = len(right) // 2
        errors = {
            "right": error_db(converter, rirs, right),
            "none": error_db(converter, rirs, [None] * len(right)),
            "wrong": error_db(converter, rirs, right[half:] + right[:half]),
            "mean": spread_db(converter, rirs),
        }
    figures = "  ".join(f"{label} {error:.2f}" for label, error in errors.items())
    return f"{folder} {name}: {figures} dB"


def main() -> None:
    """Print a line for each folder of rooms and model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", nargs="+", required=True)
    parser.add_argument("--model", nargs="+", default=["reverberator"])
    parser.add_argument("--looks", action="store_true", help="what other cameras make of the same pictures")
    parser.add_argument("--views", action="store_true", help="the right photo from one side, and from all")
    parser.add_argument("--again", nargs="+", help="the same photos, simulated with other seeds")
    options = parser.parse_args()
    if options.again:
        with torch.inference_mode():
            print(report_again([*options.rooms, *options.again], options.model[0]))
        return
    for folder, name in product(options.rooms, options.model):
        with torch.inference_mode():
            print(report(folder, name, options.looks, options.views), flush=True)


if __name__ == "__main__":
    main()
