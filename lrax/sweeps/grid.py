"""Grids: which hyperparameters a sweep tries."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _require
from ..schedules.schedule import Schedule
from ..training.optimizer import Optimizer, parameters
from ..training.task import Task
from .choices import Choices, Points, as_choices, unique
from .points import PointList, axis

Item = Any  # a value of an axis of choices: a Schedule, a function or another pytree
Values = Sequence[float] | np.ndarray
Axis = float | Values | Schedule | Sequence[Item]
Grid = Mapping[str, Axis] | Values | Schedule


def log_grid(
    low: float, high: float, n: int | None = None, *, per_decade: float | None = None
) -> np.ndarray:
    r"""Rates at equal ratios from `low` to `high`, both included.

    $$\eta_i = \text{low} \cdot (\text{high} / \text{low})^{i / (n - 1)}$$

    Use it for a quantity whose order of magnitude is not known; take four to ten rates per decade.

    Args:
      low: Smallest rate, above 0.
      high: Largest rate, at least `low`.
      n: How many rates, at least 1; a single one is `low`.
      per_decade: In place of `n`: how many steps make a factor of ten, above 0. The number of steps
        from `low` to `high` is rounded to a whole one.

    Returns:
      NumPy array of shape `[n]`, ascending.

    Raises:
      ValueError: if a bound or `per_decade` is not positive and finite, the bounds are in the wrong
        order, or `n` is below 1.
      TypeError: if `n` is not an int, or both or neither of `n` and `per_decade` are given.

    Example:
      >>> lrax.log_grid(1e-3, 1e-1, 5)
      array([0.001     , 0.00316228, 0.01      , 0.03162278, 0.1       ])
      >>> lrax.log_grid(1e-3, 1e-1, per_decade=2)
      array([0.001     , 0.00316228, 0.01      , 0.03162278, 0.1       ])
    """
    low = _require.number("low", low)
    high = _require.number("high", high)
    bounds = {"low": low, "high": high}
    if (n is None) == (per_decade is None):
        raise TypeError(f"either `n` or `per_decade` must be given, got {n!r} and {per_decade!r}")
    if n is not None:
        n = _require.count("n", n, 1)
    _require.positive(bounds, "low", "high")
    _require.at_most("`low` must be at most `high`", low, high)
    if n is None:
        per_decade = _require.number("per_decade", per_decade)
        _require.positive({"per_decade": per_decade}, "per_decade")
        steps = float(np.log10(high / low)) * per_decade
        # One rate more than steps, because both ends are rates.
        n = max(round(steps), 1) + 1 if high > low else 1
    return np.geomspace(low, high, n)


def as_points(
    grid: _require.Unchecked, optimizer: Optimizer, task: _require.Unchecked = None
) -> Points:
    """The points of a grid, in the order of the product: the last name changes fastest.

    Listed points, as `lrax.points` and `lrax.sobol` return them, stay as they are. Values without a
    name are for the optimizer's first parameter, which is its learning rate.

    Args:
      grid: `{name: axis}`, points, or the values of one axis.
      optimizer: The optimizer. Its parameters have the names of the grid.
      task: The task. If it is a function that returns one, names may be parameters of it too.
    """
    if not isinstance(grid, Mapping):
        names = parameters(optimizer)
        if not names:
            raise TypeError(
                "`grid` must be {name: values} for an optimizer without named parameters, got"
                " values alone"
            )
        grid = {next(iter(names)): grid}
    if not grid:
        raise ValueError("`grid` must name at least one hyperparameter, got {}")
    _check_names(list(grid), optimizer, task)
    return product(grid)


def product(grid: Mapping[str, Any]) -> Points:
    """The points of `{name: axis}`: the product of the axes, or `lrax.points` as they are."""
    choices: dict[str, Choices] = {}
    axes: dict[str, np.ndarray] = {}
    for name, values in grid.items():
        # Listed points may share an object. Then it is one choice, stored and labelled once.
        distinct = unique(values) if isinstance(grid, PointList) else None
        found = as_choices(name, values if distinct is None else distinct)
        if found is not None:
            choices[name] = found
            # An axis has each choice once; a list of points has one for each point.
            indices = range(len(found.items))
            if distinct is not None:
                indices = [
                    next(i for i, x in enumerate(distinct) if x is value) for value in values
                ]
            axes[name] = np.array(list(indices), np.float64)
        else:
            axes[name] = axis(f"grid[{name!r}]", values)
    if isinstance(grid, PointList):
        return Points(axes, choices)
    # One row for each point, one column for each name.
    table = np.array(list(itertools.product(*axes.values())))
    return Points({name: table[:, i] for i, name in enumerate(axes)}, choices)


def _check_names(names: list[str], optimizer: Optimizer, task: _require.Unchecked) -> None:
    """Requires that every name is a parameter, and that parameters without a default are named."""
    functions = {"optimizer": parameters(optimizer)}
    if callable(task) and not isinstance(task, Task):
        functions["task's function"] = parameters(task)
    # A function with `**kwargs` takes every name, and so does one whose parameters are not known.
    takes_any = any(
        not known or any(p.kind is p.VAR_KEYWORD for p in known.values())
        for known in functions.values()
    )
    every = [name for known in functions.values() for name in known]
    unknown = [name for name in names if name not in every]
    if unknown and not takes_any:
        whose = " or the ".join(functions)
        raise ValueError(
            f"`grid` must name parameters of the {whose}, which are {every}, got {unknown}"
        )
    # Without these the optimizer or the task could not be built.
    for whose, known in functions.items():
        needed = [
            n for n, p in known.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD
        ]
        missing = [name for name in needed if name not in names]
        if missing:
            raise ValueError(
                f"`grid` must give values to every parameter of the {whose} without a default, not"
                f" {missing}"
            )


def beyond(rates: np.ndarray, edge: str, n: int) -> np.ndarray:
    """The next `n` rates beyond the lowest or the highest one, in ascending order.

    Their ratio is that of the last two rates at this edge.
    """
    rates = np.unique(rates)
    ratio = rates[1] / rates[0] if edge == "low" else rates[-1] / rates[-2]
    if edge == "low":
        return rates[0] / ratio ** np.arange(n, 0, -1)
    return rates[-1] * ratio ** np.arange(1, n + 1)


def between(rates: np.ndarray, low: float, high: float, n: int) -> np.ndarray:
    """`n` new rates in each gap between neighbouring rates that overlaps `[low, high]`, ascending.

    The new rates divide their gap into equal ratios.
    """
    rates = np.unique(rates)
    # The gaps from the last rate at or below `low` to the first one at or above `high`.
    first = max(int(np.searchsorted(rates, low, "right")) - 1, 0)
    last = min(int(np.searchsorted(rates, high, "left")), len(rates) - 1)
    gaps = [np.geomspace(rates[i], rates[i + 1], n + 2)[1:-1] for i in range(first, last)]
    return np.concatenate(gaps)
