"""`dog`: gradient descent with a step size of distance over gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jax.tree_util import keystr
from jax.typing import ArrayLike

from .. import _require
from ..controllers.norms import square
from ..rate.rule import RateRule
from ..rate.scale import scale_by_lr
from .numbers import Numbers, Rate, rate_of
from .sound import method
from .sums import copied, difference, scalar, wide

Params = Any
State = Any


class DogState(NamedTuple):
    """State of the rule of `dog`: two float32 scalars, and a copy of the first parameters."""

    distance: jax.Array  # the largest distance from the first parameters so far
    squares: jax.Array  # the sum of the squared norms of all gradients so far
    init_params: Params


# DoG decides only the rate, so it is written as a rule. `optax.contrib.dog` has the same formula,
# but keeps the sum of squares in the parameters' dtype, and has no rate in its state. The layerwise
# `optax.scale_by_distance_over_gradients` has the sign of ascent. This rule may go when Optax
# corrects all three.
def dog(
    lr: Rate = 1.0,
    *,
    reps_rel: ArrayLike = 1e-6,
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike = 0.0,
    init_rate: ArrayLike | None = None,
    layerwise: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Gradient descent with DoG's rate: the distance walked, divided by the size of all gradients.

    $$\eta_t = \text{lr}_t \, \frac{\max_{i \le t} \lVert x_i - x_0 \rVert}
      {\sqrt{\sum_{i \le t} \lVert g_i \rVert^2 + \text{eps}}}, \qquad
      x \leftarrow x - \eta_t g_t$$

    $x_0$ are the first parameters, $x_t$ those of update $t$, and $g_t$ is the gradient. Use it in
    place of gradient descent without momentum if no rate is known, especially for fine-tuning.
    Evaluate an average of the parameters, `polynomial_average`: the last parameters are noisy,
    because the rate does not decay. In the median of six small tasks the average ended at 1.12
    times the loss of a swept rate, and the last parameters at 1.15 times; at worst, at 1.4 and 1.5
    times (`python -m tests.benchmarks.controllers`). `layerwise` gives each array of parameters its
    own rate (L-DoG), which suits transformers better.

    `lrax.get_lr` reads the rate, and `lrax.set_lr` holds it. With `layerwise` and several arrays,
    `lrax.get_lr` returns a dict with the paths of the arrays as keys, such as `"['w']"`. An update
    whose gradient is not finite is skipped: state and parameters stay. Scalars are float32. Under
    `optax.partition` each group has its own distance.

    Args:
      lr: Factor of the rate, at least 0: a number, a `Schedule` or any function of the count. 1 is
        recommended: 0.1 hardly moved, and 10 diverged (`python -m tests.benchmarks.controllers`).
      reps_rel: The first distance, relative to 1 + the norm of the parameters, above 0. Use 1e-4
        with batch norm. This is the argument to tune. In the same benchmark the loss with 1e-5
        ended as low as with 1e-6, and higher with 1e-7.
      eps: A number added to the sum of squares, at least 0.
      weight_decay: Weight decay, at least 0, added to the gradient.
      init_rate: The rate until the parameters have moved, above 0, in place of `reps_rel`. `lr`
        does not multiply it, but where `lr` is 0, the rate is 0.
      layerwise: Whether each array of parameters has a distance and a rate of its own.

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose `update` needs the parameters.

    Raises:
      ValueError: if a concrete number is out of its range, infinite, NaN or an array, or `update`
        gets no parameters.
      TypeError: if an argument is not of its type.

    Example:
      >>> optimizer = lrax.lr_free.dog(reps_rel=1e-2)
      >>> params = jnp.array([3.0, -4.0])
      >>> state = optimizer.init(params)
      >>> @jax.jit
      ... def step(params, state):
      ...     updates, state = optimizer.update(2 * params, state, params)
      ...     return optax.apply_updates(params, updates), state
      >>> for _ in range(100):
      ...     params, state = step(params, state)
      >>> print(bool(jnp.all(abs(params) < 0.01)))
      True

    Reference:
      Ivgi, Hinder, Carmon. DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule.
      2023, arXiv:2302.12022; the authors' package `dog-optimizer`.
    """
    numbers = _require.scalars(reps_rel=reps_rel, eps=eps, weight_decay=weight_decay)
    _require.positive(numbers, "reps_rel")
    _require.nonnegative(numbers, "eps", "weight_decay")
    if init_rate is not None:
        numbers |= _require.scalars(init_rate=init_rate)
        _require.positive(numbers, "init_rate")
    _require.flag("layerwise", layerwise)
    one = scale_by_lr(_rule(lr, numbers))
    scale = _by_leaf(one) if layerwise else one

    def update(
        grads: optax.Updates, state: State, params: Params, value: None
    ) -> tuple[optax.Updates, State]:
        del value
        decay = numbers["weight_decay"]
        grads = jax.tree.map(lambda grad, param: wide(grad) + decay * wide(param), grads, params)
        return scale.update(grads, state, params)

    return method("dog", scale.init, update)


def _rule(lr: Rate, numbers: Numbers) -> RateRule:
    schedule = rate_of(lr)
    init_rate = numbers.get("init_rate")

    def init(params: Params) -> DogState:
        norm = jnp.sqrt(square(params))
        first = numbers["reps_rel"] * (1 + norm) if init_rate is None else 0.0
        return DogState(scalar(first), scalar(0.0), copied(params))

    def rate(
        count: jax.Array, state: DogState, *, updates: Params, params: Params, **extra: Any
    ) -> tuple[jax.Array, DogState]:
        del extra
        walked = jnp.sqrt(square(difference(params, state.init_params)))
        distance = jnp.maximum(state.distance, walked)
        squares = state.squares + square(updates)
        total = squares + numbers["eps"]
        ratio = distance / jnp.sqrt(jnp.where(total > 0, total, 1))
        factor = schedule(count)
        chosen = factor * ratio
        if init_rate is not None:
            # The authors' code uses `init_rate` in the first update only. If its gradient is 0, the
            # distance then stays 0 for ever.
            chosen = jnp.where(distance == 0, begin(factor), chosen)
        return chosen, state._replace(distance=distance, squares=squares)

    def begin(factor: jax.Array) -> jax.Array:
        return jnp.where(factor == 0, 0, wide(init_rate))

    def first(state: DogState) -> jax.Array:
        del state
        return begin(schedule(jnp.zeros([], jnp.int32)))

    return RateRule(init, rate, first=None if init_rate is None else first)


def _by_leaf(optimizer: optax.GradientTransformationExtraArgs) -> optax.GradientTransformation:
    """The optimizer applied to each array alone, with a dict of states by the arrays' paths."""

    def leaves(tree: Params) -> dict[str, Any]:
        flat = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {keystr(path): leaf for path, leaf in flat}

    def init(params: Params) -> State:
        return {path: optimizer.init(leaf) for path, leaf in leaves(params).items()}

    def update(
        updates: optax.Updates, state: State, params: Params | None = None
    ) -> tuple[optax.Updates, State]:
        arrays = leaves(params)
        done = {
            path: optimizer.update(grad, state[path], arrays[path])
            for path, grad in leaves(updates).items()
        }
        scaled = jax.tree.structure(updates).unflatten([update for update, _ in done.values()])
        return scaled, {path: state for path, (_, state) in done.items()}

    return optax.GradientTransformation(init, update)
