"""lrax's own reading of a range test: half the rate of the lowest loss, if there is a descent."""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from ..probes.curves import smoothed
from .peers import Curve

FEWEST = 5  # losses that a curve must have, to be read at all
BETA = 0.9  # of the zero-phase average, for curves of 100 losses and more
WIDTH = 10  # for curves of n < 100 losses, beta is 1 - WIDTH / n, so that the average is narrower
EARLY = 10  # the start of a curve is its first tenth
SURE = 4.0  # standard deviations of the noise that a descent must exceed
SHARE = 0.5  # the suggested rate is this part of the rate of the lowest loss

Flag = Any  # a bool, of NumPy or of JAX


class Reading(NamedTuple):
    """What one curve of a range test says.

    Attributes:
      index: Where the smoothed loss is lowest.
      few: Whether there are fewer than `FEWEST` losses. Then `no_descent` is true, and the
        other fields say nothing.
      no_descent: Whether the loss does not fall by more than its noise.
      monotone: Whether the loss only falls or only rises, apart from its noise.
      hit_upper_edge: Whether the loss does not rise again before the highest rate.
      hit_lower_edge: Whether the loss rises from the lowest rate on, or the suggested rate is below
        the lowest one.
    """

    index: Any
    few: Flag
    no_descent: Flag
    monotone: Flag
    hit_upper_edge: Flag
    hit_lower_edge: Flag


def read(xp: ModuleType, curve: Curve) -> Reading:
    """Reads one curve, of NumPy or of JAX.

    The average has no lag, so that the lowest loss is where it was measured. Losses above the
    highest one of the start are first lowered to it, because a single loss of a diverged run is so
    large that it would hide the minimum before it in the average.
    """
    rates, losses, count = curve
    n = len(losses)
    if n < FEWEST:
        return Reading(xp.asarray(0), *[xp.asarray(flag) for flag in (True, True, *[False] * 3)])
    few = count < FEWEST
    inside = (np.arange(n) < count) | few  # with few losses all are used, and the result is ignored
    average, ceiling, beta = averaged(xp, losses, inside)

    low = xp.where(inside, average, np.inf)
    high = xp.where(inside, average, -np.inf)
    lowest, index = xp.min(low), xp.argmin(low)
    # The noise is read from the losses up to the lowest one, and always from the first
    # `2 * first`. Beyond the lowest loss, a run may swing by far more than its noise.
    first = max(n // EARLY, FEWEST)
    calm = inside & (losses <= ceiling) & (np.arange(n) <= xp.maximum(index, 2 * first))
    noise = _noise(xp, xp.where(calm, losses, np.nan), beta)
    noise = noise + 1e-6 * xp.max(abs(xp.where(inside, average, 0)))  # the rounding of losses
    minimum = np.minimum.accumulate if xp is np else lax.cummin
    maximum = np.maximum.accumulate if xp is np else lax.cummax
    known = xp.where(inside, average, average[0])  # values outside are not used
    fall = xp.max(xp.where(inside, maximum(high) - known, 0))
    rise = xp.max(xp.where(inside, known - minimum(low), 0))
    # The ceiling hides how far a loss rises, so the rise at the end is read from the losses
    # as measured.
    end = xp.median(xp.where(inside, losses, lowest)[-first:]) - lowest
    rise = xp.maximum(rise, end)

    no_descent = ~(average[0] - lowest > noise)
    # A curve that ends early has diverged there.
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
    """Clips a curve at its ceiling, then averages it without a lag.

    Args:
      xp: The library.
      losses: `[n]`.
      inside: `[n]`, which of the losses count.

    Returns:
      The average; the ceiling, which is the highest loss of the start; and the beta.
    """
    n = len(losses)
    start = max(n // EARLY, FEWEST)
    ceiling = xp.max(xp.where(inside[:start], losses[:start], -np.inf))
    cut = xp.where(inside, xp.minimum(losses, ceiling), np.nan)
    beta = min(BETA, max(1 - WIDTH / n, 0.0))
    return smoothed(xp, cut, "zero_phase", beta), ceiling, beta


def _noise(xp: ModuleType, losses: Any, beta: float) -> Any:
    """The most by which the noise of single losses can move the average at the end of a curve.

    It is `SURE` standard deviations of the average, which is one-sided there. The noise is read
    from second differences, in which a straight trend cancels. NaN stands for a loss that is not
    used.
    """
    bends = (losses[2:] - 2 * losses[1:-1] + losses[:-2]) / np.sqrt(6)
    known = xp.where(xp.isnan(bends).all(), 0.0, bends)
    deviation = 1.4826 * xp.nanmedian(abs(known))
    return SURE * np.sqrt((1 - beta) / (1 + beta)) * deviation
