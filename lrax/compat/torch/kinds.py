"""What PyTorch's schedulers do to the rate in use, read off the schedules that stand for them.

In PyTorch a scheduler changes the rate that it finds. A factor multiplies it, whatever else changes
it. Cosine annealing and SWALR move it between two rates. The others overwrite it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from jax import lax, numpy as jnp

from ... import _require
from ...schedules import (
    combinators,
    cycles,
    decays,
    open_ended,
    phases,
    pieces,
    ramps,
    schedule as values,
)
from ...schedules.counts import divided
from ...schedules.schedule import Schedule
from ...schedules.shapes import reached, whole_power
from ..arguments import is_concrete
from . import cyclic, functions, one_cycle

Formula = Callable[..., Any]


def _by_value(schedule, after, count):
    before = schedule(after)
    # A factor of a rate that is zero changes nothing.
    return jnp.where(before > 0, schedule(count) / jnp.where(before > 0, before, 1), 1)


def _exponential(schedule, after, count):
    rate, steps = schedule.hyperparams["rate"], schedule.hyperparams["steps"]
    # Held, as `lrax.exponential` is, where float32 ends.
    most = lax.stop_gradient(80 / jnp.maximum(jnp.abs(jnp.log(rate)), 1e-30))
    return rate ** jnp.minimum(jnp.maximum(count - after, 0) / steps, most)


def _step_decay(schedule, after, count):
    size = schedule.hyperparams["step_size"]
    stairs = divided(count, size)[0] - divided(after, size)[0]
    return whole_power(schedule.hyperparams["factor"], stairs)


def _multistep(schedule, after, count):
    at, factor = schedule.hyperparams["milestones"], schedule.hyperparams["factor"]
    return jnp.prod(jnp.where(reached(count, at) & ~reached(after, at), factor, 1), axis=-1)


def _of_functions(schedule, after, count):
    after, count = jnp.broadcast_arrays(after, count)
    return functions.product_of(schedule.hyperparams["lr_lambda"], after, count)


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
    functions._MultiplicativeLR: _of_functions,
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
    functions._MultiplicativeLR: ("lr",),
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
    functions._MultiplicativeLR: lambda schedule: schedule.hyperparams["lr_lambda"](0),
}


# Those that overwrite the rate, and which of their numbers is the base.
ABSOLUTE: dict[Formula, str | None] = {
    cycles._cosine_restarts: "peak",
    combinators._scale: "factor",
    cycles._cyclic: None,
    cyclic._CyclicLR: None,
    one_cycle._OneCycleLR: None,
}


# The rate at count 0 of those that write it into the optimizer when they are built: always, or if
# built first.
WRITES_ALWAYS: dict[Formula, Callable[[dict[str, Any]], Any]] = {
    one_cycle._OneCycleLR: lambda hyperparams: hyperparams["max_lr"] / hyperparams["div_factor"]
}


WRITES_FIRST: dict[Formula, Callable[[dict[str, Any]], Any]] = {
    cycles._cyclic: lambda hyperparams: hyperparams["low"],
    cyclic._CyclicLR: lambda hyperparams: hyperparams["base_lr"],
}


def ratio(schedule: Schedule, after: Any, count: Any) -> Any:
    """The product of what a scheduler multiplies by in the updates after `after`, up to `count`."""
    return RATIOS[schedule.formula](schedule, after, count)


def late(schedule: Schedule) -> Any:
    """The factor on the rate at count 0 when another scheduler begins this one by a step."""
    return LATE.get(schedule.formula, lambda _: 1.0)(schedule)


def parts_of(schedulers: Sequence[Schedule]) -> tuple[Schedule, ...]:
    """The argument `schedulers` of a scheduler that is made of several, checked."""
    parts = tuple(schedulers) if isinstance(schedulers, (list, tuple)) else ()
    if not parts:
        raise ValueError(f"`schedulers` must be a list of at least one schedule, got {schedulers}")
    return parts


def role(schedule: Any) -> str:
    """`factor`, `cosine`, `anneal`, `absolute`, `sequence` or `recursion`."""
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"`schedulers` must be schedules that lrax.compat.torch makes, got {schedule!r}"
        )
    formula, hyperparams = schedule.formula, schedule.hyperparams
    if "schedulers" in hyperparams:
        return "recursion"  # only a chain or a sequence without a schedule of lrax has these
    if formula is values._multiply:
        all_factors = all(role(child) == "factor" for child in hyperparams["schedules"])
        return "factor" if all_factors else "recursion"
    if formula is combinators._clip and role(hyperparams["schedule"]) == "factor":
        return "factor"
    if formula is combinators._repeat and hyperparams["schedule"].formula is decays._cosine:
        return "cosine"
    if formula is ramps._ramp:
        return "anneal"
    if formula is phases._join:
        return "sequence"
    if formula in ABSOLUTE:
        return "absolute"
    if formula in RATIOS and formula is not combinators._clip:
        return "factor"
    return _unknown(schedule)


def _unknown(schedule: Schedule) -> NoReturn:
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
    """Whether building a scheduler may change the rate that others take for the optimizer's."""
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
    """A rate over the base, rounded once if both are concrete: 0.01 over 0.1 prints as 0.1."""
    if is_concrete(rate) and is_concrete(lr):
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
    """The optimizer's rate that each scheduler finds when it is built, and the one after all."""
    found, initial = [], lr
    for i, schedule in enumerate(schedulers):
        write = WRITES_ALWAYS.get(schedule.formula) or (
            WRITES_FIRST.get(schedule.formula) if i == 0 else None
        )
        initial = write(schedule.hyperparams) if write else initial
        found.append(initial)
    return found, initial


def require_one_cycle_at_most(schedulers: Sequence[Schedule]) -> None:
    """Requires that no `OneCycleLR` writes its rates over another one's, in their optimizer."""
    inside = [child for schedule in schedulers for child in children(schedule)]
    if sum(child.formula in WRITES_ALWAYS for child in inside) > 1:
        refuse("a second OneCycleLR, which writes its rates over the first one's,")


def refuse(what: str) -> NoReturn:
    """Says that there is no formula of the count alone."""
    raise ValueError(
        f"`schedulers`: {what} has no closed form here: PyTorch makes each rate from the one before"
    )
