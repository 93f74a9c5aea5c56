"""`controllers.velocity`: a raise of the rate is kept if the loss then falls faster."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from scipy import stats

import lrax

velocity = lrax.controllers.velocity


def rates_of(rule, losses):
    optimizer = lrax.scale_by_lr(rule)

    def body(state, loss):
        _, state = optimizer.update(jnp.ones(()), state, value=loss)
        return state, lrax.get_lr(state)

    run = lambda losses: jax.lax.scan(body, optimizer.init(jnp.ones(())), losses)
    state, rates = jax.jit(run)(jnp.asarray(losses))
    return np.asarray(rates), state


def in_numpy(losses, *, up=1.5, down=0.5, window=100, errors=2.0, shrink=0.8):
    """The rule, from scipy's regression of each window.

    AdaLRS has for the rate of the next window, with the errors of both slopes as 2 e,
        a eta if v(a eta) > v(eta) + 2 e, b eta if v(a eta) < v(eta) - 2 e, else eta,
    where a = max(lambda^t alpha, 1) and b = 1 / max(lambda^t beta, 1). The first case and the last
    are those below. Not b, in whose place is `down` after a loss that has risen; not the clock t of
    the factors, in whose place is the number of raises taken back; not the return to the parameters
    before the raise; and AdaLRS raises only where the loss has slowed.
    """
    scale, before, size, trying, seen, rates = 1.0, 1.0, 1.0, None, [], []
    for loss in losses:
        if not np.isfinite(loss):
            if trying is not None:
                scale, size, trying, seen = before, size * shrink, None, []
        else:
            seen.append(loss)
        if len(seen) == window:
            fit = stats.linregress(np.arange(window), seen)
            speed, error = -fit.slope, fit.stderr
            seen = []
            if trying is None:
                if speed < -errors * error:
                    scale *= down
                else:
                    trying, before, scale = (speed, error), scale, scale * up**size
            elif speed - trying[0] > errors * np.hypot(error, trying[1]):
                trying, before, scale = (speed, error), scale, scale * up**size
            else:
                scale, size, trying = before, size * shrink, None
        rates.append(scale)
    return rates


RNG = np.random.default_rng(0)
CURVES = {
    "accelerates": 10 - 0.001 * np.arange(300.0) ** 1.5,
    "slows": np.exp(-np.arange(300.0) / 60),
    "noise": 1 + 0.1 * RNG.normal(size=300),
    "walks": np.cumsum(RNG.normal(size=300)),
    "rises": 1 + np.arange(300.0) / 300 + 0.05 * RNG.normal(size=300),
    "spikes": np.where(np.arange(300) % 37 == 30, np.nan, np.cumsum(RNG.normal(size=300))),
}


def test_it_is_the_rule_of_its_windows(x64):
    with x64:
        for numbers in ({"window": 20}, {"window": 11, "up": 3.0, "down": 0.7, "errors": 0.5}):
            lanes = jax.jit(
                jax.vmap(lambda losses, numbers=numbers: scan_of(velocity(**numbers), losses))
            )(np.array(list(CURVES.values())))
            for name, rates in zip(CURVES, np.asarray(lanes), strict=True):
                wanted = in_numpy(CURVES[name], **numbers)
                np.testing.assert_allclose(rates, wanted, rtol=1e-9, err_msg=name)


def scan_of(rule, losses):
    optimizer = lrax.scale_by_lr(rule)

    def body(state, loss):
        _, state = optimizer.update(jnp.ones(()), state, value=loss)
        return state, lrax.get_lr(state)

    return jax.lax.scan(body, optimizer.init(jnp.ones(())), losses)[1]


def test_float32_sums_are_enough_for_a_large_loss():
    # The loss is large and its slope small.
    losses = 1e4 - 0.5 * np.arange(400.0) + RNG.normal(size=400)
    numbers = {"window": 100, "up": 2.0}
    rates, _ = rates_of(velocity(**numbers), losses.astype(np.float32))
    np.testing.assert_allclose(rates, in_numpy(losses, **numbers), rtol=1e-6)


def test_a_rate_that_is_far_too_low_is_raised():
    loss = lambda x: jnp.sum(jnp.array([1.0, 4.0]) * x**2) / 2
    optimizer = lrax.scale_by_lr(1e-4 * velocity(up=2.0, window=10, errors=0.0))

    def body(carry, _):
        x, state = carry
        value, grads = jax.value_and_grad(loss)(x)
        updates, state = optimizer.update(grads, state, x, value=value)
        return (x + updates, state), (lrax.get_lr(state), value)

    start = jnp.array([1.0, 1.0])
    _, (rates, losses) = jax.jit(
        lambda: jax.lax.scan(body, (start, optimizer.init(start)), None, 300)
    )()
    assert rates.max() > 1e-2  # a hundred times the first one
    assert rates.max() < 0.5  # the loss would rise
    assert losses[-1] < 0.05 * losses[0]  # 0.87 of it at the first rate


def test_what_is_not_finite_ends_a_raise():
    losses = np.array([5, 4, 3, np.nan, np.inf, 2, 1, 0], np.float32)
    rates, state = rates_of(velocity(up=2.0, window=3), losses)
    np.testing.assert_array_equal(rates, [1, 1, 2, 1, 1, 1, 1, np.float32(2**0.8)])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_a_loss_that_explodes_lowers_the_rate():
    # The squares of these losses overflow float32, and so may the sums.
    for highest in (1e25, 1e30, 3e38):
        losses = np.array([1, highest, highest, 1, 1, 1], np.float32)
        rates, state = rates_of(velocity(window=3), losses)
        np.testing.assert_array_equal(rates, [1, 1, 0.5, 0.5, 0.5, 0.75])
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_there_is_no_raise_at_the_ceiling():
    losses = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 9, 9, 9], np.float32)
    rates, state = rates_of(velocity(up=2.0, window=3, ceiling=1.0), losses)
    np.testing.assert_array_equal(rates, 1)
    assert (state.rule.size, state.rule.trying) == (1, False)


def test_the_scale_starts_within_its_bounds():
    for bounds, first in (({"ceiling": 0.5}, 0.5), ({"floor": 2.0}, 2.0), ({"floor": 0.5}, 1.0)):
        optimizer = lrax.scale_by_lr(velocity(**bounds))
        assert lrax.get_lr(optimizer.init(jnp.ones(()))) == first
        rates, _ = rates_of(velocity(window=3, **bounds), np.ones(2, np.float32))
        np.testing.assert_array_equal(rates, first)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"up": 0.9}, "`up` must be finite and at least 1"),
        ({"down": 1.1}, "`down` must be from 0 to 1"),
        ({"shrink": -0.1}, "`shrink` must be from 0 to 1"),
        ({"window": 2}, "`window` must be finite and at least 3"),
        ({"ceiling": -1.0}, "`floor` must be at most `ceiling`, got 0.0 and -1.0"),
        ({"ceiling": np.nan}, "`floor` must be at most `ceiling`, got 0.0 and nan"),
        ({"floor": 0.6, "ceiling": 0.5}, "`floor` must be at most `ceiling`, got 0.6 and 0.5"),
    ],
)
def test_bad_numbers_are_named(numbers, message):
    with pytest.raises(ValueError, match=message):
        velocity(**numbers)
