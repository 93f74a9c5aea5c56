"""`corrected_decay`: weight decay that falls with the square of the rate, as in AdamC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np
import optax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..rate.rule import RateRule
from ..rate.scale import ScaleByLrState, scale_by_lr
from ..schedules.schedule import Schedule

Mask = Any  # a pytree of bools, like the parameters or a prefix of them


def corrected_decay(
    learning_rate: optax.ScalarOrSchedule | Schedule | RateRule,
    weight_decay: ArrayLike,
    *,
    peak: ArrayLike,
    normalized: Mask | Callable[[optax.Params], Mask] = True,
    mask: Mask | Callable[[optax.Params], Mask] = True,
) -> optax.GradientTransformationExtraArgs:
    r"""Scales updates by minus the learning rate, with the weight decay of AdamC.

    $$u \leftarrow -\eta_t \left( u + \text{weight\_decay} \, \frac{\eta_t}{\text{peak}} \, w
      \right)$$

    for the parameters of `normalized`, and without the factor eta_t / peak for the others. Use it
    as the last transformation of a chain. It takes the place of `lrax.scale_by_lr` and of
    `optax.add_decayed_weights`. After `optax.scale_by_adam` the chain is AdamC; alone it is SGDC.
    Under plain decay, the weights in front of a normalisation shrink as the rate falls, and their
    gradients grow at the end of training. Here their balance stays that of the peak rate
    (`decay_balance`). Begin with the weight decay of AdamW.

    `optax.adamw` cannot express this decay, because it does not see the rate that is in use: a
    controller may lower it, and `lrax.set_lr` may set it. `lrax.get_lr` and `lrax.set_lr` find the
    rate in the state.

    The correction is wrong for parameters that no normalisation follows, such as the output layer:
    there decay is a true regulariser. Mark them as False in `normalized`. The correction
    hardly matters in runs shorter than the time of `decay_timescale`.

    Args:
      learning_rate: A number, which may be traced, a `Schedule`, any function of the count, or an
        `lrax.RateRule`.
      weight_decay: The decay at the peak, as in `optax.adamw`: at least 0, a scalar. It may be
        traced.
      peak: The highest rate of the schedule, above 0, a scalar. It may be traced.
      normalized: Which parameters are followed by a normalisation: a pytree of bools like the
        parameters or a prefix of them, or a function of the parameters that returns one. All of
        them by default.
      mask: Which parameters decay at all, in the same form. All of them by default.

    Returns:
      An `optax.GradientTransformationExtraArgs` with the state of `lrax.scale_by_lr`. Its `update`
      requires the parameters, and hands every extra argument to the rule. Updates keep their
      dtypes.

    Raises:
      ValueError: if a concrete number is out of its range or not a scalar, or a tree of bools does
        not have the structure of the parameters or a prefix of it. `update` raises it without
        `params`.
      TypeError: if an argument is not as described.

    Example:
      >>> schedule = lrax.warmup_cosine(1e-3, steps=1000, warmup=50)
      >>> optimizer = optax.chain(
      ...     optax.scale_by_adam(),
      ...     lrax.scaling.corrected_decay(
      ...         schedule, 0.1, peak=1e-3, normalized={"body": True, "head": False}
      ...     ),
      ... )
      >>> params = {"body": jnp.ones((3, 3)), "head": jnp.ones((3, 2))}
      >>> updates, state = optimizer.update(params, optimizer.init(params), params)

    Reference:
      Defazio, "Why gradients rapidly increase near the end of training", arXiv 2506.02285.
    """
    rate = scale_by_lr(learning_rate)
    values = _require.scalars(weight_decay=weight_decay, peak=peak)
    _require.nonnegative(values, "weight_decay")
    _require.positive(values, "peak")
    marks = {"normalized": normalized, "mask": mask}
    for name, given in marks.items():
        if not callable(given):
            _require_bools(name, given)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        if params is None:
            raise ValueError(
                "`params` must be given to `update`, because they decay: call"
                " `optimizer.update(grads, state, params)`"
            )
        corrects, decays = (_spread(name, given, params) for name, given in marks.items())
        scaled, after = rate.update(updates, state, params, **extra_args)
        used = cast(ScaleByLrState, after).learning_rate
        plain = used * values["weight_decay"]
        corrected = plain * (used / values["peak"])

        def added(update: jax.Array, param: jax.Array, corrects: bool, decays: bool) -> jax.Array:
            if not decays:
                return update
            dtype = jnp.promote_types(update.dtype, np.float32)
            share = (corrected if corrects else plain).astype(dtype)
            return (update.astype(dtype) - share * param).astype(update.dtype)

        return jax.tree.map(added, scaled, params, corrects, decays), after

    return optax.GradientTransformationExtraArgs(rate.init, update)


def _spread(name: str, given: Mask | Callable[[optax.Params], Mask], params: optax.Params) -> Mask:
    """A bool for each parameter."""
    tree = _require_bools(name, given(params)) if callable(given) else given
    try:
        return jax.tree.map(lambda mark, below: jax.tree.map(lambda _: mark, below), tree, params)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must have the structure of the parameters or a prefix of it, got"
            f" {jax.tree.structure(tree)} for {jax.tree.structure(params)}"
        ) from error


def _require_bools(name: str, tree: Mask) -> Mask:
    for leaf in jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None):
        if not isinstance(leaf, (bool, np.bool_)):
            raise TypeError(
                f"`{name}` must be a pytree of bools or a function that returns one, got {leaf!r}"
            )
    return tree
