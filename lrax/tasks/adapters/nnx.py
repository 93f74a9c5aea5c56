"""Flax NNX models as tasks."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax import numpy as jnp

from ... import _require
from ...training.batches import Batch, Minibatches
from ...training.task import Batches, Task
from .calls import Calls, Inputs, Keywords, calls
from .models import Evaluate, Loss, Outputs, Params, Recipe, State


def from_nnx(
    model: Callable[[Any], Any],
    loss: Loss,
    batch: Batches,
    *,
    inputs: Inputs = None,
    held_out: Batch | Minibatches | None = None,
    evaluate: Evaluate | None = None,
    training: Keywords | None = None,
    evaluation: Keywords | None = None,
    wrt: Any = None,
) -> Task:
    """A task that trains a Flax NNX model.

    Use it with any `flax.nnx.Module`. A run starts from `model(nnx.Rngs(key))`. The variables that
    `wrt` selects are trained, as one `nnx.State`. The other variables, such as the `nnx.BatchStat`
    of batch norm, are the state of a stateful task. So `nnx.update(model(nnx.Rngs(0)), params,
    state)` puts the result of a sweep into a model. `model.train()` and `model.eval()` switch the
    model between training and evaluation.

    Streams of random numbers inside the model, as in `nnx.Dropout`, get new keys in every step,
    from the key of the step. The `i`-th stream, in the order of their paths, gets
    `jax.random.fold_in(key, i)`.

    Args:
      model: Function from `nnx.Rngs` to a `flax.nnx.Module`, such as `lambda rngs: MLP(64, 10,
        rngs=rngs)`. Tasks of the same function object share a compiled program.
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
      training: Keyword arguments of the model in training, in addition to its mode.
      evaluation: Keyword arguments of the model in evaluation, in addition to its mode.
      wrt: An NNX filter of the variables to train; by default `nnx.Param`. `nnx.LoRAParam` trains
        adapters only.

    Returns:
      A `lrax.Task`, stateful if the model has variables that `wrt` does not select.

    Raises:
      ImportError: without Flax, the extra `lrax[flax]`.
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
            "`model` must be a function from nnx.Rngs to a flax.nnx.Module,"
            f" got {type(model).__name__}"
        )
    recipe = Recipe(loss, batch, calls(inputs, training, evaluation), held_out, evaluate)
    filters = (_filter(wrt), nnx.RngState, nnx.Intermediate, ...)
    # `eval_shape` returns only the shapes of variables. The graph is passed out by this list.
    found = []

    def variables() -> Any:
        built = model(nnx.Rngs(jax.random.key(0)))
        if not isinstance(built, nnx.Module):
            raise TypeError(f"`model` must return a flax.nnx.Module, got {type(built).__name__}")
        recipe.calls.check(type(built).__call__)
        graph, *states = nnx.split(built, *filters)
        found.append(graph)
        return states

    # Only shapes are computed: no device is used, and a traced function may build a task.
    params, streams, _, others = jax.eval_shape(variables)
    if not jax.tree.leaves(params):
        raise ValueError(
            f"`wrt` must select variables of `model` to train, got none of {filters[0]}"
        )
    unfit = {str(leaf.dtype) for leaf in jax.tree.leaves(params) if not _trains(leaf)}
    if unfit:
        raise ValueError(
            f"`wrt` must select floating-point variables, got dtypes {', '.join(sorted(unfit))}"
        )
    stateful = bool(jax.tree.leaves(others))
    adapted = _Model(found[0], filters, Streams.of(streams), recipe.calls, stateful)
    return recipe.task(adapted, model)


@dataclasses.dataclass(frozen=True)
class _Model:
    """An NNX model without its variables."""

    graph: Any  # nnx.GraphDef
    filters: tuple[Any, ...]  # for parameters, streams, intermediates (dropped), and the state
    streams: "Streams"
    calls: Calls
    stateful: bool

    def init(self, source: Callable[[Any], Any], key: jax.Array) -> Any:
        """The variables of a new model."""
        from flax import nnx

        _, params, _, _, others = nnx.split(source(nnx.Rngs(key)), *self.filters)
        return (params, others) if self.stateful else params

    def forward(
        self, params: Params, state: State, batch: Batch, key: jax.Array, *, training: bool
    ) -> tuple[Outputs, State]:
        """Calls a model made for this call, so that changes of its variables stay in this trace."""
        from flax import nnx

        # `jax.tree.map` copies the variables. Those of the caller may belong to another trace, and
        # NNX lets a trace change only its own variables.
        variables = jax.tree.map(lambda leaf: leaf, (params, *([state] if self.stateful else [])))
        model = nnx.merge(self.graph, *variables, self.streams.seeded(key))
        model.train() if training else model.eval()
        outputs = model(*self.calls.arguments(batch), **self.calls.keywords(training=training))
        return outputs, nnx.split(model, *self.filters)[-1] if self.stateful else None


@dataclasses.dataclass(frozen=True)
class Streams:
    """The variables of a model's streams of random numbers: keys and counts.

    Attributes:
      structure: The structure of their pytree.
      leaves: For each count its shape and dtype; for each key its shape and None.
    """

    structure: Any  # jax.tree_util.PyTreeDef
    leaves: tuple[tuple[tuple[int, ...], Any], ...]

    @classmethod
    def of(cls, variables: Any) -> "Streams":
        """The streams of a model, from the shapes and dtypes of their variables."""
        leaves, structure = jax.tree.flatten(variables)
        is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        shapes = ((leaf.shape, None if is_key(leaf) else leaf.dtype) for leaf in leaves)
        return cls(structure, tuple(shapes))

    def seeded(self, key: jax.Array) -> Any:
        """New variables: a different key for each stream, and counts of zero."""
        values, streams = [], 0
        for shape, dtype in self.leaves:
            if dtype is None:
                own = jax.random.fold_in(key, streams)
                values.append(jax.random.split(own, shape) if shape else own)
                streams += 1
            else:
                values.append(jnp.zeros(shape, dtype))
        return jax.tree.unflatten(self.structure, values)


def _filter(wrt: Any) -> Any:
    """Requires an NNX filter. A list becomes a tuple, which is hashable if its entries are."""
    from flax import nnx

    if wrt is None:
        return nnx.Param
    # Both filters select everything, also the streams of random numbers, which cannot be trained.
    if wrt is True or wrt is ...:
        raise ValueError(f"`wrt` must select the variables to train, not all, got {wrt!r}")
    try:
        nnx.filterlib.to_predicate(wrt)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`wrt` must be an NNX filter such as nnx.Param, got {wrt!r}") from error
    return tuple(wrt) if isinstance(wrt, list) else wrt


def _trains(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
