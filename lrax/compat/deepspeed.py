"""DeepSpeed's schedulers (`deepspeed.runtime.lr_schedules`, 0.19.8), under their own names,
arguments and defaults.

Its warmups lag by one update: the constructor sets the rate of "step -1", so the updates 0 and 1
have the lowest rate. Its `OneCycle` and `LRRangeTest` count from 1 and so do not lag. The
logarithmic warmup is the default.
"""

from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules.decays import linear
from ..schedules.open_ended import inverse_time
from ..schedules.phases import join
from ..schedules.pieces import piecewise
from ..schedules.ramps import ramp
from ..schedules.schedule import Schedule, Static
from ..schedules.shapes import progress
from .arrays import is_given, listed, most, nonnegative, where

__all__ = ["LRRangeTest", "OneCycle", "WarmupCosineLR", "WarmupDecayLR", "WarmupLR"]


def WarmupLR(
    lr: ArrayLike | None = None,
    warmup_min_lr: ArrayLike = 0.0,
    warmup_max_lr: ArrayLike | None = None,
    warmup_num_steps: ArrayLike = 1000,
    warmup_type: str = "log",
) -> Schedule:
    r"""A warmup by the logarithm of the step, or linear, to a rate that stays: a `lrax.ramp` that
    begins at 1.

    Args:
      lr: The optimizer's rate, which `warmup_max_lr` is where it is not given (before 0.19 its
        default was 0.001).
      warmup_min_lr: Rate at the start, at least 0.
      warmup_max_lr: Rate after the warmup, at least 0; `None` is `lr`.
      warmup_num_steps: Length of the warmup in optimizer updates; at least 2 are taken.
      warmup_type: `"log"` or `"linear"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, `warmup_type` is unknown, or no rate is
        given.

    Example:
      >>> print(lrax.compat.deepspeed.WarmupLR(1.0, warmup_num_steps=4).values(6).round(3))
      [0. 0. 0.5 0.792 1. 1. ]
      >>> print(lrax.compat.deepspeed.WarmupLR(1.0, warmup_num_steps=4, warmup_type="linear").values(6))
      [0.   0.   0.25 0.5  0.75 1.  ]
    """
    low, high, steps = _warmup(lr, warmup_min_lr, warmup_max_lr, warmup_num_steps)
    return _up(low, high, steps, warmup_type)


def _warmup(lr, warmup_min_lr, warmup_max_lr, warmup_num_steps):
    high = lr if warmup_max_lr is None else warmup_max_lr
    if high is None:
        raise ValueError("`lr` or `warmup_max_lr` must be given, got neither")
    given = nonnegative(
        warmup_min_lr=warmup_min_lr, warmup_max_lr=high, warmup_num_steps=warmup_num_steps
    )
    return given["warmup_min_lr"], given["warmup_max_lr"], most(given["warmup_num_steps"], 2)


def _up(low, high, steps, warmup_type, begin=1):
    _require.choice("warmup_type", warmup_type, ("log", "linear"))
    if warmup_type == "linear":
        return ramp(low, high, steps, begin=begin)
    return ramp(
        low, high, steps - 1, shape="log", begin=begin
    )  # log(t) / log(steps) is at 1 an update earlier


def WarmupDecayLR(
    lr: ArrayLike | None = None,
    *,
    total_num_steps: ArrayLike,
    warmup_min_lr: ArrayLike = 0.0,
    warmup_max_lr: ArrayLike | None = 0.001,
    warmup_num_steps: ArrayLike = 1000,
    warmup_type: str = "log",
) -> Schedule:
    r"""A warmup as of `WarmupLR`, then a line back to `warmup_min_lr`; the whole lags by one
    update.

    Unlike there, the default of `warmup_max_lr` is a rate, and so overrides the optimizer's.

    Args:
      lr: The optimizer's rate, which `warmup_max_lr` is where it is `None`.
      total_num_steps: Length of the whole in optimizer updates, at least 0.
      warmup_min_lr: Rate at the start and at the end, at least 0.
      warmup_max_lr: Rate after the warmup, at least 0; `None` is `lr`.
      warmup_num_steps: Length of the warmup in optimizer updates; at least 2 are taken.
      warmup_type: `"log"` or `"linear"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, `warmup_type` is unknown, or no rate is
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
    down = linear(high, low, most(total - steps, 0))
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
      warmup_min_ratio: Rate at the start of the warmup in parts of `lr`, at least 0.
      warmup_num_steps: Length of the warmup in optimizer updates; at least 2 are taken.
      cos_min_ratio: Rate at the end in parts of `lr`, at least 0.
      warmup_type: `"log"` or `"linear"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or `warmup_type` is unknown.

    Example:
      >>> schedule = lrax.compat.deepspeed.WarmupCosineLR(
      ...     1.0, total_num_steps=6, warmup_num_steps=2, warmup_type="linear"
      ... )
      >>> print(schedule.values(8).round(3))
      [0. 0. 0.5 0.854 0.5 0.147 0. 0. ]
    """
    given = nonnegative(lr=lr, total_num_steps=total_num_steps, warmup_min_ratio=warmup_min_ratio)
    given |= nonnegative(warmup_num_steps=warmup_num_steps, cos_min_ratio=cos_min_ratio)
    peak, steps = given["lr"], most(given["warmup_num_steps"], 2)
    up = _up(given["warmup_min_ratio"] * peak, peak, steps, warmup_type, begin=0)
    length = most(given["total_num_steps"] - steps, 1)
    down = ramp(peak, given["cos_min_ratio"] * peak, length, shape="cosine", inclusive="right")
    return join([0.0, up, down], listed([1, steps + 1]))


def OneCycle(
    cycle_min_lr: ArrayLike,
    cycle_max_lr: ArrayLike,
    decay_lr_rate: ArrayLike = 0.0,
    cycle_first_step_size: ArrayLike = 2000,
    cycle_second_step_size: ArrayLike | None = None,
    cycle_first_stair_count: ArrayLike = 0,
    cycle_second_stair_count: ArrayLike | None = None,
    decay_step_size: ArrayLike = 0,
) -> Schedule:
    r"""One triangle, then a decay by inverse time: `lrax.piecewise` and `lrax.inverse_time`,
    joined.

    In stairs, each half holds the rate of the last whole stair. The momentum, which DeepSpeed
    drives the other way, is `lrax.link(schedule, cycle_max_mom, cycle_min_mom, low=cycle_min_lr,
    high=cycle_max_lr)` in the cycle.

    Args:
      cycle_min_lr: Rate at the start and after the cycle, at least 0.
      cycle_max_lr: Rate in between, at least 0.
      decay_lr_rate: What is added to the divisor every `decay_step_size` updates after the cycle,
        at least 0.
      cycle_first_step_size: Updates of the climb, above 0.
      cycle_second_step_size: Updates of the fall, at least 0; `None` is as many.
      cycle_first_stair_count: Stairs of the climb; 0 for a line.
      cycle_second_stair_count: Stairs of the fall; `None` is as many.
      decay_step_size: Updates per `decay_lr_rate`; 0 for no decay.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lengths = {"cycle_first_step_size": 2, "decay_step_size": 1}
      >>> schedule = lrax.compat.deepspeed.OneCycle(0.1, 1.0, decay_lr_rate=1.0, **lengths)
      >>> print(schedule.values(8).round(3))
      [0.1 0.55 1. 0.55 0.1 0.05 0.033 0.025]
    """
    second_stairs = (
        cycle_first_stair_count if cycle_second_stair_count is None else cycle_second_stair_count
    )
    given = nonnegative(
        cycle_min_lr=cycle_min_lr, cycle_max_lr=cycle_max_lr, decay_lr_rate=decay_lr_rate
    )
    given |= nonnegative(
        cycle_first_step_size=cycle_first_step_size, decay_step_size=decay_step_size
    )
    second = cycle_first_step_size if cycle_second_step_size is None else cycle_second_step_size
    given |= nonnegative(cycle_second_step_size=second)
    given |= nonnegative(
        cycle_first_stair_count=cycle_first_stair_count, cycle_second_stair_count=second_stairs
    )
    _require.positive(given, "cycle_first_step_size")
    if is_given(cycle_first_stair_count, 0) or is_given(second_stairs, 0):
        return Schedule(_OneCycle, _require.real(**given))
    low, high, first = given["cycle_min_lr"], given["cycle_max_lr"], given["cycle_first_step_size"]
    steps, decays = first + given["cycle_second_step_size"], given["decay_step_size"] > 0
    tail = inverse_time(
        low, where(decays, given["decay_lr_rate"], 0), where(decays, given["decay_step_size"], 1)
    )
    return join(
        [piecewise(listed([low, high, low]), listed([first, steps])), tail], listed([steps])
    )


def _OneCycle(
    count,
    cycle_min_lr,
    cycle_max_lr,
    decay_lr_rate,
    cycle_first_step_size,
    cycle_second_step_size,
    cycle_first_stair_count,
    cycle_second_stair_count,
    decay_step_size,
):
    steps = cycle_first_step_size + cycle_second_step_size
    up = _stair(count, cycle_first_step_size, cycle_first_stair_count)
    down = _stair(steps - count, cycle_second_step_size, cycle_second_stair_count)
    x = jnp.where(count <= cycle_first_step_size, up, down)
    decays = decay_step_size > 0
    since = jnp.maximum(count - steps, 0) / jnp.where(decays, decay_step_size, 1)
    tail = cycle_min_lr / (1 + jnp.where(decays, decay_lr_rate, 0) * since)
    return jnp.where(count < steps, cycle_min_lr * (1 - x) + cycle_max_lr * x, tail)


def _stair(done, steps, stairs):
    p, _ = progress(done, steps - done, steps)
    some = jnp.where(stairs > 0, stairs, 1)
    # The product is a whole number, so the quotient is exact at the edge of a stair.
    whole = jnp.floor(jnp.clip(done, 0, steps) * some / jnp.where(steps > 0, steps, 1))
    return jnp.where(stairs > 0, jnp.where(steps > 0, whole / some, p), p)


def LRRangeTest(
    lr_range_test_min_lr: ArrayLike = 1e-3,
    lr_range_test_step_size: ArrayLike = 2000,
    lr_range_test_step_rate: ArrayLike = 1.0,
    lr_range_test_staircase: bool = False,
) -> Schedule:
    r"""A rate that climbs for as long as the test goes on.

    $$\eta(t) = \text{min\_lr} \, (1 + \text{rate} \cdot t / \text{step\_size})$$

    with $\lfloor t / \text{step\_size} \rfloor$ in stairs. For a climb by factors, use
    `lrax.exponential`.

    Args:
      lr_range_test_min_lr: Rate at the start, at least 0.
      lr_range_test_step_size: Updates per `lr_range_test_step_rate`, above 0.
      lr_range_test_step_rate: What is added in parts of the first rate, at least 0.
      lr_range_test_staircase: Whether the rate climbs at once after every `lr_range_test_step_size`
        updates.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.
      TypeError: if `lr_range_test_staircase` is not a bool.

    Example:
      >>> lrax.compat.deepspeed.LRRangeTest(0.5, lr_range_test_step_size=2).values(5)
      Array([0.5 , 0.75, 1.  , 1.25, 1.5 ], dtype=float32)
    """
    given = nonnegative(
        lr_range_test_min_lr=lr_range_test_min_lr, lr_range_test_step_rate=lr_range_test_step_rate
    )
    given |= nonnegative(lr_range_test_step_size=lr_range_test_step_size)
    _require.positive(given, "lr_range_test_step_size")
    stairs = Static(_require.flag("lr_range_test_staircase", lr_range_test_staircase))
    return Schedule(_LRRangeTest, {**_require.real(**given), "lr_range_test_staircase": stairs})


def _LRRangeTest(
    count,
    lr_range_test_min_lr,
    lr_range_test_step_size,
    lr_range_test_step_rate,
    lr_range_test_staircase,
):
    intervals = jnp.maximum(count, 0) / lr_range_test_step_size
    if lr_range_test_staircase:
        intervals = jnp.floor(intervals)
    return lr_range_test_min_lr * (1 + lr_range_test_step_rate * intervals)
