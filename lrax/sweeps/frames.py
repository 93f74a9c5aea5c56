"""A record as a pandas DataFrame or an xarray Dataset."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _require
from .series import WithSeries

if TYPE_CHECKING:
    import pandas
    import xarray


class Frames(WithSeries):
    """A `SweepResult` in the tables of other packages."""

    def to_pandas(self, curve: str | None = None) -> "pandas.DataFrame":
        """A pandas DataFrame with a row for every lane, or for every record of a curve.

        Without `curve` there is one row for every lane, with hyperparameters, seed, training loss,
        metrics, status and cause. With the name of a curve there is one row for every lane and
        time, with hyperparameters, seed, step and the curve. Curves of a `sweep_function` have
        `time` (0, 1, ...) in place of `step`. A choice is given by its label.

        Args:
          curve: `"train_loss"` or the name of a monitor, an evaluation, an aux or a curve. The name
            of a monitor that returned a dict gives one column for each entry.

        Returns:
          The DataFrame.

        Raises:
          ImportError: if pandas is not installed.
          ValueError: if there is no such curve.
        """
        pandas = _require.extra("pandas", "sweep")
        columns = self._lanes()
        if curve is not None:
            several = self._series_of(curve)
            at = several[0].at
            times = len(at)
            # The long form, which seaborn, plotnine and `groupby` take. Each lane repeats for all
            # its times, in the order of `ravel`.
            columns = {name: np.repeat(values, times) for name, values in columns.items()}
            columns[self._clock(several[0].name)] = np.tile(at, self.status.size)
            columns |= {series.name: series.values.ravel() for series in several}
            return pandas.DataFrame(columns)
        if self.has_losses:
            columns["train_loss"] = self.final_losses.ravel()
        columns |= {name: values.ravel() for name, values in self.metrics.items()}
        columns["status"] = self.status.ravel()
        columns["cause"] = self.causes.ravel()
        return pandas.DataFrame(columns)

    def _lanes(self) -> dict[str, np.ndarray]:
        """The columns that identify the lane of a row: its hyperparameters and its seed."""
        points, seeds = self.status.shape
        columns = {name: np.repeat(self._plain(name), seeds) for name in self.hyperparams}
        # Points vary slowest, as in `values.ravel()` of arrays `[points, seeds]`.
        columns["seed"] = np.tile(self.seeds, points)
        return columns

    def _plain(self, name: str) -> np.ndarray:
        """A hyperparameter at all points: numbers, or the labels of choices."""
        values = self.hyperparams[name]
        if name not in self.labels:
            return values
        return np.array(self.labels[name])[values.astype(int)]

    def to_xarray(self) -> "xarray.Dataset":
        """An xarray Dataset of everything: `dataset.losses.sel(learning_rate=1e-3)` is a curve.

        The hyperparameters are its dimensions if the points are a product; otherwise there is one
        dimension `point`. Beside `seed` it has `losses` and `aux/...` over `step`, `monitors/...`
        over `record`, `evaluations/...` over `evaluated_at`, `curves/...` each over its own
        dimension, and `train_loss`, metrics, `status` and `cause`. A choice is given by its label.
        The coordinates `step` and `record` count updates.

        Returns:
          The Dataset.

        Raises:
          ImportError: if xarray is not installed.
        """
        xarray = _require.extra("xarray", "xarray")
        # The place of each point in the box that all values of all hyperparameters span.
        axes = {name: np.unique(values) for name, values in self.hyperparams.items()}
        shape = tuple(map(len, axes.values()))
        places = [np.searchsorted(axes[name], values) for name, values in self.hyperparams.items()]
        flat = np.ravel_multi_index(places, shape)
        count = len(self.status)
        # In a product, every place of the box is taken by exactly one point.
        product = count == np.prod(shape) == len(np.unique(flat))
        order = np.argsort(flat) if product else np.arange(count)
        dims = tuple(axes) if product else ("point",)

        def variable(values: np.ndarray, *last: str) -> tuple[tuple[str, ...], np.ndarray]:
            """The dimensions and the array of `values`, `[points, seeds, *last]`."""
            whole = values[order].reshape(*(shape if product else (count,)), *values.shape[1:])
            return (*dims, "seed", *last), whole

        coords: dict[str, Any] = {"seed": self.seeds}
        for name, values in axes.items():
            # Without a product, hyperparameters are coordinates along the dimension `point`.
            if not product:
                coords[name] = ("point", self._plain(name))
            elif name in self.labels:
                coords[name] = [self.labels[name][int(value)] for value in values]
            else:
                coords[name] = values
        variables: dict[str, Any] = {}
        if self.has_losses:
            coords["step"] = self.series("train_loss").at
            variables["losses"] = variable(self.losses, "step")
            variables["train_loss"] = variable(self.final_losses)
        variables |= {name: variable(values) for name, values in self.metrics.items()}
        variables["status"] = variable(self.status)
        variables["cause"] = variable(self.causes)
        for name, values in self.aux.items():
            variables[f"aux/{name}"] = variable(values, "step")
        for name, values in self.monitors.items():
            # In updates, so that a monitor and the losses share their axis in a plot.
            coords["record"] = self.record_every * np.arange(values.shape[-1])
            variables[f"monitors/{name}"] = variable(values, "record")
        if len(self.evaluated_at):
            coords["evaluated_at"] = self.evaluated_at
        for name, values in self.evaluations.items():
            variables[f"evaluations/{name}"] = variable(values, "evaluated_at")
        for name, values in self.curves.items():
            # Curves of one function may differ in length, so each has its own dimension.
            variables[f"curves/{name}"] = variable(values, f"time_{name}")
        facts = {"objective": self.objective, "mode": self.mode, "select": self.select}
        return xarray.Dataset(variables, coords, facts)
