"""PyTorch's schedulers that take a function.

They follow torch/optim/lr_scheduler.py of PyTorch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.combinators import scale
from ...schedules.counts import real
from ...schedules.schedule import Schedule, Static
from ..arguments import nonnegative


def LambdaLR(lr: ArrayLike, lr_lambda: Callable[[Any], Any]) -> Schedule:
    """The rate times a function of the count: `lrax.scale(lr_lambda, lr)`.

    Args:
      lr: The optimizer's rate, at least 0.
      lr_lambda: The factor of each update: a `Schedule`, or a function of the count, which is an
        integer array. JAX must be able to trace the function: use `jnp.where` in place of `if`. For
        several groups of parameters, make one schedule for each.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete `lr` is negative, infinite or NaN.
      TypeError: if `lr_lambda` is not a function.

    Example:
      >>> lrax.compat.torch.LambdaLR(lr=0.1, lr_lambda=lambda t: 1 / (1 + t)).values(2)
      Array([0.1 , 0.05], dtype=float32)
    """
    rate = nonnegative(lr=lr)["lr"]
    return scale(function_of_count("lr_lambda", lr_lambda), rate)


BLOCK = 256  # factors of MultiplicativeLR that are multiplied at once


def MultiplicativeLR(lr: ArrayLike, lr_lambda: Callable[[Any], Any]) -> Schedule:
    r"""The rate times the product of one factor for each update, from update 1 on.

    $$\eta(t) = \text{lr} \prod_{j = 1}^{t} \text{lr\_lambda}(j)$$

    A function has no closed product, so each call multiplies all factors up to its count, 256 at
    once: cheap for thousands of steps, not for millions. Numbers inside of `lr_lambda` get no
    gradient. If the factor is the same at all steps, use `ExponentialLR`, which has neither limit.

    Args:
      lr: The optimizer's rate, at least 0.
      lr_lambda: The factor of each update: a `Schedule`, or a function of the count, which is an
        integer array. JAX must be able to trace the function.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete `lr` is negative, infinite or NaN.
      TypeError: if `lr_lambda` is not a function.

    Example:
      >>> schedule = lrax.compat.torch.MultiplicativeLR(lr=1.0, lr_lambda=lambda t: t / (t + 1))
      >>> schedule.values(4).round(3)
      Array([1.   , 0.5  , 0.333, 0.25 ], dtype=float32)
    """
    leaves = _require.real(**nonnegative(lr=lr))
    function = function_of_count("lr_lambda", lr_lambda)
    return Schedule(_MultiplicativeLR, {**leaves, "lr_lambda": function})


@builder(MultiplicativeLR, name="compat.torch.MultiplicativeLR")
def _MultiplicativeLR(count, lr, lr_lambda):
    count = real(count)
    return lr * product_of(lr_lambda, jnp.zeros_like(count), jnp.maximum(count, 0))


def product_of(function: Schedule, after: Any, count: Any) -> Any:
    """The product of a function over the whole numbers after `after`, up to `count`."""
    function, after, count = lax.stop_gradient((function, after, count))
    steps = jnp.floor(count) - after

    def block(state):
        i, result = state
        step = i * BLOCK + np.arange(1, BLOCK + 1, dtype=count.dtype).reshape(
            (1,) * count.ndim + (BLOCK,)
        )
        factors = jnp.where(step <= steps[..., None], function(after[..., None] + step), 1)
        return i + 1, result * jnp.prod(factors, axis=-1)

    more = lambda state: jnp.any(state[0] * BLOCK < steps)
    return lax.while_loop(more, block, (jnp.zeros((), count.dtype), jnp.ones_like(count)))[1]


def function_of_count(name: str, value: Any) -> Schedule:
    """A function of the count as a schedule."""
    if not callable(value):
        raise TypeError(f"`{name}` must be a function of the count, got {value!r}")
    return (
        value if isinstance(value, Schedule) else Schedule(_of_count, {"function": Static(value)})
    )


def _of_count(count, function):
    # PyTorch's functions take integers. Under x64 an integer of 32 bits would make `1 / t` float32.
    return function(count.astype(jnp.int64 if count.dtype == np.float64 else jnp.int32))
