"""A recording without the late reverberation that an estimate of its dry voice explains.

What a dereverberator makes is filtered so that it comes nearest to the recording: the room, as far as the estimate
tells it. What the filter makes is taken from the recording, and the rest is easier to dereverberate than the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mvsd.spectrogram import rms

FFT_SIZE, HOP = 1024, 256  # samples, at 16 kHz
# Frames: what comes 32 to 340 ms after the voice is explained, its first reflections stay.
DELAY, NUM_TAPS = 2, 20
# What an estimate left out of the recording (dB) where nothing counts, and where all does: a voice tells of itself too.
_DRY_DB = (-15.0, -10.0)
_LOUDNESS_FLOOR = 1e-4  # of the loudest frame of a bin
_REGULARISATION = 1e-4  # of the estimate's mean power


@torch.no_grad()
def late_reverberation(recording: Tensor, estimate: Tensor) -> Tensor:
    """The late reverberation in recording (B, T), at 16 kHz, as far as estimate (B, T) of its dry voice explains it.

    Forward convolutive prediction (Wang, Wichern & Le Roux 2021, "Convolutive prediction for monaural speech
    dereverberation and noisy-reverberant speaker separation", arXiv 2108.07376): in every bin the past frames of the
    estimate are filtered to the least squared error, loud frames counting no more than quiet ones. What the estimate
    left out of the recording says whether there is a room: from 10 dB below the recording on the result is all that was
    found, at 15 dB and less it is 0. No gradient goes through it.
    """
    if recording.device.type == "mps":  # it cannot solve complex equations
        return late_reverberation(recording.cpu(), estimate.cpu()).to(recording.device)
    window = torch.hann_window(FFT_SIZE, device=recording.device)
    level = rms(recording)
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
    """How much of what was found counts, 0 to 1, by what the estimate left out: (B, T), (B, T) -> (B, 1)."""
    energy = recording.square().sum(-1, keepdim=True).clamp(min=1e-10)
    left_out = (recording - estimate).square().sum(-1, keepdim=True) / energy
    left_out_db = 10 * left_out.clamp(min=1e-10).log10()
    nothing, all_of_it = _DRY_DB
    return ((left_out_db - nothing) / (all_of_it - nothing)).clamp(0, 1)
