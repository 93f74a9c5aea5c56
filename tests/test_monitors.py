"""Monitors: what they record, when, and that they change nothing that they look at."""

import functools

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax

TASK = problems.regression()
KEY = jax.random.key(0)


def sgd(rate):
    return lrax.scale_by_lr(lrax.linear(rate, 0.0, 10))


def test_a_step_holds_what_an_update_is_made_of():
    """The parts of a `Step` agree with a loop written by hand, before and after the update."""

    def parts(step):
        flat = lambda tree: jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])
        return {
            "index": step.index,
            "loss": step.loss,
            "rate": lrax.get_lr(step.opt_state),
            "params": flat(step.params)[0],
            "grad": flat(step.grads)[0],
            "update": flat(step.updates)[0],
            "batch": step.batch["y"][0],
            "loss_again": problems.squared_error(step.params, step.batch),
        }

    train = lrax.train(TASK, sgd, steps=6, monitors=[parts])
    trained = jax.jit(train)(0.1, KEY)
    found = {name.removeprefix("parts/"): values for name, values in trained.monitors.items()}
    np.testing.assert_array_equal(found["index"], np.arange(6))
    np.testing.assert_array_equal(found["loss"], trained.losses)
    np.testing.assert_allclose(found["loss_again"], trained.losses, rtol=1e-6)
    np.testing.assert_allclose(found["rate"], 0.1 * (1 - np.arange(6) / 10), rtol=1e-6)
    np.testing.assert_allclose(found["update"], -found["rate"] * found["grad"], rtol=1e-6)
    after = found["params"] + found["update"]
    np.testing.assert_allclose(found["params"][1:], after[:-1], rtol=1e-5)
    assert len(np.unique(found["batch"])) > 1


def test_the_ready_made_ones_are_the_norms_of_optax():
    monitors = [
        lrax.monitors.learning_rate,
        lrax.monitors.grad_norm,
        lrax.monitors.update_norm,
        lrax.monitors.param_norm,
        lrax.monitors.update_ratio,
    ]
    norms = lambda step: {
        "grads": optax.tree.norm(step.grads),
        "updates": optax.tree.norm(step.updates),
        "params": optax.tree.norm(step.params),
    }
    found = jax.jit(lrax.train(TASK, sgd, steps=5, monitors=[*monitors, norms]))(0.1, KEY).monitors
    np.testing.assert_allclose(found["learning_rate"], 0.1 * (1 - np.arange(5) / 10), rtol=1e-6)
    assert any("grads" in name for name in found)
    by_hand = {name.split("/")[1]: values for name, values in found.items() if "lambda" in name}
    for name, of in (("grad_norm", "grads"), ("update_norm", "updates"), ("param_norm", "params")):
        np.testing.assert_allclose(found[name], by_hand[of], rtol=1e-6)
    ratio = found["update_norm"] / found["param_norm"]
    np.testing.assert_allclose(found["update_ratio"], ratio, rtol=1e-6)


def test_groups_split_the_norm_and_nothing_is_lost():
    by_name = functools.partial(lrax.monitors.grad_norm, group=lambda path: path)
    monitors = {"one": lrax.monitors.grad_norm, "each": by_name}
    found = lrax.train(TASK, optax.sgd, steps=3, monitors=monitors)(0.1, KEY).monitors
    assert sorted(found) == ["each/b", "each/w", "one"]
    np.testing.assert_allclose(found["one"], np.hypot(found["each/b"], found["each/w"]), rtol=1e-6)
    bad = functools.partial(lrax.monitors.grad_norm, group=lambda path: 1)
    with pytest.raises(TypeError, match="`group` must return a string for 'b', got 1"):
        lrax.train(TASK, optax.sgd, steps=3, monitors=[bad])(0.1, KEY)


def test_nothing_over_nothing_is_no_update():
    frozen = lambda rate: optax.chain(
        optax.sgd(rate), lrax.scale_by_multipliers({"w": 0.0, "b": 0.0})
    )
    zeros = problems.regression(init=lambda key: {"w": jnp.zeros(3), "b": jnp.zeros(())})
    monitors = [lrax.monitors.update_ratio]
    still = lrax.train(zeros, frozen, steps=2, monitors=monitors)(0.1, KEY).monitors
    np.testing.assert_array_equal(still["update_ratio"], [0.0, 0.0])
    moved = lrax.train(zeros, optax.sgd, steps=2, monitors=monitors)(0.1, KEY).monitors
    assert np.isinf(moved["update_ratio"][0])
    assert np.isfinite(moved["update_ratio"][1])


EXECUTIONS = ("auto", "vmap", "steps")
CADENCES = (1, 3, 7)


@pytest.mark.parametrize(
    ("every", "execution"),
    [
        pytest.param(every, execution, marks=[] if i == j else [pytest.mark.slow])
        for i, every in enumerate(CADENCES)
        for j, execution in enumerate(EXECUTIONS)
    ],
)
def test_a_sweep_records_at_the_updates_0_n_2n(every, execution):
    counts = lambda step: step.index
    options = dict(steps=20, seeds=2, execution=execution, record_every=every)
    monitors = {"index": counts, "grad_norm": lrax.monitors.grad_norm}
    result = lrax.sweep(TASK, sgd, [0.01, 0.1], monitors=monitors, **options)
    at = np.arange(0, 20, every)
    assert result.monitors["index"].shape == (2, 2, len(at))
    np.testing.assert_array_equal(result.monitors["index"], np.broadcast_to(at, (2, 2, len(at))))
    train = lrax.train(TASK, sgd, steps=20, monitors=monitors, record_every=every)
    alone = jax.jit(train)(0.1, jax.random.key(1))
    found = result.monitors["grad_norm"][1, 1]
    np.testing.assert_allclose(found, alone.monitors["grad_norm"], rtol=1e-4)


def test_losses_are_thinned_when_asked():
    options = dict(steps=20, seeds=2)
    whole = lrax.sweep(TASK, sgd, [0.01, 0.1], **options)
    thin = lrax.sweep(TASK, sgd, [0.01, 0.1], loss_every=6, **options)
    np.testing.assert_array_equal(thin.losses, whole.losses[..., ::6])
    assert thin.losses.shape[-1] == 4
    assert thin.done == 20


def test_they_change_no_bit_and_compile_into_the_same_program():
    plain = lrax.sweep(TASK, sgd, [0.01, 0.1], steps=20, seeds=2)
    watched = lrax.sweep(
        TASK, sgd, [0.01, 0.1], steps=20, seeds=2, monitors=[lrax.monitors.param_norm]
    )
    np.testing.assert_allclose(watched.losses, plain.losses, rtol=1e-6)
    engine = problems.engine(TASK, [0.1, 0.2])
    assert "callback" not in engine.programs.train.compiled.as_text()


def test_what_is_not_due_is_behind_a_branch():
    """Under `vmap` too, a cadence is a `cond` of the program, and not a `select` of both sides."""
    train = lrax.train(TASK, sgd, steps=9, monitors=[lrax.monitors.grad_norm], record_every=4)
    jaxpr = str(jax.make_jaxpr(jax.vmap(train, in_axes=(0, None)))(jnp.ones(3), KEY))
    assert "cond[" in jaxpr


@pytest.mark.parametrize(
    ("monitors", "error", "message"),
    [
        ("grad_norm", TypeError, "`monitors` must be a list of functions of a Step"),
        ([3], TypeError, "`monitors` must be functions of a Step"),
        ([lrax.monitors.grad_norm] * 2, ValueError, "`monitors` must have different names"),
        ({"all": lambda step: step.grads}, TypeError, "the monitor 'all' must return a scalar"),
        ({"none": lambda step: None}, TypeError, "the monitor 'none' must return .*, got None"),
    ],
)
def test_bad_monitors_are_named(monitors, error, message):
    with pytest.raises(error, match=message):
        lrax.sweep(TASK, optax.sgd, [0.1], steps=2, monitors=monitors)
