"""Files on the web: downloads that go on where they stopped, and a cache for shards that are read from there."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from mvsd.errors import ConfigError, DataError

Progress = Callable[[float, float | None], None]

DEFAULT_CACHE_GB = 50.0

_BLOCK_BYTES = 2**20
_TIMEOUT = 60.0  # seconds without a byte
_GONE = (401, 403, 404, 410)  # object storage says 403 for what it does not have
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_SHARDS = 100_000
_FORGOTTEN_SECONDS = 86_400.0


class _InterruptedError(Exception):
    """The connection broke; what came so far is kept."""


def is_url(path: str | Path) -> bool:
    """Whether a path is an address on the web."""
    return str(path).startswith(("http://", "https://"))


def expand(url: str) -> list[str]:
    """The addresses that ``.../train-{000000..000012}.tar`` stands for, as in WebDataset; one if it has no braces.

    Raises DataError for more than 100,000.
    """
    match = _RANGE.search(url)
    if match is None:
        return [url]
    first, last = int(match[1]), int(match[2])
    if last - first >= _MAX_SHARDS:
        raise DataError(f"{url} stands for {last - first + 1} shards; at most {_MAX_SHARDS} are read")
    return [
        f"{url[: match.start()]}{number:0{len(match[1])}d}{url[match.end() :]}"
        for number in range(first, last + 1)
    ]


def download_file(url: str, path: Path, *, sha256: str = "", progress: Progress | None = None) -> str:
    """Bring a file from the web to ``path``, whole or not at all, and return its SHA-256.

    What came so far stays in ``<path>.part``; the same call goes on from there if the server still has the same
    file. `progress` is called with the bytes there are and the bytes in all (None while unknown).

    Raises:
        DataError: the file is gone, the server cannot be reached, the connection broke twice at the same byte,
            the content is not that of ``sha256``, or the disk is full.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            size = partial.stat().st_size if partial.exists() else 0
            try:
                _continue_download(url, partial, progress)
                break
            except _InterruptedError as error:
                if not partial.exists() or partial.stat().st_size <= size:
                    raise DataError(f"{url}: {error}; run the same command again to go on") from error
        found = file_sha256(partial)
        if sha256 and found != sha256:
            partial.unlink()
            raise DataError(f"{url} has SHA-256 {found}, not {sha256}: damaged or changed; it was deleted")
        partial.replace(path)
        _validator_path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    return found


def _continue_download(url: str, partial: Path, progress: Progress | None) -> None:
    """Append what is missing; start anew where the server's file is another one."""
    validator = _validator_path(partial)
    size = partial.stat().st_size if partial.exists() and validator.exists() else 0
    start = max(
        0, size - 1
    )  # the last byte again: of a part that is complete nothing else could be asked for
    headers = {"User-Agent": "mvsd", "Accept-Encoding": "identity"}
    address = quote(url, safe="%/:?#[]@!$&'()*+,;=~")  # what is not ASCII; what is quoted stays
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator.read_text()}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=_TIMEOUT
        ) as response:
            if response.status != 206 or not _begins_at(response.headers, start):
                start = 0
            tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
            if tag and not tag.startswith("W/"):  # a weak tag does not promise the same bytes
                validator.write_text(tag)
            elif not start:
                validator.unlink(missing_ok=True)
            length = response.headers.get("Content-Length")
            total = start + int(length) if length and length.isdigit() else None
            done = _append(response, partial, start, total, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # the part is longer than the file
            partial.unlink()
            raise _InterruptedError("the file has changed") from error
        if error.code in _GONE:
            raise DataError(f"{url} is gone (HTTP {error.code}): its publisher has taken it down") from error
        raise DataError(f"{url} answers HTTP {error.code} {error.reason}; try again later") from error
    except urllib.error.URLError as error:
        raise DataError(f"{url} cannot be reached: {error.reason}; check the connection") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _InterruptedError(f"the connection broke ({type(error).__name__})") from error
    if total is not None and done < total:
        raise _InterruptedError(f"the connection ended after {done} of {total} bytes")


def _append(
    response: http.client.HTTPResponse,
    partial: Path,
    start: int,
    total: int | None,
    progress: Progress | None,
) -> int:
    with partial.open("r+b" if start else "wb") as file:
        file.seek(start)
        while block := response.read(_BLOCK_BYTES):
            file.write(block)
            if progress is not None:
                progress(file.tell(), total)
        return file.tell()


def _begins_at(headers: http.client.HTTPMessage, start: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _validator_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.tag")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


# ------------------------------------------------------------------------------------- the cache


def local_path(path: str | Path) -> Path:
    """A path as it is; for an address, that of a copy in the cache, downloaded unless it is there.

    The cache is the folder ``$MVSD_CACHE``, by default ``~/.cache/mvsd``; beyond ``$MVSD_CACHE_GB`` (50) gigabytes
    the copies that were not used for longest are deleted. An address is taken to mean the same content for ever.

    Raises DataError as `download_file` does.
    """
    if not is_url(path):
        return Path(path)
    url = str(path)
    if urlsplit(url).path.endswith("/"):
        raise DataError(f"{url} is the address of a folder; give that of a .tar shard, or of a range of them")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", urlsplit(url).path.rsplit("/", 1)[-1])[-100:]
    folder = Path(os.environ.get("MVSD_CACHE") or Path.home() / ".cache" / "mvsd") / "shards"
    copy = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    if copy.exists():
        with suppress(OSError):  # the cache may be somebody else's
            os.utime(copy)
        return copy
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:  # other processes fetch it as well
        download_file(url, Path(temporary) / name)
        (Path(temporary) / name).replace(copy)
    _delete_oldest(folder, keep=copy)
    return copy


def _delete_oldest(folder: Path, keep: Path) -> None:
    setting = os.environ.get("MVSD_CACHE_GB") or str(DEFAULT_CACHE_GB)
    if not re.fullmatch(r"\d+(\.\d+)?", setting):
        raise ConfigError(f"MVSD_CACHE_GB is {setting!r}; a number of gigabytes is wanted")
    limit = float(setting) * 1e9
    facts = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process tidies up as well
            status = path.stat()
            if path.is_file():
                facts.append((status, path))
            elif path.name.startswith(".") and time.time() - status.st_mtime > _FORGOTTEN_SECONDS:
                shutil.rmtree(path, ignore_errors=True)  # of a process that was killed
    total = sum(status.st_size for status, _ in facts)
    for status, path in sorted(facts, key=lambda fact: fact[0].st_mtime):
        if total > limit and path != keep:
            path.unlink(missing_ok=True)
            total -= status.st_size
