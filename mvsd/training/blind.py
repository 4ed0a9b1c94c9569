"""Train the blind estimator: `python -m mvsd.training.blind configs/blind.toml`.

Gaussian negative log likelihood of every measured value of the room, so that the network learns how sure it can be
(Nix and Weigend 1994). At the end the spreads are scaled so as to be right on validation rooms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from mvsd.blind import SAMPLE_RATE, BlindConfig, BlindEstimator
from mvsd.config import from_dict
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
from mvsd.errors import ConfigError, MvsdError, OutputExistsError
from mvsd.training.blind_data import RecordingConfig, Recordings, Responses
from mvsd.training.config import read_toml

_LOG_EVERY = 50
_VALIDATION = 2**31  # a batch number that training does not reach; above 32 bits numpy splits it in two


@dataclass(frozen=True)
class BlindTrainConfig:
    """A training run of the blind estimator.

    Attributes:
        speech, speech_holdout, cache: as in `mvsd.data.mixing.DataConfig`.
        rooms: shards of rooms to train on.
        validation_rooms: rooms on which the spreads are set right; the voices are those of the training.
        num_variants: how often each room is varied, besides as it is.
        num_made: how many responses are made without a room.
        seconds: lengths of recordings; one is drawn per batch.
        batch_seconds: of sound in a batch, so that a batch of long recordings has fewer rows.
        num_steps: of the optimizer.
        weight_decay: of the optimizer, decoupled.
        learning_rate: its peak, reached after a twentieth of the steps; then falls as a cosine.
        recording: how recordings differ.
        network: the estimator.
        seed: of weights, responses and recordings.
    """

    speech: str
    rooms: tuple[str, ...]
    validation_rooms: tuple[str, ...]
    speech_holdout: tuple[str, ...] = ()
    cache: str = "cache"
    num_variants: int = 1
    num_made: int = 2000
    seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    batch_seconds: float = 128.0
    num_steps: int = 1500
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    network: BlindConfig = field(default_factory=BlindConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        if not self.seconds or min(self.seconds) < 1 or self.batch_seconds < 2 * max(self.seconds):
            raise ConfigError("seconds must be 1 or more each, and batch_seconds twice the longest")
        if self.num_steps < 1 or self.num_variants < 0 or self.num_made < 0:
            raise ConfigError("num_steps must be 1 or more, num_variants and num_made 0 or more")


def train_blind(config: BlindTrainConfig, path: str | Path, *, force: bool = False) -> BlindEstimator:
    """Train, set the spreads right, and write the model file; the same configuration gives the same weights.

    Raises:
        DataError: the speech or a shard cannot be used.
        ConfigError: there is no folder for the model file.
        OutputExistsError: the model file is there and ``force`` is not set.
    """
    if Path(path).exists() and not force:
        raise OutputExistsError(f"{path} exists; choose another name or use --force to replace it")
    if not Path(path).parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {Path(path).parent}; create it first")
    torch.manual_seed(config.seed)
    speech = Speech(config.speech, config.cache, holdout=config.speech_holdout)
    responses = Responses(Shards(config.rooms), config.num_variants, config.num_made, config.seed)
    validation = Responses(Shards(config.validation_rooms), 0, 0, config.seed)
    typer.echo(f"{len(speech)} utterances, {len(responses)} responses", err=True)
    recordings = Recordings(speech, responses, config.recording, config.seed)
    estimator = BlindEstimator(config.network).train()
    estimator.target_mean.copy_(torch.from_numpy(np.nanmean(responses.targets, axis=0)))
    estimator.target_std.copy_(torch.from_numpy(np.maximum(np.nanstd(responses.targets, axis=0), 1e-3)))
    optimizer = torch.optim.AdamW(
        estimator.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.num_steps, pct_start=0.05
    )
    started, errors = perf_counter(), list[NDArray[np.float64]]()
    for step in range(config.num_steps):
        mean, std, target = _estimates(estimator, recordings, config, step)
        loss = gaussian_loss(mean, std, target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(estimator.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        rt60_error = (mean - target)[:, 0].detach() * estimator.target_std[0]
        errors.append(np.array([loss.item(), rt60_error.abs().nanmedian().item()]))
        if (step + 1) % _LOG_EVERY == 0 or step + 1 == config.num_steps:
            likelihood, error = np.mean(errors[-_LOG_EVERY:], axis=0)
            line = f"step {step + 1}: loss {likelihood:.3f}, rt60 off by {100 * error:.1f} %, "
            typer.echo(f"{line}{perf_counter() - started:.0f} s", err=True)
    calibrate(estimator.eval(), Recordings(speech, validation, config.recording, config.seed), config)
    estimator.save(path)
    return estimator


def gaussian_loss(mean: Tensor, std: Tensor, target: Tensor) -> Tensor:
    """Mean negative log likelihood (without the constant) over what is measurable, that is, not NaN."""
    known = ~target.isnan()
    deviation = (mean - target.nan_to_num()) / std
    return (0.5 * deviation.square() + std.log())[known].mean()


@torch.no_grad()
def calibrate(estimator: BlindEstimator, recordings: Recordings, config: BlindTrainConfig) -> None:
    """Scale each spread by the root mean square of (error / spread) on validation rooms, 1 where it is right."""
    ratios = []
    for number in range(16):
        mean, std, target = _estimates(estimator, recordings, config, _VALIDATION + number)
        ratios.append(((mean - target) / std).numpy())
    ratio = np.concatenate(ratios)
    scale = np.sqrt(np.nanmean(ratio**2, axis=0))
    typer.echo(f"error / spread on validation rooms: {np.array2string(scale, precision=2)}", err=True)
    estimator.calibration.copy_(torch.from_numpy(scale))


def _estimates(
    estimator: BlindEstimator, recordings: Recordings, config: BlindTrainConfig, number: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, spread and target (B, NUM_TARGETS) of batch `number`, in units of `target_std`."""
    seconds = config.seconds[np.random.default_rng([config.seed, number]).integers(len(config.seconds))]
    num_rows = int(config.batch_seconds / seconds)
    waveform, target = recordings.batch(number, num_rows, round(seconds * SAMPLE_RATE))
    mean, std = estimator(torch.from_numpy(waveform))
    return mean, std, (torch.from_numpy(target) - estimator.target_mean) / estimator.target_std


def load_blind_config(path: Path) -> BlindTrainConfig:
    """Read a TOML file; raises ConfigError where it cannot be read, or a key or value is wrong."""
    values = read_toml(path)
    try:
        return from_dict(BlindTrainConfig, values)
    except TypeError as error:  # what has no default is missing
        raise ConfigError(f"{path} is no configuration of the blind estimator: {error}") from error


def main(
    config: Annotated[Path, typer.Argument(help="TOML file of `BlindTrainConfig`.")],
    out: Annotated[Path, typer.Option(help="Model file to write.")] = Path("blind.safetensors"),
    threads: Annotated[int, typer.Option(min=1, help="Threads; the result depends on them.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace the model file, if it is there.")] = False,
) -> None:
    """Train the blind estimator on simulated rooms."""
    torch.set_num_threads(threads)
    try:
        train_blind(load_blind_config(config), out, force=force)
    except MvsdError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
