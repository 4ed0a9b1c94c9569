"""What several test files share: a model of each kind that runs in milliseconds, and files to convert."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple

# Before anything imports torch, here or in a process that a test starts: tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow, and a failure must come back when the tests are run again.
settings.register_profile(
    "mvsd", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mvsd")

# What a terminal or a service for tests says of itself must not change what the commands print.
for name in ("COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS", "TERMINAL_WIDTH"):
    os.environ.pop(name, None)
os.environ["TERM"] = "xterm"

# A run in the background ignores what ends a program, and so would every program that a test starts and ends.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)


class Models(NamedTuple):
    """Model files."""

    reverberator: Path
    dereverberator: Path


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A reverberator that generates a response and a dereverberator, with random weights."""
    import torch

    from mvsd.converter import Converter
    from mvsd.converter_config import ConverterConfig
    from mvsd.networks.scene_encoder import SceneEncoderConfig
    from mvsd.networks.unet import UNetConfig

    unet = UNetConfig(channels=(8, 16), num_heads=2, token_features=16)
    scene = SceneEncoderConfig(width=8, token_features=16)
    configs = {
        "reverberator": ConverterConfig(
            generates="response",
            path="noise",
            num_taps=0,
            num_samples=4096,
            overlap=0,
            unet=unet,
            scene=scene,
        ),
        "dereverberator": ConverterConfig(num_taps=2, num_samples=8192, overlap=2048, unet=unet, scene=scene),
    }
    folder = tmp_path_factory.mktemp("models")
    for name, config in configs.items():
        torch.manual_seed(0)
        converter = Converter(config)
        with torch.no_grad():
            for parameter in converter.parameters():
                if not parameter.any():  # layers that start at zero would leave a recording as it is
                    parameter.normal_(std=0.05)
        converter.save(folder / f"{name}.safetensors")
    return Models(*(folder / f"{name}.safetensors" for name in Models._fields))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a voice of 0.5 s in stereo at 44.1 kHz, and a photo."""
    import numpy as np
    import soundfile
    from PIL import Image

    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "in.wav", 0.1 * rng.standard_normal((22_050, 2)), 44_100, "PCM_24")
    Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "room.jpg")
    return tmp_path
