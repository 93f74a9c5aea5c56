"""`critical_rate`: the smallest rate along an update that raises the loss."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from .losses import Loss, Params, Tree, added, real_tree, rounded, same_shapes, scalar, widened

# The search ends when the bracket is at most this wide, in octaves. Its middle is then within 10 %
# of either end.
_WIDTH = 2 * math.log2(1.1)
_FARTHEST = 63  # octaves from the guess that are tried at most: a factor of 1e19


class CriticalRate(NamedTuple):
    """What `critical_rate` returns; all fields are scalars."""

    rate: jax.Array  # float32: the smallest rate that raises the loss
    sharpness: jax.Array  # float32: the critical sharpness, 2 / rate
    evaluations: jax.Array  # int32: how many times the loss was computed


def critical_rate(loss: Loss, params: Params, update: Tree, *, guess: ArrayLike) -> CriticalRate:
    r"""The smallest rate along an update that raises the loss, and the critical sharpness.

    $$\text{rate} = \min \{\eta > 0 : L(\theta + \eta u) > L(\theta)\}, \qquad
      \text{sharpness} = 2 / \text{rate}$$

    Use it to see how much room a learning rate has. With `update=step.updates`, the answer is in
    units of the rate in use: if it is below 1, this update raises the loss of its batch. If
    `update` is an optimizer's update at rate 1, the answer is a rate. Before training it was above
    the best rate for the validation loss on 15 small tasks, by 1.8 to 1200 times, but no factor is
    a sure bound (`python -m tests.benchmarks.curvature`). The probe only evaluates the loss, so it
    also works where second derivatives do not, as with fused attention kernels. On a quadratic loss
    and with `update=-grad`, the field `sharpness` equals `directional_sharpness`, which is at most
    the largest eigenvalue of the Hessian.

    From the guess, the rate is raised or lowered by 1, 2, 4, ... octaves until one rate raises the
    loss and another does not. Then this bracket is bisected. The answer is within 10 % of a rate
    where the loss begins to exceed its value at `params`. The search evaluates the loss 5 times if
    the guess is within a factor of 2, 7 times within 8, and 9 times within 128. In a loop, pass the
    last answer as the guess.

    It misleads in these cases. If the loss draws other random numbers, or another batch, in each
    call, differences of losses are noise: bind the key and the batch. If the loss rises and falls
    again between two rates that are tried, as near a kink or beyond a cliff, that rise is missed
    and a later one is found. If the update goes uphill, the rate is as small as the rounding of the
    loss allows, or 0. With parameters in bfloat16, small steps are rounded away, as in training.

    Args:
      loss: Function of the parameters that returns a scalar, or `(scalar, aux)`. A loss that is not
        finite counts as a rise.
      params: The parameters, any pytree of floating-point arrays.
      update: What is *added* to the parameters at rate 1, with the structure and shapes of
        `params`. For gradient descent it is the negative gradient.
      guess: The rate at which the search starts, a positive scalar. A bad guess costs more
        evaluations of the loss. 0 and infinity, which an earlier call may have returned, count as
        1. So does a traced guess that is negative or NaN.

    Returns:
      A `CriticalRate` of `rate`, `sharpness` and `evaluations`. The rate is infinite if the loss
      does not rise up to 1e19 times the guess, 0 if it still rises at 1e-19 times the guess, and
      NaN if the loss at `params` or the update is not finite.

    Raises:
      ValueError: if `update` does not have the structure and shapes of `params`, `guess` is not a
        scalar, or a concrete `guess` is negative or NaN.
      TypeError: if `loss` is not a function or does not return a scalar, or a leaf is not a
        floating-point array.

    Example:
      >>> loss = lambda params: 2.0 * jnp.sum(params**2)
      >>> params = jnp.array([1.0, -1.0])
      >>> found = lrax.probes.critical_rate(loss, params, -jax.grad(loss)(params), guess=0.3)
      >>> bool(abs(found.rate - 0.5) < 0.05), int(found.evaluations)
      (True, 5)

      As a monitor, in units of the rate of each update:

      >>> task = lrax.tasks.diabetes()
      >>> room = lambda step: lrax.probes.critical_rate(
      ...     lambda params: task.loss(params, step.batch), step.params, step.updates, guess=4.0
      ... ).rate
      >>> train = lrax.train(task, optax.sgd, steps=4, monitors={"room": room})
      >>> train(0.01, jax.random.key(0)).monitors["room"].shape
      (4,)

    Reference:
      Kalra and Barkeshli, "Why warmup the learning rate?", arXiv 2406.09405; critical sharpness:
      arXiv 2601.16979.
    """
    value = scalar(loss)
    params = real_tree("params", params)
    direction = widened(same_shapes("update", update, params))
    start = _start(guess)
    origin = widened(params)
    before = value(params)

    def rises(octaves: jax.Array) -> jax.Array:
        after = value(rounded(added(origin, start * jnp.exp2(octaves), direction), params))
        return ~(after <= before)  # true for NaN too

    found = _search(rises, start.dtype)
    finite = jnp.isfinite(before)
    for leaf in jax.tree.leaves(direction):
        finite = finite & jnp.all(jnp.isfinite(leaf))
    middle = start * jnp.exp2((found.low + found.high) / 2)
    rate = jnp.where(found.high == jnp.inf, jnp.inf, jnp.where(found.low == -jnp.inf, 0.0, middle))
    rate = jnp.where(finite, rate, jnp.nan)
    return CriticalRate(rate, 2 / rate, found.tried + 1)  # one more, for the loss at `params`


class _Search(NamedTuple):
    """The state of the search: exponents of 2, relative to the guess."""

    at: jax.Array  # where to look next
    stride: jax.Array  # how much farther to look if there is no bracket yet
    low: jax.Array  # the loss does not rise here; -inf if no such rate is known
    high: jax.Array  # the loss rises here; inf if no such rate is known
    tried: jax.Array  # int32: how many rates have been tried


def _search(rises, dtype: np.dtype) -> _Search:
    """Looks for a bracket with strides that double, then bisects it.

    One loop does both, and evaluates the loss once in each turn. Under `vmap`, some lanes may look
    for a bracket while others bisect, and a turn still evaluates the loss once for each lane.
    """
    number = lambda value: jnp.asarray(value, dtype)

    def going(state: _Search) -> jax.Array:
        bracketed = jnp.isfinite(state.low) & jnp.isfinite(state.high)
        wide = state.high - state.low > _WIDTH
        return jnp.where(bracketed, wide, jnp.abs(state.at) <= _FARTHEST)

    def turn(state: _Search) -> _Search:
        up = rises(state.at)
        low = jnp.where(up, state.low, state.at)
        high = jnp.where(up, state.at, state.high)
        farther = jnp.where(up, state.at - state.stride, state.at + state.stride)
        bracketed = jnp.isfinite(low) & jnp.isfinite(high)
        at = jnp.where(bracketed, (low + high) / 2, farther)
        return _Search(at, 2 * state.stride, low, high, state.tried + 1)

    start = _Search(number(0), number(1), number(-jnp.inf), number(jnp.inf), jnp.int32(0))
    return lax.while_loop(going, turn, start)


def _start(guess: ArrayLike) -> jax.Array:
    """The rate at which the search starts: the guess, or 1 if it is not positive and finite."""
    value = _require.real(guess=guess)["guess"]
    if np.ndim(value):
        raise ValueError(f"`guess` must be a scalar, got one of shape {np.shape(value)}")
    if not isinstance(value, Tracer) and not value >= 0:
        raise ValueError(f"`guess` must be positive, got {guess}")
    if isinstance(value, np.ndarray):  # float64, which may overflow in the dtype of rates
        _require.held("guess", value)
    start = jnp.asarray(value, _require.float_dtype())
    return jnp.where((start > 0) & (start < jnp.inf), start, 1.0)
