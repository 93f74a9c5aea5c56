"""`optimize_schedule`: the schedule with the least predicted loss, or the least bound."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from ..schedules.pieces import from_values, piecewise
from ..schedules.schedule import Schedule
from .fitting import FittedLaw, rates_of

Objective = Callable[[jax.Array], jax.Array]  # of the rates, [steps]

KNOTS = 96  # of the polyline; half of them evenly spaced, half of them closer to the end
HEIGHTS = 0.5 ** np.arange(12)  # multiples of the peak that the search may begin with
FIRST = 25  # iterations from each starting point
ITERATIONS = 150  # from the best of them


def optimize_schedule(
    law_or_bound: FittedLaw | Objective, start: Schedule | ArrayLike, steps: int
) -> Schedule:
    r"""The schedule with the least predicted final loss, or the least bound.

    $$\min_\eta f(\eta), \quad \eta_{\text{peak}} \ge \eta_{p} \ge \eta_{p + 1} \ge ... \ge 0$$

    for `law_or_bound` $f$, where $p$ is the update at which `start` has its peak. Use it to find
    the shape of a decay: fit a law to two or three runs, and search from the schedule in use. The
    warmup, which is all updates before the peak, keeps the shape of `start`. The peak may become
    lower but not higher, and after it the rates never rise. The result is a polyline with at most
    96 pieces after the peak. Its warmup is one piece if that of `start` is a straight line, and
    else has one piece for each update. If no better schedule is found, the result is `start`.

    A law is good only for schedules like those to which it was fitted. The gain that it predicts is
    an upper limit for what a run will show, because the search also exploits the law's errors. If
    the gain is within the uncertainty of `law.interval`, train with both schedules.

    Do not search with a law of `"annealing"`. Under this law each rate has a weight: a gain
    from further training, less a cost that grows towards the end. So the best rate is the peak or
    0, and falls at once when about as many updates are left as `decay` remembers. Runs do not
    gain what this law predicts. Under `"multi_power"` and `"fsl"` a fall gains more the larger
    the sum of the rates after it, so their best schedule decays smoothly.

    Args:
      law_or_bound: A `FittedLaw`, or a differentiable function of the rates `[steps]`, such as
        `lrax.theory.last_iterate_bound`. The function returns a scalar, or an array of losses
        `[steps]`, of which the last one is minimised.
      start: The schedule from which the warmup and the peak are taken: a `Schedule`, or rates
        `[steps]`. It must be concrete.
      steps: Number of updates, at least 2.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a rate is negative, all rates are 0, or `law_or_bound` has no finite value at
        `start`.
      TypeError: if an argument is not as described.

    Example:
      >>> cosine = lrax.cosine(peak=0.2, steps=100)
      >>> best = lrax.theory.optimize_schedule(lrax.theory.last_iterate_bound, cosine, 100)
      >>> for schedule in (cosine, best):
      ...     print(lrax.theory.last_iterate_bound(schedule.values(100)).round(3))
      0.27
      0.201

    Reference:
      Luo et al. A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules. 2025,
      arXiv:2503.12811, section 5. Schaipp et al. The Surprising Agreement Between Convex
      Optimization Theory and Learning-Rate Scheduling for Large Model Training. 2025,
      arXiv:2501.18965.
    """
    objective = _objective(law_or_bound)
    steps = _require.count("steps", steps, 2)
    rates = rates_of("start", start, steps, steps)
    if isinstance(rates, Tracer):
        raise TypeError(
            "`start` must be concrete: call `optimize_schedule` outside of `jax.jit`, got"
            f" {start!r}"
        )
    rates = np.asarray(rates, np.float64)
    first = float(_value(objective, rates))
    if not np.isfinite(first):
        raise ValueError(f"`law_or_bound` must be finite at `start`, got {first}")
    peak = int(np.argmax(rates))
    knots = _knots(peak, steps)
    if not len(knots):  # the peak is the last rate
        return start if isinstance(start, Schedule) else from_values(rates)
    height, decay = _searched(objective, rates, peak, knots)
    # A warmup that is a straight line is one piece. The tolerance is relative to the peak, because
    # all rates may be tiny.
    warmup = np.arange(peak + 1)
    line = np.linspace(rates[0], rates[peak], peak + 1)
    if np.allclose(rates[: peak + 1], line, rtol=0, atol=1e-5 * rates[peak]):
        warmup = np.unique([0, peak])
    values = np.concatenate([height * rates[warmup[:-1]], decay])
    found = piecewise(values, np.concatenate([warmup[1:], knots]))
    # The schedule found is judged by the rates that it returns, rounded to their dtype.
    if _value(objective, np.asarray(found.values(steps), np.float64)) < first:
        return found
    return start if isinstance(start, Schedule) else from_values(rates)


def _objective(law_or_bound: FittedLaw | Objective) -> Objective:
    if isinstance(law_or_bound, FittedLaw):
        return law_or_bound.final
    if not callable(law_or_bound):
        raise TypeError(
            "`law_or_bound` must be a FittedLaw or a function of the rates, got"
            f" {law_or_bound!r:.80}"
        )

    def of(rates):
        returned = law_or_bound(rates)
        values = jnp.asarray(returned) if isinstance(returned, (jax.Array, float)) else None
        if values is None or values.ndim > 1 or not jnp.issubdtype(values.dtype, jnp.floating):
            raise TypeError(
                "`law_or_bound` must return a real scalar or a JAX array `[steps]` of losses, got"
                f" {returned!r:.80}"
            )
        return values if values.ndim == 0 else values[-1]

    return of


def _value(objective: Objective, rates: np.ndarray) -> float:
    return float(jax.jit(objective)(np.asarray(rates, _require.float_dtype())))


def _knots(peak: int, steps: int) -> np.ndarray:
    """The updates after the peak at which the polyline has a corner; the last update is one."""
    left = steps - 1 - peak
    if left < 1:
        return np.zeros(0, np.int64)
    even = np.linspace(0, left, KNOTS // 2 + 1)
    late = left - np.geomspace(1, left, KNOTS // 2) + 1
    return peak + np.unique(np.round(np.append(even, late)).astype(np.int64))[1:]


def _searched(
    objective: Objective, rates: np.ndarray, peak: int, knots: np.ndarray
) -> tuple[float, np.ndarray]:
    """A factor of the warmup, and the rates at the peak and the knots, with the least objective."""
    from scipy import optimize

    top = rates[peak]
    before = np.asarray(rates[:peak], _require.float_dtype())
    corners = np.append(peak, knots)
    # The polyline as a weighted mean of the corners on both sides.
    counts = np.arange(peak, len(rates))
    right = np.clip(np.searchsorted(corners, counts), 1, len(knots))
    left = right - 1
    part = (counts - corners[left]) / (corners[right] - corners[left])

    # The variables are the height of the peak, relative to that of `start`, and the ratios of one
    # rate to the one before, all from 0 to 1: every choice of them is a warmup and a decay.
    def value(ratios):
        shape = top * jnp.cumprod(ratios)
        after = (1 - part) * shape[left] + part * shape[right]
        return objective(jnp.concatenate([ratios[0] * before, after]))

    both = jax.jit(jax.value_and_grad(value))

    def evaluated(ratios):
        found, slopes = both(np.asarray(ratios, _require.float_dtype()))
        slopes = np.nan_to_num(np.asarray(slopes, np.float64), posinf=0.0, neginf=0.0)
        # An infinite bound, where the last rate is 0, is only a point to step back from.
        return (float(found) if np.isfinite(found) else 1e30), slopes

    def descended(ratios, iterations):
        return optimize.minimize(
            evaluated,
            ratios,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, 1)] * len(corners),
            options={"maxiter": iterations, "ftol": 1e-12, "gtol": 1e-9},
        )

    # The objective has several minima. So there are three shapes to begin with, that of `start`, a
    # straight line and a decay in the last fifth, each at its best height.
    places = (corners - peak) / (corners[-1] - peak)
    shapes = [
        np.minimum.accumulate(rates[corners] / top),
        1 - places * (1 - 1 / len(rates)),
        np.minimum(1, 5 * (1 - places) + 0.01),
    ]
    starts = []
    for shape in shapes:
        ratios = np.append(1, _ratios(shape))
        heights = [np.append(height, ratios[1:]) for height in HEIGHTS]
        starts.append(min(heights, key=lambda ratios: evaluated(ratios)[0]))
    first = min((descended(ratios, FIRST) for ratios in starts), key=lambda found: found.fun)
    best = descended(first.x, ITERATIONS)
    return best.x[0], top * np.cumprod(best.x)


def _ratios(shape: np.ndarray) -> np.ndarray:
    """Each number of a shape as a multiple of the one before, from 0 to 1."""
    positive = shape[:-1] > 0
    return np.where(positive, shape[1:] / np.where(positive, shape[:-1], 1), 0).clip(0, 1)
