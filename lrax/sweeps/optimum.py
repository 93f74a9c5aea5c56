"""The best rate of a loss-against-rate curve, with an interval."""

from typing import NamedTuple

import numpy as np

RESAMPLES = 200


class Optimum(NamedTuple):
    """The best rate, an interval around it, and whether the curve may go on falling beyond the grid."""

    rate: float
    interval: tuple[float, float]
    at_edge: str | None  # "low" or "high" when the best rate is the grid's first or last


def optimum(rates: np.ndarray, scores: np.ndarray) -> Optimum:
    """The minimum of scores over rates, between grid points where the curve allows.

    The scores are averaged over seeds, and a parabola in the logarithm of the rate is fitted to the best rate and up to
    two finite neighbours on either side; its lowest point counts if it lies between the best rate's neighbours. The
    interval holds 95 % of the optima of resampled seeds, and is never narrower than the grid is coarse: it reaches at
    least half way to the neighbours, since no grid says more.

    Args:
      rates: Positive rates, shape `[points]`.
      scores: What is minimised, infinite where a lane diverged; shape `[points, seeds]`.

    Returns:
      The `Optimum`. At the edge of the grid, `rate` is the edge itself: the true optimum may lie beyond.

    Raises:
      ValueError: if no rate has a finite score, or a rate is not positive.
    """
    usable = np.isfinite(rates)
    rates, scores = rates[usable], scores[usable]
    if not np.all(rates > 0):
        raise ValueError(f"`rates` must be positive for an optimum on their logarithmic scale, got {rates.min()}")
    order = np.argsort(rates)
    log_rates, scores = np.log(rates[order]), scores[order]
    means = scores.mean(axis=1)
    if not np.any(np.isfinite(means)):
        raise ValueError("every rate diverged with some seed: there is no optimum; try lower rates")
    best = int(np.argmin(means))
    center = _lowest(log_rates, means)

    seeds = scores.shape[1]
    draws = np.random.default_rng(0).integers(seeds, size=(RESAMPLES if seeds > 1 else 0, seeds))
    resampled = [scores[:, draw].mean(axis=1) for draw in draws]
    centers = [_lowest(log_rates, mean) for mean in resampled if np.any(np.isfinite(mean))] + [center]
    low, high = np.quantile(centers, [0.025, 0.975])
    below, above = log_rates[max(best - 1, 0)], log_rates[min(best + 1, len(means) - 1)]
    low, high = min(low, (center + below) / 2), max(high, (center + above) / 2)

    edge = "low" if best == 0 else "high" if best == len(means) - 1 else None
    return Optimum(float(np.exp(center)), (float(np.exp(low)), float(np.exp(high))), edge)


def _lowest(log_rates: np.ndarray, means: np.ndarray) -> float:
    best = int(np.argmin(means))
    if 0 < best < len(means) - 1:
        near = np.arange(max(best - 2, 0), min(best + 3, len(means)))
        near = near[np.isfinite(means[near])]
        x = log_rates[near] - log_rates[best]
        if x.min() < 0 < x.max():
            curvature, slope, _ = np.polyfit(x, means[near], 2)
            lowest = log_rates[best] - slope / (2 * curvature) if curvature > 0 else np.inf
            if log_rates[best - 1] < lowest < log_rates[best + 1]:
                return float(lowest)
    return float(log_rates[best])
