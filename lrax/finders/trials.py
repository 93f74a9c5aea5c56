"""The results of a search for a rate so far, and which rates to train next."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..sweeps.result import SweepResult

# Neighbours of the best rate are trained at this distance, a quarter of a decade. Across it, the
# loss near an optimum changes by a few percent. A smaller change is lost in the noise of the seeds.
STEP = np.log(10) / 4
# Rates closer than this are one rate with different roundings. Distances are in logarithms.
SAME = 1e-3
# The curve is flat if no rate is worse than the best one by more than this share.
FLAT = 0.01
# Seeds can only disagree if their best rates are further apart than this, two octaves.
APART = np.log(4)


@dataclasses.dataclass(frozen=True)
class Trials:
    """The rates that were trained, in ascending order.

    Attributes:
      rates: `[rates]`.
      scores: `[rates, seeds]`, lower is better. Infinite where a lane diverged, and NaN where a
        stop rule ended it early. If the sweep itself was ended early, its lanes have the scores
        that they had then.
    """

    rates: np.ndarray
    scores: np.ndarray

    @property
    def x(self) -> np.ndarray:
        """The logarithms of the rates."""
        return np.log(self.rates)

    @property
    def means(self) -> np.ndarray:
        """Mean scores, `[rates]`: infinite where a lane diverged, NaN where one is missing."""
        lost = np.any(np.isposinf(self.scores), axis=1)
        return np.where(lost, np.inf, np.where(lost[:, None], 0.0, self.scores).mean(axis=1))

    @property
    def whole(self) -> np.ndarray:
        """Which rates were trained to the end with every seed and did not diverge, `[rates]`."""
        return np.isfinite(self.means)

    @property
    def best(self) -> int | None:
        """Index of the best rate, or `None` if no rate was trained to the end."""
        if not self.whole.any():
            return None
        return int(np.argmin(np.where(self.whole, self.means, np.inf)))

    @property
    def disagree(self) -> bool:
        """Whether the seeds have their best rates in different basins.

        They do if the lowest and the highest of these best rates are far apart, and a rate between
        them diverged, was stopped early, or is worse than both with every seed.
        """
        if not self.whole.any():
            return False
        best = np.argmin(np.where(self.whole[:, None], self.scores, np.inf), axis=0)
        first, last = int(best.min()), int(best.max())
        if self.x[last] - self.x[first] <= APART:
            return False
        between = slice(first + 1, last)
        highest = np.maximum(self.scores[first], self.scores[last])
        worse = np.all(self.scores[between] > highest, axis=1)
        return bool(np.any(worse | ~self.whole[between]))


def trials(result: SweepResult, name: str) -> Trials:
    """The rates of a sweep over one hyperparameter."""
    rates = np.asarray(result.hyperparams[name], np.float64)
    order = np.argsort(rates, kind="stable")
    lost = result.status == "diverged"
    ended = result.status == "done"
    # A lane that was trained to the end may have an objective that is not finite. It is as bad as a
    # diverged one.
    missing = np.where(ended, np.inf, np.nan)
    scores = np.where(lost, np.inf, np.where(np.isfinite(result.scores), result.scores, missing))
    return Trials(rates[order], np.asarray(scores, np.float64)[order])


def completed(known: Trials, few: Trials) -> Trials:
    """Fills in the scores for the last seeds, with which only a few rates were trained.

    For these seeds, every remaining rate gets its own mean plus the effect of the seed. This effect
    is the mean difference that the seed makes for the few rates. With common random numbers, a seed
    changes the scores of all rates by about the same amount.
    """
    places = np.array([int(np.argmin(np.abs(known.x - x))) for x in few.x])
    usable = np.all(np.isfinite(few.scores), axis=1) & known.whole[places]
    base = known.scores.mean(axis=1, keepdims=True)
    effects = (few.scores - base[places])[usable].mean(axis=0, keepdims=True)
    others = base + (effects if usable.any() else np.zeros_like(few.scores[:1]))
    # The few rates keep their own scores. Infinity is among them: a rate that diverged with one of
    # the last seeds has diverged.
    others[places] = few.scores
    return Trials(known.rates, np.concatenate([known.scores, others], axis=1))


def vertex(known: Trials, logs: bool) -> float:
    """The vertex of the parabola through the best rate and its neighbours; else the best rate.

    The parabola goes through these three points alone. The curve is steeper on one side of its
    optimum, so a parabola through rates that are farther off is pulled to the other side. Rates
    that were stopped early are passed over. If a neighbour diverged or is missing, the result is
    the best rate.

    Args:
      known: What was trained.
      logs: Whether the parabola is in the logarithms of the scores.
    """
    best = known.best
    assert best is not None
    # Rates that were stopped early are passed over.
    ended = np.flatnonzero(known.whole | np.isposinf(known.means))
    place = int(np.flatnonzero(ended == best)[0])
    near = ended[max(place - 1, 0) : place + 2]
    if len(near) < 3 or not np.all(known.whole[near]):
        return float(known.rates[best])
    y = known.scores[near]
    below, at, above = (np.log(y) if logs else y).mean(axis=1)
    down, up = known.x[near[::2]] - known.x[best]
    # Slopes of the lines to both neighbours. The best rate has the least mean score, but a
    # neighbour may have a lower mean of logarithms. The slope to it would have the wrong sign,
    # so it is set to 0.
    left = min((below - at) / down, 0.0)
    right = max((above - at) / up, 0.0)
    if left == right:
        return float(known.rates[best])
    # The slope of the parabola is `left` halfway down, and `right` halfway up.
    move = down / 2 - left * (up - down) / 2 / (right - left)
    return float(known.rates[best] * np.exp(move))


def is_flat(result: SweepResult) -> bool:
    """Whether all rates that did not diverge have nearly the same objective.

    A rate that was stopped early counts with its objective at that time.
    """
    reached = result.reached.mean(axis=1)
    values = reached[np.isfinite(reached)]
    return len(values) > 1 and bool(np.ptp(values) <= FLAT * np.abs(values).min())


def wanted(known: Trials, low: float, high: float, *, step: float = STEP) -> np.ndarray:
    """The rates to train next, so that the best one has known neighbours on both sides.

    A neighbour is at a distance of `step` at most. A diverged rate is a neighbour too. But if it is
    farther than half a step, one more rate is wanted, halfway to it: a coarse grid misses the
    optimum by most if the optimum lies just below the rates that diverge.

    Args:
      known: What was trained.
      low: The least rate allowed.
      high: The highest rate allowed.
      step: The largest distance of neighbours, in the logarithm of the rate.
    """
    best = known.best
    if best is None:
        return _below_all(known, low)
    at, x = known.x[best], known.x
    # Rates that were stopped early are not neighbours. They say which side is worse, but their
    # scores are of an earlier time and cannot be compared.
    ended = known.whole | np.isposinf(known.means)
    found: list[float] = []
    for side in (-1, 1):
        beyond = x[ended & (side * (x - at) > SAME)]
        if not len(beyond):
            # On this side all rates were stopped early, or there are none: the best rate moved
            # during the runs, or lies outside of the grid. Two rates at once get there sooner.
            found += [at + side * step, at + 2 * side * step]
            continue
        near = beyond[np.argmin(np.abs(beyond - at))]
        gap = abs(near - at)
        if gap > step + SAME:
            found.append(at + side * step)
        elif gap > step / 2 + SAME and np.isposinf(known.means[np.argmin(np.abs(x - near))]):
            found.append(at + side * gap / 2)
    rates = np.exp(found)
    # No rate beyond a bound. The tolerance keeps the bound itself, which may be off by rounding.
    inside = (rates > low * (1 - SAME)) & (rates < high * (1 + SAME))
    return np.sort([rate for rate in rates[inside] if not _has(known, rate)])


def _below_all(known: Trials, low: float) -> np.ndarray:
    """The rate a decade below the lowest one, unless it is below `low`.

    It is for a search in which no rate was trained to the end.
    """
    rate = known.rates[0] / 10
    return np.array([rate] if rate >= low * (1 - SAME) else [])


def _has(known: Trials, rate: float) -> bool:
    """Whether a rate was trained to its end, or diverged."""
    same = np.abs(known.x - np.log(rate)) < SAME
    return bool(np.any(same & ~np.isnan(known.means)))
