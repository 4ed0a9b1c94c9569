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


def save_module(
    module: nn.Module, config: Any, path: str | Path, *, kind: str, dtype: torch.dtype = torch.float16
) -> None:
    """Write weights and configuration into one file, whole or not at all.

    Parameters are stored as `dtype`, buffers (statistics of normalisation) as they are. `kind` is kept in the
    metadata and asked for again by `load_module`; `config` is a dataclass.
    """
    parameters = {name for name, _ in module.named_parameters()}
    tensors = {
        name: value.detach().to("cpu", dtype if name in parameters else value.dtype).contiguous()
        for name, value in module.state_dict().items()
    }
    metadata = {"format": kind, "config": json.dumps(to_dict(config))}
    with whole_file(Path(path), ModelFileError) as temporary:
        temporary.write_bytes(_ordered(save(tensors, metadata)))


def load_module(
    path: str | Path, config_class: type[Any], build: Callable[[Any], Module], *, kind: str
) -> Module:
    """Read a file of `save_module` into `build(config)`, in evaluation mode.

    Raises:
        ModelFileError: the file is missing, corrupt, or of another program.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file; give a .safetensors file written by mvsd")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != kind:
                found = metadata.get("format")
                raise ModelFileError(
                    f"{path} has format {found!r}, not {kind!r}; give a model of that kind and version"
                )
            config = from_dict(config_class, json.loads(metadata["config"]))
            with torch.device("meta"):  # a hostile configuration must not make us allocate
                wanted = {name: list(value.shape) for name, value in build(config).state_dict().items()}
            names = list(file.keys())
            if {name: file.get_slice(name).get_shape() for name in names} != wanted:
                raise ModelFileError(f"{path}: weights and configuration do not fit; get the file again")
            module = build(config)
            module.load_state_dict({name: file.get_tensor(name) for name in names})
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, ConfigError) as error:
        reason = str(error).splitlines()[0]
        raise ModelFileError(f"{path} cannot be read as a model: {reason}; get the file again") from error
    return module.eval()


def _ordered(data: bytes) -> bytes:
    """The same file with its header in order: safetensors leaves the order of the metadata to chance."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]
