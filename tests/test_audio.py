"""Sound files in: round trips against soundfile, every odd and bad input, resampling of streams."""

from __future__ import annotations

import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from mvsd import audio_writer
from mvsd.audio import (
    AudioReader,
    AudioWriter,
    load_audio,
    rechunk,
    resample,
    resample_blocks,
    resampled_length,
    save_audio,
    stated_seconds,
)
from mvsd.container import open_input
from mvsd.errors import AudioFileError, VideoFileError

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


def encode(
    path: Path, waveform: np.ndarray, rate: int, codec: str, options: dict[str, str] | None = None
) -> None:
    """Writes (C, T) with PyAV, an encoder independent of soundfile."""
    layout = {1: "mono", 2: "stereo", 12: "7.1.4"}[len(waveform)]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        for start in range(0, waveform.shape[1], 1024):
            block = waveform[:, start : start + 1024].T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="flt", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("rate", [2_000_000_000, 384_001])
def test_a_rate_beyond_belief_is_refused(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(100), rate)
    with pytest.raises(AudioFileError) as error:
        AudioReader(tmp_path / "a.wav")
    assert f"claims {rate} Hz; at most 384000 Hz" in only_line(error, tmp_path / "a.wav")


# -------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        (".wav", "PCM_U8", 1 / 128),
        (".wav", "PCM_16", 1 / 2**15),
        (".wav", "PCM_24", 1 / 2**23),
        (".wav", "PCM_32", 1e-7),
        (".wav", "FLOAT", 0.0),
        (".wav", "DOUBLE", 0.0),
        (".wav", "ULAW", 0.05),
        (".flac", "PCM_16", 1 / 2**15),
        (".flac", "PCM_24", 1 / 2**23),
        (".aiff", "PCM_S8", 1 / 128),
        (".caf", "PCM_24", 1 / 2**23),
        (".w64", "PCM_24", 1 / 2**23),
        (".rf64", "FLOAT", 0.0),
    ],
)
def test_both_ways_agree_with_soundfile(tmp_path: Path, suffix: str, subtype: str, tolerance: float) -> None:
    waveform = noise(5000, 2)
    theirs, ours = tmp_path / f"theirs{suffix}", tmp_path / f"ours{suffix}"
    container = audio_writer.CONTAINERS[suffix]
    soundfile.write(theirs, waveform.T, 44_100, subtype, format=container)
    save_audio(ours, waveform, 44_100, subtype=subtype)
    for path in (theirs, ours):
        loaded, rate = load_audio(path)
        assert (rate, loaded.shape, loaded.dtype) == (44_100, (2, 5000), np.float32)
        np.testing.assert_allclose(loaded, waveform, atol=tolerance)
        np.testing.assert_array_equal(loaded, soundfile.read(path, dtype="float32", always_2d=True)[0].T)
        reader = AudioReader(path)
        assert (reader.subtype, reader.num_samples, reader.channels) == (subtype, 5000, 2)


@settings(max_examples=25, deadline=None)
@given(
    num_samples=st.integers(1, 3000),
    channels=st.integers(1, 12),
    rate=st.sampled_from([8000, 11_025, 44_100, 48_000, 96_000, 192_000]),
    suffix=st.sampled_from([".wav", ".flac", ".w64", ".caf", ".aiff"]),
)
def test_any_length_channels_and_rate(
    tmp_path_factory: pytest.TempPathFactory, num_samples: int, channels: int, rate: int, suffix: str
) -> None:
    channels = min(channels, 8) if suffix == ".flac" else channels
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    waveform = noise(num_samples, channels, peak=1.0, seed=num_samples)
    save_audio(path, waveform, rate)
    loaded, loaded_rate = load_audio(path)
    assert loaded_rate == rate
    np.testing.assert_allclose(loaded, waveform, atol=2**-23)


def test_silence_and_a_single_sample(tmp_path: Path) -> None:
    save_audio(tmp_path / "silence.wav", np.zeros((2, 500)), 8000)
    save_audio(tmp_path / "one.wav", np.array([0.25]), 96_000)
    assert not load_audio(tmp_path / "silence.wav")[0].any()
    np.testing.assert_array_equal(load_audio(tmp_path / "one.wav")[0], [[0.25]])


def test_blocks_have_the_size_asked_for_and_start_anew(tmp_path: Path) -> None:
    waveform = noise(2500, 2)
    save_audio(tmp_path / "a.wav", waveform, 1000, subtype="FLOAT")
    reader = AudioReader(tmp_path / "a.wav")
    for _ in range(2):
        blocks = list(reader.blocks(seconds=1.0))
        assert [block.shape for block in blocks] == [(2, 1000), (2, 1000), (2, 500)]
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), waveform)


@pytest.mark.parametrize(
    ("name", "codec", "subtype", "padding"),
    [
        ("a.m4a", "aac", "AAC", 2048),
        ("a.mp4", "aac", "AAC", 2048),
        ("a.webm", "libopus", "OPUS", 1024),
        ("a.mkv", "flac", "PCM_16", 0),
        ("b.mkv", "pcm_f32le", "FLOAT", 0),
    ],
)
def test_pyav_reads_the_rest(tmp_path: Path, name: str, codec: str, subtype: str, padding: int) -> None:
    waveform = np.stack([tone(48_000, 48_000), tone(48_000, 48_000, 1000.0)])
    encode(tmp_path / name, waveform, 48_000, codec)
    reader = AudioReader(tmp_path / name)
    assert (reader.num_samples, reader.subtype) == (None, subtype)
    loaded, rate = load_audio(tmp_path / name)
    assert rate == 48_000 and len(loaded) == 2
    assert 0 <= loaded.shape[1] - 48_000 <= padding
    assert np.abs(loaded[:, :48_000] - waveform).mean() < 0.02


def test_pyav_reads_twelve_channels(tmp_path: Path) -> None:
    waveform = noise(3000, 12)
    encode(tmp_path / "a.mkv", waveform, RATE, "pcm_f32le")
    np.testing.assert_array_equal(load_audio(tmp_path / "a.mkv")[0], waveform)


@pytest.mark.parametrize("num_channels", [1, 2, 3, 4, 5, 6, 7, 8])
def test_channels_keep_their_places_in_ogg(tmp_path: Path, num_channels: int) -> None:
    """As FFmpeg, which knows which channel is which, finds them: a tone of its own in each."""
    time = np.arange(RATE) / RATE
    tones = 200.0 + 100.0 * np.arange(num_channels)[:, None]
    waveform = (0.1 * np.sin(2 * np.pi * tones * time)).astype(np.float32)
    save_audio(tmp_path / "a.ogg", waveform, RATE)
    with av.open(str(tmp_path / "a.ogg")) as container:
        layout = container.streams.audio[0].codec_context.layout
        packed = av.AudioResampler(format="flt", layout=layout, rate=RATE)
        parts = [part for frame in container.decode(audio=0) for part in packed.resample(frame)]
        found = np.concatenate([part.to_ndarray().reshape(-1, num_channels).T for part in parts], axis=1)
    for sound in (found, load_audio(tmp_path / "a.ogg")[0]):
        loudest = 2 * np.abs(np.fft.rfft(sound[:, : RATE // 2])).argmax(axis=1)
        np.testing.assert_allclose(loudest, tones[:, 0], atol=4)


def test_each_stream_of_asf_is_said_to_last_as_long_as_the_file() -> None:
    def container(num_streams: int) -> SimpleNamespace:
        stream = SimpleNamespace(duration=5000, time_base=Fraction(1, 1000), metadata={})
        streams = type("Streams", (list,), {"audio": [stream]})([stream] * num_streams)
        return SimpleNamespace(format=SimpleNamespace(name="asf"), streams=streams, duration=None)

    assert stated_seconds(container(1)) == 5.0
    assert stated_seconds(container(2)) is None


def test_a_video_longer_than_its_sound_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for index in range(30):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(tone(RATE)[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts = RATE, 0
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE, frame_size=1024)
        for part in [*resampler.resample(sound), *resampler.resample(None)]:
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    assert abs(load_audio(path)[0].shape[1] - RATE) < 2048


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)])
def test_an_mp3_without_a_stated_length_is_read_to_its_end(tmp_path: Path, tag: bytes) -> None:
    path = tmp_path / "a.mp3"
    encode(path, tone(441_000, 44_100)[None], 44_100, "libmp3lame", {"write_xing": "0", "id3v2_version": "0"})
    path.write_bytes(tag + path.read_bytes())
    reader = AudioReader(path)
    assert reader.num_samples is None
    assert 0 <= sum(block.shape[1] for block in reader.blocks()) - 441_000 < 4 * 1152


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_streamed_without_its_length_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    samples = np.arange(1000, dtype=np.int16)
    header = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    (tmp_path / "a.wav").write_bytes(header + b"data" + struct.pack("<I", size) + samples.tobytes())
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav")[0][0] * 32_768, samples)


def test_a_flac_streamed_without_its_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    save_audio(path, tone(30_000), RATE)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # STREAMINFO's 36-bit number of samples
    data[22:26] = bytes(4)
    path.write_bytes(data)
    reader = AudioReader(path)
    assert reader.num_samples is None
    assert sum(block.shape[1] for block in reader.blocks(0.5)) == 30_000


# ---------------------------------------------------------------------------------------- bad sound files


@pytest.mark.parametrize(
    "suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".caf", ".w64", ".rf64"]
)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_file(
    tmp_path: Path, suffix: str, kept: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a{suffix}"
    save_audio(path, noise(48_000, 2), 48_000)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(AudioFileError, match="truncated") as error:
        load_audio(path)
    only_line(error, path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.webm", "libopus"), ("a.mkv", "flac")])
def test_a_truncated_file_of_pyav(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    encode(path, noise(96_000), 48_000, codec)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises((AudioFileError, VideoFileError)) as error:
        load_audio(path)
    only_line(error, path)


def test_a_flac_cut_short_names_both_lengths(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    save_audio(path, noise(48_000), RATE)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(AudioFileError, match=r"48000 samples.*only \d+ can be read"):
        list(AudioReader(path).blocks(0.1))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"this is a text, not a sound\n" * 100, "not a sound file"),
        (bytes(np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8)), "not a sound file"),
        (b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n", "not a sound file"),
    ],
)
def test_what_is_no_sound(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AudioFileError, match=expected) as error:
        AudioReader(path)
    only_line(error, path)


def test_a_list_of_other_files_gives_none_of_them_away(tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    make_sound(secret)
    lines = ("#EXTM3U", "#EXT-X-TARGETDURATION:10", "#EXTINF:10,", str(secret), "#EXT-X-ENDLIST", "")
    for name in ("list.m3u8", "list.wav"):
        path = tmp_path / name
        path.write_text("\n".join(lines))
        with pytest.raises(AudioFileError, match="not a sound file"):
            AudioReader(path)
        with pytest.raises(VideoFileError, match="not a video"):
            open_input(path)


def make_sound(path: Path) -> None:
    """A second of noise that FFmpeg reads."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        noise = np.random.default_rng(0).normal(0, 0.1, (1, 16_000)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_missing_folder_and_raw(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="no such file"):
        load_audio(tmp_path / "a.wav")
    with pytest.raises(AudioFileError, match="folder"):
        load_audio(tmp_path)
    (tmp_path / "a.raw").write_bytes(bytes(100))
    with pytest.raises(AudioFileError, match="without a header"):
        load_audio(tmp_path / "a.raw")


def test_a_file_with_pictures_only(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        container.mux(
            stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24"))
        )
        container.mux(stream.encode(None))
    with pytest.raises(AudioFileError, match="no sound in it"):
        AudioReader(path)


def test_zero_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((0, 1)), RATE)
    with pytest.raises(AudioFileError, match="no samples"):
        AudioReader(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_located(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.wav"
    waveform = np.zeros((2 * RATE, 2))
    waveform[24_000, 1] = value
    soundfile.write(path, waveform, RATE, "FLOAT")
    with pytest.raises(AudioFileError, match=r"NaN or infinity at 1\.500 s"):
        list(AudioReader(path).blocks(0.4))


# -------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize(("from_rate", "to_rate"), [(48_000, 16_000), (16_000, 44_100), (11_025, 16_000)])
def test_a_resampled_tone_is_the_tone_at_the_new_rate(from_rate: int, to_rate: int) -> None:
    converted = resample(tone(from_rate, from_rate), from_rate, to_rate)
    assert converted.shape == (to_rate,)
    inside = slice(to_rate // 10, -to_rate // 10)
    np.testing.assert_allclose(converted[inside], tone(to_rate, to_rate)[inside], atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 3000), max_size=6),
    rates=st.permutations([8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]),
    channels=st.integers(1, 3),
)
def test_resampling_a_stream_equals_resampling_the_whole(
    lengths: list[int], rates: list[int], channels: int
) -> None:
    from_rate, to_rate = rates[:2]
    waveform = noise(sum(lengths), channels, seed=len(lengths))
    blocks = np.split(waveform, np.cumsum(lengths)[:-1], axis=1) if lengths else []
    joined = np.concatenate(
        [np.zeros((channels, 0), np.float32), *resample_blocks(blocks, from_rate, to_rate, channels)], axis=1
    )
    assert joined.shape[1] == resampled_length(sum(lengths), from_rate, to_rate)
    assert abs(joined.shape[1] - sum(lengths) * to_rate / from_rate) <= 0.5
    np.testing.assert_allclose(joined, resample(waveform, from_rate, to_rate), atol=1e-6)


def test_resample_agrees_with_soxr_and_sets_the_length() -> None:
    waveform = noise(4410, 2)
    before = waveform.copy()
    expected = soxr.resample(waveform.T, 44_100, RATE, quality="VHQ").T
    np.testing.assert_allclose(resample(waveform, 44_100, RATE), expected, atol=1e-6)
    assert resample(waveform, 44_100, RATE, num_samples=1500).shape == (2, 1500)
    longer = resample(waveform[0], 44_100, RATE, num_samples=1700)
    assert longer.shape == (1700,) and not longer[1600:].any()
    np.testing.assert_array_equal(waveform, before)


def test_equal_rates_pass_through() -> None:
    blocks = [noise(10), noise(20)]
    assert list(resample_blocks(iter(blocks), 44_100, 44_100, 1)) == blocks
    np.testing.assert_array_equal(resample(blocks[0], 8000, 8000), blocks[0])


@given(lengths=st.lists(st.integers(0, 50), max_size=8), size=st.integers(1, 30))
def test_rechunk(lengths: list[int], size: int) -> None:
    waveform = noise(sum(lengths), 2)
    blocks = np.split(waveform, np.cumsum(lengths)[:-1], axis=1) if lengths else []
    regrouped = list(rechunk(blocks, size))
    assert all(block.shape == (2, size) for block in regrouped[:-1])
    assert all(0 < block.shape[1] <= size for block in regrouped)
    np.testing.assert_array_equal(np.concatenate([waveform[:, :0], *regrouped], axis=1), waveform)


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """Five minutes are 115 MB of float32 at 48 kHz stereo; a few blocks of one second are 2 MB."""

    def peak_of(num_blocks: int) -> int:
        block = noise(48_000, 2)
        tracemalloc.start()
        with AudioWriter(tmp_path / "a.wav", RATE, 2, subtype="PCM_16", force=True) as writer:
            for converted in resample_blocks((block for _ in range(num_blocks)), 48_000, RATE, 2):
                writer.write(converted)
        reader = AudioReader(tmp_path / "a.wav")
        for _ in reader.blocks(1.0):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    short, long = peak_of(10), peak_of(300)
    assert long < 4e6 and long < 1.5 * short


CODED = [
    ("WAV", "GSM610"),
    ("WAV", "G721_32"),
    ("WAV", "IMA_ADPCM"),
    ("AU", "G721_32"),
    ("AU", "G723_24"),
    ("AIFF", "GSM610"),
]


@pytest.mark.parametrize(("container", "subtype"), CODED)
def test_codecs_in_which_nothing_goes_back_are_read_twice(
    tmp_path: Path, container: str, subtype: str
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(9600)[0], 8000, subtype, format=container)
    expected = soundfile.read(path, dtype="float32")[0]
    np.testing.assert_array_equal(load_audio(path)[0][0], expected)
    reader = AudioReader(path)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(0.1)), axis=1)[0], expected)
