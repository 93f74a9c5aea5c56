"""Durations as steps: exact, rounded as said, and the updates that are really made."""

import dataclasses
import math
import re
from fractions import Fraction

import hypothesis
import jax
import numpy as np
import optax
import pytest
from hypothesis import strategies as st
from jax import numpy as jnp

import lrax

COUNTS = st.integers(1, 10**12)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        (300, 300),
        (np.int64(300), 300),
        (300.0, 300),
        ("300", 300),
        (" 300 ", 300),
        ("1_000", 1000),
        ("2.5k", 2500),
        ("300ba", 300),
        ("5ba", 5),
        ("300 steps", 300),
        ("10%", 100),
        ("12.5%", 125),
        ("0.1dur", 100),
        (".1dur", 100),
        ("100%", 1000),
        ("200%", 2000),
        ("5ep", 50),
        ("0.5epochs", 5),
        ("1 epoch", 10),
        ("1e3sp", 10),
        ("1Ksamples", 10),
        ("1e6tok", 250),
        ("1Mtok", 250),
        ("0.001Btokens", 250),
        ("0", 0),
        (0, 0),
        ("0ep", 0),
        ("0.0001%", 1),
        ("1tok", 1),
    ],
)
def test_durations(duration, steps):
    horizon = lrax.Horizon(steps=1000, batch_size=100, dataset_size=1000, tokens_per_step=4000)
    found = horizon(duration)
    assert found == steps
    assert type(found) is int


def test_lengths():
    assert lrax.Horizon(steps="10_000").steps == 10_000
    assert (
        lrax.Horizon(epochs=90, dataset_size=1_281_167, batch_size=1024).steps == 112_603
    )  # 112602.57
    assert lrax.Horizon(epochs=1.5, dataset_size=1000, batch_size=10).steps == 150
    assert lrax.Horizon(epochs="0.1", dataset_size=1000, batch_size=10).steps == 10
    assert lrax.Horizon(tokens="20Btok", tokens_per_step=2**19).steps == 38_147
    assert lrax.Horizon(samples=10**9, batch_size=4096).steps == 244_141
    assert lrax.Horizon(100, batch_size=8) == lrax.Horizon(steps=100, batch_size=8)


@pytest.mark.parametrize(
    ("drop_last", "per_epoch"),
    [(None, Fraction(250, 3)), (True, Fraction(83)), (False, Fraction(84))],
)
def test_the_last_batch_of_an_epoch(drop_last, per_epoch):
    horizon = lrax.Horizon(epochs=3, dataset_size=1000, batch_size=12, drop_last=drop_last)
    assert horizon.steps_per_epoch == per_epoch
    assert horizon.steps == 3 * per_epoch
    accumulating = dataclasses.replace(horizon, steps=None, accumulate=2)
    assert accumulating.steps_per_epoch == per_epoch / 2


def test_epochs_are_those_of_minibatches():
    batches = lrax.minibatches(np.arange(10.0), size=4, shuffle=False)
    horizon = lrax.Horizon(epochs=2, dataset_size=batches.examples, batch_size=batches.size)
    seen = np.concatenate([batches.at(step, jax.random.key(0)) for step in range(horizon.steps)])
    np.testing.assert_array_equal(seen, np.tile(np.arange(10.0), 2))


def test_rounding():
    for rounding, steps in (
        ("nearest", [1, 1, 2, 3]),
        ("floor", [1, 1, 1, 2]),
        ("ceil", [1, 1, 2, 3]),
    ):
        horizon = lrax.Horizon(steps=10, rounding=rounding)
        assert [horizon(duration) for duration in ("1%", "10%", "15%", "25%")] == steps
        assert lrax.Horizon(steps=10)("15%", rounding=rounding) == steps[2]


@hypothesis.given(
    COUNTS,
    COUNTS,
    st.sampled_from(["", "K", "M", "B"]),
    st.sampled_from(["nearest", "floor", "ceil"]),
)
@hypothesis.settings(deadline=None)
def test_arithmetic_is_exact(tokens, per_step, suffix, rounding):
    horizon = lrax.Horizon(steps=1, tokens_per_step=per_step, rounding=rounding)
    exact = Fraction(tokens * {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}[suffix], per_step)
    hypothesis.assume(exact < 2**31 - 1)
    steps = horizon(f"{tokens}{suffix}tok")
    assert steps >= 1
    assert rounding == "ceil" or steps == 1 or steps - exact <= Fraction(1, 2)
    assert rounding == "floor" or steps >= exact - Fraction(1, 2)
    if rounding != "nearest":
        assert steps == max(getattr(math, rounding)(exact), 1)


@hypothesis.given(st.integers(1, 2**31 - 1), st.integers(0, 100))
@hypothesis.settings(deadline=None)
def test_parts_add_up(steps, percent):
    horizon = lrax.Horizon(steps=steps)
    assert horizon("100%") == horizon("1dur") == steps
    first, rest = (
        horizon(f"{percent}%", rounding="floor"),
        horizon(f"{100 - percent}%", rounding="ceil"),
    )
    assert first + rest == steps or steps < 200


def test_replace_asks_for_the_length_again():
    horizon = lrax.Horizon(epochs=10, dataset_size=1000, batch_size=10)
    assert dataclasses.replace(horizon, tokens_per_step=5).steps == 1000
    assert dataclasses.replace(horizon, batch_size=20, steps=None).steps == 500
    with pytest.raises(ValueError, match="steps=1000 of 1000 steps, epochs=10 of 500 steps"):
        dataclasses.replace(horizon, batch_size=20)


BARE = {"steps": 1000}


@pytest.mark.parametrize(
    ("arguments", "duration", "message"),
    [
        (BARE, "2e9tok", "`tokens_per_step` must be given to count '2e9tok' in steps, got none"),
        (BARE, "5ep", "`dataset_size` must be given to count '5ep' in steps, got none"),
        (
            {**BARE, "dataset_size": 10},
            "5ep",
            "`batch_size` must be given to count '5ep' in steps, got none",
        ),
        (BARE, "5sp", "`batch_size` must be given to count '5sp' in steps, got none"),
        (
            BARE,
            0.1,
            "`duration` must be a whole number of steps, got 0.1; a part of the run is '0.1dur'",
        ),
        (BARE, "1e400", "`duration` must come to at most 2^31 - 1 steps"),
        *[
            (BARE, text, "`duration` must be at least 0 and such as 300, '10%'")
            for text in (-1, "-1", "x", "", "e5")
        ],
        *[
            (BARE, text, "`duration` must be at least 0 and such as")
            for text in ("1__0", "5 e p", "1e99999999", ".", "5x", 5000 * "1")
        ],
        (BARE, math.nan, "`duration` must be at least 0"),
        (BARE, math.inf, "`duration` must be at least 0"),
        ({}, None, "one of `steps`, `epochs`, `tokens` and `samples` must be given, got none"),
        (
            {"steps": "20Btok"},
            None,
            "`steps` must be a number of steps, got '20Btok'; give `tokens`",
        ),
        ({"steps": "10%"}, None, "`steps` must be a number of steps, got '10%'"),
        ({"steps": 1.5}, None, "`steps` must be a whole number of steps, got 1.5"),
        ({"epochs": 1}, None, "`dataset_size` must be given to count epochs=1 in steps, got none"),
        ({"steps": 1, "batch_size": 0}, None, "`batch_size` must be at least 1, got 0"),
        ({"steps": 1, "accumulate": 0}, None, "`accumulate` must be at least 1, got 0"),
        (
            {"steps": 1, "rounding": "up"},
            None,
            "`rounding` must be one of 'nearest', 'floor', 'ceil', got 'up'",
        ),
        (
            {"epochs": 1, "dataset_size": 3, "batch_size": 4, "drop_last": True},
            None,
            "`batch_size` must be at most `dataset_size` where `drop_last` is True, got 4 and 3",
        ),
    ],
)
def test_errors_name_the_argument(arguments, duration, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        lrax.Horizon(**arguments)(duration)


def test_wrong_types():
    for value in (None, True, [1], jnp.ones([]), 1j):
        with pytest.raises(TypeError, match="`duration` must be a number or text"):
            lrax.Horizon(steps=10)(value)
    with pytest.raises(TypeError, match="`drop_last` must be True, False or None, got 1"):
        lrax.Horizon(steps=10, drop_last=1)
    with pytest.raises(TypeError, match="`batch_size` must be an int"):
        lrax.Horizon(steps=10, batch_size=1.5)
    with pytest.raises(TypeError, match="`accumulate` must be an int, got None"):
        lrax.Horizon(steps=10, accumulate=None)


@pytest.mark.parametrize("k", [3, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 4))])
def test_updates_under_gradient_accumulation(k):
    """Under MultiSteps the schedule advances once in k batches; a Horizon with `accumulate=k` counts those updates."""
    batches = 26
    horizon = lrax.Horizon(
        epochs=2, dataset_size=13 * 8, batch_size=8, accumulate=k, rounding="floor"
    )  # the last, unfinished accumulation makes no update
    schedule = lrax.linear(init=1.0, end=0.0, steps=horizon.steps)
    optimizer = optax.MultiSteps(
        optax.chain(optax.identity(), lrax.scale_by_lr(schedule)), every_k_schedule=k
    )
    params = jnp.zeros([])
    state = optimizer.init(params)
    rates = []
    for _ in range(batches):
        updates, state = optimizer.update(jnp.ones([]), state, params)
        if float(updates):
            rates.append(-float(updates))
    assert len(rates) == horizon.steps == batches // k
    np.testing.assert_allclose(rates, schedule.values(horizon.steps), rtol=1e-6)


def test_a_horizon_is_extended_at_resume():
    """Another length is another value of the same argument: no recompile, and the state stays as it is."""
    traces = 0

    @jax.jit
    def update(schedule, params, state):
        nonlocal traces
        traces += 1
        optimizer = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(schedule))
        updates, state = optimizer.update(2 * params, state, params)
        return optax.apply_updates(params, updates), state

    short = lrax.Horizon(epochs=2, dataset_size=100, batch_size=10)
    long = lrax.Horizon(epochs=5, dataset_size=100, batch_size=10)
    schedule = lrax.warmup_cosine(peak=0.1, steps=short.steps, warmup=short("10%"))
    extended = schedule.replace(steps=long.steps)

    params = jnp.ones(3)
    state = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(schedule)).init(params)
    for _ in range(15):
        params, state = update(schedule, params, state)
    structure = jax.tree.structure(state)
    rates = []
    for _ in range(15, long.steps + 2):
        params, state = update(extended, params, state)
        rates.append(float(lrax.get_lr(state)))
    assert traces == 1
    assert jax.tree.structure(state) == structure
    np.testing.assert_allclose(rates, extended.values(long.steps + 2)[15:], rtol=0, atol=1e-7)
    assert rates[-3] > 0 == rates[-2]  # the longer one ends where it should
