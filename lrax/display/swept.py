"""Pictures of a sweep over one hyperparameter, from plain arrays."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIVERGED = "#c1272d"
BEST = "#1b7837"

DRAWN = 300  # the most curves in a panel; more take seconds and cover each other
LEGEND = 20  # the most choices in a legend; a longer one cannot be read
ROW = 3  # the most panels in a row


class Swept(NamedTuple):
    """A hyperparameter at all points: numbers, or indices of labels."""

    name: str
    values: np.ndarray  # [points]
    labels: list[str] | None = None

    @property
    def words(self) -> str:
        """The name as text for an axis."""
        return self.name.replace("_", " ")

    def text(self, point: int) -> str:
        """The value at a point as text."""
        value = self.values[point]
        return f"{value:.3g}" if self.labels is None else self.labels[int(value)]


class Curves(NamedTuple):
    """A curve of every lane."""

    name: str
    at: np.ndarray  # [time]
    values: np.ndarray  # [points, seeds, time]
    mode: str | None  # "min", "max", or None where it is not known whether low or high is good
    clock: str = "step"  # what `at` counts

    @property
    def words(self) -> str:
        """The name as text for an axis."""
        return "training loss" if self.name == "train_loss" else self.name.replace("_", " ")


class Band(NamedTuple):
    """The interpolated optimum and its interval. An open end of the interval is 0 or infinity."""

    value: float
    low: float
    high: float


class Slice(NamedTuple):
    """The objective of some points against a hyperparameter.

    Attributes:
      swept: The hyperparameter.
      values: The objective of every lane, `[points, seeds]`.
      diverged: Which lanes diverged, `[points, seeds]`.
      pruned: Which points were stopped early, `[points]`; their values are those when they stopped.
      best: Index of the best point, or `None`.
      objective: Name of the objective.
      mode: `"min"` if a lower objective is better, `"max"` if a higher one is.
      band: The interpolated optimum, or `None`.
      at: Values of the other hyperparameters as text, for the title.
      joined: Whether to draw a line through the points. It is `True` only if the points differ in
        this hyperparameter alone.
      note: Text in the panel, such as why there is no best point.
    """

    swept: Swept
    values: np.ndarray
    diverged: np.ndarray
    pruned: np.ndarray
    best: int | None
    objective: str = "loss"
    mode: str = "min"
    band: Band | None = None
    at: Mapping[str, str] | None = None
    joined: bool = True
    note: str = ""


def sweep(points: Slice, curves: Curves | None) -> "Figure":
    """A sweep in two panels: the objective against a hyperparameter, and the curves.

    Args:
      points: The points of the left panel.
      curves: Their curves, for the right panel; `None` for the left panel alone.

    Returns:
      A matplotlib Figure.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    figure = canvas.figure(11 if curves else 6, 4.6)
    panels = np.atleast_1d(figure.subplots(1, 2 if curves else 1))
    points, order = _sorted(points)
    _slice(panels[0], points)
    if handles := panels[0].get_legend_handles_labels()[0]:
        # The legend is below the panels. Inside of a flat or a full panel it would cover points.
        style = {"fontsize": 8, "frameon": False, "ncols": 3 if curves else 2}
        figure.legend(handles=handles, loc="outside lower left", **style)
    if curves:
        swept = points.swept
        colors = _Colors(swept)
        curves = _ordered(curves, order)
        _panel(panels[1], colors, swept, curves, points.diverged, points.best)
        colors.explain(figure, [panels[1]])
    return figure


def slices(several: Sequence[Slice]) -> "Figure":
    """The objective against each of several hyperparameters, a panel for each.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    figure = canvas.figure(5.2 * len(several), 4.9)
    panels = figure.subplots(1, len(several), squeeze=False)[0]
    for axes, points in zip(panels, several, strict=True):
        _slice(axes, _sorted(points)[0])
        handles = axes.get_legend_handles_labels()[0]
        # Below the panel. Inside of a flat or a full panel it would cover points.
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "frameon": False}
        axes.legend(handles=handles, fontsize=8, **place)
    return figure


def _sorted(points: Slice) -> tuple[Slice, np.ndarray]:
    """The points sorted along the axis, so that a line can join them; and that order of indices."""
    order = np.argsort(points.swept.values, kind="stable")
    fields = {name: getattr(points, name)[order] for name in ("values", "diverged", "pruned")}
    swept = points.swept._replace(values=points.swept.values[order])
    place = None if points.best is None else int(np.flatnonzero(order == points.best)[0])
    return points._replace(**fields, swept=swept, best=place), order


def _slice(axes: "Axes", points: Slice) -> None:
    """The objective against a hyperparameter, with the optimum, the title and the note."""
    swept = points.swept
    _against(
        axes,
        swept,
        points.values,
        points.diverged,
        points.pruned,
        points.best,
        points.mode,
        points.joined,
    )
    if points.band is not None:
        _band(axes, points.band)
    at = points.at or {}
    others = ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in at.items())
    objective = points.objective.replace("_", " ")
    title = f"{objective} against {swept.words}" + (f", at {others}" if others else "")
    axes.set(xlabel=swept.words, ylabel=objective, title=textwrap.fill(title, 52))
    axes.grid(alpha=0.3, which="both", lw=0.5)
    if points.note:
        _say(axes, points.note)


def curves(
    swept: Swept,
    several: Sequence[Curves],
    diverged: np.ndarray,
    *,
    best: int | None = None,
    note: str = "",
) -> "Figure":
    """Curves of a sweep, a panel for each, averaged over seeds and coloured by a hyperparameter.

    Args:
      swept: The hyperparameter.
      several: The curves of each panel, at least one.
      diverged: Which lanes diverged, `[points, seeds]`.
      best: Index of the best point, whose curve is bold; or `None`.
      note: Text in the first panel, such as why there is no best point.

    Returns:
      A matplotlib Figure.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    order = np.argsort(swept.values, kind="stable")
    place = None if best is None else int(np.flatnonzero(order == best)[0])
    swept = swept._replace(values=swept.values[order])
    columns = min(len(several), ROW)
    rows = -(-len(several) // columns)
    # A single panel is larger than one among several.
    size = (7.5, 4.5) if len(several) == 1 else (4.6 * columns + 1, 3.5 * rows)
    figure = canvas.figure(*size)
    places = np.ravel(figure.subplots(rows, columns, squeeze=False))
    panels = list(places[: len(several)])
    for empty in places[len(several) :]:
        empty.remove()
    colors = _Colors(swept)
    for axes, curves in zip(panels, several, strict=True):
        _panel(axes, colors, swept, _ordered(curves, order), diverged[order], place)
    colors.explain(figure, panels)
    if note:
        _say(panels[0], note)
    return figure


def shortened(text: str, length: int) -> str:
    """A text cut to this number of characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _ordered(curves: Curves, order: np.ndarray) -> Curves:
    return curves._replace(values=curves.values[order])


def _say(axes: "Axes", note: str) -> None:
    """Writes a sentence into the middle of a panel."""
    text = textwrap.fill(note, 48)
    box = {"facecolor": "w", "edgecolor": DIVERGED, "alpha": 0.9, "boxstyle": "round"}
    middle = {"ha": "center", "va": "center", "transform": axes.transAxes, "zorder": 9}
    axes.text(0.5, 0.5, text, fontsize=9, bbox=box, **middle)


def _against(
    axes: "Axes",
    swept: Swept,
    values: np.ndarray,
    diverged: np.ndarray,
    pruned: np.ndarray,
    best: int | None,
    mode: str,
    joined: bool,
) -> None:
    """The objective of every point over the hyperparameter, with the range of its seeds."""
    rates = swept.values
    # A line between two choices would suggest values between them.
    joined = joined and swept.labels is None
    known = ~diverged.any(axis=1) & np.isfinite(values).all(axis=1)
    whole = known & ~pruned
    early = known & pruned
    if early.any():
        means = values[early].mean(axis=1)
        axes.plot(rates[early], means, "o", color="0.6", mfc="none", ms=4, label="stopped early")
    if whole.any():
        runs = values[whole]
        low, high = runs.min(axis=1), runs.max(axis=1)
        seeds = values.shape[1]
        label = f"range of {seeds} seeds"
        if seeds > 1 and joined:
            axes.fill_between(rates[whole], low, high, color="C0", alpha=0.25, lw=0, label=label)
        elif seeds > 1:
            axes.vlines(rates[whole], low, high, color="C0", alpha=0.35, lw=1.5, label=label)
        mean = runs.mean(axis=1)
        style = {"color": "C0", "ms": 3.5, "lw": 1.2, "label": "mean" if seeds > 1 else None}
        axes.plot(rates[whole], mean, "o-" if joined else "o", **style)
        # An accuracy or a return is read by differences, never by ratios. Points that were stopped
        # early count too: they are drawn, and often lie far above the others.
        drawn = values[known]
        if mode == "min" and drawn.min() > 0 and drawn.max() > 10 * drawn.min():
            axes.set_yscale("log")
            canvas.plain_numbers(axes.yaxis)
    if best is not None:
        label = f"best of the grid: {shortened(swept.text(best), 40)}"
        mean = values[best].mean()
        axes.plot(rates[best], mean, "*", color=BEST, ms=11, zorder=4, label=label)
    if diverged.any():
        lost = rates[diverged.any(axis=1)]
        # A diverged lane has no loss, so the cross has its x from the data and its y as a fraction
        # of the panel's height.
        style = {"color": DIVERGED, "ms": 6, "transform": axes.get_xaxis_transform()}
        axes.plot(lost, np.full(len(lost), 0.97), "x", label="diverged", **style)
    finite = rates[np.isfinite(rates)]
    if swept.labels is not None:
        _label_ticks(axes, swept)
    elif np.all(finite > 0):
        axes.set_xscale("log")
        if _is_narrow(finite):
            canvas.plain_numbers(axes.xaxis)
    elif threshold := _threshold(finite):
        axes.set_xscale("symlog", linthresh=threshold)


def _label_ticks(axes: "Axes", swept: Swept) -> None:
    """The labels of the choices along the horizontal axis."""
    labels = swept.labels or []
    shown = np.unique(swept.values).astype(int)
    long = max(len(labels[i]) for i in shown) > 12 or len(shown) > 6
    texts = [shortened(labels[i], 28) for i in shown]
    turned = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(shown, texts, fontsize=8, **turned)
    axes.set_xlim(shown[0] - 0.5, shown[-1] + 0.5)


def _band(axes: "Axes", band: Band) -> None:
    """The interpolated optimum and its interval."""
    # An open end is 0 or infinity. There the band is cut at the edge of the panel, so that it does
    # not widen the panel.
    left, right = axes.get_xlim()
    axes.axvspan(max(band.low, left), min(band.high, right), color=BEST, alpha=0.15, lw=0)
    if band.low == 0 or band.high == np.inf:
        edge = "low" if band.low == 0 else "high"
        text = f"optimum at the {edge} edge or beyond: extend"
    else:
        text = f"optimum {band.value:.2g}  [{band.low:.2g}, {band.high:.2g}], interpolated"
    axes.axvline(band.value, color=BEST, lw=1.2, label=text)
    axes.set_xlim(left, right)


def _panel(
    axes: "Axes",
    colors: "_Colors",
    swept: Swept,
    curves: Curves,
    diverged: np.ndarray,
    best: int | None,
) -> None:
    """One curve for each point, the best one bold, the diverged ones dotted."""
    # The loss of a single batch is noisy, so a running mean over a fiftieth of the losses is drawn.
    # A monitor is drawn unsmoothed, because its jumps matter, such as those of a rate.
    window = max(len(curves.at) // 50, 1) if curves.name == "train_loss" else 1
    means = [_running_mean(_mean(runs), window) for runs in curves.values]
    # If there are few measurements, each gets a dot, because short lines are easily overlooked.
    dots = "." if len(curves.at) < 30 else ""
    shown = np.linspace(0, len(means) - 1, min(len(means), DRAWN)).round().astype(int)
    for point in np.unique([*shown, *([] if best is None else [best])]):
        curve = means[point]
        lost = bool(diverged[point].any())
        style: dict[str, Any] = {"color": colors.of(point), "lw": 0.9, "ls": ":" if lost else "-"}
        if point == best:  # stands out from the crowd
            label = shortened(swept.text(point), 40)
            style = {"color": BEST, "lw": 2.2, "zorder": 3, "label": f"best: {swept.words} {label}"}
        axes.plot(curves.at, curve, marker=dots, ms=4, **style)
        # A cross marks where the curve of a diverged lane breaks off.
        ends = np.flatnonzero(np.isfinite(curve))
        if lost and ends.size and ends[-1] < len(curve) - 1:
            last = ends[-1]
            style = {"color": DIVERGED, "ms": 5, "clip_on": True}
            axes.plot(curves.at[last], curve[last], "x", **style)
    sound = [curve for curve, lost in zip(means, diverged, strict=True) if not lost.any()]
    _limits(axes, curves, sound or means, means[best] if best is not None else None)
    lost = ", diverged dotted" if diverged.any() else ""
    title = "training curves" if curves.name == "train_loss" else f"{curves.words} along the runs"
    few = f", {DRAWN} of {len(means)} points" if len(means) > DRAWN else ""
    smoothed = f", mean of {window}" if window > 1 else ""
    title = textwrap.fill(title + lost + few, 64)
    axes.set(xlabel=curves.clock, ylabel=curves.words + smoothed, title=title)
    axes.grid(alpha=0.3, which="both", lw=0.5)


def _limits(axes: "Axes", curves: Curves, sound: list[np.ndarray], best: np.ndarray | None) -> None:
    """Sets the vertical range by the curves of lanes that did not diverge.

    The range of a loss ends at the median of the first losses, or higher if the best curve goes
    higher. Lanes with a large loss would otherwise squeeze the others into a line.
    """
    values = np.concatenate(sound)
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if curves.name == "train_loss":
        first = curves.values[..., 0]
        first = first[np.isfinite(first)]
        start = float(np.median(first)) if first.size else high
        high = max(start, low)
        if best is not None and np.isfinite(best).any():
            high = max(high, float(np.nanmax(best)))
    # What is minimised is read by ratios, and what is maximised by differences. Other curves, such
    # as norms, are read by ratios where they span more than a factor of ten.
    if low > 0 and (curves.mode == "min" or (curves.mode is None and high > 10 * low)):
        axes.set_yscale("log")
        margin = float(np.clip((high / low) ** 0.15, 1.02, 1.3))
        axes.set_ylim(low / margin, high * margin**2)
        canvas.plain_numbers(axes.yaxis)
        return
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    axes.set_ylim(low - room, high + 2 * room)


class _Colors:
    """The colours of the points: along a scale for numbers, one of a palette for each choice."""

    def __init__(self, swept: Swept):
        import matplotlib
        import matplotlib.cm
        import matplotlib.colors

        self._swept = swept
        # The brightest tenth is not used, because it is hard to see on white.
        viridis = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, 256))
        finite = swept.values[np.isfinite(swept.values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (1.0, 1.0)
        # The upper end is above the lower one even if all values are equal.
        if low > 0 and swept.labels is None:
            norm = matplotlib.colors.LogNorm(low, max(high, low * 1.0001))
        elif swept.labels is None and (threshold := _threshold(finite)):
            norm = matplotlib.colors.SymLogNorm(threshold, vmin=low, vmax=high)
        else:
            norm = matplotlib.colors.Normalize(low, max(high, low + 1e-12))
        palette = matplotlib.colors.ListedColormap(viridis)
        self._scale = matplotlib.cm.ScalarMappable(norm, palette)

    def of(self, point: int) -> Any:
        """The colour of a point."""
        value = self._swept.values[point]
        if not np.isfinite(value):
            return "0.5"
        if self._swept.labels is not None:
            return f"C{int(value) % 10}"
        return self._scale.to_rgba(value)

    def explain(self, figure: "Figure", panels: "Sequence[Axes]") -> None:
        """A colour bar for numbers; a legend for choices, and for the best point."""
        import matplotlib.lines

        handles = list(panels[0].get_legend_handles_labels()[0])
        labels = self._swept.labels
        if labels is None:
            bar = figure.colorbar(self._scale, ax=list(panels), label=self._swept.words)
            finite = self._swept.values[np.isfinite(self._swept.values)]
            if np.all(finite > 0) and _is_narrow(finite):
                canvas.plain_numbers(bar.ax.yaxis)
        else:
            for i in np.unique(self._swept.values).astype(int)[:LEGEND]:
                text = shortened(labels[i], 40)
                handles.append(matplotlib.lines.Line2D([], [], color=f"C{i % 10}", label=text))
        if handles:
            # One legend for all panels: the colours and the best point are the same in each.
            panels[0].legend(handles=handles, fontsize=8, framealpha=0.9, loc="best")


def _is_narrow(values: np.ndarray) -> bool:
    """Whether values lie within a factor of ten, where powers of ten make poor labels."""
    return bool(values.size) and bool(values.max() < 10 * values.min())


def _threshold(values: np.ndarray) -> float | None:
    """Where the linear part of a symlog axis ends; `None` if a plain axis will do.

    It is the least positive value. A symlog axis is for values at or above 0, if the positive ones
    span more than a factor of ten.
    """
    positive = values[values > 0]
    if np.any(values < 0) or not positive.size or positive.max() <= 10 * positive.min():
        return None
    return float(positive.min())


def _mean(runs: np.ndarray) -> np.ndarray:
    """The mean over seeds, `[time]`; NaN where the value of any seed is NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        return runs.mean(axis=0, dtype=np.float64)


def _running_mean(curve: np.ndarray, window: int) -> np.ndarray:
    """Mean over the last `window` entries of a curve; over fewer at its start."""
    with np.errstate(invalid="ignore", over="ignore"):
        sums = np.convolve(curve, np.ones(window))[: len(curve)]
    return sums / np.minimum(np.arange(1, len(curve) + 1), window)
