"""Room errors, octave bands, and reverberation times that are heard in a recording."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from voices import RATE, in_room, room, voice

from mvsd.acoustics import OCTAVE_BANDS_HZ, c50_db, d50, decay_time, drr_db
from mvsd.blind import BlindConfig, BlindEstimator
from mvsd.errors import ModelFileError, NotMeasurable
from mvsd.evaluation import metrics
from mvsd.evaluation.metrics import METRICS, MORE_METRICS, measure, rt60

ERRORS = {name: metric for name, metric in METRICS["reverberation"].items() if "rir" in metric.optional}


class TestEarlyAndLateEnergy:
    @settings(max_examples=30)
    @given(delay=st.integers(2000, 6000), gain=st.floats(0.1, 10), band_hz=st.sampled_from(OCTAVE_BANDS_HZ))
    def test_an_echo_is_told_from_the_direct_sound_in_every_band(self, delay, gain, band_hz):
        rir = np.zeros(8000)
        rir[100], rir[100 + delay] = 10, 10 * min(gain, 1)
        expected = -20 * np.log10(min(gain, 1))
        assert c50_db(rir, RATE, band_hz=band_hz) == pytest.approx(expected, abs=1e-3)
        assert drr_db(rir, RATE, band_hz=band_hz) == pytest.approx(expected, abs=1e-3)
        share = d50(rir, RATE, band_hz=band_hz)
        assert 10 * np.log10(share / (1 - share)) == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize("band_hz", [None, 500, 2000])
    def test_exponential_decay_in_closed_form(self, band_hz):
        # C50 of a decay without direct sound: the integral of 10^(-6 t / RT60).
        expected = 10 * np.log10(10 ** (6 * 0.05 / 0.6) - 1)
        values = []
        for seed in range(12):
            rir = np.random.default_rng(seed).standard_normal(RATE) * 10 ** (
                -3 * np.arange(RATE) / RATE / 0.6
            )
            rir[0] = np.abs(rir).max()
            values.append(c50_db(rir, RATE, band_hz=band_hz, subtract_noise=True))
        assert np.mean(values) == pytest.approx(expected, abs=0.35)

    @pytest.mark.parametrize("band_hz", [None, 1000])
    def test_noise_floor_is_left_out(self, band_hz):
        rir = room(0.5, 0, seconds=2.0)
        noisy = rir + 0.003 * np.random.default_rng(7).standard_normal(len(rir))
        for measure_db in (c50_db, drr_db):
            clean = measure_db(rir, RATE, band_hz=band_hz)
            assert measure_db(noisy, RATE, band_hz=band_hz) < clean - 0.5
            assert measure_db(noisy, RATE, band_hz=band_hz, subtract_noise=True) == pytest.approx(
                clean, abs=0.3
            )

    def test_no_decay_says_so(self):
        rir = np.zeros(8000)
        rir[0] = 1
        noisy = rir + 0.01 * np.random.default_rng(0).standard_normal(8000)
        with pytest.raises(NotMeasurable, match="decay"):
            c50_db(noisy, RATE, subtract_noise=True)
        assert c50_db(noisy, RATE) == pytest.approx(-10 * np.log10(0.72), abs=0.6)


class TestRoomErrors:
    def test_errors_are_those_of_the_rooms(self):
        dry, heard, wanted = voice(4.0), room(0.4, 6, seed=1), room(0.7, 0, seed=2)
        clips = {"source": dry, "estimate": in_room(dry, heard), "target": in_room(dry, wanted)}
        t20, wanted_t20 = decay_time(heard, RATE), decay_time(wanted, RATE)
        error = wanted_t20 - t20
        assert metrics.t20_error(**clips, sample_rate=RATE) == pytest.approx(error, abs=0.02)
        assert metrics.t20_error_percent(**clips, sample_rate=RATE) == pytest.approx(
            100 * error / wanted_t20, abs=3
        )
        t30 = decay_time(wanted, RATE, "T30") - decay_time(heard, RATE, "T30")
        assert metrics.t30_error(**clips, sample_rate=RATE) == pytest.approx(t30, abs=0.05)
        edt = decay_time(wanted, RATE, "EDT") - decay_time(heard, RATE, "EDT")
        assert metrics.edt_error(**clips, sample_rate=RATE) == pytest.approx(edt, abs=0.02)
        expected = drr_db(heard, RATE) - drr_db(wanted, RATE)
        assert metrics.drr_error_db(**clips, sample_rate=RATE) == pytest.approx(expected, abs=0.2)
        expected = c50_db(heard, RATE) - c50_db(wanted, RATE)
        assert metrics.c50_error_db(**clips, sample_rate=RATE) == pytest.approx(expected, abs=0.2)
        expected = d50(heard, RATE) - d50(wanted, RATE)
        assert metrics.d50_error(**clips, sample_rate=RATE) == pytest.approx(expected, abs=0.01)

    def test_true_response_takes_the_place_of_the_fitted(self):
        dry, wanted = voice(3.0), room(0.5, 0, seed=3)
        wet = in_room(dry, wanted)
        clips = {"source": dry, "estimate": wet, "target": wet, "rir": np.pad(room(0.8, 0, seed=4), (300, 0))}
        expected = decay_time(clips["rir"], RATE) - decay_time(wanted, RATE)
        assert metrics.t20_error(**clips, sample_rate=RATE) == pytest.approx(expected, abs=0.02)
        scores = measure(ERRORS, **clips, sample_rate=RATE)
        assert scores.values["t20_error"] == metrics.t20_error(**clips, sample_rate=RATE)

    def test_octave_bands_differ(self):
        dry = voice(4.0)
        wanted = room(0.6, 0, seed=5)
        clips = {
            "source": dry,
            "estimate": in_room(dry, room(0.3, 0, seed=6)),
            "target": in_room(dry, wanted),
        }
        bands = MORE_METRICS["reverberation"]
        scores = measure(bands, **clips, sample_rate=RATE)
        assert len(bands) == 7 * len(OCTAVE_BANDS_HZ)
        for band_hz in (500, 1000, 2000):
            heard = decay_time(room(0.3, 0, seed=6), RATE, band_hz=band_hz)
            expected = decay_time(wanted, RATE, band_hz=band_hz) - heard
            assert scores.values[f"t20_error_{band_hz}hz"] == pytest.approx(expected, abs=0.08)
        assert len({round(scores.values[f"c50_error_db_{band}hz"], 6) for band in (500, 1000, 2000)}) == 3

    def test_no_error_where_the_estimate_is_the_target(self):
        dry = voice(3.0)
        clips = {"source": dry, "estimate": in_room(dry, room(0.5, 0)), "target": in_room(dry, room(0.5, 0))}
        scores = measure(ERRORS, **clips, sample_rate=RATE)
        assert scores.values == dict.fromkeys(ERRORS, 0)

    @pytest.mark.parametrize("name", ERRORS)
    def test_failure_names_the_response(self, name):
        dry = voice(3.0)
        scores = measure(
            {name: ERRORS[name]},
            source=dry,
            estimate=dry,
            target=in_room(dry, room(0.5, 0)),
            sample_rate=RATE,
        )
        assert scores.failures[name].startswith("response of the estimate: ")

    def test_residue_falls_with_what_remains_of_the_room(self):
        dry, rir = voice(4.0), room(0.6, 0)
        wet = in_room(dry, rir)
        for share, expected in ((1, 0), (0.5, 6), (0.1, 20)):
            estimate = dry + share * (wet - dry)
            value = metrics.residual_drr_db(estimate=estimate, target=dry, sample_rate=RATE)
            assert value == pytest.approx(expected, abs=0.8)


@pytest.fixture(autouse=True)
def nothing_remembered():
    for memory in (rt60._rt60, rt60._blind_network, rt60._published_network):
        memory.cache_clear()


class TestBlindRt60:
    def test_error_is_that_of_the_two_estimates(self, tmp_path):
        torch.manual_seed(0)
        path = tmp_path / "blind.safetensors"
        BlindEstimator(BlindConfig(channels=(4, 4, 4, 4, 4), hidden=8)).eval().save(path)
        network = BlindEstimator.load(path)
        dry = voice(2.0)
        wet = in_room(dry, room(0.8, -3))
        expected = abs(network.estimate(dry, RATE).rt60 - network.estimate(wet, RATE).rt60)
        error = metrics.rte(estimate=wet, target=dry, sample_rate=RATE, estimator=str(path))
        assert error == pytest.approx(expected, rel=1e-6)
        assert error > 0
        assert metrics.rte(estimate=dry, target=wet, sample_rate=RATE, estimator=str(path)) == error
        assert metrics.rte(estimate=dry, target=dry, sample_rate=RATE, estimator=str(path)) == 0

    def test_too_short_for_the_estimator(self, tmp_path):
        path = tmp_path / "blind.safetensors"
        BlindEstimator(BlindConfig(channels=(4, 4, 4, 4, 4), hidden=8)).save(path)
        short = voice(0.5)
        with pytest.raises(NotMeasurable, match="1 s is needed"):
            metrics.rte(estimate=short, target=short, sample_rate=RATE, estimator=str(path))


class Block(nn.Module):
    """A residual block with the names of torchvision."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (self.downsample(x) if self.downsample else x))


class Published(nn.Module):
    """The published estimator as its description has it, written a second time."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            nn.Sequential(Block(i, o, s), Block(o, o, 1))
            for i, o, s in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        ]
        self.feature_extraction = nn.Sequential(
            nn.Conv2d(1, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            *layers,
            nn.AdaptiveAvgPool2d(1),
        )
        self.predictor = nn.Sequential(nn.Linear(512, 1))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        options = {"win_length": 400, "window": torch.hamming_window(400), "pad_mode": "constant"}
        spectrum = torch.stft(waveform, 512, 160, **options, return_complex=True)
        assert spectrum.shape[1:] == (257, 257)
        return self.predictor(self.feature_extraction(torch.log1p(spectrum.abs())[:, None]).flatten(1))


class TestPublishedEstimator:
    def test_reads_the_published_form(self, tmp_path):
        torch.manual_seed(0)
        network = Published()
        network(torch.randn(2, 40_960))  # statistics that are not those of a fresh network
        network.eval()
        path = tmp_path / "rt60_estimator.pth"
        torch.save({"predictor": network.state_dict()}, path)
        dry = voice(2.56)
        wet = in_room(dry, room(0.8, -3))
        with torch.no_grad():
            waveforms = torch.from_numpy(np.stack([clip / np.abs(clip).max() for clip in (dry, wet)]))
            values = network(waveforms.float())[:, 0].tolist()
        error = metrics.rte(estimate=wet, target=dry, sample_rate=RATE, estimator=str(path))
        assert error == pytest.approx(abs(values[0] - values[1]), rel=1e-3)
        assert error > 0

    def test_other_files_are_refused(self, tmp_path):
        dry = voice(2.56)
        missing, foreign, wrong = (tmp_path / f"{name}.pth" for name in ("missing", "foreign", "wrong"))
        foreign.write_bytes(b"no weights")
        torch.save({"predictor": {"feature_extraction.0.weight": torch.zeros(1)}}, wrong)
        for path, reason in (
            (missing, "no such file"),
            (foreign, "cannot be read"),
            (wrong, "cannot be read"),
        ):
            with pytest.raises(ModelFileError, match=rf"{path.name}.*{reason}"):
                metrics.rte(estimate=dry, target=dry, sample_rate=RATE, estimator=str(path))

    def test_a_pickle_that_acts_is_not_obeyed(self, tmp_path):
        path, trace = tmp_path / "hostile.pth", tmp_path / "trace"

        class Hostile:
            def __reduce__(self):
                return (trace.mkdir, ())

        torch.save({"predictor": Hostile()}, path)
        with pytest.raises(ModelFileError, match="cannot be read as an RT60 estimator"):
            rt60.PublishedEstimator(path)
        assert not trace.exists()
