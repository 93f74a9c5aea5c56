"""NeMo's warmups with a decay.

They follow nemo/core/optim/lr_scheduler.py of NVIDIA/NeMo 8cfedd72.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ... import _require
from ...schedules.combinators import clip, delay
from ...schedules.decays import cosine, linear, polynomial
from ...schedules.open_ended import inverse_sqrt
from ...schedules.phases import join
from ...schedules.schedule import Schedule
from ...schedules.warmups import warmup_cosine
from ..arguments import is_given, largest, listed, nonnegative, positive
from .phases import after, begin, duration


def SquareAnnealing(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 1e-5,
) -> Schedule:
    r"""A warmup, then the square of the part left, not below `min_lr`.

    The floor is a maximum, not an end to which the curve is scaled as in `lrax.polynomial`.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after `max_steps`, and floor of the decay, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.SquareAnnealing(1.0, max_steps=5, warmup_steps=1, min_lr=0.2)
      >>> print(schedule.values(7).round(3))
      [0.5 1. 0.562 0.25 0.2 0.2 0.2 ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    return join([up, clip(polynomial(lr, 0, steps - warmup, 2), low=end)], listed([warmup]))


def SquareRootAnnealing(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup, then the square root of the part left, not below `min_lr`.

    The decay counts from the update 0, so that the rate jumps down after the warmup.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after `max_steps`, and floor of the decay, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.SquareRootAnnealing(1.0, max_steps=4, warmup_steps=1)
      >>> print(schedule.values(6).round(3))
      [0.5 1. 0.707 0.5 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    # NeMo counts this decay from update 0.
    decay = clip(polynomial(lr, 0, steps, 0.5), low=end)
    return join([up, decay], listed([after(warmup)]), clock="global")


def CosineAnnealing(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    constant_steps: ArrayLike | None = None,
    constant_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup, then half a cosine wave to `min_lr`; with a constant tail, `lrax.warmup_cosine`.

    With `constant_steps` NeMo uses Megatron's code: the warmup then begins at a rate of 0, and the
    wave ends that many updates earlier. The choice depends on whether a tail is given, and not on
    the value of a traced one.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      constant_steps: Length of the tail at `min_lr`, at least 0; a literal 0 is `None`.
      constant_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate at the end, at least 0; at most `lr`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.CosineAnnealing(1.0, max_steps=5, warmup_steps=1)
      >>> print(schedule.values(7).round(3))
      [0.5 1. 0.854 0.5 0.146 0. 0. ]
      >>> lrax.compat.nemo.CosineAnnealing(
      ...     1.0, max_steps=100, warmup_steps=10, constant_steps=10, min_lr=0.1
      ... )
      warmup_cosine(peak=1, steps=90, warmup=10, init=0, end=0.1)
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    _require.at_most("`min_lr` must be at most `lr`", end, lr)
    tail = any(
        value is not None and is_given(value, 0) for value in (constant_steps, constant_ratio)
    )
    if not tail:
        return join([up, cosine(lr, steps - warmup, end)], listed([warmup]))
    last = steps - duration("constant", constant_steps, constant_ratio, max_steps)
    return warmup_cosine(lr, last, warmup, end=end)


def WarmupAnnealing(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup, then a line to `min_lr`.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update of the line, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate at the end of the line and after it, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> print(lrax.compat.nemo.WarmupAnnealing(1.0, max_steps=5, warmup_steps=1).values(7))
      [0.5 1. 0.75 0.5 0.25 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    return join([up, linear(lr, end, steps - warmup)], listed([warmup]))


def InverseSquareRootAnnealing(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup, then the inverse square root of the update, counted from 1.

    `min_lr` is no floor: the rate drops to it after `max_steps`.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after `max_steps`, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.InverseSquareRootAnnealing(1.0, max_steps=5, warmup_steps=1)
      >>> print(schedule.values(8).round(3))
      [0.5 1. 0.816 0.707 0.632 0.577 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    # The update with the index `max_steps` still has the rate of the decay.
    return join([up, inverse_sqrt(lr, 0, warmup + 1), end], listed([warmup, steps + 1]))


def T5InverseSquareRootAnnealing(
    lr: ArrayLike | None = None,
    *,
    max_steps: ArrayLike,
    constant_steps: ArrayLike,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""The inverse square root of the count, constant for the first `constant_steps` updates.

    $$\eta(t) = 1 / \sqrt{\max(t, \text{constant\_steps})}$$

    whatever the optimizer's `lr` is. `min_lr` is no floor: the rate drops to it after `max_steps`.
    `constant_ratio` fails in NeMo, and is not an argument here.

    Args:
      lr: Not used.
      max_steps: Index of the last update before `min_lr`.
      constant_steps: Length of the first phase in optimizer updates, above 0.
      min_lr: Rate after `max_steps`, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> schedule = lrax.compat.nemo.T5InverseSquareRootAnnealing(max_steps=6, constant_steps=4)
      >>> print(schedule.values(9).round(3))
      [0.5 0.5 0.5 0.5 0.5 0.447 0.408 0. 0. ]
    """
    del lr
    given = nonnegative(max_steps=max_steps, constant_steps=constant_steps, min_lr=min_lr)
    _require.positive(given, "constant_steps")
    first = given["constant_steps"]
    decay = delay(inverse_sqrt(first**-0.5, 0, first), first)
    return join([decay, given["min_lr"]], listed([largest(given["max_steps"], first) + 1]))


def PolynomialDecayAnnealing(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
    power: ArrayLike = 1.0,
    cycle: bool = False,
) -> Schedule:
    r"""A warmup, then a power of the part left, to `min_lr`.

    `cycle` is accepted and has no effect, as in NeMo: after `max_steps`, where cycles would begin,
    the rate is `min_lr`.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate at the end, at least 0.
      power: Exponent of the part left, above 0.
      cycle: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.PolynomialDecayAnnealing(
      ...     1.0, max_steps=5, warmup_steps=1, power=2.0
      ... )
      >>> print(schedule.values(7).round(3))
      [0.5 1. 0.562 0.25 0.062 0. 0. ]
    """
    del cycle
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    power = positive(power=power)["power"]
    return join([up, polynomial(lr, end, steps - warmup, power)], listed([warmup]))
