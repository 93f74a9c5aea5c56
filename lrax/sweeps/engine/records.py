"""The values that a sweep records at its updates, on the host."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .chunks import Trained
from .engine import Engine
from .layout import Chunk

Tree = Any


class Records:
    """The recorded values of all updates, NaN where nothing is recorded yet.

    Attributes:
      parts: Two trees with leaves `[points, seeds, records]`: the losses and aux, then the
        monitors.
      every: Updates from one record to the next, for each of the two.
    """

    def __init__(self, engine: Engine, steps: int):
        """Room for the records of `steps` updates of all points of this process."""
        own, seeds = len(engine.feed.points), engine.feed.seeds
        self.every = engine.problem.loss_every, engine.problem.record_every
        room = []
        for part, every in zip(engine.programs.train.results[1], self.every, strict=True):
            length = count(steps, every)
            blank = lambda leaf, n=length: np.full((own, seeds, n), np.nan, leaf.dtype)
            room.append(jax.tree.map(blank, part))
        self.parts: tuple[Tree, ...] = tuple(room)

    def write(self, trained: Trained, chunk: Chunk, alive: np.ndarray) -> None:
        """Writes the records of a chunk.

        Args:
          trained: What its training gave.
          chunk: The points and seeds of its lanes.
          alive: `[points]`, the points that are still trained. The lanes of others are dropped, as
            are the copies of lanes that fill a chunk up.
        """
        kept = chunk.own & alive[chunk.points]
        points, seeds = chunk.points[kept], chunk.seeds[kept]
        for first, steps, records in trained.calls:
            for room, part, every in zip(self.parts, records, self.every, strict=True):
                begin, end = count(first, every), count(first + steps, every)

                def one(whole: np.ndarray, some: np.ndarray, begin: int = begin, end: int = end):
                    # The call's records are at the front of an array that may be longer. On both
                    # sides the lanes become one axis in front: `[lanes, records]`.
                    records = np.moveaxis(some[: end - begin], 0, -1)
                    whole[points, seeds, begin:end] = records[kept]

                jax.tree.map(one, room, part)

    def up_to(self, done: int) -> tuple[Tree, ...]:
        """The records of the first `done` updates."""
        return tuple(
            jax.tree.map(lambda leaf, every=every: leaf[..., : count(done, every)], part)
            for part, every in zip(self.parts, self.every, strict=True)
        )

    def losses(self, first: int, end: int) -> np.ndarray:
        """The losses of the updates `first` to `end - 1`, `[points, seeds, records]`."""
        every = self.every[0]
        return self.parts[0]["loss"][..., count(first, every) : count(end, every)]

    def expected(self, done: int) -> list[tuple[int, np.dtype]]:
        """The number of records of the first `done` updates and the dtype, for each leaf."""
        return [
            (count(done, every), leaf.dtype)
            for part, every in zip(self.parts, self.every, strict=True)
            for leaf in jax.tree.leaves(part)
        ]

    def restore(self, saved: Callable[[int], np.ndarray]) -> None:
        """Sets the first records of each leaf to those that were saved.

        Args:
          saved: Returns the saved records of a leaf, by its index.
        """
        for i, leaf in enumerate(jax.tree.leaves(self.parts)):
            values = saved(i)
            leaf[..., : values.shape[-1]] = values


def count(updates: int, every: int) -> int:
    """How many of the first `updates` updates are recorded: 0, `every`, 2 * `every` and so on."""
    return -(-updates // every)
