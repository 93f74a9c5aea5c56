"""`skip_spikes`: skips an update whose loss or gradient norm is far above those before it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .measurements import measured
from .norms import square
from .spikes import History, is_spike, no_history, require_optimizer, with_value

Argument = Any  # an extra argument of `update`


class SkipSpikesState(NamedTuple):
    """State of `skip_spikes`."""

    losses: History
    norms: History  # of the gradients
    skips: jax.Array  # shape (), int32: how many updates were skipped
    inner_state: optax.OptState


def skip_spikes(
    optimizer: optax.GradientTransformation,
    *,
    window: int = 128,
    sigmas: ArrayLike = 6.0,
    counting: Literal["olmo", "levanter"] = "olmo",
) -> optax.GradientTransformationExtraArgs:
    r"""Wraps an optimizer, and skips an update whose loss or gradient norm is a spike.

    $$\text{spike} = v > \text{mean} + \text{sigmas} \cdot \text{deviation}, \qquad
      v \in \{\text{loss}, \|g\|\}$$

    Mean and standard deviation are those of $v$ in the last `window` updates. In an update that is
    skipped, the updates are 0, and the state of `optimizer` stays as it is. A loss or a gradient
    that is not finite is always a spike, and is left out of the mean. A finite spike enters the
    mean, so a lasting change of the loss is accepted in the end. But two or three spikes in a
    window also hide a later one that is smaller. To limit the harm of that one, put
    `lrax.controllers.clip_spikes` into `optimizer`, as its first link.

    Use it for long runs in which single batches harm the model. The defaults are those of OLMo-core
    and Levanter: about one update in thousands is skipped. A skipped update does not advance a
    schedule inside `optimizer`. To advance it, put `lrax.scale_by_lr` outside.

    Args:
      optimizer: The transformation, such as `optax.scale_by_adam()`.
      window: Number of updates whose mean and deviation are taken, at least 2.
      sigmas: By how many standard deviations a spike is above the mean, at least 0.
      counting: "olmo" divides the sum of squares by one less than the number of values, "levanter"
        by their number. "olmo" tests for spikes from the update that fills half of the window,
        "levanter" from the one after it.

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose `update` needs the loss as `value`. `skips`
      in its state counts the skipped updates. `sigmas` may be traced, so a sweep can vary it.

    Raises:
      ValueError: if a number is out of its range or not a scalar, or `counting` is unknown.
      TypeError: if an argument is not of its type, or `update` was not given `value`.

    Example:
      >>> adam = lrax.controllers.skip_spikes(optax.scale_by_adam(), window=4)
      >>> optimizer = optax.chain(adam, lrax.scale_by_lr(0.1))
      >>> params = jnp.ones(2)
      >>> state = optimizer.init(params)
      >>> for loss in (3.0, 2.9, 2.8, 90.0, 2.7):
      ...     updates, state = optimizer.update(jnp.ones(2), state, params, value=loss)
      ...     print(state[0].skips, updates)
      0 [-0.1 -0.1]
      0 [-0.1 -0.1]
      0 [-0.1 -0.1]
      1 [-0. -0.]
      1 [-0.1 -0.1]

    Reference:
      `SkipStepOptimizer` of OLMo-core and `SkipStepConfig` of Levanter.
    """
    inner = require_optimizer(optimizer)
    window = _require.count("window", window, 2)
    numbers = _require.scalars(sigmas=sigmas)
    _require.nonnegative(numbers, "sigmas")
    _require.choice("counting", counting, ("olmo", "levanter"))

    def init(params: optax.Params) -> SkipSpikesState:
        empty = no_history(window)
        # Each history has its own buffers: a buffer that appears twice cannot be donated.
        return SkipSpikesState(
            losses=empty,
            norms=jax.tree.map(jnp.copy, empty),
            skips=jnp.zeros([], jnp.int32),
            inner_state=inner.init(params),
        )

    def update(
        updates: optax.Updates,
        state: SkipSpikesState,
        params: optax.Params | None = None,
        **extra_args: Argument,
    ) -> tuple[optax.Updates, SkipSpikesState]:
        loss = measured("value", extra_args, "skip_spikes")
        norm = jnp.sqrt(square(updates))
        skip = is_spike(state.losses, loss, numbers["sigmas"], counting=counting)
        skip = skip | is_spike(state.norms, norm, numbers["sigmas"], counting=counting)
        new, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        # Selected, not multiplied: 0 times NaN is NaN.
        return jax.tree.map(lambda leaf: jnp.where(skip, 0, leaf), new), SkipSpikesState(
            losses=with_value(state.losses, loss),
            norms=with_value(state.norms, norm),
            skips=state.skips + skip,
            inner_state=jax.tree.map(
                lambda old, then: jnp.where(skip, old, then), state.inner_state, inner_state
            ),
        )

    # Optax declares the state of an `update` as any pytree, and this function takes only its own.
    return optax.GradientTransformationExtraArgs(
        init,
        update,  # pyright: ignore[reportArgumentType]
    )
