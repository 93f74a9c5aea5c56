"""An optimizer whose rate is a ramp, and which makes no more updates after a divergence."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from ..rate.multipliers import Multipliers, scale_by_multipliers
from ..schedules.schedule import Schedule
from ..training.optimizer import Optimizer
from ..training.run import Step

FACTOR = 4.0  # an average above this multiple of its lowest value has diverged, as in fastai
BETA = 0.98  # of the average of the losses, as in fastai

Params = Any


class RampedState(NamedTuple):
    """The state of a ramped optimizer.

    Attributes:
      inner: The state of the optimizer itself.
      done: The number of updates, those of a frozen lane included.
      average: The average of the losses, not debiased.
      start: The first loss.
      lowest: The lowest debiased average.
      frozen: Whether the loss has diverged.
    """

    inner: optax.OptState
    done: jax.Array
    average: jax.Array
    start: jax.Array
    lowest: jax.Array
    frozen: jax.Array


def frozen(step: Step) -> jax.Array:
    """A monitor: whether the loss has diverged at this update or before."""
    state = step.opt_state
    assert isinstance(state, RampedState)
    return state.frozen


def ramped(
    optimizer: Optimizer, multipliers: Multipliers | None
) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """The optimizer as a function of `ramp`, for a sweep.

    A lane is frozen when its loss is not finite, or when the debiased average of its losses is
    above `FACTOR` times its lowest value and above the first loss. Its parameters and its
    optimizer's state then stay as they are. If the lowest average is not above zero, a multiple of
    it says nothing, and the lane is frozen only if its loss is not finite.

    Args:
      optimizer: A function of a rate, or of a schedule, that returns an optimizer.
      multipliers: Factors on the updates, or None.
    """
    # A partial of a function at the top level, so that the next range test with the same optimizer
    # finds its compiled programs.
    return functools.partial(_ramped, optimizer, multipliers)


def _ramped(
    optimizer: Optimizer, multipliers: Multipliers | None, ramp: Schedule
) -> optax.GradientTransformationExtraArgs:
    def build(count: jax.Array, params: Params) -> optax.GradientTransformationExtraArgs:
        found = _by_schedule(optimizer, ramp, params)
        if found is None:
            found = optimizer(ramp(count))
        found = optax.with_extra_args_support(found)
        if multipliers is None:
            return found
        return optax.chain(found, scale_by_multipliers(multipliers))

    def init(params: Params) -> RampedState:
        zero, number = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
        inner = build(zero, params).init(params)
        return RampedState(inner, zero, number, number, number + jnp.inf, zero > 0)

    def update(
        updates: Params, state: Any, params: Params = None, **extra: Any
    ) -> tuple[Params, RampedState]:
        value = extra["value"]
        loss = value.astype(jnp.float32)
        average = BETA * state.average + (1 - BETA) * loss
        smoothed = average / (1 - BETA ** (state.done + 1).astype(jnp.float32))
        start = jnp.where(state.done == 0, loss, state.start)
        lowest = jnp.minimum(state.lowest, smoothed)
        blown_up = (lowest > 0) & (smoothed > FACTOR * lowest) & (smoothed > start)
        is_frozen = state.frozen | blown_up | ~jnp.isfinite(loss)
        whole = build(state.done, params)
        updates, inner = whole.update(updates, state.inner, params, **extra)
        keep = lambda old, new: jnp.where(is_frozen, old, new)
        updates = jax.tree.map(lambda leaf: keep(jnp.zeros_like(leaf), leaf), updates)
        inner = jax.tree.map(keep, state.inner, inner)
        return updates, RampedState(inner, state.done + 1, average, start, lowest, is_frozen)

    return optax.GradientTransformationExtraArgs(init, update)


def _by_schedule(
    optimizer: Optimizer, ramp: Schedule, params: Params
) -> optax.GradientTransformation | None:
    """The optimizer with the schedule as its rate; None if its function takes a number only.

    The schedule is tried before a number is. `optax.inject_hyperparams` stores a number in its
    state, and would train with the first rate throughout.
    """
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)

    def first(params: Params) -> Params:
        whole = optax.with_extra_args_support(optimizer(ramp))
        value = jnp.zeros(())
        updates, _ = whole.update(
            params,
            whole.init(params),
            params,
            value=value,
            grad=params,
            value_fn=lambda _: value,
            grad_fn=lambda _: params,
        )
        return updates

    try:
        updates = jax.eval_shape(first, like)
    except Exception:  # whatever an optimizer does with a schedule that it does not expect
        return None
    # `optax.scale(-ramp)` raises no error, but returns schedules in place of updates.
    same = jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, like)
    return optimizer(ramp) if same else None
