"""What `optax.masked` and `optax.partition` leave out of a group's parameters."""

from __future__ import annotations

from typing import Any

import jax
import optax

Params = Any


def is_masked(leaf: Any) -> bool:
    """Whether this stands in the place of a parameter of another group."""
    return isinstance(leaf, optax.MaskedNode)


def require_whole(params: Params, rule: str) -> None:
    """Requires all parameters of the loss."""
    if any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked))):
        raise TypeError(
            f"`params` must be all parameters: `{rule}` evaluates the loss, which it cannot where"
            " `optax.masked` or `optax.partition` leaves some out. Put it around them."
        )
