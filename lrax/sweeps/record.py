"""`Record`: the arrays of a sweep, the ranking of its points, and the best one."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Self, TypeVar

import numpy as np

from .. import _require
from ..training.tail import tail_mean
from .best import Best, Choice, Params, State, Value
from .direction import Mode, mode_of
from .lanes import Lanes, lanes_of
from .optimum import Optimum, optimum

Kept = Any  # the `State` of all lanes, or None
Field = Any  # of a `Record`
R = TypeVar("R", bound="Record")
Select = Literal["last", "best", "tail"]


class Losses:
    """The field `losses`: reading it is an error if the sweep recorded none.

    A plain `None` would fail later, with an error that says nothing of `sweep_function`.
    """

    def __get__(self, record: "Record | None", owner: type) -> np.ndarray:
        if record is None:
            # A dataclass reads the class's attribute as the field's default. There is none.
            raise AttributeError("losses")
        losses = record.__dict__["losses"]
        if losses is None:
            raise ValueError(
                "a result of `sweep_function` has no `.losses`; its curves are in `.curves`, by the"
                f" names {list(record.curves)}"
            )
        return losses

    def __set__(self, record: "Record", losses: np.ndarray | None) -> None:
        record.__dict__["losses"] = losses


def _no_times() -> np.ndarray:
    """The default of `evaluated_at`."""
    return np.zeros(0, int)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Record:
    """The arrays of a `SweepResult`, which describes them, and the ranking of its points."""

    hyperparams: dict[str, np.ndarray]
    choices: dict[str, list[Choice]] = dataclasses.field(default_factory=dict)
    labels: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    seeds: list[str]
    losses: Losses = Losses()
    loss_every: int = 1
    steps: int
    aux: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    monitors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    record_every: int = 1
    metrics: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    curves: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    evaluations: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    evaluated_at: np.ndarray = dataclasses.field(default_factory=_no_times)
    status: np.ndarray
    stopped_at: np.ndarray
    causes: np.ndarray
    objective: str
    mode: Mode
    select: Select = "last"
    info: dict[str, Any]
    best_params: Params = None
    best_state: State = None
    best_opt_state: State = None
    kept: Kept = None

    @property
    def has_losses(self) -> bool:
        """Whether training losses were recorded; a result of `sweep_function` has none."""
        return self.__dict__["losses"] is not None

    @property
    def done(self) -> int:
        """Updates made, below `steps` if the sweep was interrupted."""
        if self.has_losses and self.loss_every == 1:
            return self.losses.shape[-1]
        # Thinned losses do not show the last update. The points that were never stopped have it in
        # `stopped_at`.
        return int(self.stopped_at.max())

    @property
    def final_losses(self) -> np.ndarray:
        """Mean training loss over the last tenth of the updates that a point had.

        `[points, seeds]`.
        """
        # Losses are recorded at the updates 0, `loss_every`, ..., so their number is rounded up.
        records = np.maximum(-(-self.stopped_at // self.loss_every), 1)
        return _by_length(self.losses, records, tail_mean)

    @property
    def values(self) -> np.ndarray:
        """The objective of every lane, as `select` says; `[points, seeds]`."""
        if self.objective == "train_loss":
            return self.final_losses
        # A curve of a `sweep_function` may be the objective too: then its last, best or tail value
        # counts.
        if self.objective in self.curves:
            return self._selected(self.curves[self.objective])
        if self.select == "last" or self.objective not in self.evaluations:
            return self.metrics[self.objective]
        return self._selected(self._evaluations(self.objective))

    def _evaluations(self, name: str) -> np.ndarray:
        """All evaluations of a metric, the one at the end included; NaN after a point's stop."""
        values = self.evaluations[name]
        if self.evaluated_at[-1] >= self.done:
            return values
        # The evaluation at the end is in `metrics`. For a point that was stopped before, `metrics`
        # has what was measured at its stop, which its `evaluations` already have.
        last = np.where(
            self.stopped_at[:, None] > self.evaluated_at[-1], self.metrics[name], np.nan
        )
        return np.concatenate([values, last[..., None]], axis=-1)

    def _selected(self, values: np.ndarray) -> np.ndarray:
        """One number for each lane, from its evaluations `[points, seeds, evaluations]`."""
        if self.select == "best":
            # `fmin` and `fmax` skip NaN, which stands where a lane was not evaluated.
            better = np.fmin if self.mode == "min" else np.fmax
            return better.reduce(values, axis=-1)
        # A curve ends with its last number: after its point was stopped there is only NaN.
        known = np.arange(1, values.shape[-1] + 1) * ~np.isnan(values).all(axis=1)
        lengths = np.maximum(known.max(axis=-1), 1)
        last = lambda curves: curves[..., -1]
        return _by_length(values, lengths, last if self.select == "last" else tail_mean)

    @property
    def scores(self) -> np.ndarray:
        """The numbers that rank the lanes, `[points, seeds]`. Lower is better.

        They are infinite for diverged and pruned lanes, and for interrupted lanes that are behind
        the others.
        """
        behind = (self.status == "interrupted") & (self.stopped_at < self.done)[:, None]
        return np.where((self.status == "pruned") | behind, np.inf, self.reached)

    @property
    def reached(self) -> np.ndarray:
        """As `scores`, but a pruned lane has the score that it had when it stopped.

        It ranks pruned points among each other.
        """
        return scores(self.values, self.status, self.mode)

    @property
    def starts(self) -> np.ndarray:
        """The training loss of each seed before the first update, `[seeds]`.

        All points of a seed start with the same parameters and batch, and so with nearly the same
        loss. This is the median over points, infinite if no point has a finite one.
        """
        # Sorted with infinity in place of NaN. `np.nanmedian` would warn where none is finite.
        finite = np.isfinite(self.losses[..., 0])
        first = np.sort(np.where(finite, self.losses[..., 0], np.inf), axis=0)
        middle = np.maximum(finite.sum(axis=0) - 1, 0) // 2
        return np.take_along_axis(first, middle[None], axis=0)[0]

    @property
    def ranking(self) -> np.ndarray:
        """Indices of the points from best to worst by their mean score over seeds, `[points]`.

        Pruned points come after those that were trained to the end, and among them those that were
        stopped later come first. Diverged points come last.
        """
        # Among diverged points, those with fewer diverged seeds come first. The score when a point
        # was stopped decides last. `lexsort` takes its keys in reverse order: the last counts most.
        diverged = np.sum(self.status == "diverged", axis=1)
        means = np.mean(self.scores, axis=1)
        return np.lexsort((np.mean(self.reached, axis=1), -self.stopped_at, diverged, means))

    def rank_by(
        self, objective: str, *, mode: Mode | None = None, select: Select | None = None
    ) -> Self:
        """The same result with its points ranked by something else that was measured.

        Use it to see whether another metric would have chosen another rate: nothing is trained
        again. Which lanes diverged, and which were pruned, stays as the sweep decided it. Only the
        parameters of the sweep's own best lane were kept. If another lane is the best one now,
        `best.params` is None, unless the sweep kept the state of all lanes by `keep="state"`.

        Args:
          objective: `"train_loss"`, or a name among `metrics` or `curves`.
          mode: `"min"` or `"max"`. None reads it from the objective's name, as `lrax.sweep` does.
          select: Which evaluation ranks: `"last"`, `"best"` or `"tail"`. None leaves it as it is.

        Returns:
          A result of the same type; this one is not changed.

        Raises:
          ValueError: if there is no such objective, `mode` or `select` is another word, or `mode`
            is not given and the objective's name does not tell a direction.

        Example:
          >>> task = lrax.tasks.diabetes()
          >>> result = lrax.sweep(task, optax.adam, lrax.log_grid(1e-4, 1e-1, 4), steps=50, seeds=3)
          >>> result.objective, result.rank_by("val_loss").objective
          ('train_loss', 'val_loss')
        """
        names = [*(["train_loss"] if self.has_losses else []), *self.metrics, *self.curves]
        _require.choice("objective", objective, names)
        # A direction that was given for the sweep's own objective need not be given again.
        own = self.mode if objective == self.objective else None
        mode = mode_of(objective, own if mode is None else mode)
        if select is not None:
            _require.choice("select", select, ("last", "best", "tail"))
        ranked = replaced(self, objective=objective, mode=mode, select=select or self.select)
        if ranked.best_lane == self.best_lane:
            return ranked
        known = self.kept is not None and self.best_params is not None and not ranked.why_no_best
        lane = self.lanes.at(*ranked.best_lane) if known else Lanes(None, None, None)
        return replaced(
            ranked,
            best_params=lane.params,
            best_state=lane.state,
            best_opt_state=lane.opt_state,
        )

    @property
    def lanes(self) -> Lanes:
        """The parameters and states that every lane ended with; for a sweep with `keep="state"`.

        Use it to compare or average the trained models, or to evaluate all of them in some other
        way: `jax.vmap(jax.vmap(evaluate))(result.lanes.params)`.

        Returns:
          `Lanes(params, state, opt_state)`, pytrees of NumPy arrays `[points, seeds, ...]`; NaN for
          points that were stopped before the end, and 0 in arrays of integers.

        Raises:
          ValueError: if the sweep did not keep them, or no point was trained to the end.

        Example:
          >>> task = lrax.tasks.diabetes()
          >>> rates = lrax.log_grid(1e-4, 1e-1, 4)
          >>> result = lrax.sweep(task, optax.adam, rates, steps=50, seeds=3, keep="state")
          >>> result.lanes.params["dense_1"]["kernel"].shape  # points, seeds, inputs, outputs
          (4, 3, 32, 1)
        """
        if self.kept is None:
            raise ValueError(
                "`lanes` needs a result that `lrax.sweep` returned with `keep='state'`; other"
                " results have the best lane alone, in `best`"
            )
        if self.best_params is None:
            raise ValueError("there are no `lanes`: no point was trained to the end")
        best = Lanes(self.best_params, self.best_state, self.best_opt_state)
        return lanes_of(self.kept, best)

    @property
    def best_lane(self) -> tuple[int, int]:
        """Point and seed of the lane whose parameters are kept: the best point's best seed."""
        point = int(self.ranking[0])
        return point, int(np.argmin(self.scores[point]))

    @property
    def best(self) -> Best:
        """The best point over all seeds, with the parameters of its best seed.

        Raises:
          ValueError: if no point has a finite objective with every seed; it says why.
        """
        self._require_best()
        point = int(self.ranking[0])
        hyperparams = {name: self.value(name, point) for name in self.hyperparams}
        return Best(hyperparams, self.best_params, self.best_state, self.best_opt_state)

    @property
    def why_no_best(self) -> str:
        """Why no point can be called the best, in a sentence; empty if one can."""
        if np.all(np.isfinite(self.scores[self.ranking[0]])):
            return ""
        lost = self.status == "diverged"
        # If a point without a diverged lane has no score either, divergence is not the reason.
        if not lost.any(axis=1).all():
            if not np.any(self.status == "done"):
                words = sorted(set(self.status.ravel().tolist()))
                return f"no point was trained to the end: the lanes are {' and '.join(words)}"
            return (
                f"the objective {self.objective!r} is not a finite number at any point with every"
                f" seed, although {int(np.sum(self.status == 'done'))} lanes finished"
            )
        if not self.has_losses:
            return "every point has an output that is not finite with some seed"
        # The first loss is that before any update, so the rate has not affected it.
        if not np.isfinite(self.losses[lost][:, 0]).any():
            return (
                "every point diverged with some seed, and the loss is not finite before the first"
                " update: no rate can help; check the data, `init` and `loss`"
            )
        return "every point diverged with some seed; try lower rates"

    def _require_best(self) -> None:
        if reason := self.why_no_best:
            raise ValueError(f"there is no best point: {reason}")

    def value(self, name: str, point: int) -> Value:
        """The hyperparameter `name` at a point: a float, or the choice itself.

        A result from a file has the label in place of a choice that could not be stored.
        """
        number = self._number(name, point)
        if name not in self.labels:
            return number
        # Functions have no form in a file, so a loaded result has labels alone.
        options = self.choices.get(name) or self.labels[name]
        return options[int(number)]

    def shown(self, name: str, point: int) -> str:
        """The hyperparameter `name` at a point, as text: three digits, or the label of a choice."""
        number = self._number(name, point)
        return self.labels[name][int(number)] if name in self.labels else f"{number:.3g}"

    def _number(self, name: str, point: int) -> float:
        """A hyperparameter at a point as a number: itself, or the index of a choice."""
        _require.choice("name", name, self.hyperparams)
        points = len(self.status)
        return float(self.hyperparams[name][_require.count("point", point, 0, points - 1)])

    def optimum(self, name: str | None = None) -> Optimum:
        """The best value of one hyperparameter between the grid's points, with an interval.

        A parabola in the logarithm of the value is fitted to the mean scores around the best point.
        The other hyperparameters are at their best. `print` the result to read it in words. `best`
        is the best point of the grid itself.

        Args:
          name: The hyperparameter; by default the first numeric one of the grid.

        Returns:
          `Optimum(value, interval, at_edge, point, seeds, good)`. The interval holds the best value
          with 95 % confidence. Take three seeds or more: then it spans about an octave, unless the
          curve is flat. `good` is the range of the values that are surely within 1 % of the best
          score, or `None` if the seeds cannot show this. `flat` says whether it spans a factor of 2
          or more. `at_edge` is `"low"` or `"high"` if the best point is the grid's lowest or
          highest: then `value` is that point, the interval is open on that side (0 or infinity),
          and `extend()` is the grid to try next; else it is `None`.

        Raises:
          ValueError: if `name` is unknown or an axis of choices, a value is not positive, there is
            no best point, or no two points differ in `name` alone, as in scattered points.
        """
        name, line = self._line(name, numeric=True)
        self._require_best()
        return optimum(self.hyperparams[name][line], self.scores[line])

    def explain(self) -> str:
        """The plan by which the sweep was run, the reasons for it, and the seconds it took."""
        compiling = f"{self.info['compile_seconds']:.3g} s to compile"
        running = f"{self.info['run_seconds']:.3g} s to run"
        reasons = [f"- {reason}" for reason in self.info["reasons"]]
        return "\n".join([f"{self.info['plan']}; {compiling}, {running}", *reasons])

    def _line(
        self, name: str | None, *, numeric: bool = False, scattered: bool = False
    ) -> tuple[str, np.ndarray]:
        """A hyperparameter, and the points that differ from the best one in nothing else.

        Args:
          name: The hyperparameter; by default the first numeric one, or the first if none is.
          numeric: Whether an axis of choices is refused.
          scattered: Whether the line may hold the best point alone, as it does if the points are
            not a product.
        """
        numbers = [other for other in self.hyperparams if other not in self.labels]
        if name is None:
            name = next(iter([*numbers, *self.hyperparams]))
        _require.choice("name", name, self.hyperparams)
        if numeric and name in self.labels:
            raise ValueError(
                f"`name` must be a numeric hyperparameter, got {name!r}, an axis of choices without"
                f" an order; numeric are {numbers}"
            )
        # All other hyperparameters are at the best point's values.
        best = self.ranking[0]
        line = np.ones(len(self.status), bool)
        for other, values in self.hyperparams.items():
            if other != name:
                line &= values == values[best]
        line = np.flatnonzero(line)
        if len(line) == 1 and len(np.unique(self.hyperparams[name])) > 1 and not scattered:
            raise ValueError(
                f"no two points differ in {name!r} alone, because they are no product of values."
                f" `best` is the best point; for an optimum sweep a grid of {name!r} around it"
            )
        return name, line


def replaced(record: R, **fields: Field) -> R:
    """A copy of a record with other values in some fields.

    `dataclasses.replace` reads every field, and reading `losses` is an error where there are none.
    """
    # From the instance's dict, past the descriptor of `losses`.
    own = {field.name: record.__dict__[field.name] for field in dataclasses.fields(record)}
    return type(record)(**{**own, **fields})


def scores(values: np.ndarray, status: np.ndarray, mode: Mode) -> np.ndarray:
    """The objective with the sign that makes lower better.

    It is infinite where a lane diverged or the objective is not finite.
    """
    values = values if mode == "min" else -values
    # Infinity ranks last; NaN cannot be ranked. In double precision, because the mean of two losses
    # of 3e38 overflows in single precision.
    values = values.astype(np.float64)
    return np.where((status == "diverged") | ~np.isfinite(values), np.inf, values)


def _by_length(
    curves: np.ndarray, lengths: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Applies `reduce` to curves `[points, seeds, time]`, each cut to the length of its point."""
    found = np.empty(curves.shape[:2], curves.dtype)
    # A loop over the few times at which points were stopped, not over the points.
    for length in np.unique(lengths):
        here = lengths == length
        with np.errstate(invalid="ignore", over="ignore"):  # of lanes that diverge
            found[here] = reduce(curves[here, :, :length])
    return found
