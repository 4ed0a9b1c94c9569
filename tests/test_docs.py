"""The README and the documentation keep what they promise."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from videos import KINDS, make_video, noise, pictures

from mvsd.example import SAMPLES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for target in re.findall(r"`((?:configs|benchmarks|docs|mvsd)/[\w./-]+)`", text):
        assert (ROOT / target).exists(), target
    for target in re.findall(r"\bconfigs/[\w./-]+\.toml", text):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    shutil.copy(SAMPLES / "living-room.jpg", tmp_path / "room.jpg")
    shutil.copy(SAMPLES / "voice.flac", tmp_path / "dry.wav")  # the reader goes by content, not by suffix
    make_video(tmp_path / "talk.mp4", KINDS[0], pictures(9), None, [(0, noise(9000))])
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, str(page), "exec"), {})
    if page.name == "README.md":
        assert (tmp_path / "wet.wav").exists()
