"""What a file says of a room: a recording of speech, a photo, or an impulse response.

Every number has the definition of the measure in `mvsd.acoustics` that it is named after, whichever way it was come
by: measured on a response, heard by the blind estimator in a recording, or expected from a photo.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mvsd.acoustics import (
    OCTAVE_BANDS_HZ,
    c50_db,
    d50,
    decay_end,
    decay_time,
    direct_index,
    drr_db,
    energy_decay_db,
)
from mvsd.blind import BlindEstimator
from mvsd.converter import SAMPLE_RATE, Converter
from mvsd.errors import MvsdError, NotMeasurable
from mvsd.regions import decisive_regions, expected_room
from mvsd.report import DECAY_FLOOR_DB, DECAY_STEP, MIDDLE, Decay, Quantity, Report
from mvsd.responses import core_band
from mvsd.scene import Scene

Waveform = NDArray[np.floating]

_MIN_SHARE = 0.5  # of the draws in which a value must be measurable
_DECAY_SECONDS = 3.0
_RINGING_PERIODS = {"rt60": 20, "t30": 20, "edt": 80}  # that the octave filter needs, see `octave_filter`


class ResponseModel(Protocol):
    """What draws the response of a photographed room."""

    def response(
        self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None
    ) -> NDArray[np.float32]:
        """(R,) at 16 kHz."""
        ...


# ------------------------------------------------------------------------------------------ three kinds


def inspect_response(rir: Waveform, sample_rate: int) -> Report:
    """Measure an impulse response (T,) up to 8 kHz, at any rate; its direct sound may stand anywhere.

    Raises:
        NotMeasurable: silent or not finite. What else cannot be measured has its reason in the report.
    """
    rir = np.asarray(rir, np.float64)
    facts = {
        "sample_rate": sample_rate,
        "direct_sound_at_seconds": round(direct_index(rir, sample_rate) / sample_rate, 4),
    }
    rir, sample_rate = core_band(rir, sample_rate)
    direct, end = direct_index(rir, sample_rate), _end(rir, sample_rate)
    facts["noise_free_seconds"] = round((end - direct) / sample_rate, 3)
    bands = [band for band in OCTAVE_BANDS_HZ if _fits(band, sample_rate)]
    broadband, *per_band = (
        {name: _quantity(measure) for name, measure in _measures(rir, sample_rate, band, end).items()}
        for band in (None, *bands)
    )
    decay = _middle_decay([energy_decay_db(rir[direct:end])], sample_rate)
    return Report("response", broadband, dict(zip(bands, per_band, strict=True)), facts, decay)


def inspect_recording(
    waveform: Waveform, sample_rate: int, estimator: BlindEstimator | None = None
) -> Report:
    """Listen to a recording of speech (T,) with the blind estimator, by default the one that comes with mvsd.

    Raises:
        NotMeasurable: shorter than 1 s, not finite, or silent.
    """
    heard = (estimator or BlindEstimator.load()).estimate(waveform, sample_rate)
    broadband = {
        "rt60": _around(heard.rt60, heard.rt60_std, is_time=True),
        "drr_db": _around(heard.drr_db, heard.drr_db_std),
        "c50_db": _around(heard.c50_db, heard.c50_db_std),
    }
    bands = {
        band: {"rt60": _around(value, heard.rt60_per_band_std[band], is_time=True)}
        for band, value in heard.rt60_per_band.items()
        if _fits(band, sample_rate)
    }
    seconds = np.arange(0, max(_DECAY_SECONDS, 1.2 * heard.rt60), DECAY_STEP)
    spread = np.exp(heard.rt60_std / heard.rt60)
    low, median, high = (
        _simple_decay_db(seconds, time, heard.drr_db)
        for time in (heard.rt60 / spread, heard.rt60, heard.rt60 * spread)
    )
    facts = {"sample_rate": sample_rate, "seconds_heard": round(len(waveform) / sample_rate, 3)}
    return Report("recording", broadband, bands, facts, _shown_decay(low, median, high))


def inspect_photo(
    scene: Scene,
    model: ResponseModel,
    *,
    draws: int = 16,
    seed: int = 0,
    steps: int | None = None,
    progress: Callable[[float, float | None], None] | None = None,
) -> Report:
    """What a reverberator expects of a photographed room, over `draws` responses with seeds from `seed` on.

    With a `Converter`, also which regions of the photo decide it.

    Raises:
        MvsdError: fewer than one draw, or the model generates speech.
    """
    if draws < 1:
        raise MvsdError(f"{draws} draws came; at least 1 is needed")
    if isinstance(model, Converter):
        model = _with_all_of_the_room(model)
    rirs = []
    for index in range(draws):
        rirs.append(np.asarray(model.response(scene, seed=seed + index, steps=steps), np.float64))
        if progress is not None:
            progress(index + 1, draws)
    regions = decisive_regions(scene, partial(expected_room, model)) if isinstance(model, Converter) else None
    broadband, *per_band = (
        _over_draws([_measures(rir, SAMPLE_RATE, band, len(rir)) for rir in rirs])
        for band in (None, *OCTAVE_BANDS_HZ)
    )
    decay = _middle_decay([energy_decay_db(rir) for rir in rirs], SAMPLE_RATE)
    height, width = scene.image.shape[:2]
    sees_depth = not isinstance(model, Converter) or model.config.scene.depth
    facts = {
        "draws": draws,
        "seed": seed,
        "width": width,
        "height": height,
        "has_depth": scene.depth is not None and sees_depth,
    }
    bands = dict(zip(OCTAVE_BANDS_HZ, per_band, strict=True))
    return Report("photo", broadband, bands, facts, decay, regions)


def _with_all_of_the_room(model: Converter) -> Converter:
    """The same weights without `low_gain_db` and `evens_early`: the room as drawn, not as it is best put to a voice."""
    plain = copy.copy(model)
    plain.config = replace(model.config, low_gain_db=0.0, evens_early=False)
    return plain


def looks_like_response(waveform: Waveform, sample_rate: int) -> bool:
    """Whether a sound (T,) is an impulse response: short, loudest at its onset, and never louder again.

    Of blocks of 50 ms, the first after the onset is the loudest and none is more than 6 dB above the lowest before
    it, down to 40 dB below the peak. What has not two of them is too short for a word.
    """
    samples = np.asarray(waveform, np.float64)
    size = round(0.05 * sample_rate)
    if not np.isfinite(samples).all() or not samples.any() or len(samples) > 20 * sample_rate:
        return False
    samples = samples[direct_index(samples, sample_rate) :]
    num_blocks = len(samples) // size
    if num_blocks < 2:
        return True
    power = np.mean(samples[: num_blocks * size].reshape(num_blocks, size) ** 2, axis=1)
    levels = np.maximum(10 * np.log10(power / power.max() + 1e-12), -40)
    rises = levels - np.minimum.accumulate(levels)
    return bool(levels[0] > -3 and rises.max() < 6 and levels.min() < -10)


def loudest_channel(blocks: Sequence[Waveform]) -> Waveform:
    """Blocks (C, n) -> (T,): the channel of the most energy, which a mean of opposite signs would not be."""
    # Block by block: of all channels of a film there would be gigabytes more.
    energies = [np.square(block, dtype=np.float64).sum(1) for block in blocks]
    loudest = int(np.argmax(sum(energies)))
    return np.concatenate([block[loudest] for block in blocks])


# -------------------------------------------------------------------------------------------- measuring


def _measures(
    rir: Waveform, sample_rate: int, band: int | None, end: int
) -> Mapping[str, Callable[[], float]]:
    """What can be measured on a response, by name; of ratios only what comes before `end` counts."""
    times: dict[str, Callable[[], float]] = {
        name: partial(_time, rir, sample_rate, name, band) for name in ("rt60", "t30", "edt")
    }
    ratios = {"drr_db": drr_db, "c50_db": c50_db} | ({"d50": d50} if band is None else {})
    return times | {
        name: partial(measure, rir[:end], sample_rate, band_hz=band) for name, measure in ratios.items()
    }


def _time(rir: Waveform, sample_rate: int, name: str, band: int | None) -> float:
    kind: Any = {"rt60": "T20", "t30": "T30", "edt": "EDT"}[name]
    seconds = decay_time(rir, sample_rate, kind, band_hz=band)
    shortest = 0.0 if band is None else _RINGING_PERIODS[name] / band
    if seconds < shortest:
        raise NotMeasurable(
            f"{kind} of the octave at {band} Hz is below {shortest:.2f} s, where the filter's own ringing is heard"
        )
    return seconds


def _quantity(measure: Callable[[], float]) -> Quantity:
    try:
        return Quantity(round(measure(), 4))
    except NotMeasurable as reason:
        return Quantity(reason=str(reason))


def _over_draws(measures: list[Mapping[str, Callable[[], float]]]) -> dict[str, Quantity]:
    """Median and middle 68 % of each measure over the draws in which it can be had."""
    return {name: _middle([_quantity(draw[name]) for draw in measures]) for name in measures[0]}


def _middle(draws: list[Quantity]) -> Quantity:
    values = [draw.value for draw in draws if draw.value is not None]
    if len(values) < _MIN_SHARE * len(draws):
        reason = next(draw.reason for draw in draws if draw.value is None)
        return Quantity(reason=f"in {len(draws) - len(values)} of {len(draws)} draws: {reason}")
    low, median, high = np.percentile(values, MIDDLE).round(4).tolist()
    return Quantity(median, low, high)


def _around(value: float, std: float, *, is_time: bool = False) -> Quantity:
    """One deviation to either side; of a time as a factor, since it is its logarithm that is spread evenly."""
    low, high = (
        (value / np.exp(std / value), value * np.exp(std / value)) if is_time else (value - std, value + std)
    )
    return Quantity(round(value, 4), round(float(low), 4), round(float(high), 4))


def _fits(band: int, sample_rate: int) -> bool:
    """Whether an octave lies below half the rate."""
    return band * math.sqrt(2) < sample_rate / 2


def _end(rir: Waveform, sample_rate: int) -> int:
    """Sample at which a response meets its noise floor; its length where no floor can be told from the decay."""
    try:
        return decay_end(rir, sample_rate)
    except NotMeasurable:
        return len(rir)


# ---------------------------------------------------------------------------------------- decay curves


def _middle_decay(curves: list[NDArray[np.float64]], sample_rate: int) -> Decay:
    """Middle 68 % of decay curves in dB (T,)."""
    rows = []
    for curve in curves:
        # At 22,050 Hz no whole number of samples is a step.
        samples = np.arange(0, len(curve), DECAY_STEP * sample_rate).round().astype(int)
        rows.append(np.maximum(curve[samples[samples < len(curve)]], DECAY_FLOOR_DB))
    size = max(2, *map(len, rows))  # of less no curve can be drawn; nothing remains after the end
    grid = [np.pad(row, (0, size - len(row)), constant_values=DECAY_FLOOR_DB) for row in rows]
    low, median, high = np.percentile(grid, MIDDLE, axis=0)
    return _shown_decay(low, median, high)


def _simple_decay_db(seconds: Waveform, rt60: float, drr: float) -> NDArray[np.float64]:
    """Decay curve of a direct sound at 0 and an exponential tail."""
    late = 1 / (1 + 10 ** (drr / 10))
    curve = 10 * np.log10(late) - 60 * np.asarray(seconds, np.float64) / rt60
    curve[0] = 0
    return np.asarray(np.maximum(curve, DECAY_FLOOR_DB))


def _shown_decay(low: Waveform, median: Waveform, high: Waveform) -> Decay:
    """On the grid of `DECAY_STEP`, to where the highest meets the floor of a figure."""
    shown = max(2, int(np.sum(high > DECAY_FLOOR_DB)))
    curves = [curve[:shown].round(2).tolist() for curve in (median, low, high)]
    return Decay((np.arange(shown) * DECAY_STEP).round(3).tolist(), *curves)
