"""The README and the documentation site keep what they promise.

Every ```bash and ```python block is run, page by page, in a scratch folder with small files of the names that the
pages use. A ```console block needs a network, a data set, a server or hours: its commands are parsed in full, and their
files, extras and targets looked up. ```text is no input.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urldefrag

import numpy as np
import pytest
import typer
from videos import KINDS, make_video, pictures
from voices import room

import mvsd
import mvsd.cli
import mvsd.cli.convert
import mvsd.converter
from mvsd.acoustics import convolve
from mvsd.data.shards import write_shards
from mvsd.example import SAMPLES
from mvsd.training.config import load_config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
RATE = 16_000
ELSEWHERE = ("http:", "https:", "//")


def _load_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("documentation", ROOT / "scripts" / "documentation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


documentation = _load_hook()
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, *infos: str) -> Iterator[tuple[str, str]]:
    return (block for block in documentation.code_blocks(page.read_text()) if block[0] in infos)


@pages
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
        made_with_the_site = page.name == "tour.md" and target.startswith("tour/")
        assert made_with_the_site or (page.parent / target).exists(), target
    for target in re.findall(r"`((?:configs|benchmarks|docs|mvsd)/[\w./-]+)`", text):
        assert (ROOT / target).exists(), target
    for target in re.findall(r"\bconfigs/[\w./-]+\.toml", text):
        assert (ROOT / target).exists(), target


@pages
def test_every_code_block_says_what_becomes_of_it(page: Path) -> None:
    text = page.read_text()
    assert {info for info, _ in documentation.code_blocks(text)} <= {"bash", "python", "console", "text"}
    assert text.count("```") == 2 * len(list(documentation.code_blocks(text)))
    without = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"\n\n    \S", without), "an indented code block; put it between fences"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the blocks read."""
    folder = tmp_path_factory.mktemp("files")
    voice, _ = mvsd.load_audio(SAMPLES / "voice.flac")
    short = voice[:, : 2 * RATE]
    for name in (
        "dry.wav",
        "talk.wav",
        "talk.mp3",
        "takes/day1/a.wav",
        "clips/anechoic/1.wav",
        "theirs/1.wav",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        mvsd.save_audio(folder / name, short, RATE)
    for name in ("a.jpg", "b.jpg", "room.jpg", "photos/a.jpg", "clips/image/1.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(SAMPLES / "studio.jpg", folder / name)
    sound = [(0.0, np.repeat(short, 3, axis=1)[:, :48_000])]
    for name, kind in (("film.mp4", 0), ("talk.mp4", 0), ("talk.mov", 2), ("talk.mkv", 4)):
        make_video(folder / name, KINDS[kind], pictures(25), None, sound)
    rir = room(0.4, 0.0, seconds=0.5).astype(np.float32)
    (folder / "clips/reverberant").mkdir()
    mvsd.save_audio(folder / "clips/reverberant/1.wav", 0.3 * convolve(short[0], rir)[: 2 * RATE], RATE)
    example = mvsd.Example("x", mvsd.Scene.open(SAMPLES / "studio.jpg"), rir=rir, metadata={"rt60": [0.4]})
    write_shards([example], folder / "data/rooms/test", prefix="test")
    spoken = voice[0, : 4 * RATE]
    for own in ("my-room", "my-room-test"):  # played and recorded: late, and at another level
        for name, sound_made in (("played", spoken), ("recorded", 0.3 * convolve(spoken, rir))):
            (folder / own / name).mkdir(parents=True)
            late = np.pad(sound_made, (900 if name == "recorded" else 0, 0))
            mvsd.save_audio(folder / own / name / "1.wav", late, RATE)
        shutil.copy(SAMPLES / "studio.jpg", folder / own / "photo.jpg")
    return folder


@pytest.fixture
def scratch(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of those, beside what the source folder has, to be in."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    (tmp_path / "mvsd").mkdir()
    for name in ("configs", "mvsd/samples", "mvsd/weights"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The shipped weights, loaded once, and in one step: that a command runs does not hang on their number."""
    for module in (mvsd, mvsd.converter):
        monkeypatch.setattr(module, "load", _quick)
    mvsd.cli.convert._load.cache_clear()
    yield
    mvsd.cli.convert._load.cache_clear()


_real_load = mvsd.converter.load


@lru_cache
def _quick(name: str, device: str = "cpu", **settings: Any) -> mvsd.Converter:
    model = _real_load(name, device, **settings)
    model.config = dataclasses.replace(model.config, num_steps=1, num_shifts=1)
    return model


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(blocks(page, "bash", "python"))],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
@pytest.mark.usefixtures("quick_models")
def test_bash_and_python_blocks_run(page: Path, scratch: Path) -> None:
    for info, block in blocks(page, "bash", "python"):
        if info == "python":
            exec(compile(block, str(page), "exec"), {"__name__": "block"})
        elif page.name != documentation.TOUR:  # which runs when the site is built
            for words in documentation.commands(block):
                if words[:2] == ["mvsd", "train"]:  # sets up torch for its process
                    finished = subprocess.run(
                        [sys.executable, "-m", *words], capture_output=True, text=True, check=False
                    )
                    status, said = finished.returncode, finished.stderr
                else:
                    status, said = documentation.run_command(words)
                assert status == 0, f"{shlex.join(words)}: {said}"
    if page.name == "README.md":
        assert (scratch / "wet.wav").exists() and (scratch / "ir-3.wav").exists()
    if (
        page.name == "own-room.md"
    ):  # was recorded 900 samples late and at 0.3; the page puts it in time and to its level
        dry, wet = (
            mvsd.load_audio(scratch / f"my-room/{name}/1.wav")[0][0] for name in ("anechoic", "reverberant")
        )
        rir = room(0.4, 0.0, seconds=0.5)
        error = wet - convolve(dry, rir)[: len(wet)]
        assert np.square(error).sum() < 0.01 * np.square(wet).sum()


def _parse(words: list[str]) -> None:
    """Parse a command of ours in full, types and ranges too, without running it."""
    root: Any = typer.main.get_command(mvsd.cli.app)
    group, name = (root.commands["data"], words[1]) if words[0] == "data" else (root, words[0])
    group.commands[name].callback = lambda **_: None
    root.main([re.sub("^N$", "1", word) for word in words], prog_name="mvsd", standalone_mode=False)


def _check_mvsd(words: list[str], block: str) -> None:
    if "[" in "".join(words) and "--set" not in words:  # a synopsis
        _, help_text = documentation.run_command(["mvsd", words[0], "--help"])
        assert {word.strip("[]") for word in words if "--" in word} <= set(
            re.findall(r"--[\w-]+", help_text)
        ), block
        return
    _parse(words)
    if words[0] == "train":
        load_config(ROOT / words[1], [value for key, value in pairwise(words) if key == "--set"])


def _check_script(words: list[str], block: str) -> None:
    script = ROOT / (f"{words[1].replace('.', '/')}.py" if words[0] == "-m" else words[0])
    source = script.read_text()
    for word in words[1:]:
        if word.startswith("--"):
            assert f'"{word}"' in source, (word, block)


@pages
def test_console_blocks_are_right_as_far_as_can_be_told(page: Path) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for _, block in blocks(page, "console"):
        for program, *words in documentation.commands(block):
            if program == "mvsd":
                _check_mvsd(words, block)
            elif program == "python":
                _check_script(words, block)
            elif program == "python3":
                assert words[:2] == ["-m", "venv"], block
            elif program == "make":
                assert f"\n{words[0]}:" in (ROOT / "Makefile").read_text(), block
            else:
                assert [program, words[0]] == ["pip", "install"], block
                for extras in re.findall(r"(?:\.|mvsd)\[([\w,]+)\]", " ".join(words)):
                    for extra in extras.split(","):
                        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), block


class Html(HTMLParser):
    """What a page refers to: (tag, address), and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.classes: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values.get("id", ""), values.get("name", "")}
        self.classes |= set(values.get("class", "").split())
        self.found += [
            (tag, values[name]) for name in ("href", "src", "srcset", "data", "poster") if name in values
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does; the sounds of the tour are made by the tour's own commands."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def html(site: Path) -> dict[Path, Html]:
    return {path: Html(path) for path in site.rglob("*.html")}


def test_the_site_asks_no_other_host_for_anything(site: Path, html: dict[Path, Html]) -> None:
    for path, page in html.items():
        for tag, address in page.found:
            assert tag == "a" or not address.startswith(ELSEWHERE), (path, tag, address)
        # For these the theme's script would fetch more from another host.
        assert not page.classes & {"mermaid", "asciinema"}, path
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")), (
            path
        )


def test_every_link_and_anchor_of_the_site_resolves(site: Path, html: dict[Path, Html]) -> None:
    num_links = 0
    for path, page in html.items():
        if path.name == "404.html":  # is shown at any address, so its links start at the root
            continue
        for tag, address in page.found:
            if address.startswith((*ELSEWHERE, "data:", "mailto:")):
                continue
            target, anchor = urldefrag(address)
            found = Path(os.path.normpath(path.parent / unquote(target))) if target else path
            found = found / "index.html" if found == site else found
            assert found.is_file(), (path.relative_to(site), tag, address)
            num_links += 1
            if anchor and not anchor.startswith("__"):
                assert unquote(anchor) in html[found].anchors, (path.relative_to(site), address)
    assert num_links > 1000


def test_every_page_and_every_sound_of_the_tour_is_there(site: Path, html: dict[Path, Html]) -> None:
    for page in sorted(DOCS.rglob("*.md")):
        assert (site / page.relative_to(DOCS)).with_suffix(".html") in html
    sounds = [site / address for tag, address in html[site / "tour.html"].found if tag == "audio"]
    assert len(sounds) == 8
    for path in sounds:
        waveform, rate = mvsd.load_audio(path)
        assert waveform.shape[1] > rate and np.abs(waveform).max() > 0.05


def test_the_reference_has_every_public_name(site: Path, html: dict[Path, Html]) -> None:
    anchors = html[site / "api.html"].anchors
    for name in mvsd.__all__:
        found = getattr(mvsd, name)
        where = found.__module__ if name != "MvsdError" else "mvsd.errors"
        assert f"{where}.{name}" in anchors, name
    commands = (site / "commands.html").read_text(encoding="utf-8")
    for command in mvsd.cli.app.registered_commands:
        assert command.callback is not None and f"Usage: mvsd {command.callback.__name__}" in commands
