"""Video files as PyAV sees them: which containers are written, which streams there are, which of them can be kept."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

from mvsd.errors import VideoFileError

FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".m4a": "mp4",
    ".mkv": "matroska",
    ".webm": "webm",
}
WITHOUT_PICTURES = (".m4a",)
_ISO = ("mp4", "mov")
_PLAYLISTS = {"hls", "dash", "concat", "imf"}
_MAX_TIMESCALE = 2**31 - 1


def is_container(path: str | Path) -> bool:
    """Whether a name is that of a file which is written here: a video, or sound in a video's container."""
    return Path(path).suffix.lower() in FORMATS


def is_video(path: str | Path) -> bool:
    """Whether a name is that of a file with pictures."""
    return is_container(path) and Path(path).suffix.lower() not in WITHOUT_PICTURES


def format_of(path: str | Path) -> str:
    """FFmpeg's name of the suffix' container; `VideoFileError` for one that is not written."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise VideoFileError(
            f"{path}: a video cannot be written as {suffix!r}; use one of {' '.join(FORMATS)}"
        )
    return FORMATS[suffix]


def open_media(path: Path) -> Any:
    """An av.container.InputContainer; raises what PyAV and the system do, and ValueError for a list of other files."""
    import av

    # "file:" and the whitelist: a playlist must not reach the network, nor may it give away other files from here.
    container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    if not _PLAYLISTS.isdisjoint(container.format.name.split(",")):
        container.close()
        raise ValueError(f"{path}: a list of other files")
    return container


def open_input(path: Path) -> Any:
    """An av.container.InputContainer. Raises `VideoFileError`."""
    import av

    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would keep FFmpeg waiting
        raise VideoFileError(f"{path}: a pipe or a device; write it to a file first, it is read twice")
    try:
        return open_media(path)
    except FileNotFoundError:
        raise VideoFileError(f"{path}: no such file; give the path of a video") from None
    except IsADirectoryError:
        raise VideoFileError(f"{path}: a folder; give the path of a video") from None
    except PermissionError as error:
        raise VideoFileError(f"{path}: cannot be opened ({error.strerror})") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        came = "an empty file (0 bytes)" if path.stat().st_size == 0 else "not a video, or cut short"
        raise VideoFileError(f"{path}: {came}; fetch or export it again") from error


def clock_start(container: Any) -> Fraction:
    """Seconds at which a container's clock begins; 0 for less than a second, which is how late something starts.

    The clock of a broadcast, of a part of a stream or of a camera's file begins anywhere.
    """
    start = Fraction(container.start_time or 0, 1_000_000)
    return start if start >= 1 else Fraction(0)


def has_pictures(path: Path) -> bool:
    """Whether a file shows moving pictures, whatever its name says."""
    try:
        with open_input(path) as container:
            is_still = "image2" in container.format.name or container.format.name.endswith("_pipe")
            return not is_still and picture_of(container) is not None
    except VideoFileError:
        return False


def picture_seconds(path: Path) -> float:
    """When the last moving picture of a file is shown, found without decoding; 0 where there is none.

    Raises `VideoFileError` for a file that cannot be read to its end.
    """
    import av

    with open_input(path) as container:
        if (picture := picture_of(container)) is None:
            return 0.0
        last = begin = clock_start(container)
        try:
            for packet in container.demux(picture):
                if packet.pts is not None:
                    last = max(last, packet.pts * packet.time_base)
        except av.FFmpegError as error:
            at = float(last - begin)
            raise VideoFileError(f"{path}: damaged after {at:.2f} s; fetch or export it again") from error
        return float(last - begin)


def picture_of(container: Any) -> Any | None:
    """The first stream of moving pictures, None where there is none; a cover is not one."""
    return next((stream for stream in container.streams.video if not is_cover(stream)), None)


def is_cover(stream: Any) -> bool:
    """Whether a stream is the still picture of a file of sound."""
    return stream.type == "video" and bool(stream.disposition & type(stream.disposition).attached_pic)


def sound_of(container: Any, path: Path) -> Any:
    """The first stream of sound. Raises `VideoFileError` where there is none that can be decoded."""
    if not container.streams.audio:
        raise VideoFileError(f"{path}: has no sound ({_what(container)}); a video with sound is needed")
    sound = container.streams.audio[0]
    if sound.codec_context is None or not sound.codec_context.sample_rate or not sound.channels:
        raise VideoFileError(
            f"{path}: its sound is in an unknown codec, or the file is cut short; export it again"
        )
    return sound


def require_usable(path: Path, output_path: Path) -> None:
    """Raises `VideoFileError` for a source that has no sound, no pictures for a video, or is encrypted."""
    with open_input(path) as container:
        sound = sound_of(container, path)
        picture = picture_of(container)
        if picture is None and is_video(output_path):
            raise VideoFileError(
                f"{path}: has no pictures, so {output_path.name} cannot be a video; use .wav"
            )
        wanted = [stream for stream in (picture, sound) if stream is not None]
        packet = next(container.demux(wanted), None)
        if packet is not None and packet.has_sidedata("encryption_info"):
            raise VideoFileError(f"{path}: is encrypted; only a file without copy protection can be read")


def keepable(source: Any, output_format: str, *, with_pictures: bool) -> tuple[list[Any], list[str]]:
    """The streams of an opened source that the container can hold, and names of those that it cannot.

    The first audio stream is in neither, nor are streams in which MP4 stores a timecode or chapters, which are written
    anew, nor moving pictures unless `with_pictures`.
    Raises `VideoFileError` where the pictures cannot be held.
    """
    picture = picture_of(source) if with_pictures else None
    if picture is not None and not _holds(output_format, [picture]):
        raise VideoFileError(
            f"{source.name.removeprefix('file:')}: its pictures ({_codec(picture)}) do not go into {output_format}"
            "; use the suffix of the source, or .mkv"
        )
    kept: list[Any] = []
    dropped: list[str] = []
    for stream in source.streams:
        if stream is picture:
            kept.append(stream)
        elif stream.type == "video" and not (with_pictures or is_cover(stream)):
            continue
        elif stream.index != source.streams.audio[0].index and not _is_written_anew(stream):
            company = [] if picture is None else [picture]
            if _holds(output_format, [*company, stream]):
                kept.append(stream)
            else:
                dropped.append(f"stream {stream.index} ({stream.type}, {_codec(stream)})")
    return kept, dropped


def add_copy(output: Any, stream: Any) -> Any:
    """A stream in the output that takes the packets of `stream` as they are."""
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.time_base = stream.time_base
    if stream.codec_context is not None:
        if output.format.name in _ISO and "mov" in stream.container.format.name.split(","):
            copy.codec_context.codec_tag = (
                stream.codec_context.codec_tag
            )  # hvc1 and hev1 are not the same to Apple
        if stream.type == "video" and stream.average_rate:
            copy.codec_context.framerate = stream.average_rate
    copy.disposition = stream.disposition.value
    copy.metadata.update(stream.metadata)
    return copy


def timescale(rates: list[int]) -> int:
    """Ticks per second in which the length and start of every stream is a whole number, if there are such."""
    common = math.lcm(*rates)
    return common if common <= _MAX_TIMESCALE else rates[0]


def _holds(output_format: str, streams: list[Any]) -> bool:
    """Whether a container takes these streams: its header is written, into memory."""
    import av

    try:
        with av.open(io.BytesIO(), "w", format=output_format) as output:
            for stream in streams:
                add_copy(output, stream)
            output.start_encoding()
    except (av.FFmpegError, ValueError, TypeError, AttributeError):
        return False
    return True


def _is_written_anew(stream: Any) -> bool:
    """Whether a stream is how MP4 stores a timecode or the names of chapters."""
    is_chapters = getattr(stream, "name", None) == "bin_data" and bool(stream.container.chapters())
    return stream.type == "data" and ("timecode" in stream.metadata or is_chapters)


def _codec(stream: Any) -> str:
    name = stream.codec_context.name if stream.codec_context is not None else getattr(stream, "name", None)
    return str(name or "unknown codec")


def _what(container: Any) -> str:
    return str(container.format.long_name)
