"""NeMo's warmups with a hold before the decay.

They follow nemo/core/optim/lr_scheduler.py of NVIDIA/NeMo 8cfedd72.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ...schedules.combinators import clip
from ...schedules.decays import linear, polynomial
from ...schedules.phases import join
from ...schedules.ramps import ramp
from ...schedules.schedule import Schedule
from ..arguments import listed, positive
from ..keras import PolynomialDecay
from .phases import begin, hold


def WarmupHoldAnnealOneMinusSquareRoot(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    hold_steps: ArrayLike | None = None,
    hold_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup, a hold, then one minus the square root of the part done, not below `min_lr`.

    The floor is a maximum, not an end to which the curve is scaled as in `lrax.wsd`. Without a
    hold, NeMo counts the decay from the update 0: the rate jumps down after the warmup.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      hold_steps: Length of the hold after the warmup, at least 0.
      hold_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after `max_steps`, and floor of the decay, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> one_minus_sqrt = lrax.compat.nemo.WarmupHoldAnnealOneMinusSquareRoot
      >>> print(one_minus_sqrt(1.0, max_steps=6, warmup_steps=1, hold_steps=1).values(8).round(3))
      [0.5 1. 1. 0.5 0.293 0.134 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    at, length, clock = hold(steps, warmup, hold_steps, hold_ratio)
    decay = clip(ramp(lr, 0, length, shape="1-sqrt"), low=end)
    return join([up, decay], listed([at]), clock=clock)


def WarmupHoldAnnealLinear(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    hold_steps: ArrayLike | None = None,
    hold_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup, a hold, then a line to `min_lr`.

    Without a hold, NeMo counts the decay from the update 0: the rate jumps down after the warmup.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      hold_steps: Length of the hold after the warmup, at least 0.
      hold_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after `max_steps`, and floor of the decay, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.WarmupHoldAnnealLinear(
      ...     1.0, max_steps=6, warmup_steps=1, hold_steps=1
      ... )
      >>> print(schedule.values(8))
      [0.5 1. 1. 0.75 0.5 0.25 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    at, length, clock = hold(steps, warmup, hold_steps, hold_ratio)
    return join([up, linear(lr, end, length)], listed([at]), clock=clock)


def PolynomialHoldDecayAnnealing(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    hold_steps: ArrayLike | None = None,
    hold_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
    power: ArrayLike = 1.0,
    cycle: bool = False,
) -> Schedule:
    r"""A warmup, a hold, then a power of the part left, to `min_lr`.

    Without a hold, NeMo counts the decay from the update 0, over `max_steps - warmup` updates. So
    the rate jumps down after the warmup, and reaches `min_lr` as many updates before `max_steps` as
    the warmup has. With `cycle`, part of a second tooth fills the rest.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      hold_steps: Length of the hold after the warmup, at least 0.
      hold_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate at the end, at least 0.
      power: Exponent of the part left, above 0.
      cycle: Whether the decay is repeated as in Keras' `PolynomialDecay`; used without a hold only.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> hold_decay = lrax.compat.nemo.PolynomialHoldDecayAnnealing
      >>> schedule = hold_decay(1.0, max_steps=6, warmup_steps=1, hold_steps=1, power=2.0)
      >>> print(schedule.values(8).round(3))
      [0.5 1. 1. 0.562 0.25 0.062 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    power = positive(power=power)["power"]
    at, length, clock = hold(steps, warmup, hold_steps, hold_ratio)
    if clock == "global":
        # NeMo's decay ends early by the length of the warmup. Its teeth are those of Keras.
        decay = PolynomialDecay(lr, steps - warmup, end, power, cycle=cycle)
        return join([up, decay, end], listed([at, steps + 1]), clock=clock)
    return join([up, polynomial(lr, end, length, power)], listed([at]), clock=clock)
