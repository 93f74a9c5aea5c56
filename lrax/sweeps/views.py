"""The tables and pictures of a result, and how a notebook shows it."""

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _require
from ..display import canvas, pictures, swept
from ..display.swept import Band, Curves, Slice, Swept
from ..display.tables import aligned, as_html, spread, summary
from .direction import Mode, mode_of
from .frames import Frames
from .series import Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 60  # points that a notebook shows at most


class Views(Frames):
    """The tables and pictures of a `SweepResult`."""

    def table(self) -> str:
        """A text table of the points: hyperparameters, training loss, metrics and status.

        Losses and metrics are means over seeds; the number after ± is half their range. `*` marks
        `best`. The status of a diverged lane comes with the cause. For a pruned point, the status
        gives the update at which it was stopped, and losses and metrics are those at that update.
        The values that rank the points have their own column if no other column shows them.

        Returns:
          The text, one line for each point.
        """
        return aligned(self.rows())

    def rows(self) -> list[list[str]]:
        """The cells of `table()`, row by row: the first row holds the names of the columns."""
        columns = {"train loss": self.final_losses} if self.has_losses else {}
        columns |= self.metrics
        # The columns above show the metrics and the training loss at the end. The values that rank
        # the points may come from elsewhere: from a curve, or from other evaluations.
        if self.objective in self.curves or (
            self.select != "last" and self.objective != "train_loss"
        ):
            columns[f"{self.select} {self.objective}"] = self.values
        best = self._best
        rows = [["", *self.hyperparams, *columns, "status"]]
        for point in range(len(self.status)):
            row = ["*" if point == best else ""]
            row += [self.shown(name, point) for name in self.hyperparams]
            row += [spread(values[point]) for values in columns.values()]
            why = self.causes[point], int(self.stopped_at[point])
            rows.append([*row, summary(self.status[point], *why)])
        return rows

    @property
    def _best(self) -> int | None:
        """Index of the best point, which every table and picture marks; `None` if there is none."""
        return None if self.why_no_best else int(self.ranking[0])

    def _repr_html_(self) -> str:
        """The table and the picture as HTML. A notebook calls this to show the result."""
        head, *rows = self.rows()
        # A notebook's file contains its output. Thousands of rows would make that file large.
        few = np.arange(len(rows)) if len(rows) <= ROWS else np.sort(self.ranking[:ROWS])
        table = as_html([head, *(rows[point] for point in few)], bold=self._place(few))
        more = f"<p>The best {ROWS} of {len(rows)} points.</p>" if len(few) < len(rows) else ""
        return table + more + canvas.as_html(self.plot)

    def plot(self, name: str | None = None) -> "Figure":
        """A figure of the objective against one hyperparameter, and of the curves.

        If the points are a product of axes, only those are drawn that share all other
        hyperparameters with the best point. The spread over seeds is shaded, and diverged lanes are
        marked. The star and the bold curve belong to `best`, the best point of the grid. The green
        line and band are the interpolated `optimum()`. The right panel has the curve that
        `plot_curves` draws by default.

        Args:
          name: The hyperparameter of the horizontal axis; by default the first numeric one.

        Returns:
          A matplotlib Figure. A notebook shows it if it is the value of a cell;
          `figure.savefig(path)` writes it.

        Raises:
          ValueError: if `name` is unknown.
          ImportError: if matplotlib is not installed.
        """
        name, line = self._line(name, scattered=True)
        others = {other: self.shown(other, line[0]) for other in self.hyperparams if other != name}
        # `line` holds the points that share all other hyperparameters with the best point. If that
        # is the best point alone, though the grid has other values of `name`, the points are not a
        # product. Then all points are drawn, and not joined by a line.
        scattered = len(line) == 1 and len(np.unique(self.hyperparams[name])) > 1
        if scattered:
            line = np.arange(len(self.status))
            others = {}
        names = self._series_names()
        # A function may return scalars only; then there is no right panel.
        curves = self._curves(self.series()) if names else None
        points = Slice(
            self._swept(name, line),
            self.values[line],
            self.status[line] == "diverged",
            pruned=np.any(self.status[line] == "pruned", axis=1),
            band=None if scattered else self._band(name, line),
            at=others,
            joined=not scattered,
            # In the picture, the best point is given by its position among the points drawn.
            **{**self._facts(), "best": self._place(line)},
        )
        # The curves of the same points. `None` stays `None`.
        return swept.sweep(points, curves and curves._replace(values=curves.values[line]))

    def plot_curves(self, curve: str | None = None, *, by: str | None = None) -> "Figure":
        """A figure with a curve for each point, averaged over seeds; the best point's is bold.

        Training losses of single batches are noisy. If there are 100 records or more, each value
        drawn is the mean over a window of a fiftieth of the records, and the label of the axis says
        so. Other curves are drawn as they were recorded. The axis is logarithmic if low values are
        good, and linear if high ones are. For the objective, `mode` says which; for another curve,
        its name. If the name says neither, the axis is logarithmic if the curve spans more than a
        factor of ten. No axis with a value of 0 or below is logarithmic.

        Args:
          curve: `"train_loss"`, or the name of a monitor, an evaluation, an aux or a curve. If it
            names a monitor that returned a dict, there is a panel for each entry. By default it is
            the objective's evaluations, if there were some along the way, or the training loss; for
            a `sweep_function`, the curve whose name is most like the objective's.
          by: The hyperparameter of the colours; by default the first numeric one.

        Returns:
          A matplotlib Figure.

        Raises:
          ValueError: if there is no such curve or hyperparameter.
          ImportError: if matplotlib is not installed.
        """
        several = self._series_of(curve)
        if by is not None:
            _require.choice("by", by, self.hyperparams)
        name, _ = self._line(by, scattered=True)
        # All points are drawn, not only those that share the other hyperparameters of the best
        # point. Their colours tell the values of `name` apart.
        points = np.arange(len(self.status))
        return swept.curves(
            self._swept(name, points),
            list(map(self._curves, several)),
            self.status == "diverged",
            best=self._best,
            note=self.why_no_best,
        )

    def plot_heatmap(self, x: str | None = None, y: str | None = None) -> "Figure":
        """A figure of the objective over two hyperparameters, brighter where it is better.

        If there are more than two hyperparameters, a cell shows the best point over the others.
        Points that are not a product of axes are drawn as dots.

        Args:
          x: The hyperparameter of the horizontal axis; by default the first numeric one.
          y: The hyperparameter of the vertical axis; by default the next one.

        Returns:
          A matplotlib Figure.

        Raises:
          ValueError: if a name is unknown, `x` and `y` are the same, or the grid has only one
            hyperparameter.
          ImportError: if matplotlib is not installed.
        """
        names = list(self.hyperparams)
        if len(names) < 2:
            raise ValueError(
                f"a heat map needs at least 2 hyperparameters, got {names}; `plot()` shows one"
            )
        for argument, name in (("x", x), ("y", y)):
            if name is not None:
                _require.choice(argument, name, names)
        # The defaults prefer numbers to choices, because choices have no order. The sort is stable,
        # so apart from that the names stay in the grid's order.
        names.sort(key=lambda name: name in self.labels)
        x = next(name for name in names if name != y) if x is None else x
        y = next(name for name in names if name != x) if y is None else y
        if x == y:
            raise ValueError(f"`x` and `y` must be different hyperparameters, got {x!r} twice")
        points = np.arange(len(self.status))
        return pictures.heatmap(
            self._swept(x, points),
            self._swept(y, points),
            self._means(),
            **self._facts(),
        )

    def plot_parallel(self) -> "Figure":
        """A figure of parallel coordinates: a line for each point through its values.

        The last axis is the objective.

        Returns:
          A matplotlib Figure.

        Raises:
          ImportError: if matplotlib is not installed.
        """
        points = np.arange(len(self.status))
        return pictures.parallel(
            [self._swept(name, points) for name in self.hyperparams],
            self._means(),
            **self._facts(),
        )

    def _facts(self) -> dict[str, Any]:
        """The facts that a picture of all points shows beside them."""
        return {
            "objective": self.objective,
            "mode": self.mode,
            "best": self._best,
            "note": self.why_no_best,
        }

    def _swept(self, name: str, points: np.ndarray) -> Swept:
        """A hyperparameter at some points, for a picture."""
        return Swept(name, self.hyperparams[name][points], self.labels.get(name))

    def _place(self, line: np.ndarray) -> int | None:
        """The position of the best point in a list of points, or `None`."""
        found = np.flatnonzero(line == self._best) if self._best is not None else np.array([])
        return int(found[0]) if found.size else None

    def _band(self, name: str, line: np.ndarray) -> Band | None:
        """The interpolated optimum for a picture, or `None` if there is none."""
        # Choices have no order to interpolate in, and a single point has no neighbour.
        if name in self.labels or self._best is None or len(line) < 2:
            return None
        # `optimum` interpolates in the logarithm of the values. It ignores NaN and infinity, and
        # raises an error for values that are not positive.
        values = self.hyperparams[name][line]
        if not np.all(values[np.isfinite(values)] > 0):
            return None
        found = self.optimum(name)
        return Band(found.value, *found.interval)

    def _curves(self, series: Series) -> Curves:
        """A series for a picture, with the direction that decides if its axis is logarithmic."""
        # The direction of the objective is known. For another curve it is guessed from the name.
        mode: Mode | None = self.mode if series.name == self.objective else None
        with contextlib.suppress(ValueError):  # a name that tells no direction
            mode = mode_of(series.name, mode)
        if series.at is self.evaluated_at:
            # With a stop rule, the evaluation at the end is not one of those along the way.
            values = self._evaluations(series.name)
            ends = [*series.at, self.done][: values.shape[-1]]
            series = series._replace(values=values, at=np.array(ends))
        return Curves(series.name, series.at, series.values, mode, self._clock(series.name))

    def _means(self) -> np.ndarray:
        """The objective of every point, `[points]`; NaN where a lane has none.

        A pruned point has the value at which it was stopped.
        """
        # Points with a lane that has no finite value are set to 0 for the mean, because a mean with
        # infinities may warn. They get NaN afterwards.
        whole = np.all(np.isfinite(self.reached), axis=1)
        values = np.where(whole[:, None], self.values, 0).mean(axis=1, dtype=np.float64)
        return np.where(whole, values, np.nan)
