"""What is asked of waveforms and numbers that a caller gives, before anything is done with them."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from numpy.typing import NDArray

from mvsd.errors import MvsdError

_MAX_CHANNELS = 64


def require_channels_first(
    waveform: NDArray[Any], prefix: str = "", error_class: type[MvsdError] = MvsdError
) -> None:
    """Raise `error_class` for an array that is no (T,) and no (C, T), such as the (T, C) of other libraries."""
    shape = waveform.shape
    if waveform.ndim == 2 and len(waveform) > max(_MAX_CHANNELS, shape[1]):
        raise error_class(
            f"{prefix}waveform has shape {shape}, {len(waveform)} channels; (C, T) is wanted: give its .T"
        )
    if waveform.ndim not in (1, 2) or (waveform.ndim == 2 and not len(waveform)):
        raise error_class(f"{prefix}waveform has shape {shape}; (T,) or (C, T) with a channel is wanted")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number by its type, of whatever library."""
    return isinstance(value, Integral)


def whole_rate(sample_rate: Any, prefix: str = "", error_class: type[MvsdError] = MvsdError) -> int:
    """The rate in Hz as an int, 48000.0 too; raises `error_class` for what is no whole number."""
    is_number = isinstance(sample_rate, Real) and math.isfinite(sample_rate)
    if not is_number or sample_rate != int(sample_rate):
        raise error_class(f"{prefix}sample_rate is {sample_rate!r}; a whole number of Hz is wanted: round it")
    return int(sample_rate)
