"""Batch sources, against plain integer arithmetic in Python."""

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from jax.tree_util import Partial

import lrax

KEY = jax.random.key(0)
# Examples and batch sizes: batches that straddle epochs, that divide them, of everything, and of
# one.
SIZES = [(10, 4), (12, 4), (7, 7), (9, 1), (11, 10)]


def source(examples: int, size: int, **keywords):
    return lrax.minibatches(np.arange(examples), size, **keywords)


def order(key, epoch: int, examples: int):
    return np.asarray(jax.random.permutation(jax.random.fold_in(key, np.uint32(epoch)), examples))


@pytest.mark.parametrize(("examples", "size"), SIZES)
def test_each_epoch_is_a_permutation(examples, size):
    stream = np.asarray(source(examples, size).ahead(0, 3 * examples, KEY)).reshape(
        3 * size, examples
    )
    np.testing.assert_array_equal(np.sort(stream), np.tile(np.arange(examples), (3 * size, 1)))
    np.testing.assert_array_equal(stream[0], order(KEY, 0, examples))
    assert not np.array_equal(stream[0], stream[1])


KEYS_AND_SIZES = [
    pytest.param(
        kind, sizes, marks=[pytest.mark.slow] if i % 2 or (i and kind != "threefry2x32") else []
    )
    for kind in ("threefry2x32", "rbg", "unsafe_rbg")
    for i, sizes in enumerate(SIZES)
]


@pytest.mark.parametrize(("kind", "examples_and_size"), KEYS_AND_SIZES)
def test_segments_equal_the_whole(examples_and_size, kind):
    # Of `rbg` keys, a vmap draws all numbers from the first: orders drawn so would depend on where
    # a segment begins.
    batches, key = source(*examples_and_size), jax.random.key(1, impl=kind)
    ahead, at = jax.jit(batches.ahead, static_argnums=1), jax.jit(batches.at)
    whole = ahead(0, 10, key)
    np.testing.assert_array_equal(whole, np.concatenate([ahead(0, 5, key), ahead(5, 5, key)]))
    for step in (0, 3, 9):
        np.testing.assert_array_equal(whole[step], at(step, key))
    assert batches.ahead(4, 0, key).shape == (0, examples_and_size[1])


def test_a_batch_reaches_into_the_next_epoch():
    first, second = order(KEY, 0, 10), order(KEY, 1, 10)
    np.testing.assert_array_equal(
        source(10, 4).ahead(2, 1, KEY)[0], np.concatenate([first[8:], second[:2]])
    )


def test_unshuffled_is_the_order_given():
    rows = source(10, 4, shuffle=False).ahead(1, 3, KEY)
    np.testing.assert_array_equal(rows, [[4, 5, 6, 7], [8, 9, 0, 1], [2, 3, 4, 5]])


def test_keys_differ_and_repeat():
    batches = source(50, 8)
    rows = batches.ahead(0, 6, KEY)
    np.testing.assert_array_equal(rows, batches.ahead(0, 6, jax.random.key(0)))
    assert not np.array_equal(rows, batches.ahead(0, 6, jax.random.key(1)))


@pytest.mark.parametrize("first", [2**31 - 1, 2**31 - 2, 2**30 + 7])
@pytest.mark.parametrize(
    ("examples", "size"), [(10, 4), (1000, 999), (46_000, 46_000), (2_000_000, 1000)]
)
def test_long_runs_do_not_overflow(examples, size, first):
    rows = source(examples, size, shuffle=False).ahead(first, 2, KEY)
    expected = (first * size + np.arange(2 * size)) % examples
    np.testing.assert_array_equal(rows, expected.reshape(2, size))


@pytest.mark.parametrize(("examples", "size"), [(10, 4), (13, 13)])
def test_long_runs_keep_their_epochs(examples, size):
    first = 2**31 - 1
    position = first * size + np.arange(2 * size)
    expected = [
        order(KEY, epoch, examples)[row]
        for epoch, row in zip(*divmod(position, examples), strict=True)
    ]
    np.testing.assert_array_equal(source(examples, size).ahead(first, 2, KEY).reshape(-1), expected)


def test_a_traced_step_and_data_as_an_argument():
    traces = 0

    @jax.jit
    def draw(batches, step, key):
        nonlocal traces
        traces += 1
        return batches.at(step, key)

    for data in (np.arange(10.0, dtype=np.float32), np.arange(10.0, 20.0, dtype=np.float32)):
        batches = lrax.minibatches({"x": data}, 4)
        for step in (0, 1, 7):
            chex.assert_trees_all_equal(draw(batches, np.int32(step), KEY), batches.at(step, KEY))
    assert traces == 1


def test_x64(x64):
    with x64:
        batches = source(10, 4)
        rows = batches.ahead(3, 2, jax.random.key(0))
        assert rows.dtype == np.int32
        np.testing.assert_array_equal(
            rows, np.concatenate([batches.ahead(s, 1, jax.random.key(0)) for s in (3, 4)])
        )


def test_lanes_of_keys_and_of_steps():
    batches, keys = source(10, 4), jax.random.split(KEY, 3)
    lanes = jax.vmap(batches.ahead, in_axes=(0, None, 0))(np.arange(3), 5, keys)
    for lane, key in enumerate(keys):
        np.testing.assert_array_equal(lanes[lane], batches.ahead(lane, 5, key))


def test_is_a_pytree_of_the_arrays_given():
    arrays = {"x": np.zeros((6, 2), np.float32), "y": (np.zeros(6, np.int32),)}
    batches = lrax.minibatches(arrays, 2)
    assert all(
        leaf is array
        for leaf, array in zip(jax.tree.leaves(batches), jax.tree.leaves(arrays), strict=True)
    )
    assert batches.examples == 6
    assert jax.tree.structure(batches) == jax.tree.structure(lrax.minibatches(arrays, 2))
    assert jax.tree.structure(batches) != jax.tree.structure(lrax.minibatches(arrays, 3))
    assert jax.tree.structure(batches) != jax.tree.structure(
        lrax.minibatches(arrays, 2, shuffle=False)
    )
    batch = batches.at(0, KEY)
    chex.assert_shape([batch["x"], batch["y"][0]], [(2, 2), (2,)])


def test_keeps_examples_together():
    batch = lrax.minibatches((np.arange(20), np.arange(20) ** 2), 5).at(3, KEY)
    np.testing.assert_array_equal(batch[0] ** 2, batch[1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (({}, 1), ValueError, "`arrays` must be a pytree of arrays with a first axis"),
        ((np.float32(1), 1), ValueError, "`arrays` must be a pytree of arrays with a first axis"),
        (
            ((np.zeros(3), np.zeros(4)), 1),
            ValueError,
            r"share the length of their first axis, got shapes \[\(3,\), \(4,",
        ),
        ((np.array(["a", "b"]), 1), TypeError, "`arrays` must be of numbers, got dtypes <U1"),
        ((np.zeros(4, [("a", "f4")]), 1), TypeError, "`arrays` must be of numbers, got dtypes"),
        ((np.zeros(3), 0), ValueError, "`size` must be at least 1, got 0"),
        ((np.zeros(3), 4), ValueError, "`size` must be at most the 3 examples of `arrays`, got 4"),
        ((np.zeros(3), 2.0), TypeError, "`size` must be an int, got 2.0"),
        (
            (np.broadcast_to(np.int8(0), 2**20), 2**11),
            ValueError,
            r"must be below 2\^31, got 2048 times 1048576",
        ),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        lrax.minibatches(*arguments)


def test_shuffle_is_a_bool():
    with pytest.raises(TypeError, match="`shuffle` must be a bool, got 1"):
        lrax.minibatches(np.zeros(3), 1, shuffle=1)


def shifted(batch, key):
    return {"x": batch["x"] + jax.random.uniform(key)}


def test_a_transform_has_a_key_of_its_own_in_every_step():
    plain = lrax.minibatches({"x": np.zeros(12)}, size=4)
    moved = lrax.minibatches({"x": np.zeros(12)}, size=4, transform=shifted)
    key = jax.random.key(0)
    at = jax.jit(moved.at)
    drawn = [float(at(step, key)["x"][0]) for step in range(20)]
    assert len(set(drawn)) == 20
    assert drawn == [float(at(step, key)["x"][0]) for step in range(20)]
    assert drawn != [float(at(step, jax.random.key(1))["x"][0]) for step in range(20)]
    # The examples are those that come without it, in the same order.
    np.testing.assert_array_equal(moved.ahead(3, 5, key), plain.ahead(3, 5, key))


def test_a_transform_augments_training_and_not_evaluation():
    x = np.linspace(-1.0, 1.0, 32, dtype=np.float32)
    seen = []

    def augmented(batch, key):
        seen.append(batch)
        return {**batch, "y": batch["y"] + 100.0}

    task = lrax.Task(
        init=lambda key: jnp.zeros(()),
        loss=lambda slope, batch: jnp.mean((slope * batch["x"] - batch["y"]) ** 2),
        batch=lrax.minibatches({"x": x, "y": 3 * x}, size=8, transform=augmented),
        evaluate=lambda slope: {"val_loss": jnp.mean((slope * x - 3 * x) ** 2)},
    )
    result = lrax.sweep(task, optax.sgd, [0.0], steps=4)
    assert seen
    assert (result.losses > 9000).all()
    np.testing.assert_allclose(result.metrics["val_loss"], np.mean((3 * x) ** 2), rtol=1e-5)


def test_the_arrays_of_a_transform_are_data():
    mean = np.full(3, 2.0, np.float32)
    centred = Partial(lambda mean, batch, key: {"x": batch["x"] - mean[None]}, mean)
    batches = lrax.minibatches({"x": np.ones((6, 3))}, size=2, transform=centred)
    assert any(leaf is mean for leaf in jax.tree.leaves(batches))
    np.testing.assert_array_equal(batches.at(0, jax.random.key(0))["x"], np.full((2, 3), -1.0))
    with pytest.raises(TypeError, match=r"`transform` must be a function of \(batch, key\)"):
        lrax.minibatches({"x": np.ones(6)}, size=2, transform=3)
