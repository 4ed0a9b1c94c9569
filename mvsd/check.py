"""Guards: did a conversion change what was said, or who said it?

Both questions are asked of pieces of ten seconds. *Words*: an offline recogniser (PocketSphinx) writes down what it
hears in the recording, and is then asked how well that text fits the sound of the result (forced alignment). Comparing
two transcripts would not do: in a reverberant room the recogniser mishears most words, and differently each time, but
what it misheard still fits the same sounds. *Voice*: the cosine of two speaker embeddings, where a speaker network is
installed (`mvsd.evaluation.metrics.speakers`).

The thresholds, and what they find, were measured with benchmarks/check.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mvsd.audio import resample
from mvsd.blockwise import CORE_RATE, BlockConverter, Blocks, Blockwise, Request, beside
from mvsd.errors import MvsdError

PIECE_SECONDS = 10.0
LEAST_FIT = -2.5
"""Mean log-likelihood per frame of 10 ms, relative to the best sound of all, below which words have changed."""
LEAST_SIMILARITY = 0.65
"""Cosine of two speaker embeddings below which the voice has changed."""

_LEAST_SECONDS = 1.0
_LEVEL = 0.05  # root mean square at which the recogniser hears a piece
_SILENCE = 1e-4  # root mean square of a piece without speech


@dataclass
class Check:
    """What was found in one recording.

    Seconds at which each piece begins, by what was asked of it: `words` maps to its fit (-inf: no alignment at all),
    `voices` to its similarity. `missing` says why a question could not be asked.
    """

    words: dict[float, float] = field(default_factory=dict)
    voices: dict[float, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, source: NDArray[np.float32], estimate: NDArray[np.float32], start: float) -> None:
        """Listen to a piece (n,) at 16 kHz, before and after, that begins at `start` seconds."""
        if _level(source) < _SILENCE:
            return
        if _level(estimate) < _SILENCE:
            if heard(levelled(source)):
                self.words[start] = float("-inf")  # all of them are gone
            return
        source, estimate = levelled(source), levelled(estimate)
        fit = compare_words(source, estimate)
        if fit is not None:
            self.words[start] = fit
        if not self.missing:
            try:
                self.voices[start] = voice_similarity(source, estimate)
            except MvsdError as error:
                self.missing.append(f"the voice was not compared: {error}")

    def warnings(self) -> list[str]:
        """A line for each question that came out badly, or could not be asked."""
        lines = []
        if not self.words:
            lines.append("the words were not compared: the recogniser hears none in the recording")
        for what, values, least in (
            ("words", self.words, LEAST_FIT),
            ("voice", self.voices, LEAST_SIMILARITY),
        ):
            changed = {start: value for start, value in values.items() if value < least}
            if changed:
                worst = min(changed, key=lambda start: changed[start])
                lines.append(
                    f"the {what} may have changed in {len(changed)} of {len(values)} pieces of {PIECE_SECONDS:g} s, "
                    f"most at {worst:g} s ({changed[worst]:.2f}, at least {least:g} is usual)"
                )
        return lines + self.missing


@final
class Checked(Blockwise):
    """A converter whose results are compared with what it is given; `check` holds what was found, in all of them.

    Raises MissingExtraError where PocketSphinx is not installed.
    """

    def __init__(self, converter: BlockConverter, check: Check | None = None) -> None:
        _decoder()
        self.converter, self.check = converter, check or Check()
        self._num_seconds = 0.0

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        """See `Blockwise`."""
        size = round(PIECE_SECONDS * request.sample_rate)
        held = np.zeros((2, request.num_channels, 0), np.float32)
        for source, estimate in beside(blocks, self.converter, request):
            yield estimate
            held = np.concatenate([held, [source, estimate]], axis=2)
            while held.shape[2] >= size:
                self._listen(held[..., :size], request.sample_rate)
                held = held[..., size:]
        self._listen(held, request.sample_rate)

    def _listen(self, pair: np.ndarray, sample_rate: int) -> None:
        """Compare the loudest channel of a piece (2, C, n), source over estimate."""
        num_samples = pair.shape[2]
        if num_samples >= _LEAST_SECONDS * sample_rate:
            loudest = int(np.argmax(np.square(pair[0]).sum(1)))  # a mean of opposite signs would be silent
            source, estimate = resample(pair[:, loudest], sample_rate, CORE_RATE)
            self.check.add(source, estimate, self._num_seconds)
        self._num_seconds += num_samples / sample_rate


def compare_words(source: NDArray[np.floating], estimate: NDArray[np.floating]) -> float | None:
    """How well the words heard in the source fit the sound of the estimate, (n,) each at 16 kHz; see `words_fit`.

    Where they do not, the words heard in the estimate are tried on the source: of a very reverberant one the recogniser
    makes nothing that fits anything. None where no words are heard.
    """
    fits = []
    for first, second in ((source, estimate), (estimate, source)):
        if words := heard(first):
            fits.append(words_fit(words, second))
        if fits and fits[-1] >= LEAST_FIT:
            break
    return max(fits, default=None)


def heard(piece: NDArray[np.floating]) -> str:
    """The words that PocketSphinx hears in a piece (n,) at 16 kHz."""
    return _heard(np.asarray(piece, np.float32).tobytes())


@lru_cache(maxsize=4)
def _heard(piece: bytes) -> str:
    from mvsd.evaluation.metrics import recognize

    return recognize(np.frombuffer(piece, np.float32))


def words_fit(words: str, estimate: NDArray[np.floating]) -> float:
    """How well words fit a sound (n,) at 16 kHz: about -1 to -2 if they are said in it, -3 if not, -inf if not at all.

    Mean log-likelihood per frame along the alignment, relative to the best sound of all in each frame; the same
    whatever came before.

    Raises:
        MissingExtraError: PocketSphinx is not installed.
    """
    decoder = _decoder()
    decoder.set_align_text(words)
    decoder.reinit_feat()  # else it goes on with what it took for noise in the piece before
    decoder.start_utt()
    pcm = np.round(32767 * np.clip(estimate, -1, 1)).astype("<i2")
    decoder.process_raw(pcm.tobytes(), full_utt=True)
    decoder.end_utt()
    segments = list(decoder.seg()) if decoder.hyp() is not None else []
    if not segments:
        return float("-inf")
    # The likelihood of a long segment may be too small for a float.
    return float(sum(np.log(max(piece.ascore, 1e-300)) for piece in segments) / (segments[-1].end_frame + 1))


def voice_similarity(source: NDArray[np.floating], estimate: NDArray[np.floating]) -> float:
    """Cosine of the speaker embeddings of two pieces (n,) at 16 kHz, -1 to 1.

    Raises:
        MvsdError: no speaker network is installed.
    """
    from mvsd.evaluation.metrics import speaker_similarity

    return speaker_similarity(estimate=estimate, target=source, sample_rate=CORE_RATE)


@lru_cache(maxsize=1)
def _decoder() -> Any:
    """A recogniser without a language model, for alignment."""
    from mvsd.evaluation.metrics.clips import extra_module

    pocketsphinx = extra_module("pocketsphinx", "asr")
    return pocketsphinx.Decoder(samprate=CORE_RATE, cmn="batch", loglevel="FATAL", lm=None)


def levelled(piece: NDArray[np.floating]) -> NDArray[np.floating]:
    """A piece at the level at which it is listened to; the recogniser's ear depends on it."""
    return _LEVEL / max(_level(piece), _SILENCE) * piece


def _level(samples: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))
