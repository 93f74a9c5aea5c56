"""Hugging Face transformers' schedules of the step count: `get_scheduler` and the functions behind
it.

The functions have their names, arguments and defaults, with the rate `lr` in place of the
optimizer, and without `last_epoch`: a run that begins in the middle of a schedule takes
`lrax.shift(schedule, steps)`. Parity is tested with transformers 5.23.0. Where it divides by the
length of a phase, it takes 1 for one that is shorter.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules.decays import linear, polynomial
from ..schedules.open_ended import inverse_sqrt
from ..schedules.phases import join
from ..schedules.plateaus import wsd
from ..schedules.schedule import Schedule, Static, constant
from ..schedules.shapes import between
from ..schedules.warmups import warmup_constant, warmup_linear
from ._transformers_waves import (
    _get_cosine_schedule_with_warmup,  # noqa: F401 - where pickle looks for it
    _get_cosine_with_min_lr_schedule_with_warmup,  # noqa: F401 - here, too
    get_cosine_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
)
from .arrays import listed, most, numbers
from .known import known_as, nonnegative

__all__ = [
    "get_constant_schedule",
    "get_constant_schedule_with_warmup",
    "get_cosine_schedule_with_warmup",
    "get_cosine_with_hard_restarts_schedule_with_warmup",
    "get_cosine_with_min_lr_schedule_with_warmup",
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
    "get_inverse_sqrt_schedule",
    "get_linear_schedule_with_warmup",
    "get_polynomial_decay_schedule_with_warmup",
    "get_scheduler",
    "get_wsd_schedule",
]


def get_constant_schedule(lr: ArrayLike) -> Schedule:
    """The same as `lrax.constant(lr)`.

    Args:
      lr: The rate, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is negative, infinite or NaN.

    Example:
      >>> lrax.compat.transformers.get_constant_schedule(lr=0.1)
      constant(value=0.1)
    """
    return constant(nonnegative(lr=lr)["lr"])


def get_constant_schedule_with_warmup(lr: ArrayLike, num_warmup_steps: ArrayLike) -> Schedule:
    """The same as `lrax.warmup_constant(lr, num_warmup_steps)`.

    Args:
      lr: Rate after the warmup, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is negative, infinite or NaN.

    Example:
      >>> lrax.compat.transformers.get_constant_schedule_with_warmup(lr=0.1, num_warmup_steps=10)
      warmup_constant(peak=0.1, warmup=10, init=0)
    """
    nonnegative(lr=lr, num_warmup_steps=num_warmup_steps)
    return warmup_constant(lr, num_warmup_steps)


def get_linear_schedule_with_warmup(
    lr: ArrayLike, num_warmup_steps: ArrayLike, num_training_steps: ArrayLike
) -> Schedule:
    """The same as `lrax.warmup_linear(lr, num_training_steps, num_warmup_steps)`.

    A warmup longer than the training goes on after its end, to `lr`, and the rate is then 0 at
    once.

    Args:
      lr: Highest rate, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_training_steps: Length of the whole, warmup included, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is negative, infinite or NaN.

    Example:
      >>> schedule = lrax.compat.transformers.get_linear_schedule_with_warmup(0.4, 2, 6)
      >>> schedule
      warmup_linear(peak=0.4, steps=6, warmup=2, init=0, end=0)
      >>> print(schedule.values(8).round(3))
      [0. 0.2 0.4 0.3 0.2 0.1 0. 0. ]
    """
    nonnegative(lr=lr, num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps)
    return warmup_linear(lr, most(num_training_steps, num_warmup_steps), num_warmup_steps)


def get_cosine_with_hard_restarts_schedule_with_warmup(
    lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    num_cycles: ArrayLike = 1,
) -> Schedule:
    r"""A warmup and `num_cycles` half cosine waves, each from `lr` down to 0, then 0.

    $$\eta(t) = \text{lr} \cdot \frac{1 + \cos(\pi \, (\text{num\_cycles} \cdot p \bmod 1))}{2}, \quad
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
      >>> schedule = lrax.compat.transformers.get_cosine_with_hard_restarts_schedule_with_warmup(0.4, 2, 8, 2)
      >>> print(schedule.values(10).round(3))
      [0. 0.2 0.4 0.3 0.1 0.4 0.3 0.1 0. 0. ]
    """
    hyperparams = nonnegative(
        lr=lr,
        num_warmup_steps=num_warmup_steps,
        num_training_steps=num_training_steps,
        num_cycles=num_cycles,
    )
    return Schedule(_get_cosine_with_hard_restarts_schedule_with_warmup, hyperparams)


def _get_cosine_with_hard_restarts_schedule_with_warmup(
    count, lr, num_warmup_steps, num_training_steps, num_cycles
):
    # A cycle in parts of the whole, by a remainder of steps times cycles, which is exact.
    steps = jnp.maximum(num_training_steps - num_warmup_steps, 1)
    turned = jnp.mod(num_cycles * jnp.clip(count - num_warmup_steps, 0, steps), steps)
    down = jnp.where(
        count - num_warmup_steps < steps, between(lr, 0, turned, steps - turned, steps, "cosine"), 0
    )
    up = between(0, lr, count, num_warmup_steps - count, num_warmup_steps)
    return jnp.where(count < num_warmup_steps, up, down)


def get_polynomial_decay_schedule_with_warmup(
    lr: ArrayLike,
    num_warmup_steps: ArrayLike,
    num_training_steps: ArrayLike,
    lr_end: ArrayLike = 1e-7,
    power: ArrayLike = 1.0,
) -> Schedule:
    """A warmup from 0, then the same as `lrax.polynomial(lr, lr_end, steps, power)` over the steps
    that are left.

    With a known `power` of 0 the rate is `lr` up to the update with the index
    `num_training_steps` included, and then `lr_end`. Without steps after the warmup, where
    transformers divides by zero, the rate is `lr_end` at once.

    Args:
      lr: Highest rate, above `lr_end`.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_training_steps: Length of the whole, warmup included, at least 0.
      lr_end: Rate at the end, at least 0.
      power: Exponent of the part left, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is negative, infinite or NaN, or `lr` is not above `lr_end`.

    Example:
      >>> schedule = lrax.compat.transformers.get_polynomial_decay_schedule_with_warmup(0.4, 2, 6, 0.0, power=2.0)
      >>> print(schedule.values(8).round(3))
      [0. 0.2 0.4 0.225 0.1 0.025 0. 0. ]
    """
    lengths = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    leaves = nonnegative(lr=lr, lr_end=lr_end, power=power, **lengths)
    _require.positive({"lr - lr_end": leaves["lr"] - leaves["lr_end"]}, "lr - lr_end")
    length = numbers(**lengths)
    if known_as(power, 0):
        after = most(length["num_training_steps"] + 1, length["num_warmup_steps"])
        return join([warmup_constant(lr, num_warmup_steps), lr_end], listed([after]))
    decay = polynomial(
        lr, lr_end, most(length["num_training_steps"] - length["num_warmup_steps"], 0), power
    )
    return join([linear(0.0, lr, num_warmup_steps), decay], listed([num_warmup_steps]))


def get_inverse_sqrt_schedule(
    lr: ArrayLike, num_warmup_steps: ArrayLike, timescale: ArrayLike | None = None
) -> Schedule:
    """The same as `lrax.inverse_sqrt(lr, num_warmup_steps, timescale)`.

    Args:
      lr: Highest rate, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      timescale: Updates after the warmup until the rate has fallen to 0.71 of `lr`, above 0. `None`
        is `num_warmup_steps`, or 10000 without a warmup.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is negative, infinite or NaN, or `timescale` is 0.

    Example:
      >>> lrax.compat.transformers.get_inverse_sqrt_schedule(lr=0.1, num_warmup_steps=10)
      inverse_sqrt(peak=0.1, warmup=10, end=0)
    """
    nonnegative(lr=lr, num_warmup_steps=num_warmup_steps)
    return inverse_sqrt(lr, num_warmup_steps, timescale)


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

    With a linear warmup and no `num_cycles` the same as `lrax.wsd(lr, num_training_steps,
    num_warmup_steps, num_decay_steps, init=floor, end=floor, shape=decay_type)` with `floor = lr *
    min_lr_ratio`; otherwise a formula of its own. The warmup begins at the floor, too. Where the
    plateau is less than nothing, because the warmup and the decay are longer than the training, the
    decay begins as far in.

    Args:
      lr: Rate of the plateau, at least 0.
      num_warmup_steps: Length of the warmup in optimizer updates, at least 0.
      num_decay_steps: Length of the decay, at least 0.
      num_training_steps: Length of the whole, at least 0; needed without `num_stable_steps`, and
        otherwise not used.
      num_stable_steps: Length of the plateau; `None` is what is left of `num_training_steps`.
      warmup_type: `"linear"`, `"cosine"` or `"1-sqrt"`.
      decay_type: One of the same words.
      min_lr_ratio: The floor in parts of `lr`, at least 0.
      num_cycles: Cosine waves in the decay, at least 0; after it the rate is at the floor at once.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, a word is unknown, or neither length is
        given.

    Example:
      >>> schedule = lrax.compat.transformers.get_wsd_schedule(1.0, 2, 4, 8, decay_type="linear", min_lr_ratio=0.5)
      >>> schedule
      wsd(peak=1, steps=8, warmup=2, cooldown=4, init=0.5, end=0.5, shape='linear')
      >>> print(schedule.values(9).round(3))
      [0.5 0.75 1. 1. 1. 0.875 0.75 0.625 0.5 ]
    """
    _require.choice("warmup_type", warmup_type, _WARMUP_SHAPES)
    _require.choice("decay_type", decay_type, _WARMUP_SHAPES)
    given = {"lr": lr, "num_warmup_steps": num_warmup_steps, "num_decay_steps": num_decay_steps}
    given |= {"min_lr_ratio": min_lr_ratio, "num_cycles": num_cycles}
    leaves, value = nonnegative(**given), numbers(**given)
    if num_stable_steps is not None:
        stable = numbers(num_stable_steps=num_stable_steps)["num_stable_steps"]
    elif num_training_steps is not None:
        nonnegative(num_training_steps=num_training_steps)
        whole = numbers(num_training_steps=num_training_steps)["num_training_steps"]
        stable = whole - value["num_warmup_steps"] - value["num_decay_steps"]
    else:
        raise ValueError(
            "one of `num_training_steps` and `num_stable_steps` must be given, got None and None"
        )
    leaves |= _require.real(num_stable_steps=stable)
    _require.finite(leaves, "num_stable_steps")
    halves = decay_type != "cosine" or known_as(num_cycles, 0.5)
    if warmup_type == "linear" and halves and known_as(stable >= 0, True):
        steps, end = (
            value["num_warmup_steps"] + stable + value["num_decay_steps"],
            value["lr"] * value["min_lr_ratio"],
        )
        return wsd(
            lr, steps, num_warmup_steps, num_decay_steps, init=end, end=end, shape=decay_type
        )
    words = {"warmup_type": Static(warmup_type), "decay_type": Static(decay_type)}
    return Schedule(_get_wsd_schedule, {**leaves, **words})


# Their 1 - sqrt(1 - p) of the way up leaves sqrt(1 - p) of the way.
_WARMUP_SHAPES = {"linear": "linear", "cosine": "cosine", "1-sqrt": "sqrt"}


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


FUNCTIONS: dict[str, Callable[..., Schedule]] = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "cosine_with_restarts": get_cosine_with_hard_restarts_schedule_with_warmup,
    "polynomial": get_polynomial_decay_schedule_with_warmup,
    "constant": get_constant_schedule,
    "constant_with_warmup": get_constant_schedule_with_warmup,
    "inverse_sqrt": get_inverse_sqrt_schedule,
    "cosine_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup,
    "cosine_warmup_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    "warmup_stable_decay": get_wsd_schedule,
}

CONTROLLERS = ("reduce_lr_on_plateau", "greedy")


def get_scheduler(
    name: str,
    lr: ArrayLike,
    num_warmup_steps: ArrayLike | None = None,
    num_training_steps: ArrayLike | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> Schedule:
    """The schedule of a name, as in `transformers.get_scheduler`.

    Args:
      name: One of the names of `transformers.SchedulerType`, or a member of it: `"linear"`,
        `"cosine"`, `"cosine_with_restarts"`, `"polynomial"`, `"constant"`,
        `"constant_with_warmup"`, `"inverse_sqrt"`, `"cosine_with_min_lr"`,
        `"cosine_warmup_with_min_lr"` or `"warmup_stable_decay"`. The other two,
        `"reduce_lr_on_plateau"` and `"greedy"`, follow the loss: they are no functions of the step
        count.
      lr: The optimizer's rate, which is the highest of nearly all of them.
      num_warmup_steps: Length of the warmup in optimizer updates. All but `"constant"`, which
        ignores it, need it.
      num_training_steps: Length of the whole, warmup included. Those that end need it.
      scheduler_specific_kwargs: Further arguments of the function behind the name; `"constant"` and
        `"constant_with_warmup"` ignore them, as in transformers.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if the name is unknown or no function of the count, a length that it needs is
        missing, or a known number is out of its range.
      TypeError: if the function takes no such argument.

    Example:
      >>> schedule = lrax.compat.transformers.get_scheduler("cosine_with_min_lr", 0.4, 2, 6, {"min_lr_rate": 0.25})
      >>> print(schedule.values(7).round(3))
      [0. 0.2 0.4 0.356 0.25 0.144 0.1 ]
    """
    name = getattr(name, "value", name)
    if name in CONTROLLERS:
        raise ValueError(
            f"`name` must be a schedule of the step count, got {name!r}, which follows the loss"
        )
    _require.choice("name", name, FUNCTIONS)
    given = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    takes = inspect.signature(FUNCTIONS[name]).parameters
    for length, value in given.items():
        if value is None and length in takes and takes[length].default is inspect.Parameter.empty:
            raise ValueError(f"`{length}` must be given for {name!r}, got None")
    lengths = {
        length: value for length, value in given.items() if length in takes and value is not None
    }
    constants = name in ("constant", "constant_with_warmup")
    specific = {} if constants else dict(scheduler_specific_kwargs or {})
    return FUNCTIONS[name](lr, **lengths, **specific)
