"""A room's impulse response as a file of its own: for any convolution plug-in, and from anywhere into a recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from mvsd.acoustics import decay_time, drr_db, from_direct_sound
from mvsd.amount import DRR_RANGE_DB, ByResponse, response_of, reverberation
from mvsd.audio import HIGHEST_RATE, AudioWriter, resample
from mvsd.blind import BlindEstimate
from mvsd.blockwise import CORE_RATE, BlockConverter, Request
from mvsd.decay import RT60_RANGE
from mvsd.errors import AudioFileError, MvsdError, NotMeasurable
from mvsd.fullband import extend_response
from mvsd.scene import Scene
from mvsd.soundtrack import open_sound

RATE_RANGE = (8000, HIGHEST_RATE)  # Hz
MAX_SECONDS = 60.0

_FADE_SECONDS = 0.01


def room_response(
    reverberator: BlockConverter,
    scene: Scene | None,
    sample_rate: int,
    *,
    seconds: float | None = None,
    seed: int = 0,
    steps: int | None = None,
) -> NDArray[np.float32]:
    """The response (R,) with which `reverberator` convolves a recording at `sample_rate`, amounts included.

    The direct sound is at sample 0, 1 unless an amount changed it. `seconds` cuts it, with a fade of 10 ms, or adds
    silence; by default it is as long as it is.

    Raises:
        MvsdError: the reverberator has no response, or rate or length are out of range.
    """
    low, high = RATE_RANGE
    if not low <= sample_rate <= high:
        raise MvsdError(f"a rate of {sample_rate} Hz was asked for; {low} to {high} Hz is wanted")
    if seconds is not None and not _FADE_SECONDS <= seconds <= MAX_SECONDS:
        raise MvsdError(
            f"{seconds:g} s of response were asked for; {_FADE_SECONDS:g} to {MAX_SECONDS:g} s is wanted"
        )
    rir = response_of(reverberator).response(scene, seed=seed, steps=steps)
    rir = extend_response(rir, sample_rate, seed=seed)
    if seconds is None:
        return rir
    num_samples, fade = round(seconds * sample_rate), round(_FADE_SECONDS * sample_rate)
    if num_samples < len(rir):
        rir = rir[:num_samples].copy()
        rir[-fade:] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) ** 2
    return np.pad(rir, (0, num_samples - len(rir)))


def describe_response(
    rir: NDArray[np.floating], sample_rate: int, names: Sequence[str] = ("T20", "T30", "DRR")
) -> str:
    """What is measured on a response: "T20 0.53 s, T30 0.55 s, DRR -2.1 dB"; what cannot be had is "not measurable".

    Of `core_band`: to that the reverberation time of a photo, or one that was asked for, refers.
    """
    rir, sample_rate = core_band(rir, sample_rate)
    measures: dict[str, Callable[[], str]] = {
        "T20": lambda: f"{decay_time(rir, sample_rate, 'T20'):.2f} s",
        "T30": lambda: f"{decay_time(rir, sample_rate, 'T30'):.2f} s",
        "DRR": lambda: f"{round(drr_db(rir, sample_rate), 1) + 0.0:.1f} dB",  # no -0.0
    }
    parts = []
    for name in names:
        try:
            parts.append(f"{name} {measures[name]()}")
        except NotMeasurable:
            parts.append(f"{name} not measurable")
    return ", ".join(parts)


def core_band(rir: NDArray[np.floating], sample_rate: int) -> tuple[NDArray[np.floating], int]:
    """What a response (T,) is up to 8 kHz, to measure it at any rate alike, and the rate, 16 kHz, of what comes back.

    The direct sound may stand anywhere; it comes 20 ms later. Up to 16 kHz all comes back as it is.
    """
    if sample_rate <= CORE_RATE:
        return rir, sample_rate
    delayed = np.pad(rir, (sample_rate // 50, 0))  # the filter rings before a direct sound at sample 0, too
    return resample(delayed, sample_rate, CORE_RATE) * np.float32(sample_rate / CORE_RATE), CORE_RATE


@final
class KnownRoom(ByResponse):
    """The room of a response that is known: a reverberator that needs no photo, and has nothing to choose.

    `rir` (R,) at `sample_rate` may be of any level and begin with a delay: it is cut to start at its direct sound
    (`mvsd.acoustics.direct_index`) and divided by that, so a voice keeps its level and its place. A recording at
    a higher rate than 16 kHz is given the response's own upper band, or where it has none, that of `extend_response`.

    Raises NotMeasurable where there is no direct sound.
    """

    def __init__(self, rir: NDArray[np.floating], sample_rate: int) -> None:
        self.rir, self.sample_rate = from_direct_sound(rir, sample_rate), sample_rate

    def response(
        self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None
    ) -> NDArray[np.float32]:
        """The response (R,) at 16 kHz, whatever is asked for."""
        return _at_rate(self.rir, self.sample_rate, CORE_RATE)

    def response_at(self, request: Request) -> NDArray[np.float32]:
        """See `ByResponse`; continued only above a band that ends at 8 kHz or below."""
        if self.sample_rate <= CORE_RATE < request.sample_rate:
            return super().response_at(request)
        return _at_rate(self.rir, self.sample_rate, request.sample_rate)


def load_room(path: str | Path) -> KnownRoom:
    """The room of a response in a sound file of one channel, up to 60 s; raises AudioFileError where there is none."""
    reader = open_sound(Path(path))
    if reader.channels != 1:
        raise AudioFileError(
            f"{path}: {reader.channels} channels; a response has one: save that one as a file"
        )
    blocks, num_samples = list[NDArray[np.float32]](), 0
    for block in reader.blocks():
        blocks.append(block)
        num_samples += block.shape[1]
        if num_samples > MAX_SECONDS * reader.sample_rate:
            raise AudioFileError(
                f"{path}: longer than {MAX_SECONDS:g} s, which no response is; give an impulse response"
            )
    try:
        return KnownRoom(
            np.concatenate([np.zeros((1, 0), np.float32), *blocks], axis=1)[0], reader.sample_rate
        )
    except NotMeasurable as error:
        raise AudioFileError(f"{path}: no impulse response: {error}") from error


def heard_room(
    reverberator: BlockConverter,
    heard: BlindEstimate,
    *,
    seen: bool = False,
    rt60: float | None = None,
    drr: float | None = None,
) -> BlockConverter:
    """The room that a recording of speech tells of (`mvsd.blind`), for other recordings to be put into.

    What `reverberator` draws, with the reverberation time (seconds) and the direct-to-reverberant ratio (dB) that were
    heard, where none are given. Where it is going to see a photo of the room (`seen`), the ratio is left to that, which
    tells it better (benchmarks/heard.py). Raises MvsdError as `reverberation` does.
    """
    (shortest, longest), (wettest, driest) = RT60_RANGE, DRR_RANGE_DB
    if rt60 is None:
        rt60 = min(max(heard.rt60, shortest), longest)
    if drr is None and not seen:
        drr = min(max(heard.drr_db, wettest), driest)
    return reverberation(reverberator, rt60=rt60, drr=drr)


def _at_rate(rir: NDArray[np.floating], sample_rate: int, new_rate: int) -> NDArray[np.float32]:
    """The direct sound stays as it is, what follows is resampled."""
    late = np.array(rir, np.float32)
    if sample_rate == new_rate:
        return late
    direct, late[0] = late[0], 0.0
    late = resample(late, sample_rate, new_rate) * np.float32(sample_rate / new_rate)
    late[0] = direct
    return late


def write_response(
    path: str | Path,
    rir: NDArray[np.floating],
    sample_rate: int,
    *,
    subtype: str = "FLOAT",
    force: bool = False,
) -> float:
    """Write a response (R,) whole or not at all; returns the gain in dB (<= 0) that kept it from clipping.

    `subtype` is that of `AudioWriter`: FLOAT never clips, PCM_24 is lowered where a reflection is louder than full
    scale. Raises AudioFileError and OutputExistsError as `AudioWriter` does.
    """
    with AudioWriter(path, sample_rate, 1, subtype=subtype, force=force) as writer:
        writer.write(np.asarray(rir, np.float32)[None])
    return writer.gain_db
