"""Who is on the page: a folder for the results of each, and a sign to stop."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mvsd.errors import MvsdError
from mvsd.web.jobs import Progress

_STOPPED = "stopped; nothing was kept"


class Stopped(MvsdError):  # noqa: N818
    """The visitor does not want the result any more."""


@dataclass(frozen=True)
class Job:
    """A folder for the results of one conversion, and whether it is still wanted."""

    folder: Path
    stopped: threading.Event = field(default_factory=threading.Event)

    def watched(self, progress: Callable[[float], object]) -> Progress:
        """A callback for what works on it: passes on the fraction done. Raises Stopped."""

        def report(done: float, total: float | None) -> None:
            if self.stopped.is_set():
                raise Stopped(_STOPPED)
            progress(min(1.0, done / total) if total else 0.0)

        return report


class Visitors:
    """The jobs of each session: the last one, and the one whose results are kept until the next succeeds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._jobs: dict[str, Job] = {}
        self._results: dict[str, Path] = {}
        self._lock = threading.Lock()

    @contextmanager
    def job(self, session: str) -> Iterator[Job]:
        """A job in an empty folder that nobody can guess; it goes if the block fails or the job is stopped."""
        folder = self.root / "results" / secrets.token_hex(16)
        folder.mkdir(parents=True)
        job = Job(folder)
        with self._lock:
            self._jobs[session] = job
        try:
            yield job
            with self._lock:
                if job.stopped.is_set():
                    raise Stopped(_STOPPED)
                old = self._results.get(session)
                self._results[session] = folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)

    def stop(self, session: str) -> None:
        """Stop the session's job, if it has one; results that are there stay."""
        with self._lock:
            if session in self._jobs:
                self._jobs[session].stopped.set()

    def leave(self, session: str) -> None:
        """Stop the session's job and remove its results."""
        self.stop(session)
        with self._lock:
            self._jobs.pop(session, None)
            folder = self._results.pop(session, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def plain(self, error: Exception) -> str:
        """The error in one line, without the folders of this server."""
        root = r"[/\\]".join(map(re.escape, re.split(r"[/\\]", str(self.root))))
        message = re.sub(rf"{root}[/\\](?:[^/\\\s:]+[/\\])*", "", str(error))
        return " ".join(message.split())
