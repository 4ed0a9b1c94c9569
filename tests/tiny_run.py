"""A data set and a configuration small enough to train in tests; as a script, one process of several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic, sleep
from unittest.mock import patch

import numpy as np
import soundfile
import torch

from mvsd.data.example import Example
from mvsd.data.shards import write_shards
from mvsd.scene import Scene
from mvsd.training.config import TrainConfig, load_config
from mvsd.training.loop import train

CONFIG = """
device = "cpu"
num_threads = 1

[data]
speech = "{folder}/speech"
cache = "{folder}/cache"
rooms = ["{folder}/rooms"]
num_samples = 2048
rir_samples = 1024
num_paired = 2
num_reverberant = 2
num_anechoic = 2

[reverberator]
generates = "response"
path = "noise"
num_taps = 0
num_samples = 1024
overlap = 256
spectrogram = {{fft_size = 128, hop = 64}}
unet = {{channels = [8, 8], num_heads = 1, token_features = 16}}
scene = {{width = 4, token_features = 16}}

[dereverberator]
num_samples = 2048
overlap = 256
spectrogram = {{fft_size = 128, hop = 64}}
unet = {{channels = [8, 8], num_heads = 1, token_features = 16}}
scene = {{width = 4, token_features = 16}}

[mutual]
made = 0.5
reverberator_loop_steps = 1

[optimizer]
learning_rate = 1e-3

[schedule]
total_steps = 6
warmup_steps = 2
paired_steps = 3
log_every = 1
checkpoint_every = 2
validate_every = 0
examples_every = 0
"""


def write_data(folder: Path, num_rooms: int = 3) -> None:
    """Three voices of noise bursts, and rooms of noise under an exponential."""
    generator = np.random.default_rng(0)
    (folder / "speech").mkdir(parents=True)
    for speaker in range(3):
        bursts = generator.standard_normal(16_000) * (1.2 + np.sin(np.arange(16_000) / 700)) * 0.05
        soundfile.write(folder / "speech" / f"speaker{speaker}.wav", bursts, 16_000)

    def rooms() -> list[Example]:
        examples = []
        for room in range(num_rooms):
            rir = 0.1 * generator.standard_normal(1024) * np.exp(-np.arange(1024) / (100 + 100 * room))
            rir[0] = 1.0
            width = (192, 128)[room % 2]
            image = generator.integers(0, 256, (96, width, 3), dtype=np.uint8)
            depth = generator.uniform(1.0, 5.0, (96, width)).astype(np.float32)
            examples.append(Example(f"room{room}", Scene(image, depth), rir=rir.astype(np.float32)))
        return examples

    write_shards(rooms(), folder / "rooms", prefix="train")


def tiny_config(folder: Path, *overrides: str) -> TrainConfig:
    """The configuration above, written into ``folder``, for the data there."""
    (folder / "tiny.toml").write_text(CONFIG.format(folder=folder.as_posix()))
    return load_config(folder / "tiny.toml", overrides)


def run_together(num_processes: int, *arguments: str, seconds: float = 300.0) -> None:
    """Run this file in processes that learn together, in the folder of `tiny_config` and into another.

    Where one fails or all hang, it says what each was doing.
    """
    # As with torchrun, the store by which they meet is not theirs: nobody can take its port before them.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "WORLD_SIZE": str(num_processes),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONFAULTHANDLER": "1",
    }
    with ExitStack() as stack:
        said = [stack.enter_context(TemporaryFile("w+")) for _ in range(num_processes)]
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, *arguments],
                env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=said[rank],
            )
            for rank in range(num_processes)
        ]
        deadline = monotonic() + seconds
        while (codes := [process.poll() for process in processes]) != [0] * num_processes:
            if any(codes) or monotonic() > deadline:
                break
            sleep(0.05)
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGABRT)  # writes where it is
            process.wait()
        texts = []
        for rank, file in enumerate(said):
            file.seek(0)
            texts.append(f"process {rank} ({codes[rank]}):\n{file.read()}")
    assert codes == [0] * num_processes, "\n".join(texts)


if __name__ == "__main__":
    # The first process decides what `precision = "auto"` means.
    with patch("mvsd.training.loop.bf16_is_faster", lambda device: os.environ["RANK"] != "0"):
        # Not written again: the others read it meanwhile.
        train(load_config(Path(sys.argv[1], "tiny.toml"), sys.argv[3:]), sys.argv[2], progress=False)
    assert torch.distributed.get_world_size() == int(os.environ["WORLD_SIZE"])
    torch.distributed.destroy_process_group()
