"""`python -m lrax sweep module:task`: finds the learning rate of a user's task."""

import argparse
import contextlib
import functools
import math
import os
from typing import Any

import jax

from ..sweeps.sweep import sweep
from ..training.optimizer import first_parameter
from . import objects, values
from .again import extended
from .errors import Mistake
from .files import write
from .report import report
from .sweep_options import STOPS, add_options

EPILOG = """\
examples:
  python -m lrax sweep lrax.tasks:digits --lr 1e-4:10:26 --steps 400 --objective val_loss
  python -m lrax sweep train.py:task --optimizer train.py:adam --grid weight_decay=0,0.01,0.1
  python -m lrax sweep my_package.model:task --stop halving --budget 2h --checkpoint adam.npz

values are low:high:n at equal ratios, low:high:n:linear at equal distances, or a list a,b,c.

exit status: 0 with a best point, 1 without one or after an error, 2 for a wrong command, 130 if
Ctrl-C came before there was anything to show."""
# Options that are passed on to `lrax.sweep` under their own names. An option that is not given is
# not passed on, so that its default is defined in one place only, in `lrax.sweep`.
PASSED = (
    "objective",
    "mode",
    "select",
    "eval_every",
    "record_every",
    "execution",
    "devices",
    "budget",
    "checkpoint",
)
# The option of each argument that an error of `lrax.sweep` may name.
FLAGS = {name: f"--{name.replace('_', '-')}" for name in (*PASSED, "steps", "seeds", "params")}
FLAGS |= {
    "monitors": "--monitor",
    "stop": "--stop",
    "grid": "--lr and --grid",
    "optimizer": "--optimizer",
}


def add_to(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "sweep",
        help="find the learning rate of your own task",
        description="Trains a task with many learning rates, and other hyperparameters, side by\n"
        "side, and says which is best. Ctrl-C ends it early and shows the updates that were made.",
        epilog=EPILOG,
        usage="%(prog)s TASK [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # `again` looks for the full names of options in the words
    )
    add_options(parser)
    parser.set_defaults(run=_run, flags=FLAGS)


def _run(options: argparse.Namespace) -> int:
    _set_up_devices(options)
    task = objects.task(options.task)
    optimizer, words = objects.optimizer(
        options.optimizer, steps=options.steps, warmup=options.warmup, decay=options.decay
    )
    axes = values.grid(options.lr, options.grid, optimizer)
    points = math.prod(len(axis.values) for axis in axes.values())
    if points * options.seeds > values.MOST_VALUES:
        raise Mistake(
            f"--lr, --grid and --seeds must make at most {values.MOST_VALUES} runs, got"
            f" {points * options.seeds}"
        )
    is_first = jax.process_index() == 0  # of several processes, only this one prints and writes
    if is_first:
        runs = f" x {options.seeds} seeds = {points * options.seeds} runs"
        size = f"{points} points{runs if options.seeds > 1 else ''} of {options.steps} steps"
        print(f"{options.task}: {size}, by {words}")
    result = sweep(
        task,
        optimizer,
        {name: axis.values for name, axis in axes.items()},
        steps=options.steps,
        seeds=options.seeds,
        progress=False if options.no_progress else None,
        **_given(options),
    )
    if options.dry_run:
        if is_first:
            print(result)  # an estimate
        return 0
    if is_first:
        extension = functools.partial(extended, options.words, axes, first_parameter(optimizer))
        print(f"\n{report(result, extension)}")
        for line in write(result, options.out) if options.out else []:
            print(line)
    return 1 if result.why_no_best else 0


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The optional arguments of `lrax.sweep` that the command gives."""
    found = {name: getattr(options, name) for name in PASSED if getattr(options, name) is not None}
    if options.stop is not None:
        found["stop"] = STOPS[options.stop]
    if options.params is not None:
        found["params"] = objects.parameters(options.params)
    if options.monitor:
        found["monitors"] = [objects.monitor(name) for name in options.monitor]
    if options.dry_run:
        found["dry_run"] = True
    return found


def _set_up_devices(options: argparse.Namespace) -> None:
    """Makes several devices of a CPU, and joins the processes of several machines.

    Both must be done before JAX starts its backends.
    """
    several = options.devices is not None and options.devices > 1
    if several and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        # A RuntimeError means that the backends have already started. If there are too few devices,
        # `sweep` then says how many there are.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", options.devices)
    given = (options.coordinator, options.processes, options.process_id)
    if not options.distributed and given == (None, None, None):
        return
    try:
        jax.distributed.initialize(*given)
    except (RuntimeError, ValueError) as error:
        raise Mistake(
            f"the processes could not connect: {error}\n"
            "Give --coordinator HOST:PORT --processes N --process-id I if the environment does not"
            " hold them."
        ) from error
