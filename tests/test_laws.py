"""The laws of schedules, each for every case of the table in `cases.py`."""

import copy
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import optax
import pytest
from cases import CASES, DURATIONS, FORMULAS, reference, rounded
from jax import numpy as jnp
from jax.experimental import checkify
from jax.extend.core import Literal

import lrax

# Every step and half step of the table's horizon, and counts before and far past it. Where JAX runs
# operation by operation, all arrays of counts have this shape: it compiles each for each shape.
COUNTS = np.concatenate([[-1, -0.5], np.arange(0, 103, 0.5), [2**24 + 1, 2**31 - 1]]).astype(
    np.float32
)
SMOOTH = np.arange(103, dtype=np.float32) + np.float32(0.3125)  # between the joins
LOOKED_AT = np.concatenate([SMOOTH, COUNTS])  # by gradients
# Integers, as an optimizer counts in them: beyond 2^24 a float32 holds no odd ones.
FAR = [-1, 0, 1, 99, 100, 101, *range(2**24 - 2, 2**24 + 4), 2**30 + 1, 2**31 - 2, 2**31 - 1]
HORIZONS = np.array([10**3, 10**5, 10**7, 2**24])
LONG_HORIZONS = np.array([2**25, 2**28])
JOINS = np.array([0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 1])
AROUND = 100  # counts on each side of a join
PRECISE = 2 * AROUND * len(JOINS)  # counts of each call of `compiled`: one program for two laws

every_case = pytest.mark.parametrize("case", CASES, ids=str)
# For laws that are about the structure or the builder alone, one case of each: the first.
STRUCTURES = {jax.tree.structure(case.build()): case for case in reversed(CASES)}.values()
every_structure = pytest.mark.parametrize("case", STRUCTURES, ids=str)
BUILDERS = {case.builder: case for case in reversed(CASES)}.values()
every_builder = pytest.mark.parametrize("case", BUILDERS, ids=str)


def rate(schedule, count):
    return schedule(count)


# At module level, for each to be compiled once per structure of a schedule.
compiled = jax.jit(rate)
mapped = jax.jit(jax.vmap(rate))  # several lanes, each a schedule at its own counts
gradients = jax.jit(jax.vmap(jax.grad(rate), in_axes=(None, 0)))


# What may be below zero.
SIGNED = {("shift", "steps"), ("tanh", "low"), ("tanh", "high"), ("power_law", "b")}
# Of which the rate is no continuous function: another key is other noise, and no warmup another
# timescale.
# A repetition more or less holds another rate.
JUMPS = {("with_noise", "key"), ("inverse_sqrt", "warmup"), ("cosine_restarts", "cycles")}
JUMPS |= {("repeat", "times")}
# Valid values of hyperparameters for which 2 is none.
VALID = {"steps": 9, "pct_start": 0, "gamma": 1, "limit": 1, "low": 1, "first": 9, "b2": 0}


def lanes(schedules):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *schedules)


def changed(schedule):
    """The schedule with one hyperparameter changed, for each of them; the phases still fit into `steps`."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(schedule)
    enlarged = {"steps": 1.5, "mult": 1.5, "times": 2, "cycles": 2}
    factors = [
        enlarged.get(name := path[-1].key, 0.5 if name in DURATIONS else 0.75) for path, _ in leaves
    ]
    return [
        structure.unflatten(
            [leaf * factor if i == j else leaf for j, (_, leaf) in enumerate(leaves)]
        )
        for i, factor in enumerate(factors)
    ]


def assert_close(found, wanted, digits=1e-6, peak=None):
    """The law of precision: rates differ by parts of the peak, which is that of each lane."""
    off = np.abs(np.asarray(found, np.float64) - wanted)
    peak = np.max(wanted, axis=-1, keepdims=True) if peak is None else peak
    assert np.all(off <= digits * peak), np.max(off)


def with_entry(array, at, value):
    array = np.array(array, np.float64)
    array[at] = value
    return array


def stretched(schedule, horizon):
    """The schedule with all durations multiplied by `horizon / 100`."""

    def stretch(path, leaf):
        return np.round(leaf * horizon / 100) if path[-1].key in DURATIONS else leaf

    return jax.tree_util.tree_map_with_path(stretch, schedule)


def test_the_table_lists_every_public_builder():
    functions = {name: value for name, value in vars(lrax).items() if inspect.isfunction(value)}
    returns = {
        name: inspect.signature(function).return_annotation for name, function in functions.items()
    }
    builders = {name for name, value in returns.items() if value in (lrax.Schedule, "Schedule")}
    # `stack` has an axis of lanes, which no law here is about: its tests are in `test_schedule.py`.
    assert builders == {case.builder for case in CASES} | {"stack"} == FORMULAS.keys() | {"stack"}


@pytest.mark.usefixtures("quick")
@every_case
def test_the_rate_is_that_of_the_formula(case):
    schedule = case.build()
    assert_close(schedule(COUNTS), reference(schedule, COUNTS))
    steps = len(COUNTS)
    assert_close(schedule.values(steps), reference(schedule, np.arange(steps)))


@pytest.mark.usefixtures("quick")
@every_case
def test_concrete_whole_counts_are_exact(case):
    schedule = case.build()
    wanted, peak = reference(schedule, FAR), np.max(reference(schedule, COUNTS))
    assert_close([schedule(count) for count in FAR], wanted, peak=peak)
    far = np.resize(FAR, COUNTS.shape)
    assert_close(schedule(far), np.resize(wanted, COUNTS.shape), peak=peak)
    # The joins of long runs: every step around each, up to the largest count.
    for horizon in LONG_HORIZONS:
        long = stretched(schedule, horizon)
        counts = np.round(JOINS[:, None] * horizon) + np.arange(-11, 12)
        counts = np.resize(np.clip(counts, 0, 2**31 - 1).astype(int), COUNTS.shape)
        assert_close(long(counts), reference(long, counts))


@every_case
def test_a_compiled_rate_is_that_of_the_formula(case):
    schedule = case.build()
    counts = np.resize(COUNTS, PRECISE)
    assert_close(compiled(schedule, counts), reference(rounded(schedule), counts))


@pytest.mark.usefixtures("quick")
@every_case
def test_every_leaf_is_mapped(case):
    schedules = changed(case.build())
    stacked = lanes(schedules)
    wanted = [reference(rounded(schedule), COUNTS) for schedule in schedules]
    counts = np.broadcast_to(COUNTS, (len(schedules), len(COUNTS)))
    assert_close(mapped(stacked, counts), wanted)


@every_structure
def test_each_leaf_is_mapped_on_its_own(case):
    leaves, structure = jax.tree.flatten(lanes(changed(case.build())))
    for i in range(len(leaves)):
        axes = structure.unflatten([0 if i == j else None for j in range(len(leaves))])
        partly = structure.unflatten([leaf if i == j else leaf[0] for j, leaf in enumerate(leaves)])
        assert jax.eval_shape(jax.vmap(rate, in_axes=(axes, None)), partly, 3).shape == (
            len(leaves),
        )


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] if case.builder == "with_noise" else [])
        for case in CASES
    ],
    ids=str,
)
def test_precision(case):
    for horizon in np.concatenate([HORIZONS, LONG_HORIZONS]):
        counts = JOINS[:, None] * horizon + np.arange(-AROUND, AROUND)
        counts = np.clip(np.round(counts.ravel()), 0, None).astype(np.float32)
        schedule = rounded(stretched(case.build(), horizon))
        result = np.asarray(compiled(schedule, counts), np.float64)
        peak = result.max()
        wanted = reference(schedule, counts)
        holds = np.abs(result - wanted) <= 1e-6 * peak
        if (
            horizon > 2**24
        ):  # where the count itself is rounded, and may so fall on the other side of a stair
            near = [
                reference(schedule, counts + shift * np.spacing(counts)) for shift in [-1, 0, 1]
            ]
            holds |= (result >= np.min(near, axis=0) - 1e-6 * peak) & (
                result <= np.max(near, axis=0) + 1e-6 * peak
            )
        assert np.all(holds), f"steps={horizon}"


@pytest.mark.usefixtures("quick")
@every_case
def test_gradients_are_those_of_the_formula(case):
    schedule = case.build()
    paths, structure = jax.tree_util.tree_flatten_with_path(schedule)
    leaves = [np.float32(leaf) for _, leaf in paths]
    result = jax.tree.leaves(gradients(schedule, LOOKED_AT))
    assert all(np.all(np.isfinite(gradient)) for gradient in result)
    result = [gradient[: len(SMOOTH)] for gradient in result]
    for i, (path, leaf) in enumerate(paths):
        if (case.builder, path[-1].key) in JUMPS:
            continue
        for at in np.ndindex(np.shape(leaf)):
            value = np.float64(leaf[at])
            small = 1e-6 * max(abs(value), 1e-2)
            high, low = value + small, value - small
            low = max(low, 0) if value >= 0 else low  # most formulas take no negative number
            above, below = (
                reference(
                    structure.unflatten([*leaves[:i], with_entry(leaf, at, new), *leaves[i + 1 :]]),
                    SMOOTH,
                )
                for new in (high, low)
            )
            wanted = (above - below) / (high - low)
            close = dict(rtol=1e-4, atol=1e-5 * np.abs(wanted).max() + 1e-8)
            np.testing.assert_allclose(result[i][(slice(None), *at)], wanted, **close)


@pytest.mark.usefixtures("quick")
def test_one_trace_for_all_types_of_numbers_and_for_all_their_values():
    traces = []
    # No whole number is a `b2` of radam's warmup.
    cases = [case for case in CASES if case.keywords.get("kind") != "radam"]

    @jax.jit
    def rates(schedules, count):
        traces.append(schedules)
        return [schedule(count) for schedule in schedules]

    rates([case.build() for case in cases], 3)
    numpy = [np.float32, np.float64, np.int32, np.int64, np.asarray]
    for of_type in [
        int,
        float,
        *numpy,
        jnp.float32,
        jnp.bfloat16,
        jnp.asarray,
        lambda number: jnp.asarray(float(number)),
    ]:
        numbers = [{name: of_type(VALID.get(name, 2)) for name in case.numbers} for case in cases]
        rates([case.build(**changes) for case, changes in zip(cases, numbers, strict=True)], 3)
    assert len(traces) == 1


@every_structure
def test_rates_are_float32_scalars_or_arrays_like_the_count(case):
    schedule = case.build()
    for count in [
        0,
        0.5,
        np.int64(3),
        np.float64(3),
        jnp.int32(3),
        jnp.asarray(3),
        jnp.bfloat16(3),
    ]:
        rate = jax.eval_shape(schedule, count)
        assert (rate.shape, rate.dtype, rate.weak_type) == ((), jnp.float32, False)
    for shape in [(0,), (5,), (2, 3)]:
        assert jax.eval_shape(schedule, np.zeros(shape, int)).shape == shape
    with jax.numpy_dtype_promotion("strict"):
        assert jax.eval_shape(jax.grad(lambda schedule: case.build()(3) * schedule(3)), schedule)


def is_alone(case):
    """Whether no schedule is part of this one, which might ask it for its rate at a known step."""
    parts = jax.tree.leaves(
        case.build().hyperparams, is_leaf=lambda part: isinstance(part, lrax.Schedule)
    )
    return not any(isinstance(part, lrax.Schedule) for part in parts)


@pytest.mark.parametrize("case", list(filter(is_alone, STRUCTURES)), ids=str)
def test_what_is_known_before_any_count_is_computed_at_once(case):
    schedule = case.build()
    jaxpr = jax.make_jaxpr(schedule)(3).jaxpr
    known = set(jaxpr.constvars)
    for equation in jaxpr.eqns:
        if all(isinstance(value, Literal) or value in known for value in equation.invars):
            assert equation.primitive.name in ("broadcast_in_dim", "device_put")  # no arithmetic
            known |= set(equation.outvars)


@pytest.mark.usefixtures("quick")
@every_structure
def test_rates_are_float64_under_x64(case, x64):
    with x64:
        schedule = case.build()
        counts = np.arange(-1, 103)
        result = schedule(counts)
        assert (
            {leaf.dtype for leaf in jax.tree.leaves(schedule)}
            == {result.dtype}
            == {np.dtype(np.float64)}
        )
        assert_close(result, reference(schedule, counts), digits=1e-12)


@every_case
def test_copies_are_equal(case):
    schedule = case.build()
    for same in [
        pickle.loads(pickle.dumps(schedule)),
        copy.copy(schedule),
        copy.deepcopy(schedule),
        eval(repr(schedule), vars(lrax)),
        schedule.replace(),
    ]:
        chex.assert_trees_all_equal(same, schedule, strict=True)


def test_a_transformation_changes_no_repr():
    schedules = [case.build() for case in CASES]
    compiled = jax.jit(lambda schedules: schedules)(schedules)
    flattened = jax.tree.map(lambda leaf: leaf, schedules)
    assert repr(schedules) == repr(compiled) == repr(flattened)
    chex.assert_trees_all_equal(eval(repr(compiled), vars(lrax)), schedules, strict=True)


@pytest.mark.slow
def test_no_tracer_leaks():
    with jax.checking_leaks():
        jax.eval_shape(lambda count: [case.build()(count) for case in CASES], 3)
        jax.eval_shape(
            lambda factor: [
                case.build(**{k: factor * v for k, v in case.numbers.items()})(3) for case in CASES
            ],
            1.0,
        )


@pytest.mark.usefixtures("quick")
@every_builder
def test_optax_takes_it(case):
    schedule = case.build()
    params, grads = {"w": jnp.ones(2)}, {"w": jnp.asarray([1.0, -1.0])}
    wanted = [schedule(count) for count in range(3)]

    def steps(optimizer, get=lambda updates, state: updates["w"][0], update=None):
        state, found = optimizer.init(params), []
        for _ in range(3):
            updates, state = (update or optimizer.update)(grads, state, params)
            found.append(get(updates, state))
        return found

    np.testing.assert_array_equal(steps(optax.scale_by_schedule(schedule)), wanted)
    np.testing.assert_array_equal(steps(optax.sgd(schedule)), -np.asarray(wanted))
    np.testing.assert_allclose(
        steps(optax.adamw(schedule, weight_decay=0)), -np.asarray(wanted), rtol=1e-4
    )
    injected = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule)
    np.testing.assert_array_equal(
        steps(injected, lambda _, state: state.hyperparams["learning_rate"]), wanted
    )
    every_second = optax.MultiSteps(
        optax.sgd(schedule), every_k_schedule=2
    ).gradient_transformation()
    compiled_once = jax.jit(every_second.update)  # has branches, and would compile in each step
    np.testing.assert_allclose(
        steps(every_second, update=compiled_once), [0, -wanted[0], 0], rtol=1e-6
    )
    joined = optax.join_schedules([schedule, schedule], boundaries=[2])
    np.testing.assert_array_equal([joined(count) for count in range(5)], [*wanted[:2], *wanted])


@pytest.mark.usefixtures("quick")
@every_builder
def test_it_is_trained_as_parameters(case):
    schedule = case.build()
    optimizer = optax.adam(1e-3)
    state = optimizer.init(schedule)
    chex.assert_trees_all_equal(state[0].mu, jax.tree.map(jnp.zeros_like, schedule), strict=True)
    # The compiled gradients of the law above, of which these are two: compiling takes the time.
    at = [list(LOOKED_AT).index(count) for count in (5, 25)]
    found = gradients(schedule, LOOKED_AT)
    grads = jax.tree.map(lambda gradient: np.asarray(gradient)[at].sum(axis=0), found)
    updates, _ = optimizer.update(grads, state, schedule)
    trained = optax.apply_updates(schedule, updates)
    chex.assert_trees_all_equal_structs(trained, schedule)
    for before, after, gradient in zip(
        *map(jax.tree.leaves, (schedule, trained, grads)), strict=True
    ):
        much = np.abs(gradient) > 1e-6
        np.testing.assert_array_equal(np.sign(before - after)[much], np.sign(gradient)[much])


@pytest.mark.parametrize(
    ("case", "name"), [(case, name) for case in BUILDERS for name in case.numbers], ids=str
)
def test_bad_numbers_are_named(case, name):
    negative = (
        [] if (case.builder, name) in SIGNED else [-1, -1e-3, np.array([1.0, -1.0], np.float32)]
    )
    for bad in [*negative, np.nan, np.inf, 1e300, jnp.float32(np.nan)]:
        with pytest.raises(ValueError, match=f"`{name}` must be .*, got "):
            case.build(**{name: bad})
    for bad in ["0.1", None, True, 1j, object()]:
        if (
            bad is not None
            or inspect.signature(getattr(lrax, case.builder)).parameters[name].default is not None
        ):
            with pytest.raises(TypeError, match=f"`{name}` must be a real number"):
                case.build(**{name: bad})


@pytest.mark.usefixtures("quick")
def test_bad_traced_numbers_are_named_inside_of_checks():
    with lrax.checks():
        for case in BUILDERS:

            def build(numbers, case=case):
                return jax.tree.leaves(case.build(**numbers))

            checked = jax.jit(checkify.checkify(build))
            numbers = {name: np.float32(number) for name, number in case.numbers.items()}
            assert checked(numbers)[0].get() is None
            for name in numbers:
                error = checked({**numbers, name: np.float32(np.inf)})[0].get()
                assert f"`{name}` must be " in error


@every_builder
def test_a_program_of_traced_numbers_has_no_effects(case):
    def updated(numbers, gradient):
        optimizer = optax.sgd(case.build(**numbers))
        return optimizer.update(gradient, optimizer.init(gradient))[0]

    # An effect makes each call of a jitted step several times slower.
    assert not jax.make_jaxpr(updated)(case.numbers, 1.0).effects


BAD_CALLS = [
    (
        "cosine",
        dict(peak=0.1, steps=9, exponent=0),
        "`exponent` must be finite and positive, got 0",
    ),
    ("exponential", dict(init=0.1, rate=0), "`rate` must be finite and positive, got 0"),
    (
        "exponential",
        dict(init=0.1, rate=0.5, steps=0),
        "`steps` must be finite and positive, got 0",
    ),
    (
        "warmup_cosine",
        dict(peak=0.1, steps=9, warmup=10),
        "`warmup` must be at most `steps`, got 10.0 and 9.0",
    ),
    (
        "wsd",
        dict(peak=0.1, steps=9, warmup=5, cooldown=5),
        "`warmup . cooldown` must be at most `steps`, got 10",
    ),
    (
        "wsd",
        dict(peak=0.1, steps=9, warmup=0, cooldown=0, shape="cubic"),
        "`shape` must be one of 'linear', .*cubic",
    ),
    *(
        (name, dict(), f"`schedules` of `{name}` must be at least one")
        for name in ("multiply", "add", "minimum", "maximum")
    ),
    (
        "ramp",
        dict(start=0, end=1, steps=9, inclusive="all"),
        "`inclusive` must be one of 'left', .*'all'",
    ),
    (
        "polynomial",
        dict(init=1, end=0, steps=9, power=0),
        "`power` must be finite and positive, got 0",
    ),
    ("polynomial", dict(init=1, end=0, steps=9, k=0), "`k` must be finite and positive, got 0"),
    (
        "multistep",
        dict(init=1, milestones=[9, 3]),
        "`milestones` must be in ascending order, got ",
    ),
    ("multistep", dict(init=1, milestones=3), "`milestones` must be a list of numbers, got 3"),
    (
        "multistep",
        dict(init=1, milestones=[3, 9], factor=[0.1]),
        "`milestones` and `factor` must be of the same length, got 2 and 1",
    ),
    (
        "piecewise_constant",
        dict(values=[1.0, 2.0], boundaries=[1, 2]),
        "`values` must be one more than `boundaries`.* got 2 and 2",
    ),
    (
        "piecewise",
        dict(values=[1.0], boundaries=[]),
        "`values` must be one more than .* got 1 and 0",
    ),
    (
        "piecewise",
        dict(values=[1.0, 2.0, 3.0], boundaries=[9, 3]),
        "`boundaries` must be in ascending order, got ",
    ),
    ("from_values", dict(values=[]), "`values` must be at least one number"),
    (
        "cyclic",
        dict(low=0.2, high=0.1, up=9),
        "`low` must be at most `high`, got 0.2.* and 0.1",
    ),
    ("cyclic", dict(low=0.1, high=0.2, up=9, gamma=1.5), "`gamma` must be at most 1, got 1.5"),
    ("cyclic", dict(low=0.1, high=0.2, up=0), "`up . down` must be finite and positive, got 0"),
    (
        "cyclic",
        dict(low=0.1, high=0.2, up=9, mode="square"),
        "`mode` must be one of 'triangular', .*'square'",
    ),
    ("cosine_restarts", dict(peak=1, first=0), "`first` must be finite and positive, got 0"),
    (
        "cosine_restarts",
        dict(peak=1, first=9, mult=0),
        "`mult` must be finite and positive, got 0",
    ),
    (
        "cosine_restarts",
        dict(peak=1, first=9, cycles=0),
        "`cycles` must be finite and at least 1, got 0",
    ),
    ("one_cycle", dict(peak=1, steps=9, phases=4), "`phases` must be 2 or 3, got 4"),
    (
        "one_cycle",
        dict(peak=1, steps=9, pct_start=0.6, phases=3),
        "`pct_start` must be at most 0.5 with 3 phases",
    ),
    (
        "tri_stage",
        dict(peak=1, warmup=1, hold=1, cooldown=1, final_scale=0),
        "`final_scale` must be finite and pos",
    ),
    (
        "wsd_s",
        dict(peak=1, warmup=1, boundaries=[9], cooldown=1, end=0),
        "`end` must be finite and positive",
    ),
    (
        "clip",
        dict(schedule=1.0, low=0.2, high=0.1),
        "`low` must be at most `high`, got 0.2.* and 0.1",
    ),
    ("repeat", dict(schedule=1.0, steps=0), "`steps` must be finite and positive, got 0"),
    (
        "cooldown",
        dict(schedule=1.0, at=2, steps=4, shape="geometric"),
        "`end` must be finite and positive, got 0",
    ),
    (
        "infinite",
        dict(peak=1.0, stable=0.0, warmup=2, cooldown=4, shape="inverse"),
        "`stable` must be finite and positive, got 0",
    ),
    ("stretch", dict(schedule=1.0, factor=0), "`factor` must be finite and positive, got 0"),
    (
        "link",
        dict(schedule=1.0, at_low=1, at_high=2, low=1, high=1),
        "`high` - `low` must be finite and positive",
    ),
    (
        "join",
        dict(schedules=[1.0, 2.0], boundaries=[1, 2]),
        "`schedules` must have one entry more than .* got 2 and 2",
    ),
    (
        "join",
        dict(schedules=[1.0, 2.0, 3.0], boundaries=[9, 3]),
        "`boundaries` must be in ascending order, got ",
    ),
    (
        "join",
        dict(schedules=[1.0, 2.0], boundaries=[1], clock="utc"),
        "`clock` must be one of 'local', 'global', got",
    ),
    (
        "warmup",
        dict(schedule=1.0, steps=9, anchor="top"),
        "`anchor` must be one of 'shift', .*'top'",
    ),
    ("with_noise", dict(schedule=1.0, key=-1), "`key` must be a seed from 0 to"),
    ("with_noise", dict(schedule=1.0, key=0, limit=1.5), "`limit` must be at most 1, got 1.5"),
    (
        "with_noise",
        dict(schedule=1.0, key=0, kind="pink"),
        "`kind` must be one of 'normal', 'uniform', got 'pink'",
    ),
]


@pytest.mark.parametrize(("builder", "keywords", "message"), BAD_CALLS)
def test_bad_calls_are_named(builder, keywords, message):
    with pytest.raises(ValueError, match=message):
        getattr(lrax, builder)(**keywords)


def test_bad_traced_calls_are_named_inside_of_checks():
    with lrax.checks():
        for builder, keywords, message in BAD_CALLS:
            numbers = {k: v for k, v in keywords.items() if type(v) in (int, float) and k != "key"}
            if numbers == keywords != {} and builder != "one_cycle" and "list of" not in message:

                def build(numbers, builder=builder):
                    return jax.tree.leaves(getattr(lrax, builder)(**numbers))

                error, _ = checkify.checkify(jax.jit(build))(numbers)
                assert re.search(message, error.get())


def test_building_touches_no_device():
    program = """
from jax._src import xla_bridge
import cases
schedules = [case.build() for case in cases.CASES]
repr(schedules), [2 * schedule + 0.5 for schedule in schedules], [schedule.replace() for schedule in schedules]
assert not xla_bridge.backends_are_initialized()
schedules[0](3)
assert xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, check=True)
