"""`lrax.find`: the learning rate for a task, an optimizer and a horizon."""

# Annotations stay as they are written, so that `help` shows the names of the aliases.
from __future__ import annotations

import dataclasses
import inspect
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as Files
from typing import Any

import jax
import numpy as np
import optax

from .. import _require
from ..schedules.schedule import Schedule
from ..sweeps.direction import Mode, mode_of
from ..sweeps.events import OnEvent
from ..sweeps.grid import Grid, log_grid
from ..sweeps.result import SweepResult
from ..sweeps.rules import Halving
from ..sweeps.sweep import Devices, sweep
from ..training.optimizer import first_parameter, parameters
from ..training.run import Params, TaskLike
from .found import Found, found_by
from .several import FoundSeveral, Search, found_several
from .trials import Trials, is_flat, trials, wanted

Optimizer = Callable[..., optax.GradientTransformation]
Shape = Callable[[Any, int], Schedule]
Path = str | os.PathLike[str]

BOUNDS = (1e-5, 10.0)
PER_DECADE = 2  # rates of the first sweep
FEWEST, MOST = 5, 25  # rates of the first sweep
FIRST = 1 / 12  # the first rung, as a fraction of the horizon
# With a smaller `runs`, all stages but the last have one seed.
SEVERAL = 10
# What a search with one seed costs. With a smaller `runs`, the horizon is shortened, so that the
# search costs this number of the shorter runs.
WHOLE = 7
SHORTEST = 10  # updates of a shortened horizon, at least
LONG = 10_000  # updates from which a CPU trains small models side by side too
MANY = 3  # names of rates, at most: the coarse grid has a power of it
CONFIRMED = 2  # the last stage gives further seeds to at least this number of rates


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

    Rates at half decades over the whole range begin side by side with common random numbers. At
    $T / 12, T / 6, T / 3, \dots$ the half with the worse objective stops. No more than half stops
    at once, so that a second basin is not lost early. Then neighbours of the best rate, a quarter
    of a decade away, are trained to the end, until the best rate has a worse or diverged neighbour
    on each side. Last, the best few rates get the other seeds. The rate is the vertex of a parabola
    through the scores over the logarithm of the rate.

    Use it before the one long run that matters. The validation loss decides by default, because
    over-fitting moves the best rate by octaves. Nothing is extrapolated from shorter runs unless
    `runs` is too small for whole ones. Then the answer is a range, and `why` says so.

    Args:
      task: What is trained, a `lrax.Task` or a function that returns one, as for `lrax.sweep`.
      optimizer: Function of the rate that returns an `optax.GradientTransformation`, such as
        `optax.adam`, or `lambda rate: optax.adam(lrax.warmup_cosine(rate, 1000, 100))`. With
        several groups, apply fixed ratios by `lrax.scale_by_multipliers` inside of it.
      steps: Optimizer updates of the run that the rate is for, at least 1.
      seeds: Number of seeds that the best rates are trained with, at least 1. With one, how seeds
        differ stays unknown.
      objective: What decides: a name that the task's `evaluate` returns, or `"train_loss"`.
      mode: `"min"` or `"max"`; None reads it from the objective's name.
      bounds: The least and the highest rate allowed, or `{name: (low, high)}` with `names`. By
        default the search begins with 1e-5 to 10, and goes on beyond an end if the best rate is
        there.
      runs: What the search may cost, in units of one whole run of `steps` updates. About 15 is
        careful. Below 10, all stages but the last have one seed. Below 7, the runs are shorter than
        `steps`.
      names: Names of two or three parameters of the optimizer that are rates, such as
        `("muon_rate", "adam_rate")`. A coarse grid of all of them comes first. Then each rate moves
        along its own line, to neighbours half as far in each round, until a quarter of a decade
        does not help. Give narrow `bounds` for each, and about 15 `runs` for each.
      params: Parameters that all runs start from, for fine-tuning.
      schedule: Function `(peak, steps) -> Schedule`, for an optimizer that takes a schedule. The
        search is for the peak then, and shorter runs have shorter schedules. Without it, shorter
        runs are the beginning of a whole run.
      devices: Over which devices lanes are spread, as for `lrax.sweep`.
      budget: Time after which the search ends with what it knows, in seconds or as `"10min"`.
      checkpoint: A file name, such as `"search.npz"`. Each stage of the search keeps its state in a
        file of its own: `search-1.npz`, `search-2.npz` and so on. The same call goes on from them.
      progress: Whether to show a progress bar. By default where a person watches.
      on_event: Called as `on_event(kind, facts)` by each stage's sweep, as for `lrax.sweep`.

    Returns:
      A `Found`: `.rate`, `.interval`, `.good` (the rates within 1 % of the best), `.at_edge`,
      `.certain` and `.why`, `.runs`, `.evidence`, `.plot()`. `optimizer(**found.hyperparams)`
      builds the optimizer. With `names` it is a `FoundSeveral`, whose fields are dicts by name.

    Raises:
      ValueError: if no rate was trained to its end, with the reason in the message; if an argument
        is out of its range.
      TypeError: if an argument is not as described.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> found = lrax.find(task, optax.adam, steps=60, runs=7, seeds=1)
      >>> bool(found.interval[0] <= found.rate <= found.interval[1])
      True
      >>> adam = optax.adam(**found.hyperparams)

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
    horizon = steps if runs >= WHOLE else max(math.ceil(steps * runs / WHOLE), min(SHORTEST, steps))
    job = _Job(
        task,
        optimizer if schedule is None else _shaped(optimizer, rates, schedule, horizon),
        steps=horizon,
        call=dict(
            objective=objective,
            mode=mode,
            params=params,
            devices=devices,
            progress=progress,
            on_event=on_event,
        ),
        checkpoint=checkpoint,
        deadline=None if seconds is None else start + seconds,
    )
    whole = runs * steps / horizon  # what it may cost, in runs of the horizon
    several = min(seeds, 2 if runs >= SEVERAL * len(rates) else 1)
    stop = _rungs(schedule, horizon)

    def hyperparams(values: Mapping[str, float]) -> dict[str, Any]:
        if schedule is None:
            return dict(values)
        return {name: schedule(rate, steps) for name, rate in values.items()}

    def answer(name: str, evidence: SweepResult, others: SweepResult | None) -> Found:
        return found_by(
            evidence,
            others,
            hyperparams=lambda rate: hyperparams({name: rate}),
            asked=steps,
            runs=job.spent * horizon / steps,
            ended=job.ended,
        )

    if names is not None:
        search = Search(job.train, limits, bounded=bounds is not None, ended=lambda: job.ended)
        search.run(whole, seeds, stop, lambda: job.spent)
        return found_several(search, answer, hyperparams)
    (name,) = rates
    low, high = limits[name]
    first = job.train({name: _grid(low, high)}, range(several), stop)
    # Without `bounds` of the caller, the search may leave its first grid.
    if bounds is None:
        low, high = 0.0, np.inf
    while not (job.ended or is_flat(first)):
        more = wanted(trials(first, name), low, high)
        # As many as the rest of `runs` pays for.
        more = more[: max(int((whole - job.spent) // several), 0)]
        if not len(more):
            break
        seen = job.train({name: more}, range(several))
        # The scores of runs that were ended early are no scores of whole runs.
        if not job.ended:
            first = first | seen
    known = trials(first, name)
    others = None
    left = whole - job.spent
    extra = min(seeds - several, int(left // CONFIRMED))
    if known.best is not None and extra > 0 and not job.ended:
        few = _best_few(known, int(left // extra))
        seen = job.train({name: known.rates[few]}, range(several, several + extra))
        others = None if job.ended else seen
    return answer(name, first, others)


@dataclasses.dataclass
class _Job:
    """The sweeps of one search: each is a stage of it.

    Attributes:
      task: What is trained.
      optimizer: Function of the rate, or of several rates.
      steps: Updates of each run.
      call: Arguments that all stages share.
      checkpoint: The name of the stages' files, or None.
      deadline: When the search ends, by the clock of `time.perf_counter`, or None.
      results: What the stages found.
    """

    task: TaskLike
    optimizer: Optimizer
    steps: int
    call: dict[str, Any]
    checkpoint: Path | None
    deadline: float | None
    results: list[SweepResult] = dataclasses.field(default_factory=list)

    def train(self, grid: Grid, seeds: range, stop: Any = "diverged") -> SweepResult:
        """Trains the points of a grid, each with all the seeds."""
        budget = None
        if self.deadline is not None:
            budget = max(self.deadline - time.perf_counter(), 0.0)
        place = None
        if self.checkpoint is not None:
            path = Files(self.checkpoint)
            place = path.with_name(f"{path.stem}-{len(self.results) + 1}{path.suffix}")
        found = sweep(
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
        # A stage with rungs has evaluations during its runs, and other stages have none. They are
        # dropped, so that the stages can be merged.
        found = found.replaced(evaluations={}, evaluated_at=np.zeros(0, int))
        self.results.append(found)
        return found

    @property
    def ended(self) -> bool:
        """Whether a stage was ended early, by Ctrl-C or the budget."""
        return any(np.any(result.status == "interrupted") for result in self.results)

    @property
    def spent(self) -> float:
        """What the stages cost, in runs of their steps."""
        return sum(map(cost, self.results))


def cost(result: SweepResult) -> float:
    """What a sweep cost, in runs of its steps."""
    return float(result.stopped_at.sum()) * len(result.seeds) / result.steps


def _execution(steps: int) -> str:
    """How the stages are trained.

    Each stage has its own number of lanes, so each would compile programs of its own, which on a
    CPU takes longer than the training of most searches. With one lane to a call, all stages share
    their programs. On an accelerator, and in long runs, lanes side by side save more than that.
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
            " leave it out"
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


def _grid(low: float, high: float) -> np.ndarray:
    """The rates of the first stage, at half decades unless there would be too few or too many."""
    n = round(PER_DECADE * math.log10(high / low)) + 1
    return log_grid(low, high, min(max(n, FEWEST), MOST))


def _rungs(schedule: Shape | None, steps: int) -> Halving | str:
    """The stop rule of the first stage. Its first rung comes well after the schedule's warmup."""
    first = max(FIRST, 2 / steps)
    if schedule is not None:
        values = np.asarray(schedule(1.0, steps).values(np.arange(steps)))
        first = max(first, 1.5 * float(np.argmax(values)) / steps)
    # Before so late a rung there are only a few updates, or a warmup, which tell nothing. Then all
    # rates are trained to the end.
    return Halving(eta=2, first=first) if first < 0.5 else "diverged"


def _shaped(optimizer: Optimizer, names: list[str], schedule: Shape, steps: int) -> Optimizer:
    """The optimizer as a function of the peaks of its schedules."""

    def shaped(**peaks: Any) -> optax.GradientTransformation:
        return optimizer(**{name: schedule(peak, steps) for name, peak in peaks.items()})

    # A sweep reads the names of the hyperparameters from the signature.
    kind = inspect.Parameter.KEYWORD_ONLY
    shaped.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    return shaped


def _best_few(known: Trials, count: int) -> np.ndarray:
    """Indices of at most `count` rates: the best one, and the good ones next to it."""
    best = known.best
    assert best is not None
    chosen = np.flatnonzero(known.whole)
    # The range grows by one rate at a time, on the side where the next rate is better.
    place = int(np.flatnonzero(chosen == best)[0])
    low = high = place
    means = known.means[chosen]
    while high - low + 1 < min(count, len(chosen)):
        below = means[low - 1] if low > 0 else np.inf
        above = means[high + 1] if high + 1 < len(chosen) else np.inf
        if below <= above:
            low -= 1
        else:
            high += 1
    return chosen[low : high + 1]
