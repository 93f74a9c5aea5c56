"""The protocol of the rules that stop points of a sweep early.

A rule is a pure function of the sweep's record. The sweep calls it between two segments.
"""

import re
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from .. import _require

Values = np.ndarray  # [points]
Curves = np.ndarray  # [points, seeds, time]
Mask = np.ndarray  # [points], bool


class Evidence(NamedTuple):
    """What a stop rule is given of a sweep under way.

    Arrays have all points of the grid, also the stopped ones; `alive` tells them apart.

    Attributes:
      losses: Training losses up to now, `[points, seeds, records]`, each of the parameters before
        its update. Column `i` belongs to the update `i * loss_every`, so there are `done` columns
        unless the sweep records only some of them. NaN after a point was stopped.
      objective: What ranks the points, `[points, seeds, times]`: all evaluations of the objective
        up to now, negated where high is good, so that lower is better. For the training loss it is
        `losses`.
      hyperparams: `{name: [points]}`; on an axis of choices the index of the choice.
      monitors: `{name: [points, seeds, records]}`; column `i` belongs to the update
        `i * record_every`.
      done: Updates made.
      steps: Updates of the whole sweep.
      alive: Which points are still trained, `[points]`.
      look: How often the rule was asked before.
      rates: The learning rate of every update, future ones included, `[points, steps]`. Only for a
        rule with an attribute `rates`, a function of the hyperparameters by name that returns the
        schedule: `rates = lambda learning_rate: lrax.cosine(learning_rate, 1000)`. Otherwise
        `None`.
      choices: Names of the hyperparameters that are axes of choices, without an order.
      loss_every: Updates from one column of `losses` to the next, as in `lrax.sweep`.
      objective_at: After how many updates each evaluation in `objective` was made, `[times]`; None
        if the objective is the training loss.
      record_every: Updates from one record of the monitors to the next, as in `lrax.sweep`.
    """

    losses: Curves
    objective: Curves
    hyperparams: dict[str, Values]
    monitors: dict[str, Curves]
    done: int
    steps: int
    alive: Mask
    look: int
    rates: np.ndarray | None = None
    choices: tuple[str, ...] = ()
    loss_every: int = 1
    record_every: int = 1
    objective_at: np.ndarray | None = None


@runtime_checkable
class Stopping(Protocol):
    """A rule that stops points of a sweep early: `Halving`, `Median`, `Forecast`, or your own.

    Any object with these two methods is a rule. Both must be pure functions of their arguments, so
    that a sweep that resumes from a checkpoint decides the same. The `repr` must show all settings,
    as that of a dataclass does, because a checkpoint identifies the rule by its `repr`. With a
    `checkpoint`, a `repr` with an address in memory is an error.

    Example:
      A rule that stops the points whose loss has not fallen by half after a quarter of the steps:

      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True)
      ... class HalvedLoss:
      ...     at: float = 0.25
      ...
      ...     def looks(self, steps):
      ...         return (round(self.at * steps),)
      ...
      ...     def keep(self, record):
      ...         first, last = record.losses[..., 0], record.losses[..., -1]
      ...         return np.all(last < 0.5 * first, axis=1)
      >>> losses = np.array([[[1.0, 0.9, 0.8]], [[1.0, 0.6, 0.2]]])
      >>> rates = {"learning_rate": np.array([1e-3, 1e-2])}
      >>> alive = np.array([True, True])
      >>> from lrax.sweeps.stopping import Evidence
      >>> HalvedLoss().keep(Evidence(losses, losses, rates, {}, 3, 12, alive, look=0))
      array([False,  True])
    """

    def looks(self, steps: int) -> tuple[int, ...]:
        """After which updates the rule is asked: ascending, each above 0 and below `steps`."""
        ...

    def keep(self, record: Evidence) -> Mask:
        """Which points go on, `[points]`; entries of points that are not alive do not matter."""
        ...


def looks_of(rule: Stopping, steps: int) -> tuple[int, ...]:
    """What `rule.looks(steps)` returns, once it is checked."""
    looks = rule.looks(steps)
    # `True` is an int to Python, and not meant as a count.
    valid = isinstance(looks, (tuple, list)) and all(
        isinstance(look, (int, np.integer)) and not isinstance(look, bool) for look in looks
    )
    if not valid or list(looks) != sorted(set(looks)) or any(not 0 < n < steps for n in looks):
        raise ValueError(
            "`stop` must have `looks(steps)` return ascending whole numbers above 0 and below"
            f" {steps}, got {looks!r} from {rule!r}"
        )
    return tuple(int(look) for look in looks)


def as_rule(stop: _require.Unchecked, *, stored: bool = False) -> Stopping | None:
    """Checks the argument `stop` of a sweep: a rule, or `None` for "diverged" and `None`.

    Args:
      stop: The argument.
      stored: Whether a checkpoint will identify it by its `repr`.
    """
    if stop is None or isinstance(stop, str):
        if stop is not None:
            _require.choice("stop", stop, ("diverged",))
        return None
    # A class has the methods too: without the first check `stop=lrax.Halving` would pass.
    if isinstance(stop, type) or not isinstance(stop, Stopping):
        raise TypeError(
            "`stop` must be 'diverged', lrax.Halving(), lrax.Median(), lrax.Forecast(rates), an"
            f" object with the methods `looks` and `keep` of lrax.Stopping, or None, got {stop!r}"
        )
    if stored and re.search(r" at 0x[0-9a-f]+", repr(stop)):
        raise ValueError(
            "`stop` must have a `repr` without a memory address if there is a `checkpoint`, which"
            " identifies the rule by its `repr`: the address changes from process to process. Make"
            f" the rule a frozen dataclass of plain values, or define `__repr__`; got {stop!r}"
        )
    return stop
