"""lrax's own reading of a range test: half the rate of the lowest loss, if there is a descent."""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from ..probes.curves import smoothed
from .peers import Curve

FEWEST = 5  # losses in a curve that anything is read from
BETA = 0.9  # of the zero-phase average, for curves of 100 losses and more
WIDTH = 10  # (1 - beta) times the number of losses, for shorter curves
EARLY = 10  # the first tenth of a curve is its start
SURE = 4.0  # standard deviations of the noise that a descent must exceed
SHARE = 0.5  # the part of the rate of the lowest loss that is suggested

Flag = Any  # a bool, of NumPy or of JAX


class Reading(NamedTuple):
    """What one curve of a range test says.

    Attributes:
      index: Where the smoothed loss is lowest.
      few: Whether there are too few losses to tell anything.
      no_descent: Whether the loss does not fall by more than its noise.
      monotone: Whether the loss only falls or only rises, but for its noise.
      hit_upper_edge: Whether the loss does not rise again before the highest rate.
      hit_lower_edge: Whether the loss rises from the lowest rate on, or the rate to suggest is
        below the lowest one.
    """

    index: Any
    few: Flag
    no_descent: Flag
    monotone: Flag
    hit_upper_edge: Flag
    hit_lower_edge: Flag


def read(xp: ModuleType, curve: Curve) -> Reading:
    """Reads one curve, of NumPy or of JAX.

    The average is without a lag, so that the lowest loss is where it was measured. Losses above
    those of the start are cut down to them first: one loss of a diverged run is so large that its
    average would hide the minimum before it.
    """
    rates, losses, count = curve
    n = len(losses)
    if n < FEWEST:
        return Reading(xp.asarray(0), *[xp.asarray(flag) for flag in (True, True, *[False] * 3)])
    few = count < FEWEST
    inside = (np.arange(n) < count) | few  # with few losses the numbers below mean nothing
    average, ceiling, beta = averaged(xp, losses, inside)

    low = xp.where(inside, average, np.inf)
    high = xp.where(inside, average, -np.inf)
    lowest, index = xp.min(low), xp.argmin(low)
    # Up to the lowest loss: beyond it, a run may swing by far more than its noise.
    first = max(n // EARLY, FEWEST)
    calm = inside & (losses <= ceiling) & (np.arange(n) <= xp.maximum(index, 2 * first))
    noise = _noise(xp, xp.where(calm, losses, np.nan), beta)
    noise = noise + 1e-6 * xp.max(abs(xp.where(inside, average, 0)))  # rounding
    minimum = np.minimum.accumulate if xp is np else lax.cummin
    maximum = np.maximum.accumulate if xp is np else lax.cummax
    blank = xp.where(inside, average, average[0])
    fall = xp.max(xp.where(inside, maximum(high) - blank, 0))
    rise = xp.max(xp.where(inside, blank - minimum(low), 0))
    # The ceiling hides how far a loss rises, so its end is looked at as it is.
    end = xp.median(xp.where(inside, losses, lowest)[-first:]) - lowest
    rise = xp.maximum(rise, end)

    no_descent = ~(average[0] - lowest > noise)
    # A curve that breaks off has diverged there.
    broken = count < n
    only_falls = ~broken & (rise <= noise)
    return Reading(
        index,
        few,
        few | no_descent,
        only_falls | (fall <= noise),
        ~no_descent & ~broken & (end <= noise),
        (no_descent & (rise > noise)) | (~no_descent & (rates[index] * SHARE < rates[0])),
    )


def averaged(xp: ModuleType, losses: Any, inside: Any) -> tuple[Any, Any, float]:
    """The average of a curve without a lag, the ceiling that it was cut to, and its beta.

    Args:
      xp: The library.
      losses: `[n]`.
      inside: `[n]`, which of the losses count.
    """
    n = len(losses)
    start = max(n // EARLY, FEWEST)
    ceiling = xp.max(xp.where(inside[:start], losses[:start], -np.inf))
    cut = xp.where(inside, xp.minimum(losses, ceiling), np.nan)
    beta = min(BETA, max(1 - WIDTH / n, 0.0))
    return smoothed(xp, cut, "zero_phase", beta), ceiling, beta


def _noise(xp: ModuleType, losses: Any, beta: float) -> Any:
    """How far an average at the end of a curve strays by the noise of single losses alone.

    The noise is read from second differences, which a trend does not enter.
    """
    bends = (losses[2:] - 2 * losses[1:-1] + losses[:-2]) / np.sqrt(6)
    known = xp.where(xp.isnan(bends).all(), 0.0, bends)
    deviation = 1.4826 * xp.nanmedian(abs(known))
    return SURE * np.sqrt((1 - beta) / (1 + beta)) * deviation
