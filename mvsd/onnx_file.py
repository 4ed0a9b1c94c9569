"""A converter as an ONNX file: one graph from sound (and photo) to sound, which runs without PyTorch.

The Fourier transforms are in the graph, as convolutions, so that nobody has to write them again.
"""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mvsd.blockwise import CORE_RATE
from mvsd.config import to_dict
from mvsd.converter import Converter
from mvsd.diffusion import Path as DiffusionPath
from mvsd.errors import MissingExtraError, MvsdError
from mvsd.scene import CANVAS
from mvsd.spectrogram import ComplexSpectrogram, SpectrogramConfig
from mvsd.whole_file import require_free, whole_file

FORMAT = "mvsd-onnx-1"
OPSET = 18


def export_onnx(
    converter: Converter, path: str | Path, *, steps: int | None = None, force: bool = False
) -> None:
    """Write a converter as one ONNX file in float32, whole or not at all; docs/how-to/export.md says how to run it.

    Inputs: `canvas` (1, 4, H, W) float32 of `Scene.canvas` and `known` (1,) bool, false without a photo. A
    dereverberator also takes `waveform` (1, T) at 16 kHz, any T from one window of its spectrogram on, and gives
    `estimate` (1, T). A converter that generates a response gives `response` (1, R), its direct sound a unit impulse
    at sample 0. What is drawn at random starts from `noise` (1, 2, F, N), standard normal, where anything is.
    `steps` sampling steps are unrolled, by default the model's; of several passes (`num_passes`) it is the first.

    Raises:
        MissingExtraError: onnx is not installed.
        OutputExistsError: the file is there, and `force` is not given.
        MvsdError: the system does not let the file be written, or something other than a file is there.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    path = Path(path)
    require_free(path, force)
    if not path.parent.is_dir():
        raise MvsdError(f"{path}: there is no folder {path.parent}; make it, or choose another")
    graph = _Graph(converter, steps or converter.config.num_steps).eval()
    inputs = graph.inputs()
    is_open = {"waveform": {1: "T"}, "estimate": {1: "T"}, "noise": {3: "N"}}
    facts = {"format": FORMAT, "sample_rate": str(CORE_RATE), "steps": str(graph.num_steps)}
    facts["config"] = json.dumps(to_dict(converter.config))
    with whole_file(path, force=force) as temporary, torch.no_grad(), _without_notices():
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            temporary,
            input_names=list(inputs),
            output_names=["response" if converter.generates_response else "estimate"],
            dynamic_axes=None if converter.generates_response else is_open,
            opset_version=OPSET,
            dynamo=False,  # torch.export takes minutes over the lengths that are open, this seconds
        )
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, facts)
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1  # the exporter cannot tell
        onnx.save(model, temporary)


class _Graph(nn.Module):
    """The computation as the exporter sees it, without a branch that depends on a value."""

    def __init__(self, converter: Converter, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.converter = copy.deepcopy(converter).cpu()
        schedule = _Schedule(converter.path, num_steps)
        self.converter.path = schedule  # type: ignore[assignment]  # to `sample`, numbers do for tensors
        self.draws = any(noise > 0 for _, _, noise in schedule.steps)
        # The room is found by solving linear equations, for which ONNX has no operator.
        self.converter.config = replace(self.converter.config, num_passes=1)
        self.converter.spectrogram = _ConvolutionSpectrogram(converter.config.spectrogram)

    def inputs(self) -> dict[str, Tensor]:
        """An example of each input, in order."""
        converter, config = self.converter, self.converter.config
        waveform = torch.randn(1, 8 * config.spectrogram.fft_size)
        num_samples = config.num_samples if converter.generates_response else waveform.shape[1]
        num_frames = converter.spectrogram.num_frames(num_samples)
        inputs = {} if converter.generates_response else {"waveform": waveform}
        inputs |= {
            "canvas": torch.zeros(1, CANVAS[0], *config.scene.canvas_size),
            "known": torch.tensor([True]),
        }
        if self.draws:
            inputs["noise"] = torch.randn(1, 2, converter.spectrogram.num_bins, num_frames)
        return inputs

    def forward(self, *inputs: Tensor) -> Tensor:
        """The inputs in order -> estimate (1, T) or response (1, R)."""
        converter = self.converter
        *waveform, canvas, known, noise = inputs if self.draws else (*inputs, torch.zeros(1))
        tokens = converter.scene_encoder(canvas, known)
        if converter.generates_response:
            late = converter.late_response(tokens, noise, num_steps=self.num_steps)
            return torch.cat([torch.ones_like(late[:, :1]), late[:, 1:]], dim=1)
        estimate: Tensor = converter.estimate(waveform[0], tokens, noise, num_steps=self.num_steps)
        return estimate


class _Schedule:
    """A path whose coefficients are plain numbers at the times that `sample` asks for, one after the other."""

    def __init__(self, path: DiffusionPath, num_steps: int) -> None:
        self.path = path
        times = torch.linspace(1, 0, num_steps + 1)[:-1]
        self.steps = [tuple(float(value) for value in path.coefficients(time)) for time in times]
        self.index = 0

    def coefficients(self, _: Tensor) -> tuple[float, ...]:
        """Of the next step; after the last comes the first again."""
        self.index += 1
        return self.steps[(self.index - 1) % len(self.steps)]

    def preconditioning(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """That of the path."""
        return self.path.preconditioning(time)


class _ConvolutionSpectrogram(ComplexSpectrogram):
    """The same transform without complex numbers: each basis function of the Fourier transform is a filter."""

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__(config)
        size = config.fft_size
        bins, samples = torch.arange(self.num_bins), torch.arange(size)
        angle = 2 * math.pi / size * (bins[:, None] * samples % size).double()
        basis = torch.cat([angle.cos(), -angle.sin()]) * self.window / self.window.double().norm()
        self.register_buffer("basis", basis.float()[:, None])
        one_sided = torch.full(
            (self.num_bins, 1), 2.0
        )  # bins stand for their conjugates too, but for the ends
        one_sided[0] = one_sided[-1] = 1
        self.register_buffer("share", one_sided * self.window.square().sum() / size)
        self.register_buffer("power", self.window.square()[None, None])

    def num_frames(self, num_samples: int) -> int:
        """As in the base, with whole numbers, which the exporter can follow."""
        return self._padded(num_samples) // self.config.hop + 1

    def transform(self, waveform: Tensor) -> Tensor:
        """See the base."""
        half = self.config.fft_size // 2
        padded = functional.pad(waveform[:, None], (half, half), mode="reflect")
        filtered = functional.conv1d(padded, self.get_buffer("basis"), stride=self.config.hop)
        return torch.stack(filtered.chunk(2, dim=1), dim=1)

    def inverse(self, spectrum: Tensor, num_samples: int) -> Tensor:
        """See the base."""
        half, hop = self.config.fft_size // 2, self.config.hop
        frames = (spectrum * self.get_buffer("share")).flatten(1, 2)
        summed = functional.conv_transpose1d(frames, self.get_buffer("basis"), stride=hop)
        power = functional.conv_transpose1d(
            torch.ones_like(frames[:, :1]), self.get_buffer("power"), stride=hop
        )
        return summed[:, 0, half : half + num_samples] / power[:, 0, half : half + num_samples]

    def _padded(self, num_samples: int) -> int:
        return num_samples + -num_samples % self.config.hop


@contextmanager
def _without_notices() -> Iterator[None]:
    """Without what the exporter says of itself: that it is old, and that numbers become constants, as they should."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
