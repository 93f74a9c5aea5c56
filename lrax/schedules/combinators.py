"""Schedules that change the rates or the counts of other schedules."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from . import landmarks
from .builders import builder
from .counts import alike, divided, minus, plus, reached, real
from .schedule import Schedule, Static, as_schedule, several


def minimum(*schedules: Any) -> Schedule:
    r"""The lowest of several schedules at each step.

    $$\eta(t) = \min_i \eta_i(t)$$

    Use it to cap a schedule by another: `lrax.minimum(linear_warmup, decay)`.

    Args:
      *schedules: At least one `Schedule`, number or function of the count.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if there is no schedule, or a concrete number is negative, infinite or NaN.
      TypeError: if an argument is neither a `Schedule` nor a number nor a function.

    Example:
      >>> lrax.minimum(lrax.linear(init=1.0, end=0.0, steps=4), 0.6).values(5)
      Array([0.6 , 0.6 , 0.5 , 0.25, 0.  ], dtype=float32)
    """
    return Schedule(_minimum, {"schedules": several("minimum", schedules)})


@builder(minimum)
def _minimum(count, schedules):
    lowest = schedules[0](count)
    for schedule in schedules[1:]:
        lowest = jnp.minimum(lowest, schedule(count))
    return lowest


def maximum(*schedules: Any) -> Schedule:
    r"""The highest of several schedules at each step.

    $$\eta(t) = \max_i \eta_i(t)$$

    Use it to put a floor under a decay that would go below it.

    Args:
      *schedules: At least one `Schedule`, number or function of the count.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if there is no schedule, or a concrete number is negative, infinite or NaN.
      TypeError: if an argument is neither a `Schedule` nor a number nor a function.

    Example:
      >>> lrax.maximum(lrax.linear(init=1.0, end=0.0, steps=4), 0.6).values(5)
      Array([1.  , 0.75, 0.6 , 0.6 , 0.6 ], dtype=float32)
    """
    return Schedule(_maximum, {"schedules": several("maximum", schedules)})


@builder(maximum)
def _maximum(count, schedules):
    highest = schedules[0](count)
    for schedule in schedules[1:]:
        highest = jnp.maximum(highest, schedule(count))
    return highest


def clip(schedule: Any, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Schedule:
    r"""A schedule kept between two rates.

    $$\eta(t) = \min(\max(\eta_0(t), \text{low}), \text{high})$$

    Use it to bound a formula that has no bounds of its own, such as `lrax.inverse_time`.

    Args:
      schedule: A `Schedule`, number or function of the count.
      low: Lowest rate, at least 0; `None` for no bound.
      high: Highest rate, at least `low`; `None` for no bound.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or `low` is above `high`.

    Example:
      >>> lrax.clip(lrax.linear(init=1.0, end=0.0, steps=4), 0.2, 0.8).values(5)
      Array([0.8 , 0.75, 0.5 , 0.25, 0.2 ], dtype=float32)
    """
    given = {name: value for name, value in {"low": low, "high": high}.items() if value is not None}
    hyperparams = _require.real(**given)
    _require.nonnegative(hyperparams, *given)
    if len(given) == 2:
        _require.at_most("`low` must be at most `high`", hyperparams["low"], hyperparams["high"])
    bounds = {"low": hyperparams.get("low"), "high": hyperparams.get("high")}
    return Schedule(_clip, {"schedule": as_schedule(schedule), **bounds})


@builder(clip, landmarks=landmarks.children)
def _clip(count, schedule, low, high):
    return jnp.clip(schedule(count), low, high)


def scale(schedule: Any, factor: ArrayLike) -> Schedule:
    r"""A schedule times the number `factor`.

    $$\eta(t) = \text{factor} \cdot \eta_0(t)$$

    Use it to move a whole schedule up or down, in a sweep or for a group of layers:
    `scaled.replace(factor=...)`.

    Args:
      schedule: A `Schedule`, number or function of the count.
      factor: What the rate is multiplied by, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete `factor` is negative, infinite or NaN.

    Example:
      >>> lrax.scale(lrax.linear(init=1.0, end=0.0, steps=4), 2.0).values(5)
      Array([2. , 1.5, 1. , 0.5, 0. ], dtype=float32)
    """
    hyperparams = _require.real(factor=factor)
    _require.nonnegative(hyperparams, "factor")
    return Schedule(_scale, {"schedule": as_schedule(schedule), **hyperparams})


@builder(scale, landmarks=landmarks.children)
def _scale(count, schedule, factor):
    return factor * schedule(count)


def shift(schedule: Any, steps: ArrayLike) -> Schedule:
    r"""A schedule seen from a later step: its first `steps` updates are skipped.

    $$\eta(t) = \eta_0(t + \text{steps})$$

    Use it when a run starts in the middle of a schedule, and its optimizer counts from 0 again.

    Args:
      schedule: A `Schedule`, number or function of the count.
      steps: Updates to skip. A negative number holds the first rate for that many updates.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete `steps` is infinite or NaN.

    Example:
      >>> lrax.shift(lrax.linear(init=1.0, end=0.0, steps=4), 2).values(4)
      Array([0.5 , 0.25, 0.  , 0.  ], dtype=float32)
    """
    hyperparams = _require.real(steps=steps)
    _require.finite(hyperparams, "steps")
    return Schedule(_shift, {"schedule": as_schedule(schedule), **hyperparams})


@builder(shift, landmarks=landmarks.shift)
def _shift(count, schedule, steps):
    return schedule(jnp.maximum(plus(count, steps), 0))


def delay(schedule: Any, steps: ArrayLike, before: Any = None) -> Schedule:
    r"""A schedule that begins `steps` updates later.

    $$\eta(t) = \begin{cases}
      \text{before}(t) & t < \text{steps} \\
      \eta_0(t - \text{steps}) & \text{otherwise}
    \end{cases}$$

    Use it to hold or freeze a group of parameters at first: `before=0.0`.

    Args:
      schedule: A `Schedule`, number or function of the count.
      steps: Updates to wait, at least 0.
      before: Rate before the schedule begins: a `Schedule`, number or function of the count; `None`
        is the schedule's first rate.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN.

    Example:
      >>> lrax.delay(lrax.linear(init=1.0, end=0.0, steps=4), 2, before=0.0).values(6)
      Array([0.  , 0.  , 1.  , 0.75, 0.5 , 0.25], dtype=float32)
    """
    hyperparams = _require.real(steps=steps)
    _require.nonnegative(hyperparams, "steps")
    before = None if before is None else as_schedule(before, "before")
    return Schedule(_delay, {"schedule": as_schedule(schedule), **hyperparams, "before": before})


@builder(delay, landmarks=landmarks.delay)
def _delay(count, schedule, steps, before):
    since = minus(count, steps)
    # Before the schedule begins, this is its first rate.
    after = schedule(jnp.maximum(since, 0))
    return after if before is None else jnp.where(since < 0, before(count), after)


def stretch(schedule: Any, factor: ArrayLike) -> Schedule:
    r"""A schedule whose every phase takes `factor` times as many steps.

    $$\eta(t) = \eta_0(t / \text{factor})$$

    Use it to try a recipe at another length of training. The division rounds the count. The rate is
    therefore off by up to 1e-6 of the peak, which is a larger part of a small rate. `replace` with
    new durations has no such error.

    Args:
      schedule: A `Schedule`, number or function of the count.
      factor: Length of the result divided by the length of the schedule, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete `factor` is not positive.

    Example:
      >>> lrax.stretch(lrax.linear(init=1.0, end=0.0, steps=4), 0.5).values(4)
      Array([1. , 0.5, 0. , 0. ], dtype=float32)
    """
    hyperparams = _require.real(factor=factor)
    _require.positive(hyperparams, "factor")
    return Schedule(_stretch, {"schedule": as_schedule(schedule), **hyperparams})


@builder(stretch, landmarks=landmarks.stretch)
def _stretch(count, schedule, factor):
    return schedule(real(count) / factor)


def repeat(
    schedule: Any, steps: ArrayLike, times: ArrayLike | None = None, *, mirror: bool = False
) -> Schedule:
    r"""The first `steps` updates of a schedule, over and over.

    $$\eta(t) = \eta_0(t \bmod \text{steps})$$

    With `mirror`, every second repetition runs backwards, so that there is no jump. Use it to make
    cycles out of any phase. PyTorch's `CosineAnnealingLR`, past its end, is a half cosine wave
    repeated with `mirror`.

    Args:
      schedule: A `Schedule`, number or function of the count.
      steps: Length of one repetition in optimizer updates, above 0.
      times: Number of repetitions, at least 1. Afterwards the rate at which the last one stops is
        held. `None` repeats without limit.
      mirror: Whether every second repetition runs backwards.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.
      TypeError: if `mirror` is not a bool.

    Example:
      >>> lrax.repeat(lrax.linear(init=1.0, end=0.0, steps=4), 2, times=2).values(6)
      Array([1.  , 0.75, 1.  , 0.75, 0.5 , 0.5 ], dtype=float32)
      >>> lrax.repeat(lrax.linear(init=1.0, end=0.0, steps=2), 2, mirror=True).values(6)
      Array([1. , 0.5, 0. , 0.5, 1. , 0.5], dtype=float32)
    """
    hyperparams = _require.real(steps=steps)
    _require.positive(hyperparams, "steps")
    if times is not None:
        hyperparams |= _require.real(times=times)
        _require.at_least(hyperparams, 1, "times")
    words = {"times": hyperparams.get("times"), "mirror": Static(_require.flag("mirror", mirror))}
    return Schedule(_repeat, {"schedule": as_schedule(schedule), **hyperparams, **words})


@builder(repeat, landmarks=landmarks.repeat)
def _repeat(count, schedule, steps, times, mirror):
    count = jnp.maximum(count, 0)
    within = count if times is None else jnp.minimum(*alike(count, times * steps))
    period = 2 * steps if mirror else steps
    _, step = divided(within, period)
    if mirror:
        step = jnp.minimum(step, minus(period, step))
    elif times is not None:
        # At the end of a whole repetition the remainder is 0, but the rate to hold is that of step
        # `steps`. A fractional last repetition stops before that.
        step, last = alike(step, steps * (times - jnp.ceil(times) + 1))
        step = jnp.where(reached(count, times * steps), last, step)
    return schedule(step)


def link(
    schedule: Any,
    at_low: ArrayLike,
    at_high: ArrayLike,
    *,
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
) -> Schedule:
    r"""Another hyperparameter that follows a rate.

    It is `at_low` where the rate is `low`, and `at_high` where the rate is `high`.

    $$\eta(t) = \text{at\_low} + (\text{at\_high} - \text{at\_low}) \,
    \min\left(\max\left(\frac{\eta_0(t) - \text{low}}{\text{high} - \text{low}}, 0\right),
    1\right)$$

    Use it to drive momentum, betas or weight decay from a schedule, by `optax.inject_hyperparams`.
    For example, one-cycle's momentum falls from 0.95 to 0.85 while the rate climbs. A weight decay
    that is proportional to the rate is `link(schedule, 0.0, weight_decay, high=peak)`.

    Args:
      schedule: A `Schedule`, number or function of the count.
      at_low: Value at the rate `low` and below, at least 0.
      at_high: Value at the rate `high` and above, at least 0.
      low: Rate at which the value is `at_low`, at least 0.
      high: Rate at which the value is `at_high`, above `low`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or `low` is not below `high`.

    Example:
      >>> shape = lrax.piecewise([0.0, 1.0, 0.0], [2, 4])
      >>> print(lrax.link(shape, at_low=0.95, at_high=0.85).values(5).round(2))
      [0.95 0.9 0.85 0.9 0.95 ]
    """
    hyperparams = _require.real(at_low=at_low, at_high=at_high, low=low, high=high)
    _require.nonnegative(hyperparams, "at_low", "at_high", "low", "high")
    # The error message puts backticks around the whole name.
    width = {"high` - `low": hyperparams["high"] - hyperparams["low"]}
    _require.positive(width, "high` - `low")
    return Schedule(_link, {"schedule": as_schedule(schedule), **hyperparams})


@builder(link, landmarks=landmarks.children)
def _link(count, schedule, at_low, at_high, low, high):
    p = jnp.clip((schedule(count) - low) / (high - low), 0, 1)
    return at_low * (1 - p) + at_high * p
