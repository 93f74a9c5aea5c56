"""Models of Flax Linen, Flax NNX and Equinox: a sweep through an adapter is the training written by hand."""

import functools
import re
import subprocess
import sys

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax
from lrax.tasks.adapters.linen import first_batch
from lrax.training import run as train
from lrax.training.held_out import in_batches

linen = pytest.importorskip("flax.linen", exc_type=ImportError)
nnx = pytest.importorskip("flax.nnx", exc_type=ImportError)
eqx = pytest.importorskip("equinox", exc_type=ImportError)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 5)).astype(np.float32)
Y = np.sin(X.sum(axis=1, keepdims=True)).astype(np.float32)
HELD_OUT = {"inputs": X[32:], "targets": Y[32:]}
BATCH = lrax.minibatches({"inputs": X[:32], "targets": Y[:32]}, size=8)
RATES, STEPS = [0.01, 0.3], 6


def squared_error(outputs, batch):
    return jnp.mean((outputs - batch["targets"]) ** 2)


class LinenPlain(linen.Module):
    width: int = 6

    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(jax.nn.relu(linen.Dense(self.width)(x)))


class LinenFull(linen.Module):
    """Batch norm and dropout."""

    width: int = 6

    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(
            linen.Dense(self.width, use_bias=False)(x)
        )
        x = linen.Dropout(0.5, deterministic=not train)(jax.nn.relu(x))
        return linen.Dense(1)(x)


class NnxPlain(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(5, 6, rngs=rngs), nnx.Linear(6, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(jax.nn.relu(self.first(x)))


class NnxFull(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = (
            nnx.Linear(5, 6, use_bias=False, rngs=rngs),
            nnx.Linear(6, 1, rngs=rngs),
        )
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        self.drop, self.drop_too = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop_too(self.drop(jax.nn.relu(self.norm(self.first(x))))))


class EqxFull(eqx.Module):
    first: eqx.nn.Linear
    last: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.first, self.last = (
            eqx.nn.Linear(5, 6, use_bias=False, key=one),
            eqx.nn.Linear(6, 1, key=two),
        )
        self.norm, self.drop = eqx.nn.BatchNorm(6, "batch", mode="batch"), eqx.nn.Dropout(0.5)

    def __call__(self, x, state, *, key):
        x, state = self.norm(self.first(x), state)
        return self.last(self.drop(jax.nn.relu(x), key=key)), state


def eqx_plain(key):
    return eqx.nn.MLP(5, 1, 6, 1, key=key)


def eqx_full(key):
    return eqx.nn.make_with_state(EqxFull)(key)


FULL = dict(training={"train": True}, evaluation={"train": False})
TASKS = {
    "linen plain": lambda **kw: lrax.tasks.from_linen(
        LinenPlain(), squared_error, BATCH, **{"held_out": HELD_OUT, **kw}
    ),
    "linen full": lambda **kw: lrax.tasks.from_linen(
        LinenFull(), squared_error, BATCH, **{"held_out": HELD_OUT, **FULL, **kw}
    ),
    "nnx plain": lambda **kw: lrax.tasks.from_nnx(
        NnxPlain, squared_error, BATCH, **{"held_out": HELD_OUT, **kw}
    ),
    "nnx full": lambda **kw: lrax.tasks.from_nnx(
        NnxFull, squared_error, BATCH, **{"held_out": HELD_OUT, **kw}
    ),
    "eqx plain": lambda **kw: lrax.tasks.from_equinox(
        eqx_plain, squared_error, BATCH, **{"held_out": HELD_OUT, **kw}
    ),
    "eqx full": lambda **kw: lrax.tasks.from_equinox(
        eqx_full, squared_error, BATCH, **{"held_out": HELD_OUT, **kw}
    ),
}

PLAINS = [name for name in TASKS if "plain" in name]
FULLS = [name for name in TASKS if "full" in name]
MODELS = [
    (lrax.tasks.from_linen, LinenPlain()),
    (lrax.tasks.from_nnx, NnxPlain),
    (lrax.tasks.from_equinox, eqx_plain),
]


@functools.cache
def batches_and_keys(seed):
    """What a run with this seed sees: its first key, and the batch and key of each step."""
    keys = train.split(jax.random.key(seed))
    rows = np.asarray(BATCH.ahead(0, STEPS, keys.data))
    return keys.init, [
        (BATCH.take(row), jax.random.fold_in(keys.loss, i)) for i, row in enumerate(rows)
    ]


def by_hand_linen(model, rate, seed, **kw):
    key, steps = batches_and_keys(seed)
    variables = model.init(key, X[:8], **kw)
    params, state = (
        variables["params"],
        {name: v for name, v in variables.items() if name != "params"},
    )
    optimizer = optax.adam(rate)
    opt_state, losses = optimizer.init(params), []

    @jax.jit
    def step(params, state, opt_state, batch, key):
        def loss(params):
            out, new = model.apply(
                {"params": params, **state},
                batch["inputs"],
                rngs={"dropout": key},
                mutable=list(state),
                **kw,
            )
            return squared_error(out, batch), new

        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), state, opt_state, value

    for batch, key in steps:
        params, state, opt_state, value = step(params, state, opt_state, batch, key)
        losses.append(value)
    evaluation = {name: False for name in kw}
    return losses, squared_error(
        model.apply({"params": params, **state}, X[32:], **evaluation), HELD_OUT
    )


def by_hand_nnx(constructor, rate, seed):
    """In the words of NNX's guides: one mutable model, one nnx.Optimizer."""
    key, steps = batches_and_keys(seed)
    model = constructor(nnx.Rngs(key))
    optimizer = nnx.Optimizer(model, optax.adam(rate), wrt=nnx.Param)
    model.train()
    losses = []

    @nnx.jit
    def step(model, optimizer, batch):
        value, grads = nnx.value_and_grad(
            lambda model: squared_error(model(batch["inputs"]), batch)
        )(model)
        optimizer.update(model, grads)
        return value

    for batch, key in steps:
        for i, name in enumerate(name for name in ("drop", "drop_too") if hasattr(model, name)):
            getattr(model, name).rngs = nnx.Rngs(jax.random.fold_in(key, i)).default
        losses.append(step(model, optimizer, batch))
    model.eval()
    return losses, squared_error(model(X[32:]), HELD_OUT)


def by_hand_eqx(constructor, rate, seed):
    key, steps = batches_and_keys(seed)
    built = constructor(key)
    has_state = isinstance(built, tuple)
    model, state = built if has_state else (built, None)
    optimizer = optax.adam(rate)
    opt_state, losses = optimizer.init(eqx.filter(model, eqx.is_inexact_array)), []

    def forward(model, state, x, key):
        if not has_state:
            return jax.vmap(model)(x), None
        call = lambda x, state, key: model(x, state, key=key)
        mapped = jax.vmap(call, in_axes=(0, None, 0), out_axes=(0, None), axis_name="batch")
        return mapped(x, state, jax.random.split(key, len(x)))

    @eqx.filter_jit
    def step(model, state, opt_state, batch, key):
        def loss(model, state):
            out, state = forward(model, state, batch["inputs"], key)
            return squared_error(out, batch), state

        (value, state), grads = eqx.filter_value_and_grad(loss, has_aux=True)(model, state)
        updates, opt_state = optimizer.update(
            grads, opt_state, eqx.filter(model, eqx.is_inexact_array)
        )
        return eqx.apply_updates(model, updates), state, opt_state, value

    for batch, key in steps:
        model, state, opt_state, value = step(model, state, opt_state, batch, key)
        losses.append(value)
    out, _ = forward(eqx.nn.inference_mode(model), state, jnp.asarray(X[32:]), jax.random.key(7))
    return losses, squared_error(out, HELD_OUT)


BY_HAND = {
    "linen plain": lambda rate, seed: by_hand_linen(LinenPlain(), rate, seed),
    "linen full": lambda rate, seed: by_hand_linen(LinenFull(), rate, seed, train=True),
    "nnx plain": lambda rate, seed: by_hand_nnx(NnxPlain, rate, seed),
    "nnx full": lambda rate, seed: by_hand_nnx(NnxFull, rate, seed),
    "eqx plain": lambda rate, seed: by_hand_eqx(eqx_plain, rate, seed),
    "eqx full": lambda rate, seed: by_hand_eqx(eqx_full, rate, seed),
}


TRACES = []


def adam(learning_rate):
    TRACES.append(0)
    return optax.adam(learning_rate)


@functools.cache
def swept(name):
    return lrax.sweep(TASKS[name](), adam, RATES, steps=STEPS, seeds=[1], objective="val_loss")


@pytest.mark.parametrize(
    "name",
    [*FULLS, *(pytest.param(name, marks=pytest.mark.slow) for name in PLAINS)],
)
def test_a_sweep_is_the_training_by_hand(name):
    result, point = swept(name), 1
    losses, val_loss = BY_HAND[name](RATES[point], seed=1)
    np.testing.assert_allclose(result.losses[point, 0], losses, rtol=1e-5)
    np.testing.assert_allclose(result.metrics["val_loss"][point, 0], val_loss, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [*FULLS, "eqx plain", *(pytest.param(name, marks=pytest.mark.slow) for name in PLAINS[:2])],
)
def test_equal_calls_share_a_program(name):
    swept.__wrapped__(name)  # its program may have been forgotten since another test called it
    before = len(TRACES)
    swept.__wrapped__(name)
    assert len(TRACES) == before


@pytest.mark.parametrize("name", TASKS)
def test_data_are_leaves_and_a_key_changes_what_is_drawn(name):
    task = TASKS[name]()
    assert task.stateful == ("full" in name)
    held_out = [leaf for leaf in jax.tree.leaves(task.evaluate) if hasattr(leaf, "dtype")]
    chex.assert_trees_all_equal(held_out, jax.tree.leaves(HELD_OUT))
    start = task.init(jax.random.key(0))
    arguments = start if task.stateful else (start,)
    batch = BATCH.take(np.arange(8))
    loss = jax.jit(lambda key: task.loss(*arguments, batch, key))
    one, two = (jax.tree.leaves(loss(jax.random.key(i)))[0] for i in range(2))
    assert bool(one == two) == ("plain" in name)
    again = task.evaluate(*arguments)  # no dropout, and nothing consumed
    chex.assert_trees_all_equal(again, task.evaluate(*arguments))


# Held-out data in batches.


def of_rows(outputs, batch):
    error = jnp.abs(outputs - batch["targets"])
    return {"val_error": jnp.mean(error), "val_right": jnp.mean(error < 0.5)}


@pytest.mark.parametrize(
    ("name", "size"), [("linen plain", 16), ("linen full", 8), ("nnx full", 6), ("eqx full", 9)]
)
def test_batches_of_held_out_data_give_the_metrics_of_the_whole(name, size):
    double = lambda batch, key: jax.tree.map(lambda leaf: 2 * leaf, batch)
    parts = lrax.minibatches(HELD_OUT, size=size, transform=double)
    whole, task = TASKS[name](evaluate=of_rows), TASKS[name](evaluate=of_rows, held_out=parts)
    start = whole.init(jax.random.key(0))
    arguments = start if whole.stateful else (start,)
    expected = whole.evaluate(*arguments)
    chex.assert_trees_all_close(jax.jit(task.evaluate)(*arguments), expected, rtol=1e-5)


def test_batches_of_held_out_data_come_in_order_and_the_last_one_short():
    seen = []

    def metrics(batch, index):
        jax.debug.callback(lambda i, x: seen.append((int(i), x[:, 0].tolist())), index, batch["x"])
        return {"mean": jnp.mean(batch["x"]), "count": batch["x"].size}

    parts = lrax.minibatches({"x": np.arange(7.0)[:, None] ** 2}, size=3)
    found = in_batches(parts, metrics)
    jax.effects_barrier()
    assert sorted(seen) == [(0, [0, 1, 4]), (1, [9, 16, 25]), (2, [36])]
    assert found["mean"] == np.mean(np.arange(7.0) ** 2)
    np.testing.assert_allclose(found["count"], (3 * 3 + 3 * 3 + 1 * 1) / 7)  # the mean by batch
    with pytest.raises(TypeError, match="`evaluate` must return a dict of scalars"):
        in_batches(parts, lambda batch, index: {"x": batch["x"]})


@pytest.mark.parametrize("name", ["nnx plain", "eqx full"])
def test_evaluate_may_take_a_key(name):
    evaluate = lambda outputs, batch, key: {"val_noise": jax.random.normal(key) + outputs[0, 0]}
    one, many = (
        TASKS[name](evaluate=evaluate, held_out=held_out)
        for held_out in (HELD_OUT, lrax.minibatches(HELD_OUT, size=10))
    )
    start, key = one.init(jax.random.key(0)), jax.random.key(3)
    arguments = start if one.stateful else (start,)
    for task in (one, many):
        noise = jax.jit(lambda key, task=task: task.evaluate(*arguments, key)["val_noise"])
        assert noise(key) == noise(key)
        assert noise(key) != noise(jax.random.key(4))
    run = lambda key: lrax.train(one, optax.adam, steps=1)(0.1, key).metrics
    assert list(jax.eval_shape(run, key)) == ["val_noise"]


def test_a_task_of_traced_hyperparameters():
    def make(scale):
        loss = lambda outputs, batch: scale * jnp.mean((outputs - batch["targets"]) ** 2)
        return lrax.tasks.from_nnx(
            lambda rngs: NnxPlain(rngs),
            loss,
            lrax.minibatches({"inputs": X[:32], "targets": Y[:32]}, size=8),
            held_out=lrax.minibatches(HELD_OUT, size=6),
        )

    sgd = lambda learning_rate: optax.sgd(learning_rate)
    result = lrax.sweep(make, sgd, {"learning_rate": [0.0], "scale": [1.0, 3.0]}, steps=1)
    one, three = result.metrics["val_loss"][:, 0]
    np.testing.assert_allclose(three, 3 * one, rtol=1e-5)


def test_building_touches_no_device():
    program = """
import jax, numpy as np, lrax
from flax import linen, nnx
from jax._src import xla_bridge
import equinox as eqx
data = {"inputs": np.ones((8, 4), np.float32), "targets": np.ones(8)}
loss = lambda outputs, batch: outputs.mean()
batch, held_out = lrax.minibatches(data, size=4), lrax.minibatches(data, size=3)
lrax.tasks.from_linen(linen.Dense(2), loss, batch, held_out=held_out)
lrax.tasks.from_nnx(lambda rngs: nnx.Linear(4, 2, rngs=rngs), loss, batch, held_out=held_out)
build = lambda key: eqx.nn.Linear(4, 2, key=key)
lrax.tasks.from_equinox(build, loss, batch, held_out=held_out)
assert not xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# What is trained.


@pytest.mark.parametrize("name", FULLS)
def test_state_is_updated_and_line_searches_may_call_the_loss_again(name):
    task = TASKS[name]()
    search = lambda scale: optax.chain(
        optax.sgd(scale), optax.scale_by_backtracking_linesearch(max_backtracking_steps=3)
    )
    trained = lrax.train(task, search, steps=2)({"scale": 0.1}, jax.random.key(0))
    assert np.all(np.isfinite(trained.losses))
    _, before = task.init(train.split(jax.random.key(0)).init)
    assert jax.tree.structure(trained.state) == jax.tree.structure(before)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, trained.state)
    assert any(jax.tree.leaves(moved))


def test_what_is_found_goes_back_into_the_models(tmp_path):
    best = swept("linen full").best
    variables = {"params": best.params, **best.state}
    outputs = LinenFull().apply(variables, X[32:], train=False)
    lowest = swept("linen full").metrics["val_loss"].min()
    np.testing.assert_allclose(squared_error(outputs, HELD_OUT), lowest, rtol=1e-5)

    best = swept("nnx full").best
    model = NnxFull(nnx.Rngs(0))
    nnx.update(model, best.params, best.state)
    model.eval()
    lowest = swept("nnx full").metrics["val_loss"].min()
    np.testing.assert_allclose(squared_error(model(X[32:]), HELD_OUT), lowest, rtol=1e-5)

    best = swept("eqx plain").best
    model = eqx.combine(best.params, eqx_plain(jax.random.key(1)))
    outputs = jax.vmap(model)(jnp.asarray(X[32:]))
    lowest = swept("eqx plain").metrics["val_loss"].min()
    np.testing.assert_allclose(squared_error(outputs, HELD_OUT), lowest, rtol=1e-5)

    for name in ("nnx full", "eqx plain"):
        swept(name).save(tmp_path / "saved.npz")
        params = TASKS[name]().init(jax.random.key(0))
        like = params[0] if "full" in name else params
        loaded = lrax.SweepResult.load(tmp_path / "saved.npz", like=like)
        chex.assert_trees_all_equal(loaded.best.params, swept(name).best.params)


def test_aux_and_inputs():
    def loss(outputs, batch):
        _, y = batch
        return jnp.mean((outputs - y) ** 2), {"size": jnp.mean(outputs**2), "outputs": outputs}

    pairs, key = lrax.minibatches((X, Y), size=8), jax.random.key(0)
    for adapter, model in MODELS:
        task = adapter(model, loss, pairs, held_out=(X, Y))
        twice = adapter(model, loss, pairs, inputs=lambda batch: 2 * batch[0])
        params = task.init(key)
        value, aux = task.loss(params, (2 * X, Y), key)
        assert set(aux) == {"size", "outputs"}
        chex.assert_trees_all_close(twice.loss(params, (X, Y), key), (value, aux), rtol=1e-5)
        value, aux = task.loss(params, (X, Y), key)
        expected = {"val_loss": value, "val_size": aux["size"]}
        chex.assert_trees_all_close(task.evaluate(params), expected, rtol=1e-6)


def test_the_validation_loss_is_the_loss_whatever_its_aux_is_called():
    def loss(outputs, batch):
        value = jnp.mean((outputs - batch[1]) ** 2)
        return value + 1, {"loss": value}

    for adapter, model in MODELS:
        task = adapter(model, loss, lrax.minibatches((X, Y), size=8), held_out=(X, Y))
        params = task.init(jax.random.key(0))
        value, _ = task.loss(params, (X, Y), jax.random.key(0))
        chex.assert_trees_all_close(task.evaluate(params), {"val_loss": value}, rtol=1e-6)


@pytest.mark.parametrize(("adapter", "model"), MODELS)
def test_a_function_of_the_inputs_never_sees_the_whole_data_set(adapter, model):
    def inputs(batch):
        assert len(batch["inputs"]) == 8
        return batch["inputs"]

    held_out = lrax.minibatches(HELD_OUT, size=8)
    adapter(model, squared_error, BATCH, inputs=inputs, held_out=held_out)


@pytest.mark.parametrize(("adapter", "model"), MODELS)
def test_batches_of_a_function(adapter, model):
    draw = lambda step, key: (jax.random.normal(key, (4, 5)), jnp.zeros((4, 1)))
    task = adapter(model, lambda outputs, batch: jnp.mean((outputs - batch[1]) ** 2), draw)
    assert task.evaluate is None
    run = lambda key: lrax.train(task, optax.adam, steps=2)(0.1, key).losses
    assert jax.eval_shape(run, jax.random.key(0)).shape == (2,)


def test_equinox_models_of_whole_batches_and_frozen_arrays():
    class Whole(eqx.Module):
        weight: jax.Array
        order: jax.Array  # integers: carried along, not trained

        def __call__(self, x):
            return x[:, self.order] @ self.weight

    build = lambda key: Whole(
        jax.random.normal(key, (5, 1)), jax.random.permutation(jax.random.fold_in(key, 1), 5)
    )
    task = lrax.tasks.from_equinox(build, squared_error, BATCH, held_out=HELD_OUT, batched=True)
    assert task.stateful
    trained = lrax.train(task, optax.adam, steps=2)(0.1, jax.random.key(0))
    model = eqx.combine(trained.params, trained.state["arrays"])
    by_hand = squared_error(model(X[32:]), HELD_OUT)
    np.testing.assert_allclose(by_hand, trained.metrics["val_loss"], rtol=1e-5)


def test_nnx_wrt_trains_some_variables_alone():
    build = lambda rngs: nnx.LoRA(5, 2, 1, base_module=nnx.Linear(5, 1, rngs=rngs), rngs=rngs)
    task = lrax.tasks.from_nnx(build, squared_error, BATCH, wrt=nnx.LoRAParam)
    assert task.stateful
    params, before = task.init(train.split(jax.random.key(0)).init)
    trained = lrax.train(task, optax.adam, steps=2)(0.1, jax.random.key(0))
    chex.assert_trees_all_close(jax.tree.leaves(before), jax.tree.leaves(trained.state), rtol=1e-6)
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(trained.params))
    assert shapes == [(2, 1), (5, 2)]
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), params, trained.params)
    assert any(jax.tree.leaves(moved))


def test_nnx_streams_of_two_layers_draw_different_masks():
    class Masks(nnx.Module):
        def __init__(self, rngs):
            self.drop, self.drop_too = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
            self.scale = nnx.Param(jnp.ones(()))

        def __call__(self, x):
            return self.scale[...] * jnp.stack([self.drop(x), self.drop_too(x)])

    same = lambda outputs, batch: jnp.mean(outputs[0] == outputs[1])
    task = lrax.tasks.from_nnx(Masks, same, BATCH, inputs=lambda batch: jnp.ones((100,)))
    share = task.loss(task.init(jax.random.key(0)), None, jax.random.key(0))
    assert 0.2 < share < 0.8


def test_a_source_that_is_read_once_needs_an_example():
    batch = {"inputs": X[:8], "targets": Y[:8]}
    chex.assert_trees_all_equal(first_batch([batch]), batch)

    def anew():
        yield batch

    chex.assert_trees_all_equal(first_batch(anew), batch)
    task = lrax.tasks.from_linen(LinenPlain(), squared_error, iter([batch]), example=batch)
    chex.assert_trees_all_equal(task.init.args[1], batch)
    with pytest.raises(ValueError, match="`example` must be a batch"):
        lrax.tasks.from_linen(LinenPlain(), squared_error, iter([batch]))


# Bad arguments.

BAD = {
    "text": "abc",
    "bytes": b"ab",
    "True": True,
    "nan": np.nan,
    "inf": np.inf,
    "negative": -1,
    "half": 0.5,
    "2**64": 2**64,
    "complex": 1j,
    "object": object(),
    "empty dict": {},
    "dict": {"a": 1},
    "empty": [],
    "ragged": [[1.0, 2.0], [3.0]],
    "texts": ["a", "b"],
    "set": {0.1},
    "no example": {"inputs": np.ones((0, 5)), "targets": np.ones((0, 1))},
    "key": jax.random.key(0),
}
ARGUMENTS = ["model", "loss", "batch", "inputs", "held_out", "evaluate", "training", "evaluation"]
OWN = {
    "from_linen": ["rngs", "example"],
    "from_nnx": ["wrt"],
    "from_equinox": ["batched", "axis_name"],
}


# Values of the table that have a meaning. What a list of batches holds is seen when it is read.
MEANT = {
    *(("batch", kind) for kind in ("empty", "ragged", "texts", "set")),
    *(("training", "empty dict"), ("evaluation", "empty dict"), ("rngs", "empty")),
    *(("rngs", "texts"), ("batched", "True"), ("axis_name", "text")),
}


@pytest.mark.parametrize(("adapter", "model"), MODELS)
def test_bad_values_are_named(adapter, model):
    """Such a call succeeds where the value has a meaning, or its error names the argument."""
    valid = {"model": model, "loss": squared_error, "batch": BATCH, "held_out": HELD_OUT}
    valid["evaluate"] = lambda outputs, batch: {"val_size": outputs.size}
    unhelpful = []
    for argument in [*ARGUMENTS, *OWN[adapter.__name__]]:
        for kind, value in BAD.items():
            try:
                adapter(**{**valid, argument: value})
            except (TypeError, ValueError) as error:
                names = re.findall(r"`([A-Za-z_]\w*)`", str(error))
                if not names or names[0] != argument:
                    unhelpful.append(f"{argument}={kind}: {error}")
            else:
                if (argument, kind) not in MEANT:
                    unhelpful.append(f"{argument}={kind} is accepted")
    assert unhelpful == []


@pytest.mark.parametrize(("adapter", "model"), MODELS)
def test_bad_arguments_are_named(adapter, model):
    with pytest.raises(TypeError, match="`model` must be"):
        adapter(7, squared_error, BATCH)
    with pytest.raises(TypeError, match="`loss` must be a function"):
        adapter(model, None, BATCH)
    with pytest.raises(TypeError, match="`evaluate` must be a function"):
        adapter(model, squared_error, BATCH, evaluate=3, held_out=HELD_OUT)
    with pytest.raises(ValueError, match="`held_out` must be a batch"):
        adapter(model, squared_error, BATCH, evaluate=lambda outputs, batch: {})
    with pytest.raises(TypeError, match="`inputs` must be a key"):
        adapter(model, squared_error, BATCH, inputs=1.5)
    with pytest.raises(TypeError, match="`training` must be a dict"):
        adapter(model, squared_error, BATCH, training=True)
    with pytest.raises(TypeError, match="`batch` must be"):
        adapter(
            model,
            squared_error,
            7,
            **({"example": HELD_OUT} if adapter is lrax.tasks.from_linen else {}),
        )
    with pytest.raises(ValueError, match=r"'image' is not in it; it has \['inputs', 'targets'\]"):
        lrax.sweep(adapter(model, squared_error, BATCH, inputs="image"), optax.adam, RATES, steps=1)


def test_bad_models_are_named():
    with pytest.raises(TypeError, match=r"see `from_nnx` for models of flax\.nnx"):
        lrax.tasks.from_linen(NnxPlain(nnx.Rngs(0)), squared_error, BATCH)
    with pytest.raises(TypeError, match=r"`model` must return a flax\.nnx\.Module"):
        lrax.tasks.from_nnx(lambda rngs: 3, squared_error, BATCH)
    with pytest.raises(TypeError, match=r"`model` must return an equinox\.Module"):
        lrax.tasks.from_equinox(lambda key: 3, squared_error, BATCH)
    with pytest.raises(TypeError, match="`rngs` must be a list of names"):
        lrax.tasks.from_linen(LinenPlain(), squared_error, BATCH, rngs="dropout")
    with pytest.raises(TypeError, match="`axis_name` must be a str"):
        lrax.tasks.from_equinox(eqx_plain, squared_error, BATCH, axis_name=0)
    with pytest.raises(ValueError, match="must have floating-point arrays"):
        lrax.tasks.from_equinox(lambda key: eqx.nn.Identity(), squared_error, BATCH)
    with pytest.raises(ValueError, match="`wrt` must select variables of `model` to train"):
        lrax.tasks.from_nnx(NnxPlain, squared_error, BATCH, wrt=nnx.LoRAParam)


@pytest.mark.parametrize(
    ("adapter", "module", "extra"),
    [
        ("from_linen", "flax", "flax"),
        ("from_nnx", "flax", "flax"),
        ("from_equinox", "equinox", "equinox"),
    ],
)
def test_what_to_install_is_said(monkeypatch, adapter, module, extra):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(module), *sys.meta_path])
    with pytest.raises(ImportError, match=rf'needs {module}.*pip install "lrax\[{extra}\] @'):
        getattr(lrax.tasks, adapter)(None, squared_error, BATCH)


class Absent:
    """An importer that finds no such module."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.name)
