"""`AskTell`: another library proposes points, lrax trains with them, a batch at a time in one program."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _require
from ..training.optimizer import Optimizer
from ..training.train import check_task
from ..training.task import Task
from .points import Points
from .record import Best
from .result import SweepResult
from .sweep import sweep


class Outcome(NamedTuple):
    """What a proposer is told of one point."""

    value: float  # the objective over seeds; of a diverged point the worst value known, or NaN where none is
    status: str  # "done", or what befell one of its lanes, such as "diverged" or "interrupted"


class AskTell:
    """Trains with points that somebody else proposes, such as Optuna, a batch at a time in one
    program.

    Use it for three hyperparameters or more, where a grid is too large; for one or two,
    `lrax.sweep` over a grid says more. Batches are filled up to one size, so that the first
    compiles and the others do not. All points of all batches see the same initial parameters,
    batches and random numbers for each seed, so a point's value does not depend on what it is
    evaluated with.

    A point that diverges with some seed has no number worth telling, and told as failed it would
    teach nothing: most proposers would look there again. So its value is the worst of the points
    that have finished so far, and of their and its own losses before the first update where the
    training loss is the objective.

    Args:
      task: What is trained.
      optimizer: Function from the names of the hyperparameters to an
        `optax.GradientTransformation`.
      steps: Optimizer updates of each lane, at least 1.
      size: Points in a batch, at least 1: as many as the device trains at once for little more than
        one.
      seeds: As in `lrax.sweep`.
      objective: As in `lrax.sweep`: `"train_loss"` or a name that the task's `evaluate` returns.
      mode: `"min"` or `"max"`; what the proposer is told to do must be the same.
      diverged: `"worst"`, as above, or `"failed"`: diverged points have the value NaN, and
        `optimize` tells of them as failed.
      options: Further arguments of `lrax.sweep`.

    Raises:
      ValueError: if `steps` or `size` is below 1, or `mode` or `diverged` is another word.
      TypeError: if an argument is not as described.

    Example:
      >>> search = lrax.AskTell(lrax.tasks.diabetes(), optax.sgd, steps=50, size=4)
      >>> points = [{"learning_rate": 0.01, "momentum": 0.9}, {"learning_rate": 1e9, "momentum": 0.0}]
      >>> outcomes = search.evaluate(points)
      >>> [outcome.status for outcome in outcomes]
      ['done', 'diverged']
      >>> search.best.hyperparams
      {'learning_rate': 0.01, 'momentum': 0.9}
    """

    def __init__(
        self,
        task: Task,
        optimizer: Optimizer,
        *,
        steps: int,
        size: int = 16,
        seeds: Any = 1,
        objective: str = "train_loss",
        mode: str = "min",
        diverged: str = "worst",
        **options: Any,
    ):
        check_task(task)
        _require.choice("mode", mode, ("min", "max"))
        _require.choice("diverged", diverged, ("worst", "failed"))
        self.size = _require.count("size", size, 1)
        self.history: list[tuple[dict[str, float], Outcome]] = []
        self._arguments = {
            "steps": _require.count("steps", steps, 1),
            "seeds": seeds,
            "objective": objective,
            "mode": mode,
            **options,
        }
        self._task, self._optimizer, self._mode, self._diverged = task, optimizer, mode, diverged
        self._best: tuple[float, Best] | None = None
        self._worst = -math.inf  # as a score, of which lower is better

    @property
    def best(self) -> Best:
        """Hyperparameters of the best point so far over all seeds, and the final parameters of its
        best seed.

        Raises:
          ValueError: if no point has finished.
        """
        if self._best is None:
            raise ValueError(
                f"none of {len(self.history)} points has finished with every seed, so there is no best one"
            )
        return self._best[1]

    def evaluate(self, points: Sequence[Mapping[str, float]]) -> list[Outcome]:
        """Trains with some points, `size` of them at a time.

        Args:
          points: A dict for each point, all of the same names.

        Returns:
          An `Outcome` for each, in their order. After a Ctrl-C those that were not trained to the
          end are `"interrupted"`, with the value NaN.

        Raises:
          ValueError: if the points name different hyperparameters, or others than the optimizer's.
          TypeError: if a point is not a dict of real numbers.
        """
        points = _check(points)
        outcomes: list[Outcome] = []
        for first in range(0, len(points), self.size):
            if any(outcome.status == "interrupted" for outcome in outcomes):
                outcomes += [Outcome(math.nan, "interrupted")] * (len(points) - first)
                break
            outcomes += self._evaluate(points[first : first + self.size])
        self.history += [
            (dict(point), outcome) for point, outcome in zip(points, outcomes, strict=True)
        ]
        return outcomes

    def optimize(
        self, study: Any, space: Callable[[Any], Mapping[str, float]], *, trials: int
    ) -> None:
        """Lets an Optuna study propose points, and tells it what they gave.

        `size` trials are asked for before one is told, so of Optuna's samplers take one that
        spreads them: `optuna.samplers.TPESampler(constant_liar=True)`, `GPSampler`, `QMCSampler`.
        Ctrl-C ends it after the batches that are done; trials that have not finished are told as
        failed.

        Args:
          study: An `optuna.Study`, or what has its `ask` and `tell`, whose direction is `mode`.
          space: Function from a trial to a point, such as
            `lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1.0,
            log=True)}`.
          trials: How many, at least 1.

        Raises:
          ValueError: if `trials` is below 1 or the study's direction is not `mode`, and as
            `evaluate` does.
          TypeError: if `space` is not a function or returns anything but a dict of real numbers.
        """
        trials = _require.count("trials", trials, 1)
        if not callable(space):
            raise TypeError(f"`space` must be a function from a trial to a point, got {space!r}")
        wanted = {"min": "MINIMIZE", "max": "MAXIMIZE"}[self._mode]
        if (direction := getattr(getattr(study, "direction", None), "name", wanted)) != wanted:
            raise ValueError(
                f"`study` must have the direction of `mode`, {self._mode!r}, got {direction.lower()}"
            )
        while trials > 0:
            asked: list[Any] = []
            outcomes: list[Outcome] = []
            try:
                points = []
                for _ in range(min(trials, self.size)):
                    asked.append(study.ask())
                    points.append(space(asked[-1]))
                outcomes = self.evaluate(points)
            finally:  # whatever happens, no trial is left running
                outcomes += [Outcome(math.nan, "interrupted")] * (len(asked) - len(outcomes))
                for trial, outcome in zip(asked, outcomes, strict=True):
                    if math.isnan(outcome.value):
                        study.tell(
                            trial, state=_require.extra("optuna.trial", "optuna").TrialState.FAIL
                        )
                    else:
                        study.tell(trial, outcome.value)
            if any(outcome.status == "interrupted" for outcome in outcomes):
                return
            trials -= len(asked)

    def _evaluate(self, points: list[Mapping[str, float]]) -> list[Outcome]:
        """The outcomes of one batch, filled up with copies of its last point, which change no other lane."""
        filled = points + points[-1:] * (self.size - len(points))
        result = sweep(
            self._task,
            self._optimizer,
            Points({name: np.array([point[name] for point in filled]) for name in points[0]}),
            **self._arguments,
        )
        sign = 1.0 if self._mode == "min" else -1.0
        status = [_worst_status(lanes) for lanes in result.status[: len(points)]]
        scores = result.scores[: len(points)].mean(axis=1)
        done = [
            word != "interrupted" and bool(np.isfinite(score))
            for word, score in zip(status, scores, strict=True)
        ]
        for score, known in zip(scores, done, strict=True):
            self._worst = max(self._worst, float(score)) if known else self._worst
        if result.objective == "train_loss" and "interrupted" not in status:
            starts = result.losses[: len(points), :, 0].mean(axis=1)
            self._worst = max(
                self._worst,
                *(float(start) for start in sign * starts if np.isfinite(start)),
                -math.inf,
            )
        self._keep(result, scores, done)
        fallback = (
            self._worst if self._diverged == "worst" and math.isfinite(self._worst) else math.nan
        )
        return [
            Outcome(sign * float(score), word)
            if known
            else Outcome(
                math.nan if word == "interrupted" else sign * fallback,
                word if word != "done" else "diverged",
            )
            for score, word, known in zip(scores, status, done, strict=True)
        ]

    def _keep(self, result: SweepResult, scores: np.ndarray, done: list[bool]) -> None:
        """Keeps the best point of a batch if it is better than those before."""
        best = result.best_lane[0]
        if best >= len(done):  # a copy ranks behind its original, but let no rule of a tie decide
            best = len(done) - 1
        if done[best] and (self._best is None or scores[best] < self._best[0]):
            hyperparams = {name: float(values[best]) for name, values in result.hyperparams.items()}
            self._best = float(scores[best]), Best(hyperparams, result.best_params)


def _worst_status(lanes: np.ndarray) -> str:
    """The status of a point: of its seeds the one that says the most."""
    words = [str(word) for word in lanes]
    return next(
        (word for word in ("interrupted", "diverged") if word in words),
        max(words, key=lambda w: w != "done"),
    )


def _check(points: Any) -> list[Mapping[str, float]]:
    if isinstance(points, (str, bytes, Mapping)) or not np.iterable(points):
        raise TypeError(f"`points` must be a dict for each point, got {points!r}")
    points = list(points)
    if not points:
        raise ValueError("`points` must hold at least one point, got none")
    for i, point in enumerate(points):
        if not isinstance(point, Mapping) or not point:
            raise TypeError(f"`points[{i}]` must be a dict of hyperparameters, got {point!r}")
        if set(point) != set(points[0]):
            raise ValueError(
                f"`points[{i}]` must name {list(points[0])}, as the first point does, got {list(point)}"
            )
        for name, value in point.items():
            if np.ndim(value) or np.asarray(value).dtype.kind not in "fiu":
                raise TypeError(f"`points[{i}][{name!r}]` must be a real number, got {value!r}")
    return points
