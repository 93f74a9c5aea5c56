"""Pictures of what is measured at several widths, from plain arrays."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = {"width-stable": "-", "grows": "--", "vanishes": ":"}


def against_width(
    widths: Sequence[int],
    panels: Mapping[str, Mapping[str, np.ndarray]],
    verdicts: Mapping[str, str],
) -> "Figure":
    """Curves against the width on logarithmic axes, in panels side by side.

    Args:
      widths: The widths.
      panels: `{title: {layer: [widths]}}`. A value that is not positive is not drawn.
      verdicts: `{layer: word}`, for the legend. A growing layer is dashed, a vanishing one dotted.

    Returns:
      A matplotlib Figure.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    figure = canvas.figure(1 + 3.4 * len(panels), 3.4 + 0.17 * len(verdicts))
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, layers) in zip(row, panels.items(), strict=True):
        for i, (name, values) in enumerate(layers.items()):
            # Matplotlib would warn of a logarithmic axis without any positive value.
            shown = np.where(values > 0, values, np.nan)
            style = STYLES.get(verdicts[name], "-")
            label = f"{name}: {verdicts[name]}" if axes is row[0] else None
            axes.plot(widths, shown, style, color=f"C{i % 10}", marker="o", ms=3, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.minorticks_off()
        if any(np.any(values > 0) for values in layers.values()):
            axes.set_yscale("log")
        axes.set(xlabel="width", title=title)
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.3, which="major", lw=0.5)
    row[0].set_ylabel("root mean square")
    figure.legend(loc="outside lower left", fontsize=8, frameon=False, ncols=2)
    return figure
