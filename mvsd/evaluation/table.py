"""The tables of results: rows of means with intervals, in every form in which they are read."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from mvsd.evaluation.metrics import Metric, Scores, Task, bootstrap_interval

_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
_LATEX |= {"^": r"\textasciicircum{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$"}

_FEWEST_INDEPENDENT = 10  # that a verdict needs: the bootstrap of a few speakers has too short an interval

_Measured = tuple[float, float, str]  # value, weight, group
Pair = tuple[tuple[str, str], tuple[str, str]]  # two rows: system, condition


@dataclass(frozen=True)
class Record:
    """The scores of one clip; `condition` is what the system saw: right photo, no photo, wrong photo.

    `speaker` and `utterance` are "" where they are not known; `embedding` is that of the estimated voice where voices
    are compared.
    """

    clip: str
    task: Task
    condition: str
    scores: Scores
    system: str = "mvsd"
    speaker: str = ""
    embedding: tuple[float, ...] = ()
    utterance: str = ""

    @property
    def group(self) -> str:
        """What clips have in common that are not independent: their speaker, where one is known."""
        return f"speaker {self.speaker}" if self.speaker else f"clip {self.clip}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Record:
        """What `to_dict` made."""
        typed = {"scores": Scores(**record["scores"]), "embedding": tuple(record["embedding"])}
        return cls(**{**record, **typed})


@dataclass(frozen=True)
class Cell:
    """Mean over the clips that could be measured, with the 95 % bootstrap interval of the mean (over speakers).

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


@dataclass(frozen=True)
class Grid:
    """Headings and lines of text cells, as a terminal, a README, a paper or a web page wants them."""

    headings: Sequence[str]
    lines: Sequence[Sequence[str]]

    def show(self, form: str, width: int = 160) -> str:
        """As "table", "markdown", "csv", "json", "latex" or "html"."""
        forms = {"markdown": self.markdown, "csv": self.csv, "json": self.json, "latex": self.latex}
        forms["html"] = self.html
        return forms[form]() if form in forms else self.text(width)

    def text(self, width: int = 160) -> str:
        """For the terminal."""
        table = RichTable(*map(escape, self.headings))
        for line in self.lines:
            table.add_row(*map(Text, line))
        output = io.StringIO()
        Console(file=output, width=width).print(table)
        return output.getvalue()

    def markdown(self) -> str:
        """For a README."""
        lines = [self.headings, ["---"] * len(self.headings), *self.lines]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def latex(self) -> str:
        """For a paper: a tabular in the style of the package booktabs."""
        rows = [" & ".join(map(_latex, line)) + r" \\" for line in (self.headings, *self.lines)]
        columns = "ll" + "r" * (len(self.headings) - 2)
        body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rows[0], r"\midrule", *rows[1:]]
        return "\n".join([*body, r"\bottomrule", r"\end{tabular}", ""])

    def html(self) -> str:
        """For a web page: a table without styles."""
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.headings)
        rows = []
        for first, *others in self.lines:
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in others)
            rows.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>\n')
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody>\n</table>\n"

    def csv(self) -> str:
        """The cells as they are."""
        output = io.StringIO()
        csv.writer(output, lineterminator="\n").writerows([self.headings, *self.lines])
        return output.getvalue()

    def json(self) -> str:
        """An object per line."""
        return (
            json.dumps([dict(zip(self.headings, line, strict=True)) for line in self.lines], indent=2) + "\n"
        )


class Table:
    """Means of the records of one task: `rows` of numbers, `grid` as they are shown.

    Rows come in the order in which system and condition first appear, columns in the order of `metrics`, then those
    of `corpus`: metrics of all clips together, with their cells by system and condition.
    """

    def __init__(
        self,
        records: Sequence[Record],
        metrics: Mapping[str, Metric],
        corpus: Mapping[str, tuple[Metric, Mapping[tuple[str, str], Cell]]] | None = None,
    ) -> None:
        corpus = corpus or {}
        of_rows: dict[tuple[str, str], list[Record]] = {}
        for record in records:
            of_rows.setdefault((record.system, record.condition), []).append(record)
        self.rows = [
            Row(
                *row,
                {name: _cell(name, found) for name in metrics}
                | {name: cells[row] for name, (_, cells) in corpus.items()},
            )
            for row, found in of_rows.items()
        ]
        columns = {**metrics, **{name: metric for name, (metric, _) in corpus.items()}}
        self.grid = Grid(
            ["system", "scene", *(heading(name, metric) for name, metric in columns.items())],
            [[row.system, row.condition, *map(str, row.cells.values())] for row in self.rows],
        )

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


@dataclass(frozen=True)
class Difference:
    """A row of the table, `system` in `condition`, minus another one, clip by clip.

    `other` is that one's condition where the system is the same, else its name and condition. Mean over the clips that
    could be measured both times, with its 95 % bootstrap interval, None if there are fewer than two; `num_independent`
    of them, which is the number of speakers where several are known; `is_better` where the interval shows the first row
    to be better or worse, None where it may be chance.
    """

    system: str
    condition: str
    other: str
    metric: str
    mean: float
    interval: tuple[float, float] | None
    num_pairs: int
    num_independent: int
    is_better: bool | None


def differences(
    records: Sequence[Record],
    metrics: Mapping[str, Metric],
    pairs: Sequence[Pair],
) -> list[Difference]:
    """The first row of each pair against the second, over the clips that both have; no line where there are none."""
    of_rows = dict[tuple[str, str], dict[str, Record]]()
    for record in records:
        of_rows.setdefault((record.system, record.condition), {})[record.clip] = record
    found = []
    for row, other in pairs:
        others = of_rows.get(other, {})
        both = [(record, others[clip]) for clip, record in of_rows.get(row, {}).items() if clip in others]
        for name, metric in metrics.items():
            changes = [
                (a.scores.values[name] - b.scores.values[name], a.scores.weights.get(name, 1.0), a.group)
                for a, b in both
                if name in a.scores.values and name in b.scores.values
            ]
            found.append(_difference((row, other), name, changes, metric.higher_is_better))
    return [difference for difference in found if difference is not None]


def differences_grid(found: Sequence[Difference]) -> Grid:
    """A line per system and metric that was compared."""
    verdicts = {True: "better", False: "worse", None: "may be chance"}
    lines = []
    for d in found:
        interval = "" if d.interval is None else f" [{d.interval[0]:+.3g}, {d.interval[1]:+.3g}]"
        change = f"{d.mean:+.3g}{interval}"
        verdict = verdicts[d.is_better] if d.num_independent >= _FEWEST_INDEPENDENT else "too few to tell"
        difference = f"{d.condition or d.system} - {d.other}"
        lines.append([d.system, difference, d.metric, change, str(d.num_pairs), verdict])
    return Grid(["system", "difference", "metric", "mean of the clips", "clips", "the first is"], lines)


def heading(name: str, metric: Metric) -> str:
    """Name, unit in brackets, and an arrow to where better is."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{name}{unit} {'↑' if metric.higher_is_better else '↓'}"


def _cell(name: str, records: Sequence[Record]) -> Cell:
    measured = [
        (record.scores.values[name], record.scores.weights.get(name, 1.0), record.group)
        for record in records
        if name in record.scores.values
    ]
    mean, interval = _mean(measured)
    return Cell(mean, interval, len(measured), sum(name in record.scores.failures for record in records))


def _mean(measured: Sequence[_Measured]) -> tuple[float | None, tuple[float, float] | None]:
    """The mean and its interval."""
    if not sum(weight for _, weight, _ in measured) > 0:
        return None, None
    values, weights, groups = zip(*measured, strict=True)
    interval = bootstrap_interval(values, weights=weights, groups=groups) if len(values) > 1 else None
    return float(np.average(values, weights=weights)), interval


def _difference(pair: Pair, metric: str, changes: Sequence[_Measured], higher: bool) -> Difference | None:
    mean, interval = _mean(changes)
    if mean is None:
        return None
    num_groups, is_better = len({group for *_, group in changes}), None
    num_independent = num_groups if num_groups > 1 else len(changes)
    if (
        interval is not None
        and num_independent >= _FEWEST_INDEPENDENT
        and not interval[0] <= 0 <= interval[1]
    ):
        is_better = (interval[0] > 0) == higher
    row, other = pair
    text = other[1] if other[0] == row[0] else ", ".join(filter(None, other))
    return Difference(*row, text, metric, mean, interval, len(changes), num_independent, is_better)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
