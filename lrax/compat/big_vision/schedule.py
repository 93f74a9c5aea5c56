"""big_vision's schedule and its cooldown.

They follow big_vision/utils.py of google-research/big_vision 0127fb6b.
"""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.combinators import delay, shift
from ...schedules.counts import real
from ...schedules.decays import cosine, linear, polynomial
from ...schedules.open_ended import inverse_sqrt
from ...schedules.pieces import piecewise_constant
from ...schedules.schedule import Schedule, constant, multiply
from ..arguments import above, largest, listed, nonnegative, positive, rounded, vector, where


def create_learning_rate_schedule(
    total_steps: ArrayLike,
    batch_size: ArrayLike | None = None,
    data_size: ArrayLike | None = None,
    base: ArrayLike = 1.0,
    decay_type: str = "stair",
    scale_with_batchsize: bool = False,
    **kw: Any,
) -> Schedule:
    r"""A decay that begins after the warmup, times a linear warmup, times a linear cooldown.

    The durations `warmup`, `cooldown`, `timescale` and `shift` are each given as one of
    `<name>_steps`, `<name>_examples`, `<name>_epochs` and `<name>_percent` (a fraction of
    `total_steps`: 0.1 is a tenth). A duration is rounded to the nearest update, and is at least one
    update unless it is 0. After `total_steps` the cooldown goes on below 0, as in big_vision.

    Args:
      total_steps: Length of the whole in optimizer updates, above the warmup.
      batch_size: Examples in one update, where durations or `scale_with_batchsize` need it.
      data_size: Examples in one epoch, where durations need it.
      base: The rate without warmup, at least 0.
      decay_type: `"linear"` or `"polynomial"` (with `power` and `end`), `"cosine"` to 0, `"rsqrt"`
        (with `timescale`, 10000 by default, and `shift`), or `"stair"` (with `steps`, indices of
        updates, and `mults`, multiples of `base` from each on).
      scale_with_batchsize: Whether to multiply `base` by `batch_size / 256`.
      **kw: Durations, and what the decay takes.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, an option is unknown, or a number
        that a duration needs is missing.
      TypeError: if an argument is unknown.

    Example:
      >>> big_vision = lrax.compat.big_vision.create_learning_rate_schedule
      >>> schedule = big_vision(8, decay_type="linear", warmup_steps=2, cooldown_steps=2, end=0.5)
      >>> print(schedule.values(9).round(2))
      [0. 0.5 1. 0.92 0.83 0.75 0.67 0.29 0. ]
      >>> big_vision(100, base=0.1, steps=[50], mults=[0.1])
      piecewise_constant(values=[0.1, 0.01], boundaries=[50])
    """
    unknown = sorted(kw.keys() - _DURATIONS - _OWN)
    if unknown:
        raise TypeError(f"`create_learning_rate_schedule` has no argument {unknown}")
    given = nonnegative(total_steps=total_steps, base=base)
    total, rate = given["total_steps"], given["base"]
    sizes = {"batch_size": batch_size, "data_size": data_size}
    sizes = positive(**{name: size for name, size in sizes.items() if size is not None})
    if _require.flag("scale_with_batchsize", scale_with_batchsize):
        if "batch_size" not in sizes:
            raise ValueError("`batch_size` must be given with `scale_with_batchsize`, got none")
        rate = rate * sizes["batch_size"] / 256
    sizes["total_steps"] = total
    warmup = _duration("warmup", kw, sizes)
    cooldown = _duration("cooldown", kw, sizes)
    begin = 0.0 if warmup is None else warmup
    sources = [name for name in (*kw, *sizes) if name in sizes or name.startswith("warmup_")]
    words = ", ".join(f"`{name}`" for name in sources if name != "total_steps")
    above("total_steps", total, f"the warmup ({words})", begin)
    decay = _decay(decay_type, rate, total - begin, kw, sizes)
    # big_vision's stairs count from update 0, its other decays from the end of the warmup.
    if decay_type != "stair" and warmup is not None:
        decay = delay(decay, begin)
    factors = [decay]
    if warmup is not None:
        factors.append(linear(0, 1, warmup))
    if cooldown is not None:
        factors.append(cooldown_factor(total, cooldown))
    return factors[0] if len(factors) == 1 else multiply(*factors)


_SUFFIXES = ("steps", "examples", "epochs", "percent")
_DURATIONS = {
    f"{name}_{suffix}"
    for name in ("warmup", "cooldown", "timescale", "shift")
    for suffix in _SUFFIXES
}
_OWN = {"power", "end", "linear_end", "timescale", "shift", "steps", "mults"}


def _decay(decay_type, rate, steps, kw, sizes):
    _require.choice("decay_type", decay_type, ("linear", "polynomial", "cosine", "rsqrt", "stair"))
    if decay_type == "cosine":
        return cosine(rate, steps)
    if decay_type in ("linear", "polynomial"):
        end = nonnegative(end=kw.get("end", kw.get("linear_end", 0)))["end"]
        if "power" not in kw:
            return linear(rate, end, steps)
        return polynomial(rate, end, steps, kw["power"])
    if decay_type == "rsqrt":
        timescale, by = _duration("timescale", kw, sizes), _duration("shift", kw, sizes)
        timescale = kw.get("timescale", 10_000) if timescale is None else timescale
        by = kw.get("shift") if by is None else by
        decay = inverse_sqrt(rate, 0, timescale)
        return decay if by is None else shift(decay, by)
    steps, mults = vector("steps", kw.get("steps", ())), vector("mults", kw.get("mults", ()))
    if len(steps) != len(mults):
        raise ValueError(f"`mults` must be as many as `steps`, got {len(mults)} and {len(steps)}")
    _require.ascending({"steps": steps}, "steps")
    if not len(steps):
        return constant(rate)
    return piecewise_constant(listed([rate, *(rate * mults)]), steps)


def _duration(name, kw, sizes):
    """A duration in updates, or None where it is not given."""
    found = [suffix for suffix in _SUFFIXES if kw.get(f"{name}_{suffix}") is not None]
    if len(found) > 1:
        raise ValueError(
            f"one of {[f'{name}_{suffix}' for suffix in found]} must be given, got {len(found)}"
        )
    if not found:
        return None
    unit = found[0]
    argument = f"{name}_{unit}"
    value = nonnegative(**{argument: kw[argument]})[argument]
    if unit == "steps":
        return value
    for size in {"examples": ["batch_size"], "epochs": ["batch_size", "data_size"]}.get(unit, []):
        if size not in sizes:
            raise ValueError(f"`{size}` must be given with `{argument}`, got none")
    if unit == "percent":
        per = sizes["total_steps"]
    else:
        per = (sizes["data_size"] if unit == "epochs" else 1) / sizes["batch_size"]
    # Half of an update is rounded to even, by Python's `round`.
    return where(value > 0, largest(rounded(value * per), 1), 0)


def cooldown_factor(total_steps: ArrayLike, cooldown_steps: ArrayLike) -> Schedule:
    r"""The cooldown of `create_learning_rate_schedule`, which does not stop at 0.

    $$\eta(t) = \min\left(1, \frac{\text{total\_steps} - t}{\text{cooldown\_steps}}\right)$$

    Args:
      total_steps: Length of the whole in optimizer updates, at least 0.
      cooldown_steps: Length of the cooldown in optimizer updates, at least 0; with 0 there is none.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN.

    Example:
      >>> lrax.compat.big_vision.cooldown_factor(4, 2).values(6)
      Array([ 1. ,  1. ,  1. ,  0.5,  0. , -0.5], dtype=float32)
    """
    given = nonnegative(total_steps=total_steps, cooldown_steps=cooldown_steps)
    return Schedule(_cooldown_factor, _require.real(**given))


@builder(cooldown_factor, name="compat.big_vision.cooldown_factor")
def _cooldown_factor(count, total_steps, cooldown_steps):
    count = real(count)
    some = cooldown_steps > 0
    return jnp.where(
        some, jnp.minimum(1, (total_steps - count) / jnp.where(some, cooldown_steps, 1)), 1
    )
