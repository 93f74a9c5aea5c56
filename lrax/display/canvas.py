"""The figures that lrax returns: matplotlib's, which also show themselves in a notebook.

A matplotlib Figure that pyplot does not know prints as `<Figure size ...>` in Jupyter and Colab,
because only pyplot teaches the notebook to draw one. A Figure that pyplot knows would be drawn
twice and kept in memory. So this one brings its own `_repr_png_`.
"""

import functools
import io
from typing import TYPE_CHECKING, Any

from .. import _require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100  # in a notebook; `figure.savefig(path, dpi=...)` takes any other


def figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches that shows itself in a notebook.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    _require.extra("matplotlib.figure", "plot")
    return _shown()(figsize=(width, height), layout="constrained")


@functools.cache
def _shown() -> "type[Figure]":
    """The class of the figures; made when first used, because matplotlib is an extra."""
    import matplotlib.figure

    class ShownFigure(matplotlib.figure.Figure):
        """A matplotlib Figure that is not registered with pyplot and shows itself in a notebook."""

        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png", dpi=DPI)
            return picture.getvalue()

    # A pickled figure is found again under this name, through `__getattr__` below.
    ShownFigure.__qualname__ = ShownFigure.__name__
    return ShownFigure


def __getattr__(name: str) -> Any:
    if name == "ShownFigure":
        return _shown()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
