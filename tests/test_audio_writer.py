"""Sound files out: formats, levels, and that a file is written whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mvsd import audio_writer
from mvsd.audio import (
    AudioWriter,
    load_audio,
    rechunk,
    save_audio,
)
from mvsd.audio_writer import closest_subtype
from mvsd.errors import AudioFileError, OutputExistsError
from mvsd.example import SAMPLES

RATE = 16_000


def noise(num_samples: int, channels: int = 1, *, peak: float = 0.5, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).uniform(-peak, peak, (channels, num_samples))
    return values.astype(np.float32)


def tone(num_samples: int, rate: int = RATE, frequency: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(num_samples) / rate)).astype(np.float32)


def only_line(error: pytest.ExceptionInfo[BaseException], path: Path) -> str:
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("subtype", "num_bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24)])
def test_unchanged_samples_come_out_bit_for_bit(tmp_path: Path, subtype: str, num_bits: int) -> None:
    limit = 2 ** (num_bits - 1)
    step = max(1, limit // 2**15)
    values = np.append(np.arange(-limit, limit, step, dtype=np.int64), limit - 1)
    stored = (values << (32 - num_bits)).astype(np.int32)
    soundfile.write(tmp_path / "in.wav", stored, RATE, subtype)
    waveform, rate = load_audio(tmp_path / "in.wav")
    save_audio(tmp_path / "out.wav", waveform, rate, subtype=subtype)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out.wav", dtype="int32")[0], stored)


@pytest.mark.parametrize("num_samples", [1, 2, 1000, 16_001])
@pytest.mark.parametrize(("suffix", "rate"), [(".ogg", 44_100), (".opus", 48_000), (".mp3", 44_100)])
def test_lossy_containers_keep_the_length(tmp_path: Path, suffix: str, rate: int, num_samples: int) -> None:
    path = tmp_path / f"a{suffix}"
    save_audio(path, tone(num_samples, rate), rate)
    loaded, loaded_rate = load_audio(path)
    assert (loaded.shape, loaded_rate) == ((1, num_samples), rate)
    if num_samples > 10_000:
        correlation = np.correlate(loaded[0, 2000:9000], tone(num_samples, rate)[1950:9050], "valid")
        assert abs(int(np.argmax(correlation)) - 50) <= 1


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("a.wav", None, "PCM_24"),
        ("a.wav", "PCM_S8", "PCM_U8"),
        ("a.aiff", "PCM_U8", "PCM_U8"),
        ("a.w64", "DOUBLE", "DOUBLE"),
        ("a.wav", "MPEG_LAYER_III", "PCM_24"),
        ("a.wav", "AAC", "PCM_24"),
        ("a.WAV", "IMA_ADPCM", "PCM_16"),
        ("a.wav", "ULAW", "ULAW"),
        ("a.flac", "ULAW", "PCM_16"),
        ("a.flac", "PCM_U8", "PCM_S8"),
        ("a.flac", "FLOAT", "PCM_24"),
        ("a.flac", "PCM_32", "PCM_24"),
        ("a.caf", "ALAC_16", "PCM_16"),
        ("a.flac", "ALAC_20", "PCM_24"),
        ("a.ogg", "PCM_16", "VORBIS"),
        ("a.ogg", "OPUS", "OPUS"),
        ("a.opus", "VORBIS", "OPUS"),
        ("a.mp3", "FLOAT", "MPEG_LAYER_III"),
        ("a.mp3", "OPUS", "MPEG_LAYER_III"),
    ],
)
def test_closest_subtype(name: str, wanted: str | None, expected: str) -> None:
    assert closest_subtype(name, wanted) == expected


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "ULAW"])
def test_fixed_point_is_lowered_instead_of_clipped(tmp_path: Path, subtype: str) -> None:
    waveform = np.stack([4.0 * tone(RATE), tone(RATE)])  # peak 1.2
    with AudioWriter(tmp_path / "a.wav", RATE, 2, subtype=subtype) as writer:
        for block in rechunk([waveform], 999):
            writer.write(block)
    peak = np.abs(waveform).max()
    assert writer.gain_db == pytest.approx(-20 * np.log10(peak))
    tolerance = 0.05 if subtype == "ULAW" else 2**-14
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav")[0], waveform / peak, atol=tolerance)


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".opus"])
def test_lossy_is_lowered_so_far_that_it_decodes_without_clipping(tmp_path: Path, suffix: str) -> None:
    voice, rate = load_audio(SAMPLES / "voice.flac")
    path = tmp_path / f"a{suffix}"
    peak = 1.5 / np.abs(voice).max() * voice
    assert save_audio(path, peak, rate) == pytest.approx(-20 * np.log10(1.5) - 1, abs=1e-3)
    assert np.abs(load_audio(path)[0]).max() <= 1
    assert save_audio(path, 0.66 * peak, rate, force=True) == 0  # nothing has to be lowered


def test_float_keeps_peaks_above_one(tmp_path: Path) -> None:
    with AudioWriter(tmp_path / "a.wav", RATE, 1, subtype="FLOAT") as writer:
        writer.write(np.array([[3.0, -4.0]]))
    assert writer.gain_db == 0.0
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav")[0], [[3.0, -4.0]])


def test_the_callers_array_is_not_changed(tmp_path: Path) -> None:
    waveform = 2 * noise(100, 2, peak=1.0)
    before = waveform.copy()
    save_audio(tmp_path / "a.wav", waveform, RATE)
    np.testing.assert_array_equal(waveform, before)


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with pytest.raises(OutputExistsError, match="--force") as error:
        save_audio(path, tone(10), RATE)
    only_line(error, path)
    assert path.read_bytes() == b"old"
    save_audio(path, tone(10), RATE, force=True)
    assert load_audio(path)[0].shape == (1, 10)
    assert path.stat().st_mode & 0o777 == 0o640
    assert listing(tmp_path) == ["a.wav"]


def test_an_output_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with pytest.raises(OutputExistsError), AudioWriter(path, RATE, 1) as writer:
        writer.write(tone(10)[None])
        path.write_bytes(b"somebody else's")
    assert path.read_bytes() == b"somebody else's"
    assert listing(tmp_path) == ["a.wav"]


def test_a_link_keeps_pointing_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.wav"
    link.symlink_to(tmp_path / "folder" / "real.wav")
    save_audio(link, tone(10), RATE)
    assert link.is_symlink() and (tmp_path / "folder" / "real.wav").is_file()


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, RuntimeError, MemoryError])
def test_an_interrupt_leaves_nothing_and_loses_nothing(
    tmp_path: Path, exception: type[BaseException]
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    with pytest.raises(exception), AudioWriter(path, RATE, 1, force=True) as writer:
        writer.write(tone(1000)[None])
        raise exception
    assert listing(tmp_path) == ["a.wav"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    convert = AudioWriter._convert

    def killed(self: AudioWriter, temporary: Path, gain: float) -> None:
        convert(self, temporary, gain)
        assert len(listing(tmp_path)) == 2
        os.kill(os.getpid(), number)

    monkeypatch.setattr(AudioWriter, "_convert", killed)
    handler = signal.getsignal(number)
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        save_audio(path, tone(1000), RATE, force=True)
    assert listing(tmp_path) == ["a.wav"] and path.read_bytes() == b"old"
    assert signal.getsignal(number) is handler


@pytest.mark.parametrize(("subtype", "limit"), [("PCM_16", 100_000), ("DOUBLE", 600_000)])
def test_a_full_disk(tmp_path: Path, subtype: str, limit: int) -> None:
    """A limited file size: PCM_16 fails on the spool (400 kB), DOUBLE on the result (800 kB)."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(AudioFileError, match="cannot be written|reached the disk") as error:
            save_audio(path, noise(100_000), RATE, subtype=subtype, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    only_line(error, path)
    assert listing(tmp_path) == ["a.wav"] and path.read_bytes() == b"old"


def test_a_writer_that_loses_samples_in_silence_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soundfile.SoundFile, "write", lambda self, data: None)
    with pytest.raises(AudioFileError, match="0 of 1000 samples reached the disk"):
        save_audio(tmp_path / "a.wav", tone(1000), RATE)
    assert listing(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioFileError, match="no folder"):
        AudioWriter(tmp_path / "missing" / "a.wav", RATE, 1)
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioFileError, match="a folder"):
        AudioWriter(tmp_path / "folder.wav", RATE, 1, force=True)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioFileError, match="is no file"):
        AudioWriter(tmp_path / "pipe.wav", RATE, 1, force=True)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(AudioFileError, match="not writable"):
        AudioWriter(tmp_path / "a.wav", RATE, 1)


@pytest.mark.parametrize(
    ("name", "channels", "rate", "expected"),
    [
        ("a.txt", 1, RATE, r"\.txt cannot be written; use one of \.wav"),
        ("a.m4a", 1, RATE, r"\.m4a cannot be written; use one of \.wav"),
        ("a", 1, RATE, "no suffix"),
        ("a.flac", 12, RATE, "at most 8 channels"),
        ("a.mp3", 3, RATE, "1 or 2 channels"),
        ("a.mp3", 1, 96_000, "48,000"),
        ("a.opus", 1, 44_100, "48,000 Hz"),
        ("a.wav", 2000, RATE, "cannot hold"),
        ("a.wav", 1, 0, "cannot hold 1 channel.s. at 0 Hz$"),
        ("a.aiff", 1, 0, "; use .wav$"),
        ("a.wav", 1, 44_100.5, "sample_rate is 44100.5; a whole number of Hz is wanted"),
    ],
)
def test_formats_that_cannot_be_written(
    tmp_path: Path, name: str, channels: int, rate: float, expected: str
) -> None:
    with pytest.raises(AudioFileError, match=expected) as error:
        AudioWriter(tmp_path / name, rate, channels)  # type: ignore[arg-type]
    only_line(error, tmp_path / name)
    assert listing(tmp_path) == []


def test_bad_blocks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shape"), AudioWriter(tmp_path / "a.wav", RATE, 2) as writer:
        writer.write(np.zeros((1, 5)))
    with pytest.raises(AudioFileError, match="NaN"):
        save_audio(tmp_path / "a.wav", np.array([0.0, np.nan]), RATE)
    with pytest.raises(AudioFileError, match="no samples"):
        save_audio(tmp_path / "a.wav", np.zeros((1, 0)), RATE)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_channels_that_come_last_are_told(tmp_path: Path, name: str) -> None:
    """As soundfile reads them: no file of 500 channels with 2 samples each."""
    path = tmp_path / name
    with pytest.raises(AudioFileError, match=r"shape \(500, 2\), 500 channels; .* give its .T$") as error:
        save_audio(path, noise(500, 2).T, RATE)
    only_line(error, path)
    with pytest.raises(AudioFileError, match=r"shape \(1, 2, 9\)"):
        save_audio(path, np.zeros((1, 2, 9)), RATE)
    assert listing(tmp_path) == []
    save_audio(path, noise(500, 2), 16_000.0)  # type: ignore[arg-type]
    assert soundfile.info(path).samplerate == 16_000


def test_whole_numbers_are_no_samples(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="int16 was to be written; floats in -1..1 are wanted"):
        save_audio(tmp_path / "a.wav", np.full(100, 3000, np.int16), 16_000)
    assert not list(tmp_path.iterdir())


def test_a_wav_too_long_for_32_bits_is_an_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_writer, "_MAX_32_BIT_SIZE", 1000)
    save_audio(tmp_path / "a.wav", tone(1000), RATE)
    assert soundfile.info(tmp_path / "a.wav").format == "RF64"
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav")[0][0], tone(1000), atol=2**-23)
    with pytest.raises(AudioFileError, match="AIFF"):
        save_audio(tmp_path / "a.aiff", tone(1000), RATE)
