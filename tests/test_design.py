"""The shape of the package: who imports whom, how long things are, what it needs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mvsd

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mvsd"
FILES = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]

# From top to bottom; a module may import from its own layer and from those below.
LAYERS = [
    {"__main__"},
    {"cli", "web"},
    {"check", "example"},
    {"training", "evaluation", "figures", "inspection", "regions", "report", "report_figure"},
    {"files", "folders", "video"},
    {"amount", "converter", "mutual", "onnx_file", "responses", "transfer"},
    {"simulation"},
    {"data"},
    {
        "acoustics",
        "audio",
        "audio_writer",
        "auditory",
        "blockwise",
        "blind",
        "channel_order",
        "coloration",
        "config",
        "container",
        "converter_config",
        "convolutive",
        "decay",
        "diffusion",
        "fullband",
        "heif",
        "hub",
        "intelligibility",
        "level",
        "model_file",
        "notes",
        "networks",
        "sampling",
        "recordings",
        "scene",
        "scene_track",
        "shipped",
        "shots",
        "soundtrack",
        "spectrogram",
        "streaming",
        "waveform",
        "whole_file",
        "workers",
    },
    {"errors"},
]
STRANGERS = [
    {"training", "evaluation"},
    {"training", "figures"},
    {"evaluation", "figures"},
    {"diffusion", "networks"},
]

# Names under which the dependencies are imported; those of the extras only inside functions.
BASE = {
    "accelerate",
    "av",
    "huggingface_hub",
    "matplotlib",
    "numpy",
    "PIL",
    "rich",
    "safetensors",
    "scipy",
    "soundfile",
}
BASE |= {"soxr", "tomli", "torch", "typer"}
EXTRAS = {
    "drjit",
    "gradio",
    "librosa",
    "mitsuba",
    "nara_wpe",
    "onnx",
    "onnxruntime",
    "pesq",
    "pillow_heif",
    "pocketsphinx",
    "pyroomacoustics",
    "pystoi",
    "requests",
    "speechbrain",
    "speechmos",
    "transformers",
}

MAX_FILE, MAX_FUNCTION = 400, 60
LONGER_FUNCTIONS = {("training/loop.py", "train"): 150}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Absolute names of the modules that a file imports, and whether it does so inside a function."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            names = [node.module or ""]
        else:
            continue
        yield from ((name, id(node) in inside) for name in names)


def layer(part: str) -> int:
    (index,) = (index for index, parts in enumerate(LAYERS) if part in parts)
    return index


@pytest.mark.parametrize("path", [path for path in FILES if path != Path("__init__.py")], ids=str)
def test_imports_go_down_only(path: Path) -> None:
    part = path.parts[0].removesuffix(".py")
    for name, _ in imports(path):
        if name == "mvsd":
            assert part == "cli", f"{path} imports mvsd itself; import the module that defines the name"
        elif name.startswith("mvsd."):
            other = name.split(".")[1]
            assert layer(part) <= layer(other), f"{path} imports {name}, which is above it"
            assert {part, other} not in STRANGERS, f"{path} imports {name}, which it must not know"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_dependencies_are_declared_and_optional_ones_imported_late(path: Path) -> None:
    for name, is_late in imports(path):
        root = name.split(".")[0]
        allowed = {*sys.stdlib_module_names, "mvsd", "tomllib", *BASE}  # tomllib is younger than Python 3.10
        assert root in allowed | (EXTRAS if is_late else set()), f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_are_short(path: Path) -> None:
    text = (PACKAGE / path).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            limit = LONGER_FUNCTIONS.get((path.as_posix(), node.name), MAX_FUNCTION)
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            assert size <= limit, f"{path}:{node.lineno} {node.name} has {size} lines"


def test_public_names_are_there() -> None:
    assert set(mvsd.__all__) <= set(dir(mvsd))
    for name in mvsd.__all__:
        assert getattr(mvsd, name).__module__.startswith("mvsd.")
        assert getattr(mvsd, name).__doc__
    with pytest.raises(AttributeError, match="reverbarator"):
        mvsd.reverbarator  # noqa: B018


IMPORT_ALL = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import mvsd
for module in pkgutil.walk_packages(mvsd.__path__, "mvsd."):
    if module.name != "mvsd.__main__":
        importlib.import_module(module.name)
"""


def test_every_module_imports_without_the_extras() -> None:
    blocked = {*EXTRAS, "hypothesis", "pytest", "torchaudio", "torchvision"}
    script = IMPORT_ALL.format(blocked=blocked)
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_nothing_points_outside_the_repository() -> None:
    names = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(names, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    outside = re.compile(rb"/wor[k]\b|\bshare[d]/")  # written so that it does not find itself
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            assert not outside.search(path.read_bytes()), name
