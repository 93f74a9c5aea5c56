"""The stop rules `Halving` and `Median`: when they are asked, and which points go on."""

import dataclasses
import math

import numpy as np

from .. import _require
from ..training.tail import PART, tail_mean
from .stopping import Curves, Evidence, Mask, Values

# How many neighbours of the best point survive on each side: one for every 16 values of the axis,
# rounded up. So it is one on a grid of up to 16 values, and three on a grid of 48. On a fine grid
# the next value is nearly the same rate, which is no guard against an optimum that moves. Both
# sides have the same number. The best rate after few updates may be too low, where noise dominates
# (Wu et al.). It may be too high, during a warmup or while fast progress counts for more than low
# noise. After a ninth of the steps we saw both, by a factor of up to three. More neighbours above
# and fewer below did not lose the best point less often.
AXIS = 16
# A margin adds at most this share of the points that are kept for their rank. Without the limit the
# flat bottom of a fine grid, where noise alone tells points apart, would never be thinned.
SPARE = 0.5
# Median keeps at least this number of points: a median of fewer says little.
LEAST = 3
# A rule of this file is asked at most this number of times. Each look may cost an evaluation of all
# lanes, and between looks that are this close few points change.
LOOKS = 100


@dataclasses.dataclass(frozen=True)
class Halving:
    r"""Successive halving: at each rung the best `1 / eta` of the points go on.

    $$t_i = \text{first} \cdot \eta^i \cdot T < T, \qquad n_{i+1} = \lceil n_0 / \eta^{i+1} \rceil$$

    with $T$ = `steps` and $n_0$ points. Use it for grids of a dozen points or more: it costs a
    third of the work. `Halving(eta=2, first=1/8)` costs 0.4 of the work and misses the best point
    less often. Points are ranked by their mean score over seeds, smoothed over the last tenth of
    the updates done. A point that diverged with some seed is dropped. The plain rule is softened in
    two ways. First, the best point's neighbours on the grid always go on, on both sides of every
    numeric hyperparameter, because the best rate after few updates is not the best one after many.
    Second, points also go on if they are worse than the last point that the plain rule keeps by
    less than `margin` standard errors of the difference; at most half as many as the plain rule
    keeps.

    All lanes follow the schedule of the whole sweep, never one shortened to a rung. So a rate that
    decays to zero at `steps` is still high at the rungs. Choose `first` past the warmup, during
    which the rates are not yet those of the grid.

    Args:
      eta: At each rung one of `eta` points goes on; above 1. A value so close to 1 that it makes
        more than 100 rungs is increased. Without margins the training up to the first rung costs
        `first` of the full grid's work, and each later part of the training costs less.
      first: Where the first rung is, as a fraction of the steps, between 0 and 1. Earlier is
        cheaper and riskier.
      margin: In standard errors of the paired difference, at least 0; 0 is the plain rule with
        neighbours.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not a real number.

    Example:
      >>> lrax.Halving().looks(900)
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
        if not 1 < _require.number("eta", self.eta) < np.inf:
            raise ValueError(f"`eta` must be finite and above 1, got {self.eta!r}")
        _require.fraction("first", self.first)
        _require.nonnegative({"margin": _require.number("margin", self.margin)}, "margin")

    def looks(self, steps: int) -> tuple[int, ...]:
        """After which updates the rule is asked: ascending, each above 0 and below `steps`."""
        eta = self._eta(_require.count("steps", steps, 1))
        # Rungs that would be rounded to update 0 are skipped, however small `first` is.
        begin = max(math.floor(math.log(0.5 / steps / self.first) / math.log(eta)), 0)
        end = math.ceil(math.log(1 / self.first) / math.log(eta)) + 1
        return _between(steps, [self.first * eta**i for i in range(begin, end)])

    def _eta(self, steps: int) -> float:
        """`eta`, increased if there would be more than `LOOKS` rungs."""
        begin = max(self.first, 0.5 / steps)
        return max(float(self.eta), (1 / begin) ** (1 / (LOOKS - 1)))

    def keep(self, record: Evidence) -> Mask:
        """Which points go on: one at least.

        Args:
          record: What is known of the sweep.

        Returns:
          A mask, `[points]`, false for points that are not alive.
        """
        history = curves_of(record)
        scores = smoothed(history)
        order, sound = ranking(scores)
        # A share of all points of the sweep: points that went on by a margin do not raise it.
        share = len(record.alive) / self._eta(record.steps) ** (record.look + 1)
        # A share of 4.0000000001 is 4 with a rounding error, and must not become 5.
        count = max(math.ceil(share - 1e-9), 1)
        if not np.any(sound):
            # All have diverged with some seed. Those with the fewest such seeds go on.
            return among(record, _mask(len(order), order[:count]))
        order = order[: int(sound.sum())]  # the diverged come last
        # The neighbours take their places in the share first, and the best other points fill it up.
        survive = with_neighbours(record, order[0], sound)
        rest = order[~survive[order]]
        survive[rest[: max(count - int(survive.sum()), 0)]] = True
        # The margin is measured from the point that the plain rule would keep last.
        at = min(count, len(order)) - 1
        excess = mean_of(scores[order] - scores[order[at]])
        close = order[excess < self.margin * _standard_errors(history[order], scores[order], at)]
        survive[close[~survive[close]][: math.ceil(SPARE * count)]] = True
        return among(record, survive)


@dataclasses.dataclass(frozen=True)
class Median:
    r"""The median rule: a point stops if its best loss is above the median of all average losses.

    $$\min_{s \le t} \ell_p(s) > \operatorname*{median}_q \frac{1}{t} \sum_{s \le t} \ell_q(s)$$

    over the points `q` still running. Use it where the best point must not be lost: it stops only
    the hopeless points, and costs half of the full grid's work. Losses are means over seeds. The
    minimum on the left is taken over the means of tenths of the updates done, so that a lucky batch
    does not count. A point that diverged with some seed is dropped. The best point's neighbours
    always go on, and at least three points in all.

    Args:
      first: When the rule is first asked, as a fraction of the steps, between 0 and 1: Optuna's
        `n_warmup_steps`.
      every: How long after that it is asked again, as a fraction of the steps, between 0 and 1:
        Optuna's `interval_steps`. A value so small that it makes more than 100 looks is increased.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not a real number.

    Example:
      >>> lrax.Median(first=0.25, every=0.25).looks(1000)
      (250, 500, 750)

    Reference:
      Golovin et al., Google Vizier: A Service for Black-Box Optimization (2017), on automated early
      stopping. There trials are compared to those completed; here the points run side by side.
    """

    # The rule is Vizier's, which compares to averages over time. Optuna's MedianPruner compares to
    # the values of one update, and loses good points more often.
    first: float = 0.1
    every: float = 0.1

    def __post_init__(self):
        _require.fraction("first", self.first)
        _require.fraction("every", self.every)

    def looks(self, steps: int) -> tuple[int, ...]:
        """After which updates the rule is asked: ascending, each above 0 and below `steps`."""
        steps = _require.count("steps", steps, 1)
        every = max(self.every, (1 - self.first) / LOOKS)
        count = math.ceil((1 - self.first) / every) + 1
        return _between(steps, [self.first + i * every for i in range(count)])

    def keep(self, record: Evidence) -> Mask:
        """Which points go on: three at least, or all that have not diverged if these are fewer.

        Args:
          record: What is known of the sweep.

        Returns:
          A mask, `[points]`, false for points that are not alive.
        """
        history = curves_of(record)
        scores = smoothed(history)
        order, sound = ranking(scores)
        if not np.any(sound):
            return among(record, _mask(len(order), order[:LEAST]))
        # The mean of each point's best tenth of the curve.
        stretches = np.array_split(history, min(PART, history.shape[-1]), axis=-1)
        least = np.min([mean_of(mean_of(stretch)) for stretch in stretches], axis=0)
        # A point that has diverged now may have a finite average of the past.
        average = np.where(sound, mean_of(mean_of(history)), np.inf)
        survive = sound & (least <= np.median(average))
        survive |= with_neighbours(record, order[0], sound)
        rest = order[sound[order] & ~survive[order]]
        survive[rest[: max(LEAST - int(survive.sum()), 0)]] = True
        return among(record, survive)


def smoothed(history: Curves) -> np.ndarray:
    """Means over the last tenth of the curves, `[points, seeds]`, infinite where not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        means = tail_mean(history.astype(np.float64))
    return np.where(np.isfinite(means), means, np.inf)


def neighbours(
    coordinates: np.ndarray, point: int, unordered: tuple[int, ...] | list[int] = ()
) -> Mask:
    """The points next to a point on the grid, as a mask.

    They are the nearest points above and below in every numeric hyperparameter. The distance of two
    points is the number of grid values from one to the other, summed over hyperparameters. So on a
    product of lists the nearest point differs in one hyperparameter alone. On a line of more than
    16 points the nearest two are taken, of more than 32 the nearest three, and so on. An axis of
    choices has no order and no neighbours, and a point with another choice is the farthest.

    Args:
      coordinates: `[points, names]`.
      point: Index of the point.
      unordered: Columns that are axes of choices.
    """
    columns = []
    for i, column in enumerate(coordinates.T):
        # Ranks in place of values: a grid may be spaced by ratio or not at all evenly.
        ranks = np.unique(column, return_inverse=True)[1].reshape(-1)
        # Farther than any numeric distance.
        far = coordinates.size * (ranks != ranks[point])
        columns.append(far if i in unordered else ranks - ranks[point])
    offsets = np.stack(columns, axis=1)
    distance = np.abs(offsets).sum(axis=1)
    near = np.zeros(len(coordinates), bool)
    for i, along in enumerate(offsets.T):
        if i in unordered:
            continue
        beside = distance - np.abs(along)  # in the other hyperparameters
        # The points that differ in this hyperparameter alone are the line through the point.
        reach = math.ceil(np.sum(beside == 0) / AXIS)
        # By distance; of two equally far ones, the one closer to the line.
        order = np.lexsort((beside, distance))
        for side in (along[order] < 0, along[order] > 0):
            near[order[side][:reach]] = True
    return near


def curves_of(record: Evidence) -> Curves:
    """The objective of the points alive, infinite for lanes that had a loss that is not finite."""
    alive = record.alive
    lost = ~np.all(np.isfinite(record.losses[alive]), axis=-1)
    return np.where(lost[..., None], np.inf, record.objective[alive])


def among(record: Evidence, alive: Mask) -> Mask:
    """A mask of the points alive as a mask of all points."""
    mask = np.zeros(len(record.alive), bool)
    mask[record.alive] = alive
    return mask


def ranking(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the points from best to worst, and which points have a finite score.

    Points with fewer diverged seeds come first, and then those with a lower mean.
    """
    means = mean_of(scores)
    return np.lexsort((means, np.sum(~np.isfinite(scores), axis=1))), np.isfinite(means)


def with_neighbours(record: Evidence, best: int, sound: Mask) -> Mask:
    """A mask of the points alive: the best one, and its neighbours that did not diverge."""
    columns = [values[record.alive] for values in record.hyperparams.values()]
    coordinates = np.stack(columns, axis=1)
    unordered = [i for i, name in enumerate(record.hyperparams) if name in record.choices]
    # Diverged points are removed first, so that the nearest point that trains is a neighbour.
    rows = np.flatnonzero(sound)
    near = neighbours(coordinates[rows], int(np.searchsorted(rows, best)), unordered)
    return _mask(len(sound), rows[near]) | _mask(len(sound), best)


def _standard_errors(history: Curves, scores: np.ndarray, reference: int) -> Values:
    r"""Standard errors of the points' mean differences to a reference, `[points]`.

    $$\sqrt{\frac{(n - 1) \, e_p^2 + e_{1/2}^2}{n}}, \qquad e_p = \mathrm{sd}(d_p) / \sqrt n$$

    where $e_{1/2}$ is the median of all $e_p$. It counts as one more degree of freedom, because the
    differences of two seeds may be equal by chance. With one seed only the noise along the curve is
    known: the differences in five stretches of its last tenth take the place of the seeds. Lanes of
    a seed see the same batches, so the luck of the batches cancels in the differences. How seeds
    differ stays unknown.
    """
    n = scores.shape[1]
    if n == 1:
        length = history.shape[-1]
        n = min(5, length)
        stretches = np.array_split(history[:, 0, -max(length // PART, n) :], n, axis=-1)
        scores = np.stack([mean_of(stretch) for stretch in stretches], axis=1)
    if n == 1:  # one seed and one record tell nothing of the noise
        return np.zeros(len(scores))
    with np.errstate(invalid="ignore", over="ignore"):
        variance = (scores - scores[reference]).var(axis=1, ddof=1) / n
    variance = np.where(np.isfinite(variance), variance, 0.0)
    return np.sqrt(((n - 1) * variance + np.median(variance)) / n)


def mean_of(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis, infinite where it is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        means = values.mean(axis=-1, dtype=np.float64)
    return np.where(np.isfinite(means), means, np.inf)


def _mask(length: int, true: int | np.ndarray) -> Mask:
    """A mask that is true at one index or at some."""
    mask = np.zeros(length, bool)
    mask[true] = True
    return mask


def _between(steps: int, fractions: list[float]) -> tuple[int, ...]:
    """Fractions of the steps as counts of updates, without the start and the end."""
    # A set: in a short sweep two fractions may round to the same count.
    counts = {round(fraction * steps) for fraction in fractions}
    return tuple(sorted(count for count in counts if 0 < count < steps))
