"""The options of `python -m lrax sweep`."""

import argparse
from typing import Any

from ..sweeps.rules import Halving, Median
from ..training import monitors
from . import objects, values

STOPS = {"diverged": "diverged", "none": None, "halving": Halving(), "median": Median()}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the task and the options of `sweep` to a parser."""
    parser.add_argument(
        "task",
        metavar="TASK",
        help="module:attribute or path/to/file.py:attribute, a lrax.Task or a function that"
        " returns one; such as lrax.tasks:digits",
    )
    _add_what_is_tried(parser.add_argument_group("what is tried").add_argument)
    _add_how_it_is_judged(parser.add_argument_group("how it is judged").add_argument)
    _add_what_is_recorded(parser.add_argument_group("what is recorded").add_argument)
    _add_how_it_is_run(parser.add_argument_group("how it is run").add_argument)
    machines = parser.add_argument_group("on several machines, with the same command on each")
    _add_machines(machines.add_argument)


def add_optimizer(add: Any) -> None:
    """Adds the options that make the optimizer and its first parameters."""
    add(
        "--optimizer",
        default="optax:adam",
        metavar="NAME",
        help="module:function of the hyperparameters (optax:adam)",
    )
    add(
        "--warmup",
        default="0",
        metavar="N|P%",
        help="the rate rises linearly to its value over this number of steps, or percent (0)",
    )
    add(
        "--decay",
        choices=list(objects.DECAYS),
        default="constant",
        help="the shape by which the rate then falls to zero at the last step, or stays (constant)."
        " --warmup and --decay need an optimizer whose first parameter may be a schedule, as in"
        " Optax. For other schedules write a function that returns the optimizer under one, and"
        " name it by --optimizer",
    )
    add(
        "--params",
        metavar="NAME",
        help="module:attribute, the parameters that every run starts from, or a function that"
        " returns them; by default the task's own initial ones",
    )


def _add_what_is_tried(add: Any) -> None:
    add_optimizer(add)
    add(
        "--lr",
        type=values.axis,
        metavar="VALUES",
        help=f"values of the optimizer's first parameter ({values.RATES})",
    )
    add(
        "--grid",
        type=values.named_axis,
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="values of another parameter; every combination is tried. May be given several times",
    )
    add(
        "--steps",
        type=values.at_least(1),
        default=1000,
        metavar="N",
        help="updates of each run (1000)",
    )
    add(
        "--seeds",
        type=values.at_least(1, values.MOST_VALUES),
        default=1,
        metavar="N",
        help="runs of each point, from different seeds (1)",
    )


def _add_how_it_is_judged(add: Any) -> None:
    add(
        "--objective",
        metavar="NAME",
        help="what ranks the points: train_loss (default), the mean of the last tenth of the"
        " steps, or a name that the task's evaluate returns",
    )
    add(
        "--mode",
        choices=["min", "max"],
        help="whether a low or a high objective is good; by default the objective's name says it,"
        " as loss or accuracy",
    )
    add(
        "--select",
        choices=["last", "best", "tail"],
        help="which evaluation of a run ranks it: the last (default), the best, or the mean of the"
        " last tenth; needs --eval-every",
    )
    add(
        "--eval-every",
        type=values.at_least(1),
        metavar="N",
        help="evaluate every N steps and at the end; by default at the end only",
    )
    add(
        "--stop",
        choices=list(STOPS),
        help="which points are ended early: the diverged ones (default), none, or by successive"
        " halving or the median rule also points that are worse than others",
    )


def _add_what_is_recorded(add: Any) -> None:
    add(
        "--monitor",
        action="append",
        default=[],
        metavar="NAME",
        help=f"record this along the runs: {', '.join(monitors.__all__)}, or module:function of a"
        " Step. May be given several times",
    )
    add(
        "--record-every",
        type=values.at_least(1),
        metavar="N",
        help="updates between two records of the monitors (1)",
    )
    add("--out", type=values.stem, metavar="NAME", help="write NAME.png, NAME.npz and NAME.csv")


def _add_how_it_is_run(add: Any) -> None:
    add(
        "--execution",
        type=values.execution,
        metavar="HOW",
        help="lanes to a call: auto (default), vmap (all), loop (one), a number, steps (a call for"
        " each step), or tune (time some plans first)",
    )
    # The devices of a CPU share its cores. A single device uses all cores too, by threads, and that
    # was measured to be faster than one device per core.
    add(
        "--devices",
        type=values.at_least(1),
        metavar="N",
        help="spread the lanes over this number of devices. A CPU's cores become devices for it,"
        " but one device uses all cores anyway, and faster",
    )
    add(
        "--budget",
        type=values.duration,
        metavar="TIME",
        help="end after this time, such as 90s, 10min or 2h",
    )
    add(
        "--checkpoint",
        metavar="FILE",
        help="keep the state in this file; after a stop the same command goes on from it",
    )
    add(
        "--dry-run",
        action="store_true",
        help="only train a few updates, and estimate the time and the memory of the sweep",
    )
    add("--no-progress", action="store_true", help="show no progress bar")


def _add_machines(add: Any) -> None:
    add(
        "--distributed",
        action="store_true",
        help="join the processes that Slurm, Open MPI or a TPU pod started",
    )
    add("--coordinator", metavar="HOST:PORT", help="address of process 0")
    add("--processes", type=values.at_least(1), metavar="N", help="number of processes")
    add("--process-id", type=values.at_least(0), metavar="I", help="index of this one, from 0 on")
