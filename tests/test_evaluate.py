"""Systems on a data set: the same numbers every time, failures with reasons, and no clip computed twice."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from benchmark_fixtures import (
    soundspaces_record,
    synthetic_room,
    synthetic_voice,
    write_avspeech,
    write_soundspaces,
)
from command_line import fails, posix_only, run_here, started
from evaluation_fixtures import DAMPER, RATE, example, room, voice
from scipy import stats

import mvsd
from mvsd.acoustics import convolve, decay_time, drr_db, fit_response
from mvsd.cli import main
from mvsd.data.example import Example
from mvsd.data.shards import Shards, write_shards
from mvsd.data.speech import Speech
from mvsd.errors import ConfigError, DataError, MvsdError, NotMeasurable, OutputExistsError
from mvsd.evaluation.clips import SpeechInRooms, make_clip
from mvsd.evaluation.evaluate import _record_folders, evaluate, require_apart
from mvsd.evaluation.identity import tree_identity
from mvsd.evaluation.metrics import Metric, Scores
from mvsd.evaluation.results import FILES, Results
from mvsd.evaluation.settings import Settings, known_inputs, load_clip, open_examples
from mvsd.evaluation.systems import (
    WPE,
    ConstantRoom,
    GroundTruth,
    Model,
    Processed,
    TrueDecay,
    TrueResponse,
    Untouched,
    choose_room,
    parse_system,
    references,
)
from mvsd.evaluation.table import Grid, Record, Table, differences, differences_grid
from mvsd.evaluation.voices import compare_voices

CHEAP = ("si_sdr_db", "stft_distance")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips in four rooms."""
    folder = tmp_path_factory.mktemp("data")
    write_shards([example(index) for index in range(4)], folder, prefix="x")
    return folder


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which somebody's own module lies."""
    (tmp_path / "damper.py").write_text(DAMPER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("damper", "moody", "package")]:
        del sys.modules[name]


MOODY = """
from pathlib import Path


class Moody:
    def convert(self, waveform, sample_rate, scene=None, *, seed=0):
        if not Path("well").exists():
            raise MemoryError("not now")
        return waveform
"""


def settings(data: Path, *systems: Any, **options: Any) -> Settings:
    systems = systems or (Untouched(), GroundTruth(), Model("damper", "damper:Damper"))
    return Settings("dereverberation", str(data), systems, **{"metrics": CHEAP, **options})


# ------------------------------------------------------------------------------------------------ clips


def test_a_clip_has_source_target_and_the_photo_of_another_room(data: Path) -> None:
    examples = Shards(data)
    clip = make_clip(examples, 1, "dereverberation", seed=10)
    np.testing.assert_array_equal(clip.source, examples[1].reverberant)
    np.testing.assert_array_equal(clip.target, examples[1].anechoic)
    np.testing.assert_array_equal(clip.dry, examples[1].anechoic)
    assert clip.scene.image[0, 0, 0] == pytest.approx(20, abs=2)
    assert clip.wrong_scene.image[0, 0, 0] == pytest.approx(60, abs=2)
    assert clip.seed == 11
    other_way = make_clip(examples, 1, "reverberation")
    np.testing.assert_array_equal(other_way.source, clip.target)
    np.testing.assert_array_equal(other_way.target, clip.source)


def test_the_wrong_photo_skips_the_same_room() -> None:
    rooms = ["a", "a", "a", "b"]
    examples = [example(i, metadata={"room": name}) for i, name in enumerate(rooms)]
    assert make_clip(examples, 0, "reverberation").wrong_scene.image[0, 0, 0] == 60
    assert make_clip(examples[:3], 0, "reverberation").wrong_scene is None
    assert make_clip([example(0, scene=None)], 0, "reverberation").wrong_scene is None


@pytest.mark.parametrize("names", [["a"] * 200 + ["b"] * 100, ["a", "b"] * 100], ids=["few rooms", "in turn"])
def test_the_wrong_photo_is_looked_for_all_over_the_data(names: list[str]) -> None:
    first, scenes = example(0), {"a": example(1).scene, "b": example(2).scene}
    examples = [replace(first, scene=scenes[name], metadata={"room": name}) for name in names]
    assert make_clip(examples, 0, "reverberation").wrong_scene is scenes["b"]
    assert make_clip(examples, len(names) - 1, "reverberation").wrong_scene is scenes["a"]


def test_the_wrong_photo_is_never_that_of_a_damaged_example() -> None:
    class Damaged(list):  # type: ignore[type-arg]
        def __getitem__(self, index: Any) -> Any:
            if index == 2:
                raise DataError("damaged")
            return super().__getitem__(index)

    examples = Damaged(example(i) for i in range(4))
    assert make_clip(examples, 0, "reverberation").wrong_scene.image[0, 0, 0] == 60


def test_an_example_without_a_source_is_refused_and_a_built_source_is_not_dry() -> None:
    with pytest.raises(DataError, match="no dry voice.*--speech"):
        make_clip([example(0, anechoic=None)], 0, "reverberation")
    built = make_clip([example(0, metadata={"source": {"snr_db": 3.0}})], 0, "reverberation")
    assert built.true_source is None and built.dry is None
    back = make_clip([example(0, metadata={"source": {"snr_db": 3.0}})], 0, "dereverberation")
    assert back.target is None and back.dry is None and len(back.source)


def test_speech_in_rooms_is_the_voice_in_the_room(tmp_path: Path) -> None:
    names = [f"set/{speaker}/{number}.wav" for speaker in ("ann", "bob") for number in range(2)]
    for seed, name in enumerate(names):
        (tmp_path / "speech" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "speech" / name, voice(seed, 1 + seed / 2), RATE)
    (tmp_path / "speech" / "manifest.csv").write_text("path,transcript\nset/bob/1.wav,hello there\n")
    rooms = [example(index, anechoic=None, reverberant=None) for index in range(6)]
    speech = Speech(tmp_path / "speech", tmp_path / "cache", ["set/bob/*"], only_holdout=True)
    mixed = SpeechInRooms(rooms, speech, seconds=1.0)
    assert len(mixed) == 6
    for got in mixed[:3]:
        assert len(got.anechoic) == RATE
        np.testing.assert_allclose(got.reverberant, convolve(got.anechoic, got.rir)[:RATE], atol=1e-5)
        assert max(np.abs(got.anechoic).max(), np.abs(got.reverberant).max()) == pytest.approx(0.5)
        assert got.metadata["speaker"] == "set/bob" and "transcript" not in got.metadata
    again = SpeechInRooms(rooms, speech, seconds=1.0)[4]
    np.testing.assert_array_equal(again.anechoic, mixed[4].anechoic)
    shifted = SpeechInRooms(rooms, speech, seconds=1.0, seed=1)
    assert [e.metadata["utterance"] for e in shifted[:5]] == [e.metadata["utterance"] for e in mixed[1:]]
    whole = list(SpeechInRooms(rooms, speech, seconds=0))
    lengths = {e.metadata["utterance"]: (len(e.anechoic), e.metadata.get("transcript")) for e in whole}
    assert lengths == {"set/bob/0.wav": (2 * RATE, None), "set/bob/1.wav": (2.5 * RATE, "hello there")}
    with pytest.raises(DataError, match="lasts 9 s"):
        SpeechInRooms(rooms, speech, seconds=9)
    old = example(0, metadata={"room": "hall", "transcript": "other words", "level": 3.0})
    facts = SpeechInRooms([old], speech, seconds=1.0)[0].metadata
    assert facts["room"] == "hall" and not {"transcript", "level"} & set(facts)  # those were of another voice


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e6, 1e-5, -1.0])
def test_a_length_that_is_none_is_refused(seconds: float, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(0), RATE)
    with pytest.raises(DataError, match="cannot be made; give --seconds 0 for whole utterances, or 0.01 to"):
        SpeechInRooms([example(0)], Speech(tmp_path, tmp_path / "cache"), seconds=seconds)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Three utterances of two speakers."""
    for seed, name in enumerate(("ann/0", "bob/0", "bob/1")):
        path = tmp_path / "speech" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, voice(seed), RATE)
    return tmp_path / "speech"


def test_the_options_of_speech_reach_the_clips(data: Path, speech: Path, tmp_path: Path) -> None:
    options = {"speakers": ("bob/*",), "cache": str(tmp_path / "cache"), "seconds": 0.5, "seed": 3}
    chosen = settings(data, Untouched(), speech=str(speech), **options)
    bob = Speech(speech, tmp_path / "cache", ("bob/*",), only_holdout=True)
    wanted = SpeechInRooms(Shards(data), bob, seconds=0.5, seed=3)
    clips = [load_clip(chosen, index) for index in range(4)]
    for clip, one in zip(clips, wanted, strict=True):
        assert clip.metadata["utterance"] == one.metadata["utterance"]
        assert clip.metadata["speaker"] == "bob" and len(clip.source) == RATE // 2
        np.testing.assert_array_equal(clip.target, one.anechoic)


def test_a_transcript_that_is_no_text_is_none() -> None:
    clips = [
        make_clip([example(0, metadata={"transcript": said})], 0, "dereverberation") for said in (3, "a")
    ]
    assert [known_inputs(clip).get("transcript") for clip in clips] == [None, "a"]


# ---------------------------------------------------------------------------------------------- systems


@pytest.mark.parametrize(("rt60", "ratio"), [(0.3, 5.0), (0.8, -3.0)])
def test_the_constant_room_has_its_rt60_and_drr(rt60: float, ratio: float) -> None:
    rir = ConstantRoom(rt60, ratio).response(RATE, seed=1)
    assert decay_time(rir, RATE) == pytest.approx(rt60, rel=0.05)
    assert drr_db(rir, RATE) == pytest.approx(ratio, abs=0.05)
    assert rir[0] == 1


def test_the_constant_room_is_chosen_by_medians_of_known_or_fitted_responses() -> None:
    times, ratios = (0.2, 0.3, 0.7), (-3.0, 6.0, 4.0)
    rirs = [ConstantRoom(*pair).response(RATE, 5) for pair in zip(times, ratios, strict=True)]
    known = [Example("k", rir=rir) for rir in rirs]
    assert choose_room(known) == (pytest.approx(0.3, rel=0.05), pytest.approx(4.0, abs=0.1))
    dry = voice(0, 3.0)
    fitted = [Example("f", anechoic=dry, reverberant=convolve(dry, rir)[: len(dry)]) for rir in rirs]
    assert choose_room(fitted) == (pytest.approx(0.3, rel=0.1), pytest.approx(4.0, abs=0.5))
    with pytest.raises(DataError, match="--constant"):
        choose_room([Example("nothing")])

    opened = list[int]()

    class Damaged(list):  # type: ignore[type-arg]
        def __getitem__(self, index: Any) -> Any:
            opened.append(index)
            if index == 0:
                raise DataError("damaged")
            return super().__getitem__(index)

    assert choose_room(Damaged([known[0], *known])) == choose_room(known)
    assert opened == [0, 1, 2, 3]  # each once


def test_the_true_response_gives_the_target(data: Path) -> None:
    clip = make_clip(Shards(data), 2, "reverberation")
    np.testing.assert_allclose(TrueResponse().estimate(clip, ""), clip.target, atol=1e-5)
    louder = make_clip([example(2, metadata={"level": 3.0})], 0, "reverberation")
    np.testing.assert_allclose(TrueResponse().estimate(louder, ""), 3 * clip.target, atol=1e-4)
    with pytest.raises(NotMeasurable, match="impulse response"):
        TrueResponse().estimate(make_clip([example(0, rir=None)], 0, "reverberation"), "")


def test_the_true_decay_has_the_measures_of_the_true_response_and_other_detail(data: Path) -> None:
    clip = make_clip([example(2, metadata={"level": 3.0})], 0, "reverberation")
    rir = clip.rir
    assert rir is not None
    wet = TrueDecay().estimate(clip, "")
    fitted = fit_response(clip.source, wet / 3, RATE, 0.4)
    assert drr_db(fitted, RATE) == pytest.approx(drr_db(rir, RATE), abs=0.7)
    assert decay_time(fitted, RATE) == pytest.approx(decay_time(rir, RATE), rel=0.15)
    assert np.linalg.norm(wet - clip.target) > 0.1 * np.linalg.norm(clip.target)
    with pytest.raises(NotMeasurable, match="impulse response"):
        TrueDecay().estimate(make_clip([example(0, rir=None)], 0, "reverberation"), "")


def test_wpe_takes_room_away_at_any_length() -> None:
    pytest.importorskip("nara_wpe")
    clip = make_clip([example(0, rir=room(0, 0.6), reverberant=None)], 0, "dereverberation")
    estimate = WPE().estimate(clip, "")
    assert estimate.shape == clip.source.shape and estimate.dtype == np.float32

    def error(waveform: np.ndarray) -> float:
        return float(np.mean((waveform - clip.target) ** 2))

    assert error(estimate) < 0.8 * error(clip.source)
    odd = make_clip([example(0, reverberant=voice(0)[:9_999])], 0, "dereverberation")
    assert len(WPE().estimate(odd, "")) == 9_999


def test_a_folder_of_processed_files(tmp_path: Path, data: Path) -> None:
    clip = make_clip(Shards(data), 0, "dereverberation")
    for condition, sound in (("right-photo", clip.target), ("no-photo", clip.source)):
        (tmp_path / condition).mkdir()
        soundfile.write(tmp_path / condition / "clip-0.flac", sound, RATE, "PCM_24")
    system = parse_system(f"theirs={tmp_path}", "dereverberation")
    assert system.name == "theirs" and system.conditions == ("right photo", "no photo")
    np.testing.assert_allclose(system.estimate(clip, "right photo"), clip.target, atol=1e-6)
    np.testing.assert_allclose(system.estimate(clip, "no photo"), clip.source, atol=1e-6)
    with pytest.raises(NotMeasurable, match="no file that is named after the clip"):
        system.estimate(make_clip(Shards(data), 1, "dereverberation"), "right photo")
    flat = Processed("flat", str(tmp_path / "no-photo"))
    assert flat.conditions == ("",)
    soundfile.write(tmp_path / "no-photo" / "clip-0.flac", np.pad(clip.source[:-100], (0, 0)), RATE, "PCM_24")
    assert not flat.estimate(clip, "")[-100:].any() and len(flat.estimate(clip, "")) == RATE
    soundfile.write(tmp_path / "no-photo" / "clip-0.flac", clip.source[: RATE // 2], RATE)
    with pytest.raises(NotMeasurable, match=r"lasts 0.500 s, the clip 1.000 s"):
        flat.estimate(clip, "")


def test_a_key_cannot_leave_the_folder(tmp_path: Path, data: Path) -> None:
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "secret.wav", voice(0), RATE)
    clip = make_clip([example(0, metadata={"name": "../secret"})], 0, "dereverberation")
    with pytest.raises(NotMeasurable, match="no file"):
        Processed("p", str(tmp_path / "in")).estimate(clip, "")


def test_what_a_system_may_be(tmp_path: Path, tiny_models: Any, code: Path) -> None:
    from mvsd.converter import Converter

    def parse(text: str) -> Any:
        return parse_system(text, "dereverberation", steps=3)

    assert parse("dereverberator") == Model("dereverberator", "dereverberator", steps=3)
    assert parse(f"a={tiny_models.dereverberator}").name == "a"
    Converter.load(tiny_models.dereverberator).save_pretrained(tmp_path / "saved")
    assert parse(f"{tmp_path / 'saved'}") == Model(
        "saved", str(tmp_path / "saved" / "model.safetensors"), steps=3
    )
    assert isinstance(parse(f"{tmp_path}"), Processed)
    for name in ("reverberator", "dereverberator"):  # as a training run has both
        (tmp_path / "run").mkdir(exist_ok=True)
        shutil.copy(getattr(tiny_models, name), tmp_path / "run" / f"{name}.safetensors")
    of_run = str(tmp_path / "run" / "dereverberator.safetensors")
    assert parse(f"own={tmp_path / 'run'}") == Model("own", of_run, steps=3)
    with pytest.raises(MvsdError, match="is a training run; give .*reverberator.safetensors or .*de"):
        mvsd.load(tmp_path / "run")
    Path(of_run).unlink()
    with pytest.raises(MvsdError, match="is a training run; give .*/reverberator.safetensors"):
        parse(f"own={tmp_path / 'run'}")
    assert parse("m=damper:Damper") == Model("m", "damper:Damper", steps=3)
    assert parse("damper:Damper").name == "damper:Damper"
    for text, says in (
        ("reverberator", "not made for dereverberation"),
        ("missing.safetensors", "is no system; wanted is dereverberator, a model file"),
        ("=x", "no name"),
        ("x=", "no name"),
    ):
        with pytest.raises(MvsdError, match=says):
            parse(text)
    assert [system.name for system in references("dereverberation")] == ["WPE"]
    assert [s.name for s in references("reverberation", (0.5, 1.0))] == [
        "constant room (0.50 s, 1.0 dB)",
        "true T20 and DRR",
        "true response",
    ]


# ------------------------------------------------------------------------------------------- evaluation


def test_rows_conditions_and_values(data: Path, code: Path) -> None:
    records = evaluate(settings(data), code / "out")
    rows = list(dict.fromkeys((record.system, record.condition) for record in records))
    damper = [("damper", condition) for condition in ("right photo", "no photo", "wrong photo")]
    assert rows == [("untouched input", ""), ("ground truth", ""), *damper]
    assert [record.clip for record in records if record.system == "ground truth"] == [
        f"clip-{i}" for i in range(4)
    ]
    clip = make_clip(Shards(data), 3, "dereverberation")
    (record,) = (r for r in records if (r.clip, r.condition) == ("clip-3", "wrong photo"))
    noise = np.random.default_rng(3).standard_normal(RATE)
    estimate = clip.source + 0.001 * (1 + int(clip.wrong_scene.image[0, 0, 0])) * noise
    projection = (estimate @ clip.target) / (clip.target @ clip.target) * clip.target
    si_sdr = 10 * math.log10((projection**2).sum() / ((projection - estimate) ** 2).sum())
    assert record.scores.values["si_sdr_db"] == pytest.approx(si_sdr, abs=1e-3)


class InPlace:
    """Somebody's converter that writes into what it is given."""

    def convert(self, waveform: np.ndarray, sample_rate: int, scene: Any, *, seed: int) -> np.ndarray:
        waveform *= 0
        return waveform


def test_a_converter_cannot_change_what_the_next_is_given(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(Shards(data), 0, "dereverberation")
    before = clip.source.copy()
    monkeypatch.setattr("mvsd.evaluation.systems.open_converter", lambda spec, device: InPlace())
    # Steps are for model files: the method of somebody's converter does not know them.
    assert not Model("mine", "mine:InPlace", steps=4).estimate(clip, "right photo").any()
    np.testing.assert_array_equal(clip.source, before)


def test_failures_have_reasons_and_no_value(data: Path, code: Path) -> None:
    broken = Model("broken", "damper:Broken")
    records = evaluate(settings(data, GroundTruth(), broken), code / "out")
    truth = records[0].scores
    assert truth.values == {"stft_distance": 0.0} and "infinite" in truth.failures["si_sdr_db"]
    found = {(r.clip, r.condition): r.scores for r in records if r.system == "broken"}
    assert all(scores.values == {} for scores in found.values())
    reasons = {key: set(scores.failures.values()) for key, scores in found.items()}
    assert reasons["clip-0", "no photo"] == {"damper:Broken raised ZeroDivisionError: no photo, no room"}
    assert {next(iter(r)) for (_, condition), r in reasons.items() if condition == "right photo"} <= {
        "broken made (15999,) of (16000,) samples",
        "broken made samples that are not finite",
    }
    results = Results(settings(data, GroundTruth(), broken), records)
    assert (
        sum(map(len, results.failures().values())) == 4 * 3
    )  # of both metrics at once, and not of the truth
    assert results.without_figures == ["broken"]
    assert "- (4 failed)" in results.show("table")


def test_a_metric_that_is_not_finite_is_a_failure(
    data: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = Metric(lambda *, estimate, target, sample_rate: float("nan"), "", True)
    monkeypatch.setattr("mvsd.evaluation.settings.choose", lambda task, names, known=(): {"nan": metric})
    (record, *_) = evaluate(settings(data, Untouched(), metrics=("nan",)), code / "out")
    assert record.scores == Scores({}, {"nan": "it came out as nan"})


def test_a_damaged_clip_is_a_failure_of_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards([example(0), example(1, reverberant=None, rir=None), example(2)], tmp_path / "d", prefix="x")
    records = evaluate(settings(tmp_path / "d", Untouched(), GroundTruth()), tmp_path / "out")
    assert [record.clip for record in records[::2]] == ["clip-0", "clip #1", "clip-2"]
    assert "no recording made in a room" in records[2].scores.failures["stft_distance"]
    assert records[4].scores.values["stft_distance"] > 0


def test_a_damaged_file_is_a_failure_of_its_clip(tmp_path: Path) -> None:
    (tmp_path / "reverberant").mkdir()
    for index in range(3):
        soundfile.write(tmp_path / "reverberant" / f"{index}.wav", voice(index), RATE)
    (tmp_path / "reverberant" / "1.wav").write_bytes(b"RIFF, but nothing else")
    records = evaluate(settings(tmp_path, Untouched(), metrics=()), tmp_path / "out")
    assert [bool(record.scores.values) for record in records] == [True, False, True]
    assert "1.wav" in records[1].scores.failures["dnsmos"]


def test_columns_are_those_that_the_data_allow(tmp_path: Path, data: Path) -> None:
    write_shards([example(0, anechoic=None, rir=None)], tmp_path / "wet", prefix="x")
    wet_only = settings(tmp_path / "wet", Untouched(), metrics=())
    assert list(wet_only.chosen_metrics) == ["dnsmos", "srmr"]
    assert "wer" not in settings(data, Untouched(), metrics=()).chosen_metrics
    spoken = example(0, metadata={"transcript": "hello"})
    write_shards([example(1), spoken], tmp_path / "spoken", prefix="x")
    assert "wer" in settings(tmp_path / "spoken", Untouched(), metrics=()).chosen_metrics


def test_metrics_with_options_and_unknown_names(data: Path) -> None:
    column = "wer:recognizer=openai/whisper-base.en"
    metric = settings(data, metrics=(column, "eer:speaker_model=m")).named_metrics()[column]
    assert "recognizer = openai/whisper-base.en" in metric.definition
    assert settings(data, metrics=("eer:speaker_model=m",)).voice_options == {"speaker_model": "m"}
    for name, says in (
        ("pesq", "pesq_wb"),
        ("wer:colour=red", "no option 'colour'"),
        ("eer:x=1", "no option 'x'"),
        ("eer:waveform=x", "no option 'waveform'"),
        ("pesq_wb:sample_rate=8000", "no option 'sample_rate'"),
    ):
        with pytest.raises(MvsdError, match=says):
            settings(data, metrics=(name,))
    with pytest.raises(MvsdError, match="two systems are named 'a'"):
        settings(data, Model("a", "x:y"), Model("a", "x:z"))


def test_nothing_is_computed_twice_and_everything_that_matters_computes_anew(data: Path, code: Path) -> None:
    folder = code / "out"
    first = evaluate(settings(data), folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    assert len(times) == 4 * 3
    assert evaluate(settings(data), folder) == first
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")} == times

    def num_new(**options: Any) -> int:
        before = len(list(folder.rglob("*.json")))
        evaluate(settings(data, *options.pop("systems", ()), **options), folder)
        return len(list(folder.rglob("*.json"))) - before

    assert num_new(seed=1) == 12
    assert num_new(metrics=("stft_distance",)) == 12
    assert num_new(systems=(Untouched(), Model("damper", "damper:Damper", steps=2))) == 4
    assert num_new(limit=2) == 6
    (code / "damper.py").write_text(DAMPER.replace("0.001", "0.00223"))
    assert num_new() == 4
    second = evaluate(settings(data), folder)
    assert [a == b for a, b in zip(first, second, strict=True)] == [r.system != "damper" for r in first]
    (code / "damper.py").write_text(DAMPER)
    damaged = next(path for path in times if "untouched" in path.parent.name)
    damaged.write_text("[{")
    assert evaluate(settings(data), folder) == first
    assert json.loads(damaged.read_text())


def test_results_among_the_data_are_no_other_data(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    chosen, out = settings(tmp_path / "data", Untouched()), tmp_path / "data" / "out"
    evaluate(chosen, out)
    evaluate(chosen, out)
    assert len(list(out.glob("records/*/*.json"))) == 4


def test_other_data_below_the_results_are_other_data(data: Path, tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        shutil.copytree(data, tmp_path / name)
        for path in (tmp_path / name).iterdir():
            os.utime(path, ns=(0, number))
        evaluate(settings(tmp_path / name, Untouched()), tmp_path)
    assert len(list(tmp_path.glob("records/*/*.json"))) == 8
    with pytest.raises(DataError, match="a folder of their own"):
        evaluate(settings(tmp_path / "a", Untouched()), tmp_path / "a")


def test_what_the_users_code_raised_is_tried_again(data: Path, code: Path) -> None:
    (code / "moody.py").write_text(MOODY)
    chosen = settings(data, Model("moody", "moody:Moody", conditions=("no photo",)), limit=1)
    assert "MemoryError: not now" in str(evaluate(chosen, code / "out")[0].scores.failures)
    (code / "well").touch()
    assert evaluate(chosen, code / "out")[0].scores.values


def test_what_python_compiles_makes_no_other_system(data: Path, code: Path) -> None:
    (code / "package").mkdir()
    (code / "package" / "__init__.py").write_text(DAMPER)
    chosen = settings(data, Model("damper", "package:Damper"), limit=1)
    evaluate(chosen, code / "out")
    (code / "package" / "__pycache__").mkdir(exist_ok=True)
    (code / "package" / "__pycache__" / "later.pyc").touch()
    evaluate(chosen, code / "out")
    assert len(list(code.glob("out/records/*"))) == 1


OWN = """
from package.other import GAIN


class Own:
    def convert(self, waveform, sample_rate, scene=None, *, seed=0):
        return waveform + GAIN * waveform[::-1]
"""


def test_another_file_of_a_package_computes_anew_and_all_of_it(data: Path, code: Path) -> None:
    (code / "package").mkdir()
    for name, text in (("__init__", ""), ("mod", OWN), ("other", "GAIN = 0.5")):
        (code / "package" / f"{name}.py").write_text(text)
    model = Model("own", "package.mod:Own", conditions=("no photo",))
    chosen = settings(data, Untouched(), model, limit=1, metrics=("stft_distance",))
    values = []
    for text in ("GAIN = 0.5", "GAIN = 0.25"):
        (code / "package" / "other.py").write_text(text)
        untouched, own = (record.scores.values["stft_distance"] for record in evaluate(chosen, code / "out"))
        values.append(own)
    assert len({untouched, *values}) == 3
    assert len(list(code.glob("out/records/own-*"))) == 2


def test_a_package_that_cannot_be_imported_is_one_line(data: Path, code: Path) -> None:
    (code / "package").mkdir()
    (code / "package" / "__init__.py").write_text("raise RuntimeError('no licence')")
    (code / "package" / "mod.py").write_text(OWN)
    with pytest.raises(MvsdError, match="package.mod:Own cannot be loaded: RuntimeError: no licence"):
        evaluate(settings(data, Model("own", "package.mod:Own")), code / "out")


def test_all_that_figures_rest_on_is_in_the_fingerprint(
    data: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(data, Untouched(), speech=str(speech), cache=str(tmp_path / "cache"))

    def fingerprint() -> str:
        return _record_folders(chosen, tmp_path / "out")[0].name

    found = [fingerprint()]
    assert fingerprint() == found[0]
    soundfile.write(speech / "ann" / "1.wav", voice(3), RATE)
    found.append(fingerprint())
    for name, other in (
        ("_code_identity", lambda: "other code"),
        ("versions", lambda: {"numpy": "0.1"}),
        ("file_digest", lambda path: "other weights"),
    ):
        monkeypatch.setattr(f"mvsd.evaluation.evaluate.{name}", other)
        found.append(fingerprint())
    assert len(set(found)) == 5


def test_nothing_is_written_into_what_is_evaluated(
    data: Path, speech: Path, code: Path, tmp_path: Path
) -> None:
    for name in ("theirs", "package"):
        (tmp_path / name).mkdir()
    (tmp_path / "package" / "__init__.py").write_text(DAMPER)
    systems = (Processed("theirs", str(tmp_path / "theirs")), Model("own", "package:Damper"))
    chosen = settings(data, *systems, speech=str(speech))
    for folder in (tmp_path / "theirs" / "out", tmp_path / "package", speech, data):
        with pytest.raises(DataError, match="a folder of their own"):
            evaluate(chosen, folder)
        with pytest.raises(DataError, match="a folder of their own"):
            require_apart(chosen, folder, is_page=True)
    require_apart(chosen, data / "out")  # left out of the data's identity
    require_apart(chosen, tmp_path / "page", is_page=True)
    for folder in (data / "page", speech / "a" / "page"):
        with pytest.raises(DataError, match="a folder of their own"):
            require_apart(chosen, folder, is_page=True)


def test_another_file_in_a_folder_of_results_computes_anew(tmp_path: Path, data: Path) -> None:
    (tmp_path / "theirs").mkdir()
    for index in range(4):
        soundfile.write(tmp_path / "theirs" / f"clip-{index}.wav", voice(index), RATE, "FLOAT")
    chosen = settings(data, Processed("theirs", str(tmp_path / "theirs")))
    first = evaluate(chosen, tmp_path / "out")
    soundfile.write(tmp_path / "theirs" / "clip-2.wav", voice(9), RATE, "FLOAT")
    second = evaluate(chosen, tmp_path / "out")
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, False, True]


def test_a_model_file_and_steps_reach_the_converter(data: Path, tiny_models: Any, tmp_path: Path) -> None:
    from mvsd.converter import load

    model = parse_system(f"tiny={tiny_models.dereverberator}", "dereverberation", steps=2)
    records = evaluate(settings(data, model, limit=1, metrics=("stft_distance",)), tmp_path)
    assert [record.condition for record in records] == ["right photo", "no photo", "wrong photo"]
    assert "no other room was found" in records[2].scores.failures["stft_distance"]
    clip = make_clip(Shards(data), 0, "dereverberation")
    converted = load(tiny_models.dereverberator).convert(clip.source, RATE, clip.scene, seed=0, steps=2)
    np.testing.assert_array_equal(model.estimate(clip, "right photo"), converted)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("damper:Nobody", "cannot be loaded: AttributeError"),
        ("nowhere:x", "ModuleNotFound"),
        ("damper:nothing", "no method convert"),
    ],
)
def test_a_system_that_cannot_be_loaded_ends_the_run(data: Path, code: Path, spec: str, says: str) -> None:
    with pytest.raises(MvsdError, match=says):
        evaluate(settings(data, Model("m", spec)), code / "out")


def test_both_published_benchmarks(tmp_path: Path) -> None:
    first, second = synthetic_room(0), synthetic_room(1)
    homes = {
        f"home{i}/{i}-1-0000": soundspaces_record(r, synthetic_voice(i))
        for i, r in enumerate((first, second))
    }
    write_soundspaces(tmp_path / "soundspaces", {"test-unseen": homes, "val": {}})
    options = {"split": "test-unseen", "protocol": "first-2.56s", "metrics": ("stft_distance",)}
    systems = (Untouched(), GroundTruth(), TrueResponse())
    chosen = Settings("reverberation", str(tmp_path / "soundspaces"), systems, **options)
    records = evaluate(chosen, tmp_path / "out")
    values = [record.scores.values["stft_distance"] for record in records]
    assert [record.clip for record in records[::3]] == ["home0_0-1-0000", "home1_1-1-0000"]
    assert [record.speaker for record in records[::3]] == ["0", "1"]
    assert values[0] > 0.01 and values[1] == 0 and values[2] < 1e-6
    for clip in (load_clip(chosen, index) for index in range(2)):  # at the level of the protocol
        np.testing.assert_allclose(TrueResponse().estimate(clip, ""), clip.target, atol=1e-4)

    clips = [(f"{n:03d}", first if n % 2 else second, synthetic_voice(n % 4)) for n in range(80)]
    write_avspeech(tmp_path / "avspeech", clips, [second.rir, first.rir])
    options["metrics"] = ("stft_distance", "t20_error")
    heard = Settings("reverberation", str(tmp_path / "avspeech"), systems, **options)
    assert open_examples(replace(heard, seed=3)).seed == 3  # type: ignore[attr-defined]
    untouched, truth, response = evaluate(heard, tmp_path / "out")
    assert truth.scores.values == {"stft_distance": 0.0} and untouched.scores.values["stft_distance"] > 0
    assert truth.scores.failures["t20_error"] == "the source is not known"  # it was built, and is not dry
    assert "does not hold the room's impulse response" in response.scores.failures["stft_distance"]


# ---------------------------------------------------------------------------------- tables and results


def scores(value: float, weight: float | None = None) -> Scores:
    return Scores({"m": value}, {}, {} if weight is None else {"m": weight})


M = {"m": Metric(lambda: 0.0, "s", False)}
PHOTO = (("mvsd", "right photo"), ("mvsd", "no photo"))


def test_means_are_weighted() -> None:
    records = [
        Record(str(i), "dereverberation", "", scores(v, w)) for i, (v, w) in enumerate([(1, 1), (4, 3)])
    ]
    assert Table(records, M).rows[0].cells["m"].mean == pytest.approx((1 + 12) / 4)


def test_clips_of_one_speaker_are_no_independent_evidence() -> None:
    values = np.repeat(np.random.default_rng(0).standard_normal(12), 8)
    records = [
        Record(str(i), "dereverberation", condition, scores(value + shift), speaker=f"s{i // 8}")
        for condition, shift in (("right photo", 0.2), ("no photo", 0.0))
        for i, value in enumerate(values * (1 if condition == "right photo" else 0))
    ]
    alone = [replace(record, speaker="") for record in records]
    widths = [
        np.subtract(*reversed(Table(each, M).rows[0].cells["m"].interval or ())) for each in (records, alone)
    ]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(8), rel=0.25)
    widths = [
        np.subtract(*reversed(differences(each, M, [PHOTO])[0].interval or ())) for each in (records, alone)
    ]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(8), rel=0.25)


def test_differences_are_paired_and_say_what_is_better() -> None:
    rng = np.random.default_rng(0)
    base, gain = 10 * rng.standard_normal(50), 1 + 0.1 * rng.standard_normal(50)
    records = [Record(str(i), "dereverberation", "no photo", scores(b)) for i, b in enumerate(base)]
    records += [
        Record(str(i), "dereverberation", "right photo", scores(b - g))
        for i, (b, g) in enumerate(zip(base, gain, strict=True))
    ]
    records.append(Record("lonely", "dereverberation", "right photo", scores(1e6)))
    (found,) = differences(records, M, [PHOTO, (PHOTO[0], ("mvsd", "wrong photo"))])
    assert (found.other, found.num_pairs, found.is_better) == ("no photo", 50, True)
    assert found.mean == pytest.approx(-gain.mean())
    t = stats.t.interval(0.95, 49, -gain.mean(), gain.std(ddof=1) / np.sqrt(50))
    assert found.interval == pytest.approx(t, abs=0.006)
    given = [Record(str(i), "dereverberation", "", scores(b + 2), "input") for i, b in enumerate(base)]
    records = [replace(record, system="ours") for record in records] + given
    right, none = ("ours", "right photo"), ("ours", "no photo")
    beside = differences(records, M, [(right, none), (right, ("input", ""))])
    assert [(d.system, d.other, d.num_pairs) for d in beside] == [
        ("ours", "no photo", 50),
        ("ours", "input", 50),
    ]
    assert beside[1].mean == pytest.approx(-gain.mean() - 2)


@pytest.mark.parametrize(("num_speakers", "verdict"), [(3, "too few to tell"), (12, "better")])
def test_a_verdict_needs_speakers_not_clips(num_speakers: int, verdict: str) -> None:
    records = [
        Record(str(i), "dereverberation", condition, scores(value), speaker=f"s{i % num_speakers}")
        for condition, value in (("right photo", 1.0), ("no photo", 2.0))
        for i in range(36)
    ]
    (found,) = differences(records, M, [PHOTO])
    assert (found.num_pairs, found.num_independent) == (36, num_speakers)
    assert found.is_better is (True if verdict == "better" else None)
    assert differences_grid([found]).lines[0][-1] == verdict


def test_rivals_are_compared_over_the_clips_that_both_have(tmp_path: Path) -> None:
    (tmp_path / "right-photo").mkdir()
    flat, seeing = Processed("flat", str(tmp_path / "a")), Processed("seeing", str(tmp_path))
    systems = (Untouched(), GroundTruth(), Model("ours", "x:y"), flat, seeing, WPE())
    hard = (0.0,) * 20 + (10.0,) * 20
    records = [
        Record(str(i), "dereverberation", condition, Scores({"stft_distance": error + loss}, {}), system)
        for system, condition, loss in (
            ("untouched input", "", 3.0),
            ("ours", "right photo", 1.0),
            ("flat", "", 2.0),
            ("seeing", "right photo", 0.0),
            ("WPE", "", 2.0),
        )
        for i, error in enumerate(hard)
        if system != "flat" or not error
    ]
    results = Results(settings(tmp_path, *systems, metrics=("stft_distance",)), records)
    means = {row.system: row.cells["stft_distance"].mean for row in results.table.rows}
    assert means["flat"] < means["ours"]  # as it leaves the hard ones out
    assert [line[:2] + line[3:] for line in differences_grid(results.differences).lines] == [
        ["ours", "right photo - untouched input", "-2 [-2, -2]", "40", "better"],
        ["flat", "flat - untouched input", "-1 [-1, -1]", "20", "better"],
        ["seeing", "right photo - untouched input", "-3 [-3, -3]", "40", "better"],
        ["ours", "right photo - flat", "-1 [-1, -1]", "20", "better"],
        ["ours", "right photo - seeing, right photo", "+1 [+1, +1]", "40", "worse"],
    ]


def test_every_form_of_a_grid() -> None:
    grid = Grid(["system", "scene", "m_1 (%) ↓"], [["<b> & co_1", "", "1 [0, 2]"]])
    assert grid.markdown().splitlines()[2] == "| <b> & co_1 |  | 1 [0, 2] |"
    assert grid.latex().splitlines()[2:5] == [
        r"system & scene & m\_1 (\%) $\downarrow$ \\",
        r"\midrule",
        r"<b> \& co\_1 &  & 1 [0, 2] \\",
    ]
    assert '<th scope="row">&lt;b&gt; &amp; co_1</th><td></td><td>1 [0, 2]</td>' in grid.html()
    assert "[0, 2]" in grid.text()
    assert list(csv.reader(io.StringIO(grid.csv())))[1] == ["<b> & co_1", "", "1 [0, 2]"]
    assert json.loads(grid.json())[0]["system"] == "<b> & co_1"


def test_results_hold_everything(data: Path, code: Path) -> None:
    chosen = settings(data)
    results = Results(chosen, evaluate(chosen, code / "out"))
    results.write(code / "out")
    rows = list(csv.DictReader(io.StringIO((code / "out" / "clips.csv").read_text())))
    assert len(rows) == 4 * 5
    assert rows[1]["si_sdr_db"] == "" and "infinite" in rows[1]["failures"]
    clips = json.loads((code / "out" / "clips.json").read_text())
    assert float(rows[0]["stft_distance"]) == clips[0]["scores"]["values"]["stft_distance"]
    summary = json.loads((code / "out" / "results.json").read_text())
    values = [float(row["si_sdr_db"]) for row in rows if row["system"] == "untouched input"]
    assert summary["rows"][0]["cells"]["si_sdr_db"]["mean"] == pytest.approx(np.mean(values))
    assert summary["rows"][1]["cells"]["si_sdr_db"]["num_failures"] == 4
    assert (
        set(summary["definitions"]) == set(CHEAP)
        and "Le Roux" in summary["definitions"]["si_sdr_db"]["definition"]
    )
    assert {"numpy", "scipy", "python"} <= set(summary["versions"])
    assert summary["settings"]["seed"] == 0
    assert {d["other"] for d in summary["differences"]} == {"no photo", "wrong photo", "untouched input"}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_of_an_evaluation_is_kept(name: str, tmp_path: Path) -> None:
    results = Results(settings(tmp_path, Untouched()), [])
    for path in results.write(tmp_path / "out"):
        assert path.is_file()
    results.write(tmp_path / "out")  # those of an earlier run
    for text in ("clip;key\n", "{}", '[{"clip": "a"}]', ""):
        (tmp_path / "out" / name).write_text(text)
        with pytest.raises(OutputExistsError, match=f"{name} is not of an evaluation"):
            results.write(tmp_path / "out")
        assert (tmp_path / "out" / name).read_text() == text


def test_an_equal_error_rate_has_a_reason_options_and_is_one(tmp_path: Path) -> None:
    asked = ("stft_distance", "eer:speaker_model=m")
    chosen = settings(tmp_path, Untouched(), GroundTruth(), metrics=asked)
    records = [
        Record(clip, "dereverberation", "", Scores({}, {}), system.name, "ann", (1.0, 0.0))
        for clip in "ab"
        for system in chosen.systems
    ]
    results = Results(chosen, records)
    assert results.failures() == {
        f"{system.name}: eer: 2 clips of 1 speakers give 2 pairs of one speaker and 0 of two;"
        " some of both are needed": ["a", "b"]
        for system in chosen.systems
    }
    found = results.to_dict()
    assert found["settings"]["metrics"] == list(asked)
    assert found["definitions"]["eer"]["definition"].endswith("Here: speaker_model = m.")
    plain = Results(replace(chosen, metrics=("eer",)), records)
    assert plain.definitions()["eer"]["definition"].startswith("Equal error rate in percent")
    with pytest.raises(MvsdError, match="eer and eer:speaker_model=m are two comparisons of voices"):
        settings(tmp_path, metrics=("eer", "eer:speaker_model=m"))


def test_voices_are_compared_over_all_clips() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 16))
    records = []
    for index in range(24):
        for system, spread in (("ground truth", 0.1), ("good", 0.1), ("bad", 30.0), ("none", None)):
            point = centres[index % 4] + (spread or 0) * rng.standard_normal(16)
            embedding = () if spread is None else tuple(point / np.linalg.norm(point))
            records.append(
                Record(f"{index}", "dereverberation", "", Scores({}, {}), system, f"s{index % 4}", embedding)
            )
    voices = compare_voices(records, "ground truth", seed=3)
    cells = {row[0]: cell for row, cell in voices.cells.items()}
    assert cells["good"].mean == 0.0 and 35 < cells["bad"].mean < 65
    assert cells["none"].mean is None and cells["none"].num_failures == 24
    assert voices.trials == compare_voices(records, "ground truth", seed=3).trials
    assert compare_voices(records[:4], "ground truth").cells["good", ""].mean is None
    assert voices.failures.keys() == {("none", "")} and "finite scores" in voices.failures["none", ""]


# --------------------------------------------------------------------------------------- the command


def command(data: Path, out: Path, *more: object) -> list[str]:
    options = ["--metrics", CHEAP[0], "--metrics", CHEAP[1], "--no-references", "--jobs", "1"]
    base = ["evaluate", "--task", "dereverberation", "--data", data, "--out", out, *options, *more]
    return [str(argument) for argument in base]


def records_in(folder: Path) -> dict[str, bytes]:
    """What was written whole; a process that was killed leaves the half of a file under another name."""
    paths = (folder / "records").rglob("[!.]*.json")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


@posix_only
def test_killed_and_started_again_it_ends_with_the_same_numbers(data: Path, code: Path) -> None:
    whole = ["-m", "mvsd", *command(data, code / "killed", "--system", "s=damper:Waiter")]
    # A copy: when somebody edits the package between the two runs, the second computes anew, as it should.
    shutil.copytree(
        Path(mvsd.__file__).parent, code / "mvsd", ignore=shutil.ignore_patterns("weights", "samples")
    )
    environment = {**os.environ, "PYTHONPATH": str(code)}
    (code / "gate").touch()
    with started(*whole, cwd=code, env=environment) as it:
        it.wait_until(lambda: list(code.glob("killed/records/s-*/[!.]*.json")))
        it.process.kill()
        it.ended()  # with all who hold its output: nobody of this run works on
    (code / "gate").unlink()
    kept = records_in(code / "killed")
    times = {p: p.stat().st_mtime_ns for p in code.glob("killed/records/*/[!.]*.json")}
    assert 0 < len(kept) < 4 * 3
    assert not (code / "killed" / "results.json").exists()
    again = [sys.executable, *whole]
    done = subprocess.run(again, cwd=code, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    chosen = settings(data, Untouched(), GroundTruth(), Model("s", "damper:Waiter"), cache="data/cache")
    unbroken = Results(chosen, evaluate(chosen, code / "unbroken"))
    unbroken.write(code / "unbroken")
    for path, changed in times.items():
        assert path.stat().st_mtime_ns == changed
    assert kept.items() <= records_in(code / "killed").items()
    assert len(records_in(code / "killed")) == 4 * 3
    for name in FILES:
        assert (code / "killed" / name).read_bytes() == (code / "unbroken" / name).read_bytes()
    assert done.stdout == unbroken.show("table", 200)


def test_the_command_prints_every_format(data: Path, code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*more: object) -> tuple[str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(command(data, code / "out", "--system", "damper:Damper", *more))
        assert exit_.value.code == 0
        return capsys.readouterr()

    out, err = run()
    assert "damper:Damper" in out and "infinite" not in err  # as the ground truth's SI-SDR always is
    starts = {
        "csv": "system,scene,metric",
        "json": "{",
        "latex": r"\begin{tabular}",
        "html": "<table>",
        "markdown": "| system",
    }
    for form, start in starts.items():
        assert run("--format", form)[0].startswith(start)


def test_missing_files_are_one_line_and_a_system_without_a_figure_is_status_1(
    data: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvsd.evaluation.evaluate.evaluate", lambda *given, jobs, progress: evaluate(*given))
    (code / "theirs").mkdir()
    soundfile.write(code / "theirs" / "clip-2.wav", voice(9), RATE, "FLOAT")
    arguments = command(data, code / "out", "--system", f"theirs={code / 'theirs'}")
    result = run_here(*arguments)
    assert result.returncode == 0
    last = result.stderr.splitlines()[-1]
    assert last.startswith("failed 3 of 4 times (e.g. clip-0): theirs: no file that is named after the clip")
    result = run_here(*arguments, "--system", "b=damper:Broken")
    assert result.returncode == 1 and "theirs" in result.stdout
    last = result.stderr.splitlines()[-1]
    assert last == f"error: b has no figure at all; the reasons are in {code / 'out' / 'clips.csv'}"
    assert len(json.loads((code / "out" / "results.json").read_text())["failures"]) > 2


def test_clips_that_cannot_be_read_are_told_at_the_end(
    tmp_path: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards([example(0), example(1, reverberant=None, rir=None)], tmp_path / "d", prefix="x")
    monkeypatch.setattr("mvsd.evaluation.evaluate.evaluate", lambda *given, jobs, progress: evaluate(*given))
    result = run_here(*command(tmp_path / "d", tmp_path / "out", "--system", "damper:Damper"))
    assert result.returncode == 1 and "damper:Damper" in result.stdout
    *_, last = result.stderr.splitlines()
    assert last.startswith("error: 1 of 2 clips could not be read; the reasons are in")
    assert "no recording made in a room" in (tmp_path / "out" / "clips.csv").read_text()


def test_places_are_looked_at_before_anything_is_computed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(*_: object, **__: object) -> None:
        raise AssertionError("too early")

    monkeypatch.setattr("mvsd.evaluation.evaluate.computed", compute)
    (tmp_path / "theirs").mkdir()
    theirs = ("--system", f"theirs={tmp_path / 'theirs'}")
    out = tmp_path / "out"
    for more in ((*theirs, "--page", data / "page"), (*theirs, "--page", tmp_path / "theirs" / "page")):
        fails(tmp_path, *command(data, out, *more), says="results need a folder of their own", run=run_here)
    (out).mkdir()
    (out / "clips.csv").write_text("my diary\n")
    fails(tmp_path, *command(data, out, *theirs), says="clips.csv is not of an evaluation", run=run_here)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "o"], "--task and --data are needed"),
        (["--out", "o", "--task", "singing", "--data", "d"], "singing"),
        (["--out", "o", "--task", "dereverberation", "--data", "nowhere"], "nowhere is no folder"),
        (["--out", "o", "--votes", "v.json"], "listening-test.json is not there"),
        (
            [
                "-o",
                "o",
                "--task",
                "reverberation",
                "--data",
                "d",
                "--speech",
                "s",
                "--protocol",
                "first-2.56s",
            ],
            "with --speech there is --seconds",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", *arguments])
    err = capsys.readouterr().err
    assert exit_.value.code and says in err and err.count("\n") == 1


def test_what_lies_behind_a_link_is_part_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.wav").write_bytes(b"1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "reverberant").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "round").symlink_to(tmp_path / "data")
    before = tree_identity(tmp_path / "data")
    (tmp_path / "disk" / "a.wav").write_bytes(b"12")
    assert tree_identity(tmp_path / "data") != before == before


@pytest.mark.parametrize(
    ("rt60", "drr"), [(-2, 0.4), (0, 2), (float("nan"), 2), (0.4, float("inf")), (100, 2)]
)
def test_a_constant_room_that_is_none(rt60: float, drr: float) -> None:
    with pytest.raises(ConfigError, match="constant room"):
        ConstantRoom(rt60, drr)
