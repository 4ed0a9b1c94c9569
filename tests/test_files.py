"""A file through a converter: same format, exact length, constant memory, all or nothing."""

from __future__ import annotations

import errno
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mvsd.audio import load_audio, rechunk, save_audio
from mvsd.blockwise import Blocks, Request
from mvsd.errors import AudioFileError, MvsdError, OutputExistsError
from mvsd.files import ConversionReport, convert_file
from mvsd.scene import Scene

RATE = 16_000


class Gain:
    """The simplest converter; it regroups the blocks, as real ones do, and may fail or break its promise."""

    def __init__(self, gain: float = 0.5, *, fail: BaseException | None = None, num_extra: int = 0) -> None:
        self.gain, self.fail, self.num_extra = gain, fail, num_extra
        self.request: Request | None = None

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        self.request = request
        for block in rechunk(blocks, 7001):
            yield self.gain * block
        if self.fail is not None:
            raise self.fail
        if self.num_extra:
            yield np.zeros((request.num_channels, self.num_extra), np.float32)


def noise(num_samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(num_samples).uniform(-1, 1, (channels, num_samples)).astype(np.float32)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("source", "given", "output", "expected"),
    [
        ("in.wav", "PCM_U8", "out.wav", "PCM_U8"),
        ("in.wav", "PCM_16", "out.wav", "PCM_16"),
        ("in.wav", "PCM_24", "out.flac", "PCM_24"),
        ("in.wav", "FLOAT", "out.wav", "FLOAT"),
        ("in.wav", "DOUBLE", "out.aiff", "DOUBLE"),
        ("in.flac", "PCM_16", "out.w64", "PCM_16"),
        ("in.ogg", None, "out.wav", "PCM_24"),
        ("in.mp3", None, "out.wav", "PCM_24"),
        ("in.mp3", None, "out.mp3", "MPEG_LAYER_III"),
    ],
)
def test_the_sample_format_stays(
    tmp_path: Path, source: str, given: str | None, output: str, expected: str
) -> None:
    save_audio(tmp_path / source, 0.3 * noise(20_000, 2), 44_100, subtype=given)
    report = convert_file(Gain(), tmp_path / source, tmp_path / output)
    assert report == ConversionReport(20_000, 44_100, 2, 20_000 / 44_100, 0.0, end_db=report.end_db)
    info = soundfile.info(tmp_path / output)
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (20_000, 44_100, 2, expected)
    if "mp3" not in output:
        tolerance = 1 / 100 if expected == "PCM_U8" else 1 / 2**14
        original = load_audio(tmp_path / source)[0]
        np.testing.assert_allclose(load_audio(tmp_path / output)[0], 0.5 * original, atol=tolerance)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_title_and_artist_stay(tmp_path: Path, suffix: str) -> None:
    source, output = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    with soundfile.SoundFile(source, "w", 44_100, 1) as file:
        file.title, file.artist = "A room", "Nobody"
        file.write(0.1 * noise(8000, 1)[0])
    convert_file(Gain(), source, output)
    with soundfile.SoundFile(output) as file:
        assert (file.title, file.artist) == ("A room", "Nobody")


@pytest.mark.parametrize("tail", [-1.0, np.nan, np.inf])
def test_a_tail_is_so_many_seconds(tmp_path: Path, tail: float) -> None:
    with pytest.raises(MvsdError, match="a tail of"):
        convert_file(Gain(), tmp_path / "in.wav", tmp_path / "out.wav", tail=tail)


def test_a_converter_that_changes_nothing_returns_the_same_bits(tmp_path: Path) -> None:
    save_audio(tmp_path / "in.wav", noise(30_000, 12), 96_000, subtype="PCM_16")
    convert_file(Gain(1.0), tmp_path / "in.wav", tmp_path / "out.wav")
    assert (tmp_path / "in.wav").read_bytes() == (tmp_path / "out.wav").read_bytes()


@settings(max_examples=25, deadline=None)
@given(
    num_samples=st.one_of(st.just(1), st.integers(1, 20_000)),
    channels=st.integers(1, 12),
    rate=st.sampled_from([8000, 44_100, 96_000]),
)
def test_every_length(
    tmp_path_factory: pytest.TempPathFactory, num_samples: int, channels: int, rate: int
) -> None:
    folder = tmp_path_factory.mktemp("lengths")
    waveform = noise(num_samples, channels)
    save_audio(folder / "in.wav", waveform, rate, subtype="FLOAT")
    report = convert_file(Gain(), folder / "in.wav", folder / "out.wav")
    assert (report.num_samples, report.channels, report.sample_rate) == waveform.shape[::-1] + (rate,)
    np.testing.assert_array_equal(load_audio(folder / "out.wav")[0], 0.5 * waveform)


def test_arguments_reach_the_converter(tmp_path: Path) -> None:
    save_audio(tmp_path / "in.wav", noise(100, 2), 8000)
    scene, converter = Scene(np.zeros((20, 20, 3), np.uint8)), Gain()
    convert_file(converter, tmp_path / "in.wav", tmp_path / "out.wav", scene, seed=7, steps=3)
    assert converter.request == Request(8000, 2, scene, seed=7, steps=3)


def test_progress(tmp_path: Path) -> None:
    save_audio(tmp_path / "in.wav", noise(20_000), RATE)
    calls: list[tuple[float, float | None]] = []
    convert_file(Gain(), tmp_path / "in.wav", tmp_path / "out.wav", progress=lambda *call: calls.append(call))
    assert [total for _, total in calls] == [1.25] * 3
    assert [done * RATE for done, _ in calls] == [7001, 14_002, 20_000]


def test_a_source_of_unknown_length(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        values = (noise(10_000, 2) * 32_767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(values.T.reshape(1, -1).copy(), format="s16", layout="stereo")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    totals: list[float | None] = []
    report = convert_file(
        Gain(1.0), tmp_path / "in.mkv", tmp_path / "out.wav", progress=lambda _, total: totals.append(total)
    )
    assert report.num_samples == 10_000 and set(totals) == {None}
    stored, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    np.testing.assert_array_equal(stored.T, values)


def test_a_loud_result_is_lowered_and_reported(tmp_path: Path) -> None:
    waveform = noise(10_000)
    save_audio(tmp_path / "in.wav", waveform, RATE, subtype="PCM_16")
    report = convert_file(Gain(4.0), tmp_path / "in.wav", tmp_path / "out.wav")
    peak = 4 * np.abs(waveform).max()
    assert report.gain_db == pytest.approx(-20 * np.log10(peak), abs=1e-3)
    np.testing.assert_allclose(load_audio(tmp_path / "out.wav")[0], 4 * waveform / peak, atol=2**-14)


def test_an_existing_output_is_kept_without_force_and_no_work_is_done(tmp_path: Path) -> None:
    save_audio(tmp_path / "in.wav", noise(100), RATE)
    (tmp_path / "out.wav").write_bytes(b"old")
    converter = Gain()
    with pytest.raises(OutputExistsError, match="--force"):
        convert_file(converter, tmp_path / "in.wav", tmp_path / "out.wav")
    assert (tmp_path / "out.wav").read_bytes() == b"old" and converter.request is None
    convert_file(converter, tmp_path / "in.wav", tmp_path / "out.wav", force=True)
    assert load_audio(tmp_path / "out.wav")[0].shape == (1, 100)


def test_the_recording_itself_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    waveform = noise(30_000)
    save_audio(path, waveform, RATE, subtype="FLOAT")
    with pytest.raises(OutputExistsError, match="the recording itself"):
        convert_file(Gain(), path, tmp_path / "." / "in.wav")
    convert_file(Gain(), path, path, force=True)
    np.testing.assert_array_equal(load_audio(path)[0], 0.5 * waveform)
    assert listing(tmp_path) == ["in.wav"]


@pytest.mark.parametrize("fail", [KeyboardInterrupt(), RuntimeError("out of luck"), SystemExit(1)])
def test_an_interrupt_leaves_nothing_and_loses_nothing(tmp_path: Path, fail: BaseException) -> None:
    save_audio(tmp_path / "in.wav", noise(20_000), RATE)
    (tmp_path / "out.wav").write_bytes(b"old")
    with pytest.raises(type(fail)):
        convert_file(Gain(fail=fail), tmp_path / "in.wav", tmp_path / "out.wav", force=True)
    assert listing(tmp_path) == ["in.wav", "out.wav"]
    assert (tmp_path / "out.wav").read_bytes() == b"old"


def test_a_source_found_damaged_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    waveform = np.zeros(200_000)
    waveform[170_000] = np.nan
    soundfile.write(tmp_path / "in.wav", waveform, RATE, "FLOAT")
    with pytest.raises(AudioFileError, match="NaN"):
        convert_file(Gain(), tmp_path / "in.wav", tmp_path / "out.wav")
    assert listing(tmp_path) == ["in.wav"]


def test_bad_sources_and_outputs(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="no such file"):
        convert_file(Gain(), tmp_path / "in.wav", tmp_path / "out.wav")
    save_audio(tmp_path / "in.wav", noise(100), RATE)
    with pytest.raises(AudioFileError, match="use one of"):
        convert_file(Gain(), tmp_path / "in.wav", tmp_path / "out.xyz")
    with pytest.raises(AudioFileError, match="no folder"):
        convert_file(Gain(), tmp_path / "in.wav", tmp_path / "missing" / "out.wav")


@pytest.mark.parametrize("num_extra", [1, 500])
def test_a_converter_that_breaks_its_promise(tmp_path: Path, num_extra: int) -> None:
    save_audio(tmp_path / "in.wav", noise(100), RATE)
    with pytest.raises(RuntimeError, match=f"{100 + num_extra} samples out of 100"):
        convert_file(Gain(num_extra=num_extra), tmp_path / "in.wav", tmp_path / "out.wav")
    assert listing(tmp_path) == ["in.wav"]


@pytest.mark.parametrize("step", ["spool", "result"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    class Full:
        """/dev/full in place of a file."""

        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*_: object) -> None:
        raise soundfile.LibsndfileError(2)

    save_audio(tmp_path / "in.wav", noise(20_000), RATE)
    if step == "spool":
        monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    else:
        monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(AudioFileError, match="No space left" if step == "spool" else "System error") as error:
        convert_file(Gain(), tmp_path / "in.wav", tmp_path / "out.wav")
    assert "\n" not in str(error.value) and "out.wav" in str(error.value)
    assert listing(tmp_path) == ["in.wav"]


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """Ten minutes are 77 MB of float32; a block of ten seconds is 1.3 MB."""
    path = tmp_path / "in.wav"
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros((10 * RATE, 2), np.int16))
    tracemalloc.start()
    report = convert_file(Gain(), path, tmp_path / "out.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.seconds == 600 and peak < 10e6
