"""`velocity`: raises the rate, and keeps the raise if the loss then falls faster."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule
from .calls import call_text
from .measurements import is_new, measured, require_name
from .numbers import Numbers

Params = Any
Argument = Any  # an extra argument of `update`


class Window(NamedTuple):
    """Sums over the losses of a window, from which a line is fitted; every shape is ()."""

    losses: jax.Array  # int32: how many there are
    first: jax.Array  # float32: the first one, which is subtracted from all: sums stay small
    sum: jax.Array  # float32
    moment: jax.Array  # float32: the sum of each one times its index
    squares: jax.Array  # float32


class VelocityState(NamedTuple):
    """State of `velocity`; every field has the shape ()."""

    scale: jax.Array  # float32: what multiplies the schedule
    trying: jax.Array  # bool: whether the scale is a raise that is not decided yet
    before: jax.Array  # float32: the scale before the raise
    speed: jax.Array  # float32: how fast the loss fell before the raise, per measurement
    error: jax.Array  # float32: the standard error of that
    size: jax.Array  # float32: the exponent of `up`, which shrinks after each raise taken back
    window: Window
    measurement: jax.Array  # int32: the number of the last measurement that the rule has seen


def velocity(
    *,
    up: ArrayLike = 1.5,
    down: ArrayLike = 0.5,
    window: ArrayLike = 100,
    errors: ArrayLike = 2.0,
    shrink: ArrayLike = 0.8,
    metric: str = "value",
    floor: ArrayLike = 0.0,
    ceiling: ArrayLike = jnp.inf,
) -> RateRule:
    r"""Searches for the rate at which the loss falls fastest, during training.

    $$v = -\text{slope of the least-squares line through the losses of a window}$$

    After each window of losses the rule does one thing. It raises the scale by `up`. After the next
    window it keeps the raise if $v_\text{after} - v_\text{before} > \text{errors} \cdot
    \sqrt{e_\text{after}^2 + e_\text{before}^2}$, where $e$ is the standard error of the slope, and
    raises it again. If not, it takes the raise back, and the next one is smaller:
    $\text{up}^{\text{shrink}^n}$ after $n$ of them. If the loss has risen over a window
    ($v < -\text{errors} \cdot e$) with no raise under way, it multiplies the scale by `down`.

    Use it as a factor of a warmup and a constant rate that may be far too low, early in a long run.
    It looks only at how fast the loss falls now. That favours rates too low for the whole run, and
    a decay of the schedule looks to it like a success. So let the schedule decay only after the
    search, or bound the search by `ceiling`.

    This is the search of AdaLRS with two changes. AdaLRS also restores the model's parameters when
    it takes a rate back, which is no matter of the rate. It lowers the rate after a raise that
    failed; here only a loss that rises lowers it.

    Args:
      up: Factor of a raise, at least 1.
      down: Factor after a loss that has risen, from 0 to 1.
      window: Measurements in a window, at least 3. A hundred are few for the loss of a minibatch.
      errors: By how many standard errors two speeds must differ, at least 0.
      shrink: What multiplies the logarithm of a raise after one that was taken back, from 0 to 1.
      metric: Name of the extra argument of `update` to follow. "value" is the training loss.
      floor: Lowest scale, at least 0, relative to the schedule.
      ceiling: Highest scale, at least 0, relative to the schedule; infinite for none.

    Returns:
      A `RateRule` whose rate is a scale that starts at 1. Multiply it with a schedule or a number.
      A loss that is not finite ends a raise at once, and is otherwise no measurement. Every number
      may be traced, and so be swept.

    Raises:
      ValueError: if a concrete number is out of its range, NaN or no scalar.
      TypeError: if an argument is not of its type, or `update` was not given the metric.

    Example:
      >>> optimizer = lrax.scale_by_lr(1e-3 * lrax.controllers.velocity(up=2.0, window=3))
      >>> state = optimizer.init(jnp.ones(2))
      >>> for loss in (9.0, 8.9, 8.8, 8.6, 8.4, 8.2, 8.0, 7.9, 7.8):
      ...     updates, state = optimizer.update(jnp.ones(2), state, value=loss)
      ...     print(f"{lrax.get_lr(state):.3f}", end=" ")
      0.001 0.001 0.002 0.002 0.002 0.004 0.004 0.004 0.002

    Reference:
      Dong et al., "AdaLRS: loss-guided adaptive learning rate search for efficient foundation model
      pretraining", 2025, arXiv:2506.13274.
    """
    numbers = _require.scalars(
        up=up,
        down=down,
        window=window,
        errors=errors,
        shrink=shrink,
        floor=floor,
        ceiling=ceiling,
    )
    _require.at_least(numbers, 1, "up")
    _require.between(numbers, 0, 1, "down", "shrink")
    _require.at_least(numbers, 3, "window")
    _require.nonnegative(numbers, "errors", "floor")
    _require.at_most("`ceiling` must be at least 0", 0.0, numbers["ceiling"])
    require_name(metric)

    def init(params: Params) -> VelocityState:
        del params
        zero = jnp.zeros([], _require.float_dtype())
        return VelocityState(
            scale=zero + 1,
            trying=jnp.zeros([], jnp.bool_),
            before=zero + 1,
            speed=zero,
            error=zero,
            size=zero + 1,
            window=Window(jnp.zeros([], jnp.int32), *[zero] * 4),
            measurement=jnp.full([], -1, jnp.int32),
        )

    def rate(
        count: jax.Array, state: VelocityState, /, **arguments: Argument
    ) -> tuple[jax.Array, VelocityState]:
        del count  # measurements are counted, not updates
        value = measured(metric, arguments, "velocity")
        new, number = is_new(metric, arguments, value, state.measurement)
        finite = jnp.isfinite(value)
        after = _after(state, jnp.where(finite, value, 0), finite, numbers)
        # A loss that is not finite matters only to a raise.
        new = new & (finite | state.trying)
        state = jax.tree.map(lambda old, then: jnp.where(new, then, old), state, after)
        return state.scale, state._replace(measurement=number)

    name = call_text("controllers.velocity", velocity, {**numbers, "metric": metric})
    return RateRule(init, rate, first=lambda state: state.scale, name=name)


def _after(
    state: VelocityState, value: jax.Array, finite: jax.Array, numbers: Numbers
) -> VelocityState:
    """The state after one more measurement."""
    window = _with(state.window, value)
    ended = (window.losses >= numbers["window"]) | ~finite
    speed, error = _speed(window)

    gain = speed - state.speed
    faster = finite & (gain > numbers["errors"] * jnp.hypot(error, state.error))
    rising = speed < -numbers["errors"] * error
    taken_back = ended & state.trying & ~faster
    raised = ended & jnp.where(state.trying, faster, ~rising)
    lowered = ended & ~state.trying & rising

    higher = state.scale * numbers["up"] ** state.size
    scale = jnp.where(raised, higher, state.scale)
    scale = jnp.where(lowered, state.scale * numbers["down"], scale)
    scale = jnp.clip(scale, numbers["floor"], numbers["ceiling"])
    return VelocityState(
        scale=jnp.where(taken_back, state.before, scale),
        trying=jnp.where(ended, raised, state.trying),
        before=jnp.where(raised, state.scale, state.before),
        speed=jnp.where(raised, speed, state.speed),
        error=jnp.where(raised, error, state.error),
        size=jnp.where(taken_back, state.size * numbers["shrink"], state.size),
        window=jax.tree.map(lambda leaf: jnp.where(ended, 0, leaf), window),
        measurement=state.measurement,
    )


def _with(window: Window, value: jax.Array) -> Window:
    """The window with one more loss."""
    first = jnp.where(window.losses == 0, value, window.first)
    above = value - first
    return Window(
        losses=window.losses + 1,
        first=first,
        sum=window.sum + above,
        moment=window.moment + window.losses * above,
        squares=window.squares + above**2,
    )


def _speed(window: Window) -> tuple[jax.Array, jax.Array]:
    """Minus the slope of the least-squares line through a window, and its standard error."""
    n = window.losses.astype(window.sum.dtype)
    spread = jnp.maximum(n * (n**2 - 1) / 12, 0.5)  # of the indices; 0 for a single loss
    slope = (window.moment - (n - 1) / 2 * window.sum) / spread
    residual = window.squares - window.sum**2 / n - slope**2 * spread
    variance = jnp.maximum(residual, 0) / jnp.maximum(n - 2, 1)
    return -slope, jnp.sqrt(variance / spread)
