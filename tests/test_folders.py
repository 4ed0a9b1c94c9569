"""A folder of recordings: the tree again, whatever fails, and on from where it stopped."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvsd.errors import MvsdError
from mvsd.folders import RESULTS, FolderReport, Row, _Results, convert_folder, find_tasks, scene_for
from mvsd.workers import process_pool, run_in_processes

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and links")


class Upper:
    """Writes a file in capitals; what is in it may make it fail."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, source: Path, output: Path, scene: Path | None) -> str:
        text = source.read_text()
        self.calls.append(source.name)
        if text == "bad":
            raise MvsdError(f"{source}: is bad;\n another one is wanted")
        if text == "bug":
            raise ZeroDivisionError("division by zero")
        if text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "stop":
            raise KeyboardInterrupt
        if text == "slow":
            output.with_suffix(".begun").touch()
            try:
                time.sleep(60)
            finally:
                output.with_suffix(".begun").rename(output.with_suffix(".ended"))
        output.write_text(text.upper() + ("" if scene is None else scene.read_text()))
        return "a word on it" if text == "loud" else ""


def change_later(path: Path, text: str) -> None:
    """Write a file as long as before; the times of some file systems are coarser than a test."""
    time_ns = path.stat().st_mtime_ns + 2_000_000_000
    assert path.stat().st_size == len(text)
    path.write_text(text)
    os.utime(path, ns=(time_ns, time_ns))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder `in` with recordings, and things that are none."""
    for name in (
        "b.wav",
        "a.flac",
        "sub/a.mp4",
        "sub/deep/c.MP3",
        "sub/._a.mp4",
        ".hidden/d.wav",
        "notes.txt",
        "x.jpg",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


NAMES = ["a.flac", "b.wav", "sub/a.mp4", "sub/deep/c.MP3"]


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / RESULTS).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def statuses(report: FolderReport) -> list[str]:
    return [row.status for row in report.rows]


def test_the_tree_and_the_names_stay(tree: Path) -> None:
    report = convert_folder(Upper(), tree / "in", tree / "new" / "out")
    assert [row.file for row in report.rows] == NAMES
    assert statuses(report) == ["converted"] * 4
    assert files_below(tree / "new" / "out") == sorted([*NAMES, RESULTS])
    assert (tree / "new/out/sub/deep/c.MP3").read_text() == "SUB/DEEP/C.MP3"
    assert report.notes == (f"{tree / 'in'}: 2 other files are passed over",)
    rows = table(tree / "new" / "out")
    assert list(rows) == NAMES
    assert {row["status"] for row in rows.values()} == {"converted"}
    assert rows["b.wav"]["size"] == "5"


def test_what_is_done_is_kept(tree: Path) -> None:
    first, second = Upper(), Upper()
    convert_folder(first, tree / "in", tree / "out")
    before = table(tree / "out")
    report = convert_folder(second, tree / "in", tree / "out")
    assert statuses(report) == ["kept"] * 4
    assert (len(first.calls), second.calls) == (4, [])
    assert table(tree / "out") == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: change_later(folder / "in/b.wav", "other"), id="the recording"),
        pytest.param(lambda folder: (folder / "out/b.wav").write_text("cut"), id="the output"),
        pytest.param(lambda folder: (folder / "room.jpg").write_text("another"), id="the scene"),
    ],
)
def test_what_has_changed_is_not_kept(tree: Path, change: Callable[[Path], object]) -> None:
    (tree / "room.jpg").write_text("photo")
    convert_folder(Upper(), tree / "in", tree / "out", tree / "room.jpg")
    change(tree)
    converter = Upper()
    report = convert_folder(converter, tree / "in", tree / "out", tree / "room.jpg")
    failed = [row.file for row in report.rows if row.status == "failed"]
    assert "b.wav" in failed
    assert all("--force" in row.message for row in report.rows if row.status == "failed")
    assert converter.calls == []
    again = convert_folder(converter, tree / "in", tree / "out", tree / "room.jpg", force=True)
    assert [row.file for row in again.rows if row.status == "converted"] == failed
    assert (tree / "out/b.wav").read_text() == (tree / "in/b.wav").read_text().upper() + (
        tree / "room.jpg"
    ).read_text()


def test_the_refusal_says_what_has_changed(tree: Path) -> None:
    convert_folder(Upper(), tree / "in", tree / "out", settings="loud")
    (tree / "in/b.wav").write_text("recorded again")
    report = convert_folder(Upper(), tree / "in", tree / "out", settings="loud")
    (refused,) = [row.message for row in report.rows if row.status == "failed"]
    assert "is not from this recording and photo as they are now" in refused
    report = convert_folder(Upper(), tree / "in", tree / "out", settings="soft")
    assert all("is not from these settings" in row.message for row in report.rows)


def test_what_changes_while_it_is_converted_is_not_kept(tree: Path) -> None:
    def upper(source: Path, output: Path, scene: Path | None) -> str:
        output.write_text(source.read_text().upper())
        if source.name == "b.wav":
            source.write_text("recorded again")
        return ""

    convert_folder(upper, tree / "in", tree / "out")
    report = convert_folder(Upper(), tree / "in", tree / "out", force=True)
    assert [row.file for row in report.rows if row.status == "converted"] == ["b.wav"]
    assert (tree / "out/b.wav").read_text() == "RECORDED AGAIN"


def test_what_is_missing_is_made_again(tree: Path) -> None:
    convert_folder(Upper(), tree / "in", tree / "out")
    (tree / "out/b.wav").unlink()
    assert statuses(convert_folder(Upper(), tree / "in", tree / "out")) == [
        "kept",
        "converted",
        "kept",
        "kept",
    ]


def test_other_settings_are_not_taken_for_done(tree: Path) -> None:
    convert_folder(Upper(), tree / "in", tree / "out", settings="seed 1")
    assert statuses(convert_folder(Upper(), tree / "in", tree / "out", settings="seed 2")) == ["failed"] * 4
    # Nothing was touched, so the first settings are still done.
    assert statuses(convert_folder(Upper(), tree / "in", tree / "out", settings="seed 1")) == ["kept"] * 4
    report = convert_folder(Upper(), tree / "in", tree / "out", settings="seed 2", force=True)
    assert statuses(report) == ["converted"] * 4
    again = convert_folder(Upper(), tree / "in", tree / "out", settings="seed 2", force=True)
    assert statuses(again) == ["kept"] * 4


def test_a_file_of_somebody_else_is_not_replaced(tree: Path) -> None:
    (tree / "out").mkdir()
    (tree / "out/b.wav").write_text("mine")
    report = convert_folder(Upper(), tree / "in", tree / "out")
    assert statuses(report) == ["converted", "failed", "converted", "converted"]
    assert (tree / "out/b.wav").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("bad", "b.wav: is bad; another one is wanted"),
        ("bug", "unexpected ZeroDivisionError: division by zero"),
    ],
)
def test_a_failure_does_not_stop_the_rest(tree: Path, content: str, says: str) -> None:
    (tree / "in/b.wav").write_text(content)
    report = convert_folder(Upper(), tree / "in", tree / "out")
    assert statuses(report) == ["converted", "failed", "converted", "converted"]
    assert report.rows[1].message.endswith(says)
    assert report.count("failed") == 1
    assert table(tree / "out")["b.wav"]["message"] == report.rows[1].message
    (tree / "in/b.wav").write_text("good")
    assert statuses(convert_folder(Upper(), tree / "in", tree / "out")) == [
        "kept",
        "converted",
        "kept",
        "kept",
    ]


def test_a_folder_that_cannot_be_made_is_a_failure(tree: Path) -> None:
    (tree / "out").mkdir()
    (tree / "out/sub").write_text("a file in the way")
    report = convert_folder(Upper(), tree / "in", tree / "out")
    assert statuses(report) == ["converted", "converted", "failed", "failed"]
    assert "sub" in report.rows[2].message


def test_an_interrupt_loses_no_more_than_the_file_at_work(tree: Path) -> None:
    (tree / "in/sub/a.mp4").write_text("stop")
    with pytest.raises(KeyboardInterrupt):
        convert_folder(Upper(), tree / "in", tree / "out")
    assert {name: row["status"] for name, row in table(tree / "out").items()} == {
        "a.flac": "converted",
        "b.wav": "converted",
        "sub/a.mp4": "started",
    }
    (tree / "in/sub/a.mp4").write_text("go")
    # Killed between the output's last byte and the row that says so: the output is there.
    (tree / "out/sub/a.mp4").write_text("?")
    report = convert_folder(Upper(), tree / "in", tree / "out")
    assert statuses(report) == ["kept", "kept", "converted", "converted"]
    assert (tree / "out/sub/a.mp4").read_text() == "GO"


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-40], lambda data: data + b"\0,x\n", lambda data: b"\xff\xfe" * 50]
)
def test_a_damaged_table_costs_only_its_rows(tree: Path, damage: Callable[[bytes], bytes]) -> None:
    convert_folder(Upper(), tree / "in", tree / "out")
    (tree / "out" / RESULTS).write_bytes(damage((tree / "out" / RESULTS).read_bytes()))
    report = convert_folder(Upper(), tree / "in", tree / "out", force=True)
    assert set(statuses(report)) <= {"kept", "converted"}
    assert statuses(convert_folder(Upper(), tree / "in", tree / "out")) == ["kept"] * 4


def test_progress_counts_files(tree: Path) -> None:
    calls: list[tuple[float, float | None]] = []
    convert_folder(Upper(), tree / "in", tree / "out", progress=lambda *call: calls.append(call))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@settings(max_examples=30)
@given(
    st.sets(
        st.binary(min_size=1, max_size=30).filter(lambda name: not set(name) & {0, 47} and name[0] != 46),
        min_size=1,
        max_size=5,
    )
)
@posix_only
def test_any_file_name(tmp_path_factory: pytest.TempPathFactory, names: set[bytes]) -> None:
    """Also with line ends, quotes, commas, and bytes that are no text."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "in").mkdir()
    for name in names:
        (folder / "in" / os.fsdecode(name + b".wav")).write_text("x")
    report = convert_folder(Upper(), folder / "in", folder / "out")
    assert statuses(report) == ["converted"] * len(names)
    assert {os.fsencode(name) for name in table(folder / "out")} == {name + b".wav" for name in names}
    assert statuses(convert_folder(Upper(), folder / "in", folder / "out")) == ["kept"] * len(names)


# ------------------------------------------------------------------------------------------ what is found


@posix_only
def test_links_are_followed_but_not_in_circles(tree: Path) -> None:
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere/e.wav").write_text("e")
    (tree / "in/link").symlink_to(tree / "elsewhere")
    (tree / "in/sub/up").symlink_to(tree / "in")
    (tree / "in/l.wav").symlink_to(tree / "in/b.wav")
    (tree / "in/broken.wav").symlink_to(tree / "nowhere")
    tasks, notes = find_tasks(tree / "in", tree / "out")
    assert [task.name for task in tasks] == sorted([*NAMES, "link/e.wav", "l.wav", "broken.wav"])
    assert [note for note in notes if "up" in note] == [
        f"{tree / 'in/sub/up'}: a link to a folder that is seen anyway; it is passed over"
    ]
    report = convert_folder(Upper(), tree / "in", tree / "out")
    assert [row.file for row in report.rows if row.status == "failed"] == ["broken.wav"]
    assert not (tree / "out/link").is_symlink()


@pytest.mark.parametrize(
    ("source", "output", "says"),
    [
        ("in", "in", "in the other"),
        ("in", "in/out", "in the other"),
        ("in/sub", "in", "in the other"),
        ("in", "in/../in/sub", "in the other"),
        ("nowhere", "out", "no such folder"),
        ("in/b.wav", "out", "no such folder"),
        ("in", "in/b.wav", "a file"),
        ("empty", "out", "without recordings"),
    ],
)
def test_folders_that_cannot_be_are_one_line(tree: Path, source: str, output: str, says: str) -> None:
    (tree / "empty").mkdir()
    before = files_below(tree)
    with pytest.raises(MvsdError, match=says) as error:
        convert_folder(Upper(), tree / source, tree / output)
    assert "\n" not in str(error.value)
    assert files_below(tree) == before


@posix_only
def test_an_output_that_is_in_the_input_by_a_link_is_refused(tree: Path) -> None:
    (tree / "door").symlink_to(tree / "in/sub")
    with pytest.raises(MvsdError, match="in the other"):
        convert_folder(Upper(), tree / "in", tree / "door")


def test_a_photo_for_all_or_one_for_each(tree: Path) -> None:
    photos = tree / "photos"
    (photos / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.PNG", "sub/a.webp", "c.txt"):
        (photos / name).write_text(name)
    assert scene_for(Path("x/y.wav"), None) is None
    assert scene_for(Path("x/y.wav"), photos / "a.jpg") == photos / "a.jpg"
    assert scene_for(Path("a.wav"), photos) == photos / "a.jpg"
    assert scene_for(Path("sub/a.wav"), photos) == photos / "sub/a.webp"
    assert scene_for(Path("elsewhere/b.wav"), photos) == photos / "b.PNG"
    report = convert_folder(Upper(), tree / "in", tree / "out", photos)
    assert statuses(report) == ["converted", "converted", "converted", "failed"]
    assert "no photo of its name" in report.rows[3].message
    assert report.rows[3].message.endswith("c.jpg is wanted")
    assert (tree / "out/sub/a.mp4").read_text() == "SUB/A.MP4sub/a.webp"
    (photos / "a.png").write_text("")
    with pytest.raises(MvsdError, match=r"2 photos have its name, a\.jpg and a\.png"):
        scene_for(Path("a.wav"), photos)
    with pytest.raises(MvsdError, match="no such photo"):
        convert_folder(Upper(), tree / "in", tree / "out", tree / "nowhere")


# ------------------------------------------------------------------------------------------ processes


def test_processes_make_what_one_makes(tree: Path) -> None:
    (tree / "in/b.wav").write_text("bad")
    (tree / "in/a.flac").write_text("loud")
    alone = convert_folder(Upper(), tree / "in", tree / "out")
    together = convert_folder(Upper(), tree / "in", tree / "out2", jobs=3)
    assert [(row.file, row.status, row.size) for row in together.rows] == [
        (row.file, row.status, row.size) for row in alone.rows
    ]
    assert together.rows[0].message == "a word on it"
    assert files_below(tree / "out") == files_below(tree / "out2")
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_process_is_told_instead_of_waited_for(tree: Path, jobs: int) -> None:
    with pytest.raises(MvsdError, match=f"jobs is {jobs}; at least 1"):
        convert_folder(Upper(), tree / "in", tree / "out", jobs=jobs)
    assert not (tree / "out").exists()


@posix_only
def test_an_idle_process_that_dies_is_replaced() -> None:
    outcomes = run_in_processes(str.upper, list("abc"), 2, lambda task: None)
    first, outcome = next(outcomes)
    assert outcome.succeeded
    for child in multiprocessing.active_children():  # of which one has nothing to do
        child.kill()
        child.join()
    others = {task: outcome.succeeded for task, outcome in outcomes}
    assert others.keys() == set("abc") - {first} and others["c"]


@posix_only
def test_a_process_that_dies_takes_no_other_file_with_it(tree: Path) -> None:
    (tree / "in/a.flac").write_text("die")
    report = convert_folder(Upper(), tree / "in", tree / "out", jobs=2)
    assert statuses(report) == ["failed", "converted", "converted", "converted"]
    assert "SIGKILL" in report.rows[0].message


@posix_only
def test_an_interrupt_ends_the_processes_which_clean_up(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.wav", "sub/a.mp4"):
        (tree / "in" / name).write_text("slow")

    over = threading.Event()

    def interrupt() -> None:
        begun = [tree / "out/b.begun", tree / "out/sub/a.begun"]
        while not all(path.exists() for path in begun):
            if over.wait(0.01):  # it failed before
                return
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("mvsd.workers._LAST_SECONDS", 60.0)  # a busy machine is slow
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            convert_folder(Upper(), tree / "in", tree / "out", jobs=2)
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert multiprocessing.active_children() == []
    assert files_below(tree / "out") == sorted(["a.flac", "b.ended", "sub/a.ended", RESULTS])


@posix_only
def test_an_interrupt_finds_the_process_that_has_just_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(connection: Connection, task: str) -> None:
        connection.send_bytes(ForkingPickler.dumps(task))
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "send", send)
    with pytest.raises(KeyboardInterrupt):
        list(run_in_processes(_sleep, ["60", "60"], 2, lambda task: None))
    assert multiprocessing.active_children() == []


def _sleep(seconds: str) -> str:
    time.sleep(float(seconds))
    return seconds


def test_a_pool_that_is_left_early_begins_nothing_more(tmp_path: Path) -> None:
    with pytest.raises(KeyError), process_pool(1) as executor:
        futures = [executor.submit(_wait_for, tmp_path / "gate") for _ in range(20)]
        raise KeyError
    deadline = time.monotonic() + 60
    while not futures[-1].done() and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "gate").touch()
    while not all(future.done() for future in futures):
        time.sleep(0.01)
    assert sum(future.cancelled() for future in futures) >= 15


def _wait_for(gate: Path) -> None:
    while not gate.exists():
        time.sleep(0.01)


def test_a_worker_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    ((_, outcome),) = run_in_processes(environment, ["OMP_NUM_THREADS"], 2, lambda _: None)
    assert (outcome.succeeded, outcome.message) == (True, "1")
    assert os.environ["OMP_NUM_THREADS"] == "7"


def environment(name: str) -> str:
    return os.environ[name]


def test_two_runs_into_one_folder_keep_the_rows_of_both(tmp_path: Path) -> None:
    first, second = (_Results(tmp_path / RESULTS) for _ in range(2))
    first.add(Row("a.wav", "converted"))
    second.add(Row("b.wav", "converted"))
    first.close()
    second.close()
    again = _Results(tmp_path / RESULTS)
    assert set(again.rows) == {"a.wav", "b.wav"}
    again.close()
