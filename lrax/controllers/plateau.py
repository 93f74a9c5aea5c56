"""`plateau`: a lower rate once a metric has stopped improving."""

from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule, one_rate
from .calls import call_text
from .measurements import is_new, measured

Params = Any


class PlateauState(NamedTuple):
    """State of `plateau`; every field has the shape ()."""

    scale: jax.Array  # float32: what multiplies the schedule
    best: jax.Array  # float32: the best metric, infinite before the first; negated for mode "max"
    bad: jax.Array  # int32: measurements without improvement, since the last one or a reduction
    cooldown: jax.Array  # int32: measurements of the cooldown still to come
    # int32: the number of the last measurement seen, -1 before the first
    measurement: jax.Array


def plateau(
    *,
    factor: ArrayLike = 0.1,
    patience: ArrayLike = 10,
    metric: str = "value",
    mode: Literal["min", "max"] = "min",
    rtol: ArrayLike = 1e-4,
    atol: ArrayLike = 0.0,
    cooldown: ArrayLike = 0,
    floor: ArrayLike = 0.0,
    eps: ArrayLike = 1e-8,
    counting: Literal["torch", "keras"] = "torch",
    nan: Literal["bad", "ignore"] = "bad",
) -> RateRule:
    r"""Multiplies the rate by `factor` each time that a metric has stopped improving.

    $$\text{better} = m < \text{best} - (\text{rtol} \, |\text{best}| + \text{atol}), \qquad
      s \leftarrow \max(s \cdot \text{factor}, \text{floor}) \text{ when } \text{bad} >
      \text{patience}$$

    `bad` counts the measurements since the last better one. Use it where the length of the run is
    not known before, as a factor of a warmup and a constant rate; `factor=0.5` and `patience=5`
    measurements of a validation loss are a good start. The loss of a minibatch is noisy: with
    `metric="value"`, let `patience` be hundreds of updates. Where the length is known, a schedule
    that decays to zero is usually better.

    The metric handed to an update decides the rate of that same update. Patience and cooldown
    count measurements, not updates: the rule remembers the last number in
    `measurement={metric: number}` that it has seen, and a new number is a new measurement. Without
    `measurement` it goes by `fresh={metric: bool}`. Without both, every update is a measurement.
    The signals of a run set all three arguments.

    It follows PyTorch's or Keras' `ReduceLROnPlateau`. PyTorch's `threshold` is `rtol` or `atol`
    by its mode, and `min_lr` and `eps` divided by the base rate are `floor` and `eps`. For negative
    metrics PyTorch's relative threshold accepts a worse value; `rtol` here does not. Keras'
    `min_delta` is `atol` with `rtol=0`.

    Args:
      factor: Factor of a reduction, from 0 to 1; 1 never reduces.
      patience: How many measurements may pass without improvement, at least 0.
      metric: Name of the extra argument of `update` to follow. "value" is the training loss.
      mode: "min" where lower is better, "max" where higher is.
      rtol: Part of the best value, at least 0, by which a better one must improve on it.
      atol: Amount, at least 0, in the metric's unit, by which a better value must improve on it.
      cooldown: How many measurements after a reduction do not count as bad, at least 0.
      floor: Lowest scale, at least 0, relative to the schedule.
      eps: A reduction by no more than this, relative to the schedule, is left out. At least 0.
        Keras has no such rule: `counting="keras"` does not use it.
      counting: "torch" reduces when the bad measurements exceed `patience`, "keras" when they
        reach it (0 is as 1) and are of a scale above the floor. After a reduction "torch" ignores
        `cooldown` measurements, "keras" one fewer.
      nan: "bad" counts a NaN as no improvement, "ignore" as no measurement. A NaN is never the
        best value.

    Returns:
      A `RateRule` whose rate is a scale from 1 down. Multiply it with a schedule or a number. Every
      number may be traced, so a sweep may sweep it.

    Raises:
      ValueError: if a known number is out of its range, infinite, NaN or no scalar, or a word is
        unknown.
      TypeError: if a number is no number, `metric` is no name, or `update` was not given the
        metric.

    Example:
      >>> rule = 0.1 * lrax.controllers.plateau(factor=0.5, patience=0, metric="val_loss")
      >>> optimizer = lrax.scale_by_lr(rule)
      >>> state = optimizer.init(jnp.ones(2))
      >>> for val_loss in (3.0, 2.0, 2.5, 2.6):
      ...     updates, state = optimizer.update(jnp.ones(2), state, val_loss=val_loss)
      ...     print(f"{lrax.get_lr(state):.3f}")
      0.100
      0.100
      0.050
      0.025

    Reference:
      `torch.optim.lr_scheduler.ReduceLROnPlateau`, `keras.callbacks.ReduceLROnPlateau`.
    """
    numbers = _numbers(
        factor=factor,
        patience=patience,
        rtol=rtol,
        atol=atol,
        cooldown=cooldown,
        floor=floor,
        eps=eps,
    )
    _require.choice("mode", mode, ("min", "max"))
    _require.choice("counting", counting, ("torch", "keras"))
    _require.choice("nan", nan, ("bad", "ignore"))
    if not isinstance(metric, str) or not metric.isidentifier():
        raise TypeError(f"`metric` must be the name of an argument of `update`, got {metric!r}")

    def init(params: Params) -> PlateauState:
        del params
        return PlateauState(
            scale=jnp.ones([], _require.float_dtype()),
            best=jnp.full([], jnp.inf, _require.float_dtype()),
            bad=jnp.zeros([], jnp.int32),
            cooldown=jnp.zeros([], jnp.int32),
            measurement=jnp.full([], -1, jnp.int32),
        )

    def rate(
        count: jax.Array, state: PlateauState, /, **arguments: Any
    ) -> tuple[jax.Array, PlateauState]:
        del count
        value = measured(metric, arguments, "plateau")
        new, number = is_new(metric, arguments, value, state.measurement)
        if nan == "ignore":
            new = new & ~jnp.isnan(value)
        after = _after(state, -value if mode == "max" else value, numbers, counting)
        state = jax.tree.map(lambda old, then: jnp.where(new, then, old), state, after)
        return state.scale, state._replace(measurement=number)

    words = {"metric": metric, "mode": mode, "counting": counting, "nan": nan}
    name = call_text("controllers.plateau", plateau, {**numbers, **words})
    return RateRule(init, rate, first=lambda state: state.scale, name=name)


def _after(
    state: PlateauState, value: jax.Array, numbers: dict[str, Any], counting: str
) -> PlateauState:
    """The state after one more measurement."""
    margin = numbers["rtol"] * jnp.abs(state.best) + numbers["atol"]
    # Infinity less a part of itself is NaN, and nothing is below it.
    target = jnp.where(jnp.isfinite(state.best), state.best - margin, state.best)
    better = value < target
    cooling = state.cooldown > 0
    cooldown = jnp.maximum(state.cooldown - 1, 0)
    # Keras counts a measurement as it counts the cooldown down to 0, PyTorch from the next one on.
    ignored = cooldown > 0 if counting == "keras" else cooling
    bad = jnp.where(better | ignored, 0, jnp.where(cooling, 0, state.bad) + 1)

    lower = jnp.maximum(state.scale * numbers["factor"], numbers["floor"])
    if counting == "keras":
        # It goes on waiting where the scale is at the floor, and starts no cooldown.
        due = (bad >= jnp.maximum(numbers["patience"], 1)) & (state.scale > numbers["floor"])
        reduced = due
    else:
        due = bad > numbers["patience"]
        reduced = due & (state.scale - lower > numbers["eps"])
    rest = jnp.ceil(numbers["cooldown"])
    return PlateauState(
        scale=jnp.where(reduced, lower, state.scale),
        best=jnp.where(better, value, state.best),
        bad=jnp.where(due, 0, bad).astype(jnp.int32),
        cooldown=jnp.where(due, rest, cooldown).astype(jnp.int32),
        measurement=state.measurement,
    )


def _numbers(**values: ArrayLike) -> dict[str, Any]:
    numbers = _require.real(**values)
    for name, value in numbers.items():
        one_rate(value, name)
    _require.nonnegative(numbers, *numbers)
    _require.at_most("`factor` must be at most 1", numbers["factor"], np.float32(1))
    return numbers
