"""Composer's schedulers with a warmup.

They follow composer/optim/scheduler.py of mosaicml/composer 0f1df8bb.
"""

from __future__ import annotations

from collections.abc import Sequence

from jax.typing import ArrayLike

from ... import _require
from ...schedules.decays import cosine, linear, polynomial
from ...schedules.horizon import Horizon
from ...schedules.phases import join, warmup
from ...schedules.schedule import Schedule, constant
from ...schedules.warmups import warmup_constant, warmup_cosine, warmup_linear
from ..arguments import Number, is_given, largest, listed, nonnegative, positive, where
from .decays import MultiStepScheduler
from .durations import Duration, duration


def MultiStepWithWarmupScheduler(
    lr: ArrayLike,
    t_warmup: Duration,
    milestones: Sequence[Duration],
    gamma: ArrayLike = 0.1,
    scale_warmup: bool = False,
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A linear warmup, then a factor of `gamma` at each milestone, which count from the start.

    The warmup leads to `lr`, also where a milestone is before its end.

    Args:
      lr: The optimizer's rate, at least 0.
      t_warmup: Length of the warmup in optimizer updates, or as text.
      milestones: Indices of updates, or as text; in any order.
      gamma: The factor, at least 0.
      scale_warmup: Whether `scale_schedule_ratio` scales the line of the warmup too. As in
        Composer, the end of the warmup is not scaled: the line is cut off there, or its end held.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.MultiStepWithWarmupScheduler(1.0, 2, [4], 0.5).values(6)
      Array([0. , 0.5, 1. , 1. , 0.5, 0.5], dtype=float32)
    """
    rate = nonnegative(lr=lr)["lr"]
    begin, line = _warmup(t_warmup, scale_warmup, scale_schedule_ratio, horizon)
    falls = MultiStepScheduler(
        rate, milestones, gamma, scale_schedule_ratio=scale_schedule_ratio, horizon=horizon
    )
    return join([linear(0, rate, line), falls], listed([begin]), clock="global")


def ConstantWithWarmupScheduler(
    lr: ArrayLike,
    t_warmup: Duration,
    alpha: ArrayLike = 1.0,
    t_max: Duration = "1dur",  # noqa: ARG001
    scale_warmup: bool = False,
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A linear warmup to a multiple of the rate, which is then held: `lrax.warmup_constant`.

    Args:
      lr: The optimizer's rate, at least 0.
      t_warmup: Length of the warmup in optimizer updates, or as text.
      alpha: The multiple, at least 0.
      t_max: Not used: the rate is the same before and after it.
      scale_warmup: Whether `scale_schedule_ratio` scales the line of the warmup too. As in
        Composer, the end of the warmup is not scaled: the line is cut off there, or its end held.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.ConstantWithWarmupScheduler(0.1, t_warmup=10)
      warmup_constant(peak=0.1, warmup=10, init=0)
    """
    rate, part = nonnegative(lr=lr, alpha=alpha).values()
    begin, line = _warmup(t_warmup, scale_warmup, scale_schedule_ratio, horizon)
    if line is begin:
        return warmup_constant(rate * part, begin)
    return _cut(line, rate * part, begin, constant(rate * part))


def LinearWithWarmupScheduler(
    lr: ArrayLike,
    t_warmup: Duration,
    alpha_i: ArrayLike = 1.0,
    alpha_f: ArrayLike = 0.0,
    t_max: Duration = "1dur",
    scale_warmup: bool = False,
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A linear warmup, then a line between two multiples of the rate: `lrax.warmup_linear`.

    Where `t_max` is at most `t_warmup`, the rate is held after the warmup, as in Composer.

    Args:
      lr: The optimizer's rate, at least 0.
      t_warmup: Length of the warmup in optimizer updates, or as text; at least 0.
      alpha_i: The first multiple, at least 0.
      alpha_f: The last one, at least 0.
      t_max: Length of the whole in optimizer updates, or as text.
      scale_warmup: Whether `scale_schedule_ratio` scales the line of the warmup too. As in
        Composer, the end of the warmup is not scaled: the line is cut off there, or its end held.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.LinearWithWarmupScheduler(0.1, t_warmup=10, t_max=100)
      warmup_linear(peak=0.1, steps=100, warmup=10, init=0, end=0)
    """
    rate, first, last = nonnegative(lr=lr, alpha_i=alpha_i, alpha_f=alpha_f).values()
    begin, line = _warmup(t_warmup, scale_warmup, scale_schedule_ratio, horizon)
    whole = largest(duration("t_max", t_max, horizon, scale_schedule_ratio), begin)
    peak = rate * first
    # Composer takes the part done as 0 where `t_max` leaves nothing after the warmup.
    end = where(whole > begin, rate * last, peak)
    if line is begin:
        return warmup_linear(peak, whole, begin, end=end)
    return _cut(line, peak, begin, linear(peak, end, whole - begin))


def CosineAnnealingWithWarmupScheduler(
    lr: ArrayLike,
    t_warmup: Duration,
    t_max: Duration = "1dur",
    alpha_f: ArrayLike = 0.0,
    scale_warmup: bool = False,
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A linear warmup, then half a cosine wave: `lrax.warmup_cosine`.

    Where `t_max` is at most `t_warmup`, the rate is held after the warmup, as in Composer.

    Args:
      lr: The optimizer's rate, at least 0.
      t_warmup: Length of the warmup in optimizer updates, or as text; at least 0.
      t_max: Length of the whole in optimizer updates, or as text.
      alpha_f: Rate at the end as a fraction of `lr`, at least 0.
      scale_warmup: Whether `scale_schedule_ratio` scales the line of the warmup too. As in
        Composer, the end of the warmup is not scaled: the line is cut off there, or its end held.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.CosineAnnealingWithWarmupScheduler(
      ...     0.1, t_warmup=10, t_max=100, alpha_f=0.1
      ... )
      warmup_cosine(peak=0.1, steps=100, warmup=10, init=0, end=0.01)
    """
    rate, last = nonnegative(lr=lr, alpha_f=alpha_f).values()
    begin, line = _warmup(t_warmup, scale_warmup, scale_schedule_ratio, horizon)
    whole = largest(duration("t_max", t_max, horizon, scale_schedule_ratio), begin)
    end = where(whole > begin, rate * last, rate)
    if line is begin:
        return warmup_cosine(rate, whole, begin, end=end)
    return _cut(line, rate, begin, cosine(rate, whole - begin, end))


def PolynomialWithWarmupScheduler(
    lr: ArrayLike,
    t_warmup: Duration,
    power: ArrayLike = 2.0,
    t_max: Duration = "1dur",
    alpha_f: ArrayLike = 0.0,
    scale_warmup: bool = False,
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A linear warmup, then a power of the part left: `lrax.polynomial` in `lrax.warmup`.

    Where `t_max` is at most `t_warmup`, the rate is held after the warmup, as in Composer.

    Args:
      lr: The optimizer's rate, at least 0.
      t_warmup: Length of the warmup in optimizer updates, or as text; at least 0.
      power: Exponent of the part left, above 0.
      t_max: Length of the whole in optimizer updates, or as text.
      alpha_f: Rate at the end as a fraction of `lr`, at least 0.
      scale_warmup: Whether `scale_schedule_ratio` scales the line of the warmup too. As in
        Composer, the end of the warmup is not scaled: the line is cut off there, or its end held.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> schedule = lrax.compat.composer.PolynomialWithWarmupScheduler(1.0, t_warmup=2, t_max=4)
      >>> schedule.values(6)
      Array([0.  , 0.5 , 1.  , 0.25, 0.  , 0.  ], dtype=float32)
    """
    given = nonnegative(lr=lr, alpha_f=alpha_f) | positive(power=power)
    rate, last, power = given.values()
    begin, line = _warmup(t_warmup, scale_warmup, scale_schedule_ratio, horizon)
    whole = largest(duration("t_max", t_max, horizon, scale_schedule_ratio), begin)
    down = polynomial(rate, where(whole > begin, rate * last, rate), whole - begin, power)
    return warmup(down, begin) if line is begin else _cut(line, rate, begin, down)


def _warmup(
    t_warmup: Duration,
    scale_warmup: bool,
    scale_schedule_ratio: ArrayLike,
    horizon: Horizon | None,
) -> tuple[Number, Number]:
    """The update at which the warmup ends, and the length of its line.

    They are one and the same object unless the line is scaled.
    """
    begin = duration("t_warmup", t_warmup, horizon)
    if not _require.flag("scale_warmup", scale_warmup) or not is_given(scale_schedule_ratio, 1):
        return begin, begin
    return begin, duration("t_warmup", t_warmup, horizon, scale_schedule_ratio)


def _cut(line: Number, peak: Number, begin: Number, decay: Schedule) -> Schedule:
    """A line to the peak, and the decay from `begin` on, which may cut the line or come later."""
    return join([linear(0, peak, line), decay], listed([begin]))
