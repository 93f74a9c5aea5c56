"""Makes a task from a model of another library: the code that the adapters share."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import Partial

from ...training.batches import Batch, Minibatches, check_batch
from ...training.held_out import Metrics, in_batches
from ...training.task import Task, takes_key
from .calls import Calls

Params = Any
State = Any  # of a stateful model, None otherwise
Outputs = Any
Loss = Callable[[Outputs, Batch], Any]
Evaluate = Callable[..., Mapping[str, Any]]


class Model(Protocol):
    """A model of another library without its arrays."""

    @property
    def stateful(self) -> bool:
        """Whether it has a state."""
        ...

    def init(self, source: Any, key: jax.Array) -> Any:
        """The parameters, or (params, state) of a stateful model.

        Args:
          source: The function that makes a model, or for Linen a batch.
          key: The key of the run's parameters.
        """
        ...

    def forward(
        self, params: Params, state: State, batch: Batch, key: jax.Array, *, training: bool
    ) -> tuple[Outputs, State]:
        """The outputs of a batch, and the new state."""
        ...


@jax.tree_util.register_static
class Static:
    """A pytree without leaves that holds a model.

    If the models of two objects are equal, the objects are equal and share a compiled program. A
    model that cannot be hashed is equal only to itself.
    """

    def __init__(self, model: Model):
        self.model = model
        try:
            self._hash = hash(model)
        except TypeError:
            self._hash = None

    def __hash__(self) -> int:
        return id(self.model) if self._hash is None else self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return NotImplemented
        if self._hash is None or self._hash != other._hash:
            return self.model is other.model
        return self.model == other.model


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The arguments that all adapters have in common, besides the model.

    Attributes:
      loss: A function of the model's outputs and a batch.
      batch: The batches of the task.
      calls: How the model is called.
      held_out: Held-out data, or None.
      evaluate: A function of the model's outputs and a batch of held-out data, or None for the loss
        and its `aux`. It needs `held_out`.
    """

    loss: Loss
    batch: Any
    calls: Calls
    held_out: Batch | Minibatches | None
    evaluate: Evaluate | None

    def __post_init__(self):
        if not callable(self.loss):
            raise TypeError(f"`loss` must be a function of (outputs, batch), got {self.loss!r}")
        check_batch(self.batch)
        if self.held_out is not None:
            data("held_out", self.held_out)
        if not (self.evaluate is None or callable(self.evaluate)):
            raise TypeError(
                "`evaluate` must be a function of (outputs, batch) and optionally a key, or None,"
                f" got {self.evaluate!r}"
            )
        if self.evaluate is not None and self.held_out is None:
            raise ValueError("`held_out` must be a batch for `evaluate` to work on, got None")

    def task(self, model: Model, source: Any) -> Task:
        """The task that trains a model; `source` is the first argument of `model.init`."""
        for known in (self.batch, self.held_out):
            if isinstance(known, Minibatches):
                self.calls.check_batch(known.arrays)
        static = Static(model)
        evaluation = None
        if self.held_out is not None:
            held_out = data("held_out", self.held_out)
            keyed = self.evaluate is not None and takes_key(self.evaluate, 2, "evaluate")
            function = _EVALUATIONS[model.stateful, keyed]
            evaluation = Partial(function, static, self.loss, self.evaluate, held_out)
        return Task(
            init=Partial(_init, static, source),
            loss=Partial(_stateful_loss if model.stateful else _loss, static, self.loss),
            batch=self.batch,
            evaluate=evaluation,
            stateful=model.stateful,
        )


def data(name: str, batch: Any) -> Batch:
    """Requires data of at least one example, and returns it as arrays.

    Arrays become arguments of a compiled program, so they are not constants in it.

    Args:
      name: The name of the caller's argument, for errors.
      batch: A pytree of arrays, or `lrax.minibatches`, whose transform is dropped.
    """
    if isinstance(batch, Minibatches):
        return Minibatches(batch.arrays, None, batch.size, batch.shuffle)
    is_array = lambda leaf: isinstance(leaf, jax.Array)
    try:
        arrays = jax.tree.map(lambda leaf: leaf if is_array(leaf) else np.asarray(leaf), batch)
    except ValueError as error:  # NumPy's, of ragged lists
        raise ValueError(f"`{name}` must be a batch of arrays, got {batch!r}") from error
    leaves = jax.tree.leaves(arrays)
    # Refused kinds: objects, bytes, strings, dates and durations. A JAX key has a dtype without
    # `kind` and is refused too.
    is_number = lambda leaf: getattr(leaf.dtype, "kind", "O") not in "OSUMm"
    if not all(map(is_number, leaves)):
        raise TypeError(
            f"`{name}` must be a batch of numbers or `lrax.minibatches(arrays, size=...)`,"
            f" got {type(batch).__name__}"
        )
    if not any(leaf.ndim and leaf.shape[0] for leaf in leaves):
        raise ValueError(f"`{name}` must be a batch of at least one example, got {batch!r}")
    return arrays


def _init(static: Static, source: Any, key: jax.Array) -> Any:
    return static.model.init(source, key)


def _loss(static: Static, loss: Loss, params: Params, batch: Batch, key: jax.Array) -> Any:
    return loss(static.model.forward(params, None, batch, key, training=True)[0], batch)


def _stateful_loss(
    static: Static, loss: Loss, params: Params, state: State, batch: Batch, key: jax.Array
) -> Any:
    outputs, state = static.model.forward(params, state, batch, key, training=True)
    value, aux = _value_and_aux(loss(outputs, batch))
    return value, state if aux is None else (state, aux)


def _metrics(
    static: Static,
    loss: Loss,
    evaluate: Evaluate | None,
    held_out: Batch | Minibatches,
    params: Params,
    state: State,
    key: jax.Array | None,
) -> Mapping[str, Any]:
    """The metrics of the held-out data, which is one batch or several."""

    def of(batch: Batch, key: jax.Array | None) -> Mapping[str, Any]:
        # Random numbers inside the model, as of dropout, are the same in every evaluation.
        fixed = jax.random.key(0)
        outputs, _ = static.model.forward(params, state, batch, fixed, training=False)
        if evaluate is None:
            return _loss_metrics(loss(outputs, batch))
        return evaluate(outputs, batch) if key is None else evaluate(outputs, batch, key)

    if not isinstance(held_out, Minibatches):
        return of(held_out, key)
    # Each batch has a key of its own.
    own = lambda index: None if key is None else jax.random.fold_in(key, index)
    return in_batches(held_out, lambda batch, index: of(batch, own(index)))


# `Task` reads from the signature of `evaluate` whether it takes a key. So there is one function for
# each combination of state and key. `_metrics` itself has the signature for both.


def _evaluate(
    static: Static, loss: Loss, evaluate: Any, held_out: Any, params: Params
) -> Mapping[str, Any]:
    return _metrics(static, loss, evaluate, held_out, params, None, None)


def _evaluate_with_key(
    static: Static, loss: Loss, evaluate: Any, held_out: Any, params: Params, key: jax.Array
) -> Mapping[str, Any]:
    return _metrics(static, loss, evaluate, held_out, params, None, key)


def _evaluate_stateful(
    static: Static, loss: Loss, evaluate: Any, held_out: Any, params: Params, state: State
) -> Mapping[str, Any]:
    return _metrics(static, loss, evaluate, held_out, params, state, None)


_EVALUATIONS = {
    (False, False): _evaluate,
    (False, True): _evaluate_with_key,
    (True, False): _evaluate_stateful,
    (True, True): _metrics,
}


def _loss_metrics(output: Any) -> Metrics:
    """The loss and the scalars of its `aux`, with `val_` before their names."""
    value, aux = _value_and_aux(output)
    scalars = aux if isinstance(aux, Mapping) else {}
    named = {f"val_{name}": x for name, x in scalars.items() if jnp.ndim(x) == 0}
    # The loss comes last, because `aux["loss"]` would have the same name.
    return {**named, "val_loss": value}


def _value_and_aux(output: Any) -> tuple[Any, Any]:
    """The scalar of a loss, and its `aux` or None."""
    return output if isinstance(output, tuple) and len(output) == 2 else (output, None)
