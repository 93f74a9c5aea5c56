"""Schedules of one phase: from a first rate to a last one, then held."""

from __future__ import annotations

from jax import nn, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .builders import builder
from .counts import minus
from .lengths import warn_if_empty
from .schedule import Schedule
from .shapes import between, half_wave, power as _power, progress, rest_of_power


def linear(init: ArrayLike, end: ArrayLike, steps: ArrayLike) -> Schedule:
    r"""A straight line from `init` to `end` over `steps` steps, then `end`.

    $$\eta(t) = \text{init} \cdot (1 - p) + \text{end} \cdot p,
    \quad p = \min(t / \text{steps}, 1)$$

    Use it as a decay to zero, which is optimal for the last iterate in the convex worst case and
    hard to beat in practice, or as a warmup. The first update has the rate `init`, and the one with
    the index `steps` is the first at `end`.

    Args:
      init: Rate at the start, at least 0.
      end: Rate at the end, at least 0.
      steps: Length in optimizer updates, at least 0; with 0 the rate is `end` from the start.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN.

    Warns:
      UserWarning: if `steps` is a concrete 0 and so is `end`: nothing is trained.

    Example:
      >>> lrax.linear(init=0.4, end=0.0, steps=4).values(6)
      Array([0.4, 0.3, 0.2, 0.1, 0. , 0. ], dtype=float32)

    Reference:
      Defazio, Cutkosky, Mehta, Mishchenko. Optimal Linear Decay Learning Rate Schedules and Further
      Refinements. 2023, arXiv:2310.07831.
    """
    hyperparams = _require.real(init=init, end=end, steps=steps)
    _require.nonnegative(hyperparams, "init", "end", "steps")
    warn_if_empty(hyperparams["steps"], hyperparams["end"])
    return Schedule(_linear, hyperparams)


@builder(linear)
def _linear(count, init, end, steps):
    return between(init, end, count, minus(steps, count), steps)


def polynomial(
    init: ArrayLike,
    end: ArrayLike,
    steps: ArrayLike,
    power: ArrayLike = 1.0,
    *,
    k: ArrayLike | None = None,
) -> Schedule:
    r"""A power of the fraction left, from `init` to `end` over `steps` steps, then `end`.

    $$\eta(t) = \text{end} + (\text{init} - \text{end}) \, (1 - p^k)^{\text{power}},
    \quad p = \min(t / \text{steps}, 1)$$

    Use it with a power of 0.9, as in semantic segmentation, or of 2 for a decay that falls early
    and is flat near its end.

    Args:
      init: Rate at the start, at least 0.
      end: Rate at the end, at least 0.
      steps: Length in optimizer updates, at least 0; with 0 the rate is `end` from the start.
      power: Exponent of the fraction left, above 0; 1 is `lrax.linear`.
      k: Exponent of the fraction done, above 0, for k-decay; `None` is 1. A larger one keeps the
        rate high for longer.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or `power` or `k` is 0.

    Warns:
      UserWarning: if `steps` is a concrete 0 and so is `end`: nothing is trained.

    Example:
      >>> lrax.polynomial(init=1.0, end=0.0, steps=4, power=2.0).values(6)
      Array([1.    , 0.5625, 0.25  , 0.0625, 0.    , 0.    ], dtype=float32)

    Reference:
      Zhang, Li. k-decay: A New Method for Learning Rate Schedule. 2020, arXiv:2004.05909.
    """
    hyperparams = _require.real(init=init, end=end, steps=steps, power=power)
    _require.nonnegative(hyperparams, "init", "end", "steps")
    _require.positive(hyperparams, "power")
    warn_if_empty(hyperparams["steps"], hyperparams["end"])
    return Schedule(_polynomial, {**hyperparams, **_exponents(k=k)})


@builder(polynomial)
def _polynomial(count, init, end, steps, power, k):
    # NeMo takes the maximum of its decay and a floor. Here, as in the other frameworks, the decay
    # itself goes to `end`.
    left = _left(*progress(count, minus(steps, count), steps), k)
    weight = _power(left, power)
    return init * weight + end * (1 - weight)


def _exponents(**given):
    """Requires exponents above 0. `None` stands for 1 and stays `None`.

    For `None` no power is computed, because it would cost time at every step for nothing.
    """
    kept = {name: value for name, value in given.items() if value is not None}
    hyperparams = _require.real(**kept)
    _require.positive(hyperparams, *kept)
    return {**given, **hyperparams}


def _left(p, q, k):
    """The fraction left, `1 - p ** k`: k-decay takes `p ** k` as the fraction done."""
    if k is None:
        return q
    # Near the end, `1 - p ** k` loses digits, and a later power below 1 would magnify the error.
    return jnp.where(p > 0.5, rest_of_power(q, k), 1 - _power(p, k))


def cosine(
    peak: ArrayLike,
    steps: ArrayLike,
    end: ArrayLike = 0.0,
    *,
    exponent: ArrayLike | None = None,
    k: ArrayLike | None = None,
) -> Schedule:
    r"""Half a cosine wave from `peak` down to `end`, then `end`.

    $$\eta(t) = \text{end} + (\text{peak} - \text{end})
    \left(\frac{1 + \cos(\pi p^k)}{2}\right)^{\text{exponent}},
    \quad p = \min(t / \text{steps}, 1)$$

    Use it when the length of training is known, with an `end` of 0 to 0.1 of `peak`. With a warmup
    in front it is `lrax.warmup_cosine`.

    Args:
      peak: Rate at the start, at least 0.
      steps: Length in optimizer updates, at least 0; with 0 the rate is `end` from the start.
      end: Rate at the end, at least 0, absolute (Optax's `alpha` is `end / peak`).
      exponent: Power of the cosine shape, above 0; `None` is 1. With a larger one the rate falls
        sooner.
      k: Exponent of the fraction done, above 0, for k-decay; `None` is 1. A larger one keeps the
        rate high for longer.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or `exponent` or `k` is 0.

    Warns:
      UserWarning: if `steps` is a concrete 0 and so is `end`: nothing is trained.

    Example:
      >>> print(lrax.cosine(peak=0.1, steps=4).values(5).round(3))
      [0.1 0.085 0.05 0.015 0. ]

    Reference:
      Loshchilov, Hutter. SGDR: Stochastic Gradient Descent with Warm Restarts. 2016,
      arXiv:1608.03983. Zhang, Li. k-decay: A New Method for Learning Rate Schedule. 2020,
      arXiv:2004.05909.
    """
    hyperparams = _require.real(peak=peak, steps=steps, end=end)
    _require.nonnegative(hyperparams, "peak", "steps", "end")
    warn_if_empty(hyperparams["steps"], hyperparams["end"])
    return Schedule(_cosine, {**hyperparams, **_exponents(exponent=exponent, k=k)})


@builder(cosine)
def _cosine(count, peak, steps, end, exponent, k):
    # Past the end, torch and transformers follow the cosine up again, and t5x restarts it. Here the
    # last rate is held, as in Optax.
    if exponent is None and k is None:
        return between(peak, end, count, minus(steps, count), steps, "cosine")
    left = _left(*progress(count, minus(steps, count), steps), k)
    weight = half_wave(left)
    if exponent is not None:
        weight = _power(weight, exponent)
    return peak * weight + end * (1 - weight)


def tanh(
    init: ArrayLike,
    end: ArrayLike,
    steps: ArrayLike,
    *,
    low: ArrayLike = -7.0,
    high: ArrayLike = 3.0,
) -> Schedule:
    r"""A hyperbolic tangent from near `init` to near `end` over `steps` steps, then `end`.

    $$\eta(t) = \text{end} + (\text{init} - \text{end}) \,
    \frac{1 - \tanh(\text{low} \, (1 - p) + \text{high} \, p)}{2}, \quad p = t / \text{steps}$$

    Use it as a decay that keeps the first rate for about half of the steps. As in timm, the curve
    is a section of the hyperbolic tangent, which only comes near `init` and `end`. With the
    defaults, 0.25 % of the way is left when the rate jumps to `end`.

    Args:
      init: Rate at the start, at least 0.
      end: Rate from the update with the index `steps` on, at least 0.
      steps: Length in optimizer updates, at least 0; with 0 the rate is `end` from the start.
      low: Argument of the tangent at the start, any number; timm's `lb`.
      high: Argument of the tangent at the end, any number; timm's `ub`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is infinite or NaN, or one other than `low` and `high` is
        negative.

    Warns:
      UserWarning: if `steps` is a concrete 0 and so is `end`: nothing is trained.

    Example:
      >>> print(lrax.tanh(init=1.0, end=0.0, steps=10).values(12).round(2))
      [1. 1. 1. 1. 1. 0.98 0.88 0.5 0.12 0.02 0. 0. ]

    Reference:
      Hsueh, Li, Wu. Stochastic Gradient Descent with Hyperbolic-Tangent Decay on Classification.
      2018, arXiv:1806.01593.
    """
    hyperparams = _require.real(init=init, end=end, steps=steps, low=low, high=high)
    _require.nonnegative(hyperparams, "init", "end", "steps")
    _require.finite(hyperparams, "low", "high")
    warn_if_empty(hyperparams["steps"], hyperparams["end"])
    return Schedule(_tanh, hyperparams)


@builder(tanh)
def _tanh(count, init, end, steps, low, high):
    p, q = progress(count, minus(steps, count), steps)
    x = 2 * (low * q + high * p)
    # (1 - tanh(x / 2)) / 2 is the sigmoid of -x.
    return jnp.where(q > 0, init * nn.sigmoid(-x) + end * nn.sigmoid(x), end)


def rex(init: ArrayLike, end: ArrayLike, steps: ArrayLike) -> Schedule:
    r"""Reflected exponential decay: from `init` to `end`, slowly at first and fast at last.

    $$\eta(t) = \text{end} + (\text{init} - \text{end}) \, \frac{1 - p}{1 - p / 2},
    \quad p = \min(t / \text{steps}, 1)$$

    Use it in place of `lrax.linear` where training is short: the reference found it best over many
    budgets.

    Args:
      init: Rate at the start, at least 0.
      end: Rate at the end, at least 0.
      steps: Length in optimizer updates, at least 0; with 0 the rate is `end` from the start.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN.

    Warns:
      UserWarning: if `steps` is a concrete 0 and so is `end`: nothing is trained.

    Example:
      >>> print(lrax.rex(init=1.0, end=0.0, steps=4).values(6).round(3))
      [1. 0.857 0.667 0.4 0. 0. ]

    Reference:
      Chen, Wolfe, Kyrillidis. REX: Revisiting Budgeted Training with an Improved Schedule. 2021,
      arXiv:2107.04197.
    """
    hyperparams = _require.real(init=init, end=end, steps=steps)
    _require.nonnegative(hyperparams, "init", "end", "steps")
    warn_if_empty(hyperparams["steps"], hyperparams["end"])
    return Schedule(_rex, hyperparams)


@builder(rex)
def _rex(count, init, end, steps):
    return between(init, end, count, minus(steps, count), steps, "rex")
