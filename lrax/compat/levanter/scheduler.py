"""Levanter's `OptimizerConfig.lr_scheduler`, with the names of its configuration as arguments.

It follows marin-community/marin at commit 0f45aa1c, lib/levanter/src/levanter/optim/config.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jax.typing import ArrayLike

from ... import _require
from ...schedules.combinators import delay, shift
from ...schedules.open_ended import inverse_sqrt, power_law
from ...schedules.phases import join
from ...schedules.ramps import ramp
from ...schedules.schedule import Schedule, constant
from ..arguments import (
    Number,
    finite,
    floor,
    is_concrete,
    is_known_as,
    is_whole,
    largest,
    listed,
    nonnegative,
    positive,
    smallest,
    where,
)
from ..optax import cosine_decay_schedule, linear_schedule, polynomial_schedule

Shape = Literal[
    "constant", "cosine", "linear", "inv_sqrt", "inv", "polynomial", "inv_sqrt_decay", "power"
]

_MOST_CYCLES = 1024  # each cycle makes the compiled program longer


def lr_scheduler(
    num_train_steps: ArrayLike,
    *,
    learning_rate: ArrayLike = 6e-4,
    min_lr_ratio: ArrayLike = 0.1,
    warmup: ArrayLike = 0.01,
    decay: ArrayLike | None = None,
    rewarmup: ArrayLike = 0.0,
    cooldown: ArrayLike | None = None,
    cycle_length: float | Sequence[int] | None = None,
    cycles: int | Sequence[int] | None = None,
    lr_schedule: Shape = "cosine",
    exponent: ArrayLike = 1.0,
    timescale: ArrayLike = 10_000,
    power: ArrayLike = 2.0,
    decay_constant: ArrayLike = 28.6,
    batch_size: ArrayLike | None = None,
    seq_length: ArrayLike | None = None,
    a: ArrayLike = 4.6,
    b: ArrayLike = -0.51,
) -> Schedule:
    r"""In every cycle a warmup, a plateau and a decay: `lrax.join`.

    A duration of at most 1 is a fraction of its cycle, rounded down (so 1 is the whole cycle, not
    one update). Above 1 it is a whole number of updates. A warmup is cut at the end of its cycle,
    and a decay at what the warmup leaves. Without a decay the rate stays at its highest. A cycle
    warms up from the rate at which the one before ended.

    Each decay counts from its own start. `"inv_sqrt"` holds the highest rate until `timescale`
    updates, the warmup included. `"inv"` is a straight line in 1 / rate, and its first two updates
    have equal rates. The tokens of `"power"` count from the end of the warmup.

    Args:
      num_train_steps: Length of the whole in optimizer updates; concrete where there are cycles.
      learning_rate: Highest rate, at least 0.
      min_lr_ratio: Rate at the end as a fraction of it, at least 0; above 0 with `"inv"`.
      warmup: Warmup of the first cycle, at least 0.
      decay: The decay of every cycle, at least 0; `None` is all that the warmup leaves.
      rewarmup: Warmup of the other cycles, at least 0.
      cooldown: Length of a line to the lowest rate after all cycles. A length of at most 1 is a
        fraction of the whole.
      cycle_length: Length of the cycles, or a list of lengths; at most 1024 cycles.
      cycles: Number of cycles, at most 1024, or a list of their ends.
      lr_schedule: `"constant"`, `"cosine"`, `"linear"`, `"inv_sqrt"`, `"inv"`, `"polynomial"`,
        `"inv_sqrt_decay"` or `"power"`.
      exponent: Exponent of `"cosine"`, above 0.
      timescale: Time scale of `"inv_sqrt"`, above 0.
      power: Exponent of `"polynomial"`, at least 0.
      decay_constant: How fast `"inv_sqrt_decay"` falls, above 0: its last rate is the highest one
        over `sqrt(1 + decay_constant)`.
      batch_size: Sequences in one update, for `"power"`.
      seq_length: Tokens in one sequence, for `"power"`.
      a: Amplitude of `"power"`, above 0.
      b: Exponent of `"power"`, below 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, an option is unknown, or both
        `cycle_length` and `cycles` are given.
      TypeError: if an argument is not a number where one is needed.

    Example:
      >>> levanter = lrax.compat.levanter.lr_scheduler
      >>> print(levanter(8, learning_rate=1.0, warmup=0.25, min_lr_ratio=0.0).values(9).round(3))
      [0. 0.5 1. 0.933 0.75 0.5 0.25 0.067 0. ]
    """
    _require.choice("lr_schedule", lr_schedule, Shape.__args__)
    given = nonnegative(
        num_train_steps=num_train_steps, learning_rate=learning_rate, min_lr_ratio=min_lr_ratio
    )
    total, peak, ratio = given.values()
    given |= positive(exponent=exponent, timescale=timescale, decay_constant=decay_constant)
    given |= nonnegative(power=power)
    if lr_schedule == "inv":
        _require.positive(given, "min_lr_ratio")
    if lr_schedule == "power":
        given |= _power_law(batch_size, seq_length, a, b)
    cooling = None if cooldown is None else _steps("cooldown", cooldown, total)
    main = total if cooling is None else largest(total - cooling, 0)
    low = peak * ratio
    parts = []
    boundaries = []
    before = np.float64(0)
    points = _points(main, cycle_length, cycles)
    for i, (start, stop) in enumerate(itertools.pairwise(points)):
        length = stop - start
        wanted = _steps("rewarmup", rewarmup, length) if i else _steps("warmup", warmup, length)
        up = smallest(wanted, length)
        most = length - up
        down = most if decay is None else smallest(_steps("decay", decay, length), most)
        falls, last = _decay(lr_schedule, up, down, given)
        parts += [linear_schedule(where(up > 0, before, peak), peak, up), constant(peak), falls]
        boundaries += [start + up, stop - down, stop]
        before = last
    if cooling is None:
        return join(parts, listed(boundaries[:-1]))
    return join([*parts, linear_schedule(before, low, cooling)], listed(boundaries))


def _decay(
    shape: Shape, warmup: Number, steps: Number, given: dict[str, Number]
) -> tuple[Schedule, Number]:
    """The decay of a cycle, and the rate that it ends at: the highest one without a decay."""
    peak = given["learning_rate"]
    if shape == "constant" or is_known_as(steps, 0):
        return constant(peak), peak
    some = largest(steps, 1)
    falls, last = _falls(shape, warmup, some, given)
    if not is_concrete(steps):  # it may turn out to be 0
        falls = join([constant(peak), falls], listed([where(steps > 0, 0.0, 2.0**31)]))
    return falls, where(steps > 0, last, peak)


def _falls(
    shape: Shape, warmup: Number, steps: Number, given: dict[str, Number]
) -> tuple[Schedule, Number]:
    """The decay over at least one update, and the rate that it ends at."""
    peak = given["learning_rate"]
    ratio = given["min_lr_ratio"]
    low = peak * ratio
    if shape == "cosine":
        exponent = 1 if is_known_as(given["exponent"], 1) else given["exponent"]
        return cosine_decay_schedule(peak, steps, ratio, exponent), low
    if shape == "linear":
        return linear_schedule(peak, low, steps), low
    if shape == "polynomial":
        power = given["power"]
        return polynomial_schedule(peak, low, power, steps), where(power > 0, low, peak)
    if shape == "inv":
        # Levanter's first two updates have the rate of the second one.
        return delay(shift(ramp(peak, low, steps, shape="inverse"), 1), 1), low
    if shape == "inv_sqrt":
        # Levanter counts from the start of the warmup, and holds the rate until `timescale`.
        scale = given["timescale"]
        part = smallest((scale / (steps + warmup)) ** 0.5, 1)
        falls = shift(inverse_sqrt(peak, 0, scale, end=low), warmup - scale)
        return falls, largest(peak * part, low)
    if shape == "inv_sqrt_decay":
        speed = given["decay_constant"]
        falls = inverse_sqrt(peak, 0, steps / speed, end=low)
        return falls, largest(peak / (1 + speed) ** 0.5, low)
    size = given["batch_size"]
    tokens = size * given["seq_length"]
    falls = power_law(peak, size, tokens, a=given["a"], b=given["b"])
    return falls, smallest(given["a"] * size * (steps * tokens) ** given["b"], peak)


def _power_law(
    batch_size: ArrayLike | None, seq_length: ArrayLike | None, a: ArrayLike, b: ArrayLike
) -> dict[str, Number]:
    """The numbers of `"power"`."""
    if batch_size is None or seq_length is None:
        raise ValueError(
            "`batch_size` and `seq_length` must be given for 'power', got"
            f" {batch_size} and {seq_length}"
        )
    given = positive(batch_size=batch_size, seq_length=seq_length, a=a) | finite(b=b)
    if is_concrete(given["b"]) and not given["b"] < 0:
        raise ValueError(f"`b` must be below 0, got {b}")
    return given


def _steps(name: str, duration: ArrayLike, whole: Number) -> Number:
    """A duration in updates."""
    value = nonnegative(**{name: duration})[name]
    if is_concrete(value) and value > 1 and not is_whole(value):
        raise ValueError(f"`{name}` must be a fraction up to 1, or a whole number, got {duration}")
    return where(value <= 1, floor(value * whole), value)


def _points(
    main: Number, cycle_length: float | Sequence[int] | None, cycles: int | Sequence[int] | None
) -> list[Number]:
    """The start of every cycle, and the end of the last."""
    if cycle_length is None and cycles is None:
        return [np.float64(0), main]
    if cycle_length is not None and cycles is not None:
        raise ValueError("`cycle_length` or `cycles` must be given and not both, got both")
    if not is_concrete(main):
        raise ValueError(
            "`num_train_steps` and `cooldown` must be concrete where there are cycles, got tracers"
        )
    name, value = ("cycles", cycles) if cycle_length is None else ("cycle_length", cycle_length)
    if isinstance(value, (list, tuple)):
        ends = [nonnegative(**{name: end})[name] for end in value]
        ends = ends if name == "cycles" else list(itertools.accumulate(ends))
        number = len(ends)
    elif name == "cycles":
        number = _require.count(name, value, 1)
        parts = range(1, min(number, _MOST_CYCLES + 1))
        ends = [np.floor(main / number * i) for i in parts]
    else:
        if not is_concrete(value):
            raise ValueError(f"`{name}` must be concrete, got {value}")
        length = _steps(name, value, main)  # pyright: ignore[reportArgumentType]
        _require.at_least({name: length}, 1, name)
        # The last whole cycle goes on to the end.
        number = int(main // length)
        ends = [i * length for i in range(1, min(number, _MOST_CYCLES + 1))]
    if number > _MOST_CYCLES:
        raise ValueError(f"`{name}` must make at most {_MOST_CYCLES} cycles, got {number}")
    if any(first > second for first, second in itertools.pairwise([0, *ends, main])):
        raise ValueError(f"`{name}` must be in ascending order up to {main}, got {value}")
    return [np.float64(0), *ends] + ([main] if not ends or ends[-1] != main else [])
