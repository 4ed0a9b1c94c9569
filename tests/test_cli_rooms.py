"""The command line: rooms that are given as a response, what is written of them, and how."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import RATE, fails, run, run_here, write_wav
from conftest import Models
from known_rooms import room
from PIL import Image

from mvsd.acoustics import convolve
from mvsd.amount import Rt60
from mvsd.blind import BlindEstimate
from mvsd.files import ConversionReport
from mvsd.responses import KnownRoom


@pytest.fixture
def given(files: Path) -> Path:
    """A folder with a response of a tenth of a second, 16 kHz, at half its level after 9 ms, beside `files`."""
    soundfile.write(files / "ir.wav", np.pad(0.5 * room(0.1, num_samples=1600), (144, 0)), RATE, "FLOAT")
    write_wav(files / "mono.wav")
    return files


def into_its_room(given: Path, *options: object) -> list[object]:
    """The command that puts `mono.wav` into the room of `ir.wav`, as `out.wav`."""
    return ["reverb", given / "mono.wav", "--response", given / "ir.wav", "-o", given / "out.wav", *options]


def test_a_response_is_a_room(given: Path) -> None:
    command = ["reverb", given / "mono.wav", "--response", given / "ir.wav", "--bits", "float"]
    for number, options in enumerate(([], ["--wet", -6, "--dry", -6])):
        out = given / f"{number}.wav"
        result = run(*command, "-o", out, *options)
        assert result.returncode == 0, result.stderr
        assert soundfile.info(out).subtype == "FLOAT"
    source = soundfile.read(given / "mono.wav")[0]
    expected = convolve(source, room(0.1, num_samples=1600))[: len(source)]
    plain, softer = (soundfile.read(given / f"{number}.wav")[0] for number in (0, 1))
    np.testing.assert_allclose(plain, expected, atol=1e-5)
    np.testing.assert_allclose(softer, 10 ** (-6 / 20) * plain, atol=1e-5)


def test_its_reverberation_time_is_bent(given: Path) -> None:
    result = run_here(*into_its_room(given, "--rt60", 0.3))
    assert result.returncode == 0, result.stderr
    assert re.search(r"room: T20 0\.(29|3\d) s.*; as drawn: T20 0\.(09|1\d) s", result.stderr)


def test_out_of_one_room_and_into_that_of_a_response(given: Path, tiny_models: Models) -> None:
    """As if it had been taken out of its room first."""
    dry = ["dereverb", given / "mono.wav", "--model", tiny_models.dereverberator, "--bits", "float"]
    assert run_here(*dry, "-o", given / "dry.wav").returncode == 0
    moved = ["transfer", given / "mono.wav", "--response", given / "ir.wav", "--bits", "float"]
    models = ["--dereverberator", tiny_models.dereverberator]
    assert run_here(*moved, *models, "-o", given / "moved.wav").returncode == 0
    estimate = soundfile.read(given / "dry.wav")[0]
    expected = convolve(estimate, room(0.1, num_samples=1600))[: len(estimate)]
    np.testing.assert_allclose(soundfile.read(given / "moved.wav")[0], expected, atol=1e-5)


def test_a_folder_goes_into_the_room_of_a_response(given: Path) -> None:
    (given / "takes").mkdir()
    for name in "ab":
        shutil.copy(given / "mono.wav", given / "takes" / f"{name}.wav")
    result = run_here("reverb", given / "takes", "--response", given / "ir.wav", "-o", given / "wet")
    assert result.returncode == 0, result.stderr
    assert (soundfile.read(given / "wet" / "a.wav")[0] == soundfile.read(given / "wet" / "b.wav")[0]).all()
    # Another response of that name is another room.
    soundfile.write(given / "ir.wav", room(0.2, num_samples=3200), RATE, "FLOAT")
    again = ["reverb", given / "takes", "--response", given / "ir.wav", "-o", given / "wet"]
    assert "converted        2" in run_here(*again, "--force").stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scene", "room.jpg"], "--scene is for the room on a photo, and --response is a room"),
        (["--low-gain", 0], "--low-gain is for the room on a photo"),
        (["--steps", 2], "--steps is for the room on a photo"),
        (["--save-response", "other.wav"], "--save-response belongs to a photo"),
        (["--depth", "depth.npy"], "--depth belongs to a photo"),
    ],
)
def test_what_belongs_to_a_photo_is_refused_beside_a_response(
    given: Path, options: list[object], says: str
) -> None:
    fails(given, *into_its_room(given, *options), run=run_here, status=2, says=says)


def test_no_room_at_all_is_said(given: Path) -> None:
    for command, says in (("reverb", "--scene is missing"), ("transfer", "--to is missing")):
        fails(given, command, given / "mono.wav", "-o", given / "out.wav", run=run_here, status=2, says=says)


def test_a_response_that_is_none_is_said_before_anything_is_written(given: Path) -> None:
    soundfile.write(given / "silent.wav", np.zeros(99), RATE)
    command = ["reverb", given / "mono.wav", "-o", given / "out.wav", "--response"]
    fails(
        given, *command, given / "silent.wav", run=run_here, says="no impulse response: the signal is silent"
    )
    fails(given, *command, given / "room.jpg", run=run_here, says="room.jpg")


def test_a_voice_in_the_place_of_a_response_is_told_once(given: Path) -> None:
    (given / "takes").mkdir()
    for name in "ab":
        shutil.copy(given / "mono.wav", given / "takes" / f"{name}.wav")
    voice = ["reverb", given / "takes", "--response", given / "mono.wav", "-o", given / "wet"]
    result = run_here(*voice)
    assert result.returncode == 0, result.stderr
    says = "mono.wav does not look like an impulse response; of a recording make one with: mvsd response "
    assert result.stderr.count(says) == 1
    soundfile.write(given / "ir.wav", room(0.1, num_samples=999), RATE, "FLOAT")  # a booth's is short
    assert "look like" not in run_here(*into_its_room(given)).stderr


def test_the_room_of_a_recording_is_written_and_another_voice_put_into_it(
    given: Path, tiny_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = BlindEstimate(0.5, 0.05, {}, {}, 3.0, 1.0, 0.0, 1.0)
    monkeypatch.setattr("mvsd.blind.BlindEstimator.estimate", lambda *_: estimate)
    # What is drawn by networks that have learned nothing does not decay.
    monkeypatch.setattr("mvsd.cli.convert._load", lambda *_, **__: KnownRoom(room(0.3), RATE))
    monkeypatch.setattr("mvsd.cli.convert.tell_depth", lambda *_: None)
    result = run_here("response", given / "mono.wav", "-o", given / "heard.wav", "--rate", RATE)
    assert result.returncode == 0, result.stderr
    assert result.stderr == f"{given / 'mono.wav'}: T20 0.50 s +- 0.05, DRR 3.0 dB +- 1.0 are heard\n"
    assert re.search(r"heard.wav: seed 0, T20 0\.(49|50|51) s, T30 .*, DRR 3\.0 dB", result.stdout)
    command = ["reverb", given / "mono.wav", "--response", given / "heard.wav", "-o", given / "out.wav"]
    assert run_here(*command).returncode == 0
    result = run_here(
        "response",
        given / "room.jpg",
        "--heard",
        given / "mono.wav",
        "-o",
        given / "both.wav",
        "--rate",
        RATE,
    )
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(
        soundfile.read(given / "both.wav")[0], Rt60(KnownRoom(room(0.3), RATE), 0.5).response(), atol=1e-6
    )
    depth = ["response", given / "mono.wav", "-o", given / "x.wav", "--depth", given / "depth.npy"]
    fails(given, *depth, run=run_here, status=2, says="--depth belongs to a photo, and .* is a recording")


@pytest.mark.parametrize("command", ["reverb", "response"])
def test_a_ratio_that_is_asked_for_is_that_of_the_response(
    given: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "reverb":
        said = run_here(*into_its_room(given, "--drr", 12)).stderr
        assert "room: T20 0.10 s, T30 0.10 s, DRR 12.0 dB; as drawn: " in said
        return
    monkeypatch.setattr("mvsd.cli.convert._load", lambda *_, **__: KnownRoom(room(0.3), RATE))
    monkeypatch.setattr("mvsd.cli.convert.tell_depth", lambda *_: None)
    options = [given / "room.jpg", "-o", given / "out.wav", "--drr", -4, "--rt60", 0.8, "--rate", RATE]
    assert re.search(r"T20 0\.(7[89]|8[012]) s, .*DRR -4\.0 dB", run_here("response", *options).stdout)


def test_a_response_that_cannot_be_saved_at_the_rate_of_the_recording_is_told_before(files: Path) -> None:
    command = ["reverb", files / "in.wav", "--scene", files / "room.jpg", "-o", files / "out.wav"]
    fails(files, *command, "--save-response", files / "ir.opus", run=run_here, says="OPUS cannot hold")


@pytest.mark.parametrize(("bits", "subtype"), [("16", "PCM_16"), ("24", "PCM_24"), ("float", "FLOAT")])
def test_bits_choose_the_sample_format(given: Path, bits: str, subtype: str) -> None:
    assert run_here(*into_its_room(given, "--bits", bits)).returncode == 0
    assert soundfile.info(given / "out.wav").subtype == subtype


@pytest.mark.parametrize("name", ["out.mp3", "out.ogg", "out.mp4"])
def test_bits_that_a_file_cannot_have_are_refused(given: Path, name: str) -> None:
    command = ["dereverb", given / "mono.wav", "-o", given / name, "--bits", "24"]
    fails(given, *command, run=run_here, status=2, says="files have no samples of --bits 24; give a .wav")


def test_a_room_that_the_end_cuts_is_told(given: Path) -> None:
    soundfile.write(given / "ir.wav", room(0.5), RATE, "FLOAT")
    command = into_its_room(given, "--force")
    result = run_here(*command)
    assert re.fullmatch(
        r"warning: .*out.wav ends while the room is still at -\d+ dB of its peak; --tail 2 lets it die away\n",
        result.stderr,
    )
    assert run_here(*command, "--tail", 2).stderr == ""
    # What is cut off an end where nothing sounds is nothing.
    quiet = np.pad(soundfile.read(given / "mono.wav")[0], (0, RATE))
    soundfile.write(given / "mono.wav", quiet, RATE)
    assert run_here(*command).stderr == ""


def test_a_saved_response_has_the_amounts_in_it(files: Path, tiny_models: Models) -> None:
    command = ["reverb", files / "in.wav", "--scene", files / "room.jpg", "--model", tiny_models.reverberator]
    saved = []
    for name, options in (("plain", []), ("changed", ["--wet", -20, "--dry", 6])):
        outputs = ["-o", files / f"{name}.wav", "--save-response", files / f"ir-{name}.wav"]
        assert run_here(*command, "--steps", 1, *outputs, *options).returncode == 0
        saved.append(soundfile.read(files / f"ir-{name}.wav")[0])
    np.testing.assert_allclose(saved[1][1:], 0.1 * saved[0][1:], atol=1e-6)
    assert saved[1][0] == pytest.approx(10 ** (6 / 20))


@pytest.mark.parametrize("short_db", [0.0, 2.5])
def test_a_level_that_was_not_reached_is_told(
    short_db: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mvsd.cli import jobs

    report = ConversionReport(RATE, RATE, 1, 1.0, -3.0, short_db)
    monkeypatch.setattr("mvsd.video.convert_recording", lambda *_, **__: report)
    files = (Path("i.wav"), Path("o.wav"))
    jobs.convert(None, *files, None, seed=0, steps=None, level="lufs", force=False)  # type: ignore[arg-type]
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "o.wav: a gain of -3.0 dB for the level (lufs)"
    expected = "warning: o.wav stays 2.5 dB below the lufs of IN so as not to clip"
    assert [line.partition(";")[0] for line in rest] == [expected] * (short_db > 0)


def test_a_folder_goes_to_the_photos_of_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mvsd.cli.convert as module

    for name in ("takes", "photos"):
        (tmp_path / name).mkdir()
    for name in "ab":
        soundfile.write(tmp_path / "takes" / f"{name}.wav", np.full(99, 0.1), RATE)
        Image.new("RGB", (40, 30)).save(tmp_path / "photos" / f"{name}.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "old.png")
    opened: list[Path] = []
    monkeypatch.setattr(module, "_load", lambda *_, **__: None)
    monkeypatch.setattr(module, "_open", lambda photo, depth=None: opened.append(photo))
    monkeypatch.setattr("mvsd.amount.relocation", lambda *_, **__: None)
    monkeypatch.setattr(
        module, "convert", lambda converter, source, out, scene, **_: shutil.copy(source, out)
    )
    photos = ["--from", tmp_path / "old.png", "--to", tmp_path / "photos"]
    result = run_here("transfer", tmp_path / "takes", *photos, "-o", tmp_path / "moved")
    assert result.returncode == 0, result.stderr
    old, new = tmp_path / "old.png", tmp_path / "photos"
    assert opened == [old, new / "a.png", old, new / "b.png"]


def test_another_model_of_the_same_name_is_another_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvsd.cli.convert import dereverb
    from mvsd.cli.jobs import _settings

    model, seen = tmp_path / "m.safetensors", set[str]()
    for content in (b"1", b"12"):
        model.write_bytes(content)
        seen.add(_settings(dereverb, {"model": model, "seed": 0}))
    monkeypatch.setattr("mvsd.shipped.shipped_weights", lambda name: model)
    seen.add(_settings(dereverb, {"model": model, "seed": 0}))
    assert len(seen) == 3
