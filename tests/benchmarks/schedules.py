"""What a schedule costs a training step, beside Optax's of the same shape: `python -m
tests.benchmarks.schedules`.

The step is `optax.sgd(schedule)` on four parameters, the smallest there is:
- compile: milliseconds of the processor to trace and compile it;
- dispatch: microseconds of a call of it;
- traced: microseconds of a call where the step builds its optimizer from a rate that is traced. Some
  of Optax's schedules cannot be built so.
Each is the best of several runs, the two libraries' in turn. A ratio below 1 is in lrax's favour.
`differs` is how far apart the rates are: more than 1e-7 where a phase ends, or a stair falls, within
a rounding of a step.
"""

import argparse
import contextlib
import os
import platform
import time
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

import lrax

# By name, in lrax and in Optax: the schedule for a peak.
SHAPES = {
    "constant": (
        lambda peak: lrax.constant(peak),
        lambda peak: optax.constant_schedule(peak),
    ),
    "linear": (
        lambda peak: lrax.linear(peak, 0.0, 10_000),
        lambda peak: optax.linear_schedule(peak, 0.0, 10_000),
    ),
    "polynomial": (
        lambda peak: lrax.polynomial(peak, 0.0, 10_000, 2.5),
        lambda peak: optax.polynomial_schedule(peak, 0.0, 2.5, 10_000),
    ),
    "cosine": (
        lambda peak: lrax.cosine(peak, 10_000),
        lambda peak: optax.cosine_decay_schedule(peak, 10_000),
    ),
    "exponential": (
        lambda peak: lrax.exponential(peak, 0.5, 1000),
        lambda peak: optax.exponential_decay(peak, 1000, 0.5),
    ),
    "staircase": (
        lambda peak: lrax.exponential(peak, 0.5, 1000, staircase=True),
        lambda peak: optax.exponential_decay(peak, 1000, 0.5, staircase=True),
    ),
    "multistep": (
        lambda peak: lrax.multistep(peak, np.array([3000, 6000, 9000])),
        lambda peak: optax.piecewise_constant_schedule(peak, {3000: 0.1, 6000: 0.1, 9000: 0.1}),
    ),
    "piecewise": (
        lambda peak: lrax.piecewise(
            peak * np.array([0.1, 1, 0.5, 0]), np.array([1000, 5000, 9000])
        ),
        lambda peak: optax.piecewise_interpolate_schedule(
            "linear", 0.1 * peak, {1000: 10.0, 5000: 0.5, 9000: 0.0}
        ),
    ),
    "warmup_cosine": (
        lambda peak: lrax.warmup_cosine(peak, 10_000, 500),
        lambda peak: optax.warmup_cosine_decay_schedule(0.0, peak, 500, 10_000),
    ),
    "warmup_constant": (
        lambda peak: lrax.warmup_constant(peak, 500),
        lambda peak: optax.warmup_constant_schedule(0.0, peak, 500),
    ),
    "one_cycle": (
        lambda peak: lrax.one_cycle(peak, 10_000),
        lambda peak: optax.cosine_onecycle_schedule(10_000, peak),
    ),
    "restarts": (
        lambda peak: lrax.cosine_restarts(peak, 1000, mult=2.0, cycles=4),
        lambda peak: optax.join_schedules(
            [optax.cosine_decay_schedule(peak, 1000 * 2**i) for i in range(4)],
            [1000, 3000, 7000],
        ),
    ),
    "join": (
        lambda peak: lrax.join([lrax.linear(0.0, peak, 500), lrax.cosine(peak, 9500)], [500]),
        lambda peak: optax.join_schedules(
            [
                optax.linear_schedule(0.0, peak, 500),
                optax.cosine_decay_schedule(peak, 9500),
            ],
            [500],
        ),
    ),
}


CALLS = 200  # of which one run of a step takes the mean


class Measured(NamedTuple):
    """What a schedule costs, and its rates."""

    compile: float  # in seconds, as the two below
    dispatch: float
    traced: float  # NaN where the schedule cannot be built of a traced rate
    rates: np.ndarray


def step_of(build, peak):
    """A training step of a known rate, anew each time so that nothing of it is compiled."""
    optimizer = optax.sgd(build(peak))
    params = jnp.ones(4)

    def step(params, state):
        updates, state = optimizer.update(params, state)
        return optax.apply_updates(params, updates), state

    return jax.jit(step), (params, optimizer.init(params))


def traced_step_of(build, peak):
    """The same step, which builds its optimizer from its argument."""
    params = jnp.ones(4)

    def step(peak, params, state):
        updates, state = optax.sgd(build(peak)).update(params, state)
        return optax.apply_updates(params, updates), state

    return jax.jit(step), (jnp.float32(peak), params, optax.sgd(build(peak)).init(params))


def seconds_to_compile(build):
    step, arguments = step_of(build, 0.1)
    begin = time.process_time()
    step.lower(*arguments).compile()
    return time.process_time() - begin


def seconds_of_a_call(step, arguments):
    begin = time.perf_counter()
    for _ in range(CALLS):
        result = step(*arguments)
    jax.block_until_ready(result)
    return (time.perf_counter() - begin) / CALLS


def alternately(functions, repeats):
    """The best result of each, all run in turn: what else the machine does falls on each alike."""
    results = [[] for _ in functions]
    turns = list(zip(functions, results, strict=True))
    for _ in range(repeats):
        turns.reverse()  # what runs first finds the caches as its own last run left them
        for function, of in turns:
            of.append(function())
    return [min(of) for of in results]


def calls(make, builds):
    """For each builder, a call of its step; where there is no such step, NaN."""
    found = []
    for build in builds:
        found.append(lambda: np.nan)
        with contextlib.suppress(jax.errors.ConcretizationTypeError):
            step, arguments = make(build, 0.1)
            jax.block_until_ready(step(*arguments))
            found[-1] = lambda step=step, arguments=arguments: seconds_of_a_call(step, arguments)
    return found


def rates_of(schedule, counts):
    """The rates at an array of counts, which some of Optax's schedules do not take."""
    return np.asarray(jax.vmap(lambda count: jnp.asarray(schedule(count), float))(counts))


def measure(builds, steps, repeats):
    """What each of some builders costs."""
    compilations = [lambda build=build: seconds_to_compile(build) for build in builds]
    costs = (
        alternately(compilations, repeats),
        alternately(calls(step_of, builds), repeats),
        alternately(calls(traced_step_of, builds), repeats),
    )
    rates = [rates_of(build(0.1), jnp.arange(steps)) for build in builds]
    return [Measured(*of) for of in zip(*costs, rates, strict=True)]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=15)
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
    print(f"{'lrax / Optax':15}{'compile, ms':^24}{'dispatch, us':^24}{'traced, us':^24}differs")
    results = {}
    for name in options.shapes:
        ours, theirs = results[name] = measure(SHAPES[name], options.steps, options.repeats)
        cells = [
            f"{a * scale:7.1f} /{b * scale:7.1f} ={a / b:5.2f} "
            for a, b, scale in zip(ours[:3], theirs[:3], (1e3, 1e6, 1e6), strict=True)
        ]
        differs = np.max(np.abs(ours.rates - theirs.rates))
        print(f"{name:15}{''.join(cells)}{differs:.0e}", flush=True)
    ratios = [np.divide(ours[:3], theirs[:3]) for ours, theirs in results.values()]
    for word, of in (("median", np.nanmedian), ("highest", np.nanmax)):
        print(f"{word:15}" + "".join(f"{ratio:23.2f} " for ratio in of(ratios, axis=0)))
    return results


if __name__ == "__main__":
    main()
