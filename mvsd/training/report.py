"""What a run leaves behind and shows: logs, figures, examples, model files, checkpoints, a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from mvsd.converter import Converter
from mvsd.data.mixing import Mixer
from mvsd.training.config import TrainConfig
from mvsd.training.examples import Figure, write_examples
from mvsd.training.logs import RunLog
from mvsd.training.state import TrainState

Validate = Callable[[Converter, Converter, int], dict[str, float]]
"""(reverberator, dereverberator, step) -> held-out figures by name."""


class Reporter:
    """Everything a run leaves behind: logs, checkpoints, exports, examples; only the main process writes."""

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        accelerator: Accelerator,
        state: TrainState,
        mixer: Mixer,
        validate: Validate | None,
        figure: Figure | None,
    ) -> None:
        self.config, self.run_dir, self.accelerator, self.state = config, run_dir, accelerator, state
        self.mixer, self.validate, self.figure = mixer, validate, figure
        self.log = RunLog(run_dir, state.step) if accelerator.is_main_process else None

    def before_first_step(self) -> None:
        """Validate the weights that a run starts from; what it makes of them is read beside that."""
        if self.config.start_from and self.state.step == 0:
            self._validate()

    def after_step(self) -> None:
        """Do what is due."""
        schedule = self.config.schedule
        if self._due(schedule.log_every):
            self._log_terms()
        if self._due(schedule.validate_every):
            self._validate()
        if self._due(schedule.examples_every):
            self._write_examples()
        if self._due(schedule.export_every):
            self.export()
        if self._due(schedule.checkpoint_every):
            self._checkpoint()

    def finish(self, *, stopped: bool) -> None:
        """Leave everything ready for use, and for going on."""
        if self.state.sums and not stopped:
            self._log_terms()
        if self.state.validated_step != self.state.step and not stopped:
            self._validate()
        self._checkpoint()
        self.export()
        if stopped and self.accelerator.is_main_process:
            message = f"Stopped after step {self.state.step}; the same command goes on from there."
            Console(stderr=True).print(message)

    def close(self) -> None:
        """Close the logs."""
        if self.log is not None:
            self.log.close()

    def _due(self, every: int) -> bool:
        return every > 0 and self.state.step % every == 0

    def _log_terms(self) -> None:
        state = self.state
        self._share_sums()
        means = {name: total / count for name, (total, count) in state.sums.items()}
        seconds = max(state.elapsed - state.interval_start, 1e-9)
        row = {"step": state.step, "elapsed": state.elapsed, **means}
        row["learning_rate"] = state.optimizer.param_groups[0]["lr"]
        row["examples_per_second"] = state.interval_rows / seconds
        row["skipped_steps"] = state.num_skipped
        if self.log is not None:
            self.log.train(row)
        state.sums, state.interval_start, state.interval_rows = {}, state.elapsed, 0

    def _share_sums(self) -> None:
        """Give all processes the mean of their sums, which is what a checkpoint keeps for all of them."""
        sums = self.state.sums
        if self.accelerator.num_processes > 1 and sums:
            totals = [total for total, _ in sums.values()]
            local = torch.tensor(totals, dtype=torch.float64, device=self.accelerator.device)
            shared = self.accelerator.reduce(local, reduction="mean").tolist()
            self.state.sums = {
                name: [total, count] for (name, (_, count)), total in zip(sums.items(), shared, strict=True)
            }

    def _validate(self) -> None:
        state = self.state
        state.validated_step = state.step
        if self.validate is not None and self.log is not None and self.config.schedule.validate_every:
            figures = self.validate(state.reverberator.module, state.dereverberator.module, state.step)
            self.log.validate({"step": state.step, "elapsed": state.elapsed, **figures})
        self.accelerator.wait_for_everyone()

    def _write_examples(self) -> None:
        state = self.state
        if self.accelerator.is_main_process and self.config.schedule.num_examples:
            pairs = self.mixer.pairs(self.config.schedule.num_examples).to(self.accelerator.device)
            folder = self.run_dir / "examples" / f"step-{state.step:09d}"
            write_examples(folder, state.reverberator.module, state.dereverberator.module, pairs, self.figure)
        self.accelerator.wait_for_everyone()

    def export(self) -> None:
        """Write the averaged converters as model files."""
        if self.accelerator.is_main_process:
            self.state.reverberator.module.save(self.run_dir / "reverberator.safetensors")
            self.state.dereverberator.module.save(self.run_dir / "dereverberator.safetensors")
        self.accelerator.wait_for_everyone()

    def _checkpoint(self) -> None:
        self._share_sums()
        if self.accelerator.is_main_process:
            self.state.save(self.run_dir / "checkpoints")
        self.accelerator.wait_for_everyone()


@contextmanager
def display(
    accelerator: Accelerator, progress: bool
) -> Iterator[Callable[[float, int, dict[str, float]], None]]:
    """A progress bar over the budget, of steps or of seconds."""
    columns = (
        TextColumn("step {task.fields[step]}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    shown = progress and accelerator.is_main_process
    with Progress(
        *columns, TextColumn("{task.fields[loss]}"), console=Console(stderr=True), disable=not shown
    ) as bar:
        task = bar.add_task("", total=1.0, step=0, loss="")

        def show(share: float, step: int, terms: dict[str, float]) -> None:
            bar.update(task, completed=min(share, 1.0), step=step, loss=f"loss {terms['total']:.3f}")

        yield show
