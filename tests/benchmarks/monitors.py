"""What the monitors cost: `python -m tests.benchmarks.monitors`.

Each task is swept without monitors and with the five of `lrax.monitors`, in turn. They are recorded
at every update of the CNN and the transformer, and at every tenth of the small MLP, whose update is
a few microseconds long. The cost is the median, over the pairs of turns, of how much longer the
sweep with them takes: by the clock, and by the processor's time, which hardly depends on what else
the machine does. Programs are compiled before.

With `--by-hand`, one run is trained in one scan, as a loop written by hand does. The optimizer itself
records the same monitors there, by `lrax.recorded`.
"""

import argparse
import json
import statistics
import time
from typing import NamedTuple

import jax
import numpy as np
import optax

import lrax

from .sweeps import machine

MONITORS = [getattr(lrax.monitors, name) for name in lrax.monitors.__all__]
TASKS = {  # what is trained, its steps, and the updates between two records
    "mlp": (lambda: lrax.tasks.digits(), 1500, 10),
    "cnn": (lambda: lrax.tasks.digits("cnn", batch_size=32), 200, 1),
    "char_lm": (lambda: lrax.tasks.char_lm(), 20, 1),
}
GOAL = 5.0  # per cent


class Measured(NamedTuple):
    task: str
    record_every: int
    seconds: float  # the best sweep or run without monitors
    clock: float  # per cent that one with monitors takes longer
    processor: float  # the same of the processor's time


def adam(learning_rate):
    return optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(learning_rate))


def timed(run):
    """Seconds of a call by the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def sweeps(name, lanes, steps):
    """A sweep without and with monitors."""
    make, _, every = TASKS[name]
    task, grid = make(), lrax.log_grid(1e-4, 3e-3, lanes)
    call = dict(steps=steps, stop=None, progress=False)
    plain = lambda: lrax.sweep(task, adam, grid, **call)
    watched = lambda: lrax.sweep(task, adam, grid, **call, monitors=MONITORS, record_every=every)
    expected, found = plain(), watched()
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-3)
    assert len(found.monitors) == len(MONITORS)
    return plain, watched


def runs(name, steps):
    """One run in one scan, with an optimizer that records nothing and with one that does."""
    make, _, every = TASKS[name]
    task, key = make(), jax.random.key(0)
    recorded = lambda rate: lrax.recorded(adam(rate), MONITORS, record_every=every)
    programs = [jax.jit(lrax.train(task, optimizer, steps=steps)) for optimizer in (adam, recorded)]
    plain, watched = (
        lambda program=program: jax.block_until_ready(program(1e-3, key)) for program in programs
    )
    expected, found = plain(), watched()
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-3)
    assert len(lrax.history(found.opt_state).monitors) == len(MONITORS)
    return plain, watched


def measure(name, lanes, steps, repeats, by_hand):
    """A task without and with monitors, in turn."""
    _, own_steps, every = TASKS[name]
    steps = steps or own_steps
    plain, watched = runs(name, steps) if by_hand else sweeps(name, lanes, steps)
    pairs = []
    for i in range(repeats):
        # Whoever was last begins, so that a slow drift of the machine meets both.
        order = (plain, watched) if i % 2 == 0 else (watched, plain)
        times = {run: timed(run) for run in order}
        pairs.append((times[plain], times[watched]))
    cost = [
        statistics.median(100 * (after[kind] / before[kind] - 1) for before, after in pairs)
        for kind in (0, 1)
    ]
    return Measured(name, every, min(before[0] for before, _ in pairs), *cost)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--steps", type=int, help="of every task, instead of its own number")
    parser.add_argument("--repeats", type=int, default=9, help="pairs of turns")
    parser.add_argument("--by-hand", action="store_true", help="one run, by `lrax.recorded`")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args(arguments)
    facts = machine(with_torch=False)
    print(f"{'task':10}{'recorded every':>15}{'seconds':>10}{'clock':>9}{'processor':>11}")
    rows = []
    for name in options.tasks:
        row = measure(name, options.lanes, options.steps, options.repeats, options.by_hand)
        rows.append(row)
        costs = f"{row.clock:+8.1f}%{row.processor:+10.1f}%"
        print(f"{row.task:10}{row.record_every:15d}{row.seconds:10.3f}{costs}", flush=True)
    worst = max(row.processor for row in rows)
    print(f"the most by the processor's time: {worst:+.1f}% (goal: below {GOAL:.0f}%)")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({**facts, "rows": [row._asdict() for row in rows]}, file)
    return rows


if __name__ == "__main__":
    main()
