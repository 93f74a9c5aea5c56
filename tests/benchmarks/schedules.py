"""The cost of evaluating schedules beside Optax's of the same shape: `python -m
tests.benchmarks.schedules`.

Each shape is evaluated at `lanes x steps` counts in three ways, the same for both where both can:
- one: a schedule with Python's numbers at all counts, as an optimizer closes over it;
- peaks: lanes with different peaks, by `vmap` of the builder over the peak, at `steps` counts each;
- all: lanes that differ in every number; lrax's by `vmap` over the schedule as a value, Optax's,
  which cannot be traced in them, closure after closure in one program.
The time is per value, of a program that evaluates all of them again and again, the best of several
runs, the two libraries' in turn; `start` is what a call takes with one step, by peaks. Of one
schedule at one count, as a training step holds it, `given` are the instructions that XLA is given,
`left` those that it leaves, and `ms` is the best time to trace and compile them. Below 1 is in
lrax's favour. `differs` is how far apart the values are: more than 1e-7 where a phase ends, or a
stair falls, within a rounding of a step, which one of the two then takes for the step and the other
does not.
"""

import argparse
import contextlib
import functools
import os
import platform
import time
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

import lrax

# By name, in lrax and in Optax: the schedule for a peak, its durations stretched.
SHAPES = {
    "constant": (
        lambda peak, by: lrax.constant(peak),
        lambda peak, by: optax.constant_schedule(peak),
    ),
    "linear": (
        lambda peak, by: lrax.linear(peak, 0.0, 10_000 * by),
        lambda peak, by: optax.linear_schedule(peak, 0.0, 10_000 * by),
    ),
    "polynomial": (
        lambda peak, by: lrax.polynomial(peak, 0.0, 10_000 * by, 2.5),
        lambda peak, by: optax.polynomial_schedule(peak, 0.0, 2.5, 10_000 * by),
    ),
    "cosine": (
        lambda peak, by: lrax.cosine(peak, 10_000 * by),
        lambda peak, by: optax.cosine_decay_schedule(peak, 10_000 * by),
    ),
    "exponential": (
        lambda peak, by: lrax.exponential(peak, 0.5, 1000 * by),
        lambda peak, by: optax.exponential_decay(peak, 1000 * by, 0.5),
    ),
    "staircase": (
        lambda peak, by: lrax.exponential(peak, 0.5, 1000 * by, staircase=True),
        lambda peak, by: optax.exponential_decay(peak, 1000 * by, 0.5, staircase=True),
    ),
    "multistep": (
        lambda peak, by: lrax.multistep(peak, by * np.array([3000, 6000, 9000])),
        lambda peak, by: optax.piecewise_constant_schedule(
            peak, {by * 3000: 0.1, by * 6000: 0.1, by * 9000: 0.1}
        ),
    ),
    "piecewise": (
        lambda peak, by: lrax.piecewise(
            peak * np.array([0.1, 1, 0.5, 0]), by * np.array([1000, 5000, 9000])
        ),
        lambda peak, by: optax.piecewise_interpolate_schedule(
            "linear", 0.1 * peak, {by * 1000: 10.0, by * 5000: 0.5, by * 9000: 0.0}
        ),
    ),
    "warmup_cosine": (
        lambda peak, by: lrax.warmup_cosine(peak, 10_000 * by, 500 * by),
        lambda peak, by: optax.warmup_cosine_decay_schedule(0.0, peak, 500 * by, 10_000 * by),
    ),
    "warmup_constant": (
        lambda peak, by: lrax.warmup_constant(peak, 500 * by),
        lambda peak, by: optax.warmup_constant_schedule(0.0, peak, 500 * by),
    ),
    "one_cycle": (
        lambda peak, by: lrax.one_cycle(peak, 10_000 * by),
        lambda peak, by: optax.cosine_onecycle_schedule(10_000 * by, peak),
    ),
    "restarts": (
        lambda peak, by: lrax.cosine_restarts(peak, 1000 * by, mult=2.0, cycles=4),
        lambda peak, by: optax.join_schedules(
            [optax.cosine_decay_schedule(peak, 1000 * by * 2**i) for i in range(4)],
            [1000 * by, 3000 * by, 7000 * by],
        ),
    ),
    "join": (
        lambda peak, by: lrax.join(
            [lrax.linear(0.0, peak, 500 * by), lrax.cosine(peak, 9500 * by)], [500 * by]
        ),
        lambda peak, by: optax.join_schedules(
            [
                optax.linear_schedule(0.0, peak, 500 * by),
                optax.cosine_decay_schedule(peak, 9500 * by),
            ],
            [500 * by],
        ),
    ),
}


TIMES = 10


def at_all(schedule, counts):
    """The rates at an array of counts, which some of Optax's schedules do not take."""
    return jax.vmap(lambda count: jnp.asarray(schedule(count), float))(counts)


# Each way gives a function of something and the counts, and that something.
def one(build, lanes):
    return lambda _, counts: at_all(build(0.1, 1), counts.ravel()), lanes


def peaks(build, lanes):
    return lambda lanes, counts: jax.vmap(lambda peak: at_all(build(peak, 1), counts[0]))(
        lanes[0]
    ), lanes


def every_number(build, lanes):
    schedules = [build(float(peak), float(stretch)) for peak, stretch in zip(*lanes, strict=True)]
    if isinstance(schedules[0], lrax.Schedule):
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *schedules)
        return lambda stacked, counts: jax.vmap(at_all, in_axes=(0, None))(
            stacked, counts[0]
        ), stacked
    return lambda _, counts: jnp.stack(
        [at_all(schedule, counts[0]) for schedule in schedules]
    ), lanes


def a_step(build, lanes):
    return lambda _, counts: build(0.1, 1)(counts[0, 0]), lanes


class Measured(NamedTuple):
    """What one way to evaluate takes."""

    ns: float
    start: float  # in microseconds
    ms: float
    values: np.ndarray
    given: int
    left: int


WAYS = {"one": one, "peaks": peaks, "all": every_number, "step": a_step}


def lowered(function, *arguments):
    return jax.jit(lambda *arguments: function(*arguments)).lower(
        *arguments
    )  # anew, by another function


def compiled(*call):
    return lowered(*call).compile()


def alternately(functions, repeats):
    """The best seconds of each function, all run in turn, so that what else the machine does falls on each alike."""
    seconds = [[] for _ in functions]
    turns = list(zip(functions, seconds, strict=True))
    for _ in range(repeats):
        turns.reverse()  # what runs first finds the caches as its own last run left them
        for function, of in turns:
            begin = time.perf_counter()
            function()
            of.append(time.perf_counter() - begin)
    return [min(of) for of in seconds]


def measure(builds, lanes, counts, repeats):
    """For each builder and way that can be traced, what it takes."""
    results = [{} for _ in builds]
    counts, first = jax.device_put((counts, counts[:, :1]))
    for name, way in WAYS.items():
        calls = {}
        for i, build in enumerate(builds):
            function, argument = way(build, lanes)
            argument = jax.device_put(argument)
            with contextlib.suppress(jax.errors.ConcretizationTypeError):
                jax.eval_shape(function, argument, counts)
                calls[i] = function, argument
        runs = [
            functools.partial(finished, jax.jit(again(of)), argument, counts)
            for of, argument in calls.values()
        ]
        starts = [
            functools.partial(finished, jax.jit(of), argument, first)
            for of, argument in calls.values()
        ]
        compilations = [functools.partial(compiled, *call, counts) for call in calls.values()]
        for run in [*runs, *starts]:
            run()
        each = (
            alternately(runs, repeats),
            alternately(starts, repeats),
            alternately(compilations, min(repeats, 9)),
        )
        for (i, call), run, start, compilation in zip(calls.items(), *each, strict=True):
            value, program = np.asarray(jax.jit(call[0])(call[1], counts)), lowered(*call, counts)
            results[i][name] = Measured(
                1e9 * run / (TIMES * value.size),
                1e6 * start,
                1e3 * compilation,
                value,
                instructions(program.as_text("hlo")),
                instructions(program.compile().as_text()),
            )
    return results


def again(function):
    """The function of later and later counts, in one program, by which a call's own time does not matter."""
    first = lambda argument, counts: jnp.zeros_like(function(argument, counts))
    later = lambda argument, counts: lambda i, _: function(argument, counts + i)
    return lambda *given: jax.lax.fori_loop(0, TIMES, later(*given), first(*given))


def finished(run, *arguments):
    return jax.block_until_ready(run(*arguments))


def instructions(text):
    """How many instructions a program computes with: all but its constants, its arguments and the calls of parts."""
    lines = [line for line in text.splitlines() if " = " in line]
    return sum(
        not any(word in line for word in (" constant(", " parameter(", " fusion(", " call("))
        for line in lines
    )


COLUMNS = {  # the way, what of it, its digits and width
    "ns, one": ("one", "ns", 2, 6),
    "ns, peaks": ("peaks", "ns", 2, 6),
    "ns, all": ("all", "ns", 2, 6),
    "us, start": ("peaks", "start", 0, 4),
    "given": ("step", "given", 0, 3),
    "left": ("step", "left", 0, 3),
    "ms": ("step", "ms", 1, 5),
}


def row(ours, theirs):
    cells = []
    for way, of, digits, width in COLUMNS.values():
        a, b = (getattr(of_way[way], of) if way in of_way else np.nan for of_way in (ours, theirs))
        cells.append(
            f"{a:{width}.{digits}f} /{b:{width}.{digits}f} {f'={a / b:5.2f}' if b else '':6}"
        )
    differs = max(np.max(np.abs(ours[way].values - theirs[way].values)) for way in theirs)
    return "  ".join(cells) + f"  {differs:.0e}"


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args(arguments)

    versions = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "optax": optax.__version__,
    }
    device, load = jax.devices()[0], os.getloadavg()[0]
    print(
        f"{device.platform} ({device.device_kind}), {os.cpu_count()} cores, load {load:.2f};",
        versions,
    )
    print(f"{options.lanes} lanes x {options.steps} steps; lrax / Optax")
    print(
        f"{'':15}",
        "  ".join(f"{name:^{2 * column[-1] + 9}}" for name, column in COLUMNS.items()),
        " differs",
    )
    lanes = np.geomspace(1e-4, 1e-1, options.lanes), np.linspace(0.5, 1.5, options.lanes)
    lanes = tuple(lane.astype(np.float32) for lane in lanes)
    counts = np.broadcast_to(np.arange(options.steps), (options.lanes, options.steps))
    results = {}
    for name in options.shapes:
        results[name] = measure(SHAPES[name], lanes, counts, options.repeats)
        print(f"{name:15}", row(*results[name]), flush=True)
    return results


if __name__ == "__main__":
    main()
