"""`scale_by_hyperball`: updates that turn each matrix by an angle and keep its norm."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import numpy as np
import optax
from jax import numpy as jnp
from jax.tree_util import keystr

from .. import _require
from ..schedules.schedule import Schedule
from .rule import RateRule
from .scale import RuleState, ScaleByLrState, scale_by_lr

Tree = Any


class ScaleByHyperballState(NamedTuple):
    """State of `scale_by_hyperball`: that of `scale_by_lr`, and the norms."""

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    learning_rate: jax.Array
    held: jax.Array
    rule: RuleState
    # a tree like the parameters: the initial norm of each matrix, float32 or wider; the axes of the
    # matrix are kept with length 1
    radius: Tree


def scale_by_hyperball(
    learning_rate: optax.ScalarOrSchedule | Schedule | RateRule, *, stacked: int = 0
) -> optax.GradientTransformationExtraArgs:
    r"""Turns each matrix by an angle that the learning rate sets, and keeps its Frobenius norm.

    $$W \leftarrow R \, \frac{V}{\|V\|_F}, \qquad
      V = W - \eta_t R \, \frac{u}{\|u\|_F}, \qquad R = \|W_0\|_F$$

    where $u$ is the update of the matrix $W$, and $W_0$ the matrix that `init` was given. Use it as
    the last link of a chain for the matrices of a network with normalisation layers, in place of
    `lrax.scale_by_lr` and of weight decay: after `optax.scale_by_adam` it is AdamH, after
    `optax.contrib.scale_by_muon` MuonH. The rate is then the length of the step relative to the
    norm: an update that is perpendicular to the matrix turns it by arctan(rate) radians. Such
    rates change little with width and depth. Rates of 0.005 to 0.02 are usual, with a schedule that
    ends near 0. `lrax.scaling.decay_balance` gives the angle by which AdamW turns its matrices, and
    `lrax.scaling.transfer` has rules for such rates: "hyperp" and "completed_adamh".

    A positive factor on the whole update of a matrix has no effect. Directly before this link of
    the chain, clipping by the norm, Muon's shape factors and `lrax.scale_by_multipliers` therefore
    do nothing. Weight decay there does not shrink the matrix; it mostly makes the angle smaller.

    Do not use it where the norm of a parameter matters: for embeddings, for the scales and
    biases of normalisation layers, and for a network without normalisation. A parameter that starts
    at 0 would stay there, and is refused. Leave these to another optimizer by `optax.partition`, as
    in the example.

    `lrax.get_lr` and `lrax.set_lr` find the rate in the state, as they do for `lrax.scale_by_lr`.
    Norms are float32, or float64 for float64 parameters. The initial norm is kept in the state, so
    that rounding in bfloat16 does not add up.

    Args:
      learning_rate: The length of the step relative to the norm, at least 0: a number, which may
        be traced, a `Schedule`, any function of the count, or an `lrax.RateRule`.
      stacked: Number of leading axes of each parameter that index layers, each with its own matrix:
        1 for the parameters of a `jax.lax.scan` over layers. All other axes are those of the
        matrix, also for the kernel of a convolution.

    Returns:
      An `optax.GradientTransformationExtraArgs`. Its `update` requires the parameters, and hands
      every extra argument to the rule. Updates keep their dtypes.

    Raises:
      ValueError: if a concrete rate is negative, infinite or NaN, or `stacked` is negative. `init`
        raises it if a parameter has no axes but stacked ones, or its norm is 0 or not finite;
        `update` raises it without `params`.
      TypeError: if `learning_rate` is none of the four, or `stacked` is not an int.

    Example:
      >>> optimizer = optax.partition(
      ...     {
      ...         "matrix": optax.chain(optax.scale_by_adam(), lrax.scale_by_hyperball(0.01)),
      ...         "other": optax.adam(1e-3),
      ...     },
      ...     {"kernel": "matrix", "bias": "other"},
      ... )
      >>> params = {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]]), "bias": jnp.zeros(2)}
      >>> state = optimizer.init(params)
      >>> gradients = {"kernel": jnp.array([[0.0, 1.0], [1.0, 0.0]]), "bias": jnp.ones(2)}
      >>> updates, state = optimizer.update(gradients, state, params)
      >>> moved = optax.apply_updates(params, updates)
      >>> print(f"{jnp.linalg.norm(moved['kernel']):.3f}")
      5.000
      >>> print(f"{jnp.linalg.norm(updates['kernel']):.3f}")  # 5 times the rate
      0.050

    Reference:
      Wen et al., "Fantastic pretraining optimizers and where to find them II: Hyperball
      optimization", arXiv 2606.16899; `levanter.optim.adamh` and `muonh`.
    """
    rate = scale_by_lr(learning_rate)
    _require.count("stacked", stacked, 0)

    def init(params: optax.Params) -> ScaleByHyperballState:
        flat, structure = jax.tree_util.tree_flatten_with_path(params)
        radius = structure.unflatten([_radius(path, leaf, stacked) for path, leaf in flat])
        return ScaleByHyperballState(*cast(ScaleByLrState, rate.init(params)), radius=radius)

    def update(
        updates: optax.Updates,
        state: ScaleByHyperballState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, ScaleByHyperballState]:
        if params is None:
            raise ValueError(
                "`params` must be given to `update`, which keeps their norms: call"
                " `optimizer.update(grads, state, params)`"
            )
        before = ScaleByLrState(*state[:-1])
        after = cast(ScaleByLrState, rate.update(updates, before, params, **extra_args)[1])
        turned = lambda leaf, param, radius: _turned(
            leaf, param, radius, after.learning_rate, stacked
        )
        updates = jax.tree.map(turned, updates, params, state.radius)
        return updates, ScaleByHyperballState(*after, radius=state.radius)

    # Optax declares the state of an `update` as any pytree, and this function takes only its own.
    return optax.GradientTransformationExtraArgs(
        init,
        update,  # pyright: ignore[reportArgumentType]
    )


def _radius(path: Any, leaf: Any, stacked: int) -> jax.Array:
    name = f"params{keystr(path)}"
    if jnp.ndim(leaf) <= stacked:
        raise ValueError(
            f"`{name}` must have an axis that is not stacked, got shape {jnp.shape(leaf)} with"
            f" {stacked} stacked axes"
        )
    radius = _norm(_wide(leaf), stacked)
    # The norm stays as it is, so a parameter of 0 would stay 0.
    norm = f"norm of {name}"
    _require.positive({norm: radius}, norm)
    return radius


# The paper has the first norm as the radius. Its public code takes the norm before each update,
# which is the same number but for rounding. In bfloat16, that rounding would add up.
def _turned(
    update: jax.Array, param: jax.Array, radius: jax.Array, rate: jax.Array, stacked: int
) -> jax.Array:
    """What is added to a parameter, so that it is turned and has the norm `radius`."""
    before = _wide(param)
    direction = _wide(update)
    length = _norm(direction, stacked)
    # An update of 0 makes no step. The public code divides by at least 1e-10 or 1e-8. With
    # neither Adam nor Muon in front, that would shorten the steps of small gradients.
    unit = direction / jnp.where(length == 0, 1.0, length)
    after = before - rate.astype(before.dtype) * radius * unit
    norm = _norm(after, stacked)
    return (after * (radius / jnp.where(norm == 0, 1.0, norm)) - before).astype(update.dtype)


def _norm(leaf: jax.Array, stacked: int) -> jax.Array:
    axes = tuple(range(stacked, leaf.ndim))
    return jnp.sqrt(jnp.sum(jnp.square(leaf), axis=axes, keepdims=True))


def _wide(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), np.float32))
