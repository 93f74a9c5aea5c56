"""The one table of schedules: every public builder in several settings, and its formula in float64 NumPy.

The formulas stand as the papers and Optax's documentation print them, with none of the rearrangements that lrax makes
for float32's sake, and share no code with it. A new builder needs a formula here and its settings in `CASES`; the laws
of `test_laws.py` then hold it to everything else.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

import lrax

# The hyperparameters that are numbers of steps. The settings below all have a horizon of at most 100.
DURATIONS = {"steps", "warmup", "cooldown", "begin"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of a builder."""

    builder: str
    arguments: tuple
    keywords: dict[str, Any]

    def build(self, **changes) -> lrax.Schedule:
        arguments = [value.build() if isinstance(value, Case) else value for value in self.arguments]
        return getattr(lrax, self.builder)(*arguments, **{**self.keywords, **changes})

    @property
    def numbers(self) -> dict[str, float]:
        """The keywords that become leaves."""
        return {name: value for name, value in self.keywords.items() if type(value) in (int, float)}

    def __str__(self):
        parts = [*map(str, self.arguments), *(f"{name}={value}" for name, value in self.keywords.items())]
        return f"{self.builder}({', '.join(parts)})"


def case(builder: str, *arguments, **keywords) -> Case:
    return Case(builder, arguments, keywords)


CASES = [
    case("constant", value=0.1),
    case("constant", value=0.0),
    case("linear", init=0.1, end=0.0, steps=100),
    case("linear", init=0.02, end=0.1, steps=7),
    case("linear", init=0.1, end=0.02, steps=0),
    case("cosine", peak=0.1, steps=100),
    case("cosine", peak=0.1, steps=100, end=0.01, exponent=2.5),
    case("cosine", peak=0.1, steps=33, end=0.01, exponent=0.5),
    case("cosine", peak=0.1, steps=0, end=0.01),
    case("cosine", peak=0.0, steps=100),
    case("exponential", init=0.1, rate=0.97),
    case("exponential", init=0.1, rate=0.5, steps=10, begin=20),
    case("exponential", init=0.1, rate=0.3, steps=7, staircase=True, begin=3),
    case("exponential", init=0.1, rate=0.5, steps=10, end=0.01),
    case("exponential", init=0.1, rate=1.2, steps=4, end=0.4, begin=5),
    case("exponential", init=0.1, rate=0.3, steps=7, staircase=True, end=0.002),
    case("exponential", init=0.1, rate=1.0, steps=10),
    case("exponential", init=0.0, rate=0.5, steps=10),
    case("warmup_cosine", peak=0.1, steps=100, warmup=10),
    case("warmup_cosine", peak=0.1, steps=100, warmup=10, init=0.02, end=0.01),
    case("warmup_cosine", peak=0.1, steps=100, warmup=0),
    case("warmup_cosine", peak=0.1, steps=50, warmup=50, end=0.01),
    case("warmup_cosine", peak=0.1, steps=0, warmup=0, end=0.01),
    case("warmup_cosine", peak=0.0, steps=100, warmup=10),
    case("wsd", peak=0.1, steps=100, warmup=10, cooldown=30),
    case("wsd", peak=0.1, steps=100, warmup=10, cooldown=30, init=0.02, end=0.01, shape="linear"),
    case("wsd", peak=0.1, steps=100, warmup=10, cooldown=30, init=0.02, end=0.01, shape="cosine"),
    case("wsd", peak=0.1, steps=100, warmup=10, cooldown=30, init=0.02, end=0.01, shape="1-sqrt"),
    case("wsd", peak=0.1, steps=100, warmup=10, cooldown=30, init=0.02, end=0.01, shape="sqrt"),
    case("wsd", peak=0.1, steps=100, warmup=10, cooldown=30, init=0.02, end=0.01, shape="1-square"),
    case("wsd", peak=0.1, steps=100, warmup=10, cooldown=30, init=0.02, end=0.01, shape="square"),
    case("wsd", peak=0.1, steps=100, warmup=0, cooldown=20),
    case("wsd", peak=0.1, steps=100, warmup=20, cooldown=0, end=0.01, shape="1-sqrt"),
    case("wsd", peak=0.1, steps=60, warmup=20, cooldown=40, shape="sqrt"),
    case("wsd", peak=0.1, steps=0, warmup=0, cooldown=0, init=0.02, end=0.01, shape="cosine"),
    case("multiply", case("cosine", peak=0.1, steps=100, end=0.01), 0.5),
    case("multiply", case("linear", init=0.0, end=1.0, steps=10), case("exponential", init=0.1, rate=0.5, steps=20)),
    case("add", case("linear", init=0.1, end=0.0, steps=80), 0.02),
    case("add", case("multiply", case("cosine", peak=0.1, steps=100), 0.5), case("cosine", peak=0.1, steps=30)),
]


def reference(schedule: lrax.Schedule, count) -> np.ndarray:
    """The rates of a schedule by the formulas below, in float64 from the numbers that it holds."""

    def number(value):
        if isinstance(value, lrax.Schedule):
            return functools.partial(reference, value)
        if isinstance(value, (tuple, list)):
            return [number(child) for child in value]
        return np.float64(value) if hasattr(value, "dtype") else getattr(value, "value", value)

    formula = FORMULAS[schedule.formula.__name__.removeprefix("_")]
    count = np.asarray(count, np.float64)
    with np.errstate(over="ignore"):
        return formula(count, **{name: number(value) for name, value in schedule.hyperparams.items()}) + 0 * count


def part(t, steps):
    return np.clip(t / steps, 0, 1) if steps > 0 else np.where(t < 0, 0.0, 1.0)


def constant(t, value):
    return value


def linear(t, init, end, steps):
    return init + (end - init) * part(t, steps)


def cosine(t, peak, steps, end, exponent):
    return end + (peak - end) * ((1 + np.cos(np.pi * part(t, steps))) / 2) ** exponent


def exponential(t, init, rate, steps, begin, end, staircase):
    periods = np.maximum(t - begin, 0) / steps
    rates = init * rate ** (np.floor(periods) if staircase else periods)
    if end is None:
        return rates
    return np.maximum(rates, end) if rate < 1 else np.minimum(rates, end)


def warmup_cosine(t, peak, steps, warmup, init, end):
    decay = end + (peak - end) * (1 + np.cos(np.pi * part(t - warmup, steps - warmup))) / 2
    return np.where(t < warmup, linear(t, init, peak, warmup), decay)


def wsd(t, peak, steps, warmup, cooldown, init, end, shape):
    weight = {
        "linear": lambda p: 1 - p,
        "cosine": lambda p: (1 + np.cos(np.pi * p)) / 2,
        "1-sqrt": lambda p: 1 - np.sqrt(p),
        "sqrt": lambda p: np.sqrt(1 - p),
        "1-square": lambda p: 1 - p**2,
        "square": lambda p: (1 - p) ** 2,
    }[shape]
    decay = end + (peak - end) * weight(part(t - (steps - cooldown), cooldown))
    return np.where(t < warmup, linear(t, init, peak, warmup), decay)


def multiply(t, schedules):
    return np.prod([schedule(t) for schedule in schedules], axis=0)


def add(t, schedules):
    return np.sum([schedule(t) for schedule in schedules], axis=0)


FORMULAS = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "exponential": exponential,
    "warmup_cosine": warmup_cosine,
    "wsd": wsd,
    "multiply": multiply,
    "add": add,
}
