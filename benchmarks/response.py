"""What the reverberator's responses are like, by steps, pull to the envelope, gain below 1 kHz, colour, views, photo.

    mvsd simulate --rooms 64 --out data/rooms/validation --split validation
    python benchmarks/response.py --rooms data/rooms/validation --steps 2 4 8 16 --pulls 0 0.5 1
    python benchmarks/response.py --rooms data/rooms/validation --low-gains 0 -6 --even 0 1 --speech DIR --num-rooms 64
    python benchmarks/response.py --rooms data/rooms/test --num-rooms 200 --kinds

For every room: error of T20 (percent, median and mean) and of the direct-to-reverberant ratio (dB, mean, signed mean)
against the simulated response, and the STFT distance of a voice convolved with either, beside the untouched voice: the
bundled one, or with --speech 4 s of a held-out speaker for each room.
Rows `wrong` and `none` use another room's photo and no photo. These choices are made on validation rooms, not on test.
With --kinds: medians of the simulated and the drawn T20 and direct-to-reverberant ratio by kind of room, right photo.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from blind import TEST_SPEAKERS

from mvsd.acoustics import convolve, decay_time, drr_db
from mvsd.audio import load_audio
from mvsd.converter import SAMPLE_RATE, Converter, load
from mvsd.data.example import Example
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
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
    known = np.isfinite(t20)
    line = f"{name:44} STFT distance {np.mean(distance):.3f}   not measurable {np.sum(~known)}"
    if known.any():
        t20, drr = t20[known], drr[known]
        line += f"   T20 {np.median(t20):6.1f} / {np.mean(t20):5.1f} %"
        line += f"   DRR {np.mean(np.abs(drr)):5.2f} dB (signed {np.mean(drr):+6.2f})"
    print(line, flush=True)


def report_kinds(converter: Converter, rooms: Sequence[Example]) -> None:
    """A line per kind of room."""
    kinds = defaultdict[str, list[list[float]]](list)
    for index, room in enumerate(rooms):
        assert room.rir is not None
        pair = (room.rir, converter.response(room.scene, seed=index))
        kinds[room.metadata["room"]].append(
            [decay_time(rir, SAMPLE_RATE) for rir in pair] + [drr_db(rir, SAMPLE_RATE) for rir in pair]
        )
    medians = {kind: np.median(rows, axis=0) for kind, rows in kinds.items()}
    for kind in sorted(medians, key=lambda kind: medians[kind][1]):
        t20, drawn_t20, drr, drawn_drr = medians[kind]
        line = f"{kind:16} {len(kinds[kind]):3} rooms   T20 {t20:.2f} s, drawn {drawn_t20:.2f} s"
        print(f"{line}   DRR {drr:5.1f} dB, drawn {drawn_drr:5.1f} dB", flush=True)


def held_out(folder: str, cache: str, num_voices: int) -> list[np.ndarray]:
    """4 s of speakers whom training never hears."""
    speech = Speech(folder, cache, TEST_SPEAKERS, only_holdout=True)
    return [speech.crop(seed, 4 * SAMPLE_RATE) for seed in range(num_voices)]


def with_settings(
    converter: Converter, pull: float, low_gain: float, *, even: bool, views: bool
) -> Converter:
    """The same converter with another pull and gain, its early reflections evened out or not, views averaged or not."""
    converter.config = replace(
        converter.config,
        envelope_pull=pull,
        low_gain_db=low_gain,
        evens_early=even,
        averages_views=views,
    )
    return converter


def main() -> None:
    """Print a line per setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", required=True)
    parser.add_argument("--model", default="reverberator")
    parser.add_argument("--steps", type=int, nargs="+", default=[8])
    parser.add_argument("--pulls", type=float, nargs="+", default=[1.0])
    parser.add_argument("--low-gains", type=float, nargs="+", default=[0.0])
    parser.add_argument("--even", type=int, choices=(0, 1), nargs="+", default=[0])
    parser.add_argument("--views", type=int, choices=(0, 1), nargs="+", default=[0])
    parser.add_argument("--speech", help="folder of dry speech; default: the bundled voice")
    parser.add_argument("--cache", default="data/cache", help="folder for decoded speech")
    parser.add_argument("--num-rooms", type=int, default=32)
    parser.add_argument("--kinds", action="store_true")
    options = parser.parse_args()
    rooms = Shards([options.rooms])[: options.num_rooms]
    if options.kinds:
        report_kinds(with_settings(load(options.model), 1.0, 0.0, even=False, views=False), rooms)
        return
    voices = [load_audio(SAMPLES / "voice.flac")[0][0]] * len(rooms)
    if options.speech:
        voices = held_out(options.speech, options.cache, len(rooms))
    converter = load(options.model)
    dry = np.zeros(24_576, np.float32)
    dry[0] = 1
    report("untouched input", [errors(dry, *each) for each in zip(rooms, voices, strict=True)])
    settings = (options.steps, options.pulls, options.low_gains, options.even, options.views)
    for steps, pull, low, even, views in product(*settings):
        model = with_settings(converter, pull, low, even=bool(even), views=bool(views))
        for photo in ("right", "none", "wrong"):
            rows = []
            for index, (room, voice) in enumerate(zip(rooms, voices, strict=True)):
                scenes: dict[str, Scene | None] = {"right": room.scene, "none": None}
                scenes["wrong"] = rooms[(index + len(rooms) // 2) % len(rooms)].scene
                rows.append(errors(model.response(scenes[photo], seed=index, steps=steps), room, voice))
            report(f"{steps} steps, pull {pull:g}, low {low:g} dB, even {even}, views {views}, {photo}", rows)


if __name__ == "__main__":
    main()
