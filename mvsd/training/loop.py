"""The training loop: both converters, one optimizer, one process or many; the same command resumes."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import AutocastKwargs, DistributedDataParallelKwargs, broadcast_object_list
from torch import nn

from mvsd.config import flatten, from_dict, to_dict
from mvsd.converter import Converter
from mvsd.data.batch import Batch, rows_of_process
from mvsd.data.mixing import Mixer, batches, open_mixer
from mvsd.errors import ConfigError, MvsdError
from mvsd.mutual import MutualLearning
from mvsd.training.checkpoint import latest_checkpoint
from mvsd.training.config import TrainConfig, describe
from mvsd.training.ema import Ema
from mvsd.training.examples import Figure
from mvsd.training.logs import write_text
from mvsd.training.precision import bf16_is_faster
from mvsd.training.report import Reporter, Validate, display
from mvsd.training.state import TrainState

MAX_SKIPPED_IN_A_ROW = 100
MAX_PHOTO_WEIGHTS = 256 << 20  # bytes

# What may differ when a run goes on: budget, reporting and machine. Only the budget changes what is learned from there
# on, as it sets the learning rate.
_FREE_KEYS = {"run", "device", "num_threads", "data.cache", "data.num_workers", "schedule.num_examples"}
_FREE_KEYS |= {f"schedule.{name}" for name in ("total_steps", "max_seconds")}
_FREE_KEYS |= {f"schedule.{name}_every" for name in ("log", "validate", "checkpoint", "export", "examples")}

# How a converter is used, which its weights do not depend on.
_USE_KEYS = (
    "num_steps",
    "num_shifts",
    "num_passes",
    "overlap",
    "envelope_pull",
    "low_gain_db",
    "evens_early",
    "averages_views",
)


def build_mutual_learning(config: TrainConfig) -> MutualLearning:
    """Both converters with fresh weights."""
    return MutualLearning(Converter(config.reverberator), Converter(config.dereverberator), config.mutual)


def train(
    config: TrainConfig,
    run_dir: str | Path,
    *,
    validate: Validate | None = None,
    figure: Figure | None = None,
    build: Callable[[TrainConfig], nn.Module] = build_mutual_learning,
    progress: bool = True,
) -> bool:
    """Train until the budget is spent, or until SIGTERM or Ctrl-C, then False; the same call resumes.

    Into ``run_dir`` go config.json, log.csv, validation.csv, checkpoints/, examples/ and, with averaged
    weights, reverberator.safetensors and dereverberator.safetensors. On a CPU in float32 a resumed run equals
    an unbroken one bit for bit, if its budget is in steps.

    Args:
        config: the run.
        run_dir: made if it is missing.
        validate: called with averaged converters on the main process; what it returns goes to validation.csv.
        figure: draws the waveforms of an example.
        build: makes the module to train.
        progress: show a progress bar.

    Raises:
        ConfigError: there is no budget, or ``run_dir`` holds a run with another configuration or other data.
        MvsdError: a hundred steps in a row had no finite gradient.
    """
    run_dir, schedule = Path(run_dir), config.schedule
    if not (schedule.total_steps or schedule.max_seconds):
        raise ConfigError("the run has no budget; set schedule.total_steps or schedule.max_seconds")
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    # Validation keeps the other processes waiting.
    PartialState(cpu=config.device == "cpu", timeout=timedelta(hours=3))
    config = _with_precision(config, run_dir)
    accelerator = _start_accelerator(config)
    _check_config(config, run_dir)
    with accelerator.main_process_first():  # the others find the speech decoded
        mixer = open_mixer(config.data, seed=config.seed, paired_batches=schedule.paired_steps)
    _divide_rows(mixer, config, accelerator.num_processes)
    state = _build_state(
        config, build, accelerator, is_new=latest_checkpoint(run_dir / "checkpoints") is None
    )
    state.data = mixer.contents()
    state.resume(run_dir / "checkpoints")
    _keep_config(config, run_dir, accelerator)
    module = accelerator.prepare_model(state.module)
    report = Reporter(config, run_dir, accelerator, state, mixer, validate, figure)
    stream = batches(
        mixer,
        state.step,
        schedule.total_steps or None,
        rank=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )
    skipped_in_a_row = 0
    with (
        closing(stream),
        closing(report),
        _stop_requests() as requests,
        display(accelerator, progress) as show,
    ):
        report.before_first_step()
        stopping = False
        while schedule.progress(state.step, state.elapsed) < 1.0 and not stopping:
            started = perf_counter()
            batch = next(stream)
            terms, updated = _step(accelerator, module, state, batch, config)
            state.step += 1
            state.elapsed, stopping = _agree(accelerator, state.elapsed + perf_counter() - started, requests)
            if updated:
                skipped_in_a_row = 0
                state.add(terms, len(batch) * accelerator.num_processes)
            elif (skipped_in_a_row := skipped_in_a_row + 1) >= MAX_SKIPPED_IN_A_ROW:
                report.export()
                raise MvsdError(
                    f"{skipped_in_a_row} steps up to {state.step} had no finite gradient; {run_dir} holds what was "
                    "learned before: start_from it in another run folder, with a lower optimizer.learning_rate or "
                    "precision = 'fp32'"
                )
            report.after_step()
            show(schedule.progress(state.step, state.elapsed), state.step, terms)
        report.finish(stopped=stopping)
    return not stopping


def _start_accelerator(config: TrainConfig) -> Accelerator:
    options = [
        # Warm-up and closed loop use different parameters.
        DistributedDataParallelKwargs(find_unused_parameters=True),
        # In the loop weights are used with and without gradient, and some versions of torch keep a copy in bfloat16 of
        # the first use for the second (pytorch issue 112583): it had no gradient.
        AutocastKwargs(cache_enabled=False),
    ]
    precision = "bf16" if config.precision == "bf16" else "no"
    try:
        return Accelerator(cpu=config.device == "cpu", mixed_precision=precision, kwargs_handlers=options)
    except ValueError as error:
        raise ConfigError(
            f"this process trained before with other arithmetic than {precision}, or elsewhere; start another process"
        ) from error


def _with_precision(config: TrainConfig, run_dir: Path) -> TrainConfig:
    """What `precision = "auto"` means: what it meant where the run began, else what saves time to the first process."""
    if config.precision != "auto":
        return config
    known = _known_config(run_dir)
    if known is not None and known.precision != "auto":
        return replace(config, precision=known.precision)
    has_accelerator = config.device == "auto" and torch.accelerator.is_available()
    device = torch.accelerator.current_accelerator() if has_accelerator else None
    found = ["bf16" if bf16_is_faster(device or torch.device("cpu")) else "fp32"]
    return replace(config, precision=broadcast_object_list(found)[0])


def _known_config(run_dir: Path) -> TrainConfig | None:
    """The configuration of the run in a folder, if there is one."""
    path = run_dir / "config.json"
    if not path.exists():
        return None
    try:
        return from_dict(TrainConfig, json.loads(path.read_text()))
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{path} is not a configuration of this version: {error}") from error


def _check_config(config: TrainConfig, run_dir: Path) -> None:
    """Raise ConfigError where the folder holds a run that learned under another configuration."""
    if (before := _known_config(run_dir)) is None:
        return
    known, wanted = flatten(to_dict(before)), flatten(to_dict(config))
    for name in sorted((known.keys() | wanted.keys()) - _FREE_KEYS):
        old, new = known.get(name), wanted.get(name)
        if old != new and not (name == "precision" and old == "auto"):
            raise ConfigError(
                f"{run_dir} was trained with {name} = {old!r}, not {new!r}; choose another run folder"
            )


def _divide_rows(mixer: Mixer, config: TrainConfig, num_processes: int) -> None:
    """Raise ConfigError for rows that cannot be divided, those of the loop too, which begins an hour later."""
    schedule = config.schedule
    last = schedule.total_steps - 1 if schedule.total_steps else schedule.paired_steps
    for number in {0, min(schedule.paired_steps, last)}:
        rows_of_process(mixer.counts(number), 0, num_processes)


def _keep_config(config: TrainConfig, run_dir: Path, accelerator: Accelerator) -> None:
    """Store the resolved configuration, once everything that it names was found."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_text(run_dir / "config.json", describe(config))


def _build_state(
    config: TrainConfig,
    build: Callable[[TrainConfig], nn.Module],
    accelerator: Accelerator,
    *,
    is_new: bool,
) -> TrainState:
    """Where it is not new, a checkpoint holds the weights, and the files it began with may be gone."""
    torch.manual_seed(config.seed)
    module = build(config).to(accelerator.device)
    if config.photo_weights and is_new:
        _load_photo_weights(module, config)
    if config.start_from and is_new:
        _load_weights(module, config)
    options = config.optimizer
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=options.learning_rate,
        betas=options.betas,
        eps=options.eps,
        weight_decay=options.weight_decay,
        fused=True,
    )
    reverberator, dereverberator = (
        Ema(cast(Converter, module.get_submodule(name)), options.ema_decay)
        for name in ("reverberator", "dereverberator")
    )
    return TrainState(module, optimizer, reverberator, dereverberator)


def _load_photo_weights(module: nn.Module, config: TrainConfig) -> None:
    """Begin the learners' scene encoders with the published weights in `config.photo_weights`."""
    path = Path(config.photo_weights)
    if not path.is_file():
        raise ConfigError(f"photo_weights: {path}: no such file; give published weights, or leave it empty")
    if path.stat().st_size > MAX_PHOTO_WEIGHTS:
        raise ConfigError(
            f"photo_weights: {path} has more than {MAX_PHOTO_WEIGHTS >> 20} MiB; no such weights are known"
        )
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        for name in config.mutual.learners:
            cast(Converter, module.get_submodule(name)).scene_encoder.load_published(weights)
    except Exception as error:  # torch.load raises nearly anything for a damaged or foreign file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"photo_weights: {path} does not fit the scene encoder: {reason}") from error


def _load_weights(module: nn.Module, config: TrainConfig) -> None:
    """Put the weights of the two model files in `config.start_from` into the module."""
    for name in ("reverberator", "dereverberator"):
        path = Path(config.start_from) / f"{name}.safetensors"
        loaded, wanted = Converter.load(path), getattr(config, name)
        window = () if wanted.generates == "response" else ("num_samples",)
        used = {key: getattr(wanted, key) for key in (*_USE_KEYS, *window)}
        # What did not see the estimates of earlier passes can learn to.
        used["sees_estimate"] = loaded.config.sees_estimate or wanted.sees_estimate
        parts = [part for part in ("unet", "refiner", "scene") if f"{name}.{part}" in config.changed_parts]
        used |= {part: getattr(wanted, part) for part in parts}
        if replace(loaded.config, **used) != wanted:
            raise ConfigError(
                f"{path} is another kind of {name} than the configuration asks for; make them equal"
            )
        converter = module.get_submodule(name)
        fresh, weights = converter.state_dict(), loaded.state_dict()
        known = {key: _with_more_inputs(value, fresh[key]) for key, value in weights.items() if key in fresh}
        fitting = {key: value for key, value in known.items() if value.shape == fresh[key].shape}
        converter.load_state_dict(fresh | fitting)


def _with_more_inputs(weight: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """A convolution's weight (C_out, C_in, K, K) with zeros for the last input channels that it does not have."""
    if weight.dim() != 4 or weight[:, :1].shape != wanted[:, :1].shape:
        return weight
    num_missing = max(0, wanted.shape[1] - weight.shape[1])
    return torch.nn.functional.pad(weight, (0, 0, 0, 0, 0, num_missing))


def _step(
    accelerator: Accelerator, module: nn.Module, state: TrainState, batch: Batch, config: TrainConfig
) -> tuple[dict[str, float], bool]:
    """Take a step, unless the gradient is not finite; return this process's terms, and if it was taken."""
    schedule, options = config.schedule, config.optimizer
    learning_rate = options.learning_rate * schedule.learning_rate_factor(state.step, state.elapsed)
    losses = module(batch.to(accelerator.device), cycle=state.step >= schedule.paired_steps)
    accelerator.backward(losses["total"])
    norm = torch.nn.utils.clip_grad_norm_(state.module.parameters(), options.clip_norm)
    values = torch.stack([*(value.detach().float() for value in losses.values()), norm.float()]).tolist()
    terms = dict(zip([*losses, "gradient_norm"], values, strict=True))
    # The gradient is the same on all processes, so all agree.
    updated = bool(norm.isfinite())
    if updated:
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate
        state.optimizer.step()
        for average, name in ((state.reverberator, "reverberator"), (state.dereverberator, "dereverberator")):
            average.update(cast(Converter, state.module.get_submodule(name)), state.num_updates)
    state.num_updates += updated
    state.num_skipped += not updated
    state.optimizer.zero_grad()
    return terms, updated


def _agree(accelerator: Accelerator, elapsed: float, requests: list[int]) -> tuple[float, bool]:
    """Make all processes use the longest time, and stop if one of them is asked to."""
    if accelerator.num_processes > 1:
        facts = torch.tensor([elapsed, float(bool(requests))], dtype=torch.float64, device=accelerator.device)
        torch.distributed.all_reduce(facts, op=torch.distributed.ReduceOp.MAX)
        return float(facts[0]), bool(facts[1])
    return elapsed, bool(requests)


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that fills with SIGTERM and SIGINT; a second one interrupts at once."""
    requests: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, ask) for number in numbers]
    try:
        yield requests
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
