"""SRMR and words against closed forms and independent implementations."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from voices import RATE, in_room, room, voice

from mvsd.audio import load_audio
from mvsd.errors import MissingExtraError, ModelFileError, NotMeasurable
from mvsd.evaluation import metrics
from mvsd.evaluation.metrics import words
from mvsd.evaluation.metrics.srmr import gammatone_filters
from mvsd.example import SAMPLES

WORDS = st.lists(st.sampled_from("abcd"), max_size=8)


class TestSrmr:
    @staticmethod
    def centres() -> np.ndarray:
        """Of the channels, lowest first: 23 steps on the ERB scale from 8 kHz down to 125 Hz."""
        erb_number = np.log(1 + np.array([8000, 125]) / (24.7 * 9.26449))
        steps = np.linspace(*erb_number, 24)[1:]
        return (24.7 * 9.26449 * (np.exp(steps) - 1))[::-1]

    def test_filters_are_those_of_scipy(self):
        for sections, centre in zip(gammatone_filters(RATE)[5:], self.centres()[5:], strict=True):
            frequencies = centre * np.array([0.7, 0.9, 1, 1.05])
            frequencies = frequencies[frequencies < 8000]
            _, expected = signal.freqz(*signal.gammatone(centre, "iir", fs=RATE), frequencies, fs=RATE)
            _, response = signal.freqz_sos(sections, frequencies, fs=RATE)
            assert np.abs(response) == pytest.approx(np.abs(expected), rel=5e-3)

    @pytest.mark.parametrize("wet", [False, True])
    def test_agrees_with_a_plain_implementation(self, wet):
        clip = in_room(voice(1.5), room(0.7, -3)) if wet else voice(1.5)
        centres, slow = self.centres(), 4 * 32 ** (np.arange(8) / 7)
        energy = np.zeros((23, 8))
        for channel, centre in enumerate(centres):
            envelope = np.abs(
                signal.hilbert(signal.lfilter(*signal.gammatone(centre, "iir", fs=RATE), clip.astype(float)))
            )
            for band, hz in enumerate(slow):
                moving = signal.lfilter(*signal.iirpeak(hz, 2, RATE), envelope)
                frames = [moving[i : i + 4096] for i in range(0, len(moving) - 4095, 1024)]
                energy[channel, band] = np.mean(
                    [np.sum((f * signal.windows.hamming(4096, False)) ** 2) for f in frames]
                )
        share = np.cumsum(energy.sum(1)) / energy.sum()
        bandwidth = 24.7 + centres[np.flatnonzero(share > 0.9)[0]] / 9.26449
        last = int(np.sum(slow * 0.75 <= bandwidth)) if bandwidth < slow[-1] * 0.75 else 8
        expected = energy[:, :4].sum() / energy[:, 4 : max(last, 5)].sum()
        assert metrics.srmr(estimate=clip, sample_rate=RATE) == pytest.approx(expected, rel=0.01)

    def test_level_does_not_matter_and_rooms_lower_it(self):
        dry = voice(2.0)
        value = metrics.srmr(estimate=dry, sample_rate=RATE)
        assert metrics.srmr(estimate=0.01 * dry, sample_rate=RATE) == pytest.approx(value, rel=1e-5)
        assert metrics.srmr(estimate=in_room(dry, room(1.2, -9)), sample_rate=RATE) < 0.9 * value

    def test_too_short(self):
        with pytest.raises(NotMeasurable, match=r"0\.256 s of sound, not 0\.200 s"):
            metrics.srmr(estimate=voice(0.2), sample_rate=RATE)


class TestWordErrors:
    @given(wanted=WORDS, heard=WORDS)
    def test_a_distance(self, wanted, heard):
        errors = words.num_word_errors(wanted, heard)
        assert errors == words.num_word_errors(heard, wanted)
        assert (errors == 0) == (wanted == heard)
        assert abs(len(wanted) - len(heard)) <= errors <= max(len(wanted), len(heard))

    @given(wanted=WORDS.filter(len), heard=WORDS)
    def test_agrees_with_jiwer(self, wanted, heard):
        jiwer = pytest.importorskip("jiwer")
        expected = jiwer.wer(" ".join(wanted), " ".join(heard))
        assert words.num_word_errors(wanted, heard) / len(wanted) == pytest.approx(expected)

    @given(wanted=WORDS, heard=WORDS)
    def test_agrees_with_the_recurrence(self, wanted, heard):
        def distance(i: int, j: int) -> int:
            if not i or not j:
                return i + j
            if (i, j) not in known:
                change = wanted[i - 1] != heard[j - 1]
                known[i, j] = min(
                    distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + change
                )
            return known[i, j]

        known: dict[tuple[int, int], int] = {}
        assert words.num_word_errors(wanted, heard) == distance(len(wanted), len(heard))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("MISTER Quilter's, (laughs) DAUGHTER-in-law!", "mister quilter's daughter in law"),
            ("Mr. Brown & Dr. Göbel \u2019tis [noise] 'quoted'", "mister brown and doctor gobel tis quoted"),
            ("don\u2019t\tstop_now 42 <unk>", "don't stop now 42"),
            (" ,.- ", ""),
        ],
    )
    def test_what_is_compared(self, text, expected):
        assert metrics.normalized_words(text) == expected.split()

    def test_percent_of_the_transcript(self, monkeypatch):
        monkeypatch.setattr(words, "_recognizer", lambda name: lambda samples: "a x c d d")
        rate = metrics.wer(estimate=voice(1.0), transcript="A, B; C. D", sample_rate=RATE)
        assert rate == 50
        with pytest.raises(NotMeasurable, match="no words"):
            metrics.wer(estimate=voice(1.0), transcript="...", sample_rate=RATE)


class TestRecognizers:
    def test_pocketsphinx_hears_the_words(self):
        pytest.importorskip("pocketsphinx")
        clip = load_audio(SAMPLES / "voice.flac")[0][0]
        words._recognizer.cache_clear()
        first = metrics.recognize(clip[: int(1.6 * RATE)])
        assert "welcome" in first
        transcript = "Hello, and welcome. Take a seat by the window."
        rate = metrics.wer(estimate=clip[: int(2.9 * RATE)], transcript=transcript, sample_rate=RATE)
        assert rate == 0
        assert metrics.recognize(clip[: int(1.6 * RATE)]) == first  # whatever came before
        loud = 0.99 * clip / np.abs(clip[: int(1.6 * RATE)]).max()
        assert metrics.recognize(30 * loud[: int(1.6 * RATE)]) == metrics.recognize(loud[: int(1.6 * RATE)])

    def test_pocketsphinx_forgets_the_noise_of_the_clip_before(self):
        pytest.importorskip("pocketsphinx")
        rng, clip = np.random.default_rng(0), load_audio(SAMPLES / "voice.flac")[0][0][: 4 * RATE]
        peak = np.abs(clip).max()
        noisy = clip + 0.05 * peak * rng.standard_normal(len(clip))
        words._recognizer.cache_clear()
        first = metrics.recognize(noisy)
        metrics.recognize(0.3 * peak * rng.standard_normal(RATE))
        assert metrics.recognize(noisy) == first

    def test_missing_recogniser_says_what_to_install(self, monkeypatch):
        def fail(module: str) -> None:
            raise ModuleNotFoundError(name=module)

        monkeypatch.setattr(importlib, "import_module", fail)
        words._recognizer.cache_clear()
        with pytest.raises(MissingExtraError, match=r'pocketsphinx is not .*"\.\[asr\]"'):
            metrics.recognize(voice(1.0))
        with pytest.raises(MissingExtraError, match=r'transformers is not .*"\.\[transformers\]"'):
            metrics.recognize(voice(1.0), "openai/whisper-tiny.en")

    @pytest.mark.parametrize(
        ("kind", "options"), [("ctc", {}), ("seq2seq_whisper", {"return_timestamps": True})]
    )
    def test_transformers_gets_the_clip_at_its_rate(self, monkeypatch, kind, options):
        class Pipeline:
            type = kind

            def __call__(self, clip, **given):
                assert given == options
                assert clip["raw"].dtype == np.float32
                assert clip["sampling_rate"] == RATE
                return {"text": f"{len(clip['raw'])} samples"}

        def pipeline(task, *, model, device):
            assert (task, device) == ("automatic-speech-recognition", "cpu")
            if model == "nobody/nothing":
                raise OSError("not a folder\nnor a name")
            return Pipeline()

        monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(pipeline=pipeline))
        words._recognizer.cache_clear()
        assert metrics.recognize(voice(1.0), "somebody/something") == "16000 samples"
        with pytest.raises(ModelFileError, match="nobody/nothing is no speech recogniser .*: not a folder;"):
            metrics.recognize(voice(1.0), "nobody/nothing")
        words._recognizer.cache_clear()
