"""Differences of counts and step numbers, exact up to 2^31 - 1.

A float32 holds whole numbers only up to 2^24. The last ten steps of a run of 10^8 therefore need
`steps - count` to be taken in integers. That is possible where the count is an integer and the step
number is a concrete whole number, as in every optimizer that closes over its schedule. A traced
step number is a float, and the difference is then exact up to 2^24.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from .. import _require
from .staging import known

Number = Any  # a number of NumPy, an array of JAX, or a tracer

_MOST = 2**31 - 1


def minus(x: Number, y: Number) -> Number:
    """`x - y` of two counts or step numbers: an integer where both are whole, a float otherwise."""
    if _is_count(x) and _is_whole(y):
        # One step before the start stands for all of them, so that the difference fits.
        return jnp.maximum(x, -1) - np.asarray(y).astype(x.dtype)
    if _is_whole(x) and _is_count(y):
        return np.asarray(x).astype(y.dtype) - jnp.maximum(y, -1)
    return real(x) - real(y)


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
    return known(x) and bool(np.all((np.asarray(x) % 1 == 0) & (np.abs(x) <= _MOST)))
