"""What all metrics share: checked clips, optional modules, and one memory for what several metrics need."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvsd.errors import MissingExtraError, NotMeasurable

Waveform = NDArray[np.floating]
Samples = NDArray[np.float64]

SAMPLE_RATE = 16_000


def extra_module(name: str, extra: str = "metrics") -> Any:
    """An optional module; raises MissingExtraError with the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(extra, error.name or name) from error


def checked(samples: Waveform, name: str) -> Samples:
    """A copy in double precision; refuses what no metric can use."""
    copy = np.array(samples, dtype=np.float64)
    if copy.ndim != 1:
        raise NotMeasurable(f"the {name} must be one channel of samples (T,), not of shape {copy.shape}")
    if not np.isfinite(copy).all():
        raise NotMeasurable(f"the {name} holds values that are not finite (NaN or infinity)")
    if not np.any(copy):
        raise NotMeasurable(f"the {name} is silent")
    return copy


def checked_pair(
    first: Waveform, second: Waveform, names: tuple[str, str] = ("target", "estimate")
) -> tuple[Samples, Samples]:
    """Both clips checked; refuses clips of different lengths."""
    pair = checked(first, names[0]), checked(second, names[1])
    if len(pair[0]) != len(pair[1]):
        raise NotMeasurable(
            f"the {names[0]} has {len(pair[0])} samples, the {names[1]} {len(pair[1])}; they must be aligned"
        )
    return pair


def require_rate(what: str, sample_rate: int) -> None:
    """Refuse any rate but 16 kHz, at which `what` is defined."""
    if sample_rate != SAMPLE_RATE:
        raise NotMeasurable(f"{what} is defined at {SAMPLE_RATE} Hz, not at {sample_rate} Hz")
