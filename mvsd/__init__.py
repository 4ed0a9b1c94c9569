"""MVSD: a photo of a room tells a diffusion model how that room sounds (Ma et al., ECCV 2024).

import mvsd
reverberator = mvsd.load("reverberator")
voice, sample_rate = mvsd.load_audio("voice.wav")
mvsd.save_audio("out.wav", reverberator.convert(voice, sample_rate, mvsd.Scene.open("room.jpg")), sample_rate)
"""

from mvsd.audio import load_audio, save_audio
from mvsd.converter import AudioConverter, Converter, ConverterConfig, load
from mvsd.data.example import Example
from mvsd.errors import MvsdError
from mvsd.scene import Scene

__version__ = "0.1.0"

__all__ = [
    "AudioConverter",
    "Converter",
    "ConverterConfig",
    "Example",
    "MvsdError",
    "Scene",
    "load",
    "load_audio",
    "save_audio",
]
