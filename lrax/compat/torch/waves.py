"""PyTorch's cosine annealings, and SWALR.

They follow torch/optim/lr_scheduler.py and torch/optim/swa_utils.py of PyTorch 2.13.0.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ... import _require
from ...schedules.combinators import repeat
from ...schedules.cycles import cosine_restarts
from ...schedules.decays import cosine
from ...schedules.ramps import ramp
from ...schedules.schedule import Schedule
from ..arguments import nonnegative, numbers, positive, whole_numbers

ANNEALS = {"cos": "cosine", "linear": "linear"}


def CosineAnnealingLR(lr: ArrayLike, T_max: ArrayLike, eta_min: ArrayLike = 0.0) -> Schedule:
    """Cosine waves without end: `lrax.repeat(lrax.cosine(lr, T_max, eta_min), T_max, mirror=True)`.

    Past `T_max` the rate climbs again, where most frameworks hold it: at `2 * T_max` it is `lr`
    again. For a rate that stays at `eta_min`, use `lrax.cosine(lr, T_max, eta_min)`.

    Args:
      lr: The optimizer's rate, at least 0.
      T_max: Updates from the highest to the lowest rate, above 0.
      eta_min: The lowest rate, at least 0, absolute.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> print(lrax.compat.torch.CosineAnnealingLR(lr=0.1, T_max=2).values(7).round(3))
      [0.1 0.05 0. 0.05 0.1 0.05 0. ]
    """
    given = nonnegative(lr=lr, eta_min=eta_min) | positive(T_max=T_max)
    rate, low, steps = given.values()
    # Past `T_max`, PyTorch's cosine goes on with the same wave.
    return repeat(cosine(rate, steps, low), steps, mirror=True)


def CosineAnnealingWarmRestarts(
    lr: ArrayLike, T_0: ArrayLike, T_mult: ArrayLike = 1, eta_min: ArrayLike = 0.0
) -> Schedule:
    """Half cosine waves, one after the other.

    It is `lrax.cosine_restarts(lr, T_0, mult=T_mult, end=eta_min)`.

    PyTorch, unlike timm and Keras, takes whole numbers only, and has no decay of the peak and no
    last cycle.

    Args:
      lr: The optimizer's rate, at least 0.
      T_0: Updates of the first cycle, a whole number above 0.
      T_mult: Length of a cycle divided by that of the one before, a whole number above 0.
      eta_min: The lowest rate, at least 0, absolute.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> lrax.compat.torch.CosineAnnealingWarmRestarts(lr=0.1, T_0=10, T_mult=2)
      cosine_restarts(peak=0.1, first=10, mult=2, end=0, decay=1)
    """
    given = nonnegative(lr=lr, eta_min=eta_min) | numbers(T_0=T_0, T_mult=T_mult)
    _require.at_least(given, 1, "T_0", "T_mult")
    whole_numbers(given, "T_0", "T_mult")
    rate, low, first, mult = given.values()
    return cosine_restarts(rate, first, mult=mult, end=low)


def SWALR(
    lr: ArrayLike, swa_lr: ArrayLike, anneal_epochs: ArrayLike = 10, anneal_strategy: str = "cos"
) -> Schedule:
    """A change from the optimizer's rate to `swa_lr`, the rate of stochastic weight averaging.

    It is `lrax.ramp(lr, swa_lr, anneal_epochs, shape="cosine")`.

    It begins at the rate in use. If it is not the first scheduler of a `SequentialLR`, that is the
    rate of the update before its milestone.

    Args:
      lr: The optimizer's rate, at least 0.
      swa_lr: The rate at the end, at least 0.
      anneal_epochs: Updates until `swa_lr`, a whole number, at least 0.
      anneal_strategy: `"cos"` or `"linear"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or `anneal_strategy` is unknown.

    Example:
      >>> print(lrax.compat.torch.SWALR(lr=0.1, swa_lr=0.05, anneal_epochs=2).values(4))
      [0.1 0.075 0.05 0.05 ]
    """
    given = nonnegative(lr=lr, swa_lr=swa_lr, anneal_epochs=anneal_epochs)
    whole_numbers(given, "anneal_epochs")
    _require.choice("anneal_strategy", anneal_strategy, ANNEALS)
    rate, end, steps = given.values()
    return ramp(rate, end, steps, shape=ANNEALS[anneal_strategy])
