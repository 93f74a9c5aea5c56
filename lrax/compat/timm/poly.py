"""timm's PolyLRScheduler."""

from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.decays import polynomial
from ...schedules.schedule import Schedule, Static
from ...schedules.shapes import power as raised_to
from ..arguments import is_known_as
from .cycles import cycled, raised
from .phases import Range, checked, noisy, shifted


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

    Unless `warmup_prefix`, the warmup takes the place of the first updates, and the rate falls at
    its end.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the first cycle, above 0.
      power: Exponent of the part left, at least 0; with 0 the rate falls at the end of each cycle
        only.
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
      >>> lrax.compat.timm.PolyLRScheduler(lr=0.1, t_initial=90)
      polynomial(init=0.1, end=0, steps=90, power=0.5)
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
    rate, steps, low, _, _, limit, warmup_steps, first = given.values()
    given |= checked(k_decay=k_decay, power=power)
    k = given["k_decay"]
    exponent = given["power"]
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    if is_known_as(limit, 1) and is_known_as(exponent > 0, True):
        falls = polynomial(rate, low, steps, exponent, k=None if is_known_as(k, 1) else k)
        schedule = shifted(falls, rate, warmup_steps, first, prefix)
    else:
        words = {"warmup_prefix": Static(prefix)}
        schedule = Schedule(_PolyLRScheduler, {**_require.real(**given), **words})
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


@builder(PolyLRScheduler, name="compat.timm.PolyLRScheduler")
def _PolyLRScheduler(count, power, k_decay, **cycles):
    count = real(count)

    def weight(p, q):
        p, q = raised(p, q, k_decay)
        falls = raised_to(q, power)
        return falls, 1 - falls

    return cycled(count, weight, **cycles)
