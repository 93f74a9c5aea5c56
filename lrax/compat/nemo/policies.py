"""NeMo's warmups without a decay.

They follow nemo/core/optim/lr_scheduler.py of NVIDIA/NeMo 8cfedd72.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ...schedules.phases import join
from ...schedules.ramps import ramp
from ...schedules.schedule import Schedule
from ..arguments import largest, listed, nonnegative
from .phases import after, duration


def WarmupPolicy(
    lr: ArrayLike,
    *,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    max_steps: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup to `lr`, which is held, until `max_steps` if that is given: `lrax.ramp`.

    Args:
      lr: The optimizer's rate, at least 0.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      max_steps: Index of the last update before `min_lr`; `None` for no end.
      min_lr: Rate after `max_steps`, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or the warmup is given twice.

    Example:
      >>> print(lrax.compat.nemo.WarmupPolicy(1.0, warmup_steps=3, max_steps=5).values(8))
      [0.25 0.5 0.75 1. 1. 1. 0. 0. ]
    """
    given = nonnegative(lr=lr, min_lr=min_lr)
    warmup = duration("warmup", warmup_steps, warmup_ratio, max_steps)
    up = ramp(0, given["lr"], warmup, inclusive="neither")
    if max_steps is None:
        return up
    # NeMo tests for the warmup first, and for the end only after it.
    last = nonnegative(max_steps=max_steps)["max_steps"]
    return join([up, given["min_lr"]], listed([largest(last + 1, after(warmup))]))


def WarmupHoldPolicy(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    hold_steps: ArrayLike | None = None,
    hold_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup to `lr`, which is held: `WarmupPolicy` with the hold before `max_steps`.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      hold_steps: Length of the hold after the warmup, at least 0.
      hold_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after `max_steps`, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.WarmupHoldPolicy(
      ...     1.0, max_steps=5, warmup_steps=1, hold_steps=2
      ... )
      >>> print(schedule.values(8))
      [0.5 1. 1. 1. 1. 1. 0. 0. ]
    """
    given = nonnegative(lr=lr, max_steps=max_steps, min_lr=min_lr)
    warmup = duration("warmup", warmup_steps, warmup_ratio, max_steps)
    held = warmup + duration("hold", hold_steps, hold_ratio, max_steps)
    up = ramp(0, given["lr"], warmup, inclusive="neither")
    end = largest(given["max_steps"] + 1, largest(held, after(warmup)))
    return join([up, given["min_lr"]], listed([end]))
