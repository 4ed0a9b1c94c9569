"""The guards warn of changed words and voices, and of nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from videos import Kind, make_video, pictures

from mvsd.audio import load_audio, resample
from mvsd.blockwise import Blocks, Blockwise, Request
from mvsd.check import LEAST_FIT, Check, Checked, compare_words, heard, levelled, words_fit
from mvsd.errors import MissingExtraError, MvsdError
from mvsd.video import convert_recording

RATE = 16_000
VOICE = Path(__file__).resolve().parents[1] / "mvsd" / "samples" / "voice.flac"


class Silencer(Blockwise):
    """Halves a recording, and from a time on is silent or something else."""

    def __init__(self, seconds: float = 1e9, gain: float = 0.0) -> None:
        self.seconds, self.gain = seconds, gain

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        done = 0
        for block in blocks:
            time = (done + np.arange(block.shape[1])) / request.sample_rate
            done += block.shape[1]
            yield block * np.where(time < self.seconds, 0.5, self.gain).astype(np.float32)


def noise(*shape: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@pytest.fixture
def ears(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """A recogniser that hears noise as words, and finds them again in what correlates with it."""
    pieces: list[np.ndarray] = []

    def hear(piece: np.ndarray) -> str:
        pieces.append(piece)
        return "words"

    def fit(words: str, piece: np.ndarray) -> float:
        assert words == "words"
        return -4 + 3 * float(np.corrcoef(piece, pieces[-1])[0, 1])

    monkeypatch.setattr("mvsd.check._decoder", lambda: None)
    monkeypatch.setattr("mvsd.check.heard", hear)
    monkeypatch.setattr("mvsd.check.words_fit", fit)
    monkeypatch.setattr("mvsd.check.voice_similarity", lambda source, estimate: 0.9)
    return pieces


def test_the_conversion_is_not_touched(ears: list[np.ndarray]) -> None:
    source = noise(2, 30 * 8000)
    checked, plain = Checked(Silencer()), Silencer()
    assert np.array_equal(checked.convert(source, 8000), plain.convert(source, 8000))
    assert checked.check.warnings() == []
    assert {len(piece) for piece in ears} == {10 * RATE}
    assert list(checked.check.words) == [0, 10, 20]


def test_what_changed_is_told_with_its_place(ears: list[np.ndarray]) -> None:
    def scramble(blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        for index, block in enumerate(blocks):
            yield block[:, ::-1] if index in (1, 3) else block

    converter = Silencer()
    converter.convert_blocks = scramble  # type: ignore[method-assign]
    checked = Checked(converter)
    blocks = np.split(noise(1, 45 * RATE), [10 * RATE, 20 * RATE, 30 * RATE, 40 * RATE], axis=1)
    assert len(list(checked.convert_blocks(blocks, Request(RATE, 1)))) == 5
    (line,) = checked.check.warnings()
    assert line.startswith("the words may have changed in 2 of 5 pieces of 10 s, most at ")
    assert checked.check.words[0] == pytest.approx(-1)
    assert checked.check.words[10] == pytest.approx(-4, abs=0.1)


def test_channels_of_opposite_sign_are_heard(ears: list[np.ndarray]) -> None:
    voice = noise(12 * RATE)
    checked = Checked(Silencer())
    checked.convert(np.stack([0.5 * voice, -voice]), RATE)
    assert list(checked.check.words) == [0, 10] and checked.check.warnings() == []


def test_several_recordings_add_up(ears: list[np.ndarray]) -> None:
    """The shots of a video are converted one after the other."""
    checked = Checked(Silencer())
    for _ in range(2):
        checked.convert(noise(15 * RATE), RATE)
    assert list(checked.check.words) == [0, 10, 15, 25]


def test_level_is_no_change_and_silence_is_no_piece(ears: list[np.ndarray]) -> None:
    check = Check()
    source = noise(2 * RATE)
    check.add(source, 1e-2 * source, 0)
    assert check.words == {0: pytest.approx(-1)}
    for silent in (np.zeros_like(source), 1e-6 * source):
        check.add(silent, source, 20)
    assert list(check.words) == [0]
    assert np.sqrt(np.mean(levelled(source) ** 2)) == pytest.approx(0.05)


def test_words_that_were_silenced_are_told(ears: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Checked(Silencer(seconds=10.0))
    checked.convert(noise(20 * RATE), RATE)
    assert checked.check.words == {0: pytest.approx(-1), 10: float("-inf")}
    assert checked.check.warnings()[0].startswith(
        "the words may have changed in 1 of 2 pieces of 10 s, most at 10 s"
    )
    monkeypatch.setattr("mvsd.check.heard", lambda piece: "")  # noise that was taken away
    check = Check()
    check.add(noise(2 * RATE), np.zeros(2 * RATE, np.float32), 0)
    assert check.words == {}


def test_a_video_of_many_shots_is_one_recording(ears: list[np.ndarray], tmp_path: Path) -> None:
    shots = [frame for seed in range(3) for frame in pictures(250, seed=seed)]
    kind = Kind(".mkv", "libx264", "flac")
    source = make_video(tmp_path / "in.mkv", kind, shots, None, [(0, noise(1, 30 * RATE))], RATE)
    found = Check()
    report = convert_recording(Silencer(), source, tmp_path / "out.mkv", around=partial(Checked, check=found))
    assert len(report.changes) == 2
    assert list(found.words) == [0, 10, 20]
    convert_recording(
        Silencer(), tmp_path / "out.mkv", tmp_path / "o.wav", around=partial(Checked, check=found)
    )
    assert list(found.words) == [0, 10, 20]


def test_another_voice(ears: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvsd.check.voice_similarity", lambda source, estimate: 0.5)
    checked = Checked(Silencer())
    checked.convert(noise(12 * RATE), RATE)
    assert checked.check.warnings() == [
        "the voice may have changed in 2 of 2 pieces of 10 s, most at 0 s (0.50, at least 0.65 is usual)"
    ]


def test_what_could_not_be_asked_is_told(ears: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> float:
        raise MvsdError("the speaker network is not installed")

    monkeypatch.setattr("mvsd.check.voice_similarity", no_network)
    monkeypatch.setattr("mvsd.check.heard", lambda piece: "")
    checked = Checked(Silencer())
    checked.convert(noise(25 * RATE), RATE)
    assert checked.check.warnings() == [
        "the words were not compared: the recogniser hears none in the recording",
        "the voice was not compared: the speaker network is not installed",
    ]


def test_words_are_tried_both_ways_but_only_if_need_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece is a single number here, and so are its words."""
    asked: list[float] = []

    def hear(piece: np.ndarray) -> str:
        asked.append(float(piece[0]))
        return "" if piece[0] == 0 else str(float(piece[0]))

    fits = {
        ("1.0", 2.0): -1.0,
        ("3.0", 4.0): -9.0,
        ("4.0", 3.0): -2.0,
        ("5.0", 0.0): -4.0,
        ("6.0", 7.0): -6.0,
    }
    monkeypatch.setattr("mvsd.check.heard", hear)
    monkeypatch.setattr(
        "mvsd.check.words_fit", lambda words, piece: fits.get((words, float(piece[0])), -np.inf)
    )

    def compare(source: float, estimate: float) -> float | None:
        return compare_words(np.array([source]), np.array([estimate]))

    assert compare(1, 2) == -1
    assert asked == [1]
    assert compare(3, 4) == -2
    assert compare(6, 7) == -6
    assert compare(0, 5) == -4
    assert compare(0, 0) is None


def test_without_the_extra_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    from mvsd import check

    check._decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingExtraError, match=r"\.\[asr\]"):
        Checked(Silencer())


def test_a_fit_does_not_depend_on_the_piece_before() -> None:
    pytest.importorskip("pocketsphinx")
    voice, rate = load_audio(VOICE)
    clip = resample(voice[0], rate, RATE)[: 2 * RATE]
    peak = np.abs(clip).max()
    noisy = clip + 0.05 * peak * np.random.default_rng(0).standard_normal(len(clip))
    words = "hello and welcome"
    first = words_fit(words, noisy)
    words_fit(words, 0.3 * peak * np.random.default_rng(1).standard_normal(RATE))
    assert words_fit(words, noisy) == first > -np.inf


def test_real_words_fit_their_sound_and_no_other() -> None:
    """The bundled voice in a room still says its words; with its parts exchanged it does not."""
    pytest.importorskip("pocketsphinx")
    voice, rate = load_audio(VOICE)
    dry = np.asarray(levelled(resample(voice[0], rate, RATE)[: 5 * RATE]), np.float32)
    words = heard(dry)
    assert len(words.split()) > 5
    rng = np.random.default_rng(0)
    decay = rng.standard_normal(4000) * np.exp(-np.arange(4000) / 700)
    decay[0] = 8
    wet = np.convolve(dry, decay)[: len(dry)]
    pieces = dry.reshape(20, -1)
    exchanged = pieces.copy()
    exchanged[4:16:2] = pieces[[14, 12, 10, 8, 6, 4]]
    fits = [words_fit(words, levelled(clip)) for clip in (dry, wet, exchanged.ravel(), dry[::-1])]
    assert fits[0] > fits[1] > LEAST_FIT > max(fits[2:]), fits
