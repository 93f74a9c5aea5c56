"""Optax's schedules of one phase.

They follow optax/schedules/_schedule.py of Optax 0.2.8.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ... import _require
from ...schedules.combinators import delay
from ...schedules.decays import cosine, linear, polynomial
from ...schedules.open_ended import exponential
from ...schedules.schedule import Schedule, constant
from ..arguments import finite, is_given, largest, nonnegative, positive, shorter, smallest, where


def constant_schedule(value: ArrayLike) -> Schedule:
    r"""The same rate at every step: `lrax.constant`.

    Args:
      value: The rate, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete `value` is negative, infinite or NaN.

    Example:
      >>> lrax.compat.optax.constant_schedule(0.1)
      constant(value=0.1)
    """
    return constant(value)


def polynomial_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike,
    power: ArrayLike,
    transition_steps: ArrayLike,
    transition_begin: ArrayLike = 0,
) -> Schedule:
    r"""A power of the part left.

    It is `lrax.polynomial`, after `transition_begin` updates at `init_value`.

    With `transition_steps` of 0 or less the rate is `init_value` forever, and not `end_value` from
    the start as in lrax. With a `power` of 0 it is `init_value` too. A negative `transition_begin`
    is taken as 0.

    Args:
      init_value: Rate at the start, at least 0.
      end_value: Rate at the end, at least 0.
      power: Exponent of the part left, at least 0.
      transition_steps: Length of the decay in optimizer updates, any number.
      transition_begin: Updates before its start, any number.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.optax.polynomial_schedule(0.1, 0.01, power=2.0, transition_steps=90)
      polynomial(init=0.1, end=0.01, steps=90, power=2)
      >>> lrax.compat.optax.polynomial_schedule(0.1, 0.01, power=2.0, transition_steps=0).values(3)
      Array([0.1, 0.1, 0.1], dtype=float32)
    """
    given = nonnegative(init_value=init_value, end_value=end_value, power=power)
    init, end, exponent = given.values()
    steps = largest(finite(transition_steps=transition_steps)["transition_steps"], 0)
    falls = exponent > 0  # a power of 0 is 1 in Optax, at the end too
    # Optax holds the first rate where there are no steps.
    end = where((steps > 0) & falls, end, init)
    return _begun(polynomial(init, end, steps, where(falls, exponent, 1)), transition_begin)


def linear_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike,
    transition_steps: ArrayLike,
    transition_begin: ArrayLike = 0,
) -> Schedule:
    r"""A straight line: `lrax.linear`, after `transition_begin` updates at `init_value`.

    With `transition_steps` of 0 or less the rate is `init_value` forever, and not `end_value` from
    the start as in lrax. A negative `transition_begin` is taken as 0.

    Args:
      init_value: Rate at the start, at least 0.
      end_value: Rate at the end, at least 0.
      transition_steps: Length of the line in optimizer updates, any number.
      transition_begin: Updates before its start, any number.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.optax.linear_schedule(0.1, 0.01, transition_steps=90)
      linear(init=0.1, end=0.01, steps=90)
      >>> lrax.compat.optax.linear_schedule(0.1, 0.01, transition_steps=90, transition_begin=10)
      delay(schedule=linear(init=0.1, end=0.01, steps=90), steps=10)
    """
    init, end = nonnegative(init_value=init_value, end_value=end_value).values()
    steps = largest(finite(transition_steps=transition_steps)["transition_steps"], 0)
    return _begun(linear(init, where(steps > 0, end, init), steps), transition_begin)


def _begun(schedule, transition_begin):
    if not is_given(transition_begin, 0):
        return schedule
    begin = finite(transition_begin=transition_begin)["transition_begin"]
    return delay(schedule, largest(begin, 0))


def exponential_decay(
    init_value: ArrayLike,
    transition_steps: ArrayLike,
    decay_rate: ArrayLike,
    transition_begin: ArrayLike = 0,
    staircase: bool = False,
    end_value: ArrayLike | None = None,
) -> Schedule:
    r"""A factor of `decay_rate` every `transition_steps` updates: `lrax.exponential`.

    With `transition_steps` of 0 or less, or a `decay_rate` of 0, the rate is `init_value` forever,
    whatever `end_value` is. With a `decay_rate` of 1, `end_value` is a ceiling. A negative
    `transition_begin` is taken as 0.

    Args:
      init_value: Rate at the start, at least 0.
      transition_steps: Updates per factor, any number.
      decay_rate: The factor, at least 0.
      transition_begin: Updates before the decay, any number; the stairs are counted from its end.
      staircase: Whether the rate falls at once after every `transition_steps` updates.
      end_value: Bound, at least 0: a floor when `decay_rate` is below 1, a ceiling otherwise.
        `None` for none.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.
      TypeError: if `staircase` is not a bool.

    Example:
      >>> lrax.compat.optax.exponential_decay(
      ...     0.1, transition_steps=1000, decay_rate=0.96, end_value=0.001
      ... )
      exponential(init=0.1, rate=0.96, steps=1000, staircase=False, begin=0, end=0.001)
    """
    init, rate = nonnegative(init_value=init_value, decay_rate=decay_rate).values()
    lengths = finite(transition_steps=transition_steps, transition_begin=transition_begin)
    steps, begin = lengths.values()
    decays = (steps > 0) & (rate > 0)
    steps = where(decays, steps, 1)
    if _require.flag("staircase", staircase):
        steps = shorter(steps)
    end = None
    if end_value is not None:
        end = nonnegative(end_value=end_value)["end_value"]
        # Optax uses `end_value` as a ceiling unless the factor is below 1.
        init = where(decays & (rate == 1), smallest(init, end), init)
    rate = where(decays, rate, 1)
    return exponential(init, rate, steps, staircase=staircase, begin=largest(begin, 0), end=end)


def cosine_decay_schedule(
    init_value: ArrayLike, decay_steps: ArrayLike, alpha: ArrayLike = 0.0, exponent: ArrayLike = 1.0
) -> Schedule:
    r"""Half a cosine wave: `lrax.cosine`, with its end as a fraction of `init_value`.

    Args:
      init_value: Rate at the start, at least 0.
      decay_steps: Length of the decay in optimizer updates, above 0.
      alpha: Rate at the end as a fraction of `init_value`, at least 0.
      exponent: Power of the cosine shape, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.optax.cosine_decay_schedule(0.1, decay_steps=90, alpha=0.1)
      cosine(peak=0.1, steps=90, end=0.01)
    """
    init, part = nonnegative(init_value=init_value, alpha=alpha).values()
    steps, power = positive(decay_steps=decay_steps, exponent=exponent).values()
    return cosine(init, steps, part * init, exponent=power if is_given(exponent, 1) else None)
