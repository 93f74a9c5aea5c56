"""`polyak`: the rate that would reach the lowest loss if the loss were linear."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule
from .calls import call_text
from .measurements import measured
from .norms import square

Params = Any
Argument = Any  # an extra argument of `update`: an array, or a dict of them


class PolyakState(NamedTuple):
    """State of `polyak`."""

    last: jax.Array  # float32 []: the last rate above 0, infinite before the first


def polyak(
    max_rate: ArrayLike = np.inf,
    *,
    c: ArrayLike = 1.0,
    f_min: ArrayLike = 0.0,
    eps: ArrayLike = 0.0,
    growth: ArrayLike | None = None,
) -> RateRule:
    r"""Polyak's step size for stochastic gradients: the loss divided by the squared gradient.

    $$\eta_t = \min\left(\frac{\max(f_t - f_{\min}, 0)}{c \, \lVert g_t \rVert^2 + \text{eps}}, \;
      \text{growth} \cdot \eta_{t-1}, \; \text{max\_rate}\right)$$

    $f_t$ is the loss of the update's batch, given to `update` as `value`, and $g_t$ are the updates
    that the rule is given; under `optax.masked` and `optax.partition`, those of the group. Use it
    with plain gradients, as `lrax.scale_by_lr(lrax.controllers.polyak())`, if the model can fit
    every batch, so that each batch's lowest loss is near `f_min`. Otherwise the rate does not fall
    to zero, and `max_rate` must be set. Without `max_rate`, the rule ended at 1.3 times the loss of
    a swept rate in the median of six small tasks, and at 3.8 times at worst; multiplied with a
    cosine, at 1.13 and 2.7 times. As ALI-G, it ended at 1.06 and 1.11 times with the swept rate as
    `max_rate`, and at 1.2 and 1.8 times with ten times that rate
    (`python -m tests.benchmarks.controllers`).

    These arguments give the published forms. SPS is `c=0.5`, the default of its authors, and
    SPS_max adds `max_rate`. The authors smooth with `growth=2 ** (batch_size / dataset_size)`, and
    count 1 as the rate before the first update. ALI-G is `c=1` with its rate as `max_rate` and
    `eps=1e-5`.

    The rate is 0 if the loss is at or below `f_min`, if the gradient and `eps` are both 0, or if
    the loss or the gradient is not finite. `growth` ignores such an update: a limit of 0 would keep
    the rate at 0 for ever.

    Args:
      max_rate: Highest rate, at least 0; infinite for none.
      c: Factor of the squared norm, above 0. A smaller one gives larger steps.
      f_min: Lower bound of a batch's loss, finite.
      eps: Added to the denominator, at least 0, in the unit of the squared norm.
      growth: Largest ratio of a rate to the last rate that was not 0; above 0, None for no limit.
        The first rate has no limit.

    Returns:
      A `RateRule` whose rate is absolute; a product with a schedule scales it. Before the first
      update the rate is NaN. Every number may be traced, so a sweep can vary it.

    Raises:
      ValueError: if a concrete number is out of its range, NaN or an array.
      TypeError: if an argument is not a real number, or `update` was not given `value`.

    Example:
      >>> optimizer = lrax.scale_by_lr(lrax.controllers.polyak(max_rate=1.0))
      >>> params = jnp.array([3.0, 4.0])
      >>> state = optimizer.init(params)
      >>> for _ in range(3):
      ...     value, grads = jax.value_and_grad(lambda params: jnp.sum(params**2))(params)
      ...     updates, state = optimizer.update(grads, state, params, value=value)
      ...     params = optax.apply_updates(params, updates)
      ...     print(lrax.get_lr(state), params)
      0.25 [1.5 2. ]
      0.25 [0.75 1.  ]
      0.25 [0.375 0.5  ]

    Reference:
      Loizou et al. 2020, "Stochastic Polyak Step-size for SGD", arXiv:2002.10542. Berrada,
      Zisserman and Kumar 2019, "Training Neural Networks for and by Interpolation",
      arXiv:1906.05661 (ALI-G).
    """
    given = {"max_rate": max_rate, "c": c, "f_min": f_min, "eps": eps}
    given |= {} if growth is None else {"growth": growth}
    numbers = _require.scalars(**given)
    _require.not_below(numbers, 0, "max_rate")
    _require.positive(numbers, "c")
    _require.finite(numbers, "f_min")
    _require.nonnegative(numbers, "eps")
    if growth is not None:
        _require.positive(numbers, "growth")

    def init(params: Params) -> PolyakState:
        del params
        return PolyakState(last=jnp.full([], jnp.inf, _require.float_dtype()))

    def rate(
        count: jax.Array, state: PolyakState, /, **arguments: Argument
    ) -> tuple[jax.Array, PolyakState]:
        del count
        gap = jnp.maximum(measured("value", arguments, "polyak") - numbers["f_min"], 0)
        bound = numbers["c"] * square(arguments["updates"]) + numbers["eps"]
        # The loss of a model that has diverged may be infinite, and a bound of 0 would give 0/0.
        usable = jnp.isfinite(gap) & jnp.isfinite(bound) & (bound > 0)
        polyaks = jnp.where(usable, gap / jnp.where(usable, bound, 1), 0)
        if growth is not None:
            polyaks = jnp.minimum(polyaks, numbers["growth"] * state.last)
        chosen = jnp.minimum(polyaks, numbers["max_rate"])
        return chosen, PolyakState(last=jnp.where(chosen > 0, chosen, state.last))

    name = call_text("controllers.polyak", polyak, {**numbers, "growth": numbers.get("growth")})
    return RateRule(init, rate, name=name)
