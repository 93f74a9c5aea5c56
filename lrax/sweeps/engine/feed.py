"""The arguments of the programs: hyperparameters, keys and batches, placed on the devices."""

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ...training.batches import source
from ...training.streams import Stream
from ..choices import Points
from . import devices as hardware
from .layout import Layout
from .programs import BLOCK, Problem, specs

STREAMED = 64 * 2**20  # bytes of a block of batches from the host, at most
KEPT = 256 * 2**20  # bytes of drawn rows that are kept for the chunks that share them

Tree = Any


class Feed:
    """The arguments of the programs. What chunks share is made and stored once.

    Attributes:
      points: The points that this process trains.
      bits: Key data of the groups: `[seeds, 2]`, or `[seeds, points, 2]` if every lane has its own.
      given: Parameters to start from, their leaves `[seeds, ...]`, or None.
      rng: `"common"` or `"independent"`.
      block: Updates whose batches are drawn, or taken from the host, together.
      streamed: Whether batches come from the host.
      first: The first batch from the host, or None.
      data: The arrays of the task on the devices.
      devices: The devices of this process that lanes are spread over.
      mesh: Their mesh, or None for the one device that JAX takes itself.
    """

    def __init__(
        self,
        problem: Problem,
        points: Points,
        bits: np.ndarray,
        *,
        given: Tree,
        steps: int,
        rng: str,
        devices: Sequence[hardware.Device],
    ):
        self.points, self.bits, self.given, self.rng = points, bits, given, rng
        self.devices, self.mesh, self._steps = devices, hardware.mesh(devices), steps
        self._rows: OrderedDict[Any, Tree] = OrderedDict()
        self._lock = threading.Lock()
        # Batches from the host by block: chunks may still train on the block before.
        self._taken: dict[int, Tree] = {}
        self.first: Tree = None
        # As long as the run if that is short, and of few sizes, so that runs of other lengths find
        # their programs compiled.
        self.block = min(BLOCK, 1 << (steps - 1).bit_length())
        self.streamed = source(problem.example.batch).streamed
        batches: Any = problem.example.batch
        self._stream = Stream(batches) if self.streamed else None
        self.data: list[Any] = []
        try:
            self.data = [self.put(array) for array in problem.data]
            if self._stream is not None:
                self.first = self._stream.peek()
                size = sum(leaf.nbytes for leaf in jax.tree.leaves(self.first))
                self.block = max(min(self.block, STREAMED // max(size, 1)), 1)
        except BaseException:
            self.close()  # or the thread would live as long as this error is kept
            raise

    @property
    def seeds(self) -> int:
        """How many seeds."""
        return len(self.bits)

    def put(self, value: Any, spread: int | None = None) -> Any:
        """An array on the devices.

        Args:
          value: The array.
          spread: None to have it on each device; or the axis of a chunk, 0 for its groups and 1
            for the members, along which the devices share it.
        """
        if self.mesh is None:
            return jax.device_put(value, self.devices[0])
        spec = PartitionSpec() if spread is None else specs(spread)[0]
        return jax.device_put(value, NamedSharding(self.mesh, spec))

    def hyperparams(self, layout: Layout, i: int) -> Tree:
        """The hyperparameters of a chunk's lanes, on the devices."""
        spread = spread_axis(layout.shape)
        lanes = self.points.lanes(layout.chunks[i].points)
        return jax.tree.map(lambda leaf: self.put(leaf, spread), lanes)

    def starts(self, layout: Layout, i: int) -> tuple[np.ndarray, Tree]:
        """Key data and given parameters of a chunk's groups."""
        chunk = layout.chunks[i]
        seeds = chunk.seeds[:, 0]
        bits = self.bits[seeds]
        if self.rng == "independent":
            bits = self.bits[seeds, chunk.points[:, 0]]
        return bits, jax.tree.map(lambda leaf: np.asarray(leaf)[seeds], self.given)

    def rows(self, draw: Any, layout: Layout, i: int, keys: Tree, block: int) -> Tree:
        """What the updates of a block need beside the data; chunks of the same groups share it.

        Any thread may call it.
        """
        if self.streamed:
            return self._taken[block]
        chunk = layout.chunks[i]
        groups = chunk.seeds[:, 0].tobytes()
        if self.rng == "independent":
            groups += chunk.points[:, 0].tobytes()
        key = groups, block
        with self._lock:
            if key in self._rows:
                return self._rows[key]
        rows = draw(self.data, keys, np.int32(block))
        with self._lock:
            self._rows[key] = rows
            while len(self._rows) * nbytes(rows) > KEPT and len(self._rows) > 1:
                self._rows.popitem(last=False)
        return rows

    def is_ready(self, first: int, timeout: float) -> bool:
        """Whether the batches of the updates from `first` on are there, after waiting so long.

        Raises:
          Exception: what the source raised, if it has no more batches for them.
        """
        block = first // self.block
        if self._stream is None or block in self._taken:
            return True
        while self._stream.position < block * self.block:
            # In a run that goes on where another one was, batches already used are read once more.
            if not self._stream.ready(1, timeout):
                return False
            self._stream.take(1)
        steps = min(self.block, self._steps - block * self.block)
        if not self._stream.ready(steps, timeout):
            return False
        # Filled up with copies at the end of the run.
        more = self.block - steps
        fill = lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], more, axis=0)])
        batches = jax.tree.map(fill, self._stream.take(steps))
        before = {block - 1: self._taken[block - 1]} if block - 1 in self._taken else {}
        self._taken = {**before, block: jax.tree.map(self.put, batches)}
        return True

    def close(self) -> None:
        """Ends what reads ahead."""
        if self._stream is not None:
            self._stream.close()

    def shapes(self, of: tuple[int, int]) -> tuple[Tree, Tree, Tree, Tree]:
        """Shapes of data, hyperparameters, key data and given parameters of a chunk."""
        blank = self.points.lanes(np.zeros(of, int))
        groups = np.zeros(of[0], int)
        given = jax.tree.map(lambda leaf: np.asarray(leaf)[groups], self.given)
        bits = jax.ShapeDtypeStruct((of[0], 2), np.uint32)
        return _shapes(self.data), _shapes(blank), bits, _shapes(given)

    def row_shapes(self, block: int) -> Tree:
        """Shapes of so many batches from the host."""
        one = _shapes(self.first)
        more = lambda leaf: jax.ShapeDtypeStruct((block, *leaf.shape), leaf.dtype)
        return jax.tree.map(more, one)


def spread_axis(shape: tuple[int, int]) -> int:
    """The axis of chunks of this shape that is spread over devices."""
    return 0 if shape[1] == 1 else 1


def nbytes(tree: Tree) -> int:
    """Bytes of arrays, or of their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _shapes(tree: Tree) -> Tree:
    canonical = jax.dtypes.canonicalize_dtype
    shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, canonical(leaf.dtype))
    return jax.tree.map(shape, tree)
