"""The command line as a user meets it: a process, its exit status, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Models
from PIL import Image

import mvsd
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


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a voice of 0.5 s in stereo at 44.1 kHz, and a photo."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "in.wav", 0.1 * rng.standard_normal((22_050, 2)), 44_100, "PCM_24")
    Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "room.jpg")
    return tmp_path


def write_wav(path: Path, num_samples: int = RATE) -> bytes:
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(num_samples), RATE)
    return path.read_bytes()


def write_nan(path: Path) -> None:
    soundfile.write(path, np.r_[np.zeros(99), np.nan, np.zeros(900)], RATE, "FLOAT")


def write_huge_png(path: Path, side: int = 40_000) -> None:
    """A PNG of a few bytes that says it is `side` pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


# ------------------------------------------------------------------------------------------ the commands


def test_reverb(files: Path, tiny_models: Models) -> None:
    out, response = files / "out.wav", files / "ir.wav"
    command = ["reverb", files / "in.wav", "--scene", files / "room.jpg", "-o", out, "--model"]
    result = run(*command, tiny_models.reverberator, "--steps", 1, "--save-response", response)
    assert result.returncode == 0, result.stderr
    converted, saved = result.stdout.splitlines()
    assert re.fullmatch(
        rf"{re.escape(str(out))}: 0\.50 s in \d+\.\d+ s, real-time factor \d+\.\d+", converted
    )
    assert saved == str(response)
    info = soundfile.info(out)
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (22_050, 44_100, 2, "PCM_24")
    rir, rate = soundfile.read(response)
    assert (rate, rir.shape, soundfile.info(response).subtype) == (RATE, (4096,), "FLOAT")
    assert rir[0] == pytest.approx(1.0, abs=0.5)


def test_dereverb_with_and_without_a_photo(files: Path, tiny_models: Models) -> None:
    write_wav(files / "mono.wav")
    command = ["dereverb", files / "mono.wav", "--model", tiny_models.dereverberator, "--device", "cpu"]
    options = {
        "photo": ["--scene", files / "room.jpg"],
        "none": [],
        "seed": ["--seed", 7],
        "again": ["--seed", 7],
    }
    for name, option in options.items():
        result = (run if name == "again" else run_here)(*command, "--out", files / f"{name}.wav", *option)
        assert (result.returncode, result.stderr) == (0, "")
    sounds = {name: soundfile.read(files / f"{name}.wav")[0] for name in options}
    assert {sound.shape for sound in sounds.values()} == {(RATE,)}
    assert np.array_equal(sounds["seed"], sounds["again"])
    assert not np.array_equal(sounds["seed"], sounds["none"])
    assert not np.array_equal(sounds["photo"], sounds["none"])


def test_a_lowered_level_is_told(tmp_path: Path, files: Path, tiny_models: Models) -> None:
    soundfile.write(tmp_path / "loud.wav", 0.999 * np.sign(np.sin(np.arange(RATE) / 9)), RATE)
    command = [
        "dereverb",
        tmp_path / "loud.wav",
        "--model",
        tiny_models.dereverberator,
        "-o",
        tmp_path / "out.wav",
    ]
    result = run_here(*command)
    assert result.returncode == 0
    assert re.fullmatch(r"warning: .*out.wav is lowered by \d+\.\d dB so as not to clip\n", result.stderr)


def test_force_replaces_even_the_recording_itself(files: Path, tiny_models: Models) -> None:
    before = (files / "in.wav").read_bytes()
    command = ["dereverb", files / "in.wav", "-o", files / "in.wav", "--model", tiny_models.dereverberator]
    fails(files, *command, says="--force")
    assert run_here(*command, "--force").returncode == 0
    assert soundfile.info(files / "in.wav").frames == 22_050
    assert (files / "in.wav").read_bytes() != before


def test_example(tmp_path: Path) -> None:
    result = run("example", "--out", tmp_path / "new" / "folder", "--steps", 1)
    assert (result.returncode, result.stderr) == (0, "")
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert sorted(paths) == sorted(contents(tmp_path))
    assert {path.suffix for path in paths} == {".wav", ".png"}
    fails(tmp_path, "example", "--out", tmp_path / "new" / "folder", says="--force")


def test_simulate(tmp_path: Path) -> None:
    from mvsd.data.shards import Shards

    result = run("simulate", "--rooms", 1, "--out", tmp_path, "--split", "test", "--seed", 3, "--jobs", 1)
    assert result.returncode == 0, result.stderr
    (example,) = Shards([Path(line) for line in result.stdout.splitlines()])
    assert example.scene is not None
    assert example.scene.depth is not None
    assert example.rir is not None


def test_train_runs_and_resumes(tmp_path: Path) -> None:
    from tiny_run import CONFIG, write_data

    write_data(tmp_path)
    (tmp_path / "tiny.toml").write_text(CONFIG.format(folder=tmp_path.as_posix()))
    command = ["train", tmp_path / "tiny.toml", "--run", tmp_path / "run", "--set"]
    for num_steps in (1, 2):
        result = run(*command, f"schedule.total_steps={num_steps}")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == f"{tmp_path / 'run'}\n"
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2"]
    mvsd.load(tmp_path / "run" / "dereverberator.safetensors")


def test_train_dry_run_prints_the_resolved_configuration(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("seed = 3\n[optimizer]\nlearning_rate = 1e-3\n")
    changes = ["--set", "optimizer.learning_rate=1e-4", "--set", "run=mine"]
    result = run("train", tmp_path / "run.toml", "--dry-run", *changes)
    assert (result.returncode, result.stderr) == (0, "")
    config = json.loads(result.stdout)
    assert (config["seed"], config["run"], config["optimizer"]["learning_rate"]) == (3, "mine", 1e-4)


def test_version_and_help() -> None:
    assert run("--version").stdout == f"mvsd {mvsd.__version__}\n"
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for command in ("reverb", "dereverb", "example", "simulate", "train"):
        assert command in result.stdout


def test_help_does_not_wait_for_torch() -> None:
    script = (
        "import sys, mvsd.cli; sys.exit(', '.join({'torch', 'scipy', 'matplotlib'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""


# ------------------------------------------------------------------------------------------ bad recordings


@pytest.mark.parametrize(
    ("write", "says"),
    [
        pytest.param(lambda path: None, "no such file", id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), "empty", id="empty"),
        pytest.param(lambda path: path.write_bytes(write_wav(path)[:9999]), "", id="truncated"),
        pytest.param(lambda path: path.write_bytes(write_wav(path)[:20]), "", id="cut in the header"),
        pytest.param(lambda path: path.write_text("Dear room,\n" * 99), "", id="text called wav"),
        pytest.param(lambda path: path.mkdir(), "folder", id="folder"),
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


# ------------------------------------------------------------------------------------------ bad outputs


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("other.wav", "--force"),
        ("folder", "folder"),
        ("nowhere/out.wav", "nowhere"),
        ("out.txt", r"\.wav"),
        ("out", "out"),
    ],
)
def test_a_bad_output_is_one_line(files: Path, out: str, says: str) -> None:
    (files / "folder").mkdir()
    write_wav(files / "other.wav")
    fails(files, "dereverb", files / "in.wav", "-o", files / out, says=says)


def test_an_existing_response_is_kept(files: Path) -> None:
    write_wav(files / "ir.wav")
    command = ["reverb", files / "in.wav", "--scene", files / "room.jpg", "-o", files / "out.wav"]
    fails(files, *command, "--save-response", files / "ir.wav", says=r"ir\.wav.*--force")


@posix_only
def test_a_full_disk_leaves_nothing(files: Path, tiny_models: Models) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    command = ["dereverb", files / "in.wav", "--model", tiny_models.dereverberator, "-o", files / "out.wav"]
    fails(files, *command, says=r"out\.wav", preexec_fn=limit)


@posix_only
def test_an_interrupt_leaves_nothing_and_progress_shows_on_a_terminal(
    files: Path, tiny_models: Models
) -> None:
    import pty

    soundfile.write(files / "long.wav", 0.1 * np.random.default_rng(0).standard_normal((600 * RATE, 1)), RATE)
    command = ["dereverb", files / "long.wav", "--model", tiny_models.dereverberator, "-o", files / "out.wav"]
    before = contents(files)
    terminal, child_side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mvsd", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=child_side,
        # A test that runs in the background of a shell inherits a SIGINT that is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(child_side)
    shown = b""
    with process:
        while b"converting" not in shown:
            shown += os.read(terminal, 1024)
        process.send_signal(signal.SIGINT)
        try:
            while data := os.read(terminal, 1024):
                shown += data
        except OSError:  # Linux says so when the other side has closed
            pass
        assert process.wait(60) == 130
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
        (
            ["reverb", "in.wav", "--scene", "room.jpg", "-o", "a.wav", "--save-response", "./a.wav"],
            "same file",
        ),
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
