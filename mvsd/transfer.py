"""From one room into another: out of the first, into the second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import numpy as np

from mvsd.blockwise import BlockConverter, Blocks, Blockwise
from mvsd.scene import Scene


@final
class Transfer(Blockwise):
    """A dereverberator, then a reverberator, as one converter: its scene is the room to go to.

    `source_scene` is the room of the recording; None removes it blindly. `steps` are those of the reverberator, the
    dereverberator takes its model's own.
    """

    def __init__(
        self,
        dereverberator: BlockConverter,
        reverberator: BlockConverter,
        source_scene: Scene | None = None,
    ) -> None:
        self.dereverberator, self.reverberator = dereverberator, reverberator
        self.source_scene = source_scene

    def convert_blocks(
        self,
        blocks: Blocks,
        sample_rate: int,
        num_channels: int,
        scene: Scene | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
    ) -> Iterator[np.ndarray]:
        """See `Blockwise`."""
        dry = self.dereverberator.convert_blocks(
            blocks, sample_rate, num_channels, self.source_scene, seed=seed
        )
        yield from self.reverberator.convert_blocks(
            dry, sample_rate, num_channels, scene, seed=seed, steps=steps
        )
