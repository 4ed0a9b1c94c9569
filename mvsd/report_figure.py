"""A report of a room as a figure: what it was made from, how the room decays, and its values per octave band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mvsd.acoustics import direct_index
from mvsd.figures import (
    COLOURS,
    clean_axes,
    draw_spectrogram,
    draw_waveform,
    save_figure,
    spectrogram_db,
)
from mvsd.regions import boxes
from mvsd.report import DECAY_FLOOR_DB, Decay, Quantity, Report
from mvsd.scene import Scene

_PLOTS = {
    "rt60": ("reverberation time (T20)", "s"),
    "drr_db": ("direct-to-reverberant ratio", "dB"),
    "c50_db": ("clarity C50", "dB"),
}
_START_SECONDS = 0.1  # of a response
_AXIS_SECONDS = 0.004  # to the left of its direct sound, which would lie on the axis


def report_figure(
    report: Report,
    path: str | Path,
    *,
    scene: Scene | None = None,
    waveform: NDArray[np.floating] | None = None,
    force: bool = False,
) -> None:
    """Draw a report beside what it was made from: the photo, or the recording or response (T,).

    Raises:
        OutputExistsError: the file is there and `force` was not given.
        MvsdError: a suffix that no figure has, or a file that cannot be written.
    """
    figure = Figure(figsize=(14, 7.4), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 0.85])
    upper, lower = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    sides = upper.add_gridspec(1, 2, width_ratios=[2, 1])
    source, decay = upper.add_subfigure(sides[0]), upper.add_subfigure(sides[1]).subplots()
    is_wide = scene is not None and scene.is_panorama
    first, second = source.subplots(2, 1) if is_wide else source.subplots(1, 2)
    if scene is not None:
        _draw_regions(first, report, scene, "rt60_percent", "what makes it last longer", "%")
        _draw_regions(second, report, scene, "drr_db", "what makes it drier", "dB")
    elif waveform is not None:
        _draw_sound(first, second, report, np.asarray(waveform, np.float64))
    draw_decays(decay, {report.kind: report.decay})
    # A recording has bands of its reverberation time only.
    widths = [3 if any(name in band for band in report.bands.values()) else 1 for name in _PLOTS]
    plots = lower.subplots(1, 3, width_ratios=widths)
    for axes, (name, (title, unit)) in zip(plots, _PLOTS.items(), strict=True):
        _draw_bands(axes, report, name, title, unit)
    figure.suptitle(report.summary(), x=0.01, ha="left", fontsize=11)
    save_figure(figure, path, force=force)


def _draw_regions(axes: Axes, report: Report, scene: Scene, name: str, title: str, unit: str) -> None:
    """The photo in grey, under what each of its regions adds; the three strongest are framed."""
    height, width = scene.image.shape[:2]
    axes.imshow(scene.image.mean(2), cmap="gray")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)
    if report.regions is None:
        return
    heat = getattr(report.regions, name)
    most = max(float(np.abs(heat).max()), 1e-6)
    image = axes.imshow(
        heat,
        cmap="RdBu_r",
        vmin=-most,
        vmax=most,
        alpha=0.55,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    patches = boxes(scene, *heat.shape)
    for index in np.argsort(-np.abs(heat), axis=None, kind="stable")[:3]:
        top, bottom, left, right = patches[index]
        frame = Rectangle(
            (left, top), right - left, bottom - top, fill=False, edgecolor="black", linewidth=1.5
        )
        axes.add_patch(frame)
    axes.figure.colorbar(image, ax=axes, label=f"added by the region ({unit})", shrink=0.8, pad=0.02)


def _draw_sound(first: Axes, second: Axes, report: Report, waveform: NDArray[np.float64]) -> None:
    """Waveform, of a response its start, and spectrogram."""
    sample_rate = report.facts["sample_rate"]
    shown = waveform
    if report.kind == "response":
        direct = direct_index(waveform, sample_rate)
        shown = waveform[direct : direct + round(_START_SECONDS * sample_rate)]
    draw_waveform(first, shown, sample_rate, COLOURS[0], float(np.abs(shown).max(initial=0)) or 1.0)
    title = "first 100 ms from the direct sound on" if report.kind == "response" else "recording"
    first.set_title(title, fontsize=10)
    first.set_xlabel("time (s)")
    if report.kind == "response":
        first.set_xlim(left=-_AXIS_SECONDS)
    levels, hop_seconds = spectrogram_db(waveform, sample_rate)
    image = draw_spectrogram(second, levels, hop_seconds, sample_rate, levels.max())
    second.set_title("spectrogram", fontsize=10)
    second.set_xlabel("time (s)")
    second.figure.colorbar(image, ax=second, label="level (dB re the loudest)", pad=0.02)


def draw_decays(axes: Axes, decays: Mapping[str, Decay | None]) -> None:
    """Decay curves with their ranges, by name; a name without a curve keeps its colour."""
    axes.set(xlabel="time (s)", ylabel="remaining energy (dB)", ylim=(DECAY_FLOOR_DB, 2))
    axes.set_title("energy decay", fontsize=10)
    axes.grid(alpha=0.3)
    clean_axes(axes)
    shown = [
        (name, decay, colour)
        for (name, decay), colour in zip(decays.items(), COLOURS, strict=False)
        if decay is not None
    ]
    for name, decay, colour in shown:
        axes.fill_between(decay.seconds, decay.low_db, decay.high_db, color=colour, alpha=0.25, linewidth=0)
        axes.plot(decay.seconds, decay.median_db, color=colour, linewidth=1.6, label=name)
    if shown:
        axes.set_xlim(0, max(decay.seconds[-1] for _, decay, _ in shown))
    if len(decays) > 1:
        axes.legend(fontsize=9)


def _draw_bands(axes: Axes, report: Report, name: str, title: str, unit: str) -> None:
    """A bar or point for the whole and one per band, with whiskers; a cross where there is no value."""
    values = [("all", report.broadband.get(name))]
    values += [(f"{band:g}", quantities.get(name)) for band, quantities in report.bands.items()]
    shown = [(label, quantity) for label, quantity in values if quantity is not None]
    for position, (_, quantity) in enumerate(shown):
        if quantity.value is None:
            axes.plot(position, 0, "x", color=COLOURS[-1])
            continue
        colour = COLOURS[1] if position == 0 else COLOURS[0]
        if unit == "s":
            axes.bar(position, quantity.value, width=0.7, color=colour, alpha=0.8)
        else:  # 0 dB is no end of the scale that a bar could stand on
            axes.plot(position, quantity.value, "o", color=colour, markersize=8)
        axes.errorbar(position, quantity.value, yerr=_whiskers(quantity), color="black", capsize=3)
    axes.set_xticks(range(len(shown)), [label for label, _ in shown])
    axes.set(xlabel="octave band (Hz)" if len(shown) > 1 else "", ylabel=unit)
    axes.set_xlim(-0.6, len(shown) - 0.4)
    axes.set_title(f"{title}; x = not measurable" if _has_gaps(shown) else title, fontsize=10)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.grid(axis="y", alpha=0.3)
    clean_axes(axes)


def _whiskers(quantity: Quantity) -> NDArray[np.float64] | None:
    """Distances down and up (2, 1)."""
    value, low, high = quantity.value, quantity.low, quantity.high
    if value is None or low is None or high is None:
        return None
    return np.array([[value - low], [high - value]])


def _has_gaps(shown: Sequence[tuple[str, Quantity]]) -> bool:
    return any(quantity.value is None for _, quantity in shown)
