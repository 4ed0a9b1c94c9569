"""A recording through a converter into another file: constant memory, exact length, all or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvsd.audio import AudioWriter
from mvsd.blockwise import BlockConverter
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
    num_read = 0
    given, made = (_End(channels, round(_END_SECONDS * rate)) for _ in range(2))

    def source() -> Iterator[Block]:
        nonlocal num_read
        for block in reader.blocks():
            num_read += block.shape[1]
            before.add(block)
            given.add(block)
            yield block
        silence = np.zeros((channels, round(tail * rate)), np.float32)
        num_read += silence.shape[1]
        given.add(silence)
        yield silence

    subtype = subtype or reader.subtype
    with AudioWriter(output_path, rate, channels, subtype=subtype, notes=reader.notes, force=force) as writer:
        for block in converter.convert_blocks(source(), rate, channels, scene, seed=seed, steps=steps):
            writer.write(block)
            after.add(block)
            made.add(block)
            if progress is not None:
                progress(writer.num_samples / rate, seconds_in_all)
        if writer.num_samples != num_read:
            raise RuntimeError(f"{converter!r} made {writer.num_samples} samples out of {num_read}")
        writer.gain_db = wanted_db = level_gain_db(Path(source_path), level, before, after)
    short_db = wanted_db - writer.gain_db
    more = float(np.square(made.samples - given.samples).mean())
    end_db = 10 * math.log10(more) - 20 * math.log10(writer.peak) if more else -math.inf
    return ConversionReport(num_read, rate, channels, num_read / rate, writer.gain_db, short_db, end_db)


class _End:
    """The last samples of a stream, (C, n); silence before it."""

    def __init__(self, channels: int, num_samples: int) -> None:
        self.samples = np.zeros((channels, num_samples), np.float32)

    def add(self, block: Block) -> None:
        num_samples = self.samples.shape[1]
        self.samples = np.concatenate([self.samples, block], axis=1)[:, -num_samples:]


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
