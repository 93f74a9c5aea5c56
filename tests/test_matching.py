"""The rate at which one optimizer's updates are as large as another's."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax
from lrax import scaling

STEPS = 8
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "b": jnp.ones(3)}


def recorded(seed=0, steps=STEPS):
    """Gradients whose sizes differ from step to step and from layer to layer."""
    random = np.random.default_rng(seed)
    sizes = np.exp(random.normal(size=steps))
    return {
        name: jnp.asarray(
            scale * sizes.reshape(-1, *[1] * leaf.ndim) * random.normal(size=(steps, *leaf.shape)),
            jnp.float32,
        )
        for (name, leaf), scale in zip(PARAMS.items(), (0.01, 0.3), strict=True)
    }


def shampoo(epsilon=1e-3):
    """A Kronecker-preconditioned direction: L^(-1/4) G R^(-1/4), and a root for vectors."""

    def root(matrix, power):
        values, vectors = jnp.linalg.eigh(matrix)
        return (vectors * jnp.maximum(values, epsilon)[None] ** power) @ vectors.T

    def init(params):
        square = lambda leaf: tuple(epsilon * jnp.eye(size) for size in leaf.shape)
        return jax.tree.map(square, params)

    def one(gradient, factors):
        matrix = gradient if gradient.ndim == 2 else gradient[:, None]
        products = (matrix @ matrix.T, matrix.T @ matrix)
        factors = tuple(a + b for a, b in zip(factors, products, strict=False))
        power = -1 / (2 * len(factors))
        moved = root(factors[0], power) @ matrix
        if len(factors) == 2:
            moved = moved @ root(factors[1], power)
        return moved.reshape(gradient.shape), factors

    def update(updates, state, params=None):
        del params
        found = {name: one(updates[name], state[name]) for name in updates}
        return tuple({name: pair[i] for name, pair in found.items()} for i in range(2))

    return optax.GradientTransformation(init, update)


GRADIENTS = recorded()
OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.5),
    "adam": lambda rate: optax.adam(rate, b1=0.5, b2=0.9),
    "adamw": lambda rate: optax.adamw(rate, b1=0.5, b2=0.9, weight_decay=0.3),
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
    "lion": optax.lion,
    "muon": optax.contrib.muon,
    "shampoo": lambda rate: optax.chain(shampoo(), optax.scale_by_learning_rate(rate)),
    "a direction": optax.scale_by_adam(b1=0.5, b2=0.9),
    "ours": lambda rate: optax.chain(optax.scale_by_adam(b1=0.5), lrax.scale_by_lr(rate)),
}


def sizes(optimizer, rate, skip, gradients=GRADIENTS):
    """The RMS of all updates from a step on, by a plain loop."""
    made, factor = (optimizer, rate) if hasattr(optimizer, "init") else (optimizer(rate), 1.0)
    update = jax.jit(made.update)
    state = made.init(PARAMS)
    squares = []
    for i in range(STEPS):
        updates, state = update(jax.tree.map(lambda leaf: leaf[i], gradients), state, PARAMS)  # noqa: B023
        squares.append(
            {name: np.asarray(factor * leaf, float).ravel() for name, leaf in updates.items()}
        )
    kept = {name: np.concatenate([row[name] for row in squares[skip:]]) for name in PARAMS}
    rms = lambda values: np.sqrt(np.mean(values**2))
    return rms(np.concatenate(list(kept.values()))), {
        name: rms(values) for name, values in kept.items()
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_at_the_matching_rate_are_of_one_size(name):
    optimizer = OPTIMIZERS[name]
    for skip in (None, 0):
        found = scaling.matching_rate(optax.sgd, optimizer, PARAMS, GRADIENTS, 0.2, skip=skip)
        assert found.shape == ()
        skipped = STEPS // 2 if skip is None else skip
        wanted, _ = sizes(optax.sgd, 0.2, skipped)
        np.testing.assert_allclose(sizes(optimizer, found, skipped)[0], wanted, rtol=1e-5)
    again = scaling.matching_rate(optax.sgd, optimizer, PARAMS, GRADIENTS, 0.6, skip=0)
    np.testing.assert_allclose(again, 3 * found, rtol=1e-5)
    back = scaling.matching_rate(optimizer, optax.sgd, PARAMS, GRADIENTS, found, skip=0)
    np.testing.assert_allclose(back, 0.2, rtol=1e-5)


def test_against_the_sign_it_is_the_size_of_the_gradients():
    found = scaling.matching_rate(optax.sgd, optax.sign_sgd, PARAMS, GRADIENTS, 0.2, skip=3)
    kept = np.concatenate([np.asarray(leaf)[3:].ravel() for leaf in GRADIENTS.values()])
    np.testing.assert_allclose(found, 0.2 * np.sqrt(np.mean(kept**2)), rtol=1e-6)
    lion = optax.scale_by_lion()
    same = scaling.matching_rate(optax.sign_sgd, lion, PARAMS, GRADIENTS, 0.2)
    np.testing.assert_allclose(same, 0.2, rtol=1e-6)


def test_each_group_has_its_own_rate():
    optimizer = OPTIMIZERS["adam"]
    options = dict(skip=2, group=lambda path: f"group {path}")
    found = scaling.matching_rate(optax.sgd, optimizer, PARAMS, GRADIENTS, 0.2, **options)
    assert list(found) == ["group b", "group w"]
    for name in PARAMS:
        wanted = sizes(optax.sgd, 0.2, 2)[1][name]
        got = sizes(optimizer, found[f"group {name}"], 2)[1][name]
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_it_is_a_function_of_numbers_under_jit_and_vmap():
    make = lambda gradients, rate: scaling.matching_rate(
        optax.sgd, OPTIMIZERS["adam"], PARAMS, gradients, rate
    )
    several = jax.tree.map(lambda *leaves: jnp.stack(leaves), GRADIENTS, recorded(seed=1))
    rates = jnp.array([0.2, 0.1])
    lanes = jax.jit(jax.vmap(make))(several, rates)
    alone = [make(GRADIENTS, 0.2), make(recorded(seed=1), 0.1)]
    np.testing.assert_allclose(lanes, alone, rtol=1e-6)
    standing = jax.tree.map(jnp.zeros_like, GRADIENTS)
    assert np.isnan(jax.jit(make)(standing, 0.1))


def test_a_second_call_compiles_nothing():
    calls = []

    def optimizer(rate):
        calls.append(rate)
        return optax.sgd(rate)

    for rate in (0.1, 0.2):
        scaling.matching_rate(optimizer, optax.lion, PARAMS, GRADIENTS, rate)
    assert len(calls) == 1


def test_low_precision_is_measured_in_single_precision(x64):
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (PARAMS, GRADIENTS))
    found = scaling.matching_rate(optax.sgd, optax.sign_sgd, *low, 0.2)
    kept = np.concatenate([np.asarray(leaf)[STEPS // 2 :].ravel() for leaf in GRADIENTS.values()])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 0.2 * np.sqrt(np.mean(kept**2)), rtol=1e-2)
    with x64:
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (PARAMS, GRADIENTS))
        found = scaling.matching_rate(optax.sgd, optax.sign_sgd, *wide, 0.2)
        assert found.dtype == np.float64


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"gradients": PARAMS}, ValueError, "`gradients` must have the shapes of `params` behind"),
        ({"skip": STEPS}, ValueError, f"`skip` must be at most {STEPS - 1}"),
        ({"optimizer_b": lambda rate: rate}, TypeError, "`optimizer_b` must return an optax"),
        ({"optimizer_a": 0.1}, TypeError, "`optimizer_a` must be a function of the rate"),
        (
            {"gradients": {**GRADIENTS, "b": jnp.zeros((STEPS, 3))}, "group": str},
            ValueError,
            "updates of the group 'b' of RMS 0.0",
        ),
        (
            {"gradients": jax.tree.map(lambda leaf: leaf[:0], GRADIENTS)},
            ValueError,
            "`gradients` must have at least one step",
        ),
    ],
)
def test_what_cannot_be_matched_is_named(changed, error, words):
    arguments = {
        "optimizer_a": optax.sgd,
        "optimizer_b": optax.lion,
        "params": PARAMS,
        "gradients": GRADIENTS,
        "rate": 0.1,
    }
    with pytest.raises(error, match=words):
        scaling.matching_rate(**{**arguments, **changed})
