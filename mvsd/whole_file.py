"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mvsd.errors import MvsdError, OutputExistsError


@contextmanager
def whole_file(path: Path, error_class: type[MvsdError] = MvsdError, *, force: bool = True) -> Iterator[Path]:
    """An empty file beside `path`, to be written in the block; it takes the place of `path` only if the block succeeds.

    Its suffix is that of `path`. It is on the disk before it is moved, and goes where the program is asked to stop. A
    link keeps pointing to its file, which keeps its permissions. What the system refuses is raised as `error_class`.
    `require_free` is asked before the block and, as a file may appear meanwhile, after it.
    """
    target = Path(os.path.realpath(path))
    # Not named after the target, whose name may be as long as a name can be.
    temporary = target.with_name(f".mvsd-{secrets.token_hex(8)}.part{target.suffix}")
    try:
        with stop_signals_raise():
            require_free(path, force, error_class)
            try:
                # Never through somebody's link, and with the user's usual permissions.
                os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                if target.exists():
                    shutil.copymode(target, temporary)
                yield temporary
                _sync(temporary)
                require_free(path, force, error_class)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            with suppress(OSError):  # it is there already; not every folder may be opened
                _sync(target.parent)
    except OSError as error:
        raise error_class(f"{path} cannot be written: {error.strerror or error}") from error


def require_free(path: Path, force: bool, error_class: type[MvsdError] = MvsdError) -> None:
    """Check the place of a file before time is spent on it.

    Raises:
        OutputExistsError: the file is there and `force` is false.
        error_class: a folder, a pipe or a device is there, whose place no file may take.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise error_class(f"{path} is no file; give the name of a file")
    if not force:
        raise OutputExistsError(f"{path}: exists already; choose another name or use --force to replace it")


def _sync(path: Path) -> None:
    """Force a file, or a folder's new name in it, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def stop_signals_raise() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise SystemExit, so that cleaning up is done, unless they are handled."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # only the main thread may set handlers
    numbers = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
