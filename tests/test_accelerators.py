"""The programs of a sweep, as the compilers of accelerators take them on a machine without one.

`libtpu` (the extra `lrax[tpu]`, on Linux for x86-64) compiles for a TPU. The checks run in a
process of their own, because a failure of `libtpu` may end it. It uses no device but the CPU.
"""

import dataclasses
import functools
import os
import re

import pytest

if __name__ == "__main__":  # before JAX starts
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no server that knows of a TPU
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # another process may be compiling, too

import children
import jax
import numpy as np
import optax
from benchmarks import tpu
from jax.extend.core import jaxpr_as_fun

from lrax.sweeps.choices import Points
from lrax.sweeps.engine import engine, plan as planning
from lrax.sweeps.engine.feed import Feed, nbytes
from lrax.sweeps.engine.programs import Build, Problem

FEW, MANY = 64, 1024  # lanes
ON_CHIP = 128 * 2**20  # bytes of the vector memory of a v5e
# Operations of XLA by which a program talks to other devices, and to its host.
OTHERS = re.compile(
    " (all-reduce|all-gather|all-to-all|collective|reduce-scatter|infeed|outfeed|send|recv)"
    r"[a-z-]*\("
)
CALLBACK = re.compile(r'custom_call_target="[^"]*(callback|host)[^"]*"', re.IGNORECASE)


@functools.cache
def prepared(name, lanes, count):
    return tpu.prepared(tpu.TASKS[name](), lanes // tpu.SEEDS, count=count)


def assert_alone(name, lanes, count):
    """They talk to nobody, keep their lanes where they are, and fit a chip."""
    made = prepared(name, lanes, count)
    initial, start, draw, train, evaluate, _ = made.programs
    for program in (initial, start, draw, train, evaluate):
        text = program.compiled.as_text()
        assert not OTHERS.search(text)
        assert not CALLBACK.search(text)
        assert tpu.size(program.compiled) < tpu.MEMORY
    # The donated lanes, each of which takes at least its own bytes.
    assert train.memory.alias_size_in_bytes >= nbytes(made.lanes) / count


def assert_linear(name, count):
    """Memory grows at most as the number of lanes does.

    What lies in the chip's own memory is no part of the compiler's account. It is added to the few
    lanes, whose temporaries may all lie there.
    """
    few, many = (prepared(name, lanes, count).programs.train.compiled for lanes in (FEW, MANY))
    assert tpu.size(many) <= MANY / FEW * (tpu.size(few) + ON_CHIP)


def assert_chunks(name, lanes, memory):
    """Lanes that do not fit the memory side by side are trained in chunks that do.

    All lanes in one call are asked for: by the plan's own width they would fit.
    """
    task = dataclasses.replace(tpu.TASKS[name](), evaluate=None)
    made = tpu.prepared(task, lanes // tpu.SEEDS, memory=memory, execution="vmap")
    chunks = len(made.arrange(np.arange(lanes // tpu.SEEDS)).chunks)
    needed = made.programs.train.memory
    assert chunks > 1
    assert "the memory holds" in made.plan.reasons[-1]
    # All lanes lie on the device, and one chunk is trained there at a time.
    assert chunks * needed.alias_size_in_bytes + needed.temp_size_in_bytes < memory


def check_mlp(folder):
    assert_alone("mlp", FEW, 1)


def check_mlp_of_more_lanes_and_devices(folder):
    assert_alone("mlp", MANY, 1)
    assert_alone("mlp", FEW, 4)
    assert_alone("mlp", MANY, 4)
    assert_linear("mlp", 1)
    assert_linear("mlp", 4)


def check_cnn(folder):
    assert_alone("cnn", FEW, 1)
    assert_alone("cnn", MANY, 1)
    assert_linear("cnn", 1)


def check_cnn_on_four_devices(folder):
    assert_alone("cnn", FEW, 4)
    assert_alone("cnn", MANY, 4)
    assert_linear("cnn", 4)


def check_transformer(folder):
    assert_alone("char_lm", FEW, 1)
    assert_alone("char_lm", MANY, 1)
    assert_linear("char_lm", 1)


def check_transformer_on_four_devices(folder):
    assert_alone("char_lm", FEW, 4)
    assert_alone("char_lm", MANY, 4)
    assert_linear("char_lm", 4)


def check_chunks_of_the_mlp(folder):
    assert_chunks("mlp", 2048, 250e6)


def check_benchmark(folder):
    found = tpu.main(["--lanes", "8", "16"])
    ways = {way for _, _, way in found}
    assert ways == {"lrax.sweep", "jit(vmap(scan))"}
    assert all(costs.flops > 0 and costs.bytes > 0 for costs in found.values())


def platform_independent(task, lanes):
    """The traced programs of a sweep."""
    problem = Problem(task, task, optax.adam, {}, {}, 1, 1)
    rates = Points({"learning_rate": np.geomspace(1e-4, 1, lanes // tpu.SEEDS)})
    bits = np.zeros((tpu.SEEDS, 2), np.uint32)
    devices = jax.local_devices()[:1]
    feed = Feed(problem, rates, bits, given=None, steps=50, rng="common", devices=devices)
    shape = tpu.SEEDS, lanes // tpu.SEEDS
    return engine._traced(problem, feed, Build(block=feed.block), shape)


@pytest.mark.parametrize(
    "name", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cnn", "char_lm"))]
)
@pytest.mark.parametrize("lanes", [FEW, MANY])
def test_programs_lower_for_cuda(name, lanes):
    for part, traced in platform_independent(tpu.TASKS[name](), lanes).items():
        call = jax.jit(jaxpr_as_fun(traced.closed))
        lowered = call.trace(*jax.tree.leaves(traced.arguments)).lower(lowering_platforms=("cuda",))
        text = lowered.as_text()
        assert "func.func public @main" in text, part
        assert not re.search(r"custom_call @\S*callback", text), part


def test_chunks_on_a_chip_follow_from_the_compilers_account():
    # The account of `char_lm` with 1024 lanes: padded lanes, and what training takes beside them.
    width = functools.partial(
        planning.fitting,
        per_lane=8.3 * 2**30 / 1024,
        state=1.8 * 2**20,
        fixed=1e6,
        threads=1,
        free=0.95 * tpu.MEMORY,
        device="TPU v5e",
    )
    assert width(1024, 1024) == 1024
    assert 512 < width(4096, 4096) < 1024
    with pytest.raises(ValueError, match=r"do not fit into .* of TPU v5e: sweep fewer points"):
        width(16384, 16384)


CHECKS = children.names(globals())


@pytest.fixture(scope="module")
def child():
    if not tpu.has_compiler():
        pytest.skip("needs libtpu: the extra `lrax[tpu]`, on Linux for x86-64")
    child = children.Children(__file__)
    yield child
    child.close()


@pytest.mark.parametrize(
    "check",
    [pytest.param(c, marks=[] if c == "check_mlp" else [pytest.mark.slow]) for c in CHECKS],
)
def test_programs_for_a_tpu(check, child):
    child.run(check, timeout=1800)


if __name__ == "__main__":
    children.serve(globals())
