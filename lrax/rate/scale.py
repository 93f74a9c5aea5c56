"""The rate as optimizer state: readable, settable, the same tree whatever drives it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jax.tree_util import DictKey, keystr
from jax.typing import ArrayLike

from .. import _require
from ..schedules.schedule import Schedule, as_schedule


class ScaleByLrState(NamedTuple):
    """State of `scale_by_lr`.

    The tree is the same for a constant rate, a schedule and a rate set by hand, so that a
    checkpoint of one resumes as another.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  # shape=(), dtype=int32; updates made
    learning_rate: (
        jax.Array
    )  # shape=(), dtype=float32; of the last update, before any of the first, or set since
    held: jax.Array  # shape=(), dtype=bool; whether `set_lr` holds the rate against the schedule


def scale_by_lr(
    learning_rate: optax.ScalarOrSchedule | Schedule, *, flip_sign: bool = True
) -> optax.GradientTransformationExtraArgs:
    r"""Scales updates by minus the learning rate, and keeps the rate in use in its state.

    $$u \leftarrow -\eta_t \, u$$

    Use it as the last link of `optax.chain`, in the place of `optax.scale_by_learning_rate`. The
    numbers are those of Optax to the last bit; in addition `lrax.get_lr` reads the rate from the
    state and `lrax.set_lr` changes it, under any nesting of wrappers and without recompiling. The
    rate is float32 (float64 under x64) and cast to the dtype of each update, so bfloat16 updates
    stay bfloat16.

    Args:
      learning_rate: A number, which may be traced, a `Schedule`, or any function of the count. It
        is one rate: for several lanes go through `jax.vmap`, for several groups of parameters
        through `optax.partition`.
      flip_sign: Whether to descend. `False` leaves the sign, for transformations that flip it
        themselves.

    Returns:
      An `optax.GradientTransformationExtraArgs` with the state `ScaleByLrState(count,
      learning_rate, held)`.

    Raises:
      ValueError: if a known rate is negative, infinite or NaN, or a rate is no scalar: a number's
        shape is looked at here, that of a schedule's value by `init` and `update`.
      TypeError: if `learning_rate` is none of the three.

    Example:
      >>> schedule = lrax.warmup_cosine(peak=0.1, steps=100, warmup=10)
      >>> optimizer = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(schedule))
      >>> params = {"w": jnp.ones(3)}
      >>> state = optimizer.init(params)
      >>> for _ in range(6):
      ...     updates, state = optimizer.update(params, state, params)
      >>> print(lrax.get_lr(state))  # that of the update with the index 5
      0.05
    """
    schedule = as_schedule(learning_rate, "learning_rate")
    if not callable(learning_rate):
        _one_rate(schedule.hyperparams["value"])

    def init(params: optax.Params) -> ScaleByLrState:
        del params
        count = jnp.zeros([], jnp.int32)
        return ScaleByLrState(count, _one_rate(schedule(count)), jnp.zeros([], jnp.bool_))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, ScaleByLrState]:
        del params, extra_args
        rate = _one_rate(jnp.where(state.held, state.learning_rate, schedule(state.count)))
        step = -rate if flip_sign else rate
        updates = jax.tree.map(lambda update: step.astype(update.dtype) * update, updates)
        return updates, ScaleByLrState(
            jnp.asarray(optax.safe_increment(state.count)), rate, state.held
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _one_rate(rate: Any) -> Any:
    if jnp.ndim(rate):
        raise ValueError(
            f"`learning_rate` must be a scalar, got one of shape {jnp.shape(rate)}. For a rate per lane, go through"
            " `jax.vmap`; for one per group of parameters, through `optax.partition`."
        )
    return rate


def get_lr(opt_state: optax.OptState) -> jax.Array | dict[Any, jax.Array]:
    """The learning rate in an optimizer state: the one of the last update, before any update that
    of the first.

    A rate that `lrax.set_lr` has set since is read at once, before its first update. When it is
    handed back to a schedule, by `lrax.set_lr(opt_state, None)`, it goes on being read until the
    next update: a state holds the rate that was in use, and no schedule to tell the coming one.

    It is found under any nesting of `chain`, `named_chain`, `masked`, `partition`, `MultiSteps`,
    `apply_if_finite` and the like, in the states of `lrax.scale_by_lr`, of
    `optax.inject_hyperparams` with a `learning_rate`, and of the transformations that keep a
    `learning_rate`, as Optax's line searches do. (`optax.adam(1e-3)` alone keeps none.)

    Args:
      opt_state: An optimizer state, its leaves of any shape: those of a vmapped state give a rate
        per lane, those of `jax.eval_shape(optimizer.init, params)` a `jax.ShapeDtypeStruct`.

    Returns:
      The rate, or `{group: rate}` when the state holds several. A group is named by the dict key on
      the way to it, such as its label in `optax.partition`, be that a string or not; several keys
      are joined, as in `"body/head"`. Without such names, or with one name for two, groups go by
      their whole path.

    Raises:
      ValueError: if the state holds no learning rate.

    Example:
      >>> optimizer = optax.partition(
      ...     {"body": optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(1e-3)), "head": lrax.scale_by_lr(0.5)},
      ...     {"w": "body", "b": "head"},
      ... )
      >>> rates = lrax.get_lr(optimizer.init({"w": jnp.ones(2), "b": jnp.ones(2)}))
      >>> {group: round(float(rate), 4) for group, rate in rates.items()}
      {'body': 0.001, 'head': 0.5}
    """
    nodes, _, groups = _groups(opt_state)
    rates = {group: _read(nodes[i]) for group, i in groups.items()}
    return next(iter(rates.values())) if len(rates) == 1 else rates


def set_lr(
    opt_state: optax.OptState, rate: ArrayLike | Mapping[Any, ArrayLike | None] | None
) -> optax.OptState:
    """An optimizer state with another learning rate, used from the next update on.

    In a state of `lrax.scale_by_lr` the rate is held, against the schedule too, until another is
    set; `None` hands it back to the schedule, which has kept counting, and whose rate `lrax.get_lr`
    reads from the next update on. Nothing recompiles: shapes and dtypes stay.

    Args:
      opt_state: An optimizer state as `lrax.get_lr` reads it. It is not changed.
      rate: The new rate, at least 0, for all groups, or `{group: rate}` for some, named as by
        `lrax.get_lr`. For a vmapped state, one per lane or one for all. `None` in place of a rate
        ends the holding.

    Returns:
      The new state.

    Raises:
      ValueError: if the state holds no learning rate, a group is unknown, a known rate is negative,
        infinite or NaN, or the rate is one that `optax.inject_hyperparams` computes anew from a
        schedule at every update.
      TypeError: if a rate is no number, or the state holds shapes in place of values.

    Example:
      >>> optimizer = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(1e-3))
      >>> state = lrax.set_lr(optimizer.init({"w": jnp.ones(3)}), 0.25)
      >>> print(lrax.get_lr(state))
      0.25
    """
    nodes, structure, groups = _groups(opt_state)
    rates = dict(rate) if isinstance(rate, Mapping) else dict.fromkeys(groups, rate)
    unknown = [group for group in rates if group not in groups]
    if unknown:
        raise ValueError(f"`rate` must name groups of {list(groups)}, got {unknown}")
    for group, new in rates.items():
        nodes[groups[group]] = _write(nodes[groups[group]], new)
    return structure.unflatten(nodes)


def _holds_rate(node: Any) -> bool:
    return hasattr(node, "_fields") and ("learning_rate" in node._fields or _is_injected(node))


def _is_injected(node: Any) -> bool:
    return "learning_rate" in (getattr(node, "hyperparams", None) or ())


def _groups(opt_state: optax.OptState) -> tuple[list[Any], Any, dict[Any, int]]:
    """A state taken apart into nodes, and which of them hold a rate, by the names of `get_lr`."""
    flat, structure = jax.tree_util.tree_flatten_with_path(opt_state, is_leaf=_holds_rate)
    paths = {i: path for i, (path, node) in enumerate(flat) if _holds_rate(node)}
    if not paths:
        raise ValueError(
            "`opt_state` must hold a learning rate, got a state without one. End the optimizer's chain with"
            " `lrax.scale_by_lr(rate)`, as in `optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(1e-3))`."
        )
    keys = [[key.key for key in path if isinstance(key, DictKey)] for path in paths.values()]
    labels = [names[0] if len(names) == 1 else "/".join(map(str, names)) for names in keys]
    if len(set(labels)) < len(labels) or not all(keys):
        labels = [keystr(path) for path in paths.values()]
    return [node for _, node in flat], structure, dict(zip(labels, paths, strict=True))


def _read(node: Any) -> Any:
    rate = node.hyperparams["learning_rate"] if _is_injected(node) else node.learning_rate
    return rate if isinstance(rate, jax.ShapeDtypeStruct) else jnp.asarray(rate)


def _write(node: Any, rate: ArrayLike | None) -> Any:
    old = _read(node)
    if isinstance(old, jax.ShapeDtypeStruct):
        raise TypeError(
            f"`opt_state` must hold values for a rate to be set, got {old}. For the shapes of the new state, use"
            " `jax.eval_shape(lrax.set_lr, opt_state, rate)`."
        )
    if rate is None:
        if not isinstance(node, ScaleByLrState):
            raise ValueError(
                f"`rate` must be a number for a {type(node).__name__}, which has no schedule to return to"
            )
        return node._replace(held=jnp.zeros_like(node.held))
    if _is_injected(node) and "learning_rate" in (getattr(node, "hyperparams_states", None) or ()):
        raise ValueError(
            "`rate` cannot be set: `optax.inject_hyperparams` computes this one from a schedule at every update."
            " Use `lrax.scale_by_lr(schedule)` in place of it."
        )
    values = _require.real(rate=rate)
    _require.nonnegative(values, "rate")
    try:
        new = jnp.broadcast_to(jnp.asarray(values["rate"], old.dtype), old.shape)
    except ValueError as error:
        shapes = f"{old.shape}, got {jnp.shape(values['rate'])}"
        raise ValueError(f"`rate` must be a scalar or of the state's shape {shapes}") from error
    if _is_injected(node):
        return node._replace(hyperparams={**node.hyperparams, "learning_rate": new})
    if isinstance(node, ScaleByLrState):
        return node._replace(learning_rate=new, held=jnp.ones_like(node.held))
    return node._replace(learning_rate=new)
