"""`momo_adam`: Adam with a step size from the loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..controllers.norms import inner
from .loss_model import Model, averaged, first_model, step_size
from .numbers import Rate, in_use, rate_of
from .sound import method
from .sums import scalar, wide, zeros

Params = Any


class MomoAdamState(NamedTuple):
    """State of `momo_adam`."""

    # shape (), int32: the updates made
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    learning_rate: jax.Array  # shape (), float32: the step size of the last update
    held: jax.Array  # shape (), bool: whether a rate from `lrax.set_lr` replaces it
    model: Model
    exp_avg_sq: Params  # in at least float32


# `optax.contrib.momo_adam` is the same method if there is no weight decay. With weight decay, Optax
# divides only the parameters by 1 + rate * decay, and the paper the gradient's part too. Optax also
# keeps its scalars in the parameters' dtype. This file may go when Optax corrects both, and has its
# rate in the state.
def momo_adam(
    lr: Rate = 1e-2,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    lower_bound: ArrayLike = 0.0,
    adapt_lower_bound: bool = False,
    weight_decay: ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW whose step size follows from a linear model of the loss.

    $$\tau = \min\left(\frac{\text{lr}}{\rho},
        \frac{[\bar f - \rho f_* + \langle d, x \rangle - \bar\gamma]_+}
        {\lVert d \rVert^2_{D^{-1}}}\right), \qquad
      x \leftarrow \frac{x - \tau D^{-1} d}{1 + \text{lr} \cdot \text{weight\_decay}}$$

    $d$, $\bar f$ and $\bar\gamma$ average the gradients, the losses, and the inner products of
    gradient and parameters. $\rho = 1 - \text{b1}^k$ is their bias correction in update $k$. $D$ is
    Adam's denominator with its bias correction, $f_*$ is `lower_bound`, and $[z]_+$ is
    $\max(z, 0)$. With weight decay, the model in the numerator includes it. Use it in place of Adam
    if the best rate is not known: `lr` is only an upper limit of the step size, and one that was
    100 times too large did little harm on small tasks. Of the methods in `lrax.lr_free`, try it
    first if the lowest loss is near 0. A warmup and a decay of `lr` still help.

    `update` needs the loss as `value=`, which a run of lrax gives. `lrax.get_lr` reads the step
    size $\tau$; before the first update it is NaN. `lrax.set_lr` holds $\tau$, while weight decay
    still uses `lr`. If the gradient or the loss is not finite, state and parameters stay. The state
    is in float32 or wider. Under `optax.partition` each group has its own step size.

    Args:
      lr: The largest step size, before the division by $\rho$, at least 0: a number, a `Schedule`
        or any function of the count.
      b1: Decay of the averages, at least 0 and below 1.
      b2: Decay of the average of squared gradients, at least 0 and below 1.
      eps: Adam's epsilon, above 0.
      lower_bound: A lower bound of the loss, finite. 0 suits most losses.
      adapt_lower_bound: Whether the bound is estimated during training, from `lower_bound` up. Use
        it if the lowest loss is far above the bound. Without noise in the gradients, the estimate
        can stop above the lowest loss, and training stops there too.
      weight_decay: Decoupled weight decay, at least 0, in its proximal form.

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose `update` needs the parameters and the loss.

    Raises:
      ValueError: if a concrete number is out of its range, infinite, NaN or an array, or `update`
        gets no parameters.
      TypeError: if an argument is not of its type, or `update` gets no `value`.

    Example:
      >>> optimizer = lrax.lr_free.momo_adam(lr=1.0)
      >>> params = jnp.array([3.0, -4.0])
      >>> state = optimizer.init(params)
      >>> @jax.jit
      ... def step(params, state):
      ...     loss, grads = jax.value_and_grad(lambda params: jnp.sum(params**2))(params)
      ...     updates, state = optimizer.update(grads, state, params, value=loss)
      ...     return optax.apply_updates(params, updates), state
      >>> for _ in range(200):
      ...     params, state = step(params, state)
      >>> print(bool(jnp.all(abs(params) < 0.01)))
      True

    Reference:
      Schaipp et al. MoMo: Momentum Models for Adaptive Learning Rates. 2023, arXiv:2305.07583; the
      authors' package `momo-opt`.
    """
    numbers = _require.scalars(
        b1=b1, b2=b2, eps=eps, lower_bound=lower_bound, weight_decay=weight_decay
    )
    _require.below_one(numbers, "b1", "b2")
    _require.positive(numbers, "eps")
    _require.finite(numbers, "lower_bound")
    _require.nonnegative(numbers, "weight_decay")
    _require.flag("adapt_lower_bound", adapt_lower_bound)
    schedule = rate_of(lr)

    def init(params: Params) -> MomoAdamState:
        return MomoAdamState(
            count=jnp.zeros([], jnp.int32),
            learning_rate=scalar(jnp.nan),
            held=jnp.zeros([], jnp.bool_),
            model=first_model(params, numbers),
            exp_avg_sq=zeros(params),
        )

    def update(
        grads: optax.Updates, state: MomoAdamState, params: Params, value: jax.Array
    ) -> tuple[optax.Updates, MomoAdamState]:
        decay, slow = numbers["b1"], numbers["b2"]
        count = jnp.asarray(optax.safe_increment(state.count))
        model = averaged(state.model, decay, grads, params, value)
        exp_avg_sq = jax.tree.map(
            lambda old, grad: slow * old + (1 - slow) * wide(grad) ** 2, state.exp_avg_sq, grads
        )
        correction = 1 - slow ** wide(count)
        direction = jax.tree.map(
            lambda average, square: average / (jnp.sqrt(square / correction) + numbers["eps"]),
            model.exp_avg,
            exp_avg_sq,
        )
        rate = schedule(state.count)
        step, model = step_size(
            model,
            params,
            norm=inner(model.exp_avg, direction),
            rate=rate,
            rho=1 - decay ** wide(count),
            numbers=numbers,
            adapt=adapt_lower_bound,
        )
        step = in_use(state, step)
        shrink = rate * numbers["weight_decay"]
        updates = jax.tree.map(
            lambda along, param: -(step * along + shrink * wide(param)) / (1 + shrink),
            direction,
            params,
        )
        return updates, MomoAdamState(count, step, state.held, model, exp_avg_sq)

    return method("momo_adam", init, update, needs_value=True)
