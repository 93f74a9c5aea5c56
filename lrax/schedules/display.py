"""How schedules are shown: the counts of a curve, a table of key rates, a notebook's picture."""

import html as markup
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.core import Tracer

from ..display.axes import number
from ..display.svg import svg
from .landmarks import Landmarks
from .span import landmarks, span

_POINTS = 2001


def html(schedule: Any) -> str | None:
    """The text and the curve of a schedule for a notebook; `None` where its values are not known.

    Args:
      schedule: A `Schedule`.

    Returns:
      An HTML element without scripts, style sheets or anything from the network; or `None`.
    """
    steps = span(schedule)
    if steps is None:
        return None
    counts = sampled(steps)
    try:
        if isinstance(schedule.values(counts[:1]), Tracer):
            return None
        curves = rates(schedule, counts)
    except Exception:
        # A user's function may raise anything, and a transformation may put anything in place of a
        # leaf. The notebook then shows the text alone.
        return None
    text = repr(schedule)
    labels = [text] if len(curves) == 1 else [f"lane {lane}" for lane in range(len(curves))]
    picture = svg(counts, list(curves), labels)
    code = f'<code style="background:none;color:inherit">{markup.escape(text)}</code>'
    return f"<div>{code}<br>{picture}</div>"


def sampled(steps: int, also: Sequence[float] = ()) -> np.ndarray:
    """The counts of a curve from 0 to `steps`: at most `_POINTS` of them, and those in `also`."""
    counts = np.linspace(0, steps, min(steps + 1, _POINTS)).round()
    return np.unique([*counts, *(count for count in also if 0 <= count <= steps)]).astype(np.int64)


def rates(schedule: Any, counts: np.ndarray) -> np.ndarray:
    """The rates at some counts, `[lanes, n]`."""
    return np.asarray(schedule.values(counts), np.float64).reshape(-1, len(counts))


def marked(schedule: Any) -> list[int]:
    """The counts at which something happens: the first update at or after each landmark."""
    # 1e-6 is subtracted, so that a rounding error does not lead to the next update.
    return [math.ceil(count - 1e-6) for count, _ in (landmarks(schedule) or Landmarks()).marks]


def key_rates(schedules: Sequence[Any], keys: Sequence[Sequence[str]], steps: int) -> str:
    """A table of the rates where something happens: at the ends, the boundaries and the peaks.

    Args:
      schedules: Schedules whose values are known.
      keys: For each schedule, the headings of its lanes.
      steps: Number of updates in which peaks are searched. If no schedule has an end, the table
        ends there.

    Returns:
      Lines of text: the count, the rate of each lane, and what happens there.
    """
    notes: dict[int, dict[str, list[str]]] = {}
    endless = not any((landmarks(schedule) or Landmarks()).settled for schedule in schedules)
    for schedule, lanes in zip(schedules, keys, strict=True):
        for count, words in _events(schedule, steps, endless=endless):
            noted = notes.setdefault(count, {}).setdefault(words, [])
            noted += [key for key in lanes if key not in noted]
        for key, count in zip(lanes, _peaks(schedule, steps), strict=True):
            if count is not None:
                notes.setdefault(count, {}).setdefault("peak", []).append(key)
    counts = np.array(sorted(notes))
    columns = [lane for schedule in schedules for lane in rates(schedule, counts)]
    every = [key for lanes in keys for key in lanes]
    header = ["step", *(every if len(every) > 1 else ["rate"]), ""]
    rows = [header]
    for i, count in enumerate(counts.tolist()):
        # A note names its lanes unless it holds for all.
        texts = [
            words if len(noted) == len(every) else f"{words} of {', '.join(noted)}"
            for words, noted in notes[count].items()
        ]
        rows.append(
            [str(count), *(number(float(column[i])) for column in columns), "; ".join(texts)]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]]
        ).rstrip()
        for row in rows
    )


def _events(schedule: Any, steps: int, *, endless: bool) -> list[tuple[int, str]]:
    found = landmarks(schedule) or Landmarks()
    marks = [(math.ceil(count - 1e-6), words) for count, words in found.marks]
    events = [(0, "first"), (1, "second"), *marks]
    if found.end is not None and found.settled:
        end = max(math.ceil(found.end - 1e-6), 1)
        return [*events, (end - 1, "last"), (end, "end"), (2 * end, "beyond")]
    return [*events, (steps, "last shown")] if endless else events


def _peaks(schedule: Any, steps: int) -> list[int | None]:
    """The first count with the highest rate, for each lane; None where the rate is constant."""
    counts = sampled(steps, marked(schedule))
    peaks: list[int | None] = []
    values = rates(schedule, counts)
    for lane, coarse in enumerate(values):
        # Search the sampled counts, and then all counts around the one found. A rate that differs
        # from the highest only by rounding is a peak too.
        i = int(np.argmax(coarse >= coarse.max() * (1 - 1e-6)))
        near = np.arange(counts[max(i - 1, 0)], counts[min(i + 1, len(counts) - 1)] + 1)
        near = near if len(near) <= _POINTS else counts[i : i + 1]
        fine = rates(schedule, near)[lane]
        flat = coarse.max() - coarse.min() <= 1e-6 * abs(coarse.max())
        peaks.append(None if flat else int(near[np.argmax(fine >= fine.max() * (1 - 1e-6))]))
    return peaks
