"""The commands: what they print, and what they write."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import RATE, contents, fails, run, run_here, write_wav
from conftest import Models
from PIL import Image

import mvsd


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
    assert (rate, rir.shape, soundfile.info(response).subtype) == (44_100, (11_290,), "FLOAT")
    assert rir[0] == 1
    # It is what was applied, to the sample.
    wet = mvsd.acoustics.convolve(soundfile.read(files / "in.wav")[0].T[0], rir)[:22_050]
    np.testing.assert_allclose(soundfile.read(out)[0][:, 0], wet, atol=1e-4)


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


def test_a_folder_takes_the_recording_under_its_name_and_a_tail_lets_the_room_die_away(
    files: Path, tiny_models: Models
) -> None:
    (files / "wet").mkdir()
    command = ["reverb", files / "in.wav", "--scene", files / "room.jpg", "--model", tiny_models.reverberator]
    assert run_here(*command, "-o", files / "wet").returncode == 0
    assert run_here(*command, "-o", files / "long.wav", "--tail", 0.5).returncode == 0
    short, long = (soundfile.read(files / name)[0] for name in ("wet/in.wav", "long.wav"))
    assert len(long) == len(short) + 22_050
    np.testing.assert_allclose(long[: len(short)], short, atol=1e-5)
    assert np.abs(long[len(short) :]).max() > 1e-4  # the room is still heard there


def test_a_depth_that_is_not_looked_at_is_said(files: Path, tiny_models: Models) -> None:
    np.save(files / "depth.npy", np.ones((48, 64), np.float32))
    command = ["dereverb", files / "in.wav", "--scene", files / "room.jpg", "--depth", files / "depth.npy"]
    result = run_here(*command, "--out", files / "out.wav", "--model", tiny_models.dereverberator)
    assert result.returncode == 0
    assert result.stderr.endswith("depth.npy is not used: this model sees the photo only\n")


def test_dereverb_on_shifted_frames(files: Path, tiny_models: Models) -> None:
    command = ["dereverb", files / "in.wav", "--device", "cpu", "--model"]
    outs = [files / f"{num_shifts}.wav" for num_shifts in (1, 3)]
    for num_shifts, out in zip((1, 3), outs, strict=True):
        result = run_here(*command, tiny_models.dereverberator, "-o", out, "--shifts", num_shifts)
        assert result.returncode == 0
    model = mvsd.load(tiny_models.dereverberator, num_shifts=3)
    source, rate = soundfile.read(files / "in.wav", dtype="float32")
    once, thrice = (soundfile.read(out)[0] for out in outs)
    assert np.abs(once - thrice).max() > 1e-3
    np.testing.assert_allclose(thrice, model.convert(source.T, rate).T, atol=1e-4)
    response = [*command, tiny_models.reverberator, "-o", files / "none.wav", "--shifts", 2]
    fails(files, *response, run=run_here, says="the mean of rooms is no room")


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
    import matplotlib.font_manager  # noqa: F401  # makes its cache where there is none, which else takes a word

    result = run("example", "--out", tmp_path / "new" / "folder", "--steps", 1)
    assert (result.returncode, result.stderr) == (0, "")
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert sorted(paths) == sorted(contents(tmp_path))
    assert {path.suffix for path in paths} == {".wav", ".png"}
    fails(tmp_path, "example", "--out", tmp_path / "new" / "folder", says="--force")


def test_simulate(tmp_path: Path) -> None:
    from mvsd.data.shards import Shards

    options = ("--split", "test", "--seed", 3, "--jobs", 1, "--figure", tmp_path / "rooms.png")
    result = run("simulate", "--rooms", 1, "--out", tmp_path / "rooms", *options)
    assert result.returncode == 0, result.stderr
    *shards, figure = [Path(line) for line in result.stdout.splitlines()]
    assert figure.read_bytes()[1:4] == b"PNG"
    fails(
        tmp_path, "simulate", "--rooms", 1, "--out", tmp_path / "rooms", *options, says=r"rooms\.png.*--force"
    )
    (example,) = Shards(shards)
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
    old, new = (mvsd.Scene.open(files / name) for name in ("room.jpg", "other.png"))
    out, into = (mvsd.load(path) for path in (tiny_models.dereverberator, tiny_models.reverberator))
    expected = mvsd.Transfer(out, into, old).convert(source.T.astype(np.float32), 44_100, new)
    np.testing.assert_allclose(sounds["seen"], expected.T, atol=1e-5)
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
    figure = files / "rooms.png"
    result = run_here(*command, files / "thin.wav", *options, "--seed", 8, "--low-gain", -20)
    assert result.returncode == 0, result.stderr
    assert np.abs(soundfile.read(files / "thin.wav")[0] - second).max() > 1e-3
    result = run_here(*command, files / "plain.wav", "--figure", figure)
    assert result.stdout.splitlines()[-1] == str(figure)
    assert figure.read_bytes()[1:4] == b"PNG"
    fails(files, *command, files / "x.wav", "--figure", figure, says=r"rooms\.png.*--force", run=run_here)
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
    fails(files, "response", files / "room.jpg", "--count", 2, "-o", ".", says="-1", run=run_here)


def test_check_warns_and_needs_its_extra(
    files: Path, tiny_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvsd import check

    write_wav(files / "long.wav", 2 * RATE)
    command = ["dereverb", files / "long.wav", "-o", files / "out.wav", "--check", "--model"]
    check._decoder.cache_clear()
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "pocketsphinx", None)
        fails(files, *command, tiny_models.dereverberator, says=r'pip install "\.\[asr\]"', run=run_here)
    monkeypatch.setattr("mvsd.check._decoder", lambda: None)
    monkeypatch.setattr("mvsd.check.compare_words", lambda *_: -3.25)
    monkeypatch.setattr("mvsd.check.voice_similarity", lambda *_: 0.9)
    result = run_here(*command, tiny_models.dereverberator)
    assert result.returncode == 0
    assert result.stderr == (
        f"warning: {files / 'out.wav'}: the words may have changed in 1 of 1 pieces of 10 s, most at 0 s "
        "(-3.25, at least -2.5 is usual)\n"
    )
