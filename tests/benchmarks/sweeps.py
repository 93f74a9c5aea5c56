"""A sweep of learning rates in five ways, timed in one run: `python -m tests.benchmarks.sweeps`.

All strategies train the same lanes: the same initial parameters, batches and rates, by Adam. The repeats of the
strategies take turns, so that a busy moment of the machine meets all of them. `first` is the time to the first answer,
tracing and compiling included; `run` is the best later one.
"""

import argparse
import dataclasses
import importlib.util
import os
import platform
import time

import jax
import numpy as np
import optax

import lrax

from . import alternatives

TASKS = {
    "mlp": (lambda: lrax.tasks.digits(), 100),
    "cnn": (lambda: lrax.tasks.digits("cnn", batch_size=32), 20),  # of 32, or it would take all of the run's time
    "char_lm": (lambda: lrax.tasks.char_lm(), 20),
    "diabetes": (lambda: lrax.tasks.diabetes(), 100),
}


def lrax_sweep(problem):
    """(d) `lrax.sweep`, the whole call."""
    grid = {"learning_rate": problem.rates}
    call = lambda: lrax.sweep(problem.task, optax.adam, grid, steps=problem.steps, progress=False)
    return lambda: call().losses[:, 0, -1]


def strategies(with_torch):
    found = {
        "(a) loop of jitted steps": alternatives.loop_of_steps,
        "(b) loop of scans": alternatives.loop_of_scans,
        "(c) jit(vmap(scan))": alternatives.vmap_of_scan,
        "(d) lrax.sweep": lrax_sweep,
    }
    if with_torch:
        from . import torch_loop

        found["(e) PyTorch, a loop"] = torch_loop.loop
    return found


def measure(problem, found, repeats):
    """First and best later seconds, final losses and a note, by strategy."""
    runs = {name: make(problem) for name, make in found.items()}
    first, losses, best = {}, {}, dict.fromkeys(runs, np.inf)
    for name, run in runs.items():
        begin = time.perf_counter()
        losses[name] = run()
        first[name] = time.perf_counter() - begin
    for _ in range(repeats):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - begin)
    return {name: (first[name], best[name], losses[name], getattr(run, "note", "")) for name, run in runs.items()}


def report(title, measured):
    ours, reference = measured["(d) lrax.sweep"], measured["(b) loop of scans"][2]
    print(f"\n{title}\n{'':26}{'first s':>9}{'run s':>9}{'run / lrax':>12}{'first / lrax':>14}{'loss differs':>14}")
    for name, (first, best, losses, note) in measured.items():
        differs = np.max(np.abs(losses - reference) / np.abs(reference))
        ratios = f"{best / ours[1]:12.2f}{first / ours[0]:14.2f}"
        print(f"{name:26}{first:9.2f}{best:9.3f}{ratios}{differs:14.1e}  {note}".rstrip())


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--lanes", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of every task, instead of its own number")
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args(arguments)
    with_torch = not options.no_torch and importlib.util.find_spec("torch") is not None

    versions = {"python": platform.python_version(), "jax": jax.__version__, "optax": optax.__version__}
    if with_torch:
        import torch

        versions["torch"] = torch.__version__
    device, load = jax.devices()[0], os.getloadavg()[0]
    print(f"{device.platform} ({device.device_kind}), {os.cpu_count()} cores;", versions)
    if load > 0.25 * (os.cpu_count() or 1):
        print(f"warning: the machine is busy, load {load:.2f}; take no figure from this run")

    results = {}
    for name in options.tasks:
        make, steps = TASKS[name]
        steps = options.steps or steps
        # Nobody pays for an evaluation: the others have none.
        task = dataclasses.replace(make(), evaluate=None)
        # Sane rates: lanes near divergence are chaotic, and no two programs agree on them.
        problem = alternatives.problem(task, lrax.log_grid(1e-4, 1e-2, options.lanes), steps)
        results[name] = measure(problem, strategies(with_torch), options.repeats)
        report(f"{name}: {options.lanes} lanes x {steps} steps", results[name])
    return results


if __name__ == "__main__":
    main()
