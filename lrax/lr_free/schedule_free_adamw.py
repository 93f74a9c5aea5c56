"""`schedule_free_adamw`: AdamW with averaged parameters in place of a decaying rate."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .numbers import Rate, rate_of
from .schedule_free import schedule_free
from .sums import wide, zeros

Params = Any


# `optax.contrib.schedule_free_adamw` is the same method if there is no warmup. For the differences,
# and for when this file may go, see `schedule_free_sgd`.
def schedule_free_adamw(
    lr: Rate = 0.0025,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    warmup: ArrayLike = 0,
    weight_decay: ArrayLike = 0.0,
    weight_lr_power: ArrayLike = 2.0,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW that averages its parameters in place of momentum and of decaying the rate.

    $$y = (1 - \text{b1}) z + \text{b1} \, x, \qquad
      z \leftarrow z - \eta_k \left(\frac{\nabla f(y)}{\sqrt{\hat v} + \text{eps}}
        + \text{weight\_decay} \cdot y\right), \qquad x \leftarrow (1 - c_k) x + c_k z$$

    $\hat v$ is Adam's average of squared gradients with its bias correction. $\eta_k$ is `lr` times
    $\min(1, (k+1)/\text{warmup})$. $c_k = w_k / \sum_{i \le k} w_i$, where $w_k$ is the largest
    rate so far to the power `weight_lr_power`. The parameters in training are $y$. Evaluate and
    save $x$, from `schedule_free_eval_params`. Use it if the length of the run is not known, or to
    have good parameters at any time. The rate still matters: search near the best rate of AdamW.
    Keep it constant after a warmup of 1 to 5 percent of the updates.

    `lrax.get_lr` reads the rate with its warmup, and `lrax.set_lr` holds it. An update whose
    gradient is not finite is skipped: state and parameters stay. The state is in float32 or wider.
    Under `optax.partition` each group has its own average.

    Args:
      lr: The rate after the warmup, at least 0: a number, a `Schedule` or any function of the
        count. While all rates have been 0, nothing moves. Later, a rate of 0 stops z, and the
        average still moves towards z.
      b1: The weight of the average x in y, above 0 and below 1. 0.95 and 0.98 suit long runs.
      b2: Decay of the average of squared gradients, at least 0 and below 1.
      eps: Adam's epsilon, above 0.
      warmup: Length of the linear warmup in updates, at least 0. The first rate is `lr / warmup`.
      weight_decay: Decoupled weight decay, at least 0. The rate multiplies it.
      weight_lr_power: Power of the largest rate so far in the weights of the average, at least 0.

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose `update` needs the parameters.

    Raises:
      ValueError: if a concrete number is out of its range, infinite, NaN or an array, or `update`
        gets no parameters.
      TypeError: if an argument is not of its type.

    Example:
      >>> optimizer = lrax.lr_free.schedule_free_adamw(lr=0.01, warmup=10)
      >>> print(lrax.get_lr(optimizer.init(jnp.ones(2))))
      0.001

    Reference:
      Defazio et al. The Road Less Scheduled. 2024, arXiv:2405.15682; the authors' package
      `schedulefree`.
    """
    numbers = _require.scalars(
        b1=b1,
        b2=b2,
        eps=eps,
        warmup=warmup,
        weight_decay=weight_decay,
        weight_lr_power=weight_lr_power,
    )
    _require.positive(numbers, "b1", "eps")
    _require.below_one(numbers, "b1", "b2")
    _require.nonnegative(numbers, "warmup", "weight_decay", "weight_lr_power")
    schedule = rate_of(lr)
    slow = numbers["b2"]

    def direction(
        grads: optax.Updates, exp_avg_sq: Params, params: Params, number: jax.Array
    ) -> tuple[Params, Params]:
        correction = 1 - slow**number

        def along(grad: jax.Array, square: jax.Array, y: jax.Array) -> jax.Array:
            scaled = wide(grad) / (jnp.sqrt(square / correction) + numbers["eps"])
            return scaled + numbers["weight_decay"] * wide(y)

        exp_avg_sq = jax.tree.map(
            lambda old, grad: slow * old + (1 - slow) * wide(grad) ** 2, exp_avg_sq, grads
        )
        return jax.tree.map(along, grads, exp_avg_sq, params), exp_avg_sq

    # `r` is 0, the authors' default: the average gives all updates after the warmup equal weight.
    return schedule_free("schedule_free_adamw", schedule, {**numbers, "r": 0.0}, zeros, direction)
