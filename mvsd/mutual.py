"""Mutual learning: the two converters in a closed loop teach each other (MVSD, section 3.3).

    dry -- reverberator(scene) --> wet^ -- dereverberator(scene) --> dry~     |dry~ - dry| teaches the reverberator
    wet -- dereverberator(scene) --> dry^ -- reverberator(scene) --> wet~     |wet~ - wet| teaches the dereverberator

Neither loop needs a pair. The converter that grades the other takes no gradient in that term.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.func import functional_call
from torch.nn.functional import avg_pool2d

from mvsd.config import require_not_negative, require_positive, require_shares
from mvsd.converter import Converter
from mvsd.data.batch import Batch
from mvsd.errors import ConfigError
from mvsd.networks.scene_depth import SceneDepth
from mvsd.spectrogram import magnitude, rms

CONVERTERS = ("reverberator", "dereverberator")
WEIGHTED = ("style", "different", "added", "words", "level", "envelope", "depth", "cycle", "made")
MEASURED = ("residual_drr_db", "input_drr_db")  # for the curves, not to be minimised


@dataclass(frozen=True)
class MutualConfig:
    """Weights of the loss terms, and how the loop is run.

    L_total = diffusion + style L_sty + different + added + words + level + envelope + depth + cycle L_m + made; the
    paper gives no weights, and has only the diffusion, L_sty and L_m. `depth` asks the scene encoders for the distances
    that a scene's depth map knows (`SceneDepth`), which no converter uses: it teaches them to see. `made` is what a
    converter learns from pairs whose source its partner made and whose target is real (Sennrich et al. 2016, "back-
    translation"): the dereverberator its supervised losses on dry rows made wet, the reverberator the energies of wet
    rows made dry. It anchors what the cycle alone lets drift. `scene_dropout` is the share of rows that see the null
    scene, `loop_steps` the sampling steps of an estimate inside the loop, of which the last carries the gradient.
    `start_share` is the share of rows in which a bridge is trained at time 1, where sampling starts and where all is
    still to be found out, and `reverberator_share` that of the pairs which teach the reverberator's diffusion: a
    response is learned sooner than speech, and its envelope, which all pairs teach, says most of what a photo knows.
    At 0 only the envelope is learned.
    (Several processes each take that share of their own pairs, rounded, so a step is not quite that of one process.)
    `learners` are the converters that change; another one only grades. `keeps_statistics` leaves those of batch
    normalisation as they are, which suits a run that goes on from weights that have seen more than it will.
    """

    style: float = 0.5
    different: float = 0.0
    added: float = 0.0
    words: float = 0.0
    level: float = 0.0
    envelope: float = 0.3
    depth: float = 0.0
    cycle: float = 0.2
    made: float = 0.0
    scene_dropout: float = 0.15
    reverberator_loop_steps: int = 4
    dereverberator_loop_steps: int = 1
    start_share: float = 0.25
    reverberator_share: float = 1.0
    learners: tuple[str, ...] = CONVERTERS
    keeps_statistics: bool = False

    def __post_init__(self) -> None:
        """Check learners and ranges; raises ConfigError."""
        require_not_negative("mutual", {name: getattr(self, name) for name in WEIGHTED})
        shares = ("scene_dropout", "start_share", "reverberator_share")
        require_shares("mutual", {name: getattr(self, name) for name in shares})
        steps = ("reverberator_loop_steps", "dereverberator_loop_steps")
        require_positive("mutual", {name: getattr(self, name) for name in steps})
        if not self.learners or not set(self.learners) <= set(CONVERTERS):
            raise ConfigError(
                f"mutual.learners is {list(self.learners)}; some of {list(CONVERTERS)} are wanted"
            )


class MutualLearning(nn.Module):
    """Both converters and everything that teaches them."""

    def __init__(self, reverberator: Converter, dereverberator: Converter, config: MutualConfig) -> None:
        super().__init__()
        self.reverberator = reverberator
        self.dereverberator = dereverberator
        self.config = config
        self.weights = {"diffusion": 1.0} | {name: getattr(config, name) for name in WEIGHTED}
        learners: dict[str, Converter] = {
            name: getattr(self, name) for name in config.learners if config.depth
        }
        self.depth = nn.ModuleDict(
            {name: SceneDepth(learner.config.scene.token_features) for name, learner in learners.items()}
        )
        for name in set(CONVERTERS) - set(config.learners):
            self.get_submodule(name).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> MutualLearning:
        """Set the mode of the learners; a converter that only grades stays as it is, its statistics too."""
        super().train(mode)
        for name in set(CONVERTERS) - set(self.config.learners):
            self.get_submodule(name).eval()
        if self.config.keeps_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, batch: Batch, *, cycle: bool) -> dict[str, Tensor]:
        """The named terms, each a scalar mean over rows; "total" is what is minimised.

        A pure function of the parameters and the batch: time, noise and scene dropout come from `batch.seeds`.
        """
        time, dropped = self._draws(batch.seeds)
        known = (~dropped).to(batch.scene.device)
        tokens = {
            name: getattr(self, name).scene_encoder(batch.scene, known)
            for name in (CONVERTERS if cycle else self.config.learners)
        }
        times = {name: value.to(batch.scene.device) for name, value in time.items()}
        terms = self.paired_losses(batch, tokens, times)
        for name, head in self.depth.items():
            terms[f"{name}/depth"] = head.loss(tokens[name], batch.scene, known)  # type: ignore[operator]
        if cycle:
            terms |= self.cycle_losses(batch, tokens)
        named = [(name.split("/")[1], value) for name, value in terms.items()]
        if unknown := {name for name, _ in named} - {*self.weights, *MEASURED}:
            raise ConfigError(
                f"loss terms without a weight: {', '.join(sorted(unknown))}; give MutualConfig a field of each name, "
                "and add it to WEIGHTED"
            )
        weighted = [self.weights[name] * value for name, value in named if name not in MEASURED]
        if not weighted:
            raise ConfigError(
                f"nothing in these rows teaches {' and '.join(self.config.learners)}; give data.num_paired more than 0"
            )
        terms["total"] = torch.stack(weighted).sum()
        return terms

    def paired_losses(
        self, batch: Batch, tokens: dict[str, Tensor], times: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """L_d, L_sty and the scene's energy envelope, on the rows that are pairs."""
        terms: dict[str, Tensor] = {}
        if batch.num_paired == 0:
            return terms
        for name in self.config.learners:
            converter: Converter = getattr(self, name)
            share = self.config.reverberator_share if name == "reverberator" else 1.0
            rows = slice(0, max(1, round(share * batch.num_paired)))
            source, target = batch.anechoic[rows], batch.reverberant[rows]
            if name == "dereverberator":
                source, target = target, source
            if share:
                losses = converter.losses(
                    source, target, batch.rir[rows], tokens[name][rows], times[name][rows], batch.seeds[rows]
                )
                terms |= {f"{name}/{term}": value.mean() for term, value in losses.items()}
            if converter.generates_response:
                pairs = slice(0, batch.num_paired)
                envelope = converter.envelope_loss(batch.rir[pairs], tokens[name][pairs])
                terms[f"{name}/envelope"] = envelope.mean()
        return terms

    def cycle_losses(self, batch: Batch, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """L_m: both loops, over paired and unpaired rows alike, and the room left in the dry estimates."""
        first, second = batch.num_paired, batch.num_paired + batch.num_reverberant
        has_wet = torch.arange(len(batch.seeds)) < second
        has_dry = (torch.arange(len(batch.seeds)) < first) | ~has_wet
        dry, wet = batch.anechoic[has_dry], batch.reverberant[has_wet]
        dry_tokens = {name: value[has_dry] for name, value in tokens.items()}
        wet_tokens = {name: value[has_wet] for name, value in tokens.items()}
        dry_seeds, wet_seeds = batch.seeds[has_dry] + 1, batch.seeds[has_wet] + 1
        num_steps = {
            "reverberator": self.config.reverberator_loop_steps,
            "dereverberator": self.config.dereverberator_loop_steps,
        }

        def learn(name: str, source: Tensor, tokens: dict[str, Tensor], seeds: Tensor) -> Tensor:
            converter: Converter = getattr(self, name)
            return converter.estimate(source, tokens[name], seeds, num_steps=num_steps[name])

        def grade(name: str, source: Tensor, tokens: dict[str, Tensor], seeds: Tensor) -> Tensor:
            arguments = (source, tokens[name].detach(), seeds)
            return _frozen_estimate(getattr(self, name), *arguments, num_steps=num_steps[name])

        terms: dict[str, Tensor] = {}
        teaches = {name: name in self.config.learners for name in CONVERTERS}
        if len(dry) and (teaches["reverberator"] or self.config.made):
            wet_estimate = learn("reverberator", dry, dry_tokens, dry_seeds)
            if teaches["reverberator"]:
                dry_again = grade("dereverberator", wet_estimate, dry_tokens, dry_seeds)
                terms["reverberator/cycle"] = self._distance(dry_again, dry)
            if self.config.made and teaches["dereverberator"]:
                made = wet_estimate.detach()
                terms["dereverberator/made"] = self._supervised(made, dry, dry_tokens, dry_seeds)
        if not len(wet) or not (teaches["dereverberator"] or self.config.made):
            return terms
        dry_estimate = learn("dereverberator", wet, wet_tokens, wet_seeds)
        if teaches["dereverberator"]:
            wet_again = grade("reverberator", dry_estimate, wet_tokens, wet_seeds)
            terms["dereverberator/cycle"] = self._distance(wet_again, wet)
        if self.config.made and teaches["reverberator"]:
            wet_made = learn("reverberator", dry_estimate.detach(), wet_tokens, wet_seeds)
            terms["reverberator/made"] = self._energy_distance(wet_made, wet)
        if batch.num_paired and teaches["dereverberator"]:
            pairs = slice(0, batch.num_paired)
            with torch.no_grad():
                residue = residual_drr_db(dry_estimate[pairs], batch.anechoic[pairs])
                untouched = residual_drr_db(wet[pairs], batch.anechoic[pairs])
            terms["dereverberator/residual_drr_db"] = residue.mean()
            terms["dereverberator/input_drr_db"] = untouched.mean()
        return terms

    def _supervised(self, source: Tensor, target: Tensor, tokens: dict[str, Tensor], seeds: Tensor) -> Tensor:
        """The dereverberator's weighted losses on pairs whose wet half the reverberator made (back-translation)."""
        nowhere = torch.zeros_like(source)
        start = torch.ones(len(source), device=source.device)
        losses = self.dereverberator.losses(source, target, nowhere, tokens["dereverberator"], start, seeds)
        return torch.stack([self.weights[name] * value.mean() for name, value in losses.items()]).sum()

    def _distance(self, estimate: Tensor, target: Tensor) -> Tensor:
        """L1 between compressed magnitudes, at the target's unit level."""
        level = rms(target)
        encode = self.dereverberator.spectrogram.encode
        return (magnitude(encode(estimate / level)) - magnitude(encode(target / level))).abs().mean()

    def _energy_distance(self, estimate: Tensor, target: Tensor) -> Tensor:
        """L1 between energies of 0.5 kHz by 64 ms, in units of 20 dB, but for what all rows of the batch share.

        Between two random tails a distance of magnitudes is least where one of them is too quiet; this one is not. What
        is common to all rows is not their rooms but the dereverberator, which leaves a little of each in its estimates:
        learned from, it would teach the reverberator to add less and less.
        """
        config = self.dereverberator.spectrogram.config
        level = rms(target)
        energies = [
            avg_pool2d(
                magnitude(self.dereverberator.spectrogram.encode(clip / level)) ** (2 / config.power), (16, 4)
            )
            for clip in (estimate, target)
        ]
        level_db = [10 * (energy + 1e-4).log10() for energy in energies]
        difference = level_db[0] - level_db[1]
        shared = _mean_over_rows(difference.detach(), everywhere=self.training)
        return (difference - shared).abs().mean() / 20

    def _draws(self, seeds: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Diffusion times (B,) of each converter and whether the scene is dropped (B,), from each row's seed."""
        draws = torch.stack(
            [torch.rand(3, generator=torch.Generator().manual_seed(int(seed) + 2)) for seed in seeds]
        )
        starts = draws[:, 1] < self.config.start_share
        times = {
            name: torch.where(starts, 1.0, draws[:, 0]) if converter.config.path == "bridge" else draws[:, 0]
            for name, converter in self.named_children()
            if isinstance(converter, Converter)
        }
        return times, draws[:, 2] < self.config.scene_dropout


def _mean_over_rows(values: Tensor, *, everywhere: bool) -> Tensor:
    """(B, K, N) -> (1, K, 1), over the rows of this process, or `everywhere`, which all processes must ask for."""
    total = torch.cat([values.sum((0, 2)), values.new_tensor([values.shape[0] * values.shape[2]])])
    if everywhere and distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
    return (total[:-1] / total[-1])[None, :, None]


def residual_drr_db(estimate: Tensor, anechoic: Tensor, sample_rate: int = 16_000) -> Tensor:
    """How dry an estimate is: direct-to-reverberant ratio in dB of the response anechoic -> estimate, (B,).

    The response is the regularised deconvolution of estimate (B, T) by anechoic (B, T); direct is within 2.5 ms of
    time 0, reverberant what follows for 0.5 s. A dereverberator that hides the room in its output scores low. It is for
    the curves of a training; `mvsd.evaluation.metrics.residual_drr_db` fits the response more exactly, and to 1 s.
    """
    size = 2 * anechoic.shape[-1]
    dry, wet = torch.fft.rfft(anechoic.float(), size), torch.fft.rfft(estimate.float(), size)
    energy = dry.abs().square()
    response = torch.fft.irfft(wet * dry.conj() / (energy + 1e-2 * energy.mean(-1, keepdim=True)), size)
    near = int(0.0025 * sample_rate)
    direct = response[:, :near].square().sum(-1) + response[:, -near:].square().sum(-1)
    late = response[:, near : near + sample_rate // 2].square().sum(-1)
    ratio: Tensor = direct.clamp(min=1e-20) / late.clamp(min=1e-20)
    return 10 * ratio.log10()


def _frozen_estimate(
    converter: Converter, source: Tensor, tokens: Tensor, seeds: Tensor, *, num_steps: int
) -> Tensor:
    """`converter.estimate` whose gradient reaches the source but not the converter's parameters."""
    frozen = {name: value.detach() for name, value in converter.named_parameters()}
    estimate: Tensor = functional_call(converter, frozen, (source, tokens, seeds), {"num_steps": num_steps})
    return estimate
