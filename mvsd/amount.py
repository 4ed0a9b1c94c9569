"""How much of a room: converters that wrap a converter and change the amount of what it does.

They nest: each takes any converter, also one of these, and is one. `reverberation`, `dereverberation` and `relocation`
put them together in the order that makes sense. Whatever they do, they keep length, rate and alignment, run in
constant memory and are deterministic by seed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import final

import numpy as np

from mvsd.acoustics import convolve, fit_response
from mvsd.blockwise import (
    CORE_RATE,
    BlockConverter,
    Blocks,
    Blockwise,
    Request,
    ResponseConverter,
    add_change,
    beside,
)
from mvsd.decay import DIRECT_SECONDS, bend_decay, require_rt60
from mvsd.errors import MvsdError, NotMeasurable
from mvsd.fullband import extend_response, spectrogram, waveform_of
from mvsd.scene import Scene
from mvsd.streaming import convolve_blocks, overlap_windows
from mvsd.transfer import Transfer

GAIN_RANGE_DB = (-np.inf, 40.0)
EARLY_RANGE_MS = (0.0, 200.0)
DRR_RANGE_DB = (-20.0, 40.0)

_FIT_SECONDS = 0.5  # of response between the dry estimate and the recording
_WINDOW, _OVERLAP = 8 * CORE_RATE, 2 * CORE_RATE
_NUM_DIRECT = round(DIRECT_SECONDS * CORE_RATE) + 1  # samples
_FADE = CORE_RATE // 200  # from early to late in 5 ms


@final
class Mix(Blockwise):
    """The recording and its conversion, each with a gain: `source` times the one plus `estimate` times the other.

    A gain of 0 leaves out its part exactly: without the estimate, the converter is not even run.
    """

    def __init__(self, converter: BlockConverter, *, source: float, estimate: float) -> None:
        self.converter, self.source, self.estimate = converter, source, estimate

    @classmethod
    def strength(cls, converter: BlockConverter, strength: float) -> Mix:
        """The share 0..1 of the change: 0 is the recording bit for bit, 1 the conversion; linear between."""
        if not 0 <= strength <= 1:
            raise MvsdError(f"strength is {strength:g}; 0 (untouched) to 1 (the whole conversion) is wanted")
        return cls(converter, source=1 - strength, estimate=strength)

    @classmethod
    def into_room(cls, reverberator: BlockConverter, *, wet_db: float = 0.0, dry_db: float = 0.0) -> Mix:
        """Gains for what the room adds (estimate - source) and for the direct voice (the source)."""
        wet, dry = _factor("wet", wet_db), _factor("dry", dry_db)
        return cls(reverberator, source=dry - wet, estimate=wet)

    @classmethod
    def out_of_room(
        cls, dereverberator: BlockConverter, *, wet_db: float = -np.inf, dry_db: float = 0.0
    ) -> Mix:
        """Gains for the room that was removed (source - estimate) and for the dry voice (the estimate)."""
        wet, dry = _factor("wet", wet_db), _factor("dry", dry_db)
        return cls(dereverberator, source=wet, estimate=dry - wet)

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        """See `Blockwise`."""
        if self.estimate == 0:
            yield from (block if self.source == 1 else np.float32(self.source) * block for block in blocks)
            return
        for source, estimate in beside(blocks, self.converter, request):
            mixed = estimate if self.estimate == 1 else np.float32(self.estimate) * estimate
            yield mixed if self.source == 0 else mixed + np.float32(self.source) * source

    def response(self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None) -> np.ndarray:
        """The response that is applied, gains included; for a converter that has one."""
        rir = np.float32(self.estimate) * response_of(self.converter).response(scene, seed=seed, steps=steps)
        rir[0] += self.source
        return rir


class ByResponse(Blockwise):
    """A converter that convolves with its response."""

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        """See `Blockwise`. Raises what `response` does."""
        yield from convolve_blocks(blocks, self.response_at(request))

    @abstractmethod
    def response(self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None) -> np.ndarray:
        """The response: (R,) at 16 kHz."""

    def response_at(self, request: Request) -> np.ndarray:
        """The response with which a recording is convolved: (S,) at its rate."""
        rir = self.response(request.scene, seed=request.seed, steps=request.steps)
        return extend_response(rir, request.sample_rate, seed=request.seed)


@final
class Rt60(ByResponse):
    """A reverberator whose room is bent to a reverberation time: broadband T20 of `seconds`, see `mvsd.decay`."""

    def __init__(self, reverberator: BlockConverter, seconds: float) -> None:
        require_rt60(seconds)
        self.reverberator, self.seconds = response_of(reverberator), seconds

    def response(self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None) -> np.ndarray:
        """The bent response (R,) at 16 kHz, R as long as the decay needs. Raises NotMeasurable as `bend_decay` does."""
        drawn = self.reverberator.response(scene, seed=seed, steps=steps)
        return bend_decay(drawn, CORE_RATE, self.seconds, seed=seed)


@final
class Drr(ByResponse):
    """A reverberator whose room is as loud as a direct-to-reverberant ratio in dB wants (`mvsd.acoustics.drr_db`)."""

    def __init__(self, reverberator: BlockConverter, ratio_db: float) -> None:
        low, high = DRR_RANGE_DB
        if not low <= ratio_db <= high:
            raise MvsdError(
                f"a direct-to-reverberant ratio of {ratio_db:g} dB was asked for; {low:g} to {high:g} dB is wanted"
            )
        self.reverberator, self.ratio_db = response_of(reverberator), ratio_db

    def response(self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None) -> np.ndarray:
        """The response at that level. Raises NotMeasurable where nothing reverberates, or nearly all within 2.5 ms."""
        rir = self.reverberator.response(scene, seed=seed, steps=steps)
        energy = np.square(rir.astype(np.float64))
        direct, early, late = energy[0], energy[1:_NUM_DIRECT].sum(), energy[_NUM_DIRECT:].sum()
        ratio = 10 ** (self.ratio_db / 10)
        # (direct + gain^2 early) / (gain^2 late) is the ratio.
        if ratio * late <= early or not direct:
            raise NotMeasurable(
                f"no gain brings this room to a direct-to-reverberant ratio of {self.ratio_db:g} dB"
            )
        changed = np.float32(np.sqrt(direct / (ratio * late - early))) * rir
        changed[0] = rir[0]
        return changed


@final
class KeepEarly(Blockwise):
    """A dereverberator that leaves the early sound in: what arrives up to `milliseconds` after the direct sound.

    Early reflections support a voice, and taking them out costs the most artefacts. Which part of the removed sound
    is early is not known, so it is inferred: window by window, the response from the dry estimate to the recording is
    fitted and split at `milliseconds`; the estimate convolved with either half, less the estimate itself, predicts the
    early and the late part of what was removed, and each bin of that goes back in the share early / (early + late) of
    their powers (a Wiener filter, the same for all channels). Computed at 16 kHz; above 8 kHz the estimate stays as it
    is. 0 ms changes nothing.
    """

    def __init__(self, dereverberator: BlockConverter, milliseconds: float) -> None:
        low, high = EARLY_RANGE_MS
        if not low <= milliseconds <= high:
            raise MvsdError(
                f"{milliseconds:g} ms of early sound were asked for; {low:g} to {high:g} can be kept"
            )
        self.dereverberator, self.milliseconds = dereverberator, milliseconds

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        """See `Blockwise`."""
        if self.milliseconds == 0:
            yield from self.dereverberator.convert_blocks(blocks, request)
            return
        # Recording and estimate travel as one stream of 2 C channels, of which the second half is changed.
        both = (np.concatenate(pair) for pair in beside(blocks, self.dereverberator, request))
        for block in add_change(both, request.sample_rate, 2 * request.num_channels, self._changes):
            yield block[request.num_channels :]

    def _changes(self, blocks: Blocks) -> Iterator[np.ndarray]:
        yield from overlap_windows(blocks, self._change, _WINDOW, _OVERLAP)

    def _change(self, window: np.ndarray, _: int) -> np.ndarray:
        """Recording over estimate (2 C, n) -> zeros over the early sound that goes back (2 C, n)."""
        source, estimate = np.split(window, 2)
        num_early = round(self.milliseconds * CORE_RATE / 1000)
        early = late = np.zeros((1, 1))
        for wet, dry in zip(source, estimate, strict=True):
            rir = _fitted(dry, wet)
            kept = rir * _early_gain(len(rir), num_early)
            early = early + _power(convolve(dry, kept)[: len(dry)] - dry)
            late = late + _power(convolve(dry, rir - kept)[: len(dry)])
        share = early / np.maximum(early + late, 1e-12)
        back = [_filtered(wet - dry, share) for wet, dry in zip(source, estimate, strict=True)]
        return np.concatenate([np.zeros_like(source), np.stack(back)])


def reverberation(
    reverberator: BlockConverter,
    *,
    wet_db: float = 0.0,
    dry_db: float = 0.0,
    rt60: float | None = None,
    drr: float | None = None,
    strength: float = 1.0,
) -> BlockConverter:
    """A reverberator with these amounts: first `Rt60`, then `Drr`, then `Mix.into_room`, then `Mix.strength`.

    Without any, the reverberator itself. Raises MvsdError for a value out of range.
    """
    if rt60 is not None:
        reverberator = Rt60(reverberator, rt60)
    if drr is not None:
        reverberator = Drr(reverberator, drr)
    if (wet_db, dry_db) != (0, 0):
        reverberator = Mix.into_room(reverberator, wet_db=wet_db, dry_db=dry_db)
    return _with_strength(reverberator, strength)


def dereverberation(
    dereverberator: BlockConverter,
    *,
    wet_db: float = -np.inf,
    dry_db: float = 0.0,
    keep_early_ms: float = 0.0,
    strength: float = 1.0,
) -> BlockConverter:
    """A dereverberator with these amounts: first `KeepEarly`, then `Mix.out_of_room`, then `Mix.strength`.

    Without any, the dereverberator itself. Raises MvsdError for a value out of range.
    """
    if keep_early_ms:
        dereverberator = KeepEarly(dereverberator, keep_early_ms)
    if (wet_db, dry_db) != (-np.inf, 0):
        dereverberator = Mix.out_of_room(dereverberator, wet_db=wet_db, dry_db=dry_db)
    return _with_strength(dereverberator, strength)


def relocation(
    dereverberator: BlockConverter,
    reverberator: BlockConverter,
    source_scene: Scene | None = None,
    *,
    wet_db: float = 0.0,
    dry_db: float = 0.0,
    rt60: float | None = None,
    drr: float | None = None,
    strength: float = 1.0,
) -> BlockConverter:
    """A `Transfer` out of the room of `source_scene` with these amounts of the new one, then `Mix.strength`.

    `wet_db`, `dry_db`, `rt60` and `drr` are those of `reverberation`. Raises MvsdError for a value out of range.
    """
    into_room = reverberation(reverberator, wet_db=wet_db, dry_db=dry_db, rt60=rt60, drr=drr)
    return _with_strength(Transfer(dereverberator, into_room, source_scene), strength)


def applied_room(converter: BlockConverter) -> ResponseConverter:
    """Of what `reverberation` or `relocation` returned, that whose response is applied, amounts included.

    The strength of a relocation is left out: it lets through the recording, whose own room is no part of the response.
    Raises MvsdError where no response is generated.
    """
    if isinstance(converter, Mix) and isinstance(converter.converter, Transfer):
        converter = converter.converter
    return response_of(converter.reverberator if isinstance(converter, Transfer) else converter)


def reach_seconds(converter: BlockConverter, least: float = 2.0) -> float:
    """How long what a converter makes of a sample goes on: `least`, or as long as `Rt60` lets it decay by 72 dB."""
    own = 1.2 * converter.seconds if isinstance(converter, Rt60) else 0.0
    inner = [getattr(converter, name, None) for name in ("converter", "reverberator")]
    return max(least, own, *(reach_seconds(part, least) for part in inner if part is not None))


def response_of(converter: BlockConverter) -> ResponseConverter:
    """The converter as one that generates a response. Raises MvsdError where it cannot."""
    if not hasattr(converter, "response"):
        raise MvsdError(
            f"{type(converter).__name__} generates no room response; use a reverberator that does"
        )
    return converter  # type: ignore[return-value]


def _with_strength(converter: BlockConverter, strength: float) -> BlockConverter:
    return converter if strength == 1 else Mix.strength(converter, strength)


def _factor(name: str, gain_db: float) -> float:
    low, high = GAIN_RANGE_DB
    if not low <= gain_db <= high:
        raise MvsdError(f"{name} is {gain_db:g} dB; {low:g} (nothing of it) to {high:g} dB is wanted")
    return float(10 ** (gain_db / 20))


def _fitted(dry: np.ndarray, wet: np.ndarray) -> np.ndarray:
    """Response (R,) from the dry estimate to the recording, both (n,); zeros where there is none to be found."""
    num_taps = round(_FIT_SECONDS * CORE_RATE)
    if len(dry) <= 2 * num_taps:  # too short to tell: what is there is padded with silence
        dry, wet = (np.pad(samples, (0, 2 * num_taps + 1 - len(samples))) for samples in (dry, wet))
    try:
        return fit_response(dry, wet, CORE_RATE, _FIT_SECONDS)
    except NotMeasurable:
        return np.zeros(num_taps, np.float32)


def _early_gain(num_taps: int, num_early: int) -> np.ndarray:
    """1 up to `num_early`, then to 0 within 5 ms: (R,)."""
    ramp = np.clip(1 - (np.arange(num_taps) - num_early) / _FADE, 0, 1)
    return np.asarray(np.sin(ramp * np.pi / 2) ** 2, dtype=np.float32)


def _power(samples: np.ndarray) -> np.ndarray:
    """Power spectrogram (F, N) of (n,)."""
    return np.asarray(np.abs(spectrogram(samples)) ** 2)


def _filtered(samples: np.ndarray, share: np.ndarray) -> np.ndarray:
    """A waveform (n,) with its spectrogram multiplied by `share` (F, N)."""
    return waveform_of(share * spectrogram(samples), len(samples))
