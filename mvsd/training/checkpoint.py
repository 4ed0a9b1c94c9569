"""Checkpoints: one safetensors file each, tensors by name and the rest as JSON in the metadata; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mvsd.errors import ModelFileError
from mvsd.whole_file import whole_file

_FORMAT = "mvsd-checkpoint-1"
_NUM_KEPT = 2


def save_checkpoint(
    folder: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
) -> Path:
    """Write ``folder/step-<step>.safetensors`` atomically, then delete all but the two newest.

    Args:
        folder: made if it is missing.
        step: number of steps done.
        modules: by the name under which `load_checkpoint` finds them again.
        optimizer: its state goes along, and so does torch's random state.
        facts: JSON-able, returned by `load_checkpoint`.

    Raises:
        ModelFileError: the disk is full or the folder cannot be written.
    """
    tensors = {
        f"{name}/{key}": value for name, module in modules.items() for key, value in _state(module).items()
    }
    optimizer_tensors, optimizer_json = _flatten_optimizer(optimizer)
    tensors |= optimizer_tensors | {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    metadata = {"format": _FORMAT, "optimizer": json.dumps(optimizer_json), "facts": json.dumps(dict(facts))}
    path = folder / f"step-{step:09d}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path, ModelFileError) as temporary:
            # Clones, because safetensors refuses tensors that share memory.
            clones = {key: value.detach().cpu().clone() for key, value in tensors.items()}
            save_file(clones, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"checkpoint {path} cannot be written: {error}") from error
    for old in _checkpoints(folder)[:-_NUM_KEPT]:
        old.unlink()
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint, if there is one."""
    return next(reversed(_checkpoints(folder)), None)


def load_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Load modules, optimizer and random state in place.

    Returns:
        The facts given to `save_checkpoint`.

    Raises:
        ModelFileError: the file is corrupt, or is of other modules.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ModelFileError(
                    f"{path} is not a checkpoint of mvsd train; remove it from the run folder"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for name, module in modules.items():
            prefix = f"{name}/"
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        optimizer.load_state_dict(_unflatten_optimizer(tensors, json.loads(metadata["optimizer"])))
        torch.set_rng_state(tensors["random/cpu"])
        if torch.cuda.is_available() and "random/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random/cuda"])
        return dict(json.loads(metadata["facts"]))
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelFileError(
            f"{path} is corrupt or of another model ({reason}); delete it to use the one before"
        ) from error


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state = optimizer.state_dict()
    tensors, others = dict[str, Tensor](), dict[str, dict[str, Any]]()
    for index, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                others.setdefault(str(index), {})[key] = value
    return tensors, {"param_groups": state["param_groups"], "state": others}


def _unflatten_optimizer(tensors: Mapping[str, Tensor], others: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in others["state"].items()}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/", 2)
            state.setdefault(int(index), {})[key] = tensor
    return {"state": state, "param_groups": others["param_groups"]}
