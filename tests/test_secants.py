"""`controllers.adgd` and `controllers.barzilai_borwein`: rates from two gradients of one batch."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax

adgd = lrax.controllers.adgd
barzilai_borwein = lrax.controllers.barzilai_borwein


def adgd_in_numpy(gradient, x, rate, steps, variant):
    """The papers' algorithms, as printed."""
    rates, ratio = [rate], np.inf if variant == "2020" else 1 / 3
    before, x = x, x - rate * gradient(x)
    while len(rates) < steps:
        curvature = np.linalg.norm(gradient(x) - gradient(before)) / np.linalg.norm(x - before)
        if variant == "2020":
            new = min(np.sqrt(1 + ratio) * rate, 1 / (2 * curvature))
        else:
            under = 2 * rate**2 * curvature**2 - 1
            new = np.sqrt(2 / 3 + ratio) * rate
            new = min(new, rate / np.sqrt(under)) if under > 0 else new
        ratio, rate = new / rate, new
        before, x = x, x - rate * gradient(x)
        rates.append(rate)
    return rates, x


def barzilai_borwein_in_numpy(gradient, x, rate, steps, variant, reach=1.0):
    """The stabilised method, as printed: the bound is infinite in the first four iterations."""
    places, gradients, rates = [x], [gradient(x)], []
    for k in range(steps):
        fitted = rate
        if k:
            s, y = places[-1] - places[-2], gradients[-1] - gradients[-2]
            fitted = s @ s / (s @ y) if variant == "long" else s @ y / (y @ y)
        bound = np.inf
        if k >= 4:
            lengths = [np.linalg.norm(places[i + 1] - places[i]) for i in (1, 2, 3)]
            bound = reach * min(lengths) / np.linalg.norm(gradients[-1])
        rates.append(min(fitted, bound))
        places.append(places[-1] - rates[-1] * gradients[-1])
        gradients.append(gradient(places[-1]))
    return rates, places[-1]


RULES = {
    "adgd": (adgd, adgd_in_numpy, {"variant": "2020"}),
    "adgd of 2024": (adgd, adgd_in_numpy, {"variant": "2024"}),
    "long": (barzilai_borwein, barzilai_borwein_in_numpy, {"variant": "long"}),
    "short": (barzilai_borwein, barzilai_borwein_in_numpy, {"variant": "short"}),
}
two_of_four = pytest.mark.parametrize(
    "name",
    ["adgd", "long", *(pytest.param(n, marks=pytest.mark.slow) for n in ("adgd of 2024", "short"))],
)
CURVATURES = np.array([1.0, 3.0, 10.0, 30.0])
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(20, 4))
LOSSES = {
    "quadratic": lambda x: jnp.sum(CURVATURES * x**2) / 2,
    "logistic": lambda x: jnp.mean(jnp.logaddexp(0, ROWS @ x)) + 0.005 * jnp.sum(x**2),
}


def descent(rule, loss, x, steps):
    """Rates and the last parameters of gradient descent by this rule."""
    optimizer = lrax.scale_by_lr(rule)
    gradient = jax.grad(loss)

    def body(carry, _):
        x, state = carry
        updates, state = optimizer.update(gradient(x), state, x, grad_fn=gradient)
        return (optax.apply_updates(x, updates), state), lrax.get_lr(state)

    run = lambda x: jax.lax.scan(body, (x, optimizer.init(x)), None, steps)
    (x, _), rates = jax.jit(run)(jnp.asarray(x))
    return np.asarray(rates), np.asarray(x)


@pytest.mark.parametrize("problem", ["quadratic", pytest.param("logistic", marks=pytest.mark.slow)])
def test_trajectories_are_those_of_the_papers(problem, x64):
    loss, start = LOSSES[problem], np.array([1.0, -2.0, 0.5, 1.5])
    with x64:
        gradient = jax.jit(jax.grad(loss))
        for make, in_numpy, words in RULES.values():
            rates, x = descent(make(1e-3, **words), loss, start, 20)
            wanted, end = in_numpy(lambda x: np.asarray(gradient(x)), start, 1e-3, 20, **words)
            np.testing.assert_allclose(rates, wanted, rtol=1e-5)
            np.testing.assert_allclose(x, end, rtol=1e-5, atol=1e-9)


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


# Updates until the parameters are near the minimum: measured, with a margin.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "quadratic", "valley"),
    [("adgd", 250, 5000), ("adgd of 2024", 250, 5000), ("long", 60, 3000), ("short", 60, 3000)],
)
def test_they_converge(name, quadratic, valley, x64):
    make, _, words = RULES[name]
    with x64:
        _, x = descent(make(1e-4, **words), LOSSES["quadratic"], np.ones(4), quadratic)
        assert np.abs(x).max() < 1e-5
        _, x = descent(make(1e-4, **words), rosenbrock, np.array([-1.2, 1.0]), valley)
        np.testing.assert_allclose(x, 1, atol=1e-3)


@two_of_four
def test_the_noise_of_batches_is_no_curvature(name):
    # Each batch has its own minimum, and all have the curvature 4. Gradients of two batches differ
    # by far more than the step is worth.
    make, _, words = RULES[name]
    words = words if make is adgd else {**words, "reach": np.inf}
    optimizer = lrax.scale_by_lr(make(0.01, **words))
    minima = 100 * np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)

    def body(carry, minimum):
        x, state = carry
        loss = lambda x: 2 * jnp.sum((x - minimum) ** 2)
        updates, state = optimizer.update(jax.grad(loss)(x), state, x, value_fn=loss)
        return (optax.apply_updates(x, updates), state), lrax.get_lr(state)

    start = jnp.zeros(3)
    rates = jax.jit(lambda: jax.lax.scan(body, (start, optimizer.init(start)), minima)[1])()
    if name == "adgd of 2024":  # it goes beyond 1 / 4 where the last rate was below
        assert np.all((rates[-4:] > 0.1) & (rates[-4:] < 0.5))
    else:
        np.testing.assert_allclose(rates[-4:], 1 / 8 if name == "adgd" else 1 / 4, rtol=1e-4)


@two_of_four
def test_what_is_not_finite_leaves_the_state_sound(name):
    make, _, words = RULES[name]
    optimizer = lrax.scale_by_lr(make(0.01, **words))
    gradient = jax.grad(LOSSES["quadratic"])
    x = jnp.ones(4)
    update = jax.jit(
        lambda x, state, factor: optimizer.update(
            factor * gradient(x), state, x, grad_fn=lambda x: factor * gradient(x)
        )
    )
    state = optimizer.init(x)
    for _ in range(3):
        updates, state = update(x, state, 1.0)
        x = optax.apply_updates(x, updates)
    good = state.rule
    for bad in (np.nan, np.inf):
        _, state = update(x, state, bad)
        assert jax.tree.map(np.shape, state.rule) == jax.tree.map(np.shape, good)
        for after, before in zip(jax.tree.leaves(state.rule), jax.tree.leaves(good), strict=True):
            np.testing.assert_array_equal(after, before)
    _, state = update(jnp.full(4, np.nan), state, 1.0)
    np.testing.assert_array_equal(state.rule.params, good.params)
    # Where the parameters did not move, or the gradient did not change, the rate stays.
    rate = lrax.get_lr(update(good.params, state._replace(rule=good), 1.0)[1])
    np.testing.assert_array_equal(rate, good.rate)


@pytest.mark.parametrize("make", [adgd, barzilai_borwein])
def test_what_they_need_is_named(make):
    optimizer = lrax.scale_by_lr(make(0.1))
    state = optimizer.init(jnp.ones(2))
    with pytest.raises(TypeError, match="`grad_fn` or `value_fn` must be given to `update`"):
        optimizer.update(jnp.ones(2), state, jnp.ones(2))
    with pytest.raises(TypeError, match="`params` must be given to `update`"):
        optimizer.update(jnp.ones(2), state, grad_fn=jnp.sign)
    masked = optax.masked(optimizer, {"w": True, "b": False})
    with pytest.raises(TypeError, match="`params` must be all parameters"):
        masked.init({"w": jnp.ones(2), "b": jnp.ones(2)})
    with pytest.raises(ValueError, match="`init_rate` must be finite and positive, got 0"):
        make(0.0)
    with pytest.raises(ValueError, match="`variant` must be one of"):
        make(0.1, variant="fast")
    with pytest.raises(ValueError, match="`reach` must be at least 0"):
        barzilai_borwein(0.1, reach=-1.0)


def test_a_concave_stretch_keeps_the_rate():
    rates, _ = descent(barzilai_borwein(0.01), lambda x: -jnp.sum(x**2), np.ones(2), 5)
    np.testing.assert_allclose(rates, 0.01, rtol=1e-6)


@pytest.mark.slow
def test_a_run_hands_over_all_they_need():
    task = lrax.tasks.diabetes()
    make = lambda init_rate: lrax.scale_by_lr(adgd(init_rate))
    train = lrax.train(task, make, steps=20, monitors=[lrax.monitors.learning_rate])
    trained = jax.jit(train)(1e-4, jax.random.key(0))
    rates = trained.monitors["learning_rate"]
    assert rates[0] == np.float32(1e-4)
    assert np.all(rates[5:] > 0.01)
    assert trained.losses[-1] < trained.losses[0]
