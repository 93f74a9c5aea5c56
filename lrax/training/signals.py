"""Signals: values that are measured every n updates and handed to the optimizer's `update`.

The lane holds the last value of each signal, and every `update` gets these values. So a rule that
follows the validation loss works inside one compiled program.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax import lax, numpy as jnp

from .. import _require

# Names that no signal may have: arguments that the run itself hands to `update`, among them
# `params`, which is the third positional one.
RESERVED = ("value", "grad", "value_fn", "grad_fn", "fresh", "measurement", "params")


class Signal(NamedTuple):
    """The state of one signal."""

    value: Any  # from the last measurement; before the first one NaN, or 0 for integers
    measurement: jax.Array  # shape=(), dtype=int32; the number of measurements so far


@dataclasses.dataclass(frozen=True)
class Every:
    """A function that is measured every `n` updates; made by `lrax.every`."""

    n: int
    function: Callable[..., Any]

    @property
    def of_step(self) -> bool:
        """Whether the function takes a `Step`: its first parameter is then called `step`."""
        return next(iter(inspect.signature(self.function).parameters), None) == "step"


Signals = Mapping[str, Every]


def every(n: int, function: Callable[..., Any]) -> Every:
    """A measurement for the `signals` of `lrax.train` and `lrax.sweep`: every `n` updates.

    Use it to let a rule follow the validation loss: `lrax.controllers.plateau(metric="val_loss")`
    with `signals={"val_loss": lrax.every(100, val_loss)}`. The function is called only in every
    n-th update. `update` also gets `fresh`: `fresh[name]` is true in an update that gets a new
    value. All other updates get the last value again.

    Args:
      n: Updates between two measurements, at least 1.
      function: What is measured: a pure function. A function of `(params)` or `(params, state)`
        returns a scalar or a pytree of arrays. It is called before the updates 0, n, 2n, ..., and
        these updates get its value. A function whose first parameter is called `step` returns a
        scalar. It is called after the updates 0, n, 2n, ... with their `Step`, and the updates
        1, n + 1, 2n + 1, ... get its value.

    Returns:
      An `Every`.

    Raises:
      ValueError: if `n` is below 1.
      TypeError: if `n` is not an int, or `function` is not a function with parameters.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> val_loss = lrax.every(10, lambda params: task.evaluate(params)["val_loss"])
      >>> def sgd(learning_rate):
      ...     rule = learning_rate * lrax.controllers.plateau(patience=2, metric="val_loss")
      ...     return lrax.scale_by_lr(rule)
      >>> train = lrax.train(task, sgd, steps=50, signals={"val_loss": val_loss})
      >>> train({"learning_rate": 0.1}, jax.random.key(0)).losses.shape
      (50,)
    """
    n = _require.count("n", n, 1)
    if not callable(function):
        raise TypeError(f"`function` must be a function of params or of a step, got {function!r}")
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise TypeError(f"`function` must have a readable signature, got {function!r}") from error
    if not parameters:
        raise TypeError(f"`function` must take params, (params, state) or a step, got {function!r}")
    return Every(n, function)


def as_signals(signals: Any) -> dict[str, Every]:
    """The signals that a caller gave, checked."""
    if not isinstance(signals, Mapping):
        raise TypeError(f"`signals` must be {{name: lrax.every(n, function)}}, got {signals!r}")
    for name, signal in signals.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"`signals` must be named like arguments of `update`, got {name!r}")
        if name in RESERVED:
            raise ValueError(
                f"`signals` must not be named {name!r}, which the run hands to `update` itself"
            )
        if not isinstance(signal, Every):
            raise TypeError(f"`signals[{name!r}]` must be lrax.every(n, function), got {signal!r}")
    return dict(signals)


def unmeasured(signal: Every, params: Any, state: Any) -> Signal:
    """A signal before its first measurement.

    The shape that a function of a step returns is not known before the first step, so its value
    must be a scalar.
    """
    count = jnp.zeros([], jnp.int32)
    if signal.of_step:
        return Signal(jnp.full([], jnp.nan, _require.float_dtype()), count)
    shapes = jax.eval_shape(lambda: _measured(signal, params, state))
    return Signal(jax.tree.map(_blank, shapes), count)


def refreshed(
    signals: Signals,
    now: dict[str, Signal],
    index: jax.Array,
    params: Any = None,
    state: Any = None,
    *,
    step: Any = None,
) -> dict[str, Signal]:
    """The signals after the measurements that are due in this update.

    A run calls this twice in every update. The call before the optimizer's `update` has the
    parameters, and measures the functions of these. The call after it has the `Step`, and measures
    the functions of a step.
    """
    found = dict(now)
    for name, signal in signals.items():
        if signal.of_step != (step is not None):
            continue
        found[name] = _refreshed(signal, now[name], index, params, state, step)
    return found


def update_arguments(now: dict[str, Signal], index: jax.Array, signals: Signals) -> dict[str, Any]:
    """The extra arguments for `update`: the values by name, `fresh` and `measurement`."""
    if not signals:
        return {}
    fresh = {}
    for name, signal in signals.items():
        # A function of the step of update t is measured after it, so update t + 1 gets the value.
        at = index - 1 if signal.of_step else index
        fresh[name] = (at >= 0) & (at % signal.n == 0)
    values = {name: signal.value for name, signal in now.items()}
    numbers = {name: signal.measurement for name, signal in now.items()}
    return {**values, "fresh": fresh, "measurement": numbers}


def _refreshed(
    signal: Every, now: Signal, index: Any, params: Any, state: Any, step: Any
) -> Signal:
    def measure() -> Any:
        if signal.of_step:
            value = jnp.asarray(signal.function(step), _require.float_dtype())
            if value.shape:
                raise TypeError(f"a signal of a step must be a scalar, got shape {value.shape}")
            return value
        return _measured(signal, params, state)

    # The index has no batch axis, so under `vmap` this remains a `cond` and does not become a
    # `select`. A signal that is not due costs nothing.
    is_due = index % signal.n == 0
    value = lax.cond(is_due, measure, lambda: now.value)
    return Signal(value, now.measurement + is_due.astype(jnp.int32))


def _measured(signal: Every, params: Any, state: Any) -> Any:
    parameters = inspect.signature(signal.function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    arguments = (params, state) if len(required) > 1 else (params,)
    return jax.tree.map(jnp.asarray, signal.function(*arguments))


def _blank(shape: jax.ShapeDtypeStruct) -> jax.Array:
    is_float = jnp.issubdtype(shape.dtype, jnp.inexact)
    return jnp.full(shape.shape, jnp.nan if is_float else 0, shape.dtype)
