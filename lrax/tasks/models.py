"""What the adapters of `lrax.tasks.from_linen`, `from_nnx` and `from_equinox` share: how a batch meets a model."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from .batches import Minibatches


@jax.tree_util.register_static
class Static:
    """A value that is no data: a pytree without leaves.

    Two are equal, and share a compiled program, if their values are; a value without a hash is equal to itself alone.
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
            inputs = "inputs" if isinstance(batch, Mapping) else 0 if isinstance(batch, (tuple, list)) else lambda x: x
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
    if isinstance(inputs, bool) or not (inputs is None or isinstance(inputs, (str, int)) or callable(inputs)):
        raise TypeError(f"`inputs` must be a key, an index or a function of a batch, got {inputs!r}")
    for name, keywords in (("training", training), ("evaluation", evaluation)):
        if not (keywords is None or isinstance(keywords, Mapping)) or any(
            not isinstance(k, str) for k in keywords or ()
        ):
            raise TypeError(f"`{name}` must be a dict of keyword arguments of the model, got {keywords!r}")
    return Calls(inputs, tuple((training or {}).items()), tuple((evaluation or {}).items()))


def check(loss: Any, held_out: Any, evaluate: Any) -> None:
    """Requires functions of the model's outputs, and data for what is evaluated."""
    if not callable(loss):
        raise TypeError(f"`loss` must be a function of (outputs, batch), got {loss!r}")
    if evaluate is not None and not callable(evaluate):
        raise TypeError(f"`evaluate` must be a function of (outputs, held_out) or None, got {evaluate!r}")
    if evaluate is not None and held_out is None:
        raise ValueError("`held_out` must be a batch for `evaluate` to work on, got None")


def as_data(batch: Any) -> Any:
    """A batch whose leaves are arrays, so that they enter programs as arguments."""
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), batch)


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


def loss_and_rest(output: Any, state: Any, *, stateful: bool) -> Any:
    """What the loss of a `Task` returns: the scalar, and behind it the state and the `aux` where there are such."""
    loss, aux = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
    if not stateful:
        return loss if aux is None else (loss, aux)
    return loss, state if aux is None else (state, aux)


def metrics(
    loss: Callable[..., Any], evaluate: Callable[..., Any] | None, outputs: Any, held_out: Any
) -> dict[str, Any]:
    """What `evaluate` says of the outputs on held-out data; by default the loss and its scalars, with `val_` before."""
    if evaluate is not None:
        return evaluate(outputs, held_out)
    value, aux = loss_and_rest(loss(outputs, held_out), None, stateful=True)
    scalars = aux[1] if isinstance(aux, tuple) and isinstance(aux[1], Mapping) else {}
    return {"val_loss": value} | {f"val_{name}": x for name, x in scalars.items() if jnp.ndim(x) == 0}
