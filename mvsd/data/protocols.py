"""Which part of an example a benchmark hears, and at which level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mvsd.data.example import Example, Examples
from mvsd.errors import ConfigError, DataError

ProtocolName = Literal["full", "first-2.56s"]
PROTOCOLS: tuple[str, ...] = get_args(ProtocolName)
SAMPLE_RATE = 16_000
CLIP_SAMPLES = 40_960  # 2.56 s


def require_protocol(protocol: str, limit: int | None = None) -> None:
    """Raise ConfigError for a name that is not in `PROTOCOLS`, and for a limit below 1."""
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol is {protocol!r}; wanted is one of {', '.join(PROTOCOLS)}")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; it must be 1 or more")


def apply_protocol(example: Example, protocol: ProtocolName) -> Example:
    """The example as a protocol wants it; one that went through the protocol already stays as it is.

    "full" changes nothing. "first-2.56s" is how visual acoustic matching is scored (Chen et al., CVPR 2022): each
    of the two voices is divided by its own peak over the whole utterance, then padded with zeros or cut to its
    first 40,960 samples. ``metadata["level"]`` then says ``reverberant = level * convolve(anechoic, rir)``. The
    transcript of what was cut is no longer one.
    """
    if protocol == "full" or example.metadata.get("protocol") == protocol:
        return example
    if example.sample_rate != SAMPLE_RATE:
        raise DataError(f"{example.key} has {example.sample_rate} Hz; {protocol} wants {SAMPLE_RATE} Hz")
    metadata = {**example.metadata, "protocol": protocol}
    peaks = {}
    for name in ("anechoic", "reverberant"):
        waveform = getattr(example, name)
        if waveform is not None and len(waveform) > CLIP_SAMPLES:
            metadata.pop("transcript", None)
        peaks[name] = 0.0 if waveform is None else float(np.abs(waveform).max(initial=0.0))
    if all(peaks.values()):
        metadata["level"] = level_of(example) * peaks["anechoic"] / peaks["reverberant"]
    return replace(
        example,
        anechoic=_clip(example.anechoic, peaks["anechoic"]),
        reverberant=_clip(example.reverberant, peaks["reverberant"]),
        metadata=metadata,
    )


def level_of(example: Example) -> float:
    """The factor in ``reverberant = level * convolve(anechoic, rir)``; 1 unless a protocol changed the levels."""
    level = example.metadata.get("level", 1.0)
    return float(level) if isinstance(level, (int, float)) and 1e-9 < level < 1e9 else 1.0


def _clip(waveform: NDArray[Any] | None, peak: float) -> NDArray[np.float32] | None:
    if waveform is None:
        return None
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    start = waveform[:CLIP_SAMPLES]
    clip[: len(start)] = start / peak if peak else start
    return clip


class ProtocolView(Examples):
    """The first examples of a data set under a protocol; loaded when they are asked for."""

    def __init__(self, examples: Sequence[Example], protocol: ProtocolName, limit: int | None = None) -> None:
        require_protocol(protocol, limit)
        self.examples, self.protocol = examples, protocol
        self._num_examples = len(examples) if limit is None else min(limit, len(examples))

    def __len__(self) -> int:
        return self._num_examples

    def load(self, index: int) -> Example:
        """Load an example and apply the protocol."""
        return apply_protocol(self.examples[index], self.protocol)
