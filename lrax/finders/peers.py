"""How other packages read a rate off a range test: the same choices, by the same arithmetic.

Every rule gets one curve without the skipped points, and returns the index of a rate in it. The
package would see only the first `count` losses; those after them have no meaning. An index
below 0 means that the package refuses. All rules work on arrays of NumPy and of JAX; `xp` is the
library.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jax import lax, numpy as jnp

Numbers = Any  # an array of NumPy or of JAX
Index = Any  # a whole number, of NumPy or of JAX

APART = 15  # `slide`: the distance in indices between the points whose slopes are compared
ALIKE = 0.005  # `slide`: slopes are alike if their difference is at most this


class Curve(NamedTuple):
    """A curve of a range test.

    Attributes:
      rates: `[n]`.
      losses: `[n]`.
      count: How many losses at the front count. It is traced if the losses are.
    """

    rates: Numbers
    losses: Numbers
    count: Index


Rule = Callable[[ModuleType, Curve], Index]


def valley(xp: ModuleType, curve: Curve) -> Index:
    """fastai: about halfway along the longest run of falling losses.

    The losses of a run are in order, but need not be neighbours.
    """
    n = len(curve.losses)
    if n == 0:
        return xp.asarray(-1)
    at = np.arange(n)
    # The losses that do not count become infinite. They are below no loss, so they lengthen no run.
    losses = xp.where(at < curve.count, curve.losses, np.inf)

    def longest(i: Index, runs: Numbers) -> Numbers:
        before = (at < i) & (losses > losses[i])
        run = 1 + xp.max(xp.where(before, runs, 0))
        return jnp.where(at == i, run, runs) if xp is jnp else np.where(at == i, run, runs)

    runs = xp.ones(n, int)
    if xp is jnp:
        runs = lax.fori_loop(1, n, longest, runs)
    else:
        for i in range(1, n):
            runs = longest(i, runs)
    end, run = xp.argmax(runs), xp.max(runs)
    # fastai computes the start of the run as if its losses were neighbours: the end minus the
    # length. It goes on from there by a third and a sixth of the length. The result may be -1.
    index = xp.where(run > 1, end - run + run // 3 + run // 6, 0)
    index = xp.where(index < 0, curve.count - 1, index)  # as a Python list reads -1
    return xp.where(curve.count > 0, index, -1)


def slide(xp: ModuleType, curve: Curve) -> Index:
    """fastai: from the end down, until the slopes at both ends of an interval are alike."""
    n, count = len(curve.losses), curve.count
    if n <= APART:
        return xp.asarray(-1)
    slopes = _slopes(xp, curve)
    back = np.arange(n)  # how often the interval was moved
    right = xp.maximum(count - 1 - back, 0)
    left = xp.maximum(right - APART, 0)
    inside = back <= count - 1 - APART
    differ = inside & (abs(slopes[right] - slopes[left]) > ALIKE)
    moves = xp.argmin(xp.append(differ, False))
    # fastai keeps the rate of the last interval whose slopes still differ; if those of the first
    # interval are alike, the rate of the first.
    index = count - 1 - APART - xp.maximum(moves - 1, 0)
    return xp.where(count > APART, index, -1)


def minimum(xp: ModuleType, curve: Curve) -> Index:
    """fastai: the rate of the lowest loss. The suggestion is a tenth of it (`Method.divisor`)."""
    return _lowest(xp, curve.losses, curve.count, curve.count >= 1)


def steep(xp: ModuleType, curve: Curve) -> Index:
    """fastai: the steepest descent in the logarithm of the rate."""
    if len(curve.losses) < 2:
        return xp.asarray(-1)
    logs = xp.log(curve.rates)
    slopes = (curve.losses[1:] - curve.losses[:-1]) / (logs[1:] - logs[:-1])
    return _lowest(xp, slopes, curve.count - 1, curve.count >= 2)


def steepest(xp: ModuleType, curve: Curve) -> Index:
    """torch-lr-finder, and Lightning before 2.5.3: the steepest descent from index to index."""
    if len(curve.losses) < 2:
        return xp.asarray(-1)
    return _lowest(xp, _slopes(xp, curve), curve.count, curve.count >= 2)


def by_rate(xp: ModuleType, curve: Curve) -> Index:
    """Lightning from 2.5.3 on: the steepest descent in the rate itself, as `torch.gradient`."""
    if len(curve.losses) < 2:
        return xp.asarray(-1)
    after, before = _neighbours(xp, curve)
    at = np.arange(len(curve.losses))
    rates, losses = curve.rates, curve.losses
    safe = lambda gap: xp.where(gap != 0, gap, 1)
    # At an end of the curve one gap is 0. It becomes 1 here, and `ends` has the slope there.
    down, up = rates - rates[before], rates[after] - rates
    inside = (at > before) & (after > at)
    down, up = xp.where(inside, down, 1), xp.where(inside, up, 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # rates that are equal
        a = -up / (down * (down + up))
        b = (up - down) / (down * up)
        c = down / (up * (down + up))
        middle = a * losses[before] + b * losses + c * losses[after]
    ends = (losses[after] - losses[before]) / safe(rates[after] - rates[before])
    slopes = xp.where(inside, middle, ends)
    return _lowest(xp, slopes, curve.count, curve.count >= 2)


def falling(xp: ModuleType, curve: Curve) -> Index:
    """ignite: the steepest descent before the lowest loss, the ends of the fall excluded."""
    n = len(curve.losses)
    if n < 3:
        return xp.asarray(-1)
    lowest = xp.maximum(_lowest(xp, curve.losses, curve.count, curve.count >= 1), 0)
    slopes = 0.5 * (curve.losses[2:] - curve.losses[:-2])
    # The slope at index 0 is that of the loss at index 1. A refusal becomes 1 - 2 = -1.
    return 1 + _lowest(xp, slopes, lowest - 1, lowest >= 2, refused=-2)


def _slopes(xp: ModuleType, curve: Curve) -> Numbers:
    """The slopes from index to index, as `np.gradient` computes them."""
    after, before = _neighbours(xp, curve)
    return (curve.losses[after] - curve.losses[before]) / xp.maximum(after - before, 1)


def _neighbours(xp: ModuleType, curve: Curve) -> tuple[Numbers, Numbers]:
    """The indices after and before each index; at an end of the curve, the index itself."""
    at = np.arange(len(curve.losses))
    last = xp.maximum(curve.count - 1, 0)
    return xp.minimum(at + 1, last), xp.minimum(xp.maximum(at - 1, 0), last)


def _lowest(xp: ModuleType, values: Numbers, count: Index, holds: Any, refused: int = -1) -> Index:
    """The index of the lowest of the first `count` values; `refused` unless `holds`."""
    if len(values) == 0:
        return xp.asarray(refused)
    among = np.arange(len(values)) < count
    return xp.where(holds, xp.argmin(xp.where(among, values, np.inf)), refused)
