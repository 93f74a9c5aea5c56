"""Flax NNX models as tasks."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import numpy as jnp
from jax.tree_util import Partial

from ... import _require
from ...training.task import Task
from . import models


def from_nnx(
    model: Callable[[Any], Any],
    loss: Callable[..., Any],
    batch: Any,
    *,
    inputs: str | int | Callable[[Any], Any] | None = None,
    held_out: Any = None,
    evaluate: Callable[..., Any] | None = None,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    wrt: Any = None,
) -> Task:
    """A task that trains a Flax NNX model.

    Use it with any `flax.nnx.Module`. A run starts from `model(nnx.Rngs(key))`. Its variables of
    the kind `wrt` are trained, as one `nnx.State`, and its others, such as the `nnx.BatchStat` of
    batch norm, are the state of a stateful task. So `nnx.update(model(nnx.Rngs(0)), params, state)`
    puts what a sweep has found into a model. It is called in the modes of `model.train()` and
    `model.eval()`.

    Streams of random numbers inside the model, as in `nnx.Dropout`, are seeded anew in every step
    from the key of the step: the `i`-th of them, in the order of their paths, with
    `jax.random.fold_in(key, i)`.

    Args:
      model: Function from `nnx.Rngs` to a `flax.nnx.Module`, such as `lambda rngs: MLP(64, 10,
        rngs=rngs)`. The same function again shares its compiled program.
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
      wrt: An NNX filter of the variables to train; by default `nnx.Param`. `nnx.LoRAParam` trains
        adapters alone.

    Returns:
      A `lrax.Task`, stateful if the model has other variables than those.

    Raises:
      ImportError: without Flax, an extra: `pip install "lrax[flax]"`.
      ValueError: if `inputs` is not in a batch, there is no data to evaluate on, or nothing to
        train.
      TypeError: if an argument is not as described.

    Example:
      >>> from flax import nnx
      >>> data = {"inputs": np.eye(4, dtype=np.float32), "targets": np.arange(4)}
      >>> task = lrax.tasks.from_nnx(
      ...     lambda rngs: nnx.Linear(4, 4, rngs=rngs),
      ...     loss=lambda logits, batch: optax.losses.softmax_cross_entropy_with_integer_labels(
      ...         logits, batch["targets"]
      ...     ).mean(),
      ...     batch=lrax.minibatches(data, size=2),
      ...     held_out=data,
      ... )
      >>> lrax.sweep(task, optax.sgd, [0.01, 0.1, 1.0], steps=50, objective="val_loss")
      SweepResult(3 points x 1 seeds x 50 steps; best learning_rate=1)
    """
    nnx = _require.extra("flax.nnx", "flax")
    if not callable(model) or isinstance(model, nnx.Module):
        raise TypeError(
            f"`model` must be a function from nnx.Rngs to a flax.nnx.Module, got a {type(model).__name__}"
        )
    models.check(loss, held_out, evaluate)
    calls = models.calls(inputs, training, evaluation)
    filters = (nnx.Param if wrt is None else wrt, nnx.RngState, nnx.Intermediate, ...)
    graphs = []

    def variables() -> Any:
        built = model(nnx.Rngs(jax.random.key(0)))
        if not isinstance(built, nnx.Module):
            raise TypeError(f"`model` must return a flax.nnx.Module, got a {type(built).__name__}")
        graph, *states = nnx.split(built, *filters)
        graphs.append(graph)
        return states

    params, streams, _, others = jax.eval_shape(variables)
    if not jax.tree.leaves(params):
        raise ValueError(
            f"`model` must have variables of the kind `wrt` to train, got none of {filters[0]}"
        )
    stateful = bool(jax.tree.leaves(others))
    static = models.Static(
        (graphs[0], filters, models.Static(_description(streams)), calls, stateful)
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


def _description(streams: Any) -> Any:
    """Structure of the streams' variables; for each its shape, and its dtype or `None` for keys."""
    leaves, structure = jax.tree.flatten(streams)
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return structure, tuple((leaf.shape, None if is_key(leaf) else leaf.dtype) for leaf in leaves)


def _seeded(description: Any, key: jax.Array) -> Any:
    """The streams' variables: keys of their own for each, and counts of zero."""
    structure, leaves = description
    values, streams = [], 0
    for shape, dtype in leaves:
        if dtype is None:
            own = jax.random.fold_in(key, streams)
            values.append(jax.random.split(own, shape) if shape else own)
            streams += 1
        else:
            values.append(jnp.zeros(shape, dtype))
    return jax.tree.unflatten(structure, values)


def _init(static: models.Static, build: Any, key: jax.Array) -> Any:
    from flax import nnx

    _, filters, _, _, stateful = static.value
    _, params, _, _, others = nnx.split(build(nnx.Rngs(key)), *filters)
    return (params, others) if stateful else params


def _merged(static: models.Static, params: Any, state: Any, key: jax.Array) -> Any:
    """A model of its own for each trace: nothing that it changes in itself reaches another."""
    from flax import nnx

    graph, _, streams, _, _ = static.value
    # New variables: those of the caller belong to another trace, and NNX lets no other change them.
    params, state = jax.tree.map(lambda leaf: leaf, (params, state))
    return nnx.merge(
        graph, params, _seeded(streams.value, key), *(() if state is None else (state,))
    )


def _forward(
    static: models.Static, params: Any, state: Any, batch: Any, key: jax.Array, *, training: bool
) -> tuple[Any, Any]:
    from flax import nnx

    _, filters, _, calls, _ = static.value
    model = _merged(static, params, state, key)
    model.train() if training else model.eval()
    outputs = model(*calls.take(batch), **dict(calls.training if training else calls.evaluation))
    return outputs, None if state is None else nnx.split(model, *filters)[-1]
