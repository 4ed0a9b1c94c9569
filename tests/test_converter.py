"""The contract that every converter passes, and the converter's own promises."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import mvsd
from mvsd.blockwise import AudioConverter, Blocks, Blockwise, Request
from mvsd.coloration import even_early
from mvsd.converter import Converter
from mvsd.converter_config import ConverterConfig
from mvsd.convolutive import late_reverberation
from mvsd.diffusion import Condition
from mvsd.errors import ConfigError, ModelFileError, MvsdError
from mvsd.example import SAMPLES
from mvsd.networks.scene_encoder import SceneEncoderConfig
from mvsd.networks.unet import UNet, UNetConfig
from mvsd.scene import Scene
from mvsd.spectrogram import SpectrogramConfig
from mvsd.streaming import take

TINY_UNET = UNetConfig(channels=(8, 16), num_heads=2, token_features=16)
TINY_SCENE = SceneEncoderConfig(width=8, token_features=16)
TINY = {
    "bridge": ConverterConfig(num_taps=2, num_samples=8192, overlap=2048, unet=TINY_UNET, scene=TINY_SCENE),
    "noise": ConverterConfig(
        path="noise", num_taps=0, num_samples=8192, overlap=2048, unet=TINY_UNET, scene=TINY_SCENE
    ),
    "shifts": ConverterConfig(
        num_shifts=2, num_taps=2, num_samples=8192, overlap=2048, unet=TINY_UNET, scene=TINY_SCENE
    ),
    "passes": ConverterConfig(
        num_passes=2,
        sees_estimate=True,
        num_shifts=2,
        num_taps=2,
        num_samples=8192,
        overlap=2048,
        unet=TINY_UNET,
        scene=TINY_SCENE,
    ),
    "refined": ConverterConfig(
        num_taps=2, num_samples=8192, overlap=2048, unet=TINY_UNET, refiner=TINY_UNET, scene=TINY_SCENE
    ),
    "response": ConverterConfig(
        generates="response",
        path="noise",
        num_taps=0,
        num_samples=4096,
        overlap=0,
        spectrogram=SpectrogramConfig(256, 128, 0.35, 2.0),
        unet=TINY_UNET,
        scene=replace(TINY_SCENE, scale=2),
    ),
}


def build(name: str) -> Converter:
    """A tiny converter with random weights, its zero-initialised layers included."""
    torch.manual_seed(0)
    converter = Converter(TINY[name])
    with torch.no_grad():
        for parameter in converter.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return converter.eval()


CONVERTERS = {name: build(name) for name in TINY}
_NOISE: dict[str, Any] = {"path": "noise", "num_taps": 0}
_BANDS = (slice(200, 500), slice(2000, 7000))  # Hz
SCENE = Scene(np.random.default_rng(0).integers(0, 256, (128, 384, 3), dtype=np.uint8))


def voice(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.fixture(params=list(TINY))
def converter(request: pytest.FixtureRequest) -> AudioConverter:
    return CONVERTERS[request.param]


@settings(deadline=None, max_examples=12)
@given(
    num_samples=st.one_of(st.integers(1, 600), st.integers(1, 30_000)),
    channels=st.sampled_from([None, 1, 2, 3]),
    sample_rate=st.sampled_from([8000, 16_000, 44_100, 96_000]),
    name=st.sampled_from(list(TINY)),
)
def test_shape_and_rate_are_kept(num_samples: int, channels: int | None, sample_rate: int, name: str) -> None:
    source = voice(num_samples) if channels is None else voice(channels, num_samples)
    estimate = CONVERTERS[name].convert(source, sample_rate, SCENE, steps=1)
    assert estimate.shape == source.shape
    assert estimate.dtype == np.float32
    assert np.isfinite(estimate).all()


def test_deterministic_for_a_seed(converter: AudioConverter) -> None:
    source = voice(20_000)
    first, again, other = (converter.convert(source, 16_000, SCENE, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_input_is_not_changed_and_silence_stays_silent(converter: AudioConverter) -> None:
    source = voice(2, 9000)
    before = source.copy()
    converter.convert(source, 16_000, SCENE)
    assert np.array_equal(source, before)
    assert not converter.convert(np.zeros(9000, np.float32), 16_000, SCENE).any()


def test_level_does_not_matter_and_equal_channels_are_one(converter: AudioConverter) -> None:
    source = voice(2, 9000)
    both = converter.convert(source, 16_000, SCENE)
    quiet = converter.convert(source / 8, 16_000, SCENE)
    np.testing.assert_allclose(quiet * 8, both, atol=1e-4)
    twice = converter.convert(source[[0, 0]], 44_100, SCENE)
    np.testing.assert_allclose(twice, converter.convert(source[[0]], 44_100, SCENE)[[0, 0]], atol=1e-6)


def test_scene_matters_and_may_be_absent(converter: AudioConverter) -> None:
    source = voice(9000)
    assert not np.array_equal(
        converter.convert(source, 16_000, SCENE, seed=1), converter.convert(source, 16_000, None, seed=1)
    )


def test_bad_waveforms_are_refused(converter: AudioConverter) -> None:
    with pytest.raises(MvsdError, match="finite"):
        converter.convert(np.array([0.0, np.nan], np.float32), 16_000)
    with pytest.raises(MvsdError, match="shape"):
        converter.convert(np.zeros((1, 1, 5), np.float32), 16_000)


@pytest.mark.parametrize("name", list(TINY))
def test_blocks_of_any_size_give_the_same(name: str) -> None:
    source = voice(2, 50_000)
    whole = CONVERTERS[name].convert(source, 44_100, SCENE, steps=1)
    pieces = np.split(source, [1, 700, 700, 31_000], axis=1)
    streamed = CONVERTERS[name].convert_blocks(pieces, Request(44_100, 2, SCENE, steps=1))
    np.testing.assert_allclose(np.concatenate(list(streamed), axis=1), whole, atol=1e-5)


class Counting(Blockwise):
    """Keeps a recording as it is, and the lengths of the blocks in which it came."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        for block in blocks:
            self.lengths.append(block.shape[1])
            yield block


def test_a_recording_is_given_in_blocks() -> None:
    """In one it would be copied for every window: the time would grow with the square of the length."""
    counting, source = Counting(), voice(2, 25_000)
    assert np.array_equal(counting.convert(source, 1000), source)
    assert counting.lengths == [10_000, 10_000, 5000]
    assert counting.convert(np.zeros((2, 0), np.float32), 1000).shape == (2, 0)
    queue = [source]
    assert all(np.shares_memory(part, source) for part in (take(queue, 9000)[0], *take(queue, 9000)[1]))


@pytest.mark.parametrize("name", ["bridge", "response"])
def test_its_blocks_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvsd.blockwise._BLOCK_SECONDS", 1)
    source = voice(2, 100_000)
    whole = list(CONVERTERS[name].convert_blocks([source], Request(44_100, 2, SCENE, steps=1)))
    made = CONVERTERS[name].convert(source, 44_100, SCENE, steps=1)
    assert np.array_equal(made, np.concatenate(whole, axis=1))


def test_windows_cross_fade_to_the_untouched_input() -> None:
    """A converter whose network returns nothing must be the identity, seams included."""
    torch.manual_seed(0)
    identity = Converter(TINY["bridge"]).eval()  # its last layer is zero: the head returns the source
    source = voice(60_000)
    np.testing.assert_allclose(identity.convert(source, 16_000, SCENE, steps=1), source, atol=1e-5)


def test_response_is_a_unit_impulse_then_the_room() -> None:
    converter = CONVERTERS["response"]
    rir = converter.response(SCENE, seed=5)
    assert rir.shape == (4096,)
    assert rir[0] == 1
    source = voice(10_000)
    expected = np.convolve(source, rir)[:10_000]
    np.testing.assert_allclose(converter.convert(source, 16_000, SCENE, seed=5), expected, atol=1e-4)
    with pytest.raises(MvsdError, match="generates"):
        CONVERTERS["bridge"].response(SCENE)


def test_shifts_are_the_mean_of_conversions_that_begin_elsewhere(tmp_path: Path) -> None:
    """One step of a bridge draws nothing, so a shift is a conversion with silence before the recording."""
    source, hop = voice(5000), TINY["bridge"].spectrogram.hop
    alone = []
    with torch.inference_mode():
        tokens = CONVERTERS["bridge"].tokens([SCENE])
        for shift in (0, 5 * hop // 2, 5 * hop, 15 * hop // 2):
            shifted = torch.from_numpy(np.pad(source, (shift, 0)))[None]
            estimate = CONVERTERS["bridge"].estimate(shifted, tokens, torch.tensor([0]), num_steps=1)
            alone.append(estimate[0, shift:].numpy())
    path = tmp_path / "bridge.safetensors"
    CONVERTERS["bridge"].save(path, dtype=torch.float32)
    mean = mvsd.load(path, num_shifts=4).convert(source, 16_000, SCENE, steps=1)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    np.testing.assert_allclose(mean, np.mean(alone, axis=0), atol=1e-5)
    for config in ({"num_shifts": 0}, {"num_shifts": 2, "generates": "response", **_NOISE}):
        with pytest.raises(ConfigError, match="num_shifts"):
            ConverterConfig(**config)


def test_the_second_pass_knows_the_recording_and_what_the_first_left_of_it(tmp_path: Path) -> None:
    source, tokens = torch.from_numpy(voice(1, 5000)), CONVERTERS["bridge"].tokens([SCENE])
    known = (source, tokens, torch.tensor([0]))
    with torch.inference_mode():
        first = CONVERTERS["bridge"].estimate(*known, num_steps=1)
        earlier = torch.stack([source - late_reverberation(source, first), first], dim=1)
        second = CONVERTERS["bridge"].estimate(*known, num_steps=1, earlier=earlier)
    assert (second - first).abs().max() > 1e-3
    path = tmp_path / "bridge.safetensors"
    CONVERTERS["bridge"].save(path, dtype=torch.float32)
    twice = mvsd.load(path, num_passes=2).convert(source[0].numpy(), 16_000, SCENE, steps=1)
    np.testing.assert_allclose(twice, second[0].numpy(), atol=1e-5)
    for config in (
        {"num_passes": 0},
        {"num_passes": 99},
        {"num_passes": 2, "generates": "response", **_NOISE},
    ):
        with pytest.raises(ConfigError, match="num_passes"):
            ConverterConfig(**config)
    with pytest.raises(ConfigError, match="sees_estimate"):
        ConverterConfig(sees_estimate=True, generates="response", **_NOISE)


def test_rows_of_either_pass_are_trained_on_and_the_first_pass_gets_no_gradient() -> None:
    """A row's seed says its pass: even ones see the recording alone, odd ones what the first pass found in it."""
    passes = copy.copy(CONVERTERS["passes"])
    source, target = (torch.from_numpy(voice(2, 8192, seed=seed)) for seed in (0, 1))
    tokens = passes.tokens([None, None]).detach()
    others = (torch.zeros_like(source), tokens, torch.ones(2))
    passes.zero_grad()
    both = passes.losses(source, target, *others, torch.tensor([4, 5]))["diffusion"]
    both[1].backward()
    both = both.detach()
    gradient = passes.denoiser.network.stem.weight.grad.clone()

    alone = copy.copy(passes)
    alone.config = replace(passes.config, num_passes=1)
    level = source.square().mean(-1, keepdim=True).sqrt()
    with torch.no_grad():
        seeds = torch.tensor([4, 5])
        earlier = passes.earlier_passes(source, tokens, seeds, num_steps=passes.config.num_steps)
        first = alone.estimate(source, tokens, seeds, num_steps=passes.config.num_steps)
        torch.testing.assert_close(earlier[:, 1], first)
        torch.testing.assert_close(earlier[:, 0], source - late_reverberation(source, first))
        torch.testing.assert_close(
            alone.losses(source, target, *others, torch.tensor([4, 5]))["diffusion"][0], both[0]
        )
    passes.zero_grad()
    encode = passes.spectrogram.encode
    condition = Condition(torch.cat([encode(each / level) for each in earlier.unbind(1)], dim=1), tokens)
    denoised = passes.denoiser(encode(source / level), torch.ones(2), condition)
    error = passes.denoiser.loss(encode(target / level), denoised, torch.ones(2))
    torch.testing.assert_close(error[1], both[1])
    error[1].backward()
    torch.testing.assert_close(passes.denoiser.network.stem.weight.grad, gradient)
    passes.zero_grad()


def test_low_gain_lowers_what_is_drawn_below_one_kilohertz_and_keeps_the_energy() -> None:
    converter = copy.copy(CONVERTERS["response"])
    plain = converter.response(SCENE, seed=3)
    converter.config = replace(converter.config, low_gain_db=-6.0)
    lower = converter.response(SCENE, seed=3)
    assert plain[0] == lower[0] == 1
    louder_db = []
    for part in (slice(1, 320), slice(1280, None)):
        faded = [
            rir[part] * np.hanning(len(rir[part])) for rir in (plain, lower)
        ]  # an edge would leak downwards
        power = [np.abs(np.fft.rfft(rir, 16_000)) ** 2 for rir in faded]
        change_db = [10 * np.log10(power[1][band].sum() / power[0][band].sum()) for band in _BANDS]
        assert change_db[0] - change_db[1] == pytest.approx(-6, abs=0.3)
        louder_db.append(change_db[1])
    assert louder_db[0] == pytest.approx(louder_db[1], abs=0.3)  # one factor for the whole
    assert np.square(lower[1:]).sum() == pytest.approx(np.square(plain[1:]).sum(), rel=0.05)
    for config in ({"low_gain_db": -6.0}, {"low_gain_db": -70.0, "generates": "response", **_NOISE}):
        with pytest.raises(ConfigError, match="low_gain_db"):
            ConverterConfig(**config)


def test_early_reflections_are_evened_out_where_the_configuration_says_so() -> None:
    converter = copy.copy(CONVERTERS["response"])
    plain = converter.response(SCENE, seed=3)
    converter.config = replace(converter.config, evens_early=True)
    even = converter.response(SCENE, seed=3)
    expected = even_early(torch.from_numpy(np.r_[0, plain[1:]])[None], 16_000)[0].numpy()
    np.testing.assert_allclose(even[1:], expected[1:], atol=1e-6)
    assert even[0] == 1 and np.abs(even - plain).max() > 1e-3
    with pytest.raises(ConfigError, match="evens_early"):
        ConverterConfig(evens_early=True)


def test_a_panorama_sounds_alike_wherever_it_begins_and_a_photo_in_the_mirror(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converter = copy.copy(CONVERTERS["response"])
    converter.config = replace(converter.config, averages_views=True)
    assert converter.envelope is not None
    draw, expected = converter.late_response, list[torch.Tensor]()

    def record(*args: Any, **kwargs: Any) -> torch.Tensor:
        expected.append(kwargs["expected"])
        return draw(*args, **kwargs)

    monkeypatch.setattr(converter, "late_response", record)
    turns = [np.roll(SCENE.image, 48 * turn, axis=1) for turn in range(8)]
    images = [*turns, *(turn[:, ::-1].copy() for turn in turns)]
    with torch.inference_mode():
        seen = converter.envelope(converter.tokens([Scene(image) for image in images]))
        for image in (images[0], images[3], images[10]):
            converter.response(Scene(image), seed=3)
            torch.testing.assert_close(expected.pop(), seen.mean(0, keepdim=True))
        assert (seen - seen.mean(0)).abs().max() > 1e-3
        photo = Scene(SCENE.image[:, :96])
        both = [photo, Scene(photo.image[:, ::-1].copy())]
        converter.response(photo)
        seen = converter.envelope(converter.tokens(both))
        torch.testing.assert_close(expected.pop(), seen.mean(0, keepdim=True))
    with pytest.raises(ConfigError, match="averages_views"):
        ConverterConfig(averages_views=True)


def test_tail_longer_than_a_block_is_not_cut() -> None:
    impulse = np.zeros(6000, np.float32)
    impulse[10] = 0.5
    converter = CONVERTERS["response"]
    blocks = converter.convert_blocks(np.split(impulse[None], 60, axis=1), Request(16_000, 1, SCENE))
    estimate = np.concatenate(list(blocks), axis=1)[0]
    np.testing.assert_allclose(estimate[10 : 10 + 4096], 0.5 * converter.response(SCENE), atol=1e-5)


@pytest.mark.parametrize("name", list(TINY))
def test_rows_of_a_batch_do_not_depend_on_each_other(name: str) -> None:
    converter = CONVERTERS[name]
    source, seeds = torch.from_numpy(voice(3, 8192)), torch.tensor([1, 2, 3])
    tokens = converter.tokens([SCENE, None, SCENE])
    together = converter.estimate(source, tokens, seeds, num_steps=2)
    alone = converter.estimate(source[1:2], tokens[1:2], seeds[1:2], num_steps=2)
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", list(TINY))
def test_losses_are_pure_and_fall_with_training(name: str) -> None:
    torch.manual_seed(0)
    converter = Converter(TINY[name])
    dry, seeds, time = torch.from_numpy(voice(2, 8192)), torch.tensor([1, 2]), torch.tensor([0.5, 1.0])
    rir = torch.from_numpy(voice(2, 4096)) * torch.exp(-torch.arange(4096) / 500)
    rir[:, 0] = 1
    wet = torch.stack(
        [torch.from_numpy(np.convolve(d, h)[:8192]) for d, h in zip(dry.numpy(), rir.numpy(), strict=True)]
    )
    optimizer = torch.optim.Adam(converter.parameters(), 3e-3)

    def total() -> torch.Tensor:
        tokens = converter.tokens([SCENE, None])
        losses = converter.losses(dry, wet, rir, tokens, time, seeds)
        assert all(value.shape == (2,) for value in losses.values())
        return torch.stack([value.mean() for value in losses.values()]).sum()

    assert torch.equal(total(), total())
    first = total().item()
    for _ in range(8):
        optimizer.zero_grad()
        loss = total()
        loss.backward()
        optimizer.step()
    assert total().item() < first


def test_model_file_round_trip(tmp_path: Path) -> None:
    for name, converter in CONVERTERS.items():
        path = tmp_path / f"{name}.safetensors"
        converter.save(path, dtype=torch.float32)
        loaded = Converter.load(path)
        assert loaded.config == converter.config
        source = voice(5000)
        assert np.array_equal(loaded.convert(source, 16_000, SCENE), converter.convert(source, 16_000, SCENE))
        converter.save(path)
        half = Converter.load(path).convert(source, 16_000, SCENE, steps=1)
        np.testing.assert_allclose(half, converter.convert(source, 16_000, SCENE, steps=1), atol=2e-2)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{name}.safetensors" for name in CONVERTERS)


def test_eight_bits_keep_every_weight_within_half_a_step_of_its_row(tmp_path: Path) -> None:
    converter, paths = CONVERTERS["bridge"], (tmp_path / "half.safetensors", tmp_path / "bytes.safetensors")
    converter.save(paths[0])
    converter.save(paths[1], dtype=torch.int8)
    half, quantised = (dict(Converter.load(path).named_parameters()) for path in paths)
    num_quantised = 0
    for name, value in converter.named_parameters():
        rows, error = value.flatten(1) if value.dim() > 1 else value[None], (quantised[name] - value).abs()
        if torch.equal(half[name], quantised[name]):
            continue
        num_quantised += value.numel()
        step = rows.abs().amax(1, keepdim=True) / 127
        assert bool((error.view_as(rows) <= 0.502 * step + 1e-7).all()), name
    assert num_quantised > 0.5 * sum(value.numel() for value in converter.parameters())
    assert paths[1].stat().st_size < 0.75 * paths[0].stat().st_size
    Converter.load(paths[1]).save(tmp_path / "again.safetensors", dtype=torch.int8)
    again = dict(Converter.load(tmp_path / "again.safetensors").named_parameters())
    for name, value in quantised.items():
        torch.testing.assert_close(again[name], value, rtol=2e-3, atol=1e-7)


def test_scales_must_fit_their_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    CONVERTERS["bridge"].save(path, dtype=torch.int8)
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(".scale"))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for wrong in (tensors[name][:-1], tensors[name][:, None]):
        save_file(tensors | {name: wrong.contiguous()}, path, metadata)
        with pytest.raises(ModelFileError, match="do not fit"):
            mvsd.load(path)


def test_model_files_that_are_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ModelFileError, match="no such model file"):
        mvsd.load(path)
    path.write_bytes(b"not a model at all")
    with pytest.raises(ModelFileError, match="cannot be read"):
        mvsd.load(path)
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(ModelFileError, match="format None"):
        mvsd.load(path)
    CONVERTERS["bridge"].save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError):
        mvsd.load(path)
    CONVERTERS["bridge"].save(path)
    tensors = load_file(path)
    hostile = {"unet": {"channels": [2**20, 2**20]}}
    save_file(tensors, path, {"format": "mvsd-1", "config": json.dumps(hostile)})
    with pytest.raises(ModelFileError, match="do not fit"):
        mvsd.load(path)
    save_file(tensors, path, {"format": "mvsd-1", "config": "{"})
    with pytest.raises(ModelFileError):
        mvsd.load(path)
    for hostile in (
        {"spectrogram": {"fft_size": 2**34}},
        {"spectrogram": {"hop": 0}},
        {"spectrogram": {"fft_size": 512, "hop": 512}},
        {"unet": {"channels": []}},
        {"unet": {"channels": [8] * 100_000}},
        {"refiner": {"channels": [8] * 17}},
        {"num_samples": 2**40},
        {"scene": {"scale": 2**20}},
    ):
        save_file(tensors, path, {"format": "mvsd-1", "config": json.dumps(hostile)})
        with pytest.raises(ModelFileError, match="cannot be read as a model"):
            mvsd.load(path)


def test_configurations_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="num_taps = 0"):
        ConverterConfig(generates="response")
    with pytest.raises(ConfigError, match="overlap"):
        ConverterConfig(num_samples=10, overlap=10)
    with pytest.raises(ConfigError, match="token_features"):
        ConverterConfig(unet=UNetConfig(token_features=3))
    with pytest.raises(ConfigError, match="refiner"):
        ConverterConfig(refiner=UNetConfig(token_features=3))
    with pytest.raises(ConfigError, match="num_steps"):
        ConverterConfig(num_steps=0)
    with pytest.raises(ConfigError, match="of 17 levels; 1 to 16"):
        UNetConfig((8,) * 17)
    with pytest.raises(ConfigError, match="multiples of 8"):
        UNetConfig((20, 40))
    with pytest.raises(ConfigError, match="heads that divide"):
        UNetConfig((8, 16), num_heads=3)
    with pytest.raises(ConfigError, match="power"):
        SpectrogramConfig(power=0)
    for hop in (
        0,
        129,
        255,
        256,
    ):  # frames that hardly overlap, or do not, cannot be added up to the waveform
        with pytest.raises(ConfigError, match="hop"):
            SpectrogramConfig(256, hop)


@pytest.mark.parametrize("stem_stride", [(1, 1), (2, 1), (4, 2)])
def test_unet_takes_any_size(stem_stride: tuple[int, int]) -> None:
    network = UNet(4, 6, UNetConfig((8, 16, 16), stem_stride=stem_stride, num_heads=2, token_features=16))
    for num_bins, num_frames in ((129, 1), (257, 33)):
        out = network(torch.zeros(2, 4, num_bins, num_frames), torch.zeros(2), torch.zeros(2, 18, 16))
        assert out.shape == (2, 6, num_bins, num_frames)


def test_losses_of_a_response_are_those_of_what_follows_the_direct_sound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converter = CONVERTERS["response"]
    tokens, impulse = converter.tokens([None]), torch.eye(1, 4096)
    monkeypatch.setattr(converter.denoiser, "forward", lambda noisy, *_: torch.zeros_like(noisy))
    sound = torch.randn(1, 8192, generator=torch.Generator().manual_seed(0))
    found = converter.losses(sound, sound, impulse, tokens, torch.full((1,), 0.5), torch.tensor([0]))
    assert found["diffusion"].item() == found["style"].item() == 0  # nothing follows
    assert converter.envelope is not None
    silent = (-100 - -45) / 20  # dB, as the envelope counts
    known = converter.envelope(tokens)
    expected = converter.envelope.error(known, torch.full_like(known, silent))
    torch.testing.assert_close(converter.envelope_loss(impulse, tokens), expected)


def test_losses_of_speech_tell_level_and_what_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = CONVERTERS["bridge"]
    full = torch.from_numpy(mvsd.load_audio(SAMPLES / "voice.flac")[0][:1, :48_000])
    narrow = torch.fft.irfft(torch.fft.rfft(full) * (torch.arange(24_001) / 3 < 2000), 48_000)  # up to 2 kHz

    def losses(estimate: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(converter.denoiser, "forward", lambda *_: converter.spectrogram.encode(estimate))
        source = torch.ones_like(target)  # of level 1
        rest = torch.zeros(1, 1), converter.tokens([None]), torch.ones(1), torch.tensor([0])
        return converter.losses(source, target, *rest)

    louder = losses(2 * full, full)
    assert louder["level"].item() == pytest.approx(np.log10(2) ** 2, abs=1e-3)
    assert louder["words"].item() < 0.01
    gain_db = torch.where(torch.arange(48_000) < 24_000, 0.0, 10.0)
    swelling = full * 10 ** (gain_db / 20)
    assert losses(swelling, full)["level"].item() == pytest.approx(0.5 * 0.5**2, rel=0.4)
    assert losses(0 * full, full)["level"].isfinite()
    assert losses(full, narrow)["added"].item() > 2 * losses(narrow, full)["added"].item()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"waveform": np.array([0.0, 1e39])}, "more than float32 can; finite samples"),
        ({"waveform": torch.tensor([0.0, 1e39], dtype=torch.float64)}, "finite samples"),
        ({"waveform": np.zeros((0, 100))}, r"shape \(0, 100\)"),
        ({"waveform": np.float32(0)}, r"shape \(\)"),
        ({"sample_rate": 0}, "sample_rate is 0 Hz; 1 to 384000"),
        ({"sample_rate": 400_000}, "sample_rate is 400000 Hz"),
        ({"sample_rate": 44_100.5}, "sample_rate is 44100.5; a whole number of Hz"),
        ({"sample_rate": np.nan}, "sample_rate is nan"),
        ({"sample_rate": "16000"}, "sample_rate is '16000'"),
        ({"seed": -1}, "seed is -1; a whole number from 0 to 4294967295"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"steps": 0}, "steps is 0; at least 1"),
        ({"steps": 2.5}, "steps is 2.5"),
    ],
)
def test_arguments_out_of_range_are_one_line(given: dict[str, Any], says: str) -> None:
    with pytest.raises(MvsdError, match=says) as error:
        CONVERTERS["bridge"].convert(**{"waveform": np.zeros(100), "sample_rate": 16_000} | given)
    assert "\n" not in str(error.value)


def test_numbers_of_other_libraries_are_numbers() -> None:
    source = voice(3000)
    made = CONVERTERS["bridge"].convert(source, 16_000.0, seed=np.int32(70_000), steps=np.int64(1))
    assert np.array_equal(made, CONVERTERS["bridge"].convert(source, 16_000, seed=70_000, steps=1))


@pytest.mark.parametrize(
    ("waveform", "scene", "says"),
    [
        (np.zeros((48_000, 2), np.float32), None, "give its .T"),
        (np.zeros(8000, np.int16), None, "divide by 32768"),
        ([0] * 8000, None, "divide by 32768"),
        (np.zeros(8000, np.float32), "room.jpg", "mvsd.Scene.open"),
    ],
)
def test_arrays_of_other_libraries_are_not_misread(waveform: np.ndarray, scene: Any, says: str) -> None:
    with pytest.raises(MvsdError, match=says):
        CONVERTERS["bridge"].convert(waveform, 16_000, scene)


def test_tensors_of_half_precision_are_taken() -> None:
    source = torch.from_numpy(voice(1, 3000)[0]).bfloat16()
    made = CONVERTERS["bridge"].convert(source, 16_000, steps=1)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, CONVERTERS["bridge"].convert(source.float(), 16_000, steps=1))
