"""A sweep under way: all lanes stepped segment by segment, the host in between."""

import concurrent.futures
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .checkpoint import Checkpoint, State
from .lanes import BLOCK, Programs

# Between two looks at the progress, and between a Ctrl-C and its answer.
SECONDS_PER_SEGMENT = 0.3


class Run:
    """The state of a sweep, and what moves it on.

    Attributes:
      metrics: Names of what the task's `evaluate` returns.
      done: Updates made by every lane.
      lanes: The lanes after them.
      records: What was recorded at each, `[done, groups, members]`.
      evaluations: After how many updates all lanes were evaluated, and what it gave.
    """

    def __init__(self, parts: Programs, arguments: tuple[Any, Any, jax.Array], steps: int, interval: int):
        """Traces the programs; nothing is compiled or computed yet."""
        self._parts = parts
        self._data, self._hyperparams, self._keys = arguments
        self._steps, self._interval = steps, interval
        zero = np.int32(0)
        (lanes, keys), begin = parts.begin.lower(*arguments)
        rows, draw = parts.draw.lower(self._data, keys, zero)
        step = (self._data, self._hyperparams, keys, rows, lanes, zero, zero)
        (_, records), train = parts.train.lower(*step)
        (metrics, _), evaluate = parts.evaluate.lower(self._data, lanes)
        self._to_compile = (train, begin, draw, evaluate)
        self._contents = lambda: (parts.begin.contents(*arguments), parts.train.contents(*step))
        self._structures = jax.tree.structure(lanes), jax.tree.structure(records)
        self._saved: State | None = None
        self.metrics = list(metrics)
        self.done = 0
        self.lanes: Any = None
        self.records: Any = None
        self.evaluations: list[tuple[int, Any]] = []

    def contents(self) -> Any:
        """What the programs compute, as text, and the arrays that they close over."""
        return self._contents()

    def compile(self) -> None:
        """Compiles the programs side by side."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda compile_: compile_(), self._to_compile))

    def resume(self, state: State | None) -> None:
        """Takes up a saved state, if there is one."""
        self._saved = state
        self.done = state.done if state else 0

    def advance(
        self, stop: Callable[[], bool], report: Callable[[np.ndarray, int], None], checkpoint: Checkpoint | None
    ) -> None:
        """Steps all lanes to the end, or until `stop()` between two segments, but by one segment at least."""
        parts, data, hyperparams = self._parts, self._data, self._hyperparams
        self.lanes, keys = parts.begin(data, hyperparams, self._keys)
        records: list[tuple[int, Any]] = []
        if self._saved:
            lanes, recorded = self._structures
            # Through a program's results, for buffers of the host's arrays are not JAX's to donate.
            self.lanes = jax.tree.map(jax.numpy.copy, jax.device_put(lanes.unflatten(self._saved.lanes)))
            self.evaluations = list(self._saved.evaluations)
            records.append((self.done, recorded.unflatten(self._saved.records)))
        length, rows, read_at, begun = 1.0, None, time.perf_counter(), self.done
        while self.done < self._steps and not (self.done and stop()):
            done = self.done
            if rows is None or done % BLOCK == 0:
                rows = parts.draw(data, keys, np.int32(done // BLOCK))
            count = min(int(length), BLOCK - done % BLOCK, self._steps - done, self._interval - done % self._interval)
            self.lanes, record = parts.train(data, hyperparams, keys, rows, self.lanes, np.int32(done), np.int32(count))
            self.done += count
            records.append((count, record))
            if self.done % self._interval == 0 and self._interval < self._steps:
                self.evaluations.append((self.done, parts.evaluate(data, self.lanes)[0]))
            if checkpoint is not None and checkpoint.is_due:
                self._save(checkpoint, records, report)
                read_at = time.perf_counter()
            if len(records) > 1 and not _is_read(records[-2]):  # while the device works on this segment
                before = _read(records, -2, report)
                now = time.perf_counter()
                # Aim at equal times, but grow slowly: the first segments also pay for what happens once.
                length = np.clip(before * SECONDS_PER_SEGMENT / (now - read_at), 1, 4 * before)
                read_at = now
        if checkpoint is not None and self.done > begun:
            self._save(checkpoint, records, report)
        for i in range(len(records)):
            _read(records, i, report)
        self.records = _joined(records)
        self.evaluations = jax.device_get(self.evaluations)

    def _save(
        self, checkpoint: Checkpoint, records: list[tuple[int, Any]], report: Callable[[np.ndarray, int], None]
    ) -> None:
        for i in range(len(records)):
            _read(records, i, report)
        records[:] = [(self.done, _joined(records))]
        lanes = [np.asarray(leaf) for leaf in jax.device_get(jax.tree.leaves(self.lanes))]
        self.evaluations = jax.device_get(self.evaluations)
        checkpoint.save(State(self.done, lanes, jax.tree.leaves(records[0][1]), self.evaluations))


def _joined(records: list[tuple[int, Any]]) -> Any:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *(record for _, record in records))


def _is_read(record: tuple[int, Any]) -> bool:
    return isinstance(record[1]["loss"], np.ndarray)


def _read(records: list[tuple[int, Any]], i: int, report: Callable[[np.ndarray, int], None]) -> int:
    """Fetches a segment's records to the host, in place, if they are not there yet."""
    count, record = records[i]
    if not _is_read(records[i]):
        record = jax.tree.map(lambda values: np.asarray(values)[:count], record)
        records[i] = (count, record)
        report(record["loss"], count)
    return count
