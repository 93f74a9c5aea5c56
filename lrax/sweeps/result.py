"""`SweepResult`: what a sweep found."""

import dataclasses
import os
from typing import Any, Literal

import numpy as np

from .. import _require
from . import grid, merging, saving, statistics
from .best import Choice, Params, State
from .statistics import Paired
from .views import Views

Grid = dict[str, Any]  # {name: values}: an array, or a list of the user's own choices


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SweepResult(Views):
    """What a sweep found: curves, metrics and a status for every lane; made by `lrax.sweep`.

    A *lane* is one point with one seed. Points are in the order of the product, in which the grid's
    first name changes slowest. Arrays are NumPy's. An axis of records has one entry for each time
    at which something was recorded.

    Attributes:
      hyperparams: `{name: [points]}`, the values at the points, or the indices of choices such as
        schedules.
      choices: `{name: list}`, the objects of each axis of choices.
      labels: `{name: list}`, a text for each choice.
      seeds: Names of the seeds, `[seeds]`.
      losses: `[points, seeds, records]`, the training loss before each update; NaN after a point
        was stopped. A result of `sweep_function` has `curves` in its place, and reading `losses`
        raises a ValueError.
      loss_every: The number of updates from one recorded loss to the next, 1 unless asked for.
      steps: Updates that were requested.
      aux: `{name: [points, seeds, records]}`, the scalars of the loss's `aux`, as often as losses.
      monitors: `{name: [points, seeds, records]}`, what the monitors returned at the updates 0,
        `record_every`, `2 * record_every`, ...
      record_every: The number of updates from one record of the monitors to the next.
      metrics: `{name: [points, seeds]}`, what `evaluate` returned at the end, or the scalars of a
        `sweep_function`.
      curves: `{name: [points, seeds, time]}`, the curves of a `sweep_function`.
      evaluations: `{name: [points, seeds, evaluations]}`, what `evaluate` returned along the way.
      evaluated_at: `[evaluations]`, after how many updates each of these was made.
      status: `[points, seeds]`: `"done"`, `"diverged"`, `"interrupted"`, or `"pruned"` for a lane
        of a point that the `stop` rule stopped.
      stopped_at: `[points]`, after how many updates a point was stopped or came to its end.
      causes: `[points, seeds]`, why a lane diverged, such as "loss is NaN from update 12"; else "".
      objective: Name of what ranks the points: `"train_loss"` or one of `metrics` or `curves`.
      mode: Whether a low or a high objective is good: `"min"` or `"max"`.
      select: Which evaluation of a lane ranks it: `"last"`, `"best"`, or `"tail"`, the mean of the
        last tenth. If the training loss is the objective, it is always the mean of its last tenth.
      info: Device, plan, versions, steps, and the seconds that compiling and running took.
      best_params: The parameters at the end of the best lane, or `None`. `best` has them too.
      best_state: The model's state of that lane, or `None`.
      best_opt_state: The optimizer's state of that lane, or `None`.
      kept: The state of all lanes for `resume=`, or `None`; `lanes` reads it.
    """

    def one_standard_error(self, name: str | None = None, *, paired: bool = False) -> float:
        r"""The smallest value whose mean score is within one standard error of the best one's.

        $$\min \{ \eta_p : \bar s_p \le \bar s_b + \mathrm{sd}(s_b) / \sqrt n \}$$

        with the scores $s_p$ of point $p$ over $n$ seeds, and $b$ the best point. Use it to choose
        with caution among rates that do not differ beyond the noise of the seeds: losses rise more
        steeply above the optimum than below it. The other hyperparameters are at their best.

        Args:
          name: The hyperparameter; by default the first numeric one of the grid.
          paired: Whether the standard error is that of the differences to the best one, seed by
            seed, and not that of the best one's own scores. With common random numbers it is much
            smaller, so the choice is closer to the best.

        Returns:
          One of the grid's values.

        Raises:
          ValueError: if `name` is unknown or an axis of choices, there are fewer than two seeds,
            or there is no best point.

        Example:
          >>> task = lrax.tasks.diabetes()
          >>> result = lrax.sweep(task, optax.adam, lrax.log_grid(1e-4, 1e-1, 7), steps=50, seeds=3)
          >>> bool(result.one_standard_error() <= result.best.hyperparams["learning_rate"])
          True

        Reference:
          Breiman, Friedman, Olshen and Stone, Classification and Regression Trees (1984), section
          3.4.3.
        """
        _require.flag("paired", paired)
        name, line = self._line(name, numeric=True)
        self._require_best()
        return statistics.one_standard_error(
            self.hyperparams[name][line], self.scores[line], pair=paired
        )

    def sensitivity(
        self,
        name: str | None = None,
        *,
        initial: float | None = None,
        low: float = 0.0,
        high: float = np.inf,
    ) -> float:
        r"""How much worse a rate picked blindly is than the best one, in units of the objective.

        $$\mathbb{E}_\eta [\ell(\eta)] - \min_\eta \ell(\eta), \qquad
        \ell(\eta) = \frac{1}{n} \sum_s \min(\ell_s(\eta), \ell_{s0})$$

        with the objective $\ell_s(\eta)$ of seed $s$ of $n$, and its value $\ell_{s0}$ before the
        first update. A diverged lane counts as $\ell_{s0}$. Use it to compare optimizers, warmups
        or models over the same range of rates: one with a small sensitivity needs little tuning.
        The rate is uniform on the logarithmic scale, and the other hyperparameters are at their
        best.

        Args:
          name: The hyperparameter; by default the first numeric one of the grid.
          initial: The objective before the first update. By default the first training losses, or
            for a metric what `evaluate` gave at step 0 if the result has that.
          low: The least value that counts, at least 0.
          high: The greatest value that counts.

        Returns:
          The sensitivity, at least 0.

        Raises:
          ValueError: if `name` is unknown or an axis of choices, a value is not positive, none lies
            from `low` to `high`, the initial objective is not known, or there is no best point.

        Example:
          >>> task = lrax.tasks.diabetes()
          >>> result = lrax.sweep(task, optax.adam, lrax.log_grid(1e-4, 1e-1, 7), steps=50, seeds=3)
          >>> bool(0 < result.sensitivity() < result.losses[:, :, 0].mean())
          True

        Reference:
          Wortsman et al., Small-scale proxies for large-scale Transformer training instabilities
          (2023), arXiv:2309.14322, section 2.2, with rates from 3e-4 to 3e-1.
        """
        name, line = self._line(name, numeric=True)
        self._require_best()
        low = _require.number("low", low)
        high = _require.number("high", high)
        # The range in question may be narrower than the grid.
        rates = self.hyperparams[name][line]
        kept = (rates >= low) & (rates <= high)
        if not kept.any():
            raise ValueError(
                f"`low` and `high` must hold values of {name!r} between them, got {low} and {high}"
            )
        line = line[kept]
        # With the sign of the scores, for which lower is better.
        start = self._initial(initial)
        start = start if self.mode == "min" else -start
        # A pruned lane counts with the score that it had when it stopped.
        return statistics.sensitivity(rates[kept], self.reached[line], start[line])

    def _initial(self, given: float | None) -> np.ndarray:
        """The objective of every lane before its first update."""
        if given is not None:
            number = _require.number("initial", given)
            if not np.isfinite(number):
                raise ValueError(f"`initial` must be finite, got {given!r}")
            return np.full(self.status.shape, number, np.float64)
        if self.objective == "train_loss":
            # A lane whose first loss is not finite takes that of the other lanes of its seed.
            first = self.losses[..., 0].astype(np.float64)
            return np.where(np.isfinite(first), first, self.starts)
        # An evaluation before the first update, if there was one.
        if self.objective in self.evaluations and np.any(self.evaluated_at == 0):
            return self.evaluations[self.objective][..., int(np.argmax(self.evaluated_at == 0))]
        hint = f"`task.evaluate(task.init(key))[{self.objective!r}]`"
        raise ValueError(
            f"`initial` must be given for the objective {self.objective!r}: the sweep kept no value"
            " of it from before the first update"
            + (f"; for most tasks it is {hint}" if self.has_losses else "")
        )

    def paired(self, reference: int | None = None, *, confidence: float = 0.95) -> Paired:
        r"""Compares every point with the best one, seed by seed.

        $$d_{ps} = s_{ps} - s_{bs}, \qquad \bar d_p \pm t_{n-1} \, \mathrm{sd}(d_p) / \sqrt n$$

        with the score $s_{ps}$ of point $p$ and seed $s$, $n$ seeds, and the best point $b$. Use it
        to see which points differ beyond the noise of the seeds. With common random numbers
        the luck that all points of a seed share cancels in the differences, so the intervals are
        much narrower than those of the points' own means. Positive is worse. The p-value is
        Fisher's exact one, over all flips of sign. With n seeds it is never below $2^{1-n}$, so
        take six seeds or more to get below 0.05. Neither the p-value nor the interval corrects for
        the choice of the best point among many; for that, `lrax.confirm` trains the first points
        again. Measured 95 % intervals hold the truth in 94 to 96 % of sweeps next to a smooth
        optimum, but in 75 to 90 % at rates where only a few seeds fail: few seeds do not show that.

        A difference is infinite where one of the two lanes diverged, and NaN where both did.
        Nothing is known of a point that was pruned, or interrupted before the others: its
        differences, mean and p-value are NaN, and its interval is unbounded. `status` says so.

        Args:
          reference: Index of the point to compare to; by default the best one.
          confidence: Coverage of the intervals, in (0, 1).

        Returns:
          `Paired(reference, differences, mean, standard_error, interval, p_value, status)`, arrays
          over the points. `status` is `"done"` where both points have a score with every seed;
          else `"diverged"`, `"pruned"` or `"interrupted"`.

        Raises:
          ValueError: if there are fewer than two seeds, the reference was not trained to the end,
            or there is no best point.
          TypeError: if `reference` is not an int.

        Example:
          >>> task = lrax.tasks.diabetes()
          >>> result = lrax.sweep(task, optax.adam, lrax.log_grid(1e-4, 1e-1, 4), steps=50, seeds=3)
          >>> pairs = result.paired()
          >>> bool(pairs.mean.argmin() == pairs.reference)
          True

        Reference:
          Fisher, The Design of Experiments (1935), section 21.
        """
        if reference is None:
            self._require_best()
            reference = int(self.ranking[0])
        # A negative index would make `Paired.reference` differ from the indices in `ranking`.
        elif _require.count("reference", reference, 0) >= len(self.status):
            raise ValueError(
                f"`reference` must be an index of one of {len(self.status)} points, got {reference}"
            )
        return statistics.paired(self.scores, reference, confidence, self.status)

    def extend(
        self, n: int = 4, *, name: str | None = None, edge: Literal["low", "high"] | None = None
    ) -> Grid:
        """The grid to try next if the best point is at an edge: more values beyond that edge.

        Their ratio is that of the two values at the edge. Merge both results to see all points:
        `result | lrax.sweep(task, optimizer, result.extend(), steps=..., seeds=...)`.

        Args:
          n: Number of values, at least 1.
          name: The hyperparameter; by default the first numeric one of the grid.
          edge: `"low"` or `"high"`; by default the edge of the best point.

        Returns:
          A grid for `lrax.sweep`, with all values of the other hyperparameters.

        Raises:
          ValueError: if the best point is inside the grid and `edge` is not given, `name` is
            unknown or an axis of choices, `edge` is neither "low" nor "high", or there are fewer
            than two values or one that is not positive.
          TypeError: if `n` is not an int.

        Example:
          >>> task = lrax.tasks.diabetes()
          >>> result = lrax.sweep(task, optax.adam, [1e-5, 1e-4], steps=50, seeds=2)
          >>> result.extend(2)
          {'learning_rate': array([0.001, 0.01 ])}
          >>> result | lrax.sweep(task, optax.adam, result.extend(2), steps=50, seeds=2)
          SweepResult(4 points x 2 seeds x 50 steps; best learning_rate=0.01)
        """
        n = _require.count("n", n, 1)
        name, line = self._line(name, numeric=True)
        # The ratio beyond an edge is that of the two values next to it.
        rates = np.unique(self.hyperparams[name][line])
        if len(rates) < 2 or not 0 < rates[0] <= rates[-1] < np.inf:
            raise ValueError(
                f"the grid must have two values of {name!r}, positive and finite, to extend it,"
                f" got {rates}"
            )
        if edge is None:
            edge = self.optimum(name).at_edge
            if edge is None:
                raise ValueError(
                    f"`edge` must be given to extend the grid, because the best {name!r} is inside"
                    " of it; `zoom()` refines it"
                )
        _require.choice("edge", edge, ("low", "high"))
        # All values of the other hyperparameters, for a product with the new values.
        everywhere = np.arange(len(self.status))
        others = {other: self._values(other, everywhere) for other in self.hyperparams}
        return {**others, name: grid.beyond(rates, edge, n)}

    def zoom(self, n: int = 1, *, name: str | None = None) -> Grid:
        """The grid to try next if the optimum is inside the grid: new values around it.

        The new values divide the gaps of the grid that the interval of `optimum()` overlaps. If
        these are many, the noise of the seeds is larger than the spacing of the grid. Then more
        seeds help more than more values.

        Args:
          n: Number of values to put into each gap, at least 1.
          name: The hyperparameter; by default the first numeric one of the grid.

        Returns:
          A grid for `lrax.sweep`, with the other hyperparameters at their best.

        Raises:
          ValueError: if the best point is at the edge of the grid, `name` is unknown or an axis of
            choices, or a value is not positive.
          TypeError: if `n` is not an int.

        Example:
          >>> task = lrax.tasks.diabetes()
          >>> result = lrax.sweep(task, optax.adam, lrax.log_grid(1e-4, 1.0, 5), steps=50, seeds=5)
          >>> result.zoom()  # only in the gaps around 0.01
          {'learning_rate': array([0.00316228, 0.03162278])}
        """
        n = _require.count("n", n, 1)
        name, line = self._line(name, numeric=True)
        found = self.optimum(name)
        if found.at_edge is not None:
            raise ValueError(
                f"the best {name!r} is at the {found.at_edge} edge of the grid: `extend()` it first"
            )
        # All points of the line share the other values with the best one.
        best = {other: self._values(other, line[:1]) for other in self.hyperparams}
        return {**best, name: grid.between(self.hyperparams[name][line], *found.interval, n)}

    def _values(self, name: str, points: np.ndarray) -> np.ndarray | list[Choice]:
        """The different values of a hyperparameter at some points, as the axis of a grid."""
        values = np.unique(self.hyperparams[name][points])
        if name not in self.labels:
            return values
        # A result from a file may have labels in place of choices, and a label cannot be trained.
        if name not in self.choices:
            raise ValueError(
                f"the file of this result holds labels in place of the choices of {name!r}, so"
                " there is no grid of them"
            )
        return [self.choices[name][int(value)] for value in values]

    def merge(self, *others: "SweepResult") -> "SweepResult":
        """Joins results of the same task, optimizer, seeds and steps into one with all points.

        `a | b` is `a.merge(b)`. With common random numbers, the first losses show whether the tasks
        and seeds are the same; if the losses differ, this raises an error.

        Args:
          others: Results of other points. A point that an earlier result already has is dropped.

        Returns:
          A `SweepResult` with the points of all results, this one's first. Its seconds are sums;
          other facts of `info` are this one's.

        Raises:
          ValueError: if they differ in what they must have in common; it names the difference.
          TypeError: if one is not a `SweepResult`.
        """
        merged = self
        # In order, so that a point that is in two results is taken from the earlier one.
        for i, other in enumerate(others):
            if not isinstance(other, SweepResult):
                raise TypeError(f"`others[{i}]` must be a SweepResult, got {type(other).__name__}")
            merged = merging.merged(merged, other)
        return merged

    def __or__(self, other: "SweepResult") -> "SweepResult":
        return self.merge(other) if isinstance(other, SweepResult) else NotImplemented

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the result to one `.npz` file of arrays and a JSON text, whole or not at all.

        `SweepResult.load` reads it, and so does `numpy.load` without lrax. The schedules of an axis
        of choices are stored if `Schedule.to_dict` can describe all of them. Of other choices, such
        as functions, only the labels are stored. `kept`, the state of all lanes for `resume=`, is
        not stored: use `checkpoint=` for that.

        Args:
          path: Where; `.npz` is added if it has no suffix.

        Raises:
          OSError: if it cannot be written there; a file that was there before is kept.
        """
        saving.save(self, _require.path("path", path))

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], like: Params | tuple[Params, State] = None
    ) -> "SweepResult":
        """Reads a result that `save` wrote.

        Loading runs no code: the file holds arrays and JSON.

        Args:
          path: The file.
          like: What `task.init(key)` returns: a pytree with the structure of the best parameters,
            or a pair (params, state) of them and the model's state. It is needed for pytrees of
            other nodes than dicts, lists and tuples, as those of Flax NNX and Equinox. Without it
            such nodes come back as dicts by field name; so does the state if only the parameters
            are given.

        Returns:
          The `SweepResult`.

        Raises:
          ValueError: if the file is not one that `save` wrote, or not whole, or `like` has another
            structure.
          FileNotFoundError: if there is no such file.
        """
        return cls(**saving.load(_require.path("path", path), like))

    def __repr__(self) -> str:
        points, seeds = self.status.shape
        size = f"{points} points x {seeds} seeds"
        size += f" x {self.done} steps" if self.has_losses else ""
        # Lanes that are done need no mention.
        words = ("diverged", "pruned", "interrupted")
        counts = {word: int(np.sum(self.status == word)) for word in words}
        lost = "".join(f", {count} {word}" for word, count in counts.items() if count)
        if reason := self.why_no_best:
            return f"SweepResult({size}{lost}; no best: {reason})"
        first = int(self.ranking[0])
        best = ", ".join(f"{name}={self.shown(name, first)}" for name in self.hyperparams)
        return f"SweepResult({size}{lost}; best {best})"
