"""Arithmetic of counts and step numbers, exact up to 2^31 - 1.

A float32 holds whole numbers only up to 2^24. The last ten steps of a run of 10^8 therefore need
`steps - count` to be taken in integers. That is possible where the count is an integer and the step
number is a concrete whole number, as in every optimizer that closes over its schedule. A traced
step number is a float, and the difference is then exact up to 2^24.
"""

from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp

from .. import _require
from .staging import known

Number = Any  # a number of NumPy, an array of JAX, or a tracer

MOST = 2**31 - 1


def as_count(count: Number) -> jax.Array:
    """A count as formulas take it: an integer of at least 32 bits as it is, or a float."""
    array = jnp.asarray(count)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        return array.astype(_require.float_dtype())
    if array.dtype == jnp.uint32:
        array = jnp.minimum(array, MOST)
    # `asarray` with a type drops a weak type.
    return jnp.asarray(array, jnp.int64 if array.dtype.itemsize == 8 else jnp.int32)


def minus(x: Number, y: Number) -> Number:
    """`x - y` of two counts or step numbers: an integer where both are whole, a float otherwise."""
    # One step before the start stands for all of them, so that the difference fits.
    if _is_count(x) and known(y):
        whole, rest = parts(y, x)
        return less(jnp.maximum(x, -1) - whole, rest)
    if known(x) and _is_count(y):
        whole, rest = parts(x, y)
        return less(whole - jnp.maximum(y, -1), -rest)
    return real(x) - real(y)


def plus(x: Number, steps: Number) -> Number:
    """`x + steps` of a count and a number of steps, held at the largest count."""
    if _is_count(x) and _is_whole(steps):
        whole = np.asarray(steps).astype(x.dtype)
        return jnp.minimum(x, np.iinfo(x.dtype).max - np.maximum(whole, 0)) + whole
    return real(x) + steps


def parts(steps: Number, count: Number) -> tuple[Number, Number]:
    """A step number as a whole one in the type of the count, and the rest of it.

    The difference from an integer count is `less(count - whole, rest)`. A step number that is not
    known, or that meets a count which is a float, is not split.
    """
    if not (known(steps) and _is_count(count)):
        return steps, np.zeros(())
    whole = np.asarray(np.clip(np.floor(steps), -MOST, MOST))
    return whole.astype(count.dtype), steps - whole


def less(difference: Number, rest: Number) -> Number:
    """`difference - rest`, which stays an integer where no rest is left."""
    return difference if known(rest) and not np.any(rest) else real(difference) - rest


def reached(count: Number, steps: Number) -> Number:
    """Whether the count is at or after a step number."""
    if _is_count(count) and known(steps):
        past = count >= np.clip(np.ceil(steps), -MOST, MOST).astype(count.dtype)
        return past if np.all(steps <= MOST) else past & (steps <= MOST)
    return real(count) >= steps


def times(count: Number, steps: Number) -> tuple[Number, Number] | None:
    """How many whole times `steps` goes into a count of at least 0, and the rest, as integers.

    `None` where one of the two is not whole.
    """
    if not (_is_count(count) and _is_whole(steps)):
        return None
    whole = np.asarray(steps).astype(count.dtype)
    shape = np.broadcast_shapes(count.shape, whole.shape)
    count, whole = jnp.broadcast_to(count, shape), jnp.broadcast_to(whole, shape)
    return lax.div(count, whole), lax.rem(count, whole)


def real(x: Number) -> Number:
    """A count or a difference of counts as a float."""
    return x.astype(_require.float_dtype()) if _is_count(x) else x


def alike(count: Number, steps: Number) -> tuple[Number, Number]:
    """A count and a step number in one type: integers where both are whole, floats otherwise."""
    if _is_count(count) and _is_whole(steps):
        return count, np.asarray(steps).astype(count.dtype)
    return real(count), steps


def _is_count(x: Number) -> bool:
    return isinstance(x, jax.Array) and bool(jnp.issubdtype(x.dtype, jnp.integer))


def _is_whole(x: Number) -> bool:
    return known(x) and bool(np.all((np.asarray(x) % 1 == 0) & (np.abs(x) <= MOST)))
