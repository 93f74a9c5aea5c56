"""`python -m lrax show "..."`: draws schedules in the terminal and as a picture."""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .. import _require
from ..display import figures, terminal
from ..schedules import display
from ..schedules.parse import parse
from ..schedules.schedule import Schedule
from ..schedules.span import span
from . import values
from .errors import Mistake
from .gallery import gallery
from .names import ScheduleNames

EXAMPLES = """\
  python -m lrax show "warmup_cosine(peak=3e-4, steps=10_000, warmup=500)"
  python -m lrax show "wsd(1e-3, 5000, 100, 1000)" "0.5 * cosine(1e-3, 5000) + 1e-5" --log
  python -m lrax show --all --out gallery.png"""
COLUMNS = 8  # the most columns of rates in the table
LANES = 64  # the most curves in one chart


def add_to(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "show",
        help="draw schedules, in the terminal and as a picture",
        description="Draws schedules given as text, several in one chart to compare them, and lists"
        " the rates\nwhere something happens. The text has Python's syntax; it is parsed and never"
        " run. It may hold\nnumbers, strings, lists, * and +, and calls of the names that --names"
        " lists.",
        epilog=f"examples:\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "schedules", nargs="*", metavar="SCHEDULE", help="such as 'cosine(peak=0.1, steps=1000)'"
    )
    parser.add_argument("--names", action="store_true", help="list the names that may be called")
    parser.add_argument(
        "--all",
        action="store_true",
        help="show every schedule of lrax: a picture, its formula and when to use it",
    )
    parser.add_argument(
        "--steps",
        type=values.at_least(1),
        metavar="N",
        help="updates to show (default: all, and a tenth more)",
    )
    parser.add_argument("--log", action="store_true", help="make the axis of rates logarithmic")
    parser.add_argument(
        "--out", type=values.file, metavar="FILE", help="also write a picture, such as schedule.png"
    )
    parser.add_argument(
        "--width",
        type=values.at_least(20, 10_000),
        metavar="N",
        help="characters in a line (default: the terminal's)",
    )
    parser.set_defaults(run=_run, flags={})


def _run(options: argparse.Namespace) -> int:
    names = ScheduleNames()
    if options.names:
        print(textwrap.fill(" ".join(names), 96, break_on_hyphens=False))
        return 0
    if options.all:
        return _run_all(options)
    if not options.schedules:
        raise Mistake("give at least one schedule, such as 'cosine(peak=0.1, steps=1000)'")
    if options.out:
        _require.extra("matplotlib", "plot")  # if it is missing, fail before the work
    try:
        schedules = [parse(text, names) for text in options.schedules]
    except ValueError as error:
        raise Mistake(" ".join(str(error).split())) from None
    sizes = [_lanes(*pair) for pair in zip(options.schedules, schedules, strict=True)]
    if 0 in sizes:
        raise Mistake(f"`{_short(options.schedules[sizes.index(0)])}` has an empty list: no curve")
    if sum(sizes) > LANES:
        raise Mistake(f"at most {LANES} curves can be shown, got {sum(sizes)}")
    steps = options.steps or max(span(schedule) or 1 for schedule in schedules)
    marks = [count for schedule in schedules for count in display.marked(schedule)]
    counts = display.sampled(steps, marks)
    curves = [_rates(*pair, counts) for pair in zip(options.schedules, schedules, strict=True)]
    _print(schedules, curves, counts, steps, options)
    if options.out:
        figures.schedules(schedules, steps, log=options.log).savefig(options.out, dpi=150)
        print(f"\npicture: {options.out}")
    return 0


def _run_all(options: argparse.Namespace) -> int:
    if options.schedules or options.steps or options.log:
        raise Mistake("--all shows examples of lrax's own: give no SCHEDULE, --steps or --log")
    if options.out:
        _require.extra("matplotlib", "plot")  # if it is missing, fail before the work
    entries = gallery()
    width = _width(options)
    for entry in entries:
        counts = display.sampled(entry.steps, display.marked(entry.schedule))
        curves = list(display.rates(entry.schedule, counts))
        labels = [repr(entry.schedule)] * len(curves)
        print(f"{entry.name}: {entry.line}\n")
        print(terminal.chart(counts, curves, labels, width=width, height=8, **_style()))
        for text in (entry.formula, entry.use):
            if text:
                print("\n" + textwrap.fill(text, width, break_on_hyphens=False))
        print()
    if options.out:
        panels = {entry.name: (entry.schedule, entry.steps) for entry in entries}
        figures.gallery(panels).savefig(options.out, dpi=100)
        print(f"picture: {options.out}")
    return 0


def _width(options: argparse.Namespace) -> int:
    return options.width or min(shutil.get_terminal_size((80, 24)).columns, 120)


def _style() -> dict[str, bool]:
    """The arguments of `terminal.chart` for what the terminal can show."""
    term = os.environ.get("TERM")
    return {
        "color": sys.stdout.isatty() and "NO_COLOR" not in os.environ and term != "dumb",
        "ascii": not (sys.stdout.encoding or "").lower().startswith("utf"),
    }


def _lanes(text: str, schedule: Schedule) -> int:
    """The number of curves, from shapes alone.

    The lists in a text may broadcast to more lanes than the memory can hold.
    """
    try:
        shape = jax.eval_shape(lambda schedule: schedule(0), schedule).shape
    except Exception as error:  # bad shapes can raise any error, and come from the text
        raise _cannot_evaluate(text, error) from None
    return int(np.prod(shape, dtype=object))  # a product of Python's ints cannot overflow


def _rates(text: str, schedule: Schedule, counts: np.ndarray) -> np.ndarray:
    try:
        return display.rates(schedule, counts)
    except Exception as error:
        raise _cannot_evaluate(text, error) from None


def _cannot_evaluate(text: str, error: Exception) -> Mistake:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return Mistake(f"cannot evaluate `{_short(text)}`: {first}")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _print(
    schedules: Sequence[Schedule],
    curves: Sequence[np.ndarray],  # one array [lanes, n] per schedule
    counts: np.ndarray,
    steps: int,
    options: argparse.Namespace,
) -> None:
    """Prints the chart, and the table of the rates at the counts where something happens."""
    labels = [
        f"lane {lane} of {schedule!r}" if len(lanes) > 1 else repr(schedule)
        for schedule, lanes in zip(schedules, curves, strict=True)
        for lane in range(len(lanes))
    ]
    letters = iter(terminal.keys(len(labels)))
    keys = [[next(letters) for _ in lanes] for lanes in curves]
    chart = terminal.chart(
        counts,
        [curve for lanes in curves for curve in lanes],
        labels,
        width=_width(options),
        log=options.log,
        **_style(),
    )
    print(chart)
    if len(labels) <= COLUMNS:
        print(f"\n{display.key_rates(schedules, keys, steps)}")
