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
        help="where a lrax.Task, or a function that returns one, is found: module:attribute or"
        " path/to/file.py:attribute, such as lrax.tasks:digits",
    )
    _add_what_is_tried(parser.add_argument_group("what is tried").add_argument)
    _add_how_it_is_judged(parser.add_argument_group("how it is judged").add_argument)
    _add_what_is_recorded(parser.add_argument_group("what is recorded").add_argument)
    _add_how_it_is_run(parser.add_argument_group("how it is run").add_argument)
    machines = parser.add_argument_group("on several machines, with the same command on each")
    _add_machines(machines.add_argument)


def add_optimizer(add: Any) -> None:
    """Adds the options for the optimizer, its schedule and the initial parameters."""
    add(
        "--optimizer",
        default="optax:adam",
        metavar="NAME",
        help="module:function, which takes the hyperparameters and returns the optimizer"
        " (optax:adam)",
    )
    add(
        "--warmup",
        default="0",
        metavar="N|P%",
        help="length of a linear warmup, in steps or in percent of all steps (0)",
    )
    add(
        "--decay",
        choices=list(objects.DECAYS),
        default="constant",
        help="the rate after the warmup: constant (default), or falling to zero at the last step in"
        " this shape. --warmup and --decay need an optimizer whose first parameter may be a"
        " schedule, as in Optax. For another schedule, write a function that returns an optimizer"
        " with that schedule, and give its name to --optimizer",
    )
    add(
        "--params",
        metavar="NAME",
        help="module:attribute: the parameters from which every run starts, or a function that"
        " returns these parameters; by default the task's initial parameters",
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
        help="values of another parameter. May be given several times; every combination is tried",
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
        help="runs of each point, each from another seed (1)",
    )


def _add_how_it_is_judged(add: Any) -> None:
    add(
        "--objective",
        metavar="NAME",
        help="what ranks the points: train_loss (default), which is averaged over the last tenth of"
        " the steps, or a metric that the task's evaluate returns",
    )
    add(
        "--mode",
        choices=["min", "max"],
        help="whether a low (min) or a high (max) objective is better; by default this follows from"
        " a name such as val_loss or accuracy",
    )
    add(
        "--select",
        choices=["last", "best", "tail"],
        help="which evaluations of a run rank it: the last one (default), the best one, or the mean"
        " of the last tenth; without --eval-every there is only the last one",
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
        help="which points are stopped early: none; diverged ones (default); or, with halving"
        " (successive halving) or median (the median rule), also those that are worse than others",
    )


def _add_what_is_recorded(add: Any) -> None:
    add(
        "--monitor",
        action="append",
        default=[],
        metavar="NAME",
        help=f"a monitor to record during the runs: {', '.join(monitors.__all__)}, or"
        " module:function, a function of a Step. May be given several times",
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
        help="how many runs one call of the compiled program trains side by side: auto (default),"
        " vmap (all), loop (one), or a number; or steps (a call for each step), or tune (time some"
        " of these first, and take the fastest)",
    )
    # The devices of a CPU share its cores. A single device uses all cores too, by threads, and that
    # was measured to be faster than one device per core.
    add(
        "--devices",
        type=values.at_least(1),
        metavar="N",
        help="number of devices over which the runs are spread. On a CPU the cores become devices;"
        " this is slower than the default of one device, which uses all cores too",
    )
    add(
        "--budget",
        type=values.duration,
        metavar="TIME",
        help="time after which the sweep ends, such as 90s, 10min or 2h",
    )
    add(
        "--checkpoint",
        metavar="FILE",
        help="file in which the state is saved. After an interruption, the same command continues"
        " from this file",
    )
    add(
        "--dry-run",
        action="store_true",
        help="train only a few updates, to estimate the time and the memory of the sweep",
    )
    add("--no-progress", action="store_true", help="show no progress bar")


def _add_machines(add: Any) -> None:
    add(
        "--distributed",
        action="store_true",
        help="run as one of the processes that Slurm, Open MPI or a TPU pod has started",
    )
    add("--coordinator", metavar="HOST:PORT", help="address of process 0")
    add("--processes", type=values.at_least(1), metavar="N", help="number of processes")
    add(
        "--process-id",
        type=values.at_least(0),
        metavar="I",
        help="index of this process, from 0 on",
    )
