"""PyTorch's OneCycleLR and its momentum.

They follow torch/optim/lr_scheduler.py of PyTorch 2.13.0.
"""

from __future__ import annotations

import math

import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.schedule import Schedule, Static
from ..arguments import Number, at_most_one, nonnegative, numbers, positive, whole_numbers
from .waves import ANNEALS


def OneCycleLR(
    *,
    lr: ArrayLike | None = None,  # noqa: ARG001
    max_lr: ArrayLike,
    total_steps: ArrayLike | None = None,
    epochs: ArrayLike | None = None,
    steps_per_epoch: ArrayLike | None = None,
    pct_start: ArrayLike = 0.3,
    anneal_strategy: str = "cos",
    cycle_momentum: bool = True,  # noqa: ARG001
    base_momentum: ArrayLike = 0.85,  # noqa: ARG001
    max_momentum: ArrayLike = 0.95,  # noqa: ARG001
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
    three_phase: bool = False,
) -> Schedule:
    r"""One cycle: up from `max_lr / div_factor` to `max_lr` and down again.

    It ends at `max_lr / (div_factor * final_div_factor)`.

    The peak is at update `pct_start * total_steps - 1` and the end at update `total_steps - 1`,
    each one update earlier than in `lrax.one_cycle`. With three phases, the rate is back at its
    first value at update `2 * pct_start * total_steps - 2`. PyTorch allows one more update, with
    the index `total_steps`, in which the curve runs past its end: a cosine climbs, a line falls
    below the end. That is reproduced here. PyTorch refuses all later updates; here they have the
    rate of the end.

    Args:
      lr: Not used. It is accepted because the other schedulers have it.
      max_lr: Highest rate, at least 0.
      total_steps: Length of the schedule in optimizer updates, a whole number above 0.
      epochs: With `steps_per_epoch`, another way to give `total_steps`.
      steps_per_epoch: Updates in an epoch, a whole number above 0.
      pct_start: Fraction of the steps in which the rate climbs, from 0 to 1.
      anneal_strategy: `"cos"` or `"linear"`.
      cycle_momentum: Not used; `OneCycleMomentum` is the momentum.
      base_momentum: Not used.
      max_momentum: Not used.
      div_factor: `max_lr` divided by the first rate, above 0.
      final_div_factor: The first rate divided by the last one, above 0.
      three_phase: Whether the rate falls to its first value in as many updates as it climbed, and
        then to its last one.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, an option is unknown, or there is
        neither `total_steps` nor both `epochs` and `steps_per_epoch`.
      TypeError: if `three_phase` is not a bool.

    Example:
      >>> schedule = lrax.compat.torch.OneCycleLR(max_lr=1.0, total_steps=10, div_factor=10.0)
      >>> print(schedule.values(12).round(3))
      [0.1 0.55 1. 0.95 0.812 0.611 0.389 0.188 0.05 0. 0.05 0. ]
    """
    given = nonnegative(max_lr=max_lr)
    given |= positive(div_factor=div_factor, final_div_factor=final_div_factor)
    given |= _lengths(total_steps, epochs, steps_per_epoch, pct_start)
    words = _words(anneal_strategy, three_phase)
    return Schedule(_OneCycleLR, {**_require.real(**given), **words})


@builder(OneCycleLR, name="compat.torch.OneCycleLR")
def _OneCycleLR(
    count,
    max_lr,
    total_steps,
    pct_start,
    anneal_strategy,
    div_factor,
    final_div_factor,
    three_phase,
):
    count = real(count)
    init = max_lr / div_factor
    rates = [init, max_lr, *([init] if three_phase else []), init / final_div_factor]
    return _phases(count, rates, total_steps, pct_start, anneal_strategy)


def OneCycleMomentum(
    *,
    lr: ArrayLike | None = None,  # noqa: ARG001
    max_lr: ArrayLike | None = None,  # noqa: ARG001
    total_steps: ArrayLike | None = None,
    epochs: ArrayLike | None = None,
    steps_per_epoch: ArrayLike | None = None,
    pct_start: ArrayLike = 0.3,
    anneal_strategy: str = "cos",
    cycle_momentum: bool = True,  # noqa: ARG001
    base_momentum: ArrayLike = 0.85,
    max_momentum: ArrayLike = 0.95,
    div_factor: ArrayLike = 25.0,  # noqa: ARG001
    final_div_factor: ArrayLike = 1e4,  # noqa: ARG001
    three_phase: bool = False,
) -> Schedule:
    """The momentum of `OneCycleLR`: from `max_momentum` down to `base_momentum` and back.

    Args:
      lr: Not used.
      max_lr: Not used.
      total_steps: As in `OneCycleLR`.
      epochs: As in `OneCycleLR`.
      steps_per_epoch: As in `OneCycleLR`.
      pct_start: As in `OneCycleLR`.
      anneal_strategy: As in `OneCycleLR`.
      cycle_momentum: Not used. PyTorch changes the momentum only if it is true.
      base_momentum: The momentum at the highest rate, at least 0.
      max_momentum: The momentum at the start and at the end, at least 0.
      div_factor: Not used.
      final_div_factor: Not used.
      three_phase: As in `OneCycleLR`; in the third phase the momentum is held.

    Returns:
      A `Schedule` of the momentum, or of Adam's first beta.

    Raises:
      ValueError: as in `OneCycleLR`.
      TypeError: if `three_phase` is not a bool.

    Example:
      >>> schedule = lrax.compat.torch.OneCycleMomentum(max_lr=1.0, total_steps=4, pct_start=0.5)
      >>> print(schedule.values(4).round(2))
      [0.95 0.85 0.9 0.95 ]
    """
    given = nonnegative(base_momentum=base_momentum, max_momentum=max_momentum)
    given |= _lengths(total_steps, epochs, steps_per_epoch, pct_start)
    words = _words(anneal_strategy, three_phase)
    return Schedule(_OneCycleMomentum, {**_require.real(**given), **words})


@builder(OneCycleMomentum, name="compat.torch.OneCycleMomentum")
def _OneCycleMomentum(
    count, base_momentum, max_momentum, total_steps, pct_start, anneal_strategy, three_phase
):
    count = real(count)
    values = [max_momentum, base_momentum, max_momentum, *([max_momentum] if three_phase else [])]
    return _phases(count, values, total_steps, pct_start, anneal_strategy)


def _lengths(
    total_steps: ArrayLike | None,
    epochs: ArrayLike | None,
    steps_per_epoch: ArrayLike | None,
    pct_start: ArrayLike,
) -> dict[str, Number]:
    """`total_steps` and `pct_start`, checked."""
    if total_steps is not None:
        lengths = numbers(total_steps=total_steps)
    elif epochs is None or steps_per_epoch is None:
        raise ValueError(
            "`total_steps` must be given, or both `epochs` and `steps_per_epoch`, got"
            f" {total_steps}, {epochs} and {steps_per_epoch}"
        )
    else:
        lengths = numbers(epochs=epochs, steps_per_epoch=steps_per_epoch)
    _require.at_least(lengths, 1, *lengths)
    whole_numbers(lengths, *lengths)
    part = nonnegative(pct_start=pct_start)
    at_most_one(part, "pct_start")
    return {"total_steps": math.prod(lengths.values()), **part}


def _words(anneal_strategy: str, three_phase: bool) -> dict[str, Static]:
    _require.choice("anneal_strategy", anneal_strategy, ANNEALS)
    _require.flag("three_phase", three_phase)
    return {"anneal_strategy": Static(anneal_strategy), "three_phase": Static(three_phase)}


def _phases(count, values, total_steps, pct_start, anneal_strategy):
    # PyTorch uses the first phase whose end is not before the count. So the second of three phases
    # may go on past `last`. PyTorch does not clip the position in the last phase, so update
    # `total_steps` is past its end. A phase of length 0 is a jump.
    last = total_steps - 1
    top = pct_start * total_steps - 1
    ends = [top, 2 * top, last] if len(values) == 4 else [top, last]
    # PyTorch refuses the updates after `total_steps`. Here they have the value of the end.
    count = jnp.maximum(count, 0)
    over = count > total_steps
    count = jnp.minimum(count, total_steps)
    begin, close, start, end = ends[-2], ends[-1], values[-2], values[-1]
    for i in reversed(range(len(ends) - 1)):
        here = count <= ends[i]
        begin = jnp.where(here, ends[i - 1] if i else 0, begin)
        close = jnp.where(here, ends[i], close)
        start = jnp.where(here, values[i], start)
        end = jnp.where(here, values[i + 1], end)
    has_length = abs(close - begin) > 1e-6 * total_steps  # more than rounding
    length = jnp.where(has_length, close - begin, 1)
    p = jnp.where(has_length, (count - begin) / length, 1)
    q = jnp.where(has_length, (close - count) / length, 0)
    if anneal_strategy == "cos":
        p, q = jnp.sin(np.pi / 2 * p) ** 2, jnp.sin(np.pi / 2 * q) ** 2
    return jnp.where(over, values[-1], start * q + end * p)
