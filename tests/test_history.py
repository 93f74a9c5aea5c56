"""Histories of monitors in an optimizer's state, for loops written by hand."""

import functools
import pickle

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax
from lrax.training.run import split

KEY = jax.random.key(0)
PARAMS = {"w": jnp.array([3.0, 0.0]), "b": jnp.float32(4.0)}
GRADS = {"w": jnp.array([0.0, 5.0]), "b": jnp.float32(12.0)}
LABELS = {"w": "body", "b": "head"}


def adam(rate):
    return optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(rate))


def index(step):
    return step.index


def loss(step):
    return step.loss


def target(step):
    return step.batch["y"].mean()


def noisy(step):
    return jax.random.normal(step.key)


def median(step):
    """A probe of the state, by group: `{name: scalar}`."""
    return lrax.probes.effective_rates(step.opt_state, group=lambda path: path).median


READY = {name: getattr(lrax.monitors, name) for name in lrax.monitors.__all__}
GROUPED = {
    f"{name}_by_layer": functools.partial(monitor, group=lambda path: path.split("/")[0])
    for name, monitor in READY.items()
    if name != "learning_rate"
}
# Every monitor that needs no more than what each `update` is given.
ALL = {**READY, **GROUPED, "median": median, "index": index, "loss": loss}


def batch_of(step, key):
    del key
    rows = (8 * step + jnp.arange(8)) % len(problems.X)
    return {"x": jnp.asarray(problems.X)[rows], "y": jnp.asarray(problems.Y)[rows]}


TASK = problems.regression(batch=batch_of)


def by_hand(optimizer, steps, like=()):
    """The state after a loop written by hand, in one scan, of the run with `KEY`."""
    keys = split(KEY)
    params = TASK.init(keys.init)

    def update(carry, step):
        params, state = carry
        batch, key = batch_of(step, None), jax.random.fold_in(keys.loss, step)
        value, grads = jax.value_and_grad(problems.squared_error)(params, batch)
        more = {name: {"batch": batch, "key": key}[name] for name in like}
        updates, state = optimizer.update(grads, state, params, value=value, **more)
        return (optax.apply_updates(params, updates), state), None

    carry = params, optimizer.init(params)
    return jax.jit(lambda carry: jax.lax.scan(update, carry, jnp.arange(steps)))(carry)[0][1]


# What is recorded.


@pytest.mark.parametrize("every", [1, 3])
def test_a_loop_by_hand_records_what_a_run_does(every):
    schedule = lrax.linear(0.1, 0.01, 20)
    like = {"batch": batch_of(0, None), "key": KEY}
    monitors = {**ALL, "target": target, "noisy": noisy}
    optimizer = lrax.recorded(adam(schedule), monitors, record_every=every, like=like)
    history = lrax.history(by_hand(optimizer, 20, like))
    train = lrax.train(TASK, adam, steps=20, monitors=monitors, record_every=every)
    expected = jax.jit(lambda key: train({"rate": schedule}, key).monitors)(KEY)
    np.testing.assert_array_equal(history.at, np.arange(0, 20, every))
    assert list(history.monitors) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(
            history.monitors[name], values, rtol=2e-5, atol=1e-6, err_msg=name
        )


def test_inside_of_a_run_it_records_the_same_bits():
    """The wrapped optimizer in `lrax.train`, which calls the same monitors on the same steps."""
    optimizer = lambda rate: lrax.recorded(adam(rate), ALL, record_every=3)
    train = lrax.train(TASK, optimizer, steps=20, monitors=ALL, record_every=3)
    trained = jax.jit(train)(0.1, KEY)
    history = lrax.history(trained.opt_state)
    assert list(history.monitors) == sorted(trained.monitors)
    for name, values in trained.monitors.items():
        np.testing.assert_array_equal(history.monitors[name], values, err_msg=name)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_updates_are_those_of_the_optimizer(dtype):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)
    plain = adam(0.1)
    watched = lrax.recorded(plain, READY, record_every=2)
    states = plain.init(params), watched.init(params)
    for _ in range(4):
        (one, first), (other, second) = (
            jax.jit(optimizer.update)(params, state, params)
            for optimizer, state in zip((plain, watched), states, strict=True)
        )
        jax.tree.map(np.testing.assert_array_equal, one, other)
        jax.tree.map(np.testing.assert_array_equal, first, second.inner_state)
        states = first, second
    assert lrax.get_lr(states[1]) == lrax.get_lr(states[0])
    assert {ring.dtype for ring in states[1].records.values()} == {np.dtype(np.float32)}


def test_a_full_ring_replaces_the_oldest():
    optimizer = lrax.recorded(adam(0.1), [index], record_every=3, length=4)
    for steps, expected in ((0, []), (1, [0]), (3, [0]), (4, [0, 3]), (20, [9, 12, 15, 18])):
        history = lrax.history(by_hand(optimizer, steps))
        np.testing.assert_array_equal(history.at, expected)
        np.testing.assert_array_equal(history.monitors["index"], expected)


def test_a_run_goes_on_with_another_cadence():
    state = by_hand(lrax.recorded(adam(0.1), [index], record_every=4, length=5), 10)
    often = lrax.recorded(adam(0.1), [index], length=5)
    for _ in range(3):
        _, state = often.update(TASK.init(KEY), state, TASK.init(KEY))
    np.testing.assert_array_equal(lrax.history(state).at, [4, 8, 10, 11, 12])


def test_a_loss_that_is_not_given_is_not_known():
    optimizer = lrax.recorded(optax.sgd(0.1), [loss])
    state = optimizer.init(PARAMS)
    _, state = optimizer.update(GRADS, state, PARAMS)
    _, state = optimizer.update(GRADS, state, PARAMS, value=jnp.bfloat16(0.5))
    np.testing.assert_array_equal(lrax.history(state).monitors["loss"], [np.nan, 0.5])


def test_scalars_of_the_loop_go_through_aux(x64):
    accuracy = lambda step: step.aux["accuracy"]
    with x64:
        optimizer = lrax.recorded(
            optax.sgd(0.1), {"accuracy": accuracy}, like={"aux": {"accuracy": 0.0}}
        )
        state = optimizer.init(PARAMS)
        _, state = optimizer.update(GRADS, state, PARAMS, aux={"accuracy": 1 / 3})
        (found,) = lrax.history(state).monitors["accuracy"]
    assert found == 1 / 3


# Where it is found.

RECORDED = lrax.recorded(adam(0.1), [index, lrax.monitors.grad_norm], length=8)
NESTINGS = {
    "bare": RECORDED,
    "chain": optax.chain(optax.clip(100.0), RECORDED),
    "chain of chains": optax.chain(optax.chain(optax.identity(), RECORDED), optax.scale(2.0)),
    "named_chain": optax.named_chain(("clip", optax.clip(100.0)), ("adam", RECORDED)),
    "masked": optax.masked(RECORDED, {"w": True, "b": True}),
    "partition": optax.partition({"all": RECORDED, "none": optax.set_to_zero()}, lambda _: "all"),
    "MultiSteps": optax.MultiSteps(RECORDED, 1),
    "apply_if_finite": optax.apply_if_finite(RECORDED, 3),
    "inject_hyperparams": optax.inject_hyperparams(
        lambda rate: lrax.recorded(adam(rate), [index, lrax.monitors.grad_norm], length=8)
    )(rate=0.1),
    "around": lrax.recorded(
        optax.apply_if_finite(optax.inject_hyperparams(optax.adam)(learning_rate=0.1), 3),
        [index, lrax.monitors.grad_norm],
        length=8,
    ),
}


def assert_recorded(state):
    history = lrax.history(state)
    np.testing.assert_array_equal(history.at, [0, 1, 2])
    np.testing.assert_array_equal(history.monitors["index"], [0, 1, 2])
    np.testing.assert_allclose(history.monitors["grad_norm"], [13.0] * 3, rtol=1e-6)


@pytest.mark.parametrize("name", NESTINGS)
def test_it_is_found_under_any_nesting_and_compiles_once(name):
    optimizer, traces = NESTINGS[name], []

    @jax.jit
    def update(state):
        traces.append(None)
        return optimizer.update(GRADS, state, PARAMS, value=1.0)[1]

    state = optimizer.init(PARAMS)
    described = lambda state: [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]
    before = described(state)
    for _ in range(3):
        state = update(state)
    assert_recorded(state)
    assert_recorded(pickle.loads(pickle.dumps(jax.device_get(state))))
    assert described(state) == before
    assert len(traces) == 1
    assert "callback" not in str(jax.make_jaxpr(update)(state))


@pytest.mark.parametrize("name", NESTINGS)
def test_checkpoints_hold_it(name, tmp_path):
    import orbax.checkpoint as ocp
    from flax import serialization

    optimizer = NESTINGS[name]
    blank = state = optimizer.init(PARAMS)
    for _ in range(3):
        state = optimizer.update(GRADS, state, PARAMS)[1]
    if name != "named_chain":  # whose `OrderedDict` Flax does not write
        assert_recorded(serialization.from_bytes(blank, serialization.to_bytes(state)))
    assert_recorded(serialization.to_state_dict(state))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        assert_recorded(checkpointer.restore(tmp_path / "state"))
        whole = checkpointer.restore(tmp_path / "state", blank)
    assert_recorded(whole)
    jax.tree.map(np.testing.assert_array_equal, whole, state)


def test_flax_linen_train_state():
    from flax.training.train_state import TrainState

    state = TrainState.create(apply_fn=lambda: None, params=PARAMS, tx=RECORDED)
    for _ in range(3):
        state = state.apply_gradients(grads=GRADS)
    assert_recorded(state)
    assert_recorded(state.opt_state)


def test_flax_nnx_optimizer():
    from flax import nnx

    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    by_part = functools.partial(lrax.monitors.grad_norm, group=lambda path: path.split("/")[0])
    monitors = {"grad_norm": by_part, "loss": loss}
    optimizer = nnx.Optimizer(model, lrax.recorded(adam(0.1), monitors), wrt=nnx.Param)
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    for _ in range(3):
        optimizer.update(model, grads, value=jnp.float32(0.5))
    for state in (
        optimizer.opt_state,
        nnx.state(optimizer),
        nnx.to_pure_dict(nnx.state(optimizer)),
    ):
        history = lrax.history(state)
        assert sorted(history.monitors) == ["grad_norm/bias", "grad_norm/kernel", "loss"]
        np.testing.assert_array_equal(history.at, [0, 1, 2])
        np.testing.assert_array_equal(history.monitors["loss"], [0.5] * 3)


def test_groups_keep_their_own():
    often = lrax.recorded(adam(0.1), [index, lrax.monitors.grad_norm])
    seldom = lrax.recorded(optax.sgd(0.1), [index, lrax.monitors.update_norm], record_every=2)
    optimizer = optax.partition({"body": often, "head": seldom}, LABELS)
    state = optimizer.init(PARAMS)
    for _ in range(3):
        state = jax.jit(optimizer.update)(GRADS, state, PARAMS)[1]
    history = lrax.history(state)
    np.testing.assert_array_equal(history.at, [0, 1, 2])
    expected = {
        "body/index": [0, 1, 2],
        "grad_norm": [5.0] * 3,
        "head/index": [0, np.nan, 2],
        "update_norm": [1.2, np.nan, 1.2],
    }
    assert sorted(history.monitors) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(history.monitors[name], values, rtol=1e-6, err_msg=name)


def test_accumulation_and_skipped_updates_count_what_reaches_it():
    accumulated = optax.MultiSteps(RECORDED, 2)
    skipped = optax.apply_if_finite(RECORDED, 10)
    states = accumulated.init(PARAMS), skipped.init(PARAMS)
    for step in range(6):
        grads = jax.tree.map(lambda leaf: leaf * (step + 1), GRADS)  # noqa: B023 (used at once)
        broken = jax.tree.map(lambda leaf: leaf / (step % 2), GRADS)  # noqa: B023
        states = (
            accumulated.update(grads, states[0], PARAMS)[1],
            skipped.update(broken, states[1], PARAMS)[1],
        )
    first, second = map(lrax.history, states)
    np.testing.assert_allclose(first.monitors["grad_norm"], [13 * 1.5, 13 * 3.5, 13 * 5.5], 1e-6)
    np.testing.assert_allclose(second.monitors["grad_norm"], [13.0] * 3, 1e-6)


def test_a_history_of_rates_is_no_rate():
    """`get_lr`, `set_lr` and `optax.tree.set` find the optimizer's rate, and nothing else."""
    injected = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)
    search = {name: index for name in ("value", "grad", "count", "held", "mu", "nu")}
    optimizer = lrax.recorded(injected, {**search, "learning_rate": READY["learning_rate"]})
    state = optimizer.init(PARAMS)
    for rate, change in (
        (0.25, lambda state: lrax.set_lr(state, 0.25)),
        (0.125, lambda state: optax.tree.set(state, learning_rate=jnp.float32(0.125))),
    ):
        state = change(state)
        assert lrax.get_lr(state) == optax.tree.get(state, "learning_rate") == rate
        _, state = optimizer.update(GRADS, state, PARAMS)
    np.testing.assert_array_equal(lrax.history(state).monitors["learning_rate"], [0.25, 0.125])


def test_parameters_in_the_state_are_found_by_optax():
    """`optax.tree.map_params`, from which shardings are made, initialises with a placeholder."""
    monitors = {**READY, **GROUPED, "median": median}
    optimizer = lrax.recorded(adam(0.1), monitors)
    _, state = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)
    kinds = optax.tree.map_params(
        optimizer, lambda leaf: "param", state, transform_non_params=lambda leaf: "other"
    )
    assert kinds.inner_state[0].mu == {"w": "param", "b": "param"}
    assert kinds.records == kinds.at == "other"
    same = optax.tree.map_params(optimizer, lambda leaf: leaf, state)
    jax.tree.map(np.testing.assert_array_equal, same, state)


def test_a_group_without_parameters_records_nothing():
    optimizer = optax.partition({"body": RECORDED, "head": RECORDED}, lambda _: "body")
    state = optimizer.init(PARAMS)
    for _ in range(3):
        state = optimizer.update(GRADS, state, PARAMS)[1]
    assert_recorded(state)
    made = {
        group: int(optax.tree.get(inner, "made")) for group, inner in state.inner_states.items()
    }
    assert made == {"body": 3, "head": 0}


# Lanes.


def roots(jaxpr, inside=False):
    """For each square root of a program, as of a norm: whether it stands behind a branch."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "sqrt":
            yield inside
        for value in jax.tree.leaves(list(eqn.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from roots(inner, inside or eqn.primitive.name == "cond")


WATCHED = lrax.recorded(optax.sgd(0.1), [lrax.monitors.grad_norm, index], record_every=3)
LANES = jnp.array([1.0, 2.0, 4.0])


def scaled(factor):
    return jax.tree.map(lambda leaf: factor * leaf, GRADS)


def states_of_lanes():
    return jax.vmap(lambda _: WATCHED.init(PARAMS))(LANES)


def update_of_a_lane(state, factor):
    return WATCHED.update(scaled(factor), state, PARAMS)[1]


@pytest.mark.parametrize("axes", [1, 2])
def test_lanes_are_states_and_stay_behind_one_branch(axes):
    state = states_of_lanes()
    update = jax.vmap(update_of_a_lane)
    factors = LANES
    for _ in range(axes - 1):
        state = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
        update = jax.vmap(update)
        factors = jnp.stack([factors, 10 * factors])
    assert list(roots(jax.make_jaxpr(update)(state, factors).jaxpr)) == [True]
    for _ in range(7):
        state = jax.jit(update)(state, factors)
    history = lrax.history(state)
    np.testing.assert_array_equal(history.at, [0, 3, 6])
    expected = 13.0 * np.asarray(factors)[..., None] * np.ones(3)
    np.testing.assert_allclose(history.monitors["grad_norm"], expected, rtol=1e-6)
    assert history.monitors["index"].shape == (*factors.shape, 3)


def test_lanes_that_count_apart():
    optimizer = optax.apply_if_finite(WATCHED, 100)
    state = jax.vmap(lambda _: optimizer.init(PARAMS))(LANES)
    update = jax.jit(
        jax.vmap(lambda state, factor: optimizer.update(scaled(factor), state, PARAMS)[1])
    )
    for step in range(7):
        # The last lane skips each second update, so it counts to 4.
        state = update(state, jnp.array([1.0, 2.0, np.inf if step % 2 else 1.0]))
    history = lrax.history(state)
    np.testing.assert_array_equal(history.at, [0, 3, 6])
    nan = np.nan
    expected = [[13.0, 13.0, 13.0], [26.0, 26.0, 26.0], [13.0, 13.0, nan]]
    np.testing.assert_allclose(history.monitors["grad_norm"], expected, rtol=1e-6)


def test_it_is_differentiated_through():
    """The gradient of a rate through updates is that without a history, under `vmap` too."""

    def end(optimizer):
        def of(rate):
            params, state = PARAMS, optimizer(rate).init(PARAMS)
            for _ in range(3):
                updates, state = optimizer(rate).update(params, state, params)
                params = optax.apply_updates(params, updates)
            return params["b"]

        return of

    watched = lambda rate: lrax.recorded(optax.sgd(rate), READY_NORMS, record_every=2)
    for transform in (jax.grad, lambda of: lambda rate: jax.vmap(jax.grad(of))(rate[None])):
        np.testing.assert_allclose(
            transform(end(watched))(jnp.float32(0.1)),
            transform(end(optax.sgd))(jnp.float32(0.1)),
            rtol=1e-6,
        )


READY_NORMS = [lrax.monitors.grad_norm, lrax.monitors.update_ratio]


def test_lanes_of_a_sweep():
    monitors = [lrax.monitors.update_norm]
    optimizer = lambda rate: lrax.recorded(adam(rate), monitors, record_every=2, length=5)
    call = dict(steps=12, seeds=2, keep="state", monitors=monitors, record_every=2)
    result = lrax.sweep(TASK, optimizer, [0.01, 0.1, 0.3], **call)
    best = lrax.history(result.best.opt_state)
    np.testing.assert_array_equal(best.at, [2, 4, 6, 8, 10])
    of_seeds = result.monitors["update_norm"][result.ranking[0], :, 1:]
    assert any(np.allclose(best.monitors["update_norm"], row, rtol=1e-5) for row in of_seeds)


def test_a_state_can_be_donated():
    update = jax.jit(lambda state: RECORDED.update(GRADS, state, PARAMS)[1], donate_argnums=0)
    for state in (RECORDED.init(PARAMS), jax.jit(RECORDED.init)(PARAMS)):
        for _ in range(3):
            state = update(state)
        assert_recorded(state)


# What Optax keeps.


def test_snapshots_of_optax_are_read_by_the_same_call():
    chain = optax.chain(
        optax.snapshot("before", optax.tree.norm),
        optax.clip_by_global_norm(1.0),
        optax.snapshot("after", lambda updates: {"norm": optax.tree.norm(updates)}),
        optax.sgd(0.5),
    )
    _, state = chain.update(GRADS, chain.init(PARAMS), PARAMS)
    found = lrax.history(state)
    assert (list(found.at), found.monitors) == ([], {})
    assert found.snapshots["before"] == 13.0
    assert found.snapshots["after"] == {"norm": pytest.approx(1.0)}
    assert repr(found) == "History(snapshots of before, after)"

    before = lambda step: optax.tree.get(step.opt_state, "before")
    watched = lrax.recorded(chain, {"before": before}, length=2)
    state = watched.init(PARAMS)
    for factor in (1.0, 2.0, 3.0):
        _, state = watched.update(scaled(factor), state, PARAMS)
    np.testing.assert_allclose(lrax.history(state).monitors["before"], [26.0, 39.0])
    assert lrax.history(state).snapshots["before"] == 39.0


@pytest.mark.skipif(not hasattr(optax, "monitor"), reason="new in Optax 0.2.7")
def test_monitors_of_optax_are_read_by_the_same_call():
    measures = {
        "norm": optax.tree.norm,
        "clipped": optax.measure_with_ema(lambda grads: optax.tree.norm(grads) > 1, decay=0.9),
    }
    optimizer = optax.chain(optax.monitor(measures), optax.sgd(0.5))
    state = optimizer.init(PARAMS)
    assert lrax.history(state).snapshots == {}
    for _ in range(2):
        _, state = optimizer.update(GRADS, state, PARAMS)
    found = lrax.history(state).snapshots
    assert found == {"norm": 13.0, "clipped": pytest.approx(1.0)}
    # As the docstring of `recorded` says.
    with pytest.raises(TypeError, match="carry"):
        jax.lax.scan(
            lambda state, _: optimizer.update(GRADS, state), optimizer.init(PARAMS), None, 2
        )


def test_a_snapshot_in_several_groups_goes_by_their_labels():
    groups = {
        name: optax.chain(optax.snapshot("norm", optax.tree.norm), optax.sgd(0.1))
        for name in ("body", "head")
    }
    optimizer = optax.partition(groups, LABELS)
    _, state = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)
    assert lrax.history(state).snapshots == {"body/norm": 5.0, "head/norm": 12.0}


def test_parameters_called_measurement_are_no_snapshot():
    params = {"measurement": PARAMS}
    state = lrax.recorded(adam(0.1), [index]).init(params)
    assert lrax.history(state).snapshots == {}


# Tables and pictures.


def test_tables_and_pictures():
    pandas = pytest.importorskip("pandas")
    alone = lrax.history(by_hand(lrax.recorded(adam(0.1), [*READY.values(), loss]), 40))
    frame = alone.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame) == ["step", "grad_norm", "learning_rate", "loss", *sorted(READY)[2:]]
    np.testing.assert_array_equal(frame["step"], np.arange(40))
    assert repr(alone).startswith("History(40 records at the updates 0 to 39: grad_norm, ")
    assert not lrax.diagnose(frame).findings, "the doctor takes it"
    figure = alone.plot()
    assert len(figure.axes) == len(alone.monitors)
    (line,) = alone.plot("loss").axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), alone.at)
    np.testing.assert_array_equal(line.get_ydata(), alone.monitors["loss"])
    html = alone._repr_html_()
    assert "<td>learning_rate</td><td>0.1</td><td>0.1</td>" in html
    assert "<img" in html


def test_a_table_of_lanes_is_long():
    pytest.importorskip("pandas")
    state = states_of_lanes()
    for _ in range(4):
        state = jax.vmap(update_of_a_lane)(state, LANES)
    history = lrax.history(state)
    frame = history.to_pandas()
    assert list(frame) == ["lane", "step", "grad_norm", "index"]
    assert len(frame) == 3 * 2
    last = frame[(frame.lane == 2) & (frame.step == 3)]
    assert float(last.grad_norm.iloc[0]) == 4 * 13.0
    assert repr(history) == "History(3 lanes, 2 records at the updates 0 to 3: grad_norm, index)"
    assert len(history.plot("grad_norm").axes[0].lines) == 3
    lanes = jax.tree.map(lambda leaf: leaf[None], state)
    assert list(lrax.history(lanes).to_pandas())[:2] == ["lane_0", "lane_1"]


def test_entries_of_a_dict_have_a_panel_each():
    by_name = functools.partial(lrax.monitors.grad_norm, group=lambda path: path)
    optimizer = lrax.recorded(optax.sgd(0.1), {"norm": by_name, "normal": index})
    _, state = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)
    history = lrax.history(state)
    assert [axes.get_title() for axes in history.plot("norm").axes] == ["norm/b", "norm/w"]
    with pytest.raises(ValueError, match=r"`name` must be one of \['norm/b', .* got 'loss'"):
        history.plot("loss")
    empty = lrax.history(optax.snapshot("one", optax.tree.norm).init(PARAMS))
    with pytest.raises(ValueError, match="the history has no monitors"):
        empty.plot()
    assert empty.to_pandas().empty
    assert "<img" not in empty._repr_html_()
    assert "<td>one</td><td>5</td>" in empty._repr_html_()


def test_a_history_before_the_first_update_is_empty():
    history = lrax.history(RECORDED.init(PARAMS))
    assert repr(history) == "History(0 records: grad_norm, index)"
    assert history.plot().axes[0].lines[0].get_xdata().size == 0
    assert "<td>index</td><td>-</td><td>-</td>" in history._repr_html_()


# Bad input.


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"optimizer": optax.adam}, TypeError, "`optimizer` must be an optax.GradientTransf"),
        ({"monitors": []}, ValueError, "`monitors` must be at least one"),
        ({"monitors": "grad_norm"}, TypeError, "`monitors` must be a list of functions"),
        ({"monitors": [index, index]}, ValueError, "`monitors` must have different names"),
        ({"record_every": 0}, ValueError, "`record_every` must be at least 1, got 0"),
        ({"length": 0}, ValueError, "`length` must be at least 1, got 0"),
        ({"like": {"value": 0.0}}, ValueError, r"`like` must name some of \['key', 'batch'"),
        ({"like": [0.0]}, TypeError, "`like` must be a dict of extra arguments"),
    ],
)
def test_bad_arguments_are_named(changed, error, message):
    arguments = {"optimizer": optax.sgd(0.1), "monitors": [index], **changed}
    with pytest.raises(error, match=message):
        lrax.recorded(**arguments)


def test_bad_updates_are_explained():
    optimizer = lrax.recorded(optax.sgd(0.1), [index])
    state = optimizer.init(PARAMS)
    with pytest.raises(ValueError, match="`params` must be given to `update`"):
        optimizer.update(GRADS, state)
    others = lrax.recorded(optax.sgd(0.1), [loss])
    with pytest.raises(TypeError, match=r"the state, which holds \['index'\], got \['loss'\]"):
        others.update(GRADS, state, PARAMS)
    batches = lrax.recorded(optax.sgd(0.1), [target], like={"batch": {"y": jnp.ones(3)}})
    with pytest.raises(TypeError, match="`batch` must be given to `update`, because `like`"):
        batches.update(GRADS, batches.init(PARAMS), PARAMS)
    for monitor, words in ((target, "subscriptable"), (lambda step: step.grads["w"], "a scalar")):
        with pytest.raises(TypeError, match=words) as caught:
            lrax.recorded(optax.sgd(0.1), {"mine": monitor}).init(PARAMS)
        assert any("like={'batch': batch}" in note for note in caught.value.__notes__)


def test_bad_states_are_explained():
    with pytest.raises(ValueError, match=r"`opt_state` must hold records, .* `lrax.recorded\("):
        lrax.history(adam(0.1).init(PARAMS))
    words = "`opt_state` must hold values, got .*: read the history outside of `jax.jit`"
    with pytest.raises(TypeError, match=words):
        lrax.history(jax.eval_shape(RECORDED.init, PARAMS))
    with pytest.raises(TypeError, match=words):
        jax.jit(lambda state: lrax.history(state).at)(RECORDED.init(PARAMS))
