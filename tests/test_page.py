"""The page and the listening test: files that hold together, and what a reader and a listener can do with them."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from evaluation_fixtures import DAMPER, RATE, example
from PIL import Image
from scipy import stats

from mvsd.cli import main
from mvsd.data.shards import write_shards
from mvsd.errors import DataError, OutputExistsError
from mvsd.evaluation.evaluate import evaluate
from mvsd.evaluation.page import SceneBlock, Sound, _decay_html, _listening_test, write_page
from mvsd.evaluation.results import Results
from mvsd.evaluation.settings import Settings
from mvsd.evaluation.systems import WPE, ConstantRoom, GroundTruth, Model, Processed, TrueResponse, Untouched
from mvsd.evaluation.votes import KEY_FILE, ListeningTest, count_votes, make_test, our_row, preferences_grid
from mvsd.figures import spectrogram_images

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OURS = ("<b>damper</b>", "right photo")
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"

PATIENCE = 60_000  # milliseconds; a busy machine is slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A page of three clips, the last of them without a photo, by systems of which one fails without a photo."""
    folder = tmp_path_factory.mktemp("site")
    rooms = [example(0, 2.0), example(1, 2.0), example(2, 2.0, scene=None)]
    write_shards(rooms, folder / "data", prefix="x")
    (folder / "damper.py").write_text(DAMPER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        systems = (
            Untouched(),
            GroundTruth(),
            Model(OURS[0], "damper:Damper"),
            ConstantRoom(0.4, 2.0),
            TrueResponse(),
        )
        settings = Settings(
            "reverberation", str(folder / "data"), systems, metrics=("stft_distance", "t20_error")
        )
        results = Results(settings, evaluate(settings, folder / "out"))
        test = write_page(results, folder / "page", spectrogram_images)
        test.write(folder / "out")
        yield SimpleNamespace(page=folder / "page", out=folder / "out", results=results, test=test)


class Links(HTMLParser):
    """Everything that a page loads or links to, and the tags that lack a name for those who do not see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.nameless: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.targets += [
            v for k in ("src", "href") if (v := values.get(k)) and not v.startswith(("#", "data:"))
        ]
        if (tag == "img" and not values.get("alt")) or (tag == "svg" and not values.get("aria-label")):
            self.nameless.append(self.get_starttag_text() or "")
        if tag == "audio" and not (values.get("aria-label") or values.get("id")):
            self.nameless.append(self.get_starttag_text() or "")


# ------------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize("folder", ["", "listening-test"])
def test_the_page_is_whole_and_needs_no_network(site: SimpleNamespace, folder: str) -> None:
    root = site.page / folder
    links = Links((root / "index.html").read_text())
    assert links.nameless == []
    assert links.targets and all((root / target).is_file() for target in links.targets)
    for path in [*root.glob("*.html"), *root.glob("*.js"), *root.glob("*.css")]:
        assert not re.search(r"(https?:)?//[a-z]+\.|@import|url\(", path.read_text()), path


def test_sounds_of_a_scene_keep_their_levels_and_those_of_the_test_are_equally_loud(
    site: SimpleNamespace,
) -> None:
    clip = site.results.settings
    from mvsd.evaluation.settings import load_clip

    first = load_clip(clip, 0)
    sounds = [soundfile.read(site.page / "scenes" / "000000" / f"{n}.flac")[0] for n in (1, 2)]
    for sound, wanted in zip(sounds, (first.source, first.target), strict=True):
        gain = sound @ wanted / (wanted @ wanted)
        np.testing.assert_allclose(sound, gain * wanted, atol=1e-4)
    gains = [s @ w / (w @ w) for s, w in zip(sounds, (first.source, first.target), strict=True)]
    assert gains[0] == pytest.approx(gains[1], rel=1e-3)
    clips = {trial.clip for trial in site.test.trials}
    assert not {path.name for path in site.page.iterdir()} - {
        "index.html",
        "page.css",
        "page.js",
        "scenes",
        "listening-test",
    }
    for key in clips:
        names = {sound for trial in site.test.trials if trial.clip == key for sound in trial.sounds}
        waves = [
            soundfile.read(site.page / "listening-test" / "sounds" / f"{name}.flac")[0] for name in names
        ]
        levels = [float(np.sqrt(np.mean(wave**2))) for wave in waves]
        assert max(levels) == pytest.approx(min(levels), rel=1e-3)
        assert max(np.abs(wave).max() for wave in waves) == pytest.approx(0.9, abs=1e-3)


def test_figures_reasons_and_names_are_on_the_page(site: SimpleNamespace) -> None:
    text = (site.page / "index.html").read_text()
    assert "<b>damper</b>" not in text and "&lt;b&gt;damper&lt;/b&gt;" in text
    assert "Not available: the clip has no photo." in text
    record = next(r for r in site.results.records if r.system == "constant room (0.40 s, 2.0 dB)")
    assert f"<dd>{record.scores.values['stft_distance']:.3g}</dd>" in text
    assert text.count('class="scene"') == 3 and text.count('alt="The room"') == 2
    captions = {
        tuple(map(float, found)) for found in re.findall(r"T20 (\d\.\d\d) s, DRR (-?\d+\.\d) dB", text)
    }
    rooms = {t20 > 0.35: (t20, drr) for t20, drr in captions}  # the true one, and the constant one
    assert rooms[False] == pytest.approx((0.3, 0.0), abs=0.02) and rooms[True] == pytest.approx(
        (0.4, 2.0), abs=0.02
    )
    assert site.results.definitions()["t20_error"]["definition"].split("\n")[0] in text


def test_the_listening_test_does_not_tell_who_is_who(site: SimpleNamespace) -> None:
    text = (site.page / "listening-test" / "index.html").read_text()
    for word in ("damper", "constant", "untouched", "truth", 'photo"]'):
        assert word not in text
    key = json.loads((site.out / KEY_FILE).read_text())
    assert {tuple(row) for trial in key["trials"] for row in trial["rows"]} >= {OURS, ("true response", "")}
    assert all(list(OURS) in trial["rows"] for trial in key["trials"])
    assert {trial["clip"] for trial in key["trials"]} == {"clip-0", "clip-1"}  # the third has no photo
    assert ListeningTest.read(site.out) == site.test
    used = {sound for trial in key["trials"] for sound in trial["sounds"]}
    assert {path.stem for path in (site.page / "listening-test" / "sounds").iterdir()} == used


def test_a_page_is_replaced_whole_and_nothing_else_is(site: SimpleNamespace, tmp_path: Path) -> None:
    page = tmp_path / "page"
    shutil.copytree(site.page, page)
    old = page / "scenes" / "old"
    old.touch()

    def fail(panels: Any, sample_rate: int) -> None:
        raise DataError("no pencil")

    with pytest.raises(DataError, match="no pencil"):
        write_page(site.results, page, fail, num_scenes=1)
    assert old.exists() and [path.name for path in tmp_path.iterdir()] == ["page"]
    write_page(site.results, page, spectrogram_images, num_scenes=1)
    assert not old.exists()
    assert (page / "index.html").read_text().count('class="scene"') == 1
    (tmp_path / "link").symlink_to(page)
    old.touch()
    write_page(site.results, tmp_path / "link", spectrogram_images, num_scenes=1)
    assert (tmp_path / "link").is_symlink() and not old.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "page"]
    (page / "votes-ann.json").touch()
    with pytest.raises(OutputExistsError, match="votes-ann.json, which is no part of a page"):
        write_page(site.results, page, spectrogram_images, num_scenes=1)
    (page / "votes-ann.json").unlink()
    (page / "index.html").write_text("somebody's diary")
    with pytest.raises(OutputExistsError, match="something other than a page"):
        write_page(site.results, page, spectrogram_images, num_scenes=1)
    assert (page / "index.html").read_text() == "somebody's diary"


def test_bare_spectrograms_share_one_scale(tmp_path: Path) -> None:
    time = np.arange(RATE) / RATE
    loud = np.sin(2 * np.pi * 2000 * time)
    paths = [tmp_path / name for name in ("loud.png", "quiet.png")]
    spectrogram_images({paths[0]: loud, paths[1]: 0.01 * loud}, RATE)
    shades = [np.asarray(Image.open(path)).astype(float) for path in paths]
    assert shades[0].shape == (257, 125)
    row = 256 - 2000 * 512 // RATE
    assert shades[0][:, 60].argmax() == row and shades[0][row, 60] == 63
    assert shades[1][row, 60] == pytest.approx(63 * (1 - 40 / 80), abs=1)
    assert {path.name for path in tmp_path.iterdir()} == {"loud.png", "quiet.png"}


def test_every_photo_is_that_of_its_clip(site: SimpleNamespace) -> None:
    """The rooms of the clips are grey: 0, 20, and the third has no photo."""

    def shade(name: str) -> float:
        with Image.open(site.page / name) as picture:
            return float(np.asarray(picture).mean())

    for folder, right, wrong in (("000000", 0, 20), ("000001", 20, 0)):
        assert shade(f"scenes/{folder}/photo.jpg") == pytest.approx(right, abs=2)
        assert shade(f"scenes/{folder}/wrong.jpg") == pytest.approx(wrong, abs=2)
        assert shade(f"listening-test/photos/{folder}.jpg") == pytest.approx(right, abs=2)


def test_a_decay_curve_lies_over_the_one_that_is_wanted() -> None:
    truth = Sound(("ground truth", ""), "", ((0.0, 0.0), (1.0, -60.0)), "T20 1.00 s")
    ours = Sound(OURS, "", ((0.0, 0.0), (0.5, -60.0)), "T20 0.50 s")
    block = SceneBlock("0", "clip", "room", 1.0, 8.0, True, True, (truth, ours), truth.row)

    def curves(sound: Sound) -> dict[str, list[tuple[float, ...]]]:
        found = re.findall(r'<polyline class="(\w+)" points="([^"]*)"', _decay_html(block, sound, "name"))
        return {
            kind: [tuple(map(float, place.split(","))) for place in places.split()] for kind, places in found
        }

    wanted = [(24, 0), (260, 82)]  # 60 dB down, at the right edge
    assert curves(ours) == {"wanted": wanted, "heard": [(24, 0), (142, 82)]}
    assert curves(truth) == {"heard": wanted}


# --------------------------------------------------------------------------------------------- votes


def trials_of(num_clips: int = 10, seed: int = 0) -> ListeningTest:
    rows = [("ours", "right photo"), ("input", ""), ("rival", "")]
    return make_test("reverberation", seed, {f"c{i}": rows for i in range(num_clips)}, rows[0])


def write_votes(path: Path, test: ListeningTest, choose: dict[str, Any], listener: str = "ann") -> Path:
    """Votes of a listener: `choose` maps the other row's system to how many trials ours wins."""
    answers, wins = [], dict(choose)
    for trial in test.trials:
        other = next(row for row in trial.rows if row != test.ours)
        ours = wins.get(other[0], 0) > 0
        wins[other[0]] = wins.get(other[0], 0) - 1
        chosen = trial.sounds[trial.rows.index(test.ours if ours else other)]
        answers.append({"trial": trial.id, "chosen": chosen})
    path.write_text(
        json.dumps({"format": "mvsd-votes-1", "test": test.id, "listener": listener, "answers": answers})
    )
    return path


def test_a_test_compares_ours_with_all_others_in_a_drawn_order() -> None:
    test = trials_of()
    assert len(test.trials) == 20 and test == trials_of()
    assert [t.clip for t in test.trials] != [t.clip for t in trials_of(seed=1).trials]
    assert 3 < sum(trial.rows[0] == test.ours for trial in test.trials) < 17
    assert len({sound for trial in test.trials for sound in trial.sounds}) == 40  # none comes back


def test_votes_become_shares_with_wilson_intervals_and_exact_tests(tmp_path: Path) -> None:
    test = trials_of()
    files = [
        write_votes(tmp_path / f"{n}.json", test, {"input": 9, "rival": 6}, listener=n)
        for n in ("ann", "bob")
    ]
    to_input, to_rival = count_votes(test, files)
    assert (to_input.second, to_input.num_votes, to_input.num_first) == (("input", ""), 20, 18)
    assert (to_input.share, to_input.num_listeners, to_rival.share) == (0.9, 2, 0.6)
    z, n, p = stats.norm.ppf(0.975), 20, 0.9
    centre, spread = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    wilson = ((centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n))
    assert to_input.interval == pytest.approx(wilson)
    tail = sum(stats.binom.pmf(k, 20, 0.5) for k in (0, 1, 2, 18, 19, 20))
    assert to_input.p_value == pytest.approx(tail)
    assert to_input.p_adjusted == pytest.approx(2 * tail)
    assert to_rival.p_adjusted == pytest.approx(to_rival.p_value) == pytest.approx(0.5034, abs=1e-3)
    text = preferences_grid([to_input]).text()
    assert "90.0 [69.9, 97.2]" in text and "ours, right photo" in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is no JSON"),
        ("[1]", "no file of the format"),
        ('{"format": "mvsd-votes-1", "test": "0"}', "another listening test"),
        ('{"format": "mvsd-votes-1", "test": ID, "listener": "x", "answers": 3}', "no list of answers"),
        (
            '{"format": "mvsd-votes-1", "test": ID, "listener": "x", "answers": [{"trial": "t000"}]}',
            "none of the test's",
        ),
        (
            '{"format": "mvsd-votes-1", "test": ID, "listener": "x", "answers": [["t000"]]}',
            "none of the test's",
        ),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_a_bad_votes_file_is_refused(tmp_path: Path, content: str, says: str) -> None:
    test = trials_of()
    (tmp_path / "v.json").write_text(content.replace("ID", json.dumps(test.id)))
    with pytest.raises(DataError, match=says):
        count_votes(test, [tmp_path / "v.json"])


def test_equal_sounds_are_not_asked_about_and_other_sounds_are_another_test() -> None:
    ours, same, other = ("untouched input", ""), ("copy", ""), ("rival", "")
    settings = Settings("dereverberation", "data", (Untouched(),))

    def asked(**digests: str) -> ListeningTest:
        rows = zip((ours, same, other), ("a", "a", digests.get("other", "b")), strict=True)
        return _listening_test(settings, {("clip", row): (Path(), digest) for row, digest in rows})

    (trial,) = asked().trials
    assert set(trial.rows) == {ours, other}
    assert asked().id == asked().id != asked(other="c").id


def test_listeners_are_asked_about_what_is_no_reference(tmp_path: Path) -> None:
    folder, model = Processed("theirs", str(tmp_path)), Model("model", "dereverberator")
    assert our_row((Untouched(), GroundTruth(), folder, WPE())) == ("theirs", "")
    assert our_row((Untouched(), folder, model, WPE())) == ("model", "right photo")
    assert our_row((Untouched(), GroundTruth())) == ("untouched input", "")
    unseen = [("model", "no photo"), ("untouched input", ""), ("WPE", "")]
    settings = Settings("dereverberation", "data", (Untouched(), GroundTruth(), model, WPE()))
    test = _listening_test(settings, {("clip", row): (Path(), str(row)) for row in unseen})
    assert test.ours == unseen[0] and len(test.trials) == 2


def test_votes_find_the_key_of_their_own_page(tmp_path: Path) -> None:
    first, second = trials_of(), trials_of(seed=1)
    votes = [write_votes(tmp_path / f"{test.id}.json", test, {}) for test in (first, second)]
    for test in (first, second, second):
        test.write(tmp_path)
    assert ListeningTest.read(tmp_path) == second
    assert [ListeningTest.read(tmp_path, path) for path in votes] == [first, second]
    (tmp_path / "bad.json").write_text('{"format": "mvsd-votes-1", "test": "../key"}')
    with pytest.raises(DataError, match="names no listening test"):
        ListeningTest.read(tmp_path, tmp_path / "bad.json")


def test_a_vote_counts_once_and_the_key_must_be_whole(tmp_path: Path) -> None:
    test = trials_of()
    votes = write_votes(tmp_path / "v.json", test, {})
    with pytest.raises(DataError, match="answered t000 already"):
        count_votes(test, [votes, votes])
    (tmp_path / KEY_FILE).write_text('{"format": "mvsd-listening-test-1", "trials": [{}]}')
    with pytest.raises(DataError, match="is damaged"):
        ListeningTest.read(tmp_path)


# ------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    flags = [*FLAGS.split(), "--mute-audio", "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as runner:
        opened = runner.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=PATIENCE)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens a page of a given width; nothing may go wrong in it, and nothing may be fetched but files."""
    contexts, complaints = [], []

    def open_page(path: Path, width: int = 1280) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 844}, accept_downloads=True))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None,
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


# What the players did, whatever time it took: [event, file, position, how many are playing then].
RECORD = """() => { window.played = []; for (const name of ["play", "pause"]) document.addEventListener(name, event =>
    window.played.push([name, event.target.getAttribute("src"), event.target.currentTime,
        [...document.querySelectorAll("audio")].filter(audio => !audio.paused).length]), true); }"""


def played(page: Any, event: str, file: str) -> float:
    """Wait for an event, and return the position at which it came."""
    page.wait_for_function(f"window.played.some(p => p[0] === '{event}' && p[1] === '{file}')")
    found = page.evaluate(f"window.played.find(p => p[0] === '{event}' && p[1] === '{file}')[2]")
    return float(found)


def test_keys_play_one_sound_at_a_time(site: SimpleNamespace, visit: Any) -> None:
    page = visit(site.page / "index.html")
    page.evaluate(RECORD)
    page.keyboard.press("1")
    page.wait_for_function("document.querySelector('audio').currentTime > 0.2")
    page.keyboard.press("2")
    played(page, "play", "scenes/000000/2.flac")
    stopped = played(page, "pause", "scenes/000000/1.flac")
    page.wait_for_function(f"document.querySelectorAll('audio')[1].currentTime >= {stopped}")
    page.keyboard.press("Escape")
    played(page, "pause", "scenes/000000/2.flac")
    page.keyboard.press("j")
    page.wait_for_function("document.activeElement.id === 'clip-1'")
    page.keyboard.press("7")
    assert played(page, "play", "scenes/000001/7.flac") == 0
    page.keyboard.press("k")
    page.wait_for_function("document.activeElement.id === 'clip-0'")
    assert [p[1] for p in page.evaluate("window.played") if p[0] == "play"] == [
        f"scenes/{name}.flac" for name in ("000000/1", "000000/2", "000001/7")
    ]
    assert max(p[3] for p in page.evaluate("window.played") if p[0] == "pause") <= 1


def test_a_click_on_a_spectrogram_plays_from_there(site: SimpleNamespace, visit: Any) -> None:
    page = visit(site.page / "index.html")
    page.evaluate(RECORD)
    picture = page.locator(".spectrogram").nth(1)
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelectorAll('audio')[1].duration > 0")
    box = picture.bounding_box()
    picture.click(position={"x": 0.75 * box["width"], "y": 20})
    assert played(page, "play", "scenes/000000/2.flac") == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("folder", ["", "listening-test"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(site: SimpleNamespace, visit: Any, width: int, folder: str) -> None:
    page = visit(site.page / folder / "index.html", width)
    if folder:
        start(page, "ann")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(
        "[...document.images].every(i => i.loading === 'lazy' || i.naturalWidth > 0 || i.hidden)"
    )


def start(page: Any, listener: str) -> None:
    page.fill("#listener", listener)
    page.keyboard.press("Enter")


def answer(page: Any, choose: str) -> None:
    """Listen to both and choose, by keys only."""
    number = page.inner_text("#count")
    assert page.is_disabled("#choose-a") and page.is_disabled("#choose-b")
    page.keyboard.press(choose)  # too early: nothing happens
    assert page.inner_text("#count") == number
    for key in "12":
        page.keyboard.press(key)
        page.wait_for_function(f"document.getElementById('sound-{'ab'[int(key) - 1]}').dataset.heard")
    page.wait_for_function("!document.getElementById('choose-a').disabled")
    page.keyboard.press(choose)


def shown(page: Any) -> list[str]:
    names = page.evaluate("['a', 'b'].map(s => document.getElementById(`sound-${s}`).getAttribute('src'))")
    return [Path(name).stem for name in names]


def saved(page: Any, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click("#save")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_listener_answers_everything_and_the_votes_are_counted(
    site: SimpleNamespace, visit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = visit(site.page / "listening-test" / "index.html", 390)
    start(page, "Ann Bö")
    ours = {s for t in site.test.trials for s, row in zip(t.sounds, t.rows, strict=True) if row == OURS}
    rivals = {t.sounds[t.rows[0] == OURS]: t.rows[t.rows[0] == OURS] for t in site.test.trials}
    wins: dict[Any, int] = {}
    for _ in site.test.trials:
        sounds = shown(page)
        (rival,) = (rivals[sound] for sound in sounds if sound not in ours)
        wanted = rival != ("true response", "")  # this listener knows the truth, and prefers ours to all else
        wins[rival] = wins.get(rival, 0) + wanted
        answer(page, "ab"[(sounds[0] in ours) != wanted])
    assert "All" in page.inner_text("#count") and page.is_visible("#end")
    votes = saved(page, tmp_path)
    assert votes.name == "votes-Ann-Bö.json"
    found = {p.second: (p.num_first, p.num_votes) for p in count_votes(site.test, [votes])}
    asked = Counter(rivals.values())  # once, where with a black photo our system makes what it makes without
    assert found == {rival: (num, asked[rival]) for rival, num in wins.items()} and len(found) == 6
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", "--out", str(site.out), "--votes", str(votes), "--format", "csv"])
    assert exit_.value.code == 0
    assert '"<b>damper</b>, right photo",true response,"0.0 [0.0, 65.8]",2,1,0.5,1' in capsys.readouterr().out


def test_order_and_sides_come_from_seed_and_name_and_answers_survive_a_reload(
    site: SimpleNamespace, visit: Any, tmp_path: Path
) -> None:
    def first_pairs(page: Any) -> list[list[str]]:
        pairs = []
        for _ in range(2):
            pairs.append(shown(page))
            answer(page, "a")
        return pairs

    page = visit(site.page / "listening-test" / "index.html")
    start(page, "ann")
    anns = first_pairs(page)
    page.reload()
    start(page, "ann")
    assert page.inner_text("#count") == f"Question 3 of {len(site.test.trials)}"
    page.keyboard.press("Backspace")
    assert shown(page) == anns[1]
    answer(page, "b")
    record = json.loads(saved(page, tmp_path).read_text())
    assert [a["chosen"] for a in record["answers"]] == [pair[0] for pair in anns[:1]] + [anns[1][1]]
    while not page.is_visible("#end"):
        page.evaluate("find('skip').click()")  # as where a sound cannot be played
    assert page.inner_text("#count") == f"2 of {len(site.test.trials)} answered."
    again = visit(site.page / "listening-test" / "index.html")
    start(again, "ann")
    assert first_pairs(again) == anns
    other = visit(site.page / "listening-test" / "index.html")
    start(other, "bob")
    assert first_pairs(other) != anns
