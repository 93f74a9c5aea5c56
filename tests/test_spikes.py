"""What guards a run against spikes: updates left out, clipped, taken back, and a lower rate."""

import golden
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax

controllers = lrax.controllers
SETTINGS = golden.read("spikes")["settings"]
STEPS = 80
RNG = np.random.default_rng(3)
# A loss and a gradient that fall with noise, with spikes of both kinds.
LOSSES = 2 * np.exp(-np.arange(STEPS) / 60) + 0.05 * RNG.normal(size=STEPS)
NORMS = 3 + 0.3 * RNG.normal(size=STEPS)
LOSSES[[30, 31, 55]] += 3
NORMS[[20, 41, 42, 43, 55, 70]] *= 6
GRADIENTS = NORMS[:, None] * np.array([0.6, 0.8])


def walk(optimizer, gradients=GRADIENTS, losses=LOSSES, start=(1.0, -1.0)):
    """Updates, states and places, in one scan."""

    def body(carry, given):
        params, state = carry
        gradient, loss = given
        updates, state = optimizer.update(gradient, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        return (params, state), (updates, state, params)

    start = jnp.asarray(start)
    run = lambda rows: jax.lax.scan(body, (start, optimizer.init(start)), rows)[1]
    return jax.jit(run)((jnp.asarray(gradients), jnp.asarray(losses)))


@pytest.mark.parametrize("name", ["olmo", "levanter", "zclip"])
@pytest.mark.parametrize("part", [slice(2), pytest.param(slice(2, None), marks=pytest.mark.slow)])
def test_they_do_what_their_authors_do(name, part, x64):
    with x64:
        for setting in [s for s in SETTINGS if s["name"] == name][part]:
            does_what_its_authors_do(name, setting)


def does_what_its_authors_do(name, setting):
    losses, norms = np.array(setting["losses"]), np.array(setting["norms"])
    gradients = norms[:, None] * np.array([0.6, 0.8])
    keywords, wanted = setting["keywords"], np.array(setting["rates"])
    if name == "zclip":
        updates, _, _ = walk(controllers.clip_spikes(**keywords), gradients, losses)
        np.testing.assert_allclose(np.linalg.norm(updates, axis=1), wanted, rtol=1e-9)
        return
    optimizer = controllers.skip_spikes(optax.trace(0.9), **keywords, counting=name)
    updates, states, _ = walk(optimizer, gradients, losses)
    np.testing.assert_array_equal(np.diff(np.asarray(states.skips), prepend=0), wanted)
    # The momentum is that of the other updates alone.
    momentum = np.zeros(2)
    for update, gradient, skip in zip(updates, gradients, wanted, strict=True):
        momentum = momentum if skip else 0.9 * momentum + gradient
        np.testing.assert_allclose(update, 0 if skip else momentum, rtol=1e-12)


def test_the_record_has_spikes_and_other_updates():
    for name in ("olmo", "levanter"):
        skips = [sum(s["rates"]) for s in SETTINGS if s["name"] == name]
        assert len(skips) >= 20
        assert 20 < sum(skips) < 400
    clipped = [
        sum(left < norm for left, norm in zip(s["rates"], s["norms"], strict=True))
        for s in SETTINGS
        if s["name"] == "zclip"
    ]
    assert len(clipped) >= 20
    assert sum(clipped) > 60


@pytest.mark.parametrize("counting", ["olmo", "levanter"])
def test_what_is_not_finite_is_left_out_once(counting):
    # At once, before anything is known, and without harm to what follows.
    losses, gradients = LOSSES.copy(), GRADIENTS.copy()
    losses[[0, 25]] = np.nan
    gradients[26, 0] = np.inf
    optimizer = controllers.skip_spikes(optax.adam(0.1), window=16, sigmas=6.0, counting=counting)
    updates, states, params = walk(optimizer, gradients, losses)
    skipped = np.flatnonzero(np.diff(np.asarray(states.skips), prepend=0))
    assert {0, 25, 26} <= set(skipped)
    assert len(skipped) < 10
    assert np.isfinite(params).all()
    assert np.isfinite(updates).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states.inner_state))


def test_a_gradient_that_is_not_finite_leaves_the_clip_sound():
    gradients = GRADIENTS.copy()
    gradients[[3, 40]] = np.nan
    updates, states, _ = walk(controllers.clip_spikes(), gradients)
    assert np.isnan(updates[40]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states))
    assert states.seen[-1] == STEPS - 2


def test_a_lasting_spike_leads_back_to_the_copy(x64):
    losses = np.full(30, 1.0) + 0.01 * RNG.normal(size=30)
    losses[20:] = 1e3  # the loss stays high, whatever the updates
    with x64:
        optimizer = controllers.restore_after_spikes(
            optax.adam(0.1), every=6, patience=3, window=8, sigmas=4.0
        )
        _, states, params = walk(optimizer, np.ones((30, 2)), losses)
        _, _, free = walk(optax.adam(0.1), np.ones((30, 2)), losses)
    np.testing.assert_allclose(params[:22], free[:22], rtol=0, atol=1e-12)
    # Copies are made in the updates 0, 6, 12 and 18, of the parameters before them. The third spike
    # is in the update 22; it and the next one lead back.
    np.testing.assert_array_equal(np.flatnonzero(np.diff(states.restores, prepend=0)), [22, 26])
    np.testing.assert_allclose(params[22], params[17], rtol=1e-12)
    np.testing.assert_array_equal(params[23], params[17])
    for leaf in jax.tree.leaves(states.inner_state):
        np.testing.assert_array_equal(leaf[23], leaf[17])


def test_parameters_far_away_are_brought_back_exactly():
    # In float32, 1e10 + (0.3 - 1e10) is 0.
    optimizer = controllers.restore_after_spikes(optax.sgd(1.0), patience=1, window=2)
    gradients = np.array([0.0, 0.0, 0.0, -1e10, 0.0, 0.0, 0.0], np.float32)
    losses = np.array([1.0, 1.1, 1.0, 1.0, 1e20, 1.0, 1.0], np.float32)
    _, states, params = walk(optimizer, gradients, losses, start=0.3)
    assert params[3] > 1e9
    np.testing.assert_array_equal(params[5:], np.float32(0.3))
    assert states.restores[-1] == 1


def test_the_rate_of_a_guarded_optimizer_is_read_and_set():
    for make in (controllers.restore_after_spikes, controllers.skip_spikes):
        optimizer = make(lrax.scale_by_lr(lrax.linear(0.5, 0.0, 10)))
        state = optimizer.init(jnp.ones(2))
        for wanted in (0.5, 0.45):
            updates, state = optimizer.update(jnp.ones(2), state, jnp.ones(2), value=1.0)
            assert float(lrax.get_lr(state)) == pytest.approx(wanted)
        updates, _ = optimizer.update(jnp.ones(2), lrax.set_lr(state, 0.25), jnp.ones(2), value=1.0)
        np.testing.assert_array_equal(updates, [-0.25, -0.25])


def test_parameters_never_become_nan():
    losses, gradients = LOSSES.copy(), GRADIENTS.copy()
    losses[:4] = np.nan
    gradients[10:12] = np.nan
    optimizer = controllers.restore_after_spikes(optax.adam(0.1), patience=2, window=16)
    _, states, params = walk(optimizer, gradients, losses)
    assert np.isfinite(params).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states.shadow))


GUARDS = {
    "skip": lambda sigmas: controllers.skip_spikes(optax.adam(0.1), window=16, sigmas=sigmas),
    "clip": lambda sigmas: optax.chain(
        controllers.clip_spikes(sigmas, warmup=5), lrax.scale_by_lr(0.1)
    ),
    "restore": lambda sigmas: controllers.restore_after_spikes(
        optax.adam(0.1), window=16, sigmas=sigmas, patience=1, every=2
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GUARDS)
def test_states_keep_their_shapes_and_numbers_are_swept(name):
    gradients = jnp.asarray(GRADIENTS, jnp.bfloat16)
    params = jnp.ones(2, jnp.bfloat16)
    optimizer = GUARDS[name](4.0)
    traces = []

    @jax.jit
    def update(state, gradient, loss):
        traces.append(None)
        return optimizer.update(gradient, state, params, value=loss)

    state = optimizer.init(params)
    described = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert described(jax.eval_shape(optimizer.init, params)) == described(state)
    for step in range(3):
        updates, after = update(state, gradients[step], LOSSES[step])
        assert updates.dtype == jnp.bfloat16
        assert described(after) == described(state)
        state = after
    assert len(traces) == 1
    places = jax.vmap(lambda sigmas: walk(GUARDS[name](sigmas))[2])(jnp.array([100.0, 4.0]))
    np.testing.assert_allclose(places[1], walk(optimizer)[2], rtol=2e-5, atol=1e-6)
    assert np.any(places[0] != places[1])


def test_the_rate_backs_off_at_a_spike_and_recovers():
    losses = np.ones(20) + 0.01 * RNG.normal(size=20)
    losses[[8, 12]] = 9.0, np.nan
    optimizer = lrax.scale_by_lr(controllers.back_off(factor=0.25, recovery=4, window=8))
    _, states, _ = walk(optimizer, GRADIENTS[:20], losses)
    rates = np.asarray(lrax.get_lr(states))
    wanted = [*[1] * 8, *0.25 ** (1 - np.arange(4) / 4), *0.25 ** (1.25 - np.arange(6) / 4)]
    np.testing.assert_allclose(rates, [*wanted, 1, 1], rtol=1e-6)


@pytest.mark.slow
def test_a_schedule_outside_goes_on_where_an_update_is_left_out():
    schedule = lrax.linear(1.0, 0.0, STEPS)
    skip = controllers.skip_spikes(optax.identity(), window=16, sigmas=3.0)
    _, states, _ = walk(optax.chain(skip, lrax.scale_by_lr(schedule)))
    np.testing.assert_allclose(lrax.get_lr(states), schedule.values(STEPS), rtol=1e-6)
    assert states[0].skips[-1] > 0


def test_the_guarded_state_may_hold_a_random_key():
    noisy = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.scale(-0.1))
    plain, _, _ = walk(optax.with_extra_args_support(noisy), GRADIENTS[:8], LOSSES[:8])
    for make in (controllers.skip_spikes, controllers.restore_after_spikes):
        updates, _, _ = walk(make(noisy), GRADIENTS[:8], LOSSES[:8])
        np.testing.assert_allclose(updates, plain, rtol=1e-6)


def test_what_they_need_is_named():
    for make in (controllers.skip_spikes, controllers.restore_after_spikes):
        optimizer = make(optax.sgd(0.1))
        with pytest.raises(TypeError, match="`value` must be given to `update`"):
            optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), jnp.ones(2))
        with pytest.raises(TypeError, match=r"`optimizer` must be an optax\.Gradient"):
            make(0.1)
        with pytest.raises(ValueError, match="`window` must be at least 2, got 1"):
            make(optax.sgd(0.1), window=1)
    with pytest.raises(TypeError, match="`params` must be given to `update`"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), value=1.0)


@pytest.mark.parametrize("size", [1e18, 1e20, 1e30])
def test_a_spike_whose_square_overflows_is_clipped_too(size):
    clip = lrax.controllers.clip_spikes(warmup=3)
    state = clip.init(jnp.zeros(2))
    for norm in (1.0, 1.5, 2.0, 1.5):
        updates, state = clip.update(jnp.array([norm, 0.0]), state)
    updates, state = clip.update(jnp.array([size, size]), state)
    assert 1 < float(jnp.linalg.norm(updates)) < 2
    assert float(state.mean) < 2
