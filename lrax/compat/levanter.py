"""Levanter's `OptimizerConfig.lr_scheduler`, with the names of its configuration as arguments."""

import itertools
from collections.abc import Sequence

from jax.typing import ArrayLike

from .. import _require
from ..schedules.combinators import delay, shift
from ..schedules.open_ended import inverse_sqrt, power_law
from ..schedules.ramps import ramp
from ..schedules.schedule import Schedule, constant
from .arrays import least, most, nonnegative, numbers, where, whole
from .optax import cosine_decay_schedule, join_schedules, linear_schedule

__all__ = ["lr_scheduler"]

_SCHEDULES = ("constant", "cosine", "linear", "inv_sqrt", "inv", "power")


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
    lr_schedule: str = "cosine",
    exponent: ArrayLike = 1.0,
    timescale: ArrayLike = 10_000,
    batch_size: ArrayLike | None = None,
    seq_length: ArrayLike | None = None,
    a: ArrayLike = 4.6,
    b: ArrayLike = -0.51,
) -> Schedule:
    r"""In every cycle a warmup, a plateau and a decay: `lrax.join`.

    A duration of at most 1 is a fraction of its cycle, rounded down (so 1 is the whole, not one
    update); above 1 it is a number of updates. A cycle warms up from where the one before ended.
    Each decay has its own clock: the inverse square root holds the peak until `timescale` updates,
    whatever the warmup; `"inv"`, a line of the reciprocal, has equal rates at its first two
    updates; the tokens of `"power"` count from the end of the warmup, and do not overflow here.

    Args:
      num_train_steps: Length of the whole in optimizer updates; known where there are cycles.
      learning_rate: Highest rate, at least 0.
      min_lr_ratio: Rate at the end in parts of it, at least 0; above 0 with `"inv"`.
      warmup: Warmup of the first cycle, from 0.
      decay: The decay of every cycle; `None` is what the warmup leaves.
      rewarmup: Warmup of the other cycles.
      cooldown: A line to the lowest rate after all cycles, in parts of the whole.
      cycle_length: Length of the cycles, or a list of lengths.
      cycles: Number of cycles, or a list of their ends.
      lr_schedule: `"constant"`, `"cosine"`, `"linear"`, `"inv_sqrt"`, `"inv"` or `"power"`.
      exponent: Of the cosine shape, above 0.
      timescale: Of the inverse square root, above 0.
      batch_size: Of the power law: sequences in one update.
      seq_length: Of the power law: tokens in one sequence.
      a: Of the power law: its amplitude.
      b: Of the power law: its exponent, below 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, a word is unknown, or cycles are given
        twice.

    Example:
      >>> schedule = lrax.compat.levanter.lr_scheduler(8, learning_rate=1.0, warmup=0.25, min_lr_ratio=0.0)
      >>> print(schedule.values(9).round(3))
      [0. 0.5 1. 0.933 0.75 0.5 0.25 0.067 0. ]
    """
    _require.choice("lr_schedule", lr_schedule, _SCHEDULES)
    given = nonnegative(
        num_train_steps=num_train_steps, learning_rate=learning_rate, min_lr_ratio=min_lr_ratio
    )
    total, peak, ratio = given.values()
    floor = peak * ratio
    cooling = None if cooldown is None else _steps("cooldown", cooldown, total)
    main = total if cooling is None else total - cooling

    def built(warmup_steps, steps):
        """The decay of a cycle, and the rate that it ends at."""
        if lr_schedule == "constant":
            return constant(peak), peak
        if lr_schedule == "linear":
            return linear_schedule(peak, floor, steps), where(steps > 0, floor, peak)
        if lr_schedule == "cosine":
            return cosine_decay_schedule(peak, steps, ratio, exponent), floor
        if lr_schedule == "inv":
            _require.positive({"min_lr_ratio": ratio}, "min_lr_ratio")
            return delay(shift(ramp(peak, floor, steps, shape="inverse"), 1), 1), floor
        if lr_schedule == "inv_sqrt":
            scale = nonnegative(timescale=timescale)["timescale"]
            _require.positive({"timescale": scale}, "timescale")
            last = peak * least((scale / most(steps + warmup_steps, 1)) ** 0.5, 1)
            return shift(inverse_sqrt(peak, 0, scale, end=floor), warmup_steps - scale), most(
                last, floor
            )
        if batch_size is None or seq_length is None:
            raise ValueError("`batch_size` and `seq_length` must be given for 'power', got none")
        law = nonnegative(batch_size=batch_size, seq_length=seq_length, a=a)
        exponent_of_tokens = numbers(b=b)["b"]
        tokens = law["batch_size"] * law["seq_length"]
        last = law["a"] * law["batch_size"] * (most(steps, 1) * tokens) ** exponent_of_tokens
        return power_law(peak, law["batch_size"], tokens, a=a, b=b), least(
            where(steps > 0, last, peak), peak
        )

    points = _points(main, cycle_length, cycles)
    pieces, boundaries, before = [], [], 0.0
    for i, (start, end) in enumerate(itertools.pairwise(points)):
        length = end - start
        up = _steps("rewarmup", rewarmup, length) if i else _steps("warmup", warmup, length)
        down = length - up if decay is None else _steps("decay", decay, length)
        schedule, last = built(up, down)
        pieces += [linear_schedule(where(up > 0, before, peak), peak, up), constant(peak), schedule]
        boundaries += [start + up, end - down, end]
        before = last
    if cooling is None:
        return join_schedules(pieces, boundaries[:-1])
    return join_schedules([*pieces, linear_schedule(before, floor, cooling)], boundaries)


def _steps(name, duration, whole_steps):
    value = nonnegative(**{name: duration})[name]
    return where(value <= 1, whole(value * whole_steps), whole(value))


def _points(main, cycle_length, cycles):
    """The start of every cycle, and the end of the last."""
    if cycle_length is not None and cycles is not None:
        raise ValueError("`cycle_length` or `cycles` must be given and not both")
    if cycle_length is None and cycles is None:
        return [0.0, main]
    if isinstance(cycles, int):
        ends = [int(main / cycles * (i + 1)) for i in range(cycles - 1)]
    elif cycles is not None:
        ends = list(cycles)
    elif isinstance(cycle_length, (int, float)):
        # The last whole cycle goes on to the end.
        length = int(_steps("cycle_length", cycle_length, main))
        ends = [i * length for i in range(1, int(main // length))]
    else:
        ends = list(itertools.accumulate(cycle_length or ()))
        _require.at_most(
            "`cycle_length` must sum to at most `num_train_steps`", float(ends[-1]), main
        )
    return [0.0, *map(float, ends)] + ([main] if not ends or ends[-1] != main else [])
