"""Composer's schedulers (`composer.optim.scheduler`), as functions of the optimizer's `lr` and
their own arguments.

A duration is a number of optimizer updates, or Composer's text in batches, epochs or parts of the
run (`"100ba"`, `"10ep"`, `"0.1dur"`) together with `horizon`, a `lrax.Horizon`; as in Composer, its
decimals are cut off. A `scale_schedule_ratio` is `lrax.stretch`, and a product of schedulers, as
Composer makes of several, `lrax.multiply`.
"""

from collections.abc import Sequence

from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules.decays import linear, polynomial
from ..schedules.horizon import Horizon
from ..schedules.phases import join, warmup
from ..schedules.schedule import Schedule
from ..schedules.shapes import between, reached
from ..schedules.warmups import warmup_constant, warmup_cosine, warmup_linear
from ._composer_decays import (
    ConstantScheduler,
    CosineAnnealingScheduler,
    Duration,
    ExponentialScheduler,
    LinearScheduler,
    MultiStepScheduler,
    PolynomialScheduler,
    StepScheduler,
    duration,
)
from .arrays import listed, most, nonnegative, where

__all__ = [
    "ConstantScheduler",
    "ConstantWithWarmupScheduler",
    "CosineAnnealingScheduler",
    "CosineAnnealingWarmRestartsScheduler",
    "CosineAnnealingWithWarmupScheduler",
    "ExponentialScheduler",
    "LinearScheduler",
    "LinearWithWarmupScheduler",
    "MultiStepScheduler",
    "MultiStepWithWarmupScheduler",
    "PolynomialScheduler",
    "PolynomialWithWarmupScheduler",
    "StepScheduler",
]


def CosineAnnealingWarmRestartsScheduler(
    lr: ArrayLike,
    t_0: Duration,
    t_mult: ArrayLike = 1.0,
    alpha_f: ArrayLike = 0.0,
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""Warm restarts for ever, as `lrax.cosine_restarts`, of whole updates.

    Every cycle is `t_mult` times the one before, its decimals cut off before the next one is made
    of it. After 64 cycles they grow no further.

    Args:
      lr: The optimizer's rate, at least 0.
      t_0: Length of the first cycle in optimizer updates, at least 1, or as text.
      t_mult: Length of a cycle in lengths of the one before, at least 1.
      alpha_f: Rate at the end in parts of `lr`, at least 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> schedule = lrax.compat.composer.CosineAnnealingWarmRestartsScheduler(1.0, 2, t_mult=1.5)
      >>> print(schedule.values(9).round(2))
      [1. 0.5 1. 0.75 0.25 1. 0.85 0.5 0.15]
    """
    given = nonnegative(lr=lr, t_0=duration("t_0", t_0, horizon), t_mult=t_mult, alpha_f=alpha_f)
    _require.at_least(given, 1, "t_0", "t_mult")
    return Schedule(_CosineAnnealingWarmRestartsScheduler, _require.real(**given))


def _CosineAnnealingWarmRestartsScheduler(count, lr, t_0, t_mult, alpha_f):
    count = jnp.maximum(count, 0)
    lengths = [t_0]
    for _ in range(63):
        # Held from 2^28 on: a run that long has no use for another restart.
        longer = jnp.floor(lengths[-1] * t_mult)
        lengths.append(jnp.where(longer < 2**28, longer, lengths[-1]))
    lengths = jnp.stack(lengths)
    ends = jnp.cumsum(lengths)
    cycle = jnp.sum(reached(count, ends[:-1]), axis=-1)
    length, begin = lengths[cycle], ends[cycle] - lengths[cycle]
    into = count - begin
    again = lax.stop_gradient(
        jnp.where(cycle == len(lengths) - 1, jnp.floor(into / length) * length, 0)
    )
    return between(lr, lr * alpha_f, into - again, begin + length + again - count, length, "cosine")


def MultiStepWithWarmupScheduler(
    lr: ArrayLike,
    t_warmup: Duration,
    milestones: Sequence[Duration],
    gamma: ArrayLike = 0.1,
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A linear warmup, then a factor of `gamma` at each milestone, which count from the start.

    The warmup leads to `lr`, also where a milestone is before its end.

    Args:
      lr: The optimizer's rate, at least 0.
      t_warmup: Length of the warmup in optimizer updates, or as text.
      milestones: Indices of updates, or as text; in any order.
      gamma: The factor, at least 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.MultiStepWithWarmupScheduler(1.0, 2, [4], 0.5).values(6)
      Array([0. , 0.5, 1. , 1. , 0.5, 0.5], dtype=float32)
    """
    steps = duration("t_warmup", t_warmup, horizon)
    return join(
        [linear(0, lr, steps), MultiStepScheduler(lr, milestones, gamma, horizon=horizon)],
        listed([steps]),
        clock="global",
    )


def ConstantWithWarmupScheduler(
    lr: ArrayLike,
    t_warmup: Duration,
    alpha: ArrayLike = 1.0,
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A linear warmup to a multiple of the rate, which stays: `lrax.warmup_constant`.

    Args:
      lr: The optimizer's rate, at least 0.
      t_warmup: Length of the warmup in optimizer updates, or as text.
      alpha: The multiple, at least 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.ConstantWithWarmupScheduler(0.1, t_warmup=10)
      warmup_constant(peak=0.1, warmup=10, init=0)
    """
    rate, part = nonnegative(lr=lr, alpha=alpha).values()
    return warmup_constant(rate * part, duration("t_warmup", t_warmup, horizon))


def LinearWithWarmupScheduler(
    lr: ArrayLike,
    t_warmup: Duration,
    alpha_i: ArrayLike = 1.0,
    alpha_f: ArrayLike = 0.0,
    t_max: Duration = "1dur",
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A linear warmup, then a line between two multiples of the rate: `lrax.warmup_linear`.

    Where `t_max` is no more than `t_warmup`, the rate stays after the warmup, as in Composer.

    Args:
      lr: The optimizer's rate, at least 0.
      t_warmup: Length of the warmup in optimizer updates, or as text; at least 0.
      alpha_i: The first multiple, at least 0.
      alpha_f: The last one, at least 0.
      t_max: Length of the whole in optimizer updates, or as text.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.LinearWithWarmupScheduler(0.1, t_warmup=10, t_max=100)
      warmup_linear(peak=0.1, steps=100, warmup=10, init=0, end=0)
    """
    rate, first, last = nonnegative(lr=lr, alpha_i=alpha_i, alpha_f=alpha_f).values()
    begin, steps = duration("t_warmup", t_warmup, horizon), duration("t_max", t_max, horizon)
    peak = rate * first
    return warmup_linear(
        peak, most(steps, begin), begin, end=where(steps > begin, rate * last, peak)
    )


def CosineAnnealingWithWarmupScheduler(
    lr: ArrayLike,
    t_warmup: Duration,
    t_max: Duration = "1dur",
    alpha_f: ArrayLike = 0.0,
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A linear warmup, then half a cosine wave: `lrax.warmup_cosine`.

    Where `t_max` is no more than `t_warmup`, the rate stays after the warmup, as in Composer.

    Args:
      lr: The optimizer's rate, at least 0.
      t_warmup: Length of the warmup in optimizer updates, or as text; at least 0.
      t_max: Length of the whole in optimizer updates, or as text.
      alpha_f: Rate at the end in parts of `lr`, at least 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> lrax.compat.composer.CosineAnnealingWithWarmupScheduler(0.1, t_warmup=10, t_max=100, alpha_f=0.1)
      warmup_cosine(peak=0.1, steps=100, warmup=10, init=0, end=0.01)
    """
    rate, last = nonnegative(lr=lr, alpha_f=alpha_f).values()
    begin, steps = duration("t_warmup", t_warmup, horizon), duration("t_max", t_max, horizon)
    end = where(steps > begin, rate * last, rate)
    return warmup_cosine(rate, most(steps, begin), begin, end=end)


def PolynomialWithWarmupScheduler(
    lr: ArrayLike,
    t_warmup: Duration,
    power: ArrayLike = 2.0,
    t_max: Duration = "1dur",
    alpha_f: ArrayLike = 0.0,
    *,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""A linear warmup, then a power of the part left: `lrax.polynomial` in `lrax.warmup`.

    Where `t_max` is no more than `t_warmup`, the rate stays after the warmup, as in Composer.

    Args:
      lr: The optimizer's rate, at least 0.
      t_warmup: Length of the warmup in optimizer updates, or as text; at least 0.
      power: Exponent of the part left, above 0.
      t_max: Length of the whole in optimizer updates, or as text.
      alpha_f: Rate at the end in parts of `lr`, at least 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration cannot be read.

    Example:
      >>> schedule = lrax.compat.composer.PolynomialWithWarmupScheduler(1.0, t_warmup=2, t_max=4)
      >>> schedule.values(6)
      Array([0.  , 0.5 , 1.  , 0.25, 0.  , 0.  ], dtype=float32)
    """
    rate, last = nonnegative(lr=lr, alpha_f=alpha_f).values()
    begin, steps = duration("t_warmup", t_warmup, horizon), duration("t_max", t_max, horizon)
    end = where(steps > begin, rate * last, rate)
    return warmup(polynomial(rate, end, most(steps - begin, 0), power), begin)
