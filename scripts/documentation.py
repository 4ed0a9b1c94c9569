"""What the documentation site is built with: the sounds of the tour, and the options of the commands.

MkDocs calls the functions whose names begin with ``on_``. Nothing that can be heard on the site is committed: the
commands that are printed in docs/tour.md make it, each time the site is built.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "mvsd" / "samples"
TOUR = "tour.md"
_MEDIA = (".wav", ".flac", ".png")
_FILLED_IN = r"(?:\nIn the repository: .*)?"  # a line for those who read the page where no mark is filled in


def code_blocks(markdown: str) -> Iterator[tuple[str, str]]:
    """The fenced code blocks of a page: info string and text."""
    for match in re.finditer(r"^```([^\n`]*)\n(.*?)^```$", markdown, re.DOTALL | re.MULTILINE):
        yield match[1].strip(), match[2]


def commands(block: str) -> list[list[str]]:
    """The words of each command of a block, as a shell would split them; comments and continued lines are known."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_command(words: list[str]) -> tuple[int, str]:
    """Run `mvsd ...` here: exit status and what it printed. `main` is all that the installed command runs."""
    from mvsd.cli import main

    program, *arguments = words
    if program != "mvsd":
        raise ValueError(f"{shlex.join(words)}: only mvsd is run")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(arguments)
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()


def run_tour(folder: Path) -> None:
    """Run the commands of the tour in a folder that has the bundled samples; raises RuntimeError where one fails."""
    shutil.copytree(SAMPLES, folder / "mvsd" / "samples")
    here = Path.cwd()
    os.chdir(folder)
    try:
        for info, block in code_blocks((ROOT / "docs" / TOUR).read_text(encoding="utf-8")):
            for words in commands(block) if info == "bash" else ():
                status, said = run_command(words)
                if status:
                    raise RuntimeError(f"{TOUR}: {shlex.join(words)}: {said}")
    finally:
        os.chdir(here)


def on_files(files: Any, config: Any) -> None:
    """Put the sounds and pictures of the tour beside it."""
    from mkdocs.structure.files import File

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_tour(folder)
        made = [path for path in (folder / "tour").iterdir() if path.suffix in _MEDIA]
        for path in sorted([*made, *SAMPLES.glob("*.jpg")]):
            files.append(File.generated(config, f"tour/{path.name}", content=path.read_bytes()))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the marks of a page: what `mvsd COMMAND --help` says of every command, and files from beside docs/."""
    if page.file.src_uri == "commands.md":
        return re.sub(f"<!-- help -->{_FILLED_IN}", lambda _: help_texts(), markdown)
    mark = rf"<!-- (\S+\.md)(?:: (.+?))? -->{_FILLED_IN}"
    return re.sub(mark, lambda found: included(found[1], found[2]), markdown)


def included(source: str, section: str | None = None) -> str:
    """A Markdown file of the repository, or the section of it below a second-level heading, as a page of the site."""
    text = (ROOT / source).read_text(encoding="utf-8")
    if section is not None:
        sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", text, re.MULTILINE))
        text = sections[section]
    text = re.sub(r"\]\((?:\.\./)*docs/", "](", text)
    return re.sub(r"\]\((?:\.\./)*mvsd/weights/MODEL_CARD\.md", "](model-card.md", text)


def help_texts() -> str:
    """A section for each command, as Markdown."""
    import mvsd.cli
    from mvsd.cli.data import app as data

    names = [command.callback.__name__ for command in mvsd.cli.app.registered_commands if command.callback]
    names += [f"data {command.callback.__name__}" for command in data.registered_commands if command.callback]
    os.environ |= {"TERMINAL_WIDTH": "110", "NO_COLOR": "1"}
    texts = {name: run_command(["mvsd", *name.split(), "--help"])[1].strip() for name in names}
    return "\n\n".join(f"## mvsd {name}\n\n```text\n{text}\n```" for name, text in texts.items())
