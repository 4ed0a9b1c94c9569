"""Room to room is one conversion after the other, as a converter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from conftest import Models

from mvsd.amount import Mix
from mvsd.blockwise import Blocks, Blockwise, Request
from mvsd.converter import load
from mvsd.scene import Scene
from mvsd.transfer import Transfer

RATE = 16_000
OLD, NEW = (Scene(np.full((16, 16, 3), grey, np.uint8)) for grey in (0, 255))


class Gain(Blockwise):
    """Multiplies, and remembers what it was asked for."""

    def __init__(self, gain: float) -> None:
        self.gain = gain
        self.asked: list[Request] = []

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        self.asked.append(request)
        yield from (np.float32(self.gain) * block for block in blocks)


def noise(*shape: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("source_scene", [OLD, None])
def test_each_part_gets_its_own_scene(source_scene: Scene | None) -> None:
    out, into = Gain(0.5), Gain(3.0)
    source = noise(2, 1000)
    transfer = Transfer(out, into, source_scene)
    np.testing.assert_allclose(
        transfer.convert(source, 44_100, NEW, seed=5, steps=3), 1.5 * source, rtol=1e-6
    )
    assert out.asked == [Request(44_100, 2, source_scene, seed=5)]
    assert into.asked == [Request(44_100, 2, NEW, seed=5, steps=3)]


def test_is_what_two_calls_give(tiny_models: Models) -> None:
    out, into = load(tiny_models.dereverberator), load(tiny_models.reverberator)
    source = noise(30_000)
    transferred = Transfer(out, into, OLD).convert(source, RATE, NEW, seed=2)
    dry = out.convert(source, RATE, OLD, seed=2)
    np.testing.assert_allclose(transferred, into.convert(dry, RATE, NEW, seed=2), atol=1e-5)
    assert not np.array_equal(transferred, Transfer(out, into).convert(source, RATE, NEW, seed=2))


def test_streams_and_nests() -> None:
    transfer = Mix.strength(Transfer(Gain(0.5), Gain(4.0)), 0.5)
    read = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal read
        for _ in range(9):
            read += 1
            yield np.ones((1, 100), np.float32)

    for number, block in enumerate(transfer.convert_blocks(source(), Request(RATE, 1)), 1):
        assert read == number
        np.testing.assert_allclose(block, 1.5)
