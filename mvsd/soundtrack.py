"""The sound of a video: read on the video's clock, and encoded so that it stays on it.

Time 0 of the container is sample 0 (a clock that begins a second later or more begins there, and in a file without
pictures the sound does). Sound that starts later gets silence before it, sound that a player would not play (before
time 0, a codec's priming, a cut by an edit list) is left out, and a gap in the timestamps is filled with silence. So
sample n is heard at n / rate seconds, whatever the container, and the new track always starts at 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvsd.audio import (
    DURATION_TOLERANCE,
    AudioReader,
    require_rate,
    resample_blocks,
    stated_seconds,
    subtype_of,
)
from mvsd.container import WITHOUT_PICTURES, clock_start, has_pictures, open_input, picture_of, sound_of
from mvsd.errors import VideoFileError
from mvsd.notes import Notes

Waveform = NDArray[np.float32]

# A lost packet is 20 ms and more; Matroska rounds to 1 ms, and some recorders' clocks are uneven by a few.
GAP_SECONDS = 0.015
_MAX_GAP_SECONDS = 86_400.0
_USUAL = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg's name of the format
_BLOCK = 2**16  # samples at once, of silence and of what is encoded
_LOSSY_BITS_PER_SECOND = 96_000  # and channel: hard to tell from the original, in AAC and in Opus
_LOSSLESS_SOURCES = ("pcm_", "flac", "alac", "wavpack", "truehd", "mlp")
# What the new sound is encoded with: where the old one is lossless, and else.
_CODECS = {
    "mp4": ("alac", "aac"),
    "mov": ("pcm_s24le", "aac"),
    "matroska": ("flac", "libopus"),
    "webm": ("libopus", "libopus"),
}
# These encoders know one place of the surround speakers; the order of the channels is the same.
_LAYOUTS = {"5.1(side)": "5.1", "5.0(side)": "5.0", "quad(side)": "quad"}
_CHOOSY = ("libopus", "alac")
_SAMPLE_FORMATS = {"alac": "s32p", "pcm_s24le": "s32", "flac": "s32", "aac": "fltp", "libopus": "flt"}
_RATES = {
    "aac": (
        96_000,
        88_200,
        64_000,
        48_000,
        44_100,
        32_000,
        24_000,
        22_050,
        16_000,
        12_000,
        11_025,
        8000,
        7350,
    ),
    "libopus": (48_000, 24_000, 16_000, 12_000, 8000),
}


class Soundtrack:
    """The first audio stream of a video, in blocks.

    Attributes: `sample_rate` in Hz, `channels`, `layout` in FFmpeg's words, `codec` (its decoder's name), `seconds` (of
    the whole file, None if it does not say); `subtype`, `num_samples` and `notes` as `AudioReader` has them. Raises
    `VideoFileError` for a file that cannot be read or has no sound.
    """

    num_samples: int | None = None  # only decoding can tell

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with open_input(self.path) as container:
            sound = sound_of(container, self.path).codec_context
            self.sample_rate, self.channels = sound.sample_rate, sound.channels
            self._read_layout, self.codec = sound.layout.name, sound.name
            # A WAV file need not say which channel is which: FFmpeg's layout is then "1 channels".
            is_said = not self._read_layout.endswith(" channels")
            self.layout = self._read_layout if is_said else _USUAL.get(self.channels, self._read_layout)
            self.subtype, self.notes = subtype_of(sound), Notes()
            require_rate(self.path, self.sample_rate, VideoFileError)
            self.seconds = None if container.duration is None else container.duration / 1e6

    def blocks(self) -> Iterator[Waveform]:
        """The samples from time 0, in blocks (C, n) of varying length.

        Raises `VideoFileError` where the sound is damaged or cut short, holds NaN or infinity, or no samples.
        """
        position = reset = 0
        for time, samples in self._decoded():
            start = position if time is None else round(time * self.sample_rate) + reset
            gap = start - position
            if position > 0 and gap < -self.sample_rate:
                reset, gap = reset - gap, 0  # the clock began anew, as where two files were joined
            if gap and (position == 0 or abs(gap) > GAP_SECONDS * self.sample_rate):
                yield from self._silence(gap)
                samples = samples[:, max(0, -gap) :]
                position += max(0, gap)
            if not np.isfinite(samples).all():
                at = position / self.sample_rate
                raise VideoFileError(f"{self.path}: NaN or infinity at {at:.3f} s; export the file again")
            if samples.shape[1]:
                position += samples.shape[1]
                yield samples
        if position == 0:
            raise VideoFileError(f"{self.path}: its sound holds no samples; a video with sound is needed")

    def _silence(self, num_samples: int) -> Iterator[Waveform]:
        if num_samples > _MAX_GAP_SECONDS * self.sample_rate:
            raise VideoFileError(
                f"{self.path}: its sound has a gap of more than a day; export the file again"
            )
        while num_samples > 0:
            yield np.zeros((self.channels, min(num_samples, _BLOCK)), np.float32)
            num_samples -= _BLOCK

    def _decoded(self) -> Iterator[tuple[Fraction | None, Waveform]]:
        """Start in seconds (None: right after the one before) and samples (C, n) of each decoded frame."""
        import av

        end: Fraction | float = 0
        with open_input(self.path) as container:
            stream = container.streams.audio[0]
            # Packed: PyAV 18 counts planes wrongly beyond 8 channels.
            to_float = av.AudioResampler(format="flt", layout=self._read_layout, rate=self.sample_rate)
            try:
                if picture_of(container) is None:  # what a codec needs to begin is no part of a sound alone
                    begin = max(Fraction(0), (stream.start_time or 0) * stream.time_base)
                else:
                    begin = clock_start(container)
                for frame, is_last in _and_last(container.decode(stream)):
                    time = None if frame.pts is None else frame.pts * frame.time_base - begin
                    num_samples = _num_played(frame, stream) if is_last else frame.samples
                    for part in to_float.resample(frame):
                        samples = part.to_ndarray().reshape(-1, self.channels).T[:, :num_samples]
                        yield time, np.ascontiguousarray(samples)
                    end = (time or end) + Fraction(num_samples, self.sample_rate)
            except (av.FFmpegError, ValueError) as error:
                raise VideoFileError(
                    f"{self.path}: its sound is damaged after {float(end):.2f} s; fetch or export it again"
                ) from error
            promised = stated_seconds(container)
        end += begin  # Matroska promises where it ends on its own clock
        if promised is not None and end < promised - DURATION_TOLERANCE:
            lengths = f"{promised:.2f} s are promised, {float(end):.2f} s are there"
            raise VideoFileError(f"{self.path}: its sound is cut short: {lengths}; fetch or export it again")


def open_sound(path: Path) -> AudioReader | Soundtrack:
    """Any recording as it will be converted: that of a video, whatever its name says, on the video's clock.

    Raises `AudioFileError` and `VideoFileError` as these readers do.
    """
    is_tracked = has_pictures(path) or path.suffix.lower() in WITHOUT_PICTURES
    return Soundtrack(path) if is_tracked else AudioReader(path)


def _and_last(frames: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Each frame, and whether it is the last."""
    held = None
    for frame in frames:
        if held is not None:
            yield held, False
        held = frame
    if held is not None:
        yield held, True


def _num_played(frame: Any, stream: Any) -> int:
    """Samples of the last frame that belong to the sound: the last packet of MP4 says how many.

    Of any other packet it says when the next one begins, to the millisecond where the file was made from another.
    """
    exact = (
        stream.container.format.name == _MP4
        and stream.time_base == Fraction(1, frame.sample_rate)
        and frame.duration
    )
    return min(frame.samples, frame.duration) if exact else int(frame.samples)


def codec_for(output_format: str, source_codec: str) -> str:
    """The encoder for a container: lossless where the source is and the container can; AAC stays AAC in Matroska."""
    lossless, lossy = _CODECS[output_format]
    if output_format == "matroska" and source_codec.startswith("aac"):
        return "aac"
    return lossless if source_codec.startswith(_LOSSLESS_SOURCES) else lossy


def is_lossy(codec: str) -> bool:
    """Whether what a codec decodes to is not what was encoded."""
    return codec in _RATES


def rate_for(codec: str, sample_rate: int) -> int:
    """The rate at which a codec stores sound of `sample_rate` Hz: the same where it has it, else the next above."""
    rates = _RATES.get(codec, (sample_rate,))
    return min((rate for rate in rates if rate >= sample_rate), default=max(rates))


class Encoder:
    """The new sound stream of an output container, at `sample_rate` Hz in FFmpeg's `layout`."""

    def __init__(self, output: Any, codec: str, sample_rate: int, layout: str) -> None:
        import av

        if codec in _CHOOSY:
            layout = _LAYOUTS.get(layout, layout)
        self.sample_rate, self.layout = sample_rate, layout
        self.rate = rate_for(codec, sample_rate)
        self.stream = output.add_stream(codec, rate=self.rate)
        self.stream.codec_context.layout = layout
        self.stream.codec_context.format = _SAMPLE_FORMATS[codec]
        self.stream.codec_context.time_base = Fraction(1, self.rate)
        self.channels = av.AudioLayout(layout).nb_channels
        if is_lossy(codec):
            self.stream.codec_context.bit_rate = _LOSSY_BITS_PER_SECOND * self.channels

    def packets(self, blocks: Iterable[Waveform]) -> Iterator[Any]:
        """Encode blocks (C, n) within -1..1 that start at time 0."""
        import av

        to_format = av.AudioResampler(
            format=self.stream.codec_context.format, layout=self.layout, rate=self.rate
        )
        position = 0
        for block in resample_blocks(blocks, self.sample_rate, self.rate, self.channels):
            for start in range(0, block.shape[1], _BLOCK):
                part = np.ascontiguousarray(block[:, start : start + _BLOCK].T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(part, format="flt", layout=self.layout)
                frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
                frame.pts = position
                position += part.shape[1] // self.channels
                for converted in to_format.resample(frame):
                    yield from self.stream.encode(converted)
        yield from self.stream.encode(None)
