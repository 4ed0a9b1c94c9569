"""What the reverberator's responses are like, by sampling steps, by pull to the predicted envelope, and by photo.

    mvsd simulate --rooms 64 --out data/rooms/validation --split validation
    python benchmarks/response.py --rooms data/rooms/validation --steps 2 4 8 16 --pulls 0 0.5 1

For every room: error of T20 (percent, median) and of the direct-to-reverberant ratio (dB, mean and signed mean) against
the simulated response, and the STFT distance of the bundled voice convolved with either, beside the untouched voice.
Rows `wrong` and `none` use another room's photo and no photo. These choices are made on validation rooms, not on test.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from mvsd.acoustics import convolve, decay_time, drr_db
from mvsd.audio import load_audio
from mvsd.converter import SAMPLE_RATE, Converter, load
from mvsd.data.example import Example
from mvsd.data.shards import Shards
from mvsd.errors import NotMeasurable
from mvsd.evaluation.metrics import stft_distance
from mvsd.example import SAMPLES
from mvsd.scene import Scene


def errors(rir: np.ndarray, example: Example, voice: np.ndarray) -> tuple[float, float, float]:
    """T20 error in percent, signed DRR error in dB, STFT distance; NaN for what cannot be measured."""
    assert example.rir is not None
    try:
        t20 = 100 * abs(decay_time(rir, SAMPLE_RATE) / decay_time(example.rir, SAMPLE_RATE) - 1)
        drr = drr_db(rir, SAMPLE_RATE) - drr_db(example.rir, SAMPLE_RATE)
    except NotMeasurable:
        t20 = drr = np.nan
    target = convolve(voice, example.rir)[: len(voice)]
    estimate = convolve(voice, rir)[: len(voice)]
    return t20, drr, stft_distance(estimate=estimate, target=target, sample_rate=SAMPLE_RATE)


def report(name: str, rows: list[tuple[float, float, float]]) -> None:
    """One line."""
    t20, drr, distance = np.array(rows).T
    print(
        f"{name:28} T20 {np.nanmedian(t20):6.1f} %   DRR {np.nanmean(np.abs(drr)):5.2f} dB "
        f"(signed {np.nanmean(drr):+6.2f})   STFT distance {np.mean(distance):.3f}   "
        f"not measurable {np.isnan(t20).sum()}",
        flush=True,
    )


def pulled(converter: Converter, share: float) -> Converter:
    """The same converter with another pull."""
    converter.config = replace(converter.config, envelope_pull=share)
    return converter


def main() -> None:
    """Print a line per setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", required=True)
    parser.add_argument("--model", default="reverberator")
    parser.add_argument("--steps", type=int, nargs="+", default=[8])
    parser.add_argument("--pulls", type=float, nargs="+", default=[0.5])
    parser.add_argument("--num-rooms", type=int, default=32)
    options = parser.parse_args()
    voice = load_audio(SAMPLES / "voice.flac")[0][0]
    rooms = Shards([options.rooms])[: options.num_rooms]
    converter = load(options.model)
    dry = np.zeros(24_576, np.float32)
    dry[0] = 1
    report("untouched input", [errors(dry, room, voice) for room in rooms])
    for steps in options.steps:
        for pull in options.pulls:
            model = pulled(converter, pull)
            for photo in ("right", "none", "wrong"):
                rows = []
                for index, room in enumerate(rooms):
                    scenes: dict[str, Scene | None] = {"right": room.scene, "none": None}
                    scenes["wrong"] = rooms[(index + len(rooms) // 2) % len(rooms)].scene
                    rows.append(errors(model.response(scenes[photo], seed=index, steps=steps), room, voice))
                report(f"{steps} steps, pull {pull:g}, {photo}", rows)


if __name__ == "__main__":
    main()
