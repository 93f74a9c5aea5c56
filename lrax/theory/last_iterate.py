"""Bounds on the loss after the last update, for any schedule."""

from __future__ import annotations

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require

Numbers = dict[str, ArrayLike]  # leaves, as `_require.real` makes them


def last_iterate_bound(
    rates: ArrayLike, *, distance: ArrayLike = 1.0, grad_norm: ArrayLike = 1.0
) -> jax.Array:
    r"""A bound on how far the loss at the last point is above the least one, for a schedule.

    $$\frac{D^2}{2 S_1} + \frac{Q_1}{2 S_1}
      + \frac{1}{2} \sum_{k=1}^{T-1} \frac{\eta_k}{S_{k+1}} \cdot \frac{Q_k}{S_k},
      \quad S_k = \sum_{t=k}^{T} \eta_t, \quad Q_k = \sum_{t=k}^{T} \eta_t^2 G_t^2$$

    for `rates` $\eta$, `distance` $D$ and `grad_norm` $G$. It holds in expectation for stochastic
    gradient descent on any convex loss, smooth or not. Use it to compare schedules before training,
    each at its own best base rate (`best_base_rate`): curves of large models were found to follow
    the same order. The last point is the one at which the last gradient is taken, before the last
    update. So a schedule whose last rate is 0 right after a positive one has an infinite bound.

    The cost is linear in the number of updates. The bound can be differentiated in every rate, and
    so in every number of a schedule.

    Args:
      rates: The rates of all updates, at least 0: the values of a schedule, shape `[steps]`, or of
        many schedules, `[..., steps]`.
      distance: Distance from the first point to the nearest minimum, above 0.
      grad_norm: Bound on the norm of the gradients, at least 0: a number, or one for each update,
        shape `[steps]`.

    Returns:
      The bound, a scalar, or `[...]` for many schedules. Infinite if traced rates are all 0.

    Raises:
      ValueError: if a concrete number is out of its range, a concrete schedule has no rate above 0,
        `rates` has no axis of at least one number, or `grad_norm` is neither a number nor a list as
        long as `rates`.
      TypeError: if an argument holds no real numbers.

    Example:
      >>> rates = 0.1 * lrax.linear(init=1.0, end=0.0, steps=100).values(100)
      >>> print(lrax.theory.last_iterate_bound(rates).round(4))
      0.2037

    Reference:
      Defazio, Cutkosky, Mehta, Mishchenko. When, Why and How Much? Adaptive Learning Rate
      Scheduling by Refinement. 2023, arXiv:2310.07831, theorem 10.
      Schaipp et al. The Surprising Agreement Between Convex Optimization Theory and Learning-Rate
      Scheduling for Large Model Training. 2025, arXiv:2501.18965.
    """
    near, noise = _of_lanes(**_required(rates, distance, grad_norm))
    return near + noise


def best_base_rate(
    rates: ArrayLike, *, distance: ArrayLike = 1.0, grad_norm: ArrayLike = 1.0
) -> tuple[jax.Array, jax.Array]:
    r"""The factor of a schedule that makes its bound least, and that bound.

    $$\gamma = \sqrt{a / b}, \quad \text{bound} = 2 \sqrt{a b}$$

    where $a / \gamma + \gamma b$ is `last_iterate_bound` of $\gamma \cdot \text{rates}$. Use it to
    compare the shapes of two schedules, each at its own best rate. With a peak of 1 in `rates`, the
    factor is the best peak. Its absolute value is only as good as `distance` and `grad_norm`, which
    are seldom known. Ratios of two factors do not depend on them: with twice the steps, the best
    peak of a linear decay is $\sqrt{2}$ times smaller.

    Args:
      rates: The rates of all updates, at least 0: the values of a schedule, shape `[steps]`, or of
        many schedules, `[..., steps]`.
      distance: Distance from the first point to the nearest minimum, above 0.
      grad_norm: Bound on the norm of the gradients, at least 0: a number, or one for each update,
        shape `[steps]`.

    Returns:
      The factor and the bound, two scalars, or `[...]` each for many schedules. If all gradients
      are 0, the factor is infinite.

    Raises:
      ValueError: if a concrete number is out of its range, a concrete schedule has no rate above 0,
        `rates` has no axis of at least one number, or `grad_norm` is neither a number nor a list as
        long as `rates`.
      TypeError: if an argument holds no real numbers.

    Example:
      >>> shape = lrax.linear(init=1.0, end=0.0, steps=100).values(100)
      >>> rate, bound = lrax.theory.best_base_rate(shape)
      >>> print(rate.round(4), bound.round(4))
      0.0973 0.2036

    Reference:
      Schaipp et al. The Surprising Agreement Between Convex Optimization Theory and Learning-Rate
      Scheduling for Large Model Training. 2025, arXiv:2501.18965.
    """
    near, noise = _of_lanes(**_required(rates, distance, grad_norm))
    # Roots first: the quotient and the product of the parts may leave the range of float32.
    near, noise = jnp.sqrt(near), jnp.sqrt(noise)
    return near / noise, 2 * near * noise


def _required(rates: ArrayLike, distance: ArrayLike, grad_norm: ArrayLike) -> Numbers:
    given = _require.real(rates=rates, distance=distance, grad_norm=grad_norm)
    steps = rates_of(given, lanes=True)
    if np.ndim(given["distance"]):
        raise ValueError(f"`distance` must be one number, got {distance}")
    _require.positive(given, "distance")
    if np.shape(given["grad_norm"]) not in ((), (steps,)):
        raise ValueError(f"`grad_norm` must be one number or {steps} of them, got {grad_norm}")
    _require.nonnegative(given, "grad_norm")
    return given


def rates_of(given: Numbers, lanes: bool = False) -> int:
    """Requires `rates` to be a list of rates, not all of them 0, and returns their number.

    With `lanes`, there may be more axes before that of the updates.
    """
    rates = given["rates"]
    if not lanes or np.ndim(rates) == 0:
        _require.vector(given, "rates")
    if np.size(rates) < 1:
        raise ValueError("`rates` must be at least one number, got none")
    _require.nonnegative(given, "rates")
    if not isinstance(rates, Tracer):
        moves = np.any(np.asarray(rates, _require.float_dtype()), axis=-1)
        if not np.all(moves):
            raise ValueError("`rates` must have a number above 0, got only 0")
    return np.shape(rates)[-1]


def _of_lanes(rates: ArrayLike, distance: ArrayLike, grad_norm: ArrayLike):
    parts = _parts
    for _ in range(np.ndim(rates) - 1):
        parts = jax.vmap(parts, in_axes=(0, None, None))
    return parts(rates, distance, grad_norm)


@jax.jit
def _parts(rates: jax.Array, distance: jax.Array, grad_norm: jax.Array):
    """The part of the bound that falls as 1 / rate, and the part that grows with the rate."""
    # The squares of small rates leave the range of float32. After a division by the largest rate, a
    # square that does so is negligible. The result does not depend on the divisors, so they are
    # constants for the derivative.
    top, steepest = _largest(rates), _largest(grad_norm)
    shape, norms = rates / top, grad_norm / steepest
    left = lax.cumsum(shape, reverse=True)  # S_k, a sum of positive numbers: no cancellation
    noise = lax.cumsum(shape**2 * norms**2, reverse=True)  # Q_k
    # Rates of 0 at the end add nothing: their 0 / 0 counts as 0.
    moves = shape[:-1] > 0
    after = jnp.where(moves | (left[1:] > 0), left[1:], 1)
    whole = jnp.where(left[:-1] > 0, left[:-1], 1)
    terms = shape[:-1] / after * (noise[:-1] / whole)
    total = lax.cumsum(terms, reverse=True)[:1].sum()  # adds in pairs; `sum` adds one by one
    near = distance / (2 * left[0]) * (distance / top)
    average = noise[0] / jnp.where(left[0] > 0, left[0], 1)
    return near, (average + total) / 2 * steepest * (steepest * top)


def _largest(values: jax.Array) -> jax.Array:
    largest = lax.stop_gradient(jnp.max(values))
    return jnp.where(largest > 0, largest, 1)
