"""Text tables of sweeps: what stands in their cells, and how they are set."""

from collections.abc import Sequence

import numpy as np


def spread(values: np.ndarray) -> str:
    """The mean over seeds, with half their range behind the ±; a dash if none is finite."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "-"
    return f"{known.mean():.4g}" + (f" ±{np.ptp(known) / 2:.2g}" if len(values) > 1 else "")


def summary(status: np.ndarray) -> str:
    """The status of a point's lanes: one word if they agree, else how many have which."""
    words, counts = np.unique(status, return_counts=True)
    if len(words) == 1:
        return str(words[0])
    return ", ".join(f"{count} {word}" for word, count in zip(words, counts, strict=True))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines, each column as wide as its widest cell and flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
