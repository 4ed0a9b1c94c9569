"""The readers of the published benchmarks and of plain folders, on fixtures that other code has written."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_fixtures import (
    soundspaces_record,
    synthetic_room,
    synthetic_voice,
    write_avspeech,
    write_folder,
    write_soundspaces,
    write_soundspaces_metadata,
)
from scipy.signal import fftconvolve, welch
from typer.testing import CliRunner

from mvsd.cli import _run, app
from mvsd.data.avspeech import AcousticAVSpeech, build_source, coloured_noise, split_files
from mvsd.data.check import check_dataset
from mvsd.data.datasets import open_dataset, recognise
from mvsd.data.example import Example
from mvsd.data.protocols import CLIP_SAMPLES, PROTOCOLS, apply_protocol
from mvsd.data.shards import Shards, write_shards
from mvsd.data.soundspaces import SoundSpacesSpeech, stitch
from mvsd.errors import ConfigError, DataError, MvsdError

SCENE, UTTERANCE = "17DRP5sb8fy", "1089-134686-0000"


def peak_normalised_start(waveform: np.ndarray) -> np.ndarray:
    clip = np.zeros(40_960)
    start = (waveform / np.abs(waveform).max())[:40_960]
    clip[: len(start)] = start
    return clip


@pytest.fixture(scope="module")
def soundspaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soundspaces")
    records = {
        f"{SCENE}/{UTTERANCE}": soundspaces_record(synthetic_room(0), synthetic_voice(0)),
        f"{SCENE}/1089-134686-0001": soundspaces_record(synthetic_room(0), synthetic_voice(1, 1.0)),
        f"{SCENE}/121-1-0000": soundspaces_record(synthetic_room(2), synthetic_voice(2), in_view=False),
        "Vvot9Ly1tCj/61-70970-0003": soundspaces_record(synthetic_room(3), synthetic_voice(3)),
    }
    late = records["Vvot9Ly1tCj/61-70970-0003"]
    late["rir"][200] = 2 * late["rir"][0]  # no direct sound: a later arrival is louder
    others = {f"{SCENE}/84-1-0000": soundspaces_record(synthetic_room(4), synthetic_voice(4))}
    write_soundspaces(folder, {"test-unseen": records, "val-mini": others})
    words = {f"{SCENE}/{UTTERANCE}": "HE HOPED THERE WOULD BE STEW", f"{SCENE}/121-1-0000": "ALSO"}
    write_soundspaces_metadata(folder, "test-unseen", words)
    write_soundspaces_metadata(folder, "val", {f"{SCENE}/84-1-0000": "VALIDATION WORDS"})
    return folder


@pytest.fixture(scope="module")
def avspeech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avspeech")
    room = synthetic_room(1, height=18, width=32)
    clips = [(f"clip{number}", room, synthetic_voice(number, 0.05)) for number in range(196)]
    clips += [(f"z{number}", room, synthetic_voice(number, 3.0)) for number in range(4)]
    write_avspeech(folder, clips, [synthetic_room(seed).rir for seed in (5, 6, 7)])
    return folder


class TestSoundSpaces:
    def test_example(self, soundspaces: Path) -> None:
        examples = open_dataset(soundspaces, split="test-unseen")
        assert len(examples) == 4 and recognise(soundspaces) == "soundspaces"
        example = examples[0]
        assert example.key == f"{SCENE}_{UTTERANCE}" and example.sample_rate == 16_000
        assert example.anechoic is not None and example.reverberant is not None and example.rir is not None
        np.testing.assert_allclose(example.anechoic, synthetic_voice(0), atol=1e-7)
        np.testing.assert_allclose(example.rir, synthetic_room(0).rir, atol=1e-6)
        assert example.rir[0] == 1.0
        wet = fftconvolve(synthetic_voice(0), synthetic_room(0).rir)[:48_000]
        np.testing.assert_allclose(example.reverberant, wet, atol=1e-5)
        assert example.metadata["published_level"] == pytest.approx(0.3, rel=1e-5)
        assert {signal.dtype for signal in (example.anechoic, example.reverberant, example.rir)} == {
            np.dtype("float32")
        }

    def test_panorama(self, soundspaces: Path) -> None:
        scene = open_dataset(soundspaces, split="test-unseen")[0].scene
        assert scene is not None and scene.depth is not None
        np.testing.assert_array_equal(scene.image, synthetic_room(0).image)
        np.testing.assert_allclose(scene.depth, synthetic_room(0).depth, rtol=1e-6)

    def test_published_size_and_depth_in_units_of_ten_metres(self, tmp_path: Path) -> None:
        room = synthetic_room(0, height=384, width=1152)
        record = soundspaces_record(room, synthetic_voice(0, 0.1))
        record["depth"] = [view[..., None] / 10 for view in record["depth"]]
        write_soundspaces(tmp_path, {"val": {"a/1-2-3": record}})
        scene = open_dataset(tmp_path)[0].scene
        assert scene is not None and scene.depth is not None and scene.image.shape == (384, 1152, 3)
        np.testing.assert_allclose(scene.depth, room.depth, rtol=1e-6)

    def test_transcripts(self, soundspaces: Path) -> None:
        by_key = {example.key: example.metadata for example in open_dataset(soundspaces, split="test-unseen")}
        metadata = by_key[f"{SCENE}_{UTTERANCE}"]
        assert metadata["transcript"] == "HE HOPED THERE WOULD BE STEW" and metadata["speaker"] == "1089"
        assert by_key[f"{SCENE}_121-1-0000"]["transcript"] == "ALSO"
        assert "transcript" not in by_key["Vvot9Ly1tCj_61-70970-0003"]
        assert by_key["Vvot9Ly1tCj_61-70970-0003"]["speaker"] == "61"
        assert open_dataset(soundspaces, split="val-mini")[0].metadata["transcript"] == "VALIDATION WORDS"
        assert json.dumps(metadata) and metadata["geodesic_distance"] == 2.5 and metadata["room"] == SCENE

    def test_transcript_whose_first_item_has_no_word(self, tmp_path: Path, soundspaces: Path) -> None:
        write_soundspaces(
            tmp_path, {"val": {"a/1-2-3": soundspaces_record(synthetic_room(0), synthetic_voice(0))}}
        )
        entry = {"sound": ["1-2-3,3.0,x.flac,1-2", "TWO", "WORDS"], "location": np.zeros(3)}
        (tmp_path / "metadata" / "val").mkdir(parents=True)
        (tmp_path / "metadata" / "val" / "a.pkl").write_bytes(pickle.dumps([entry]))
        assert open_dataset(tmp_path)[0].metadata["transcript"] == "TWO WORDS"

    def test_filter(self, soundspaces: Path) -> None:
        everything = open_dataset(soundspaces, split="test-unseen")
        assert [example.metadata["in_view"] for example in everything] == [True, True, False, False]
        kept = open_dataset(soundspaces, split="test-unseen", protocol="first-2.56s")
        assert [example.key for example in kept] == [f"{SCENE}_{UTTERANCE}", f"{SCENE}_1089-134686-0001"]
        (cache,) = (soundspaces / "test-unseen").glob(".mvsd-*")
        assert sum(json.loads(cache.read_text()).values()) == 2
        limited = SoundSpacesSpeech(soundspaces, "test-unseen", in_view_only=True, limit=1)
        assert [path.stem for path in limited.paths] == [UTTERANCE]

    def test_filter_believes_its_notes_only_for_files_of_that_size(self, tmp_path: Path) -> None:
        record = soundspaces_record(synthetic_room(0), synthetic_voice(0))
        write_soundspaces(tmp_path, {"val": {"a/1-2-3": record}})
        assert len(SoundSpacesSpeech(tmp_path, "val", in_view_only=True)) == 1
        cache = tmp_path / "val" / ".mvsd-in-view.json"
        cache.write_text(json.dumps(dict.fromkeys(json.loads(cache.read_text()), False)))
        with pytest.raises(DataError, match="in view"):
            SoundSpacesSpeech(tmp_path, "val", in_view_only=True)
        record["location"] = np.zeros(9)
        write_soundspaces(tmp_path, {"val": {"a/1-2-3": record}})
        assert len(SoundSpacesSpeech(tmp_path, "val", in_view_only=True)) == 1

    def test_response_without_direct_sound_keeps_its_shape(self, soundspaces: Path) -> None:
        example = open_dataset(soundspaces, split="test-unseen")[3]
        assert example.rir is not None and np.abs(example.rir).max() == 1.0 and example.rir[200] == 1.0

    def test_first_clip(self, soundspaces: Path) -> None:
        long, short = open_dataset(soundspaces, split="test-unseen", protocol="first-2.56s")
        for example, seed, seconds in ((long, 0, 3.0), (short, 1, 1.0)):
            voice = synthetic_voice(seed, seconds)
            wet = fftconvolve(voice, synthetic_room(0).rir)[: len(voice)]
            np.testing.assert_allclose(example.anechoic, peak_normalised_start(voice), atol=1e-5)
            np.testing.assert_allclose(example.reverberant, peak_normalised_start(wet), atol=1e-5)
            again = example.metadata["level"] * fftconvolve(example.anechoic, example.rir)[:CLIP_SAMPLES]
            np.testing.assert_allclose(again[: len(voice)], example.reverberant[: len(voice)], atol=1e-4)
        assert np.abs(long.anechoic).max() < 1.0  # the peak of the utterance comes after the clip
        assert apply_protocol(long, "first-2.56s") is long
        whole = open_dataset(soundspaces, split="test-unseen", protocol="full")[0]
        whole = replace(whole, metadata={"transcript": "HE HOPED"})
        assert (
            "transcript" not in apply_protocol(whole, "first-2.56s").metadata
        )  # of what was cut there is none
        brief = replace(whole, anechoic=whole.anechoic[:100], reverberant=whole.reverberant[:100])
        assert apply_protocol(brief, "first-2.56s").metadata["transcript"] == "HE HOPED"

    def test_single_split_needs_no_name(self, soundspaces: Path, tmp_path: Path) -> None:
        assert len(open_dataset(soundspaces / "test-unseen")) == 4
        assert open_dataset(soundspaces / "test-unseen")[0].metadata["transcript"].startswith("HE HOPED")
        with pytest.raises(DataError, match="choose one"):
            open_dataset(soundspaces)
        with pytest.raises(DataError, match="no split 'train'"):
            open_dataset(soundspaces, split="train")

    def test_archive_with_a_folder_of_its_own(self, tmp_path: Path) -> None:
        record = soundspaces_record(synthetic_room(0), synthetic_voice(0, 0.2))
        write_soundspaces(tmp_path / "test-seen", {"test-seen": {"a/1-2-3": record}})
        assert [example.key for example in open_dataset(tmp_path)] == ["a_1-2-3"]

    @pytest.mark.parametrize("protocol", range(6))
    def test_every_pickle_protocol(self, tmp_path: Path, protocol: int) -> None:
        record = soundspaces_record(synthetic_room(0), synthetic_voice(0, 0.2))
        write_soundspaces(tmp_path, {"val": {"a/1-2-3": record}}, protocol=protocol)
        np.testing.assert_array_equal(open_dataset(tmp_path)[0].anechoic, record["source_audio"])

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("source_audio", None, "source_audio is a NoneType"),
            ("source_audio", np.zeros((2, 3), np.float32), "shape"),
            ("source_audio", np.zeros(0, np.float32), "shape"),
            ("receiver_audio", np.full(9, np.nan, np.float32), "not finite"),
            ("receiver_audio", np.zeros(9, np.int16), "int16"),
            ("rir", [1.0, 2.0], "rir is a list"),
            ("rgb", [], "no list of views"),
            ("rgb", [np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)], "shapes"),
            ("rgb", [np.zeros((4, 4, 3), np.float32)], "uint8 is needed"),
            ("depth", [np.zeros((4, 4), np.float32)], "depth map"),
            ("depth", "far", "no list of views"),
            ("semantic", 5, "semantic"),
        ],
    )
    def test_damaged_records(self, tmp_path: Path, name: str, value: Any, words: str) -> None:
        record = {**soundspaces_record(synthetic_room(0), synthetic_voice(0, 0.2)), name: value}
        write_soundspaces(tmp_path, {"val": {"a/1-2-3": record}})
        with pytest.raises(DataError, match=words):
            open_dataset(tmp_path, protocol="first-2.56s")[0]
        report = check_dataset(tmp_path)
        assert not report.is_usable or name == "semantic"

    def test_missing_key(self, tmp_path: Path) -> None:
        record = soundspaces_record(synthetic_room(0), synthetic_voice(0, 0.2))
        del record["rir"]
        write_soundspaces(tmp_path, {"val": {"a/1-2-3": record}})
        with pytest.raises(DataError, match="has no rir"):
            open_dataset(tmp_path)[0]

    def test_silence_and_noise_do_not_divide_by_zero(self, tmp_path: Path) -> None:
        record = soundspaces_record(synthetic_room(0), synthetic_voice(0, 0.2))
        silent = {
            **record,
            "source_audio": np.zeros(3200, np.float32),
            "receiver_audio": np.zeros(3000, np.float32),
        }
        mute = {**record, "rir": np.zeros(10, np.float32)}
        wrong_sign = {**record, "rir": -record["rir"]}
        write_soundspaces(tmp_path, {"val": {"a/1": silent, "a/2": mute, "a/3": wrong_sign}})
        for protocol in PROTOCOLS:
            for example in SoundSpacesSpeech(tmp_path, "val"):
                clip = apply_protocol(example, protocol)  # type: ignore[arg-type]
                assert np.isfinite(clip.anechoic).all() and np.isfinite(clip.reverberant).all()
        silent_example, mute_example, _ = SoundSpacesSpeech(tmp_path, "val")
        assert len(silent_example.anechoic) == len(silent_example.reverberant) == 3000
        assert mute_example.rir is None and mute_example.metadata["in_view"] is True


class Halver:
    """A dereverberator whose output is known."""

    def convert(self, waveform: np.ndarray, sample_rate: int, scene: Any = None) -> np.ndarray:
        assert sample_rate == 16_000 and scene is None
        return waveform / 2


class TestAVSpeech:
    def test_splits_are_those_of_the_reference(self) -> None:
        files = [Path(f"{number:04d}") for number in range(1000)]
        assert split_files(files, "train") == files[:950]
        assert split_files(files, "val") == files[951:975]
        assert split_files(files, "test-unseen") == files[976:]
        assert split_files(files, "test-seen") == files[:25]
        with pytest.raises(DataError, match="no split 'test'"):
            split_files(files, "test")

    def test_order_is_that_of_strings(self, avspeech: Path) -> None:
        names = [path.stem for path in AcousticAVSpeech(avspeech, "train").paths]
        assert names == sorted(f"clip{number}" for number in range(196))[:190] and names[1] == "clip1"
        assert [path.stem for path in AcousticAVSpeech(avspeech, "test-unseen").paths] == [
            "z0",
            "z1",
            "z2",
            "z3",
        ]

    def test_without_dereverberator_there_is_no_source(self, avspeech: Path) -> None:
        examples = open_dataset(avspeech, split="test-unseen", limit=2)
        assert len(examples) == 2 and recognise(avspeech) == "avspeech"
        example = examples[1]
        assert example.anechoic is None and example.rir is None and example.scene is not None
        assert example.scene.image.shape == (180, 320, 3) and example.key == "z1"
        np.testing.assert_allclose(example.reverberant, synthetic_voice(1, 3.0), atol=1e-4)

    def test_source(self, avspeech: Path) -> None:
        clips = AcousticAVSpeech(
            avspeech, "test-unseen", dereverberator=Halver(), protocol="first-2.56s", seed=3
        )
        example = clips[1]
        target = peak_normalised_start(synthetic_voice(1, 3.0))
        np.testing.assert_allclose(example.reverberant, target, atol=2e-4)
        wet = fftconvolve(example.reverberant / 2, synthetic_room(6).rir)[:CLIP_SAMPLES]
        wet /= np.abs(wet).max()
        facts = example.metadata["source"]
        assert 2.0 <= facts["snr_db"] <= 10.0 and -2.0 <= facts["noise_decay"] <= 2.0
        noise = example.anechoic - facts["polarity"] * wet
        measured = 10 * np.log10(np.mean(wet**2) / np.mean(noise**2))
        assert measured == pytest.approx(facts["snr_db"], abs=1e-3)
        np.testing.assert_array_equal(clips[1].anechoic, example.anechoic)
        other = AcousticAVSpeech(
            avspeech, "test-unseen", dereverberator=Halver(), protocol="first-2.56s", seed=4
        )
        assert not np.array_equal(other[1].anechoic, example.anechoic)
        assert json.dumps(dict(example.metadata))

    def test_noise_has_its_colour(self) -> None:
        for decay in (-2.0, 0.0, 1.0, 2.0):
            noise = coloured_noise(2**17, decay, np.random.default_rng(0))
            assert np.mean(noise**2) == pytest.approx(1.0)
            frequency, power = welch(noise, 16_000, nperseg=1024)
            weight = (1 + (np.sqrt(8000) - 1) * frequency / 8000) ** (-2 * decay)
            ratio_db = 10 * np.log10(power / weight)[5:-5]
            assert np.abs(ratio_db - ratio_db.mean()).max() < 2.0

    def test_polarity_is_fair(self) -> None:
        signs = [build_source(np.ones(8), np.ones(1), seed=seed)[1]["polarity"] for seed in range(200)]
        assert set(signs) == {-1.0, 1.0} and abs(sum(signs)) < 50

    def test_silence(self) -> None:
        source, _ = build_source(np.zeros(100, np.float32), np.ones(3), seed=0)
        assert not source.any()

    def test_errors(self, avspeech: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="choose a split"):
            open_dataset(avspeech)
        write_avspeech(tmp_path, [("a", synthetic_room(0), synthetic_voice(0, 0.1))], [])
        with pytest.raises(DataError, match="empty"):
            open_dataset(tmp_path, split="test-unseen")
        clips = [(f"{number:03d}", synthetic_room(0), synthetic_voice(0, 0.1)) for number in range(50)]
        write_avspeech(tmp_path, clips, [])
        with pytest.raises(DataError, match="no responses for train"):
            AcousticAVSpeech(tmp_path, "train", dereverberator=Halver())
        (tmp_path / "random_rir.pkl").unlink()
        assert len(AcousticAVSpeech(tmp_path, "train")) == 48
        with pytest.raises(DataError, match=r"random_rir\.pkl cannot be read"):
            AcousticAVSpeech(tmp_path, "train", dereverberator=Halver())
        (tmp_path / "random_rir.pkl").write_bytes(pickle.dumps({"train": [np.full(3, np.inf)]}))
        with pytest.raises(DataError, match="not an array"):
            AcousticAVSpeech(tmp_path, "train", dereverberator=Halver())
        (tmp_path / "audio" / "000.wav").unlink()
        assert not check_dataset(tmp_path).is_usable
        with pytest.raises(MvsdError, match=r"000\.wav"):
            AcousticAVSpeech(tmp_path, "train")[0]


def test_views_that_would_fill_the_memory_are_refused() -> None:
    view = np.zeros((1, 1, 2**20), np.uint8)
    with pytest.raises(DataError, match="views of rgb have shapes"):
        stitch([view] * 10_000, "rgb", Path("x.pkl"))


class TestOneDoor:
    def test_bad_arguments(self, soundspaces: Path) -> None:
        with pytest.raises(ConfigError, match=r"first-2\.56s"):
            open_dataset(soundspaces, split="test-unseen", protocol="last")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="limit"):
            open_dataset(soundspaces, split="test-unseen", limit=0)

    def test_keys_that_repeat_are_refused(self, tmp_path: Path) -> None:
        for prefix in ("small", "large"):
            write_shards([Example("a", None, sample_rate=16_000, metadata={})], tmp_path, prefix=prefix)
        with pytest.raises(DataError, match="1 keys occur more than once") as caught:
            open_dataset(tmp_path)
        assert check_dataset(tmp_path).problems == [str(caught.value)]

    def test_what_has_no_splits_has_none(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "part")
        for use in (open_dataset, check_dataset):
            with pytest.raises(DataError, match="has no splits; leave 'part' out"):
                use(tmp_path, split="part")

    def test_is_a_sequence(self, soundspaces: Path) -> None:
        examples = open_dataset(soundspaces, split="test-unseen", limit=3)
        assert len(examples) == len(list(examples)) == 3
        assert examples[-1].key == examples[1:][1].key
        with pytest.raises(IndexError):
            examples[3]


class TestCommands:
    def test_convert_and_check(self, soundspaces: Path, tmp_path: Path) -> None:
        out = tmp_path / "shards" / "test"
        arguments = ["data", "convert", str(soundspaces), "-o", str(out), "--split", "test-unseen"]
        result = CliRunner().invoke(app, [*arguments, "--in-view"], catch_exceptions=False)
        assert result.exit_code == 0
        stored = Shards(result.stdout.split())
        read = open_dataset(soundspaces, split="test-unseen")
        assert len(stored) == 2 and len(open_dataset(tmp_path / "shards", split="test")) == 2
        for written, original in zip(stored, read, strict=False):
            assert written.metadata == original.metadata and written.key == original.key
            np.testing.assert_allclose(written.reverberant, original.reverberant, atol=1e-6)
            np.testing.assert_allclose(written.rir, original.rir, atol=1e-6)
        assert _run(arguments) == 1  # they are there already
        result = CliRunner().invoke(app, ["data", "check", str(out)], catch_exceptions=False)
        assert result.exit_code == 0 and "examples: 2" in result.stdout and "usable" in result.stdout

    def test_convert_builds_sources(self, avspeech: Path, tmp_path: Path, tiny_models: Any) -> None:
        model = str(tiny_models.dereverberator)
        command = ["data", "convert", str(avspeech), "-o", str(tmp_path), "--split", "test-unseen"]
        command += ["--protocol", "first-2.56s", "--limit", "1", "--dereverberator", model, "--device", "cpu"]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        (example,) = open_dataset(tmp_path, protocol="first-2.56s")
        assert result.exit_code == 0 and len(example.anechoic) == CLIP_SAMPLES
        assert example.metadata["source"]["snr_db"] > 2.0

    def test_convert_replaces_no_shard_that_it_reads(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "mine")
        shards = tmp_path / "shards"
        assert _run(["data", "convert", str(tmp_path / "mine"), "-o", str(shards)]) == 0
        before = {path: path.read_bytes() for path in shards.iterdir()}
        for data in (shards, *before):
            command = ["data", "convert", str(data), "-o", f"{shards}/../shards", "--limit", "1", "--force"]
            assert _run(command) == 2
        assert {path: path.read_bytes() for path in shards.iterdir()} == before

    @pytest.mark.parametrize("option", [["--in-view"], ["--dereverberator", "dereverberator"]])
    def test_options_for_another_benchmark(self, tmp_path: Path, option: list[str]) -> None:
        write_folder(tmp_path / "mine")
        assert _run(["data", "convert", str(tmp_path / "mine"), "-o", str(tmp_path / "out"), *option]) == 2

    def test_check_soundspaces(self, soundspaces: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert _run(["data", "check", str(soundspaces), "--all"]) == 0
        said = capfd.readouterr().out
        assert "test-unseen: 4 utterances in 2 homes" in said and "missing: split train" in said
        assert "2 with the speaker in view" in said and "Matterport3D" in said
        assert "transcripts of 1 of 2 homes" in said and "1489 are reported by others" in said

    def test_check_avspeech(self, avspeech: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert _run(["data", "check", str(avspeech)]) == 0
        said = capfd.readouterr().out
        assert "200 frames, 200 recordings" in said and "test-unseen: 4 clips" in said and "YouTube" in said

    def test_check_finds_what_is_unusable(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        write_soundspaces(
            tmp_path, {"val": {"a/1": soundspaces_record(synthetic_room(0), synthetic_voice(0, 0.1))}}
        )
        path = tmp_path / "val" / "a" / "1.pkl"
        path.write_bytes(path.read_bytes()[:1000])
        assert _run(["data", "check", str(tmp_path)]) == 1
        assert "truncated" in capfd.readouterr().out
        assert _run(["data", "check", str(tmp_path / "nothing")]) == 1

    def test_check_says_whether_the_response_is_that_of_the_recording(self, tmp_path: Path) -> None:
        right = soundspaces_record(synthetic_room(0), synthetic_voice(0, 1.0))
        wrong = {**right, "rir": 0.3 * synthetic_room(9).rir}
        for name, record in (("right", right), ("wrong", wrong)):
            write_soundspaces(tmp_path / name, {"val": {"a/1": record}})
        said = {
            name: dict(check_dataset(tmp_path / name).facts)["val, opened"] for name in ("right", "wrong")
        }
        level = {name: float(words.split("within ")[1].split()[0]) for name, words in said.items()}
        assert level["right"] < -80 < -40 < level["wrong"]
