"""The schedulers of PyTorch (`torch.optim.lr_scheduler`, and SWALR), under its own names, arguments
and defaults.

`lr` stands where PyTorch has the optimizer: it is the rate that the optimizer was made with. There
is no `last_epoch`, for a schedule has no state: `lrax.shift` skips updates.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules import ramps
from ..schedules.phases import join
from ..schedules.schedule import Schedule, Static, multiply, shown_as
from . import _torch_chains as chains, _torch_kinds as kinds
from ._torch_cycles import (
    CyclicLR,
    CyclicMomentum,
    OneCycleLR,
    OneCycleMomentum,
    _CyclicLR,
    _OneCycleLR,
    _OneCycleMomentum,  # noqa: F401 - where pickle looks for it
)
from ._torch_phases import (
    SWALR,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
    function_of_count,
    row,
    whole,
)

__all__ = [
    "SWALR",
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "CyclicMomentum",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "OneCycleMomentum",
    "PolynomialLR",
    "SequentialLR",
    "StepLR",
]

BLOCK = 256  # factors of MultiplicativeLR that are multiplied at once


def MultiplicativeLR(lr: ArrayLike, lr_lambda: Callable[[Any], Any]) -> Schedule:
    r"""The rate times a product of factors, one per update; none at update 0.

    $$\eta(t) = \text{lr} \prod_{j = 1}^{t} \text{lr\_lambda}(j)$$

    A function has no closed product, so each call multiplies all factors up to its count, 256 at
    once: cheap for thousands of steps, not for millions. Numbers inside of `lr_lambda` get no
    gradient. Where the factor is the same at all steps, `ExponentialLR` is the same and free of
    both.

    Args:
      lr: The optimizer's rate, at least 0.
      lr_lambda: The factor of each update: a `Schedule`, or a function that JAX can trace, of the
        count as an integer array.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known `lr` is negative, infinite or NaN.
      TypeError: if `lr_lambda` is no function.

    Example:
      >>> lrax.compat.torch.MultiplicativeLR(lr=1.0, lr_lambda=lambda t: t / (t + 1)).values(4).round(3)
      Array([1.   , 0.5  , 0.333, 0.25 ], dtype=float32)
    """
    hyperparams = _require.real(lr=lr)
    _require.nonnegative(hyperparams, "lr")
    return Schedule(
        _MultiplicativeLR, {**hyperparams, "lr_lambda": function_of_count("lr_lambda", lr_lambda)}
    )


def _MultiplicativeLR(count, lr, lr_lambda):
    return lr * _factors(lr_lambda, jnp.zeros_like(count), jnp.maximum(count, 0))


def _factors(function, after, count):
    """The product of a function over the whole numbers after `after`, up to `count`."""
    function, after, count = lax.stop_gradient((function, after, count))
    steps = jnp.floor(count) - after

    def block(state):
        i, result = state
        step = i * BLOCK + np.arange(1, BLOCK + 1, dtype=count.dtype).reshape(
            (1,) * count.ndim + (BLOCK,)
        )
        factors = jnp.where(step <= steps[..., None], function(after[..., None] + step), 1)
        return i + 1, result * jnp.prod(factors, axis=-1)

    more = lambda state: jnp.any(state[0] * BLOCK < steps)
    return lax.while_loop(more, block, (jnp.zeros((), count.dtype), jnp.ones_like(count)))[1]


def _ratio_of_factors(schedule, after, count):
    after, count = jnp.broadcast_arrays(after, count)
    return _factors(schedule.hyperparams["lr_lambda"], after, count)


kinds.RATIOS[_MultiplicativeLR] = _ratio_of_factors
kinds.RATES[_MultiplicativeLR] = ("lr",)
kinds.LATE[_MultiplicativeLR] = lambda schedule: schedule.hyperparams["lr_lambda"](0)

# Those that overwrite the rate, and when they are built the optimizer's own: the one always, the
# other if built first.
kinds.ABSOLUTE |= {_CyclicLR: None, _OneCycleLR: None}
kinds.WRITES_FIRST[_CyclicLR] = lambda hyperparams: hyperparams["base_lr"]
kinds.WRITES_ALWAYS[_OneCycleLR] = lambda hyperparams: (
    hyperparams["max_lr"] / hyperparams["div_factor"]
)


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
      ValueError: if a known number is out of its range, there is not one scheduler more than
        milestones, or PyTorch's recursion has no closed form, as of a `ChainedScheduler` of a
        cosine in the first place.
      TypeError: if a scheduler is no `Schedule`.

    Example:
      >>> torch = lrax.compat.torch
      >>> warmup = torch.LinearLR(lr=0.1, start_factor=0.1, total_iters=10)
      >>> decay = torch.CosineAnnealingLR(lr=0.1, T_max=90)
      >>> print(torch.SequentialLR(lr=0.1, schedulers=[warmup, decay], milestones=[10]).values([0, 5, 10, 100]))
      [0.01 0.055 0.1 0. ]
    """
    schedulers = tuple(schedulers)
    roles = [kinds.role(schedule) for schedule in schedulers]
    at = milestones if isinstance(milestones, jax.Array) else row(*milestones)  # pyright: ignore[reportGeneralTypeIssues]
    hyperparams = _require.real(lr=lr, milestones=at)
    if len(schedulers) != _require.vector(hyperparams, "milestones") + 1:
        raise ValueError(
            f"`schedulers` must be one more than `milestones`, got {len(schedulers)} and {hyperparams['milestones']}"
        )
    _require.nonnegative(hyperparams, "lr", "milestones")
    whole(hyperparams, "milestones")
    _require.ascending(hyperparams, "milestones")
    kinds.require_sequence(schedulers, hyperparams["lr"], hyperparams["milestones"])
    if len(schedulers) > 1 and not {
        _goes_on(*each) for each in zip(schedulers[1:], roles[1:], strict=True)
    } - {False}:
        pieces, _ = kinds.in_sequence(hyperparams["lr"], schedulers, hyperparams["milestones"])
        return join(pieces, hyperparams["milestones"])
    return Schedule(_SequentialLR, {**hyperparams, "schedulers": schedulers})


def _SequentialLR(count, lr, schedulers, milestones):
    pieces, initial = kinds.in_sequence(lr, schedulers, milestones)

    def rate(last, count):
        value = pieces[0](jnp.minimum(count, milestones[0]) if last else count)
        for i in range(1, last + 1):
            begin = milestones[i - 1]
            step = jnp.maximum(
                (jnp.minimum(count, milestones[i]) if i < last else count) - begin, 0
            )
            if _goes_on(pieces[i], kinds.role(pieces[i])):
                before = jnp.where(begin > 0, rate(i - 1, jnp.maximum(begin - 1, 0)), initial)
                after = _gone_on(pieces[i], step, before, begin)
            else:
                after = pieces[i](step)
            value = jnp.where(count >= begin, after, value)
        return value

    return rate(len(pieces) - 1, count)


def _goes_on(schedule, role):
    return role == "anneal" or schedule.formula is _MultiplicativeLR


def _gone_on(schedule, step, before, begin):
    """The rate in a scheduler that begins at the rate of the update before."""
    if schedule.formula is ramps._ramp:
        return Schedule(ramps._ramp, {**schedule.hyperparams, "start": before})(step)
    function = schedule.hyperparams["lr_lambda"]
    first = jnp.where(begin > 0, lax.stop_gradient(function)(jnp.zeros_like(begin)), 1)
    return _MultiplicativeLR(step, before * first, function)


def ChainedScheduler(lr: ArrayLike, schedulers: Sequence[Schedule]) -> Schedule:
    """Several schedulers at once, each changing the rate that the one before it made: mostly
    `lrax.multiply`.

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
      >>> torch.ChainedScheduler(lr=0.1, schedulers=[warmup, torch.ExponentialLR(lr=0.1, gamma=0.9)])
      multiply(linear(init=0.01, end=0.1, steps=10), exponential(init=1, rate=0.9, steps=1,
      staircase=False, begin=0))
    """
    schedulers = tuple(schedulers)
    if not schedulers:
        raise ValueError("`schedulers` must be at least one, got none")
    hyperparams = _require.real(lr=lr)
    _require.positive(hyperparams, "lr")
    lr = hyperparams["lr"]
    way, length = chains.require_chain(schedulers, lr)
    if way == "multiply":
        of = [kinds.role(schedule) for schedule in schedulers]
        base = next(
            (i for i, kind in enumerate(of) if kind != "factor"), 0
        )  # the one that is no factor of 1
        factors = [
            schedule if i == base else kinds.with_rates(schedule, lambda rate: kinds.part(rate, lr))
            for i, schedule in enumerate(schedulers)
        ]
        return multiply(*factors)
    if way == "last":
        return kinds.rebased(schedulers[-1], lr, kinds.bases(lr, schedulers)[0][-1])
    return Schedule(
        _ChainedScheduler, {**hyperparams, "schedulers": schedulers, "way": Static((way, length))}
    )


def _ChainedScheduler(count, lr, schedulers, way):
    way, length = way
    if way == "floored":
        return chains.floored(count, lr, schedulers, length)
    return (chains.restarted if way == "restarted" else chains.overwritten)(count, lr, schedulers)


@shown_as(_ChainedScheduler)
def _chained(hyperparams):
    return {name: value for name, value in hyperparams.items() if name != "way"}


kinds.RECURSIONS |= {_SequentialLR, _ChainedScheduler}
