"""Detection of spikes: values far above those of a window before them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from .. import _require


class History(NamedTuple):
    """The last values of a metric, in a ring buffer."""

    values: jax.Array  # shape (window,), float32; NaN for no value yet, or one that was not finite
    seen: jax.Array  # shape (), int32: how many values have been seen, finite or not


def no_history(window: int) -> History:
    """A history before the first value."""
    values = jnp.full([window], jnp.nan, _require.float_dtype())
    return History(values, jnp.zeros([], jnp.int32))


def with_value(history: History, value: jax.Array) -> History:
    """The history with one more value."""
    window = len(history.values)
    value = jnp.where(jnp.isfinite(value), value, jnp.nan)
    values = history.values.at[history.seen % window].set(value)
    return History(values, jnp.asarray(optax.safe_increment(history.seen)))


def is_spike(
    history: History, value: jax.Array, sigmas: Any, *, counting: str = "olmo"
) -> jax.Array:
    """Whether a value is more than `sigmas` standard deviations above the mean of earlier ones.

    A value that is not finite is always a spike. Before half of the window is full, no finite value
    is one.

    OLMo-core divides the sum of squares by one less than the number of values, and counts the new
    value when it tests whether half of the window is full. Levanter divides by the number of
    values, and takes a deviation of at least 1e-6. In Levanter, one value that is not finite makes
    the mean NaN, and every update of a window is skipped. Here such values are left out, as in
    OLMo-core. OLMo-core also skips if fewer than two finite values are left in the window. Here a
    finite value is then not a spike.
    """
    finite = jnp.isfinite(history.values)
    count = jnp.sum(finite)
    known = jnp.where(finite, history.values, 0)
    mean = jnp.sum(known) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(finite, (known - mean) ** 2, 0))
    half = max(2, len(history.values) // 2)
    if counting == "olmo":
        deviation = jnp.sqrt(squares / jnp.maximum(count - 1, 1))
        judged = (history.seen + 1 >= half) & (count >= 2)
    else:
        deviation = jnp.maximum(jnp.sqrt(squares / jnp.maximum(count, 1)), 1e-6)
        judged = (history.seen >= half) & (count >= 2)
    above = value > mean + sigmas * deviation
    return (judged & above) | ~jnp.isfinite(value)


def require_optimizer(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    """Requires an Optax transformation."""
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(
            "`optimizer` must be an optax.GradientTransformation, such as `optax.adam(1e-3)`, got"
            f" {optimizer!r}"
        )
    return optax.with_extra_args_support(optimizer)
