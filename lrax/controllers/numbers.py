"""The numbers of a rule: real scalars, which may be traced."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _require
from ..rate.rule import one_rate

Numbers = dict[str, Any]  # floats, or tracers


def scalars(**values: Any) -> Numbers:
    """Requires single real numbers, or tracers of them."""
    numbers = _require.real(**values)
    for name, value in numbers.items():
        one_rate(value, name)
    return numbers


def require_factor(numbers: Numbers) -> None:
    """Requires a finite number from 0 to 1."""
    _require.nonnegative(numbers, "factor")
    _require.at_most("`factor` must be at most 1", numbers["factor"], np.float32(1))
