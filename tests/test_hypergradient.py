"""`controllers.hypergradient`: its three kinds as their papers have them."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax

hypergradient = lrax.controllers.hypergradient
CURVATURES = np.array([0.1, 1.0, 2.0])
START = np.array([3.0, -2.0, 1.0])


def quadratic(x):
    return 0.5 * jnp.sum(jnp.asarray(CURVATURES) * x**2)


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def descent(rule, steps, loss=quadratic, start=START, before=None):
    """The rates, and the parameters at the end."""
    optimizer = lrax.scale_by_lr(rule)
    if before is not None:
        optimizer = optax.chain(before, optimizer)
    value_and_grad = jax.value_and_grad(loss)

    def body(carry, _):
        x, state = carry
        value, grad = value_and_grad(x)
        updates, state = optimizer.update(
            grad, state, x, value=value, grad=grad, value_fn=loss, grad_fn=jax.grad(loss)
        )
        return (optax.apply_updates(x, updates), state), lrax.get_lr(state)

    start = jnp.asarray(start)
    scan = jax.jit(lambda x: jax.lax.scan(body, (x, optimizer.init(x)), length=steps))
    (x, _), rates = scan(start)
    return np.asarray(rates), np.asarray(x)


class AdamOfNumpy:
    """Adam's direction: Kingma and Ba 2015, algorithm 1."""

    def __init__(self):
        self.first, self.second, self.t = 0.0, 0.0, 0

    def __call__(self, g):
        self.t += 1
        self.first = 0.9 * self.first + 0.1 * g
        self.second = 0.999 * self.second + 0.001 * g**2
        mean, square = self.first / (1 - 0.9**self.t), self.second / (1 - 0.999**self.t)
        return mean / (np.sqrt(square) + 1e-8)


def of_baydin(rate, hyper_rate, kind, steps, direction):
    """SGD-HD and Adam-HD, algorithms 4 and 6 of Baydin et al. 2018, and the multiplicative rule."""
    x, last, rates = START, np.zeros(3), []
    for _ in range(steps):
        g = CURVATURES * x
        h = g @ last
        if kind == "additive":
            rate = rate + hyper_rate * h
        elif last.any():
            rate = rate * (1 + hyper_rate * h / (np.linalg.norm(g) * np.linalg.norm(last)))
        last = direction(g)
        x = x - rate * last
        rates.append(rate)
    return np.array(rates), x


def of_chu(rate, hyper_rate, steps):
    """HDM with a scalar rate, AdaGrad and the null step, as the authors' programs have it."""
    f = lambda x: 0.5 * np.sum(CURVATURES * x**2)
    x, squares, rates = START, 0.0, []
    for _ in range(steps):
        g = CURVATURES * x
        half = x - rate * g
        lower = f(half) < f(x)
        rates.append(rate if lower else 0.0)
        slope = (CURVATURES * half) @ g / (g @ g)
        squares += slope**2
        rate = max(rate + hyper_rate * slope / np.sqrt(squares + 1e-20), 0.0)
        x = half if lower else x
    return np.array(rates), x


BAYDIN = {
    "additive": ("additive", 0.1, 0.01, None),
    "multiplicative": ("multiplicative", 0.05, 0.1, None),
    "additive for Adam": ("additive", 0.01, 1e-3, AdamOfNumpy),
    "multiplicative for Adam": ("multiplicative", 0.01, 0.05, AdamOfNumpy),
}


@pytest.mark.parametrize("name", BAYDIN)
def test_hypergradient_is_baydins(name, x64):
    kind, rate, hyper_rate, direction = BAYDIN[name]
    before = None if direction is None else optax.scale_by_adam()
    with x64:
        rates, x = descent(hypergradient(rate, hyper_rate, kind=kind), 40, before=before)
    expected, at_end = of_baydin(rate, hyper_rate, kind, 40, direction() if direction else np.copy)
    np.testing.assert_allclose(rates, expected, rtol=1e-9)
    np.testing.assert_allclose(x, at_end, rtol=1e-9)
    assert rates.max() > 1.2 * rate


def test_hypergradient_is_chus(x64):
    with x64:
        rates, x = descent(hypergradient(0.1, 0.6, kind="hdm"), 40)
    expected, at_end = of_chu(0.1, 0.6, 40)
    np.testing.assert_allclose(rates, expected, rtol=1e-9)
    np.testing.assert_allclose(x, at_end, rtol=1e-9)
    assert (rates == 0).any()
    assert (rates > 0).sum() > 20


def test_a_rate_that_is_too_low_rises_and_one_too_high_falls():
    # The best constant rate is 2 / (0.1 + 2).
    for kind, hyper_rate in (("additive", 0.01), ("multiplicative", 0.05)):
        low, x = descent(hypergradient(0.01, hyper_rate, kind=kind), 200)
        assert quadratic(x) < 0.2 * quadratic(0.99**200 * START)
        assert low[-1] > 0.1
    high, _ = descent(hypergradient(0.98, 0.02, kind="multiplicative"), 60, start=[0, 0, 1.0])
    assert high[-1] < 0.7


@pytest.mark.parametrize("hyper_rate", [0.05, 0.5, 50.0])
def test_hdm_converges_with_any_hyper_rate(hyper_rate):
    # Its null step makes every rate safe: the loss never rises.
    rates, x = descent(hypergradient(0.0, hyper_rate, kind="hdm"), 400)
    assert quadratic(x) < 1e-9
    assert rates[0] == 0
    assert 0.3 < np.median(rates[20:200]) < 2.5


def test_hdm_descends_rosenbrocks_valley():
    start = np.array([-1.2, 1.0])
    _, x = descent(hypergradient(0.0, 0.1, kind="hdm"), 4000, rosenbrock, start)
    assert rosenbrock(x) < 0.02


def test_hdm_halves_the_rate_of_a_step_to_a_loss_that_is_not_finite():
    loss = lambda x: jnp.sum(x**2) + jnp.where(jnp.max(jnp.abs(x)) > 10, jnp.nan, 0.0)
    rates, x = descent(hypergradient(64.0, 1.0, kind="hdm"), 60, loss, np.array([2.0, 1.0]))
    assert rates[0] == 0
    assert loss(x) < 1e-3


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_the_rate_does_not_fall_below_0(kind):
    rates, _ = descent(hypergradient(1.5, 3.0, kind=kind), 20, start=[0, 0, 1.0])
    assert rates.min() == 0


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "hdm"])
def test_nan_leaves_the_state_sound(kind):
    optimizer = lrax.scale_by_lr(hypergradient(0.1, 0.02, kind=kind))
    params = jnp.ones(3)
    functions = {"value_fn": quadratic, "grad_fn": jax.grad(quadratic)}

    def update(gradient, state):
        given = {"grad": gradient, "value": quadratic(params), **functions}
        return optimizer.update(gradient, state, params, **given)[1]

    good = update(jnp.ones(3), optimizer.init(params))
    for bad in (jnp.array([1.0, jnp.nan, 1.0]), jnp.full(3, jnp.inf)):
        after = update(bad, good)
        for kept, left in zip(jax.tree.leaves(after.rule), jax.tree.leaves(good.rule), strict=True):
            np.testing.assert_array_equal(kept, left)
    assert float(lrax.get_lr(update(jnp.ones(3), after))) > 0.1


def test_the_state_has_the_dtype_of_the_parameters():
    # The updates may be wider than these, as those of an optimizer with a state in float32.
    optimizer = lrax.scale_by_lr(hypergradient(0.1, 0.5))
    params = jnp.ones(300, jnp.bfloat16)
    state = optimizer.init(params)
    for _ in range(2):
        gradient = jnp.ones(300)
        _, state = optimizer.update(gradient, state, params, grad=gradient)
    assert state.rule.direction.dtype == jnp.bfloat16
    assert float(lrax.get_lr(state)) == pytest.approx(0.1 + 0.5 * 300)


def test_a_group_follows_its_own_gradient():
    gradient = {"a": jnp.ones(2), "b": jnp.full(3, 100.0)}
    optimizer = optax.masked(lrax.scale_by_lr(hypergradient(0.1, 0.5)), {"a": True, "b": False})
    state = optimizer.init(gradient)
    for _ in range(2):
        _, state = optimizer.update(gradient, state, gradient, grad=gradient)
    assert float(lrax.get_lr(state)) == pytest.approx(0.1 + 0.5 * 2)


def test_hdm_refuses_a_group():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    rule = hypergradient(0.1, 0.5, kind="hdm")
    optimizer = optax.masked(lrax.scale_by_lr(rule), {"a": True, "b": False})
    with pytest.raises(TypeError, match="`params` must be all parameters: `hypergradient`"):
        optimizer.init(params)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multiplicative", "hdm"])
def test_a_run_hands_over_what_it_follows(kind):
    rule = lambda hyper_rate: lrax.scale_by_lr(hypergradient(0.01, hyper_rate, kind=kind))
    train = lrax.train(
        lrax.tasks.diabetes(), rule, steps=30, monitors=[lrax.monitors.learning_rate]
    )
    trained = jax.jit(train)(0.2, jax.random.key(0))
    rates = trained.monitors["learning_rate"]
    assert rates[0] == pytest.approx(0.01)
    assert len(set(rates.tolist())) > 10
    assert trained.losses[-5:].mean() < 0.9 * trained.losses[0]


@pytest.mark.parametrize("missing", ["grad", "value", "params", "value_fn", "grad_fn"])
def test_what_is_not_given_is_named(missing):
    given = {"grad": jnp.ones(2), "value": 1.0, "params": jnp.ones(2)}
    given |= {"value_fn": jnp.sum, "grad_fn": jax.grad(jnp.sum)}
    optimizer = lrax.scale_by_lr(hypergradient(0.1, 0.02, kind="hdm"))
    state = optimizer.init(jnp.ones(2))
    given.pop(missing)
    with pytest.raises(TypeError, match=f"`{missing}` must be given to `update`: `hypergradient`"):
        optimizer.update(jnp.ones(2), state, **given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.1, 0.1), "`learning_rate` must be finite and non-negative, got -0.1"),
        ((0.1, np.nan), "`hyper_rate` must be finite and non-negative, got nan"),
        ((0.1, 0.1, "adam"), "`kind` must be one of 'additive', 'multiplicative', 'hdm'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        hypergradient(*arguments[:2], kind=(*arguments, "additive")[2])
