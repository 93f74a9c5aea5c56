"""timm's CosineLRScheduler."""

import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.cycles import cosine_restarts
from ...schedules.decays import cosine
from ...schedules.schedule import Schedule, Static
from ..arguments import is_known_as
from .cycles import cycled, raised
from .phases import Range, checked, noisy, shifted


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

    Unless `warmup_prefix`, the warmup takes the place of the first updates, and the rate falls at
    its end.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the first cycle, above 0.
      lr_min: Rate at the end of each cycle, at least 0.
      cycle_mul: Length of a cycle in lengths of the one before, above 0.
      cycle_decay: Peak of a cycle in peaks of the one before, at least 0.
      cycle_limit: Number of cycles, at least 0.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether the cycles begin after the warmup, and not with it.
      noise_range_t: First count with noise, or that and the first without; `None` is no noise.
      noise_pct: Largest noise in parts of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before it is cut, above 0.
      noise_seed: Seed of the noise.
      k_decay: Exponent of the part done, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.timm.CosineLRScheduler(lr=0.1, t_initial=90, lr_min=0.01)
      cosine(peak=0.1, steps=90, end=0.01)
      >>> schedule = lrax.compat.timm.CosineLRScheduler(lr=1.0, t_initial=8, warmup_t=2)
      >>> print(schedule.values(9).round(3))
      [0. 0.5 0.854 0.691 0.5 0.309 0.146 0.038 0. ]
    """
    given = checked(
        lr=lr,
        t_initial=t_initial,
        lr_min=lr_min,
        cycle_mul=cycle_mul,
        cycle_decay=cycle_decay,
        cycle_limit=cycle_limit,
        warmup_t=warmup_t,
        warmup_lr_init=warmup_lr_init,
    )
    rate, steps, low, mult, decay, limit, warmup_steps, first = given.values()
    given |= checked(k_decay=k_decay)
    k = given["k_decay"]
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    growing = is_known_as(limit >= 1, True) and is_known_as(mult >= 1, True)
    waves = None
    if is_known_as(limit, 1):
        waves = cosine(rate, steps, low, k=None if is_known_as(k, 1) else k)
    elif is_known_as(k, 1) and growing:
        waves = cosine_restarts(rate, steps, mult=mult, end=low, decay=decay, cycles=limit)
    if waves is None:
        words = {"warmup_prefix": Static(prefix)}
        schedule = Schedule(_CosineLRScheduler, {**_require.real(**given), **words})
    else:
        schedule = shifted(waves, rate, warmup_steps, first, prefix)
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


@builder(CosineLRScheduler, name="compat.timm.CosineLRScheduler")
def _CosineLRScheduler(count, k_decay, **cycles):
    count = real(count)

    def weight(p, q):
        p, q = raised(p, q, k_decay)
        return jnp.sin(np.pi / 2 * q) ** 2, jnp.sin(np.pi / 2 * p) ** 2

    return cycled(count, weight, **cycles)
