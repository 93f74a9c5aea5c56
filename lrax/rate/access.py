"""`get_lr` and `set_lr`: read and write the learning rate in any optimizer state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .nodes import Group, groups, is_computed, is_ours, read, replaced

Label = Any  # a dict key: the label of a group in `optax.partition`


def get_lr(opt_state: optax.OptState) -> jax.Array | dict[Label, jax.Array]:
    """The learning rate that multiplied the last update, read from an optimizer state.

    Before the first update it is the rate that this update will use: the first value of a schedule,
    or NaN for a rule without `first`. After `lrax.set_lr(opt_state, rate)` it is the rate that was
    set. After `lrax.set_lr(opt_state, None)` it stays the old rate until the next update, because
    a state does not hold the schedule, and the rate to come cannot be computed from it.

    The rate is found under any nesting of `chain`, `named_chain`, `masked`, `partition`,
    `MultiSteps`, `apply_if_finite` and the like, in the states of `lrax.scale_by_lr`, of
    `optax.inject_hyperparams` with a `learning_rate`, and of the transformations that keep a
    `learning_rate`, as Optax's line searches and `lrax.lr_free` do. (`optax.adam(1e-3)` alone keeps
    none.) The rate includes the `scale` of every `optax.contrib.reduce_on_plateau` in an enclosing
    chain.

    The rate does not include any other factor on the updates: `optax.scale`,
    `optax.scale_by_schedule` and `lrax.scale_by_multipliers` in the same chain, trust ratios, or a
    `reduce_on_plateau` that `optax.masked` applies to only some of the parameters. Multiply by them
    yourself. Put `reduce_on_plateau` after `scale_by_adam` in a chain. Before it, the scale would
    multiply the gradients, Adam's normalization would cancel it, and the rate read here would be
    too low.

    The state of a `flax.nnx.Optimizer` (`optimizer.opt_state` or `nnx.state(optimizer)`) is read
    too, as are the nested dicts and lists that Orbax restores without a target.

    Args:
      opt_state: An optimizer state. Its leaves may have any shape: a vmapped state gives one rate
        per lane, and the shapes from `jax.eval_shape(optimizer.init, params)` give a
        `jax.ShapeDtypeStruct`. A tuple of states is read as the state of a chain.

    Returns:
      The rate, or `{group: rate}` when the state holds several. The name of a group is the dict key
      on the path to its rate, such as its label in `optax.partition`; it need not be a string.
      Several keys on one path are joined by slashes, as in `"body/head"`. If a path has no dict
      key, or two groups would have the same name, every group is named by its whole path.

    Raises:
      ValueError: if the state holds no learning rate.

    Example:
      >>> body = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(1e-3))
      >>> optimizer = optax.partition(
      ...     {"body": body, "head": lrax.scale_by_lr(0.5)}, {"w": "body", "b": "head"}
      ... )
      >>> rates = lrax.get_lr(optimizer.init({"w": jnp.ones(2), "b": jnp.ones(2)}))
      >>> {group: round(float(rate), 4) for group, rate in rates.items()}
      {'body': 0.001, 'head': 0.5}
    """
    rates = {label: applied(group) for label, group in groups(opt_state)[0].items()}
    return next(iter(rates.values())) if len(rates) == 1 else rates


def set_lr(
    opt_state: optax.OptState, rate: ArrayLike | Mapping[Label, ArrayLike | None] | None
) -> optax.OptState:
    """An optimizer state with another learning rate, used from the next update on.

    In a state of `lrax.scale_by_lr` or of a method of `lrax.lr_free` the rate is held: it replaces
    the rate of the schedule, rule or method until another is set. `None` ends the hold. During
    the hold the schedule keeps counting and the rule sees every update, so both are up to date when
    the hold ends. From the next update on, `lrax.get_lr` returns their rate again. Shapes and
    dtypes stay, so nothing recompiles.

    `lrax.get_lr` of the new state returns `rate`. To make this true in a chain with a
    `reduce_on_plateau`, the stored rate is `rate` divided by the present `scale`. The result may
    then differ from `rate` by a rounding error. If the scale is 0, `lrax.get_lr` returns 0. Later
    reductions multiply a held rate like any other.

    With Flax NNX write `optimizer.opt_state = lrax.set_lr(optimizer.opt_state, rate)`, or
    `nnx.update(optimizer, lrax.set_lr(nnx.state(optimizer), rate))`.

    Args:
      opt_state: An optimizer state as `lrax.get_lr` reads it. It is not changed.
      rate: The new rate, at least 0, for all groups; or `{group: rate}` for some of them, under
        the names that `lrax.get_lr` gives. For a vmapped state, an array with one rate per lane, or
        one rate for all lanes. `None` in place of a rate ends the hold.

    Returns:
      The new state.

    Raises:
      ValueError: if the state holds no learning rate, a group is unknown, a concrete rate is
        negative, infinite or NaN, a rate has the wrong shape, `None` is given for a rate in a state
        of Optax, or `optax.inject_hyperparams` computes the rate from a schedule at every update.
      TypeError: if a rate is not a number, or the state holds shapes in place of values.

    Example:
      >>> optimizer = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(1e-3))
      >>> state = lrax.set_lr(optimizer.init({"w": jnp.ones(3)}), 0.25)
      >>> print(lrax.get_lr(state))
      0.25
    """
    known, rebuild = groups(opt_state)
    rates = dict(rate) if isinstance(rate, Mapping) else dict.fromkeys(known, rate)
    unknown = [label for label in rates if label not in known]
    if unknown:
        raise ValueError(f"`rate` must name groups of {list(known)}, got {unknown}")
    return rebuild({label: _written(known[label], new) for label, new in rates.items()})


def applied(group: Group) -> Any:
    """The rate that multiplied the last update of a group."""
    rate = read(group.node)
    if isinstance(rate, jax.ShapeDtypeStruct):
        return rate  # a shape has no value to multiply, and the scales keep shape and dtype
    rate = jnp.asarray(rate)
    for scale in group.scales:
        rate = rate * jnp.asarray(scale, rate.dtype)
    return rate


def _written(group: Group, rate: ArrayLike | None) -> Any:
    node = group.node
    old = read(node)
    if isinstance(old, jax.ShapeDtypeStruct):
        raise TypeError(
            f"`opt_state` must hold values for a rate to be set, got {old}. For the shapes of the"
            " new state, use `jax.eval_shape(lrax.set_lr, opt_state, rate)`."
        )
    old = jnp.asarray(old)
    if rate is None:
        if not is_ours(node):
            raise ValueError(
                f"`rate` must be a number for a {type(node).__name__}, which has no schedule to"
                " return to"
            )
        return replaced(node, held=False)
    if is_computed(node):
        raise ValueError(
            "`rate` cannot be set: `optax.inject_hyperparams` computes this one from a schedule at"
            " every update. Use `lrax.scale_by_lr(schedule)` in place of it."
        )
    values = _require.real(rate=rate)
    _require.nonnegative(values, "rate")
    try:
        new = jnp.broadcast_to(jnp.asarray(values["rate"], old.dtype), old.shape)
    except ValueError as error:
        raise ValueError(
            f"`rate` must be a scalar or of the state's shape {old.shape},"
            f" got {jnp.shape(values['rate'])}"
        ) from error
    new = _before_scales(new, group.scales)
    return (
        replaced(node, learning_rate=new, held=True)
        if is_ours(node)
        else replaced(node, learning_rate=new)
    )


def _before_scales(rate: jax.Array, scales: tuple[Any, ...]) -> jax.Array:
    """The rate to store, so that its product with `scales` is `rate`."""
    total = jnp.ones([], rate.dtype)
    for scale in scales:
        total = total * jnp.asarray(scale, rate.dtype)
    if not scales:
        return rate
    # The inner `where` avoids a division by 0. If the total is 0, no quotient gives the rate.
    quotient = jnp.where(total > 0, rate / jnp.where(total > 0, total, 1), rate)
    # The quotient is rounded, so its product with the total may differ from the rate in the last
    # bit. Often the next float below or above the quotient gives the rate exactly: use that one.
    for direction in (0.0, jnp.inf):
        neighbour = jnp.nextafter(quotient, jnp.asarray(direction, quotient.dtype))
        quotient = jnp.where(
            (quotient * total != rate) & (neighbour * total == rate), neighbour, quotient
        )
    return quotient
