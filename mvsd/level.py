"""How loud a recording is, measured block by block: its peak, and its loudness after ITU-R BS.1770-4."""

from __future__ import annotations

from array import array
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from mvsd.errors import MvsdError, NotMeasurable

Level = Literal["keep", "peak", "lufs"]
"""What a conversion keeps equal: the gain, the peak, or the integrated loudness."""

LEVELS: tuple[Level, ...] = ("keep", "peak", "lufs")

_SURROUND = {
    5: (1, 1, 1, 1.41, 1.41),
    6: (1, 1, 1, 0, 1.41, 1.41),
}  # L R C (LFE) Ls Rs; otherwise all count 1
_ABSOLUTE_GATE_LUFS, _RELATIVE_GATE_LU = -70.0, -10.0
_LOWEST_RATE = 4000  # Hz; the shelf of the weighting lies at 1.7 kHz
_LOSSY_PEAK = 10 ** (-1 / 20)
_STEPS_PER_SECOND, _STEPS_PER_BLOCK = 10, 4  # blocks of 400 ms that overlap by 75 %


def unclipped_gain(gain: float, peak: float, *, is_lossy: bool) -> float:
    """The factor `gain`, or where a `peak` would exceed full scale with it, one that brings the peak there.

    For a lossy codec to 1 dB below: what it decodes to exceeds here and there what was encoded.
    """
    return gain if gain * peak <= 1 else (_LOSSY_PEAK if is_lossy else 1.0) / peak


class Meter(Protocol):
    """Takes a recording block by block and tells its level."""

    def add(self, block: NDArray[Any]) -> None:
        """Append a block (C, n)."""
        ...

    def level_db(self) -> float:
        """The level so far in dB. Raises NotMeasurable where it has none."""
        ...


def level_meter(level: Level, sample_rate: int, num_channels: int) -> Meter:
    """The meter of what is kept equal. Raises MvsdError for an unknown `level`."""
    if level == "keep":
        return NoMeter()
    if level == "peak":
        return PeakMeter()
    if level == "lufs":
        return LoudnessMeter(sample_rate, num_channels)
    raise MvsdError(f"level is {level!r}; one of {', '.join(LEVELS)} is wanted")


class NoMeter:
    """0 dB for every recording: between two of them there is no gain."""

    def add(self, block: NDArray[Any]) -> None:
        """See `Meter`."""

    def level_db(self) -> float:
        """See `Meter`."""
        return 0.0


class PeakMeter:
    """The largest absolute sample of all channels, in dB relative to full scale."""

    def __init__(self) -> None:
        self.peak = 0.0

    def add(self, block: NDArray[Any]) -> None:
        """See `Meter`."""
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))

    def level_db(self) -> float:
        """See `Meter`."""
        if self.peak == 0:
            raise NotMeasurable("silence has no peak")
        return float(20 * np.log10(self.peak))


class LoudnessMeter:
    """Integrated loudness in LUFS (ITU-R BS.1770-4, annex 1), in 80 bytes a second.

    Channels count as in the Recommendation: of five, L R C Ls Rs, and of six, L R C LFE Ls Rs, the surrounds count
    1.41 and the LFE nothing; otherwise every channel counts 1.
    """

    def __init__(self, sample_rate: int, num_channels: int) -> None:
        if sample_rate < _LOWEST_RATE:
            raise MvsdError(
                f"sound of {sample_rate} Hz has no loudness by BS.1770, which weighs up to 2 kHz; use keep or peak"
            )
        self.sample_rate = sample_rate
        self.weights = np.array(_SURROUND.get(num_channels, (1,) * num_channels), np.float64)
        self.filter = k_weighting(sample_rate)
        self._state = np.zeros((len(self.filter), num_channels, 2))
        self._rest = np.zeros((num_channels, 0))
        self._step_size = round(sample_rate / _STEPS_PER_SECOND)
        self._energies = array("d")  # of steps of 100 ms

    def add(self, block: NDArray[Any]) -> None:
        """See `Meter`."""
        if block.shape[1] == 0:
            return
        weighted, self._state = signal.sosfilt(self.filter, block.astype(np.float64), zi=self._state)
        self._rest = np.concatenate([self._rest, weighted], axis=1)
        num_steps = self._rest.shape[1] // self._step_size
        steps, self._rest = np.split(self._rest, [num_steps * self._step_size], axis=1)
        energies = np.square(steps.reshape(len(steps), num_steps, self._step_size)).mean(axis=2)
        self._energies.extend(self.weights @ energies)

    def level_db(self) -> float:
        """See `Meter`; the gated mean of annex 1, equations 4 to 7."""
        if len(self._energies) < _STEPS_PER_BLOCK:
            raise NotMeasurable("a loudness needs 0.4 s of sound at least")
        # A copy: an array that something looks into cannot grow.
        windows = np.lib.stride_tricks.sliding_window_view(np.array(self._energies), _STEPS_PER_BLOCK)
        energies = np.maximum(windows.mean(axis=1), 1e-30)
        audible = energies[_lufs(energies) > _ABSOLUTE_GATE_LUFS]
        if not len(audible):
            raise NotMeasurable(f"nothing is louder than the gate of {_ABSOLUTE_GATE_LUFS:g} LUFS")
        gate = _lufs(audible.mean()) + _RELATIVE_GATE_LU
        return float(_lufs(audible[_lufs(audible) > gate].mean()))


def k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """The two second-order sections (2, 6) of BS.1770-4, tables 1 and 2, for any rate.

    The tables hold for 48 kHz; for other rates the analogue filters behind them are transformed again (Mansbridge,
    Finn and Reiss, "Implementation and evaluation of autonomous multi-track fader control", AES 132, 2012).
    """
    shelf_hz, shelf_db, shelf_q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
    k = np.tan(np.pi * shelf_hz / sample_rate)
    high, band = 10 ** (shelf_db / 20), 10 ** (shelf_db / 20 * 0.4996667741545416)
    shelf = [high + band * k / shelf_q + k**2, 2 * (k**2 - high), high - band * k / shelf_q + k**2]
    shelf += [1 + k / shelf_q + k**2, 2 * (k**2 - 1), 1 - k / shelf_q + k**2]
    pass_hz, pass_q = 38.13547087602444, 0.5003270373238773
    k = np.tan(np.pi * pass_hz / sample_rate)
    high_pass = [1 + k / pass_q + k**2, 2 * (k**2 - 1), 1 - k / pass_q + k**2]
    return np.array(
        [np.array(shelf) / shelf[3], [1, -2, 1, *(np.array(high_pass) / high_pass[0])]], np.float64
    )


def _lufs(energy: Any) -> Any:
    """Equation 2."""
    return -0.691 + 10 * np.log10(energy)
