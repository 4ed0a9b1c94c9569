"""Room responses: how they decay, how much of them is direct sound, and how to find one from two recordings.

A response `rir` is (T,) float. Its direct sound may stand anywhere (`direct_index` finds it); in the
responses this package simulates and generates it is at sample 0. Every measure is a number or raises
`NotMeasurable` with the reason.

References: Schroeder, "New method of measuring reverberation time", J. Acoust. Soc. Am. 37 (1965); ISO
3382-1:2009; Lundeby, Vigran, Bietz and Vorlaender, "Uncertainties of measurements in room acoustics",
Acustica 81 (1995); Chu, "Comparison of reverberation measurements using Schroeder's impulse method and
decay-curve averaging method", J. Acoust. Soc. Am. 63 (1978).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, linalg, signal
from scipy.sparse.linalg import LinearOperator, cg

from mvsd.errors import NotMeasurable

FloatArray = NDArray[np.floating]
Samples = NDArray[np.float64]
DecayKind = Literal["EDT", "T20", "T30"]

OCTAVE_BANDS_HZ = (125, 250, 500, 1000, 2000, 4000)  # 8000 needs more than 16 kHz of sample rate
_DECAY_RANGES_DB = {"EDT": (0.0, -10.0), "T20": (-5.0, -25.0), "T30": (-5.0, -35.0)}
_BLOCK_SECONDS = 0.01  # over which the squared response is averaged to find the noise floor
_MIN_BLOCKS = 5  # that a decay needs
_PREDICTION_ORDER = 32  # of the linear predictor that whitens the source: two poles per kHz


def convolve(waveform: FloatArray, rir: FloatArray) -> NDArray[np.float32]:
    """Full linear convolution: (T,) with (R,) -> (T + R - 1,); (C, T) is convolved channel by channel."""
    rir = np.asarray(rir).reshape((1,) * (np.ndim(waveform) - 1) + (-1,))
    return np.asarray(signal.oaconvolve(waveform, rir, axes=-1), dtype=np.float32)


# ------------------------------------------------------------------------------------- energy decay


def direct_index(rir: FloatArray, sample_rate: int) -> int:
    """Sample at which the direct sound arrives.

    The highest peak in the 2.5 ms that follow the first sample within 20 dB of the maximum (ISO 3382-1,
    A.3.4), so that a reflection louder than the direct sound is not taken for it.
    """
    level = np.abs(_checked(rir))
    onset = int(np.argmax(level >= 0.1 * level.max()))
    return onset + int(np.argmax(level[onset : onset + round(2.5e-3 * sample_rate)]))


def from_direct_sound(rir: FloatArray, sample_rate: int) -> NDArray[np.float32]:
    """A response (T,) from its direct sound on, divided by that: (R,). Raises NotMeasurable where it is silent."""
    samples = np.asarray(rir, np.float32)[direct_index(rir, sample_rate) :]
    return np.asarray(samples / samples[0])


def energy_decay_db(rir: FloatArray) -> Samples:
    """Energy still to come at each sample, in dB of the whole: (T,) -> (T,), starts at 0, never rises.

    Schroeder (1965), backward integration of the squared response. -inf once nothing but zeros is to come.
    """
    return _level_db(np.cumsum(_checked(rir)[::-1] ** 2)[::-1])


def decay_time(
    rir: FloatArray, sample_rate: int, kind: DecayKind = "T20", *, band_hz: float | None = None
) -> float:
    """Reverberation time in seconds per 60 dB of decay.

    Slope of the regression line through the decay curve between -5 and -25 dB (T20), -5 and -35 dB (T30), or
    0 and -10 dB (EDT), ISO 3382-1 section 5.3; `band_hz` measures in one octave band. The decay is followed
    to where it meets the noise floor, the noise power is subtracted (Chu 1978) and the energy that an
    exponential decay would still have had is added (Lundeby 1995): noise does not lengthen the value, nor
    does the end of a response shorten it.

    Raises:
        NotMeasurable: silent, not finite, too short, or the range lies below the noise or in the direct
            sound.
    """
    seconds, level_db = _decay(rir, sample_rate, kind, band_hz)
    return float(-60.0 / np.polyfit(seconds, level_db, 1)[0])


def decay_nonlinearity(rir: FloatArray, sample_rate: int, kind: DecayKind = "T20") -> float:
    """How bent the decay is that `decay_time` measures, per mille: 1000 (1 - r^2) of its line, ISO 3382-2, Annex B.

    0 is an exponential decay; of one above 10 a single time says little. Raises NotMeasurable as `decay_time` does.
    """
    return float(1000 * (1 - np.asarray(np.corrcoef(_decay(rir, sample_rate, kind, None)))[0, 1] ** 2))


def _decay(rir: FloatArray, sample_rate: int, kind: DecayKind, band_hz: float | None) -> list[Samples]:
    samples = _checked(rir)
    samples = samples[direct_index(samples, sample_rate) :]
    direct = 0
    if band_hz is not None:
        # Zeros in front keep the half of the filter's ringing that comes before the direct sound; it counts as energy
        # of the direct sound, but is no decay.
        direct = int(4 * sample_rate / band_hz)
        samples = octave_filter(np.pad(samples, (direct, 0)), sample_rate, band_hz)
    curve = _level_db(_decaying_energy(samples, sample_rate))
    upper, lower = _DECAY_RANGES_DB[kind]
    if curve[-1] > lower:
        raise NotMeasurable(
            f"{kind} needs a decay to {lower:.0f} dB, but the response ends or meets its noise floor at "
            f"{curve[-1]:.0f} dB"
        )
    inside = np.flatnonzero((curve <= upper) & (curve >= lower))
    inside = inside[inside >= direct]
    if len(inside) < 3 or curve[inside[0]] - curve[inside[-1]] < (upper - lower) / 2:
        raise NotMeasurable(
            f"{kind} needs a gradual decay, but the direct sound alone holds nearly all the energy"
        )
    return [inside / sample_rate, curve[inside]]


def decay_end(rir: FloatArray, sample_rate: int) -> int:
    """Sample from which on a response (T,) holds nothing but its noise floor; about T where it has none.

    Raises:
        NotMeasurable: silent, not finite, too short, or no decay above the floor.
    """
    samples = _checked(rir)
    direct = direct_index(samples, sample_rate)
    return direct + len(_decaying_energy(samples[direct:], sample_rate))


def octave_filter(waveform: FloatArray, sample_rate: int, band_hz: float) -> Samples:
    """The octave around `band_hz`: (T,) -> (T,), without delay.

    Zero phase, -3 dB at the band edges, the magnitude of a Butterworth band-pass of order 6. It rings equally
    before and after, with a T20 of 4.4 periods of `band_hz` (0.035 s at 125 Hz): a T20 is the room's own from
    some 20 periods on, an EDT from some 80.

    Raises:
        NotMeasurable: the octave does not fit below half the sample rate.
    """
    if not 0 < band_hz * np.sqrt(2) < sample_rate / 2:
        raise NotMeasurable(f"the octave at {band_hz:g} Hz does not fit below {sample_rate / 2:g} Hz")
    size = fft.next_fast_len(len(waveform) + int(16 * sample_rate / band_hz), real=True)
    ratio = np.maximum(fft.rfftfreq(size, 1 / sample_rate), 1e-9) / band_hz
    detuning = np.sqrt(2) * (ratio - 1 / ratio)  # +-1 at the band edges, a factor sqrt(2) either side
    response = 1 / np.sqrt(1 + detuning**6)
    return np.asarray(fft.irfft(fft.rfft(waveform, size) * response, size)[: len(waveform)])


def _decaying_energy(samples: Samples, sample_rate: int) -> Samples:
    """Backward integral of the squared response up to where it meets its noise floor: (T,) -> (E,), E <= T.

    After Lundeby (1995): noise power from the last tenth, a line through the decay above it, the crossing of
    the two, then again with the noise from behind the crossing. The integral stops at the crossing, without
    the noise power (Chu 1978), and gets the energy that the line has beyond it. Where the response ends
    before it meets a floor, nothing is subtracted.
    """
    size = max(1, round(_BLOCK_SECONDS * sample_rate))
    num_blocks = len(samples) // size
    if num_blocks < _MIN_BLOCKS:
        raise NotMeasurable(f"a response of {len(samples) / sample_rate:.3f} s is too short to show a decay")
    power = np.mean(samples[: num_blocks * size].reshape(num_blocks, size) ** 2, axis=1)
    least_noise = max(1e-10 * power.max(), 1e-300)  # the rounding of a stored response is no decay
    levels = 10 * np.log10(np.maximum(power, least_noise / 10))
    last_tenth = num_blocks - max(1, num_blocks // 10)
    tail = last_tenth
    for _ in range(5):
        noise = max(float(np.mean(power[tail:])), least_noise)
        noise_db = float(10 * np.log10(noise))
        offset, slope = _late_decay(levels, noise_db)
        crossing = min((noise_db - offset) / slope, num_blocks)
        tail = min(int(crossing - 10 / slope), last_tenth)
    if crossing > last_tenth:
        crossing, noise = num_blocks, 0.0
    end = round(max(crossing, 1) * size)
    energy_beyond = 10 ** ((offset + slope * end / size) / 10) * size * 10 / (np.log(10) * -slope)
    return np.asarray(np.cumsum((samples[:end] ** 2 - noise)[::-1])[::-1] + energy_beyond)


def _late_decay(levels: Samples, noise_db: float) -> tuple[float, float]:
    """Line (offset in dB, slope in dB per block) through the blocks that lie 7 to 30 dB above the noise.

    Where single late reflections make that part rise, the line goes through the whole decay.
    """
    peak = int(np.argmax(levels))
    below = np.flatnonzero(levels[peak:] < noise_db + 7)
    stop = peak + int(below[0]) if len(below) else len(levels)
    above = np.flatnonzero(levels[peak:stop] > noise_db + 30)
    late = min(peak + int(above[-1]) + 1 if len(above) else peak + 1, max(stop - _MIN_BLOCKS, peak + 1))
    for start in (late, peak):
        if stop - start < 3:
            raise NotMeasurable("the response shows no decay above its noise floor")
        slope, offset = np.polyfit(np.arange(start, stop) + 0.5, levels[start:stop], 1)
        if slope < 0:
            return float(offset), float(slope)
    raise NotMeasurable("the response does not decay")


# ---------------------------------------------------------------------------- early and late energy


def drr_db(
    rir: FloatArray,
    sample_rate: int,
    direct_ms: float = 2.5,
    *,
    band_hz: float | None = None,
    subtract_noise: bool = False,
) -> float:
    """Direct-to-reverberant energy ratio in dB.

    Energy within `direct_ms` of the direct sound, before and after it, over the energy of all the rest.
    `band_hz` measures in one octave band: the response is first cut in time, then filtered, so that the filter
    carries nothing from one part into the other. `subtract_noise` leaves the noise floor out of the rest and adds
    what it hides, as in `decay_time`; without it, whatever is not direct sound counts as reverberation.

    Raises:
        NotMeasurable: silent, not finite, nothing but direct sound, or (`subtract_noise`) no decay to be seen.
    """
    width = round(direct_ms / 1000 * sample_rate)
    return _ratio_db(*_split_energy(rir, sample_rate, (-width, width + 1), band_hz, subtract_noise))


def c50_db(
    rir: FloatArray, sample_rate: int, *, band_hz: float | None = None, subtract_noise: bool = False
) -> float:
    """Clarity of speech, dB: energy up to 50 ms after the direct sound over the later (ISO 3382-1, A.10).

    Options as in `drr_db`.
    """
    return _ratio_db(*_early_late(rir, sample_rate, 0.050, band_hz, subtract_noise))


def c80_db(
    rir: FloatArray, sample_rate: int, *, band_hz: float | None = None, subtract_noise: bool = False
) -> float:
    """Clarity of music, dB: energy up to 80 ms after the direct sound over the later (ISO 3382-1, A.10).

    Options as in `drr_db`.
    """
    return _ratio_db(*_early_late(rir, sample_rate, 0.080, band_hz, subtract_noise))


def d50(
    rir: FloatArray, sample_rate: int, *, band_hz: float | None = None, subtract_noise: bool = False
) -> float:
    """Definition, 0..1: share of the energy up to 50 ms after the direct sound (ISO 3382-1, A.11).

    Options as in `drr_db`.
    """
    early, late = _early_late(rir, sample_rate, 0.050, band_hz, subtract_noise)
    return early / (early + late)


def _early_late(
    rir: FloatArray, sample_rate: int, seconds: float, band_hz: float | None, subtract_noise: bool
) -> tuple[float, float]:
    """Energy before and after `seconds` behind the direct sound."""
    window = (-len(rir), round(seconds * sample_rate))
    return _split_energy(rir, sample_rate, window, band_hz, subtract_noise)


def _split_energy(
    rir: FloatArray, sample_rate: int, window: tuple[int, int], band_hz: float | None, subtract_noise: bool
) -> tuple[float, float]:
    """Energy within `window`, in samples from the direct sound, and energy of the rest."""
    samples = _checked(rir)
    direct = direct_index(samples, sample_rate)
    start, stop = max(0, direct + window[0]), direct + window[1]
    before, early, late = samples[:start], samples[start:stop], samples[stop:]
    if band_hz is not None:
        ringing = int(4 * sample_rate / band_hz)
        before, early = (
            octave_filter(np.pad(part, ringing), sample_rate, band_hz) for part in (before, early)
        )
        late = octave_filter(np.pad(late, (ringing, 0 if subtract_noise else ringing)), sample_rate, band_hz)
    late_energy = _decaying_energy(late, sample_rate)[0] if subtract_noise else np.sum(late**2)
    return float(np.sum(early**2)), float(np.sum(before**2) + late_energy)


def _ratio_db(early: float, late: float) -> float:
    if late <= 0:
        raise NotMeasurable("the response holds no reverberant energy, so the ratio is infinite")
    return float(10 * np.log10(early / late))


# ------------------------------------------------------------------------------- fitting a response


def fit_response(
    source: FloatArray,
    estimate: FloatArray,
    sample_rate: int,
    seconds: float = 1.0,
    *,
    lead_seconds: float = 0.0,
    regularization: float = 1e-3,
    num_iterations: int = 30,
) -> NDArray[np.float32]:
    """The response h for which source * h is nearest to the estimate: (T,), (T,) -> (R,).

    R is (lead_seconds + seconds) x rate.

    Regularised least squares over all T samples, min |estimate - (source * h)[:T]|^2 + regularization x power
    x |h|^2, solved by conjugate gradients with a circulant preconditioner. Both signals first pass the causal
    linear predictor of the source, so that every frequency counts alike although speech has its energy below
    4 kHz; being causal, that and the cut of the reverberant tail at T cost no exactness. With `lead_seconds`
    the response starts that much before the source, for estimates that are not causal.

    From 4 s of speech in a room of 0.3 to 1.2 s the T20 comes within 2 %, the DRR within 0.05 dB. What is not
    a convolution (distortion, noise) spreads evenly over the response: distortion 20 dB below the speech
    limits the DRR to 26 dB and the T20 to decays that end above it. Frequencies that the source lacks (an MP3
    above 6 kHz) are left out: the direct sound then spreads to both sides, and its DRR needs a
    `lead_seconds` of 0.001, without which it comes out up to 1 dB high.

    Raises:
        NotMeasurable: lengths differ, not finite, silent, or shorter than the response.
    """
    x, y = _checked(source), _checked(estimate)
    lead = round(lead_seconds * sample_rate)
    num_taps = lead + round(seconds * sample_rate)
    if x.shape != y.shape:
        raise NotMeasurable(
            f"source has {len(x)} samples but estimate has {len(y)}; they must be aligned and equal"
        )
    if len(x) <= num_taps:
        raise NotMeasurable(
            f"{len(x) / sample_rate:.2f} s of sound cannot determine a response of {seconds:g} s"
        )
    whitening = _prediction_filter(x)
    x, y = signal.lfilter(whitening, 1, x), signal.lfilter(whitening, 1, y)
    return _solve_taps(x, y, num_taps, lead, regularization, num_iterations).astype(np.float32)


def _solve_taps(
    x: Samples, y: Samples, num_taps: int, lead: int, regularization: float, num_iterations: int
) -> Samples:
    """Taps h of min |y[t] - sum_k h[k] x[t + lead - k]|^2 + ridge |h|^2 over all t for which x is known."""
    size = fft.next_fast_len(len(x) + num_taps, real=True)
    spectrum = fft.rfft(x, size)
    power = np.abs(spectrum) ** 2
    ridge = regularization * power.mean()
    # The circulant preconditioner: the power spectrum at the resolution that num_taps lags can show.
    lags = np.minimum(np.arange(size), size - np.arange(size))
    smooth_power = np.real(fft.rfft(fft.irfft(power, size) * np.maximum(0, 1 - lags / num_taps))) + ridge

    def correlate(rows: Samples) -> Samples:
        return np.asarray(fft.irfft(spectrum.conj() * fft.rfft(rows, size), size)[:num_taps])

    def normal_product(taps: Samples) -> Samples:
        rows = fft.irfft(spectrum * fft.rfft(taps, size), size)[: len(x)]
        rows[:lead] = 0
        return np.asarray(correlate(rows) + ridge * taps)

    def precondition(taps: Samples) -> Samples:
        return np.asarray(fft.irfft(fft.rfft(taps, size) / smooth_power, size)[:num_taps])

    shape = (num_taps, num_taps)
    taps, _ = cg(
        LinearOperator(shape, matvec=normal_product, dtype=np.float64),
        correlate(np.concatenate([np.zeros(lead), y[: len(x) - lead]])),
        M=LinearOperator(shape, matvec=precondition, dtype=np.float64),
        rtol=1e-6,
        maxiter=num_iterations,
    )
    return np.asarray(taps)


def _prediction_filter(samples: Samples) -> Samples:
    """Causal filter that makes `samples` white: linear prediction by the autocorrelation method."""
    size = fft.next_fast_len(len(samples) + _PREDICTION_ORDER, real=True)
    correlation = fft.irfft(np.abs(fft.rfft(samples, size)) ** 2, size)[: _PREDICTION_ORDER + 1]
    correlation[0] *= 1 + 1e-8  # a floor at -80 dB: bands that hold nothing are not blown up
    coefficients = linalg.solve_toeplitz(correlation[:-1], correlation[1:])
    return np.asarray(np.concatenate([np.ones(1), -coefficients]))


# ------------------------------------------------------------------------------------ common pieces


def _checked(samples: FloatArray) -> Samples:
    """A copy in double precision; refuses what cannot be measured."""
    checked = np.array(samples, dtype=np.float64)
    if checked.ndim != 1:
        raise NotMeasurable(f"one channel of samples (T,) is needed, not an array of shape {checked.shape}")
    if not np.isfinite(checked).all():
        raise NotMeasurable("the signal holds values that are not finite (NaN or infinity)")
    if not np.any(checked):
        raise NotMeasurable("the signal is silent")
    return checked


def _level_db(energy: Samples) -> Samples:
    """Level in dB relative to the first value."""
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(np.maximum(energy, 0) / energy[0]))
