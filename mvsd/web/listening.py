"""Input and output at the same loudness: two sounds, their spectrograms, and the markup around them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from mvsd.audio import resample_blocks, save_audio
from mvsd.errors import MvsdError
from mvsd.figures import HIGHEST_HZ, spectrogram_images
from mvsd.level import LoudnessMeter
from mvsd.soundtrack import open_sound

Waveform = NDArray[np.float32]

MAX_RATE = 48_000  # more is not heard, and a browser holds all of it in memory
NAMES = ("before", "after")
PLACEHOLDER = '<div class="listen empty"><p>What comes out is heard, seen and downloaded here.</p></div>'

_CEILING = 0.99
_ASSETS = Path(__file__).parent
PLAYER_JS = (_ASSETS / "player.js").read_text(encoding="utf-8")
PAGE_CSS = (_ASSETS / "page.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Listening:
    """Two 16-bit WAV files as long as each other, and their spectrograms on one scale.

    `change_db` is the gain of the output, relative to the input's, that makes both equally loud (BS.1770-4); None
    where that has no meaning (silence, less than 0.4 s) and both are as they are.
    """

    sounds: tuple[Path, Path]
    spectrograms: tuple[Path, Path]
    seconds: float
    highest_khz: float
    change_db: float | None

    def markup(self) -> str:
        """The player, for `player.js`."""
        figures = "".join(
            f'<figure data-which="{name}"><figcaption>{name.capitalize()}</figcaption><div class="plot">'
            f'<img src="{file_url(path)}" alt="Spectrogram, 0 to {self.highest_khz:g} kHz"><i class="head"></i>'
            f'<b class="top">{self.highest_khz:g} kHz</b><b class="bottom">0</b></div></figure>'
            for name, path in zip(NAMES, self.spectrograms, strict=True)
        )
        choices = "".join(
            f'<label><input type="radio" name="which" value="{name}"{" checked" if name == "after" else ""}>'
            f"<span>{name.capitalize()}</span></label>"
            for name in NAMES
        )
        urls = " ".join(
            f'data-{name}="{file_url(path)}"' for name, path in zip(NAMES, self.sounds, strict=True)
        )
        return (
            f'<div class="listen" {urls}><div class="bar">'
            '<button type="button" class="play" aria-label="Play">▶</button>'
            f'<fieldset class="which"><legend>Which one is heard</legend>{choices}</fieldset>'
            '<label class="loop"><input type="checkbox" name="loop"> Loop</label>'
            '<span class="time"></span></div>'
            f'<input class="seek" type="range" min="0" max="{self.seconds:.3f}" step="0.01" value="0"'
            ' aria-label="Position in seconds">'
            f'<div class="spectra">{figures}</div><p class="hint" role="status">{escape(self._loudness())}'
            " Keys: <kbd>B</kbd> before, <kbd>A</kbd> after, <kbd>Space</kbd> play.</p></div>"
        )

    def _loudness(self) -> str:
        if self.change_db is None:
            return "Its loudness cannot be measured (too short, quiet, or low a rate): both are played as they are."
        if abs(self.change_db) < 0.05:
            return "Both are equally loud."
        way = "louder" if self.change_db < 0 else "quieter"
        return f"Played equally loud; in its file, after is {abs(self.change_db):.1f} dB {way} than before."


def prepare_listening(before: Path, after: Path, folder: Path) -> Listening:
    """Level both to the same integrated loudness, and draw them; both gains go down where one would clip.

    Raises AudioFileError or VideoFileError for a file that cannot be read.
    """
    rate = min(MAX_RATE, *(_rate(path) for path in (before, after)))
    source, estimate = (_load(path, rate) for path in (before, after))
    # Some codecs add to the end; what they leave out is silence.
    estimate = estimate[:, : source.shape[1]]
    estimate = np.pad(estimate, ((0, 0), (0, source.shape[1] - estimate.shape[1])))
    change_db = _loudness_change_db(source, estimate, rate)
    pair = [source, estimate * np.float32(10 ** ((change_db or 0.0) / 20))]
    peak = max(float(np.abs(waveform).max(initial=0.0)) for waveform in pair)
    pair = [waveform * np.float32(min(1.0, _CEILING / max(peak, 1e-9))) for waveform in pair]
    sounds = (folder / "listen-before.wav", folder / "listen-after.wav")
    for path, waveform in zip(sounds, pair, strict=True):
        save_audio(path, waveform, rate, subtype="PCM_16")
    spectrograms = (folder / "before.png", folder / "after.png")
    drawn = {path: waveform.mean(axis=0) for path, waveform in zip(spectrograms, pair, strict=True)}
    spectrogram_images(drawn, rate)
    highest_khz = min(HIGHEST_HZ, rate / 2) / 1000
    return Listening(sounds, spectrograms, source.shape[1] / rate, highest_khz, change_db)


def file_url(path: Path) -> str:
    """Where the page's server has a file of its own folder."""
    return "gradio_api/file=" + quote(path.as_posix())


def _rate(path: Path) -> int:
    return open_sound(path).sample_rate


def _load(path: Path, rate: int) -> Waveform:
    """A sound as it is listened to: (C, T), C at most 2."""
    sound = open_sound(path)
    channels = sound.channels if sound.channels <= 2 else 1
    blocks = (block if channels == len(block) else block.mean(axis=0)[None] for block in sound.blocks())
    low: Any = resample_blocks(blocks, sound.sample_rate, rate, channels)
    return np.concatenate(list(low), axis=1)


def _loudness_change_db(source: Waveform, estimate: Waveform, rate: int) -> float | None:
    levels = []
    for waveform in (source, estimate):
        try:
            meter = LoudnessMeter(rate, len(waveform))
            meter.add(waveform)
            levels.append(meter.level_db())
        except MvsdError:  # too quiet, too short, or at a rate for which loudness is not defined
            return None
    return levels[0] - levels[1]
