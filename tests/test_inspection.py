"""The room report: of responses with known values, of fake models, and the command that writes it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Models
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

import mvsd
from mvsd.acoustics import OCTAVE_BANDS_HZ, convolve, drr_db
from mvsd.audio import load_audio
from mvsd.blind import BlindEstimate, BlindEstimator
from mvsd.converter import Converter
from mvsd.converter_config import ConverterConfig
from mvsd.errors import MvsdError, NotMeasurable, OutputExistsError
from mvsd.example import SAMPLES
from mvsd.fullband import extend_response
from mvsd.inspection import (
    _with_all_of_the_room,
    inspect_photo,
    inspect_recording,
    inspect_response,
    looks_like_response,
    loudest_channel,
)
from mvsd.networks.scene_encoder import SceneEncoderConfig
from mvsd.networks.unet import UNetConfig
from mvsd.regions import Regions, boxes, decisive_regions, expected_room, grid_of, hide
from mvsd.report import DEFINITIONS, Quantity, Report, save_report
from mvsd.report_figure import _whiskers, report_figure
from mvsd.responses import describe_response
from mvsd.scene import Scene
from mvsd.spectrogram import SpectrogramConfig

RATE = 16_000
GREY = Scene(np.full((48, 64, 3), 128, np.uint8))


def room(
    rt60: float, drr: float = 0.0, *, rate: int = RATE, seconds: float = 1.5, seed: int = 0
) -> np.ndarray:
    """Noise of random signs (its power is exact) that falls by 60 dB in `rt60`, from 2.5 ms after a direct sound."""
    time = np.arange(round(seconds * rate)) / rate
    late = np.random.default_rng(seed).choice([-1.0, 1.0], len(time)) * 10 ** (-3 * time / rt60)
    late[: round(0.0025 * rate) + 1] = 0
    late *= 10 ** (-drr / 20) / np.sqrt(np.sum(late**2))
    late[0] = 1
    return late


def clarity(rt60: float, drr: float) -> float:
    """C50 of `room` in dB."""
    late = 10 ** (-drr / 10) * 10 ** (-6 * 0.0475 / rt60)
    return float(10 * np.log10((1 + 10 ** (-drr / 10) - late) / late))


# ---------------------------------------------------------------------------------------------- responses


@pytest.mark.parametrize("rt60", [0.4, 1.0])
def test_a_response_with_known_values(rt60: float) -> None:
    report = inspect_response(room(rt60, -3.0, seconds=2 * rt60), RATE)
    values = {name: quantity.value for name, quantity in report.broadband.items()}
    assert values["rt60"] == pytest.approx(rt60, rel=0.03)
    assert values["t30"] == pytest.approx(rt60, rel=0.03)
    assert values["drr_db"] == pytest.approx(-3.0, abs=0.01)
    assert values["c50_db"] == pytest.approx(clarity(rt60, -3.0), abs=0.03)
    assert values["d50"] == pytest.approx(1 / (1 + 10 ** (-clarity(rt60, -3.0) / 10)), abs=0.002)
    assert tuple(report.bands) == OCTAVE_BANDS_HZ
    for band, quantities in report.bands.items():
        if band >= 500:
            assert quantities["rt60"].value == pytest.approx(rt60, rel=0.15)
            assert quantities["c50_db"].value == pytest.approx(clarity(rt60, -3.0), abs=2.0)
            assert quantities["drr_db"].value == pytest.approx(-3.0, abs=2.0)
    assert report.decay is not None
    curve = np.interp([0.1 * rt60, 0.5 * rt60], report.decay.seconds, report.decay.median_db)
    assert curve[0] - curve[1] == pytest.approx(24.0, abs=1.5)


@pytest.mark.parametrize("rate", [22_050, 44_100, 96_000])
@pytest.mark.parametrize("delay", [0, 1001])
def test_the_rate_of_a_file_changes_nothing(rate: int, delay: int) -> None:
    """What a file has above 8 kHz, where air absorbs and a direct sound is loudest, is not measured."""
    rir = room(0.6, -6.0)
    report = inspect_response(np.pad(extend_response(rir, rate), (delay, 0)), rate)
    assert report.facts["direct_sound_at_seconds"] == round(delay / rate, 4)
    wanted = inspect_response(rir, RATE)
    for name, tolerance in (("rt60", 0.02), ("edt", 0.02), ("drr_db", 0.3), ("c50_db", 0.3), ("d50", 0.02)):
        assert report.broadband[name].value == pytest.approx(wanted.broadband[name].value, abs=tolerance), (
            name
        )
    said = describe_response(np.pad(extend_response(rir, rate), (delay, 0)), rate, ("DRR",))
    assert said == f"DRR {report.broadband['drr_db'].value:.1f} dB"
    assert "8 kHz" in report.to_dict()["definitions"]["broadband"]


def test_noise_and_delay_change_nothing() -> None:
    clean = room(0.5, -2.0, seconds=2.5)
    noise = np.random.default_rng(1).standard_normal(len(clean) + 3000)
    noisy = np.pad(clean, (3000, 0)) + noise * np.abs(clean[1:]).max() * 10 ** (-45 / 20)
    wanted, heard = inspect_response(clean, RATE), inspect_response(noisy, RATE)
    assert heard.facts["direct_sound_at_seconds"] == pytest.approx(3000 / RATE, abs=1e-4)
    assert heard.facts["noise_free_seconds"] < 0.75
    for name, tolerance in (("rt60", 0.02), ("edt", 0.02), ("drr_db", 0.1), ("c50_db", 0.1)):
        assert heard.broadband[name].value == pytest.approx(wanted.broadband[name].value, abs=tolerance), name


def test_what_is_not_measurable_has_a_reason() -> None:
    edt = inspect_response(room(0.3, seconds=1.0), RATE).bands[125]["edt"]
    assert edt.value is None
    assert edt.reason is not None
    assert "ringing" in edt.reason
    noisy = room(0.5, seconds=2.0) + 3e-3 * np.random.default_rng(0).standard_normal(2 * RATE)
    t30 = inspect_response(noisy, RATE).broadband["t30"]
    assert t30.value is None
    assert t30.reason is not None
    assert "noise floor" in t30.reason
    impulse = np.zeros(RATE)
    impulse[100] = 1
    broadband = inspect_response(impulse, RATE).broadband
    assert broadband.pop("d50").value == 1.0
    assert all(quantity.value is None and quantity.reason for quantity in broadband.values())
    with pytest.raises(NotMeasurable, match="silent"):
        inspect_response(np.zeros(RATE), RATE)


def test_ratios_of_single_echoes() -> None:
    """What comes before the direct sound is no direct sound, in bands no more than broadband."""
    rir = np.zeros(RATE)
    for seconds, amplitude in ((0.98, 0.25), (0.92, 0.5), (0.9, 1.0), (0.89, 0.09)):
        rir[round((seconds - 0.8) * RATE)] = amplitude
    report = inspect_response(rir, RATE)
    drr, c50 = (10 * np.log10(ratio) for ratio in (1 / (0.5**2 + 0.25**2 + 0.09**2), 1.2581 / 0.25**2))
    for quantities in (report.broadband, report.bands[1000], report.bands[4000]):
        assert quantities["drr_db"].value == pytest.approx(drr, abs=0.05)
        assert quantities["c50_db"].value == pytest.approx(c50, abs=0.05)


@pytest.mark.parametrize("rate", [11_025, 44_100])
def test_the_decay_curve_keeps_its_times_at_any_rate(rate: int) -> None:
    rir = 10 ** (-3 * np.arange(2 * rate) / rate / 0.5)
    decay = inspect_response(rir, rate).decay
    assert decay is not None
    assert decay.seconds[50] == 0.5
    np.testing.assert_allclose(decay.median_db[:51], -120 * np.array(decay.seconds[:51]), atol=0.05)


@pytest.mark.parametrize("num_samples", [1, 20, 256])
def test_a_response_of_some_milliseconds_has_a_curve(num_samples: int, tmp_path: Path) -> None:
    rir = np.zeros(num_samples)
    rir[0] = 1
    report = inspect_response(rir, 44_100)
    assert report.decay is not None
    lengths = {len(getattr(report.decay, name)) for name in ("seconds", "median_db", "low_db", "high_db")}
    assert lengths == {2} and report.decay.median_db[0] == 0
    report_figure(report, tmp_path / "figure.png", waveform=rir)


def test_bands_tell_a_dull_room() -> None:
    """Two octaves, each with its own decay and level: the band values find them again."""
    time = np.arange(2 * RATE) / RATE
    noise = np.random.default_rng(0).standard_normal((2, len(time)))
    frequency = np.fft.rfftfreq(len(time), 1 / RATE)
    low, high = (
        np.fft.irfft(np.fft.rfft(row) * inside)
        for row, inside in zip(noise, (frequency < 700, frequency >= 700), strict=True)
    )
    late = low * 10 ** (-3 * time / 1.0) + high * 10 ** (-3 * time / 0.4)
    late[:40] = 0
    rir = 0.05 * late
    rir[0] = 1
    bands = inspect_response(rir, RATE).bands
    assert bands[250]["rt60"].value == pytest.approx(1.0, rel=0.15)
    assert bands[2000]["rt60"].value == pytest.approx(0.4, rel=0.1)
    c50 = {band: quantities["c50_db"].value for band, quantities in bands.items()}
    assert c50[2000] > c50[250] + 3


@settings(max_examples=40)
@given(st.floats(0.15, 3.0), st.floats(-10, 10), st.integers(0, 99))
def test_responses_look_like_responses(rt60: float, drr: float, seed: int) -> None:
    rir = np.pad(room(rt60, drr, seed=seed), (seed * 20, 0))
    assert looks_like_response(rir, RATE)


def test_recordings_do_not() -> None:
    voice, rate = load_audio(SAMPLES / "voice.flac")
    noise = np.random.default_rng(0).standard_normal(RATE)
    assert not looks_like_response(voice[0], rate)
    assert not looks_like_response(convolve(voice[0], room(1.0)), rate)
    assert not looks_like_response(noise, RATE)
    assert not looks_like_response(np.zeros(RATE), RATE)
    assert not looks_like_response(np.full(RATE, np.nan), RATE)


# ---------------------------------------------------------------------------------------------- recordings


class FixedEstimator(BlindEstimator):
    """Always hears the same."""

    def estimate(self, waveform: np.ndarray, sample_rate: int) -> BlindEstimate:
        bands = dict.fromkeys(OCTAVE_BANDS_HZ, 0.5)
        return BlindEstimate(0.5, 0.1, bands, dict.fromkeys(bands, 0.05), -2.0, 1.5, 4.0, 2.0)


def test_a_recording_is_what_the_estimator_hears() -> None:
    report = inspect_recording(np.ones(2 * RATE), RATE, FixedEstimator())
    rt60 = report.broadband["rt60"]
    assert (rt60.value, rt60.low, rt60.high) == pytest.approx(
        (0.5, 0.5 / np.exp(0.2), 0.5 * np.exp(0.2)), abs=1e-4
    )
    assert report.broadband["drr_db"] == Quantity(-2.0, -3.5, -0.5)
    assert report.bands[1000]["rt60"].high == pytest.approx(0.5 * np.exp(0.1), abs=1e-4)
    assert report.decay is not None
    late_db = 10 * np.log10(1 / (1 + 10**-0.2))
    index = report.decay.seconds.index(0.25)
    assert report.decay.median_db[index] == pytest.approx(late_db - 30, abs=0.01)
    assert report.decay.low_db[index] < report.decay.median_db[index] < report.decay.high_db[index]
    assert report.facts["seconds_heard"] == 2.0
    assert list(report.bands) == list(OCTAVE_BANDS_HZ)
    telephone = inspect_recording(np.ones(16_000), 8000, FixedEstimator())
    assert list(telephone.bands) == [125, 250, 500, 1000, 2000]  # 4 kHz was not in the recording


def test_channels_of_opposite_sign_are_no_silence() -> None:
    voice = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    channels = np.stack([0.5 * voice, -voice, 0.9 * voice])
    for blocks in ([channels], np.array_split(channels, 7, axis=1)):
        assert np.array_equal(loudest_channel(blocks), -voice)


# -------------------------------------------------------------------------------------------------- photos


class SeededRooms:
    """Draws rooms whose reverberation time is 0.40 s and 0.02 s more with each seed."""

    def response(self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None) -> np.ndarray:
        return room(0.4 + 0.02 * seed, -3.0, seed=seed).astype(np.float32)


class HardlyAnyRoom:
    """One draw in three has reverberation."""

    def response(self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None) -> np.ndarray:
        rir = room(0.5).astype(np.float32)
        if seed % 3:
            rir[1:] = 0
        return rir


def test_a_photo_is_its_draws() -> None:
    done = list[tuple[float, float | None]]()
    report = inspect_photo(GREY, SeededRooms(), draws=11, seed=5, progress=lambda *step: done.append(step))
    rt60 = report.broadband["rt60"]
    assert (rt60.value, rt60.low, rt60.high) == pytest.approx((0.6, 0.532, 0.668), rel=0.04)
    assert report.broadband["drr_db"].value == pytest.approx(-3.0, abs=0.01)
    assert report.regions is None
    assert report.facts | {"draws": 11, "seed": 5, "width": 64, "height": 48} == report.facts
    assert done == [(index + 1, 11) for index in range(11)]
    with pytest.raises(MvsdError, match="at least 1"):
        inspect_photo(GREY, SeededRooms(), draws=0)


def test_draws_without_a_value_are_counted() -> None:
    quantity = inspect_photo(GREY, HardlyAnyRoom(), draws=6).broadband["rt60"]
    assert quantity.value is None
    assert quantity.reason is not None
    assert quantity.reason.startswith("in 4 of 6 draws:")
    assert inspect_photo(GREY, HardlyAnyRoom(), draws=1).broadband["rt60"].value is not None


def test_the_gain_below_one_kilohertz_is_no_part_of_the_room(tiny_models: Models) -> None:
    reports = [
        inspect_photo(GREY, mvsd.load(tiny_models.reverberator, low_gain_db=gain), draws=2)
        for gain in (0.0, -12.0)
    ]
    assert reports[0].broadband == reports[1].broadband
    assert reports[0].bands == reports[1].bands


def test_a_photo_is_told_of_the_room_as_it_is_drawn(tiny_models: Models) -> None:
    model = mvsd.load(tiny_models.reverberator)
    changed = copy.copy(model)
    changed.config = replace(model.config, evens_early=True, low_gain_db=-6.0)
    drawn = model.response(GREY, seed=1)
    assert np.array_equal(_with_all_of_the_room(changed).response(GREY, seed=1), drawn)
    assert np.abs(changed.response(GREY, seed=1) - drawn).max() > 1e-4
    assert (changed.config.evens_early, changed.config.low_gain_db) == (True, -6.0)


def test_the_region_that_decides_is_found() -> None:
    """A fake model that looks at a white window only: its patch and no other is found."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[10:20, 30:40] = 255  # row 1, column 3 of a grid of 6 x 8

    def expected(scenes: list[Scene]) -> np.ndarray:
        bright = np.array([float((scene.image > 200).any(2).mean()) for scene in scenes])
        return np.stack([0.5 + 12 * bright, -48 * bright], axis=1)

    regions = decisive_regions(Scene(image), expected)
    assert regions.rt60_percent.shape == grid_of(Scene(image)) == (6, 8)
    window = 1 / 48
    assert regions.rt60_percent[1, 3] == pytest.approx(100 * 12 * window / (0.5 + 12 * window))
    assert regions.drr_db[1, 3] == pytest.approx(-1.0)
    assert np.count_nonzero(regions.rt60_percent) == np.count_nonzero(regions.drr_db) == 1
    assert regions.strongest(1) == [(1, 3)]


@given(st.integers(1, 90), st.integers(1, 300))
def test_the_patches_cover_the_picture_once(height: int, width: int) -> None:
    scene = Scene(np.zeros((height, width, 3), np.uint8))
    covered = np.zeros((height, width), int)
    for top, bottom, left, right in boxes(scene, *grid_of(scene)):
        covered[top:bottom, left:right] += 1
    assert (covered == 1).all()


def test_hiding_leaves_the_scene_as_it_was() -> None:
    image = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    scene = Scene(image.copy(), np.ones((48, 64), np.float32))
    hidden = hide(scene, (0, 8, 16, 24))
    assert np.array_equal(scene.image, image)
    assert hidden.depth is not None
    assert scene.depth is not None
    assert hidden.depth.sum() == scene.depth.sum() - 64
    assert (hidden.image[:8, 16:24] == image.mean((0, 1)).round()).all()
    assert np.array_equal(hidden.image[8:], image[8:])


@pytest.mark.parametrize(("rt60", "drr"), [(0.3, 3.0), (0.8, -4.0)])
def test_the_expected_room_is_that_of_the_envelope(rt60: float, drr: float) -> None:
    """The head is made to say what is measured on a known response: its values come out."""
    config = ConverterConfig(
        generates="response",
        path="noise",
        num_taps=0,
        num_samples=24_576,
        overlap=0,
        spectrogram=SpectrogramConfig(fft_size=256, hop=128, power=0.35, scale=2.0),
        unet=UNetConfig(channels=(8, 16), num_heads=2, token_features=16),
        scene=SceneEncoderConfig(width=8, token_features=16),
    )
    converter = Converter(config).eval()
    assert converter.envelope is not None
    rir = room(rt60, drr, seconds=24_576 / RATE)
    assert drr_db(rir, RATE) == pytest.approx(drr, abs=0.01)
    late = torch.from_numpy(np.r_[0, rir[1:]]).float()[None]
    measured = converter.envelope.measure(converter.spectrogram.encode(late))
    last = converter.envelope.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(measured.flatten())
    (time, ratio), again = expected_room(converter, [GREY, GREY])
    assert time == pytest.approx(rt60, rel=0.1)
    assert ratio == pytest.approx(drr, abs=1.0)
    assert again.tolist() == [time, ratio]


def test_a_dereverberator_expects_no_room(tiny_models: Models) -> None:
    with pytest.raises(MvsdError, match="predicts no response"):
        expected_room(Converter.load(tiny_models.dereverberator), [GREY])


# --------------------------------------------------------------------------------------- report and figure


@pytest.fixture
def photo_report() -> Report:
    report = inspect_photo(GREY, SeededRooms(), draws=2)
    heat = np.random.default_rng(0).standard_normal((2, 6, 8))
    return Report(report.kind, report.broadband, report.bands, report.facts, report.decay, Regions(*heat))


def test_the_json_defines_all_it_says(photo_report: Report, tmp_path: Path) -> None:
    save_report(photo_report, tmp_path / "report.json")
    record = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert record["broadband"].keys() <= record["definitions"].keys()
    assert record["bands"]["500"].keys() <= record["definitions"].keys()
    assert {"bands", "decay", "regions", "spread"} <= record["definitions"].keys()
    assert record["definitions"].keys() <= DEFINITIONS.keys() | {"spread"}
    assert set(map(len, record["regions"]["rt60_percent"])) == {8}
    first = record["regions"]["strongest"][0]
    assert abs(first["rt60_percent"]) == np.abs(record["regions"]["rt60_percent"]).max()
    with pytest.raises(OutputExistsError):
        save_report(photo_report, tmp_path / "report.json")
    with pytest.raises(MvsdError, match="cannot be written"):
        save_report(photo_report, tmp_path / "missing" / "report.json")


def test_a_report_that_appears_meanwhile_is_kept(
    photo_report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, record = tmp_path / "report.json", photo_report.to_dict()

    def to_dict(_: Report) -> dict[str, Any]:
        path.write_text("somebody else's")
        return record

    monkeypatch.setattr(Report, "to_dict", to_dict)
    with pytest.raises(OutputExistsError, match="--force"):
        save_report(photo_report, path)
    assert path.read_text() == "somebody else's"


def test_figures_of_all_kinds(photo_report: Report, tmp_path: Path) -> None:
    rir = room(0.5)
    panorama = Scene(np.zeros((40, 80, 3), np.uint8))
    response, recording = inspect_response(rir, RATE), inspect_recording(rir, RATE, FixedEstimator())
    report_figure(photo_report, tmp_path / "panorama.png", scene=panorama)
    report_figure(response, tmp_path / "response.png", waveform=rir)
    report_figure(recording, tmp_path / "recording.png", waveform=rir)
    pictures = [np.asarray(Image.open(path).convert("L")) for path in sorted(tmp_path.glob("*.png"))]
    assert all(picture.shape[1] > 1000 and picture.std() > 10 for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 3
    with pytest.raises(OutputExistsError):
        report_figure(response, tmp_path / "response.png", waveform=rir)


def test_a_region_is_coloured_and_framed_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr("mvsd.report_figure.save_figure", lambda figure, path, *, force: kept.append(figure))
    values = np.zeros((6, 8))
    values[1, 3] = 5.0
    report = Report("photo", {}, {}, {}, None, Regions(values, -values))
    report_figure(report, tmp_path / "x.png", scene=Scene(np.zeros((60, 80, 3), np.uint8)))
    pictures = [axes for axes in kept[0].axes if len(axes.images) == 2]
    for axes, sign in zip(pictures, (1, -1), strict=True):
        left, right, bottom, top = axes.images[1].get_extent()
        ((row, column),) = np.argwhere(np.asarray(axes.images[1].get_array()) == 5 * sign)
        assert top + (row + 0.5) * (bottom - top) / 6 == 14.5
        assert left + (column + 0.5) * (right - left) / 8 == 34.5
        assert axes.get_ylim() == (59.5, -0.5)
        assert axes.patches[0].get_bbox().bounds == (30, 10, 10, 10)


def test_whiskers_reach_from_low_to_high() -> None:
    np.testing.assert_array_equal(_whiskers(Quantity(2.0, 1.5, 3.0)), [[0.5], [1.0]])
    assert _whiskers(Quantity(2.0)) is None
