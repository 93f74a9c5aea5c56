"""The best rate of a loss-against-rate curve, with an interval and the range of the good rates."""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np

CONFIDENCE = 0.95
QUANTILE = 1.96  # of the normal distribution, for that confidence
# The reach: the parabola is fitted to the points within a third of a decade of the optimum, or
# within two grid steps if these are longer. With fewer points it would follow the noise. With more
# it would follow the asymmetry of the curve, which rises more steeply above its optimum.
REACH = np.log(10) / 3
# A little above 2, because the weight falls to 0 at the end of the reach: so a point two steps away
# still has some weight.
STEPS = 2.2
# The vertex lies at most this far from the best point, or half of a grid step if that is longer.
ASIDE = REACH * 2 / 3
# The number of fits, one after another: the weights depend on the vertex, and the vertex on the
# weights.
ROUNDS = 3
# The distance between the rates at which slopes and scores are tested. The ends of a range are
# interpolated between two such rates.
SPACING = np.log(2) / 8
# A point whose excess over the least score is this many times the median excess has half of the
# weight that it would have without an excess. Few points are enough to locate the vertex, so its
# fit gives high points less weight. A slope has less noise if more points count.
SOFT_VERTEX = 2.0
SOFT_SLOPE = 4.0
# The noise of slopes and of differences is pooled over the rates within this share of the reach.
# The pooled estimate has about `FREEDOM` times the degrees of freedom of a single rate's estimate.
# That factor was measured on tasks, with the benchmark `intervals`.
POOL = 0.6
FREEDOM = 1.5
# A coarse grid biases the parabola, so the interval has a least width. On the steeper side it is up
# to 1 + `STEEP` times as wide. Which side is steeper is read from the scores at the distance `LEAN`
# from the vertex. Both numbers were found with the same benchmark.
STEEP = 1.3
LEAN = np.log(10) / 2
TOLERANCE = 0.01  # a good rate may be worse by this share of the best score
FLAT = 2.0  # a curve is flat if its highest good rate is at least this many times its lowest


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The best value of a hyperparameter, interpolated between the points of a grid.

    Attributes:
      value: The best value. It may lie between the grid's points. If `at_edge` is set, it is the
        value at that edge.
      interval: The confidence interval of the best value, at 95 %: `(low, high)`. If the best point
        is at an edge of the grid, the interval is open on that side: it ends at 0 or infinity.
      at_edge: `"low"` or `"high"` if the best point is the grid's lowest or highest, else `None`.
      point: The best point of the grid itself, as in `result.best`.
      seeds: Number of seeds whose scores were used.
      good: The range `(low, high)` of the values whose score is, with 95 % confidence, at most 1 %
        worse than the best score. `None` if there is only one seed, or if the seeds differ too
        much to show this for any value. At an edge of the grid, the best score is that of the
        grid's best point.
    """

    value: float
    interval: tuple[float, float]
    at_edge: Literal["low", "high"] | None
    point: float
    seeds: int
    good: tuple[float, float] | None = None

    @property
    def rate(self) -> float:
        """The same as `value`: a name that suits a learning rate."""
        return self.value

    @property
    def flat(self) -> bool:
        """Whether the `good` values span a factor of 2 or more: then the choice matters little."""
        return self.good is not None and self.good[1] >= FLAT * self.good[0]

    @property
    def hint(self) -> str:
        """What more seeds would do for the interval; empty from three seeds on, or at an edge."""
        if self.at_edge is not None or self.seeds > 2:
            return ""
        if self.seeds == 1:
            return "one seed: the interval does not include how seeds differ, which is unknown"
        return "two seeds: a third one makes the interval much narrower"

    def __str__(self) -> str:
        if self.at_edge is not None and self.interval == (0, np.inf):
            words = f"{self.value:.3g} is the only value of the grid: the optimum may lie anywhere"
        elif self.at_edge is not None:
            word, where = ("lowest", "below") if self.at_edge == "low" else ("highest", "above")
            words = (
                f"{self.value:.3g} is the {word} of the grid: the optimum may lie {where}, extend"
                " the grid that way"
            )
        else:
            low, high = self.interval
            words = f"{self.value:.3g}, between {low:.2g} and {high:.2g}"
            if self.value != self.point:
                words += f"; interpolated, the best point of the grid is {self.point:.3g}"
        if self.good is not None and self.flat:
            low, high = self.good
            words += f"; flat: from {low:.2g} to {high:.2g} it is within 1 % of the best"
        return f"{words} ({self.hint})" if self.hint else words


def optimum(rates: np.ndarray, scores: np.ndarray) -> Optimum:
    r"""The rate with the lowest score, interpolated between grid points where the curve allows.

    The scores are averaged over seeds, and a parabola in the logarithm of the rate is fitted around
    the best rate:

    $$\min_{a, b, c} \sum_i w_i (a + b x_i + c x_i^2 - \bar s_i)^2, \qquad
    w_i = (1 - |x_i / h|^3)^3 / (1 + e_i^2)$$

    where $\bar s_i$ is the mean score, $x_i$ the distance from the vertex, which is found by
    iteration, and $h$ the reach, a third of a decade or more. $e_i$ is the excess over the least
    score, in units of twice the median excess within the reach. So points on the steep rise before
    divergence get little weight. The vertex lies at most half of the way to the best point's
    neighbours, or 2/9 of a decade if this is more.

    The interval ends where the curve rises significantly. The same fit around any rate $v$ gives
    the slope of each seed's own curve, $b_s(v)$. For slopes the unit of the excess is twice as
    large. A constant that a seed adds to its scores at all rates does not change its slopes. Going
    out from the vertex, the interval of $n$ seeds ends at the first rates with

    $$|\bar b(v)| > t_{1.5 (n - 1)} \, \hat\sigma(v) / \sqrt n, \qquad
    \hat\sigma^2 = \left((n - 1) \, \mathrm{sd}(b)^2 + \tilde\sigma^2\right) / n$$

    where the curve, whose mean slope is $\bar b$, rises away from the vertex. $\tilde\sigma$ pools
    the standard deviations at the rates around $v$. Their noise is only partly correlated, so
    together they tell more about $\sigma$ than one rate: hence 1.5 times the degrees of freedom.
    With one seed, the noise is estimated from the residuals of the parabola. How seeds differ is
    then unknown.

    On a coarse grid the vertex of the parabola is biased, and more so if one side is steeper.
    Therefore the interval reaches at least $\Delta \min(\Delta / \log 10, 1/2)$ to either side of
    the vertex, where $\Delta$ is the grid's spacing in the log rate. On the steeper side it reaches
    up to 1 + `STEEP` times as far, and at a cliff by this full factor.

    Any rate within the interval may be the best one. So a rate is compared with several rivals: the
    vertex and the points of the grid within the interval. The rate is good if, for each rival, the
    upper end of the confidence interval of the mean difference in score is at most 1 % of the best
    score. Between points of the grid, scores are interpolated linearly.

    Args:
      rates: Positive rates, shape `[points]`.
      scores: What is minimised, infinite where a lane diverged; shape `[points, seeds]`.

    Returns:
      The `Optimum`. At the edge of the grid, `value` is the edge itself and the interval is open:
      the true optimum may lie beyond.

    Raises:
      ValueError: if no rate has a finite score with every seed, or a rate is not positive.

    Reference:
      Fieller, Some Problems in Interval Estimation (1954), for the set of the rates at which the
      slope may be 0. Smyth, Linear Models and Empirical Bayes Methods (2004), for pooled variances.
    """
    # A grid may contain NaN or infinity as values. A logarithmic axis cannot show them.
    usable = np.isfinite(rates)
    rates = np.asarray(rates, np.float64)[usable]
    scores = np.asarray(scores, np.float64)[usable]
    if not np.all(rates > 0):
        raise ValueError(
            f"`rates` must be positive for an optimum on their logarithmic scale, got {rates.min()}"
        )
    # A rate that the grid has twice is one rate, with the mean of its scores.
    rates, which = np.unique(rates, return_inverse=True)
    scores = np.stack([scores[which == i].mean(axis=0) for i in range(len(rates))])
    log_rates = np.log(rates)
    # A rate counts as unknown if one of its lanes has no finite score: the mean of its other lanes
    # would look too good.
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
    # Each seed's score at the best point is subtracted from all its scores. Slopes and differences
    # do not change by that, and smaller numbers have smaller rounding errors.
    excess = scores[known] - scores[best]
    fitted = _fit(x, excess)
    # The limits of the interval: the ends of the grid, or nearer rates that diverged or were
    # pruned.
    lost = log_rates[~known]
    lowest = max(log_rates[0], *lost[lost < log_rates[best]], -np.inf)
    highest = min(log_rates[-1], *lost[lost > log_rates[best]], np.inf)
    # The parabola was fitted through the known rates alone. So its vertex may lie beyond a rate
    # that diverged or was pruned.
    within = x[(x >= lowest) & (x <= highest)]
    if not within[0] <= fitted.center <= within[-1]:
        fitted = fitted._replace(center=float(log_rates[best]), height=np.zeros(seeds), noise=None)
    low, high = _interval(x, excess, fitted, lowest, highest)
    # If the best point is at an edge, the interval is open on that side. On the other side it
    # reaches at least to the neighbouring point of the grid.
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
        # `height` is relative to the best point's score, which is added back here.
        size = TOLERANCE * abs(float(means[best] + fitted.height.mean()))
        between = (x >= lowest) & (x <= highest)
        rivals = np.vstack([fitted.height, excess[between & (x >= low) & (x <= high)]])
        good = _good(x[between], excess[between], rivals, fitted, size)
    point = float(rates[best])
    value = point if fitted.center == log_rates[best] else float(np.exp(fitted.center))
    return Optimum(value, interval, edge, point, seeds, good)


class _Fit(NamedTuple):
    """The parabola around the best point, or that point alone if no parabola can be fitted."""

    center: float  # the log rate of the vertex, or of the best point
    reach: float
    height: np.ndarray  # [seeds], the excess of each seed at the center
    noise: float | None  # the standard deviation of the residuals; None if there are too few points


def _fit(x: np.ndarray, excess: np.ndarray) -> _Fit:
    """The parabola around the best point of the mean of `excess`, `[points, seeds]`."""
    curve = excess.mean(axis=1)
    best = int(np.argmin(curve))
    gaps = np.diff(x[max(best - 1, 0) : best + 2])
    reach = float(max(REACH, STEPS * np.mean(gaps))) if len(gaps) else float(REACH)
    nothing = _Fit(float(x[best]), reach, excess[best], None)
    # A fit needs a neighbour on each side. There is none if the best point is at the edge of the
    # grid, or if all rates beyond it diverged.
    if best in (0, len(x) - 1):
        return nothing
    # The vertex may not leave this range. If points are far apart and one of them is on a cliff,
    # the parabola may have its vertex far from all points.
    lowest = x[best] - max(gaps[0] / 2, ASIDE)
    highest = x[best] + max(gaps[1] / 2, ASIDE)
    center = x[best]
    for _ in range(ROUNDS):
        lines = _parabolas(x, curve, np.array([center]), reach, SOFT_VERTEX)
        if not lines.usable[0]:
            return nothing
        _, slope, curvature = lines.coefficients[0] @ curve
        # Here the curve is flat up to rounding, or the parabola has a maximum in place of a
        # minimum.
        if not curvature * reach**2 > 1e-9 * np.ptp(curve[lines.weights[0] > 0]):
            return nothing
        center = np.clip(center - slope / (2 * curvature), lowest, highest)
    lines = _parabolas(x, curve, np.array([center]), reach, SOFT_VERTEX)
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
    """A parabola around each of several centers, as a linear function of the scores."""

    # [centers, 3, points]: a matrix for each center. Its product with the scores of the points is
    # the value, the slope and half of the second derivative of the parabola at the center.
    coefficients: np.ndarray
    weights: np.ndarray  # [centers, points], 0 where a point is not within reach
    usable: np.ndarray  # [centers], whether enough points are within reach, on both sides


def _parabolas(
    x: np.ndarray, curve: np.ndarray, centers: np.ndarray, reach: float, soft: float
) -> _Parabolas:
    """Weighted least squares around all centers at once.

    The weights depend on `curve`, the mean of the scores over seeds. `soft` is `SOFT_VERTEX` or
    `SOFT_SLOPE`.
    """
    u = (x - centers[:, None]) / reach
    near = np.abs(u) < 1
    count = near.sum(axis=1)
    usable = (count >= 3) & np.any(near & (u <= 0), axis=1) & np.any(near & (u >= 0), axis=1)
    y = np.sort(np.where(near, curve, np.inf), axis=1)
    least = np.where(count > 0, y[:, 0], 0.0)
    y = y - least[:, None]
    # The unit is a multiple of the median of the near points. The other points are at infinity, and
    # sorting has put them last. So the median is the mean of the two middle ones of the first
    # `count` entries.
    middle = np.stack([np.maximum(count - 1, 0) // 2, count // 2], axis=1)
    middle = np.minimum(middle, len(x) - 1)
    unit = soft * np.take_along_axis(y, middle, axis=1).mean(axis=1)
    # If many scores are equal, the median may be 0, which cannot be the unit. Then the unit is
    # infinite, so that no point loses weight by its excess.
    unit = np.where((unit > 0) & np.isfinite(unit), unit, np.inf)[:, None]
    u = np.where(near, u, 0.0)
    height = np.where(near, curve - least[:, None], 0.0) / unit
    weights = near * (1 - np.abs(u) ** 3) ** 3 / (1 + height**2)
    powers = np.stack([np.ones_like(u), u, u**2], axis=1)
    matrices = np.einsum("cip,cp,cjp->cij", powers, weights, powers)
    # If points coincide or have almost no weight, they do not determine a parabola. The matrix of
    # such a center is replaced by the identity, because `solve` fails for a singular one.
    usable = usable & (np.linalg.cond(np.where(usable[:, None, None], matrices, np.eye(3))) < 1e10)
    matrices = np.where(usable[:, None, None], matrices, np.eye(3))
    solved = np.linalg.solve(matrices, powers * weights[:, None, :])
    # The fit is in units of the reach. The division gives derivatives by `x`.
    return _Parabolas(solved / reach ** np.arange(3)[:, None], weights, usable)


def _interval(
    x: np.ndarray, excess: np.ndarray, fitted: _Fit, lowest: float, highest: float
) -> tuple[float, float]:
    """The nearest log rates on both sides where the curve surely rises away from the vertex."""
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
    else:  # too few points for an estimate of the noise: the caller widens this interval
        return fitted.center, fitted.center
    slope = slopes.mean(axis=1)
    return _ends(fitted.center, tested, -slope - margin, slope - margin, lowest, highest)


def _good(
    x: np.ndarray, excess: np.ndarray, rivals: np.ndarray, fitted: _Fit, tolerance: float
) -> tuple[float, float] | None:
    """The range of rates around the vertex that are surely within the tolerance of each rival.

    `rivals`, `[rivals, seeds]`, are the scores at all rates that may be the best one. Which of them
    is the best is not known, so a good rate must be compared with each.
    """
    tested = _around(fitted.center, x[0], x[-1])
    scores = np.stack([np.interp(tested, x, seed) for seed in excess.T], axis=1)
    worse = np.full(len(tested), -np.inf)
    for rival in rivals:
        differences = scores - rival
        bound = differences.mean(axis=1) + _margin(differences, fitted.reach)
        worse = np.maximum(worse, bound - tolerance)
    # `tested` has the center itself as one entry. If the center is not good, there is no range.
    if worse[tested == fitted.center] > 0:
        return None
    low, high = _ends(fitted.center, tested, worse, worse, x[0], x[-1])
    return float(np.exp(low)), float(np.exp(high))


def _lean(log_rates: np.ndarray, means: np.ndarray, fitted: _Fit) -> float:
    """How much steeper the curve is above the vertex than below it.

    It is 0 if both sides rise alike, 1 for a cliff above the vertex, and -1 for one below it.
    """
    ends = fitted.center + np.array([-LEAN, LEAN])
    # The mean of a rate that diverged is infinite. Next to such a rate the interpolated value is
    # infinite or NaN. Both are treated as a cliff.
    with np.errstate(invalid="ignore"):
        down, up = np.interp(ends, log_rates, means) - np.min(means)
    if not np.isfinite(up):
        return 1.0 if np.isfinite(down) else 0.0
    if not np.isfinite(down):
        return -1.0
    return float((up - down) / (up + down)) if up + down > 0 else 0.0


def _around(center: float, lowest: float, highest: float) -> np.ndarray:
    """Log rates from `lowest` to `highest`, spaced evenly from the center, which is one of them."""
    first = np.ceil((lowest - center) / SPACING)
    last = np.floor((highest - center) / SPACING)
    return center + SPACING * np.arange(first, last + 1)


def _margin(values: np.ndarray, reach: float) -> np.ndarray:
    """Half the width of a 95 % interval for the mean over seeds of `values`, `[rates, seeds]`."""
    from scipy import stats

    rates, seeds = values.shape
    deviation = values.std(axis=1, ddof=1)
    places = np.arange(rates)
    apart = np.abs(places[:, None] - places)
    # A pool reaches equally far to both sides. The noise grows with the rate, so a pool with more
    # rates on one side than on the other would estimate too much or too little noise.
    width = np.minimum(POOL * reach / SPACING, np.minimum(places, rates - 1 - places) + 1)
    weights = np.maximum(1 - apart / width[:, None], 0.0)
    # The mean of the square roots, squared. In a mean of squares, the noisy rates of the steep rise
    # before divergence would outweigh all others. In a geometric mean, a rate at which the seeds
    # agree by chance would outweigh them.
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
    """The places at which `below` and `above` first become positive, going out from the center.

    `below` is used on the lower side of the center and `above` on the upper side.
    """
    left = tested <= center
    right = tested >= center
    low = _crossing(tested[left][::-1], below[left][::-1], lowest)
    return low, _crossing(tested[right], above[right], highest)


def _crossing(places: np.ndarray, values: np.ndarray, otherwise: float) -> float:
    """The first place at which the values become positive, or `otherwise` if they never do.

    Places are taken in their order, and values between two places are interpolated linearly.
    """
    positive = np.flatnonzero(values > 0)
    if not len(positive):
        return float(otherwise)
    i = positive[0]
    if i == 0:
        return float(places[0])
    share = values[i - 1] / (values[i - 1] - values[i])
    return float(places[i - 1] + share * (places[i] - places[i - 1]))
