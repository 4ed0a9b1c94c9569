"""What the page computes, without a page; `test_web_page.py` looks at the page itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from conftest import Models as ModelFiles
from PIL import Image
from videos import Kind, make_video, noise, pictures

from mvsd.audio import load_audio, resample, save_audio
from mvsd.cli import app, main
from mvsd.errors import MissingExtraError, MvsdError
from mvsd.example import SAMPLES
from mvsd.fullband import extend_response
from mvsd.level import Level, LoudnessMeter
from mvsd.report import Quantity, Report
from mvsd.video import VideoReport
from mvsd.web.app import serving
from mvsd.web.inputs import Inputs
from mvsd.web.jobs import (
    Conversion,
    Limits,
    Models,
    Settings,
    Task,
    convert,
    describe_photo,
    describe_source,
)
from mvsd.web.listening import Listening, prepare_listening
from mvsd.web.room import decay_figure, inspect_rooms, rooms_json, rooms_table
from mvsd.web.visitors import Stopped, Visitors

RATE = 16_000
LIMITS = Limits(megabytes=1, seconds=20)
VOICE, ROOM = SAMPLES / "voice.flac", SAMPLES / "living-room.jpg"


@pytest.fixture(scope="module")
def models(tiny_models: ModelFiles) -> Models:
    return Models.load(tiny_models.reverberator, tiny_models.dereverberator, "cpu")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with two photos, a second of speech in stereo at 48 kHz, and an empty folder for results."""
    voice, _ = load_audio(VOICE)
    loud = np.repeat(voice[:, RATE : 2 * RATE], 3, axis=1)
    save_audio(tmp_path / "my voice.wav", np.concatenate([loud, 0.5 * loud]), 48_000)
    for seed, name in enumerate(("old.jpg", "new.jpg")):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "results").mkdir()
    return tmp_path


def settings_in(folder: Path, task: Task, **changes: Any) -> Settings:
    given = Settings(task, folder / "my voice.wav", folder / "new.jpg", folder / "old.jpg", steps=1, seed=5)
    return replace(given, **changes)


# --------------------------------------------------------------------------------------------- what is done


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("reverb", {"wet_db": -6.0, "dry_db": 1.5, "strength": 0.75, "level": "lufs"}),
        ("dereverb", {"keep_early_ms": 30.0, "level": "peak"}),
        ("transfer", {"wet_db": -3.0, "strength": 0.5}),
        ("dereverb", {"old_room": None}),
    ],
)
def test_the_command_line_does_the_same(
    task: Task,
    changes: dict[str, Any],
    files: Path,
    models: Models,
    tiny_models: ModelFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = convert(settings_in(files, task, **changes), models, files / "results", LIMITS)
    words = shlex.split(made.command)
    assert words[0] == "mvsd" and not any("/" in word for word in words if word not in map(str, tiny_models))
    monkeypatch.chdir(files)
    with pytest.raises(SystemExit) as exit_:
        main(words[1:])
    assert exit_.value.code == 0
    by_command, rate = load_audio(files / made.output.name)
    assert rate == 48_000 and by_command.shape == (2, 48_000)
    assert np.array_equal(by_command, load_audio(made.output)[0])
    assert not np.array_equal(by_command, load_audio(files / "my voice.wav")[0])


@pytest.mark.parametrize("task", ["reverb", "dereverb", "transfer"])
def test_every_option_of_the_command_exists(task: Task, files: Path, models: Models) -> None:
    own = replace(models, reverberator_file=Path("r.safetensors"), dereverberator_file=Path("d.safetensors"))
    everything = settings_in(
        files, task, wet_db=-1.0, dry_db=2.0, rt60=0.8, keep_early_ms=5.0, strength=0.5, level="peak"
    )
    words = shlex.split(everything.command(files / "out.wav", own))
    group: Any = typer.main.get_command(app)
    parsed = group.commands[task].make_context(task, words[2:]).params
    expected = {
        "source": Path("my voice.wav"),
        "out": Path("out.wav"),
        "seed": 5,
        "steps": 1,
        "strength": 0.5,
    }
    expected |= {"keep_early": 5.0} if task == "dereverb" else {"wet": -1.0, "dry": 2.0, "rt60": 0.8}
    assert {name: parsed[name] for name in expected} == expected
    assert parsed["level"].value == "peak"


def test_the_response_is_what_was_applied(files: Path, models: Models) -> None:
    """A click through the conversion is the response."""
    click = np.zeros(RATE, np.float32)
    click[0] = 0.5
    save_audio(files / "click.wav", click, RATE, subtype="FLOAT")
    for task in ("reverb", "transfer"):
        folder = files / task
        folder.mkdir()
        settings = settings_in(files, task, source=files / "click.wav", wet_db=-20.0)
        made = convert(settings, models, folder, LIMITS)
        assert made.rir is not None and made.response is not None
        if task == "reverb":
            heard = load_audio(made.output)[0][0]
            assert np.allclose(heard[: len(made.rir)], 0.5 * made.rir, atol=1e-5)
        written, _ = load_audio(made.response)
        full_band = extend_response(made.rir, 48_000, seed=settings.seed)
        np.testing.assert_array_equal(written, full_band[None])
        info = soundfile.info(made.response)
        assert (info.samplerate, info.subtype) == (48_000, "FLOAT")
    out_of_it = convert(settings_in(files, "dereverb"), models, files / "results", LIMITS)
    assert out_of_it.rir is None and out_of_it.response is None


def test_what_cannot_be_done_is_said_before_it_is_tried(files: Path, models: Models) -> None:
    results = files / "results"
    for task in ("reverb", "transfer"):
        with pytest.raises(MvsdError, match="no room to go to"):
            convert(settings_in(files, task, room=None), models, results, LIMITS)
    with pytest.raises(MvsdError, match="longer than the 0.5 s that this page takes; the command line"):
        convert(settings_in(files, "dereverb"), models, results, Limits(seconds=0.5))
    with pytest.raises(MvsdError, match="0.1 to 10 s can be made"):
        convert(settings_in(files, "reverb", rt60=60.0), models, results, LIMITS)
    (files / "broken.jpg").write_bytes(b"<script>")
    with pytest.raises(MvsdError, match="a photo in JPEG, PNG, WEBP, HEIF is needed"):
        describe_photo(files / "broken.jpg")
    assert not list(results.iterdir())


def test_uploads_are_described(files: Path) -> None:
    assert describe_source(files / "my voice.wav", LIMITS) == "1.0 s, 48 kHz, stereo"
    assert describe_photo(files / "new.jpg") == "64 x 48 pixels"
    # An MP3 of a constant bit rate states no length: it is decoded, up to the limit.
    write_with_av(files / "voice.mp3", "mp3", seconds=3)
    assert re.fullmatch(r"3\.\d s, 16 kHz, mono", describe_source(files / "voice.mp3", LIMITS))
    with pytest.raises(MvsdError, match="longer than the 2 s"):
        describe_source(files / "voice.mp3", Limits(seconds=2))


def test_a_video_keeps_its_pictures_and_needs_no_photo(files: Path, models: Models) -> None:
    write_with_av(files / "clip.mkv", "aac", seconds=1, with_pictures=True)
    assert describe_source(files / "clip.mkv", LIMITS).startswith("video, 1.")
    made = convert(
        settings_in(files, "reverb", source=files / "clip.mkv", room=None), models, files / "results", LIMITS
    )
    assert made.is_video and made.output.name == "clip-in-the-room.mkv" and made.response is None
    import av

    with av.open(str(made.output)) as video:
        assert [stream.type for stream in video.streams] == ["video", "audio"]


def write_with_av(path: Path, codec: str, *, seconds: float, with_pictures: bool = False) -> None:
    import av

    options = {"write_xing": "0"} if path.suffix == ".mp3" else {}
    with av.open(str(path), "w", options=options) as container:
        picture = container.add_stream("mpeg4", rate=10) if with_pictures else None
        sound = container.add_stream(codec, rate=RATE)
        sound.layout = "mono"
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            for _ in range(round(10 * seconds)):
                container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(picture.encode())
        samples = load_audio(VOICE)[0][:, : round(seconds * RATE)]
        samples = np.pad(samples, ((0, 0), (0, max(0, round(seconds * RATE) - samples.shape[1]))))
        for start in range(0, samples.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:, start : start + 1024]), "fltp", "mono"
            )
            frame.sample_rate, frame.pts = RATE, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())


def test_a_file_with_too_many_channels_is_not_for_the_page(tmp_path: Path) -> None:
    path = save_audio_of(tmp_path / "wide.wav", 255, 384_000)
    with pytest.raises(MvsdError, match="255 channels.* is too much for this page"):
        describe_source(path, Limits(megabytes=1, seconds=20))


def save_audio_of(path: Path, channels: int, rate: int) -> Path:
    """3 s of silence in 8 bits."""
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_U8") as file:
        for _ in range(30):
            file.write(np.zeros((rate // 10, channels), np.float32))
    return path


def test_the_limit_counts_what_a_video_makes_of_its_sound(tmp_path: Path) -> None:
    kind = Kind(".mkv", "libx264", "flac")
    late = make_video(tmp_path / "late.mkv", kind, pictures(5), None, [(40.0, noise(RATE))], RATE)
    long = make_video(
        tmp_path / "long.mkv", kind, pictures(5), 128_000 * np.arange(5), [(0, noise(RATE))], RATE
    )
    silent = without_stated_length(long, tmp_path / "silent.mkv")
    for path in (late, long, silent):
        with pytest.raises(MvsdError, match="longer than the 20 s"):
            describe_source(path, LIMITS)
    short = make_video(tmp_path / "short.mkv", kind, pictures(25), None, [(0, noise(RATE))], RATE)
    assert describe_source(without_stated_length(short, tmp_path / "live.mkv"), LIMITS).startswith(
        "video, 1.0 s"
    )


def without_stated_length(path: Path, copy: Path) -> Path:
    """The same packets in a file that is written as a stream, as browsers do."""
    import av

    with av.open(str(path)) as source, av.open(str(copy), "w", options={"live": "1"}) as output:
        streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                output.mux(packet)
    with av.open(str(copy)) as made:
        assert made.duration is None
    return copy


def test_before_and_after_of_a_video_are_on_one_clock(tmp_path: Path, files: Path, models: Models) -> None:
    kind = Kind(".mkv", "libx264", "flac")
    make_video(files / "clip.mkv", kind, pictures(25), None, [(0.5, noise(RATE))], RATE)
    made = convert(
        settings_in(files, "dereverb", source=files / "clip.mkv"), models, files / "results", LIMITS
    )
    prepare_listening(files / "clip.mkv", made.output, tmp_path)
    before, after = (load_audio(tmp_path / f"listen-{name}.wav")[0] for name in ("before", "after"))
    assert before.shape == after.shape == (1, RATE * 3 // 2)
    assert not before[:, : RATE // 2 - 1].any()


@pytest.mark.parametrize(
    ("level", "says"), [("keep", "lowered by 2.0 dB"), ("peak", "a gain of -2.0 dB for the level (p")]
)
def test_a_gain_is_said_for_what_it_is(files: Path, models: Models, level: Level, says: str) -> None:
    made = convert(settings_in(files, "reverb", level=level), models, files / "results", LIMITS)
    assert says in replace(made, report=replace(made.report, gain_db=-2.0)).summary()


def test_what_did_not_come_through_is_said(files: Path) -> None:
    settings = settings_in(files, "dereverb", level="peak")
    report = VideoReport(1.0, 48_000, 2, "aac", 3.0, (), ("stream 2 (subtitle, srt)",), short_db=1.5)
    made = Conversion(settings, Path("o.mp4"), True, None, None, report, "")
    assert "a gain of +3.0 dB for the level (peak), which stays 1.5 dB below it so as not" in made.summary()
    assert made.summary().endswith("left out is what .mp4 cannot hold: stream 2 (subtitle, srt)")
    whole = replace(made, report=replace(report, dropped=(), short_db=0.01)).summary()
    assert whole == "1.0 s, 48 kHz, stereo, a gain of +3.0 dB for the level (peak)"


@pytest.mark.parametrize("task", ["reverb", "dereverb", "transfer"])
def test_a_name_is_not_taken_for_an_option(task: Task, models: Models) -> None:
    names = {"source": Path("t/-a.wav"), "room": Path("t/-new.jpg"), "old_room": Path("t/--old.jpg")}
    words = shlex.split(Settings(task, **names).command(Path("t/-a-out.wav"), models))
    group: Any = typer.main.get_command(app)
    parsed = group.commands[task].make_context(task, words[2:]).params
    assert (parsed["source"], parsed["out"]) == (Path("-a.wav"), Path("-a-out.wav"))
    given = {
        "reverb": {"scene": "-new.jpg"},
        "dereverb": {"scene": "--old.jpg"},
        "transfer": {"source_scene": "--old.jpg", "target_scene": "-new.jpg"},
    }
    assert {name: parsed[name] for name in given[task]} == {n: Path(p) for n, p in given[task].items()}


# -------------------------------------------------------------------------------------- how it is listened to


def loudness(path: Path) -> float:
    waveform, rate = load_audio(path)
    meter = LoudnessMeter(rate, len(waveform))
    meter.add(waveform)
    return meter.level_db()


def test_both_are_heard_at_one_rate_and_as_long(tmp_path: Path) -> None:
    """A codec that has not the source's rate, and adds to its end, changes neither pitch nor length."""
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(96_480) / 48_000)[None].astype(np.float32)
    save_audio(tmp_path / "after.wav", tone, 48_000)
    save_audio(tmp_path / "before.wav", resample(tone[:, :96_000], 48_000, 44_100), 44_100)
    heard = prepare_listening(tmp_path / "before.wav", tmp_path / "after.wav", tmp_path)
    (before, rate), (after, other_rate) = (load_audio(path) for path in heard.sounds)
    assert rate == other_rate == 44_100 and before.shape == after.shape == (1, 88_200)
    np.testing.assert_allclose(after[:, 2000:-2000], before[:, 2000:-2000], atol=2e-3)


def test_a_video_without_sound_is_refused_with_the_reason(tmp_path: Path) -> None:
    silent = make_video(tmp_path / "silent.mkv", Kind(".mkv", "libx264", "flac"), pictures(5))
    with pytest.raises(MvsdError, match="has no sound"):
        describe_source(silent, LIMITS)


@pytest.mark.parametrize("gain_db", [-14.0, 9.0])
def test_both_are_equally_loud_and_do_not_clip(gain_db: float, tmp_path: Path) -> None:
    voice, rate = load_audio(VOICE)
    save_audio(tmp_path / "before.wav", voice, rate, subtype="FLOAT")
    changed = voice[:, ::-1] * 10 ** (gain_db / 20)  # the same loudness and another waveform
    save_audio(tmp_path / "after.wav", changed, rate, subtype="FLOAT")
    heard = prepare_listening(tmp_path / "before.wav", tmp_path / "after.wav", tmp_path)
    assert heard.change_db == pytest.approx(-gain_db, abs=0.1)
    before, after = (loudness(path) for path in heard.sounds)
    assert before == pytest.approx(after, abs=0.05)
    assert all(np.abs(load_audio(path)[0]).max() < 1 for path in heard.sounds)
    assert heard.seconds == pytest.approx(voice.shape[1] / rate)
    way = "louder" if gain_db > 0 else "quieter"
    assert f"in its file, after is {abs(heard.change_db or 0):.1f} dB {way} than before" in heard.markup()


def test_a_waveform_that_would_clip_lowers_both(tmp_path: Path) -> None:
    """Clicks are made as loud as noise, which full scale does not hold."""
    rng = np.random.default_rng(0)
    clicks = np.zeros(3 * RATE)
    clicks[::RATE] = 0.5
    save_audio(tmp_path / "before.wav", 0.5 * rng.uniform(-1, 1, 3 * RATE), RATE)
    save_audio(tmp_path / "after.wav", clicks, RATE)
    heard = prepare_listening(tmp_path / "before.wav", tmp_path / "after.wav", tmp_path)
    assert loudness(heard.sounds[0]) == pytest.approx(loudness(heard.sounds[1]), abs=0.1)
    assert np.abs(load_audio(heard.sounds[1])[0]).max() == pytest.approx(0.99, abs=1e-3)


def test_what_has_no_loudness_is_played_as_it_is(tmp_path: Path) -> None:
    waveform = np.full((6, 4000), 1e-3)  # six channels for 40 ms at 96 kHz
    for name in ("before.wav", "after.wav"):
        save_audio(tmp_path / name, waveform, 96_000, subtype="FLOAT")
    heard = prepare_listening(tmp_path / "before.wav", tmp_path / "after.wav", tmp_path)
    assert heard.change_db is None and "as they are" in heard.markup()
    listened, rate = load_audio(heard.sounds[1])
    assert rate == 48_000 and listened.shape == (1, 2000)
    low = [tmp_path / "low-before.wav", tmp_path / "low-after.wav"]
    for path in low:
        save_audio(path, np.full((1, 9000), 0.1), 3000)  # too low for the filters of loudness
    (tmp_path / "low").mkdir()
    assert prepare_listening(*low, tmp_path / "low").change_db is None


def test_markup_quotes_names() -> None:
    sounds = (Path("/tmp/a\"b<i>'/x.wav"), Path("/tmp/y#1.wav"))
    markup = Listening(sounds, sounds, 1.0, 8.0, 0.0).markup()
    assert "<i>'" not in markup and 'data-after="gradio_api/file=/tmp/y%231.wav"' in markup
    assert "equally loud" in markup


# ---------------------------------------------------------------------------------------- what the rooms are


def test_the_room_report(files: Path, models: Models) -> None:
    calls: list[tuple[float, float | None]] = []
    settings = settings_in(files, "reverb", source=VOICE, room=ROOM)
    made = convert(settings, models, files / "results", LIMITS)
    heard = prepare_listening(VOICE, made.output, files / "results")
    rooms = inspect_rooms(made, heard, models, lambda done, total: calls.append((done, total)))
    assert list(rooms) == ["Before, heard", "Photo, expected", "Applied, measured"]
    assert calls[-1][0] == calls[-1][1]
    record = json.loads(rooms_json(rooms))
    assert record["Photo, expected"]["kind"] == "photo" and record["Photo, expected"]["draws"] > 1
    table = rooms_table(rooms)
    for name, report in rooms.items():
        assert name in table if isinstance(report, Report) else f"{name}: {report}." in table
    assert decay_figure(rooms, files / "decay.png")
    with Image.open(files / "decay.png") as picture:
        assert picture.width > picture.height > 200


@pytest.fixture
def looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Conversion, Listening]:
    """A conversion, and sounds of which the report is their first sample."""
    sounds = (tmp_path / "before.wav", tmp_path / "after.wav")
    for path, sample in zip(sounds, (0.25, 0.5), strict=True):
        save_audio(path, np.full((1, 100), sample), RATE, subtype="FLOAT")
    monkeypatch.setattr("mvsd.web.room.inspect_recording", lambda waveform, rate: f"{waveform[0]:.2f}")
    settings = Settings("reverb", sounds[0], ROOM)
    report = VideoReport(1.0, RATE, 1, "flac", 0.0, (), ())
    made = Conversion(settings, sounds[1], False, np.zeros(100, np.float32), None, report, "")
    return made, Listening(sounds, sounds, 1.0, 8.0, 0.0)


def test_before_and_after_are_listened_to_in_that_order(
    looked_at: tuple[Conversion, Listening], models: Models
) -> None:
    made, listening = looked_at
    dry = replace(made, settings=replace(made.settings, task="dereverb"), rir=None)
    rooms = inspect_rooms(dry, listening, models)
    assert list(rooms.items()) == [("Before, heard", "0.25"), ("After, heard", "0.50")]


def test_a_response_without_a_report_leaves_that_of_the_photo(
    looked_at: tuple[Conversion, Listening], models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Report("photo", {}, {})
    monkeypatch.setattr("mvsd.web.room.inspect_photo", lambda *_, **__: seen)
    rooms = inspect_rooms(*looked_at, models)
    assert rooms["Photo, expected"] is seen and "silent" in str(rooms["Applied, measured"])


def test_a_report_can_be_stopped(looked_at: tuple[Conversion, Listening], models: Models) -> None:
    def stop(done: float, total: float | None) -> None:
        raise Stopped("stopped")

    with pytest.raises(Stopped):
        inspect_rooms(*looked_at, models, stop)


def test_the_table_has_values_ranges_and_reasons() -> None:
    broadband = {
        "rt60": Quantity(0.614, 0.5, 0.75),
        "edt": Quantity(reason='no "early" decay'),
        "drr_db": Quantity(-3.21),
    }
    report = Report("recording", broadband, {500: {"rt60": Quantity(0.7, 0.6, 0.8)}})
    table = rooms_table({"Before & after": report, "Photo": "it is <no> room"})
    assert "Before &amp; after" in table and "Photo: it is &lt;no&gt; room." in table
    assert "<td>0.61 s<small>(0.50 to 0.75)</small></td>" in table
    assert "<td>-3.2 dB</td>" in table and "500 Hz" in table
    assert "not measurable</small></summary>no &quot;early&quot; decay</details>" in table
    assert table.count('<th scope="col">Before &amp; after</th>') == 2  # also over the octaves
    assert "<table" not in rooms_table({"Before": "too short"})
    assert not decay_figure({"Before": "too short"}, Path("nowhere.png"))


# -------------------------------------------------------------------------------------------- who is there


def test_results_stay_until_the_next_ones(tmp_path: Path) -> None:
    visitors = Visitors(tmp_path)
    with visitors.job("a") as first:
        (first.folder / "out.wav").write_bytes(b"1")
    with pytest.raises(MvsdError, match="bad"), visitors.job("a") as failed:
        raise MvsdError("bad")
    assert first.folder.is_dir() and not failed.folder.exists()
    with visitors.job("../../b") as other, visitors.job("a") as second:
        assert other.folder.parent == second.folder.parent == tmp_path / "results"
    assert not first.folder.exists() and second.folder.is_dir()
    visitors.leave("a")
    assert not second.folder.exists() and other.folder.is_dir()
    visitors.leave("a")
    visitors.stop("nobody")


def test_a_job_can_be_stopped(tmp_path: Path, files: Path, models: Models) -> None:
    visitors = Visitors(tmp_path / "root")
    shares: list[float] = []

    def progress(share: float) -> None:
        shares.append(share)
        visitors.stop("a")

    settings = settings_in(files, "dereverb", source=files / "long.wav")
    save_audio(files / "long.wav", np.zeros(15 * RATE), RATE)
    with pytest.raises(Stopped, match="stopped"), visitors.job("a") as job:
        convert(settings, models, job.folder, LIMITS, job.watched(progress))
    assert len(shares) == 1 and 0 < shares[0] < 1
    assert not list((tmp_path / "root" / "results").iterdir())


def test_a_job_that_is_stopped_late_leaves_the_results_before_it(tmp_path: Path) -> None:
    visitors = Visitors(tmp_path)
    with visitors.job("a") as first:
        pass
    with pytest.raises(Stopped), visitors.job("a") as second:
        visitors.stop("a")
    assert first.folder.is_dir() and not second.folder.exists()


def test_a_job_that_is_stopped_while_it_ends_is_not_kept(tmp_path: Path) -> None:
    class Late:
        """A lock for which a stop got in before."""

        def __enter__(self) -> None:
            job.stopped.set()

        def __exit__(self, *_: object) -> None:
            pass

    visitors = Visitors(tmp_path)
    with pytest.raises(Stopped), visitors.job("a") as job:
        visitors._lock = Late()  # type: ignore[assignment]
    assert not job.folder.exists() and not visitors._results


def test_errors_tell_no_folders_of_a_server_on_windows() -> None:
    root = PureWindowsPath(r"C:\Users\Ann\Temp\mvsd-demo-1")
    told = rf"{root}\0a1b2c\voice.wav: cut short; give {root.as_posix()}/x/y.jpg or {root}\z.png"
    visitors = Visitors(root)  # type: ignore[arg-type]
    assert visitors.plain(MvsdError(told)) == "voice.wav: cut short; give y.jpg or z.png"


def test_errors_tell_no_folders_of_the_server(tmp_path: Path) -> None:
    error = MvsdError(f"{tmp_path}/0a1b2c/my voice.wav: cut short;\n give {tmp_path}/x/y.jpg again")
    assert Visitors(tmp_path).plain(error) == "my voice.wav: cut short; give y.jpg again"


def test_without_gradio_the_extra_is_named(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[web\]"'), serving(models, LIMITS):
        pass
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_settings_from_the_page() -> None:
    """In the order of the components; a photo that the task does not use is left out."""
    values = ["/t/voice.wav", None, "/t/new.jpg", "/t/old.jpg", -3, 1, 0, 20, 0.5, "lufs", 7, 0]
    into = Inputs.settings("reverb", *values)
    assert into == Settings(
        "reverb",
        Path("/t/voice.wav"),
        Path("/t/new.jpg"),
        None,
        wet_db=-3,
        dry_db=1,
        keep_early_ms=20,
        strength=0.5,
        level="lufs",
        seed=7,
    )
    out = Inputs.settings("dereverb", *values)
    assert (out.room, out.old_room) == (None, Path("/t/old.jpg"))
    both = Inputs.settings("transfer", None, "/t/clip.mp4", *values[2:6], 0.8, *values[7:11], 4)
    assert both.source.name == "clip.mp4" and (both.rt60, both.steps) == (0.8, 4)
    assert both.room and both.old_room
    with pytest.raises(MvsdError, match="no voice yet"):
        Inputs.settings("reverb", None, *values[1:])


def test_addresses_are_not_fetched_for_a_visitor() -> None:
    gradio = pytest.importorskip("gradio")
    from gradio import processing_utils

    from mvsd.web.app import _only_uploads

    fetch = processing_utils.async_ssrf_protected_download
    with _only_uploads(), pytest.raises(gradio.Error, match="only uploaded files"):
        asyncio.run(processing_utils.async_ssrf_protected_download("http://example.org/huge", "."))
    assert processing_utils.async_ssrf_protected_download is fetch
