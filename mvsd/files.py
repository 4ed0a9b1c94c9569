"""A recording through a converter into another file: constant memory, exact length, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from mvsd.audio import AudioReader, AudioWriter
from mvsd.errors import OutputExistsError
from mvsd.scene import Scene

Block = NDArray[Any]


class BlockConverter(Protocol):
    """What a converter must do for its files to be handled here; ours and every baseline does."""

    def convert_blocks(
        self,
        blocks: Iterable[Block],
        sample_rate: int,
        num_channels: int,
        scene: Scene | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
    ) -> Iterator[Block]:
        """Blocks (C, n) -> blocks (C, m) with as many samples in all."""
        ...


@dataclass(frozen=True)
class ConversionReport:
    """What was converted.

    Samples per channel, rate in Hz, channels, length in seconds, and the gain (<= 0 dB) that kept the output
    from clipping.
    """

    num_samples: int
    sample_rate: int
    channels: int
    seconds: float
    gain_db: float


def convert_file(
    converter: BlockConverter,
    source_path: str | Path,
    output_path: str | Path,
    scene: Scene | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    force: bool = False,
    progress: Callable[[float, float | None], None] | None = None,
) -> ConversionReport:
    """Converts a sound file of any length; rate, channels, length and, where possible, sample format stay.

    `progress` is called with the seconds done and the seconds in all (None while unknown). With `force` the
    output may be the source itself: it is replaced only when the whole conversion is on the disk.

    Raises `AudioFileError` for a source that cannot be read or an output that cannot be written,
    `OutputExistsError` for an existing output without `force`, `RuntimeError` if the converter returns
    another number of samples.
    """
    with AudioReader(source_path) as reader:
        _require_other_file(Path(source_path), Path(output_path), force)
        rate, channels = reader.sample_rate, reader.channels
        seconds_in_all = None if reader.num_samples is None else reader.num_samples / rate
        num_read = 0

        def source() -> Iterator[Block]:
            nonlocal num_read
            for block in reader.blocks():
                num_read += block.shape[1]
                yield block

        with AudioWriter(output_path, rate, channels, subtype=reader.subtype, force=force) as writer:
            for block in converter.convert_blocks(source(), rate, channels, scene, seed=seed, steps=steps):
                writer.write(block)
                if progress is not None:
                    progress(writer.num_samples / rate, seconds_in_all)
            if writer.num_samples != num_read:
                raise RuntimeError(f"{converter!r} made {writer.num_samples} samples out of {num_read}")
    return ConversionReport(num_read, rate, channels, num_read / rate, writer.gain_db)


def _require_other_file(source: Path, output: Path, force: bool) -> None:
    if not force and output.exists() and output.samefile(source):
        raise OutputExistsError(
            f"{output}: is the recording itself; choose another name or use --force to replace it"
        )
