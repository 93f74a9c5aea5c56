"""Keras' decays without a cosine.

They follow keras/src/optimizers/schedules/learning_rate_schedule.py of Keras 3.15.1.
"""

from __future__ import annotations

from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.decays import polynomial
from ...schedules.open_ended import exponential, inverse_time
from ...schedules.pieces import piecewise_constant
from ...schedules.schedule import Schedule, Static
from ...schedules.shapes import power as raised, progress
from ..arguments import Number, floor, nonnegative, positive, shorter, vector, where


def ExponentialDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    decay_rate: ArrayLike,
    staircase: bool = False,
    name: str = "ExponentialDecay",
) -> Schedule:
    r"""A factor of `decay_rate` every `decay_steps` updates: `lrax.exponential`.

    With a `decay_rate` of 0, the rate is 0 after update 0, or with `staircase` after the first
    `decay_steps` updates. The translation then has the factor 1e-30 in place of 0.

    Args:
      initial_learning_rate: Rate at the start, at least 0.
      decay_steps: Updates per factor, above 0.
      decay_rate: The factor, at least 0.
      staircase: Whether the rate falls at once after every `decay_steps` updates.
      name: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.
      TypeError: if `staircase` is not a bool.

    Example:
      >>> lrax.compat.keras.ExponentialDecay(0.1, decay_steps=1000, decay_rate=0.96, staircase=True)
      exponential(init=0.1, rate=0.96, steps=1000, staircase=True, begin=0)
    """
    del name
    init, steps, rate = _checked(initial_learning_rate, decay_steps, decay_rate, staircase)
    falls = rate > 0
    # 0 ** 0 is 1 in Keras: a factor of 0 leaves the first rate, or the first stair, as it is.
    if not staircase:
        steps = where(falls, steps, 0.5)
    return exponential(init, where(falls, rate, 1e-30), steps, staircase=staircase)


def InverseTimeDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    decay_rate: ArrayLike,
    staircase: bool = False,
    name: str = "InverseTimeDecay",
) -> Schedule:
    r"""The rate divided by $1 + \text{decay\_rate} \cdot t / \text{decay\_steps}$.

    It is `lrax.inverse_time`.

    Args:
      initial_learning_rate: Rate at the start, at least 0.
      decay_steps: Updates in which the divisor grows by `decay_rate`, above 0.
      decay_rate: Growth of the divisor in `decay_steps` updates, at least 0.
      staircase: Whether the rate falls at once after every `decay_steps` updates.
      name: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.
      TypeError: if `staircase` is not a bool.

    Example:
      >>> lrax.compat.keras.InverseTimeDecay(0.1, decay_steps=1000, decay_rate=0.5)
      inverse_time(init=0.1, rate=0.5, steps=1000, staircase=False)
    """
    del name
    init, steps, rate = _checked(initial_learning_rate, decay_steps, decay_rate, staircase)
    return inverse_time(init, rate, steps, staircase=staircase)


def _checked(
    initial_learning_rate: ArrayLike, decay_steps: ArrayLike, decay_rate: ArrayLike, staircase: bool
) -> tuple[Number, Number, Number]:
    """The first rate, the steps and the decay, checked."""
    init, rate = nonnegative(
        initial_learning_rate=initial_learning_rate, decay_rate=decay_rate
    ).values()
    steps = positive(decay_steps=decay_steps)["decay_steps"]
    return init, shorter(steps) if _require.flag("staircase", staircase) else steps, rate


def PiecewiseConstantDecay(
    boundaries: ArrayLike, values: ArrayLike, name: str = "PiecewiseConstant"
) -> Schedule:
    r"""One rate after the other: `lrax.piecewise_constant`, one update later.

    In Keras a boundary is the index of the last update at the old rate. In lrax it is that of the
    first update at the new one. Keras rounds a boundary down.

    Args:
      boundaries: Indices of updates, at least 0, in ascending order; shape `[pieces - 1]`, at least
        one.
      values: The rates, at least 0; shape `[pieces]`.
      name: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, the boundaries are not in ascending
        order, or there is not one value more than boundaries.

    Example:
      >>> lrax.compat.keras.PiecewiseConstantDecay(boundaries=[30, 60], values=[0.1, 0.01, 0.001])
      piecewise_constant(values=[0.1, 0.01, 0.001], boundaries=[31, 61])
    """
    del name
    # Keras holds a rate while `step <= boundary`, and casts the boundary to the step's integers.
    begins = floor(vector("boundaries", boundaries)) + 1
    rates = vector("values", values)
    if not len(begins):
        raise ValueError("`boundaries` must have at least one number, got none")
    if len(rates) != len(begins) + 1:
        raise ValueError(
            f"`values` must be one more than `boundaries`, got {len(rates)} and {len(begins)}"
        )
    _require.ascending({"boundaries": begins}, "boundaries")
    return piecewise_constant(rates, begins)


def PolynomialDecay(
    initial_learning_rate: ArrayLike,
    decay_steps: ArrayLike,
    end_learning_rate: ArrayLike = 0.0001,
    power: ArrayLike = 1.0,
    cycle: bool = False,
    name: str = "PolynomialDecay",
) -> Schedule:
    r"""A power of the part left.

    It is `lrax.polynomial`, or with `cycle` a sawtooth of ever longer and lower teeth.

    $$\eta(t) = \text{end} + (\text{init} - \text{end})
    \left(1 - \frac{t}{n \cdot \text{decay\_steps}}\right)^{\text{power}},
    \quad n = \max(\lceil t / \text{decay\_steps} \rceil, 1)$$

    Tooth $n$ is the last part of a decay over $n$ times `decay_steps` updates. Its last update has
    the rate `end_learning_rate`, and the next one jumps up. A `power` of 0 holds the initial rate.

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
      ValueError: if a concrete number is out of its range.
      TypeError: if `cycle` is not a bool.

    Example:
      >>> lrax.compat.keras.PolynomialDecay(0.1, decay_steps=90, end_learning_rate=0.01)
      polynomial(init=0.1, end=0.01, steps=90, power=1)
      >>> schedule = lrax.compat.keras.PolynomialDecay(1.0, 4, end_learning_rate=0.0, cycle=True)
      >>> print(schedule.values(9).round(3))
      [1. 0.75 0.5 0.25 0. 0.375 0.25 0.125 0. ]
    """
    del name
    given = nonnegative(
        initial_learning_rate=initial_learning_rate,
        end_learning_rate=end_learning_rate,
        power=power,
    )
    given |= positive(decay_steps=decay_steps)
    if _require.flag("cycle", cycle):
        return Schedule(_PolynomialDecay, {**_require.real(**given), "cycle": Static(True)})
    init, end, exponent, steps = given.values()
    falls = exponent > 0  # a power of 0 is 1 in Keras, at the end too
    return polynomial(init, where(falls, end, init), steps, where(falls, exponent, 1))


@builder(PolynomialDecay, name="compat.keras.PolynomialDecay")
def _PolynomialDecay(
    count,
    initial_learning_rate,
    decay_steps,
    end_learning_rate,
    power,
    cycle,  # noqa: ARG001
):
    count = jnp.maximum(real(count), 0)
    # A remainder is exact, where a quotient may be rounded to the next tooth.
    before, into = jnp.divmod(count, decay_steps)
    teeth = lax.stop_gradient(jnp.maximum(jnp.where(into > 0, before + 1, before), 1))
    left = jnp.where((into > 0) | (count == 0), decay_steps - into, 0)
    _, left = progress(count, left, decay_steps * teeth)
    weight = raised(left, power)
    return initial_learning_rate * weight + end_learning_rate * (1 - weight)
