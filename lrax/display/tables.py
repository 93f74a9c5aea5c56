"""Text tables of sweeps: the text of their cells, and how the cells are aligned."""

import html
from collections.abc import Sequence

import numpy as np


def spread(values: np.ndarray) -> str:
    """The mean over seeds, with half their range behind the ±; a dash if none is finite."""
    # The mean of two losses of 3e38 overflows in single precision.
    known = values[np.isfinite(values)].astype(np.float64)
    if not known.size:
        return "-"
    return f"{known.mean():.4g}" + (f" ±{np.ptp(known) / 2:.2g}" if len(values) > 1 else "")


def summary(
    status: np.ndarray, causes: np.ndarray | None = None, stopped_at: int | None = None
) -> str:
    """The status of a point's lanes, the cause of the first divergence, and when it was pruned.

    The status is one word if the lanes agree, else the number of lanes with each word.

    Args:
      status: `[seeds]`, the word of each lane.
      causes: `[seeds]`, why each lane diverged; "" where it did not.
      stopped_at: The update at which the point was pruned, if it was.
    """
    words, counts = np.unique(status, return_counts=True)
    if stopped_at is not None:
        # A pruned point's loss is that of an earlier update, which its row must say.
        words = [f"pruned at {stopped_at}" if word == "pruned" else word for word in words]
    text = str(words[0])
    if len(words) > 1:
        text = ", ".join(f"{count} {word}" for word, count in zip(words, counts, strict=True))
    # Lanes of a point diverge for much the same reason, so one cause is enough.
    known = [str(cause) for cause in ([] if causes is None else causes) if cause]
    return f"{text}: {known[0]}" if known else text


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines.

    Each column is as wide as its widest cell and flush right. The last one is flush left, because
    its texts differ much in length.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def as_html(rows: Sequence[Sequence[str]], bold: int | None = None) -> str:
    """An HTML table of rows of cells; the first row is its head.

    `bold` is the index of the row in bold type, counted from the first row below the head.
    """
    # A label may be "<lambda>", which a browser would take for a tag.
    head, *body = [[html.escape(cell, quote=False) for cell in row] for row in rows]
    cells = "".join(f"<th>{cell}</th>" for cell in head)
    parts = [f"<table><thead><tr>{cells}</tr></thead><tbody>"]
    for i, row in enumerate(body):
        style = ' style="font-weight:bold"' if i == bold else ""
        cells = "".join(f"<td>{cell}</td>" for cell in row)
        parts.append(f"<tr{style}>{cells}</tr>")
    return "".join([*parts, "</tbody></table>"])
