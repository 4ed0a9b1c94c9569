"""Every metric against a closed form or an independent implementation, and the table."""

from __future__ import annotations

import csv
import importlib
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal, stats

from mvsd.acoustics import convolve, decay_time, drr_db
from mvsd.errors import MissingExtraError, NotMeasurable
from mvsd.evaluation import metrics
from mvsd.evaluation.metrics import METRICS, Metric, Scores, bootstrap_interval, measure
from mvsd.evaluation.table import Record, Table

RATE = 16_000
CLIPS = ("source", "estimate", "target")


def voice(seconds: float = 3.0, seed: int = 1) -> np.ndarray:
    """Pulses of a voice pitch and noise through a formant-like filter, in syllables."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    source = signal.square(2 * np.pi * 120 * time, 0.1) + 0.1 * rng.standard_normal(len(time))
    formants = sum(
        signal.lfilter(*signal.iirpeak(hz, 4, RATE), source) for hz in (500, 1500, 2500, 4500, 6500)
    )
    syllables = np.clip(np.sin(2 * np.pi * 3 * time) + 0.3, 0, None)
    return (0.3 * formants * syllables / np.abs(formants).max()).astype(np.float32)


def room(rt60: float, drr: float, seed: int = 0) -> np.ndarray:
    """A unit impulse and a decaying noise with the energy that `drr` leaves it."""
    time = np.arange(RATE) / RATE
    rir = np.random.default_rng(seed).standard_normal(RATE) * 10 ** (-3 * time / rt60)
    rir[:41] = 0
    rir /= np.sqrt(np.sum(rir**2) * 10 ** (drr / 10))
    rir[0] = 1
    return rir


def in_room(waveform: np.ndarray, rir: np.ndarray) -> np.ndarray:
    return convolve(waveform, rir)[: len(waveform)]


def call(metric: Metric, rate: int = RATE, **clips: np.ndarray) -> float:
    return metric.function(**{name: clips[name] for name in metric.inputs}, sample_rate=rate)


EVERY_METRIC = {name: metric for task in METRICS.values() for name, metric in task.items()}
every_metric = pytest.mark.parametrize("metric", EVERY_METRIC.values(), ids=EVERY_METRIC)


class TestContract:
    @every_metric
    def test_is_a_finite_number_and_changes_nothing(self, metric):
        dry = voice(5.0)
        clips = {"source": dry, "estimate": in_room(dry, room(0.4, 5)), "target": in_room(dry, room(0.6, 0))}
        before = {name: clip.copy() for name, clip in clips.items()}
        try:
            value = call(metric, **clips)
        except MissingExtraError as missing:
            pytest.skip(str(missing))
        assert type(value) is float
        assert np.isfinite(value)
        assert all(np.array_equal(clips[name], before[name]) for name in CLIPS)

    @every_metric
    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (np.zeros_like, "is silent"),
            (lambda clip: clip[:0], "is silent|samples"),
            (lambda clip: clip * np.float32(np.nan), "not finite"),
            (lambda clip: np.stack([clip, clip]), r"one channel of samples \(T,\)"),
        ],
    )
    def test_spoilt_estimate_is_refused(self, metric, spoil, reason):
        dry = voice(2.0)
        with pytest.raises(NotMeasurable, match=reason):
            call(metric, source=dry, estimate=spoil(dry), target=dry)

    @pytest.mark.parametrize("name", [name for name, m in EVERY_METRIC.items() if "target" in m.inputs])
    def test_different_lengths_are_refused(self, name):
        dry = voice(2.0)
        with pytest.raises(NotMeasurable, match=r"has 3\d+ samples"):
            call(EVERY_METRIC[name], source=dry, estimate=dry[:-1], target=dry)

    @pytest.mark.parametrize("name", ["pesq_wb", "dnsmos", "stft_distance", "log_stft_distance"])
    def test_other_sample_rate_is_refused(self, name):
        dry = voice(2.0)
        with pytest.raises(NotMeasurable, match="defined at 16000 Hz, not at 8000 Hz"):
            call(EVERY_METRIC[name], 8000, estimate=dry, target=dry)

    @pytest.mark.parametrize(
        ("name", "package"), [("pesq_wb", "pesq"), ("stoi", "pystoi"), ("dnsmos", "onnxruntime")]
    )
    def test_missing_package_says_what_to_install(self, name, package, monkeypatch):
        def fail(module: str) -> None:
            raise ModuleNotFoundError(name=module)

        monkeypatch.setattr(importlib, "import_module", fail)
        metrics._dnsmos_network.cache_clear()
        with pytest.raises(MissingExtraError, match=rf"{package} is not installed; .*'mvsd\[metrics\]'"):
            call(EVERY_METRIC[name], estimate=voice(1.0), target=voice(1.0))


class TestSpeechQuality:
    def test_pesq_of_identical_clips_is_the_top_of_the_scale(self):
        pytest.importorskip("pesq")
        dry = voice()
        assert metrics.pesq_wb(estimate=0.5 * dry, target=dry, sample_rate=RATE) == pytest.approx(
            4.644, abs=2e-3
        )

    def test_pesq_and_stoi_fall_with_reverberation(self):
        pytest.importorskip("pesq")
        pytest.importorskip("pystoi")
        dry = voice()
        near, far = in_room(dry, room(0.3, 10)), in_room(dry, room(0.9, -6))
        for metric in (metrics.pesq_wb, metrics.stoi, metrics.estoi):
            values = [metric(estimate=clip, target=dry, sample_rate=RATE) for clip in (dry, near, far)]
            assert values == sorted(values, reverse=True)

    @pytest.mark.parametrize("metric", [metrics.stoi, metrics.estoi])
    def test_stoi_of_identical_clips_is_one(self, metric):
        pytest.importorskip("pystoi")
        dry = voice()
        assert metric(estimate=dry, target=dry, sample_rate=RATE) == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize("num_samples", [1, 100, 400, 3000])
    def test_too_short_for_pesq_and_stoi(self, num_samples):
        pytest.importorskip("pesq")
        pytest.importorskip("pystoi")
        short = voice()[1000 : 1000 + num_samples]
        for metric in (metrics.pesq_wb, metrics.stoi, metrics.estoi):
            with pytest.raises(NotMeasurable, match="PESQ|STOI"):
                metric(estimate=short, target=short, sample_rate=RATE)

    def test_dnsmos_agrees_with_the_published_network_over_its_windows(self, monkeypatch):
        class Network:
            """Rates a window by its mean and remembers it."""

            windows: list[np.ndarray] = []  # noqa: RUF012

            def run(self, _, inputs):
                self.windows.append(inputs["input_1"][0])
                return [np.array([[0, 0, 3.0]])]

        monkeypatch.setattr(metrics, "_dnsmos_network", Network)
        clip = voice(11.5)
        value = metrics.dnsmos(estimate=clip, sample_rate=RATE)
        assert value == pytest.approx(-0.06766283 * 9 + 1.11546468 * 3 + 0.04602535)
        assert [len(window) for window in Network.windows] == [144_160, 144_160]
        assert np.array_equal(Network.windows[1], clip[RATE : RATE + 144_160])
        Network.windows.clear()
        metrics.dnsmos(estimate=4 * clip[: 5 * RATE] / np.abs(clip).max(), sample_rate=RATE)
        assert len(Network.windows) == 1
        assert np.abs(Network.windows[0]).max() == 1
        assert np.array_equal(Network.windows[0][:100], Network.windows[0][5 * RATE : 5 * RATE + 100])

    def test_dnsmos_is_a_rating(self):
        pytest.importorskip("onnxruntime")
        pytest.importorskip("speechmos")
        assert 1 <= metrics.dnsmos(estimate=voice(5.0), sample_rate=RATE) <= 5


class TestSiSdr:
    def test_orthogonal_error_in_closed_form(self):
        time = np.arange(RATE) / RATE
        target, error = np.sin(2 * np.pi * 200 * time), np.cos(2 * np.pi * 200 * time)
        value = metrics.si_sdr_db(estimate=3 * (target + 0.1 * error), target=target, sample_rate=RATE)
        assert value == pytest.approx(20, abs=1e-6)

    @given(gain=st.floats(1e-2, 1e2), seed=st.integers(0, 99))
    def test_scale_does_not_matter_and_the_formula_of_the_paper_holds(self, gain, seed):
        target, estimate = np.random.default_rng(seed).standard_normal((2, 200))
        alpha = estimate @ target / (target @ target)
        expected = 10 * np.log10(np.sum((alpha * target) ** 2) / np.sum((alpha * target - estimate) ** 2))
        value = metrics.si_sdr_db(estimate=gain * estimate, target=target, sample_rate=RATE)
        assert value == pytest.approx(expected, abs=1e-6)

    def test_infinite_is_refused(self):
        for estimate in (np.array([2.0, 0.0]), np.array([0.0, 1.0])):
            with pytest.raises(NotMeasurable, match="infinite"):
                metrics.si_sdr_db(estimate=estimate, target=np.array([1.0, 0.0]), sample_rate=RATE)


class TestStftDistance:
    def clips(self) -> tuple[np.ndarray, np.ndarray]:
        return voice(2.56, 1), in_room(voice(2.56, 1), room(0.5, 0))

    def test_agrees_with_scipy(self):
        def magnitude(clip: np.ndarray) -> np.ndarray:
            window = np.pad(signal.get_window("hamming", 400), 56)
            transform = signal.ShortTimeFFT(window, hop=160, fs=RATE, fft_mode="onesided")
            clip = clip.astype(np.float64) / np.abs(clip).max()
            return np.abs(transform.stft(clip, p0=0, p1=len(clip) // 160 + 1))

        target, estimate = self.clips()
        expected = np.mean((magnitude(estimate) - magnitude(target)) ** 2)
        value = metrics.stft_distance(estimate=estimate, target=target, sample_rate=RATE)
        assert value == pytest.approx(expected, rel=1e-6)

    def test_agrees_with_torch(self):
        torch = pytest.importorskip("torch")

        def magnitude(clip: np.ndarray) -> np.ndarray:
            samples = torch.from_numpy(clip.astype(np.float64) / np.abs(clip).max())
            window = torch.hamming_window(400, dtype=torch.float64)
            options = {"win_length": 400, "window": window, "pad_mode": "constant", "return_complex": True}
            return torch.stft(samples, 512, 160, **options).abs().numpy()

        target, estimate = self.clips()
        assert metrics._magnitude(estimate / np.abs(estimate).max()).shape == magnitude(estimate).shape
        expected = np.mean((np.log(magnitude(estimate) + 1e-5) - np.log(magnitude(target) + 1e-5)) ** 2)
        value = metrics.log_stft_distance(estimate=estimate, target=target, sample_rate=RATE)
        assert value == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("metric", [metrics.stft_distance, metrics.log_stft_distance])
    def test_level_does_not_matter(self, metric):
        target, _ = self.clips()
        assert metric(estimate=-0.25 * target, target=target, sample_rate=RATE) == pytest.approx(0, abs=1e-9)


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
        expected = drr_db(heard, RATE) - drr_db(wanted, RATE)
        assert metrics.drr_error_db(**clips, sample_rate=RATE) == pytest.approx(expected, abs=0.2)

    def test_no_error_where_the_estimate_is_the_target(self):
        dry = voice(3.0)
        clips = {"source": dry, "estimate": in_room(dry, room(0.5, 0)), "target": in_room(dry, room(0.5, 0))}
        for metric in (metrics.t20_error, metrics.t20_error_percent, metrics.drr_error_db):
            assert metric(**clips, sample_rate=RATE) == 0

    def test_failure_names_the_response(self):
        dry = voice(3.0)
        with pytest.raises(NotMeasurable, match="response of the estimate: "):
            metrics.t20_error(source=dry, estimate=dry, target=in_room(dry, room(0.5, 0)), sample_rate=RATE)

    def test_residue_falls_with_what_remains_of_the_room(self):
        dry, rir = voice(4.0), room(0.6, 0)
        wet = in_room(dry, rir)
        for share, expected in ((1, 0), (0.5, 6), (0.1, 20)):
            estimate = dry + share * (wet - dry)
            value = metrics.residual_drr_db(estimate=estimate, target=dry, sample_rate=RATE)
            assert value == pytest.approx(expected, abs=0.8)


class TestMeasure:
    def test_failures_are_told_from_values(self):
        dry = voice(0.5)
        table = {name: EVERY_METRIC[name] for name in ("si_sdr_db", "residual_drr_db")}
        scores = measure(table, source=dry, estimate=in_room(dry, room(0.3, 0)), target=dry, sample_rate=RATE)
        assert set(scores.values) == {"si_sdr_db"}
        assert "cannot determine a response" in scores.failures["residual_drr_db"]


class TestBootstrap:
    def test_agrees_with_scipy(self):
        values = np.random.default_rng(3).normal(2, 1, 60)
        expected = stats.bootstrap(
            (values,), np.mean, method="percentile", random_state=1
        ).confidence_interval
        assert np.allclose(bootstrap_interval(values), expected, atol=0.03)

    def test_covers_the_mean_of_a_normal_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        intervals = [bootstrap_interval(rng.standard_normal(40), seed=i, confidence=0.8) for i in range(200)]
        assert np.mean([low < 0 < high for low, high in intervals]) == pytest.approx(0.8, abs=0.08)

    def test_same_seed_same_interval(self):
        assert bootstrap_interval([1.0, 2.0, 4.0]) == bootstrap_interval([1.0, 2.0, 4.0])

    @pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan, 2.0]])
    def test_too_few_values(self, values):
        with pytest.raises(NotMeasurable, match="two or more values"):
            bootstrap_interval(values)


class TestTable:
    TABLE = Table(
        [
            Record("1", "dereverberation", "right photo", Scores({"pesq_wb": 2.0}, {})),
            Record("2", "dereverberation", "right photo", Scores({"pesq_wb": 3.0}, {"x": "no"})),
            Record(
                "1", "dereverberation", "untouched input", Scores({}, {"pesq_wb": "silent"}), system="input"
            ),
        ],
        {"pesq_wb": METRICS["dereverberation"]["pesq_wb"]},
    )

    def test_markdown(self):
        assert self.TABLE.markdown() == (
            "| system | scene | pesq_wb (MOS) ↑ |\n"
            "| --- | --- | --- |\n"
            "| mvsd | right photo | 2.5 [2, 3] |\n"
            "| input | untouched input | - (1 failed) |\n"
        )

    def test_text_holds_every_cell(self):
        text = self.TABLE.text()
        for cell in ("right photo", "2.5 [2, 3]", "- (1 failed)", "pesq_wb (MOS) ↑"):
            assert cell in text

    def test_csv_and_json_are_exact(self):
        rows = list(csv.DictReader(io.StringIO(self.TABLE.csv())))
        assert [row["mean"] for row in rows] == ["2.5", ""]
        assert [row["num_failures"] for row in rows] == ["0", "1"]
        first, second = json.loads(self.TABLE.json())
        assert first["cells"]["pesq_wb"] == {
            "mean": 2.5,
            "interval": [2.0, 3.0],
            "num_measured": 2,
            "num_failures": 0,
        }
        assert second["cells"]["pesq_wb"]["mean"] is None

    def test_empty_table_has_its_headings(self):
        assert Table([], {}).markdown() == "| system | scene |\n| --- | --- |\n"

    def test_record_is_jsonable(self):
        record = Record(
            "1", "reverberation", "no photo", Scores({"t20_error": 0.1}, {"drr_error_db": "silent"})
        )
        assert json.loads(json.dumps(record.to_dict()))["scores"]["failures"] == {"drr_error_db": "silent"}
