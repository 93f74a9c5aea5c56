"""Sweeps from a shell: what the words of a command name, and the command that goes on from there."""

import argparse
import difflib
import functools
import importlib
import importlib.util
import math
import operator
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import optax

from .. import _require
from ..schedules.warmups import warmup_constant, warmup_cosine, warmup_linear
from ..sweeps.grid import beyond, log_grid
from ..sweeps.stopping import Halving, Median
from ..training.optimizer import first_parameter
from ..training.run import Optimizer
from ..training.task import Task

EPILOG = """\
examples:
  python -m lrax sweep lrax.tasks:digits --lr 1e-4:10:26 --steps 400 --warmup 10% --decay cosine --objective val_loss
  python -m lrax sweep train.py:task --optimizer train.py:adam --grid weight_decay=0,0.01,0.1 --seeds 3 --out adam
  python -m lrax sweep my_package.model:task --stop halving --budget 2h --checkpoint adam.npz

values are low:high:n at equal ratios, low:high:n:linear at equal distances, or a list a,b,c.

exit status: 0 with a best point, 1 without one or after an error, 2 for a command that names what is not there,
130 where Ctrl-C came before there was anything to show."""
DECAYS = {"constant": None, "linear": warmup_linear, "cosine": warmup_cosine}
STOPS = {"diverged": "diverged", "none": None, "halving": Halving(), "median": Median()}
NAMES = 12  # that a message lists
RATES = "1e-5:1:21"  # of a sweep that is not told any: four to a decade


class Mistake(ValueError):
    """A command that asks for what is not there."""


def named(text: str, what: str) -> Any:
    """The object of `module:attribute` or `path/to/file.py:attribute`."""
    place, _, attribute = text.rpartition(":")
    if not place or not all(part.isidentifier() for part in attribute.split(".")):
        raise Mistake(f"{what} must be module:attribute or path/to/file.py:attribute, got {text!r}")
    module = _file(Path(place).resolve()) if place.endswith(".py") else _module(place)
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError:
        there = [
            name
            for name, value in vars(module).items()
            if name[0] != "_" and not isinstance(value, ModuleType)
        ]
        if len(there) > NAMES:
            there = difflib.get_close_matches(attribute, there, NAMES)
        known = f"; it has {', '.join(sorted(there))}" if there else ""
        raise Mistake(f"{place} has no {attribute!r}{known}") from None


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # of something that the module itself needs
        raise Mistake(
            f"there is no module {name!r} in the current folder or among the installed packages"
        ) from None


@functools.cache  # a file that has both the task and the optimizer is run once
def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise Mistake(f"there is no file {path}")
    # As a script's: what is beside it can be imported, and itself, unless its name is another
    # module's.
    sys.path.insert(0, str(path.parent))
    name = path.stem if path.stem not in sys.modules else f"_{path.stem}_of_the_command_line"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Mistake(f"{path} cannot be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def task(text: str) -> Task:
    """The task of `module:attribute`, which is one, or a function without arguments that returns one."""
    found = named(text, "the task")
    made = found() if callable(found) and not isinstance(found, Task) else found
    if not isinstance(made, Task):
        how = "is" if made is found else "returned"
        raise Mistake(
            f"{text} must be a lrax.Task or a function that returns one, but {how} a {type(made).__name__}"
        )
    return made


def optimizer(text: str, *, steps: int, warmup: str, decay: str) -> tuple[Optimizer, str]:
    """The optimizer of `module:function` under a schedule over the steps, and what it is in words."""
    found: Optimizer = named(text, "the optimizer")
    if not callable(found):
        raise Mistake(
            f"{text} must be a function that returns an optax optimizer, but is a {type(found).__name__}"
        )
    first = first_parameter(found)
    length = _duration(warmup, steps)
    if decay == "constant" and not length:
        return found, text
    shape = DECAYS[decay]

    @functools.wraps(found)  # and so of the same parameters
    def scheduled(**hyperparams: Any) -> optax.GradientTransformation:
        peak = hyperparams[first]
        schedule = warmup_constant(peak, length) if shape is None else shape(peak, steps, length)
        return found(**{**hyperparams, first: schedule})

    lengths = f"{length}" if decay == "constant" else f"{steps}, {length}"
    return scheduled, f"{text} under warmup_{decay}({first}, {lengths})"


def _duration(text: str, steps: int) -> int:
    """Steps, given as such or in percent of all."""
    number, percent, rest = text.partition("%")
    try:
        length = round(float(number) * steps / 100) if percent else int(number)
    except (ValueError, OverflowError):
        length = -1
    if rest or not 0 <= length <= steps:
        raise Mistake(
            f"--warmup must be steps or percent of the {steps} steps, such as 100 or 10%, got {text!r}"
        )
    return length


class Axis(NamedTuple):
    """The values of one hyperparameter."""

    values: np.ndarray
    spacing: str  # "log", "linear" or "list"


def axis(text: str) -> Axis:
    """The values of `low:high:n`, at equal ratios; `low:high:n:linear`, at equal distances; or `a,b,c`."""
    wrong = functools.partial(_wrong, text)
    numbers, spacing = text.split(":"), "log"
    if len(numbers) == 1:
        try:
            return Axis(np.array([float(word) for word in text.split(",")]), "list")
        except ValueError:
            raise wrong(
                "must be low:high:n or a list of numbers, such as 1e-5:1:48 or 1e-3,1e-2"
            ) from None
    if len(numbers) == 4:
        spacing = numbers.pop()
    if len(numbers) != 3 or spacing not in ("log", "linear"):
        raise wrong(
            "must be low:high:n, low:high:n:linear or a list, such as 1e-5:1:48 or 1e-3,1e-2"
        )
    try:
        low, high, n = float(numbers[0]), float(numbers[1]), int(numbers[2])
    except ValueError:
        raise wrong("must be two numbers and a count, such as 1e-5:1:48") from None
    if not -math.inf < low < high < math.inf:
        raise wrong("must go from a lower to a higher finite number")
    if n < 2:
        raise wrong("must have at least 2 values")
    if spacing == "linear":
        return Axis(np.linspace(low, high, n), spacing)
    if low <= 0:
        raise wrong(
            f"is at equal ratios and must begin above 0; at equal distances it is {text}:linear"
        )
    return Axis(log_grid(low, high, n), spacing)


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
    rates: Axis | None, others: Sequence[tuple[str, Axis]], found: Optimizer
) -> dict[str, Axis]:
    """The axes by name: the optimizer's first parameter, by default over `RATES`, and others."""
    first, names = first_parameter(found), [name for name, _ in others]
    twice = [
        name
        for name in dict.fromkeys(names)
        if names.count(name) > 1 or (name == first and rates is not None)
    ]
    if twice:
        raise Mistake(
            f"{twice[0]!r} has values twice; --lr is for the optimizer's first parameter, {first!r}"
        )
    if rates is None and first in names:
        return dict(others)
    return {first: axis(RATES) if rates is None else rates, **dict(others)}


def is_refusal(error: BaseException) -> bool:
    """Whether lrax itself raised it, to say what is wrong: for that, its text is enough.

    What comes out of a user's code is to be mended there, and needs its whole traceback.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return (
        isinstance(error, Mistake)
        or not frames
        or Path(frames[-1].filename).is_relative_to(Path(__file__).parents[1])
    )


def extended(
    arguments: Sequence[str], axes: Mapping[str, Axis], rate: str, name: str, edge: str
) -> str | None:
    """The command that tries values beyond an edge of the grid, and its last two, to see the
    optimum from both sides.

    Args:
      arguments: Those of the command before.
      axes: Its grid.
      rate: Which of its hyperparameters `--lr` is for.
      name: The hyperparameter to extend.
      edge: `"low"` or `"high"`.
    """
    values, spacing = np.unique(axes[name].values), axes[name].spacing
    if (
        len(values) < 2 or values[0] <= 0 or (name != rate and spacing != "log")
    ):  # momenta have an end of their own
        return None
    inner, more = values[:2] if edge == "low" else values[-2:], max(len(values) // 2, 2)
    if spacing == "list":
        text = ",".join(f"{value:.4g}" for value in np.union1d(inner, beyond(values, edge, more)))
    else:
        ratio, step = values[1] / values[0], (values[1] - values[0]) * more
        if spacing == "linear":
            end = inner[0] - step if edge == "low" else inner[1] + step
        else:
            end = inner[0] / ratio**more if edge == "low" else inner[1] * ratio**more
        if end <= 0:
            return None
        low, high = min(end, inner[0]), max(end, inner[1])
        text = f"{low:.4g}:{high:.4g}:{more + 2}" + (":linear" if spacing == "linear" else "")
    values_of = f"--grid {name}"
    return again(
        arguments,
        {"--lr": text, values_of: None} if name == rate else {values_of: f"{name}={text}"},
    )


def again(arguments: Sequence[str], changes: Mapping[str, str | None]) -> str:
    """The command with other values of some options, or without them; `"--grid NAME"` is that of
    one hyperparameter.

    What it writes goes to other files: the checkpoint of another grid would be refused, and
    pictures replaced.
    """
    kept, words = [], list(arguments)
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if not option.startswith("--") or not (equals or (words and not words[0].startswith("--"))):
            kept.append(word)
            continue
        value = value if equals else words.pop(0)
        if option in changes or f"{option} {value.partition('=')[0]}" in changes:
            continue
        kept += [option, _next(value) if option in ("--checkpoint", "--out") else value]
    for option, value in changes.items():
        kept += [option.partition(" ")[0], value] if value is not None else []
    return shlex.join(["python", "-m", "lrax", *kept])


def _next(name: str) -> str:
    """Another name for the next file: `a-2.npz` after `a.npz`."""
    path = Path(name)
    stem, dash, number = path.stem.rpartition("-")
    stem, number = (stem, int(number)) if dash and number.isdigit() else (path.stem, 1)
    return str(path.with_name(f"{stem}-{number + 1}{path.suffix}"))


def stem(text: str) -> Path:
    """The name of files to write, without a suffix of theirs, in a folder that is there."""
    path = Path(text)
    path = path.with_suffix("") if path.suffix in (".png", ".npz", ".csv") else path
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be a name in a folder that is there, got {text!r}")
    return path


def duration(text: str) -> float:
    """Seconds, from such as 90, 90s, 10min or 2h."""
    try:
        return _require.seconds("it", f"{text}s" if text[-1:].isdigit() else text)
    except ValueError:
        raise _wrong(text, "must be seconds, or such as 90s, 10min or 2h") from None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Gives a parser the options of `sweep`."""
    parser.add_argument(
        "task",
        metavar="TASK",
        help="module:attribute or path/to/file.py:attribute, a lrax.Task or a function that"
        " returns one; such as lrax.tasks:digits",
    )
    add = parser.add_argument_group("what is tried").add_argument
    add(
        "--optimizer",
        default="optax:adam",
        metavar="NAME",
        help="module:function of the hyperparameters (optax:adam)",
    )
    add("--lr", type=axis, metavar="VALUES", help=f"of the optimizer's first parameter ({RATES})")
    add(
        "--grid",
        type=named_axis,
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="of another parameter, of which every combination is tried; may be given several times",
    )
    add("--steps", type=at_least(1), default=1000, metavar="N", help="updates of each run (1000)")
    add("--seeds", type=at_least(1), default=1, metavar="N", help="runs of each point (1)")
    add(
        "--warmup",
        default="0",
        metavar="N|P%",
        help="the rate climbs to its value over so many steps, or percent (0)",
    )
    add(
        "--decay",
        choices=list(DECAYS),
        default="constant",
        help="and goes to zero by this shape at the end of the steps, or stays (constant). Both need an optimizer whose"
        " first parameter may be a schedule, as those of Optax; for other schedules write a function that returns the"
        " optimizer under one, and name it by --optimizer",
    )
    add = parser.add_argument_group("how it is judged").add_argument
    add(
        "--objective",
        default="train_loss",
        metavar="NAME",
        help="what ranks the points: train_loss, over the last tenth of the steps, or one of what the task evaluates",
    )
    add(
        "--mode",
        choices=["min", "max"],
        default="min",
        help="what it is to be (min); max for an accuracy",
    )
    add(
        "--eval-every",
        type=at_least(1),
        metavar="N",
        help="evaluate every N steps too, and not only at the end",
    )
    add(
        "--stop",
        choices=list(STOPS),
        default="diverged",
        help="which points are not trained to the end: those that diverged (default), none of them, or by successive"
        " halving or the median rule also those that are worse than others",
    )
    add = parser.add_argument_group("how it is run").add_argument
    add(
        "--execution",
        type=_execution,
        default="auto",
        metavar="HOW",
        help="lanes to a call: auto, vmap (all), loop (one), a number, or steps (a call for each step)",
    )
    # Not the default on a CPU: the engine trains a chunk of lanes on each core anyway, by threads
    # on a single device, and that measured faster than a device for each core.
    add(
        "--devices",
        type=at_least(1),
        metavar="N",
        help="spread the lanes over so many devices; on a CPU its cores become devices for that. Not needed there:"
        " lanes run on all cores anyway, by threads, which measured faster",
    )
    add(
        "--budget",
        type=duration,
        metavar="TIME",
        help="end after this time, such as 90s, 10min or 2h",
    )
    add(
        "--checkpoint",
        metavar="FILE",
        help="keep the state here; the same command goes on from it after a stop",
    )
    add("--out", type=stem, metavar="NAME", help="write NAME.png, NAME.npz and NAME.csv")
    add("--no-progress", action="store_true", help="show no progress bar")
    add = parser.add_argument_group(
        "on several machines, with the same command on each"
    ).add_argument
    add(
        "--distributed",
        action="store_true",
        help="join the processes that Slurm, Open MPI or a TPU pod started",
    )
    add("--coordinator", metavar="HOST:PORT", help="of process 0, where nothing else tells")
    add("--processes", type=at_least(1), metavar="N", help="how many there are")
    add("--process-id", type=at_least(0), metavar="I", help="which one this is, from 0 on")


def _execution(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def at_least(low: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` on."""

    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, got {value}")
        return value

    number.__name__ = "number"  # as argparse names it in "invalid number value: 'x'"
    return number


def positive(text: str) -> float:
    """A positive number."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive and finite, got {text}")
    return value
