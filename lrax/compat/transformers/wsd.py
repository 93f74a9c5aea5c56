"""Hugging Face transformers' warmup, plateau and decay.

They follow src/transformers/optimization.py of transformers 5.23.0.
"""

from __future__ import annotations

from jax import numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.plateaus import wsd
from ...schedules.schedule import Schedule, Static
from ...schedules.shapes import between
from ..arguments import finite, is_known_as, nonnegative


def get_wsd_schedule(
    lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_decay_steps: ArrayLike,
    num_training_steps: ArrayLike | None = None,
    num_stable_steps: ArrayLike | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: ArrayLike = 0.0,
    num_cycles: ArrayLike = 0.5,
) -> Schedule:
    """A warmup from the floor to `lr`, a plateau, and a decay to the floor.

    With a linear warmup and the default `num_cycles`, it is `lrax.wsd(lr, num_training_steps,
    num_warmup_steps, num_decay_steps, init=floor, end=floor, shape=decay_type)` with `floor = lr *
    min_lr_ratio`. Otherwise it has a formula of its own. If the warmup and the decay together are
    longer than the training, the decay skips as many of its first updates as are missing.

    Args:
      lr: Rate of the plateau, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_decay_steps: Length of the decay, at least 0.
      num_training_steps: Length of the whole, at least 0; needed without `num_stable_steps`, and
        otherwise not used.
      num_stable_steps: Length of the plateau; `None` is what is left of `num_training_steps`.
      warmup_type: `"linear"`, `"cosine"` or `"1-sqrt"`.
      decay_type: One of the same three.
      min_lr_ratio: The floor as a fraction of `lr`, at least 0.
      num_cycles: Cosine waves in the decay, at least 0; after it the rate is at the floor at once.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, an option is unknown, or neither length
        is given.

    Example:
      >>> schedule = lrax.compat.transformers.get_wsd_schedule(
      ...     1.0, 2, 4, 8, decay_type="linear", min_lr_ratio=0.5
      ... )
      >>> schedule
      wsd(peak=1, steps=8, warmup=2, cooldown=4, init=0.5, end=0.5, shape='linear')
      >>> print(schedule.values(9).round(3))
      [0.5 0.75 1. 1. 1. 0.875 0.75 0.625 0.5 ]
    """
    _require.choice("warmup_type", warmup_type, _WARMUP_SHAPES)
    _require.choice("decay_type", decay_type, _WARMUP_SHAPES)
    given = nonnegative(
        lr=lr,
        num_warmup_steps=num_warmup_steps,
        num_decay_steps=num_decay_steps,
        min_lr_ratio=min_lr_ratio,
        num_cycles=num_cycles,
    )
    rate, warmup_steps, decay_steps, ratio, cycles = given.values()
    if num_stable_steps is not None:
        stable = finite(num_stable_steps=num_stable_steps)["num_stable_steps"]
    elif num_training_steps is not None:
        whole = nonnegative(num_training_steps=num_training_steps)["num_training_steps"]
        stable = whole - warmup_steps - decay_steps
    else:
        raise ValueError(
            "one of `num_training_steps` and `num_stable_steps` must be given, got None and None"
        )
    half_a_wave = decay_type != "cosine" or is_known_as(cycles, 0.5)
    if warmup_type == "linear" and half_a_wave and is_known_as(stable >= 0, True):
        steps = warmup_steps + stable + decay_steps
        floor = rate * ratio
        return wsd(rate, steps, warmup_steps, decay_steps, init=floor, end=floor, shape=decay_type)
    leaves = _require.real(**given, num_stable_steps=stable)
    words = {"warmup_type": Static(warmup_type), "decay_type": Static(decay_type)}
    return Schedule(_get_wsd_schedule, {**leaves, **words})


# transformers' "1-sqrt" warmup has climbed 1 - sqrt(1 - p) at the part p: the shape "sqrt" here.
_WARMUP_SHAPES = {"linear": "linear", "cosine": "cosine", "1-sqrt": "sqrt"}


@builder(get_wsd_schedule, name="compat.transformers.get_wsd_schedule")
def _get_wsd_schedule(
    count,
    lr,
    num_warmup_steps,
    num_decay_steps,
    num_stable_steps,
    warmup_type,
    decay_type,
    min_lr_ratio,
    num_cycles,
):
    count = real(count)
    floor = lr * min_lr_ratio
    left = num_warmup_steps - count
    up = between(floor, lr, count, left, num_warmup_steps, _WARMUP_SHAPES[warmup_type])
    done = count - num_warmup_steps - num_stable_steps
    steps = jnp.maximum(num_decay_steps, 1)
    part = jnp.clip(done, 0, steps)
    if decay_type == "cosine":
        part = jnp.mod(2 * num_cycles * part, 2 * steps)
        part = jnp.minimum(part, 2 * steps - part)
    down = between(lr, floor, part, steps - part, steps, decay_type)
    return jnp.where(left > 0, up, jnp.where(done < num_decay_steps, down, floor))
