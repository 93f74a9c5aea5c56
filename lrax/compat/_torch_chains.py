"""PyTorch's ChainedScheduler in closed form, as far as there is one: schedulers that change one rate in turn."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax, numpy as jnp

from .. import _require
from ..schedules import decays, pieces, schedule as values
from ..schedules.schedule import Schedule
from ._torch_kinds import (
    WRITES_FIRST,
    bases,
    ratio,
    rebased,
    refuse,
    require_one_cycle_at_most,
    role,
    writes,
)
from ._torch_phases import known


def require_chain(schedulers: Sequence[Schedule], lr: Any) -> tuple[str, int | None]:
    """Requires of the parts of a `ChainedScheduler` that they have a closed form, and says which."""
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
        return ("last" if itself else "overwritten"), None
    affine = [
        schedule for schedule, kind in zip(schedulers, roles, strict=True) if kind != "factor"
    ]
    if not affine or len(schedulers) == 1:
        return "multiply", None
    if len(affine) > 1 or "anneal" in roles:
        refuse("a SWALR, or a second CosineAnnealingLR,")
    wave = affine[0].hyperparams["schedule"].hyperparams
    factors = [schedule for schedule in schedulers if role(schedule) == "factor"]
    ends = [settled(schedule) for schedule in factors]
    last = max((end for end in ends if end is not None), default=0.0)
    short = known(wave["steps"]) and None not in ends and last + 2 <= wave["steps"]
    if known(wave["end"]) and np.all(np.asarray(wave["end"]) == 0):
        whole = known(wave["steps"]) and not np.any(np.asarray(wave["steps"]) % 1)
        if known(wave["steps"]) and not whole:
            return "multiply", None  # it never meets zero, so never leaves it by itself
        if short and all(_ends_at(schedule, lr) for schedule in factors):
            return "multiply", None
        return "restarted", None
    if not short or np.any(np.asarray(wave["steps"]) % 1):
        refuse(
            "a CosineAnnealingLR with an `eta_min` beside factors that do not end, at a known step, before `T_max`"
        )
    return "floored", int(np.ceil(last)) + 1


def settled(schedule: Schedule) -> float | None:
    """The known count from which a factor no longer changes, and until which it stays above zero, if there is one."""
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
    if not known(count):
        return None
    if known(rates):
        return float(count) if np.all(np.asarray(rates) > 0) else None
    _require.positive({"schedulers": rates}, "schedulers")
    return float(count)


def _last(milestones):
    return np.max(milestones, initial=0) if known(milestones) else milestones


def _ends_at(schedule, lr):
    """Whether a factor that ends is then known to be 1."""
    name = {
        pieces._piecewise_constant: "values",
        decays._linear: "end",
        values._constant: "value",
    }.get(schedule.formula)
    return (
        name is not None
        and known(lr)
        and known(schedule.hyperparams[name])
        and (bool(np.all(np.asarray(schedule.hyperparams[name]).flat[-1] == lr)))
    )


def restarted(count: Any, lr: Any, schedulers: Sequence[Schedule]) -> Any:
    """A cosine down to zero with factors before and after it: from zero it climbs by itself."""
    at, wave, before, after = _parts(schedulers)
    count = jnp.maximum(count, 0)
    steps = wave.hyperparams["steps"]
    climbs = count > steps
    waves = jnp.floor(jnp.maximum(count - steps - 1, 0) / (2 * steps))
    since = lax.stop_gradient(jnp.where(climbs, steps + 1 + 2 * steps * waves, count))
    rate = schedulers[at](count)
    for schedule in before:
        rate = rate * jnp.where(climbs, ratio(schedule, since, count), schedule(count) / lr)
    for schedule in after:
        rate = rate * jnp.where(
            climbs, ratio(schedule, jnp.maximum(since - 1, 0), count), schedule(count) / lr
        )
    return rate


def floored(count: Any, lr: Any, schedulers: Sequence[Schedule], length: int) -> Any:
    r"""A cosine down to a floor with factors around it that no longer change after `length` steps.

    With $c$ the cosine's part of the way and $w$ the product of the factors, the rate after the
    cosine's own step is $y_k = e + c_k / c_{k-1} \, (w_k / w_{k-1} \, y_{k-1} - e)$, which is
    solved by $y_t = c_t w_t (\text{lr} + e \sum_{k \le t} (1 / c_k - 1 / c_{k-1}) / w_k)$, a sum of
    positive terms.
    """
    at, wave, before, after = _parts(schedulers)
    count = jnp.maximum(count, 0)
    steps, end = wave.hyperparams["steps"], wave.hyperparams["end"]

    def cosine(k):
        return jnp.sin(np.pi / 2 * (steps - k) / steps)

    def factors(k):
        earlier = jnp.maximum(k - 1, 0)
        each = [schedule(k) / lr for schedule in before]
        each += [jnp.where(k > 0, schedule(earlier) / lr, 1) for schedule in after]
        return math.prod(each[1:], start=each[0])

    k = jnp.arange(1, length + 1, dtype=count.dtype)
    rises = (
        jnp.sin(np.pi / 2 / steps)
        * jnp.sin(np.pi / 2 * (2 * k - 1) / steps)
        / (cosine(k) * cosine(k - 1)) ** 2
    )
    sums = jnp.concatenate([jnp.zeros(1, count.dtype), jnp.cumsum(rises / factors(k))])
    here = jnp.minimum(count, steps)
    i = jnp.minimum(here, length)
    part = cosine(here) ** 2
    rate = part * factors(here) * (lr + end * sums[i.astype(jnp.int32)]) + end * (
        1 - part / cosine(i) ** 2
    )
    for schedule in after:
        rate = rate * jnp.where(
            count > 0, ratio(schedule, jnp.maximum(count - 1, 0), count), schedule(count) / lr
        )
    return jnp.where(count > steps, schedulers[at](count), rate)


def overwritten(count: Any, lr: Any, schedulers: Sequence[Schedule]) -> Any:
    """A scheduler that overwrites the rate, and the one step that each of the later ones makes of it."""
    count = jnp.maximum(count, 0)
    found, _ = bases(lr, schedulers)
    at = max(i for i, schedule in enumerate(schedulers) if role(schedule) == "absolute")
    rate = rebased(schedulers[at], lr, found[at])(count)
    if (
        at > 0 and schedulers[at].formula in WRITES_FIRST
    ):  # CyclicLR looks at its own rates after its first step only
        rate = jnp.where(count > 0, rate, found[at])
    for schedule in schedulers[at + 1 :]:
        rate = rate * jnp.where(
            count > 0, ratio(schedule, jnp.maximum(count - 1, 0), count), schedule(count) / lr
        )
    return rate


def _parts(schedulers):
    at = [role(schedule) for schedule in schedulers].index("cosine")
    return at, schedulers[at].hyperparams["schedule"], schedulers[:at], schedulers[at + 1 :]
