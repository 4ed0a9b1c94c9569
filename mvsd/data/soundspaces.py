"""SoundSpaces-Speech as published: one pickle for each utterance, below a folder for each split and home.

    <folder>/<split>/<scene>/<utterance>.pkl      voices, response and views of the home
    <folder>/metadata/<split>/<scene>.pkl         transcripts, for a folder that has them

Voices of LibriSpeech in 82 homes of Matterport3D, 16 kHz (Chen et al., "Learning audio-visual dereverberation").
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvsd.acoustics import convolve
from mvsd.data.example import Example, Examples, key_of
from mvsd.data.unpickle import load_pickle
from mvsd.errors import DataError, PhotoError
from mvsd.scene import Scene
from mvsd.whole_file import whole_file

SPLITS = ("train", "val", "val-mini", "test-seen", "test-unseen")
PERSON_CLASS, PERSON_PIXELS = 41, 50
SAMPLE_RATE = 16_000
DEPTH_RANGE = 10.0  # metres at which Habitat's depth sensor ends, and by which it divides unless told not to

_METADATA = "metadata"
_CHANNELS = ((), (1,), (3,))
_MAX_PIXELS = 2**24  # of all views side by side; published are 384 x 1152
_LOUDEST = 2.0**16
_FARTHEST = 1e4  # metres
_Array = NDArray[Any]


class SoundSpacesSpeech(Examples):
    """The examples of one split, sorted by path; a pickle is opened when its example is asked for.

    An example's response is divided by its direct sound, and its reverberant voice brought to the level at which
    ``reverberant = convolve(anechoic, rir)``, as everywhere in this package (published levels differ). Where the
    direct sound is not the response's highest sample, the home hides the speaker: the response is then divided by
    its peak. Both voices are cut to the shorter.

    Attributes:
        paths: of the pickles.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str = "",
        *,
        in_view_only: bool = False,
        limit: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Find the pickles of a split.

        Args:
            folder: the one with the splits, or that of one split.
            split: may be left out where there is only one.
            in_view_only: keep what the published filter keeps (`is_in_view`), for which every pickle is opened
                once; the answers are kept in the folder, if it can be written.
            limit: stop after that many.
            progress: called with (pickles looked at, pickles in all).

        Raises:
            DataError: the split is not there, or has no pickles left.
        """
        self.folder = Path(folder).resolve()
        self.split = split or _only_split(self.folder)
        self._transcripts_of_scenes: dict[str, Mapping[str, dict[str, str]]] = {}
        root = split_folder(self.folder, self.split)
        self.paths = [path for path in sorted(root.rglob("*.pkl")) if not path.name.startswith(".")]
        if in_view_only:
            self.paths = list(_in_view(self.paths, root, limit, progress))
        self.paths = self.paths[:limit]
        if not self.paths:
            raise DataError(
                f"{root} has no .pkl files{' in view' if in_view_only else ''}; see docs/benchmarks.md"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Example:
        """Read a pickle."""
        path = self.paths[index]
        record = load_record(path)
        utterance, scene = path.stem, path.parent.name
        signals, level = _signals(record, path)
        metadata: dict[str, Any] = {
            "dataset": "SoundSpaces-Speech",
            "split": self.split,
            "room": scene,
            "speaker": utterance.split("-")[0],
            "utterance": utterance,
            "published_level": level,
            **self._transcripts(scene).get(utterance, {}),
        }
        if "semantic" in record:
            metadata["in_view"] = is_in_view(record, path)
        distance = record.get("geodesic_distance")
        if isinstance(distance, (int, float)) and math.isfinite(distance):
            metadata["geodesic_distance"] = float(distance)
        key = key_of(f"{scene}_{utterance}")
        return Example(key, _scene(record, path), sample_rate=SAMPLE_RATE, metadata=metadata, **signals)

    def _transcripts(self, scene: str) -> Mapping[str, dict[str, str]]:
        known = self._transcripts_of_scenes
        if scene not in known:
            path = metadata_path(self.folder, self.split, scene)
            known[scene] = {} if path is None else read_metadata(path)
        return known[scene]


def split_folder(folder: Path, split: str) -> Path:
    """Where the pickles of a split are; archives unpack with or without a folder of their own.

    Raises DataError where there is none.
    """
    for candidate in (folder / split / split, folder / split, folder.resolve()):
        if candidate.name == split and candidate.is_dir():
            return candidate
    there = ", ".join(splits_in(folder)) or "none"
    raise DataError(f"{folder} has no split {split!r}; there are: {there}")


def splits_in(folder: Path) -> list[str]:
    """Names of the published splits that are in a folder."""
    below = [split for split in SPLITS if any((folder / split).rglob("*.pkl"))]
    return below or [split for split in SPLITS if split == folder.name and any(folder.rglob("*.pkl"))]


def _only_split(folder: Path) -> str:
    splits = splits_in(folder)
    if len(splits) != 1:
        there = ", ".join(splits) or "none"
        raise DataError(f"{folder} holds several splits or none; choose one with split. There are: {there}")
    return splits[0]


# ------------------------------------------------------------------------------------- a pickle


def load_record(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle; raises DataError for anything else."""
    record = load_pickle(path)
    if not isinstance(record, dict):
        raise DataError(f"{path} holds a {type(record).__name__}; a dictionary is wanted")
    missing = [name for name in ("receiver_audio", "source_audio", "rir", "rgb") if name not in record]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}; is it of SoundSpaces-Speech?")
    return record


def is_in_view(record: Mapping[str, Any], path: Path) -> bool:
    """The published filter: 50 pixels or more of class 41 (person), and ``argmax(rir) == 0``.

    Raises DataError where a pickle has no semantic views.
    """
    views = record.get("semantic")
    if not isinstance(views, (list, tuple)):
        raise DataError(f"{path} has no semantic views, so what is in view is not known; use protocol full")
    num_pixels = sum(
        int(np.count_nonzero(_numbers(view, path, "semantic") == PERSON_CLASS)) for view in views
    )
    return num_pixels >= PERSON_PIXELS and int(np.argmax(_waveform(record, "rir", path))) == 0


def stitch(views: Any, name: str, path: Path) -> _Array:
    """Views (H, W), (H, W, 1) or (H, W, 3) side by side: (H, sum of W, ...).

    Raises DataError for views that do not fit.
    """
    if not isinstance(views, (list, tuple)) or not views:
        raise DataError(f"{path}: {name} is no list of views")
    arrays = [_numbers(view, path, name) for view in views]
    shapes = {(view.shape[0], *view.shape[2:]) for view in arrays if view.ndim >= 2}
    if any(view.ndim < 2 for view in arrays) or len(shapes) != 1 or arrays[0].shape[2:] not in _CHANNELS:
        raise DataError(f"{path}: views of {name} have shapes {[view.shape for view in arrays[:4]]}")
    if not 0 < arrays[0].shape[0] * sum(view.shape[1] for view in arrays) <= _MAX_PIXELS:
        raise DataError(f"{path}: the panorama of {name} has no pixels, or too many")
    return np.concatenate(arrays, axis=1)


def _scene(record: Mapping[str, Any], path: Path) -> Scene:
    image = stitch(record["rgb"], "rgb", path)
    depth = None
    if "depth" in record:
        depth = stitch(record["depth"], "depth", path)
        depth = depth[..., 0] if depth.shape[2:] == (1,) else depth
        depth = np.where((depth > 0) & (depth < _FARTHEST), depth, 0).astype(np.float32)
        if depth.max() <= 1.0:  # no home is that small
            depth *= DEPTH_RANGE
    try:
        return Scene(image, depth)
    except PhotoError as error:
        raise DataError(f"{path}: {error}") from error


def _signals(record: Mapping[str, Any], path: Path) -> tuple[dict[str, _Array], float]:
    """The three signals, and how much louder the reverberant one was in the pickle."""
    anechoic, reverberant = (_waveform(record, name, path) for name in ("source_audio", "receiver_audio"))
    length = min(len(anechoic), len(reverberant))
    anechoic, reverberant = anechoic[:length], reverberant[:length]
    rir = np.trim_zeros(_waveform(record, "rir", path), "b")
    if not len(rir):
        return {"anechoic": anechoic, "reverberant": reverberant}, 1.0
    loudest = np.abs(rir).max()
    has_direct_sound = np.argmax(rir) == 0 and rir[0] > 1e-3 * loudest
    rir = rir / (rir[0] if has_direct_sound else loudest)
    wet = convolve(anechoic, rir)[:length].astype(np.float64)
    energy = float(np.dot(wet, wet))
    level = float(np.dot(reverberant, wet)) / energy if energy > 0 else 1.0
    level = level if 1e-6 < level < 1e6 else 1.0  # else one is silent, or no convolution of the other
    return {"anechoic": anechoic, "reverberant": reverberant / np.float32(level), "rir": rir}, level


def _waveform(record: Mapping[str, Any], name: str, path: Path) -> NDArray[np.float32]:
    values = _numbers(record[name], path, name)
    if values.ndim != 1 or not len(values) or values.dtype.kind != "f":
        raise DataError(
            f"{path}: {name} has shape {values.shape} and type {values.dtype}; float samples (T,) are wanted"
        )
    if not np.abs(values).max() <= _LOUDEST:
        raise DataError(f"{path}: {name} has samples that are not finite, or far too loud")
    return values.astype(np.float32)


def _numbers(values: Any, path: Path, name: str) -> _Array:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise DataError(f"{path}: {name} is a {type(values).__name__}; an array of numbers is wanted")
    return values


# ------------------------------------------------------------------------------------- transcripts


def metadata_path(folder: Path, split: str, scene: str) -> Path | None:
    """The pickle with a scene's transcripts; val-mini shares those of val."""
    for root in (folder, folder.parent):
        for name in (split, split.removesuffix("-mini")):
            path = root / _METADATA / name / f"{scene}.pkl"
            if path.is_file():
                return path
    return None


def read_metadata(path: Path) -> dict[str, dict[str, str]]:
    """Utterance -> transcript and speaker, from a metadata pickle.

    Its ``sound`` is a line of LibriSpeech's list, "id,seconds,file,speaker-chapter,WORDS ...", split at spaces.
    """
    records = load_pickle(path)
    if not isinstance(records, (list, tuple)):
        raise DataError(f"{path} holds a {type(records).__name__}; a list is wanted")
    found = {}
    for record in records:
        sound = record.get("sound") if isinstance(record, dict) else None
        if (
            not isinstance(sound, (list, tuple))
            or not sound
            or not all(isinstance(part, str) for part in sound)
        ):
            raise DataError(f"{path}: an entry has no sound, a list of words after 'id,seconds,file,speaker'")
        utterance, *fields = sound[0].split(",", 4)
        words = [*fields[3:], *sound[1:]]
        speaker = fields[2].split("-")[0] if len(fields) > 2 else utterance.split("-")[0]
        found[utterance] = {"transcript": " ".join(words).strip(), "speaker": speaker.strip()}
    return found


# ------------------------------------------------------------------------------------- what is in view


def _in_view(
    paths: Sequence[Path], root: Path, limit: int | None, progress: Callable[[int, int], None] | None
) -> Iterator[Path]:
    """Those of the paths that the filter keeps."""
    cache = root / ".mvsd-in-view.json"
    known, num_kept = _read_answers(cache), 0
    num_known = len(known)
    try:
        for done, path in enumerate(paths, 1):
            stamp = f"{path.relative_to(root).as_posix()}:{path.stat().st_size}"
            if stamp not in known:
                known[stamp] = is_in_view(load_record(path), path)
            if known[stamp]:
                num_kept += 1
                yield path
            if progress is not None:
                progress(done, len(paths))
            if num_kept == limit:
                break
    finally:
        if len(known) > num_known:
            _write_answers(cache, known)


def _read_answers(path: Path) -> dict[str, bool]:
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    is_ours = isinstance(known, dict) and all(isinstance(answer, bool) for answer in known.values())
    return known if is_ours else {}


def _write_answers(path: Path, known: dict[str, bool]) -> None:
    # In a folder of somebody else's the filter is run again next time.
    with suppress(DataError), whole_file(path, DataError) as temporary:
        temporary.write_text(json.dumps(known))
