"""Hugging Face transformers' cosine waves.

They follow src/transformers/optimization.py of transformers 5.23.0, which takes each phase to be at
least 1 long. The position in a wave is the remainder of `num_cycles` times the steps done. That is
exact also where the length of a wave is not whole.
"""

from __future__ import annotations

from jax import numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.combinators import repeat, shift
from ...schedules.counts import real
from ...schedules.decays import cosine, linear
from ...schedules.phases import join, warmup
from ...schedules.schedule import Schedule
from ...schedules.shapes import between
from ..arguments import Number, at_most_one, is_known_as, largest, listed, nonnegative


def get_cosine_schedule_with_warmup(
    lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    num_cycles: ArrayLike = 0.5,
) -> Schedule:
    """A warmup and `num_cycles` whole cosine waves between `lr` and 0.

    The waves go on past the end: the rate climbs again.

    By default, with half a wave, it is `lrax.warmup(lrax.repeat(lrax.cosine(lr, steps), steps,
    mirror=True), num_warmup_steps)` with the `steps` after the warmup. Otherwise it has a formula
    of its own. To end at 0 and stay there, use `lrax.warmup_cosine`.

    Args:
      lr: Highest rate, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_training_steps: Length of the whole, warmup included, at least 0.
      num_cycles: Number of waves after the warmup, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN.

    Example:
      >>> schedule = lrax.compat.transformers.get_cosine_schedule_with_warmup(0.4, 2, 6)
      >>> print(schedule.values(10).round(3))
      [0. 0.2 0.4 0.341 0.2 0.059 0. 0.059 0.2 0.341]
    """
    given = _checked(lr, num_warmup_steps, num_training_steps, num_cycles)
    rate, warmup_steps, steps, cycles = given.values()
    if is_known_as(cycles, 0.5):
        return warmup(_half_waves(rate, warmup_steps, steps), warmup_steps)
    return Schedule(_get_cosine_schedule_with_warmup, _require.real(**given))


def _checked(
    lr: ArrayLike, num_warmup_steps: ArrayLike, num_training_steps: ArrayLike, num_cycles: ArrayLike
) -> dict[str, Number]:
    return nonnegative(
        lr=lr,
        num_warmup_steps=num_warmup_steps,
        num_training_steps=num_training_steps,
        num_cycles=num_cycles,
    )


def _warmed(count, lr, num_warmup_steps, after):
    """A line from 0 to `lr`, then the rate `after`."""
    up = between(0, lr, count, num_warmup_steps - count, num_warmup_steps)
    return jnp.where(count < num_warmup_steps, up, after)


def _half_waves(lr: Number, warmup_steps: Number, steps: Number, end: Number = 0.0) -> Schedule:
    """A half wave from `lr` to `end` in the steps after the warmup, and back, forever."""
    length = largest(steps - warmup_steps, 1)
    return repeat(cosine(lr, length, end), length, mirror=True)


@builder(
    get_cosine_schedule_with_warmup, name="compat.transformers.get_cosine_schedule_with_warmup"
)
def _get_cosine_schedule_with_warmup(
    count, lr, num_warmup_steps, num_training_steps, num_cycles, min_lr=0
):
    count = real(count)
    steps = jnp.maximum(num_training_steps - num_warmup_steps, 1)
    part = jnp.mod(2 * num_cycles * jnp.maximum(count - num_warmup_steps, 0), 2 * steps)
    part = jnp.minimum(part, 2 * steps - part)
    down = between(lr, min_lr, part, steps - part, steps, "cosine")
    return _warmed(count, lr, num_warmup_steps, down)


def get_cosine_with_min_lr_schedule_with_warmup(
    lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    num_cycles: ArrayLike = 0.5,
    min_lr: ArrayLike | None = None,
    min_lr_rate: ArrayLike | None = None,
) -> Schedule:
    """`get_cosine_schedule_with_warmup` with waves between `lr` and a floor.

    Past the end the rate climbs again here too.

    The warmup is from 0. To end at the floor and stay there, use `lrax.warmup_cosine`.

    Args:
      lr: Rate after the warmup, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_training_steps: Length of the whole, warmup included, at least 0.
      num_cycles: Number of waves after the warmup, at least 0.
      min_lr: The floor, at least 0.
      min_lr_rate: The floor as a fraction of `lr`, at least 0, in place of `min_lr`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or `min_lr` and
        `min_lr_rate` are both given or both missing.

    Example:
      >>> get = lrax.compat.transformers.get_cosine_with_min_lr_schedule_with_warmup
      >>> print(get(0.4, 2, 6, min_lr=0.1).values(9).round(3))
      [0. 0.2 0.4 0.356 0.25 0.144 0.1 0.144 0.25 ]
    """
    given = _checked(lr, num_warmup_steps, num_training_steps, num_cycles)
    rate, warmup_steps, steps, cycles = given.values()
    end = _floor(rate, min_lr, min_lr_rate)
    if is_known_as(cycles, 0.5):
        return warmup(_half_waves(rate, warmup_steps, steps, end), warmup_steps)
    leaves = _require.real(**given, min_lr=end)
    return Schedule(_get_cosine_with_min_lr_schedule_with_warmup, leaves)


@builder(
    get_cosine_with_min_lr_schedule_with_warmup,
    name="compat.transformers.get_cosine_with_min_lr_schedule_with_warmup",
)
def _get_cosine_with_min_lr_schedule_with_warmup(count, **hyperparams):
    return _get_cosine_schedule_with_warmup(count, **hyperparams)


def _floor(lr: Number, min_lr: ArrayLike | None, min_lr_rate: ArrayLike | None) -> Number:
    """The floor as a rate. Exactly one of the two arguments must be given."""
    if (min_lr is None) == (min_lr_rate is None):
        raise ValueError(
            f"one of `min_lr` and `min_lr_rate` must be given, got {min_lr} and {min_lr_rate}"
        )
    if min_lr is not None:
        return nonnegative(min_lr=min_lr)["min_lr"]
    part = nonnegative(min_lr_rate=min_lr_rate)  # pyright: ignore[reportArgumentType]
    return lr * part["min_lr_rate"]


def get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
    lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    num_cycles: ArrayLike = 0.5,
    min_lr: ArrayLike | None = None,
    min_lr_rate: ArrayLike | None = None,
    warmup_lr_rate: ArrayLike | None = None,
) -> Schedule:
    """The waves of `get_cosine_with_min_lr_schedule_with_warmup`, one step earlier.

    The warmup is a line from `lr / num_warmup_steps`, or from `lr * warmup_lr_rate`. Its last
    update has the rate `lr`, and so the waves begin with their second update. If `num_warmup_steps`
    is not whole, the line goes on above `lr`, as in transformers.

    Args:
      lr: Rate after the warmup, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_training_steps: Length of the whole, warmup included, at least 0.
      num_cycles: Number of waves after the warmup, at least 0.
      min_lr: The floor, at least 0.
      min_lr_rate: The floor as a fraction of `lr`, at least 0, in place of `min_lr`.
      warmup_lr_rate: First rate as a fraction of `lr`, from 0 to 1; `None` is
        `1 / num_warmup_steps`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, `min_lr` and
        `min_lr_rate` are both given or both missing, or `warmup_lr_rate` is above 1.

    Example:
      >>> get = lrax.compat.transformers.get_cosine_with_min_lr_schedule_with_warmup_lr_rate
      >>> print(get(0.4, 2, 6, min_lr=0.1).values(8).round(3))
      [0.2 0.4 0.356 0.25 0.144 0.1 0.144 0.25 ]
    """
    given = _checked(lr, num_warmup_steps, num_training_steps, num_cycles)
    rate, steps, whole, cycles = given.values()
    end = _floor(rate, min_lr, min_lr_rate)
    waves = _half_waves(rate, steps, whole, end)
    if not is_known_as(cycles, 0.5):
        waves = get_cosine_with_min_lr_schedule_with_warmup(
            rate, 0, largest(whole - steps, 0), cycles, end
        )
    if warmup_lr_rate is None:
        first = 1 / largest(steps, 1)
        last = first + steps * first
    else:
        part = nonnegative(warmup_lr_rate=warmup_lr_rate)
        at_most_one(part, "warmup_lr_rate")
        first = part["warmup_lr_rate"]
        last = first + (1 - first) * steps / largest(steps - 1, 1)
    # The last update of the warmup has the rate `lr`, and `linear` ends one update later.
    up = linear(rate * first, rate * last, steps)
    return join([up, shift(waves, 1)], listed([steps]))


def get_cosine_with_hard_restarts_schedule_with_warmup(
    lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    num_cycles: ArrayLike = 1,
) -> Schedule:
    r"""A warmup and `num_cycles` half cosine waves, each from `lr` down to 0, then 0.

    $$\eta(t) = \text{lr} \cdot
    \frac{1 + \cos(\pi \, (\text{num\_cycles} \cdot p \bmod 1))}{2}, \quad
    p = \frac{t - \text{num\_warmup\_steps}}{\text{num\_training\_steps} -
    \text{num\_warmup\_steps}} < 1$$

    It has a formula of its own, so that restarts are exact where the length of a cycle is not
    whole. `lrax.cosine_restarts` would round that length.

    Args:
      lr: Highest rate, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_training_steps: Length of the whole, warmup included, at least 0.
      num_cycles: Number of half waves after the warmup, at least 0. With 2.5, the last one is cut
        in its middle, where the rate falls to 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN.

    Example:
      >>> schedule = lrax.compat.transformers.get_cosine_with_hard_restarts_schedule_with_warmup(
      ...     0.4, 2, 8, 2
      ... )
      >>> print(schedule.values(10).round(3))
      [0. 0.2 0.4 0.3 0.1 0.4 0.3 0.1 0. 0. ]
    """
    given = _checked(lr, num_warmup_steps, num_training_steps, num_cycles)
    return Schedule(_get_cosine_with_hard_restarts_schedule_with_warmup, _require.real(**given))


@builder(
    get_cosine_with_hard_restarts_schedule_with_warmup,
    name="compat.transformers.get_cosine_with_hard_restarts_schedule_with_warmup",
)
def _get_cosine_with_hard_restarts_schedule_with_warmup(
    count, lr, num_warmup_steps, num_training_steps, num_cycles
):
    count = real(count)
    steps = jnp.maximum(num_training_steps - num_warmup_steps, 1)
    turned = jnp.mod(num_cycles * jnp.clip(count - num_warmup_steps, 0, steps), steps)
    down = between(lr, 0, turned, steps - turned, steps, "cosine")
    down = jnp.where(count - num_warmup_steps < steps, down, 0)
    return _warmed(count, lr, num_warmup_steps, down)
