"""The search for a rate: which rates are trained, with how many seeds. A `Train` trains them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ..schedules.schedule import Schedule
from ..sweeps.grid import Grid, log_grid
from ..sweeps.record import replaced
from ..sweeps.result import SweepResult
from ..sweeps.rules import Halving
from .found import Found, found_by
from .trials import Trials, completed, is_flat, trials, wanted

Shape = Callable[[Any, int], Schedule]  # (peak, steps) -> schedule
Stop = Halving | Literal["diverged"]  # the argument `stop` of a sweep
# Trains the points of a grid, each with some seeds: (grid, seeds, stop) -> result.
Train = Callable[[Grid, range, Stop], SweepResult]

# The curvature at the start is not used to narrow these bounds. Searches of equal cost without the
# rates above the critical rate were no better on small tasks with 15 runs. Where the first update
# misleads, such a search with 7 runs missed the best rate (`python -m tests.benchmarks.curvature`).
BOUNDS = (1e-5, 10.0)
PER_DECADE = 2  # rates of the first sweep
FEWEST, MOST = 5, 25  # rates of the first sweep
# The first rung, as a fraction of the horizon: early where `runs` is small. A late rung loses
# fewer good rates that begin slowly.
FIRST, LATE = 1 / 12, 1 / 6
CAREFUL = 12  # the `runs` from which on the first rung is late
# With a smaller `runs`, all rates but the best ones have one seed. One seed rules out the rest of
# the range, and further seeds are worth most where the rates are close.
SEVERAL = 25
# What a search with one seed costs, in whole runs. With a smaller `runs`, the horizon is shortened,
# so that the search costs this number of the shorter runs.
WHOLE = 7
SHORTEST = 10  # updates of a shortened horizon, at least
CONFIRMED = 2  # rates that get the same further seeds, at least
FEW = 3  # rates that have all seeds in the end: the best one and its two neighbours


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a search may do.

    Attributes:
      steps: Updates of the run that the rate is for.
      horizon: Updates of each run of the search, at most `steps`.
      runs: What the search may cost, in runs of `horizon` updates.
      several: Seeds of all stages but the last.
      seeds: Seeds of the best rates.
      grid: The rates of the first stage.
      limits: The least and the highest rate of the later stages.
      stop: The stop rule of the first stage.
    """

    steps: int
    horizon: int
    runs: float
    several: int
    seeds: int
    grid: np.ndarray
    limits: tuple[float, float]
    stop: Stop


def planned(
    steps: int,
    *,
    runs: float,
    seeds: int,
    bounds: tuple[float, float] | None = None,
    schedule: Shape | None = None,
) -> Plan:
    """The plan for arguments of `lrax.find` that are in their ranges."""
    horizon = steps if runs >= WHOLE else max(math.ceil(steps * runs / WHOLE), min(SHORTEST, steps))
    return Plan(
        steps,
        horizon,
        runs=runs * steps / horizon,
        several=min(seeds, 2 if runs >= SEVERAL else 1),
        seeds=seeds,
        grid=_grid(*(BOUNDS if bounds is None else bounds)),
        # Without `bounds` of the caller, the search may leave its first grid.
        limits=(0.0, np.inf) if bounds is None else bounds,
        stop=_rungs(LATE if runs >= CAREFUL else FIRST, schedule, horizon),
    )


def search(
    train: Train, plan: Plan, name: str, hyperparams: Callable[[float], dict[str, Any]]
) -> Found:
    """The rate, by stages of training: all rates, the neighbours of the best, the other seeds.

    Args:
      train: Trains the rates of a stage, for `plan.horizon` updates.
      plan: What the search may do.
      name: The name of the rate.
      hyperparams: The optimizer's arguments for a rate.

    Raises:
      NoRate: if no rate was trained to its end.
    """
    stages = Stages(train)
    several = range(plan.several)
    first = stages.train({name: plan.grid}, several, plan.stop)
    others: SweepResult | None = None
    while not (stages.ended or is_flat(first)):
        known = trials(first, name)
        if others is not None:
            known = completed(known, trials(others, name))
        left = plan.runs - stages.spent
        # As many as the rest of `runs` pays for.
        rates = wanted(known, *plan.limits)[: max(int(left // plan.several), 0)]
        if len(rates):
            more = stages.train({name: rates}, several)
            # A stage that was ended early has no scores of whole runs. If a rate is in both sweeps,
            # `|` keeps the run of `more`, which is whole even if the old one was not.
            if not stages.ended:
                first = more | first
            continue
        # The best rate has its neighbours. With other seeds, another rate may be the best.
        if others is None:
            further = min(plan.seeds - plan.several, int(left // CONFIRMED))
        else:
            further = len(others.seeds)
        if known.best is None or further < 1:
            break
        # The first time, these are as many rates as `runs` pays for. If another rate is the best
        # one afterwards, its neighbours follow.
        paid = int(left // further)
        few = known.rates[_best_few(known, max(paid, FEW) if others is None else FEW)]
        few = few if others is None else few[~np.isin(few, others.hyperparams[name])]
        few = few[:paid]
        if not len(few):
            break
        more = stages.train({name: few}, range(plan.several, plan.several + further))
        if not stages.ended:
            others = more if others is None else others | more
    return found_by(
        first,
        others,
        hyperparams=hyperparams,
        asked=plan.steps,
        runs=stages.spent * plan.horizon / plan.steps,
        ended=stages.ended,
    )


@dataclasses.dataclass
class Stages:
    """The stages of a search that were trained.

    Attributes:
      trainer: What trains them.
      ended: Whether a stage was ended early, by Ctrl-C or the budget.
      spent: What they cost, in units of one of their own runs, trained to its end.
    """

    trainer: Train
    ended: bool = False
    spent: float = 0.0

    def train(self, grid: Grid, seeds: range, stop: Stop = "diverged") -> SweepResult:
        """Trains the points of a grid, each with all the seeds."""
        found = self.trainer(grid, seeds, stop)
        self.ended |= bool(np.any(found.status == "interrupted"))
        self.spent += float(found.stopped_at.sum()) * len(found.seeds) / found.steps
        # A stage with rungs has evaluations during its runs, and other stages have none. They are
        # dropped, so that the stages can be merged.
        return replaced(found, evaluations={}, evaluated_at=np.zeros(0, int))


def _grid(low: float, high: float) -> np.ndarray:
    """The rates of the first stage, at half decades unless there would be too few or too many."""
    n = round(PER_DECADE * math.log10(high / low)) + 1
    return log_grid(low, high, min(max(n, FEWEST), MOST))


def _rungs(first: float, schedule: Shape | None, steps: int) -> Stop:
    """The stop rule of the first stage. Its first rung comes well after the schedule's warmup."""
    first = max(first, 2 / steps)
    if schedule is not None:
        values = np.asarray(schedule(1.0, steps).values(np.arange(steps)))
        first = max(first, 1.5 * float(np.argmax(values)) / steps)
    # The rule is not a `Forecast`. A forecast keeps the best rate of the grid more often, but with
    # the same `runs` the searches ended no better beyond noise (`python -m tests.benchmarks.finders
    # --half first --forecast`). And a forecast needs the future rates, which are unknown without a
    # `schedule`.
    #
    # A first rung at half of the run or later means that there are few updates, or that many of
    # them are a warmup. Earlier losses tell nothing then, so all rates are trained to the end.
    return Halving(eta=2, first=first) if first < 0.5 else "diverged"


def _best_few(known: Trials, count: int) -> np.ndarray:
    """Indices of at most `count` rates, best first: the best one, and the good ones next to it."""
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
    few = chosen[low : high + 1]
    return few[np.argsort(known.means[few], kind="stable")]
