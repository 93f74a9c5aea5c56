"""Sums over pytrees, and arrays like the parameters, in float32 or wider.

Optax's methods keep their scalars in the narrowest dtype of the parameters. In bfloat16 a sum stops
growing after 256 equal terms, and an average with the decay 0.999 never falls.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

from .. import _require

Tree = Any  # a pytree like the parameters


def wide(leaf: Any) -> jax.Array:
    """An array in the dtype of rates: float32, or float64 under x64."""
    return jnp.asarray(leaf, _require.float_dtype())


def scalar(value: Any) -> jax.Array:
    """A number as a scalar of a state: a new array, not weakly typed."""
    return jnp.array(value, _require.float_dtype())


def absolute_sum(tree: Tree) -> jax.Array:
    """The sum of the absolute values of a tree."""
    sums = jax.tree.map(lambda leaf: jnp.sum(jnp.abs(wide(leaf))), tree)
    return sum(jax.tree.leaves(sums), start=jnp.zeros([], _require.float_dtype()))


def difference(left: Tree, right: Tree) -> Tree:
    """The difference of two trees."""
    return jax.tree.map(lambda a, b: wide(a) - wide(b), left, right)


def zeros(params: Tree) -> Tree:
    """Zeros like the parameters, in at least float32."""
    return jax.tree.map(jnp.zeros_like, copied(params))


def copied(params: Tree) -> Tree:
    """The parameters in at least float32, in new buffers: a shared buffer cannot be donated."""
    return jax.tree.map(
        lambda leaf: jnp.array(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32)), params
    )
