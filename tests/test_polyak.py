"""`controllers.polyak`: Polyak's step sizes as their papers have them, and their convergence."""

import golden
import jax
import numpy as np
import optax
import pytest
from golden.record_polyak import TRUTH, batches
from jax import numpy as jnp

import lrax

polyak = lrax.controllers.polyak
ROWS = batches()
RECORDED = golden.read("polyak")["settings"]
START = np.zeros(8)


def least_squares(x, rows):
    return 0.5 * jnp.mean((rows @ (x - TRUTH)) ** 2)


def walk(rule, rows=ROWS, loss=least_squares, start=START):
    """The rates, and the parameters at the end."""
    optimizer = lrax.scale_by_lr(rule)

    def body(carry, row):
        x, state = carry
        value, gradient = jax.value_and_grad(loss)(x, row)
        updates, state = optimizer.update(gradient, state, x, value=value)
        return (optax.apply_updates(x, updates), state), lrax.get_lr(state)

    start = jnp.asarray(start)
    (x, _), rates = jax.lax.scan(body, (start, optimizer.init(start)), jnp.asarray(rows))
    return rates, x


def lanes(settings):
    """The same of several settings, in one program; a number that is not given changes nothing."""
    neutral = {"max_rate": np.inf, "c": 1.0, "f_min": 0.0, "eps": 0.0, "growth": 1e30}
    numbers = [neutral | setting for setting in settings]
    numbers = {name: np.array([n[name] for n in numbers]) for name in neutral}
    return jax.jit(jax.vmap(lambda numbers: walk(polyak(**numbers))))(numbers)


def transcribed(max_rate=np.inf, c=1.0, f_min=0.0, eps=0.0, growth=np.inf):
    """SPS_max (Loizou et al. 2020, equation 3, and its smoothing) and ALI-G (Berrada et al. 2019,
    equation 11), in NumPy.
    """
    x, last, rates = START, np.inf, []
    for rows in ROWS:
        residual = rows @ (x - TRUTH)
        loss = 0.5 * np.mean(residual**2)
        gradient = rows.T @ residual / len(rows)
        rate = max(loss - f_min, 0.0) / (c * gradient @ gradient + eps)
        rate = min(rate, growth * last, max_rate)
        last = rate if rate > 0 else last
        rates.append(rate)
        x = x - rate * gradient
    return np.array(rates), x


FORMS = {
    "SPS": {"c": 0.5},
    "SPS_max": {"max_rate": 0.3, "c": 1.0},
    "SPS_max, smoothed": {"max_rate": 1.0, "c": 0.7, "growth": 2 ** (1 / 7)},
    "ALI-G": {"max_rate": 0.4, "eps": 0.3},
    "a lower bound above the loss": {"f_min": 0.1, "growth": 1.1},
}


def test_polyak_is_its_papers_formula(x64):
    with x64:
        rates, ends = lanes(FORMS.values())
    for numbers, row, end in zip(FORMS.values(), rates, ends, strict=True):
        expected, at_end = transcribed(**numbers)
        np.testing.assert_allclose(row, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(end, at_end, rtol=1e-9)
        assert len(set(np.round(expected, 6))) > 5


def ours(name, keywords):
    """The numbers of `polyak` that stand for an optimizer's own arguments."""
    if name == "AliG":
        highest = keywords["max_lr"]
        return {"eps": 1e-6, "max_rate": np.inf if highest is None else highest}
    numbers = {"c": keywords.get("c", 0.5), "eps": 1e-8}
    if keywords.get("adapt_flag") == "constant":
        return numbers | {"max_rate": keywords.get("eta_max", np.inf)}
    return numbers | {"growth": 2 ** (1 / keywords["n_batches_per_epoch"])}


def test_polyak_equals_the_authors(x64):
    with x64:
        rates, _ = lanes([ours(setting["name"], setting["keywords"]) for setting in RECORDED])
    for setting, row in zip(RECORDED, rates, strict=True):
        # pytorch_optimizer sums the squared norm in float32.
        precision = 1e-9 if setting["name"] == "Sps" else 1e-5
        np.testing.assert_allclose(row, setting["rates"], rtol=precision)


def test_polyak_converges_where_every_batch_can_be_fitted():
    # With `c=0.5` one step solves a batch of one equation, as in Kaczmarz' method.
    rows = np.random.default_rng(1).normal(size=(400, 1, 8))
    _, x = jax.jit(lambda: walk(polyak(c=0.5), rows))()
    np.testing.assert_allclose(x, TRUTH, atol=1e-5)
    _, x = jax.jit(lambda: walk(polyak(), rows))()
    np.testing.assert_allclose(x, TRUTH, atol=1e-3)


def test_polyak_descends_rosenbrocks_valley():
    def rosenbrock(x, _):
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    start = np.array([-1.2, 1.0])
    _, x = jax.jit(lambda: walk(polyak(), np.zeros((2000, 1)), rosenbrock, start))()
    assert rosenbrock(x, None) < 1e-2


def rates_of(rule, losses, gradients):
    optimizer = lrax.scale_by_lr(rule)
    state = optimizer.init(gradients[0])
    update = jax.jit(lambda gradient, state, loss: optimizer.update(gradient, state, value=loss))
    rates = []
    for loss, gradient in zip(losses, gradients, strict=True):
        updates, state = update(gradient, state, loss)
        rates.append(float(lrax.get_lr(state)))
    return rates, updates


ONE = jnp.ones(2)  # of the squared norm 2
# keywords, losses, gradients, rates
CASES = {
    "a loss below its bound does not ascend": ({"f_min": 2.0}, [1.0, 4.0], [ONE, ONE], [0, 1]),
    "a zero gradient": ({}, [1.0, 2.0], [0 * ONE, ONE], [0, 1]),
    "a zero gradient with eps": ({"max_rate": 3.0, "eps": 0.1}, [1.0], [0 * ONE], [3]),
    "a loss that is NaN": ({}, [np.nan, 2.0], [ONE, ONE], [0, 1]),
    "a gradient that is NaN": ({}, [1.0, 2.0], [np.nan * ONE, ONE], [0, 1]),
    "a loss that is infinite": ({"max_rate": 3.0}, [np.inf, 2.0], [ONE, ONE], [0, 1]),
    "growth": ({"growth": 2.0}, [2.0, 20.0, 20.0, 2.0], [ONE] * 4, [1, 2, 4, 1]),
    # The authors' code keeps a rate of 0, and never leaves it.
    "growth after a loss of 0": ({"growth": 2.0}, [2.0, 0.0, 20.0], [ONE] * 3, [1, 0, 2]),
    "growth after NaN": ({"growth": 2.0}, [2.0, np.nan, 20.0], [ONE] * 3, [1, 0, 2]),
    "the first rate has only the highest": (
        {"growth": 2.0, "max_rate": 5.0},
        [20.0, 20.0],
        [ONE] * 2,
        [5, 5],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_polyak_stays_sound(name):
    keywords, losses, gradients, rates = CASES[name]
    np.testing.assert_allclose(rates_of(polyak(**keywords), losses, gradients)[0], rates, rtol=1e-6)


def test_the_norm_of_bfloat16_is_summed_in_float32():
    # A sum of ones in bfloat16 stops at 256.
    gradient = jnp.ones(5000, jnp.bfloat16)
    rates, updates = rates_of(polyak(), [10.0], [gradient])
    assert rates == pytest.approx([10 / 5000])
    assert updates.dtype == jnp.bfloat16


def test_the_norm_is_that_of_the_group_and_of_complex_numbers():
    gradient = {"a": jnp.array([3 + 4j]), "b": ONE}
    optimizer = optax.masked(lrax.scale_by_lr(polyak()), {"a": True, "b": False})
    _, state = optimizer.update(gradient, optimizer.init(gradient), value=5.0)
    assert float(lrax.get_lr(state)) == pytest.approx(5 / 25)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"max_rate": -1.0}, "`max_rate` must be at least 0, got -1"),
        ({"max_rate": np.nan}, "`max_rate` must be at least 0"),
        ({"c": 0.0}, "`c` must be finite and positive, got 0"),
        ({"f_min": -np.inf}, "`f_min` must be finite, got -inf"),
        ({"eps": -1.0}, "`eps` must be finite and non-negative"),
        ({"growth": 0.0}, "`growth` must be finite and positive"),
    ],
)
def test_bad_arguments_are_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        polyak(**keywords)


def test_a_loss_that_is_not_given_is_named():
    optimizer = lrax.scale_by_lr(polyak())
    with pytest.raises(TypeError, match="`value` must be given to `update`: `polyak` follows it"):
        optimizer.update(ONE, optimizer.init(ONE))
