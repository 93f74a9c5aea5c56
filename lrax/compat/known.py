"""What is required of a framework's numbers under its own names, and whether one is known."""

from typing import Any

import numpy as np
from jax.core import Tracer

from .. import _require


def known_as(value: Any, number: float) -> bool:
    """Whether a value is known and is this number, so that what it stands for can be left out of
    the translation.

    A traced value is never known: what it stands for is then built, with the same rates.
    """
    return not isinstance(value, Tracer) and bool(np.all(np.asarray(value) == number))


def nonnegative(**values: Any) -> dict[str, Any]:
    """Finite numbers at or above zero, as leaves."""
    leaves = _require.real(**values)
    _require.nonnegative(leaves, *values)
    return leaves


def positive(**values: Any) -> dict[str, Any]:
    """Finite numbers above zero, as leaves."""
    leaves = _require.real(**values)
    _require.positive(leaves, *values)
    return leaves
