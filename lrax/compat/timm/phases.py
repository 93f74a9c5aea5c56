"""The warmup and the noise that all of timm's schedulers have.

It follows timm/scheduler/scheduler.py of timm 1.0.31.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.typing import ArrayLike

from ... import _require
from ...schedules.combinators import delay
from ...schedules.decays import linear
from ...schedules.noise import with_noise
from ...schedules.phases import join, warmup
from ...schedules.schedule import Schedule
from ..arguments import Number, at_most_one, is_known_as, largest, listed, nonnegative, positive

Range = ArrayLike | Sequence[ArrayLike] | None


def checked(**values: ArrayLike) -> dict[str, Number]:
    """The numbers that most of timm's schedulers take: lengths are above 0, others at least 0."""
    above = ("t_initial", "cycle_mul", "k_decay")
    return {
        name: (positive if name in above else nonnegative)(**{name: value})[name]
        for name, value in values.items()
    }


def shifted(
    schedule: Schedule, lr: Any, warmup_t: Any, warmup_lr_init: Any, warmup_prefix: bool
) -> Schedule:
    """A warmup to `lr`, then a schedule that begins at `lr`."""
    if is_known_as(warmup_t, 0):
        return schedule
    if warmup_prefix:
        return warmup(schedule, warmup_t, warmup_lr_init)
    return join(
        [linear(warmup_lr_init, lr, warmup_t), schedule], listed([warmup_t]), clock="global"
    )


def warmed(
    schedule: Schedule, lr: Any, warmup_t: Any, warmup_lr_init: Any, warmup_prefix: bool
) -> Schedule:
    """A warmup to `lr`, then any schedule. Without a warmup, the first update has the rate `lr`."""
    none = is_known_as(warmup_t, 0)
    up = lr if none else linear(warmup_lr_init, lr, warmup_t)
    after = delay(schedule, warmup_t) if warmup_prefix and not none else schedule
    return join([up, after], listed([largest(warmup_t, 1)]), clock="global")


def noisy(
    schedule: Schedule, noise_range_t: Any, noise_pct: Any, noise_std: Any, noise_seed: int | None
) -> Schedule:
    """The schedule with timm's noise, or without if the range is `None`."""
    if noise_range_t is None:
        return schedule
    begin, end = noise_range_t, None
    if isinstance(noise_range_t, (list, tuple)):
        if len(noise_range_t) != 2:
            raise ValueError(
                f"`noise_range_t` must be one count or two, got {len(noise_range_t)} of them"
            )
        begin, end = noise_range_t
    first = nonnegative(noise_range_t=begin)["noise_range_t"]
    until = None if end is None else nonnegative(noise_range_t=end)["noise_range_t"]
    given = positive(noise_std=noise_std) | nonnegative(noise_pct=noise_pct)
    at_most_one(given, "noise_pct")
    seed = 42 if noise_seed is None else _require.count("noise_seed", noise_seed, 0)
    if seed >= 2**63:
        raise ValueError(f"`noise_seed` must be below 2**63, got {noise_seed}")
    # timm's constructor sets the rate of the first update, without noise.
    return with_noise(
        schedule,
        seed,
        std=given["noise_std"],
        limit=given["noise_pct"],
        begin=largest(first, 1),
        until=until,
    )
