"""The rate as state: `scale_by_lr`, `get_lr`, `set_lr`."""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}
SCHEDULE = lrax.warmup_cosine(peak=0.1, steps=100, warmup=10)
LABELS = {"w": "body", "b": "head"}


def adam(rate):
    return optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(rate))


def trajectory(optimizer, params, steps):
    """Parameters along the descent of an uneven bowl, in one scan."""

    def body(carry, _):
        params, state = carry
        grads = jax.tree.map(lambda p: (p**3 - 0.3 * p + 0.1).astype(p.dtype), params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, updates)

    carry = (params, optimizer.init(params))
    return jax.jit(lambda carry: jax.lax.scan(body, carry, length=steps))(carry)


OPTIMIZERS = {
    "adam": (optax.scale_by_adam(), optax.adam),
    "momentum": (optax.trace(0.9), lambda s: optax.sgd(s, 0.9)),
}


@pytest.mark.usefixtures("as_for_users")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "schedule", [SCHEDULE, lrax.wsd(0.1, 150, 5, 50), optax.linear_schedule(0.1, 0.0, 150)]
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bit_identical_to_optax(dtype, schedule, name):
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    first, theirs = OPTIMIZERS[name]
    (_, state), ours = trajectory(optax.chain(first, lrax.scale_by_lr(schedule)), params, 200)
    _, expected = trajectory(theirs(schedule), params, 200)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    np.testing.assert_allclose(lrax.get_lr(state), schedule(199), rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("as_for_users")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bit_identical_to_optax_for_a_constant(dtype, name):
    # Step by step: XLA folds Optax's constant into Adam's own ones, and rounds in another order
    # within one program.
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    first, theirs = OPTIMIZERS[name]
    pairs = []
    for optimizer in (optax.chain(first, lrax.scale_by_lr(0.03)), theirs(lrax.constant(0.03))):
        state, all_updates = optimizer.init(params), []
        for step in range(5):
            grads = jax.tree.map(lambda p: p * (step - 2), params)  # noqa: B023 (used at once)
            updates, state = optimizer.update(grads, state, params)
            all_updates.append(updates)
        pairs.append(all_updates)
    jax.tree.map(np.testing.assert_array_equal, *pairs)


def test_update_keeps_its_dtype_and_the_rate_its_own(x64):
    with x64:
        for dtype in (jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64):
            optimizer = lrax.scale_by_lr(SCHEDULE)
            grads = jnp.ones(3, dtype)
            state = optimizer.init(grads)
            assert lrax.get_lr(state).dtype == jnp.float64
            updates, after = optimizer.update(grads, state)
            assert updates.dtype == dtype
            assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
                lambda a: (a.shape, a.dtype), state
            )
    assert lrax.get_lr(lrax.scale_by_lr(SCHEDULE).init(PARAMS)).dtype == jnp.float32


def test_sign():
    for flip_sign, sign in ((True, -1), (False, 1)):
        optimizer = lrax.scale_by_lr(0.5, flip_sign=flip_sign)
        updates, _ = optimizer.update(jnp.ones(()), optimizer.init(jnp.ones(())))
        assert updates == sign * 0.5


def test_one_state_tree_so_that_a_run_switches_at_resume():
    drives = [
        0.03,
        np.float32(0.03),
        jnp.float32(0.03),
        SCHEDULE,
        optax.linear_schedule(0.1, 0.0, 150),
    ]
    states = [adam(drive).init(PARAMS) for drive in drives]
    describe = lambda state: (
        jax.tree.structure(state),
        [(a.shape, a.dtype, a.weak_type) for a in jax.tree.leaves(state)],
    )
    assert all(describe(state) == describe(states[0]) for state in states)

    state = states[0]
    for drive, expected in ((0.03, [0.03] * 3), (SCHEDULE, [0.03, 0.04, 0.05]), (0.2, [0.2] * 3)):
        for rate in expected:
            _, state = adam(drive).update(PARAMS, state, PARAMS)
            assert float(lrax.get_lr(state)) == pytest.approx(rate)
    assert describe(state) == describe(states[0])


NESTINGS = {
    "bare": lrax.scale_by_lr(SCHEDULE),
    "chain": adam(SCHEDULE),
    "chain of chains": optax.chain(optax.clip(1.0), optax.chain(optax.trace(0.9), adam(SCHEDULE))),
    "named_chain": optax.named_chain(
        ("adam", optax.scale_by_adam()), ("lr", lrax.scale_by_lr(SCHEDULE))
    ),
    "masked": optax.masked(adam(SCHEDULE), {"w": True, "b": False}),
    "partition": optax.partition({"body": adam(SCHEDULE), "head": optax.set_to_zero()}, LABELS),
    "MultiSteps": optax.MultiSteps(adam(SCHEDULE), 1),
    "apply_if_finite": optax.apply_if_finite(adam(SCHEDULE), 3),
    "all": optax.MultiSteps(
        optax.apply_if_finite(optax.partition({"body": adam(SCHEDULE)}, lambda p: "body"), 3), 1
    ),
}


@pytest.mark.parametrize("name", NESTINGS)
def test_read_and_set_under_any_nesting(name):
    optimizer = NESTINGS[name]
    traces = []

    @jax.jit
    def update(state):
        traces.append(None)
        return optimizer.update(PARAMS, state, PARAMS)

    state = optimizer.init(PARAMS)
    assert lrax.get_lr(state) == 0.0
    for count in range(3):
        _, state = update(state)
        assert float(lrax.get_lr(state)) == pytest.approx(float(SCHEDULE(count)), rel=1e-6)
    held = lrax.set_lr(state, 0.25)
    assert lrax.get_lr(held) == 0.25
    for _ in range(2):
        updates, held = update(held)
        assert lrax.get_lr(held) == 0.25
    assert float(jnp.abs(updates["w"]).max()) == pytest.approx(
        0.25, rel=0.1
    )  # Adam's steps, and ones, are of size one
    _, back = update(lrax.set_lr(held, None))
    assert float(lrax.get_lr(back)) == pytest.approx(
        0.05
    )  # the update with the index 5: it has kept counting
    assert float(lrax.get_lr(state)) == pytest.approx(
        0.02
    )  # and the state that was set is unchanged
    assert len(traces) == 1


def test_groups():
    optimizer = optax.partition(
        {"body": adam(1e-3), "head": optax.chain(lrax.scale_by_lr(0.5))}, LABELS
    )
    state = optimizer.init(PARAMS)
    assert {group: float(rate) for group, rate in lrax.get_lr(state).items()} == {
        "body": pytest.approx(1e-3),
        "head": 0.5,
    }
    one = lrax.set_lr(state, {"head": 0.25})
    assert {group: float(rate) for group, rate in lrax.get_lr(one).items()} == {
        "body": pytest.approx(1e-3),
        "head": 0.25,
    }
    assert set(map(float, lrax.get_lr(lrax.set_lr(state, 0.125)).values())) == {0.125}
    updates, _ = optimizer.update({"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, one, PARAMS)
    np.testing.assert_array_equal(updates["b"], -0.25 * np.ones(3))
    with pytest.raises(
        ValueError, match=r"`rate` must name groups of \['body', 'head'\], got \['tail'\]"
    ):
        lrax.set_lr(state, {"tail": 1.0})
    with pytest.raises(ValueError, match=r"got \[0, 'tail'\]"):
        lrax.set_lr(state, {0: 1.0, "tail": 1.0})

    one = lrax.scale_by_lr(0.5).init(PARAMS)
    assert lrax.get_lr(lrax.set_lr({"body": one, "head": one}, {"body": 0.25})) == {
        "body": 0.25,
        "head": 0.5,
    }


@pytest.mark.parametrize("labels", [(0, 1), ("0", "1")], ids=repr)
def test_groups_go_by_the_labels_themselves(labels):
    body, head = labels
    optimizer = optax.partition(
        {body: adam(0.5), head: lrax.scale_by_lr(0.25)}, {"w": [body], "b": [head]}
    )
    params = {name: [leaf] for name, leaf in PARAMS.items()}
    state = optimizer.init(params)
    assert lrax.get_lr(state) == {body: 0.5, head: 0.25}
    state = lrax.set_lr(state, {head: 0.125})
    assert lrax.get_lr(state) == {body: 0.5, head: 0.125}
    updates, _ = jax.jit(optimizer.update)(params, state, params)
    np.testing.assert_array_equal(updates["b"][0], -0.125 * PARAMS["b"])


def test_groups_within_groups_join_their_labels():
    inner = optax.partition(
        {"a": lrax.scale_by_lr(0.5), "b": lrax.scale_by_lr(0.25)}, {"w": "a", "b": "b"}
    )
    state = optax.partition({7: inner}, {"w": 7, "b": 7}).init(PARAMS)
    assert lrax.get_lr(state) == {"7/a": 0.5, "7/b": 0.25}


def test_structure_in_structure_out():
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    assert lrax.get_lr(jax.eval_shape(adam(SCHEDULE).init, PARAMS)) == rate
    assert (
        lrax.get_lr(
            jax.eval_shape(optax.inject_hyperparams(optax.adam)(learning_rate=1e-3).init, PARAMS)
        )
        == rate
    )
    lanes = jax.eval_shape(jax.vmap(lambda rate: adam(rate).init(PARAMS)), jnp.ones(3))
    assert lrax.get_lr(lanes) == jax.ShapeDtypeStruct((3,), jnp.float32)
    groups = optax.partition({"body": adam(SCHEDULE), "head": lrax.scale_by_lr(0.5)}, LABELS)
    shapes = jax.eval_shape(groups.init, PARAMS)
    assert lrax.get_lr(shapes) == {"body": rate, "head": rate}

    for new in (0.25, {"head": 0.25}, None):
        with pytest.raises(
            TypeError,
            match=r"`opt_state` must hold values .*, got ShapeDtypeStruct.*`jax.eval_shape",
        ):
            lrax.set_lr(shapes, new)
        assert jax.eval_shape(lrax.set_lr, shapes, new) == shapes


@pytest.mark.parametrize("updates", [0, 2])
def test_a_rate_handed_back_is_read_until_the_next_update(updates):
    optimizer = adam(SCHEDULE)
    state = lrax.set_lr(optimizer.init(PARAMS), 0.25)
    for _ in range(updates):
        _, state = optimizer.update(PARAMS, state, PARAMS)
    back = lrax.set_lr(state, None)
    assert lrax.get_lr(back) == 0.25  # the one of the last update, or the one set since
    _, after = optimizer.update(PARAMS, back, PARAMS)
    assert lrax.get_lr(after) == SCHEDULE(updates)
    assert lrax.get_lr(lrax.set_lr(after, None)) == SCHEDULE(
        updates
    )  # where nothing is held, nothing changes


def test_gradient_accumulation_counts_updates():
    optimizer = optax.MultiSteps(adam(SCHEDULE), 2)
    update = jax.jit(optimizer.update)
    state, rates = optimizer.init(PARAMS), []
    for _ in range(6):
        _, state = update(PARAMS, state, PARAMS)
        rates.append(lrax.get_lr(state))
    np.testing.assert_allclose(rates, SCHEDULE(np.array([0, 0, 0, 1, 1, 2])), rtol=1e-6)


def test_groups_without_names_go_by_their_path():
    masks = {"w": True, "b": False}, {"w": False, "b": True}
    optimizer = optax.chain(
        *(
            optax.masked(lrax.scale_by_lr(rate), mask)
            for rate, mask in zip((0.5, 0.25), masks, strict=True)
        )
    )
    state = optimizer.init(PARAMS)
    rates = lrax.get_lr(state)
    assert sorted(map(float, rates.values())) == [0.25, 0.5]
    first = min(rates)
    assert float(lrax.get_lr(lrax.set_lr(state, {first: 0.125}))[first]) == 0.125

    partly_named = optax.chain(
        optax.partition({"body": lrax.scale_by_lr(0.5)}, lambda _: "body"), lrax.scale_by_lr(1)
    )
    assert list(lrax.get_lr(partly_named.init(PARAMS))) == [
        "[0].inner_states['body'].inner_state",
        "[1]",
    ]


def test_inject_hyperparams():
    injected = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)
    state = injected.init(PARAMS)
    assert float(lrax.get_lr(state)) == pytest.approx(1e-3)
    updates, state = injected.update(PARAMS, lrax.set_lr(state, 0.25), PARAMS)
    assert lrax.get_lr(state) == 0.25
    assert float(jnp.abs(updates["w"]).max()) == pytest.approx(0.25, rel=1e-3)

    scheduled = optax.inject_hyperparams(optax.adam)(learning_rate=SCHEDULE)
    state = scheduled.init(PARAMS)
    for _ in range(3):
        _, state = scheduled.update(PARAMS, state, PARAMS)
    assert lrax.get_lr(state) == SCHEDULE(2)
    with pytest.raises(ValueError, match="computes this one from a schedule at every update"):
        lrax.set_lr(state, 0.25)
    with pytest.raises(ValueError, match="has no schedule to return to"):
        lrax.set_lr(injected.init(PARAMS), None)

    ours = optax.inject_hyperparams(adam)(
        rate=0.5
    )  # under another name, the state of scale_by_lr is what is found
    assert lrax.get_lr(lrax.set_lr(ours.init(PARAMS), 0.25)) == 0.25
    named = optax.inject_hyperparams(lambda learning_rate: adam(learning_rate))(learning_rate=0.5)
    _, state = named.update(PARAMS, lrax.set_lr(named.init(PARAMS), 0.25), PARAMS)
    assert lrax.get_lr(state) == 0.25


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.5),
        optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5)),
        optax.lbfgs(),
    ],
    ids=["inject_hyperparams", "backtracking", "lbfgs"],
)
def test_set_without_recompiling_in_states_of_optax(optimizer):
    traces = []
    bowl = lambda params: sum(jnp.sum(p**2) for p in jax.tree.leaves(params))

    @jax.jit
    def update(state):
        traces.append(None)
        value, grads = jax.value_and_grad(bowl)(PARAMS)
        return optimizer.update(grads, state, PARAMS, value=value, grad=grads, value_fn=bowl)[1]

    state = optimizer.init(PARAMS)
    assert lrax.get_lr(state) == (0.5 if hasattr(state, "hyperparams") else 1.0)
    state = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, leaf.dtype), state
    )  # Optax makes weak counters in the search
    update(state)
    held = lrax.set_lr(state, 0.25)
    assert lrax.get_lr(held) == 0.25
    update(held)
    assert len(traces) == 1


def test_lanes_are_states():
    optimizer = adam(lrax.constant(1.0))  # built once, outside
    rates = jnp.array([1e-3, 1e-2, 1e-1])
    lanes = jax.vmap(lambda _: optimizer.init(PARAMS))(rates)
    lanes = lrax.set_lr(lanes, rates)
    np.testing.assert_array_equal(lrax.get_lr(lanes), rates)
    for _ in range(2):
        updates, lanes = jax.vmap(optimizer.update, in_axes=(None, 0))(PARAMS, lanes)
    for lane, rate in enumerate(rates):
        state = adam(rate).init(PARAMS)
        for _ in range(2):
            alone, state = adam(rate).update(PARAMS, state)
        np.testing.assert_allclose(updates["w"][lane], alone["w"], rtol=1e-6)
    np.testing.assert_array_equal(lrax.get_lr(lrax.set_lr(lanes, 0.5)), [0.5] * 3)
    _, back = jax.vmap(optimizer.update, in_axes=(None, 0))(PARAMS, lrax.set_lr(lanes, None))
    np.testing.assert_array_equal(lrax.get_lr(back), [1.0] * 3)
    with pytest.raises(
        ValueError, match=r"`rate` must be a scalar or of the state's shape \(3,\), got \(2,\)"
    ):
        lrax.set_lr(lanes, rates[:2])


def test_state_is_stable_under_cond():
    optimizer = adam(SCHEDULE)
    state = optimizer.init(PARAMS)
    update = lambda state: optimizer.update(PARAMS, state, PARAMS)[1]
    hold = lambda state: lrax.set_lr(state, 0.25)
    for skipped, expected in ((True, 0.25), (False, 0.0)):
        branch = jax.jit(lambda skip, state: jax.lax.cond(skip, hold, update, state))
        assert lrax.get_lr(branch(skipped, state)) == expected


def test_set_lr_is_pure_jax():
    optimizer = adam(SCHEDULE)
    state = jax.jit(lambda state, rate: lrax.set_lr(state, rate))(optimizer.init(PARAMS), 0.25)
    assert lrax.get_lr(state) == 0.25
    slope = jax.grad(
        lambda rate: optimizer.update(PARAMS, lrax.set_lr(optimizer.init(PARAMS), rate))[0][
            "b"
        ].sum()
    )(0.1)
    assert float(slope) == pytest.approx(-3.0, rel=1e-3)


def test_protocol():
    optimizer = lrax.scale_by_lr(SCHEDULE)
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS, value=1.0, unknown="x")
    shapes = jax.eval_shape(optimizer.init, PARAMS)
    assert [leaf.shape for leaf in jax.tree.leaves(shapes)] == [(), (), ()]
    state = optimizer.init(PARAMS)
    mapped = optax.tree.map_params(optimizer, lambda leaf: leaf, state)
    assert jax.tree.structure(mapped) == jax.tree.structure(state)
    assert optax.tree.get(adam(SCHEDULE).init(PARAMS), "learning_rate") == 0.0
    saturated = state._replace(count=jnp.int32(2**31 - 1))
    assert optimizer.update(PARAMS, saturated)[1].count == 2**31 - 1


def test_it_is_one_rate():
    words = r"`learning_rate` must be a scalar, got one of shape \((2|1),\)\. For a rate per lane"
    for several in ([0.1, 0.2], np.ones(2), jnp.array([0.1, 0.2]), jnp.ones(1)):
        with pytest.raises(ValueError, match=words):
            lrax.scale_by_lr(several)
    with pytest.raises(ValueError, match=words):
        jax.jit(lambda rates: lrax.scale_by_lr(rates).init(PARAMS))(jnp.ones(2))

    one = adam(0.1).init(PARAMS)
    for schedule in (
        lrax.constant([0.1, 0.2]),
        SCHEDULE.replace(peak=np.ones(2)),
        lambda _: jnp.ones(2),
    ):
        optimizer = adam(schedule)  # building computes nothing, and cannot know
        for init in (optimizer.init, lambda params: jax.eval_shape(optimizer.init, params)):  # noqa: B023 (used at once)
            with pytest.raises(ValueError, match=words):
                init(PARAMS)
        with pytest.raises(ValueError, match=words):
            optimizer.update(PARAMS, one)

    lanes = jax.vmap(lambda rate: lrax.scale_by_lr(rate).init(PARAMS))(jnp.ones(2))
    with pytest.raises(ValueError, match=words):
        lrax.scale_by_lr(0.1).update(PARAMS, lanes)
    peaks = jnp.array([0.5, 0.25])
    lanes = jax.vmap(lambda schedule: adam(schedule).init(PARAMS))(lrax.constant(peaks))
    np.testing.assert_array_equal(lrax.get_lr(lanes), peaks)
    np.testing.assert_array_equal(lrax.get_lr(lrax.set_lr(lanes, peaks[::-1])), peaks[::-1])


def test_bad_rates_are_named():
    for bad, error in (
        (-0.1, ValueError),
        (np.nan, ValueError),
        ("fast", TypeError),
        (None, TypeError),
        (True, TypeError),
        (1j, TypeError),
        (jax.random.key(0), TypeError),
    ):
        with pytest.raises(error, match="`learning_rate` must be"):
            lrax.scale_by_lr(bad)
    with pytest.raises(TypeError, match="`flip_sign` must be a bool, got 'up'"):
        lrax.scale_by_lr(0.1, flip_sign="up")
    state = adam(0.1).init(PARAMS)
    with pytest.raises(ValueError, match="`rate` must be finite and non-negative, got -1"):
        lrax.set_lr(state, -1.0)
    with pytest.raises(TypeError, match="`rate` must be a real number"):
        lrax.set_lr(state, "fast")
    for ask in (lrax.get_lr, lambda state: lrax.set_lr(state, 0.1)):
        with pytest.raises(
            ValueError, match=r"`opt_state` must hold a learning rate, .* `lrax.scale_by_lr"
        ):
            ask(optax.adam(1e-3).init(PARAMS))


def test_a_state_with_a_rate_for_each_parameter_holds_no_single_rate():
    class Rates(NamedTuple):
        learning_rate: Any

    state = Rates({"w": jnp.float32(0.1), "b": jnp.float32(0.2)})
    with pytest.raises(ValueError, match="must hold a learning rate"):
        lrax.get_lr(state)
    assert lrax.get_lr((state, *adam(0.3).init(PARAMS))) == jnp.float32(0.3)


# The scale of a `reduce_on_plateau` in an enclosing chain multiplies the rate.

REDUCE = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=0.1)
CHAINS = {
    "before": optax.chain(REDUCE, lrax.scale_by_lr(0.1)),
    "after": optax.chain(adam(0.1), REDUCE),
    "beside": optax.chain(optax.scale_by_adam(), REDUCE, lrax.scale_by_lr(0.1)),
    "in a chain of its own": optax.chain(adam(0.1), optax.chain(optax.clip(1e9), REDUCE)),
    "twice": optax.chain(REDUCE, optax.chain(lrax.scale_by_lr(0.1), REDUCE)),
    "named": optax.named_chain(
        ("adam", optax.scale_by_adam()), ("lr", lrax.scale_by_lr(0.1)), ("plateau", REDUCE)
    ),
    "around wrappers": optax.chain(
        optax.apply_if_finite(optax.MultiSteps(adam(0.1), 1), 3), REDUCE
    ),
    "inside of wrappers": optax.apply_if_finite(optax.chain(adam(0.1), REDUCE), 3),
    "injected": optax.chain(optax.inject_hyperparams(optax.adam)(learning_rate=0.1), REDUCE),
}


def step_size(optimizer, state, value=1.0):
    """The size of an update of ones, which is the rate, under Adam too; and the state after it."""
    updates, state = optimizer.update(PARAMS, state, PARAMS, value=jnp.float32(value))
    return jnp.abs(updates["b"]).max(), state


@pytest.mark.parametrize("name", CHAINS)
def test_get_lr_takes_the_scale_of_reduce_on_plateau_in(name):
    optimizer = CHAINS[name]
    step = jax.jit(lambda state: step_size(optimizer, state))
    state = optimizer.init(PARAMS)
    sizes = set()
    for _ in range(4):
        size, state = step(state)
        size = float(size)
        assert float(lrax.get_lr(state)) == pytest.approx(size, rel=1e-3)
        sizes.add(round(size, 3))
    assert len(sizes) > 2
    held = lrax.set_lr(state, 0.25)
    assert lrax.get_lr(held) == 0.25
    size, _ = step_size(optimizer, held, value=0.0)  # a better value: no reduction
    assert float(size) == pytest.approx(0.25, rel=1e-3)


def test_a_rate_set_beside_a_scale_is_read_up_to_rounding():
    optimizer = optax.chain(
        optax.contrib.reduce_on_plateau(factor=0.3, patience=1), lrax.scale_by_lr(0.1)
    )
    _, state = optimizer.update(PARAMS, optimizer.init(PARAMS), value=1.0)
    _, state = optimizer.update(PARAMS, state, value=1.0)
    rates = jnp.asarray(np.random.default_rng(0).uniform(1e-5, 1, 100), jnp.float32)
    read = jax.vmap(lambda rate: lrax.get_lr(lrax.set_lr(state, rate)))(rates)
    np.testing.assert_allclose(read, rates, rtol=1.2e-7)
    nothing = optax.tree.set(state, scale=jnp.float32(0))
    assert lrax.get_lr(lrax.set_lr(nothing, 0.5)) == 0.0


def test_the_scale_of_another_group_or_optimizer_is_left_out():
    halved = jnp.float32(0.5)
    with_plateau = optax.chain(REDUCE, lrax.scale_by_lr(0.2))
    groups = optax.partition({"body": adam(0.1), "head": with_plateau}, LABELS)
    state = optax.tree.set(groups.init(PARAMS), scale=halved)
    rates = {group: float(rate) for group, rate in lrax.get_lr(state).items()}
    assert rates == {"body": pytest.approx(0.1), "head": pytest.approx(0.1)}
    changed = lrax.set_lr(state, {"head": 0.5})
    assert lrax.get_lr(changed)["head"] == 0.5
    assert float(lrax.get_lr(changed)["body"]) == pytest.approx(0.1)

    around = optax.chain(groups, REDUCE)
    state = optax.tree.set(around.init(PARAMS), scale=halved)
    rates = {group: float(rate) for group, rate in lrax.get_lr(state).items()}
    assert rates == {"body": pytest.approx(0.05), "head": pytest.approx(0.05)}

    states = {"actor": adam(0.1).init(PARAMS), "critic": with_plateau.init(PARAMS)}
    rates = lrax.get_lr(optax.tree.set(states, scale=halved))
    assert {group: float(rate) for group, rate in rates.items()} == {
        "actor": pytest.approx(0.1),
        "critic": pytest.approx(0.1),
    }
    # Of a part of the parameters, no rate of all can tell.
    masked = optax.chain(lrax.scale_by_lr(0.1), optax.masked(REDUCE, {"w": True, "b": False}))
    state = optax.tree.set(masked.init(PARAMS), scale=halved)
    assert float(lrax.get_lr(state)) == pytest.approx(0.1)


def test_lanes_with_scales():
    optimizer = optax.chain(REDUCE, lrax.scale_by_lr(0.1))
    lanes = jax.vmap(lambda _: optimizer.init(PARAMS))(jnp.arange(3))
    scales = jnp.array([1.0, 0.5, 0.25])
    lanes = optax.tree.set(lanes, scale=scales)
    np.testing.assert_allclose(lrax.get_lr(lanes), 0.1 * scales, rtol=1e-6)
    np.testing.assert_array_equal(lrax.get_lr(lrax.set_lr(lanes, scales[::-1])), scales[::-1])


# States in other clothes: Flax NNX and Orbax.

RULE = 0.1 * lrax.controllers.plateau(factor=0.5, patience=0)


def nnx_optimizer(rate):
    from flax import nnx

    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    return nnx, model, nnx.Optimizer(model, adam(rate), wrt=nnx.Param)


@pytest.mark.parametrize("rate", [0.1, SCHEDULE + 0.1, RULE], ids=["number", "schedule", "rule"])
def test_flax_nnx_optimizer(rate):
    nnx, model, optimizer = nnx_optimizer(rate)
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    step = lambda: optimizer.update(model, grads, value=jnp.float32(1))
    assert float(lrax.get_lr(optimizer.opt_state)) == pytest.approx(0.1)

    optimizer.opt_state = lrax.set_lr(optimizer.opt_state, 0.25)
    step()
    assert lrax.get_lr(optimizer.opt_state) == lrax.get_lr(nnx.state(optimizer)) == 0.25
    before = model.bias[...]
    nnx.update(optimizer, lrax.set_lr(nnx.state(optimizer), 0.5))
    step()
    assert lrax.get_lr(optimizer.opt_state) == 0.5
    np.testing.assert_allclose(before - model.bias[...], [0.5] * 3, rtol=1e-3)

    optimizer.opt_state = lrax.set_lr(optimizer.opt_state, None)
    step()
    assert float(lrax.get_lr(optimizer.opt_state)) != 0.5
    assert float(lrax.get_lr(nnx.to_pure_dict(nnx.state(optimizer)))) != 0.5


@pytest.mark.parametrize("labels", [("body", "head"), (0, 1)], ids=repr)
def test_states_that_became_dicts(labels, tmp_path):
    import orbax.checkpoint as ocp

    body, head = labels
    optimizer = optax.chain(
        optax.partition({body: adam(0.1), head: lrax.scale_by_lr(RULE)}, {"w": body, "b": head}),
        REDUCE,
    )
    state = optax.tree.set(optimizer.init(PARAMS), scale=jnp.float32(0.5))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state")
    assert isinstance(restored, list)
    # Orbax has strings for keys.
    rates = {str(group): float(rate) for group, rate in lrax.get_lr(state).items()}
    assert {str(group): float(rate) for group, rate in lrax.get_lr(restored).items()} == rates
    assert rates[str(body)] == pytest.approx(0.05)

    name = next(group for group in lrax.get_lr(restored) if str(group) == str(head))
    changed = lrax.set_lr(restored, {name: 0.25})
    assert lrax.get_lr(changed)[name] == 0.25
    assert jax.tree.structure(changed) == jax.tree.structure(restored)
    # Put back into the optimizer's own tree, it drives the updates.
    order = jax.tree.structure(state)
    target = order.unflatten(jax.tree.leaves(in_order(state, changed)))
    updates, _ = optimizer.update(PARAMS, target, PARAMS, value=jnp.float32(0))
    np.testing.assert_allclose(updates["b"], -0.25 * np.ones(3), rtol=1e-6)


def in_order(state, restored):
    """A restored state's arrays in the tree of the optimizer's own state."""
    if hasattr(state, "_fields"):
        return [in_order(getattr(state, name), restored.get(name)) for name in state._fields]
    if isinstance(state, (tuple, list)):
        return [in_order(*pair) for pair in zip(state, restored or (), strict=True)]
    if isinstance(state, dict):
        return {
            key: in_order(value, restored.get(str(key), restored.get(key)))
            for key, value in state.items()
        }
    return restored


def test_parameters_called_learning_rate_are_no_rates():
    params = {"learning_rate": jnp.ones(2), "count": jnp.ones(2)}
    state = adam(0.5).init(params)
    assert lrax.get_lr(state) == 0.5
    assert lrax.get_lr(optax.tree.map_params(adam(0.5), lambda leaf: leaf, state)) == 0.5


# `scale_by_multipliers`


def test_multipliers_scale_each_parameter():
    optimizer = lrax.scale_by_multipliers({"w": 0.5, "b": jnp.array([1.0, 0.0, 2.0])})
    state = optimizer.init(PARAMS)
    assert state == optax.EmptyState()
    updates, state = optimizer.update(PARAMS, state, PARAMS, value=1.0)
    np.testing.assert_array_equal(updates["w"], 0.5 * PARAMS["w"])
    np.testing.assert_array_equal(updates["b"], [1.0, 0.0, 2.0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize(
    "multipliers",
    [0.5, np.float64(0.5), {"body": 0.5, "head": {"w": 0.5}}, lambda _: {"body": 0.5, "head": 0.5}],
    ids=["number", "float64", "prefix", "function"],
)
def test_multipliers_may_be_a_prefix_and_keep_dtypes(multipliers, dtype):
    params = {
        "body": {"w": jnp.ones(2, dtype), "b": jnp.ones((), dtype)},
        "head": {"w": jnp.ones(3, dtype)},
    }
    optimizer = lrax.scale_by_multipliers(multipliers)
    state = jax.eval_shape(optimizer.init, params)
    for given in (params, None):
        updates, _ = jax.jit(optimizer.update)(params, state, given)
        jax.tree.map(
            lambda leaf: np.testing.assert_array_equal(leaf, np.full(leaf.shape, 0.5)), updates
        )
        assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}


def test_a_function_of_multipliers_is_given_params_or_else_updates():
    seen = []

    def multipliers(tree):
        seen.append(float(tree["b"][0]))
        return jax.tree.map(lambda _: 0.5, tree)

    optimizer = lrax.scale_by_multipliers(multipliers)
    state = optimizer.init(PARAMS)
    twice = jax.tree.map(lambda leaf: 2 * leaf, PARAMS)
    optimizer.update(twice, state, PARAMS)
    optimizer.update(twice, state)
    assert seen == [1.0, 1.0, 2.0]


def test_multiplier_zero_gives_zeros():
    bad = {"w": jnp.full((2, 3), jnp.nan), "b": jnp.array([jnp.inf, jnp.nan, 1.0])}
    for zero in (0.0, {"w": 0.0, "b": np.zeros(3)}):
        updates, _ = lrax.scale_by_multipliers(zero).update(bad, optax.EmptyState())
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(updates))


def test_multipliers_are_swept_and_masked():
    def step(head):
        optimizer = optax.chain(
            lrax.scale_by_multipliers({"w": 1.0, "b": head}), lrax.scale_by_lr(0.1)
        )
        return optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)[0]

    heads = jnp.array([0.0, 0.5, 2.0])
    updates = jax.jit(jax.vmap(step))(heads)
    np.testing.assert_allclose(updates["b"][:, 0], -0.1 * heads, rtol=1e-6)
    masked = optax.masked(lrax.scale_by_multipliers({"w": 0.0, "b": 0.5}), {"w": False, "b": True})
    updates, _ = masked.update(PARAMS, masked.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["w"], PARAMS["w"])
    np.testing.assert_array_equal(updates["b"], 0.5 * PARAMS["b"])


def test_bad_multipliers_are_named():
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(
            ValueError, match=r"`multipliers\['w'\]` must be finite and non-negative"
        ):
            lrax.scale_by_multipliers({"w": bad, "b": 1.0})
    with pytest.raises(TypeError, match=r"`multipliers\['w'\]` must be a real number"):
        lrax.scale_by_multipliers({"w": "fast"})
    for bad in (None, {}, {"w": 1.0}, {"w": 1.0, "c": 1.0}, {"w": {"x": 1.0}, "b": 1.0}):
        with pytest.raises(ValueError, match="`multipliers` must have the structure of the param"):
            lrax.scale_by_multipliers(bad).init(PARAMS)
    with pytest.raises(ValueError, match="`multipliers` must broadcast to their parameters, got a"):
        lrax.scale_by_multipliers({"w": np.ones(2), "b": 1.0}).init(PARAMS)
