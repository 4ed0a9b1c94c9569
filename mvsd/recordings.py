"""Which files are recordings, and the files below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mvsd.audio_writer import CONTAINERS
from mvsd.container import FORMATS

# Recordings that can be read, but not written under their own name: better a failure than silence.
_ONLY_READ = (
    ".3gp .aac .ac3 .aifc .amr .ape .asf .au .avi .bwf .dts .flv .m2ts .m4b .mka .mp2 .mpeg .mpg .mpga .mts .mxf .oga"
    " .ogv .snd .sph .ts .tta .vob .voc .wma .wmv .wv"
)
RECORDINGS = (*CONTAINERS, *FORMATS, *_ONLY_READ.split())
"""Suffixes of what is taken for a recording."""


def files_below(folder: Path, note: Callable[[str], object] = lambda _: None) -> Iterator[Path]:
    """Files in a folder and in those below it but hidden ones; links are followed, but into no folder twice.

    `note` is told of folders that are passed over.
    """
    seen = {_identity(folder)}

    def fail(error: OSError) -> None:
        note(f"{error.filename}: cannot be read ({error.strerror}); it is passed over")

    for current, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        here = Path(current)
        entered = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            identity = _identity(here / name)
            if identity in seen:
                note(f"{here / name}: a link to a folder that is seen anyway; it is passed over")
            else:
                seen.add(identity)
                entered.append(name)
        folders[:] = entered
        yield from (here / name for name in files if not name.startswith("."))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
