"""A small data set and somebody else's converters, to evaluate."""

from __future__ import annotations

from typing import Any

import numpy as np

from mvsd.acoustics import convolve
from mvsd.data.example import Example
from mvsd.evaluation.systems import ConstantRoom
from mvsd.scene import Scene

RATE = 16_000

# A converter of somebody else's: what it makes depends on the photo, so that right, none and wrong differ.
DAMPER = """
import numpy as np

class Damper:
    def convert(self, waveform, sample_rate, scene=None, *, seed=0):
        shade = 0 if scene is None else int(scene.image[0, 0, 0])
        noise = np.random.default_rng(seed).standard_normal(len(waveform))
        return (waveform + 0.001 * (1 + shade) * noise).astype(np.float32)

class Waiter(Damper):  # has done the first clip; with a later photo it waits while there is a file "gate"
    def convert(self, waveform, sample_rate, scene=None, *, seed=0):
        import os, time
        while scene is not None and scene.image[0, 0, 0] > 50 and os.path.exists("gate"):
            time.sleep(0.01)
        return super().convert(waveform, sample_rate, scene, seed=seed)

class Broken:
    def convert(self, waveform, sample_rate, scene=None, *, seed=0):
        if scene is None:
            raise ZeroDivisionError("no photo, no room")
        return waveform[:-1] if scene.image[0, 0, 0] % 2 else np.full_like(waveform, np.nan)

nothing = 3
"""


def voice(seed: int, seconds: float = 1.0) -> np.ndarray:
    """Noise in bursts, with something below and above 4 kHz."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(round(seconds * RATE)) * (
        np.sin(np.arange(round(seconds * RATE)) / 900) > -0.3
    )
    return (0.1 * samples).astype(np.float32)


def room(seed: int, rt60: float = 0.3) -> np.ndarray:
    return ConstantRoom(rt60, 0.0).response(RATE, seed).astype(np.float32)


def example(index: int, seconds: float = 1.0, **changes: Any) -> Example:
    dry, rir = voice(index, seconds), room(index)
    image = np.full((24, 32, 3), 20 * index, np.uint8)
    parts = {
        "scene": Scene(image),
        "anechoic": dry,
        "reverberant": convolve(dry, rir)[: len(dry)],
        "rir": rir,
    }
    return Example(f"clip-{index}", **{**parts, "metadata": {"room": f"room {index}"}, **changes})
