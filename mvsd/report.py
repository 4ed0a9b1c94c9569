"""A report of a room, whatever it was made from: numbers with their range or the reason for having none, and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mvsd.regions import Regions
from mvsd.whole_file import whole_file

Kind = Literal["recording", "photo", "response"]

DEFINITIONS: dict[str, str] = {
    "broadband": "All up to 8 kHz, or to half the sample rate where that is less: the band of the converters.",
    "rt60": "Reverberation time, s: T20, that is, 60 dB over the slope of the energy decay curve from -5 to -25 dB "
    "(ISO 3382-1), followed down to the noise floor, the noise power subtracted.",
    "t30": "Reverberation time, s, from -5 to -35 dB.",
    "edt": "Early decay time, s: 60 dB over the slope from 0 to -10 dB.",
    "drr_db": "Direct-to-reverberant ratio, dB: energy within 2.5 ms of the direct sound over all the rest.",
    "c50_db": "Clarity, dB: energy up to 50 ms after the direct sound over the later (ISO 3382-1, A.10).",
    "d50": "Definition, 0 to 1: share of the energy up to 50 ms after the direct sound (ISO 3382-1, A.11).",
    "bands": "Octaves by their centre in Hz. Times: of the response filtered by a zero-phase octave filter. Ratios: "
    "the response is split in time first and both parts are filtered then, so that the filter moves no energy "
    "across the border.",
    "decay": "Energy still to come at each time after the direct sound, in dB of the whole (Schroeder).",
    "regions": "What a region of the photo adds: the value with the whole photo less the value with the region hidden "
    "behind the mean colour; rt60_percent in percent of the reverberation time, drr_db in dB. Of the energy envelope "
    "that the reverberator predicts from the photo as it is, which has no randomness; responses may be drawn from the "
    "mean of several views of it, such as its mirror image.",
}
SPREADS: dict[Kind, str] = {
    "recording": "Blind estimate from speech: value is the expected one (of times: the median); low and high are one "
    "standard deviation below and above, as the estimator expects its own error (of times: of their logarithm). Decay: "
    "that of the simplest response with this rt60 and drr_db, direct sound and exponential tail, and with low and high "
    "rt60.",
    "photo": "Expected from the photo: median over drawn responses; low and high hold the middle 68 % of the draws. It "
    "is how much the draws differ, not how far they are from the real room.",
    "response": "Measured on the response, cut where it meets its noise floor; low and high are empty.",
}
MIDDLE = (16.0, 50.0, 84.0)  # percentiles that enclose one standard deviation of a normal distribution
DECAY_STEP, DECAY_FLOOR_DB = 0.01, -70.0  # seconds between the points of a decay curve, and its lowest


@dataclass(frozen=True)
class Quantity:
    """A value with a range, or the reason why there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Decay:
    """Decay curves on a grid of times: seconds after the direct sound, dB; low <= median <= high, all (N,)."""

    seconds: list[float]
    median_db: list[float]
    low_db: list[float]
    high_db: list[float]


@dataclass(frozen=True)
class Report:
    """What a file says of a room.

    `broadband` and each of `bands` (by centre in Hz) hold a `Quantity` by the names of `DEFINITIONS`; `facts` say how
    they were come by. `decay` is None where none can be shown, `regions` belongs to a photo.
    """

    kind: Kind
    broadband: dict[str, Quantity]
    bands: dict[int, dict[str, Quantity]]
    facts: dict[str, Any] = field(default_factory=dict)
    decay: Decay | None = None
    regions: Regions | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON, with the definition of every number."""
        record: dict[str, Any] = {"kind": self.kind, **self.facts}
        record["broadband"] = {name: asdict(quantity) for name, quantity in self.broadband.items()}
        record["bands"] = {
            str(band): {name: asdict(quantity) for name, quantity in quantities.items()}
            for band, quantities in self.bands.items()
        }
        record["decay"] = None if self.decay is None else asdict(self.decay)
        if self.regions is not None:
            record["regions"] = _regions_record(self.regions)
        used = {*self.broadband, *(name for quantities in self.bands.values() for name in quantities)}
        used |= record.keys()
        record["definitions"] = {name: text for name, text in DEFINITIONS.items() if name in used}
        record["definitions"]["spread"] = SPREADS[self.kind]
        return record

    def summary(self) -> str:
        """One line for people."""
        units = {"rt60": "s", "t30": "s", "edt": "s", "drr_db": "dB", "c50_db": "dB", "d50": ""}
        parts = []
        for name, quantity in self.broadband.items():
            text = "not measurable"
            if quantity.value is not None:
                text = f"{quantity.value:.2f} {units[name]}".rstrip()
            if quantity.low is not None and quantity.high is not None:
                text += f" ({quantity.low:.2f} to {quantity.high:.2f})"
            parts.append(f"{name.removesuffix('_db').upper()} {text}")
        return f"{self.kind}: {', '.join(parts)}"


def save_report(report: Report, path: str | Path, *, force: bool = False) -> None:
    """Write the JSON, whole or not at all.

    Raises:
        OutputExistsError: the file is there and `force` was not given.
        MvsdError: it cannot be written, or something other than a file is there.
    """
    with whole_file(Path(path), force=force) as temporary:
        temporary.write_text(json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _regions_record(regions: Regions) -> dict[str, Any]:
    rows, columns = regions.rt60_percent.shape
    return {
        "rows": rows,
        "columns": columns,
        "rt60_percent": regions.rt60_percent.round(2).tolist(),
        "drr_db": regions.drr_db.round(3).tolist(),
        "strongest": [
            {
                "row": row,
                "column": column,
                "rt60_percent": round(float(regions.rt60_percent[row, column]), 2),
                "drr_db": round(float(regions.drr_db[row, column]), 3),
            }
            for row, column in regions.strongest()
        ],
    }
