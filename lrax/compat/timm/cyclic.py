"""timm's schedulers in cycles: cosines, powers and hyperbolic tangents.

They follow timm/scheduler/cosine_lr.py, poly_lr.py and tanh_lr.py of timm 1.0.31.
"""

from __future__ import annotations

import numpy as np
from jax import nn, numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.cycles import cosine_restarts
from ...schedules.decays import cosine, polynomial, tanh
from ...schedules.phases import warmup
from ...schedules.schedule import Schedule, Static
from ...schedules.shapes import power as power_of
from ..arguments import Number, finite, is_known_as, ordered
from .cycles import cycled, raised
from .phases import Range, checked, noisy, shifted, warmed


def CosineLRScheduler(
    lr: ArrayLike,
    t_initial: ArrayLike,
    lr_min: ArrayLike = 0.0,
    cycle_mul: ArrayLike = 1.0,
    cycle_decay: ArrayLike = 1.0,
    cycle_limit: ArrayLike = 1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = False,
    noise_range_t: Range = None,
    noise_pct: ArrayLike = 0.67,
    noise_std: ArrayLike = 1.0,
    noise_seed: int | None = 42,
    k_decay: ArrayLike = 1.0,
) -> Schedule:
    """Half cosine waves.

    It is `lrax.cosine(lr, t_initial, lr_min, k=k_decay)`, or `lrax.cosine_restarts` of several
    cycles.

    Without `warmup_prefix`, the warmup replaces the first updates of the cycle, so the rate drops
    at the end of the warmup.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the first cycle, above 0.
      lr_min: Rate at the end of each cycle, at least 0.
      cycle_mul: Length of a cycle divided by that of the one before, above 0.
      cycle_decay: Peak of a cycle divided by that of the one before, at least 0.
      cycle_limit: Number of cycles, at least 0.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether the cycles begin after the warmup, and not with it.
      noise_range_t: First count with noise, or (first with, first without); `None` is no noise.
      noise_pct: Largest noise as a fraction of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before `noise_pct` limits it, above 0.
      noise_seed: Seed of the noise.
      k_decay: Exponent of the part done, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.timm.CosineLRScheduler(lr=0.1, t_initial=90, lr_min=0.01)
      cosine(peak=0.1, steps=90, end=0.01)
      >>> schedule = lrax.compat.timm.CosineLRScheduler(lr=1.0, t_initial=8, warmup_t=2)
      >>> print(schedule.values(9).round(3))
      [0. 0.5 0.854 0.691 0.5 0.309 0.146 0.038 0. ]
    """
    given = _checked(
        lr, t_initial, lr_min, cycle_mul, cycle_decay, cycle_limit, warmup_t, warmup_lr_init
    )
    rate, steps, low, mult, decay, limit, warmup_steps, first = given.values()
    given |= checked(k_decay=k_decay)
    k = given["k_decay"]
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    grows = is_known_as(limit >= 1, True) and is_known_as(mult >= 1, True)
    if is_known_as(limit, 1):
        wave = cosine(rate, steps, low, k=None if is_known_as(k, 1) else k)
        schedule = shifted(wave, rate, warmup_steps, first, prefix)
    elif is_known_as(k, 1) and grows:
        waves = cosine_restarts(rate, steps, mult=mult, end=low, decay=decay, cycles=limit)
        schedule = shifted(waves, rate, warmup_steps, first, prefix)
    else:
        leaves = _require.real(**given)
        schedule = Schedule(_CosineLRScheduler, {**leaves, "warmup_prefix": Static(prefix)})
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


@builder(CosineLRScheduler, name="compat.timm.CosineLRScheduler")
def _CosineLRScheduler(count, k_decay, **cycles):
    count = real(count)

    def weight(p, q):
        p, q = raised(p, q, k_decay)
        return jnp.sin(np.pi / 2 * q) ** 2, jnp.sin(np.pi / 2 * p) ** 2

    return cycled(count, weight, **cycles)


def PolyLRScheduler(
    lr: ArrayLike,
    t_initial: ArrayLike,
    power: ArrayLike = 0.5,
    lr_min: ArrayLike = 0.0,
    cycle_mul: ArrayLike = 1.0,
    cycle_decay: ArrayLike = 1.0,
    cycle_limit: ArrayLike = 1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = False,
    noise_range_t: Range = None,
    noise_pct: ArrayLike = 0.67,
    noise_std: ArrayLike = 1.0,
    noise_seed: int | None = 42,
    k_decay: ArrayLike = 1.0,
) -> Schedule:
    """Powers of the part left.

    It is `lrax.polynomial(lr, lr_min, t_initial, power, k=k_decay)`, once or in cycles.

    Without `warmup_prefix`, the warmup replaces the first updates of the cycle, so the rate drops
    at the end of the warmup.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the first cycle, above 0.
      power: Exponent of the part left, at least 0; with 0 the rate falls at the end of each cycle
        only.
      lr_min: Rate at the end of each cycle, at least 0.
      cycle_mul: Length of a cycle divided by that of the one before, above 0.
      cycle_decay: Peak of a cycle divided by that of the one before, at least 0.
      cycle_limit: Number of cycles, at least 0.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether the cycles begin after the warmup, and not with it.
      noise_range_t: First count with noise, or (first with, first without); `None` is no noise.
      noise_pct: Largest noise as a fraction of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before `noise_pct` limits it, above 0.
      noise_seed: Seed of the noise.
      k_decay: Exponent of the part done, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.timm.PolyLRScheduler(lr=0.1, t_initial=90)
      polynomial(init=0.1, end=0, steps=90, power=0.5)
    """
    given = _checked(
        lr, t_initial, lr_min, cycle_mul, cycle_decay, cycle_limit, warmup_t, warmup_lr_init
    )
    rate, steps, low, _, _, limit, warmup_steps, first = given.values()
    given |= checked(k_decay=k_decay, power=power)
    k, exponent = given["k_decay"], given["power"]
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    if is_known_as(limit, 1) and is_known_as(exponent > 0, True):
        falls = polynomial(rate, low, steps, exponent, k=None if is_known_as(k, 1) else k)
        schedule = shifted(falls, rate, warmup_steps, first, prefix)
    else:
        leaves = _require.real(**given)
        schedule = Schedule(_PolyLRScheduler, {**leaves, "warmup_prefix": Static(prefix)})
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


@builder(PolyLRScheduler, name="compat.timm.PolyLRScheduler")
def _PolyLRScheduler(count, power, k_decay, **cycles):
    count = real(count)

    def weight(p, q):
        p, q = raised(p, q, k_decay)
        falls = power_of(q, power)
        return falls, 1 - falls

    return cycled(count, weight, **cycles)


def TanhLRScheduler(
    lr: ArrayLike,
    t_initial: ArrayLike,
    lb: ArrayLike = -7.0,
    ub: ArrayLike = 3.0,
    lr_min: ArrayLike = 0.0,
    cycle_mul: ArrayLike = 1.0,
    cycle_decay: ArrayLike = 1.0,
    cycle_limit: ArrayLike = 1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = False,
    noise_range_t: Range = None,
    noise_pct: ArrayLike = 0.67,
    noise_std: ArrayLike = 1.0,
    noise_seed: int | None = 42,
) -> Schedule:
    """Hyperbolic tangents: `lrax.tanh(lr, lr_min, t_initial, low=lb, high=ub)`, once or in cycles.

    The first update has the rate `lr` itself, which the tangent only approaches. Without
    `warmup_prefix`, the warmup replaces the first updates of the cycle, and climbs to the tangent's
    rate at its end, not to `lr`.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the first cycle, above 0.
      lb: Where the curve is cut on the left, below `ub`.
      ub: Where it is cut on the right.
      lr_min: Rate that each cycle falls to, at least 0.
      cycle_mul: Length of a cycle divided by that of the one before, above 0.
      cycle_decay: Peak of a cycle divided by that of the one before, at least 0.
      cycle_limit: Number of cycles, at least 0.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether the cycles begin after the warmup, and not with it.
      noise_range_t: First count with noise, or (first with, first without); `None` is no noise.
      noise_pct: Largest noise as a fraction of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before `noise_pct` limits it, above 0.
      noise_seed: Seed of the noise.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> schedule = lrax.compat.timm.TanhLRScheduler(lr=1.0, t_initial=8, lb=-2.0, ub=2.0)
      >>> print(schedule.values(9).round(2))
      [1. 0.95 0.88 0.73 0.5 0.27 0.12 0.05 0. ]
    """
    ends = finite(lb=lb, ub=ub)
    ordered(ends, "lb", "ub")
    given = _checked(
        lr, t_initial, lr_min, cycle_mul, cycle_decay, cycle_limit, warmup_t, warmup_lr_init
    )
    rate, steps, low, _, _, limit, warmup_steps, first = given.values()
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    once = is_known_as(limit, 1)
    warms = is_known_as(warmup_steps > 0, True)
    curve = tanh(rate, low, steps, low=ends["lb"], high=ends["ub"])
    if once and warms and not prefix:
        schedule = warmup(curve, warmup_steps, first, anchor="overlay")
    elif once and (warms or is_known_as(warmup_steps, 0)):
        schedule = warmed(curve, rate, warmup_steps, first, prefix)
    else:
        leaves = _require.real(**ends, **given)
        schedule = Schedule(_TanhLRScheduler, {**leaves, "warmup_prefix": Static(prefix)})
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


@builder(TanhLRScheduler, name="compat.timm.TanhLRScheduler")
def _TanhLRScheduler(count, lb, ub, **cycles):
    count = real(count)

    def weight(p, q):
        x = 2 * (lb * q + ub * p)
        return nn.sigmoid(-x), nn.sigmoid(x)

    return cycled(count, weight, meets=True, **cycles)


def _checked(
    lr: ArrayLike,
    t_initial: ArrayLike,
    lr_min: ArrayLike,
    cycle_mul: ArrayLike,
    cycle_decay: ArrayLike,
    cycle_limit: ArrayLike,
    warmup_t: ArrayLike,
    warmup_lr_init: ArrayLike,
) -> dict[str, Number]:
    """The numbers that all three schedulers take."""
    return checked(
        lr=lr,
        t_initial=t_initial,
        lr_min=lr_min,
        cycle_mul=cycle_mul,
        cycle_decay=cycle_decay,
        cycle_limit=cycle_limit,
        warmup_t=warmup_t,
        warmup_lr_init=warmup_lr_init,
    )
