"""Compiled programs are kept for the next sweep, and hold nothing of the user's alive."""

import dataclasses
import functools
import gc
import weakref
from decimal import Decimal
from fractions import Fraction

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax
from lrax.sweeps.engine import cache
from lrax.sweeps.engine.cache import Reference, cached, reference
from lrax.sweeps.engine.engine import Programs

TASK = problems.regression()


@pytest.fixture(autouse=True)
def empty():
    cache.clear()
    yield
    cache.clear()


def swept(task=TASK, optimizer=optax.sgd, **options):
    return lrax.sweep(task, optimizer, [0.01, 0.1], **{"steps": 4, **options})


def compiled():
    """How many sets of programs are kept."""
    return sum(isinstance(value, Programs) for value, _ in cache._entries.values())


def made(key, size=1):
    """How often a value is made under a key, in two calls."""
    calls = []
    for _ in range(2):
        cached(key, lambda: calls.append(None) or object(), lambda _: size)
    return len(calls)


def test_a_value_is_made_once():
    assert made(("a", 1)) == 1
    assert made(("a", 1)) == 0
    assert made(("a", 2)) == 1


def test_an_entry_goes_with_its_function():
    function = lambda: None
    assert made(("a", (Reference(function), 1))) == 1
    assert len(cache._entries) == 1
    del function
    gc.collect()
    assert len(cache._entries) == 0


def test_references_compare_as_their_functions_do():
    first, second = lambda: None, lambda: None
    assert Reference(first) == Reference(first)
    assert hash(Reference(first)) == hash(Reference(first))
    assert Reference(first) != Reference(second)
    bound = problems.regression().loss
    assert Reference(bound) == Reference(bound)
    assert Reference(len) == Reference(len)  # a built-in
    assert Reference(first) != first


def test_the_oldest_leave_when_there_is_no_room(monkeypatch):
    monkeypatch.setattr(cache, "BYTES", 100)
    assert [made((name,), size=40) for name in "abc"] == [1, 1, 1]
    assert made(("b",), size=40) == 0
    assert made(("a",), size=40) == 1  # the oldest of three, so it had left
    assert made(("c",), size=40) == 1  # not used for longer than b
    assert made(("large",), size=1000) == 1  # too large, and kept alone
    assert len(cache._entries) == 1


@pytest.mark.skipif(
    jax.__version_info__ < (0, 10),
    reason="jax 0.7 keeps static arguments when it clears its caches",
)
@pytest.mark.slow
def test_clearing_the_caches_of_jax_clears_it():
    swept()
    assert len(cache._entries) > 0
    jax.clear_caches()
    assert len(cache._entries) == 0
    swept()
    assert len(cache._entries) > 0


def test_a_callable_without_a_hash_is_swept_and_not_kept():
    @dataclasses.dataclass  # with an equality, and so without a hash
    class Loss:
        factor: float

        def __call__(self, params, batch):
            return self.factor * problems.squared_error(params, batch)

    with pytest.raises(TypeError, match="unhashable"):
        hash(Loss(1.0))
    result = swept(problems.regression(loss=Loss(1.0), evaluate=None))
    np.testing.assert_allclose(result.losses, swept().losses, rtol=1e-6)


def test_tasks_that_are_built_alike_share_their_programs():
    swept(problems.regression())
    count = len(cache._entries)
    again = swept(problems.regression())
    assert len(cache._entries) == count
    # Other data of the same shape is no part of the programs.
    other = lrax.minibatches({"x": problems.X, "y": 0 * problems.Y}, size=8)
    result = swept(problems.regression(batch=other))
    assert len(cache._entries) == count
    assert not np.array_equal(result.losses, again.losses)


def test_nothing_that_a_function_closes_over_outlives_it():
    class Data:
        """An array that can be referenced weakly."""

        def __init__(self):
            self.x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)

    def task(data):
        loss = lambda params, batch: problems.squared_error(params, batch)
        evaluate = lambda params: {"val_loss": jnp.mean((data.x @ params["w"]) ** 2)}
        return problems.regression(loss=loss, evaluate=evaluate)

    data = Data()
    trained = task(data)
    swept(trained)
    kept = weakref.ref(data)
    del data, trained
    gc.collect()
    assert kept() is None
    assert len(cache._entries) == 0


def test_a_function_that_is_swept_may_be_forgotten():
    def forget():
        factor = np.ones(1000, np.float32)
        function = lambda hyperparams, key: {"loss": hyperparams["rate"] * factor.sum()}
        lrax.sweep_function(function, {"rate": [1.0, 2.0]}, objective="loss")
        assert len(cache._entries) == 1

    forget()
    gc.collect()
    assert len(cache._entries) == 0


def adam(b1, learning_rate):
    return optax.adam(learning_rate, b1)


def test_a_partial_is_what_it_is_made_of():
    """A partial made anew finds the programs of an equal one, and keeps no argument alive."""
    for b1, programs in [(0.9, 1), (0.9, 1), (0.8, 2)]:
        swept(optimizer=functools.partial(adam, b1))
        assert compiled() == programs
    assert reference(functools.partial(adam, 1)) != reference(functools.partial(adam, 1.0))
    assert reference(functools.partial(adam, True)) != reference(functools.partial(adam, 1))
    for one, other in [((1,), (1.0,)), (np.float32(1), np.float64(1)), (Fraction(1), Decimal(1))]:
        assert one == other
        assert reference(one) == reference(one)
        assert reference(one) != reference(other)
    with_array = functools.partial(adam, np.ones(2))
    assert isinstance(reference(with_array), Reference)  # an array has no hash
    argument = lambda: None
    assert made((reference(functools.partial(adam, (argument,))),)) == 1
    before = len(cache._entries)
    del argument
    gc.collect()
    assert len(cache._entries) == before - 1


def test_a_second_range_test_compiles_nothing():
    task = lrax.tasks.diabetes()
    calls = [(0.1, None, 1), (0.2, None, 1), (1.0, "val_loss", 2), (2.0, "val_loss", 2)]
    for end, validation, programs in calls:
        lrax.range_test(task, optax.sgd, start=1e-3, end=end, steps=20, validation=validation)
        assert compiled() == programs
