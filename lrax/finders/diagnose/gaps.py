"""Gaps in the records of a curve, and steps that were written twice."""

import numpy as np

from .log import Series


def in_order(series: Series) -> tuple[Series, tuple[tuple[float, float], ...]]:
    """The series with ascending steps, and the pairs of steps between which they went back.

    A run that was resumed from a checkpoint writes some steps twice; the later record counts.
    """
    steps, values = series
    back = np.flatnonzero(np.diff(steps) < 0)
    restarts = tuple((float(steps[i]), float(steps[i + 1])) for i in back)
    # The last record of each step: `unique` finds the first one of the reversed list.
    order, places = np.unique(steps[::-1], return_index=True)
    return Series(order, values[::-1][places]), restarts


def known(series: Series) -> Series | None:
    """The finite records of a series, or None if there are none."""
    good = np.isfinite(series.values)
    return Series(series.steps[good], series.values[good]) if good.any() else None


def without(loss: Series) -> Series:
    """The loss without the NaNs that mean that nothing was recorded.

    In a table, NaN may be a cell without a record, or a loss that is NaN. A loss that has become
    NaN stays NaN, while a gap ends. So the NaNs at the end of a curve count as losses if there are
    more of them than in any gap before. All others are gaps.
    """
    steps, values = loss
    missing = np.isnan(values)
    places = np.flatnonzero(~missing)
    if not missing.any() or not len(places):
        return loss
    tail = len(values) - 1 - places[-1]
    longest = int(np.max(np.diff(places), initial=1)) - 1
    keep = ~missing
    if tail > longest:
        keep[places[-1] + 1 :] = True
    return Series(steps[keep], values[keep])
