"""A sweep under way: chunks of lanes stepped segment by segment, the host in between."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ..stopping import Evidence, Stopping
from ..storage.checkpoint import Checkpoint, State
from .engine import Engine
from .hosts import Hosts
from .layout import Layout
from .plan import Plan

# Between two looks at the progress, and between a Ctrl-C and its answer. With many calls for a step
# it is longer, up to so many times: a call gets its memory anew, which takes milliseconds, and
# should be at work for a fifth of this time.
SECONDS_PER_SEGMENT, LONGEST = 0.3, 6
# Diverged points leave at every eighth of a run whose eighths are at least so many steps.
LOOKS, LOOK_STEPS = 8, 32


class Segment(NamedTuple):
    """Steps that were asked for, whose results may be under way."""

    steps: int
    layout: Layout
    results: list[
        Any
    ]  # of each chunk: its records and whether its parameters are finite; or the future of both


class Run:
    """The state of a sweep, and what moves it on.

    Attributes:
      done: Updates made.
      alive: `[points]`, whether a point is still trained.
      stopped_at: `[points]`, after how many updates it was stopped, or how many there are.
      finite: `[points, seeds]`, whether a lane's parameters were, at the end or when it was
        stopped.
      records: What was recorded at each step, a tree of `[done, points, seeds]`.
      evaluations: After how many updates lanes were evaluated, and what it gave, `{name: [points,
        seeds]}`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        steps: int,
        interval: int,
        rule: Stopping | None,
        drop: bool,
        objective: str,
        sign: float,
        coordinates: np.ndarray,
        hosts: Hosts,
        on_event: Callable[[str, dict[str, Any]], None],
    ):
        self._engine, self._steps, self._interval, self._hosts = engine, steps, interval, hosts
        self._rule, self._objective, self._sign, self._coordinates = (
            rule,
            objective,
            sign,
            coordinates,
        )
        self._on_event = on_event
        self._rungs = rule.looks(steps) if rule else ()
        looks = (
            [steps * i // LOOKS for i in range(1, LOOKS)]
            if drop and steps >= LOOKS * LOOK_STEPS
            else []
        )
        self._looks = sorted({*looks, *self._rungs})
        points, self._seeds = engine.points, engine.seeds
        self.done = 0
        self.alive = np.ones(points, bool)
        self.stopped_at = np.full(points, steps)
        self.finite = np.ones((points, self._seeds), bool)
        self.evaluations: list[tuple[int, dict[str, np.ndarray]]] = []
        self._records: list[Any] = []
        self._saved: State | None = None
        self._lanes: list[Any] = []
        self._tasks: dict[int, concurrent.futures.Future[Any]] = {}  # of each chunk, the last one

    @property
    def records(self) -> Any:
        """What was recorded, whole."""
        if len(self._records) > 1:
            self._records = [jax.tree.map(lambda *parts: np.concatenate(parts), *self._records)]
        return self._records[0]

    @property
    def losses(self) -> np.ndarray:
        """`[points, seeds, done]`."""
        return np.moveaxis(self.records["loss"], 0, -1)

    def resume(self, state: State | None) -> None:
        """Takes up a saved state, if there is one."""
        self._saved = state
        if state is None:
            return
        own = self._hosts.own(len(self._coordinates))
        self.done = int(state.facts["done"])
        self.alive, self.stopped_at, self.finite = (
            state.arrays[name][own] for name in ("alive", "stopped_at", "finite")
        )
        self.evaluations = [
            (
                at,
                {
                    name: state.arrays[f"evaluations/{i}/{name}"][own]
                    for name in state.facts["metrics"]
                },
            )
            for i, at in enumerate(state.facts["evaluated_at"])
        ]
        self._engine.adopt(
            Plan(**{**state.facts["plan"], "reasons": tuple(state.facts["plan"]["reasons"])})
        )
        leaves = [state.arrays[f"records/{i}"][:, own] for i in range(state.facts["records"])]
        self._records = [jax.tree.unflatten(self._engine.records, leaves)]

    def advance(
        self,
        stop: Callable[[], bool],
        report: Callable[[np.ndarray, int], None],
        checkpoint: Checkpoint | None,
    ) -> None:
        """Steps all lanes to the end, or until `stop()` between two segments, but by one segment at least."""
        engine = self._engine
        with concurrent.futures.ThreadPoolExecutor(max(engine.plan.threads, 1)) as pool:
            self._lanes = self._begin()
            length, read_at, begun = engine.length(self._seconds()), time.perf_counter(), self.done
            pending: Segment | None = None
            while self.done < self._steps and self.alive_anywhere:
                # One that is to stop stops all, the first one's clock says when to save, the
                # slowest how far to go.
                due = checkpoint is not None and checkpoint.is_due
                words = self._hosts.tell(self.done > begun and stop(), due, length)
                stopping, due, length = words[:, 0].any(), bool(words[0, 1]), words[:, 2].min()
                if stopping:
                    break
                segment = self._step(self._count(int(length)), pool)
                if pending is not None:
                    self._read(pending, report)  # while the device works on the next
                    length, read_at = self._length(
                        pending.steps, length, time.perf_counter() - read_at
                    )
                pending = segment
                evaluating = self.done % self._interval == 0 and self._interval < self._steps
                looking = self.done in self._looks
                if evaluating or looking or due:
                    pending = self._settle(pending, report)
                    length, read_at = self._length(
                        segment.steps, length, time.perf_counter() - read_at
                    )
                if evaluating or (self.done in self._rungs and self._objective != "train_loss"):
                    self._evaluate()
                if looking:
                    self._look()
                if due and checkpoint is not None:
                    self._save(checkpoint)
                    read_at = time.perf_counter()
            self._settle(pending, report)
            if self.done < self._steps and not self.alive_anywhere:
                self._pad()
            if checkpoint is not None and self.done > begun:
                self._save(checkpoint)

    @property
    def alive_anywhere(self) -> bool:
        """Whether any process trains a point."""
        return bool(self._alive_everywhere().any())

    def metrics(self) -> dict[str, np.ndarray]:
        """What `evaluate` gives now, and for points that were stopped what it gave then."""
        now = self._evaluated()
        for at, then in self.evaluations:
            stopped = ~self.alive & (self.stopped_at == at)
            for name, values in then.items():
                now[name][stopped] = values[stopped]
        return now

    def lane(self, point: int, seed: int) -> Any:
        """The lane of a point of this process that is alive, on the host; one of zeros for another point."""
        if not (0 <= point < len(self.alive) and self.alive[point]):
            return self._engine.blank()
        chunk, group, member = self._layout.where(point, seed)
        return self._engine.member(self._lanes[chunk], group, member)

    def _begin(self) -> list[Any]:
        if self._saved is None:
            self._layout = self._engine.arrange(np.flatnonzero(self.alive))
            return self._engine.begin(self._layout)
        # Every lane in the place that it had: in another one its sums might be rounded in another
        # way.
        own = self._hosts.own(len(self._coordinates))
        self._engine.narrow(*self._saved.arrays["shape"][own[0]].tolist())
        # What an interrupted run decided by goes on to decide.
        self._engine.compile_seconds, self._engine.pace = (
            self._saved.facts[n] for n in ("compile_seconds", "pace")
        )
        placed = np.flatnonzero(self._saved.arrays["placed"][own])
        self._layout = self._engine.arrange(placed)
        # The file has the lanes of all points that have a place, whosever they are.
        rows = np.searchsorted(np.flatnonzero(self._saved.arrays["placed"]), own[placed])
        leaves = [self._saved.arrays[f"lanes/{i}"][rows] for i in range(self._saved.facts["lanes"])]
        return self._engine.place(self._layout, leaves, placed)

    def _count(self, length: int) -> int:
        """Steps of the next segment, which ends where the host has something to do."""
        done, block = self.done, self._engine.block
        ends = [
            self._steps,
            done + block - done % block,
            done + self._interval - done % self._interval,
        ]
        ends += [look for look in self._looks if look > done][:1]
        return max(min(done + length, *ends) - done, 1)

    def _seconds(self) -> float:
        """How long a segment is to take."""
        calls = len(self._layout.chunks) / max(self._engine.plan.threads, 1)
        return SECONDS_PER_SEGMENT * min(max(calls / 5, 1), LONGEST)

    def _length(self, count: int, length: float, seconds: float) -> tuple[float, float]:
        """How many steps to take next, and from when on to time them."""
        if not self._layout.chunks:  # other processes train, and say how far to go
            return np.inf, time.perf_counter()
        self._engine.paced(count, seconds, self._layout.cells)
        # Aim at equal times, but grow slowly: the first segments also pay for what happens once.
        return float(
            np.clip(count * self._seconds() / seconds, 1, 8 * max(count, length / 8))
        ), time.perf_counter()

    def _step(self, count: int, pool: concurrent.futures.ThreadPoolExecutor) -> Segment:
        first = self.done
        inputs = self._engine.inputs(self._layout, first)

        def train(i: int) -> Any:
            self._lanes[i], *results = self._engine.train(inputs[i], self._lanes[i], first, count)
            return results

        def train_after(i: int, before: concurrent.futures.Future[Any] | None) -> Any:
            if before is not None:
                before.result()  # of the same chunk, and in the same queue before this: it is running or done
            return jax.block_until_ready(train(i))

        chunks = range(len(self._layout.chunks))
        if self._engine.plan.threads > 1:
            self._tasks = {i: pool.submit(train_after, i, self._tasks.get(i)) for i in chunks}
            results = list(self._tasks.values())
        else:
            results = [train(i) for i in chunks]
        self.done += count
        return Segment(count, self._layout, results)

    def _read(self, segment: Segment, report: Callable[[np.ndarray, int], None]) -> None:
        """Fetches a segment's records to the host."""
        results = [
            r.result() if isinstance(r, concurrent.futures.Future) else r for r in segment.results
        ]
        if segment.layout.chunks:
            trees = [
                jax.tree.map(lambda leaf: np.asarray(leaf)[: segment.steps], records)
                for records, _ in results
            ]
            points = len(self.alive)
            gathered = jax.tree.map(lambda *leaves: segment.layout.gather(leaves, points), *trees)
            for leaf in jax.tree.leaves(gathered):
                leaf[:, ~self.alive] = (
                    np.nan
                )  # what was stopped may be trained on where that costs nothing
            finite = segment.layout.gather([np.asarray(finite) for _, finite in results], points)
            self.finite[self.alive] = finite[self.alive]
        else:  # other processes train
            gathered = self._missing(segment.steps)
        self._records.append(gathered)
        report(np.moveaxis(gathered["loss"], 0, -1), segment.steps)

    def _settle(self, pending: Segment | None, report: Callable[[np.ndarray, int], None]) -> None:
        """Waits for what is under way."""
        if pending is not None:
            self._read(pending, report)
        self._tasks = {}

    def _evaluated(self) -> dict[str, np.ndarray]:
        if not self._engine.metrics:
            return {}
        if not self._layout.chunks:
            missing = np.full((len(self.alive), self._seeds), np.nan, np.float32)
            return {name: missing.copy() for name in self._engine.metrics}
        parts = self._engine.evaluate(self._lanes)
        found = jax.tree.map(
            lambda *leaves: self._layout.gather(leaves, len(self.alive)), *jax.device_get(parts)
        )
        for values in found.values():
            values[~self.alive] = np.nan
        return found

    def _evaluate(self) -> None:
        if self._engine.metrics and not (self.evaluations and self.evaluations[-1][0] == self.done):
            self.evaluations.append((self.done, self._evaluated()))
            everywhere = self._hosts.gather(self.evaluations[-1][1], len(self._coordinates))
            self._on_event("evaluate", {"done": self.done, "metrics": dict(everywhere)})

    def _alive_everywhere(self) -> np.ndarray:
        return self._hosts.gather(self.alive, len(self._coordinates))

    def _look(self) -> None:
        """Stops the points whose lanes have all diverged, and those that the rule gives up."""
        lost = ~np.isfinite(self.losses).all(axis=-1)
        leaving = self.alive & np.all(lost, axis=1)
        if self.done in self._rungs and self._rule is not None:
            leaving |= self._pruned(leaving)
        stopped, alive = self._hosts.gather(
            (leaving, self.alive & ~leaving), len(self._coordinates)
        )
        if stopped.any():
            self._evaluate()  # once more, who leaves
        self.stopped_at[leaving] = self.done
        self.alive &= ~leaving
        if stopped.any():
            words = {
                "stopped": np.flatnonzero(stopped).tolist(),
                "alive": int(alive.sum()),
                "done": self.done,
            }
            self._on_event("stop", words)
        if not leaving.any():
            return
        before = self._layout
        layout = self._engine.compacted(before, np.flatnonzero(self.alive), self._steps - self.done)
        if layout is not before:
            same = layout.among(before)
            self._layout = layout
            if same is not None:
                self._lanes = [self._lanes[i] for i in same]
            else:
                leaves = self._engine.fetch(before, self._lanes)
                self._lanes = []  # before the new ones are there
                keep = np.isin(before.points, layout.points)
                self._lanes = self._engine.place(
                    layout, [leaf[keep] for leaf in leaves], layout.points
                )

    def _pruned(self, lost: np.ndarray) -> np.ndarray:
        """The points of this process that the rule gives up."""
        if self._objective == "train_loss":
            history = self.losses
        else:
            history = np.stack([values[self._objective] for _, values in self.evaluations], axis=-1)
        diverged = ~np.all(np.isfinite(self.losses), axis=-1, keepdims=True)
        history = np.where(diverged, np.inf, self._sign * history)
        points = len(self._coordinates)
        alive = self.alive & ~lost
        losses, history, alive = self._hosts.gather((self.losses, history, alive), points)
        kept = np.zeros(points, bool)
        if alive.any() and self._rule is not None:
            columns = dict(enumerate(self._coordinates.T))
            evidence = Evidence(
                losses,
                history,
                {str(name): values for name, values in columns.items()},
                {},
                self.done,
                self._steps,
                alive,
                self._rungs.index(self.done),
            )
            kept = alive & self._rule.keep(evidence)
        return self.alive & ~lost & ~kept[self._hosts.own(points)]

    def _pad(self) -> None:
        """Fills the records up where every point has diverged and nothing is left to train."""
        self._records.append(self._missing(self._steps - self.done))
        self.done = self._steps

    def _missing(self, steps: int) -> Any:
        return jax.tree.map(
            lambda leaf: np.full((steps, *leaf.shape[1:]), np.nan, leaf.dtype), self.records
        )

    def _save(self, checkpoint: Checkpoint) -> None:
        whole = lambda tree, axis=0: self._hosts.gather(tree, len(self._coordinates), axis)
        own = np.isin(np.arange(len(self.alive)), self._layout.points)
        placed = whole(own)
        leaves = self._engine.fetch(self._layout, self._lanes)
        if (
            self._hosts.count > 1
        ):  # which have as many lanes to send only if they send the stopped ones too
            leaves = [whole(_expanded(leaf, own))[placed] for leaf in leaves]
        records = [whole(leaf, 1) for leaf in jax.tree.leaves(self.records)]
        arrays: dict[str, Any] = {
            "alive": whole(self.alive),
            "placed": placed,
            "shape": whole(np.tile(self._layout.shape, (len(self.alive), 1))),
            "stopped_at": whole(self.stopped_at),
            "finite": whole(self.finite),
            **{f"lanes/{i}": leaf for i, leaf in enumerate(leaves)},
            **{f"records/{i}": leaf for i, leaf in enumerate(records)},
        }
        for i, (_, metrics) in enumerate(self.evaluations):
            arrays |= {f"evaluations/{i}/{name}": whole(values) for name, values in metrics.items()}
        facts = {
            "done": self.done,
            "lanes": len(leaves),
            "records": len(records),
            "evaluated_at": [at for at, _ in self.evaluations],
            "metrics": sorted({name for _, metrics in self.evaluations for name in metrics}),
            "pace": self._engine.pace,
            "compile_seconds": self._engine.compile_seconds,
            "plan": dataclasses.asdict(self._engine.plan),
        }
        checkpoint.save(State(facts, arrays), write=self._hosts.is_first)
        self._on_event("checkpoint", {"done": self.done, "path": str(checkpoint.path)})


def _expanded(leaf: np.ndarray, own: np.ndarray) -> np.ndarray:
    whole = np.zeros((len(own), *leaf.shape[1:]), leaf.dtype)
    whole[own] = leaf
    return whole
