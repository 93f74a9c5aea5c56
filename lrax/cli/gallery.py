"""The gallery of schedules: each builder with a picture, its formula and when to use it."""

import inspect
import re
from typing import NamedTuple

from ..schedules.parse import parse
from ..schedules.schedule import Schedule
from .names import ScheduleNames

STEPS = 1000  # updates in a picture: the same for all, so that pictures can be compared
SHORT = 50  # an example that is shorter than this has a picture of its own length
# An example of each builder. A combinator shows what it does to a cosine.
EXAMPLES = {
    "constant": "constant(1)",
    "linear": "linear(1, 0, 1000)",
    "polynomial": "polynomial(1, 0, 1000, power=2)",
    "cosine": "cosine(1, 1000)",
    "tanh": "tanh(1, 0, 1000)",
    "rex": "rex(1, 0, 1000)",
    "ramp": 'ramp(1, 0.01, 1000, shape="geometric")',
    "range_ramp": "range_ramp(0.001, 1, 1000)",
    "exponential": "exponential(1, 0.5, 200)",
    "inverse_time": "inverse_time(1, 1, 200)",
    "inverse_sqrt": "inverse_sqrt(1, 100)",
    "cosine_inverse_sqrt": "cosine_inverse_sqrt(1, 100, 400)",
    "noam": "noam(512, 100)",
    "power_law": "power_law(1, 128, 4096)",
    "step_decay": "step_decay(1, 300, 0.3)",
    "multistep": "multistep(1, [500, 800], 0.3)",
    "piecewise_constant": "piecewise_constant([1, 0.4, 0.1], [300, 700])",
    "piecewise": "piecewise([0, 1, 0.3, 0], [100, 600, 1000])",
    "from_values": "from_values([0.2, 0.6, 1, 0.5, 0.1])",
    "cyclic": "cyclic(0.1, 1, 150, 100)",
    "cosine_restarts": "cosine_restarts(1, 140, mult=2)",
    "one_cycle": "one_cycle(1, 1000)",
    "warmup_cosine": "warmup_cosine(1, 1000, 100)",
    "warmup_linear": "warmup_linear(1, 1000, 100)",
    "warmup_constant": "warmup_constant(1, 100)",
    "wsd": "wsd(1, 1000, 100, 300)",
    "wsd_s": "wsd_s(1, 100, [400, 1000], 100, end=0.1)",
    "infinite": "infinite(1, 0.3, 100, 500)",
    "tri_stage": "tri_stage(1, 100, 400, 500)",
    "untuned_warmup": "untuned_warmup(1, 0.99)",
    "join": "join([linear(0, 1, 200), cosine(1, 800)], [200])",
    "warmup": "warmup(cosine(1, 1000), 200)",
    "cooldown": "cooldown(constant(1), at=700, steps=300)",
    "multiply": "multiply(cosine(1, 1000), warmup_constant(1, 200))",
    "add": "add(cosine(0.5, 1000), constant(0.5))",
    "minimum": "minimum(cosine(1, 1000), constant(0.5))",
    "maximum": "maximum(cosine(1, 1000), constant(0.5))",
    "clip": "clip(cosine(1, 1000), 0.2, 0.8)",
    "scale": "scale(cosine(1, 1000), 0.5)",
    "shift": "shift(cosine(1, 1000), -300)",
    "delay": "delay(cosine(1, 700), 300)",
    "stretch": "stretch(cosine(1, 1000), 0.5)",
    "repeat": "repeat(cosine(1, 250), 250)",
    "link": "link(cosine(1, 1000), 0.95, 0.85)",
    "with_noise": "with_noise(cosine(1, 1000), 0, std=0.1)",
    "stack": "stack([cosine(1, 1000), linear(1, 0, 1000)])",
}


class Entry(NamedTuple):
    """A builder in the gallery.

    Attributes:
      name: Its name under `lrax`.
      schedule: An example.
      steps: Updates of its picture.
      line: The first line of its docstring.
      formula: Its formula in LaTeX, or "" if it has none.
      use: When to use it, or "" if its docstring does not say so.
    """

    name: str
    schedule: Schedule
    steps: int
    line: str
    formula: str
    use: str


def gallery() -> list[Entry]:
    """Every builder of schedules, with an example and what its docstring says."""
    names = ScheduleNames()
    return [_entry(names, name, text) for name, text in EXAMPLES.items()]


def _entry(names: ScheduleNames, name: str, text: str) -> Entry:
    told = (inspect.getdoc(names[name]) or "").split("\nArgs:")[0]
    formula = re.search(r"\$\$(.*?)\$\$", told, re.DOTALL)
    # "|" stands for the formula, so that a sentence after it is found as well.
    prose = " ".join(re.sub(r"\$\$.*?\$\$", "|", told, flags=re.DOTALL).split())
    use = re.search(r"(?:[.:|] )(Use .*?\.)(?= [A-Z`]|$)", prose)
    schedule = parse(text, names)
    span = schedule.span()
    return Entry(
        name,
        schedule,
        # A short schedule, such as a table of a few rates, is drawn at its own length.
        span if span is not None and span < SHORT else STEPS,
        told.partition("\n")[0],
        " ".join(formula[1].split()) if formula else "",
        use[1] if use else "",
    )
