"""Training batches: voices x rooms, paired or not; a row is a pure function of (seed, batch number, row)."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from scipy import fft

from mvsd.config import require_not_negative, require_positive, require_shares
from mvsd.data.batch import COUNTS, Batch, rows_of_process
from mvsd.data.scenes import SceneConfig, Scenes
from mvsd.data.shards import Shards
from mvsd.data.speech import SAMPLE_RATE, Speech, coloured_noise
from mvsd.errors import ConfigError, DataError
from mvsd.recordings import files_below
from mvsd.scene import PHOTO_SUFFIXES, Scene

_UNTRAINED = 2**62  # a batch number that no run reaches


@dataclass(frozen=True)
class DataConfig:
    """Which data, and how it is mixed.

    Attributes:
        speech: folder of dry speech.
        speech_holdout: globs on paths below it that training never hears.
        speech_weights: glob -> factor on how often those files are drawn; the last match counts, so that a
            configuration has the last word on what it extends.
        cache: folder for the decoded speech.
        rooms: shards, or folders of shards, with scene and rir.
        unpaired_rooms: for reverberant-only rows, shards with scene and either a recording made there (reverberant),
            or a rir, which is withheld; empty: ``rooms``.
        validation_rooms: rooms that only validation sees, with the held-out voices; empty: no validation.
        photos: folder of photos without sound, added to the scenes of anechoic-only rows; empty: none.
        num_samples: T, length of a crop at 16 kHz.
        rir_samples: R, length of a response; longer ones are cut, shorter ones padded.
        num_paired: rows of a batch with everything.
        num_reverberant: rows with a reverberant recording and its scene only.
        num_anechoic: rows with a dry recording and any scene only.
        warmup_rows: rows of an all-paired warm-up batch; 0: as many as the three kinds together.
        dry_share: share of the paired rows from which the room is taken away, so that a dereverberator learns to leave
            dry speech alone; 0 where a reverberator learns, which would believe it.
        room_gain_db: range of a gain on the room, so that a dereverberator hears near and far voices in each; [0, 0]
            where a reverberator learns, as for ``dry_share``.
        timbre_db: standard deviation of a random equaliser, per octave, through which dry and reverberant voice are
            heard alike; 0: none.
        band_limit_share: share of the crops that such a microphone ends between 3.5 and 7.5 kHz.
        noise_share: share of the crops to both sides of which the same noise is added, so that it is left alone.
        noise_db: range of that noise's level, dB relative to the reverberant voice.
        cut_share: share of the paired rows that break off on both sides alike, as edited recordings do, so that a room
            which ends in the middle of its decay is not taken for none; what noise is added goes on.
        level_db: range of the RMS level of a dry crop, dB of full scale.
        scenes: what chance does to the photos.
        num_workers: threads that prepare batches ahead; the batches do not depend on it.
    """

    speech: str = ""
    speech_holdout: tuple[str, ...] = ()
    speech_weights: Mapping[str, float] = field(default_factory=dict)
    cache: str = "cache"
    rooms: tuple[str, ...] = ()
    unpaired_rooms: tuple[str, ...] = ()
    validation_rooms: tuple[str, ...] = ()
    photos: str = ""
    num_samples: int = 40_960
    rir_samples: int = 24_576
    num_paired: int = 8
    num_reverberant: int = 4
    num_anechoic: int = 4
    warmup_rows: int = 0
    dry_share: float = 0.0
    room_gain_db: tuple[float, float] = (0.0, 0.0)
    timbre_db: float = 0.0
    band_limit_share: float = 0.0
    noise_share: float = 0.0
    noise_db: tuple[float, float] = (-50.0, -20.0)
    cut_share: float = 0.0
    level_db: tuple[float, float] = (-35.0, -17.0)
    scenes: SceneConfig = field(default_factory=SceneConfig)
    num_workers: int = 1

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        names = (*COUNTS, "warmup_rows", "timbre_db")
        require_not_negative("data", {name: getattr(self, name) for name in names})
        require_not_negative("data.speech_weights", self.speech_weights)
        sizes = ("num_samples", "rir_samples", "num_workers")
        require_positive("data", {name: getattr(self, name) for name in sizes})
        if self.num_paired + self.num_reverberant + self.num_anechoic < 1:
            raise ConfigError("a batch has no rows; set data.num_paired, num_reverberant or num_anechoic")
        shares = ("dry_share", "band_limit_share", "noise_share", "cut_share")
        require_shares("data", {name: getattr(self, name) for name in shares})
        for name in ("level_db", "room_gain_db", "noise_db"):
            if getattr(self, name)[0] > getattr(self, name)[1]:
                raise ConfigError(f"data.{name} is {list(getattr(self, name))}; wanted is [lowest, highest]")


class Rooms:
    """Scenes and responses of some shards, decoded once: about 0.2 MB a room, 0.6 MB at scale 2.

    Attributes:
        keys: of the rooms.
        rirs: (num_rooms, R); zero where there is none.
        recordings: index -> (T,), what was recorded there; unpaired rooms prefer it to a rir.
    """

    def __init__(self, shards: Shards, config: DataConfig, *, paired: bool = True) -> None:
        """Decode.

        Raises:
            DataError: a room has no scene or no sound that serves, or another sample rate.
        """
        self.keys = shards.keys
        self.rirs = np.zeros((len(shards), config.rir_samples), dtype=np.float16)
        self.recordings: dict[int, np.ndarray] = {}
        self.scenes = Scenes(self._decode(shards, paired), config.scenes.scale)

    def _decode(self, shards: Shards, paired: bool) -> Iterator[Scene]:
        sounds = ("rir",) if paired else ("rir", "reverberant")
        for index in range(len(shards)):
            example = shards.load(index, ("scene", *sounds))
            recording = None if paired else example.reverberant
            has_sound = example.rir is not None or recording is not None
            if example.scene is None or not has_sound or example.sample_rate != SAMPLE_RATE:
                raise DataError(
                    f"{example.key} is no room for training: wanted are scene and {' or '.join(sounds)}, "
                    f"{SAMPLE_RATE} Hz"
                )
            if recording is not None:
                self.recordings[index] = recording
            if example.rir is None:
                yield example.scene
                continue
            if abs(example.rir[0] - 1.0) > 1e-3:
                raise DataError(
                    f"rir of {example.key} starts with {example.rir[0]:.3g}; wanted is the direct sound as 1"
                )
            rir = example.rir[: self.rirs.shape[1]]
            self.rirs[index, : len(rir)] = rir
            yield example.scene


class Mixer:
    """Batches of voices in rooms by number."""

    def __init__(
        self,
        speech: Speech,
        rooms: Shards,
        unpaired_rooms: Shards | None,
        photos: Iterable[Scene] | None,
        config: DataConfig,
        *,
        seed: int = 0,
        paired_batches: int = 0,
    ) -> None:
        """Keep all rooms in memory; the first ``paired_batches`` batches hold paired rows only."""
        self.config, self.seed, self.paired_batches = config, seed, paired_batches
        self._speech = speech
        self._rooms = Rooms(rooms, config)
        self._unpaired = self._rooms
        if unpaired_rooms:
            self._unpaired = Rooms(unpaired_rooms, config, paired=False)
        self._photos = Scenes(photos or (), config.scenes.scale)
        self._scenes = [self._rooms.scenes, self._photos]
        if unpaired_rooms:
            self._scenes.append(self._unpaired.scenes)

    def counts(self, number: int) -> tuple[int, int, int]:
        """Rows of batch ``number``: paired, reverberant only, anechoic only."""
        config = self.config
        rows = (config.num_paired, config.num_reverberant, config.num_anechoic)
        return (config.warmup_rows or sum(rows), 0, 0) if number < self.paired_batches else rows

    def contents(self) -> dict[str, str]:
        """How many of each kind there are to draw from, and a digest of their names, which photos have not.

        With others, another batch has the same number.
        """
        rooms = {"data.rooms": self._rooms.keys}
        if self._unpaired is not self._rooms:
            rooms["data.unpaired_rooms"] = self._unpaired.keys
        photos = {"data.photos": [""] * len(self._photos)} if len(self._photos) else {}
        return {
            name: f"{len(names)} ({hashlib.sha256(json.dumps(names).encode()).hexdigest()[:8]})"
            for name, names in {"data.speech": self._speech.paths, **rooms, **photos}.items()
        }

    def batch(self, number: int, rank: int = 0, num_processes: int = 1) -> Batch:
        """Make the share of process ``rank`` of batch ``number``, a pure function of the seed and the number.

        Raises:
            ConfigError: a kind of row cannot be divided evenly among the processes.
        """
        counts = self.counts(number)
        rows = rows_of_process(counts, rank, num_processes)
        return self._assemble(number, rows, counts, num_processes)

    def pairs(self, num_rows: int) -> Batch:
        """Make paired rows of crops that no training batch draws, to listen to."""
        return self._assemble(_UNTRAINED, range(num_rows), (num_rows, 0, 0), 1)

    def _assemble(
        self, number: int, rows: Sequence[int], counts: tuple[int, int, int], num_processes: int
    ) -> Batch:
        made, seeds = list[tuple[np.ndarray, ...]](), [row_seed(self.seed, number, row) for row in rows]
        for row, seed in zip(rows, seeds, strict=True):
            generator = np.random.default_rng([seed, 1])
            if row < counts[0] + counts[1]:
                made.append(self._room_row(seed, generator, paired=row < counts[0]))
            else:
                made.append(self._anechoic_row(seed, generator))
        columns = zip(*made, strict=True)
        anechoic, reverberant, rir, scene = (torch.from_numpy(np.stack(column)) for column in columns)
        shares = (total // num_processes for total in counts)
        return Batch(anechoic, reverberant, rir, scene, torch.tensor(seeds, dtype=torch.int64), *shares)

    def _room_row(self, seed: int, generator: np.random.Generator, *, paired: bool) -> tuple[np.ndarray, ...]:
        config = self.config
        rooms = self._rooms if paired else self._unpaired
        index = int(generator.integers(len(rooms.rirs)))
        if index in rooms.recordings:
            return self._recorded_row(rooms, index, generator)
        rir = rooms.rirs[index].astype(np.float32)
        if paired and config.dry_share and generator.random() < config.dry_share:
            rir[1:] = 0.0
        elif paired and any(config.room_gain_db):
            rir[1:] *= 10 ** (generator.uniform(*config.room_gain_db) / 20)
        voice = self._speech.crop(seed, config.num_samples, context=config.rir_samples - 1)
        voice = through_microphone(voice, generator, config)
        reverberant = _convolve_valid(voice, rir)
        anechoic = voice[config.rir_samples - 1 :]
        if paired and config.cut_share and generator.random() < config.cut_share:
            heard = _broken_off(len(anechoic), generator)
            anechoic, reverberant = heard * anechoic, heard * reverberant
        if config.noise_share and generator.random() < config.noise_share:
            noise = coloured_noise(len(anechoic), generator)
            noise *= 10 ** (generator.uniform(*config.noise_db) / 20) * np.sqrt(
                np.mean(np.square(reverberant))
            )
            anechoic, reverberant = anechoic + noise, reverberant + noise
        gain = _level_gain(anechoic, generator.uniform(*config.level_db), reverberant)
        scene = rooms.scenes.draw(index, generator, config.scenes)
        if paired:
            return anechoic * gain, reverberant * gain, rir, scene
        return np.zeros_like(anechoic), reverberant * gain, np.zeros_like(rir), scene

    def _recorded_row(
        self, rooms: Rooms, index: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, ...]:
        """A crop of what was recorded in a room, repeated where it is too short."""
        config, recording = self.config, rooms.recordings[index]
        start = int(generator.integers(max(1, len(recording) - config.num_samples + 1)))
        crop = np.resize(recording[start:], config.num_samples).astype(np.float32)
        gain = _level_gain(crop, generator.uniform(*config.level_db), crop)
        scene = rooms.scenes.draw(index, generator, config.scenes)
        return np.zeros_like(crop), crop * gain, np.zeros(config.rir_samples, dtype=np.float32), scene

    def _anechoic_row(self, seed: int, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        config = self.config
        anechoic = through_microphone(self._speech.crop(seed, config.num_samples), generator, config)
        gain = _level_gain(anechoic, generator.uniform(*config.level_db), anechoic)
        index = int(generator.integers(sum(map(len, self._scenes))))
        for scenes in self._scenes:
            if index < len(scenes):
                break
            index -= len(scenes)
        scene = scenes.draw(index, generator, config.scenes)
        return anechoic * gain, np.zeros_like(anechoic), np.zeros(config.rir_samples, dtype=np.float32), scene


def open_mixer(config: DataConfig, *, seed: int = 0, paired_batches: int = 0) -> Mixer:
    """Open the speech, rooms and photos a configuration names.

    Raises:
        ConfigError: no speech or no rooms are named.
        DataError: they cannot be used.
    """
    if not config.speech or not config.rooms:
        raise ConfigError("no training data; set data.speech to a folder and data.rooms to a list of shards")
    photos: Iterable[Scene] | None = None
    if config.photos:
        files = sorted(
            path for path in files_below(Path(config.photos)) if path.suffix.lower() in PHOTO_SUFFIXES
        )
        if not files:
            raise DataError(f"no photos in {config.photos}; wanted are {', '.join(PHOTO_SUFFIXES)} files")
        photos = map(Scene.open, files)  # one at a time: what is kept of each is small
    speech = Speech(config.speech, config.cache, config.speech_holdout, weights=config.speech_weights)
    unpaired = Shards(config.unpaired_rooms) if config.unpaired_rooms else None
    return Mixer(
        speech, Shards(config.rooms), unpaired, photos, config, seed=seed, paired_batches=paired_batches
    )


def batches(
    mixer: Mixer, start: int = 0, stop: int | None = None, *, rank: int = 0, num_processes: int = 1
) -> Generator[Batch, None, None]:
    """Yield batches ``start``, ``start + 1``, ... made ahead by threads (the FFT and numpy free the GIL)."""
    numbers = count(start) if stop is None else iter(range(start, stop))
    num_workers = mixer.config.num_workers
    executor = ThreadPoolExecutor(num_workers, thread_name_prefix="mixer")
    try:
        pending: deque[Future[Batch]] = deque()
        for number in islice(numbers, num_workers + 1):
            pending.append(executor.submit(mixer.batch, number, rank, num_processes))
        while pending:
            batch = pending.popleft().result()
            for number in islice(numbers, 1):
                pending.append(executor.submit(mixer.batch, number, rank, num_processes))
            yield batch
    finally:
        executor.shutdown(cancel_futures=True)


def row_seed(seed: int, number: int, row: int) -> int:
    """Hash (seed, batch number, row) to 62 bits."""
    return int(np.random.SeedSequence([seed, number, row]).generate_state(1, np.uint64)[0] >> np.uint64(2))


def through_microphone(voice: np.ndarray, generator: np.random.Generator, config: DataConfig) -> np.ndarray:
    """The voice (T,) through a random microphone: a smooth equaliser, and an upper end of the band."""
    if not config.timbre_db and not config.band_limit_share:
        return voice
    octaves = np.arange(8)  # 62.5 Hz to 8 kHz
    gains_db = config.timbre_db * generator.standard_normal(len(octaves))
    limited, end_hz = generator.random() < config.band_limit_share, generator.uniform(3500, 7500)
    size = fft.next_fast_len(len(voice), real=True)
    frequencies = np.maximum(fft.rfftfreq(size, 1 / SAMPLE_RATE), 1.0)
    gains_db = np.interp(np.log2(frequencies / 62.5), octaves, gains_db)
    if limited:
        gains_db -= np.maximum(0.0, 120 * np.log2(frequencies / end_hz))
    filtered = fft.irfft(fft.rfft(voice, size) * np.asarray(10 ** (gains_db / 20), np.float32), size)
    return np.asarray(filtered[: len(voice)], dtype=np.float32)


def _convolve_valid(voice: np.ndarray, rir: np.ndarray) -> np.ndarray:
    """Convolve (R - 1 + T,) with (R,) and keep the T samples that see the whole response.

    The circular convolution wraps round only into samples that are dropped: transforms of R - 1 + T suffice.
    """
    size = fft.next_fast_len(len(voice), real=True)
    product = fft.rfft(voice, size) * fft.rfft(rir, size)
    return np.asarray(fft.irfft(product, size)[len(rir) - 1 : len(voice)], dtype=np.float32)


def _broken_off(num_samples: int, generator: np.random.Generator) -> np.ndarray:
    """1, and 0 from some moment on (T,): for good, or in half of the cases until another moment."""
    start = int(generator.integers(num_samples // 8, num_samples))
    stop = num_samples if generator.random() < 0.5 else int(generator.integers(start, num_samples))
    heard = np.ones(num_samples, np.float32)
    heard[start:stop] = 0.0
    return heard


def _level_gain(anechoic: np.ndarray, level_db: float, loudest: np.ndarray) -> np.float32:
    """Gain that brings the dry crop to an RMS level, or as near as ``loudest`` can come without clipping."""
    rms = float(np.sqrt(np.mean(np.square(anechoic))))
    peak = max(float(np.abs(anechoic).max()), float(np.abs(loudest).max()))
    return np.float32(min(10 ** (level_db / 20) / max(rms, 1e-5), 0.99 / max(peak, 1e-5)))
