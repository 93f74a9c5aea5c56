"""`kl`: keeps the KL divergence of a policy's steps near a target."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule
from .calls import call_text
from .measurements import is_new, measured, require_name

Params = Any
Argument = Any  # an extra argument of `update`: an array, or a dict of them


class KlState(NamedTuple):
    """State of `kl`; every field has the shape ()."""

    scale: jax.Array  # float32: the factor on the schedule
    # int32: the number of the last measurement that the rule has seen, -1 before the first
    measurement: jax.Array


def kl(
    target: ArrayLike,
    *,
    metric: str = "kl",
    kl_factor: ArrayLike = 2.0,
    lr_factor: ArrayLike = 1.5,
    floor: ArrayLike = 0.01,
    ceiling: ArrayLike = 10.0,
    zero: Literal["ignore", "small"] = "ignore",
) -> RateRule:
    r"""Lowers the rate if a policy moves too far in an update, and raises it if too little.

    $$s \leftarrow \begin{cases}
      \max(s / \text{lr\_factor}, \text{floor}) & d > \text{kl\_factor} \cdot \text{target} \\
      \min(s \cdot \text{lr\_factor}, \text{ceiling}) & d < \text{target} / \text{kl\_factor}
    \end{cases}$$

    `d` is the KL divergence between the policy and the one that gathered the data, `s` the scale.
    Use it for PPO and its relatives, whose steps are unsafe if the policy moves far; `target=0.01`
    is usual. The metric given to an update decides the rate of that same update. It can be measured
    in two ways. Either measure the divergence on each minibatch before its update, and give it to
    every update. Or take the mean once per pass over the data, which is less noisy, and mark it by
    `fresh={metric: bool}` or `measurement={metric: number}`, as in `lrax.controllers.plateau`.

    Start from a low rate: it rises within some tens of updates. A rate that is far too high
    saturates the policy in the first update. The divergence is then near 0, and the rate rises
    further.

    Published implementations differ if the divergence is 0 or below. It is 0 in the first minibatch
    after new data, where the policy has not moved yet, and an estimate from samples may be
    negative. RSL-RL ignores such a value; rl_games and skrl raise the rate. The adaptive penalty of
    the PPO paper is another method: it changes the weight of a term of the loss.

    Args:
      target: The KL divergence that an update should have, above 0, in nats.
      metric: Name of the extra argument of `update` to follow.
      kl_factor: By which factor the divergence may differ from the target, at least 1.
      lr_factor: By which factor the scale changes, at least 1.
      floor: Lowest scale that a reduction gives, at least 0, relative to the schedule. It should be
        at most 1, the first scale.
      ceiling: Highest scale that an increase gives, at least `floor`; infinite for none. `floor`
        and `ceiling` are by default RSL-RL's limits, 1e-5 and 1e-2, divided by RSL-RL's rate, 1e-3.
      zero: "ignore" ignores a divergence of 0 or below, as RSL-RL does. "small" treats it as too
        small, and raises the rate, as rl_games and skrl do. A NaN is always ignored.

    Returns:
      A `RateRule` whose rate is a scale that starts at 1. Multiply it with a schedule or a number.
      Every number may be traced, so a sweep can vary it.

    Raises:
      ValueError: if a concrete number is out of its range, infinite, NaN or an array, or `zero` is
        unknown.
      TypeError: if an argument is not of its type, or `update` was not given the metric.

    Example:
      >>> optimizer = lrax.scale_by_lr(1e-3 * lrax.controllers.kl(0.01))
      >>> state = optimizer.init(jnp.ones(2))
      >>> for divergence in (0.0, 0.004, 0.015, 0.05):
      ...     updates, state = optimizer.update(jnp.ones(2), state, kl=divergence)
      ...     print(f"{lrax.get_lr(state):.6f}")
      0.001000
      0.001500
      0.001500
      0.001000

    Reference:
      RSL-RL, `rsl_rl.algorithms.PPO` with `schedule="adaptive"`; rl_games, `AdaptiveScheduler`;
      skrl, `KLAdaptiveLR`.
    """
    numbers = _require.scalars(
        target=target, kl_factor=kl_factor, lr_factor=lr_factor, floor=floor, ceiling=ceiling
    )
    _require.positive(numbers, "target")
    _require.at_least(numbers, 1, "kl_factor", "lr_factor")
    _require.nonnegative(numbers, "floor")
    _require.at_most("`ceiling` must be at least `floor`", numbers["floor"], numbers["ceiling"])
    _require.choice("zero", zero, ("ignore", "small"))
    require_name(metric)

    def init(params: Params) -> KlState:
        del params
        return KlState(jnp.ones([], _require.float_dtype()), jnp.full([], -1, jnp.int32))

    def rate(
        count: jax.Array, state: KlState, /, **arguments: Argument
    ) -> tuple[jax.Array, KlState]:
        del count  # measurements are counted, not updates
        divergence = measured(metric, arguments, "kl")
        new, number = is_new(metric, arguments, divergence, state.measurement)
        # A comparison with NaN is false, so a NaN changes nothing.
        far = new & (divergence > numbers["target"] * numbers["kl_factor"])
        near = new & (divergence < numbers["target"] / numbers["kl_factor"])
        if zero == "ignore":
            near = near & (divergence > 0)
        lower = jnp.maximum(state.scale / numbers["lr_factor"], numbers["floor"])
        higher = jnp.minimum(state.scale * numbers["lr_factor"], numbers["ceiling"])
        scale = jnp.where(far, lower, jnp.where(near, higher, state.scale))
        return scale, KlState(scale, number)

    name = call_text("controllers.kl", kl, {**numbers, "metric": metric, "zero": zero})
    return RateRule(init, rate, first=lambda state: state.scale, name=name)
