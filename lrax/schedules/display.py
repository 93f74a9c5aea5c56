"""What is drawn of a schedule: which counts, which curves, and the picture that a notebook shows."""

import html as markup
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.core import Tracer

from .span import span
from .svg import svg

_POINTS = 2001


def html(schedule: Any) -> str | None:
    """The text and the curve of a schedule for a notebook; `None` where its values are not known.

    Args:
      schedule: A `Schedule`.

    Returns:
      An HTML element without scripts, styles of its own or anything from the network.
    """
    steps = span(schedule)
    if steps is None:
        return None
    counts = sampled(steps)
    curves = rates(schedule, counts)
    if curves is None:
        return None
    text = repr(schedule)
    labels = [text] if len(curves) == 1 else [f"lane {lane}" for lane in range(len(curves))]
    picture = svg(counts, list(curves), labels)
    return f'<div><code style="background:none;color:inherit">{markup.escape(text)}</code><br>{picture}</div>'


def sampled(steps: int, also: Sequence[float] = ()) -> np.ndarray:
    """The counts from 0 to `steps` that a curve is drawn through: all of them, or as many as a picture can show."""
    counts = np.linspace(0, steps, min(steps + 1, _POINTS)).round()
    return np.unique([*counts, *(count for count in also if 0 <= count <= steps)]).astype(np.int64)


def rates(schedule: Any, counts: np.ndarray) -> np.ndarray | None:
    """The rates at some counts, `[lanes, n]`; `None` under a transformation."""
    values = schedule.values(counts)
    return None if isinstance(values, Tracer) else np.asarray(values, np.float64).reshape(-1, len(counts))
