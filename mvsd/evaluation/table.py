"""The table of results: a row per system and scene condition, a column per metric, from scores per clip."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from mvsd.evaluation.metrics import Metric, Scores, Task, bootstrap_interval


@dataclass(frozen=True)
class Record:
    """The scores of one clip; `condition` is what the system saw: right photo, no photo, wrong photo."""

    clip: str
    task: Task
    condition: str
    scores: Scores
    system: str = "mvsd"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@dataclass(frozen=True)
class Cell:
    """Mean over the clips that could be measured, with the 95 % bootstrap interval of the mean.

    `mean` is None if no clip could be measured, `interval` if fewer than two could.
    """

    mean: float | None
    interval: tuple[float, float] | None
    num_measured: int
    num_failures: int

    def __str__(self) -> str:
        if self.mean is None:
            return f"- ({self.num_failures} failed)"
        text = f"{self.mean:.3g}"
        if self.interval is not None:
            text += f" [{self.interval[0]:.3g}, {self.interval[1]:.3g}]"
        return text + (f" ({self.num_failures} failed)" if self.num_failures else "")


@dataclass(frozen=True)
class Row:
    """One system in one condition, a cell per metric."""

    system: str
    condition: str
    cells: dict[str, Cell]


class Table:
    """Means of the records of one task, as text, markdown, CSV or JSON.

    Rows come in the order in which system and condition first appear, columns in the order of `metrics`.
    """

    def __init__(self, records: Sequence[Record], metrics: Mapping[str, Metric]) -> None:
        groups: dict[tuple[str, str], list[Scores]] = {}
        for record in records:
            groups.setdefault((record.system, record.condition), []).append(record.scores)
        self.rows = [
            Row(system, condition, {name: _cell(name, scores) for name in metrics})
            for (system, condition), scores in groups.items()
        ]
        self.headings = ["system", "scene", *(_heading(name, metric) for name, metric in metrics.items())]

    def text(self, width: int = 160) -> str:
        """For the terminal."""
        table = RichTable(*self.headings)
        for line in self._lines():
            table.add_row(*line)
        output = io.StringIO()
        Console(file=output, width=width).print(table)
        return output.getvalue()

    def markdown(self) -> str:
        """For a README."""
        lines = [self.headings, ["---"] * len(self.headings), *self._lines()]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def csv(self) -> str:
        """A line per row and metric, with full precision."""
        output = io.StringIO()
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(["system", "scene", "metric", "mean", "low", "high", "num_measured", "num_failures"])
        for row in self.rows:
            for name, cell in row.cells.items():
                interval = cell.interval or (None, None)
                numbers = [cell.mean, *interval, cell.num_measured, cell.num_failures]
                writer.writerow([row.system, row.condition, name, *numbers])
        return output.getvalue()

    def json(self) -> str:
        """All rows with full precision."""
        return json.dumps([asdict(row) for row in self.rows], indent=2) + "\n"

    def _lines(self) -> list[list[str]]:
        return [[row.system, row.condition, *map(str, row.cells.values())] for row in self.rows]


def _cell(name: str, scores: Sequence[Scores]) -> Cell:
    values = [s.values[name] for s in scores if name in s.values]
    return Cell(
        mean=float(np.mean(values)) if values else None,
        interval=bootstrap_interval(values) if len(values) > 1 else None,
        num_measured=len(values),
        num_failures=sum(name in s.failures for s in scores),
    )


def _heading(name: str, metric: Metric) -> str:
    """Name, unit in brackets, and an arrow to where better is."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{name}{unit} {'↑' if metric.higher_is_better else '↓'}"
