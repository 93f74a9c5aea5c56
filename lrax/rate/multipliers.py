"""`scale_by_multipliers`: one factor on the rate of each group of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import numpy as jnp
from jax.tree_util import keystr

from .. import _require

Multipliers = Any  # a pytree of numbers


def scale_by_multipliers(
    multipliers: Multipliers | Callable[[optax.Params], Multipliers],
) -> optax.GradientTransformationExtraArgs:
    r"""Multiplies the update of each parameter by a factor of its own.

    $$u_i \leftarrow m_i \, u_i$$

    Use it before or after `lrax.scale_by_lr` for layer-wise decay, width multipliers or frozen
    layers. All parameters then share one optimizer and one learning rate, and the factors are
    relative to that rate. For groups that need another optimizer or another schedule, use
    `optax.partition`. The transformation has no state, so `lrax.get_lr` does not include the
    factors.

    Args:
      multipliers: A pytree of factors, each dimensionless, finite and at least 0. It has the
        structure of the parameters or a prefix of it: a factor applies to the whole subtree at its
        place. A factor may be an array that broadcasts to the shape of its parameters. A function
        of the parameters that returns such a pytree is called in `init` and in every `update`; if
        `update` gets no parameters, the function gets the updates. A factor of 0 gives zeros, even
        if the update is NaN.

    Returns:
      An `optax.GradientTransformationExtraArgs` with `optax.EmptyState`. Updates keep their dtypes.

    Raises:
      ValueError: if a concrete factor is negative, infinite or NaN, the tree is not a prefix of the
        parameters' tree, or a factor does not broadcast to its parameters.
      TypeError: if a factor is not a number.

    Example:
      >>> optimizer = optax.chain(
      ...     optax.scale_by_adam(),
      ...     lrax.scale_by_multipliers({"body": 0.1, "head": 1.0}),
      ...     lrax.scale_by_lr(1e-3),
      ... )
      >>> params = {"body": {"w": jnp.ones(2), "b": jnp.ones(2)}, "head": jnp.ones(2)}
      >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
      >>> print(updates["body"]["w"], updates["head"])
      [-0.0001 -0.0001] [-0.001 -0.001]
    """
    factors = None if callable(multipliers) else _factors(multipliers)

    def factors_of(params: optax.Params) -> Multipliers:
        return _factors(multipliers(params)) if callable(multipliers) else factors

    def init(params: optax.Params) -> optax.EmptyState:
        _map(lambda factor, leaf: _fits(factor, leaf), factors_of(params), params)
        return optax.EmptyState()

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        del extra_args
        return _map(_scaled, factors_of(updates if params is None else params), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _factors(tree: Multipliers) -> Multipliers:
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = []
    for path, leaf in flat:
        name = f"multipliers{keystr(path)}"
        values = _require.real(**{name: leaf})
        _require.nonnegative(values, name)
        leaves.append(values[name])
    return structure.unflatten(leaves)


def _map(function: Callable[..., Any], factors: Multipliers, tree: Any) -> Any:
    try:
        return jax.tree.map(
            lambda factor, below: jax.tree.map(lambda leaf: function(factor, leaf), below),
            factors,
            tree,
        )
    except _Misfit as error:
        raise ValueError(str(error)) from None
    except ValueError as error:
        raise ValueError(
            "`multipliers` must have the structure of the parameters or a prefix of it, got"
            f" {jax.tree.structure(factors)} for {jax.tree.structure(tree)}"
        ) from error


class _Misfit(Exception):
    """A factor has the wrong shape.

    It is not a ValueError, because `_map` reads a ValueError as a tree of the wrong structure.
    """


def _fits(factor: jax.Array, leaf: Any) -> Any:
    # Plain broadcasting would also accept a factor with more axes or longer axes than the
    # parameter, and the update would grow. So the axes are compared one by one, from the last.
    shape = jnp.shape(leaf)
    own = jnp.shape(factor)
    long = len(own) > len(shape)
    trailing = zip(own[::-1], shape[::-1], strict=False)
    if long or any(size not in (1, there) for size, there in trailing):
        raise _Misfit(
            f"`multipliers` must broadcast to their parameters, got a factor of shape {own}"
            f" for a parameter of shape {shape}"
        )
    return leaf


def _scaled(factor: jax.Array, update: jax.Array) -> jax.Array:
    _fits(factor, update)
    factor = jnp.asarray(factor, update.dtype)
    # `0 * update` would be NaN where the update is NaN or infinite.
    return jnp.where(factor == 0, jnp.zeros_like(update), factor * update)
