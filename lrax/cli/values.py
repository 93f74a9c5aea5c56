"""Parsers of the values of options: numbers, durations, file names, and the axes of a grid."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import _require
from ..sweeps.grid import log_grid
from ..training.optimizer import first_parameter
from ..training.run import Optimizer
from .errors import Mistake

RATES = "1e-5:1:21"  # the default rates of a sweep: four per decade
MOST = 2**31 - 1  # the largest count: JAX counts updates in int32
MOST_VALUES = 100_000  # the most values of one axis, and the most runs of a sweep


def at_least(low: int, most: int = MOST) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `most`."""

    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, got {value}")
        if value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, got {value}")
        return value

    number.__name__ = "number"  # argparse shows it: "invalid number value: 'x'"
    return number


def positive(text: str) -> float:
    """A positive number."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be positive and finite, got {text}")
    return value


class Axis(NamedTuple):
    """The values of one hyperparameter."""

    values: np.ndarray
    spacing: str  # "log", "linear" or "list"


def axis(text: str) -> Axis:
    """The values of an axis of the grid.

    Args:
      text: `low:high:n` for equal ratios, `low:high:n:linear` for equal distances, or a list
        `a,b,c`.

    Returns:
      The `Axis`.

    Raises:
      argparse.ArgumentTypeError: if the text cannot be read. argparse adds the name of the option
        to the message.
    """
    numbers = text.split(":")
    if len(numbers) == 1:
        return Axis(_list(text), "list")
    spacing = numbers.pop() if len(numbers) == 4 else "log"
    if len(numbers) != 3 or spacing not in ("log", "linear"):
        raise _wrong(
            text, "must be low:high:n, low:high:n:linear or a list, such as 1e-5:1:48 or 1e-3,1e-2"
        )
    low, high, n = _range(text, numbers)
    if spacing == "linear":
        return Axis(np.linspace(low, high, n), spacing)
    if low <= 0:
        raise _wrong(
            text,
            "has equal ratios and must begin above 0; with equal distances it is"
            f" {':'.join(numbers)}:linear",
        )
    try:
        return Axis(log_grid(low, high, n), spacing)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"cannot be made: {error}") from None


def _list(text: str) -> np.ndarray:
    try:
        values = np.array([float(word) for word in text.split(",")])
    except ValueError:
        raise _wrong(
            text, "must be low:high:n or a list of numbers, such as 1e-5:1:48 or 1e-3,1e-2"
        ) from None
    if not np.all(np.isfinite(values)):
        raise _wrong(text, "must have finite numbers only")
    return values


def _range(text: str, words: Sequence[str]) -> tuple[float, float, int]:
    """The ends and the number of values of `low:high:n`."""
    try:
        low, high, n = float(words[0]), float(words[1]), int(words[2])
    except ValueError:
        raise _wrong(text, "must be two numbers and a count, such as 1e-5:1:48") from None
    if not -math.inf < low < high < math.inf:
        raise _wrong(text, "must go from a lower to a higher finite number")
    if n < 2:
        raise _wrong(text, "must have at least 2 values")
    if n > MOST_VALUES:
        raise _wrong(text, f"must have at most {MOST_VALUES} values")
    return low, high, n


def _wrong(text: str, must: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{must}, got {text!r}")


def named_axis(text: str) -> tuple[str, Axis]:
    """The hyperparameter and values of `name=values`."""
    name, equals, values = text.partition("=")
    if not equals or not name.isidentifier():
        raise _wrong(
            text, "must be name=values, such as weight_decay=1e-4:1e-1:4 or momentum=0,0.9"
        )
    return name, axis(values)


def grid(
    rates: Axis | None, others: Sequence[tuple[str, Axis]], optimizer: Optimizer
) -> dict[str, Axis]:
    """The axes by name: that of the optimizer's first parameter, and the others.

    If neither `rates` nor `others` has values of the first parameter, its values are `RATES`.
    """
    first = first_parameter(optimizer)
    names = [name for name, _ in others]
    for name in names:
        if names.count(name) > 1:
            raise Mistake(f"--grid gives values of {name!r} twice")
        if name == first and rates is not None:
            raise Mistake(
                f"--lr and --grid both give values of {name!r}; --lr is for the optimizer's first"
                " parameter"
            )
    if rates is None and first in names:
        return dict(others)
    return {first: axis(RATES) if rates is None else rates, **dict(others)}


def warmup_steps(text: str, steps: int) -> int:
    """The length of a warmup in steps; the text gives steps or a percentage of all steps."""
    number, percent, rest = text.partition("%")
    try:
        length = round(float(number) * steps / 100) if percent else int(number)
    except (ValueError, OverflowError):
        length = -1
    if rest or not 0 <= length <= steps:
        raise Mistake(
            f"--warmup must be steps or percent of the {steps} steps, such as 100 or 10%, got"
            f" {text!r}"
        )
    return length


def duration(text: str) -> float:
    """Seconds, from a text such as 90, 90s, 10min or 2h."""
    # "it" is never shown, because the message is replaced below.
    try:
        return _require.seconds("it", f"{text}s" if text[-1:].isdigit() else text)
    except ValueError:
        raise _wrong(text, "must be seconds, or such as 90s, 10min or 2h") from None


def file(text: str) -> Path:
    """The name of a file to write, in a folder that exists."""
    path = Path(text)
    try:
        found = path.parent.is_dir() and not path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or holds a null byte
        found = False
    if not found:
        raise _wrong(text, "must be a file name in a folder that exists")
    return path


def stem(text: str) -> Path:
    """The common name of several files to write, without a suffix; the user may give one."""
    path = Path(text)
    return file(str(path.with_suffix("") if path.suffix in (".png", ".npz", ".csv") else path))


def execution(text: str) -> str | int:
    """How to run a sweep: the number of lanes per call, or a word.

    A number too long to be a count stays a text, which `lrax.sweep` refuses.
    """
    return int(text) if text.isdecimal() and len(text) < 10 else text
