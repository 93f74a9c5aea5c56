"""What the frameworks' own schedulers do: recorders (`python -m tests.golden torch timm ...`) and
the recorded values.

`<framework>.json` holds settings, each with
- `name`, `keywords`: the function of `lrax.compat.<framework>` and exactly its arguments;
- `counts`: the update numbers recorded, where they are not 0, 1, 2, ...;
- `rates`: the rate that the framework's optimizer uses in each of these updates, and `momentum`
  where it is driven too;
- `raises_at`, `error`: the first update that the framework refuses, and the exception (0: the
  constructor raises);
- `faults`: counts at which the framework's own rounding picks the wrong cycle; what it gives there
  follows no formula;
- `precision`: what the framework's arithmetic is worth, relative to the largest rate, where it is
  not float64.

A scheduler inside another's keywords is `{"scheduler": name, "keywords": {...}}`; a function of the
count is an expression of `t`; keys that are whole numbers are strings, as JSON has it. `read` and
`function` turn these two back.
"""

import json
from fractions import Fraction
from pathlib import Path

FRAMEWORKS = ("torch", "transformers", "timm", "keras", "optax")
FOLDER = Path(__file__).parent
FAR = 100_000  # a realistic horizon, recorded at selected counts


def read(framework):
    """The recorded file of a framework, whole-number keys as integers again."""

    def with_integers(pairs):
        return {int(key) if key.lstrip("-").isdigit() else key: value for key, value in pairs}

    return json.loads((FOLDER / f"{framework}.json").read_text(), object_pairs_hook=with_integers)


def function(expression):
    """The function of `t` that an expression such as `0.95 ** t` stands for."""
    return eval(f"lambda t: {expression}")


def far_counts(*around):
    """Counts over a long horizon: the start, a coarse grid, both sides of the given steps, and past the end."""
    near = {step + by for step in (0, FAR, *around) for by in (-2, -1, 0, 1, 2)}
    return sorted(count for count in near | set(range(0, FAR + 20_001, 5_003)) if count >= 0)


def cycle_starts(first, mult, until):
    """The exact first count of every cycle, of lengths `first * mult**i`, with `mult` the decimal it is written as."""
    start, length = Fraction(0), Fraction(str(first))
    while start <= until:
        yield start
        start, length = start + length, length * Fraction(str(mult))
