"""`lrax.find`: the learning rate for a task, an optimizer and a horizon."""

# Annotations stay as they are written, so that `help` shows the names of the aliases.
from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as Files
from typing import Any

import jax
import numpy as np
import optax

from .. import _require
from ..sweeps.direction import Mode, mode_of
from ..sweeps.engine.hosts import Hosts, together
from ..sweeps.events import OnEvent
from ..sweeps.grid import Grid
from ..sweeps.result import SweepResult
from ..sweeps.sweep import Devices, Execution, sweep
from ..training.optimizer import first_parameter, parameters
from ..training.run import Params, TaskLike
from .found import Found, NoRate
from .search import BOUNDS, CAREFUL, SEVERAL, SHORTEST, WHOLE, Shape, Stop, planned, search
from .several import FoundSeveral, search_several

Optimizer = Callable[..., optax.GradientTransformation]
Path = str | os.PathLike[str]

# `horizon_exponent` is measured between the whole run and runs that are shorter by the factor
# `SHORTER`. Their best rate is sought within the factor `NEAR` of that of the whole run.
SHORTER = 4
NEAR = 30.0
LONG = 10_000  # in runs of more updates, lanes are trained side by side on a CPU too
MANY = 3  # the most rates: the coarse grid grows exponentially with their number


@together
def find(
    task: TaskLike,
    optimizer: Optimizer,
    *,
    steps: int,
    seeds: int = 3,
    objective: str = "val_loss",
    mode: Mode | None = None,
    bounds: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    runs: float = 15,
    names: Sequence[str] | None = None,
    params: Params | None = None,
    schedule: Shape | None = None,
    devices: Devices | None = None,
    budget: float | str | None = None,
    checkpoint: Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
) -> Found | FoundSeveral:
    r"""Finds the learning rate for a run of `steps` updates, and says how sure it is.

    The search begins with rates at half decades over the whole range, which are trained side by
    side with common random numbers. At the updates $T / 6, T / 3, \dots$ (from $T / 12$ on if
    `runs` is below 12) the worse half of the rates is stopped. Never more than half are stopped at
    once, so that a second basin is not lost early. Then neighbours of the best rate, a quarter of a
    decade away, are trained to the end, until the best rate has a worse or diverged neighbour on
    each side. At the end, the best few rates are trained with the other seeds. The result is the
    vertex of a parabola through the scores of the best rate and its neighbours, over the logarithm
    of the rate.

    Use it before the one long run that matters. The validation loss decides by default, because
    over-fitting can change the best rate by a factor of 2 or more. Nothing is extrapolated from
    shorter runs unless `runs` is too small for whole runs. Then the answer is a range, and `why`
    says so. If you cannot afford two whole runs, find the rate of a smaller model, batch or
    horizon, and give it to `lrax.scaling.transfer`, as in the example.

    Args:
      task: What is trained, a `lrax.Task` or a function that returns one, as for `lrax.sweep`.
        For a whole run that is one function, as in reinforcement learning, use
        `lrax.sweep_function` and its result's `optimum()`.
      optimizer: Function of the rate that returns an `optax.GradientTransformation`, such as
        `optax.adam`, or `lambda rate: optax.adam(lrax.warmup_cosine(rate, 1000, 100))`. With
        several groups, apply fixed ratios by `lrax.scale_by_multipliers` inside of that function.
      steps: Optimizer updates of the run that the rate is for, at least 1.
      seeds: Number of seeds that the best rates are trained with, at least 1. With one seed, the
        noise between seeds stays unknown.
      objective: What decides: a name that the task's `evaluate` returns, or `"train_loss"`.
      mode: `"min"` or `"max"`; None reads it from the objective's name.
      bounds: The least and the highest rate allowed, or `{name: (low, high)}` with `names`. By
        default the search begins with the range from 1e-5 to 10, and goes beyond an end at which
        the best rate lies.
      runs: What the search may cost, in units of one whole run of `steps` updates. About 15 is
        careful. Below 25, all stages but the last have one seed. Below 7, the runs are shorter than
        `steps`. From 25 on, the cost that is left over is spent to measure `horizon_exponent`, if
        there is a `schedule`.
      names: Names of two or three parameters of the optimizer that are rates, such as
        `("muon_rate", "adam_rate")`. A coarse grid of all of them comes first. Then points are
        trained that differ from the best one in one rate. Their distance to the best point is
        halved until it is about a quarter of a decade. Give narrow `bounds` for each rate, and 15
        `runs` per rate.
      params: Parameters that all runs start from, for fine-tuning.
      schedule: Function `(peak, steps) -> Schedule`, for an optimizer that takes a schedule. The
        search is then for the peak, and a shorter run has a shorter schedule. Without it, a shorter
        run is the beginning of a whole run.
      devices: Over which devices lanes are spread, as for `lrax.sweep`.
      budget: Time after which the search ends with what it knows, in seconds or as `"10min"`.
      checkpoint: A file name, such as `"search.npz"`. Each stage of the search keeps its state in a
        file of its own: `search-1.npz`, `search-2.npz` and so on. The same call, made again, goes
        on from these files.
      progress: Whether to show a progress bar. By default one is shown in a terminal or a notebook.
      on_event: Called as `on_event(kind, facts)` by each stage's sweep, as for `lrax.sweep`.

    Returns:
      A `Found`: `.rate`, `.interval`, `.good` (the rates within 1 % of the best), `.at_edge`,
      `.certain` and `.why`, `.runs`, `.evidence`, `.plot()`. `optimizer(**found.hyperparams)`
      builds the optimizer. With `names` it is a `FoundSeveral`, with dicts by name. A
      `RuntimeWarning` tells why if `horizon_exponent` was to be measured and could not be.

    Raises:
      ValueError: if an argument is out of its range, or if no rate was trained to its end; the
        message says why.
      TypeError: if an argument is not as described.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> found = lrax.find(task, optax.adam, steps=60, runs=7, seeds=1)
      >>> bool(found.interval[0] <= found.rate <= found.interval[1])
      True
      >>> adam = optax.adam(**found.hyperparams)
      >>> small = lrax.scaling.Setting(width=64, batch=32, tokens=60 * 32)
      >>> large = lrax.scaling.Setting(width=256, batch=128, tokens=6000 * 128)
      >>> known = {"lr": found.rate, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
      >>> moved = lrax.scaling.transfer(known, from_=small, to=large, optimizer="adam")
      >>> moved.hyperparams["lr"] < found.rate
      True

    Reference:
      Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization
      (2016), arXiv:1502.07943, for the halving.
    """
    start = time.perf_counter()
    steps = _require.count("steps", steps, 1)
    seeds = _require.count("seeds", seeds, 1)
    mode = mode_of(objective, mode)
    runs = _require.number("runs", runs)
    if not 1 <= runs < np.inf:
        raise ValueError(f"`runs` must be at least 1 and finite, got {runs}")
    rates = [first_parameter(optimizer)] if names is None else _names(names, optimizer)
    limits = _limits(bounds, rates, names is not None)
    seconds = None if budget is None else _require.seconds("budget", budget)
    if schedule is not None and not callable(schedule):
        raise TypeError(f"`schedule` must be a function of (peak, steps), got {schedule!r}")
    if checkpoint is not None:
        _require.path("checkpoint", checkpoint)
    # Each stage checks its own arguments. But processes with different `runs`, for instance, would
    # train different numbers of equal stages, and wait for each other. Apart from these arguments,
    # the search depends only on what its stages return, which is the same in all processes. The
    # budget, too, ends a stage in all of them.
    same = (steps, runs, seeds, objective, mode, limits, schedule is None, checkpoint is None)
    Hosts().check("`runs`, `seeds` or other arguments", repr(same))
    # The bounds that the caller gave for a single rate.
    given = limits[rates[0]] if names is None and bounds is not None else None
    plan = planned(steps, runs=runs, seeds=seeds, bounds=given, schedule=schedule)
    # `{name in sweeps and pictures: name of the optimizer's parameter}`. The names differ for the
    # peak of a schedule, because an optimizer may call its schedule `lr`, for instance.
    axes = {name: name for name in rates}
    if schedule is not None and names is None:
        axes = {"peak": rates[0]}
    call: dict[str, Any] = dict(
        objective=objective,
        mode=mode,
        params=params,
        devices=devices,
        progress=progress,
        on_event=on_event,
    )
    deadline = None if seconds is None else start + seconds

    def trainer(horizon: int, stages: int = 0) -> _Trainer:
        shaped = optimizer if schedule is None else _shaped(optimizer, axes, schedule, horizon)
        return _Trainer(task, shaped, horizon, call, checkpoint, deadline, stages)

    def hyperparams(values: Mapping[str, float]) -> dict[str, Any]:
        found = {axes[axis]: rate for axis, rate in values.items()}
        if schedule is None:
            return found
        return {name: schedule(rate, steps) for name, rate in found.items()}

    train = trainer(plan.horizon)
    if names is not None:
        return search_several(train, plan, limits, hyperparams, bounded=bounds is not None)
    (name,) = axes
    found = search(train, plan, name, lambda rate: hyperparams({name: rate}))
    part = steps // SHORTER
    left = (runs - found.runs) * SHORTER
    # Without a schedule of their own length, shorter runs would be beginnings of a whole run. Their
    # best rate does not tell how the best rate depends on the horizon.
    if schedule is None or runs < SEVERAL or left < WHOLE or part < SHORTEST:
        return found
    if found.ended or found.at_edge is not None:
        return found
    low, high = (0.0, np.inf) if given is None else given
    near = max(low, found.rate / NEAR), min(high, found.rate * NEAR)
    at_part = lambda rate: {axes[name]: schedule(rate, part)}
    # The rate has been paid for, so a failure here must not lose it. The caller's schedule may fail
    # for such a short run, for instance because its warmup is longer.
    try:
        at_part(found.rate)
    except Exception as error:
        _warn(f"`schedule` failed for {part} steps: {type(error).__name__}: {error}")
        return found
    again = planned(part, runs=min(left, CAREFUL), seeds=seeds, bounds=near, schedule=schedule)
    try:
        shorter = search(trainer(part, train.stages), again, name, at_part)
    except NoRate as error:
        _warn(f"in runs of {part} steps, {error}")
        return found
    if shorter.ended:
        _warn("the search was ended early. The same call with more time would measure it")
        return dataclasses.replace(found, ended=True, runs=found.runs + shorter.runs / SHORTER)
    return dataclasses.replace(found, shorter=shorter, runs=found.runs + shorter.runs / SHORTER)


def _warn(why: str) -> None:
    message = f"`horizon_exponent` was not measured: {why}"
    warnings.warn(message, RuntimeWarning, stacklevel=4)  # at the call of `find`, past `together`


@dataclasses.dataclass
class _Trainer:
    """Trains the stages of one search: each is a sweep.

    Attributes:
      task: What is trained.
      optimizer: Function of the rate, or of several rates.
      steps: Updates of each run.
      call: Arguments that all stages share.
      checkpoint: The name of the stages' files, or None.
      deadline: When the search ends, by the clock of `time.perf_counter`, or None.
      stages: How many stages have begun.
    """

    task: TaskLike
    optimizer: Optimizer
    steps: int
    call: dict[str, Any]
    checkpoint: Path | None
    deadline: float | None
    stages: int = 0

    def __call__(self, grid: Grid, seeds: range, stop: Stop) -> SweepResult:
        """Trains the points of a grid, each with all the seeds."""
        self.stages += 1
        budget = None
        if self.deadline is not None:
            budget = max(self.deadline - time.perf_counter(), 0.0)
        place = None
        if self.checkpoint is not None:
            path = Files(self.checkpoint)
            place = path.with_name(f"{path.stem}-{self.stages}{path.suffix}")
        return sweep(
            self.task,
            self.optimizer,
            grid,
            steps=self.steps,
            seeds=list(seeds),
            stop=stop,
            budget=budget,
            checkpoint=place,
            execution=_execution(self.steps),
            **self.call,
        )


def _execution(steps: int) -> Execution:
    """How the stages are trained.

    Stages have different numbers of lanes. With lanes side by side, each stage would compile its
    own programs. On a CPU that takes longer than the training of most searches, so there each call
    trains one lane, and all stages share their programs. On an accelerator, and in long runs,
    training side by side saves more time than compiling costs.
    """
    return "loop" if jax.default_backend() == "cpu" and steps <= LONG else "auto"


def _names(names: _require.Unchecked, optimizer: Optimizer) -> list[str]:
    """The names of several rates."""
    found = list(_require.listed("names", names))
    known = parameters(optimizer)
    if not all(isinstance(name, str) for name in found):
        raise TypeError(f"`names` must be names of the optimizer's parameters, got {names!r}")
    if not 2 <= len(found) <= MANY or len(set(found)) < len(found):
        raise ValueError(
            f"`names` must be 2 to {MANY} different names of rates, got {names!r}; for one rate,"
            " leave `names` out"
        )
    if known and any(name not in known for name in found):
        raise ValueError(
            f"`names` must be parameters of the optimizer, which are {list(known)}, got {found}"
        )
    return found


def _limits(
    bounds: _require.Unchecked, names: list[str], several: bool
) -> dict[str, tuple[float, float]]:
    """The least and the highest value of each rate."""
    if not isinstance(bounds, Mapping):
        return {name: BOUNDS if bounds is None else _pair("bounds", bounds) for name in names}
    if not several or set(bounds) != set(names):
        wanted = f"{{name: (low, high)}} for {names}" if several else "(low, high) without `names`"
        raise ValueError(f"`bounds` must be {wanted}, got {bounds!r}")
    return {name: _pair(f"bounds[{name!r}]", bounds[name]) for name in names}


def _pair(name: str, bounds: _require.Unchecked) -> tuple[float, float]:
    """The least and the highest rate."""
    both = _require.listed(name, bounds)
    if len(both) != 2:
        raise ValueError(f"`{name}` must be two rates, the lower one first, got {bounds!r}")
    low, high = (_require.number(f"{name}[{i}]", bound) for i, bound in enumerate(both))
    if not 0 < low < high < np.inf:
        raise ValueError(
            f"`{name}` must be two finite rates above 0, the lower one first, got {bounds!r}"
        )
    return low, high


def _shaped(
    optimizer: Optimizer, axes: Mapping[str, str], schedule: Shape, steps: int
) -> Optimizer:
    """The optimizer as a function of the peaks of its schedules, by their names in `axes`."""
    # A partial, and not a closure: in the cache of programs, partials with the same function and
    # arguments are equal. So the next search with this optimizer and schedule reuses its programs.
    shaped: Any = functools.partial(
        _with_schedules, optimizer, tuple(axes.items()), schedule, steps
    )
    # A sweep reads the names of the hyperparameters from the signature.
    kind = inspect.Parameter.KEYWORD_ONLY
    shaped.__signature__ = inspect.Signature([inspect.Parameter(axis, kind) for axis in axes])
    return shaped


def _with_schedules(
    optimizer: Optimizer,
    axes: tuple[tuple[str, str], ...],
    schedule: Shape,
    steps: int,
    **peaks: Any,
) -> optax.GradientTransformation:
    return optimizer(**{name: schedule(peaks[axis], steps) for axis, name in axes})
