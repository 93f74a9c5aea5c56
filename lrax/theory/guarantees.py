"""What step sizes with a guarantee promise: the gap of the loss, and the least gradient."""

from __future__ import annotations

import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .last_iterate import rates_of

_RULES = ("constant", "optimal", "chebyshev", "silver")
_RATIO = 1 + np.sqrt(2)  # the silver ratio


def predicted_gap(
    rule: str,
    steps: int,
    *,
    smoothness: ArrayLike,
    distance: ArrayLike,
    mu: ArrayLike = 0.0,
) -> jax.Array:
    r"""The most by which the loss can exceed its minimum after `steps` steps of gradient descent.

    $$\text{constant: } \frac{L D^2}{2} \cdot \frac{\kappa}{\kappa - 1 + (1 - \kappa)^{-2n}}, \quad
      \text{optimal: } \frac{L D^2}{2} \left(\frac{L - \mu}{L + \mu}\right)^{2n}, \quad
      \text{chebyshev: } \frac{L D^2}{2} \, T_n\!\left(\frac{L + \mu}{L - \mu}\right)^{-2}, \quad
      \text{silver: } \frac{L D^2}{1 + \sqrt{4 \rho^{2m} - 3}}$$

    for `smoothness` $L$, `distance` $D$, `steps` $n$, $\kappa = \mu / L$ and the silver ratio
    $\rho$. Use it to see what a guarantee is worth on a task, and how many steps it asks for. Real
    gaps are mostly far smaller.

    - "constant": the rate 1 / L, on any smooth convex loss; for `mu` of 0 it is $L D^2 / (4n + 2)$.
    - "optimal": the rate 2 / (L + mu), on any strongly convex loss.
    - "chebyshev": `theory.chebyshev(mu, smoothness, steps)`, on quadratic losses only.
    - "silver": `theory.silver(smoothness, steps)`, on any smooth convex loss, for $n = 2^m - 1$.

    Args:
      rule: One of these four names.
      steps: Number of steps, an int of at least 0.
      smoothness: The largest curvature, above 0, such as from `theory.smoothness`.
      distance: Distance from the first point to the minimum, above 0.
      mu: The least curvature, at least 0 and at most `smoothness`.

    Returns:
      The gap, a scalar.

    Raises:
      ValueError: if a concrete number is out of its range, `rule` is unknown, or `steps` is not one
        below a power of 2 for "silver".
      TypeError: if an argument is not as described.

    Example:
      >>> for rule in ("constant", "optimal", "chebyshev", "silver"):
      ...     gap = lrax.theory.predicted_gap(rule, 15, smoothness=1.0, distance=1.0, mu=0.05)
      ...     print(rule, f"{gap:.1e}")
      constant 6.7e-03
      optimal 2.5e-02
      chebyshev 2.4e-06
      silver 1.5e-02

    Reference:
      Kim. A Proof of the Exact Convergence Rate of Gradient Descent. 2024, arXiv:2412.04427, for
      "constant"; Nesterov. Lectures on Convex Optimization. 2018, theorem 2.1.15, for "optimal";
      Altschuler, Parrilo. Acceleration by Stepsize Hedging II. 2023, arXiv:2309.16530, for
      "silver".
    """
    _require.choice("rule", rule, _RULES)
    steps = _require.count("steps", steps, 0)
    if rule == "silver" and steps & (steps + 1):
        raise ValueError(f"`steps` must be one below a power of 2 for 'silver', got {steps}")
    given = _require.real(smoothness=smoothness, distance=distance, mu=mu)
    for name, value in given.items():
        if np.ndim(value):
            raise ValueError(f"`{name}` must be one number, got {value}")
    _require.positive(given, "smoothness", "distance")
    _require.nonnegative(given, "mu")
    _require.at_most("`mu` must be at most `smoothness`", given["mu"], given["smoothness"])
    largest, distance, mu = (jnp.asarray(value, _require.float_dtype()) for value in given.values())
    return _gap(rule, steps, largest, distance, mu)


def _gap(rule, steps, smoothness, distance, mu):
    whole = smoothness * distance**2 / 2
    ratio = jnp.minimum(mu / smoothness, 1)
    if rule == "constant":
        # kappa / (kappa + (1 - kappa)^-2n - 1), exact for small kappa, and 1 / (2n + 1) at 0.
        grown = jnp.expm1(-2 * steps * jnp.log1p(-jnp.minimum(ratio, 1 - 1e-7)))
        small = ratio < 1e-7
        exact = ratio / jnp.where(small, 1, ratio + grown)
        return whole * jnp.where(small, 1 / (2 * steps + 1), exact)
    if rule == "optimal":
        return whole * ((1 - ratio) / (1 + ratio)) ** (2 * steps)
    if rule == "chebyshev":
        # T_n(x) = cosh(n arccosh x), and arccosh of (1 + r) / (1 - r) is 2 artanh of sqrt(r).
        angle = 2 * jnp.arctanh(jnp.minimum(jnp.sqrt(ratio), 1 - 1e-7))
        return whole / jnp.cosh(jnp.minimum(steps * angle, 40.0)) ** 2
    power = _RATIO ** (2.0 * int(steps + 1).bit_length() - 2)
    return 2 * whole / (1 + np.sqrt(4 * power - 3))


def least_grad_norm(
    rates: ArrayLike, *, smoothness: ArrayLike, gap: ArrayLike, noise: ArrayLike = 0.0
) -> jax.Array:
    r"""An upper bound on the least gradient norm of a run, for any smooth loss.

    $$\min_k \lVert g_k \rVert^2 \le \frac{\text{gap} + \frac{L}{2} \sum_k \eta_k^2 \sigma^2}
      {\sum_k \eta_k (1 - L \eta_k / 2)}$$

    for `rates` $\eta$, `smoothness` $L$ and `noise` $\sigma$: the descent lemma, summed. Use it for
    losses that are not convex, such as those of networks, where nothing is promised for the loss.
    With noise it holds for the expectation. Every rate must be at most 2 / L; the bound is infinite
    if all rates are 0 or 2 / L.

    Args:
      rates: The rates of all updates, at least 0: the values of a schedule, shape `[steps]`.
      smoothness: The largest curvature that training meets, above 0, such as from
        `theory.smoothness`.
      gap: The first loss less the least one that is possible, above 0; the first loss itself, if no
        loss is negative.
      noise: Standard deviation of the norm of the gradient's noise, at least 0; 0 for the gradient
        of all examples.

    Returns:
      The bound on the norm, a scalar.

    Raises:
      ValueError: if a concrete number is out of its range, a rate is above 2 / `smoothness`, or
        `rates` is not a list of numbers with one above 0.
      TypeError: if an argument holds no real numbers.

    Example:
      >>> rates = lrax.constant(0.1).values(100)
      >>> print(lrax.theory.least_grad_norm(rates, smoothness=10.0, gap=2.0).round(4))
      0.6325

    Reference:
      Ghadimi, Lan. Stochastic First- and Zeroth-Order Methods for Nonconvex Stochastic Programming.
      2013, arXiv:1309.5549, theorem 2.1.
    """
    given = _require.real(rates=rates, smoothness=smoothness, gap=gap, noise=noise)
    rates_of(given)
    for name in ("smoothness", "gap", "noise"):
        if np.ndim(given[name]):
            raise ValueError(f"`{name}` must be one number, got {given[name]}")
    _require.positive(given, "smoothness", "gap")
    _require.nonnegative(given, "noise")
    dtype = _require.float_dtype()
    rates, smooth, gap, noise = (jnp.asarray(value, dtype) for value in given.values())
    words = "`rates` times `smoothness` must be at most 2"
    _require.at_most(words, jnp.max(rates) * smooth, np.float64(2))
    drop = jnp.sum(rates * (1 - smooth * rates / 2))
    return jnp.sqrt((gap + smooth / 2 * jnp.sum(rates**2) * noise**2) / drop)
