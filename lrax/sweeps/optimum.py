"""The best rate of a loss-against-rate curve, with an interval and the range of the good rates."""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np

CONFIDENCE = 0.95
QUANTILE = 1.96  # of the normal distribution, for that confidence
# The parabola is fitted to the points within a third of a decade of the optimum, or within two grid
# steps if these are longer. Fewer points would follow the noise. More would follow the asymmetry of
# the curve, which rises more steeply above its optimum.
REACH = np.log(10) / 3
STEPS = 2.2  # a little above 2: the weight is 0 at the end of the reach
ASIDE = REACH * 2 / 3  # of the vertex from the best point, or half of a longer grid step
ROUNDS = 3  # fits: the weights depend on the vertex, and the vertex on the weights
SPACING = np.log(2) / 8  # between the rates that are tested, which the ends are interpolated from
# A point whose excess is so many times the median has half of its weight: a place is told from few
# points, but a slope has less noise with more.
SOFT_PLACE = 2.0
SOFT_SLOPE = 4.0
# The noise of the slopes is pooled over the rates within this share of the reach. Measured on tasks
# with the benchmark `intervals`: such a pool has about half as many degrees of freedom again as one
# rate.
POOL = 0.6
FREEDOM = 1.5
# The interval's least width for the bias of the parabola, also measured there: what the steeper
# side has more of it, and how far from the vertex both sides are compared.
STEEP = 1.3
LEAN = np.log(10) / 2
TOLERANCE = 0.01  # the share of the best score by which a good rate may be worse
FLAT = 2.0  # a curve is flat if its good rates differ by at least this factor


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The best value of a hyperparameter, interpolated between the points of a grid.

    Attributes:
      value: The best value; between the grid's points unless `at_edge` says otherwise.
      interval: Where it lies, with 95 % confidence: `(low, high)`. Open, with 0 or infinity, on the
        side where the grid ends at its best point.
      at_edge: `"low"` or `"high"` if the best point is the grid's first or last, else `None`.
      point: The best point of the grid itself, which `result.best` has too.
      seeds: Number of seeds that it rests on.
      good: The values whose score is at most 1 % of its size worse than the best one, with 95 %
        confidence: `(low, high)`. `None` if the noise of the seeds, or the lack of a second seed,
        does not allow to say it of any. At an edge of the grid, the best one is that of the grid.
    """

    value: float
    interval: tuple[float, float]
    at_edge: Literal["low", "high"] | None
    point: float
    seeds: int
    good: tuple[float, float] | None = None

    @property
    def rate(self) -> float:
        """`value`, by its name where the hyperparameter is a learning rate."""
        return self.value

    @property
    def flat(self) -> bool:
        """Whether the `good` values reach over a factor of 2, so that the choice matters little."""
        return self.good is not None and self.good[1] >= FLAT * self.good[0]

    @property
    def hint(self) -> str:
        """What a few more seeds would do for the interval; empty from three seeds on."""
        if self.at_edge is not None or self.seeds > 2:
            return ""
        if self.seeds == 1:
            return "one seed: the interval does not include how seeds differ, which is unknown"
        return "two seeds: a third one makes the interval much narrower"

    def __str__(self) -> str:
        if self.at_edge is not None:
            word, where = ("lowest", "below") if self.at_edge == "low" else ("highest", "above")
            words = (
                f"{self.value:.3g} is the {word} of the grid: the optimum may lie {where}, extend"
                " the grid that way"
            )
        else:
            low, high = self.interval
            words = f"{self.value:.3g}, between {low:.2g} and {high:.2g}"
            words += f"; interpolated, the best point of the grid is {self.point:.3g}"
        if self.good is not None and self.flat:
            low, high = self.good
            words += f"; flat: from {low:.2g} to {high:.2g} it is within 1 % of the best"
        return f"{words} ({self.hint})" if self.hint else words


def optimum(rates: np.ndarray, scores: np.ndarray) -> Optimum:
    r"""The minimum of scores over rates, between grid points where the curve allows.

    The scores are averaged over seeds, and a parabola in the logarithm of the rate is fitted around
    the best one,

    $$\min_{a, b, c} \sum_i w_i (a + b x_i + c x_i^2 - \bar s_i)^2, \qquad
    w_i = (1 - |x_i / h|^3)^3 / (1 + e_i^2)$$

    where $x_i$ is the distance from the vertex, found in a few rounds, and $h$ the reach. $e_i$ is
    the excess over the least score, in units of twice the median excess within the reach. It takes
    the weight from the steep rise before divergence. The vertex lies at most half of the way to the
    best point's neighbours, or `ASIDE` if this is more.

    The interval ends where the curve surely rises. Around any rate $v$ such a fit, with twice that
    unit, gives the slope of each seed's own curve, $b_s(v)$, in which what the seed adds to all
    rates has no part. Going out from the vertex, the interval ends at the first rates with

    $$|\bar b(v)| > t_{1.5 (n - 1)} \, \hat\sigma(v) / \sqrt n, \qquad
    \hat\sigma^2 = \left((n - 1) \, \mathrm{sd}(b)^2 + \tilde\sigma^2\right) / n$$

    and a slope that leads back to the vertex. $\tilde\sigma$ pools the standard deviations at the
    rates around $v$, whose noise is only partly the same; hence the factor 1.5. With one seed the
    residuals of the parabola take the place of the seeds, and how seeds differ stays unknown.

    A parabola through coarse points is off, and more so towards the steeper side. Therefore the
    interval reaches at least $\Delta \min(\Delta / \log 10, 1/2)$ to either side, where $\Delta$
    is the grid's spacing, and up to 1 + `STEEP` times as far on the steeper side: beside a cliff.

    A rate is good if it is surely not worse than any that may be the best, by more than 1 % of the
    best score: the mean of the seeds' differences from the vertex and from each point within the
    interval, with the same margin added, is at most that. Between points of the grid, scores are on
    a straight line.

    Args:
      rates: Positive rates, shape `[points]`.
      scores: What is minimised, infinite where a lane diverged; shape `[points, seeds]`.

    Returns:
      The `Optimum`. At the edge of the grid, `value` is the edge itself and the interval is open:
      the true optimum may lie beyond.

    Raises:
      ValueError: if no rate has a finite score, or a rate is not positive.

    Reference:
      Fieller, Some Problems in Interval Estimation (1954), for the set of the rates at which the
      slope may be 0. Smyth, Linear Models and Empirical Bayes Methods (2004), for pooled variances.
    """
    # A grid may try NaN or infinity, which have no place on the axis.
    usable = np.isfinite(rates)
    rates = np.asarray(rates, np.float64)[usable]
    scores = np.asarray(scores, np.float64)[usable]
    if not np.all(rates > 0):
        raise ValueError(
            f"`rates` must be positive for an optimum on their logarithmic scale, got {rates.min()}"
        )
    order = np.argsort(rates, kind="stable")
    log_rates = np.log(rates[order])
    scores = scores[order]
    # A rate is lost with one of its lanes, because a mean of the others would praise it.
    known = np.all(np.isfinite(scores), axis=1)
    means = np.where(known, scores.mean(axis=1), np.inf)
    if not np.any(known):
        raise ValueError("every rate diverged with some seed: there is no optimum; try lower rates")
    best = int(np.argmin(means))
    edge: Literal["low", "high"] | None = None
    if best == 0:
        edge = "low"
    elif best == len(means) - 1:
        edge = "high"
    seeds = scores.shape[1]
    x = log_rates[known]
    # Without what a seed adds to all rates. Slopes and differences do not depend on it, and the
    # numbers are more exact without it.
    excess = scores[known] - scores[best]
    fitted = _fit(x, excess)
    # At most up to the ends of the grid, and to the nearest rates that diverged or were pruned.
    lost = log_rates[~known]
    lowest = max(log_rates[0], *lost[lost < log_rates[best]], -np.inf)
    highest = min(log_rates[-1], *lost[lost > log_rates[best]], np.inf)
    low, high = _interval(x, excess, fitted, lowest, highest)
    # Beyond an edge the interval is open, and it reaches at least up to the point next to it.
    if edge == "low":
        low = -np.inf
        high = max(high, log_rates[1]) if len(log_rates) > 1 else np.inf
    elif edge == "high":
        low = min(low, log_rates[-2])
        high = np.inf
    else:
        step = (log_rates[best + 1] - log_rates[best - 1]) / 2
        lean = _lean(log_rates, means, fitted)
        resolution = step * min(step / np.log(10), 0.5)
        below = resolution * (1 + STEEP * max(-lean, 0.0))
        above = resolution * (1 + STEEP * max(lean, 0.0))
        low = max(min(low, fitted.center - below), lowest)
        high = min(max(high, fitted.center + above), highest)
    interval = float(np.exp(low)), float(np.exp(high))
    good = None
    if seeds > 1:
        size = TOLERANCE * abs(float(means[best] + fitted.height.mean()))
        between = (x >= lowest) & (x <= highest)
        rivals = np.vstack([fitted.height, excess[between & (x >= low) & (x <= high)]])
        good = _good(x[between], excess[between], rivals, fitted, size)
    point = float(np.exp(log_rates[best]))
    return Optimum(float(np.exp(fitted.center)), interval, edge, point, seeds, good)


class _Fit(NamedTuple):
    """The parabola around the best point, or that point alone where there is no parabola."""

    center: float  # its vertex, or the best point
    reach: float
    height: np.ndarray  # [seeds], the score of each seed there
    noise: float | None  # the standard deviation of the residuals, if they tell it


def _fit(x: np.ndarray, excess: np.ndarray) -> _Fit:
    """The parabola around the best point of the mean of `excess`, `[points, seeds]`."""
    curve = excess.mean(axis=1)
    best = int(np.argmin(curve))
    gaps = np.diff(x[max(best - 1, 0) : best + 2])
    reach = float(max(REACH, STEPS * np.mean(gaps))) if len(gaps) else float(REACH)
    nothing = _Fit(float(x[best]), reach, excess[best], None)
    # Without a neighbour on each side there is nothing to fit: the best point is at the edge, or
    # right beside the cliff of divergence.
    if best in (0, len(x) - 1):
        return nothing
    # A parabola through points far apart, one of them up a cliff, may have its vertex far from all.
    lowest = x[best] - max(gaps[0] / 2, ASIDE)
    highest = x[best] + max(gaps[1] / 2, ASIDE)
    center = x[best]
    for _ in range(ROUNDS):
        lines = _parabolas(x, curve, np.array([center]), reach, SOFT_PLACE)
        if not lines.usable[0]:
            return nothing
        _, slope, curvature = lines.coefficients[0] @ curve
        # Flat up to rounding, or a maximum.
        if not curvature * reach**2 > 1e-9 * np.ptp(curve[lines.weights[0] > 0]):
            return nothing
        center = np.clip(center - slope / (2 * curvature), lowest, highest)
    lines = _parabolas(x, curve, np.array([center]), reach, SOFT_PLACE)
    if not lines.usable[0]:
        return nothing
    weights = lines.weights[0]
    near = weights > 0
    freedom = near.sum() - 3  # a parabola has three coefficients
    noise = None
    if freedom > 0:
        powers = (x[:, None] - center) ** np.arange(3)
        residuals = (curve - powers @ (lines.coefficients[0] @ curve))[near]
        square = np.average(residuals**2, weights=weights[near])
        noise = float(np.sqrt(square * near.sum() / freedom))
    return _Fit(float(center), reach, lines.coefficients[0, 0] @ excess, noise)


class _Parabolas(NamedTuple):
    """The parabola around each of some centers, as a linear function of the scores."""

    # [centers, 3, points]: times the scores of the points, they give the value, the slope and half
    # of the second derivative at the center.
    coefficients: np.ndarray
    weights: np.ndarray  # [centers, points], 0 where a point is not within reach
    usable: np.ndarray  # [centers], whether there are points enough, on both sides


def _parabolas(
    x: np.ndarray, curve: np.ndarray, centers: np.ndarray, reach: float, soft: float
) -> _Parabolas:
    """Weighted least squares around all centers at once. The weights depend on `curve`."""
    u = (x - centers[:, None]) / reach
    near = np.abs(u) < 1
    count = near.sum(axis=1)
    usable = (count >= 3) & np.any(near & (u <= 0), axis=1) & np.any(near & (u >= 0), axis=1)
    y = np.sort(np.where(near, curve, np.inf), axis=1)
    least = np.where(count > 0, y[:, 0], 0.0)
    y = y - least[:, None]
    # The unit is a multiple of the median. Sorting has put the points that are not near last, at
    # infinity, so the median is the mean of the two entries in the middle of the others.
    middle = np.stack([np.maximum(count - 1, 0) // 2, count // 2], axis=1)
    middle = np.minimum(middle, len(x) - 1)
    unit = soft * np.take_along_axis(y, middle, axis=1).mean(axis=1)
    # Of scores with many ties, the median may be 0. Then nothing is known of the steep rise.
    unit = np.where((unit > 0) & np.isfinite(unit), unit, np.inf)[:, None]
    u = np.where(near, u, 0.0)
    height = np.where(near, curve - least[:, None], 0.0) / unit
    weights = near * (1 - np.abs(u) ** 3) ** 3 / (1 + height**2)
    powers = np.stack([np.ones_like(u), u, u**2], axis=1)
    matrices = np.einsum("cip,cp,cjp->cij", powers, weights, powers)
    # Points at one place, or of almost no weight, make no parabola.
    usable = usable & (np.linalg.cond(np.where(usable[:, None, None], matrices, np.eye(3))) < 1e10)
    matrices = np.where(usable[:, None, None], matrices, np.eye(3))
    solved = np.linalg.solve(matrices, powers * weights[:, None, :])
    return _Parabolas(solved / reach ** np.arange(3)[:, None], weights, usable)


def _interval(
    x: np.ndarray, excess: np.ndarray, fitted: _Fit, lowest: float, highest: float
) -> tuple[float, float]:
    """The rates next to the vertex at which the slope surely leads back to it."""
    tested = _around(fitted.center, lowest, highest)
    lines = _parabolas(x, excess.mean(axis=1), tested, fitted.reach, SOFT_SLOPE)
    tested = tested[lines.usable]
    coefficients = lines.coefficients[lines.usable, 1]
    slopes = coefficients @ excess
    if excess.shape[1] > 1:
        margin = _margin(slopes, fitted.reach)
    elif fitted.noise is not None:
        size = np.sqrt(np.sum(coefficients**2, axis=1))
        margin = QUANTILE * fitted.noise * size
    else:  # too few residuals to tell how large they are
        return fitted.center, fitted.center
    slope = slopes.mean(axis=1)
    return _ends(fitted.center, tested, -slope - margin, slope - margin, lowest, highest)


def _good(
    x: np.ndarray, excess: np.ndarray, rivals: np.ndarray, fitted: _Fit, tolerance: float
) -> tuple[float, float] | None:
    """The rates around the vertex that are worse than no rival by more than the tolerance.

    The best rate is not known, so this holds for all `rivals`, `[rivals, seeds]`, that may be it.
    """
    tested = _around(fitted.center, x[0], x[-1])
    scores = np.stack([np.interp(tested, x, seed) for seed in excess.T], axis=1)
    worse = np.full(len(tested), -np.inf)
    for rival in rivals:
        differences = scores - rival
        bound = differences.mean(axis=1) + _margin(differences, fitted.reach)
        worse = np.maximum(worse, bound - tolerance)
    if worse[tested == fitted.center] > 0:
        return None
    low, high = _ends(fitted.center, tested, worse, worse, x[0], x[-1])
    return float(np.exp(low)), float(np.exp(high))


def _lean(log_rates: np.ndarray, means: np.ndarray, fitted: _Fit) -> float:
    """How much steeper the curve is above the vertex than below: from -1 to 1, 0 if it is even."""
    ends = fitted.center + np.array([-LEAN, LEAN])
    # A straight line to a rate that diverged leads to infinity, or to NaN from another one.
    with np.errstate(invalid="ignore"):
        down, up = np.interp(ends, log_rates, means) - np.min(means)
    if not np.isfinite(up):
        return 1.0 if np.isfinite(down) else 0.0
    if not np.isfinite(down):
        return -1.0
    return float((up - down) / (up + down)) if up + down > 0 else 0.0


def _around(center: float, lowest: float, highest: float) -> np.ndarray:
    """Log rates on both sides of the center, from `lowest` to `highest`."""
    first = np.ceil((lowest - center) / SPACING)
    last = np.floor((highest - center) / SPACING)
    return center + SPACING * np.arange(first, last + 1)


def _margin(values: np.ndarray, reach: float) -> np.ndarray:
    """By how much the means of `values`, `[rates, seeds]`, may be off with 95 % confidence."""
    from scipy import stats

    rates, seeds = values.shape
    deviation = values.std(axis=1, ddof=1)
    places = np.arange(rates)
    apart = np.abs(places[:, None] - places)
    # As far on one side as on the other, since the noise grows with the rate.
    width = np.minimum(POOL * reach / SPACING, np.minimum(places, rates - 1 - places) + 1)
    weights = np.maximum(1 - apart / width[:, None], 0.0)
    # Of square roots: the steep rise before divergence is so noisy that it would decide a mean of
    # squares, and single seeds that agree by chance would decide a geometric mean.
    pooled = (weights @ np.sqrt(deviation) / weights.sum(axis=1)) ** 2
    variance = ((seeds - 1) * deviation**2 + pooled**2) / seeds
    return stats.t.ppf((1 + CONFIDENCE) / 2, FREEDOM * (seeds - 1)) * np.sqrt(variance / seeds)


def _ends(
    center: float,
    tested: np.ndarray,
    below: np.ndarray,
    above: np.ndarray,
    lowest: float,
    highest: float,
) -> tuple[float, float]:
    """Where, going out from the center, `below` and `above` become positive."""
    left = tested <= center
    right = tested >= center
    low = _crossing(tested[left][::-1], below[left][::-1], lowest)
    return low, _crossing(tested[right], above[right], highest)


def _crossing(places: np.ndarray, values: np.ndarray, otherwise: float) -> float:
    """Where the values become positive, in the order of the places, on a straight line between."""
    positive = np.flatnonzero(values > 0)
    if not len(positive):
        return float(otherwise)
    i = positive[0]
    if i == 0:
        return float(places[0])
    share = values[i - 1] / (values[i - 1] - values[i])
    return float(places[i - 1] + share * (places[i] - places[i - 1]))
