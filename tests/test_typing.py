"""What a caller's type checker says of the public names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CALLER = """
from pathlib import Path

import numpy as np
import torch
from typing_extensions import assert_type

import mvsd
from mvsd.amount import Mix, reverberation

voice, sample_rate = mvsd.load_audio("voice.wav")
scene = mvsd.Scene.open(Path("room.jpg"))
reverberator: mvsd.Converter = mvsd.load("reverberator")
dereverberator = mvsd.Converter.from_pretrained("user/model", revision="main")

array: np.ndarray = reverberator.convert(voice, sample_rate, scene, seed=1, steps=4)
assert_type(reverberator.convert(torch.from_numpy(voice), sample_rate), torch.Tensor)
transfer = mvsd.Transfer(dereverberator, reverberation(reverberator, rt60=0.6), scene)
half: mvsd.AudioConverter = Mix.strength(transfer, 0.5)
mvsd.save_audio("out.wav", half.convert(voice, sample_rate, None), sample_rate)
commit: str = dereverberator.push_to_hub("user/model", run="runs/mine")
"""
WRONG = """
import mvsd

mvsd.load("reverberator").convert("voice.wav", 16_000)
mvsd.load("reverberator").convert(mvsd.load_audio("voice.wav")[0], 16_000, "room.jpg")
"""


@pytest.mark.slow
def test_mypy_strict_accepts_a_caller_and_sees_its_mistakes(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "caller.py").write_text(CALLER)
    (tmp_path / "wrong.py").write_text(WRONG)
    options = ["--strict", "--follow-imports=silent", f"--cache-dir={tmp_path}", "--config-file="]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options, tmp_path / "caller.py", tmp_path / "wrong.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in result.stdout.splitlines() if ": error: " in line]
    assert [Path(line.split(":")[0]).name for line in lines] == ["wrong.py", "wrong.py"], (
        result.stdout + result.stderr
    )
