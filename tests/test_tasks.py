"""Tasks: what they are made of, and that the small real ones can be learned."""

import functools
import math
import subprocess
import sys
import sysconfig

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax
from lrax.tasks.networks import CNN, MLP, Transformer
from lrax.tasks.text import _tokens
from lrax.training.task import takes_key

KEY = jax.random.key(0)
BUILDERS = {
    "mlp": functools.partial(lrax.tasks.digits, "mlp"),
    "cnn": functools.partial(lrax.tasks.digits, "cnn", channels=(4,)),
    "char_lm": functools.partial(
        lrax.tasks.char_lm, width=16, heads=2, layers=1, context=16, characters=100_000
    ),
    "diabetes": lrax.tasks.diabetes,
}
FIRST_LOSS = {"mlp": math.log(10), "cnn": math.log(10), "char_lm": math.log(97), "diabetes": 1.0}
RATE = {"mlp": 0.01, "cnn": 0.01, "char_lm": 0.01, "diabetes": 0.003}
STEPS = {"mlp": 300, "cnn": 150, "char_lm": 150, "diabetes": 100}
every_task = pytest.mark.parametrize("name", BUILDERS)


@functools.cache
def built(name):
    return BUILDERS[name]()


def draw(task, step, key):
    return (
        task.batch.at(step, key)
        if hasattr(task.batch, "at")
        else task.batch(step, jax.random.fold_in(key, step))
    )


@functools.cache
def found(name):
    """What one program finds: the first batch, loss, gradients, and metrics along a plain loop."""
    task = built(name)
    optimizer = optax.adam(RATE[name])

    @jax.jit
    def run(key):
        def step(carry, index):
            params, opt_state = carry
            grads = jax.grad(task.loss)(params, draw(task, index, key))
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        params, batch = task.init(key), draw(task, 0, key)
        loss, grads = jax.value_and_grad(task.loss)(params, batch)
        start = params, optimizer.init(params)
        (last, _), _ = jax.lax.scan(step, start, jnp.arange(STEPS[name]))
        names = ("params", "batch", "loss", "grads", "before", "after")
        before, after = task.evaluate(params), task.evaluate(last)
        return dict(zip(names, (params, batch, loss, grads, before, after), strict=True))

    return run(KEY)


def held_out(task):
    return task.evaluate.args[1]


def functions(task):
    return task.init, task.loss, task.batch, task.evaluate


# What the tasks are made of.


def test_public_names():
    assert lrax.tasks.__all__ == [
        "char_lm",
        "diabetes",
        "digits",
        "from_equinox",
        "from_linen",
        "from_nnx",
    ]


BATCHES = {
    "mlp": {"inputs": (64, 64), "targets": (64,)},
    "cnn": {"inputs": (64, 8, 8, 1), "targets": (64,)},
    "char_lm": {"inputs": (8, 16), "targets": (8, 16)},
    "diabetes": {"inputs": (32, 10), "targets": (32,)},
}


@every_task
def test_shapes(name):
    assert jax.tree.map(jnp.shape, found(name)["batch"]) == BATCHES[name]


def parameters(task):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(task.init, KEY)))


def test_sizes():
    assert parameters(lrax.tasks.digits()) == 3466
    assert parameters(lrax.tasks.digits(widths=())) == 650
    assert parameters(lrax.tasks.digits("cnn")) == (9 * 8 + 8) + (9 * 64 + 8) + (512 * 10 + 10)
    assert parameters(lrax.tasks.digits("cnn", channels=())) == 650
    assert parameters(lrax.tasks.char_lm()) == 115_136
    assert parameters(lrax.tasks.diabetes()) == 385


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_digits_are_split_whole_and_by_class(name):
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    train, rest = built(name).batch.arrays, held_out(built(name))
    assert len(train["targets"]) == 1437
    assert len(rest["targets"]) == 360
    together = np.concatenate([part["inputs"].reshape(-1, 64) * 16 for part in (train, rest)])
    rows = np.column_stack([together, np.concatenate([train["targets"], rest["targets"]])])
    whole = np.column_stack([pixels, labels])
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], whole[np.lexsort(whole.T)])
    assert np.ptp(together) == 16
    shares = np.bincount(rest["targets"]) / np.bincount(labels)
    np.testing.assert_allclose(shares, 0.2, atol=0.005)


def test_seeds_split_differently_and_repeatably():
    one, same, other = (held_out(lrax.tasks.digits(seed=seed))["inputs"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_diabetes_is_standardised_by_the_training_part():
    from sklearn.datasets import load_diabetes

    train, rest = built("diabetes").batch.arrays, held_out(built("diabetes"))
    columns = {"inputs": 0, "targets": 1}
    for name, column in columns.items():
        assert (len(train[name]), len(rest[name])) == (331, 111)
        np.testing.assert_allclose(train[name].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(train[name].std(axis=0), 1, atol=1e-5)
        # One straight line leads both parts back to the whole: no statistic of the held-out part is
        # in it.
        raw = load_diabetes(return_X_y=True, scaled=False)[column].reshape(442, -1)
        both = np.concatenate([train[name], rest[name]]).reshape(442, -1)
        deviation = (raw.max(axis=0) - raw.min(axis=0)) / np.ptp(both, axis=0)
        back = np.sort((both - both.min(axis=0)) * deviation + raw.min(axis=0), axis=0)
        np.testing.assert_allclose(back, np.sort(raw, axis=0), rtol=1e-4, atol=1e-4)
        assert np.abs(rest[name].mean(axis=0)).max() > 0.01


def test_text_is_split_into_beginning_and_end():
    task = lrax.tasks.char_lm(context=32, characters=20_000, held_out=0.25)
    whole = _tokens(20_000)
    train, windows = task.batch.args[1], held_out(task)
    assert train.dtype == np.uint8
    np.testing.assert_array_equal(train, whole[:15_000])
    end = whole[15_000:].tobytes()
    assert windows["inputs"].shape == (64, 32)
    for inputs, targets in zip(windows["inputs"], windows["targets"], strict=True):
        window = np.append(inputs, targets[-1]).astype(np.uint8).tobytes()
        np.testing.assert_array_equal(inputs[1:], targets[:-1])
        assert window in end


def test_text_windows_are_the_text():
    task = built("char_lm")
    text = task.batch.args[1].tobytes()
    batch = jax.tree.map(np.asarray, found("char_lm")["batch"])
    np.testing.assert_array_equal(batch["inputs"][:, 1:], batch["targets"][:, :-1])
    assert all(row.astype(np.uint8).tobytes() in text for row in batch["targets"])
    assert not np.array_equal(batch["inputs"], draw(task, 1, KEY)["inputs"])
    assert len({row.tobytes() for row in batch["inputs"]}) == 8


def test_text_of_a_stdlib_with_one_module(monkeypatch, tmp_path):
    (tmp_path / "ast.py").write_bytes("a\tB~\r\n é".encode() * 10)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    tokens = lrax.tasks.char_lm(context=1).batch.args[1]
    expected = [ord("a") - 30, 0, ord("B") - 30, ord("~") - 30, 1, 2, 0, 0]
    np.testing.assert_array_equal(tokens, expected * 9)


def test_no_source_of_the_stdlib(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "python311.zip"))
    with pytest.raises(
        FileNotFoundError, match=r"source of Python's standard library, and there is none in .*zip"
    ):
        lrax.tasks.char_lm()


@every_task
def test_two_calls_have_one_structure(name):
    one, two = functions(built(name)), functions(BUILDERS[name]())
    assert jax.tree.structure(one) == jax.tree.structure(two)
    hash(jax.tree.structure(one))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(one))
    chex.assert_trees_all_equal(one, two)


def test_a_second_task_recompiles_nothing():
    traces = 0

    @jax.jit
    def evaluate(evaluate, params):
        nonlocal traces
        traces += 1
        return evaluate(params)

    params = found("mlp")["params"]
    one, two, other = (
        evaluate(lrax.tasks.digits(seed=seed).evaluate, params) for seed in (0, 0, 1)
    )
    assert traces == 1
    assert one == two
    assert one != other


def test_structures_differ_where_the_networks_do():
    tasks = [lrax.tasks.digits(), lrax.tasks.digits(widths=(32, 31)), lrax.tasks.digits("cnn")]
    assert len({jax.tree.structure(functions(task)) for task in tasks}) == 3


@pytest.mark.slow  # a process of its own
def test_building_touches_no_device():
    program = (
        "import lrax; from jax._src import xla_bridge;"
        "lrax.tasks.digits(); lrax.tasks.digits('cnn'); lrax.tasks.char_lm();"
        "lrax.tasks.diabetes();"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# That they can be learned.


@every_task
def test_first_loss_and_gradients(name):
    loss, grads, params = (found(name)[part] for part in ("loss", "grads", "params"))
    assert loss.shape == ()
    np.testing.assert_allclose(loss, FIRST_LOSS[name], rtol=0.3 if name == "diabetes" else 0.06)
    chex.assert_trees_all_equal_shapes_and_dtypes(grads, params)
    chex.assert_tree_all_finite(grads)
    assert all(np.any(grad != 0) for grad in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    ("name", "metric", "within"),
    [
        ("mlp", "val_accuracy", (0.93, 1.0)),
        ("cnn", "val_accuracy", (0.9, 1.0)),
        ("char_lm", "val_bits_per_char", (2.0, 4.8)),
        ("diabetes", "val_r2", (0.3, 0.7)),
    ],
)
def test_a_plain_loop_learns(name, metric, within):
    before, after = found(name)["before"], found(name)["after"]
    assert set(after) == {"val_loss", metric}
    chex.assert_shape(jax.tree.leaves(after), ())
    assert after["val_loss"] < 0.75 * before["val_loss"]
    assert within[0] < after[metric] < within[1]


@every_task
def test_evaluate_takes_lanes(name):
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), found(name)["params"])
    metrics = jax.jit(jax.vmap(built(name).evaluate))(lanes)
    expected = jax.tree.map(lambda value: np.stack([value, value]), found(name)["before"])
    chex.assert_trees_all_close(metrics, expected, rtol=1e-4, atol=1e-5)


def test_evaluate_by_hand():
    task, params = built("mlp"), found("mlp")["params"]
    metrics, examples = found("mlp")["before"], held_out(task)
    logits = np.asarray(task.loss.args[0].apply(params, examples["inputs"]), np.float64)
    likelihood = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = likelihood[np.arange(len(logits)), examples["targets"]]
    np.testing.assert_allclose(metrics["val_loss"], -np.log(right).mean(), rtol=1e-5)
    np.testing.assert_allclose(
        metrics["val_accuracy"], np.mean(logits.argmax(axis=1) == examples["targets"]), rtol=1e-5
    )

    task, params = built("diabetes"), found("diabetes")["params"]
    metrics, examples = found("diabetes")["before"], held_out(task)
    error = task.loss.args[0].apply(params, examples["inputs"])[:, 0] - examples["targets"]
    r2 = 1 - np.sum(np.square(error)) / np.sum(
        (examples["targets"] - examples["targets"].mean()) ** 2
    )
    np.testing.assert_allclose(metrics["val_r2"], r2, rtol=1e-5)

    metrics = found("char_lm")["before"]
    np.testing.assert_allclose(
        metrics["val_bits_per_char"], metrics["val_loss"] * np.log2(np.e), rtol=1e-6
    )


@every_task
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_parameters_decide_the_precision(name, dtype, x64):
    task = built(name)

    def loss(key):
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), task.init(key))
        return task.loss(params, draw(task, 0, key))

    with x64:
        assert jax.eval_shape(loss, jax.random.key(0)).dtype == (
            jnp.float32 if _mixes(name, dtype) else dtype
        )


def _mixes(name, dtype):
    return name == "diabetes" and dtype == jnp.bfloat16  # targets are float32


# The networks.


def test_mlp_is_its_formula():
    network = MLP((3, 4, 2))
    params, x = jax.jit(network.init)(KEY), np.ones((5, 3), np.float32)
    one, two = params["dense_0"], params["dense_1"]
    hidden = np.maximum(x @ one["kernel"] + one["bias"][None], 0)
    np.testing.assert_allclose(
        network.apply(params, x), hidden @ two["kernel"] + two["bias"][None], rtol=1e-5
    )


@pytest.mark.parametrize("widths", [(64, 8), (64, 256, 8), (64, 256, 256, 256, 8)])
def test_networks_keep_the_scale_at_any_size(widths):
    network = MLP(widths)
    x = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    outputs = jax.jit(jax.vmap(lambda key: network.apply(network.init(key), x)))(
        jax.random.split(KEY, 8)
    )
    np.testing.assert_allclose(np.std(outputs), 0.1**0.5, rtol=0.25)


def test_cnn_takes_pictures_of_any_size_and_colour():
    network = CNN((6, 5, 3), (4,), outputs=7)
    outputs = lambda key: network.apply(network.init(key), np.ones((2, 6, 5, 3), np.float32))
    assert jax.eval_shape(outputs, KEY).shape == (2, 7)


@functools.cache
def transformer():
    network = Transformer(vocabulary=11, context=4, width=8, layers=2, heads=2)
    return jax.jit(network.apply), jax.jit(network.init)(KEY)


def test_transformer_sees_no_later_token():
    apply, params = transformer()
    tokens = np.array([[3, 1, 4, 1]])
    changed = np.concatenate([tokens, (tokens + np.eye(4, dtype=int)) % 11])
    logits, *others = np.asarray(apply(params, changed))
    assert logits.shape == (4, 11)
    for position, other in enumerate(others):
        np.testing.assert_array_equal(other[:position], logits[:position])
        assert np.all(np.any(other[position:] != logits[position:], axis=-1))
    short = apply(params, tokens[:, :3])
    np.testing.assert_allclose(short[0], logits[:3], rtol=1e-4, atol=1e-5)


def test_transformer_tells_positions_and_rows_apart():
    apply, params = transformer()
    logits = np.asarray(apply(params, np.array([[3, 3, 3, 3], [3, 5, 3, 3], [3, 5, 3, 3]])))
    assert not np.allclose(logits[0, 1], logits[0, 2])
    assert not np.allclose(logits[0, 1], logits[1, 1])
    np.testing.assert_allclose(logits[1], logits[2], rtol=1e-4, atol=1e-5)


# Errors.


@pytest.mark.parametrize("build", [lrax.tasks.digits, lrax.tasks.diabetes])
def test_without_scikit_learn(build, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(
        ImportError,
        match=rf'`lrax.tasks.{build.__name__}` needs scikit-learn: pip install "lrax\[demo\] @ git\+',
    ):
        build()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: lrax.tasks.digits("rnn"),
            ValueError,
            "`model` must be one of 'mlp', 'cnn', got 'rnn'",
        ),
        (
            lambda: lrax.tasks.digits(widths=32),
            TypeError,
            "`widths` must be a sequence of ints, got 32",
        ),
        (
            lambda: lrax.tasks.digits(widths=(32, 0)),
            ValueError,
            r"`widths\[1\]` must be at least 1, got 0",
        ),
        (
            lambda: lrax.tasks.digits("cnn", channels=(8.0,)),
            TypeError,
            r"`channels\[0\]` must be an int, got 8.0",
        ),
        (
            lambda: lrax.tasks.digits(batch_size=1438),
            ValueError,
            "`batch_size` must be at most .* 1437, got 1438",
        ),
        (
            lambda: lrax.tasks.digits(batch_size=0),
            ValueError,
            "`batch_size` must be at least 1, got 0",
        ),
        (
            lambda: lrax.tasks.digits(held_out=1),
            ValueError,
            "`held_out` must be between 0 and 1, both excluded, got 1",
        ),
        (
            lambda: lrax.tasks.digits(held_out=float("nan")),
            ValueError,
            "`held_out` must be between 0 and 1",
        ),
        (
            lambda: lrax.tasks.digits(held_out=0.001),
            ValueError,
            "`held_out` must leave at least 10 of 1797 examples",
        ),
        (
            lambda: lrax.tasks.digits(held_out="20%"),
            TypeError,
            "`held_out` must be a real number, got '20%'",
        ),
        (lambda: lrax.tasks.digits(seed=-1), ValueError, "`seed` must be at least 0, got -1"),
        (
            lambda: lrax.tasks.digits(seed=2**32),
            ValueError,
            "`seed` must be at most 4294967295, got 4294967296",
        ),
        (
            lambda: lrax.tasks.diabetes(widths="32"),
            TypeError,
            "`widths` must be a sequence of ints, got '32'",
        ),
        (
            lambda: lrax.tasks.diabetes(batch_size=400),
            ValueError,
            "`batch_size` must be at most .* 331, got 400",
        ),
        (
            lambda: lrax.tasks.diabetes(held_out=0.002),
            ValueError,
            "`held_out` must leave at least 2 of 442 examples",
        ),
        (
            lambda: lrax.tasks.digits(widths=(2**64,)),
            ValueError,
            r"`widths\[0\]` must be at most 2147483647, got 18446744073709551616",
        ),
        (lambda: lrax.tasks.digits(np.ones(2)), ValueError, "`model` must be one of 'mlp'"),
        (
            lambda: lrax.tasks.char_lm(width=64, heads=5),
            ValueError,
            "`width` must be a multiple of `heads`, got 64 and 5",
        ),
        (lambda: lrax.tasks.char_lm(layers=0), ValueError, "`layers` must be at least 1, got 0"),
        (lambda: lrax.tasks.char_lm(context=1.5), TypeError, "`context` must be an int, got 1.5"),
        (
            lambda: lrax.tasks.char_lm(held_out=0.0),
            ValueError,
            "`held_out` must be between 0 and 1",
        ),
        (
            lambda: lrax.tasks.char_lm(characters=500),
            ValueError,
            "`context` must be shorter than both .* 50 held out",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Task.


def test_task_requires_functions():
    def function(*arguments):
        return arguments

    for arguments, message in [
        ((1, function, function), "`init` must be a function, got 1"),
        ((function, None, function), "`loss` must be a function, got None"),
        ((function, function, 3), "`batch` must be .* got int"),
        (
            (function, function, function, "accuracy"),
            "`evaluate` must be a function or None, got 'accuracy'",
        ),
    ]:
        with pytest.raises(TypeError, match=message):
            lrax.Task(*arguments)
    with pytest.raises(TypeError, match="`stateful` must be a bool, got 1"):
        lrax.Task(function, function, function, stateful=1)


@pytest.mark.parametrize(
    ("loss", "stateful", "expected"),
    [
        (lambda params, batch: 0, False, False),
        (lambda params, batch, key: 0, False, True),
        (lambda params, batch, rng=None: 0, False, True),
        (lambda params, state, key: 0, False, True),
        (lambda params, batch, scale=1.0: 0, False, False),
        (lambda params, *rest: 0, False, True),
        (lambda params, batch, *, scale=1.0: 0, False, False),
        (lambda params, state, batch: 0, True, False),
        (lambda params, state, batch, key: 0, True, True),
        (jax.jit(lambda params, batch, key: 0), False, True),
        (jax.tree_util.Partial(lambda data, params, batch: 0, 1), False, False),
        (functools.partial(lambda data, params, batch, key: 0, 1), False, True),
    ],
)
def test_takes_key(loss, stateful, expected):
    assert takes_key(loss, 3 if stateful else 2, "loss") is expected


@pytest.mark.parametrize(
    ("loss", "stateful", "message"),
    [
        (
            lambda params: 0,
            False,
            r"`loss` must take \(params, batch\) and optionally a key, got \(params\)",
        ),
        (lambda params, batch: 0, True, r"`loss` must take \(params, state, batch\)"),
        (
            lambda params, state, batch: 0,
            False,
            r"got \(params, state, batch\); a model with a state needs `stateful=True`",
        ),
        (lambda p, s, b, k: 0, False, r"got \(p, s, b, k\); .* needs `stateful=True`"),
        (
            lambda params, batch, *, key: 0,
            False,
            "`loss` must take its arguments by position, got key by keyword only",
        ),
        (
            functools.partial(lambda params, scale, batch: 0, scale=1.0),
            False,
            "by position, got batch by keyword only",
        ),
    ],
)
def test_takes_key_refuses(loss, stateful, message):
    with pytest.raises(TypeError, match=message):
        takes_key(loss, 3 if stateful else 2, "loss")


@pytest.mark.parametrize("kind", [tuple, list])
def test_arrays_are_no_stream_of_batches(kind):
    batch = kind((np.zeros((4, 2)), np.zeros(4)))
    with pytest.raises(TypeError, match=r"`batch` must not be a .* of arrays; .*minibatches"):
        lrax.Task(lambda key: 0.0, lambda params, batch: params, batch)


def test_evaluate_may_take_a_key():
    assert takes_key(lambda params, key: {}, 1, "evaluate")
    assert not takes_key(lambda params: {}, 1, "evaluate")
    assert not takes_key(lambda params, scale=1.0: {}, 1, "evaluate")
    assert takes_key(lambda params, state, key: {}, 2, "evaluate")
    for forgotten in (lambda params, state: {}, lambda p, s, k: {}):
        with pytest.raises(TypeError, match=r"`evaluate` must take .* needs `stateful=True`"):
            takes_key(forgotten, 1, "evaluate")


@pytest.mark.parametrize("stateful", [False, True])
def test_a_loss_without_a_value_is_named(stateful):
    init = lambda key: (jnp.zeros(2), jnp.zeros(1)) if stateful else jnp.zeros(2)
    loss = (lambda params, state, batch: None) if stateful else (lambda params, batch: None)
    task = lrax.Task(init, loss, lambda step, key: step, stateful=stateful)
    run = lambda key: lrax.train(task, optax.sgd, steps=1)(0.1, key)
    with pytest.raises(TypeError, match=r"`loss` must return .* got None"):
        jax.eval_shape(run, KEY)


def test_a_state_without_a_pair_is_named():
    loss = lambda params, state, batch: (0.0, state)
    task = lrax.Task(lambda key: jnp.zeros(3), loss, lambda step, key: step, stateful=True)
    run = lambda key: lrax.train(task, optax.sgd, steps=1)(0.1, key)
    with pytest.raises(TypeError, match=r"`init` of a stateful task must return \(params, state\)"):
        jax.eval_shape(run, KEY)
