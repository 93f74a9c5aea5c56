"""The loop that trains a sweep: segments of updates, and the host's work between them.

A lane is one point of the grid with one seed. A chunk is the lanes that one call of the compiled
program trains. A segment is a number of updates that all lanes make, after which the host handles
stop rules, evaluations, checkpoints, the clock and Ctrl-C. The results do not depend on where
segments end.
"""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from ..choices import Points
from ..events import Notify
from ..stopping import Evidence, Stopping, looks_of
from ..storage.checkpoint import State
from .best_states import BestStates, no_states
from .chunks import Chunks, Trained, filled_chunks, new_chunks
from .engine import Engine, narrowed, replanned, reshaped
from .hosts import Hosts
from .layout import Layout
from .plan import Plan
from .records import Records
from .segments import first_length, next_length, updates

# A sweep that stops diverged points looks for them `LOOKS - 1` times, at equal distances, if these
# distances are at least `LOOK_STEPS` updates.
LOOKS, LOOK_STEPS = 8, 32
# The loop waits `WAIT` seconds for batches from the host before it asks whether to end. A sweep
# that is asked to end stops waiting for its very first batches after `FIRST_WAIT` seconds in all.
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


class Segment(NamedTuple):
    """Updates that were handed to the threads. The results may not be there yet."""

    first: int  # the index of the first update
    steps: int
    layout: Layout
    results: list[concurrent.futures.Future[Trained]]  # one for each chunk


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
      chunks: The lanes, in chunks; before the training begins there are none.
      done: Updates made.
      alive: `[points]`, whether a point is still trained.
      stopped_at: `[points]`, after how many updates a point was stopped; the number of steps for a
        point that was not stopped.
      behind: `[points]`, whether a point has made fewer than `done` updates, because it was added
        to the grid and the sweep ended before the point had caught up with the others. This loop
        must not train such a point, because `done` counts the updates of all points.
      finite: `[points, seeds]`, whether a lane's parameters are finite. For a stopped point, the
        answer is that of the time when it was stopped.
      records: The recorded values.
      evaluations: One pair for each evaluation: after how many updates it was made, and its metrics
        `{name: [points, seeds]}`.
      failure: The error that ended the sweep early, for instance one of the source of batches, or
        None.
    """

    def __init__(
        self, engine: Engine, settings: Settings, hosts: Hosts, points: Points, notify: Notify
    ):
        self.settings = settings
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
        self.records = Records(engine, steps)
        self.evaluations: list[tuple[int, dict[str, np.ndarray]]] = []
        self.failure: Exception | None = None
        # Best states must be part of a saved state in every process or in none, so only the
        # settings decide.
        self._best = no_states(engine) if settings.keep_best else None
        self.chunks = Chunks(engine, engine.arrange(np.flatnonzero(self.alive)))
        self._saved: State | None = None

    @property
    def engine(self) -> Engine:
        """The compiled programs and the plan by which they are run."""
        return self.chunks.engine

    def again(self, **settings: Any) -> "Loop":
        """A new loop of the same sweep, before its first update, with some settings changed."""
        changed = dataclasses.replace(self.settings, **settings)
        return Loop(self.engine, changed, self._hosts, self._whole, self._notify)

    def having(self, points: Points) -> "Loop":
        """A new loop of the same sweep, before its first update, with other values in its lanes.

        Args:
          points: The points of all processes, as many as before, with the new values.
        """
        feed = self.engine.feed.having(points[self._hosts.own(len(points))])
        engine = dataclasses.replace(self.engine, feed=feed)
        return Loop(engine, self.settings, self._hosts, self._whole, self._notify)

    def losses(self, done: int) -> np.ndarray:
        """The losses of the first `done` updates, `[points, seeds, records]`."""
        return self.records.losses(0, done)

    def expected(self, facts: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """The shapes and dtypes that the arrays of a saved state must have.

        Args:
          facts: The numbers and names that were saved with the arrays, as `state` writes them.

        Raises:
          ValueError: if the facts contradict each other or this sweep.
        """
        seeds = self.engine.feed.seeds
        lanes = jax.tree.leaves(self.engine.lanes)
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
        for i, (length, dtype) in enumerate(self.records.expected(done)):
            found[f"records/{i}"] = (points, seeds, length), dtype
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
        self.records.restore(lambda i: arrays[f"records/{i}"][own])
        engine = replanned(self.engine, Plan.of(facts["plan"]))
        self.chunks = Chunks(engine, engine.arrange(np.flatnonzero(self.alive)))

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
        self._begin()
        try:
            self._advance(halt, report, checkpoint)
        finally:
            self.chunks.wait()  # after an error some chunks may still be in training

    def metrics(self) -> dict[str, np.ndarray]:
        """The metrics of each point after its own last update: a point may have been stopped."""
        if self.evaluations and self.evaluations[-1][0] == self.done:
            now = {name: values.copy() for name, values in self.evaluations[-1][1].items()}
        else:
            now = self._evaluated()  # an evaluation at the end may be the best one too
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
        best = None if self._best is None else self._best.lane(self.engine, point, seed)
        if best is not None:
            return best
        return self.chunks.lane(point, seed) if self.alive[point] else self.engine.blank()

    def state(self) -> State:
        """The whole state of all processes, on the host: the content of a checkpoint."""
        whole = lambda tree: self._hosts.gather(tree, self._points)
        # A point is placed if its lanes are in the chunks. Those of a stopped point may be gone.
        placed = np.isin(np.arange(len(self.alive)), self.chunks.layout.points)
        everywhere = whole(placed)
        leaves = self.chunks.fetch()
        if self._hosts.count > 1:
            # All processes must send arrays of the same shapes. So each sends zeros for its points
            # without lanes, which are dropped after the exchange.
            leaves = [whole(_expanded(leaf, placed))[everywhere] for leaf in leaves]
        arrays: dict[str, np.ndarray] = {
            "alive": whole(self.alive),
            "placed": everywhere,
            "at": whole(np.full(len(self.alive), self.done)),
            # The shape of the chunks, for each point: it may differ from process to process.
            "shape": whole(np.tile(self.chunks.layout.shape, (len(self.alive), 1))),
            "stopped_at": whole(self.stopped_at),
            "finite": whole(self.finite),
        }
        arrays |= {f"lanes/{i}": leaf for i, leaf in enumerate(leaves)}
        records = jax.tree.leaves(self.records.up_to(self.done))
        arrays |= {f"records/{i}": whole(leaf) for i, leaf in enumerate(records)}
        for i, (_, metrics) in enumerate(self.evaluations):
            for name, values in metrics.items():
                arrays[f"evaluations/{i}/{name}"] = whole(values)
        if self._best is not None:
            arrays["best_value"] = whole(self._best.values)
            arrays |= {f"best/{i}": whole(leaf) for i, leaf in enumerate(self._best.leaves)}
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
        return self._hosts.gather(self.records.up_to(self.done), self._points)

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
            self.chunks = new_chunks(self.engine, np.flatnonzero(self.alive))
            return
        own = self._hosts.own(self._points)
        arrays = self._saved.arrays
        on_host = np.flatnonzero(arrays["placed"][own])
        shape = arrays["shape"][own[0]]  # of the chunks of this process, the same for its points
        if shape.all():
            # Every lane goes back to its old position in a chunk. In another position its sums may
            # be rounded in another way. A shape of zeros means that the lanes have no old position:
            # see `growing`.
            engine = reshaped(self.engine, tuple(shape.tolist()))
        else:
            engine = narrowed(self.engine, len(on_host))
        # The saved lanes are those of the placed points of all processes. `rows` are the positions
        # of this process's points among these.
        rows = np.searchsorted(np.flatnonzero(arrays["placed"]), own[on_host])
        leaves = [arrays[f"lanes/{i}"][rows] for i in range(self._saved.facts["lanes"])]
        if "best_value" in arrays:
            best = [arrays[f"best/{i}"][own] for i in range(len(leaves))]
            self._best = BestStates(best, arrays["best_value"][own])
        self._saved = None
        self.chunks = filled_chunks(engine, engine.arrange(on_host), leaves, on_host)

    def _advance(
        self,
        halt: Callable[[], bool],
        report: Callable[[int, np.ndarray], None],
        checkpoint: Place | None,
    ) -> None:
        begun, until = self.done, self.settings.until
        pending: Segment | None = None
        length = first_length(self.chunks, self.done, until)
        since = time.perf_counter()
        while self.done < until and self._any_alive():
            due = checkpoint is not None and checkpoint.is_due
            # All processes must do the same. They halt if one of them halts, save if the first
            # one is due to save, and train the fewest updates that any of them wants.
            wishes = self._hosts.tell(self.done > begun and halt(), due, length)
            if wishes[:, 0].any():
                break
            due, length = bool(wishes[0, 1]), wishes[:, 2].min()
            if not self._await_batches(halt, first=self.done == begun):
                break
            # The next segment begins before the results of the last one are read, so that the
            # devices do not wait for the host.
            segment = self._train(length)
            if pending is not None:
                self._read(pending, report)
                now = time.perf_counter()
                length = next_length(self.chunks, pending.steps, length, now - since)
                since = now
            pending = segment
            evaluating = self.done in self.settings.times and self.done < until
            looking = self.done in self._looks
            if not (evaluating or looking or due):
                continue
            # All three need the results of every update up to now.
            self._read(pending, report)
            pending = None
            took = time.perf_counter() - since
            length = next_length(self.chunks, segment.steps, length, took)
            # A stop rule looks at the objective. If that is a metric, it is evaluated first.
            if evaluating or (self.done in self._asked and self._is_evaluated):
                self._evaluate()
            if looking:
                self._look()
            if due and checkpoint is not None:
                self._save(checkpoint)
            # The time of this work must not count for the next segment. A long evaluation would
            # make that segment seem slow, and the one after it would be far too short.
            since = time.perf_counter()
        if pending is not None:
            self._read(pending, report)
        if self.done < until and not self._any_alive():
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
            # `hosts.together`. Before the first update there is no state to save.
            if self._hosts.count > 1 or self.done == 0:
                raise
            self.failure = error  # the sweep raises it after the state is saved
            return False
        return True

    def _train(self, length: float) -> Segment:
        """Gives the threads about `length` updates, at most those up to the host's next work."""
        first, settings, feed = self.done, self.settings, self.engine.feed
        ends = [settings.until]
        ends += [at for at in settings.times if at > first][:1]
        ends += [look for look in self._looks if look > first][:1]
        # Batches from the host are loaded in blocks of updates, one block before each segment that
        # needs it. So a segment ends where a block ends.
        if feed.streamed:
            ends.append(first + feed.block - first % feed.block)
        count = updates(length, max(min(ends) - first, 1))
        results = self.chunks.train(first, count)
        self.done += count
        return Segment(first, count, self.chunks.layout, results)

    def _read(self, segment: Segment, report: Callable[[int, np.ndarray], None]) -> None:
        """Waits for a segment's results, writes them into the records, and reports its losses."""
        for chunk, result in zip(segment.layout.chunks, segment.results, strict=True):
            trained = result.result()
            self.records.write(trained, chunk, self.alive)
            kept = chunk.own & self.alive[chunk.points]
            self.finite[chunk.points[kept], chunk.seeds[kept]] = trained.finite[kept]
        end = segment.first + segment.steps
        report(end, self.records.losses(segment.first, end))

    def _any_alive(self) -> bool:
        """Whether any process trains a point."""
        return bool(self._hosts.gather(self.alive, self._points).any())

    def _evaluated(self) -> dict[str, np.ndarray]:
        """Evaluates all lanes, and keeps the state of each lane whose evaluation is its best one.

        The metrics of stopped points are NaN.
        """
        found = self.chunks.evaluate(len(self.alive))
        for values in found.values():
            values[~self.alive] = np.nan
        if self._best is not None and self.settings.keep_best:
            objective = found[self.settings.objective].astype(np.float64)
            self._best.update(self.chunks, self.settings.sign * objective)
        return found

    def _evaluate(self) -> None:
        """Evaluates all lanes and keeps the metrics, unless this update is evaluated already."""
        if not self.engine.metrics:
            return
        if self.evaluations and self.evaluations[-1][0] == self.done:
            return
        found = self._evaluated()
        self.evaluations.append((self.done, found))
        everywhere = self._hosts.gather(found, self._points)
        self._notify("evaluate", {"done": self.done, "metrics": dict(everywhere)})

    def _look(self) -> None:
        """Stops the points whose lanes have all diverged, and those that the rule does not keep."""
        # Here a lane has diverged only if a loss or a parameter is not finite.
        lost = ~np.isfinite(self.losses(self.done)).all(axis=-1) | ~self.finite
        leaving = self.alive & np.all(lost, axis=1) & self.settings.drop
        if self.done in self._asked:
            leaving |= self._given_up(leaving)
        stopped, alive = self._hosts.gather((leaving, self.alive & ~leaving), self._points)
        if stopped.any():
            # The last metrics of the stopped points, because their lanes are dropped below. All
            # processes evaluate, even if only one of them stops points.
            self._evaluate()
        self.stopped_at[leaving] = self.done
        self.alive &= ~leaving
        if stopped.any():
            which = np.flatnonzero(stopped).tolist()
            facts = {"done": self.done, "stopped": which, "alive": int(alive.sum())}
            self._notify("stop", facts)
        if leaving.any():
            self.chunks = self.chunks.only(np.flatnonzero(self.alive))

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
            (
                losses,
                settings.sign * objective,
                self.alive & ~lost,
                self.records.up_to(self.done)[1],
            ),
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


def _expanded(leaf: np.ndarray, own: np.ndarray) -> np.ndarray:
    # The rows of `leaf` where the mask is true, and zeros elsewhere.
    whole = np.zeros((len(own), *leaf.shape[1:]), leaf.dtype)
    whole[own] = leaf
    return whole
