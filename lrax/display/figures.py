"""Every picture, from plain arrays. Matplotlib is imported only when one is drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _require

__all__ = ["schedules"]  # the others are reached through the results that they show

DIVERGED = "#c1272d"
BEST = "#1b7837"


def schedules(
    schedules: Sequence[Any],
    steps: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    ax: Any = None,
    log: bool = False,
) -> Any:
    """Schedules in one panel, a curve for each lane of each.

    Args:
      schedules: One or more: each a `Schedule` or any function of the count, such as Optax's.
      steps: How many updates to show. By default as many as the longest of the schedules has, and a
        tenth more.
      labels: A text for each schedule; by default what it prints.
      ax: Matplotlib Axes to draw into; by default those of a new Figure.
      log: Whether the axis of the rates is logarithmic.

    Returns:
      A matplotlib Figure, not registered with pyplot unless `ax` is: `figure.savefig(path)`, or its
      display in a notebook.

    Raises:
      ImportError: if matplotlib is not installed.
      ValueError: if there is no schedule, labels are not one for each, or `steps` is below 1.
      TypeError: if one is no function of the count.

    Example:
      >>> figure = lrax.plots.schedules([lrax.cosine(peak=0.1, steps=100), lrax.linear(init=0.1, end=0.0, steps=100)])
      >>> figure.savefig("schedules.png")  # doctest: +SKIP
    """
    figure_module = _require.extra("matplotlib.figure", "plot")
    schedules = [schedules] if callable(schedules) else list(schedules)
    if not schedules:
        raise ValueError("`schedules` must be at least one schedule, got none")
    for i, schedule in enumerate(schedules):
        if not callable(schedule):
            raise TypeError(
                f"`schedules[{i}]` must be a Schedule or a function of the count, got {schedule!r}"
            )
    if labels is not None and len(labels) != len(schedules):
        raise ValueError(
            f"`labels` must be one for each of {len(schedules)} schedules, got {len(labels)}"
        )
    if steps is None:
        spans = [schedule.span() for schedule in schedules if hasattr(schedule, "span")]
        steps = max((span for span in spans if span is not None), default=100)
    counts = np.unique(
        np.linspace(0, steps := _require.count("steps", steps, 1), min(steps, 4000) + 1).round()
    )
    figure = None
    if ax is None:
        figure = figure_module.Figure(
            figsize=(7, 3.4 + 0.17 * len(schedules)), layout="constrained"
        )
        ax = figure.subplots()
    names = list(map(_name, schedules)) if labels is None else labels
    for i, (schedule, name) in enumerate(zip(schedules, names, strict=True)):
        lanes = _rates(schedule, counts.astype(np.int32))
        # Lanes of one schedule share its color, from dark to light.
        for lane, rates in enumerate(lanes):
            ax.plot(
                counts,
                rates,
                color=f"C{i % 10}",
                ls=("-", "--", "-.", ":")[i // 10 % 4],
                lw=1.4 if len(lanes) == 1 else 1.0,
                alpha=1 - 0.75 * lane / len(lanes),
                label=None
                if lane
                else name + (f"  ({len(lanes)} lanes)" if len(lanes) > 1 else ""),
            )
    if log:
        ax.set_yscale("log", nonpositive="clip")
        _floor_at(ax, [line.get_ydata() for line in ax.get_lines()])
    else:
        ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4), useMathText=True)
    ax.set(xlabel="step", ylabel="learning rate")
    ax.margins(x=0.01)
    ax.grid(alpha=0.3, which="both", lw=0.5)
    if figure is None:
        ax.legend(fontsize=8, framealpha=0.9)
    else:  # below the panel: the text of schedules is long, and would cover their curves
        figure.legend(loc="outside lower left", fontsize=8, frameon=False, labelspacing=0.3)
    return ax.figure


def _rates(schedule, counts):
    """The rates at some counts, `[lanes, n]`."""
    if hasattr(schedule, "values"):
        values = np.asarray(schedule.values(counts), np.float64)
    else:  # a function of one count, perhaps with a Python `if` on it
        values = np.stack([np.asarray(schedule(count), np.float64) for count in counts], axis=-1)
    return values.reshape(-1, len(counts))


def _floor_at(ax, curves):
    """Cuts a logarithmic axis five decades below its peak: a decay to zero would go on forever."""
    rates = np.concatenate(curves)
    rates = rates[np.isfinite(rates) & (rates > 0)]
    if rates.size:
        ax.set_ylim(bottom=max(rates.min() / 1.5, rates.max() * 1e-5))


def _name(schedule):
    text = (
        repr(schedule)
        if hasattr(schedule, "values")
        else getattr(schedule, "__qualname__", repr(schedule))
    )
    text = text.partition(".<locals>")[0]  # Optax's are functions within functions
    return text if len(text) <= 100 else text[:97] + "..."


def sweep(
    rates: np.ndarray,
    values: np.ndarray,
    losses: np.ndarray,
    diverged: np.ndarray,
    *,
    pruned: np.ndarray | None = None,
    name: str = "learning rate",
    objective: str = "loss",
    optimum: tuple[float, float, float] | None = None,
    at: Mapping[str, float] | None = None,
    joined: bool = True,
) -> Any:
    """A sweep in two panels: the objective against the rate, and the training curves.

    Args:
      rates: The swept hyperparameter, `[points]`.
      values: The objective of every lane, `[points, seeds]`.
      losses: Training losses, `[points, seeds, steps]`.
      diverged: Which lanes diverged, `[points, seeds]`.
      pruned: Which points were stopped early, whose values are what they had reached then,
        `[points]`; by default none.
      name: Name of the swept hyperparameter.
      objective: Name of the objective.
      optimum: Best rate and the ends of its interval, 0 or infinity where it is open; or `None`.
      at: Values of the other hyperparameters, for the title.
      joined: Whether a line goes through the points, which then differ in the rate alone.

    Returns:
      A matplotlib Figure, not registered with pyplot: `figure.savefig(path)`, or its display in a
      notebook.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    figure_module = _require.extra("matplotlib.figure", "plot")
    order = np.argsort(rates)
    rates, values, losses, diverged = rates[order], values[order], losses[order], diverged[order]
    pruned = np.zeros(len(rates), bool) if pruned is None else pruned[order]
    figure = figure_module.Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    name = name.replace("_", " ")
    _against_rate(
        left,
        rates,
        values,
        diverged,
        pruned,
        name,
        objective.replace("_", " "),
        optimum,
        at or {},
        joined,
    )
    _curves(
        figure, right, rates, losses, diverged, name, optimum[0] if optimum is not None else None
    )
    return figure


def curves(
    rates: np.ndarray, losses: np.ndarray, diverged: np.ndarray, *, name: str = "learning rate"
) -> Any:
    """The training curves of a sweep in one panel, averaged over seeds and coloured by the rate.

    Args:
      rates: The swept hyperparameter, `[points]`.
      losses: Training losses, `[points, seeds, steps]`.
      diverged: Which lanes diverged, `[points, seeds]`.
      name: Name of the swept hyperparameter.

    Returns:
      A matplotlib Figure, not registered with pyplot.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    figure_module = _require.extra("matplotlib.figure", "plot")
    order = np.argsort(rates)
    figure = figure_module.Figure(figsize=(7.5, 4.5), layout="constrained")
    _curves(
        figure,
        figure.subplots(),
        rates[order],
        losses[order],
        diverged[order],
        name.replace("_", " "),
    )
    return figure


def _against_rate(axes, rates, values, diverged, pruned, name, objective, optimum, at, joined):
    known = ~diverged.any(axis=1) & np.isfinite(values).all(axis=1)
    whole, early = known & ~pruned, known & pruned
    if early.any():
        means = values[early].mean(axis=1)
        axes.plot(rates[early], means, "o", color="0.6", mfc="none", ms=4, label="stopped early")
    if whole.any():
        mean, low, high = (reduce(values[whole], axis=1) for reduce in (np.mean, np.min, np.max))
        seeds = values.shape[1]
        if seeds > 1 and joined:
            axes.fill_between(
                rates[whole],
                low,
                high,
                color="C0",
                alpha=0.25,
                lw=0,
                label=f"range of {seeds} seeds",
            )
        elif seeds > 1:
            axes.vlines(
                rates[whole],
                low,
                high,
                color="C0",
                alpha=0.35,
                lw=1.5,
                label=f"range of {seeds} seeds",
            )
        label = "mean" if seeds > 1 else None
        axes.plot(
            rates[whole], mean, "o-" if joined else "o", color="C0", ms=3.5, lw=1.2, label=label
        )
        if low.min() > 0 and high.max() > 10 * low.min():
            axes.set_yscale("log")
            plain_numbers(axes.yaxis)
    if diverged.any():
        lost = rates[diverged.any(axis=1)]
        top = (
            axes.get_xaxis_transform()
        )  # x in data, y in the panel's height: a diverged lane has no loss to stand at
        axes.plot(
            lost,
            np.full(len(lost), 0.97),
            "x",
            color=DIVERGED,
            ms=6,
            transform=top,
            label="diverged",
        )
    if np.all(rates[np.isfinite(rates)] > 0):
        axes.set_xscale("log")
    elif threshold := _threshold(rates[np.isfinite(rates)]):
        axes.set_xscale("symlog", linthresh=threshold)
    if optimum is not None:
        best, low, high = optimum
        ends = axes.get_xlim()
        axes.axvspan(max(low, ends[0]), min(high, ends[1]), color=BEST, alpha=0.15, lw=0)
        if low == 0 or high == np.inf:
            text = f"best {best:.2g}, at the {'low' if low == 0 else 'high'} edge: extend"
        else:
            text = f"best {best:.2g}  [{low:.2g}, {high:.2g}]"
        axes.axvline(best, color=BEST, lw=1.2, label=text)
        axes.set_xlim(*ends)
    others = ", ".join(f"{other.replace('_', ' ')} {value:.3g}" for other, value in at.items())
    axes.set(
        xlabel=name,
        ylabel=objective,
        title=f"{objective} against {name}" + (f", at {others}" if others else ""),
    )
    axes.grid(alpha=0.3, which="both", lw=0.5)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, framealpha=0.9)


def _curves(figure, axes, rates, losses, diverged, name, best=None):
    import matplotlib.cm
    import matplotlib.colors

    finite = rates[np.isfinite(rates)]
    low, high = (finite.min(), finite.max()) if finite.size else (1.0, 1.0)
    if low > 0:
        norm = matplotlib.colors.LogNorm(low, max(high, low * 1.0001))
    elif threshold := _threshold(finite):
        norm = matplotlib.colors.SymLogNorm(threshold, vmin=low, vmax=high)
    else:
        norm = matplotlib.colors.Normalize(low, max(high, low + 1e-12))
    # Without the brightest tenth, which is hard to see on white.
    colors = matplotlib.cm.ScalarMappable(
        norm, matplotlib.colors.ListedColormap(_viridis(np.linspace(0, 0.9, 256)))
    )
    window = max(losses.shape[-1] // 50, 1)
    lowest, nearest = np.inf, None
    if best is not None:
        nearest = int(
            np.nanargmin(np.where(diverged.any(axis=1), np.inf, np.abs(np.log(rates / best))))
        )
    for point, (rate, runs, lost) in enumerate(zip(rates, losses, diverged, strict=True)):
        curve = _running_mean(runs.mean(axis=0), window)
        color = colors.to_rgba(rate) if np.isfinite(rate) else "0.5"
        (line,) = axes.plot(curve, color=color, lw=0.9, ls=":" if lost.any() else "-")
        if point == nearest:  # stands out from the crowd
            line.set(color=BEST, linewidth=2.2, zorder=3, label=f"{name} {rate:.2g}")
            axes.legend(handles=[line], fontsize=8, framealpha=0.9, loc="lower left")
        if not lost.any():
            lowest = min(lowest, curve.min())
        elif (
            not np.all(np.isfinite(curve)) and (last := int(np.argmin(np.isfinite(curve))) - 1) >= 0
        ):
            axes.plot(last, curve[last], "x", color=DIVERGED, ms=5, clip_on=False)
    if np.isfinite(lowest):
        # Diverged lanes would squeeze the others into a line: show what lies below the losses at
        # the start.
        start = float(np.median(losses[..., 0][np.isfinite(losses[..., 0])]))
        if lowest > 0:
            axes.set_yscale("log")
            margin = np.clip((start / lowest) ** 0.15, 1.02, 1.3)
            axes.set_ylim(lowest / margin, max(start, lowest) * margin**2)
            plain_numbers(axes.yaxis)
        else:
            axes.set_ylim(lowest - 0.05 * (start - lowest), start + 0.3 * (start - lowest))
    axes.set(
        xlabel="step",
        ylabel="training loss",
        title="training curves" + (", diverged dotted" if diverged.any() else ""),
    )
    axes.grid(alpha=0.3, which="both", lw=0.5)
    figure.colorbar(colors, ax=axes, label=name)


def _viridis(places: np.ndarray) -> np.ndarray:
    import matplotlib

    return matplotlib.colormaps["viridis"](places)


def _threshold(values: np.ndarray) -> float | None:
    """The least positive of values that are zero or spread over more than a factor of ten, if they are such."""
    positive = values[values > 0]
    if np.any(values < 0) or not positive.size or positive.max() <= 10 * positive.min():
        return None
    return float(positive.min())


def plain_numbers(axis: Any) -> None:
    """Writes 0.2 rather than 2 x 10^-1 on a logarithmic axis of losses.

    Args:
      axis: A matplotlib Axis.
    """
    import matplotlib.ticker

    class Plain(matplotlib.ticker.LogFormatter):
        def __call__(self, x, pos=None):
            return f"{x:g}" if super().__call__(x, pos) else ""

    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain(minor_thresholds=(2, 0.5)))


def _running_mean(curve: np.ndarray, window: int) -> np.ndarray:
    """Mean over the last `window` steps of a curve, or as many as there are."""
    sums = np.convolve(curve, np.ones(window))[: len(curve)]
    return sums / np.minimum(np.arange(1, len(curve) + 1), window)
