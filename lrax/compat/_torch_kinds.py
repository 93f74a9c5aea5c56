"""What PyTorch's schedulers do to the rate in use, read off the schedules of lrax that stand for
them.

In PyTorch a scheduler changes the rate that it finds. Most multiply it, so they are factors,
whatever else changes the rate; cosine annealing and SWALR move it between two rates, and are
affine; the rest overwrite it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from jax import lax, numpy as jnp

from .. import _require
from ..schedules import (
    combinators,
    cycles,
    decays,
    open_ended,
    phases,
    pieces,
    ramps,
    schedule as values,
)
from ..schedules.schedule import Schedule
from ..schedules.shapes import reached, times, whole_power
from ._torch_phases import known

Formula = Callable[..., Any]
FAR = 2.0**40  # no run has as many updates


def _by_value(schedule, after, count):
    before = schedule(after)
    return jnp.where(
        before > 0, schedule(count) / jnp.where(before > 0, before, 1), 1
    )  # from zero on nothing changes


def _exponential(schedule, after, count):
    rate, steps = schedule.hyperparams["rate"], schedule.hyperparams["steps"]
    most = lax.stop_gradient(
        80 / jnp.maximum(jnp.abs(jnp.log(rate)), 1e-30)
    )  # as `lrax.exponential` is held
    return rate ** jnp.minimum(jnp.maximum(count - after, 0) / steps, most)


def _step_decay(schedule, after, count):
    size = schedule.hyperparams["step_size"]
    return whole_power(schedule.hyperparams["factor"], times(count, size) - times(after, size))


def _multistep(schedule, after, count):
    at, factor = schedule.hyperparams["milestones"], schedule.hyperparams["factor"]
    return jnp.prod(jnp.where(reached(count, at) & ~reached(after, at), factor, 1), axis=-1)


def _several(schedule, after, count):
    ratios = [ratio(child, after, count) for child in schedule.hyperparams["schedules"]]
    return math.prod(ratios[1:], start=ratios[0])


# What multiplies the rate in the updates after `after`, up to `count`.
RATIOS: dict[Formula, Callable[[Schedule, Any, Any], Any]] = {
    values._constant: _by_value,
    pieces._piecewise_constant: _by_value,
    decays._linear: _by_value,
    decays._polynomial: _by_value,
    combinators._clip: _by_value,
    open_ended._exponential: _exponential,
    pieces._step_decay: _step_decay,
    pieces._multistep: _multistep,
    values._multiply: _several,
}

# The rates among a schedule's numbers: what PyTorch calls the base is a factor of each.
RATES: dict[Formula, tuple[str, ...]] = {
    values._constant: ("value",),
    pieces._piecewise_constant: ("values",),
    decays._linear: ("init", "end"),
    decays._polynomial: ("init", "end"),
    combinators._clip: ("schedule", "low"),
    open_ended._exponential: ("init",),
    pieces._step_decay: ("init",),
    pieces._multistep: ("init",),
    values._multiply: ("schedules",),
}

# What multiplies the rate at count 0 of a scheduler that is begun by a step, as inside of another
# one.
LATE: dict[Formula, Callable[[Schedule], Any]] = {
    open_ended._exponential: lambda schedule: (
        schedule.hyperparams["rate"] ** (1 / schedule.hyperparams["steps"])
    ),
    decays._polynomial: lambda schedule: (
        (schedule.hyperparams["steps"] / (schedule.hyperparams["steps"] + 1))
        ** schedule.hyperparams["power"]
    ),
    combinators._clip: lambda schedule: late(schedule.hyperparams["schedule"]),
    values._multiply: lambda schedule: math.prod(map(late, schedule.hyperparams["schedules"])),
}

# Those that overwrite the rate, and which of their numbers is the base.
ABSOLUTE: dict[Formula, str | None] = {
    cycles._cosine_restarts: "peak",
    combinators._scale: "factor",
    cycles._cyclic: None,
}

# The rate at count 0 of those that write it into the optimizer when they are built: always, or if
# built first.
WRITES_ALWAYS: dict[Formula, Callable[[dict[str, Any]], Any]] = {}
WRITES_FIRST: dict[Formula, Callable[[dict[str, Any]], Any]] = {
    cycles._cyclic: lambda hyperparams: hyperparams["low"]
}

SEQUENCES = {phases._join}
RECURSIONS: set[Formula] = set()


def ratio(schedule: Schedule, after: Any, count: Any) -> Any:
    """The product of what a scheduler multiplies by in the updates after `after`, up to `count`."""
    return RATIOS[schedule.formula](schedule, after, count)


def late(schedule: Schedule) -> Any:
    """What a scheduler multiplies by at count 0 when it is begun by a step, over what it does when it is built."""
    return LATE.get(schedule.formula, lambda _: 1.0)(schedule)


def role(schedule: Any) -> str:
    """`factor`, `cosine`, `anneal`, `absolute`, `sequence` or `recursion`."""
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"`schedulers` must be schedules that lrax.compat.torch makes, got {schedule!r}"
        )
    formula, hyperparams = schedule.formula, schedule.hyperparams
    if formula is values._multiply:
        return (
            "factor"
            if all(role(child) == "factor" for child in hyperparams["schedules"])
            else "recursion"
        )
    if formula is combinators._clip:
        return "factor" if role(hyperparams["schedule"]) == "factor" else _unknown(schedule)
    if formula is combinators._repeat and hyperparams["schedule"].formula is decays._cosine:
        return "cosine"
    kinds = {"factor": RATIOS, "absolute": ABSOLUTE, "anneal": {ramps._ramp}, "sequence": SEQUENCES}
    return next(
        (
            kind
            for kind, formulas in {**kinds, "recursion": RECURSIONS}.items()
            if formula in formulas
        ),
        None,
    ) or (_unknown(schedule))


def _unknown(schedule):
    raise ValueError(
        f"`schedulers` must be made by the functions of lrax.compat.torch, got {schedule}"
    )


def children(schedule: Schedule) -> Iterator[Schedule]:
    """A schedule and all that are in it."""
    yield schedule
    for value in schedule.hyperparams.values():
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, Schedule):
                yield from children(child)


def writes(schedule: Schedule) -> bool:
    """Whether a scheduler, when it is built, may change the rate that others take for the optimizer's."""
    return any(
        child.formula in WRITES_ALWAYS or child.formula in WRITES_FIRST
        for child in children(schedule)
    )


def with_rates(schedule: Any, change: Callable[[Any], Any]) -> Any:
    """A factor with its rates changed; of a product, the first one's."""
    if isinstance(schedule, tuple):
        return (with_rates(schedule[0], change), *schedule[1:])
    if not isinstance(schedule, Schedule):
        return change(schedule)
    changed = {
        name: with_rates(schedule.hyperparams[name], change) for name in RATES[schedule.formula]
    }
    return Schedule(schedule.formula, {**schedule.hyperparams, **changed})


def part(rate: Any, lr: Any) -> Any:
    """A rate over the base, rounded once where both are known: 0.01 of 0.1 is then printed as 0.1."""
    if known(rate) and known(lr):
        return _require.real(rate=np.asarray(rate, np.float64) / np.asarray(lr, np.float64))["rate"]
    return rate / lr


def rebased(schedule: Schedule, lr: Any, base: Any) -> Schedule:
    """A scheduler of another base."""
    kind = role(schedule)
    if kind == "factor":
        return with_rates(schedule, lambda rate: part(rate, lr) * base)
    if kind == "cosine":
        wave = schedule.hyperparams["schedule"]
        wave = Schedule(wave.formula, {**wave.hyperparams, "peak": base})
        return Schedule(schedule.formula, {**schedule.hyperparams, "schedule": wave})
    name = ABSOLUTE.get(schedule.formula)
    return (
        schedule
        if name is None
        else Schedule(schedule.formula, {**schedule.hyperparams, name: base})
    )


def bases(lr: Any, schedulers: Sequence[Schedule]) -> tuple[list[Any], Any]:
    """The optimizer's rate that each scheduler finds when it is built, and that after all: their `initial_lr`."""
    found, initial = [], lr
    for i, schedule in enumerate(schedulers):
        write = WRITES_ALWAYS.get(schedule.formula) or (
            WRITES_FIRST.get(schedule.formula) if i == 0 else None
        )
        initial = write(schedule.hyperparams) if write else initial
        found.append(initial)
    return found, initial


def require_sequence(schedulers: Sequence[Schedule], lr: Any, milestones: Any) -> None:
    """Requires of the parts of a `SequentialLR` what `in_sequence` can do."""
    require_one_cycle_at_most(schedulers)
    first = schedulers[0]
    nested = [
        schedule.formula is values._multiply or role(schedule) in ("sequence", "recursion")
        for schedule in schedulers
    ]
    written = [writes(schedule) for schedule in schedulers]
    at_once = known(milestones) and np.any(np.asarray(milestones) == 0)
    if any(written):
        _require.positive({"lr": lr}, "lr")
        if any(nested):
            refuse("a CyclicLR or OneCycleLR beside a SequentialLR or ChainedScheduler")
        if at_once:
            refuse("a CyclicLR or OneCycleLR with a milestone at 0")
    if at_once and any(nested):
        refuse("a SequentialLR or ChainedScheduler with a milestone at 0")
    if role(first) == "recursion":
        refuse(
            "a ChainedScheduler that is no product, or a SequentialLR that goes on from a rate, in the first place"
        )
    if role(first) == "sequence":
        begins = first.hyperparams["schedules"][0]
        if begins.formula is values._multiply or role(begins) not in ("factor", "absolute"):
            refuse(
                "a SequentialLR in the first place that begins with anything but a factor or an overwriting one"
            )
        boundaries = first.hyperparams["boundaries"]
        if known(boundaries) and np.any(np.asarray(boundaries) < 1):
            refuse("a SequentialLR in the first place with a milestone at 0")


def require_one_cycle_at_most(schedulers: Sequence[Schedule]) -> None:
    """Requires that no `OneCycleLR` writes its rates over another one's, in the optimizer that they share."""
    if (
        sum(
            child.formula in WRITES_ALWAYS
            for schedule in schedulers
            for child in children(schedule)
        )
        > 1
    ):
        refuse("a second OneCycleLR, which writes its rates over the first one's,")


def refuse(what: str) -> NoReturn:
    """Says that there is no formula of the count alone."""
    raise ValueError(
        f"`schedulers`: {what} has no closed form here, for in PyTorch each rate is made from the one before it"
    )


def in_sequence(
    lr: Any, schedulers: Sequence[Schedule], milestones: Any
) -> tuple[list[Schedule], Any]:
    """The schedulers as they run in a `SequentialLR`, and the rate that it begins with."""
    found, initial = bases(lr, schedulers)
    result = [
        _closed(schedule, lr, milestone)
        for schedule, milestone in zip(schedulers[1:], milestones, strict=True)
    ]
    if any(map(writes, schedulers)):
        pairs = zip(result, found[1:], strict=True)
        result = [rebased(schedule, lr, base) for schedule, base in pairs]
    return [_begun(schedulers[0], lr, initial, any(map(writes, schedulers))), *result], initial


def _closed(schedule, lr, milestone):
    """A scheduler in its closed form at 0, by which ConstantLR without steps is already at its end."""
    if (
        schedule.formula is not pieces._piecewise_constant
        or len(schedule.hyperparams["values"]) != 2
    ):
        return schedule
    rates = schedule.hyperparams["values"]
    ended = (schedule.hyperparams["boundaries"][0] <= 0) & (milestone > 0)
    return Schedule(
        schedule.formula, {**schedule.hyperparams, "values": rates + ended * (lr - rates)}
    )


def _begun(schedule, lr, initial, written):
    """The first scheduler: it begins at the optimizer's rate, and one made of several is stepped once too often."""
    kind = role(schedule)
    if schedule.formula is values._multiply:
        return _late(schedule)
    if kind == "sequence":
        first, *rest = schedule.hyperparams["schedules"]
        return phases.join(
            [_late(first) if role(first) == "factor" else first, *rest],
            schedule.hyperparams["boundaries"] - 1,
        )
    if not written:
        return schedule
    if kind == "anneal":
        return Schedule(schedule.formula, {**schedule.hyperparams, "start": initial})
    if kind == "cosine":  # it comes down from the rate that it found, and climbs to its own base
        both, steps = [rebased(schedule, lr, initial), schedule], schedule.hyperparams["steps"]
        low = (
            steps + (steps % 1 > 0) * FAR
        )  # which it never meets exactly, if that is no whole count
        return phases.join(both, low[None], clock="global")
    return rebased(schedule, lr, initial) if kind == "factor" else schedule


def _late(schedule):
    factor = late(schedule)
    return with_rates(schedule, lambda rate: rate * factor)
