"""The command line: `python -m lrax demo`, `python -m lrax show "..."`."""

import argparse
import importlib
import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import optax

from . import _require, plots, tasks
from .schedules import display, terminal
from .schedules.parse import parse
from .schedules.schedule import Schedule
from .schedules.span import span
from .schedules.warmups import warmup_cosine
from .sweeps.grid import log_grid
from .sweeps.result import SweepResult
from .sweeps.sweep import sweep

_EXAMPLES = """\
  python -m lrax show "warmup_cosine(peak=3e-4, steps=10_000, warmup=500)"
  python -m lrax show "wsd(1e-3, 5000, 100, 1000)" "0.5 * cosine(1e-3, 5000) + 1e-5" --log --out both.png"""
_COLUMNS = 8  # of rates in a table


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
    names = _names()
    show = commands.add_parser(
        "show",
        help="draw schedules, in the terminal and as a picture",
        description="Draws schedules given as text, several in one chart to compare them, and lists the rates where\n"
        "something happens. The text is Python's syntax, parsed and never run: calls of the names below,\n"
        "numbers, strings, lists, * and +.",
        epilog=f"examples:\n{_EXAMPLES}\n\nnames:\n"
        + textwrap.fill(" ".join(names), 96, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument("schedules", nargs="+", metavar="SCHEDULE", help="such as 'cosine(peak=0.1, steps=1000)'")
    show.add_argument(
        "--steps", type=_at_least(1), metavar="N", help="updates to show (default: all, and a tenth more)"
    )
    show.add_argument("--log", action="store_true", help="make the axis of the rates logarithmic")
    show.add_argument("--out", metavar="FILE", help="also write a picture, such as schedule.png")
    show.add_argument("--width", type=_at_least(20), metavar="N", help="characters in a line (default: the terminal's)")
    show.set_defaults(command=_show)
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


def _show(options: argparse.Namespace) -> int:
    if options.out:
        _require.extra("matplotlib", "plot")  # before the work, not after it
    names = _names()
    try:
        schedules = [parse(text, names) for text in options.schedules]
        steps = options.steps or max(span(schedule) or 1 for schedule in schedules)
        counts = display.sampled(steps, [count for schedule in schedules for count in display.marked(schedule)])
        lanes = [_rates(*pair, counts) for pair in zip(options.schedules, schedules, strict=True)]
    except ValueError as error:
        print(f"lrax: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    labels = [
        f"lane {lane} of {schedule!r}" if len(rates) > 1 else repr(schedule)
        for schedule, rates in zip(schedules, lanes, strict=True)
        for lane in range(len(rates))
    ]
    letters = iter(terminal.keys(len(labels)))
    keys = [[next(letters) for _ in rates] for rates in lanes]
    print(
        terminal.chart(
            counts,
            [curve for rates in lanes for curve in rates],
            labels,
            width=options.width or min(shutil.get_terminal_size((80, 24)).columns, 120),
            log=options.log,
            color=sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb",
            ascii=not (sys.stdout.encoding or "").lower().startswith("utf"),
        )
    )
    if len(labels) <= _COLUMNS:
        print(f"\n{display.key_rates(schedules, keys, steps)}")
    if options.out:
        plots.schedules(schedules, steps, log=options.log).savefig(options.out, dpi=150)
        print(f"\npicture: {options.out}")
    return 0


def _rates(text: str, schedule: Schedule, counts: Any) -> Any:
    try:
        return display.rates(schedule, counts)
    except (TypeError, ValueError) as error:  # as where lists of unlike lengths meet
        raise ValueError(f"cannot evaluate `{text}`: {error}") from error


def _names() -> dict[str, Callable[..., Any]]:
    """What `show` may call: the builders and combinators, and other frameworks' schedules under their names."""
    package = sys.modules[__package__ or "lrax"]
    public = {name: getattr(package, name) for name in package.__all__}
    names = {name: value for name, value in public.items() if _makes_schedule(value)}
    try:
        compat = importlib.import_module(".compat", package.__name__)
    except ModuleNotFoundError:
        return names
    for family, module in sorted(vars(compat).items()):
        if inspect.ismodule(module) and module.__name__ == f"{compat.__name__}.{family}":
            own = {name: value for name, value in vars(module).items() if name[0] != "_" and callable(value)}
            listed = getattr(module, "__all__", [name for name in own if own[name].__module__ == module.__name__])
            names |= {f"{family}.{name}": own[name] for name in sorted(listed) if name in own}
    return names


def _makes_schedule(value: Any) -> bool:
    return inspect.isfunction(value) and inspect.signature(value).return_annotation in (Schedule, "Schedule")


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
