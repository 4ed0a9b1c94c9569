"""Data sets on disk: WebDataset tar shards, written atomically and read at random by member offsets.

The members of an example are ``<key>.json``, ``<key>.image.jpg``, ``<key>.depth.png`` (16 bit, millimetres,
0 = unknown) and ``<key>.{rir,anechoic,reverberant}.flac`` (24 bit). Each signal is divided by a power of two
named in the JSON (``rir_scale`` and so on), so that nothing clips and ``decoded * scale`` has its level.
"""

from __future__ import annotations

import glob
import io
import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from PIL import Image

from mvsd.data.example import Example, Examples, key_of
from mvsd.data.remote import expand, is_url, local_path
from mvsd.errors import DataError, OutputExistsError, PhotoError
from mvsd.scene import Scene
from mvsd.whole_file import whole_file

SIGNALS = ("anechoic", "reverberant", "rir")
PARTS = ("scene", *SIGNALS)

_SIZE_LIMITS = {"json": 2**20, "image.jpg": 2**26, "depth.png": 2**27}
_SIZE_LIMITS |= {f"{name}.flac": 2**28 for name in SIGNALS}
_MAX_PIXELS = 2**26
_MAX_SAMPLES = 2**27
_LEVELS_24_BIT = 2**23


class _Member(NamedTuple):
    offset: int
    size: int


class _Entry(NamedTuple):
    path: str | Path
    key: str
    members: dict[str, _Member]


def write_shards(
    examples: Iterable[Example],
    folder: str | Path,
    *,
    prefix: str,
    examples_per_shard: int = 250,
    force: bool = False,
) -> list[Path]:
    """Write examples as they come to ``folder/<prefix>-000000.tar``, ...; a shard appears only when whole.

    With ``force``, shards of that name are replaced; those of a longer set before are removed.

    Raises:
        DataError: an example cannot be stored, or the disk is full.
        OutputExistsError: a shard of that name is there and ``force`` is not set.
    """
    if examples_per_shard < 1:
        raise DataError(f"examples_per_shard is {examples_per_shard}; it must be at least 1")
    folder, remaining, paths = Path(folder), iter(examples), list[Path]()
    folder.mkdir(parents=True, exist_ok=True)
    for first in remaining:
        path = folder / f"{prefix}-{len(paths):06d}.tar"
        if path.exists() and not force:
            raise OutputExistsError(f"{path} exists; choose another folder or prefix, or pass force")
        shard_examples = itertools.chain([first], itertools.islice(remaining, examples_per_shard - 1))
        _write_shard(shard_examples, path)
        paths.append(path)
    if force and paths:  # what a longer set of the same name had left
        for path in folder.glob(f"{glob.escape(prefix)}-??????.tar"):
            if path not in paths and path.name[-10:-4].isdigit():
                path.unlink()
    return paths


def _write_shard(examples: Iterable[Example], path: Path) -> None:
    keys = set[str]()
    with _whole_tar(path) as tar:
        for example in examples:
            if not example.key or example.key != key_of(example.key):
                raise DataError(f"key {example.key!r} has characters other than letters, digits, _ and -")
            if example.key in keys:
                raise DataError(f"key {example.key!r} occurs twice in {path.name}; keys must be unique")
            keys.add(example.key)
            for suffix, content in _encode(example):
                if len(content) > (limit := _SIZE_LIMITS[suffix]):
                    raise DataError(f"{example.key}.{suffix} has {len(content)} bytes; {limit} are allowed")
                info = tarfile.TarInfo(f"{example.key}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@contextmanager
def _whole_tar(path: Path) -> Iterator[tarfile.TarFile]:
    with (
        whole_file(path, DataError) as temporary,
        tarfile.open(temporary, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        yield tar


def _encode(example: Example) -> Iterator[tuple[str, bytes]]:
    record: dict[str, Any] = {"sample_rate": example.sample_rate, "metadata": dict(example.metadata)}
    members = list[tuple[str, bytes]]()
    for name in SIGNALS:
        if (waveform := getattr(example, name)) is not None:
            label = f"{example.key}.{name}"
            content, record[f"{name}_scale"] = _encode_flac(waveform, example.sample_rate, label)
            members.append((f"{name}.flac", content))
    if example.scene is not None:
        image = Image.fromarray(example.scene.image)
        members.append(("image.jpg", _encode_image(image, format="JPEG", quality=92)))
        if example.scene.depth is not None:
            millimetres = np.nan_to_num(example.scene.depth * 1000.0, nan=0.0, posinf=0.0, neginf=0.0)
            depth = np.clip(np.rint(millimetres), 0, 65_535).astype(np.uint16)
            members.append(("depth.png", _encode_image(Image.fromarray(depth), format="PNG")))
    try:
        yield "json", json.dumps(record, allow_nan=False, sort_keys=True).encode()
    except (TypeError, ValueError) as error:
        raise DataError(f"metadata of {example.key} cannot be written as JSON: {error}") from error
    yield from members


def _encode_image(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def _encode_flac(waveform: np.ndarray, sample_rate: int, name: str) -> tuple[bytes, float]:
    waveform = np.asarray(waveform, dtype=np.float64)
    if waveform.ndim != 1 or waveform.size == 0 or not np.isfinite(waveform).all():
        raise DataError(f"{name} has shape {waveform.shape}; wanted are (T,) finite samples, at least one")
    headroom = np.abs(waveform).max() * _LEVELS_24_BIT / (_LEVELS_24_BIT - 1)
    scale = 2.0 ** np.ceil(np.log2(max(headroom, 1.0)))
    levels = np.rint(waveform / scale * _LEVELS_24_BIT).astype(np.int32)
    buffer = io.BytesIO()
    soundfile.write(buffer, levels << 8, sample_rate, format="FLAC", subtype="PCM_24")
    return buffer.getvalue(), float(scale)


class Shards(Examples):
    """The examples of some shards by number; nothing is decoded before it is asked for.

    Only offsets are kept, and each read opens its shard anew: safe in threads and processes, and to pickle.
    """

    def __init__(self, paths: str | Path | Iterable[str | Path]) -> None:
        """Index shards: paths of tar files, folders whose ``*.tar`` are taken in sorted order, or addresses.

        Shards on the web (``https://.../train-{000000..000012}.tar``) are read through a cache (`local_path`).

        Raises:
            DataError: nothing is found, or a shard is gone, truncated, corrupt, empty, or holds oversized members.
        """
        roots = [paths] if isinstance(paths, (str, Path)) else list(paths)
        self.paths = [path for root in roots for path in _shards_of(root)]
        if not self.paths:
            raise DataError(f"no .tar shards in {', '.join(map(str, roots)) or 'an empty list of paths'}")
        self._entries = [entry for path in self.paths for entry in _index_shard(path)]

    @property
    def keys(self) -> list[str]:
        """Keys in the order of the examples."""
        return [entry.key for entry in self._entries]

    @property
    def repeated_keys(self) -> list[str]:
        """Keys that more than one example has."""
        return [key for key, count in Counter(self.keys).items() if count > 1]

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, index: int, parts: Iterable[str] = PARTS) -> Example:
        """Decode an example, of its scene and signals only ``parts``; the others become None.

        Raises:
            DataError: a member is corrupt; the message names shard and key.
        """
        entry = self._entries[index]
        wanted = set(parts)
        with local_path(entry.path).open("rb") as file:
            record = _decode_json(entry, file)
            signals = {
                name: _decode_flac(entry, name, file, record)
                for name in SIGNALS
                if name in wanted and f"{name}.flac" in entry.members
            }
            has_scene = "scene" in wanted and "image.jpg" in entry.members
            scene = _decode_scene(entry, file) if has_scene else None
        rate, metadata = record["sample_rate"], record["metadata"]
        return Example(entry.key, scene, sample_rate=rate, metadata=metadata, **signals)


def _shards_of(root: str | Path) -> list[str] | list[Path]:
    if is_url(root):
        return expand(str(root))
    return sorted(Path(root).glob("[!.]*.tar")) if Path(root).is_dir() else [Path(root)]


def _index_shard(path: str | Path) -> list[_Entry]:
    copy = local_path(path)
    try:
        return _index_copy(path, copy)
    except DataError:
        if is_url(path):  # what was fetched is no shard: the next time it may be
            copy.unlink(missing_ok=True)
        raise


def _index_copy(path: str | Path, copy: Path) -> list[_Entry]:
    entries = dict[str, _Entry]()
    try:
        with tarfile.open(copy, "r:") as tar:
            for info in tar:
                key, _, suffix = info.name.removeprefix("./").partition(".")
                if suffix not in _SIZE_LIMITS or not info.isfile():
                    continue
                if info.size > (limit := _SIZE_LIMITS[suffix]):
                    raise DataError(f"{path}: {info.name} has {info.size} bytes; {limit} are allowed")
                entry = entries.setdefault(key, _Entry(path, key, {}))
                if suffix in entry.members:
                    raise DataError(f"{path}: {info.name} occurs twice; write the shard again")
                entry.members[suffix] = _Member(info.offset_data, info.size)
            end = tar.offset
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a readable tar shard: {error}") from error
    for entry in entries.values():
        if "json" not in entry.members:
            raise DataError(f"{path}: {entry.key} has no .json member; it was not written by mvsd")
    if not entries:
        raise DataError(f"{path} holds no examples; it was not written by mvsd")
    # tarfile takes a damaged header for the end of the archive; the true end is a block of zeros.
    with copy.open("rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise DataError(f"{path} is truncated or damaged at byte {end}; write the shard again")
    return list(entries.values())


def _read(entry: _Entry, suffix: str, file: io.BufferedReader) -> bytes:
    member = entry.members[suffix]
    file.seek(member.offset)
    return file.read(member.size)


def _corrupt(entry: _Entry, suffix: str, reason: object) -> DataError:
    return DataError(f"{entry.path}: {entry.key}.{suffix} is corrupt: {reason}")


def _decode_json(entry: _Entry, file: io.BufferedReader) -> dict[str, Any]:
    try:
        record = json.loads(_read(entry, "json", file))
    except (ValueError, RecursionError) as error:
        raise _corrupt(entry, "json", error) from error
    if not isinstance(record, dict) or not isinstance(record.get("metadata"), dict):
        raise _corrupt(entry, "json", "wanted is an object with 'metadata'")
    rate = record.get("sample_rate")
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < 1:
        raise _corrupt(entry, "json", f"sample_rate is {rate!r}; wanted is a whole number of Hz")
    return record


def _decode_flac(entry: _Entry, name: str, file: io.BufferedReader, record: dict[str, Any]) -> np.ndarray:
    suffix, scale = f"{name}.flac", record.get(f"{name}_scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < 2.0**64:
        raise _corrupt(entry, "json", f"{name}_scale is {scale!r}; wanted is a positive number")
    try:
        with soundfile.SoundFile(io.BytesIO(_read(entry, suffix, file))) as sound:
            channels, frames, rate = sound.channels, sound.frames, sound.samplerate
            if channels != 1 or frames > _MAX_SAMPLES or rate != record["sample_rate"]:
                found = f"{channels} channels, {frames} samples, {rate} Hz"
                raise _corrupt(entry, suffix, f"{found}; wanted is mono at {record['sample_rate']} Hz")
            levels = sound.read(dtype="int32")
    except soundfile.LibsndfileError as error:
        raise _corrupt(entry, suffix, error) from error
    if len(levels) != frames or frames == 0:
        raise _corrupt(entry, suffix, f"{len(levels)} of {frames} samples could be decoded")
    return np.asarray(levels, dtype=np.float32) * np.float32(scale / 2**31)


def _decode_scene(entry: _Entry, file: io.BufferedReader) -> Scene:
    image = np.asarray(_decode_image(entry, "image.jpg", file).convert("RGB"))
    depth = None
    if "depth.png" in entry.members:
        depth = np.asarray(_decode_image(entry, "depth.png", file), dtype=np.float32) / 1000.0
    try:
        return Scene(image, depth)
    except PhotoError as error:
        raise _corrupt(entry, "image.jpg or depth.png", error) from error


def _decode_image(entry: _Entry, suffix: str, file: io.BufferedReader) -> Image.Image:
    formats = ["JPEG"] if suffix.endswith("jpg") else ["PNG"]
    try:
        image = Image.open(io.BytesIO(_read(entry, suffix, file)), formats=formats)
        if image.width * image.height > _MAX_PIXELS:
            raise _corrupt(entry, suffix, f"{image.width}x{image.height} pixels; {_MAX_PIXELS} are allowed")
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _corrupt(entry, suffix, error) from error
    return image
