"""Schedules as dicts for JSON: the name of a builder and its arguments.

Only public builders that were declared with `@builder` are found by name, and functions are
refused. So no code is stored, and reading a dict runs only code that came with lrax. This file does
not import `Schedule`, whose methods call it.
"""

import importlib
import inspect
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from . import builders

Plain = Any  # what `json.dumps` takes

DEEPEST = 50  # levels of schedules and lists in one another
_NAME = "schedule"  # the entry of a dict that names the builder


def to_dict(schedule: Any) -> dict[str, Plain]:
    """The dict of a schedule; see `Schedule.to_dict`."""
    return _described(schedule, 0)


def _described(schedule: Any, depth: int) -> dict[str, Plain]:
    declaration = builders.declared(schedule.formula)
    # A user may declare a builder too, but `from_dict` would not find it.
    if declaration is None or _declaration(declaration.name) is not declaration:
        name = builders.name_of(schedule.formula)
        raise ValueError(f"a function has no form in JSON, got a schedule of `{name}`")
    shown = declaration.shown or dict
    arguments = {
        name: _described_value(name, getattr(value, "value", value), depth + 1)
        for name, value in shown(schedule.hyperparams).items()
        if value is not None
    }
    # The arguments have a dict of their own, because one of them may be called `schedule` too.
    return {_NAME: declaration.name, "arguments": arguments}


def _described_value(name: str, value: Any, depth: int) -> Plain:
    _require_shallow(depth)
    if hasattr(value, "formula") and hasattr(value, "hyperparams"):
        return _described(value, depth)
    if isinstance(value, (list, tuple)):
        return [_described_value(name, child, depth + 1) for child in value]
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, Tracer):
        raise ValueError(f"`{name}` must be concrete to be stored, got a traced value")
    if isinstance(value, (jax.Array, np.ndarray, np.generic, int, float)):
        return np.asarray(value).tolist()
    raise ValueError(f"a function has no form in JSON, got `{name}` {value!r}")


def from_dict(described: Any) -> Any:
    """The schedule that a dict describes; see `Schedule.from_dict`."""
    return _restored(described, 0)


def _restored(described: Any, depth: int) -> Any:
    if not isinstance(described, Mapping) or described.keys() != {_NAME, "arguments"}:
        raise ValueError(
            f"`described` must be a dict with the entries `{_NAME}` and `arguments`, got"
            f" {_short(described)}"
        )
    name, given = described[_NAME], described["arguments"]
    if not isinstance(name, str):
        raise ValueError(f"`{_NAME}` must be the name of a builder, got {_short(name)}")
    declaration = _declaration(name)
    if declaration is None:
        raise ValueError(f"`{_NAME}` must be the name of a builder of lrax, got {_short(name)}")
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ValueError(f"`arguments` must be a dict by names, got {_short(given)}")
    parameters = inspect.signature(declaration.build).parameters
    unknown = sorted(given.keys() - parameters.keys())
    if unknown:
        raise ValueError(f"`{name}` has no argument {unknown}; it has {list(parameters)}")
    values = {key: _restored_value(key, value, depth + 1) for key, value in given.items()}
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is not parameter.VAR_POSITIONAL
        and key not in values
    ]
    if missing:
        raise ValueError(f"`{name}` must be given {missing}, got {sorted(given)}")
    positional = [
        child
        for key, parameter in parameters.items()
        if parameter.kind is parameter.VAR_POSITIONAL
        for child in _as_list(key, values.pop(key, []))
    ]
    return declaration.build(*positional, **values)


def _as_list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"`{name}` must be a list, got {_short(value)}")
    return value


def _restored_value(name: str, value: Any, depth: int) -> Any:
    _require_shallow(depth)
    if isinstance(value, Mapping):
        return _restored(value, depth)
    if isinstance(value, (list, tuple)):
        return [_restored_value(name, child, depth + 1) for child in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite, got {value}")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"`{name}` must be a value of JSON, got {_short(value)}")


def _declaration(name: str) -> builders.Declaration | None:
    """The declaration of a builder by its public name."""
    parts = name.split(".")
    if len(parts) == 3 and parts[0] == "compat":
        # Reading the framework's name loads its module, which declares its builders.
        getattr(importlib.import_module("lrax.compat"), parts[1], None)
        return builders.named(name)
    public = importlib.import_module("lrax")
    for part in parts:  # reading the name of a family loads it, and so declares its builders
        public = getattr(public, part, None)
    declaration = builders.named(name)
    return declaration if declaration is not None and public is declaration.build else None


def _require_shallow(depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"`{_NAME}` must be at most {DEEPEST} levels deep, got more")


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float, type(None))) else type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."
