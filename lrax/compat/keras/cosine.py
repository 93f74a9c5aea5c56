"""Keras' cosines.

They follow keras/src/optimizers/schedules/learning_rate_schedule.py of Keras 3.15.1.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ... import _require
from ...schedules.cycles import cosine_restarts
from ...schedules.decays import cosine
from ...schedules.schedule import Schedule, add
from ...schedules.warmups import warmup_cosine
from ..arguments import is_given, largest, nonnegative, numbers, positive


def CosineDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    alpha: ArrayLike = 0.0,
    name: str = "CosineDecay",
    warmup_target: ArrayLike | None = None,
    warmup_steps: ArrayLike = 0,
) -> Schedule:
    r"""Half a cosine wave, after a linear warmup if there is a target.

    It is `lrax.cosine` or `lrax.warmup_cosine`.

    In Keras `decay_steps` does not include the warmup; in Optax it does. `alpha` is the end as a
    fraction of the peak. Without a `warmup_target` there is no warmup, whatever `warmup_steps` is.

    Args:
      initial_learning_rate: Rate at the start: of the warmup where there is one, of the decay
        otherwise; at least 0.
      decay_steps: Length of the decay in optimizer updates, above 0.
      alpha: Rate at the end as a fraction of the rate that the decay begins with, at least 0.
      name: Not used.
      warmup_target: Rate that the warmup leads to, at least 0; `None` for no warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.keras.CosineDecay(0.1, decay_steps=90, alpha=0.1)
      cosine(peak=0.1, steps=90, end=0.01)
      >>> lrax.compat.keras.CosineDecay(0.0, decay_steps=90, warmup_target=0.1, warmup_steps=10)
      warmup_cosine(peak=0.1, steps=100, warmup=10, init=0, end=0)
    """
    del name
    init, part = nonnegative(initial_learning_rate=initial_learning_rate, alpha=alpha).values()
    steps = positive(decay_steps=decay_steps)["decay_steps"]
    if warmup_target is None:
        return cosine(init, steps, part * init)
    # `decay_steps` counts from the end of the warmup, in Optax from its start.
    peak, begin = nonnegative(warmup_target=warmup_target, warmup_steps=warmup_steps).values()
    return warmup_cosine(peak, steps + begin, begin, init=init, end=part * peak)


def CosineDecayRestarts(
    initial_learning_rate: ArrayLike,
    first_decay_steps: ArrayLike,
    t_mul: ArrayLike = 2.0,
    m_mul: ArrayLike = 1.0,
    alpha: ArrayLike = 0.0,
    name: str = "SGDRDecay",
) -> Schedule:
    r"""Warm restarts forever: `lrax.cosine_restarts`.

    `m_mul` scales the distance to the floor and not the peak itself, so with it the result is a sum
    of the floor and restarts to 0. Keras finds the cycle by a quotient of logarithms and may miss a
    restart by an update; here every restart is exact.

    Args:
      initial_learning_rate: Rate at the start, at least 0.
      first_decay_steps: Length of the first cycle in optimizer updates, above 0.
      t_mul: Length of a cycle divided by that of the one before, at least 1.
      m_mul: Amplitude of a cycle divided by that of the one before, at least 0.
      alpha: Rate at the end of a cycle as a fraction of `initial_learning_rate`, at least 0; at
        most 1 where `m_mul` is given.
      name: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.keras.CosineDecayRestarts(0.1, first_decay_steps=10)
      cosine_restarts(peak=0.1, first=10, mult=2, end=0, decay=1)
      >>> lrax.compat.keras.CosineDecayRestarts(0.1, first_decay_steps=10, m_mul=0.5, alpha=0.1)
      add(constant(value=0.01), cosine_restarts(peak=0.09, first=10, mult=2, end=0, decay=0.5))
    """
    del name
    given = nonnegative(initial_learning_rate=initial_learning_rate, m_mul=m_mul, alpha=alpha)
    init, decay, part = given.values()
    first = positive(first_decay_steps=first_decay_steps)["first_decay_steps"]
    mult = numbers(t_mul=t_mul)["t_mul"]
    _require.at_least({"t_mul": mult}, 1, "t_mul")
    floor = part * init
    if not is_given(m_mul, 1):
        return cosine_restarts(init, first, mult=mult, end=floor)
    _require.at_most("`alpha` must be at most 1 where `m_mul` is given", part, 1.0)
    # `m_mul` multiplies the height above the floor, not the peak.
    return add(floor, cosine_restarts(largest(init - floor, 0), first, mult=mult, decay=decay))
