"""The processes of `jax.distributed`: each trains its own part of the points, and they talk between segments."""

import contextlib
import functools
import json
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax import numpy as jnp

from ..storage.checkpoint import State

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

HEAD = 512  # bytes of what every exchange begins with: a word on how it goes, how much is to come, and its beginning
PIECE = (
    4 * 2**20
)  # bytes that a process sends at once; every device has the pieces of all processes for a moment
PATIENCE = 3600  # seconds that the processes may be apart when they begin


class HostError(RuntimeError):
    """Another process has failed, or cannot be reached."""


class Hosts:
    """The processes that share a sweep; with one, nothing of this costs anything.

    The lanes of one process never wait for another's inside a program. What all must know, the
    scores at a rung and the results, is exchanged between segments, over JAX's own runtime, as
    bytes: whatever its types, it arrives unchanged.

    All make the same exchanges in the same order. Each begins with a word on whether all goes well,
    so that the others hear of it when one fails: see `together`.
    """

    def __init__(self) -> None:
        self.count, self.index = jax.process_count(), jax.process_index()
        self.is_first = self.index == 0

    def own(self, points: int) -> np.ndarray:
        """Indices of the points of this process, as many for each: the last ones may train copies of the last point."""
        each = -(-points // self.count)
        return np.minimum(np.arange(self.index * each, (self.index + 1) * each), points - 1)

    def gather(self, tree: Any, points: int, axis: int = 0) -> Any:
        """Arrays of the points of each process as arrays of all points, on all."""
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
        """The numbers of every process, `[processes, numbers]`, on all."""
        if self.count == 1:
            return np.array([numbers], np.float64)
        found = self._exchange(np.array(numbers, np.float64).tobytes())
        return np.stack([np.frombuffer(payload, np.float64) for payload in found])

    def check(self, what: str, fingerprint: str) -> None:
        """Requires that something is the same on all processes.

        Raises:
          ValueError: if it is not, on all.
        """
        if self.count > 1 and len(found := set(self._exchange(fingerprint.encode()))) > 1:
            raise ValueError(
                f"all processes must make the same call, got {len(found)} different ones by their {what}"
            )

    def given(self, tree: Any, owner: int) -> Any:
        """What one process has, on all, which have trees of the same shapes and types."""
        if self.count == 1:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        leaves = [np.asarray(leaf) for leaf in leaves]
        found = self._exchange(_bytes(leaves) if owner == self.index else b"")
        return jax.tree.unflatten(structure, _arrays(found[owner], leaves))

    def of_first(self, load: Callable[[], State | None]) -> State | None:
        """What the first process loads, on all, which may not see its files."""
        if self.count == 1:
            return load()
        found = load() if self.is_first else None
        payload = b""
        if found is not None:
            facts, arrays = found
            kinds = {name: [array.dtype.name, array.shape] for name, array in arrays.items()}
            text = json.dumps([facts, kinds]).encode()
            payload = len(text).to_bytes(8, "little") + text + _bytes(list(arrays.values()))
        payload = self._exchange(payload)[0]
        if not payload:
            return None
        begin = 8 + int.from_bytes(payload[:8], "little")
        facts, kinds = json.loads(payload[8:begin])
        like = [np.empty(shape, jnp.dtype(name)) for name, shape in kinds.values()]
        return State(facts, dict(zip(kinds, _arrays(payload[begin:], like), strict=True)))

    def leave(self, failure: str | None = None) -> None:
        """The last exchange of all, or the one that tells the others of a failure instead of their next one."""
        if self.count > 1:
            self._exchange((failure or "").encode()[: HEAD - 16], failed=failure is not None)

    def _exchange(self, payload: bytes, *, failed: bool = False) -> list[bytes]:
        """What every process sends, of whatever length."""
        inline = HEAD - 16
        head = (
            bytes([failed]).ljust(8, b"\0") + len(payload).to_bytes(8, "little") + payload[:inline]
        )
        heads = self._gathered(head.ljust(HEAD, b"\0"))
        sizes = [int.from_bytes(head[8:16], "little") for head in heads]
        for index, (head, size) in enumerate(zip(heads, sizes, strict=True)):
            if head[0] and index != self.index and not failed:
                raise HostError(
                    f"process {index} failed: {head[16 : 16 + size].decode(errors='replace')}"
                )
        if failed:
            return []
        found = [[head[16:]] for head in heads]
        for begin in range(inline, max(sizes), PIECE):
            # Of few lengths, each of which is a program to compile.
            length = min(PIECE, 1 << (max(sizes) - begin - 1).bit_length())
            piece = payload[begin : begin + length].ljust(length, b"\0")
            for parts, part in zip(found, self._gathered(piece), strict=True):
                parts.append(part)
        return [b"".join(parts)[:size] for parts, size in zip(found, sizes, strict=True)]

    def _gathered(self, piece: bytes) -> list[bytes]:
        from jax.experimental import multihost_utils

        try:
            parts = multihost_utils.process_allgather(np.frombuffer(piece, np.uint8))
        except Exception as error:
            raise HostError(f"a process cannot be reached: {error}") from error
        return [part.tobytes() for part in np.asarray(parts)]


@functools.cache
def _meet() -> None:
    """Waits for all, once: gloo, which CPUs talk by, fails for good if they begin half a minute apart."""
    from jax._src import (
        distributed,  # has no public name; without it, that half a minute is what there is
    )

    wait = getattr(getattr(distributed.global_state, "client", None), "wait_at_barrier", None)
    if wait is not None:
        try:
            wait("lrax.sweeps.hosts", PATIENCE * 1000)
        except Exception as error:
            raise HostError(f"a process cannot be reached: {error}") from error


_calls = 0  # of functions that all processes call together, one within another


def together(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes a function that all processes call raise on all if it raises on one, which the others
    would wait for.

    Where a process is killed the others cannot know; what JAX's runtime does then, a `HostError` or
    the end of the process, comes at the next exchange.
    """

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        global _calls
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
            raise  # which the others have heard of
        except BaseException as error:
            with contextlib.suppress(HostError):  # if nobody is left to hear of it
                hosts.leave(f"{type(error).__name__}: {error}")
            raise
        finally:
            _calls -= 1

    return call


def _bytes(leaves: list[np.ndarray]) -> bytes:
    return b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in leaves)


def _arrays(payload: bytes, like: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays of the shapes and types of others, from their bytes."""
    found, begin = [], 0
    for leaf in like:
        part = payload[begin : begin + leaf.nbytes]
        found.append(np.frombuffer(bytearray(part), leaf.dtype).reshape(leaf.shape))
        begin += leaf.nbytes
    if begin != len(payload):
        raise HostError(f"the processes differ: {begin} bytes were due, {len(payload)} came")
    return found
