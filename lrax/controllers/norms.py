"""Inner products of updates and gradients, summed in the dtype of rates."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

from .. import _require
from .masks import is_masked

Updates = Any  # a pytree of arrays


def inner(left: Updates, right: Updates) -> jax.Array:
    """The inner product of two pytrees; for complex arrays, its real part.

    `optax.masked` puts a `MaskedNode` in the place of each parameter that it leaves out. Where
    `left` has a `MaskedNode`, the leaf of `right` is ignored.
    """
    products = jax.tree.map(_product, left, right, is_leaf=is_masked)
    return sum(jax.tree.leaves(products), jnp.zeros([], _require.float_dtype()))


def square(updates: Updates) -> jax.Array:
    """The squared norm of a pytree."""
    return inner(updates, updates)


def norm(updates: Updates) -> jax.Array:
    """The norm of a pytree, correct even if the squares of its entries overflow, as at a spike."""
    sizes = jax.tree.map(lambda leaf: jnp.abs(_wide(leaf)), updates)
    largest = jax.tree.reduce(
        lambda most, leaf: jnp.maximum(most, jnp.max(leaf, initial=0)),
        sizes,
        jnp.zeros([], _require.float_dtype()),
    )
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return unit * jnp.sqrt(square(jax.tree.map(lambda leaf: leaf / unit, sizes)))


def _product(left: Any, right: Any) -> jax.Array | None:
    if is_masked(left):
        return None
    # A sum in bfloat16 would stall after a few hundred terms.
    return jnp.sum(jnp.real(jnp.conj(_wide(left)) * _wide(right)))


def _wide(leaf: jax.Array) -> jax.Array:
    return leaf if jnp.iscomplexobj(leaf) else jnp.asarray(leaf, _require.float_dtype())
