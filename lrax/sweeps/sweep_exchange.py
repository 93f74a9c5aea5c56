"""`lrax.sweep_exchange`: a sweep whose lanes exchange states and rates; experimental."""

# Annotations stay text, so that `help` shows the names of the aliases, not what they stand for.
from __future__ import annotations

import contextlib
import dataclasses
import time

import jax
import numpy as np

from .. import _require
from ..training.optimizer import Optimizer
from ..training.run import Params, TaskLike, built_task
from ..training.task import Task
from ..training.train import check_task
from . import seeds as seeding
from .choices import Points
from .direction import Mode, mode_of
from .engine import devices as hardware, engine as engines, plan as planning
from .engine.feed import Feed
from .engine.hosts import Hosts, together
from .engine.loop import Loop, Settings
from .engine.programs import Problem
from .events import guarded
from .exchange_loop import exchanged
from .exchange_result import ExchangeResult
from .exchanging import Exchange, as_rule
from .grid import Grid, as_points
from .progress import Progress
from .seeds import Seeds
from .sweep import Devices, Execution, outside_of_jit, tracers_explained


@together
def sweep_exchange(
    task: TaskLike,
    optimizer: Optimizer,
    grid: Grid,
    *,
    steps: int,
    every: int,
    exchange: Exchange,
    seeds: Seeds = 1,
    name: str | None = None,
    objective: str = "train_loss",
    mode: Mode | None = None,
    key: jax.Array | None = None,
    params: Params | None = None,
    execution: Execution = "auto",
    devices: Devices | None = None,
    progress: bool | None = None,
) -> ExchangeResult:
    """Trains a grid as `lrax.sweep` does, with lanes that exchange states and rates; experimental.

    Use it to try population-based training (`lrax.PopulationBasedTraining`), replicas that are
    averaged (`lrax.FanOut`) or lanes that go back after a spike (`lrax.Rollback`). At equal
    compute, population-based training was as good as a tuned cosine on three small tasks, and
    `FanOut` did not correct a wrong base rate: `python -m tests.benchmarks.exchange`. To find a
    rate for later runs take `lrax.sweep` or `lrax.find`.

    The points of a seed are one population: they see the same batches, and states move among them.
    Seeds never exchange, so that each repeats the experiment. After each segment of `every`
    updates, also after the last one, the rule says from where each lane takes its state and which
    hyperparameters it goes on with. The counts of optimizers and schedules are part of the state:
    a cosine goes on where it is, and the new peak holds for the rest of the cosine.

    All segments run the same compiled programs. The states pass through the host's memory between
    two segments, and the host keeps three of them, so take segments of many updates. A rule that
    changes nothing gives the bits of `lrax.sweep(..., stop=None)`. The same call gives the same
    bits on the same machine. Ctrl-C raises: there are no checkpoints.

    Args:
      task: As in `lrax.sweep`.
      optimizer: As in `lrax.sweep`: a function of the grid's names, such as `optax.adam`, or
        `lambda lr: optax.adam(lrax.cosine(lr, 1000))`.
      grid: As in `lrax.sweep`: the hyperparameters that the lanes begin with.
      steps: Updates of each lane, at least 1.
      every: Updates of a segment, from 1 to `steps`. The last segment is shorter if `every` does
        not divide `steps`.
      exchange: The rule: `lrax.PopulationBasedTraining()`, `lrax.FanOut()`, `lrax.Rollback()`, or
        an object of yours (`lrax.Exchange`).
      seeds: As in `lrax.sweep`.
      name: The hyperparameter that the rule changes; by default the first numeric one of the grid.
      objective: What ranks the lanes: `"train_loss"`, the mean loss over a segment, or a name that
        the task's `evaluate` returns, which is then evaluated after each segment.
      mode: `"min"` if a low objective is good, `"max"` if a high one is. None reads it from the
        objective's name.
      key: The key of the rule's own random numbers; None is `jax.random.key(0)`.
      params: As in `lrax.sweep`: parameters that all lanes start from.
      execution: As in `lrax.sweep`, without `"tune"`.
      devices: As in `lrax.sweep`.
      progress: Whether to show a progress bar. By default one is shown in a terminal or a notebook.

    Returns:
      An `ExchangeResult`: `.rates`, `.losses`, `.source`, `.best`, `.best_rates` and more.

    Raises:
      ValueError: if an argument is out of its range, or a name of the grid or the objective is
        unknown.
      TypeError: if an argument is not as described.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> rates = lrax.log_grid(1e-4, 1e-1, 8)
      >>> call = dict(steps=60, every=10, exchange=lrax.PopulationBasedTraining(), seeds=2)
      >>> result = lrax.sweep_exchange(task, optax.adam, rates, **call)
      >>> result.rates.shape  # [segments, points, seeds]
      (6, 8, 2)
      >>> bool(np.median(result.rates[-1]) > np.median(result.rates[0]))
      True

    Reference:
      Jaderberg et al., Population Based Training of Neural Networks (2017), arXiv:1711.09846; Cheng
      et al. (2026), arXiv:2604.24708.
    """
    start = time.perf_counter()
    outside_of_jit("lrax.sweep_exchange")
    check_task(task)
    points = as_points(grid, optimizer, task)
    steps = _require.count("steps", steps, 1)
    every = _require.count("every", every, 1, steps)
    rule = as_rule(exchange)
    name = _rate_name(name, points)
    if not isinstance(objective, str):
        raise TypeError(f"`objective` must be a name, got {objective!r}")
    planning.check(execution, "auto")
    if execution == "tune":
        raise ValueError("`execution` must not be 'tune' for `sweep_exchange`")
    key = jax.random.key(0) if key is None else _require.key("key", key)
    names, bits = seeding.as_keys(seeds)
    if mode is not None:
        _require.choice("mode", mode, ("min", "max"))

    hosts = Hosts()
    own = hosts.own(len(points))
    with tracers_explained():
        example = task if isinstance(task, Task) else built_task(task, points.at(0))
    problem = Problem(task, example, optimizer, {}, {}, 1, 1)
    feed = Feed(
        problem,
        points[own],
        bits,
        given=None if params is None else seeding.as_given(example, params, len(bits)),
        steps=steps,
        rng="common",
        devices=hardware.chosen(devices),
    )
    with contextlib.closing(feed):
        bar = Progress(steps, progress if hosts.is_first else False)
        bar.say(f"compiling for {len(points)} points x {len(names)} seeds ...")
        with tracers_explained():
            facts = engines.facts(problem, feed)
            _require.choice("objective", objective, ["train_loss", *facts.metrics])
            mode = mode_of(objective, mode)
            engine = engines.prepared(problem, feed, planning.plan(execution, "auto", facts))
        settings = Settings(
            steps=steps,
            until=steps,
            times=(),
            finally_too=False,
            rule=None,
            drop=False,
            objective=objective,
            sign=1.0 if mode == "min" else -1.0,
            rates=None,
            keep_best=False,
        )
        loop = Loop(engine, settings, hosts, points, guarded(None))
        compiled = time.perf_counter()
        bar.start(0)
        with bar:
            found = exchanged(
                loop, hosts, points, rule, key, name=name, every=every, report=bar.advance
            )
        record, moves = found.record, found.moves
        result = ExchangeResult(
            hyperparams=record.hyperparams,
            choices={label: list(choice.items) for label, choice in points.choices.items()},
            seeds=names,
            name=name,
            losses=record.losses,
            scores=record.objective,
            source=np.stack([move.source for move in moves]),
            back=np.stack([move.back for move in moves]),
            averaged=np.stack([move.averaged for move in moves]),
            values=settings.sign * found.values,
            metrics=found.metrics,
            objective=objective,
            mode=mode,
            steps=steps,
            every=every,
            info={
                "plan": engine.described,
                "compile_seconds": round(compiled - start, 3),
                "run_seconds": round(time.perf_counter() - compiled, 3),
            },
        )
        point, seed = result.best_lane
        each = len(own)  # points of a process, the same number in all
        lane = hosts.given(found.last.lane(point - hosts.index * each, seed), point // each)
    return dataclasses.replace(
        result, best_params=lane.params, best_state=lane.state, best_opt_state=lane.opt_state
    )


def _rate_name(name: str | None, points: Points) -> str:
    """The hyperparameter that the rule changes: a numeric one."""
    numeric = [label for label in points.columns if label not in points.choices]
    if name is not None:
        _require.choice("name", name, numeric)
        return name
    if not numeric:
        raise ValueError("`grid` must have a numeric hyperparameter, for the rule to change it")
    return numeric[0]
