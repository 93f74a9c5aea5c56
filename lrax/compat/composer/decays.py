"""Composer's schedulers without a warmup.

They follow composer/optim/scheduler.py of mosaicml/composer 0f1df8bb.
"""

from __future__ import annotations

from collections.abc import Sequence

from jax.typing import ArrayLike

from ... import _require
from ...schedules.decays import cosine, linear, polynomial
from ...schedules.horizon import Horizon
from ...schedules.open_ended import exponential
from ...schedules.pieces import multistep, piecewise_constant, step_decay
from ...schedules.schedule import Schedule
from ..arguments import ascending, listed, nonnegative, positive
from .durations import Duration, duration


def StepScheduler(
    lr: ArrayLike,
    step_size: Duration,
    gamma: ArrayLike = 0.1,
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A factor of `gamma` every `step_size` updates: `lrax.step_decay`.

    Args:
      lr: The optimizer's rate, at least 0.
      step_size: Updates between two falls, above 0, or as text.
      gamma: The factor, at least 0.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.StepScheduler(
      ...     0.1, "30ep", horizon=lrax.Horizon(90 * 50, dataset_size=50, batch_size=1)
      ... )
      step_decay(init=0.1, step_size=1500, factor=0.1)
    """
    rate, factor = nonnegative(lr=lr, gamma=gamma).values()
    size = duration("step_size", step_size, horizon, scale_schedule_ratio)
    _require.positive({"step_size": size}, "step_size")
    return step_decay(rate, size, factor)


def MultiStepScheduler(
    lr: ArrayLike,
    milestones: Sequence[Duration],
    gamma: ArrayLike = 0.1,
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A factor of `gamma` at each milestone: `lrax.multistep`.

    Args:
      lr: The optimizer's rate, at least 0.
      milestones: Indices of updates, or as text; in any order.
      gamma: The factor, at least 0.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.MultiStepScheduler(0.1, [60, 30])
      multistep(init=0.1, milestones=[30, 60], factor=0.1)
    """
    rate, factor = nonnegative(lr=lr, gamma=gamma).values()
    if not isinstance(milestones, (list, tuple)):
        raise TypeError(f"`milestones` must be a list of durations, got {milestones!r}")
    steps = [
        duration("milestones", milestone, horizon, scale_schedule_ratio) for milestone in milestones
    ]
    return multistep(rate, ascending(listed(steps)), factor)


def ConstantScheduler(
    lr: ArrayLike,
    alpha: ArrayLike = 1.0,
    t_max: Duration = "1dur",
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A multiple of the rate until `t_max`, and the rate itself after it.

    It is `lrax.piecewise_constant`.

    Args:
      lr: The optimizer's rate, at least 0.
      alpha: The multiple, at least 0.
      t_max: Updates at this multiple, or as text.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.ConstantScheduler(0.1, alpha=0.5, t_max=5)
      piecewise_constant(values=[0.05, 0.1], boundaries=[5])
    """
    rate, part = nonnegative(lr=lr, alpha=alpha).values()
    steps = duration("t_max", t_max, horizon, scale_schedule_ratio)
    # After `t_max` Composer's multiple is 1, as in PyTorch's ConstantLR.
    return piecewise_constant(listed([rate * part, rate]), listed([steps]))


def LinearScheduler(
    lr: ArrayLike,
    alpha_i: ArrayLike = 1.0,
    alpha_f: ArrayLike = 0.0,
    t_max: Duration = "1dur",
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A line between two multiples of the rate: `lrax.linear`.

    Args:
      lr: The optimizer's rate, at least 0.
      alpha_i: The first multiple, at least 0.
      alpha_f: The last one, at least 0.
      t_max: Length of the whole in optimizer updates, or as text.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.LinearScheduler(0.1, horizon=lrax.Horizon(100))
      linear(init=0.1, end=0, steps=100)
    """
    rate, first, last = nonnegative(lr=lr, alpha_i=alpha_i, alpha_f=alpha_f).values()
    return linear(
        rate * first, rate * last, duration("t_max", t_max, horizon, scale_schedule_ratio)
    )


def ExponentialScheduler(
    lr: ArrayLike,
    gamma: ArrayLike,
    decay_period: Duration = "1ep",
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A factor of `gamma` every `decay_period` updates, smoothly: `lrax.exponential`.

    Args:
      lr: The optimizer's rate, at least 0.
      gamma: The factor, above 0.
      decay_period: Updates per factor, above 0, or as text.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.ExponentialScheduler(0.1, gamma=0.9, decay_period=10)
      exponential(init=0.1, rate=0.9, steps=10, staircase=False, begin=0)
    """
    rate, factor = (nonnegative(lr=lr) | positive(gamma=gamma)).values()
    steps = duration("decay_period", decay_period, horizon, scale_schedule_ratio)
    _require.positive({"decay_period": steps}, "decay_period")
    return exponential(rate, factor, steps)


def CosineAnnealingScheduler(
    lr: ArrayLike,
    t_max: Duration = "1dur",
    alpha_f: ArrayLike = 0.0,
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""Half a cosine wave: `lrax.cosine`.

    Args:
      lr: The optimizer's rate, at least 0.
      t_max: Length of the whole in optimizer updates, or as text.
      alpha_f: Rate at the end as a fraction of `lr`, at least 0.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.CosineAnnealingScheduler(0.1, t_max=100, alpha_f=0.1)
      cosine(peak=0.1, steps=100, end=0.01)
    """
    rate, last = nonnegative(lr=lr, alpha_f=alpha_f).values()
    return cosine(rate, duration("t_max", t_max, horizon, scale_schedule_ratio), rate * last)


def PolynomialScheduler(
    lr: ArrayLike,
    power: ArrayLike,
    t_max: Duration = "1dur",
    alpha_f: ArrayLike = 0.0,
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A power of the part left: `lrax.polynomial`.

    Args:
      lr: The optimizer's rate, at least 0.
      power: Exponent of the part left, above 0.
      t_max: Length of the whole in optimizer updates, or as text.
      alpha_f: Rate at the end as a fraction of `lr`, at least 0.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.PolynomialScheduler(0.1, power=2.0, t_max=100)
      polynomial(init=0.1, end=0, steps=100, power=2)
    """
    given = nonnegative(lr=lr, alpha_f=alpha_f) | positive(power=power)
    rate, last, power = given.values()
    return polynomial(
        rate, rate * last, duration("t_max", t_max, horizon, scale_schedule_ratio), power
    )
