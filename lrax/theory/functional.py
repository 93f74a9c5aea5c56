"""The functional scaling law: the loss of stochastic gradient descent under any rates."""

from __future__ import annotations

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from .last_iterate import rates_of
from .laws import changes_of, law_numbers

# The signal is taken to be constant within a piece of the intrinsic time. There are this many
# pieces while the time grows by a factor of e.
_FINE = 50


def functional_law(
    rates: ArrayLike,
    *,
    L0: ArrayLike,
    A: ArrayLike,
    alpha: ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    beta: ArrayLike,
    D: ArrayLike = 0.0,
) -> jax.Array:
    r"""The loss after each update by the functional scaling law (FSL).

    $$L_s = L_0 + A \, e(t_s) + \int_0^{t_s} K(t_s - z) \, (B + D \, e(z)) \, \eta(z) \, dz,
      \quad t_s = \sum_{i=0}^{s} \eta_i$$

    $$e(t) = (1 + C t)^{-\alpha}, \quad
      K(t) = C \left(1 - \tfrac{1}{\beta}\right) (1 + C t)^{-(2 - 1 / \beta)}$$

    for `rates` $\eta$ and the intrinsic time $t$, the sum of the rates so far. $e$ is the share of
    the signal that is still to be learned. The kernel $K$ says how fast the noise of an update is
    forgotten. Its integral is 1, so a constant rate $\eta$ ends with a noise of $B \eta$. Use it to
    explain by theory why a schedule is good: it is proven for stochastic gradient descent on kernel
    regression, and its best schedule has a closed form, `functional_schedule`. On published curves
    of language models it predicts about as well as `multi_power_law`, but ranks schedules less
    surely (`python -m tests.benchmarks.laws`). The loss is finite from the first update on.

    The cost is `steps` times the number of changes of the rate, or `steps` squared if the rates are
    traced. Memory is linear.

    Args:
      rates: The rates of all updates, at least 0: the values of a schedule, shape `[steps]`.
      L0: The loss that remains in the end: that of the noise of labels and of the model's size.
      A: The loss that is still to be learned at first, above 0.
      alpha: The source exponent: how soon the signal is learned, above 0. It is large for an easy
        task.
      B: The noise that a constant rate ends with, divided by the rate, at least 0.
      C: Scale of the intrinsic time, the largest curvature up to a factor, above 0.
      beta: The capacity exponent, at least 1: the curvatures fall like $j^{-\beta}$. The closer it
        is to 1, the more slowly noise is forgotten.
      D: Noise that grows with the loss to be learned, at least 0.

    Returns:
      The losses, shape `[steps]`.

    Raises:
      ValueError: if a concrete number is out of its range, or `rates` is not a list of at least one
        number.
      TypeError: if an argument is not a real number.

    Example:
      >>> law = dict(L0=2.6, A=8.0, alpha=0.5, B=300.0, C=200.0, beta=2.0)
      >>> rates = lrax.wsd(3e-4, steps=2000, warmup=100, cooldown=400).values(2000)
      >>> losses = lrax.theory.functional_law(rates, **law)
      >>> print(np.asarray(losses)[[1000, 1600, 1999]].round(3))
      [3.728 3.506 3.419]

    Reference:
      Li, Chen, Huang, Wang, Wu. Functional Scaling Laws in Kernel Regression: Loss Dynamics and
      Learning Rate Schedules. 2025, arXiv:2509.19189. The abstract was read in the original. The
      two exponents and the integral are from a summary by others. The theorem is an equality up to
      constant factors; `A`, `B`, `C`, `D` are these factors.
    """
    # Variants. The theorem has the noise of the batch in place of eta, and its integral is not
    # normalised; here the batch is fixed and belongs to B and D. Its kernel is the sum of
    # lambda_j^2 exp(-2 lambda_j t) over curvatures lambda_j = j^-beta, which gives the power. A
    # summary says that the authors fit another form to language models, in appendix B.2. There e(t)
    # is t^-s. The integral becomes minus the sum of (c3 + t_i^-s) (1 - (1 + c4 (t - t_i))^-gamma)
    # over the falls of the rate: it is integrated by parts with a constant signal. The form here is
    # the theorem's, because its exponents have a meaning and its optimum a closed form. With D = 0
    # and rates that begin at 0 the integral is that of the multi-power law with gamma = 0. A
    # test fits the law to the exact expected loss of SGD on features with power
    # laws: it finds the source exponent within 15 %, and the end under other schedules within
    # 0.25 %.
    given = _require.real(rates=rates, L0=L0, A=A, alpha=alpha, B=B, C=C, beta=beta, D=D)
    steps = rates_of(given)
    law_numbers(given, "L0", "A", "alpha", "B", "C", "beta", "D")
    _require.nonnegative(given, "B", "D")
    _require.positive(given, "C")
    _require.at_least(given, 1, "beta")
    return functional(**given, at=np.arange(steps), pieces=_pieces(given["rates"]))


def _pieces(rates: ArrayLike) -> np.ndarray:
    """The updates at which a piece of constant noise begins: all of them if `rates` is traced."""
    changes = changes_of(rates)
    if isinstance(rates, Tracer):
        return changes
    time = np.cumsum(np.asarray(rates, np.float64))
    with np.errstate(divide="ignore"):
        parts = np.floor(_FINE * np.log(time))
    return np.union1d(changes, 1 + np.flatnonzero(parts[1:] != parts[:-1]))


@jax.jit
def functional(rates, L0, A, alpha, B, C, beta, D, at, pieces):
    """The functional law after the updates `at`, without checks.

    The noise is taken to be constant from one of the updates `pieces` to the next.
    """
    time = jnp.cumsum(rates)
    begin = jnp.concatenate([jnp.zeros_like(time[:1]), time[pieces - 1]])
    end = jnp.concatenate([time[pieces - 1], time[-1:]])
    noise = B + D * (1 + C * (begin + end) / 2) ** -alpha
    firsts = jnp.concatenate([rates[:1], rates[pieces]])
    rises = jnp.diff(noise * firsts, prepend=0)
    power = 1 - 1 / beta

    @jax.checkpoint  # without it, the derivative needs memory for `steps` times the pieces
    def forgotten(until):
        since = jnp.maximum(until - begin, 0)  # 0 for the pieces that are still to come
        # 1 - (1 + x)^-power, the integral of the kernel, exact where x is small
        return -jnp.sum(rises * jnp.expm1(-power * jnp.log1p(C * since)))

    return L0 + A * (1 + C * time[at]) ** -alpha + lax.map(forgotten, time[at])
