"""A recording without the late reverberation that an estimate of its dry voice explains.

What a dereverberator makes is filtered so that it comes nearest to the recording: the room, as far as the estimate
tells it. What the filter makes is taken from the recording, and the rest is easier to dereverberate than the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FFT_SIZE, HOP = 1024, 256  # samples, at 16 kHz
# Frames: what comes 32 to 340 ms after the voice is explained, its first reflections stay.
DELAY, NUM_TAPS = 2, 20
_DRY_DB = (
    -15.0,
    -10.0,
)  # what a voice predicts of itself is not a room's, so nothing is taken from a dry recording
_LOUDNESS_FLOOR = 1e-4  # of the loudest frame of a bin
_REGULARISATION = 1e-4  # of the estimate's mean power


@torch.no_grad()
def late_reverberation(recording: Tensor, estimate: Tensor) -> Tensor:
    """The late reverberation in recording (B, T), at 16 kHz, as far as estimate (B, T) of its dry voice explains it.

    Forward convolutive prediction (Wang, Wichern & Le Roux 2021, "Convolutive prediction for monaural speech
    dereverberation and noisy-reverberant speaker separation", arXiv 2108.07376): in every bin the past frames of the
    estimate are filtered to the least squared error, loud frames counting no more than quiet ones. Where the estimate
    left out next to nothing of the recording (15 dB less and below, all of it from 10 dB on) there is no room, and the
    result is 0. No gradient goes through it.
    """
    if recording.device.type == "mps":  # it cannot solve complex equations
        return late_reverberation(recording.cpu(), estimate.cpu()).to(recording.device)
    window = torch.hann_window(FFT_SIZE, device=recording.device)
    level = recording.float().square().mean(-1, keepdim=True).sqrt().clamp(min=1e-5)
    padding = max(0, FFT_SIZE - recording.shape[-1])  # a window at least, for the reflection at the edges
    signals = functional.pad(torch.stack([recording, estimate]).float() / level, (0, padding))
    wet, dry = (torch.stft(x, FFT_SIZE, HOP, window=window, return_complex=True) for x in signals)
    power = wet.abs().square()
    weight = 1 / (power.clamp(min=1e-10) + _LOUDNESS_FLOOR * power.amax(-1, keepdim=True))
    num_frames = dry.shape[-1]
    past = functional.pad(dry, (DELAY + NUM_TAPS - 1, 0)).unfold(-1, num_frames, 1)[..., :NUM_TAPS, :]
    weighted = past.conj() * weight[..., None, :]
    correlation = weighted @ past.transpose(-1, -2)
    mean_power = correlation.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None]
    unit = torch.eye(NUM_TAPS, device=past.device)
    correlation = correlation + (_REGULARISATION * mean_power + 1e-8) * unit
    taps = torch.linalg.solve(correlation, weighted @ wet[..., None])
    late = (past.transpose(-1, -2) @ taps)[..., 0]
    waveform = torch.istft(late, FFT_SIZE, HOP, window=window, length=signals.shape[-1])
    return _share(signals[0], signals[1]) * level * waveform[..., : recording.shape[-1]]


def _share(recording: Tensor, estimate: Tensor) -> Tensor:
    """0 where the estimate is all but the recording, 1 where it left out more than _DRY_DB says: (B, T) -> (B, 1)."""
    removed = (recording - estimate).square().sum(-1, keepdim=True)
    removed_db = (
        10 * (removed / recording.square().sum(-1, keepdim=True).clamp(min=1e-10)).clamp(min=1e-10).log10()
    )
    return ((removed_db - _DRY_DB[0]) / (_DRY_DB[1] - _DRY_DB[0])).clamp(0, 1)
