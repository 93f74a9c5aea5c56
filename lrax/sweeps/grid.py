"""Grids: which hyperparameters a sweep tries."""

import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _require


def log_grid(low: float, high: float, n: int) -> np.ndarray:
    r"""Rates at equal ratios from `low` to `high`, both included.

    $$\eta_i = \text{low} \cdot (\text{high} / \text{low})^{i / (n - 1)}$$

    Use it for every quantity whose order of magnitude is in question; four to ten rates per decade.

    Args:
      low: Smallest rate, above 0.
      high: Largest rate, at least `low`.
      n: How many, at least 1; with 1 it is `low`.

    Returns:
      NumPy array of shape `[n]`, ascending.

    Raises:
      ValueError: if a bound is not positive and finite, they are in the wrong order, or `n` is below 1.
      TypeError: if `n` is not an int.

    Example:
      >>> lrax.log_grid(1e-3, 1e-1, 5)
      array([0.001     , 0.00316228, 0.01      , 0.03162278, 0.1       ])
    """
    n = _require.count("n", n, 1)
    bounds = _require.real(low=low, high=high)
    _require.positive(bounds, "low", "high")
    _require.at_most("`low` must be at most `high`", low, high)
    return np.geomspace(low, high, n)


def as_points(grid: Mapping[str, ArrayLike] | ArrayLike, optimizer: Callable[..., Any]) -> dict[str, np.ndarray]:
    """The points of a grid: for every hyperparameter its value at each point, in the order of the product.

    A bare array of values is for the first parameter of the optimizer, its learning rate.
    """
    parameters = _parameters(optimizer)
    if not isinstance(grid, Mapping):
        if not parameters:
            raise TypeError("`grid` must be {name: values} for an optimizer without named parameters, got values alone")
        grid = {next(iter(parameters)): grid}
    if not grid:
        raise ValueError("`grid` must name at least one hyperparameter, got {}")
    axes = {name: _axis(name, values) for name, values in grid.items()}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [name for name in axes if name not in parameters]
    if unknown and parameters and not takes_any:
        raise ValueError(f"`grid` must name parameters of the optimizer, which are {list(parameters)}, got {unknown}")
    needed = [name for name, p in parameters.items() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD,)]
    missing = [name for name in needed if name not in axes]
    if missing:
        raise ValueError(
            f"`grid` must give values to every parameter of the optimizer without a default, not {missing}"
        )
    product = np.array(list(itertools.product(*axes.values())))
    return {name: product[:, i] for i, name in enumerate(axes)}


def first_parameter(optimizer: Callable[..., Any]) -> str:
    """The name of the optimizer's first parameter, its learning rate."""
    names = list(_parameters(optimizer))
    if not names:
        raise TypeError(f"`optimizer` must take at least one named parameter, got {optimizer!r}")
    return names[0]


def _parameters(optimizer: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    if not callable(optimizer):
        raise TypeError(
            "`optimizer` must be a function from hyperparameters to an optax.GradientTransformation, such as"
            f" `optax.adam`, got {type(optimizer).__name__}; not `optax.adam(1e-3)`, whose rate can no longer be swept"
        )
    try:
        parameters = inspect.signature(optimizer).parameters
    except (TypeError, ValueError):  # a callable without a readable signature: its own errors will do
        return {}
    return {name: p for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL}


def _axis(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"`grid[{name!r}]` must hold real numbers, got {values!r}")
    array = np.atleast_1d(array).astype(np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`grid[{name!r}]` must be a number or a list of them, got shape {array.shape}")
    return array  # NaN and infinity may be tried: a lane that diverges is data
