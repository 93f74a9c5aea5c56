"""PyTorch's ChainedScheduler."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from ... import _require
from ...schedules import decays, pieces, schedule as values
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.schedule import Schedule, Static, multiply
from ..arguments import LONGEST, is_concrete, is_known_as, is_whole, positive
from .kinds import (
    WRITES_FIRST,
    bases,
    part,
    parts_of,
    ratio,
    rebased,
    refuse,
    require_one_cycle_at_most,
    role,
    with_rates,
    writes,
)


def ChainedScheduler(lr: ArrayLike, schedulers: Sequence[Schedule]) -> Schedule:
    """Several schedulers at once, each changing the rate that the one before it made.

    It is mostly `lrax.multiply`.

    Factors are multiplied. A scheduler that overwrites the rate (`LambdaLR`, `CyclicLR`,
    `OneCycleLR`, warm restarts) undoes all before it in each update, and keeps of a later factor
    only its latest step; `CyclicLR` after another one does so from update 1 on. A cosine that has
    come down to zero climbs by itself again, whatever factors did to it before; one with a floor is
    pulled to that, which has a closed form if the factors end (`LinearLR`, `ConstantLR`,
    `MultiStepLR`) before the cosine does, and at steps that are known when it is built.

    Args:
      lr: The optimizer's rate, which its schedulers were given too; above 0.
      schedulers: One or more schedules that functions of this module made, in the order of their
        steps.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, there is no scheduler, or PyTorch's
        recursion has no closed form: a `CosineAnnealingLR` with a floor beside a factor without
        end, two of them, a `SWALR`, or either of these after one that overwrites.
      TypeError: if a scheduler is no `Schedule`.

    Example:
      >>> torch = lrax.compat.torch
      >>> warmup = torch.LinearLR(lr=0.1, start_factor=0.1, total_iters=10)
      >>> torch.ChainedScheduler(
      ...     lr=0.1, schedulers=[warmup, torch.ExponentialLR(lr=0.1, gamma=0.9)]
      ... )
      multiply(linear(init=0.01, end=0.1, steps=10), exponential(init=1, rate=0.9, steps=1,
      staircase=False, begin=0))
    """
    parts = parts_of(schedulers)
    leaves = _require.real(**positive(lr=lr))
    rate = leaves["lr"]
    way = _way(parts, rate)
    if way == "multiply":
        # All but one, which is no factor where there is such a one, become factors of 1.
        kinds = [role(schedule) for schedule in parts]
        base = next((i for i, kind in enumerate(kinds) if kind != "factor"), 0)
        return multiply(
            *(
                schedule if i == base else with_rates(schedule, lambda value: part(value, rate))
                for i, schedule in enumerate(parts)
            )
        )
    if way == "last":
        return rebased(parts[-1], rate, bases(rate, parts)[0][-1])
    hyperparams = {**leaves, "schedulers": parts, "way": Static(way)}
    if way == "floored":
        hyperparams["sums"] = _sums(rate, parts)
    return Schedule(_ChainedScheduler, hyperparams)


def _shown(hyperparams):
    return {name: hyperparams[name] for name in ("lr", "schedulers")}


@builder(ChainedScheduler, name="compat.torch.ChainedScheduler", shown=_shown, ranks={"sums": 1})
def _ChainedScheduler(count, lr, schedulers, way, sums=None):
    count = real(count)
    count = jnp.maximum(count, 0)
    if way == "floored":
        return _floored(count, lr, schedulers, sums)
    return (_restarted if way == "restarted" else _overwritten)(count, lr, schedulers)


def _way(schedulers: Sequence[Schedule], lr: Any) -> str:
    """Which closed form a chain has, if there is one."""
    roles = [role(schedule) for schedule in schedulers]
    require_one_cycle_at_most(schedulers)
    if {"sequence", "recursion"} & set(roles):
        refuse("a SequentialLR, or a ChainedScheduler that is no product, in a ChainedScheduler")
    if "absolute" in roles:
        at = max(i for i, kind in enumerate(roles) if kind == "absolute")
        if {"cosine", "anneal"} & set(roles[at:]):
            refuse("a CosineAnnealingLR or SWALR after one that overwrites the rate")
        found_late = at > 0 and schedulers[at].formula in WRITES_FIRST
        itself = at == len(roles) - 1 and not found_late and not any(map(writes, schedulers[:-1]))
        return "last" if itself else "overwritten"
    affine = [each for each, kind in zip(schedulers, roles, strict=True) if kind != "factor"]
    if not affine or len(schedulers) == 1:
        return "multiply"
    if len(affine) > 1 or "anneal" in roles:
        refuse("a SWALR, or a second CosineAnnealingLR,")
    wave = affine[0].hyperparams["schedule"].hyperparams
    factors = [each for each, kind in zip(schedulers, roles, strict=True) if kind == "factor"]
    last = _settled(factors)
    whole = is_concrete(wave["steps"]) and is_whole(wave["steps"])
    short = is_concrete(wave["steps"]) and last is not None and last + 2 <= wave["steps"]
    if is_known_as(wave["end"], 0):
        # A cosine that never meets zero never leaves it by itself.
        never_meets = is_concrete(wave["steps"]) and not whole
        if never_meets or (short and all(_ends_at(schedule, lr) for schedule in factors)):
            return "multiply"
        return "restarted"
    if not (short and whole):
        refuse("a CosineAnnealingLR with an `eta_min` beside factors that go on past `T_max`")
    return "floored"


def _settled(factors: Sequence[Schedule]) -> int | None:
    """The first count from which no factor changes, if there is one."""
    ends = [settled(schedule) for schedule in factors]
    return None if None in ends else int(np.ceil(max(ends, default=0)))  # pyright: ignore[reportArgumentType, reportCallIssue]


def settled(schedule: Schedule) -> float | None:
    """The concrete count from which a factor no longer changes, if it stays above zero."""
    hyperparams = schedule.hyperparams
    last = {
        values._constant: lambda: (0.0, hyperparams["value"]),
        pieces._piecewise_constant: lambda: (hyperparams["boundaries"][-1], hyperparams["values"]),
        decays._linear: lambda: (hyperparams["steps"], hyperparams["end"]),
        pieces._multistep: lambda: (_last(hyperparams["milestones"]), hyperparams["factor"]),
    }.get(schedule.formula)
    if last is None:
        return None
    count, rates = last()
    if not is_concrete(count):
        return None
    if is_concrete(rates):
        return float(count) if np.all(np.asarray(rates) > 0) else None
    _require.positive({"schedulers": rates}, "schedulers")
    return float(count)


def _last(milestones):
    return np.max(milestones, initial=0) if is_concrete(milestones) else milestones


def _ends_at(schedule, lr):
    """Whether a factor that ends is then known to be 1."""
    name = {
        pieces._piecewise_constant: "values",
        decays._linear: "end",
        values._constant: "value",
    }.get(schedule.formula)
    return (
        name is not None
        and is_concrete(lr)
        and is_concrete(schedule.hyperparams[name])
        and (bool(np.all(np.asarray(schedule.hyperparams[name]).flat[-1] == lr)))
    )


def _restarted(count, lr, schedulers):
    """A cosine down to zero with factors before and after it: from zero it climbs by itself."""
    wave, before, after = _around(schedulers)
    steps = wave.hyperparams["steps"]
    climbs = count > steps
    waves = jnp.floor(jnp.maximum(count - steps - 1, 0) / (2 * steps))
    since = lax.stop_gradient(jnp.where(climbs, steps + 1 + 2 * steps * waves, count))
    rate = wave(count)
    for schedule, begin in [
        *((each, since) for each in before),
        *((each, jnp.maximum(since - 1, 0)) for each in after),
    ]:
        rate = rate * jnp.where(climbs, ratio(schedule, begin, count), schedule(count) / lr)
    return rate


def _floored(count, lr, schedulers, sums):
    r"""A cosine down to a floor with factors around it that end before it does.

    With $c$ the cosine's part of the way and $w$ the product of the factors, the rate after the
    cosine's own step is $y_k = e + c_k / c_{k-1} \, (w_k / w_{k-1} \, y_{k-1} - e)$. This is solved
    by $y_t = c_t w_t (\text{lr} + e \sum_{k \le t} (1 / c_k - 1 / c_{k-1}) / w_k)$. The sums are in
    a table, made when the schedule is built.
    """
    wave, _, after = _around(schedulers)
    cosine = wave.hyperparams["schedule"].hyperparams
    steps, end = cosine["steps"], cosine["end"]
    here = jnp.minimum(count, steps)
    i = jnp.minimum(here, len(sums) - 1)
    down = _part_left(here, steps)
    rate = down * _factors(here, lr, schedulers) * (lr + end * sums[i.astype(jnp.int32)])
    rate = rate + end * (1 - down / _part_left(i, steps))
    return jnp.where(count > steps, wave(count), _stepped(rate, count, lr, after))


def _sums(lr: Any, schedulers: Sequence[Schedule]) -> Any:
    """The sums of `_floored`, one for each update until the factors have ended."""
    wave, before, after = _around(schedulers)
    steps = wave.hyperparams["schedule"].hyperparams["steps"]
    length = _settled([*before, *after])
    if length is None or length >= LONGEST:
        raise ValueError(
            f"`schedulers` must end within {LONGEST} updates beside a CosineAnnealingLR with an "
            f"`eta_min`, got {length}"
        )
    k = np.arange(1, length + 2)
    # 1 / c_k - 1 / c_{k-1}, as a product: the difference has few digits where the two are close.
    rises = np.sin(np.pi / 2 / steps) * np.sin(np.pi / 2 * (2 * k - 1) / steps)
    rises = rises / (_part_left(k, steps) * _part_left(k - 1, steps))
    terms = rises / _factors(k, lr, schedulers)
    sums = jnp.concatenate([jnp.zeros(1, terms.dtype), jnp.cumsum(terms)])
    return sums if isinstance(sums, Tracer) else _require.real(sums=np.asarray(sums))["sums"]


def _part_left(count, steps):
    """The part of its way that a cosine has left."""
    return jnp.sin(np.pi / 2 * (steps - count) / steps) ** 2


def _factors(count, lr, schedulers):
    """The product of the factors in a chain when the cosine makes its step."""
    _, before, after = _around(schedulers)
    product = jnp.ones_like(count, _require.float_dtype())
    for schedule in before:
        product = product * schedule(count) / lr
    for schedule in after:
        earlier = schedule(jnp.maximum(count - 1, 0)) / lr
        product = product * jnp.where(count > 0, earlier, 1)
    return product


def _overwritten(count, lr, schedulers):
    """A scheduler that overwrites the rate, and the one step that each later one makes of it."""
    found, _ = bases(lr, schedulers)
    at = max(i for i, schedule in enumerate(schedulers) if role(schedule) == "absolute")
    rate = rebased(schedulers[at], lr, found[at])(count)
    if at > 0 and schedulers[at].formula in WRITES_FIRST:
        # CyclicLR looks at its own rates only after its first step.
        rate = jnp.where(count > 0, rate, found[at])
    return _stepped(rate, count, lr, schedulers[at + 1 :])


def _stepped(rate, count, lr, schedulers):
    """A rate after one step of each factor."""
    earlier = jnp.maximum(count - 1, 0)
    for schedule in schedulers:
        first = schedule(count) / lr
        rate = rate * jnp.where(count > 0, ratio(schedule, earlier, count), first)
    return rate


def _around(schedulers):
    """The cosine of a chain, and the factors before and after it."""
    at = [role(schedule) for schedule in schedulers].index("cosine")
    return schedulers[at], schedulers[:at], schedulers[at + 1 :]
