"""What the command that serves the page asks of the server, and what it warns of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from command_line import run_here

from mvsd.errors import MvsdError
from mvsd.web.jobs import Limits


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What a server was asked for that does not start: models, limits, host."""
    found = list[tuple[Any, ...]]()

    @contextmanager
    def serving(models: object, limits: Limits, *, host: str, **_: object) -> Iterator[str]:
        found.append((models, limits, host))
        raise MvsdError("no server")
        yield ""

    monkeypatch.setattr("mvsd.web.app.serving", serving)
    monkeypatch.setattr("mvsd.web.jobs.Models.load", lambda *_: "models")
    return found


@pytest.mark.parametrize(
    ("host", "is_warned"), [("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False)]
)
def test_others_are_let_in_with_a_warning(host: str, is_warned: bool, asked: list[tuple[Any, ...]]) -> None:
    result = run_here("demo", "--host", host, "--device", "cpu")
    assert result.returncode == 1 and result.stderr.endswith("error: no server\n")
    assert (f"warning: whoever reaches {host}:7860 can use the page" in result.stderr) is is_warned
    assert asked == [("models", Limits(), host)]


def test_the_limits_reach_the_page(asked: list[tuple[Any, ...]]) -> None:
    run_here("demo", "--max-megabytes", 7, "--max-seconds", 12.5, "--device", "cpu")
    assert [limits for _, limits, _ in asked] == [Limits(megabytes=7, seconds=12.5)]
