"""timm's schedulers of the step count, as functions with their names, arguments and defaults.

`lr` stands in place of the optimizer. Their `t` is what you count: for the rates of a run that
steps per epoch, count epochs; `t_in_epochs` is not taken, nor is `initialize`. The first update has
the rate that timm's constructor sets: `lr`, or `warmup_lr_init` with a warmup. After the last cycle
`lr_min` is held. Noise has timm's distribution, and not its random numbers, which are PyTorch's.

What is known to have no effect, as most defaults, is left out of what is returned. What no other
schedule of lrax can say is a formula of its own. Parity is tested with timm 1.0.31.
`PlateauLRScheduler` follows a metric: it is no function of the count.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import nn, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules.cycles import cosine_restarts
from ..schedules.decays import cosine, polynomial, tanh
from ..schedules.phases import warmup
from ..schedules.pieces import step_decay
from ..schedules.plateaus import wsd
from ..schedules.schedule import Schedule, Static
from ..schedules.shapes import as_shape, power as _power
from ._timm_cycles import cycled, raised
from ._timm_phases import (
    MultiStepLRScheduler,
    Range,
    noisy,
    required,
    shifted,
    stable_and_decay,
    warmed,
)
from .arrays import numbers, shorter
from .known import known_as, positive

__all__ = [
    "CosineLRScheduler",
    "MultiStepLRScheduler",
    "PolyLRScheduler",
    "StepLRScheduler",
    "TanhLRScheduler",
    "WSDLRScheduler",
]


def CosineLRScheduler(
    lr: ArrayLike,
    t_initial: ArrayLike,
    lr_min: ArrayLike = 0.0,
    cycle_mul: ArrayLike = 1.0,
    cycle_decay: ArrayLike = 1.0,
    cycle_limit: ArrayLike = 1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = False,
    noise_range_t: Range = None,
    noise_pct: ArrayLike = 0.67,
    noise_std: ArrayLike = 1.0,
    noise_seed: int | None = 42,
    k_decay: ArrayLike = 1.0,
) -> Schedule:
    """Half cosine waves: `lrax.cosine(lr, t_initial, lr_min, k=k_decay)`, or `lrax.cosine_restarts`
    of several cycles.

    Unless `warmup_prefix`, the warmup takes the place of the first updates, and the rate falls at
    its end.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the first cycle, above 0.
      lr_min: Rate at the end of each cycle, at least 0.
      cycle_mul: Length of a cycle in lengths of the one before, above 0.
      cycle_decay: Peak of a cycle in peaks of the one before, at least 0.
      cycle_limit: Number of cycles, at least 0.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether the cycles begin after the warmup, and not with it.
      noise_range_t: First count with noise, or that and the first without; `None` is no noise.
      noise_pct: Largest noise in parts of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before it is cut, above 0.
      noise_seed: Seed of the noise.
      k_decay: Exponent of the part done, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.timm.CosineLRScheduler(lr=0.1, t_initial=90, lr_min=0.01)
      cosine(peak=0.1, steps=90, end=0.01)
      >>> print(lrax.compat.timm.CosineLRScheduler(lr=1.0, t_initial=8, warmup_t=2).values(9).round(3))
      [0. 0.5 0.854 0.691 0.5 0.309 0.146 0.038 0. ]
    """
    leaves = required(
        t_initial=t_initial, cycle_mul=cycle_mul, cycle_decay=cycle_decay, cycle_limit=cycle_limit
    )
    leaves |= required(
        lr=lr, lr_min=lr_min, warmup_t=warmup_t, warmup_lr_init=warmup_lr_init, k_decay=k_decay
    )
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    if known_as(cycle_limit, 1):
        waves = cosine(lr, t_initial, lr_min, k=None if known_as(k_decay, 1) else k_decay)
    elif known_as(k_decay, 1) and all(
        known_as(leaves[name] >= 1, True) for name in ("cycle_limit", "cycle_mul")
    ):
        waves = cosine_restarts(
            lr, t_initial, mult=cycle_mul, end=lr_min, decay=cycle_decay, cycles=cycle_limit
        )
    else:
        schedule = Schedule(_CosineLRScheduler, {**leaves, "warmup_prefix": Static(prefix)})
        return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)
    schedule = shifted(waves, lr, warmup_t, warmup_lr_init, prefix)
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


def _CosineLRScheduler(count, k_decay, **cycles):
    def weight(p, q):
        p, q = raised(p, q, k_decay)
        return jnp.sin(np.pi / 2 * q) ** 2, jnp.sin(np.pi / 2 * p) ** 2

    return cycled(count, weight, **cycles)


def TanhLRScheduler(
    lr: ArrayLike,
    t_initial: ArrayLike,
    lb: ArrayLike = -7.0,
    ub: ArrayLike = 3.0,
    lr_min: ArrayLike = 0.0,
    cycle_mul: ArrayLike = 1.0,
    cycle_decay: ArrayLike = 1.0,
    cycle_limit: ArrayLike = 1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = False,
    noise_range_t: Range = None,
    noise_pct: ArrayLike = 0.67,
    noise_std: ArrayLike = 1.0,
    noise_seed: int | None = 42,
) -> Schedule:
    """Hyperbolic tangents: `lrax.tanh(lr, lr_min, t_initial, low=lb, high=ub)`, once or in cycles.

    The first update has the rate `lr` itself, which the tangent only comes near to. Unless
    `warmup_prefix`, the warmup takes the place of the first updates and goes to the tangent's rate
    at its end, and not to `lr`.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the first cycle, above 0.
      lb: Where the curve is cut on the left, below `ub`.
      ub: Where it is cut on the right.
      lr_min: Rate that each cycle falls to, at least 0.
      cycle_mul: Length of a cycle in lengths of the one before, above 0.
      cycle_decay: Peak of a cycle in peaks of the one before, at least 0.
      cycle_limit: Number of cycles, at least 0.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether the cycles begin after the warmup, and not with it.
      noise_range_t: First count with noise, or that and the first without; `None` is no noise.
      noise_pct: Largest noise in parts of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before it is cut, above 0.
      noise_seed: Seed of the noise.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> print(lrax.compat.timm.TanhLRScheduler(lr=1.0, t_initial=8, lb=-2.0, ub=2.0).values(9).round(2))
      [1. 0.95 0.88 0.73 0.5 0.27 0.12 0.05 0. ]
    """
    leaves = _require.real(lb=lb, ub=ub)
    _require.finite(leaves, "lb", "ub")
    _require.positive({"ub - lb": leaves["ub"] - leaves["lb"]}, "ub - lb")
    leaves |= required(
        t_initial=t_initial, cycle_mul=cycle_mul, cycle_decay=cycle_decay, cycle_limit=cycle_limit
    )
    leaves |= required(lr=lr, lr_min=lr_min, warmup_t=warmup_t, warmup_lr_init=warmup_lr_init)
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    once, warms = known_as(cycle_limit, 1), known_as(leaves["warmup_t"] > 0, True)
    if once and warms and not prefix:
        schedule = warmup(
            tanh(lr, lr_min, t_initial, low=lb, high=ub), warmup_t, warmup_lr_init, anchor="overlay"
        )
    elif once and (warms or known_as(warmup_t, 0)):
        schedule = warmed(
            tanh(lr, lr_min, t_initial, low=lb, high=ub), lr, warmup_t, warmup_lr_init, prefix
        )
    else:
        schedule = Schedule(_TanhLRScheduler, {**leaves, "warmup_prefix": Static(prefix)})
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


def _TanhLRScheduler(count, lb, ub, **cycles):
    def weight(p, q):
        x = 2 * (lb * q + ub * p)
        return nn.sigmoid(-x), nn.sigmoid(x)

    return cycled(count, weight, meets=True, **cycles)


def PolyLRScheduler(
    lr: ArrayLike,
    t_initial: ArrayLike,
    power: ArrayLike = 0.5,
    lr_min: ArrayLike = 0.0,
    cycle_mul: ArrayLike = 1.0,
    cycle_decay: ArrayLike = 1.0,
    cycle_limit: ArrayLike = 1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = False,
    noise_range_t: Range = None,
    noise_pct: ArrayLike = 0.67,
    noise_std: ArrayLike = 1.0,
    noise_seed: int | None = 42,
    k_decay: ArrayLike = 1.0,
) -> Schedule:
    """Powers of the part left: `lrax.polynomial(lr, lr_min, t_initial, power, k=k_decay)`, once or
    in cycles.

    Unless `warmup_prefix`, the warmup takes the place of the first updates, and the rate falls at
    its end.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the first cycle, above 0.
      power: Exponent of the part left, at least 0; with 0 the rate falls at the end of each cycle
        only.
      lr_min: Rate at the end of each cycle, at least 0.
      cycle_mul: Length of a cycle in lengths of the one before, above 0.
      cycle_decay: Peak of a cycle in peaks of the one before, at least 0.
      cycle_limit: Number of cycles, at least 0.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether the cycles begin after the warmup, and not with it.
      noise_range_t: First count with noise, or that and the first without; `None` is no noise.
      noise_pct: Largest noise in parts of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before it is cut, above 0.
      noise_seed: Seed of the noise.
      k_decay: Exponent of the part done, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.timm.PolyLRScheduler(lr=0.1, t_initial=90)
      polynomial(init=0.1, end=0, steps=90, power=0.5)
    """
    leaves = required(
        t_initial=t_initial, cycle_mul=cycle_mul, cycle_decay=cycle_decay, cycle_limit=cycle_limit
    )
    leaves |= required(
        lr=lr, lr_min=lr_min, warmup_t=warmup_t, warmup_lr_init=warmup_lr_init, k_decay=k_decay
    )
    leaves |= required(power=power)
    prefix = _require.flag("warmup_prefix", warmup_prefix)
    if known_as(cycle_limit, 1) and known_as(leaves["power"] > 0, True):
        decay = polynomial(
            lr, lr_min, t_initial, power, k=None if known_as(k_decay, 1) else k_decay
        )
        schedule = shifted(decay, lr, warmup_t, warmup_lr_init, prefix)
    else:
        schedule = Schedule(_PolyLRScheduler, {**leaves, "warmup_prefix": Static(prefix)})
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


def _PolyLRScheduler(count, power, k_decay, **cycles):
    def weight(p, q):
        p, q = raised(p, q, k_decay)
        falls = _power(q, power)
        return falls, 1 - falls

    return cycled(count, weight, **cycles)


def StepLRScheduler(
    lr: ArrayLike,
    decay_t: ArrayLike,
    decay_rate: ArrayLike = 1.0,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    warmup_prefix: bool = True,
    noise_range_t: Range = None,
    noise_pct: ArrayLike = 0.67,
    noise_std: ArrayLike = 1.0,
    noise_seed: int | None = 42,
) -> Schedule:
    """Falls at equal distances: `lrax.step_decay(lr, decay_t, decay_rate)`.

    A known `decay_t` that is not whole, such as the 2.4 of published recipes, is taken as the
    float32 just below it, for one above would move some falls to the next count.

    Args:
      lr: The optimizer's rate, at least 0.
      decay_t: Distance of the falls, above 0.
      decay_rate: What the rate is multiplied by, at least 0.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      warmup_prefix: Whether the clock of the falls begins after the warmup, and not with it.
      noise_range_t: First count with noise, or that and the first without; `None` is no noise.
      noise_pct: Largest noise in parts of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before it is cut, above 0.
      noise_seed: Seed of the noise.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> lrax.compat.timm.StepLRScheduler(lr=0.1, decay_t=30, decay_rate=0.1)
      step_decay(init=0.1, step_size=30, factor=0.1)
      >>> print(lrax.compat.timm.StepLRScheduler(lr=1.0, decay_t=2.5, decay_rate=0.5).values(7).round(2))
      [1. 1. 1. 0.5 0.5 0.25 0.25]
    """
    positive(decay_t=decay_t)
    required(lr=lr, decay_rate=decay_rate, warmup_t=warmup_t, warmup_lr_init=warmup_lr_init)
    stairs = step_decay(lr, shorter(numbers(decay_t=decay_t)["decay_t"]), decay_rate)
    schedule = shifted(
        stairs, lr, warmup_t, warmup_lr_init, _require.flag("warmup_prefix", warmup_prefix)
    )
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


def WSDLRScheduler(
    lr: ArrayLike,
    t_initial: ArrayLike,
    decay_t: ArrayLike,
    lr_min: ArrayLike = 0.0,
    stable_fn: str = "constant",
    stable_timescale: ArrayLike | None = None,
    stable_power: ArrayLike = 0.5,
    decay_fn: str | Callable[[Any], Any] = "1-sqrt",
    decay_power: ArrayLike = 0.5,
    decay_ratio: ArrayLike = 0.1,
    warmup_t: ArrayLike = 0,
    warmup_lr_init: ArrayLike = 0.0,
    noise_range_t: Range = None,
    noise_pct: ArrayLike = 0.67,
    noise_std: ArrayLike = 1.0,
    noise_seed: int | None = 42,
) -> Schedule:
    r"""A warmup, a stable phase and a decay: mostly `lrax.wsd(lr, warmup_t + t_initial, warmup_t,
    decay_t, ...)`.

    $$\eta(t) = \text{lr\_min} + (\max(\text{lr} \cdot \text{stable}(t), \text{lr\_min}) - \text{lr\_min}) \,
    \text{decay}(p)$$

    A formula of its own where the stable phase falls, and where no shape of `lrax.wsd` is that of
    the decay.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the stable phase and the decay, without the warmup, above 0.
      decay_t: Length of the decay, above 0 and at most `t_initial`.
      lr_min: Rate at the end, at least 0; one above `lr` is the rate after the warmup, or after the
        first update.
      stable_fn: `"constant"`, `"rsqrt"`, the inverse square root of the time since the warmup, or
        `"power"`.
      stable_timescale: Steps in which `"rsqrt"` falls to 0.71, above 0; `None` is `warmup_t`.
      stable_power: Exponent of `"power"` in place of 0.5, above 0.
      decay_fn: `"linear"`, `"1-sqrt"`, `"cosine"`, `"power"`, `"exp"`, or a function from the part
        done, an array, to the part left.
      decay_power: Exponent of the part done by `"power"`, above 0.
      decay_ratio: Part of the rate that `"exp"` would leave, were it not moved to end at `lr_min`;
        between 0 and 1.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      noise_range_t: First count with noise, or that and the first without; `None` is no noise.
      noise_pct: Largest noise in parts of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before it is cut, above 0.
      noise_seed: Seed of the noise.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a word is unknown.

    Example:
      >>> lrax.compat.timm.WSDLRScheduler(lr=0.1, t_initial=90, decay_t=20, warmup_t=10)
      wsd(peak=0.1, steps=100, warmup=10, cooldown=20, init=0, end=0, shape='1-sqrt')
    """
    _require.choice("stable_fn", stable_fn, ("constant", "rsqrt", "power"))
    if not callable(decay_fn):
        _require.choice("decay_fn", decay_fn, ("linear", "1-sqrt", "cosine", "power", "exp"))
    leaves = required(
        t_initial=t_initial, lr=lr, lr_min=lr_min, warmup_t=warmup_t, warmup_lr_init=warmup_lr_init
    )
    leaves |= positive(
        decay_t=decay_t, stable_power=stable_power, decay_power=decay_power, decay_ratio=decay_ratio
    )
    _require.at_most(
        "`decay_t` must be at most `t_initial`", leaves["decay_t"], leaves["t_initial"]
    )
    _require.positive({"1 - decay_ratio": 1 - leaves["decay_ratio"]}, "1 - decay_ratio")
    timescale = warmup_t if stable_timescale is None else stable_timescale
    if stable_fn != "constant":
        leaves |= positive(stable_timescale=timescale)
    shapes = {"power": (decay_power, {0.5: "1-sqrt", 1: "linear", 2: "1-square"})}
    shapes["exp"] = (decay_ratio, {0.1: "exp10", 0.5: "exp2"})
    number, words = (
        shapes.get(decay_fn, (1, {1: decay_fn})) if isinstance(decay_fn, str) else (1, {})
    )
    shape = next((word for value, word in words.items() if known_as(number, value)), None)
    if (
        shape
        and stable_fn == "constant"
        and (known_as(lr_min, 0) or known_as(leaves["lr_min"] <= leaves["lr"], True))
    ):
        schedule = wsd(
            lr,
            warmup_t + t_initial,
            warmup_t,
            decay_t,
            init=warmup_lr_init,
            end=lr_min,
            shape=shape,
        )
    else:
        words = {"stable_fn": Static(stable_fn)}
        words["decay_fn"] = (
            as_shape("decay_fn", decay_fn) if callable(decay_fn) else Static(decay_fn)
        )
        schedule = Schedule(_WSDLRScheduler, {"stable_timescale": None, **leaves, **words})
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


def _WSDLRScheduler(
    count, lr, lr_min, stable_fn, stable_timescale, stable_power, decay_fn, warmup_t, **decay
):
    stable = lr
    if stable_fn != "constant":
        since = stable_timescale / (stable_timescale + jnp.maximum(count - warmup_t, 0))
        stable = lr * (jnp.sqrt(since) if stable_fn == "rsqrt" else since**stable_power)
    return stable_and_decay(
        count, lr, jnp.maximum(stable, lr_min), lr_min, decay_fn, warmup_t, **decay
    )
