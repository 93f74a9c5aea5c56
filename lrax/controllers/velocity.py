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
    """Sums over the losses of a window, to which a line is fitted.

    Every shape is (). A float is float32, or float64 under x64. The first loss is subtracted from
    each loss before it is summed, because large sums would lose digits.
    """

    losses: jax.Array  # int32: the number of losses
    first: jax.Array  # float: the first loss
    sum: jax.Array  # float
    moment: jax.Array  # float: the sum of each loss times its index
    squares: jax.Array  # float: the sum of the squares


class VelocityState(NamedTuple):
    """State of `velocity`.

    Every shape is (). A float is float32, or float64 under x64.
    """

    scale: jax.Array  # float: the factor on the schedule
    trying: jax.Array  # bool: whether a raise is under way, neither kept nor taken back yet
    before: jax.Array  # float: the scale before the raise
    speed: jax.Array  # float: how much the loss fell per measurement, before the raise
    error: jax.Array  # float: the standard error of `speed`
    size: jax.Array  # float: the exponent of `up`, which shrinks after each raise taken back
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

    The rule decides at the end of each window of losses. It first multiplies the scale by `up`, a
    raise. At the end of the next window it keeps the raise, and raises again, if
    $v_\text{after} - v_\text{before} > \text{errors} \cdot
    \sqrt{e_\text{after}^2 + e_\text{before}^2}$, where $e$ is the standard error of the slope.
    Otherwise it takes the raise back, and the next raise is smaller: its factor is
    $\text{up}^{\text{shrink}^n}$ after $n$ raises were taken back. With no raise under way, it
    multiplies the scale by `down` if the loss has risen over the window
    ($v < -\text{errors} \cdot e$) or the sums have overflowed. At `ceiling` it does not raise.

    Use it early in a long run, as a factor of a warmup and a constant rate that may be far too low.
    The rule sees only how fast the loss falls now. This favours rates that are too low for the
    whole run. A loss also falls faster while the schedule decays, and the rule takes that for the
    success of a raise. So let the schedule decay only after the search, or bound the search by
    `ceiling`.

    This is the search of AdaLRS with four changes. AdaLRS also restores the model's parameters when
    it takes a raise back; a rule decides only the rate. AdaLRS lowers the rate where the loss fell
    more slowly after a raise, by more than the error; here only a rising loss lowers it. AdaLRS
    raises the rate once the loss has slowed; here every window without a raise under way ends with
    a raise, unless the loss has risen. The factors of AdaLRS shrink with time; here they shrink
    each time that a raise is taken back.

    Args:
      up: Factor of a raise, at least 1.
      down: Factor after a loss that has risen, from 0 to 1.
      window: Measurements in a window, at least 3. The loss of a minibatch is noisy: 100 is a low
        number for it.
      errors: By how many standard errors $v$ must have changed, or the loss must have risen, at
        least 0.
      shrink: Factor on the logarithm of later raises, for each raise taken back, from 0 to 1.
      metric: Name of the extra argument of `update` to follow. "value" is the training loss.
      floor: Lowest scale, at least 0 and at most `ceiling`, relative to the schedule.
      ceiling: Highest scale, relative to the schedule; infinite for none.

    Returns:
      A `RateRule` whose rate is a scale that starts at 1, or at the bound nearest to 1. Multiply it
      with a schedule or a number. At a loss that is not finite, a raise under way is taken back at
      once; without one, the loss is ignored. Every number may be traced, so a sweep can vary it.

    Raises:
      ValueError: if a concrete number is out of its range or NaN, or a number is not a scalar.
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
      pretraining", 2025, arXiv:2506.13274. Its full text could not be read. The description above
      follows its abstract and the summary in Yin et al., "SAIL-VL2 technical report", 2025,
      arXiv:2509.14033.
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
    # `ceiling` may be infinite, which the other requirements refuse.
    _require.at_most("`floor` must be at most `ceiling`", numbers["floor"], numbers["ceiling"])
    require_name(metric)

    def init(params: Params) -> VelocityState:
        del params
        zero = jnp.zeros([], _require.float_dtype())
        scale = jnp.clip(zero + 1, numbers["floor"], numbers["ceiling"])
        return VelocityState(
            scale=scale,
            trying=jnp.zeros([], jnp.bool_),
            before=scale,
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
        # A loss that is not finite is ignored, unless a raise is under way, which is taken back.
        new = new & (finite | state.trying)
        state = jax.tree.map(lambda old, updated: jnp.where(new, updated, old), state, after)
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
    # An exploding loss overflows the sums, which makes the speed or its error NaN. A comparison
    # with NaN is false, so the test is "not steady or falling", and NaN counts as rising.
    rising = ~(speed >= -numbers["errors"] * error)
    taken_back = ended & state.trying & ~faster
    # At the ceiling a raise would change nothing, and taking it back would shrink later raises.
    possible = state.scale < numbers["ceiling"]
    raised = ended & possible & jnp.where(state.trying, faster, ~rising)
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
    # The sum of the squares of the indices about their mean. For a single loss it is 0, and the
    # maximum keeps the division below defined.
    spread = jnp.maximum(n * (n**2 - 1) / 12, 0.5)
    slope = (window.moment - (n - 1) / 2 * window.sum) / spread
    residual = window.squares - window.sum**2 / n - slope**2 * spread
    variance = jnp.maximum(residual, 0) / jnp.maximum(n - 2, 1)
    return -slope, jnp.sqrt(variance / spread)
