"""`Stream`: batches from the host, read ahead by a thread while the device works."""

import collections
import inspect
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from typing import Any

import jax
import numpy as np

from .. import _require

Batch = Any


class Stream:
    """Batches of a host source in their order, read ahead by one thread.

    Use it where the data does not fit the device, or is made on the host: a list of batches, a
    PyTorch `DataLoader`, a generator function, a grain iterator. If a source can be iterated again,
    a new epoch starts when it ends. A generator or another iterator can be iterated only once, so
    it must hold all batches that are taken. Batches are pytrees of numbers, arrays or CPU tensors,
    all of the same shapes; `take` returns them as NumPy arrays. Their order is that of the source.
    To make a run repeatable, seed the source's shuffling.

    The thread reads ahead as many batches as the last `take` took, but at least `prefetch`. It ends
    when the stream is closed, no longer referenced, or interrupted by Ctrl-C. The batches before an
    error of the source can still be taken. The `take` or `ready` that needs a later batch raises
    the error.

    Args:
      source: Any iterable of batches, or a function without arguments that returns one, called once
        for each epoch.
      prefetch: The least number of batches to read ahead; 1 or more.
      skip: The number of batches to skip at the start, for instance those before a checkpoint.

    Raises:
      TypeError: if `source` is neither an iterable nor a function without arguments.
      ValueError: if `prefetch` is below 1 or `skip` below 0.

    Example:
      >>> epoch = [{"x": np.full(3, i)} for i in range(4)]
      >>> with lrax.Stream(epoch) as stream:
      ...     print(stream.take(2)["x"].shape, stream.take(3)["x"][:, 0], stream.position)
      (2, 3) [2 3 0] 5
    """

    def __init__(
        self,
        source: Iterable[Any] | Callable[[], Iterable[Any]],
        *,
        prefetch: int = 8,
        skip: int = 0,
    ):
        _check_source(source)
        self._prefetch = _require.count("prefetch", prefetch, 1)
        self.position = _require.count("skip", skip, 0)
        self._buffer = _Buffer(self._prefetch)
        # The thread has a reference to the buffer, and none to the stream. So a stream that is no
        # longer referenced is collected; its finalizer closes the buffer, and the thread ends.
        self._thread = threading.Thread(
            target=_fill, args=(self._buffer, source, skip), name="lrax.Stream", daemon=True
        )
        self._closing = weakref.finalize(self, self._buffer.close)

    def take(self, n: int) -> Any:
        """The next `n` batches as one, stacked along a new first axis.

        Args:
          n: The number of batches, at least 1.

        Raises:
          ValueError: if the source has ended, has no batches, or holds batches of different shapes;
            if `n` is below 1.
          RuntimeError: if the stream is closed.
        """
        n = _require.count("n", n, 1)
        batches = self._read(n, remove=True)
        self.position += n
        return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)

    def ready(self, n: int, timeout: float | None = None) -> bool:
        """Waits for the next `n` batches, and returns whether they are there.

        Use it with a `timeout` to wait in short intervals and do something else in between.

        Args:
          n: The number of batches, at least 1.
          timeout: Seconds to wait at most; None to wait until they are there.

        Raises:
          ValueError: if the source has ended before these batches, or holds batches of different
            shapes. An error of the source itself is raised as it is. The batches before the error
            can still be taken.
          RuntimeError: if the stream is closed.
        """
        n = _require.count("n", n, 1)
        if timeout is not None:
            # `Condition.wait` raises an OverflowError for a longer timeout.
            timeout = min(_require.seconds("timeout", timeout), threading.TIMEOUT_MAX)
        self._begin()
        return self._buffer.wait(n, max(n, self._prefetch), timeout)

    def peek(self) -> Any:
        """The next batch, which stays in the stream. Use it to see the shapes, for instance."""
        return self._read(1, remove=False)[0]

    def close(self) -> None:
        """Ends the thread. If the source is producing a batch, waits for it up to one second."""
        self._closing()
        # A thread that was never started cannot be joined, and no thread can join itself.
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=1.0)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        """Starts the thread when the stream is first used."""
        if self._thread.ident is None and not self._buffer.closed:
            self._thread.start()

    def _read(self, n: int, *, remove: bool) -> list[Batch]:
        try:
            self._begin()
            return self._buffer.read(n, max(n, self._prefetch), remove=remove)
        except KeyboardInterrupt:
            self.close()
            raise


def is_source(value: Any) -> bool:
    """Whether a value is a source of host batches: an iterable, or a generator function.

    Any other function is taken for a pure function of (step, key). So is a generator function that
    requires arguments. Texts, dicts and arrays are iterable too, but are not sources.
    """
    if inspect.isgeneratorfunction(value):
        return not _needed(value)
    return isinstance(value, Iterable) and not isinstance(
        value, (str, bytes, dict, np.ndarray, jax.Array)
    )


class _Buffer:
    """A queue of batches from the thread that reads them to the thread that takes them."""

    def __init__(self, ahead: int):
        self.closed = False
        self._ahead = ahead
        self._batches: collections.deque[Any] = collections.deque()
        self._error: BaseException | None = None
        # Reentrant, because `read` calls `wait` while it holds the lock.
        self._change = threading.Condition(threading.RLock())

    def put(self, batch: Any) -> bool:
        """Waits for room and adds the batch. Returns False if the buffer has been closed."""
        with self._change:
            self._change.wait_for(lambda: self.closed or len(self._batches) < self._ahead)
            self._batches.append(batch)
            self._change.notify_all()
            return not self.closed

    def fail(self, error: BaseException) -> None:
        with self._change:
            self._error = error
            self._change.notify_all()

    def wait(self, n: int, ahead: int, timeout: float | None) -> bool:
        """Waits for the first `n` batches, and returns whether they are there."""
        with self._change:
            self._ahead = ahead
            self._change.notify_all()
            over = lambda: self.closed or self._error or len(self._batches) >= n
            self._change.wait_for(over, timeout)
            if self.closed:
                raise RuntimeError("the stream is closed")
            if len(self._batches) < n and self._error is not None:
                raise self._error
            return len(self._batches) >= n

    def read(self, n: int, ahead: int, *, remove: bool) -> list[Batch]:
        """Waits for the first `n` batches, and returns them."""
        with self._change:
            self.wait(n, ahead, None)
            if not remove:
                return [self._batches[i] for i in range(n)]
            taken = [self._batches.popleft() for _ in range(n)]
            self._change.notify_all()
            return taken

    def close(self) -> None:
        with self._change:
            self.closed = True
            self._batches.clear()
            self._change.notify_all()


def _fill(buffer: _Buffer, source: Any, skip: int) -> None:
    """Reads batches from the source into the buffer. The thread runs this function."""
    batches = _forever(source)
    first = None
    try:
        for index, batch in enumerate(batches):
            if buffer.closed:
                return
            batch = _as_arrays(batch, index)
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
            first = shapes if first is None else first
            if shapes != first:
                raise ValueError(
                    f"`source` must hold batches of the same shapes, got {first} in batch 0 and"
                    f" {shapes} in batch {index}; drop a smaller last batch, as `drop_last=True`"
                    " of a DataLoader does"
                )
            if index >= skip and not buffer.put(batch):
                return
    except BaseException as error:  # any error, because the waiting caller must get it
        buffer.fail(error)
    finally:
        batches.close()


def _forever(source: Any) -> Generator[Any, None, None]:
    """Yields batches, epoch after epoch. Raises if a source ends that cannot be read again."""
    index = 0
    while True:
        epoch = source() if callable(source) and not isinstance(source, Iterable) else source
        if not isinstance(epoch, Iterable):
            raise TypeError(
                f"`source` must return an iterable of batches, got {type(epoch).__name__}"
            )
        start, iterator = index, iter(epoch)
        try:
            for batch in iterator:
                yield batch
                index += 1
        finally:
            # A generator runs its clean-up code here when the stream is closed.
            if inspect.isgenerator(iterator):
                iterator.close()
        # `iter` of an iterator returns the iterator itself, which is now exhausted.
        if epoch is source and iterator is source:
            held = (
                f"ended after {index} batches"
                if index
                else "has no batches, or none are left in it"
            )
            raise ValueError(
                f"`source` {held}, and a {type(source).__name__} cannot be read again: give a new"
                " one with a batch for every step, or an iterable that starts anew, such as a list,"
                " a DataLoader or a generator function"
            )
        if index == start:
            raise ValueError(
                "`source` must hold at least one batch in every epoch, got none after"
                f" {index} batches"
            )


def _as_arrays(batch: Any, index: int) -> Any:
    # Copied, because a source may reuse the memory for its next batch. `np.array` would copy too,
    # but NumPy 2 warns of it if `__array__` has no argument `copy`, as that of PyTorch's tensors.
    arrays = jax.tree.map(lambda leaf: np.asarray(leaf).copy(), batch)
    unfit = _require.unfit_dtypes(arrays)
    if unfit or not jax.tree.leaves(arrays):
        raise TypeError(
            f"`source` must hold pytrees of numbers, got dtypes {unfit} in batch {index}"
        )
    return arrays


def _check_source(source: Any) -> None:
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes)):
        return
    if not callable(source):
        raise TypeError(
            f"`source` must be an iterable of batches or a function, got {type(source).__name__}"
        )
    if needed := _needed(source):
        raise TypeError(
            f"`source` must be a function without arguments, got one that needs {', '.join(needed)}"
        )


def _needed(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a callable without a readable signature
        return []
    return [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
