"""A sweep of learning rates by lrax, by hand and by PyTorch: `python -m tests.benchmarks.sweeps`.

All strategies train the same lanes: the same initial parameters, batches and rates, by Adam. Those
in JAX do the whole job, from a key to losses on the host; PyTorch is given JAX's parameters and
batches as tensors.

`first` is the time to the first answer, tracing and compiling included, of new functions with all
of JAX's caches cleared; `run` is a later call. Strategies take turns, and of all their turns the
best counts, so that a busy moment of the machine meets all of them.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import time
from typing import NamedTuple

import jax
import numpy as np
import optax

import lrax

from . import alternatives

FULL = (8, 32, 128)
TASKS = {  # what is trained, its steps, and the lanes of a run that ends in a few minutes
    "mlp": (lambda: lrax.tasks.digits(), 100, FULL),
    "mlp256": (lambda: lrax.tasks.digits(widths=(256, 256)), 50, (8, 32)),
    "cnn": (lambda: lrax.tasks.digits("cnn", batch_size=32), 20, FULL),
    "char_lm": (lambda: lrax.tasks.char_lm(), 20, (8,)),
    "diabetes": (lambda: lrax.tasks.diabetes(), 100, (32,)),
}
OURS, REFERENCE = "lrax.sweep", "loop of scans"


class Measured(NamedTuple):
    first: float
    run: float
    losses: np.ndarray
    note: str


def lrax_sweep(problem):
    """The whole call, with an optimizer of its own: lrax keeps its programs by that."""
    adam = lambda learning_rate: optax.adam(learning_rate)
    grid = {"learning_rate": problem.rates}

    def run():
        result = lrax.sweep(problem.task, adam, grid, steps=problem.steps, progress=False)
        run.note = " ".join(str(result.explain()).split())
        return result.losses[:, 0, -1]

    return run


def strategies(problem, with_torch):
    """What makes each strategy ready to run; that is timed as a part of its first answer."""
    made = {OURS: lrax_sweep, **alternatives.STRATEGIES}
    if with_torch:
        from . import torch_ensemble, torch_loop

        # Data, threads and the kind of Adam are made out beforehand, for nothing.
        loop, ensemble = torch_loop.loop(problem), torch_ensemble.ensemble(problem)
        made |= {"PyTorch loop": lambda _: loop, "PyTorch ensemble": lambda _: ensemble}
    return made


def turn(make, problem, repeats, patience=1.0):
    """One turn of a strategy: its first answer, and up to `repeats` later ones, fewer where they take long."""
    jax.clear_caches()
    begin = time.perf_counter()
    run = make(problem)
    losses = run()
    first = time.perf_counter() - begin
    times = []
    while len(times) < repeats and sum(times) < patience:
        begin = time.perf_counter()
        losses = run()
        times.append(time.perf_counter() - begin)
    return Measured(first, min(times), losses, getattr(run, "note", ""))


def measure(problem, made, rounds, repeats):
    """The best of each strategy."""
    best = {}
    for i in range(rounds):
        for name in list(made)[
            :: -1 if i % 2 else 1
        ]:  # whoever was last begins: after itself, so to say
            new = turn(made[name], problem, repeats)
            old = best.get(name, new)
            best[name] = new._replace(first=min(old.first, new.first), run=min(old.run, new.run))
    return {name: best[name] for name in made}


def ratios(measured):
    """How lrax does against the fastest others."""
    ours, best = (
        measured[OURS],
        lambda field, names: min(getattr(measured[name], field) for name in names),
    )
    by_torch = [name for name in measured if name.startswith("PyTorch")]
    found = {
        "run": best("run", alternatives.STRATEGIES) / ours.run,
        "answer": ours.first / best("first", alternatives.STRATEGIES),
    }
    return found | ({"torch": best("run", by_torch) / ours.run} if by_torch else {})


def report(title, measured):
    ours, reference = measured[OURS], measured[REFERENCE].losses
    print(
        f"\n{title}\n{'':24}{'first s':>9}{'run s':>9}{'run / lrax':>12}{'first / lrax':>14}{'loss differs':>14}"
    )
    for name, (first, run, losses, note) in measured.items():
        differs = np.max(np.abs(losses - reference) / np.abs(reference))
        line = f"{name:24}{first:9.2f}{run:9.3f}{run / ours.run:12.2f}{first / ours.first:14.2f}{differs:14.1e}"
        print(line, "" if name == OURS else f" {note}".rstrip(), sep="", flush=True)
    if ours.note:
        print(f"{OURS}: {ours.note}")


def summarise(results):
    """Against the fastest alternative of each kind, whichever that is; with what issue 4 asks for."""
    print(f"\n{'lrax against the fastest':24}{'run, JAX':>12}{'run, torch':>12}{'to answer':>12}")
    print(f"{'task, lanes':24}{'>= 0.97':>12}{'> 1':>12}{'<= 1.10':>12}")
    missed = 0
    for (task, lanes), measured in results.items():
        found = ratios(measured)
        goals = [("run", found["run"] >= (1.5 if task == "cnn" else 0.97))]
        goals += [("torch", found.get("torch", np.inf) > 1), ("answer", found["answer"] <= 1.1)]
        cells = [
            f"{found[name]:.2f}{' ' if met else '!'}" if name in found else "- "
            for name, met in goals
        ]
        missed += sum(not met for _, met in goals)
        print(f"{f'{task}, {lanes}':24}" + "".join(f"{cell:>12}" for cell in cells))
    print(
        "Runs: their time over lrax's, >= 1.50 on cnn. To answer: lrax's first call over theirs, those in JAX."
    )
    print(f"Goals missed (!): {missed}")


def warm_up():
    """What happens once in a process is nobody's: the backend, LLVM, imports inside of functions."""
    task = lrax.tasks.diabetes(widths=())
    task = dataclasses.replace(
        task, batch=dataclasses.replace(task.batch, shuffle=False)
    )  # which compiles sooner
    problem = alternatives.problem(task, lrax.log_grid(1e-4, 1e-2, 2), 2)
    for make in (alternatives.vmap_of_scan, lrax_sweep):
        turn(make, problem, 1)


def machine(with_torch):
    """Where this runs."""
    versions = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "optax": optax.__version__,
    }
    if with_torch:
        import torch

        versions["torch"] = torch.__version__
    device, cores = jax.devices()[0], os.cpu_count() or 1
    load = os.getloadavg()[0]
    print(f"{device.platform} ({device.device_kind}), {cores} cores, load {load:.2f};", versions)
    if load > 0.25 * cores:
        print("warning: the machine is busy; take no figure from this run")
    return {
        "device": f"{device.platform} ({device.device_kind})",
        "cores": cores,
        "load": load,
        "versions": versions,
    }


def store(path, facts, results):
    """As JSON: the machine, and a record for each strategy of each task."""
    rows = [
        {
            "task": task,
            "lanes": lanes,
            "strategy": name,
            "first": m.first,
            "run": m.run,
            "note": m.note,
        }
        | {"final_losses": np.asarray(m.losses, float).tolist()}
        for (task, lanes), measured in results.items()
        for name, m in measured.items()
    ]
    summary = [
        {"task": task, "lanes": lanes, **ratios(measured)}
        for (task, lanes), measured in results.items()
    ]
    with open(path, "w") as file:
        json.dump(
            {**facts, "load_after": os.getloadavg()[0], "summary": summary, "rows": rows},
            file,
            indent=1,
        )


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    lanes = parser.add_mutually_exclusive_group()
    lanes.add_argument(
        "--lanes", type=int, nargs="+", help="of every task, instead of its own numbers"
    )
    lanes.add_argument(
        "--full", action="store_const", dest="lanes", const=FULL, help="8, 32 and 128 lanes of all"
    )
    parser.add_argument(
        "--rounds", type=int, default=2, help="turns of every strategy, each with a compilation"
    )
    parser.add_argument("--repeats", type=int, default=3, help="later calls in a turn")
    parser.add_argument("--steps", type=int, help="of every task, instead of its own number")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="write the results there, too")
    options = parser.parse_args(arguments)
    with_torch = not options.no_torch and importlib.util.find_spec("torch") is not None

    facts = machine(with_torch)
    warm_up()

    results = {}
    for name in options.tasks:
        make, steps, few = TASKS[name]
        for lanes in options.lanes or few:
            # Sane rates: lanes near divergence are chaotic, and no two programs agree on them.
            rates = lrax.log_grid(1e-4, 3e-3, lanes)
            problem = alternatives.problem(make(), rates, options.steps or steps)
            made = strategies(problem, with_torch)
            results[name, lanes] = measure(problem, made, options.rounds, options.repeats)
            report(f"{name}: {lanes} lanes x {problem.steps} steps", results[name, lanes])
            if options.json:
                store(options.json, facts, results)  # after each, for the run may be ended early
    summarise(results)
    print(f"load at the end: {os.getloadavg()[0]:.2f}")
    return results


if __name__ == "__main__":
    main()
