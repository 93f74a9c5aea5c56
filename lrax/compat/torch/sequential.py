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
from ...schedules.concrete import library
from ...schedules.counts import real
from ...schedules.schedule import Schedule
from ..arguments import is_concrete, nonnegative, vector, whole_numbers
from .functions import _MultiplicativeLR
from .kinds import bases, first_step, parts_of, rebased, refuse, role, with_rates, writes

FAR = 2.0**40  # no run has this many updates


def SequentialLR(
    lr: ArrayLike, schedulers: Sequence[Schedule], milestones: Sequence[float] | ArrayLike
) -> Schedule:
    """One scheduler after the other: `lrax.join(schedulers, milestones)` with PyTorch's exceptions.

    At its milestone a scheduler starts anew from the optimizer's rate, whatever the last rate was.
    The exceptions of PyTorch are reproduced:

    - `MultiplicativeLR` and `SWALR` start from the rate of the update before their milestone.
    - A `OneCycleLR` anywhere, or a `CyclicLR` in the first place, changes the optimizer's rate, and
      so the rate from which the other schedulers start.
    - A `SequentialLR` or `ChainedScheduler` in the first place runs one step ahead.

    A `SequentialLR` or `ChainedScheduler` in a later place makes PyTorch fail at its milestone.
    Here it begins there.

    Args:
      lr: The optimizer's rate, which each of `schedulers` was made with too. It is at least 0; with
        a `OneCycleLR` or `CyclicLR` it is above 0.
      schedulers: One or more schedules made by functions of this module.
      milestones: Index of the first update of each scheduler but the first: whole numbers, at least
        0, in ascending order. A traced milestone is taken to be above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, the number of schedulers is not one more
        than that of milestones, or PyTorch's recursion has no closed form, such as that of a
        `ChainedScheduler` with a cosine in the first place.
      TypeError: if a scheduler is not a `Schedule`.

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
    # `join` needs two schedules or more, which do not depend on the rates of each other.
    if len(parts) == 1 or any(map(_starts_from_last_rate, parts[1:])):
        return Schedule(_SequentialLR, {**leaves, "schedulers": parts})
    sequence, _ = _in_sequence(leaves["lr"], parts, leaves["milestones"])
    return phases.join(sequence, leaves["milestones"])


@builder(SequentialLR, name="compat.torch.SequentialLR", ranks={"milestones": 1})
def _SequentialLR(count, lr, schedulers, milestones):
    count = real(count)
    parts, initial = _in_sequence(lr, schedulers, milestones)
    # In order, because the last rate before a part depends on the parts before it.
    for i in range(1, len(parts)):
        if _starts_from_last_rate(parts[i]):
            begin = milestones[i - 1]
            last = _rate(parts[:i], milestones[: i - 1], jnp.maximum(begin - 1, 0))
            parts[i] = _started_from(parts[i], jnp.where(begin > 0, last, initial), begin)
    return _rate(parts, milestones, count)


def _rate(parts, milestones, count):
    """The rate of the last part that has begun."""
    return phases.join(parts, milestones)(count) if len(parts) > 1 else parts[0](count)


def _starts_from_last_rate(schedule):
    """Whether a scheduler starts from the rate of the update before, not from the optimizer's."""
    # Only SWALR is a `_ramp`: a LinearLR is a `_linear`.
    return schedule.formula in (ramps._ramp, _MultiplicativeLR)


def _started_from(schedule, last, begin):
    """The scheduler as it starts from the rate of the update before its milestone."""
    if schedule.formula is ramps._ramp:
        return Schedule(ramps._ramp, {**schedule.hyperparams, "start": last})
    # A milestone above 0 begins a MultiplicativeLR by a step with the count 0, which multiplies by
    # the factor of 0 too.
    function = schedule.hyperparams["lr_lambda"]
    first = jnp.where(begin > 0, lax.stop_gradient(function)(jnp.zeros_like(begin)), 1)
    return Schedule(_MultiplicativeLR, {**schedule.hyperparams, "lr": last * first})


def _require_formula(schedulers: Sequence[Schedule], lr: Any, milestones: Any) -> None:
    """Refuses combinations in which PyTorch computes each rate from the last, with no formula."""
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
        refuse(
            "in the first place, a ChainedScheduler of other schedulers than factors, or a"
            " SequentialLR that has one scheduler, or a SWALR or MultiplicativeLR in a later place,"
        )
    if role(first) == "sequence":
        begins = first.hyperparams["schedules"][0]
        if begins.formula is values._multiply or role(begins) not in ("factor", "absolute"):
            refuse("a SequentialLR in the first place that begins with a cosine, SWALR or a chain")
        boundaries = first.hyperparams["boundaries"]
        if is_concrete(boundaries) and np.any(boundaries < 1):
            refuse("a SequentialLR in the first place with a milestone at 0")


def _in_sequence(lr, schedulers, milestones):
    """The schedulers as they run in a `SequentialLR`, and the optimizer's rate at its start."""
    found, initial = bases(lr, schedulers)
    is_written = any(map(writes, schedulers))
    result = [_begun(schedulers[0], lr, initial, is_written)]
    for schedule, base, milestone in zip(schedulers[1:], found[1:], milestones, strict=True):
        part = _at_its_end(schedule, lr, milestone)
        result.append(rebased(part, lr, base) if is_written else part)
    return result, initial


def _at_its_end(schedule, lr, milestone):
    """The scheduler; a ConstantLR without steps has already ended at its milestone.

    At a milestone above 0 PyTorch calls the scheduler's closed form with the count 0. That of a
    ConstantLR without steps is the whole rate.
    """
    # Only ConstantLR is a `_piecewise_constant`: StepLR and MultiStepLR have formulas of their own.
    if schedule.formula is not pieces._piecewise_constant:
        return schedule
    rates = schedule.hyperparams["values"]
    ended = (schedule.hyperparams["boundaries"][0] <= 0) & (milestone > 0)
    # NumPy for concrete numbers, so that the leaves stay on the host.
    values = library(ended, lr, rates).where(ended, lr, rates)
    return Schedule(schedule.formula, {**schedule.hyperparams, "values": values})


def _begun(schedule, lr, initial, is_written):
    """The first scheduler as it starts from the optimizer's rate."""
    kind = role(schedule)
    # PyTorch makes an initial step of the first scheduler before update 0. A ChainedScheduler or
    # SequentialLR passes this on to its own schedulers as an ordinary step, so a factor is applied
    # once more. A SequentialLR also counts this step, so it meets its milestones one update early.
    if schedule.formula is values._multiply:
        return _with_first_step(schedule)
    if kind == "sequence":
        first, *rest = schedule.hyperparams["schedules"]
        first = _with_first_step(first) if role(first) == "factor" else first
        return phases.join([first, *rest], schedule.hyperparams["boundaries"] - 1)
    if not is_written or kind == "absolute":
        return schedule
    if kind == "cosine":
        # The cosine falls from the rate that it finds, and then rises to the rate that it was made
        # with. If `T_max` is not whole, no count meets the lowest rate, and the cosine goes on with
        # the rate that it found.
        both = [rebased(schedule, lr, initial), schedule]
        steps = schedule.hyperparams["steps"]
        low = steps + (steps % 1 > 0) * FAR
        return phases.join(both, low[None], clock="global")
    return rebased(schedule, lr, initial)


def _with_first_step(schedule):
    """A factor that has made an ordinary step before update 0."""
    factor = first_step(schedule)
    return with_rates(schedule, lambda rate: rate * factor)
