"""PyTorch's schedulers that multiply the current rate by a factor. Each is a schedule of lrax.

They follow torch/optim/lr_scheduler.py of PyTorch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jax.typing import ArrayLike

from ...schedules.combinators import clip
from ...schedules.decays import linear, polynomial
from ...schedules.open_ended import exponential
from ...schedules.pieces import multistep, piecewise_constant, step_decay
from ...schedules.schedule import Schedule, constant
from ..arguments import (
    ascending,
    at_most_one,
    is_concrete,
    is_known_as,
    is_whole,
    listed,
    nonnegative,
    positive,
    vector,
)


def ConstantLR(lr: ArrayLike, factor: ArrayLike = 1.0 / 3, total_iters: ArrayLike = 5) -> Schedule:
    """A fraction of the rate for `total_iters` updates, then the whole rate.

    It is `lrax.piecewise_constant([lr * factor, lr], [total_iters])`.

    PyTorch divides the rate by `factor` when the count equals `total_iters`. If `total_iters` is 0
    or not whole, this never happens, and the rate stays `lr * factor`. With a `factor` of 0 PyTorch
    fails to divide; here the rate is then `lr`.

    Args:
      lr: The optimizer's rate, at least 0.
      factor: The first rate as a fraction of `lr`, from 0 to 1.
      total_iters: Updates with the first rate, at least 0; a traced one is taken to be whole and
        above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.torch.ConstantLR(lr=0.1, factor=0.5, total_iters=3)
      piecewise_constant(values=[0.05, 0.1], boundaries=[3])
    """
    given = nonnegative(lr=lr, factor=factor, total_iters=total_iters)
    at_most_one(given, "factor")
    rate, part, steps = given.values()
    # PyTorch divides by the factor where a count equals `total_iters`: never at 0 or a fraction.
    comes_back = not is_concrete(steps) or (steps > 0 and is_whole(steps))
    last = rate if comes_back else rate * part
    return piecewise_constant(listed([rate * part, last]), listed([steps]))


def LinearLR(
    lr: ArrayLike,
    start_factor: ArrayLike = 1.0 / 3,
    end_factor: ArrayLike = 1.0,
    total_iters: ArrayLike = 5,
) -> Schedule:
    """A line from one fraction of the rate to another.

    It is `lrax.linear(lr * start_factor, lr * end_factor, total_iters)`.

    PyTorch refuses a start at zero. If `total_iters` is not whole, the line stops at the last whole
    count before it. If it is 0, the rate stays at the start.

    Args:
      lr: The optimizer's rate, at least 0.
      start_factor: The first rate as a fraction of `lr`, above 0, at most 1.
      end_factor: The last rate as a fraction of `lr`, from 0 to 1.
      total_iters: Updates from start to end, at least 0; a traced one is taken to be whole and
        above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.torch.LinearLR(lr=0.1, start_factor=0.2, total_iters=10)
      linear(init=0.02, end=0.1, steps=10)
    """
    given = nonnegative(lr=lr, end_factor=end_factor, total_iters=total_iters)
    given |= positive(start_factor=start_factor)
    at_most_one(given, "start_factor", "end_factor")
    rate, last, steps, first = given.values()
    if is_concrete(steps) and not is_whole(steps):
        # PyTorch adds a step at whole counts only, so the line ends short of `end_factor`.
        part = np.floor(steps) / steps
        last = first * (1 - part) + last * part
        steps = np.floor(steps)
    if is_known_as(steps, 0):
        last = first  # PyTorch never steps
    return linear(rate * first, rate * last, steps)


def StepLR(lr: ArrayLike, step_size: ArrayLike, gamma: ArrayLike = 0.1) -> Schedule:
    """A fall after every `step_size` updates: `lrax.step_decay(lr, step_size, gamma)`.

    PyTorch lowers the rate at whole multiples of `step_size`: with 2.5, at the counts 5, 10, 15.

    Args:
      lr: The optimizer's rate, at least 0.
      step_size: Updates between two falls, above 0; a traced one is taken to be whole.
      gamma: What the rate is multiplied by, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.torch.StepLR(lr=0.1, step_size=30)
      step_decay(init=0.1, step_size=30, factor=0.1)
    """
    given = nonnegative(lr=lr, gamma=gamma) | positive(step_size=step_size)
    rate, factor, size = given.values()
    if is_concrete(size) and not is_whole(size):
        # PyTorch asks whether `count % step_size` is 0, for 2.5 first at 5.
        size = Fraction(float(size)).numerator
    return step_decay(rate, size, factor)


def MultiStepLR(
    lr: ArrayLike, milestones: Sequence[float] | ArrayLike, gamma: ArrayLike = 0.1
) -> Schedule:
    """A fall at each milestone: `lrax.multistep(lr, sorted(milestones), gamma)`.

    In PyTorch a milestone that is given twice counts twice. One that is not whole never equals a
    count, and is left out here.

    Args:
      lr: The optimizer's rate, at least 0.
      milestones: Indices of the first updates at the new rate, at least 0, in any order; traced
        ones are taken to be whole.
      gamma: What the rate is multiplied by, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.torch.MultiStepLR(lr=0.1, milestones=[60, 30])
      multistep(init=0.1, milestones=[30, 60], factor=0.1)
    """
    rate, factor = nonnegative(lr=lr, gamma=gamma).values()
    at = ascending(vector("milestones", milestones))
    # PyTorch looks each count up among the milestones, and so never finds a fraction.
    return multistep(rate, at[at % 1 == 0] if is_concrete(at) else at, factor)


def ExponentialLR(lr: ArrayLike, gamma: ArrayLike) -> Schedule:
    """A factor per update: `lrax.exponential(lr, gamma)`.

    A concrete `gamma` near 1 is replaced by its power over 10, 100, ... steps. Rounded to float32,
    `gamma` would lose its last digits, and the error would show after thousands of steps.

    Args:
      lr: The optimizer's rate, at least 0.
      gamma: What the rate is multiplied by at each update, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> print(lrax.compat.torch.ExponentialLR(lr=0.1, gamma=0.9).values(3).round(3))
      [0.1 0.09 0.081]
    """
    rate, factor = (nonnegative(lr=lr) | positive(gamma=gamma)).values()
    steps = 1
    # float32 loses the last digits of a factor near 1, so it is taken over 10, 100, ... steps.
    if is_concrete(factor):
        enough = 0.2 if factor > 1 else 0.02
        change = abs(np.log(factor))
        while steps < 10**7 and 0 < change * steps < enough:
            steps *= 10
        factor = factor**steps
    return exponential(rate, factor, steps)


def PolynomialLR(lr: ArrayLike, total_iters: ArrayLike = 5, power: ArrayLike = 1.0) -> Schedule:
    """A power of the part left, to zero: `lrax.polynomial(lr, 0, total_iters, power)`.

    If `total_iters` is not whole, PyTorch stops at the last whole count before it, above zero. If
    `total_iters` or `power` is 0, the rate is constant.

    Args:
      lr: The optimizer's rate, at least 0.
      total_iters: Updates until zero: 0, or at least 1; a traced one is taken to be whole and above
        0.
      power: Exponent of the part left, at least 0; a traced one is taken to be above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.torch.PolynomialLR(lr=0.1, total_iters=40, power=0.9)
      polynomial(init=0.1, end=0, steps=40, power=0.9)
    """
    given = nonnegative(lr=lr, total_iters=total_iters, power=power)
    rate, steps, exponent = given.values()
    if is_concrete(steps) and 0 < steps < 1:
        raise ValueError(f"`total_iters` must be 0 or at least 1, got {total_iters}")
    if is_known_as(steps, 0) or is_known_as(exponent, 0):
        return constant(rate)
    falling = polynomial(rate, 0, steps, exponent)
    if not is_concrete(steps) or is_whole(steps):
        return falling
    if not is_concrete(exponent):
        raise ValueError(f"`total_iters` must be whole where `power` is traced, got {total_iters}")
    # PyTorch stops at the last whole count, short of 0.
    return clip(falling, low=rate * (1 - np.floor(steps) / steps) ** exponent)
