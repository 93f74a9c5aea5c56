"""Probes: against dense truth in float64, transcriptions in NumPy, and what Optax really does."""

import functools
import inspect

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp
from jax.flatten_util import ravel_pytree

import lrax
from lrax import probes

SLOW = pytest.mark.slow
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(40, 5)).astype(np.float32)
TARGETS = RNG.normal(size=(40, 2)).astype(np.float32)
PARAMS = {
    "first": {"w": RNG.normal(size=(5, 4)), "b": 0.1 * RNG.normal(size=4)},
    "second": {"w": RNG.normal(size=(4, 2)), "b": 0.1 * RNG.normal(size=2)},
}
PARAMS = jax.tree.map(lambda leaf: leaf.astype(np.float32), PARAMS)


def network(params):
    hidden = jnp.tanh(INPUTS @ params["first"]["w"] + params["first"]["b"][None])
    return hidden @ params["second"]["w"] + params["second"]["b"][None]


def squared(outputs):
    return jnp.mean((outputs - TARGETS) ** 2)


def loss(params):
    return squared(network(params))


def downhill(function, params):
    return jax.tree.map(jnp.negative, jax.grad(function)(params))


def wide(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def dense(function, params):
    """The Hessian as a matrix, in float64; called under x64."""
    flat, back = ravel_pytree(wide(params))
    return np.asarray(jax.jit(jax.hessian(lambda vector: function(back(vector))))(flat))


def top(matrix):
    return np.linalg.eigvalsh(matrix)[-1]


ADAM = optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(0.01))


def adam_state(params):
    return ADAM.update(jax.grad(loss)(params), ADAM.init(params), params)[1]


def micro_grads(params):
    rows = jax.tree.map(lambda x: x.reshape(8, 5, -1), (INPUTS, TARGETS))

    def part(params, x, y):
        hidden = jnp.tanh(x @ params["first"]["w"] + params["first"]["b"][None])
        outputs = hidden @ params["second"]["w"] + params["second"]["b"][None]
        return jnp.mean((outputs - y) ** 2)

    return jax.vmap(jax.grad(part), (None, 0, 0))(params, *rows)


DIRECTIONS = jax.vmap(lambda key: optax.tree.random_like(key, PARAMS))(jax.random.split(KEY, 3))

# Every probe as a function of the parameters alone, for the laws that all of them obey.
PROBES = {
    "critical_rate": lambda params: probes.critical_rate(
        loss, params, downhill(loss, params), guess=1.0
    ),
    "sharpness": lambda params: probes.sharpness(loss, params, key=KEY),
    "sharpness, low memory": lambda params: probes.sharpness(
        loss, params, key=KEY, low_memory=True
    ),
    "sharpness, Gauss-Newton": lambda params: probes.sharpness(
        squared, params, key=KEY, model=network
    ),
    "sharpness, preconditioned": lambda params: probes.sharpness(
        loss, params, key=KEY, preconditioner=probes.preconditioner(adam_state(params))
    ),
    "directional_sharpness": lambda params: probes.directional_sharpness(loss, params),
    "max_stable_rate": lambda params: probes.max_stable_rate(loss(params), "nesterov", beta=0.9),
    "noise_scale": lambda params: probes.noise_scale(micro_grads(params), 5),
    "critical_batch": lambda params: probes.critical_batch(
        probes.noise_scale(micro_grads(params), 5)
    ),
    "preconditioner": lambda params: probes.preconditioner(adam_state(params)),
    "effective_rates": lambda params: probes.effective_rates(adam_state(params)),
    "landscape": lambda params: probes.landscape(loss, params, DIRECTIONS, [-0.5, 0.0, 0.5]),
}
ALL = pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)


def test_all_probes_are_in_the_table():
    assert set(probes.__all__) - {"smooth", "diverged_at"} == {n.split(",")[0] for n in PROBES}


# Outside of a compiled function, each operation is a program of its own.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("critical_rate", "noise_scale") else [SLOW])
        for name in PROBES
    ],
)
def test_compiled_probes_give_the_same(name):
    probe = PROBES[name]
    close(jax.jit(probe)(PARAMS), probe(PARAMS), rtol=2e-3)


@ALL
@pytest.mark.slow
def test_lanes_give_what_each_gives_alone(probe):
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf, -leaf]), PARAMS)
    found = jax.jit(jax.vmap(probe))(many)
    for lane in range(3):
        alone = jax.jit(probe)(jax.tree.map(lambda leaf, lane=lane: leaf[lane], many))
        close(jax.tree.map(lambda leaf, lane=lane: leaf[lane], found), alone, rtol=2e-3)


@ALL
@pytest.mark.slow  # two programs of each probe
def test_what_scalars_there_are_is_float32_for_bfloat16_parameters(probe):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), PARAMS)
    found, expected = jax.jit(probe)(params), jax.jit(probe)(PARAMS)
    for leaf, value in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert leaf.dtype == value.dtype
        np.testing.assert_allclose(np.median(leaf), np.median(value), rtol=0.25)


@ALL
def test_probes_compute_in_float64_under_x64(probe, x64):
    with x64:
        found = jax.jit(probe)(wide(PARAMS))
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(found)} - {np.dtype(np.int32)}
    assert dtypes == {np.dtype(np.float64)}


def close(found, expected, rtol):
    for leaf, value in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, value, rtol=rtol)


# Sharpness.


def quartic(params):
    """More negative curvature than positive."""
    flat = ravel_pytree(params)[0]
    weights = jnp.linspace(-9.0, 3.0, flat.size)
    return jnp.sum(weights * flat**2) / 2 + jnp.sum(flat**4) / 100


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("function", [loss, quartic])
def test_sharpness_is_the_largest_eigenvalue(function, low_memory, x64):
    with x64:
        truth = np.linalg.eigvalsh(dense(function, PARAMS))
    assert function is loss or -truth[0] > 2 * truth[-1]
    find = jax.jit(
        lambda key: probes.sharpness(function, PARAMS, key=key, low_memory=low_memory, steps=20)
    )
    for seed in range(3):
        found = find(jax.random.key(seed))
        np.testing.assert_allclose(found, truth[-1], rtol=0.01)
        assert found <= truth[-1] * (1 + 1e-4)


def test_preconditioned_sharpness_is_that_of_the_scaled_hessian(x64):
    preconditioner = jax.jit(lambda: probes.preconditioner(adam_state(PARAMS)))()
    with x64:
        root = np.sqrt(ravel_pytree(wide(preconditioner))[0])
        truth = top(dense(loss, PARAMS) / np.outer(root, root))
    found = jax.jit(
        lambda: probes.sharpness(loss, PARAMS, preconditioner=preconditioner, key=KEY, steps=30)
    )()
    np.testing.assert_allclose(found, truth, rtol=0.01)


def test_gauss_newton_is_that_of_the_jacobian(x64):
    with x64:
        flat, back = ravel_pytree(wide(PARAMS))
        jacobian = jax.jit(jax.jacobian(lambda vector: network(back(vector)).ravel()))(flat)
        truth = top(2 * jacobian.T @ jacobian / TARGETS.size)
    found = jax.jit(lambda: probes.sharpness(squared, PARAMS, key=KEY, model=network))()
    np.testing.assert_allclose(found, truth, rtol=0.01)


def test_gauss_newton_takes_outputs_of_any_structure():
    outputs = lambda params: {"x": 2 * params, "y": (params[:1],)}
    inner = lambda outputs: jnp.sum(outputs["x"] ** 2) + jnp.sum(outputs["y"][0] ** 2)
    found = jax.jit(lambda: probes.sharpness(inner, jnp.ones(3), key=KEY, model=outputs))()
    np.testing.assert_allclose(found, 10.0, rtol=1e-5)


def test_directional_sharpness_is_the_quadratic_form_of_the_gradient(x64):
    with x64:
        hessian = dense(loss, PARAMS)
        gradient = np.asarray(ravel_pytree(jax.jit(jax.grad(loss))(wide(PARAMS)))[0])
        truth = gradient @ hessian @ gradient / (gradient @ gradient)
    found = jax.jit(lambda params: probes.directional_sharpness(loss, params))(PARAMS)
    np.testing.assert_allclose(found, truth, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 50])
@pytest.mark.parametrize("low_memory", [False, True])
def test_the_end_of_the_krylov_space_is_no_eigenvalue(size, low_memory):
    """Of a multiple of the identity the space has one dimension; 0 is above its eigenvalue."""
    concave = lambda params: -3 * jnp.sum(params**2)
    found = jax.jit(
        lambda: probes.sharpness(concave, jnp.ones(size), key=KEY, low_memory=low_memory)
    )()
    np.testing.assert_allclose(found, -6.0, rtol=1e-5)


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.slow
def test_a_flat_loss_has_no_curvature_and_nan_has_nan(low_memory):
    find = lambda function: jax.jit(
        lambda: probes.sharpness(function, PARAMS, key=KEY, low_memory=low_memory)
    )()
    flat = lambda params: 0.0 * params["first"]["b"][0]
    broken = lambda params: jnp.nan * loss(params)
    assert find(flat) == 0
    assert np.isnan(find(broken))
    assert probes.directional_sharpness(flat, PARAMS) == 0
    assert np.isnan(probes.directional_sharpness(broken, PARAMS))


def test_small_gradients_have_a_directional_sharpness():
    """The square of such a gradient is 0 in float32."""
    tiny = lambda params: 1e-24 * jnp.sum(jnp.array([1.0, 3.0]) * params**2) / 2
    np.testing.assert_allclose(
        probes.directional_sharpness(tiny, jnp.array([0.0, 1.0])), 3e-24, rtol=1e-5
    )


def test_low_memory_keeps_no_basis():
    """The largest array of the program, in numbers of parameters."""
    params = jnp.ones(1000)
    find = lambda low: jax.make_jaxpr(
        lambda params: probes.sharpness(
            lambda params: jnp.sum(params**3), params, key=KEY, low_memory=low
        )
    )(params)
    assert "f32[20,1000]" in str(find(False))
    assert "f32[20,1000]" not in str(find(True))


# The critical rate.


def scanned(function, params, update):
    """The smallest rate that raises the loss, on a grid of steps of 0.1 %, in float64."""
    flat, back = ravel_pytree(wide(params))
    line = np.asarray(ravel_pytree(wide(update))[0])
    rates = np.exp(np.arange(np.log(1e-4), np.log(1e3), 1e-3))
    values = jax.lax.map(lambda rate: function(back(flat + rate * line)), rates, batch_size=512)
    return rates[np.argmax(~(np.asarray(values) <= float(function(back(flat)))))]


def scaled(update):
    """An update of Adam's kind: every number has the same size."""
    return jax.tree.map(lambda leaf: 0.1 * jnp.sign(leaf), update)


@pytest.mark.parametrize("change", [lambda update: update, scaled], ids=["gradient", "sign"])
@pytest.mark.parametrize("factor", [0.3, 1.0, 2.0])
def test_critical_rate_is_that_of_a_dense_scan(change, factor, x64):
    params = jax.tree.map(lambda leaf: factor * leaf, PARAMS)
    update = change(downhill(loss, params))
    with x64:
        truth = scanned(loss, params, update)
    counts = []
    find = jax.jit(lambda guess: probes.critical_rate(loss, params, update, guess=guess))
    for guess in truth * np.array([1 / 100, 1 / 7, 0.51, 0.9, 1.0, 1.1, 1.9, 7, 100]):
        found = find(guess)
        np.testing.assert_allclose(found.rate, truth, rtol=0.12)
        np.testing.assert_allclose(found.sharpness, 2 / found.rate, rtol=1e-6)
        counts.append(int(found.evaluations))
    assert max(counts) <= 10
    assert max(counts[2:-2]) <= 5
    assert max(counts[1:-1]) <= 7


def test_evaluations_are_counted():
    calls = []

    def counted(params):
        calls.append(params)
        return loss(params)

    update = downhill(loss, PARAMS)
    with jax.disable_jit():
        found = probes.critical_rate(counted, PARAMS, update, guess=1.0)
    assert found.evaluations == len(calls)


def test_on_a_quadratic_loss_it_is_two_over_the_directional_sharpness():
    bowl = lambda params: jnp.sum(jnp.array([1.0, 4.0, 9.0]) * params**2) / 2
    params = jnp.array([1.0, -1.0, 0.5])
    found = probes.critical_rate(bowl, params, downhill(bowl, params), guess=0.1)
    curvature = probes.directional_sharpness(bowl, params)
    np.testing.assert_allclose(found.sharpness, curvature, rtol=0.1)
    assert curvature <= probes.sharpness(bowl, params, key=KEY)


def test_a_cliff_of_nan_is_a_rise():
    cliff = lambda x: jnp.where(x > 3.0, jnp.nan, -x)
    found = probes.critical_rate(cliff, jnp.zeros([]), jnp.ones([]), guess=1.0)
    np.testing.assert_allclose(found.rate, 3.0, rtol=0.1)


@pytest.mark.parametrize(
    ("function", "update", "rate"),
    [
        (lambda x: 0.0 * jnp.sum(x), 1.0, np.inf),  # flat
        (lambda x: -jnp.sum(x), 1.0, np.inf),  # falls for ever
        (lambda x: jnp.sum(x**2), 0.0, np.inf),  # a zero update
        (lambda x: jnp.sum(jnp.abs(x)), 1.0, 0.0),  # uphill from a kink, where it is exact
        (lambda x: jnp.sum(x) * jnp.nan, 1.0, np.nan),
        (lambda x: jnp.sum(x) + jnp.inf, 1.0, np.nan),
        (lambda x: jnp.sum(x**2), np.nan, np.nan),
    ],
)
def test_critical_rates_at_the_ends(function, update, rate):
    find = lambda guess: probes.critical_rate(
        function, jnp.zeros(2), jnp.full(2, update, jnp.float32), guess=guess
    )
    found = jax.jit(find)(1.0)
    np.testing.assert_array_equal(found.rate, np.float32(rate))
    np.testing.assert_array_equal(found.sharpness, np.float32(2 / rate if rate else np.inf))
    assert found.evaluations <= 10


def test_uphill_the_rate_is_as_small_as_rounding_allows():
    found = probes.critical_rate(loss, PARAMS, jax.grad(loss)(PARAMS), guess=1.0)
    assert 0 <= found.rate < 1e-5


def test_the_last_answer_is_always_a_guess():
    """In a loop it is handed back whatever it was; NaN too, where it is traced."""
    params, update = jnp.ones(2), -jnp.ones(2)
    find = lambda guess: (
        probes.critical_rate(lambda x: jnp.sum(x**2), params, update, guess=guess).rate
    )
    for guess in (0.0, np.inf):
        np.testing.assert_allclose(find(guess), 2.0, rtol=0.1)
    for guess in (0.0, np.inf, np.nan, -1.0):
        np.testing.assert_allclose(jax.jit(find)(guess), 2.0, rtol=0.1)


def test_small_steps_of_bfloat16_are_rounded_away():
    """1 - 1e-3 is 1 in bfloat16: no step below half of a unit in the last place does anything."""
    steep = lambda x: jnp.sum(x.astype(jnp.float32))  # any step up raises it
    found = probes.critical_rate(
        steep, jnp.ones(1, jnp.bfloat16), jnp.ones(1, jnp.bfloat16), guess=1.0
    )
    np.testing.assert_allclose(found.rate, 2.0**-8, rtol=0.1)


# Stability limits.

LIMITS = {
    "gd": (lambda rate, beta: optax.sgd(rate), None),
    "heavy_ball": (lambda rate, beta: optax.sgd(rate, momentum=beta), 0.9),
    "nesterov": (lambda rate, beta: optax.sgd(rate, momentum=beta, nesterov=True), 0.9),
    "ema_momentum": (
        lambda rate, beta: optax.chain(optax.ema(beta, debias=False), optax.scale(-rate)),
        0.9,
    ),
}


@pytest.mark.parametrize("kind", LIMITS)
@pytest.mark.parametrize("sharpness", [0.5, 30.0])
def test_limits_separate_convergence_from_divergence(kind, sharpness):
    make, beta = LIMITS[kind]
    limit = float(probes.max_stable_rate(sharpness, kind, beta=beta))

    def last(rate):
        optimizer = make(rate, beta)

        def step(carry, _):
            x, state = carry
            update, state = optimizer.update(sharpness * x, state)
            return (x + update, state), jnp.abs(x)

        sizes = jax.lax.scan(step, (jnp.ones([]), optimizer.init(jnp.ones([]))), None, 2000)[1]
        return jnp.max(sizes[-20:])

    assert last(0.97 * limit) < 1e-2
    assert not last(1.03 * limit) < 1e2


def test_a_concave_loss_has_no_limit():
    found = probes.max_stable_rate(np.array([-1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(found, [np.inf, np.inf, 1.0])


@pytest.mark.parametrize(
    ("optimizer", "beta", "expected"),
    [
        (optax.sgd(0.1), None, 2.0),
        (lrax.scale_by_lr(0.1), None, 2.0),
        (optax.rmsprop(0.1), None, 2.0),
        (optax.adagrad(0.1), None, 2.0),
        (optax.adam(0.1), 0.9, 38.0),
        (optax.MultiSteps(optax.adamw(0.1), 2), 0.9, 38.0),
        (optax.inject_hyperparams(optax.adam)(0.1, b1=0.5), None, 6.0),
        (optax.inject_hyperparams(optax.adam)(0.1, b1=0.5), 0.9, 38.0),
    ],
)
def test_the_kind_is_read_from_a_state_that_tells_it(optimizer, beta, expected):
    state = optimizer.init(jnp.ones(2))
    if hasattr(state, "acc_grads"):
        state = state.inner_opt_state  # what is left has gradients of its own
    found = probes.max_stable_rate(1.0, state, beta=beta)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (optax.sgd(0.1, momentum=0.9), '"heavy_ball" or "nesterov"'),
        (optax.lion(0.1), "an optimizer that tells"),
        (optax.adam(0.1), "`beta` must be given"),
    ],
)
def test_a_state_that_does_not_tell_is_refused(optimizer, words):
    with pytest.raises(ValueError, match=words):
        probes.max_stable_rate(1.0, optimizer.init(jnp.ones(2)))


# The noise scale.


def transcribed(grads, b):
    """The estimator as McCandlish et al. write it, appendix A.1."""
    large = b * len(grads)
    small_sq = np.mean(np.sum(grads**2, axis=1))
    large_sq = np.sum(np.mean(grads, axis=0) ** 2)
    grad_sq = (large * large_sq - b * small_sq) / (large - b)
    trace = (small_sq - large_sq) / (1 / b - 1 / large)
    return grad_sq, trace


@pytest.mark.parametrize(("count", "b"), [(2, 1), (8, 1), (5, 16)])
def test_noise_scale_is_the_estimator_of_the_paper(count, b):
    grads = np.random.default_rng(count).normal(0.5, 1.0, size=(count, 12)).astype(np.float32)
    tree = {"w": grads[:, :8].reshape(count, 4, 2), "b": grads[:, 8:]}
    found = probes.noise_scale(tree, b)
    grad_sq, trace = transcribed(grads.astype(np.float64), b)
    np.testing.assert_allclose(found.grad_sq, grad_sq, rtol=1e-4)
    np.testing.assert_allclose(found.trace, trace, rtol=1e-5)
    np.testing.assert_allclose(found.scale, trace / grad_sq if grad_sq > 0 else np.nan, rtol=1e-4)
    groups = probes.noise_scale(tree, b, group=lambda path: path)
    for name, columns in {"w": grads[:, :8], "b": grads[:, 8:]}.items():
        expected = transcribed(columns.astype(np.float64), b)
        np.testing.assert_allclose(groups[name], expected, rtol=1e-3)


def test_both_parts_are_unbiased_and_their_ratio_is_of_means():
    """Gradients of mean m and covariance s I, whose noise scale is known."""
    size, b, mean, deviation = 20, 4, 0.3, 2.0
    noise = deviation / np.sqrt(b) * np.random.default_rng(1).normal(size=(20_000, 6, size))
    found = jax.vmap(lambda grads: probes.noise_scale(grads, b))(mean + noise.astype(np.float32))
    truth = size * deviation**2 / (size * mean**2)
    np.testing.assert_allclose(jnp.mean(found.grad_sq), size * mean**2, rtol=0.02)
    np.testing.assert_allclose(jnp.mean(found.trace), size * deviation**2, rtol=0.01)
    np.testing.assert_allclose(probes.critical_batch(found), truth, rtol=0.03)
    averaged = jax.tree.map(lambda part: part.mean(0), found)
    np.testing.assert_allclose(averaged.scale, probes.critical_batch(found), rtol=1e-6)
    # Negative estimates are kept in the average, and each alone has no scale.
    assert jnp.any(found.grad_sq < 0)
    np.testing.assert_array_equal(jnp.isnan(found.scale), found.grad_sq <= 0)
    assert jnp.nanmean(found.scale) > 1.2 * truth  # the mean of ratios


def test_gradients_that_are_equal_have_no_noise():
    found = probes.noise_scale({"w": jnp.full((4, 3), 1e3)}, 8)
    assert (found.trace, found.scale) == (0, 0)
    zero = probes.noise_scale(jnp.zeros((4, 3)), 8)
    assert np.isnan(zero.scale)


def test_sums_of_bfloat16_gradients_are_of_float32():
    grads = jnp.ones((2, 4096), jnp.bfloat16)
    found = probes.noise_scale(grads, 1)
    assert (found.grad_sq.dtype, float(found.grad_sq)) == (np.float32, 4096.0)


# Effective rates.

SHAPES = {"w": (4, 3), "b": (3,)}


def gradients(step):
    rng = np.random.default_rng(step)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def walked(optimizer, steps=5):
    """The last gradient, the updates and the state after some updates."""
    params = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    state = optimizer.init(params)
    for step in range(steps):
        grads = gradients(step)
        updates, state = jax.jit(optimizer.update)(grads, state, params)
    return grads, updates, state


def mean(grads, state, b1=0.9):
    """The bias-corrected mean of the gradients."""
    mu = optax.tree.get(state, "mu")
    _, count = optax.tree.get_all_with_path(state, "count")[0]  # several transformations have one
    return jax.tree.map(lambda leaf: leaf / (1 - b1 ** int(np.ravel(count)[0])), mu)


def itself(grads, state):
    return grads


def mixture(grads, state):
    found = optax.tree.get(state, "m1"), optax.tree.get(state, "m2")
    return jax.tree.map(lambda fast, slow: fast / (1 - 0.9**5) + 6.0 * slow, *found)


def adan_mean(grads, state):
    m, v = optax.tree.get(state, "m"), optax.tree.get(state, "v")
    return jax.tree.map(lambda m, v: m / (1 - 0.98**5) + 0.08 * v / (1 - 0.92**5), m, v)


RATE = 0.02
UNSCALED = {  # optimizers that keep no rate, what multiplies their rates, constants to pass
    "adam": (optax.adam(RATE), mean, {}),
    "adam, own constants": (
        optax.adam(RATE, b2=0.9, eps=0.1, eps_root=0.01),
        mean,
        {"b2": 0.9, "eps": 0.1, "eps_root": 0.01},
    ),
    "adamw": (optax.adamw(RATE, weight_decay=0.0), mean, {}),
    "amsgrad": (optax.amsgrad(RATE), mean, {}),
    "adabelief": (optax.adabelief(RATE), mean, {}),
    "yogi": (optax.yogi(RATE), mean, {"eps": 1e-3}),
    "ademamix": (optax.contrib.ademamix(RATE, alpha=6.0), mixture, {}),
    "adan": (optax.adan(RATE), adan_mean, {}),
    "rmsprop": (optax.rmsprop(RATE), itself, {}),
    "rmsprop, eps outside": (
        optax.rmsprop(RATE, eps=0.1, eps_in_sqrt=False),
        itself,
        {"eps": 0.1, "eps_root": 0.0},
    ),
    "rmsprop, corrected": (optax.rmsprop(RATE, bias_correction=True), itself, {}),
    "rmsprop, centered": (optax.rmsprop(RATE, centered=True), itself, {}),
    "rmsprop, centered and corrected": (
        optax.rmsprop(RATE, centered=True, bias_correction=True),
        itself,
        {},
    ),
    "adagrad": (optax.adagrad(RATE), itself, {}),
    "adagrad, from zero": (optax.adagrad(RATE, initial_accumulator_value=0.0), itself, {}),
}


@pytest.mark.parametrize("name", UNSCALED)
def test_rates_times_directions_are_the_updates_of_optax(name):
    optimizer, direction, constants = UNSCALED[name]
    grads, updates, state = walked(optimizer)
    found = jax.jit(lambda state: probes.effective_rates(state, RATE, **constants))(state)
    expected = jax.tree.map(lambda rate, leaf: -rate * leaf, found.rates, direction(grads, state))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), updates, expected)
    given = {key: value for key, value in constants.items() if key != "b1"}
    divisors = probes.preconditioner(state, **given)
    jax.tree.map(
        lambda rate, divisor: np.testing.assert_allclose(rate, RATE / divisor, rtol=1e-6),
        found.rates,
        divisors,
    )


def test_novograd_divides_each_array_by_one_number():
    grads, updates, state = walked(optax.novograd(RATE), steps=1)
    found = probes.effective_rates(state, RATE)
    expected = jax.tree.map(lambda rate, leaf: -rate * leaf, found.rates, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, expected)


def test_every_step_of_lion_has_the_plain_length():
    _, updates, state = walked(optax.lion(RATE, weight_decay=0.0))
    found = probes.effective_rates(state, RATE)
    jax.tree.map(
        lambda update, rate: np.testing.assert_allclose(np.abs(update), rate, rtol=1e-6),
        updates,
        found.rates,
    )
    assert (found.ratio, found.warmup) == (1.0, 1.0)


@pytest.mark.parametrize("rms", [None, 0.2])
def test_rates_of_muon_are_those_of_an_orthogonal_matrix(rms):
    options = {} if rms is None else {"consistent_rms": rms}
    if options and "consistent_rms" not in inspect.signature(optax.contrib.muon).parameters:
        pytest.skip("this Optax has no `consistent_rms`")
    optimizer = optax.contrib.muon(RATE, weight_decay=0.0, nesterov=False, **options)
    params = {"wide": jnp.ones((3, 12)), "tall": jnp.ones((12, 3)), "b": jnp.ones(3)}
    grads = optax.tree.random_like(KEY, params)
    updates, state = optimizer.update(grads, optimizer.init(params), params)
    found = probes.effective_rates(
        state, RATE, consistent_rms=rms, group=lambda path: path, b2=0.999
    )
    for name in ("wide", "tall"):
        direction = np.asarray(updates[name] / found.rates[name])
        values = np.linalg.svd(direction, compute_uv=False)
        assert 0.6 < values.min() <= values.max() < 1.3  # as near to 1 as Muon's iteration comes
        factor = {None: 2.0 if name == "wide" else 1.0, 0.2: np.sqrt(12) * 0.2}[rms]
        np.testing.assert_allclose(found.ratio[name], factor, rtol=1e-6)
    # The other parameters are Adam's.
    np.testing.assert_allclose(updates["b"], -found.rates["b"] * np.asarray(grads["b"]), rtol=1e-4)


def chained(rate, **constants):
    return optax.chain(optax.scale_by_adam(**constants), lrax.scale_by_lr(rate))


FROZEN = {"w": True, "b": False}
NESTED = {
    "chain": (chained(RATE), "wb"),
    "injected": (optax.inject_hyperparams(optax.adam)(RATE, b2=0.9, eps=1e-3), "wb"),
    "masked": (optax.masked(chained(RATE), FROZEN), "w"),
    "finite": (optax.apply_if_finite(chained(RATE), 2), "wb"),
    "multisteps": (optax.MultiSteps(chained(RATE), 1), "wb"),
    "named": (optax.named_chain(("a", optax.scale_by_adam()), ("b", lrax.scale_by_lr(RATE))), "wb"),
    "all of them": (
        optax.chain(
            optax.clip_by_global_norm(1e6),
            optax.MultiSteps(
                optax.masked(optax.inject_hyperparams(optax.adam)(RATE, b2=0.9), FROZEN), 1
            ).gradient_transformation(),
        ),
        "w",
    ),
}


@pytest.mark.parametrize("name", NESTED)
def test_states_are_found_under_any_nesting(name):
    optimizer, moved = NESTED[name]
    grads, updates, state = walked(optimizer)
    found = probes.effective_rates(state)
    means = mean(grads, state)
    for leaf in moved:
        expected = -found.rates[leaf] * means[leaf]
        np.testing.assert_allclose(updates[leaf], expected, rtol=1e-4)
    for leaf in set(SHAPES) - set(moved):
        assert isinstance(found.rates[leaf], optax.MaskedNode)


def test_groups_have_their_own_rates_and_optimizers():
    optimizer = optax.partition(
        {
            "matrix": chained(0.01),
            "vector": optax.chain(optax.scale_by_rms(), lrax.scale_by_lr(0.5)),
        },
        {"w": "matrix", "b": "vector"},
    )
    grads, updates, state = walked(optimizer)
    found = probes.effective_rates(state, group=lambda path: path)
    alone = walked(chained(0.01))[2]
    np.testing.assert_allclose(found.rates["w"], probes.effective_rates(alone).rates["w"])
    np.testing.assert_allclose(updates["b"], -found.rates["b"] * grads["b"], rtol=1e-4)
    np.testing.assert_allclose(found.warmup["b"], 1.0)
    np.testing.assert_allclose(found.warmup["w"], np.sqrt(1 - 0.999**5) / (1 - 0.9**5), rtol=1e-3)
    for name in SHAPES:
        rates = np.asarray(found.rates[name]).ravel()
        np.testing.assert_allclose(found.median[name], np.median(rates), rtol=1e-5)
        np.testing.assert_allclose(found.low[name], np.quantile(rates, 0.05), rtol=1e-5)
        np.testing.assert_allclose(found.high[name], np.quantile(rates, 0.95), rtol=1e-5)
        plain = {"w": 0.01, "b": 0.5}[name]
        np.testing.assert_allclose(found.ratio[name], np.median(rates) / plain, rtol=1e-5)


def test_a_restored_state_is_read_like_the_one_that_was_saved():
    state = walked(chained(RATE))[2]
    restored = [{name: getattr(part, name) for name in part._fields} for part in state]
    for leaf, value in zip(
        jax.tree.leaves(probes.effective_rates(restored)),
        jax.tree.leaves(probes.effective_rates(state)),
        strict=True,
    ):
        np.testing.assert_array_equal(leaf, value)


def test_parameters_without_gradients_have_enormous_rates():
    optimizer = optax.adam(RATE)
    params = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    zero = optax.tree.zeros_like(params)
    state = optimizer.init(params)
    assert np.isnan(probes.effective_rates(state, RATE).median)  # nothing is known yet
    state = optimizer.update(zero, state, params)[1]
    np.testing.assert_allclose(probes.effective_rates(state, RATE).median, RATE / 1e-8, rtol=1e-5)
    adagrad = optax.adagrad(RATE, initial_accumulator_value=0.0)
    state = adagrad.update(zero, adagrad.init(params), params)[1]
    np.testing.assert_allclose(probes.effective_rates(state, RATE).median, 0.0)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (optax.sgd(0.1), "`opt_state` must hold second moments"),
        (optax.adam(0.1), "`rate` must be given: `opt_state` holds no"),
        (
            optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(1.0), lrax.scale_by_lr(0.1)),
            "`rate` must be given: 2 learning rates",
        ),
        (
            optax.chain(optax.scale_by_adam(), optax.scale_by_rms(), lrax.scale_by_lr(0.1)),
            "must have one adaptive state for each parameter",
        ),
    ],
)
def test_states_whose_rates_are_not_told_are_refused(optimizer, words):
    with pytest.raises(ValueError, match=words):
        probes.effective_rates(walked(optimizer)[2])


def test_muon_refuses_what_a_state_does_not_say():
    state = optax.contrib.scale_by_muon().init(jnp.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="must have nothing but matrices under Muon"):
        probes.effective_rates(state, 0.1)


# Slices of the loss.


@pytest.mark.parametrize("normalize", ["filter", "array", "none"])
def test_slices_are_losses_along_lines(normalize):
    distances = np.array([-1.0, -0.1, 0.0, 0.3])
    found = probes.landscape(loss, PARAMS, DIRECTIONS, distances, normalize=normalize, batch_size=5)
    for i in range(3):
        line = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), DIRECTIONS)
        if normalize != "none":
            line = jax.tree.map(functools.partial(normed, normalize), line, PARAMS)
        for j, distance in enumerate(distances):
            moved = jax.tree.map(lambda leaf, d, a=distance: leaf + a * d, PARAMS, line)
            np.testing.assert_allclose(found[i, j], loss(moved), rtol=1e-5)


def normed(normalize, line, weights):
    """Li et al.: each filter of the direction gets the norm of its filter of the weights."""
    if normalize == "array" or weights.ndim < 2:
        return line * np.linalg.norm(weights) / np.linalg.norm(line)
    columns = [
        line[:, i] * np.linalg.norm(weights[:, i]) / np.linalg.norm(line[:, i])
        for i in range(line.shape[1])
    ]
    return np.stack(columns, axis=1)


def test_weights_and_directions_of_zero_do_not_move():
    found = probes.landscape(jnp.sum, jnp.zeros((2, 2)), jnp.ones((3, 2, 2)), [1.0])
    np.testing.assert_array_equal(found, np.zeros((3, 1)))
    found = probes.landscape(jnp.sum, jnp.ones((2, 2)), jnp.zeros((3, 2, 2)))
    np.testing.assert_array_equal(found, np.full((3, 21), 4.0))


# As monitors.


def test_probes_are_monitors_in_one_line():
    task = problems.regression()
    on = lambda step: lambda params: task.loss(params, step.batch)
    monitors = {
        "room": lambda step: (
            probes.critical_rate(on(step), step.params, step.updates, guess=4.0).rate
        ),
        "sharpness": lambda step: probes.sharpness(on(step), step.params, key=step.key, steps=4),
        "along": lambda step: probes.directional_sharpness(on(step), step.params),
        "rate": lambda step: probes.effective_rates(step.opt_state).median,
        "warmup": lambda step: (
            probes.effective_rates(step.opt_state, group=lambda path: path).warmup
        ),
        "noise": lambda step: probes.noise_scale(
            jax.vmap(jax.grad(task.loss), (None, 0))(
                step.params, jax.tree.map(lambda x: x[:, None], step.batch)
            ),
            micro_batch=1,
        )._asdict(),
    }
    grid = {"rate": [0.01, 0.1]}
    result = lrax.sweep(
        task, lambda rate: chained(rate), grid, steps=6, seeds=2, monitors=monitors, record_every=2
    )
    assert result.monitors.keys() >= {"room", "sharpness", "rate", "warmup/b", "noise/trace"}
    for values in result.monitors.values():
        assert values.shape == (2, 2, 3)
        assert np.isfinite(values).all()
    train = lrax.train(task, chained, steps=6, monitors=monitors, record_every=2)
    alone = jax.jit(train)(0.1, jax.random.key(0))
    for name, values in alone.monitors.items():
        np.testing.assert_allclose(result.monitors[name][1, 0], values, rtol=1e-3, err_msg=name)


# What is refused.

BOWL = lambda params: optax.tree.norm(params, squared=True)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: probes.sharpness(3, PARAMS, key=KEY), TypeError, "`loss` must be a function"),
        (
            lambda: probes.sharpness(lambda params: params["first"]["b"], PARAMS, key=KEY),
            TypeError,
            r"`loss` must return a real scalar or \(scalar, aux\), got one of shape \(4,\)",
        ),
        (
            lambda: probes.sharpness(BOWL, {"w": np.ones(2, int)}, key=KEY),
            TypeError,
            r"`params`\['w'\] must be an array of real floating-point",
        ),
        (lambda: probes.sharpness(BOWL, {}, key=KEY), ValueError, "`params` must have at least"),
        (lambda: probes.sharpness(BOWL, PARAMS, key=3), TypeError, "`key` must be one key"),
        (
            lambda: probes.sharpness(BOWL, PARAMS, key=KEY, preconditioner=PARAMS),
            ValueError,
            "`preconditioner` must be positive",
        ),
        (
            lambda: probes.sharpness(BOWL, PARAMS, key=KEY, preconditioner=PARAMS["first"]),
            ValueError,
            "`preconditioner` must have the structure of `params`",
        ),
        (
            lambda: probes.critical_rate(BOWL, jnp.ones(3), jnp.ones(2), guess=1.0),
            ValueError,
            r"`update` must have the shapes of `params`, got \(2,\) for \(3,\)",
        ),
        (
            lambda: probes.critical_rate(BOWL, jnp.ones(3), jnp.ones(3), guess=-1.0),
            ValueError,
            "`guess` must be positive, got -1.0",
        ),
        (lambda: probes.max_stable_rate(1.0, "adam"), ValueError, "`kind` must be one of 'gd'"),
        (lambda: probes.max_stable_rate(1.0, "nesterov"), ValueError, "`beta` must be given"),
        (lambda: probes.max_stable_rate(1.0, beta=0.9), ValueError, "`beta` must be None"),
        (
            lambda: probes.max_stable_rate(1.0, "nesterov", beta=1.0),
            ValueError,
            "`beta` must be below 1",
        ),
        (
            lambda: probes.noise_scale({"w": jnp.ones((1, 3))}, 4),
            ValueError,
            "`micro_grads` must have a leading axis of at least 2",
        ),
        (lambda: probes.critical_batch(3.0), TypeError, "`noise` must be a NoiseScale"),
        (
            lambda: probes.landscape(BOWL, jnp.ones(3), jnp.ones(3)),
            ValueError,
            "`directions` must have the shapes of `params` behind a leading axis",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_loss_may_have_aux():
    with_aux = lambda params: (loss(params), {"accuracy": 1.0})
    np.testing.assert_array_equal(
        probes.sharpness(with_aux, PARAMS, key=KEY), probes.sharpness(loss, PARAMS, key=KEY)
    )


def test_a_state_of_several_groups_tells_no_kind():
    optimizer = optax.partition({"a": optax.adam(0.1), "b": optax.sgd(0.1)}, {"w": "a", "v": "b"})
    state = optimizer.init({"w": jnp.ones(2), "v": jnp.ones(2)})
    with pytest.raises(ValueError, match="several groups"):
        probes.max_stable_rate(2.0, state)


def test_the_sharpness_calls_no_lapack():
    # A sweep that evaluated it by LAPACK, in two calls at once, hung on a CPU.
    sharpness = lambda params: probes.sharpness(lambda p: jnp.sum(p**4), params, key=KEY)
    text = jax.jit(jax.vmap(sharpness)).lower(jnp.ones((6, 30))).as_text()
    assert "custom_call" not in text


def test_the_sharpness_rounds_no_product_on_accelerators():
    sharpness = lambda params: probes.sharpness(lambda p: jnp.sum(p**4), params, key=KEY)
    text = jax.jit(sharpness).lower(jnp.ones(30)).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_empty_parameters_have_no_curvature():
    empty = {"w": jnp.zeros((0, 3)), "b": jnp.zeros(0)}
    flat = lambda params: jnp.sum(params["w"] ** 2) + jnp.sum(params["b"] ** 2)
    for low_memory in (False, True):
        assert probes.sharpness(flat, empty, key=KEY, low_memory=low_memory) == 0
    assert probes.directional_sharpness(flat, empty) == 0
    part = {"w": jnp.zeros((0, 3)), "b": jnp.ones(2)}
    np.testing.assert_allclose(probes.sharpness(flat, part, key=KEY), 2, rtol=1e-6)
