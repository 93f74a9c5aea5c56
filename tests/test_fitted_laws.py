"""Laws fitted to curves, and schedules searched by laws and bounds."""

import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from scipy import optimize, signal

import lrax
from lrax.theory.fitting import FittedLaw

STEPS = 400
PEAK = 3e-4
NUMBERS = {
    "annealing": {"L0": 2.6, "A": 0.02, "alpha": 0.8, "C": 60.0, "decay": 0.98},
    "multi_power": {"L0": 2.6, "A": 0.02, "alpha": 0.8, "B": 400.0, "C": 3.0, "beta": 0.6}
    | {"gamma": 0.6},
    "fsl": {"L0": 2.6, "A": 8.0, "alpha": 0.8, "B": 300.0, "C": 2e3, "beta": 2.0},
}
LAWS = {
    "annealing": lrax.theory.annealing_law,
    "multi_power": lrax.theory.multi_power_law,
    "fsl": lrax.theory.functional_law,
}
GIVEN = [
    lrax.warmup_constant(PEAK, warmup=20),
    lrax.warmup_cosine(PEAK, STEPS, warmup=20, end=PEAK / 10),
    lrax.multistep(PEAK, [150], 0.2),
]
UNSEEN = [lrax.wsd(PEAK, STEPS, warmup=20, cooldown=100), lrax.linear(PEAK, 0.0, STEPS)]


@functools.cache
def curves(name):
    """Curves of the law with noise, without the first updates; and the unseen ones without noise."""
    of = lambda schedule: np.asarray(LAWS[name](schedule.values(STEPS), **NUMBERS[name]))
    noise = np.random.default_rng(0).normal(0, 3e-3, (len(GIVEN), STEPS))
    given = [of(s) * np.exp(e) for s, e in zip(GIVEN, noise, strict=True)]
    for losses in given:
        losses[:20] = np.nan
    return given, [of(schedule) for schedule in UNSEEN]


@functools.cache
def fitted(name):
    return lrax.theory.fit_law(name, GIVEN, curves(name)[0])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("annealing", marks=pytest.mark.slow),
        "multi_power",
        pytest.param("fsl", marks=pytest.mark.slow),
    ],
)
def test_a_law_predicts_schedules_that_it_has_not_seen(name):
    law = fitted(name)
    assert law.steps == STEPS
    assert law.r2 > 0.99
    low, high = law.interval
    assert 0.97 < low < 1 < high < 1.03
    for schedule, true in zip(UNSEEN, curves(name)[1], strict=True):
        found = np.asarray(law.predict(schedule))[20:]
        true = true[20:]
        assert 1 - np.sum((found - true) ** 2) / np.sum((true - true.mean()) ** 2) > 0.998
        assert low < true[-1] / found[-1] < high
    np.testing.assert_allclose(law.numbers["L0"], NUMBERS[name]["L0"], rtol=0.02)
    if name == "fsl":  # A and C are only told together, once most of the signal is learned
        found, true = (
            {**n, "AC": n["A"] * n["C"] ** -n["alpha"]} for n in (law.numbers, NUMBERS[name])
        )
        for number in ("alpha", "AC", "B", "beta"):
            np.testing.assert_allclose(found[number], true[number], rtol=0.1)


def by_numpy(rates, L0, A, alpha, C, left):
    """The law of Tissue et al. with 1 - decay = `left`, by SciPy's filter."""
    falls = -np.diff(rates, prepend=rates[0])
    falling = signal.lfilter([1.0], [1.0, left - 1.0], falls)
    area = np.maximum(np.cumsum(rates), 1e-12)  # a warmup begins at 0
    return L0 + A * area**-alpha - C * np.cumsum(falling)


def huber(found, losses):
    errors = np.abs(np.log(np.maximum(found, 1e-9)) - np.log(losses))
    return np.where(errors < 1e-3, errors**2 / 2, 1e-3 * (errors - 5e-4)).sum()


@pytest.mark.slow
def test_the_fit_of_real_curves_is_no_worse_than_scipys_own():
    steps = 300
    schedules = [
        s.replace(**longer) for s, longer in zip(GIVEN, [{}, {"steps": steps}, {}], strict=True)
    ]
    schedules = [0.1 / PEAK * schedule for schedule in schedules]
    swept = lrax.sweep(
        lrax.tasks.digits(),
        lambda schedule: optax.sgd(schedule),
        {"schedule": schedules},
        steps=steps,
        seeds=24,
        progress=False,
    )
    at = np.arange(50, steps, 5)
    # The mean over seeds and over five updates: curves that no law has made.
    smooth = np.stack([swept.losses[..., i : i + steps - 4] for i in range(5)]).mean(axis=(0, 2))
    at = at[at < smooth.shape[1]]
    losses = smooth[:, at].astype(np.float64)
    rates = [np.asarray(schedule.values(steps), np.float64) for schedule in schedules]
    law = lrax.theory.fit_law("annealing", rates, losses, steps=[at] * 3)
    numbers = {**law.numbers}
    numbers["left"] = 1 - numbers.pop("decay")

    def objective(logs):
        each = dict(zip(("L0", "A", "alpha", "C", "left"), np.exp(logs), strict=True))
        return sum(
            huber(by_numpy(own, **each)[at], seen) for own, seen in zip(rates, losses, strict=True)
        )

    found = objective(np.log([float(numbers[n]) for n in ("L0", "A", "alpha", "C", "left")]))
    draw = np.random.default_rng(0)
    best = np.inf
    for _ in range(20):
        start = np.log([losses.min() / 2, 1.0, 0.5, 1.0, 0.02]) + draw.normal(0, 1, 5)
        least = optimize.minimize(
            objective, start, method="Nelder-Mead", options={"maxiter": 4000, "maxfev": 4000}
        )
        best = min(best, least.fun)
    assert np.isfinite(best)
    assert found <= 1.01 * best


def test_losses_may_be_measured_seldom_and_rates_given_as_numbers():
    at = np.arange(20, STEPS, 5)
    rates = [np.asarray(schedule.values(STEPS)) for schedule in GIVEN]
    some = [losses[at] for losses in curves("annealing")[0]]
    law = lrax.theory.fit_law("annealing", rates, some, steps=[at] * 3)
    for schedule, true in zip(UNSEEN, curves("annealing")[1], strict=True):
        np.testing.assert_allclose(law.predict(schedule)[-1], true[-1], rtol=3e-3)
    np.testing.assert_array_equal(law.predict(GIVEN[1]), law.predict(rates[1]))
    assert law.predict(GIVEN[1], 7).shape == (7,)


@pytest.mark.slow
def test_a_spoiled_loss_changes_little():
    losses = [row.copy() for row in curves("annealing")[0]]
    losses[0][100:103] *= 5
    law = lrax.theory.fit_law("annealing", GIVEN, losses)
    for schedule, true in zip(UNSEEN, curves("annealing")[1], strict=True):
        np.testing.assert_allclose(law.predict(schedule)[-1], true[-1], rtol=3e-3)
    np.testing.assert_allclose(np.log(law.interval), np.log(fitted("annealing").interval), rtol=0.2)


def test_curves_of_one_schedule_have_no_interval():
    losses = curves("annealing")[0]
    law = lrax.theory.fit_law("annealing", GIVEN[:1], losses[:1])
    assert law.interval == (0, np.inf)
    seeds = [losses[0], losses[0] * np.exp(np.random.default_rng(1).normal(0, 3e-3, STEPS))]
    law = lrax.theory.fit_law("annealing", [GIVEN[0]] * 2, seeds)
    assert law.interval == (0, np.inf)


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)], ids=str)
def test_the_interval_of_two_noisy_curves_holds_the_others_and_is_narrow(pair):
    of = lambda schedule: np.asarray(
        LAWS["annealing"](schedule.values(STEPS), **NUMBERS["annealing"])
    )
    errors, widths = [], []
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(0, 3e-3, (2, STEPS))
        given = [of(GIVEN[i]) * np.exp(e) for i, e in zip(pair, noise, strict=True)]
        for losses in given:
            losses[:20] = np.nan
        law = lrax.theory.fit_law("annealing", [GIVEN[i] for i in pair], given)
        widths.append(np.log(law.interval[1]))
        errors += [abs(np.log(law.predict(s)[-1] / of(s)[-1])) / widths[-1] for s in UNSEEN]
    assert max(errors) < 1
    # The noise of a stretch of 8 losses is 0.001. The width is a small multiple of it, and hardly
    # depends on the draw.
    assert 0.004 < min(widths) < max(widths) < 0.012
    assert max(widths) < 1.5 * min(widths)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.slow
def test_the_final_loss_alone_is_that_of_the_curve_and_has_derivatives(name):
    law = fitted(name)
    rates = UNSEEN[0].values(STEPS)
    np.testing.assert_allclose(law.final(rates), law.predict(rates)[-1], rtol=1e-6)
    slopes = jax.jit(jax.grad(law.final))(rates)
    assert np.all(np.isfinite(slopes))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"losses": [np.ones(STEPS)]}, "`schedules` and `losses` must be equally many"),
        ({"losses": [np.zeros(STEPS)] * 3}, "`losses` must be finite and positive"),
        ({"losses": [np.full(STEPS, np.nan)] * 3}, "`losses` must have at least 8 measured"),
        ({"schedules": [np.ones(9)] * 3}, "`losses` must be of the 9 updates of its schedule"),
        ({"steps": [np.arange(STEPS)] * 2}, "`steps` must be a list for each of 3 curves"),
        ({"steps": [np.arange(STEPS)[::-1]] * 3}, "`steps` must hold ascending indices"),
        ({"steps": [np.arange(STEPS) + 0.5] * 3}, "`steps` must hold a list of whole numbers"),
    ],
    ids=str,
)
def test_what_curves_must_be_is_said(changed, message):
    given = {"schedules": GIVEN, "losses": curves("annealing")[0], **changed}
    with pytest.raises((TypeError, ValueError), match=message):
        lrax.theory.fit_law("annealing", **given)


# Schedules searched


def test_the_bound_likes_a_nearly_linear_decay():
    start = lrax.constant(1.0)  # far too high: the best peak is a tenth of it
    bound = lrax.theory.last_iterate_bound
    best = lrax.theory.optimize_schedule(bound, start, 100)
    rates = np.asarray(best.values(100), np.float64)
    _, linear = lrax.theory.best_base_rate(1 - np.arange(100) / 100)
    assert 0.97 * linear < bound(rates) < linear
    assert np.all(np.diff(rates) <= 0)
    # Without the first and the last steps, the line through the rates is straight and ends near 0.
    middle = np.arange(5, 95)
    slope, height = np.polyfit(middle, rates[middle], 1)
    assert np.abs(height + slope * middle - rates[middle]).max() < 0.05 * height
    assert abs(height + slope * 100) < 0.05 * height


@pytest.mark.parametrize("beta", [1.25, 2.0])
@pytest.mark.slow
def test_the_functional_law_likes_the_papers_power_decay(beta):
    steps, numbers = 150, {"A": 1.0, "alpha": 1.0, "B": 2.0, "C": 10.0, "beta": beta}
    law = FittedLaw("fsl", {**numbers, "L0": 1.0}, 1.0, (0.99, 1.01), steps)
    best = lrax.theory.optimize_schedule(law, lrax.constant(0.5), steps)
    rates = np.asarray(best.values(steps), float)
    # The power of a decay is the one whose root of the rates is the straightest line.
    powers = np.linspace(0.5, 6, 200)
    lines = [abs(np.corrcoef(np.arange(steps), rates ** (1 / power))[0, 1]) for power in powers]
    np.testing.assert_allclose(powers[np.argmax(lines)], 2 * beta - 1, rtol=0.05)
    closed = lrax.theory.functional_schedule(0.5, steps, **numbers)
    # The search is free, and yet not better than the closed form by more than float32 tells.
    assert abs(law.final(rates) - law.final(closed.values(steps))) < 2e-6
    np.testing.assert_allclose(rates[0], closed(0), rtol=0.05)


def descended(rates, alpha, beta, modes=400, batch=1):
    """The expected loss of stochastic gradient descent in a regression with curvatures j^-beta.

    `batch` Gaussian examples for each update, labels with noise. `rates` are [schedules, steps].
    Each mode has the expected square of its error.
    """
    modes = np.arange(1, modes + 1.0)
    curvatures = modes**-beta
    squares = np.tile(modes ** -(alpha * beta + 1) / curvatures, (len(rates), 1))
    losses = []
    for rate in rates.T[:, :, None]:
        step = rate * curvatures
        noise = (squares @ curvatures)[:, None] + 1
        squares = squares * (1 - 2 * step + (1 + 1 / batch) * step**2)
        squares = squares + step * rate * noise / batch
        losses.append(squares @ curvatures / 2)
    return np.array(losses).T


@pytest.mark.parametrize(("source", "capacity"), [(0.5, 2.0), (0.8, 1.5), (0.3, 3.0)])
@pytest.mark.slow
def test_the_functional_law_is_that_of_sgd_on_power_laws(source, capacity):
    steps, peak = 2000, 0.3
    given = [
        lrax.warmup_constant(peak, warmup=20),
        lrax.warmup_cosine(peak, steps, warmup=20),
        lrax.multistep(peak, [steps // 2], 0.2),
    ]
    unseen = [
        lrax.wsd(peak, steps, warmup=20, cooldown=400),
        lrax.linear(peak, 0.0, steps),
        lrax.constant(peak / 3),
    ]
    rates = np.stack([np.asarray(s.values(steps), np.float64) for s in given + unseen])
    # With the noise of labels, which nothing learns.
    curves = 0.5 + descended(rates, source, capacity, modes=4000, batch=8)
    at = np.arange(20, steps, 4)
    known, ends = list(curves[:3, at]), curves[3:, -1]
    law = lrax.theory.fit_law("fsl", given, known, steps=[at] * 3)
    np.testing.assert_allclose([law.predict(s)[-1] for s in unseen], ends, rtol=2.5e-3)
    np.testing.assert_allclose(law.numbers["alpha"], source, rtol=0.15)
    # The law of annealing, whose falls gain alike at any time, is several times as far off.
    other = lrax.theory.fit_law("annealing", given, known, steps=[at] * 3)
    errors = [abs(found.predict(unseen[0])[-1] - ends[0]) for found in (law, other)]
    assert errors[1] > 5 * errors[0]


@pytest.mark.parametrize("alpha", [1.0, 0.2], ids=["easy", "hard"])
@pytest.mark.slow
def test_the_closed_form_of_three_curves_beats_tuned_schedules(alpha):
    steps, most, beta = 2000, 0.3, 2.0
    places = np.arange(steps) / steps
    cosine = (1 + np.cos(np.pi * places)) / 2
    given = 0.2 * np.stack([np.ones(steps), np.where(places < 0.4, 1, 0.1), cosine])
    curves = 0.5 + descended(given, alpha, beta)  # with the noise of labels
    curves[:, :20] = np.nan
    law = lrax.theory.fit_law("fsl", list(given), list(curves))
    numbers = {name: value for name, value in law.numbers.items() if name != "L0"}
    found = lrax.theory.functional_schedule(most, steps, **numbers).values(steps)
    shapes = [np.ones(steps), cosine, *((1 - places) ** power for power in (0.5, 1, 1.5, 2, 3))]
    others = np.stack([peak * s for s in shapes for peak in most * 0.5 ** np.arange(0, 6, 0.5)])
    best, *tuned = descended(np.stack([np.asarray(found, float), *others]), alpha, beta)[:, -1]
    assert best < 0.97 * min(tuned)


def test_the_multi_power_law_likes_a_plateau_and_a_decay():
    numbers = NUMBERS["multi_power"]
    law = FittedLaw("multi_power", numbers, 1.0, (0.99, 1.01), STEPS)
    start = lrax.warmup_cosine(PEAK, STEPS, warmup=20)
    best = lrax.theory.optimize_schedule(law, start, STEPS)
    rates = np.asarray(best.values(STEPS))
    np.testing.assert_allclose(rates[:20], start.values(20), rtol=1e-5, atol=1e-12)
    assert rates.max() <= PEAK * (1 + 1e-6)
    assert np.all(np.diff(rates[20:]) <= 1e-6 * PEAK)
    assert np.all(rates[20:200] > 0.95 * PEAK)
    assert rates[-1] < 0.1 * PEAK
    assert law.final(best.values(STEPS)) < law.final(start.values(STEPS)) - 1e-3
    # The result is a schedule like any other.
    assert repr(lrax.Schedule.from_dict(best.to_dict())) == repr(best)


def test_the_law_of_annealing_likes_a_sudden_fall():
    law = FittedLaw("annealing", NUMBERS["annealing"], 1.0, (0.99, 1.01), STEPS)
    best = lrax.theory.optimize_schedule(law, lrax.warmup_cosine(PEAK, STEPS, warmup=20), STEPS)
    rates = np.asarray(best.values(STEPS))[20:]
    between = (rates > 0.05 * PEAK) & (rates < 0.95 * PEAK)
    # The knots of the polyline are up to 8 updates apart, and the fall takes two pieces.
    assert between.sum() <= 16
    assert rates[-1] < 0.01 * PEAK


def test_the_result_is_never_worse_than_the_start():
    best = lrax.theory.optimize_schedule(lambda rates: (rates**2).sum(), np.zeros(8) + 0.5, 8)
    assert np.all(np.asarray(best.values(8)) < 0.01)
    start = lrax.constant(0.5)
    assert lrax.theory.optimize_schedule(lambda rates: -rates.sum(), start, 8) is start
    rising = lrax.linear(0.1, 0.8, 8)
    assert lrax.theory.optimize_schedule(lambda rates: rates.sum(), rising, 8) is rising
    with pytest.raises(ValueError, match="`law_or_bound` must be finite at `start`"):
        lrax.theory.optimize_schedule(lambda rates: rates.sum() / 0, start, 8)
    with pytest.raises(TypeError, match="`law_or_bound` must return a real scalar"):
        lrax.theory.optimize_schedule(lambda rates: None, start, 8)


def test_a_curved_warmup_keeps_its_shape_at_any_scale():
    shape = np.append(np.linspace(0, 1, 11) ** 3, np.ones(29))
    for scale in (1e-9, 1.0):
        bound = lambda rates, scale=scale: lrax.theory.last_iterate_bound(rates / scale)
        best = lrax.theory.optimize_schedule(bound, shape * scale, 40).values(40) / scale
        np.testing.assert_allclose(best[:11], shape[:11] * best[10], rtol=1e-5)


def test_a_schedule_is_not_optimized_inside_a_program():
    optimize = lambda rates: lrax.theory.optimize_schedule(jnp.sum, rates, 8).values(8)
    with pytest.raises(TypeError, match="`start` must be concrete: call `optimize_schedule` out"):
        jax.jit(optimize)(jnp.ones(8))
