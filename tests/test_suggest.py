"""`lrax.suggest` and `lrax.probes`' curves: the packages' own answers, and the truth."""

import math

import jax
import numpy as np
import pytest
from golden import read
from jax import numpy as jnp

import lrax
from lrax.finders.suggest import METHODS, PEERS

RECORDED = read("suggest")["settings"]


def curve(setting):
    start, end, steps = setting["ramp"]
    rates = np.array([start * (end / start) ** (i / steps) for i in range(steps)])
    losses = np.array([math.nan if loss is None else loss for loss in setting["losses"]])
    return rates, losses


def wanted(setting, method):
    """What the package suggests, or NaN where it refuses."""
    index = setting["suggested"][method]
    if index is None:
        return math.nan
    return curve(setting)[0][index] / (10 if method == "minimum" else 1)


def answer(*arguments, **keywords):
    """The rate, or NaN for a refusal, which must name an argument."""
    try:
        return lrax.suggest(*arguments, **keywords)
    except ValueError as error:
        if not str(error).startswith(("`losses` must", "`skip_end` must")):
            raise
        return math.nan


def test_the_recorded_curves_are_many_and_of_all_kinds():
    curves = {(str(setting["ramp"]), str(setting["losses"])) for setting in RECORDED}
    assert len(curves) >= 60
    for method in PEERS:
        answers = [setting["suggested"][method] for setting in RECORDED]
        assert None in answers
        assert len(set(answers)) > 5


@pytest.mark.parametrize("method", PEERS)
def test_suggestions_of_a_package_are_its_own(method):
    for setting in RECORDED:
        found = answer(*curve(setting), method, **setting["keywords"])
        assert isinstance(found, float)
        assert found == pytest.approx(wanted(setting, method), rel=1e-14, nan_ok=True), setting


@pytest.mark.parametrize("method", METHODS)
def test_traced_suggestions_are_the_concrete_ones(method, x64):
    by_form = {}
    for setting in RECORDED:
        form = len(setting["losses"]), *setting["keywords"].values()
        by_form.setdefault(form, []).append(setting)
    forms = sorted(by_form, key=lambda form: len(by_form[form]))[-3:]
    with x64:
        for form in forms:
            settings = by_form[form]
            keywords = settings[0]["keywords"]
            rates, losses = map(np.array, zip(*map(curve, settings), strict=True))
            suggest = lambda *lane, keywords=keywords: lrax.suggest(*lane, method, **keywords)
            traced = jax.jit(jax.vmap(suggest))(rates, losses)
            concrete = [answer(*map(jnp.asarray, curve(s)), method, **keywords) for s in settings]
            np.testing.assert_allclose(traced, concrete, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 2, 3, 16])
def test_a_curve_that_is_too_short_is_nan_when_traced(method, steps):
    rates, losses = np.geomspace(1e-4, 1.0, steps), np.full(steps, np.nan)
    suggest = jax.jit(lambda losses: lrax.suggest(rates, losses, method, skip_start=2))
    assert np.isnan(suggest(losses))
    with pytest.raises(ValueError, match="must"):
        lrax.suggest(rates, losses, method, skip_start=2)


# The curve of a range test whose lowest loss is at a known rate.


def truth(best, steps=100, noise=0.0, seed=0, after="rises"):
    rates = np.geomspace(1e-7, 10.0, steps, endpoint=False)
    x = np.log10(rates / best)
    losses = 2.3 - 1.5 / (1 + np.exp(-3 * (x + 1))) + 0.02 * np.exp(np.minimum(5 * x, 40))
    if after == "NaN":
        losses[x > 0.3] = np.nan
    if after == "falls":
        losses = 2.3 - 1.5 / (1 + np.exp(-3 * (x + 1)))
    return rates, losses + noise * np.random.default_rng(seed).normal(size=steps)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-4, 0.0), (100.0, -300.0)])
@pytest.mark.parametrize("after", ["rises", "NaN"])
@pytest.mark.parametrize("steps", [50, 100, 300])
@pytest.mark.parametrize("best", [1e-4, 1e-2, 0.3])
def test_half_of_the_best_rate_whatever_the_units(best, steps, after, scale, offset):
    rates, losses = truth(best, steps, after=after)
    found = lrax.suggest(rates, scale * losses + offset)
    lowest = rates[np.nanargmin(losses)]
    assert abs(np.log10(found / (lowest / 2))) < 0.35


def test_noise_moves_it_little():
    off = []
    for seed in range(40):
        rates, losses = truth(1e-2, noise=0.15, seed=seed)
        off.append(np.log10(lrax.suggest(rates, losses) / 5e-3))
    assert np.median(np.abs(off)) < 0.25
    assert np.max(np.abs(off)) < 0.8


def test_pure_noise_is_refused_and_a_descent_is_not():
    rates = np.geomspace(1e-7, 10, 100)
    noise = np.random.default_rng(0).normal(size=(300, 100))
    refused = np.isnan([answer(rates, 2.0 + 0.3 * losses) for losses in noise])
    assert refused.mean() > 0.98
    fell = [answer(*truth(1e-2, noise=0.3, seed=seed)) for seed in range(100)]
    assert np.isfinite(fell).all()


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (np.ones(50), "flat"),
        (np.linspace(1, 2, 50) ** 4, "only rises"),
        (np.r_[1.0, np.nan, np.ones(48)], "at least 5 finite"),
        (np.full(50, np.nan), "at least 5 finite"),
        (np.r_[np.ones(20), 1e30 * np.ones(30)], "only rises"),
    ],
    ids=["flat", "rising", "NaN second", "NaN", "diverging"],
)
def test_refusals_say_why(losses, words):
    with pytest.raises(ValueError, match=words):
        lrax.suggest(np.geomspace(1e-5, 1, 50), losses)


def test_arguments_that_are_wrong():
    rates, losses = truth(1e-2)
    for wrong, words in [
        ({"method": "best"}, "`method` must be one of 'lrax'"),
        ({"skip_start": -1}, "`skip_start` must be at least 0"),
        ({"rates": -rates}, "`rates` must be finite and positive"),
        ({"rates": rates[::-1]}, "`rates` must be in ascending order"),
        ({"rates": rates[:-1]}, "of the same length"),
        ({"losses": losses[None]}, "`losses` must be a list"),
        ({"method": "lightning"}, "`skip_end` must be at least 1"),
    ]:
        with pytest.raises(ValueError, match=words):
            lrax.suggest(**({"rates": rates, "losses": losses} | wrong))


# Smoothing.


@pytest.mark.parametrize("kind", ["debiased", "seeded", "zero_phase"])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.98])
def test_smooth_is_its_formula_traced_and_not(kind, beta):
    losses = np.random.default_rng(0).normal(size=(3, 40))
    at = np.arange(40)
    gap = at[:, None] - at
    weights = np.where((gap >= 0) | (kind == "zero_phase"), beta ** np.abs(gap), 0.0)
    if kind == "seeded":
        weights[:, 1:] *= 1 - beta
    wanted = losses @ (weights / weights.sum(1, keepdims=True)).T
    found = lrax.probes.smooth(losses, kind, beta)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)
    traced = jax.jit(jax.vmap(lambda losses: lrax.probes.smooth(losses, kind, beta)))(losses)
    np.testing.assert_allclose(traced, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["debiased", "seeded", "zero_phase"])
def test_smooth_keeps_a_constant(kind):
    np.testing.assert_allclose(lrax.probes.smooth(np.full(30, 7.0), kind), 7.0, rtol=1e-12)


def test_zero_phase_has_no_lag_and_the_causal_ones_have():
    at = np.arange(101)
    valley = np.abs(at - 60.0)
    assert lrax.probes.smooth(valley, "zero_phase", 0.9).argmin() == pytest.approx(60, abs=1)
    assert lrax.probes.smooth(valley, "debiased", 0.9).argmin() > 64
    random = np.random.default_rng(1).normal(size=50)
    backward = lrax.probes.smooth(random[::-1], "zero_phase", 0.9)[::-1]
    np.testing.assert_allclose(lrax.probes.smooth(random, "zero_phase", 0.9), backward)


def test_what_is_not_finite():
    losses = np.array([1.0, 1.0, np.nan, 1.0, np.inf])
    assert np.isnan(lrax.probes.smooth(losses)[2:]).all()
    zero_phase = lrax.probes.smooth(losses, "zero_phase")
    np.testing.assert_allclose(zero_phase, losses)


def test_diverged_at():
    diverged_at = lrax.probes.diverged_at
    assert diverged_at([2.0, 1.0, 4.0, 4.1]) == 3
    assert diverged_at([2.0, 1.0, 4.0, 4.1], factor=5.0) == -1
    assert diverged_at([2.0, np.nan, 1.0, np.inf]) == 3
    assert diverged_at([np.nan, np.nan]) == -1
    assert diverged_at([-1.0, -2.0]) == 0
    several = np.array([[2.0, 1.0, 4.1], [1.0, 1.0, 1.0]])
    assert diverged_at(several).tolist() == [2, -1]
    assert jax.jit(diverged_at)(several).tolist() == [2, -1]


# The ramp.


@pytest.mark.parametrize(("inclusive", "last"), [("left", 100), ("both", 99)])
def test_range_ramp_has_all_digits_of_small_rates(inclusive, last):
    ramp = lrax.range_ramp(1e-7, 10.0, 100, inclusive=inclusive)
    wanted = 1e-7 * 1e8 ** (np.arange(100) / last)
    np.testing.assert_allclose(ramp.values(100), wanted, rtol=1e-5)
    assert ramp(0) == np.float32(1e-7)
    assert ramp(last) == 10
