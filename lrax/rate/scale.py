"""`scale_by_lr`: the transformation that applies the rate of a rule and stores it in its state."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from .. import _require
from ..schedules.schedule import Schedule
from .access import get_lr as get_lr, set_lr as set_lr
from .protocol import decide, described, require_numeric
from .rule import RateRule, as_rule, first_rate, one_rate

RuleState = Any


class ScaleByLrState(NamedTuple):
    """State of `scale_by_lr`.

    The tree is the same for a constant rate, a schedule and a rate set by hand, so a checkpoint
    that was written under one can be resumed under another.
    """

    # shape (), int32: how many updates were made. The field hides `tuple.count`, which is not used.
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    # shape (), float32 (float64 under x64): the rate of the last update, or the one that `set_lr`
    # has set since. Before the first update it is what the rule's `first` returns.
    learning_rate: jax.Array
    # shape (), bool: whether a rate from `set_lr` replaces the rule's
    held: jax.Array
    # the rule's own state, which is empty for a number and a schedule
    rule: RuleState = ()


def scale_by_lr(
    learning_rate: optax.ScalarOrSchedule | Schedule | RateRule, *, flip_sign: bool = True
) -> optax.GradientTransformationExtraArgs:
    r"""Scales updates by minus the learning rate, and keeps the rate in use in its state.

    $$u \leftarrow -\eta_t \, u$$

    Use it as the last link of `optax.chain`, in place of `optax.scale_by_learning_rate`.
    Floating-point updates equal those of Optax to the last bit. In addition, `lrax.get_lr` reads
    the rate from the state and `lrax.set_lr` changes it, under any nesting of wrappers and without
    recompiling. The rate is float32 (float64 under x64). It is cast to the dtype of each update, so
    bfloat16 updates stay bfloat16.

    A rate that `lrax.set_lr` has set replaces the rule's until `lrax.set_lr(state, None)`. The rule
    still sees every update, so its state is up to date when it decides the rate again.

    Args:
      learning_rate: A number, which may be traced, a `Schedule`, any function of the count, or an
        `lrax.RateRule` such as `schedule * lrax.controllers.plateau()`. The rate must be a scalar:
        for several lanes use `jax.vmap`, for several groups of parameters `optax.partition`.
      flip_sign: Whether to multiply by minus the rate, for descent. `False` multiplies by the rate
        itself, for chains in which another transformation flips the sign.

    Returns:
      An `optax.GradientTransformationExtraArgs` with the state `ScaleByLrState(count,
      learning_rate, held, rule)`. Its `update` hands every extra argument to the rule.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or a rate is not a scalar. The
        shape of a number is checked here, the shape of a rule's rate in `init` and `update`.
      TypeError: if `learning_rate` is none of the four, or `flip_sign` is not a bool. `update`
        raises a TypeError if the rule's state changes its structure, a shape or a dtype, if the
        state belongs to another rule, or if an argument that the rule requires is missing.

    Example:
      >>> schedule = lrax.warmup_cosine(peak=0.1, steps=100, warmup=10)
      >>> optimizer = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(schedule))
      >>> params = {"w": jnp.ones(3)}
      >>> state = optimizer.init(params)
      >>> for _ in range(6):
      ...     updates, state = optimizer.update(params, state, params)
      >>> print(lrax.get_lr(state))  # the rate of the update with the index 5
      0.05
    """
    rule = as_rule(learning_rate, "learning_rate")
    _require.flag("flip_sign", flip_sign)

    def init(params: optax.Params) -> ScaleByLrState:
        state = jax.tree.map(_owned, rule.init(params))
        rate = _owned(one_rate(_float(first_rate(rule, state))))
        return ScaleByLrState(jnp.zeros([], jnp.int32), rate, jnp.zeros([], jnp.bool_), state)

    def update(
        updates: optax.Updates,
        state: ScaleByLrState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, ScaleByLrState]:
        arguments = {"updates": updates, "params": params, **extra_args}
        decided, new_rule = decide(rule, state.count, state.rule, arguments)
        # `where` broadcasts, so its shape tells if either rate is not a scalar.
        rate = one_rate(jnp.where(state.held, state.learning_rate, _float(decided)))
        step = -rate if flip_sign else rate
        updates = jax.tree.map(lambda update: step.astype(update.dtype) * update, updates)
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, ScaleByLrState(count, rate, state.held, _stable(state.rule, new_rule))

    # Optax declares the state of an `update` as any pytree, and this function takes only its own.
    return optax.GradientTransformationExtraArgs(
        init,
        update,  # pyright: ignore[reportArgumentType]
    )


def _float(rate: Any) -> jax.Array:
    return jnp.asarray(rate, _require.float_dtype())


def _owned(leaf: Any) -> jax.Array:
    require_numeric("state is a pytree of arrays", leaf)
    # Copied, because the first rate may be an array of the rule's state, and a buffer that appears
    # twice in a state cannot be donated. Giving the dtype removes a weak type, which would cost a
    # second compilation after the first update.
    return jnp.array(leaf, jnp.result_type(leaf), copy=True)


def _stable(old: RuleState, new: RuleState) -> RuleState:
    # A changed structure, shape or dtype would recompile a jitted `update` and break `lax.scan`.
    for leaf in jax.tree.leaves(new):
        require_numeric("state is a pytree of arrays", leaf)
    new = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), new)
    before, after = (jax.tree.map(described, state) for state in (old, new))
    if before != after:
        raise TypeError(
            "`learning_rate` must be a rule whose state keeps its structure, shapes and dtypes,"
            f" got {after} after {before}"
        )
    return new
