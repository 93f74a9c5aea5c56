"""The mean of the last tenth of a curve: one number for how a run ended."""

from typing import TypeVar

import jax
import numpy as np

# The loss of one update depends mostly on its random batch. The mean over a tenth of the run is
# less noisy, and a tenth is short enough to exclude the earlier part of the curve.
PART = 10

Losses = TypeVar("Losses", np.ndarray, jax.Array)


def tail_length(records: int) -> int:
    """The number of records in the last tenth of `records`; at least 1."""
    return max(records // PART, 1)


def tail_mean(losses: Losses) -> Losses:
    """The mean over the last tenth of the last axis, and over one entry at least.

    Args:
      losses: Array of NumPy or JAX, `[..., records]`, with at least one record.

    Returns:
      `[...]`, in the dtype of `losses`.
    """
    last = losses[..., -tail_length(losses.shape[-1]) :]
    return last.mean(axis=-1)  # pyright: ignore[reportReturnType]
