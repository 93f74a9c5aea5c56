"""Equinox models as tasks."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax

from ... import _require
from ...training.batches import Batch, Minibatches
from ...training.task import Batches, Task
from .calls import Calls, Inputs, Keywords, calls
from .models import Evaluate, Loss, Outputs, Params, Recipe, State


def from_equinox(
    model: Callable[[jax.Array], Any],
    loss: Loss,
    batch: Batches,
    *,
    inputs: Inputs = None,
    held_out: Batch | Minibatches | None = None,
    evaluate: Evaluate | None = None,
    training: Keywords | None = None,
    evaluation: Keywords | None = None,
    batched: bool = False,
    axis_name: str = "batch",
) -> Task:
    """A task that trains an Equinox model.

    Use it with any `equinox.Module`. A run starts from `model(key)`, and the floating-point and
    complex arrays of that module are trained. So `equinox.combine(params, module)` is the model
    with the parameters that a sweep has found, where `module` is `model(key)`, or its first entry
    if that is `(module, state)`. `equinox.nn.inference_mode` switches the model between training
    and evaluation.

    The task is stateful if the model has other arrays, or if `model` returns
    `equinox.nn.make_with_state(...)`. Its state is then `{"arrays": ..., "state": ...}`: the other
    arrays, and the `State`.

    Args:
      model: Function from a key to an `equinox.Module`, or to `(module, state)`, such as
        `lambda key: eqx.nn.MLP(64, 10, 32, 2, key=key)`. Tasks of the same function object
        share a compiled program.
      loss: `loss(outputs, batch) -> scalar`, or `(scalar, aux)` as in the loss of a `lrax.Task`.
      batch: The batches, in any form that the `batch` of a `lrax.Task` may have.
      inputs: Which part of a batch the model takes: a key, an index, or a function of the batch.
        If the part is a tuple, its entries are passed as separate arguments. By default the model
        takes `"inputs"` of a dict, the first entry of a tuple or list, and the whole of any other
        batch.
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
      batched: Whether the model takes whole batches. Otherwise it takes one example, as Equinox's
        layers do, and is mapped by `jax.vmap`. If the model has an argument `key`, it gets the key
        of the step, or, if it is mapped, a key of its own for each example, by
        `jax.random.split(key, examples)`. In evaluation `jax.random.key(0)` takes the place of the
        step's key.
      axis_name: Name of the batch axis, for layers that reduce over it, such as batch norm. It is
        used if `jax.vmap` maps the model.

    Returns:
      A `lrax.Task`, stateful if the model has a state or arrays that are not trained.

    Raises:
      ImportError: without Equinox, the extra `lrax[equinox]`.
      ValueError: if `inputs` is not in a batch, `evaluate` is given without `held_out`, or there
        is nothing to train.
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
            "`model` must be a function from a key to an equinox.Module,"
            f" got {type(model).__name__}"
        )
    recipe = Recipe(loss, batch, calls(inputs, training, evaluation), held_out, evaluate)
    _require.flag("batched", batched)
    if not isinstance(axis_name, str):
        raise TypeError(f"`axis_name` must be a str, got {axis_name!r}")
    # `eval_shape` returns only the shapes of arrays. The rest of the module is passed out by this
    # list.
    found = []

    def arrays() -> Any:
        parts = _parts(model(jax.random.key(0)))
        found.append(parts.static)
        return parts.params, parts.others, parts.state

    # Only shapes are computed: no device is used, and a task can be built while JAX is tracing.
    params, others, state = jax.eval_shape(arrays)
    if not jax.tree.leaves(params):
        raise ValueError("`model` must have floating-point arrays to train, got none")
    call = type(found[0]).__call__
    recipe.calls.check(call)
    # Leaves that are not arrays, such as activation functions, are kept beside the structure. As a
    # tuple they can be compared and hashed.
    leaves, structure = jax.tree.flatten(found[0])
    adapted = _Model(
        structure,
        tuple(leaves),
        recipe.calls,
        with_key=_takes_key(call, recipe.calls),
        with_state=state is not None,
        axis_name=None if batched else axis_name,
        stateful=bool(jax.tree.leaves((others, state))),
    )
    return recipe.task(adapted, model)


@dataclasses.dataclass(frozen=True)
class _Model:
    """An Equinox model without its arrays."""

    structure: Any  # jax.tree_util.PyTreeDef
    leaves: tuple[Any, ...]  # the leaves that are no arrays
    calls: Calls
    with_key: bool
    with_state: bool
    axis_name: str | None  # None for a model of whole batches
    stateful: bool

    def init(self, source: Callable[[jax.Array], Any], key: jax.Array) -> Any:
        """The arrays of a new model."""
        parts = _parts(source(key))
        if not self.stateful:
            return parts.params
        # A weakly typed counter would have another type after its first update. But the loop of a
        # run requires that the types of the state stay the same.
        strong = lambda leaf: lax.convert_element_type(leaf, leaf.dtype)
        return parts.params, {"arrays": parts.others, "state": jax.tree.map(strong, parts.state)}

    def forward(
        self, params: Params, state: State, batch: Batch, key: jax.Array, *, training: bool
    ) -> tuple[Outputs, State]:
        """Calls the module, mapped by `jax.vmap` if it takes one example."""
        import equinox

        others, held = (state["arrays"], state["state"]) if self.stateful else (None, None)
        static = jax.tree.unflatten(self.structure, self.leaves)
        module = equinox.combine(params, static, *([] if others is None else [others]))
        module = equinox.nn.inference_mode(module, value=not training)
        # A `State` of Equinox is invalid once it has been updated. But a line search calls the loss
        # several times with the same one, so each call gets a copy.
        held = jax.tree.map(lambda leaf: leaf, held)
        keywords = self.calls.keywords(training=training)
        arguments = self.calls.arguments(batch)

        def call(arguments: tuple[Any, ...], key: Any, held: Any) -> tuple[Outputs, Any]:
            own = {**keywords, "key": key} if self.with_key else keywords
            if self.with_state:
                return module(*arguments, held, **own)
            return module(*arguments, **own), None

        if self.axis_name is None:
            outputs, held = call(arguments, key, held)
        else:
            examples = len(jax.tree.leaves(arguments)[0])
            # Without keys, None is mapped: a pytree without leaves.
            keys = jax.random.split(key, examples) if self.with_key else None
            # The state has no batch axis: layers reduce over that axis by its name to update it.
            mapped = jax.vmap(
                call, in_axes=(0, 0, None), out_axes=(0, None), axis_name=self.axis_name
            )
            outputs, held = mapped(arguments, keys, held)
        return outputs, {"arrays": others, "state": held} if self.stateful else None


class _Parts(NamedTuple):
    """The parts of what `model` returned."""

    params: Params
    others: Any  # arrays that are not trained
    static: Any  # leaves that are not arrays
    state: Any  # an equinox.nn.State, or None


def _parts(built: Any) -> _Parts:
    import equinox

    module, state = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    is_state = state is None or isinstance(state, equinox.nn.State)
    if not isinstance(module, equinox.Module) or not is_state:
        # The type of each entry of a tuple, not of the leaves within an entry.
        got = jax.tree.map(type, built, is_leaf=lambda x: x is not built)
        raise TypeError(
            "`model` must return an equinox.Module or (module, state) with an equinox.nn.State,"
            f" got {got}"
        )
    params, rest = equinox.partition(module, equinox.is_inexact_array)
    others, static = equinox.partition(rest, equinox.is_array)
    return _Parts(params, others, static, state)


def _takes_key(call: Callable[..., Any], described: Calls) -> bool:
    """Whether a model has an argument `key` that no given keyword argument sets."""
    named = {name for name, _ in (*described.training, *described.evaluation)}
    return "key" in inspect.signature(call).parameters and "key" not in named
