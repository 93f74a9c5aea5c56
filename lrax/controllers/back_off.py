"""`back_off`: lowers the rate after a spike of a metric, and lets it recover."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule
from .calls import call_text
from .measurements import is_new, measured, require_name
from .numbers import require_factor
from .spikes import History, is_spike, no_history, with_value

Params = Any
Argument = Any  # an extra argument of `update`


class BackOffState(NamedTuple):
    """State of `back_off`."""

    # shape (), float32 (float64 under x64): the factor on the schedule
    scale: jax.Array
    history: History
    measurement: jax.Array  # shape (), int32: the number of the last measurement seen


def back_off(
    *,
    factor: ArrayLike = 0.5,
    recovery: ArrayLike = 100,
    floor: ArrayLike = 0.01,
    window: int = 128,
    sigmas: ArrayLike = 6.0,
    metric: str = "value",
) -> RateRule:
    r"""Multiplies the scale of the rate by `factor` at each spike, and slowly raises it back to 1.

    $$s \leftarrow \begin{cases}
      \max(s \cdot \text{factor}, \text{floor}) & \text{at a spike} \\
      \min(s \cdot \text{factor}^{-1 / \text{recovery}}, 1) & \text{otherwise}
    \end{cases}, \qquad
    \text{spike} = m > \text{mean} + \text{sigmas} \cdot \text{deviation}$$

    `s` is the scale, and `m` the metric. The mean and the standard deviation are those of the last
    `window` measurements. A measurement that is not finite is a spike, and enters neither. Before
    half of the window is full, a finite measurement is never a spike.

    Use it as a factor of any schedule, for a run that has spikes at its highest rate. The update
    whose loss is the spike is made too, at the lowered rate. So the rule is of little use against
    single bad batches. With four bad batches, the loss ended at 1.2 times the loss without them
    under Adam, and at 2.7 times under momentum. Without a guard it ended at 1.3 and 3.9 times (the
    median of six small tasks, `python -m tests.benchmarks.controllers`). To skip the update, put
    `lrax.controllers.skip_spikes` around the transformations before the rate:
    `optax.chain(skip_spikes(optax.scale_by_adam()), lrax.scale_by_lr(schedule * back_off()))`.

    Args:
      factor: Factor at a spike, from 0 to 1.
      recovery: Measurements in which the rate recovers from one spike, above 0.
      floor: Lowest scale, at least 0, relative to the schedule. A scale of 0 never recovers.
      window: Number of measurements whose mean and deviation are taken, at least 2.
      sigmas: By how many standard deviations a spike is above the mean, at least 0.
      metric: Name of the extra argument of `update` to follow. "value" is the training loss; a
        signal of the gradient's norm is another choice.

    Returns:
      A `RateRule` whose rate is a scale that starts at 1. Multiply it with a schedule or a number.
      All numbers but `window` may be traced, so a sweep can vary them.

    Raises:
      ValueError: if a concrete number is out of its range, infinite or NaN, or a number is not a
        scalar.
      TypeError: if an argument is not of its type, or `update` was not given the metric.

    Example:
      >>> rule = 0.1 * lrax.controllers.back_off(window=4, recovery=2)
      >>> optimizer = lrax.scale_by_lr(rule)
      >>> state = optimizer.init(jnp.ones(2))
      >>> for loss in (3.0, 2.9, 2.8, 90.0, 2.8, 2.7):
      ...     updates, state = optimizer.update(jnp.ones(2), state, value=loss)
      ...     print(f"{lrax.get_lr(state):.3f}", end=" ")
      0.100 0.100 0.100 0.050 0.071 0.100
    """
    numbers = _require.scalars(factor=factor, recovery=recovery, floor=floor, sigmas=sigmas)
    require_factor(numbers)
    _require.positive(numbers, "recovery")
    _require.nonnegative(numbers, "floor", "sigmas")
    window = _require.count("window", window, 2)
    require_name(metric)

    def init(params: Params) -> BackOffState:
        del params
        return BackOffState(
            scale=jnp.ones([], _require.float_dtype()),
            history=no_history(window),
            measurement=jnp.full([], -1, jnp.int32),
        )

    def rate(
        count: jax.Array, state: BackOffState, /, **arguments: Argument
    ) -> tuple[jax.Array, BackOffState]:
        del count  # measurements are counted, not updates
        value = measured(metric, arguments, "back_off")
        new, number = is_new(metric, arguments, value, state.measurement)
        spike = is_spike(state.history, value, numbers["sigmas"])
        lower = jnp.maximum(state.scale * numbers["factor"], numbers["floor"])
        # A floor above the scale, such as 2 at the start, must not raise the scale at a spike.
        lower = jnp.minimum(lower, state.scale)
        # A factor of 0 makes the power infinite. Times a scale of 0, that would be NaN.
        growth = jnp.minimum(numbers["factor"] ** (-1 / numbers["recovery"]), 1e30)
        higher = jnp.minimum(state.scale * growth, 1)
        after = BackOffState(
            scale=jnp.where(spike, lower, higher),
            history=with_value(state.history, value),
            measurement=number,
        )
        # Without a new measurement the scale and the history stay as they are.
        state = jax.tree.map(lambda old, updated: jnp.where(new, updated, old), state, after)
        return state.scale, state._replace(measurement=number)

    words = {**numbers, "window": window, "metric": metric}
    name = call_text("controllers.back_off", back_off, words)
    return RateRule(init, rate, first=lambda state: state.scale, name=name)
