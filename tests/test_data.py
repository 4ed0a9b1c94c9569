from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import signal
from tiny_run import write_data

from mvsd.data import shards
from mvsd.data.batch import Batch
from mvsd.data.example import Example
from mvsd.data.mixing import (
    DataConfig,
    Mixer,
    batches,
    open_mixer,
    row_seed,
    through_microphone,
)
from mvsd.data.scenes import SceneConfig, Scenes, _framed
from mvsd.data.shards import Shards, write_shards
from mvsd.data.speech import Speech, coloured_noise
from mvsd.errors import ConfigError, DataError, OutputExistsError
from mvsd.scene import IMAGENET_MEAN, IMAGENET_STD, Scene

CONFIG = DataConfig(
    num_samples=2048,
    rir_samples=1024,
    num_paired=2,
    num_reverberant=2,
    num_anechoic=2,
    scenes=SceneConfig(jitter=0.0),
)


def example(key: str = "a", **changes: object) -> Example:
    generator = np.random.default_rng(len(key))
    image = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 64, 3)).copy()
    depth = generator.uniform(0.5, 9.0, (48, 64)).astype(np.float32)
    rir = generator.standard_normal(512).astype(np.float32) * 0.3
    rir[0] = 1.0
    anechoic, reverberant = generator.standard_normal((2, 800)).astype(np.float32)
    metadata = {"rt60": {"500": 0.4}, "room": "hall", "materials": ["brick", "wool"]}
    full = Example(key, Scene(image, depth), anechoic, reverberant, rir, metadata=metadata)
    return replace(full, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def mixer(folder: Path) -> Mixer:
    speech, cache, rooms = str(folder / "speech"), str(folder / "cache"), (str(folder / "rooms"),)
    return open_mixer(replace(CONFIG, speech=speech, cache=cache, rooms=rooms), seed=3)


class TestShards:
    def test_round_trip(self, tmp_path: Path) -> None:
        examples = [example(f"room-{index}") for index in range(5)]
        paths = write_shards(iter(examples), tmp_path, prefix="train", examples_per_shard=2)
        assert [path.name for path in paths] == [f"train-{index:06d}.tar" for index in range(3)]
        assert sorted(tmp_path.iterdir()) == paths
        stored = Shards(tmp_path)
        assert stored.keys == [item.key for item in examples]
        for written, read in zip(examples, stored, strict=True):
            assert read.metadata == written.metadata and read.sample_rate == 16_000
            assert read.rir is not None and written.rir is not None and read.rir[0] == 1.0
            np.testing.assert_allclose(read.rir, written.rir, atol=2.0**-22)
            assert read.anechoic is not None and written.anechoic is not None
            np.testing.assert_allclose(read.anechoic, written.anechoic, atol=2.0**-21)
            assert read.scene is not None and written.scene is not None
            assert np.abs(read.scene.image.astype(int) - written.scene.image).mean() < 2.0
            assert read.scene.depth is not None and written.scene.depth is not None
            np.testing.assert_allclose(read.scene.depth, written.scene.depth, atol=0.51e-3)

    def test_unpaired_and_partial(self, tmp_path: Path) -> None:
        scene = Scene(np.zeros((20, 20, 3), np.uint8))
        written = [
            example("dry", scene=None, reverberant=None, rir=None),
            example("wet", scene=scene, anechoic=None),
        ]
        stored = Shards(write_shards(written, tmp_path, prefix="x"))
        assert stored[0].scene is None and stored[0].rir is None and stored[0].anechoic is not None
        assert stored[-1].anechoic is None and stored[-1].scene is not None and stored[-1].scene.depth is None
        part = stored.load(1, ["rir"])
        assert part.rir is not None and part.scene is None and part.reverberant is None
        assert [item.key for item in stored[::-1]] == ["wet", "dry"]

    def test_is_plain_webdataset(self, tmp_path: Path) -> None:
        (path,) = write_shards([example("k")], tmp_path, prefix="x")
        with tarfile.open(path) as tar:
            suffixes = ["json", "anechoic.flac", "reverberant.flac", "rir.flac", "image.jpg", "depth.png"]
            assert tar.getnames() == [f"k.{suffix}" for suffix in suffixes]
            record = json.load(tar.extractfile("k.json"))  # type: ignore[arg-type]
            waveform, rate = soundfile.read(tar.extractfile("k.rir.flac"), dtype="float32")
            depth = np.asarray(Image.open(tar.extractfile("k.depth.png")))  # type: ignore[arg-type]
        np.testing.assert_array_equal(waveform * record["rir_scale"], Shards(path)[0].rir)
        assert rate == 16_000 and depth.dtype == np.uint16

    @given(st.floats(-60, 60), st.integers(1, 300), st.integers(0, 2**31))
    def test_any_level(self, level_db: float, num_samples: int, seed: int) -> None:
        waveform = np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32) * 10 ** (
            level_db / 20
        )
        content, scale = shards._encode_flac(waveform, 16_000, "x")
        entry = shards._Entry(Path("x"), "x", {"rir.flac": shards._Member(0, len(content))})
        file = io.BufferedReader(io.BytesIO(content))
        decoded = shards._decode_flac(entry, "rir", file, {"sample_rate": 16_000, "rir_scale": scale})  # type: ignore[arg-type]
        np.testing.assert_allclose(decoded, waveform, atol=scale * 2.0**-24, rtol=1e-6)

    def test_pickles(self, tmp_path: Path) -> None:
        stored = Shards(write_shards([example()], tmp_path, prefix="x"))
        copy = pickle.loads(pickle.dumps(stored))
        np.testing.assert_array_equal(copy[0].rir, stored[0].rir)

    @pytest.mark.parametrize("size", [0, 100, 700, 3000, -10_240])
    def test_truncated(self, tmp_path: Path, size: int) -> None:
        (path,) = write_shards([example("a"), example("b")], tmp_path, prefix="x")
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(DataError, match=r"x-000000\.tar"):
            Shards(path)

    def test_damaged_header_is_no_end(self, tmp_path: Path) -> None:
        (path,) = write_shards([example("a"), example("b")], tmp_path, prefix="x")
        content = bytearray(path.read_bytes())
        with tarfile.open(path) as tar:
            offset = tar.getmember("b.json").offset
        content[offset : offset + 512] = b"\xff" * 512
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged"):
            Shards(path)

    @pytest.mark.parametrize("suffix", ["json", "rir.flac", "image.jpg", "depth.png"])
    def test_damaged_member_is_named(self, tmp_path: Path, suffix: str) -> None:
        (path,) = write_shards([example("hall")], tmp_path, prefix="x")
        content = bytearray(path.read_bytes())
        with tarfile.open(path) as tar:
            member = tar.getmember(f"hall.{suffix}")
        middle = member.size // 2 if suffix == "rir.flac" else 0
        content[member.offset_data + middle : member.offset_data + member.size] = b"\x01" * (
            member.size - middle
        )
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"x-000000\.tar: hall\.{suffix}"):
            Shards(path)[0]

    def test_oversized_member(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (path,) = write_shards([example("a")], tmp_path, prefix="x")
        monkeypatch.setitem(shards._SIZE_LIMITS, "rir.flac", 10)
        with pytest.raises(DataError, match=r"a\.rir\.flac has \d+ bytes"):
            Shards(path)

    @pytest.mark.parametrize(
        "bad",
        [
            example("a.b"),
            example("../a"),
            example(metadata={"rt60": float("nan")}),
            example(rir=np.array([np.nan], np.float32)),
            example(anechoic=np.zeros((2, 5), np.float32)),
        ],
    )
    def test_unstorable_leaves_nothing(self, tmp_path: Path, bad: Example) -> None:
        with pytest.raises(DataError):
            write_shards([example("fine"), bad], tmp_path, prefix="x")
        assert not list(tmp_path.iterdir())

    def test_never_overwrites_unasked(self, tmp_path: Path) -> None:
        write_shards([example("a")], tmp_path, prefix="x")
        with pytest.raises(OutputExistsError):
            write_shards([example("b")], tmp_path, prefix="x")
        assert Shards(tmp_path).keys == ["a"]
        write_shards([example("b"), example("c")], tmp_path, prefix="x", examples_per_shard=1, force=True)
        assert Shards(tmp_path).keys == ["b", "c"]
        (tmp_path / "x-000001-other.tar").touch()  # of another name
        write_shards([example("d")], tmp_path, prefix="x", force=True)
        assert {path.name for path in tmp_path.iterdir()} == {"x-000000.tar", "x-000001-other.tar"}

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no \.tar shards"):
            Shards(tmp_path)
        with pytest.raises(DataError, match="not a readable tar"):
            Shards([tmp_path / "missing.tar"])
        (tmp_path / "a.jpg").touch()
        with tarfile.open(tmp_path / "backup.tar", "w") as tar:
            tar.add(tmp_path / "a.jpg", "photos/a.jpg")
        with pytest.raises(DataError, match="holds no examples"):
            Shards(tmp_path)


class TestSpeech:
    def test_the_cache_is_of_these_files(self, tmp_path: Path) -> None:
        for number, name in enumerate(("clean", "noisy")):
            (tmp_path / name).mkdir()
            samples = np.full(8000, 0.1 + 0.2 * number, np.float32)
            soundfile.write(tmp_path / name / "u.wav", samples, 16_000)
            os.utime(tmp_path / name / "u.wav", ns=(0, number))
        first, second = (Speech(tmp_path / name, tmp_path / "cache") for name in ("clean", "noisy"))
        assert first.utterance(0)[0] == pytest.approx(0.1, abs=1e-3)
        assert second.utterance(0)[0] == pytest.approx(0.3, abs=1e-3)

    def test_half_a_cache_is_made_again(self, folder: Path, tmp_path: Path) -> None:
        first = Speech(folder / "speech", tmp_path).utterance(0)
        for path in list(tmp_path.iterdir()):
            path.unlink()
            np.testing.assert_array_equal(Speech(folder / "speech", tmp_path).utterance(0), first)

    def test_holdout_splits(self, folder: Path, tmp_path: Path) -> None:
        training = Speech(folder / "speech", tmp_path, holdout=["*2.wav"])
        test = Speech(folder / "speech", tmp_path, holdout=["*2.wav"], only_holdout=True)
        assert training.paths == ["speaker0.wav", "speaker1.wav"] and test.paths == ["speaker2.wav"]
        original, _ = soundfile.read(folder / "speech" / "speaker2.wav", dtype="float32")
        np.testing.assert_allclose(test.utterance(0), original, atol=2e-5)

    def test_a_speaker_is_held_out_with_all_chapters(self, tmp_path: Path) -> None:
        for name in ("27/123/27-123-0", "27/1239/27-1239-0", "19/1/19-1-0", "9/x"):
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / "set" / f"{name}.wav", np.full(4000, 0.25), 16_000)
        training, test = (
            Speech(tmp_path, tmp_path / "cache", ["set/*9/*"], only_holdout=only) for only in (False, True)
        )
        assert training.paths == ["set/27/123/27-123-0.wav", "set/27/1239/27-1239-0.wav"]
        assert test.paths == ["set/19/1/19-1-0.wav", "set/9/x.wav"]
        for glob in ("set/27/1239/*", "*/27/1239/27-1239-0.wav"):
            (held,) = Speech(tmp_path, tmp_path / "cache", [glob], only_holdout=True).paths
            assert held == "set/27/1239/27-1239-0.wav"
        (flat,) = Speech(tmp_path / "set" / "9", tmp_path / "cache", ["x*"], only_holdout=True).paths
        assert flat == "x.wav"

    def test_rebuilds_only_when_the_files_change(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        soundfile.write(tmp_path / "a.wav", np.full(4000, 0.25), 16_000)
        first = Speech(tmp_path, tmp_path / "cache").utterance(0)
        with monkeypatch.context() as patch:
            patch.setattr("mvsd.data.speech._build_cache", lambda *_: pytest.fail("decoded again"))
            np.testing.assert_array_equal(Speech(tmp_path, tmp_path / "cache").utterance(0), first)
        soundfile.write(tmp_path / "a.wav", np.full(8000, 0.5), 16_000)
        assert Speech(tmp_path, tmp_path / "cache").utterance(0).shape == (8000,)

    def test_rate_and_channels(self, tmp_path: Path) -> None:
        time = np.arange(44_100) / 44_100
        tone = np.sin(2 * np.pi * 440 * time)
        (tmp_path / "ann").mkdir()
        soundfile.write(
            tmp_path / "ann" / "a.FLAC", np.stack([tone, 0 * tone], axis=1), 44_100, format="FLAC"
        )
        speech = Speech(tmp_path, tmp_path / "cache")
        expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
        np.testing.assert_allclose(speech.utterance(0)[500:-500], expected[500:-500], atol=1e-3)
        assert speech.speaker(0) == "ann" and len(speech) == 1

    @given(seed=st.integers(0, 2**62), num_samples=st.integers(1, 20_000), context=st.integers(0, 3000))
    def test_crop_lies_in_its_utterance(
        self, folder: Path, seed: int, num_samples: int, context: int
    ) -> None:
        speech = Speech(folder / "speech", folder / "cache")
        crop = speech.crop(seed, num_samples, context)
        assert crop.shape == (context + num_samples,) and crop.dtype == np.float32
        np.testing.assert_array_equal(crop, speech.crop(seed, num_samples, context))
        inside = np.flatnonzero(crop)
        piece = crop[inside[0] : inside[-1] + 1]
        assert any(piece.tobytes() in speech.utterance(index).tobytes() for index in range(3))

    def test_skips_pauses_and_is_uniform(self, tmp_path: Path) -> None:
        waveform = np.zeros(60_000)
        waveform[20_000:40_000] = np.linspace(0.4, 0.6, 20_000)  # the value tells the time
        soundfile.write(tmp_path / "a.wav", waveform, 16_000)
        speech = Speech(tmp_path, tmp_path / "cache")
        crops = np.stack([speech.crop(seed, 400) for seed in range(400)])
        assert (crops.max(axis=1) > 0.1).all()
        assert np.histogram(crops.max(axis=1), bins=4, range=(0.4, 0.6))[0].min() > 70

    def test_speakers(self, tmp_path: Path) -> None:
        """A folder each, but in LibriSpeech's own layout, speaker/chapter/speaker-chapter-number."""
        names = ["a/ann/1.wav", "a/bob/1-2.wav", "b/19/198/19-198-0001.wav", "b/19/227/19-227-0001.wav"]
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / name, np.full(100, 0.1), 16_000)
        speech = Speech(tmp_path, tmp_path / "cache")
        assert speech.paths == names
        assert [speech.speaker(index) for index in range(4)] == ["a/ann", "a/bob", "b/19", "b/19"]

    def test_weights(self, folder: Path) -> None:
        speech = Speech(folder / "speech", folder / "cache", weights={"*0.wav": 0.0, "*1.wav": 0.0})
        assert speech.crop(1, 500).tobytes() in speech.utterance(2).tobytes()
        last = {"*": 0.0, "*1.wav": 1.0}  # the last match counts
        speech = Speech(folder / "speech", folder / "cache", weights=last)
        assert speech.crop(1, 500).tobytes() in speech.utterance(1).tobytes()

    def test_errors(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="is not a folder"):
            Speech(tmp_path / "missing", tmp_path)
        with pytest.raises(DataError, match="no speech left"):
            Speech(tmp_path, tmp_path)
        with pytest.raises(DataError, match=r"no sound file in .* matches nobody/\*"):
            Speech(tmp_path, tmp_path, ["nobody/*"], only_holdout=True)
        (tmp_path / "text.wav").write_text("no sound")
        with pytest.raises(DataError, match=r"text\.wav"):
            Speech(tmp_path, tmp_path / "cache")
        assert not list((tmp_path / "cache").iterdir())


class TestMixer:
    def test_rows(self, mixer: Mixer) -> None:
        batch = mixer.batch(5)
        assert len(batch) == 6 and batch.anechoic.shape == batch.reverberant.shape == (6, 2048)
        assert batch.rir.shape == (6, 1024) and batch.scene.shape == (6, 4, 96, 192)
        known = {
            name: [bool(row.any()) for row in getattr(batch, name)]
            for name in ("anechoic", "reverberant", "rir")
        }
        assert known["anechoic"] == [True, True, False, False, True, True]
        assert known["reverberant"] == [True, True, True, True, False, False]
        assert known["rir"] == [True, True, False, False, False, False]
        assert (batch.rir[:2, 0] == 1).all() and batch.scene.isfinite().all()
        assert batch.seeds.tolist() == [row_seed(3, 5, row) for row in range(6)]
        assert max(float(batch.anechoic.abs().max()), float(batch.reverberant.abs().max())) < 1.0

    def test_reverberant_is_the_convolution_with_what_came_before(self, mixer: Mixer) -> None:
        batch = mixer.pairs(8)
        for seed, anechoic, reverberant, rir in zip(
            batch.seeds.tolist(), batch.anechoic, batch.reverberant, batch.rir, strict=True
        ):
            voice = mixer._speech.crop(seed, 2048, context=1023)
            gain = float(anechoic.abs().max()) / np.abs(voice[1023:]).max()
            np.testing.assert_allclose(anechoic, voice[1023:] * gain, atol=1e-6)
            expected = signal.convolve(voice.astype(np.float64), rir.double().numpy(), mode="valid") * gain
            np.testing.assert_allclose(reverberant, expected, atol=1e-5)

    def test_noise_and_levels_are_as_asked(self, mixer: Mixer) -> None:
        def pairs(**changes: Any) -> Batch:
            other = object.__new__(Mixer)
            other.__dict__ |= {**vars(mixer), "config": replace(mixer.config, **changes)}
            return other.pairs(8)

        plain = pairs(level_db=(-40.0, -40.0))
        noisy = pairs(level_db=(-40.0, -40.0), noise_share=1.0, noise_db=(-10.0, -10.0))
        for batch in (plain, noisy):
            levels = batch.anechoic.square().mean(1).sqrt()
            torch.testing.assert_close(levels, torch.full((8,), 0.01), rtol=1e-3, atol=0)
        gain = (noisy.reverberant - noisy.anechoic).norm(dim=1) / (plain.reverberant - plain.anechoic).norm(
            dim=1
        )
        noise = noisy.anechoic / gain[:, None] - plain.anechoic
        ratio_db = 20 * (noise.norm(dim=1) / plain.reverberant.norm(dim=1)).log10()
        torch.testing.assert_close(ratio_db, torch.full((8,), -10.0), atol=0.05, rtol=0)
        loud = pairs(level_db=(20.0, 20.0))
        peaks = torch.stack([loud.anechoic, loud.reverberant]).abs().amax((0, 2))
        torch.testing.assert_close(peaks, torch.full((8,), 0.99), rtol=1e-4, atol=0)

    def test_some_rooms_are_taken_away(self, mixer: Mixer) -> None:
        dry = object.__new__(Mixer)
        dry.__dict__ |= {**vars(mixer), "config": replace(mixer.config, dry_share=0.5)}
        batch = dry.pairs(40)
        without = (batch.rir[:, 1:] == 0).all(1)
        assert 8 < int(without.sum()) < 32
        torch.testing.assert_close(batch.reverberant[without], batch.anechoic[without], atol=1e-5, rtol=0)
        assert (batch.rir[:, 0] == 1).all()
        with pytest.raises(ConfigError, match="dry_share"):
            replace(mixer.config, dry_share=1.5)

    def test_recordings_with_a_photo_only_are_training_data(self, folder: Path, tmp_path: Path) -> None:
        scene = Scene(np.full((32, 64, 3), 90, np.uint8))
        ramps = [np.linspace(0.1, 0.5, size, dtype=np.float32) for size in (6000, 900)]  # one is too short
        made = [Example(f"clip-{i}", scene, reverberant=ramp) for i, ramp in enumerate(ramps)]
        write_shards(made, tmp_path, prefix="real")
        speech, rooms = Speech(folder / "speech", folder / "cache"), Shards(folder / "rooms")
        mixer = Mixer(speech, rooms, Shards(tmp_path), None, CONFIG)
        seen = set()
        for number in range(6):
            batch = mixer.batch(number)
            rows = slice(batch.num_paired, batch.num_paired + batch.num_reverberant)
            assert not batch.anechoic[rows].any() and not batch.rir[rows].any()
            for row in batch.reverberant[rows].double():
                is_long = bool((row[1:] > row[:-1]).all())
                period = row[:900] if not is_long else row
                assert is_long or torch.equal(row[900:1800], period)
                slope = period[1:] - period[:-1]
                assert float(slope.min()) == pytest.approx(float(slope.max()), rel=0.02)
                seen.add(is_long)
        assert seen == {True, False}
        with pytest.raises(DataError, match=r"wanted are scene and rir, 16000 Hz"):
            Mixer(speech, Shards(tmp_path), None, None, CONFIG)

    def test_a_room_comes_nearer_or_farther(self, mixer: Mixer) -> None:
        nearer = object.__new__(Mixer)
        nearer.__dict__ |= {**vars(mixer), "config": replace(mixer.config, room_gain_db=(-6.0, -6.0))}
        batch, usual = nearer.pairs(4), mixer.pairs(4)
        torch.testing.assert_close(batch.rir[:, 1:], usual.rir[:, 1:] * 10**-0.3)
        assert (batch.rir[:, 0] == 1).all()
        with pytest.raises(ConfigError, match="room_gain_db"):
            replace(mixer.config, room_gain_db=(1.0, 0.0))

    def test_both_sides_hear_the_same_microphone_and_noise(self, mixer: Mixer) -> None:
        changes = {"dry_share": 1.0, "timbre_db": 6.0, "band_limit_share": 0.5, "level_db": (-30.0, -30.0)}
        heard = object.__new__(Mixer)
        heard.__dict__ |= {**vars(mixer), "config": replace(mixer.config, **changes)}
        batch = heard.pairs(8)
        torch.testing.assert_close(batch.reverberant, batch.anechoic, atol=1e-5, rtol=0)
        plain = mixer.pairs(8)
        spectra = [torch.fft.rfft(b.anechoic).abs().square().mean(0) for b in (batch, plain)]
        assert not torch.allclose(spectra[0] / spectra[0].sum(), spectra[1] / spectra[1].sum(), rtol=0.1)
        noisy = object.__new__(Mixer)
        config = replace(heard.config, noise_share=1.0, noise_db=(-10.0, -10.0))
        noisy.__dict__ |= {**vars(mixer), "config": config}
        batch = noisy.pairs(8)
        torch.testing.assert_close(batch.reverberant, batch.anechoic, atol=1e-5, rtol=0)

    def test_recordings_break_off_on_both_sides(self, mixer: Mixer) -> None:
        def pairs(**changes: Any) -> Batch:
            other = object.__new__(Mixer)
            other.__dict__ |= {**vars(mixer), "config": replace(mixer.config, **changes)}
            return other.pairs(24)

        whole, cut = pairs(), pairs(cut_share=1.0)
        silent = (cut.reverberant == 0) & (cut.anechoic == 0)
        assert silent.any(dim=1).all()
        for batch in (whole, cut):  # what is not silent is as it was, but for the level
            batch.anechoic[silent], batch.reverberant[silent] = 0.0, 0.0
        gain = cut.reverberant.norm(dim=1) / whole.reverberant.norm(dim=1)
        torch.testing.assert_close(cut.anechoic, gain[:, None] * whole.anechoic, atol=1e-5, rtol=1e-4)
        to_the_end = silent[:, -1]
        assert 0 < int(to_the_end.sum()) < 24
        noisy = pairs(cut_share=1.0, noise_share=1.0, noise_db=(-40.0, -40.0))
        assert not (noisy.reverberant == 0).any()

    def test_a_microphone_that_ends_at_a_frequency(self) -> None:
        config = DataConfig(band_limit_share=1.0)
        voice = np.random.default_rng(0).standard_normal(16_384).astype(np.float32)
        for seed in range(10):
            heard = through_microphone(voice, np.random.default_rng(seed), config)
            generator = np.random.default_rng(seed)
            generator.standard_normal(8), generator.random()
            end_hz = generator.uniform(3500, 7500)
            power, before = (np.abs(np.fft.rfft(x)) ** 2 for x in (heard, voice))
            frequency = np.fft.rfftfreq(len(voice), 1 / 16_000)
            assert (
                power[frequency > 1.26 * end_hz].sum() < 1e-3 * before[frequency > 1.26 * end_hz].sum() + 1e-9
            )
            below = frequency < 0.98 * end_hz
            np.testing.assert_allclose(power[below], before[below], rtol=1e-2, atol=1.0)

    def test_coloured_noise_falls_with_frequency_as_drawn_and_has_unit_level(self) -> None:
        exponents = []
        for seed in range(8):
            noise = coloured_noise(32_768, np.random.default_rng(seed))
            assert np.sqrt(np.mean(noise**2)) == pytest.approx(1, rel=1e-4)
            level = np.log(np.abs(np.fft.rfft(noise)))
            generator = np.random.default_rng(seed)
            generator.standard_normal(32_768)
            exponents.append(generator.uniform(0, 1.5))
            slope = np.polyfit(np.log(np.arange(1, len(level) + 1)), level, 1)[0]
            assert slope == pytest.approx(-exponents[-1], abs=0.05)
        assert np.ptp(exponents) > 0.7

    @pytest.mark.parametrize("num_workers", [1, 3])
    def test_does_not_depend_on_workers_or_order(self, mixer: Mixer, num_workers: int) -> None:
        other = object.__new__(Mixer)
        other.__dict__ |= {**vars(mixer), "config": replace(mixer.config, num_workers=num_workers)}
        for number, batch in zip(range(4, 8), batches(other, 4, 8), strict=True):
            expected = mixer.batch(number)
            assert torch.equal(batch.reverberant, expected.reverberant) and torch.equal(
                batch.scene, expected.scene
            )

    def test_endless_stream_closes(self, mixer: Mixer) -> None:
        stream = batches(mixer, 2)
        assert torch.equal(next(stream).seeds, mixer.batch(2).seeds)
        stream.close()

    def test_processes_share_a_batch(self, mixer: Mixer) -> None:
        whole = mixer.batch(1)
        for rank in range(2):
            share = mixer.batch(1, rank, 2)
            assert (share.num_paired, share.num_reverberant, share.num_anechoic) == (1, 1, 1)
            for name in ("anechoic", "reverberant", "rir", "scene", "seeds"):
                assert torch.equal(getattr(share, name), getattr(whole, name)[[rank, 2 + rank, 4 + rank]])
        with pytest.raises(ConfigError, match="num_paired is 2; it must be a multiple of the 4 processes"):
            mixer.batch(1, 0, 4)

    def test_warm_up_is_paired(self, folder: Path, mixer: Mixer) -> None:
        warming = open_mixer(replace(mixer.config, warmup_rows=4), seed=3, paired_batches=2)
        assert [warming.counts(number) for number in (0, 1, 2)] == [(4, 0, 0), (4, 0, 0), (2, 2, 2)]
        assert torch.equal(warming.batch(2).scene, mixer.batch(2).scene)

    def test_scenes_turn_only_where_they_are_panoramas(self, mixer: Mixer) -> None:
        panorama, photo = mixer._rooms.scenes, mixer._photos
        assert len(photo) == 0 and panorama._turnable == [True, False, True]
        rows, columns = panorama._boxes[1]
        assert (columns.start, columns.stop) == (32, 160) and (rows.start, rows.stop) == (0, 96)
        config = SceneConfig(jitter=0.0, depth_dropout=0.0)
        original = panorama._canvases[1].astype(np.float32)
        drawn = [panorama.draw(1, np.random.default_rng(seed), config) for seed in range(20)]
        mirrored = original[..., ::-1]
        assert {np.array_equal(canvas, original) for canvas in drawn} == {True, False}
        assert all(np.array_equal(canvas, original) or np.array_equal(canvas, mirrored) for canvas in drawn)
        turned = panorama.draw(0, np.random.default_rng(1), config)
        np.testing.assert_allclose(np.sort(turned.ravel()), np.sort(panorama._canvases[0].ravel()))

    def test_bars_stay_zero_and_depth_drops(self, mixer: Mixer) -> None:
        config = SceneConfig(jitter=0.3)
        drawn = [mixer._rooms.scenes.draw(1, np.random.default_rng(seed), config) for seed in range(30)]
        assert all(not canvas[:, :, :32].any() and not canvas[:, :, 160:].any() for canvas in drawn)
        assert 5 < sum(bool(canvas[3].any()) for canvas in drawn) < 25

    def test_a_crop_enlarges_a_piece_of_a_photo_and_leaves_panoramas_whole(self, mixer: Mixer) -> None:
        ramp = np.broadcast_to(np.linspace(0, 1, 128, dtype=np.float32), (4, 96, 128))
        for share in (0.5, 0.7, 1.0):
            piece, box = _framed(ramp, share, np.array([0.3, 0.6]), None, (96, 192))
            # A piece of a ramp, enlarged, rises less, and holds no depth that was not there.
            assert np.ptp(piece[0, 48]) == pytest.approx(share, abs=0.01)
            assert np.isin(piece[3], ramp[3]).all()
            assert piece.shape == (4, 96, 128) and box == (slice(0, 96), slice(32, 160))
        config, scenes = SceneConfig(jitter=0.0, crop=0.5, depth_dropout=0.0), mixer._rooms.scenes
        whole = scenes._canvases[1].astype(np.float32)
        drawn = [scenes.draw(1, np.random.default_rng(seed), config) for seed in range(10)]
        assert all(not canvas[:, :, :32].any() and not canvas[:, :, 160:].any() for canvas in drawn)
        assert not any(np.array_equal(canvas, whole) for canvas in drawn)
        turned = scenes.draw(0, np.random.default_rng(1), config)
        np.testing.assert_allclose(np.sort(turned.ravel()), np.sort(scenes._canvases[0].ravel()))

    @pytest.mark.parametrize(
        ("aspect", "shown", "box"),
        [
            (3 / 4, 72 / 128, (slice(0, 96), slice(60, 132))),
            (1.0, 96 / 128, (slice(0, 96), slice(48, 144))),
            (16 / 9, 1.0, (slice(0, 96), slice(10, 181))),
            (4.0, 1.0, (slice(24, 72), slice(0, 192))),
        ],
    )
    def test_a_photo_of_another_shape_is_fitted_as_such_photos_are(
        self, aspect: float, shown: float, box: tuple[slice, slice]
    ) -> None:
        ramp = np.broadcast_to(np.linspace(0, 1, 128, dtype=np.float32), (4, 96, 128))
        piece, found = _framed(ramp, 1.0, np.array([0.5, 0.5]), aspect, (96, 192))
        assert found == box
        assert piece.shape[1:] == tuple(side.stop - side.start for side in box)
        assert np.ptp(piece[0, 0]) == pytest.approx(shown, abs=0.02)

    def test_the_shape_of_a_photo_is_drawn_and_its_bars_stay_zero(self, mixer: Mixer) -> None:
        config, scenes = SceneConfig(reshape=0.7, depth_dropout=0.0), mixer._rooms.scenes
        drawn = [scenes.draw(1, np.random.default_rng(seed), config) for seed in range(40)]
        boxes = [tuple(np.flatnonzero(canvas[0].any(axis)) for axis in (1, 0)) for canvas in drawn]
        aspects = np.array([len(columns) / len(rows) for rows, columns in boxes])
        assert 5 < np.sum(np.isclose(aspects, 4 / 3)) < 20
        assert (
            aspects.min() < 0.85 and aspects.max() > 1.6 and (aspects > 0.73).all() and (aspects < 1.8).all()
        )
        for canvas, (rows, columns) in zip(drawn, boxes, strict=True):
            assert len(rows) == 96 or len(columns) == 192
            outside = np.ones(canvas.shape[1:], bool)
            outside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
            assert not canvas[:, outside].any()

    def test_a_warm_light_makes_white_yellow_and_leaves_black(self, mixer: Mixer) -> None:
        scenes = Scenes([Scene(np.repeat(np.uint8([[[0] * 3, [255] * 3]]), 48, 0).repeat(32, 1))])
        canvas = scenes.draw(0, np.random.default_rng(3), SceneConfig(jitter=0.2))
        black, white = canvas[:3, 48, 40], canvas[:3, 48, 150]
        black, white = sorted(
            (IMAGENET_MEAN + IMAGENET_STD * colour for colour in (black, white)), key=np.sum
        )
        # Light multiplies what a camera sees: but for contrast and brightness, which all colours share, black stays.
        assert np.ptp(white) > 3 * np.ptp(black) > 0

    def test_blur_and_noise_spare_depth_and_bars(self, mixer: Mixer) -> None:
        config = SceneConfig(jitter=0.0, depth_dropout=0.0)
        scenes, seed = mixer._rooms.scenes, 4
        sharp = scenes.draw(1, np.random.default_rng(seed), config)
        blurred = scenes.draw(1, np.random.default_rng(seed), replace(config, blur=3.0))
        noisy = scenes.draw(1, np.random.default_rng(seed), replace(config, noise=0.2))
        for canvas in (blurred, noisy):
            assert np.array_equal(canvas[3], sharp[3])
            assert not canvas[:, :, :32].any() and not canvas[:, :, 160:].any()
        inside = np.s_[:3, :, 32:160]
        # A blur spreads what it finds: the mean stays, differences between neighbours become less.
        assert blurred[inside].mean() == pytest.approx(sharp[inside].mean(), abs=0.02)
        roughness = [np.abs(np.diff(canvas[inside])).mean() for canvas in (blurred, sharp)]
        assert roughness[0] < 0.9 * roughness[1]
        added = (noisy - sharp)[inside]
        assert 0 < added.std() < 0.2 and abs(added.mean()) < 0.01

    def test_local_contrast_changes_details_and_neither_their_surroundings_nor_depth(
        self, mixer: Mixer
    ) -> None:
        config = SceneConfig(jitter=0.0, depth_dropout=0.0)
        changed_config, scenes = replace(config, local_contrast=0.5), mixer._rooms.scenes
        inside, ratios = np.s_[:3, :, 32:160], []
        for seed in range(20):
            plain = scenes.draw(1, np.random.default_rng(seed), config)
            changed = scenes.draw(1, np.random.default_rng(seed), changed_config)
            assert np.array_equal(changed[3], plain[3])
            assert not changed[:, :, :32].any() and not changed[:, :, 160:].any()
            assert changed[inside].mean() == pytest.approx(plain[inside].mean(), abs=0.02)
            ratios.append(np.diff(changed[inside]).std() / np.diff(plain[inside]).std())
        assert 0.5 <= min(ratios) < 0.8 and 1.2 < max(ratios) <= 1.5

    def test_photos_and_unpaired_rooms_are_drawn(self, folder: Path, mixer: Mixer) -> None:
        write_data(folder / "other", num_rooms=1)
        rooms = Shards(folder / "other" / "rooms")
        photo = Scene(np.full((96, 96, 3), 255, np.uint8))
        other = Mixer(mixer._speech, Shards(folder / "rooms"), rooms, [photo] * 20, mixer.config)
        batch = other.batch(0)
        bright = batch.scene[4:, :3, 48, 96].mean(dim=1)
        assert len(other._unpaired.rirs) == 1 and float(bright.max()) > 2.0

    def test_what_a_configuration_names_is_what_is_mixed(self, folder: Path, tmp_path: Path) -> None:
        write_data(tmp_path / "another", num_rooms=1)
        (tmp_path / "photos" / "sub").mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(tmp_path / "photos" / "sub" / "a.JPG", "JPEG")
        config = replace(
            CONFIG,
            speech=str(folder / "speech"),
            cache=str(folder / "cache"),
            rooms=(str(folder / "rooms"),),
            unpaired_rooms=(str(tmp_path / "another" / "rooms"),),
            photos=str(tmp_path / "photos"),
            speech_holdout=("*2.wav",),
        )
        mixer = open_mixer(config)
        assert mixer._speech.paths == ["speaker0.wav", "speaker1.wav"]
        assert (len(mixer._rooms.rirs), len(mixer._unpaired.rirs), len(mixer._photos)) == (3, 1, 1)
        numbers = {name: text.split()[0] for name, text in mixer.contents().items()}
        kinds = ("data.speech", "data.rooms", "data.unpaired_rooms", "data.photos")
        assert numbers == dict(zip(kinds, "2311", strict=True))
        with pytest.raises(DataError, match="the weights leave no speech"):
            open_mixer(replace(config, speech_weights={"*": 0.0}))

    def test_errors(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no training data"):
            open_mixer(CONFIG)
        with pytest.raises(ConfigError, match="no rows"):
            DataConfig(num_paired=0, num_reverberant=0, num_anechoic=0)
        bare = Shards(write_shards([example("a", rir=None)], tmp_path, prefix="x"))
        speech = Speech(folder / "speech", folder / "cache")
        with pytest.raises(DataError, match="a is no room"):
            Mixer(speech, bare, None, None, CONFIG)
        late = Shards(
            write_shards([example("b", rir=np.array([0.0, 1.0], np.float32))], tmp_path, prefix="late")
        )
        with pytest.raises(DataError, match="rir of b starts with 0; wanted is the direct sound as 1"):
            Mixer(speech, late, None, None, CONFIG)


def test_names_may_be_long(tmp_path: Path) -> None:
    example = Example("k" * 200, None, anechoic=np.full(99, 0.1, np.float32), sample_rate=16_000)
    write_shards([example], tmp_path, prefix="x")
    assert Shards([tmp_path])[0].key == "k" * 200
