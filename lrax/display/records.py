"""Pictures of the records of one run, or of several lanes, from plain arrays."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import canvas
from .swept import DRAWN, ROW

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def records(at: np.ndarray, curves: Mapping[str, np.ndarray]) -> "Figure":
    """A panel for each curve, over the count of updates.

    Args:
      at: The updates that were recorded, `[records]`.
      curves: `{name: [lanes, records]}`, at least one. NaN where a lane has no record.

    Returns:
      A matplotlib Figure.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    columns = min(len(curves), ROW)
    rows = -(-len(curves) // columns)
    size = (7.5, 4.0) if len(curves) == 1 else (4.2 * columns, 3.0 * rows)
    figure = canvas.figure(*size)
    panels = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axes, (name, lanes) in zip(panels, curves.items(), strict=False):
        _panel(axes, name, at, lanes)
    for empty in panels[len(curves) :]:
        empty.remove()
    return figure


def _panel(axes: "Axes", name: str, at: np.ndarray, lanes: np.ndarray) -> None:
    import matplotlib

    shown = np.linspace(0, len(lanes) - 1, min(len(lanes), DRAWN)).round().astype(int)
    # The brightest tenth is not used, because it is hard to see on white.
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(lanes)))
    # If there are few records, each gets a dot, because short lines are easily overlooked.
    style: dict[str, Any] = {"lw": 0.9, "marker": "." if len(at) < 30 else "", "ms": 4}
    for lane in shown:
        # The updates at which this lane has no record do not leave a gap in its line.
        known = ~np.isnan(lanes[lane])
        color = "C0" if len(lanes) == 1 else colors[lane]
        axes.plot(at[known], lanes[lane][known], color=color, **style)
    values = lanes[np.isfinite(lanes)]
    if values.size and values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
        canvas.plain_numbers(axes.yaxis)
    several = f", {len(lanes)} lanes" if len(lanes) > 1 else ""
    few = f", {DRAWN} of them drawn" if len(lanes) > DRAWN else ""
    axes.set(xlabel="step", title=name.replace("_", " ") + several + few)
    axes.grid(alpha=0.3, which="both", lw=0.5)
