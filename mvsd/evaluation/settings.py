"""What is evaluated on what, and the clips that follow from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mvsd.data.avspeech import AcousticAVSpeech
from mvsd.data.datasets import open_dataset, recognise
from mvsd.data.example import Example
from mvsd.data.protocols import ProtocolName
from mvsd.data.speech import Speech
from mvsd.errors import AudioFileError, DataError, MvsdError, PhotoError, VideoFileError
from mvsd.evaluation.clips import Clip, SpeechInRooms, make_clip
from mvsd.evaluation.converters import forget_converters
from mvsd.evaluation.metrics import Metric, Task, choose, speaker_embedding
from mvsd.evaluation.systems import SHIPPED_FOR, System

EER = "eer"  # of all clips together; asked for by name
_FIRST = 8  # clips that say what the others know


@dataclass(frozen=True)
class Settings:
    """What is evaluated on what; immutable, hashable, and sent to the processes that compute.

    `data`, `split`, `protocol` and `limit` are those of `mvsd.data.datasets.open_dataset`. With `speech`, a folder, the
    data are rooms, and clip i is `seconds` of an utterance (0 for all of it) in room i; `speakers` are globs on the
    paths below that folder, () for all; `cache` is a folder for the decoded speech. `metrics` are names, with options
    of their own as in ``wer:recognizer=openai/whisper-base.en``; () for those of the task that the data allow. "eer"
    compares voices.
    """

    task: Task
    data: str
    systems: tuple[System, ...]
    split: str = ""
    protocol: ProtocolName = "full"
    limit: int | None = None
    speech: str = ""
    speakers: tuple[str, ...] = ()
    cache: str = "cache"
    seconds: float = 5.0
    metrics: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises MvsdError for metrics that are unknown, for two comparisons of voices, and for systems of one name."""
        self.named_metrics()
        if len(asked := [text for text in self.metrics if _split_options(text)[0] == EER]) > 1:
            raise MvsdError(
                f"{' and '.join(asked)} are two comparisons of voices; a table has one, so give one"
            )
        names = [system.name for system in self.systems]
        for name in names:
            if names.count(name) > 1:
                raise MvsdError(f"two systems are named {name!r}; give each its own: NAME=...")

    def named_metrics(self) -> dict[str, Metric]:
        """The metrics of single clips that were asked for."""
        found = dict[str, Metric]()
        for text in self.metrics:
            name, options = _split_options(text)
            if name == EER and self.task == "dereverberation":
                function: Callable[..., Any] = speaker_embedding
            else:
                (found[text],) = choose(self.task, [name]).values()
                function = found[text].function
            for key in options:
                known = inspect.signature(function).parameters.get(key)
                if (
                    known is None
                    or not str(known.annotation).startswith("str")
                    or known.default is known.empty
                ):
                    raise MvsdError(f"{name} has no option {key!r}; see the definition of the metric")
            if options and text in found:
                found[text] = found[text].using(**options)
        return found

    @property
    def chosen_metrics(self) -> dict[str, Metric]:
        """The columns of the table: those asked for, or those of the task whose inputs the data set has."""
        return self.named_metrics() if self.metrics else choose(self.task, None, _first_inputs(self))

    @property
    def voice_options(self) -> dict[str, str] | None:
        """Those of `speaker_embedding` where voices are to be compared, else None."""
        asked = [options for name, options in map(_split_options, self.metrics) if name == EER]
        return asked[0] if asked else None

    @property
    def option_files(self) -> list[str]:
        """The files and folders that are named in the metrics' options."""
        values = [value for text in self.metrics for value in _split_options(text)[1].values()]
        return [value for value in values if Path(value).exists()]

    @property
    def weights_beside(self) -> list[str]:
        """The shipped models on which figures rest whatever the systems are: a metric's, and that of the sources."""
        return ["blind", *([SHIPPED_FOR["dereverberation"]] if self._builds_sources else [])]

    @property
    def _builds_sources(self) -> bool:
        return recognise(self.data) == "avspeech" and self.task == "reverberation"


@lru_cache(maxsize=2)
def open_examples(settings: Settings) -> Sequence[Example]:
    """The data set, with voices in its rooms where speech is given.

    A reverberator's sources for Acoustic AVSpeech are built with the shipped dereverberator.
    """
    examples: Sequence[Example]
    if settings._builds_sources:
        from mvsd.converter import load

        dereverberator = load(SHIPPED_FOR["dereverberation"])
        options: dict[str, Any] = {
            "protocol": settings.protocol,
            "limit": settings.limit,
            "seed": settings.seed,
        }
        examples = AcousticAVSpeech(settings.data, settings.split, dereverberator=dereverberator, **options)
    else:
        examples = open_dataset(
            settings.data, split=settings.split, protocol=settings.protocol, limit=settings.limit
        )
    if not settings.speech:
        return examples
    speech = Speech(settings.speech, settings.cache, settings.speakers, only_holdout=bool(settings.speakers))
    return SpeechInRooms(examples, speech, seconds=settings.seconds, seed=settings.seed)


def forget() -> None:
    """Look at data and converters anew: they may have changed since they were last opened."""
    forget_converters()
    open_examples.cache_clear()
    _first_inputs.cache_clear()


def load_clip(settings: Settings, index: int) -> Clip:
    """Clip `index`; raises DataError where the example cannot be used."""
    try:
        return make_clip(open_examples(settings), index, settings.task, settings.seed)
    except (AudioFileError, PhotoError, VideoFileError) as error:
        raise DataError(str(error)) from error


def known_inputs(clip: Clip) -> dict[str, Any]:
    """What is known of a clip, by the names that metrics use."""
    transcript = clip.metadata.get("transcript")  # of whoever wrote the shard
    inputs = {
        "source": clip.true_source,
        "target": clip.target,
        "transcript": transcript if isinstance(transcript, str) else None,
    }
    if clip.task == "reverberation":
        inputs["rir"] = clip.rir
    return {name: known for name, known in inputs.items() if known is not None}


@lru_cache(maxsize=8)
def _first_inputs(settings: Settings) -> tuple[str, ...]:
    """What metrics can be given, by the first clips that can be loaded."""
    known = {"estimate"}
    for index in range(min(len(open_examples(settings)), _FIRST)):
        try:
            known.update(known_inputs(load_clip(settings, index)))
        except DataError:
            continue
    return tuple(sorted(known))


def _split_options(text: str) -> tuple[str, dict[str, str]]:
    """NAME:OPTION=VALUE,... -> the name and its options."""
    name, _, options = text.partition(":")
    pairs = (option.partition("=") for option in options.split(",") if option)
    return name, {key: value for key, _, value in pairs}
