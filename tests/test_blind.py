"""The blind estimator: what it learns, that it learns, and what the shipped one hears."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import signal

from mvsd.acoustics import OCTAVE_BANDS_HZ, convolve, decay_time, drr_db
from mvsd.audio import load_audio, resample
from mvsd.blind import FORMAT, NUM_TARGETS, BlindConfig, BlindEstimator, measured_targets
from mvsd.data.example import Example
from mvsd.data.shards import Shards, write_shards
from mvsd.data.speech import Speech
from mvsd.errors import ConfigError, DataError, ModelFileError, NotMeasurable, OutputExistsError
from mvsd.example import SAMPLES
from mvsd.training.blind import BlindTrainConfig, calibrate, gaussian_loss, load_blind_config, train_blind
from mvsd.training.blind_data import (
    RecordingConfig,
    Recordings,
    Responses,
    _without_silent_end,
    make,
    vary,
)

RATE = 16_000
TINY = BlindConfig(num_bands=16, channels=(4, 4, 8, 8, 8), hidden=8)


def room(rt60: float, drr: float = 0.0, seconds: float = 1.4, seed: int = 0) -> np.ndarray:
    """White noise (random signs, so that its power is exact) that falls by 60 dB in `rt60`, after a direct sound."""
    time = np.arange(round(seconds * RATE)) / RATE
    late = np.random.default_rng(seed).choice([-1.0, 1.0], len(time)) * 10 ** (-3 * time / rt60)
    late[: round(0.0025 * RATE) + 1] = 0
    late *= 10 ** (-drr / 20) / np.sqrt(np.sum(late**2))
    late[0] = 1
    return late.astype(np.float32)


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    waveform, rate = load_audio(SAMPLES / "voice.flac")
    assert rate == RATE
    return waveform[0]


@pytest.fixture(scope="module")
def estimator() -> BlindEstimator:
    return BlindEstimator.load()


# ----------------------------------------------------------------------------------------- what is learned


@pytest.mark.parametrize("rt60", [0.3, 0.6, 1.2])
def test_targets_are_what_is_measured(rt60: float) -> None:
    targets = measured_targets(room(rt60, drr=-4.0))
    assert targets.shape == (NUM_TARGETS,)
    assert np.exp(targets[0]) == pytest.approx(rt60, rel=0.05)
    assert np.exp(targets[1:7]) == pytest.approx(rt60, rel=0.25)
    assert targets[7] == pytest.approx(-4.0, abs=0.01)
    decay = 6 * np.log(10) / rt60  # of energy, per second; the tail starts 2.5 ms after the direct sound
    late = np.exp(-decay * 0.0475) * 10**0.4
    assert targets[8] == pytest.approx(10 * np.log10((1 + 10**0.4 - late) / late), abs=0.02)


def test_targets_that_are_not_measurable_are_gaps() -> None:
    impulse = np.zeros(8000, np.float32)
    impulse[0] = 1
    targets = measured_targets(impulse)
    assert np.isnan(targets[[0, 7, 8]]).all()  # the filters of low bands ring, which is a decay


def test_made_responses_cover_the_rooms() -> None:
    targets = np.array([measured_targets(make(np.random.default_rng(seed))) for seed in range(25)])
    rt60, drr = np.exp(targets[:, 0]), targets[:, 7]
    assert np.nanmin(rt60) < 0.3
    assert np.nanmax(rt60) > 2.0
    assert drr.min() < -5
    assert drr.max() > 8
    assert np.isnan(targets).mean() < 0.05


def test_value_and_spread_in_closed_form() -> None:
    estimator = BlindEstimator(TINY).eval()
    last = estimator.head[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.cat([torch.full((NUM_TARGETS,), 0.5), torch.full((NUM_TARGETS,), 0.2).log()]))
    estimator.target_mean.fill_(-1.0)
    estimator.target_std.fill_(0.4)
    estimator.calibration.fill_(1.5)
    heard = estimator.estimate(np.random.default_rng(0).standard_normal(2 * RATE), RATE)
    assert heard.rt60 == pytest.approx(np.exp(-0.8), rel=1e-4)
    assert heard.drr_db == pytest.approx(-0.8, abs=1e-4)
    assert heard.drr_db_std == pytest.approx(0.4 * 1.5 * 0.2, rel=1e-3)
    assert heard.rt60_std == pytest.approx(0.12 * heard.rt60, rel=1e-3)


def test_only_a_silent_end_is_cut() -> None:
    rir = room(0.5)[:2000]  # cut short: its last sample is no silence
    assert np.array_equal(_without_silent_end(rir), rir)
    assert np.array_equal(_without_silent_end(np.pad(rir, (0, 500))), rir)


def test_varied_responses_differ_as_rooms_do() -> None:
    rir = room(0.7, drr=-3.0)
    before = rir.copy()
    varied = [vary(rir, np.random.default_rng(seed)) for seed in range(20)]
    assert all(rir_[0] == 1 and len(rir_) == len(rir) and np.isfinite(rir_).all() for rir_ in varied)
    assert np.std([drr_db(rir_, RATE) for rir_ in varied]) > 2
    times = [decay_time(rir_, RATE) for rir_ in varied]
    assert min(times) < 0.45
    assert max(times) > 0.7
    assert np.array_equal(rir, before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rooms, a dull and a live one, and a folder of one voice."""
    folder = tmp_path_factory.mktemp("blind")
    examples = [
        Example(f"room-{index}", None, rir=room(rt60, drr, seconds=1.0), sample_rate=RATE, metadata={})
        for index, (rt60, drr) in enumerate(((0.15, 6.0), (1.2, -6.0)))
    ]
    write_shards(examples, folder / "rooms", prefix="rooms")
    (folder / "speech").mkdir()
    (folder / "speech" / "voice.flac").write_bytes((SAMPLES / "voice.flac").read_bytes())
    return folder


@pytest.fixture(scope="module")
def config(data: Path) -> BlindTrainConfig:
    rooms = (str(data / "rooms"),)
    return BlindTrainConfig(
        speech=str(data / "speech"),
        rooms=rooms,
        validation_rooms=rooms,
        cache=str(data / "cache"),
        num_variants=0,
        num_made=0,
        seconds=(1.0,),
        batch_seconds=12,
        num_steps=40,
        learning_rate=2e-2,
        network=TINY,
    )


def test_a_recording_depends_on_its_number_alone(config: BlindTrainConfig) -> None:
    responses = Responses(Shards(config.rooms), 1, 1, seed=0)
    assert len(responses) == 5
    recordings = Recordings(Speech(config.speech, config.cache), responses, RecordingConfig(), seed=3)
    waveforms, targets = recordings.batch(7, 6, RATE)
    assert waveforms.shape == (6, RATE)
    assert np.isfinite(waveforms).all()
    again, targets_again = recordings.batch(7, 3, RATE)
    assert np.array_equal(again, waveforms[:3])
    assert np.array_equal(targets_again, targets[:3])
    assert len(np.unique(waveforms[:, 5000])) == 6
    assert not np.array_equal(recordings.batch(8, 6, RATE)[0], waveforms)


def test_a_recording_is_the_voice_in_the_room(config: BlindTrainConfig) -> None:
    """Without noise and microphone it is a convolution, whatever was said before."""
    responses = Responses(Shards(config.rooms), 0, 0, seed=0)
    plain = RecordingConfig(cold_start=1.0, noise=0, lowpass=0, highpass=0, equalizer_db=0)
    speech = Speech(config.speech, config.cache)
    waveform, targets = Recordings(speech, responses, plain, seed=0).row([1], RATE)
    generator = np.random.default_rng([1])
    index = int(generator.integers(2))
    generator.random()
    dry = speech.crop(int(generator.integers(2**62)), RATE)
    wet = signal.fftconvolve(dry, responses.rirs[index].astype(np.float32))[:RATE]
    assert np.allclose(waveform, wet, atol=1e-5)
    assert np.array_equal(targets, responses.targets[index])


def test_noise_is_as_far_below_as_asked(config: BlindTrainConfig) -> None:
    responses = Responses(Shards(config.rooms), 0, 0, seed=0)
    speech = Speech(config.speech, config.cache)
    clean = RecordingConfig(cold_start=1.0, noise=0, lowpass=0, highpass=0, equalizer_db=0)
    noisy = replace(clean, noise=1.0, snr_db=(20.0, 20.0))
    quiet = Recordings(speech, responses, clean, 0).row([5], 4 * RATE)[0]
    noise = Recordings(speech, responses, noisy, 0).row([5], 4 * RATE)[0] - quiet
    assert 10 * np.log10(np.sum(quiet**2) / np.sum(noise**2)) == pytest.approx(20, abs=2)


def test_loss_is_the_likelihood_of_what_is_known() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, std, target = (torch.rand(5, 3, generator=generator) + 0.2 for _ in range(3))
    target[1, 2] = target[4, 0] = torch.nan
    known = ~target.isnan()
    wanted = torch.nn.functional.gaussian_nll_loss(mean[known], target[known], std[known] ** 2)
    assert gaussian_loss(mean, std, target).item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.slow
def test_training_tells_a_dull_room_from_a_live_one(
    config: BlindTrainConfig, tmp_path: Path, voice: np.ndarray
) -> None:
    torch.set_num_threads(1)
    trained = train_blind(config, tmp_path / "a.safetensors")
    dull, live = (trained.estimate(convolve(voice, rir), RATE) for rir in (room(0.15, 6.0), room(1.2, -6.0)))
    assert live.rt60 > 1.5 * dull.rt60
    assert live.drr_db < dull.drr_db - 3


def test_the_same_configuration_gives_the_same_weights(config: BlindTrainConfig, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_blind(replace(config, num_steps=2), tmp_path / name)
    train_blind(replace(config, num_steps=2, seed=1), tmp_path / "other")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "other").read_bytes()


def test_the_committed_configuration_is_valid() -> None:
    config = load_blind_config(Path(__file__).parents[1] / "configs" / "blind.toml")
    assert config.network == BlindConfig()
    assert config.speech_holdout


@pytest.mark.parametrize("text", ["seconds = [0.5]", "colour = 1", "= 3", 'speech = "a"'])
def test_a_wrong_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "blind.toml"
    required = 'speech = "a"\nrooms = []\nvalidation_rooms = []\n'
    path.write_text(text if text.startswith("speech") else required + text)
    with pytest.raises(ConfigError):
        load_blind_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_blind_config(tmp_path / "missing.toml")


def test_what_would_end_a_training_ends_it_before_it_begins(
    config: BlindTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvsd.training.blind.BlindEstimator", None)  # what is trained is not made
    with pytest.raises(ConfigError, match="there is no folder"):
        train_blind(config, tmp_path / "missing" / "blind.safetensors")
    with pytest.raises(DataError, match="elsewhere"):
        train_blind(replace(config, validation_rooms=("elsewhere",)), tmp_path / "blind.safetensors")
    with pytest.raises(DataError, match="no speech left"):
        train_blind(replace(config, speech_holdout=("*",)), tmp_path / "blind.safetensors")
    (tmp_path / "blind.safetensors").write_text("of another training")
    with pytest.raises(OutputExistsError, match=r"blind\.safetensors exists; .*--force"):
        train_blind(config, tmp_path / "blind.safetensors")
    with pytest.raises(TypeError):  # asked to replace it, it begins
        train_blind(config, tmp_path / "blind.safetensors", force=True)
    assert (tmp_path / "blind.safetensors").read_text() == "of another training"


def test_spreads_are_set_right_by_what_is_known_of_the_errors(
    config: BlindTrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = torch.linspace(0.5, 2.0, NUM_TARGETS)
    generator = torch.Generator().manual_seed(0)

    def estimates(*_: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        target = 0.3 * wanted * torch.randn(500, NUM_TARGETS, generator=generator)
        target[7] = torch.nan
        return torch.zeros_like(target), torch.full_like(target, 0.3), target

    monkeypatch.setattr("mvsd.training.blind._estimates", estimates)
    estimator = BlindEstimator(TINY)
    calibrate(estimator, None, config)  # type: ignore[arg-type]
    torch.testing.assert_close(estimator.calibration, wanted, rtol=0.1, atol=0.0)


def test_rooms_without_a_response_are_refused(tmp_path: Path) -> None:
    write_shards([Example("a", None, sample_rate=RATE, metadata={})], tmp_path, prefix="rooms")
    with pytest.raises(DataError, match="has no response"):
        Responses(Shards(tmp_path), 0, 0, 0)


# ---------------------------------------------------------------------------------------- what it hears


def test_the_shipped_estimator_hears_the_room(estimator: BlindEstimator, voice: np.ndarray) -> None:
    """A voice of another kind than those of the training, in closed-form responses."""
    heard = [estimator.estimate(convolve(voice, room(rt60)), RATE) for rt60 in (0.3, 0.6, 1.2)]
    for estimate, rt60 in zip(heard, (0.3, 0.6, 1.2), strict=True):
        assert estimate.rt60 == pytest.approx(rt60, rel=0.35)
        assert abs(np.log(estimate.rt60 / rt60)) < 3 * estimate.rt60_std / estimate.rt60
        assert tuple(estimate.rt60_per_band) == tuple(estimate.rt60_per_band_std) == OCTAVE_BANDS_HZ
        assert estimate.rt60_per_band[1000] == pytest.approx(rt60, rel=0.5)
    near, far = (estimator.estimate(convolve(voice, room(0.6, drr)), RATE) for drr in (8.0, -8.0))
    assert near.drr_db - far.drr_db > 6
    assert near.c50_db - far.c50_db > 6


def test_level_and_rate_do_not_matter(estimator: BlindEstimator, voice: np.ndarray) -> None:
    wet = convolve(voice, room(0.6))[: 5 * RATE]
    plain = estimator.estimate(wet, RATE)
    assert estimator.estimate(wet * np.float32(1e-3), RATE).rt60 == pytest.approx(plain.rt60, rel=1e-3)
    assert estimator.estimate(resample(wet[None], RATE, 48_000)[0], 48_000).rt60 == pytest.approx(
        plain.rt60, rel=0.1
    )
    assert estimator.estimate(wet.astype(np.float64), RATE) == plain


def test_a_long_recording_is_averaged_without_more_certainty(
    estimator: BlindEstimator, voice: np.ndarray
) -> None:
    wet = np.resize(convolve(voice, room(0.6))[: 6 * RATE], 6 * RATE)
    once, thrice = estimator.estimate(wet, RATE), estimator.estimate(np.tile(wet, 3), RATE)
    assert thrice.rt60 == pytest.approx(once.rt60, rel=1e-4)
    assert thrice.rt60_std == pytest.approx(once.rt60_std, rel=1e-4)
    assert thrice.drr_db == pytest.approx(once.drr_db, abs=1e-3)


def test_pauses_are_not_listened_to(estimator: BlindEstimator, voice: np.ndarray) -> None:
    wet = convolve(voice, room(0.6))[: 6 * RATE]
    silent = np.random.default_rng(0).standard_normal(6 * RATE).astype(np.float32) * 1e-5
    assert estimator.estimate(np.concatenate([wet, silent]), RATE).rt60 == pytest.approx(
        estimator.estimate(wet, RATE).rt60, rel=1e-3
    )


@pytest.mark.parametrize(
    ("waveform", "says"),
    [
        (np.ones(RATE - 1), "0.* s of speech say too little"),
        (np.zeros(2 * RATE), "silent"),
        (np.full(2 * RATE, np.nan), "not finite"),
        (np.ones((2, 2 * RATE)), "one channel"),
        (np.zeros(0), "too little"),
    ],
)
def test_what_cannot_be_heard_is_refused(estimator: BlindEstimator, waveform: np.ndarray, says: str) -> None:
    with pytest.raises(NotMeasurable, match=says):
        estimator.estimate(waveform, RATE)


def test_the_input_stays_as_it_was(estimator: BlindEstimator, voice: np.ndarray) -> None:
    before = voice.copy()
    estimator.estimate(voice, RATE)
    assert np.array_equal(voice, before)


# ------------------------------------------------------------------------------------------ the model file


def test_the_shipped_file_is_small_and_kept() -> None:
    path = Path(__file__).parents[1] / "mvsd" / "weights" / "blind.safetensors"
    assert path.stat().st_size < 1_000_000
    assert BlindEstimator.load() is BlindEstimator.load()
    assert not BlindEstimator.load().training


def test_save_and_load(tmp_path: Path, voice: np.ndarray) -> None:
    torch.manual_seed(0)
    fresh = BlindEstimator(TINY).eval()
    fresh.target_std.fill_(0.3)
    for parameter in fresh.parameters():
        parameter.data = parameter.data.half().float()
    fresh.save(tmp_path / "a.safetensors")
    loaded = BlindEstimator.load(tmp_path / "a.safetensors")
    assert loaded.config == TINY
    assert loaded.estimate(voice, RATE) == fresh.estimate(voice, RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_bad_file_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    with pytest.raises(ModelFileError, match="no such model file"):
        BlindEstimator.load(path)
    path.write_bytes(b"\x80\x04 not a model")
    with pytest.raises(ModelFileError, match="cannot be read"):
        BlindEstimator.load(path)
    save_file({"a": torch.zeros(1)}, path, {"format": "other"})
    with pytest.raises(ModelFileError, match="'other'"):
        BlindEstimator.load(path)
    for config in ('{"hidden": 100000000}', '{"colour": 1}', "[]", "{", '{"channels": [1, 2]}', '{"hop": 0}'):
        save_file({"a": torch.zeros(1)}, path, {"format": FORMAT, "config": config})
        with pytest.raises(ModelFileError):
            BlindEstimator.load(path)


@pytest.mark.parametrize("num_bands", [0, 24, 2**30])
def test_a_file_cannot_ask_for_any_number_of_bands(tmp_path: Path, num_bands: int) -> None:
    path = tmp_path / "bad.safetensors"
    config = json.dumps({"num_bands": num_bands})
    save_file({"a": torch.zeros(1)}, path, {"format": FORMAT, "config": config})
    with pytest.raises(ModelFileError, match=f"num_bands is {num_bands}; a multiple of 16 up to 1024"):
        BlindEstimator.load(path)


def test_the_converters_file_is_no_estimator() -> None:
    weights = Path(__file__).parents[1] / "mvsd" / "weights" / "dereverberator.safetensors"
    with pytest.raises(ModelFileError, match="format"):
        BlindEstimator.load(weights)
