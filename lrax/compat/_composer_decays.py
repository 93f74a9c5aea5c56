"""Composer's schedulers without a warmup, and its durations; `composer.py` is where all are found."""

import re
from collections.abc import Sequence
from typing import Any

from jax.typing import ArrayLike

from ..schedules.decays import cosine, linear, polynomial
from ..schedules.horizon import Horizon
from ..schedules.open_ended import exponential
from ..schedules.pieces import multistep, piecewise_constant, step_decay
from ..schedules.schedule import Schedule
from .arrays import ascending, listed, nonnegative

Duration = ArrayLike | str
_FORM = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)(ba|ep|dur)", re.IGNORECASE)


def duration(name: str, value: Duration, horizon: Horizon | None) -> Any:
    """A duration in optimizer updates."""
    if not isinstance(value, str):
        return nonnegative(**{name: value})[name]
    match = _FORM.fullmatch(value.strip())
    if match is None:
        raise ValueError(
            f"`{name}` must be a number of updates or such as '100ba', '10ep' or '0.1dur', got {value!r}"
        )
    number, unit = float(match[1]), match[2].lower()
    if unit == "ba":
        return float(int(number))
    if horizon is None:
        raise ValueError(f"`horizon` must be given for `{name}` of {value!r}, got none")
    return float(int(number * float(horizon.steps if unit == "dur" else horizon.steps_per_epoch)))


def StepScheduler(
    lr: ArrayLike,
    step_size: Duration,
    gamma: ArrayLike = 0.1,
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A factor of `gamma` every `step_size` updates: `lrax.step_decay`.

    Args:
      lr: The optimizer's rate, at least 0.
      step_size: Updates between two falls, above 0, or as text.
      gamma: The factor, at least 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.StepScheduler(0.1, "30ep", horizon=lrax.Horizon(90 * 50, dataset_size=50, batch_size=1))
      step_decay(init=0.1, step_size=1500, factor=0.1)
    """
    return step_decay(lr, duration("step_size", step_size, horizon), gamma)


def MultiStepScheduler(
    lr: ArrayLike,
    milestones: Sequence[Duration],
    gamma: ArrayLike = 0.1,
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A factor of `gamma` at each milestone: `lrax.multistep`.

    Args:
      lr: The optimizer's rate, at least 0.
      milestones: Indices of updates, or as text; in any order.
      gamma: The factor, at least 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.MultiStepScheduler(0.1, [60, 30])
      multistep(init=0.1, milestones=[30, 60], factor=0.1)
    """
    steps = [duration("milestones", milestone, horizon) for milestone in milestones]
    return multistep(lr, ascending(listed(steps)), gamma)


def ConstantScheduler(
    lr: ArrayLike,
    alpha: ArrayLike = 1.0,
    t_max: Duration = "1dur",
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A multiple of the rate until `t_max`, and the rate itself after it:
    `lrax.piecewise_constant`.

    Args:
      lr: The optimizer's rate, at least 0.
      alpha: The multiple, at least 0.
      t_max: Updates at it, or as text.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.ConstantScheduler(0.1, alpha=0.5, t_max=5)
      piecewise_constant(values=[0.05, 0.1], boundaries=[5])
    """
    rate, part = nonnegative(lr=lr, alpha=alpha).values()
    return piecewise_constant(
        listed([rate * part, rate]), listed([duration("t_max", t_max, horizon)])
    )


def LinearScheduler(
    lr: ArrayLike,
    alpha_i: ArrayLike = 1.0,
    alpha_f: ArrayLike = 0.0,
    t_max: Duration = "1dur",
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A line between two multiples of the rate: `lrax.linear`.

    Args:
      lr: The optimizer's rate, at least 0.
      alpha_i: The first multiple, at least 0.
      alpha_f: The last one, at least 0.
      t_max: Length of the whole in optimizer updates, or as text.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.LinearScheduler(0.1, horizon=lrax.Horizon(100))
      linear(init=0.1, end=0, steps=100)
    """
    rate, first, last = nonnegative(lr=lr, alpha_i=alpha_i, alpha_f=alpha_f).values()
    return linear(rate * first, rate * last, duration("t_max", t_max, horizon))


def ExponentialScheduler(
    lr: ArrayLike,
    gamma: ArrayLike,
    decay_period: Duration = "1ep",
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A factor of `gamma` every `decay_period` updates, smoothly: `lrax.exponential`.

    Args:
      lr: The optimizer's rate, at least 0.
      gamma: The factor, above 0.
      decay_period: Updates per factor, above 0, or as text.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.ExponentialScheduler(0.1, gamma=0.9, decay_period=10)
      exponential(init=0.1, rate=0.9, steps=10, staircase=False, begin=0)
    """
    return exponential(lr, gamma, duration("decay_period", decay_period, horizon))


def CosineAnnealingScheduler(
    lr: ArrayLike,
    t_max: Duration = "1dur",
    alpha_f: ArrayLike = 0.0,
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""Half a cosine wave: `lrax.cosine`.

    Args:
      lr: The optimizer's rate, at least 0.
      t_max: Length of the whole in optimizer updates, or as text.
      alpha_f: Rate at the end in parts of `lr`, at least 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.CosineAnnealingScheduler(0.1, t_max=100, alpha_f=0.1)
      cosine(peak=0.1, steps=100, end=0.01)
    """
    rate, last = nonnegative(lr=lr, alpha_f=alpha_f).values()
    return cosine(rate, duration("t_max", t_max, horizon), rate * last)


def PolynomialScheduler(
    lr: ArrayLike,
    power: ArrayLike,
    t_max: Duration = "1dur",
    alpha_f: ArrayLike = 0.0,
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A power of the part left: `lrax.polynomial`.

    Args:
      lr: The optimizer's rate, at least 0.
      power: Exponent of the part left, above 0.
      t_max: Length of the whole in optimizer updates, or as text.
      alpha_f: Rate at the end in parts of `lr`, at least 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.PolynomialScheduler(0.1, power=2.0, t_max=100)
      polynomial(init=0.1, end=0, steps=100, power=2)
    """
    rate, last = nonnegative(lr=lr, alpha_f=alpha_f).values()
    return polynomial(rate, rate * last, duration("t_max", t_max, horizon), power)
