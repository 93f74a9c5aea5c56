"""Inner products of updates and gradients, summed in the dtype of rates."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax import numpy as jnp

from .. import _require

Updates = Any  # a pytree of arrays


def inner(left: Updates, right: Updates) -> jax.Array:
    """The inner product of two pytrees; of complex arrays its real part."""
    products = jax.tree.map(
        lambda a, b: jnp.sum(jnp.real(jnp.conj(_wide(a)) * _wide(b))), left, right
    )
    return sum(jax.tree.leaves(products), jnp.zeros([], _require.float_dtype()))


def norm(updates: Updates) -> jax.Array:
    """The norm of a pytree."""
    return jnp.sqrt(inner(updates, updates))


def of_group(like: Updates, updates: Updates) -> Updates:
    """What belongs to the group of `like`: the rest is left out, as `optax.masked` does."""
    return jax.tree.map(
        lambda own, leaf: own if is_masked(own) else leaf, like, updates, is_leaf=is_masked
    )


def is_masked(leaf: Any) -> bool:
    """Whether `optax.masked` put this in the place of an array of another group."""
    return isinstance(leaf, optax.MaskedNode)


def _wide(leaf: jax.Array) -> jax.Array:
    # A sum in bfloat16 would stall after a few hundred terms.
    return leaf if jnp.iscomplexobj(leaf) else jnp.asarray(leaf, _require.float_dtype())
