"""The two benchmarks from the addresses at which they were published, and out of their archives."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mvsd.data.remote import Progress, download_file, file_sha256
from mvsd.errors import ConfigError, DataError
from mvsd.whole_file import whole_file

CHECKSUMS = "checksums.json"

_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Benchmark:
    """A published data set.

    Attributes:
        title: as papers call it.
        address: of the folder with the archives.
        archives: part (a split, or what goes with all of them) -> name of its archive.
        anchors: names below which the contents of an archive are put into our folder; without them, those of a
            part go to a folder of its name.
        licence: what whoever uses it must know.
    """

    title: str
    address: str
    archives: Mapping[str, str]
    anchors: Sequence[str]
    licence: str


BENCHMARKS = {
    "soundspaces-speech": Benchmark(
        title="SoundSpaces-Speech",
        address="https://dl.fbaipublicfiles.com/SoundSpaces/av_dereverb",
        archives={
            "metadata": "metadata.zip",
            "train": "train.tar.xz",
            "val-mini": "val-mini.tar.xz",
            "test-seen": "test-seen.zip",
            "test-unseen": "test-unseen.tar.xz",
        },
        anchors=(),
        licence=(
            "SoundSpaces-Speech is derived from Matterport3D: SoundSpaces puts such data, and models trained on it, "
            "under the Matterport3D Terms of Use (https://kaldir.vc.in.tum.de/matterport/MP_TOS.pdf) and CC BY-NC-SA "
            "3.0 US. Its voices are LibriSpeech, CC BY 4.0. Non-commercial research only; models trained on it "
            "inherit that."
        ),
    ),
    "acoustic-avspeech": Benchmark(
        title="Acoustic AVSpeech",
        address="https://dl.fbaipublicfiles.com/vam",
        archives={"all": "acoustic_avspeech.zip"},
        anchors=("img", "audio", "random_rir.pkl"),
        licence=(
            "Acoustic AVSpeech holds frames and sound of YouTube videos, which belong to their makers and show people; "
            "they were chosen from AVSpeech (https://looking-to-listen.github.io/avspeech/) and are published by a "
            "repository under CC BY-NC 4.0. Non-commercial research only; do not pass the clips on."
        ),
    ),
}


Stage = Callable[[str], AbstractContextManager[Progress]]


def _unseen(what: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total: None)


def download_benchmark(
    name: str,
    folder: str | Path,
    parts: Sequence[str] = (),
    *,
    accept_licence: bool = False,
    progress: Stage = _unseen,
) -> list[Path]:
    """Download and unpack a benchmark; the same call goes on where the last one stopped.

    The checksum of each archive is kept in ``checksums.json`` when it first comes, for none was published, and
    later downloads must match it. An archive may be deleted once it is unpacked.

    Args:
        name: one of `BENCHMARKS`.
        folder: where the archives and what is in them go.
        parts: of `Benchmark.archives`; all of them by default.
        accept_licence: that `Benchmark.licence` was read and is accepted.
        progress: given the words for what is done, a context with a callback (done, in all).

    Returns:
        the archives.

    Raises:
        ConfigError: an unknown name or part, or the licence is not accepted.
        DataError: the data is gone, cannot be reached, or is damaged.
    """
    if name not in BENCHMARKS:
        raise ConfigError(f"no benchmark is called {name!r}; there are {', '.join(BENCHMARKS)}")
    benchmark, folder = BENCHMARKS[name], Path(folder)
    if unknown := set(parts) - set(benchmark.archives):
        there = ", ".join(benchmark.archives)
        raise ConfigError(f"{benchmark.title} has no part {min(unknown)!r}; there are {there}")
    if not accept_licence:
        raise ConfigError(
            f"the licence of {benchmark.title} is not accepted; read it, then give --accept-licence"
        )
    archives = list[Path]()
    for part in parts or benchmark.archives:
        archive = folder / benchmark.archives[part]
        known = _read_checksums(folder).get(archive.name, {})
        if not known.get("unpacked"):
            url = f"{benchmark.address}/{archive.name}"
            known = {"url": url, **_bring(url, archive, known.get("sha256", ""), progress)}
            below = None if benchmark.anchors else part
            with progress(f"unpacking {archive.name}") as report:
                unpack(archive, folder, benchmark.anchors or (part,), below=below, progress=report)
            # Only now it is known to be whole: the sum of a damaged copy would refuse every good one.
            _write_checksum(folder, archive.name, {**known, "unpacked": True})
        archives.append(archive)
    return archives


def _bring(url: str, archive: Path, sha256: str, progress: Stage) -> dict[str, Any]:
    """The archive's size and checksum, downloaded unless it is there."""
    if archive.exists():
        found = file_sha256(archive)
        if sha256 and found != sha256:
            raise DataError(f"{archive} has SHA-256 {found}, not {sha256}; delete it and download it again")
    else:
        try:
            with progress(f"downloading {archive.name}") as report:
                found = download_file(url, archive, sha256=sha256, progress=report)
        except DataError as error:
            raise DataError(
                f"{error}. If you have {archive.name}, put it into {archive.parent} instead"
            ) from error
    return {"sha256": found, "bytes": archive.stat().st_size}


def _read_checksums(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads((folder / CHECKSUMS).read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{folder / CHECKSUMS} is damaged ({error}); delete it") from error
    if not isinstance(known, dict) or not all(isinstance(facts, dict) for facts in known.values()):
        raise DataError(f"{folder / CHECKSUMS} is not ours; delete it")
    return known


def _write_checksum(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    known = {**_read_checksums(folder), name: dict(facts)}
    with whole_file(folder / CHECKSUMS, DataError) as temporary:
        temporary.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


# ------------------------------------------------------------------------------------- archives


def unpack(
    archive: Path,
    folder: Path,
    anchors: Sequence[str],
    *,
    below: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Write the regular files of a .zip or .tar.* below a folder; return how many there are.

    A file's path is cut to start at the first of ``anchors`` in it; one without any goes into the folder
    ``below``. Files that are there with the right size are kept; those of an archive that turns out to be damaged
    are deleted again. Links, devices and paths that lead out are left out.

    Raises:
        DataError: the archive is damaged, or the disk full.
    """
    targets = list[Path]()
    try:
        for name, size, content in _members(archive):
            target = _target(name, folder, anchors, below)
            if target is None:
                continue
            targets.append(target)
            if not target.is_file() or target.stat().st_size != size:
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(content(), target)
            if progress is not None:
                progress(len(targets), None)
    except _UNREADABLE as error:
        for target in targets:  # an .xz tells only at its end that it is damaged
            target.unlink(missing_ok=True)
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DataError(f"{archive} is damaged ({reason}); delete it and download it again") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked: {error.strerror or error}") from error
    return len(targets)


def _members(archive: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    """Name, size and a way to the content of each regular file."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    yield info.filename, info.file_size, lambda info=info: zipped.open(info)  # type: ignore[misc]
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isreg():
                yield member.name, member.size, lambda member=member: tar.extractfile(member)  # type: ignore[misc]
        while tar.fileobj is not None and tar.fileobj.read(2**20):  # up to the checksum
            pass


def _target(name: str, folder: Path, anchors: Sequence[str], below: str | None) -> Path | None:
    """Where a member goes; None for one that is not wanted."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".")]
    is_junk = any(part == "__MACOSX" or part.startswith("._") for part in parts)
    if not parts or is_junk or ".." in parts or ":" in name or "\0" in name:
        return None
    start = next((index for index, part in enumerate(parts) if part in anchors), None)
    if start is not None:
        return folder.joinpath(*parts[start:])
    return folder.joinpath(*([] if below is None else [below]), *parts)


def _write(content: IO[bytes], target: Path) -> None:
    with whole_file(target, DataError) as temporary, content, temporary.open("wb") as file:
        shutil.copyfileobj(content, file, 2**20)
