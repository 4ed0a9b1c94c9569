"""A long stereo file at 48 kHz: time, memory and seams, beside chunks that are joined without a cross-fade.

    python benchmarks/long_file.py --minutes 90                        some 20 minutes of one core, 8 GB of disk
    python benchmarks/long_file.py --minutes 2 --chunk-seconds 30

`ours` is `mvsd.files.convert_file`. `chunks` is how python-audio-separator treats long files (`--chunk_duration`,
600 s): each chunk is converted by itself, and the results are put one behind the other. Both use the same converter.
The file is the bundled voice again and again, with another loudness and place between the channels each time; for the
dereverberator in a room that decays in 0.6 s. Every case runs in a process of its own; `CPU` is its processor time,
memory its peak resident set.

Seams. `click`: energy of the second difference within 0.5 ms of a join, in dB above that within 20 ms, mean over the
joins and its standard error, less the same at random places: 0 where there is no seam. Ours has its joins where its
windows end. `joined`: energy by which `chunks` differs from `ours` in the second after a join, in dB relative to ours,
and `inside` the same in the middle of the chunks: what the join alone costs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import soundfile

RATE, CHANNELS, CORE_RATE = 48_000, 2, 16_000
CONVERTERS, WAYS = ("reverberator", "dereverberator"), ("ours", "chunks")


def write_recording(path: Path, seconds: float, *, in_room: bool) -> None:
    """A file of speech, 24 bit, written in blocks."""
    from mvsd.audio import load_audio, rechunk, resample
    from mvsd.example import SAMPLES
    from mvsd.streaming import convolve_blocks

    channels, rate = load_audio(SAMPLES / "voice.flac")
    voice = resample(channels[0], rate, RATE)
    rng = np.random.default_rng(0)
    num_left = round(seconds * RATE)

    def dry() -> Iterator[np.ndarray]:
        left = num_left
        while left > 0:
            pan = 0.2 + 0.6 * rng.uniform()
            gains = 10 ** (rng.uniform(-12, -3) / 20) * np.sqrt([[pan], [1 - pan]])
            block = (gains * voice)[:, :left].astype(np.float32)
            left -= block.shape[1]
            yield block

    tail = rng.standard_normal(RATE // 2) * 10 ** (-3 * np.arange(RATE // 2) / RATE / 0.6)
    rir = np.r_[1.0, 0.03 * tail] if in_room else np.ones(1)
    with soundfile.SoundFile(path, "w", RATE, CHANNELS, "PCM_24") as file:
        for block in rechunk(convolve_blocks(dry(), rir), 10 * RATE):
            file.write(0.5 * block.T)


def run_case(name: str, way: str, source: Path, output: Path, chunk_seconds: float) -> dict[str, float]:
    """Convert in this process; start-up and imports do not count."""
    from mvsd.converter import load
    from mvsd.example import SAMPLES
    from mvsd.files import convert_file
    from mvsd.scene import Scene

    converter, scene = load(name), Scene.open(SAMPLES / "living-room.jpg")
    started, started_cpu = perf_counter(), process_time()
    if way == "ours":
        convert_file(converter, source, output, scene, force=True)
    else:
        with soundfile.SoundFile(output, "w", RATE, CHANNELS, "PCM_24") as file:
            for block in soundfile.blocks(
                source, round(chunk_seconds * RATE), dtype="float32", always_2d=True
            ):
                file.write(converter.convert(np.ascontiguousarray(block.T), RATE, scene).T)
    elapsed, cpu = perf_counter() - started, process_time() - started_cpu
    unit = 1024**2 if sys.platform == "darwin" else 1024
    config = converter.config
    hop = 0 if name == "reverberator" else (config.num_samples - config.overlap) * RATE // CORE_RATE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"seconds": elapsed, "cpu": cpu, "peak_mb": peak, "window_hop": hop}


def clicks_db(path: Path, joins: list[int]) -> np.ndarray:
    """Energy of the second difference around each place, relative to its neighbourhood, in dB."""
    near, far = RATE // 2000, RATE // 50
    ratios = []
    with soundfile.SoundFile(path) as file:
        for join in joins:
            file.seek(join - far - 1)
            bend = np.square(np.diff(file.read(2 * far + 2), n=2, axis=0)).sum(axis=1)
            ratios.append((bend[far - near : far + near].mean() + 1e-16) / (bend.mean() + 1e-16))
    return 10 * np.log10(ratios)


def difference_db(path: Path, reference: Path, starts: list[int]) -> float:
    """Energy of the difference in the second after each place, in dB relative to the reference."""
    difference = energy = 0.0
    with soundfile.SoundFile(path) as file, soundfile.SoundFile(reference) as wanted:
        for start in starts:
            file.seek(start)
            wanted.seek(start)
            expected = wanted.read(RATE)
            difference += np.square(file.read(RATE) - expected).sum()
            energy += np.square(expected).sum()
    return float(10 * np.log10((difference + 1e-16) / energy))


def report_seams(name: str, outputs: dict[str, Path], chunk: int, hop: int, num_samples: int) -> None:
    """Print the seams of both ways."""
    rng = np.random.default_rng(1)
    joins = list(range(chunk, num_samples - 2 * RATE, chunk))
    places = list(map(int, rng.integers(RATE, num_samples - RATE, 500)))
    windows = list(range(hop, num_samples - 2 * RATE, hop)) if hop else []
    for way, where in (("chunks", joins), ("ours", windows)):
        if where:
            clicks = clicks_db(outputs[way], where) - clicks_db(outputs[way], places).mean()
            error = clicks.std() / np.sqrt(len(clicks))
            print(f"{name:15} {way:7} {len(where):5} joins   click {clicks.mean():+6.2f} ±{error:.2f} dB")
    middles = [join - chunk // 2 for join in joins]
    joined, inside = (difference_db(outputs["chunks"], outputs["ours"], at) for at in (joins, middles))
    print(f"{name:15} chunks against ours   joined {joined:+6.1f} dB   inside {inside:+6.1f} dB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--chunk-seconds", type=float, default=600)
    parser.add_argument("--case", nargs=4, metavar=("NAME", "WAY", "IN", "OUT"), help="run one, print JSON")
    options = parser.parse_args()
    if options.case:
        name, way, source, output = options.case
        print(json.dumps(run_case(name, way, Path(source), Path(output), options.chunk_seconds)))
        return
    seconds = 60 * options.minutes
    if seconds < options.chunk_seconds + 4:
        parser.error("the file must be longer than a chunk: lower --chunk-seconds")
    print(
        f"{options.minutes:g} minutes, {CHANNELS} channels, {RATE} Hz; chunks of {options.chunk_seconds:g} s"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in CONVERTERS:
            source = Path(folder) / "in.wav"
            write_recording(source, seconds, in_room=name == "dereverberator")
            outputs = {way: Path(folder) / f"{way}.wav" for way in WAYS}
            for way, output in outputs.items():
                command = [sys.executable, __file__, "--chunk-seconds", str(options.chunk_seconds)]
                case = ["--case", name, way, str(source), str(output)]
                row = json.loads(subprocess.run(command + case, check=True, capture_output=True).stdout)
                num_samples = soundfile.info(output).frames
                if num_samples != soundfile.info(source).frames:
                    raise RuntimeError(
                        f"{name}, {way}: {num_samples} of {soundfile.info(source).frames} samples"
                    )
                print(
                    f"{name:15} {way:7} {row['seconds']:7.1f} s   CPU {row['cpu']:7.1f} s   "
                    f"real-time factor {row['seconds'] / seconds:.4f}   peak {row['peak_mb']:5.0f} MB",
                    flush=True,
                )
            chunk = round(options.chunk_seconds * RATE)
            report_seams(name, outputs, chunk, round(row["window_hop"]), num_samples)


if __name__ == "__main__":
    main()
