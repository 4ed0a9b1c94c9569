"""The shipped converters do their work: a change of a constant that their weights depend on would show here."""

from __future__ import annotations

import numpy as np
import pytest
from voices import RATE, in_room, room

import mvsd
from mvsd.acoustics import decay_time, drr_db
from mvsd.amount import response_of
from mvsd.blind import BlindEstimator
from mvsd.example import SAMPLES
from mvsd.responses import heard_room


def test_the_dereverberator_takes_a_room_away() -> None:
    pystoi = pytest.importorskip("pystoi")
    dry = mvsd.load_audio(SAMPLES / "voice.flac")[0][0][: 4 * RATE]
    wet = in_room(dry, room(0.6, 0.0)).astype(np.float32)
    out = mvsd.load("dereverberator", num_shifts=1).convert(wet, RATE)
    before, after = (pystoi.stoi(dry, sound, RATE, extended=True) for sound in (wet, out))
    assert after > before + 0.1


def test_the_dereverberator_leaves_a_dry_voice_as_it_is() -> None:
    dry = mvsd.load_audio(SAMPLES / "voice.flac")[0][0][: 4 * RATE]
    out = mvsd.load("dereverberator", num_shifts=1).convert(dry, RATE)
    changed_db = 10 * np.log10(np.square(out - dry).sum() / np.square(dry).sum())
    assert changed_db < -12
    size = 2 * len(dry)
    correlation = np.fft.irfft(np.fft.rfft(out, size) * np.fft.rfft(dry, size).conj())
    assert correlation.argmax() == 0  # not a sample late


def test_the_room_of_a_recording_is_heard_and_drawn() -> None:
    dry = mvsd.load_audio(SAMPLES / "voice.flac")[0][0]
    drawn = []
    for rt60, drr in ((0.3, 5.0), (0.9, -3.0)):
        heard = BlindEstimator.load().estimate(in_room(dry, room(rt60, drr)), RATE)
        rir = response_of(heard_room(mvsd.load("reverberator"), heard)).response()
        assert decay_time(rir, RATE) == pytest.approx(rt60, rel=0.35)
        drawn.append(drr_db(rir, RATE))
    assert drawn[0] > drawn[1] + 3


def test_the_reverberator_tells_a_studio_from_a_bathroom() -> None:
    reverberator = mvsd.load("reverberator")
    studio, bathroom = (
        reverberator.response(mvsd.Scene.open(SAMPLES / f"{name}.jpg")) for name in ("studio", "bathroom")
    )
    assert 0.15 < decay_time(studio, RATE) < 0.35 and 0.5 < decay_time(bathroom, RATE) < 1.1
    assert -2 < drr_db(studio, RATE) < 8 and -12 < drr_db(bathroom, RATE) < -2
