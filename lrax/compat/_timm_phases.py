"""What all of timm's schedules have: a warmup and noise; and of the schedules, the one that is nothing more."""

from collections.abc import Sequence
from typing import Any

from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules.combinators import delay
from ..schedules.decays import linear
from ..schedules.noise import with_noise
from ..schedules.phases import join, warmup
from ..schedules.pieces import multistep
from ..schedules.schedule import Schedule
from ..schedules.shapes import SHAPES, between, progress
from ._timm_cycles import raised
from .arrays import listed, most
from .known import known_as, nonnegative, positive

Range = ArrayLike | Sequence[ArrayLike] | None


def required(**values: Any) -> dict[str, Any]:
    """The numbers that most of timm's schedules take, as leaves."""
    above = {
        name: value
        for name, value in values.items()
        if name in ("t_initial", "cycle_mul", "k_decay")
    }
    return positive(**above) | nonnegative(
        **{name: value for name, value in values.items() if name not in above}
    )


def shifted(
    schedule: Schedule, lr: Any, warmup_t: Any, warmup_lr_init: Any, warmup_prefix: bool
) -> Schedule:
    """A warmup to `lr` of a schedule that begins there."""
    if known_as(warmup_t, 0):
        return schedule
    if warmup_prefix:
        return warmup(schedule, warmup_t, warmup_lr_init)
    return join(
        [linear(warmup_lr_init, lr, warmup_t), schedule], listed([warmup_t]), clock="global"
    )


def warmed(
    schedule: Schedule, lr: Any, warmup_t: Any, warmup_lr_init: Any, warmup_prefix: bool
) -> Schedule:
    """A warmup to `lr`, whatever the schedule's rate there; without one, the rate of the first update is `lr`."""
    none = known_as(warmup_t, 0)
    up = lr if none else linear(warmup_lr_init, lr, warmup_t)
    after = delay(schedule, warmup_t) if warmup_prefix and not none else schedule
    return join([up, after], listed([most(warmup_t, 1)]), clock="global")


def noisy(
    schedule: Schedule, noise_range_t: Any, noise_pct: Any, noise_std: Any, noise_seed: int | None
) -> Schedule:
    """The schedule with timm's noise, which never is on the first update; without a range there is none."""
    if noise_range_t is None:
        return schedule
    begin, until = (
        noise_range_t if isinstance(noise_range_t, (list, tuple)) else (noise_range_t, None)
    )
    leaves = positive(noise_std=noise_std) | nonnegative(noise_pct=noise_pct, noise_range_t=begin)
    _require.at_most("`noise_pct` must be at most 1", leaves["noise_pct"], 1)
    seed = 42 if noise_seed is None else noise_seed
    return with_noise(
        schedule, seed, std=noise_std, limit=noise_pct, begin=most(begin, 1), until=until
    )


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

    timm compares its milestones with the next count, and says that this is to stay. The first
    update has none.

    Args:
      lr: The optimizer's rate, at least 0.
      decay_t: The milestones, at least 0, in ascending order.
      decay_rate: What the rate is multiplied by at each, at least 0.
      warmup_t: Length of the warmup, at least 0. It goes to `lr`, whatever has fallen by then.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether the milestones are counted from the end of the warmup, and not from its
        start.
      noise_range_t: First count with noise, or that and the first without; `None` is no noise.
      noise_pct: Largest noise in parts of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before it is cut, above 0.
      noise_seed: Seed of the noise.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or the milestones are not a list in
        ascending order.

    Example:
      >>> lrax.compat.timm.MultiStepLRScheduler(lr=0.1, decay_t=[30, 60], decay_rate=0.1)
      multistep(init=0.1, milestones=[29, 59], factor=0.1)
    """
    leaves = required(
        lr=lr,
        decay_t=decay_t,
        decay_rate=decay_rate,
        warmup_t=warmup_t,
        warmup_lr_init=warmup_lr_init,
    )
    _require.vector(leaves, "decay_t")
    _require.ascending(leaves, "decay_t")
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    milestones = leaves["decay_t"] - 1
    if known_as(warmup_t, 0):
        schedule = multistep(lr, most(milestones, 1), decay_rate)
    else:
        schedule = warmed(
            multistep(lr, most(milestones, 0), decay_rate), lr, warmup_t, warmup_lr_init, prefix
        )
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


def stable_and_decay(
    count,
    lr,
    stable,
    lr_min,
    decay_fn,
    warmup_t,
    warmup_lr_init,
    t_initial,
    decay_t,
    decay_power,
    decay_ratio,
):
    """The formula of `WSDLRScheduler`, given what is stable."""
    left = warmup_t + t_initial - count
    p, q = progress(decay_t - left, left, decay_t)
    if callable(decay_fn):
        of_stable: Any = decay_fn(p)
        of_min = 1 - of_stable
    elif decay_fn == "power":
        of_min, of_stable = raised(p, q, decay_power)
    elif decay_fn == "exp":
        # (r^p - r) / (1 - r), its numerator as one exponential for the digits near the end.
        rate = jnp.log(decay_ratio)
        of_stable = decay_ratio * jnp.expm1(-rate * q) / (1 - decay_ratio)
        of_min = -jnp.expm1(rate * p) / (1 - decay_ratio)
    else:
        of_stable, of_min = SHAPES[decay_fn](p, q, decay_t)
    rate = jnp.where(left < decay_t, stable * of_stable + lr_min * of_min, stable)
    up = between(warmup_lr_init, lr, count, warmup_t - count, warmup_t)
    return jnp.where(count < jnp.where(warmup_t > 0, warmup_t, 1), up, rate)
