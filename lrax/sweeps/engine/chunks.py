"""The lanes that a process trains, in chunks, and the threads that train them.

A thread trains one chunk through all the updates of a segment before it begins the next chunk. So a
CPU keeps the lanes of a chunk in its caches, and a lane costs no more in a sweep of many chunks
than in a sweep of few.
"""

import concurrent.futures
import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from .engine import Engine, compacted, narrowed
from .layout import Layout
from .threads import threads

Tree = Any
Records = Any  # what `train` records, a tree with leaves `[records, groups, members]`


class Chunk:
    """The lanes of a chunk in training, with their hyperparameters and keys."""

    def __init__(self, hyperparams: Tree, lanes: Tree, keys: Tree):
        self.hyperparams, self.lanes, self.keys = hyperparams, lanes, keys
        # The latest segment, which may still be in training.
        self.task: concurrent.futures.Future[Trained] | None = None


class Trained(NamedTuple):
    """What the training of a chunk through a segment gave, on the host."""

    calls: list[tuple[int, int, Records]]  # for each call: its first update, updates, records
    finite: np.ndarray  # `[groups, members]`, whether a lane's parameters are finite


@dataclasses.dataclass(frozen=True)
class Chunks:
    """All chunks of this process.

    Attributes:
      engine: The compiled programs and the plan by which they are run.
      layout: The points and seeds of each chunk.
      parts: The chunks; there are none before the lanes are made.
    """

    engine: Engine
    layout: Layout
    parts: Sequence[Chunk] = ()

    def train(self, first: int, count: int) -> list[concurrent.futures.Future[Trained]]:
        """Gives the next updates of all chunks to the threads, and does not wait for them.

        Args:
          first: The index of the first update.
          count: Updates.

        Returns:
          A future for the result of each chunk.
        """
        pool = threads(self.engine.plan.threads)

        def train(i: int, before: concurrent.futures.Future[Trained] | None) -> Trained:
            if before is not None:
                # `before` trains this chunk through the previous segment, and its lanes are needed
                # here. It was queued earlier, so a thread has begun it: the wait comes to an end.
                before.result()
            return self._trained(i, first, count)

        results = []
        for i, chunk in enumerate(self.parts):
            chunk.task = pool.submit(train, i, chunk.task)
            results.append(chunk.task)
        return results

    def wait(self) -> None:
        """Waits until no chunk is in training. An error of the training is not raised here."""
        concurrent.futures.wait([chunk.task for chunk in self.parts if chunk.task is not None])

    def _trained(self, i: int, first: int, count: int) -> Trained:
        """Trains one chunk, one block of batches after the other."""
        chunk, feed = self.parts[i], self.engine.feed
        found, finite, end = [], None, first + count
        while first < end:
            block = first // feed.block
            steps = min(end, (block + 1) * feed.block) - first
            rows = feed.rows(self.engine.programs.draw, self.layout, i, chunk.keys, block)
            chunk.lanes, records, finite = self.engine.train(chunk, rows, first, steps)
            # The records are fetched after the loop, because fetching them here would wait for the
            # device and delay the next call.
            found.append((first, steps, records))
            first += steps
        return Trained(jax.device_get(found), np.asarray(finite))

    def seconds_per_update(self, done: int, count: float) -> float:
        """The seconds that an update of one chunk takes, measured in a call of some updates.

        Args:
          done: Updates made. What the timed updates compute is dropped.
          count: About how many updates to time.
        """
        layout, chunk, feed = self.layout, self.parts[0], self.engine.feed
        block = done // feed.block
        rows = feed.rows(self.engine.programs.draw, layout, 0, chunk.keys, block)
        # A copy, because `train` donates the buffers of the lanes that it is given.
        copy = Chunk(chunk.hyperparams, jax.tree.map(jnp.copy, chunk.lanes), chunk.keys)
        jax.block_until_ready((copy.lanes, rows))
        steps = min(max(int(count), 1), (block + 1) * feed.block - done)
        begin = time.perf_counter()
        jax.block_until_ready(self.engine.train(copy, rows, done, steps))
        return (time.perf_counter() - begin) / steps

    def evaluate(self, points: int) -> dict[str, np.ndarray]:
        """The metrics of all lanes, `{name: [points, seeds]}`; NaN for points without lanes.

        Args:
          points: The number of points of this process.
        """
        evaluate = self.engine.programs.evaluate
        if evaluate is None or not self.parts:
            missing = np.full((points, self.engine.feed.seeds), np.nan, np.float32)
            return {name: missing.copy() for name in self.engine.metrics}

        def one(chunk: Chunk) -> Any:
            data = self.engine.feed.data
            return jax.device_get(evaluate(data, chunk.hyperparams, chunk.keys, chunk.lanes))

        pool = threads(self.engine.plan.threads)
        tasks = [pool.submit(one, chunk) for chunk in self.parts]
        concurrent.futures.wait(tasks)  # all of them, even if one fails
        parts = [task.result() for task in tasks]
        return jax.tree.map(lambda *leaves: self.layout.gather(leaves, points), *parts)

    def fetch(self) -> list[np.ndarray]:
        """The leaves of the lanes on the host, `[points, seeds, ...]`, with the layout's points."""
        return self.engine.fetch(self.layout, [chunk.lanes for chunk in self.parts])

    def lane(self, point: int, seed: int) -> Tree:
        """One lane on the host."""
        chunk, group, member = self.layout.where(point, seed)
        return self.engine.member(self.parts[chunk].lanes, group, member)

    def only(self, points: np.ndarray) -> "Chunks":
        """The lanes of some of the points, in fewer or smaller chunks if these suffice."""
        engine, layout = compacted(self.engine, self.layout, points)
        if layout is self.layout:
            return dataclasses.replace(self, engine=engine)
        # If each new chunk equals an old one, no lane moves, and the other old chunks are dropped.
        same = layout.among(self.layout)
        if same is not None:
            return Chunks(engine, layout, [self.parts[i] for i in same])
        kept = np.isin(self.layout.points, layout.points)
        return filled_chunks(engine, layout, [leaf[kept] for leaf in self.fetch()], layout.points)


def new_chunks(engine: Engine, points: np.ndarray) -> Chunks:
    """The chunks of some points, with new lanes."""
    engine = narrowed(engine, len(points))
    layout = engine.arrange(points)
    # The lanes are made on this thread and not by the pool, because JAX's settings, such as x64,
    # may hold for this thread alone.
    return Chunks(
        engine, layout, [Chunk(*engine.begin(layout, i)) for i in range(len(layout.chunks))]
    )


def filled_chunks(
    engine: Engine, layout: Layout, leaves: list[np.ndarray], points: np.ndarray
) -> Chunks:
    """The chunks of a layout, with lanes from the host.

    Args:
      engine: The programs and the plan.
      layout: Where the lanes go.
      leaves: The leaves of the lanes, `[points, seeds, ...]`.
      points: The indices of these points.
    """
    parts = []
    for i, lanes in enumerate(engine.place(layout, leaves, points)):
        hyperparams, _, keys = engine.begin(layout, i)  # `lanes` replace the new lanes
        parts.append(Chunk(hyperparams, lanes, keys))
    return Chunks(engine, layout, parts)
