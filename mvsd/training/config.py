"""What a training run is made of: typed dataclasses, and TOML files that hold only differences from them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import cos, pi
from pathlib import Path
from typing import Any, Literal

from mvsd.config import from_dict, merge, require_not_negative, to_dict
from mvsd.converter_config import ConverterConfig
from mvsd.data.mixing import DataConfig
from mvsd.errors import ConfigError
from mvsd.mutual import MutualConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW over both converters, and the moving average of their weights.

    Attributes:
        learning_rate: its peak.
        betas: decay of the first and second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled, per unit of learning rate.
        clip_norm: largest norm of the gradient.
        ema_decay: of the moving average, per step; it starts lower, see `mvsd.training.ema`.
    """

    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        if self.learning_rate <= 0 or self.clip_norm <= 0 or self.eps <= 0:
            raise ConfigError("optimizer.learning_rate, clip_norm and eps must be above 0")
        if not 0 <= self.ema_decay < 1 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError("optimizer.ema_decay and betas must be in [0, 1)")
        require_not_negative("optimizer", {"weight_decay": self.weight_decay})


@dataclass(frozen=True)
class ScheduleConfig:
    """When what happens; everything is counted in steps unless it says seconds, and 0 switches it off.

    Attributes:
        total_steps: the budget in steps; give this or ``max_seconds``, or both: the first spent ends the run.
        max_seconds: the budget in seconds of training, without validation, checkpoints and examples.
        decay: "cosine" falls from the start, "constant" stays and falls linearly over the last fifth.
        warmup_steps: the learning rate rises linearly.
        paired_steps: steps on paired rows only, before the closed loop starts.
        log_every: a row of means in log.csv.
        validate_every: a row in validation.csv.
        checkpoint_every: the last two are kept.
        export_every: model files for use are written into the run folder.
        examples_every: sounds and figures of a few fixed examples.
        num_examples: how many.
    """

    total_steps: int = 0
    max_seconds: float = 0.0
    decay: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 100
    paired_steps: int = 1000
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 250
    export_every: int = 1000
    examples_every: int = 1000
    num_examples: int = 3

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        require_not_negative(
            "schedule", {name: value for name, value in vars(self).items() if name != "decay"}
        )

    def progress(self, step: int, elapsed: float) -> float:
        """Share of the budget that is spent, 1 at the end."""
        by_steps = step / self.total_steps if self.total_steps else 0.0
        by_seconds = elapsed / self.max_seconds if self.max_seconds else 0.0
        return max(by_steps, by_seconds)

    def learning_rate_factor(self, step: int, elapsed: float) -> float:
        """Factor on the peak learning rate, in 0..1."""
        progress = min(self.progress(step, elapsed), 1.0)
        decay = 0.5 + 0.5 * cos(pi * progress) if self.decay == "cosine" else min(1.0, 5.0 * (1.0 - progress))
        return decay * min(1.0, (step + 1) / (self.warmup_steps + 1))


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        run: its name.
        data: what is heard and seen.
        reverberator: dry voice -> voice in the room.
        dereverberator: voice in the room -> dry voice.
        mutual: the closed loop.
        optimizer: how the weights move.
        schedule: budget, and when what happens.
        start_from: folder with reverberator.safetensors and dereverberator.safetensors to go on from, such as
            another run's; empty: fresh weights.
        changed_parts: parts of converters, such as "reverberator.scene", that may differ from those of `start_from`:
            of its weights those are taken that have the same name and shape, with zeros for inputs that they lack; the
            others are fresh.
        photo_weights: file of weights published for ImageNet, with which the scene encoders of the learners begin
            where `start_from` has none for them; see `SceneEncoder.load_published`. Empty: fresh weights.
        seed: of the weights and of every batch.
        precision: "bf16" computes in bfloat16 under autocast, with weights in float32; "auto" does where it saves time,
            as found when the run begins.
        device: "auto" takes an accelerator if there is one.
        num_threads: of torch on the CPU; 0 leaves its choice.
    """

    run: str = "run"
    data: DataConfig = field(default_factory=DataConfig)
    reverberator: ConverterConfig = field(default_factory=ConverterConfig)
    dereverberator: ConverterConfig = field(default_factory=ConverterConfig)
    mutual: MutualConfig = field(default_factory=MutualConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    start_from: str = ""
    changed_parts: tuple[
        Literal[
            "reverberator.unet",
            "reverberator.refiner",
            "reverberator.scene",
            "dereverberator.unet",
            "dereverberator.refiner",
            "dereverberator.scene",
        ],
        ...,
    ] = ()
    photo_weights: str = ""
    seed: int = 0
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    device: Literal["auto", "cpu"] = "auto"
    num_threads: int = 0

    def __post_init__(self) -> None:
        """Check what the parts must share; raises ConfigError."""
        for name in ("reverberator", "dereverberator"):
            converter: ConverterConfig = getattr(self, name)
            if converter.generates == "response" and converter.num_samples != self.data.rir_samples:
                raise ConfigError(
                    f"{name}.num_samples is {converter.num_samples}, data.rir_samples {self.data.rir_samples}: "
                    "the response that is generated must be as long as those it learns from; set both to the same"
                )
            if self.data.scenes.scale % converter.scene.scale:
                raise ConfigError(
                    f"data.scenes.scale is {self.data.scenes.scale}, {name}.scene.scale {converter.scene.scale}: "
                    "set the first to the larger of the two converters', a multiple of the smaller"
                )


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file of differences from the defaults; ``extends = "base.toml"`` starts from another one.

    Args:
        path: of the TOML file.
        overrides: "dotted.key=value", the value as TOML; what is not TOML is taken as a string.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong.
    """
    values = _read_extended(Path(path), ())
    for override in overrides:
        values = merge(values, _parse_override(override))
    return from_dict(TrainConfig, values)


def describe(config: TrainConfig) -> str:
    """The resolved configuration as JSON."""
    return json.dumps(to_dict(config), indent=2)


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says; raises ConfigError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _read_extended(path: Path, extended_by: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in extended_by:
        raise ConfigError(f"{path} extends itself; remove one 'extends'")
    values = read_toml(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends is {base!r}; wanted is the path of a TOML file")
    return merge(_read_extended(path.parent / base, (*extended_by, path)), values)


def _parse_override(override: str) -> Mapping[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r} is not key=value, for example optimizer.learning_rate=1e-4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        value = text.strip()
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]
