"""The schedules of Optax (`optax.schedules`), under its own names, arguments and defaults; every
number may be traced.

Where Optax asks for the value of a number in Python, and so fails on a traced one, the same is here
a choice among values. Before the update 0, where some of Optax's formulas are meant for no count,
the first rate is held.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jax.typing import ArrayLike

from .. import _require
from ..schedules.decays import cosine, linear
from ..schedules.phases import join, warmup
from ..schedules.pieces import multistep, piecewise
from ..schedules.schedule import Schedule, as_schedule, constant
from ..schedules.warmups import warmup_cosine
from ._optax_phases import (
    constant_schedule,
    cosine_decay_schedule,
    exponential_decay,
    linear_schedule,
    polynomial_schedule,
    warmup_constant_schedule,
)
from .arrays import is_given, least, listed, most, numbers, products, where, whole

__all__ = [
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "sgdr_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
]


def warmup_cosine_decay_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    warmup_steps: ArrayLike,
    decay_steps: ArrayLike,
    end_value: ArrayLike = 0.0,
    exponent: ArrayLike = 1.0,
) -> Schedule:
    r"""A linear warmup, then half a cosine wave: `lrax.warmup_cosine`.

    `decay_steps` includes the warmup. Where `peak_value` is 0 the rate ends at 0, whatever
    `end_value` is.

    Args:
      init_value: Rate at the start, at least 0.
      peak_value: Rate after the warmup, at least 0.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      decay_steps: Length of the whole in optimizer updates, above `warmup_steps`.
      end_value: Rate at the end, at least 0, absolute.
      exponent: Power of the cosine shape, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or nothing is left to decay.

    Example:
      >>> lrax.compat.optax.warmup_cosine_decay_schedule(0.0, 0.1, warmup_steps=10, decay_steps=100)
      warmup_cosine(peak=0.1, steps=100, warmup=10, init=0, end=0)
    """
    given = numbers(
        init_value=init_value, peak_value=peak_value, end_value=end_value, exponent=exponent
    )
    given |= numbers(warmup_steps=warmup_steps, decay_steps=decay_steps)
    _require.nonnegative(given, "init_value", "peak_value", "end_value", "warmup_steps")
    init, peak, begin, steps = (
        given[f"{name}"] for name in ("init_value", "peak_value", "warmup_steps", "decay_steps")
    )
    _require.positive(
        {"decay_steps - warmup_steps": steps - begin, **given},
        "decay_steps - warmup_steps",
        "exponent",
    )
    end = where(peak > 0, given["end_value"], 0)
    if not is_given(exponent, 1):
        return warmup_cosine(peak, steps, begin, init=init, end=end)
    return warmup(cosine(peak, steps - begin, end, exponent=given["exponent"]), begin, init)


def warmup_exponential_decay_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    warmup_steps: ArrayLike,
    transition_steps: ArrayLike,
    decay_rate: ArrayLike,
    transition_begin: ArrayLike = 0,
    staircase: bool = False,
    end_value: ArrayLike | None = None,
) -> Schedule:
    r"""A linear warmup, then a factor of `decay_rate` every `transition_steps` updates.

    The two schedules are joined as they are: the warmup leads to `peak_value` also where
    `end_value` bounds what follows. The quirks of `exponential_decay` are those of its part, which
    counts from the end of the warmup.

    Args:
      init_value: Rate at the start, at least 0.
      peak_value: Rate after the warmup, at least 0.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      transition_steps: Updates per factor, any number.
      decay_rate: The factor, at least 0.
      transition_begin: Updates between the warmup and the decay, any number.
      staircase: Whether the rate falls at once after every `transition_steps` updates.
      end_value: Bound, at least 0: a floor when `decay_rate` is below 1, a ceiling otherwise.
        `None` for none.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.
      TypeError: if `staircase` is not a bool.

    Example:
      >>> warmup_exponential = lrax.compat.optax.warmup_exponential_decay_schedule
      >>> schedule = warmup_exponential(0.0, 1.0, warmup_steps=2, transition_steps=2, decay_rate=0.5)
      >>> print(schedule.values(7).round(3))
      [0. 0.5 1. 0.707 0.5 0.354 0.25 ]
    """
    given = numbers(init_value=init_value, peak_value=peak_value, warmup_steps=warmup_steps)
    _require.nonnegative(given, "init_value", "peak_value", "warmup_steps")
    up = linear(given["init_value"], given["peak_value"], given["warmup_steps"])
    down = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return join([up, down], listed([given["warmup_steps"]]))


def piecewise_constant_schedule(
    init_value: ArrayLike, boundaries_and_scales: Mapping[Any, ArrayLike] | None = None
) -> Schedule:
    r"""The rate times a scale at each boundary: `lrax.multistep`.

    The keys of a dict are known, so boundaries are the one kind of number that cannot be traced
    here; in `lrax.multistep` they can, and one may be given twice.

    Args:
      init_value: Rate at the start, at least 0.
      boundaries_and_scales: What the rate is multiplied by, at least 0, by the index of the first
        update with it.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.optax.piecewise_constant_schedule(0.1, {30: 0.1, 60: 0.5})
      multistep(init=0.1, milestones=[30, 60], factor=[0.1, 0.5])
    """
    if not boundaries_and_scales:
        return constant(init_value)
    boundaries, scales = _sorted(boundaries_and_scales)
    return multistep(init_value, most(boundaries, 0), scales)


def _sorted(boundaries_and_scales):
    pairs = sorted(boundaries_and_scales.items(), key=lambda pair: pair[0])
    scales = numbers(scales=listed(scale for _, scale in pairs))
    _require.nonnegative(scales, "scales")
    return listed(boundary for boundary, _ in pairs), scales["scales"]


def piecewise_interpolate_schedule(
    interpolate_type: str,
    init_value: ArrayLike,
    boundaries_and_scales: Mapping[Any, ArrayLike] | None = None,
) -> Schedule:
    r"""From boundary to boundary by lines or half cosine waves: `lrax.piecewise`.

    At each boundary the rate is that at the one before times the boundary's scale; a boundary at 0
    makes a jump.

    Args:
      interpolate_type: `"linear"` or `"cosine"`.
      init_value: Rate at the start, at least 0.
      boundaries_and_scales: What the rate is multiplied by until then, at least 0, by the index of
        an update.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or `interpolate_type` is neither of the
        two.

    Example:
      >>> lrax.compat.optax.piecewise_interpolate_schedule("linear", 0.1, {30: 5.0, 60: 0.1})
      piecewise(values=[0.1, 0.5, 0.05], boundaries=[30, 60], shape='linear')
    """
    _require.choice("interpolate_type", interpolate_type, ("linear", "cosine"))
    given = numbers(init_value=init_value)
    _require.nonnegative(given, "init_value")
    if not boundaries_and_scales:
        return constant(init_value)
    boundaries, scales = _sorted(boundaries_and_scales)
    return piecewise(products([given["init_value"], *scales]), boundaries, interpolate_type)


def linear_onecycle_schedule(
    transition_steps: ArrayLike,
    peak_value: ArrayLike,
    pct_start: ArrayLike = 0.3,
    pct_final: ArrayLike = 0.85,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
) -> Schedule:
    r"""One cycle in three lines: up to `peak_value`, down to where it began, and on to the end.

    The end is `peak_value / (div_factor * final_div_factor)`, whatever Optax's documentation says.
    The turns are at whole updates, rounded down; where two fall on one update, the later one hides
    the earlier, and its rate with it.

    Args:
      transition_steps: Length of the whole in optimizer updates, above 0.
      peak_value: Highest rate, at least 0.
      pct_start: Fraction of `transition_steps` on the way up, from 0 to `pct_final`.
      pct_final: Fraction after which the rate is back where it began, at most 1.
      div_factor: `peak_value` in rates at the start, above 0.
      final_div_factor: The rate at the start in rates at the end, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> schedule = lrax.compat.optax.linear_onecycle_schedule(10, 1.0, pct_final=0.7, div_factor=10.0)
      >>> print(schedule.values(12).round(2))
      [0.1 0.4 0.7 1. 0.78 0.55 0.32 0.1 0.07 0.03 0. 0. ]
    """
    given = numbers(pct_final=pct_final)
    _require.nonnegative(given, "pct_final")
    return _onecycle(
        "linear",
        transition_steps,
        peak_value,
        pct_start,
        given["pct_final"],
        div_factor,
        final_div_factor,
    )


def cosine_onecycle_schedule(
    transition_steps: ArrayLike,
    peak_value: ArrayLike,
    pct_start: ArrayLike = 0.3,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
) -> Schedule:
    r"""One cycle in two half cosine waves: up to `peak_value`, and down to the end.

    The turn is at a whole update, rounded down: where `pct_start * transition_steps` is one, it is
    `lrax.one_cycle`. At a `pct_start` of 1, the end hides the peak.

    Args:
      transition_steps: Length of the whole in optimizer updates, above 0.
      peak_value: Highest rate, at least 0.
      pct_start: Fraction of `transition_steps` on the way up, from 0 to 1.
      div_factor: `peak_value` in rates at the start, above 0.
      final_div_factor: The rate at the start in rates at the end, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

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
    given = numbers(transition_steps=transition_steps, peak_value=peak_value, pct_start=pct_start)
    given |= numbers(div_factor=div_factor, final_div_factor=final_div_factor)
    _require.nonnegative(given, "peak_value", "pct_start")
    _require.positive(given, "transition_steps", "div_factor", "final_div_factor")
    steps, div, final = given["transition_steps"], given["div_factor"], given["final_div_factor"]
    turn = whole(given["pct_start"] * steps)
    if pct_final is None:
        _require.at_most("`pct_start` must be at most 1", given["pct_start"], 1.0)
        boundaries, scales = [turn, steps], [div, 1 / (div * final)]
    else:
        _require.at_most("`pct_start` must be at most `pct_final`", given["pct_start"], pct_final)
        _require.at_most("`pct_final` must be at most 1", pct_final, 1.0)
        boundaries, scales = [turn, whole(pct_final * steps), steps], [div, 1 / div, 1 / final]
    # They are the keys of a dict in Optax: of equal ones, the last scale stands for all.
    for i in reversed(range(len(scales) - 1)):
        same = boundaries[i] == boundaries[i + 1]
        scales[i], scales[i + 1] = (
            where(same, scales[i + 1], scales[i]),
            where(same, 1, scales[i + 1]),
        )
    return piecewise(products([given["peak_value"] / div, *scales]), listed(boundaries), shape)


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    r"""Warm restarts: a `warmup_cosine_decay_schedule` after the other, each with arguments of its
    own.

    Args:
      cosine_kwargs: The arguments of each, at least one; `decay_steps`, which includes the warmup,
        is its length.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or there is no schedule.

    Example:
      >>> cycle = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 1, "decay_steps": 3}
      >>> print(lrax.compat.optax.sgdr_schedule([cycle, {**cycle, "peak_value": 0.5}]).values(8).round(2))
      [0. 1. 0.5 0. 0.5 0.25 0. 0. ]
    """
    cycles = list(cosine_kwargs)
    if not cycles:
        raise ValueError("`cosine_kwargs` must be of at least one schedule, got none")
    boundaries = []
    for cycle in cycles[:-1]:
        steps = numbers(decay_steps=cycle["decay_steps"])["decay_steps"]
        boundaries.append(steps + boundaries[-1] if boundaries else steps)
    return join_schedules([warmup_cosine_decay_schedule(**cycle) for cycle in cycles], boundaries)


def join_schedules(schedules: Sequence[Any], boundaries: Sequence[ArrayLike]) -> Schedule:
    r"""One schedule after the other, each counting from its own start: `lrax.join`.

    Where a boundary is above a later one, the later schedule wins. Optax leaves out, without a
    word, what has no boundary; here their numbers must agree.

    Args:
      schedules: At least one: each a `Schedule`, a number, or a function of the count such as
        Optax's.
      boundaries: Index of the first update of each schedule but the first, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known boundary is negative, infinite or NaN, or there is not one schedule
        more than boundaries.

    Example:
      >>> up = lrax.compat.optax.linear_schedule(0.0, 0.1, transition_steps=10)
      >>> lrax.compat.optax.join_schedules([up, 0.1], boundaries=[10])
      join(schedules=[linear(init=0, end=0.1, steps=10), constant(value=0.1)], boundaries=[10],
      clock='local')
    """
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"`schedules` must be one more than `boundaries`, got {len(schedules)} and {len(boundaries)}"
        )
    if len(schedules) == 1:
        return as_schedule(schedules[0], "schedules[0]")
    begins = list(numbers(boundaries=listed(boundaries))["boundaries"])
    for i in reversed(range(len(begins) - 1)):
        begins[i] = least(begins[i], begins[i + 1])
    return join(schedules, listed(begins))
