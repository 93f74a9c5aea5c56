"""Statistics of noisy curves that a few outliers do not move.

All of them are equivariant to scale: a curve times a positive number gives the result times it.
"""

import numpy as np

# The median absolute deviation of a normal distribution is 0.6745 of its standard deviation.
NORMAL = 1.4826


def noise(values: np.ndarray) -> float:
    """The standard deviation of a curve around its trend, from the differences of neighbours.

    Differences take the trend out, and the median takes the spikes out. 0 for fewer than 3 values.
    """
    if len(values) < 3:
        return 0.0
    # A difference of two values has twice the variance of one.
    return float(NORMAL * np.median(np.abs(np.diff(values))) / np.sqrt(2))


def running_median(values: np.ndarray, width: int) -> np.ndarray:
    """The median over a window around each value; at the ends over the nearest whole window.

    In a long curve the median is computed at some of the values, and interpolated between them.
    """
    width = min(width, len(values))
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    # At least 32 windows in the length of one. All windows of a million records, each a tenth of
    # them wide, would be a matrix of 1e11 numbers.
    places = np.arange(0, len(windows), max(width // 32, 1))
    medians = np.interp(np.arange(len(windows)), places, np.median(windows[places], axis=1))
    before = (width - 1) // 2
    return np.pad(medians, (before, width - 1 - before), mode="edge")
