"""A sound file is written whole or not at all, and never clips.

The samples are spooled as 32-bit float to a nameless temporary file in the destination's folder while the
peak is tracked; on success they are converted into a second temporary file, which then takes the
destination's name.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

import numpy as np
import soundfile
from numpy.typing import NDArray

from mvsd.channel_order import to_ogg
from mvsd.container import FORMATS
from mvsd.errors import AudioFileError
from mvsd.level import unclipped_gain
from mvsd.notes import Notes, append_chunks, write_speakers
from mvsd.waveform import whole_rate
from mvsd.whole_file import require_free, whole_file

CONTAINERS = {
    ".wav": "WAV",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".opus": "OGG",
    ".mp3": "MP3",
    ".aiff": "AIFF",
    ".aif": "AIFF",
    ".caf": "CAF",
    ".w64": "W64",
    ".rf64": "RF64",
}
_BITS = {
    "PCM_U8": 8,
    "PCM_S8": 8,
    "PCM_16": 16,
    "ALAC_16": 16,
    "ALAC_20": 20,
    "PCM_24": 24,
    "ALAC_24": 24,
    "PCM_32": 32,
    "ALAC_32": 32,
}
_FLOATING = ("FLOAT", "DOUBLE")
_LOSSY = {".ogg": "VORBIS", ".opus": "OPUS", ".mp3": "MPEG_LAYER_III"}
_SPEECH_CODECS = ("LAW", "ADPCM", "GSM610", "G721", "G723", "DWVW")  # hold 16 bits at most
_LIMITS = {
    "FLAC": "at most 8 channels and 655,350 Hz",
    "MP3": "1 or 2 channels at 8,000 to 48,000 Hz",
    "OPUS": "8,000, 12,000, 16,000, 24,000 or 48,000 Hz",
}
_MAX_32_BIT_SIZE = 2**32 - 2**16  # bytes of sound in a file whose header counts in 32 bits
_BLOCK_VALUES = 2**16  # libsndfile's Vorbis encoder overflows its stack on long writes


def closest_subtype(path: str | Path, wanted: str | None = None) -> str:
    """The sample format for a new file: `wanted` where the container has it, else the closest.

    Names are libsndfile's (or a codec's). A lossy source decodes to more than 16 bits, so PCM_24 follows from
    it, as it does from None: 144 dB of range in three quarters of FLOAT's size, and every program plays it. ADPCM and
    GSM pad the length to whole packets and become PCM_16; ALAC becomes PCM, as libsndfile's encoder (1.2.2)
    corrupts 24 bits.
    """
    suffix, container = Path(path).suffix.lower(), container_of(path)
    if suffix in _LOSSY:
        return "OPUS" if wanted == "OPUS" and container == "OGG" else _LOSSY[suffix]
    is_exact = wanted in _FLOATING or wanted in ("ULAW", "ALAW") or str(wanted).startswith("PCM")
    if wanted and is_exact and soundfile.check_format(container, wanted):
        return wanted
    num_bits = _BITS.get(wanted or "", 32 if wanted in _FLOATING else 24)
    if wanted and any(name in wanted for name in _SPEECH_CODECS):
        num_bits = 16
    held = [name for name in _BITS if name.startswith("PCM") and soundfile.check_format(container, name)]
    return next((name for name in held if _BITS[name] >= num_bits), held[-1])


def container_of(path: str | Path) -> str:
    """libsndfile's name of the suffix' container; `AudioFileError` for a suffix that cannot be written."""
    suffix = Path(path).suffix.lower()
    if suffix in CONTAINERS:
        return CONTAINERS[suffix]
    if str(path) == "-":
        raise AudioFileError(f"{path}: pipes are not read or written; give file names")
    came = f"{suffix} cannot be written" if suffix else "the output's name has no suffix"
    raise AudioFileError(
        f"{path}: {came}; use one of {' '.join(CONTAINERS)}, or for a video {' '.join(FORMATS)}"
    )


@final
class AudioWriter:
    """A context manager that takes blocks (C, n) and leaves a whole sound file, or the old file or none.

    The suffix of `path` chooses the container and `closest_subtype` the sample format. `gain_db`, 0.0 unless it is set
    before the end, is applied to the whole file; where that would clip a fixed-point or lossy file, a lower gain is
    (`mvsd.level.unclipped_gain`), and after success `gain_db` says which one. `notes` are `AudioReader.notes`, of which
    a container takes what it can.

    Raises `OutputExistsError` if the file is there and `force` is false; `AudioFileError` for a suffix,
    channel count or rate that cannot be written, a folder that is not there or not writable, a full disk, NaN,
    whole numbers, or no samples.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        *,
        subtype: str | None = None,
        notes: Notes | None = None,
        force: bool = False,
    ) -> None:
        self.path = Path(path)
        self.notes = notes or Notes()
        self.container = container_of(path)
        self.sample_rate = whole_rate(sample_rate, f"{path}: ", AudioFileError)
        self.channels, self.force = channels, force
        self.subtype = closest_subtype(path, subtype)
        self.num_samples = 0
        self.gain_db = 0.0
        self.peak = 0.0
        self._spool: Any = None
        self._target = Path(os.path.realpath(self.path))  # a link keeps pointing to its file
        self._require_free()
        self._require_folder()
        self._require_format()

    def __enter__(self) -> AudioWriter:
        with self._io_errors():
            self._spool = tempfile.TemporaryFile(dir=self._target.parent)
        return self

    def __exit__(self, exception_type: object, *_: object) -> None:
        try:
            if exception_type is None:
                self._finish()
        finally:
            try:
                self._spool.close()
            except OSError:  # a full disk, said already when the block was written
                pass

    def write(self, block: NDArray[Any]) -> None:
        """Appends a block (C, n)."""
        if block.ndim != 2 or len(block) != self.channels:
            raise ValueError(f"a block of shape {block.shape} came, ({self.channels}, n) was wanted")
        if block.dtype.kind != "f":
            raise AudioFileError(
                f"{self.path}: {block.dtype} was to be written; floats in -1..1 are wanted (16 bit: divide by 32768)"
            )
        samples = np.ascontiguousarray(block.T, dtype=np.float32)
        peak = float(np.abs(samples).max(initial=0.0))
        if not np.isfinite(peak):
            raise AudioFileError(f"{self.path}: NaN or infinity was to be written; nothing was")
        self.peak = max(self.peak, peak)
        self.num_samples += len(samples)
        with self._io_errors():
            self._spool.write(samples.data if samples.size else b"")

    def _finish(self) -> None:
        if self.num_samples == 0:
            raise AudioFileError(f"{self.path}: no samples came, so nothing was written")
        gain = 10 ** (self.gain_db / 20)
        if self.subtype not in _FLOATING:
            gain = unclipped_gain(gain, self.peak, is_lossy=self.subtype in _LOSSY.values())
        with whole_file(self.path, AudioFileError, force=self.force) as temporary, self._io_errors():
            self._convert(temporary, gain)
        self.gain_db = float(20.0 * np.log10(gain))

    def _convert(self, temporary: Path, gain: float) -> None:
        """Spool -> `temporary` in the final format."""
        container = self._sized_container()
        is_wave = container in ("WAV", "RF64")
        has_speakers = is_wave and self.notes.speakers.bit_count() == self.channels
        if has_speakers and container == "WAV":
            container = "WAVEX"
        num_frames = max(1, _BLOCK_VALUES // self.channels)
        order = to_ogg(self.channels) if container == "OGG" else np.arange(self.channels)
        self._spool.seek(0)
        with soundfile.SoundFile(
            temporary, "w", self.sample_rate, self.channels, self.subtype, format=container
        ) as file:
            for name, text in self.notes.tags.items():
                with suppress(soundfile.LibsndfileError):  # not every container holds every one
                    setattr(file, name, text)
            while data := self._spool.read(4 * self.channels * num_frames):
                block = np.frombuffer(data, np.float32).reshape(-1, self.channels)[:, order] * np.float32(
                    gain
                )
                file.write(_fixed_point(block, _BITS[self.subtype]) if self.subtype in _BITS else block)
        num_written = soundfile.info(temporary).frames
        if num_written != self.num_samples:
            raise AudioFileError(
                f"{self.path}: {num_written} of {self.num_samples} samples reached the disk; is it full?"
            )
        if has_speakers:
            write_speakers(temporary, self.notes.speakers)
        if self.notes.chunks and is_wave:
            append_chunks(temporary, self.notes.chunks)

    def _sized_container(self) -> str:
        """RF64, which counts in 64 bits, under the name .wav where 32 bits do not do."""
        size = (
            self.num_samples
            * self.channels
            * (8 if self.subtype == "DOUBLE" else _BITS.get(self.subtype, 32) // 8)
        )
        if self.container == "WAV":
            size += sum(9 + len(content) for _, content in self.notes.chunks)  # header and, perhaps, padding
        if size < _MAX_32_BIT_SIZE or self.container not in ("WAV", "AIFF"):
            return self.container
        if self.container == "WAV":
            return "RF64"
        raise AudioFileError(
            f"{self.path}: {size} bytes of sound are too many for AIFF (4 GiB); use .wav, .w64 or .caf"
        )

    def _require_free(self) -> None:
        if self._target.is_dir():
            raise AudioFileError(f"{self.path}: a folder; give the name of the sound file to write")
        require_free(self.path, self.force, AudioFileError)

    def _require_folder(self) -> None:
        folder = self._target.parent
        if not folder.is_dir():
            raise AudioFileError(f"{self.path}: there is no folder {folder}; create it first")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise AudioFileError(f"{self.path}: the folder {folder} is not writable; choose another")

    def _require_format(self) -> None:
        """Asks libsndfile itself, with a file in memory."""
        try:
            soundfile.SoundFile(
                io.BytesIO(), "w", self.sample_rate, self.channels, self.subtype, format=self.container
            ).close()
        except (soundfile.SoundFileError, ValueError, TypeError, OverflowError) as error:
            name = "OPUS" if self.subtype == "OPUS" else self.container
            limit = f" (it holds {_LIMITS[name]})" if name in _LIMITS else ""
            advice = "" if self.path.suffix.lower() == ".wav" else "; use .wav"
            raise AudioFileError(
                f"{self.path}: {name} cannot hold {self.channels} channel(s) at {self.sample_rate} Hz{limit}{advice}"
            ) from error

    @contextmanager
    def _io_errors(self) -> Iterator[None]:
        """Turns what the system says into one line."""
        try:
            yield
        except OSError as error:
            raise AudioFileError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        except (soundfile.SoundFileError, AssertionError) as error:  # soundfile asserts that all was written
            is_full = shutil.disk_usage(self._target.parent).free < 2**20
            reason = (
                "No space left on device" if is_full else str(error).strip() or "the disk took only a part"
            )
            raise AudioFileError(f"{self.path}: cannot be written ({reason})") from error


def _fixed_point(block: NDArray[np.float32], num_bits: int) -> NDArray[np.int32]:
    """Rounds to `num_bits` in the upper bits of 32.

    libsndfile's own conversion truncates, so that samples read and written unchanged would not come out the
    same.
    """
    limit = 2.0 ** (num_bits - 1)
    rounded = np.clip(np.rint(block.astype(np.float64) * limit), -limit, limit - 1)
    return (rounded * 2.0 ** (32 - num_bits)).astype(np.int32)
