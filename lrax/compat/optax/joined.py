"""Optax's joined schedules.

They follow optax/schedules/_join.py of Optax 0.2.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax.typing import ArrayLike

from ...schedules.phases import join
from ...schedules.schedule import Schedule, as_schedule
from ..arguments import listed, nonnegative, smallest, vector
from .warmups import warmup_cosine_decay_schedule


def join_schedules(schedules: Sequence[Any], boundaries: Sequence[ArrayLike]) -> Schedule:
    r"""One schedule after the other, each counting from its own start: `lrax.join`.

    If a boundary is above a later one in the list, the schedule of the later one wins. Optax
    silently leaves out schedules or boundaries without a counterpart; here their numbers must
    agree.

    Args:
      schedules: At least one: each a `Schedule`, a number, or a function of the count such as
        Optax's.
      boundaries: Index of the first update of each schedule but the first, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete boundary is negative, infinite or NaN, or there is not one schedule
        more than boundaries.
      TypeError: if `schedules` is not a list of schedules.

    Example:
      >>> up = lrax.compat.optax.linear_schedule(0.0, 0.1, transition_steps=10)
      >>> lrax.compat.optax.join_schedules([up, 0.1], boundaries=[10])
      join(schedules=[linear(init=0, end=0.1, steps=10), constant(value=0.1)], boundaries=[10],
      clock='local')
    """
    if not isinstance(schedules, (list, tuple)):
        raise TypeError(f"`schedules` must be a list of schedules, got {schedules!r}")
    begins = list(vector("boundaries", boundaries))
    if len(schedules) != len(begins) + 1:
        raise ValueError(
            f"`schedules` must be one more than `boundaries`, got {len(schedules)} and"
            f" {len(begins)}"
        )
    parts = [as_schedule(schedule, f"schedules[{i}]") for i, schedule in enumerate(schedules)]
    if len(parts) == 1:
        return parts[0]
    for i in reversed(range(len(begins) - 1)):
        begins[i] = smallest(begins[i], begins[i + 1])
    return join(parts, listed(begins))


def sgdr_schedule(cosine_kwargs: Sequence[Mapping[str, Any]]) -> Schedule:
    r"""Warm restarts: one `warmup_cosine_decay_schedule` after the other.

    Args:
      cosine_kwargs: The arguments of each, at least one; `decay_steps`, which includes the warmup,
        is its length.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or there is no schedule.
      TypeError: if an argument of a schedule is missing or unknown.

    Example:
      >>> cycle = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 1, "decay_steps": 3}
      >>> schedule = lrax.compat.optax.sgdr_schedule([cycle, {**cycle, "peak_value": 0.5}])
      >>> print(schedule.values(8).round(2))
      [0. 1. 0.5 0. 0.5 0.25 0. 0. ]
    """
    cycles = list(cosine_kwargs) if isinstance(cosine_kwargs, (list, tuple)) else []
    if not cycles or not all(isinstance(cycle, Mapping) for cycle in cycles):
        raise ValueError(
            f"`cosine_kwargs` must be a list of at least one dict, got {cosine_kwargs!r}"
        )
    waves = []
    for i, cycle in enumerate(cycles):
        try:
            waves.append(warmup_cosine_decay_schedule(**cycle))
        except (TypeError, ValueError) as error:
            if type(error) not in (TypeError, ValueError):
                raise  # a subclass, such as JAX's errors, which may not be made from a text alone
            raise type(error)(f"in `cosine_kwargs[{i}]`: {error}") from error
    lengths = [nonnegative(decay_steps=cycle["decay_steps"])["decay_steps"] for cycle in cycles]
    return join_schedules(waves, [sum(lengths[:i]) for i in range(1, len(cycles))])
