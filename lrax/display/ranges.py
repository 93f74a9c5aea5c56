"""Pictures of range tests, from plain arrays."""

from typing import TYPE_CHECKING

import numpy as np

from . import canvas
from .swept import BEST, DIVERGED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def range_test(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    *,
    diverged_at: np.ndarray,
    suggested: float | None,
    note: str = "",
    name: str = "training loss",
    log: bool = True,
) -> "Figure":
    """Loss against learning rate for every seed, with smoothed curves and the suggested rate.

    Args:
      rates: `[steps]`, the rate of each update.
      losses: `[seeds, steps]`; NaN where a lane was frozen.
      smoothed: `[seeds, steps]`, running averages of the losses, after these were clipped at the
        highest of the first losses. Of several seeds, the median and the range are drawn.
      diverged_at: `[seeds]`, the update at which a lane was frozen, -1 for none.
      suggested: The suggested rate, or None.
      note: The title, such as why there is no suggestion.
      name: The label of the axis of losses.
      log: Whether the axis of rates is logarithmic.

    Returns:
      A matplotlib Figure.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    figure = canvas.figure(7, 4.2)
    axes = figure.subplots()
    for i, curve in enumerate(losses):
        label = None if i else "as measured" if len(losses) == 1 else "each seed"
        axes.plot(rates, curve, color="C0", lw=0.8, alpha=0.35, label=label)
    # `nanquantile` would warn of a step at which no seed has a finite value.
    finite = np.isfinite(smoothed).any(0)
    low, middle, high = np.full((3, len(rates)), np.nan)
    if finite.any():
        known = np.where(np.isfinite(smoothed), smoothed, np.nan)[:, finite]
        low[finite], middle[finite], high[finite] = np.nanquantile(known, [0, 0.5, 1], axis=0)
    if len(losses) > 1:
        axes.fill_between(rates, low, high, color="C0", alpha=0.15, lw=0)
    label = "average" if len(losses) == 1 else "average, median and range of seeds"
    axes.plot(rates, middle, color="C0", lw=2.2, label=label)
    lost = diverged_at[diverged_at >= 0]
    if len(lost):
        label = "diverged" if len(losses) == 1 else f"diverged ({len(lost)} of {len(losses)})"
        top = axes.get_xaxis_transform()
        heights = np.full(len(lost), 0.97)
        axes.plot(rates[lost], heights, "x", color=DIVERGED, transform=top, label=label)
    if suggested is not None:
        axes.axvline(suggested, color=BEST, lw=1.5, label=f"suggested: {suggested:.2g}")
    _limit(axes, losses)
    ends = [rates[0], rates[-1], suggested or rates[0]]
    axes.set_xlim(min(ends) / 1.3, max(ends) * 1.3)
    if log:
        axes.set_xscale("log")
    axes.set(xlabel="learning rate", ylabel=name, title=note)
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.3, which="major", lw=0.5)
    axes.legend(fontsize=8, framealpha=0.9)
    return figure


def _limit(axes: "Axes", losses: np.ndarray) -> None:
    """Ends the axis of losses just above the first losses.

    On an axis up to the losses of diverged lanes, all other losses would look alike.
    """
    start = losses[:, : max(losses.shape[1] // 10, 5)]
    known, early = losses[np.isfinite(losses)], start[np.isfinite(start)]
    if not early.size:
        return
    low, high = float(known.min()), float(early.max())
    room = max(high - low, 1e-3 * abs(high), 1e-12)
    axes.set_ylim(low - 0.1 * room, high + 0.3 * room)
