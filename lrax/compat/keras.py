"""The schedules of Keras 3 (`keras.optimizers.schedules`), under its own names, arguments and
defaults.

Keras rounds to float32, its cosines on some backends even under float64; here its formulas are
exact. Its `name` is accepted and not used, so that
`lrax.compat.keras.CosineDecay(**schedule.get_config())` translates a schedule.
"""

from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules.cycles import cosine_restarts
from ..schedules.decays import cosine, polynomial
from ..schedules.open_ended import exponential, inverse_time
from ..schedules.pieces import piecewise_constant
from ..schedules.schedule import Schedule, Static, add
from ..schedules.shapes import power as raised, progress
from ..schedules.warmups import warmup_cosine
from .arrays import is_given, listed, most, numbers, shorter, where, whole

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
]


def CosineDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    alpha: ArrayLike = 0.0,
    name: str = "CosineDecay",
    warmup_target: ArrayLike | None = None,
    warmup_steps: ArrayLike = 0,
) -> Schedule:
    r"""Half a cosine wave, after a linear warmup if there is a target: `lrax.cosine` or
    `lrax.warmup_cosine`.

    `decay_steps` does not include the warmup, as it does in Optax, and `alpha` is the end in parts
    of the peak. Without a `warmup_target` there is no warmup, whatever `warmup_steps` is.

    Args:
      initial_learning_rate: Rate at the start: of the warmup where there is one, of the decay
        otherwise; at least 0.
      decay_steps: Length of the decay in optimizer updates, above 0.
      alpha: Rate at the end in parts of the rate that the decay begins with, at least 0.
      name: Not used.
      warmup_target: Rate that the warmup leads to, at least 0; `None` for no warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.keras.CosineDecay(0.1, decay_steps=90, alpha=0.1)
      cosine(peak=0.1, steps=90, end=0.01)
      >>> lrax.compat.keras.CosineDecay(0.0, decay_steps=90, warmup_target=0.1, warmup_steps=10)
      warmup_cosine(peak=0.1, steps=100, warmup=10, init=0, end=0)
    """
    del name
    given = numbers(
        initial_learning_rate=initial_learning_rate, decay_steps=decay_steps, alpha=alpha
    )
    _require.nonnegative(given, "initial_learning_rate", "alpha")
    _require.positive(given, "decay_steps")
    init, steps, part = given["initial_learning_rate"], given["decay_steps"], given["alpha"]
    if warmup_target is None:
        return cosine(init, steps, part * init)
    given = numbers(warmup_target=warmup_target, warmup_steps=warmup_steps)
    _require.nonnegative(given, "warmup_target", "warmup_steps")
    peak, begin = given["warmup_target"], given["warmup_steps"]
    return warmup_cosine(peak, steps + begin, begin, init=init, end=part * peak)


def CosineDecayRestarts(
    initial_learning_rate: ArrayLike,
    first_decay_steps: ArrayLike,
    t_mul: ArrayLike = 2.0,
    m_mul: ArrayLike = 1.0,
    alpha: ArrayLike = 0.0,
    name: str = "SGDRDecay",
) -> Schedule:
    r"""Warm restarts for ever: `lrax.cosine_restarts`.

    `m_mul` scales the distance to the floor and not the peak itself, so with it the floor is a term
    of its own. Keras finds the cycle by a quotient of logarithms and may miss a restart by an
    update; here every restart is exact.

    Args:
      initial_learning_rate: Rate at the start, at least 0.
      first_decay_steps: Length of the first cycle in optimizer updates, above 0.
      t_mul: Length of a cycle in lengths of the one before, at least 1.
      m_mul: Amplitude of a cycle in amplitudes of the one before, at least 0.
      alpha: Rate at the end of a cycle in parts of `initial_learning_rate`, at least 0; at most 1
        where `m_mul` is given.
      name: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.keras.CosineDecayRestarts(0.1, first_decay_steps=10)
      cosine_restarts(peak=0.1, first=10, mult=2, end=0, decay=1)
      >>> lrax.compat.keras.CosineDecayRestarts(0.1, first_decay_steps=10, m_mul=0.5, alpha=0.1)
      add(constant(value=0.01), cosine_restarts(peak=0.09, first=10, mult=2, end=0, decay=0.5))
    """
    del name
    given = numbers(
        initial_learning_rate=initial_learning_rate, first_decay_steps=first_decay_steps
    )
    given |= numbers(t_mul=t_mul, m_mul=m_mul, alpha=alpha)
    _require.nonnegative(given, "initial_learning_rate", "m_mul", "alpha")
    _require.positive(given, "first_decay_steps")
    _require.at_least(given, 1, "t_mul")
    init, first, mult = given["initial_learning_rate"], given["first_decay_steps"], given["t_mul"]
    floor = given["alpha"] * init
    if not is_given(m_mul, 1):
        return cosine_restarts(init, first, mult=mult, end=floor)
    _require.at_most("`alpha` must be at most 1 where `m_mul` is given", given["alpha"], 1.0)
    return add(
        floor, cosine_restarts(most(init - floor, 0), first, mult=mult, decay=given["m_mul"])
    )


def ExponentialDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    decay_rate: ArrayLike,
    staircase: bool = False,
    name: str = "ExponentialDecay",
) -> Schedule:
    r"""A factor of `decay_rate` every `decay_steps` updates: `lrax.exponential`.

    A `decay_rate` of 0 leaves the rate of the update 0, with `staircase` that of the first
    `decay_steps`, and 0 after it; the translation is then a decay so steep that nothing is left.

    Args:
      initial_learning_rate: Rate at the start, at least 0.
      decay_steps: Updates per factor, above 0.
      decay_rate: The factor, at least 0.
      staircase: Whether the rate falls at once after every `decay_steps` updates.
      name: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.
      TypeError: if `staircase` is not a bool.

    Example:
      >>> lrax.compat.keras.ExponentialDecay(0.1, decay_steps=1000, decay_rate=0.96, staircase=True)
      exponential(init=0.1, rate=0.96, steps=1000, staircase=True, begin=0)
    """
    del name
    given = numbers(
        initial_learning_rate=initial_learning_rate, decay_steps=decay_steps, decay_rate=decay_rate
    )
    _require.nonnegative(given, "initial_learning_rate", "decay_rate")
    _require.positive(given, "decay_steps")
    steps, rate = given["decay_steps"], given["decay_rate"]
    some = rate > 0
    steps = shorter(steps) if staircase else where(some, steps, 0.5)
    return exponential(
        given["initial_learning_rate"], where(some, rate, 1e-30), steps, staircase=staircase
    )


def InverseTimeDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    decay_rate: ArrayLike,
    staircase: bool = False,
    name: str = "InverseTimeDecay",
) -> Schedule:
    r"""The rate divided by $1 +    ext{decay\_rate} \cdot t /      ext{decay\_steps}$:
    `lrax.inverse_time`.

    Args:
      initial_learning_rate: Rate at the start, at least 0.
      decay_steps: Updates per `decay_rate`, above 0.
      decay_rate: What is added to the divisor, at least 0.
      staircase: Whether the rate falls at once after every `decay_steps` updates.
      name: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.
      TypeError: if `staircase` is not a bool.

    Example:
      >>> lrax.compat.keras.InverseTimeDecay(0.1, decay_steps=1000, decay_rate=0.5)
      inverse_time(init=0.1, rate=0.5, steps=1000, staircase=False)
    """
    del name
    given = numbers(
        initial_learning_rate=initial_learning_rate, decay_steps=decay_steps, decay_rate=decay_rate
    )
    _require.nonnegative(given, "initial_learning_rate", "decay_rate")
    _require.positive(given, "decay_steps")
    steps = shorter(given["decay_steps"]) if staircase else given["decay_steps"]
    return inverse_time(
        given["initial_learning_rate"], given["decay_rate"], steps, staircase=staircase
    )


def PiecewiseConstantDecay(
    boundaries: ArrayLike, values: ArrayLike, name: str = "PiecewiseConstant"
) -> Schedule:
    r"""One rate after the other: `lrax.piecewise_constant`, one update later.

    A boundary is the index of the last update at the old rate; everywhere else it is that of the
    first at the new one. Keras cuts the decimals of a boundary off.

    Args:
      boundaries: Indices of updates, at least 0, in ascending order; shape `[pieces - 1]`, at least
        one.
      values: The rates, at least 0; shape `[pieces]`.
      name: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, the boundaries are not in ascending order,
        or there is not one value more than boundaries.

    Example:
      >>> lrax.compat.keras.PiecewiseConstantDecay(boundaries=[30, 60], values=[0.1, 0.01, 0.001])
      piecewise_constant(values=[0.1, 0.01, 0.001], boundaries=[31, 61])
    """
    del name
    boundaries = listed(boundaries) if isinstance(boundaries, (list, tuple)) else boundaries
    values = listed(values) if isinstance(values, (list, tuple)) else values
    given = numbers(boundaries=boundaries)
    _require.nonnegative(given, "boundaries")
    return piecewise_constant(values, whole(given["boundaries"]) + 1)


def PolynomialDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    end_learning_rate: ArrayLike = 0.0001,
    power: ArrayLike = 1.0,
    cycle: bool = False,
    name: str = "PolynomialDecay",
) -> Schedule:
    r"""A power of the part left: `lrax.polynomial`, or with `cycle` a sawtooth of ever longer and
    lower teeth.

    $$\eta(t) = \text{end} + (\text{init} - \text{end})
    \left(1 - \frac{t}{n \cdot \text{decay\_steps}}\right)^{\text{power}},
    \quad n = \max(\lceil t / \text{decay\_steps} \rceil, 1)$$

    The tooth $n$ is the end of a decay over $n$ times `decay_steps`; its last update is at
    `end_learning_rate`, and the next one jumps up. The `power` 0 holds the initial rate.

    Args:
      initial_learning_rate: Rate at the start, at least 0.
      decay_steps: Length of the decay, or of a tooth, in optimizer updates, above 0.
      end_learning_rate: Rate at the end, at least 0.
      power: Exponent of the part left, at least 0.
      cycle: Whether to go on with teeth.
      name: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.
      TypeError: if `cycle` is not a bool.

    Example:
      >>> lrax.compat.keras.PolynomialDecay(0.1, decay_steps=90, end_learning_rate=0.01)
      polynomial(init=0.1, end=0.01, steps=90, power=1)
      >>> print(lrax.compat.keras.PolynomialDecay(1.0, 4, end_learning_rate=0.0, cycle=True).values(9).round(3))
      [1. 0.75 0.5 0.25 0. 0.375 0.25 0.125 0. ]
    """
    del name
    given = numbers(initial_learning_rate=initial_learning_rate, decay_steps=decay_steps)
    given |= numbers(end_learning_rate=end_learning_rate, power=power)
    _require.nonnegative(given, "initial_learning_rate", "end_learning_rate", "power")
    _require.positive(given, "decay_steps")
    if _require.flag("cycle", cycle):
        return Schedule(_PolynomialDecay, {**_require.real(**given), "cycle": Static(True)})
    init, some = given["initial_learning_rate"], given["power"] > 0
    end = where(some, given["end_learning_rate"], init)
    return polynomial(init, end, given["decay_steps"], where(some, given["power"], 1))


def _PolynomialDecay(count, initial_learning_rate, decay_steps, end_learning_rate, power, cycle):  # noqa: ARG001
    count = jnp.maximum(count, 0)
    # A remainder is exact, where a quotient may be rounded to the next tooth.
    before, into = jnp.divmod(count, decay_steps)
    teeth = lax.stop_gradient(jnp.maximum(jnp.where(into > 0, before + 1, before), 1))
    left = jnp.where((into > 0) | (count == 0), decay_steps - into, 0)
    _, left = progress(count, left, decay_steps * teeth)
    weight = raised(left, power)
    return initial_learning_rate * weight + end_learning_rate * (1 - weight)
