"""Tasks in several processes, of which one may die without the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from time import perf_counter
from typing import Any, NoReturn, TypeVar

from mvsd.errors import MvsdError

Task = TypeVar("Task")

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""The environment in which a process that starts has one thread."""

DIED = "a process died, perhaps for lack of memory; run the same command again with fewer --jobs"

_MOST_ON_WINDOWS = 61  # what its call that waits for processes can wait for
_LAST_SECONDS = 10.0  # for a worker to clean up


@dataclass(frozen=True)
class Outcome:
    """Whether a task succeeded, what it returned or why it failed, and the seconds it took."""

    succeeded: bool
    message: str
    seconds: float


def run_in_processes(
    function: Callable[[Task], str], tasks: Iterable[Task], jobs: int, started: Callable[[Task], object]
) -> Generator[tuple[Task, Outcome]]:
    """Each task and its outcome, in the order in which they end; `started` is called before each.

    With one job, here; with more, in as many processes, in which torch has one thread, as OpenMP has. A task that
    raises, or whose process dies, has failed, and the others go on. When the caller stops, the processes are asked to
    clean up and end.
    """
    if jobs == 1:
        for task in tasks:
            started(task)
            yield task, attempt(function, task)
        return
    queue = deque(tasks)
    idle: list[_Worker] = []
    busy: dict[Connection, tuple[_Worker, Task]] = {}
    try:
        while queue or busy:
            while queue and len(busy) < _at_most(jobs):
                worker = idle.pop() if idle else _Worker(function)
                if not worker.process.is_alive():  # it died with nothing to do
                    worker.end()
                    continue
                task = queue.popleft()
                started(task)
                busy[worker.connection] = (worker, task)  # first: an interrupt must find who has begun
                with suppress(OSError):  # it died just now: it has no outcome
                    worker.connection.send(task)
            ready = wait(list(busy))
            for connection in [connection for connection in busy if connection in ready]:
                worker, task = busy.pop(connection)
                outcome = worker.outcome()
                if outcome is None:
                    worker.end()
                    outcome = Outcome(
                        False, f"its process died ({worker.exit_reason()}); is there memory enough?", 0
                    )
                else:
                    idle.append(worker)
                yield task, outcome
    finally:
        workers = [*idle, *(worker for worker, _ in busy.values())]
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.end()


def attempt(function: Callable[[Task], str], task: Task) -> Outcome:
    """Run a task; what goes wrong becomes one line."""
    start = perf_counter()
    try:
        message, succeeded = function(task), True
    except MvsdError as error:
        message, succeeded = str(error), False
    except OSError as error:
        message, succeeded = f"{error.filename or 'the system'}: {error.strerror or error}", False
    except Exception as error:  # a fault of ours must not stop the other files either
        message, succeeded = f"unexpected {type(error).__name__}: {error}", False
    return Outcome(succeeded, " ".join(message.split()), perf_counter() - start)


class _Worker:
    """A process that takes tasks and gives outcomes."""

    def __init__(self, function: Callable[[Any], str]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        with _starting():
            self.process.start()
        theirs.close()

    def outcome(self) -> Outcome | None:
        """What the process sent, None if it died."""
        try:
            outcome: Outcome = self.connection.recv()
        except (EOFError, OSError):
            return None
        return outcome

    def end(self) -> None:
        self.connection.close()
        self.process.join(_LAST_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def exit_reason(self) -> str:
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _serve(connection: Connection, function: Callable[[Any], str]) -> None:
    """A worker's life: until there is nothing more to do, or its parent is gone."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        while True:
            connection.send(attempt(function, connection.recv()))
    except (EOFError, OSError):
        pass


def _stop(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)  # so that what cleans up is run


def end_with_parent() -> None:
    """Let a process that works for another end when the other is killed or interrupted, without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _at_most(jobs: int) -> int:
    return min(jobs, _MOST_ON_WINDOWS) if os.name == "nt" else jobs


@contextmanager
def process_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Freshly started processes of one thread each, which end when this one does.

    Raises MvsdError when one of them dies. Whoever stops early begins nothing more.
    """
    spawned = multiprocessing.get_context("spawn")  # a fork would share the parent's threads and locks
    with environment(ONE_THREAD):
        executor = ProcessPoolExecutor(_at_most(jobs), spawned, initializer=end_with_parent)
        try:
            yield executor
        except BaseException as error:
            # Who was asked to end cleans up after the processes, which finish what they have begun.
            executor.shutdown(wait=isinstance(error, SystemExit), cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise MvsdError(DIED) from error
            raise
        executor.shutdown()


@contextmanager
def _starting() -> Iterator[None]:
    """What a process inherits at its start: one thread, and no ear for Ctrl-C, which is its parent's to hear."""
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
    try:
        with environment(ONE_THREAD):
            yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that hold inside the block, also for processes that start there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
