"""How reverberant a recording is, from the recording alone: a small network listens to how speech dies away.

It is trained on simulated and varied room responses (`mvsd.training.blind`) whose measured values are the targets, so
that each estimate has the definition of the measure in `mvsd.acoustics` that it stands for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mvsd.acoustics import OCTAVE_BANDS_HZ, c50_db, decay_time, drr_db
from mvsd.audio import resample
from mvsd.errors import ConfigError, NotMeasurable
from mvsd.model_file import load_module, save_module
from mvsd.shipped import shipped_weights

SAMPLE_RATE = 16_000
FORMAT = "mvsd-blind-1"
NUM_TARGETS = 3 + len(OCTAVE_BANDS_HZ)  # ln T20, ln T20 per band, DRR, C50

_WEIGHTS = shipped_weights("blind")
_MIN_SECONDS = 1.0
_QUIET_DB = -40.0  # a window this far below the loudest holds no speech to listen to
_FLOOR_DB = -80.0  # of the spectrogram, relative to the clip's mean power
_NUM_BANDS = 16, 1024  # a file from a stranger must not make us allocate
_NUM_STATISTICS = 3  # mean, spread and maximum over time


@dataclass(frozen=True)
class BlindConfig:
    """The network: `num_bands` mel bands in frames of `fft_size` every `hop` samples, then convolutions.

    `channels` are those of the five two-dimensional layers, `window_seconds` is how much is heard at once.
    """

    fft_size: int = 512
    hop: int = 160
    num_bands: int = 32
    channels: tuple[int, ...] = (16, 32, 64, 96, 96)
    hidden: int = 96
    window_seconds: float = 8.0

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        if len(self.channels) != 5 or min(*self.channels, self.hidden) < 1:
            raise ConfigError("blind.channels must be five numbers above 0, and hidden another")
        low, high = _NUM_BANDS
        if not low <= self.num_bands <= high or self.num_bands % low:
            raise ConfigError(
                f"blind.num_bands is {self.num_bands}; a multiple of {low} up to {high} is wanted"
            )
        if not 0 < self.hop <= self.fft_size <= 2**14 or self.window_seconds < _MIN_SECONDS:
            raise ConfigError("blind needs 0 < hop <= fft_size <= 16384 and window_seconds of 1 or more")


@dataclass(frozen=True)
class BlindEstimate:
    """What a recording says of its room; each value comes with the standard deviation that the network expects.

    `rt60` is the broadband T20 in seconds (ISO 3382-1, `mvsd.acoustics.decay_time`), `rt60_per_band` the same in
    octaves by their centre in Hz, `drr_db` the energy within 2.5 ms of the direct sound over the rest
    (`mvsd.acoustics.drr_db`), `c50_db` the clarity (`mvsd.acoustics.c50_db`). Reverberation times are medians; their
    deviation in seconds is the value times that of its logarithm.
    """

    rt60: float
    rt60_std: float
    rt60_per_band: dict[int, float]
    rt60_per_band_std: dict[int, float]
    drr_db: float
    drr_db_std: float
    c50_db: float
    c50_db_std: float


def measured_targets(rir: NDArray[np.floating], sample_rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """What the network is to say of a response: (NUM_TARGETS,), NaN for what is not measurable.

    ln T20 broadband, ln T20 in `OCTAVE_BANDS_HZ`, DRR and C50 in dB.
    """

    def log_time(band_hz: int | None) -> float:
        return math.log(decay_time(rir, sample_rate, band_hz=band_hz))

    measures = [partial(log_time, band_hz) for band_hz in (None, *OCTAVE_BANDS_HZ)]
    measures += [partial(measure, rir, sample_rate) for measure in (drr_db, c50_db)]
    targets = np.full(len(measures), np.nan, np.float32)
    for index, measure in enumerate(measures):
        try:
            targets[index] = measure()
        except NotMeasurable:
            continue
    return targets


class BlindEstimator(nn.Module):
    """Reverberation time, direct-to-reverberant ratio and clarity of a recording of speech, each with a spread."""

    window: Tensor
    bands: Tensor
    target_mean: Tensor
    target_std: Tensor
    calibration: Tensor

    def __init__(self, config: BlindConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or BlindConfig()
        self.register_buffer("window", torch.hann_window(config.fft_size), persistent=False)
        self.register_buffer("bands", _mel_bands(config), persistent=False)
        self.register_buffer("target_mean", torch.zeros(NUM_TARGETS))
        self.register_buffer("target_std", torch.ones(NUM_TARGETS))
        self.register_buffer("calibration", torch.ones(NUM_TARGETS))
        sizes = [1, *config.channels]
        strides = [(2, 2), (2, 1), (1, 2), (2, 1), (2, 2)]
        self.picture = nn.Sequential(
            *(
                _layer(nn.Conv2d(sizes[k], sizes[k + 1], 3 if k else 5, stride, 1 if k else 2, bias=False))
                for k, stride in enumerate(strides)
            )
        )
        flat, hidden = config.channels[-1] * config.num_bands // 16, config.hidden
        self.decay = nn.Sequential(
            _layer(nn.Conv1d(flat, hidden, 5, padding=2, bias=False)),
            _layer(nn.Conv1d(hidden, hidden, 5, padding=4, dilation=2, bias=False)),
        )
        self.head = nn.Sequential(
            nn.Linear(_NUM_STATISTICS * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * NUM_TARGETS)
        )

    def features(self, waveform: Tensor) -> Tensor:
        """(B, T) at 16 kHz -> mel spectrogram (B, 1, K, N) in units of 20 dB around the clip's mean power."""
        config = self.config
        spectrum = torch.stft(
            waveform,
            config.fft_size,
            config.hop,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )
        power = self.bands @ spectrum.abs().square()
        mean = power.mean((1, 2), keepdim=True).clamp(min=1e-20)
        level_db: Tensor = 10 * (power / mean + 10 ** (_FLOOR_DB / 10)).log10()
        return (level_db[:, None] + 20) / 20

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) at 16 kHz -> mean and standard deviation (B, NUM_TARGETS), both in units of `target_std`."""
        heard = self.decay(self.picture(self.features(waveform)).flatten(1, 2))
        mean, log_std = self.head(
            torch.cat([heard.mean(2), (heard.var(2, unbiased=False) + 1e-6).sqrt(), heard.amax(2)], 1)
        ).chunk(2, dim=1)
        return mean, log_std.clamp(-4, 2).exp()

    @torch.inference_mode()
    def estimate(self, waveform: NDArray[np.floating], sample_rate: int) -> BlindEstimate:
        """Listen to a recording of speech: (T,), any level, any rate, from 1 s.

        A long recording is heard in equal windows of at most `window_seconds`, those that hold speech are averaged,
        the surer ones with more weight. Their errors are taken to be the same error (it is one room), so that
        averaging does not make the spread smaller.

        Raises:
            NotMeasurable: another shape, shorter than 1 s, not finite, or silent.
        """
        windows = self._windows(waveform, sample_rate)
        mean, std = (part.double().cpu().numpy() for part in self(windows.to(self.window.device)))
        scale, calibration = self.target_std.cpu().numpy(), self.calibration.cpu().numpy()
        weight = 1 / std**2
        value = self.target_mean.cpu().numpy() + scale * (weight * mean).sum(0) / weight.sum(0)
        spread = scale * calibration / np.sqrt(weight.mean(0))
        times = np.exp(value[:-2])
        spreads = times * spread[:-2]
        return BlindEstimate(
            rt60=float(times[0]),
            rt60_std=float(spreads[0]),
            rt60_per_band=dict(zip(OCTAVE_BANDS_HZ, times[1:].tolist(), strict=True)),
            rt60_per_band_std=dict(zip(OCTAVE_BANDS_HZ, spreads[1:].tolist(), strict=True)),
            drr_db=float(value[-2]),
            drr_db_std=float(spread[-2]),
            c50_db=float(value[-1]),
            c50_db_std=float(spread[-1]),
        )

    def _windows(self, waveform: NDArray[np.floating], sample_rate: int) -> Tensor:
        """The windows that hold sound: (B, T) at 16 kHz."""
        samples = np.asarray(waveform, np.float32)
        if samples.ndim != 1:
            raise NotMeasurable(
                f"one channel of samples (T,) is needed, not an array of shape {samples.shape}"
            )
        if len(samples) < _MIN_SECONDS * sample_rate:
            raise NotMeasurable(
                f"{len(samples) / sample_rate:.2f} s of speech say too little of a room; 1 s is needed"
            )
        if not np.isfinite(samples).all():
            raise NotMeasurable("the recording holds values that are not finite (NaN or infinity)")
        if not samples.any():
            raise NotMeasurable("the recording is silent")
        samples = samples / np.abs(samples).max()
        samples = resample(samples[None], sample_rate, SAMPLE_RATE)[0]
        count = math.ceil(len(samples) / (self.config.window_seconds * SAMPLE_RATE))
        size = len(samples) // count
        windows = samples[: count * size].reshape(count, size)
        power = np.square(windows, dtype=np.float64).mean(1)
        return torch.from_numpy(windows[power > power.max() * 10 ** (_QUIET_DB / 10)])

    def save(self, path: str | Path) -> None:
        """Write weights and configuration into one safetensors file, weights in float16."""
        save_module(self, self.config, path, kind=FORMAT)

    @classmethod
    def load(cls, path: str | Path | None = None) -> BlindEstimator:
        """Read a model file of `save`; without a path, the one that comes with mvsd, read once and then kept.

        Raises ModelFileError where the file is missing, corrupt, or of another program.
        """
        return _shipped() if path is None else load_module(path, BlindConfig, cls, kind=FORMAT)


@lru_cache(maxsize=1)
def _shipped() -> BlindEstimator:
    return load_module(_WEIGHTS, BlindConfig, BlindEstimator, kind=FORMAT)


def _layer(convolution: nn.Conv1d | nn.Conv2d) -> nn.Sequential:
    kind = nn.BatchNorm1d if isinstance(convolution, nn.Conv1d) else nn.BatchNorm2d
    return nn.Sequential(convolution, kind(convolution.out_channels), nn.ReLU())


def _mel_bands(config: BlindConfig) -> Tensor:
    """Triangles over the bins (K, F), evenly spaced in mel (2595 log10(1 + f / 700)) from 40 Hz to 8 kHz."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (40, SAMPLE_RATE / 2))
    edges = 700 * (10 ** (torch.linspace(low, high, config.num_bands + 2, device="cpu") / 2595) - 1)
    bins = torch.linspace(0, SAMPLE_RATE / 2, config.fft_size // 2 + 1, device="cpu")
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)
