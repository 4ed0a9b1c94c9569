"""Real-time factor and peak memory of both directions, beside a rival measured in the same run.

    python benchmarks/speed.py                 10 s and 60 min; some 15 minutes on two cores
    python benchmarks/speed.py --minutes 5     10 s and 5 min

The rivals are WPE (nara_wpe, 10 taps, delay 3, 3 iterations, in blocks of 30 s) for dereverberation, and plain FFT
convolution with a given response for reverberation. Every case runs in a process of its own, on a file of noise in
speech-like bursts, at 16 kHz mono. Memory is the process's peak resident set, Python and torch included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import soundfile

RATE = 16_000


def write_noise(path: Path, seconds: int) -> None:
    """A file of noise bursts, written in blocks."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(seconds):
            file.write(0.1 * rng.standard_normal(RATE) * (np.sin(np.arange(RATE) / 800) > 0))


def run_ours(name: str, source: Path, output: Path, steps: int | None) -> None:
    """One of the shipped converters, with a photo."""
    from mvsd.converter import load
    from mvsd.example import SAMPLES
    from mvsd.files import convert_file
    from mvsd.scene import Scene

    convert_file(load(name), source, output, Scene.open(SAMPLES / "living-room.jpg"), steps=steps, force=True)


def run_wpe(source: Path, output: Path) -> None:
    """nara_wpe in blocks of 30 s, as a user would who has little memory."""
    from nara_wpe.utils import istft, stft
    from nara_wpe.wpe import wpe

    with soundfile.SoundFile(source) as file, soundfile.SoundFile(output, "w", RATE, 1, "PCM_16") as out:
        for block in file.blocks(30 * RATE, dtype="float64"):
            spectrum = stft(block[None], size=512, shift=128).transpose(2, 0, 1)
            estimate = wpe(spectrum, taps=10, delay=3, iterations=3).transpose(1, 2, 0)
            out.write(istft(estimate, size=512, shift=128)[0, : len(block)])


def run_convolution(source: Path, output: Path) -> None:
    """Overlap-add with a response of 1.5 s that is given."""
    from mvsd.streaming import convolve_blocks

    rir = np.random.default_rng(0).standard_normal(24_576) * np.exp(-np.arange(24_576) / 2000)
    with soundfile.SoundFile(source) as file, soundfile.SoundFile(output, "w", RATE, 1, "PCM_16") as out:
        for block in convolve_blocks((b[None] for b in file.blocks(10 * RATE, dtype="float32")), rir):
            out.write(0.1 * block[0])


def run_case(name: str, seconds: int, steps: int | None) -> dict[str, float]:
    """Run one case in this process; its time does not count start-up and imports of torch."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in.wav", Path(folder) / "out.wav"
        write_noise(source, seconds)
        if name == "wpe":
            import nara_wpe.wpe as _

            started = perf_counter()
            run_wpe(source, output)
        elif name == "convolution":
            import mvsd.streaming as _

            started = perf_counter()
            run_convolution(source, output)
        else:
            import mvsd.converter as _  # noqa: F401

            started = perf_counter()
            run_ours(name, source, output, steps)
        elapsed = perf_counter() - started
        if soundfile.info(output).frames != seconds * RATE:
            raise RuntimeError(f"{name} wrote {soundfile.info(output).frames} samples, not {seconds * RATE}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024 if sys.platform != "darwin" else 1024**2
    )
    return {"real_time_factor": elapsed / seconds, "seconds": elapsed, "peak_mb": peak}


def main() -> None:
    """Run every case and print a table, ratios to the rival included."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--case", nargs=2, metavar=("NAME", "SECONDS"), help="run one case and print JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case[0], int(options.case[1]), options.steps)))
        return
    steps = ["--steps", str(options.steps)] if options.steps else []
    print(f"{'':16} {'length':>8} {'real-time factor':>17} {'peak MB':>8} {'x rival':>8}")
    for ours, rival in (("dereverberator", "wpe"), ("reverberator", "convolution")):
        for seconds in (10, round(60 * options.minutes)):
            figures = {}
            for name in (ours, rival):
                command = [sys.executable, __file__, "--case", name, str(seconds), *steps]
                figures[name] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for name, row in figures.items():
                ratio = row["seconds"] / figures[rival]["seconds"]
                print(
                    f"{name:16} {seconds:>6} s {row['real_time_factor']:17.4f} {row['peak_mb']:8.0f} {ratio:8.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
