"""Hugging Face transformers' schedules of the step count: `get_scheduler` and its functions.

They have their own names, arguments and defaults, with the rate `lr` in place of the
optimizer, and without `last_epoch`: a run that begins in the middle of a schedule takes
`lrax.shift(schedule, steps)`. The tests compare them with transformers 5.23.0. Where transformers
divides by the length of a phase, it replaces a length below 1 by 1.
"""

from .decays import (
    get_constant_schedule,
    get_constant_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
)
from .scheduler import get_scheduler
from .waves import (
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
)
from .wsd import get_wsd_schedule

__all__ = [
    "get_constant_schedule",
    "get_constant_schedule_with_warmup",
    "get_cosine_schedule_with_warmup",
    "get_cosine_with_hard_restarts_schedule_with_warmup",
    "get_cosine_with_min_lr_schedule_with_warmup",
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
    "get_inverse_sqrt_schedule",
    "get_linear_schedule_with_warmup",
    "get_polynomial_decay_schedule_with_warmup",
    "get_scheduler",
    "get_wsd_schedule",
]
