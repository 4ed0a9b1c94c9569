"""The order of channels in Ogg, which libsndfile hands on as it is: centre second, low frequencies last.

Everywhere else it is that of WAV: left, right, centre, low frequencies, then back and sides. Orders of one to eight
channels: Vorbis I specification, section 4.3.9 (Opus: RFC 7845, section 5.1.1.2); WAVE_FORMAT_EXTENSIBLE and RFC 9639,
section 9.1.3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Which of Ogg's channels is the first, second ... of WAV's; with 1, 2, 4 and more than 8 channels the orders are equal.
_FROM_OGG = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}


def from_ogg(num_channels: int) -> NDArray[np.intp]:
    """(C,) index that puts channels in Ogg's order into that of WAV."""
    return np.array(_FROM_OGG.get(num_channels, range(num_channels)), np.intp)


def to_ogg(num_channels: int) -> NDArray[np.intp]:
    """(C,) index that puts channels in WAV's order into that of Ogg."""
    return np.argsort(from_ogg(num_channels))
