"""`greedy`: raises the rate while a metric improves, and lowers it while it does not."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule
from .calls import call_text
from .measurements import is_better, is_new, measured, require_name
from .numbers import Numbers, require_factor

Params = Any
Argument = Any  # an extra argument of `update`: an array, or a dict of them


class GreedyState(NamedTuple):
    """State of `greedy`; every field but `recent` has the shape ()."""

    scale: jax.Array  # float32: the factor on the schedule
    best: jax.Array  # float32: the best metric, infinite before the first; negated for mode "max"
    streak: jax.Array  # int32: good measurements in a row, or minus the bad ones in a row
    pause: jax.Array  # int32: how many of the next measurements are ignored
    stuck: jax.Array  # int32: reductions with the scale at the floor, since an increase or a reset
    recent: jax.Array  # float32 [window]: the last metrics, the newest last
    filled: jax.Array  # int32: how many entries of `recent` have been measured
    # int32: the number of the last measurement that the rule has seen, -1 before the first
    measurement: jax.Array


def greedy(
    *,
    factor: ArrayLike = 0.95,
    patience: ArrayLike = 10,
    metric: str = "value",
    mode: Literal["min", "max"] = "min",
    rtol: ArrayLike = 0.0,
    atol: ArrayLike = 1e-6,
    cooldown: ArrayLike = 0,
    warmup: ArrayLike = 0,
    floor: ArrayLike = 0.0,
    ceiling: ArrayLike = np.inf,
    eps: ArrayLike = 1e-8,
    window: int | None = None,
    reset_after: ArrayLike = 500,
) -> RateRule:
    r"""Divides the rate by `factor` after several good metrics, and multiplies it after bad ones.

    $$\text{good} = m < \text{best} - (\text{rtol} \, |\text{best}| + \text{atol}), \qquad
      s \leftarrow \begin{cases} \min(s / \text{factor}, \text{ceiling}) &
      \text{good in a row} > \text{patience} \\ \max(s \cdot \text{factor}, \text{floor}) &
      \text{bad in a row} > \text{patience} \end{cases}$$

    `m` is the metric, `s` the scale. Use it if the rate may be too low or too high, and the length
    of the run is not known. The defaults are those of the method. Set `floor` and `ceiling` to the
    range to be tried, such as 0.01 and 10. The loss of a minibatch is noisy: smooth it over
    `window=50` updates. A training loss that falls at every update drives the rate up until it is
    too large, so a `ceiling` is advisable.

    The metric given to an update decides the rate of that same update. Measurements are counted as
    in `lrax.controllers.plateau`. The rule ignores `cooldown` metrics after a reduction, and
    `warmup` metrics after an increase, even if a bound kept the rate from changing. Ignored metrics
    do not become the best value either.

    It follows `GreedyLR` of transformers. Its `threshold` is `rtol` or `atol`, by its
    `threshold_mode`; its `min_lr`, `max_lr` and `eps`, divided by the base rate, are `floor`,
    `ceiling` and `eps`. Two things differ. For negative metrics its relative threshold accepts a
    worse value; `rtol` here does not. With `smooth`, one NaN makes its moving sum NaN for ever.
    Here the mean is NaN, and so counts as bad, only while the NaN is in the window.

    Args:
      factor: Factor of a reduction, above 0 and at most 1; 1 never changes the rate.
      patience: How many measurements in a row may be good, or bad, without a change, at least 0.
      metric: Name of the extra argument of `update` to follow. "value" is the training loss.
      mode: "min" where lower is better, "max" where higher is.
      rtol: By which fraction of the best value a good value must improve on it, at least 0.
      atol: By how much a good value must improve on the best one, in the unit of the metric, at
        least 0. It is added to the margin of `rtol`.
      cooldown: How many measurements are ignored after a reduction, at least 0.
      warmup: How many measurements are ignored after an increase, at least 0.
      floor: Lowest scale that a reduction gives, at least 0, relative to the schedule.
      ceiling: Highest scale that an increase gives, at least `floor`; infinite for none.
      eps: A change of the scale by this or less is not made, at least 0.
      window: Length of the moving mean that is compared, in measurements, at least 1. None compares
        the metric itself. It is the length of an array, so it cannot be traced.
      reset_after: After this many reductions that leave the scale at the floor, the scale starts
        again at 1 and the best value is forgotten; at least 0, infinite for no reset. An increase
        sets the count of such reductions to 0.

    Returns:
      A `RateRule` whose rate is a scale that starts at 1. Multiply it with a schedule or a number.
      Every number but `window` may be traced, so a sweep can vary it.

    Raises:
      ValueError: if a concrete number is out of its range, infinite, NaN or an array, or `mode` is
        unknown.
      TypeError: if an argument is not of its type, or `update` was not given the metric.

    Example:
      >>> rule = 0.1 * lrax.controllers.greedy(factor=0.5, patience=1, metric="val_loss")
      >>> optimizer = lrax.scale_by_lr(rule)
      >>> state = optimizer.init(jnp.ones(2))
      >>> for val_loss in (3.0, 2.0, 2.5, 2.6):
      ...     updates, state = optimizer.update(jnp.ones(2), state, val_loss=val_loss)
      ...     print(f"{lrax.get_lr(state):.3f}")
      0.100
      0.200
      0.200
      0.100

    Reference:
      Subramanian and Ganapathiraman 2025, "GreedyLR: A Novel Adaptive Learning Rate Scheduler",
      arXiv:2512.14527; `transformers.optimization.GreedyLR`.
    """
    numbers = _require.scalars(
        factor=factor,
        patience=patience,
        rtol=rtol,
        atol=atol,
        cooldown=cooldown,
        warmup=warmup,
        floor=floor,
        ceiling=ceiling,
        eps=eps,
        reset_after=reset_after,
    )
    finite = [name for name in numbers if name not in ("ceiling", "reset_after")]
    _require.nonnegative(numbers, *finite)
    _require.positive(numbers, "factor")
    require_factor(numbers)
    _require.at_most("`ceiling` must be at least `floor`", numbers["floor"], numbers["ceiling"])
    _require.not_below(numbers, 0, "reset_after")
    _require.choice("mode", mode, ("min", "max"))
    require_name(metric)
    length = 0 if window is None else _require.count("window", window, 1)

    def init(params: Params) -> GreedyState:
        del params
        dtype = _require.float_dtype()
        zero = jnp.zeros([], jnp.int32)
        return GreedyState(
            scale=jnp.ones([], dtype),
            best=jnp.full([], jnp.inf, dtype),
            streak=zero,
            pause=zero,
            stuck=zero,
            recent=jnp.zeros([length], dtype),
            filled=zero,
            measurement=jnp.full([], -1, jnp.int32),
        )

    def rate(
        count: jax.Array, state: GreedyState, /, **arguments: Argument
    ) -> tuple[jax.Array, GreedyState]:
        del count  # measurements are counted, not updates
        value = measured(metric, arguments, "greedy")
        new, number = is_new(metric, arguments, value, state.measurement)
        # The next state is computed in every update, and used if there was a measurement. Under
        # `vmap` a branch would compute both sides too.
        after = _after(state, -value if mode == "max" else value, numbers)
        state = jax.tree.map(lambda old, then: jnp.where(new, then, old), state, after)
        return state.scale, state._replace(measurement=number)

    words = {"metric": metric, "mode": mode, "window": window}
    name = call_text("controllers.greedy", greedy, {**numbers, **words})
    return RateRule(init, rate, first=lambda state: state.scale, name=name)


def _after(state: GreedyState, value: jax.Array, numbers: Numbers) -> GreedyState:
    """The state after one more measurement."""
    recent, filled, value = _smoothed(state, value)
    paused = state.pause > 0
    good = is_better(value, state.best, numbers)
    longer = jnp.where(good, jnp.maximum(state.streak, 0) + 1, jnp.minimum(state.streak, 0) - 1)
    streak = jnp.where(paused, 0, longer)
    raised = streak > numbers["patience"]
    lowered = -streak > numbers["patience"]

    higher = jnp.minimum(state.scale / numbers["factor"], numbers["ceiling"])
    lower = jnp.maximum(state.scale * numbers["factor"], numbers["floor"])
    higher = jnp.where(higher - state.scale > numbers["eps"], higher, state.scale)
    lower = jnp.where(state.scale - lower > numbers["eps"], lower, state.scale)
    scale = jnp.where(raised, higher, jnp.where(lowered, lower, state.scale))

    stuck = state.stuck + (lowered & (scale <= numbers["floor"]))
    reset = lowered & (scale <= numbers["floor"]) & (stuck >= numbers["reset_after"])
    # A swept number may be fractional; the state counts whole measurements. A reset is followed by
    # the same pause as a reduction.
    rest = jnp.where(
        raised,
        jnp.ceil(numbers["warmup"]),
        jnp.where(lowered, jnp.ceil(numbers["cooldown"]), jnp.maximum(state.pause - 1, 0)),
    )
    return GreedyState(
        scale=jnp.where(reset, 1, scale),
        best=jnp.where(reset, jnp.inf, jnp.where(good & ~paused, value, state.best)),
        streak=jnp.where(raised | lowered, 0, streak),
        pause=rest.astype(jnp.int32),
        stuck=jnp.where(raised | reset, 0, stuck),
        recent=recent,
        filled=jnp.where(reset, 0, filled),
        measurement=state.measurement,
    )


def _smoothed(state: GreedyState, value: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The last metrics, how many there are, and their mean, or the metric if there is no window."""
    length = state.recent.shape[0]
    if length == 0:
        return state.recent, state.filled, value
    recent = jnp.append(state.recent[1:], value)
    filled = jnp.minimum(state.filled + 1, length)
    # Summed anew each time: a running sum would keep a NaN and all rounding errors.
    measured = jnp.arange(length) >= length - filled
    return recent, filled, jnp.sum(jnp.where(measured, recent, 0)) / filled
