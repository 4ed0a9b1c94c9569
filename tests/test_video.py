"""A video through a converter: pictures bit for bit, sound replaced and in sync, all or nothing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from videos import (
    KINDS,
    TICKS,
    Kind,
    delay,
    frame_digests,
    heard,
    irregular,
    make_video,
    noise,
    packets,
    pictures,
    regular,
)

from mvsd.audio import load_audio, rechunk, save_audio
from mvsd.blockwise import Blocks, Request
from mvsd.errors import AudioFileError, MvsdError, OutputExistsError, VideoFileError
from mvsd.files import convert_file
from mvsd.scene import Scene
from mvsd.shots import _decode, find_shots
from mvsd.soundtrack import Soundtrack
from mvsd.video import convert_video

RATE = 48_000
MP4 = Kind(".mp4", "libx264", "aac")
MOV = Kind(".mov", "mpeg4", "pcm_s24le")
MKV = Kind(".mkv", "libx264", "flac")


class Gain:
    """A converter that multiplies, by the mean of the scene's red where there is one; it regroups the blocks."""

    def __init__(self, gain: float = 0.5, *, fail: BaseException | None = None, num_extra: int = 0) -> None:
        self.gain, self.fail, self.num_extra = gain, fail, num_extra
        self.scenes: list[Scene | None] = []

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        self.scenes.append(request.scene)
        gain = self.gain if request.scene is None else request.scene.image[..., 0].mean() / 255
        for block in rechunk(blocks, 7001):
            yield gain * block
        if self.fail is not None:
            raise self.fail
        if self.num_extra:
            yield np.zeros((request.num_channels, self.num_extra), np.float32)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tolerance(kind: Kind) -> float:
    """Samples by which the sound may be off: FFmpeg before 8.1 reads AAC's delay in Matroska to 1 ms only."""
    return 48.0 if kind[0::2] == (".mkv", "aac") and av.library_versions["libavformat"] < (62, 12) else 0.1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind)[1:])
@pytest.mark.parametrize("times", [regular, irregular], ids=["constant", "variable"])
def test_pictures_stay_bit_for_bit_and_the_sound_in_sync(
    tmp_path: Path, kind: Kind, times: Callable[[int], np.ndarray]
) -> None:
    sound = noise(40_777, 2)
    source = make_video(tmp_path / f"in{kind.suffix}", kind, pictures(24), times(24), [(0, sound)])
    out = tmp_path / f"out{kind.suffix}"
    report = convert_video(Gain(), source, out, watch=False)
    assert packets(out) == packets(source)
    assert frame_digests(out) == frame_digests(source)
    after = heard(out, RATE)
    assert (report.sample_rate, report.channels, report.gain_db) == (RATE, 2, 0)
    assert 0 <= after.shape[1] - sound.shape[1] < 2048  # the rest of a codec's last frame
    assert abs(report.seconds - sound.shape[1] / RATE) < 2048 / RATE
    for channel in range(2):
        assert abs(delay(sound[channel], after[channel])) < tolerance(kind)
        gain = np.sqrt(np.square(after[channel]).sum() / np.square(sound[channel]).sum())
        assert gain == pytest.approx(0.5, abs=0.06)  # AAC, twice
    if kind.sound in ("alac", "pcm_s24le", "flac"):  # lossless stays lossless, to 24 bits
        before = heard(source, RATE)
        np.testing.assert_allclose(after, 0.5 * before, atol=2**-23)


@pytest.mark.parametrize(
    ("kind", "rate"), [(MP4, 44_100), (MOV, 96_000), (Kind(".mkv", "libx264", "aac"), 32_000)]
)
def test_other_rates(tmp_path: Path, kind: Kind, rate: int) -> None:
    sound = noise(rate // 2)
    source = make_video(tmp_path / f"in{kind.suffix}", kind, pictures(5), None, [(0, sound)], rate)
    report = convert_video(Gain(1.0), source, tmp_path / f"out{kind.suffix}", watch=False)
    assert (report.sample_rate, report.channels) == (rate, 1)
    assert abs(delay(sound[0], heard(tmp_path / f"out{kind.suffix}", rate)[0])) < tolerance(kind)


def test_a_rate_that_the_codec_has_not_is_resampled_in_sync(tmp_path: Path) -> None:
    """Opus has no 44.1 kHz; the source is Matroska with Vorbis' successor FLAC, the output WebM."""
    sound = noise(44_100)
    kind = Kind(".mkv", "libvpx-vp9", "flac")
    source = make_video(tmp_path / "in.mkv", kind, pictures(5), None, [(0, sound)], 44_100)
    convert_video(Gain(1.0), source, tmp_path / "out.webm", watch=False)
    assert abs(delay(sound[0], heard(tmp_path / "out.webm", 44_100)[0])) < 0.1
    assert packets(tmp_path / "out.webm") == packets(source)


@pytest.mark.parametrize(
    "kind", [MP4, MOV, MKV, Kind(".webm", "libvpx", "libopus")], ids=lambda kind: kind.suffix[1:]
)
def test_sound_that_starts_late_stays_late(tmp_path: Path, kind: Kind) -> None:
    source = make_video(tmp_path / f"in{kind.suffix}", kind, pictures(30), None, [(0.517, noise(20_000))])
    out = tmp_path / f"out{kind.suffix}"
    convert_video(Gain(1.0), source, out, watch=False)
    before, after = heard(source, RATE)[0], heard(out, RATE)[0]
    assert abs(delay(before, after)) < 0.1
    with av.open(str(out)) as container:
        assert next(container.decode(audio=0)).time == 0
    assert packets(out) == packets(source)


def test_a_gap_in_the_sound_is_filled_with_silence(tmp_path: Path) -> None:
    first, second = noise(24_000, seed=1), noise(24_000, seed=2)
    kind = Kind(".mkv", "libx264", "pcm_s16le")
    source = make_video(tmp_path / "in.mkv", kind, pictures(40), None, [(0, first), (1.0, second)])
    convert_video(Gain(1.0), source, tmp_path / "out.mkv", watch=False)
    after = heard(tmp_path / "out.mkv", RATE)[0]
    np.testing.assert_allclose(after[:24_000], first[0], atol=2**-14)
    assert not after[24_000:48_000].any()
    np.testing.assert_allclose(after[48_000:72_000], second[0], atol=2**-14)


def test_the_last_frame_of_slides_says_how_long_it_is_shown(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", MP4, pictures(2), [0, 5 * TICKS])
    with av.open(str(tmp_path / "in.mp4")) as old, av.open(str(tmp_path / "slides.mp4"), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams.video}
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.duration, packet.stream = round(5 / packet.time_base), streams[packet.stream.index]
                new.mux(packet)
    found = list(_decode(tmp_path / "slides.mp4"))
    assert [(round(frame.time), round(frame.seconds)) for frame in found] == [(0, 5), (5, 5)]


def test_a_clock_in_milliseconds_costs_no_sample(tmp_path: Path) -> None:
    """As in MP4 files made of others, by OBS among them: packets last as long as to the next one, rounded."""
    source = make_video(tmp_path / "in.mp4", MP4, pictures(75), None, [(0.0, noise(3 * RATE))])
    with av.open(str(source)) as old, av.open(str(tmp_path / "uneven.mp4"), "w") as new:
        streams = [new.add_stream_from_template(stream) for stream in old.streams]
        for packet in old.demux():
            if packet.dts is not None:
                if packet.stream.type == "audio":
                    packet.pts = packet.dts = round(packet.dts / 48) * 48
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    with av.open(str(tmp_path / "uneven.mp4")) as file:
        assert len({packet.duration for packet in file.demux(audio=0) if packet.size}) > 2
    before, after = (load_audio(tmp_path / name)[0] for name in ("in.mp4", "uneven.mp4"))
    assert abs(before.shape[1] - after.shape[1]) <= 48
    length = min(before.shape[1], after.shape[1])
    assert np.abs(np.subtract(before[:, :length], after[:, :length])).max() < 1e-6


@pytest.mark.parametrize("kind", [MP4, MKV], ids=lambda kind: kind.suffix[1:])
def test_the_sound_alone_stays_on_the_videos_clock(tmp_path: Path, kind: Kind) -> None:
    sounds = [(0.25, noise(24_000, seed=1)), (1.25, noise(24_000, seed=2))]
    source = make_video(tmp_path / f"in{kind.suffix}", kind, pictures(45), None, sounds)
    convert_file(Gain(1.0), source, tmp_path / "out.wav")
    convert_video(Gain(1.0), source, tmp_path / f"out{kind.suffix}", watch=False)
    alone, _ = load_audio(tmp_path / "out.wav")
    beside = heard(tmp_path / f"out{kind.suffix}", RATE)
    assert not alone[0, : RATE // 5].any()
    assert abs(delay(alone[0], beside[0])) < 0.1


def test_a_clock_that_begins_elsewhere_begins_at_its_first_stream(tmp_path: Path) -> None:
    """As in broadcasts, parts of streams and cameras' files; the pictures and the sound keep their distance."""
    sound = noise(40_000)
    kind = Kind(".mkv", "libx264", "pcm_s16le")
    source = make_video(
        tmp_path / "plain.mkv", kind, pictures(45), regular(45) + 3600 * TICKS, [(3600.25, sound)]
    )
    source = with_chapters(source, tmp_path / "in.mkv", [(3590, 3599), (3599, 3601), (3601, 3602)])
    report = convert_video(Gain(1.0), source, tmp_path / "out.mkv", watch=False)
    assert report.seconds == pytest.approx(0.25 + 40_000 / RATE)
    after = heard(tmp_path / "out.mkv", RATE)[0]
    assert not after[: RATE // 4].any()
    np.testing.assert_allclose(after[RATE // 4 :], sound[0], atol=2**-14)
    shown = [frame_digests(tmp_path / name) for name in ("in.mkv", "out.mkv")]
    assert [digest for _, digest in shown[0]] == [digest for _, digest in shown[1]]
    times = np.subtract([time for time, _ in shown[0]], [time for time, _ in shown[1]])
    np.testing.assert_allclose(times, 3600, atol=2e-3)
    convert_file(Gain(1.0), source, tmp_path / "out.wav")
    np.testing.assert_array_equal(load_audio(tmp_path / "out.wav")[0][0], after)
    shots = list(find_shots(source))
    assert [shot.start for shot in shots] == [0.0]
    with av.open(tmp_path / "out.mkv") as made:
        clock = [(chapter["start"], chapter["end"]) for chapter in made.chapters()]
        base = float(made.chapters()[0]["time_base"] or 0)
    np.testing.assert_allclose(np.array(clock) * base, [(0, 1), (1, 2)], atol=2e-3)


def with_chapters(source: Path, path: Path, seconds: list[tuple[int, int]]) -> Path:
    """A copy of a file with chapters that begin and end at these seconds."""
    chapters: list[Any] = [
        {"id": number, "start": start, "end": end, "time_base": Fraction(1), "metadata": {}}
        for number, (start, end) in enumerate(seconds, 1)
    ]
    with av.open(source) as container, av.open(path, "w") as output:
        output.set_chapters(chapters)
        copies = {stream.index: output.add_stream_from_template(stream) for stream in container.streams}
        for packet in container.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return path


def test_sound_alone_begins_where_it_begins(tmp_path: Path) -> None:
    """What an encoder puts before it is not counted as silence where there is no picture to keep in step with."""
    sound = noise(40_000)
    source = make_video(tmp_path / "in.mkv", Kind(".mkv", "", "pcm_s16le"), sounds=[(0.044, sound)])
    (tmp_path / "in.mkv").rename(source.with_suffix(".m4a"))  # the name says that it is on a clock
    convert_file(Gain(1.0), source.with_suffix(".m4a"), tmp_path / "out.wav")
    np.testing.assert_allclose(load_audio(tmp_path / "out.wav")[0], sound, atol=2**-14)


def test_a_clock_that_begins_anew_loses_no_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where two files were joined; what overlaps by less than a second is heard once."""
    source = make_video(tmp_path / "in.mkv", MKV, pictures(3), None, [(0, noise(RATE))])
    times = [Fraction(5), Fraction(7), Fraction(1), Fraction(3), Fraction(9, 2)]
    parts = [(time, np.full((1, 2 * RATE), number, np.float32)) for number, time in enumerate(times, 1)]
    monkeypatch.setattr(Soundtrack, "_decoded", lambda self: iter(parts))
    found = np.concatenate(list(Soundtrack(source).blocks()), axis=1)[0]
    changes = np.flatnonzero(np.diff(found)) + 1
    assert found[0] == 0 and found[-1] == 5
    np.testing.assert_allclose(changes / RATE, [5, 7, 9, 11, 13])
    assert len(found) == 14.5 * RATE


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 3)), min_size=1, max_size=5))
def test_every_sample_is_where_its_timestamp_says(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int]]
) -> None:
    """Packets of 1,000 Hz sound, some after gaps in ms; gaps of less than 15 ms are a clock's unevenness."""
    pieces, expected, time = [], np.zeros(0), 0
    for gap, num_packets in parts:
        time += gap if gap >= 15 else 0
        sound = np.random.default_rng(time).integers(1, 30_000, 1024 * num_packets) / 2**15
        pieces.append((time / 1000, sound[None]))
        expected = np.concatenate([expected, np.zeros(time - len(expected)), sound])
        time += 1024 * num_packets
    path = tmp_path_factory.mktemp("gaps") / "in.mkv"
    make_video(path, Kind(".mkv", "libx264", "pcm_s16le"), pictures(2), None, pieces, 1000)
    read = np.concatenate(list(Soundtrack(path).blocks()), axis=1)[0]
    np.testing.assert_allclose(read, expected, atol=2**-14)


def test_the_videos_own_frames_are_the_scenes(tmp_path: Path) -> None:
    """Two shots, red and blue: the gain, which is the scene's red, changes at the cut."""
    wall = np.kron(np.random.default_rng(0).integers(0, 2, (6, 8, 1)), np.ones((8, 8, 1)))
    red = (wall * (200, 20, 20) + (40, 0, 0)).astype(np.uint8)
    blue = (wall * (10, 20, 200) + (5, 0, 40)).astype(np.uint8)
    sound = noise(3 * RATE)
    source = make_video(tmp_path / "in.mov", MOV, [red] * 35 + [blue] * 30, None, [(0, sound)])
    converter = Gain()
    report = convert_video(converter, source, tmp_path / "out.mov")
    assert report.changes == (1.4,)
    gains = [scene.image[..., 0].mean() / 255 for scene in converter.scenes if scene is not None]
    assert [round(gain, 1) for gain in gains] == [
        round(red[..., 0].mean() / 255, 1),
        round(blue[..., 0].mean() / 255, 1),
    ]
    after = heard(tmp_path / "out.mov", RATE)[0]
    cut, half = round(1.4 * RATE), round(0.025 * RATE)
    np.testing.assert_allclose(after[: cut - half], gains[0] * sound[0, : cut - half], atol=1e-5)
    np.testing.assert_allclose(after[cut + half :], gains[1] * sound[0, cut + half :], atol=1e-5)


def test_a_given_scene_is_taken_for_all(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", MP4, pictures(3), None, [(0, noise(9000))])
    converter, scene = Gain(), Scene(np.full((20, 20, 3), 128, np.uint8))
    convert_video(converter, source, tmp_path / "out.mp4", scene)
    assert converter.scenes == [scene]


def add_subtitles(path: Path, out: Path, texts: list[bytes]) -> None:
    """A copy of a video with a stream of subtitles, and a chapter and an attached font where the container has them."""
    with (
        av.open(str(path)) as source,
        av.open(str(out), "w", format=path.suffix[1:].replace("mkv", "matroska")) as output,
    ):
        copies = {
            stream.index: output.add_stream_from_template(stream, opaque=True) for stream in source.streams
        }
        output.add_attachment("font.ttf", "application/x-truetype-font", b"not really a font")
        subtitles = output.add_mux_stream("subrip")
        subtitles.time_base = Fraction(1, 1000)
        output.metadata.update(source.metadata)
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
        for index, text in enumerate(texts):
            packet = av.Packet(text)
            packet.pts = packet.dts = 200 * index
            packet.duration, packet.time_base, packet.stream = 100, Fraction(1, 1000), subtitles
            output.mux(packet)


def test_other_streams_are_kept(tmp_path: Path) -> None:
    other = noise(30_000, 1, seed=5)
    plain = make_video(
        tmp_path / "plain.mkv",
        MKV,
        pictures(20),
        None,
        [(0, noise(30_000))],
        more_sounds=[other],
        metadata={"title": "Tea"},
    )
    add_subtitles(plain, tmp_path / "in.mkv", [b"Hello", b"there"])
    report = convert_video(Gain(), tmp_path / "in.mkv", tmp_path / "out.mkv", watch=False)
    assert report.dropped == ()
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "in.mkv")
    assert packets(tmp_path / "out.mkv", "audio", 1) == packets(tmp_path / "in.mkv", "audio", 1)
    assert packets(tmp_path / "out.mkv", "subtitles") == packets(tmp_path / "in.mkv", "subtitles") != []
    np.testing.assert_allclose(heard(tmp_path / "out.mkv", RATE, 1)[0], other[0], atol=2**-14)
    with av.open(str(tmp_path / "in.mkv")) as before, av.open(str(tmp_path / "out.mkv")) as after:
        assert [stream.type for stream in after.streams] == [stream.type for stream in before.streams]
        assert after.streams.attachments[0].data == b"not really a font"
        assert after.metadata["title"] == "Tea"
        assert after.streams.audio[0].language == before.streams.audio[0].language


def test_what_a_container_cannot_hold_is_said(tmp_path: Path) -> None:
    plain = make_video(tmp_path / "plain.mkv", MKV, pictures(9), None, [(0, noise(9000))])
    add_subtitles(plain, tmp_path / "in.mkv", [b"Hello"])
    report = convert_video(Gain(), tmp_path / "in.mkv", tmp_path / "out.mp4", watch=False)
    assert {line.split("(")[1] for line in report.dropped} == {"attachment, font.ttf)", "subtitle, srt)"}
    assert packets(tmp_path / "out.mp4")[0].digest == packets(plain)[0].digest


def test_a_turned_picture_stays_turned(tmp_path: Path) -> None:
    """A telephone stores the picture lying down, and a matrix that sets it upright."""
    source = make_video(tmp_path / "in.mp4", MP4, pictures(3), None, [(0, noise(9000))])
    data = bytearray(source.read_bytes())
    box = data.index(b"tkhd")
    quarter = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    data[box + 44 : box + 44 + 36] = quarter
    source.write_bytes(data)
    converter = Gain()
    convert_video(converter, source, tmp_path / "out.mp4")
    for path in (source, tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            assert next(container.decode(video=0)).rotation == -90
    assert converter.scenes[0] is not None
    upright = converter.scenes[0].image
    assert upright.shape == (64, 48, 3)
    lying = pictures(1)[0]
    assert np.abs(upright.astype(float) - np.rot90(lying, -1)).mean() < 12  # clockwise, as a player turns it


def test_sound_in_a_videos_container_without_pictures(tmp_path: Path) -> None:
    sound = noise(30_000)
    source = make_video(tmp_path / "in.m4a", Kind(".m4a", "", "aac"), sounds=[(0, sound)])
    convert_video(Gain(), source, tmp_path / "out.m4a")
    assert abs(delay(sound[0], heard(tmp_path / "out.m4a", RATE)[0])) < 0.1


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".flac", ".wav", ".mp3"])
def test_a_recording_loses_no_sample_on_its_way_to_m4a(tmp_path: Path, suffix: str) -> None:
    """FFmpeg says of Vorbis' first packet that it lasts half as long as it does."""
    sound = noise(40_321)
    save_audio(tmp_path / f"in{suffix}", sound, RATE)
    recording, _ = load_audio(tmp_path / f"in{suffix}")
    convert_video(Gain(1.0), tmp_path / f"in{suffix}", tmp_path / "out.m4a")
    after = heard(tmp_path / "out.m4a", RATE)
    assert after.shape[1] >= recording.shape[1]
    assert abs(delay(recording[0], after[0])) < 0.1


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_recording_that_is_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"in{suffix}"
    save_audio(source, noise(3 * RATE), RATE)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises((AudioFileError, VideoFileError), match=r"in\.\w+: .*(truncated|damaged)"):
        convert_video(Gain(), source, tmp_path / "out.m4a")
    assert listing(tmp_path) == [source.name]


@pytest.mark.parametrize("kind", [MP4, MOV, MKV], ids=lambda kind: kind.suffix[1:])
def test_sound_may_outlast_the_pictures(tmp_path: Path, kind: Kind) -> None:
    source = make_video(tmp_path / f"in{kind.suffix}", kind, pictures(25), None, [(0, noise(6 * RATE))])
    report = convert_video(Gain(), source, tmp_path / f"out{kind.suffix}", watch=False)
    assert report.seconds == pytest.approx(6, abs=0.05)
    assert packets(tmp_path / f"out{kind.suffix}") == packets(source)


def test_pictures_may_outlast_the_sound(tmp_path: Path) -> None:
    shown = [*pictures(50), *(255 - frame for frame in pictures(25, seed=9))]
    source = make_video(tmp_path / "in.mp4", MP4, shown, None, [(0, noise(RATE))])
    report = convert_video(Gain(), source, tmp_path / "out.mp4")
    assert report.changes == ()  # what is seen after the last sound has no part in it


def test_a_loud_result_is_lowered_and_reported(tmp_path: Path) -> None:
    sound = noise(20_000)
    source = make_video(tmp_path / "in.mov", MOV, pictures(3), None, [(0, sound)])
    report = convert_video(Gain(20.0), source, tmp_path / "out.mov", watch=False)
    peak = 20 * np.abs(sound).max()
    assert report.gain_db == pytest.approx(-20 * np.log10(peak), abs=1e-3)
    np.testing.assert_allclose(heard(tmp_path / "out.mov", RATE), 20 * sound / peak, atol=1e-5)


def test_the_sound_of_a_film_decodes_without_clipping(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", MP4, pictures(3), None, [(0, noise(20_000))])
    report = convert_video(Gain(20.0), source, tmp_path / "out.mp4", watch=False)
    peak = 20 * np.abs(heard(source, RATE)).max()
    assert report.codec == "aac" and report.gain_db == pytest.approx(-20 * np.log10(peak) - 1, abs=0.01)


def test_the_level_is_kept(tmp_path: Path) -> None:
    sound = noise(20_000)
    source = make_video(tmp_path / "in.mov", MOV, pictures(3), None, [(0, sound)])
    report = convert_video(Gain(0.1), source, tmp_path / "out.mov", watch=False, level="peak")
    assert report.gain_db == pytest.approx(20, abs=1e-3)
    np.testing.assert_allclose(heard(tmp_path / "out.mov", RATE), sound, atol=1e-5)
    silent = make_video(tmp_path / "silent.mov", MOV, pictures(3), None, [(0, 0 * sound)])
    with pytest.raises(MvsdError, match=r"silent\.mov.*'keep'"):
        convert_video(Gain(), silent, tmp_path / "other.mov", watch=False, level="peak")


def test_progress_goes_up_to_the_end(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mov", MOV, pictures(50), None, [(0, noise(2 * RATE))])
    calls: list[tuple[float, float | None]] = []
    convert_video(Gain(), source, tmp_path / "out.mov", progress=lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(2, abs=0.05)
    assert {call[1] for call in calls} == {2.0}


# ------------------------------------------------------------------------------------------ what goes wrong


def without_sound(folder: Path) -> Path:
    return make_video(folder / "in.mp4", MP4, pictures(3))


def without_pictures(folder: Path) -> Path:
    return make_video(folder / "in.mka", Kind(".mka", "", "flac"), sounds=[(0, noise(9000))])


def text(folder: Path) -> Path:
    (folder / "in.mp4").write_text("Dear room,\n" * 99)
    return folder / "in.mp4"


def empty(folder: Path) -> Path:
    (folder / "in.mp4").write_bytes(b"")
    return folder / "in.mp4"


def cut_in_two(folder: Path) -> Path:
    sound = noise(6 * RATE)
    path = make_video(folder / "in.mkv", Kind(".mkv", "libx264", "flac"), pictures(150), None, [(0, sound)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    return path


def without_an_index(folder: Path) -> Path:
    path = make_video(folder / "in.mp4", MP4, pictures(9), None, [(0, noise(9000))])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def encrypted(folder: Path) -> Path:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": 16 * "7a", "encryption_kid": 16 * "3c"}
    return make_video(folder / "in.mp4", MP4, pictures(3), None, [(0, noise(9000))], options=key)


def damaged_pictures(folder: Path) -> Path:
    path = make_video(folder / "in.mp4", MP4, pictures(9), None, [(0, noise(9000))])
    data = path.read_bytes()
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                data = data.replace(bytes(packet), bytes(packet.size))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (without_sound, "no sound"),
        (without_pictures, "no pictures"),
        (text, "not a video"),
        (empty, "empty"),
        (cut_in_two, "cut short"),
        (without_an_index, "not a video, or cut short"),
        (encrypted, "encrypted"),
        (damaged_pictures, "none of its frames"),
        (lambda folder: folder / "in.mp4", "no such file"),
        (lambda folder: folder, "folder"),
    ],
)
def test_a_bad_video_is_one_line_and_leaves_nothing(
    tmp_path: Path, make: Callable[[Path], Path], says: str
) -> None:
    source = make(tmp_path)
    before = listing(tmp_path)
    with pytest.raises(VideoFileError, match=says) as error:
        convert_video(Gain(), source, tmp_path / f"out{source.suffix.replace('.mka', '.mkv') or '.mp4'}")
    assert source.name in str(error.value)
    assert "\n" not in str(error.value)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("out", "kind_of_error", "says"),
    [
        ("out.avi", VideoFileError, r"\.avi.*\.mp4"),
        ("out.webm", VideoFileError, "h264.*webm"),
        ("there.mp4", OutputExistsError, "--force"),
        ("folder.mp4", VideoFileError, "folder"),
        ("nowhere/out.mp4", VideoFileError, "no folder"),
    ],
)
def test_a_bad_output_is_one_line(
    tmp_path: Path, out: str, kind_of_error: type[MvsdError], says: str
) -> None:
    source = make_video(tmp_path / "in.mp4", MP4, pictures(3), None, [(0, noise(9000))])
    (tmp_path / "there.mp4").write_bytes(b"old")
    (tmp_path / "folder.mp4").mkdir()
    converter = Gain()
    with pytest.raises(kind_of_error, match=says):
        convert_video(converter, source, tmp_path / out)
    assert converter.scenes == []
    assert (tmp_path / "there.mp4").read_bytes() == b"old"


@pytest.mark.parametrize("fail", [KeyboardInterrupt(), SystemExit(1), RuntimeError("out of luck")])
def test_an_interrupt_leaves_nothing_and_loses_nothing(tmp_path: Path, fail: BaseException) -> None:
    source = make_video(tmp_path / "in.mp4", MP4, pictures(3), None, [(0, noise(9000))])
    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(type(fail)):
        convert_video(Gain(fail=fail), source, tmp_path / "out.mp4", force=True)
    assert listing(tmp_path) == ["in.mp4", "out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"old"


def test_a_converter_that_breaks_its_promise(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mov", MOV, pictures(3), None, [(0, noise(9000))])
    with pytest.raises(RuntimeError, match="9001 samples out of 9000"):
        convert_video(Gain(num_extra=1), source, tmp_path / "out.mov", watch=False)
    with pytest.raises(VideoFileError, match="NaN"):
        convert_video(Gain(np.nan), source, tmp_path / "out.mov", watch=False)
    assert listing(tmp_path) == ["in.mov"]


def test_the_video_itself_can_be_replaced(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", MP4, pictures(9), None, [(0, noise(9000))])
    before = packets(source)
    with pytest.raises(OutputExistsError):
        convert_video(Gain(), source, source)
    convert_video(Gain(), source, source, force=True)
    assert packets(source) == before
    assert listing(tmp_path) == ["in.mp4"]


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """25 s are 9.6 MB of float32; the frames are so far apart that each is a shot."""
    sound = np.zeros((2, 25 * RATE), np.float32)
    source = make_video(tmp_path / "in.mov", MOV, pictures(25), TICKS * np.arange(25), [(0, sound)])
    del sound
    tracemalloc.start()
    convert_video(Gain(), source, tmp_path / "out.mov")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def film(path: Path, codec: str, layout: str, pictures_of: str = "libx264") -> Path:
    """A second of pictures, and of sound on loudspeakers that `layout` names."""
    with av.open(str(path), "w") as output:
        picture = output.add_stream(pictures_of, rate=25, width=64, height=48, pix_fmt="yuv420p")
        sound = output.add_stream(codec, rate=RATE, layout=layout)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pictures(1)[0]), format="rgb24")
        output.mux(picture.encode(frame))
        to_codec = av.AudioResampler(format=sound.format.name, layout=layout, rate=RATE)
        part = av.AudioFrame.from_ndarray(noise(RATE * sound.channels), format="flt", layout=layout)
        part.sample_rate = RATE
        fifo = av.AudioFifo()
        for converted in to_codec.resample(part):
            fifo.write(converted)
        while (piece := fifo.read(sound.codec_context.frame_size or 1024)) is not None:
            output.mux(sound.encode(piece))
        for stream in (picture, sound):
            output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm", ".mov"])
def test_a_film_with_speakers_at_the_side_goes_into_every_container(tmp_path: Path, suffix: str) -> None:
    """As AC-3 has it; Opus and ALAC know one place of these speakers only."""
    pictures_of = "libvpx-vp9" if suffix == ".webm" else "libx264"
    source = film(tmp_path / "in.mkv", "ac3", "5.1(side)", pictures_of)
    convert_video(Gain(1.0), source, tmp_path / f"out{suffix}", watch=False)
    before, after = heard(source, RATE), heard(tmp_path / f"out{suffix}", RATE)
    assert len(after) == 6
    for channel in (0, 1, 2, 4, 5):  # the fourth has only lows
        assert abs(delay(before[channel], after[channel])) < 48


def test_a_dark_video_is_dereverberated_and_has_no_room_to_be_put_into(tmp_path: Path) -> None:
    dark = [np.full((48, 64, 3), 12, np.uint8)] * 25
    source = make_video(tmp_path / "in.mp4", MP4, dark, None, [(0, noise(RATE))])
    with pytest.raises(VideoFileError, match="no frame of it shows anything"):
        convert_video(Gain(), source, tmp_path / "out.mp4")
    converter = Gain()
    convert_video(converter, source, tmp_path / "out.mp4", watch=False)
    assert converter.scenes == [None]


@pytest.mark.parametrize("pictures_of", ["libx264", "mpeg4"])
def test_of_a_film_m4a_holds_the_sound_alone(tmp_path: Path, pictures_of: str) -> None:
    source = make_video(
        tmp_path / "in.mkv", Kind(".mkv", pictures_of, "aac"), pictures(9), None, [(0, noise(9000))]
    )
    convert_video(Gain(), source, tmp_path / "out.m4a")
    with av.open(str(tmp_path / "out.m4a")) as file:
        assert [stream.type for stream in file.streams] == ["audio"]


def test_what_is_advised_works(tmp_path: Path) -> None:
    save_audio(tmp_path / "in.wav", np.full((7, 999), 0.1), RATE)
    with pytest.raises(VideoFileError, match="use .wav"):
        convert_video(Gain(), tmp_path / "in.wav", tmp_path / "out.m4a")
    convert_file(Gain(), tmp_path / "in.wav", tmp_path / "out.wav")


def test_one_file_is_read_in_one_way(tmp_path: Path) -> None:
    """Sound that starts late is late in Python too."""
    source = make_video(tmp_path / "in.mp4", MP4, pictures(25), None, [(0.5, noise(RATE // 2))])
    convert_file(Gain(1.0), source, tmp_path / "out.wav")
    whole, rate = load_audio(source)
    np.testing.assert_allclose(whole, load_audio(tmp_path / "out.wav")[0], atol=1e-6)
    assert rate == RATE and whole.shape[1] > 0.99 * RATE and np.abs(whole[:, : RATE // 4]).max() < 0.02
