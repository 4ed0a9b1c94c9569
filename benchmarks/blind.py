"""Error of the blind estimator on simulated test rooms and on real responses, both x test speakers, beside rivals.

    mvsd simulate --rooms 200 --out data/rooms/test --split test
    python benchmarks/blind.py --rooms data/rooms/test --speech DIR --rirs DIR --out results

A clip is the start of an utterance of a test speaker (`docs/data.md`), convolved with a response of a room that was
never trained on. The reverberation time to be found is the T20 that `mvsd.acoustics.decay_time` measures on the
response. `training mean` always answers the mean of ln T20 over the responses trained on. blind_rt60 (PyPI, Ratnam et
al. 2003) needs the extra `baselines`; `best line` is blind_rt60 after the straight line in log-log scale that fits
these very clips best, which is more than it could know.

With --rirs, a folder of impulse responses named <collection>__<name>; its manifest.csv (file, t20_s), if it has one, is
compared. Everything goes into results/blind.csv as well.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import track

from mvsd.acoustics import convolve
from mvsd.audio import load_audio, resample
from mvsd.blind import SAMPLE_RATE, BlindEstimator, measured_targets
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
from mvsd.errors import MissingExtraError

TEST_SPEAKERS = ("librispeech-train-clean-100/*9/*", "speechocean762/*9/*")
TARGETS = (
    "rt60",
    "rt60_125",
    "rt60_250",
    "rt60_500",
    "rt60_1000",
    "rt60_2000",
    "rt60_4000",
    "drr_db",
    "c50_db",
)
SUFFIXES = (".wav", ".flac")


class Response(NamedTuple):
    """A response with what is measured on it."""

    group: str
    name: str
    rir: np.ndarray
    targets: np.ndarray


def simulated(folder: str) -> Iterator[Response]:
    """The rooms of the test split."""
    rooms = Shards([folder])
    for index in range(len(rooms)):
        room = rooms.load(index, ("rir",))
        assert room.rir is not None
        yield Response("simulated", room.key, room.rir, measured_targets(room.rir))


def real(folder: Path) -> Iterator[Response]:
    """The first channel of every measured response in a folder."""
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES):
        waveform, sample_rate = load_audio(path)
        rir = resample(waveform[:1], sample_rate, SAMPLE_RATE)[0]
        yield Response(path.name.partition("__")[0], path.name, rir, measured_targets(rir))


def clip(index: int, speech: Speech, rir: np.ndarray, num_samples: int) -> np.ndarray:
    """Clip `index`: (T,), nothing was said before it."""
    voices = np.flatnonzero(speech.lengths >= num_samples)
    voice = speech.utterance(int(voices[np.random.default_rng(index).integers(len(voices))]))[:num_samples]
    return convolve(voice, rir)[:num_samples]


def ours(estimator: BlindEstimator, waveform: np.ndarray) -> dict[str, float]:
    """Every value and its standard deviation; of times: their logarithm's."""
    heard = estimator.estimate(waveform, SAMPLE_RATE)
    row = {"rt60": heard.rt60, "rt60_std": heard.rt60_std / heard.rt60}
    for band, value in heard.rt60_per_band.items():
        row |= {f"rt60_{band}": value, f"rt60_{band}_std": heard.rt60_per_band_std[band] / value}
    row |= {"drr_db": heard.drr_db, "drr_db_std": heard.drr_db_std}
    return row | {"c50_db": heard.c50_db, "c50_db_std": heard.c50_db_std}


def rival() -> Callable[[np.ndarray], float]:
    """blind_rt60 with its own settings; NaN where it fails."""
    try:
        from blind_rt60 import BlindRT60
    except ImportError as error:
        raise MissingExtraError("baselines", "blind_rt60") from error

    def estimate(waveform: np.ndarray) -> float:
        try:
            return float(BlindRT60()(waveform.astype(np.float64), SAMPLE_RATE))
        except (IndexError, ValueError, FloatingPointError):
            return float("nan")

    return estimate


def score(responses: list[Response], speech: Speech, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per clip and length: measured values as `true_...`, estimates by their names."""
    estimator = BlindEstimator.load(options.model)
    rows = []
    constant = math.exp(estimator.target_mean[0].item())
    public = rival() if options.rival_every else None
    for index, response in enumerate(track(responses, "clips")):
        for seconds in options.seconds:
            waveform = clip(index, speech, response.rir, round(seconds * SAMPLE_RATE))
            row: dict[str, Any] = {"group": response.group, "name": response.name, "seconds": seconds}
            true = np.where(np.arange(len(TARGETS)) < 7, np.exp(response.targets), response.targets)
            row |= {f"true_{name}": float(value) for name, value in zip(TARGETS, true, strict=True)}
            row |= ours(estimator, waveform) | {"training mean": constant}
            if public and index % options.rival_every == 0 and seconds == options.seconds[0]:
                row["blind_rt60"] = public(waveform)
            rows.append(row)
    return rows


def column(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """A column, NaN where there is no value."""
    return np.array([float(row.get(name, "nan")) for row in rows])


def mean_and_interval(values: np.ndarray) -> str:
    """Mean and the percentiles 2.5 and 97.5 of 2000 resampled means."""
    means = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def print_times(title: str, rows: list[dict[str, Any]]) -> None:
    """A table of reverberation times, a line per system."""
    true = column(rows, "true_rt60")
    systems = {name: column(rows, name) for name in ("rt60", "training mean", "blind_rt60")}
    public = systems["blind_rt60"]
    known = np.isfinite(true) & np.isfinite(public) & (public > 0)
    if known.sum() > 2:
        slope, offset = np.polyfit(np.log(public[known]), np.log(true[known]), 1)
        systems["blind_rt60, best line"] = np.exp(offset + slope * np.log(np.maximum(public, 1e-9)))
    print(
        f"\n{title}: T20 {np.nanmin(true):.2f} to {np.nanmax(true):.2f} s, median {np.nanmedian(true):.2f} s\n"
    )
    print(
        "| estimate | clips | mean error (s) | bias (s) | median error (%) | correlation |\n|---|---|---|---|---|---|"
    )
    for name, heard in systems.items():
        both = np.isfinite(true) & np.isfinite(heard)
        if both.sum() < 3:
            continue
        error, steady = (heard - true)[both], np.ptp(heard[both]) < 1e-9
        correlation = "-" if steady else f"{np.corrcoef(np.log(heard[both]), np.log(true[both]))[0, 1]:.2f}"
        print(
            f"| {'mvsd.blind' if name == 'rt60' else name} | {both.sum()} of {len(rows)} "
            f"| {mean_and_interval(np.abs(error))} | {error.mean():+.3f} "
            f"| {100 * np.median(np.abs(error) / true[both]):.0f} | {correlation} |"
        )


def print_all_values(title: str, rows: list[dict[str, Any]]) -> None:
    """Every value of ours: error, correlation, and how often it lies within one and two deviations."""
    print(f"\n{title}, every value\n")
    print("| value | clips | mean error | bias | correlation | within 1 / 2 std |\n|---|---|---|---|---|---|")
    for name in TARGETS:
        true, heard, std = (column(rows, key) for key in (f"true_{name}", name, f"{name}_std"))
        known = np.isfinite(true)
        if known.sum() < 3:
            continue
        true, heard, std = true[known], heard[known], std[known]
        distance = np.abs(np.log(heard / true) if name.startswith("rt60") else heard - true) / std
        within = " / ".join(f"{100 * (distance < limit).mean():.0f}" for limit in (1, 2))
        print(
            f"| {name} | {len(true)} | {np.abs(heard - true).mean():.3f} | {(heard - true).mean():+.3f} "
            f"| {np.corrcoef(heard, true)[0, 1]:.2f} | {within} % |"
        )


def print_lengths(rows: list[dict[str, Any]]) -> None:
    """Error of T20 by the length of the clip."""
    print("\n| seconds | clips | mean error of T20 (s) | mean spread (%) |\n|---|---|---|---|")
    for seconds in sorted({row["seconds"] for row in rows}):
        part = [row for row in rows if row["seconds"] == seconds]
        error = np.abs(column(part, "rt60") - column(part, "true_rt60"))
        print(
            f"| {seconds:g} | {len(part)} | {mean_and_interval(error[np.isfinite(error)])} "
            f"| {100 * column(part, 'rt60_std').mean():.0f} |"
        )


def print_manifest(folder: Path, rows: list[dict[str, Any]]) -> None:
    """How far the T20 measured here and the one estimated are from that in the folder's manifest."""
    path = folder / "manifest.csv"
    if not path.is_file():
        return
    stated = {
        row["file"]: float(row["t20_s"] or "nan") for row in csv.DictReader(path.open(encoding="utf-8"))
    }
    t20 = np.array([stated.get(row["name"], np.nan) for row in rows])
    print(
        "\n| against the manifest's T20 | clips | mean error (s) | bias (s) | median error (%) |\n|---|---|---|---|---|"
    )
    for name, title in (("true_rt60", "measured here"), ("rt60", "mvsd.blind")):
        for limit in (2.0, np.inf):
            known = np.isfinite(t20) & np.isfinite(column(rows, "true_rt60")) & (t20 <= limit)
            error = (column(rows, name) - t20)[known]
            print(
                f"| {title}{', T20 up to 2 s' if limit == 2 else ''} | {known.sum()} "
                f"| {mean_and_interval(np.abs(error))} | {error.mean():+.3f} "
                f"| {100 * np.median(np.abs(error) / t20[known]):.0f} |"
            )


def write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """A row per clip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Score and print; the same command gives the same numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", help="folder of shards of test rooms")
    parser.add_argument("--rirs", type=Path, help="folder of measured impulse responses")
    parser.add_argument("--speech", required=True, help="folder of dry speech")
    parser.add_argument("--cache", default="data/cache", help="folder for decoded speech")
    parser.add_argument("--model", help="model file; default: the shipped one")
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0, 1.0, 2.0, 10.0])
    parser.add_argument(
        "--longest", type=float, default=2.0, help="T20 (s) of the main table of real responses"
    )
    parser.add_argument(
        "--rival-every", type=int, default=1, help="every how many clips blind_rt60, which is slow; 0: never"
    )
    parser.add_argument("--out", type=Path, default=Path("results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    speech = Speech(options.speech, options.cache, TEST_SPEAKERS, only_holdout=True)
    responses = list(simulated(options.rooms)) if options.rooms else []
    measured = list(real(options.rirs)) if options.rirs else []
    rows = score(responses + measured, speech, options)
    write_csv(rows, options.out / "blind.csv")
    first = [row for row in rows if row["seconds"] == options.seconds[0]]
    groups = {"simulated test rooms": [row for row in first if row["group"] == "simulated"]}
    others = [row for row in first if row["group"] != "simulated"]
    groups[f"real, T20 up to {options.longest:g} s"] = [
        row for row in others if row["true_rt60"] <= options.longest
    ]
    groups[f"real, T20 over {options.longest:g} s"] = [
        row for row in others if row["true_rt60"] > options.longest
    ]
    for collection in sorted({row["group"] for row in others}):
        groups[f"real, {collection}"] = [row for row in others if row["group"] == collection]
    for title, part in groups.items():
        if len(part) > 2:
            print_times(title, part)
        both = [row for row in part if "blind_rt60" in row]
        if 2 < len(both) < len(part):
            print_times(f"{title}, those clips that blind_rt60 heard", both)
    for title, part in list(groups.items())[:2]:
        if part:
            print_all_values(title, part)
    print_lengths([row for row in rows if row["group"] == "simulated"])
    if options.rirs:
        print_manifest(options.rirs, others)


if __name__ == "__main__":
    main()
