"""`python -m lrax demo`: finds the learning rate of a small real task."""

import argparse
from typing import Any

import optax

from .. import _require
from ..finders.find import find
from ..schedules.schedule import Schedule
from ..schedules.warmups import warmup_cosine
from ..tasks.images import digits
from . import values
from .errors import with_flags

# The option of each argument that `lrax.find` may name in an error, or in the reason why a rate is
# not certain.
FLAGS = {name: f"--{name}" for name in ("steps", "seeds", "runs")}
FLAGS["bounds"] = "--low and --high"
BOUNDS = (1e-5, 10.0)  # if the user gives only one bound, the other one is taken from here
NEXT = """\
next:    train with optax.adam(lrax.warmup_cosine({rate:.3g}, {steps}, {warmup})), in a script
         found = lrax.find(...), then optax.adam(**found.hyperparams). For a task of your own:
         python -m lrax find train.py:task --steps 5000 --warmup 10% --decay cosine"""


def add_to(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "demo",
        help="find the learning rate of a real task on this machine",
        description="Finds the learning rate for training a small network on scikit-learn's digits"
        " by Adam under a warmup-cosine schedule: many rates begin, the worse ones stop, and the"
        " best ones are trained to the end. Ctrl-C ends it early and shows what is known.",
    )
    add = parser.add_argument
    add(
        "--steps",
        type=values.at_least(10),
        default=400,
        metavar="N",
        help="updates of the run (400)",
    )
    add(
        "--seeds",
        type=values.at_least(1, values.MOST_VALUES),
        default=3,
        metavar="N",
        help="seeds with which the best rates are trained (3)",
    )
    add(
        "--runs",
        type=values.positive,
        default=15,
        metavar="N",
        help="the most that the search may cost, in full runs (15)",
    )
    for edge, word, bound in zip(("low", "high"), ("lowest", "highest"), BOUNDS, strict=True):
        add(
            f"--{edge}",
            type=values.positive,
            metavar="RATE",
            help=f"the {word} rate allowed; by default the search begins with {bound:g}, and goes"
            " beyond it if the best rate is there",
        )
    add(
        "--out",
        type=values.file,
        default="lrax-demo.png",
        metavar="FILE",
        help="where to write the picture (lrax-demo.png)",
    )
    add("--no-progress", action="store_true", help="show no progress bar")
    parser.set_defaults(run=_run, flags=FLAGS)


def _run(options: argparse.Namespace) -> int:
    _require.extra("matplotlib", "demo")  # if it is missing, fail before the work
    print(f"digits: the rate for {options.steps} steps of Adam under a warmup and a cosine")
    found = find(
        digits(),
        optax.adam,
        steps=options.steps,
        seeds=options.seeds,
        bounds=_bounds(options),
        runs=options.runs,
        schedule=_shape,
        progress=False if options.no_progress else None,
    )
    print(f"\n{with_flags(str(found), FLAGS)}\n")
    found.plot().savefig(options.out, dpi=120)
    print(f"picture: {options.out}")
    print(NEXT.format(rate=found.rate, steps=options.steps, warmup=_warmup(options.steps)))
    return 0


def _bounds(options: argparse.Namespace) -> tuple[float, float] | None:
    """The bounds, or None if neither is given: then the search may go beyond `BOUNDS`."""
    if options.low is None and options.high is None:
        return None
    low, high = BOUNDS
    return options.low or low, options.high or high


def _shape(peak: Any, steps: int) -> Schedule:
    """The schedule of a run."""
    return warmup_cosine(peak, steps, _warmup(steps))


def _warmup(steps: int) -> int:
    """The updates of the warmup."""
    return steps // 10
