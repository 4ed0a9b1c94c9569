"""A video through a converter: the pictures are copied bit for bit, the sound is replaced and stays in sync."""

from __future__ import annotations

import heapq
import io
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np

from mvsd.amount import reach_seconds
from mvsd.blockwise import BlockConverter, Request
from mvsd.container import (
    add_copy,
    clock_start,
    format_of,
    is_container,
    is_video,
    keepable,
    open_input,
    require_usable,
    timescale,
)
from mvsd.errors import VideoFileError
from mvsd.files import ConversionReport, Metered, convert_file, level_gain_db
from mvsd.level import Level, level_meter, unclipped_gain
from mvsd.scene import Scene
from mvsd.scene_track import SceneTrack, Shot
from mvsd.shots import find_shots
from mvsd.soundtrack import Encoder, Soundtrack, codec_for, is_lossy, open_sound
from mvsd.whole_file import require_free, whole_file

Progress = Callable[[float, float | None], None]
Around = Callable[[BlockConverter], BlockConverter]

_SPOOLED_VALUES = 2**18  # read at a time
_MISSING_SECONDS = 2.0  # the length of the last frame is not stated everywhere
_SOUND_METADATA = ("language", "title", "handler_name")
_WRITTEN_ANEW = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
)  # of the container's metadata


@dataclass(frozen=True)
class VideoReport:
    """What was converted.

    Length of the sound in seconds, its rate in Hz, channels, codec, the gain in dB that was applied to it: to keep the
    level that was asked for, and to keep it from clipping; the seconds at which the scene changed (empty where there
    was one), and the streams that the new container cannot hold.
    """

    seconds: float
    sample_rate: int
    channels: int
    codec: str
    gain_db: float
    changes: tuple[float, ...]
    dropped: tuple[str, ...]
    short_db: float = 0.0


def convert_recording(
    converter: BlockConverter,
    source_path: str | Path,
    output_path: str | Path,
    scene: Scene | None = None,
    *,
    watch: bool = True,
    around: Around | None = None,
    **options: Any,
) -> ConversionReport | VideoReport:
    """`convert_video` where the output's suffix is a container's, else `convert_file`; `options` are theirs."""
    if is_container(output_path):
        return convert_video(
            converter, source_path, output_path, scene, watch=watch, around=around, **options
        )
    whole = around(converter) if around else converter
    return convert_file(whole, source_path, output_path, scene, **options)


def convert_video(
    converter: BlockConverter,
    source_path: str | Path,
    output_path: str | Path,
    scene: Scene | None = None,
    *,
    watch: bool = True,
    around: Around | None = None,
    seed: int = 0,
    steps: int | None = None,
    level: Level = "keep",
    force: bool = False,
    progress: Progress | None = None,
) -> VideoReport:
    """Convert the sound of a video of any length; memory does not grow with it.

    The output's suffix chooses the container (`mvsd.container.FORMATS`). The packets of the pictures, of further sound
    and of subtitles are copied with their times, as far as it holds them; the first sound stream is converted as
    `mvsd.soundtrack` reads it, into the codec of `codec_for`. Without a `scene`, the video's own frames are the scenes,
    shot by shot (`mvsd.shots`), unless `watch` is false: for a converter that does without. `around` is put around all
    that converts the sound, from its start to its end (`mvsd.check.Checked`). `level` is that of
    `mvsd.files.convert_file`. `progress` is called with the seconds done and in all (None: unknown).

    The output appears whole or not at all. Raises `VideoFileError` for a source that is no video, has no sound, no
    pictures, is encrypted, damaged or cut short, and for an output that cannot be written; `OutputExistsError` for one
    that exists, without `force`; `RuntimeError` if the converter returns another number of samples.
    """
    source, output = Path(source_path), Path(output_path)
    dropped = check_video(source, output, force=force)
    sound = Soundtrack(source)
    codec = codec_for(format_of(output), sound.codec)
    bar = _Bar(sound.seconds, progress)
    changes: list[float] = []
    if scene is None and watch and is_video(output):
        bar.num_parts = 2
        shots = find_shots(source, bar.watched)
        converter = _tracked(converter, _noted(shots, changes))
    converter = around(converter) if around else converter
    target = Path(os.path.realpath(output))  # a link keeps pointing to its file
    rate, channels = sound.sample_rate, sound.channels
    before, after = (level_meter(level, rate, channels) for _ in range(2))
    with _io_errors(output), tempfile.TemporaryFile(dir=target.parent) as file:
        spool = _Spool(file, channels)
        read = Metered(sound.blocks(), before)
        request = Request(rate, channels, scene, seed=seed, steps=steps)
        converted = converter.convert_blocks(read, request)
        for block in Metered(converted, after):
            spool.write(block)
            bar.heard(spool.num_samples / rate)
        if spool.num_samples != read.num_samples:
            raise RuntimeError(f"{converter!r} made {spool.num_samples} samples out of {read.num_samples}")
        wanted_db = level_gain_db(source, level, before, after)
        gain = unclipped_gain(10 ** (wanted_db / 20), spool.peak, is_lossy=is_lossy(codec))
        with whole_file(output, VideoFileError, force=force) as temporary:
            _write(source, temporary, format_of(output), sound, spool, gain)
    seconds, gain_db = spool.num_samples / rate, 20 * math.log10(gain)
    changes = [time for time in changes if time < seconds]
    short_db = wanted_db - gain_db
    return VideoReport(seconds, rate, channels, codec, gain_db, tuple(changes), tuple(dropped), short_db)


def _tracked(converter: BlockConverter, shots: Iterator[Shot]) -> SceneTrack:
    return SceneTrack(converter, shots, context=reach_seconds(converter))


def check_video(source: Path, output: Path, *, force: bool = False) -> list[str]:
    """Raise what `convert_video` can find out before it computes; return the names of streams that cannot be kept."""
    import av

    output_format = format_of(output)
    require_usable(source, output)
    require_free(output, force, VideoFileError)
    if not output.parent.is_dir():
        raise VideoFileError(f"{output}: there is no folder {output.parent}; create it first")
    open_sound(source)  # which finds a sound file that is cut short, as a video's demuxer does not
    sound = Soundtrack(source)
    with av.open(io.BytesIO(), "w", format=output_format) as trial:
        try:
            _add_sound(trial, sound, output_format)
            trial.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            came = f"sound of {sound.channels} channels ({sound.layout}) at {sound.sample_rate} Hz"
            advice = ".mkv" if is_video(output) and output_format != "matroska" else ".wav"
            raise VideoFileError(
                f"{source}: {came} does not go into {output.suffix}; use {advice}"
            ) from error
    with open_input(source) as container:
        return keepable(container, output_format, with_pictures=is_video(output))[1]


def _write(
    source_path: Path, output_path: Path, output_format: str, sound: Soundtrack, spool: _Spool, gain: float
) -> None:
    """The source's streams, its first sound replaced by the spool's, into a new file."""
    import av

    options = {}
    with open_input(source_path) as source:
        kept, _ = keepable(source, output_format, with_pictures=is_video(output_path))
        if output_format in ("mp4", "mov"):
            ticks = timescale([sound.sample_rate, *(stream.time_base.denominator for stream in kept)])
            options = {"movflags": "+faststart", "movie_timescale": str(ticks)}
        with av.open(str(output_path), "w", format=output_format, options=options) as output:
            output.metadata.update(
                {key: value for key, value in source.metadata.items() if key not in _WRITTEN_ANEW}
            )
            output.set_chapters(_chapters(source))
            old = source.streams.audio[0]
            copies: dict[int, Any] = {}
            for stream in sorted([*kept, old], key=lambda stream: stream.index):
                if stream is old:
                    encoder = _add_sound(output, sound, output_format)
                    encoder.stream.disposition = old.disposition.value
                    tags = {key: old.metadata[key] for key in _SOUND_METADATA if key in old.metadata}
                    encoder.stream.metadata.update(tags)
                else:
                    copies[stream.index] = add_copy(output, stream)
            copied = _copied_packets(source_path, source, kept, spool.num_samples / sound.sample_rate)
            for packet in heapq.merge(copied, encoder.packets(spool.blocks(gain)), key=_clock):
                if packet.stream_index in copies and packet.stream is not encoder.stream:
                    packet.stream = copies[packet.stream_index]
                output.mux(packet)


def _add_sound(output: Any, sound: Soundtrack, output_format: str) -> Encoder:
    return Encoder(output, codec_for(output_format, sound.codec), sound.sample_rate, sound.layout)


def _copied_packets(path: Path, source: Any, streams: list[Any], seconds: float) -> Iterator[Any]:
    """The packets of these streams; raises `VideoFileError` where they and the `seconds` of sound break off early."""
    import av

    end, begin = 0.0, clock_start(source)
    try:
        for packet in source.demux(streams) if streams else ():  # of none, PyAV would give all
            if packet.size == 0 and packet.pts is None:  # PyAV's sign that a decoder is to be flushed
                continue
            if begin:
                _shift(packet, begin)
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            yield packet
    except av.FFmpegError as error:
        raise VideoFileError(f"{path}: damaged after {end:.2f} s; fetch or export it again") from error
    promised = 0 if source.duration is None else source.duration / 1e6
    end = max(end, seconds) + float(begin)  # the sound may go on when the pictures have ended
    if streams and end < promised - _MISSING_SECONDS:
        raise VideoFileError(
            f"{path}: cut short: {promised:.2f} s are promised, {end:.2f} s are there; fetch or export it again"
        )


def _shift(packet: Any, seconds: Fraction) -> None:
    """Move a packet to an earlier time."""
    ticks = round(seconds / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts - ticks
    packet.dts = None if packet.dts is None else packet.dts - ticks


def _chapters(source: Any) -> list[Any]:
    """The chapters, from the time on at which the source's clock begins."""
    begin, moved = clock_start(source), []
    for chapter in source.chapters():
        ticks = round(begin / chapter["time_base"])
        start, end = max(0, chapter["start"] - ticks), chapter["end"] - ticks
        if end > 0:
            moved.append({**chapter, "start": start, "end": end})
    return moved


def _clock(packet: Any) -> float:
    """Seconds by which packets are interleaved."""
    ticks = packet.pts if packet.dts is None else packet.dts
    return -math.inf if ticks is None else float(ticks * packet.time_base)


class _Bar:
    """Two works, looking and converting, as one number of seconds."""

    def __init__(self, seconds: float | None, progress: Progress | None) -> None:
        self.seconds, self.progress, self.num_parts = seconds, progress, 1
        self._watched = self._heard = 0.0

    def watched(self, seconds: float) -> None:
        self._watched = seconds
        self._report()

    def heard(self, seconds: float) -> None:
        self._heard = seconds
        self._report()

    def _report(self) -> None:
        if self.progress is not None:
            self.progress((self._watched + self._heard) / self.num_parts, self.seconds)


class _Spool:
    """Samples on the disk until their peak is known."""

    def __init__(self, file: IO[bytes], channels: int) -> None:
        self.file, self.channels = file, channels
        self.num_samples, self.peak = 0, 0.0

    def write(self, block: np.ndarray) -> None:
        """Append a block (C, n)."""
        peak = float(np.abs(block).max(initial=0.0))
        if not np.isfinite(peak):
            raise VideoFileError("the converted sound has NaN or infinity in it; nothing was written")
        self.peak = max(self.peak, peak)
        self.num_samples += block.shape[1]
        self.file.write(np.ascontiguousarray(block.T, np.float32).tobytes())

    def blocks(self, gain: float) -> Iterator[np.ndarray]:
        """What was written, times a gain, in blocks (C, n)."""
        self.file.seek(0)
        size = 4 * self.channels * max(1, _SPOOLED_VALUES // self.channels)
        while data := self.file.read(size):
            yield np.frombuffer(data, np.float32).reshape(-1, self.channels).T * np.float32(gain)


def _noted(shots: Iterable[Shot], changes: list[float]) -> Iterator[Shot]:
    for shot in shots:
        if shot.end != math.inf:
            changes.append(shot.end)
        yield shot


@contextmanager
def _io_errors(path: Path) -> Iterator[None]:
    """Turn what the system says while writing into one line."""
    import av

    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise VideoFileError(f"{path}: cannot be written ({error.strerror or error})") from error
