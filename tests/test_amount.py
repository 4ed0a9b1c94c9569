"""Each amount does what it says, on rooms whose response is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_rooms import RATE, Answer, Room, noise, room, voice

from mvsd.acoustics import convolve, decay_time, drr_db
from mvsd.amount import (
    Drr,
    KeepEarly,
    Mix,
    Rt60,
    applied_room,
    dereverberation,
    reach_seconds,
    relocation,
    reverberation,
)
from mvsd.blockwise import BlockConverter, Blocks, Blockwise, Request
from mvsd.decay import bend_decay
from mvsd.errors import MvsdError, NotMeasurable
from mvsd.fullband import extend_response
from mvsd.scene import Scene
from mvsd.transfer import Transfer

SCENE = Scene(np.zeros((16, 16, 3), np.uint8))


class Broken(Blockwise):
    """Must not be run."""

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        raise AssertionError


SMALL = Room(room(0.1, num_samples=1600))
WRAPPERS: dict[str, Callable[[BlockConverter], Blockwise]] = {
    "strength": lambda converter: Mix.strength(converter, 0.3),
    "into room": lambda converter: Mix.into_room(converter, wet_db=3, dry_db=-6),
    "out of room": lambda converter: Mix.out_of_room(converter, wet_db=-20),
    "rt60": lambda converter: Rt60(converter, 0.2),
    "drr": lambda converter: Drr(converter, 3),
    "keep early": lambda converter: KeepEarly(converter, 30),
    "nested": lambda converter: Mix.strength(Mix.into_room(Drr(Rt60(converter, 0.2), 0), dry_db=-3), 0.5),
}


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples.astype(float) ** 2)))


# ------------------------------------------------------------------------------- what all have to keep


@settings(max_examples=15)
@given(
    num_samples=st.one_of(st.integers(1, 700), st.integers(1, 20_000)),
    channels=st.sampled_from([None, 1, 3]),
    rate=st.sampled_from([8000, RATE, 44_100]),
    name=st.sampled_from(sorted(WRAPPERS)),
)
def test_shape_and_rate_are_kept(num_samples: int, channels: int | None, rate: int, name: str) -> None:
    source = noise(num_samples) if channels is None else noise(channels, num_samples)
    before = source.copy()
    estimate = WRAPPERS[name](SMALL).convert(source, rate, SCENE)
    assert (estimate.shape, estimate.dtype) == (source.shape, np.float32)
    assert np.isfinite(estimate).all()
    assert np.array_equal(source, before)


@pytest.mark.parametrize("name", sorted(WRAPPERS))
def test_blocks_of_any_size_give_the_same(name: str) -> None:
    source = noise(2, 30_000)
    wrapper = WRAPPERS[name](SMALL)
    whole = wrapper.convert(source, 44_100)
    pieces = np.split(source, [1, 700, 700, 9000], axis=1)
    streamed = np.concatenate(list(wrapper.convert_blocks(pieces, Request(44_100, 2))), axis=1)
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


@pytest.mark.parametrize("name", sorted(WRAPPERS))
def test_seed_reaches_the_converter_and_decides_all(name: str) -> None:
    source, wrapper = noise(9000), WRAPPERS[name](SMALL)
    first, again, other = (wrapper.convert(source, RATE, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", sorted(WRAPPERS))
def test_silence_stays_silent_and_nan_is_refused(name: str) -> None:
    wrapper = WRAPPERS[name](SMALL)
    assert not wrapper.convert(np.zeros(5000, np.float32), RATE).any()
    with pytest.raises(MvsdError, match="finite"):
        wrapper.convert(np.array([0, np.nan], np.float32), RATE)


@pytest.mark.parametrize("name", sorted(WRAPPERS))
def test_memory_is_constant(name: str) -> None:
    num_read = num_done = most = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal num_read
        for index in range(40):
            num_read += RATE
            yield noise(1, RATE, seed=index)

    for block in WRAPPERS[name](SMALL).convert_blocks(source(), Request(RATE, 1)):
        num_done += block.shape[1]
        most = max(most, num_read - num_done)
    assert num_done == num_read == 40 * RATE
    assert most <= 9 * RATE


def test_tensors_and_arrays_come_back_as_they_went_in() -> None:
    source = noise(2, 4000)
    array = SMALL.convert(source, RATE)
    tensor = SMALL.convert(torch.from_numpy(source), RATE)
    assert isinstance(tensor, torch.Tensor)
    assert torch.equal(tensor, torch.from_numpy(array))
    assert SMALL.convert(torch.from_numpy(source[0]).double().requires_grad_(), RATE).shape == (4000,)


# ---------------------------------------------------------------------------------------------- gains


def test_strength_0_is_the_recording_bit_for_bit_and_1_the_conversion() -> None:
    source = np.r_[noise(5000), np.float32(-0.0)]
    untouched = Mix.strength(Broken(), 0).convert(source, RATE)
    assert untouched.tobytes() == source.tobytes()
    assert np.array_equal(Mix.strength(SMALL, 1).convert(source, RATE), SMALL.convert(source, RATE))


@given(strength=st.floats(0, 1))
@settings(max_examples=10)
def test_strength_is_linear_between(strength: float) -> None:
    source = noise(3000)
    estimate = SMALL.convert(source, RATE)
    expected = source + strength * (estimate - source)
    np.testing.assert_allclose(Mix.strength(SMALL, strength).convert(source, RATE), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("wet_db", "dry_db"), [(-6.0, 0.0), (0.0, -6.0), (6.0, -3.0), (-np.inf, 0.0), (0.0, -np.inf)]
)
def test_into_the_room_wet_and_dry_are_gains_of_late_and_direct_part(wet_db: float, dry_db: float) -> None:
    source, rir = noise(20_000), room(0.3)
    mix = Mix.into_room(Room(rir), wet_db=wet_db, dry_db=dry_db)
    direct, late = source, convolve(source, np.r_[0, rir[1:]])[:20_000]
    expected = 10 ** (dry_db / 20) * direct + 10 ** (wet_db / 20) * late
    converted = mix.convert(source, RATE)
    np.testing.assert_allclose(converted, expected, atol=1e-5)
    np.testing.assert_allclose(convolve(source, mix.response())[:20_000], converted, atol=1e-5)


def test_wet_moves_the_direct_to_reverberant_ratio_by_as_much() -> None:
    mix = Mix.into_room(Room(room(0.5, drr=0)), wet_db=-7)
    assert drr_db(mix.response(), RATE) == pytest.approx(7, abs=0.05)


@pytest.mark.parametrize("wet_db", [-30.0, -10.0, 0.0])
def test_out_of_the_room_wet_is_the_level_of_what_was_removed(wet_db: float) -> None:
    dry = voice(2 * RATE)
    wet = convolve(dry, room())[: len(dry)]
    estimate = Mix.out_of_room(Answer(dry), wet_db=wet_db, dry_db=-3).convert(wet, RATE)
    left = estimate - 10 ** (-3 / 20) * dry
    assert level_db(left) - level_db(wet - dry) == pytest.approx(wet_db, abs=0.01)
    assert np.corrcoef(left, wet - dry)[0, 1] == pytest.approx(1, abs=1e-4)


# ---------------------------------------------------------------------------------------------- draws


# ------------------------------------------------------------------------ direct-to-reverberant ratio


@given(change=st.floats(-20, 20), own=st.floats(0, 20), early=st.floats(0, 0.09))
@settings(max_examples=30)
def test_drr_is_what_is_measured_after(change: float, own: float, early: float) -> None:
    rir = room(0.3, drr=own)
    rir[20] += early  # within 2.5 ms, so it counts as direct, and softer than the direct sound it stays
    wanted = drr_db(rir, RATE) + change
    changed = Drr(Room(rir), wanted).response(SCENE)
    assert drr_db(changed, RATE) == pytest.approx(wanted, abs=0.01)
    assert changed[0] == rir[0]
    # But for its level the room is the same.
    np.testing.assert_allclose(
        changed[1:] * np.linalg.norm(rir[1:]), rir[1:] * np.linalg.norm(changed[1:]), atol=1e-3
    )


def test_a_ratio_is_applied_and_nearly_keeps_the_reverberation_time() -> None:
    """Nearly: the direct sound is a part of the decay that T20 is read from."""
    both = reverberation(Room(room(0.4, drr=-2)), rt60=0.8, drr=5.0)
    rir = applied_room(both).response(SCENE)
    assert decay_time(rir, RATE) == pytest.approx(0.8, rel=0.05)
    assert drr_db(rir, RATE) == pytest.approx(5, abs=0.01)
    source = noise(60_000)
    np.testing.assert_allclose(both.convert(source, RATE), convolve(source, rir)[:60_000], atol=1e-4)  # type: ignore[attr-defined]


def test_ratios_that_no_gain_reaches_are_told() -> None:
    dry = np.eye(1, 1600, dtype=np.float32)[0]
    near = dry.copy()
    near[[10, 900]] = 0.5, 0.1  # 14 dB of it arrive within 2.5 ms, at whatever gain
    for rir, ratio_db in ((dry, 10.0), (near, 10.0)):
        with pytest.raises(
            NotMeasurable, match="no gain brings this room to a direct-to-reverberant ratio of 10 dB"
        ):
            Drr(Room(rir), ratio_db).response()
    for ratio_db in (-21.0, 41.0, np.nan):
        with pytest.raises(MvsdError, match="-20 to 40 dB is wanted"):
            Drr(SMALL, ratio_db)


# -------------------------------------------------------------------------------- reverberation time


@pytest.mark.parametrize("wanted", [0.15, 0.5, 0.9, 3.0])
def test_rt60_is_what_is_measured_after(wanted: float) -> None:
    reverberator = Room(room(0.4, drr=-2))
    bent = Rt60(reverberator, wanted)
    rir = bent.response(SCENE)
    assert decay_time(rir, RATE) == pytest.approx(wanted, rel=0.02)
    assert decay_time(rir, RATE, "T30") == pytest.approx(wanted, rel=0.1)
    assert rir[0] == 1
    source = noise(60_000)
    np.testing.assert_allclose(bent.convert(source, RATE), convolve(source, rir)[:60_000], atol=1e-4)


def test_a_bent_room_is_applied_full_band_and_by_its_seed() -> None:
    rate, source = 44_100, noise(20_000)
    for seed in (0, 1):
        bent = Rt60(Room(room(0.3)), 0.5)
        rir = extend_response(bent.response(seed=seed), rate, seed=seed)
        expected = convolve(source, rir)[: len(source)]
        np.testing.assert_allclose(bent.convert(source, rate, seed=seed), expected, atol=1e-4)


def test_the_direct_to_reverberant_ratio_moves_with_the_energy_of_the_tail() -> None:
    rir = room(0.4, drr=0)
    for wanted in (0.2, 0.8, 1.6):
        moved = drr_db(bend_decay(rir, RATE, wanted), RATE) - drr_db(rir, RATE)
        assert moved == pytest.approx(-10 * np.log10(wanted / 0.4), abs=0.7)


def test_the_colour_of_the_room_stays() -> None:
    """Low octaves that ring twice as long as high ones still do."""
    spectrum = np.fft.rfft([room(0.8, seed=1), room(0.4, seed=2)])
    low = np.fft.rfftfreq(16_000, 1 / RATE) < 1000
    rir = np.fft.irfft(np.where(low, *spectrum)).astype(np.float32)
    bent = bend_decay(rir, RATE, 0.5 * decay_time(rir, RATE))
    for band_hz in (250, 500, 2000, 4000):
        before, after = (decay_time(h, RATE, band_hz=band_hz) for h in (rir, bent))
        assert after / before == pytest.approx(0.5, rel=0.12)


def test_bending_to_the_same_time_changes_nothing_that_is_loud() -> None:
    rir = room(0.5)
    bent = bend_decay(rir, RATE, decay_time(rir, RATE))
    early = slice(0, round(0.2 * RATE))
    assert level_db(bent[early] - rir[early]) < level_db(rir[early]) - 30


def test_a_long_time_is_held_to_its_end_by_a_short_response() -> None:
    rir = room(0.5, num_samples=4000)  # ends at -30 dB
    bent = bend_decay(rir, RATE, 2.0, seed=3)
    assert len(bent) >= 2 * RATE
    assert decay_time(bent, RATE, "T30") == pytest.approx(2.0, rel=0.1)
    assert np.array_equal(bent, bend_decay(rir, RATE, 2.0, seed=3))
    assert not np.array_equal(bent, bend_decay(rir, RATE, 2.0, seed=4))


def test_a_noise_floor_is_not_raised() -> None:
    """The floor at -60 dB of a short decay would be louder than the room if it were stretched with it."""
    rir = room(0.2, drr=0) + 1e-4 * noise(16_000, seed=9)
    bent = bend_decay(rir, RATE, 1.5)
    assert decay_time(bent, RATE, "T30") == pytest.approx(1.5, rel=0.1)
    assert drr_db(bent, RATE) > -11  # by the tail's energy alone: -8.8 dB


def test_a_very_dry_room_is_bent_by_what_follows_the_direct_sound() -> None:
    rir = room(0.4, drr=25)
    with pytest.raises(NotMeasurable):
        decay_time(rir, RATE)
    bent = bend_decay(rir, RATE, 0.8)
    assert decay_time(bent[40:], RATE) == pytest.approx(0.8, rel=0.05)


def test_what_cannot_be_bent() -> None:
    impulse = np.zeros(8000, np.float32)
    impulse[0] = 1
    with pytest.raises(NotMeasurable):
        bend_decay(impulse, RATE, 0.5)
    with pytest.raises(MvsdError, match=r"0\.1 to 10 s"):
        bend_decay(room(), RATE, 30)


# --------------------------------------------------------------------------------------- early sound


@pytest.fixture(scope="module")
def early_case() -> dict[str, np.ndarray]:
    """6 s of voice in a room; `early` is what arrives in the first 50 ms."""
    rir = room(0.6, drr=-3, seed=4)
    dry = voice(6 * RATE, seed=5)
    wet, early = (convolve(dry, h)[: len(dry)] for h in (rir, rir[:800]))
    return {"dry": dry, "wet": wet, "early": early}


def error_db(estimate: np.ndarray, target: np.ndarray) -> float:
    return level_db(estimate - target) - level_db(target)


def test_early_sound_is_kept_and_late_sound_is_not(early_case: dict[str, np.ndarray]) -> None:
    dry, wet, early = (early_case[name] for name in ("dry", "wet", "early"))
    kept = KeepEarly(Answer(dry), 50).convert(wet, RATE)
    assert error_db(kept, early) < min(error_db(dry, early), error_db(wet, early)) - 4
    # An estimate that is dry but for a little of the room, as real ones are.
    damp = dry + 0.3 * (wet - dry)
    kept = KeepEarly(Answer(damp), 50).convert(wet, RATE)
    assert error_db(kept, early) < min(error_db(damp, early), error_db(wet, early)) - 3


def test_more_milliseconds_keep_more(early_case: dict[str, np.ndarray]) -> None:
    dry, wet = early_case["dry"], early_case["wet"]
    levels = [level_db(KeepEarly(Answer(dry), ms).convert(wet, RATE) - dry) for ms in (10, 30, 80, 200)]
    assert levels == sorted(levels)
    assert levels[-1] < level_db(wet - dry)


def test_a_millisecond_of_early_sound_brings_no_room_back() -> None:
    """The direct sound is no part of what was removed, however strong it is."""
    dry = voice(4 * RATE)
    wet = convolve(dry, room(drr=10))[: len(dry)]
    back = KeepEarly(Answer(dry), 1).convert(wet, RATE) - dry
    assert level_db(back) < level_db(wet - dry) - 10


def test_keep_early_0_is_the_estimate() -> None:
    dry = voice(5000)
    assert np.array_equal(KeepEarly(Answer(dry), 0).convert(noise(5000), RATE), dry)


def test_channels_are_linked(early_case: dict[str, np.ndarray]) -> None:
    """A source that stands to one side stays there: the same filter for all channels."""
    dry, wet = (
        np.stack([clip, 0.25 * clip])[:, : 3 * RATE] for clip in (early_case["dry"], early_case["wet"])
    )
    left, right = KeepEarly(Answer(dry), 50).convert(wet, RATE)
    np.testing.assert_allclose(right, 0.25 * left, atol=1e-6)
    np.testing.assert_allclose(left, KeepEarly(Answer(dry[0]), 50).convert(wet[0], RATE), atol=1e-6)


def test_the_band_above_8_khz_is_that_of_the_estimate() -> None:
    rate = 48_000
    high = np.sin(2 * np.pi * 15_000 * np.arange(rate) / rate).astype(np.float32)
    kept = KeepEarly(Answer(0.5 * high), 50).convert(high, rate)
    np.testing.assert_allclose(kept[4800:-4800], 0.5 * high[4800:-4800], atol=1e-4)


# ------------------------------------------------------------------------------------- put together


def test_without_amounts_the_converter_itself() -> None:
    assert reverberation(SMALL) is SMALL
    assert dereverberation(SMALL) is SMALL
    assert isinstance(relocation(SMALL, SMALL), Transfer)


def test_amounts_apply_in_order() -> None:
    source = noise(8000)
    bent = Rt60(SMALL, 0.2).convert(source, RATE)
    wetter = source + 10 ** (6 / 20) * (bent - source)
    together = reverberation(SMALL, rt60=0.2, wet_db=6, strength=0.5)
    np.testing.assert_allclose(
        together.convert_blocks([source[None]], Request(RATE, 1)).__next__()[0],
        0.5 * (source + wetter)[:8000],
        atol=1e-5,
    )
    dry = voice(2 * RATE)
    wet = convolve(dry, room())[: len(dry)]
    kept = KeepEarly(Answer(dry), 40).convert(wet, RATE)
    expected = 0.5 * wet + 0.5 * (kept + 0.1 * (wet - kept))
    together = dereverberation(Answer(dry), keep_early_ms=40, wet_db=-20, strength=0.5)
    assert isinstance(together, Blockwise)
    np.testing.assert_allclose(together.convert(wet, RATE), expected, atol=1e-5)


def test_the_amounts_of_a_relocation_are_those_of_the_new_room() -> None:
    dry = voice(RATE)
    wet = convolve(dry, room(seed=1))[: len(dry)]
    amounts: dict[str, Any] = {"wet_db": 6.0, "dry_db": -3.0, "rt60": 0.2}
    into = reverberation(SMALL, **amounts)
    moved = relocation(Answer(dry), SMALL, **amounts, strength=0.5)
    assert isinstance(into, Blockwise)
    assert isinstance(moved, Blockwise)
    expected = (wet + into.convert(dry, RATE)) / 2
    np.testing.assert_allclose(moved.convert(wet, RATE), expected, atol=1e-5)


def test_the_applied_response_is_that_of_the_new_room() -> None:
    amounts: dict[str, Any] = {"wet_db": 6.0, "dry_db": -3.0}
    expected = SMALL.response() * 10 ** (6 / 20)
    expected[0] = 10 ** (-3 / 20)
    for strength in (1.0, 0.5):
        moved = relocation(Answer(noise(5)), SMALL, **amounts, strength=strength)
        np.testing.assert_allclose(applied_room(moved).response(), expected, atol=1e-5)
    halved = applied_room(reverberation(SMALL, **amounts, strength=0.5)).response()
    np.testing.assert_allclose(halved, (expected + np.eye(1, len(expected))[0]) / 2, atol=1e-5)
    with pytest.raises(MvsdError, match="no room response"):
        applied_room(relocation(SMALL, Answer(noise(5))))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Mix.strength(SMALL, 1.2), "strength is 1.2"),
        (lambda: Mix.strength(SMALL, float("nan")), "strength is nan"),
        (lambda: Mix.into_room(SMALL, wet_db=60), "wet is 60 dB"),
        (lambda: Mix.out_of_room(SMALL, dry_db=float("nan")), "dry is nan dB"),
        (lambda: KeepEarly(SMALL, -1), "-1 ms"),
        (lambda: Rt60(Answer(noise(5)), 0.5), "Answer generates no room response"),
        (lambda: Mix.strength(Answer(noise(5)), 0.5).response(), "Answer generates no room response"),
    ],
)
def test_amounts_out_of_range_are_one_line(build: Callable[[], object], says: str) -> None:
    with pytest.raises(MvsdError, match=says):
        build()


@pytest.mark.parametrize(("rt60", "reach"), [(None, 2.0), (0.5, 2.0), (5.0, 6.0)])
def test_a_long_room_reaches_far(rt60: float | None, reach: float) -> None:
    into_room = reverberation(SMALL, rt60=rt60, wet_db=-3, strength=0.5)
    elsewhere = relocation(Broken(), SMALL, rt60=rt60, strength=0.5)
    assert reach_seconds(into_room) == reach_seconds(elsewhere) == pytest.approx(reach)


@pytest.mark.parametrize("seconds", [0.01, 50.0, float("nan")])
def test_a_reverberation_time_that_cannot_be_made_is_refused_at_once(seconds: float) -> None:
    with pytest.raises(MvsdError, match="can be made"):
        reverberation(Room(room(0.5)), rt60=seconds)
