"""`AskTell`: another library proposes points, and lrax trains a batch of them at a time."""

# Annotations stay as they are written, so that `help` shows the names of the aliases.
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from .. import _require
from ..schedules.stacks import stack
from ..training.optimizer import Optimizer
from ..training.task import Task
from ..training.train import check_task
from .best import Best, Choice
from .direction import Mode, mode_of
from .first_points import FirstPoints
from .points import PointList, as_rows
from .result import SweepResult
from .stopping import Stopping
from .sweep import sweep

Point = Mapping[str, float | str]  # for each hyperparameter a number, or the label of a choice
Trial = Any  # an `optuna.Trial`, or what another study's `ask` returns
Study = Any  # an `optuna.Study`, or anything with its `ask` and `tell`
Seeds = Any  # as in `lrax.sweep`
Option = Any  # another argument of `lrax.sweep`
Tree = Any
Hyperparameter = Any  # a tracer, or a pytree of tracers


class Outcome(NamedTuple):
    """The result of one point, as it is reported to the proposing library."""

    # The mean objective over seeds. For a diverged point it is the worst value known, or NaN if
    # none is known or with `diverged="failed"`. For a pruned point it is the value at its stop.
    value: float
    status: str  # "done", or the worst status of its lanes, such as "diverged"


class AskTell:
    """Trains points that another library such as Optuna proposes, a batch of them in one program.

    Use it for three hyperparameters or more, where a grid is too large; for one or two,
    `lrax.sweep` over a grid shows more. Every batch is filled up to `size` points, so that only the
    first one compiles. For each seed, all points of all batches start with the same parameters and
    see the same data and random numbers. So the value of a point does not depend on the others in
    its batch.

    A point that diverges with some seed has no value of its own. If it were reported as failed,
    most libraries would learn nothing and propose points near it again. So its value is the worst
    one of the points that have finished so far. If the training loss is the objective, the
    losses before the first update count as well.

    With `stop=lrax.Median()` or another rule, points that are worse than others of their batch are
    stopped early. Their status is `"pruned"`, and `optimize` reports them to Optuna as pruned.

    Args:
      task: What is trained: a `Task`, or a function of hyperparameters that returns one.
      optimizer: Function from the names of the hyperparameters to an
        `optax.GradientTransformation`.
      steps: Optimizer updates of each lane, at least 1.
      size: Points in a batch, at least 1. A good size is the largest with which a batch takes
        little longer than a single point.
      seeds: As in `lrax.sweep`.
      objective: As in `lrax.sweep`: `"train_loss"` or a name that the task's `evaluate` returns.
      mode: `"min"` or `"max"`, the same as in the proposing library; `None` reads it from the
        objective's name.
      diverged: `"worst"`, as above, or `"failed"`: diverged points have the value NaN, and
        `optimize` reports them as failed.
      choices: `{name: {label: choice}}` for categorical hyperparameters. The choices of a name are
        schedules or functions of the count, or pytrees of one structure. A point has the label, the
        optimizer gets the choice. All choices are part of the one program.
      options: Further arguments of `lrax.sweep`.

    Raises:
      ValueError: if `steps` or `size` is below 1, `mode` or `diverged` is not one of these words,
        or `choices` has an empty dict.
      TypeError: if an argument is not as described.

    Example:
      >>> shapes = {"flat": lrax.constant(0.01), "falling": lrax.linear(0.02, 0.0, 50)}
      >>> search = lrax.AskTell(
      ...     lrax.tasks.diabetes(), optax.sgd, steps=50, size=4, choices={"learning_rate": shapes}
      ... )
      >>> points = [{"learning_rate": "flat", "momentum": 0.9},
      ...           {"learning_rate": "falling", "momentum": 2.0}]
      >>> [outcome.status for outcome in search.evaluate(points)]
      ['done', 'diverged']
      >>> search.best.hyperparams["momentum"]
      0.9
    """

    def __init__(
        self,
        task: Task | Callable[..., Task],
        optimizer: Optimizer,
        *,
        steps: int,
        size: int = 16,
        seeds: Seeds = 1,
        objective: str = "train_loss",
        mode: Mode | None = None,
        diverged: Literal["worst", "failed"] = "worst",
        choices: Mapping[str, Mapping[str, Choice]] | None = None,
        **options: Option,
    ):
        if isinstance(task, Task) or not callable(task):
            check_task(task)
        _require.choice("diverged", diverged, ("worst", "failed"))
        self.size = _require.count("size", size, 1)
        self.history: list[tuple[dict[str, float | str], Outcome]] = []
        self._mode: Mode = mode_of(objective, mode)
        self._arguments: dict[str, Option] = {
            "steps": _require.count("steps", steps, 1),
            "seeds": seeds,
            "objective": objective,
            "mode": self._mode,
            **options,
        }
        self._choices = _checked_choices(choices)
        # Made once: a sweep finds its compiled program by the identity of these functions.
        self._task = task if isinstance(task, Task) else _choosing(task, self._choices)
        self._optimizer = _choosing(optimizer, self._choices)
        self._diverged = diverged
        self._best: tuple[float, Best] | None = None
        self._worst = -math.inf  # the highest score so far, where lower is better; none yet

    @property
    def best(self) -> Best:
        """The best point so far over all seeds, with the final parameters of its best seed.

        Raises:
          ValueError: if no point has finished.
        """
        if self._best is None:
            raise ValueError(
                f"none of {len(self.history)} points has finished with every seed, so there is no"
                " best one"
            )
        return self._best[1]

    def evaluate(self, points: Sequence[Point]) -> list[Outcome]:
        """Trains some points, `size` of them at a time.

        Args:
          points: A dict for each point, all of the same names: numbers, and labels of `choices`.

        Returns:
          An `Outcome` for each, in their order. After a Ctrl-C the points that were not trained to
          the end are `"interrupted"`, with the value NaN.

        Raises:
          ValueError: if the points name different hyperparameters, or one that the optimizer does
            not have, or a label is unknown.
          TypeError: if a point is not a dict of real numbers and labels.
        """
        checked = _checked_points(points, self._choices)
        outcomes: list[Outcome] = []
        for first in range(0, len(checked), self.size):
            if any(outcome.status == "interrupted" for outcome in outcomes):
                outcomes += [Outcome(math.nan, "interrupted")] * (len(checked) - first)
                break
            outcomes += self._evaluate(checked[first : first + self.size])
        self.history += [
            (dict(point), outcome) for point, outcome in zip(checked, outcomes, strict=True)
        ]
        return outcomes

    def optimize(self, study: Study, space: Callable[[Trial], Point], *, trials: int) -> None:
        """Lets an Optuna study propose points, and tells it the outcomes.

        `size` trials are requested before the first outcome is reported. So take a sampler that
        spreads them: `optuna.samplers.TPESampler(constant_liar=True)`, `GPSampler` or `QMCSampler`.
        Points that the sweep's `stop` rule stopped are reported as pruned. Optuna's own pruners are
        not used, because all lanes of a batch are trained at once. After Ctrl-C this returns, and
        trials that have not finished are reported as failed.

        Args:
          study: An `optuna.Study` with one objective whose direction is `mode`, or another object
            with `ask` and `tell`.
          space: Function from a trial to a point, such as
            `lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1.0,
            log=True), "schedule": trial.suggest_categorical("schedule", ["cosine", "wsd"])}`.
          trials: Number of trials, at least 1.

        Raises:
          ValueError: if `trials` is below 1, the study has several objectives or another direction
            than `mode`, and as `evaluate` does.
          TypeError: if `space` is not a function or returns anything but a point.
        """
        trials = _require.count("trials", trials, 1)
        if not callable(space):
            raise TypeError(f"`space` must be a function from a trial to a point, got {space!r}")
        for name in ("ask", "tell"):
            if not callable(getattr(study, name, None)):
                raise TypeError(f"`study` must have the methods `ask` and `tell`, got {study!r}")
        _check_direction(study, self._mode)
        while trials > 0:
            # Set before anything can fail, because `finally` reads both.
            asked: list[Trial] = []
            outcomes: list[Outcome] = []
            try:
                points = []
                for _ in range(min(trials, self.size)):
                    asked.append(study.ask())
                    points.append(space(asked[-1]))
                outcomes = self.evaluate(points)
            finally:
                # After an error too: a trial that is never told would stay "running" in the study.
                outcomes += [Outcome(math.nan, "interrupted")] * (len(asked) - len(outcomes))
                for trial, outcome in zip(asked, outcomes, strict=True):
                    self._tell(study, trial, outcome)
            if any(outcome.status == "interrupted" for outcome in outcomes):
                return
            trials -= len(asked)

    def _tell(self, study: Study, trial: Trial, outcome: Outcome) -> None:
        """Tells a study one outcome."""
        # A plain value is reported before Optuna is imported: other studies do not need Optuna.
        if math.isfinite(outcome.value) and outcome.status != "pruned":
            study.tell(trial, outcome.value)
            return
        states = _require.extra("optuna.trial", "optuna").TrialState
        if outcome.status != "pruned":
            study.tell(trial, state=states.FAIL)
            return
        # Optuna takes the last value that a pruned trial has reported as that of the trial.
        if math.isfinite(outcome.value) and hasattr(trial, "report"):
            trial.report(outcome.value, self._arguments["steps"] - 1)
        study.tell(trial, state=states.PRUNED)

    def _evaluate(self, points: list[Point]) -> list[Outcome]:
        """The outcomes of one batch, at most `size` points."""
        # All batches have the same size, so they share one program. Copies of the last point fill
        # up a batch. They change neither how the other lanes train, nor what a stop rule sees.
        filled = points + points[-1:] * (self.size - len(points))
        rule = self._arguments.get("stop")
        arguments = dict(self._arguments)
        if isinstance(rule, Stopping) and len(filled) > len(points):
            arguments["stop"] = FirstPoints(rule, len(points))
        columns = {
            name: [self._number(name, point[name]) for point in filled] for name in points[0]
        }
        grid = PointList({name: np.array(values, np.float64) for name, values in columns.items()})
        result = sweep(self._task, self._optimizer, grid, **arguments)
        count = len(points)
        sign = 1.0 if self._mode == "min" else -1.0
        status = [_worst_status(lanes) for lanes in result.status[:count]]
        # `reached` and not `scores`, which are infinite for pruned points.
        scores = result.reached[:count].mean(axis=1)
        done = [
            word not in ("interrupted", "pruned") and bool(np.isfinite(score))
            for word, score in zip(status, scores, strict=True)
        ]
        self._note_worst(result, scores, done, sign)
        self._note_best(result, points, scores, done)
        known = self._diverged == "worst" and math.isfinite(self._worst)
        fallback = self._worst if known else math.nan
        outcomes = []
        for score, word, finished in zip(scores, status, done, strict=True):
            if finished or (word == "pruned" and np.isfinite(score)):
                outcomes.append(Outcome(sign * float(score), word))
            elif word == "interrupted":
                outcomes.append(Outcome(math.nan, word))
            else:
                # A lane may be "done" and have no value, because its metric is NaN.
                lost = "diverged" if word == "done" else word
                outcomes.append(Outcome(sign * fallback, lost))
        return outcomes

    def _number(self, name: str, value: float | str) -> float:
        """A hyperparameter as a number: itself, or the index of the choice with this label."""
        if name in self._choices:
            return float(list(self._choices[name]).index(str(value)))
        return float(value)

    def _note_worst(
        self, result: SweepResult, scores: np.ndarray, done: list[bool], sign: float
    ) -> None:
        """Updates the worst score known, which is the value of diverged points."""
        known = scores[np.array(done, bool)].tolist()
        # The losses before the first update are scores too. So a worst score is known even if all
        # points of the first batch diverge.
        if result.objective == "train_loss" and "interrupted" not in result.status:
            starts = sign * result.losses[: len(done), :, 0].mean(axis=1)
            known += starts[np.isfinite(starts)].tolist()
        self._worst = max([self._worst, *known])

    def _note_best(
        self, result: SweepResult, points: list[Point], scores: np.ndarray, done: list[bool]
    ) -> None:
        """Keeps the best point of a batch if it is better than the ones before."""
        best = result.best_lane[0]
        # If it is a copy that fills up the batch, its original is the last point.
        best = min(best, len(done) - 1)
        if not done[best] or (self._best is not None and scores[best] >= self._best[0]):
            return
        hyperparams = {
            name: self._choices[name][str(value)] if name in self._choices else float(value)
            for name, value in points[best].items()
        }
        found = Best(hyperparams, result.best_params, result.best_state, result.best_opt_state)
        self._best = float(scores[best]), found


def _choosing(
    function: Callable[..., Tree], choices: Mapping[str, Mapping[str, Choice]]
) -> Callable[..., Tree]:
    """A function that is called with the index of a choice, and calls `function` with the choice.

    So a batch contains only numbers, and batches with different choices share a program.
    """
    # An object that cannot be called is passed on to the sweep, which raises the error.
    if not choices or not callable(function):
        return function
    stacked = {name: _stacked(name, list(options.values())) for name, options in choices.items()}

    # `wraps` keeps the signature, from which a sweep reads the names of the hyperparameters.
    @functools.wraps(function)
    def chosen(**hyperparams: Hyperparameter) -> Tree:
        for name, options in stacked.items():
            if name in hyperparams:
                index = jnp.asarray(hyperparams[name]).astype(jnp.int32)
                pick = functools.partial(jax.tree.map, lambda leaf, i=index: jnp.asarray(leaf)[i])
                hyperparams[name] = pick(options)
        return function(**hyperparams)

    return chosen


def _stacked(name: str, options: list[Choice]) -> Tree:
    """Choices as one pytree, each leaf with the choices as its first axis."""
    if all(callable(option) for option in options):
        return stack(options)
    structures = {jax.tree.structure(option) for option in options}
    if len(structures) > 1:
        raise ValueError(
            f"`choices[{name!r}]` must be schedules, or pytrees of one structure, got"
            f" {len(structures)} structures"
        )
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *options)


def _worst_status(lanes: np.ndarray) -> str:
    """The status of a point: the worst one of its lanes."""
    words = [str(word) for word in lanes]
    for word in ("interrupted", "diverged", "pruned"):
        if word in words:
            return word
    return words[0]


def _check_direction(study: Study, mode: Mode) -> None:
    """Requires one objective in the direction of `mode`, if the study shows its directions."""
    directions = getattr(study, "directions", None)
    if directions is not None and len(directions) > 1:
        raise ValueError(
            f"`study` must have one objective, got {len(directions)}: AskTell trains for the one"
            " `objective`; make a study of each, or one of a weighted sum that `evaluate` returns"
        )
    wanted = {"min": "MINIMIZE", "max": "MAXIMIZE"}[mode]
    direction = getattr(getattr(study, "direction", None), "name", wanted)
    if direction != wanted:
        raise ValueError(
            f"`study` must have the direction of `mode`, {mode!r}, got {direction.lower()}"
        )


def _checked_choices(choices: _require.Unchecked) -> dict[str, dict[str, Choice]]:
    """`choices` as dicts, each with at least one label."""
    if choices is None:
        return {}
    if not isinstance(choices, Mapping):
        raise TypeError(f"`choices` must be {{name: {{label: choice}}}}, got {choices!r}")
    for name, options in choices.items():
        if not isinstance(options, Mapping):
            raise TypeError(f"`choices[{name!r}]` must be {{label: choice}}, got {options!r}")
        if not options:
            raise ValueError(f"`choices[{name!r}]` must have at least one label, got none")
    return {name: dict(options) for name, options in choices.items()}


def _checked_points(
    points: _require.Unchecked, choices: Mapping[str, Mapping[str, Choice]]
) -> list[Point]:
    """The points as a list of dicts with the same names, of real numbers and known labels."""
    if isinstance(points, (str, bytes, Mapping)) or not np.iterable(points):
        raise TypeError(f"`points` must be a dict for each point, got {points!r}")
    points = as_rows("points", points)
    if not points:
        raise ValueError("`points` must hold at least one point, got none")
    for i, point in enumerate(points):
        for name, value in point.items():
            where = f"points[{i}][{name!r}]"
            if name in choices:
                _require.choice(where, value, choices[name])
            elif isinstance(value, str):
                raise TypeError(
                    f"`{where}` must be a real number, got {value!r}; for a categorical one give"
                    f" `choices={{{name!r}: {{{value!r}: ...}}}}`"
                )
            elif np.ndim(value) or np.asarray(value).dtype.kind not in "fiu":
                raise TypeError(f"`{where}` must be a real number, got {value!r}")
    return points
