"""The state of a run: all that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mvsd.converter import Converter
from mvsd.errors import ConfigError
from mvsd.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from mvsd.training.ema import Ema


@dataclass
class TrainState:
    """All that a checkpoint holds.

    ``module`` has the parts ``reverberator`` and ``dereverberator``, and ``module(batch, cycle=...)`` returns
    the terms of the loss as scalars by name, of which "total" is minimised. ``sums`` holds sum and number of
    each term since the last row of the log, ``data`` what the batches are drawn from (`Mixer.contents`).
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    reverberator: Ema[Converter]
    dereverberator: Ema[Converter]
    step: int = 0
    elapsed: float = 0.0
    num_updates: int = 0
    num_skipped: int = 0
    interval_start: float = 0.0
    interval_rows: int = 0
    validated_step: int = -1
    sums: dict[str, list[float]] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What has weights, by name."""
        averages = {
            "reverberator_ema": self.reverberator.module,
            "dereverberator_ema": self.dereverberator.module,
        }
        return {"model": self.module, **averages}

    @property
    def facts(self) -> dict[str, Any]:
        """What is no tensor, by name."""
        names = ("step", "elapsed", "num_updates", "num_skipped", "interval_start", "interval_rows")
        return {name: getattr(self, name) for name in (*names, "validated_step", "sums", "data")}

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        save_checkpoint(folder, self.step, self.modules, self.optimizer, self.facts)

    def resume(self, folder: Path) -> None:
        """Go on from the newest checkpoint, if there is one; one of earlier versions may lack some of the facts.

        Raises:
            ModelFileError: it is corrupt, or is of other modules.
            ConfigError: there is other ``data`` now.
        """
        path = latest_checkpoint(folder)
        if path is None:
            return
        facts = load_checkpoint(path, self.modules, self.optimizer)
        known = facts.get("data", self.data)
        for name in sorted(known.keys() | self.data.keys()):
            old, new = known.get(name, "nothing"), self.data.get(name, "nothing")
            if old != new:
                raise ConfigError(
                    f"{folder.parent} has learned from {old} as {name}, and there is {new} now (number and digest of "
                    "names): give it back what it had, or start_from it in another run folder"
                )
        for name in self.facts:
            setattr(self, name, facts.get(name, getattr(self, name)))

    def add(self, terms: dict[str, float], num_rows: int) -> None:
        """Add the terms of one step to those of the interval."""
        self.interval_rows += num_rows
        for name, value in terms.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value, count + 1]
