"""RTE: reverberation times that are estimated from the recordings alone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mvsd.errors import ModelFileError
from mvsd.evaluation.metrics.clips import Waveform, checked_pair, require_rate
from mvsd.evaluation.metrics.spectra import magnitude

if TYPE_CHECKING:
    from mvsd.blind import BlindEstimator


def rte(*, estimate: Waveform, target: Waveform, sample_rate: int, estimator: str | None = None) -> float:
    """Reverberation time error: absolute difference in seconds of the RT60 heard in estimate and target, 0 upwards.

    The RT60 is estimated blindly, from each recording alone, by the network that comes with mvsd (its own error is
    in the documentation), by another file of `mvsd.blind`, or by the published estimator of Chen et al., "Visual
    acoustic matching", CVPR 2022 (`estimator` is the path of `rt60_estimator.pth`), which alone comes near the figures
    of the papers; it hears each clip divided by its peak, in the papers by that of the whole utterance. Values of
    different estimators do not compare.
    """
    reference, degraded = checked_pair(target, estimate)
    is_file = estimator is not None and Path(estimator).is_file()
    changed = Path(str(estimator)).stat().st_mtime_ns if is_file else 0
    heard, wanted = (_rt60(clip.tobytes(), sample_rate, estimator, changed) for clip in (degraded, reference))
    return abs(heard - wanted)


@lru_cache(maxsize=4)  # several systems are compared with one target
def _rt60(clip: bytes, sample_rate: int, estimator: str | None, changed: int) -> float:
    samples = np.frombuffer(clip)
    if estimator is not None and Path(estimator).suffix in (".pth", ".pt"):
        require_rate("the published RT60 estimator", sample_rate)
        return _published_network(estimator, changed)(samples)
    return _blind_network(estimator, changed).estimate(samples, sample_rate).rt60


@lru_cache(maxsize=4)
def _blind_network(path: str | None, changed: int) -> BlindEstimator:
    from mvsd.blind import BlindEstimator

    return BlindEstimator.load(path)


class PublishedEstimator:
    """The RT60 estimator of AViTAR: a ResNet-18 over ln(1 + magnitude) of the peak-normalised clip.

    Built after its description, for a checkpoint `{"predictor": weights}` whose feature extractor is torchvision's
    ResNet-18 as a sequence of children. It was trained on clips of 2.56 s, 257 x 257 bins and frames.

    Raises:
        ModelFileError: the file is missing or holds something else.
    """

    def __init__(self, path: str | Path) -> None:
        import torch

        from mvsd.networks.resnet import ResNet18

        if not Path(path).is_file():
            raise ModelFileError(f"{path}: no such file; give the published rt60_estimator.pth")
        children = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
        self.features, self.head = ResNet18(in_channels=1, width=64), torch.nn.Linear(512, 1)
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)["predictor"]
            features = {}
            for name, value in weights.items():
                part, child, *rest = name.split(".")
                if part == "feature_extraction":
                    features[".".join([children[child], *rest])] = value
            self.features.load_state_dict(features)
            self.head.load_state_dict({name: weights[f"predictor.0.{name}"] for name in ("weight", "bias")})
        except Exception as error:  # torch.load raises nearly anything for a damaged or foreign file
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelFileError(
                f"{path} cannot be read as an RT60 estimator: {reason}; give the published rt60_estimator.pth"
            ) from error
        self.features.eval()

    def __call__(self, samples: NDArray[np.floating]) -> float:
        """RT60 in seconds of a clip (T,) at 16 kHz."""
        import torch

        spectrogram = np.log1p(magnitude(samples / np.abs(samples).max())).astype(np.float32)
        with torch.inference_mode():
            heard = self.features(torch.from_numpy(spectrogram)[None, None]).mean((2, 3))
            return float(self.head(heard))


@lru_cache(maxsize=4)
def _published_network(path: str, changed: int) -> PublishedEstimator:
    return PublishedEstimator(path)
