"""A room's response as a file: what a convolution with it gives is what the converter gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Models
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from mvsd.acoustics import convolve, decay_time, drr_db
from mvsd.amount import Mix, Rt60, response_of
from mvsd.blind import BlindEstimate
from mvsd.blockwise import BlockConverter, Blocks, Request
from mvsd.converter import load
from mvsd.errors import AudioFileError, MvsdError, NotMeasurable, OutputExistsError
from mvsd.fullband import extend_response
from mvsd.responses import (
    KnownRoom,
    describe_response,
    heard_room,
    load_room,
    room_response,
    write_response,
)
from mvsd.scene import Scene

RATE = 16_000
SCENE = Scene(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))


def decaying(rt60: float = 0.4, drr: float = -3.0, num_samples: int = RATE) -> np.ndarray:
    """Noise under an exponential after a direct sound of 1, with a direct-to-reverberant ratio."""
    tail = np.random.default_rng(1).standard_normal(num_samples) * 10 ** (
        -3 * np.arange(num_samples) / RATE / rt60
    )
    tail[:48] = 0
    tail *= np.sqrt(10 ** (-drr / 10) / np.sum(tail**2))
    tail[0] = 1
    return tail.astype(np.float32)


class Drawn:
    """A response that is given."""

    def __init__(self, rir: np.ndarray) -> None:
        self.rir = rir

    def response(self, *_: object, **__: object) -> np.ndarray:
        return self.rir.copy()

    def convert_blocks(self, blocks: Blocks, request: Request) -> object:
        raise AssertionError


@pytest.mark.parametrize("rate", [8000, RATE, 44_100, 96_000])
def test_convolution_with_it_is_the_conversion(tiny_models: Models, rate: int) -> None:
    reverberator = load(tiny_models.reverberator)
    mixed = Mix.into_room(reverberator, wet_db=-4, dry_db=2)
    source = 0.1 * np.random.default_rng(2).standard_normal(rate // 2).astype(np.float32)
    for converter in (reverberator, mixed):
        rir = room_response(converter, SCENE, rate, seed=3)
        expected = converter.convert(source, rate, SCENE, seed=3)
        np.testing.assert_allclose(convolve(source, rir)[: len(source)], expected, atol=1e-4)
    assert rir[0] == pytest.approx(10 ** (2 / 20))
    assert len(rir) == round(4096 * rate / RATE)


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_length(rate: int) -> None:
    drawn: BlockConverter = Drawn(decaying())  # type: ignore[assignment]
    whole = room_response(drawn, None, rate)
    assert len(whole) == rate
    short, long = (room_response(drawn, None, rate, seconds=seconds) for seconds in (0.25, 1.5))
    assert (len(short), len(long)) == (rate // 4, 3 * rate // 2)
    fade = rate // 100
    assert np.array_equal(short[:-fade], whole[: rate // 4 - fade])
    assert (np.abs(short[-fade:]) <= np.abs(whole[rate // 4 - fade : rate // 4]) + 1e-7).all()
    assert short[-1] == pytest.approx(0, abs=1e-9)
    assert np.array_equal(long, np.pad(whole, (0, rate // 2)))


@pytest.mark.filterwarnings("ignore::scipy.io.wavfile.WavFileWarning")  # of the chunk with the peak
def test_other_programs_read_it(tmp_path: Path) -> None:
    rir = decaying(drr=-12)  # some reflection is louder than the direct sound
    rir *= 1 / np.abs(rir[:1])
    loud = max(1.0, float(np.abs(rir).max()))
    for name, subtype in (("float.wav", "FLOAT"), ("fixed.wav", "PCM_24")):
        gain_db = write_response(tmp_path / name, rir, 48_000, subtype=subtype)
        assert soundfile.info(tmp_path / name).subtype == subtype
        rate, samples = wavfile.read(tmp_path / name)
        assert (rate, samples.shape) == (48_000, rir.shape)
        if subtype == "FLOAT":
            assert gain_db == 0
            assert np.array_equal(samples, rir)
        else:
            assert gain_db == pytest.approx(-20 * np.log10(loud), abs=1e-6)
            scaled = samples / 2**31  # scipy puts 24 bits into the upper part of 32
            np.testing.assert_allclose(scaled, rir / loud, atol=2**-22)


def test_existing_files_and_bad_names(tmp_path: Path) -> None:
    path = tmp_path / "ir.wav"
    write_response(path, decaying(), RATE)
    with pytest.raises(OutputExistsError, match="--force"):
        write_response(path, decaying(), RATE)
    write_response(path, decaying(0.2), RATE, force=True)
    assert np.array_equal(soundfile.read(path, dtype="float32")[0], decaying(0.2))
    with pytest.raises(AudioFileError):
        write_response(tmp_path / "ir.txt", decaying(), RATE)


def t20(description: str) -> float:
    match = re.match(r"T20 (\d+\.\d\d) s, T30 \d+\.\d\d s, DRR -?\d+\.\d dB$", description)
    assert match
    return float(match[1])


def test_what_is_measured() -> None:
    assert describe_response(decaying(0.4, drr=-3), RATE).endswith("DRR -3.0 dB")
    assert t20(describe_response(decaying(0.4), RATE)) == pytest.approx(0.4, rel=0.06)
    impulse = np.zeros(RATE, np.float32)
    impulse[0] = 1
    assert describe_response(impulse, RATE) == "T20 not measurable, T30 not measurable, DRR not measurable"


@pytest.mark.parametrize("rate", [RATE, 44_100, 48_000])
@pytest.mark.parametrize("drr", [-3.0, 6.0])
@pytest.mark.parametrize("rt60", [0.25, 1.2])
def test_a_bent_room(rate: int, drr: float, rt60: float) -> None:
    """The band above 8 kHz, which the air absorbs and where the direct sound is loudest, is not what was asked for."""
    drawn: BlockConverter = Drawn(decaying(drr=drr))  # type: ignore[assignment]
    rir = room_response(Rt60(drawn, rt60), None, rate)
    assert t20(describe_response(rir, rate)) == pytest.approx(rt60, rel=0.02, abs=0.01)


def test_out_of_range(tiny_models: Models) -> None:
    drawn: BlockConverter = Drawn(decaying())  # type: ignore[assignment]
    with pytest.raises(MvsdError, match="a rate of 4000 Hz"):
        room_response(drawn, None, 4000)
    with pytest.raises(MvsdError, match="0 s of response"):
        room_response(drawn, None, RATE, seconds=0)
    with pytest.raises(MvsdError, match="generates"):
        room_response(load(tiny_models.dereverberator), None, RATE)


# ------------------------------------------------------------------------------ a response that is known


def noise(*shape: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(5).standard_normal(shape).astype(np.float32)


@given(
    gain=st.floats(1e-3, 100) | st.floats(-100, -1e-3),
    delay=st.integers(0, 3000),
    num_samples=st.integers(1, 3000),
    channels=st.sampled_from([None, 1, 3]),
)
@settings(max_examples=20)
def test_whatever_its_level_and_delay_a_response_leaves_the_voice_where_it_is(
    gain: float, delay: int, num_samples: int, channels: int | None
) -> None:
    rir = decaying(0.1, num_samples=2000)
    source = noise(num_samples) if channels is None else noise(channels, num_samples)
    converted = KnownRoom(np.float32(gain) * np.pad(rir, (delay, 0)), RATE).convert(
        source, RATE, SCENE, seed=7
    )
    assert (converted.shape, converted.dtype) == (source.shape, np.float32)
    for dry, wet in zip(np.atleast_2d(source), np.atleast_2d(converted), strict=True):
        np.testing.assert_allclose(wet, convolve(dry, rir)[:num_samples], atol=1e-5)


def test_a_response_has_the_upper_band_that_it_was_given_or_one_that_follows() -> None:
    rir, source = decaying(0.1, num_samples=4800), noise(9600)
    for rate in (44_100, 48_000):
        own = KnownRoom(rir, rate).convert(source, rate)
        np.testing.assert_allclose(own, convolve(source, rir)[:9600], atol=1e-5)
        continued = KnownRoom(rir, RATE).convert(source, rate, seed=3)
        expected = convolve(source, extend_response(rir, rate, seed=3))[:9600]
        np.testing.assert_allclose(continued, expected, atol=1e-5)


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_below_8_khz_a_response_is_the_same_at_any_rate(rate: int) -> None:
    rir = decaying(0.4, drr=-3)
    room = KnownRoom(extend_response(rir, rate), rate)
    assert drr_db(room.response(), RATE) == pytest.approx(-3, abs=0.3)
    assert room.response()[0] == 1


def test_blocks_of_any_size_give_the_same_and_silence_stays_silent() -> None:
    room, source = KnownRoom(decaying(0.1, num_samples=3000), RATE), noise(2, 30_000)
    pieces = np.split(source, [1, 700, 700, 9000], axis=1)
    for rate in (RATE, 44_100):
        streamed = np.concatenate(list(room.convert_blocks(pieces, Request(rate, 2))), axis=1)
        np.testing.assert_allclose(streamed, room.convert(source, rate), atol=1e-5)
        assert not room.convert(np.zeros(5000, np.float32), rate).any()


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_what_was_written_is_the_room_that_was_drawn(tiny_models: Models, tmp_path: Path, rate: int) -> None:
    reverberator, source = load(tiny_models.reverberator), noise(20_000)
    write_response(tmp_path / "ir.wav", room_response(reverberator, SCENE, rate, seed=3), rate)
    expected = reverberator.convert(source, rate, SCENE, seed=3)
    np.testing.assert_allclose(load_room(tmp_path / "ir.wav").convert(source, rate), expected, atol=1e-4)


def test_its_amounts_can_be_changed() -> None:
    rir, source = decaying(0.3), noise(8000)
    mixed = Mix.into_room(KnownRoom(rir, RATE), wet_db=-20)
    expected = source + 0.1 * (convolve(source, rir)[:8000] - source)
    np.testing.assert_allclose(mixed.convert(source, RATE), expected, atol=1e-5)
    bent = Rt60(KnownRoom(rir, RATE), 0.6).response()
    assert re.match(r"T20 0\.(59|6\d) s", describe_response(bent, RATE))


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.zeros(999), "no impulse response: the signal is silent"),
        (np.full((999, 2), 0.5), "2 channels; a response has one"),
        (np.full(61 * 8000, 0.5), "longer than 60 s"),
    ],
)
def test_what_is_no_response_is_refused(tmp_path: Path, samples: np.ndarray, says: str) -> None:
    soundfile.write(tmp_path / "ir.wav", samples, 8000)
    with pytest.raises(AudioFileError, match=f"ir.wav: {says}"):
        load_room(tmp_path / "ir.wav")


def test_a_response_without_a_direct_sound_is_not_measurable() -> None:
    for rir in (np.zeros(100), np.full(100, np.nan), np.zeros((2, 100))):
        with pytest.raises(NotMeasurable):
            KnownRoom(rir, RATE)


@pytest.mark.parametrize(
    ("heard", "given", "expected"),
    [
        ((0.6, 2.0), {}, (0.6, 2.0)),
        ((0.6, 2.0), {"drr": -4.0}, (0.6, -4.0)),
        ((0.6, 2.0), {"rt60": 0.3, "seen": True, "drr": 1.0}, (0.3, 1.0)),
        ((0.01, 99.0), {}, (0.1, 40.0)),
    ],
)
def test_a_room_that_was_heard_has_what_was_heard(
    heard: tuple[float, float], given: dict[str, Any], expected: tuple[float, float]
) -> None:
    estimate = BlindEstimate(heard[0], 0.1, {}, {}, heard[1], 1.0, 0.0, 1.0)
    rir = response_of(heard_room(KnownRoom(decaying(0.4), RATE), estimate, **given)).response()
    assert drr_db(rir, RATE) == pytest.approx(expected[1], abs=0.01)
    if expected[1] < 10:  # else the direct sound is nearly all there is
        assert decay_time(rir, RATE) == pytest.approx(expected[0], rel=0.05)


def test_of_a_room_that_is_seen_too_only_the_time_is_taken_from_what_was_heard() -> None:
    drawn, estimate = KnownRoom(decaying(0.4), RATE), BlindEstimate(0.6, 0.1, {}, {}, 20.0, 1.0, 0.0, 1.0)
    both = response_of(heard_room(drawn, estimate, seen=True)).response()
    np.testing.assert_array_equal(both, Rt60(drawn, 0.6).response())
