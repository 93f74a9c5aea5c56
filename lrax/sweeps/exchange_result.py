"""`ExchangeResult`: what lanes that exchange states and rates have found."""

import dataclasses
from typing import Any

import numpy as np

from .best import Best, Choice, Params, State
from .direction import Mode
from .exchanging import FURTHEST, Indices, Mask, Values


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ExchangeResult:
    """What `lrax.sweep_exchange` found, and the history of its exchanges; experimental.

    A *lane* is one point with one seed. It is trained in segments. After each segment, its state
    may be replaced by that of another lane.

    Attributes:
      hyperparams: `{name: [segments, points, seeds]}`, the values used in each segment; on an
        axis of choices the index of the choice.
      choices: `{name: list}`, the objects of each axis of choices.
      seeds: Names of the seeds.
      name: The hyperparameter that the rule changed, as a rule the learning rate.
      losses: `[points, seeds, updates]`, the training loss before each update that a lane made,
        also in segments that were undone.
      scores: `[points, seeds, segments]`, the objective of each segment that the rule was given.
        Lower is better: see `Population.objective`.
      source: `[segments, points, seeds]`, the point from which a lane took its state after a
        segment.
      back: `[segments, points, seeds]`, by how many segments the lane went back after a segment;
        0 where it did not.
      averaged: `[segments, points, seeds]`, whether the lane's parameters were part of a mean, from
        which all lanes of the seed went on.
      values: `[points, seeds]`, the objective of the lanes as they are at the end. If it is the
        training loss, it is the mean over the last segment, in the lane whose state was taken.
      metrics: `{name: [points, seeds]}`, what `evaluate` returned at the end.
      objective: Name of what ranks the lanes: `"train_loss"` or one of `metrics`.
      mode: Whether a low or a high objective is good: `"min"` or `"max"`.
      steps: Updates of each lane.
      every: Updates of a segment.
      best_params: The parameters of the best lane.
      best_state: The model's state of that lane, or None.
      best_opt_state: The optimizer's state of that lane.
      info: The plan, and the seconds that compiling and running took.
    """

    hyperparams: dict[str, np.ndarray]
    choices: dict[str, list[Choice]]
    seeds: list[str]
    name: str
    losses: np.ndarray
    scores: np.ndarray
    source: Indices
    back: Indices
    averaged: Mask
    values: Values
    metrics: dict[str, Values]
    objective: str
    mode: Mode
    steps: int
    every: int
    best_params: Params = None
    best_state: State = None
    best_opt_state: State = None
    info: dict[str, Any]

    @property
    def rates(self) -> np.ndarray:
        """The rate of every lane in every segment, `[segments, points, seeds]`."""
        return self.hyperparams[self.name]

    @property
    def ancestors(self) -> np.ndarray:
        """The points in which the states at the end were trained, `[segments, points, seeds]`.

        Entry `[k, p, s]` is the point whose lane trained the final state of point `p` in segment
        `k`. It is -1 if that training was undone. Averaging parameters does not change the entries.
        """
        found = np.full(self.source.shape, -1)
        column = np.arange(len(self.seeds))
        at = np.tile(np.arange(len(self.values))[:, None], len(self.seeds))
        further = np.zeros_like(at)  # how many of the earlier segments are undone as well
        for k in reversed(range(len(found))):
            # A lane can go back no further than this.
            back = np.minimum(self.back[k, at, column] + further, FURTHEST)
            at = self.source[k, at, column]
            found[k] = np.where(back > 0, -1, at)
            further = np.maximum(back - 1, 0)
        return found

    @property
    def best_lane(self) -> tuple[int, int]:
        """Point and seed of the lane with the best value at the end."""
        point, seed = np.unravel_index(np.argmin(self._ranks), self.values.shape)
        return int(point), int(seed)

    @property
    def best_rates(self) -> np.ndarray:
        """The rates that the best lane's state was trained with, `[segments]`.

        This is the schedule that was found; NaN where a segment was undone.
        """
        point, seed = self.best_lane
        path = self.ancestors[:, point, seed]
        rates = self.rates[np.arange(len(path)), path, seed]
        return np.where(path < 0, np.nan, rates)

    @property
    def best(self) -> Best:
        """The best lane: its parameters and states, and the hyperparameters that trained it last.

        Raises:
          ValueError: if no lane has a finite objective.
        """
        if not np.isfinite(self._ranks).any():
            raise ValueError("there is no best lane: no objective is finite; try lower rates")
        point, seed = self.best_lane
        last = self.ancestors[-1, point, seed]
        trained = point if last < 0 else last
        values = {name: column[-1, trained, seed] for name, column in self.hyperparams.items()}
        shown = {
            name: self.choices[name][int(value)] if name in self.choices else float(value)
            for name, value in values.items()
        }
        return Best(shown, self.best_params, self.best_state, self.best_opt_state)

    @property
    def _ranks(self) -> Values:
        """The values with the sign that makes lower better; infinite where they are not finite."""
        values = self.values if self.mode == "min" else -self.values
        return np.where(np.isfinite(values), values, np.inf)

    def __repr__(self) -> str:
        segments, points, seeds = self.rates.shape
        size = f"{points} points x {seeds} seeds x {self.steps} steps in {segments} segments"
        value = self.values[self.best_lane]
        return f"ExchangeResult({size}; best {self.objective}={value:.3g})"
