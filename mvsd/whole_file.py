"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mvsd.errors import MvsdError


@contextmanager
def whole_file(path: Path, error_class: type[MvsdError] = MvsdError) -> Iterator[Path]:
    """A file beside `path`, to be written in the block; it takes the place of `path` only if the block succeeds.

    Its suffix is that of `path`. What the system refuses is raised as `error_class`.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise error_class(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
