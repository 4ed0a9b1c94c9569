"""The commands on videos, and on folders of recordings."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import RATE, fails, posix_only, run_here, started, write_wav
from conftest import Models
from videos import Kind, make_video, packets


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
    way = "save a frame of it as JPEG and give that"
    says = f"--scene is missing.*in.mp4 is a video: {way}, or give OUT a video's suffix"
    fails(files, *sound, says=says, status=2, run=run_here)
    fails(files, *sound, "--scene", video, says=f"in.mp4: a video; {way}", run=run_here)


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
    assert last == "error: 1 of 3 files failed; the reasons are above"
    assert re.fullmatch(r"converted +2\nkept +0\nfailed +1\n3 files in .*mvsd-results\.csv\n", result.stdout)
    assert soundfile.info(out / "good.wav").frames == 22_050
    assert packets(out / "sub" / "film.mp4") == packets(folder / "sub" / "film.mp4")
    (folder / "bad.wav").unlink()
    again = run_here(*command)
    assert (again.returncode, again.stderr) == (0, "")
    assert re.match(r"converted +0\nkept +2\nfailed +0\n", again.stdout)
    other = run_here(*command, "--seed", 1)
    assert (other.returncode, other.stderr.count("--force")) == (1, 2)


def test_files_that_are_lowered_by_different_amounts_are_told(files: Path) -> None:
    (files / "takes").mkdir()
    for name, level in (("a", 0.9), ("b", 0.6), ("c", 0.1)):
        soundfile.write(files / "takes" / f"{name}.wav", np.full(99, level), RATE)
    soundfile.write(files / "ir.wav", np.r_[1, np.zeros(9)], RATE, "FLOAT")
    command = ["reverb", files / "takes", "--response", files / "ir.wav", "-o", files / "wet", "--dry", 6]
    says = (
        "2 of 3 files are lowered by 1.6 to 5.1 dB, each so as not to clip; --bits float keeps their levels"
    )
    for _ in range(2):  # also where all are kept
        result = run_here(*command)
        assert says in result.stderr.splitlines()[-1], result.stderr
    assert "lowered by" not in run_here(*command, "--bits", "float", "--force").stderr
    for name in "bc":
        (files / "takes" / f"{name}.wav").unlink()
    assert "of 1 files" not in run_here(*command, "--force").stderr


@pytest.mark.parametrize(
    ("options", "says", "status"),
    [
        (["--model", "nowhere.safetensors"], "nowhere", 1),
        (["--scene", "photos", "--depth", "depth.npy"], "--depth", 2),
        (["--scene", "photos", "--save-response", "ir.wav"], "--save-response", 2),
        (["--jobs", "0"], "--jobs", 2),
        (
            ["-o", "new/x.wav"],
            "IN is a folder, and new.x.wav is the name of a file; give a folder as --out",
            2,
        ),
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
    results = out / "mvsd-results.csv"

    def all_but_the_long_one() -> bool:
        return results.exists() and all(f"{name}.wav,converted" in results.read_text() for name in "abc")

    with started("-m", "mvsd", *command) as it:
        it.wait_until(all_but_the_long_one)
        it.end(signal.SIGINT)  # as a terminal does: to every process
        assert (it.ended(), it.said()) == (
            130,
            "what is done is kept; the same command goes on from here\ninterrupted\n",
        )
    assert sorted(path.name for path in out.iterdir()) == ["a.wav", "b.wav", "c.wav", "mvsd-results.csv"]
    write_wav(files / "folder" / "long.wav")
    result = run_here(*command[:4], *command[6:])
    assert result.returncode == 0, result.stderr
    assert re.match(r"converted +1\nkept +3\nfailed +0\n", result.stdout)
