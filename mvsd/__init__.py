"""MVSD: a photo of a room tells a diffusion model how that room sounds (Ma et al., ECCV 2024).

import mvsd
reverberator = mvsd.load("reverberator")
voice, sample_rate = mvsd.load_audio("voice.wav")
mvsd.save_audio("out.wav", reverberator.convert(voice, sample_rate, mvsd.Scene.open("room.jpg")), sample_rate)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvsd.audio import load_audio, save_audio
    from mvsd.blockwise import AudioConverter
    from mvsd.converter import Converter, load
    from mvsd.converter_config import ConverterConfig
    from mvsd.data.example import Example
    from mvsd.errors import MvsdError
    from mvsd.scene import Scene
    from mvsd.transfer import Transfer

__version__ = "0.1.0"

__all__ = [
    "AudioConverter",
    "Converter",
    "ConverterConfig",
    "Example",
    "MvsdError",
    "Scene",
    "Transfer",
    "load",
    "load_audio",
    "save_audio",
]

_MODULES = {
    "mvsd.audio": ("load_audio", "save_audio"),
    "mvsd.blockwise": ("AudioConverter",),
    "mvsd.converter": ("Converter", "load"),
    "mvsd.converter_config": ("ConverterConfig",),
    "mvsd.data.example": ("Example",),
    "mvsd.errors": ("MvsdError",),
    "mvsd.scene": ("Scene",),
    "mvsd.transfer": ("Transfer",),
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that `mvsd --help` need not wait for torch."""
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
