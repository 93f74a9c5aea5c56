"""What the rules require of numbers, and the form in which they return them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from .. import _require

Number = float | np.ndarray | jax.Array


def numbers(**values: Any) -> dict[str, Any]:
    """Requires real numbers, or arrays of them whose shapes broadcast."""
    leaves = _require.real(**values)
    shapes = [jnp.shape(leaf) for leaf in leaves.values()]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        names = ", ".join(f"`{name}`" for name in leaves)
        raise ValueError(f"{names} must have shapes that broadcast, got {shapes}") from None
    return leaves


def plain(value: Any) -> Number:
    """A Python float if all numbers were concrete scalars; else the array."""
    known = isinstance(value, (float, np.ndarray)) and not np.ndim(value)
    return float(value) if known else value
