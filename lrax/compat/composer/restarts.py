"""Composer's warm restarts.

They follow composer/optim/scheduler.py of mosaicml/composer 0f1df8bb.
"""

from __future__ import annotations

from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.horizon import Horizon
from ...schedules.schedule import Schedule
from ...schedules.shapes import between, reached
from ..arguments import nonnegative
from .durations import Duration, duration


def CosineAnnealingWarmRestartsScheduler(
    lr: ArrayLike,
    t_0: Duration,
    t_mult: ArrayLike = 1.0,
    alpha_f: ArrayLike = 0.0,
    *,
    scale_schedule_ratio: ArrayLike = 1.0,
    horizon: Horizon | None = None,
) -> Schedule:
    r"""Warm restarts forever: `lrax.cosine_restarts` with cycles of whole updates.

    Every cycle is `t_mult` times as long as the one before, rounded down. The next cycle follows
    from the rounded length. After 64 cycles they grow no further.

    Args:
      lr: The optimizer's rate, at least 0.
      t_0: Length of the first cycle in optimizer updates, at least 1, or as text.
      t_mult: Length of a cycle divided by that of the one before, at least 1.
      alpha_f: Rate at the end as a fraction of `lr`, at least 0.
      scale_schedule_ratio: Composer's factor on every duration in updates or epochs, above 0.
      horizon: The length of the run, for durations given as text.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration cannot be read.

    Example:
      >>> schedule = lrax.compat.composer.CosineAnnealingWarmRestartsScheduler(1.0, 2, t_mult=1.5)
      >>> print(schedule.values(9).round(2))
      [1. 0.5 1. 0.75 0.25 1. 0.85 0.5 0.15]
    """
    first = duration("t_0", t_0, horizon, scale_schedule_ratio)
    given = nonnegative(lr=lr, t_0=first, t_mult=t_mult, alpha_f=alpha_f)
    _require.at_least(given, 1, "t_0", "t_mult")
    return Schedule(_CosineAnnealingWarmRestartsScheduler, _require.real(**given))


@builder(
    CosineAnnealingWarmRestartsScheduler,
    name="compat.composer.CosineAnnealingWarmRestartsScheduler",
)
def _CosineAnnealingWarmRestartsScheduler(count, lr, t_0, t_mult, alpha_f):
    count = real(count)
    count = jnp.maximum(count, 0)
    lengths = [t_0]
    for _ in range(63):
        # Lengths stop growing before 2^28, so that sums do not overflow. No run is that long.
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
