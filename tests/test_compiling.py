"""How XLA is told to compile for a CPU."""

import jax
import pytest
from jax import lax, numpy as jnp

from lrax.sweeps.engine.executable import lower, trace
from lrax.sweeps.engine.xla import compiling

on_cpu = pytest.mark.skipif("jax.default_backend() != 'cpu'")


def jaxpr(function, *shapes):
    return jax.make_jaxpr(function)(*(jnp.ones(shape) for shape in shapes)).jaxpr


def test_sums_of_rows_and_columns_are_told_apart():
    assert compiling.sums(jaxpr(lambda x: jnp.sum(x, -1), (3, 4))) == (12, 0)
    assert compiling.sums(jaxpr(lambda x: jnp.sum(x, 0), (3, 4))) == (0, 12)
    assert compiling.sums(jaxpr(jnp.sum, (3, 4))) == (12, 0)
    both = lambda x: (jnp.max(x, 1), jnp.sum(x, (0, 2)), jnp.sum(x, 1))
    assert compiling.sums(jaxpr(both, (2, 3, 4))) == (24, 48)


def test_sums_inside_of_loops_and_lanes_count():
    loop = lambda x: lax.fori_loop(0, 5, lambda _, x: x - jnp.sum(x, -1, keepdims=True), x)
    assert compiling.sums(jaxpr(jax.jit(loop), (3, 4))) == (12, 0)
    assert compiling.sums(jaxpr(jax.vmap(loop), (5, 3, 4))) == (60, 0)


@on_cpu
def test_a_softmax_is_summed_by_xla_itself():
    x = jnp.ones((8, 64, 64))
    program = lower(trace(lambda x: jax.nn.softmax(x, axis=-1), x))()
    assert "ynn" not in program.compiled.as_text()
    assert jnp.allclose(program(x), 1 / 64)


def test_an_option_that_jaxlib_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "OWN_SUMS", {"xla_of_no_jaxlib": "1"})
    assert compiling.compiler_options(jaxpr(lambda x: jnp.sum(x, -1), (3, 4)), hasty=False) == {}
    assert compiling.compiler_options(jaxpr(lambda x: jnp.sum(x, 0), (3, 4)), hasty=False) == {}
    assert compiling.compiler_options(jaxpr(lambda x: x, (3, 4)), hasty=True) == compiling.HASTY
