"""What is known before any count is computed at once, so that no program holds it.

Under `jax.jit`, `jnp` stages arithmetic on known numbers, too: for XLA to fold, once it has been
traced and lowered. These compute it by NumPy, and leave one instruction each of what is not known.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax, numpy as jnp


def known(*values: Any) -> bool:
    """Whether all are numbers on the host: neither traced nor on a device."""
    return all(isinstance(value, (np.ndarray, np.generic, bool, int, float)) for value in values)


def where(which: Any, x: Any, y: Any) -> Any:
    """`jnp.where`; the chosen value itself where the condition is concrete and the shape fits."""
    shapes = [np.shape(value) for value in (which, x, y)]
    if known(which) and (np.all(which) or not np.any(which)):
        value, shape = (x, shapes[1]) if np.all(which) else (y, shapes[2])
        if shape == np.broadcast_shapes(*shapes):
            return value
    if known(which, x, y):
        return np.where(which, x, y)
    if len(set(shapes)) > 1:
        return jnp.where(which, x, y)
    dtype = jnp.result_type(x, y)
    return lax.select(
        which,
        *(np.asarray(value, dtype) if known(value) else value.astype(dtype) for value in (x, y)),
    )


def either(which: Any, x: Callable[[], Any], y: Callable[[], Any]) -> Any:
    """Of two computations the one that is meant, or both where that is not known."""
    if known(which) and (np.all(which) or not np.any(which)):
        return x() if np.all(which) else y()
    return where(which, x(), y())


def maximum(x: Any, y: Any) -> Any:
    """`jnp.maximum`."""
    return np.maximum(x, y) if known(x, y) else jnp.maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    """`jnp.minimum`."""
    return np.minimum(x, y) if known(x, y) else jnp.minimum(x, y)


def log(x: Any) -> Any:
    """`jnp.log`."""
    return np.log(x) if known(x) else jnp.log(x)


def log1p(x: Any) -> Any:
    """`jnp.log1p`."""
    return np.log1p(x) if known(x) else jnp.log1p(x)


def stack(*values: Any) -> Any:
    """`jnp.stack` of numbers."""
    return np.stack(values) if known(*values) else jnp.stack(values)


def after_zero(x: Any) -> Any:
    """The numbers of a list, after a 0."""
    return (
        np.concatenate([x[:1] * 0, x]) if known(x) else jnp.concatenate([jnp.zeros_like(x[:1]), x])
    )


def plus(x: Any, y: Any) -> Any:
    """`x + y`, which is `x` where `y` is known to be 0."""
    return x if known(y) and not np.ndim(y) and y == 0 else x + y


def held(x: Any) -> Any:
    """`lax.stop_gradient`."""
    return x if known(x) else lax.stop_gradient(x)
