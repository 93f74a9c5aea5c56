"""The one table of schedules: every public builder in several settings, and its formula in float64
NumPy.

The formulas stand as the papers and Optax's documentation print them, with none of the
rearrangements that lrax makes for float32's sake, and share no code with it. A new builder needs a
formula here and its settings in `CASES`; the laws of `test_laws.py` then hold it to everything
else.
"""

import dataclasses
import functools
import warnings
from typing import Any

import jax
import numpy as np
from scipy import special

import lrax

# The hyperparameters that are numbers of steps. The settings below all have a horizon of at most
# 100.
DURATIONS = {
    *(
        "steps",
        "warmup",
        "cooldown",
        "hold",
        "begin",
        "until",
        "at",
        "up",
        "down",
        "first",
        "step_size",
        "wave",
    ),
    *("milestones", "boundaries", "timescale"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of a builder."""

    builder: str
    arguments: tuple
    keywords: dict[str, Any]

    def build(self, **changes) -> lrax.Schedule:
        builder = getattr(lrax, self.builder)
        with warnings.catch_warnings():  # some cases have no steps
            warnings.filterwarnings("ignore", "`steps` is 0")
            return builder(*_built(self.arguments), **_built({**self.keywords, **changes}))

    @property
    def numbers(self) -> dict[str, float]:
        """The keywords that become leaves."""
        kept = {name: value for name, value in self.keywords.items() if type(value) in (int, float)}
        return {name: value for name, value in kept.items() if name not in ("phases", "key")}

    def __str__(self):
        parts = [
            *map(_shown, self.arguments),
            *(f"{name}={_shown(value)}" for name, value in self.keywords.items()),
        ]
        return f"{self.builder}({', '.join(parts)})"


def case(builder: str, *arguments, **keywords) -> Case:
    return Case(builder, arguments, keywords)


def _built(value):
    if isinstance(value, dict):
        return {name: _built(child) for name, child in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_built, value))
    return value.build() if isinstance(value, Case) else value


def _shown(value):
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return getattr(value, "__name__", str(value))


DECAY = case("cosine", peak=0.1, steps=80, end=0.01)

CASES = [
    case("constant", value=0.1),
    case("constant", value=0.0),
    case("linear", init=0.1, end=0.0, steps=100),
    case("linear", init=0.02, end=0.1, steps=7),
    case("linear", init=0.1, end=0.02, steps=0),
    case("cosine", peak=0.1, steps=100, exponent=1.0),
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
    *(
        case("ramp", start=0.1, end=0.02, steps=40, begin=20, shape=shape, inclusive=inclusive)
        for shape, inclusive in [
            ("linear", "left"),
            ("linear", "both"),
            ("linear", "right"),
            ("linear", "neither"),
            ("cosine", "both"),
            ("1-sqrt", "right"),
            ("sqrt", "neither"),
            ("1-square", "both"),
            ("square", "left"),
            ("exp2", "right"),
            ("exp10", "left"),
            ("rex", "neither"),
            ("log", "both"),
            ("geometric", "left"),
            ("inverse", "right"),
        ]
    ),
    case("ramp", start=0.0, end=0.1, steps=50, shape="log"),
    case("ramp", start=0.0, end=0.1, steps=50, shape="exp10", inclusive="right"),
    case("ramp", start=1e-6, end=0.1, steps=100, shape="geometric"),
    case("ramp", start=0.1, end=0.02, steps=0, begin=10, inclusive="both"),
    case("ramp", start=0.1, end=0.02, steps=1, begin=10, inclusive="right"),
    case("range_ramp", start=1e-5, end=1.0, steps=100),
    case("range_ramp", start=1e-4, end=1.0, steps=40, inclusive="both"),
    case("range_ramp", start=0.1, end=1e-3, steps=60),
    case("range_ramp", start=1e-3, end=0.1, steps=1, inclusive="both"),
    case("range_ramp", start=1e-3, end=0.1, steps=0),
    case("polynomial", init=0.1, end=0.0, steps=100, power=2.0),
    case("polynomial", init=0.1, end=0.01, steps=80, power=0.9),
    case("polynomial", init=0.0, end=0.1, steps=60, power=3.0),
    case("polynomial", init=0.1, end=0.01, steps=80, power=2.0, k=1.5),
    case("polynomial", init=0.1, end=0.01, steps=0, power=2.0),
    case("cosine", peak=0.1, steps=80, end=0.01, k=1.5),
    case("cosine", peak=0.1, steps=80, k=0.7),
    case("tanh", init=0.1, end=0.0, steps=100),
    case("tanh", init=0.1, end=0.01, steps=60, low=-4.0, high=4.0),
    case("rex", init=0.1, end=0.0, steps=100),
    case("rex", init=0.1, end=0.02, steps=60),
    case("inverse_time", init=0.1, rate=0.5, steps=10),
    case("inverse_time", init=0.1, rate=0.5, steps=7, staircase=True),
    case("inverse_sqrt", peak=0.1, warmup=10),
    case("inverse_sqrt", peak=0.1, warmup=10, timescale=30, end=0.06),
    case("inverse_sqrt", peak=0.1, warmup=0),
    case("cosine_inverse_sqrt", peak=0.1, warmup=10, wave=30),
    case("cosine_inverse_sqrt", peak=0.1, warmup=0, wave=20, end=0.02),
    case("noam", d_model=512, warmup=40, scale=2.0),
    case("noam", d_model=64, warmup=0),
    case("power_law", peak=0.02, batch_size=128, tokens_per_step=500_000),
    case("power_law", peak=0.2, batch_size=64, tokens_per_step=1000, a=2.0, b=-0.6),
    case("step_decay", init=0.1, step_size=30),
    case("step_decay", init=0.1, step_size=7, factor=0.5),
    case("step_decay", init=0.1, step_size=30, factor=0.0),
    case("multistep", init=0.1, milestones=[30, 60, 90]),
    case("multistep", init=0.1, milestones=[0, 20, 20, 50], factor=[0.5, 0.3, 0.9, 2.0]),
    case("piecewise_constant", values=[0.1, 0.05, 0.2], boundaries=[20, 70]),
    case("piecewise_constant", values=[0.1, 0.05, 0.2], boundaries=[20, 20]),
    case("piecewise", values=[0.0, 0.1, 0.02, 0.05], boundaries=[10, 50, 90]),
    case("piecewise", values=[0.01, 0.1, 0.02], boundaries=[10, 50], shape="cosine"),
    case("piecewise", values=[0.01, 0.1, 0.02, 0.01], boundaries=[10, 10, 50]),
    case("from_values", values=[0.1, 0.3, 0.2, 0.4, 0.1]),
    case("cyclic", low=0.01, high=0.1, up=10),
    case("cyclic", low=0.0, high=0.1, up=10, down=25, mode="triangular2"),
    case("cyclic", low=0.01, high=0.1, up=10, down=0, mode="exp_range", gamma=0.98),
    case("cosine_restarts", peak=0.1, first=25),
    case("cosine_restarts", peak=0.1, first=10, mult=2.0, end=0.01, decay=0.5),
    case("cosine_restarts", peak=0.1, first=8, mult=1.5, decay=0.8, cycles=3),
    case("cosine_restarts", peak=0.1, first=1, end=0.01),
    case("one_cycle", peak=0.1, steps=100),
    case(
        "one_cycle", peak=0.1, steps=80, pct_start=0.25, div=10.0, final_div=100.0, shape="linear"
    ),
    case(
        "one_cycle",
        peak=0.1,
        steps=100,
        pct_start=0.375,
        div=10.0,
        final_div=100.0,
        phases=3,
        shape="linear",
    ),
    case("one_cycle", peak=0.1, steps=0),
    case("warmup_constant", peak=0.1, warmup=30),
    case("warmup_constant", peak=0.1, warmup=0, init=0.05),
    case("untuned_warmup", peak=0.1, b2=0.96875),
    case("untuned_warmup", peak=0.1, b2=0.999, kind="exponential"),
    case("untuned_warmup", peak=0.1, b2=0.9, kind="radam"),
    case("untuned_warmup", peak=0.1, b2=0.9999, kind="radam"),
    case("warmup_linear", peak=0.1, steps=100, warmup=10),
    case("warmup_linear", peak=0.1, steps=100, warmup=20, init=0.02, end=0.01),
    case("warmup_linear", peak=0.1, steps=50, warmup=50, end=0.01),
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
    case("wsd", peak=0.1, steps=100, warmup=10, cooldown=30, end=0.01, shape="geometric"),
    case("wsd", peak=0.1, steps=100, warmup=10, cooldown=30, end=0.01, shape="inverse"),
    case("tri_stage", peak=0.1, warmup=10, hold=40, cooldown=50),
    case("tri_stage", peak=0.1, warmup=0, hold=0, cooldown=40, init_scale=0.5, final_scale=0.1),
    case("wsd_s", peak=0.1, warmup=10, boundaries=[40, 100], cooldown=10, end=0.01),
    case(
        "wsd_s",
        peak=0.1,
        warmup=10,
        boundaries=[30, 60],
        cooldown=[5, 20],
        end=0.0,
        init=0.02,
        shape="linear",
    ),
    case("infinite", peak=0.1, stable=0.03, warmup=10, cooldown=40),
    case("infinite", peak=0.1, stable=0.03, warmup=0, cooldown=0, shape="1-sqrt"),
    case("multiply", case("cosine", peak=0.1, steps=100, end=0.01), 0.5),
    case(
        "multiply",
        case("linear", init=0.0, end=1.0, steps=10),
        case("exponential", init=0.1, rate=0.5, steps=20),
    ),
    case("add", case("linear", init=0.1, end=0.0, steps=80), 0.02),
    case(
        "add",
        case("multiply", case("cosine", peak=0.1, steps=100), 0.5),
        case("cosine", peak=0.1, steps=30),
    ),
    case("minimum", DECAY, case("linear", init=0.0, end=0.2, steps=100)),
    case("maximum", DECAY, 0.04),
    case("clip", DECAY, low=0.03, high=0.08),
    case("clip", DECAY, high=0.08),
    case("scale", DECAY, factor=0.5),
    case("shift", DECAY, steps=30),
    case("shift", DECAY, steps=-20),
    case("delay", DECAY, steps=20),
    case("delay", DECAY, steps=20, before=case("linear", init=0.0, end=0.1, steps=20)),
    case("stretch", DECAY, factor=1.25),
    case("repeat", DECAY, steps=30),
    case("repeat", DECAY, steps=20, times=3.0),
    case("repeat", DECAY, steps=30, mirror=True),
    case("repeat", DECAY, steps=30, times=2.0, mirror=True),
    case("link", DECAY, at_low=0.95, at_high=0.85, low=0.02, high=0.09),
    case("join", [case("linear", init=0.0, end=0.1, steps=20), 0.1, DECAY], boundaries=[20, 40]),
    case(
        "join",
        [case("linear", init=0.0, end=0.1, steps=20), DECAY],
        boundaries=[20],
        clock="global",
    ),
    case("warmup", DECAY, steps=20),
    case("warmup", DECAY, steps=20, init=0.01, shape="cosine", anchor="overlay"),
    case("warmup", DECAY, steps=20, init=0.1, shape="linear", anchor="scale"),
    case("warmup", DECAY, steps=0),
    case("cooldown", DECAY, at=40, steps=40),
    case("cooldown", DECAY, at=40, steps=0, end=0.005),
    case(
        "cooldown",
        case("inverse_sqrt", peak=0.1, warmup=10),
        at=60,
        steps=40,
        end=0.01,
        shape="cosine",
    ),
    case("with_noise", DECAY, key=3, std=0.3, limit=0.5),
    case("with_noise", DECAY, key=2**40 + 3, limit=0.25, kind="uniform", begin=10, until=60),
]


def reference(schedule: lrax.Schedule, count) -> np.ndarray:
    """The rates of a schedule by the formulas below, in float64 from the numbers that it holds."""

    def number(value):
        if isinstance(value, lrax.Schedule):
            return functools.partial(reference, value)
        if isinstance(value, (tuple, list)):
            return [number(child) for child in value]
        return np.float64(value) if hasattr(value, "dtype") else getattr(value, "value", value)

    name = schedule.formula.__name__.removeprefix("_")
    count = np.asarray(count, np.float64)
    hyperparams = {name: number(value) for name, value in schedule.hyperparams.items()}
    with np.errstate(over="ignore"):
        return FORMULAS[name](count, **hyperparams) + 0 * count


def rounded(schedule: lrax.Schedule) -> lrax.Schedule:
    """The schedule of the numbers that a compiled program takes as arguments."""
    return jax.tree.map(np.float32, schedule)


def part(t, steps):
    return np.clip(t / steps, 0, 1) if steps > 0 else np.where(t < 0, 0.0, 1.0)


def constant(t, value):
    return value


def linear(t, init, end, steps):
    return init + (end - init) * part(t, steps)


WEIGHTS = {
    "linear": lambda p, n: 1 - p,
    "cosine": lambda p, n: (1 + np.cos(np.pi * p)) / 2,
    "1-sqrt": lambda p, n: 1 - np.sqrt(p),
    "sqrt": lambda p, n: np.sqrt(1 - p),
    "1-square": lambda p, n: 1 - p**2,
    "square": lambda p, n: (1 - p) ** 2,
    "exp2": lambda p, n: 2 * 2**-p - 1,
    "exp10": lambda p, n: (10**-p - 0.1) / 0.9,
    "rex": lambda p, n: (1 - p) / (1 - p / 2),
    "log": lambda p, n: 1 - (np.log(1 + p * n) / np.log(1 + n) if n > 0 else p),
}


def phase(start, end, p, shape, steps):
    if shape == "geometric":
        return start ** (1 - p) * end**p
    if shape == "inverse":
        return 1 / ((1 - p) / start + p / end)
    weight = 1 - shape(p) if callable(shape) else WEIGHTS[shape](p, steps)
    return start * weight + end * (1 - weight)


def ramp(t, start, end, steps, shape, inclusive, begin):
    before, longer = {"left": (0, 0), "both": (0, -1), "right": (1, 0), "neither": (1, 1)}[
        inclusive
    ]
    p = part(t - begin + before, steps + longer) if steps > 0 else np.where(t < begin, 0.0, 1.0)
    return phase(start, end, p, shape, steps + longer)


def range_ramp(t, start, end, steps, inclusive):
    return ramp(t, start, end, steps, "geometric", inclusive, 0)


def polynomial(t, init, end, steps, power, k):
    return end + (init - end) * (1 - part(t, steps) ** (1 if k is None else k)) ** power


def cosine(t, peak, steps, end, exponent, k):
    exponent = 1 if exponent is None else exponent
    p = part(t, steps) ** (1 if k is None else k)
    return end + (peak - end) * ((1 + np.cos(np.pi * p)) / 2) ** exponent


def tanh(t, init, end, steps, low, high):
    p = part(t, steps)
    return np.where(
        t < steps, end + (init - end) * (1 - np.tanh(low * (1 - p) + high * p)) / 2, end
    )


def rex(t, init, end, steps):
    return phase(init, end, part(t, steps), "rex", steps)


def exponential(t, init, rate, steps, begin, end, staircase):
    periods = np.maximum(t - begin, 0) / steps
    rates = init * rate ** (np.floor(periods) if staircase else periods)
    if end is None:
        return rates
    return np.maximum(rates, end) if rate < 1 else np.minimum(rates, end)


def inverse_time(t, init, rate, steps, staircase):
    periods = np.maximum(t, 0) / steps
    return init / (1 + rate * (np.floor(periods) if staircase else periods))


def inverse_sqrt(t, peak, warmup, timescale, end):
    tau = timescale if timescale is not None else warmup if warmup > 0 else 10_000
    decay = np.maximum(peak * np.sqrt(tau / (tau + np.maximum(t - warmup, 0))), end)
    return np.where(t < warmup, linear(t, 0, peak, warmup), decay)


def cosine_inverse_sqrt(t, peak, warmup, wave, init, end):
    gamma = (peak + end) / 2
    slope = -(peak - end) / 2 * np.pi / 2 / wave
    # gamma sqrt(tau / (tau + u)) falls at first by gamma / (2 tau) per step.
    tau = -gamma / (2 * slope)
    cosine = end + (peak - end) / 2 * (1 + np.cos(np.pi / 2 * (t - warmup) / wave))
    root = gamma * np.sqrt(tau / (tau + np.maximum(t - warmup - wave, 0)))
    return np.where(
        t < warmup, linear(t, init, peak, warmup), np.where(t < warmup + wave, cosine, root)
    )


def noam(t, d_model, warmup, scale):
    step = np.maximum(t, 0) + 1
    up = step * warmup**-1.5 if warmup > 0 else np.inf
    return scale * d_model**-0.5 * np.minimum(step**-0.5, up)


def power_law(t, peak, batch_size, tokens_per_step, a, b):
    tokens = np.maximum(t, 1e-9) * tokens_per_step
    return np.minimum(peak, a * batch_size * tokens**b)


def step_decay(t, init, step_size, factor):
    return init * factor ** np.floor(np.maximum(t, 0) / step_size)


def multistep(t, init, milestones, factor):
    factors = np.broadcast_to(factor, milestones.shape)
    return init * np.prod(
        [np.where(t >= at, by, 1) for at, by in zip(milestones, factors, strict=True)], axis=0
    )


def piecewise_constant(t, values, boundaries):
    return values[np.searchsorted(boundaries, t, side="right")]


def piecewise(t, values, boundaries, shape):
    rate, begin = np.full_like(t, values[-1]), np.array([0, *boundaries])
    for i in reversed(range(len(boundaries))):
        piece = phase(
            values[i], values[i + 1], part(t - begin[i], begin[i + 1] - begin[i]), shape, None
        )
        rate = np.where(t < boundaries[i], piece, rate)
    return rate


def from_values(t, values):
    return values[np.clip(t, 0, len(values) - 1).astype(int)]


def cyclic(t, low, high, up, down, mode, gamma):
    t, down = np.maximum(t, 0), up if down is None else down
    cycle, step = np.floor(t / (up + down)), np.mod(t, up + down)
    triangle = np.where(step < up, step / up, (up + down - step) / (down if down > 0 else 1))
    return low + (high - low) * triangle * gamma**t * (0.5**cycle if mode == "triangular2" else 1)


def cosine_restarts(t, peak, first, mult, end, decay, cycles):
    t = np.maximum(t, 0)
    lengths = first * mult ** np.arange(64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    i = np.searchsorted(starts[1:-1], t, side="right")
    beyond = np.where(i == 63, np.floor((t - starts[63]) / lengths[63]), 0)
    p = (t - starts[i] - beyond * lengths[i]) / lengths[i]
    rate = end + (peak * decay ** (i + beyond) - end) * (1 + np.cos(np.pi * p)) / 2
    return rate if cycles is None else np.where(i + beyond < cycles, rate, end)


def one_cycle(t, peak, steps, pct_start, div, final_div, phases, shape):
    top = pct_start * steps
    points = [peak / div, peak, *([peak / div] if phases == 3 else []), peak / div / final_div]
    return piecewise(
        t, np.array(points), np.array([top, *([2 * top] if phases == 3 else []), steps]), shape
    )


def warmup_constant(t, peak, warmup, init):
    return linear(t, init, peak, warmup)


def untuned_warmup(t, peak, b2, kind):
    step = np.maximum(t, 0.0) + 1
    if kind == "linear":
        return peak * np.minimum(1, (1 - b2) / 2 * step)
    if kind == "exponential":
        return peak * (1 - np.exp(-(1 - b2) * step))
    top = 2 / (1 - b2) - 1
    rho = lambda step: top - 2 * step * b2**step / (1 - b2**step)
    first = next(step for step in range(1, 100) if rho(step) > 4)
    rho = rho(step + first - 1)
    return peak * np.sqrt((rho - 4) * (rho - 2) * top / ((top - 4) * (top - 2) * rho))


def warmup_linear(t, peak, steps, warmup, init, end):
    return np.where(
        t < warmup, linear(t, init, peak, warmup), linear(t - warmup, peak, end, steps - warmup)
    )


def warmup_cosine(t, peak, steps, warmup, init, end):
    decay = end + (peak - end) * (1 + np.cos(np.pi * part(t - warmup, steps - warmup))) / 2
    return np.where(t < warmup, linear(t, init, peak, warmup), decay)


def wsd(t, peak, steps, warmup, cooldown, init, end, shape):
    decay = phase(peak, end, part(t - (steps - cooldown), cooldown), shape, cooldown)
    return np.where(t < warmup, linear(t, init, peak, warmup), decay)


def tri_stage(t, peak, warmup, hold, cooldown, init_scale, final_scale):
    decay = peak * np.exp(np.log(final_scale) * part(t - warmup - hold, cooldown))
    return np.where(t < warmup, linear(t, init_scale * peak, peak, warmup), decay)


def wsd_s(t, peak, warmup, boundaries, cooldown, init, end, shape):
    rate = np.full_like(t, end)
    for at, length in reversed(
        list(zip(boundaries, np.broadcast_to(cooldown, boundaries.shape), strict=True))
    ):
        rate = np.where(
            t < at, phase(peak, end, part(t - (at - length), length), shape, length), rate
        )
    return np.where(t < warmup, linear(t, init, peak, warmup), rate)


def infinite(t, peak, stable, warmup, cooldown, init, shape):
    decay = phase(peak, stable, part(t - warmup, cooldown), shape, cooldown)
    return np.where(t < warmup, linear(t, init, peak, warmup), decay)


def multiply(t, schedules):
    return np.prod([schedule(t) for schedule in schedules], axis=0)


def add(t, schedules):
    return np.sum([schedule(t) for schedule in schedules], axis=0)


def minimum(t, schedules):
    return np.min([schedule(t) for schedule in schedules], axis=0)


def maximum(t, schedules):
    return np.max([schedule(t) for schedule in schedules], axis=0)


def clip(t, schedule, low, high):
    return np.clip(schedule(t), low, high)


def scale(t, schedule, factor):
    return factor * schedule(t)


def shift(t, schedule, steps):
    return schedule(np.maximum(t + steps, 0))


def delay(t, schedule, steps, before):
    return np.where(
        t < steps, schedule(0) if before is None else before(t), schedule(np.maximum(t - steps, 0))
    )


def stretch(t, schedule, factor):
    return schedule(t / factor)


def repeat(t, schedule, steps, times, mirror):
    t = np.maximum(t, 0)
    time, step = np.floor(t / steps), np.mod(t, steps)
    if times is not None:
        time, step = (
            np.where(t >= times * steps, times - 1, time),
            np.where(t >= times * steps, steps, step),
        )
    return schedule(np.where(time % 2 == 1, steps - step, step) if mirror else step)


def link(t, schedule, at_low, at_high, low, high):
    return at_low + (at_high - at_low) * np.clip((schedule(t) - low) / (high - low), 0, 1)


def join(t, schedules, boundaries, clock):
    rate = schedules[0](t)
    for schedule, begin in zip(schedules[1:], boundaries, strict=True):
        rate = np.where(t >= begin, schedule(t - begin if clock == "local" else t), rate)
    return rate


def warmup(t, schedule, steps, init, shape, anchor):
    p = part(t, steps)
    if anchor == "scale":
        return schedule(t) * phase(init, 1, p, shape, steps)
    if anchor == "shift":
        return np.where(
            t < steps, phase(init, schedule(0), p, shape, steps), schedule(np.maximum(t - steps, 0))
        )
    return np.where(t < steps, phase(init, schedule(steps), p, shape, steps), schedule(t))


def cooldown(t, schedule, at, steps, end, shape):
    return np.where(
        t < at, schedule(t), phase(schedule(at), end, part(t - at, steps), shape, steps)
    )


def with_noise(t, schedule, key, std, limit, kind, begin, until):
    high, low = (int(key[0]) << 16) + int(key[1]), (int(key[2]) << 16) + int(key[3])
    whole = jax.random.wrap_key_data(np.array([high, low], np.uint32), impl="threefry2x32")
    counts = np.maximum(t, 0).ravel().astype(np.uint32)
    drawn = [
        float(jax.random.uniform(jax.random.fold_in(whole, count), (), np.float32))
        for count in counts
    ]
    x = np.reshape(2 * np.array(drawn) - 1 + 2.0**-23, t.shape)
    normal = special.ndtri(0.5 + x * (special.ndtr(limit / std) - 0.5)) * std
    noisy = (t >= begin) & (t < (np.inf if until is None else until))
    return schedule(t) * (1 + np.where(noisy, limit * x if kind == "uniform" else normal, 0))


# Of the functions above, those that a builder is named for.
FORMULAS = {case.builder: globals().get(case.builder) for case in CASES}
