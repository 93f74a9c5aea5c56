"""timm's WSDLRScheduler.

It follows timm/scheduler/wsd_lr.py of timm 1.0.31.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.plateaus import wsd
from ...schedules.schedule import Schedule, Static
from ...schedules.shapes import (
    SHAPES,
    as_shape,
    between,
    progress,
)
from ..arguments import Number, is_concrete, is_known_as, positive
from .cycles import raised
from .phases import Range, checked, noisy


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
    r"""A warmup, a stable phase and a decay.

    It is mostly `lrax.wsd(lr, warmup_t + t_initial, warmup_t, decay_t, ...)`.

    $$\eta(t) = \text{lr\_min} +
    (\max(\text{lr} \cdot \text{stable}(t), \text{lr\_min}) - \text{lr\_min}) \,
    \text{decay}(p)$$

    Here $p$ is the part of the decay that is done, $\text{stable}$ is `stable_fn`, and
    $\text{decay}$ is `decay_fn`. The schedule has its own formula where the stable phase falls, or
    the decay is not a shape of `lrax.wsd`.

    Args:
      lr: The optimizer's rate, at least 0.
      t_initial: Length of the stable phase and the decay, without the warmup, above 0.
      decay_t: Length of the decay, above 0 and at most `t_initial`.
      lr_min: Rate at the end, at least 0. If it is above `lr`, it is the rate of all updates after
        the warmup, or after the first update.
      stable_fn: `"constant"`, `"rsqrt"`, the inverse square root of the time since the warmup, or
        `"power"`.
      stable_timescale: Steps in which `"rsqrt"` falls to 0.71, above 0; `None` is `warmup_t`.
      stable_power: Exponent of `"power"` in place of 0.5, above 0.
      decay_fn: `"linear"`, `"1-sqrt"`, `"cosine"`, `"power"`, `"exp"`, or a function from the part
        done, an array, to the part left.
      decay_power: Exponent of the part done by `"power"`, above 0.
      decay_ratio: Fraction of the rate to which `"exp"` falls before it is rescaled to end at
        `lr_min`, between 0 and 1.
      warmup_t: Length of the warmup, at least 0.
      warmup_lr_init: Rate at the start of the warmup, at least 0.
      noise_range_t: First count with noise, or (first with, first without); `None` is no noise.
      noise_pct: Largest noise as a fraction of the rate, from 0 to 1.
      noise_std: Standard deviation of the noise before `noise_pct` limits it, above 0.
      noise_seed: Seed of the noise.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or an option is unknown.

    Example:
      >>> lrax.compat.timm.WSDLRScheduler(lr=0.1, t_initial=90, decay_t=20, warmup_t=10)
      wsd(peak=0.1, steps=100, warmup=10, cooldown=20, init=0, end=0, shape='1-sqrt')
    """
    _require.choice("stable_fn", stable_fn, ("constant", "rsqrt", "power"))
    if not callable(decay_fn):
        _require.choice("decay_fn", decay_fn, ("linear", "1-sqrt", "cosine", "power", "exp"))
    given = checked(
        lr=lr, t_initial=t_initial, lr_min=lr_min, warmup_t=warmup_t, warmup_lr_init=warmup_lr_init
    )
    rate, steps, low, warmup_steps, first = given.values()
    given |= positive(
        decay_t=decay_t, stable_power=stable_power, decay_power=decay_power, decay_ratio=decay_ratio
    )
    length = given["decay_t"]
    _require.at_most("`decay_t` must be at most `t_initial`", length, steps)
    if is_concrete(given["decay_ratio"]) and not given["decay_ratio"] < 1:
        raise ValueError(f"`decay_ratio` must be below 1, got {decay_ratio}")
    if stable_fn != "constant":
        given |= _timescale(stable_timescale, warmup_steps)
    shape = _shape_of(decay_fn, given["decay_power"], given["decay_ratio"])
    falls = is_known_as(low, 0) or is_known_as(low <= rate, True)
    if shape is not None and stable_fn == "constant" and falls:
        schedule = wsd(
            rate, warmup_steps + steps, warmup_steps, length, init=first, end=low, shape=shape
        )
    else:
        words = {"stable_fn": Static(stable_fn), "decay_fn": Static(decay_fn)}
        if callable(decay_fn):
            words["decay_fn"] = as_shape("decay_fn", decay_fn)
        leaves = {"stable_timescale": None, **_require.real(**given), **words}
        schedule = Schedule(_WSDLRScheduler, leaves)
    return noisy(schedule, noise_range_t, noise_pct, noise_std, noise_seed)


def _timescale(stable_timescale: ArrayLike | None, warmup_t: Number) -> dict[str, Number]:
    """The time scale of a stable phase that falls, in timm the length of the warmup by default."""
    if stable_timescale is None and is_known_as(warmup_t, 0):
        raise ValueError("`stable_timescale` must be given where `warmup_t` is 0, got None and 0")
    return positive(stable_timescale=warmup_t if stable_timescale is None else stable_timescale)


def _shape_of(decay_fn: str | Callable[[Any], Any], power: Number, ratio: Number) -> str | None:
    """The shape of `lrax.wsd` that is this decay, if there is one."""
    if not isinstance(decay_fn, str):
        return None
    if decay_fn == "power":
        shapes = {0.5: "1-sqrt", 1: "linear", 2: "1-square"}
        return next((word for value, word in shapes.items() if is_known_as(power, value)), None)
    if decay_fn == "exp":
        shapes = {0.1: "exp10", 0.5: "exp2"}
        return next((word for value, word in shapes.items() if is_known_as(ratio, value)), None)
    return decay_fn


@builder(WSDLRScheduler, name="compat.timm.WSDLRScheduler")
def _WSDLRScheduler(
    count,
    lr,
    t_initial,
    decay_t,
    lr_min,
    stable_fn,
    stable_timescale,
    stable_power,
    decay_fn,
    decay_power,
    decay_ratio,
    warmup_t,
    warmup_lr_init,
):
    count = real(count)
    stable = lr
    if stable_fn != "constant":
        since = stable_timescale / (stable_timescale + jnp.maximum(count - warmup_t, 0))
        stable = lr * (jnp.sqrt(since) if stable_fn == "rsqrt" else since**stable_power)
    stable = jnp.maximum(stable, lr_min)
    left = warmup_t + t_initial - count
    p, q = progress(decay_t - left, left, decay_t)
    if callable(decay_fn):
        of_stable: Any = decay_fn(p)
        of_min = 1 - of_stable
    elif decay_fn == "power":
        of_min, of_stable = raised(p, q, decay_power)
    elif decay_fn == "exp":
        # (r^p - r) / (1 - r) with r = `decay_ratio`. `expm1` keeps the digits that the difference
        # would lose near the end, where r^p is close to r.
        rate = jnp.log(decay_ratio)
        of_stable = decay_ratio * jnp.expm1(-rate * q) / (1 - decay_ratio)
        of_min = -jnp.expm1(rate * p) / (1 - decay_ratio)
    else:
        of_min = SHAPES[decay_fn](p, decay_t)
        of_stable = 1 - of_min
    rate = jnp.where(left < decay_t, stable * of_stable + lr_min * of_min, stable)
    up = between(warmup_lr_init, lr, count, warmup_t - count, warmup_t)
    # Without a warmup, timm's constructor sets the rate of the first update to `lr`.
    return jnp.where(count < jnp.where(warmup_t > 0, warmup_t, 1), up, rate)
