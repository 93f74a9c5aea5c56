"""Reading a metric in a rule: its value, and whether it has been measured anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require

Arguments = Mapping[str, Any]  # the extra arguments of `update`
FROM_RUN = ("value", "grad", "value_fn", "grad_fn")  # what a run gives without a signal


def require_name(metric: Any, argument: str = "metric") -> None:
    """Requires the name of an argument of `update`."""
    if not isinstance(metric, str) or not metric.isidentifier():
        raise TypeError(f"`{argument}` must be the name of an argument of `update`, got {metric!r}")


def given(name: str, arguments: Arguments, rule: str) -> Any:
    """The extra argument of this name, which `update` must have been given."""
    if arguments.get(name) is None:
        signal = "" if name in FROM_RUN else f", in a run as the signal {name!r}"
        raise TypeError(
            f"`{name}` must be given to `update`: `{rule}` follows it. Call"
            f" `optimizer.update(grads, state, params, {name}=...)`{signal}."
        )
    return arguments[name]


def measured(metric: str, arguments: Arguments, rule: str) -> jax.Array:
    """The value of the metric in this update, a float scalar."""
    value = jnp.asarray(given(metric, arguments, rule), _require.float_dtype())
    if value.ndim:
        raise ValueError(f"`{metric}` must be a scalar, got one of shape {value.shape}")
    return value


def is_new(
    metric: str, arguments: Arguments, value: jax.Array, last: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Whether the metric has been measured anew, and the number of its last measurement.

    A running number is safer than a flag. Inside `optax.MultiSteps` a rule sees only every k-th
    update, so it may miss the update in which the flag is true.

    Args:
      metric: Name of the metric.
      arguments: The extra arguments of `update`. `measurement` decides if it is given, else
        `fresh`. Without both, every update has a new measurement.
      value: The value of the metric in this update.
      last: The number of the last measurement that the rule has seen.
    """
    fresh = _by_name("fresh", arguments).get(metric)
    fresh = jnp.asarray(True if fresh is None else fresh, jnp.bool_)
    number = _by_name("measurement", arguments).get(metric)
    if number is None:
        return fresh, last
    number = jnp.asarray(number, last.dtype)
    # Before the first measurement, a run gives NaN with the number 0, and not as fresh.
    unmeasured = (number == 0) & jnp.isnan(value) & ~fresh
    return (number != last) & ~unmeasured, number


def is_better(value: jax.Array, best: jax.Array, numbers: Mapping[str, Any]) -> jax.Array:
    """Whether a value is lower than the best one by more than the margin of `rtol` and `atol`."""
    margin = numbers["rtol"] * jnp.abs(best) + numbers["atol"]
    # Before the first measurement the best value is infinite, and so is the margin of `rtol`. Their
    # difference would be NaN, and no value is below NaN.
    target = jnp.where(jnp.isfinite(best), best - margin, best)
    return value < target


def freshness(signal: str, arguments: Arguments, rule: str) -> jax.Array:
    """Whether a signal has been measured anew, by its flag alone.

    The flag depends only on the run's own index, so it has no batch axis under `vmap`, and a branch
    on it stays a branch. The number of the last measurement has a batch axis.
    """
    flag = _by_name("fresh", arguments).get(signal)
    if flag is None:
        raise TypeError(
            f"`fresh` must be given to `update` with {signal!r}: `{rule}` measures with it."
            f" Call `optimizer.update(grads, state, params, fresh={{{signal!r}: ...}})`; in a run"
            f" give it `signals={{{signal!r}: lrax.every(...)}}`."
        )
    return jnp.asarray(flag, jnp.bool_)


def _by_name(argument: str, arguments: Arguments) -> Mapping[str, ArrayLike]:
    """An extra argument that is a dict with names of metrics as keys; empty if it was not given."""
    given = arguments.get(argument)
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"`{argument}` must be a dict by the names of signals, got {given!r}")
    return given or {}
