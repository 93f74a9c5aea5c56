"""Laws of loss curves: the loss after each update, from the rates alone."""

from __future__ import annotations

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from .last_iterate import Numbers, rates_of

_MOST_POWER = 80.0  # float32 holds exp(88)


def annealing_law(
    rates: ArrayLike,
    *,
    L0: ArrayLike,
    A: ArrayLike,
    alpha: ArrayLike,
    C: ArrayLike,
    decay: ArrayLike = 0.999,
) -> jax.Array:
    r"""The loss after each update by the law of scaling with annealing.

    $$L_s = L_0 + A \, S_1^{-\alpha} - C \, S_2, \quad S_1 = \sum_{i=0}^{s} \eta_i, \quad
      S_2 = \sum_{i=1}^{s} \sum_{k=1}^{i} (\eta_{k-1} - \eta_k) \, \text{decay}^{\,i-k}$$

    for `rates` $\eta$. The first area $S_1$ is the sum of the rates so far, and the second area
    $S_2$ is the gain from falls of the rate. Use it to predict the loss curves of other schedules
    from one or two that were run; it was found to hold for language models. It has fewer numbers to
    fit than `multi_power_law` and is less exact. The decay is seldom fitted: values of 0.99 to
    0.9999 were found.

    The cost is linear in the number of updates.

    Args:
      rates: The rates of all updates, at least 0: the values of a schedule, shape `[steps]`.
      L0: The loss that remains in the end.
      A: Weight of the first area, above 0.
      alpha: Power of the first area, above 0.
      C: Weight of the second area, at least 0.
      decay: The share of a fall of the rate that counts after one more update, from 0 to 1.

    Returns:
      The losses, shape `[steps]`. The loss is infinite before the first rate above 0.

    Raises:
      ValueError: if a concrete number is out of its range, or `rates` is not a list of at least one
        number.
      TypeError: if an argument is not a real number.

    Example:
      >>> rates = lrax.wsd(2e-4, steps=20_000, warmup=500, cooldown=4000).values(20_000)
      >>> losses = lrax.theory.annealing_law(rates, L0=2.6, A=0.5, alpha=0.4, C=0.4)
      >>> print(np.asarray(losses)[[1000, 10_000, 19_999]].round(3))
      [3.709 3.064 2.921]

    Reference:
      Tissue, Wang, Wang. Scaling Law with Learning Rate Annealing. 2024, arXiv:2408.11029.
    """
    given = _require.real(rates=rates, L0=L0, A=A, alpha=alpha, C=C, decay=decay)
    rates_of(given)
    law_numbers(given, "L0", "A", "alpha", "C", "decay")
    _require.nonnegative(given, "C", "decay")
    _require.at_most("`decay` must be at most 1", given["decay"], np.float64(1))
    return annealing(**given)


@jax.jit
def annealing(rates, L0, A, alpha, C, decay):
    """The law of annealing, without checks."""

    def add(area, fallen):
        # The sum of the inner sums is S2(s) = decay * S2(s - 1) + (eta_0 - eta_s): one recursion.
        area = decay * area + fallen
        return area, area

    _, falling = lax.scan(add, jnp.zeros_like(rates[0]), rates[0] - rates)
    return L0 + A * _power(jnp.cumsum(rates), alpha) - C * falling


def multi_power_law(
    rates: ArrayLike,
    *,
    L0: ArrayLike,
    A: ArrayLike,
    alpha: ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    beta: ArrayLike,
    gamma: ArrayLike,
) -> jax.Array:
    r"""The loss after each update by the multi-power law.

    $$L_s = L_0 + A \, S(s)^{-\alpha} - B \sum_{k=1}^{s} (\eta_{k-1} - \eta_k)
      \left[1 - \left(1 + C \eta_k^{-\gamma} (S(s) - S(k - 1))\right)^{-\beta}\right],
      \quad S(s) = \sum_{i=0}^{s} \eta_i$$

    for `rates` $\eta$. Each fall of the rate gains something, which saturates as training goes on
    at the lower rate. Use it to predict the loss curves of other schedules from two or three that
    were run. It is more exact than `annealing_law`, and was found to predict unseen schedules of
    language models within a few thousandths. The warmup belongs to `rates`, because its rises
    count too.

    The cost is `steps` times the number of changes of the rate, or `steps` squared if the rates are
    traced. Memory is linear.

    Args:
      rates: The rates of all updates, at least 0: the values of a schedule, shape `[steps]`.
      L0: The loss that remains in the end.
      A: Weight of the sum $S$, above 0.
      alpha: Power of the sum, above 0.
      B: Weight of the gain from falls of the rate, at least 0.
      C: How soon the gain saturates, at least 0.
      beta: Power of the saturation, above 0.
      gamma: Power by which a lower rate saturates sooner, a real number; mostly 0 to 1.

    Returns:
      The losses, shape `[steps]`. The loss is infinite before the first rate above 0.

    Raises:
      ValueError: if a concrete number is out of its range, or `rates` is not a list of at least one
        number.
      TypeError: if an argument is not a real number.

    Example:
      >>> rates = lrax.wsd(3e-4, steps=2000, warmup=100, cooldown=400).values(2000)
      >>> losses = lrax.theory.multi_power_law(
      ...     rates, L0=2.6, A=0.6, alpha=0.45, B=400.0, C=2.0, beta=0.6, gamma=0.65
      ... )
      >>> print(np.asarray(losses)[[1000, 1600, 1999]].round(3))
      [3.77  3.563 3.438]

    Reference:
      Luo et al. A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules. 2025,
      arXiv:2503.12811.
    """
    given = _require.real(rates=rates, L0=L0, A=A, alpha=alpha, B=B, C=C, beta=beta, gamma=gamma)
    steps = rates_of(given)
    law_numbers(given, "L0", "A", "alpha", "B", "C", "beta", "gamma")
    _require.nonnegative(given, "B", "C")
    _require.positive(given, "beta")
    _require.finite(given, "gamma")
    return multi_power(**given, at=np.arange(steps), changes=changes_of(given["rates"]))


def changes_of(rates: ArrayLike) -> np.ndarray:
    """The updates whose rate differs from the rate before. All but the first for traced `rates`."""
    # Where the rate does not change, nothing is gained. Only concrete rates show where that is.
    if isinstance(rates, Tracer):
        return np.arange(1, np.shape(rates)[0])
    return 1 + np.flatnonzero(np.diff(np.asarray(rates)))


@jax.jit
def multi_power(rates, L0, A, alpha, B, C, beta, gamma, at, changes):
    """The multi-power law after the updates `at`, without checks.

    The rate is taken to be constant from one of the updates `changes` to the next.
    """
    sums = jnp.cumsum(rates)
    levels = jnp.concatenate([rates[:1], rates[changes]])
    falls = levels[:-1] - levels[1:]
    before = sums[changes - 1]
    # A rate of 0 saturates at once. Its power is bounded, because infinity times a sum of 0 is NaN.
    low = jnp.maximum(rates[changes], jnp.finfo(rates.dtype).tiny)
    speed = C * jnp.exp(jnp.minimum(-gamma * jnp.log(low), _MOST_POWER))

    @jax.checkpoint  # without it, the derivative needs memory for `steps` times the changes
    def gained(end):
        since = jnp.maximum(end - before, 0)  # 0 for the changes that are still to come
        # 1 - (1 + x)^-beta, exact where x is small
        return -jnp.sum(falls * jnp.expm1(-beta * jnp.log1p(speed * since)))

    return L0 + A * _power(sums[at], alpha) - B * lax.map(gained, sums[at])


def _power(sums: jax.Array, alpha: jax.Array) -> jax.Array:
    """`sums ** -alpha`. Where it is infinite, its derivative is 0 in place of NaN."""
    return jnp.where(sums > 0, jnp.where(sums > 0, sums, 1) ** -alpha, jnp.inf)


def law_numbers(given: Numbers, *names: str) -> None:
    """Requires single numbers, and the ranges of `L0`, `A` and `alpha`, which all laws have."""
    for name in names:
        if np.ndim(given[name]):
            raise ValueError(f"`{name}` must be one number, got {given[name]}")
    _require.finite(given, "L0")
    _require.positive(given, "A", "alpha")
