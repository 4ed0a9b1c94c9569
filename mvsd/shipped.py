"""The model files that come with mvsd."""

from __future__ import annotations

from pathlib import Path

SHIPPED = ("reverberator", "dereverberator")
"""The converters among them."""


def shipped_weights(name: str) -> Path:
    """The file of a converter, or of "blind"."""
    return Path(__file__).parent / "weights" / f"{name}.safetensors"
