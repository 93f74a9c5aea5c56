"""`plateau`: lowers the rate when a metric has stopped improving."""

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


class PlateauState(NamedTuple):
    """State of `plateau`; every field has the shape ()."""

    scale: jax.Array  # float32: the factor on the schedule
    # float32: the best metric, or the metric of a later spike; infinite before the first; negated
    # for mode "max"
    best: jax.Array
    bad: jax.Array  # int32: measurements since the last improvement or reduction
    cooldown: jax.Array  # int32: measurements of the cooldown that are left
    # int32: the number of the last measurement that the rule has seen, -1 before the first
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
    spike: ArrayLike = np.inf,
    restart: bool = False,
) -> RateRule:
    r"""Multiplies the rate by `factor` each time that a metric has stopped improving.

    $$\text{better} = m < \text{best} - (\text{rtol} \, |\text{best}| + \text{atol}), \qquad
      s \leftarrow \max(s \cdot \text{factor}, \text{floor}) \text{ when } \text{bad} >
      \text{patience}$$

    `m` is the metric, `s` the scale, and `bad` the number of measurements since the last better
    one. Use it if the length of the run is not known in advance, as a factor of a warmup and a
    constant rate. `factor=0.5` and `patience=5` measurements of a validation loss are a good start.
    The loss of a minibatch is noisy: with `metric="value"`, let `patience` be hundreds of updates.
    On that loss the default of 10 made Adam worse on six of six small tasks, with 1.7 times the
    loss of a swept rate in the median. On the validation loss it did no harm
    (`python -m tests.benchmarks.controllers`). If the length is known, a schedule that decays to
    zero is usually better.

    The metric given to an update decides the rate of that same update. Patience and cooldown
    count measurements, not updates. A measurement is new if its number in
    `measurement={metric: number}` differs from the last one that the rule has seen. Without
    `measurement`, it is new if `fresh={metric: bool}` says so. Without both, every update has a new
    measurement. A run sets all three arguments for its signals.

    It follows PyTorch's or Keras' `ReduceLROnPlateau`. PyTorch's `threshold` is `rtol` or `atol`,
    by its `threshold_mode`; its `min_lr` and `eps`, divided by the base rate, are `floor` and
    `eps`. For negative metrics PyTorch's relative threshold accepts a worse value; `rtol` here does
    not. Keras' `min_delta` is `atol` with `rtol=0`.

    Neither framework has `spike` and `restart`. After a spike, a metric that recovers may take long
    to reach the best value again, and both frameworks take that for a plateau. With `spike=0.5`, a
    metric more than 50 % worse than the best value replaces it, and later metrics are compared with
    the spike. With `restart=True`, a plateau at the lowest scale leads to a warm restart.

    Args:
      factor: Factor of a reduction, from 0 to 1; 1 never reduces.
      patience: How many measurements may pass without improvement, at least 0.
      metric: Name of the extra argument of `update` to follow. "value" is the training loss.
      mode: "min" where lower is better, "max" where higher is.
      rtol: By which fraction of the best value a better one must improve on it, at least 0.
      atol: By how much a better value must improve on the best one, in the unit of the metric, at
        least 0. It is added to the margin of `rtol`.
      cooldown: How many measurements after a reduction do not count as bad, at least 0.
      floor: Lowest scale, at least 0, relative to the schedule.
      eps: A reduction of the scale by this or less is not made, at least 0. Keras has no such rule,
        so `counting="keras"` does not use it.
      counting: "torch" reduces when the number of bad measurements exceeds `patience`. "keras"
        reduces when the number reaches `patience` (0 counts as 1), unless the scale is at the
        floor. After a reduction, "torch" ignores `cooldown` measurements, and "keras" one fewer.
      nan: "bad" counts a NaN as no improvement, "ignore" as no measurement. A NaN is never the
        best value.
      spike: A metric is a spike if it is worse than the best value by more than this fraction of
        it, at least 0; infinite for no spikes. A spike counts as bad, and replaces the best value.
      restart: Whether a reduction that is due at the lowest scale restarts the rule: the scale is 1
        again, and the best value is forgotten. The lowest scale is `floor`, or one that the next
        reduction would lower by `eps` or less. Without it, the scale stays there.

    Returns:
      A `RateRule` whose rate is a scale that starts at 1. Multiply it with a schedule or a number.
      Every number may be traced, so a sweep can vary it.

    Raises:
      ValueError: if a concrete number is out of its range, infinite, NaN or an array, or `mode`,
        `counting` or `nan` is unknown.
      TypeError: if an argument is not of its type, or `update` was not given the metric.

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
    numbers = _require.scalars(
        factor=factor,
        patience=patience,
        rtol=rtol,
        atol=atol,
        cooldown=cooldown,
        floor=floor,
        eps=eps,
        spike=spike,
    )
    _require.nonnegative(numbers, *(name for name in numbers if name != "spike"))
    _require.not_below(numbers, 0, "spike")
    require_factor(numbers)
    _require.choice("mode", mode, ("min", "max"))
    _require.choice("counting", counting, ("torch", "keras"))
    _require.choice("nan", nan, ("bad", "ignore"))
    _require.flag("restart", restart)
    require_name(metric)

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
        count: jax.Array, state: PlateauState, /, **arguments: Argument
    ) -> tuple[jax.Array, PlateauState]:
        del count  # measurements are counted, not updates
        value = measured(metric, arguments, "plateau")
        new, number = is_new(metric, arguments, value, state.measurement)
        if nan == "ignore":
            new = new & ~jnp.isnan(value)
        # The next state is computed in every update, and used if there was a measurement. Under
        # `vmap` a branch would compute both sides too.
        after = _after(state, -value if mode == "max" else value, numbers, counting, restart)
        state = jax.tree.map(lambda old, then: jnp.where(new, then, old), state, after)
        return state.scale, state._replace(measurement=number)

    words = {"metric": metric, "mode": mode, "counting": counting, "nan": nan}
    given = {**numbers, **words, "restart": restart}
    name = call_text("controllers.plateau", plateau, given)
    return RateRule(init, rate, first=lambda state: state.scale, name=name)


def _after(
    state: PlateauState, value: jax.Array, numbers: Numbers, counting: str, restart: bool
) -> PlateauState:
    """The state after one more measurement."""
    better = is_better(value, state.best, numbers)
    cooling = state.cooldown > 0
    cooldown = jnp.maximum(state.cooldown - 1, 0)
    # When a measurement brings the cooldown down to 0, Keras already lets it count as bad. PyTorch
    # ignores it as the last one.
    ignored = cooldown > 0 if counting == "keras" else cooling
    # The count of bad measurements starts again during a cooldown.
    bad = jnp.where(better | ignored, 0, jnp.where(cooling, 0, state.bad) + 1)

    lower = jnp.maximum(state.scale * numbers["factor"], numbers["floor"])
    if counting == "keras":
        due = bad >= jnp.maximum(numbers["patience"], 1)
        reduced = due & (state.scale > numbers["floor"])
        # With the scale at the floor, Keras neither reduces nor starts a cooldown.
        due = due if restart else reduced
    else:
        # PyTorch starts a cooldown even if the reduction is too small to be made.
        due = bad > numbers["patience"]
        reduced = due & (state.scale - lower > numbers["eps"])
    scale = jnp.where(reduced, lower, state.scale)
    spiked = value > state.best + numbers["spike"] * jnp.abs(state.best)
    best = jnp.where(better | spiked, value, state.best)
    if restart:
        again = due & ~reduced
        scale, best = jnp.where(again, 1, scale), jnp.where(again, jnp.inf, best)
    # A swept number may be fractional; the state counts whole measurements.
    rest = jnp.ceil(numbers["cooldown"])
    return PlateauState(
        scale=scale,
        best=best,
        bad=jnp.where(due, 0, bad).astype(jnp.int32),
        cooldown=jnp.where(due, rest, cooldown).astype(jnp.int32),
        measurement=state.measurement,
    )
