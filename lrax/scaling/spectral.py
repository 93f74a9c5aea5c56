"""`spectral_condition`: whether weights and updates have the norms that features need."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np
from jax import lax, numpy as jnp

from ..display import tables
from ..probes.losses import real_tree, same_shapes, widened
from .matrices import Axes, Matrix, matrices
from .parameters import Tree, parameters


class Spectral(NamedTuple):
    """What `spectral_condition` returns: two trees like the parameters, of scalars.

    It prints as a table, a line for each parameter.
    """

    weights: Tree
    updates: Tree

    def __str__(self) -> str:
        found = parameters("weights", self.weights)
        rows = [["weights", "updates", "parameter"]]
        numbers = zip(
            jax.tree.leaves(self.weights), jax.tree.leaves(self.updates), found.paths, strict=True
        )
        rows += [[f"{weight:.4g}", f"{update:.4g}", path] for weight, update, path in numbers]
        return tables.aligned(rows)


def spectral_condition(
    params: Tree, updates: Tree, *, layout: str = "in_out", axes: Axes | None = None
) -> Spectral:
    r"""The spectral norms of weights and updates, relative to those that keep the size of features.

    $$\frac{\|W\|_2}{\sqrt{\text{out} / \text{in}}}, \qquad
      \frac{\|\Delta W\|_2}{\sqrt{\text{out} / \text{in}}}$$

    with the spectral norm and a matrix of `in` inputs and `out` outputs. The condition is: in all
    layers and at all widths, both numbers keep their order of magnitude, and the first is near 1.
    Then features and their changes have entries of one size, which is what muP asks for. Use it
    as a check of an initialisation, of multipliers or of a new optimizer: print it for a narrow and
    for a wide network, after the first update and after some ten. A number that falls or rises with
    the width belongs to a layer whose rate needs a factor. `lrax.scaling.mup_multipliers` has the
    factors.

    It is a condition of sizes alone: a network may meet it and still have a rate that is too high.
    The second number is proportional to the rate, so compare networks at one rate. A token reads
    one row of a table of embeddings: with `axes={"embed": ((), 1)}` each row is a vector. The
    output layer meets the condition only with the factors of `mup.forward`, or if it starts small.

    Args:
      params: The parameters, any pytree of floating-point arrays.
      updates: What is added to them, a tree like `params`: an optimizer's updates.
      layout: "in_out" for kernels (..., in, out), as in Flax and Haiku. "out_in" for (out, in, ...)
        as in Equinox and PyTorch. The kernel of a convolution is flattened.
      axes: `{pattern: (input axes, output axes)}` for parameters that the layout does not fit, such
        as kernels of attention with an axis of heads. The pattern is searched in the path, as in
        `lrax.scaling.groups`. A side is an int or several; axes on neither side count matrices in a
        stack, and the largest number of the stack is taken.

    Returns:
      A `Spectral` of `weights` and `updates`. For a vector, and for parameters with "bias" as a
      part of their path, `in` is 1, and the number is the RMS.

    Raises:
      ValueError: if `updates` do not have the structure and shapes of `params`, `layout` is
        unknown, a pattern catches nothing, or an axis is not there or has length 0.
      TypeError: if an argument is not as described.

    Example:
      >>> params = {"w": jnp.eye(64, 256), "b": jnp.zeros(256)}
      >>> updates = {"w": -0.1 * jnp.eye(64, 256), "b": jnp.full(256, 0.1)}
      >>> print(lrax.scaling.spectral_condition(params, updates))
      weights  updates  parameter
            0      0.1  b
          0.5     0.05  w

    Reference:
      Yang, Simon and Bernstein, "A spectral condition for feature learning", arXiv 2310.17813.
    """
    params = real_tree("params", params)
    updates = same_shapes("updates", updates, params)
    found = parameters("params", params)
    sides = matrices(found, layout, axes)
    for path, shape in zip(found.paths, found.shapes, strict=True):
        if 0 in shape:
            raise ValueError(f"`params` must have no axis of length 0, got {shape} at {path!r}")
    both = [
        found.structure.unflatten(
            [_ratio(leaf, side) for leaf, side in zip(jax.tree.leaves(tree), sides, strict=True)]
        )
        for tree in map(widened, (params, updates))
    ]
    return Spectral(*both)


def _ratio(leaf: jax.Array, side: Matrix) -> jax.Array:
    """The largest spectral norm of a stack of matrices, relative to sqrt(out / in)."""
    shape = (-1, side.fan_in, side.fan_out)
    stack = leaf.transpose(*side.stacked, *side.inputs, *side.outputs).reshape(shape)
    # The largest eigenvalue of the smaller product of the two: much less work than singular values,
    # and the largest one loses no digits.
    left = stack if side.fan_in <= side.fan_out else stack.swapaxes(1, 2)
    product = jnp.matmul(left, left.swapaxes(1, 2), precision=lax.Precision.HIGHEST)
    largest = product[:, 0, 0] if product.shape[1] == 1 else jnp.linalg.eigvalsh(product)[:, -1]
    norm = jnp.sqrt(jnp.max(jnp.maximum(largest, 0)))
    return norm * np.asarray(math.sqrt(side.fan_in / side.fan_out), leaf.dtype)
