"""NeMo's policies, and its decays without a hold; `nemo.py` has the others, and is where all are found."""

from typing import Any

from jax.typing import ArrayLike

from .. import _require
from ..schedules.combinators import clip
from ..schedules.decays import cosine, linear, polynomial
from ..schedules.open_ended import inverse_sqrt
from ..schedules.phases import join
from ..schedules.ramps import ramp
from ..schedules.schedule import Schedule
from ..schedules.warmups import warmup_cosine
from .arrays import is_given, listed, most, nonnegative, where, whole


def duration(name, steps, ratio, max_steps) -> Any:
    """A duration given in updates, or as a fraction of the whole."""
    if steps is not None and ratio is not None:
        raise ValueError(
            f"`{name}_steps` or `{name}_ratio` must be given and not both, got {steps} and {ratio}"
        )
    if ratio is None:
        return nonnegative(**{f"{name}_steps": 0 if steps is None else steps})[f"{name}_steps"]
    if max_steps is None:
        raise ValueError(f"`max_steps` must be given with `{name}_ratio`, got none")
    part = nonnegative(**{f"{name}_ratio": ratio})[f"{name}_ratio"]
    return whole(part * nonnegative(max_steps=max_steps)["max_steps"])


def begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio) -> tuple[Any, ...]:
    """Rate, length, rate at the end, length of the warmup, and the warmup."""
    given = nonnegative(lr=lr, max_steps=max_steps, min_lr=min_lr)
    warmup = duration("warmup", warmup_steps, warmup_ratio, max_steps)
    _require.positive({"max_steps - warmup": given["max_steps"] - warmup}, "max_steps - warmup")
    return *given.values(), warmup, ramp(0, given["lr"], warmup, inclusive="neither")


def after(warmup):
    """The first update that the decay gives: the one at the index `warmup` is still the warmup's."""
    return where(warmup > 0, warmup + 1, 0)


def WarmupPolicy(
    lr: ArrayLike,
    *,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    max_steps: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup to `lr`, which stays until `max_steps` if there is such: a `lrax.ramp`.

    Args:
      lr: The optimizer's rate, at least 0.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      max_steps: Index of the last update before `min_lr`; `None` for none.
      min_lr: Rate after it, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or the warmup is given twice.

    Example:
      >>> print(lrax.compat.nemo.WarmupPolicy(1.0, warmup_steps=3, max_steps=5).values(8))
      [0.25 0.5 0.75 1. 1. 1. 0. 0. ]
    """
    given = nonnegative(lr=lr, min_lr=min_lr)
    warmup = duration("warmup", warmup_steps, warmup_ratio, max_steps)
    up = ramp(0, given["lr"], warmup, inclusive="neither")
    if max_steps is None:
        return up
    last = nonnegative(max_steps=max_steps)["max_steps"]
    return join([up, given["min_lr"]], listed([most(last + 1, after(warmup))]))


def WarmupHoldPolicy(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    hold_steps: ArrayLike | None = None,
    hold_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup to `lr`, which is held; the same as `WarmupPolicy`, but that the hold goes before
    `max_steps`.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      hold_steps: Length of the hold after it, at least 0.
      hold_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after `max_steps`, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> print(lrax.compat.nemo.WarmupHoldPolicy(1.0, max_steps=5, warmup_steps=1, hold_steps=2).values(8))
      [0.5 1. 1. 1. 1. 1. 0. 0. ]
    """
    given = nonnegative(lr=lr, max_steps=max_steps, min_lr=min_lr)
    warmup = duration("warmup", warmup_steps, warmup_ratio, max_steps)
    held = warmup + duration("hold", hold_steps, hold_ratio, max_steps)
    up = ramp(0, given["lr"], warmup, inclusive="neither")
    end = most(given["max_steps"] + 1, most(held, after(warmup)))
    return join([up, given["min_lr"]], listed([end]))


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
      min_lr: Rate after it, and floor of the decay, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> print(lrax.compat.nemo.SquareAnnealing(1.0, max_steps=5, warmup_steps=1, min_lr=0.2).values(7).round(3))
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
      min_lr: Rate after it, and floor of the decay, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> print(lrax.compat.nemo.SquareRootAnnealing(1.0, max_steps=4, warmup_steps=1).values(6).round(3))
      [0.5 1. 0.707 0.5 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
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

    With `constant_steps` NeMo takes Megatron's code: the warmup then begins at a rate of 0, and the
    wave ends that many updates earlier. Which of the two it is depends on whether the tail is asked
    for, not on the value of a traced one.

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
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> print(lrax.compat.nemo.CosineAnnealing(1.0, max_steps=5, warmup_steps=1).values(7).round(3))
      [0.5 1. 0.854 0.5 0.146 0. 0. ]
      >>> lrax.compat.nemo.CosineAnnealing(1.0, max_steps=100, warmup_steps=10, constant_steps=10, min_lr=0.1)
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
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after it, and floor of the decay, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

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
      min_lr: Rate after it, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.InverseSquareRootAnnealing(1.0, max_steps=5, warmup_steps=1)
      >>> print(schedule.values(8).round(3))
      [0.5 1. 0.816 0.707 0.632 0.577 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    return join([up, inverse_sqrt(lr, 0, warmup + 1), end], listed([warmup, steps + 1]))
