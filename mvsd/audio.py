"""Sound files in and out: any container, rate, channel count and length, in constant memory.

soundfile reads what libsndfile knows (WAV, FLAC, Ogg, MP3, AIFF, CAF, W64, ...), PyAV the rest (M4A, MP4,
WebM, Matroska, ...: the first audio stream). Waveforms are float32, (T,) or channels first (C, T), nominally
-1..1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from mvsd.audio_writer import AudioWriter
from mvsd.channel_order import from_ogg
from mvsd.container import open_media
from mvsd.errors import AudioFileError, MvsdError
from mvsd.notes import Notes, read_notes
from mvsd.waveform import require_channels_first

__all__ = [
    "AudioReader",
    "AudioWriter",
    "load_audio",
    "rechunk",
    "resample",
    "resample_blocks",
    "resampled_length",
    "save_audio",
]

Waveform = NDArray[np.float32]

HIGHEST_RATE = 384_000  # Hz, of any file: more is no sound, and would cost memory in proportion
_MAX_BLOCK_VALUES = 2**24  # 64 MiB, whatever rate or channel count a header claims
_MAX_SAMPLES = 2**62  # libsndfile's length of a stream that states none is a little less than 2**63
_UNRECOGNISED = (1, 4)  # libsndfile's codes for an unknown format and an unknown encoding
_QUALITY = "VHQ"
# How libsndfile's log tells that a header promises more bytes of sound than there are.
_PROMISE = re.compile(r"^\s*(?:data|riff|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_RF64_PROMISE = re.compile(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)")
# Only these containers state a duration; ffmpeg guesses that of the others from the bit rate.
_TIMED_CONTAINERS = ("mov", "matroska", "asf", "avi")
DURATION_TOLERANCE = 0.2  # seconds: a few frames of a lossy codec


def load_audio(path: str | Path) -> tuple[Waveform, int]:
    """Reads a whole sound file.

    Returns the waveform (C, T) and its rate in Hz. Raises `AudioFileError` as `AudioReader` does, and of a video, which
    is read on the clock of its pictures, `VideoFileError`.
    """
    from mvsd.soundtrack import open_sound  # which reads other files as this module does

    reader = open_sound(Path(path))
    return np.concatenate(list(reader.blocks()), axis=1), reader.sample_rate


def save_audio(
    path: str | Path,
    waveform: NDArray[Any],
    sample_rate: int,
    *,
    subtype: str | None = None,
    force: bool = False,
) -> float:
    """Writes a waveform (T,) or (C, T) whole or not at all.

    The suffix chooses the container, `subtype` (libsndfile's name; PCM_24 unless given) the sample format. A peak
    above 1 is lowered to fit a fixed-point or lossy format; returns the gain in dB of the whole, 0 where it fits.
    Raises what `AudioWriter` does, and `AudioFileError` for another shape.
    """
    samples = np.asarray(waveform)
    require_channels_first(samples, f"{path}: ", AudioFileError)
    block = np.atleast_2d(samples)
    with AudioWriter(path, sample_rate, len(block), subtype=subtype, force=force) as writer:
        writer.write(block)
    return writer.gain_db


@final
class AudioReader:
    """A sound file, read in blocks.

    Attributes: `sample_rate` in Hz, `channels`, `num_samples` per channel (None where only decoding can tell),
    `container` and `subtype` in libsndfile's words (or the codec's name), `notes` (none where PyAV reads the file).

    Raises `AudioFileError` for a file that is missing, empty, no sound, truncated or damaged, or holds NaN or
    infinity; what only decoding can find is raised by `blocks`.
    """

    sample_rate: int
    channels: int
    subtype: str
    container: str
    num_samples: int | None
    notes: Notes

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _require_file(self.path)
        self.notes = Notes()
        file = _open_with_soundfile(self.path)
        if file is None:
            self._probe_with_pyav()
            require_rate(self.path, self.sample_rate, AudioFileError)
            return
        with file:
            self.sample_rate, self.channels = file.samplerate, file.channels
            self.container, self.subtype = file.format, file.subtype
            self.num_samples = file.frames
            tags = {name: text for name, text in file.copy_metadata().items() if name != "software"}
            self.notes = read_notes(self.path, tags)
            require_rate(self.path, self.sample_rate, AudioFileError)
            _require_whole(self.path, file)

    def blocks(self, seconds: float = 10.0) -> Iterator[Waveform]:
        """The samples from the start, in blocks (C, n) of `seconds`; only the last may be shorter."""
        size = max(1, min(round(seconds * self.sample_rate), _MAX_BLOCK_VALUES // self.channels))
        num_read = 0
        is_decoded = self.num_samples is None
        for block in rechunk(self._pyav_blocks(), size) if is_decoded else self._soundfile_blocks(size):
            if not np.isfinite(block).all():
                first = num_read + int(np.argmin(np.isfinite(block).all(axis=0)))
                raise AudioFileError(
                    f"{self.path}: NaN or infinity at {first / self.sample_rate:.3f} s; export the file again"
                )
            num_read += block.shape[1]
            yield block
        if num_read == 0:
            raise AudioFileError(
                f"{self.path}: holds no samples; a recording of at least one sample is needed"
            )

    def _soundfile_blocks(self, size: int) -> Iterator[Waveform]:
        num_read = 0
        order = from_ogg(self.channels) if self.container == "OGG" else np.arange(self.channels)
        try:
            # Opened anew: in GSM and G.72x libsndfile cannot go back.
            with soundfile.SoundFile(self.path) as file:
                while len(block := file.read(size, dtype="float32", always_2d=True)):
                    num_read += len(block)
                    yield np.ascontiguousarray(block.T[order])
        except soundfile.SoundFileError:
            pass  # told below: what could not be read is missing
        if num_read < (self.num_samples or 0):
            raise _truncated(self.path, f"{self.num_samples} samples", f"only {num_read} can be read")

    def _probe_with_pyav(self) -> None:
        """Fills the attributes from the first audio stream."""
        with _open_with_pyav(self.path) as container:
            codec = container.streams.audio[0].codec_context
            self.sample_rate, self.channels = codec.sample_rate or 0, codec.channels or 0
            self.container = container.format.name
            self.subtype = subtype_of(codec)
            self.num_samples = None
        if self.sample_rate < 1 or self.channels < 1:
            raise AudioFileError(
                f"{self.path}: its {self.subtype} stream cannot be decoded; convert it to WAV"
            )

    def _pyav_blocks(self) -> Iterator[Waveform]:
        import av

        end = 0.0
        with _open_with_pyav(self.path) as container:
            stream = container.streams.audio[0]
            layout = stream.codec_context.layout
            # Packed: PyAV 18 counts planes wrongly beyond 8 channels.
            to_float = av.AudioResampler(format="flt", layout=layout, rate=self.sample_rate)
            try:
                for frame in container.decode(stream):
                    end = (frame.time or end) + frame.samples / frame.sample_rate
                    for part in to_float.resample(frame):
                        yield np.ascontiguousarray(part.to_ndarray().reshape(-1, self.channels).T)
                for part in to_float.resample(None):
                    yield np.ascontiguousarray(part.to_ndarray().reshape(-1, self.channels).T)
            except (av.FFmpegError, ValueError) as error:
                raise AudioFileError(
                    f"{self.path}: damaged after {end:.2f} s; fetch or export it again"
                ) from error
            promised = stated_seconds(container)
        if promised is not None and end < promised - DURATION_TOLERANCE:
            raise _truncated(self.path, f"{promised:.2f} s", f"only {end:.2f} s can be read")


def require_rate(path: Path, sample_rate: int, error_class: type[MvsdError]) -> None:
    """Raise `error_class` for a file whose rate is beyond `HIGHEST_RATE`."""
    if sample_rate > HIGHEST_RATE:
        raise error_class(
            f"{path}: its header claims {sample_rate} Hz; at most {HIGHEST_RATE} Hz can be read; export it again"
        )


def _truncated(path: Path, promised: str, found: str) -> AudioFileError:
    return AudioFileError(
        f"{path}: truncated or damaged: its header promises {promised} of sound, {found}; export it again"
    )


def _require_file(path: Path) -> None:
    if str(path) == "-" or (path.exists() and not path.is_file() and not path.is_dir()):
        raise AudioFileError(f"{path}: a pipe or a device; write the sound to a file first, it is read twice")
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except FileNotFoundError:
        raise AudioFileError(f"{path}: no such file; give the path of a sound file") from None
    except IsADirectoryError:
        raise AudioFileError(f"{path}: a folder; give the path of a sound file") from None
    except (OSError, ValueError) as error:
        raise AudioFileError(f"{path}: cannot be opened ({getattr(error, 'strerror', error)})") from error
    if is_empty:
        raise AudioFileError(f"{path}: an empty file (0 bytes); a sound file is needed")


def _open_with_soundfile(path: Path) -> soundfile.SoundFile | None:
    """The opened file, or None where PyAV is the better or the only reader."""
    has_length = _mp3_states_length(path)
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        if error.code in _UNRECOGNISED:
            return None
        raise AudioFileError(f"{path}: truncated or damaged ({error.error_string.strip()})") from error
    except TypeError as error:  # soundfile asks for the rate of a file called .raw
        raise AudioFileError(f"{path}: raw samples without a header; save them as WAV") from error
    if (file.format == "MP3" and not has_length) or file.frames > _MAX_SAMPLES:
        # libsndfile stops at a length guessed from an MP3's first frames, and fails at the end of such a FLAC.
        file.close()
        return None
    return file


def _mp3_states_length(path: Path) -> bool:
    """Whether an MP3 file starts with a Xing, Info or VBRI frame, which holds its length.

    Raises `AudioFileError` where that frame promises more bytes than there are.
    """
    with path.open("rb") as file:
        head = file.read(10)
        size = head[6:] if head[:3] == b"ID3" and len(head) == 10 else b"\0\0\0\0"
        start = 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]) if any(size) else 0
        file.seek(start)
        frame = file.read(64)
    if len(frame) < 2 or frame[0] != 0xFF or frame[1] < 0xE0:  # no MPEG frame
        return False
    match = re.search(rb"(?:Xing|Info)(....)(....)(....)", frame, re.DOTALL)
    if match and match[1][3] & 3 == 3:  # both a frame count and a byte count follow the flags
        promised, found = int.from_bytes(match[3], "big"), path.stat().st_size - start
        if promised > found:
            raise _truncated(path, f"{promised} bytes", f"the file holds {found}")
    return match is not None or b"VBRI" in frame


def _require_whole(path: Path, file: soundfile.SoundFile) -> None:
    """Compares what the header promises with what libsndfile found, where it tells."""
    if file.frames == 0:
        raise AudioFileError(f"{path}: holds no samples; a recording of at least one sample is needed")
    if file.format == "OGG":
        _require_last_ogg_page(path)
    unit = "bytes"
    pairs = [(int(promised), int(found)) for promised, found in _PROMISE.findall(file.extra_info)]
    if match := _RF64_PROMISE.search(file.extra_info):
        unit, pairs = "samples", [(int(match[2]), int(match[1]))]
    for promised, found in pairs:
        # Of a stream the length was not known when the header was written.
        was_streamed = promised >= 0xFFFFFF00 or 0x7FFFF000 <= promised <= 0x7FFFFFFF
        if not was_streamed and promised - found >= max(1, found // file.frames):
            raise _truncated(path, f"{promised} {unit}", f"the file holds {found}")


def _require_last_ogg_page(path: Path) -> None:
    """An Ogg file states no length, but an uncut one holds the end of its last page (RFC 3533)."""
    longest_page = 27 + 255 + 255 * 255
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - longest_page))
        tail = file.read()
    start = tail.rfind(b"OggS")
    page = tail[start:] if start >= 0 else b""
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(page) < 27 + page[26] + sum(segments):
        raise AudioFileError(f"{path}: truncated: its last page is cut off; fetch or export the file again")


def _open_with_pyav(path: Path) -> Any:
    """An av.container.InputContainer with at least one audio stream."""
    import av

    try:
        container = open_media(path)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise AudioFileError(
            f"{path}: not a sound file, or cut short; give one that soundfile or PyAV reads"
        ) from error
    if not container.streams.audio:
        container.close()
        raise AudioFileError(
            f"{path}: no sound in it ({container.format.long_name}); give a file with an audio stream"
        )
    return container


def subtype_of(codec: Any) -> str:
    """libsndfile's name for a lossless stream, the codec's own in capitals for a lossy one."""
    if not codec.name.startswith(("pcm_", "flac", "alac", "wavpack")) or "law" in codec.name:
        return str(codec.name).upper()
    sample_format = codec.format.name.rstrip("p") if codec.format else ""
    if sample_format == "s32" and not codec.name.startswith("pcm_s32"):
        return "PCM_24"
    names = {"u8": "PCM_U8", "s16": "PCM_16", "s32": "PCM_32", "flt": "FLOAT", "dbl": "DOUBLE"}
    return names.get(sample_format, "PCM_32")


def stated_seconds(container: Any) -> float | None:
    """Seconds of sound the container states for its first audio stream, or None."""
    name = container.format.name
    if not name.startswith(_TIMED_CONTAINERS) or (name == "asf" and len(container.streams) > 1):
        return None  # of ASF each stream is said to last as long as the file
    stream = container.streams.audio[0]
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if match := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):
        return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
    if len(container.streams) == 1 and container.duration is not None:
        return float(container.duration) / 1e6
    return None


def resampled_length(num_samples: int, from_rate: int, to_rate: int) -> int:
    """num_samples * to_rate / from_rate, rounded to the nearest integer, halves up."""
    return (2 * num_samples * to_rate + from_rate) // (2 * from_rate)


def resample(
    waveform: NDArray[Any], from_rate: int, to_rate: int, *, num_samples: int | None = None
) -> Waveform:
    """Band-limited change of rate (soxr, linear phase, no delay) of a waveform (T,) or (C, T).

    The result has `num_samples` samples, zeros added or samples dropped at the end; without it,
    `resampled_length(T)`.
    """
    result = np.asarray(waveform, dtype=np.float32)
    wanted = resampled_length(result.shape[-1], from_rate, to_rate) if num_samples is None else num_samples
    if from_rate != to_rate and result.shape[-1]:
        frames = np.ascontiguousarray(np.atleast_2d(result).T)
        converted = np.ascontiguousarray(soxr.resample(frames, from_rate, to_rate, quality=_QUALITY).T)
        result = converted.reshape(*result.shape[:-1], converted.shape[-1])
    result = result[..., :wanted]
    num_missing = wanted - result.shape[-1]
    return np.pad(result, [(0, 0)] * (result.ndim - 1) + [(0, num_missing)]) if num_missing else result


def resample_blocks(
    blocks: Iterable[Waveform], from_rate: int, to_rate: int, channels: int
) -> Iterator[Waveform]:
    """`resample` of the join of blocks (C, n), in constant memory; the output's blocks vary in length."""
    if from_rate == to_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality=_QUALITY)
    num_in = num_out = 0
    for block in blocks:
        num_in += block.shape[1]
        converted = stream.resample_chunk(np.ascontiguousarray(block.T, dtype=np.float32))
        num_out += len(converted)
        if len(converted):
            yield np.ascontiguousarray(converted.T)
    rest = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)
    num_missing = resampled_length(num_in, from_rate, to_rate) - num_out
    rest = np.pad(rest, ((0, max(0, num_missing - len(rest))), (0, 0)))[: max(0, num_missing)]
    if len(rest):
        yield np.ascontiguousarray(rest.T)


def rechunk(blocks: Iterable[Waveform], size: int) -> Iterator[Waveform]:
    """Regroups blocks (C, n) into blocks (C, size), the last one shorter; never an empty one."""
    parts: list[Waveform] = []
    num_held = 0
    for block in blocks:
        start = 0
        while num_held + block.shape[1] - start >= size:
            stop = start + size - num_held
            parts.append(block[:, start:stop])
            yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            parts, num_held, start = [], 0, stop
        if start < block.shape[1]:
            parts.append(block[:, start:])
            num_held += block.shape[1] - start
    if parts:
        yield np.concatenate(parts, axis=1)
