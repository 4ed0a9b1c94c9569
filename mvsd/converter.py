"""A converter turns (waveform, scene) into a waveform. The reverberator and the dereverberator are two of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mvsd.auditory import AuditoryDistance, level_error
from mvsd.blockwise import CORE_RATE, Blocks, Blockwise, Request
from mvsd.coloration import even_early, lower_lows, reverberate
from mvsd.converter_config import ConverterConfig
from mvsd.convolutive import late_reverberation
from mvsd.diffusion import BridgePath, Condition, Denoiser, NoisePath
from mvsd.errors import MvsdError
from mvsd.fullband import convert_by_estimate, convert_by_response
from mvsd.intelligibility import IntelligibilityLoss
from mvsd.model_file import load_module, save_module
from mvsd.networks.envelope import EnergyEnvelope
from mvsd.networks.scene_encoder import SceneEncoder
from mvsd.networks.unet import UNet
from mvsd.sampling import sample, seeded_noise
from mvsd.scene import CANVAS, Scene
from mvsd.shipped import SHIPPED, shipped_weights
from mvsd.spectrogram import ComplexSpectrogram, magnitude, rms

SAMPLE_RATE = CORE_RATE
FORMAT = "mvsd-1"

Direction = Literal["reverberator", "dereverberator"]


class Converter(nn.Module, Blockwise):
    """A diffusion model that carries a recording into or out of the room on a photo (MVSD, section 3)."""

    def __init__(self, config: ConverterConfig) -> None:
        super().__init__()
        self.config = config
        self.spectrogram = ComplexSpectrogram(config.spectrogram)
        self.scene_encoder = SceneEncoder(config.scene)
        self.generates_response = config.generates == "response"
        self.auditory = AuditoryDistance()
        self.intelligibility = IntelligibilityLoss()
        self.envelope = None
        if self.generates_response:
            num_frames = self.spectrogram.num_frames(config.num_samples)
            self.envelope = EnergyEnvelope(config.scene.token_features, config.spectrogram, num_frames)
        self.path = (
            BridgePath(config.spread)
            if config.path == "bridge"
            else NoisePath(sigma_data=config.sigma_data, sigma_max=config.sigma_max)
        )
        known_channels = 1 if self.generates_response else 4 if config.sees_estimate else 2
        in_channels, out_channels = 2 + known_channels, 2 + 2 * config.num_taps
        self.denoiser = Denoiser(
            UNet(in_channels, out_channels, config.unet),
            self.path,
            num_taps=config.num_taps,
            adds_source=config.path == "bridge" or config.num_taps > 0,
            refiner=UNet(2 + in_channels, out_channels, config.refiner) if config.refiner else None,
        )

    def losses(
        self, source: Tensor, target: Tensor, rir: Tensor, tokens: Tensor, time: Tensor, seeds: Tensor
    ) -> dict[str, Tensor]:
        """Supervised losses of a batch of pairs, each (B,); a pure function of its arguments.

        source and target (B, T), rir (B, R) with the direct sound a unit impulse at sample 0 (used only where the
        converter generates a response), tokens of `scene_encoder`, diffusion time (B,) in 0..1, seeds (B,) int64.
        "diffusion" is MVSD's L_d, "style" its L_sty (on magnitudes). Of generated speech, "different" and "added" are
        what the ear makes of the error (`mvsd.auditory`), "words" what it does to them (`mvsd.intelligibility`);
        neither hears levels, of which "level" is the squared error, of pieces of 64 ms, in units of 20 dB.
        """
        level = rms(source)
        start, condition = self._start(source / level, tokens, seeds)
        clean = self.spectrogram.encode(_late(rir) if self.generates_response else target / level)
        noise = seeded_noise(seeds, clean.shape[1:], clean.device)
        denoised = self.denoiser(self.denoiser.noisy(clean, noise, time, start), time, condition)
        losses = {
            "diffusion": self.denoiser.loss(clean, denoised, time),
            "style": (magnitude(denoised) - magnitude(clean)).abs().mean((1, 2)),
        }
        if self.envelope is None:
            estimate = self.spectrogram.decode(denoised, target.shape[-1])
            losses["different"], losses["added"] = self.auditory(estimate, target / level)
            losses["words"] = self.intelligibility(estimate, target / level)
            losses["level"] = level_error(estimate, target / level)
        return losses

    def envelope_loss(self, rir: Tensor, tokens: Tensor) -> Tensor:
        """Error of the energy envelope that the scene predicts (`EnergyEnvelope.error`): (B, R), (B, L, D) -> (B,).

        It needs no diffusion: of all that is learned here it costs least and says most about the photo. Raises
        ValueError where the converter generates speech.
        """
        if self.envelope is None:
            raise ValueError("only a converter that generates a response predicts its envelope")
        measured = self.envelope.measure(self.spectrogram.encode(_late(rir)))
        error: Tensor = self.envelope.error(self.envelope(tokens), measured)
        return error

    def forward(
        self,
        source: Tensor,
        tokens: Tensor,
        seeds: Tensor,
        *,
        num_steps: int,
        gradient: str = "last",
        earlier: Tensor | None = None,
    ) -> Tensor:
        """Differentiable conversion: (B, T), tokens (B, L, D), seeds (B,) or noise (B, 2, F, N) -> (B, T).

        `earlier` (B, 2, T) is what earlier passes over speech found (`earlier_passes`); without it they are made.
        """
        if self.generates_response:
            late = self.late_response(tokens, seeds, num_steps=num_steps, gradient=gradient)
            return reverberate(source, late)
        if earlier is None:
            earlier = self.earlier_passes(source, tokens, seeds, num_steps=num_steps)
        level = rms(source)
        start = self.spectrogram.encode(source / level)
        condition = Condition(self._known(earlier / level[:, None]), tokens)
        spectrogram = self._sample(start, condition, seeds, num_steps, gradient)
        return level * self.spectrogram.decode(spectrogram, source.shape[-1])

    estimate = forward

    def earlier_passes(
        self, source: Tensor, tokens: Tensor, seeds: Tensor, *, num_steps: int, num_passes: int | None = None
    ) -> Tensor:
        """All passes of `forward` over speech in a room (B, T) but the last -> (B, 2, T).

        That is the source less the late reverberation which they find, and the estimate of the last of them; before
        the first pass, the source itself for both. What they find has no gradient, the source itself keeps its own.
        """
        earlier = torch.stack([source, source], dim=1)
        for _ in range(self.config.num_passes - 1 if num_passes is None else num_passes):
            with torch.no_grad():
                estimate = self.forward(source, tokens, seeds, num_steps=num_steps, earlier=earlier)
            earlier = torch.stack([source - late_reverberation(source, estimate), estimate], dim=1)
        return earlier

    def late_response(
        self,
        tokens: Tensor,
        seeds: Tensor,
        *,
        num_steps: int,
        gradient: str = "all",
        expected: Tensor | None = None,
    ) -> Tensor:
        """Differentiable draw of what follows the direct sound: tokens (B, L, D), seeds as in `forward` -> (B, R).

        `expected` (B, K, M) stands in for the envelope that is predicted from the tokens. Raises ValueError where the
        converter generates speech.
        """
        if self.envelope is None:
            raise ValueError("only a converter that generates a response has one to draw")
        expected = self.envelope(tokens) if expected is None else expected
        condition = Condition(self.envelope.expand(expected), tokens)
        spectrogram = self._sample(condition.source, condition, seeds, num_steps, gradient)
        if self.config.envelope_pull:
            spectrogram = self.envelope.pull(spectrogram, expected, self.config.envelope_pull)
        if self.config.low_gain_db:
            spectrogram = lower_lows(
                spectrogram, self.spectrogram.config, self.config.low_gain_db, SAMPLE_RATE
            )
        late = self.spectrogram.decode(spectrogram, self.config.num_samples)
        late = torch.cat([torch.zeros_like(late[:, :1]), late[:, 1:]], dim=1)  # sample 0 is the voice itself
        return even_early(late, SAMPLE_RATE) if self.config.evens_early else late

    def tokens(self, scenes: list[Scene | None]) -> Tensor:
        """Photos, or None for the null scene -> tokens (B, L, D)."""
        size = self.config.scene.canvas_size
        nothing = np.zeros((CANVAS[0], *size), np.float32)
        canvases = [nothing if scene is None else scene.canvas(*size) for scene in scenes]
        return self._encode(np.stack(canvases), torch.tensor([scene is not None for scene in scenes]))

    def view_tokens(self, scene: Scene) -> Tensor:
        """A photo as it is, then what else shows the same room (`Scene.views`) -> tokens (V, L, D)."""
        canvases = scene.views(*self.config.scene.canvas_size)
        return self._encode(canvases, torch.ones(len(canvases), dtype=torch.bool))

    @torch.inference_mode()
    def response(self, scene: Scene | None = None, *, seed: int = 0, steps: int | None = None) -> np.ndarray:
        """A draw of the room's impulse response: (R,) at 16 kHz, the direct sound a unit impulse at sample 0.

        Raises MvsdError where the converter generates speech.
        """
        if self.envelope is None:
            raise MvsdError(
                "this model generates speech, not a room's response; use a model with generates = 'response'"
            )
        with _evaluating(self):
            tokens = self.view_tokens(scene) if scene and self.config.averages_views else self.tokens([scene])
            late = self.late_response(
                tokens[:1],  # the scene as it is
                torch.tensor([seed]),
                num_steps=steps or self.config.num_steps,
                expected=self.envelope(tokens).mean(0, keepdim=True),
            )
            rir: np.ndarray = late[0].cpu().numpy()
        rir[0] = 1
        return rir

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        """See `Blockwise`; in constant memory, full band, all channels linked (`mvsd.fullband`)."""
        rate, seed, steps = request.sample_rate, request.seed, request.steps or self.config.num_steps
        if self.generates_response:
            rir = self.response(request.scene, seed=seed, steps=steps)
            return convert_by_response(blocks, rir, rate, seed=seed)
        with torch.inference_mode(), _evaluating(self):
            tokens = self.tokens([request.scene])

        def estimate(window: np.ndarray, index: int) -> np.ndarray:
            source = torch.from_numpy(window[None]).to(tokens.device)
            with torch.inference_mode(), _evaluating(self):
                mean = self._mean_over_shifts(source, tokens, seed * 1_000_003 + index, steps)
            return mean[0].cpu().numpy()

        size, overlap = self.config.num_samples, self.config.overlap
        return convert_by_estimate(blocks, estimate, rate, request.num_channels, size=size, overlap=overlap)

    def _mean_over_shifts(self, source: Tensor, tokens: Tensor, seed: int, num_steps: int) -> Tensor:
        """The mean of the last pass over speech (1, T) on frames that begin elsewhere -> (1, T)."""
        num_shifts, total = self.config.num_shifts, torch.zeros_like(source)
        seeds = torch.tensor([seed * num_shifts])
        earlier = self.earlier_passes(source, tokens, seeds, num_steps=num_steps)
        for number in range(num_shifts):
            # Two and a half frames: the halves count most, the whole ones shift the network's coarser grids.
            shift = 5 * number * self.spectrogram.config.hop // 2
            late, known = (functional.pad(each, (shift, 0)) for each in (source, earlier))
            estimate = self.estimate(late, tokens, seeds + number, num_steps=num_steps, earlier=known)
            total += estimate[:, shift:]
        return total / num_shifts

    def save(self, path: str | Path, *, dtype: torch.dtype = torch.float16) -> None:
        """Write weights and configuration into one safetensors file, whole or not at all.

        Weights are stored as `dtype`; statistics of normalisation stay in float32.
        """
        save_module(self, self.config, path, kind=FORMAT, dtype=dtype)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Converter:
        """Read a model file of `save`, ready for use.

        Raises ModelFileError where the file is missing, corrupt, or of another program.
        """
        return load_module(path, ConverterConfig, cls, kind=FORMAT).to(device)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
    ) -> Converter:
        """Read a model file, a folder of `save_pretrained`, or a Hub id "user/model" (a download, kept in the cache).

        Raises ModelFileError where there is none, or one that is not ours.
        """
        from mvsd.hub import find_model

        path = find_model(name_or_path, revision=revision, token=token, local_files_only=local_files_only)
        return cls.load(path, device)

    def save_pretrained(
        self, folder: str | Path, *, run: str | Path | None = None, license_id: str | None = None
    ) -> None:
        """Write a folder as on the Hub: model, configuration and card. See `mvsd.hub.save_pretrained`."""
        from mvsd.hub import save_pretrained

        save_pretrained(self, folder, run=run, license_id=license_id)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        run: str | Path | None = None,
        license_id: str | None = None,
        private: bool | None = None,
        token: str | None = None,
    ) -> str:
        """Upload model and card to the Hub as "user/model"; returns the commit's address. See `mvsd.hub.push`."""
        from mvsd.hub import push

        return push(self, repo_id, run=run, license_id=license_id, private=private, token=token)

    def _encode(self, canvases: np.ndarray, known: Tensor) -> Tensor:
        device = self.scene_encoder.null_tokens.device
        images, known = torch.from_numpy(canvases).to(device), known.to(device)
        # One at a time stays in a processor's cache: half the time and a fraction of the memory of all at once.
        rows = [slice(row, row + 1) for row in range(len(images))]
        return torch.cat([self.scene_encoder(images[row], known[row]) for row in rows])

    def _start(self, source: Tensor, tokens: Tensor, seeds: Tensor) -> tuple[Tensor, Condition]:
        """Where the path of a training ends, and what is known. Of speech, a row's seed says which pass it is."""
        if self.envelope is not None:
            expected = self.envelope.expand(self.envelope(tokens))
            return expected, Condition(expected, tokens)
        earlier, made = torch.stack([source, source], dim=1), seeds % self.config.num_passes
        for number in range(1, self.config.num_passes):
            rows = (made == number).nonzero()[:, 0]
            if len(rows):
                inputs = (source[rows], tokens[rows], seeds[rows])
                steps = self.config.num_steps
                earlier[rows] = self.earlier_passes(*inputs, num_steps=steps, num_passes=number)
        return self.spectrogram.encode(source), Condition(self._known(earlier), tokens)

    def _known(self, earlier: Tensor) -> Tensor:
        """What the denoiser sees of `earlier_passes`: (B, 2, T) -> (B, 2 or 4, F, N)."""
        seen = earlier.unbind(1)[: 2 if self.config.sees_estimate else 1]
        return torch.cat([self.spectrogram.encode(each) for each in seen], dim=1)

    def _sample(
        self, start: Tensor, condition: Condition, seeds: Tensor, num_steps: int, gradient: str
    ) -> Tensor:
        noise = seeds
        if not seeds.is_floating_point():
            noise = seeded_noise(seeds, (2, *start.shape[2:]), start.device)

        def denoise(noisy: Tensor, time: Tensor) -> Tensor:
            return self.denoiser(noisy, time, condition)  # type: ignore[no-any-return]

        return sample(denoise, self.path, start, noise, num_steps, gradient=gradient)


def load(
    name_or_path: str | Path,
    device: str | torch.device = "cpu",
    *,
    num_shifts: int | None = None,
    num_passes: int | None = None,
    low_gain_db: float | None = None,
) -> Converter:
    """Load a converter: "reverberator" or "dereverberator" as shipped, a model file, or as `from_pretrained` does.

    `num_shifts`, `num_passes` and `low_gain_db` replace the model's own (`ConverterConfig`). Raises ModelFileError
    where there is no model, or one that is not ours, and ConfigError for a value that does not fit the model.
    """
    if str(name_or_path) in SHIPPED:
        converter = Converter.load(shipped_weights(str(name_or_path)), device)
    else:
        converter = Converter.from_pretrained(name_or_path, device=device)
    changes: dict[str, Any] = {"num_shifts": num_shifts, "num_passes": num_passes, "low_gain_db": low_gain_db}
    known = {name: value for name, value in changes.items() if value is not None}
    converter.config = replace(converter.config, **known)
    return converter


def load_as(
    direction: Direction, path: str | Path | None, device: str | torch.device = "cpu", **settings: Any
) -> Converter:
    """The converter at `path`, or the shipped one of that direction where it is None; all else as in `load`.

    Raises MvsdError too for the shipped one of the other direction, and for one that draws rooms where one is wanted
    that removes them. The opposite cannot be told of a file: what converts speech may have been trained to do either.
    """
    if str(path) in SHIPPED and str(path) != direction:
        raise MvsdError(f"a {direction} is wanted, and {path} goes the other way; leave it out, or give one")
    converter = load(direction if path is None else path, device, **settings)
    if direction == "dereverberator" and converter.generates_response:
        raise MvsdError(f"{path} draws the response of a room: it is a reverberator; give a dereverberator")
    return converter


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside a with-block."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def _late(rir: Tensor) -> Tensor:
    """A response without its direct sound."""
    return torch.cat([rir[:, :1] - 1, rir[:, 1:]], dim=1)
