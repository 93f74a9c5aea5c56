"""Points of a grid that are no product: listed, quasi-random, random."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _require


class Points(Mapping[str, np.ndarray]):
    """Points that a sweep tries as they are: `{name: values}`, all of one length, of which no product is taken."""

    def __init__(self, columns: Mapping[str, np.ndarray]):
        self._columns = dict(columns)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        rows = len(next(iter(self._columns.values())))
        ranges = (
            f"{name}: {values.min():.3g} to {values.max():.3g}" for name, values in self.items()
        )
        return f"Points({rows} of {', '.join(ranges)})"


def points(values: Mapping[str, ArrayLike] | Iterable[Mapping[str, float]]) -> Points:
    """A grid of these points and no others, where `{name: values}` alone would be the grid of their
    product.

    Use it for a few hand-picked settings, or to try the best points of one sweep again.

    Args:
      values: `{name: values}`, all of the same length, or a dict for each point; real numbers. A
        lone number in `{name: values}` is the same at all points.

    Returns:
      `Points`, which `lrax.sweep` takes as a grid.

    Raises:
      ValueError: if there is no point, values are of different lengths, or points name different
        hyperparameters.
      TypeError: if a value is not a real number, or `values` are neither a dict nor dicts.

    Example:
      >>> lrax.points({"learning_rate": [1e-3, 1e-2, 1e-2], "b1": [0.9, 0.9, 0.95]})
      Points(3 of learning_rate: 0.001 to 0.01, b1: 0.9 to 0.95)
      >>> lrax.points([{"learning_rate": 1e-3, "b1": 0.9}, {"learning_rate": 1e-2, "b1": 0.95}])
      Points(2 of learning_rate: 0.001 to 0.01, b1: 0.9 to 0.95)
    """
    given: Any = values
    if not isinstance(values, Mapping):
        if isinstance(values, (str, bytes)) or not np.iterable(values):
            raise TypeError(
                f"`values` must be {{name: values}} or a dict for each point, got {values!r}"
            )
        rows = list(given)
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise TypeError(f"`values[{i}]` must be a dict of hyperparameters, got {row!r}")
            if set(row) != set(rows[0]):
                raise ValueError(
                    f"`values[{i}]` must name {list(rows[0])}, as the first point does, got {list(row)}"
                )
        given = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    if not given:
        raise ValueError(
            "`values` must be at least one point of at least one hyperparameter, got none"
        )
    columns = {name: axis(name, column) for name, column in given.items()}
    lengths = {name: len(column) for name, column in columns.items() if np.ndim(given[name])}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`values` must all be of the same length, got {lengths}")
    rows = max(lengths.values(), default=1)
    return Points({name: np.broadcast_to(column, rows).copy() for name, column in columns.items()})


def sobol(
    bounds: Mapping[str, tuple[float, float]],
    n: int,
    *,
    log: bool | Mapping[str, bool] | None = None,
    seed: int = 0,
) -> Points:
    r"""Scrambled Sobol points, which fill a box evenly in all hyperparameters at once.

    $$\eta_i = \text{low} \cdot (\text{high} / \text{low})^{u_i} \quad\text{or}\quad \text{low} + (\text{high} -
    \text{low}) \, u_i$$

    with the points $u_i$ of Sobol's sequence. Use it for two hyperparameters or more, where a
    product of as many points would try few values of each; powers of two fill most evenly, 16 to 64
    for two or three. For the learning rate alone `lrax.log_grid` is better.

    Args:
      bounds: `{name: (low, high)}`, finite, with `low` below `high`.
      n: How many points, at least 1.
      log: Whether values are spread by ratio: `True` or `False` for all, or `{name: bool}`. What is
        not said is spread by ratio if its bounds are positive.
      seed: Seed of the scrambling, at least 0; the same one gives the same points, and fewer points
        are its first ones.

    Returns:
      `Points`, which `lrax.sweep` takes as a grid.

    Raises:
      ValueError: if bounds are not finite and in order, or not positive where `log` is true, `n` is
        below 1, or `log` names what `bounds` does not.
      TypeError: if an argument is not as described.

    Example:
      >>> grid = lrax.sobol({"learning_rate": (1e-4, 1e-1), "b1": (0.8, 0.99)}, 16, log={"b1": False})
      >>> len(grid["learning_rate"])
      16

    Reference:
      Owen, Scrambling Sobol' and Niederreiter-Xing Points (1998); `scipy.stats.qmc.Sobol`.
    """
    from scipy.stats import qmc

    n, seed = _require.count("n", n, 1), _require.count("seed", seed, 0)
    scale = _scale(bounds, log)
    # SciPy 1.15 renamed the argument.
    known = "rng" if "rng" in inspect.signature(qmc.Sobol).parameters else "seed"
    arguments: dict[str, Any] = {known: np.random.default_rng(seed)}
    sequence = qmc.Sobol(len(bounds), scramble=True, **arguments)
    return scale(
        sequence.random_base2(max(n - 1, 0).bit_length())[:n]
    )  # a power of two, for else SciPy warns


def random_points(
    bounds: Mapping[str, tuple[float, float]],
    n: int,
    *,
    log: bool | Mapping[str, bool] | None = None,
    seed: int = 0,
) -> Points:
    """Independent random points of a box, each by ratio or evenly.

    Use it as the baseline of random search that others report; `lrax.sobol` fills the box better
    with as many points.

    Args:
      bounds: `{name: (low, high)}`, finite, with `low` below `high`.
      n: How many points, at least 1.
      log: Whether values are spread by ratio: `True` or `False` for all, or `{name: bool}`. What is
        not said is spread by ratio if its bounds are positive.
      seed: Seed of the draw, at least 0; the same one gives the same points, and fewer points are
        its first ones.

    Returns:
      `Points`, which `lrax.sweep` takes as a grid.

    Raises:
      ValueError: if bounds are not finite and in order, or not positive where `log` is true, `n` is
        below 1, or `log` names what `bounds` does not.
      TypeError: if an argument is not as described.

    Example:
      >>> lrax.random_points({"lr": (1e-3, 1e-1), "wd": (0.0, 0.1)}, 3)
      Points(3 of lr: 0.00121 to 0.0423, wd: 0.00165 to 0.0913)

    Reference:
      Bergstra and Bengio, Random Search for Hyper-Parameter Optimization (2012).
    """
    n, seed = _require.count("n", n, 1), _require.count("seed", seed, 0)
    scale = _scale(bounds, log)
    return scale(np.random.default_rng(seed).random((n, len(bounds))))


def _scale(bounds: Any, log: Any) -> Any:
    """The function from points of the unit cube to `Points` within the bounds."""
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
        by_ratio = (
            bool(ends[0] > 0) if by_ratio is None else _require.flag(f"log[{name!r}]", by_ratio)
        )
        if by_ratio and not ends[0] > 0:
            raise ValueError(
                f"`bounds[{name!r}]` must be positive to be spread by ratio, got {pair!r}"
            )
        ranges[name] = (*ends, by_ratio)

    def scale(unit: np.ndarray) -> Points:
        columns = {}
        for (name, (low, high, by_ratio)), u in zip(ranges.items(), unit.T, strict=True):
            columns[name] = low * (high / low) ** u if by_ratio else low + (high - low) * u
        return Points(columns)

    return scale


def axis(name: str, values: Any) -> np.ndarray:
    """Values of one hyperparameter as a list of float64."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"`{name}` must hold real numbers, got {values!r}")
    array = np.atleast_1d(array).astype(np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`{name}` must be a number or a list of them, got shape {array.shape}")
    return array  # NaN and infinity may be tried: a lane that diverges is data
