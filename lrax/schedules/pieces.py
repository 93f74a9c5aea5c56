"""Schedules given piece by piece: steps, milestones, tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from . import landmarks
from .builders import builder
from .concrete import library
from .counts import alike, divided, real
from .schedule import Schedule
from .shapes import as_shape, between, pick, reached, whole_power


def step_decay(init: ArrayLike, step_size: ArrayLike, factor: ArrayLike = 0.1) -> Schedule:
    r"""Multiplies the rate by `factor` after every `step_size` updates, without a transition.

    $$\eta(t) = \text{init} \cdot \text{factor}^{\lfloor t / \text{step\_size} \rfloor}$$

    Use it to rerun recipes of the first residual networks: a tenth after every 30 of 90 epochs.

    Args:
      init: Rate at the start, at least 0.
      step_size: Updates at each rate, above 0. The first update at the second rate has the index
        `step_size`.
      factor: What the rate is multiplied by, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.step_decay(init=1.0, step_size=2, factor=0.5).values(6)
      Array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25], dtype=float32)

    Reference:
      He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. 2015, arXiv:1512.03385.
    """
    hyperparams = _require.real(init=init, step_size=step_size, factor=factor)
    _require.nonnegative(hyperparams, "init", "factor")
    _require.positive(hyperparams, "step_size")
    return Schedule(_step_decay, hyperparams)


@builder(step_decay, landmarks=landmarks.step_decay)
def _step_decay(count, init, step_size, factor):
    times, _ = divided(jnp.maximum(count, 0), step_size)
    return init * whole_power(factor, times)


def multistep(init: ArrayLike, milestones: ArrayLike, factor: ArrayLike = 0.1) -> Schedule:
    r"""Multiplies the rate by `factor` at each milestone.

    $$\eta(t) = \text{init} \cdot \prod_{i: \; \text{milestones}_i \le t} \text{factor}_i$$

    Use it if the rate changes at unequal intervals. A milestone is the index of the first update at
    the new rate, as in PyTorch and Optax; timm's are one update earlier, Keras' one later. A
    milestone that is listed twice counts twice.

    Args:
      init: Rate at the start, at least 0.
      milestones: Indices of updates, at least 0, in ascending order; shape `[milestones]`.
      factor: What the rate is multiplied by, at least 0: one number, or one per milestone.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or the milestones are not a list in
        ascending order.

    Example:
      >>> lrax.multistep(init=1.0, milestones=[2, 4], factor=0.5).values(6)
      Array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25], dtype=float32)
    """
    hyperparams = _require.real(init=init, milestones=milestones, factor=factor)
    # A list of factors must be as long as the list of milestones.
    _require.vector(
        hyperparams, "milestones", *(["factor"] if np.ndim(hyperparams["factor"]) else [])
    )
    _require.nonnegative(hyperparams, "init", "milestones", "factor")
    _require.ascending(hyperparams, "milestones")
    return Schedule(_multistep, hyperparams)


@builder(multistep, ranks={"milestones": 1, "factor": "milestones"})
def _multistep(count, init, milestones, factor):
    fallen = reached(count, milestones)
    return init * jnp.prod(jnp.where(fallen, jnp.broadcast_to(factor, fallen.shape), 1), axis=-1)


def piecewise_constant(values: ArrayLike, boundaries: ArrayLike) -> Schedule:
    r"""A sequence of constant rates: each begins at its boundary and ends at the next one.

    $$\eta(t) = \text{values}_i, \quad i = \#\{k: \text{boundaries}_k \le t\}$$

    Use it for a schedule tuned by hand. A boundary is the index of the first update at the new
    rate; in Keras it is the index of the last update at the old rate.

    Args:
      values: The rates, at least 0; shape `[pieces]`.
      boundaries: Indices of updates, at least 0, in ascending order; shape `[pieces - 1]`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, the boundaries are not in ascending
        order, or the number of values is not one more than that of the boundaries.

    Example:
      >>> lrax.piecewise_constant(values=[0.3, 0.2, 0.1], boundaries=[2, 4]).values(6)
      Array([0.3, 0.3, 0.2, 0.2, 0.1, 0.1], dtype=float32)
    """
    return Schedule(_piecewise_constant, _values_and_boundaries(values, boundaries))


@builder(piecewise_constant, ranks={"values": 1, "boundaries": 1})
def _piecewise_constant(count, values, boundaries):
    return pick(count, boundaries, values)[0]  # the list has an entry for each row, here one


def piecewise(
    values: ArrayLike, boundaries: ArrayLike, shape: str | Callable[[Any], Any] = "linear"
) -> Schedule:
    r"""A path through given rates: `values[0]` at step 0, `values[i + 1]` at `boundaries[i]`.

    Between two of these points the rate follows a shape.

    $$\eta(t) = \text{values}_i \, s(p) + \text{values}_{i + 1} (1 - s(p)),
    \quad p = \frac{t - b_i}{b_{i + 1} - b_i},
    \quad b = (0, \text{boundaries})$$

    Use it for any polyline, such as the slanted triangles of the reference. After the last boundary
    the rate is held; two equal boundaries make a jump.

    Args:
      values: The rates, at least 0; shape `[points]`.
      boundaries: Indices of updates, at least 0, in ascending order; shape `[points - 1]`.
      shape: Shape of each piece, as under `lrax.ramp`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, the boundaries are not in ascending
        order, or the number of values is not one more than that of the boundaries.

    Example:
      >>> lrax.piecewise(values=[0.0, 0.4, 0.0], boundaries=[2, 6]).values(8)
      Array([0. , 0.2, 0.4, 0.3, 0.2, 0.1, 0. , 0. ], dtype=float32)

    Reference:
      Howard, Ruder. Universal Language Model Fine-tuning for Text Classification. 2018,
      arXiv:1801.06146.
    """
    return Schedule(
        _piecewise,
        {**_values_and_boundaries(values, boundaries), "shape": as_shape("shape", shape)},
    )


@builder(piecewise, ranks={"values": 1, "boundaries": 1})
def _piecewise(count, values, boundaries, shape):
    return along(count, values, boundaries, shape)


def along(count: Any, values: Any, boundaries: Any, shape: Any) -> Any:
    """The value at a count on the path through `values[0]` at 0 and the others at `boundaries`."""
    count, ends = alike(count, boundaries)
    # `ends[:1] * 0` is a 0 of the same type as the boundaries.
    begins = library(ends).concatenate([ends[:1] * 0, ends[:-1]])
    rows = (values[:-1], values[1:], begins, ends, ends - begins)
    start, end, begin, close, steps = pick(count, ends[:-1], *rows)
    # All counts before the start are taken as -1, so that no difference overflows, as in
    # `counts.minus`.
    at = jnp.maximum(count, -1)
    return between(start, end, at - begin, close - at, real(steps), shape)


def from_values(values: ArrayLike) -> Schedule:
    r"""The rates of a table, one per update. After the table its last rate is held.

    $$\eta(t) = \text{values}_{\min(\lfloor t \rfloor, n - 1)}$$

    Use it to replay a recorded run, or for rates that were computed elsewhere.

    Args:
      values: The rates, at least 0; shape `[n]`, `n >= 1`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete rate is negative, infinite or NaN, or `values` is not a list of at
        least one number.

    Example:
      >>> lrax.from_values([0.3, 0.1, 0.2]).values(5)
      Array([0.3, 0.1, 0.2, 0.2, 0.2], dtype=float32)
    """
    hyperparams = _require.real(values=values)
    if _require.vector(hyperparams, "values") < 1:
        raise ValueError("`values` must be at least one number, got none")
    _require.nonnegative(hyperparams, "values")
    return Schedule(_from_values, hyperparams)


@builder(from_values, landmarks=landmarks.from_values, ranks={"values": 1})
def _from_values(count, values):
    # The clipped count is at least 0, so the cast to an integer is the floor.
    return jnp.asarray(values)[jnp.clip(count, 0, len(values) - 1).astype(jnp.int32)]


def _values_and_boundaries(values, boundaries):
    hyperparams = _require.real(values=values, boundaries=boundaries)
    pieces, joins = (
        _require.vector(hyperparams, "values"),
        _require.vector(hyperparams, "boundaries"),
    )
    if not pieces == joins + 1 > 1:
        raise ValueError(
            "`values` must be one more than `boundaries`, which must be one or more, got"
            f" {pieces} and {joins}"
        )
    _require.nonnegative(hyperparams, "values", "boundaries")
    _require.ascending(hyperparams, "boundaries")
    return hyperparams
