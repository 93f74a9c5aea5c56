"""`momo`: momentum with a step size from the loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..controllers.norms import square
from .loss_model import Model, averaged, first_model, step_size
from .numbers import Rate, in_use, rate_of
from .sound import method
from .sums import scalar, wide

Params = Any


class MomoState(NamedTuple):
    """State of `momo`."""

    # shape (), int32: the updates made
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    learning_rate: jax.Array  # shape (), float32: the step size of the last update
    held: jax.Array  # shape (), bool: whether a rate from `lrax.set_lr` replaces it
    model: Model


# `optax.contrib.momo` is the same method if there is no weight decay. With weight decay, Optax
# divides only the parameters by 1 + rate * decay, and the paper the gradient's part too. Optax has
# no bias correction, and keeps its scalars in the parameters' dtype. This file may go when Optax
# corrects all three, and has its rate in the state.
def momo(
    lr: Rate = 1.0,
    *,
    beta: ArrayLike = 0.9,
    lower_bound: ArrayLike = 0.0,
    bias_correction: bool = False,
    adapt_lower_bound: bool = False,
    weight_decay: ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD with momentum, whose step size follows from a linear model of the loss.

    $$\tau = \min\left(\text{lr}, \frac{[\bar f - f_* + \langle d, x \rangle - \bar\gamma]_+}
        {\lVert d \rVert^2}\right), \qquad
      x \leftarrow \frac{x - \tau d}{1 + \text{lr} \cdot \text{weight\_decay}}$$

    $d$, $\bar f$ and $\bar\gamma$ average the gradients, the losses, and the inner products of
    gradient and parameters. $x$ are the parameters, $f_*$ is `lower_bound`, and $[z]_+$ is
    $\max(z, 0)$. With weight decay, the model in the numerator includes it. Use it in place of SGD
    with momentum if the best rate is not known: `lr` is only an upper limit of the step size, and
    one that is up to 10 times too large does little harm. A warmup and a decay of `lr` still help.

    `update` needs the loss as `value=`, which a run of lrax gives. `lrax.get_lr` reads the step
    size $\tau$; before the first update it is NaN. `lrax.set_lr` holds $\tau$, while weight decay
    still uses `lr`. If the gradient or the loss is not finite, state and parameters stay. The state
    is in float32 or wider. Under `optax.partition` each group has its own step size.

    Args:
      lr: The largest step size, at least 0: a number, a `Schedule` or any function of the count.
      beta: Decay of the averages, at least 0 and below 1.
      lower_bound: A lower bound of the loss, finite. 0 suits most losses.
      bias_correction: Whether the averages start at 0 and are corrected for it; the correction also
        raises the limit `lr` in the first updates. If not, they start as the values of the first
        batch.
      adapt_lower_bound: Whether the bound is estimated during training, from `lower_bound` up. Use
        it if the lowest loss is far above the bound. Without noise in the gradients, the estimate
        can stop above the lowest loss, and training stops there too.
      weight_decay: Weight decay, at least 0, in its proximal form.

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose `update` needs the parameters and the loss.

    Raises:
      ValueError: if a concrete number is out of its range, infinite, NaN or an array, or `update`
        gets no parameters.
      TypeError: if an argument is not of its type, or `update` gets no `value`.

    Example:
      >>> optimizer = lrax.lr_free.momo()
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
    numbers = _require.scalars(beta=beta, lower_bound=lower_bound, weight_decay=weight_decay)
    _require.below_one(numbers, "beta")
    _require.finite(numbers, "lower_bound")
    _require.nonnegative(numbers, "weight_decay")
    _require.flag("bias_correction", bias_correction)
    _require.flag("adapt_lower_bound", adapt_lower_bound)
    schedule = rate_of(lr)

    def init(params: Params) -> MomoState:
        return MomoState(
            count=jnp.zeros([], jnp.int32),
            learning_rate=scalar(jnp.nan),
            held=jnp.zeros([], jnp.bool_),
            model=first_model(params, numbers),
        )

    def update(
        grads: optax.Updates, state: MomoState, params: Params, value: jax.Array
    ) -> tuple[optax.Updates, MomoState]:
        decay = numbers["beta"]
        count = jnp.asarray(optax.safe_increment(state.count))
        if bias_correction:
            rho = 1 - decay ** wide(count)
        else:
            rho = 1.0
            decay = jnp.where(state.count == 0, 0.0, decay)
        model = averaged(state.model, decay, grads, params, value)
        rate = schedule(state.count)
        step, model = step_size(
            model,
            params,
            norm=square(model.exp_avg),
            rate=rate,
            rho=rho,
            numbers=numbers,
            adapt=adapt_lower_bound,
        )
        step = in_use(state, step)
        shrink = rate * numbers["weight_decay"]
        updates = jax.tree.map(
            lambda average, param: -(step * average + shrink * wide(param)) / (1 + shrink),
            model.exp_avg,
            params,
        )
        return updates, MomoState(count, step, state.held, model)

    return method("momo", init, update, needs_value=True)
