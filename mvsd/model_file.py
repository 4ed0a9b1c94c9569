"""A network and its configuration in one safetensors file, without pickle: written whole, read with suspicion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from mvsd.config import from_dict, to_dict
from mvsd.errors import ConfigError, ModelFileError
from mvsd.whole_file import whole_file

Module = TypeVar("Module", bound=nn.Module)

_SCALE = ".scale"  # of a quantised parameter's rows, beside it in the file
_MIN_QUANTISED = 4096  # smaller ones save nothing


def save_module(
    module: nn.Module, config: Any, path: str | Path, *, kind: str, dtype: torch.dtype = torch.float16
) -> None:
    """Write weights and configuration into one file, whole or not at all.

    Parameters are stored as `dtype`, buffers (statistics of normalisation) as they are. torch.int8 stores matrices and
    kernels in 8 bits with a scale per output (Jacob et al. 2018, section 2.1, symmetric), all else as torch.float16.
    `kind` is kept in the metadata and asked for again by `load_module`; `config` is a dataclass.
    """
    parameters = {name for name, _ in module.named_parameters()}
    tensors: dict[str, torch.Tensor] = {}
    for name, value in module.state_dict().items():
        value = value.detach().cpu()
        if name not in parameters:
            tensors[name] = value.contiguous()
        elif dtype == torch.int8 and value.dim() >= 2 and value.numel() >= _MIN_QUANTISED:
            tensors[name], tensors[name + _SCALE] = _quantised(value)
        else:
            tensors[name] = value.to(torch.float16 if dtype == torch.int8 else dtype).contiguous()
    metadata = {"format": kind, "config": json.dumps(to_dict(config))}
    with whole_file(Path(path), ModelFileError) as temporary:
        temporary.write_bytes(_ordered(save(tensors, metadata)))


def is_model_file(path: Path) -> bool:
    """Whether a file was written by `save_module`, of whatever version."""
    try:
        with safe_open(path, "pt") as file:
            return str((file.metadata() or {}).get("format")).startswith("mvsd-")
    except (SafetensorError, OSError):
        return False


def load_module(
    path: str | Path, config_class: type[Any], build: Callable[[Any], Module], *, kind: str
) -> Module:
    """Read a file of `save_module` into `build(config)`, in evaluation mode.

    Raises:
        ModelFileError: the file is missing, corrupt, or of another program.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(
            f"{path}: no such model file; give a .safetensors file written by mvsd, reverberator or dereverberator"
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != kind:
                other = metadata.get("format")
                raise ModelFileError(
                    f"{path} has format {other!r}, not {kind!r}; give a model of that kind and version"
                )
            config = from_dict(config_class, json.loads(metadata["config"]))
            with torch.device("meta"):  # a hostile configuration must not make us allocate
                wanted = {name: list(value.shape) for name, value in build(config).state_dict().items()}
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            quantised = {name for name in wanted if name + _SCALE in found}
            scales = {name + _SCALE: wanted[name][:1] for name in quantised}
            if found != wanted | scales:
                raise ModelFileError(f"{path}: weights and configuration do not fit; get the file again")
            tensors = {name: file.get_tensor(name) for name in wanted}
            for name in quantised:
                scale = file.get_tensor(name + _SCALE).float()
                tensors[name] = tensors[name] * scale.view(-1, *(1 for _ in wanted[name][1:]))
            module = build(config)
            module.load_state_dict(tensors)
    except (
        SafetensorError,
        LookupError,
        ValueError,
        TypeError,
        ArithmeticError,
        RuntimeError,
        MemoryError,
        ConfigError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelFileError(f"{path} cannot be read as a model: {reason}; get the file again") from error
    return module.eval()


def _quantised(value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(M, ...) -> int8 of the same shape in -127..127, and the rows' scales (M,) by which to multiply it."""
    rows = value.float().flatten(1)
    scale = (rows.abs().amax(1) / 127).half().clamp(min=torch.finfo(torch.float16).tiny)
    return (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8).view(value.shape), scale


def _ordered(data: bytes) -> bytes:
    """The same file with its header in order: safetensors leaves the order of the metadata to chance."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]
