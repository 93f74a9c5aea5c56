"""Which points of a sweep to stop early: pure functions of its curves, which the sweep asks between segments."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _require

# Points are scored by the last one part in so many of the updates done, as they are at the end by
# `final_losses`.
TAIL = 10
# On each side of the best point one neighbour survives for so many values of the axis: one on a
# grid of up to 16, three on one of 48. A fine grid's next value is nearly the same rate, and no
# guard against an optimum that moves. Both sides alike: the best rate after few updates is too low
# where noise rules (Wu et al.) and too high during a warmup and where fast progress still counts
# for more; after a ninth of the steps we saw both, by up to three times. To guard the larger side
# more, at the expense of the other, lost the best point as often or more.
AXIS = 16
# A margin adds at most this share of the points that are kept for their rank, or the flat bottom of
# a fine grid, where noise alone tells points apart, would never be thinned.
SPARE = 0.5
# Median leaves so many at least, for a median of fewer says little.
LEAST = 3


@dataclasses.dataclass(frozen=True)
class Halving:
    r"""Successive halving: at the updates `first * steps * eta**i` the best `1 / eta` of the points
    go on.

    $$t_i = \text{first} \cdot \eta^i \cdot T < T, \qquad n_{i+1} = \lceil n_0 / \eta^{i+1} \rceil$$

    Use it for grids of a dozen points or more: it costs a third of the work. `Halving(eta=2,
    first=1/8)` costs 0.4 and misses the best point less often. Points are ranked by their mean
    score over seeds, smoothed over the last tenth of the updates done; one that diverged with some
    seed is dropped. The plain rule is softened in two ways. A point goes on, too, if it is worse
    than the last one kept by less than `margin` standard errors of their difference, at most half
    as many points again. And the best point's neighbours on the grid go on, on both sides of every
    hyperparameter: the best rate after few updates is not the best after many.

    All lanes follow the schedule of the whole sweep, never one shortened to a rung: a rate that
    decays to zero at `steps` is still high at the rungs. Let `first` be past the warmup, whose
    rates are not yet those of the grid.

    Args:
      eta: One point of `eta` goes on at each rung, above 1. Without margins the way to each rung,
        and to the end, costs at most `first` of the full grid's work.
      first: Where the first rung is, as a fraction of the steps, between 0 and 1. Earlier is
        cheaper and riskier.
      margin: In standard errors of the paired difference, at least 0; 0 is the plain rule with
        neighbours.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not a real number.

    Example:
      >>> lrax.Halving().rungs(900)
      (100, 300)
      >>> lrax.Halving(eta=2, first=0.125)
      Halving(eta=2, first=0.125, margin=2.0)

    Reference:
      Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization
      (2016), arXiv:1502.07943; Li et al., Hyperband (2018), arXiv:1603.06560. Wu et al.,
      Understanding Short-Horizon Bias in Stochastic Meta-Optimization (2018), arXiv:1803.02021, for
      why neighbours survive.
    """

    eta: float = 3
    first: float = 1 / 9
    margin: float = 2.0

    def __post_init__(self):
        _number("eta", self.eta, lambda eta: 1 < eta < np.inf, "finite and above 1")
        _number("first", self.first, lambda first: 0 < first < 1, "between 0 and 1")
        _number(
            "margin", self.margin, lambda margin: 0 <= margin < np.inf, "finite and non-negative"
        )

    def rungs(self, steps: int) -> tuple[int, ...]:
        """After how many updates the rule is asked, ascending and below `steps`."""
        count = math.ceil(math.log(1 / self.first) / math.log(self.eta)) + 1
        return _between(steps, [self.first * self.eta**i for i in range(count)])

    def keep(
        self,
        history: np.ndarray,
        coordinates: np.ndarray,
        *,
        rung: int = 0,
        points: int | None = None,
    ) -> np.ndarray:
        """Which points go on.

        Args:
          history: What ranks the points, lower being better, up to now: the training loss of every
            update, or all evaluations of the objective so far; `[points, seeds, count]`, of the
            points still running. It ends in NaN or infinity where a lane diverged.
          coordinates: The points' hyperparameters, `[points, names]`.
          rung: Which of the rungs it is, from 0.
          points: How many points there were at the start; `None` if all are still running.

        Returns:
          A mask, `[points]`, true for one point at least.
        """
        scores = smoothed(history)
        order, sound = _ranking(scores)
        # Of those at the start: who went on by a margin is none of whom the next rung leaves its
        # share.
        count = math.ceil((points or len(order)) / self.eta ** (rung + 1) - 1e-9)
        if not np.any(sound):
            return _mask(len(order), order[:count])
        order = order[: int(sound.sum())]  # the diverged come last
        survive = _with_neighbours(coordinates, order[0], sound)
        rest = order[~survive[order]]
        survive[rest[: max(count - int(survive.sum()), 0)]] = True
        at = min(count, len(order)) - 1
        excess = _mean(scores[order] - scores[order[at]])
        close = order[excess < self.margin * _standard_errors(history[order], scores[order], at)]
        survive[close[~survive[close]][: math.ceil(SPARE * count)]] = True
        return survive


@dataclasses.dataclass(frozen=True)
class Median:
    r"""The median rule: a point stops when the best it ever was is worse than what the middle one
    was on average.

    $$\min_{s \le t} \ell_p(s) > \operatorname*{median}_q \frac{1}{t} \sum_{s \le t} \ell_q(s)$$

    over the points `q` still running. Use it where the best point must not be lost: it stops the
    hopeless ones, for half of the full grid's work. Losses are means over seeds, and on the left
    over tenths of the updates done. A point that diverged with some seed is dropped; the best one's
    neighbours, and three points in all, always go on.

    Args:
      first: Where the rule is first asked, as a fraction of the steps, between 0 and 1: Optuna's
        `n_warmup_steps`.
      every: Between two times, as a fraction of the steps, between 0 and 1: Optuna's
        `interval_steps`.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not a real number.

    Example:
      >>> lrax.Median(first=0.25, every=0.25).rungs(1000)
      (250, 500, 750)

    Reference:
      Golovin et al., Google Vizier: A Service for Black-Box Optimization (2017), on automated early
      stopping. There trials are compared to those completed; here the points run side by side.
    """

    # Optuna's MedianPruner compares to the values of this very update, and loses good points more
    # often.
    first: float = 0.1
    every: float = 0.1

    def __post_init__(self):
        _number("first", self.first, lambda first: 0 < first < 1, "between 0 and 1")
        _number("every", self.every, lambda every: 0 < every < 1, "between 0 and 1")

    def rungs(self, steps: int) -> tuple[int, ...]:
        """After how many updates the rule is asked, ascending and below `steps`."""
        count = math.ceil((1 - self.first) / self.every) + 1
        return _between(steps, [self.first + i * self.every for i in range(count)])

    def keep(
        self,
        history: np.ndarray,
        coordinates: np.ndarray,
        *,
        rung: int = 0,
        points: int | None = None,
    ) -> np.ndarray:
        """Which points go on; see `Halving.keep`."""
        del rung, points
        scores = smoothed(history)
        order, sound = _ranking(scores)
        if not np.any(sound):
            return _mask(len(order), order[:LEAST])
        stretches = np.array_split(history, min(TAIL, history.shape[-1]), axis=-1)
        least = np.min([_mean(scores), *(_mean(_mean(stretch)) for stretch in stretches)], axis=0)
        average = np.where(sound, _mean(_mean(history)), np.inf)
        survive = sound & (least <= np.median(average))
        survive |= _with_neighbours(coordinates, order[0], sound)
        rest = order[sound[order] & ~survive[order]]
        survive[rest[: max(LEAST - int(survive.sum()), 0)]] = True
        return survive


Stopping = Halving | Median


def smoothed(history: np.ndarray) -> np.ndarray:
    """Means over the last tenth of the curves, infinite for a lane that is not finite there; `[points, seeds]`."""
    return _mean(history[..., -max(history.shape[-1] // TAIL, 1) :])


def neighbours(coordinates: np.ndarray, point: int) -> np.ndarray:
    """The points next to one on the grid, as a mask.

    For every hyperparameter and on both sides the nearest one, in values that lie between, summed
    over hyperparameters: on a product of lists, the one that differs in this alone. On a line of
    over 16 points it is the nearest two, etc.

    Args:
      coordinates: `[points, names]`.
      point: Index of the point.
    """
    ranks = np.stack(
        [np.unique(column, return_inverse=True)[1].reshape(-1) for column in coordinates.T], axis=1
    )
    offsets = ranks - ranks[point]
    distance = np.abs(offsets).sum(axis=1)
    near = np.zeros(len(coordinates), bool)
    for along in offsets.T:
        beside = distance - np.abs(along)  # in the other hyperparameters
        reach = math.ceil(np.sum(beside == 0) / AXIS)
        order = np.lexsort((beside, distance))
        for side in (along[order] < 0, along[order] > 0):
            near[order[side][:reach]] = True
    return near


def _ranking(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the points from best to worst, those with fewer diverged seeds first; and which have a score."""
    means = _mean(scores)
    return np.lexsort((means, np.sum(~np.isfinite(scores), axis=1))), np.isfinite(means)


def _with_neighbours(coordinates: np.ndarray, best: int, sound: np.ndarray) -> np.ndarray:
    """The best point and its neighbours among those that did not diverge."""
    among = np.flatnonzero(sound)
    near = neighbours(coordinates[among], int(np.searchsorted(among, best)))
    return _mask(len(sound), among[near]) | _mask(len(sound), best)


def _standard_errors(history: np.ndarray, scores: np.ndarray, reference: int) -> np.ndarray:
    r"""Those of the points' mean differences to a reference, `[points]`.

    $$\sqrt{\frac{(n - 1) \, e_p^2 + e_{1/2}^2}{n}}, \qquad e_p = \mathrm{sd}(d_p) / \sqrt n$$

    with the median of all as one more degree of freedom: two seeds alone may differ by nothing at
    all. With one seed there is the noise of the curve: differences of five stretches of its last
    tenth take the place of the seeds. Lanes of a seed see the same batches, whose luck is thus no
    part of the differences. How seeds differ stays unknown.
    """
    n = scores.shape[1]
    if n == 1:
        length = history.shape[-1]
        n = min(5, length)
        stretches = np.array_split(history[:, 0, -max(length // TAIL, n) :], n, axis=-1)
        scores = np.stack([_mean(stretch) for stretch in stretches], axis=1)
    if n == 1:  # nothing is known
        return np.zeros(len(scores))
    with np.errstate(invalid="ignore", over="ignore"):
        variance = (scores - scores[reference]).var(axis=1, ddof=1) / n
    variance = np.where(np.isfinite(variance), variance, 0.0)
    return np.sqrt(((n - 1) * variance + np.median(variance)) / n)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, infinite where it is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        means = values.mean(axis=-1, dtype=np.float64)
    return np.where(np.isfinite(means), means, np.inf)


def _mask(length: int, true: Any) -> np.ndarray:
    mask = np.zeros(length, bool)
    mask[true] = True
    return mask


def _between(steps: int, fractions: list[float]) -> tuple[int, ...]:
    return tuple(
        sorted({count for fraction in fractions if 0 < (count := round(fraction * steps)) < steps})
    )


def _number(name: str, value: Any, holds: Callable[[float], bool], words: str) -> None:
    number = _require.real(**{name: value})[name]
    if np.ndim(number) or not holds(float(number)):
        raise ValueError(f"`{name}` must be {words}, got {value!r}")
