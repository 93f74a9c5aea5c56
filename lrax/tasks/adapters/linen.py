"""Flax Linen models as tasks."""

import dataclasses
import inspect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from ... import _require
from ...training.batches import Batch, Minibatches
from ...training.streams import is_source
from ...training.task import Batches, Task
from .calls import Calls, Inputs, Keywords, calls
from .models import Evaluate, Loss, Outputs, Params, Recipe, State, data


def from_linen(
    model: Any,
    loss: Loss,
    batch: Batches,
    *,
    inputs: Inputs = None,
    held_out: Batch | Minibatches | None = None,
    evaluate: Evaluate | None = None,
    training: Keywords | None = None,
    evaluation: Keywords | None = None,
    rngs: Sequence[str] = ("dropout",),
    example: Any = None,
) -> Task:
    """A task that trains a Flax Linen model.

    Use it with any `flax.linen.Module`. `task.init(key)` is `model.init(key, *inputs, **training)`.
    The collection `"params"` is trained. The other collections, such as the `"batch_stats"` of
    batch norm, are the state of a stateful task. So `model.apply({"params": params, **state}, x)`
    applies the result of a sweep. Tasks of equal models and the same functions share one compiled
    program.

    Args:
      model: The `flax.linen.Module`; its fields are static.
      loss: `loss(outputs, batch) -> scalar`, or `(scalar, aux)` as in the loss of a `lrax.Task`.
      batch: The batches, in any form that the `batch` of a `lrax.Task` may have.
      inputs: Which part of a batch the model takes: a key, an index, or a function of the batch.
        The entries of a tuple are passed as separate arguments. By default the model takes
        `"inputs"` of a dict, the first entry of a tuple or list, and the whole of any other batch.
      held_out: Held-out data: one batch, which the model sees whole, or `lrax.minibatches(arrays,
        size=...)`. The latter is evaluated in batches, in order and without a transform; use it if
        the whole does not fit the device's memory. With `None` there is no evaluation.
      evaluate: `evaluate(outputs, batch) -> {name: scalar}` on held-out data, or
        `evaluate(outputs, batch, key)`. The names are those of the metrics. By default the loss is
        the metric `"val_loss"`, and each scalar of its `aux` is a metric with `val_` before its
        name: `aux["accuracy"]` is `"accuracy"` in the records of training and `"val_accuracy"`
        here. With several batches, each metric is the mean over the batches, weighted by the number
        of examples. That is right for means such as a loss or an accuracy, but not for other
        metrics, such as an AUC or a perplexity.
      training: Keyword arguments of the model in training, such as `{"train": True}`.
      evaluation: Keyword arguments of the model in evaluation, such as `{"train": False}`.
      rngs: Names of the streams of random numbers that the model draws from. A single stream gets
        the key of the step. Of several streams, the `i`-th gets `jax.random.fold_in(key, i)`. In
        evaluation `jax.random.key(0)` takes the place of the step's key.
      example: A batch for `model.init`; by default the first batch.

    Returns:
      A `lrax.Task`, stateful if the model has collections besides `"params"`.

    Raises:
      ImportError: without Flax, the extra `lrax[flax]`.
      ValueError: if `inputs` is not in a batch, there is no data to evaluate on, or `batch` can be
        read only once and there is no `example`.
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
            f"`model` must be a flax.linen.Module, got {type(model).__name__};"
            " see `from_nnx` for models of flax.nnx"
        )
    recipe = Recipe(loss, batch, calls(inputs, training, evaluation), held_out, evaluate)
    if not isinstance(rngs, (tuple, list)) or not all(isinstance(name, str) for name in rngs):
        raise TypeError(f"`rngs` must be a list of names, got {rngs!r}")
    recipe.calls.check(type(model).__call__)
    first = first_batch(batch) if example is None else data("example", example)
    adapted = _Model(model, recipe.calls, tuple(rngs), stateful=False)
    try:
        # Only shapes are computed: no device is used, and a traced function may build a task.
        shapes = jax.eval_shape(lambda: adapted.variables(first, jax.random.key(0)))
    except ValueError as error:
        if example is None:
            raise
        raise ValueError(f"`example` must be a batch that the model takes: {error}") from error
    if "params" not in shapes:
        raise ValueError(
            f"`model` must have parameters to train, got the collections {list(shapes)}"
        )
    adapted = dataclasses.replace(adapted, stateful=len(shapes) > 1)
    return recipe.task(adapted, first)


@dataclasses.dataclass(frozen=True)
class _Model:
    """A Linen model."""

    module: Any  # linen.Module
    calls: Calls
    rngs: tuple[str, ...]
    stateful: bool

    def init(self, source: Batch, key: jax.Array) -> Any:
        """The parameters of a new model for batches such as `source`, and its other collections."""
        variables = self.variables(source, key)
        params = variables.pop("params")
        return (params, variables) if self.stateful else params

    def variables(self, first: Batch, key: jax.Array) -> dict[str, Any]:
        """All collections of a new model."""
        arguments, keywords = self.calls.arguments(first), self.calls.keywords(training=True)
        return dict(self.module.init(key, *arguments, **keywords))

    def forward(
        self, params: Params, state: State, batch: Batch, key: jax.Array, *, training: bool
    ) -> tuple[Outputs, State]:
        """Applies the module. In training, collections other than the parameters may change."""
        variables = {"params": params, **(state or {})}
        arguments = self.calls.arguments(batch)
        keywords = {**self.calls.keywords(training=training), "rngs": self._keys(key)}
        if state is None or not training:
            return self.module.apply(variables, *arguments, **keywords), state
        outputs, changed = self.module.apply(variables, *arguments, mutable=list(state), **keywords)
        return outputs, {**state, **changed}

    def _keys(self, key: jax.Array) -> dict[str, jax.Array]:
        if len(self.rngs) == 1:
            return {self.rngs[0]: key}
        return {name: jax.random.fold_in(key, i) for i, name in enumerate(self.rngs)}


def first_batch(batch: Batches) -> Batch:
    """A batch with the shapes of a source's batches; its values may be zeros.

    A Linen model is initialized by a call on a batch, for which the shapes and dtypes are enough.
    """
    if isinstance(batch, Minibatches):
        return jax.tree.map(lambda array: array[: batch.size], batch.arrays)
    if inspect.isgeneratorfunction(batch) and is_source(batch):
        batch = list(itertools.islice(batch(), 1))  # the run's own call starts anew
    if callable(batch):  # shapes are enough, and need no device
        shapes = jax.eval_shape(lambda: batch(jnp.int32(0), jax.random.key(0)))
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    # A batch that is read from an iterator here would be missing in the run.
    if isinstance(batch, Iterator) or not isinstance(batch, Iterable):
        raise ValueError(
            "`example` must be a batch where `batch` can be read only once, as a"
            f" {type(batch).__name__} can"
        )
    for first in batch:
        return data("batch", first)
    raise ValueError("`batch` must have at least one batch, got none")
