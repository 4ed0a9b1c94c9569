"""Every metric against a closed form or an independent implementation, and the table."""

from __future__ import annotations

import csv
import importlib
import io
import json
import pickle
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal, stats
from voices import RATE, in_room, room, voice

from mvsd.blind import BlindConfig, BlindEstimator
from mvsd.errors import ConfigError, MissingExtraError, NotMeasurable
from mvsd.evaluation import metrics
from mvsd.evaluation.metrics import (
    METRICS,
    MORE_METRICS,
    Metric,
    Scores,
    bootstrap_interval,
    choose,
    measure,
    rt60,
    speech,
    versions,
    words,
)
from mvsd.evaluation.table import Record, Table

CLIPS = ("source", "estimate", "target")


def call(metric: Metric, rate: int = RATE, **clips: np.ndarray) -> float:
    known = {"transcript": "one two", **clips}
    return metric.function(**{name: known[name] for name in metric.inputs}, sample_rate=rate)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """A blind estimator with random weights, and a recogniser that hears two words in everything."""
    estimator = BlindEstimator(BlindConfig(channels=(4, 4, 4, 4, 4), hidden=8)).eval()
    monkeypatch.setattr(rt60, "_blind_network", lambda path, changed: estimator)
    monkeypatch.setattr(words, "_recognizer", lambda name: lambda samples: "one three")
    rt60._rt60.cache_clear()
    speech._rating.cache_clear()


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
        if metric is EVERY_METRIC["wer"] and spoil is np.zeros_like:
            assert (
                call(metric, source=dry, estimate=spoil(dry), target=dry) == 100
            )  # no word is left: it is known
            return
        with pytest.raises(NotMeasurable, match=reason):
            call(metric, source=dry, estimate=spoil(dry), target=dry)

    @pytest.mark.parametrize("name", [name for name, m in EVERY_METRIC.items() if "target" in m.inputs])
    def test_different_lengths_are_refused(self, name):
        dry = voice(2.0)
        with pytest.raises(NotMeasurable, match=r"has 3\d+ samples"):
            call(EVERY_METRIC[name], source=dry, estimate=dry[:-1], target=dry)

    @pytest.mark.parametrize(
        "name", ["pesq_wb", "dnsmos", "mose", "stft_distance", "log_stft_distance", "wer"]
    )
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
        speech._dnsmos_network.cache_clear()
        with pytest.raises(MissingExtraError, match=rf'{package} is not installed; .*"\.\[metrics\]"'):
            call(EVERY_METRIC[name], estimate=voice(1.0), target=voice(1.0))


class TestSpeechQuality:
    def test_pesq_of_identical_clips_is_the_top_of_the_scale(self):
        pytest.importorskip("pesq")
        dry = voice()
        assert metrics.pesq_wb(estimate=0.5 * dry, target=dry, sample_rate=RATE) == pytest.approx(
            4.644, abs=2e-3
        )

    def test_pesq_of_what_its_code_has_no_room_for(self):
        minute = np.tile(voice(), 60)[: 60 * RATE]
        with pytest.raises(NotMeasurable, match="up to 40 s, not of 60 s"):
            metrics.pesq_wb(estimate=minute, target=minute, sample_rate=RATE)

    def test_pesq_and_stoi_fall_with_reverberation(self):
        pytest.importorskip("pesq")
        pytest.importorskip("pystoi")
        dry = voice()
        near, far = in_room(dry, room(0.3, 10)), in_room(dry, room(0.9, -6))
        for metric in (metrics.pesq_wb, metrics.stoi, metrics.estoi):
            values = [metric(estimate=clip, target=dry, sample_rate=RATE) for clip in (dry, near, far)]
            assert values == sorted(values, reverse=True)

    def test_the_target_is_the_reference(self):
        pesq, pystoi = pytest.importorskip("pesq"), pytest.importorskip("pystoi")
        dry = voice()
        wet = in_room(dry, room(0.6, 0))
        pair = dry.astype(float), wet.astype(float)
        found = metrics.pesq_wb(estimate=wet, target=dry, sample_rate=RATE)
        assert found == pytest.approx(pesq.pesq(RATE, *pair, "wb"))
        for metric, extended in ((metrics.stoi, False), (metrics.estoi, True)):
            expected = pystoi.stoi(*pair, RATE, extended=extended)
            assert metric(estimate=wet, target=dry, sample_rate=RATE) == pytest.approx(expected)

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

        monkeypatch.setattr(speech, "_dnsmos_network", Network)
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
        assert metrics.spectra.magnitude(estimate / np.abs(estimate).max()).shape == magnitude(estimate).shape
        expected = np.mean((np.log(magnitude(estimate) + 1e-5) - np.log(magnitude(target) + 1e-5)) ** 2)
        value = metrics.log_stft_distance(estimate=estimate, target=target, sample_rate=RATE)
        assert value == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("metric", [metrics.stft_distance, metrics.log_stft_distance])
    def test_level_does_not_matter(self, metric):
        target, _ = self.clips()
        assert metric(estimate=-0.25 * target, target=target, sample_rate=RATE) == pytest.approx(0, abs=1e-9)


class TestMos:
    def test_error_is_that_of_the_two_ratings(self):
        pytest.importorskip("onnxruntime")
        pytest.importorskip("speechmos")
        dry = voice(3.0)
        wet = in_room(dry, room(0.8, -5))
        ratings = [metrics.dnsmos(estimate=clip, sample_rate=RATE) for clip in (dry, wet)]
        error = metrics.mose(estimate=wet, target=dry, sample_rate=RATE)
        assert error == pytest.approx(abs(ratings[0] - ratings[1]), abs=1e-12)
        assert error > 0.02
        assert metrics.mose(estimate=wet, target=wet, sample_rate=RATE) == 0


class TestMeasure:
    def test_failures_are_told_from_values(self):
        dry = voice(0.5)
        table = {name: EVERY_METRIC[name] for name in ("si_sdr_db", "residual_drr_db")}
        scores = measure(table, source=dry, estimate=in_room(dry, room(0.3, 0)), target=dry, sample_rate=RATE)
        assert set(scores.values) == {"si_sdr_db"}
        assert "cannot determine a response" in scores.failures["residual_drr_db"]

    def test_what_is_not_known_is_a_failure(self):
        table = {name: EVERY_METRIC[name] for name in ("wer", "stft_distance", "srmr")}
        scores = measure(table, estimate=voice(1.0), sample_rate=RATE)
        assert set(scores.values) == {"srmr"}
        assert scores.failures == {
            "wer": "the transcript is not known",
            "stft_distance": "the target is not known",
        }

    def test_words_weigh_a_word_error_rate(self):
        scores = measure(
            {"wer": EVERY_METRIC["wer"]}, estimate=voice(1.0), transcript="One, two.", sample_rate=RATE
        )
        assert scores.values == {"wer": 50.0}
        assert scores.weights == {"wer": 2.0}

    def test_a_missing_package_is_no_failure_of_a_clip(self, monkeypatch):
        def fail(module: str) -> None:
            raise ModuleNotFoundError(name=module)

        monkeypatch.setattr(importlib, "import_module", fail)
        with pytest.raises(MissingExtraError, match="pesq"):
            measure(
                {"pesq_wb": EVERY_METRIC["pesq_wb"]}, estimate=voice(1.0), target=voice(1.0), sample_rate=RATE
            )


class TestCatalogue:
    @pytest.mark.parametrize("task", METRICS)
    def test_every_metric_says_what_it_is(self, task):
        for name, metric in {**METRICS[task], **MORE_METRICS[task]}.items():
            assert len(metric.definition) > 60, name
            assert metric.unit in ("", "s", "dB", "MOS", "%")
            if metric.unit == "dB":
                assert "_db" in name

    def test_definition_of_an_octave_band_says_which(self):
        definition = MORE_METRICS["reverberation"]["t20_error_500hz"].definition
        assert definition.startswith("Absolute difference in seconds of the T20")
        assert definition.endswith("Here: band_hz = 500.")

    def test_metrics_are_pages_of_the_documentation(self):
        page = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
        for name in {*EVERY_METRIC, "speaker_similarity", "speaker_error_rate"}:
            assert f"`{name}`" in page, name

    def test_metrics_go_to_other_processes(self):
        for task, metrics_of_task in METRICS.items():
            everything = {**metrics_of_task, **MORE_METRICS[task]}
            assert pickle.loads(pickle.dumps(everything)).keys() == everything.keys()

    def test_choice_is_what_the_data_allow(self):
        assert "wer" not in choose("dereverberation")
        assert "wer" in choose("dereverberation", known={"estimate", "target", "transcript"})
        assert set(choose("reverberation", known={"estimate"})) == set()
        assert list(choose("reverberation", ["t20_error_500hz", "rte"])) == ["t20_error_500hz", "rte"]
        with pytest.raises(ConfigError, match="no metric 'pesc_wb' of dereverberation; did you mean pesq_wb"):
            choose("dereverberation", ["pesc_wb"])

    def test_versions_name_the_libraries(self):
        assert versions()["numpy"] == np.__version__
        assert all(isinstance(version, str) for version in versions().values())

    def test_versions_of_the_baselines(self, monkeypatch):
        monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} 1")
        assert versions()["nara-wpe"] == "nara-wpe 1"


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

    def test_weighted_mean_is_in_its_interval(self):
        rng = np.random.default_rng(0)
        num_words, errors = rng.integers(1, 40, 100), rng.random(100)
        low, high = bootstrap_interval(errors, weights=num_words)
        assert low < np.average(errors, weights=num_words) < high
        assert bootstrap_interval(errors, weights=3 * np.ones(100)) == pytest.approx(
            bootstrap_interval(errors)
        )

    def test_values_of_one_group_are_drawn_together(self):
        rng = np.random.default_rng(0)
        alone, copies = rng.standard_normal(40), 5
        repeated, groups = np.repeat(alone, copies), np.repeat([f"s{i}" for i in range(40)], copies)
        assert bootstrap_interval(repeated, groups=groups) == pytest.approx(
            bootstrap_interval(alone), abs=0.05
        )
        width, narrow = (np.subtract(*bootstrap_interval(repeated, groups=g)[::-1]) for g in (groups, None))
        assert width / narrow == pytest.approx(np.sqrt(copies), rel=0.15)
        assert bootstrap_interval(repeated, groups=["one"] * len(repeated)) == bootstrap_interval(repeated)

    def test_groups_of_different_sizes_cover_the_mean(self):
        rng, inside = np.random.default_rng(0), 0
        for trial in range(200):
            sizes = rng.integers(1, 12, 40)
            values = np.repeat(rng.standard_normal(40), sizes) + rng.standard_normal(sizes.sum())
            groups = np.repeat(np.arange(40).astype(str), sizes)
            low, high = bootstrap_interval(values, seed=trial, confidence=0.8, groups=groups)
            inside += low < 0 < high
        assert inside / 200 == pytest.approx(0.8, abs=0.08)

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
        assert self.TABLE.grid.markdown() == (
            "| system | scene | pesq_wb (MOS) ↑ |\n"
            "| --- | --- | --- |\n"
            "| mvsd | right photo | 2.5 [2, 3] |\n"
            "| input | untouched input | - (1 failed) |\n"
        )

    def test_text_holds_every_cell(self):
        text = self.TABLE.grid.text()
        for cell in ("right photo", "2.5 [2, 3]", "- (1 failed)", "pesq_wb (MOS) ↑"):
            assert cell in text

    def test_csv_and_cells_are_exact(self):
        rows = list(csv.DictReader(io.StringIO(self.TABLE.csv())))
        assert [row["mean"] for row in rows] == ["2.5", ""]
        assert [row["num_failures"] for row in rows] == ["0", "1"]
        first, second = (asdict(row.cells["pesq_wb"]) for row in self.TABLE.rows)
        assert first == {"mean": 2.5, "interval": (2.0, 3.0), "num_measured": 2, "num_failures": 0}
        assert second["mean"] is None

    def test_empty_table_has_its_headings(self):
        assert Table([], {}).grid.markdown() == "| system | scene |\n| --- | --- |\n"

    def test_record_is_jsonable(self):
        record = Record(
            "1", "reverberation", "no photo", Scores({"t20_error": 0.1}, {"drr_error_db": "silent"})
        )
        assert json.loads(json.dumps(record.to_dict()))["scores"]["failures"] == {"drr_error_db": "silent"}
