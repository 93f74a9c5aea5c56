"""Batch sources: pytrees of the data, so that it enters a compiled program as an argument."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp

from .. import _require


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Minibatches:
    """Batches cut from arrays that share their first axis; made by `lrax.minibatches`, a pytree of
    those arrays.

    The examples form one stream, epoch after epoch, each epoch in its own order; the batch of step
    `t` is the `t`-th cut of `size` examples. So every example is seen equally often, and a batch
    may reach into the next epoch.
    """

    arrays: Any
    size: int = dataclasses.field(metadata={"static": True})
    shuffle: bool = dataclasses.field(metadata={"static": True})

    @property
    def examples(self) -> int:
        """How many examples an epoch has."""
        return jax.tree.leaves(self.arrays)[0].shape[0]

    def at(self, step: Any, key: jax.Array) -> Any:
        """The batch of one step of the run with this key."""
        return self.take(self.rows(step, 1, key)[0])

    def take(self, rows: Any) -> Any:
        """The examples with these indices, as one batch."""
        return jax.tree.map(lambda array: jnp.asarray(array)[rows], self.arrays)

    def rows(self, first: Any, steps: int, key: jax.Array) -> jax.Array:
        """Indices of the batches of `steps` steps from `first` on, which may be traced; shape
        `[steps, size]`.

        An epoch's order depends on the key and the epoch alone, so a run that is cut in segments,
        or resumed, sees the batches of the uninterrupted one.
        """
        # The stream's position is first * size, which overflows int32 in long runs: go by whole
        # turns of `examples` steps, each of which spans exactly `size` epochs.
        turns, rest = jnp.divmod(jnp.asarray(first, jnp.int32), self.examples)
        epoch, offset = jnp.divmod(rest * self.size, self.examples)
        position = offset + jnp.arange(steps * self.size, dtype=jnp.int32)
        if not self.shuffle:
            return (position % self.examples).reshape(steps, self.size)
        # An offset is a multiple of the greatest common divisor, so that full batches, say, never
        # straddle two epochs.
        furthest = self.examples - math.gcd(self.size, self.examples) + steps * self.size - 1
        epochs = (
            turns * self.size
            + epoch
            + jnp.arange(1 + max(furthest, 0) // self.examples, dtype=jnp.int32)
        )
        # One epoch after the other: under vmap, keys of the kind `rbg` would all draw from the
        # first one's numbers, and an epoch's order would depend on the segment that it is drawn in.
        orders = lax.map(
            lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), self.examples),
            epochs,
        )
        rows = orders[position // self.examples, position % self.examples].reshape(steps, self.size)
        return rows.astype(jnp.int32)  # `permutation` gives int64 under x64


def minibatches(arrays: Any, size: int, *, shuffle: bool = True) -> Minibatches:
    """Minibatches of in-memory arrays, shuffled anew in every epoch.

    Use it as the `batch` of a `lrax.Task` whenever the data fits in the device's memory: it is
    stored there once, however many runs share it, and nothing is fetched during training.

    Args:
      arrays: A pytree of arrays, such as `(inputs, labels)`, that share the length of their first
        axis.
      size: Examples per batch, from 1 to that length.
      shuffle: Whether each epoch has a random order of its own. Otherwise every epoch has the order
        given.

    Returns:
      A `Minibatches`, a pytree of the arrays.

    Raises:
      ValueError: if there is no array, the first axes differ, or `size` is out of its range.
      TypeError: if `arrays` are not of numbers, `size` is not an int or `shuffle` not a bool.

    Example:
      >>> source = lrax.minibatches({"x": np.arange(6.0)}, size=4, shuffle=False)
      >>> source.at(1, jax.random.key(0))
      {'x': Array([4., 5., 0., 1.], dtype=float32)}
    """
    arrays = jax.tree.map(
        lambda array: array if isinstance(array, jax.Array) else np.asarray(array), arrays
    )
    shapes = [array.shape for array in jax.tree.leaves(arrays)]
    if not shapes or not all(shapes):
        raise ValueError(
            f"`arrays` must be a pytree of arrays with a first axis, got shapes {shapes}"
        )
    unfit = [str(array.dtype) for array in jax.tree.leaves(arrays) if array.dtype.kind in "OSUMm"]
    if unfit:
        raise TypeError(f"`arrays` must be of numbers, got dtypes {', '.join(unfit)}")
    lengths = {shape[0] for shape in shapes}
    if len(lengths) > 1:
        raise ValueError(f"`arrays` must share the length of their first axis, got shapes {shapes}")
    (examples,) = lengths
    size = _require.count("size", size, 1)
    if size > examples:
        raise ValueError(f"`size` must be at most the number of examples, {examples}, got {size}")
    if size * examples > np.iinfo(np.int32).max:
        raise ValueError(
            f"`size` times the number of examples must be below 2^31, got {size} times {examples}"
        )
    if not isinstance(shuffle, bool):
        raise TypeError(f"`shuffle` must be a bool, got {shuffle!r}")
    return Minibatches(arrays, size, shuffle)


# STUB until the protocol lands
class Source: ...


@jax.tree_util.register_static
class FromHost:
    streamed = True

    def ahead(self, first, steps, key):
        return None

    def batch(self, index, row, key):
        return row


FROM_HOST = FromHost()


@dataclasses.dataclass
class _Drawn:
    function: Any
    streamed = False

    def ahead(self, first, steps, key):
        return None

    def batch(self, index, row, key):
        return self.function(index, jax.random.fold_in(key, index))


@dataclasses.dataclass
class _Mini:
    m: Any
    streamed = False

    def ahead(self, first, steps, key):
        return self.m.rows(first, steps, key)

    def batch(self, index, row, key):
        return self.m.take(row)


def source(batch):
    from .streams import is_source

    if isinstance(batch, FromHost):
        return batch
    if isinstance(batch, Minibatches):
        return _Mini(batch)
    if is_source(batch):
        return FROM_HOST
    return _Drawn(batch)
