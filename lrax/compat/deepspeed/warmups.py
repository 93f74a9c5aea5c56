"""DeepSpeed's warmups, which lag by one update.

They follow deepspeed/runtime/lr_schedules.py of DeepSpeed 0.19.8.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ... import _require
from ...schedules.decays import linear
from ...schedules.phases import join
from ...schedules.ramps import ramp
from ...schedules.schedule import Schedule
from ..arguments import largest, listed, nonnegative


def WarmupLR(
    lr: ArrayLike | None = None,
    warmup_min_lr: ArrayLike = 0.0,
    warmup_max_lr: ArrayLike | None = None,
    warmup_num_steps: ArrayLike = 1000,
    warmup_type: str = "log",
) -> Schedule:
    r"""A warmup, logarithmic or linear in the step, to a rate that is then held.

    It is a `lrax.ramp` that begins at 1.

    Args:
      lr: The optimizer's rate, the default of `warmup_max_lr` (which was 0.001 before 0.19).
      warmup_min_lr: Rate at the start, at least 0.
      warmup_max_lr: Rate after the warmup, at least 0; `None` is `lr`.
      warmup_num_steps: Length of the warmup in optimizer updates; below 2, it is taken as 2.
      warmup_type: `"log"` or `"linear"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, `warmup_type` is unknown, or no rate is
        given.

    Example:
      >>> print(lrax.compat.deepspeed.WarmupLR(1.0, warmup_num_steps=4).values(6).round(3))
      [0. 0. 0.5 0.792 1. 1. ]
      >>> schedule = lrax.compat.deepspeed.WarmupLR(1.0, warmup_num_steps=4, warmup_type="linear")
      >>> print(schedule.values(6))
      [0.   0.   0.25 0.5  0.75 1.  ]
    """
    low, high, steps = _warmup(lr, warmup_min_lr, warmup_max_lr, warmup_num_steps)
    return _up(low, high, steps, warmup_type)


def WarmupDecayLR(
    lr: ArrayLike | None = None,
    *,
    total_num_steps: ArrayLike,
    warmup_min_lr: ArrayLike = 0.0,
    warmup_max_lr: ArrayLike | None = 0.001,
    warmup_num_steps: ArrayLike = 1000,
    warmup_type: str = "log",
) -> Schedule:
    r"""The warmup of `WarmupLR`, then a line back to `warmup_min_lr`, one update late.

    Unlike in `WarmupLR`, the default of `warmup_max_lr` is a rate, and so overrides the optimizer's
    rate.

    Args:
      lr: The optimizer's rate, used if `warmup_max_lr` is `None`.
      total_num_steps: Length of the whole in optimizer updates, at least 0.
      warmup_min_lr: Rate at the start and at the end, at least 0.
      warmup_max_lr: Rate after the warmup, at least 0; `None` is `lr`.
      warmup_num_steps: Length of the warmup in optimizer updates; below 2, it is taken as 2.
      warmup_type: `"log"` or `"linear"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, `warmup_type` is unknown, or no rate is
        given.

    Example:
      >>> schedule = lrax.compat.deepspeed.WarmupDecayLR(
      ...     total_num_steps=6, warmup_max_lr=1.0, warmup_num_steps=2, warmup_type="linear"
      ... )
      >>> schedule.values(9)
      Array([0.  , 0.  , 0.5 , 1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ], dtype=float32)
    """
    low, high, steps = _warmup(lr, warmup_min_lr, warmup_max_lr, warmup_num_steps)
    total = nonnegative(total_num_steps=total_num_steps)["total_num_steps"]
    # DeepSpeed's constructor sets the rate of step -1, so all rates are one update late.
    down = linear(high, low, largest(total - steps, 0))
    return join([_up(low, high, steps, warmup_type), down], listed([steps + 1]))


def WarmupCosineLR(
    lr: ArrayLike,
    total_num_steps: ArrayLike,
    warmup_min_ratio: ArrayLike = 0.0,
    warmup_num_steps: ArrayLike = 1000,
    cos_min_ratio: ArrayLike = 0.0001,
    warmup_type: str = "log",
) -> Schedule:
    r"""A warmup that lags by one update, then half a cosine wave that does not.

    The first update has the rate 0 whatever `warmup_min_ratio` is. The wave reaches its end at
    `total_num_steps` and holds it; before 0.19 it climbed again.

    Args:
      lr: The optimizer's rate, at least 0.
      total_num_steps: Length of the whole in optimizer updates, at least 0.
      warmup_min_ratio: Rate at the start of the warmup as a fraction of `lr`, at least 0.
      warmup_num_steps: Length of the warmup in optimizer updates; below 2, it is taken as 2.
      cos_min_ratio: Rate at the end as a fraction of `lr`, at least 0.
      warmup_type: `"log"` or `"linear"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or `warmup_type` is unknown.

    Example:
      >>> schedule = lrax.compat.deepspeed.WarmupCosineLR(
      ...     1.0, total_num_steps=6, warmup_num_steps=2, warmup_type="linear"
      ... )
      >>> print(schedule.values(8).round(3))
      [0. 0. 0.5 0.854 0.5 0.147 0. 0. ]
    """
    given = nonnegative(lr=lr, total_num_steps=total_num_steps, warmup_min_ratio=warmup_min_ratio)
    given |= nonnegative(warmup_num_steps=warmup_num_steps, cos_min_ratio=cos_min_ratio)
    peak, steps = given["lr"], largest(given["warmup_num_steps"], 2)
    up = _up(given["warmup_min_ratio"] * peak, peak, steps, warmup_type, begin=0)
    # The warmup is one update late and the wave is not, so the wave begins one step below its peak.
    length = largest(given["total_num_steps"] - steps, 1)
    down = ramp(peak, given["cos_min_ratio"] * peak, length, shape="cosine", inclusive="right")
    return join([0.0, up, down], listed([1, steps + 1]))


def _warmup(lr, warmup_min_lr, warmup_max_lr, warmup_num_steps):
    if lr is None and warmup_max_lr is None:
        raise ValueError("`lr` or `warmup_max_lr` must be given, got neither")
    low, steps = nonnegative(
        warmup_min_lr=warmup_min_lr, warmup_num_steps=warmup_num_steps
    ).values()
    rate = {"lr": lr} if warmup_max_lr is None else {"warmup_max_lr": warmup_max_lr}
    (high,) = nonnegative(**rate).values()  # pyright: ignore[reportArgumentType]
    return low, high, largest(steps, 2)  # DeepSpeed takes at least 2


def _up(low, high, steps, warmup_type, begin=1):
    _require.choice("warmup_type", warmup_type, ("log", "linear"))
    if warmup_type == "linear":
        return ramp(low, high, steps, begin=begin)
    # log(t + 1) / log(steps) is at 1 where t + 1 is `steps`, one update earlier than the line.
    return ramp(low, high, steps - 1, shape="log", begin=begin)
