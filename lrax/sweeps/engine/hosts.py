"""The processes of `jax.distributed`.

Each trains its own part of the points. They exchange data between segments.
"""

import contextlib
import functools
import json
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax import numpy as jnp

from ..storage.checkpoint import State

Tree = Any
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Bytes of the head of a message: 8 say whether the process has failed, 8 hold the size of the
# message, and the rest holds its first bytes. So a short message needs no second round.
HEAD = 512
INLINE = HEAD - 16
# Bytes that a process sends in one round. Every device holds the pieces of all processes.
PIECE = 4 * 2**20
PATIENCE = 3600  # seconds that the first process waits for the last one when they begin


class HostError(RuntimeError):
    """Another process has failed, or cannot be reached."""


class Hosts:
    """The processes that share a sweep. With one process, nothing is exchanged.

    A program never waits for lanes of another process. What stop rules and results need is
    exchanged between segments, by an all-gather of JAX's runtime. The data are sent as bytes, so
    that arrays of every type arrive unchanged.

    All processes must make the same exchanges in the same order. The head of each message says
    whether its process has failed, so that an error in one process is raised in all: see
    `together`.
    """

    def __init__(self) -> None:
        self.count = jax.process_count()
        self.index = jax.process_index()
        self.is_first = self.index == 0

    def own(self, points: int) -> np.ndarray:
        """Indices of the points that this process trains.

        All processes get the same number of indices, so the last ones may repeat the last point.
        """
        each = -(-points // self.count)
        return np.minimum(np.arange(self.index * each, (self.index + 1) * each), points - 1)

    def gather(self, tree: Tree, points: int, axis: int = 0) -> Tree:
        """Joins the arrays of all processes along the axis of points, in every process.

        Args:
          tree: Arrays of this process's points, of the same shapes in all processes.
          points: The number of points of the sweep; copies after them are cut off.
          axis: The axis of points.
        """
        if self.count == 1:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        leaves = [np.asarray(leaf) for leaf in leaves]
        parts = [_arrays(payload, leaves) for payload in self._exchange(_bytes(leaves))]
        whole = [np.concatenate(of_all, axis=axis) for of_all in zip(*parts, strict=True)]
        return jax.tree.unflatten(
            structure, [np.take(leaf, np.arange(points), axis=axis) for leaf in whole]
        )

    def tell(self, *numbers: float) -> np.ndarray:
        """Every process sends some numbers, and gets those of all: `[processes, numbers]`."""
        if self.count == 1:
            return np.array([numbers], np.float64)
        found = self._exchange(np.array(numbers, np.float64).tobytes())
        return np.stack([np.frombuffer(payload, np.float64) for payload in found])

    def check(self, what: str, fingerprint: str) -> None:
        """Requires that a fingerprint is the same in all processes.

        Args:
          what: Names what the fingerprint was made from, for the error.
          fingerprint: The fingerprint of this process.

        Raises:
          ValueError: in all processes, if it differs.
        """
        if self.count > 1 and len(found := set(self._exchange(fingerprint.encode()))) > 1:
            raise ValueError(
                f"all processes must make the same call, got {len(found)} different ones by their"
                f" {what}"
            )

    def given(self, tree: Tree, owner: int) -> Tree:
        """Every process gets the arrays of the process `owner`.

        In all processes `tree` must have the same structure, shapes and types.
        """
        if self.count == 1:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        leaves = [np.asarray(leaf) for leaf in leaves]
        found = self._exchange(_bytes(leaves) if owner == self.index else b"")
        return jax.tree.unflatten(structure, _arrays(found[owner], leaves))

    def of_first(self, load: Callable[[], State | None]) -> State | None:
        """Every process gets the state that the first one loads.

        The others may not have access to its files.
        """
        if self.count == 1:
            return load()
        found = load() if self.is_first else None
        payload = b""
        if found is not None:
            facts, arrays = found
            # The size of a JSON text, the text, and the arrays that it describes.
            kinds = {name: [array.dtype.name, array.shape] for name, array in arrays.items()}
            text = json.dumps([facts, kinds]).encode()
            payload = len(text).to_bytes(8, "little") + text + _bytes(list(arrays.values()))
        payload = self._exchange(payload)[0]
        if not payload:  # there is no state
            return None
        begin = 8 + int.from_bytes(payload[:8], "little")
        facts, kinds = json.loads(payload[8:begin])
        like = [np.empty(shape, jnp.dtype(name)) for name, shape in kinds.values()]
        return State(facts, dict(zip(kinds, _arrays(payload[begin:], like), strict=True)))

    def leave(self, failure: str | None = None) -> None:
        """Makes the last exchange, which may tell the other processes of a failure.

        Their next exchange, whatever it is, then raises a `HostError`.
        """
        if self.count > 1:
            # A failure must fit into the head, after which there is no further round.
            self._exchange((failure or "").encode()[:INLINE], failed=failure is not None)

    def _exchange(self, payload: bytes, *, failed: bool = False) -> list[bytes]:
        """Sends a message of any length; returns those of all processes."""
        head = (
            bytes([failed]).ljust(8, b"\0") + len(payload).to_bytes(8, "little") + payload[:INLINE]
        )
        heads = self._gathered(head.ljust(HEAD, b"\0"))
        sizes = [int.from_bytes(head[8:16], "little") for head in heads]
        # Checked before the further rounds, in which a failed process takes no part.
        for index, (head, size) in enumerate(zip(heads, sizes, strict=True)):
            if head[0] and index != self.index and not failed:
                raise HostError(
                    f"process {index} failed: {head[16 : 16 + size].decode(errors='replace')}"
                )
        if failed:
            return []
        found = [[head[16:]] for head in heads]
        # As many rounds as the longest message needs; all processes send equally much in each.
        for begin in range(INLINE, max(sizes), PIECE):
            # A power of two, because every length needs a compiled program of its own.
            length = min(PIECE, 1 << (max(sizes) - begin - 1).bit_length())
            piece = payload[begin : begin + length].ljust(length, b"\0")
            for parts, part in zip(found, self._gathered(piece), strict=True):
                parts.append(part)
        return [b"".join(parts)[:size] for parts, size in zip(found, sizes, strict=True)]

    def _gathered(self, piece: bytes) -> list[bytes]:
        """The pieces of all processes, which are equally long."""
        from jax.experimental import multihost_utils

        try:
            parts = multihost_utils.process_allgather(np.frombuffer(piece, np.uint8))
        except Exception as error:
            raise HostError(f"a process cannot be reached: {error}") from error
        return [part.tobytes() for part in np.asarray(parts)]


@functools.cache
def _meet() -> None:
    """Waits, at the first call, until all processes have come here.

    On CPUs JAX communicates by gloo, which fails for good if the processes begin more than half a
    minute apart.
    """
    # JAX's barrier has no public name. In a version of JAX without it, the
    # processes wait only as long as gloo does.
    from jax._src import distributed

    wait = getattr(getattr(distributed.global_state, "client", None), "wait_at_barrier", None)
    if wait is not None:
        try:
            wait("lrax.sweeps.hosts", PATIENCE * 1000)
        except Exception as error:
            raise HostError(f"a process cannot be reached: {error}") from error


_calls = 0  # depth of nested calls: a function of `together` may call another


def together(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes an error in one process an error in all. All processes must call the function.

    Without this, the other processes would wait forever for the one that failed. A process that is
    killed sends no message. Then the next exchange of the others ends in a `HostError`, or JAX's
    runtime ends them.
    """

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        global _calls
        # Only the outermost call reports a failure to the other processes, so it is sent once.
        if _calls or jax.process_count() == 1:
            return function(*args, **kwargs)
        hosts = Hosts()
        _calls += 1
        try:
            _meet()
            result = function(*args, **kwargs)
            hosts.leave()
            return result
        except HostError:
            raise  # the other processes have raised it too
        except BaseException as error:
            # Any error, Ctrl-C included.
            with contextlib.suppress(HostError):  # the other processes may have ended
                hosts.leave(f"{type(error).__name__}: {error}")
            raise
        finally:
            _calls -= 1

    return call


def _bytes(leaves: list[np.ndarray]) -> bytes:
    """The bytes of arrays, one after the other."""
    return b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in leaves)


def _arrays(payload: bytes, like: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays from their bytes, with the shapes and types of `like`."""
    found = []
    begin = 0
    for leaf in like:
        part = payload[begin : begin + leaf.nbytes]
        # `bytearray`, because an array over `bytes` cannot be written to.
        found.append(np.frombuffer(bytearray(part), leaf.dtype).reshape(leaf.shape))
        begin += leaf.nbytes
    if begin != len(payload):
        raise HostError(f"the processes differ: expected {begin} bytes, got {len(payload)}")
    return found
