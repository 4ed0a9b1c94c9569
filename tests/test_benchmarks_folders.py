"""Folders of one's own recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from benchmark_fixtures import synthetic_room, synthetic_voice, write_folder
from PIL import Image

from mvsd.data.datasets import open_dataset, recognise
from mvsd.data.protocols import CLIP_SAMPLES
from mvsd.data.shards import Shards, write_shards
from mvsd.errors import DataError, PhotoError


class TestFolder:
    def test_roles(self, tmp_path: Path) -> None:
        write_folder(tmp_path)
        full, bare = open_dataset(tmp_path)
        assert recognise(tmp_path) == "folder" and (full.key, bare.key) == ("p1_take", "p2-other")
        np.testing.assert_allclose(full.anechoic, synthetic_voice(0, 1.0), atol=1e-6)
        np.testing.assert_allclose(full.rir, synthetic_room(0).rir, atol=1e-6)
        assert len(full.reverberant) == 16_000 and full.scene.image.shape == (48, 144, 3)
        assert full.metadata == {"name": "p1_take", "speaker": "p1", "transcript": "some words"}
        assert len(bare.reverberant) == 16_000 and bare.anechoic is None and bare.scene is None

    def test_first_clip(self, tmp_path: Path) -> None:
        write_folder(tmp_path)
        full, bare = open_dataset(tmp_path, protocol="first-2.56s")
        assert len(full.anechoic) == len(bare.reverberant) == CLIP_SAMPLES
        assert np.abs(full.anechoic).max() == np.abs(bare.reverberant).max() == 1.0

    def test_flat(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "kitchen.wav", synthetic_voice(0, 0.2), 16_000)
        Image.fromarray(synthetic_room(0).image).save(tmp_path / "kitchen.jpg")
        (example,) = open_dataset(tmp_path)
        assert example.key == "kitchen" and example.scene is not None and example.anechoic is None

    def test_names_in_any_script(self, tmp_path: Path) -> None:
        for name in ("客厅", "卧室 2", "Küche", "Köche", "की", "का"):
            soundfile.write(tmp_path / f"{name}.wav", synthetic_voice(0, 0.2), 16_000)
        found = open_dataset(tmp_path)
        assert [example.key for example in found] == ["Köche", "Küche", "का", "की", "卧室-2", "客厅"]
        write_shards(found, tmp_path / "shards", prefix="x")
        assert Shards(tmp_path / "shards").keys == [example.key for example in found]
        soundfile.write(tmp_path / "卧室-2.wav", synthetic_voice(0, 0.2), 16_000)
        with pytest.raises(DataError, match="卧室 2 and 卧室-2"):
            open_dataset(tmp_path)

    def test_a_response_alone_is_a_room_to_speak_into(self, tmp_path: Path) -> None:
        (tmp_path / "rir").mkdir()
        rir = np.concatenate([np.zeros(16), synthetic_room(0).rir]).astype(np.float32)
        soundfile.write(tmp_path / "rir" / "hall-1.wav", 0.5 * rir, 16_000, subtype="FLOAT")
        (example,) = open_dataset(tmp_path)
        np.testing.assert_allclose(example.rir, synthetic_room(0).rir, atol=1e-5)
        assert example.anechoic is None and example.reverberant is None and example.scene is None
        assert example.metadata == {"name": "hall-1"}

    @pytest.mark.parametrize("noise_db", [-45, -60])
    def test_the_noise_behind_a_measured_response_is_no_room(self, tmp_path: Path, noise_db: int) -> None:
        """Two seconds of a floor would be most of what is learned of a room that decays by 60 dB in 0.4 s."""
        late, floor = 0.2 * np.random.default_rng(0).standard_normal((2, 40_000))
        late *= 10 ** (-3 * np.arange(40_000) / 16_000 / 0.4)
        late[0] = 0.9
        noisy = np.pad(late[:-1000], (1000, 0)) + 10 ** (noise_db / 20) * floor
        short = np.zeros(600)
        short[[3, 400]] = 1.0, 0.5  # no decay: nothing says what of it is noise
        (tmp_path / "rir").mkdir()
        for name, rir in (("noisy", noisy), ("short", short)):
            soundfile.write(tmp_path / "rir" / f"{name}.wav", rir, 16_000, subtype="FLOAT")
        measured, whole = (example.rir for example in open_dataset(tmp_path))
        assert len(measured) == pytest.approx(-noise_db / 60 * 0.4 * 16_000, rel=0.1)
        np.testing.assert_allclose(measured, noisy[1000 : 1000 + len(measured)] / noisy[1000], rtol=1e-5)
        np.testing.assert_allclose(whole, short[3:], atol=1e-6)

    @pytest.mark.parametrize(
        "shape", ["(10**30, 2)", "(1000000000000000000000000000000, 2)", "(2, (", "(-1, 2)"]
    )
    def test_hostile_depth(self, tmp_path: Path, shape: str) -> None:
        write_folder(tmp_path)
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        (tmp_path / "depth").mkdir()
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
        (tmp_path / "depth" / "p1_take.npy").write_bytes(content)
        with pytest.raises(PhotoError, match="depth map"):
            open_dataset(tmp_path)[0]

    def test_errors(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no recordings"):
            open_dataset(tmp_path)
        with pytest.raises(DataError, match="no folder"):
            open_dataset(tmp_path / "missing")
        write_folder(tmp_path)
        with pytest.raises(DataError, match="no splits"):
            open_dataset(tmp_path, split="test")
        soundfile.write(tmp_path / "rir" / "p1_take.flac", np.zeros(10), 16_000)
        with pytest.raises(DataError, match="one name"):
            open_dataset(tmp_path)
        (tmp_path / "rir" / "p1_take.wav").unlink()
        with pytest.raises(DataError, match="no response"):
            open_dataset(tmp_path)[0]
        (tmp_path / "rir" / "p1_take.flac").unlink()
        soundfile.write(tmp_path / "reverberant" / "p2+other.wav", np.ones(10), 16_000)
        with pytest.raises(DataError, match="differ only"):
            open_dataset(tmp_path)
