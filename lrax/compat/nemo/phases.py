"""The phases of NeMo's policies.

They follow nemo/core/optim/lr_scheduler.py of NVIDIA/NeMo 8cfedd72.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ...schedules.ramps import ramp
from ...schedules.schedule import Schedule
from ..arguments import Number, above, floor, nonnegative, where


def duration(
    name: str, steps: ArrayLike | None, ratio: ArrayLike | None, max_steps: ArrayLike | None
) -> Number:
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
    return floor(part * nonnegative(max_steps=max_steps)["max_steps"])


def begin(
    lr: ArrayLike,
    max_steps: ArrayLike,
    min_lr: ArrayLike,
    warmup_steps: ArrayLike | None,
    warmup_ratio: ArrayLike | None,
) -> tuple[Number, Number, Number, Number, Schedule]:
    """Rate, length, rate at the end, length of the warmup, and the warmup."""
    rate, steps, end = nonnegative(lr=lr, max_steps=max_steps, min_lr=min_lr).values()
    warmup = duration("warmup", warmup_steps, warmup_ratio, max_steps)
    above("max_steps", steps, "the warmup", warmup)
    return rate, steps, end, warmup, ramp(0, rate, warmup, inclusive="neither")


def hold(
    steps: Number, warmup: Number, hold_steps: ArrayLike | None, hold_ratio: ArrayLike | None
) -> tuple[Number, Number, str]:
    """The first update of the decay, the length of the decay, and the clock that it counts by.

    Without a hold, NeMo counts the decay from update 0, and begins it after the warmup.
    """
    if hold_steps is None and hold_ratio is None:
        return after(warmup), steps, "global"
    held = warmup + duration("hold", hold_steps, hold_ratio, steps)
    above("max_steps", steps, "the warmup and the hold", held)
    return held, steps - held, "local"


def after(warmup: Number) -> Number:
    """The first update of the decay: the one at the index `warmup` still belongs to the warmup."""
    return where(warmup > 0, warmup + 1, 0)
