"""Pictures of what a conversion did: waveforms, spectrograms, decay curves, and the simulated rooms.

Drawn with matplotlib's objects, without its global state, so any thread or headless machine can draw. A file
is written whole or not at all, and replaces another only with `force`. Its suffix says the format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from PIL import Image
from scipy import signal

from mvsd.acoustics import (
    OCTAVE_BANDS_HZ,
    convolve,
    decay_nonlinearity,
    decay_time,
    drr_db,
    energy_decay_db,
    fit_response,
)
from mvsd.data.example import Example
from mvsd.errors import MvsdError, NotMeasurable
from mvsd.scene import Scene
from mvsd.whole_file import require_free, whole_file

Waveform = NDArray[np.floating]

SUFFIXES = (".png", ".pdf", ".svg")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")  # Okabe and Ito
_STYLE: dict[str, Any] = {"linewidth": 1.4}
_LEVEL_RANGE_DB = 80.0  # below the loudest point of all spectrograms of a figure
_BENT = 10.0  # per mille, ISO 3382-2, Annex B
_DECAY_RANGE_DB = 60.0
_MAX_COLUMNS = 1500  # drawn of a waveform or spectrogram; a page has no more pixels
HIGHEST_HZ = 12_000.0
_NUM_SHADES = 64  # of a bare spectrogram: steps of 1.3 dB, which no eye sees and which halve the file


def conversion_figure(
    panels: Mapping[str, Waveform],
    sample_rate: int,
    path: str | Path,
    scene: Scene | None = None,
    responses: Mapping[str, Waveform] | None = None,
    *,
    force: bool = False,
) -> None:
    """Waveform and spectrogram of each named waveform (T,), with the scene and decay curves beside them.

    All spectrograms share one scale. Without `responses` the decay curves are of the responses that lead from
    the first waveform, which should be the dry voice, to each of the others (`mvsd.acoustics.fit_response`), as far as
    the two halves of the recording agree on them.

    Raises:
        OutputExistsError: the file is there and `force` was not given.
        MvsdError: no waveform, a suffix that is not one of `SUFFIXES`, or a file that cannot be written.
    """
    if not panels:
        raise MvsdError("a figure of a conversion needs at least one waveform")
    if responses is None:
        responses = _fitted_responses(panels, sample_rate)
    colours = dict(zip(panels, _cycled(len(panels)), strict=True))
    figure = Figure(figsize=(13, 1.2 + 1.7 * max(2, len(panels))), layout="constrained")
    left, right = _side_by_side(figure, 3, 1.25)
    grid = left.subplots(len(panels), 2, sharex=True, squeeze=False, width_ratios=[1, 1.35])
    levels = {name: spectrogram_db(waveform, sample_rate) for name, waveform in panels.items()}
    top = max(spectrogram.max() for spectrogram, _ in levels.values())
    peak = max(float(np.abs(waveform).max(initial=0)) for waveform in panels.values()) or 1.0
    image = None
    for (name, waveform), axes in zip(panels.items(), grid, strict=True):
        draw_waveform(axes[0], waveform, sample_rate, colours[name], peak)
        axes[0].set_title(name, loc="left", fontsize=10, color=colours[name], weight="bold")
        image = draw_spectrogram(axes[1], *levels[name], sample_rate, top)
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    if image is not None:
        left.colorbar(image, ax=list(grid[:, 1]), label="level (dB re the loudest)", pad=0.02, aspect=30)
    _draw_side(right, scene, responses, sample_rate, colours)
    save_figure(figure, path, force=force)


def response_figure(
    responses: Mapping[str, Waveform], sample_rate: int, path: str | Path, *, force: bool = False
) -> None:
    """Room responses (T,): their first 100 ms, their decay curves, and their T20 in octave bands.

    Raises:
        OutputExistsError: the file is there and `force` was not given.
        MvsdError: no response, a suffix that is not one of `SUFFIXES`, or a file that cannot be written.
    """
    if not responses:
        raise MvsdError("a figure of responses needs at least one")
    figure = Figure(figsize=(13, max(3.4, 1.1 * len(responses))), layout="constrained")
    left, right = _side_by_side(figure, 1, 2)
    starts = left.subplots(len(responses), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    decay_axes, band_axes = right.subplots(1, 2)
    colours = dict(zip(responses, _cycled(len(responses)), strict=True))
    bands = [band for band in OCTAVE_BANDS_HZ if band * np.sqrt(2) < sample_rate / 2]
    for (name, response), axes in zip(responses.items(), starts, strict=True):
        start = np.asarray(response[: round(0.1 * sample_rate)], dtype=np.float64)
        scaled = start / (np.abs(start).max(initial=0) or 1.0)
        axes.plot(1000 * np.arange(len(start)) / sample_rate, scaled, color=colours[name], linewidth=0.7)
        axes.set_title(name, loc="left", fontsize=10, color=colours[name], weight="bold")
        _draw_decay(decay_axes, response, sample_rate, name, colours[name])
        times = [_or_nan(decay_time, response, sample_rate, band_hz=band) for band in bands]
        band_axes.plot(
            range(len(bands)), times, "o-", color=colours[name], label=name, markersize=4, **_STYLE
        )
    starts[-1].set_xlabel("time (ms)")
    starts[len(starts) // 2].set_ylabel("amplitude (of the peak)")
    _finish_decay(decay_axes)
    band_axes.set_xticks(range(len(bands)), [f"{band:g}" for band in bands])
    band_axes.set(xlabel="octave band (Hz)", ylabel="T20 (s)", title="reverberation time")
    band_axes.set_ylim(bottom=0)
    clean_axes(band_axes, *starts)
    band_axes.grid(alpha=0.3)
    save_figure(figure, path, force=force)


def room_gallery(examples: Sequence[Example], path: str | Path, *, force: bool = False) -> None:
    """Rooms in rows: picture, depth in metres (grey where unknown), and decay curve with T20 and DRR.

    Raises:
        OutputExistsError: the file is there and `force` was not given.
        MvsdError: no room, a suffix that is not one of `SUFFIXES`, or a file that cannot be written.
    """
    if not examples:
        raise MvsdError("a gallery needs at least one room")
    scenes = [example.scene for example in examples if example.scene is not None]
    depths = [scene.depth for scene in scenes if scene.depth is not None]
    aspect = max((scene.image.shape[1] / scene.image.shape[0] for scene in scenes), default=1.0)
    figure = Figure(figsize=(4.5 + 3.3 * aspect, 0.6 + 1.9 * len(examples)), layout="constrained")
    grid = figure.subplots(len(examples), 3, squeeze=False, width_ratios=[aspect, aspect, 1.8])
    furthest = max((float(depth.max()) for depth in depths), default=0.0) or 1.0
    image = None
    for example, (picture, depth, decay) in zip(examples, grid, strict=True):
        image = _draw_scene(picture, depth, example.scene, furthest) or image
        title = str(example.metadata.get("room", example.key))
        picture.set_title(title, loc="left", fontsize=10, weight="bold")
        if example.rir is not None:
            _draw_decay(decay, example.rir, example.sample_rate, "", COLOURS[0])
        _finish_decay(decay, title="")
    for axes in grid[:-1, 2]:
        axes.set_xlabel("")
    if image is not None:
        figure.colorbar(image, ax=list(grid[:, 1]), label="depth (m)", pad=0.02, aspect=40, panchor=False)
    save_figure(figure, path, force=force)


def spectrogram_images(panels: Mapping[Path, Waveform], sample_rate: int) -> None:
    """Spectrograms of waveforms (T,) as bare PNG files, one pixel per bin and frame, all on one scale.

    For a page that draws its own axes: bottom to top 0 Hz to half the sample rate, at most 12 kHz, left to right the
    whole waveform. Files that are there are replaced.

    Raises:
        MvsdError: a file cannot be written.
    """
    levels = {path: spectrogram_db(waveform, sample_rate) for path, waveform in panels.items()}
    top = max((float(level.max()) for level, _ in levels.values()), default=0.0)
    shades = (255 * colormaps["magma"](np.linspace(0, 1, _NUM_SHADES))[:, :3]).round().astype(np.uint8)
    for path, (level, hop_seconds) in levels.items():
        level = level[::-1, : max(1, round(len(panels[path]) / sample_rate / hop_seconds))]
        shade = np.clip((level - top) / _LEVEL_RANGE_DB + 1, 0, 1) * (_NUM_SHADES - 1)
        image = Image.fromarray(shade.round().astype(np.uint8))
        image.putpalette(shades.tobytes())
        with whole_file(path) as temporary:
            image.save(temporary, optimize=True)


# ------------------------------------------------------------------------------------ pieces of a figure


def draw_waveform(axes: Axes, waveform: Waveform, sample_rate: int, colour: str, peak: float) -> None:
    """The waveform, or its lowest and highest value per column where it has more samples than columns."""
    size = max(1, len(waveform) // _MAX_COLUMNS)
    num_blocks = len(waveform) // size
    blocks = np.asarray(waveform[: num_blocks * size], dtype=np.float64).reshape(num_blocks, size)
    times = np.arange(num_blocks) * size / sample_rate
    if size > 1:
        axes.fill_between(times, blocks.min(axis=1), blocks.max(axis=1), color=colour, linewidth=0.3)
    else:
        axes.plot(times, blocks[:, 0], color=colour, linewidth=0.8)
    axes.set(ylim=(-1.05 * peak, 1.05 * peak), ylabel="amplitude")
    axes.margins(x=0)
    clean_axes(axes)


def spectrogram_db(waveform: Waveform, sample_rate: int) -> tuple[NDArray[np.float64], float]:
    """Level in dB (F, N) and the hop in seconds."""
    size = 2 ** round(np.log2(0.032 * sample_rate))
    hop = max(size // 4, len(waveform) // _MAX_COLUMNS)
    padded = np.pad(np.asarray(waveform, dtype=np.float64), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    spectrum = np.abs(np.fft.rfft(frames * signal.get_window("hann", size))) / size
    num_bins = int(min(HIGHEST_HZ, sample_rate / 2) * size / sample_rate) + 1
    return 20 * np.log10(spectrum[:, :num_bins].T + 1e-10), hop / sample_rate


def draw_spectrogram(
    axes: Axes, levels: NDArray[np.float64], hop_seconds: float, sample_rate: int, top: float
) -> Any:
    """The image, in dB below `top`."""
    extent = (0.0, levels.shape[1] * hop_seconds, 0.0, min(HIGHEST_HZ, sample_rate / 2) / 1000)
    axes.set_ylabel("frequency (kHz)")
    return axes.imshow(
        levels - top,
        origin="lower",
        aspect="auto",
        extent=extent,
        vmin=-_LEVEL_RANGE_DB,
        vmax=0,
        cmap="magma",
        interpolation="nearest",
    )


def _draw_side(
    figure: SubFigure,
    scene: Scene | None,
    responses: Mapping[str, Waveform],
    sample_rate: int,
    colours: Mapping[str, str],
) -> None:
    """The photo over the decay curves; either may be missing."""
    if scene is None:
        decay_axes = figure.subplots()
    else:
        picture, decay_axes = figure.subplots(2, 1, height_ratios=[1, 1.2])
        picture.imshow(scene.image)
        picture.set_title("the scene", loc="left", fontsize=10, weight="bold")
        picture.axis("off")
    for index, (name, response) in enumerate(responses.items()):
        colour = colours.get(name, COLOURS[index % len(COLOURS)])
        _draw_decay(decay_axes, response, sample_rate, name, colour)
    if not responses:
        decay_axes.text(0.5, 0.5, "no response measurable", ha="center", transform=decay_axes.transAxes)
    _finish_decay(decay_axes)


def _draw_decay(axes: Axes, response: Waveform, sample_rate: int, name: str, colour: str) -> None:
    """Schroeder's curve, with T20 and DRR in its label, which says of a bent decay that it is one."""
    try:
        curve = energy_decay_db(response)
    except NotMeasurable:
        return
    heard = np.flatnonzero(curve > -_DECAY_RANGE_DB - 10)
    step = max(1, len(heard) // _MAX_COLUMNS)
    bent = " (bent)" if _or_nan(decay_nonlinearity, response, sample_rate) > _BENT else ""
    measures = [
        f"{title} {value:.2f} s{bent}" if unit == "s" else f"{title} {round(value, 1) + 0.0:.1f} dB"
        for title, unit, value in (
            ("T20", "s", _or_nan(decay_time, response, sample_rate)),
            ("DRR", "dB", _or_nan(drr_db, response, sample_rate)),
        )
        if np.isfinite(value)
    ]
    label = "\n".join(filter(None, [name, ", ".join(measures)]))
    axes.plot(heard[::step] / sample_rate, curve[heard[::step]], color=colour, label=label, **_STYLE)


def _finish_decay(axes: Axes, title: str = "energy decay") -> None:
    axes.set(xlabel="time (s)", ylabel="remaining energy (dB)", ylim=(-_DECAY_RANGE_DB, 2), title=title)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    clean_axes(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc="upper right", frameon=True, framealpha=0.8, edgecolor="none")


def _draw_scene(picture: Axes, depth: Axes, scene: Scene | None, furthest: float) -> Any:
    """Picture and depth side by side; returns the image of the depth, if there is one."""
    image = None
    if scene is not None:
        picture.imshow(scene.image)
        if scene.depth is not None:
            known = np.ma.masked_equal(scene.depth, 0)
            depth.set_facecolor("#cccccc")
            image = depth.imshow(known, cmap="viridis_r", vmin=0, vmax=furthest)
    for axes in (picture, depth):
        axes.set_anchor("W")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return image


def _side_by_side(figure: Figure, *widths: float) -> tuple[SubFigure, SubFigure]:
    grid = figure.add_gridspec(1, 2, width_ratios=widths)
    return figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])


def clean_axes(*all_axes: Axes) -> None:
    """Leave out the upper and right edge."""
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)


def _cycled(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


# ---------------------------------------------------------------------------------- measuring and saving


def _or_nan(measure: Any, *args: Any, **options: Any) -> float:
    """A measure for a plot, which leaves a gap where there is no value."""
    try:
        return float(measure(*args, **options))
    except NotMeasurable:
        return float("nan")


def _fitted_responses(panels: Mapping[str, Waveform], sample_rate: int) -> dict[str, Waveform]:
    """Responses from the first waveform to the others, those that can be fitted."""
    (_, source), *others = panels.items()
    responses: dict[str, Waveform] = {}
    for name, waveform in others:
        try:
            responses[name] = _agreed_response(source, waveform, sample_rate)
        except NotMeasurable:
            continue
    return responses


def _agreed_response(source: Waveform, estimate: Waveform, sample_rate: int) -> Waveform:
    """Magnitudes (R,) of the response from source to estimate, both (T,), as far as their two halves agree on it.

    What is no convolution, such as what a dereverberator does, spreads evenly over a fitted response, where it looks
    like a tail that no one hears. It is another in each half, so the product of the halves' responses is without it.
    """
    middle = len(source) // 2
    seconds = min(1.0, middle / sample_rate / 2)
    first = fit_response(source[:middle], estimate[:middle], sample_rate, seconds)
    rest, tail = np.array(estimate[middle:]), convolve(source[:middle], first)[middle:]
    rest[: len(tail)] -= tail
    both = first * fit_response(source[middle:], rest, sample_rate, seconds)
    left = np.maximum.accumulate(np.maximum(both[::-1].cumsum(), 0))  # what is left of a room never grows
    agreed: Waveform = np.sqrt(np.diff(left, prepend=0)[::-1])
    return agreed


def save_figure(figure: Figure, path: str | Path, *, force: bool) -> None:
    """Write a figure whole, or raise what `require_writable` does."""
    require_writable(path, force=force)
    with whole_file(Path(path), force=force) as temporary:
        figure.savefig(temporary, dpi=120)


def require_writable(path: str | Path, *, force: bool) -> None:
    """Check the place of a figure before time is spent on it.

    Raises:
        OutputExistsError: the file is there and `force` was not given.
        MvsdError: its suffix is not one of `SUFFIXES`, its folder is missing, or something other than a file is there.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise MvsdError(f"{path}: a figure is written as {', '.join(SUFFIXES)}, not as {path.suffix!r}")
    require_free(path, force)
    if not path.parent.is_dir():
        raise MvsdError(
            f"{path} cannot be written: No such folder as {path.parent}; make it, or choose another"
        )
