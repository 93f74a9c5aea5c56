"""The linear model of the loss in `momo` and `momo_adam`, and the step size that it gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from ..controllers.norms import inner
from .numbers import Numbers
from .sums import scalar, wide, zeros

Params = Any


class Model(NamedTuple):
    """A linear model of the loss: averages over the batches so far. Its scalars are float32."""

    loss: jax.Array  # average of the losses
    inner: jax.Array  # average of the inner products of gradient and parameters
    lower_bound: jax.Array  # lower bound of the loss, given or estimated
    exp_avg: Params  # average of the gradients


def first_model(params: Params, numbers: Numbers) -> Model:
    """The model before the first batch."""
    return Model(scalar(0.0), scalar(0.0), scalar(numbers["lower_bound"]), zeros(params))


def averaged(
    model: Model, decay: Any, grads: optax.Updates, params: Params, value: jax.Array
) -> Model:
    """The model after one more batch."""
    return model._replace(
        loss=decay * model.loss + (1 - decay) * value,
        inner=decay * model.inner + (1 - decay) * inner(grads, params),
        exp_avg=jax.tree.map(
            lambda old, grad: decay * old + (1 - decay) * wide(grad), model.exp_avg, grads
        ),
    )


def step_size(
    model: Model,
    params: Params,
    *,
    norm: jax.Array,
    rate: jax.Array,
    rho: Any,
    numbers: Numbers,
    adapt: bool,
) -> tuple[jax.Array, Model]:
    """The adaptive step size, at most `rate / rho`, and the model with the next lower bound.

    `norm` is the squared norm of the averaged gradient, divided by the preconditioner if there is
    one. `rho` is the bias correction, by which the averages are divided.
    """
    growth = 1 + rate * numbers["weight_decay"]
    here = inner(model.exp_avg, params)
    bound = model.lower_bound
    if adapt:
        # A bound above the model's loss is too high. It starts again at half of that loss.
        least = growth * (model.loss - model.inner) + here
        reset = jnp.maximum(least / (2 * growth * rho), numbers["lower_bound"])
        bound = jnp.where(least < growth * rho * bound, reset, bound)
    gap = growth * (model.loss - rho * bound - model.inner) + here
    # If the averaged gradient is 0, the model is flat and sets no limit to the step size.
    polyak = jnp.where(norm > 0, jnp.maximum(gap, 0) / jnp.where(norm > 0, norm, 1), jnp.inf)
    step = jnp.minimum(rate / rho, polyak)
    if adapt:
        least = model.loss + here - model.inner - step * norm / 2
        bound = jnp.maximum(least / rho, numbers["lower_bound"])
    return step, model._replace(lower_bound=bound)
