"""Small data sets in the formats of the two published benchmarks, written without any of the readers' code.

As a program it makes them of simulated rooms and of speech, to try an evaluation on:

    python tests/benchmark_fixtures.py --rooms data/rooms/test --speech DIR --out fixtures
"""

from __future__ import annotations

import argparse
import io
import pickle
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from PIL import Image
from scipy.io import wavfile
from scipy.signal import fftconvolve

RATE = 16_000


class Room(NamedTuple):
    """rir (R,) with the direct sound as 1 at sample 0; image (H, W, 3) uint8; depth (H, W) metres."""

    rir: np.ndarray
    image: np.ndarray
    depth: np.ndarray


def synthetic_room(seed: int, *, height: int = 48, width: int = 144, rt60: float = 0.4) -> Room:
    """Decaying noise after a direct sound, and a picture of stripes."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(rt60 * RATE)) / RATE
    rir = 0.2 * generator.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    rir[0] = 1.0
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Room(rir.clip(-1, 1), image, generator.uniform(1.5, 8.0, (height, width)))


def synthetic_voice(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Bursts of low-pass noise, softly at first so that the peak lies late."""
    generator = np.random.default_rng(seed)
    noise = np.convolve(generator.standard_normal(int(seconds * RATE)), np.hanning(12), mode="same")
    bursts = np.repeat(generator.uniform(0, 1, int(seconds * 8) + 1), RATE // 8)[: len(noise)]
    voice = noise * bursts * np.linspace(0.1, 1.0, len(noise))
    voice[int(0.95 * len(voice))] = 1.5 * np.abs(voice).max()
    return 0.5 * voice / np.abs(voice).max()


def soundspaces_record(
    room: Room, voice: np.ndarray, *, in_view: bool = True, gain: float = 0.3, num_views: int = 18
) -> dict[str, Any]:
    """What one published pickle holds; `gain` is that of the direct sound."""
    rir = (gain * room.rir).astype(np.float32)
    semantic = np.full(room.depth.shape, 3, dtype=np.int32)
    semantic[:10, : 5 if in_view else 4] = 41  # 50 pixels are enough, 40 are not
    wet = fftconvolve(voice, rir.astype(np.float64))[: len(voice)]
    return {
        "receiver_audio": wet.astype(np.float32),
        "source_audio": voice.astype(np.float32),
        "rir": np.pad(rir, (0, 100)),
        "rgb": np.split(room.image, num_views, axis=1),
        "depth": np.split(room.depth.astype(np.float32), num_views, axis=1),
        "semantic": np.split(semantic, num_views, axis=1),
        "location": np.array([1.0, -2.0, 3.0]),
        "geodesic_distance": np.float64(2.5),
    }


def write_soundspaces(
    folder: Path, utterances: Mapping[str, Mapping[str, dict[str, Any]]], *, protocol: int = 4
) -> None:
    """Write split -> "scene/utterance" -> record as ``<split>/<scene>/<utterance>.pkl``."""
    for split, records in utterances.items():
        for name, record in records.items():
            path = folder / split / f"{name}.pkl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(record, protocol))


def write_soundspaces_metadata(folder: Path, split: str, transcripts: Mapping[str, str]) -> None:
    """Write "scene/utterance" -> words as ``metadata/<split>/<scene>.pkl``."""
    scenes: dict[str, list[dict[str, Any]]] = {}
    for name, words in transcripts.items():
        scene, utterance = name.split("/")
        chapter = utterance.rsplit("-", 1)[0]
        line = f"{utterance},3.0,/LibriSpeech/{utterance}.flac,{chapter},{words}"
        entry = {"sound": line.split(" "), "location": np.array([1.0, 2.0])}
        scenes.setdefault(scene, []).append(entry)
    for scene, entries in scenes.items():
        path = folder / "metadata" / split / f"{scene}.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(entries))


def write_avspeech(
    folder: Path, clips: Sequence[tuple[str, Room, np.ndarray]], rirs: Sequence[np.ndarray]
) -> None:
    """Write (name, room, recording) as ``img/<name>.png`` and ``audio/<name>.wav``, and the other rooms' responses."""
    for part in ("img", "audio"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    frames = dict[int, bytes]()
    for name, room, recording in clips:
        if id(room) not in frames:
            buffer = io.BytesIO()
            Image.fromarray(room.image).resize((320, 180)).convert("RGBA").save(buffer, "PNG")
            frames[id(room)] = buffer.getvalue()
        (folder / "img" / f"{name}.png").write_bytes(frames[id(room)])
        levels = (recording / max(1.0, np.abs(recording).max()) * 32767).astype(np.int16)
        wavfile.write(folder / "audio" / f"{name}.wav", RATE, levels)
    shuffled = {split: [rir.astype(np.float32) for rir in rirs] for split in ("train", "val", "test-unseen")}
    (folder / "random_rir.pkl").write_bytes(pickle.dumps(shuffled))


def write_folder(folder: Path) -> None:
    """Write one name of every role, and one with a recording only, which is stereo at another rate."""
    for role in ("reverberant", "anechoic", "rir", "image", "transcript"):
        (folder / role).mkdir(parents=True)
    voice, room = synthetic_voice(0, 1.0), synthetic_room(0)
    delayed = np.concatenate([np.zeros(80), -0.5 * room.rir])
    soundfile.write(folder / "anechoic" / "p1_take.wav", voice, 16_000, subtype="FLOAT")
    soundfile.write(
        folder / "reverberant" / "p1_take.flac", fftconvolve(voice, room.rir)[:20_000] / 4, 16_000
    )
    soundfile.write(folder / "rir" / "p1_take.wav", delayed, 16_000, subtype="FLOAT")
    Image.fromarray(room.image).save(folder / "image" / "p1_take.png")
    (folder / "transcript" / "p1_take.txt").write_text("some\n words ")
    stereo = np.stack([voice, voice / 2], axis=1)
    soundfile.write(
        folder / "reverberant" / "p2 other.wav", np.repeat(stereo, 3, axis=0), 48_000, subtype="FLOAT"
    )


def main() -> None:
    from mvsd.data.shards import Shards
    from mvsd.data.speech import SUFFIXES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", type=Path, required=True, help="shards of mvsd simulate")
    parser.add_argument("--speech", type=Path, required=True, help="folder of dry speech, 16 kHz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=20, help="in the test split of each benchmark")
    options = parser.parse_args()
    files = sorted(path for path in options.speech.rglob("*") if path.suffix.lower() in SUFFIXES)
    random.Random(0).shuffle(files)
    voices = [soundfile.read(path)[0] for path in files[: options.clips]]
    shards = Shards(options.rooms)
    rooms = []
    for example in shards[: options.clips]:
        size = (1152, 384)
        image = np.asarray(Image.fromarray(example.scene.image).resize(size))
        depth = np.asarray(Image.fromarray(example.scene.depth).resize(size))
        rooms.append(Room(example.rir.astype(np.float64), image, depth))
    pairs = list(zip(rooms, voices, strict=True))
    records = {
        f"home{number:02d}/{100 + number}-1-{number:04d}": soundspaces_record(room, voice)
        for number, (room, voice) in enumerate(pairs)
    }
    write_soundspaces(options.out / "soundspaces", {"test-unseen": records})
    # A split is a share of the whole, so all of it is written; only the last 2.5 % need be real.
    filler = [(f"a{number:06d}", rooms[0], voices[0][:100]) for number in range(39 * options.clips)]
    real = [
        (f"z{number:06d}", room, fftconvolve(voice, room.rir)[: len(voice)])
        for number, (room, voice) in enumerate(pairs)
    ]
    write_avspeech(options.out / "avspeech", [*filler, *real], [room.rir for room in rooms[::-1]])


if __name__ == "__main__":
    main()
