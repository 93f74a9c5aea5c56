"""Hugging Face transformers' `get_scheduler`.

It follows src/transformers/optimization.py of transformers 5.23.0.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jax.typing import ArrayLike

from ... import _require
from ...schedules.schedule import Schedule
from .decays import (
    get_constant_schedule,
    get_constant_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
)
from .waves import (
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
)
from .wsd import get_wsd_schedule

FUNCTIONS: dict[str, Callable[..., Schedule]] = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "cosine_with_restarts": get_cosine_with_hard_restarts_schedule_with_warmup,
    "polynomial": get_polynomial_decay_schedule_with_warmup,
    "constant": get_constant_schedule,
    "constant_with_warmup": get_constant_schedule_with_warmup,
    "inverse_sqrt": get_inverse_sqrt_schedule,
    "cosine_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup,
    "cosine_warmup_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    "warmup_stable_decay": get_wsd_schedule,
}

# The rates of these follow the loss, so they are no schedules.
CONTROLLERS = ("reduce_lr_on_plateau", "greedy")


def get_scheduler(
    name: str,
    lr: ArrayLike,
    num_warmup_steps: ArrayLike | None = None,
    num_training_steps: ArrayLike | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> Schedule:
    """The schedule of a name, as in `transformers.get_scheduler`.

    Args:
      name: One of the names of `transformers.SchedulerType`, or a member of it: `"linear"`,
        `"cosine"`, `"cosine_with_restarts"`, `"polynomial"`, `"constant"`,
        `"constant_with_warmup"`, `"inverse_sqrt"`, `"cosine_with_min_lr"`,
        `"cosine_warmup_with_min_lr"` or `"warmup_stable_decay"`. The other two,
        `"reduce_lr_on_plateau"` and `"greedy"`, follow the loss: they are no functions of the step
        count.
      lr: The optimizer's rate, which is the highest rate of nearly all schedules.
      num_warmup_steps: Length of the warmup in optimizer updates. All schedules need it but
        `"constant"`, which ignores it.
      num_training_steps: Length of the whole, warmup included. Schedules that have an end need it.
      scheduler_specific_kwargs: Further arguments of the function behind the name; `"constant"` and
        `"constant_with_warmup"` ignore them, as in transformers.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if the name is unknown or no function of the count, a length that it needs is
        missing, or a concrete number is out of its range.
      TypeError: if the function does not take an argument in `scheduler_specific_kwargs`.

    Example:
      >>> schedule = lrax.compat.transformers.get_scheduler(
      ...     "cosine_with_min_lr", 0.4, 2, 6, {"min_lr_rate": 0.25}
      ... )
      >>> print(schedule.values(7).round(3))
      [0. 0.2 0.4 0.356 0.25 0.144 0.1 ]
    """
    name = getattr(name, "value", name)
    if isinstance(name, str) and name in CONTROLLERS:
        raise ValueError(
            f"`name` must be a schedule of the step count, got {name!r}, which follows the loss"
        )
    _require.choice("name", name, FUNCTIONS)
    given = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    takes = inspect.signature(FUNCTIONS[name]).parameters
    for length, value in given.items():
        if value is None and length in takes and takes[length].default is inspect.Parameter.empty:
            raise ValueError(f"`{length}` must be given for {name!r}, got None")
    lengths = {
        length: value for length, value in given.items() if length in takes and value is not None
    }
    constants = name in ("constant", "constant_with_warmup")
    specific = {} if constants or scheduler_specific_kwargs is None else scheduler_specific_kwargs
    if not isinstance(specific, Mapping):
        raise TypeError(f"`scheduler_specific_kwargs` must be a dict, got {specific!r}")
    for word in specific:
        if word in ("lr", *lengths) or word not in takes:
            own = [other for other in takes if other not in ("lr", *given)]
            raise TypeError(
                f"`scheduler_specific_kwargs` must have keys that {name!r} takes, {own}, got"
                f" {word!r}"
            )
    return FUNCTIONS[name](lr, **lengths, **specific)
