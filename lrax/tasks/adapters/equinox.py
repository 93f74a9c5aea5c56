"""Equinox models as tasks."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import lax
from jax.tree_util import Partial

from ... import _require
from ...training.task import Task
from . import models


def from_equinox(
    model: Callable[[jax.Array], Any],
    loss: Callable[..., Any],
    batch: Any,
    *,
    inputs: str | int | Callable[[Any], Any] | None = None,
    held_out: Any = None,
    evaluate: Callable[..., Any] | None = None,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    batched: bool = False,
    axis_name: str = "batch",
) -> Task:
    """A task that trains an Equinox model.

    Use it with any `equinox.Module`. A run starts from `model(key)`; its floating-point arrays are
    trained. So `equinox.combine(params, model(key))` is the model that a sweep has found. It is
    called in the modes that `equinox.nn.inference_mode` sets. Other arrays of the model, and the
    `State` of a function `model` that returns `equinox.nn.make_with_state(...)`, are the state of a
    stateful task: `{"arrays": ..., "state": ...}`.

    Args:
      model: Function from a key to an `equinox.Module`, or to `(module, state)`, such as
        `lambda key: eqx.nn.MLP(64, 10, 32, 2, key=key)`. The same function again shares its
        compiled program.
      loss: `loss(outputs, batch) -> scalar`, or `(scalar, aux)` as the loss of a `lrax.Task`.
      batch: The batches, as the `batch` of a `lrax.Task`.
      inputs: What of a batch the model takes: a key or an index, or a function of the batch; a
        tuple is several arguments. By default `"inputs"` of a dict, the first of a tuple or list,
        and the whole of another batch.
      held_out: One batch of held-out data, which `evaluate` sees whole; `None` for none.
      evaluate: `evaluate(outputs, held_out) -> {name: scalar}`; by default `"val_loss"` and the
        scalars of `aux`.
      training: Keyword arguments of the model in training, beside its mode.
      evaluation: Keyword arguments of the model in evaluation, beside its mode.
      batched: Whether the model takes whole batches. Otherwise it takes one example, as Equinox's
        layers do, and is mapped by `jax.vmap`. If it has an argument `key`, each example gets one
        of `jax.random.split(key, examples)`, and a whole batch the key of the step itself; in
        evaluation that is always `jax.random.key(0)`.
      axis_name: Name of the axis of the examples, for the layers that reduce over it.

    Returns:
      A `lrax.Task`, stateful if the model has a state or arrays that are not trained.

    Raises:
      ImportError: without Equinox, an extra: `pip install "lrax[equinox]"`.
      ValueError: if `inputs` is not in a batch, there is no data to evaluate on, or nothing to
        train.
      TypeError: if an argument is not as described.

    Example:
      >>> import equinox as eqx
      >>> data = {"inputs": np.eye(4, dtype=np.float32), "targets": np.arange(4)}
      >>> task = lrax.tasks.from_equinox(
      ...     lambda key: eqx.nn.Linear(4, 4, key=key),
      ...     loss=lambda logits, batch: optax.losses.softmax_cross_entropy_with_integer_labels(
      ...         logits, batch["targets"]
      ...     ).mean(),
      ...     batch=lrax.minibatches(data, size=2),
      ...     held_out=data,
      ... )
      >>> lrax.sweep(task, optax.sgd, [0.01, 0.1, 1.0], steps=50, objective="val_loss")
      SweepResult(3 points x 1 seeds x 50 steps; best learning_rate=1)
    """
    equinox = _require.extra("equinox", "equinox")
    if not callable(model) or isinstance(model, equinox.Module):
        raise TypeError(
            f"`model` must be a function from a key to an equinox.Module, got a {type(model).__name__}"
        )
    models.check(loss, held_out, evaluate)
    calls = models.calls(inputs, training, evaluation)
    _require.flag("batched", batched)
    if not isinstance(axis_name, str):
        raise TypeError(f"`axis_name` must be a str, got {axis_name!r}")
    found = []

    def arrays() -> Any:
        params, others, static, state = _parts(model(jax.random.key(0)))
        found.append((static, takes_key(static, calls)))
        return params, others, state

    params, others, state = jax.eval_shape(arrays)
    if not jax.tree.leaves(params):
        raise ValueError("`model` must have floating-point arrays to train, got none")
    stateful = bool(jax.tree.leaves((others, state)))
    (rest, with_key), with_state = found[0], state is not None
    # Leaves that are no arrays, such as activation functions, stay beside the structure.
    leaves, structure = jax.tree.flatten(rest)
    static = models.Static(
        (
            structure,
            tuple(leaves),
            calls,
            with_key,
            with_state,
            None if batched else axis_name,
            stateful,
        )
    )
    return models.as_task(
        _forward,
        static,
        init=Partial(_init, static, model),
        loss=loss,
        batch=batch,
        held_out=held_out,
        evaluate=evaluate,
        stateful=stateful,
    )


def _parts(built: Any) -> tuple[Any, Any, Any, Any]:
    """Parameters, other arrays, what is no array, and the state or `None`."""
    import equinox

    module, state = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if not isinstance(module, equinox.Module) or not (
        state is None or isinstance(state, equinox.nn.State)
    ):
        words = "an equinox.Module or (module, state) with an equinox.nn.State"
        raise TypeError(
            f"`model` must return {words}, got {jax.tree.map(type, built, is_leaf=lambda x: x is not built)}"
        )
    params, rest = equinox.partition(module, equinox.is_inexact_array)
    others, static = equinox.partition(rest, equinox.is_array)
    return params, others, static, state


def takes_key(module: Any, calls: models.Calls) -> bool:
    """Whether a model has an argument `key` that its keyword arguments leave open."""
    named = {name for name, _ in (*calls.training, *calls.evaluation)}
    return "key" in inspect.signature(type(module).__call__).parameters and "key" not in named


def _init(static: models.Static, build: Any, key: jax.Array) -> Any:
    params, others, _, state = _parts(build(key))
    # A weakly typed counter would come back from its first update with another type.
    strong = lambda tree: jax.tree.map(
        lambda leaf: lax.convert_element_type(leaf, leaf.dtype), tree
    )
    return (params, {"arrays": others, "state": strong(state)}) if static.value[-1] else params


def _forward(
    static: models.Static, params: Any, state: Any, batch: Any, key: jax.Array, *, training: bool
) -> tuple[Any, Any]:
    import equinox

    structure, leaves, calls, with_key, with_state, axis_name, _ = static.value
    others, held = (None, None) if state is None else (state["arrays"], state["state"])
    module = equinox.combine(
        params, jax.tree.unflatten(structure, leaves), *(() if others is None else (others,))
    )
    module = equinox.nn.inference_mode(module, value=not training)
    # A `State` may be used once, and a line search comes back to it: each call works on a copy.
    held = jax.tree.map(lambda leaf: leaf, held)
    keywords = dict(calls.training if training else calls.evaluation)
    arguments = calls.take(batch)

    def call(arguments, key, held):
        own = {**keywords, "key": key} if with_key else keywords
        return module(*arguments, held, **own) if with_state else (module(*arguments, **own), None)

    if axis_name is None:
        outputs, held = call(arguments, key, held)
    else:
        keys = jax.random.split(key, len(jax.tree.leaves(arguments)[0])) if with_key else None
        mapped = jax.vmap(call, in_axes=(0, 0, None), out_axes=(0, None), axis_name=axis_name)
        outputs, held = mapped(arguments, keys, held)
    return outputs, None if state is None else {"arrays": others, "state": held}
