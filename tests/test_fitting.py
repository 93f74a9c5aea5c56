"""One's own law of the best rate, from one's own sweeps."""

import math

import numpy as np
import optax
import problems
import pytest

import lrax
from lrax.scaling import Setting, fit
from lrax.scaling.published import POWER_SD, POWERS
from lrax.sweeps.optimum import Optimum

EXPONENTS = {"width": -1.0, "depth": -0.5, "batch": 0.5, "tokens": -0.3}


def rate(setting):
    fields = {name: getattr(setting, name) for name in EXPONENTS}
    known = [EXPONENTS[name] * math.log(value) for name, value in fields.items() if value]
    return math.exp(-2 + sum(known))


def around(value, sd=0.1):
    return value, value * math.exp(-1.96 * sd), value * math.exp(1.96 * sd)


def width(size):
    return Setting(width=size)


FACTORIAL = [
    Setting(width=64, depth=4, batch=32, tokens=1e6),
    Setting(width=256, depth=4, batch=32, tokens=1e6),
    Setting(width=64, depth=16, batch=32, tokens=1e6),
    Setting(width=64, depth=4, batch=128, tokens=1e6),
    Setting(width=64, depth=4, batch=32, tokens=1.6e7),
    Setting(width=256, depth=16, batch=128, tokens=1.6e7),
]
TARGET = Setting(width=1024, depth=32, batch=512, tokens=1e9)


@pytest.mark.parametrize("result", [rate, lambda setting: around(rate(setting))])
def test_known_exponents_are_found(result):
    law = fit([(setting, result(setting)) for setting in FACTORIAL])
    assert list(law.exponents) == list(EXPONENTS)
    for name, (value, low, high) in law.exponents.items():
        assert value == pytest.approx(EXPONENTS[name], abs=1e-9)
        assert low <= value <= high
    found = law.predict(TARGET)
    assert found.rate == pytest.approx(rate(TARGET), rel=1e-9)
    assert found.low <= found.rate <= found.high
    assert "-1.000" in str(law)


def test_only_what_varies_has_an_exponent():
    law = fit([(Setting(width=w, batch=32), 1 / w) for w in (64, 128, 256)])
    assert list(law.exponents) == ["width"]
    expected = pytest.approx(1 / 512, rel=1e-9)
    assert law.predict(Setting(width=512, batch=32)).rate == expected
    assert law.predict(width(512)).rate == expected  # a field that is not told is as it was
    with pytest.raises(ValueError, match="`setting` must have the batch of all results"):
        law.predict(Setting(width=512, batch=64))
    with pytest.raises(ValueError, match="`setting` must have the tokens of all results"):
        law.predict(Setting(width=512, tokens=1e6))
    with pytest.raises(ValueError, match="`setting` must have a value for each of width"):
        law.predict(Setting(batch=32))


def posterior(x, y, sd, prior, target):
    """Bayesian linear regression in float64 NumPy: the mean and standard deviation at `target`."""
    target = target - x.mean()
    x = x - x.mean()
    precision = np.zeros((2, 2))
    precision[0, 0] = np.sum(1 / sd**2)
    precision[0, 1] = precision[1, 0] = np.sum(x / sd**2)
    precision[1, 1] = np.sum(x**2 / sd**2) + 1 / prior[1] ** 2
    right = np.array([np.sum(y / sd**2), np.sum(x * y / sd**2) + prior[0] / prior[1] ** 2])
    covariance = np.linalg.inv(precision)
    row = np.array([1.0, target])
    return row @ covariance @ right, math.sqrt(row @ covariance @ row)


def test_intervals_are_those_of_bayesian_regression():
    widths = np.array([64.0, 128.0, 256.0])
    sd = np.array([0.05, 0.2, 0.1])
    y = -1.1 * np.log(widths) + np.array([0.01, -0.02, 0.01])
    prior = (-1.05, 0.07)
    results = [(width(w), around(math.exp(v), s)) for w, v, s in zip(widths, y, sd, strict=True)]
    law = fit(results, priors={"width": prior})
    mean, spread = posterior(np.log(widths), y, sd, prior, math.log(1024))
    rate, low, high = law.predict(width(1024))
    assert math.log(rate) == pytest.approx(mean, abs=1e-9)
    assert math.log(low) == pytest.approx(mean - 1.96 * spread, abs=0.1 * spread)
    assert math.log(high) == pytest.approx(mean + 1.96 * spread, abs=0.1 * spread)


def test_a_prior_stands_in_for_what_does_not_vary():
    one = [(Setting(batch=32, tokens=1e6), around(0.01, 1e-3))]
    law = fit(one, priors={"tokens": (-0.3, 0.1)})
    assert law.exponents["tokens"].value == pytest.approx(-0.3)
    rate, low, high = law.predict(Setting(batch=32, tokens=1.6e7))
    assert rate == pytest.approx(0.01 * 16**-0.3)
    assert math.log(high / low) == pytest.approx(2 * 1.96 * 0.1 * math.log(16), rel=0.05)
    words = " ".join(law.warnings(Setting(batch=32, tokens=1.6e7)))
    assert "tokens 1.6e+07 is 16 times the largest of the results, 1e+06" in words
    assert "1 value of tokens cannot show whether the law bends" in words


@pytest.mark.parametrize("law", POWERS)
def test_a_published_law_is_a_wide_prior(law):
    settings = [Setting(tokens=tokens) for tokens in (1e6, 4e6)]
    results = [(each, around(rate(each))) for each in settings]
    by_name = fit(results, priors={"tokens": law})
    by_hand = fit(results, priors={"tokens": (POWERS[law].exponent, POWER_SD)})
    assert by_name.exponents == by_hand.exponents
    # The results outweigh it, if it is far away too: theirs is -0.3 with a standard deviation of
    # 0.1, so a tenth of the difference is the prior's.
    assert by_name.exponents["tokens"].value == pytest.approx(
        -0.3 + 0.1 * (POWERS[law].exponent + 0.3), abs=0.01
    )


def test_the_prior_is_as_wide_as_published_exponents_scatter():
    exponents = [power.exponent for power in POWERS.values()]
    assert np.std(exponents, ddof=1) == pytest.approx(POWER_SD, abs=0.02)


def test_published_laws_are_named_and_hold_under_their_condition():
    one = [(Setting(width=64, batch=8, tokens=1e6), around(0.01))]
    refused(one, "must be one of 'completed', 'scion', 'bjorck'", priors={"tokens": "chinchilla"})
    refused(one, "published laws with a name are of tokens", priors={"width": "bjorck"})
    refused(one, "got 'step_law': the batch grows", priors={"tokens": "step_law"})


COVERAGE = {
    "three settings": (3, 0.1, False),
    "six settings": (6, 0.1, False),
    "bare numbers": (6, 0.1, True),
    "larger intervals": (6, 0.3, False),
}


@pytest.mark.parametrize("case", COVERAGE)
def test_intervals_hold_the_truth_as_often_as_they_say(case):
    count, sd, bare = COVERAGE[case]
    settings = [Setting(width=2.0 ** (6 + i % 3), tokens=4.0 ** (i // 2)) for i in range(count)]
    target = Setting(width=1024, tokens=256)
    random = np.random.default_rng(0)
    tries = 120
    held = 0
    for _ in range(tries):
        noisy = [rate(each) * math.exp(sd * random.normal()) for each in settings]
        known = noisy if bare else [around(value, sd) for value in noisy]
        found = fit(list(zip(settings, known, strict=True))).predict(target)
        held += found.low <= rate(target) <= found.high
    # 95 %, and two standard deviations of the count below it.
    assert held / tries >= 0.91


def test_intervals_grow_where_the_optima_disagree_with_the_law():
    settings = [width(w) for w in (64, 128, 256, 512)]
    bent = [around(value, 0.03) for value in (1.0, 0.8, 1.0, 0.8)]
    straight = [around(value, 0.03) for value in (1.0, 0.95, 0.9, 0.85)]
    target = width(1024)
    span = lambda law: np.log(law.predict(target).high / law.predict(target).low)
    bent, straight = (fit(list(zip(settings, each, strict=True))) for each in (bent, straight))
    assert span(bent) > 2 * span(straight)
    assert any("disagree with a power law" in words for words in bent.warnings(target))
    assert not any("disagree" in words for words in straight.warnings(target))


def test_warnings_tell_extrapolation_only():
    law = fit([(width(w), around(1 / w)) for w in (64, 128, 256)])
    assert law.warnings(width(100)) == []
    assert law.warnings(width(1024)) == [
        "extrapolates: width 1024 is 4 times the largest of the results, 256"
    ]
    assert law.warnings(width(32)) == [
        "extrapolates: width 32 is 1/2 of the least of the results, 64"
    ]


def test_optima_count_by_their_intervals():
    loose = (0.03, 0.003, 0.3)
    results = [(width(64), around(0.1)), (width(128), around(0.05)), (width(256), loose)]
    assert fit(results).exponents["width"].value == pytest.approx(-1, abs=0.03)
    # An interval of no width has no infinite weight.
    exact = [(width(w), (1 / w, 1 / w, 1 / w)) for w in (64, 128, 256)]
    assert fit(exact).exponents["width"].value == pytest.approx(-1)


def test_bare_numbers_without_a_rest_have_no_interval():
    law = fit([(width(64), 0.1), (width(128), 0.05)])
    assert law.predict(width(256)) == (pytest.approx(0.025), 0.0, math.inf)
    assert math.isnan(law.misfit)


def test_optima_of_lrax_are_taken():
    def found(value, edge=None):
        return Optimum(value, around(value)[1:], edge, value, 3)

    law = fit([(width(w), found(1 / w)) for w in (64, 128, 256)])
    assert law.exponents["width"].value == pytest.approx(-1)
    with pytest.raises(ValueError, match=r"`results\[1\]` must have its optimum inside"):
        fit([(width(64), found(0.1)), (width(128), found(0.1, "high"))])


@pytest.mark.slow
def test_sweeps_are_taken():
    swept = lrax.sweep(
        problems.regression(),
        optax.sgd,
        lrax.log_grid(1e-3, 1.0, 10),
        steps=30,
        seeds=3,
        progress=False,
    )
    best = swept.optimum()
    law = fit([(width(w), swept) for w in (64, 128, 256)])
    assert law.predict(width(512)).rate == pytest.approx(best.rate)
    assert law.exponents["width"].value == pytest.approx(0, abs=1e-9)


def refused(results, words, **options):
    with pytest.raises(ValueError, match=words):
        fit(results, **options)


def test_what_is_not_determined_is_refused_with_the_reason():
    together = [(Setting(width=w, tokens=w**2), around(1 / w)) for w in (64, 128, 256)]
    refused(together, "the exponents of width and tokens, but these fields change together")
    law = fit(together, priors={"tokens": (-0.3, 0.05)})
    assert law.exponents["width"].value == pytest.approx(-1 + 0.6)
    few = [(Setting(width=64, batch=8), 0.1), (Setting(width=128, batch=16), 0.1)]
    refused(few, "`results` must determine the exponents of width and batch")
    refused([(width(64), 0.1)], "`results` must differ in a field of their settings")
    mixed = [(width(64), 0.1), (Setting(depth=2), 0.1)]
    refused(mixed, "`results` must have a width in all settings or in none")
    both = [(width(64), 0.1), (width(128), around(0.1))]
    refused(both, "`results` must all have intervals, or all be bare numbers")
    bare = [(width(64), 0.1), (width(128), 0.05)]
    refused(bare, "`results` must have intervals", priors={"width": (-1, 0.1)})
    refused(bare, "`priors` must be of fields that the settings have", priors={"depth": (-1, 0.1)})
    refused([(width(64), (0.1, 0.2, 0.3))], r"`results\[0\]` must have low <= rate <= high")
