"""The frame of every method: what it is given, the dtypes it returns, and gradients to skip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import numpy as jnp

from ..controllers.measurements import measured
from ..controllers.norms import square

State = Any
# `(updates, state, params, value)` to `(updates, state)`. The value is None if it is not asked for.
Update = Callable[..., tuple[optax.Updates, State]]


def method(
    name: str, init: optax.TransformInitFn, update: Update, *, needs_value: bool = False
) -> optax.GradientTransformationExtraArgs:
    """A whole optimizer from a method's functions.

    The method may compute in any dtype: the leaves of its state keep the dtypes that `init` gave
    them, and updates get the dtypes of the gradients.

    If the squared norm of the gradient is not finite, or the loss that the method asks for, then
    the updates are 0 and the state stays. The methods estimate a distance from all gradients so
    far, so a single NaN would stay in the estimate for the rest of the run.
    """

    def framed(
        updates: optax.Updates,
        state: State,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, State]:
        if params is None:
            raise ValueError(
                f"`params` must be given to `update`: `{name}` computes with them. Call"
                " `optimizer.update(grads, state, params)`."
            )
        value = measured("value", extra_args, name) if needs_value else None
        found = square(updates) if value is None else square(updates) + value
        sound = jnp.isfinite(found)
        new_updates, new_state = update(updates, state, params, value)
        new_updates = jax.tree.map(
            lambda given, new: jnp.where(sound, new, 0).astype(given.dtype), updates, new_updates
        )
        new_state = jax.tree.map(
            lambda old, new: jnp.where(sound, new.astype(old.dtype), old), state, new_state
        )
        return new_updates, new_state

    return optax.GradientTransformationExtraArgs(init, framed)
