"""The state of each lane at its best evaluation, on the host."""

import dataclasses
from typing import Any

import jax
import numpy as np

from .chunks import Chunks
from .engine import Engine

Tree = Any


@dataclasses.dataclass
class BestStates:
    """The states of the lanes of this process at their best evaluations.

    Attributes:
      leaves: The leaves of the lanes, `[points, seeds, ...]`, zeros before the first evaluation.
      values: `[points, seeds]`, the objective at these evaluations, lower is better; infinite
        before the first evaluation.
    """

    leaves: list[np.ndarray]
    values: np.ndarray

    def update(self, chunks: Chunks, values: np.ndarray) -> None:
        """Keeps the state of each lane whose newest evaluation is its best one.

        Args:
          chunks: The lanes as they are now.
          values: `[points, seeds]`, the newest objective, lower is better.
        """
        if not chunks.parts:
            return
        better = values < self.values  # False where the value is NaN
        placed = chunks.layout.points
        for best, leaf in zip(self.leaves, chunks.fetch(), strict=True):
            mask = better[placed]
            kept = best[placed]  # a copy, because `placed` is an array of indices
            kept[mask] = leaf[mask]
            best[placed] = kept
        self.values = np.where(better, values, self.values)

    def lane(self, engine: Engine, point: int, seed: int) -> Tree | None:
        """The best state of a lane, or None if it has none."""
        if not np.isfinite(self.values[point, seed]):
            return None
        leaves = [leaf[point, seed] for leaf in self.leaves]
        return jax.tree.structure(engine.lanes).unflatten(leaves)


def no_states(engine: Engine) -> BestStates:
    """The best states before the first evaluation: zeros."""
    own, seeds = len(engine.feed.points), engine.feed.seeds
    leaves = jax.tree.leaves(engine.lanes)
    blank = [np.zeros((own, seeds, *leaf.shape[2:]), leaf.dtype) for leaf in leaves]
    return BestStates(blank, np.full((own, seeds), np.inf))
