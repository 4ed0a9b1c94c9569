"""Recordings of one's own: a folder in which files of the same name belong together.

    <folder>/reverberant/NAME.wav    the voice in the room        <folder>/image/NAME.jpg         photo of the room
    <folder>/anechoic/NAME.wav       the voice without it         <folder>/depth/NAME.png         its depth
    <folder>/rir/NAME.wav            the room's response          <folder>/transcript/NAME.txt    what is said

Any of them may be missing, for all names or for some; a response alone is a room to speak into. A folder without
these subfolders holds recordings made in rooms, NAME.wav, with photos NAME.jpg beside them. Any sound file and photo
that the rest of the package reads will do.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvsd.acoustics import decay_end, from_direct_sound
from mvsd.audio import load_audio, resample
from mvsd.data.example import Example, Examples, key_of
from mvsd.data.protocols import SAMPLE_RATE
from mvsd.errors import DataError, NotMeasurable
from mvsd.recordings import RECORDINGS
from mvsd.scene import PHOTO_SUFFIXES, Scene

SUFFIXES = {
    "anechoic": RECORDINGS,
    "reverberant": RECORDINGS,
    "rir": RECORDINGS,
    "image": PHOTO_SUFFIXES,
    "depth": (".png", ".npy"),
    "transcript": (".txt",),
}
_MAX_TRANSCRIPT = 2**16  # bytes
_BLOCK = SAMPLE_RATE // 100  # `decay_end` counts whole blocks; what is left over is no noise floor


class Folder(Examples):
    """The examples in a folder, sorted by name; sound becomes mono at 16 kHz, as the metrics want it.

    A response is cut to start at its direct sound and to end where its decay ends in noise, and divided by the direct
    sound. The two voices are taken as aligned, and cut to the shorter. The speaker is what stands before the first
    ``-`` or ``_`` of a name, as in LibriSpeech.

    Attributes:
        files: name -> role -> path; the roles are those of `SUFFIXES`.
    """

    def __init__(self, folder: str | Path) -> None:
        """Find the files.

        Raises:
            DataError: there are none, or a name has two files of one role.
        """
        self.folder = Path(folder)
        self.files = find_files(self.folder)
        self._names = sorted(self.files)

    def __len__(self) -> int:
        return len(self._names)

    def load(self, index: int) -> Example:
        """Read the files of a name."""
        name = self._names[index]
        files = self.files[name]
        voices = {role: load_mono(files[role]) for role in ("anechoic", "reverberant") if role in files}
        length = min((len(voice) for voice in voices.values()), default=0)
        signals: dict[str, Any] = {role: voice[:length] for role, voice in voices.items()}
        if "rir" in files:
            signals["rir"] = _load_rir(files["rir"])
        scene = Scene.open(files["image"], files.get("depth")) if "image" in files else None
        metadata: dict[str, Any] = {"name": name}
        if voices:
            metadata["speaker"] = re.split("[-_]", name)[0]
        if "transcript" in files:
            metadata["transcript"] = _read_transcript(files["transcript"])
        return Example(key_of(name), scene, metadata=metadata, **signals)


def find_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Name -> role -> path, of all names that have sound or a response; raises DataError."""
    roles = {role: folder / role for role in SUFFIXES if (folder / role).is_dir()}
    if not roles:
        roles = {"reverberant": folder, "image": folder}
    found = defaultdict[str, dict[str, Path]](dict)
    for role, subfolder in roles.items():
        for path in sorted(subfolder.iterdir()) if subfolder.is_dir() else ():
            if path.suffix.lower() not in SUFFIXES[role] or path.name.startswith("."):
                continue
            if role in found[path.stem]:
                raise DataError(f"{path} and {found[path.stem][role].name} have one name; keep one of them")
            found[path.stem][role] = path
    sounds = {"anechoic", "reverberant", "rir"}
    with_sound = {name: files for name, files in found.items() if sounds & files.keys()}
    if not with_sound:
        wanted = "reverberant/NAME.wav, anechoic/NAME.wav, rir/NAME.wav and image/NAME.jpg"
        raise DataError(f"{folder} has no recordings; wanted are shards (.tar), a benchmark, or {wanted}")
    names = dict[str, str]()
    for name in with_sound:
        if (other := names.setdefault(key_of(name), name)) != name:
            raise DataError(
                f"{folder}: {other} and {name} differ only in characters other than letters, digits, _ and -"
            )
    return with_sound


def load_mono(path: Path) -> NDArray[np.float32]:
    """A sound file as (T,) at 16 kHz, the mean of its channels; raises AudioFileError."""
    waveform, rate = load_audio(path)
    return resample(waveform.mean(axis=0, dtype=np.float32), rate, SAMPLE_RATE)


def _load_rir(path: Path) -> NDArray[np.float32]:
    """A response (R,) at 16 kHz from its direct sound, 1, to its noise floor; raises DataError where it is silent."""
    rir = load_mono(path)
    try:
        cut = from_direct_sound(rir, SAMPLE_RATE)
    except NotMeasurable as error:
        raise DataError(f"{path} is no response: {error}") from error
    try:
        num_noise = len(rir) - decay_end(rir, SAMPLE_RATE)
    except NotMeasurable:  # no decay, so nothing says what of it is noise
        return cut
    return cut if num_noise < _BLOCK else cut[:-num_noise]


def _read_transcript(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _MAX_TRANSCRIPT:
            raise DataError(f"{path} has {size} bytes; {_MAX_TRANSCRIPT} of transcript are read")
        return " ".join(path.read_text(encoding="utf-8-sig").split())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8; save it as such") from error
