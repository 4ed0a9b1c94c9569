"""Is it still the same voice? Speaker embeddings, trials, and the equal error rate over a whole data set.

The equal error rate is a figure of a corpus, not of a clip:

    trials = make_trials({"a1": "anna", "a2": "anna", "b1": "ben", ...}, seed=0)
    save_trials(trials, "trials.json")
    result = speaker_error_rate(trials, enrolled, tested)

where `enrolled` and `tested` hold the embeddings of dry targets and of estimates by key. No well-kept package carries a
speaker network in its wheel; the default reads the weights, and only those, in the wheel of Resemblyzer (Apache-2.0,
last release 2023). Any speaker network of transformers, or ECAPA by speechbrain, can be named instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mvsd.errors import DataError, ModelFileError, MvsdError, NotMeasurable
from mvsd.evaluation.metrics.clips import (
    SAMPLE_RATE,
    Samples,
    Waveform,
    checked,
    checked_pair,
    extra_module,
    require_rate,
)
from mvsd.whole_file import whole_file

Embedding = NDArray[np.float32]


def speaker_similarity(
    *, estimate: Waveform, target: Waveform, sample_rate: int, speaker_model: str = "resemblyzer"
) -> float:
    """Cosine of the speaker embeddings of estimate and target, -1 to 1 (same voice); an alarm for a changed voice.

    Of the default model, nine in ten pairs of dry LibriSpeech clips lie at 0.75 to 0.94 within a speaker and at 0.43 to
    0.69 between two. Wan et al., "Generalized end-to-end loss for speaker verification", ICASSP 2018.
    """
    reference, degraded = checked_pair(target, estimate)
    require_rate("the speaker similarity", sample_rate)
    return float(
        _embedding(degraded.tobytes(), speaker_model) @ _embedding(reference.tobytes(), speaker_model)
    )


def speaker_embedding(waveform: Waveform, sample_rate: int, speaker_model: str = "resemblyzer") -> Embedding:
    """A voice as a point: (T,) at 16 kHz -> (D,) of length 1.

    `speaker_model` is "resemblyzer", a name that begins with "speechbrain/" (ECAPA: speechbrain/spkrec-ecapa-voxceleb,
    needs speechbrain), or the name or folder of a speaker network of transformers (microsoft/wavlm-base-plus-sv).

    Raises:
        NotMeasurable: silent, not finite, not mono, or not at 16 kHz.
        MvsdError: the model or its library cannot be had.
    """
    require_rate("a speaker embedding", sample_rate)
    return _embedding(checked(waveform, "recording").tobytes(), speaker_model)


# ------------------------------------------------------------------------------------------- trials


@dataclass(frozen=True)
class Trial:
    """Is the voice of clip `tested` that of clip `enrolled`? Keys of two different clips, and their speakers."""

    enrolled: str
    tested: str
    enrolled_speaker: str
    tested_speaker: str

    @property
    def is_same(self) -> bool:
        """Whether it is the same speaker."""
        return self.enrolled_speaker == self.tested_speaker


def make_trials(
    speakers: Mapping[str, str],
    *,
    num_trials: int = 40_000,
    seed: int = 0,
    sexes: Mapping[str, str] | None = None,
    utterances: Mapping[str, str] | None = None,
) -> list[Trial]:
    """At most `num_trials` pairs of clips by one speaker and as many by two, drawn from `speakers` (key -> speaker).

    With `sexes` (speaker -> sex) two speakers are always of opposite sex, as in VIDA (Chen et al., ICASSP 2023), which
    makes the task easier. With `utterances` (key -> what is said in it) none compares an utterance with itself, in
    another room: that is no question. The same arguments give the same trials.

    Raises:
        NotMeasurable: there is no pair of one kind.
    """
    keys = sorted(speakers)
    names, speaker = np.unique([speakers[key] for key in keys], return_inverse=True)
    first, second = np.divmod(np.arange(len(keys) ** 2), max(1, len(keys)))
    is_same = speaker[first] == speaker[second]
    is_other = ~is_same
    if sexes is not None:
        sex = np.unique([sexes[name] for name in names], return_inverse=True)[1][speaker]
        is_other &= sex[first] != sex[second]
    # Where no utterance is known the key itself stands for it.
    said = np.unique([(utterances or {}).get(key, f"\0{key}") for key in keys], return_inverse=True)[1]
    same, other = np.flatnonzero(is_same & (said[first] != said[second])), np.flatnonzero(is_other)
    if not len(same) or not len(other):
        raise NotMeasurable(
            f"{len(keys)} clips of {len(names)} speakers give {len(same)} pairs of one speaker and "
            f"{len(other)} of two; some of both are needed"
        )
    rng = np.random.default_rng(seed)
    drawn = [
        np.sort(rng.choice(group, min(num_trials, len(group)), replace=False)) for group in (same, other)
    ]
    return [
        Trial(a, b, speakers[a], speakers[b])
        for a, b in ((keys[first[pair]], keys[second[pair]]) for pair in np.concatenate(drawn))
    ]


def save_trials(trials: Sequence[Trial], path: str | Path) -> None:
    """Write trials as JSON, whole or not at all."""
    with whole_file(Path(path)) as part:
        part.write_text(json.dumps([asdict(trial) for trial in trials], indent=0) + "\n", encoding="utf-8")


def load_trials(path: str | Path) -> list[Trial]:
    """Read what `save_trials` wrote; raises DataError for anything else."""
    try:
        return [Trial(**fields) for fields in json.loads(Path(path).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} holds no list of trials ({error}); make one with save_trials") from error


@dataclass(frozen=True)
class EqualErrorRate:
    """Equal error rate in percent, its 95 % interval (None where it cannot be had), and the trials it rests on."""

    percent: float
    interval: tuple[float, float] | None
    num_same: int
    num_other: int


def speaker_error_rate(
    trials: Sequence[Trial],
    enrolled: Mapping[str, Embedding],
    tested: Mapping[str, Embedding],
    *,
    seed: int = 0,
) -> EqualErrorRate:
    """Equal error rate of the trials, scored by the cosine of two embeddings; those without embeddings are left out.

    The interval is that of 200 resampled sets of speakers: trials that share a speaker are not independent.

    Raises:
        NotMeasurable: no trial of one kind.
    """
    kept = [trial for trial in trials if trial.enrolled in enrolled and trial.tested in tested]
    scores = np.array([enrolled[trial.enrolled] @ tested[trial.tested] for trial in kept], np.float64)
    is_same = np.array([trial.is_same for trial in kept], np.bool_)
    percent = equal_error_rate(scores, is_same)
    pairs = [[trial.enrolled_speaker, trial.tested_speaker] for trial in kept]
    names, index = np.unique(pairs, return_inverse=True)
    index = index.reshape(-1, 2)
    rng = np.random.default_rng(seed)
    resampled = []
    for _ in range(200):
        count = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))
        weights = np.where(is_same, count[index[:, 0]], count[index[:, 0]] * count[index[:, 1]])
        if weights[is_same].any() and weights[~is_same].any():
            resampled.append(equal_error_rate(scores, is_same, weights))
    interval = None
    if len(resampled) > 100:
        low, high = np.quantile(resampled, [0.025, 0.975])
        interval = float(low), float(high)
    return EqualErrorRate(percent, interval, int(is_same.sum()), int((~is_same).sum()))


def equal_error_rate(
    scores: NDArray[np.floating], is_same: NDArray[np.bool_], weights: NDArray[np.number] | None = None
) -> float:
    """Equal error rate in percent, 0 (all voices told apart) to 50 (chance) and beyond: lower is better.

    The rate at the threshold where as many trials of one speaker are refused as of two accepted, linear between
    thresholds. Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.

    Raises:
        NotMeasurable: no trial of one kind, or a score that is not finite.
    """
    scores, same = np.asarray(scores, np.float64), np.asarray(is_same, np.bool_)
    if not np.isfinite(scores).all() or same.all() or not same.any():
        raise NotMeasurable(
            f"an equal error rate needs finite scores of both kinds; {int(same.sum())} of {len(same)} trials "
            "are of one speaker"
        )
    weight = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    # Shares below each threshold, from "all accepted" to "all refused".
    thresholds = np.append(np.unique(scores), np.inf)
    refused, rejected = (_share_below(thresholds, scores[kind], weight[kind]) for kind in (same, ~same))
    gap = 1 - rejected - refused
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(100 * (refused[after - 1] + share * (refused[after] - refused[after - 1])))


def _share_below(thresholds: Samples, scores: NDArray[np.floating], weights: NDArray[np.floating]) -> Samples:
    order = np.argsort(scores)
    below = np.append(0, np.cumsum(weights[order]))[np.searchsorted(scores[order], thresholds)]
    return np.asarray(below / weights.sum())


# --------------------------------------------------------------------------------------- embeddings


@lru_cache(maxsize=4)  # several systems are compared with one target
def _embedding(clip: bytes, speaker_model: str) -> Embedding:
    embedding = _model(speaker_model)(np.frombuffer(clip))
    return np.asarray(embedding / np.linalg.norm(embedding), np.float32)


@lru_cache(maxsize=4)
def _model(name: str) -> Callable[[Samples], NDArray[np.floating]]:
    if name == "resemblyzer":
        return _resemblyzer()
    return _speechbrain(name) if name.startswith("speechbrain/") else _transformers(name)


def _resemblyzer() -> Callable[[Samples], NDArray[np.floating]]:
    """Three LSTM layers over 40 mel bands (Wan et al. 2018), averaged over windows; pauses are not cut out."""
    import torch

    package = importlib.util.find_spec("resemblyzer")
    if package is None or not package.submodule_search_locations:
        raise MvsdError(
            "the speaker network is not installed; its weights are all that is used: pip install --no-deps resemblyzer"
        )
    path = Path(package.submodule_search_locations[0]) / "pretrained.pt"
    weights = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    lstm, linear = torch.nn.LSTM(40, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    for prefix, module in (("lstm.", lstm), ("linear.", linear)):
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        module.load_state_dict(own)

    @torch.inference_mode()
    def embed(samples: Samples) -> NDArray[np.floating]:
        windows = torch.from_numpy(mel_windows(samples))
        voices = torch.relu(linear(lstm(windows)[1][0][-1]))
        return np.asarray((voices / voices.norm(dim=1, keepdim=True)).mean(0).numpy())

    return embed


def mel_windows(samples: Samples) -> NDArray[np.float32]:
    """Mel power of overlapping windows of 1.6 s: (T,) at 16 kHz -> (W, 160, 40), raised to at least -30 dB."""
    size, hop, num_frames, step = 400, 160, 160, 77
    level = np.sqrt(np.mean(samples**2))
    samples = samples * max(1.0, 10 ** (-30 / 20) / level)
    starts = range(0, max(1, -(-(len(samples) + 1) // hop) - num_frames + step + 1), step)
    if len(starts) > 1 and len(samples) - starts[-1] * hop < 0.75 * num_frames * hop:
        starts = starts[:-1]
    needed = (starts[-1] + num_frames) * hop
    samples = np.pad(samples, (size // 2, max(0, needed - len(samples)) + size // 2))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    mels = np.abs(np.fft.rfft(frames * window)) ** 2 @ _mel_filters().T
    return np.stack([mels[start : start + num_frames] for start in starts]).astype(np.float32)


@lru_cache(maxsize=1)
def _mel_filters() -> Samples:
    """Forty triangles over 201 bins up to 8 kHz, of equal area, on Slaney's mel scale (Auditory toolbox, 1998)."""
    log_step = np.log(6.4) / 27  # linear below 1 kHz, then 27 mel per factor of 6.4
    top = 15 + np.log(8) / log_step
    mels = np.linspace(0, top, 42)
    edges = np.where(mels < 15, 200 / 3 * mels, 1000 * np.exp(log_step * (mels - 15)))
    bins = np.linspace(0, SAMPLE_RATE / 2, 201)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None])


def _speechbrain(name: str) -> Callable[[Samples], NDArray[np.floating]]:
    import torch

    try:
        speaker = importlib.import_module("speechbrain.inference.speaker")
    except ImportError as error:
        raise MvsdError(
            f"{name} needs speechbrain, which needs torchaudio: pip install speechbrain"
        ) from error
    encoder = speaker.EncoderClassifier.from_hparams(name)

    def embed(samples: Samples) -> NDArray[np.floating]:
        with torch.inference_mode():
            embedding = encoder.encode_batch(torch.from_numpy(samples.astype(np.float32))[None])
        return np.asarray(embedding.flatten().cpu().numpy())

    return embed


def _transformers(name: str) -> Callable[[Samples], NDArray[np.floating]]:
    import torch

    transformers = extra_module("transformers", "transformers")
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(name)
        network = transformers.AutoModelForAudioXVector.from_pretrained(name).eval()
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ModelFileError(
            f"{name} is no speaker network that transformers can load: {reason}; give a name or a folder of one"
        ) from error

    def embed(samples: Samples) -> NDArray[np.floating]:
        features = extractor(samples.astype(np.float32), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            return np.asarray(network(**features).embeddings[0].numpy())

    return embed
