"""What dereverberators make of the same fixed clips: PESQ, ESTOI, SI-SDR, level; one shift, no photo.

    mvsd simulate --rooms 48 --split validation --out data/rooms/validation
    mvsd simulate --rooms 48 --population homes --split validation --out data/rooms/validation-homes
    python benchmarks/dereverberation.py --rooms data/rooms/validation data/rooms/validation-homes --speech DIR \
        --model dereverberator runs/NAME/dereverberator.safetensors

Clips of 4.1 s of held-out voices in rooms that no training sees, each converted at once, to choose between trainings,
not to compare with others. `--speakers` are globs on the voices. The same clips come out for the same rooms, voices,
number and length. How long the windows should be in which a longer recording is converted, and how much of them two
should share, in samples:

    python benchmarks/dereverberation.py --rooms data/rooms/validation-homes --speech DIR --num-clips 20 \
        --seconds 16.384 --windows 65536:16384 131072:32768
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from blind import TEST_SPEAKERS

from mvsd.converter import SAMPLE_RATE, load
from mvsd.data.batch import Batch
from mvsd.data.mixing import DataConfig, Mixer
from mvsd.data.scenes import SceneConfig
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
from mvsd.evaluation.metrics import estoi, pesq_wb, si_sdr_db

ROWS = 8
SEED = 77
PIECE, LOUD_DB = 1024, 25.0


def level_wander_db(*, estimate: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
    """Standard deviation (dB) of the level over the target's, in pieces of 64 ms that are loud in the target."""
    size = len(target) // PIECE * PIECE
    power = [np.mean(x[:size].reshape(-1, PIECE).astype(float) ** 2, axis=1) for x in (estimate, target)]
    levels = 10 * np.log10(np.array(power) + 1e-12)
    loud = levels[1] > levels[1].max() - LOUD_DB
    return float(np.std((levels[0] - levels[1])[loud]))


METRICS = {"PESQ": pesq_wb, "ESTOI": estoi, "SI-SDR (dB)": si_sdr_db, "level (dB)": level_wander_db}


def clips(rooms: str, speech: Speech, number: int, seconds: float) -> Batch:
    """That many voices in rooms, each so long."""
    config = DataConfig(
        num_samples=round(seconds * SAMPLE_RATE),
        num_paired=number,
        num_reverberant=0,
        num_anechoic=0,
        scenes=SceneConfig(jitter=0, depth_dropout=1),
    )
    return Mixer(speech, Shards([rooms]), None, None, config, seed=SEED).batch(0)


def converted(name: str, batch: Batch) -> torch.Tensor:
    """What a model makes of the clips; "input" makes nothing of them."""
    if name == "input":
        return batch.reverberant
    model, made = load(name), []
    for start in range(0, len(batch), ROWS):
        rows = slice(start, start + ROWS)
        source, seeds = batch.reverberant[rows], batch.seeds[rows]
        made.append(model.estimate(source, model.tokens([None] * len(source)), seeds, num_steps=1))
    return torch.cat(made)


def converted_in_windows(name: str, batch: Batch, size: int, overlap: int) -> torch.Tensor:
    """What a model makes of the clips in windows of `size` samples of which two share `overlap`."""
    model = load(name, num_shifts=1)
    model.config = replace(model.config, num_samples=size, overlap=overlap)
    return torch.stack([model.convert(clip, SAMPLE_RATE) for clip in batch.reverberant])


def estimates(name: str, batch: Batch, windows: list[str]) -> dict[str, torch.Tensor]:
    """What a model makes of the clips, at once or in each kind of windows, by what is printed of it."""
    if not windows or name == "input":
        return {name: converted(name, batch)}
    sizes = {each: tuple(map(int, each.split(":"))) for each in windows}
    return {
        f"{name}, windows {each}": converted_in_windows(name, batch, *size) for each, size in sizes.items()
    }


def figures(made: torch.Tensor, batch: Batch) -> str:
    """The mean of every metric over the clips."""
    pairs = list(zip(made.numpy(), batch.anechoic.numpy(), strict=True))
    means = {
        metric: np.mean([measure(estimate=e, target=t, sample_rate=SAMPLE_RATE) for e, t in pairs])
        for metric, measure in METRICS.items()
    }
    return "   ".join(f"{metric} {mean:.3f}" for metric, mean in means.items())


def main() -> None:
    """Print a line for each folder of rooms, model and kind of windows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", nargs="+", required=True)
    parser.add_argument("--speech", required=True, help="folder of dry speech")
    parser.add_argument("--cache", default="data/cache", help="folder for decoded speech")
    parser.add_argument("--speakers", nargs="+", default=list(TEST_SPEAKERS))
    parser.add_argument("--model", nargs="+", default=["dereverberator"])
    parser.add_argument("--num-clips", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.096)
    parser.add_argument("--windows", nargs="+", default=[], metavar="SIZE:OVERLAP")
    options = parser.parse_args()
    speech = Speech(options.speech, options.cache, options.speakers, only_holdout=True)
    for rooms in options.rooms:
        batch = clips(rooms, speech, options.num_clips, options.seconds)
        for name in ("input", *options.model):
            with torch.inference_mode():
                made = estimates(name, batch, options.windows)
            for label, clean in made.items():
                print(f"{rooms} {label}: {figures(clean, batch)}", flush=True)


if __name__ == "__main__":
    main()
