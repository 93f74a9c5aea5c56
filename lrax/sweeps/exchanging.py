"""The protocol of the rules by which lanes of a sweep exchange states and rates; experimental.

A rule is a pure function of the record. `sweep_exchange` calls it after every segment of updates.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from .. import _require

Values = np.ndarray  # [points, seeds]
Mask = np.ndarray  # [points, seeds], bool
Indices = np.ndarray  # [points, seeds], int
FURTHEST = 2  # a lane can go back by at most this many segments: older states are not kept


class Population(NamedTuple):
    """What an exchange rule is given; experimental.

    The points of a seed are one population. A segment is `every` updates; the last one may be
    shorter.

    Attributes:
      losses: Training losses up to now, `[points, seeds, updates]`, each of the parameters before
        its update.
      objective: One number for each lane and segment, `[points, seeds, segments]`. Lower is better.
        It is the mean loss of the segment, or the metric at its end if that is the objective,
        negated where high is good. It is infinite where this number, a loss of the segment or a
        parameter is not finite.
      hyperparams: `{name: [segments, points, seeds]}`, the values that each segment was trained
        with; on an axis of choices the index of the choice.
      name: The hyperparameter that the rule changes, as a rule the learning rate.
      every: Updates of a segment.
      done: Updates made.
      steps: Updates of the whole sweep.
    """

    losses: np.ndarray
    objective: np.ndarray
    hyperparams: dict[str, np.ndarray]
    name: str
    every: int
    done: int
    steps: int

    @property
    def scores(self) -> Values:
        """The objective of the segment that has just ended, `[points, seeds]`."""
        return self.objective[..., -1]

    @property
    def rates(self) -> Values:
        """The rates of the segment that has just ended, `[points, seeds]`."""
        return self.hyperparams[self.name][-1]


class Move(NamedTuple):
    """How the lanes go on: what an exchange rule returns; experimental.

    Attributes:
      hyperparams: `{name: [points, seeds]}`, the values in the next segment of the hyperparameters
        that change.
      source: The point from which each lane takes its parameters, model state and optimizer state,
        `[points, seeds]`; the seed stays the same. None: each keeps its own.
      back: By how many segments each lane goes back, `[points, seeds]`: 1 takes the state that the
        source had before the segment that has just ended, and 2 that of a segment earlier. None:
        0 for all lanes.
      averaged: Which lanes have their parameters averaged, `[points, seeds]`. All lanes of the seed
        go on from the mean. None: nothing is averaged. The optimizer's state is never averaged.
    """

    hyperparams: dict[str, Values]
    source: Indices | None = None
    back: Indices | None = None
    averaged: Mask | None = None


class Answer(NamedTuple):
    """A `Move` that is checked, with its defaults filled in."""

    hyperparams: dict[str, Values]
    source: Indices
    back: Indices
    averaged: Mask


@runtime_checkable
class Exchange(Protocol):
    """A rule of exchange between lanes; experimental.

    `PopulationBasedTraining`, `FanOut` and `Rollback` are such rules, and so is any object with
    this method. The method must be a pure function of its arguments.

    Example:
      A rule that halves the rate of every lane after each segment:

      >>> class Halved:
      ...     def move(self, record, rng):
      ...         return lrax.Move({record.name: 0.5 * record.rates})
      >>> task = lrax.tasks.diabetes()
      >>> call = dict(steps=8, every=4, exchange=Halved())
      >>> lrax.sweep_exchange(task, optax.adam, [0.1, 0.2], **call).rates[:, :, 0]
      array([[0.1 , 0.2 ],
             [0.05, 0.1 ]])
    """

    def move(self, record: Population, rng: np.random.Generator) -> Move:
        """How the lanes go on after a segment. `rng` is seeded anew for each segment."""
        ...


def as_rule(exchange: _require.Unchecked) -> Exchange:
    """Checks the argument `exchange` of `sweep_exchange`."""
    # A class has the method too: without the first check `exchange=lrax.FanOut` would pass.
    if isinstance(exchange, type) or not isinstance(exchange, Exchange):
        raise TypeError(
            "`exchange` must be lrax.PopulationBasedTraining(), lrax.FanOut(), lrax.Rollback() or"
            f" an object with the method `move` of lrax.Exchange, got {exchange!r}"
        )
    return exchange


def asked(
    rule: Exchange, record: Population, rng: np.random.Generator, choices: Mapping[str, int]
) -> Answer:
    """Calls the rule, and returns its checked move with entries for all hyperparameters.

    Args:
      rule: The rule.
      record: The record that it is given.
      rng: The rule's random numbers.
      choices: For each axis of choices, how many there are.
    """
    move = rule.move(record, rng)
    if not isinstance(move, Move):
        raise TypeError(f"`exchange` must return a lrax.Move, got {move!r} from {rule!r}")
    shape = record.rates.shape
    if unknown := sorted(set(move.hyperparams) - set(record.hyperparams)):
        raise ValueError(f"`exchange` must change hyperparameters of the grid, got {unknown}")
    current = {name: values[-1] for name, values in record.hyperparams.items()}
    values = {name: np.asarray(v, np.float64) for name, v in move.hyperparams.items()}
    for name, found in values.items():
        # The grid may have a value that is not finite. Its lane diverges, as in `lrax.sweep`.
        if found.shape != shape or np.any(~np.isfinite(found) & np.isfinite(current[name])):
            raise ValueError(
                f"`exchange` must return finite values of {name!r} of shape {shape}, got {found}"
            )
        count = choices.get(name)
        if count is not None and not (_among(found, count) and np.all(found == np.rint(found))):
            raise ValueError(
                f"`exchange` must return indices from 0 to {count - 1} of the choices of {name!r},"
                f" got {found}"
            )
    own = np.broadcast_to(np.arange(shape[0])[:, None], shape)
    source = own if move.source is None else np.asarray(move.source)
    if source.shape != shape or source.dtype.kind not in "iu" or not _among(source, shape[0]):
        raise ValueError(
            f"`exchange` must return sources from 0 to {shape[0] - 1} of shape {shape}, got"
            f" {source}"
        )
    back = np.zeros(shape, np.int64) if move.back is None else np.asarray(move.back)
    if back.shape != shape or back.dtype.kind not in "iu" or not _among(back, FURTHEST + 1):
        raise ValueError(
            f"`exchange` must return whole numbers `back` from 0 to {FURTHEST} of shape {shape},"
            f" got {back}"
        )
    averaged = np.zeros(shape, bool) if move.averaged is None else np.asarray(move.averaged)
    if averaged.shape != shape or averaged.dtype != bool:
        raise ValueError(
            f"`exchange` must return a mask `averaged` of shape {shape}, got {move.averaged!r}"
        )
    return Answer({**current, **values}, source, back, averaged)


def _among(indices: Values, count: int) -> bool:
    """Whether all are at least 0 and below the count."""
    return bool(np.all((indices >= 0) & (indices < count)))
