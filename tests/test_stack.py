"""Schedules of different formulas on one axis of lanes."""

import pickle

import chex
import jax
import numpy as np
import optax
import pytest
from cases import CASES, reference
from jax import numpy as jnp

import lrax

COUNTS = np.arange(-1, 110, dtype=np.float32)
DIFFERENT = [
    lrax.cosine(peak=0.1, steps=80, end=0.01),
    lrax.linear(init=0.1, end=0.0, steps=50),
    lrax.cosine(peak=0.2, steps=40),
    lrax.multistep(init=0.1, milestones=[20, 40]),
    lrax.multistep(init=0.1, milestones=[20, 40, 60]),
    lrax.wsd(peak=0.1, steps=100, warmup=10, cooldown=20, shape="1-sqrt"),
    lrax.warmup(lrax.inverse_sqrt(peak=0.1, warmup=5), 10, anchor="scale"),
]


def rate(schedule, count):
    return schedule(count)


@pytest.mark.slow
def test_every_lane_has_the_rates_of_its_schedule():
    stacked = lrax.stack(DIFFERENT)
    wanted = [reference(schedule, COUNTS) for schedule in DIFFERENT]
    by_lane = jax.jit(jax.vmap(rate, in_axes=(0, None)))(stacked, COUNTS)
    np.testing.assert_allclose(by_lane, wanted, atol=1e-6 * np.max(wanted))
    np.testing.assert_allclose(stacked(COUNTS), wanted, atol=1e-6 * np.max(wanted))
    np.testing.assert_allclose(stacked.values(COUNTS), wanted, atol=1e-6 * np.max(wanted))
    assert stacked(3).shape == (len(DIFFERENT),)


def test_every_schedule_of_the_table_can_be_stacked():
    schedules = [case.build() for case in CASES]
    by_lane = jax.jit(jax.vmap(rate, in_axes=(0, None)))(lrax.stack(schedules), jnp.float32(25))
    # The leaves are float32 in the program. A `b2` close to 1 loses digits of 1 - b2 by that.
    leaves = jax.tree.map(lambda leaf: np.float64(np.float32(leaf)), schedules)
    np.testing.assert_allclose(
        by_lane, [reference(schedule, 25) for schedule in leaves], rtol=1e-6, atol=1e-8
    )


def test_lanes_do_not_touch_each_other():
    # Of a kind that a lane does not have it evaluates a copy, whose gradient must be zero and not
    # NaN.
    stacked = lrax.stack(DIFFERENT)

    def of_lane(stacked, i):
        return jnp.sum(stacked(jnp.asarray(COUNTS))[i])

    gradients = jax.jit(jax.grad(of_lane))
    for i, schedule in enumerate(DIFFERENT):
        grads = gradients(stacked, i)
        total = sum(float(jnp.sum(jnp.abs(leaf))) for leaf in jax.tree.leaves(grads))
        own = jax.jit(jax.grad(lambda schedule: jnp.sum(schedule(jnp.asarray(COUNTS)))))(schedule)
        wanted = sum(float(jnp.sum(jnp.abs(leaf))) for leaf in jax.tree.leaves(own))
        np.testing.assert_allclose(total, wanted, rtol=1e-4)


def test_it_is_printed_copied_and_changed_by_its_lanes():
    stacked = lrax.stack(DIFFERENT[:2])
    assert repr(stacked) == f"stack(schedules=[{DIFFERENT[0]}, {DIFFERENT[1]}])"
    for same in [
        eval(repr(stacked), vars(lrax)),
        pickle.loads(pickle.dumps(stacked)),
        stacked.replace(),
    ]:
        chex.assert_trees_all_equal(same, stacked, strict=True)
    changed = stacked.replace(schedules=[*DIFFERENT[:2], 0.5])
    np.testing.assert_allclose(changed(0), [0.1, 0.1, 0.5], rtol=1e-6)
    jax.eval_shape(lambda stacked: repr(stacked) and stacked(3), stacked)


def test_lanes_of_different_formulas_are_trained_side_by_side():
    schedules = [lrax.cosine(peak=0.1, steps=20), lrax.linear(init=0.1, end=0.0, steps=20), 0.05]

    def trained(schedule):
        optimizer = optax.sgd(schedule)
        params, state = jnp.asarray(1.0), optimizer.init(jnp.asarray(1.0))
        for _ in range(5):
            updates, state = optimizer.update(params, state)
            params = optax.apply_updates(params, updates)
        return params

    together = jax.jit(jax.vmap(trained))(lrax.stack(schedules))
    alone = [
        trained(schedule if callable(schedule) else lrax.constant(schedule))
        for schedule in schedules
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_equal_formulas_are_evaluated_once():
    several = lrax.stack([lrax.cosine(peak=peak, steps=100) for peak in np.linspace(0.1, 1, 16)])
    one = jax.vmap(lrax.cosine, in_axes=(0, None))(np.linspace(0.1, 1, 16), 100)
    products = [
        str(jax.make_jaxpr(jax.vmap(rate, in_axes=(0, None)))(schedule, 3.0)).count(" mul ")
        for schedule in (several, one)
    ]
    assert 0 < products[0] == products[1] < 16


def test_bad_stacks_are_named():
    with pytest.raises(ValueError, match="`schedules` of `stack` must be at least one schedule"):
        lrax.stack([])
    with pytest.raises(
        TypeError, match=r"`schedules\[1\]` must be a number, a Schedule or a function"
    ):
        lrax.stack([0.1, "cosine"])
