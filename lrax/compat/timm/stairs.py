"""timm's StepLRScheduler and MultiStepLRScheduler.

They follow timm/scheduler/step_lr.py and timm/scheduler/multistep_lr.py of timm 1.0.31.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ... import _require
from ...schedules.pieces import multistep, step_decay
from ...schedules.schedule import Schedule
from ..arguments import is_known_as, largest, positive, shorter, vector
from .phases import Range, checked, noisy, shifted, warmed


def StepLRScheduler(
    lr: ArrayLike,
    decay_t: ArrayLike,
    decay_rate: ArrayLike = 1.0,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = True,
    noise_range_t: Range = None,
    noise_pct: ArrayLike = 0.67,
    noise_std: ArrayLike = 1.0,
    noise_seed: int | None = 42,
) -> Schedule:
    """A fall every `decay_t` updates: `lrax.step_decay(lr, decay_t, decay_rate)`.

    A concrete `decay_t` that is not whole, such as the 2.4 of published recipes, is taken as the
    float32 just below it. The float32 above it would move some falls to the next count.

    Args:
      lr: The optimizer's rate, at least 0.
      decay_t: Updates between two falls, above 0.
      decay_rate: What the rate is multiplied by, at least 0.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether updates are counted from the end of the warmup, and not from its start.
      noise_range_t: First count with noise, or (first with, first without); `None` is no noise.
      noise_pct: Largest noise as a fraction of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before `noise_pct` limits it, above 0.
      noise_seed: Seed of the noise.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.timm.StepLRScheduler(lr=0.1, decay_t=30, decay_rate=0.1)
      step_decay(init=0.1, step_size=30, factor=0.1)
      >>> schedule = lrax.compat.timm.StepLRScheduler(lr=1.0, decay_t=2.5, decay_rate=0.5)
      >>> print(schedule.values(7).round(2))
      [1. 1. 1. 0.5 0.5 0.25 0.25]
    """
    given = checked(lr=lr, decay_rate=decay_rate, warmup_t=warmup_t, warmup_lr_init=warmup_lr_init)
    rate, factor, warmup_steps, first = given.values()
    size = positive(decay_t=decay_t)["decay_t"]
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    stairs = step_decay(rate, shorter(size), factor)
    schedule = shifted(stairs, rate, warmup_steps, first, prefix)
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


def MultiStepLRScheduler(
    lr: ArrayLike,
    decay_t: ArrayLike,
    decay_rate: ArrayLike = 1.0,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = True,
    noise_range_t: Range = None,
    noise_pct: ArrayLike = 0.67,
    noise_std: ArrayLike = 1.0,
    noise_seed: int | None = 42,
) -> Schedule:
    """Falls at milestones, one count early: `lrax.multistep(lr, decay_t - 1, decay_rate)`.

    timm compares its milestones with the next count, and documents that this will stay. The first
    update has the rate `lr` whatever the milestones are.

    Args:
      lr: The optimizer's rate, at least 0.
      decay_t: The milestones, at least 0, in ascending order.
      decay_rate: What the rate is multiplied by at each, at least 0.
      warmup_t: Length of the warmup, at least 0. It ends at `lr`, even after a milestone.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether the milestones are counted from the end of the warmup, and not from its
        start.
      noise_range_t: First count with noise, or (first with, first without); `None` is no noise.
      noise_pct: Largest noise as a fraction of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before `noise_pct` limits it, above 0.
      noise_seed: Seed of the noise.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or the milestones are not a list in
        ascending order.

    Example:
      >>> lrax.compat.timm.MultiStepLRScheduler(lr=0.1, decay_t=[30, 60], decay_rate=0.1)
      multistep(init=0.1, milestones=[29, 59], factor=0.1)
    """
    given = checked(lr=lr, decay_rate=decay_rate, warmup_t=warmup_t, warmup_lr_init=warmup_lr_init)
    rate, factor, warmup_steps, first = given.values()
    milestones = vector("decay_t", decay_t)
    _require.ascending({"decay_t": milestones}, "decay_t")
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    # timm looks up `t + 1` in its milestones. Its constructor sets the rate of the first update.
    if is_known_as(warmup_steps, 0):
        schedule = multistep(rate, largest(milestones - 1, 1), factor)
    else:
        falls = multistep(rate, largest(milestones - 1, 0), factor)
        schedule = warmed(falls, rate, warmup_steps, first, prefix)
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)
