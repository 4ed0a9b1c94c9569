"""How different two voices sound, as a loss: what the ear adds to the squared error of a spectrogram.

A simplified, differentiable form of the perceptual model of ITU-T P.862 (2001), sections 10.2.1 to 10.2.10: power in
critical bands, equalised slow changes of gain and timbre, loudness (Zwicker & Fastl 1990), and the difference of
loudness beyond what is masked. Sound that was added (a residue of the room) counts apart from sound that is missing,
because it disturbs more. It is not PESQ and not a metric: `mvsd.evaluation` measures with the standard's own code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FFT_SIZE, _HOP, _NUM_BANDS = 512, 256, 49
_SPEECH_HZ = (350.0, 3250.0)  # the band in which levels are aligned
_SPEECH_POWER = 10**6.3  # a listening level of about 65 dB in the band
_SEGMENT, _SEGMENT_HOP = 20, 10  # frames; within 0.32 s the loudest disturbance counts (P.862, 10.2.10)


class AuditoryDistance(nn.Module):
    """Estimate and target (B, T) at 16 kHz -> what differs and what was added, each (B,), 0 (identical) upwards."""

    window: Tensor
    bands: Tensor
    threshold: Tensor
    exponent: Tensor
    speech_bins: Tensor

    def __init__(self, sample_rate: int = 16_000) -> None:
        super().__init__()
        with torch.device("cpu"):  # also where a converter is only sketched on the meta device
            self._register(sample_rate)

    def forward(self, estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """See the class; the level of neither matters."""
        heard, wanted = self._band_power(estimate), self._band_power(target)
        wanted = wanted * _timbre(heard, wanted, 100 * self.threshold)[..., None]
        audible = self._audible(wanted)
        heard = heard * _slow_gain((audible + 5e3) / (self._audible(heard) + 5e3))[:, None]
        heard_loudness, wanted_loudness = self._loudness(heard), self._loudness(wanted)
        masked = 0.25 * torch.minimum(heard_loudness, wanted_loudness)
        difference = self.width * ((heard_loudness - wanted_loudness).abs() - masked).clamp(min=0)
        added = ((heard + 50) / (wanted + 50)) ** 1.2
        added = torch.where(added < 3, torch.zeros_like(added), added.clamp(max=12))
        # Disturbance in loud passages weighs a little less.
        weight = ((audible + 1e5) / 1e7) ** -0.04
        different = self.total_width * ((difference**2).sum(1) / self.total_width + 1e-12).sqrt()
        return tuple(
            _over_time((weight * frame).clamp(max=45)) for frame in (different, (difference * added).sum(1))
        )  # type: ignore[return-value]

    def _register(self, sample_rate: int) -> None:
        """Bands, thresholds and exponents as buffers; they are not stored with a model."""
        frequencies = torch.linspace(0, sample_rate / 2, _FFT_SIZE // 2 + 1).double()
        fine = torch.linspace(1, sample_rate / 2, 20_000).double()
        low, high = float(_bark(fine[:1])), float(_bark(fine[-1:]))
        edges = torch.linspace(low, high, _NUM_BANDS + 1).double()
        centres = (edges[:-1] + edges[1:]) / 2
        bin_hz = sample_rate / _FFT_SIZE
        starts = _bark((frequencies - bin_hz / 2).clamp(min=0))
        ends = _bark((frequencies + bin_hz / 2).clamp(max=sample_rate / 2))
        shared = torch.minimum(ends, edges[1:, None]) - torch.maximum(starts, edges[:-1, None])
        threshold_db = _threshold_db(fine[torch.searchsorted(_bark(fine), centres)])
        # Loudness grows a little faster below 4 Bark.
        steeper = torch.where(centres < 4, (6 / (centres + 2)).clamp(max=2), torch.ones_like(centres)) ** 0.15
        self.width, self.total_width = (high - low) / _NUM_BANDS, high - low
        speech = (frequencies >= _SPEECH_HZ[0]) & (frequencies <= _SPEECH_HZ[1])
        for name, value in {
            "window": torch.hann_window(_FFT_SIZE),
            "bands": shared.clamp(min=0) / (ends - starts).clamp(min=1e-9),
            "threshold": (10 ** (threshold_db.clamp(max=77) / 10))[:, None],
            "exponent": (0.23 * steeper)[:, None],
            "speech_bins": speech,
        }.items():
            self.register_buffer(name, value.float(), persistent=False)

    def _band_power(self, waveform: Tensor) -> Tensor:
        """(B, T) -> power in critical bands (B, K, N) at the listening level."""
        spectrum = torch.stft(waveform, _FFT_SIZE, _HOP, window=self.window, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        level = (self.speech_bins @ power).mean(-1).clamp(min=1e-12)
        return self.bands @ (power * (_SPEECH_POWER / level)[:, None, None])

    def _loudness(self, power: Tensor) -> Tensor:
        """Specific loudness, sone per Bark: Zwicker & Fastl 1990, chapter 8, with the scale of P.862."""
        scale = 0.1866 * (self.threshold / 0.5) ** self.exponent
        return scale * ((0.5 + 0.5 * power / self.threshold) ** self.exponent - 1).clamp(min=0)

    def _audible(self, power: Tensor) -> Tensor:
        """(B, K, N) -> power above the threshold of hearing, (B, N)."""
        return torch.where(power > self.threshold, power, torch.zeros_like(power)).sum(1)


def level_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean square (B,) of the error of the level of pieces of 64 ms, in units of 20 dB: (B, T), (B, T) -> (B,).

    Of the target's pieces those within 25 dB of its loudest count.
    """
    size = min(1024, target.shape[-1])
    powers = [waveform.unfold(-1, size, size // 2).square().mean(-1) for waveform in (estimate, target)]
    loudest = powers[1].amax(-1, keepdim=True).clamp(min=1e-10)
    counts = (powers[1] >= 10**-2.5 * loudest).float()
    found, wanted = (power + 1e-4 * loudest for power in powers)  # what is missing is not infinitely so
    error = 0.5 * (found / wanted).log10()
    return (counts * error.square()).sum(-1) / counts.sum(-1).clamp(min=1)


def _timbre(heard: Tensor, wanted: Tensor, threshold: Tensor) -> Tensor:
    """Ratio (B, K) of the long-term spectra of two band powers (B, K, N), over frames in which there is a voice."""
    active = (torch.where(wanted > threshold, wanted, torch.zeros_like(wanted)).sum(1) > 10**4.3)[:, None]
    means = [
        (torch.where(power > threshold, power, torch.zeros_like(power)) * active).sum(-1)
        / active.sum(-1).clamp(min=1)
        for power in (heard, wanted)
    ]
    return ((means[0] + 1000) / (means[1] + 1000)).clamp(0.01, 100)


def _slow_gain(ratio: Tensor) -> Tensor:
    """Smoothed gain per frame (B, N)."""
    gains = [ratio[:, 0]]
    for frame in range(1, ratio.shape[1]):
        gains.append(0.2 * gains[-1] + 0.8 * ratio[:, frame])
    return torch.stack(gains, 1).clamp(3e-4, 5)


def _over_time(disturbance: Tensor) -> Tensor:
    """(B, N) -> (B,): the sixth power within short segments, the second over them."""
    segments = disturbance[:, None]
    if disturbance.shape[1] >= _SEGMENT:
        segments = disturbance.unfold(1, _SEGMENT, _SEGMENT_HOP)
    loudest = (segments.pow(6).mean(-1) + 1e-9).pow(1 / 6)
    total: Tensor = (loudest.square().mean(-1) + 1e-9).sqrt()
    return total


def _bark(frequency: Tensor) -> Tensor:
    """Critical-band rate of a frequency in Hz: Zwicker & Terhardt 1980, equation 1."""
    return 13 * torch.atan(0.00076 * frequency) + 3.5 * torch.atan((frequency / 7500) ** 2)


def _threshold_db(frequency: Tensor) -> Tensor:
    """Threshold of hearing in dB at a frequency in Hz: Terhardt 1979, equation 1."""
    khz = frequency / 1000
    return 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
