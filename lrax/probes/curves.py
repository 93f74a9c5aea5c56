"""Curves of losses: smoothing, and where a loss diverges."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require

KINDS = ("debiased", "seeded", "zero_phase")

Curve = Any  # [..., steps], of NumPy or of JAX


def smooth(losses: ArrayLike, kind: str = "debiased", beta: float = 0.98) -> np.ndarray | jax.Array:
    r"""An exponential moving average of a curve, causal or without a lag.

    $$\begin{aligned}
    \text{debiased:} \quad & s_t = \frac{1 - \beta}{1 - \beta^{t + 1}}
      \sum_{i \le t} \beta^{t - i} \ell_i \\
    \text{seeded:} \quad & s_t = \beta s_{t - 1} + (1 - \beta) \ell_t, \quad s_0 = \ell_0 \\
    \text{zero\_phase:} \quad & s_t = \frac{\sum_i \beta^{|t - i|} \ell_i}{\sum_i \beta^{|t - i|}}
    \end{aligned}$$

    $\ell_t$ is the loss of update $t$. Use `"zero_phase"` to find the minimum of a curve. It has no
    lag, because its weights are the same on both sides. Away from the ends, it equals a causal
    average, applied forward and then backward. A causal average lags by beta / (1 - beta) updates:
    in a range test of 100 updates over 8 decades, a beta of 0.98 moves the minimum by one to two
    decades. For `"zero_phase"`, a beta of 0.9 suits a range test. Use the causal kinds,
    `"debiased"` and `"seeded"`, to match other packages, or to decide during a run.

    Args:
      losses: `[..., steps]`, at least one step. In a causal average, all values after a loss that
        is not finite are not finite either. `"zero_phase"` leaves such a loss out of the averages,
        and returns it unchanged.
      kind: `"debiased"` as in fastai, `"seeded"` as in torch-lr-finder and ignite, or
        `"zero_phase"`.
      beta: The factor by which the weight of a loss falls with each step of distance, at least 0
        and below 1. fastai has 0.98; torch-lr-finder and ignite have 0.95, which they call
        `smooth_f=0.05`.

    Returns:
      The smoothed curves `[..., steps]`: float64 of NumPy for concrete losses, otherwise a JAX
      array.

    Raises:
      ValueError: if `losses` has no step, `kind` is unknown or `beta` is out of its range.
      TypeError: if `losses` are not real numbers or `beta` is not a number.

    Example:
      >>> print(lrax.probes.smooth([1.0, 2.0, 0.0, 4.0], "seeded", beta=0.5))
      [1.    1.5   0.75  2.375]
      >>> print(lrax.probes.smooth([2.0, 1.0, 0.0, 1.0, 2.0], "zero_phase", beta=0.5).argmin())
      2

    Reference:
      Kingma, Ba. Adam: A Method for Stochastic Optimization. 2014, arXiv:1412.6980, section 3 (the
      debiased average).
    """
    _require.choice("kind", kind, KINDS)
    beta = _require.number("beta", beta)
    if not 0 <= beta < 1:
        raise ValueError(f"`beta` must be at least 0 and below 1, got {beta}")
    xp, curve = as_curve("losses", losses)
    return smoothed(xp, curve, kind, beta)


def diverged_at(smoothed: ArrayLike, factor: float = 4.0) -> int | np.ndarray | jax.Array:
    r"""The first update at which a loss is above a multiple of its lowest value so far.

    $$\min \{t : s_t > \text{factor} \cdot \min_{i \le t} s_i\}$$

    Use it on a smoothed curve of positive losses. Range tests stop by this rule: at 4 times in
    fastai and Lightning, at 5 times in torch-lr-finder and ignite. The rule does not suit negative
    losses, because a negative loss is above every larger multiple of itself.

    Args:
      smoothed: `[..., steps]`, at least one step. A NaN does not count as a divergence. Infinity
        does, if a finite loss comes before it.
      factor: The multiple, at least 1.

    Returns:
      The 0-based index of the update, -1 if there is none. It is an int for one concrete curve, and
      otherwise an array of ints.

    Raises:
      ValueError: if `smoothed` has no step, or `factor` is below 1 or not finite.
      TypeError: if `smoothed` or `factor` are not real numbers.

    Example:
      >>> lrax.probes.diverged_at([2.0, 1.0, 3.0, 4.5, 9.0])
      3

    Reference:
      fastai's `LRFinder.after_batch`.
    """
    factor = _require.number("factor", factor)
    if not 1 <= factor < np.inf:
        raise ValueError(f"`factor` must be finite and at least 1, got {factor}")
    xp, curve = as_curve("smoothed", smoothed)
    known = xp.where(xp.isnan(curve), np.inf, curve)  # the minimum skips NaN
    lowest = np.minimum.accumulate(known, -1) if xp is np else lax.cummin(known, curve.ndim - 1)
    above = curve > factor * lowest
    first = xp.where(above.any(-1), xp.argmax(above, -1), -1)
    return int(first) if xp is np and curve.ndim == 1 else first


def as_curve(name: str, value: Any) -> tuple[ModuleType, Curve]:
    """Requires curves with at least one step. Returns the module to compute with, and the curves.

    Concrete numbers become float64 arrays of NumPy, traced ones arrays of JAX.
    """
    traced = isinstance(value, Tracer)
    numbers = value if traced else _require.as_numbers(value)
    if numbers is None or not (jnp.issubdtype(numbers.dtype, jnp.number)):
        raise TypeError(f"`{name}` must be real numbers, got {value!r}")
    if numbers.ndim == 0 or numbers.shape[-1] == 0:
        raise ValueError(f"`{name}` must have at least one step, got the shape {numbers.shape}")
    if traced:
        return jnp, numbers.astype(_require.float_dtype())
    return np, numbers.astype(np.float64)


def smoothed(xp: ModuleType, curve: Curve, kind: str, beta: float) -> Curve:
    """The smoothed curves, from arguments that are already checked."""
    steps = curve.shape[-1]
    if kind == "seeded":
        # Starting from the first loss, the first average is that loss.
        return _average(xp, curve, beta, curve[..., 0])
    if kind == "debiased":
        weights = 1 - beta ** np.arange(1, steps + 1)
        return _average(xp, curve, beta, xp.zeros_like(curve[..., 0])) / weights
    there = xp.isfinite(curve)
    sums = _both_ways(xp, xp.where(there, curve, 0), beta)
    weights = _both_ways(xp, xp.where(there, xp.ones_like(curve), 0), beta)
    # Where a loss is left out, the weight may be 0. The quotient is not used there.
    return xp.where(there, sums / xp.where(weights > 0, weights, 1), curve)


def _both_ways(xp: ModuleType, curve: Curve, beta: float) -> Curve:
    """The sums over all steps i, with the weights `(1 - beta) beta^|t - i|`."""
    start = xp.zeros_like(curve[..., 0])
    before = _average(xp, curve, beta, start)
    after = xp.flip(_average(xp, xp.flip(curve, -1), beta, start), -1)
    return before + after - (1 - beta) * curve  # step t itself is in both


def _average(xp: ModuleType, curve: Curve, beta: float, start: Curve) -> Curve:
    """`s_t = beta s_{t-1} + (1 - beta) l_t` along the last axis; `start` comes before the first."""

    def step(last: Curve, loss: Curve) -> tuple[Curve, Curve]:
        last = beta * last + (1 - beta) * loss
        return last, last

    steps = xp.moveaxis(curve, -1, 0)
    if xp is jnp:
        return jnp.moveaxis(lax.scan(step, start, steps)[1], 0, -1)
    values = np.empty_like(steps)
    with np.errstate(invalid="ignore"):  # 0 * inf with a beta of 0
        for i, loss in enumerate(steps):
            start, values[i] = step(start, loss)
    return np.moveaxis(values, 0, -1)
