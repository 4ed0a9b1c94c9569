"""Small videos made with PyAV's own encoders, and what is in a video, read without the package under test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

FORMATS = {
    ".mp4": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".m4a": "mp4",
    ".mka": "matroska",
}
TICKS = 12_800  # of the pictures' clock, per second
SIZE = (48, 64)


class Kind(NamedTuple):
    """A container and its codecs."""

    suffix: str
    pictures: str
    sound: str


KINDS = [
    Kind(".mp4", "libx264", "aac"),
    Kind(".mp4", "mpeg4", "alac"),
    Kind(".mov", "libx264", "aac"),
    Kind(".mov", "mpeg4", "pcm_s24le"),
    Kind(".mkv", "libx264", "libopus"),
    Kind(".mkv", "libx264", "aac"),
    Kind(".mkv", "libvpx-vp9", "flac"),
    Kind(".webm", "libvpx-vp9", "libopus"),
    Kind(".webm", "libvpx", "libopus"),
]


def noise(num_samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise without what codecs throw away above 8 kHz at 48 kHz: (C, n)."""
    white = np.random.default_rng(seed).standard_normal((channels, num_samples))
    spectrum = np.fft.rfft(white)
    spectrum[:, len(spectrum[0]) // 3 :] = 0
    smooth = np.fft.irfft(spectrum, num_samples)
    return (0.1 * smooth / smooth.std()).astype(np.float32)


def pictures(num_frames: int, seed: int = 0) -> list[np.ndarray]:
    """Frames (48, 64, 3) of one scene that moves a little."""
    rng = np.random.default_rng(seed)
    wall = np.kron(rng.integers(30, 226, (8, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return [wall[i % 3 : i % 3 + SIZE[0], i % 5 : i % 5 + SIZE[1]] for i in range(num_frames)]


def regular(num_frames: int) -> np.ndarray:
    """Times of frames at 25 per second, in ticks."""
    return 512 * np.arange(num_frames)


def irregular(num_frames: int, seed: int = 1) -> np.ndarray:
    """Times of frames that come as they like, in ticks; the first is not at 0."""
    return 256 + np.cumsum(np.random.default_rng(seed).integers(150, 1200, num_frames))


def make_video(
    path: Path,
    kind: Kind,
    frames: Sequence[np.ndarray] = (),
    times: Sequence[int] | np.ndarray | None = None,
    sounds: Sequence[tuple[float, np.ndarray]] = (),
    rate: int = 48_000,
    *,
    more_sounds: Sequence[np.ndarray] = (),
    metadata: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video: frames (H, W, 3) at times in ticks, and pieces of sound (C, n) at seconds."""
    with av.open(str(path), "w", format=FORMATS[path.suffix], options=options or {}) as output:
        output.metadata.update(metadata or {})
        streams: list[tuple[Any, list[Any]]] = []
        if len(frames):
            streams.append(
                _add_pictures(output, kind.pictures, frames, regular(len(frames)) if times is None else times)
            )
        for pieces in [list(sounds)] * bool(sounds) + [[(0.0, sound)] for sound in more_sounds]:
            streams.append(_add_sound(output, kind.sound, pieces, rate))
            streams[-1][0].metadata["language"] = "nor"
        packets = [
            packet for stream, made in streams for frame in [*made, None] for packet in stream.encode(frame)
        ]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def _add_pictures(output: Any, codec: str, frames: Sequence[np.ndarray], times: Any) -> tuple[Any, list[Any]]:
    stream = output.add_stream(codec, rate=25)
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, TICKS)
    if codec.startswith("libvpx"):
        stream.codec_context.options = {"cpu-used": "8", "deadline": "realtime", "lag-in-frames": "0"}
    made = []
    for time, picture in zip(times, frames, strict=True):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = int(time), Fraction(1, TICKS)
        made.append(frame)
    return stream, made


def _add_sound(
    output: Any, codec: str, pieces: Sequence[tuple[float, np.ndarray]], rate: int
) -> tuple[Any, list[Any]]:
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(pieces[0][1])]
    stream = output.add_stream(codec, rate=rate, layout=layout)
    stream.codec_context.time_base = Fraction(1, rate)
    if codec == "aac":
        stream.codec_context.bit_rate = 128_000 * len(pieces[0][1])
    made = []
    for start, sound in pieces:
        size = stream.codec_context.frame_size or 1024
        for index in range(0, sound.shape[1], size):
            part = np.ascontiguousarray(sound[:, index : index + size].astype(np.float32))
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(start * rate) + index
            made.append(frame)
    return stream, made


class Packet(NamedTuple):
    """What must not change of a packet."""

    pts: Fraction
    dts: Fraction | None
    digest: str


def packets(path: Path, kind: str = "video", index: int = 0) -> list[Packet]:
    """The packets of a stream, in the order of the file."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[index]
        return [
            Packet(
                packet.pts * packet.time_base,
                None if packet.dts is None else packet.dts * packet.time_base,
                hashlib.sha256(bytes(packet)).hexdigest(),
            )
            for packet in container.demux(stream)
            if packet.size
        ]


def frame_digests(path: Path) -> list[tuple[float, str]]:
    """Time and hash of the pixels of every decoded frame."""
    with av.open(str(path)) as container:
        return [
            (frame.time, hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest())
            for frame in container.decode(video=0)
        ]


def heard(path: Path, rate: int, index: int = 0) -> np.ndarray:
    """The sound of a video on its clock (C, n): each decoded frame is put where its own timestamp says.

    Frames that follow each other to within 2 ms, to which some containers round, are put without a gap.
    """
    with av.open(str(path)) as container:
        stream = container.streams.audio[index]
        convert = av.AudioResampler(format="fltp", layout=stream.codec_context.layout, rate=rate)
        sound = np.zeros((stream.codec_context.channels, 0), np.float32)
        for frame in container.decode(stream):
            start, end = round(frame.pts * frame.time_base * rate), sound.shape[1]
            start = end if end and abs(start - end) <= 0.002 * rate else start
            assert start >= end or end == 0, "frames overlap"
            gap = np.zeros((len(sound), max(0, start - end)), np.float32)
            parts = [part.to_ndarray() for part in convert.resample(frame)]
            sound = np.concatenate([sound, gap, *parts], axis=1)[:, max(0, -start) if end == 0 else 0 :]
    return sound


def delay(reference: np.ndarray, sound: np.ndarray) -> float:
    """By how many samples `sound` (n,) comes after `reference` (n,): the peak of their correlation, to 1/16."""
    fine, size = 16, len(reference) + len(sound)
    spectrum = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(reference, size))
    best = int(np.argmax(np.fft.irfft(spectrum)))
    # The correlation between samples: the inverse transform at fractions around the peak.
    at = best + np.arange(-fine, fine + 1) / fine
    phases = np.exp(2j * np.pi * np.outer(at, np.arange(len(spectrum))) / size)
    best_at = float(at[np.argmax((phases @ spectrum).real)])
    return best_at if best_at < size / 2 else best_at - size
