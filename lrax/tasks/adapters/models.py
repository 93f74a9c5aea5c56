"""What the adapters of `lrax.tasks.from_linen`, `from_nnx` and `from_equinox` share: how a batch meets a model."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import Partial

from ...training.batches import Minibatches
from ...training.task import Task


@jax.tree_util.register_static
class Static:
    """A value that is no data: a pytree without leaves.

    Two are equal, and share a compiled program, if their values are; a value without a hash is
    equal to itself alone.
    """

    def __init__(self, value: Any):
        self.value = value
        try:
            self._hash = hash(value)
        except TypeError:
            self._hash = None

    def __hash__(self) -> int:
        return id(self.value) if self._hash is None else self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return NotImplemented
        if self._hash is None or self._hash != other._hash:
            return self.value is other.value
        return self.value == other.value


@dataclasses.dataclass(frozen=True)
class Calls:
    """How a model is called: what it takes of a batch, and its keyword arguments; hashable if they are."""

    inputs: Any
    training: tuple[tuple[str, Any], ...]
    evaluation: tuple[tuple[str, Any], ...]

    def take(self, batch: Any) -> tuple[Any, ...]:
        """The positional arguments of the model, as JAX arrays; several if it takes a tuple of the batch."""
        inputs: Any = self.inputs
        if inputs is None:
            inputs = (
                "inputs"
                if isinstance(batch, Mapping)
                else 0
                if isinstance(batch, (tuple, list))
                else lambda x: x
            )
        try:
            taken = inputs(batch) if callable(inputs) else batch[inputs]
        except (KeyError, IndexError, TypeError) as error:
            if callable(inputs):
                raise
            has = list(batch) if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
            message = f"`inputs` must say what of a batch the model takes: {inputs!r} is not in it; it has {has}"
            raise ValueError(message) from error
        taken = jax.tree.map(jnp.asarray, taken)
        return taken if isinstance(taken, tuple) else (taken,)


def calls(inputs: Any, training: Any, evaluation: Any) -> Calls:
    """Requires a description of how a model is called."""
    if isinstance(inputs, bool) or not (
        inputs is None or isinstance(inputs, (str, int)) or callable(inputs)
    ):
        raise TypeError(
            f"`inputs` must be a key, an index or a function of a batch, got {inputs!r}"
        )
    for name, keywords in (("training", training), ("evaluation", evaluation)):
        if not (keywords is None or isinstance(keywords, Mapping)) or any(
            not isinstance(k, str) for k in keywords or ()
        ):
            raise TypeError(
                f"`{name}` must be a dict of keyword arguments of the model, got {keywords!r}"
            )
    return Calls(inputs, tuple((training or {}).items()), tuple((evaluation or {}).items()))


def check(loss: Any, held_out: Any, evaluate: Any) -> None:
    """Requires functions of the model's outputs, and data for what is evaluated."""
    if not callable(loss):
        raise TypeError(f"`loss` must be a function of (outputs, batch), got {loss!r}")
    if evaluate is not None and not callable(evaluate):
        raise TypeError(
            f"`evaluate` must be a function of (outputs, held_out) or None, got {evaluate!r}"
        )
    if evaluate is not None and held_out is None:
        raise ValueError("`held_out` must be a batch for `evaluate` to work on, got None")


def as_data(batch: Any) -> Any:
    """A batch whose leaves are arrays, so that they enter programs as arguments."""
    return jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), batch
    )


def example(batch: Any, given: Any) -> Any:
    """A batch to initialise a model with: the one given, or the first one of a source."""
    if given is not None:
        return as_data(given)
    if isinstance(batch, Minibatches):
        return jax.tree.map(lambda array: array[: batch.size], batch.arrays)
    if callable(batch):  # its shapes are enough, and abstract: no device is touched
        shapes = jax.eval_shape(lambda: batch(jnp.int32(0), jax.random.key(0)))
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    if isinstance(batch, Iterator) or not isinstance(batch, Iterable):
        raise ValueError(
            f"`example` must be a batch where `batch` can be read but once, as a {type(batch).__name__} can"
        )
    return as_data(next(iter(batch)))


def as_task(
    forward: Callable[..., tuple[Any, Any]],
    static: Static,
    *,
    init: Callable[..., Any],
    loss: Callable[..., Any],
    batch: Any,
    held_out: Any,
    evaluate: Callable[..., Any] | None,
    stateful: bool,
) -> Task:
    """The task of a model.

    Args:
      forward: `forward(static, params, state, batch, key, training=) -> (outputs, state)`, with
        `None` for no state.
      static: What `forward` knows of the model.
      init: The task's.
      loss: Of the outputs and the batch.
      batch: The task's.
      held_out: A batch, or `None`.
      evaluate: Of the outputs on it, or `None`.
      stateful: Whether there is a state.
    """
    return Task(
        init=init,
        loss=Partial(_stateful_loss if stateful else _loss, forward, static, loss),
        batch=batch,
        evaluate=None
        if held_out is None
        else Partial(_evaluate, forward, static, loss, evaluate, as_data(held_out)),
        stateful=stateful,
    )


def _loss(forward: Any, static: Static, loss: Any, params: Any, batch: Any, key: jax.Array) -> Any:
    value, aux = _split(loss(forward(static, params, None, batch, key, training=True)[0], batch))
    return value if aux is None else (value, aux)


def _stateful_loss(
    forward: Any, static: Static, loss: Any, params: Any, state: Any, batch: Any, key: jax.Array
) -> Any:
    outputs, state = forward(static, params, state, batch, key, training=True)
    value, aux = _split(loss(outputs, batch))
    return value, state if aux is None else (state, aux)


def _evaluate(
    forward: Any,
    static: Static,
    loss: Any,
    evaluate: Any,
    held_out: Any,
    params: Any,
    state: Any = None,
) -> dict[str, Any]:
    """The user's metrics; by default the loss and the scalars of its `aux`, with `val_` before."""
    outputs, _ = forward(static, params, state, held_out, jax.random.key(0), training=False)
    if evaluate is not None:
        return evaluate(outputs, held_out)
    value, aux = _split(loss(outputs, held_out))
    scalars = aux if isinstance(aux, Mapping) else {}
    return {"val_loss": value} | {
        f"val_{name}": x for name, x in scalars.items() if jnp.ndim(x) == 0
    }


def _split(output: Any) -> tuple[Any, Any]:
    """The scalar of a loss and its `aux`, or `None`."""
    return output if isinstance(output, tuple) and len(output) == 2 else (output, None)
