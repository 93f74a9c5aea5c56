"""`lrax.sweep_function`: any pure training function, a whole RL run for instance, as a lane."""

# Annotations stay as they are written, so that `help` shows the names of the aliases.
from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from .. import _require
from .choices import Points
from .direction import Mode, mode_of
from .engine import devices as hardware, plan as planning
from .engine.cache import cached, reference
from .engine.executable import Executable, lower, signature, trace
from .engine.feed import spread_axis
from .engine.hosts import Hosts, together
from .engine.layout import Layout, shape
from .engine.programs import each, on_devices, specs
from .events import Notify, OnEvent, guarded
from .grid import Axis, product
from .progress import Interrupt, Progress
from .result import SweepResult
from .seeds import Seeds, as_keys
from .status import statuses
from .storage.checkpoint import Checkpoint, State, digest
from .sweep import Devices, Path, outside_of_jit, tracers_explained

# Lanes of a call on a CPU. A training function consists of many small operations. For one lane,
# starting an operation takes longer than the operation itself, so some lanes share the cost. With
# more than this number, the arrays of all lanes no longer fit the caches. Measured on the PPO of
# `tests/test_sweep_function.py`.
CPU_LANES = 16

Tree = Any
Hyperparams = dict[str, Tree]  # numbers and Schedules, as tracers
Execution = Literal["auto", "vmap", "loop"] | int
Outputs = dict[str, np.ndarray]
Function = Callable[[Hyperparams, jax.Array], Mapping[str, Any]]


@together
def sweep_function(
    function: Function,
    grid: Mapping[str, Axis],
    *,
    seeds: Seeds = 1,
    objective: str,
    mode: Mode | None = None,
    execution: Execution = "auto",
    devices: Devices | None = None,
    budget: float | str | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: float = 60.0,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
) -> SweepResult:
    """Runs any pure training function with every point of a grid and every seed, side by side.

    Use it where training is not a `lrax.Task`: a reinforcement-learning run with its environments
    in one `lax.scan`, a training loop of your own, a simulation. One program is compiled, which
    runs a chunk of lanes by `jax.vmap`. On a CPU all cores run chunks at the same time; several
    devices share each chunk. For each seed all points get the same key, so that they differ by
    their hyperparameters alone.

    Ctrl-C ends the sweep between two chunks and returns what is done. A lane that did not run is
    `"interrupted"`. A lane with a scalar output that is not finite is `"diverged"`.

    Args:
      function: `function(hyperparams, key) -> {name: scalar or [time]}`, pure and traceable.
        `hyperparams` is `{name: value}` with the grid's names: a number is a tracer, and the
        numbers of a Schedule are tracers. `key` is `jax.random.key(s)` for the seed `s`. Curves may
        differ in length.
      grid: `{name: axis}`, where every combination of values is a point; or `lrax.points` and the
        like. An axis is as in `lrax.sweep`.
      seeds: How many seeds (0, 1, ...), or the seeds themselves, or an array of keys.
      objective: The name of the scalar output that ranks the points.
      mode: Whether a low or a high objective is good, `"min"` or `"max"`. None reads it from the
        objective's name (loss, error: min; accuracy, return: max) and raises for other names.
      execution: How many lanes a call runs: `"auto"`; `"vmap"`, all; `"loop"`, one; or a number.
      devices: The devices of this process over which lanes are spread: None, for
        `jax.config.jax_default_device` if it is set and all devices otherwise; `"all"`; a number
        of them; or a list.
      budget: Time after which the sweep ends as by Ctrl-C, in seconds or as `"90s"`, `"10min"`,
        `"2h"`, compiling included. At least one chunk is run.
      checkpoint: A file, or a directory of Orbax, that keeps the outputs, as in `lrax.sweep`. If it
        is there, the sweep resumes from it, and chunks that ran before are not run again.
      checkpoint_every: Seconds between two saves, at least 0.
      progress: Whether to show a progress bar. By default one is shown in a terminal or a notebook.
      on_event: Called as `on_event(kind, facts)`: `"start"`, `"segment"` after chunks (`done` of
        all `lanes`), `"checkpoint"` and `"end"`.

    Returns:
      A `SweepResult` whose `.metrics` are the scalar outputs, `[points, seeds]`, and whose
      `.curves` are the others, `[points, seeds, time]`.

    Raises:
      ValueError: if an argument is out of its range, the function returns arrays of two axes or
        more or complex numbers, or the objective is not a scalar output.
      TypeError: if an argument is not as described.
      OSError: if the checkpoint's place cannot be written to.

    Example:
      >>> def descent(hyperparams, key):
      ...     def step(x, _):
      ...         x = x - hyperparams["learning_rate"] * 2 * x
      ...         return x, x**2
      ...     x, losses = jax.lax.scan(step, jax.random.normal(key), length=20)
      ...     return {"loss": losses, "final_loss": losses[-1]}
      >>> grid = {"learning_rate": [0.01, 0.1, 0.4, 1.2]}
      >>> result = lrax.sweep_function(descent, grid, seeds=3, objective="final_loss")
      >>> result.best.hyperparams
      {'learning_rate': 0.4}
      >>> result.curves["loss"].shape
      (4, 3, 20)
    """
    start = time.perf_counter()
    outside_of_jit("lrax.sweep_function")
    _check_arguments(function, grid, execution, checkpoint, on_event)
    points = product(grid)
    mode = mode_of(objective, mode)
    names, bits = as_keys(seeds)
    deadline = None if budget is None else start + _require.seconds("budget", budget)
    every = _require.seconds("checkpoint_every", checkpoint_every)
    hosts = Hosts()
    hosts.check("grid or seeds", digest(repr(points.described()), bits, repr((objective, mode))))
    # The first process alone logs, shows a bar and writes files.
    notify = guarded(on_event if hosts.is_first else None)
    own = hosts.own(len(points))
    with Interrupt() as interrupt:
        with tracers_explained():
            runner = _Runner(function, points[own], bits, execution, hardware.chosen(devices))
        _check_objective(objective, runner)
        saved = None
        if checkpoint is not None:
            configuration = {
                "hyperparams": points.described(),
                "seeds": [names, digest(bits)],
                "execution": execution,
                "objective": objective,
                "mode": mode,
                "processes": hosts.count,
                # A function is identified by what it computes, which is the same in a new process.
                "function": digest(runner.text, *runner.constants),
                "jax": jax.__version__,
            }
            saved = Checkpoint(checkpoint, every, configuration)
            if hosts.is_first:
                saved.probe()
            state = hosts.of_first(saved.load)
            if state is not None:
                runner.restore(state, own)
        compiled = time.perf_counter()
        lanes = len(points) * len(names)
        bar = Progress(lanes, progress if hosts.is_first else False)
        bar.start(int(runner.ran.sum()))
        notify(
            "start", {"points": points.columns, "seeds": names, "lanes": lanes, "done": bar.done}
        )

        def halt() -> bool:
            late = deadline is not None and time.perf_counter() > deadline
            return interrupt.requested or late

        def save() -> None:
            if saved is not None:
                whole = hosts.gather(runner.arrays(), len(points))
                saved.try_save(State({"lanes": lanes}, whole), write=hosts.is_first)
                notify("checkpoint", {"done": int(whole["ran"].sum()), "path": str(saved.path)})

        with bar:
            _run(runner, hosts, saved, halt, save, bar, notify, len(points))
        arrays = hosts.gather(runner.arrays(), len(points))
    info = {
        "device": runner.device,
        "devices": len(runner.devices) * hosts.count,
        "steps": 1,
        "plan": runner.described,
        "reasons": runner.reasons,
        "compile_seconds": round(compiled - start, 3),
        "run_seconds": round(time.perf_counter() - compiled, 3),
        "versions": {module.__name__: module.__version__ for module in (jax, optax, np)},
    }
    result = _result(points, names, arrays, runner, objective, mode, info)
    notify("end", {"result": result})
    return result


def _check_arguments(
    function: _require.Unchecked,
    grid: _require.Unchecked,
    execution: _require.Unchecked,
    checkpoint: _require.Unchecked,
    on_event: _require.Unchecked,
) -> None:
    """Checks the arguments as far as possible before the function is traced."""
    if not callable(function):
        raise TypeError(f"`function` must be a function of (hyperparams, key), got {function!r}")
    if not isinstance(grid, Mapping) or not grid:
        raise TypeError(f"`grid` must be {{name: values}} with at least one name, got {grid!r}")
    planning.check(execution, "auto")
    # These plans of `lrax.sweep` call or time single updates, which a function does not have.
    if execution in ("steps", "tune"):
        raise ValueError(
            f"`execution` must be 'auto', 'vmap', 'loop' or a number, got {execution!r}"
        )
    if on_event is not None and not callable(on_event):
        raise TypeError(f"`on_event` must be a function of (kind, facts) or None, got {on_event!r}")
    if checkpoint is not None:
        _require.path("checkpoint", checkpoint)


def _check_objective(objective: str, runner: _Runner) -> None:
    """Requires the name of a scalar output."""
    if not runner.scalars:
        raise ValueError(
            "`function` must return a scalar for the objective to rank by, got the curves"
            f" {list(runner.outputs)} alone: return the mean of a curve's end, for instance"
        )
    _require.choice("objective", objective, runner.scalars)


def _result(
    points: Points,
    seeds: list[str],
    arrays: Outputs,
    runner: _Runner,
    objective: str,
    mode: Mode,
    info: dict[str, Any],
) -> SweepResult:
    """The result from what the lanes of all processes have returned."""
    ran = arrays["ran"]
    metrics = {name: arrays[f"outputs/{name}"] for name in runner.scalars}
    finite = np.all([np.isfinite(values) for values in metrics.values()], axis=0)
    # A lane that did not run has NaN, which is not a divergence. `statuses` marks whole points, but
    # only some seeds of a point may have run. So here every point counts as run, and lanes that did
    # not run get their status below.
    everywhere = np.ones(len(points), int)
    status, causes = statuses(None, finite | ~ran, everywhere, whole=True, objective=objective)
    status[~ran] = "interrupted"
    curves = [name for name in runner.outputs if name not in runner.scalars]
    return SweepResult(
        hyperparams=points.columns,
        choices={name: list(choice.items) for name, choice in points.choices.items()},
        labels={name: list(choice.labels) for name, choice in points.choices.items()},
        seeds=seeds,
        losses=None,  # pyright: ignore[reportArgumentType]
        steps=1,  # a call of the function counts as one update
        metrics=metrics,
        curves={name: arrays[f"outputs/{name}"] for name in curves},
        status=status,
        causes=causes,
        stopped_at=ran.all(axis=1).astype(int),
        objective=objective,
        mode=mode,
        info=info,
    )


class _Runner:
    """The chunks of a function's lanes, and what the chunks that ran have returned.

    Attributes:
      outputs: Shapes of what the function returns for one lane, by name.
      scalars: Names of the outputs that are scalars.
      ran: `[points, seeds]`, whether a lane has run.
      text: What the function computes, as text, by which a checkpoint recognises it.
      constants: The arrays that the function closes over.
      devices: The devices of this process that lanes are spread over.
      threads: How many chunks run at once.
      reasons: Why a call has this number of lanes, in words.
    """

    def __init__(
        self,
        function: Function,
        points: Points,
        bits: np.ndarray,
        execution: Execution,
        devices: list[hardware.Device],
    ):
        self.devices = devices
        self._points = points
        self._bits = bits
        self._mesh = hardware.mesh(devices)
        on_cpu = devices[0].platform == "cpu"
        # If there are several devices, each runs a part of every chunk, so one chunk at a time
        # keeps all of them busy.
        self.threads = hardware.cores() if on_cpu and len(devices) == 1 else 1
        # Lanes of a call; 0 is all of them.
        widths: dict[Execution, int] = {"vmap": 0, "loop": 1, "auto": CPU_LANES if on_cpu else 0}
        width = int(widths.get(execution, execution))
        lanes = len(points) * len(bits)
        if execution != "auto":
            reason = "as asked for"
        elif on_cpu:
            reason = "a CPU runs small operations best for some lanes together"
        else:
            reason = "an accelerator is faster the more lanes it has at once"
        self.reasons = [reason]
        chunk_shape = shape(
            len(points), len(bits), "common", width=width or lanes, devices=len(devices)
        )
        self._layout = Layout(np.arange(len(points)), len(bits), chunk_shape, "common")
        self._spread = spread_axis(chunk_shape)
        first = np.zeros(chunk_shape, int)
        hyperparams = _shapes(points.lanes(first, first))
        keys = jax.ShapeDtypeStruct((chunk_shape[0], 2), np.uint32)
        # The next sweep of this function with chunks of this shape finds its program compiled.
        key = (
            "function",
            reference(function),
            chunk_shape,
            self._mesh,
            signature((hyperparams, keys)),
        )
        make = lambda: _compiled(function, self._mesh, self._spread, hyperparams, keys)
        compiled = cached(key, make, lambda found: found[0].bytes)
        self._program, self.text, self.constants = compiled
        # Without the axes of groups and members.
        self.outputs = {
            name: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype)
            for name, leaf in self._program.results.items()
        }
        self.scalars = [name for name, leaf in self.outputs.items() if len(leaf.shape) == 0]
        room = (len(points), len(bits))
        self.ran = np.zeros(room, bool)
        self._found: Outputs = {
            name: np.full((*room, *leaf.shape), np.nan, leaf.dtype)
            for name, leaf in self.outputs.items()
        }

    @property
    def device(self) -> str:
        """The device in words."""
        return f"{self.devices[0].platform} ({self.devices[0].device_kind})"

    @property
    def described(self) -> str:
        """How the function is run, in words."""
        lanes = self._layout.shape[0] * self._layout.shape[1]
        chunks = len(self._layout.chunks)
        plan = planning.Plan(
            lanes if chunks > 1 else 0, min(self.threads, chunks), False, True, len(self.devices)
        )
        # A function has no updates that a program could loop over.
        return str(plan).replace(", updates in a loop of the program", "")

    @property
    def waiting(self) -> list[int]:
        """The chunks that have not run."""
        has_run = lambda chunk: self.ran[chunk.points[chunk.own], chunk.seeds[chunk.own]].all()
        return [i for i, chunk in enumerate(self._layout.chunks) if not has_run(chunk)]

    def arguments(self, i: int) -> tuple[Tree, Tree]:
        """The arguments of a chunk on the devices.

        Call it on the main thread: JAX's settings, such as x64, may be set for that thread alone.
        """
        chunk = self._layout.chunks[i]
        lanes = self._points.lanes(chunk.points, chunk.seeds)
        bits = self._bits[chunk.seeds[:, 0]]
        mesh = self._mesh
        # On the device that JAX uses by default, no sharding is needed.
        if mesh is None:
            return jax.device_put((lanes, bits), self.devices[0])
        lane, group, _ = specs(self._spread)
        put = lambda tree, spec: jax.device_put(tree, jax.NamedSharding(mesh, spec))
        return put(lanes, lane), put(bits, group)

    def run(self, i: int, arguments: tuple[Tree, Tree]) -> None:
        """Runs a chunk. Any thread may call it, because chunks write to different places."""
        chunk = self._layout.chunks[i]
        found = jax.device_get(self._program(*arguments))
        # Without the copies that fill up the chunk.
        points = chunk.points[chunk.own]
        seeds = chunk.seeds[chunk.own]
        for name, values in found.items():
            self._found[name][points, seeds] = values[chunk.own]
        self.ran[points, seeds] = True

    def arrays(self) -> Outputs:
        """The arrays of a checkpoint."""
        return {"ran": self.ran, **{f"outputs/{n}": values for n, values in self._found.items()}}

    def restore(self, state: State, own: np.ndarray) -> None:
        """Takes over the outputs that an earlier run has saved, of this process's points."""
        self.ran = state.arrays["ran"][own].astype(bool)
        self._found = {name: state.arrays[f"outputs/{name}"][own] for name in self.outputs}


def _run(
    runner: _Runner,
    hosts: Hosts,
    saved: Checkpoint | None,
    halt: Callable[[], bool],
    save: Callable[[], None],
    bar: Progress,
    notify: Notify,
    points: int,
) -> None:
    """Runs the chunks that have not run, as many at once as there are threads.

    Between two rounds the host shows the progress, saves, and checks whether to stop.
    """
    waiting = runner.waiting
    with concurrent.futures.ThreadPoolExecutor(runner.threads) as pool:
        while True:
            # A process without chunks left goes on with empty rounds, because the others wait for
            # it in every exchange.
            now = waiting[: runner.threads]
            waiting = waiting[runner.threads :]
            list(pool.map(runner.run, now, [runner.arguments(i) for i in now]))
            done = int(hosts.gather(runner.ran, points).sum())
            bar.advance(done)
            notify("segment", {"done": done, "lanes": bar.total})
            due = saved is not None and saved.is_due
            # Any process may ask all to stop. All go on until none has a chunk left. The first
            # process decides when to save.
            told = hosts.tell(halt(), due, len(waiting))
            if told[:, 0].any() or not told[:, 2].any():
                break
            if told[0, 1]:
                save()
    save()


def _compiled(
    function: Function,
    mesh: Mesh | None,
    spread: int,
    hyperparams: Tree,
    keys: jax.ShapeDtypeStruct,
) -> tuple[Executable, str, list[np.ndarray]]:
    """The program of a chunk, its text, and the arrays that it closes over."""

    def lane(hyperparams: Hyperparams, bits: jax.Array) -> Mapping[str, Any]:
        key = jax.random.wrap_key_data(bits, impl="threefry2x32")
        return _checked(function(hyperparams, key))

    # Mapped over the groups, and over the members of a group, which share its key.
    chunk = each(each(lane, (0, None)), (0, 0))
    options: dict[str, Any] = {}
    if mesh is not None:
        of_lane, of_group, _ = specs(spread)
        chunk, options["shardings"] = on_devices(mesh, chunk, (of_lane, of_group), of_lane)
    traced = trace(chunk, hyperparams, keys)
    return lower(traced, **options)(), traced.text, [np.asarray(c) for c in traced.closed.consts]


def _checked(outputs: _require.Unchecked) -> dict[str, jax.Array]:
    """The outputs of a function as floats: scalars and arrays of one axis."""
    if not isinstance(outputs, Mapping) or not outputs:
        raise TypeError(
            f"`function` must return {{name: scalar or [time]}}, got {type(outputs).__name__}"
        )
    found = {}
    for name, value in outputs.items():
        array = jax.numpy.asarray(value)
        if array.ndim > 1:
            raise ValueError(
                f"`function` must return scalars and arrays of one axis, got {name!r} of shape"
                f" {array.shape}"
            )
        if jax.numpy.iscomplexobj(array):
            raise ValueError(f"`function` must return real numbers, got {name!r} of {array.dtype}")
        # Integers and bools become floats, because NaN marks the outputs of lanes that did not run.
        is_float = jax.numpy.issubdtype(array.dtype, jax.numpy.floating)
        found[str(name)] = array if is_float else array.astype(_require.float_dtype())
    return found


def _shapes(tree: Tree) -> Tree:
    """Shapes and types of arrays as a device has them: float32 for float64 without x64."""
    canonical = jax.dtypes.canonicalize_dtype
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, canonical(leaf.dtype)), tree)
