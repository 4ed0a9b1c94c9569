"""The command that says what a file tells of its room."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import RATE, fails, run, run_here
from conftest import Models
from PIL import Image
from voices import room

from mvsd.audio import save_audio
from mvsd.example import SAMPLES


def test_the_command_measures_a_response(tmp_path: Path) -> None:
    rir = np.stack([0.2 * room(0.9, 0.0), room(0.5, 0.0)]).astype(np.float32)
    save_audio(tmp_path / "ir.wav", rir, RATE, subtype="FLOAT")
    result = run("inspect", tmp_path / "ir.wav", "--figure", tmp_path / "ir.png")
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["kind"] == "response"
    assert record["file"] == "ir.wav"
    assert record["broadband"]["rt60"]["value"] == pytest.approx(0.5, rel=0.05)  # of the louder channel
    assert (tmp_path / "ir.png").is_file()
    summary, figure = result.stderr.splitlines()
    assert summary.startswith("response: RT60 0.")
    assert figure == str(tmp_path / "ir.png")


def test_the_command_looks_at_a_photo_and_listens(tmp_path: Path, tiny_models: Models) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(
        tmp_path / "a.jpg"
    )
    out = tmp_path / "reports"
    options = ("--model", tiny_models.reverberator, "--draws", 2, "--steps", 1, "--out", out)
    result = run_here("inspect", tmp_path / "a.jpg", *options)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [str(out / "a-report.json"), str(out / "a-report.png")]
    record = json.loads((out / "a-report.json").read_text())
    assert (record["kind"], record["draws"], record["regions"]["rows"]) == ("photo", 2, 6)
    fails(tmp_path, "inspect", tmp_path / "a.jpg", *options, says="--force", run=run_here)
    np.save(tmp_path / "depth.npy", np.ones((48, 64), np.float32))
    result = run_here(
        "inspect", tmp_path / "a.jpg", *options[:-2], "--depth", tmp_path / "depth.npy", "--seed", 1
    )
    assert "depth.npy is not used: this model sees the photo only" in result.stderr
    assert json.loads(result.stdout)["has_depth"] is False
    result = run_here("inspect", SAMPLES / "voice.flac")
    record = json.loads(result.stdout)
    assert (result.returncode, record["kind"]) == (0, "recording")
    assert 0.02 < record["broadband"]["rt60"]["value"] < 0.4  # a dry voice
    assert record["bands"]["1000"]["rt60"]["low"] < record["bands"]["1000"]["rt60"]["value"]


def test_no_folder_is_made_for_what_is_not_there(tmp_path: Path) -> None:
    fails(
        tmp_path,
        "inspect",
        tmp_path / "missing.wav",
        "-o",
        tmp_path / "out",
        says="no such file",
        run=run_here,
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "options", "status", "says"),
    [
        ("missing.wav", (), 1, "no such file; give a recording, a photo or an impulse response"),
        ("text.txt", (), 1, "neither sound nor photo"),
        ("silent.wav", (), 1, "silent"),
        ("short.wav", ("--kind", "recording"), 1, "1 s is needed"),
        ("noise.wav", ("--kind", "photo"), 1, "noise.wav"),
        ("noise.wav", ("--figure", "a.doc"), 1, "a figure is written as"),
        ("noise.wav", ("--json", "no/where.json"), 1, "there is no folder"),
        ("noise.wav", ("--kind", "recording", "--depth", "a.png"), 2, "--depth belongs to a photo"),
        ("noise.wav", ("--seed", "1"), 2, "--seed belong to a photo"),
        ("noise.wav", ("--draws", "2"), 2, "--seed belong to a photo"),
        ("noise.wav", ("--json", "noise.wav"), 2, "is the file that is to be inspected"),
        ("noise.wav", ("--json", "text.txt"), 1, "exists"),
        ("noise.wav", ("--json", "a.svg", "--figure", "a.svg"), 2, "the same file"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: tuple[str, ...],
    status: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    for sound, samples in (("silent", 0 * noise), ("short", noise[:8000]), ("noise", noise)):
        soundfile.write(f"{sound}.wav", samples, RATE)
    Path("text.txt").write_text("neither")
    fails(tmp_path, "inspect", name, *options, says=re.escape(says), status=status, run=run_here)
