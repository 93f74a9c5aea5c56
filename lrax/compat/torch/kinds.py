"""What each scheduler of PyTorch does to the current rate, listed by its formula in lrax.

It follows torch/optim/lr_scheduler.py of PyTorch 2.13.0. A scheduler there changes the rate that it
finds in the optimizer, so several of them at once, or one after the other, act on each other.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NoReturn

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
from . import cyclic, functions, one_cycle

Formula = Callable[..., Any]
Role = Literal["factor", "cosine", "anneal", "absolute", "sequence", "recursion"]


def _by_value(schedule, after, count):
    before = schedule(after)
    # A factor on a rate of 0 changes nothing.
    return jnp.where(before > 0, schedule(count) / jnp.where(before > 0, before, 1), 1)


def _exponential(schedule, after, count):
    rate, steps = schedule.hyperparams["rate"], schedule.hyperparams["steps"]
    # The exponent has a limit, as in `lrax.exponential`, so that float32 does not overflow.
    most = lax.stop_gradient(80 / jnp.maximum(jnp.abs(jnp.log(rate)), 1e-30))
    return rate ** jnp.minimum(jnp.maximum(count - after, 0) / steps, most)


def _step_decay(schedule, after, count):
    size = schedule.hyperparams["step_size"]
    stairs = divided(count, size)[0] - divided(after, size)[0]
    return whole_power(schedule.hyperparams["factor"], stairs)


def _multistep(schedule, after, count):
    at, factor = schedule.hyperparams["milestones"], schedule.hyperparams["factor"]
    return jnp.prod(jnp.where(reached(count, at) & ~reached(after, at), factor, 1), axis=-1)


def _product_of_function(schedule, after, count):
    after, count = jnp.broadcast_arrays(after, count)
    return functions.product_of(schedule.hyperparams["lr_lambda"], after, count)


def _product_of_children(schedule, after, count):
    ratios = [ratio(child, after, count) for child in schedule.hyperparams["schedules"]]
    return math.prod(ratios[1:], start=ratios[0])


def _first_step_of_exponential(schedule):
    return schedule.hyperparams["rate"] ** (1 / schedule.hyperparams["steps"])


def _first_step_of_polynomial(schedule):
    steps = schedule.hyperparams["steps"]
    return (steps / (steps + 1)) ** schedule.hyperparams["power"]


def _first_step_of_children(schedule):
    return math.prod(map(first_step, schedule.hyperparams["schedules"]))


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is known of a scheduler by the formula of its schedule.

    Args:
      role: `"factor"` multiplies the rate that it finds. `"cosine"` and `"anneal"` (SWALR) move it
        between two rates. `"absolute"` overwrites it. `"sequence"` is a SequentialLR. None: the
        formula occurs only inside of another schedule.
      rates: Hyperparameters that are proportional to the rate that the optimizer was made with.
      inside: The formula that its inner schedule must have.
      ratio: A factor's product over the updates after `after`, up to `count`.
      first_step: What a factor multiplies by in the initial step, if the scheduler around it makes
        that step an ordinary one. None is 1.
      last: The hyperparameters with the count at which a factor ends, and with its rate there.
      writes: The rate that it writes into the optimizer when it is built.
      writes_first_only: Whether it writes only if it is built before all others.
    """

    role: Role | None
    rates: tuple[str, ...] = ()
    inside: Formula | None = None
    ratio: Callable[[Schedule, Any, Any], Any] = _by_value
    first_step: Callable[[Schedule], Any] | None = None
    last: tuple[str | None, str] | None = None
    writes: Callable[[dict[str, Any]], Any] | None = None
    writes_first_only: bool = False


KINDS: dict[Formula, Kind] = {
    # ConstantLR, LinearLR, PolynomialLR
    values._constant: Kind("factor", ("value",), last=(None, "value")),
    pieces._piecewise_constant: Kind("factor", ("values",), last=("boundaries", "values")),
    decays._linear: Kind("factor", ("init", "end"), last=("steps", "end")),
    decays._polynomial: Kind("factor", ("init", "end"), first_step=_first_step_of_polynomial),
    combinators._clip: Kind(
        "factor",
        ("schedule", "low"),
        inside=decays._polynomial,
        first_step=lambda schedule: _first_step_of_polynomial(schedule.hyperparams["schedule"]),
    ),
    # ExponentialLR, StepLR, MultiStepLR, MultiplicativeLR
    open_ended._exponential: Kind(
        "factor", ("init",), ratio=_exponential, first_step=_first_step_of_exponential
    ),
    pieces._step_decay: Kind("factor", ("init",), ratio=_step_decay),
    pieces._multistep: Kind("factor", ("init",), ratio=_multistep, last=("milestones", "factor")),
    functions._MultiplicativeLR: Kind(
        "factor",
        ("lr",),
        ratio=_product_of_function,
        first_step=lambda schedule: schedule.hyperparams["lr_lambda"](0),
    ),
    # ChainedScheduler of factors
    values._multiply: Kind(
        "factor",
        ("schedules",),
        ratio=_product_of_children,
        first_step=_first_step_of_children,
    ),
    # CosineAnnealingLR, SWALR
    combinators._repeat: Kind("cosine", ("schedule",), inside=decays._cosine),
    decays._cosine: Kind(None, ("peak",)),
    ramps._ramp: Kind("anneal", ("start",)),
    # CosineAnnealingWarmRestarts, LambdaLR, CyclicLR, OneCycleLR
    cycles._cosine_restarts: Kind("absolute", ("peak",)),
    combinators._scale: Kind("absolute", ("factor",)),
    cycles._cyclic: Kind(
        "absolute", writes=lambda hyperparams: hyperparams["low"], writes_first_only=True
    ),
    cyclic._CyclicLR: Kind(
        "absolute", writes=lambda hyperparams: hyperparams["base_lr"], writes_first_only=True
    ),
    one_cycle._OneCycleLR: Kind(
        "absolute", writes=lambda hyperparams: hyperparams["max_lr"] / hyperparams["div_factor"]
    ),
    # SequentialLR
    phases._join: Kind("sequence"),
}


def role(schedule: Any) -> Role:
    """The role of a scheduler; `recursion` for a composite that is no plain product or join."""
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"`schedulers` must be schedules that lrax.compat.torch makes, got {schedule!r}"
        )
    hyperparams = schedule.hyperparams
    if "schedulers" in hyperparams:  # a ChainedScheduler or SequentialLR with its own formula
        return "recursion"
    kind = KINDS.get(schedule.formula, Kind(None))
    is_inside = kind.inside in (None, getattr(hyperparams.get("schedule"), "formula", None))
    if kind.role is None or not is_inside:
        raise ValueError(
            f"`schedulers` must be made by the functions of lrax.compat.torch, got {schedule}"
        )
    if schedule.formula is values._multiply:
        roles = [role(child) for child in hyperparams["schedules"]]
        return "factor" if set(roles) == {"factor"} else "recursion"
    return kind.role


def ratio(schedule: Schedule, after: Any, count: Any) -> Any:
    """The product of what a factor multiplies by in the updates after `after`, up to `count`."""
    return KINDS[schedule.formula].ratio(schedule, after, count)


def first_step(schedule: Schedule) -> Any:
    """What a factor multiplies by in the initial step, if that is an ordinary one for it."""
    found = KINDS[schedule.formula].first_step
    return found(schedule) if found else 1.0


def with_rates(schedule: Any, change: Callable[[Any], Any]) -> Any:
    """A scheduler with its rates changed; of a product, those of the first factor."""
    if isinstance(schedule, tuple):
        return (with_rates(schedule[0], change), *schedule[1:])
    if not isinstance(schedule, Schedule):
        return _require.real(rate=change(schedule))["rate"]
    hyperparams = dict(schedule.hyperparams)
    for name in KINDS[schedule.formula].rates:
        hyperparams[name] = with_rates(hyperparams[name], change)
    return Schedule(schedule.formula, hyperparams)


def rebased(schedule: Schedule, lr: Any, base: Any) -> Schedule:
    """The scheduler of an optimizer with the rate `base` in place of `lr`."""
    return with_rates(schedule, lambda rate: rate / lr * base)


def parts_of(schedulers: Sequence[Schedule]) -> tuple[Schedule, ...]:
    """The argument `schedulers` of a scheduler that is made of several, checked."""
    parts = tuple(schedulers) if isinstance(schedulers, (list, tuple)) else ()
    if not parts:
        raise ValueError(f"`schedulers` must be a list of at least one schedule, got {schedulers}")
    for schedule in parts:
        role(schedule)
    # A OneCycleLR keeps its rates in the optimizer, where the next one overwrites them.
    inside = [child for schedule in parts for child in _all_in(schedule)]
    if sum(child.formula is one_cycle._OneCycleLR for child in inside) > 1:
        refuse("a second OneCycleLR, which writes its rates over the first one's,")
    return parts


def _all_in(schedule: Schedule) -> Iterator[Schedule]:
    """A schedule and all that are in it."""
    yield schedule
    for value in schedule.hyperparams.values():
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, Schedule):
                yield from _all_in(child)


def writes(schedule: Schedule) -> bool:
    """Whether building a scheduler may change the optimizer's rate, which the others start from."""
    return any(
        kind.writes is not None
        for child in _all_in(schedule)
        if (kind := KINDS.get(child.formula)) is not None
    )


def bases(lr: Any, schedulers: Sequence[Schedule]) -> tuple[list[Any], Any]:
    """The optimizer's rate when each scheduler has been built, and when all have."""
    found = []
    initial = lr
    for i, schedule in enumerate(schedulers):
        kind = KINDS.get(schedule.formula)
        if kind and kind.writes and (i == 0 or not kind.writes_first_only):
            initial = kind.writes(schedule.hyperparams)
        found.append(initial)
    return found, initial


def refuse(what: str) -> NoReturn:
    """Says that there is no formula of the count alone."""
    raise ValueError(
        f"`schedulers`: {what} has no closed form here: PyTorch makes each rate from the one before"
    )
