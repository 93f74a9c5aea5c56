"""Weight decay: its forms take off the same, AdamC is its source's, and weights balance."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax
from lrax import scaling

SCHEDULE = lrax.warmup_linear(0.3, steps=12, warmup=3, init=0.05)
B1, B2, EPS = 0.9, 0.95, 1e-8


def start():
    random = np.random.default_rng(0)
    return {"body": random.normal(size=(4, 6)), "norm": np.ones(6), "head": np.ones((6, 2))}


def gradient(params):
    return jax.tree.map(lambda p: p**3 - 0.3 * p + 0.1, params)


def adam_c(params, rates, weight_decay, normalized, decays):
    """`pytorch_optimizer.AdamC` of 4.1.0: one group with `normalized`, one without."""
    peak = max(rates)
    mu = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    nu = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    for t, lr in enumerate(rates, start=1):
        for name, g in gradient(params).items():
            wd_step_size = lr**2 / peak if normalized[name] else lr
            p = params[name] * (1 - wd_step_size * weight_decay * decays[name])
            mu[name] = B1 * mu[name] + (1 - B1) * g
            nu[name] = B2 * nu[name] + (1 - B2) * g**2
            de_nom = (np.sqrt(nu[name]) + EPS) / np.sqrt(1 - B2**t)
            params[name] = p - lr * mu[name] / (1 - B1**t) / de_nom
    return params


def trained(optimizer, params, steps):
    @jax.jit
    def run(params):
        def body(carry, _):
            params, state = carry
            updates, state = optimizer.update(gradient(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, optimizer.init(params)), length=steps)[0]

    return run(params)


def test_corrected_decay_is_that_of_its_source(x64):
    steps = 12
    normalized = {"body": True, "norm": True, "head": False}
    decays = {"body": True, "norm": False, "head": True}
    is_matrix = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    with x64:
        decay = scaling.corrected_decay(
            SCHEDULE, 0.2, peak=0.3, normalized=normalized, mask=is_matrix
        )
        # The source's epsilon is outside of the bias correction; as it is here, so small is it.
        optimizer = optax.chain(optax.scale_by_adam(B1, B2, EPS), decay)
        params = jax.tree.map(jnp.asarray, start())
        params, state = trained(optimizer, params, steps)
        rates = [float(SCHEDULE(t)) for t in range(steps)]
        wanted = adam_c(start(), rates, 0.2, normalized, decays)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, wanted)
        np.testing.assert_allclose(lrax.get_lr(state), SCHEDULE(steps - 1), rtol=1e-12)


def test_without_normalisation_it_is_that_of_adamw():
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), start())
    last = scaling.corrected_decay(SCHEDULE, 0.2, peak=0.3, normalized=False)
    ours, _ = trained(optax.chain(optax.scale_by_adam(), last), params, 12)
    theirs, _ = trained(optax.adamw(SCHEDULE, weight_decay=0.2), params, 12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs)


def test_it_follows_the_rate_in_use():
    params = jnp.ones((2, 2))
    optimizer = scaling.corrected_decay(0.3, jnp.float32(0.5), peak=jnp.float32(0.3))
    update = jax.jit(optimizer.update)
    state = optimizer.init(params)
    for rate in (0.3, 0.1):
        state = lrax.set_lr(state, rate)
        updates, state = update(jnp.zeros_like(params), state, params)
        np.testing.assert_allclose(updates, -(rate**2) / 0.3 * 0.5, rtol=1e-6)
    assert update._cache_size() == 1
    low, _ = optimizer.update(params.astype(jnp.bfloat16), state, params.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16


def test_all_forms_take_off_the_same_at_the_peak():
    lr, params = 0.01, jnp.ones(3)
    forms = scaling.decay_forms(lr, 0.2)
    optimizers = {
        "adamw": optax.adamw(lr, weight_decay=forms.adamw),
        "independent": optax.adamw(lr, weight_decay=forms.independent / lr),
        "corrected": scaling.corrected_decay(lr, forms.corrected, peak=lr),
        "l2": optax.chain(optax.add_decayed_weights(forms.l2), optax.sgd(lr)),
    }
    for name, optimizer in optimizers.items():
        updates, _ = optimizer.update(jnp.zeros(3), optimizer.init(params), params)
        np.testing.assert_allclose(updates, -0.002, rtol=1e-6, err_msg=name)


def test_forms_convert_back_and_forth():
    forms = scaling.decay_forms(0.01, 0.2, momentum=0.9)
    for form, value in forms._asdict().items():
        again = scaling.decay_forms(0.01, value, form=form, momentum=0.9)
        np.testing.assert_allclose(again, forms, rtol=1e-12)


def test_regularised_sgd_with_momentum_forgets_at_the_rate_of_its_form():
    lr, momentum, steps = 1e-3, 0.9, 3000
    decay = scaling.decay_forms(lr, 1.0, momentum=momentum).l2
    weight, trace = 1.0, 0.0
    for _ in range(steps):  # `optax.trace`, without other gradients
        trace = momentum * trace + decay * weight
        weight -= lr * trace
    assert np.log(weight) == pytest.approx(-lr * steps, rel=0.02)


def balanced(optimizer, steps, first, sizes=2000):
    """The RMS of weights, and the angle per update, under gradients like those of a normalised
    layer: random and perpendicular to the weights. One number for each step."""

    @jax.jit
    def run(key):
        def body(carry, key):
            weights, state = carry
            noise = jax.random.normal(key, (sizes,))
            grads = noise - jnp.vdot(noise, weights) / jnp.vdot(weights, weights) * weights
            updates, state = optimizer.update(grads, state, weights)
            after = weights + updates
            norms = jnp.linalg.norm(weights), jnp.linalg.norm(after)
            cosine = jnp.vdot(weights, after) / (norms[0] * norms[1])
            return (after, state), (norms[1] / sizes**0.5, jnp.arccos(jnp.minimum(cosine, 1.0)))

        weights = first * jax.random.normal(key, (sizes,))
        carry = weights, optimizer.init(weights)
        return jax.lax.scan(body, carry, jax.random.split(key, steps))[1]

    return map(np.asarray, run(jax.random.key(0)))


@pytest.mark.parametrize("b1", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_weights_balance_at_the_size_and_the_angle_of_the_source(b1):
    lr, weight_decay = 0.003, 1.0
    wanted = scaling.decay_balance(lr, weight_decay, b1=b1)
    rms, angle = balanced(optax.adamw(lr, b1=b1, weight_decay=weight_decay), 800, wanted.rms)
    assert rms[-200:].mean() == pytest.approx(wanted.rms, rel=0.04)
    assert angle[-200:].mean() == pytest.approx(wanted.angle, rel=0.04)


def test_a_hyperball_turns_by_the_angle_of_the_balance():
    wanted = scaling.decay_balance(0.003, 1.0)
    hyperball = optax.chain(optax.scale_by_adam(), lrax.scale_by_hyperball(wanted.angle))
    _, turned = balanced(hyperball, 40, 1.0, sizes=500)
    assert turned[-20:].mean() == pytest.approx(wanted.angle, rel=0.04)


def test_corrected_decay_keeps_the_balance_as_the_rate_falls():
    steps, peak = 1200, 0.02
    schedule = lrax.linear(peak, steps=steps, end=0.1 * peak)
    wanted = scaling.decay_balance(peak, 1.0).rms
    corrected = scaling.corrected_decay(schedule, 1.0, peak=peak)
    rms, _ = balanced(optax.chain(optax.scale_by_adam(), corrected), steps, wanted, sizes=500)
    assert rms[200:].min() > 0.85 * wanted
    assert rms[200:].max() < 1.15 * wanted
    plain, _ = balanced(optax.adamw(schedule, weight_decay=1.0), steps, wanted, sizes=500)
    assert plain[-1] < 0.6 * wanted


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"normalized": {"body": 1.0}}, TypeError, "`normalized` must be a pytree of bools"),
        ({"mask": lambda params: {"other": True}}, ValueError, "`mask` must have the structure"),
        ({"mask": lambda params: None}, TypeError, "`mask` must be a pytree of bools"),
        ({"peak": 0.0}, ValueError, "`peak` must be finite and positive"),
    ],
)
def test_what_does_not_fit_is_named(changed, error, words):
    params = {"body": jnp.ones(2)}
    state = lrax.scale_by_lr(0.1).init(params)
    arguments = {"peak": 0.1} | changed
    with pytest.raises(error, match=words):
        scaling.corrected_decay(0.1, 0.1, **arguments).update(params, state, params)
    optimizer = scaling.corrected_decay(0.1, 0.1, peak=0.1)
    with pytest.raises(ValueError, match="`params` must be given to `update`"):
        optimizer.update(params, state)
