"""PyTorch's SequentialLR.

It follows torch/optim/lr_scheduler.py of PyTorch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules import (
    phases,
    pieces,
    ramps,
    schedule as values,
)
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.schedule import Schedule
from ..arguments import is_concrete, nonnegative, vector, whole_numbers
from .functions import _MultiplicativeLR
from .kinds import bases, late, parts_of, rebased, refuse, role, with_rates, writes

FAR = 2.0**40  # no run has this many updates


def SequentialLR(
    lr: ArrayLike, schedulers: Sequence[Schedule], milestones: Sequence[float] | ArrayLike
) -> Schedule:
    """One scheduler after the other: mostly `lrax.join(schedulers, milestones)`.

    At its milestone a scheduler starts anew from the optimizer's rate, wherever the one before has
    ended; but `MultiplicativeLR` and `SWALR` go on from the rate of the update before. PyTorch's
    other surprises are reproduced too: a `OneCycleLR` anywhere, or a `CyclicLR` in the first place,
    changes the rate that others start from; a `SequentialLR` or `ChainedScheduler` in the first
    place is one step ahead. In a later place PyTorch fails at its milestone; here it begins there.

    Args:
      lr: The optimizer's rate, which its schedulers were given too; at least 0, above 0 with the
        changes named above.
      schedulers: One or more schedules that functions of this module made.
      milestones: Index of the first update of each scheduler but the first, whole numbers, at least
        0, in ascending order; traced ones are taken to be above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, there is not one scheduler more than
        milestones, or PyTorch's recursion has no closed form, as of a `ChainedScheduler` of a
        cosine in the first place.
      TypeError: if a scheduler is no `Schedule`.

    Example:
      >>> torch = lrax.compat.torch
      >>> warmup = torch.LinearLR(lr=0.1, start_factor=0.1, total_iters=10)
      >>> decay = torch.CosineAnnealingLR(lr=0.1, T_max=90)
      >>> schedule = torch.SequentialLR(lr=0.1, schedulers=[warmup, decay], milestones=[10])
      >>> print(schedule.values([0, 5, 10, 100]))
      [0.01 0.055 0.1 0. ]
    """
    parts = parts_of(schedulers)
    rate = nonnegative(lr=lr)["lr"]
    at = vector("milestones", milestones)
    if len(parts) != len(at) + 1:
        raise ValueError(
            f"`schedulers` must be one more than `milestones`, got {len(parts)} and {len(at)}"
        )
    whole_numbers({"milestones": at}, "milestones")
    _require.ascending({"milestones": at}, "milestones")
    leaves = _require.real(lr=rate, milestones=at)
    _require_formula(parts, leaves["lr"], leaves["milestones"])
    if len(parts) == 1 or any(map(_goes_on, parts[1:])):
        return Schedule(_SequentialLR, {**leaves, "schedulers": parts})
    pieces, _ = _in_sequence(leaves["lr"], parts, leaves["milestones"])
    return phases.join(pieces, leaves["milestones"])


@builder(SequentialLR, name="compat.torch.SequentialLR", ranks={"milestones": 1})
def _SequentialLR(count, lr, schedulers, milestones):
    count = real(count)
    parts, initial = _in_sequence(lr, schedulers, milestones)
    # A part that goes on needs the rate of the update before it: each is found once, in order.
    for i in range(1, len(parts)):
        if _goes_on(parts[i]):
            begin = milestones[i - 1]
            before = _rate(parts[:i], milestones[: i - 1], jnp.maximum(begin - 1, 0))
            parts[i] = _gone_on(parts[i], jnp.where(begin > 0, before, initial), begin)
    return _rate(parts, milestones, count)


def _rate(parts, milestones, count):
    """The rate of the last part that has begun."""
    return phases.join(parts, milestones)(count) if len(parts) > 1 else parts[0](count)


def _goes_on(schedule):
    """Whether a scheduler begins at the rate of the update before, not at the optimizer's."""
    return schedule.formula in (ramps._ramp, _MultiplicativeLR)


def _gone_on(schedule, before, begin):
    """The scheduler from the rate of the update before."""
    if schedule.formula is ramps._ramp:
        return Schedule(ramps._ramp, {**schedule.hyperparams, "start": before})
    function = schedule.hyperparams["lr_lambda"]
    first = jnp.where(begin > 0, lax.stop_gradient(function)(jnp.zeros_like(begin)), 1)
    return Schedule(_MultiplicativeLR, {**schedule.hyperparams, "lr": before * first})


def _require_formula(schedulers: Sequence[Schedule], lr: Any, milestones: Any) -> None:
    """Refuses the combinations whose rates PyTorch makes each from the one before."""
    first = schedulers[0]
    is_nested = any(
        schedule.formula is values._multiply or role(schedule) in ("sequence", "recursion")
        for schedule in schedulers
    )
    begins_at_once = is_concrete(milestones) and np.any(milestones == 0)
    if any(map(writes, schedulers)):
        _require.positive({"lr": lr}, "lr")
        if is_nested:
            refuse("a CyclicLR or OneCycleLR beside a SequentialLR or ChainedScheduler")
        if begins_at_once:
            refuse("a CyclicLR or OneCycleLR with a milestone at 0")
    if begins_at_once and is_nested:
        refuse("a SequentialLR or ChainedScheduler with a milestone at 0")
    if role(first) == "recursion":
        refuse("a first scheduler that is a recursion: a chain with a cosine, or one that goes on,")
    if role(first) == "sequence":
        begins = first.hyperparams["schedules"][0]
        if begins.formula is values._multiply or role(begins) not in ("factor", "absolute"):
            refuse("a SequentialLR in the first place that begins with a cosine, SWALR or a chain")
        boundaries = first.hyperparams["boundaries"]
        if is_concrete(boundaries) and np.any(boundaries < 1):
            refuse("a SequentialLR in the first place with a milestone at 0")


def _in_sequence(lr, schedulers, milestones):
    """The schedulers as they run in a `SequentialLR`, and the rate that it begins with."""
    found, initial = bases(lr, schedulers)
    is_written = any(map(writes, schedulers))
    result = [_begun(schedulers[0], lr, initial, is_written)]
    for schedule, base, milestone in zip(schedulers[1:], found[1:], milestones, strict=True):
        part = _at_its_end(schedule, lr, milestone)
        result.append(rebased(part, lr, base) if is_written else part)
    return result, initial


def _at_its_end(schedule, lr, milestone):
    """A ConstantLR of no steps is at its end: a milestone calls its closed form at 0."""
    if schedule.formula is not pieces._piecewise_constant:
        return schedule
    rates = schedule.hyperparams["values"]
    ended = (schedule.hyperparams["boundaries"][0] <= 0) & (milestone > 0)
    return Schedule(
        schedule.formula, {**schedule.hyperparams, "values": rates + ended * (lr - rates)}
    )


def _begun(schedule, lr, initial, is_written):
    """The first scheduler from the optimizer's rate."""
    kind = role(schedule)
    # PyTorch steps the first scheduler into update 0. One that is made of several steps its own
    # without saying that it is the initial step, so that they apply their factor once more. A
    # SequentialLR counts that step, too, and so meets its milestones one update early.
    if schedule.formula is values._multiply:
        return _late(schedule)
    if kind == "sequence":
        first, *rest = schedule.hyperparams["schedules"]
        first = _late(first) if role(first) == "factor" else first
        return phases.join([first, *rest], schedule.hyperparams["boundaries"] - 1)
    if not is_written or kind == "absolute":
        return schedule
    if kind == "cosine":
        # It comes down from the rate that it found, and climbs to its own base. It never meets the
        # lowest rate exactly, and so never climbs by itself, where `T_max` is no whole count.
        both = [rebased(schedule, lr, initial), schedule]
        steps = schedule.hyperparams["steps"]
        low = steps + (steps % 1 > 0) * FAR
        return phases.join(both, low[None], clock="global")
    return rebased(schedule, lr, initial)


def _late(schedule):
    factor = late(schedule)
    return with_rates(schedule, lambda rate: rate * factor)
