"""What the responses say: how far the room of the estimate is from that of the target.

The response of a clip is the one from `source` to it, `mvsd.acoustics.fit_response` over 1 s. That of the target is
taken from `rir` where the true one is known. Every measure handles the noise floor as `decay_time` does (Lundeby
1995): distortion and noise of an estimate are no room. The errors take the clips `source`, `estimate`, `target` and,
if known, `rir`; `band_hz` measures in one octave band.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from mvsd.acoustics import c50_db, d50, decay_time, drr_db, fit_response
from mvsd.errors import NotMeasurable
from mvsd.evaluation.metrics.clips import Waveform, checked, checked_pair

Response = NDArray[np.float32]


def t20_error(*, sample_rate: int, band_hz: float | None = None, **clips: Waveform) -> float:
    """Absolute difference in seconds of the T20 of the responses of estimate and target, 0 upwards.

    T20 after ISO 3382-1: slope of the decay from -5 to -25 dB, noise floor subtracted.
    """
    return _difference(partial(decay_time, band_hz=band_hz), sample_rate, **clips)


def t20_error_percent(*, sample_rate: int, band_hz: float | None = None, **clips: Waveform) -> float:
    """As `t20_error`, in percent of the target's T20; 5 % is just noticeable (ISO 3382-1, table A.1)."""
    measure = partial(decay_time, band_hz=band_hz)
    heard, wanted = _of_responses(measure, sample_rate, **clips)
    return 100 * abs(heard - wanted) / wanted


def t30_error(*, sample_rate: int, band_hz: float | None = None, **clips: Waveform) -> float:
    """Absolute difference in seconds of the T30 of the responses of estimate and target, 0 upwards.

    T30 after ISO 3382-1: slope of the decay from -5 to -35 dB, noise floor subtracted.
    """
    measure = partial(decay_time, kind="T30", band_hz=band_hz)
    return _difference(measure, sample_rate, **clips)


def edt_error(*, sample_rate: int, band_hz: float | None = None, **clips: Waveform) -> float:
    """Absolute difference in seconds of the early decay time of estimate and target, 0 upwards.

    EDT after ISO 3382-1: slope of the first 10 dB of decay, noise floor subtracted; what one hears while talking.
    """
    measure = partial(decay_time, kind="EDT", band_hz=band_hz)
    return _difference(measure, sample_rate, **clips)


def c50_error_db(*, sample_rate: int, band_hz: float | None = None, **clips: Waveform) -> float:
    """Absolute difference in dB of the clarity C50 of the responses of estimate and target, 0 upwards.

    C50 after ISO 3382-1, A.10: energy up to 50 ms after the direct sound over the later; 1 dB is just noticeable.
    """
    measure = partial(c50_db, band_hz=band_hz, subtract_noise=True)
    return _difference(measure, sample_rate, **clips)


def d50_error(*, sample_rate: int, band_hz: float | None = None, **clips: Waveform) -> float:
    """Absolute difference of the definition D50 of the responses of estimate and target, 0 to 1.

    D50 after ISO 3382-1, A.11: share of the energy up to 50 ms after the direct sound; 0.05 is just noticeable.
    """
    measure = partial(d50, band_hz=band_hz, subtract_noise=True)
    return _difference(measure, sample_rate, **clips)


def drr_error_db(*, sample_rate: int, band_hz: float | None = None, **clips: Waveform) -> float:
    """Absolute difference in dB of the direct-to-reverberant ratio of the same two responses, 0 upwards.

    Direct is what lies within 2.5 ms of the direct sound, `mvsd.acoustics.drr_db`.
    """
    measure = partial(drr_db, band_hz=band_hz, subtract_noise=True)
    return _difference(measure, sample_rate, **clips)


def residual_drr_db(*, estimate: Waveform, target: Waveform, sample_rate: int) -> float:
    """How dry a dereverberated voice is: DRR in dB of the response fitted from dry target to estimate.

    Higher is drier. Distortion counts as room (-20 dB of it limits the value to about 26 dB), so it is never
    too good: what an estimate hides from the ear but keeps for a partner network to find is seen here.
    """
    response = _response(("target", target), ("estimate", estimate), sample_rate)
    return drr_db(response, sample_rate)


def _difference(measure: Callable[[Response, int], float], sample_rate: int, **clips: Waveform) -> float:
    heard, wanted = _of_responses(measure, sample_rate, **clips)
    return abs(heard - wanted)


def _of_responses(
    measure: Callable[[Response, int], float],
    sample_rate: int,
    *,
    source: Waveform,
    estimate: Waveform,
    target: Waveform,
    rir: Waveform | None = None,
) -> tuple[float, float]:
    """`measure` of the responses of estimate and target."""
    values = []
    for name, clip, known in (("estimate", estimate, None), ("target", target, rir)):
        try:
            if known is None:
                response = _response(("source", source), (name, clip), sample_rate)
            else:
                response = checked(known, "rir").astype(np.float32)
            values.append(measure(response, sample_rate))
        except NotMeasurable as reason:
            raise NotMeasurable(f"response of the {name}: {reason}") from reason
    return values[0], values[1]


def _response(source: tuple[str, Waveform], clip: tuple[str, Waveform], sample_rate: int) -> Response:
    """Response from one named clip to another."""
    pair = checked_pair(source[1], clip[1], (source[0], clip[0]))
    return _cached_response(pair[0].tobytes(), pair[1].tobytes(), sample_rate)


@lru_cache(maxsize=4)  # the metrics of one clip share their fits
def _cached_response(source: bytes, clip: bytes, sample_rate: int) -> Response:
    """One second of response, and one millisecond before it for a converter that is not quite causal."""
    return fit_response(np.frombuffer(source), np.frombuffer(clip), sample_rate, 1.0, lead_seconds=0.001)
