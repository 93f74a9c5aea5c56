"""What trains the chunks of a sweep: its programs, compiled as the plan says, and the lanes that they work on."""

import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from ... import _require
from ...training.run import Optimizer, trained
from ...training.streams import from_host
from ...training.task import Task
from . import lanes, plan as planning
from .feed import Feed, abstract, spread_axis
from .lanes import Build, Programs
from .layout import Layout, shape
from .plan import Plan

# A smaller program must save this many times what compiling it costs.
PAYS = 1.5


class Engine:
    """The programs and the arrays of a sweep.

    Attributes:
      feed: The arguments of the programs.
      devices: The devices of this process.
      data: The arrays of the task, on the host.
      plan: How it is run.
      metrics: Names of what the task's `evaluate` returns.
      records: The structure of what is recorded at each step.
      is_open: Whether the plan is made of rules that measurements may overrule.
      may_rewrite: Whether they may overrule what becomes of convolutions.
      has_convolutions: Whether the step has any.
      compile_seconds: What compiling its programs took.
      pace: Seconds that a step of a lane takes, beside others; or `None` before it is known.
    """

    def __init__(
        self,
        task: Task,
        optimizer: Optimizer,
        hyperparams: dict[str, np.ndarray],
        bits: np.ndarray,
        *,
        steps: int,
        rng: str,
        execution: str | int = "auto",
        convolutions: str = "auto",
        devices: Any = None,
    ):
        """Traces the programs; nothing is compiled or computed yet.

        Args:
          task: What is trained.
          optimizer: Function from hyperparameters to a transformation.
          hyperparams: `{name: [points]}`.
          bits: Key data of the groups: `[seeds, 2]`, or `[seeds, points, 2]` where every lane has
            its own.
          steps: Updates of each lane.
          rng: `"common"` or `"independent"`.
          execution: How many lanes a call trains, or a word for it.
          convolutions: What becomes of convolutions.
          devices: Devices, their number, `"all"`, or `None` for the default.
        """
        self.devices = planning.devices(devices)
        self._mesh = planning.mesh(self.devices)
        self.plan = planning.plan(execution, self.devices, params=lambda: _params(task.init))
        self.feed = Feed(
            task, hyperparams, bits, steps=steps, rng=rng, device=self.devices[0], mesh=self._mesh
        )
        try:
            self._names, self._optimizer = list(hyperparams), optimizer
            self._task = dataclasses.replace(task, batch=from_host) if self.feed.streamed else task
            self._shape = self._shape_for(self.points)
            self._trace()
            on_cpu = self.devices[0].platform == "cpu"
            self.has_convolutions = self._parts.train.has_convolutions()
            if planning.rewrites(convolutions, on_cpu=on_cpu, has_any=self.has_convolutions):
                words = "as asked for" if convolutions != "auto" else planning.SLOW_CONVOLUTIONS
                self.plan = self.plan.because(words, products=True)
                self._trace()
            self.is_open, self.may_rewrite = execution == "auto", convolutions == "auto"
            self._first = self._parts
            if self.is_open and (remembered := self._first.known.get(self._question())) is not None:
                self.adopt(remembered)
        except BaseException:
            self.close()  # or the thread of a source would live as long as this error is kept
            raise

    @property
    def points(self) -> int:
        """Points that this process trains."""
        return self.feed.points

    @property
    def seeds(self) -> int:
        """How many seeds."""
        return self.feed.seeds

    @property
    def described(self) -> str:
        """The plan in words, with the lanes that a call and the calls that a moment have in the end."""
        lanes, chunks = (
            self._shape[0] * self._shape[1],
            len(self.arrange(np.arange(self.points)).chunks),
        )
        width = 0 if chunks == 1 else lanes
        return str(
            dataclasses.replace(self.plan, width=width, threads=min(self.plan.threads, chunks))
        )

    @property
    def block(self) -> int:
        """Steps that one call takes at most."""
        return self.feed.block

    def adopt(self, plan: Plan) -> None:
        """Takes a plan that was found elsewhere, but for the threads and devices, which are this machine's."""
        self.plan = dataclasses.replace(plan, threads=self.plan.threads, devices=self.plan.devices)
        self._shape = self._shape_for(self.points)
        self._trace()
        self.is_open = False

    def learn(self) -> None:
        """Remembers the plan for further runs of the same programs and shapes."""
        self._first.known[self._question()] = self.plan

    def contents(self) -> Any:
        """What is computed for one lane, as text, and the arrays that it closes over; the same for every plan."""
        parts, _ = lanes.programs(
            self._task, self._optimizer, Build(block=self.block, streamed=self.feed.streamed)
        )
        shapes = self._shapes(parts, (1, 1))
        return [getattr(parts, name).contents(*shapes[name]) for name in ("init", "start", "train")]

    def compile(self) -> None:
        """Compiles the programs side by side, and narrows the chunks until they fit the memory."""
        self._compile()
        while (width := self._fitting()) < self._shape[0] * self._shape[1]:
            before = self._shape
            self.plan = self.plan.because(
                f"{width} lanes of a call are what the memory holds", width=width
            )
            self._shape = self._shape_for(self.points)
            if self._shape == before:
                break  # one lane for each device
            self._trace()
            self._compile()
        if not self.feed.data:
            self.feed.place(self.data)
        self.pace = self._parts.known.get(self._pace_key())

    def flops(self) -> float | None:
        """Floating-point operations of a step of one lane, as XLA counts them, or `None`."""
        analysis = self._parts.train.costs(*self._arguments["train"])
        analysis = analysis[0] if isinstance(analysis, list) and analysis else analysis
        flops = analysis.get("flops") if isinstance(analysis, dict) else None
        return (
            flops / (self._shape[0] * self._shape[1] / len(self.devices))
            if flops and flops > 0
            else None
        )

    def length(self, seconds: float) -> float:
        """Steps that take about so long; one, if nothing is known."""
        if self.pace is None:
            return 1.0
        return max(seconds / (self.pace * self.arrange(np.arange(self.points)).cells), 1.0)

    def paced(self, count: int, seconds: float, cells: int) -> None:
        """Takes note of how long some steps of so many lanes took."""
        self.pace = self._parts.known[self._pace_key()] = seconds / (count * cells)

    def arrange(self, points: np.ndarray) -> Layout:
        """The layout of some points."""
        return Layout(points, self.seeds, self._shape, self.feed.rng)

    def compacted(self, before: Layout, points: np.ndarray, remaining: int) -> Layout:
        """The layout of those points that go on: of fewer chunks, or of smaller ones where compiling them pays."""
        layout = self.arrange(points)
        smaller = self._shape_for(max(len(points), 1))
        narrow = Layout(points, self.seeds, smaller, self.feed.rng)
        saved = (layout.cells - narrow.cells) * remaining * (self.pace or 0)
        if len(points) and saved > PAYS * self.compile_seconds:
            self.narrow(*smaller)
            words = f"{len(points)} points are left, in chunks of {smaller[0] * smaller[1]} lanes"
            self.plan = self.plan.because(words)
            return narrow
        return layout if len(layout.chunks) < len(before.chunks) else before

    def narrow(self, groups: int, members: int) -> None:
        """Goes on with chunks of another shape, if it has a part for each device."""
        shape = groups, members
        if shape != self._shape and shape[spread_axis(shape)] % len(self.devices) == 0:
            self._shape = shape
            self._trace()
            self._compile()

    def begin(self, layout: Layout, chunks: int | None = None) -> list[Any]:
        """The lanes of all chunks, or of so many, before their first step."""
        running = []
        for i in range(len(layout.chunks) if chunks is None else chunks):
            params, state, _ = self.feed.initial(self._parts, layout, i)
            running.append(self._parts.start(self.feed.hyperparams(layout, i), params, state))
        return running

    def place(self, layout: Layout, leaves: Sequence[np.ndarray], points: np.ndarray) -> list[Any]:
        """Lanes from the host, `[points, seeds, ...]` of each leaf, to their chunks."""
        structure, spread = jax.tree.structure(self._lanes), spread_axis(layout.shape)
        parts = zip(*(layout.distribute(leaf, points) for leaf in leaves), strict=True)
        put = lambda leaf: jnp.copy(
            self.feed.put(leaf, spread)
        )  # the host's buffers are not JAX's to donate
        return [jax.tree.map(put, structure.unflatten(part)) for part in parts]

    def fetch(self, layout: Layout, running: Sequence[Any]) -> list[np.ndarray]:
        """Lanes of all chunks on the host, `[points, seeds, ...]` of each leaf."""
        if not layout.chunks:
            return [
                np.zeros((0, self.seeds, *leaf.shape[2:]), leaf.dtype)
                for leaf in jax.tree.leaves(self._lanes)
            ]
        parts = [jax.tree.leaves(jax.device_get(chunk)) for chunk in running]
        return [layout.collect(leaves) for leaves in zip(*parts, strict=True)]

    def member(self, running: Any, group: int, member: int) -> Any:
        """A lane of a chunk, on the host."""
        if self.devices[0].platform == "cpu":  # whose memory is the host's
            return jax.tree.map(lambda leaf: np.array(np.asarray(leaf)[group, member]), running)
        return jax.tree.map(lambda leaf: np.asarray(leaf[group, member]), running)

    def blank(self) -> Any:
        """A lane of zeros, on the host."""
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape[2:], leaf.dtype), self._lanes)

    def inputs(self, layout: Layout, first: int) -> list[Any]:
        """For each chunk what its steps from `first` on need."""
        return self.feed.inputs(self._parts, layout, first)

    def train(self, inputs: Any, running: Any, first: int, count: int) -> Any:
        """Trains a chunk; its lanes, their records and whether they are finite."""
        hyperparams, keys, rows = inputs
        step = lambda running, first, count: self._train(
            self.feed.data, hyperparams, keys, rows, running, np.int32(first), np.int32(count)
        )
        if self.plan.scanned:
            return step(running, first, count)
        parts, finite = [], None
        for i in range(first, first + count):
            running, records, finite = step(running, i, 1)
            parts.append(records)
        return (
            running,
            jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(parts)),
            finite,
        )

    def evaluate(self, running: Sequence[Any]) -> list[dict[str, Any]]:
        """The metrics of chunks."""
        evaluate = self._parts.evaluate.ready(*self._arguments["evaluate"])
        one = lambda lanes: jax.block_until_ready(evaluate(self.feed.data, lanes))
        with concurrent.futures.ThreadPoolExecutor(self.plan.threads) as pool:
            return list(pool.map(one, running))

    def params(self, lane: Any) -> Any:
        """The parameters of a lane, as the task's `init` returns them."""
        return trained(self._task, lane)

    def close(self) -> None:
        """Ends what reads ahead."""
        self.feed.close()

    def _shape_for(self, points: int) -> tuple[int, int]:
        width, threads = self.plan.width or points * self.seeds, self.plan.threads
        return shape(
            points,
            self.seeds,
            self.feed.rng,
            width=width,
            threads=threads,
            devices=len(self.devices),
        )

    def _trace(self) -> None:
        build = Build(
            products=self.plan.products,
            scanned=self.plan.scanned,
            block=self.block,
            streamed=self.feed.streamed,
            mesh=self._mesh,
            spread=spread_axis(self._shape),
        )
        self._parts, self.data = lanes.programs(self._task, self._optimizer, build)
        self._arguments = self._shapes(self._parts, self._shape)
        self._lanes = self._parts.start.trace(*self._arguments["start"])

    def _shapes(self, parts: Programs, of: tuple[int, int]) -> dict[str, tuple[Any, ...]]:
        """Traces programs for chunks of a shape; the shapes of their arguments."""
        zero, number = np.int32(0), _require.float_dtype()
        hyperparams = {name: jax.ShapeDtypeStruct(of, number) for name in self._names}
        data = jax.tree.map(abstract, self.data)
        init = data, jax.ShapeDtypeStruct((of[0], 2), np.uint32)
        params, state, keys = parts.init.trace(*init)
        start = hyperparams, params, state
        running = parts.start.trace(*start)
        found = {"init": init, "start": start}
        rows = self.feed.drawn(parts, found, data, keys)
        found["train"] = data, hyperparams, keys, rows, running, zero, zero
        _, records, _ = parts.train.trace(*found["train"])
        self.records = jax.tree.structure(records)
        self.metrics: list[str] = []
        if self._task.evaluate is not None:
            found["evaluate"] = data, running
            self.metrics = list(parts.evaluate.trace(*found["evaluate"]))
        return found

    def _compile(self) -> None:
        begin = time.perf_counter()
        order = sorted(self._arguments, key=lambda name: name != "train")  # the longest first
        missing = [
            name
            for name in order
            if not getattr(self._parts, name).is_ready(*self._arguments[name])
        ]
        if missing:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                # Each is compiled while the next is lowered, which must be on this thread: the
                # settings are its own.
                running = [
                    pool.submit(getattr(self._parts, name).lower(*self._arguments[name]))
                    for name in missing
                ]
                for future in running:
                    future.result()
        self._train = self._parts.train.ready(*self._arguments["train"])
        # Of the first time, for later ones find the programs compiled, and are to decide in the
        # same way.
        self.compile_seconds = self._parts.known.setdefault(
            "compile_seconds", time.perf_counter() - begin
        )

    def _fitting(self) -> int:
        """Lanes of a call that fit the memory of a device."""
        cells = self._shape[0] * self._shape[1]
        analysis = self._parts.train.memory(*self._arguments["train"])
        size = lambda tree: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
        return len(self.devices) * planning.fitting(
            math.ceil(cells / len(self.devices)),
            math.ceil(self.points * self.seeds / len(self.devices)),
            per_lane=getattr(analysis, "temp_size_in_bytes", 0) * len(self.devices) / cells,
            state=size(self._lanes) / cells,
            fixed=size(self.data),
            threads=self.plan.threads,
            devices=self.devices,
        )

    def _question(self) -> Any:
        """What a plan is the answer to, beside the programs of the first one."""
        return "plan", self.points, self.seeds, self.feed.rng, len(self.devices)

    def _pace_key(self) -> Any:
        return "pace", self._shape, self.plan.threads


@functools.lru_cache(maxsize=32)
def _params(init: Callable[..., Any]) -> Any:
    """The shapes of a task's parameters."""
    return jax.eval_shape(init, jax.random.key(0))
