"""Acoustic AVSpeech as published: video frames, their sound, and responses of other rooms.

    <folder>/img/<name>.png         one frame of a clip
    <folder>/audio/<name>.wav       its sound, 16 kHz
    <folder>/random_rir.pkl         split -> responses

Web videos have no dry version. What a reverberator is to bring into the frame's room is therefore built (Chen et
al., "Visual acoustic matching", CVPR 2022): the room is taken out by a dereverberator, a random other room put in,
noise added. The reverberant recording is the target, and only what needs no true source can be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mvsd.acoustics import convolve
from mvsd.data.example import Example, Examples, key_of
from mvsd.data.folders import load_mono
from mvsd.data.protocols import SAMPLE_RATE, ProtocolName, apply_protocol, require_protocol
from mvsd.data.unpickle import load_pickle
from mvsd.errors import DataError
from mvsd.scene import Scene

SPLITS = ("train", "val", "test-seen", "test-unseen")
MAX_RIR_BYTES = 2**33
SNR_DB = (2.0, 10.0)
NOISE_DECAY = (-2.0, 2.0)  # violet to brown; the range of torch-audiomentations, which the reference uses

_Array = NDArray[np.float32]


class Dereverberator(Protocol):
    """Whatever takes the room out of a recording; every converter does."""

    def convert(self, waveform: NDArray[Any], sample_rate: int, scene: Scene | None = None) -> NDArray[Any]:
        """(T,) -> (T,)."""
        ...


class AcousticAVSpeech(Examples):
    """The examples of one split in the published order; files are opened when their example is asked for.

    Without a dereverberator an example has the recording and the frame only. With one, ``anechoic`` is the built
    source, which is not dry: ``metadata["source"]`` says how it was made.

    Attributes:
        paths: of the frames.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        *,
        dereverberator: Dereverberator | None = None,
        protocol: ProtocolName = "full",
        seed: int = 0,
        limit: int | None = None,
    ) -> None:
        """Find the files of a split.

        Args:
            folder: the one with ``img`` and ``audio``.
            split: one of `SPLITS`.
            dereverberator: builds the source; the published one is an audio-only VIDA, so it sees no frame.
            protocol: "first-2.56s" builds the source from the first 2.56 s, as published.
            seed: of noise and polarity; an example depends on it and on its place in the split only.
            limit: stop after that many.

        Raises:
            DataError: the split is empty, or there are no responses to build a source with.
        """
        require_protocol(protocol)
        self.folder, self.split = Path(folder), split
        self.dereverberator, self.protocol, self.seed = dereverberator, protocol, seed
        self.paths = split_files(frames(self.folder), split)[:limit]
        if not self.paths:
            raise DataError(
                f"{self.folder}: split {split} is empty; the whole data set is needed to split it"
            )
        self._rirs = [] if dereverberator is None else load_rirs(self.folder, split)

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Example:
        """Read a frame and what was recorded with it, and build the source if there is a dereverberator."""
        frame = self.paths[index]
        recording = load_mono(sound_of(frame))
        key = key_of(frame.stem)
        metadata = {"dataset": "Acoustic AVSpeech", "split": self.split, "name": frame.stem}
        example = Example(key, Scene.open(frame), reverberant=recording, metadata=metadata)
        return self._with_source(apply_protocol(example, self.protocol), index)

    def _with_source(self, example: Example, number: int) -> Example:
        if self.dereverberator is None or example.reverberant is None:
            return example
        dry = self.dereverberator.convert(example.reverberant, SAMPLE_RATE)
        source, facts = build_source(dry, self._rirs[number % len(self._rirs)], seed=[self.seed, number])
        return replace(example, anechoic=source, metadata={**example.metadata, "source": facts})


def frames(folder: Path) -> list[Path]:
    """The frames in the order of their names as strings, which decides the splits."""
    if not (folder / "img").is_dir() or not (folder / "audio").is_dir():
        raise DataError(f"{folder} has no img and audio folders; is it Acoustic AVSpeech, unpacked?")
    found = (path for path in (folder / "img").iterdir() if path.suffix == ".png" and path.name[0] != ".")
    return sorted(found, key=lambda path: path.name)


def sound_of(frame: Path) -> Path:
    """The recording that belongs to a frame."""
    return frame.parent.parent / "audio" / f"{frame.stem}.wav"


def split_files(files: Sequence[Path], split: str) -> list[Path]:
    """Files of a split: train the first 95 %, then val, then test-unseen; test-seen the first 2.5 % again.

    The reference skips one file before val and one before test-unseen, and so do we. Its test-seen are training
    clips.
    """
    num_files = len(files)
    train, val = int(num_files * 0.95), int(num_files * 0.975)
    ranges = {
        "train": slice(0, train),
        "val": slice(train + 1, val),
        "test-seen": slice(0, int(num_files * 0.025)),
        "test-unseen": slice(val + 1, None),
    }
    if split not in ranges:
        raise DataError(f"Acoustic AVSpeech has no split {split!r}; choose one of {', '.join(SPLITS)}")
    return list(files[ranges[split]])


def load_rirs(folder: Path, split: str) -> list[_Array]:
    """The responses (R,) of a split; test-seen has those of train.

    Raises:
        DataError: ``random_rir.pkl`` is missing or holds something else.
    """
    path, name = folder / "random_rir.pkl", "train" if split == "test-seen" else split
    splits = load_pickle(path, max_bytes=MAX_RIR_BYTES)
    rirs = splits.get(name, splits.get(name.removesuffix("-unseen"))) if isinstance(splits, dict) else None
    if not isinstance(rirs, (list, tuple)) or not rirs:
        raise DataError(f"{path} has no responses for {name}; wanted is a dictionary from split to a list")
    for rir in rirs:
        is_signal = isinstance(rir, np.ndarray) and rir.ndim == 1 and rir.dtype.kind == "f" and len(rir)
        if not is_signal or not np.abs(rir).max() < 2.0**16:
            raise DataError(f"{path}: a response of {name} is not an array (R,) of finite floats")
    return list(rirs)


def build_source(
    dry: NDArray[Any], rir: NDArray[Any], *, seed: int | Sequence[int]
) -> tuple[_Array, dict[str, Any]]:
    """Put a dry voice into another room, with noise: (T,), (R,) -> (T,) and how it was made.

    Convolution cut to T, divided by its peak, plus coloured noise at 2 to 10 dB below the voice, of random
    polarity; a pure function of its arguments.
    """
    generator = np.random.default_rng(seed)
    snr_db, decay = generator.uniform(*SNR_DB), generator.uniform(*NOISE_DECAY)
    polarity = -1.0 if generator.random() < 0.5 else 1.0
    wet = convolve(dry, rir)[: len(dry)]
    peak = np.abs(wet).max(initial=0.0)
    wet = wet / peak if peak > 0 else wet
    noise = coloured_noise(len(wet), decay, generator)
    level = np.sqrt(np.mean(np.square(wet, dtype=np.float64))) * 10 ** (-snr_db / 20)
    source = polarity * (wet + level * noise)
    facts = {"snr_db": float(snr_db), "noise_decay": float(decay), "polarity": polarity}
    return source.astype(np.float32), facts


def coloured_noise(num_samples: int, decay: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Noise (T,) of unit power whose amplitude at f Hz goes as (1 + (sqrt(8000) - 1) f / 8000) ** -decay.

    The weight of torch-audiomentations' AddColoredNoise at 16 kHz: white for 0, about brown for 2, violet for -2.
    """
    spectrum = np.fft.rfft(generator.standard_normal(num_samples))
    spectrum *= np.linspace(1.0, np.sqrt(SAMPLE_RATE / 2), len(spectrum)) ** -decay
    noise = np.fft.irfft(spectrum, num_samples)
    power = np.mean(np.square(noise))
    return np.asarray(noise / np.sqrt(power) if power > 0 else noise)
