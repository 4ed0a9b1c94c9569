"""A recording through a converter into another file: constant memory, exact length, all or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvsd.audio import AudioWriter
from mvsd.blockwise import BlockConverter, Request
from mvsd.errors import MvsdError, NotMeasurable, OutputExistsError
from mvsd.level import Level, Meter, level_meter
from mvsd.scene import Scene
from mvsd.soundtrack import open_sound

Block = NDArray[Any]

_END_SECONDS = 0.02


@dataclass(frozen=True)
class ConversionReport:
    """What was converted.

    Samples per channel, rate in Hz, channels, length in seconds, and the gain in dB that was applied to the whole
    output: to keep the level that was asked for, and to keep it from clipping; `short_db` is by how much the second
    kept it below the first. `end_db` is the level of what the output has more than the source in its last 20 ms,
    relative to its highest peak: high where a room would have gone on.
    """

    num_samples: int
    sample_rate: int
    channels: int
    seconds: float
    gain_db: float
    short_db: float = 0.0
    end_db: float = -math.inf


def convert_file(
    converter: BlockConverter,
    source_path: str | Path,
    output_path: str | Path,
    scene: Scene | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    level: Level = "keep",
    subtype: str | None = None,
    tail: float = 0.0,
    force: bool = False,
    progress: Callable[[float, float | None], None] | None = None,
) -> ConversionReport:
    """Converts a sound file of any length; rate, channels, length and, where possible, sample format stay.

    Of a video it is the sound that is converted, on the video's clock (`mvsd.soundtrack`). `subtype` is another sample
    format, by `AudioWriter`'s name. `level` says what stays
    equal: "keep" the gain (the output is lowered only where it would clip), "peak" the largest sample, "lufs" the
    integrated loudness (ITU-R BS.1770-4). The gain, one for the whole file, is found while the output waits in a
    temporary file, and where it would clip a lower one is taken; the report says which. `tail` adds seconds of silence
    to the source, in which a room dies away.

    `progress` is called with the seconds done and the seconds in all (None while unknown). With `force` the
    output may be the source itself: it is replaced only when the whole conversion is on the disk.

    Raises `AudioFileError` (of a video `VideoFileError`) for a source that cannot be read, `AudioFileError` for an
    output that cannot be written, `OutputExistsError` for an existing output without `force`, `RuntimeError` if the
    converter returns another number of samples, `MvsdError` for an unknown `level`, or a recording that has none to
    keep (silence; less than 0.4 s for "lufs").
    """
    if not 0 <= tail < math.inf:
        raise MvsdError(f"a tail of {tail} s was asked for; it must be 0 s or longer")
    reader = open_sound(Path(source_path))
    _require_other_file(Path(source_path), Path(output_path), force)
    rate, channels = reader.sample_rate, reader.channels
    seconds_in_all = None if reader.num_samples is None else reader.num_samples / rate + tail
    before, after = (level_meter(level, rate, channels) for _ in range(2))
    silence = np.zeros((channels, round(tail * rate)), np.float32)
    end = channels, max(1, round(_END_SECONDS * rate))
    given = Metered(chain(reader.blocks(), [silence]), before, end)
    request = Request(rate, channels, scene, seed=seed, steps=steps)
    made = Metered(converter.convert_blocks(given, request), after, end)
    subtype = subtype or reader.subtype
    with AudioWriter(output_path, rate, channels, subtype=subtype, notes=reader.notes, force=force) as writer:
        for block in made:
            writer.write(block)
            if progress is not None:
                progress(writer.num_samples / rate, seconds_in_all)
        if made.num_samples != given.num_samples:
            raise RuntimeError(f"{converter!r} made {made.num_samples} samples out of {given.num_samples}")
        writer.gain_db = wanted_db = level_gain_db(Path(source_path), level, before, after)
    short_db = wanted_db - writer.gain_db
    more = float(np.square(made.end - given.end).mean())
    end_db = 10 * math.log10(more) - 20 * math.log10(writer.peak) if more else -math.inf
    length = made.num_samples, rate, channels, made.num_samples / rate
    return ConversionReport(*length, writer.gain_db, short_db, end_db)


class Metered:
    """Blocks (C, n), counted and measured as they go by; `end`, of a shape (C, m), is what came last, after silence."""

    def __init__(self, blocks: Iterable[Block], meter: Meter, end: tuple[int, int] = (0, 0)) -> None:
        self.blocks, self.meter, self.num_samples = blocks, meter, 0
        self.end = np.zeros(end, np.float32)

    def __iter__(self) -> Iterator[Block]:
        for block in self.blocks:
            self.num_samples += block.shape[1]
            self.meter.add(block)
            if num_kept := self.end.shape[1]:
                self.end = np.concatenate([self.end, block[:, -num_kept:]], axis=1)[:, -num_kept:]
            yield block


def level_gain_db(path: Path, level: Level, before: Meter, after: Meter) -> float:
    """The gain with which what was made of a recording has its level again; NotMeasurable where it has none."""
    try:
        return before.level_db() - after.level_db()
    except NotMeasurable as error:
        raise NotMeasurable(f"{path}: its level cannot be kept by {level!r}: {error}; use 'keep'") from error


def _require_other_file(source: Path, output: Path, force: bool) -> None:
    if not force and output.exists() and output.samefile(source):
        raise OutputExistsError(
            f"{output}: is the recording itself; choose another name or use --force to replace it"
        )
