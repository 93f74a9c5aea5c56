"""`lrax.sweep`: trains every point of a grid with every seed at once, and lets the host in between segments."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp
from numpy.typing import ArrayLike

from .. import _require
from ..training.run import Optimizer, check_task
from ..training.task import Task
from .engine.engine import Engine
from .engine.hosts import Hosts, together
from .engine.loop import Run
from .engine.tuning import tune
from .grid import as_points
from .progress import Interrupt, Progress, Standing, guarded, words
from .result import SweepResult
from .status import statuses
from .stopping import Stopping
from .storage.checkpoint import Checkpoint, digest


@together
def sweep(
    task: Task,
    optimizer: Optimizer,
    grid: Mapping[str, ArrayLike] | ArrayLike,
    *,
    steps: int,
    seeds: int | Sequence[int] | jax.Array = 1,
    objective: str = "train_loss",
    mode: str = "min",
    eval_every: int | None = None,
    rng: str = "common",
    stop: str | Stopping | None = "diverged",
    execution: str | int = "auto",
    convolutions: str = "auto",
    devices: str | int | Sequence[Any] | None = None,
    budget: float | str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    progress: bool | None = None,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
) -> SweepResult:
    r"""Trains with every point of a grid, and every seed, side by side in one program.

    Use it to find a learning rate: half a decade around the best guess with three seeds, or five
    decades with one. The lanes are mapped by `jax.vmap`, as many to a call as suits the device, on
    all cores or devices; the data is stored once. For each seed all points see the same initial
    parameters, batches and random numbers, so that their differences are those of the
    hyperparameters. Another sweep of the same task and optimizer, of the same size, recompiles
    nothing.

    A lane that diverges is labelled and ranked last, and changes no other lane. Ctrl-C ends the
    sweep between two segments and returns what is done; a second Ctrl-C raises. With a
    `checkpoint`, a sweep that was ended or killed goes on where it was when the same call is made
    again, and ends with the same result to the last bit.

    Under `jax.distributed`, every process makes the same call and trains its own part of the
    points; all get the whole result, and only the first one shows and writes anything.

    The events of `on_event`, each with its facts, of which `done` is after how many updates:

    - `"start"`: `points` as `{name: [points]}`, `seeds`, `steps`, `done`, and the `plan` in words.
      With a checkpoint `done` is where the sweep goes on; earlier events are not repeated.
    - `"segment"`, after some more updates: `done`, their `losses` as `[points, seeds, updates]`,
      NaN for stopped points; the `best` point so far as `{name: value}` and its `loss`, by the
      training loss over the last tenth of the updates; how many lanes are `alive`, of how many
      `lanes`.
    - `"evaluate"`, after each evaluation and at the end: `done`, and `metrics` as `{name: [points,
      seeds]}`.
    - `"stop"`: `done`, indices of the points that were `stopped`, and how many are `alive`.
    - `"checkpoint"`, when it was saved: `done` and its `path`.
    - `"end"`: the `result`.

    It is called in the first process alone, where losses and metrics are those of its own points,
    the grid's first. An exception in it is a `RuntimeWarning` that names it, and the sweep goes on:
    hours of training are worth more than a line in a log. `KeyboardInterrupt` and the like go
    through.

    Args:
      task: What is trained.
      optimizer: Function from the grid's names to an `optax.GradientTransformation`: `optax.adam`
        with `{"learning_rate": rates}`, or `lambda lr, wd: optax.adamw(lrax.warmup_cosine(lr, 1000,
        100), weight_decay=wd)`. The same function again finds its program compiled.
      grid: `{name: values}`, of which the product is tried, or values alone for the optimizer's
        first parameter.
      steps: Optimizer updates of each lane, at least 1.
      seeds: How many seeds (0, 1, ...), or the seeds themselves, or an array of keys. The seed `s`
        trains what `lrax.train` trains with `jax.random.key(s)`.
      objective: What ranks the points: `"train_loss"`, the training loss over the last tenth of the
        steps, or one of the names that the task's `evaluate` returns.
      mode: `"min"` or `"max"`, what the objective is to be: `"max"` for an accuracy.
      eval_every: Evaluate all lanes every so many steps too, and not only at the end. At least 1.
      rng: `"common"` shares each seed's initial parameters, batches and random numbers among all
        points; `"independent"` draws them anew for each.
      stop: Which points are not trained to the end: `"diverged"`, those whose lanes have all
        diverged; `lrax.Halving()` or `lrax.Median()`, also those that are worse than others at some
        time, by the objective over seeds; or `None`. Points that are stopped keep their curves, and
        rank behind those that were trained to the end.
      execution: How the sweep is run: `"auto"`; `"vmap"`, all lanes in one call; `"loop"`, one lane
        to a call; a number of lanes to a call; or `"steps"`, all lanes in a call for each step.
        `result.explain()` says what was done, and why.
      convolutions: `"products"` computes them as slices and matrix products, equal but for the
        order of additions; `"xla"` leaves them to XLA; `"auto"` takes products on CPUs, where they
        are several times faster.
      devices: Over which of this process's devices lanes are spread: `None`, all of them or
        `jax.config.jax_default_device`; a number of them; or a list.
      budget: Time after which the sweep ends as by Ctrl-C, in seconds or as `"90s"`, `"10min"`,
        `"2h"`; compiling is part of it.
      checkpoint: A file to keep the sweep's state in, or to go on from if it is there; `.npz` is
        added to a path without a suffix. It is saved at intervals, at Ctrl-C and at the end, and
        replaced whole or not at all. It holds arrays and JSON, so loading one can run no code, and
        is refused if it belongs to another sweep. A URL, such as `gs://bucket/sweep`, or a path
        that ends in `.orbax` is a directory that Orbax keeps, with the same promises. Batches from
        the host must come in the same order again: those already taken are read once more and
        passed over, and another first batch is refused.
      checkpoint_every: Seconds between two saves, at least 0.
      progress: Whether to show a progress bar. By default where a person watches: in a terminal or
        a notebook.
      on_event: Called between segments as `on_event(kind, facts)`, for loggers; see below.

    Returns:
      A `SweepResult`: `.losses`, `.best`, `.optimum()`, `.table()`, `.plot()` and more.

    Raises:
      ValueError: if an argument is out of its range, or a name of the grid or the objective is
        unknown.
      TypeError: if an argument is not as described.
      OSError: if the checkpoint cannot be written; the one saved before is kept.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> result = lrax.sweep(task, optax.adam, {"learning_rate": lrax.log_grid(1e-5, 1e-1, 5)}, steps=50, seeds=2)
      >>> result
      SweepResult(5 points x 2 seeds x 50 steps; best learning_rate=0.01)
      >>> result.losses.shape
      (5, 2, 50)
    """
    check_task(task)
    points = as_points(grid, optimizer)
    steps = _require.count("steps", steps, 1)
    interval = steps if eval_every is None else _require.count("eval_every", eval_every, 1)
    _require.choice("rng", rng, ("common", "independent"))
    _require.choice("mode", mode, ("min", "max"))
    rule = _rule(stop)
    if on_event is not None and not callable(on_event):
        raise TypeError(f"`on_event` must be a function of (kind, facts) or None, got {on_event!r}")
    names, bits = _keys(seeds)
    count, hosts = len(next(iter(points.values()))), Hosts()
    facts = repr((steps, interval, rng, stop, objective, mode, checkpoint is None))
    hosts.check("grid, seeds or other arguments", digest(*points.values(), bits, facts))
    own = hosts.own(count)
    notify = guarded(on_event if hosts.is_first else None)

    start = time.perf_counter()
    deadline = None if budget is None else start + _require.seconds("budget", budget)
    engine = Engine(
        task,
        optimizer,
        {name: values[own] for name, values in points.items()},
        _folded(bits, own) if rng == "independent" else bits,
        steps=steps,
        rng=rng,
        execution=execution,
        convolutions=convolutions,
        devices=devices,
    )
    with contextlib.closing(engine):
        _require.choice("objective", objective, ["train_loss", *engine.metrics])
        run = Run(
            engine,
            steps=steps,
            interval=interval,
            rule=rule,
            drop=stop is not None,
            objective=objective,
            sign=1.0 if mode == "min" else -1.0,
            coordinates=np.stack(list(points.values()), axis=1),
            hosts=hosts,
            on_event=notify,
        )
        saved = None
        if checkpoint is not None:
            configuration = {
                "hyperparams": {name: values.tolist() for name, values in points.items()},
                "seeds": [names, digest(bits)],
                **dict(
                    steps=steps, eval_every=interval, rng=rng, stop=repr(stop), execution=execution
                ),
                **dict(objective=objective, mode=mode, processes=hosts.count),
                "task and optimizer": digest(*engine.contents()),
                "data": digest(engine.data),
                "first batch": digest(engine.feed.first),
                "jax": jax.__version__,
            }
            saved = Checkpoint(
                checkpoint, _require.seconds("checkpoint_every", checkpoint_every), configuration
            )
            run.resume(hosts.of_first(saved.load))
        standing, bar = (
            Standing(points, steps),
            Progress(steps, progress if hosts.is_first else False, run.done),
        )
        if resumed_at := run.done:
            standing.take(hosts.gather(run.losses, count))
        bar.say(f"compiling for {count} points x {len(names)} seeds ...")
        engine.compile()
        tune(engine, steps)
        _follow(engine, hosts)
        compiled = time.perf_counter()
        notify(
            "start",
            {
                "points": points,
                "seeds": names,
                "steps": steps,
                "done": run.done,
                "plan": engine.described,
            },
        )
        with Interrupt() as interrupt, bar:

            def report(losses: np.ndarray, taken: int) -> None:
                losses, alive, finite = hosts.gather((losses, run.alive, run.finite), count)
                standing.take(losses)
                facts = standing.facts(alive, finite)
                bar.advance(taken, **words(facts))
                notify("segment", {"done": standing.done, "losses": losses, **facts})

            halt = lambda: (
                interrupt.requested or (deadline is not None and time.perf_counter() > deadline)
            )
            run.advance(halt, report, saved)
        everywhere = lambda tree, axis=0: hosts.gather(tree, count, axis)
        metrics = everywhere(run.metrics())
        if metrics and not (run.evaluations and run.evaluations[-1][0] == run.done):
            notify("evaluate", {"done": run.done, "metrics": dict(metrics)})
        ran = time.perf_counter()
        records = jax.tree.map(lambda leaf: np.moveaxis(leaf, 0, -1), everywhere(run.records, 1))
        evaluated = [everywhere(values) for _, values in run.evaluations]
        alive, stopped_at = everywhere((run.alive, run.stopped_at))
        losses = np.ascontiguousarray(records["loss"])
        stopped_at = np.minimum(stopped_at, losses.shape[-1])
        status, causes = statuses(
            losses,
            everywhere(run.finite),
            stopped_at,
            whole=run.done == steps,
            objective=objective,
        )
        result = SweepResult(
            hyperparams=points,
            seeds=names,
            steps=steps,
            losses=losses,
            aux={name: np.ascontiguousarray(values) for name, values in records["aux"].items()},
            metrics=metrics,
            evaluations={
                name: np.stack([e[name] for e in evaluated], -1) for name in metrics if evaluated
            },
            evaluated_at=np.array([at for at, _ in run.evaluations], int),
            status=status,
            causes=causes,
            stopped_at=stopped_at,
            objective=objective,
            mode=mode,  # pyright: ignore[reportArgumentType]
            info=_info(
                engine,
                steps,
                rng,
                hosts,
                compile_seconds=compiled - start,
                run_seconds=ran - compiled,
            )
            | {"resumed_at": resumed_at},
            best_params=None,
        )
        point, seed = result.best_lane
        if alive[point]:
            owner = point // len(own)
            lane = run.lane(point - hosts.index * len(own), seed)
            result = dataclasses.replace(
                result, best_params=hosts.given(engine.params(lane), owner)
            )
        notify("end", {"result": result})
        return result


def _follow(engine: Engine, hosts: Hosts) -> None:
    """Takes the first process's plan, which all resume with: other plans add in another order."""
    own = engine.plan
    width, products, scanned = hosts.tell(own.width, own.products, own.scanned)[0]
    plan = dataclasses.replace(
        own, width=int(width), products=bool(products), scanned=bool(scanned)
    )
    if plan != own:
        engine.adopt(plan.because("as the first process found"))
        engine.compile()


def _rule(stop: Any) -> Stopping | None:
    if stop is None or isinstance(stop, str):
        if stop is not None:
            _require.choice("stop", stop, ("diverged",))
        return None
    if isinstance(stop, type) or not isinstance(stop, Stopping):
        raise TypeError(
            f"`stop` must be 'diverged', lrax.Halving(), lrax.Median() or None, got {stop!r}"
        )
    return stop


def _folded(bits: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The keys of every lane, `[seeds, points, 2]`."""
    fold = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)), in_axes=(0, None))
    keys = fold(
        jax.random.wrap_key_data(jnp.asarray(bits), impl="threefry2x32"), jnp.asarray(points)
    )
    return np.asarray(jax.random.key_data(keys))


def _keys(seeds: int | Sequence[int] | jax.Array) -> tuple[list[str], np.ndarray]:
    """The seeds' names and their keys' data, `[seeds, 2]`."""
    if isinstance(seeds, jax.Array) and jnp.issubdtype(seeds.dtype, jax.dtypes.prng_key):
        if seeds.ndim != 1 or not seeds.size:
            raise ValueError(
                f"`seeds` must be an array of at least one key, got shape {seeds.shape}"
            )
        if "threefry" not in str(jax.random.key_impl(seeds)):
            # Under vmap, rbg draws for all lanes from the first lane's key.
            raise ValueError(f"`seeds` must be threefry keys, got {jax.random.key_impl(seeds)}")
        return [f"key {i}" for i in range(len(seeds))], np.asarray(jax.random.key_data(seeds))
    if isinstance(seeds, (int, np.integer)):
        seeds = range(_require.count("seeds", seeds, 1))
    numbers = [_require.count(f"seeds[{i}]", seed, 0) for i, seed in enumerate(np.asarray(seeds))]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"`seeds` must be at least one seed and all different, got {numbers}")
    return list(map(str, numbers)), np.stack([_bits(number) for number in numbers])


def _bits(seed: int) -> np.ndarray:
    """The data of `jax.random.key(seed)`: for a small seed itself, without a program for it."""
    if seed < 2**31:
        return np.array([0, seed], np.uint32)
    return np.asarray(jax.random.key_data(jax.random.key(seed, impl="threefry2x32")))


def _info(engine: Engine, steps: int, rng: str, hosts: Hosts, **seconds: float) -> dict[str, Any]:
    device = engine.devices[0]
    versions = {module.__name__: module.__version__ for module in (jax, optax, np)}
    return {
        "device": f"{device.platform} ({device.device_kind})",
        "devices": len(engine.devices) * hosts.count,
        "steps": steps,
        "rng": rng,
        "plan": engine.described,
        "reasons": list(engine.plan.reasons),
        **{name: round(value, 3) for name, value in seconds.items()},
        "versions": versions,
    }
