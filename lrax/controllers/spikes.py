"""What a spike is: a value far above those of a window before it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from .. import _require


class History(NamedTuple):
    """The last values of a metric, as a ring."""

    values: jax.Array  # shape (window,), float32; NaN where there is none yet, or it was not finite
    seen: jax.Array  # shape (), int32: values so far, those included that were not finite


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

    A value that is not finite always is one. Before half of the window is full, no other is.

    OLMo-core divides by one less than the number of values, and counts the new value to the half.
    Levanter divides by their number, and lets no deviation be below 1e-6. One value that is not
    finite would make its mean NaN, and would so have every update skipped for a window; here such
    values are left out, as in OLMo-core. OLMo-core also skips where fewer than two finite values
    are left in the window; here nothing can be judged then, and nothing finite is a spike.
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
