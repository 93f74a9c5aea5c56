"""Optax's piecewise and one-cycle schedules.

They follow optax/schedules/_schedule.py of Optax 0.2.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from ... import _require
from ...schedules.pieces import multistep, piecewise
from ...schedules.schedule import Schedule, constant
from ..arguments import (
    Vector,
    finite,
    floor,
    largest,
    listed,
    nonnegative,
    positive,
    products,
    vector,
    where,
)


def piecewise_constant_schedule(
    init_value: ArrayLike, boundaries_and_scales: Mapping[Any, ArrayLike] | None = None
) -> Schedule:
    r"""The rate times a scale at each boundary: `lrax.multistep`.

    The boundaries are keys of a dict, so they cannot be traced here. In `lrax.multistep` they can,
    and one may be given twice.

    Args:
      init_value: Rate at the start, at least 0.
      boundaries_and_scales: `{index: scale}`. The rate is multiplied by the scale, at least 0, from
        the update with this index on.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.optax.piecewise_constant_schedule(0.1, {30: 0.1, 60: 0.5})
      multistep(init=0.1, milestones=[30, 60], factor=[0.1, 0.5])
    """
    init = nonnegative(init_value=init_value)["init_value"]
    boundaries, scales = _sorted(boundaries_and_scales)
    if not len(boundaries):
        return constant(init)
    return multistep(init, largest(boundaries, 0), scales)


def piecewise_interpolate_schedule(
    interpolate_type: str,
    init_value: ArrayLike,
    boundaries_and_scales: Mapping[Any, ArrayLike] | None = None,
) -> Schedule:
    r"""Lines or half cosine waves from boundary to boundary: `lrax.piecewise`.

    A boundary at 0 makes a jump.

    Args:
      interpolate_type: `"linear"` or `"cosine"`.
      init_value: Rate at the start, at least 0.
      boundaries_and_scales: `{index: scale}`. At the update with this index, the rate is that at
        the boundary before times the scale, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or `interpolate_type` is neither of the
        two.

    Example:
      >>> lrax.compat.optax.piecewise_interpolate_schedule("linear", 0.1, {30: 5.0, 60: 0.1})
      piecewise(values=[0.1, 0.5, 0.05], boundaries=[30, 60], shape='linear')
    """
    _require.choice("interpolate_type", interpolate_type, ("linear", "cosine"))
    init = nonnegative(init_value=init_value)["init_value"]
    boundaries, scales = _sorted(boundaries_and_scales)
    if not len(boundaries):
        return constant(init)
    if boundaries[0] < 0:
        raise ValueError(
            f"`boundaries_and_scales` must have keys of at least 0, got {boundaries[0]}"
        )
    return piecewise(products([init, *scales]), boundaries, interpolate_type)


def _sorted(boundaries_and_scales: Mapping[Any, ArrayLike] | None) -> tuple[Vector, Vector]:
    """The boundaries in ascending order, and the scale at each."""
    name = "boundaries_and_scales"
    pairs = {} if boundaries_and_scales is None else boundaries_and_scales
    if not isinstance(pairs, Mapping):
        raise TypeError(f"`{name}` must be a dict, got {pairs!r}")
    boundaries = [finite(**{name: boundary})[name] for boundary in pairs]
    order = np.argsort(boundaries, kind="stable")
    scales = list(pairs.values())
    return np.sort(boundaries), vector(name, [scales[i] for i in order])


def linear_onecycle_schedule(
    transition_steps: ArrayLike,
    peak_value: ArrayLike,
    pct_start: ArrayLike = 0.3,
    pct_final: ArrayLike = 0.85,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
) -> Schedule:
    r"""One cycle in three lines: up to `peak_value`, down to where it began, and on to the end.

    The end is `peak_value / (div_factor * final_div_factor)`, unlike Optax's documentation says.
    The turns are at whole updates, rounded down. If two fall on one update, the rate of the earlier
    one is never reached.

    Args:
      transition_steps: Length of the whole in optimizer updates, above 0.
      peak_value: Highest rate, at least 0.
      pct_start: Fraction of `transition_steps` in which the rate climbs, from 0 to `pct_final`.
      pct_final: Fraction of `transition_steps` after which the rate is back at its first value, at
        most 1.
      div_factor: `peak_value` divided by the first rate, above 0.
      final_div_factor: The first rate divided by the last one, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> schedule = lrax.compat.optax.linear_onecycle_schedule(
      ...     10, 1.0, pct_final=0.7, div_factor=10.0
      ... )
      >>> print(schedule.values(12).round(2))
      [0.1 0.4 0.7 1. 0.78 0.55 0.32 0.1 0.07 0.03 0. 0. ]
    """
    pct_final = nonnegative(pct_final=pct_final)["pct_final"]
    return _onecycle(
        "linear", transition_steps, peak_value, pct_start, pct_final, div_factor, final_div_factor
    )


def cosine_onecycle_schedule(
    transition_steps: ArrayLike,
    peak_value: ArrayLike,
    pct_start: ArrayLike = 0.3,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
) -> Schedule:
    r"""One cycle in two half cosine waves: up to `peak_value`, and down to the end.

    The turn is at a whole update, rounded down. If `pct_start * transition_steps` is whole, this is
    `lrax.one_cycle`. With a `pct_start` of 1, the peak is never reached.

    Args:
      transition_steps: Length of the whole in optimizer updates, above 0.
      peak_value: Highest rate, at least 0.
      pct_start: Fraction of `transition_steps` in which the rate climbs, from 0 to 1.
      div_factor: `peak_value` divided by the first rate, above 0.
      final_div_factor: The first rate divided by the last one, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> schedule = lrax.compat.optax.cosine_onecycle_schedule(10, 1.0, div_factor=10.0)
      >>> print(schedule.values(12).round(2))
      [0.1 0.32 0.78 1. 0.95 0.81 0.61 0.39 0.19 0.05 0. 0. ]
    """
    return _onecycle(
        "cosine", transition_steps, peak_value, pct_start, None, div_factor, final_div_factor
    )


def _onecycle(
    shape, transition_steps, peak_value, pct_start, pct_final, div_factor, final_div_factor
):
    peak, start = nonnegative(peak_value=peak_value, pct_start=pct_start).values()
    given = positive(
        transition_steps=transition_steps, div_factor=div_factor, final_div_factor=final_div_factor
    )
    steps, div, final = given.values()
    turn = floor(start * steps)
    if pct_final is None:
        _require.at_most("`pct_start` must be at most 1", start, 1.0)
        boundaries, scales = [turn, steps], [div, 1 / (div * final)]
    else:
        _require.at_most("`pct_start` must be at most `pct_final`", start, pct_final)
        _require.at_most("`pct_final` must be at most 1", pct_final, 1.0)
        boundaries, scales = [turn, floor(pct_final * steps), steps], [div, 1 / div, 1 / final]
    # In Optax the boundaries are keys of a dict: of equal ones, only the last scale is kept.
    for i in reversed(range(len(scales) - 1)):
        same = boundaries[i] == boundaries[i + 1]
        scales[i] = where(same, scales[i + 1], scales[i])
        scales[i + 1] = where(same, 1, scales[i + 1])
    return piecewise(products([peak / div, *scales]), listed(boundaries), shape)
