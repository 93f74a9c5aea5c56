"""Constants of losses, and the gaps and gradients that they promise, on real data."""

import functools

import golden
import jax
import numpy as np
import pytest
from jax import numpy as jnp
from scipy import optimize

import lrax

PENALTY = 0.01
WORST = golden.read("pepit")["settings"]  # PEPit's worst cases, from a distance of 1


@functools.cache
def table(name):
    """Standardised inputs and targets of scikit-learn's data."""
    datasets = pytest.importorskip("sklearn.datasets")
    inputs, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    if name == "diabetes":
        targets = (targets - targets.mean()) / targets.std()
    return inputs, targets.astype(np.float64)


def ridge(w):
    x, y = table("diabetes")
    return jnp.mean((x @ w - y) ** 2) / 2 + PENALTY / 2 * jnp.sum(w**2)


def logistic(w):
    x, y = table("breast_cancer")
    margins = (2 * y - 1) * (x @ w)
    return jnp.mean(jnp.logaddexp(0.0, -margins)) + PENALTY / 2 * jnp.sum(w**2)


def exact(loss):
    """The loss and its gradient in float64, by NumPy."""
    x, y = table("diabetes" if loss is ridge else "breast_cancer")
    signs = 2 * y - 1

    def value(w):
        if loss is ridge:
            return np.mean((x @ w - y) ** 2) / 2 + PENALTY / 2 * w @ w
        return np.mean(np.logaddexp(0, -signs * (x @ w))) + PENALTY / 2 * w @ w

    def slope(w):
        if loss is ridge:
            return x.T @ (x @ w - y) / len(y) + PENALTY * w
        return -x.T @ (signs / (1 + np.exp(signs * (x @ w)))) / len(y) + PENALTY * w

    return value, slope, np.zeros(x.shape[1])


@pytest.mark.parametrize("loss", [pytest.param(ridge, marks=pytest.mark.slow), logistic])
def test_the_gap_that_is_promised_is_never_exceeded(loss):
    value, slope, start = exact(loss)
    largest = float(lrax.theory.smoothness(loss, jnp.zeros(len(start)))) * (1 + 1e-6)
    mu = PENALTY  # of the penalty; the loss may have more
    assert lrax.theory.strong_convexity(loss, jnp.zeros(len(start))) >= mu * (1 - 1e-3)
    tight = {"gtol": 1e-10, "ftol": 1e-16, "maxiter": 2000}
    best = optimize.minimize(value, start, jac=slope, method="L-BFGS-B", options=tight).x
    distance = np.linalg.norm(best - start)
    for rule, steps in (("constant", 100), ("optimal", 100), ("silver", 63), ("chebyshev", 40)):
        if rule == "chebyshev" and loss is logistic:
            continue  # which is not quadratic
        rates = {
            "constant": lambda n: np.full(n, 1 / largest),
            "optimal": lambda n: np.full(n, 2 / (largest + mu)),
            "silver": lambda n: np.asarray(lrax.theory.silver(largest, n).values(n)),
            "chebyshev": lambda n: np.asarray(lrax.theory.chebyshev(mu, largest, n).values(n)),
        }[rule]
        for n in (3, steps):
            w = start
            for rate in rates(n):
                w = w - rate * slope(w)
            numbers = {"smoothness": largest, "distance": distance}
            gap = value(w) - value(best)
            assert gap <= lrax.theory.predicted_gap(rule, n, mu=mu, **numbers) * (1 + 1e-4) + 1e-9
            if rule in ("constant", "silver"):
                assert gap <= lrax.theory.predicted_gap(rule, n, **numbers)


@pytest.mark.parametrize("mu", [0.0, 1e-3, 0.2])
@pytest.mark.parametrize("steps", [0, 1, 3, 31])
def test_the_gaps_are_the_papers(mu, steps):
    smooth, distance, k = 4.0, 3.0, mu / 4.0
    whole = smooth * distance**2 / 2
    chebyshev = np.polynomial.Chebyshev.basis(steps)((1 + k) / (1 - k))
    expected = {
        "constant": whole * (k / (k - 1 + (1 - k) ** (-2 * steps)) if k else 1 / (2 * steps + 1)),
        "optimal": whole * ((1 - k) / (1 + k)) ** (2 * steps),
        "chebyshev": whole / chebyshev**2,
        "silver": 2 * whole / (1 + np.sqrt(4 * (steps + 1) ** (2 * np.log2(1 + np.sqrt(2))) - 3)),
    }
    for rule, gap in expected.items():
        found = lrax.theory.predicted_gap(rule, steps, smoothness=smooth, distance=distance, mu=mu)
        np.testing.assert_allclose(found, gap, rtol=2e-4)


def test_the_gap_of_a_constant_rate_is_reached_by_the_worst_loss():
    # Huber's loss with its kink where the last step arrives.
    n = 20
    kink = 1 / (2 * n + 1)
    x = 1.0
    for _ in range(n):
        x = x - np.clip(x, -kink, kink)
    gap = kink * abs(x) - kink**2 / 2
    promised = lrax.theory.predicted_gap("constant", n, smoothness=1.0, distance=1.0)
    np.testing.assert_allclose(promised, gap, rtol=1e-5)


def test_no_loss_of_the_class_is_worse_than_promised():
    cases = [case for case in WORST if case["name"] != "polyak"]
    assert {case["name"] for case in cases} == {"constant", "optimal", "chebyshev", "silver"}
    for case in cases:
        rule, numbers = case["name"], case["keywords"]
        promised = float(lrax.theory.predicted_gap(rule, distance=1.0, **numbers))
        if rule == "silver":  # whose bound is not the least one
            assert case["gap"] < promised < 1.9 * case["gap"]
        else:
            np.testing.assert_allclose(promised, case["gap"], rtol=1e-5, atol=3e-7)


def test_the_worst_cases_are_of_our_steps():
    longest = {case["name"]: case for case in WORST}  # the last one of each rule
    numbers = longest["silver"]["keywords"]
    silver = lrax.theory.silver(numbers["smoothness"], numbers["steps"])
    np.testing.assert_allclose(silver.values(7), longest["silver"]["rates"], rtol=1e-6)
    chebyshev = lrax.theory.chebyshev(**longest["chebyshev"]["keywords"]).values(3)
    # Their order is free in exact arithmetic.
    expected = np.sort(longest["chebyshev"]["rates"])
    np.testing.assert_allclose(np.sort(chebyshev), expected, rtol=1e-6)


def test_a_polyak_step_comes_as_near_as_the_worst_case():
    least, largest = 0.2, 2.0
    cases = [case for case in WORST if case["name"] == "polyak"]
    rates = np.array([case["rates"][0] for case in cases])
    # A quadratic loss is the worst one, from the point where Polyak's rate is the recorded one.
    parts = np.stack([largest * (rates * largest - 1), least * (1 - rates * least)], axis=1)
    starts = np.sqrt(parts / parts.sum(1, keepdims=True))
    curvatures = np.array([least, largest])
    optimizer = lrax.scale_by_lr(lrax.controllers.polyak(c=0.5))

    def step(x):
        slope = curvatures * x
        state = optimizer.init(x)
        update, state = optimizer.update(slope, state, x, value=jnp.sum(slope * x) / 2)
        return x + update, lrax.get_lr(state)

    ends, found = jax.jit(jax.vmap(step))(jnp.asarray(starts, jnp.float32))
    np.testing.assert_allclose(found, rates, rtol=1e-5)
    np.testing.assert_allclose(np.sum(ends**2, axis=1), [c["gap"] for c in cases], rtol=1e-5)


def network(params, x, y):
    outputs = jnp.tanh(x @ params["a"]) @ params["b"]
    return jnp.mean((outputs[:, 0] - y) ** 2) / 2


def test_the_least_gradient_of_a_network_is_as_small_as_promised():
    x, y = (jnp.asarray(part, jnp.float32) for part in table("diabetes"))
    keys = jax.random.split(jax.random.key(1), 2)
    params = {
        "a": 0.3 * jax.random.normal(keys[0], (10, 4)),
        "b": 0.3 * jax.random.normal(keys[1], (4, 1)),
    }
    loss = lambda params: network(params, x, y)
    steps = 200
    largest = lrax.theory.smoothness(loss, params, radius=1.0, samples=2)
    assert largest > lrax.theory.smoothness(loss, params)
    assert lrax.theory.strong_convexity(loss, params) < 0  # it is not convex

    def step(params, _):
        slopes = jax.grad(loss)(params)
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slopes)))
        params = jax.tree.map(lambda leaf, slope: leaf - slope / largest, params, slopes)
        return params, norm

    norms = jax.lax.scan(step, params, None, length=steps)[1]
    rates = np.full(steps, 1 / largest)
    promised = lrax.theory.least_grad_norm(rates, smoothness=largest, gap=loss(params))
    assert norms.min() < promised < norms[0]
    noisy = lrax.theory.least_grad_norm(rates, smoothness=largest, gap=loss(params), noise=1.0)
    assert noisy > promised
    with pytest.raises(ValueError, match="`rates` times `smoothness` must be at most 2"):
        lrax.theory.least_grad_norm(2.5 * rates, smoothness=largest, gap=1.0)


@pytest.mark.parametrize("size", [3, 300])
def test_constants_are_the_eigenvalues_of_a_quadratic_loss(size):
    curvatures = jnp.linspace(1, 3, size).at[-1].set(7.0).at[0].set(-2.0)
    loss = lambda params: jnp.sum(curvatures * params["w"] ** 2) / 2
    params = {"w": jnp.ones(size)}
    of = jax.jit(lambda params: lrax.theory.smoothness(loss, params, radius=0.5, samples=2))
    np.testing.assert_allclose(of(params), 7.0, rtol=1e-4)
    np.testing.assert_allclose(lrax.theory.strong_convexity(loss, params), -2.0, rtol=1e-4)
