"""A search for two or three rates: first a coarse grid, then one rate at a time."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..display import canvas
from ..sweeps.merging import GROUPS
from ..sweeps.points import points
from ..sweeps.record import replaced
from ..sweeps.result import SweepResult
from .found import Found, found_by
from .search import Plan, Stages, Stop, Train
from .trials import SAME, STEP, trials, wanted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The coarse grid may cost this share of the budget. A grid of $n$ points with halving costs about
# $n$ times `HALVED` whole runs.
COARSE, HALVED = 0.3, 0.23
FEWEST, MOST = 3, 13  # values of each rate in the coarse grid

Point = dict[str, float]
Bounds = Mapping[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FoundSeveral:
    """The rates that `lrax.find` found for several names.

    What belongs to one rate in `Found` (`rate`, `interval`, `good`, ...) is a dict by name here.

    Attributes:
      slices: `{name: Found}`: for each rate, the search along its own line. There the other rates
        have the values of the best point.
      hyperparams: The arguments for the optimizer: `optimizer(**found.hyperparams)`.
      runs: What the search cost, in whole runs.
      evidence: The sweep of all points that were tried, with the first seed.
      confirmed: The sweep of the best points with the other seeds, or None.
    """

    slices: dict[str, Found]
    hyperparams: dict[str, Any]
    runs: float
    evidence: SweepResult
    confirmed: SweepResult | None

    @property
    def rate(self) -> dict[str, float]:
        """The rate to use, for each name."""
        return {name: found.rate for name, found in self.slices.items()}

    @property
    def interval(self) -> dict[str, tuple[float, float]]:
        """Where the best rate lies, as in `Found.interval`, if the other rates are as found."""
        return {name: found.interval for name, found in self.slices.items()}

    @property
    def good(self) -> dict[str, tuple[float, float]]:
        """The rates whose objective is within 1 % of the best, if the other rates are as found."""
        return {name: found.good for name, found in self.slices.items()}

    @property
    def surely_good(self) -> dict[str, tuple[float, float] | None]:
        """The rates that are surely good, as in `Found.surely_good`; None where no rate is."""
        return {name: found.surely_good for name, found in self.slices.items()}

    @property
    def at_edge(self) -> dict[str, Literal["low", "high"] | None]:
        """`"low"` or `"high"` if the best rate is the lowest or highest tried, else None."""
        return {name: found.at_edge for name, found in self.slices.items()}

    @property
    def certain(self) -> bool:
        """Whether every interval is within an octave, and nothing else is in doubt."""
        return not self.why

    @property
    def why(self) -> str:
        """Why a rate is not certain, and what would help; empty if all are certain."""
        doubts: dict[str, list[str]] = {}
        for name, found in self.slices.items():
            if found.why:
                doubts.setdefault(found.why, []).append(name)
        return "; ".join(f"{', '.join(names)}: {why}" for why, names in doubts.items())

    def __str__(self) -> str:
        some = next(iter(self.slices.values()))
        rates = ", ".join(
            f"{name} {found.rate:.3g} ({found.interval[0]:.2g} to {found.interval[1]:.2g})"
            for name, found in self.slices.items()
        )
        good = ", ".join(
            f"{name} {found.good[0]:.2g} to {found.good[1]:.2g}"
            for name, found in self.slices.items()
        )
        count = len(self.evidence.status)
        return "\n".join(
            [
                f"{rates} are the rates for {some.steps} steps, by {some.objective}"
                f" ({some.value:.4g})",
                f"within 1 % of the best: {good}; {count} points, the cost of {self.runs:.1f} whole"
                " runs",
                "each interval is within an octave" if self.certain else f"cannot tell: {self.why}",
            ]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in str(self).splitlines())
        return lines + canvas.as_html(self.plot)

    def plot(self, name: str | None = None) -> Figure:
        """A figure of the evidence: the objective against one rate, or a panel for each rate.

        Args:
          name: The rate; None for all of them.

        Returns:
          A matplotlib Figure.

        Raises:
          ValueError: if there is no rate of this name.
          ImportError: if matplotlib is not installed.
        """
        if name is None:
            return Found.panels(list(self.slices.values()))
        if name not in self.slices:
            raise ValueError(f"`name` must be one of {list(self.slices)}, got {name!r}")
        return self.slices[name].plot()


class Search:
    """A search for several rates.

    All points have the first seed. With common random numbers, one seed tells which of two points
    is better. More seeds tell how sure that is, and the best points get them at the end.

    Attributes:
      names: The rates' names.
      evidence: The sweep of all points.
      others: The sweep of the best points with further seeds, or None.
    """

    def __init__(self, stages: Stages, bounds: Bounds, *, bounded: bool):
        """A search before its first run.

        Args:
          stages: What trains points.
          bounds: The range of the coarse grid, for each name.
          bounded: Whether the search must stay within these bounds.
        """
        self.names = list(bounds)
        self._stages, self._bounds = stages, bounds
        self._limits = dict(bounds) if bounded else {name: (0.0, np.inf) for name in bounds}
        self.evidence: SweepResult
        self.others: SweepResult | None = None

    def run(self, runs: float, seeds: int, stop: Stop) -> None:
        """Trains what the budget pays for.

        Args:
          runs: The budget, in whole runs.
          seeds: Seeds of the best points.
          stop: The stop rule of the coarse grid.
        """
        stages = self._stages
        size = COARSE * runs / HALVED
        each = int(np.clip(math.floor(size ** (1 / len(self.names)) + 1e-9), FEWEST, MOST))
        axes = [np.geomspace(*self._bounds[name], each) for name in self.names]
        columns = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])
        grid = points(dict(zip(self.names, columns, strict=True)))
        self.evidence = stages.train(grid, range(1), stop)
        # The first neighbours are halfway between the points of the grid.
        step = max(float(np.log(axis[1] / axis[0])) for axis in axes) / 2
        while not stages.ended:
            rows = self._wanted(step)
            affordable = max(int(runs - stages.spent), 0)
            if rows[:affordable]:
                more = stages.train(points(rows[:affordable]), range(1))
                # A stage that was ended early has no scores of whole runs. If a point is in both
                # sweeps, `|` keeps the run of `more`, which is whole even if the old one was not.
                if not stages.ended:
                    self.evidence = more | self.evidence
            elif rows or step < 1.5 * STEP:  # nothing can be paid for, or nothing is wanted
                break
            else:
                step = step / 2
        center = best(self.evidence)
        if seeds == 1 or center is None or stages.ended:
            return
        few = self._nearest(center)[: int((runs - stages.spent) // (seeds - 1))]
        # One point alone would not show whether the effect of a seed differs between points.
        if len(few) > 1:
            seen = stages.train(points(few), range(1, seeds))
            self.others = None if stages.ended else seen

    def _wanted(self, step: float) -> list[Point]:
        """The neighbours of the best point that are still to be trained."""
        center = best(self.evidence)
        if center is None:  # every point diverged
            lower = {
                name: float(min(rates)) / 10 for name, rates in self.evidence.hyperparams.items()
            }
            inside = all(lower[name] >= self._limits[name][0] for name in self.names)
            return [lower] if inside else []
        found = []
        for name in self.names:
            known = trials(along(self.evidence, name, center), name)
            rates = wanted(known, *self._limits[name], step=step)
            for side in (rates[rates < center[name]][-1:], rates[rates > center[name]][:1]):
                found += [{**center, name: float(rate)} for rate in side]
        return found

    def _nearest(self, center: Point) -> list[Point]:
        """The best point, then its nearest neighbours along each line, better ones first."""
        near = []
        for name in self.names:
            known = trials(along(self.evidence, name, center), name)
            away = known.x - np.log(center[name])
            for side in (-1, 1):
                beyond = np.flatnonzero(known.whole & (side * away > SAME))
                if len(beyond):
                    i = beyond[np.argmin(np.abs(away[beyond]))]
                    near.append((known.means[i], {**center, name: float(known.rates[i])}))
        near.sort(key=lambda pair: pair[0])
        return [center, *(point for _, point in near)]


def search_several(
    train: Train,
    plan: Plan,
    bounds: Bounds,
    hyperparams: Callable[[Mapping[str, float]], dict[str, Any]],
    *,
    bounded: bool,
) -> FoundSeveral:
    """The rates of several names.

    Args:
      train: Trains the points of a stage, for `plan.horizon` updates.
      plan: What the search may do.
      bounds: The range of the coarse grid, for each name.
      hyperparams: The optimizer's arguments for the rates.
      bounded: Whether the search must stay within the bounds.

    Raises:
      ValueError: if no point was trained to its end.
    """
    stages = Stages(train)
    search = Search(stages, bounds, bounded=bounded)
    search.run(plan.runs, plan.seeds, plan.stop)
    center = best(search.evidence)
    if center is None:
        raise ValueError(f"no rates can be named: {search.evidence.why_no_best}")
    slices = {
        name: found_by(
            along(search.evidence, name, center),
            None if search.others is None else along(search.others, name, center),
            hyperparams=lambda rate, name=name: hyperparams({name: rate}),
            asked=plan.steps,
            runs=stages.spent * plan.horizon / plan.steps,
            ended=stages.ended,
        )
        for name in bounds
    }
    return FoundSeveral(
        slices=slices,
        hyperparams=hyperparams({name: found.rate for name, found in slices.items()}),
        runs=next(iter(slices.values())).runs,
        evidence=search.evidence,
        confirmed=search.others,
    )


def at(result: SweepResult, point: int) -> Point:
    """A point of a sweep."""
    return {name: float(values[point]) for name, values in result.hyperparams.items()}


def best(result: SweepResult) -> Point | None:
    """The best point of a sweep, or None if no point was trained to the end with every seed."""
    scores = np.where(result.status == "done", result.scores, np.inf)
    means = np.where(np.isfinite(scores).all(axis=1), scores.mean(axis=1), np.inf)
    return at(result, int(np.argmin(means))) if np.isfinite(means).any() else None


def along(result: SweepResult, name: str, center: Point) -> SweepResult:
    """The points that differ from `center` at most in the rate `name`, as a sweep of it."""
    same = np.ones(len(result.status), bool)
    for other, values in result.hyperparams.items():
        if other != name:
            same &= np.abs(np.log(values) - np.log(center[other])) < SAME
    fields: dict[str, Any] = {
        field: getattr(result, field)[same] for field in ("status", "stopped_at", "causes")
    }
    if result.has_losses:
        fields["losses"] = result.losses[same]
    for group in GROUPS:
        fields[group] = {key: values[same] for key, values in getattr(result, group).items()}
    fields["hyperparams"] = {name: fields["hyperparams"][name]}
    return replaced(result, **fields, kept=None)
