"""timm's TanhLRScheduler."""

from jax import nn
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.decays import tanh
from ...schedules.phases import warmup
from ...schedules.schedule import Schedule, Static
from ..arguments import finite, is_known_as, ordered
from .cycles import cycled
from .phases import Range, checked, noisy, warmed


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

    The first update has the rate `lr` itself, which the tangent only comes near to. Unless
    `warmup_prefix`, the warmup takes the place of the first updates and goes to the tangent's rate
    at its end, and not to `lr`.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the first cycle, above 0.
      lb: Where the curve is cut on the left, below `ub`.
      ub: Where it is cut on the right.
      lr_min: Rate that each cycle falls to, at least 0.
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

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> schedule = lrax.compat.timm.TanhLRScheduler(lr=1.0, t_initial=8, lb=-2.0, ub=2.0)
      >>> print(schedule.values(9).round(2))
      [1. 0.95 0.88 0.73 0.5 0.27 0.12 0.05 0. ]
    """
    ends = finite(lb=lb, ub=ub)
    ordered(ends, "lb", "ub")
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
