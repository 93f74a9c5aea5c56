"""What the probes require of a loss and of parameters; arithmetic in float32 or better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

Params = Any
Tree = Any
Loss = Callable[[Params], Any]  # returns a scalar, or (scalar, aux)


def scalar(loss: Any) -> Callable[[Params], jax.Array]:
    """The loss as a function that returns one float, in float32 or better."""
    if not callable(loss):
        raise TypeError(f"`loss` must be a function of the parameters, got {loss!r}")

    def value(params: Params) -> jax.Array:
        returned = loss(params)
        first = returned[0] if isinstance(returned, tuple) and len(returned) == 2 else returned
        if not hasattr(first, "dtype") and not isinstance(first, float):
            raise TypeError(f"`loss` must return a scalar or (scalar, aux), got {returned!r:.80}")
        array = jnp.asarray(first)
        if array.shape or not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                "`loss` must return a real scalar or (scalar, aux), got one of shape"
                f" {array.shape} and dtype {array.dtype}"
            )
        return array.astype(jnp.promote_types(array.dtype, np.float32))

    return value


def real_tree(name: str, tree: Any) -> Tree:
    """Requires a pytree of real floating-point arrays, and returns it with JAX arrays."""
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    if not flat:
        raise ValueError(f"`{name}` must have at least one array, got {tree!r:.80}")
    leaves = []
    for path, leaf in flat:
        where = f"`{name}`" + (f"{jax.tree_util.keystr(path)}" if path else "")
        # A Python float has no dtype, but is allowed. Anything else without a dtype is refused.
        dtype = getattr(leaf, "dtype", np.dtype(type(leaf) if type(leaf) is float else object))
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{where} must be an array of real floating-point numbers, got {leaf!r:.80}"
            )
        with np.errstate(over="ignore"):  # 1e300 becomes infinite in float32
            leaves.append(jnp.asarray(leaf))
    return structure.unflatten(leaves)


def same_shapes(name: str, tree: Any, params: Params, lead: int = 0) -> Tree:
    """Requires a tree of floats with the structure and the shapes of the parameters.

    Args:
      name: The argument's name.
      tree: The tree.
      params: The parameters.
      lead: How many more axes each leaf has in front. Their lengths are the same in all leaves.
    """
    tree = real_tree(name, tree)
    if jax.tree.structure(tree) != jax.tree.structure(params):
        raise ValueError(
            f"`{name}` must have the structure of `params`, got {jax.tree.structure(tree)} for"
            f" {jax.tree.structure(params)}"
        )
    leaves = jax.tree.leaves(tree)
    front = leaves[0].shape[:lead]
    for leaf, like in zip(leaves, jax.tree.leaves(params), strict=True):
        if leaf.shape != (*front, *like.shape) or len(front) != lead:
            axes = " behind a leading axis" if lead else ""
            raise ValueError(
                f"`{name}` must have the shapes of `params`{axes}, got {leaf.shape} for"
                f" {like.shape}"
            )
    return tree


def widened(tree: Tree) -> Tree:
    """The tree in float32, or in its own dtype where that is wider.

    Sums of many products in bfloat16 would lose all digits.
    """
    return jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, np.float32)), tree)


def rounded(tree: Tree, params: Params) -> Tree:
    """The tree in the dtypes of the parameters, which the loss expects."""
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), tree, params)


def dot(left: Tree, right: Tree) -> jax.Array:
    """The inner product of two widened trees."""
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), left, right)
    return jnp.asarray(sum(jax.tree.leaves(products)))


def added(tree: Tree, factor: jax.Array, direction: Tree) -> Tree:
    """`tree + factor * direction`, in the dtypes of `tree`."""
    return jax.tree.map(lambda a, b: a + factor.astype(a.dtype) * b, tree, direction)
