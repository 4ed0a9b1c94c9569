"""The converter that a user names: a shipped one, a model file, or code of their own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvsd.errors import MvsdError
from mvsd.shipped import SHIPPED

if TYPE_CHECKING:
    from mvsd.blockwise import AudioConverter

_imported = set[str]()  # packages of the user's that `open_converter` has seen since `forget_converters`


class UnusableError(MvsdError):
    """A system that no clip can be given to."""


class PassingError(MvsdError):
    """The user's own code lacked memory or a file, which may be there the next time."""


@lru_cache(maxsize=16)
def open_converter(spec: str, device: str) -> AudioConverter:
    """A shipped name, a model file or ``module:object`` as a converter, kept until `forget_converters`.

    Raises ModelFileError, and UnusableError for the user's own code.
    """
    if spec in SHIPPED or Path(spec).is_file():
        from mvsd.converter import load

        return load(spec, device)
    module_name, _, path = spec.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # where `python -m` would look
    try:
        found = _import(module_name)
        for part in path.split("."):
            found = getattr(found, part)
        converter = found() if isinstance(found, type) else found
    except Exception as error:
        raise UnusableError(f"{spec} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(getattr(converter, "convert", None)):
        raise UnusableError(f"{spec} has no method convert(waveform, sample_rate, scene, *, seed)")
    usable: AudioConverter = converter
    return usable


def forget_converters() -> None:
    """Open converters anew: their files may have changed."""
    open_converter.cache_clear()
    _imported.clear()


def find_code(name: str) -> Path | None:
    """The file of a top-level module, or the folder of a package; nothing of it is run."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(name)
        folders = [] if spec is None else list(spec.submodule_search_locations or ())
    except (ImportError, ValueError):
        return None
    finally:
        sys.path.pop(0)
    if folders:
        return Path(folders[0])
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _import(name: str) -> Any:
    """A module as its package's files are now, of which the fingerprint of a system is made."""
    package = name.partition(".")[0]
    known = sys.modules.get(package)
    code = find_code(package)
    # What runs, has no file, or is installed does not change meanwhile, and numpy cannot be imported twice.
    is_to_stay = package == "mvsd" or code is None or "site-packages" in code.parts
    is_to_stay = is_to_stay or (known is not None and known.__spec__ is None)
    if package not in _imported and not is_to_stay:
        for other in [other for other in sys.modules if other.partition(".")[0] == package]:
            del sys.modules[other]
    _imported.add(package)
    return importlib.import_module(name)
