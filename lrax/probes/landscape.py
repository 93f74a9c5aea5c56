"""`landscape`: the loss along lines through the parameters."""

from __future__ import annotations

from typing import Literal

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .losses import Loss, Params, Tree, added, real_tree, rounded, same_shapes, scalar, widened


def landscape(
    loss: Loss,
    params: Params,
    directions: Tree,
    distances: ArrayLike | None = None,
    *,
    normalize: Literal["filter", "array", "none"] = "filter",
    batch_size: int = 16,
) -> jax.Array:
    r"""The loss along lines through the parameters, many lines at once.

    $$L(\theta + a_j d_i)$$

    $L$ is `loss`, $\theta$ are `params`, $a_j$ are `distances` and $d_i$ are `directions`. Use it
    to look at the neighbourhood of a minimum, or along an update: where the loss begins to rise,
    the rate is at its limit. With `normalize="filter"`, distances are relative to the size of the
    weights, so that networks whose weights differ in scale can be compared. For the line of an
    update, use `normalize="none"`.

    It misleads in these cases. A few lines say little about a space of millions of dimensions:
    random lines miss the few directions of high curvature, and look flat. Bind the batch and the
    key of the loss, and prefer a large batch. With batch norm, the loss must use the statistics of
    its batch.

    Args:
      loss: Function of the parameters that returns a scalar, or `(scalar, aux)`.
      params: The parameters, any pytree of floating-point arrays.
      directions: A tree like `params`, each leaf with a leading axis of D directions.
      distances: The distances a_j along each line, `[N]`, finite. By default 21 from -1 to 1.
      normalize: "filter" scales each filter of a direction to the norm of its weights. A filter is
        the part of a kernel that belongs to one output; outputs are the last axis. Vectors and
        scalars are scaled as a whole. "array" scales each array as a whole. "none" takes directions
        as they are. Where the weights are zero, a scaled direction is zero.
      batch_size: How many losses are computed at once, at least 1. Each needs a copy of the
        parameters.

    Returns:
      The losses, `[D, N]`.

    Raises:
      ValueError: if the directions do not have the structure and shapes of `params`, `distances` is
        not a vector of finite numbers, `normalize` is unknown, or `batch_size` is below 1.
      TypeError: if an argument is not as described.

    Example:
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> loss = lambda params: jnp.sum(params["w"] ** 2)
      >>> draw = lambda key: optax.tree.random_like(key, params)
      >>> directions = jax.vmap(draw)(jax.random.split(jax.random.key(0), 5))
      >>> lrax.probes.landscape(loss, params, directions, jnp.linspace(-1.0, 1.0, 7)).shape
      (5, 7)

    Reference:
      Li et al., "Visualizing the loss landscape of neural nets", arXiv 1712.09913.
    """
    value = scalar(loss)
    params = real_tree("params", params)
    lines = widened(same_shapes("directions", directions, params, lead=1))
    given = np.linspace(-1.0, 1.0, 21) if distances is None else distances
    along = _require.real(distances=given)
    _require.vector(along, "distances")
    _require.finite(along, "distances")
    _require.choice("normalize", normalize, ("filter", "array", "none"))
    batch_size = _require.count("batch_size", batch_size, 1)
    origin = widened(params)
    if normalize != "none":
        lines = jax.tree.map(lambda line, like: _scaled(line, like, normalize), lines, origin)
    steps = jnp.asarray(along["distances"], _require.float_dtype())
    shape = (jax.tree.leaves(lines)[0].shape[0], steps.shape[0])

    def at(place: tuple[jax.Array, jax.Array]) -> jax.Array:
        index, distance = place
        line = jax.tree.map(lambda leaf: leaf[index], lines)
        return value(rounded(added(origin, distance, line), params))

    # All pairs of a direction and a distance, on one axis.
    places = jnp.repeat(jnp.arange(shape[0]), shape[1]), jnp.tile(steps, shape[0])
    return lax.map(at, places, batch_size=batch_size).reshape(shape)


def _scaled(lines: jax.Array, like: jax.Array, normalize: str) -> jax.Array:
    """Directions scaled to the norm of the weights, for each filter or for the whole array."""
    axes = tuple(range(like.ndim))
    if normalize == "filter" and like.ndim > 1:
        axes = axes[:-1]
    target = jnp.sqrt(jnp.sum(like**2, axes, keepdims=True))
    # `lines` has one more axis in front, that of the directions.
    norms = jnp.sqrt(jnp.sum(lines**2, tuple(axis + 1 for axis in axes), keepdims=True))
    return lines * jnp.where(norms > 0, target[None] / jnp.where(norms > 0, norms, 1.0), 0.0)
