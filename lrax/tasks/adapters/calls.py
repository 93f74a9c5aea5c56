"""How a model is called: its arguments from a batch, and its keyword arguments."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import numpy as jnp

from ...training.batches import Batch

Inputs = str | int | Callable[[Batch], Any] | None
Keywords = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Calls:
    """How a model is called.

    It is a part of the static model of a task. It is hashable if `inputs` and the values of the
    keyword arguments are.

    Attributes:
      inputs: Which part of a batch the model takes.
      training: Its keyword arguments in training, as pairs.
      evaluation: Its keyword arguments in evaluation, as pairs.
    """

    inputs: Inputs
    training: tuple[tuple[str, Any], ...]
    evaluation: tuple[tuple[str, Any], ...]

    def arguments(self, batch: Batch) -> tuple[Any, ...]:
        """The positional arguments of the model, as JAX arrays."""
        taken = self._inputs(batch)
        taken = jax.tree.map(jnp.asarray, taken)
        return taken if isinstance(taken, tuple) else (taken,)

    def keywords(self, *, training: bool) -> dict[str, Any]:
        """The keyword arguments of the model."""
        return dict(self.training if training else self.evaluation)

    def check_batch(self, batch: Batch) -> None:
        """Requires that a batch has the part that `inputs` names.

        Raises:
          ValueError: if it does not have it.
        """
        # If `inputs` is a function, there is no key to check. The function is not called here,
        # because it would work on all examples of a data set at once, on the device.
        if not callable(self.inputs):
            self._inputs(batch)

    def check(self, call: Callable[..., Any]) -> None:
        """Requires that the method `__call__` of a model takes the keyword arguments.

        Raises:
          TypeError: if it does not take one of them.
        """
        parameters = inspect.signature(call).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return
        for name, keywords in (("training", self.training), ("evaluation", self.evaluation)):
            for keyword, _ in keywords:
                if keyword not in parameters:
                    takes = list(parameters)[1:]  # the first one is the model itself
                    raise TypeError(
                        f"`{name}` must be keyword arguments of the model, which takes {takes},"
                        f" got {keyword!r}"
                    )

    def _inputs(self, batch: Batch) -> Any:
        if callable(self.inputs):
            return self.inputs(batch)
        key: Any = self.inputs
        if key is None:
            if not isinstance(batch, (Mapping, tuple, list)):
                return batch
            key = "inputs" if isinstance(batch, Mapping) else 0
        try:
            return batch[key]
        except (KeyError, IndexError, TypeError) as error:
            has = list(batch) if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
            raise ValueError(
                f"`inputs` must say what of a batch the model takes: {key!r} is not in it;"
                f" it has {has}"
            ) from error


def calls(inputs: Inputs, training: Keywords | None, evaluation: Keywords | None) -> Calls:
    """Checks the arguments of an adapter that say how a model is called, and makes `Calls`."""
    # A bool is an int in Python, but is no index.
    is_key = isinstance(inputs, (str, int)) and not isinstance(inputs, bool)
    if not (inputs is None or is_key or callable(inputs)):
        raise TypeError(
            f"`inputs` must be a key, an index or a function of a batch, got {inputs!r}"
        )
    return Calls(inputs, _items("training", training), _items("evaluation", evaluation))


def _items(name: str, keywords: Keywords | None) -> tuple[tuple[str, Any], ...]:
    if keywords is None:
        return ()
    if not isinstance(keywords, Mapping) or not all(isinstance(key, str) for key in keywords):
        raise TypeError(
            f"`{name}` must be a dict of keyword arguments of the model, got {keywords!r}"
        )
    return tuple(keywords.items())
