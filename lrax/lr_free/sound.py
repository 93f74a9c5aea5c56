"""`method`: what every method has in common: required arguments, dtypes, and updates to skip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import numpy as jnp

from ..controllers.measurements import measured
from ..controllers.norms import square

State = Any
# Function `(updates, state, params, value) -> (updates, state)`. `value` is None unless needed.
Update = Callable[..., tuple[optax.Updates, State]]


def method(
    name: str, init: optax.TransformInitFn, update: Update, *, needs_value: bool = False
) -> optax.GradientTransformationExtraArgs:
    """An optimizer from the `init` and the `update` of a method.

    The method may compute in any dtype: the leaves of its state are cast to the dtypes that `init`
    gave them, and updates to the dtypes of the gradients.

    If the squared norm of the gradient is not finite, or if the loss is needed and is not finite,
    then the updates are 0 and the state stays. The methods keep sums over all gradients so far, so
    a single NaN would stay in their estimates for the rest of the run.
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
