"""The command line: `python -m lrax demo`, `sweep module:task`, `show "..."`."""

import argparse
import contextlib
import inspect
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from . import _require, tasks
from .cli import shell
from .cli.report import report, write
from .display import figures, terminal
from .schedules import display
from .schedules.parse import parse
from .schedules.schedule import Schedule
from .schedules.span import span
from .schedules.warmups import warmup_cosine
from .sweeps.grid import log_grid
from .sweeps.sweep import sweep
from .training.optimizer import first_parameter

_EXAMPLES = """\
  python -m lrax show "warmup_cosine(peak=3e-4, steps=10_000, warmup=500)"
  python -m lrax show "wsd(1e-3, 5000, 100, 1000)" "0.5 * cosine(1e-3, 5000) + 1e-5" --log --out both.png"""
_COLUMNS = 8  # of rates in a table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return options.command(options)
    except (ImportError, OSError, TypeError, ValueError) as error:
        if not isinstance(error, OSError) and not shell.is_refusal(error):
            raise
        print(f"lrax: {error}", file=sys.stderr)
        return 2 if isinstance(error, shell.Mistake) else 1
    except KeyboardInterrupt:
        print("lrax: interrupted before there was anything to show", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrax", description="Everything about the learning rate, in JAX."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="find the learning rate of a real task on this machine",
        description="Trains a small network on scikit-learn's digits with many learning rates at once, by Adam under a"
        " warmup-cosine schedule, and shows which is best. Ctrl-C ends it early and shows what is done.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument(
        "--rates", type=shell.at_least(3), default=48, metavar="N", help="learning rates to try"
    )
    demo.add_argument(
        "--low", type=shell.positive, default=1e-3, metavar="RATE", help="the smallest of them"
    )
    demo.add_argument(
        "--high", type=shell.positive, default=100.0, metavar="RATE", help="the largest of them"
    )
    demo.add_argument(
        "--seeds", type=shell.at_least(1), default=2, metavar="N", help="runs of each rate"
    )
    demo.add_argument(
        "--steps", type=shell.at_least(10), default=400, metavar="N", help="updates of each run"
    )
    demo.add_argument(
        "--out", default="lrax-demo.png", metavar="FILE", help="where to write the picture"
    )
    demo.add_argument("--no-progress", action="store_true", help="show no progress bar")
    demo.set_defaults(command=_demo)
    of_task = commands.add_parser(
        "sweep",
        help="find the learning rate of a task of your own",
        description="Trains a task with many learning rates, and other hyperparameters, side by side, and says which is"
        " best.\nCtrl-C ends it early and shows what is done.",
        epilog=shell.EPILOG,
        usage="%(prog)s TASK [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # the command that goes on at an edge of the grid is made of this one's words
    )
    shell.add_options(of_task)
    of_task.set_defaults(command=_sweep)
    names = _names()
    show = commands.add_parser(
        "show",
        help="draw schedules, in the terminal and as a picture",
        description="Draws schedules given as text, several in one chart to compare them, and lists the rates where\n"
        "something happens. The text is Python's syntax, parsed and never run: calls of the names below,\n"
        "numbers, strings, lists, * and +.",
        epilog=f"examples:\n{_EXAMPLES}\n\nnames:\n"
        + textwrap.fill(
            " ".join(names), 96, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument(
        "schedules", nargs="+", metavar="SCHEDULE", help="such as 'cosine(peak=0.1, steps=1000)'"
    )
    show.add_argument(
        "--steps",
        type=shell.at_least(1),
        metavar="N",
        help="updates to show (default: all, and a tenth more)",
    )
    show.add_argument("--log", action="store_true", help="make the axis of the rates logarithmic")
    show.add_argument("--out", metavar="FILE", help="also write a picture, such as schedule.png")
    show.add_argument(
        "--width",
        type=shell.at_least(20),
        metavar="N",
        help="characters in a line (default: the terminal's)",
    )
    show.set_defaults(command=_show)
    return parser


def _demo(options: argparse.Namespace) -> int:
    _require.extra("matplotlib", "demo")  # before the work, not after it
    if not Path(options.out).parent.is_dir():
        raise FileNotFoundError(
            f"--out must be a file in a folder that is there, got {options.out!r}"
        )
    task = tasks.digits()
    warmup = options.steps // 10

    def adam(learning_rate):
        return optax.adam(warmup_cosine(learning_rate, options.steps, warmup))

    rates = log_grid(options.low, options.high, options.rates)
    lanes = options.rates * options.seeds
    print(
        f"digits: {options.rates} rates x {options.seeds} seeds = {lanes} runs of {options.steps} steps, side by side"
    )
    result = sweep(
        task,
        adam,
        {"learning_rate": rates},
        steps=options.steps,
        seeds=options.seeds,
        objective="val_loss",
        progress=not options.no_progress,
    )

    def extension(_: str, edge: str) -> str:
        further = options.low / 100 if edge == "low" else 100 * options.high
        return shell.again(options.arguments, {f"--{edge}": f"{further:.4g}"})

    print(f"\n{report(result, extension)}")
    result.plot().savefig(options.out, dpi=120)
    print(f"picture: {options.out}")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    _set_up_devices(options)
    task = shell.task(options.task)
    optimizer, words = shell.optimizer(
        options.optimizer, steps=options.steps, warmup=options.warmup, decay=options.decay
    )
    axes = shell.grid(options.lr, options.grid, optimizer)
    points = math.prod(len(axis.values) for axis in axes.values())
    is_first = jax.process_index() == 0
    if is_first:
        seeds = (
            f" x {options.seeds} seeds = {points * options.seeds} runs" if options.seeds > 1 else ""
        )
        lanes = f"{points} points{seeds} of {options.steps} steps"
        print(f"{options.task}: {lanes}, by {words}")
    result = sweep(
        task,
        optimizer,
        {name: axis.values for name, axis in axes.items()},
        steps=options.steps,
        seeds=options.seeds,
        objective=options.objective,
        mode=options.mode,
        eval_every=options.eval_every,
        stop=shell.STOPS[options.stop],
        execution=options.execution,
        devices=options.devices,
        budget=options.budget,
        checkpoint=options.checkpoint,
        progress=False if options.no_progress else None,
    )
    if is_first:
        first = first_parameter(optimizer)
        print(
            f"\n{report(result, lambda *edge: shell.extended(options.arguments, axes, first, *edge))}"
        )
        for line in write(result, options.out) if options.out else []:
            print(line)
    return 0 if np.all(np.isfinite(result.scores[result.ranking[0]])) else 1


def _set_up_devices(options: argparse.Namespace) -> None:
    """Before JAX looks at what there is."""
    if (
        options.devices is not None
        and options.devices > 1
        and "device_count" not in os.environ.get("XLA_FLAGS", "")
    ):
        with contextlib.suppress(RuntimeError):  # it has looked: `sweep` says how many there are
            jax.config.update("jax_num_cpu_devices", options.devices)
    given = (options.coordinator, options.processes, options.process_id)
    if not options.distributed and given == (None, None, None):
        return
    try:
        jax.distributed.initialize(*given)
    except (RuntimeError, ValueError) as error:
        raise shell.Mistake(
            f"the processes did not come together: {error}\n"
            "Give --coordinator HOST:PORT --processes N --process-id I where the environment does not tell."
        ) from error


def _show(options: argparse.Namespace) -> int:
    if options.out:
        _require.extra("matplotlib", "plot")  # before the work, not after it
    names = _with_prefixes(_names())
    try:
        schedules = [parse(text, names) for text in options.schedules]
        steps = options.steps or max(span(schedule) or 1 for schedule in schedules)
        counts = display.sampled(
            steps, [count for schedule in schedules for count in display.marked(schedule)]
        )
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
            color=sys.stdout.isatty()
            and "NO_COLOR" not in os.environ
            and os.environ.get("TERM") != "dumb",
            ascii=not (sys.stdout.encoding or "").lower().startswith("utf"),
        )
    )
    if len(labels) <= _COLUMNS:
        print(f"\n{display.key_rates(schedules, keys, steps)}")
    if options.out:
        figures.schedules(schedules, steps, log=options.log).savefig(options.out, dpi=150)
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
    names = {
        name: getattr(package, name)
        for name in package.__all__
        if _makes_schedule(getattr(package, name))
    }
    # What has `__all__` is a framework; the other modules of `compat` are its own.
    families = {
        name: module
        for name, module in sorted(vars(package.compat).items())
        if hasattr(module, "__all__")
    }
    for family, module in families.items():
        names |= {f"{family}.{name}": getattr(module, name) for name in module.__all__}
    return names


def _with_prefixes(names: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """The names also as a schedule prints them, `compat.torch.OneCycleLR`, and as code has them, `lrax.cosine`."""
    printed = {f"compat.{name}": value for name, value in names.items() if "." in name}
    return names | printed | {f"lrax.{name}": value for name, value in (names | printed).items()}


def _makes_schedule(value: Any) -> bool:
    return inspect.isfunction(value) and inspect.signature(value).return_annotation in (
        Schedule,
        "Schedule",
    )


if __name__ == "__main__":
    sys.exit(main())
