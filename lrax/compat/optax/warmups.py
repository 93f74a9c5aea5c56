"""Optax's schedules with a warmup.

They follow optax/schedules/_schedule.py of Optax 0.2.8.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ...schedules.decays import cosine, linear
from ...schedules.phases import join, warmup
from ...schedules.schedule import Schedule
from ...schedules.warmups import warmup_constant, warmup_cosine
from ..arguments import finite, is_given, largest, listed, nonnegative, ordered, positive, where
from .decays import exponential_decay


def warmup_constant_schedule(
    init_value: ArrayLike, peak_value: ArrayLike, warmup_steps: ArrayLike
) -> Schedule:
    r"""A linear warmup to a rate that then stays: `lrax.warmup_constant`.

    With `warmup_steps` of 0 or less, the rate is `init_value` forever, and not `peak_value` as in
    lrax.

    Args:
      init_value: Rate at the start, at least 0.
      peak_value: Rate after the warmup, at least 0.
      warmup_steps: Length of the warmup in optimizer updates, any number.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.optax.warmup_constant_schedule(0.0, peak_value=0.1, warmup_steps=10)
      warmup_constant(peak=0.1, warmup=10, init=0)
      >>> lrax.compat.optax.warmup_constant_schedule(0.0, peak_value=0.1, warmup_steps=0).values(3)
      Array([0., 0., 0.], dtype=float32)
    """
    init, peak = nonnegative(init_value=init_value, peak_value=peak_value).values()
    steps = largest(finite(warmup_steps=warmup_steps)["warmup_steps"], 0)
    return warmup_constant(where(steps > 0, peak, init), steps, init=init)


def warmup_cosine_decay_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    warmup_steps: ArrayLike,
    decay_steps: ArrayLike,
    end_value: ArrayLike = 0.0,
    exponent: ArrayLike = 1.0,
) -> Schedule:
    r"""A linear warmup, then half a cosine wave: `lrax.warmup_cosine`.

    `decay_steps` includes the warmup. Where `peak_value` is 0 the rate ends at 0, whatever
    `end_value` is.

    Args:
      init_value: Rate at the start, at least 0.
      peak_value: Rate after the warmup, at least 0.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      decay_steps: Length of the whole in optimizer updates, above `warmup_steps`.
      end_value: Rate at the end, at least 0, absolute.
      exponent: Power of the cosine shape, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or nothing is left to decay.

    Example:
      >>> lrax.compat.optax.warmup_cosine_decay_schedule(0.0, 0.1, warmup_steps=10, decay_steps=100)
      warmup_cosine(peak=0.1, steps=100, warmup=10, init=0, end=0)
    """
    given = nonnegative(
        init_value=init_value,
        peak_value=peak_value,
        warmup_steps=warmup_steps,
        decay_steps=decay_steps,
        end_value=end_value,
    )
    given |= positive(exponent=exponent)
    ordered(given, "warmup_steps", "decay_steps")
    init, peak, begin, steps, end, power = given.values()
    end = where(peak > 0, end, 0)  # Optax divides `end_value` by the peak
    if not is_given(exponent, 1):
        return warmup_cosine(peak, steps, begin, init=init, end=end)
    return warmup(cosine(peak, steps - begin, end, exponent=power), begin, init)


def warmup_exponential_decay_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    warmup_steps: ArrayLike,
    transition_steps: ArrayLike,
    decay_rate: ArrayLike,
    transition_begin: ArrayLike = 0,
    staircase: bool = False,
    end_value: ArrayLike | None = None,
) -> Schedule:
    r"""A linear warmup, then a factor of `decay_rate` every `transition_steps` updates.

    The warmup leads to `peak_value` even if `end_value` bounds the decay to other rates. The decay
    counts from the end of the warmup, and has the quirks of `exponential_decay`.

    Args:
      init_value: Rate at the start, at least 0.
      peak_value: Rate after the warmup, at least 0.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      transition_steps: Updates per factor, any number.
      decay_rate: The factor, at least 0.
      transition_begin: Updates between the warmup and the decay, any number.
      staircase: Whether the rate falls at once after every `transition_steps` updates.
      end_value: Bound, at least 0: a floor when `decay_rate` is below 1, a ceiling otherwise.
        `None` for none.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.
      TypeError: if `staircase` is not a bool.

    Example:
      >>> warmup_exponential = lrax.compat.optax.warmup_exponential_decay_schedule
      >>> schedule = warmup_exponential(
      ...     0.0, 1.0, warmup_steps=2, transition_steps=2, decay_rate=0.5
      ... )
      >>> print(schedule.values(7).round(3))
      [0. 0.5 1. 0.707 0.5 0.354 0.25 ]
    """
    given = nonnegative(init_value=init_value, peak_value=peak_value, warmup_steps=warmup_steps)
    init, peak, begin = given.values()
    down = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return join([linear(init, peak, begin), down], listed([begin]))
