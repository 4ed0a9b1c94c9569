"""What --check finds: fit of the words and similarity of the voice for good and for damaged conversions.

    mvsd simulate --rooms 64 --out data/rooms/validation --split validation
    python benchmarks/check.py --rooms data/rooms/validation --speech DIR         # needs: pip install ".[asr]"

In the damaged results a share of the quarters of a second is replaced by another speaker's. Prints each clip, then how
many a threshold would warn of.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from mvsd.acoustics import convolve, decay_time, drr_db
from mvsd.check import LEAST_FIT, LEAST_SIMILARITY, compare_words, levelled, voice_similarity
from mvsd.converter import SAMPLE_RATE, load
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
from mvsd.errors import MvsdError

SPEAKERS = ("librispeech-train-clean-100/*9/*",)
NUM_SAMPLES = 8 * SAMPLE_RATE
SHARES = (0.1, 0.2, 0.3)


def damaged(clip: np.ndarray, other: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A clip of which a share of the quarters of a second is another's."""
    pieces = clip.reshape(-1, SAMPLE_RATE // 4).copy()
    chosen = np.random.default_rng(seed).permutation(len(pieces))[: round(share * len(pieces))]
    pieces[chosen] = other.reshape(pieces.shape)[chosen]
    return pieces.ravel()


def clip(index: int, speech: Speech) -> np.ndarray:
    """The first seconds of some utterance."""
    voices = np.flatnonzero(speech.lengths >= NUM_SAMPLES)
    voice = speech.utterance(int(voices[np.random.default_rng(index).integers(len(voices))]))[:NUM_SAMPLES]
    return np.asarray(levelled(voice), np.float32)


def main() -> None:
    """Print a line per clip, then the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", required=True)
    parser.add_argument("--speech", required=True)
    parser.add_argument("--cache", default="data/cache")
    parser.add_argument("--model", default="dereverberator")
    parser.add_argument("--clips", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rooms, speech = (
        Shards([options.rooms]),
        Speech(options.speech, options.cache, SPEAKERS, only_holdout=True),
    )
    dereverberator = load(options.model)
    fits: dict[str, list[float]] = {}
    voices: dict[str, list[float]] = {}
    for index in range(options.clips):
        rir = rooms[index].rir
        assert rir is not None
        dry, other = clip(index, speech), clip(index + 1000, speech)
        wet, other_wet = (np.asarray(levelled(convolve(voice, rir)[:NUM_SAMPLES])) for voice in (dry, other))
        out = np.asarray(levelled(dereverberator.convert(wet, SAMPLE_RATE, rooms[index].scene, seed=index)))
        other_out = np.asarray(levelled(dereverberator.convert(other_wet, SAMPLE_RATE, seed=index)))
        cases = {
            "into the room, true": (dry, wet),
            "out of the room, true": (wet, dry),
            "out of the room, model": (wet, out),
            "another voice": (wet, other_out),
        }
        for share in SHARES:
            cases[f"into, {share:.0%} damaged"] = (dry, damaged(wet, other_wet, share, index))
            cases[f"out of, {share:.0%} damaged"] = (wet, damaged(out, other_out, share, index))
        for name, (source, estimate) in cases.items():
            fit = compare_words(source, levelled(estimate))
            fits.setdefault(name, []).append(np.nan if fit is None else fit)
            try:
                voices.setdefault(name, []).append(voice_similarity(source, estimate))
            except MvsdError:
                pass
        told = ", ".join(f"{name} {values[-1]:.2f}" for name, values in fits.items())
        print(
            f"{index}: T20 {decay_time(rir, SAMPLE_RATE):.2f} s, DRR {drr_db(rir, SAMPLE_RATE):.1f} dB: {told}",
            flush=True,
        )
    for name, values in fits.items():
        similar = voices.get(name, [])
        known = [value for value in values if not np.isnan(value)]  # words were heard
        print(
            f"{name:26} fit {np.median(known):6.2f} ({min(known):.2f} to {max(known):.2f}), warned of "
            f"{sum(value < LEAST_FIT for value in known)} of {len(known)};  voice "
            f"{np.median(similar) if similar else np.nan:.2f}, warned of "
            f"{sum(value < LEAST_SIMILARITY for value in similar)} of {len(similar)}"
        )


if __name__ == "__main__":
    main()
