"""Arithmetic on a framework's arguments, known or traced, before they become the leaves of a schedule."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jax import numpy as jnp
from jax.core import Tracer

from .. import _require


def numbers(**values: Any) -> dict[str, Any]:
    """Arguments to compute with: traced ones as leaves, known ones in float64, so that 0.1 * 0.1 stays 0.01."""
    leaves = _require.real(**values)
    return {
        name: leaves[name] if isinstance(value, Tracer) else np.asarray(value, np.float64)[()]
        for name, value in values.items()
    }


def nonnegative(**values: Any) -> dict[str, Any]:
    """Arguments to compute with, as `numbers`, of which none is negative."""
    given = numbers(**values)
    _require.nonnegative(given, *given)
    return given


def where(condition: Any, x: Any, y: Any) -> Any:
    """A choice by a value. Of known values it is made by NumPy, so that no device is touched and no tracer made."""
    return _library(condition, x, y).where(condition, x, y)


def most(x: Any, y: Any) -> Any:
    """The larger one."""
    return _library(x, y).maximum(x, y)


def least(x: Any, y: Any) -> Any:
    """The smaller one."""
    return _library(x, y).minimum(x, y)


def products(values: Iterable[Any]) -> Any:
    """The products of the first one, two, ... of some numbers."""
    array = listed(values)
    return _library(array).cumprod(array)


def whole(x: Any) -> Any:
    """Without the decimals, as Python's `int` of what is not negative."""
    return _library(x).floor(x)


def rounded(x: Any) -> Any:
    """The nearest whole number, halves to even, as Python's `round`."""
    return _library(x).round(x)


def ascending(values: Any) -> Any:
    """An array in order."""
    return _library(values).sort(values)


def shorter(steps: Any) -> Any:
    """The length of stairs that are not whole updates, as float32 has it, but never longer: 5 * 2.4 is to reach 12."""
    if isinstance(steps, Tracer):
        return steps
    rounded = np.asarray(steps).astype(_require.float_dtype())
    return np.where(rounded > steps, np.nextafter(rounded, 0), rounded)[()]


def listed(values: Iterable[Any]) -> Any:
    """Numbers as one array, traced if one of them is."""
    values = list(values)
    return _library(*values).stack(values) if values else np.zeros(0)


def is_given(value: Any, default: float) -> bool:
    """Whether an argument is other than its literal default.

    What depends on it is the structure of the translation alone, never a rate: a phase that is not
    asked for is left out. A traced value, an array or a NumPy number always counts as given.
    """
    return not (type(value) in (int, float) and value == default)


def _library(*values: Any) -> Any:
    return jnp if any(isinstance(value, Tracer) for value in values) else np
