"""The page itself: its server, and a browser in front of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import soundfile
from command_line import Started, started
from conftest import Models
from PIL import Image

from mvsd.audio import load_audio, save_audio
from mvsd.example import SAMPLES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("gradio", reason="needs the extra web")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
VOICE = SAMPLES / "voice.flac"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync", "--autoplay-policy=no-user-gesture-required"]
PATIENCE = 60_000  # milliseconds; a busy machine is slow


class Served(NamedTuple):
    """A running page and the folder of `page_server.py`."""

    address: str
    folder: Path


def free_port() -> int:
    """One that the system gives to nobody who asks for any, as others do at the same time."""
    while True:
        port = random.SystemRandom().randrange(10_240, 30_000)
        with socket.socket() as server, contextlib.suppress(OSError):
            server.bind(("127.0.0.1", port))
            return port


def fetch(url: str) -> bytes:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=PATIENCE / 1000) as answer:
        return bytes(answer.read())


@pytest.fixture(scope="module")
def served(tiny_models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page with tiny models, in a process of its own, which must leave nothing behind."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "temporary").mkdir()
    command = [ROOT / "tests" / "page_server.py", folder, *tiny_models, free_port()]
    with started(*command, env=os.environ | {"PYTHONPATH": str(ROOT)}) as it:
        yield Served(it.line(), folder)
        it.process.send_signal(signal.SIGINT)
        it.ended()
    assert not list((folder / "temporary").iterdir())


# ------------------------------------------------------------------------------------------- the server


def test_the_page_is_for_this_machine_alone(served: Served) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", served.address)
    config = json.loads(fetch(f"{served.address}config"))
    assert config["analytics_enabled"] is False and not config["stylesheets"]
    assert set((served.folder / "called").read_text().split()) <= {"127.0.0.1", "local"}


def test_only_what_was_uploaded_or_made_is_served(served: Served, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"secret")
    for path in (tmp_path / "secret.wav", Path(__file__), Path("/etc/hostname")):
        with pytest.raises(urllib.error.HTTPError) as error:
            fetch(f"{served.address}gradio_api/file={path}")
        with error.value:  # an answer as well, with a connection of its own
            assert error.value.code == 403


def demo(tiny_models: Models, port: int, **environment: str) -> contextlib.AbstractContextManager[Started]:
    command = ["-m", "mvsd", "demo", "--port", port, "--device", "cpu"]
    command += ["--model-reverberator", tiny_models.reverberator]
    return started(*command, cwd=ROOT, env=os.environ | environment)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_serves_and_leaves_nothing(
    number: signal.Signals, status: int, tmp_path: Path, tiny_models: Models
) -> None:
    """Also behind a proxy that does not answer: nothing goes through it."""
    with demo(tiny_models, free_port(), TMPDIR=str(tmp_path), HTTP_PROXY="http://127.0.0.1:9") as it:
        assert b"gradio" in fetch(it.line())
        it.process.send_signal(number)
        assert it.ended() == status
        assert "Traceback" not in it.said()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("mvsd-demo")]


def test_a_taken_port_is_said(tiny_models: Models) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with demo(tiny_models, other.getsockname()[1]) as it:
            assert it.ended() == 1
            assert re.fullmatch(
                r"error: 127\.0\.0\.1:\d+ cannot be used .*choose another --host or --port\n", it.said()
            )


# ------------------------------------------------------------------------------------------- the browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or Playwright's own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if (
        shutil.which("chromium") is None
    ):  # before the driver starts, which does not end cleanly after a failed launch
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS, timeout=PATIENCE
            )
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """A visitor's page; a script's error, or a request to another host, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, errors, requests = context.new_page(), list[str](), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    yield opened(page, served)
    context.close()
    assert errors == []
    assert {url.split("/")[2] for url in requests if url.startswith("http")} == {served.address.split("/")[2]}


def opened(page: Page, served: Served) -> Page:
    page.set_default_timeout(PATIENCE)
    page.goto(served.address)
    page.wait_for_selector("#go")
    return page


def upload(page: Page, where: str, path: Path) -> str:
    """Put a file there, and wait for what is said about it."""
    page.set_input_files(f"#{where} input[type=file]", path)
    note = {"audio": "source", "video": "source"}.get(where, where)
    page.wait_for_function(
        "([note, name]) => /pixels| Hz| kHz/.test(document.getElementById(note)?.innerText)"
        " || document.getElementById(note)?.innerText.includes(name)",
        arg=[f"{note}-note", path.name],
    )
    return str(page.inner_text(f"#{note}-note"))


def convert(page: Page) -> None:
    """Ask for the conversion with one step, and wait for it."""
    if not page.is_visible("#steps"):
        page.click("#amounts button")
    page.fill("#steps input", "1")
    page.click("#go")
    page.wait_for_selector(".listen[data-before]")


def wait_for_command(page: Page, beginning: str) -> None:
    page.wait_for_function(
        "beginning => document.querySelector('#command textarea')?.value.startsWith(beginning)", arg=beginning
    )


def player(page: Page) -> tuple[str, float, str]:
    """Which one is heard, the position in seconds, and what its button would do."""
    which, position, button = page.evaluate(
        "() => { const root = document.querySelector('.listen'); return [root.dataset.heard,"
        " Number(root.dataset.position), root.querySelector('.play').getAttribute('aria-label')]; }"
    )
    return str(which), float(position), str(button)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    voice = load_audio(VOICE)[0][0]
    left = np.repeat(voice[:32_000], 3)
    save_audio(tmp_path / "a voice.wav", np.stack([left, 0 * left]), 48_000)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8) + 90).save(tmp_path / "room.png")
    (tmp_path / "noise.wav").write_bytes(np.random.default_rng(0).bytes(3000))
    (tmp_path / "text.jpg").write_text("<b>no photo</b>")
    save_audio(tmp_path / "long.flac", np.zeros(21 * 16_000), 16_000)
    (tmp_path / "big.wav").write_bytes(bytes(2**20 + 1))
    return tmp_path


def test_upload_convert_play_download(page: Page, files: Path) -> None:
    assert upload(page, "audio", files / "a voice.wav") == "2.0 s, 48 kHz, stereo"
    assert upload(page, "room", files / "room.png") == "64 x 48 pixels"
    convert(page)
    wait_for_command(page, "mvsd reverb 'a voice.wav' --scene room.png --model")

    page.check(".listen input[name=loop]")
    page.click(".listen .play")
    page.wait_for_function("() => Number(document.querySelector('.listen').dataset.position) > 0.1")
    assert player(page)[::2] == ("after", "Pause")
    before, after, length, took = page.evaluate(
        "() => { const root = document.querySelector('.listen'), player = root.player;"
        " const started = performance.now(), before = player.now();"
        " root.querySelector('input[value=before]').click(); const after = player.now();"
        " return [before, after, player.duration, (performance.now() - started) / 1000]; }"
    )
    assert (after - before) % length < 0.1 + took
    assert player(page)[::2] == ("before", "Pause")
    page.click(".listen .play")
    paused = player(page)
    page.wait_for_timeout(200)
    assert player(page) == paused and paused[2] == "Play"
    page.locator(".listen .plot").first.click(position={"x": 5, "y": 5})
    assert player(page)[1] < 0.5

    for button, name, subtype in (
        ("get-sound", "a voice-in-the-room.wav", "PCM_24"),
        ("get-response", "ir.wav", "FLOAT"),
    ):
        with page.expect_download() as download:
            page.click(f"#{button}")
        assert download.value.suggested_filename == name
        download.value.save_as(files / name)
        assert soundfile.info(files / name).subtype == subtype
    assert (
        soundfile.info(files / "a voice-in-the-room.wav").frames
        == soundfile.info(files / "a voice.wav").frames
    )

    page.wait_for_selector("#get-report")
    page.wait_for_selector("#rooms >> text=Applied, measured")
    with page.expect_download() as download:
        page.click("#get-report")
    assert "Photo, expected" in json.loads(Path(download.value.path()).read_text())


@pytest.mark.parametrize(
    ("where", "name", "says"),
    [
        ("audio", "noise.wav", "noise.wav: not a sound file"),
        ("audio", "long.flac", "long.flac is longer than the 20 s"),
        ("room", "text.jpg", "text.jpg: not a photo"),
    ],
)
def test_a_bad_file_is_one_line(where: str, name: str, says: str, page: Page, files: Path) -> None:
    said = upload(page, where, files / name)
    assert said.startswith(says) and "\n" not in said and "Traceback" not in said
    page.wait_for_selector(f"#{where} input[type=file]", state="attached")  # it was taken away again
    page.click("#go")
    assert "no voice yet" in page.inner_text(".toast-body")


def test_a_file_that_is_too_large_is_refused(page: Page, files: Path) -> None:
    page.set_input_files("#audio input[type=file]", files / "big.wav")
    assert "maximum allowed size of 1.0 M" in page.inner_text(".toast-body")


def test_out_of_a_room_and_from_room_to_room(page: Page) -> None:
    page.click("#sample-voice")
    page.wait_for_selector("#source-note >> text=16 kHz")
    page.check("#task input[value=dereverb]")
    page.wait_for_selector("#room", state="hidden")
    convert(page)
    wait_for_command(page, "mvsd dereverb voice.flac --model")
    assert not page.is_visible("#get-response")
    page.check("#task input[value=transfer]")
    page.click("#samples button >> nth=0")
    page.wait_for_selector("#room-note >> text=pixels")
    page.click("#go")
    wait_for_command(page, "mvsd transfer")
    assert " --to bathroom.jpg " in page.input_value("#command textarea")
    page.wait_for_selector("#get-response")


def test_a_second_visitor_waits_and_either_can_stop(page: Page, browser: Browser, served: Served) -> None:
    gate = served.folder / "gate"
    gate.touch()
    try:
        second = opened(browser.new_page(), served)
        for visitor in (page, second):
            visitor.click("#sample-voice")
            visitor.click("#samples button >> nth=1")
            visitor.wait_for_selector("#room-note >> text=pixels")
            visitor.click("#go")
            visitor.wait_for_selector("#stop")
        second.wait_for_selector("#player >> text=/queue: *1/")
        second.click("#stop")
        second.wait_for_selector("#stop", state="hidden")
        second.wait_for_selector("#player >> text=/queue/", state="detached")
        second.click("#go")
        second.wait_for_selector("#player >> text=/queue: *1/")
        gate.unlink()
        for visitor in (page, second):
            visitor.wait_for_selector(".listen[data-before]")
        second.context.close()
    finally:
        gate.unlink(missing_ok=True)


def test_a_phone_and_the_keyboard(browser: Browser, served: Served) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = opened(context.new_page(), served)
    focus_on(page, "sample-voice")
    page.keyboard.press("Enter")
    page.wait_for_selector("#source-note >> text=16 kHz")
    focus_on(page, "samples")
    page.keyboard.press("Enter")
    page.wait_for_selector("#room-note >> text=pixels")
    focus_on(page, "go")
    page.keyboard.press("Enter")
    page.wait_for_selector(".listen[data-before]")
    focus_on(page, "player")
    page.keyboard.press("b")
    assert player(page)[0] == "before"
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    page.wait_for_function("() => Number(document.querySelector('.listen').dataset.position) > 0.1")
    assert player(page)[0] == "after"
    page.wait_for_selector("#get-report")
    width: Any = page.evaluate("() => document.documentElement.scrollWidth")
    assert width == 390
    small = page.evaluate(
        "() => [...document.querySelectorAll('.listen button, .listen label, #go, #sample-voice')]"
        ".map(e => e.getBoundingClientRect()).filter(r => r.height > 0 && r.height < 30).length"
    )
    assert small == 0
    context.close()


def focus_on(page: Page, name: str) -> None:
    """Press Tab until something in the element of that name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("name => document.activeElement.closest('#' + name) !== null", name):
            return
    raise AssertionError(f"{name} cannot be reached by the keyboard")
