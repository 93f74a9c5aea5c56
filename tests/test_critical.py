"""`controllers.critical`: the rate is a part of the smallest one that raises the batch's loss."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax

critical = lrax.controllers.critical
CURVATURES = np.array([1.0, 3.0, 10.0])


def loss_of(factor):
    return lambda x: factor * jnp.sum(CURVATURES * x**2) / 2


def of_quadratic(x, u, factor=1.0):
    """The critical rate of a quadratic loss along an update: twice the exact line search."""
    return 2 * np.sum(CURVATURES * x * u) / np.sum(CURVATURES * u**2)


def walk(rule, factors, signal=None):
    """Rates and places of gradient descent on quadratics, a factor for each update."""
    optimizer = lrax.scale_by_lr(rule)

    def body(carry, given):
        x, state = carry
        factor, fresh = given
        loss = loss_of(factor)
        extra = {} if signal is None else {"fresh": {signal: fresh}}
        updates, state = optimizer.update(jax.grad(loss)(x), state, x, value_fn=loss, **extra)
        return (optax.apply_updates(x, updates), state), (lrax.get_lr(state), x)

    start = jnp.asarray([1.0, 1.0, -1.0])
    fresh = np.arange(len(factors)) % 4 == 0
    run = lambda: jax.lax.scan(body, (start, optimizer.init(start)), (factors, fresh))[1]
    rates, places = jax.jit(run)()
    return np.asarray(rates), np.asarray(places, np.float64)


def test_it_is_the_exact_line_search_of_a_quadratic():
    rates, places = walk(critical(fraction=0.5, every=1, decay=0.0), np.ones(12, np.float32))
    wanted = [of_quadratic(x, CURVATURES * x) / 2 for x in places]
    np.testing.assert_allclose(rates, wanted, rtol=0.1)
    assert np.sum(CURVATURES * places[-1] ** 2) < 1e-2 * np.sum(CURVATURES * places[0] ** 2)


@pytest.mark.parametrize("signal", [None, "probe"])
def test_it_measures_every_so_often_and_averages_logarithms(signal):
    factors = np.repeat(np.array([1, 8, 2], np.float32), 4)
    rule = critical(fraction=0.2, every=signal or 4, decay=0.5)
    rates, places = walk(rule, factors, signal)
    mean = np.nan
    for step, (factor, x) in enumerate(zip(factors, places, strict=True)):
        if step % 4 == 0:
            found = of_quadratic(x, factor * CURVATURES * x)
            mean = found if step == 0 else np.sqrt(mean * found)
        assert rates[step] == pytest.approx(0.2 * mean, rel=0.12)


def test_a_bad_measurement_is_dropped():
    optimizer = lrax.scale_by_lr(critical(2.0, fraction=0.5, every=1))
    x = jnp.ones(3)
    state = optimizer.init(x)
    assert lrax.get_lr(state) == 1.0
    update = jax.jit(
        lambda u, state, factor: optimizer.update(u, state, x, value_fn=loss_of(factor))[1]
    )
    # The loss is NaN; it does not rise at any rate; the update is NaN.
    for u, factor in [(x, np.nan), (0 * x, 1.0), (np.nan * x, 1.0)]:
        state = update(u, state, factor)
        assert lrax.get_lr(state) == 1.0
        assert not state.rule.measured
    state = update(CURVATURES * x, state, 1.0)
    good = lrax.get_lr(state)
    assert 0 < good < 1
    assert lrax.get_lr(update(0 * x, state, 1.0)) == good


def test_a_signal_keeps_the_measurement_a_branch_in_lanes():
    lanes = jnp.ones((2, 3))

    def branches(signal):
        optimizer = lrax.scale_by_lr(critical(every=signal or 20))
        states = jax.vmap(optimizer.init)(lanes)

        def update(state, x, fresh):  # as a run calls it: the flag is the same in all lanes
            return optimizer.update(x, state, x, value_fn=loss_of(1.0), fresh={"probe": fresh})

        program = jax.make_jaxpr(jax.vmap(update, in_axes=(0, 0, None)))(states, lanes, True)
        return str(program).count("cond[")

    assert branches("probe") == branches(None) + 1


def test_what_it_needs_is_named():
    optimizer = lrax.scale_by_lr(critical(every="probe"))
    state = optimizer.init(jnp.ones(2))
    with pytest.raises(TypeError, match="`value_fn` must be given to `update`"):
        optimizer.update(jnp.ones(2), state, jnp.ones(2))
    with pytest.raises(TypeError, match=r"`fresh` must be given to `update` with 'probe'"):
        optimizer.update(jnp.ones(2), state, jnp.ones(2), value_fn=jnp.sum)
    with pytest.raises(TypeError, match="`params` must be given to `update`"):
        optimizer.update(jnp.ones(2), state, value_fn=jnp.sum)
    with pytest.raises(TypeError, match="`every` must be the name of an argument"):
        critical(every="a b")
