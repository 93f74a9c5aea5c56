"""`layer_multipliers`: rates that fall from the last layer to the first."""

from __future__ import annotations

from collections.abc import Callable

from jax import numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from .numbers import plain
from .parameters import Tree, parameters
from .table import Multipliers


def layer_multipliers(
    params: Tree,
    decay: ArrayLike,
    layer_of: Callable[[str], int],
    *,
    min_scale: ArrayLike = 0.0,
) -> Multipliers:
    r"""A multiplier on the rate for each parameter, by the layer in which it is.

    $$m_i = \max(\text{min\_scale}, \ \text{decay}^{L - \ell_i}), \qquad L = \max_j \ell_j$$

    with the layer of each parameter, l = `layer_of(path)`. Use it to fine-tune a pretrained
    network: early layers change little, and the last one, usually the head, has the whole rate.
    0.65 to 0.85 are usual for vision transformers, 0.9 to 0.95 for small changes to language
    models.

    It is of no use when training starts from scratch. Count the head as a layer of its own,
    one above the last block; otherwise the last block gets the whole rate. Print
    `lrax.scaling.table(multipliers, params)` to see that every layer was recognised.

    Args:
      params: The parameters, or their shapes as `jax.eval_shape` returns them.
      decay: The factor from one layer to the one before it, from 0 to 1.
      layer_of: Function from the path of a parameter, such as `"block_0/mlp/kernel"`, to the number
        of its layer, an int of at least 0. The path is `jax.tree_util.keystr(path, simple=True,
        separator="/")`.
      min_scale: The lowest multiplier, from 0 to 1.

    Returns:
      A tree like `params`, of Python floats if the numbers are concrete: for
      `lrax.scale_by_multipliers`.

    Raises:
      ValueError: if a concrete number is out of its range or not a scalar, a layer is below 0, or
        there are no parameters.
      TypeError: if an argument is not as described, or `layer_of` returns no int.

    Example:
      >>> params = {f"block_{i}": jnp.ones((4, 4)) for i in range(3)} | {"head": jnp.ones((4, 2))}
      >>> layer_of = lambda path: int(path[6:]) if path.startswith("block") else 3
      >>> multipliers = lrax.scaling.layer_multipliers(params, 0.5, layer_of)
      >>> multipliers
      {'block_0': 0.125, 'block_1': 0.25, 'block_2': 0.5, 'head': 1.0}
      >>> optimizer = optax.chain(
      ...     optax.scale_by_adam(),
      ...     lrax.scale_by_multipliers(multipliers),
      ...     lrax.scale_by_lr(1e-3),
      ... )

    Reference:
      Clark et al., "ELECTRA", arXiv 2003.10555; `timm.optim.param_groups_layer_decay`.
    """
    found = parameters("params", params)
    values = _require.scalars(decay=decay, min_scale=min_scale)
    _require.between(values, 0, 1, "decay", "min_scale")
    if not callable(layer_of):
        raise TypeError(f"`layer_of` must be a function of a parameter's path, got {layer_of!r}")
    layers = [_require.count(f"layer_of({path!r})", layer_of(path), 0) for path in found.paths]
    last = max(layers)
    by_layer = {}
    for layer in set(layers):
        scale = values["decay"] ** (last - layer)
        known = not any(isinstance(value, Tracer) for value in values.values())
        low = values["min_scale"]
        by_layer[layer] = plain(max(scale, low)) if known else jnp.maximum(scale, low)
    return found.structure.unflatten([by_layer[layer] for layer in layers])
