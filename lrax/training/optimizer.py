"""Optimizers as users give them: functions from hyperparameters to an Optax transformation."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax

Optimizer = Callable[..., optax.GradientTransformation]


def first_parameter(optimizer: Optimizer) -> str:
    """The name of the optimizer's first parameter, its learning rate."""
    known = parameters(optimizer).items()
    names = [name for name, parameter in known if parameter.kind is not parameter.VAR_KEYWORD]
    if not names:
        raise TypeError(f"`optimizer` must take at least one named parameter, got {optimizer!r}")
    return names[0]


def transformation(
    optimizer: Optimizer, hyperparams: Mapping[str, Any]
) -> optax.GradientTransformationExtraArgs:
    """The transformation that an optimizer returns for the hyperparameters that it takes."""
    found = optimizer(**taken(optimizer, hyperparams))
    if not all(callable(getattr(found, name, None)) for name in ("init", "update")):
        raise TypeError(f"`optimizer` must return an optax.GradientTransformation, got {found!r}")
    return optax.with_extra_args_support(found)


def taken(function: Callable[..., Any], hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that a function has parameters for.

    A function with `**kwargs`, or without a readable signature, gets all of them.
    """
    names = parameters(function)
    if not names or any(p.kind is p.VAR_KEYWORD for p in names.values()):
        return dict(hyperparams)
    return {name: value for name, value in hyperparams.items() if name in names}


def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function, without `*args`; none if its signature cannot be read."""
    if not callable(function):
        raise TypeError(
            "`optimizer` must be a function from hyperparameters to an"
            f" optax.GradientTransformation, such as `optax.adam`, got {type(function).__name__};"
            " not `optax.adam(1e-3)`, whose rate can no longer be swept"
        )
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):  # unknown: wrong names are left to the function's own errors
        return {}
    return {name: p for name, p in found.items() if p.kind is not p.VAR_POSITIONAL}
