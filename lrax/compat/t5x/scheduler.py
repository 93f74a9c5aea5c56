"""t5x's schedule.

It follows t5x/utils.py of google-research/t5x cc342d41.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ... import _require
from ...schedules.combinators import clip, delay, repeat, shift
from ...schedules.decays import cosine, linear
from ...schedules.open_ended import inverse_sqrt
from ...schedules.phases import join
from ...schedules.pieces import step_decay
from ...schedules.schedule import Schedule, constant, multiply
from ..arguments import is_given, listed, nonnegative, numbers, where


def create_learning_rate_scheduler(
    factors: str = "constant * linear_warmup * rsqrt_decay",
    base_learning_rate: ArrayLike = 0.5,
    warmup_steps: ArrayLike = 1000,
    decay_factor: ArrayLike = 0.5,
    steps_per_decay: ArrayLike = 20000,
    steps_per_cycle: ArrayLike = 100000,
    step_offset: ArrayLike = 0,
    min_learning_rate: ArrayLike = 1e-8,
) -> Schedule:
    r"""A product of factors, not below `min_learning_rate`: `lrax.multiply` in `lrax.clip`.

    | factor | value |
    |---|---|
    | `constant` | `base_learning_rate` |
    | `linear_warmup` | $\min(t / \text{warmup\_steps}, 1)$ |
    | `linear_decay` | `linear_warmup`, then $1 - \text{decay\_factor} (t - \text{warmup\_steps})$ |
    | `rsqrt_decay` | $1 / \sqrt{\max(t, \text{warmup\_steps})}$ |
    | `rsqrt_normalized_decay` | $\sqrt{\text{warmup\_steps} / \max(t, \text{warmup\_steps})}$ |
    | `decay_every` | `decay_factor` every `steps_per_decay` updates |
    | `cosine_decay` | half a cosine wave every `steps_per_cycle` updates after the warmup |

    The floor holds at the start of a warmup too. In t5x `linear_decay` falls below 0; here it stays
    at 0, which is the same under the floor.

    Args:
      factors: Names of factors, with `*` between them.
      base_learning_rate: The value of the factor `constant`, and the rate at which `linear_decay`
        begins, at least 0.
      warmup_steps: Length of the warmup in optimizer updates, at least 0; above 0 for the inverse
        square roots.
      decay_factor: Factor of `decay_every`, or slope of `linear_decay` per update; at least 0.
      steps_per_decay: Updates per factor of `decay_every`, above 0.
      steps_per_cycle: Length of a wave of `cosine_decay`, above 0.
      step_offset: Update at which the schedule begins. A negative one skips updates.
      min_learning_rate: Floor of the product, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or a factor is unknown.
      TypeError: if `factors` is not a string.

    Example:
      >>> t5x = lrax.compat.t5x.create_learning_rate_scheduler
      >>> print(t5x(base_learning_rate=1.0, warmup_steps=4).values([0, 2, 4, 16]).round(3))
      [0. 0.25 0.5 0.25]
      >>> schedule = t5x("linear_decay", base_learning_rate=1.0, warmup_steps=2, decay_factor=0.25)
      >>> print(schedule.values(8).round(3))
      [0. 0.5 1. 0.75 0.5 0.25 0. 0. ]
    """
    given = nonnegative(
        base_learning_rate=base_learning_rate,
        warmup_steps=warmup_steps,
        decay_factor=decay_factor,
        steps_per_decay=steps_per_decay,
        steps_per_cycle=steps_per_cycle,
        min_learning_rate=min_learning_rate,
    )
    if not isinstance(factors, str):
        raise TypeError(f"`factors` must be names with `*` between them, got {factors!r}")
    product = [_factor(name.strip(), given) for name in factors.split("*")]
    schedule = product[0] if len(product) == 1 else multiply(*product)
    if is_given(step_offset, 0):
        offset = numbers(step_offset=step_offset)
        _require.finite(offset, "step_offset")
        schedule = shift(schedule, -offset["step_offset"])
    return clip(schedule, low=given["min_learning_rate"])


def _factor(name, given):
    base, warmup, factor, every, cycle, _ = given.values()
    if name == "constant":
        return constant(base)
    if name == "linear_warmup":
        return linear(0, 1, warmup)
    if name == "linear_decay":
        # In t5x this factor has `base_learning_rate` in it. Below 0 the floor hides it.
        falls = factor > 0
        down = linear(base, where(falls, 0, base), 1 / where(falls, factor, 1))
        return join([linear(0, base, warmup), down], listed([warmup]))
    if name == "decay_every":
        _require.positive(given, "steps_per_decay")
        return step_decay(1, every, factor)
    if name == "cosine_decay":
        _require.positive(given, "steps_per_cycle")
        return delay(repeat(cosine(1, cycle), cycle), warmup)
    roots = ("rsqrt_decay", "rsqrt_normalized_decay")
    known = ("constant", "linear_warmup", "linear_decay", "decay_every", "cosine_decay", *roots)
    _require.choice("factors", name, known)
    _require.positive(given, "warmup_steps")
    return delay(inverse_sqrt(warmup**-0.5 if name == "rsqrt_decay" else 1, 0, warmup), warmup)
