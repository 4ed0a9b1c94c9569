"""What the reverberator reads off a photo: the error of the energy envelope that it expects, before anything is drawn.

    python benchmarks/photo.py --rooms data/rooms/unpaired data/rooms/unpaired-homes
    python benchmarks/photo.py --rooms data/rooms/validation --model reverberator runs/NAME/reverberator.safetensors
    python benchmarks/photo.py --rooms PHOTOGRAPHED --again PHOTOGRAPHED-WITH-OTHER-SEEDS

Root mean square in dB over octave bands and spans of time (`mvsd.networks.envelope`), with the right photo, with none
and with another room's; `mean` is the error of expecting the same of every room. The reflections' own randomness is in
all of them. With --again, rooms simulated again for the same photos (`mvsd simulate --photos ... --seed N`): what of
the error no photo can tell, because talkers and what a photo does not show differ from one to the other.
"""

from __future__ import annotations

import argparse
from itertools import product

import torch
from torch.nn import functional

from mvsd.converter import Converter, load
from mvsd.data.example import Example
from mvsd.data.shards import Shards
from mvsd.scene import Scene

ROWS = 32


def response(example: Example, converter: Converter) -> torch.Tensor:
    """The room's response (R,) at the length that the converter draws."""
    assert example.rir is not None
    rir = torch.from_numpy(example.rir)[: converter.config.num_samples]
    return functional.pad(rir, (0, converter.config.num_samples - len(rir)))


def envelopes(folder: str, converter: Converter) -> dict[bytes, torch.Tensor]:
    """The envelope of each room's response, by its picture."""
    measured = {}
    for example in Shards([folder]):
        assert example.scene is not None and converter.envelope is not None
        late = response(example, converter)[None].clone()
        late[:, 0] -= 1
        spectrogram = converter.spectrogram.encode(late)
        measured[example.scene.image.tobytes()] = converter.envelope.measure(spectrogram)[0]
    return measured


def report_again(folders: list[str], name: str) -> str:
    """A line on rooms that share their pictures."""
    converter = load(name)
    known = [envelopes(folder, converter) for folder in folders]
    shared = [picture for picture in known[0] if all(picture in rooms for rooms in known)]
    levels = torch.stack([torch.stack([rooms[picture] for picture in shared]) for rooms in known])
    same = levels.var(0).mean().sqrt()
    other = (levels - levels.mean((0, 1))).square().mean().sqrt()
    return f"{len(shared)} photos, {len(known)} times: same photo {20 * same:.2f}  mean {20 * other:.2f} dB"


def report(folder: str, name: str) -> str:
    """A line for a model on some rooms."""
    rooms, converter = Shards([folder]), load(name)
    assert converter.envelope is not None
    errors: dict[str, list[torch.Tensor]] = {"right": [], "none": [], "wrong": []}
    measured = []
    for start in range(0, len(rooms), ROWS):
        indices = range(start, min(start + ROWS, len(rooms)))
        rirs = torch.zeros(len(indices), converter.config.num_samples)
        scenes = {photo: list[Scene | None]() for photo in errors}
        for row, index in enumerate(indices):
            example = rooms.load(index, ("scene", "rir"))
            rirs[row] = response(example, converter)
            other = rooms.load((index + len(rooms) // 2) % len(rooms), ("scene",))
            for photo, scene in (("right", example.scene), ("none", None), ("wrong", other.scene)):
                scenes[photo].append(scene)
        for photo, shown in scenes.items():
            errors[photo].append(converter.envelope_loss(rirs, converter.tokens(shown)))
        rirs[:, 0] -= 1
        measured.append(converter.envelope.measure(converter.spectrogram.encode(rirs)))
    known = torch.cat(measured)
    squares = {photo: torch.cat(values).mean() for photo, values in errors.items()}
    squares["mean"] = (known - known.mean(0)).square().mean()
    figures = "  ".join(f"{photo} {20 * float(square.sqrt()):.2f}" for photo, square in squares.items())
    return f"{folder} {name}: {figures} dB"


def main() -> None:
    """Print a line for each folder of rooms and model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", nargs="+", required=True)
    parser.add_argument("--model", nargs="+", default=["reverberator"])
    parser.add_argument("--again", nargs="+", help="the same photos, simulated with other seeds")
    options = parser.parse_args()
    if options.again:
        with torch.inference_mode():
            print(report_again([*options.rooms, *options.again], options.model[0]))
        return
    for folder, name in product(options.rooms, options.model):
        with torch.inference_mode():
            print(report(folder, name), flush=True)


if __name__ == "__main__":
    main()
