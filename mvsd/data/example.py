"""One example of the task: a scene, a voice without the room, the voice in it, and the room's response."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from mvsd.scene import Scene


def key_of(name: str) -> str:
    """A name as a key: what is no letter, mark on a letter, digit, ``_`` or ``-`` becomes ``-``."""
    letters = unicodedata.normalize("NFC", name)
    return "".join(
        c if c.isalnum() or c in "_-" or unicodedata.category(c)[0] == "M" else "-" for c in letters
    )


@dataclass(frozen=True)
class Example:
    """What is known about one voice in one room; None is what is not, so unpaired data fits too.

    Attributes:
        key: name that is unique in its data set: letters and digits of any script, ``_`` and ``-``.
        scene: picture of the room, with or without depth.
        anechoic: (T,) float32, the voice without the room.
        reverberant: (T,) float32, the voice in the room, direct sound aligned with ``anechoic``.
        rir: (R,) float32, the room's response; ``rir[0] == 1`` is the direct sound.
        sample_rate: of all three signals, in Hz.
        metadata: JSON-able facts: room, materials, rt60 per band, drr_db, positions, transcript, speaker.
    """

    key: str
    scene: Scene | None = None
    anechoic: np.ndarray | None = None
    reverberant: np.ndarray | None = None
    rir: np.ndarray | None = None
    sample_rate: int = 16_000
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Examples(Sequence[Example], ABC):
    """A data set: its examples by number, each loaded when it is asked for."""

    @abstractmethod
    def load(self, index: int) -> Example:
        """Load example ``index``, 0 or more."""

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        numbers = range(len(self))[index]
        return self.load(numbers) if isinstance(numbers, int) else [self.load(number) for number in numbers]
