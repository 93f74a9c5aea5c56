"""How many lanes a call of `lrax.sweep` should train: `python -m tests.benchmarks.widths`.

The same sweep by `execution=` of several widths, each the best of several runs after the first. The
rule of `execution="auto"` for CPUs, in `lrax/sweeps/engine/plan.py`, comes from here.
"""

import argparse
import dataclasses
import time

import optax

import lrax

from .sweeps import TASKS, machine


def seconds(task, rates, steps, width, repeats):
    """Of a sweep that finds everything compiled, and the plan that it ran by."""
    adam = lambda learning_rate: optax.adam(learning_rate)
    run = lambda: lrax.sweep(
        task, adam, {"learning_rate": rates}, steps=steps, execution=width, progress=False
    )
    run()
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - begin)
    return best, result.info["plan"]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS, default=["mlp", "mlp256", "cnn", "char_lm"]
    )
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--steps", type=int, help="of every task, instead of its own number")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)

    machine(with_torch=False)
    rates = lrax.log_grid(1e-4, 3e-3, options.lanes)
    results = {}
    for name in options.tasks:
        make, steps, _ = TASKS[name]
        steps = options.steps or steps
        task = dataclasses.replace(make(), evaluate=None)
        print(f"\n{name}: {options.lanes} lanes x {steps} steps")
        for width in ["auto", *options.widths]:
            results[name, width] = found, plan = seconds(task, rates, steps, width, options.repeats)
            print(f"{width!s:>6}{found:9.3f} s  {plan}", flush=True)
    return results


if __name__ == "__main__":
    main()
