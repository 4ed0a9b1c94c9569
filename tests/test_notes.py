"""What stands in a WAV file beside its sound."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mvsd import audio_writer
from mvsd.audio import AudioReader
from mvsd.blockwise import Blocks, Blockwise, Request
from mvsd.files import convert_file
from mvsd.notes import Chunk, _chunks, append_chunks, read_notes

RATE = 8000
_NAMES = (b"Scene 1", b"mvsd", b"", b"2026-11-30", b"12:00:00")
TIMECODE = struct.pack("<256s32s32s10s8sQH", *_NAMES, 480_000, 1) + b"\0" * 254
CUES = struct.pack("<I", 1) + struct.pack("<II4sIII", 1, 100, b"data", 0, 0, 100)
LABELS = b"adtl" + b"labl" + struct.pack("<I", 8) + struct.pack("<I", 1) + b"loo\0"
CHUNKS = (
    (b"bext", TIMECODE),
    (b"cue ", CUES),
    (b"LIST", LABELS),
    (b"iXML", b"<BWFXML><SCENE>1</SCENE></BWFXML>"),
)


class Half(Blockwise):
    """Half of everything."""

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        for block in blocks:
            yield 0.5 * block


def chunks_of(path: Path) -> tuple[Chunk, ...]:
    return read_notes(path, {}).chunks


def noted(path: Path, container: str = "WAV") -> Path:
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 999), RATE, "PCM_24", format=container)
    append_chunks(path, CHUNKS)
    return path


def test_tags_of_older_programs_keep_their_letters(tmp_path: Path) -> None:
    texts = b"INFO" + b"".join(
        name + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
        for name, text in (
            (b"INAM", "Küche".encode("cp1252") + b"\0rest"),
            (b"IART", "Ännchen".encode()),
            (b"ICMT", "K\ufffdche".encode()),
        )
    )
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(999), RATE, "PCM_16")
    append_chunks(path, ((b"LIST", texts),))
    convert_file(Half(), path, path, force=True)
    with soundfile.SoundFile(path) as file:
        assert (file.title, file.artist, file.comment) == ("Küche", "Ännchen", "")
    assert read_notes(tmp_path / "a.flac", {"title": "K\ufffdche", "album": "b"}).tags == {"album": "b"}


@pytest.mark.parametrize("container", ["WAV", "RF64"])
def test_chunks_come_back_and_the_sound_stays(tmp_path: Path, container: str) -> None:
    path = noted(tmp_path / "a.wav", container)
    assert chunks_of(path) == CHUNKS
    sound, rate = soundfile.read(path)
    assert (len(sound), rate) == (999, RATE)
    header = path.read_bytes()[:28]
    (promised,) = struct.unpack("<I", header[4:8]) if container == "WAV" else struct.unpack("<Q", header[20:])
    assert promised == path.stat().st_size - 8


def test_a_timecode_is_read_by_others(tmp_path: Path) -> None:
    convert_file(Half(), noted(tmp_path / "take.wav"), tmp_path / "dry.wav")
    assert chunks_of(tmp_path / "dry.wav") == CHUNKS
    with av.open(str(tmp_path / "dry.wav")) as file:
        assert file.metadata["time_reference"] == "480000"
        assert sum(frame.samples for frame in file.decode(audio=0)) == 999
    np.testing.assert_allclose(
        soundfile.read(tmp_path / "dry.wav")[0], 0.5 * soundfile.read(tmp_path / "take.wav")[0], atol=2e-7
    )


@pytest.mark.parametrize("most", [100, 3 * 999 + 100], ids=["the sound is too long", "both together are"])
def test_a_long_file_keeps_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(audio_writer, "_MAX_32_BIT_SIZE", most)
    convert_file(Half(), noted(tmp_path / "take.wav"), tmp_path / "dry.wav")
    assert (tmp_path / "dry.wav").read_bytes()[:4] == b"RF64"
    assert chunks_of(tmp_path / "dry.wav") == CHUNKS
    reader = AudioReader(tmp_path / "dry.wav")
    assert (reader.num_samples, reader.notes.chunks) == (999, CHUNKS)


def surround(path: Path, layout: str) -> Path:
    """A WAV file by FFmpeg, whose header says which loudspeaker each channel is for."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=RATE, layout=layout)
        num_channels = stream.layout.nb_channels
        sound = np.random.default_rng(0).integers(-9999, 9999, (1, num_channels * 500), dtype=np.int16)
        frame = av.AudioFrame.from_ndarray(sound, format="s16", layout=layout)
        frame.sample_rate = RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("most", [2**32, 100], ids=["WAV", "RF64"])
@pytest.mark.parametrize("layout", ["5.1(side)", "5.1", "quad(side)"])
def test_channels_stay_with_their_loudspeakers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, most: int
) -> None:
    monkeypatch.setattr(audio_writer, "_MAX_32_BIT_SIZE", most)
    source = surround(tmp_path / "film.wav", layout)
    convert_file(Half(), source, tmp_path / "dry.wav")
    with av.open(str(tmp_path / "dry.wav")) as file:
        assert file.streams.audio[0].layout.name == layout
    np.testing.assert_allclose(
        soundfile.read(tmp_path / "dry.wav")[0], 0.5 * soundfile.read(source)[0], atol=2**-15
    )
    convert_file(Half(), source, tmp_path / "dry.flac")
    assert soundfile.info(tmp_path / "dry.flac").channels == soundfile.info(source).channels


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_where_nothing_is_said_of_loudspeakers_nothing_is(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "plain.wav", np.full((99, channels), 0.1), RATE, "PCM_16")
    convert_file(Half(), tmp_path / "plain.wav", tmp_path / "half.wav")
    assert soundfile.info(tmp_path / "half.wav").format == "WAV"
    assert read_notes(tmp_path / "half.wav", {}).speakers == 0


def test_another_container_goes_without(tmp_path: Path) -> None:
    convert_file(Half(), noted(tmp_path / "take.wav"), tmp_path / "dry.flac")
    assert chunks_of(tmp_path / "dry.flac") == ()
    assert soundfile.info(tmp_path / "dry.flac").frames == 999


def test_a_claim_of_gigabytes_is_not_believed(tmp_path: Path) -> None:
    path = noted(tmp_path / "a.wav")
    with path.open("ab") as file:
        file.write(b"iXML" + struct.pack("<I", 2**32 - 2) + b"short")
    assert chunks_of(path) == CHUNKS


@settings(max_examples=60)
@given(content=st.binary(max_size=80))
def test_nothing_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.wav"
    for start in (b"", b"RIFF\xff\xff\xff\xffWAVE", b"RF64\xff\xff\xff\xffWAVEds64"):
        path.write_bytes(start + content)
        assert sum(len(chunk) for _, chunk in chunks_of(path)) <= len(content)


def test_the_samples_of_a_stream_are_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A WAV file from a pipe does not say where its sound ends; zeros look like empty chunks."""
    soundfile.write(tmp_path / "a.wav", np.zeros(9999), RATE, "PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    place = content.index(b"data") + 4
    content[4:8] = content[place : place + 4] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(content)
    with (tmp_path / "a.wav").open("rb") as file:
        assert [name for name, _ in _chunks(file)] == [b"fmt "]
    assert AudioReader(tmp_path / "a.wav").num_samples == 9999


def test_what_a_recorder_measured_of_the_sound_is_not_said_of_another(tmp_path: Path) -> None:
    """Version 2 of bext has an identity and five loudness figures; the timecode before them stays."""
    facts = struct.pack("<H64s5h", 2, b"\1" * 64, -2300, 500, -100, -2000, -2100) + bytes(180) + b"coded"
    noted = TIMECODE[:346] + facts
    for content, expected in (
        (noted, TIMECODE[:346] + struct.pack("<H64s5h", 2, b"", *[0x7FFF] * 5) + bytes(180) + b"coded"),
        (TIMECODE, TIMECODE),
        (noted[:400], noted[:400]),
    ):
        path = tmp_path / "in.wav"
        soundfile.write(path, np.zeros(99), RATE)
        append_chunks(path, ((b"bext", content),))
        assert chunks_of(path) == ((b"bext", expected),)
