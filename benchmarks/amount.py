"""Do the amounts do what they say, with the shipped weights?

    mvsd simulate --rooms 64 --out data/rooms/validation --split validation
    python benchmarks/amount.py --rooms data/rooms/validation --speech DIR --num-rooms 16

Three tables, means over the rooms: a drawn response bent to a reverberation time; gains of what the room adds and of
what was removed, found again by fitting a response between input and output; and the early sound that dereverberation
keeps, against the true early-reverberant voice, beside the untouched recording and the plain estimate.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
import torch

from mvsd.acoustics import convolve, decay_time, drr_db, fit_response
from mvsd.amount import KeepEarly, Mix, Rt60
from mvsd.converter import SAMPLE_RATE, Converter, load
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
from mvsd.errors import NotMeasurable
from mvsd.scene import Scene

SPEAKERS = ("librispeech-train-clean-100/*9/*",)
NUM_SAMPLES = 8 * SAMPLE_RATE
TIMES = (0.2, 0.4, 0.8, 1.6, 3.2)
GAINS_DB = (-12.0, -6.0, 0.0, 6.0)
EARLY_MS = (20.0, 50.0, 80.0)

Rows = dict[str, list[list[float]]]


def level_db(samples: np.ndarray) -> float:
    """Mean power in dB."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def si_sdr_db(target: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio."""
    part = (estimate @ target) / (target @ target) * target
    return level_db(part) - level_db(part - estimate)


def bend(reverberator: Converter, scene: Scene | None, seed: int, rows: Rows) -> None:
    """Wanted and measured reverberation times of one room."""
    drawn = reverberator.response(scene, seed=seed)
    before = decay_time(drawn, SAMPLE_RATE)
    for wanted in TIMES:
        name = f"--rt60 {wanted:g}"
        try:
            rir = Rt60(reverberator, wanted).response(scene, seed=seed)
        except NotMeasurable as reason:
            print(f"room {seed}, {name}: {reason}")
            continue
        moved = drr_db(rir, SAMPLE_RATE) - drr_db(drawn, SAMPLE_RATE)
        measured = [100 * decay_time(rir, SAMPLE_RATE, kind) / wanted - 100 for kind in ("T20", "T30")]  # type: ignore[arg-type]
        rows[name].append([*measured, moved, -10 * np.log10(wanted / before)])


def gains(
    reverberator: Converter,
    dereverberator: Converter,
    scene: Scene | None,
    seed: int,
    dry: np.ndarray,
    wet: np.ndarray,
    rows: Rows,
) -> None:
    """How far late energy moves into the room, and the level of what is left out of it."""
    late = {}
    removed = wet - dereverberator.convert(wet, SAMPLE_RATE, scene)
    for gain_db in GAINS_DB:
        out = Mix.into_room(reverberator, wet_db=gain_db).convert(dry, SAMPLE_RATE, scene, seed=seed)
        rir = fit_response(dry, out, SAMPLE_RATE, 1.0)
        late[gain_db] = level_db(rir[40:])
        left = Mix.out_of_room(dereverberator, wet_db=gain_db).convert(wet, SAMPLE_RATE, scene)
        estimate = Mix.out_of_room(dereverberator).convert(wet, SAMPLE_RATE, scene)
        rows[f"--wet {gain_db:g}"].append([np.nan, level_db(left - estimate + 1e-12) - level_db(removed)])
    for gain_db in GAINS_DB:
        rows[f"--wet {gain_db:g}"][-1][0] = late[gain_db] - late[0.0]


def keep_early(
    dereverberator: Converter,
    scene: Scene | None,
    dry: np.ndarray,
    wet: np.ndarray,
    rir: np.ndarray,
    rows: Rows,
) -> None:
    """Against the voice with the room's true early response."""
    estimate = dereverberator.convert(wet, SAMPLE_RATE, scene)
    for ms in EARLY_MS:
        num_early = round(ms * SAMPLE_RATE / 1000)
        target = convolve(dry, rir[:num_early])[: len(dry)]
        kept = KeepEarly(dereverberator, ms).convert(wet, SAMPLE_RATE, scene)
        mix = estimate + 0.5 * (wet - estimate)
        outputs = {"untouched": wet, "plain estimate": estimate, "half of the room": mix, "kept": kept}
        responses = {name: fit_response(dry, out, SAMPLE_RATE, 1.0) for name, out in outputs.items()}
        for name, out in outputs.items():
            early, late = (
                level_db(responses[name][part]) - level_db(responses["untouched"][part])
                for part in (slice(40, num_early), slice(num_early, None))
            )
            error = level_db(out - target) - level_db(target)
            rows[f"{ms:g} ms, {name}"].append([error, si_sdr_db(target, out), early, late])


def show(title: str, head: tuple[str, ...], rows: Rows) -> None:
    """A table of means."""
    print(f"\n{title}\n\n| | {' | '.join(head)} |\n|---|{'---|' * len(head)}")
    for name, values in rows.items():
        table = np.array(values)
        cells = [
            f"{mean:.2f} ± {spread:.2f}" for mean, spread in zip(table.mean(0), table.std(0), strict=True)
        ]
        print(f"| {name} ({len(values)}) | {' | '.join(cells)} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", required=True)
    parser.add_argument("--speech", required=True)
    parser.add_argument("--cache", default="data/cache")
    parser.add_argument("--num-rooms", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rooms, speech = (
        Shards([options.rooms]),
        Speech(options.speech, options.cache, SPEAKERS, only_holdout=True),
    )
    voices = np.flatnonzero(speech.lengths >= NUM_SAMPLES)
    reverberator, dereverberator = load("reverberator"), load("dereverberator")
    times, levels, early = (defaultdict[str, list[list[float]]](list) for _ in range(3))
    for index in range(options.num_rooms):
        scene, rir = rooms[index].scene, rooms[index].rir
        assert rir is not None
        choice = int(voices[np.random.default_rng(index).integers(len(voices))])
        dry = speech.utterance(choice)[:NUM_SAMPLES]
        wet = convolve(dry, rir)[:NUM_SAMPLES]
        bend(reverberator, scene, index, times)
        gains(reverberator, dereverberator, scene, index, dry, wet, levels)
        keep_early(dereverberator, scene, dry, wet, rir, early)
    show("Bent rooms", ("T20 error (%)", "T30 error (%)", "DRR moved (dB)", "-10 log10(new / old)"), times)
    show("Gains", ("late part moved (dB)", "what is left of the room (dB)"), levels)
    head = (
        "error against early voice (dB)",
        "SI-SDR (dB)",
        "early, of the room's (dB)",
        "late, of the room's (dB)",
    )
    show("Early sound", head, early)


if __name__ == "__main__":
    main()
