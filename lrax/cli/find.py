"""`python -m lrax find module:task`: finds the learning rate for one long run."""

import argparse
from typing import Any

from ..finders.find import find
from . import objects, values
from .errors import Mistake, with_flags
from .sweep_options import add_optimizer

EPILOG = """\
examples:
  python -m lrax find lrax.tasks:digits --steps 400 --warmup 10% --decay cosine
  python -m lrax find train.py:task --optimizer train.py:adam --steps 5000 --runs 7
  python -m lrax find train.py:task --optimizer train.py:muon --names muon_rate,adam_rate \\
      --bounds muon_rate=1e-3:1 --bounds adam_rate=1e-5:1e-1 --steps 5000 --runs 30
  python -m lrax find my_package.model:task --steps 20000 --budget 2h --checkpoint search.npz

exit status: 0 with a rate that is certain within an octave, 1 with a less certain one or after an
error, 2 for a wrong command, 130 if Ctrl-C came before there was anything to show."""
# Options that are passed on to `lrax.find` under their own names if they are given. Without them
# `find` takes its own defaults.
PASSED = ("objective", "mode", "names", "runs", "seeds", "budget", "checkpoint")
# The option of each argument of `lrax.find`. Errors, and the reason why a rate is not certain, name
# the option in place of the argument.
FLAGS = {name: f"--{name}" for name in (*PASSED, "bounds", "steps", "params", "optimizer")}


def add_to(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "find",
        help="find the rate for one long run of your own task, and how sure it is",
        description="Searches the learning rate for a run of a task: many rates begin, the worse\n"
        "ones stop, and the best ones are trained to the end with several seeds.",
        epilog=EPILOG,
        usage="%(prog)s TASK --steps N [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("task", metavar="TASK", help="module:attribute or path/to/file.py:attribute, a lrax.Task")
    add("--steps", type=values.at_least(1), required=True, metavar="N", help="updates of the run")
    add_optimizer(add)
    add(
        "--runs",
        type=values.positive,
        metavar="N",
        help="the most that the search may cost, in full runs (15)",
    )
    add(
        "--seeds",
        type=values.at_least(1),
        metavar="N",
        help="seeds with which the best rates are trained (3)",
    )
    add(
        "--names",
        type=lambda text: text.split(","),
        metavar="A,B",
        help="two or three parameters of the optimizer that are rates; then give more --runs",
    )
    add(
        "--bounds",
        type=_bounds,
        action="append",
        metavar="[NAME=]LOW:HIGH",
        help="the lowest and the highest rate allowed; with --names, once for each name or for all",
    )
    add(
        "--objective",
        metavar="NAME",
        help="what decides: a metric that the task's evaluate returns, or train_loss (val_loss)",
    )
    add(
        "--mode",
        choices=["min", "max"],
        help="whether a low or a high objective is good; by default this follows from its name",
    )
    add("--budget", type=values.duration, metavar="TIME", help="end after this time, such as 10min")
    add(
        "--checkpoint",
        metavar="FILE",
        help="keep the state in files with this name and a number; the same command goes on from"
        " them",
    )
    add("--out", type=values.file, metavar="FILE", help="write the picture of the evidence")
    add("--no-progress", action="store_true", help="show no progress bar")
    parser.set_defaults(run=_run, flags=FLAGS)


def _bounds(text: str) -> tuple[str, tuple[float, float]]:
    """The name and the two rates of a text such as "1e-4:1" or "adam_rate=1e-4:1"."""
    name, equals, ends = text.rpartition("=")
    low, colon, high = ends.partition(":")
    wrong = argparse.ArgumentTypeError(
        f"must be low:high, such as 1e-4:1, or name=low:high, got {text!r}"
    )
    if not colon or (equals and not name):
        raise wrong
    try:
        return name, (values.positive(low), values.positive(high))
    except ValueError:  # a word in place of a number
        raise wrong from None


def _joined(bounds: list[tuple[str, tuple[float, float]]]) -> Any:
    """The argument `bounds` of `lrax.find`: one pair, or `{name: pair}`."""
    found = dict(bounds)
    if len(found) < len(bounds):
        raise Mistake("--bounds must be given once, or once for each name")
    if "" not in found:
        return found
    if len(found) > 1:
        raise Mistake("--bounds must be for all rates, or for each name, not both")
    return found[""]


def _run(options: argparse.Namespace) -> int:
    task = objects.task(options.task)
    optimizer, words = objects.optimizer(
        options.optimizer,
        steps=options.steps,
        warmup=options.warmup,
        decay=options.decay,
        names=options.names or (),
    )
    print(f"{options.task}: the rate for {options.steps} steps, by {words}")
    params = {} if options.params is None else {"params": objects.parameters(options.params)}
    given = {name: getattr(options, name) for name in PASSED if getattr(options, name) is not None}
    if options.bounds:
        given["bounds"] = _joined(options.bounds)
    progress = False if options.no_progress else None
    found = find(task, optimizer, steps=options.steps, progress=progress, **params, **given)
    print(f"\n{with_flags(str(found), FLAGS)}")
    if options.out:
        found.plot().savefig(options.out, dpi=120)
        print(f"picture: {options.out}")
    return 0 if found.certain else 1
