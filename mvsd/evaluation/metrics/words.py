"""Word error rate: are the words still there?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvsd.errors import ModelFileError, NotMeasurable
from mvsd.evaluation.metrics.clips import SAMPLE_RATE, Waveform, checked, extra_module, require_rate

_ABBREVIATIONS = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint", "&": "and"}


def wer(*, estimate: Waveform, transcript: str, sample_rate: int, recognizer: str = "pocketsphinx") -> float:
    """Word error rate in percent, 0 upwards (insertions can carry it beyond 100): lower is better.

    Words substituted, deleted and inserted by a recogniser, over the words of the transcript, both after
    `normalized_words`. A table weighs clips by their words, which gives the rate of the corpus. `recognizer` is
    "pocketsphinx" (its wheel carries an English model; two words in five wrong on dry LibriSpeech, so compare rows
    rather than heights) or the name or folder of any speech recogniser of transformers, as "openai/whisper-base.en".
    """
    wanted = normalized_words(transcript)
    if not wanted:
        raise NotMeasurable("the transcript has no words")
    require_rate("the word error rate", sample_rate)
    # Of silence all words are lost, which is no failure to measure.
    is_silent = np.size(estimate) > 0 and not np.any(estimate)
    heard = [] if is_silent else normalized_words(recognize(checked(estimate, "estimate"), recognizer))
    return 100 * num_word_errors(wanted, heard) / len(wanted)


def num_words(*, transcript: str, **_: Any) -> float:
    """The weight of a clip in a mean word error rate."""
    return float(len(normalized_words(transcript)))


def normalized_words(text: str) -> list[str]:
    """What is compared: lower case, letters, digits and apostrophes; accents are dropped, digits not spelt out.

    Hyphens and other marks separate words; mr, mrs, dr, st and & are spelt out; [noise] and (laughter) go.
    """
    plain = unicodedata.normalize("NFKD", re.sub(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>", " ", text))
    plain = "".join(mark for mark in plain if not unicodedata.combining(mark)).lower()
    plain = plain.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("_", " ")
    words = (word.strip("'") for word in re.findall(r"[\w']+|&", plain))
    return [_ABBREVIATIONS.get(word, word) for word in words if word]


def num_word_errors(wanted: list[str], heard: list[str]) -> int:
    """Fewest substitutions, deletions and insertions that turn one list into the other (Levenshtein 1966)."""
    costs = list(range(len(heard) + 1))
    for row, word in enumerate(wanted, start=1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(heard, start=1):
            replaced = diagonal + (word != other)
            diagonal = costs[column]
            costs[column] = min(replaced, diagonal + 1, costs[column - 1] + 1)
    return costs[-1]


def recognize(samples: NDArray[np.floating], recognizer: str = "pocketsphinx") -> str:
    """The words in a clip (T,) at 16 kHz; the same clip gives the same words, whatever came before.

    Raises:
        MissingExtraError: the recogniser's library is not installed.
        ModelFileError: transformers cannot load a recogniser of that name.
    """
    return _recognizer(recognizer)(samples)


@lru_cache(maxsize=4)
def _recognizer(name: str) -> Callable[[NDArray[np.floating]], str]:
    return _pocketsphinx() if name == "pocketsphinx" else _transformers(name)


def _pocketsphinx() -> Callable[[NDArray[np.floating]], str]:
    # Means of the cepstrum over each clip, not carried on from clip to clip.
    decoder = extra_module("pocketsphinx", "asr").Decoder(samprate=SAMPLE_RATE, cmn="batch", loglevel="FATAL")

    def recognize_clip(samples: NDArray[np.floating]) -> str:
        pcm = np.round(32767 / max(1.0, np.abs(samples).max(initial=0)) * samples).astype("<i2")
        decoder.reinit_feat()  # else it goes on with what it took for noise in the clip before
        decoder.start_utt()
        decoder.process_raw(pcm.tobytes(), full_utt=True)
        decoder.end_utt()
        return decoder.hyp().hypstr if decoder.hyp() else ""

    return recognize_clip


def _transformers(name: str) -> Callable[[NDArray[np.floating]], str]:
    transformers = extra_module("transformers", "transformers")
    try:
        pipeline = transformers.pipeline("automatic-speech-recognition", model=name, device="cpu")
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ModelFileError(
            f"{name} is no speech recogniser that transformers can load: {reason}; give a name or a folder of one"
        ) from error
    # Whisper hears 30 s at once and needs time stamps to go on from there.
    options = {"return_timestamps": True} if pipeline.type == "seq2seq_whisper" else {}

    def recognize_clip(samples: NDArray[np.floating]) -> str:
        clip = {"raw": samples.astype(np.float32), "sampling_rate": SAMPLE_RATE}
        return str(pipeline(clip, **options)["text"])

    return recognize_clip
