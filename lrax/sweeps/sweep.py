"""`lrax.sweep`: trains every point of a grid with every seed, side by side."""

# Annotations stay text, so that `help` shows the names of the aliases, not what they stand for.
from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
import optax
from jax.core import Tracer

from .. import _require
from ..training.monitors import Monitor, as_monitors
from ..training.optimizer import Optimizer
from ..training.run import Params, TaskLike, built_task
from ..training.signals import Every, as_signals
from ..training.task import Task
from ..training.train import check_task
from . import growing, seeds as seeding
from .choices import Points
from .direction import Mode, mode_of
from .engine import devices as hardware, engine as engines, plan as planning
from .engine.engine import Engine
from .engine.feed import Feed
from .engine.hosts import Hosts, together
from .engine.loop import Loop, Settings
from .engine.programs import Problem
from .engine.tuning import estimated, tuned
from .events import Notify, OnEvent, guarded
from .grid import Grid, as_points
from .progress import Interrupt, Progress, standing, words
from .record import Select
from .result import SweepResult
from .seeds import Seeds
from .status import Diverged, as_rule, statuses
from .stopping import Stopping, as_rule as as_stop_rule
from .storage.checkpoint import Checkpoint, State, digest

Execution = Literal["auto", "vmap", "loop", "steps", "tune"] | int
Convolutions = Literal["auto", "products", "xla"]
Keep = Literal["best", "best_evaluation", "state"]
Devices = Literal["all"] | int | Sequence[hardware.Device]
Path = str | os.PathLike[str]


@together
def sweep(
    task: TaskLike,
    optimizer: Optimizer,
    grid: Grid,
    *,
    steps: int,
    seeds: Seeds = 1,
    objective: str = "train_loss",
    mode: Mode | None = None,
    select: Select = "last",
    diverged: Diverged = "auto",
    monitors: Iterable[Monitor] | Mapping[str, Monitor] = (),
    record_every: int = 1,
    loss_every: int = 1,
    signals: Mapping[str, Every] | None = None,
    params: Params | None = None,
    keep: Keep = "best",
    resume: SweepResult | None = None,
    eval_every: int | None = None,
    rng: Literal["common", "independent"] = "common",
    stop: Literal["diverged"] | Stopping | None = "diverged",
    execution: Execution = "auto",
    convolutions: Convolutions = "auto",
    devices: Devices | None = None,
    budget: float | str | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: float = 60.0,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    dry_run: bool = False,
) -> SweepResult:
    """Trains with every point of a grid and every seed, side by side in one program.

    Use it to find a learning rate: half a decade around the best guess with three seeds, or five
    decades with one. Lanes (a point with a seed) are mapped by `jax.vmap`, in calls of a size that
    suits the device, on all cores or devices; the data is stored once. For each seed all points see
    the same initial parameters, batches and random numbers, so that they differ by their
    hyperparameters alone. Another sweep of the same task and optimizer, of the same size, compiles
    nothing.

    A lane that diverges is labelled and ranked last, and changes no other lane. Ctrl-C ends the
    sweep between two segments and returns what is done; a second Ctrl-C raises. With a
    `checkpoint`, a sweep that was ended or killed goes on where it was when the same call is made
    again, and ends with the same result to the last bit.

    The same call gives the same bits on the same machine: no choice that depends on the clock
    changes a number, except with `execution="tune"`. Another plan (see `execution`) adds numbers in
    another order. At rates far above the best one training is chaotic, and rounding alone makes the
    results of two plans differ there.

    Under `jax.distributed` every process makes the same call and trains its own part of the points.
    All get the whole result, and only the first one shows and writes anything.

    Args:
      task: What is trained: a `lrax.Task`, or a function of hyperparameters that returns one. Such
        a function is called once with the values of the first point, for the data and the shapes.
        Then it is traced with the values of a lane as tracers, so that label smoothing, dropout or
        an initial scale are swept without compiling anew.
      optimizer: Function from the grid's names to an `optax.GradientTransformation`: `optax.adam`
        with `{"learning_rate": rates}`, or `lambda lr, wd: optax.adamw(lrax.warmup_cosine(lr,
        1000, 100), weight_decay=wd)`. It gets the numbers as tracers.
      grid: `{name: axis}`, where every combination of values is a point; or the values of one axis
        for the optimizer's first parameter. An axis is one of: numbers; a `Schedule` with an axis
        of lanes; a list of Schedules and functions of the count; a list of pytrees of one
        structure. A value goes to the optimizer, to the task's function, or to both: to each that
        has a parameter of that name.
      steps: Optimizer updates of each lane, at least 1. With `resume`, they include the updates
        that were made before.
      seeds: How many seeds (0, 1, ...), or the seeds themselves, or an array of keys. A lane with
        the seed `s` is trained as `lrax.train` trains with `jax.random.key(s)`.
      objective: What ranks the points: `"train_loss"`, the training loss over the last tenth of the
        updates, or a name that the task's `evaluate` returns.
      mode: `"min"` if a low objective is good, `"max"` if a high one is. None reads it from the
        objective's name (loss, error: min; accuracy, return: max) and raises for other names.
      select: Which evaluation ranks a lane: `"last"`, `"best"`, or `"tail"`, the mean of the last
        tenth. If the training loss is the objective, it is always the mean over the last tenth.
      diverged: Which lanes have diverged, besides those with losses or parameters that are not
        finite: those whose loss rose by a factor, given as a number; those in the mask `[points,
        seeds]` that a function of losses `[points, seeds, n]` returns; or with None, no others.
        `"auto"` is the factor 4 for the training loss, and None for other objectives.
      monitors: Functions of a `Step` whose values are recorded, or `{name: function}`: see
        `lrax.monitors`.
      record_every: Updates between two calls of the monitors, at least 1.
      loss_every: Updates between two recorded losses, at least 1. Raise it to save memory when
        many lanes are trained for long.
      signals: `{name: lrax.every(n, function)}`: each is measured at every `n`-th update and passed
        to the optimizer's `update` as the keyword argument `name`.
      params: Parameters that all lanes start from, or (params, state), with or without an axis of
        seeds in front: for fine-tuning. With parameters alone, the state of a stateful task (the
        statistics of batch norm) starts as `init` makes it.
      keep: What is kept besides the curves: `"best"`, the best lane's parameters, model state and
        optimizer state at the end; `"best_evaluation"`, the same at its best evaluation, by which
        `select="best"` ranks; `"state"`, as `"best"`, and also the state of all lanes, for
        `resume` and for `result.lanes`.
      resume: A result of a sweep with `keep="state"`, whose lanes go on to `steps` updates. Points,
        seeds and the state's structure must be the same; the optimizer's schedule may be another.
      eval_every: Updates between two evaluations of all lanes, at least 1. None evaluates them at
        the end only.
      rng: `"common"` shares each seed's initial parameters, batches and random numbers among all
        points; `"independent"` draws them anew for each.
      stop: Which points are not trained to the end: with `"diverged"`, the points whose lanes have
        all diverged; with `Halving`, `Median`, `Forecast` or a rule of your own (`lrax.Stopping`),
        also the points that the rule drops; with None, no point is stopped. Stopped points keep
        their curves, and rank behind the points that were trained to the end.
      execution: How the sweep is run: `"auto"`; `"vmap"`, all lanes in one call; `"loop"`, one lane
        to a call; a number of lanes to a call; `"steps"`, a call for each update; or `"tune"`,
        which times several of these first and takes the fastest. `result.explain()` says which was
        chosen, and why.
      convolutions: `"products"` computes convolutions as slices and matrix products, which differ
        only in the order of additions; `"xla"` leaves them to XLA; `"auto"` takes products on CPUs,
        where they are several times faster.
      devices: The devices of this process over which lanes are spread: None, for
        `jax.config.jax_default_device` if it is set and all devices otherwise; `"all"`; a number
        of them; or a list.
      budget: Time after which the sweep ends as by Ctrl-C, in seconds or as `"90s"`, `"10min"`,
        `"2h"`. The time to compile counts.
      checkpoint: A file to keep the sweep's state in, or to go on from if it is there; `.npz` is
        added to a path without a suffix. It is saved at intervals, at Ctrl-C and at the end. A save
        replaces the whole file or nothing. The file holds arrays and JSON, so loading it runs no
        code. A checkpoint of another sweep is an error, which names the difference. The same call
        with more `steps` goes on from the checkpoint. So does a call with more points, in any
        order: new points are first trained alone, up to the update that the others have reached. If
        the sweep ends before that, new points are `"interrupted"` and rank behind the others, and
        the next call goes on with them. A rule of `stop` judges new points from its next look on,
        together with the points that it has not stopped. With `rng="independent"`, new points must
        come after the others. On an axis of schedules, a new one must have a formula that the sweep
        already has. Fewer points than in the checkpoint are an error. A URL, such as
        `gs://bucket/sweep`, or a path that ends in `.orbax` names a directory that Orbax writes,
        with the same guarantees. Batches from the host must come in the same order again: batches
        that were used before are read and skipped.
      checkpoint_every: Seconds between two saves, at least 0.
      progress: Whether to show a progress bar. By default one is shown in a terminal or a notebook.
      on_event: Called between segments as `on_event(kind, facts)`, for loggers;
        `lrax.sweeps.events` has the kinds and their facts.
      dry_run: Whether to compile, train a few updates and return an `Estimate` of the sweep's time
        and memory in place of a result.

    Returns:
      A `SweepResult`: `.losses`, `.best`, `.optimum()`, `.table()`, `.plot()` and more; or an
      `Estimate`.

    Raises:
      ValueError: if an argument is out of its range, or a name of the grid or the objective is
        unknown.
      TypeError: if an argument is not as described.
      OSError: if the checkpoint's place cannot be written to. A save that fails later is a warning.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> rates = lrax.log_grid(1e-5, 1e-1, 5)
      >>> result = lrax.sweep(task, optax.adam, {"learning_rate": rates}, steps=50, seeds=2)
      >>> result
      SweepResult(5 points x 2 seeds x 50 steps; best learning_rate=0.01)
      >>> result.losses.shape
      (5, 2, 50)
    """
    start = time.perf_counter()
    outside_of_jit("lrax.sweep")
    check_task(task)
    points = as_points(grid, optimizer, task)
    steps = _require.count("steps", steps, 1)
    interval = None if eval_every is None else _require.count("eval_every", eval_every, 1)
    record_every = _require.count("record_every", record_every, 1)
    loss_every = _require.count("loss_every", loss_every, 1)
    _require.choice("rng", rng, ("common", "independent"))
    _require.choice("select", select, ("last", "best", "tail"))
    _require.choice("keep", keep, ("best", "best_evaluation", "state"))
    if keep == "best_evaluation" and objective == "train_loss":
        raise ValueError(
            "`keep` must not be 'best_evaluation' for the objective 'train_loss', which is not"
            " evaluated"
        )
    if not isinstance(objective, str):
        raise TypeError(f"`objective` must be a name, got {objective!r}")
    as_rule(diverged, objective)
    rule = as_stop_rule(stop, stored=checkpoint is not None)
    recorded, measurements = as_monitors(monitors), as_signals({} if signals is None else signals)
    planning.check(execution, convolutions)
    if on_event is not None and not callable(on_event):
        raise TypeError(f"`on_event` must be a function of (kind, facts) or None, got {on_event!r}")
    _require.flag("dry_run", dry_run)
    if checkpoint is not None:
        _require.path("checkpoint", checkpoint)
    names, bits = seeding.as_keys(seeds)
    deadline = None if budget is None else start + _require.seconds("budget", budget)
    every = _require.seconds("checkpoint_every", checkpoint_every)

    hosts = Hosts()
    if mode is not None:
        _require.choice("mode", mode, ("min", "max"))
    # Only the first process uses the checkpoint's path, so the others may have another path.
    what = repr((steps, interval, rng, stop, objective, mode, checkpoint is None))
    hosts.check("grid, seeds or other arguments", digest(repr(points.described()), bits, what))
    own = hosts.own(len(points))
    if checkpoint is not None and hosts.is_first:
        # A path that cannot be written to is found before anything is compiled. The probe needs no
        # configuration, which is known only after compiling.
        Checkpoint(checkpoint, every, {}).probe()
    notify = guarded(on_event if hosts.is_first else None)
    with tracers_explained():
        example = task if isinstance(task, Task) else built_task(task, points.at(0))
    problem = Problem(task, example, optimizer, recorded, measurements, record_every, loss_every)
    feed = Feed(
        problem,
        points[own],
        seeding.folded(bits, own) if rng == "independent" else bits,
        given=None if params is None else seeding.as_given(example, params, len(bits)),
        steps=steps,
        rng=rng,
        devices=hardware.chosen(devices),
    )
    with contextlib.closing(feed), Interrupt() as interrupt:
        bar = Progress(steps, progress if hosts.is_first else False)
        bar.say(f"compiling for {len(points)} points x {len(names)} seeds ...")
        with tracers_explained():
            facts = engines.facts(problem, feed)
            _require.choice("objective", objective, ["train_loss", *facts.metrics])
            mode = mode_of(objective, mode)
            plan = _followed(planning.plan(execution, convolutions, facts), hosts)
            engine = engines.prepared(problem, feed, plan)
            if execution == "tune":
                engine = tuned(engine, steps)
                engine = engines.replanned(engine, _followed(engine.plan, hosts))
        if dry_run:
            # The signature does not name `Estimate`: with a union, every other call would have to
            # check the type of its result.
            return estimated(engine, steps)  # pyright: ignore[reportReturnType]
        settings = Settings(
            steps=steps,
            until=steps,
            times=() if interval is None else range(interval, steps + 1, interval),
            finally_too=interval is not None,
            rule=rule,
            drop=stop is not None,
            objective=objective,
            sign=1.0 if mode == "min" else -1.0,
            rates=None if rule is None else _future_rates(rule, points, steps),
            keep_best=keep == "best_evaluation",
        )
        loop = Loop(engine, settings, hosts, points, notify)
        saved = None
        if checkpoint is not None:
            configuration = {
                "hyperparams": points.described(),
                "seeds": [names, digest(bits)],
                "eval_every": eval_every,
                # "best" and "state" need the same states in a checkpoint.
                "keep": "best_evaluation" if keep == "best_evaluation" else "the end",
                "rng": rng,
                "stop": repr(stop),
                "execution": execution,
                "objective": objective,
                "mode": mode,
                "processes": hosts.count,
                **_contents(engine),
            }
            compared = functools.partial(growing.difference, ordered=rng == "independent")
            saved = Checkpoint(checkpoint, every, configuration, {"hyperparams": compared})
        state = _state(loop, hosts, saved, points, steps)
        if state is None and resume is not None:
            state = _checked_steps(_kept(resume, points, names, engine), steps, "`resume`")
        compiled = time.perf_counter()
        bar.start(0 if state is None else growing.fewest_updates(state))
        notify(
            "start",
            {
                "points": points.columns,
                "seeds": names,
                "steps": steps,
                "done": bar.done,
                "plan": engine.described,
            },
        )

        def halt() -> bool:
            late = deadline is not None and time.perf_counter() > deadline
            return interrupt.requested or late

        listens = on_event is not None and hosts.is_first
        report = _report(hosts, points, objective, diverged, bar, notify if listens else None)
        with bar:
            loop = growing.advance(loop, state, halt, report, saved)
        result = _result(
            loop,
            hosts,
            points,
            names,
            objective=objective,
            mode=mode,
            select=select,
            diverged=diverged,
            keep=keep,
            info=_info(loop.engine, steps, rng, hosts)
            | {
                "compile_seconds": round(compiled - start, 3),
                "run_seconds": round(time.perf_counter() - compiled, 3),
                "resumed_at": 0 if state is None else int(state.facts["done"]),
                "eval_every": interval,
            },
        )
        # `Loop.metrics` evaluates the lanes at the end without an event.
        if result.metrics and not any(at == loop.done for at, _ in loop.evaluations):
            notify("evaluate", {"done": loop.done, "metrics": dict(result.metrics)})
        notify("end", {"result": result})
        if loop.failure is not None:
            loop.failure.add_note(
                f"The sweep had made {loop.done} of {steps} updates."
                + (f" They are saved in {saved.path}." if saved is not None else "")
            )
            raise loop.failure
        return result


def _report(
    hosts: Hosts,
    points: Points,
    objective: str,
    diverged: Diverged,
    bar: Progress,
    notify: Notify | None,
) -> Callable[[Loop], growing.Report]:
    """A function that makes, for a loop, the function that reports its segments.

    A report goes to the progress bar and, as the event "segment", to `notify`. Ranking the points
    takes longer than some segments, so it is skipped where nobody sees the report.
    """

    def report(loop: Loop, done: int, losses: np.ndarray) -> None:
        own = losses, loop.losses(done), loop.alive, loop.finite
        losses, so_far, alive, finite = hosts.gather(own, len(points))
        if not bar.is_shown and notify is None:
            bar.advance(done)
            return
        now = standing(points, so_far, alive, finite, objective, diverged)
        bar.advance(done, **words(now))
        if notify is not None:
            notify("segment", {"done": done, "losses": losses, **now})

    return lambda loop: functools.partial(report, loop)


def _result(
    loop: Loop,
    hosts: Hosts,
    points: Points,
    seeds: list[str],
    *,
    objective: str,
    mode: Mode,
    select: Select,
    diverged: Diverged,
    keep: Keep,
    info: dict[str, Any],
) -> SweepResult:
    """The result of all processes, with the best lane's state."""
    everywhere = lambda tree: hosts.gather(tree, len(points))
    metrics = everywhere(loop.metrics())
    (recorded, monitors), every = loop.trimmed(), loop.engine.problem.loss_every
    losses = np.ascontiguousarray(recorded["loss"])
    progress = loop.alive, loop.finite, loop.stopped_at, loop.behind
    alive, finite, stopped_at, behind = everywhere(progress)
    steps = loop.settings.steps
    stopped_at = np.minimum(stopped_at, loop.done)
    status, causes = statuses(
        losses,
        finite,
        stopped_at,
        whole=loop.done == steps,
        objective=objective,
        diverged=diverged,
        loss_every=every,
        done=loop.done,
    )
    # By its updates alone, a point that did not catch up looks as if a rule had stopped it.
    status[behind[:, None] & (status == "pruned")] = "interrupted"
    evaluated = [everywhere(values) for _, values in loop.evaluations]
    stacked = {n: np.stack([e[n] for e in evaluated], -1) for n in metrics} if evaluated else {}
    result = SweepResult(
        hyperparams=points.columns,
        choices={name: list(choice.items) for name, choice in points.choices.items()},
        labels={name: list(choice.labels) for name, choice in points.choices.items()},
        seeds=seeds,
        losses=losses,
        loss_every=every,
        steps=steps,
        aux={name: np.ascontiguousarray(values) for name, values in recorded["aux"].items()},
        monitors={name: np.ascontiguousarray(values) for name, values in monitors.items()},
        record_every=loop.engine.problem.record_every,
        metrics=metrics,
        evaluations=stacked,
        evaluated_at=np.array([at for at, _ in loop.evaluations], int),
        status=status,
        causes=causes,
        stopped_at=stopped_at,
        objective=objective,
        mode=mode,
        select=select,
        info=info,
        # `resume` needs a state with one number of updates for all points. A checkpoint stores a
        # number for each point, so only a checkpoint can go on with points that are behind.
        kept=loop.state() if keep == "state" and not behind.any() else None,
    )
    point, seed = result.best_lane
    if not alive[point] and not loop.settings.keep_best:
        return result  # the state of a stopped point is not kept
    each = len(loop.alive)  # points of a process, the same number in all
    lane = hosts.given(loop.lane(point - hosts.index * each, seed), point // each)
    return dataclasses.replace(
        result, best_params=lane.params, best_state=lane.state, best_opt_state=lane.opt_state
    )


def _contents(engine: Engine) -> dict[str, str]:
    """Fingerprints of what a sweep computes, and of its data.

    They tell a checkpoint of this sweep from one of another.
    """
    return {
        "task and optimizer": digest(*engines.contents(engine.problem, engine.feed)),
        "data": digest(engine.feed.data),
        "first batch": digest(engine.feed.first),
        "jax": jax.__version__,
    }


def _state(
    loop: Loop, hosts: Hosts, saved: Checkpoint | None, points: Points, steps: int
) -> State | None:
    """The state in a checkpoint, rearranged for these points, or None if there is none."""
    state = None if saved is None else hosts.of_first(lambda: saved.load(loop.expected))
    if state is None:
        return None
    return growing.rearranged(_checked_steps(state, steps, "the checkpoint"), points.described())


def _checked_steps(state: State, steps: int, whose: str) -> State:
    """Requires that a state is of a sweep with at most `steps` steps, and returns it."""
    before = int(state.facts["steps"])
    if before > steps:
        raise ValueError(f"`steps` must be at least the {before} of {whose}, got {steps}")
    return state


def _kept(before: SweepResult, points: Points, seeds: list[str], engine: Engine) -> State:
    """The state that a result kept. It must belong to these points, seeds and programs."""
    if not isinstance(before, SweepResult):
        raise TypeError(f"`resume` must be a SweepResult, got {type(before).__name__}")
    if before.kept is None:
        raise ValueError("`resume` must be a result of a sweep with `keep='state'`")
    same = before.hyperparams.keys() == points.columns.keys() and all(
        np.array_equal(values, points.columns[name], equal_nan=True)
        for name, values in before.hyperparams.items()
    )
    if not same:
        raise ValueError("`resume` must be a result of the same points as `grid`, in their order")
    if before.seeds != seeds:
        raise ValueError(f"`resume` must be of the same seeds, {before.seeds}, got {seeds}")
    if sorted(before.monitors) != sorted(engine.programs.train.results[1][1]):
        raise ValueError(
            f"`monitors` must be those of `resume`, {sorted(before.monitors)}, got"
            f" {sorted(engine.programs.train.results[1][1])}"
        )
    shapes = [leaf.shape[2:] for leaf in jax.tree.leaves(engine.lanes)]
    kept = [before.kept.arrays[f"lanes/{i}"] for i in range(before.kept.facts["lanes"])]
    if [leaf.shape[2:] for leaf in kept] != shapes:
        raise ValueError(
            "`resume` must have the parameters and the optimizer state of this task and optimizer,"
            f" arrays of shapes {shapes}, got {[leaf.shape[2:] for leaf in kept]}"
        )
    return before.kept


def _followed(plan: planning.Plan, hosts: Hosts) -> planning.Plan:
    """The plan of the first process, which all processes take.

    A checkpoint stores one plan, with which all processes resume. Another plan would add numbers in
    another order.
    """
    if hosts.count == 1:
        return plan
    width, products, scanned = hosts.tell(plan.width, plan.products, plan.scanned)[0]
    told = dataclasses.replace(
        plan, width=int(width), products=bool(products), scanned=bool(scanned)
    )
    return plan if told == plan else told.because("as the first process found")


def _future_rates(rule: Stopping, points: Points, steps: int) -> np.ndarray | None:
    """The learning rates of every point, `[points, steps]`, or None.

    A stop rule may have a function `rates`, which gives the schedule of a point.
    """
    rates = getattr(rule, "rates", None)
    if rates is None:
        return None
    counts = np.arange(steps)
    schedules = [rates(**points.at(i)) for i in range(len(points))]
    if not all(map(callable, schedules)):
        raise TypeError(
            "`stop` must have `rates` return a schedule, such as lrax.constant(learning_rate), got"
            f" {schedules[0]!r} from {rule!r}"
        )
    return np.stack([np.asarray(schedule(counts), np.float64) for schedule in schedules])


def _info(engine: Engine, steps: int, rng: str, hosts: Hosts) -> dict[str, Any]:
    device = engine.feed.devices[0]
    return {
        "device": f"{device.platform} ({device.device_kind})",
        "devices": len(engine.feed.devices) * hosts.count,
        "steps": steps,
        "rng": rng,
        "plan": engine.described,
        "reasons": list(engine.plan.reasons),
        "versions": {module.__name__: module.__version__ for module in (jax, optax, np)},
    }


def outside_of_jit(name: str) -> None:
    """Requires that nothing is being traced: a sweep compiles and reads its own programs."""
    if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(f"`{name}` compiles its programs and cannot run under `jax.disable_jit`")
    if isinstance(jax.numpy.zeros(()), Tracer):
        raise ValueError(
            f"`{name}` must not be called inside `jax.jit`, `jax.vmap` or `jax.grad`: `lrax.train`"
            " is the same training as a pure function"
        )


@contextlib.contextmanager
def tracers_explained() -> Iterator[None]:
    """Adds a note to an error about tracers: why a sweep's numbers are tracers, and what to do."""
    try:
        yield
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        error.add_note(
            "The numbers of a sweep are tracers: one compiled program trains all points. Python's"
            " `if`, `float()` and NumPy cannot read them. `lrax.warmup_cosine` and the other"
            " schedules of lrax take tracers; `jnp.where` stands for `if`; and `lrax.sweep_over`"
            " sweeps what cannot be traced."
        )
        raise
