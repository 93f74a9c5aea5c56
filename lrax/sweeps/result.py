"""`SweepResult`: what a sweep found."""

import dataclasses
import os
from typing import Any, Literal

import numpy as np

from .. import _require
from . import grid, merging, saving, statistics
from .best import Params, State
from .statistics import Paired
from .views import Views

Grid = dict[str, Any]  # {name: values}: an array, or a list of the user's own choices


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SweepResult(Views):
    """What a sweep found: curves, metrics and a status for every lane; made by `lrax.sweep`.

    Arrays are NumPy's. Points are in the order of the product, with the grid's first name
    outermost.

    A *lane* is one point with one seed. Fields by name are dicts; an axis of records is as long as
    there were times to record at.

    Attributes:
      hyperparams: `{name: [points]}`, the values at the points. On an axis of choices, such as
        schedules, the index of the choice.
      choices: `{name: list}`, the objects of each axis of choices.
      labels: `{name: list}`, a text for each choice.
      seeds: Names of the seeds, `[seeds]`.
      losses: `[points, seeds, records]`, the training loss before each update; NaN after a point
        was stopped. Reading it raises a ValueError for a result of `sweep_function`, which has
        `curves` in its place.
      loss_every: The number of updates from one recorded loss to the next, 1 unless asked for.
      steps: Updates that were asked for.
      aux: `{name: [points, seeds, records]}`, the scalars of the loss's `aux`, as often as losses.
      monitors: `{name: [points, seeds, records]}`, what the monitors gave at the updates 0,
        `record_every`, 2 `record_every`, ...
      record_every: The number of updates from one record of the monitors to the next.
      metrics: `{name: [points, seeds]}`, what `evaluate` gave at the end; of a `sweep_function` its
        scalars.
      curves: `{name: [points, seeds, time]}`, the curves of a `sweep_function`.
      evaluations: `{name: [points, seeds, evaluations]}`, what `evaluate` gave along the way.
      evaluated_at: `[evaluations]`, after how many updates.
      status: `[points, seeds]`: `"done"`; `"diverged"`; `"pruned"` for a lane of a point that
        `stop` gave up; `"interrupted"`.
      stopped_at: `[points]`, after how many updates a point was stopped, or how many it had.
      causes: `[points, seeds]`, why a lane diverged, such as "loss is NaN from update 12"; else "".
      objective: Name of what ranks the points: `"train_loss"` or one of `metrics` or `curves`.
      mode: Whether a low or a high objective is good: `"min"` or `"max"`.
      select: Which evaluation of a lane ranks it: the `"last"`, the `"best"`, or the mean of the
        last tenth, `"tail"`. The training loss is always the mean of its last tenth.
      info: Device, versions, steps, and the seconds that compiling and running took.
      best_params: The parameters at the end of the best lane, or `None`. `best` has them too.
      best_state: The model's state beside them, or `None`.
      best_opt_state: The optimizer's state of that lane, or `None`.
      kept: The state of all lanes for `resume=`, or `None`.
    """

    def one_standard_error(self, name: str | None = None, *, paired: bool = False) -> float:
        r"""The smallest value whose mean score is within one standard error of the best one's.

        $$\min \{ \eta_p : \bar s_p \le \bar s_b + \mathrm{sd}(s_b) / \sqrt n \}$$

        Use it for a cautious choice among rates that the seeds do not tell apart, because losses
        rise more steeply above the optimum than below it. The other hyperparameters are at their
        best.

        Args:
          name: The hyperparameter; by default the first numeric one of the grid.
          paired: Whether to take the standard error of the differences to the best one by seed, in
            place of that of the best one's own scores. With common random numbers it is much
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
        r"""How much is lost, in units of the objective, by a rate picked blindly from the grid.

        $$\mathbb{E}_\eta [\min(\ell(\eta), \ell_0) - \min_\eta \ell(\eta)]$$

        with $\ell$ the mean over seeds and $\ell_0$ the objective before the first update. A
        diverged lane counts as $\ell_0$. Use it to compare optimizers, warmups or models over the
        same range: a small one needs little tuning. Rates count by their share of the logarithmic
        scale; the other hyperparameters are at their best.

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
        low, high = _require.number("low", low), _require.number("high", high)
        # The range in question may be narrower than the grid.
        rates = self.hyperparams[name][line]
        kept = (rates >= low) & (rates <= high)
        if not kept.any():
            raise ValueError(
                f"`low` and `high` must hold values of {name!r} between them, got {low} and {high}"
            )
        line = line[kept]
        start = self._initial(initial)
        # With the sign of the scores, for which lower is better.
        start = start if self.mode == "min" else -start
        return statistics.sensitivity(rates[kept], self.reached[line], start[line])

    def _initial(self, given: float | None) -> np.ndarray:
        """The objective of every lane before its first update."""
        if given is not None:
            number = _require.number("initial", given)
            if not np.isfinite(number):
                raise ValueError(f"`initial` must be finite, got {given!r}")
            return np.full(self.status.shape, number, np.float64)
        if self.objective == "train_loss":
            # If a lane's first loss is not finite, that of the other lanes of its seed is taken.
            first = self.losses[..., 0].astype(np.float64)
            return np.where(np.isfinite(first), first, self.starts)
        if self.objective in self.evaluations and np.any(self.evaluated_at == 0):
            return self.evaluations[self.objective][..., int(np.argmax(self.evaluated_at == 0))]
        hint = f"`task.evaluate(task.init(key))[{self.objective!r}]`"
        raise ValueError(
            f"`initial` must be given for the objective {self.objective!r}: the sweep kept no value"
            " of it from before the first update"
            + (f"; for most tasks it is {hint}" if self.has_losses else "")
        )

    def paired(self, reference: int | None = None, *, confidence: float = 0.95) -> Paired:
        r"""Every point against the best one, seed by seed.

        $$d_{ps} = s_{ps} - s_{bs}, \qquad \bar d_p \pm t_{n-1} \, \mathrm{sd}(d_p) / \sqrt n$$

        Use it to see which points the seeds tell apart. With common random numbers the luck that
        the points of a seed share cancels, and the intervals are much narrower than those of the
        points' own means. Positive is worse. The p-value is Fisher's exact one, over all changes of
        sign. With n seeds it is never below $2^{1-n}$, so take six seeds or more to get below 0.05.
        Neither it nor the interval knows that the best point was picked for being best:
        `lrax.confirm` trains the first ones again.

        Args:
          reference: Index of the point to compare to; by default the best one.
          confidence: Coverage of the intervals, in (0, 1).

        Returns:
          `Paired(reference, differences, mean, standard_error, interval, p_value)`, arrays over the
          points.

        Raises:
          ValueError: if there are fewer than two seeds, a lane of the reference diverged, or there
            is no best point.
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
        # An index from the end would be taken for another point by `Paired.reference`.
        elif _require.count("reference", reference, 0) >= len(self.status):
            raise ValueError(
                f"`reference` must be an index of one of {len(self.status)} points, got {reference}"
            )
        return statistics.paired(self.scores, reference, confidence)

    def extend(
        self, n: int = 4, *, name: str | None = None, edge: Literal["low", "high"] | None = None
    ) -> Grid:
        """The grid to try next where the best point is at the edge: more values beyond the edge.

        They go on at the same ratio. `result | lrax.sweep(task, optimizer, result.extend(),
        steps=..., seeds=...)` is the whole picture.

        Args:
          n: Number of values, at least 1.
          name: The hyperparameter; by default the first numeric one of the grid.
          edge: `"low"` or `"high"`; by default the edge of the best point.

        Returns:
          A grid for `lrax.sweep`, with all values of the other hyperparameters.

        Raises:
          ValueError: if the best point is inside the grid and `edge` is not given, `name` is
            unknown or an axis of choices, `edge` is another word, or there are not two positive
            values that tell the ratio.
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
        everywhere = np.arange(len(self.status))
        others = {other: self._values(other, everywhere) for other in self.hyperparams}
        return {**others, name: grid.beyond(rates, edge, n)}

    def zoom(self, n: int = 1, *, name: str | None = None) -> Grid:
        """The grid to try next where the optimum is inside the grid: values around it.

        The gaps that the interval of `optimum()` touches are divided. If it spans many gaps, the
        seeds differ by more than the grid is coarse: then more seeds say more than more values.

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
          >>> result.zoom()  # not between 1e-4 and 1e-3
          {'learning_rate': array([0.00316228, 0.03162278, 0.31622777])}
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

    def _values(self, name: str, points: np.ndarray) -> Any:
        """The values of a hyperparameter at some points, each once, as the axis of a grid."""
        values = np.unique(self.hyperparams[name][points])
        if name not in self.labels:
            return values
        # A file keeps no functions, and a label cannot be trained.
        if name not in self.choices:
            raise ValueError(
                f"the file of this result holds labels in place of the choices of {name!r}, so"
                " there is no grid of them"
            )
        return [self.choices[name][int(value)] for value in values]

    def merge(self, *others: "SweepResult") -> "SweepResult":
        """One result of several, of the same task, optimizer, seeds and steps.

        `a | b` is `a.merge(b)`. With common random numbers, the first losses tell whether the tasks
        and seeds are indeed the same.

        Args:
          others: Results of other points. Points that are there already are left out.

        Returns:
          A `SweepResult` with the points of all, this one's first. Seconds are added up; other
          facts are this one's.

        Raises:
          ValueError: if they differ in what they must have in common; it names the difference.
          TypeError: if one is not a `SweepResult`.
        """
        merged = self
        # One after the other, so that a point of two results is taken from the first.
        for i, other in enumerate(others):
            if not isinstance(other, SweepResult):
                raise TypeError(f"`others[{i}]` must be a SweepResult, got {type(other).__name__}")
            merged = merging.merged(merged, other)
        return merged

    def __or__(self, other: "SweepResult") -> "SweepResult":
        return self.merge(other) if isinstance(other, SweepResult) else NotImplemented

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the result to one `.npz` file of arrays and a JSON text, whole or not at all.

        `SweepResult.load` reads it, and so does `numpy.load` without lrax. An axis of choices is
        stored whole if all of them are schedules that `Schedule.to_dict` can describe and
        `Schedule.from_dict` can restore. Otherwise its labels alone are stored, as for functions
        and for schedules that hold a function.
        `kept`, the state of all lanes for `resume=`, is not stored: use `checkpoint=` for that.

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

        Loading can run no code: the file holds arrays and JSON.

        Args:
          path: The file.
          like: A pytree with the structure of the best parameters, or a pair (params, state) with
            those of the parameters and of the model's state: what `task.init(key)` returns. Needed
            only where they are more than dicts, lists and tuples, as those of Flax NNX and Equinox
            are. Without it other nodes come back as dicts by field name. With the parameters alone
            this still holds for the state.

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
        words = [str(word) for word in ("diverged", "pruned", "interrupted")]
        # Only what went wrong is worth the room.
        counts = {word: int(np.sum(self.status == word)) for word in words}
        lost = "".join(f", {count} {word}" for word, count in counts.items() if count)
        if reason := self.why_no_best:
            return f"SweepResult({size}{lost}; no best: {reason})"
        first = int(self.ranking[0])
        best = ", ".join(f"{name}={self.shown(name, first)}" for name in self.hyperparams)
        return f"SweepResult({size}{lost}; best {best})"
