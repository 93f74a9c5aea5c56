"""PyTorch's ChainedScheduler.

It follows torch/optim/lr_scheduler.py of PyTorch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.schedule import Schedule, multiply
from ..arguments import is_concrete, is_known_as, is_whole, positive
from .kinds import (
    KINDS,
    bases,
    parts_of,
    ratio,
    rebased,
    refuse,
    role,
    with_rates,
    writes,
)

LONGEST = 2**20  # most entries of the table of sums, 8 MB in float64


def ChainedScheduler(lr: ArrayLike, schedulers: Sequence[Schedule]) -> Schedule:
    """Several schedulers at once, each changing the rate that the one before it made.

    It is mostly `lrax.multiply`.

    Factors are multiplied. A scheduler that overwrites the rate (`LambdaLR`, `CyclicLR`,
    `OneCycleLR`, warm restarts) undoes all before it in each update. A factor after it changes the
    rate by its latest step only. A `CyclicLR` that is not the first scheduler overwrites from
    update 1 on. A cosine that has come down to zero climbs to its own `lr` again, whatever factors
    did before. A cosine with a floor pulls the rate to that floor. This has a closed form if the
    factors end before the cosine does (`LinearLR`, `ConstantLR`, `MultiStepLR`), at concrete steps.

    Args:
      lr: The optimizer's rate, which its schedulers were given too; above 0.
      schedulers: One or more schedules that functions of this module made, in the order of their
        steps.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, there is no scheduler, or PyTorch's
        recursion has no closed form: a `CosineAnnealingLR` with a floor beside a factor without
        end, two of them, a `SWALR`, or either of these after one that overwrites.
      TypeError: if a scheduler is not a `Schedule`.

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
    roles = [role(schedule) for schedule in parts]
    if {"sequence", "recursion"} & set(roles):
        refuse("a SequentialLR, or a ChainedScheduler that is no product, in a ChainedScheduler")
    if "absolute" in roles:
        at = _last_absolute(parts)
        if {"cosine", "anneal"} & set(roles[at:]):
            refuse("a CosineAnnealingLR or SWALR after one that overwrites the rate")
        if at == len(parts) - 1 and not any(map(writes, parts[:-1])) and not _writes_late(parts):
            return rebased(parts[-1], rate, bases(rate, parts)[0][-1])
    elif _is_product(parts, rate):
        return _product(parts, rate)
    elif not is_known_as(_cosine_of(parts)["end"], 0):
        leaves["sums"] = _sums(rate, parts)
    return Schedule(_ChainedScheduler, {**leaves, "schedulers": parts})


def _shown(hyperparams):
    return {name: hyperparams[name] for name in ("lr", "schedulers")}


@builder(ChainedScheduler, name="compat.torch.ChainedScheduler", shown=_shown, ranks={"sums": 1})
def _ChainedScheduler(count, lr, schedulers, sums=None):
    count = jnp.maximum(real(count), 0)
    if sums is not None:
        return _floored(count, lr, schedulers, sums)
    overwritten = any(role(schedule) == "absolute" for schedule in schedulers)
    return (_overwritten if overwritten else _restarted)(count, lr, schedulers)


def _is_product(schedulers: Sequence[Schedule], lr: Any) -> bool:
    """Whether the rate is the product of factors and at most one cosine.

    Raises:
      ValueError: if there is no formula at all.
    """
    factors = [schedule for schedule in schedulers if role(schedule) == "factor"]
    if len(factors) == len(schedulers) or len(schedulers) == 1:
        return True
    if len(schedulers) - len(factors) > 1 or "anneal" in map(role, schedulers):
        refuse("a SWALR, or a second CosineAnnealingLR,")
    cosine = _cosine_of(schedulers)
    ends = [end for schedule in factors if (end := end_of(schedule)) is not None]
    # A cosine meets its lowest rate at a whole `T_max` only.
    meets = is_concrete(cosine["steps"]) and is_whole(cosine["steps"])
    in_time = is_concrete(cosine["steps"]) and len(ends) == len(factors)
    in_time = in_time and np.ceil(max(ends, default=0)) + 2 <= cosine["steps"]
    if not is_known_as(cosine["end"], 0):
        if not (in_time and meets):
            refuse("a CosineAnnealingLR with an `eta_min` beside factors that go on past `T_max`")
        return False
    never_meets = is_concrete(cosine["steps"]) and not meets
    # From a rate of 0 the cosine climbs to `lr` by itself, whatever the factors did before.
    return never_meets or bool(in_time and all(_ends_at(schedule, lr) for schedule in factors))


def _product(schedulers, lr):
    """The product of the schedules, all but one of them divided by `lr`."""
    kinds = [role(schedule) for schedule in schedulers]
    base = next((i for i, kind in enumerate(kinds) if kind != "factor"), 0)
    return multiply(
        *(
            schedule if i == base else with_rates(schedule, lambda rate: rate / lr)
            for i, schedule in enumerate(schedulers)
        )
    )


def end_of(schedule: Schedule) -> float | None:
    """The concrete count from which a factor no longer changes, if it stays above zero."""
    last = KINDS[schedule.formula].last
    if last is None:
        return None
    count = 0.0 if last[0] is None else schedule.hyperparams[last[0]]
    rate = schedule.hyperparams[last[1]]
    if not is_concrete(count) or (is_concrete(rate) and not np.all(rate > 0)):
        return None
    _require.positive({"schedulers": rate}, "schedulers")
    return float(np.max(count, initial=0))


def _ends_at(schedule, lr):
    """Whether a factor is known to be 1 once it has ended."""
    kind = KINDS[schedule.formula]
    if kind.last is None or kind.last[1] not in kind.rates:
        return False
    rates = schedule.hyperparams[kind.last[1]]
    return is_concrete(lr) and is_concrete(rates) and bool(np.ravel(rates)[-1] == lr)


def _restarted(count, lr, schedulers):
    """A cosine down to zero with factors before and after it.

    PyTorch's cosine adds to the rate where it turns, so from a rate of zero it climbs to its own
    `lr`, and only the factors of later updates act on it.
    """
    wave, before, after = _around(schedulers)
    steps = wave.hyperparams["steps"]
    climbs = count > steps
    waves = jnp.floor(jnp.maximum(count - steps - 1, 0) / (2 * steps))
    # The first update of the climb. In it the factors before the cosine multiply a rate of 0, so
    # only the factors after it have an effect.
    begin = lax.stop_gradient(steps + 1 + 2 * steps * waves)
    rate = wave(count)
    for schedule in before:
        rate = rate * _product_since(schedule, jnp.where(climbs, begin, -1), count, lr)
    for schedule in after:
        rate = rate * _product_since(schedule, jnp.where(climbs, begin - 1, -1), count, lr)
    return rate


def _floored(count, lr, schedulers, sums):
    r"""A cosine down to a floor with factors around it that end before it does.

    Let $e$ be the floor, $c_k$ the fraction of the cosine's fall that is left at update $k$, and
    $w_k$ the product of the factors. The rate after the cosine's own step is $y_k = e + c_k /
    c_{k-1} \, (w_k / w_{k-1} \, y_{k-1} - e)$. The solution is $y_t = c_t w_t (\text{lr} + e
    \sum_{k \le t} (1 / c_k - 1 / c_{k-1}) / w_k)$. The sums are in a table that is made when the
    schedule is built. After its last index $i$ the factors are constant, and the rest of the sum is
    $(1 / c_t - 1 / c_i) / w_i$.
    """
    wave, _, after = _around(schedulers)
    cosine = _cosine_of(schedulers)
    steps, end = cosine["steps"], cosine["end"]
    here = jnp.minimum(count, steps)
    i = jnp.minimum(here, len(sums) - 1)
    down = _part_left(here, steps)
    rate = down * _factors(here, lr, schedulers) * (lr + end * sums[i.astype(jnp.int32)])
    rate = rate + end * (1 - down / _part_left(i, steps))
    return jnp.where(count > steps, wave(count), _stepped(rate, count, lr, after))


def _sums(lr: Any, schedulers: Sequence[Schedule]) -> Any:
    """The sums of `_floored`, one for each update until the factors have ended."""
    factors = [schedule for schedule in schedulers if role(schedule) == "factor"]
    length = int(np.ceil(max(end_of(schedule) or 0.0 for schedule in factors)))
    if length >= LONGEST:
        raise ValueError(
            f"`schedulers` must end within {LONGEST} updates beside a CosineAnnealingLR with an "
            f"`eta_min`, got {length}"
        )
    steps = _cosine_of(schedulers)["steps"]
    k = np.arange(1, length + 2)
    # 1 / c_k - 1 / c_{k-1}, as a product: the difference has few digits where the two are close.
    rises = np.sin(np.pi / 2 / steps) * np.sin(np.pi / 2 * (2 * k - 1) / steps)
    rises = rises / (_part_left(k, steps) * _part_left(k - 1, steps))
    terms = rises / _factors(k, lr, schedulers)
    sums = jnp.concatenate([jnp.zeros(1, terms.dtype), jnp.cumsum(terms)])
    return sums if isinstance(sums, Tracer) else _require.real(sums=np.asarray(sums))["sums"]


def _part_left(count, steps):
    """The fraction of a cosine's fall that is left."""
    return jnp.sin(np.pi / 2 * (steps - count) / steps) ** 2


def _factors(count, lr, schedulers):
    """The product of the factors in a chain when the cosine makes its step.

    The factors after the cosine have not yet made their step of this update.
    """
    _, before, after = _around(schedulers)
    product = jnp.ones_like(count, _require.float_dtype())
    for schedule in before:
        product = product * schedule(count) / lr
    for schedule in after:
        earlier = schedule(jnp.maximum(count - 1, 0)) / lr
        product = product * jnp.where(count > 0, earlier, 1)
    return product


def _overwritten(count, lr, schedulers):
    """The rate of the last scheduler that overwrites, after one step of each later factor."""
    found, _ = bases(lr, schedulers)
    at = _last_absolute(schedulers)
    rate = rebased(schedulers[at], lr, found[at])(count)
    if _writes_late(schedulers):
        rate = jnp.where(count > 0, rate, found[at])
    return _stepped(rate, count, lr, schedulers[at + 1 :])


def _last_absolute(schedulers):
    return max(i for i, schedule in enumerate(schedulers) if role(schedule) == "absolute")


def _writes_late(schedulers):
    """Whether CyclicLR comes after another scheduler: it then overwrites from update 1 on."""
    at = _last_absolute(schedulers)
    return at > 0 and KINDS[schedulers[at].formula].writes_first_only


def _stepped(rate, count, lr, schedulers):
    """A rate after one step of each factor."""
    for schedule in schedulers:
        rate = rate * _product_since(schedule, count - 1, count, lr)
    return rate


def _product_since(schedule, after, count, lr):
    """What a factor multiplies by after the update `after`; from the start, if that is -1."""
    steps = ratio(schedule, jnp.maximum(after, 0), count)
    return jnp.where(after < 0, schedule(count) / lr, steps)


def _around(schedulers):
    """The cosine of a chain, and the factors before and after it."""
    at = [role(schedule) for schedule in schedulers].index("cosine")
    return schedulers[at], schedulers[:at], schedulers[at + 1 :]


def _cosine_of(schedulers):
    """The hyperparameters of the cosine in a chain."""
    return _around(schedulers)[0].hyperparams["schedule"].hyperparams
