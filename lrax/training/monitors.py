"""Monitors: pure functions of a `Step` whose values are recorded while a run goes on.

A `Step` describes one update. It has `index` (0-based); `key`, the key of the loss; `batch`;
`params` and `state` before the update; `opt_state` after it; `loss` and `aux`, computed from the
parameters before the update; `grads` as the optimizer gets them; and `updates` as they are added
to the parameters.

Each monitor returns a scalar, or a dict of scalars. `lrax.train` and `lrax.sweep` call it every
`record_every` updates and keep the scalar under the function's name, or the entries of the dict as
`"name/entry"`. In a training loop of your own, `lrax.recorded` does so in the optimizer's state.
You can pass your own function in the same way:

    def loss_scale(step):
        return step.opt_state[0].scale

    lrax.sweep(..., monitors=[lrax.monitors.grad_norm, loss_scale], record_every=10)

Bind settings with `functools.partial`, for instance the groups of `update_ratio`:

    functools.partial(lrax.monitors.update_ratio, group=lambda path: path.split("/")[0])
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from .. import _require
from ..rate.access import get_lr
from .run import Step

__all__ = ["grad_norm", "learning_rate", "param_norm", "update_norm", "update_ratio"]

Tree = Any
Group = Callable[[str], str]
Value = jax.Array | dict[str, jax.Array]
Monitor = Callable[[Step], Value]


def learning_rate(step: Step) -> Value:
    """The learning rate that multiplied this update: `lrax.get_lr` of the optimizer's state.

    Use it with optimizers that end in `lrax.scale_by_lr`, or that keep their rate in the state, as
    `optax.inject_hyperparams` does.

    Args:
      step: The update.

    Returns:
      A scalar, or `{group: scalar}` if the optimizer has several rates.

    Raises:
      ValueError: if the optimizer's state holds no learning rate.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> sgd = lambda peak: lrax.scale_by_lr(lrax.linear(peak, 0.0, 4))
      >>> train = lrax.train(task, sgd, steps=4, monitors=[lrax.monitors.learning_rate])
      >>> print(train(0.1, jax.random.key(0)).monitors["learning_rate"])
      [0.1   0.075 0.05  0.025]
    """
    rate = get_lr(_checked(step).opt_state)
    if isinstance(rate, dict):
        return {str(group): value for group, value in rate.items()}
    return rate


def grad_norm(step: Step, *, group: Group | None = None) -> Value:
    """The Euclidean norm of the gradient, before the optimizer changes it.

    Use it to see spikes before the loss shows them, and to choose a threshold for clipping.

    Args:
      step: The update.
      group: Function from the path of a parameter, such as `"block_0/mlp/kernel"`, to the name of
        its group. The result is then one norm per group. By default all parameters form one group.
        The path is `jax.tree_util.keystr(path, simple=True, separator="/")`; with Flax NNX it ends
        in `"/value"`.

    Returns:
      A scalar, or `{group: scalar}`.

    Raises:
      TypeError: if `group` does not return a string.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> train = lrax.train(task, optax.sgd, steps=4, monitors=[lrax.monitors.grad_norm])
      >>> train(0.1, jax.random.key(0)).monitors["grad_norm"].shape
      (4,)
    """
    return _norm(_checked(step).grads, group)


def update_norm(step: Step, *, group: Group | None = None) -> Value:
    """The Euclidean norm of the update, as it is added to the parameters.

    Use it to compare optimizers at equal rates: Adam's updates do not shrink with the gradient.

    Args:
      step: The update.
      group: As in `grad_norm`.

    Returns:
      A scalar, or `{group: scalar}`.

    Raises:
      TypeError: if `group` does not return a string.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> train = lrax.train(task, optax.sgd, steps=4, monitors=[lrax.monitors.update_norm])
      >>> train(0.1, jax.random.key(0)).monitors["update_norm"].shape
      (4,)
    """
    return _norm(_checked(step).updates, group)


def param_norm(step: Step, *, group: Group | None = None) -> Value:
    """The Euclidean norm of the parameters before the update.

    Use it to watch weight decay: the norm settles where decay and gradient balance.

    Args:
      step: The update.
      group: As in `grad_norm`.

    Returns:
      A scalar, or `{group: scalar}`.

    Raises:
      TypeError: if `group` does not return a string.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> train = lrax.train(task, optax.sgd, steps=4, monitors=[lrax.monitors.param_norm])
      >>> train(0.1, jax.random.key(0)).monitors["param_norm"].shape
      (4,)
    """
    return _norm(_checked(step).params, group)


def update_ratio(step: Step, *, group: Group | None = None) -> Value:
    r"""The norm of the update over the norm of the parameters.

    $$\|\Delta\theta\| / \|\theta\|$$

    Use it to see whether a rate suits all layers: ratios near 1e-3 are usual in training, and a
    group far above or below the others has the wrong rate. 0 / 0 is 0.

    Args:
      step: The update.
      group: As in `grad_norm`.

    Returns:
      A scalar, or `{group: scalar}`.

    Raises:
      TypeError: if `group` does not return a string.

    Example:
      >>> import functools
      >>> task = lrax.tasks.diabetes()
      >>> by_layer = functools.partial(
      ...     lrax.monitors.update_ratio, group=lambda path: path.split("/")[0]
      ... )
      >>> train = lrax.train(task, optax.sgd, steps=4, monitors=[by_layer])
      >>> sorted(train(0.1, jax.random.key(0)).monitors)
      ['update_ratio/dense_0', 'update_ratio/dense_1']
    """
    updates, params = _norm(_checked(step).updates, group), _norm(step.params, group)
    if isinstance(updates, dict):
        return {name: _ratio(norm, params[name]) for name, norm in updates.items()}
    return _ratio(updates, params)


def as_monitors(monitors: Any) -> dict[str, Monitor]:
    """The monitors that a caller gave, checked, as `{name: function}`."""
    if isinstance(monitors, Mapping):
        named = dict(monitors)
    elif np.iterable(monitors) and not isinstance(monitors, (str, bytes)):
        listed = list(monitors)
        named = {_name(monitor): monitor for monitor in listed}
        if len(named) < len(listed):
            names = [_name(monitor) for monitor in listed]
            raise ValueError(
                f"`monitors` must have different names, got {names}; pass {{name: function}}"
            )
    else:
        raise TypeError(f"`monitors` must be a list of functions of a Step, got {monitors!r}")
    for name, monitor in named.items():
        if not isinstance(name, str) or not callable(monitor):
            raise TypeError(f"`monitors` must be functions of a Step, got {name!r}: {monitor!r}")
    return named


def measured(monitors: Mapping[str, Monitor], step: Step) -> dict[str, jax.Array]:
    """What the monitors return for one update, flattened to `{name: scalar}`."""
    found: dict[str, jax.Array] = {}
    for name, monitor in monitors.items():
        value = monitor(step)
        if isinstance(value, Mapping):
            entries = {f"{name}/{entry}": scalar for entry, scalar in value.items()}
        else:
            entries = {name: value}
        for entry, scalar in entries.items():
            if not _is_scalar(scalar):
                is_array = hasattr(scalar, "shape")
                what = f"shape {scalar.shape}" if is_array else f"{scalar!r:.60}"
                raise TypeError(
                    f"the monitor {name!r} must return a scalar or a dict of scalars, got {what}"
                )
            found[entry] = jnp.asarray(scalar, _require.float_dtype())
    return found


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float)) or (hasattr(value, "shape") and value.shape == ())


def _name(monitor: Any) -> str:
    function = monitor.func if isinstance(monitor, functools.partial) else monitor
    return getattr(function, "__name__", type(function).__name__)


def _checked(step: Any) -> Step:
    """Requires the `Step` that a run hands to its monitors."""
    if not isinstance(step, Step):
        raise TypeError(f"`step` must be a Step, which a run hands to its monitors, got {step!r}")
    return step


def _norm(tree: Tree, group: Group | None) -> Value:
    if group is None:
        return optax.tree.norm(tree)
    if not callable(group):
        raise TypeError(f"`group` must be a function of a parameter's path, got {group!r}")
    groups: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        text = jax.tree_util.keystr(path, simple=True, separator="/")
        name = group(text)
        if not isinstance(name, str):
            raise TypeError(f"`group` must return a string for {text!r}, got {name!r}")
        groups.setdefault(name, []).append(leaf)
    return {name: optax.tree.norm(leaves) for name, leaves in groups.items()}


def _ratio(update: Any, params: Any) -> jax.Array:
    # A zero update has ratio 0, even where the parameters are zero. Any other update of zero
    # parameters has an infinite ratio. The inner `where` avoids computing 0 / 0.
    return jnp.where(update == 0, 0.0, update / jnp.where(update == 0, 1.0, params))
