"""What is evaluated: clips of a data set, or of rooms without voices into which speech is mixed."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvsd.acoustics import convolve
from mvsd.data.example import Example, Examples
from mvsd.data.protocols import level_of
from mvsd.data.speech import Speech
from mvsd.errors import DataError, MvsdError
from mvsd.evaluation.metrics import Task
from mvsd.scene import Scene

Waveform = NDArray[np.floating]

_OF_VOICE = ("transcript", "level")  # what is known of a voice that another one replaces
_MAX_TRIES = 50  # examples opened to find another room
_SHORTEST, _LONGEST = 0.01, 1e6  # s


@dataclass(frozen=True)
class Clip:
    """One conversion to be made and measured; all waveforms are (T,) at `sample_rate`.

    `source` is what a system is given, `target` what it should make of it, `dry` the voice without the room; None is
    what the data set does not have. `level` is the factor in ``reverberant = level * convolve(dry, rir)``.
    """

    key: str
    task: Task
    source: Waveform
    target: Waveform | None
    sample_rate: int
    rir: Waveform | None
    scene: Scene | None
    wrong_scene: Scene | None
    seed: int
    level: float
    metadata: dict[str, Any]

    @property
    def dry(self) -> Waveform | None:
        """The voice without the room, if it is known."""
        return self.target if self.task == "dereverberation" else self.true_source

    @property
    def true_source(self) -> Waveform | None:
        """The source; None where it was built from the target and so is no dry voice (Acoustic AVSpeech)."""
        return None if _is_built(self.metadata) else self.source


def make_clip(examples: Sequence[Example], index: int, task: Task, seed: int = 0) -> Clip:
    """Clip `index` of a data set.

    The wrong photo is that of the example half the data set away, or of another one that shows another room, of up
    to 50 that are tried all over the data set. Its seed is ``seed + index``.

    Raises:
        DataError: the example has no recording to convert.
    """
    example = examples[index]
    dry, wet = example.anechoic, _reverberant(example)
    source, target = (
        (dry, wet) if task == "reverberation" else (wet, None if _is_built(example.metadata) else dry)
    )
    if source is None:
        wanted = "dry voice" if task == "reverberation" else "recording made in a room"
        raise DataError(
            f"{example.key} has no {wanted} to start from; give rooms without voices a --speech DIR"
        )
    return Clip(
        key=example.key,
        task=task,
        source=source,
        target=target,
        sample_rate=example.sample_rate,
        rir=example.rir,
        scene=example.scene,
        wrong_scene=_wrong_scene(examples, index, example),
        seed=(seed + index) % 2**32,
        level=level_of(example),
        metadata=dict(example.metadata),
    )


class SpeechInRooms(Examples):
    """Rooms with a voice in each: example i is the start of an utterance drawn by ``seed + i``, in room i.

    Nothing is heard before the clip starts. Both voices share a gain, so that the louder one peaks at 0.5. A clip of
    0 s is the whole utterance, with its transcript if the folder's `manifest.csv` has one (columns path, transcript).
    """

    def __init__(
        self, rooms: Sequence[Example], speech: Speech, *, seconds: float = 5.0, seed: int = 0
    ) -> None:
        """Raises DataError where no utterance is long enough, or the length is none."""
        if not (seconds == 0 or _SHORTEST <= seconds < _LONGEST):
            wanted = f"0 for whole utterances, or {_SHORTEST:g} to {_LONGEST:g}"
            raise DataError(f"clips of {seconds:g} s cannot be made; give --seconds {wanted}")
        self.rooms, self.speech, self.seed = rooms, speech, seed
        self._num_samples = round(seconds * 16_000) or None
        self._transcripts = _read_transcripts(speech.folder) if seconds == 0 else {}
        self._long_enough = np.flatnonzero(speech.lengths >= seconds * 16_000)
        if not len(self._long_enough):
            raise DataError(
                f"no utterance in {speech.folder} lasts {seconds:g} s; choose a smaller --seconds"
            )

    def __len__(self) -> int:
        return len(self.rooms)

    def load(self, index: int) -> Example:
        """Put a voice into room ``index``; raises DataError where it has no response at 16 kHz."""
        room = self.rooms[index]
        if room.rir is None or room.sample_rate != 16_000:
            raise DataError(f"{room.key} has no impulse response at 16000 Hz to put a voice into")
        generator = np.random.default_rng(self.seed + index)
        utterance = int(self._long_enough[generator.integers(len(self._long_enough))])
        voice = self.speech.utterance(utterance)[: self._num_samples]
        wet = convolve(voice, room.rir)[: len(voice)]
        gain = np.float32(0.5 / max(np.abs(wet).max(), np.abs(voice).max(), 1e-9))
        path = self.speech.paths[utterance]
        facts = {"utterance": path, "speaker": self.speech.speaker(utterance)}
        if path in self._transcripts:
            facts["transcript"] = self._transcripts[path]
        of_room = {name: value for name, value in room.metadata.items() if name not in _OF_VOICE}
        return replace(room, anechoic=gain * voice, reverberant=gain * wet, metadata={**of_room, **facts})


def _read_transcripts(folder: Path) -> dict[str, str]:
    """Path -> transcript, of the utterances that have one."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        return {}
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{manifest} cannot be read as CSV: {error}") from error
    return {row["path"]: row["transcript"] for row in rows if row.get("path") and row.get("transcript")}


def _reverberant(example: Example) -> Waveform | None:
    if example.reverberant is not None or example.anechoic is None or example.rir is None:
        return example.reverberant
    return convolve(example.anechoic, example.rir)[: len(example.anechoic)]


def _is_built(metadata: Mapping[str, Any]) -> bool:
    """Whether the dry voice was made from the recording, with noise in it."""
    made = metadata.get("source")
    return isinstance(made, dict) and "snr_db" in made


def _wrong_scene(examples: Sequence[Example], index: int, example: Example) -> Scene | None:
    if example.scene is None:
        return None
    room = _room(example)
    step = max(1, len(examples) // _MAX_TRIES)
    for number in range(min(len(examples), _MAX_TRIES)):
        # Every second place is one further: where rooms take turns, equal steps may meet a single one.
        distance = number * step + min(number % 2, step - 1)
        try:
            other = examples[(index + len(examples) // 2 + distance) % len(examples)]
        except MvsdError:
            continue  # what is wrong with it is said where it is a clip of its own
        if other.scene is not None and _room(other) != room:
            return other.scene
    return None


def _room(example: Example) -> Hashable:
    """What tells a room from others: its seed if it was simulated, its name, or its picture."""
    for name in ("room_seed", "room"):
        if name in example.metadata:
            return str(example.metadata[name])
    return None if example.scene is None else example.scene.image.tobytes()
