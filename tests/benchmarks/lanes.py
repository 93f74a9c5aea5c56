"""Throughput from 500 to 10,000 lanes: `python -m tests.benchmarks.lanes`.

The digits MLP with Adam, 28 rates and as many seeds as the lanes ask for. A lane should cost the
same in a sweep of many as in one of few: what the host does for a segment must not grow with the
number of chunks. Each number of lanes is swept twice, and the second sweep is measured; the seconds
of the processor are beside the clock's, because they hardly depend on what else the machine does.
"""

import argparse
import json
import time
from typing import NamedTuple

import optax

import lrax

from .sweeps import machine

RATES = 28


class Measured(NamedTuple):
    lanes: int
    seconds: float  # of the whole sweep, its programs compiled
    updates: float  # updates of a lane per second
    processor: float  # microseconds of the processor for an update of a lane


def measure(task, lanes, steps):
    """The second of two equal sweeps."""
    seeds = max(lanes // RATES, 1)
    call = dict(steps=steps, seeds=seeds, stop=None, progress=False)
    grid = lrax.log_grid(1e-5, 1e-2, RATES)
    lrax.sweep(task, optax.adam, grid, **call)
    clock, processor = time.perf_counter(), time.process_time()
    lrax.sweep(task, optax.adam, grid, **call)
    seconds = time.perf_counter() - clock
    updates = RATES * seeds * steps
    spent = (time.process_time() - processor) / updates
    return Measured(RATES * seeds, seconds, updates / seconds, 1e6 * spent)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lanes", type=int, nargs="+", default=(500, 1500, 5000, 10_000))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args(arguments)
    print(machine(with_torch=False))
    print(f"{'lanes':>6}{'seconds':>10}{'updates/s':>12}{'processor us':>14}")
    task, rows = lrax.tasks.digits(), []
    for lanes in options.lanes:
        row = measure(task, lanes, options.steps)
        rows.append(row)
        print(f"{row.lanes:6d}{row.seconds:10.2f}{row.updates:12,.0f}{row.processor:14.1f}")
    ratio = rows[-1].updates / rows[0].updates
    print(f"throughput of {rows[-1].lanes} lanes over {rows[0].lanes}: {ratio:.2f} (goal: 0.9)")
    if options.json:
        with open(options.json, "w") as file:
            json.dump([row._asdict() for row in rows], file)
    return rows


if __name__ == "__main__":
    main()
