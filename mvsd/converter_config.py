"""What a converter is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mvsd.config import require, require_shares
from mvsd.diffusion import NoisePath
from mvsd.networks.scene_encoder import SceneEncoderConfig
from mvsd.networks.unet import UNetConfig
from mvsd.spectrogram import SpectrogramConfig

_MAX_SAMPLES = 2**24  # of a window or a response
_MAX_PASSES = 16


@dataclass(frozen=True)
class ConverterConfig:
    """What a converter is made of; the whole of it is stored in the model file.

    `generates` is "speech" (the converted recording's spectrogram, as in the paper) or "response" (the room's impulse
    response, with which the recording is then convolved). `path` is "bridge" (sampling starts from the source) or
    "noise" (as in the paper). `num_taps` frames of the source are filtered by the head, 0 for a plain head.
    `num_samples` is the response's length, or the window of a long recording, of which `overlap` samples are shared
    with the next window. `num_steps` is the default number of sampling steps. A window of speech is the mean over
    `num_shifts` conversions on frames that begin elsewhere: what depends on where they begin becomes less (cycle
    spinning, Coifman & Donoho 1995). In each of `num_passes` passes but the last the late reverberation that the
    estimate explains is found (`mvsd.convolutive`), and the next is given the recording without it too, and with
    `sees_estimate` the estimate as well. `envelope_pull` is the share, in decibels, by which a drawn response is pulled
    to the energy envelope that the scene predicts, `low_gain_db` a gain on what was drawn below 1 kHz, whose energy is
    given to the whole, and `evens_early` takes the colour from the early reflections that were drawn
    (`mvsd.coloration`): what chance decided shall not colour a voice. With `averages_views` that envelope is the mean
    over a photo and its mirror image, of a panorama over eight turns of both (`Scene.views`): it begins nowhere.
    `refiner` is a second U-Net, on finer cells, which corrects what the first makes (`Denoiser`), or None.
    """

    generates: Literal["speech", "response"] = "speech"
    path: Literal["bridge", "noise"] = "bridge"
    num_taps: int = 8
    num_steps: int = 4
    num_shifts: int = 1
    num_passes: int = 1
    sees_estimate: bool = False
    num_samples: int = 65_536
    overlap: int = 16_384
    sigma_data: float = 0.5
    sigma_max: float = 20.0
    spread: float = 0.3
    envelope_pull: float = 1.0
    low_gain_db: float = 0.0
    evens_early: bool = False
    averages_views: bool = False
    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    refiner: UNetConfig | None = None
    scene: SceneEncoderConfig = field(default_factory=SceneEncoderConfig)

    def __post_init__(self) -> None:
        """Check what the types cannot say; raises ConfigError."""
        is_speech = self.generates == "speech"
        require(
            is_speech or (self.path == "noise" and not self.num_taps),
            "a response has no source to start from or to filter: set path = 'noise', num_taps = 0",
        )
        require(
            self.num_shifts >= 1 and (is_speech or self.num_shifts == 1),
            f"num_shifts is {self.num_shifts}; it must be at least 1, and 1 where a response is generated: "
            "the mean of rooms is no room",
        )
        require(
            1 <= self.num_passes <= _MAX_PASSES and (is_speech or self.num_passes == 1),
            f"num_passes is {self.num_passes}; 1 to {_MAX_PASSES} are wanted, and 1 where a response is generated",
        )
        require(
            is_speech or not self.sees_estimate,
            "sees_estimate is of passes over speech: set false where a response is generated",
        )
        require_shares("", {"envelope_pull": self.envelope_pull})
        require(
            self.sigma_data > 0 and self.sigma_max > NoisePath.sigma_min and self.spread >= 0,
            f"sigma_data is {self.sigma_data:g}, sigma_max {self.sigma_max:g}, spread {self.spread:g}; "
            f"above 0, above {NoisePath.sigma_min:g} and at least 0 are wanted",
        )
        require(-60 <= self.low_gain_db <= 20, f"low_gain_db is {self.low_gain_db:g}; -60 to 20 is wanted")
        require(
            not is_speech or not (self.low_gain_db or self.evens_early or self.averages_views),
            "low_gain_db, evens_early and averages_views are of responses: set 0 and false for speech",
        )
        networks = [self.unet] if self.refiner is None else [self.unet, self.refiner]
        require(
            all(network.token_features == self.scene.token_features for network in networks),
            "scene.token_features and those of unet or refiner differ; set all to the same number",
        )
        require(
            0 <= self.overlap < self.num_samples <= _MAX_SAMPLES,
            f"overlap is {self.overlap} of {self.num_samples} samples; less is wanted, of at most {_MAX_SAMPLES}",
        )
        require(
            self.num_steps >= 1 and self.num_taps >= 0,
            f"num_steps is {self.num_steps}, num_taps {self.num_taps}; at least 1 and 0 are wanted",
        )
