"""The command line as a user meets it: a process, its exit status, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mvsd.cli import main

RATE = 16_000
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and limits")


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mvsd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)  # type: ignore[call-overload,no-any-return]


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
