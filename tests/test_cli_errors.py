"""What goes wrong is one line that says what to do, a status, and nothing left behind."""

from __future__ import annotations

import os
import signal
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import RATE, contents, fails, posix_only, run_here, started, write_wav
from conftest import Models
from PIL import Image


def write_nan(path: Path) -> None:
    soundfile.write(path, np.r_[np.zeros(99), np.nan, np.zeros(900)], RATE, "FLOAT")


def write_huge_png(path: Path, side: int = 40_000) -> None:
    """A PNG of a few bytes that says it is `side` pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


# ------------------------------------------------------------------------------------------ bad recordings


@pytest.mark.parametrize(
    ("write", "says"),
    [
        pytest.param(lambda path: None, "no such file", id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), "empty", id="empty"),
        pytest.param(lambda path: path.write_bytes(write_wav(path)[:9999]), "", id="truncated"),
        pytest.param(lambda path: path.write_bytes(write_wav(path)[:20]), "", id="cut in the header"),
        pytest.param(lambda path: path.write_text("Dear room,\n" * 99), "", id="text called wav"),
    ],
)
def test_a_bad_recording_is_one_line(files: Path, write: Callable[[Path], object], says: str) -> None:
    write(files / "bad.wav")
    fails(files, "dereverb", files / "bad.wav", "-o", files / "out.wav", says=rf"bad\.wav.*{says}")


def test_nan_in_a_recording_is_one_line(files: Path, tiny_models: Models) -> None:
    write_nan(files / "bad.wav")
    command = ["dereverb", files / "bad.wav", "--model", tiny_models.dereverberator, "-o", files / "out.wav"]
    fails(files, *command, says=r"bad\.wav.*NaN")


# ------------------------------------------------------------------------------------------ bad photos


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: None, id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("a photo"), id="text"),
        pytest.param(lambda path: Image.new("RGB", (1, 1)).save(path, "PNG"), id="1x1"),
        pytest.param(write_huge_png, id="40000x40000"),
        pytest.param(lambda path: path.mkdir(), id="folder"),
    ],
)
def test_a_bad_photo_is_one_line(files: Path, write: Callable[[Path], object]) -> None:
    write(files / "bad.jpg")
    command = ["reverb", files / "in.wav", "--scene", files / "bad.jpg", "-o", files / "out.wav"]
    fails(files, *command, says=r"bad\.jpg")


def test_half_a_photo_is_one_line(files: Path) -> None:
    photo = files / "room.jpg"
    photo.write_bytes(photo.read_bytes()[:600])
    fails(files, "dereverb", files / "in.wav", "--scene", photo, "-o", files / "out.wav", says=r"room\.jpg")


def test_a_bad_depth_map_is_one_line(files: Path) -> None:
    np.save(files / "depth.npy", np.zeros(3))
    command = ["reverb", files / "in.wav", "--scene", files / "room.jpg", "--depth", files / "depth.npy"]
    fails(files, *command, "-o", files / "out.wav", says=r"depth\.npy")


# ------------------------------------------------------------------------------------------ bad models


def foreign_model(path: Path, model: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3, np.float32)}, path)


def damaged_model(path: Path, model: Path) -> None:
    path.write_bytes(model.read_bytes()[:-1000])


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path, model: None, id="missing"),
        pytest.param(lambda path, model: path.write_bytes(bytes(range(256)) * 8), id="corrupt"),
        pytest.param(damaged_model, id="truncated"),
        pytest.param(foreign_model, id="foreign"),
    ],
)
def test_a_bad_model_is_one_line(
    files: Path, tiny_models: Models, write: Callable[[Path, Path], object]
) -> None:
    write(files / "bad.safetensors", tiny_models.dereverberator)
    command = ["dereverb", files / "in.wav", "--model", files / "bad.safetensors", "-o", files / "out.wav"]
    fails(files, *command, says=r"bad\.safetensors", run=run_here)


def test_a_model_without_a_response_says_so_before_it_converts(files: Path, tiny_models: Models) -> None:
    command = ["reverb", files / "in.wav", "--scene", files / "room.jpg", "-o", files / "out.wav"]
    options = ["--model", tiny_models.dereverberator, "--save-response", files / "ir.wav"]
    fails(files, *command, *options, says="response", run=run_here)


def test_a_device_that_is_not_there_is_one_line(files: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    command = ["dereverb", files / "in.wav", "-o", files / "out.wav", "--device", "cuda"]
    fails(files, *command, says="no cuda device.*--device auto", run=run_here)


def test_a_model_for_the_other_direction_is_refused(files: Path, tiny_models: Models) -> None:
    command = ["dereverb", files / "in.wav", "-o", files / "out.wav", "--model", tiny_models.reverberator]
    fails(files, *command, says="it is a reverberator", run=run_here)
    command = ["demo", "--model-dereverberator", tiny_models.reverberator]
    fails(files, *command, says="it is a reverberator", run=run_here)
    fails(
        files,
        "export",
        "reverbrator",
        "-o",
        files / "a.onnx",
        says="reverberator or dereverberator",
        run=run_here,
    )


@pytest.mark.parametrize(("command", "model"), [("reverb", "dereverberator"), ("dereverb", "reverberator")])
def test_the_shipped_model_of_the_other_direction_is_refused(files: Path, command: str, model: str) -> None:
    options = ["--scene", files / "room.jpg", "--model", model, "-o", files / "out.wav"]
    fails(files, command, files / "in.wav", *options, says=f"{model} goes the other way", run=run_here)


def test_several_recordings_are_a_folder(files: Path) -> None:
    command = ["dereverb", files / "in.wav", files / "in.wav", "-o", files / "out"]
    fails(files, *command, says="or the folder that holds them", status=2, run=run_here)


@posix_only
def test_a_pipe_is_not_read(files: Path) -> None:
    os.mkfifo(files / "pipe")
    for out in ("out.wav", "out.mkv"):
        fails(files, "dereverb", files / "pipe", "-o", files / out, says="a pipe or a device", run=run_here)
    (files / "pipe").unlink()
    fails(files, "dereverb", "-", "-o", files / "out.wav", says="a pipe or a device", run=run_here)
    says = "pipes are not read or written; give file names"
    fails(files, "reverb", "-", "--scene", files / "room.jpg", "-o", "-", says=says, run=run_here)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["simulate", "--photos", "x", "--population", "homes", "--out", "y"], "not for --photos"),
        (
            ["evaluate", "-o", "x", "--task", "dereverberation", "--data", "y", "--speakers", "z"],
            "give that as well",
        ),
        (
            ["evaluate", "-o", "a/b", "--task", "dereverberation", "--data", "y", "--page", "a"],
            "a folder of its own",
        ),
        (
            ["evaluate", "-o", "x", "--task", "dereverberation", "--data", "y", "--development", "z"],
            "for the references of reverberation",
        ),
        *(
            (
                ["evaluate", "-o", "x", "--task", "dereverberation", "--data", "y", *more],
                f"{more[0]} is for {what}",
            )
            for *more, what in (
                ("--seconds", 0, "the clips made of --speech; give that as well"),
                ("--cache", "z", "the clips made of --speech; give that as well"),
                ("--scenes", 3, "a --page; give that as well"),
            )
        ),
        *(
            (["evaluate", "-o", "x", "--votes", "v", *more], f"{more[0]} does nothing beside --votes")
            for more in (("--task", "reverberation"), ("--data", "y"), ("--page", "z"), ("--system", "a"))
        ),
        (["inspect", "in.wav", "--model", "x"], "belong to a photo"),
        (["inspect", "in.wav", "-o", "a.png"], "--out is a folder"),
        (
            ["reverb", "in.wav", "--scene", "room.jpg", "-o", "out.mp4", "--tail", 2],
            "--tail is not for .* files",
        ),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    files: Path, options: list[object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    fails(files, *options, says=says, status=2, run=run_here)


def test_a_training_that_was_stopped_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvsd.training.validation.make_validation", lambda config: None)
    for is_done, status in ((False, 130), (True, 0)):
        monkeypatch.setattr("mvsd.training.loop.train", lambda *_, is_done=is_done, **__: is_done)
        config = Path(__file__).parents[1] / "configs" / "v0.toml"
        assert run_here("train", config).returncode == status


# ------------------------------------------------------------------------------------------ bad outputs


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("other.wav", "--force"),
        ("folder", r"folder.in\.wav.*--force"),
        ("nowhere/out.wav", "nowhere"),
        ("out.txt", r"\.wav"),
        ("out", "out"),
    ],
)
def test_a_bad_output_is_one_line(files: Path, out: str, says: str) -> None:
    (files / "folder").mkdir()
    write_wav(files / "folder" / "in.wav")
    write_wav(files / "other.wav")
    fails(files, "dereverb", files / "in.wav", "-o", files / out, says=says)


def test_an_existing_response_is_kept(files: Path) -> None:
    write_wav(files / "ir.wav")
    command = ["reverb", files / "in.wav", "--scene", files / "room.jpg", "-o", files / "out.wav"]
    fails(files, *command, "--save-response", files / "ir.wav", says=r"ir\.wav.*--force")


@posix_only
def test_a_full_disk_leaves_nothing(files: Path, tiny_models: Models) -> None:
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "from mvsd.__main__ import main; main()"
    )
    command = ["dereverb", files / "in.wav", "--model", tiny_models.dereverberator, "-o", files / "out.wav"]
    fails(files, *command, says=r"out\.wav", python=("-c", limited))


def read(terminal: int) -> bytes:
    """What is shown next, nothing at the end."""
    try:
        return os.read(terminal, 1024)
    except OSError:  # Linux says so when the other side has closed
        return b""


@posix_only
def test_an_interrupt_leaves_nothing_and_progress_shows_on_a_terminal(
    files: Path, tiny_models: Models
) -> None:
    import pty

    soundfile.write(files / "long.wav", 0.1 * np.random.default_rng(0).standard_normal((600 * RATE, 1)), RATE)
    command = ["dereverb", files / "long.wav", "--model", tiny_models.dereverberator, "-o", files / "out.wav"]
    before = contents(files)
    terminal, child_side = pty.openpty()
    shown = b""
    try:
        with started("-m", "mvsd", *command, stderr=child_side) as it, it.waited_for():
            os.close(child_side)
            while b"converting" not in shown:
                data = read(terminal)
                assert data, shown
                shown += data
            it.process.send_signal(signal.SIGINT)
            while data := read(terminal):
                shown += data
            assert it.ended() == 130, shown
    finally:
        os.close(terminal)
    assert b"interrupted" in shown
    assert b"Traceback" not in shown
    assert contents(files) == before


# ------------------------------------------------------------------------------------------ wrong usage


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing command"),
        (["reverberate"], "reverberate"),
        (["dereverb"], "IN"),
        (["dereverb", "in.wav"], "--out"),
        (["reverb", "in.wav", "-o", "out.wav"], "--scene"),
        (["dereverb", "in.wav", "-o", "out.wav", "--steps", "0"], "--steps"),
        (["dereverb", "in.wav", "-o", "out.wav", "--seed", "-1"], "--seed"),
        (["dereverb", "in.wav", "-o", "out.wav", "--seed", "one"], "--seed"),
        (["dereverb", "in.wav", "-o", "out.wav", "--device", "tpu"], "--device"),
        (["dereverb", "in.wav", "-o", "out.wav", "--depth", "depth.npy"], "--scene"),
        (["dereverb", "in.wav", "-o", "out.wav", "--loud"], "--loud"),
        (["reverb", "in.mp4", "-o", "out.mp4", "--depth", "depth.npy"], "--scene"),
        (["reverb", "in.mp4", "-o", "out.mp4", "--save-response", "ir.wav"], "--scene"),
        (
            ["reverb", "in.wav", "--scene", "room.jpg", "-o", "a.wav", "--save-response", "./a.wav"],
            "same file",
        ),
        (["dereverb", "in.wav", "-o", "out.wav", "--strength", "1.5"], "--strength"),
        (["dereverb", "in.wav", "-o", "out.wav", "--keep-early", "-1"], "--keep-early"),
        (["dereverb", "in.wav", "-o", "out.wav", "--wet", "loud"], "--wet"),
        (["dereverb", "in.wav", "-o", "out.wav", "--level", "loud"], "--level"),
        (["reverb", "in.wav", "--scene", "room.jpg", "-o", "out.wav", "--rt60", "0"], "--rt60"),
        (["transfer", "in.wav", "-o", "out.wav"], "--to"),
        (["response", "room.jpg"], "--out"),
        (["response", "room.jpg", "-o", "ir.wav", "--count", "0"], "--count"),
        (["simulate", "--rooms", "0", "--out", "rooms"], "--rooms"),
        (["simulate", "--out", "rooms"], "--rooms"),
        (["train"], "CONFIG"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(tmp_path, *arguments, says=rf"{says}.*; see mvsd.* --help", status=2, run=run_here)


def test_wrong_usage_of_the_installed_command(tmp_path: Path) -> None:
    fails(tmp_path, "dereverb", says="IN.*; see mvsd dereverb --help", status=2)


@pytest.mark.parametrize(
    ("config", "changes", "says"),
    [
        (None, [], "cannot be read"),
        ("seed = ", [], "TOML"),
        ("sed = 1", [], "sed"),
        ("", ["--set", "optimizer.rate=1"], "rate"),
        ("", ["--set", "optimizer.learning_rate=fast"], "learning_rate"),
        ("", ["--set", "optimizer"], "key=value"),
        ("", [], "budget"),
    ],
)
def test_a_bad_configuration_is_one_line(
    tmp_path: Path, config: str | None, changes: list[str], says: str
) -> None:
    if config is not None:
        (tmp_path / "run.toml").write_text(config)
    fails(
        tmp_path, "train", tmp_path / "run.toml", "--run", tmp_path / "run", *changes, says=says, run=run_here
    )


def test_an_error_of_the_system_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", "disk")

    monkeypatch.setattr("mvsd.training.config.load_config", break_down)
    fails(tmp_path, "train", "run.toml", says="disk: Input/output error", run=run_here)
