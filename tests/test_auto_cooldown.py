"""`controllers.auto_cooldown` and `cooldown_on`: the cooldown of `lrax.cooldown`, begun by a rule."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import lrax

auto_cooldown = lrax.controllers.auto_cooldown
cooldown_on = lrax.controllers.cooldown_on
STEPS = 40
RNG = np.random.default_rng(0)


def rates_of(rule, values, name="value", start=None, **extra):
    """Rates and the last state, in one scan."""
    optimizer = lrax.scale_by_lr(rule)

    def body(state, given):
        value, extra = given
        _, state = optimizer.update(jnp.ones(()), state, **{name: value}, **extra)
        return state, lrax.get_lr(state)

    start = optimizer.init(jnp.ones(())) if start is None else start
    run = jax.jit(lambda state, rows: jax.lax.scan(body, state, rows))
    state, rates = run(start, (jnp.asarray(values), extra))
    return np.asarray(rates), state


def begins(values, *, patience, rtol=1e-3, atol=0.0, decay=0.95):
    """The update in which the cooldown begins: the rule, in NumPy."""
    total = weight = bad = 0
    best = np.inf
    for step, value in enumerate(values):
        if np.isfinite(value):
            total = decay * total + (1 - decay) * value
            weight = decay * weight + (1 - decay)
            margin = rtol * abs(best) + atol if np.isfinite(best) else 0
            better = total / weight < best - margin
            best = total / weight if better else best
            bad = 0 if better else bad + 1
        if bad > patience:
            return step
    return None


LOSSES = 1 + np.exp(-np.arange(STEPS) / 3) + 0.003 * RNG.normal(size=STEPS)


@pytest.mark.parametrize(
    "shape", ["linear", "1-sqrt", pytest.param("cosine", marks=pytest.mark.slow)]
)
def test_it_is_the_cooldown_of_a_schedule_from_the_step_that_the_loss_decides(shape):
    for numbers in (
        {"patience": 3, "decay": 0.5, "rtol": 0.01},
        {"patience": 2, "rtol": 0.1, "decay": 0.0},
    ):
        at = begins(LOSSES, **numbers)
        assert 5 < at < 30
        rule = 0.1 * auto_cooldown(8, end=0.2, shape=shape, **numbers)
        rates, state = rates_of(rule, LOSSES)
        wanted = lrax.cooldown(0.1, at, 8, end=0.02, shape=shape).values(STEPS)
        np.testing.assert_allclose(rates, wanted, rtol=1e-5)
        assert state.rule.since == STEPS - 1 - at


def test_a_negative_metric_and_a_maximum():
    falling = -np.arange(10.0)  # improves throughout
    assert rates_of(auto_cooldown(4, patience=1, rtol=0.01, decay=0.0), falling)[1].rule.since == -1
    rule = auto_cooldown(4, patience=1, rtol=0.01, decay=0.0, mode="max")
    rates, _ = rates_of(rule, falling)
    np.testing.assert_array_equal(rates[:3], 1)
    assert rates[3] < 1


def test_what_is_not_finite_is_no_measurement():
    losses = LOSSES.copy()
    losses[[0, 3, 4]] = np.nan, np.inf, np.nan
    numbers = {"patience": 3, "decay": 0.5, "rtol": 0.01}
    rates, state = rates_of(auto_cooldown(8, **numbers), losses)
    at = begins(losses, **numbers)
    np.testing.assert_array_equal(rates[: at + 1], 1)
    assert rates[at + 1] < 1
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_patience_counts_measurements_and_the_cooldown_updates():
    numbers = np.arange(STEPS) // 5  # a measurement before each fifth update
    rule = auto_cooldown(10, shape="linear", patience=1, decay=0.0, metric="val_loss")
    extra = {"measurement": {"val_loss": jnp.asarray(numbers)}}
    rates, _ = rates_of(rule, np.ones(STEPS), "val_loss", **extra)
    # The second bad measurement, which is one more than `patience`, is in the update 10.
    wanted = lrax.cooldown(1.0, 10, 10, shape="linear").values(STEPS)
    np.testing.assert_allclose(rates, wanted, rtol=1e-6, atol=1e-7)


def test_a_signal_begins_it_once():
    for stop in (np.arange(STEPS) == 7, np.where(np.arange(STEPS) < 7, np.nan, 2.5)):
        rates, _ = rates_of(0.5 * cooldown_on("stop", 6, end=0.1), stop, "stop")
        wanted = lrax.cooldown(0.5, 7, 6, end=0.05).values(STEPS)
        np.testing.assert_allclose(rates, wanted, rtol=1e-5)
    assert rates_of(cooldown_on("stop", 6), np.zeros(9), "stop")[1].rule == -1


def test_it_goes_on_where_it_stopped():
    rule = 0.1 * auto_cooldown(8, patience=3, decay=0.5, rtol=0.01)
    whole, _ = rates_of(rule, LOSSES)
    for at in (9, 15, 25):
        first, state = rates_of(rule, LOSSES[:at])
        state = jax.tree.map(np.asarray, state)  # as a checkpoint has it
        rest, _ = rates_of(rule, LOSSES[at:], start=state)
        np.testing.assert_array_equal([*first, *rest], whole)


def test_no_length_is_a_jump():
    rates, _ = rates_of(cooldown_on("stop", 0, end=0.25), np.arange(4) >= 2, "stop")
    np.testing.assert_array_equal(rates, [1, 1, 0.25, 0.25])


@pytest.mark.slow
def test_lanes_cool_down_at_steps_of_their_own():
    task = lrax.tasks.diabetes()

    def sgd(learning_rate, patience):
        rule = auto_cooldown(
            10, patience=patience, rtol=0.99, decay=0.0
        )  # none is that much better
        return lrax.scale_by_lr(learning_rate * rule)

    grid = {"learning_rate": [0.01], "patience": [0, 5, 100]}
    monitors = [lrax.monitors.learning_rate]
    result = lrax.sweep(task, sgd, grid, steps=30, monitors=monitors)
    rates = result.monitors["learning_rate"][:, 0]
    for patience, lane in zip(result.hyperparams["patience"], rates, strict=True):
        wanted = lrax.cooldown(0.01, int(patience) + 1, 10).values(30)
        np.testing.assert_allclose(lane, wanted, rtol=1e-5, atol=1e-9)


def test_bad_words_are_named():
    with pytest.raises(ValueError, match="`shape` must be"):
        auto_cooldown(10, shape="steep")
    for rule in (auto_cooldown, functools.partial(cooldown_on, "stop")):
        with pytest.raises(ValueError, match="`end` must be finite and positive, got 0"):
            rule(10, shape="geometric")
    with pytest.raises(TypeError, match="`signal` must be the name of an argument"):
        cooldown_on("a b", 10)
    with pytest.raises(ValueError, match="`decay` must be at least 0 and below 1"):
        auto_cooldown(10, decay=1.0)
