"""Where the time of a training step goes, and what torch.compile makes of it (needs a C++ compiler).

    python benchmarks/training.py configs/v4/dereverberator.toml --threads 1

Fresh weights, rows of noise: the time of a step does not depend on what it learns. Plain and compiled steps take turns.
"""

from __future__ import annotations

import argparse
import os
from time import perf_counter

import torch
from torch.profiler import ProfilerActivity, profile

from mvsd.data.batch import Batch
from mvsd.scene import canvas_size
from mvsd.training.config import TrainConfig, load_config
from mvsd.training.loop import build_mutual_learning
from mvsd.training.precision import bf16_is_faster


class Steps:
    """Paired training steps of a configuration on the CPU, the learners' U-Nets compiled or not."""

    def __init__(self, config: TrainConfig, *, compiled: bool, bf16: bool) -> None:
        torch.manual_seed(0)
        self.module = build_mutual_learning(config).train()
        for name in config.mutual.learners if compiled else ():
            denoiser = self.module.get_submodule(name).denoiser
            for part, network in list(denoiser.named_children()):
                setattr(denoiser, part, torch.compile(network))
        self.optimizer = torch.optim.AdamW(self.module.parameters(), fused=True)
        self.bf16 = bf16
        self.batch = noise_batch(config)

    def step(self) -> float:
        """Seconds of one step."""
        started = perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            terms = self.module(self.batch, cycle=False)
        terms["total"].backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return perf_counter() - started


def noise_batch(config: TrainConfig) -> Batch:
    """A warm-up batch of the configuration's shape."""
    data = config.data
    rows = data.warmup_rows or data.num_paired + data.num_reverberant + data.num_anechoic
    anechoic, reverberant = 0.1 * torch.randn(2, rows, data.num_samples)
    rir = 0.01 * torch.randn(rows, data.rir_samples)
    canvases = torch.rand(rows, 4, *canvas_size(data.scenes.scale))
    return Batch(anechoic, reverberant, rir, canvases, torch.arange(rows), rows, 0, 0)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_config(arguments.config, arguments.set)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and bf16_is_faster(torch.device("cpu")))
    plain, compiled = (Steps(config, compiled=each, bf16=bf16) for each in (False, True))
    rows = len(plain.batch)
    compile_seconds = compiled.step()
    for steps in (plain, plain, compiled):
        steps.step()
    seconds = {"plain": 0.0, "torch.compile": 0.0}
    for _ in range(arguments.steps):
        seconds["plain"] += plain.step()
        seconds["torch.compile"] += compiled.step()
    precision = "bf16" if bf16 else "fp32"
    print(f"{rows} rows a step, {arguments.threads} of {os.cpu_count()} cores, {precision}")
    for name, value in seconds.items():
        print(f"{name}: {value / arguments.steps:.2f} s a step, {rows * arguments.steps / value:.2f} rows/s")
    print(f"first step compiled: {compile_seconds:.0f} s")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        plain.step()
    events = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    for event in events[:10]:
        print(f"{event.self_cpu_time_total / total:6.1%}  {event.key}")


if __name__ == "__main__":
    main()
