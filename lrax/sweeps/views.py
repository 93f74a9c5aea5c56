"""How a record is seen: as a table, as a pandas or xarray object, in pictures."""

from typing import Any

import numpy as np

from .. import _require
from ..display import figures, pictures
from ..display.tables import aligned, spread, summary
from .record import Record


class Views(Record):
    """The tables and pictures of a `SweepResult`."""

    def table(self) -> str:
        """A text table of the points: hyperparameters, training loss, metrics and status.

        Losses and metrics are means over seeds, with half their range behind the ±; `*` marks the
        best point.
        """
        columns = {"train loss": self.final_losses, **self.metrics}
        header = ["", *self.hyperparams, "train loss", *self.metrics, "status"]
        best = int(self.ranking[0])
        rows = []
        for point in range(len(self.status)):
            row = ["*" if point == best and np.all(np.isfinite(self.scores[point])) else ""]
            row += [f"{values[point]:.3g}" for values in self.hyperparams.values()]
            row += [spread(values[point]) for values in columns.values()]
            rows.append([*row, summary(self.status[point])])
        return aligned([header, *rows])

    def to_pandas(self) -> Any:
        """A pandas DataFrame with one row for every lane: hyperparameters, seed, loss, metrics,
        status.

        Raises:
          ImportError: if pandas is not installed.
        """
        pandas = _require.extra("pandas", "sweep")
        points, seeds = self.status.shape
        columns: dict[str, Any] = {
            name: np.repeat(values, seeds) for name, values in self.hyperparams.items()
        }
        columns["seed"] = np.tile(self.seeds, points)
        columns["train_loss"] = self.final_losses.ravel()
        columns |= {name: values.ravel() for name, values in self.metrics.items()}
        columns["status"] = self.status.ravel()
        return pandas.DataFrame(columns)

    def to_xarray(self) -> Any:
        """An xarray Dataset: the hyperparameters are its dimensions where the points are a product,
        `point` otherwise.

        With `losses` over `seed` and `step`, `train_loss`, metrics and `status` over `seed`, and
        `aux/...` and `evaluations/...` where there are any. `dataset.losses.sel(learning_rate=1e-3,
        method="nearest").mean("seed")` is a curve.

        Raises:
          ImportError: if xarray is not installed.
        """
        xarray = _require.extra("xarray", "xarray")
        axes = {name: np.unique(values) for name, values in self.hyperparams.items()}
        places = [np.searchsorted(axes[name], values) for name, values in self.hyperparams.items()]
        shape = tuple(map(len, axes.values()))
        product = (
            len(self.status)
            == np.prod(shape)
            == len(np.unique(np.ravel_multi_index(places, shape)))
        )
        coords: dict[str, Any] = {"seed": self.seeds, "step": np.arange(self.losses.shape[-1])}
        if len(self.evaluated_at):
            coords["evaluated_at"] = self.evaluated_at
        dims = tuple(axes) if product else ("point",)
        coords |= (
            axes
            if product
            else {name: ("point", values) for name, values in self.hyperparams.items()}
        )
        order = (
            np.argsort(np.ravel_multi_index(places, shape))
            if product
            else np.arange(len(self.status))
        )

        def variable(values: np.ndarray, *last: str) -> tuple[tuple[str, ...], np.ndarray]:
            whole = values[order].reshape(*(shape if product else (len(order),)), *values.shape[1:])
            return (*dims, "seed", *last), whole

        variables = {
            "losses": variable(self.losses, "step"),
            "train_loss": variable(self.final_losses),
        }
        variables |= {name: variable(values) for name, values in self.metrics.items()}
        variables["status"] = variable(self.status)
        variables |= {f"aux/{name}": variable(values, "step") for name, values in self.aux.items()}
        variables |= {
            f"evaluations/{name}": variable(values, "evaluated_at")
            for name, values in self.evaluations.items()
        }
        return xarray.Dataset(variables, coords, {"objective": self.objective, "mode": self.mode})

    def plot(self, name: str | None = None) -> Any:
        """A matplotlib Figure: the objective against one hyperparameter, and the training curves.

        The other hyperparameters are at their best, where the points are a product. The spread over
        seeds is shaded, the optimum and its interval are marked, and so are diverged lanes.

        Args:
          name: The hyperparameter of the horizontal axis; by default the first of the grid.

        Returns:
          A matplotlib Figure.

        Raises:
          ValueError: if `name` is unknown.
          ImportError: if matplotlib is not installed.
        """
        name, line = self._line(name, scattered=True)
        rates, scores = self.hyperparams[name], self.scores
        others = {
            other: float(values[line[0]])
            for other, values in self.hyperparams.items()
            if other != name
        }
        scattered = len(line) == 1 and len(np.unique(rates)) > 1
        if scattered:
            line, others = np.arange(len(rates)), {}
        found = None
        if (
            not scattered
            and np.any(np.all(np.isfinite(scores[line]), axis=1))
            and np.all(rates[line] > 0)
        ):
            found = self.optimum(name)
        return figures.sweep(
            rates[line],
            self.values[line],
            self.losses[line],
            self.status[line] == "diverged",
            pruned=np.any(self.status[line] == "pruned", axis=1),
            name=name,
            objective=self.objective,
            optimum=found and (found.rate, *found.interval),
            at=others,
            joined=not scattered,
        )

    def plot_curves(self, name: str | None = None) -> Any:
        """A matplotlib Figure of all training curves, averaged over seeds and coloured by one
        hyperparameter.

        Args:
          name: The hyperparameter of the colours; by default the first of the grid.

        Returns:
          A matplotlib Figure.

        Raises:
          ValueError: if `name` is unknown.
          ImportError: if matplotlib is not installed.
        """
        name, _ = self._line(name, scattered=True)
        return figures.curves(
            self.hyperparams[name], self.losses, self.status == "diverged", name=name
        )

    def plot_heatmap(self, x: str | None = None, y: str | None = None) -> Any:
        """A matplotlib Figure of the objective over two hyperparameters, brighter where it is
        better.

        Of further hyperparameters, each cell shows the best. Points that are no product are drawn
        as dots.

        Args:
          x: The hyperparameter of the horizontal axis; by default the first of the grid.
          y: That of the vertical axis; by default the next one.

        Returns:
          A matplotlib Figure.

        Raises:
          ValueError: if a name is unknown, or they are the same, or the grid has one hyperparameter
            only.
          ImportError: if matplotlib is not installed.
        """
        names = list(self.hyperparams)
        if len(names) < 2:
            raise ValueError(
                f"a heat map needs at least 2 hyperparameters, got {names}; `plot()` shows one"
            )
        x = names[0] if x is None else x
        y = next(name for name in names if name != x) if y is None else y
        for argument, name in (("x", x), ("y", y)):
            _require.choice(argument, name, names)
        if x == y:
            raise ValueError(f"`x` and `y` must be different hyperparameters, got {x!r} twice")
        return pictures.heatmap(
            self.hyperparams[x],
            self.hyperparams[y],
            self._means(),
            names=(x, y),
            objective=self.objective,
            mode=self.mode,
        )

    def plot_parallel(self) -> Any:
        """A matplotlib Figure of parallel coordinates: a line for each point, through its values
        and its objective.

        Returns:
          A matplotlib Figure.

        Raises:
          ImportError: if matplotlib is not installed.
        """
        return pictures.parallel(
            self.hyperparams, self._means(), objective=self.objective, mode=self.mode
        )

    def _means(self) -> np.ndarray:
        """The objective of every point, or what it had reached when it was stopped; NaN where a lane diverged."""
        whole = np.all(np.isfinite(self.reached), axis=1)
        return np.where(
            whole, np.where(whole[:, None], self.values, 0).mean(axis=1, dtype=np.float64), np.nan
        )
