"""The landmarks of schedules, for pictures and tables: the end of a schedule, and its changes.

Most builders need no rule of their own: `by_vocabulary` reads the names of the hyperparameters,
which mean the same in every builder. A builder has its own rule if, for example, its rate has no
definite end, as in an exponential, or if it changes the count of another schedule.
`@builder(..., landmarks=rule)` ties the rule to the builder.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_SMALL = 0.01  # a rate that falls forever is shown until it is this fraction of its start
_MORE = 1.25  # a schedule without an end is shown for this multiple of the time to its last change
_MARKS = 6  # the most marks of one kind: each is a row of the table that `lrax show` prints


class Landmarks(NamedTuple):
    """Where things happen in a schedule."""

    # The count where the schedule is over, or nearly; None if it has no time scale of its own.
    end: float | None = None
    settled: bool = False  # whether the rate is constant from the end on
    marks: tuple[tuple[float, str], ...] = ()  # counts and what happens there


class Known(NamedTuple):
    """The hyperparameters of a schedule by kind, with the landmarks of each inner schedule."""

    numbers: dict[str, np.ndarray]
    children: list[Landmarks]  # of all schedules among the hyperparameters
    words: dict[str, Any]
    child: list[Landmarks]  # only of the hyperparameter named `schedule`

    def longest(self, *names: str) -> float:
        """The largest finite value under these names, over all lanes and entries; 0 for none."""
        values = np.concatenate(
            [[0.0], *(self.numbers[name].ravel() for name in names if name in self.numbers)]
        )
        return float(np.max(values, where=np.isfinite(values), initial=0.0))


def latest(children: list[Landmarks], offset: float = 0.0) -> Landmarks:
    """The landmarks of several schedules that run side by side and begin at `offset`."""
    known = [child for child in children if child.end is not None]
    marks = tuple((count + offset, words) for child in children for count, words in child.marks)
    if not known:
        return Landmarks(None, False, marks)
    # Of two schedules that end at the same count, a settled one is preferred.
    last = max(known, key=lambda child: (child.end, child.settled))
    end = last.end + offset  # pyright: ignore[reportOptionalOperand]
    return Landmarks(end, last.settled, marks)


def by_vocabulary(known: Known) -> Landmarks:
    """The landmarks that follow from the names of the hyperparameters.

    `steps` is the whole length, including the warmup. Without `steps`, the last boundary determines
    the end; if there is no boundary either, the sum of the phases does.
    """
    begin, warmup, cooldown, steps = map(known.longest, ("begin", "warmup", "cooldown", "steps"))
    points = [
        known.numbers[name].ravel()
        for name in ("milestones", "boundaries", "at")
        if name in known.numbers
    ]
    points = [
        float(count) for count in np.sort(np.concatenate([[], *points])) if math.isfinite(count)
    ]
    marks = [(begin + count, "boundary") for count in points[:_MARKS]]
    if warmup:
        marks.append((begin + warmup, "end of warmup"))
    if steps and cooldown:
        marks.append((begin + steps - cooldown, "start of cooldown"))
    phases = (
        "warmup",
        "hold",
        "up",
        "down",
        "first",
        "period",
        "timescale",
        "step_size",
        "cooldown",
    )
    if steps:
        own = Landmarks(begin + steps, True)
    elif points:
        own = Landmarks(begin + _MORE * points[-1], False)
    else:
        own = Landmarks(begin + sum(map(known.longest, phases)) or None, True)
    whole = latest([own, *known.children])
    return whole._replace(marks=(*marks, *whole.marks))


def _times_to(part: float, factor: np.ndarray) -> float:
    """How many times a factor must be applied to change a rate by `part`, or by its reciprocal.

    Of several lanes the largest number is taken. If no lane ever changes that far, as with a
    factor of 1, the result is 10.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.abs(math.log(part) / np.log(np.asarray(factor, np.float64)))
    times = times[np.isfinite(times) & (times > 0)]
    return float(times.max()) if times.size else 10.0


def exponential(known):
    """The landmarks of `exponential`."""
    rate = known.numbers["rate"]
    times = _times_to(_SMALL, rate)
    # How many times the factor is applied until the bound `end` is reached; NaN without a bound.
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.log(known.numbers.get("end", np.nan) / known.numbers["init"]) / np.log(rate)
    floored = bool(np.all((floor > 0) & (floor <= times)))
    end = known.longest("begin") + (float(np.max(floor)) if floored else times) * known.longest(
        "steps"
    )
    return Landmarks(end, floored)


def inverse_time(known):
    """The landmarks of `inverse_time`: the end is where the rate is a tenth of its start."""
    with np.errstate(divide="ignore", invalid="ignore"):
        to_a_tenth = 9 / known.numbers["rate"] * known.numbers["steps"]
    return Landmarks(float(np.max(to_a_tenth, where=np.isfinite(to_a_tenth), initial=0)) or None)


def step_decay(known):
    """The landmarks of `step_decay`."""
    # 1e-6 is subtracted, so that a rounding error does not add a drop.
    drops = min(max(math.ceil(_times_to(_SMALL, known.numbers["factor"]) - 1e-6), 2), 8)
    size = known.longest("step_size")
    return Landmarks(
        (drops + 1) * size,
        False,
        tuple((size * i, "step") for i in range(1, min(drops, _MARKS) + 1)),
    )


def after_warmup(times: float, scale: str = "warmup") -> Callable[[Known], Landmarks]:
    """A rule for schedules that end `times * scale` updates after the warmup.

    `scale` names a hyperparameter. If it is 0 or absent, the length of the warmup is taken.
    """

    def rule(known):
        warmup = known.longest("warmup")
        end = warmup + times * (known.longest(scale) or warmup)
        return Landmarks(end or None, False, ((warmup, "end of warmup"),) if warmup else ())

    return rule


def untuned_warmup(known):
    """The landmarks of `untuned_warmup`: only the linear kind has an end."""
    with np.errstate(divide="ignore"):
        end = float(np.max(2 / (1 - known.numbers["b2"])))
    linear = known.words["kind"] == "linear"
    return Landmarks((1 if linear else 2) * end, linear, ((end, "end of warmup"),))


def open_ended(known):
    """The landmarks of a schedule whose rate goes on after its last phase."""
    found = by_vocabulary(known)
    return found._replace(end=_MORE * (found.end or 0) or None, settled=False)


def cosine_restarts(known):
    """The landmarks of `cosine_restarts`."""
    first, mult = known.longest("first"), known.longest("mult")
    limited = "cycles" in known.numbers
    cycles = 4 if mult < 1.5 else 3
    if limited:  # a cycle that has begun runs to its end
        cycles = max(min(math.ceil(known.longest("cycles")), 64), 1)
    ends = np.cumsum(first * mult ** np.arange(cycles))
    # If the number of cycles is limited, there is no restart at the end of the last one.
    marks = tuple((float(end), "restart") for end in ends[: min(cycles - limited, _MARKS)])
    # Cycles that become shorter end, even if there are infinitely many.
    end = first / (1 - mult) if mult < 1 and not limited else ends[-1]
    return Landmarks(float(end), limited or mult < 1, marks)


def cyclic(known):
    """The landmarks of `cyclic`, which has no end: four cycles are shown."""
    up = known.longest("up")
    cycle = up + (known.longest("down") if "down" in known.numbers else up)
    return Landmarks(4 * cycle, False, ((up, "top"), (cycle, "end of cycle")))


def power_law(known):
    """The landmarks of `power_law`: the end is where the law gives a tenth of the peak."""
    peak, batch_size, tokens, a, b = map(
        known.numbers.get, ("peak", "batch_size", "tokens_per_step", "a", "b")
    )
    with np.errstate(all="ignore"):
        end = np.asarray((10 * a * batch_size / peak) ** (-1 / b) / tokens)
    return Landmarks(float(np.max(end, where=np.isfinite(end), initial=0)) or None)


def from_values(known):
    """The landmarks of `from_values`."""
    return Landmarks(float(known.numbers["values"].shape[-1]), True)


def shift(known):
    """The landmarks of `shift`."""
    # If the lanes are shifted differently, the one with the smallest shift ends last.
    child = latest(known.child, -float(np.min(known.numbers["steps"])))
    return child._replace(marks=tuple(mark for mark in child.marks if mark[0] > 0))


def delay(known):
    """The landmarks of `delay`."""
    steps = known.longest("steps")
    child = latest(known.child, steps)
    end = child.end if child.end is not None else 2 * steps or None
    return Landmarks(end, child.settled, ((steps, "begin"), *child.marks))


def warmup(known):
    """The landmarks of `warmup`."""
    steps = known.longest("steps")
    child = latest(known.child, steps if known.words.get("anchor", "shift") == "shift" else 0)
    end = max(child.end, steps) if child.end is not None else 2 * steps or None
    return Landmarks(end, child.settled, ((steps, "end of warmup"), *child.marks))


def cooldown(known):
    """The landmarks of `cooldown`."""
    at = known.longest("at")
    marks = tuple(mark for mark in latest(known.child).marks if mark[0] < at)
    return Landmarks(at + known.longest("steps"), True, (*marks, (at, "start of cooldown")))


def stretch(known):
    """The landmarks of `stretch`."""
    child, factor = latest(known.child), known.longest("factor")
    marks = tuple((count * factor, words) for count, words in child.marks)
    return Landmarks(None if child.end is None else child.end * factor, child.settled, marks)


def repeat(known):
    """The landmarks of `repeat`: without `times` it has no end, and four cycles are shown."""
    steps, limited = known.longest("steps"), "times" in known.numbers
    times = min(known.longest("times"), 1000) if limited else 4
    return Landmarks(steps * times, limited, ((steps, "end of cycle"),))


def join(known):
    """The landmarks of `join`: boundaries, and the marks of the first and last schedules."""
    boundaries = [float(count) for count in np.sort(known.numbers["boundaries"].ravel())]
    last = latest(
        known.children[-1:], boundaries[-1] if known.words.get("clock", "local") == "local" else 0
    )
    first = (mark for mark in known.children[0].marks if mark[0] < boundaries[0])
    marks = (*first, *((count, "boundary") for count in boundaries[:_MARKS]), *last.marks)
    # With `clock="global"` the last schedule may already be over at its boundary.
    end = max(last.end, boundaries[-1]) if last.end is not None else _MORE * boundaries[-1] or None
    return Landmarks(end, last.settled, marks)


def children(known):
    """The landmarks of the inner schedules, for a builder that does not change their counts."""
    return latest(known.children)
