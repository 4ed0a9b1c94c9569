"""Logs of a run: CSV files that gain columns when new terms appear, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvsd.errors import DataError
from mvsd.whole_file import whole_file


class CsvLog:
    """A table with a row per step; those later than ``resume_step``, or all if it is 0, are dropped on opening."""

    def __init__(self, path: Path, resume_step: int) -> None:
        self.path = path
        self.columns: list[str] = ["step"]
        if path.exists():
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            # A crash may have logged steps that are about to be done again, or cut the last row.
            kept = [
                row
                for row in rows
                if resume_step and (row.get("step") or "").isdigit() and int(row["step"]) <= resume_step
            ]
            self.columns = list(rows[0]) if rows else self.columns
            self._rewrite(kept)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row; new names become new columns, empty in the rows before."""
        if new := [name for name in row if name not in self.columns]:
            rows = list[dict[str, Any]]()
            if self.path.exists():
                with self.path.open(newline="") as file:
                    rows = list(csv.DictReader(file))
            self.columns += new
            self._rewrite(rows)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="", lineterminator="\n").writerow(row)

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, self.columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, buffer.getvalue())


class RunLog:
    """log.csv with the terms of training, validation.csv with held-out figures, and TensorBoard of both."""

    def __init__(self, run_dir: Path, resume_step: int) -> None:
        self.training = CsvLog(run_dir / "log.csv", resume_step)
        self.validation = CsvLog(run_dir / "validation.csv", resume_step)
        self._board: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=resume_step + 1)

    def train(self, row: Mapping[str, float]) -> None:
        """Log a row of training terms, of which "step" is one."""
        self._write(self.training, "train", row)

    def validate(self, row: Mapping[str, float]) -> None:
        """Log a row of held-out figures, of which "step" is one."""
        self._write(self.validation, "validation", row)

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._board is not None:
            self._board.close()

    def _write(self, table: CsvLog, name: str, row: Mapping[str, float]) -> None:
        table.append(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        )
        if self._board is not None:
            for key, value in row.items():
                self._board.add_scalar(f"{name}/{key}", value, row["step"])


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically.

    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    with whole_file(path, DataError) as temporary, temporary.open("w", newline="") as file:
        file.write(text)
