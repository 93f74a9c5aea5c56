"""Arithmetic of counts and step numbers, exact up to 2^31 - 1.

A float32 holds whole numbers only up to 2^24. The last ten steps of a run of 10^8 therefore need
`steps - count` to be taken in integers. That is possible where the count is an integer and the step
number is a concrete whole number, as in every optimizer that closes over its schedule. Any other
step number is a float, and the difference is then exact up to 2^24.
"""

from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp

from .. import _require
from .concrete import known

Number = Any  # a number of NumPy, an array of JAX, or a tracer

MOST = 2**31 - 1  # the largest int32


def as_count(count: Number) -> jax.Array:
    """A count in a type that formulas take: int32, int64, or the float type of the rates."""
    array = jnp.asarray(count)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        return array.astype(_require.float_dtype())
    if array.dtype == jnp.uint32:
        array = jnp.minimum(array, MOST)
    # With a dtype, `asarray` also makes a weakly typed integer a strongly typed one.
    return jnp.asarray(array, jnp.int64 if array.dtype.itemsize == 8 else jnp.int32)


def alike(x: Number, y: Number) -> tuple[Number, Number]:
    """Two counts or step numbers in one type: integers where both are whole, floats otherwise."""
    if _is_count(x) and _is_whole(y):
        return x, np.asarray(y).astype(x.dtype)
    if _is_whole(x) and _is_count(y):
        return np.asarray(x).astype(y.dtype), y
    return real(x), real(y)


def minus(x: Number, y: Number) -> Number:
    """`x - y` of two counts or step numbers: an integer where both are whole, a float otherwise."""
    x, y = alike(x, y)
    # All counts before the start are taken as -1, so that the difference does not overflow.
    if _is_count(x):
        return jnp.maximum(x, -1) - y
    if _is_count(y):
        return x - jnp.maximum(y, -1)
    return x - y


def plus(x: Number, steps: Number) -> Number:
    """`x + steps` of a count and a number of steps, clamped to the largest count of its type."""
    x, steps = alike(x, steps)
    if _is_count(x):
        x = jnp.minimum(x, np.iinfo(x.dtype).max - np.maximum(steps, 0))
    return x + steps


def reached(count: Number, steps: Number) -> Number:
    """Whether the count is at or after a step number."""
    count, steps = alike(count, steps)
    return count >= steps


def divided(count: Number, steps: Number) -> tuple[Number, Number]:
    """The quotient of a count of at least 0 by `steps`, as a whole float, and the remainder.

    The quotient has no gradient.
    """
    count, steps = alike(count, steps)
    pair = jnp.broadcast_arrays(count, jnp.asarray(steps, count.dtype))
    if _is_count(count):
        times = lax.div(*pair)
        return real(times), count - times * steps
    # `rem` is exact. The floor of a division is not, because XLA may multiply by the reciprocal,
    # and 41 * (1 / 41) is not 1.
    rest = lax.rem(*pair)
    return lax.stop_gradient(jnp.round((count - rest) / steps)), rest


def real(x: Number) -> Number:
    """A count or a difference of counts as a float."""
    return x.astype(_require.float_dtype()) if _is_count(x) else x


def _is_count(x: Number) -> bool:
    return isinstance(x, jax.Array) and bool(jnp.issubdtype(x.dtype, jnp.integer))


def _is_whole(x: Number) -> bool:
    return known(x) and bool(np.all((np.asarray(x) % 1 == 0) & (np.abs(x) <= MOST)))
