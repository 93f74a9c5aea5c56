"""`python -m lrax demo`: finds the learning rate of a small real task."""

import argparse
from typing import Any

import optax

from .. import _require
from ..schedules.warmups import warmup_cosine
from ..sweeps.grid import log_grid
from ..sweeps.sweep import sweep
from ..tasks.images import digits
from . import values
from .again import again
from .report import report

# The option for each argument that an error of a Python function may name.
FLAGS = {"low": "--low", "high": "--high", "n": "--rates", "seeds": "--seeds", "steps": "--steps"}


def add_to(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "demo",
        help="find the learning rate of a real task on this machine",
        description="Trains a small network on scikit-learn's digits with many learning rates at"
        " once, by Adam under a warmup-cosine schedule, and shows which rate is best. Ctrl-C ends"
        " it early and shows the updates that were made.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--rates",
        type=values.at_least(3, values.MOST_VALUES),
        default=48,
        metavar="N",
        help="number of learning rates",
    )
    for edge, default, word in (("low", 1e-3, "smallest"), ("high", 100.0, "largest")):
        parser.add_argument(
            f"--{edge}",
            type=values.positive,
            default=default,
            metavar="RATE",
            help=f"the {word} rate",
        )
    parser.add_argument(
        "--seeds",
        type=values.at_least(1, values.MOST_VALUES),
        default=2,
        metavar="N",
        help="runs of each rate",
    )
    parser.add_argument(
        "--steps", type=values.at_least(10), default=400, metavar="N", help="updates of each run"
    )
    parser.add_argument(
        "--out",
        type=values.file,
        default="lrax-demo.png",
        metavar="FILE",
        help="where to write the picture",
    )
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")
    parser.set_defaults(run=_run, flags=FLAGS)


def _run(options: argparse.Namespace) -> int:
    _require.extra("matplotlib", "demo")  # if it is missing, fail before the work
    rates = log_grid(options.low, options.high, options.rates)
    lanes = options.rates * options.seeds
    print(
        f"digits: {options.rates} rates x {options.seeds} seeds = {lanes} runs of"
        f" {options.steps} steps, side by side"
    )

    def adam(learning_rate: Any) -> optax.GradientTransformation:
        return optax.adam(warmup_cosine(learning_rate, options.steps, options.steps // 10))

    result = sweep(
        digits(),
        adam,
        {"learning_rate": rates},
        steps=options.steps,
        seeds=options.seeds,
        objective="val_loss",
        progress=not options.no_progress,
    )

    def extension(_: str, edge: str) -> str:
        # Two decades more. The default number of rates then still gives seven to a decade.
        further = options.low / 100 if edge == "low" else 100 * options.high
        return again(options.words, {f"--{edge}": f"{further:.4g}"})

    print(f"\n{report(result, extension)}")
    result.plot().savefig(options.out, dpi=120)
    print(f"picture: {options.out}")
    return 0
