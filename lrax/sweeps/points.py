"""Points of a grid that are not a product: listed, quasi-random, random."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import _require
from .best import Choice

Numbers = float | Sequence[float] | np.ndarray
Column = np.ndarray | list[Any]  # numbers, or the choices themselves: one for each point
Bounds = Mapping[str, tuple[float, float]]


class PointList(Mapping[str, Column]):
    """A grid of listed points: `{name: values}` with one value for each point."""

    def __init__(self, columns: Mapping[str, Column]):
        self._columns = dict(columns)

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        rows = len(next(iter(self._columns.values())))
        return f"PointList({rows} of {', '.join(map(self._range, self))})"

    def _range(self, name: str) -> str:
        """The values of one hyperparameter in a few words."""
        values = self._columns[name]
        if isinstance(values, np.ndarray):
            return f"{name}: {values.min():.3g} to {values.max():.3g}"
        # Counted by identity, because some choices, such as dicts, have no hash.
        return f"{name}: {len({id(value) for value in values})} choices"


def points(
    values: Mapping[str, Numbers | Sequence[Choice]] | Iterable[Mapping[str, float | Choice]],
) -> PointList:
    """A grid of exactly these points. A plain dict of lists means the product of its lists instead.

    Use it for a few hand-picked settings, or to try the best points of one sweep again.

    Args:
      values: `{name: values}`, with lists of one length, or a dict for each point. The values of a
        name are all real numbers, or all choices: schedules, functions of the step count, or dicts
        of one structure. In `{name: values}`, a single value without a list holds at all points.

    Returns:
      A `PointList`, which `lrax.sweep` takes as a grid.

    Raises:
      ValueError: if there is no point, values are of different lengths, or points name different
        hyperparameters.
      TypeError: if a value is neither a real number nor a choice, or `values` are neither a dict
        nor dicts.

    Example:
      >>> lrax.points({"learning_rate": [1e-3, 1e-2, 1e-2], "b1": [0.9, 0.9, 0.95]})
      PointList(3 of learning_rate: 0.001 to 0.01, b1: 0.9 to 0.95)
      >>> lrax.points([{"learning_rate": 1e-3, "b1": 0.9}, {"learning_rate": 1e-2, "b1": 0.95}])
      PointList(2 of learning_rate: 0.001 to 0.01, b1: 0.9 to 0.95)
    """
    given: Any = values
    if not isinstance(values, Mapping):
        if isinstance(values, (str, bytes)) or not np.iterable(values):
            raise TypeError(
                f"`values` must be {{name: values}} or a dict for each point, got {values!r}"
            )
        rows = as_rows("values", given)
        given = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    if not given:
        raise ValueError(
            "`values` must be at least one point of at least one hyperparameter, got none"
        )
    columns = {name: _column(name, column) for name, column in given.items()}
    # Only lists must agree in length. A single value is repeated to that length below.
    lengths = {name: len(column) for name, column in columns.items() if _is_list(given[name])}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`values` must all be of the same length, got {lengths}")
    rows = max(lengths.values(), default=1)
    return PointList({name: _repeated(column, rows) for name, column in columns.items()})


def as_rows(name: str, rows: _require.Unchecked) -> list[Mapping[str, Any]]:
    """The points as a list of dicts. Raises unless all of them name the same hyperparameters."""
    rows = list(rows)
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping) or not row:
            raise TypeError(f"`{name}[{i}]` must be a dict of hyperparameters, got {row!r}")
        if set(row) != set(rows[0]):
            raise ValueError(
                f"`{name}[{i}]` must name {list(rows[0])}, as the first point does, got {list(row)}"
            )
    return rows


def _column(name: str, values: _require.Unchecked) -> Column:
    """The values of one hyperparameter: an array of numbers, or a list of choices."""
    several = list(values) if _is_list(values) else [values]
    # `all` is true of an empty list, so that goes on to `axis`, which raises an error.
    if several and all(callable(value) or isinstance(value, Mapping) for value in several):
        return several
    return axis(name, values)


def _is_list(values: _require.Unchecked) -> bool:
    """Whether `values` has one value for each point, and is not a single value for all points."""
    # A dict and a string can be iterated, but each is a single value. A callable is one too, even
    # if it can be iterated.
    if callable(values) or isinstance(values, (Mapping, str, bytes)):
        return False
    return bool(np.iterable(values))


def _repeated(column: Column, rows: int) -> Column:
    """The column with one value for each row; a single value is repeated."""
    if isinstance(column, np.ndarray):
        return np.broadcast_to(column, rows).copy()  # a broadcast view cannot be written to
    return column * rows if len(column) == 1 else column


def sobol(
    bounds: Bounds,
    n: int,
    *,
    log: bool | Mapping[str, bool] | None = None,
    seed: int = 0,
) -> PointList:
    r"""Scrambled Sobol points, spread evenly over the ranges of all hyperparameters at once.

    $$\eta_i = \text{low}^{1 - u_i} \, \text{high}^{u_i} \quad\text{or}\quad
    \text{low} \, (1 - u_i) + \text{high} \, u_i$$

    by ratio or linearly, with the points $u_i$ of Sobol's sequence. Use it for two hyperparameters
    or more: a product of the same number of points tries only a few values of each. A power of two
    as the number of points fills the ranges most evenly; take 16 to 64 for two or three
    hyperparameters. For the learning rate alone `lrax.log_grid` is better.

    Args:
      bounds: `{name: (low, high)}`, finite, with `low` below `high`.
      n: How many points, at least 1.
      log: Whether values are spread by ratio: `True` or `False` for all, or `{name: bool}`. Names
        without an entry, and with `None` all names, are spread by ratio if their bounds are
        positive.
      seed: Seed of the scrambling, at least 0. The same seed gives the same points; fewer points
        are the first of them.

    Returns:
      A `PointList`, which `lrax.sweep` takes as a grid.

    Raises:
      ValueError: if bounds are not finite and in order, or not positive where `log` is true, `n` is
        below 1, or `log` names what `bounds` does not.
      TypeError: if an argument is not as described.

    Example:
      >>> bounds = {"learning_rate": (1e-4, 1e-1), "b1": (0.8, 0.99)}
      >>> grid = lrax.sobol(bounds, 16, log={"b1": False})
      >>> len(grid["learning_rate"])
      16

    Reference:
      Owen, Scrambling Sobol' and Niederreiter-Xing Points (1998); `scipy.stats.qmc.Sobol`.
    """
    from scipy.stats import qmc

    n = _require.count("n", n, 1)
    seed = _require.count("seed", seed, 0, _require.LONG)
    scale = _scale(bounds, log)
    # SciPy 1.15 renamed the argument `seed` to `rng`.
    known = "rng" if "rng" in inspect.signature(qmc.Sobol).parameters else "seed"
    arguments: dict[str, Any] = {known: np.random.default_rng(seed)}
    sequence = qmc.Sobol(len(bounds), scramble=True, **arguments)
    # SciPy warns unless the number of points is a power of two. So the next power of two is drawn,
    # and the points beyond `n` are dropped.
    return scale(sequence.random_base2(max(n - 1, 0).bit_length())[:n])


def random_points(
    bounds: Bounds,
    n: int,
    *,
    log: bool | Mapping[str, bool] | None = None,
    seed: int = 0,
) -> PointList:
    """Random points, drawn independently and uniformly, on a logarithmic or on a linear scale.

    Use it to compare with published results of random search. With the same number of points,
    `lrax.sobol` leaves smaller gaps.

    Args:
      bounds: `{name: (low, high)}`, finite, with `low` below `high`.
      n: How many points, at least 1.
      log: Whether values are spread by ratio: `True` or `False` for all, or `{name: bool}`. Names
        without an entry, and with `None` all names, are spread by ratio if their bounds are
        positive.
      seed: Seed of the draw, at least 0. The same seed gives the same points; fewer points are
        the first of them.

    Returns:
      A `PointList`, which `lrax.sweep` takes as a grid.

    Raises:
      ValueError: if bounds are not finite and in order, or not positive where `log` is true, `n` is
        below 1, or `log` names what `bounds` does not.
      TypeError: if an argument is not as described.

    Example:
      >>> lrax.random_points({"lr": (1e-3, 1e-1), "wd": (0.0, 0.1)}, 3)
      PointList(3 of lr: 0.00121 to 0.0423, wd: 0.00165 to 0.0913)

    Reference:
      Bergstra and Bengio, Random Search for Hyper-Parameter Optimization (2012).
    """
    n = _require.count("n", n, 1)
    seed = _require.count("seed", seed, 0, _require.LONG)
    scale = _scale(bounds, log)
    return scale(np.random.default_rng(seed).random((n, len(bounds))))


def _scale(
    bounds: _require.Unchecked, log: _require.Unchecked
) -> Callable[[np.ndarray], PointList]:
    """The function that maps points of the unit cube, `[points, names]`, into the bounds."""
    if not isinstance(bounds, Mapping) or not bounds:
        raise TypeError(
            f"`bounds` must be {{name: (low, high)}} with at least one name, got {bounds!r}"
        )
    if isinstance(log, Mapping) and (unknown := [name for name in log if name not in bounds]):
        raise ValueError(f"`log` must name what `bounds` does, {list(bounds)}, got {unknown}")
    if not (log is None or isinstance(log, (bool, Mapping))):
        raise TypeError(f"`log` must be a bool or {{name: bool}}, got {log!r}")
    ranges = {}
    for name, pair in bounds.items():
        ends = axis(f"bounds[{name!r}]", pair)
        if ends.shape != (2,) or not np.all(np.isfinite(ends)) or not ends[0] < ends[1]:
            raise ValueError(
                f"`bounds[{name!r}]` must be finite (low, high) with low below high, got {pair!r}"
            )
        by_ratio = log.get(name) if isinstance(log, Mapping) else log
        # Without a `log` for this name, positive bounds are spread by ratio, as suits a rate.
        by_ratio = (
            bool(ends[0] > 0) if by_ratio is None else _require.flag(f"log[{name!r}]", by_ratio)
        )
        if by_ratio and not ends[0] > 0:
            raise ValueError(
                f"`bounds[{name!r}]` must be positive to be spread by ratio, got {pair!r}"
            )
        ranges[name] = (*ends, by_ratio)

    def scale(unit: np.ndarray) -> PointList:
        columns = {}
        for (name, (low, high, by_ratio)), u in zip(ranges.items(), unit.T, strict=True):
            # Weighted sums of the ends, not `low + u * (high - low)`: the difference or the ratio
            # of the ends may overflow in float64.
            if by_ratio:
                values = np.exp(np.log(low) * (1 - u) + np.log(high) * u)
            else:
                values = low * (1 - u) + high * u
            columns[name] = np.clip(values, low, high)  # rounding may lead out of the bounds
        return PointList(columns)

    return scale


def axis(name: str, values: _require.Unchecked) -> np.ndarray:
    """The values of one hyperparameter as an array `[values]` of float64."""
    array = _require.as_numbers(values)
    if array is None:
        raise TypeError(f"`{name}` must hold real numbers, got {values!r}")
    array = np.atleast_1d(array).astype(np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`{name}` must be a number or a list of them, got shape {array.shape}")
    _require.held(name, array)
    return array
