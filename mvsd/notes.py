"""What a sound file says beside its sound: tags, and the chunks by which studios and games find their places in it.

A converted recording keeps its rate and, but for a tail, its length, so a timecode, a cue or a loop stays where it was.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

Chunk = tuple[bytes, bytes]
"""Four letters, and what is in it."""

_KEPT = (b"bext", b"iXML", b"aXML", b"cue ", b"smpl", b"inst", b"_PMX")
_LABELS = b"adtl"  # of cues; the other list, of texts, are the tags
_TEXTS = b"INFO"
_TAGS = {
    b"INAM": "title",
    b"IART": "artist",
    b"ICMT": "comment",
    b"ICOP": "copyright",
    b"IPRD": "album",
    b"ICRD": "date",
    b"IGNR": "genre",
    b"ITRK": "tracknumber",
}
_BEXT_VERSION_AT, _UNKNOWN_LOUDNESS = 346, b"\xff\x7f"
_DAMAGED = "\N{REPLACEMENT CHARACTER}"
_MOST_BYTES = 2**24  # of all chunks, whatever a header claims
_EXTENSIBLE, _SPEAKERS_AT = 0xFFFE, 20  # kind of "fmt " that has a mask, and where
_IN_64_BITS = 2**32 - 1  # the size of what is counted in the chunk ds64


@dataclass(frozen=True)
class Notes:
    """`tags` (title, artist and the like, by libsndfile's names), and of a WAV file `chunks` (EBU Tech 3285, iXML).

    `speakers` is the mask that says which loudspeaker each channel is for (WAVEFORMATEXTENSIBLE), 0 where none is said.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    chunks: tuple[Chunk, ...] = ()
    speakers: int = 0


def read_notes(path: Path, tags: Mapping[str, str]) -> Notes:
    """`tags`, and of a WAV file what can be kept; of a damaged one what comes first.

    Of tags that are not UTF-8, which libsndfile reads as it, those of a WAV file are taken as Windows-1252.
    """
    found, speakers = list[Chunk](), 0
    texts = dict[str, str]()
    with suppress(OSError, struct.error), path.open("rb") as file:
        for name, size in _chunks(file):
            if name == b"fmt ":
                speakers = _read_speakers(file, size)
            kind = file.read(4) if name == b"LIST" else b""
            file.seek(-len(kind), 1)
            if size + sum(len(content) for _, content in found) > _MOST_BYTES:
                continue
            if name in _KEPT or kind == _LABELS:
                content = file.read(size)
                found.append((name, _without_loudness(content) if name == b"bext" else content))
            elif kind == _TEXTS:
                texts |= _read_texts(file.read(size)[4:])
    legible = {name: texts.get(name, text) if _DAMAGED in text else text for name, text in tags.items()}
    kept = {name: text for name, text in legible.items() if _DAMAGED not in text}
    return Notes(kept, tuple(found), speakers)


def write_speakers(path: Path, speakers: int) -> None:
    """Say for which loudspeaker each channel is, in a WAV file that has a place for it (WAVEX, RF64)."""
    with path.open("r+b") as file:
        for name, _ in _chunks(file):
            if name == b"fmt ":
                file.seek(_SPEAKERS_AT, 1)
                file.write(struct.pack("<I", speakers))
                return


def append_chunks(path: Path, chunks: tuple[Chunk, ...]) -> None:
    """Write chunks behind the others of a WAV file, RIFF or RF64."""
    with path.open("r+b") as file:
        is_long = file.read(4) == b"RF64"
        file.seek(0, 2)
        for name, content in chunks:
            file.write(b"\0" * (file.tell() % 2) + name + struct.pack("<I", len(content)) + content)
        file.write(b"\0" * (file.tell() % 2))
        size = file.tell() - 8
        file.seek(20 if is_long else 4)  # in the ds64 chunk, which is the first
        file.write(struct.pack("<Q" if is_long else "<I", size))


def _read_texts(content: bytes) -> dict[str, str]:
    """The tags that are not UTF-8, of what follows the name of a list of texts."""
    texts, position = dict[str, str](), 0
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        text = content[position + 8 : position + 8 + size].partition(b"\0")[0]
        position += 8 + size + size % 2
        try:
            text.decode()
        except UnicodeDecodeError:
            if name in _TAGS:
                texts[_TAGS[name]] = text.decode("cp1252", "ignore")
    return texts


def _without_loudness(content: bytes) -> bytes:
    """A bext chunk without the loudness and the identity of a sound that is no more (EBU Tech 3285, version 2)."""
    version = int.from_bytes(content[_BEXT_VERSION_AT : _BEXT_VERSION_AT + 2], "little")
    start, loudness, end = _BEXT_VERSION_AT + 2, _BEXT_VERSION_AT + 66, _BEXT_VERSION_AT + 76
    if version < 2 or len(content) < end:
        return content
    return content[:start] + bytes(loudness - start) + _UNKNOWN_LOUDNESS * 5 + content[end:]


def _read_speakers(file: BinaryIO, size: int) -> int:
    """Of the chunk "fmt " that begins here."""
    if size < _SPEAKERS_AT + 4:
        return 0
    kind, *_, speakers = struct.unpack(f"<H{_SPEAKERS_AT - 2}sI", file.read(_SPEAKERS_AT + 4))
    return int(speakers) if kind == _EXTENSIBLE else 0


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk of a WAV file, which stands at its content then."""
    form, _, kind = struct.unpack("<4sI4s", file.read(12))
    if form not in (b"RIFF", b"RF64") or kind != b"WAVE":
        return
    data_size, position = 0, 12
    while header := file.read(8):
        name, size = struct.unpack("<4sI", header)
        if name == b"ds64":
            data_size = struct.unpack("<QQ", file.read(16))[1]
        elif name == b"data" and size == _IN_64_BITS:
            if not data_size:  # a stream, which ends with its sound
                return
            size = data_size
        file.seek(position + 8)
        yield name, size
        position += 8 + size + size % 2
        file.seek(position)
