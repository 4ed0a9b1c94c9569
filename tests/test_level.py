"""Levels against the standards' own test signals, and kept by a conversion of a file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mvsd.audio import load_audio, save_audio
from mvsd.blockwise import Blocks, Request
from mvsd.errors import MvsdError, NotMeasurable
from mvsd.files import ConversionReport, convert_file
from mvsd.level import LEVELS, Level, LoudnessMeter, PeakMeter, k_weighting, level_meter

RATE = 48_000


def tone(level_dbfs: float, seconds: float, hertz: float = 1000, sample_rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (10 ** (level_dbfs / 20) * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def loudness(waveform: np.ndarray, sample_rate: int = RATE) -> float:
    meter = LoudnessMeter(sample_rate, len(waveform))
    for block in np.array_split(waveform, max(1, waveform.shape[1] // sample_rate), axis=1):
        meter.add(block)
    return meter.level_db()


# ------------------------------------------------------------------------------------------- loudness


def test_k_weighting_at_48_khz_is_the_table_of_the_recommendation() -> None:
    """ITU-R BS.1770-4, tables 1 and 2."""
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
    high_pass = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    np.testing.assert_allclose(k_weighting(RATE), [shelf, high_pass], atol=1e-7)


@pytest.mark.parametrize(
    "parts",
    [
        [(-23, 20)],
        [(-36, 10), (-23, 60), (-36, 10)],
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],
        [(-26, 20), (-20, 20.1), (-26, 20)],
    ],
)
def test_stereo_signals_of_the_ebu(parts: list[tuple[float, float]]) -> None:
    """EBU Tech 3341 (2016), table 1, cases 1, 3, 4 and 5: -23.0 LUFS within 0.1; at 16 kHz to be quick."""
    signal = np.concatenate([tone(*part, sample_rate=16_000) for part in parts])
    assert loudness(np.stack([signal, signal]), 16_000) == pytest.approx(-23, abs=0.1)


def test_surround_signal_of_the_ebu() -> None:
    """EBU Tech 3341 (2016), table 1, case 6: left, right, centre, surrounds; with an LFE that does not count."""
    left, centre, surround = tone(-28, 20), tone(-24, 20), tone(-30, 20)
    five = np.stack([left, left, centre, surround, surround])
    assert loudness(five) == pytest.approx(-23, abs=0.1)
    six = np.insert(five, 3, tone(-3, 20, 40), axis=0)
    assert loudness(six) == pytest.approx(loudness(five), abs=1e-9)


@pytest.mark.parametrize("sample_rate", [8000, 11_025, 44_100, 96_000])
def test_loudness_is_the_same_at_any_rate(sample_rate: int) -> None:
    """BS.1770-4: a sine of 997 Hz at 0 dBFS in one channel reads -3.01 LUFS."""
    assert loudness(tone(0, 3, 997, sample_rate)[None], sample_rate) == pytest.approx(-3.01, abs=0.05)


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 30_000), max_size=6), gain_db=st.floats(-30, 30))
def test_any_split_reads_the_same_and_a_gain_reads_as_one(cuts: list[int], gain_db: float) -> None:
    signal = (0.1 * np.random.default_rng(0).standard_normal((2, 30_000))).astype(np.float32)
    for meter, other in ((LoudnessMeter(16_000, 2), LoudnessMeter(16_000, 2)), (PeakMeter(), PeakMeter())):
        for start, stop in pairwise([0, *sorted(cuts), 30_000]):
            meter.add(signal[:, start:stop])
        other.add(np.float32(10 ** (gain_db / 20)) * signal)
        assert other.level_db() - meter.level_db() == pytest.approx(gain_db, abs=1e-4)


def test_what_has_no_level() -> None:
    with pytest.raises(NotMeasurable, match=r"0\.4 s"):
        loudness(tone(-20, 0.39)[None])
    for quiet in (np.zeros((1, RATE), np.float32), tone(-75, 1)[None]):
        with pytest.raises(NotMeasurable, match="gate"):
            loudness(quiet)
    with pytest.raises(NotMeasurable, match="silence"):
        PeakMeter().level_db()


# ------------------------------------------------------------------------------- kept by a conversion


class Duller:
    """Another level and another spectrum, as a room has: the mean of neighbours, times a gain."""

    def __init__(self, gain: float) -> None:
        self.gain = np.float32(gain)

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        for block in blocks:
            yield self.gain * (block + np.roll(block, 1, axis=1)) / 2


def convert(
    folder: Path, waveform: np.ndarray, gain: float, level: Level, subtype: str = "FLOAT"
) -> tuple[ConversionReport, np.ndarray]:
    save_audio(folder / "in.wav", waveform, RATE, subtype=subtype, force=True)
    report = convert_file(Duller(gain), folder / "in.wav", folder / "out.wav", level=level, force=True)
    return report, load_audio(folder / "out.wav")[0]


def speech_like() -> np.ndarray:
    bursts = np.sin(np.arange(4 * RATE) / 4000) ** 8 * np.random.default_rng(1).standard_normal((2, 4 * RATE))
    return (0.02 * bursts).astype(np.float32)


@pytest.mark.parametrize("gain", [0.05, 1.0, 5.0])
def test_each_level_is_kept(tmp_path: Path, gain: float) -> None:
    source = speech_like()
    plain, estimate = convert(tmp_path, source, gain, "keep")
    assert plain.gain_db == 0
    for level, measure in (
        ("peak", lambda waveform: 20 * np.log10(np.abs(waveform).max())),
        ("lufs", loudness),
    ):
        report, kept = convert(tmp_path, source, gain, level)
        assert measure(kept) == pytest.approx(measure(source), abs=0.01)
        np.testing.assert_allclose(kept, 10 ** (report.gain_db / 20) * estimate, rtol=1e-5)
        assert report.num_samples == source.shape[1]


@pytest.mark.parametrize("level", LEVELS)
def test_a_fixed_point_file_never_clips_and_the_report_says_what_was_done(
    tmp_path: Path, level: Level
) -> None:
    """The loudness asked for would need a peak of more than full scale."""
    source = 0.9 * speech_like() / np.abs(speech_like()).max()
    source[:, 1::2] *= -1  # mostly high, so that the converted sound is far quieter but for one sample
    source[:, RATE : RATE + 2] = 0.9
    report, kept = convert(tmp_path, source, 2.0, level, "PCM_24")
    _, estimate = convert(tmp_path, source, 2.0, "keep", "FLOAT")
    assert np.abs(kept).max() <= 1
    free, _ = convert(tmp_path, source, 2.0, level, "FLOAT")  # which never clips
    assert free.short_db == 0 and report.short_db == pytest.approx(free.gain_db - report.gain_db, abs=1e-3)
    np.testing.assert_allclose(kept, 10 ** (report.gain_db / 20) * estimate, atol=2**-20)
    if level == "peak":
        assert np.abs(kept).max() == pytest.approx(np.abs(source).max(), abs=1e-5)
    else:
        assert np.abs(kept).max() == pytest.approx(1, abs=1e-5)


def test_a_level_that_is_not_there_or_not_known(tmp_path: Path) -> None:
    silence = np.zeros((1, RATE), np.float32)
    for level in ("peak", "lufs"):
        with pytest.raises(
            NotMeasurable, match=rf"in\.wav: its level cannot be kept by '{level}'.*use 'keep'"
        ):
            convert(tmp_path, silence, 1.0, level)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav"]
    _, estimate = convert(tmp_path, silence, 1.0, "keep")
    assert not estimate.any()
    with pytest.raises(MvsdError, match="keep, peak, lufs"):
        convert(tmp_path, speech_like(), 1.0, "loud")  # type: ignore[arg-type]


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """Five minutes are 38 MB of float32; a block of ten seconds is 1.3 MB, filtered in float64."""
    with soundfile.SoundFile(tmp_path / "in.wav", "w", 16_000, 2, "PCM_16") as file:
        for _ in range(30):
            file.write(0.1 * np.random.default_rng(0).standard_normal((160_000, 2)))
    tracemalloc.start()
    report = convert_file(Duller(0.5), tmp_path / "in.wav", tmp_path / "out.wav", level="lufs")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.seconds == 300
    assert peak < 16e6


def test_there_is_no_loudness_at_a_rate_of_the_telegraph() -> None:
    """Above half the rate the filter would not be stable."""
    with pytest.raises(MvsdError, match="2000 Hz has no loudness"):
        level_meter("lufs", 2000, 1)
    level_meter("lufs", 4000, 1)
