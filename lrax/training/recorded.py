"""`recorded`: an optimizer that keeps a history of monitors in its state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax import lax, numpy as jnp
from jax.custom_batching import custom_vmap

from .. import _require
from .monitors import Monitor, as_monitors, measured
from .run import Step

Example = Any  # a pytree of arrays, or of their shapes
Records = dict[str, jax.Array] | jax.Array

# The names of monitors have this prefix in the state. Without it,
# `optax.tree.set(state, learning_rate=0.1)` would also write into the history of the monitor
# `learning_rate`.
PREFIX = "recorded/"

# `{argument: field}`: the fields of a `Step` that only the training loop knows, and the extra
# arguments of `update` that carry them. The model's state is called `model_state`, because
# `update` has a parameter `state` already.
_GIVEN = {"key": "key", "batch": "batch", "aux": "aux", "model_state": "state"}


class RecordedState(NamedTuple):
    """State of `recorded`: plain arrays whose shapes and dtypes never change."""

    # shape (), int32: the updates made. The field hides `tuple.count`, which nobody needs here.
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    made: jax.Array  # shape (), int32: the records made
    # shape (length,), int32: the index of the update of each record, -1 where there is none yet
    at: jax.Array
    # For each monitor an array of shape (length,), float32 (float64 under x64). Like `at` it is a
    # ring buffer: record n is at the index n % length. Without parameters nothing is recorded, and
    # a NaN takes the place of the dict: `optax.tree.map_params` calls `init` without parameters,
    # and accepts one leaf in place of any dict.
    records: Records
    inner_state: optax.OptState


def recorded(
    optimizer: optax.GradientTransformation,
    monitors: Iterable[Monitor] | Mapping[str, Monitor],
    *,
    record_every: int = 1,
    length: int = 1000,
    like: Mapping[str, Example] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that records monitors in its own state, for a training loop of your own.

    The updates are those of `optimizer`. A monitor is a function of a `Step`, as for `lrax.sweep`
    and `lrax.train`; `lrax.monitors` has ready-made ones. The recorded values stay on the device,
    in arrays of a fixed size that hold the last `length` records. `lrax.history` reads them from
    the state, under any nesting of wrappers, during the loop or at its end.

    Wrap the whole optimizer. The monitors then see the gradient that the loop computed, the updates
    that are added to the parameters, and the rate of this update. Inside of `optax.MultiSteps`,
    `optax.masked` or `optax.partition` they see only what that wrapper passes on, and count the
    updates that it makes.

    With `record_every=k`, only every k-th update computes the monitors, also under `jax.vmap`. If
    the counts of the lanes differ, as under `optax.apply_if_finite`, the monitors are computed for
    all lanes whenever one lane is due, and recorded for that lane alone.

    Within a sweep, prefer the argument `monitors=` of `lrax.sweep`. It keeps all records of every
    lane, and the result contains them.

    Optax's `snapshot`, and from 0.2.7 on `monitor`, keep the last value of a function of the
    updates at their place in a chain. They see neither the rate nor the gradient, have no history,
    and compute in every update. `lrax.history` reads them as well. A monitor can record a snapshot:
    `lambda step: optax.tree.get(step.opt_state, "before_clip")`. It cannot record an
    `optax.monitor`, whose state has no values before the first update and then changes its
    structure. That change costs a second compilation, and `lax.scan` refuses it.

    Args:
      optimizer: The transformation, such as `optax.adam(1e-3)`.
      monitors: Functions of a `Step`, or `{name: function}`. `step.loss` is the argument `value` of
        `update`, or NaN if there is none. `step.index` counts the updates.
      record_every: Updates between two records, at least 1. The updates 0, record_every, ... are
        recorded.
      length: How many records are kept, at least 1. A later record replaces the oldest one. A
        record takes 4 bytes for each scalar.
      like: Examples of the extra arguments of `update` that monitors read, of which only the shapes
        matter: `{"batch": batch}` if a monitor reads `step.batch`. The arguments `key`, `batch`,
        `aux` and `model_state` become the fields `key`, `batch`, `aux` and `state` of a `Step`. In
        `init` a field without an example is None, except that `aux` is an empty dict.

    Returns:
      An `optax.GradientTransformationExtraArgs` whose state is plain arrays. `update` requires
      `params`, and hands every extra argument to `optimizer`.

    Raises:
      ValueError: if a number is below 1, `monitors` is empty or has a name twice, or `like` names
        an argument other than these four. `update` raises a ValueError without `params`.
      TypeError: if an argument is not as described. `init` raises a TypeError if a monitor does not
        return scalars. `update` raises one if an argument that `like` names is missing, or if the
        state holds other monitors.

    Example:
      >>> monitors = {"loss": lambda step: step.loss, "grad_norm": lrax.monitors.grad_norm}
      >>> optimizer = lrax.recorded(optax.adam(0.1), monitors, record_every=10)
      >>> def step(carry, _):
      ...     params, state = carry
      ...     loss, grads = jax.value_and_grad(lambda w: jnp.sum((w - 1) ** 2))(params)
      ...     updates, state = optimizer.update(grads, state, params, value=loss)
      ...     return (optax.apply_updates(params, updates), state), None
      >>> params = jnp.zeros(3)
      >>> (params, state), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=30)
      >>> history = lrax.history(state)
      >>> history
      History(3 records at the updates 0 to 20: grad_norm, loss)
      >>> print(history.monitors["loss"][0])
      3.0
    """
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(
            "`optimizer` must be an optax.GradientTransformation, such as `optax.adam(1e-3)`, got"
            f" {optimizer!r}"
        )
    named = as_monitors(monitors)
    if not named:
        raise ValueError("`monitors` must be at least one function of a Step, got none")
    record_every = _require.count("record_every", record_every, 1)
    length = _require.count("length", length, 1)
    examples = _examples(like)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> RecordedState:
        inner_state = inner.init(params)
        if jax.tree.leaves(params):
            shapes = _shapes(named, params, inner_state, examples)
            blank = lambda shape: jnp.full(length, jnp.nan, shape.dtype)
            records = {PREFIX + name: blank(shape) for name, shape in shapes.items()}
        else:
            records = jnp.full([], jnp.nan, _require.float_dtype())
        at = jnp.full(length, -1, jnp.int32)
        zero = lambda: jnp.zeros([], jnp.int32)  # a buffer that appears twice cannot be donated
        return RecordedState(zero(), zero(), at, records, inner_state)

    def update(
        updates: optax.Updates,
        state: RecordedState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, RecordedState]:
        if params is None:
            raise ValueError(
                "`params` must be given to `update`, because monitors may read them, got None"
            )
        missing = [name for name in examples if name not in extra_args]
        if missing:
            raise TypeError(f"`{missing[0]}` must be given to `update`, because `like` names it")
        grads = updates
        updates, inner_state = inner.update(grads, state.inner_state, params, **extra_args)
        old = state.made, state.at, state.records
        is_due = state.count % record_every == 0
        slot = state.made % length
        # Under `vmap`, `write` runs for all lanes if one is due. A lane that is not due writes the
        # entry that is there already.
        put = lambda ring, value: lax.dynamic_update_index_in_dim(
            ring, jnp.where(is_due, value, ring[slot]), slot, 0
        )

        def write() -> tuple[jax.Array, jax.Array, Records]:
            step = _step(state.count, params, grads, updates, inner_state, extra_args)
            values = _values(named, step, state.records)
            at, records = jax.tree.map(put, (state.at, state.records), (state.count, values))
            return state.made + is_due.astype(jnp.int32), at, records

        if not isinstance(state.records, Mapping):  # there were no parameters in `init`
            made, at, records = old
        elif record_every == 1:
            made, at, records = write()
        else:
            made, at, records = lax.cond(_any_lane(is_due), write, lambda: old)
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, RecordedState(count, made, at, records, inner_state)

    # Optax declares the state of an `update` as any pytree, and this function takes only its own.
    return optax.GradientTransformationExtraArgs(
        init,
        update,  # pyright: ignore[reportArgumentType]
    )


@custom_vmap
def _any_lane(is_due: jax.Array) -> jax.Array:
    """Whether the condition holds in any lane.

    Under `vmap` this is one value without a batch axis. A `lax.cond` on a batched predicate would
    become a `select`, which computes both branches in every update.
    """
    return is_due


@_any_lane.def_vmap
def _of_lanes(axis_size: int, in_batched: list[bool], is_due: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size, in_batched
    return _any_lane(jnp.any(is_due, axis=0)), False


def _examples(like: Any) -> dict[str, Example]:
    if like is None:
        return {}
    if not isinstance(like, Mapping):
        raise TypeError(f"`like` must be a dict of extra arguments of `update`, got {like!r}")
    unknown = [name for name in like if name not in _GIVEN]
    if unknown:
        raise ValueError(f"`like` must name some of {list(_GIVEN)}, got {unknown}")
    return dict(like)


def _shapes(
    named: Mapping[str, Monitor],
    params: optax.Params,
    inner_state: optax.OptState,
    examples: Mapping[str, Example],
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of what the monitors return, by name. Nothing is computed."""

    def first(params: Any, inner_state: Any, extra_args: Any) -> dict[str, jax.Array]:
        # The parameters stand in for gradients and updates. These may have another dtype, which
        # only a call of `optimizer.update` with all its extra arguments would tell. Monitors return
        # scalars, for which this does not matter.
        index = jnp.zeros([], jnp.int32)
        return measured(named, _step(index, params, params, params, inner_state, extra_args))

    try:
        return jax.eval_shape(first, params, inner_state, examples)
    except Exception as error:
        error.add_note(
            "`lrax.recorded` calls its monitors in `init`, to know what they return. If a monitor"
            " reads `step.batch`, `step.key`, `step.aux` or `step.state`, give an example of that"
            " argument: `like={'batch': batch}`."
        )
        raise


def _values(named: Mapping[str, Monitor], step: Step, old: Records) -> Records:
    """What the monitors return, under the names in the state."""
    values = measured(named, step)
    new = {PREFIX + name: value for name, value in values.items()}
    if new.keys() != set(old):
        known = [name.removeprefix(PREFIX) for name in old]
        raise TypeError(
            f"`monitors` must be those of the state, which holds {known}, got {list(values)}"
        )
    return new


def _step(
    index: jax.Array,
    params: optax.Params,
    grads: optax.Updates,
    updates: optax.Updates,
    opt_state: optax.OptState,
    extra_args: Mapping[str, Any],
) -> Step:
    """What the monitors see of an update."""
    given: dict[str, Any] = {field: extra_args.get(name) for name, field in _GIVEN.items()}
    if given["aux"] is None:
        given["aux"] = {}
    loss = jnp.asarray(extra_args.get("value", jnp.nan), _require.float_dtype())
    return Step(
        index=index,
        params=params,
        opt_state=opt_state,
        loss=loss,
        grads=grads,
        updates=updates,
        **given,
    )
