"""Pictures of sweeps over several hyperparameters: the heat map and parallel coordinates."""

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import canvas
from .swept import BEST, DIVERGED, Swept, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# A function from a number, or an array of numbers, to its place on an axis, from 0 to 1.
Place = Callable[[Any], Any]


def heatmap(
    x: Swept,
    y: Swept,
    values: np.ndarray,
    *,
    objective: str,
    mode: str = "min",
    best: int | None = None,
    note: str = "",
) -> "Figure":
    """The objective over two hyperparameters, brighter where it is better.

    If the points fill more than half of a lattice, they are drawn as cells and the best cell is
    framed. Otherwise they are drawn as dots and the best dot has a ring. Points that differ only in
    other hyperparameters share a cell, which shows the best of them.

    Args:
      x: The hyperparameter of the horizontal axis.
      y: The hyperparameter of the vertical axis.
      values: The objective, NaN where a lane diverged, `[points]`.
      objective: Name of the objective.
      mode: `"min"` if a lower objective is better, `"max"` if a higher one is.
      best: Index of the best point, or `None`.
      note: Text for the title, such as why there is no best point.

    Returns:
      A matplotlib Figure.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    # A sweep may try infinity or NaN. An axis cannot show such a value.
    placed = np.isfinite(x.values) & np.isfinite(y.values)
    columns, rows = np.unique(x.values[placed]), np.unique(y.values[placed])
    cells = np.full((len(rows), len(columns)), np.nan)
    tried = np.zeros(cells.shape, bool)
    # `fmin` and `fmax` ignore NaN: a cell shows the best of its points that did not diverge.
    better = np.fmin if mode == "min" else np.fmax
    for point in np.flatnonzero(placed):
        at = np.searchsorted(rows, y.values[point]), np.searchsorted(columns, x.values[point])
        tried[at] = True
        cells[at] = better(cells[at], values[point])
    # A random search has hardly any value twice. Drawn as cells, it would leave most cells empty.
    lattice = tried.size > 0 and tried.mean() > 0.5
    width, height = 6.4, 4.8
    if lattice:
        width, height = min(3.5 + 0.62 * len(columns), 12), min(2.2 + 0.45 * len(rows), 9)
    figure = canvas.figure(width, height)
    axes = figure.subplots()
    colors = _colors(values, mode)
    if lattice:
        _cells(axes, cells, tried, colors)
        _ticks(axes.xaxis, x, columns)
        _ticks(axes.yaxis, y, rows)
        if len(columns) > 6 or x.labels:
            for label in axes.get_xticklabels():
                label.set(rotation=40, ha="right", rotation_mode="anchor")
        axes.tick_params(length=2, labelsize=8)
        if best is not None and placed[best]:
            i = int(np.searchsorted(rows, y.values[best]))
            j = int(np.searchsorted(columns, x.values[best]))
            _frame(axes, i, j)
    else:
        _dots(axes, x, y, values, colors, best)
        axes.grid(alpha=0.3, which="both", lw=0.5)
        figure.legend(loc="outside lower right", fontsize=8, frameon=False, ncols=2)
    words = objective.replace("_", " ")
    framed = lattice and best is not None
    title = f"{words}, best framed" if framed else words
    axes.set(xlabel=x.words, ylabel=y.words, title="\n".join([title, *_wrapped(note)]))
    bar = figure.colorbar(colors, ax=axes, label=words)
    if _by_ratio(values[np.isfinite(values)], mode):
        canvas.plain_numbers(bar.ax.yaxis)
    return figure


def _wrapped(note: str) -> list[str]:
    return textwrap.wrap(note, 60)


def _cells(axes: "Axes", cells: np.ndarray, tried: np.ndarray, colors: Any) -> None:
    """A lattice of cells with their values; a cross where every point diverged."""
    # All cells have the same size, whatever the distances between the values. So a value of 0 fits
    # beside values on a geometric grid, and close values can still be read.
    colored = np.where(np.isnan(cells)[..., None], (0.88, 0.88, 0.88, 1.0), colors.to_rgba(cells))
    colored[~tried] = 1.0
    axes.imshow(colored, origin="lower", aspect="auto", interpolation="nearest")
    # In a larger lattice the numbers would overlap.
    written = cells.shape[1] <= 16 and cells.shape[0] <= 20
    middle: dict[str, Any] = {"ha": "center", "va": "center"}
    for (i, j), value in np.ndenumerate(cells):
        if tried[i, j] and np.isnan(value):
            axes.text(j, i, "x", color=DIVERGED, fontsize=9, **middle)
        elif written and tried[i, j]:
            # The brightness as the eye weighs red, green and blue.
            dark = np.dot(colored[i, j, :3], (0.3, 0.59, 0.11)) < 0.5
            text = f"{value:#.3g}".rstrip(".")
            axes.text(j, i, text, color="w" if dark else "k", fontsize=8, **middle)


def _frame(axes: "Axes", i: int, j: int) -> None:
    """A frame around the cell of row `i` and column `j`."""
    left, right, low, high = j - 0.5, j + 0.5, i - 0.5, i + 0.5
    across, up = [left, right, right, left, left], [low, low, high, high, low]
    axes.plot(across, up, color=DIVERGED, lw=2.2, clip_on=False, zorder=3)


def _ticks(axis: "Axis", swept: Swept, shown: np.ndarray) -> None:
    """Labels of the cells along an axis: at most sixteen."""
    # More labels would run into each other.
    few = np.linspace(0, len(shown) - 1, min(len(shown), 16)).round().astype(int)
    few = np.unique(few)
    texts = [f"{value:.2g}" for value in shown[few]]
    if swept.labels is not None:
        labels = [swept.labels[int(value)] for value in shown[few]]
        texts = [shortened(label, 28) for label in labels]
    axis.set_ticks(few, texts)


def _dots(
    axes: "Axes", x: Swept, y: Swept, values: np.ndarray, colors: Any, best: int | None
) -> None:
    """Scattered points as dots; crosses where they diverged."""
    for swept, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
        if swept.labels is None and _by_ratio(swept.values[np.isfinite(swept.values)]):
            scale("log")
    known = np.isfinite(values)
    filled = colors.to_rgba(values[known])
    across, up = x.values, y.values
    axes.scatter(across[known], up[known], c=filled, s=90, edgecolor="0.3", lw=0.6, zorder=2)
    # A line without points would still have an entry in the legend.
    label = "diverged" if (~known).any() else None
    axes.plot(across[~known], up[~known], "x", color=DIVERGED, ms=7, label=label)
    if best is not None:
        ring = {"facecolor": "none", "edgecolor": DIVERGED, "lw": 2, "zorder": 3}
        axes.scatter(across[best], up[best], s=230, label="best", **ring)


def parallel(
    swept: Sequence[Swept],
    values: np.ndarray,
    *,
    objective: str,
    mode: str = "min",
    best: int | None = None,
    note: str = "",
) -> "Figure":
    """Parallel coordinates: a line for each point through its hyperparameters and its objective.

    The line of the best point is in front.

    Args:
      swept: The hyperparameters.
      values: The objective, NaN where a lane diverged, `[points]`.
      objective: Name of the objective.
      mode: `"min"` if a lower objective is better, `"max"` if a higher one is.
      best: Index of the best point, or `None`.
      note: Text for the title, such as why there is no best point.

    Returns:
      A matplotlib Figure.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    columns = [*swept, Swept(objective, values)]
    figure = canvas.figure(min(2.4 + 2.1 * len(columns), 16), 4.4)
    axes = figure.subplots()
    heights = np.empty((len(values), len(columns)))
    last = len(columns) - 1
    for i, column in enumerate(columns):
        # The last column is the objective. With `mode` "max" it is never placed by its logarithm,
        # see `_by_ratio`.
        place, ticks = _scale(column.values, by_ratio=i < last or mode == "min")
        if column.labels is not None:
            place, ticks = _choice_scale(column)
        heights[:, i] = place(column.values)
        axes.plot([i, i], [0, 1], color="0.25", lw=1, zorder=3)
        _tick_texts(axes, column, i, place, ticks, right=i == last)
        axes.text(i, 1.13, column.words, ha="center", va="bottom", fontweight="bold")
    lost = np.isnan(values)
    heights[lost, -1] = 1.08  # above the axis: a diverged point has no objective
    colors = _colors(values, mode)
    # `order` goes from best to worst, with diverged points last. The lines are drawn in reverse
    # order, so that good points lie over bad ones.
    order = np.argsort(np.where(lost, np.inf, values if mode == "min" else -values), kind="stable")
    places = np.arange(len(columns))
    for point in order[::-1]:
        color, alpha = (DIVERGED, 0.45) if lost[point] else (colors.to_rgba(values[point]), 0.8)
        axes.plot(places, heights[point], color=color, lw=0.8 if lost[point] else 1.2, alpha=alpha)
    if lost.any():
        axes.text(places[-1] + 0.035, 1.08, "diverged", color=DIVERGED, va="center", fontsize=8)
    if best is not None:
        line = heights[best]
        axes.plot(places, line, "o-", color=BEST, lw=2.6, ms=5, zorder=5)
        # To the right of the ticks' texts, which stand beside the last axis.
        style: dict[str, Any] = {"color": BEST, "va": "center", "fontweight": "bold"}
        axes.text(places[-1] + 0.22, line[-1], "best", **style)
    if note:
        axes.set_title("\n".join(_wrapped(note)), fontsize=9, color=DIVERGED)
    axes.set(xlim=(-0.3, len(columns) - 0.5), ylim=(-0.05, 1.22))
    axes.axis("off")
    return figure


def _tick_texts(
    axes: "Axes", column: Swept, i: int, place: Place, ticks: list[float], *, right: bool
) -> None:
    """Marks and texts beside the vertical axis `i`, with room between them."""
    side, where, mark = ("left", i + 0.035, 0.02) if right else ("right", i - 0.035, -0.02)
    box = {"facecolor": "w", "alpha": 0.75, "lw": 0, "pad": 0.8}
    shown: list[float] = []
    for tick in ticks:
        height = float(place(tick))
        # The ends come first in `ticks` and keep their place; others must have room.
        if not np.isfinite(height) or any(abs(height - other) <= 0.045 for other in shown):
            continue
        shown.append(height)
        axes.plot([i, i + mark], [height] * 2, color="0.25", lw=1, zorder=3)
        text = f"{tick:.3g}"
        if column.labels is not None:
            text = shortened(column.labels[int(tick)], 18)
        style: dict[str, Any] = {"ha": side, "va": "center", "fontsize": 8, "zorder": 6}
        axes.text(where, height, text, bbox=box, **style)


def _choice_scale(column: Swept) -> tuple[Place, list[float]]:
    """As `_scale`, for choices: they are placed at equal distances."""
    known = np.unique(column.values)
    heights = np.linspace(0, 1, len(known)) if len(known) > 1 else np.array([0.5])
    return (lambda number: np.interp(number, known, heights)), known.tolist()


def _scale(numbers: np.ndarray, *, by_ratio: bool) -> tuple[Place, list[float]]:
    """A function from numbers to heights on an axis, and the ticks of the axis.

    The least number has height 0, the greatest height 1. These two come first among the ticks.
    """
    import matplotlib.ticker

    known = np.unique(numbers[np.isfinite(numbers)])
    if not known.size:  # an objective without a finite value
        return (lambda number: np.full(np.shape(number), np.nan)), []
    low, high = known[0], known[-1]
    if low == high:
        return (lambda number: np.where(np.isfinite(number), 0.5, np.nan)), [low]
    if low == 0 and high > 10 * known[1] and by_ratio:
        # Without the 0, the values would be placed by their logarithm. But 0 has none, so all are
        # placed at equal distances. `known[1]` is the least positive value.
        heights = np.linspace(0, 1, len(known))
        return (lambda number: np.interp(number, known, heights)), [low, high, *known]
    log = by_ratio and _by_ratio(known)
    place = np.log if log else np.asarray
    locator = matplotlib.ticker.LogLocator() if log else matplotlib.ticker.MaxNLocator(5)
    inside = [tick for tick in locator.tick_values(low, high) if low < tick < high]
    span = place(high) - place(low)
    return (lambda number: (place(number) - place(low)) / span), [low, high, *inside]


def _by_ratio(known: np.ndarray, mode: str = "min") -> bool:
    """Whether numbers are positive and span more than a factor of ten, as rates and losses may.

    Such numbers are placed by their logarithm. An accuracy or a return is read by differences, so
    with `mode` "max" the answer is always no.
    """
    positive = known.size > 0 and known.min() > 0
    return bool(mode == "min" and positive and known.max() > 10 * known.min())


def _colors(values: np.ndarray, mode: str) -> Any:
    """Colours of an objective, brighter where it is better."""
    import matplotlib.cm
    import matplotlib.colors

    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    scale = matplotlib.colors.LogNorm if _by_ratio(known, mode) else matplotlib.colors.Normalize
    # Equal ends would give the scale a length of 0.
    norm = scale(low, high if high > low else low + 1)
    return matplotlib.cm.ScalarMappable(norm, "viridis_r" if mode == "min" else "viridis")
