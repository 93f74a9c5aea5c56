"""NeMo's Noam schedules.

They follow nemo/core/optim/lr_scheduler.py of NVIDIA/NeMo 8cfedd72.
"""

from __future__ import annotations

from jax import numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.combinators import clip, delay
from ...schedules.counts import real
from ...schedules.open_ended import noam
from ...schedules.phases import join
from ...schedules.schedule import Schedule
from ..arguments import is_given, largest, listed, nonnegative
from .phases import after, begin, duration


def NoamAnnealing(
    lr: ArrayLike,
    *,
    d_model: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    max_steps: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""The schedule of the original Transformer.

    It is `lrax.noam` one update later, so that updates 0 and 1 have equal rates.

    `lr` is a factor, not a rate. After the warmup, `min_lr` is a floor. There is no end:
    `max_steps` only gives `warmup_ratio` a meaning.

    Args:
      lr: Factor on the whole, at least 0.
      d_model: Width of the model, above 0.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      max_steps: Length that `warmup_ratio` is a fraction of, in optimizer updates.
      min_lr: Floor after the warmup, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> print(lrax.compat.nemo.NoamAnnealing(1.0, d_model=4, warmup_steps=2).values(6).round(3))
      [0.177 0.177 0.354 0.289 0.25 0.224]
    """
    given = nonnegative(lr=lr, d_model=d_model, min_lr=min_lr)
    warmup = duration("warmup", warmup_steps, warmup_ratio, max_steps)
    # NeMo replaces the count 0 by 1, because the formula divides by zero there.
    whole_run = delay(noam(given["d_model"], warmup, given["lr"]), 1)
    if not is_given(min_lr, 0):
        return whole_run
    return join(
        [whole_run, clip(whole_run, low=given["min_lr"])], listed([after(warmup)]), clock="global"
    )


def NoamHoldAnnealing(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    hold_steps: ArrayLike | None = None,
    hold_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
    decay_rate: ArrayLike = 0.5,
) -> Schedule:
    r"""A warmup, a hold, then a power of the update count, as for Squeezeformer.

    $$\eta(t) = \max\left(\text{lr}
    \left(\frac{\text{warmup}}{t - \text{hold}}\right)^{\text{decay\_rate}},
    \text{min\_lr}\right)$$

    after the hold. NeMo needs a warmup here, whose length is also the time scale of the decay.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      hold_steps: Length of the hold after the warmup, at least 0.
      hold_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after `max_steps`, and floor of the decay, at least 0.
      decay_rate: Exponent of the decay, at least 0: 0.5 is Noam's, 1 is Squeezeformer's.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.NoamHoldAnnealing(
      ...     1.0, max_steps=7, warmup_steps=2, hold_steps=2, decay_rate=1.0
      ... )
      >>> print(schedule.values(10).round(2))
      [0.33 0.67 1. 1. 1. 0.67 0.5 0.4 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    _require.positive({"warmup_steps": warmup}, "warmup_steps")
    rate = nonnegative(decay_rate=decay_rate)["decay_rate"]
    held = warmup + duration("hold", hold_steps, hold_ratio, max_steps)
    decay = inverse_power(lr, warmup, rate, end=end)
    return join([up, decay, end], listed([held, largest(steps + 1, held)]))


def inverse_power(
    peak: ArrayLike, timescale: ArrayLike, exponent: ArrayLike, *, end: ArrayLike = 0.0
) -> Schedule:
    r"""The decay of `NoamHoldAnnealing`, a power of time.

    $$\eta(t) = \max\left(\text{peak} \left(\frac{\tau}{\tau + t}\right)^{\text{exponent}},
    \text{end}\right),
    \quad \tau = \text{timescale}$$

    Args:
      peak: Rate at the start, at least 0.
      timescale: Updates until the rate is $2^{-\text{exponent}}$ of `peak`, above 0.
      exponent: Exponent of the decay, at least 0; 0.5 is `lrax.inverse_sqrt` without a warmup.
      end: Floor, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> print(lrax.compat.nemo.inverse_power(1.0, timescale=2, exponent=1.0).values(4).round(3))
      [1. 0.667 0.5 0.4 ]
    """
    given = nonnegative(peak=peak, timescale=timescale, exponent=exponent, end=end)
    _require.positive(given, "timescale")
    return Schedule(_inverse_power, _require.real(**given))


@builder(inverse_power, name="compat.nemo.inverse_power")
def _inverse_power(count, peak, timescale, exponent, end):
    count = real(count)
    return jnp.maximum(peak * (timescale / (timescale + jnp.maximum(count, 0))) ** exponent, end)
