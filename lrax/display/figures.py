"""Pictures of schedules. Matplotlib is imported only when one is drawn."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _require
from . import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["schedules"]  # the other pictures are methods of the results that they show

# A `Schedule` or a function of the count. The class itself cannot be imported here, because the
# package `schedules` imports this one.
ScheduleLike = Callable[..., Any]

ROW = 6  # panels in a row of the gallery
CURVE = 4000  # the most intervals between the points of a curve


def schedules(
    schedules: ScheduleLike | Sequence[ScheduleLike],
    steps: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    ax: "Axes | None" = None,
    log: bool = False,
) -> "Figure":
    """Draws schedules in one panel, with one curve for each lane of each schedule.

    Args:
      schedules: One or more: each a `Schedule` or any function of the count, such as Optax's.
      steps: Number of updates to show, at least 1. By default the longest `Schedule.span` of the
        schedules; 100 if all of them are plain functions.
      labels: A text for each schedule; by default its `repr`, or the name of a plain function.
      ax: Matplotlib Axes to draw into; by default those of a new Figure.
      log: Whether the axis of the rates is logarithmic.

    Returns:
      A matplotlib Figure. A notebook shows it if it is the value of a cell;
      `figure.savefig(path)` writes it.

    Raises:
      ImportError: if matplotlib is not installed.
      ValueError: if there is no schedule, `labels` does not have one text for each schedule, or
        `steps` is below 1.
      TypeError: if a schedule is not callable, or `ax` is not Axes of matplotlib.

    Example:
      >>> shapes = [lrax.cosine(peak=0.1, steps=100), lrax.linear(init=0.1, end=0.0, steps=100)]
      >>> figure = lrax.display.schedules(shapes)
      >>> figure.savefig("schedules.png")  # doctest: +SKIP
    """
    several = _checked(schedules)
    if labels is not None:
        labels = [str(label) for label in _require.listed("labels", labels)]
    _require.flag("log", log)
    if ax is not None and not callable(getattr(ax, "plot", None)):
        raise TypeError(f"`ax` must be Axes of matplotlib or None, got {ax!r}")
    if labels is not None and len(labels) != len(several):
        raise ValueError(
            f"`labels` must be one for each of {len(several)} schedules, got {len(labels)}"
        )
    names = list(map(_name, several)) if labels is None else labels
    counts = _counts(several, steps)
    # Each schedule has a line in the legend below the panel, so the figure grows with their number.
    figure = canvas.figure(7, 3.4 + 0.17 * len(several)) if ax is None else None
    axes = figure.subplots() if figure is not None else ax
    assert axes is not None  # for the type checker: without `ax` there is a figure
    for i, (schedule, name) in enumerate(zip(several, names, strict=True)):
        _draw(axes, counts, _rates(schedule, counts), name, i)
    if log:
        # A rate of 0 has no logarithm. With "clip" its curve leaves the panel at the lower edge.
        axes.set_yscale("log", nonpositive="clip")
        _floor_at(axes, [np.asarray(line.get_ydata()) for line in axes.get_lines()])
    else:
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4), useMathText=True)
    axes.set(xlabel="step", ylabel="learning rate")
    axes.margins(x=0.01)
    axes.grid(alpha=0.3, which="both", lw=0.5)
    if figure is not None:
        # Below the panel, because the text of schedules is long and would cover the curves.
        figure.legend(loc="outside lower left", fontsize=8, frameon=False, labelspacing=0.3)
        return figure
    axes.legend(fontsize=8, framealpha=0.9)
    # For the type checker, `axes.figure` may also be a SubFigure.
    return axes.figure  # pyright: ignore[reportReturnType]


def gallery(panels: Mapping[str, tuple[ScheduleLike, int]]) -> "Figure":
    """Draws a small panel for each schedule.

    Args:
      panels: `{title: (schedule, updates to show)}`, at least one.

    Returns:
      A matplotlib Figure.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    rows = -(-len(panels) // ROW)
    figure = canvas.figure(2.2 * ROW, 1.5 * rows)
    places = list(np.ravel(figure.subplots(rows, ROW, squeeze=False)))
    for axes, (title, (schedule, steps)) in zip(places, panels.items(), strict=False):
        counts = _counts([schedule], steps)
        _draw(axes, counts, _rates(schedule, counts), title, 0)
        axes.set_title(title, fontsize=9)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        axes.tick_params(labelsize=6)
        axes.grid(alpha=0.3, lw=0.5)
    for empty in places[len(panels) :]:
        empty.remove()
    return figure


def _checked(schedules: Any) -> list[ScheduleLike]:
    """The schedules as a list, each of them callable."""
    several = [schedules] if callable(schedules) else _require.listed("schedules", schedules)
    if not several:
        raise ValueError("`schedules` must be at least one schedule, got none")
    for i, schedule in enumerate(several):
        if not callable(schedule):
            raise TypeError(
                f"`schedules[{i}]` must be a Schedule or a function of the count, got {schedule!r}"
            )
    return several


def _counts(schedules: list[Any], steps: int | None) -> np.ndarray:
    """The counts of the curves: all from 0 to `steps`, or an even selection if there are many."""
    if steps is None:
        spans = [schedule.span() for schedule in schedules if hasattr(schedule, "span")]
        steps = max((span for span in spans if span is not None), default=100)
    steps = _require.count("steps", steps, 1)
    return np.unique(np.linspace(0, steps, min(steps, CURVE) + 1).round()).astype(np.int32)


def _draw(axes: "Axes", counts: np.ndarray, lanes: np.ndarray, name: str, i: int) -> None:
    """The curves of the schedule with index `i`. Its lanes share a colour, from dark to light."""
    # Matplotlib has ten colours, "C0" to "C9". After ten schedules the next line style is taken.
    style: dict[str, Any] = {"color": f"C{i % 10}", "ls": ("-", "--", "-.", ":")[i // 10 % 4]}
    several = len(lanes) > 1
    label = f"{name}  ({len(lanes)} lanes)" if several else name
    for lane, rates in enumerate(lanes):
        alpha = 1 - 0.75 * lane / len(lanes)
        width = 1.0 if several else 1.4
        shown = None if lane else label
        axes.plot(counts, rates, lw=width, alpha=alpha, label=shown, **style)


def _rates(schedule: Any, counts: np.ndarray) -> np.ndarray:
    """The rates at some counts, `[lanes, n]`."""
    if hasattr(schedule, "values"):
        values = np.asarray(schedule.values(counts), np.float64)
    else:  # a function of one count, perhaps with a Python `if` on it
        values = np.stack([np.asarray(schedule(count), np.float64) for count in counts], axis=-1)
    return values.reshape(-1, len(counts))


def _floor_at(axes: "Axes", curves: list[np.ndarray]) -> None:
    """Ends a logarithmic axis at most five decades below the highest rate.

    A decay to zero passes through ever smaller rates, which would stretch the axis.
    """
    rates = np.concatenate(curves)
    rates = rates[np.isfinite(rates) & (rates > 0)]
    if rates.size:
        axes.set_ylim(bottom=max(rates.min() / 1.5, rates.max() * 1e-5))


def _name(schedule: Any) -> str:
    """A schedule in a line of at most 100 characters."""
    is_schedule = hasattr(schedule, "values")
    text = repr(schedule) if is_schedule else getattr(schedule, "__qualname__", repr(schedule))
    text = text.partition(".<locals>")[0]  # Optax's schedules are inner functions
    return text if len(text) <= 100 else text[:97] + "..."
