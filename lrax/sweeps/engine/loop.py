"""The loop that trains a sweep: segments of updates, and the host's work between them.

A lane is one point of the grid with one seed. A chunk is the lanes that one call of the compiled
program trains. A segment is a number of updates that all lanes make, after which the host handles
stop rules, evaluations, checkpoints, the clock and Ctrl-C. The results do not depend on where
segments end.

Within a segment, a thread trains one chunk through all the updates before it begins the next chunk.
So a CPU keeps the lanes of a chunk in its caches, and a lane costs no more in a sweep of many
chunks than in a sweep of few.
"""

import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import numpy as jnp

from ..choices import Points
from ..events import Notify
from ..stopping import Evidence, Stopping, looks_of
from ..storage.checkpoint import State
from .engine import Engine, compacted, narrowed, replanned, reshaped
from .hosts import Hosts
from .layout import Layout
from .plan import Plan
from .threads import threads

# Seconds that a segment should take: the time between two progress reports, and until Ctrl-C is
# answered. If a thread has more than `CHUNKS` chunks, a segment takes longer in proportion, by a
# factor of at most `LONGEST`, so that the call of each chunk does not become too short.
SECONDS_PER_SEGMENT, CHUNKS, LONGEST = 0.3, 5, 16
STRETCH = 1.5  # a segment may be longer by this factor, to end where the host has work to do
FEW = 2  # if a thread has more chunks than this, one is timed before the first segment
SLOW = 2e9  # operations a second: a low guess for any device, to size the first segment
# A sweep that stops diverged points looks for them `LOOKS - 1` times, at equal distances, if these
# distances are at least `LOOK_STEPS` updates.
LOOKS, LOOK_STEPS = 8, 32
# Seconds to wait for batches from the host before the clock is read again; and how long a sweep
# that is asked to end has waited for its very first batches, in all, when it gives up.
WAIT, FIRST_WAIT = 0.1, 5.0

Tree = Any


class Place(Protocol):
    """Where a state is saved: a `Checkpoint`, or an object that passes states on to one."""

    path: str

    @property
    def is_due(self) -> bool:
        """Whether it is time to save again."""
        ...

    def try_save(self, state: State, *, write: bool = True) -> OSError | None:
        """Saves a state, or warns that this failed. With `write=False` it writes no file."""
        ...


class Chunk:
    """The lanes of a chunk in training, with their hyperparameters and keys."""

    def __init__(self, hyperparams: Tree, lanes: Tree, keys: Tree):
        self.hyperparams, self.lanes, self.keys = hyperparams, lanes, keys
        self.task: concurrent.futures.Future[Any] | None = None  # its latest segment


class Segment(NamedTuple):
    """Updates that were handed to the threads. The results may not be there yet."""

    first: int  # the index of the first update
    steps: int
    layout: Layout
    results: list[concurrent.futures.Future[Any]]  # of `_chunk_trained`, one for each chunk


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a sweep was asked to do between segments.

    Attributes:
      steps: Updates of each lane.
      until: After how many updates the loop ends: `steps` or fewer.
      times: After which updates all lanes are evaluated.
      finally_too: Whether all lanes are also evaluated when the loop ends, after the last save.
      rule: The stop rule, or None.
      drop: Whether a point is stopped once all its lanes have diverged.
      objective: Name of the objective.
      sign: 1 if the objective is minimised, -1 if it is maximised.
      rates: `[points, steps]`, the learning rates that a stop rule may look at, or None.
      keep_best: Whether each lane keeps the state of its best evaluation.
    """

    steps: int
    until: int
    times: Sequence[int]
    finally_too: bool
    rule: Stopping | None
    drop: bool
    objective: str
    sign: float
    rates: np.ndarray | None
    keep_best: bool


class Loop:
    """The state of a sweep, and the methods that train it further.

    The arrays hold the points of this process, not those of other processes.

    Attributes:
      engine: The compiled programs and the plan by which they are run.
      done: Updates made.
      alive: `[points]`, whether a point is still trained.
      stopped_at: `[points]`, after how many updates a point was stopped; the number of steps for a
        point that was not stopped.
      behind: `[points]`, whether a point has fewer updates than `done`: a point that was added to
        the grid, if the sweep ended before it had caught up with the others. This loop must not
        train such a point, because `done` counts the updates of all points.
      finite: `[points, seeds]`, whether a lane's parameters are finite. For a stopped point, the
        answer is that of the time when it was stopped.
      records: The recorded values, a tree with leaves `[points, seeds, records]`: first the losses
        and aux, then the monitors.
      evaluations: One pair for each evaluation: after how many updates it was made, and its metrics
        `{name: [points, seeds]}`.
      failure: The error that ended the sweep early, for instance one of the source of batches, or
        None.
    """

    def __init__(
        self, engine: Engine, settings: Settings, hosts: Hosts, points: Points, notify: Notify
    ):
        self.engine, self.settings = engine, settings
        self._hosts, self._whole, self._notify = hosts, points, notify
        self._points = len(points)
        steps, rule = settings.steps, settings.rule
        # The updates after which the rule is asked.
        self._asked: tuple[int, ...] = looks_of(rule, steps) if rule else ()
        # The updates after which points may be stopped, by the rule or because they have diverged.
        parts = [steps * i // LOOKS for i in range(1, LOOKS)]
        long = settings.drop and steps >= LOOKS * LOOK_STEPS
        looks: set[int] = {*(parts if long else []), *self._asked}
        self._looks: list[int] = sorted(looks)
        # `own` is the number of points of this process, `self._points` that of the whole sweep.
        own, seeds = len(engine.feed.points), engine.feed.seeds
        self.done = 0
        self.alive = np.ones(own, bool)
        self.stopped_at = np.full(own, steps)
        self.behind = np.zeros(own, bool)
        self.finite = np.ones((own, seeds), bool)
        self.records = self._blank_records()
        self.evaluations: list[tuple[int, dict[str, np.ndarray]]] = []
        self.failure: Exception | None = None
        # The leaves of all lanes at their best evaluations, zeros before the first one. They are
        # part of a saved state in every process or in none, so only the settings decide.
        self._best: list[np.ndarray] | None = None
        if settings.keep_best:
            leaves = jax.tree.leaves(engine.lanes)
            self._best = [np.zeros((own, seeds, *leaf.shape[2:]), leaf.dtype) for leaf in leaves]
        self._best_value = np.full((own, seeds), np.inf)
        self._layout: Layout = engine.arrange(np.flatnonzero(self.alive))
        self._chunks: list[Chunk] = []
        self._saved: State | None = None

    def again(self, **settings: Any) -> "Loop":
        """A new loop of the same sweep, before its first update, with some settings changed."""
        changed = dataclasses.replace(self.settings, **settings)
        return Loop(self.engine, changed, self._hosts, self._whole, self._notify)

    def having(self, points: Points) -> "Loop":
        """A new loop of the same sweep, before its first update, with other values in its lanes.

        Args:
          points: As many points, of all processes, with the new values.
        """
        feed = self.engine.feed.having(points[self._hosts.own(len(points))])
        engine = dataclasses.replace(self.engine, feed=feed)
        return Loop(engine, self.settings, self._hosts, self._whole, self._notify)

    def losses(self, done: int) -> np.ndarray:
        """The losses of the first `done` updates, `[points, seeds, records]`."""
        every = self.engine.problem.loss_every
        # The updates 0, `every`, 2 * `every` ... are recorded, so the number of records is
        # `done / every`, rounded up. Here and below, `-(-a // b)` rounds up.
        return self.records[0]["loss"][..., : -(-done // every)]

    def expected(self, facts: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """The shapes and dtypes that the arrays of a saved state must have.

        Args:
          facts: The numbers and names that were saved with the arrays, as `state` writes them.

        Raises:
          ValueError: if the facts contradict each other or this sweep.
        """
        seeds = self.engine.feed.seeds
        lanes = jax.tree.leaves(self.engine.lanes)
        records = [leaf for part in self.records for leaf in jax.tree.leaves(part)]
        # For each leaf of `records`, the updates from one record to the next.
        every = [
            n
            for part, n in zip(self.records, self._cadences, strict=True)
            for _ in jax.tree.leaves(part)
        ]
        done, steps = facts["done"], facts["steps"]
        placed, points = facts["placed"], facts["points"]
        names, times = facts["metrics"], facts["evaluated_at"]
        counts = [done, steps, placed, points, *times]
        known = set(self.engine.metrics).issuperset(names)
        whole = all(isinstance(n, int) and n >= 0 for n in counts)
        if not (known and whole and placed <= points and max([done, *times]) <= steps):
            raise ValueError("its facts are not those of this sweep")
        found: dict[str, Any] = {
            "alive": ((points,), np.dtype(bool)),
            "placed": ((points,), np.dtype(bool)),
            "at": ((points,), np.dtype(int)),
            "shape": ((points, 2), np.dtype(int)),
            "stopped_at": ((points,), np.dtype(int)),
            "finite": ((points, seeds), np.dtype(bool)),
        }
        for i, leaf in enumerate(lanes):
            found[f"lanes/{i}"] = (placed, seeds, *leaf.shape[2:]), leaf.dtype
        for i, (leaf, n) in enumerate(zip(records, every, strict=True)):
            found[f"records/{i}"] = (points, seeds, -(-done // n)), leaf.dtype
        for i in range(len(times)):
            for name in names:
                found[f"evaluations/{i}/{name}"] = (points, seeds), np.dtype(np.float32)
        if facts["keeps_best"]:
            found["best_value"] = (points, seeds), np.dtype(np.float64)
            for i, leaf in enumerate(lanes):
                found[f"best/{i}"] = (points, seeds, *leaf.shape[2:]), leaf.dtype
        return found

    def restore(self, state: State) -> None:
        """Sets this loop to a saved state. The lanes are put on the devices later, by `advance`."""
        self._saved = state
        arrays, facts = state.arrays, state.facts
        own = self._hosts.own(self._points)
        self.done = int(facts["done"])
        self.alive = arrays["alive"][own]
        self.finite = arrays["finite"][own]
        # For a point that was not stopped, the saved number is the steps of the saved sweep. This
        # sweep may have more.
        stopped_at = np.where(self.alive, self.settings.steps, arrays["stopped_at"][own])
        self.behind = self.alive & (arrays["at"][own] < self.done)
        self.stopped_at = np.where(self.behind, arrays["at"][own], stopped_at)
        self.evaluations = [
            (at, {name: arrays[f"evaluations/{i}/{name}"][own] for name in facts["metrics"]})
            for i, at in enumerate(facts["evaluated_at"])
        ]
        blank, structure = jax.tree.flatten(self.records)
        for i, leaf in enumerate(blank):
            saved = arrays[f"records/{i}"][own]
            leaf[..., : saved.shape[-1]] = saved
        self.records = jax.tree.unflatten(structure, blank)
        self.engine = replanned(self.engine, Plan.of(facts["plan"]))

    def advance(
        self,
        halt: Callable[[], bool],
        report: Callable[[int, np.ndarray], None],
        checkpoint: Place | None,
    ) -> None:
        """Trains all lanes to the update `until`, or until `halt()` is true between two segments.

        At least one segment is trained, even if `halt()` is true from the start.

        Args:
          halt: Whether to end early.
          report: Called with the updates done and the losses since the last call.
          checkpoint: Where the state is saved, or None.
        """
        begun, until = self.done, self.settings.until
        with self._threads() as pool:
            self._begin()
            pending: Segment | None = None
            length = self._first_length()
            since = time.perf_counter()
            while self.done < until and self._anyone():
                due = checkpoint is not None and checkpoint.is_due
                # All processes must do the same. They halt if one of them halts, save if the first
                # one is due to save, and train the fewest updates that one of them wants.
                wishes = self._hosts.tell(self.done > begun and halt(), due, length)
                if wishes[:, 0].any():
                    break
                due, length = bool(wishes[0, 1]), wishes[:, 2].min()
                if not self._await_batches(halt, first=self.done == begun):
                    break
                # The next segment begins before the results of the last one are read, so that the
                # devices do not wait for the host.
                segment = self._train(self._count(int(length)), pool)
                if pending is not None:
                    self._read(pending, report)
                    length, since = self._length(pending.steps, length, since)
                pending = segment
                evaluating = self.done in self.settings.times and self.done < until
                looking = self.done in self._looks
                if not (evaluating or looking or due):
                    continue
                # All three need the results of every update up to now.
                self._read(pending, report)
                pending = None
                length, _ = self._length(segment.steps, length, since)
                # A stop rule looks at the objective. If that is a metric, it is evaluated first.
                if evaluating or (self.done in self._asked and self._is_evaluated):
                    self._evaluate()
                if looking:
                    self._look()
                if due and checkpoint is not None:
                    self._save(checkpoint)
                # The time of this work is not time of the next segment. A long evaluation would
                # otherwise make the segment seem slow, and the one after it far too short.
                since = time.perf_counter()
            if pending is not None:
                self._read(pending, report)
            if self.done < until and not self._anyone():
                self.done = until  # every point was stopped: the remaining records stay NaN
            if self.done in self.settings.times:
                self._evaluate()
            if checkpoint is not None and self.done > begun:
                self._save(checkpoint)
            if self.settings.finally_too:
                # Evaluated after the save, because the saved state must not have this evaluation: a
                # sweep that was interrupted and resumed must have the same evaluations as one that
                # was never interrupted.
                self._evaluate()

    def metrics(self) -> dict[str, np.ndarray]:
        """The metrics after the last update of each point, which may have been stopped earlier."""
        if self.evaluations and self.evaluations[-1][0] == self.done:
            now = {name: values.copy() for name, values in self.evaluations[-1][1].items()}
        else:
            now = self._evaluated()
            self._keep_best(now)  # an evaluation at the end may be the best one too
        for at, metrics in self.evaluations:
            stopped = ~self.alive & (self.stopped_at == at)
            for name, values in metrics.items():
                now[name][stopped] = values[stopped]
        return now

    def lane(self, point: int, seed: int) -> Tree:
        """A lane on the host: its state at its best evaluation if that is kept, else the last one.

        It is a lane of zeros if another process has the point, because processes exchange arrays of
        the same shapes; or if the point was stopped and its best state is not kept.
        """
        if not 0 <= point < len(self.alive):
            return self.engine.blank()
        if self._best is not None and np.isfinite(self._best_value[point, seed]):
            leaves = [leaf[point, seed] for leaf in self._best]
            return jax.tree.structure(self.engine.lanes).unflatten(leaves)
        if not self.alive[point]:
            return self.engine.blank()
        chunk, group, member = self._layout.where(point, seed)
        return self.engine.member(self._chunks[chunk].lanes, group, member)

    def state(self) -> State:
        """The whole state of all processes, on the host: the content of a checkpoint."""
        whole = lambda tree: self._hosts.gather(tree, self._points)
        # A point is placed if its lanes are in the chunks. Those of a stopped point may be gone.
        placed = np.isin(np.arange(len(self.alive)), self._layout.points)
        everywhere = whole(placed)
        leaves = self.engine.fetch(self._layout, [chunk.lanes for chunk in self._chunks])
        if self._hosts.count > 1:
            # All processes must send arrays of the same shapes. So each sends zeros for its points
            # without lanes, which are dropped after the exchange.
            leaves = [whole(_expanded(leaf, placed))[everywhere] for leaf in leaves]
        arrays: dict[str, np.ndarray] = {
            "alive": whole(self.alive),
            "placed": everywhere,
            "at": whole(np.full(len(self.alive), self.done)),
            # The shape of the chunks, for each point: it may differ from process to process.
            "shape": whole(np.tile(self._layout.shape, (len(self.alive), 1))),
            "stopped_at": whole(self.stopped_at),
            "finite": whole(self.finite),
        }
        arrays |= {f"lanes/{i}": leaf for i, leaf in enumerate(leaves)}
        records = jax.tree.leaves(self._recorded())
        arrays |= {f"records/{i}": whole(leaf) for i, leaf in enumerate(records)}
        for i, (_, metrics) in enumerate(self.evaluations):
            for name, values in metrics.items():
                arrays[f"evaluations/{i}/{name}"] = whole(values)
        if self._best is not None:
            arrays["best_value"] = whole(self._best_value)
            arrays |= {f"best/{i}": whole(leaf) for i, leaf in enumerate(self._best)}
        facts = {
            "done": self.done,
            "steps": self.settings.steps,
            "points": self._points,
            "placed": int(everywhere.sum()),
            "keeps_best": self._best is not None,
            "lanes": len(leaves),
            "records": len(records),
            "evaluated_at": [at for at, _ in self.evaluations],
            "metrics": sorted({name for _, metrics in self.evaluations for name in metrics}),
            "plan": dataclasses.asdict(self.engine.plan),
        }
        return State(facts, arrays)

    def trimmed(self) -> Tree:
        """The records up to now, of all processes."""
        return self._hosts.gather(self._recorded(), self._points)

    @property
    def _is_evaluated(self) -> bool:
        # Whether the objective is a metric of the task's `evaluate`.
        return self.settings.objective != "train_loss"

    def _begin(self) -> None:
        """Makes the chunks, with new lanes or with those of the saved state."""
        # A saved state without updates has no lanes: it is that of points which are new in the
        # grid, see `growing`.
        if self._saved is None or self.done == 0:
            self._saved = None
            points = np.flatnonzero(self.alive)
            self.engine = narrowed(self.engine, len(points))
            self._layout = self.engine.arrange(points)
            # The lanes are made on this thread and not in the pool, because JAX's settings, such as
            # x64, may hold for this thread alone.
            chunks = range(len(self._layout.chunks))
            self._chunks = [Chunk(*self.engine.begin(self._layout, i)) for i in chunks]
            return
        own = self._hosts.own(self._points)
        arrays = self._saved.arrays
        placed = np.flatnonzero(arrays["placed"][own])
        shape = arrays["shape"][own[0]]  # of the chunks of this process, the same for its points
        if shape.all():
            # Every lane goes back to its old position in a chunk. In another position its sums may
            # be rounded in another way. A shape of zeros means that the lanes have no old position:
            # see `growing`.
            self.engine = reshaped(self.engine, tuple(shape.tolist()))
        else:
            self.engine = narrowed(self.engine, len(placed))
        # The saved lanes are those of the placed points of all processes. `rows` are the positions
        # of this process's points among these.
        rows = np.searchsorted(np.flatnonzero(arrays["placed"]), own[placed])
        leaves = [arrays[f"lanes/{i}"][rows] for i in range(self._saved.facts["lanes"])]
        if "best_value" in arrays:
            self._best_value = arrays["best_value"][own]
            count = self._saved.facts["lanes"]
            self._best = [arrays[f"best/{i}"][own] for i in range(count)]
        self._saved = None
        self._place(self.engine.arrange(placed), leaves, placed)

    def _place(self, layout: Layout, leaves: list[np.ndarray], points: np.ndarray) -> None:
        """Puts lanes from the host into the chunks of a layout."""
        self._layout, self._chunks = layout, []
        for i, lanes in enumerate(self.engine.place(layout, leaves, points)):
            hyperparams, _, keys = self.engine.begin(layout, i)  # `lanes` replace the new lanes
            self._chunks.append(Chunk(hyperparams, lanes, keys))

    def _await_batches(self, halt: Callable[[], bool], *, first: bool) -> bool:
        """Waits for batches from the host, and returns whether to train on.

        A sweep trains at least one segment, even if its budget is used up. So `halt()` does not end
        the wait for its first batches before `FIRST_WAIT` seconds.
        """
        waited = 0.0
        try:
            while not self.engine.feed.is_ready(self.done, WAIT):
                waited += WAIT
                # One of several processes must not give up alone: the others would wait for it.
                alone = self._hosts.count == 1
                if alone and halt() and (not first or waited > FIRST_WAIT):
                    if self.done == 0:
                        raise TimeoutError("no batch came from the host before the sweep ended")
                    return False
        except Exception as error:
            # With several processes the error must be raised at once, in all of them: see
            # `hosts.together`. Before the first update there is no state to save first.
            if self._hosts.count > 1 or self.done == 0:
                raise
            self.failure = error  # the sweep raises it after the state is saved
            return False
        return True

    @contextlib.contextmanager
    def _threads(self) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
        """The threads that train chunks. When the context ends, no chunk is in training."""
        try:
            yield threads(self.engine.plan.threads)
        finally:
            # After an error some chunks may still be.
            concurrent.futures.wait([c.task for c in self._chunks if c.task is not None])

    def _train(self, count: int, pool: concurrent.futures.ThreadPoolExecutor) -> Segment:
        """Gives the next updates of all chunks to the threads, and does not wait for them."""
        first, layout = self.done, self._layout

        def train(i: int, before: concurrent.futures.Future[Any] | None) -> Any:
            if before is not None:
                # `before` trains this chunk through the previous segment, and its lanes are needed
                # here. It was queued earlier, so a thread has begun it: the wait comes to an end.
                before.result()
            return self._chunk_trained(layout, i, first, count)

        results = []
        for i, chunk in enumerate(self._chunks):
            chunk.task = pool.submit(train, i, chunk.task)
            results.append(chunk.task)
        self.done += count
        return Segment(first, count, layout, results)

    def _chunk_trained(self, layout: Layout, i: int, first: int, count: int) -> Any:
        """Trains one chunk, block by block.

        Returns:
          The records of each call as `(first, steps, records)`, and a mask `[groups, members]` of
          the lanes whose parameters are finite.
        """
        chunk, feed = self._chunks[i], self.engine.feed
        found, finite, end = [], None, first + count
        while first < end:
            block = first // feed.block
            steps = min(end, (block + 1) * feed.block) - first
            rows = feed.rows(self.engine.programs.draw, layout, i, chunk.keys, block)
            chunk.lanes, records, finite = self.engine.train(chunk, rows, first, steps)
            # Fetched after the loop: here it would wait for the device, and delay the next call.
            found.append((first, steps, records))
            first += steps
        return jax.device_get(found), np.asarray(finite)

    def _read(self, segment: Segment, report: Callable[[int, np.ndarray], None]) -> None:
        """Waits for a segment's results, writes them into the records, and reports its losses."""
        for chunk, result in zip(segment.layout.chunks, segment.results, strict=True):
            calls, finite = result.result()
            # A chunk may hold lanes of stopped points, beside others that are still trained, and
            # copies of lanes that fill it up. Their records are dropped.
            kept = chunk.own & self.alive[chunk.points]
            points, seeds = chunk.points[kept], chunk.seeds[kept]
            for first, steps, records in calls:
                for part, every in zip((0, 1), self._cadences, strict=True):
                    _write(
                        self.records[part], records[part], points, seeds, kept, first, steps, every
                    )
            self.finite[points, seeds] = finite[kept]
        every = self.engine.problem.loss_every
        end = segment.first + segment.steps
        at = slice(-(-segment.first // every), -(-end // every))
        report(end, self.records[0]["loss"][..., at])

    @property
    def _cadences(self) -> tuple[int, int]:
        # Updates from one record to the next: of losses and aux, and of the monitors.
        return self.engine.problem.loss_every, self.engine.problem.record_every

    def _blank_records(self) -> Tree:
        """Arrays for the records of all updates, filled with NaN."""
        own, seeds = len(self.engine.feed.points), self.engine.feed.seeds
        room = []
        shapes = self.engine.programs.train.results[1]
        for part, every in zip(shapes, self._cadences, strict=True):
            length = -(-self.settings.steps // every)
            blank = lambda leaf, n=length: np.full((own, seeds, n), np.nan, leaf.dtype)
            room.append(jax.tree.map(blank, part))
        return tuple(room)

    def _recorded(self) -> Tree:
        """The records up to now."""
        return tuple(
            jax.tree.map(lambda leaf, n=-(-self.done // every): leaf[..., :n], part)
            for part, every in zip(self.records, self._cadences, strict=True)
        )

    def _anyone(self) -> bool:
        """Whether any process trains a point."""
        return bool(self._hosts.gather(self.alive, self._points).any())

    def _count(self, length: int) -> int:
        """Updates of the next segment: about `length`, but never past the host's next work."""
        done, settings = self.done, self.settings
        ends = [settings.until]
        ends += [at for at in settings.times if at > done][:1]
        ends += [look for look in self._looks if look > done][:1]
        # Batches from the host are loaded in blocks of updates. All chunks must have used a block
        # before the next block is loaded, so a segment ends where a block ends.
        if self.engine.feed.streamed:
            ends.append(done + self.engine.feed.block - done % self.engine.feed.block)
        left = max(min(ends) - done, 1)
        # A short rest is added to this segment, because it would cost one more call of each chunk.
        return left if left < STRETCH * length else max(length, 1)

    def _segment(self) -> tuple[float, float]:
        """The seconds that a segment should take, and the number of chunks of each thread."""
        chunks = len(self._layout.chunks) / max(self.engine.plan.threads, 1)
        return SECONDS_PER_SEGMENT * min(max(chunks / CHUNKS, 1), LONGEST), max(chunks, 1)

    def _first_length(self) -> float:
        """Updates of the first segment, for which there is no earlier segment to time.

        They are estimated from XLA's count of operations. Without a count, the first segment has
        one update, and each later one at most 8 times as many as the one before. Such short
        segments would take much of the time of a short sweep.
        """
        # Of one update, because XLA counts the body of the loop over updates once.
        operations = self.engine.programs.train.flops
        if operations is None:
            return 1.0
        seconds, chunks = self._segment()
        length = max(seconds * SLOW / (operations * chunks), 1.0)
        left = self.settings.until - self.done
        if length >= left or chunks <= FEW or self.engine.feed.streamed:
            return length
        # `SLOW` makes this a low estimate, and a short segment costs one more call of each of many
        # chunks. So one chunk is timed for some updates, which takes little time compared with the
        # training of all chunks.
        pace = self._pace(min(left / 10, length * chunks))
        return max(seconds / (pace * chunks), 1.0)

    def _pace(self, count: float) -> float:
        """Seconds that an update of one chunk takes, by a call of about `count` updates."""
        layout, chunk, feed = self._layout, self._chunks[0], self.engine.feed
        block = self.done // feed.block
        rows = feed.rows(self.engine.programs.draw, layout, 0, chunk.keys, block)
        # A copy, because `train` donates the buffers of the lanes that it is given.
        copy = Chunk(chunk.hyperparams, jax.tree.map(jnp.copy, chunk.lanes), chunk.keys)
        jax.block_until_ready((copy.lanes, rows))
        steps = min(max(int(count), 1), (block + 1) * feed.block - self.done)
        begin = time.perf_counter()
        jax.block_until_ready(self.engine.train(copy, rows, self.done, steps))
        return (time.perf_counter() - begin) / steps

    def _length(self, count: int, length: float, since: float) -> tuple[float, float]:
        """Updates that the next segment should have by the clock, and the time now.

        Args:
          count: Updates of the segment that was just read.
          length: What this method, or `_first_length`, returned last.
          since: When that segment began.
        """
        now = time.perf_counter()
        if not self._layout.chunks:  # this process has no points left: the others set the length
            return np.inf, now
        seconds, _ = self._segment()
        # At most 8 times the updates of the last segment, because the first segments include work
        # that is done only once and makes them slow. If the last segment was cut short, by an
        # evaluation for instance, the last `length` is still allowed.
        wanted = count * seconds / max(now - since, 1e-9)
        return float(np.clip(wanted, 1, 8 * max(count, length / 8))), now

    def _evaluated(self) -> dict[str, np.ndarray]:
        """Evaluates all lanes of this process. The metrics of stopped points are NaN."""
        names = self.engine.metrics
        if not names:
            return {}
        missing = np.full((len(self.alive), self.engine.feed.seeds), np.nan, np.float32)
        if not self._chunks:
            return {name: missing.copy() for name in names}
        evaluate = self.engine.programs.evaluate
        assert evaluate is not None

        def one(chunk: Chunk) -> Any:
            data = self.engine.feed.data
            return jax.device_get(evaluate(data, chunk.hyperparams, chunk.keys, chunk.lanes))

        pool = threads(self.engine.plan.threads)
        tasks = [pool.submit(one, chunk) for chunk in self._chunks]
        concurrent.futures.wait(tasks)  # all of them, even if one fails
        parts = [task.result() for task in tasks]
        gather = lambda *leaves: self._layout.gather(leaves, len(self.alive))
        found = jax.tree.map(gather, *parts)
        for values in found.values():
            values[~self.alive] = np.nan
        return found

    def _evaluate(self) -> None:
        """Evaluates all lanes and keeps the metrics, unless that was done after this update."""
        if not self.engine.metrics:
            return
        if self.evaluations and self.evaluations[-1][0] == self.done:
            return
        found = self._evaluated()
        self._keep_best(found)
        self.evaluations.append((self.done, found))
        everywhere = self._hosts.gather(found, self._points)
        self._notify("evaluate", {"done": self.done, "metrics": dict(everywhere)})

    def _keep_best(self, metrics: dict[str, np.ndarray]) -> None:
        """Keeps the state of each lane whose newest evaluation is its best one."""
        if not self.settings.keep_best or not self._chunks:
            return
        values = self.settings.sign * metrics[self.settings.objective].astype(np.float64)
        better = values < self._best_value  # False where the value is NaN
        leaves = self.engine.fetch(self._layout, [chunk.lanes for chunk in self._chunks])
        placed = self._layout.points
        assert self._best is not None
        for best, leaf in zip(self._best, leaves, strict=True):
            mask = better[placed]
            kept = best[placed]  # a copy, because `placed` is an array of indices
            kept[mask] = leaf[mask]
            best[placed] = kept
        self._best_value = np.where(better, values, self._best_value)

    def _look(self) -> None:
        """Stops the points whose lanes have all diverged, and those that the rule does not keep."""
        # Here a lane has diverged only if a loss or a parameter is not finite.
        lost = ~np.isfinite(self.losses(self.done)).all(axis=-1) | ~self.finite
        leaving = self.alive & np.all(lost, axis=1) & self.settings.drop
        if self.done in self._asked:
            leaving |= self._given_up(leaving)
        stopped, alive = self._hosts.gather((leaving, self.alive & ~leaving), self._points)
        if stopped.any():
            # These are the metrics of the stopped points, whose lanes are dropped below. All
            # processes evaluate, even if only one of them stops points.
            self._evaluate()
        self.stopped_at[leaving] = self.done
        self.alive &= ~leaving
        if stopped.any():
            which = np.flatnonzero(stopped).tolist()
            facts = {"done": self.done, "stopped": which, "alive": int(alive.sum())}
            self._notify("stop", facts)
        if leaving.any():
            self._compact()

    def _compact(self) -> None:
        """Moves the lanes of the remaining points to fewer or smaller chunks, if these suffice."""
        before, points = self._layout, np.flatnonzero(self.alive)
        self.engine, layout = compacted(self.engine, before, points)
        if layout is before:
            return
        # If each new chunk equals an old one, no lane moves, and the other old chunks are dropped.
        same = layout.among(before)
        if same is not None:
            self._layout, self._chunks = layout, [self._chunks[i] for i in same]
            return
        leaves = [
            leaf[np.isin(before.points, layout.points)]
            for leaf in self.engine.fetch(before, [chunk.lanes for chunk in self._chunks])
        ]
        self._place(layout, leaves, layout.points)

    def _given_up(self, lost: np.ndarray) -> np.ndarray:
        """The points of this process that the rule drops, `[points]`.

        Args:
          lost: The points that are stopped already, because all their lanes have diverged. In the
            rule's evidence they are not alive.
        """
        rule, settings = self.settings.rule, self.settings
        assert rule is not None
        losses = objective = self.losses(self.done)
        evaluated_at = None
        if self._is_evaluated:
            evaluated_at = np.array([at for at, _ in self.evaluations])
            values = [metrics[settings.objective] for _, metrics in self.evaluations]
            objective = np.stack(values, axis=-1)
        losses, objective, alive, monitors = self._hosts.gather(
            (losses, settings.sign * objective, self.alive & ~lost, self._recorded()[1]),
            self._points,
        )
        evidence = Evidence(
            losses=losses,
            objective=objective,
            hyperparams=self._whole.columns,
            monitors=monitors,
            done=self.done,
            steps=settings.steps,
            alive=alive,
            look=self._asked.index(self.done),
            rates=settings.rates,
            choices=tuple(self._whole.choices),
            loss_every=self.engine.problem.loss_every,
            record_every=self.engine.problem.record_every,
            objective_at=evaluated_at,
        )
        kept = np.asarray(rule.keep(evidence))
        if kept.shape != alive.shape or kept.dtype != bool:
            raise ValueError(
                f"`stop` must have `keep` return a mask, {len(alive)} bools, got {kept.dtype} of"
                f" shape {kept.shape} from {rule!r}"
            )
        return self.alive & ~lost & ~kept[self._hosts.own(self._points)]

    def _save(self, checkpoint: Place) -> None:
        """Saves the state. If that fails there is a warning, and training goes on."""
        error = checkpoint.try_save(self.state(), write=self._hosts.is_first)
        if error is None:
            self._notify("checkpoint", {"done": self.done, "path": str(checkpoint.path)})


def _write(
    room: Tree,
    records: Tree,
    points: np.ndarray,
    seeds: np.ndarray,
    kept: np.ndarray,
    first: int,
    steps: int,
    every: int,
) -> None:
    """Writes the records of a call, `[records, groups, members]`, into the arrays of all records.

    Args:
      room: Arrays `[points, seeds, records]`.
      records: The records of the call, at the front of arrays that may be longer.
      points: The point of each lane that is kept.
      seeds: The seed of each lane that is kept.
      kept: `[groups, members]`, the lanes that are kept.
      first: The index of the call's first update.
      steps: Updates of the call.
      every: Updates from one record to the next.
    """
    begin, end = -(-first // every), -(-(first + steps) // every)

    def one(whole: np.ndarray, part: np.ndarray) -> None:
        # On both sides the lanes become one axis in front: `[lanes, records]`.
        whole[points, seeds, begin:end] = np.moveaxis(part[: end - begin], 0, -1)[kept]

    jax.tree.map(one, room, records)


def _expanded(leaf: np.ndarray, own: np.ndarray) -> np.ndarray:
    # The rows of `leaf` where the mask is true, and zeros elsewhere.
    whole = np.zeros((len(own), *leaf.shape[1:]), leaf.dtype)
    whole[own] = leaf
    return whole
