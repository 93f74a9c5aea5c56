"""The command line: `python -m lrax demo`."""

import argparse
import sys
from collections.abc import Sequence

import optax

from . import _require, tasks
from .schedules.warmups import warmup_cosine
from .sweeps.grid import log_grid
from .sweeps.result import SweepResult
from .sweeps.sweep import sweep


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ImportError, OSError, ValueError) as error:
        print(f"lrax: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lrax: interrupted before there was anything to show", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lrax", description="Everything about the learning rate, in JAX.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="find the learning rate of a real task on this machine",
        description="Trains a small network on scikit-learn's digits with many learning rates at once, by Adam under a"
        " warmup-cosine schedule, and shows which is best. Ctrl-C ends it early and shows what is done.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--rates", type=_at_least(3), default=48, metavar="N", help="learning rates to try")
    demo.add_argument("--low", type=_positive, default=1e-3, metavar="RATE", help="the smallest of them")
    demo.add_argument("--high", type=_positive, default=100.0, metavar="RATE", help="the largest of them")
    demo.add_argument("--seeds", type=_at_least(1), default=2, metavar="N", help="runs of each rate")
    demo.add_argument("--steps", type=_at_least(10), default=400, metavar="N", help="updates of each run")
    demo.add_argument("--out", default="lrax-demo.png", metavar="FILE", help="where to write the picture")
    demo.add_argument("--no-progress", action="store_true", help="show no progress bar")
    demo.set_defaults(command=_demo)
    return parser


def _demo(options: argparse.Namespace) -> int:
    _require.extra("matplotlib", "demo")  # before the work, not after it
    task = tasks.digits()
    warmup = options.steps // 10

    def adam(learning_rate):
        return optax.adam(warmup_cosine(learning_rate, options.steps, warmup))

    rates = log_grid(options.low, options.high, options.rates)
    lanes = options.rates * options.seeds
    print(f"digits: {options.rates} rates x {options.seeds} seeds = {lanes} runs of {options.steps} steps, all at once")
    result = sweep(
        task,
        adam,
        {"learning_rate": rates},
        steps=options.steps,
        seeds=options.seeds,
        objective="val_loss",
        progress=not options.no_progress,
    )
    _report(result)
    result.plot().savefig(options.out, dpi=120)
    print(f"picture: {options.out}")
    return 0


def _report(result: SweepResult) -> None:
    print(f"\n{result.table()}\n")
    info, done = result.info, result.losses.shape[-1]
    if done < info["steps"]:
        print(f"interrupted after {done} of {info['steps']} steps")
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    print(f"device:  {info['device']}; {versions}")
    print(f"time:    {info['compile_seconds']:.1f} s to compile, {info['run_seconds']:.1f} s to run")
    best = result.optimum()
    low, high = best.interval
    print(f"best:    learning rate {best.rate:.2g}, between {low:.2g} and {high:.2g}")
    if best.at_edge:
        print(f"         at the {best.at_edge} edge of the grid: the best rate may lie beyond, extend it that way")


def _at_least(low: int):
    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, got {value}")
        return value

    number.__name__ = "number"  # as argparse names it in "invalid number value: 'x'"
    return number


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive and finite, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
