"""`auto_cooldown`, `cooldown_on`: cooldowns that begin when the loss stalls, or on a signal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule
from ..schedules.schedule import Static
from ..schedules.shapes import as_shape, between, require_end
from .calls import call_text
from .measurements import is_better, is_new, measured, require_name
from .numbers import Numbers

Params = Any
Argument = Any  # an extra argument of `update`
Shape = str | Callable[[Any], Any]


class AutoCooldownState(NamedTuple):
    """State of `auto_cooldown`; every field has the shape ()."""

    since: jax.Array  # int32: index of the last update within the cooldown; -1 before the cooldown
    total: jax.Array  # float32: the decaying sum of the metric; negated for mode "max"
    weight: jax.Array  # float32: the same sum of ones; the average is `total / weight`
    best: jax.Array  # float32: the best average, infinite before the first
    bad: jax.Array  # int32: measurements since the last better average
    measurement: jax.Array  # int32: the number of the last measurement that the rule has seen


def auto_cooldown(
    steps: ArrayLike,
    *,
    end: ArrayLike = 0.0,
    shape: Shape = "1-sqrt",
    patience: ArrayLike = 100,
    rtol: ArrayLike = 1e-3,
    atol: ArrayLike = 0.0,
    decay: ArrayLike = 0.95,
    metric: str = "value",
    mode: Literal["min", "max"] = "min",
) -> RateRule:
    r"""A cooldown that begins when a metric has stopped improving.

    $$\text{scale} = \text{end} + (1 - \text{end}) \, s(p), \qquad p = (t - b) / \text{steps}$$

    $t$ is the index of the update, and $s$ is `shape`, which falls from 1 to 0. The rule follows
    an exponential average of the metric, with `decay`. The average is better if it is below
    $\text{best} - (\text{rtol} \, |\text{best}| + \text{atol})$. The cooldown begins at $b$, the
    update in which more than `patience` measurements in a row have not been better. Before $b$ the
    scale is 1. From $b + \text{steps}$ on it is `end`.

    Use it as a factor of a warmup and a constant rate, when nobody knows how long the run should
    be. It is a `lrax.cooldown` whose beginning depends on the loss. A usual length is 10 % to 20 %
    of the run. The training loop may stop when the field `since` of the state reaches `steps`. The
    rule saves updates, and hardly lowers the loss: on six small tasks at Adam's best rate, the
    cooldown began within 1500 updates in half of the runs. Their losses ended from 4 % below to 7 %
    above those of the whole runs. If the rate is far too low, the loss falls so slowly that the
    rule takes it for stalled (`python -m tests.benchmarks.controllers`).

    Args:
      steps: Length of the cooldown in optimizer updates, at least 0.
      end: The scale at the end of the cooldown, at least 0, relative to the schedule.
      shape: `"linear"`, `"1-sqrt"` or another shape of `lrax.ramp`.
      patience: How many measurements may pass without a better average, at least 0.
      rtol: By which fraction of the best average a better one must improve on it, at least 0.
      atol: By how much a better average must improve on the best one, in the unit of the metric, at
        least 0. It is added to the margin of `rtol`.
      decay: Decay of the average, at least 0 and below 1. With 0 each measurement is compared by
        itself, which suits a validation loss.
      metric: Name of the extra argument of `update` to follow. "value" is the training loss.
      mode: "min" where lower is better, "max" where higher is.

    Returns:
      A `RateRule` whose rate is a scale that starts at 1. Multiply it with a schedule or a number.
      A measurement that is not finite is ignored. Every number may be traced, so a sweep can vary
      it.

    Raises:
      ValueError: if a concrete number is out of its range, infinite, NaN or an array, or `shape`
        or `mode` is unknown.
      TypeError: if an argument is not of its type, or `update` was not given the metric.

    Example:
      >>> rule = 0.1 * lrax.controllers.auto_cooldown(3, shape="linear", patience=1, decay=0.0)
      >>> optimizer = lrax.scale_by_lr(rule)
      >>> state = optimizer.init(jnp.ones(2))
      >>> for loss in (3.0, 2.0, 2.0, 2.0, 1.0, 0.5, 0.4):
      ...     updates, state = optimizer.update(jnp.ones(2), state, value=loss)
      ...     print(f"{lrax.get_lr(state):.3f}", end=" ")
      0.100 0.100 0.100 0.100 0.067 0.033 0.000
    """
    numbers = _require.scalars(
        steps=steps, end=end, patience=patience, rtol=rtol, atol=atol, decay=decay
    )
    _require.nonnegative(numbers, "steps", "end", "patience", "rtol", "atol")
    _require.below_one(numbers, "decay")
    _require.choice("mode", mode, ("min", "max"))
    require_name(metric)
    curve = _curve(shape)
    require_end(numbers, "end", shape)

    def init(params: Params) -> AutoCooldownState:
        del params
        zero = jnp.zeros([], _require.float_dtype())
        return AutoCooldownState(
            since=jnp.full([], -1, jnp.int32),
            total=zero,
            weight=zero,
            best=zero + jnp.inf,
            bad=jnp.zeros([], jnp.int32),
            measurement=jnp.full([], -1, jnp.int32),
        )

    def rate(
        count: jax.Array, state: AutoCooldownState, /, **arguments: Argument
    ) -> tuple[jax.Array, AutoCooldownState]:
        del count  # a cooldown counts its own updates
        value = measured(metric, arguments, "auto_cooldown")
        new, number = is_new(metric, arguments, value, state.measurement)
        finite = jnp.isfinite(value)
        value = jnp.where(finite, value if mode == "min" else -value, 0)
        total = numbers["decay"] * state.total + (1 - numbers["decay"]) * value
        weight = numbers["decay"] * state.weight + (1 - numbers["decay"])
        average = total / weight
        better = is_better(average, state.best, numbers)
        after = state._replace(
            total=total,
            weight=weight,
            best=jnp.where(better, average, state.best),
            bad=jnp.where(better, 0, state.bad + 1),
        )
        state = jax.tree.map(lambda old, then: jnp.where(new & finite, then, old), state, after)
        since = _next_index(state.since, state.bad > numbers["patience"])
        scale = _scale(since, numbers, curve)
        return scale, state._replace(since=since, measurement=number)

    words = {**numbers, "shape": shape, "metric": metric, "mode": mode}
    name = call_text("controllers.auto_cooldown", auto_cooldown, words)
    return RateRule(init, rate, lambda state: _scale(state.since, numbers, curve), name)


def cooldown_on(
    signal: str, steps: ArrayLike, *, end: ArrayLike = 0.0, shape: Shape = "1-sqrt"
) -> RateRule:
    r"""A cooldown that begins in the first update in which a signal is set.

    $$\text{scale} = \text{end} + (1 - \text{end}) \, s(p), \qquad p = (t - b) / \text{steps}$$

    $t$ is the index of the update, and $s$ is `shape`, which falls from 1 to 0. The cooldown begins
    at $b$, the first update whose extra argument `signal` is true, or above 0. The signal need not
    stay set. Before $b$ the scale is 1, and from $b + \text{steps}$ on it is `end`.

    Use it to end a run from outside the compiled program. In your own loop, call
    `update(..., stop=time_is_up)`. In a run, pass `signals={"stop": lrax.every(100, function)}`. If
    the loss alone decides, use `lrax.controllers.auto_cooldown`; if the step is known, use
    `lrax.cooldown`.

    Args:
      signal: Name of the extra argument of `update`, which must be a scalar. A NaN does not set it:
        a signal of a run is NaN before its first measurement.
      steps: Length of the cooldown in optimizer updates, at least 0.
      end: The scale at the end of the cooldown, at least 0, relative to the schedule.
      shape: `"linear"`, `"1-sqrt"` or another shape of `lrax.ramp`.

    Returns:
      A `RateRule` whose rate is a scale that starts at 1. Multiply it with a schedule or a number.
      The state is the index of the last update within the cooldown, -1 before the cooldown. Both
      numbers may be traced, so a sweep can vary them.

    Raises:
      ValueError: if a concrete number is negative, infinite, NaN or an array, or `shape` is
        unknown.
      TypeError: if an argument is not of its type, or `update` was not given the signal.

    Example:
      >>> rule = 0.1 * lrax.controllers.cooldown_on("stop", 2, shape="linear")
      >>> optimizer = lrax.scale_by_lr(rule)
      >>> state = optimizer.init(jnp.ones(2))
      >>> for stop in (False, False, True, False, False):
      ...     updates, state = optimizer.update(jnp.ones(2), state, stop=stop)
      ...     print(f"{lrax.get_lr(state):.3f}", end=" ")
      0.100 0.100 0.100 0.050 0.000
    """
    numbers = _require.scalars(steps=steps, end=end)
    _require.nonnegative(numbers, "steps", "end")
    require_name(signal, "signal")
    curve = _curve(shape)
    require_end(numbers, "end", shape)

    def init(params: Params) -> jax.Array:
        del params
        return jnp.full([], -1, jnp.int32)

    def rate(
        count: jax.Array, state: jax.Array, /, **arguments: Argument
    ) -> tuple[jax.Array, jax.Array]:
        del count  # a cooldown counts its own updates
        since = _next_index(state, measured(signal, arguments, "cooldown_on") > 0)
        return _scale(since, numbers, curve), since

    words = {"signal": signal, **numbers, "shape": shape}
    name = call_text("controllers.cooldown_on", cooldown_on, words)
    return RateRule(init, rate, lambda since: _scale(since, numbers, curve), name)


def _curve(shape: Shape) -> Shape:
    checked = as_shape("shape", shape)
    return checked.value if isinstance(checked, Static) else checked


def _next_index(since: jax.Array, due: jax.Array) -> jax.Array:
    """The index of this update within the cooldown, from the last one; -1 before the cooldown."""
    # The index stops at the largest number of steps that is allowed, and does not overflow.
    later = jnp.minimum(since, _require.MOST - 1) + 1
    return jnp.where(since >= 0, later, jnp.where(due, 0, -1)).astype(jnp.int32)


def _scale(since: jax.Array, numbers: Numbers, curve: Shape) -> jax.Array:
    steps = numbers["steps"]
    done = since.astype(_require.float_dtype())
    down = between(1.0, numbers["end"], done, steps - done, steps, curve)
    return jnp.where(since < 0, 1, down).astype(done.dtype)
