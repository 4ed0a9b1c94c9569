"""Frozen dataclasses <-> plain dicts, for configuration files and for the metadata of model files."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isnan
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mvsd.errors import ConfigError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a dataclass into nested dicts and lists that JSON and TOML can hold.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Crop:
    ...     bounds: tuple[int, int] = (0, 1)
    >>> to_dict(Crop())
    {'bounds': [0, 1]}
    """
    return {field.name: _plain(getattr(config, field.name)) for field in fields(config)}


def from_dict(cls: type[T], values: Mapping[str, Any], name: str = "") -> T:
    """Build a dataclass from nested dicts; what is missing keeps its default.

    Args:
        cls: dataclass over bool, int, float, str, tuples, mappings, None, Literal and other such dataclasses.
        values: as `to_dict` makes them.
        name: dotted name of this part, for messages.

    Raises:
        ConfigError: a key is unknown, or a value is of the wrong type or nan, which no range would refuse.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name or 'the configuration'} is {values!r}; wanted is a table of keys")
    valid = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in valid:
            raise ConfigError(f"unknown key {_join(name, key)}; valid keys are {', '.join(sorted(valid))}")
    hints = get_type_hints(cls)
    return cls(**{key: _convert(hints[key], value, _join(name, key)) for key, value in values.items()})


def require(is_met: bool, message: str) -> None:
    """Raise ConfigError with the message where a condition is not met."""
    if not is_met:
        raise ConfigError(message)


def require_shares(part: str, values: Mapping[str, float]) -> None:
    """Raise ConfigError where a value of this part of a configuration is not in 0..1."""
    for name, value in values.items():
        require(0 <= value <= 1, f"{_join(part, name)} is {value}; it must be in 0..1")


def require_positive(part: str, values: Mapping[str, int]) -> None:
    """Raise ConfigError where a number of this part of a configuration is below 1."""
    for name, value in values.items():
        require(value >= 1, f"{_join(part, name)} is {value}; it must be 1 or more")


def require_not_negative(part: str, values: Mapping[str, float]) -> None:
    """Raise ConfigError where a value of this part of a configuration, such as "schedule", is below 0."""
    for name, value in values.items():
        require(value >= 0, f"{_join(part, name)} is {value}; it must be 0 or more")


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Overlay nested dicts without changing either.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def flatten(values: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted names.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, _join(name, key)) if isinstance(value, Mapping) else {_join(name, key): value}
    return flat


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _convert(hint: Any, value: Any, name: str) -> Any:
    """Check a value against a type hint; lists become tuples, tables dataclasses, int float where wanted."""
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(value, float) and isnan(value):
        raise ConfigError(f"{name} is nan; wanted is a number")
    if is_dataclass(hint):
        return from_dict(hint, value, name)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, name)
    if origin is tuple and isinstance(value, (list, tuple)):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        if len(arguments) == len(value):
            pairs = enumerate(zip(arguments, value, strict=True))
            return tuple(_convert(item_hint, item, f"{name}[{index}]") for index, (item_hint, item) in pairs)
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _convert(arguments[1], item, _join(name, key)) for key, item in value.items()}
    elif origin is Literal and value in arguments:
        return value
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    wanted = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    raise ConfigError(f"{name} is {value!r}; wanted is {wanted.replace('typing.', '')}")


def _convert_union(hints: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and type(None) in hints:
        return None
    for hint in hints:
        try:
            return _convert(hint, value, name)
        except ConfigError:
            continue
    wanted = " or ".join(getattr(hint, "__name__", str(hint)) for hint in hints)
    raise ConfigError(f"{name} is {value!r}; wanted is {wanted}")
