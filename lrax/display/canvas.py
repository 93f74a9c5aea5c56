"""The figures that lrax returns: matplotlib's, which also show themselves in a notebook.

A matplotlib Figure that pyplot did not make prints as `<Figure size ...>` in Jupyter and Colab,
because only pyplot registers how a notebook draws one. A Figure that pyplot made would be drawn
twice and kept in memory. So the class of the figures here defines `_repr_png_`.
"""

import base64
import functools
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import _require

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

DPI = 100  # in a notebook; `figure.savefig(path, dpi=...)` takes any other


def figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches that shows itself in a notebook.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    _require.extra("matplotlib.figure", "plot")
    return _shown()(figsize=(width, height), layout="constrained")


def as_html(draw: "Callable[[], Figure]") -> str:
    """A picture for a notebook's HTML; empty without matplotlib, so that the text stands alone.

    Args:
      draw: Returns a figure that `figure` made.
    """
    try:
        picture: Any = draw()
    except ImportError:
        return ""
    text = base64.b64encode(picture._repr_png_()).decode()
    return f'<img style="max-width:100%" src="data:image/png;base64,{text}"/>'


def plain_numbers(axis: "Axis", decades: float = 2) -> None:
    """Writes 0.2 rather than 2 x 10^-1 on a logarithmic axis.

    Args:
      axis: A matplotlib Axis.
      decades: If the axis spans fewer decades than this, some ticks between powers of ten have
        labels too. A small picture has room for fewer labels.
    """
    formatter = _plain()
    axis.set_major_formatter(formatter())
    # On an axis of less than half a decade, all ticks between powers of ten have labels.
    axis.set_minor_formatter(formatter(minor_thresholds=(decades, 0.5)))


# The classes are made when first used, because matplotlib is an extra. A pickled figure finds them
# again under their names, through `__getattr__` below.


@functools.cache
def _shown() -> "type[Figure]":
    """The class of the figures."""
    import matplotlib.figure

    class ShownFigure(matplotlib.figure.Figure):
        """A matplotlib Figure that is not registered with pyplot and shows itself in a notebook."""

        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png", dpi=DPI)
            return picture.getvalue()

    ShownFigure.__qualname__ = ShownFigure.__name__
    return ShownFigure


@functools.cache
def _plain() -> "type[LogFormatter]":
    """The class of the formatters of `plain_numbers`."""
    import matplotlib.ticker

    class PlainFormatter(matplotlib.ticker.LogFormatter):
        """The labels that a LogFormatter would show, as plain numbers."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    PlainFormatter.__qualname__ = PlainFormatter.__name__
    return PlainFormatter


def __getattr__(name: str) -> Any:
    made = {"ShownFigure": _shown, "PlainFormatter": _plain}
    if name in made:
        return made[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
