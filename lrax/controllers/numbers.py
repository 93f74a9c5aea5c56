"""The numbers of a rule: real scalars, which may be traced."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _require

Numbers = dict[str, Any]  # floats, or tracers


def require_factor(numbers: Numbers) -> None:
    """Requires that `factor` is from 0 to 1."""
    _require.nonnegative(numbers, "factor")
    _require.at_most("`factor` must be at most 1", numbers["factor"], np.float32(1))
