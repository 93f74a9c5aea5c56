"""PyTorch's schedulers that are schedules of lrax under other names; `lrax.compat.torch` is where they are public."""

import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from ..schedules.combinators import clip, repeat, scale
from ..schedules.cycles import cosine_restarts
from ..schedules.decays import cosine, linear, polynomial
from ..schedules.open_ended import exponential
from ..schedules.pieces import multistep, piecewise_constant, step_decay
from ..schedules.ramps import ramp
from ..schedules.schedule import Schedule, Static, constant

ANNEALS = {"cos": "cosine", "linear": "linear"}


def ConstantLR(lr: ArrayLike, factor: ArrayLike = 1.0 / 3, total_iters: ArrayLike = 5) -> Schedule:
    """A part of the rate at first, then all of it: `lrax.piecewise_constant([lr * factor, lr],
    [total_iters])`.

    PyTorch divides by the factor when a count equals `total_iters`, so with 0 or a fraction of a
    step it never does. With a factor of 0 it fails there, where this goes on with `lr`.

    Args:
      lr: The optimizer's rate, at least 0.
      factor: Part of it at first, from 0 to 1.
      total_iters: Updates until the whole, at least 0; a traced one is taken to be whole and above
        0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.torch.ConstantLR(lr=0.1, factor=0.5, total_iters=3)
      piecewise_constant(values=[0.05, 0.1], boundaries=[3])
    """
    hyperparams = _require.real(lr=lr, factor=factor, total_iters=total_iters)
    _require.nonnegative(hyperparams, "lr", "factor", "total_iters")
    at_most_one(hyperparams, "factor")
    low = product(lr, factor)
    comes_back = not known(total_iters) or (_number(total_iters) > 0 and is_whole(total_iters))
    return piecewise_constant(row(low, lr if comes_back else low), row(total_iters))


def LinearLR(
    lr: ArrayLike,
    start_factor: ArrayLike = 1.0 / 3,
    end_factor: ArrayLike = 1.0,
    total_iters: ArrayLike = 5,
) -> Schedule:
    """From one part of the rate to another: `lrax.linear(lr * start_factor, lr * end_factor,
    total_iters)`.

    PyTorch refuses a start at zero. It stops at the last whole count, and without steps stays at
    the start.

    Args:
      lr: The optimizer's rate, at least 0.
      start_factor: Part of it at the start, above 0, at most 1.
      end_factor: Part of it at the end, from 0 to 1.
      total_iters: Updates from start to end, at least 0; a traced one is taken to be whole and
        above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.torch.LinearLR(lr=0.1, start_factor=0.2, total_iters=10)
      linear(init=0.02, end=0.1, steps=10)
    """
    hyperparams = _require.real(
        lr=lr, start_factor=start_factor, end_factor=end_factor, total_iters=total_iters
    )
    _require.nonnegative(hyperparams, "lr", "end_factor", "total_iters")
    _require.positive(hyperparams, "start_factor")
    at_most_one(hyperparams, "start_factor", "end_factor")
    if known(total_iters) and not is_whole(total_iters):
        part = np.floor(_number(total_iters)) / _number(total_iters)
        end_factor = product(start_factor, 1 - part) + product(end_factor, part)
        total_iters = np.floor(_number(total_iters))
    if known(total_iters) and _number(total_iters) == 0:
        end_factor = start_factor
    return linear(product(lr, start_factor), product(lr, end_factor), total_iters)


def StepLR(lr: ArrayLike, step_size: ArrayLike, gamma: ArrayLike = 0.1) -> Schedule:
    """A fall after every `step_size` updates: `lrax.step_decay(lr, step_size, gamma)`.

    PyTorch steps at the whole counts that `step_size` divides: one of 2.5 steps at 5, 10, 15.

    Args:
      lr: The optimizer's rate, at least 0.
      step_size: Updates between two falls, above 0; a traced one is taken to be whole.
      gamma: What the rate is multiplied by, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.torch.StepLR(lr=0.1, step_size=30)
      step_decay(init=0.1, step_size=30, factor=0.1)
    """
    hyperparams = _require.real(lr=lr, step_size=step_size, gamma=gamma)
    _require.nonnegative(hyperparams, "lr", "gamma")
    _require.positive(hyperparams, "step_size")
    if known(step_size) and not is_whole(step_size):
        step_size = Fraction(float(_number(step_size))).numerator
    return step_decay(lr, step_size, gamma)


def MultiStepLR(
    lr: ArrayLike, milestones: Sequence[float] | ArrayLike, gamma: ArrayLike = 0.1
) -> Schedule:
    """A fall at each milestone: `lrax.multistep(lr, sorted(milestones), gamma)`.

    In PyTorch a milestone given twice counts twice, and one that is no whole number is never met:
    it is left out here.

    Args:
      lr: The optimizer's rate, at least 0.
      milestones: Indices of the first updates at the new rate, at least 0, in any order; traced
        ones are taken to be whole.
      gamma: What the rate is multiplied by, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.torch.MultiStepLR(lr=0.1, milestones=[60, 30])
      multistep(init=0.1, milestones=[30, 60], factor=0.1)
    """
    at = milestones if isinstance(milestones, jax.Array) else row(*milestones)  # pyright: ignore[reportGeneralTypeIssues]
    hyperparams = _require.real(lr=lr, milestones=at, gamma=gamma)
    _require.vector(hyperparams, "milestones")
    _require.nonnegative(hyperparams, "lr", "milestones", "gamma")
    if np.ndim(hyperparams["gamma"]):
        raise ValueError(f"`gamma` must be one number, got {gamma}")
    if known(at):
        at = np.sort(_number(at))
        return multistep(lr, at[at % 1 == 0], gamma)
    return multistep(lr, jnp.sort(hyperparams["milestones"]), gamma)


def ExponentialLR(lr: ArrayLike, gamma: ArrayLike) -> Schedule:
    """A factor per update: `lrax.exponential(lr, gamma)`.

    A known `gamma` near 1 is given as its power over 10, 100, ... steps, for in float32 its own
    last digits are lost, and the rate of thousands of steps shows it.

    Args:
      lr: The optimizer's rate, at least 0.
      gamma: What the rate is multiplied by at each update, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> print(lrax.compat.torch.ExponentialLR(lr=0.1, gamma=0.9).values(3).round(3))
      [0.1 0.09 0.081]
    """
    hyperparams = _require.real(lr=lr, gamma=gamma)
    _require.nonnegative(hyperparams, "lr")
    _require.positive(hyperparams, "gamma")
    steps = 1
    if known(gamma):
        logarithms = np.abs(np.log(_number(gamma)))
        enough = np.where(_number(gamma) > 1, 0.2, 0.02)
        while steps < 10**7 and np.any((logarithms > 0) & (logarithms * steps < enough)):
            steps *= 10
        gamma = _number(gamma) ** steps
    return exponential(lr, gamma, steps)


def PolynomialLR(lr: ArrayLike, total_iters: ArrayLike = 5, power: ArrayLike = 1.0) -> Schedule:
    """A power of the part left, to zero: `lrax.polynomial(lr, 0, total_iters, power)`.

    PyTorch stops at the last whole count, short of zero where `total_iters` is no whole number, and
    does nothing with 0 steps. A power of 0 is a constant.

    Args:
      lr: The optimizer's rate, at least 0.
      total_iters: Updates until zero: 0, or at least 1; a traced one is taken to be whole and above
        0.
      power: Exponent of the part left, at least 0; a traced one is taken to be above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.torch.PolynomialLR(lr=0.1, total_iters=40, power=0.9)
      polynomial(init=0.1, end=0, steps=40, power=0.9)
    """
    hyperparams = _require.real(lr=lr, total_iters=total_iters, power=power)
    _require.nonnegative(hyperparams, "lr", "total_iters", "power")
    steps = _number(total_iters) if known(total_iters) else None
    if steps is not None and 0 < steps < 1:
        raise ValueError(f"`total_iters` must be 0 or at least 1, got {total_iters}")
    if steps == 0 or (known(power) and _number(power) == 0):
        return constant(lr)
    falling = polynomial(lr, 0, total_iters, power)
    if steps is None or steps % 1 == 0:
        return falling
    if not known(power):
        raise ValueError(f"`total_iters` must be whole where `power` is traced, got {total_iters}")
    return clip(falling, low=product(lr, (1 - np.floor(steps) / steps) ** _number(power)))


def CosineAnnealingLR(lr: ArrayLike, T_max: ArrayLike, eta_min: ArrayLike = 0.0) -> Schedule:
    """Cosine waves without end: `lrax.repeat(lrax.cosine(lr, T_max, eta_min), T_max, mirror=True)`.

    Past `T_max` PyTorch climbs back up, where nearly all others hold: at `2 * T_max` the rate is
    `lr` again. Without that it is `lrax.cosine(lr, T_max, eta_min)`.

    Args:
      lr: The optimizer's rate, at least 0.
      T_max: Updates from the highest to the lowest rate, above 0.
      eta_min: The lowest rate, at least 0, absolute.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> print(lrax.compat.torch.CosineAnnealingLR(lr=0.1, T_max=2).values(7).round(3))
      [0.1 0.05 0. 0.05 0.1 0.05 0. ]
    """
    hyperparams = _require.real(lr=lr, T_max=T_max, eta_min=eta_min)
    _require.nonnegative(hyperparams, "lr", "eta_min")
    _require.positive(hyperparams, "T_max")
    return repeat(cosine(lr, T_max, eta_min), T_max, mirror=True)


def CosineAnnealingWarmRestarts(
    lr: ArrayLike, T_0: ArrayLike, T_mult: ArrayLike = 1, eta_min: ArrayLike = 0.0
) -> Schedule:
    """Half cosine waves, one after the other: `lrax.cosine_restarts(lr, T_0, mult=T_mult,
    end=eta_min)`.

    PyTorch, unlike timm and Keras, takes whole numbers only, and has no decay of the peak and no
    last cycle.

    Args:
      lr: The optimizer's rate, at least 0.
      T_0: Updates of the first cycle, a whole number above 0.
      T_mult: Length of a cycle in lengths of the one before, a whole number above 0.
      eta_min: The lowest rate, at least 0, absolute.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.torch.CosineAnnealingWarmRestarts(lr=0.1, T_0=10, T_mult=2)
      cosine_restarts(peak=0.1, first=10, mult=2, end=0, decay=1)
    """
    hyperparams = _require.real(lr=lr, T_0=T_0, T_mult=T_mult, eta_min=eta_min)
    _require.nonnegative(hyperparams, "lr", "eta_min")
    _require.at_least(hyperparams, 1, "T_0", "T_mult")
    whole(hyperparams, "T_0", "T_mult")
    return cosine_restarts(lr, T_0, mult=T_mult, end=eta_min)


def LambdaLR(lr: ArrayLike, lr_lambda: Callable[[Any], Any]) -> Schedule:
    """The rate times a function of the count: `lrax.scale(lr_lambda, lr)`.

    Args:
      lr: The optimizer's rate, at least 0.
      lr_lambda: The factor of each update: a `Schedule`, or a function that JAX can trace, of the
        count as an integer array: `jnp.where` in place of `if`. For groups of parameters make a
        schedule of each.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known `lr` is negative, infinite or NaN.
      TypeError: if `lr_lambda` is no function.

    Example:
      >>> lrax.compat.torch.LambdaLR(lr=0.1, lr_lambda=lambda t: 1 / (1 + t)).values(2)
      Array([0.1 , 0.05], dtype=float32)
    """
    hyperparams = _require.real(lr=lr)
    _require.nonnegative(hyperparams, "lr")
    return scale(function_of_count("lr_lambda", lr_lambda), lr)


def SWALR(
    lr: ArrayLike, swa_lr: ArrayLike, anneal_epochs: ArrayLike = 10, anneal_strategy: str = "cos"
) -> Schedule:
    """From the rate in use to that of weight averaging: `lrax.ramp(lr, swa_lr, anneal_epochs,
    shape="cosine")`.

    In PyTorch it begins at the rate that it finds: later in a `SequentialLR` that is the rate of
    the update before.

    Args:
      lr: The optimizer's rate, at least 0.
      swa_lr: The rate at the end, at least 0.
      anneal_epochs: Updates until then, a whole number, at least 0.
      anneal_strategy: `"cos"` or `"linear"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or `anneal_strategy` is unknown.

    Example:
      >>> print(lrax.compat.torch.SWALR(lr=0.1, swa_lr=0.05, anneal_epochs=2).values(4))
      [0.1 0.075 0.05 0.05 ]
    """
    hyperparams = _require.real(lr=lr, swa_lr=swa_lr, anneal_epochs=anneal_epochs)
    _require.nonnegative(hyperparams, "lr", "swa_lr", "anneal_epochs")
    whole(hyperparams, "anneal_epochs")
    _require.choice("anneal_strategy", anneal_strategy, ANNEALS)
    return ramp(lr, swa_lr, anneal_epochs, shape=ANNEALS[anneal_strategy])


def known(value: Any) -> bool:
    """Whether Python knows the number."""
    return not isinstance(value, Tracer)


def is_whole(value: Any) -> bool:
    """Whether known numbers are whole."""
    return bool(np.all(_number(value) % 1 == 0))


def whole(values: dict[str, Any], *names: str) -> None:
    """Requires that numbers, where they are known, are whole."""
    for name in names:
        if known(values[name]) and not is_whole(values[name]):
            raise ValueError(f"`{name}` must be whole, got {values[name]}")


def at_most_one(values: dict[str, Any], *names: str) -> None:
    """Requires numbers of at most 1."""
    for name in names:
        _require.at_most(
            f"`{name}` must be at most 1", values[name], np.ones((), _require.float_dtype())
        )


def product(*values: Any) -> Any:
    """The product, rounded once where all are known: 0.1 of 0.1 is then printed as 0.01."""
    if all(map(known, values)):
        return reduce(operator.mul, map(_number, values))
    return reduce(operator.mul, [_require.real(value=value)["value"] for value in values])


def function_of_count(name: str, value: Any) -> Schedule:
    """A function of the count as a schedule."""
    if not callable(value):
        raise TypeError(f"`{name}` must be a function of the count, got {value!r}")
    return (
        value if isinstance(value, Schedule) else Schedule(_of_count, {"function": Static(value)})
    )


def _of_count(count, function):
    # PyTorch's functions take integers; those of 32 bits would make float32 of `1 / t` under x64.
    return function(count.astype(jnp.int64 if count.dtype == np.float64 else jnp.int32))


def _number(value: Any) -> Any:
    return np.asarray(value, np.float64)


def row(*values: Any) -> Any:
    """Numbers, known or traced, as a list."""
    if all(map(known, values)):
        return np.array([_number(value) for value in values], np.float64)
    return jnp.stack([_require.real(value=value)["value"] for value in values])
