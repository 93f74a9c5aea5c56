"""What a sweep costs on a TPU, by its compiler's estimate: `python -m tests.benchmarks.tpu`.

No TPU is needed: `libtpu` (the extra `lrax[tpu]`, on Linux for x86-64) compiles for one on any
machine. All figures but the seconds of compiling are the compiler's estimates, not measurements. It
counts a loop's body once, so flops and bytes are about those of one update, with what a call does
before and after its updates; bytes include what moves within the chip. `optimal` is the compiler's
`optimal_seconds`, where it gives one.

The compiled programs are those of `lrax.sweep`, and `jit(vmap(scan))` of `lrax.train` beside them.
"""

import argparse
import dataclasses
import importlib.util
import os
import time
from typing import NamedTuple
from unittest import mock

if __name__ == "__main__":  # before JAX starts
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no server that knows of a TPU
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # another process may be compiling, too

import jax
import numpy as np
import optax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import lrax
from lrax.sweeps.choices import Points
from lrax.sweeps.engine import devices as hardware, engine
from lrax.sweeps.engine.feed import Feed
from lrax.sweeps.engine.plan import plan
from lrax.sweeps.engine.programs import Problem

TASKS = {
    "mlp": lambda: lrax.tasks.digits(),
    "cnn": lambda: lrax.tasks.digits("cnn"),
    "char_lm": lambda: lrax.tasks.char_lm(),
}
SEEDS, STEPS = 8, 300
MEMORY = 16e9  # bytes of a v5e


class Costs(NamedTuple):
    flops: float
    bytes: float
    optimal: float | None  # seconds; the compiler gives a negative number where it has none
    memory: float  # bytes of arguments, results and what is between
    seconds: float  # of compiling, measured


def has_compiler():
    """Whether programs can be compiled for a TPU."""
    return importlib.util.find_spec("libtpu") is not None


def devices(count):
    """Devices of a 2x2 TPU v5e, to compile for."""
    return list(topologies.get_topology_desc("v5e:2x2", platform="tpu").devices[:count])


def prepared(task, points, seeds=SEEDS, *, count=1, memory=MEMORY, execution="auto"):
    """The engine of a sweep on so many TPUs: the programs that it would run there."""
    problem = Problem(task, task, optax.adam, {}, {}, 1, 1)
    rates = Points({"learning_rate": np.geomspace(1e-4, 1, points)})
    # The data lies on the CPU: only its shapes are compiled for.
    feed = Feed(
        problem,
        rates,
        np.zeros((seeds, 2), np.uint32),
        given=None,
        steps=STEPS,
        rng="common",
        devices=jax.local_devices()[:1],
    )
    feed.devices = devices(count)
    feed.mesh = hardware.mesh(feed.devices)
    planned = plan(execution, "auto", engine.facts(problem, feed))
    with mock.patch.object(hardware, "memory", return_value=memory):
        return engine.prepared(problem, feed, planned)


def size(compiled):
    """Bytes of a program's arguments, results and what is between."""
    memory = compiled.memory_analysis()
    parts = [memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes]
    return sum(parts) - memory.alias_size_in_bytes


def costs(compiled, seconds):
    """The compiler's estimates."""
    found = compiled.cost_analysis()
    optimal = found.get("optimal_seconds", -1.0)
    return Costs(
        found["flops"],
        found["bytes accessed"],
        optimal if optimal > 0 else None,
        size(compiled),
        seconds,
    )


def by_sweep(task, lanes):
    """The chunks of a sweep without an evaluation; seconds are those of all programs.

    The memory is that of one chunk in training, and the lanes of the others beside it.
    """
    points = lanes // SEEDS
    made = prepared(dataclasses.replace(task, evaluate=None), points)
    chunks = len(made.arrange(np.arange(points)).chunks)
    one = costs(made.programs.train.compiled, made.programs.seconds)
    return one._replace(
        flops=chunks * one.flops,
        bytes=chunks * one.bytes,
        optimal=one.optimal and chunks * one.optimal,
        memory=one.memory + (chunks - 1) * made.programs.train.memory.alias_size_in_bytes,
    )


def by_vmap(task, lanes):
    """`jit(vmap(scan))` of the same lanes."""
    train = lrax.train(dataclasses.replace(task, evaluate=None), optax.adam, steps=STEPS)
    over_rates = jax.vmap(train, in_axes=({"learning_rate": 0}, None))
    over_seeds = jax.jit(jax.vmap(over_rates, in_axes=(None, 0)))
    place = SingleDeviceSharding(devices(1)[0])
    rates = jax.ShapeDtypeStruct((lanes // SEEDS,), np.float32, sharding=place)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), SEEDS))
    keys = jax.ShapeDtypeStruct(keys.shape, keys.dtype, sharding=place)
    lowered = over_seeds.lower({"learning_rate": rates}, keys)
    begin = time.perf_counter()
    compiled = lowered.compile()
    return costs(compiled, time.perf_counter() - begin)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["mlp"])
    parser.add_argument("--lanes", type=int, nargs="+", default=[64, 256, 1024])
    options = parser.parse_args(arguments)
    if not has_compiler():
        parser.exit(1, "needs libtpu: the extra `lrax[tpu]`, on Linux for x86-64\n")

    print("TPU v5e; the compiler's estimates, and the seconds of compiling as measured here")
    columns = ("Gflop", "GB", "optimal s", "MiB", "compile s")
    print(f"{'task, lanes':16}{'':16}" + "".join(f"{column:>11}" for column in columns))
    results = {}
    for name in options.tasks:
        task = TASKS[name]()
        for lanes in options.lanes:
            for way, cost in (("lrax.sweep", by_sweep), ("jit(vmap(scan))", by_vmap)):
                found = results[name, lanes, way] = cost(task, lanes)
                optimal = "-" if found.optimal is None else f"{found.optimal:.2e}"
                print(
                    f"{f'{name}, {lanes}':16}{way:16}{found.flops / 1e9:11.3f}"
                    f"{found.bytes / 1e9:11.3f}{optimal:>11}{found.memory / 2**20:11.1f}"
                    f"{found.seconds:11.1f}",
                    flush=True,
                )
    return results


if __name__ == "__main__":
    main()
