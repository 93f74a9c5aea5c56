"""The engine: a plan, and the compiled programs that follow from it. Nothing in it changes.

`prepared` makes one; `reshaped` and `replanned` make another one from it. What is under way, the
lanes and how far they are, is the loop's (`loop.py`).
"""

import concurrent.futures
import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from ...training.batches import source
from ...training.run import Run, initial, split
from . import devices as hardware, plan as planning
from .cache import cached
from .executable import Executable, lower, signature, trace
from .feed import Feed, nbytes, spread_axis
from .layout import Layout, shape
from .plan import Facts, Plan
from .programs import Build, Problem, parts

Tree = Any
Shape = tuple[int, int]


class Programs(NamedTuple):
    """The compiled programs of a chunk; `programs.parts` says what each takes and returns."""

    start: Executable
    draw: Executable | None
    train: Executable
    evaluate: Executable | None
    seconds: float  # that compiling took, the first time

    @property
    def bytes(self) -> int:
        """What keeping them costs."""
        return sum(part.bytes for part in self if isinstance(part, Executable))


@dataclasses.dataclass(frozen=True)
class Engine:
    """How a sweep is run, ready to run.

    Attributes:
      problem: What is trained.
      feed: What the programs are called with.
      plan: How it is run, and why.
      shape: Groups and members of a chunk.
      programs: The compiled programs.
    """

    problem: Problem
    feed: Feed
    plan: Plan
    shape: Shape
    programs: Programs

    @property
    def metrics(self) -> list[str]:
        """Names of what the task's `evaluate` returns."""
        return [] if self.programs.evaluate is None else list(self.programs.evaluate.results)

    @property
    def lanes(self) -> Tree:
        """Shapes of the lanes of a chunk, `[groups, members, ...]`."""
        return self.programs.start.results[0]

    @property
    def described(self) -> str:
        """The plan in words, with the lanes of a call as they are."""
        layout = self.arrange(np.arange(len(self.feed.points)))
        chunks, lanes = len(layout.chunks), self.shape[0] * self.shape[1]
        width, threads = (0 if chunks == 1 else lanes), min(self.plan.threads, chunks)
        return str(dataclasses.replace(self.plan, width=width, threads=threads))

    def arrange(self, points: np.ndarray) -> Layout:
        """The layout of some points."""
        return Layout(points, self.feed.seeds, self.shape, self.feed.rng)

    def begin(self, layout: Layout, i: int) -> tuple[Tree, Tree, Tree]:
        """A chunk before its first update: its hyperparameters, its lanes and its keys."""
        hyperparams = self.feed.hyperparams(layout, i)
        bits, given = self.feed.starts(layout, i)
        return hyperparams, *self.programs.start(self.feed.data, hyperparams, bits, given)

    def train(self, chunk: Any, rows: Tree, first: int, count: int) -> Any:
        """Trains a chunk, with `.hyperparams`, `.keys` and `.lanes`, for some updates of a block.

        Returns:
          Its lanes, their records and whether their parameters are finite.
        """
        call = lambda lanes, first, count: self.programs.train(
            self.feed.data,
            chunk.hyperparams,
            chunk.keys,
            rows,
            lanes,
            np.int32(first),
            np.int32(count),
        )
        if self.plan.scanned:
            return call(chunk.lanes, first, count)
        lanes, finite, kept = chunk.lanes, None, []
        for index in range(first, first + count):
            lanes, records, finite = call(lanes, index, 1)
            kept.append(records)
        return lanes, _thinned(kept, first, self.problem), finite

    def place(self, layout: Layout, leaves: Sequence[np.ndarray], points: np.ndarray) -> list[Tree]:
        """Lanes from the host, `[points, seeds, ...]` of each leaf, as the lanes of chunks."""
        structure, spread = jax.tree.structure(self.lanes), spread_axis(layout.shape)
        parts = zip(*(layout.distribute(leaf, points) for leaf in leaves), strict=True)
        # Copied, because the host's buffers are not JAX's to donate.
        put = lambda leaf: jnp.copy(self.feed.put(leaf, spread))
        return [jax.tree.map(put, structure.unflatten(part)) for part in parts]

    def fetch(self, layout: Layout, lanes: Sequence[Tree]) -> list[np.ndarray]:
        """Lanes of all chunks on the host, `[points, seeds, ...]` of each leaf."""
        if not layout.chunks:
            shapes = [leaf.shape[2:] for leaf in jax.tree.leaves(self.lanes)]
            dtypes = [leaf.dtype for leaf in jax.tree.leaves(self.lanes)]
            blank = lambda shape, dtype: np.zeros((0, self.feed.seeds, *shape), dtype)
            return [blank(*pair) for pair in zip(shapes, dtypes, strict=True)]
        parts = [jax.tree.leaves(jax.device_get(chunk)) for chunk in lanes]
        return [layout.collect(leaves) for leaves in zip(*parts, strict=True)]

    def member(self, lanes: Tree, group: int, member: int) -> Tree:
        """One lane of a chunk, on the host."""
        if self.feed.devices[0].platform == "cpu":  # whose memory is the host's
            return jax.tree.map(lambda leaf: np.array(np.asarray(leaf)[group, member]), lanes)
        return jax.tree.map(lambda leaf: np.asarray(leaf[group, member]), lanes)

    def blank(self) -> Tree:
        """A lane of zeros, on the host."""
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape[2:], leaf.dtype), self.lanes)


def prepared(
    problem: Problem,
    feed: Feed,
    plan: Plan,
    shape: Shape | None = None,
) -> Engine:
    """An engine: programs compiled for chunks that fit the memory."""
    points, seeds = len(feed.points), feed.seeds
    of = shape or shape_for(plan, feed, points)
    free = hardware.memory(feed.devices)
    while True:
        engine = None
        try:
            engine = Engine(problem, feed, plan, of, _programs(problem, feed, plan, of))
        except jax.errors.JaxRuntimeError as error:
            # XLA for TPU refuses to compile what does not fit, and says so.
            if "RESOURCE_EXHAUSTED" not in str(error) or of[0] * of[1] <= len(feed.devices):
                raise
            width = of[0] * of[1] // 2
        else:
            width = _fitting(engine, points * seeds, free)
        if engine is not None and width >= of[0] * of[1]:
            return engine
        plan = plan.because(f"{width} lanes of a call are what the memory holds", width=width)
        narrower = shape_for(plan, feed, points)
        if engine is not None and narrower == of:  # one lane for each device
            return engine
        of = narrower


def shape_for(plan: Plan, feed: Feed, points: int) -> Shape:
    """Groups and members of the chunks of so many points."""
    width = plan.width or points * feed.seeds
    return shape(points, feed.seeds, feed.rng, width=width, devices=plan.devices)


def reshaped(engine: Engine, of: Shape) -> Engine:
    """The engine with chunks of another shape, or itself if it has no part for each device."""
    if of == engine.shape or of[spread_axis(of)] % len(engine.feed.devices):
        return engine
    return prepared(engine.problem, engine.feed, engine.plan, of)


def replanned(engine: Engine, plan: Plan) -> Engine:
    """The engine with another plan, but for threads and devices, which are this machine's."""
    own = dataclasses.replace(plan, threads=engine.plan.threads, devices=engine.plan.devices)
    return prepared(engine.problem, engine.feed, own)


def compacted(engine: Engine, before: Layout, points: np.ndarray) -> tuple[Engine, Layout]:
    """The engine and the layout of the points that go on.

    They move to fewer chunks. Where they fill at most half of a chunk, they move to smaller chunks:
    compiling pays then, because points are stopped early in a sweep.
    """
    smaller = narrowed(engine, len(points))
    layout = smaller.arrange(points)
    if smaller is not engine:
        reason = f"{len(points)} points are left, in smaller chunks"
        return dataclasses.replace(smaller, plan=engine.plan.because(reason)), layout
    return engine, layout if len(layout.chunks) < len(before.chunks) else before


def narrowed(engine: Engine, points: int) -> Engine:
    """The engine with smaller chunks where so many points fill at most half of a chunk."""
    if not 0 < 2 * points * engine.feed.seeds <= engine.shape[0] * engine.shape[1]:
        return engine
    return reshaped(engine, shape_for(engine.plan, engine.feed, points))


def facts(problem: Problem, feed: Feed) -> Facts:
    """What a plan follows from, by tracing one lane's loss, gradient and evaluation."""

    def look() -> tuple[int, bool, tuple[str, ...]]:
        forward = lambda key, batch: _forward(problem, key, batch)
        traced = trace(forward, jax.random.key(0), feed.first)
        params, (_, _, metrics) = traced.results
        return nbytes(params), traced.has_convolutions, tuple(metrics)

    devices = feed.devices
    key = ("facts", problem.key, signature((problem.data, feed.first)))
    platform, cores = devices[0].platform, hardware.cores()
    return Facts(platform, len(devices), cores, *cached(key, look, lambda _: 0))


def contents(problem: Problem, feed: Feed) -> list[Any]:
    """What is computed for one lane, as text and arrays: the same for every plan."""
    build = Build(block=1, streamed=feed.streamed)
    traced = _traced(problem, feed, build, (1, 1))
    found = []
    for name in sorted(traced):
        found += [name, traced[name].text, *traced[name].closed.consts]
    return found


def _programs(problem: Problem, feed: Feed, plan: Plan, of: Shape) -> Programs:
    build = Build(
        products=plan.products,
        scanned=plan.scanned,
        block=feed.block,
        streamed=feed.streamed,
        mesh=feed.mesh,
        spread=spread_axis(of),
    )
    shapes = (*feed.shapes(of), feed.row_shapes(build.block) if feed.streamed else None)
    key = ("programs", problem.key, build, of, signature(shapes))
    make = lambda: _compiled(problem, feed, build, of)
    return cached(key, make, lambda programs: programs.bytes)


def _traced(problem: Problem, feed: Feed, build: Build, of: Shape) -> dict[str, Any]:
    """The programs, each traced for the results of those before it."""
    data, hyperparams, bits, given = feed.shapes(of)
    functions = parts(problem, build)
    found = {"start": trace(functions["start"].function, data, hyperparams, bits, given)}
    lanes, keys = found["start"].results
    zero = np.int32(0)
    rows = None
    if feed.streamed:
        rows = feed.row_shapes(build.block)
    else:
        found["draw"] = trace(functions["draw"].function, data, keys, zero)
        rows = found["draw"].results
    train = data, hyperparams, keys, rows, lanes, zero, zero
    found["train"] = trace(functions["train"].function, *train)
    if "evaluate" in functions:
        found["evaluate"] = trace(functions["evaluate"].function, data, hyperparams, keys, lanes)
    return found


def _compiled(problem: Problem, feed: Feed, build: Build, of: Shape) -> Programs:
    begin = time.perf_counter()
    functions = parts(problem, build)
    traced = _traced(problem, feed, build, of)
    order = sorted(traced, key=lambda name: name != "train")  # the longest first
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # Each compiles while the next is lowered. Lowering must be on this thread, whose settings
        # it follows.
        running = {
            name: pool.submit(lower(traced[name], **functions[name].options)) for name in order
        }
        done = {name: future.result() for name, future in running.items()}
    return Programs(
        done["start"],
        done.get("draw"),
        done["train"],
        done.get("evaluate"),
        time.perf_counter() - begin,
    )


def _forward(problem: Problem, key: jax.Array, batch: Tree) -> tuple[Tree, Any]:
    """One lane's parameters, loss and metrics, without an optimizer.

    `batch` is the first one from the host, or None.
    """
    task = problem.example
    keys = split(key)
    params, state = initial(task, keys)
    run = Run(task, optax.with_extra_args_support(optax.identity()))
    batches = source(task.batch)
    lane = run.init(keys, params, state)
    row = batch
    if not batches.streamed:
        row = jax.tree.map(lambda leaf: leaf[0], batches.ahead(0, 1, keys.data))
    _, step = run.step(lane, jnp.zeros([], jnp.int32), row, keys)
    return params, (step.loss, step.grads, run.evaluate(lane, keys))


def _fitting(engine: Engine, lanes: int, free: float | None) -> int:
    """Lanes of a call that fit the memory of all devices."""
    cells, count = engine.shape[0] * engine.shape[1], len(engine.feed.devices)
    memory = engine.programs.train.memory
    temporary = getattr(memory, "temp_size_in_bytes", 0)
    # The donated lanes as they lie on a device: a TPU pads arrays to tiles of 8 x 128.
    padded = getattr(memory, "alias_size_in_bytes", 0) * count
    return count * planning.fitting(
        math.ceil(cells / count),
        math.ceil(lanes / count),
        per_lane=temporary * count / cells,
        state=max(nbytes(engine.lanes), padded) / cells,
        fixed=nbytes(engine.feed.data),
        threads=engine.plan.threads,
        free=free,
        device=engine.feed.devices[0].device_kind,
    )


def _thinned(kept: list[Tree], first: int, problem: Problem) -> Tree:
    """Records of single updates as those of a call that recorded every so many."""
    of = lambda every: [i for i in range(len(kept)) if (first + i) % every == 0]
    host = jax.device_get(kept)
    at = of(problem.loss_every), of(problem.record_every)
    stack = lambda which, part: jax.tree.map(
        lambda *leaves: np.concatenate([leaves[i] for i in which]) if which else leaves[0][:0],
        *[records[part] for records in host],
    )
    return stack(at[0], 0), stack(at[1], 1)
