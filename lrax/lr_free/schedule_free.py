"""The common part of the schedule-free methods, and `schedule_free_eval_params`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from .numbers import Numbers, in_use
from .sound import method
from .sums import copied, scalar, wide

Params = Any
Moments = Any
# Function `(grads, moments, params, number) -> (direction of the step, next moments)`. The
# direction is in float32 or wider. `number` is that of the update, a float that starts at 1.
Direction = Callable[..., tuple[Params, Moments]]


class ScheduleFreeState(NamedTuple):
    """State of `schedule_free_sgd` and `schedule_free_adamw`. Its scalars have the shape ()."""

    # int32: the updates made
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    learning_rate: jax.Array  # float32: the rate of the last update, warmup included
    held: jax.Array  # bool: whether a rate from `lrax.set_lr` replaces it
    b1: jax.Array  # float32: the weight of x in y, where the gradient is taken
    largest: jax.Array  # float32: the largest rate so far
    weights: jax.Array  # float32: the sum of the weights of the average
    z: Params  # the iterates of SGD or AdamW, in float32 or wider
    # The average in float32 for parameters that are narrower, else a `MaskedNode`: see `_kept`.
    x: Params
    moments: Moments  # of Adam, else ()


def schedule_free_eval_params(state: optax.OptState, params: optax.Params) -> optax.Params:
    r"""The averaged parameters of a schedule-free method, which are to be evaluated and saved.

    $$x = \frac{y - (1 - \text{b1}) z}{\text{b1}}$$

    $y$ are the parameters in training, where gradients are taken, and $z$ are the iterates of SGD
    or AdamW, which the state holds. Training goes on from $y$, not from the result $x$. If $y$ is
    narrower than float32, the state holds $x$ itself, and this function only rounds it.

    Args:
      state: The state of `schedule_free_sgd` or `schedule_free_adamw`, or of any optimizer that
        holds one, such as `optax.chain`. Under `optax.partition`, the parameters of groups with
        another method are returned unchanged. For a state with lanes, use `jax.vmap`.
      params: The parameters after the last update, or the first ones.

    Returns:
      The averaged parameters, in the dtypes of `params`.

    Raises:
      ValueError: if `state` holds no state of a schedule-free method, or `params` do not have the
        structure and shapes of the parameters that the state belongs to.

    Example:
      >>> optimizer = lrax.lr_free.schedule_free_sgd(lr=0.3)
      >>> params = jnp.array([3.0, -4.0])
      >>> state = optimizer.init(params)
      >>> @jax.jit
      ... def step(params, state):
      ...     updates, state = optimizer.update(2 * params, state, params)
      ...     return optax.apply_updates(params, updates), state
      >>> for _ in range(100):
      ...     params, state = step(params, state)
      >>> print(bool(jnp.all(abs(lrax.lr_free.schedule_free_eval_params(state, params)) < 0.1)))
      True

    Reference:
      Defazio et al. The Road Less Scheduled. 2024, arXiv:2405.15682.
    """
    nodes = jax.tree.leaves(state, is_leaf=_is_state)
    states = [node for node in nodes if _is_state(node)]
    if not states:
        raise ValueError(
            "`state` must hold the state of `lrax.lr_free.schedule_free_sgd` or"
            f" `schedule_free_adamw`, got {type(state).__name__}"
        )
    for one in states:
        params = _average(one, params)
    return params


def _is_state(node: Any) -> bool:
    return isinstance(node, ScheduleFreeState)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _average(state: ScheduleFreeState, params: Params) -> Params:
    def average(z: Any, x: Any, y: Any) -> Any:
        if _is_masked(z):  # parameters of another group
            return y
        if not jnp.issubdtype(jnp.result_type(y), jnp.floating) or np.shape(y) != z.shape:
            raise ValueError(f"got {y!r} for an array of the shape {z.shape}")
        if _is_masked(x):
            x = (wide(y) - (1 - state.b1) * z) / state.b1
        return x.astype(jnp.result_type(y))

    try:
        return jax.tree.map(average, state.z, state.x, params, is_leaf=_is_masked)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`params` must be like the parameters that `state` belongs to: {error}"
        ) from error


def _kept(param: Any) -> Any:
    # In bfloat16, y stops once its updates are smaller than its rounding, while z goes on. The
    # average computed from both then moves away from the minimum with every update.
    narrow = jnp.result_type(param).itemsize < 4
    return copied(param) if narrow else optax.MaskedNode()


def schedule_free(
    name: str,
    schedule: Callable[[jax.Array], jax.Array],
    numbers: Numbers,
    init_moments: Callable[[Params], Moments],
    direction: Direction,
) -> optax.GradientTransformationExtraArgs:
    """The schedule-free method whose steps follow `direction`."""
    b1 = numbers["b1"]

    def rate_at(count: jax.Array) -> jax.Array:
        warmup = numbers["warmup"]
        done = (wide(count) + 1) / jnp.where(warmup > 0, warmup, 1)
        return schedule(count) * jnp.where(warmup > 0, jnp.minimum(done, 1), 1)

    def init(params: Params) -> ScheduleFreeState:
        count = jnp.zeros([], jnp.int32)
        return ScheduleFreeState(
            count=count,
            learning_rate=scalar(rate_at(count)),
            held=jnp.zeros([], jnp.bool_),
            b1=scalar(b1),
            largest=scalar(0.0),
            weights=scalar(0.0),
            z=copied(params),
            x=jax.tree.map(_kept, params),
            moments=init_moments(params),
        )

    def update(
        grads: optax.Updates, state: ScheduleFreeState, params: Params, value: None
    ) -> tuple[optax.Updates, ScheduleFreeState]:
        del value
        number = wide(state.count) + 1
        along, moments = direction(grads, state.moments, params, number)
        rate = in_use(state, rate_at(state.count))
        largest = jnp.maximum(state.largest, rate)
        weight = number ** numbers["r"] * largest ** numbers["weight_lr_power"]
        weights = state.weights + weight
        part = jnp.where(weights > 0, weight / jnp.where(weights > 0, weights, 1), 0)
        z = jax.tree.map(lambda z, along: z - rate * along, state.z, along)

        def average(x: Any, z: Any) -> Any:
            return x if _is_masked(x) else (1 - part) * x + part * z

        def move(x: Any, before: Any, z: Any, y: Any, along: Any) -> Any:
            if _is_masked(y):  # parameters of another group
                return y
            if _is_masked(x):
                # The change of y = (1 - b1) z + b1 x, written without x, which is not stored.
                return part * (before - wide(y)) + rate * (b1 * (1 - part) - 1) * along
            return b1 * x + (1 - b1) * z - wide(y)

        x = jax.tree.map(average, state.x, z, is_leaf=_is_masked)
        updates = jax.tree.map(move, x, state.z, z, params, along, is_leaf=_is_masked)
        return updates, ScheduleFreeState(
            count=jnp.asarray(optax.safe_increment(state.count)),
            learning_rate=rate,
            held=state.held,
            b1=state.b1,
            largest=largest,
            weights=weights,
            z=z,
            x=x,
            moments=moments,
        )

    return method(name, init, update)
