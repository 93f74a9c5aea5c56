"""`dadapt_adam`: Adam with a step size from D-Adaptation."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..controllers.norms import inner
from .adam import bias_correction as adam_correction
from .numbers import Rate, in_use, rate_of
from .sound import method
from .sums import absolute_sum, scalar, wide, zeros

Params = Any


class DAdaptAdamState(NamedTuple):
    """State of `dadapt_adam`. Its scalars have the shape (), its trees those of the parameters."""

    # int32: the updates seen, which the schedule counts
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    learning_rate: jax.Array  # float32: the distance times the schedule, in the last update
    held: jax.Array  # bool: whether a rate from `lrax.set_lr` replaces it
    steps: jax.Array  # int32: the updates made, which the bias correction counts
    distance: jax.Array  # float32: the estimate, d in the paper
    numerator: jax.Array  # float32: the numerator of the estimate
    exp_avg: Params  # m in the formula
    exp_avg_sq: Params  # v
    grad_sum: Params  # s


# `optax.contrib.dadapt_adamw` is the same method with `bias_correction=True, decoupled=True` and no
# `growth_rate`. It gives NaN if the first rate or the first gradient is 0, and keeps its scalars in
# the parameters' dtype. This file may go when Optax skips such updates, keeps its scalars in
# float32 and has its rate in the state.
def dadapt_adam(
    lr: Rate = 1.0,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    init_distance: ArrayLike = 1e-6,
    growth_rate: ArrayLike = np.inf,
    weight_decay: ArrayLike = 0.0,
    bias_correction: bool = False,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam whose step size is D-Adaptation's estimate of the distance, times a schedule.

    $$\hat d_k = \frac{\sum_i \sqrt{\text{b2}}^{\,k-i} \eta_i d_i \langle g_i, s_i \rangle_{v}}
        {\lVert s_{k+1} \rVert_1}, \quad d_{k+1} = \max(d_k, \hat d_k), \quad
      x \leftarrow x - \frac{m_k}{\sqrt{v_k} + \text{eps}}$$

    $g$ is the gradient, $\eta$ is `lr`, and $d$ is the estimate of the distance. $m$ averages the
    gradients times $\eta_k d_k$, $s$ averages the same products with the decay $\sqrt{\text{b2}}$,
    and $v$ averages the squared gradients. The terms of the inner product are divided by
    $\sqrt{v} + \text{eps}$. Prefer the successor `prodigy`: the distance of `dadapt_adam` came out
    several times too large on small tasks. At its defaults `dadapt_adam` ended at 1.8 times the
    loss of a swept rate in the median of six tasks, and at 663 times at worst; with `lr=0.1`, at
    1.0 and 2.4 times (`python -m tests.benchmarks.controllers`). Use it to reproduce published
    results, with a schedule that decays from at most 1 and with `growth_rate=1.02`.

    While all gradients have been 0, or if the rate is 0, an update changes neither the parameters,
    nor the distance, nor the step count of the bias correction. The schedule goes on. `lrax.get_lr`
    reads the distance times the schedule, without the bias correction, and `lrax.set_lr` holds it.
    An update whose gradient is not finite is skipped: state and parameters stay. The state is in
    float32 or wider. Under `optax.partition` each group has its own distance.

    Args:
      lr: Factor of the distance, at least 0: a number, a `Schedule` or any function of the count.
      b1: Decay of the average of gradients, at least 0 and below 1.
      b2: Decay of the average of squared gradients, at least 0 and below 1.
      eps: Adam's epsilon, above 0.
      init_distance: The first estimate, above 0. It should be below the true distance.
      growth_rate: By which factor the distance may grow per update, at least 1, or infinite. 1.02
        acts as a warmup.
      weight_decay: Weight decay, at least 0, added to the gradient unless `decoupled` is set.
      bias_correction: Whether the step has Adam's bias correction, as in Optax. The authors' code
        has it off.
      decoupled: Whether the weight decay is AdamW's: the rate times the parameters, outside of the
        averages. True is better; the authors' code has it off.

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose `update` needs the parameters.

    Raises:
      ValueError: if a concrete number is out of its range, NaN or an array, or `update` gets no
        parameters.
      TypeError: if an argument is not of its type.

    Example:
      >>> optimizer = lrax.lr_free.dadapt_adam(lrax.warmup_cosine(peak=1.0, steps=300, warmup=10))
      >>> params = jnp.array([3.0, -4.0])
      >>> state = optimizer.init(params)
      >>> @jax.jit
      ... def step(params, state):
      ...     updates, state = optimizer.update(2 * params, state, params)
      ...     return optax.apply_updates(params, updates), state
      >>> for _ in range(300):
      ...     params, state = step(params, state)
      >>> print(bool(jnp.all(abs(params) < 0.01)), lrax.get_lr(state) <= state.distance)
      True True

    Reference:
      Defazio, Mishchenko. Learning-Rate-Free Learning by D-Adaptation. 2023, arXiv:2301.07733; the
      authors' package `dadaptation`.
    """
    numbers = _require.scalars(
        b1=b1,
        b2=b2,
        eps=eps,
        init_distance=init_distance,
        growth_rate=growth_rate,
        weight_decay=weight_decay,
    )
    _require.below_one(numbers, "b1", "b2")
    _require.positive(numbers, "eps", "init_distance")
    _require.nonnegative(numbers, "weight_decay")
    _require.not_below(numbers, 1, "growth_rate")
    _require.flag("bias_correction", bias_correction)
    _require.flag("decoupled", decoupled)
    schedule = rate_of(lr)
    b1, b2, eps, decay = (numbers[name] for name in ("b1", "b2", "eps", "weight_decay"))
    slow = b2**0.5

    def init(params: Params) -> DAdaptAdamState:
        first = numbers["init_distance"]
        return DAdaptAdamState(
            count=jnp.zeros([], jnp.int32),
            learning_rate=scalar(first * schedule(jnp.zeros([], jnp.int32))),
            held=jnp.zeros([], jnp.bool_),
            steps=jnp.zeros([], jnp.int32),
            distance=scalar(first),
            numerator=scalar(0.0),
            exp_avg=zeros(params),
            exp_avg_sq=zeros(params),
            grad_sum=zeros(params),
        )

    def update(
        grads: optax.Updates, state: DAdaptAdamState, params: Params, value: None
    ) -> tuple[optax.Updates, DAdaptAdamState]:
        del value
        distance = state.distance
        rate = in_use(state, distance * schedule(state.count))
        step = rate * adam_correction(b1, b2, state.steps) if bias_correction else rate
        # At a rate of 0 the authors' code keeps the whole state. A rate that is NaN is used, so
        # that a bad schedule shows.
        active = rate != 0

        def averaged(decay: Any, factor: Any, average: Params, terms: Params) -> Params:
            return jax.tree.map(
                lambda old, term: jnp.where(active, decay * old + (1 - decay) * factor * term, old),
                average,
                terms,
            )

        grads = jax.tree.map(wide, grads)
        if not decoupled:
            grads = jax.tree.map(lambda grad, param: grad + decay * wide(param), grads, params)
        scaled = jax.tree.map(
            lambda total, square: total / (jnp.sqrt(square) + eps), state.grad_sum, state.exp_avg_sq
        )
        product = step * inner(grads, scaled)
        numerator = slow * state.numerator + (1 - slow) * product
        exp_avg = averaged(b1, step, state.exp_avg, grads)
        exp_avg_sq = averaged(b2, 1.0, state.exp_avg_sq, jax.tree.map(jnp.square, grads))
        grad_sum = averaged(slow, step, state.grad_sum, grads)

        denominator = (1 - slow) * absolute_sum(grad_sum)
        # Before the first gradient that is not 0, the estimate is 0/0.
        moving = active & (denominator != 0)
        estimate = numerator / jnp.where(moving, denominator, 1)
        grown = jnp.maximum(distance, jnp.minimum(estimate, distance * numbers["growth_rate"]))

        # The average contains the rates: each gradient was multiplied by its update's rate.
        updates = jax.tree.map(
            lambda average, square: jnp.where(moving, -average / (jnp.sqrt(square) + eps), 0),
            exp_avg,
            exp_avg_sq,
        )
        if decoupled:
            updates = jax.tree.map(
                lambda update, param: jnp.where(moving, update - decay * step * wide(param), 0),
                updates,
                params,
            )
        return updates, DAdaptAdamState(
            count=jnp.asarray(optax.safe_increment(state.count)),
            learning_rate=rate,
            held=state.held,
            steps=jnp.where(moving, optax.safe_increment(state.steps), state.steps),
            distance=jnp.where(moving, grown, distance),
            numerator=jnp.where(moving, numerator, state.numerator),
            exp_avg=exp_avg,
            exp_avg_sq=exp_avg_sq,
            grad_sum=grad_sum,
        )

    return method("dadapt_adam", init, update)
