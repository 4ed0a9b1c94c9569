"""What a conversion's recording, photo and response say of their rooms: a table, decay curves, and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mvsd.audio import load_audio
from mvsd.blockwise import CORE_RATE
from mvsd.errors import MvsdError
from mvsd.figures import save_figure
from mvsd.inspection import inspect_photo, inspect_recording, inspect_response, loudest_channel
from mvsd.report import DEFINITIONS, SPREADS, Quantity, Report
from mvsd.report_figure import draw_decays
from mvsd.web.jobs import Conversion, Models, Progress, Settings
from mvsd.web.listening import Listening
from mvsd.web.visitors import Stopped

NUM_DRAWS = 8  # of the photo's response; `mvsd inspect` draws more

_ROWS = {
    "rt60": ("Reverberation time", "s"),
    "edt": ("Early decay time", "s"),
    "drr_db": ("Direct to reverberant", "dB"),
    "c50_db": ("Clarity C50", "dB"),
}
Rooms = Mapping[str, Report | str]
"""By what was looked at: its report, or the reason why there is none."""


def inspect_rooms(
    conversion: Conversion, listening: Listening, models: Models, progress: Progress | None = None
) -> Rooms:
    """Listen to the recording; then to what came out of a room, or look at the photo and the response of one.

    Raises what `progress` raises.
    """
    settings = conversion.settings
    before, after = listening.sounds
    rooms: dict[str, Report | str] = {"Before, heard": _heard(before)}
    if settings.task == "dereverb":
        rooms["After, heard"] = _heard(after)
    if conversion.rir is None:
        return rooms
    rooms["Photo, expected"] = _seen(settings, models, progress)
    rooms["Applied, measured"] = _measured(conversion.rir)
    return rooms


def rooms_table(rooms: Rooms) -> str:
    """The reports side by side, as HTML: broadband, per octave, and what the numbers mean."""
    found = {name: report for name, report in rooms.items() if isinstance(report, Report)}
    reasons = "".join(
        f'<p class="note">{escape(name)}: {escape(reason)}.</p>'
        for name, reason in rooms.items()
        if isinstance(reason, str)
    )
    if not found:
        return f'<div class="room">{reasons}</div>'
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in found)
    rows = "".join(
        _row(title, unit, [report.broadband.get(name) for report in found.values()])
        for name, (title, unit) in _ROWS.items()
    )
    bands = sorted({band for report in found.values() for band in report.bands})
    per_band = "".join(
        _row(f"{band} Hz", "s", [report.bands.get(band, {}).get("rt60") for report in found.values()])
        for band in bands
    )
    kinds = dict.fromkeys(SPREADS[report.kind] for report in found.values())
    meanings = "".join(
        f"<dt>{escape(title)}</dt><dd>{escape(DEFINITIONS[name])}</dd>" for name, (title, _) in _ROWS.items()
    ) + "".join(f"<dt>Range in brackets</dt><dd>{escape(text)}</dd>" for text in kinds)
    return (
        f'<div class="room"><table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>{reasons}'
        f"<details><summary>Reverberation time per octave</summary>"
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{per_band}</tbody></table></details>"
        f"<details><summary>What the numbers mean</summary><dl>{meanings}</dl></details></div>"
    )


def decay_figure(rooms: Rooms, path: Path) -> bool:
    """Decay curves with their range; False, and no file, where there is none."""
    found = {name: report.decay for name, report in rooms.items() if isinstance(report, Report)}
    if not any(found.values()):
        return False
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    draw_decays(figure.subplots(), found)
    save_figure(figure, path, force=True)
    return True


def photo_report(rooms: Rooms) -> Report | None:
    """The report on the photo, if there is one."""
    reports = [report for report in rooms.values() if isinstance(report, Report) and report.kind == "photo"]
    return reports[0] if reports else None


def rooms_json(rooms: Rooms) -> str:
    """All reports, by name; of one that is missing, the reason."""
    record = {
        name: report.to_dict() if isinstance(report, Report) else {"reason": report}
        for name, report in rooms.items()
    }
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def _seen(settings: Settings, models: Models, progress: Progress | None) -> Report | str:
    options: dict[str, Any] = {"draws": NUM_DRAWS, "seed": settings.seed, "steps": settings.steps}
    try:
        scene = settings.scene()
        assert scene is not None  # what a response is drawn from
        return inspect_photo(scene, models.reverberator, progress=progress, **options)
    except Stopped:  # nobody looks at the report any more
        raise
    except MvsdError as error:
        return str(error)


def _measured(rir: NDArray[np.float32]) -> Report | str:
    try:
        return inspect_response(rir, CORE_RATE)
    except MvsdError as error:
        return str(error)


def _heard(path: Path) -> Report | str:
    waveform, rate = load_audio(path)
    try:
        return inspect_recording(loudest_channel([waveform]), rate)
    except MvsdError as error:
        return str(error)


def _row(title: str, unit: str, quantities: list[Quantity | None]) -> str:
    cells = "".join(f"<td>{_cell(quantity, unit)}</td>" for quantity in quantities)
    return f'<tr><th scope="row">{escape(title)}</th>{cells}</tr>'


def _cell(quantity: Quantity | None, unit: str) -> str:
    if quantity is None:
        return "&ndash;"
    if quantity.value is None:
        return f"<details><summary><small>not measurable</small></summary>{escape(quantity.reason or '')}</details>"
    digits = 2 if unit == "s" else 1
    text = f"{quantity.value:.{digits}f} {unit}"
    if quantity.low is not None and quantity.high is not None:
        text += f"<small>({quantity.low:.{digits}f} to {quantity.high:.{digits}f})</small>"
    return text
