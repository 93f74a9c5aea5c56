"""The durations and the warmup of NeMo's policies."""

from jax.typing import ArrayLike

from ... import _require
from ...schedules.ramps import ramp
from ...schedules.schedule import Schedule
from ..arguments import Number, floor, is_concrete, nonnegative, where


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
    left("max_steps", steps, "the warmup", warmup)
    return rate, steps, end, warmup, ramp(0, rate, warmup, inclusive="neither")


def left(name: str, steps: Number, phases: str, length: Number) -> None:
    """Requires that the phases at the start leave some of the steps."""
    if is_concrete(steps) and is_concrete(length):
        if not steps > length:
            raise ValueError(f"`{name}` must be above {phases}, got {steps} and {length}")
    else:
        _require.positive({f"{name} - {phases}": steps - length}, f"{name} - {phases}")


def after(warmup: Number) -> Number:
    """The first update of the decay: the one at the index `warmup` still belongs to the warmup."""
    return where(warmup > 0, warmup + 1, 0)
