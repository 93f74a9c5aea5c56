"""`polynomial_average`: an average of the parameters, for evaluating `dog`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .sums import copied, wide

Params = Any


class PolynomialAverageState(NamedTuple):
    """State of `polynomial_average`."""

    # shape (), int32: how many updates' parameters have been averaged
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    average: Params  # in at least float32


def polynomial_average(gamma: ArrayLike = 8.0) -> optax.GradientTransformation:
    r"""Polynomial-decay averaging: a mean of the parameters that weighs recent ones more.

    $$\bar x_t = \left(1 - \frac{1 + \gamma}{t + \gamma}\right) \bar x_{t-1}
      + \frac{1 + \gamma}{t + \gamma} \, x_t, \qquad t = 1, 2, \dots$$

    $x_t$ are the parameters after update $t$. Use it with a rate that does not decay, such as that
    of `dog`: train the parameters, and evaluate the average. The average covers about the last
    1 / (1 + gamma) of the updates, however many there are, so `gamma` needs no tuning. After each
    update, call the `update` below with the new parameters, as you would with `optax.ema`. Do not
    put this transformation in `optax.chain`.

    Args:
      gamma: How fast old parameters are forgotten, at least 0; 0 is the plain mean.

    Returns:
      An `optax.GradientTransformation`, a pair of functions. `init(params)` returns the state, and
      `update(params, state)` returns the average, in the dtypes of the parameters, and the next
      state.

    Raises:
      ValueError: if `gamma` is concrete and negative, infinite, NaN or an array.
      TypeError: if `gamma` is not a number.

    Example:
      >>> init, update = lrax.lr_free.polynomial_average(gamma=1.0)
      >>> state = init(jnp.zeros(()))
      >>> for params in (jnp.array(1.0), jnp.array(4.0), jnp.array(4.0)):
      ...     average, state = update(params, state)
      >>> print(average)
      3.5

    Reference:
      Shamir, Zhang. Stochastic Gradient Descent for Non-smooth Optimization. ICML 2013; the class
      `PolynomialDecayAverager` of the package `dog-optimizer`.
    """
    numbers = _require.scalars(gamma=gamma)
    _require.nonnegative(numbers, "gamma")

    def init(params: Params) -> PolynomialAverageState:
        return PolynomialAverageState(jnp.zeros([], jnp.int32), copied(params))

    def update(
        updates: Params, state: PolynomialAverageState, params: Params | None = None
    ) -> tuple[Params, PolynomialAverageState]:
        del params  # part of Optax's protocol; the parameters to average come as `updates`
        count = jnp.asarray(optax.safe_increment(state.count))
        weight = (1 + numbers["gamma"]) / (wide(count) + numbers["gamma"])
        wider = jax.tree.map(
            lambda old, new: ((1 - weight) * old + weight * wide(new)).astype(old.dtype),
            state.average,
            updates,
        )
        average = jax.tree.map(lambda new, leaf: new.astype(leaf.dtype), wider, updates)
        return average, PolynomialAverageState(count, wider)

    # Optax declares the state of an `update` as any pytree, and this function takes only its own.
    return optax.GradientTransformation(
        init,
        update,  # pyright: ignore[reportArgumentType]
    )
