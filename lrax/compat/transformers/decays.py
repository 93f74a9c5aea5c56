"""Hugging Face transformers' schedules without waves.

They follow src/transformers/optimization.py of transformers 5.23.0.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ...schedules.decays import linear, polynomial
from ...schedules.open_ended import inverse_sqrt
from ...schedules.phases import join
from ...schedules.schedule import Schedule, constant
from ...schedules.warmups import warmup_constant, warmup_linear
from ..arguments import is_known_as, largest, listed, nonnegative, ordered, positive


def get_constant_schedule(lr: ArrayLike) -> Schedule:
    """The same as `lrax.constant(lr)`.

    Args:
      lr: The rate, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN.

    Example:
      >>> lrax.compat.transformers.get_constant_schedule(lr=0.1)
      constant(value=0.1)
    """
    return constant(nonnegative(lr=lr)["lr"])


def get_constant_schedule_with_warmup(lr: ArrayLike, num_warmup_steps: ArrayLike) -> Schedule:
    """The same as `lrax.warmup_constant(lr, num_warmup_steps)`.

    Args:
      lr: Rate after the warmup, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN.

    Example:
      >>> lrax.compat.transformers.get_constant_schedule_with_warmup(lr=0.1, num_warmup_steps=10)
      warmup_constant(peak=0.1, warmup=10, init=0)
    """
    rate, warmup_steps = nonnegative(lr=lr, num_warmup_steps=num_warmup_steps).values()
    return warmup_constant(rate, warmup_steps)


def get_linear_schedule_with_warmup(
    lr: ArrayLike, num_warmup_steps: ArrayLike, num_training_steps: ArrayLike
) -> Schedule:
    """The same as `lrax.warmup_linear(lr, num_training_steps, num_warmup_steps)`.

    A warmup that is longer than the training goes on to `lr` after the training's end. Then the
    rate is 0 at once.

    Args:
      lr: Highest rate, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_training_steps: Length of the whole, warmup included, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN.

    Example:
      >>> schedule = lrax.compat.transformers.get_linear_schedule_with_warmup(0.4, 2, 6)
      >>> schedule
      warmup_linear(peak=0.4, steps=6, warmup=2, init=0, end=0)
      >>> print(schedule.values(8).round(3))
      [0. 0.2 0.4 0.3 0.2 0.1 0. 0. ]
    """
    lengths = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    rate, warmup_steps, steps = nonnegative(lr=lr, **lengths).values()
    # transformers tests for the warmup first, also where it is longer than the training.
    return warmup_linear(rate, largest(steps, warmup_steps), warmup_steps)


def get_polynomial_decay_schedule_with_warmup(
    lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    lr_end: ArrayLike = 1e-7,
    power: ArrayLike = 1.0,
) -> Schedule:
    """A warmup from 0, then `lrax.polynomial(lr, lr_end, steps, power)` over the steps left.

    With a concrete `power` of 0 the rate is `lr` up to and including the update with the index
    `num_training_steps`, and then `lr_end`. Without steps after the warmup, where transformers
    divides by zero, the rate is `lr_end` at once.

    Args:
      lr: Highest rate, above `lr_end`.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_training_steps: Length of the whole, warmup included, at least 0.
      lr_end: Rate at the end, at least 0.
      power: Exponent of the part left, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or `lr` is not above `lr_end`.

    Example:
      >>> schedule = lrax.compat.transformers.get_polynomial_decay_schedule_with_warmup(
      ...     0.4, 2, 6, 0.0, power=2.0
      ... )
      >>> print(schedule.values(8).round(3))
      [0. 0.2 0.4 0.225 0.1 0.025 0. 0. ]
    """
    lengths = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    given = nonnegative(lr=lr, lr_end=lr_end, power=power, **lengths)
    ordered(given, "lr_end", "lr")
    rate, end, exponent, warmup_steps, steps = given.values()
    if is_known_as(exponent, 0):
        # transformers takes `lr_end` only where the count is above `num_training_steps`.
        after = largest(steps + 1, warmup_steps)
        return join([warmup_constant(rate, warmup_steps), end], listed([after]))
    decay = polynomial(rate, end, largest(steps - warmup_steps, 0), exponent)
    return join([linear(0.0, rate, warmup_steps), decay], listed([warmup_steps]))


def get_inverse_sqrt_schedule(
    lr: ArrayLike, num_warmup_steps: ArrayLike, timescale: ArrayLike | None = None
) -> Schedule:
    """The same as `lrax.inverse_sqrt(lr, num_warmup_steps, timescale)`.

    Args:
      lr: Highest rate, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      timescale: Updates after the warmup until the rate has fallen to 0.71 of `lr`, above 0. `None`
        is `num_warmup_steps`, or 10000 without a warmup.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or `timescale` is 0.

    Example:
      >>> lrax.compat.transformers.get_inverse_sqrt_schedule(lr=0.1, num_warmup_steps=10)
      inverse_sqrt(peak=0.1, warmup=10, end=0)
    """
    rate, warmup_steps = nonnegative(lr=lr, num_warmup_steps=num_warmup_steps).values()
    if timescale is not None:
        timescale = positive(timescale=timescale)["timescale"]
    return inverse_sqrt(rate, warmup_steps, timescale)
