"""Statistics of the lanes' scores: differences by seed, one standard error, sensitivity."""

import itertools
from typing import NamedTuple

import numpy as np

from .. import _require

# Up to this number of seeds all 65536 choices of signs are tried; beyond, that many are drawn.
EXACT_SEEDS = 16


class Paired(NamedTuple):
    """Every point against a reference point, seed by seed; positive is worse."""

    reference: int  # index of the point that the others are compared to
    differences: np.ndarray  # [points, seeds]; infinite where a lane diverged
    mean: np.ndarray  # [points]
    standard_error: np.ndarray  # [points]; infinite where a lane diverged
    interval: np.ndarray  # [points, 2], of the mean, by Student's t
    p_value: np.ndarray  # [points], two-sided, by exact sign flips


def paired(scores: np.ndarray, reference: int, confidence: float = 0.95) -> Paired:
    r"""Differences of all points to one, seed by seed, and how sure they are.

    $$d_{ps} = s_{ps} - s_{rs}, \qquad \bar d_p \pm t_{n-1} \, \mathrm{sd}(d_p) / \sqrt n$$

    and $p$ is the share of the $2^n$ choices of signs whose mean is at least as far from zero.

    Args:
      scores: What is minimised, infinite where a lane diverged; `[points, seeds]`.
      reference: Index of the point to compare to, without a diverged lane.
      confidence: Coverage of the intervals, in (0, 1).

    Returns:
      The `Paired`.

    Raises:
      ValueError: if there are fewer than two seeds, or a lane of the reference diverged.
    """
    from scipy import stats

    _require.fraction("confidence", confidence)
    n = _replicated(scores)
    if not np.all(np.isfinite(scores[reference])):
        raise ValueError(f"`reference` must be a point without a diverged lane, got {reference}")
    differences = scores.astype(np.float64) - scores[reference]
    known = np.all(np.isfinite(differences), axis=1)
    finite = np.where(known[:, None], differences, 0.0)
    error = np.where(known, finite.std(axis=1, ddof=1) / np.sqrt(n), np.inf)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * error
    center = np.where(known, finite.mean(axis=1), 0.0)
    interval = np.stack([center - half, center + half], axis=1)
    p_values = np.array([_sign_flips(row) for row in differences])
    return Paired(
        reference, differences, np.where(known, center, np.inf), error, interval, p_values
    )


def _sign_flips(differences: np.ndarray) -> float:
    """The p-value of Fisher's test that differences are as often positive as negative.

    Exact for few seeds.
    """
    n = len(differences)
    size = np.abs(differences)
    known = np.isfinite(size)
    # An infinite difference outweighs all finite ones together, and infinite ones weigh the same.
    top = 4 * size[known].sum()
    size = np.where(known, size, top if top > 0 else 1.0)
    observed = abs(np.sum(np.copysign(size, differences)))
    if n <= EXACT_SEEDS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
        extra = 0
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), size=(2**EXACT_SEEDS, n))
        extra = 1  # the observed signs are one of the choices
    # Sums of the same numbers in another order count as equal.
    as_far = np.abs(signs @ size) >= observed * (1 - 1e-9)
    return float((as_far.sum() + extra) / (len(signs) + extra))


def one_standard_error(rates: np.ndarray, scores: np.ndarray, *, pair: bool = False) -> float:
    r"""The smallest rate whose mean score is within one standard error of the best one's.

    $$\min \{ \eta_p : \bar s_p \le \bar s_b + \mathrm{sd}(s_b) / \sqrt n \}$$

    or, paired, `mean(s_p - s_b) <= sd(s_p - s_b) / sqrt(n)`.

    Args:
      rates: Rates, `[points]`.
      scores: What is minimised, infinite where a lane diverged; `[points, seeds]`.
      pair: Whether the standard error is that of the difference by seed.

    Returns:
      One of `rates`.

    Raises:
      ValueError: if there are fewer than two seeds, or every rate diverged.
    """
    n = _replicated(scores)
    means = scores.mean(axis=1, dtype=np.float64)
    best = int(np.argmin(means))
    if not np.isfinite(means[best]):
        raise ValueError(
            "every rate diverged with some seed: there is no best one; try lower rates"
        )
    known = np.flatnonzero(np.isfinite(means))
    spread = (
        scores[known].astype(np.float64) - scores[best]
        if pair
        else scores[[best]].astype(np.float64)
    )
    error = spread.std(axis=1, ddof=1) / np.sqrt(n)
    return float(rates[known][means[known] - means[best] <= error].min())


def sensitivity(rates: np.ndarray, scores: np.ndarray, initial: np.ndarray | float) -> float:
    r"""The loss that a blind choice of a rate from the grid costs.

    $$\mathbb{E}_\eta [\min(s(\eta), s_0)] - \min_\eta s(\eta)$$

    over rates that are uniform on the logarithmic scale. Each rate of the grid counts for the
    stretch of the scale that it is nearest to; the least and the greatest count for the same length
    outside of the grid as inside, so that equal ratios give the plain mean.

    Args:
      rates: Positive rates, `[points]`.
      scores: What is minimised, infinite where a lane diverged; `[points, seeds]`.
      initial: The score before the first update: a number, or one for each seed.

    Returns:
      The sensitivity, at least 0, in units of the score.

    Raises:
      ValueError: if a rate is not positive, `initial` is not finite, or every rate diverged with
        some seed: then nothing is known, and 0 would be the best there is.
    """
    rates = np.asarray(rates, np.float64)
    _require.positive({"rates": rates}, "rates")
    _require.finite({"initial": initial}, "initial")
    if not np.any(np.all(np.isfinite(scores), axis=1)):
        raise ValueError("every rate diverged with some seed: the sensitivity is not known")
    clipped = np.minimum(scores.astype(np.float64), np.asarray(initial, np.float64)).mean(axis=1)
    order = np.argsort(rates, kind="stable")
    x = np.log(rates[order])
    clipped = clipped[order]
    if len(x) < 2:
        return 0.0
    gaps = np.diff(x)
    weights = np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])
    return float(
        np.average(clipped, weights=weights if weights.sum() > 0 else None) - clipped.min()
    )


def means(values: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The mean over seeds, and its interval by Student's t; NaN where a value is not finite.

    Args:
      values: `[points, seeds]`.
      confidence: Coverage of the intervals, in (0, 1).

    Returns:
      The means `[points]` and the intervals `[points, 2]`.

    Raises:
      ValueError: if there are fewer than two seeds.
    """
    from scipy import stats

    _require.fraction("confidence", confidence)
    n = _replicated(values)
    finite = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    mean = finite.mean(axis=1)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * finite.std(axis=1, ddof=1) / np.sqrt(n)
    return mean, np.stack([mean - half, mean + half], axis=1)


def _replicated(values: np.ndarray) -> int:
    if values.shape[1] < 2:
        raise ValueError(
            "this needs at least 2 seeds, because one says nothing of their spread; sweep with"
            " `seeds=3` or more"
        )
    return values.shape[1]
