"""Schedules that go up and down: cyclic rates, warm restarts, one cycle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from . import landmarks
from .builders import builder
from .concrete import known, library
from .counts import MOST, alike, divided, minus, real
from .lengths import warn_if_empty
from .pieces import along
from .schedule import Schedule, Static
from .shapes import as_shape, between, pick, power, progress, whole_power

DIFFERENT = 64  # only this many restart cycles differ in length; later ones are like the 64th
FAR = 2.0**40  # the longest cycle in steps, longer than any schedule


def cyclic(
    low: ArrayLike,
    high: ArrayLike,
    up: ArrayLike,
    down: ArrayLike | None = None,
    *,
    mode: str = "triangular",
    gamma: ArrayLike = 1.0,
) -> Schedule:
    r"""Triangles between `low` and `high`, for as long as training goes on.

    $$\eta(t) = \text{low} + (\text{high} - \text{low}) \, x(t) \, k(t) \, \text{gamma}^t$$

    where $x$ climbs from 0 to 1 in `up` steps and falls back in `down` steps. With
    `mode="triangular2"`, $k$ is $2^{-c}$ in the cycle $c = 0, 1, \dots$; otherwise it is 1. Use it
    with the bounds of a range test, and `up` at 2 to 10 epochs.

    Args:
      low: Lowest rate, at least 0.
      high: Highest rate, at least `low`.
      up: Steps of the climb, at least 0.
      down: Steps of the fall, at least 0; `None` is `up`. `up + down` is above 0.
      mode: `"triangular"`, `"triangular2"` or `"exp_range"`. `"triangular2"` halves the amplitude
        after each cycle. `"exp_range"` is the usual name of `"triangular"` with a `gamma` below 1;
        here both words give the same formula.
      gamma: Factor on the amplitude per step, from 0 to 1.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or `mode` is unknown.

    Example:
      >>> lrax.cyclic(low=0.0, high=1.0, up=2, mode="triangular2").values(9)
      Array([0.  , 0.5 , 1.  , 0.5 , 0.  , 0.25, 0.5 , 0.25, 0.  ], dtype=float32)

    Reference:
      Smith. Cyclical Learning Rates for Training Neural Networks. 2015, arXiv:1506.01186.
    """
    hyperparams = _require.real(low=low, high=high, up=up, gamma=gamma)
    if down is not None:
        hyperparams |= _require.real(down=down)
        _require.nonnegative(hyperparams, "down")
    _require.nonnegative(hyperparams, "low", "high", "up", "gamma")
    _require.at_most("`low` must be at most `high`", hyperparams["low"], hyperparams["high"])
    _require.at_most(
        "`gamma` must be at most 1", hyperparams["gamma"], np.ones((), _require.float_dtype())
    )
    _require.positive(
        {"up + down": hyperparams["up"] + hyperparams.get("down", hyperparams["up"])}, "up + down"
    )
    _require.choice("mode", mode, ("triangular", "triangular2", "exp_range"))
    return Schedule(_cyclic, {**hyperparams, "down": hyperparams.get("down"), "mode": Static(mode)})


@builder(cyclic, landmarks=landmarks.cyclic)
def _cyclic(count, low, high, up, down, mode, gamma):
    down = up if down is None else down
    cycle, step = divided(jnp.maximum(count, 0), up + down)
    left = minus(up, step)
    climb, _ = progress(step, left, up)
    _, fall = progress(minus(step, up), minus(up + down, step), down)
    amplitude = jnp.where(left > 0, climb, fall) * power(gamma, real(jnp.maximum(count, 0)))
    if mode == "triangular2":
        amplitude = amplitude * 0.5**cycle
    return low + (high - low) * amplitude


def cosine_restarts(
    peak: ArrayLike,
    first: ArrayLike,
    *,
    mult: ArrayLike = 1.0,
    end: ArrayLike = 0.0,
    decay: ArrayLike = 1.0,
    cycles: ArrayLike | None = None,
) -> Schedule:
    r"""Warm restarts: half cosine waves from the peak to `end`, one after the other.

    $$\eta(t) = \text{end} + (\text{peak} \cdot \text{decay}^i - \text{end}) \,
    \frac{1 + \cos(\pi p)}{2}, \quad
    p = \frac{t - t_i}{\text{first} \cdot \text{mult}^i}$$

    in the cycle $i = 0, 1, \dots$ that begins at $t_i$. Use it to have a good model at the end of
    every cycle, or for snapshot ensembles; `mult` of 2 is common.

    Args:
      peak: Rate at the start of the first cycle, at least 0.
      first: Length of the first cycle in optimizer updates, above 0.
      mult: Length of a cycle divided by the length of the one before, above 0. With `mult` above 1,
        all cycles from the 64th on have the same length. With `mult` below 1, all cycles together
        take `first / (1 - mult)` updates, and then `end` is held.
      end: Rate that each cycle falls to, at least 0.
      decay: Peak of a cycle divided by the peak of the one before, at least 0. (Keras' `m_mul`
        scales the distance to `end` instead:
        `lrax.add(end, lrax.cosine_restarts(peak - end, first, decay=m_mul))`.)
      cycles: Number of cycles, at least 1, after which the rate stays at `end`; `None` is without
        limit.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> print(lrax.cosine_restarts(peak=1.0, first=2, mult=2.0).values(8).round(3))
      [1. 0.5 1. 0.854 0.5 0.146 1. 0.962 ]

    Reference:
      Loshchilov, Hutter. SGDR: Stochastic Gradient Descent with Warm Restarts. 2016,
      arXiv:1608.03983.
    """
    hyperparams = _require.real(peak=peak, first=first, mult=mult, end=end, decay=decay)
    _require.nonnegative(hyperparams, "peak", "end", "decay")
    _require.positive(hyperparams, "first", "mult")
    if cycles is not None:
        hyperparams |= _require.real(cycles=cycles)
        _require.at_least(hyperparams, 1, "cycles")
    return Schedule(_cosine_restarts, {**hyperparams, "cycles": hyperparams.get("cycles")})


@builder(cosine_restarts, landmarks=landmarks.cosine_restarts)
def _cosine_restarts(count, peak, first, mult, end, decay, cycles):
    count = jnp.maximum(count, 0)
    if known(mult) and mult < 1:
        rate, cycle = _shrinking(count, peak, first, mult, end, decay)
    else:
        rate, cycle = _growing(count, peak, first, mult, end, decay, cycles)
    if not known(mult):  # it may be on either side of 1, so both rates are computed
        shorter, i = _shrinking(count, peak, first, mult, end, decay)
        rate, cycle = jnp.where(mult < 1, shorter, rate), jnp.where(mult < 1, i, cycle)
    return rate if cycles is None else jnp.where(cycle < cycles, rate, end)


def _growing(count, peak, first, mult, end, decay, cycles):
    """The rate and the cycle where no cycle is shorter than the one before."""
    if known(mult) and mult == 1:
        cycle, done = divided(count, first)
        length = first
    else:
        cycle, done, length = _found(count, first, mult, cycles)
    top = peak * whole_power(decay, cycle)
    return between(top, end, done, minus(length, done), length, "cosine"), cycle


def _found(count, first, mult, cycles):
    """The cycle of a count, the steps done in it and its length, for `mult` of at least 1."""
    # A table of the cycles' beginnings is searched. The floor of a logarithm would be wrong by a
    # step or a cycle near a restart.
    xp = library(first, mult)
    few = known(cycles) and cycles < DIFFERENT
    numbers = np.arange(np.ceil(cycles) if few else DIFFERENT, dtype=float)
    grown = xp.where(mult < 1, 1.0, mult) ** numbers
    lengths = xp.minimum(first * xp.minimum(grown, FAR), FAR)
    begins = xp.concatenate([lengths[:1] * 0, xp.cumsum(lengths)[:-1]])
    if known(begins):  # keep the cycles that a count can reach
        lengths, begins = lengths[begins <= MOST], begins[begins <= MOST]
    count, begins = alike(count, begins)
    cycle, begin, length = pick(count, begins[1:], numbers, begins, lengths)
    done = real(count - begin)
    if len(begins) < DIFFERENT:
        return cycle, done, length
    # Past the table all cycles have the same length. With `mult` of 1 this holds from the first
    # cycle on, and the remainder is taken of the count itself. The remainder of `count - begin`
    # would be inexact near 2^24 if `begin` is fractional. The gradient is that of the count minus
    # the lengths of the cycles before.
    even = mult == 1
    more, rest = divided(jnp.where(even, real(count), done), length)
    more = jnp.where(even, more - cycle, more)
    done = done - more * length
    return cycle + more, done + lax.stop_gradient(rest - done), length


def _shrinking(count, peak, first, mult, end, decay):
    """The rate and the cycle for `mult` below 1, from the steps left until all cycles have ended.

    With `mult` of at least 1 the result is finite, and not used.
    """
    # Where the result is not used, 0.5 stands in for `mult`. The lower bound keeps `mult` a number
    # that float32 can hold.
    xp = library(mult)
    mult = xp.maximum(xp.where(mult < 1, mult, 0.5), 2.0**-90)
    total = first / (1 - mult)
    # The whole steps are subtracted first, so that the few steps left have all their digits.
    whole = total - total % 1
    left = lax.stop_gradient(whole) - real(count) + (total - lax.stop_gradient(whole))
    inside = left > 0
    left = jnp.where(inside, left, total)
    # Cycle i begins when `total * mult**i` steps are left. The logarithm is rounded, so a count
    # that is very close to a restart is taken to be at the restart.
    slope = xp.log(mult)
    cycle = lax.stop_gradient(jnp.log(left / total) / slope)
    near = jnp.round(cycle)
    off = abs((cycle - near) * lax.stop_gradient(slope))
    index = jnp.where(off < 4e-6, near, jnp.floor(cycle))
    begin, close = total * mult**index, total * mult ** (index + 1)
    length, rest = begin - close, jnp.maximum(left - close, 0)
    rate = between(peak * whole_power(decay, index), end, begin - left, rest, length, "cosine")
    return jnp.where(inside, rate, end), index


def one_cycle(
    peak: ArrayLike,
    steps: ArrayLike,
    *,
    pct_start: ArrayLike = 0.3,
    div: ArrayLike = 25.0,
    final_div: ArrayLike = 1e4,
    phases: int = 2,
    shape: str | Callable[[Any], Any] = "cosine",
) -> Schedule:
    r"""One cycle: up from `peak / div` to `peak`, and down to `peak / (div * final_div)`.

    With `phases=2` the rate climbs for `pct_start * steps` updates and falls for the rest. With
    `phases=3`, as in the reference, it falls back to the first rate in as many updates as it
    climbed, and then to the last rate in the remaining ones. Use it with a peak near the largest
    stable rate, for fast training. `lrax.link` makes a momentum that falls while the rate climbs.

    Args:
      peak: Highest rate, at the update with the index `pct_start * steps`; at least 0.
      steps: Length of the whole in optimizer updates, at least 0.
      pct_start: Fraction of `steps` in which the rate climbs: from 0 to 1, or from 0 to 0.5 with
        three phases.
      div: `peak` divided by the rate at the start, above 0.
      final_div: The rate at the start divided by the rate at the end, above 0.
      phases: 2 or 3.
      shape: Shape of each phase, as under `lrax.ramp`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, `phases` is neither 2 nor 3, or `shape`
        is an unknown word.

    Warns:
      UserWarning: if `steps` is a concrete 0: nothing is trained.

    Example:
      >>> print(lrax.one_cycle(peak=1.0, steps=10, div=10.0, shape="linear").values(12).round(2))
      [0.1 0.4 0.7 1. 0.86 0.71 0.57 0.43 0.29 0.14 0. 0. ]

    Reference:
      Smith, Topin. Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
      Rates. 2017, arXiv:1708.07120.
    """
    hyperparams = _require.real(
        peak=peak, steps=steps, pct_start=pct_start, div=div, final_div=final_div
    )
    _require.nonnegative(hyperparams, "peak", "steps", "pct_start")
    _require.positive(hyperparams, "div", "final_div")
    if not isinstance(phases, (int, np.integer)) or phases not in (2, 3):
        raise ValueError(f"`phases` must be 2 or 3, got {phases!r}")
    limit = np.asarray(1 if phases == 2 else 0.5, _require.float_dtype())
    _require.at_most(
        f"`pct_start` must be at most {limit} with {phases} phases", hyperparams["pct_start"], limit
    )
    # A small divisor makes an infinite rate. It is refused here, where the message can name it.
    with np.errstate(all="ignore"):
        init = hyperparams["peak"] / hyperparams["div"]
        rates = {
            "peak` / `div": init,
            "peak` / `div` / `final_div": init / hyperparams["final_div"],
        }
    _require.nonnegative(rates, *rates)
    words = {"phases": Static(phases), "shape": as_shape("shape", shape)}
    warn_if_empty(hyperparams["steps"], 0.0)
    return Schedule(_one_cycle, {**hyperparams, **words})


@builder(one_cycle)
def _one_cycle(count, peak, steps, pct_start, div, final_div, phases, shape):
    # PyTorch's peak comes one update earlier, at pct_start * steps - 1, and its end at steps - 1;
    # Optax has both as here.
    init = peak / div
    top = pct_start * steps
    back, foot = ([init], [2 * top]) if phases == 3 else ([], [])
    values = [init, peak, *back, init / final_div]
    joins = [top, *foot, steps]
    return along(count, library(*values).stack(values), library(*joins).stack(joins), shape)
