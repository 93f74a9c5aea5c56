"""What is particular to `Schedule` and to single builders; `test_laws.py` has what holds for all of them."""

import functools
import pickle

import chex
import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st
from jax import lax, numpy as jnp

import lrax
from lrax.schedules.builders import builder
from lrax.schedules.schedule import as_schedule

COSINE = lrax.cosine(peak=0.1, steps=100)
COUNTS = np.arange(-2, 110)


def halving(count):
    return 0.5 ** (count / 100)


def sawtooth(peak, period):
    return lrax.Schedule(_teeth, {"peak": np.float32(peak), "period": np.float32(period)})


@builder(sawtooth)
def _teeth(count, peak, period):
    return peak * (1 - jnp.mod(count, period) / period)


def _unnamed(count, rate):
    return rate + 0 * count


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lrax.linear(0.1, 0.02, 100), optax.linear_schedule(0.1, 0.02, 100)),
        (COSINE, optax.cosine_decay_schedule(0.1, 100)),
        (
            lrax.cosine(0.1, 90, 0.02, exponent=1.5),
            optax.cosine_decay_schedule(0.1, 90, alpha=0.2, exponent=1.5),
        ),
        (
            lrax.warmup_cosine(0.1, 100, 20, init=0.02, end=0.01),
            optax.warmup_cosine_decay_schedule(0.02, 0.1, 20, 100, end_value=0.01),
        ),
        (
            lrax.exponential(0.1, 0.5, 30, begin=10, end=0.02),
            optax.exponential_decay(0.1, 30, 0.5, transition_begin=10, end_value=0.02),
        ),
        (
            lrax.exponential(0.1, 0.5, 30, staircase=True),
            optax.exponential_decay(0.1, 30, 0.5, staircase=True),
        ),
        (
            lrax.exponential(0.1, 1.1, 5, end=0.3),
            optax.exponential_decay(0.1, 5, 1.1, end_value=0.3),
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, lrax.Schedule) else "",
)
def test_agrees_with_optax(ours, theirs):
    counts = COUNTS[COUNTS >= 0]
    np.testing.assert_allclose(ours(counts), theirs(counts), rtol=1e-5, atol=1e-8)


def test_phases_meet_exactly():
    for shape in ["linear", "cosine", "1-sqrt", "sqrt", "1-square", "square"]:
        schedule = lrax.wsd(0.1, steps=30, warmup=10, cooldown=10, init=0.03, end=0.07, shape=shape)
        rates = schedule.values(40)
        np.testing.assert_array_equal(rates[0], np.float32(0.03))
        np.testing.assert_array_equal(rates[10:21], np.float32([0.1] * 11))
        np.testing.assert_array_equal(rates[30:], np.float32([0.07] * 10))
    plateau = lrax.wsd(0.1, steps=30, warmup=10, cooldown=0)
    np.testing.assert_allclose(
        plateau.values([9, 10, 29, 30]), np.float32([0.09, 0.1, 0.1, 0]), rtol=1e-6
    )


@pytest.mark.usefixtures("as_for_users")
def test_the_last_steps_are_within_the_law():
    left = np.arange(1, 100)
    for steps in [1e3, 1e5, 1e7, 2**24]:
        wanted = 0.1 * np.sin(np.pi / 2 * left / steps) ** 2
        np.testing.assert_allclose(lrax.cosine(0.1, steps)(steps - left), wanted, rtol=0, atol=1e-7)
    # Fractional durations, as a fraction of the horizon gives them, or a gradient step.
    warmup, cooldown = np.float32(333.3), np.float32(99999.7)
    for steps in [1e6, 1e7, 1.5e7]:
        rates = lrax.wsd(0.1, steps, warmup, cooldown)(steps - left)
        np.testing.assert_allclose(rates, 0.1 * left / np.float64(cooldown), rtol=0, atol=1e-7)
        rates = lrax.warmup_cosine(0.1, steps, warmup)(steps - left)
        wanted = 0.1 * np.sin(np.pi / 2 * left / (steps - np.float64(warmup))) ** 2
        np.testing.assert_allclose(rates, wanted, rtol=0, atol=1e-7)


@pytest.mark.usefixtures("as_for_users")
def test_high_powers_are_within_the_law():
    for rate, steps in [(0.94, 1000), (0.5, 333), (1e-7, 1e5), (0.999, 1), (1.5, 777), (1.01, 3)]:
        counts = np.floor(np.linspace(0, 75 / abs(np.log(rate)) * steps, 1000))
        wanted = rate ** (counts / steps)
        found = lrax.exponential(1.0, rate, steps)(counts)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.max(wanted))


@pytest.mark.parametrize("count", [10**4, 10**6, 2**31 - 1])
@pytest.mark.parametrize("end", [None, 10.0])
@pytest.mark.parametrize(("init", "rate"), [(0.0, 2.0), (1e-7, 10.0), (0.1, 0.5), (0.1, 1.0)])
def test_powers_out_of_range_are_held(init, rate, end, count):
    schedule = lrax.exponential(init, rate, 10, end=end)
    value, gradient = jax.value_and_grad(lambda schedule: schedule(count))(schedule)
    chex.assert_tree_all_finite((value, gradient))
    if end is not None and init:
        assert value == (init if rate == 1 else end)


def test_jit_switch_and_scan():
    assert jax.jit(COSINE)(50) == COSINE(50)
    schedules = [COSINE, lrax.constant(0.3)]
    assert jax.jit(lambda i: lax.switch(i, schedules, 7))(1) == np.float32(0.3)
    _, rates = lax.scan(lambda count, _: (count + 1, COSINE(count)), 0, length=5)
    np.testing.assert_allclose(rates, COSINE.values(5), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(
    "two",
    [
        2,
        2.0,
        np.float32(2),
        np.float64(2),
        np.int64(2),
        jnp.float32(2),
        jnp.asarray(2),
        lrax.constant(2),
    ],
)
def test_operators_take_numbers_on_both_sides(two):
    for schedule in [two * COSINE, COSINE * two]:
        assert isinstance(schedule, lrax.Schedule)
        np.testing.assert_allclose(schedule(COUNTS), 2 * COSINE(COUNTS), rtol=1e-6, atol=1e-30)
    for schedule in [two + COSINE, COSINE + two]:
        assert isinstance(schedule, lrax.Schedule)
        np.testing.assert_allclose(schedule(COUNTS), 2 + COSINE(COUNTS), rtol=1e-6, atol=1e-30)


def test_operators_take_functions_and_tracers():
    theirs = optax.linear_schedule(1.0, 0.5, 10)
    for schedule in [theirs * COSINE, COSINE * theirs, lrax.multiply(theirs, COSINE)]:
        np.testing.assert_allclose(
            schedule(COUNTS), theirs(COUNTS) * COSINE(COUNTS), rtol=1e-6, atol=1e-30
        )
        assert (
            len(jax.tree.leaves(schedule)) == 3
        )  # those of the cosine: a function's are out of sight
    for function in [theirs * COSINE + halving, halving + theirs * COSINE]:
        np.testing.assert_allclose(
            function(COUNTS),
            theirs(COUNTS) * COSINE(COUNTS) + halving(COUNTS),
            rtol=1e-6,
            atol=1e-30,
        )
    assert jax.jit(lambda two: (two * COSINE)(0) + (COSINE + two)(0))(2.0) == np.float32(2.3)
    assert sum([COSINE, COSINE])(0) == np.float32(0.2)
    # Optax counts with an int32, with which a schedule may well index a table.
    assert lrax.add(lambda count: jnp.arange(5.0)[count])(3) == 3
    for nonsense in ["0.1", None, object(), True]:
        # What is no number gets Python's own words, or those of `constant` where it is a bool.
        with pytest.raises(
            TypeError, match=r"unsupported operand|multiply sequence|must be a number"
        ):
            COSINE * nonsense
    with pytest.raises(ValueError, match=r"must be finite and non-negative, got -1"):
        COSINE * -1


def test_replace():
    schedule = lrax.wsd(peak=0.1, steps=100, warmup=10, cooldown=20)
    other = schedule.replace(peak=0.2, shape="cosine")
    chex.assert_trees_all_equal(other, lrax.wsd(0.2, 100, 10, 20, shape="cosine"), strict=True)
    assert (
        repr(schedule)
        == "wsd(peak=0.1, steps=100, warmup=10, cooldown=20, init=0, end=0, shape='linear')"
    )
    staircase = lrax.exponential(0.1, 0.5, 10).replace(staircase=True, end=0.01)
    chex.assert_trees_all_equal(
        staircase, lrax.exponential(0.1, 0.5, 10, staircase=True, end=0.01), strict=True
    )
    product = (2 * COSINE).replace(schedules=[COSINE, COSINE])
    chex.assert_trees_all_equal(product, COSINE * COSINE, strict=True)
    with pytest.raises(
        TypeError,
        match=r"`wsd` has no hyperparameter \['decay', 'top'\]; it has \['peak', 'steps', ",
    ):
        schedule.replace(top=1, decay=2, peak=3)
    with pytest.raises(
        ValueError, match=r"`warmup . cooldown` must be at most `steps`, got 30.0 and 25.0"
    ):
        schedule.replace(steps=25)
    with pytest.raises(ValueError, match="`shape` must be one of"):
        schedule.replace(shape="round")
    traced = jax.jit(lambda peak: schedule.replace(peak=peak))(0.3)
    passed = jax.jit(lambda schedule: schedule)(schedule.replace(peak=0.3))
    chex.assert_trees_all_equal(traced, passed, strict=True)


def test_values():
    np.testing.assert_array_equal(COSINE.values(101), COSINE(np.arange(101)))
    np.testing.assert_array_equal(COSINE.values(np.int64(3)), COSINE.values(3))
    np.testing.assert_array_equal(COSINE.values([0, 50]), COSINE(np.array([0, 50])))
    assert COSINE.values(0).shape == (0,)
    peaks = COSINE.replace(peak=[0.1, 0.2, 0.3])
    np.testing.assert_allclose(
        peaks.values(5), np.outer([1, 2, 3], COSINE.values(5)), rtol=1e-6, atol=1e-30
    )


def test_repr():
    assert repr(lrax.constant(3e-4)) == "constant(value=0.0003)"
    assert (
        repr(lrax.linear([1e-3, 0.1], 0, 2**24))
        == "linear(init=[0.001, 0.1], end=0, steps=16777216)"
    )
    assert repr(lrax.linear(np.ones(65), 0, 9)) == "linear(init=float32[65], end=0, steps=9)"
    assert repr(0.5 * COSINE + 1).startswith(
        "add(multiply(cosine(peak=0.1, steps=100, end=0), constant("
    )
    assert "as_schedule(value=<function halving" in repr(COSINE * halving)
    inside = []
    jax.eval_shape(lambda peak: inside.append(repr(COSINE.replace(peak=peak))), 0.1)
    assert inside == ["cosine(peak=float32[], steps=100, end=0)"]


def test_schedules_of_ones_own():
    schedule = sawtooth(0.1, 4)
    assert repr(schedule) == "sawtooth(peak=0.1, period=4)"
    np.testing.assert_allclose(
        schedule.values(6), [0.1, 0.075, 0.05, 0.025, 0.1, 0.075], rtol=1e-6, atol=1e-30
    )
    chex.assert_trees_all_equal(schedule.replace(period=8), sawtooth(0.1, 8), strict=True)
    unnamed = lrax.Schedule(_unnamed, {"rate": np.float32(0.5)})  # without a builder
    assert repr(unnamed) == "_unnamed(rate=0.5)"
    assert unnamed.replace(rate=2)(3) == 2
    with pytest.raises(TypeError, match="`_unnamed` has no hyperparameter"):
        unnamed.replace(peak=2)


def test_a_shape_may_be_a_function():
    quartic = lrax.wsd(0.1, 100, 10, 50, end=0.02, shape=lambda p: p**4)
    wanted = 0.1 - 0.08 * np.linspace(0, 1, 51) ** 4
    np.testing.assert_allclose(quartic.values(np.arange(50, 101)), wanted, rtol=1e-6, atol=1e-30)
    named = lrax.wsd(0.1, 100, 10, 50, end=0.02, shape=lambda p: p)
    np.testing.assert_allclose(
        named(COUNTS), lrax.wsd(0.1, 100, 10, 50, end=0.02)(COUNTS), rtol=1e-6, atol=1e-30
    )


def test_numbers_known_under_jit_stay_known():
    long, exact = jnp.asarray(100), jnp.float32(100)  # a comparison of either is a tracer under jit
    build = lambda steps: jax.jit(
        lambda peak: lrax.warmup_cosine(peak, steps, 20)(10) + lrax.wsd(peak, steps, 9, 9)(9)
    )
    assert build(long)(0.1) == build(exact)(0.1) == build(100)(0.1)
    for bad in [lambda: lrax.warmup_cosine(0.1, 10, exact), lambda: lrax.wsd(0.1, 10, long, exact)]:
        with pytest.raises(ValueError, match="must be at most `steps`"):
            jax.jit(bad)()
    for value in [jnp.asarray(-1.0), jnp.float32(-1), jnp.asarray(-1)]:
        with pytest.raises(ValueError, match="`peak` must be finite and non-negative, got -1"):
            jax.jit(lambda value=value: lrax.cosine(value, 10)(0))()


fractions = st.sampled_from([0.0, 1.0]) | st.floats(
    2**-10, 1.0, width=32
)  # no subnormals: XLA flushes them
lengths = st.integers(0, 2**22)


@functools.partial(jax.jit, static_argnums=1)
def phases(schedule, n):
    """Rates at `n` counts spread over the warmup and over the rest, before 0, and at and past the end."""
    steps, warmup = schedule.hyperparams["steps"], schedule.hyperparams["warmup"]
    along = jnp.linspace(0, 1, n)
    counts = [warmup * along * (1 - 1e-6), warmup + (steps - warmup) * along]
    return tuple(map(schedule, (*counts, -along - 1, steps + 2**24 * along)))


@pytest.mark.usefixtures("as_for_users")
@pytest.mark.filterwarnings("ignore:`steps` is 0")  # one of the cases that are drawn
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    *[fractions] * 3,
    *[lengths] * 3,
    st.sampled_from([None, "linear", "cosine", "1-sqrt", "sqrt", "1-square", "square"]),
)
def test_bounded_monotone_and_held(peak, init, end, warmup, plateau, cooldown, shape):
    init, end = np.float32(init) * np.float32(peak), np.float32(end) * np.float32(peak)
    steps = warmup + plateau + cooldown
    if shape is None:
        schedule = lrax.warmup_cosine(peak, steps, warmup, init=init, end=end)
    else:
        schedule = lrax.wsd(peak, steps, warmup, cooldown, init=init, end=end, shape=shape)
    up, down, before, after = map(np.asarray, phases(schedule, 33))
    rounding = 1e-6 * np.float32(peak)
    assert np.all(np.diff(up) >= -rounding)
    assert np.all(np.diff(down) <= rounding)
    for phase, low in [(up, init), (down, end)]:
        assert np.all((phase >= low - rounding) & (phase <= peak + rounding))
    np.testing.assert_allclose(after, end, rtol=1e-6, atol=1e-30)
    if steps > 0:
        np.testing.assert_allclose(before, init if warmup else peak, rtol=1e-6, atol=1e-30)


@pytest.mark.usefixtures("as_for_users")
@settings(max_examples=30, deadline=None, derandomize=True)
@given(fractions, fractions, st.integers(1, 2**24), st.floats(0.25, 4, width=32))
def test_one_phase_is_bounded_monotone_and_held(start, end, steps, exponent):
    end = np.float32(start) * np.float32(end)
    counts = np.concatenate(
        [[-5, 0], np.linspace(0, steps, 30).round(), [steps, steps + 1, 2**31 - 1]]
    )
    for schedule in [
        lrax.linear(start, end, steps),
        lrax.cosine(start, steps, end, exponent=exponent),
    ]:
        rates = np.asarray(_rates(schedule, counts))
        assert np.all(np.diff(rates) <= 1e-6 * np.float32(start))
        np.testing.assert_allclose(rates[:2], np.float32(start), rtol=1e-6, atol=1e-30)
        np.testing.assert_allclose(rates[-3:], end, rtol=1e-6, atol=1e-30)


_rates = jax.jit(lambda schedule, counts: schedule(counts))


def test_eight_peaks_are_one_program():
    data = jax.random.normal(jax.random.key(0), (32, 4))
    traces = []

    @jax.jit
    def train(schedules):
        def one(schedule):
            traces.append(schedule)
            optimizer = optax.adam(schedule)
            loss = lambda params: jnp.mean(
                (jnp.tanh(data @ params["w"]) @ params["v"] - data[:, 0]) ** 2
            )

            def step(carry, _):
                params, state = carry
                value, grads = jax.value_and_grad(loss)(params)
                updates, state = optimizer.update(grads, state, params)
                return (optax.apply_updates(params, updates), state), value

            params = {"w": jnp.eye(4) / 2, "v": jnp.ones(4) / 4}
            return lax.scan(step, (params, optimizer.init(params)), length=30)[1]

        return jax.vmap(one)(schedules)

    def lanes(peaks, steps):
        return jax.vmap(lambda peak: lrax.warmup_cosine(peak, steps=steps, warmup=5))(
            jnp.asarray(peaks)
        )

    peaks = np.geomspace(1e-4, 1e-1, 8).astype(np.float32)
    losses = train(lanes(peaks, 30))
    train(lanes(peaks[::-1], 40))
    assert len(traces) == 1
    for i in (0, 5):
        alone = train(lanes(peaks[[i]], 30))
        np.testing.assert_allclose(losses[i], alone[0], rtol=1e-5)
    assert np.argmin(losses[:, -1]) not in (0, 1, 2)


def _powered(power, p):
    return p**power


def test_a_shape_of_ones_own_keeps_its_numbers_as_leaves():
    plain = lrax.ramp(0.1, 0.02, 40, shape=lambda p: p**1.5)
    partial = lrax.ramp(0.1, 0.02, 40, shape=jax.tree_util.Partial(_powered, 1.5))
    p = np.clip(np.arange(50) / 40, 0, 1)
    for schedule in (plain, partial):
        np.testing.assert_allclose(schedule.values(50), 0.1 - 0.08 * p**1.5, rtol=1e-6)
    assert len(jax.tree.leaves(partial)) == len(jax.tree.leaves(plain)) + 1
    powers = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), partial)
    np.testing.assert_allclose(
        jax.vmap(lambda schedule: schedule(20))(powers), [plain(20)] * 2, rtol=1e-6
    )
    slope = jax.grad(
        lambda power: partial.replace(shape=jax.tree_util.Partial(_powered, power))(20)
    )(1.5)
    np.testing.assert_allclose(slope, -0.08 * 0.5**1.5 * np.log(0.5), rtol=1e-5)


def test_a_momentum_is_driven_by_one_cycle():
    # One-cycle's momentum runs the other way, between 0.95 and 0.85, by the weights of the rate's
    # own phases.
    cycle = lrax.one_cycle(peak=1.0, steps=100, div=1e9, final_div=1e9)
    optimizer = optax.inject_hyperparams(optax.sgd)(
        learning_rate=lrax.scale(cycle, 0.1), momentum=lrax.link(cycle, at_low=0.95, at_high=0.85)
    )
    state, momenta = optimizer.init(jnp.ones(2)), []
    for _ in range(100):
        _, state = optimizer.update(jnp.ones(2), state)
        momenta.append(state.hyperparams["momentum"])
    t = np.arange(100)
    weight = np.where(
        t < 30, np.sin(np.pi / 2 * t / 30) ** 2, np.sin(np.pi / 2 * (100 - t) / 70) ** 2
    )
    np.testing.assert_allclose(momenta, 0.95 - 0.1 * weight, rtol=1e-6)


def test_cooldowns_of_all_lanes_begin_at_steps_that_are_traced():
    base, ats = lrax.inverse_sqrt(peak=0.1, warmup=10), jnp.array([20.0, 40.0, 80.0])
    traces = []

    @jax.jit
    def rates(ats):
        traces.append(ats)
        return jax.vmap(lambda at: lrax.cooldown(base, at, 10).values(100))(ats)

    wanted = np.asarray(base.values(100))
    for moved in (ats, ats + 5):
        result = np.asarray(rates(moved))
        for lane, at in zip(result, moved, strict=True):
            np.testing.assert_allclose(lane[: int(at) + 1], wanted[: int(at) + 1], rtol=1e-6)
            np.testing.assert_array_equal(lane[int(at) + 10 :], 0)
    assert len(traces) == 1


def test_a_phase_is_not_evaluated_outside_its_steps():
    # Optax's join evaluates later pieces at negative steps, where a fractional power is NaN, and
    # its gradient too.
    pole = lambda count: jnp.sqrt(count.astype(jnp.float32)) * 1e-2
    joined = lrax.join([lambda count: jnp.sqrt(10.0 - count) * 1e-2, pole], boundaries=[10])
    rates, gradients = jax.vmap(
        jax.value_and_grad(lambda boundary: joined.replace(boundaries=boundary[None])(5))
    )(jnp.array([3.0, 10.0]))
    assert np.all(np.isfinite(rates))
    assert np.all(np.isfinite(gradients))
    np.testing.assert_allclose(
        joined.values(12), [*np.sqrt(10 - np.arange(10)) * 1e-2, 0, 1e-2], rtol=1e-6
    )


_values = jax.jit(lambda schedule, steps: schedule.values(steps), static_argnums=1)


@pytest.mark.parametrize("pieces", [1, 2, 12])
def test_lines_from_and_to_a_known_zero(pieces):
    boundaries = 10 * np.arange(1, pieces + 1)
    for last, shape in [(1.0, "linear"), (1.0, "cosine"), (0.0, "linear")]:
        values = [0.0] * pieces + [last]
        for these in (values, values[::-1]):
            known = lrax.piecewise(these, boundaries, shape)
            np.testing.assert_allclose(known.values(120), _values(known, 120), rtol=1e-6)
    for phases in (2, 3):
        np.testing.assert_array_equal(lrax.one_cycle(0.0, 10, phases=phases).values(12), 0)


@pytest.mark.usefixtures("as_for_users")
@pytest.mark.slow
def test_few_known_restarts_are_as_exact_as_many():
    first = 4194287
    for cycles in (8, 9):
        assert lrax.cosine_restarts(1.0, first, cycles=cycles)(6 * first) == 1
    huge = lrax.cosine_restarts(1.0, 10, cycles=8, decay=1e10)
    assert np.isfinite(huge.values(100)).all()
    for mult in (1.0, 1.1, 2.0):
        restarts = lrax.cosine_restarts(1.0, 10, mult=mult, decay=0.5, end=0.01, cycles=5)
        np.testing.assert_allclose(restarts.values(400), _values(restarts, 400), rtol=1e-5)


def test_rates_have_the_axes_of_leaves_and_counts():
    three = lrax.constant(np.arange(1.0, 4))
    assert three(np.zeros((5, 1))).shape == (3, 5, 1)
    assert lrax.scale(three, 2.0)(np.zeros((5, 1))).shape == (3, 5, 1)
    assert lrax.constant(np.ones(1))(np.zeros(5)).shape == (1, 5)


def test_gradients_of_growth_do_not_overflow():
    slope = jax.grad(lambda rate: lrax.exponential(1.0, rate, 12345.0)(10**8))(jnp.float32(2))
    exponent = 10**8 / 12345
    most = 80 / np.log(2)  # where the growth is held
    np.testing.assert_allclose(slope, most * 2 ** (min(exponent, most) - 1), rtol=1e-4)


def test_warnings_are_those_of_the_users_function():
    def logarithm(count):
        return np.log(np.zeros(1))[0] ** 0 * count

    with pytest.warns(RuntimeWarning, match="divide by zero"):
        lrax.scale(logarithm, 1.0)(3)


def test_the_middle_of_a_cosine_has_its_gradient():
    decay = lrax.compat.timm.WSDLRScheduler(
        lr=0.1, t_initial=100, decay_t=50, decay_fn="cosine", stable_fn="rsqrt", stable_timescale=50
    )
    before, middle, after = jax.vmap(jax.grad(decay))(np.array([74, 75, 76], np.float32))
    assert before < middle < after < 0


def exponential(count, factor):  # a user's own, by the name of a builder
    return factor**count


def _decay(count, first):
    return first / (1 + count)


@pytest.mark.parametrize(
    ("formula", "numbers"),
    [(exponential, {"factor": 0.5}), (_decay, {"first": 2.0})],
    ids=["exponential", "_decay"],
)
def test_a_formula_of_the_users_own_prints_as_itself(formula, numbers):
    schedule = lrax.Schedule(formula, numbers)
    (name, value), *_ = numbers.items()
    assert repr(schedule) == f"{formula.__qualname__}({name}={value})"
    assert schedule.span() >= 2
    assert "svg" in schedule._repr_html_()
    assert float(schedule.replace(**{name: 4.0})(1)) == float(formula(1, 4.0))
    assert pickle.loads(pickle.dumps(schedule)).formula is formula


def test_a_formula_is_declared_with_its_name_and_its_shown_arguments():
    def double(half):
        return lrax.Schedule(formula, {"value": 2 * half})

    @builder(double, name="mine.double", shown=lambda given: {"half": given["value"] / 2})
    def formula(count, value):
        return value

    assert repr(double(3)) == "mine.double(half=3.0)"
    assert float(double(3).replace(half=4)(0)) == 8


def test_the_algebra_knows_numbers_functions_and_schedules():
    assert (COSINE * np.float32(2))(0) == (2 * COSINE)(0) == np.float32(0.2)
    assert COSINE.__mul__(halving).formula is COSINE.__rmul__(halving).formula
    for other in [
        "a",
        None,
        [1.0],
        lrax.RateRule(lambda _: (), lambda count, state, **_: (1, state)),
    ]:
        assert COSINE.__mul__(other) is COSINE.__radd__(other) is NotImplemented
    with pytest.raises(TypeError, match="unsupported operand"):
        COSINE + None


def test_concrete_whole_steps_are_counted_exactly():
    begin, end = 100_000_000, 100_000_016
    steps = np.arange(begin, end + 1)  # both are numbers of float32, in which the leaves are kept
    down = np.linspace(1, 0, 17)
    schedules = [
        lrax.wsd(1.0, end, 1000, cooldown=16),
        lrax.cooldown(1.0, begin, 16, shape="linear"),
        lrax.delay(lrax.linear(1.0, 0.0, 16), begin),
        lrax.join([1.0, lrax.linear(1.0, 0.0, 16)], [begin]),
        lrax.warmup(lrax.linear(1.0, 0.0, 16), begin),
    ]
    for schedule in schedules:
        np.testing.assert_allclose(schedule.values(steps), down, atol=1e-6)
        np.testing.assert_allclose([schedule(int(step)) for step in steps], down, atol=1e-6)


def test_a_function_is_given_the_count_as_it_is():
    odd = lambda count: count % 2
    counts = np.arange(2**24, 2**24 + 4)
    for schedule in [as_schedule(odd), odd * lrax.constant(1.0), lrax.maximum(odd, 0.0)]:
        np.testing.assert_array_equal(schedule.values(counts), [0, 1, 0, 1])
        assert [float(schedule(int(count))) for count in counts] == [0, 1, 0, 1]


def test_a_power_law_without_a_power_is_constant_from_the_first_step():
    schedule = lrax.power_law(peak=5.0, batch_size=2.0, tokens_per_step=3.0, a=0.5, b=0.0)
    np.testing.assert_allclose(schedule.values(3), 1.0)


def test_a_simplified_wsd_cools_down_to_zero_along_a_root():
    schedule = lrax.wsd_s(0.1, 2, [10, 20], 5, shape="sqrt", end=0.0)
    wanted = [0.1 * np.sqrt(1 / 5), 0.1, 0.0]
    np.testing.assert_allclose(schedule.values([9, 10, 20]), wanted, rtol=1e-6)
    with pytest.raises(ValueError, match="`end` must be"):
        lrax.wsd_s(0.1, 2, [10, 20], 5, shape="inverse", end=0.0)


@pytest.mark.parametrize("shape", ["inverse", "geometric"])
def test_a_curve_that_would_be_zero_at_once_is_refused(shape):
    with pytest.raises(ValueError, match="`end` must be"):
        lrax.wsd(0.1, 100, 10, 20, shape=shape)


@pytest.mark.parametrize("count", [2**31, -(2**31) - 1, np.int64(2**31), np.array([0, 2**40])])
def test_a_count_that_does_not_fit_is_refused(count):
    with pytest.raises(ValueError, match="`count` must fit in int32, got"):
        lrax.cosine(0.1, 100)(count)


@pytest.mark.parametrize("steps", [2.0, 2.5, 4.0])
@pytest.mark.parametrize("times", [1.0, 1.25, 1.5, 2.0, 2.75])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_last_repetition_that_is_cut_short_holds_the_rate_where_it_stops(steps, times, mirror):
    line = lrax.linear(1.0, 0.0, 4)
    held = lrax.repeat(line, steps, times=times, mirror=mirror)(100)
    # The rate just before the end, or at it: the line is continuous within a repetition.
    within = (times * steps - 1e-4) % (2 * steps if mirror else steps)
    within = min(within, 2 * steps - within) if mirror else within
    np.testing.assert_allclose(held, 1 - within / 4, atol=1e-4)
