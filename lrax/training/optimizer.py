"""What a user calls an optimizer: a function from hyperparameters to a transformation."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def first_parameter(optimizer: Callable[..., Any]) -> str:
    """The name of the optimizer's first parameter, its learning rate."""
    names = list(parameters(optimizer))
    if not names:
        raise TypeError(f"`optimizer` must take at least one named parameter, got {optimizer!r}")
    return names[0]


def parameters(optimizer: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters that it takes by name; none where its signature cannot be read."""
    if not callable(optimizer):
        raise TypeError(
            "`optimizer` must be a function from hyperparameters to an optax.GradientTransformation, such as"
            f" `optax.adam`, got {type(optimizer).__name__}; not `optax.adam(1e-3)`, whose rate can no longer be swept"
        )
    try:
        parameters = inspect.signature(optimizer).parameters
    except (
        TypeError,
        ValueError,
    ):  # a callable without a readable signature: its own errors will do
        return {}
    return {name: p for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL}
