"""A few fixed examples through both converters: sounds to listen to, and figures, while a run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from mvsd.audio import save_audio
from mvsd.converter import SAMPLE_RATE, Converter
from mvsd.data.batch import Batch

Figure = Callable[[Mapping[str, np.ndarray], int, Path], None]
"""Draws named waveforms (T,) at a sample rate into an image file."""


@torch.inference_mode()
def write_examples(
    folder: Path,
    reverberator: Converter,
    dereverberator: Converter,
    batch: Batch,
    figure: Figure | None = None,
) -> None:
    """Write ``<row>-<name>.wav``, pair and both estimates, for each row of paired data, and ``<row>.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    waveforms = {"anechoic": batch.anechoic, "reverberant": batch.reverberant}
    known = torch.ones(len(batch), dtype=torch.bool, device=batch.scene.device)
    for name, converter, source in (
        ("reverberator", reverberator, batch.anechoic),
        ("dereverberator", dereverberator, batch.reverberant),
    ):
        tokens = converter.scene_encoder(batch.scene, known)
        waveforms[name] = converter(source, tokens, batch.seeds, num_steps=converter.config.num_steps)
    for row in range(len(batch)):
        arrays = {name: waveform[row].float().cpu().numpy() for name, waveform in waveforms.items()}
        for name, array in arrays.items():
            save_audio(folder / f"{row}-{name}.wav", array, SAMPLE_RATE, force=True)
        if figure is not None:
            figure(arrays, SAMPLE_RATE, folder / f"{row}.png")
