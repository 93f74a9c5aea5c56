"""Keras' exponential, inverse-time and piecewise decays."""

from jax.typing import ArrayLike

from ... import _require
from ...schedules.open_ended import exponential, inverse_time
from ...schedules.pieces import piecewise_constant
from ...schedules.schedule import Schedule
from ..arguments import floor, numbers, shorter, vector, where


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
    _require.flag("staircase", staircase)
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
    r"""The rate divided by $1 + \text{decay\_rate} \cdot t / \text{decay\_steps}$.

    It is `lrax.inverse_time`.

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
    _require.flag("staircase", staircase)
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
