"""From one room into another: out of the first, into the second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import final

import numpy as np

from mvsd.blockwise import BlockConverter, Blocks, Blockwise, Request
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

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        """See `Blockwise`."""
        out_of_room = replace(request, scene=self.source_scene, steps=None)
        dry = self.dereverberator.convert_blocks(blocks, out_of_room)
        yield from self.reverberator.convert_blocks(dry, request)
