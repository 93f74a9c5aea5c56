"""How much of a schedule a picture shows, and which of its counts a table does: for display only.

Both are read from the hyperparameters, whose names mean the same in every builder; where the end is
a matter of taste, as for an exponential, or a schedule changes the clock of another, the builder
has a rule here. Nothing here imports `Schedule`, whose display rests on it: a schedule is what has
a `formula` and `hyperparams`.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

_DEFAULT = 100
_LONGEST = 2**31 - 1
_SMALL = 0.01  # what falls forever is shown until it has fallen to this part


class Landmarks(NamedTuple):
    """Where things happen in a schedule."""

    end: float | None = (
        None  # when it is over or has mostly happened, in steps; None: it has no scale of its own
    )
    settled: bool = False  # whether it changes no more after that
    marks: tuple[tuple[float, str], ...] = ()  # counts and what happens there


class _Known(NamedTuple):
    """The hyperparameters of a schedule, by what they are."""

    numbers: dict[str, np.ndarray]
    children: list[Landmarks]  # of all schedules in it
    words: dict[str, Any]
    child: list[Landmarks]  # of the hyperparameter `schedule`

    def longest(self, *names: str) -> float:
        """The largest finite value under these names over lanes and tables; 0 if there is none."""
        values = np.concatenate(
            [[0.0], *(self.numbers[name].ravel() for name in names if name in self.numbers)]
        )
        return float(np.max(values, where=np.isfinite(values), initial=0.0))


class _UnknownError(Exception):
    """A hyperparameter has no value here: it is traced, abstract, donated or on another host."""


def span(schedule: Any) -> int | None:
    """How many updates a picture of a schedule should show: all of it, and a tenth more to see what
    comes after.

    Args:
      schedule: A `Schedule`.

    Returns:
      A number of steps, at least 2; `None` for a schedule without known values, as under `jax.jit`.
    """
    found = landmarks(schedule)
    if found is None:
        return None
    end = _DEFAULT if found.end is None else found.end * (1.1 if found.settled else 1)
    return int(min(max(math.ceil(end - 1e-6 * end), 2), _LONGEST))


def landmarks(schedule: Any) -> Landmarks | None:
    """Where things happen in a schedule; `None` where its values are not known."""
    try:
        return _landmarks(schedule)
    except _UnknownError:
        return None


def _landmarks(schedule: Any) -> Landmarks:
    name = getattr(schedule.formula, "__name__", "").removeprefix("_")
    hyperparams = schedule.hyperparams
    children = {
        key: [_landmarks(child) for child in _children(value)] for key, value in hyperparams.items()
    }
    numbers = {key: _number(value) for key, value in hyperparams.items() if not children[key]}
    known = _Known(
        {key: value for key, value in numbers.items() if value is not None},
        [child for several in children.values() for child in several],
        {
            key: getattr(value, "value", None)
            for key, value in hyperparams.items()
            if not children[key]
        },
        children.get("schedule", []),
    )
    if name in _RULES:
        return _RULES[name](known)
    found = _by_vocabulary(known)
    return (
        found
        if known.numbers or known.children
        else found._replace(end=_probed(schedule), settled=True)
    )


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _children(item)
    elif hasattr(value, "hyperparams") and hasattr(value, "formula"):
        yield value


def _number(value: Any) -> np.ndarray | None:
    """A leaf as an array, `None` for a word; lanes and tables alike."""
    value = getattr(value, "value", value)  # of a Static
    if value is None or isinstance(value, (str, bool)) or callable(value):
        return None
    if isinstance(value, jax.Array):
        if isinstance(value, Tracer) or value.is_deleted() or not value.is_fully_addressable:
            raise _UnknownError
    elif not isinstance(value, (int, float, np.ndarray, np.generic, list, tuple)):
        if not jax.tree.leaves(value) and not hasattr(value, "shape"):
            return None  # structure
        raise _UnknownError
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise _UnknownError from None


def _latest(children: list[Landmarks], offset: float = 0.0) -> Landmarks:
    """Of several that go on side by side, from `offset` on."""
    known = [child for child in children if child.end is not None]
    marks = tuple((count + offset, words) for child in children for count, words in child.marks)
    if not known:
        return Landmarks(None, False, marks)
    last = max(known, key=lambda child: (child.end, child.settled))
    return Landmarks(last.end + offset, last.settled, marks)  # pyright: ignore[reportOptionalOperand]


def _by_vocabulary(known: _Known) -> Landmarks:
    """By what the names mean: `steps` is the whole, warmup included; without it, the phases follow one another."""
    begin, warmup, cooldown, steps = map(known.longest, ("begin", "warmup", "cooldown", "steps"))
    points = [
        known.numbers[name].ravel()
        for name in ("milestones", "boundaries", "at")
        if name in known.numbers
    ]
    points = [
        float(count) for count in np.sort(np.concatenate([[], *points])) if math.isfinite(count)
    ]
    marks = [(begin + count, "boundary") for count in points[:6]]
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
        own = Landmarks(begin + 1.25 * points[-1], False)
    else:
        own = Landmarks(begin + sum(map(known.longest, phases)) or None, True)
    whole = _latest([own, *known.children])
    return whole._replace(marks=(*marks, *whole.marks))


def _probed(schedule: Any) -> float | None:
    """The end of a function without hyperparameters: where it changes no more. `None` if it never ceases to."""
    try:
        counts = np.r_[0, 2 ** np.arange(24)]
        rates = np.asarray(schedule.values(counts), np.float64)
        changing = np.flatnonzero(np.abs(rates - rates[-1]) > 1e-3 * np.max(np.abs(rates)))
        if rates.ndim > 1 or not len(changing) or changing[-1] >= len(rates) - 2:
            return None
        final, small = rates[-1], 1e-3 * np.max(np.abs(rates))
        while counts[changing[-1] + 1] - counts[changing[-1]] > 1:
            counts = np.unique(
                np.linspace(counts[changing[-1]], counts[changing[-1] + 1], 64).astype(int)
            )
            changing = np.flatnonzero(
                np.abs(np.asarray(schedule.values(counts), np.float64) - final) > small
            )
        return float(counts[changing[-1] + 1])
    except Exception:  # a user's function: it may take no array, or be under a transformation
        return None


def _first_to(part: float, factor: np.ndarray) -> float:
    """How many times a factor is applied until it has changed a rate to `part`, or to its reciprocal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.abs(math.log(part) / np.log(np.asarray(factor, np.float64)))
    times = times[np.isfinite(times) & (times > 0)]
    return float(times.max()) if times.size else 10.0


def _exponential(known):
    rate = known.numbers["rate"]
    times = _first_to(_SMALL, rate)
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.log(known.numbers.get("end", np.nan) / known.numbers["init"]) / np.log(rate)
    floored = bool(np.all((floor > 0) & (floor <= times)))
    end = known.longest("begin") + (float(np.max(floor)) if floored else times) * known.longest(
        "steps"
    )
    return Landmarks(end, floored)


def _inverse_time(known):
    with np.errstate(divide="ignore", invalid="ignore"):
        to_a_tenth = 9 / known.numbers["rate"] * known.numbers["steps"]
    return Landmarks(float(np.max(to_a_tenth, where=np.isfinite(to_a_tenth), initial=0)) or None)


def _step_decay(known):
    drops = min(max(math.ceil(_first_to(_SMALL, known.numbers["factor"]) - 1e-6), 2), 8)
    size = known.longest("step_size")
    return Landmarks(
        (drops + 1) * size, False, tuple((size * i, "step") for i in range(1, min(drops, 4) + 1))
    )


def _after_warmup(times: float, scale: str = "warmup") -> Callable[[_Known], Landmarks]:
    """So many lengths of the warmup, or of another time."""

    def rule(known):
        warmup = known.longest("warmup")
        end = warmup + times * (known.longest(scale) or warmup)
        return Landmarks(end or None, False, ((warmup, "end of warmup"),) if warmup else ())

    return rule


def _open(known):
    """The phases, and as much again as a quarter of them of what then goes on."""
    found = _by_vocabulary(known)
    return found._replace(end=1.25 * (found.end or 0) or None, settled=False)


def _cosine_restarts(known):
    first, mult, limited = (
        known.longest("first"),
        max(known.longest("mult"), 1.0),
        "cycles" in known.numbers,
    )
    cycles = max(min(int(known.longest("cycles")), 64), 1) if limited else 4 if mult < 1.5 else 3
    ends = np.cumsum(first * mult ** np.arange(cycles))
    marks = tuple((float(end), "restart") for end in ends[: min(cycles - limited, 4)])
    return Landmarks(float(ends[-1]), limited, marks)


def _cyclic(known):
    up = known.longest("up")
    cycle = up + (known.longest("down") if "down" in known.numbers else up)
    return Landmarks(4 * cycle, False, ((up, "top"), (cycle, "end of cycle")))


def _power_law(known):
    """Until the law gives a tenth of the peak."""
    peak, batch_size, tokens, a, b = map(
        known.numbers.get, ("peak", "batch_size", "tokens_per_step", "a", "b")
    )
    with np.errstate(all="ignore"):
        end = np.asarray((10 * a * batch_size / peak) ** (-1 / b) / tokens)
    return Landmarks(float(np.max(end, where=np.isfinite(end), initial=0)) or None)


def _from_values(known):
    return Landmarks(float(known.numbers["values"].shape[-1]), True)


def _shift(known):
    child = _latest(known.child, -float(np.min(known.numbers["steps"])))
    return child._replace(marks=tuple(mark for mark in child.marks if mark[0] > 0))


def _delay(known):
    steps = known.longest("steps")
    child = _latest(known.child, steps)
    end = child.end if child.end is not None else 2 * steps or None
    return Landmarks(end, child.settled, ((steps, "begin"), *child.marks))


def _warmup(known):
    steps = known.longest("steps")
    child = _latest(known.child, steps if known.words.get("anchor", "shift") == "shift" else 0)
    end = max(child.end, steps) if child.end is not None else 2 * steps or None
    return Landmarks(end, child.settled, ((steps, "end of warmup"), *child.marks))


def _cooldown(known):
    at = known.longest("at")
    marks = tuple(mark for mark in _latest(known.child).marks if mark[0] < at)
    return Landmarks(at + known.longest("steps"), True, (*marks, (at, "start of cooldown")))


def _stretch(known):
    child, factor = _latest(known.child), known.longest("factor")
    marks = tuple((count * factor, words) for count, words in child.marks)
    return Landmarks(None if child.end is None else child.end * factor, child.settled, marks)


def _repeat(known):
    steps, limited = known.longest("steps"), "times" in known.numbers
    times = min(known.longest("times"), 1000) if limited else 4
    return Landmarks(steps * times, limited, ((steps, "end of cycle"),))


def _join(known):
    boundaries = [float(count) for count in np.sort(known.numbers["boundaries"].ravel())]
    last = _latest(
        known.children[-1:], boundaries[-1] if known.words.get("clock", "local") == "local" else 0
    )
    first = (mark for mark in known.children[0].marks if mark[0] < boundaries[0])
    marks = (*first, *((count, "boundary") for count in boundaries[:6]), *last.marks)
    end = max(last.end, boundaries[-1]) if last.end is not None else 1.25 * boundaries[-1] or None
    return Landmarks(end, last.settled, marks)


def _as_its_children(known):
    return _latest(known.children)


_RULES: dict[str, Callable[[_Known], Landmarks]] = {
    "exponential": _exponential,
    "inverse_time": _inverse_time,
    "step_decay": _step_decay,
    "inverse_sqrt": _after_warmup(10, "timescale"),
    "cosine_inverse_sqrt": _after_warmup(6, "wave"),
    "noam": _after_warmup(10),
    "warmup_constant": _after_warmup(0.5),
    "infinite": _open,
    "cosine_restarts": _cosine_restarts,
    "cyclic": _cyclic,
    "power_law": _power_law,
    "from_values": _from_values,
    "shift": _shift,
    "delay": _delay,
    "warmup": _warmup,
    "cooldown": _cooldown,
    "stretch": _stretch,
    "repeat": _repeat,
    "join": _join,
    "with_noise": _as_its_children,  # its key, begin and end are no lengths
    "link": _as_its_children,
    "clip": _as_its_children,
    "scale": _as_its_children,
}
