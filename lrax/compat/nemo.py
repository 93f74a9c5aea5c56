r"""NeMo's schedulers (`nemo.core.optim.lr_scheduler`), as functions of the optimizer's `lr` and
their own arguments.

Common to all: the warmup is $(t + 1) / (\text{warmup} + 1)$, so no update is made at the rate 0; it
is given by `warmup_steps` or by `warmup_ratio`, a fraction of `max_steps` that is rounded down; and
after `max_steps` the rate is `min_lr`, whatever the decay has come to.
"""

from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules.combinators import clip, delay
from ..schedules.decays import linear, polynomial
from ..schedules.open_ended import inverse_sqrt, noam
from ..schedules.phases import join
from ..schedules.ramps import ramp
from ..schedules.schedule import Schedule
from ._nemo_warmups import (
    CosineAnnealing,
    InverseSquareRootAnnealing,
    SquareAnnealing,
    SquareRootAnnealing,
    WarmupAnnealing,
    WarmupHoldPolicy,
    WarmupPolicy,
    after,
    begin,
    duration,
)
from .arrays import is_given, listed, most, nonnegative, numbers
from .keras import PolynomialDecay

__all__ = [
    "CosineAnnealing",
    "InverseSquareRootAnnealing",
    "NoamAnnealing",
    "NoamHoldAnnealing",
    "PolynomialDecayAnnealing",
    "PolynomialHoldDecayAnnealing",
    "SquareAnnealing",
    "SquareRootAnnealing",
    "T5InverseSquareRootAnnealing",
    "WarmupAnnealing",
    "WarmupHoldAnnealLinear",
    "WarmupHoldAnnealOneMinusSquareRoot",
    "WarmupHoldPolicy",
    "WarmupPolicy",
    "inverse_power",
]


def NoamAnnealing(
    lr: ArrayLike,
    *,
    d_model: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    max_steps: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""The schedule of the first transformer: `lrax.noam` an update later, so that the updates 0
    and 1 are equal.

    `lr` is a factor, not a rate. After the warmup, `min_lr` is a floor. There is no end:
    `max_steps` is only what `warmup_ratio` is a fraction of.

    Args:
      lr: Factor on the whole, at least 0.
      d_model: Width of the model, above 0.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      max_steps: What `warmup_ratio` is a fraction of.
      min_lr: Floor after the warmup, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> print(lrax.compat.nemo.NoamAnnealing(1.0, d_model=4, warmup_steps=2).values(6).round(3))
      [0.177 0.177 0.354 0.289 0.25 0.224]
    """
    given = nonnegative(lr=lr, d_model=d_model, min_lr=min_lr)
    warmup = duration("warmup", warmup_steps, warmup_ratio, max_steps)
    whole_run = delay(noam(given["d_model"], warmup, given["lr"]), 1)
    if not is_given(min_lr, 0):
        return whole_run
    return join(
        [whole_run, clip(whole_run, low=given["min_lr"])], listed([after(warmup)]), clock="global"
    )


def inverse_power(
    peak: ArrayLike, timescale: ArrayLike, exponent: ArrayLike, *, end: ArrayLike = 0.0
) -> Schedule:
    r"""The decay of `NoamHoldAnnealing`, a power of time.

    $$\eta(t) = \max\left(\text{peak} \left(\frac{\tau}{\tau + t}\right)^{\text{exponent}}, \text{end}\right),
    \quad \tau = \text{timescale}$$

    Args:
      peak: Rate at the start, at least 0.
      timescale: Updates until the rate is $2^{-\text{exponent}}$ of `peak`, above 0.
      exponent: Exponent of the decay, at least 0; 0.5 is `lrax.inverse_sqrt` without a warmup.
      end: Floor, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> print(lrax.compat.nemo.inverse_power(1.0, timescale=2, exponent=1.0).values(4).round(3))
      [1. 0.667 0.5 0.4 ]
    """
    given = nonnegative(peak=peak, timescale=timescale, exponent=exponent, end=end)
    _require.positive(given, "timescale")
    return Schedule(_inverse_power, _require.real(**given))


def _inverse_power(count, peak, timescale, exponent, end):
    return jnp.maximum(peak * (timescale / (timescale + jnp.maximum(count, 0))) ** exponent, end)


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
    r"""A warmup, a hold, then a power of time, of Squeezeformer.

    $$\eta(t) = \max\left(\text{lr} \left(\frac{\text{warmup}}{t - \text{hold}}\right)^{\text{decay\_rate}},
    \text{min\_lr}\right)$$

    after the hold. NeMo needs a warmup here, whose length is also the time scale of the decay.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      hold_steps: Length of the hold after it, at least 0.
      hold_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after it, and floor of the decay, at least 0.
      decay_rate: Exponent of the decay, at least 0: 0.5 is Noam's, 1 is Squeezeformer's.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.NoamHoldAnnealing(1.0, max_steps=7, warmup_steps=2, hold_steps=2, decay_rate=1.0)
      >>> print(schedule.values(10).round(2))
      [0.33 0.67 1. 1. 1. 0.67 0.5 0.4 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    _require.positive({"warmup_steps": warmup}, "warmup_steps")
    rate = nonnegative(decay_rate=decay_rate)["decay_rate"]
    held = warmup + duration("hold", hold_steps, hold_ratio, max_steps)
    decay = inverse_power(lr, warmup, rate, end=end)
    return join([up, decay, end], listed([held, most(steps + 1, held)]))


def WarmupHoldAnnealOneMinusSquareRoot(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    hold_steps: ArrayLike | None = None,
    hold_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup, a hold, then one minus the square root of the part done, not below `min_lr`.

    The floor is a maximum, not an end to which the curve is scaled as in `lrax.wsd`. Without a
    hold, NeMo counts the decay from the update 0: the rate jumps down after the warmup.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      hold_steps: Length of the hold after it, at least 0.
      hold_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after it, and floor of the decay, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> one_minus_sqrt = lrax.compat.nemo.WarmupHoldAnnealOneMinusSquareRoot
      >>> print(one_minus_sqrt(1.0, max_steps=6, warmup_steps=1, hold_steps=1).values(8).round(3))
      [0.5 1. 1. 0.5 0.293 0.134 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    if hold_steps is None and hold_ratio is None:
        return join(
            [up, clip(ramp(lr, 0, steps, shape="1-sqrt"), low=end)],
            listed([after(warmup)]),
            clock="global",
        )
    held = warmup + duration("hold", hold_steps, hold_ratio, max_steps)
    _require.positive({"max_steps - warmup - hold": steps - held}, "max_steps - warmup - hold")
    return join([up, clip(ramp(lr, 0, steps - held, shape="1-sqrt"), low=end)], listed([held]))


def WarmupHoldAnnealLinear(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    hold_steps: ArrayLike | None = None,
    hold_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""A warmup, a hold, then a line to `min_lr`.

    Without a hold, NeMo counts the decay from the update 0: the rate jumps down after the warmup.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      hold_steps: Length of the hold after it, at least 0.
      hold_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate after it, and floor of the decay, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.WarmupHoldAnnealLinear(1.0, max_steps=6, warmup_steps=1, hold_steps=1)
      >>> print(schedule.values(8))
      [0.5 1. 1. 0.75 0.5 0.25 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    if hold_steps is None and hold_ratio is None:
        return join([up, linear(lr, end, steps)], listed([after(warmup)]), clock="global")
    held = warmup + duration("hold", hold_steps, hold_ratio, max_steps)
    _require.positive({"max_steps - warmup - hold": steps - held}, "max_steps - warmup - hold")
    return join([up, linear(lr, end, steps - held)], listed([held]))


def T5InverseSquareRootAnnealing(
    lr: ArrayLike | None = None,
    *,
    max_steps: ArrayLike,
    constant_steps: ArrayLike,
    min_lr: ArrayLike = 0.0,
) -> Schedule:
    r"""The inverse square root of the update itself, the first ones as at `constant_steps`.

    $$\eta(t) = 1 / \sqrt{\max(t, \text{constant\_steps})}$$

    whatever the optimizer's `lr` is. `min_lr` is no floor: the rate drops to it after `max_steps`.
    NeMo's `constant_ratio` fails there, and is not an argument here.

    Args:
      lr: Not used.
      max_steps: Index of the last update before `min_lr`.
      constant_steps: Length of the first phase in optimizer updates, above 0.
      min_lr: Rate after `max_steps`, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.

    Example:
      >>> schedule = lrax.compat.nemo.T5InverseSquareRootAnnealing(max_steps=6, constant_steps=4)
      >>> print(schedule.values(9).round(3))
      [0.5 0.5 0.5 0.5 0.5 0.447 0.408 0. 0. ]
    """
    del lr
    given = nonnegative(max_steps=max_steps, constant_steps=constant_steps, min_lr=min_lr)
    _require.positive(given, "constant_steps")
    first = given["constant_steps"]
    decay = delay(inverse_sqrt(first**-0.5, 0, first), first)
    return join([decay, given["min_lr"]], listed([most(given["max_steps"], first) + 1]))


def PolynomialDecayAnnealing(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
    power: ArrayLike = 1.0,
    cycle: bool = False,
) -> Schedule:
    r"""A warmup, then a power of the part left, to `min_lr`.

    `cycle` is accepted and without effect, as in NeMo: after `max_steps`, where cycles would begin,
    the rate is `min_lr`.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate at the end, at least 0.
      power: Exponent of the part left, above 0.
      cycle: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> schedule = lrax.compat.nemo.PolynomialDecayAnnealing(1.0, max_steps=5, warmup_steps=1, power=2.0)
      >>> print(schedule.values(7).round(3))
      [0.5 1. 0.562 0.25 0.062 0. 0. ]
    """
    del cycle
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    _require.positive(numbers(power=power), "power")
    return join([up, polynomial(lr, end, steps - warmup, power)], listed([warmup]))


def PolynomialHoldDecayAnnealing(
    lr: ArrayLike,
    *,
    max_steps: ArrayLike,
    warmup_steps: ArrayLike | None = None,
    warmup_ratio: ArrayLike | None = None,
    hold_steps: ArrayLike | None = None,
    hold_ratio: ArrayLike | None = None,
    min_lr: ArrayLike = 0.0,
    power: ArrayLike = 1.0,
    cycle: bool = False,
) -> Schedule:
    r"""A warmup, a hold, then a power of the part left, to `min_lr`.

    Without a hold, NeMo counts the decay from the update 0, over `max_steps - warmup` updates: the
    rate jumps down after the warmup and is at its end one warmup too early; `cycle` then fills the
    rest with part of a second tooth.

    Args:
      lr: The optimizer's rate, at least 0.
      max_steps: Index of the last update before `min_lr`, above the warmup.
      warmup_steps: Length of the warmup in optimizer updates, at least 0.
      warmup_ratio: The same as a fraction of `max_steps`.
      hold_steps: Length of the hold after it, at least 0.
      hold_ratio: The same as a fraction of `max_steps`.
      min_lr: Rate at the end, at least 0.
      power: Exponent of the part left, above 0.
      cycle: Whether teeth follow, where there is no hold.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a duration is given twice.

    Example:
      >>> hold_decay = lrax.compat.nemo.PolynomialHoldDecayAnnealing
      >>> print(hold_decay(1.0, max_steps=6, warmup_steps=1, hold_steps=1, power=2.0).values(8).round(3))
      [0.5 1. 1. 0.562 0.25 0.062 0. 0. ]
    """
    lr, steps, end, warmup, up = begin(lr, max_steps, min_lr, warmup_steps, warmup_ratio)
    _require.positive(numbers(power=power), "power")
    if hold_steps is None and hold_ratio is None:
        decay = PolynomialDecay(lr, steps - warmup, end, power, cycle=cycle)
        return join([up, decay, end], listed([after(warmup), steps + 1]), clock="global")
    held = warmup + duration("hold", hold_steps, hold_ratio, max_steps)
    _require.positive({"max_steps - warmup - hold": steps - held}, "max_steps - warmup - hold")
    return join([up, polynomial(lr, end, steps - held, power)], listed([held]))
