"""Quality of both converters on simulated test rooms and test speakers: the tables of the README.

    mvsd simulate --rooms 200 --out data/rooms/test --split test
    python benchmarks/quality.py --rooms data/rooms/test --speech DIR --out results

Clip i is the first five seconds of an utterance of a test speaker in test room i. Every table has the rows right
photo, no photo, wrong photo (that of another room) and untouched input. Needs the extra `metrics`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from mvsd.acoustics import convolve
from mvsd.converter import SAMPLE_RATE, load
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
from mvsd.evaluation.metrics import METRICS, Metric, Task, bootstrap_interval, measure
from mvsd.evaluation.table import Record, Table

TEST_SPEAKERS = ("librispeech-train-clean-100/*9/*", "speechocean762/*9/*")
NUM_SAMPLES = 5 * SAMPLE_RATE
CONVERTERS: dict[Task, str] = {"reverberation": "reverberator", "dereverberation": "dereverberator"}


def clip(index: int, speech: Speech, rooms: Shards) -> tuple[np.ndarray, np.ndarray]:
    """The pair (anechoic, reverberant) of test clip `index`, (T,) each; nothing was said before the clip."""
    rir = rooms[index].rir
    assert rir is not None
    voices = np.flatnonzero(speech.lengths >= NUM_SAMPLES)
    voice = speech.utterance(int(voices[np.random.default_rng(index).integers(len(voices))]))[:NUM_SAMPLES]
    wet = convolve(voice, rir)[:NUM_SAMPLES]
    gain = 0.5 / max(np.abs(wet).max(), np.abs(voice).max())
    return gain * voice, gain * wet


def score(index: int, options: argparse.Namespace) -> list[Record]:
    """Every row of one clip, both tasks."""
    torch.set_num_threads(1)
    rooms = Shards([options.rooms])
    speech = Speech(options.speech, options.cache, TEST_SPEAKERS, only_holdout=True)
    dry, wet = clip(index, speech, rooms)
    scenes = {"right photo": rooms[index].scene, "no photo": None}
    scenes["wrong photo"] = rooms[(index + len(rooms) // 2) % len(rooms)].scene
    records = []
    for task, name in CONVERTERS.items():
        if not chosen(task, options):
            continue
        source, target = (dry, wet) if task == "reverberation" else (wet, dry)
        converter = load(Path(options.models) / f"{name}.safetensors" if options.models else name)
        estimates = {"untouched input": source}
        for row, scene in scenes.items():
            estimates[row] = converter.convert(
                source, SAMPLE_RATE, scene, seed=options.seed + index, steps=options.steps
            )
        for row, estimate in estimates.items():
            clips = {"source": source, "estimate": estimate, "target": target}
            scores = measure(chosen(task, options), **clips, sample_rate=SAMPLE_RATE)
            records.append(Record(f"{index:04d}", task, row, scores))
    return records


def chosen(task: Task, options: argparse.Namespace) -> dict[str, Metric]:
    """The metrics of a task, all or those that --metrics names."""
    return {
        name: metric for name, metric in METRICS[task].items() if name in (options.metrics or METRICS[task])
    }


def scored(options: argparse.Namespace) -> Iterator[list[Record]]:
    """The records of every clip, computed in parallel."""
    with ProcessPoolExecutor(options.jobs) as executor:
        yield from executor.map(partial(score, options=options), range(options.clips))


def print_differences(records: Sequence[Record], metrics: Mapping[str, Metric]) -> None:
    """The right photo minus none and minus a wrong one, clip by clip, with the 95 % interval of the mean."""
    values = {(record.clip, record.condition): record.scores.values for record in records}
    for name in metrics:
        for other in ("no photo", "wrong photo"):
            pairs = [
                (row, values[clip, other])
                for (clip, row_name), row in values.items()
                if row_name == "right photo"
            ]
            changes = [right[name] - wrong[name] for right, wrong in pairs if name in right and name in wrong]
            if len(changes) > 1:
                low, high = bootstrap_interval(changes)
                print(f"{name}: right photo - {other} = {np.mean(changes):+.4f} [{low:+.4f}, {high:+.4f}]")


def main() -> None:
    """Score and print; the same command gives the same numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", required=True, help="folder of shards of test rooms")
    parser.add_argument("--speech", required=True, help="folder of dry speech")
    parser.add_argument("--cache", default="data/cache", help="folder for decoded speech")
    parser.add_argument("--models", help="folder with both model files; default: the shipped ones")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--steps", type=int, help="sampling steps; default: the model's own")
    parser.add_argument("--metrics", nargs="+", help="names, as in mvsd.evaluation.metrics; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("results"))
    options = parser.parse_args()
    Speech(
        options.speech, options.cache, TEST_SPEAKERS, only_holdout=True
    )  # decode once, before the processes start
    records = [record for group in track(scored(options), total=options.clips) for record in group]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "records.json").write_text(json.dumps([record.to_dict() for record in records], indent=1))
    for task in CONVERTERS:
        if not chosen(task, options):
            continue
        table = Table([record for record in records if record.task == task], chosen(task, options))
        print(f"\n{task}, {options.clips} clips, seed {options.seed}\n\n{table.markdown()}")
        print_differences([record for record in records if record.task == task], chosen(task, options))


if __name__ == "__main__":
    main()
