"""DeepSpeed's one cycle and its range test.

They follow deepspeed/runtime/lr_schedules.py of DeepSpeed 0.19.8.
"""

from __future__ import annotations

from jax import numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.open_ended import inverse_time
from ...schedules.phases import join
from ...schedules.pieces import piecewise
from ...schedules.schedule import Schedule, Static
from ...schedules.shapes import progress
from ..arguments import is_given, listed, nonnegative, where


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
    r"""One triangle, then a decay by inverse time.

    It is `lrax.piecewise` and `lrax.inverse_time`, joined.

    With stairs, each half holds the rate of the last whole stair. The momentum, which DeepSpeed
    changes in the other direction, is `lrax.link(schedule, cycle_max_mom, cycle_min_mom,
    low=cycle_min_lr, high=cycle_max_lr)` during the cycle.

    Args:
      cycle_min_lr: Rate at the start and after the cycle, at least 0.
      cycle_max_lr: Rate at the top of the cycle, at least 0.
      decay_lr_rate: Growth of the divisor in `decay_step_size` updates after the cycle, at least 0.
      cycle_first_step_size: Updates of the climb, above 0.
      cycle_second_step_size: Updates of the fall, at least 0; `None` is as many as of the climb.
      cycle_first_stair_count: Stairs of the climb; 0 for a line.
      cycle_second_stair_count: Stairs of the fall; `None` is as many as of the climb.
      decay_step_size: Updates in which the divisor grows by `decay_lr_rate`; 0 for no decay.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

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


@builder(OneCycle, name="compat.deepspeed.OneCycle")
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
    count = real(count)
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

    With `lr_range_test_staircase`, $t / \text{step\_size}$ is rounded down. For a climb by factors,
    use `lrax.exponential`.

    Args:
      lr_range_test_min_lr: Rate at the start, at least 0.
      lr_range_test_step_size: Updates per `lr_range_test_step_rate`, above 0.
      lr_range_test_step_rate: Growth of the rate in `lr_range_test_step_size` updates, as a
        fraction of the first rate; at least 0.
      lr_range_test_staircase: Whether the rate climbs at once after every `lr_range_test_step_size`
        updates.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.
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


@builder(LRRangeTest, name="compat.deepspeed.LRRangeTest")
def _LRRangeTest(
    count,
    lr_range_test_min_lr,
    lr_range_test_step_size,
    lr_range_test_step_rate,
    lr_range_test_staircase,
):
    count = real(count)
    intervals = jnp.maximum(count, 0) / lr_range_test_step_size
    if lr_range_test_staircase:
        intervals = jnp.floor(intervals)
    return lr_range_test_min_lr * (1 + lr_range_test_step_rate * intervals)
