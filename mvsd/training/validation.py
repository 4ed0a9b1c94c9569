"""How a run does on rooms and voices it never trains on."""

from __future__ import annotations

from dataclasses import replace

import torch

from mvsd.converter import Converter
from mvsd.data.batch import Batch
from mvsd.data.mixing import DataConfig, Mixer
from mvsd.data.scenes import SceneConfig
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
from mvsd.errors import ConfigError, DataError
from mvsd.mutual import MutualLearning, residual_drr_db
from mvsd.training.config import TrainConfig
from mvsd.training.report import Validate

NUM_BATCHES, NUM_ROWS = 4, 8
SEED = 0  # whatever the run's own: two runs are measured on the same pairs


def make_validation(config: TrainConfig) -> Validate | None:
    """The function that `train` calls, or None where the configuration names no validation rooms.

    It returns every term of the loss on fixed pairs, all of them and from where sampling starts, and for the
    dereverberator's estimates SI-SDR and the residual direct-to-reverberant ratio (the known cheat of a closed loop is
    to leave the room in the dry estimate).

    Raises ConfigError where no voice is held out.
    """
    data = config.data
    if not data.validation_rooms:
        return None
    if not data.speech_holdout:
        raise ConfigError("validation needs voices; set data.speech_holdout to globs of held-out speakers")
    try:
        speech = Speech(data.speech, data.cache, data.speech_holdout, only_holdout=True)
    except DataError as error:
        raise DataError(
            f"{error} (data.speech_holdout, the voices of validation; data.validation_rooms = [] does without)"
        ) from error
    still = DataConfig(
        num_samples=data.num_samples,
        rir_samples=data.rir_samples,
        scenes=SceneConfig(jitter=0.0, depth_dropout=1.0, scale=data.scenes.scale),
        num_paired=NUM_ROWS,
        num_reverberant=0,
        num_anechoic=0,
    )
    mixer = Mixer(speech, Shards(data.validation_rooms), None, None, still, seed=SEED)
    batches = [mixer.batch(number) for number in range(NUM_BATCHES)]
    settings = replace(config.mutual, scene_dropout=0.0, depth=0.0, reverberator_share=1.0, start_share=1.0)

    @torch.inference_mode()
    def validate(reverberator: Converter, dereverberator: Converter, step: int) -> dict[str, float]:
        device = reverberator.scene_encoder.null_tokens.device
        learning = MutualLearning(reverberator, dereverberator, settings).eval()
        rows = [_figures(learning, batch.to(device)) for batch in batches]
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}

    return validate


def _figures(learning: MutualLearning, batch: Batch) -> dict[str, float]:
    figures = {name: float(value) for name, value in learning(batch, cycle=True).items()}
    known = torch.ones(len(batch), dtype=torch.bool, device=batch.scene.device)
    for name, scene_is_known in (("", known), ("_without_scene", ~known)):
        converter = learning.dereverberator
        tokens = converter.scene_encoder(batch.scene, scene_is_known)
        estimate = converter.estimate(
            batch.reverberant, tokens, batch.seeds, num_steps=converter.config.num_steps
        )
        figures[f"dereverberator/si_sdr_db{name}"] = _si_sdr_db(estimate, batch.anechoic)
        figures[f"dereverberator/residual_drr_db{name}"] = float(
            residual_drr_db(estimate, batch.anechoic).mean()
        )
    return figures


def _si_sdr_db(estimate: torch.Tensor, target: torch.Tensor) -> float:
    """Mean scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, equation 5)."""
    scale = (estimate * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True)
    projection = scale * target
    ratio = projection.square().sum(-1) / (estimate - projection).square().sum(-1)
    return float((10 * ratio.log10()).mean())
