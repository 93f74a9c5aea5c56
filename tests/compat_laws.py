"""The laws of `lrax.compat`, for one setting of a function at a time."""

import pickle

import chex
import jax
import numpy as np
from jax import numpy as jnp

import lrax


def numeric(keywords):
    """The keywords that are numbers, and so may be traced."""
    return {name: value for name, value in keywords.items() if type(value) in (int, float)}


def check(build, rate, length, known=(), /, **keywords):
    """All laws, for a setting of `length` updates of a builder whose rate is called `rate`; `known` are not traced."""
    counts = np.arange(-1, length + 31, dtype=np.float32)
    schedule = build(**keywords)
    one = jax.jit(schedule)(counts)
    assert one.dtype == np.float32
    assert one.shape == counts.shape

    rates = np.asarray([keywords[rate], keywords[rate] * 0.75], np.float32)
    lanes = jax.jit(jax.vmap(lambda value: build(**{**keywords, rate: value})(counts)))(rates)
    for value, lane in zip(rates, lanes, strict=True):
        loop = build(**{**keywords, rate: float(value)})(counts)
        np.testing.assert_allclose(lane, loop, rtol=0, atol=1e-6 * np.max(np.abs(loop)))

    traces = []

    @jax.jit
    def traced(numbers):
        traces.append(1)
        return build(**{**keywords, **numbers})(counts)

    numbers = {name: value for name, value in numeric(keywords).items() if name not in known}
    for factor in (1.0, 0.75, 0.5):
        changed = {**numbers, rate: keywords[rate] * factor}
        result = traced({name: jnp.float32(value) for name, value in changed.items()})
        expected = build(**{**keywords, **changed})(counts)
        np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6 * np.max(np.abs(expected)))
    assert len(traces) == 1

    leaves = [
        jax.tree.structure(build(**{**keywords, rate: value}))
        for value in (keywords[rate], keywords[rate] * 0.75)
    ]
    assert leaves[0] == leaves[1]

    gradients = jax.jit(
        jax.vmap(jax.grad(lambda schedule, count: schedule(count)), in_axes=(None, 0))
    )(schedule, counts)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(np.isfinite(gradient)), path

    chex.assert_trees_all_equal(schedule, pickle.loads(pickle.dumps(schedule)))
    pasted = eval(repr(schedule), dict(vars(lrax)))
    assert jax.tree.structure(pasted) == jax.tree.structure(schedule)
    chex.assert_trees_all_close(schedule, pasted, rtol=1e-12)
