"""`prodigy`: Adam with a step size from a weighted estimate of the distance."""

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
from .sums import absolute_sum, copied, difference, scalar, wide, zeros

Params = Any


class ProdigyState(NamedTuple):
    """State of `prodigy`. Its scalars have the shape (), its trees the shapes of the parameters."""

    # int32: the updates seen, which the schedule counts
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    learning_rate: jax.Array  # float32: the distance times the schedule, in the last update
    held: jax.Array  # bool: whether a rate from `lrax.set_lr` replaces it
    steps: jax.Array  # int32: the updates made, which the bias correction counts
    distance: jax.Array  # float32: the estimate, d in the paper
    largest: jax.Array  # float32: the largest estimate so far, before `growth_rate` limits it
    numerator: jax.Array  # float32: the numerator of the estimate
    exp_avg: Params  # m in the formula
    exp_avg_sq: Params  # v
    grad_sum: Params  # the sum in the denominator
    init_params: Params  # x_0


# `optax.contrib.prodigy` is the same method with `bias_correction=True` and no `growth_rate`. It
# gives NaN if the first rate or the first gradient is 0, and keeps its scalars in the parameters'
# dtype. This file may go when Optax skips such updates, keeps its scalars in float32 and has its
# rate in the state.
def prodigy(
    lr: Rate = 1.0,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    beta3: ArrayLike | None = None,
    init_distance: ArrayLike = 1e-6,
    distance_coef: ArrayLike = 1.0,
    growth_rate: ArrayLike = np.inf,
    weight_decay: ArrayLike = 0.0,
    bias_correction: bool = False,
    safeguard_warmup: bool = False,
    eps: ArrayLike = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW whose step size is an estimate of the distance to the solution, times a schedule.

    $$\hat d_k = \text{distance\_coef} \, \frac{\sum_i w_i \langle g_i, x_0 - x_i \rangle}
        {\lVert \sum_i w_i g_i \rVert_1}, \quad d_{k+1} = \max(d_k, \hat d_k), \quad
      x \leftarrow x - \eta_k d_k \frac{m_k}{\sqrt{v_k} + d_{k+1} \, \text{eps}}$$

    $g$ is the gradient, $\eta$ is `lr`, and $d$ is the estimate of the distance. $m$ and $v$ are
    Adam's averages, of the gradients times the distance. Both sums have weights $w_i$ proportional
    to $\eta_i d_i^2$, and are decayed by `beta3` per update. Use it in place of Adam if no rate is
    known, with a schedule that peaks at 1 and decays: `lrax.warmup_cosine(1.0, steps, warmup)`. The
    estimate never falls, so with a constant `lr` nothing corrects one that is too large. To tune
    the method, set `distance_coef` between 0.5 and 2. If the warmup is long, set
    `safeguard_warmup`. With a cosine, `prodigy` ended at 1.18 times the loss of a swept rate in the
    median of six small tasks, and at 15 times on one of them; with a peak of 0.1, at 1.03 and 2.8
    times (`python -m tests.benchmarks.controllers`).

    While all gradients have been 0, or if the rate is 0, an update changes neither the parameters,
    nor the distance, nor the step count of the bias correction. The schedule goes on. `lrax.get_lr`
    reads the distance times the schedule, without the bias correction, and `lrax.set_lr` holds it.
    An update whose gradient is not finite is skipped: state and parameters stay. The state is in
    float32 or wider. Under `optax.partition` each group has its own distance.

    Args:
      lr: Factor of the distance, at least 0: a number, a `Schedule` or any function of the count.
      b1: Decay of the average of gradients, at least 0 and below 1.
      b2: Decay of the average of squared gradients, at least 0 and below 1.
      beta3: Decay of the sums of the estimate, at least 0 and below 1; None for the root of `b2`.
      init_distance: The first estimate, above 0. It should be below the true distance.
      distance_coef: Factor of the estimate, above 0.
      growth_rate: By which factor the distance may grow per update, at least 1, or infinite. 1.02
        acts as a warmup.
      weight_decay: Decoupled weight decay, at least 0. The rate multiplies it.
      bias_correction: Whether the step has Adam's bias correction, as in Optax. The authors' code
        has it off.
      safeguard_warmup: Whether the weights in the denominator of the estimate are without `lr`, for
        a long warmup.
      eps: Adam's epsilon, above 0. It is multiplied by the distance.

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose `update` needs the parameters.

    Raises:
      ValueError: if a concrete number is out of its range, NaN or an array, or `update` gets no
        parameters.
      TypeError: if an argument is not of its type.

    Example:
      >>> optimizer = lrax.lr_free.prodigy(lrax.warmup_cosine(peak=1.0, steps=300, warmup=10))
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
      Mishchenko, Defazio. Prodigy: An Expeditiously Adaptive Parameter-Free Learner. 2023,
      arXiv:2306.06101; the authors' package `prodigyopt`.
    """
    numbers = _require.scalars(
        b1=b1,
        b2=b2,
        init_distance=init_distance,
        distance_coef=distance_coef,
        growth_rate=growth_rate,
        weight_decay=weight_decay,
        eps=eps,
    )
    _require.below_one(numbers, "b1", "b2")
    slow = numbers["b2"] ** 0.5 if beta3 is None else _require.scalars(beta3=beta3)["beta3"]
    _require.below_one({"beta3": slow}, "beta3")
    _require.positive(numbers, "init_distance", "distance_coef", "eps")
    _require.nonnegative(numbers, "weight_decay")
    _require.not_below(numbers, 1, "growth_rate")
    _require.flag("bias_correction", bias_correction)
    _require.flag("safeguard_warmup", safeguard_warmup)
    schedule = rate_of(lr)
    b1, b2, first = numbers["b1"], numbers["b2"], numbers["init_distance"]

    def init(params: Params) -> ProdigyState:
        return ProdigyState(
            count=jnp.zeros([], jnp.int32),
            learning_rate=scalar(first * schedule(jnp.zeros([], jnp.int32))),
            held=jnp.zeros([], jnp.bool_),
            steps=jnp.zeros([], jnp.int32),
            distance=scalar(first),
            largest=scalar(first),
            numerator=scalar(0.0),
            exp_avg=zeros(params),
            exp_avg_sq=zeros(params),
            grad_sum=zeros(params),
            init_params=copied(params),
        )

    def update(
        grads: optax.Updates, state: ProdigyState, params: Params, value: None
    ) -> tuple[optax.Updates, ProdigyState]:
        del value
        distance = state.distance
        rate = in_use(state, distance * schedule(state.count))
        step = rate * adam_correction(b1, b2, state.steps) if bias_correction else rate
        # The weights are relative to the first estimate, because the products of small distances
        # would be too small for float32.
        weight = distance / first
        # At a rate of 0 the authors' code keeps the whole state. A rate that is NaN is used, so
        # that a bad schedule shows.
        active = rate != 0

        def averaged(decay: Any, factor: Any, average: Params, terms: Params) -> Params:
            return jax.tree.map(
                lambda old, term: jnp.where(active, decay * old + factor * term, old),
                average,
                terms,
            )

        product = inner(grads, difference(state.init_params, params))
        numerator = slow * state.numerator + weight * step * product
        grads = jax.tree.map(wide, grads)
        squares = jax.tree.map(lambda grad: (distance * grad) ** 2, grads)
        exp_avg = averaged(b1, (1 - b1) * distance, state.exp_avg, grads)
        exp_avg_sq = averaged(b2, 1 - b2, state.exp_avg_sq, squares)
        factor = weight * (distance if safeguard_warmup else step)
        grad_sum = averaged(slow, factor, state.grad_sum, grads)

        denominator = absolute_sum(grad_sum)
        # Before the first gradient that is not 0, the estimate is 0/0.
        moving = active & (denominator != 0)
        estimate = numbers["distance_coef"] * numerator / jnp.where(moving, denominator, 1)
        largest = jnp.maximum(state.largest, estimate)
        # `growth_rate` does not limit the first estimate that is larger than `init_distance`.
        grown = jnp.where(distance == first, jnp.maximum(distance, estimate), distance)
        grown = jnp.minimum(largest, grown * numbers["growth_rate"])

        # The step uses the old distance, and epsilon the new one. For `b1=0` alone, the authors'
        # code multiplies the gradient by the new distance; the paper uses the old one for any `b1`.
        updates = jax.tree.map(
            lambda average, square, param: jnp.where(
                moving,
                -numbers["weight_decay"] * step * wide(param)
                - step * average / (jnp.sqrt(square) + grown * numbers["eps"]),
                0,
            ),
            exp_avg,
            exp_avg_sq,
            params,
        )
        return updates, ProdigyState(
            count=jnp.asarray(optax.safe_increment(state.count)),
            learning_rate=rate,
            held=state.held,
            steps=jnp.where(moving, optax.safe_increment(state.steps), state.steps),
            distance=jnp.where(moving, grown, distance),
            largest=jnp.where(moving, largest, state.largest),
            numerator=jnp.where(moving, numerator, state.numerator),
            exp_avg=exp_avg,
            exp_avg_sq=exp_avg_sq,
            grad_sum=grad_sum,
            init_params=state.init_params,
        )

    return method("prodigy", init, update)
