"""The arguments of the programs: hyperparameters, keys and batches, placed on the devices."""

import copy
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from ...training.batches import source
from ...training.streams import Stream
from ..choices import Points
from . import devices as hardware
from .layout import Layout
from .programs import BLOCK, Problem, specs

STREAMED = 64 * 2**20  # bytes that a block of batches from the host may take
KEPT = 256 * 2**20  # bytes of drawn rows that are kept for other chunks of the same groups

Tree = Any
Initial = Any  # the compiled program `initial`, or None
Draw = Any  # the compiled program `draw`, or None for batches from the host


class Feed:
    """The arguments of the programs. What several chunks need is made and stored once.

    Attributes:
      points: The points that this process trains.
      bits: Key data: `[seeds, 2]`, or `[seeds, points, 2]` if every lane has its own.
      given: Parameters to start from, with leaves `[seeds, ...]`, or None.
      rng: `"common"` if the points of a seed share their random numbers, or `"independent"`.
      block: The number of updates whose batches are drawn, or taken from the host, together.
      streamed: Whether batches come from the host.
      first: The first batch from the host, or None.
      data: The arrays of the task on the devices.
      devices: The devices of this process that lanes are spread over.
      mesh: Their mesh, or None for JAX's default device alone.
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
        self.points = points
        self.bits = bits
        self.given = given
        self.rng = rng
        self.devices = devices
        self.mesh = hardware.mesh(devices)
        self._steps = steps
        # Drawn rows by groups and block, the oldest first.
        self._rows: OrderedDict[tuple[bytes, int], Future[Tree]] = OrderedDict()
        self._lock = threading.Lock()
        # What the groups of the latest chunk start from, by their key data.
        self._initial: dict[bytes, Tree] = {}
        # Batches from the host by block: the current one, and the one before, on which some chunks
        # may still be training.
        self._taken: dict[int, Tree] = {}
        self.first: Tree = None
        # A block need not be longer than the run. Its length is rounded up to a power of two, so
        # that runs of similar lengths share their programs.
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
            # The error's traceback holds this object, so the thread that reads ahead would go on.
            self.close()
            raise

    @property
    def seeds(self) -> int:
        """How many seeds."""
        return len(self.bits)

    def having(self, points: Points) -> "Feed":
        """The same arguments with other values of the hyperparameters."""
        # What is stored does not depend on these values, so both feeds share it.
        found = copy.copy(self)
        found.points = points
        return found

    def put(self, value: ArrayLike, spread: int | None = None) -> jax.Array:
        """An array on the devices.

        Args:
          value: The array.
          spread: None for a copy on each device; or the axis that is divided among the devices: 0
            for the groups of a chunk, 1 for the members.
        """
        if self.mesh is None:
            return jax.device_put(value, self.devices[0])
        spec = PartitionSpec() if spread is None else specs(spread)[0]
        return jax.device_put(value, NamedSharding(self.mesh, spec))

    def hyperparams(self, layout: Layout, i: int) -> Tree:
        """The hyperparameters of a chunk's lanes, on the devices."""
        spread = spread_axis(layout.shape)
        lanes = self.points.lanes(layout.chunks[i].points, layout.chunks[i].seeds)
        return jax.tree.map(lambda leaf: self.put(leaf, spread), lanes)

    def starts(self, initial: Initial | None, layout: Layout, i: int) -> tuple[np.ndarray, Tree]:
        """Key data of a chunk's groups, and the parameters and state that they start from.

        Args:
          initial: The program `initial`, or None if there is none.
          layout: The layout.
          i: The index of the chunk.
        """
        chunk = layout.chunks[i]
        # All members of a group share its seed. With independent random numbers a
        # group is one lane.
        seeds = chunk.seeds[:, 0]
        bits = self.bits[seeds]
        if self.rng == "independent":
            bits = self.bits[seeds, chunk.points[:, 0]]
        if initial is None:
            return bits, jax.tree.map(lambda leaf: np.asarray(leaf)[seeds], self.given)
        if self.rng == "independent":  # no chunk has the groups of another one
            return bits, initial(self.data, bits)
        # Chunks of the same groups follow each other, so only the latest are kept.
        key = bits.tobytes()
        if key not in self._initial:
            self._initial = {key: initial(self.data, bits)}
        return bits, self._initial[key]

    def rows(self, draw: Draw, layout: Layout, i: int, keys: Tree, block: int) -> Tree:
        """The rows of a block: its batches from the host, or what `draw` returns for its updates.

        Chunks of the same groups share them. Any thread may call this.
        """
        if self.streamed:
            return self._taken[block]
        chunk = layout.chunks[i]
        groups = chunk.seeds[:, 0].tobytes()
        if self.rng == "independent":
            groups += chunk.points[:, 0].tobytes()
        key = groups, block
        with self._lock:
            is_first = key not in self._rows
            rows = self._rows.setdefault(key, Future())
        if is_first:
            # Drawn without the lock, so that other threads draw other rows meanwhile. A thread that
            # needs the same rows waits for the future.
            try:
                rows.set_result(draw(self.data, keys, np.int32(block)))
            except BaseException as error:
                rows.set_exception(error)
                raise
            with self._lock:
                # All blocks of all chunks have one size.
                size = nbytes(rows.result())
                while len(self._rows) * size > KEPT and len(self._rows) > 1:
                    self._rows.popitem(last=False)
        return rows.result()

    def is_ready(self, first: int, timeout: float) -> bool:
        """Waits for the host's batches of the block that holds the update `first`.

        Args:
          first: The index of an update.
          timeout: Seconds to wait at most.

        Returns:
          Whether the batches are there.

        Raises:
          Exception: what the source of batches raised, if it is broken or has ended.
        """
        block = first // self.block
        if self._stream is None or block in self._taken:
            return True
        end = time.perf_counter() + timeout
        while self._stream.position < block * self.block:
            # A resumed run passes over the batches that were used before. This may take longer than
            # the timeout, so the next call goes on with it.
            if not self._stream.ready(1, timeout) or time.perf_counter() > end:
                return False
            self._stream.take(1)
        steps = min(self.block, self._steps - block * self.block)
        if not self._stream.ready(steps, timeout):
            return False
        # At the end of the run fewer batches are needed. The program takes blocks of one size, so
        # copies of the last batch fill the block up; nothing is trained on these copies.
        more = self.block - steps
        fill = lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], more, axis=0)])
        batches = jax.tree.map(fill, self._stream.take(steps))
        before = {block - 1: self._taken[block - 1]} if block - 1 in self._taken else {}
        self._taken = {**before, block: jax.tree.map(self.put, batches)}
        return True

    def close(self) -> None:
        """Ends the thread that reads batches ahead."""
        if self._stream is not None:
            self._stream.close()

    def shapes(self, chunk_shape: tuple[int, int]) -> tuple[Tree, Tree, Tree, Tree]:
        """Shapes of data, hyperparameters, key data and given parameters of a chunk."""
        # The shapes for point 0 and seed 0 are those for every point and seed.
        blank = self.points.lanes(np.zeros(chunk_shape, int), np.zeros(chunk_shape, int))
        groups = np.zeros(chunk_shape[0], int)
        given = jax.tree.map(lambda leaf: np.asarray(leaf)[groups], self.given)
        bits = jax.ShapeDtypeStruct((chunk_shape[0], 2), np.uint32)
        return _shapes(self.data), _shapes(blank), bits, _shapes(given)

    def row_shapes(self, block: int) -> Tree:
        """Shapes of `block` batches from the host."""
        one = _shapes(self.first)
        more = lambda leaf: jax.ShapeDtypeStruct((block, *leaf.shape), leaf.dtype)
        return jax.tree.map(more, one)


def spread_axis(shape: tuple[int, int]) -> int:
    """The axis of chunks of this shape that is divided among devices: 0 groups, 1 members."""
    return 0 if shape[1] == 1 else 1


def nbytes(tree: Tree) -> int:
    """Bytes of arrays, or of their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _shapes(tree: Tree) -> Tree:
    """Shapes and types of arrays as a device has them: float32 for float64 without x64."""
    canonical = jax.dtypes.canonicalize_dtype
    shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, canonical(leaf.dtype))
    return jax.tree.map(shape, tree)
