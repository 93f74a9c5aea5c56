"""Flax Linen models as tasks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.tree_util import Partial

from ... import _require
from ...training.task import Task
from . import models


def from_linen(
    model: Any,
    loss: Callable[..., Any],
    batch: Any,
    *,
    inputs: str | int | Callable[[Any], Any] | None = None,
    held_out: Any = None,
    evaluate: Callable[..., Any] | None = None,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    rngs: Sequence[str] = ("dropout",),
    example: Any = None,
) -> Task:
    """A task that trains a Flax Linen model.

    Use it with any `flax.linen.Module`. `task.init(key)` is `model.init(key, *inputs, **training)`:
    its `"params"` are trained, and its other collections, such as the `"batch_stats"` of batch
    norm, are the state of a stateful task. So `model.apply({"params": params, **state}, x)` uses
    what a sweep has found. Tasks of equal models and the same functions share one compiled program.

    Args:
      model: The `flax.linen.Module`; its fields are static.
      loss: `loss(outputs, batch) -> scalar`, or `(scalar, aux)` as the loss of a `lrax.Task`.
      batch: The batches, as the `batch` of a `lrax.Task`.
      inputs: What of a batch the model takes: a key or an index, or a function of the batch; a
        tuple is several arguments. By default `"inputs"` of a dict, the first of a tuple or list,
        and the whole of another batch.
      held_out: One batch of held-out data, which `evaluate` sees whole; `None` for none.
      evaluate: `evaluate(outputs, held_out) -> {name: scalar}`; by default `"val_loss"` and the
        scalars of `aux`.
      training: Keyword arguments of the model in training, such as `{"train": True}`.
      evaluation: Keyword arguments of the model in evaluation, such as `{"train": False}`.
      rngs: Names of the streams of random numbers that the model draws from. A single one has the
        key of the step, the `i`-th of several `jax.random.fold_in(key, i)`; in evaluation the key
        is always `jax.random.key(0)`.
      example: A batch for `model.init`; by default the first one.

    Returns:
      A `lrax.Task`, stateful if the model has collections besides `"params"`.

    Raises:
      ImportError: without Flax, an extra: `pip install "lrax[flax]"`.
      ValueError: if `inputs` is not in a batch, there is no data to evaluate on, or `batch` is read
        but once and there is no `example`.
      TypeError: if an argument is not as described.

    Example:
      >>> import flax.linen as nn
      >>> data = {"inputs": np.eye(4, dtype=np.float32), "targets": np.arange(4)}
      >>> task = lrax.tasks.from_linen(
      ...     nn.Dense(4),
      ...     loss=lambda logits, batch: optax.losses.softmax_cross_entropy_with_integer_labels(
      ...         logits, batch["targets"]
      ...     ).mean(),
      ...     batch=lrax.minibatches(data, size=2),
      ...     held_out=data,
      ... )
      >>> lrax.sweep(task, optax.sgd, [0.01, 0.1, 1.0], steps=50, objective="val_loss")
      SweepResult(3 points x 1 seeds x 50 steps; best learning_rate=1)
    """
    linen = _require.extra("flax.linen", "flax")
    if not isinstance(model, linen.Module):
        raise TypeError(
            f"`model` must be a flax.linen.Module, got {model!r}; see `from_nnx` for models of flax.nnx"
        )
    models.check(loss, held_out, evaluate)
    if isinstance(rngs, str) or not all(isinstance(name, str) for name in rngs):
        raise TypeError(f"`rngs` must be a list of names, got {rngs!r}")
    calls = models.calls(inputs, training, evaluation)
    first = models.example(batch, example)
    shapes = jax.eval_shape(lambda: _variables(model, calls, first, jax.random.key(0)))
    if "params" not in shapes:
        raise ValueError(
            f"`model` must have parameters to train, got the collections {list(shapes)}"
        )
    stateful = len(shapes) > 1
    static = models.Static((model, calls, tuple(rngs), stateful))
    return models.as_task(
        _forward,
        static,
        init=Partial(_init, static, first),
        loss=loss,
        batch=batch,
        held_out=held_out,
        evaluate=evaluate,
        stateful=stateful,
    )


def _variables(model: Any, calls: models.Calls, first: Any, key: jax.Array) -> dict[str, Any]:
    return dict(model.init(key, *calls.take(first), **dict(calls.training)))


def _init(static: models.Static, first: Any, key: jax.Array) -> Any:
    model, calls, _, stateful = static.value
    variables = _variables(model, calls, first, key)
    params = variables.pop("params")
    return (params, variables) if stateful else params


def _forward(
    static: models.Static, params: Any, state: Any, batch: Any, key: jax.Array, *, training: bool
) -> tuple[Any, Any]:
    model, calls, rngs, _ = static.value
    variables, arguments = {"params": params, **(state or {})}, calls.take(batch)
    keywords = {**dict(calls.training if training else calls.evaluation), "rngs": _keys(rngs, key)}
    if state is None or not training:
        return model.apply(variables, *arguments, **keywords), state
    outputs, changed = model.apply(variables, *arguments, mutable=list(state), **keywords)
    return outputs, {**state, **changed}


def _keys(names: tuple[str, ...], key: jax.Array) -> dict[str, jax.Array]:
    if len(names) == 1:
        return {names[0]: key}
    return {name: jax.random.fold_in(key, i) for i, name in enumerate(names)}
