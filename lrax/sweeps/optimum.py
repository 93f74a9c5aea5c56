"""The best rate of a loss-against-rate curve, with an interval."""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np

RESAMPLES = 400  # curves that the interval is read from
CONFIDENCE = 0.95
# The parabola is fitted to the points within a third of a decade of the optimum, or within two grid
# steps if these are longer. Fewer points would follow the noise. More would follow the asymmetry of
# the curve, which rises more steeply above its optimum.
REACH = np.log(10) / 3
STEPS = 2.2  # a little above 2: the weight is 0 at the end of the reach
ROUNDS = 3  # refits: the weights depend on the vertex, and the vertex on the weights


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
    """

    value: float
    interval: tuple[float, float]
    at_edge: Literal["low", "high"] | None
    point: float
    seeds: int

    @property
    def rate(self) -> float:
        """`value`, by its name where the hyperparameter is a learning rate."""
        return self.value

    @property
    def hint(self) -> str:
        """What a few more seeds would do for the interval; empty from three seeds on."""
        if self.at_edge is not None or self.seeds > 2:
            return ""
        if self.seeds == 1:
            return "one seed: the interval does not include how seeds differ"
        return "two seeds: a third one makes the interval much narrower"

    def __str__(self) -> str:
        if self.at_edge is not None:
            word, where = ("lowest", "below") if self.at_edge == "low" else ("highest", "above")
            return (
                f"{self.value:.3g} is the {word} of the grid: the optimum may lie {where}, extend"
                " the grid that way"
            )
        low, high = self.interval
        words = f"{self.value:.3g}, between {low:.2g} and {high:.2g}"
        words += f"; interpolated, the best point of the grid is {self.point:.3g}"
        return f"{words} ({self.hint})" if self.hint else words


def optimum(rates: np.ndarray, scores: np.ndarray) -> Optimum:
    r"""The minimum of scores over rates, between grid points where the curve allows.

    The scores are averaged over seeds, and a parabola in the logarithm of the rate is fitted around
    the best one,

    $$\min_{a, b, c} \sum_i w_i (a + b x_i + c x_i^2 - \bar s_i)^2, \qquad
    w_i = (1 - |x_i / h|^3)^3 / (1 + e_i^2)$$

    where $x_i$ is the distance from the vertex, found in a few rounds, and $h$ the reach. $e_i$ is
    the excess over the least score, in units of twice the median excess within the reach. It takes
    the weight from the steep rise before divergence.

    The interval holds 95 % of the vertices of resampled seeds. A seed is drawn with its whole
    curve, because the lanes of a seed share their noise. Such an interval is too narrow for few
    seeds, so it is widened by $t_{n-1} \sqrt{n / (n - 1)} / z$. With one seed the residuals of the
    parabola take the place of the seeds, and how seeds differ stays unknown. The interval reaches
    at least half of the way to the best rate's neighbours: the grid resolves no more.

    Args:
      rates: Positive rates, shape `[points]`.
      scores: What is minimised, infinite where a lane diverged; shape `[points, seeds]`.

    Returns:
      The `Optimum`. At the edge of the grid, `value` is the edge itself and the interval is open:
      the true optimum may lie beyond.

    Raises:
      ValueError: if no rate has a finite score, or a rate is not positive.

    Reference:
      Hesterberg, What Teachers Should Know about the Bootstrap (2015), arXiv:1411.5279, for the
      widening.
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
    means = scores.mean(axis=1)
    if not np.any(np.isfinite(means)):
        raise ValueError("every rate diverged with some seed: there is no optimum; try lower rates")
    best = int(np.argmin(means))
    seeds = scores.shape[1]
    if best in (0, len(means) - 1):
        return _at_edge(log_rates, best, seeds)
    center = float(_vertices(log_rates, means[None])[0])
    low, high = _interval(log_rates, scores, center)
    # At least half of the way to the neighbours on the grid.
    low = min(low, (center + log_rates[best - 1]) / 2)
    high = max(high, (center + log_rates[best + 1]) / 2)
    # At most up to the ends of the grid, and to the nearest rates that diverged or were pruned.
    lost = log_rates[~np.isfinite(means)]
    low = max(low, log_rates[0], *lost[lost < log_rates[best]])
    high = min(high, log_rates[-1], *lost[lost > log_rates[best]])
    interval = float(np.exp(low)), float(np.exp(high))
    point = float(np.exp(log_rates[best]))
    return Optimum(float(np.exp(center)), interval, None, point, seeds)


def _at_edge(log_rates: np.ndarray, best: int, seeds: int) -> Optimum:
    """The optimum where the best point is the first or the last of the grid."""
    rate = float(np.exp(log_rates[best]))
    if best == 0:
        above = float(np.exp(log_rates[1])) if len(log_rates) > 1 else np.inf
        return Optimum(rate, (0.0, above), "low", rate, seeds)
    return Optimum(rate, (float(np.exp(log_rates[-2])), np.inf), "high", rate, seeds)


def _interval(x: np.ndarray, scores: np.ndarray, center: float) -> tuple[float, float]:
    """The ends of the interval: 95 % of the vertices of resampled curves, widened for few seeds."""
    from scipy import stats

    generator = np.random.default_rng(0)  # the same curve has the same interval at every call
    seeds = scores.shape[1]
    if seeds > 1:
        freedom = seeds - 1
        inflation = np.sqrt(seeds / (seeds - 1))
        draws = np.sort(generator.integers(seeds, size=(RESAMPLES, seeds)), axis=1)
        # Each different draw is fitted once: of two seeds there are only three.
        draws, which = np.unique(draws, axis=0, return_inverse=True)
        curves = scores.T[draws].mean(axis=1)
    else:
        fitted = _fit(x, scores.T)
        near = fitted.near[0]
        which = np.arange(RESAMPLES)
        freedom = int(near.sum()) - 3  # a parabola has three coefficients
        inflation = 1.0
        if not fitted.opens[0] or freedom < 1:  # too few residuals to tell how large they are
            return center, center
        # The noise of the points has the size of the residuals.
        size = np.sqrt(
            np.average(fitted.residuals[0] ** 2, weights=fitted.weights[0]) * near.sum() / freedom
        )
        noise = size * near * generator.normal(size=(RESAMPLES, len(x)))
        curves = scores[:, 0] - fitted.residuals[0] + noise
    # `ravel`, because NumPy 2.0 alone returned the inverse in another shape.
    vertices = _vertices(x, curves)[which.ravel()]
    vertices = vertices[np.isfinite(vertices)]
    tail = (1 - CONFIDENCE) / 2
    widening = inflation * stats.t.ppf(1 - tail, freedom) / stats.norm.ppf(1 - tail)
    low, high = np.quantile(vertices, [tail, 1 - tail])
    # Clipped at 0, so that the interval holds the center even if all vertices lie on one side.
    return center + widening * min(low - center, 0.0), center + widening * max(high - center, 0.0)


class _Parabolas(NamedTuple):
    """A parabola for each curve, and the points that it was fitted to."""

    opens: np.ndarray  # [curves], whether it has a minimum; otherwise the rest means nothing
    vertex: np.ndarray  # [curves]
    near: np.ndarray  # [curves, points], whether a point is within reach and has a score
    weights: np.ndarray  # [curves, points], 0 where not near
    residuals: np.ndarray  # [curves, points], 0 where not near


def _vertices(x: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Where the parabola of each curve is lowest, or its best point where there is no parabola.

    NaN if no score is finite.
    """
    fitted = _fit(x, curves)
    vertices = np.where(fitted.opens, fitted.vertex, x[np.argmin(curves, axis=1)])
    return np.where(np.any(np.isfinite(curves), axis=1), vertices, np.nan)


def _fit(x: np.ndarray, curves: np.ndarray) -> _Parabolas:
    """The parabolas around the best points of all curves `[curves, points]`, in a few rounds."""
    known = np.isfinite(curves)
    places = np.arange(len(x))
    best = np.argmin(curves, axis=1)[:, None]
    # The nearest points on either side of the best one that have a score.
    below = np.where(known & (places < best), x, -np.inf).max(axis=1)
    above = np.where(known & (places > best), x, np.inf).min(axis=1)
    # Without a neighbour on each side there is nothing to fit: the best point is at the edge, or
    # right beside the cliff of divergence.
    opens = np.isfinite(above - below)
    # Excesses over the best score. A curve without one has infinity less infinity, which is NaN, so
    # nothing is subtracted there.
    y = np.where(known, curves - np.where(opens, np.min(curves, axis=1), 0.0)[:, None], np.inf)
    reach = np.maximum(REACH, STEPS * np.where(opens, above - below, 0.0) / 2)
    center = x[best[:, 0]]
    # A vertex outside the data that made it is an extrapolation.
    lowest = np.maximum(np.where(known, x, np.inf).min(axis=1), center - reach)
    highest = np.minimum(np.where(known, x, -np.inf).max(axis=1), center + reach)
    fitted = _parabolas(x, y, center, reach)
    for _ in range(ROUNDS):
        opens = opens & fitted.opens
        center = np.where(opens, np.clip(fitted.vertex, lowest, highest), center)
        fitted = _parabolas(x, y, center, reach)
    return fitted._replace(opens=opens & fitted.opens, vertex=center)


def _parabolas(x: np.ndarray, y: np.ndarray, center: np.ndarray, reach: np.ndarray) -> _Parabolas:
    """The parabolas fitted to the excesses `y` of the points within reach of each curve's center.

    An excess is infinite where it is not known.
    """
    u = x - center[:, None]
    near = (np.abs(u) < reach[:, None]) & np.isfinite(y)
    count = near.sum(axis=1)
    # The unit is twice the median. Sorting puts the points that are not near last, at infinity, so
    # the median is the mean of the two entries in the middle of the others.
    middle = np.stack([np.maximum(count - 1, 0) // 2, count // 2], axis=1)
    y = np.where(near, y, np.inf)
    unit = 2 * np.take_along_axis(np.sort(y, axis=1), np.minimum(middle, len(x) - 1), axis=1).mean(
        axis=1
    )
    # Three points make a parabola. A unit of 0 is a flat curve, which has no minimum.
    opens = (count >= 3) & (unit > 0) & np.isfinite(unit)
    unit = np.where(opens, unit, 1.0)[:, None]
    u = np.where(near, u, 0.0)
    excess = np.where(near, y, 0.0) / unit
    weights = near * (1 - np.abs(u / reach[:, None]) ** 3) ** 3 / (1 + excess**2)
    powers = np.stack([np.ones_like(u), u, u**2], axis=2)
    root = np.sqrt(weights)
    # Weighted least squares of all curves at once. The pseudo-inverse also takes the matrices of
    # the curves that have no parabola, which are singular.
    rcond = len(x) * np.finfo(np.float64).eps
    coefficients = np.einsum(
        "cip,cp->ci", np.linalg.pinv(powers * root[:, :, None], rcond), excess * root
    )
    slope = coefficients[:, 1]
    curvature = coefficients[:, 2]
    opens = opens & (curvature > 1e-9)  # flat up to rounding, or a maximum
    vertex = center - slope / np.where(opens, 2 * curvature, 1.0)
    residuals = near * (excess - np.einsum("cpi,ci->cp", powers, coefficients)) * unit
    return _Parabolas(opens, vertex, near, weights, residuals)
