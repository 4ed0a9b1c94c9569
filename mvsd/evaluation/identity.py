"""By what it is noticed that data have changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mvsd.recordings import files_below


def tree_identity(path: Path, without: Path | None = None) -> str:
    """A digest of names, sizes and times of a file, or of all files of a folder.

    Left out are hidden files, what Python compiled, and a folder `without` below it.
    """
    files = [path] if path.is_file() else sorted(file for file in files_below(path) if file.is_file())
    files = [file for file in files if "__pycache__" not in file.relative_to(path).parts]
    if without is not None and path.resolve() in without.resolve().parents:
        files = [file for file in files if not file.resolve().is_relative_to(without.resolve())]
    facts = []
    for file in files:
        name = file.name if file == path else file.relative_to(path).as_posix()
        status = file.stat()
        facts.append((name, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Of a file's content; "" where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
