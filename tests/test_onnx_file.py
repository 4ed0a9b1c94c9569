"""A model as an ONNX file gives what the model gives."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import contents, fails, run_here
from conftest import Models

import mvsd
from mvsd.config import from_dict
from mvsd.converter import Converter
from mvsd.converter_config import ConverterConfig
from mvsd.errors import MissingExtraError, MvsdError, OutputExistsError
from mvsd.onnx_file import FORMAT, _ConvolutionSpectrogram, export_onnx
from mvsd.spectrogram import ComplexSpectrogram, SpectrogramConfig

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

RNG = np.random.default_rng(0)
CANVAS = RNG.standard_normal((1, 4, 96, 192), np.float32)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def tokens(converter: Converter, known: np.ndarray, canvas: np.ndarray = CANVAS) -> torch.Tensor:
    encoded: torch.Tensor = converter.scene_encoder(torch.from_numpy(canvas), torch.from_numpy(known))
    return encoded


@pytest.mark.parametrize("config", [SpectrogramConfig(), SpectrogramConfig(256, 64, 0.35, 2.0)], ids=str)
def test_convolutions_are_the_fourier_transform(config: SpectrogramConfig) -> None:
    exact, filters = ComplexSpectrogram(config), _ConvolutionSpectrogram(config)
    for num_samples in (config.fft_size, 5 * config.hop * 16, 9001):
        sound = torch.from_numpy(0.1 * RNG.standard_normal((2, num_samples), np.float32))
        spectrogram = exact.encode(sound)
        torch.testing.assert_close(filters.encode(sound), spectrogram, atol=1e-3, rtol=0)
        torch.testing.assert_close(filters.decode(spectrogram, num_samples), sound, atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [1, 2])
@torch.no_grad()
def test_dereverberator_at_any_length_with_and_without_a_photo(
    tiny_models: Models, tmp_path: Path, steps: int
) -> None:
    converter = mvsd.load(tiny_models.dereverberator)
    export_onnx(converter, tmp_path / "model.onnx", steps=steps)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    graph = session(tmp_path / "model.onnx")
    names = [each.name for each in graph.get_inputs()]
    assert names == ["waveform", "canvas", "known"] + ["noise"] * (steps > 1)  # one step draws nothing
    for num_samples in (600, 4096, 10_001):
        source = 0.1 * RNG.standard_normal((1, num_samples), np.float32)
        num_frames = converter.spectrogram.num_frames(num_samples)
        noise = RNG.standard_normal((1, 2, converter.spectrogram.num_bins, num_frames), np.float32)
        for known in (np.array([True]), np.array([False])):
            given = {"waveform": source, "canvas": CANVAS, "known": known, "noise": noise}
            (estimate,) = graph.run(["estimate"], {name: given[name] for name in names})
            expected = converter.estimate(
                torch.from_numpy(source), tokens(converter, known), torch.from_numpy(noise), num_steps=steps
            ).numpy()
            assert np.abs(expected - source).max() > 0.01  # the network does something
            np.testing.assert_allclose(estimate, expected, atol=1e-4)


@torch.no_grad()
def test_of_several_passes_it_is_the_first(tiny_models: Models, tmp_path: Path) -> None:
    config = replace(mvsd.load(tiny_models.dereverberator).config, num_passes=2, sees_estimate=True)
    torch.manual_seed(0)
    converter = Converter(config).eval()
    torch.nn.init.normal_(converter.denoiser.network.out.weight, std=0.05)
    export_onnx(converter, tmp_path / "model.onnx", steps=1)
    source = 0.1 * RNG.standard_normal((1, 4096), np.float32)
    given = {"waveform": source, "canvas": CANVAS, "known": np.array([False])}
    (estimate,) = session(tmp_path / "model.onnx").run(["estimate"], given)
    known = (torch.from_numpy(source), tokens(converter, given["known"]), torch.tensor([0]))
    twice = converter.estimate(*known, num_steps=1).numpy()
    converter.config = replace(config, num_passes=1)
    once = converter.estimate(*known, num_steps=1).numpy()
    np.testing.assert_allclose(estimate, once, atol=1e-4)
    assert np.abs(twice - once).max() > 1e-3


@pytest.mark.parametrize(
    "use", [{}, {"low_gain_db": -6.0, "evens_early": True}], ids=["as drawn", "for a voice"]
)
@torch.no_grad()
def test_reverberator_gives_the_response(
    tiny_models: Models, tmp_path: Path, use: dict[str, float | bool]
) -> None:
    converter = mvsd.load(tiny_models.reverberator)
    converter.config = replace(converter.config, **use)  # type: ignore[arg-type]
    export_onnx(converter, tmp_path / "model.onnx", steps=2)
    graph = session(tmp_path / "model.onnx")
    noise = RNG.standard_normal(graph.get_inputs()[2].shape, np.float32)
    drawn = []
    for known in (np.array([True]), np.array([False])):
        (response,) = graph.run(["response"], {"canvas": CANVAS, "known": known, "noise": noise})
        expected = converter.late_response(tokens(converter, known), torch.from_numpy(noise), num_steps=2)
        np.testing.assert_allclose(response[:, 1:], expected[:, 1:].numpy(), atol=1e-4)
        assert response[0, 0] == 1
        drawn.append(response)
    assert not np.allclose(*drawn, atol=1e-3)
    metadata = graph.get_modelmeta().custom_metadata_map
    assert (metadata["format"], metadata["sample_rate"], metadata["steps"]) == (FORMAT, "16000", "2")
    assert from_dict(ConverterConfig, json.loads(metadata["config"])) == converter.config


@torch.no_grad()
def test_a_model_that_sees_more_pixels(tiny_models: Models, tmp_path: Path) -> None:
    config = mvsd.load(tiny_models.reverberator).config
    converter = Converter(replace(config, scene=replace(config.scene, scale=2))).eval()
    export_onnx(converter, tmp_path / "model.onnx", steps=1)
    graph = session(tmp_path / "model.onnx")
    shapes = {each.name: each.shape for each in graph.get_inputs()}
    assert shapes["canvas"] == [1, 4, 192, 384]
    noise = RNG.standard_normal(shapes["noise"], np.float32)
    known, drawn = np.array([True]), []
    for canvas in RNG.standard_normal((2, 1, 4, 192, 384), np.float32):
        (response,) = graph.run(["response"], {"canvas": canvas, "known": known, "noise": noise})
        seen = tokens(converter, known, canvas)
        expected = converter.late_response(seen, torch.from_numpy(noise), num_steps=1)
        np.testing.assert_allclose(response[:, 1:], expected[:, 1:].numpy(), atol=1e-4)
        drawn.append(response)
    assert not np.allclose(*drawn, atol=1e-5)


def test_the_command(tiny_models: Models, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    out.write_bytes(b"old")
    command = ["export", tiny_models.dereverberator, "-o", out, "--steps", 1]
    fails(tmp_path, *command, run=run_here, says="--force")
    result = run_here(*command, "--force")
    assert (result.returncode, result.stdout) == (0, f"{out}\n")
    assert result.stderr == f"{out}: {out.stat().st_size / 1e6:.1f} MB, opset 18\n"
    fails(tmp_path, "export", tmp_path / "none.safetensors", "-o", "x.onnx", run=run_here, says="none")


def test_what_cannot_be_written(tiny_models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converter = mvsd.load(tiny_models.dereverberator)
    (tmp_path / "there.onnx").write_bytes(b"precious")
    before = contents(tmp_path)
    with pytest.raises(OutputExistsError, match="--force"):
        export_onnx(converter, tmp_path / "there.onnx")
    with pytest.raises(MvsdError, match="there is no folder"):
        export_onnx(converter, tmp_path / "no" / "model.onnx")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("onnx.save", full)
        with pytest.raises(MvsdError, match="No space left"):
            export_onnx(converter, tmp_path / "there.onnx", steps=1, force=True)
        late = tmp_path / "late.onnx"
        patch.setattr("onnx.save", lambda *_: late.write_bytes(b"somebody else's"))
        with pytest.raises(OutputExistsError, match="--force"):
            export_onnx(converter, late, steps=1)
    assert late.read_bytes() == b"somebody else's"
    late.unlink()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"\.\[onnx\]"):
        export_onnx(converter, tmp_path / "model.onnx")
    assert contents(tmp_path) == before
