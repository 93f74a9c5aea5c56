"""Batch sources: where the batches of a run come from.

A source is a pytree of its data, so that the data enters a compiled program as an argument. There
are three kinds: arrays in memory (`Minibatches`), a pure function of step and key (`Drawn`), and
the host (`FromHost`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import jax
import numpy as np
from jax import lax, numpy as jnp

from .. import _require
from .streams import is_source

Batch = Any
Arrays = Any
Transform = Callable[[Batch, jax.Array], Batch]

# Folded into the data key to derive the keys of a transform. The indices of epochs are folded into
# the same key, but they are int32 and never reach this number.
TRANSFORM = 2**32 - 1


class Source(Protocol):
    """The methods that the loop of a run calls to get its batches. All are pure."""

    # Whether the batches come from the host. If so, a compiled program takes them as arguments.
    streamed: ClassVar[bool]

    def ahead(self, first: Any, steps: int, key: jax.Array) -> Any:
        """What is computed ahead for the updates `first` to `first + steps - 1`, all at once.

        This is an array with one row per update, such as the indices of its examples. It is None
        for a source that computes nothing ahead.
        """
        ...

    def batch(self, index: Any, row: Any, key: jax.Array) -> Batch:
        """The batch of one update.

        Args:
          index: 0-based index of the update.
          row: The update's row of `ahead`, or the batch itself if it comes from the host.
          key: The run's data key.
        """
        ...


def check_batch(batch: Any) -> None:
    """Requires a value that a task accepts as its `batch`.

    Raises:
      TypeError: if it is anything else. A list or tuple of arrays is refused too, because each
        array would be taken for one batch.
    """
    is_array = lambda entry: isinstance(entry, (np.ndarray, jax.Array))
    if isinstance(batch, (tuple, list)) and any(map(is_array, batch)):
        raise TypeError(
            f"`batch` must not be a {type(batch).__name__} of arrays; for data in memory pass"
            " `lrax.minibatches((x, y), size=...)`"
        )
    known = isinstance(batch, (Minibatches, FromHost)) or callable(batch) or is_source(batch)
    if not known:
        raise TypeError(
            "`batch` must be `lrax.minibatches(arrays, size=...)`, a function of (step, key) or an"
            f" iterable of batches, got {type(batch).__name__}"
        )


def source(batch: Any) -> Source:
    """The `Source` for the `batch` of a task."""
    if isinstance(batch, (Minibatches, FromHost)):
        return batch
    return FROM_HOST if is_source(batch) else Drawn(batch)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Batches made by a pure function of step and key."""

    function: Callable[[Any, jax.Array], Batch]
    streamed: ClassVar[bool] = False

    def ahead(self, first: Any, steps: int, key: jax.Array) -> None:
        """Draws nothing ahead."""
        del first, steps, key

    def batch(self, index: Any, row: None, key: jax.Array) -> Batch:
        """What the function returns for this update, with a new key for each update."""
        del row
        return self.function(index, jax.random.fold_in(key, index))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class FromHost:
    """Batches that come from the host.

    It stands for the real source inside a compiled program, which takes the batches as arguments.
    """

    streamed: ClassVar[bool] = True

    def ahead(self, first: Any, steps: int, key: jax.Array) -> None:
        """Draws nothing ahead: a thread on the host reads batches ahead (`lrax.Stream`)."""
        del first, steps, key

    def batch(self, index: Any, row: Batch, key: jax.Array) -> Batch:
        """The host's batch."""
        del index, key
        return row


FROM_HOST = FromHost()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Minibatches:
    """Batches cut from arrays that share their first axis; made by `lrax.minibatches`.

    The examples form one stream, epoch after epoch, each epoch in its own order. The stream is cut
    into pieces of `size` examples, and piece `t` is the batch of step `t`. So every example is seen
    equally often, and a batch may reach into the next epoch. The leaves of this pytree are the
    arrays, and also the arrays bound in the transform if it is a `jax.tree_util.Partial`.
    """

    arrays: Arrays
    transform: Transform | None
    size: int = dataclasses.field(metadata={"static": True})
    shuffle: bool = dataclasses.field(metadata={"static": True})
    streamed: ClassVar[bool] = False

    @property
    def examples(self) -> int:
        """The number of examples in an epoch."""
        return jax.tree.leaves(self.arrays)[0].shape[0]

    def at(self, step: Any, key: jax.Array) -> Batch:
        """The batch of one step of the run with this data key."""
        return self.batch(step, self.ahead(step, 1, key)[0], key)

    def batch(self, index: Any, row: jax.Array, key: jax.Array) -> Batch:
        """The examples of a row of `ahead`, transformed."""
        batch = self.take(row)
        if self.transform is None:
            return batch
        keys = jax.random.fold_in(key, np.uint32(TRANSFORM))
        return self.transform(batch, jax.random.fold_in(keys, index))

    def take(self, rows: Any) -> Batch:
        """The examples with these indices as one batch, not transformed."""
        # A NumPy array cannot be indexed by a tracer.
        return jax.tree.map(lambda array: jnp.asarray(array)[rows], self.arrays)

    def ahead(self, first: Any, steps: int, key: jax.Array) -> jax.Array:
        """Indices of the examples of `steps` batches from step `first` on, `[steps, size]`.

        An epoch's order depends only on the key and the index of the epoch. So a run that is cut
        into segments, or resumed, sees the same batches as an uninterrupted run.

        Args:
          first: The first step; it may be traced.
          steps: How many steps.
          key: The run's data key.
        """
        # The position in the stream is first * size, which overflows int32 in long runs. So count
        # in turns of `examples` steps: a turn spans exactly `size` epochs. Within a turn, the
        # position is below `examples * size`, which `minibatches` requires to be below 2^31.
        turns, rest = jnp.divmod(jnp.asarray(first, jnp.int32), self.examples)
        epoch, offset = jnp.divmod(rest * self.size, self.examples)
        position = offset + jnp.arange(steps * self.size, dtype=jnp.int32)
        if not self.shuffle:
            return (position % self.examples).reshape(steps, self.size)
        # The last position that may be needed, which bounds the number of epochs to shuffle. The
        # offset is a multiple of the greatest common divisor and below `examples`, so it is at most
        # `examples - gcd`. For example, a batch of all examples always has offset 0, and each step
        # needs only one epoch. `max` below is for `steps=0`, where this may be -1.
        furthest = self.examples - math.gcd(self.size, self.examples) + steps * self.size - 1
        epochs = (
            turns * self.size
            + epoch
            + jnp.arange(1 + max(furthest, 0) // self.examples, dtype=jnp.int32)
        )
        # `lax.map` shuffles one epoch after the other. Under `vmap`, JAX draws the numbers of all
        # "rbg" keys from the first key, so an epoch's order would depend on which epoch comes first
        # in the segment.
        orders = lax.map(
            lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), self.examples),
            epochs,
        )
        rows = orders[position // self.examples, position % self.examples].reshape(steps, self.size)
        return rows.astype(jnp.int32)  # `permutation` gives int64 under x64


def minibatches(
    arrays: Arrays, size: int, *, shuffle: bool = True, transform: Transform | None = None
) -> Minibatches:
    """Minibatches of in-memory arrays, shuffled anew in every epoch.

    Use it as the `batch` of a `lrax.Task` whenever the data fits in the device's memory. All runs
    of a sweep share one copy there, and nothing is fetched from the host during training.

    Args:
      arrays: A pytree of arrays, such as `(inputs, labels)`, that share the length of their first
        axis.
      size: Examples per batch, from 1 to that length.
      shuffle: Whether each epoch has a random order of its own. Otherwise every epoch has the order
        of the arrays.
      transform: Augmentation `transform(batch, key) -> batch`, a pure function that gets a new key
        in every step. It is applied in training only, never to held-out data. If it is a
        `jax.tree_util.Partial`, the arrays bound in it become arguments of the program.

    Returns:
      A `Minibatches`, a pytree of the arrays.

    Raises:
      ValueError: if there is no array, the first axes differ, or `size` is out of its range;
        also if `size` times the number of examples is 2^31 or more.
      TypeError: if `arrays` are not of numbers, `size` is not an int, `shuffle` not a bool, or
        `transform` not a function.

    Example:
      >>> source = lrax.minibatches({"x": np.arange(6.0)}, size=4, shuffle=False)
      >>> source.at(1, jax.random.key(0))
      {'x': Array([4., 5., 0., 1.], dtype=float32)}
      >>> def noisy(batch, key):
      ...     return {"x": batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape)}
      >>> augmented = lrax.minibatches({"x": np.arange(6.0)}, size=4, transform=noisy)
    """
    arrays = jax.tree.map(
        lambda array: array if isinstance(array, jax.Array) else np.asarray(array), arrays
    )
    shapes = [array.shape for array in jax.tree.leaves(arrays)]
    if not shapes or not all(shapes):
        raise ValueError(
            f"`arrays` must be a pytree of arrays with a first axis, got shapes {shapes}"
        )
    if unfit := _require.unfit_dtypes(arrays):
        raise TypeError(f"`arrays` must be of numbers, got dtypes {', '.join(unfit)}")
    lengths = {shape[0] for shape in shapes}
    if len(lengths) > 1:
        raise ValueError(f"`arrays` must share the length of their first axis, got shapes {shapes}")
    (examples,) = lengths
    size = _require.count("size", size, 1)
    if size > examples:
        raise ValueError(f"`size` must be at most the {examples} examples of `arrays`, got {size}")
    if size * examples > np.iinfo(np.int32).max:
        raise ValueError(
            f"`size` times the number of examples must be below 2^31, got {size} times {examples}"
        )
    if not isinstance(shuffle, bool):
        raise TypeError(f"`shuffle` must be a bool, got {shuffle!r}")
    if transform is not None and not callable(transform):
        raise TypeError(
            f"`transform` must be a function of (batch, key) or None, got {transform!r}"
        )
    return Minibatches(arrays, transform, size, shuffle)
