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
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Models
from PIL import Image
from videos import Kind, make_video, packets

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
    for command in ("reverb", "dereverb", "transfer", "response", "example", "simulate", "train"):
        assert command in result.stdout


def test_help_does_not_wait_for_torch() -> None:
    script = (
        "import sys, mvsd.cli; sys.exit(', '.join({'torch', 'scipy', 'matplotlib'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""


def test_amounts(files: Path, tiny_models: Models) -> None:
    source = soundfile.read(files / "in.wav", dtype="int32")[0]

    def converted(command: str, model: Path, *options: object) -> np.ndarray:
        arguments = [command, files / "in.wav", "-o", files / "out.wav", "--model", model, "--force"]
        photo = ["--scene", files / "room.jpg"] if command == "reverb" else []
        result = run_here(*arguments, *photo, *options)
        assert result.returncode == 0, result.stderr
        return soundfile.read(files / "out.wav", dtype="int32")[0].astype(float)

    model = tiny_models.reverberator
    room = converted("reverb", model) - source
    step = 2**9  # of 24 bits, and rounding
    np.testing.assert_allclose(
        converted("reverb", model, "--wet", -6) - source, 10 ** (-6 / 20) * room, atol=step
    )
    dry = converted("reverb", model, "--dry", "-20", "--wet", "-inf")
    np.testing.assert_allclose(dry, 0.1 * source, atol=step)
    assert np.array_equal(converted("reverb", model, "--strength", 0), source)
    model = tiny_models.dereverberator
    estimate = converted("dereverb", model)
    left = converted("dereverb", model, "--wet", -10)
    np.testing.assert_allclose(left, estimate + 10 ** (-10 / 20) * (source - estimate), atol=step)
    half = converted("dereverb", model, "--strength", 0.5)
    np.testing.assert_allclose(half, (source + estimate) / 2, atol=step)
    assert not np.array_equal(converted("dereverb", model, "--keep-early", 50), estimate)


def test_rt60_tells_what_is_measured(files: Path) -> None:
    photo = Path(mvsd.__file__).parent / "samples" / "bathroom.jpg"
    command = ["reverb", files / "in.wav", "--scene", photo, "-o", files / "out.wav", "--rt60", 0.5]
    result = run_here(*command, "--save-response", files / "ir.wav")
    assert result.returncode == 0, result.stderr
    measured = r"T20 \d\.\d\d s, T30 \d\.\d\d s, DRR -?\d+\.\d dB"
    told = re.search(rf"^room: ({measured}); as drawn: {measured}$", result.stderr, re.MULTILINE)
    assert told, result.stderr
    assert told[1].startswith(("T20 0.49", "T20 0.50", "T20 0.51"))


def test_level_reaches_the_file(files: Path, tiny_models: Models) -> None:
    command = ["dereverb", files / "in.wav", "-o", files / "out.wav", "--model", tiny_models.dereverberator]
    assert run_here(*command, "--level", "peak").returncode == 0
    before, after = (np.abs(soundfile.read(files / name)[0]).max() for name in ("in.wav", "out.wav"))
    assert after == pytest.approx(before, rel=1e-4)


def test_transfer(files: Path, tiny_models: Models) -> None:
    Image.new("RGB", (40, 30), (200, 90, 20)).save(files / "other.png")
    source = soundfile.read(files / "in.wav")[0]
    soundfile.write(files / "in.wav", source, 44_100, "FLOAT")  # of fixed point the level might be lowered
    models = ["--dereverberator", tiny_models.dereverberator, "--reverberator", tiny_models.reverberator]
    photos = ["--from", files / "room.jpg", "--to", files / "other.png"]
    options = {"seen": photos, "blind": photos[2:], "half": [*photos, "--strength", 0.5]}
    sounds = {}
    for name, option in options.items():
        result = run_here("transfer", files / "in.wav", "-o", files / f"{name}.wav", *option, *models)
        assert result.returncode == 0, result.stderr
        sounds[name] = soundfile.read(files / f"{name}.wav")[0]
    assert not np.array_equal(sounds["seen"], sounds["blind"])
    np.testing.assert_allclose(sounds["half"], (source + sounds["seen"]) / 2, atol=1e-6)
    fails(
        files, "transfer", files / "in.wav", "-o", files / "half.wav", *photos, says="--force", run=run_here
    )


def test_response(files: Path, tiny_models: Models) -> None:
    command = ["response", files / "room.jpg", "--model", tiny_models.reverberator, "-o"]
    options = ["--rate", 44_100, "--seconds", 0.2, "--bits", 24]
    result = run_here(*command, files / "ir.wav", *options, "--count", 2, "--seed", 7)
    assert result.returncode == 0, result.stderr
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == [
        f"{files / f'ir-{number}.wav'}: seed {seed}" for number, seed in ((1, 7), (2, 8))
    ]
    for name in ("ir-1.wav", "ir-2.wav"):
        info = soundfile.info(files / name)
        assert (info.samplerate, info.frames, info.channels, info.subtype) == (44_100, 8820, 1, "PCM_24")
    first, second = (soundfile.read(files / name)[0] for name in ("ir-1.wav", "ir-2.wav"))
    assert not np.array_equal(first, second)
    assert np.argmax(np.abs(first)) == 0
    assert run_here(*command, files / "again.wav", *options, "--seed", 8).returncode == 0
    assert np.array_equal(soundfile.read(files / "again.wav")[0], second)
    assert run_here(*command, files / "plain.wav").returncode == 0
    info = soundfile.info(files / "plain.wav")
    assert (info.samplerate, info.frames, info.subtype) == (48_000, 3 * 4096, "FLOAT")


def test_responses_are_written_all_or_none(files: Path, tiny_models: Models) -> None:
    write_wav(files / "ir-2.wav")
    command = ["response", files / "room.jpg", "-o", files / "ir.wav", "--count", 3]
    fails(files, *command, says=r"ir-2\.wav.*--force", run=run_here)
    command = ["response", files / "room.jpg", "-o", files / "ir.wav", "--model", tiny_models.dereverberator]
    fails(files, *command, says="generates speech", run=run_here)
    fails(files, "response", files / "bad.jpg", "-o", files / "ir.wav", says=r"bad\.jpg", run=run_here)
    fails(files, "response", files / "room.jpg", "-o", files / "ir.txt", says=r"ir\.txt", run=run_here)


def test_check_warns_and_needs_its_extra(
    files: Path, tiny_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvsd import check

    write_wav(files / "long.wav", 2 * RATE)
    command = ["dereverb", files / "long.wav", "-o", files / "out.wav", "--check", "--model"]
    check._decoder.cache_clear()
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "pocketsphinx", None)
        fails(files, *command, tiny_models.dereverberator, says=r"pip install 'mvsd\[asr\]'", run=run_here)
    monkeypatch.setattr("mvsd.check._decoder", lambda: None)
    monkeypatch.setattr("mvsd.check.compare_words", lambda *_: -3.25)
    monkeypatch.setattr("mvsd.check.voice_similarity", lambda *_: 0.9)
    result = run_here(*command, tiny_models.dereverberator)
    assert result.returncode == 0
    assert result.stderr == (
        f"warning: {files / 'out.wav'}: the words may have changed in 1 of 1 pieces of 10 s, most at 0 s "
        "(-3.25, at least -2.5 is usual)\n"
    )


# ------------------------------------------------------------------------------------------ videos and folders


@pytest.fixture
def video(files: Path) -> Path:
    """A video with two shots of 1 s."""
    rng = np.random.default_rng(0)
    walls = [np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(2)]
    sound = 0.1 * rng.standard_normal((2, 96_000))
    frames = [walls[0]] * 25 + [walls[1]] * 25
    return make_video(files / "in.mp4", Kind(".mp4", "libx264", "aac"), frames, None, [(0, sound)])


def test_a_video_brings_its_own_rooms(files: Path, video: Path, tiny_models: Models) -> None:
    command = ["reverb", video, "-o", files / "out.mp4", "--model", tiny_models.reverberator, "--steps", 1]
    result = run_here(*command)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{files / 'out.mp4'}: 2.00 s in ")
    assert f"{files / 'out.mp4'}: the room changes at 1.00 s\n" in result.stderr
    assert packets(files / "out.mp4") == packets(video)
    assert run_here(*command, "--force", "--scene", files / "room.jpg").stderr == ""
    fails(files, *command, says="--force", run=run_here)
    sound = ["reverb", video, "-o", files / "out.wav", "--model", tiny_models.reverberator]
    fails(files, *sound, says="--scene.*video", status=2, run=run_here)


def test_a_folder(files: Path, video: Path, tiny_models: Models) -> None:
    folder, out = files / "folder", files / "new" / "out"
    (folder / "sub").mkdir(parents=True)
    video.rename(folder / "sub" / "film.mp4")
    (files / "in.wav").rename(folder / "good.wav")
    (folder / "bad.wav").write_text("no sound")
    command = ["dereverb", folder, "-o", out, "--model", tiny_models.dereverberator]
    result = run_here(*command)
    assert result.returncode == 1
    failed, last = result.stderr.splitlines()[-2:]
    assert failed.startswith(f"failed: bad.wav: {folder / 'bad.wav'}: ")
    assert last == f"error: 1 of 3 files failed; the reasons are above and in {out / 'mvsd-results.csv'}"
    assert re.fullmatch(r"converted +2\nkept +0\nfailed +1\n3 files in .*mvsd-results\.csv\n", result.stdout)
    assert soundfile.info(out / "good.wav").frames == 22_050
    assert packets(out / "sub" / "film.mp4") == packets(folder / "sub" / "film.mp4")
    (folder / "bad.wav").unlink()
    again = run_here(*command)
    assert (again.returncode, again.stderr) == (0, "")
    assert re.match(r"converted +0\nkept +2\nfailed +0\n", again.stdout)
    other = run_here(*command, "--seed", 1)
    assert (other.returncode, other.stderr.count("--force")) == (1, 2)


@pytest.mark.parametrize(
    ("options", "says", "status"),
    [
        (["--model", "nowhere.safetensors"], "nowhere", 1),
        (["--scene", "photos", "--depth", "depth.npy"], "--depth", 2),
        (["--scene", "photos", "--save-response", "ir.wav"], "--save-response", 2),
        (["--jobs", "0"], "--jobs", 2),
    ],
)
def test_options_that_a_folder_cannot_have(
    files: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str, status: int
) -> None:
    monkeypatch.chdir(files)
    for name in ("folder", "photos"):
        (files / name).mkdir()
    (files / "in.wav").rename(files / "folder" / "in.wav")
    fails(files, "reverb", "folder", "-o", "out", *options, says=says, status=status, run=run_here)


@posix_only
def test_an_interrupted_folder_goes_on(files: Path, tiny_models: Models) -> None:
    (files / "folder").mkdir()
    for name in ("a.wav", "b.wav", "c.wav"):
        write_wav(files / "folder" / name)
    write_wav(files / "folder" / "long.wav", 600 * RATE)
    out = files / "out"
    command = ["dereverb", files / "folder", "-o", out, "--jobs", 2, "--model", tiny_models.dereverberator]
    process = subprocess.Popen(
        [sys.executable, "-m", "mvsd", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    results = out / "mvsd-results.csv"
    while not (results.exists() and all(f"{n}.wav,converted" in results.read_text() for n in "abc")):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (
        130,
        "what is done is kept; the same command goes on from here\ninterrupted\n",
    )
    assert sorted(path.name for path in out.iterdir()) == ["a.wav", "b.wav", "c.wav", "mvsd-results.csv"]
    write_wav(files / "folder" / "long.wav")
    result = run_here(*command[:4], *command[6:])
    assert result.returncode == 0, result.stderr
    assert re.match(r"converted +1\nkept +3\nfailed +0\n", result.stdout)


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
