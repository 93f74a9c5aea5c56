"""The best rates that `fit` takes, from sweeps, searches and numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jax.core import Tracer

from .. import _require
from ..sweeps.result import SweepResult
from .setting import Setting


class Optimum(NamedTuple):
    """The best rate of a result; the ends of its interval are None if they are not known."""

    rate: float
    low: float | None = None
    high: float | None = None


def pairs(results: _require.Unchecked) -> tuple[list[Setting], list[Optimum]]:
    """The settings and the best rates of a list of pairs."""
    settings = []
    optima = []
    for i, pair in enumerate(_require.listed("results", results)):
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise TypeError(
                f"`results[{i}]` must be a pair of a Setting and a result, got {pair!r:.200}"
            )
        settings.append(as_setting(f"results[{i}]", pair[0]))
        optima.append(_as_optimum(f"results[{i}]", pair[1]))
    if not settings:
        raise ValueError("`results` must be at least one pair, got none")
    return settings, optima


def as_setting(name: str, value: _require.Unchecked) -> Setting:
    """Requires a `Setting`."""
    if not isinstance(value, Setting):
        raise TypeError(f"`{name}` must be an `lrax.scaling.Setting`, got {value!r:.200}")
    return value


def _as_optimum(name: str, result: _require.Unchecked) -> Optimum:
    if isinstance(result, SweepResult):
        result = result.optimum()
    if isinstance(result, Tracer):
        raise TypeError(f"`{name}` must be concrete, got {result!r}")
    # An Optimum of a sweep, or what `lrax.find` returns, whose type this file may not import.
    if hasattr(result, "rate") and hasattr(result, "interval"):
        if result.at_edge is not None:
            raise ValueError(
                f"`{name}` must have its optimum inside of the rates that were tried, got the"
                f" {'lowest' if result.at_edge == 'low' else 'highest'} of them, {result.rate:.3g}:"
                " extend the grid that way"
            )
        result = (result.rate, *result.interval)
    if isinstance(result, (tuple, list)):
        if len(result) != 3:
            raise ValueError(f"`{name}` must be a rate or (rate, low, high), got {result}")
        rate, low, high = (_require.number(name, value) for value in result)
        _require.positive({name: np.array([rate, low, high])}, name)
        if not low <= rate <= high:
            raise ValueError(f"`{name}` must have low <= rate <= high, got {result}")
        return Optimum(rate, low, high)
    rate = _require.number(name, result)
    _require.positive({name: rate}, name)
    return Optimum(rate)
