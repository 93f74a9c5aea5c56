"""The engine of a sweep: a plan and the compiled programs that follow from it. It is immutable.

`prepared` makes an engine; `reshaped`, `replanned` and `compacted` make another one from it. The
lanes and how far they are trained belong to the loop (`loop.py`).
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
Shape = tuple[int, int]  # groups and members of a chunk
Lanes = Any  # of a chunk that is being trained: see `Engine.train`


class Programs(NamedTuple):
    """The compiled programs of a chunk; `programs.parts` says what each takes and returns."""

    # None where parameters are given, and where a function of hyperparameters returns the task.
    initial: Executable | None
    start: Executable
    draw: Executable | None  # None where batches come from the host
    train: Executable
    evaluate: Executable | None  # None where the task has no `evaluate`
    seconds: float  # spent on compiling, which a sweep that finds the programs in the cache skips

    @property
    def bytes(self) -> int:
        """Bytes that the programs take while they are kept."""
        return sum(part.bytes for part in self if isinstance(part, Executable))


@dataclasses.dataclass(frozen=True)
class Engine:
    """Everything that training a sweep needs, apart from the lanes themselves.

    Attributes:
      problem: What is trained.
      feed: The arguments of the programs.
      plan: How the sweep is run, and why.
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
        """The plan in words, with the true size of a chunk in place of the largest one allowed."""
        layout = self.arrange(np.arange(len(self.feed.points)))
        chunks = len(layout.chunks)
        width = 0 if chunks == 1 else self.shape[0] * self.shape[1]
        threads = min(self.plan.threads, chunks)
        return str(dataclasses.replace(self.plan, width=width, threads=threads))

    def arrange(self, points: np.ndarray) -> Layout:
        """The layout of some points, given by their indices, in chunks of this engine."""
        return Layout(points, self.feed.seeds, self.shape, self.feed.rng)

    def begin(self, layout: Layout, i: int) -> tuple[Tree, Tree, Tree]:
        """A chunk before its first update: its hyperparameters, its lanes and its keys."""
        hyperparams = self.feed.hyperparams(layout, i)
        bits, given = self.feed.starts(self.programs.initial, layout, i)
        return hyperparams, *self.programs.start(self.feed.data, hyperparams, bits, given)

    def train(
        self, chunk: Lanes, rows: Tree, first: int, count: int
    ) -> tuple[Tree, Tree, jax.Array]:
        """Trains a chunk for some updates of one block.

        Args:
          chunk: An object with the attributes `hyperparams`, `keys` and `lanes`.
          rows: What `Feed.rows` gives for the block.
          first: The index of the first update.
          count: The number of updates.

        Returns:
          Its lanes, their records, and whether their parameters are finite.
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
        # One call for each update. `count` is at least 1, so there is a result.
        lanes = chunk.lanes
        finite: Any = None
        kept = []
        for index in range(first, first + count):
            lanes, records, finite = call(lanes, index, 1)
            kept.append(records)
        return lanes, _thinned(kept, first, self.problem), finite

    def place(self, layout: Layout, leaves: Sequence[np.ndarray], points: np.ndarray) -> list[Tree]:
        """Puts lanes from the host into the chunks of a layout, on the devices.

        Args:
          layout: The layout.
          leaves: The leaves of the lanes, `[points, seeds, ...]` each.
          points: The indices of their points, among which are those of the layout.
        """
        structure = jax.tree.structure(self.lanes)
        spread = spread_axis(layout.shape)
        parts = zip(*(layout.distribute(leaf, points) for leaf in leaves), strict=True)
        # Copied: `train` donates its lanes, and JAX must not reuse a buffer that NumPy owns.
        put = lambda leaf: jnp.copy(self.feed.put(leaf, spread))
        return [jax.tree.map(put, structure.unflatten(part)) for part in parts]

    def fetch(self, layout: Layout, lanes: Sequence[Tree]) -> list[np.ndarray]:
        """The leaves of the lanes of all chunks, on the host, `[points, seeds, ...]` each."""
        # This process may have no points left, while others have some.
        if not layout.chunks:
            shapes = [leaf.shape[2:] for leaf in jax.tree.leaves(self.lanes)]
            dtypes = [leaf.dtype for leaf in jax.tree.leaves(self.lanes)]
            blank = lambda shape, dtype: np.zeros((0, self.feed.seeds, *shape), dtype)
            return [blank(*pair) for pair in zip(shapes, dtypes, strict=True)]
        parts = [jax.tree.leaves(jax.device_get(chunk)) for chunk in lanes]
        return [layout.collect(leaves) for leaves in zip(*parts, strict=True)]

    def member(self, lanes: Tree, group: int, member: int) -> Tree:
        """One lane of a chunk, on the host."""
        # A CPU's array is viewed by NumPy without a copy. From other devices only the lane is
        # fetched, not the whole chunk.
        if self.feed.devices[0].platform == "cpu":
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
    """Compiles the programs, with chunks made smaller until they fit the memory.

    Args:
      problem: What is trained.
      feed: The arguments of the programs.
      plan: How the sweep is run.
      shape: The shape of a chunk to try first; by default that of the plan.
    """
    points = len(feed.points)
    seeds = feed.seeds
    chunk_shape = shape or shape_for(plan, feed, points)
    free = hardware.memory(feed.devices)
    while True:
        engine = None
        try:
            engine = Engine(
                problem, feed, plan, chunk_shape, _programs(problem, feed, plan, chunk_shape)
            )
        except jax.errors.JaxRuntimeError as error:
            # XLA for TPU does not compile a program that exceeds the memory. Half of the lanes are
            # tried next, down to one for each device.
            if "RESOURCE_EXHAUSTED" not in str(error) or chunk_shape[0] * chunk_shape[1] <= len(
                feed.devices
            ):
                raise
            width = chunk_shape[0] * chunk_shape[1] // 2
        else:
            # XLA's other compilers report only afterwards how much memory the program takes.
            width = _fitting(engine, points * seeds, free)
        if engine is not None and width >= chunk_shape[0] * chunk_shape[1]:
            return engine
        plan = plan.because(f"the memory holds {width} lanes of a call", width=width)
        narrower = shape_for(plan, feed, points)
        if (
            engine is not None and narrower == chunk_shape
        ):  # there is one lane for each device already
            return engine
        chunk_shape = narrower


def shape_for(plan: Plan, feed: Feed, points: int) -> Shape:
    """Groups and members of a chunk, by a plan and the number of points."""
    width = plan.width or points * feed.seeds
    return shape(points, feed.seeds, feed.rng, width=width, devices=plan.devices)


def reshaped(engine: Engine, chunk_shape: Shape) -> Engine:
    """The engine with chunks of another shape.

    Returns the same engine if its chunks have this shape already, or if the shape cannot be divided
    among the devices.
    """
    if chunk_shape == engine.shape or chunk_shape[spread_axis(chunk_shape)] % len(
        engine.feed.devices
    ):
        return engine
    return prepared(engine.problem, engine.feed, engine.plan, chunk_shape)


def replanned(engine: Engine, plan: Plan) -> Engine:
    """The engine with another plan, such as a checkpoint's.

    Threads and devices stay: they are those of this machine.
    """
    own = dataclasses.replace(plan, threads=engine.plan.threads, devices=engine.plan.devices)
    return prepared(engine.problem, engine.feed, own)


def compacted(engine: Engine, before: Layout, points: np.ndarray) -> tuple[Engine, Layout]:
    """The engine and the layout for the points that go on after others were stopped.

    If these points fit into fewer chunks, they move into those. If they fill at most half of a
    chunk, they move to smaller chunks, whose programs are compiled anew. This pays because points
    are stopped early in a sweep.

    Args:
      engine: The engine until now.
      before: The layout until now, which is returned if the points stay where they are.
      points: Indices of the points that go on; there may be none in this process.
    """
    smaller = narrowed(engine, len(points))
    layout = smaller.arrange(points)
    if smaller is not engine:
        reason = f"{len(points)} points are left, in smaller chunks"
        return dataclasses.replace(smaller, plan=engine.plan.because(reason)), layout
    return engine, layout if len(layout.chunks) < len(before.chunks) else before


def narrowed(engine: Engine, points: int) -> Engine:
    """The engine with smaller chunks if this number of points fills at most half of a chunk."""
    if not 0 < 2 * points * engine.feed.seeds <= engine.shape[0] * engine.shape[1]:
        return engine
    return reshaped(engine, shape_for(engine.plan, engine.feed, points))


def facts(problem: Problem, feed: Feed) -> Facts:
    """What a plan is derived from, found by tracing one lane's loss, gradient and evaluation."""

    # The bytes of the parameters, whether there are convolutions, and the names of the metrics.
    # They are cached, because tracing takes long.
    def look() -> tuple[int, bool, tuple[str, ...]]:
        forward = lambda key, batch: _forward(problem, key, batch)
        traced = trace(forward, jax.random.key(0), feed.first)
        params, (_, _, metrics) = traced.results
        return nbytes(params), traced.has_convolutions, tuple(metrics)

    devices = feed.devices
    key = ("facts", problem.key, signature((problem.data, feed.first)))
    lanes = len(feed.points) * feed.seeds
    found = cached(key, look, lambda _: 0)
    return Facts(devices[0].platform, len(devices), hardware.cores(), lanes, *found)


def contents(problem: Problem, feed: Feed) -> list[Any]:
    """The programs as text and arrays, by which a checkpoint recognises its sweep.

    They are those of a chunk of one lane, so that they are the same for every plan.
    """
    build = Build(block=1, streamed=feed.streamed)
    traced = _traced(problem, feed, build, (1, 1))
    found = []
    for name in sorted(traced):
        found += [name, traced[name].text, *traced[name].closed.consts]
    return found


def _programs(problem: Problem, feed: Feed, plan: Plan, chunk_shape: Shape) -> Programs:
    """The programs of a plan for chunks of a shape, from the cache if they are there."""
    build = Build(
        products=plan.products,
        scanned=plan.scanned,
        block=feed.block,
        streamed=feed.streamed,
        mesh=feed.mesh,
        spread=spread_axis(chunk_shape),
    )
    shapes = (*feed.shapes(chunk_shape), feed.row_shapes(build.block) if feed.streamed else None)
    key = ("programs", problem.key, build, chunk_shape, signature(shapes))
    make = lambda: _compiled(problem, feed, build, chunk_shape)
    return cached(key, make, lambda programs: programs.bytes)


def _traced(problem: Problem, feed: Feed, build: Build, chunk_shape: Shape) -> dict[str, Any]:
    """The traced programs. The results of the first three are arguments of those after them."""
    data, hyperparams, bits, given = feed.shapes(chunk_shape)
    functions = parts(problem, build)
    found = {}
    if given is None and "initial" in functions:
        found["initial"] = trace(functions["initial"].function, data, bits)
        given = found["initial"].results
    found["start"] = trace(functions["start"].function, data, hyperparams, bits, given)
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


def _compiled(problem: Problem, feed: Feed, build: Build, chunk_shape: Shape) -> Programs:
    """The programs, traced and compiled."""
    begin = time.perf_counter()
    functions = parts(problem, build)
    traced = _traced(problem, feed, build, chunk_shape)
    # The program that takes longest to compile is begun first.
    order = sorted(traced, key=lambda name: name != "train")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # Each one compiles on a thread of its own while the next one is lowered on this thread,
        # because lowering follows the settings of the thread that it runs on.
        running = {
            name: pool.submit(lower(traced[name], **functions[name].options)) for name in order
        }
        done = {name: future.result() for name, future in running.items()}
    return Programs(
        done.get("initial"),
        done["start"],
        done.get("draw"),
        done["train"],
        done.get("evaluate"),
        time.perf_counter() - begin,
    )


def _forward(problem: Problem, key: jax.Array, batch: Tree) -> tuple[Tree, Any]:
    """One lane's parameters, loss, gradient and metrics.

    Args:
      problem: What is trained.
      key: The lane's key.
      batch: The first batch from the host, or None.
    """
    task = problem.example
    keys = split(key)
    params, state = initial(task, keys)
    # The facts do not depend on the optimizer, so any will do.
    run = Run(task, optax.with_extra_args_support(optax.identity()))
    batches = source(task.batch)
    lane = run.init(keys, params, state)
    row = batch
    if not batches.streamed:
        row = jax.tree.map(lambda leaf: leaf[0], batches.ahead(0, 1, keys.data))
    _, step = run.step(lane, jnp.zeros([], jnp.int32), row, keys)
    return params, (step.loss, step.grads, run.evaluate(lane, keys))


def _fitting(engine: Engine, lanes: int, free: float | None) -> int:
    """Lanes of a call that fit the memory of all devices.

    Args:
      engine: The engine whose programs are compiled.
      lanes: Lanes of the sweep.
      free: Bytes of memory of a device, or None if that is not known.
    """
    cells = engine.shape[0] * engine.shape[1]
    count = len(engine.feed.devices)
    # XLA's account is that of one device, and may be missing.
    memory = engine.programs.train.memory
    temporary = getattr(memory, "temp_size_in_bytes", 0)
    # The bytes that lanes really take: a TPU pads arrays to tiles of 8 x 128. Lanes are the only
    # buffers that are donated, which is what "alias" means here.
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
    """The records of calls of one update each, as one call of all these updates returns them.

    Args:
      kept: The records of each call.
      first: The index of the first update.
      problem: What is trained.
    """
    # The updates at which something is recorded, as indices into `kept`.
    due = lambda every: [i for i in range(len(kept)) if (first + i) % every == 0]
    host = jax.device_get(kept)
    # Two parts, each with its own cadence: losses and aux, then the monitors.
    at = due(problem.loss_every), due(problem.record_every)
    # An empty slice keeps the shape and dtype where nothing is recorded.
    stack = lambda which, part: jax.tree.map(
        lambda *leaves: np.concatenate([leaves[i] for i in which]) if which else leaves[0][:0],
        *[records[part] for records in host],
    )
    return stack(at[0], 0), stack(at[1], 1)
