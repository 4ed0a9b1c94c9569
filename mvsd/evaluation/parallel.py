"""Work on many clips in several processes, and files that are whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from pathlib import Path
from typing import Any, TypeVar

from mvsd.errors import DataError, MvsdError
from mvsd.whole_file import whole_file
from mvsd.workers import process_pool

Result = TypeVar("Result")


def computed(
    function: Callable[..., Result], indices: Sequence[int], arguments: tuple[Any, ...], jobs: int
) -> Iterator[tuple[int, Result]]:
    """(index, function(index, *arguments)) as they come, from `jobs` processes, or from this one for 0."""
    if jobs == 0:
        yield from ((index, function(index, *arguments)) for index in indices)
        return
    if not indices:
        return
    with process_pool(min(jobs, len(indices))) as executor:
        running: dict[Future[Result], int] = {
            executor.submit(_portable, function, index, *arguments): index for index in indices
        }
        for future in as_completed(running):
            yield running.pop(future), future.result()


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all; raises DataError where that is impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent} cannot be made: {error.strerror or error}") from error
    with whole_file(path, DataError) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _portable(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result; an error is made one that travels between processes."""
    try:
        return function(*arguments)
    except MvsdError as error:
        raise MvsdError(str(error)) from None
