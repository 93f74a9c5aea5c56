"""`restore_after_spikes`: goes back to parameters from before a spike that lasts."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .measurements import given, measured
from .norms import square
from .spikes import History, is_spike, no_history, require_optimizer, with_value

Tree = Any
Argument = Any  # an extra argument of `update`


class Shadow(NamedTuple):
    """The copy to return to."""

    params: optax.Params
    # Only the leaves of the optimizer's state. A whole state would hold a second learning rate, and
    # `lrax.get_lr` could not tell which one is in use.
    leaves: list[jax.Array]


class RestoreAfterSpikesState(NamedTuple):
    """State of `restore_after_spikes`."""

    losses: History  # losses that were not spikes
    spikes: jax.Array  # shape (), int32: spikes in a row, up to the last update
    age: jax.Array  # shape (), int32: updates since the copy was made
    restored: jax.Array  # shape (), bool: whether the last update was the first of two back
    restores: jax.Array  # shape (), int32: returns so far
    shadow: Shadow
    inner_state: optax.OptState


def restore_after_spikes(
    optimizer: optax.GradientTransformation,
    *,
    every: ArrayLike = 100,
    patience: ArrayLike = 10,
    window: int = 128,
    sigmas: ArrayLike = 6.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Wraps an optimizer, and returns to a copy of good parameters if the loss stays high.

    $$\text{spike} = v > \text{mean} + \text{sigmas} \cdot \text{deviation}, \qquad
      u = \theta_\text{good} - \theta \text{ after } \text{patience} \text{ spikes in a row}$$

    $v$ is the loss, $\theta$ are the parameters and $u$ is the update. A copy of the parameters and
    of the state of `optimizer` is made every `every` updates, but not in an update with a spike.
    Mean and standard deviation are those of the last `window` losses that were not spikes. After
    `patience` spikes in a row, two updates lead back to the copy. Training then goes on with the
    next batches. The batches since the copy are not seen again.

    Use it for long runs that nobody watches, as the second level of safety.
    `lrax.controllers.skip_spikes` skips a bad batch; this wrapper undoes the harm of an update that
    was accepted. It costs a copy of the parameters and of the optimizer's state. The third level, a
    checkpoint on disk, belongs to the training loop. If training recovers by itself within
    `patience` updates, nothing is undone. With Adam it mostly recovers, because Adam's steps are
    bounded.

    An update whose loss, gradient or result is not finite is skipped: no update leads back from
    parameters that are NaN. The first of the two updates back is exact but for the rounding of a
    difference, and the second corrects this error. The count of a schedule in `optimizer` returns
    to that of the copy. A rate that `lrax.set_lr` set after the copy is lost.

    Args:
      optimizer: The whole optimizer, with its rate, such as `optax.adam(1e-3)`.
      every: Updates between two copies, at least 1.
      patience: How many spikes in a row lead to a return, at least 1.
      window: Number of losses whose mean and deviation are taken, at least 2. Before half of them
        are known, only a loss that is not finite is a spike.
      sigmas: By how many standard deviations a spike is above the mean, at least 0.

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose `update` needs `params` and the loss as
      `value`. The field `restores` of its state counts the returns. All numbers but `window` may be
      traced, so a sweep can vary them.

    Raises:
      ValueError: if a number is out of its range or an array.
      TypeError: if an argument is not of its type, or `update` was not given `value` or `params`.

    Example:
      >>> sgd = lrax.scale_by_lr(1.0)
      >>> optimizer = lrax.controllers.restore_after_spikes(sgd, patience=2, window=4)
      >>> params = jnp.array(5.0)
      >>> state = optimizer.init(params)
      >>> for loss in (3.0, 2.9, 2.8, 50.0, 70.0, 2.8, 2.7):
      ...     updates, state = optimizer.update(jnp.array(1.0), state, params, value=loss)
      ...     params = params + updates
      ...     print(params, state.restores)
      4.0 0
      3.0 0
      2.0 0
      1.0 0
      5.0 1
      5.0 1
      4.0 1

    Reference:
      Chowdhery et al., "PaLM: scaling language modeling with pathways", 2022, arXiv:2204.02311,
      section 5.1: restarts from a checkpoint, and skips the batches around the spike.
    """
    inner = require_optimizer(optimizer)
    window = _require.count("window", window, 2)
    numbers = _require.scalars(every=every, patience=patience, sigmas=sigmas)
    _require.at_least(numbers, 1, "every", "patience")
    _require.nonnegative(numbers, "sigmas")

    def init(params: optax.Params) -> RestoreAfterSpikesState:
        inner_state = inner.init(params)
        zero = jnp.zeros([], jnp.int32)
        return RestoreAfterSpikesState(
            losses=no_history(window),
            spikes=zero,
            age=jnp.copy(zero),
            restored=jnp.zeros([], jnp.bool_),
            restores=jnp.copy(zero),
            shadow=jax.tree.map(jnp.array, Shadow(params, jax.tree.leaves(inner_state))),
            inner_state=inner_state,
        )

    def update(
        updates: optax.Updates,
        state: RestoreAfterSpikesState,
        params: optax.Params | None = None,
        **extra_args: Argument,
    ) -> tuple[optax.Updates, RestoreAfterSpikesState]:
        now = given("params", {"params": params}, "restore_after_spikes")
        loss = measured("value", extra_args, "restore_after_spikes")
        spike = is_spike(state.losses, loss, numbers["sigmas"])
        spikes = jnp.where(spike, state.spikes + 1, 0)
        returns = (spikes >= numbers["patience"]) & ~state.restored
        back = returns | state.restored

        new, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        usable = jnp.isfinite(loss) & jnp.isfinite(square(updates)) & jnp.isfinite(square(new))
        old, structure = jax.tree.flatten(state.inner_state)
        due = ((state.age >= numbers["every"]) | (state.losses.seen == 0)) & ~spike & ~back
        shadow = _select(due, Shadow(now, old), state.shadow)
        home = jax.tree.map(jnp.subtract, shadow.params, now)
        step = _select(back, home, _select(usable, new, jax.tree.map(jnp.zeros_like, new)))
        inner_state = _select(usable, inner_state, state.inner_state)

        losses = with_value(state.losses, loss)
        return step, RestoreAfterSpikesState(
            losses=_select(spike | back, state.losses, losses),
            spikes=jnp.where(back, 0, spikes).astype(jnp.int32),
            age=jnp.where(due | back, 1, state.age + 1),
            restored=returns,
            restores=state.restores + returns,
            shadow=shadow,
            inner_state=_select(back, structure.unflatten(shadow.leaves), inner_state),
        )

    # Optax declares the state of an `update` as any pytree, and this function takes only its own.
    return optax.GradientTransformationExtraArgs(
        init,
        update,  # pyright: ignore[reportArgumentType]
    )


def _select(condition: jax.Array, yes: Tree, no: Tree) -> Tree:
    def select(a: jax.Array, b: jax.Array) -> jax.Array:
        chosen = jnp.where(condition, a, b)
        dtype = jnp.result_type(b)
        return chosen if chosen.dtype == dtype else chosen.astype(dtype)  # a PRNG key has no cast

    return jax.tree.map(select, yes, no)
