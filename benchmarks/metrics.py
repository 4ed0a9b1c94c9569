"""Every metric against an independent implementation, and how many clips a minute each measures.

    pip install ".[metrics,asr]" pyrato pyroomacoustics torchmetrics gammatone jiwer librosa scikit-learn
    pip install --no-deps resemblyzer
    python benchmarks/metrics.py oracles --rirs DIR --speech DIR
    python benchmarks/metrics.py speed --speech DIR --clips 12 --processes 1 2

`oracles` prints a line per quantity: medians of ours, of the oracle's and of the difference, what 95 % of the
differences lie below, and how many clips lie within the tolerance. Responses are all sound files below --rirs, direct
sound anywhere; speech is cut to four seconds, and carried into the rooms for the metrics of speech. An oracle that is
not installed is named, not skipped.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from metric_oracles import (
    RATE,
    Clip,
    jiwer_wer,
    pyrato_decay,
    pyrato_ratio_db,
    pyroomacoustics_decay,
    random_scores,
    resemblyzer_similarity,
    share,
    sklearn_eer,
    speechmos_value,
    torch_magnitude,
    torchmetrics_srmr,
    torchmetrics_value,
)

from mvsd.acoustics import (
    c50_db,
    convolve,
    d50,
    decay_time,
    direct_index,
    drr_db,
    fit_response,
)
from mvsd.audio import load_audio, resample
from mvsd.errors import MvsdError
from mvsd.evaluation import metrics
from mvsd.evaluation.metrics import METRICS, MORE_METRICS

SECONDS = 4
BANDS = (None, 125, 250, 500, 1000, 2000, 4000)
DECAYS = ("T20", "T30", "EDT")


@dataclass(frozen=True)
class Check:
    """Ours and the oracle's value of the same thing; close where |difference| <= absolute + relative x |oracle|."""

    name: str
    oracle_name: str
    ours: Callable[..., float]
    oracle: Callable[..., float]
    absolute: float = 0.0
    relative: float = 0.0

    def line(self, subjects: list) -> str:
        """One row of the table."""
        pairs, failed = [], 0
        for subject in subjects:
            try:
                values = self.ours(subject), self.oracle(subject)
            except ModuleNotFoundError as missing:
                return f"| {self.name} | {self.oracle_name} | {missing.name} is not installed |||||||"
            except (MvsdError, ValueError):  # pyrato raises ValueError where nothing lies in the range
                failed += 1
                continue
            pairs.append(values)
        pairs = [pair for pair in pairs if np.isfinite(pair).all()]
        if not pairs:
            return f"| {self.name} | {self.oracle_name} | none measurable |||||||"
        ours, oracle = np.array(pairs).T
        difference = np.abs(ours - oracle)
        within = difference <= self.absolute + self.relative * np.abs(oracle)
        tolerance = " + ".join(
            text
            for value, text in (
                (self.absolute, f"{self.absolute:g}"),
                (self.relative, f"{self.relative:.2%}"),
            )
            if value
        )
        numbers = [np.median(ours), np.median(oracle), np.median(difference), np.quantile(difference, 0.95)]
        cells = " | ".join(f"{number:.4g}" for number in numbers)
        num_other = len(subjects) - len(pairs)
        other = f", {num_other} not measurable" if num_other else ""
        return (
            f"| {self.name} | {self.oracle_name} | {len(pairs)}{other} | {cells} | {tolerance} "
            f"| {within.sum()} of {len(pairs)} |"
        )


# ---------------------------------------------------------------------------------------- responses


def response_checks() -> Iterator[Check]:
    """Measures of a response that starts with its direct sound."""
    for band in BANDS:
        name = "broadband" if band is None else f"{band} Hz"
        for kind in DECAYS:
            yield Check(
                f"{kind} (s), {name}",
                "pyrato",
                lambda h, kind=kind, band=band: decay_time(h, RATE, kind, band_hz=band),
                lambda h, kind=kind, band=band: pyrato_decay(h, kind, band),
                absolute=0.005,
                relative=0.1 if kind == "EDT" and band else 0.02,
            )
        options = {"band_hz": band, "subtract_noise": True}
        yield Check(
            f"C50 (dB), {name}",
            "pyrato, pyfar" if band else "pyrato",
            lambda h, options=options: c50_db(h, RATE, **options),
            lambda h, band=band: pyrato_ratio_db(h, 50, band),
            absolute=0.2 if band else 0.05,
        )
        yield Check(
            f"D50, {name}",
            "pyrato, pyfar" if band else "pyrato",
            lambda h, options=options: d50(h, RATE, **options),
            lambda h, band=band: share(pyrato_ratio_db(h, 50, band)),
            absolute=0.01 if band else 0.005,
        )
        yield Check(
            f"DRR (dB), {name}",
            "pyrato, pyfar" if band else "pyrato",
            lambda h, options=options: drr_db(h, RATE, **options),
            lambda h, band=band: pyrato_ratio_db(h, 1000 * 41 / RATE, band),
            absolute=0.2 if band else 0.05,
        )
    for kind in ("T20", "T30"):
        yield Check(
            f"{kind} (s), broadband",
            "pyroomacoustics",
            lambda h, kind=kind: decay_time(h, RATE, kind),
            lambda h, kind=kind: pyroomacoustics_decay(h, int(kind[1:])),
            absolute=0.005,
            relative=0.02,
        )


def fit_checks(dry: np.ndarray) -> Iterator[Check]:
    """What is measured of a response that was fitted between two recordings, against the response itself."""

    @cache
    def fitted(rir: bytes) -> np.ndarray:
        return fit_response(dry, convolve(dry, np.frombuffer(rir))[: len(dry)], RATE, 1.0, lead_seconds=0.001)

    for kind in DECAYS:
        yield Check(
            f"{kind} (s), fitted from {SECONDS} s of speech",
            "the true response",
            lambda h, kind=kind: decay_time(fitted(h.tobytes()), RATE, kind),
            lambda h, kind=kind: decay_time(h, RATE, kind),
            absolute=0.01,
            relative=0.05,
        )
    for name, measure, absolute in (("C50 (dB)", c50_db, 0.5), ("D50", d50, 0.02), ("DRR (dB)", drr_db, 0.5)):
        yield Check(
            f"{name}, fitted from {SECONDS} s of speech",
            "the true response",
            lambda h, measure=measure: measure(fitted(h.tobytes()), RATE, subtract_noise=True),
            lambda h, measure=measure: measure(h, RATE, subtract_noise=True),
            absolute=absolute,
        )


# ------------------------------------------------------------------------------------------- speech


def speech_checks() -> Iterator[Check]:
    """Metrics of estimate and target; the estimate is the voice in the room."""

    def ours(name: str) -> Callable[[Clip], float]:
        metric = {
            **METRICS["reverberation"],
            **METRICS["dereverberation"],
            **MORE_METRICS["dereverberation"],
        }[name]
        return lambda c: metric.function(
            **{"estimate": c.wet, "target": c.dry} if "target" in metric.inputs else {"estimate": c.wet},
            sample_rate=RATE,
        )

    def both(value: Callable[[np.ndarray], np.ndarray]) -> Callable[[Clip], float]:
        return lambda c: float(np.mean((value(c.wet) - value(c.dry)) ** 2))

    yield Check("stft_distance", "torch.stft", ours("stft_distance"), both(torch_magnitude), relative=1e-4)
    log = both(lambda clip: np.log(torch_magnitude(clip) + 1e-5))
    yield Check("log_stft_distance", "torch.stft", ours("log_stft_distance"), log, relative=1e-4)
    for name, theirs, options, tolerance in (
        ("pesq_wb", "perceptual_evaluation_speech_quality", {"fs": RATE, "mode": "wb"}, 1e-3),
        ("stoi", "short_time_objective_intelligibility", {"fs": RATE}, 1e-4),
        ("estoi", "short_time_objective_intelligibility", {"fs": RATE, "extended": True}, 1e-4),
        ("si_sdr_db", "scale_invariant_signal_distortion_ratio", {}, 1e-3),
    ):
        oracle = lambda c, theirs=theirs, options=options: torchmetrics_value(theirs, c.wet, c.dry, **options)  # noqa: E731
        yield Check(name, "torchmetrics", ours(name), oracle, absolute=tolerance)
    yield Check("dnsmos", "speechmos", ours("dnsmos"), lambda c: speechmos_value(c.wet), absolute=1e-3)
    error = lambda c: abs(speechmos_value(c.wet) - speechmos_value(c.dry))  # noqa: E731
    yield Check("mose", "speechmos", ours("mose"), error, absolute=1e-3)
    yield Check("srmr", "torchmetrics", ours("srmr"), lambda c: torchmetrics_srmr(c.wet), relative=1e-3)
    yield Check(
        "speaker_similarity", "resemblyzer", ours("speaker_similarity"), resemblyzer_similarity, absolute=1e-4
    )
    heard = lambda c: metrics.wer(  # noqa: E731
        estimate=c.wet, transcript=metrics.recognize(np.float64(c.dry)), sample_rate=RATE
    )
    yield Check("wer (%)", "jiwer", heard, jiwer_wer, absolute=1e-6)


# ------------------------------------------------------------------------------------------- running


def sounds(folder: Path, num_samples: int | None = None) -> Iterator[np.ndarray]:
    """First channels of the sound files below a folder, at 16 kHz, (T,); shorter ones than asked for are left out."""
    for path in sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in (".wav", ".flac", ".ogg", ".opus")
    ):
        waveform, rate = load_audio(path)
        samples = resample(waveform[:1], rate, RATE)[0][:num_samples]
        if num_samples is None or len(samples) == num_samples:
            yield samples


def spread(items: list, count: int) -> list:
    """`count` of the items, evenly spaced."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))]


def oracles(options: argparse.Namespace) -> None:
    """Print the table."""
    warnings.simplefilter("ignore")  # of the oracles
    rirs = []
    for rir in sounds(options.rirs):
        rir = np.float64(rir[direct_index(rir, RATE) :])
        rirs.append(rir / np.linalg.norm(rir))
    voices = spread(list(sounds(options.speech, SECONDS * RATE)), options.clips)
    clips = []
    for voice, rir in zip(voices, spread(rirs, len(voices)), strict=False):
        wet = convolve(voice, rir)[: len(voice)]
        clips.append(Clip(0.3 * voice / np.abs(voice).max(), 0.3 * wet / np.abs(wet).max()))
    eer = Check(
        "equal_error_rate (%)",
        "scikit-learn",
        lambda seed: metrics.equal_error_rate(*random_scores(seed)),
        sklearn_eer,
        absolute=1e-6,
    )
    checks: list[tuple[Check, list]] = [(check, clips) for check in speech_checks()]
    checks += [(eer, list(range(50)))]
    checks += [(check, rirs) for check in (*response_checks(), *fit_checks(voices[0]))]
    print(
        "| quantity | oracle | clips | ours | oracle's | median difference | 95 % below | tolerance | within |"
    )
    print("|" + " --- |" * 9)
    for check, subjects in checks:
        if any(text in check.name for text in options.only):
            print(check.line(subjects), flush=True)


def timed(task: tuple[str, Clip]) -> float:
    """Seconds of a processor that one metric of one clip takes; NaN if it cannot be measured."""
    name, clip = task
    every = {**METRICS["reverberation"], **METRICS["dereverberation"], **MORE_METRICS["dereverberation"]}
    metric = every[name]
    inputs = {"source": clip.dry, "estimate": clip.wet, "target": clip.dry, "transcript": "one two three"}
    if "source" in metric.inputs:
        inputs["target"] = 0.9 * clip.wet  # another clip in a room, so that two responses are fitted
    start = time.process_time()
    try:
        metric.function(**{key: inputs[key] for key in metric.inputs}, sample_rate=RATE)
    except MvsdError:
        return np.nan
    return time.process_time() - start


def speed(options: argparse.Namespace) -> None:
    """Print the processor time of a clip and clips per minute of each metric, in every number of processes."""
    voices = spread(list(sounds(options.speech, SECONDS * RATE)), options.clips + 8)
    room = np.random.default_rng(0).standard_normal(RATE) * 10 ** (-3 * np.arange(RATE) / RATE / 0.5)
    room[0] = 20
    clips = [Clip(0.3 * voice, 0.01 * convolve(voice, room)[: len(voice)]) for voice in voices]
    names = [*METRICS["reverberation"], *METRICS["dereverberation"], *MORE_METRICS["dereverberation"]]
    heads = [f"clips a minute, {n} process{'es' * (n > 1)}" for n in options.processes]
    print(f"| metric, clips of {SECONDS} s | processor time a clip (s) | {' | '.join(heads)} |")
    print("|" + " --- |" * (len(heads) + 2))
    for name in options.metrics or dict.fromkeys(names):
        rates = []
        for num_processes in options.processes:
            with ProcessPoolExecutor(num_processes) as executor:
                warm = list(
                    executor.map(
                        timed, [(name, clip) for clip in clips[options.clips :][: 4 * num_processes]]
                    )
                )
                start = time.perf_counter()
                taken = list(executor.map(timed, [(name, clip) for clip in clips[: options.clips]]))
                seconds = time.perf_counter() - start
            measured = np.isfinite([*warm, *taken]).all()
            rates.append(f"{60 * options.clips / seconds:.0f}" if measured else "not measurable")
        print(f"| {name} | {np.median(taken):.3g} | {' | '.join(rates)} |", flush=True)


def main() -> None:
    """Read the arguments and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for function, default in ((oracles, 20), (speed, 12)):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.add_argument("--speech", type=Path, required=True, help="folder of dry speech")
        command.add_argument(
            "--clips", type=int, default=default, help="clips of speech; default: %(default)s"
        )
        command.set_defaults(function=function)
    commands.choices["oracles"].add_argument(
        "--rirs", type=Path, required=True, help="folder of room responses"
    )
    commands.choices["oracles"].add_argument(
        "--only", nargs="+", default=[""], help="quantities whose name holds one of these texts; default: all"
    )
    commands.choices["speed"].add_argument("--processes", type=int, nargs="+", default=[1, 2])
    commands.choices["speed"].add_argument("--metrics", nargs="+", help="names; default: all")
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
