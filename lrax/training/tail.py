"""The mean of the last tenth of a curve: the one number that stands for how a run ended."""

from typing import TypeVar

import jax
import numpy as np

# One update's loss is mostly the luck of its batch. A tenth of the run averages that luck out and
# is short enough to miss what the curve was before.
PART = 10

Losses = TypeVar("Losses", np.ndarray, jax.Array)


def tail_length(records: int) -> int:
    """The number of records in the last tenth of `records`; at least 1."""
    return max(records // PART, 1)


def tail_mean(losses: Losses) -> Losses:
    """The mean over the last tenth of the last axis, at least over the last entry.

    Args:
      losses: `[..., records]`, at least one record; NumPy's or JAX's.

    Returns:
      `[...]`, in the dtype of `losses`.
    """
    last = losses[..., -tail_length(losses.shape[-1]) :]
    return last.mean(axis=-1)  # pyright: ignore[reportReturnType]
