"""Photos in HEIF, as phones take them (HEIC), by pillow_heif, which is optional."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from mvsd.errors import MissingExtraError, PhotoError

_BRANDS = (b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevm", b"hevs", b"hevx", b"mif1", b"msf1")
_MAX_BYTES = 2**28  # libheif wants the whole file in memory


def is_heif(path: Path) -> bool:
    """Whether the content says so."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:] in _BRANDS


def open_heif(path: Path, max_pixels: int) -> Image.Image:
    """The primary image, not yet decoded; upright, and its EXIF says so.

    Raises PhotoError for a file too large or with a picture of more than `max_pixels`, MissingExtraError without
    pillow_heif, and what Pillow raises for a damaged one.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        hint = f"{path}: a picture in HEIC, as phones take it; save it as JPEG, or have it read: "
        raise MissingExtraError("heic", "pillow_heif", hint) from error
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise PhotoError(f"{path}: {size >> 20} MiB; at most {_MAX_BYTES >> 20} are read of a HEIF photo")
    data = path.read_bytes()
    # A photo may be cut from a far larger picture, or bring a far larger mask: libheif decodes that first.
    _require_size(path, _stored_sizes(memoryview(data)), max_pixels)
    photo: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]
    tiling = photo.info.get("tiling")
    if tiling:  # a grid has a size of its own, which libheif compares with the header's when all is decoded
        _require_size(path, [(tiling["image_width"], tiling["image_height"])], max_pixels)
    return photo


def _require_size(path: Path, sizes: Iterable[tuple[int, int]], max_pixels: int) -> None:
    for columns, rows in sizes:
        if columns * rows > max_pixels:
            raise PhotoError(
                f"{path}: a picture of {columns} x {rows} pixels is in it; at most {max_pixels // 1_000_000}"
                " megapixels are read; make it smaller"
            )


def _stored_sizes(content: memoryview) -> Iterator[tuple[int, int]]:
    """Columns and rows of all pictures in a file, as its `ispe` boxes have them."""
    for kind, inner in _boxes(content):
        if kind == b"ispe":
            yield int.from_bytes(inner[4:8], "big"), int.from_bytes(inner[8:12], "big")
        elif kind in (b"meta", b"iprp", b"ipco"):
            yield from _stored_sizes(inner[4:] if kind == b"meta" else inner)


def _boxes(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kinds and contents of boxes one after the other; damage ends them, and libheif says what it is."""
    while len(content) >= 8:
        size, kind, start = int.from_bytes(content[:4], "big"), bytes(content[4:8]), 8
        if size == 1:
            size, start = int.from_bytes(content[8:16], "big"), 16
        elif size == 0:
            size = len(content)
        if size < start:
            return
        yield kind, content[start:size]
        content = content[size:]
