"""`schedule_free_sgd`: SGD with averaged parameters in place of a decaying rate."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax.typing import ArrayLike

from .. import _require
from .numbers import Rate, rate_of
from .schedule_free import schedule_free
from .sums import wide

Params = Any


# `optax.contrib.schedule_free_sgd` is the same method if there is no warmup. Optax weights the
# average by the rate of the next update, begins its warmup at 0, and keeps its scalars in the
# parameters' dtype. This file and `schedule_free.py` may go when Optax corrects all three, and has
# its rate in the state.
def schedule_free_sgd(
    lr: Rate = 1.0,
    *,
    b1: ArrayLike = 0.9,
    warmup: ArrayLike = 0,
    weight_decay: ArrayLike = 0.0,
    r: ArrayLike = 0.0,
    weight_lr_power: ArrayLike = 2.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Gradient descent that averages its parameters in place of decaying the rate.

    $$y = (1 - \text{b1}) z + \text{b1} \, x, \qquad z \leftarrow z - \eta_k \nabla f(y), \qquad
      x \leftarrow (1 - c_k) x + c_k z$$

    $\eta_k$ is `lr` times $\min(1, (k+1)/\text{warmup})$. $c_k = w_k / \sum_{i \le k} w_i$, where
    $w_k$ is $(k+1)^r$ times the largest rate so far to the power `weight_lr_power`. The parameters
    in training are $y$. Evaluate and save $x$, from `schedule_free_eval_params`. Use it if the
    length of the run is not known, or to have good parameters at any time. The rate still matters:
    keep it constant, and search near 10 times the best rate of `optax.sgd` with momentum 0.9. The
    default diverged on one of six small tasks (`python -m tests.benchmarks.controllers`).

    `lrax.get_lr` reads the rate with its warmup, and `lrax.set_lr` holds it. An update whose
    gradient is not finite is skipped: state and parameters stay. The state is in float32 or wider.
    Under `optax.partition` each group has its own average.

    Args:
      lr: The rate after the warmup, at least 0: a number, a `Schedule` or any function of the
        count. While all rates have been 0, nothing moves. Later, a rate of 0 stops z, and the
        average still moves towards z.
      b1: The weight of the average x in y, above 0 and below 1.
      warmup: Length of the linear warmup in updates, at least 0. The first rate is `lr / warmup`.
      weight_decay: Weight decay, at least 0, added to the gradient.
      r: Power of the update's number, k + 1, in the weights of the average, at least 0.
      weight_lr_power: Power of the largest rate so far in these weights, at least 0.

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose `update` needs the parameters.

    Raises:
      ValueError: if a concrete number is out of its range, infinite, NaN or an array, or `update`
        gets no parameters.
      TypeError: if an argument is not of its type.

    Example:
      >>> optimizer = lrax.lr_free.schedule_free_sgd(lr=0.3, warmup=10)
      >>> print(lrax.get_lr(optimizer.init(jnp.ones(2))))
      0.03

    Reference:
      Defazio et al. The Road Less Scheduled. 2024, arXiv:2405.15682; the authors' package
      `schedulefree`.
    """
    numbers = _require.scalars(
        b1=b1, warmup=warmup, weight_decay=weight_decay, r=r, weight_lr_power=weight_lr_power
    )
    _require.positive(numbers, "b1")
    _require.below_one(numbers, "b1")
    _require.nonnegative(numbers, "warmup", "weight_decay", "r", "weight_lr_power")
    schedule = rate_of(lr)

    def init_moments(params: Params) -> tuple[()]:
        del params
        return ()

    def direction(
        grads: optax.Updates, moments: tuple[()], params: Params, number: jax.Array
    ) -> tuple[Params, tuple[()]]:
        del number
        decay = numbers["weight_decay"]
        along = jax.tree.map(lambda grad, y: wide(grad) + decay * wide(y), grads, params)
        return along, moments

    return schedule_free("schedule_free_sgd", schedule, numbers, init_moments, direction)
