"""Speaker embeddings, trials and the equal error rate against closed forms and independent implementations."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, signal, stats
from voices import RATE, in_room, room, voice

from mvsd.errors import DataError, ModelFileError, MvsdError, NotMeasurable
from mvsd.evaluation import metrics
from mvsd.evaluation.metrics import speakers


class TestEqualErrorRate:
    @pytest.mark.parametrize("distance", [0.0, 1.0, 2.5])
    def test_two_normals_in_closed_form(self, distance):
        quantiles = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
        scores = np.concatenate([quantiles + distance, quantiles])
        rate = metrics.equal_error_rate(scores, np.arange(8000) < 4000)
        assert rate == pytest.approx(100 * stats.norm.cdf(-distance / 2), abs=0.03)

    @pytest.mark.parametrize(
        ("same", "other", "expected"),
        [
            ([3, 4], [1, 2], 0),
            ([1, 2], [3, 4], 100),
            ([1], [1], 50),
            ([1, 3], [2, 0], 50),
            ([1, 3, 5], [2, 0, -1], 100 / 3),
        ],
    )
    def test_few_scores_by_hand(self, same, other, expected):
        scores = np.array([*same, *other], float)
        assert metrics.equal_error_rate(scores, np.arange(len(scores)) < len(same)) == pytest.approx(expected)

    @given(seed=st.integers(0, 999), num_same=st.integers(1, 40), num_other=st.integers(1, 40))
    def test_agrees_with_root_finding_on_the_roc(self, seed, num_same, num_other):
        rng = np.random.default_rng(seed)
        same, other = rng.integers(0, 12, num_same) + 3.0, rng.integers(0, 12, num_other) + 0.0
        thresholds = np.append(np.unique([*same, *other]), 99)
        misses = [np.mean(same < t) for t in thresholds]
        alarms = [np.mean(other >= t) for t in thresholds]
        at = np.arange(len(thresholds))
        root = optimize.brentq(lambda x: np.interp(x, at, alarms) - np.interp(x, at, misses), 0, at[-1])
        rate = metrics.equal_error_rate(np.append(same, other), np.arange(num_same + num_other) < num_same)
        assert rate == pytest.approx(100 * np.interp(root, at, misses), abs=1e-6)

    def test_weights_count_as_copies(self):
        rng = np.random.default_rng(0)
        scores, same, count = rng.standard_normal(60), np.arange(60) < 25, rng.integers(0, 4, 60)
        scores[same] += 1
        assert metrics.equal_error_rate(scores, same, count) == pytest.approx(
            metrics.equal_error_rate(scores.repeat(count), same.repeat(count))
        )

    @pytest.mark.parametrize(
        ("scores", "same"), [([1.0], [True]), ([1.0, 2.0], [False, False]), ([np.nan, 1], [True, False])]
    )
    def test_one_kind_is_not_enough(self, scores, same):
        with pytest.raises(NotMeasurable, match="finite scores of both kinds"):
            metrics.equal_error_rate(np.array(scores), np.array(same))


class TestTrials:
    SPEAKERS = {f"{name}{i}": name for name in ("anna", "ben", "cleo", "dan") for i in range(5)}  # noqa: RUF012
    SEXES = {"anna": "f", "ben": "m", "cleo": "f", "dan": "m"}  # noqa: RUF012

    def test_pairs_are_different_clips_of_the_right_speakers(self):
        trials = metrics.make_trials(self.SPEAKERS)
        assert len(set(trials)) == len(trials) == 20 * 19
        assert sum(trial.is_same for trial in trials) == 4 * 5 * 4
        for trial in trials:
            assert trial.enrolled != trial.tested
            assert self.SPEAKERS[trial.enrolled] == trial.enrolled_speaker
            assert self.SPEAKERS[trial.tested] == trial.tested_speaker

    def test_no_utterance_is_compared_with_itself(self):
        said = {
            key: key[:-1] + str(int(key[-1]) // 2) for key in self.SPEAKERS
        }  # 0 and 1, 2 and 3 are the same
        trials = metrics.make_trials(self.SPEAKERS, utterances=said)
        same = [trial for trial in trials if trial.is_same]
        assert len(same) == 4 * (5 * 4 - 2 * 2)
        assert all(said[trial.enrolled] != said[trial.tested] for trial in same)
        known = {key: said[key] for key in said if key.startswith("anna")}
        assert len(metrics.make_trials(self.SPEAKERS, utterances=known)) == len(trials) + 3 * 4

    def test_same_seed_same_trials(self, tmp_path):
        trials = metrics.make_trials(self.SPEAKERS, num_trials=30, seed=1, sexes=self.SEXES)
        assert len(trials) == 60
        assert all(
            self.SEXES[t.enrolled_speaker] != self.SEXES[t.tested_speaker] for t in trials if not t.is_same
        )
        shuffled = dict(reversed(self.SPEAKERS.items()))
        assert metrics.make_trials(shuffled, num_trials=30, seed=1, sexes=self.SEXES) == trials
        assert metrics.make_trials(self.SPEAKERS, num_trials=30, seed=2, sexes=self.SEXES) != trials
        metrics.save_trials(trials, tmp_path / "trials.json")
        assert metrics.load_trials(tmp_path / "trials.json") == trials
        assert [path.name for path in tmp_path.iterdir()] == ["trials.json"]

    @pytest.mark.parametrize("text", ["", "[1]", '[{"enrolled": "a"}]', "{}{"])
    def test_other_files_are_refused(self, tmp_path, text):
        (tmp_path / "trials.json").write_text(text)
        with pytest.raises(DataError, match=r"trials\.json holds no list of trials"):
            metrics.load_trials(tmp_path / "trials.json")

    @pytest.mark.parametrize("speakers_of", [{}, {"a": "x", "b": "x"}, {"a": "x", "b": "y"}])
    def test_too_few_clips(self, speakers_of):
        with pytest.raises(NotMeasurable, match="some of both are needed"):
            metrics.make_trials(speakers_of)

    def test_rate_of_embeddings(self):
        rng = np.random.default_rng(0)
        centres = {name: rng.standard_normal(8) for name in self.SEXES}

        def embed(spread: float) -> dict[str, np.ndarray]:
            found = {
                key: centres[name] + spread * rng.standard_normal(8) for key, name in self.SPEAKERS.items()
            }
            return {key: point / np.linalg.norm(point) for key, point in found.items()}

        trials = metrics.make_trials(self.SPEAKERS)
        clear, blurred = (
            metrics.speaker_error_rate(trials, embed(0.01), embed(spread)) for spread in (0.01, 2)
        )
        assert clear.percent == 0
        assert 10 < blurred.percent < 60
        low, high = blurred.interval
        assert low <= blurred.percent <= high
        assert (blurred.num_same, blurred.num_other) == (80, 300)
        some = {key: point for key, point in embed(0.01).items() if key[-1] in "01"}
        assert metrics.speaker_error_rate(trials, some, some).num_same == 8


class TestSpeakerEmbedding:
    @pytest.fixture
    def resemblyzer(self, tmp_path, monkeypatch):
        """A package with weights of the published form, random."""
        torch.manual_seed(0)
        network = torch.nn.ModuleDict(
            {"lstm": torch.nn.LSTM(40, 256, 3, batch_first=True), "linear": torch.nn.Linear(256, 256)}
        )
        package = tmp_path / "resemblyzer"
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('its code is not wanted')")
        state = {**network.state_dict(), "similarity_weight": torch.ones(1)}
        torch.save({"step": 1, "model_state": state}, package / "pretrained.pt")
        monkeypatch.syspath_prepend(tmp_path)
        speakers._model.cache_clear()
        speakers._embedding.cache_clear()
        yield network
        speakers._model.cache_clear()
        speakers._embedding.cache_clear()

    def test_network_hears_the_mean_over_windows(self, resemblyzer):
        clip = voice(3.0)
        windows = torch.from_numpy(speakers.mel_windows(clip.astype(float)))
        with torch.no_grad():
            hidden = torch.stack([resemblyzer["lstm"](window[None])[0][0, -1] for window in windows])
            voices = torch.nn.functional.normalize(torch.relu(resemblyzer["linear"](hidden)), dim=1)
            expected = torch.nn.functional.normalize(voices.mean(0), dim=0).numpy()
        assert metrics.speaker_embedding(clip, RATE) == pytest.approx(expected, abs=1e-5)

    def test_similarity_is_the_cosine(self, resemblyzer):
        clip = voice(2.0)
        wet = in_room(clip, room(0.5, 0))
        first, second = (metrics.speaker_embedding(sound, RATE) for sound in (clip, wet))
        similarity = metrics.speaker_similarity(estimate=wet, target=clip, sample_rate=RATE)
        assert similarity == pytest.approx(float(first @ second), abs=1e-6)
        assert metrics.speaker_similarity(estimate=clip, target=clip, sample_rate=RATE) == pytest.approx(
            1, abs=1e-5
        )

    def test_mel_windows_follow_scipy_and_the_scale(self):
        clip = 0.3 * signal.chirp(np.arange(3 * RATE) / RATE, 100, 3, 7000)
        windows = speakers.mel_windows(clip)
        assert windows.shape == (3, 160, 40)
        assert np.array_equal(windows[0, 77:], windows[1, :83])
        transform = signal.ShortTimeFFT(signal.get_window("hann", 400), hop=160, fs=RATE)
        power = np.abs(transform.stft(clip, p0=0, p1=237)).T ** 2
        filters = speakers._mel_filters()
        assert filters.shape == (40, 201)
        # Highest points of librosa.filters.mel(sr=16000, n_fft=400, n_mels=40), version 0.11.
        assert filters[[0, 9, 39], [2, 18, 185]] == pytest.approx(
            [0.01240452, 0.01069154, 0.00172494], rel=1e-5
        )
        mels = np.concatenate([windows[0, :77], windows[1]])
        assert power @ filters.T == pytest.approx(mels, rel=1e-3, abs=1e-6)

    @pytest.mark.parametrize("num_samples", [1000, 25_600, 30_000, 45_000])
    def test_any_length(self, num_samples):
        assert speakers.mel_windows(voice(3.0)[:num_samples].astype(float)).shape[1:] == (160, 40)

    def test_missing_models_say_what_to_do(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        for name, reason in (
            ("resemblyzer", "pip install --no-deps resemblyzer"),
            ("speechbrain/spkrec-ecapa-voxceleb", "pip install speechbrain"),
        ):
            speakers._model.cache_clear()
            monkeypatch.setitem(sys.modules, "speechbrain", None)
            with pytest.raises(MvsdError, match=reason):
                metrics.speaker_embedding(voice(1.0, seed=9), RATE, name)

    def test_ecapa_by_speechbrain(self, monkeypatch):
        class Encoder:
            @classmethod
            def from_hparams(cls, source):
                assert source == "speechbrain/spkrec-ecapa-voxceleb"
                return cls()

            def encode_batch(self, waveforms):
                assert waveforms.shape == (1, RATE)
                return torch.tensor([[[3.0, 4.0]]])

        module = types.ModuleType("speechbrain.inference.speaker")
        module.EncoderClassifier = Encoder
        for name in ("speechbrain", "speechbrain.inference"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        speakers._model.cache_clear()
        embedding = metrics.speaker_embedding(voice(1.0, seed=8), RATE, "speechbrain/spkrec-ecapa-voxceleb")
        assert embedding == pytest.approx([0.6, 0.8])
        speakers._model.cache_clear()

    @pytest.mark.slow
    def test_x_vectors_and_words_by_transformers(self, tmp_path):
        transformers = pytest.importorskip("transformers")
        tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        tiny |= {
            "conv_dim": (8, 8),
            "conv_stride": (5, 8),
            "conv_kernel": (10, 8),
            "num_feat_extract_layers": 2,
        }
        tiny |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "xvector_output_dim": 12}
        tiny |= {"tdnn_dim": (8, 8), "tdnn_kernel": (3, 1), "tdnn_dilation": (1, 1), "vocab_size": 6}
        torch.manual_seed(0)
        config = transformers.Wav2Vec2Config(**tiny)
        extractor = transformers.Wav2Vec2FeatureExtractor()
        for folder, network in (
            ("voice", transformers.Wav2Vec2ForXVector(config)),
            ("words", transformers.Wav2Vec2ForCTC(config)),
        ):
            network.save_pretrained(tmp_path / folder)
            extractor.save_pretrained(tmp_path / folder)
        (tmp_path / "vocab.json").write_text('{"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5}')
        transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json")).save_pretrained(tmp_path / "words")
        embedding = metrics.speaker_embedding(voice(1.0), RATE, str(tmp_path / "voice"))
        assert embedding.shape == (12,)
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
        assert set(metrics.recognize(voice(1.0), str(tmp_path / "words"))) <= set("a <>unkps/")
        with pytest.raises(ModelFileError, match="no speaker network"):
            metrics.speaker_embedding(voice(1.0), RATE, str(tmp_path))
