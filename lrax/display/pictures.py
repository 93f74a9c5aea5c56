"""Pictures of sweeps over several hyperparameters, from plain arrays: the heat map and parallel coordinates."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _require
from .figures import BEST, DIVERGED, plain_numbers


def heatmap(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    *,
    names: tuple[str, str],
    objective: str,
    mode: str = "min",
) -> Any:
    """The objective over two hyperparameters, brighter where it is better; the best is framed.

    Cells where the points fill a lattice, dots otherwise. Where points coincide, for they differ in
    what is not shown, the best one shows.

    Args:
      x: The hyperparameter of the horizontal axis, `[points]`.
      y: That of the vertical axis, `[points]`.
      values: The objective, NaN where a lane diverged, `[points]`.
      names: Names of both.
      objective: Name of the objective.
      mode: Whether it is to be `"min"` or `"max"`.

    Returns:
      A matplotlib Figure, not registered with pyplot.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    figure_module = _require.extra("matplotlib.figure", "plot")
    columns, rows = np.unique(x[np.isfinite(x)]), np.unique(y[np.isfinite(y)])
    cells = np.full((len(rows), len(columns)), np.nan)
    tried = np.zeros(cells.shape, bool)
    better = np.fmin if mode == "min" else np.fmax
    for a, b, value in zip(x, y, values, strict=True):
        if np.isfinite(a) and np.isfinite(b):
            at = np.searchsorted(rows, b), np.searchsorted(columns, a)
            tried[at], cells[at] = True, better(cells[at], value)
    colors = _colors(values, mode)
    lattice = tried.mean() > 0.5
    size = (
        (min(3.5 + 0.62 * len(columns), 12), min(2.2 + 0.45 * len(rows), 9))
        if lattice
        else (6.4, 4.8)
    )
    figure = figure_module.Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    if lattice:
        _cells(axes, columns, rows, cells, tried, colors, mode)
    else:
        for place, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
            if _by_ratio(place[np.isfinite(place)]):
                scale("log")
        known = np.isfinite(values)
        axes.scatter(
            x[known],
            y[known],
            c=colors.to_rgba(values[known]),
            s=90,
            edgecolor="0.3",
            lw=0.6,
            zorder=2,
        )
        axes.plot(
            x[~known],
            y[~known],
            "x",
            color=DIVERGED,
            ms=7,
            label="diverged" if (~known).any() else None,
        )
        if known.any():
            best = (np.nanargmin if mode == "min" else np.nanargmax)(values)
            axes.scatter(
                x[best],
                y[best],
                s=230,
                facecolor="none",
                edgecolor=DIVERGED,
                lw=2,
                label="best",
                zorder=3,
            )
        axes.grid(alpha=0.3, which="both", lw=0.5)
        figure.legend(loc="outside lower right", fontsize=8, frameon=False, ncols=2)
    words = [name.replace("_", " ") for name in (*names, objective)]
    axes.set(
        xlabel=words[0], ylabel=words[1], title=f"{words[2]}, best framed" if lattice else words[2]
    )
    bar = figure.colorbar(colors, ax=axes, label=words[2])
    if _by_ratio(values[np.isfinite(values)]):
        plain_numbers(bar.ax.yaxis)
    return figure


def _cells(axes, columns, rows, cells, tried, colors, mode):
    # Cells of equal size: a value of 0 has its place beside values by ratio, and a row of close
    # ones can be read.
    colored = np.where(np.isnan(cells)[..., None], (0.88, 0.88, 0.88, 1.0), colors.to_rgba(cells))
    colored[~tried] = 1.0
    axes.imshow(colored, origin="lower", aspect="auto", interpolation="nearest")
    written = len(columns) <= 16 and len(rows) <= 20
    for (i, j), value in np.ndenumerate(cells):
        if tried[i, j] and np.isnan(value):
            axes.text(j, i, "x", color=DIVERGED, ha="center", va="center", fontsize=9)
        elif written and tried[i, j]:
            dark = np.dot(colored[i, j, :3], (0.3, 0.59, 0.11)) < 0.5
            axes.text(
                j,
                i,
                f"{value:#.3g}".rstrip("."),
                color="w" if dark else "k",
                ha="center",
                va="center",
                fontsize=8,
            )
    if np.isfinite(cells).any():
        i, j = np.unravel_index(
            (np.nanargmin if mode == "min" else np.nanargmax)(cells), cells.shape
        )
        left, right, low, high = j - 0.5, j + 0.5, i - 0.5, i + 0.5
        frame = [left, right, right, left, left], [low, low, high, high, low]
        axes.plot(*frame, color=DIVERGED, lw=2.2, clip_on=False, zorder=3)
    for axis, numbers in ((axes.xaxis, columns), (axes.yaxis, rows)):
        shown = np.unique(
            np.linspace(0, len(numbers) - 1, min(len(numbers), 16)).round().astype(int)
        )
        axis.set_ticks(shown, [f"{number:.2g}" for number in numbers[shown]])
    if len(columns) > 6:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(length=2, labelsize=8)


def parallel(
    hyperparams: Mapping[str, np.ndarray], values: np.ndarray, *, objective: str, mode: str = "min"
) -> Any:
    """Parallel coordinates: a line for each point through its hyperparameters and its objective,
    the best one in front.

    Args:
      hyperparams: `{name: [points]}`.
      values: The objective, NaN where a lane diverged, `[points]`.
      objective: Name of the objective.
      mode: Whether it is to be `"min"` or `"max"`.

    Returns:
      A matplotlib Figure, not registered with pyplot.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    figure_module = _require.extra("matplotlib.figure", "plot")
    columns = {**hyperparams, objective: values}
    figure = figure_module.Figure(
        figsize=(min(2.4 + 2.1 * len(columns), 16), 4.4), layout="constrained"
    )
    axes = figure.subplots()
    colors = _colors(values, mode)
    heights = np.empty((len(values), len(columns)))
    for i, (name, numbers) in enumerate(columns.items()):
        scale, ticks = _scale(numbers)
        heights[:, i] = scale(numbers)
        axes.plot([i, i], [0, 1], color="0.25", lw=1, zorder=3)
        last = i == len(columns) - 1
        shown = []
        for tick in ticks:
            place = float(scale(tick))
            if all(abs(place - other) > 0.045 for other in shown):
                shown.append(place)
                side, where = ("left", i + 0.035) if last else ("right", i - 0.035)
                axes.plot(
                    [i, i + (0.02 if last else -0.02)], [place] * 2, color="0.25", lw=1, zorder=3
                )
                box = {"facecolor": "w", "alpha": 0.75, "lw": 0, "pad": 0.8}
                axes.text(
                    where,
                    place,
                    f"{tick:.3g}",
                    ha=side,
                    va="center",
                    fontsize=8,
                    bbox=box,
                    zorder=6,
                )
        axes.text(i, 1.13, name.replace("_", " "), ha="center", va="bottom", fontweight="bold")
    lost = np.isnan(values)
    heights[lost, -1] = 1.08  # above the axis: a diverged point has no objective
    order = np.argsort(np.where(lost, np.inf, values if mode == "min" else -values), kind="stable")
    places = np.arange(len(columns))
    for point in order[::-1]:
        color, alpha = (DIVERGED, 0.45) if lost[point] else (colors.to_rgba(values[point]), 0.8)
        axes.plot(places, heights[point], color=color, lw=0.8 if lost[point] else 1.2, alpha=alpha)
    if lost.any():
        axes.text(places[-1] + 0.035, 1.08, "diverged", color=DIVERGED, va="center", fontsize=8)
    if not lost.all():
        axes.plot(places, heights[order[0]], "o-", color=BEST, lw=2.6, ms=5, zorder=5)
        axes.text(
            places[-1] + 0.22,
            heights[order[0], -1],
            "best",
            color=BEST,
            va="center",
            fontweight="bold",
        )
    axes.set(xlim=(-0.3, len(columns) - 0.5), ylim=(-0.05, 1.22))
    axes.axis("off")
    return figure


def _scale(numbers: np.ndarray) -> tuple[Any, list[float]]:
    """The height of a number between the least, 0, and the greatest, 1, and where to write which, the ends first."""
    import matplotlib.ticker

    known = np.unique(numbers[np.isfinite(numbers)])
    low, high = (known[0], known[-1]) if known.size else (0.0, 1.0)
    if low == high:
        return (lambda number: np.where(np.isfinite(number), 0.5, np.nan)), [low]
    if (
        low == 0 and high > 10 * known[1]
    ):  # by ratio, but for the zero: every value has the same distance to the next
        step = 1 / (len(known) - 1)
        return (lambda number: np.interp(number, known, np.arange(len(known)) * step)), [
            low,
            high,
            *known,
        ]
    by_ratio = _by_ratio(known)
    place = np.log if by_ratio else np.asarray
    locator = matplotlib.ticker.LogLocator() if by_ratio else matplotlib.ticker.MaxNLocator(5)
    inside = [tick for tick in locator.tick_values(low, high) if low < tick < high]
    return (lambda number: (place(number) - place(low)) / (place(high) - place(low))), [
        low,
        high,
        *inside,
    ]


def _by_ratio(known: np.ndarray) -> bool:
    """Whether numbers are positive and span more than a factor of ten, as learning rates and losses do."""
    return bool(known.size and known.min() > 0 and known.max() > 10 * known.min())


def _colors(values: np.ndarray, mode: str) -> Any:
    """Colours of an objective, brighter where it is better; by ratio where it spans more than a factor of ten."""
    import matplotlib.cm
    import matplotlib.colors

    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    norm = (matplotlib.colors.LogNorm if _by_ratio(known) else matplotlib.colors.Normalize)(
        low, high if high > low else low + 1
    )
    return matplotlib.cm.ScalarMappable(norm, "viridis_r" if mode == "min" else "viridis")
