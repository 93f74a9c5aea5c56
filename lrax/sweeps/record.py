"""`Record`: what a sweep measured, what ranks its points, and which one is best."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from .. import _require
from .optimum import Optimum, optimum


class Best(NamedTuple):
    """The best point of a sweep."""

    hyperparams: dict[str, float]
    params: Any  # at the end of its best seed's run, as the task's `init` returns them


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Record:
    """The arrays of a `SweepResult`, which describes them, and the ranking of its points."""

    hyperparams: dict[str, np.ndarray]
    seeds: list[str]
    losses: np.ndarray
    aux: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]
    evaluations: dict[str, np.ndarray]
    evaluated_at: np.ndarray
    status: np.ndarray
    stopped_at: np.ndarray
    objective: str
    mode: str
    info: dict[str, Any]
    best_params: Any

    @property
    def final_losses(self) -> np.ndarray:
        """Training loss over the last tenth of the steps, of those that a point had; `[points, seeds]`."""
        found = np.empty(self.status.shape, self.losses.dtype)
        for at in np.unique(self.stopped_at):
            here = self.stopped_at == at
            found[here] = final_losses(self.losses[here, :, : max(at, 1)])
        return found

    @property
    def values(self) -> np.ndarray:
        """The objective of every lane, `[points, seeds]`."""
        return self.final_losses if self.objective == "train_loss" else self.metrics[self.objective]

    @property
    def scores(self) -> np.ndarray:
        """What ranks the lanes, lower being better, infinite for diverged and pruned ones; `[points, seeds]`."""
        return np.where(self.status == "pruned", np.inf, self.reached)

    @property
    def reached(self) -> np.ndarray:
        """The scores, those of pruned lanes at what they had reached when they were stopped; `[points, seeds]`."""
        return scores(self.values, self.status, self.mode)

    @property
    def starts(self) -> np.ndarray:
        """The training loss of each seed before the first update, `[seeds]`; infinite where it is
        at no point finite.

        All points of a seed start with the same parameters and batch, and so with nearly the same
        loss: the median's.
        """
        first = np.sort(
            np.where(np.isfinite(self.losses[..., 0]), self.losses[..., 0], np.inf), axis=0
        )
        middle = np.maximum(np.isfinite(first).sum(axis=0) - 1, 0) // 2
        return np.take_along_axis(first, middle[None], axis=0)[0]

    @property
    def ranking(self) -> np.ndarray:
        """Indices of the points from best to worst by their score over seeds, `[points]`.

        Behind those that were trained to the end come the pruned ones, the later the better, and at
        last the diverged.
        """
        # Among the diverged, those with fewer diverged seeds come first.
        diverged = np.sum(self.status == "diverged", axis=1)
        return np.lexsort(
            (
                np.mean(self.reached, axis=1),
                -self.stopped_at,
                diverged,
                np.mean(self.scores, axis=1),
            )
        )

    @property
    def best_lane(self) -> tuple[int, int]:
        """Point and seed of the run whose parameters are kept: the best point's best seed."""
        point = int(self.ranking[0])
        return point, int(np.argmin(self.scores[point]))

    @property
    def best(self) -> Best:
        """Hyperparameters of the best point over all seeds, and the final parameters of its best
        seed.

        Raises:
          ValueError: if every point diverged with some seed.
        """
        point = self.ranking[0]
        if not np.all(np.isfinite(self.scores[point])):
            raise ValueError(
                "every point diverged with some seed, so there is no best one; try lower rates"
            )
        return Best(
            {name: float(values[point]) for name, values in self.hyperparams.items()},
            self.best_params,
        )

    def optimum(self, name: str | None = None) -> Optimum:
        """The best value of one hyperparameter between the grid's points, with an interval.

        The mean score over seeds is fitted by a parabola in the logarithm of the value, around the
        best point and with the other hyperparameters at their best. `print` it to read what it says
        in words.

        Args:
          name: The hyperparameter; by default the first of the grid.

        Returns:
          `Optimum(rate, interval, at_edge)`. The interval holds 95 % of the optima of resampled
          seeds, widened for their small number, and never claims more than half the grid's spacing.
          `at_edge` is `"low"` or `"high"` when the best point is the grid's first or last: then
          `rate` is that point, the interval is open on that side
          (0 or infinity), and `extend()` is the grid to try next; else it is `None`.

        Raises:
          ValueError: if `name` is unknown, a value is not positive, every point diverged, or the
            points are scattered over several hyperparameters, so that none differ in this one
            alone.
        """
        name, line = self._line(name)
        return optimum(self.hyperparams[name][line], self.scores[line])

    def explain(self) -> str:
        """How the sweep was run, and why: lanes to a call, threads, devices, convolutions, and what was timed."""
        seconds = f"{self.info['compile_seconds']:.3g} s to compile, {self.info['run_seconds']:.3g} s to run"
        return "\n".join(
            [f"{self.info['plan']}; {seconds}", *(f"- {reason}" for reason in self.info["reasons"])]
        )

    def _line(self, name: str | None, *, scattered: bool = False) -> tuple[str, np.ndarray]:
        """The name, by default the grid's first, and the points that differ from the best one in it alone."""
        name = next(iter(self.hyperparams)) if name is None else name
        _require.choice("name", name, self.hyperparams)
        best = self.ranking[0]
        others = [
            values == values[best] for other, values in self.hyperparams.items() if other != name
        ]
        line = np.flatnonzero(np.all([np.ones(len(self.status), bool), *others], axis=0))
        if len(line) == 1 and len(np.unique(self.hyperparams[name])) > 1 and not scattered:
            raise ValueError(
                f"no two points differ in {name!r} alone, as those of a product do: `best` is the best of scattered"
                f" points, and `lrax.sweep` with a grid of {name!r} around it has an optimum"
            )
        return name, line


def final_losses(losses: np.ndarray) -> np.ndarray:
    """Mean loss over the last tenth of the steps."""
    return losses[..., -max(losses.shape[-1] // 10, 1) :].mean(axis=-1)


def scores(values: np.ndarray, status: np.ndarray, mode: str) -> np.ndarray:
    """The objective with the sign that makes lower better, infinite where a lane diverged or has no number."""
    values = values if mode == "min" else -values
    return np.where((status == "diverged") | np.isnan(values), np.inf, values)
