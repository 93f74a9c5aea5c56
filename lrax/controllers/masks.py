"""The parameters that `optax.masked` and `optax.partition` leave out."""

from __future__ import annotations

from typing import Any

import jax
import optax

Params = Any


def is_masked(leaf: Any) -> bool:
    """Whether a leaf is the placeholder of a parameter that was left out."""
    return isinstance(leaf, optax.MaskedNode)


def require_whole(params: Params, rule: str) -> None:
    """Requires that no parameters are left out."""
    if any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked))):
        raise TypeError(
            f"`params` must be all parameters: `{rule}` evaluates the loss, which it cannot where"
            " `optax.masked` or `optax.partition` leaves some out. Put `lrax.scale_by_lr`"
            " outside of both."
        )
