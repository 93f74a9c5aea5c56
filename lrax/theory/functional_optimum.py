"""`functional_schedule`: the best schedule by the functional scaling law, in closed form."""

from __future__ import annotations

import numpy as np
from jax.typing import ArrayLike

from .. import _require
from ..schedules.combinators import minimum
from ..schedules.decays import polynomial
from ..schedules.schedule import Schedule

_TRIED = 400  # rates at the end that are compared, in each of the rounds
_ROUNDS = 4


def functional_schedule(
    peak: ArrayLike,
    steps: int,
    *,
    A: ArrayLike,
    alpha: ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    beta: ArrayLike,
) -> Schedule:
    r"""The schedule with the least final loss by `functional_law`, with rates up to `peak`.

    $$\eta(t) = \min\left(\text{peak}, \; c \, (1 + k \, (N - t))^{2 \beta - 1}\right),
      \quad k = \frac{c \, C}{2 \beta}$$

    for `steps` $N$ and the rate $c$ at the end, the one number that is searched for. If the task is
    easy, `alpha` $\ge 1 - 1 / \beta$, and the run is long, the schedule is the power decay
    $(1 - t / N)^{2 \beta - 1}$ from a rate below `peak`, which falls with $N$ like
    $N^{-(\alpha - 1 + 1 / \beta) / (\alpha + 1 / \beta)}$. If the task is hard, the rate stays at
    `peak` and decays in the end by the same power. The decay's share of the run falls with the
    run's length.
    Use it to see which shape theory asks for: with `beta` of 1.5 the decay is a square, with 2 a
    cube. Or use it with the numbers of `fit_law("fsl", ...)`, whose `beta` is a rough guess. In
    simulated regressions the schedule of a law fitted to three curves had a final loss 4 % and 7 %
    below the best of 84 tuned schedules (tests/test_fitted_laws.py).

    The law's noise `D` is neglected, because it is forgotten by the end. The schedule has no
    warmup: add one with `lrax.warmup`. `optimize_schedule` searches without these limits.

    Args:
      peak: The largest rate with which training is stable, above 0.
      steps: Number of updates, an int of at least 1.
      A: The loss that is still to be learned at first, above 0. This and the arguments below
        are those of `functional_law`.
      alpha: The source exponent, above 0.
      B: Noise of a constant rate, divided by the rate, above 0.
      C: Scale of the intrinsic time, above 0.
      beta: The capacity exponent, at least 1.

    Returns:
      A `Schedule`: `lrax.polynomial`, or the `lrax.minimum` of `peak` and a polynomial.

    Raises:
      ValueError: if a number is out of its range.
      TypeError: if an argument is not a number or is traced, or `steps` is not an int.

    Example:
      >>> law = dict(A=1.0, B=2.0, C=10.0, beta=2.0)
      >>> for alpha in (1.0, 0.2):
      ...     schedule = lrax.theory.functional_schedule(0.5, 1000, alpha=alpha, **law)
      ...     print(schedule.values(1000)[::250].round(4))
      [0.0414 0.023  0.0111 0.0042]
      [0.5    0.5    0.1938 0.0458]

    Reference:
      Li, Wang, Chen, Zhao, Zheng, Wu. Optimal Learning-Rate Schedules under Functional Scaling
      Laws: Power Decay and Warmup-Stable-Decay. 2026, arXiv:2602.06797. Only the abstract was
      read in the original. It has the power and both regimes up to factors. The exact form is
      derived in the source.
    """
    given = {"peak": peak, "A": A, "alpha": alpha, "B": B, "C": C, "beta": beta}
    numbers = {name: _require.number(name, value) for name, value in given.items()}
    _require.positive(numbers, "peak", "A", "alpha", "B", "C")
    _require.at_least(numbers, 1, "beta")
    length = _require.count("steps", steps, 1)
    last = _last_rate(steps=length, **numbers)
    # The decay would reach 0 after N + 1 / k updates: 1 + k (N - t) is k times the updates left.
    slope = last * numbers["C"] / (2 * numbers["beta"])
    power = 2 * numbers["beta"] - 1
    first = last * (1 + slope * length) ** power
    decay = polynomial(first, 0.0, length + 1 / slope, power)
    return decay if first <= numbers["peak"] else minimum(numbers["peak"], decay)


def _last_rate(**numbers: float) -> float:
    """The rate at the end with the least final loss, to five digits."""
    low, high = np.log(numbers["peak"]) - 60, np.log(numbers["peak"])
    for _ in range(_ROUNDS):
        tried = np.linspace(low, high, _TRIED)
        best = int(np.argmin(_final(np.exp(tried), **numbers)))
        low, high = tried[max(best - 1, 0)], tried[min(best + 1, _TRIED - 1)]
    return float(np.exp((low + high) / 2))


def _final(last, peak, steps, A, alpha, B, C, beta):
    """The final loss of the schedule that ends with the rate `last`, without L0.

    With the time u that is left, the noise of the rates is the integral of K(u) eta(u). For a given
    number of updates, which is the integral of 1 / eta(u), it is least where eta is proportional to
    K(u)^(-1/2), or to X^(2 beta - 1) for X = (1 + C u)^(1 / (2 beta)). An update changes u by -eta,
    so that X is linear in the updates: X = 1 + k (N - t). Where this rate is above the peak, the
    peak is the best one, because what is to be minimised is convex in each 1 / eta.
    """
    slope = last * C / (2 * beta)
    decayed = np.minimum(((peak / last) ** (1 / (2 * beta - 1)) - 1) / slope, steps)
    x = 1 + slope * decayed
    time = (x ** (2 * beta) - 1) / C  # of the decay
    whole = time + peak * (steps - decayed)
    kept = 1 - 1 / beta
    plateau = peak * ((1 + C * time) ** -kept - (1 + C * whole) ** -kept)
    return A * (1 + C * whole) ** -alpha + B * (2 * (beta - 1) * last * (x - 1) + plateau)
