"""Hyperball: the rate as an angle, against the public code in NumPy, and Optax's protocol."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from jax.experimental import checkify

import lrax

SCHEDULE = lrax.warmup_linear(0.3, steps=12, warmup=3, init=0.05)
B1, B2, EPS = 0.9, 0.95, 1e-8


def start(dtype=np.float64):
    random = np.random.default_rng(0)
    return {
        "w": random.normal(size=(4, 6)).astype(dtype),
        "layers": random.normal(size=(3, 5, 2)).astype(dtype),
    }


def gradient(params):
    """That of an uneven bowl: neither perpendicular to the parameters nor along them."""
    return jax.tree.map(lambda p: p**3 - 0.3 * p + 0.1, params)


def levanter(params, rates, stacked):
    """`levanter.optim.adamh.scale_by_adamh` on each parameter, in float64."""
    mu = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    nu = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    for t, rate in enumerate(rates, start=1):
        for name, g in gradient(params).items():
            p = params[name]
            mu[name] = B1 * mu[name] + (1 - B1) * g
            nu[name] = B2 * nu[name] + (1 - B2) * g**2
            u = mu[name] / (1 - B1**t) / (np.sqrt(nu[name] / (1 - B2**t)) + EPS)
            axes = tuple(range(stacked[name], p.ndim))
            norm = lambda x, axes=axes: np.sqrt(np.sum(x**2, axis=axes, keepdims=True))
            new_p = p - rate * u * norm(p) / np.maximum(norm(u), 1e-10)
            params[name] = new_p / np.maximum(norm(new_p), 1e-10) * norm(p)
    return params


def adam_h(rate, stacked):
    made = lambda stacked: optax.chain(
        optax.scale_by_adam(B1, B2, EPS), lrax.scale_by_hyperball(rate, stacked=stacked)
    )
    return optax.partition({name: made(axes) for name, axes in stacked.items()}, LABELS)


LABELS = {"w": "w", "layers": "layers"}


def trained(optimizer, params, steps):
    @jax.jit
    def run(params):
        def body(carry, _):
            params, state = carry
            updates, state = optimizer.update(gradient(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, optimizer.init(params)), length=steps)[0]

    return run(params)


@pytest.mark.parametrize("stacked", [{"w": 0, "layers": 1}, {"w": 0, "layers": 0}])
def test_it_is_the_published_rule(stacked, x64):
    steps = 12
    with x64:
        params, state = trained(
            adam_h(SCHEDULE, stacked), jax.tree.map(jnp.asarray, start()), steps
        )
        wanted = levanter(start(), [float(SCHEDULE(t)) for t in range(steps)], stacked)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), params, wanted)
        np.testing.assert_allclose(lrax.get_lr(state)["w"], SCHEDULE(steps - 1), rtol=1e-12)


def test_norms_stay_and_the_rate_is_the_angle(x64):
    with x64:
        params = start()
        optimizer = lrax.scale_by_hyperball(0.3)
        state = jax.jit(optimizer.init)(params)
        update = jax.jit(optimizer.update)
        # Perpendicular to the parameters, and of any size.
        other = jax.tree.map(lambda p: np.roll(p, 1, -1), params)
        along = jax.tree.map(lambda o, p: np.sum(o * p) / np.sum(p**2) * p, other, params)
        for size in (1e-12, 1.0, 1e12):
            across = jax.tree.map(lambda o, a, size=size: size * (o - a), other, along)
            updates, _ = update(across, state, params)
            for name, before in params.items():
                after = before + np.asarray(updates[name])
                norms = [np.linalg.norm(x.ravel()) for x in (before, after)]
                assert norms[0] == pytest.approx(norms[1], rel=1e-12)
                cosine = np.sum(before * after) / (norms[0] * norms[1])
                assert np.arccos(cosine) == pytest.approx(np.arctan(0.3), rel=1e-9)
        still, _ = update(jax.tree.map(np.zeros_like, params), state, params)
        for leaf in jax.tree.leaves(still):
            np.testing.assert_allclose(leaf, 0, atol=1e-15)


def test_low_precision_keeps_its_dtype_and_the_first_norm():
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), start())
    optimizer = lrax.scale_by_hyperball(0.05)
    wanted = optimizer.init(params).radius
    after, state = trained(optimizer, params, steps=400)
    for name, leaf in after.items():
        assert leaf.dtype == jnp.bfloat16
        assert state.radius[name].dtype == np.float32
        norm = np.linalg.norm(np.asarray(leaf, np.float32).ravel())
        assert norm == pytest.approx(float(wanted[name].squeeze()), rel=5e-3)


def test_the_state_is_stable_and_nothing_recompiles():
    params = jax.tree.map(jnp.asarray, start(np.float32))
    optimizer = adam_h(SCHEDULE, {"w": 0, "layers": 1})
    update = jax.jit(optimizer.update, donate_argnums=1)
    state = optimizer.init(params)
    described = lambda state: jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), state)
    first = described(state)
    for rate in (None, 0.25):
        state = lrax.set_lr(state, rate)
        _, state = update(params, state, params, value=1.0)
        if rate:
            assert lrax.get_lr(state)["w"] == rate
    assert described(state) == first
    assert update._cache_size() == 1
    assert jax.eval_shape(optimizer.init, params) is not None


def test_rates_are_rules_and_lanes():
    params = {"w": start(np.float32)["w"]}
    halve = lrax.RateRule(
        init=lambda params: jnp.float32(0.2),
        rate=lambda count, scale, *, value, **extra: (scale, scale * value),
    )
    optimizer = lrax.scale_by_hyperball(halve)
    state = jax.jit(optimizer.init)(params)
    _, state = jax.jit(optimizer.update)(params, state, params, value=0.5)
    np.testing.assert_allclose(state.rule, 0.1, rtol=1e-6)
    np.testing.assert_allclose(lrax.get_lr(state), 0.2, rtol=1e-6)

    def step(rate):
        optimizer = lrax.scale_by_hyperball(rate)
        return optimizer.update(gradient(params), optimizer.init(params), params)[0]["w"]

    rates = jnp.array([0.1, 0.3])
    lanes = jax.jit(jax.vmap(step))(rates)
    alone = jax.jit(step)
    np.testing.assert_allclose(lanes, [alone(rate) for rate in rates], rtol=1e-5, atol=1e-7)


def test_what_has_no_angle_is_named():
    params = {"w": jnp.ones((2, 2)), "b": jnp.zeros(2)}
    with pytest.raises(ValueError, match=r"`norm of params\['b'\]` must be finite and positive"):
        lrax.scale_by_hyperball(0.1).init(params)
    with pytest.raises(ValueError, match=r"`params\['b'\]` must have an axis that is not stacked"):
        lrax.scale_by_hyperball(0.1, stacked=1).init(params)
    optimizer = lrax.scale_by_hyperball(0.1)
    state = optimizer.init(params["w"])
    with pytest.raises(ValueError, match="`params` must be given to `update`"):
        optimizer.update(params["w"], state)
    with lrax.checks():
        error, _ = checkify.checkify(jax.jit(optimizer.init))({"b": jnp.zeros(2)})
    assert "`norm of params['b']` must be finite and positive" in error.get()
