"""The curvature along the last step, from two gradients of one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from .measurements import Arguments, given
from .norms import inner, square

Params = Any
Gradient = Any


class Secant(NamedTuple):
    """The last step and how the gradient changed along it; every field has the shape ()."""

    step: jax.Array  # squared length of the step
    change: jax.Array  # squared norm of the change of the gradient
    product: jax.Array  # inner product of the step and the change

    @property
    def finite(self) -> jax.Array:
        """Whether the step and the change are finite, and so are their squares."""
        return jnp.isfinite(self.step) & jnp.isfinite(self.change)


def secant(before: Params, arguments: Arguments, rule: str) -> Secant:
    """The secant from the parameters `before` the last update to those of this update.

    Both gradients are of this update's batch. Gradients of two batches differ even where the
    parameters are the same, and their difference over a short step is noise.
    """
    params = given("params", arguments, rule)
    gradient = _gradient(arguments, rule)
    now = arguments.get("grad")
    now = gradient(params) if now is None else now
    # Cast to float32 before the subtraction: in bfloat16 a short step has few digits.
    step = jax.tree.map(_difference, params, before)
    change = jax.tree.map(_difference, now, gradient(before))
    return Secant(square(step), square(change), inner(step, change))


def kept(new: Params, old: Params, sound: jax.Array) -> Params:
    """The new parameters, or the old ones where something was not finite."""
    return jax.tree.map(lambda now, before: jnp.where(sound, now, before), new, old)


def _gradient(arguments: Arguments, rule: str) -> Callable[[Params], Gradient]:
    """The gradient of this update's batch, as a function of the parameters."""
    if arguments.get("grad_fn") is not None:
        return arguments["grad_fn"]
    if arguments.get("value_fn") is not None:
        return jax.grad(arguments["value_fn"])
    raise TypeError(
        f"`grad_fn` or `value_fn` must be given to `update`: `{rule}` takes the gradient of this"
        " update's batch at two places. Call `optimizer.update(grads, state, params,"
        " grad_fn=jax.grad(loss))`; a run does so by itself."
    )


def _difference(left: jax.Array, right: jax.Array) -> jax.Array:
    wide = jnp.promote_types(jnp.result_type(left), jnp.float32)
    return jnp.asarray(left, wide) - jnp.asarray(right, wide)
