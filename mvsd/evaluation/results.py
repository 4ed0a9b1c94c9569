"""What an evaluation leaves behind: every clip's figures, the table, the differences, and what they mean."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mvsd.errors import OutputExistsError
from mvsd.evaluation.evaluate import UNREAD
from mvsd.evaluation.metrics import Metric, save_trials, versions
from mvsd.evaluation.metrics.speech import INFINITE_SI_SDR
from mvsd.evaluation.parallel import write_whole
from mvsd.evaluation.settings import EER, Settings
from mvsd.evaluation.systems import NONE, RIGHT, WRONG, GroundTruth, System, Untouched, own_systems
from mvsd.evaluation.table import Difference, Pair, Record, Table, differences, differences_grid
from mvsd.evaluation.voices import METRIC as VOICES
from mvsd.evaluation.voices import Voices, compare_voices

FILES = ("clips.csv", "clips.json", "results.json")
_FACTS = ("clip", "system", "scene")  # the first columns of clips.csv


@dataclass(frozen=True)
class Results:
    """The records of an evaluation with its settings."""

    settings: Settings
    records: Sequence[Record]

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """The columns."""
        return self.settings.chosen_metrics

    @cached_property
    def table(self) -> Table:
        """A row for each system and condition."""
        corpus = {EER: (VOICES, self.voices.cells)} if self.voices else {}
        return Table(self.records, self.metrics, corpus)

    @cached_property
    def voices(self) -> Voices | None:
        """The comparison of voices with those of the ground truth, if it was asked for."""
        if self.settings.voice_options is None:
            return None
        return compare_voices(self.records, self._name_of(GroundTruth), self.settings.seed)

    @cached_property
    def differences(self) -> list[Difference]:
        """Of the user's systems: right photo minus none and a wrong one, each minus its input, the first minus others.

        A system that sees no right photo is compared as it is.
        """
        own = own_systems(self.settings.systems)
        rows = {s.name: (s.name, RIGHT if RIGHT in s.conditions else s.conditions[0]) for s in own}
        untouched = (self._name_of(Untouched), "")
        pairs = list[Pair]()
        for name, row in rows.items():
            pairs += [(row, (name, other)) for other in (NONE, WRONG) if row[1] == RIGHT]
            pairs.append((row, untouched))
        mine = list(rows.values())
        pairs += [(mine[0], other) for other in mine[1:]]
        return differences(self.records, self.metrics, pairs)

    @property
    def unread(self) -> list[str]:
        """The clips that could not be loaded."""
        return list(dict.fromkeys(record.clip for record in self.records if record.clip.startswith(UNREAD)))

    @property
    def num_clips(self) -> int:
        """How many clips were converted."""
        return len({record.clip for record in self.records})

    @property
    def without_figures(self) -> list[str]:
        """The names of the user's systems of which nothing could be measured."""
        measured = {
            row.system for row in self.table.rows if any(cell.mean is not None for cell in row.cells.values())
        }
        return [s.name for s in own_systems(self.settings.systems) if s.name not in measured]

    def failures(self) -> dict[str, list[str]]:
        """Why figures are missing, and the clips of which they are, the most frequent reason first.

        A clip that a system made nothing of counts once, whatever was to be measured. That the ground truth's SI-SDR
        is infinite is no failure.
        """
        clips = dict[str, list[str]]()
        truth, voices = self._name_of(GroundTruth), self.voices or Voices((), {}, {})
        for record in self.records:
            row, failures = (record.system, record.condition), record.scores.failures
            if len(reasons := set(failures.values())) == 1 and not record.scores.values:
                failures = {"": reasons.pop()}
            for metric, reason in failures.items():
                if (record.system, reason) != (truth, INFINITE_SI_SDR):
                    clips.setdefault(_told(row, metric, reason), []).append(record.clip)
        for row, reason in voices.failures.items():
            clips[_told(row, EER, reason)] = [r.clip for r in self.records if (r.system, r.condition) == row]
        return dict(sorted(clips.items(), key=lambda item: -len(item[1])))

    def _name_of(self, kind: type[System]) -> str:
        """The name of the first system of a kind, "" where there is none."""
        return next((system.name for system in self.settings.systems if isinstance(system, kind)), "")

    @property
    def _columns(self) -> dict[str, Metric]:
        """The metrics of single clips, then that of all together."""
        options = self.settings.voice_options
        if options is None:
            return dict(self.metrics)
        return {**self.metrics, EER: VOICES.using(**options) if options else VOICES}

    def definitions(self) -> dict[str, dict[str, str]]:
        """What each column is: unit, direction, definition."""
        return {
            name: {
                "unit": metric.unit,
                "better": "higher" if metric.higher_is_better else "lower",
                "definition": metric.definition,
            }
            for name, metric in self._columns.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: all but the single clips."""
        settings = asdict(replace(self.settings, systems=()))
        names = [{"name": s.name, "identity": s.identity()} for s in self.settings.systems]
        return {
            "settings": settings
            | {"metrics": list(dict.fromkeys(self.settings.metrics or self.metrics)), "systems": names},
            "num_clips": self.num_clips,
            "num_speakers": len({record.speaker for record in self.records if record.speaker}),
            "rows": [asdict(row) for row in self.table.rows],
            "differences": [asdict(difference) for difference in self.differences],
            "failures": {reason: len(clips) for reason, clips in self.failures().items()},
            "definitions": self.definitions(),
            "interval": "95 % percentile bootstrap of the mean over clips, 2000 draws of speakers (of clips where none"
            " or one is known), seed 0",
            "versions": versions(),
        }

    def clips_csv(self) -> str:
        """A line per clip, system and condition: a column per metric, empty where it failed, then the reasons."""
        output = io.StringIO()
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow([*_FACTS, *self.metrics, "failures"])
        for record in self.records:
            values, failures = record.scores.values, record.scores.failures
            reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
            figures = [values.get(name, "") for name in self.metrics]
            writer.writerow([record.clip, record.system, record.condition, *figures, reasons])
        return output.getvalue()

    def write(self, folder: str | Path) -> list[Path]:
        """Write `FILES`, replacing those of an earlier run, and the trials on voices; returns the paths of `FILES`.

        Raises DataError where that is impossible, and OutputExistsError as `require_place_for_results` does.
        """
        require_place_for_results(folder)
        contents = (
            self.clips_csv(),
            json.dumps([replace(r, embedding=()).to_dict() for r in self.records], indent=1) + "\n",
            json.dumps(self.to_dict(), indent=2) + "\n",
        )
        paths = [Path(folder) / name for name in FILES]
        for path, content in zip(paths, contents, strict=True):
            write_whole(path, content)
        if self.voices:
            save_trials(self.voices.trials, Path(folder) / "trials.json")
        return paths

    def show(self, form: str, width: int = 160) -> str:
        """The table and, but for CSV, the differences, as "table", "markdown", "csv", "json", "latex" or "html"."""
        if form == "csv":
            return self.table.csv()
        if form == "json":
            return json.dumps(self.to_dict(), indent=2) + "\n"
        grids = [self.table.grid]
        if self.differences:
            grids.append(differences_grid(self.differences))
        return "\n".join(grid.show(form, width) for grid in grids)


def require_place_for_results(folder: str | Path) -> None:
    """Raise OutputExistsError where results would replace a file that is not one of an evaluation."""
    checks = (_is_table, _is_list_of_records, _is_summary)
    for path, is_ours in zip((Path(folder, name) for name in FILES), checks, strict=True):
        if path.exists() and not (path.is_file() and is_ours(path)):
            raise OutputExistsError(f"{path} is not of an evaluation; move it, or choose another folder")


def _told(row: tuple[str, str], metric: str, reason: str) -> str:
    return ": ".join(filter(None, (", ".join(filter(None, row)), metric, reason)))


def _is_table(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline(2**16).startswith(",".join(_FACTS).encode())


def _is_list_of_records(path: Path) -> bool:
    found = _read_json(path)
    return isinstance(found, list) and all(
        isinstance(record, dict) and {"clip", "system", "scores"} <= set(record) for record in found
    )


def _is_summary(path: Path) -> bool:
    found = _read_json(path)
    return isinstance(found, dict) and {"settings", "rows", "definitions"} <= set(found)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
