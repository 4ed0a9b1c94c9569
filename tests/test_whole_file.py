"""A file is whole or not there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mvsd.errors import DataError, MvsdError, OutputExistsError
from mvsd.whole_file import whole_file


def test_a_file_appears_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with whole_file(path) as temporary:
        assert temporary.suffix == ".png"  # some writers choose the format by it
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(error: Exception) -> None:
        with whole_file(path, DataError) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(KeyError):
        fail(KeyError())
    with pytest.raises(DataError, match="cannot be written: No space left"):
        fail(OSError(28, "No space left"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_only_by_force_also_one_that_appears_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with (
        pytest.raises(OutputExistsError, match="a.txt: exists already; .*--force"),
        whole_file(path, DataError, force=False) as temporary,
    ):
        temporary.write_text("new")
        path.write_text("somebody else's")
    with pytest.raises(OutputExistsError), whole_file(path, force=False):
        pytest.fail("what is there already is told before the work")
    assert path.read_text() == "somebody else's"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_a_pipe_or_a_folder_keeps_its_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link", "folder"):
        with (
            pytest.raises(DataError, match=f"{name} is no file; give the name of a file"),
            whole_file(tmp_path / name, DataError) as temporary,
        ):
            temporary.write_text("new")
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 3


def test_a_name_may_be_as_long_as_a_name_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("\N{CJK UNIFIED IDEOGRAPH-5BA4}" * 83 + ".txt")  # 253 bytes
    with whole_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_program_that_is_asked_to_stop_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit), whole_file(tmp_path / "a.txt"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="needs links and permissions")
def test_links_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.txt", tmp_path / "a.txt"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    with whole_file(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink() and target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(MvsdError, match="where/a.txt cannot be written"),
        whole_file(tmp_path / "where" / "a.txt") as temporary,
    ):
        temporary.write_text("x")


@pytest.mark.skipif(os.name != "posix", reason="Windows opens no folders")
def test_a_folder_that_cannot_be_opened_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one into which all may write and none may look."""
    system_open = os.open

    def open_no_folder(path: str | Path, *arguments: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied")
        return system_open(path, *arguments)

    monkeypatch.setattr(os, "open", open_no_folder)
    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
