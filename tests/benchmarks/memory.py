"""Compiling and memory of a sweep from 1 to 256 lanes: `python -m tests.benchmarks.memory`.

An MLP on made-up data that is large beside it, so that a copy for each lane would show at once.
Every number of lanes has a process of its own: so the peaks of memory are its own, and nothing is
compiled already.

`program` is the compiled program of the most memory, by XLA's own account: arguments, results and
what is between.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import resource
import sys
import time
from contextlib import contextmanager
from typing import NamedTuple

import jax
import numpy as np
import optax

import lrax

from .sweeps import machine

MIB = 2.0**20


class Measured(NamedTuple):
    lanes: int
    compile_seconds: float  # as the result says
    first: float  # seconds of the whole first sweep
    second: float  # and of the second, with other rates
    compiled: int  # programs that the first compiled
    recompiled: int  # and the second
    retraced: int  # functions that the second traced
    program: float  # MiB
    process: float  # MiB, the most it ever had, of which imports and the data are a part
    device: float  # MiB, the peak of an accelerator's memory, or NaN


class Log:
    """What JAX says of its tracing and compiling, and the memory of the programs."""

    def __init__(self):
        self.traced, self.compiled, self.program = 0, 0, 0.0

    def event(self, name, *_, **__):
        self.traced += name.endswith("jaxpr_trace_duration")
        self.compiled += name.endswith("backend_compile_duration")

    def add(self, compiled):
        memory = compiled.memory_analysis()
        parts = ("argument", "output", "temp")
        size = (
            sum(getattr(memory, f"{part}_size_in_bytes") for part in parts)
            - memory.alias_size_in_bytes
        )
        self.program = max(self.program, size / MIB)


_logs = []  # those that listen; jax 0.7 has no public way to end the listening of JAX's own


@functools.cache
def _listen():
    jax.monitoring.register_event_duration_secs_listener(
        lambda *args, **kwargs: [log.event(*args, **kwargs) for log in _logs]
    )


@contextmanager
def logged():
    _listen()
    log, compile_ = Log(), jax.stages.Lowered.compile

    def compile_and_add(lowered, *args, **kwargs):
        compiled = compile_(lowered, *args, **kwargs)
        log.add(compiled)
        return compiled

    _logs.append(log)
    jax.stages.Lowered.compile = compile_and_add
    try:
        yield log
    finally:
        jax.stages.Lowered.compile = compile_
        _logs.remove(log)


def task_with_data(megabytes):
    """The MLP on digits, but on made-up ones."""
    digits = lrax.tasks.digits()
    examples = max(int(megabytes * MIB / (4 * 64)), 64)
    rng = np.random.default_rng(0)
    inputs = rng.random((examples, 64), np.float32)
    targets = rng.integers(0, 10, examples, np.int32)
    batch = lrax.minibatches({"inputs": inputs, "targets": targets}, 64)
    return dataclasses.replace(digits, batch=batch, evaluate=None)


def measure(lanes, steps, megabytes):
    """Two sweeps of the same shapes."""
    task, optimizer = task_with_data(megabytes), lambda learning_rate: optax.adam(learning_rate)

    def sweep(low):
        begin = time.perf_counter()
        grid = {"learning_rate": np.geomspace(low, 10 * low, lanes)}
        result = lrax.sweep(task, optimizer, grid, steps=steps, progress=False)
        return result, time.perf_counter() - begin

    with logged() as log:
        result, first = sweep(1e-4)
    with logged() as again:
        _, second = sweep(2e-4)
    scale = 1 if sys.platform == "darwin" else 1024  # of `ru_maxrss`
    stats = jax.devices()[0].memory_stats() or {}
    return Measured(
        lanes=lanes,
        compile_seconds=float(result.info["compile_seconds"]),
        first=first,
        second=second,
        compiled=log.compiled,
        recompiled=again.compiled,
        retraced=again.traced,
        program=log.program
        or float("nan"),  # a program that was not compiled ahead of time is unknown
        process=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / MIB,
        device=stats.get("peak_bytes_in_use", float("nan")) / MIB,
    )


def apart(*args):
    """`measure` in a new process."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *args).result()


def growth(rows, field):
    """What each lane adds, in MiB, between one number of lanes and the next."""
    return [
        (getattr(b, field) - getattr(a, field)) / (b.lanes - a.lanes)
        for a, b in itertools.pairwise(rows)
    ]


def report(rows, megabytes):
    columns = (
        "compile s",
        "first s",
        "second s",
        "compiled",
        "again",
        "traced",
        "program MiB",
        "process",
        "device",
    )
    print(f"{'lanes':>5}" + "".join(f"{name:>12}" for name in columns))
    for row in rows:
        lanes, *values = row
        cells = [f"{value:12d}" if isinstance(value, int) else f"{value:12.2f}" for value in values]
        print(f"{lanes:5d}" + "".join(cells))
    print(f"compile time of {rows[-1].lanes} lanes over that of {rows[0].lanes}:", end=" ")
    print(f"{rows[-1].compile_seconds / rows[0].compile_seconds:.2f} (goal: about 1)")
    for field in ("program", "process", "device"):
        added = growth(rows, field)
        if np.all(np.isfinite(added)):
            shown = ", ".join(f"{mib:.3f}" for mib in added)
            print(
                f"{field}: MiB that each further lane adds: {shown} (goal: no increase, and not the data's {megabytes})"
            )
    print(f"programs compiled by second sweeps: {sum(row.recompiled for row in rows)} (goal: 0)")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lanes", type=int, nargs="+", default=(1, 8, 64, 256))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--megabytes", type=float, default=16, help="of data")
    parser.add_argument("--here", action="store_true", help="in this process, one after the other")
    parser.add_argument("--json", metavar="FILE", help="write the results there, too")
    options = parser.parse_args(arguments)

    run = measure if options.here else apart
    # The processes first: where only one at a time may have the accelerator, this one must not take
    # it before.
    rows = [run(lanes, options.steps, options.megabytes) for lanes in options.lanes]
    facts = machine(with_torch=False)
    print(f"digits' MLP on {options.megabytes} MiB of data, {options.steps} steps")
    report(rows, options.megabytes)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {
                    **facts,
                    "load_after": os.getloadavg()[0],
                    "rows": [row._asdict() for row in rows],
                },
                file,
                indent=1,
            )
    return rows


if __name__ == "__main__":
    main()
