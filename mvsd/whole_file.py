"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mvsd.errors import MvsdError


@contextmanager
def whole_file(path: Path, error_class: type[MvsdError] = MvsdError) -> Iterator[Path]:
    """An empty file beside `path`, to be written in the block; it takes the place of `path` only if the block succeeds.

    Its suffix is that of `path`. A link keeps pointing to its file, which keeps its permissions. What the system
    refuses is raised as `error_class`.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.stem[:200]}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        # Never through somebody's link, and with the user's usual permissions.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if target.exists():
            shutil.copymode(target, temporary)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise error_class(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
