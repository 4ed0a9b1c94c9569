"""Room responses against closed forms, pyroomacoustics and pyrato."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal, stats

from mvsd.acoustics import (
    OCTAVE_BANDS_HZ,
    c50_db,
    c80_db,
    convolve,
    d50,
    decay_nonlinearity,
    decay_time,
    direct_index,
    drr_db,
    energy_decay_db,
    fit_response,
    octave_filter,
)
from mvsd.errors import NotMeasurable

RATE = 16_000
MEASURES = (decay_time, drr_db, c50_db, c80_db, d50)


def exponential(rt60: float, seconds: float = 1.5) -> np.ndarray:
    """exp(-t) in steps: its energy falls by 60 dB in `rt60`."""
    return 10 ** (-3 * np.arange(round(seconds * RATE)) / RATE / rt60)


def room(rt60: float, drr: float, *, seed: int = 0, seconds: float = 1.536) -> np.ndarray:
    """A unit impulse and, 2.5 ms behind it, a decaying noise with the energy that `drr` leaves it."""
    rir = np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * exponential(rt60, seconds)
    rir[:41] = 0
    rir /= np.sqrt(np.sum(rir**2) * 10 ** (drr / 10))
    rir[0] = 1
    return rir


def voice(seconds: float = 4.0, seed: int = 1) -> np.ndarray:
    """Noise with the long-term spectrum and the pauses of speech: -40 dB at 7 kHz, syllables, silences."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    coloured = signal.lfilter(*signal.butter(2, [150, 1000], "bandpass", fs=RATE), noise)
    time = np.arange(len(noise)) / RATE
    return coloured * np.clip(np.sin(2 * np.pi * 3.7 * time) + np.sin(2 * np.pi * 1.1 * time), 0, None)


class TestEnergyDecay:
    def test_exponential_falls_in_a_straight_line(self):
        curve = energy_decay_db(exponential(0.5, 3.0))
        assert np.allclose(curve[:RATE], -60 * np.arange(RATE) / RATE / 0.5, atol=1e-9)

    @given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50).filter(any))
    def test_starts_at_zero_and_never_rises(self, samples):
        curve = energy_decay_db(np.array(samples) / max(map(abs, samples)))
        assert curve[0] == 0
        assert np.all(curve[1:] <= curve[:-1])

    def test_zeros_at_the_end_are_minus_infinity(self):
        assert np.array_equal(energy_decay_db(np.array([1.0, 0.0])), [0, -np.inf])


class TestDecayTime:
    @pytest.mark.parametrize("kind", ["EDT", "T20", "T30"])
    @pytest.mark.parametrize("rt60", [0.2, 0.6, 2.0])
    def test_exponential_is_exact(self, rt60, kind):
        assert decay_time(exponential(rt60), RATE, kind) == pytest.approx(rt60, rel=1e-5)

    def test_the_end_of_the_response_does_not_shorten_it(self):
        assert decay_time(exponential(2.0, 0.9), RATE) == pytest.approx(2.0, rel=1e-4)

    @given(delay=st.integers(0, 5000), gain=st.floats(1e-3, 1e3), tail=st.integers(0, 5000))
    def test_delay_level_and_silence_behind_do_not_matter(self, delay, gain, tail):
        rir = room(0.4, 0, seconds=0.5)
        moved = np.pad(gain * rir, (delay, tail))
        assert decay_time(moved, RATE) == pytest.approx(decay_time(rir, RATE), rel=2e-3)
        assert drr_db(moved, RATE) == pytest.approx(drr_db(rir, RATE), abs=1e-6)

    @pytest.mark.parametrize("rt60", [0.3, 1.0])
    def test_noise_floor_40_db_below_does_not_lengthen_it(self, rt60):
        rir = room(rt60, -40)
        noise = 0.01 * np.abs(rir).max() * np.random.default_rng(5).standard_normal(len(rir))
        assert decay_time(rir + noise, RATE) == pytest.approx(decay_time(rir, RATE), rel=0.04)

    def test_noise_floor_inside_the_range_is_refused(self):
        rir = room(0.5, -40)
        noise = 0.02 * np.abs(rir).max() * np.random.default_rng(5).standard_normal(len(rir))
        with pytest.raises(NotMeasurable, match=r"T30 needs a decay to -35 dB.* floor at -\d+ dB"):
            decay_time(rir + noise, RATE, "T30")

    @pytest.mark.parametrize(("share", "bent"), [(0.0, False), (0.003, True)])
    def test_nonlinearity_of_two_exponentials(self, share, bent):
        """Against a line through the decay curve in closed form: the integral of each exponential's energy."""
        seconds, fast, slow = np.arange(4 * RATE) / RATE, 13.8155 / 0.2, 13.8155 / 2.0
        energy = np.exp(-fast * seconds) + share * np.exp(-slow * seconds)
        curve = 10 * np.log10(np.exp(-fast * seconds) / fast + share * np.exp(-slow * seconds) / slow)
        inside = (curve - curve[0] <= -5) & (curve - curve[0] >= -25)
        expected = 1000 * (1 - stats.linregress(seconds[inside], curve[inside]).rvalue ** 2)
        assert decay_nonlinearity(np.sqrt(energy), RATE) == pytest.approx(expected, rel=0.02, abs=1e-3)
        assert (expected > 10) == bent

    @pytest.mark.parametrize("rt60", [0.25, 0.8])
    def test_agrees_with_pyroomacoustics(self, rt60):
        rt60_module = pytest.importorskip("pyroomacoustics.experimental.rt60")
        rir = room(rt60, 0)
        assert decay_time(rir, RATE) == pytest.approx(
            rt60_module.measure_rt60(rir, RATE, decay_db=20), rel=0.005
        )

    def test_agrees_with_pyrato(self):
        edc = pytest.importorskip("pyrato.edc")
        parameters = pytest.importorskip("pyrato.parameters")
        pyfar = pytest.importorskip("pyfar")
        rir = room(0.5, -3)
        rir /= np.linalg.norm(rir)  # pyrato's levels are absolute
        curve = edc.schroeder_integration(pyfar.Signal(rir, RATE))
        for kind in ("EDT", "T20", "T30"):
            expected = parameters.reverberation_time_linear_regression(curve, T=kind).item()
            assert decay_time(rir, RATE, kind) == pytest.approx(expected, rel=0.005)
        for measure, limit in ((c50_db, 50), (c80_db, 80)):
            expected = parameters.clarity(curve, early_time_limit=limit).item()
            assert measure(rir, RATE) == pytest.approx(expected, abs=0.02)
        assert d50(rir, RATE) == pytest.approx(parameters.definition(curve).item(), abs=1e-3)

    def test_bands_are_told_apart(self):
        low, high = room(1.0, -60, seed=1), room(0.4, -60, seed=2)
        rir = octave_filter(low, RATE, 250) + octave_filter(high, RATE, 4000)
        assert decay_time(rir, RATE, band_hz=250) == pytest.approx(1.0, rel=0.12)
        assert decay_time(rir, RATE, band_hz=4000) == pytest.approx(0.4, rel=0.05)

    @pytest.mark.parametrize(
        ("rir", "reason"),
        [
            (np.zeros(8000), "silent"),
            (np.zeros(0), "silent"),
            (np.full(8000, np.nan), "not finite"),
            (np.array([1.0] + [0.0] * 8000), "no decay"),
            (np.ones(100), "too short"),
            (np.ones(8000), "does not decay|no decay"),
            (exponential(0.5)[::-1], "no decay|too short"),
            (exponential(4.0, 1.0), "the response ends or meets its noise floor at -15 dB"),
            (room(0.5, 30), "direct sound alone"),
            (np.ones((2, 8000)), "one channel"),
        ],
    )
    def test_what_cannot_be_measured_says_why(self, rir, reason):
        with pytest.raises(NotMeasurable, match=reason):
            decay_time(rir, RATE)


class TestOctaveFilter:
    @pytest.mark.parametrize("band_hz", OCTAVE_BANDS_HZ[:4])
    def test_own_t20_is_some_four_periods(self, band_hz):
        impulse = np.zeros(RATE)
        impulse[RATE // 2] = 1
        curve = energy_decay_db(octave_filter(impulse, RATE, band_hz))
        inside = np.flatnonzero((curve <= -5) & (curve >= -25))
        own = -60 / np.polyfit(inside / RATE, curve[inside], 1)[0]
        assert own * band_hz == pytest.approx(4.4, abs=0.1)

    @pytest.mark.parametrize("band_hz", OCTAVE_BANDS_HZ)
    def test_edges_are_half_power_and_the_centre_is_kept(self, band_hz):
        time = np.arange(2 * RATE) / RATE
        for frequency, gain in ((band_hz, 1), (band_hz / 2**0.5, 0.5**0.5), (band_hz * 2**0.5, 0.5**0.5)):
            tone = np.sin(2 * np.pi * frequency * time)
            filtered = octave_filter(tone, RATE, band_hz)
            assert np.allclose(
                filtered[RATE // 2 : -RATE // 2], gain * tone[RATE // 2 : -RATE // 2], atol=2e-3
            )

    @pytest.mark.parametrize("band_hz", [8000, 0, -1])
    def test_band_that_does_not_fit_is_refused(self, band_hz):
        with pytest.raises(NotMeasurable, match="does not fit below 8000 Hz"):
            octave_filter(np.ones(100), RATE, band_hz)


class TestEarlyAndLate:
    @given(drr=st.floats(-20, 30))
    def test_drr_of_impulse_and_tail(self, drr):
        assert drr_db(room(0.5, drr, seconds=0.5), RATE) == pytest.approx(drr, abs=1e-9)

    def test_drr_of_impulse_and_exponential(self):
        rir = 0.1 * exponential(0.5, 4.0)
        rir[0] = 1
        step = 10 ** (-6 / RATE / 0.5)
        early = 1 + 0.01 * (step - step**41) / (1 - step)
        late = 0.01 * step**41 / (1 - step)
        assert drr_db(rir, RATE) == pytest.approx(10 * np.log10(early / late), abs=1e-9)

    def test_clarity_and_definition_of_exponential(self):
        rir = exponential(0.5, 4.0)
        late = {ms: 10 ** (-6 * ms / 1000 / 0.5) for ms in (50, 80)}
        assert c50_db(rir, RATE) == pytest.approx(10 * np.log10(1 / late[50] - 1), abs=1e-9)
        assert c80_db(rir, RATE) == pytest.approx(10 * np.log10(1 / late[80] - 1), abs=1e-9)
        assert d50(rir, RATE) == pytest.approx(1 - late[50], abs=1e-9)

    def test_direct_sound_is_found_before_a_louder_reflection(self):
        rir = np.pad(room(0.5, 0), (300, 0))
        rir[305] = 0.7
        rir[900] = -3
        assert direct_index(rir, RATE) == 300

    @pytest.mark.parametrize("measure", [drr_db, c50_db, c80_db])
    def test_no_reverberation_is_refused(self, measure):
        with pytest.raises(NotMeasurable, match="no reverberant energy"):
            measure(np.array([0.0, 1.0, 0.0]), RATE)

    @pytest.mark.parametrize("measure", MEASURES)
    def test_input_is_not_changed(self, measure):
        rir = room(0.5, 0)
        before = rir.copy()
        measure(rir, RATE)
        assert np.array_equal(rir, before)


class TestConvolve:
    def test_agrees_with_numpy(self):
        rng = np.random.default_rng(0)
        waveform, rir = rng.standard_normal(500).astype(np.float32), rng.standard_normal(70)
        result = convolve(waveform, rir)
        assert result.dtype == np.float32
        assert np.allclose(result, np.convolve(waveform, rir), atol=1e-4)

    def test_channel_by_channel(self):
        rng = np.random.default_rng(0)
        waveform, rir = rng.standard_normal((3, 40)), rng.standard_normal(7)
        assert np.allclose(convolve(waveform, rir)[1], convolve(waveform[1], rir), atol=1e-6)


class TestFitResponse:
    @pytest.mark.parametrize(("rt60", "drr"), [(0.3, 6), (0.6, 0), (1.0, -6)])
    def test_finds_t20_and_drr_of_a_clip_cut_at_its_end(self, rt60, drr):
        source, rir = voice(), room(rt60, drr)
        fitted = fit_response(source, convolve(source, rir)[: len(source)], RATE)
        assert len(fitted) == RATE
        assert decay_time(fitted, RATE) == pytest.approx(decay_time(rir, RATE), rel=0.03)
        assert drr_db(fitted, RATE) == pytest.approx(drr, abs=0.1)

    def test_survives_distortion_20_db_below(self):
        source, rir = voice(), room(0.5, 0)
        estimate = convolve(source, rir)[: len(source)]
        distortion = voice(seed=7) * np.std(estimate) / np.std(voice(seed=7)) * 0.1
        fitted = fit_response(source, estimate + distortion, RATE)
        assert decay_time(fitted, RATE) == pytest.approx(decay_time(rir, RATE), rel=0.1)
        assert drr_db(fitted, RATE) == pytest.approx(0, abs=0.5)

    @pytest.mark.parametrize("drr", [-6, 0, 6])
    def test_band_limited_source_does_not_shift_the_drr(self, drr):
        lowpass = signal.firwin(129, 5500, fs=RATE)
        source, rir = signal.lfilter(lowpass, 1, voice()), room(0.5, drr)
        fitted = fit_response(source, convolve(source, rir)[: len(source)], RATE, lead_seconds=0.001)
        assert drr_db(fitted, RATE) == pytest.approx(drr, abs=0.3)

    def test_identity_is_an_impulse_and_the_fit_is_linear(self):
        source = voice(1.0)
        fitted = fit_response(source, source, RATE, 0.1)
        assert fitted[0] == pytest.approx(1, abs=0.01)
        assert drr_db(fitted, RATE) > 40
        assert np.allclose(fit_response(source, -2 * source, RATE, 0.1), -2 * fitted, atol=1e-4)

    def test_lead_holds_what_comes_before_the_source(self):
        source = voice(1.0)
        early = np.append(source[8:], np.zeros(8))
        fitted = fit_response(source, early, RATE, 0.1, lead_seconds=0.001)
        assert len(fitted) == 1616
        assert np.argmax(fitted) == 8

    @pytest.mark.parametrize(
        ("source", "estimate", "reason"),
        [
            (np.ones(40_000), np.ones(39_999), "40000 samples but estimate has 39999"),
            (np.ones(8000), np.ones(8000), "0.50 s of sound cannot determine a response of 1 s"),
            (np.zeros(40_000), np.ones(40_000), "silent"),
            (np.ones(40_000), np.full(40_000, np.inf), "not finite"),
        ],
    )
    def test_what_cannot_be_fitted_says_why(self, source, estimate, reason):
        with pytest.raises(NotMeasurable, match=reason):
            fit_response(source, estimate, RATE)


def test_a_dry_response_has_no_decay_and_says_so_without_a_warning() -> None:
    with pytest.raises(NotMeasurable):
        drr_db(np.eye(1, 16_000)[0], 16_000, subtract_noise=True)
