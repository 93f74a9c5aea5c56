"""What chunks of lanes are fed with: hyperparameters, keys, initial parameters, and the batches of blocks of steps."""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ... import _require
from ...training.batches import Minibatches
from ...training.streams import Stream, is_source
from ...training.task import Task
from . import lanes
from .lanes import BLOCK, Programs
from .layout import Layout

STREAMED = 64 * 2**20  # bytes of batches from the host that a block may have


class Feed:
    """The arguments of the programs, and where they lie. What groups share is made once for all
    their chunks.

    Attributes:
      points: Points that this process trains.
      seeds: How many seeds.
      rng: `"common"` or `"independent"`.
      block: Steps whose batches are drawn, or taken from the host, together.
      streamed: Whether batches come from the host.
      first: The first of those batches, or `None`.
      data: The arrays of the task, on the devices once `place` was called.
    """

    def __init__(
        self,
        task: Task,
        hyperparams: dict[str, np.ndarray],
        bits: np.ndarray,
        *,
        steps: int,
        rng: str,
        device: Any,
        mesh: Mesh | None,
    ):
        self.points, self.seeds, self.rng = len(next(iter(hyperparams.values()))), len(bits), rng
        self.data: list[Any] = []
        self._task, self._hyperparams, self._bits, self._steps = task, hyperparams, bits, steps
        self._device, self._mesh = device, mesh
        self._initials: dict[Any, tuple[Any, Any, Any]] = {}
        self._block, self._drawn = -1, {}
        self._source: Any = task.batch
        self._stream = Stream(self._source) if is_source(self._source) else None
        self.streamed = self._stream is not None
        self.first: Any = None
        # As long as the run, if that is short, and of few sizes, so that runs of other lengths find
        # it compiled.
        self.block = min(BLOCK, 1 << (steps - 1).bit_length())
        if self._stream is not None:
            self.first = self._stream.peek()
            self._batch = jax.tree.map(abstract, self.first)
            size = sum(
                math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(self._batch)
            )
            self.block = max(min(self.block, STREAMED // max(size, 1)), 1)

    def place(self, data: list[Any]) -> None:
        """Puts the task's arrays on the devices."""
        self.data = [self.put(array) for array in data]

    def put(self, value: Any, spread: int | None = None) -> Any:
        """An array on the devices: on each, or spread over them along the groups, 0, or the members, 1, of a chunk."""
        if self._mesh is None:
            return jax.device_put(value, self._device)
        spec = PartitionSpec() if spread is None else lanes.specs(spread)[0]
        return jax.device_put(value, NamedSharding(self._mesh, spec))

    def drawn(
        self, parts: Programs, shapes: dict[str, tuple[Any, ...]], data: Any, keys: Any
    ) -> Any:
        """The shapes of the rows of a block, or `None`; notes those of the program that draws them."""
        if isinstance(self._task.batch, Minibatches):
            shapes["draw"] = data, keys, np.int32(0)
            return parts.draw.trace(*shapes["draw"])
        if self.streamed:
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((self.block, *leaf.shape), leaf.dtype),
                self._batch,
            )
        return None

    def hyperparams(self, layout: Layout, i: int) -> dict[str, jax.Array]:
        """The hyperparameters of a chunk's lanes."""
        number, points = _require.float_dtype(), layout.chunks[i].points
        spread = spread_axis(layout.shape)
        # Arrays of JAX, for the threads that train do not know whether this one has float64.
        return {
            name: self.put(values[points].astype(number), spread)
            for name, values in self._hyperparams.items()
        }

    def initial(self, parts: Programs, layout: Layout, i: int) -> tuple[Any, Any, Any]:
        """Parameters, state and keys of a chunk's groups."""
        groups = self._groups(layout, i)
        if groups not in self._initials:
            bits = np.stack([self._bits[group] for group in groups])
            self._initials[groups] = parts.init(self.data, bits)
        return self._initials[groups]

    def inputs(self, parts: Programs, layout: Layout, first: int) -> list[Any]:
        """For each chunk what its steps from `first` on need: hyperparameters, keys, and the rows of their block."""
        found = []
        for i in range(len(layout.chunks)):
            *_, keys = self.initial(parts, layout, i)
            rows = None
            if self.streamed:
                rows = self._taken(first // self.block)
            elif isinstance(self._task.batch, Minibatches):
                rows = self._rows(parts, self._groups(layout, i), keys, first // self.block)
            found.append((self.hyperparams(layout, i), keys, rows))
        return found

    def close(self) -> None:
        """Ends what reads ahead."""
        if self._stream is not None:
            self._stream.close()

    def _groups(self, layout: Layout, i: int) -> tuple[Any, ...]:
        chunk = layout.chunks[i]
        if self.rng == "common":
            return tuple(chunk.seeds[:, 0].tolist())
        return tuple(zip(chunk.seeds[:, 0].tolist(), chunk.points[:, 0].tolist(), strict=True))

    def _rows(self, parts: Programs, groups: tuple[Any, ...], keys: Any, block: int) -> Any:
        """Indices of the batches of a block."""
        if block != self._block:
            self._block, self._drawn = block, {}
        if groups not in self._drawn:
            self._drawn[groups] = parts.draw(self.data, keys, np.int32(block))
        return self._drawn[groups]

    def _taken(self, block: int) -> Any:
        """The batches of a block, from the host, filled up with copies at the end of the run."""
        if block != self._block:
            assert self._stream is not None
            while (
                self._stream.position < block * self.block
            ):  # in a run that goes on where another one was
                self._stream.take(
                    1
                )  # by hand, for an iterator that can be read only once has begun already
            steps = min(self.block, self._steps - block * self.block)
            fill = lambda leaf: np.concatenate(
                [leaf, np.repeat(leaf[-1:], self.block - steps, axis=0)]
            )
            self._block, self._drawn = (
                block,
                jax.tree.map(self.put, jax.tree.map(fill, self._stream.take(steps))),
            )
        return self._drawn


def spread_axis(shape: tuple[int, int]) -> int:
    """The axis of chunks of this shape that is spread over devices."""
    return 0 if shape[1] == 1 else 1


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """The shape of an array, as JAX will have it."""
    return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))
