"""Hugging Face transformers' cosine with hard restarts."""

from jax import numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.counts import real
from ...schedules.schedule import Schedule
from ...schedules.shapes import between
from ..arguments import nonnegative


def get_cosine_with_hard_restarts_schedule_with_warmup(
    lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    num_cycles: ArrayLike = 1,
) -> Schedule:
    r"""A warmup and `num_cycles` half cosine waves, each from `lr` down to 0, then 0.

    $$\eta(t) = \text{lr} \cdot
    \frac{1 + \cos(\pi \, (\text{num\_cycles} \cdot p \bmod 1))}{2}, \quad
    p = \frac{t - \text{num\_warmup\_steps}}{\text{num\_training\_steps} -
    \text{num\_warmup\_steps}} < 1$$

    A formula of its own: the restarts are exact where the length of a cycle is no whole number,
    which `lrax.cosine_restarts` takes as a float.

    Args:
      lr: Highest rate, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_training_steps: Length of the whole, warmup included, at least 0.
      num_cycles: Half waves in it, at least 0. Of 2.5, the last is cut in its middle, where the
        rate falls to 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is negative, infinite or NaN.

    Example:
      >>> schedule = lrax.compat.transformers.get_cosine_with_hard_restarts_schedule_with_warmup(
      ...     0.4, 2, 8, 2
      ... )
      >>> print(schedule.values(10).round(3))
      [0. 0.2 0.4 0.3 0.1 0.4 0.3 0.1 0. 0. ]
    """
    given = nonnegative(
        lr=lr,
        num_warmup_steps=num_warmup_steps,
        num_training_steps=num_training_steps,
        num_cycles=num_cycles,
    )
    return Schedule(_get_cosine_with_hard_restarts_schedule_with_warmup, _require.real(**given))


@builder(
    get_cosine_with_hard_restarts_schedule_with_warmup,
    name="compat.transformers.get_cosine_with_hard_restarts_schedule_with_warmup",
)
def _get_cosine_with_hard_restarts_schedule_with_warmup(
    count, lr, num_warmup_steps, num_training_steps, num_cycles
):
    count = real(count)
    # A cycle in parts of the whole, by a remainder of steps times cycles, which is exact.
    steps = jnp.maximum(num_training_steps - num_warmup_steps, 1)
    turned = jnp.mod(num_cycles * jnp.clip(count - num_warmup_steps, 0, steps), steps)
    down = jnp.where(
        count - num_warmup_steps < steps, between(lr, 0, turned, steps - turned, steps, "cosine"), 0
    )
    up = between(0, lr, count, num_warmup_steps - count, num_warmup_steps)
    return jnp.where(count < num_warmup_steps, up, down)
