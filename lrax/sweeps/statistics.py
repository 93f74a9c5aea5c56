"""Statistics of the lanes' scores: differences by seed, one standard error, sensitivity."""

import itertools
from typing import NamedTuple

import numpy as np

from .. import _require

# Up to this number of seeds all choices of signs are tried, at most 65536. With more seeds, 65536
# choices are drawn.
EXACT_SEEDS = 16


class Paired(NamedTuple):
    """Every point against a reference point, seed by seed; a positive difference is worse."""

    # Index of the point that the others are compared to; of a `StructuralResult` (choice, point).
    reference: int | tuple[int, int]
    differences: np.ndarray  # [points, seeds]; see `paired` for lanes that diverged
    mean: np.ndarray  # [points]
    standard_error: np.ndarray  # [points]; infinite where a lane of the pair has no score
    interval: np.ndarray  # [points, 2], of the mean, by Student's t
    p_value: np.ndarray  # [points], two-sided, by exact sign flips
    status: np.ndarray  # [points], "done", or why the pair has a lane without a score


def paired(
    scores: np.ndarray,
    reference: int,
    confidence: float = 0.95,
    status: np.ndarray | None = None,
) -> Paired:
    r"""The differences of all points to one, seed by seed, with intervals and p-values.

    $$d_{ps} = s_{ps} - s_{rs}, \qquad \bar d_p \pm t_{n-1} \, \mathrm{sd}(d_p) / \sqrt n$$

    and $p$ is the share of the $2^n$ choices of signs whose mean is at least as far from zero.

    A difference is infinite where one of its two lanes diverged, with the sign that says which. It
    is NaN where both did, and so is the mean of a point with such a seed, or with infinite
    differences of both signs. For the p-value, a seed in which both diverged is a tie. Nothing is
    known of a point that was not trained to the end: its differences, mean and p-value are NaN.
    Without a finite mean, the standard error is infinite and the interval unbounded.

    Args:
      scores: What is minimised, infinite where a lane diverged; `[points, seeds]`.
      reference: Index of the point to compare to, which was trained to the end.
      confidence: Coverage of the intervals, in (0, 1).
      status: Of every lane, as in a result; without it, an infinite score means divergence.

    Returns:
      The `Paired`.

    Raises:
      ValueError: if there are fewer than two seeds, or the reference was not trained to the end.
    """
    from scipy import stats

    _require.fraction("confidence", confidence)
    n = _replicated(scores)
    labels = _labels(scores, np.full(scores.shape, "done") if status is None else status)
    # What the score of such a point would have been at the end is not known.
    unknown = ~np.isin(labels, ("done", "diverged"))
    if unknown[reference]:
        raise ValueError(
            "`reference` must be a point that was trained to the end, got one that was"
            f" {labels[reference]}"
        )
    with np.errstate(invalid="ignore"):  # infinity minus infinity gives the intended NaN
        differences = scores.astype(np.float64) - scores[reference]
        differences[unknown] = np.nan
        mean = differences.mean(axis=1)
    known = np.all(np.isfinite(differences), axis=1)
    # Rows with a difference that is not finite become zeros, because their deviation would be NaN.
    finite = np.where(known[:, None], differences, 0.0)
    error = np.where(known, finite.std(axis=1, ddof=1) / np.sqrt(n), np.inf)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * error
    center = finite.mean(axis=1)
    interval = np.stack([center - half, center + half], axis=1)
    # The infinite differences are included, because a divergence is evidence too.
    p_values = np.array([_sign_flips(row) for row in differences])
    p_values[unknown] = np.nan
    # If a lane of the reference diverged, that lane is in every pair.
    labels[~known & ~unknown] = "diverged"
    return Paired(reference, differences, mean, error, interval, p_values, labels)


def _labels(scores: np.ndarray, status: np.ndarray) -> np.ndarray:
    """Why a point has a lane without a score, or "done"; `[points]`."""
    lost = ~np.isfinite(scores)
    labels = np.where(lost.any(axis=1), "diverged", "done").astype("U11")
    # If one lane of a point diverged and another was not trained to the end, the point counts as
    # not trained to the end.
    for word in ("pruned", "interrupted"):
        labels[np.any(lost & (status == word), axis=1)] = word
    return labels


def _sign_flips(differences: np.ndarray) -> float:
    """The p-value of Fisher's test, whose null hypothesis is that both signs are equally likely.

    It is exact for up to `EXACT_SEEDS` seeds.
    """
    n = len(differences)
    # A difference of no known sign is a tie.
    differences = np.nan_to_num(differences, nan=0.0, posinf=np.inf, neginf=-np.inf)
    size = np.abs(differences)
    known = np.isfinite(size)
    # All infinite differences get one finite size, which is larger than the sum of the others.
    top = 4 * size[known].sum()
    size = np.where(known, size, top if top > 0 else 1.0)
    observed = abs(np.sum(np.copysign(size, differences)))
    if n <= EXACT_SEEDS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
        extra = 0
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), size=(2**EXACT_SEEDS, n))
        # The observed signs count as one more draw: a p-value of 0 would claim too much.
        extra = 1
    # Sums of the same numbers in another order are rounded differently, and count as equal.
    as_far = np.abs(signs @ size) >= observed * (1 - 1e-9)
    return float((as_far.sum() + extra) / (len(signs) + extra))


def one_standard_error(rates: np.ndarray, scores: np.ndarray, *, pair: bool = False) -> float:
    r"""The smallest rate whose mean score is within one standard error of the best one's.

    $$\min \{ \eta_p : \bar s_p \le \bar s_b + \mathrm{sd}(s_b) / \sqrt n \}$$

    or, paired, `mean(s_p - s_b) <= sd(s_p - s_b) / sqrt(n)`, with the best rate `b` and `n` seeds.

    Args:
      rates: Rates, `[points]`.
      scores: What is minimised, infinite where a lane diverged; `[points, seeds]`.
      pair: Whether the standard error is that of the differences to the best rate by seed.

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
    # An infinite score has no standard deviation.
    known = np.flatnonzero(np.isfinite(means))
    # One row for each rate, or the best one's row alone, which holds for all rates.
    spread = (
        scores[known].astype(np.float64) - scores[best]
        if pair
        else scores[[best]].astype(np.float64)
    )
    error = spread.std(axis=1, ddof=1) / np.sqrt(n)
    return float(rates[known][means[known] - means[best] <= error].min())


def sensitivity(rates: np.ndarray, scores: np.ndarray, initial: np.ndarray | float) -> float:
    r"""How much worse a rate picked blindly from the grid is than the best one, on average.

    $$\mathbb{E}_\eta [\bar s(\eta)] - \min_\eta \bar s(\eta)$$

    where $\bar s$ is the mean over seeds of the scores, each clipped at the initial score, and
    $\eta$ is uniform on the logarithmic scale. The weight of a rate of the grid is the length of
    the scale that is nearer to it than to other rates. For the first and the last rate
    that length reaches as far outside of the grid as inside. So a grid of equal ratios gives the
    plain mean.

    Args:
      rates: Positive rates, `[points]`.
      scores: What is minimised, infinite where a lane diverged; `[points, seeds]`.
      initial: The score before the first update: a number, or an array that broadcasts to `scores`.

    Returns:
      The sensitivity, at least 0, in units of the score.

    Raises:
      ValueError: if a rate is not positive, `initial` is not finite, or every rate diverged with
        some seed: then the sensitivity is not known.
    """
    rates = np.asarray(rates, np.float64)
    _require.positive({"rates": rates}, "rates")
    _require.finite({"initial": initial}, "initial")
    # Without this check all scores would be clipped to `initial`, which gives 0, the best value.
    if not np.any(np.all(np.isfinite(scores), axis=1)):
        raise ValueError("every rate diverged with some seed: the sensitivity is not known")
    # A run that is worse than its start counts as its start, a diverged one too.
    clipped = np.minimum(scores.astype(np.float64), np.asarray(initial, np.float64)).mean(axis=1)
    order = np.argsort(rates, kind="stable")
    x = np.log(rates[order])
    clipped = clipped[order]
    if len(x) < 2:
        return 0.0
    gaps = np.diff(x)
    # The gaps on the left and on the right; at an end the only gap stands for both.
    weights = np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])
    # If all rates are the same, there are no gaps to weight by.
    return float(
        np.average(clipped, weights=weights if weights.sum() > 0 else None) - clipped.min()
    )


def means(values: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The mean over seeds, and its interval by Student's t.

    Both are NaN for a point with a value that is not finite.

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
    """The number of seeds; it must be two or more."""
    if values.shape[1] < 2:
        raise ValueError(
            "this needs at least 2 seeds, because one says nothing of their spread; sweep with"
            " `seeds=3` or more"
        )
    return values.shape[1]
