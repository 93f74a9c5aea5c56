"""Checks of a framework's arguments, and arithmetic on them before they become leaves.

A concrete argument is computed with in NumPy and float64. No device is touched, and 0.1 * 0.1 is
still printed as 0.01. A traced argument is computed with by JAX.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from ..schedules.concrete import library

Number = Any  # a float64 of NumPy where the argument is concrete, a tracer otherwise
Vector = Any  # an array of one axis, of the same two kinds


def numbers(**values: ArrayLike) -> dict[str, Number]:
    """One real number for each argument. Lanes are made by `jax.vmap`, so arrays are refused."""
    leaves = _require.real(**values)
    for name, value in values.items():
        if np.ndim(leaves[name]):
            raise ValueError(
                f"`{name}` must be one number, got an array of shape {np.shape(leaves[name])}"
            )
        if not isinstance(value, Tracer):
            leaves[name] = np.float64(np.asarray(value, np.float64))
    return leaves


def finite(**values: ArrayLike) -> dict[str, Number]:
    """Finite numbers."""
    given = numbers(**values)
    _require.finite(given, *given)
    return given


def nonnegative(**values: ArrayLike) -> dict[str, Number]:
    """Finite numbers of at least 0."""
    given = numbers(**values)
    _require.nonnegative(given, *given)
    return given


def positive(**values: ArrayLike) -> dict[str, Number]:
    """Finite numbers above 0."""
    given = numbers(**values)
    _require.positive(given, *given)
    return given


def vector(name: str, values: Iterable[ArrayLike] | ArrayLike) -> Vector:
    """A list or an array of finite numbers, each at least 0, as one array."""
    if isinstance(values, (list, tuple)):
        given = listed(numbers(**{name: value})[name] for value in values)
    else:
        given = _require.real(**{name: values})[name]
        if np.ndim(given) != 1:
            raise ValueError(f"`{name}` must be a list of numbers, got {values!r}")
        given = given if isinstance(given, Tracer) else np.asarray(values, np.float64)
    _require.nonnegative({name: given}, name)
    return given


def whole_numbers(values: dict[str, Number], *names: str) -> None:
    """Requires that concrete numbers are whole. Traced ones are taken to be whole."""
    for name in names:
        if is_concrete(values[name]) and not is_whole(values[name]):
            raise ValueError(f"`{name}` must be whole, got {values[name]}")


def at_most_one(values: dict[str, Number], *names: str) -> None:
    """Requires numbers of at most 1."""
    for name in names:
        _require.at_most(f"`{name}` must be at most 1", values[name], np.float64(1))


def above(name: str, value: Number, words: str, low: Number) -> None:
    """Requires that `value` is above `low`, which the error calls `words`."""
    if not is_concrete(value - low):
        _require.positive({f"{name} - {words}": value - low}, f"{name} - {words}")
    elif not value > low:
        raise ValueError(f"`{name}` must be above {words}, got {value} and {low}")


def ordered(values: dict[str, Number], low: str, high: str) -> None:
    """Requires that the number `high` is above the number `low`."""
    above(high, values[high], f"`{low}`", values[low])


def is_concrete(value: Any) -> bool:
    """Whether a number has a value now, outside of a trace."""
    return not isinstance(value, Tracer)


def is_whole(value: Number) -> bool:
    """Whether a concrete number, or each of an array, is whole."""
    return bool(np.all(np.asarray(value) % 1 == 0))


def is_known_as(value: Any, number: float) -> bool:
    """Whether a number is concrete and equal to this one, so that a phase can be left out.

    For a traced number it is False: the phase is then built, with the same rates.
    """
    return is_concrete(value) and bool(np.all(np.asarray(value) == number))


def is_given(value: Any, default: float) -> bool:
    """Whether an argument is other than its literal default.

    This decides only whether a phase is left out of the translation. The rates are the same. A
    tracer, an array or a NumPy number always counts as given.
    """
    return not (type(value) in (int, float) and value == default)


def where(condition: Any, x: Any, y: Any) -> Any:
    """`where` of NumPy if all arguments are concrete, or else of JAX."""
    return library(condition, x, y).where(condition, x, y)


def largest(x: Any, y: Any) -> Any:
    """The larger of two numbers."""
    return library(x, y).maximum(x, y)


def smallest(x: Any, y: Any) -> Any:
    """The smaller of two numbers."""
    return library(x, y).minimum(x, y)


def products(values: Iterable[Any]) -> Vector:
    """The running products of some numbers."""
    array = listed(values)
    return library(array).cumprod(array)


def floor(x: Any) -> Any:
    """The number rounded down, as Python's `int` does with a number that is not negative."""
    return library(x).floor(x)


def rounded(x: Any) -> Any:
    """The nearest whole number, halves to even, as Python's `round`."""
    return library(x).round(x)


def ascending(values: Any) -> Vector:
    """An array in ascending order."""
    return library(values).sort(values)


def listed(values: Iterable[Any]) -> Vector:
    """Numbers as one array, traced if one of them is."""
    values = list(values)
    return library(*values).stack(values) if values else np.zeros(0)


def shorter(steps: Number) -> Number:
    """The length, rounded down to float32 if it would round up: 5 stairs of 2.4 must end by 12."""
    if isinstance(steps, Tracer):
        return steps
    rounded = steps.astype(_require.float_dtype())
    below = np.nextafter(rounded, 0) if rounded > steps else rounded
    # The shortest decimal of that float, so that what a schedule prints is read back the same.
    return np.float64(str(below))
