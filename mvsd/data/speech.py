"""A folder of speech as one long memory-mapped recording, with crops that are functions of an integer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy import fft

from mvsd.audio import load_audio, resample
from mvsd.errors import AudioFileError, DataError
from mvsd.recordings import files_below
from mvsd.whole_file import whole_file

SAMPLE_RATE = 16_000
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")

_CACHE_VERSION = 2
_FULL_SCALE = 32_767
_PAUSE_DB = -15.0  # a crop this far below its utterance is mostly a pause
_SILENCE = 1e-3  # RMS below which a crop is silent whatever its utterance
_TRIES = 20


class Speech:
    """All sound files below a folder at 16 kHz mono, decoded once into an int16 cache.

    Attributes:
        paths: of the utterances, relative to the folder, sorted, with ``/``.
        lengths: (num_utterances,) samples of each.
    """

    def __init__(
        self,
        folder: str | Path,
        cache: str | Path,
        holdout: Sequence[str] = (),
        only_holdout: bool = False,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Decode the folder into ``cache`` unless the same files are there already.

        Args:
            folder: searched recursively for wav, flac, ogg, opus and mp3.
            cache: folder of the cache, about 115 MB per hour of speech; safe to delete.
            holdout: globs on relative paths, where ``*`` also matches ``/``; those files are left out ... In
                LibriSpeech's own layout the chapter's folder counts only for a glob that has as many folders.
            only_holdout: ... or are the only ones kept.
            weights: glob -> factor on the chance that a crop comes from these files; the last match counts.

        Raises:
            DataError: the folder holds no sound, or a file cannot be decoded.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder; wanted is a folder of speech files")
        self.paths = _find_files(self.folder, holdout, only_holdout)
        if not self.paths and only_holdout:
            raise DataError(
                f"no sound file in {self.folder} matches {' '.join(holdout)}; give globs of some that are"
            )
        if not self.paths:
            raise DataError(f"no speech left in {self.folder}; wanted are {', '.join(SUFFIXES)} files")
        data, index = _cache_paths(self.folder, Path(cache), self.paths)
        if not (index.exists() and data.exists()):
            _build_cache(self.folder, self.paths, data, index)
        facts = json.loads(index.read_text())
        self.lengths = np.array(facts["lengths"], dtype=np.int64)
        self._rms = np.array(facts["rms"])
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self._samples = np.memmap(data, dtype=np.int16, mode="r")
        if len(self._samples) != self._starts[-1]:
            raise DataError(
                f"{data} has {len(self._samples)} samples, not {self._starts[-1]}; delete {index}"
            )
        chances = self.lengths * [_weight(path, weights or {}) for path in self.paths]
        if not chances.sum() > 0:
            raise DataError(f"the weights leave no speech in {self.folder}; give some file a positive weight")
        self._cumulative_chances = np.cumsum(chances) / chances.sum()

    def __len__(self) -> int:
        return len(self.paths)

    def utterance(self, index: int) -> np.ndarray:
        """(T,) float32, a whole file."""
        return self._read(index, 0, int(self.lengths[index]))

    def speaker(self, index: int) -> str:
        """The folder of the file, which in most corpora is the speaker; in LibriSpeech's own layout the one above."""
        return _speaker(self.paths[index])

    def crop(self, seed: int, num_samples: int, context: int = 0) -> np.ndarray:
        """Draw a crop that is not a pause, uniformly over time.

        The crop lies in one utterance; what the utterance does not cover is zero.

        Returns:
            (context + num_samples,) float32: the crop, after ``context`` samples of what was said before.
        """
        generator = np.random.default_rng(seed)
        best, best_rms = np.zeros(context + num_samples, dtype=np.float32), -1.0
        for _ in range(_TRIES):
            index = int(np.searchsorted(self._cumulative_chances, generator.random(), side="right"))
            spare = int(self.lengths[index]) - num_samples
            start = int(generator.integers(min(spare, 0), max(spare, 0), endpoint=True))
            piece = self._read(index, start - context, start + num_samples)
            rms = float(np.sqrt(np.mean(np.square(piece[context:]))))
            if rms > max(_SILENCE, self._rms[index] * 10 ** (_PAUSE_DB / 20)):
                return piece
            if rms > best_rms:
                best, best_rms = piece, rms
        return best

    def _read(self, index: int, start: int, stop: int) -> np.ndarray:
        first, length = int(self._starts[index]), int(self.lengths[index])
        piece = np.zeros(stop - start, dtype=np.float32)
        inside = slice(max(start, 0), min(stop, length))
        if inside.start < inside.stop:
            samples = self._samples[first + inside.start : first + inside.stop]
            np.divide(samples, _FULL_SCALE, out=piece[inside.start - start : inside.stop - start])
        return piece


def _find_files(folder: Path, holdout: Sequence[str], only_holdout: bool) -> list[str]:
    files = (path for path in files_below(folder) if path.suffix.lower() in SUFFIXES and path.is_file())
    relative = sorted(path.relative_to(folder).as_posix() for path in files)
    return [path for path in relative if any(_matches(path, glob) for glob in holdout) == only_holdout]


def _speaker(path: str) -> str:
    """The folder of a file; in LibriSpeech's own layout, speaker/chapter/speaker-chapter-number, the one above."""
    folder = PurePosixPath(path).parent
    is_chapter = PurePosixPath(path).name.startswith(f"{folder.parent.name}-{folder.name}-")
    return str(folder.parent if is_chapter else folder)


def _matches(path: str, glob: str) -> bool:
    """Without the chapter, unless the glob has as many folders: who is held out is so with all that they say."""
    is_whole = glob.count("/") >= path.count("/")
    return fnmatchcase(
        path if is_whole else str(PurePosixPath(_speaker(path), PurePosixPath(path).name)), glob
    )


def _weight(path: str, weights: Mapping[str, float]) -> float:
    matches = [weight for glob, weight in weights.items() if _matches(path, glob)]
    return matches[-1] if matches else 1.0


def _cache_paths(folder: Path, cache: Path, paths: list[str]) -> tuple[Path, Path]:
    """Name the cache after what it was made of, so that other files, or the same after a change, find no cache."""
    status = [(folder / path).stat() for path in paths]
    files = [(path, found.st_size, found.st_mtime_ns) for path, found in zip(paths, status, strict=True)]
    facts = [_CACHE_VERSION, SAMPLE_RATE, files]
    fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return cache / f"speech-{fingerprint}.int16", cache / f"speech-{fingerprint}.json"


def _build_cache(folder: Path, paths: list[str], data: Path, index: Path) -> None:
    data.parent.mkdir(parents=True, exist_ok=True)
    lengths, levels = list[int](), list[float]()
    console = Console(stderr=True)
    with whole_file(data, DataError) as temporary, temporary.open("wb") as file:
        for path in track(paths, f"Decoding {folder.name}", console=console, disable=not console.is_terminal):
            samples = _decode(folder / path)
            samples.tofile(file)
            lengths.append(len(samples))
            levels.append(float(np.sqrt(np.mean(np.square(samples / _FULL_SCALE)))))
    with whole_file(index, DataError) as temporary:
        temporary.write_text(json.dumps({"lengths": lengths, "rms": levels, "paths": paths}))


def _decode(path: Path) -> np.ndarray:
    try:
        waveform, sample_rate = load_audio(path)
    except AudioFileError as error:
        raise DataError(f"{error} (in a folder of speech; remove it or hold it out)") from error
    mono = resample(waveform.mean(axis=0, keepdims=True), sample_rate, SAMPLE_RATE)[0]
    peak = max(float(np.abs(mono).max(initial=0.0)), 1.0)
    return np.asarray(np.rint(mono / peak * _FULL_SCALE), dtype=np.int16)


def coloured_noise(num_samples: int, generator: np.random.Generator) -> np.ndarray:
    """Noise (T,) of RMS 1, whose power falls by 0 to 9 dB per octave."""
    spectrum = fft.rfft(generator.standard_normal(num_samples).astype(np.float32))
    frequencies = np.arange(1, len(spectrum) + 1, dtype=np.float32)
    noise = fft.irfft(spectrum * frequencies ** -generator.uniform(0, 1.5), num_samples)
    return np.asarray(noise / np.sqrt(np.mean(np.square(noise))), dtype=np.float32)
