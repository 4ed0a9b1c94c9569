"""The command line as a user meets it: a process, its exit status, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import pytest
import soundfile

from mvsd.cli import main

RATE = 16_000
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and limits")


def run(
    *arguments: object, python: tuple[str, ...] = ("-m", "mvsd"), **options: object
) -> subprocess.CompletedProcess[str]:
    """The command in a process, or what else `python` is told; no preexec_fn, as threads make a fork unsafe."""
    command = [sys.executable, *python, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)  # type: ignore[call-overload,no-any-return]


class Started:
    """A process that works beside the test. One that is waited for longer than `seconds` says where it is, and ends."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str], seconds: float) -> None:
        self.process, self.errors, self.seconds = process, errors, seconds

    def said(self) -> str:
        """What it has written to its standard error so far, unless that goes elsewhere."""
        self.errors.seek(0)
        return self.errors.read()

    def end(self, number: int) -> None:
        """A signal to it and to all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    @contextlib.contextmanager
    def waited_for(self) -> Iterator[None]:
        """Around what reads from it or waits for it, so that this comes to an end."""
        late = threading.Timer(self.seconds, self.end, [signal.SIGABRT])
        late.start()
        try:
            yield
        finally:
            late.cancel()
            late.join()

    def line(self) -> str:
        """The next line of its output; a process that ends without one has said why."""
        assert self.process.stdout is not None
        with self.waited_for():
            line = self.process.stdout.readline()
        assert line, "it ended without a line"
        return line.strip()

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Look again and again; a process that ends before it is so has said why."""
        with self.waited_for():
            while True:
                status = self.process.poll()
                if condition():
                    return
                assert status is None, f"it ended with status {status}"
                time.sleep(0.01)

    def ended(self) -> int:
        """Its status, once it and all others that have its output have ended."""
        assert self.process.stdout is not None
        with self.waited_for():
            self.process.stdout.read()
            return self.process.wait()


@contextlib.contextmanager
def started(*command: object, seconds: float = 300.0, env: Any = None, **options: Any) -> Iterator[Started]:
    """Python with these arguments, beside the block; it ends with it, and where that fails, what it said is shown."""
    words = [sys.executable, *map(str, command)]
    options = {"env": (env or os.environ) | {"PYTHONFAULTHANDLER": "1"}, "start_new_session": True, **options}
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(words, text=True, stdout=-1, **{"stderr": errors, **options}) as process,
    ):
        it = Started(process, errors, seconds)
        try:
            yield it
        except BaseException:
            it.end(signal.SIGABRT if process.poll() is None else signal.SIGKILL)
            process.wait()
            sys.stderr.write(it.said())
            raise
        finally:
            if process.poll() is None:
                it.end(signal.SIGKILL)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """As `run`, in this process, which has torch already: `main` is all that the installed command runs."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return subprocess.CompletedProcess(arguments, int(exit_.value.code or 0), out.getvalue(), err.getvalue())


def fails(
    folder: Path,
    *arguments: object,
    says: str,
    status: int = 1,
    run: Callable[..., Any] = run,
    **options: object,
) -> None:
    """Run what must fail: one line, the right status, nothing left behind and nothing lost."""
    before = contents(folder)
    result = run(*arguments, **options)
    assert result.returncode == status, result.stderr
    assert re.fullmatch(rf"error: .*{says}.*\n", result.stderr), result.stderr
    assert result.stdout == ""
    assert contents(folder) == before


def write_wav(path: Path, num_samples: int = RATE) -> bytes:
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(num_samples), RATE)
    return path.read_bytes()
