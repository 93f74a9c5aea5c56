"""Rules of scaling: one table of all, with the formulas of their papers, and laws over it."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import lrax
from lrax import scaling


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """A rule, its formula in NumPy as its paper has it, and typical arguments."""

    name: str
    formula: Callable
    arguments: dict

    def __call__(self, **changed):
        return flat(getattr(scaling, self.name)(**{**self.arguments, **changed}))

    def expected(self, **changed):
        return flat(self.formula(**{**self.arguments, **changed}))


def flat(value):
    return list(value) if isinstance(value, tuple) else [value]


BATCH = {"batch": 96.0, "base_batch": 32.0}
RULES = [
    Rule("linear", lambda lr, batch, base_batch: lr * batch / base_batch, {"lr": 0.1, **BATCH}),
    Rule(
        "sqrt", lambda lr, batch, base_batch: lr * np.sqrt(batch / base_batch), {"lr": 0.1, **BATCH}
    ),
    Rule(
        "adam_sde",
        lambda lr, b1, b2, eps, batch, base_batch: (
            np.sqrt(batch / base_batch) * lr,
            1 - batch / base_batch * (1 - b1),
            1 - batch / base_batch * (1 - b2),
            eps / np.sqrt(batch / base_batch),
        ),
        {"lr": 3e-4, "b1": 0.9, "b2": 0.99, "eps": 1e-8, **BATCH},
    ),
    Rule(
        "ema",
        lambda decay, batch, base_batch: np.exp(batch / base_batch * np.log(decay)),
        {"decay": 0.99, **BATCH},
    ),
    Rule(
        "noise_scale",
        lambda max_lr, batch, noise_scale: max_lr * batch / (batch + noise_scale),
        {"max_lr": 0.1, "batch": 96.0, "noise_scale": 40.0},
    ),
    Rule(
        "surge",
        lambda max_lr, batch, noise_scale: (
            2 * max_lr / (np.sqrt(noise_scale / batch) + np.sqrt(batch / noise_scale))
        ),
        {"max_lr": 0.1, "batch": 96.0, "noise_scale": 40.0},
    ),
    Rule(
        "decay_timescale",
        lambda lr, weight_decay, batch, dataset_size: (
            1 / (lr * weight_decay),
            batch / (lr * weight_decay * dataset_size),
        ),
        {"lr": 1e-3, "weight_decay": 0.1, "batch": 96.0, "dataset_size": 5000.0},
    ),
    Rule(
        "horizon",
        lambda lr, tokens, base_tokens, exponent: (
            lr * np.exp(exponent * (np.log(tokens) - np.log(base_tokens)))
        ),
        {"lr": 1e-3, "tokens": 3e9, "base_tokens": 2e8, "exponent": -0.32},
    ),
    Rule(
        "decay_forms",
        lambda lr, weight_decay, momentum: (
            weight_decay,
            lr * weight_decay,
            weight_decay,
            (1 - momentum) * weight_decay,
        ),
        {"lr": 1e-3, "weight_decay": 0.1, "momentum": 0.7},
    ),
    Rule(
        "decay_balance",
        lambda lr, weight_decay, b1: (
            np.sqrt(lr / (2 * weight_decay)),
            np.sqrt(2 * lr * weight_decay * (1 - b1) / (1 + b1)),
        ),
        {"lr": 1e-3, "weight_decay": 0.1, "b1": 0.7},
    ),
    Rule(
        "lora",
        lambda full_rate, rank, alpha, ratio, b_over_a: (
            alpha / rank,
            ratio * full_rate,
            b_over_a * ratio * full_rate,
        ),
        {"full_rate": 1e-3, "rank": 8.0, "alpha": 32.0, "ratio": 10.0, "b_over_a": 16.0},
    ),
    Rule(
        "complete_p",
        lambda width_mult, depth_mult, alpha: (
            depth_mult ** (alpha - 1) / width_mult,
            width_mult,
            depth_mult ** (alpha - 1),
            depth_mult ** (-alpha),
            depth_mult ** (-alpha) / width_mult,
        ),
        {"width_mult": 4.0, "depth_mult": 3.0, "alpha": 0.75},
    ),
]
OF_BATCH = [rule for rule in RULES if "base_batch" in rule.arguments]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
every_rule_of_batch = pytest.mark.parametrize("rule", OF_BATCH, ids=lambda rule: rule.name)


def test_every_rule_is_in_the_table():
    others = {"groups", "layer_multipliers", "mup_multipliers", "muon_multipliers", "table"}
    others |= {"Setting", "batch_ramp", "transfer", "matching_rate", "muon_rate"}
    others |= {"corrected_decay", "spectral_condition", "fit", "coord_check"}
    assert {rule.name for rule in RULES} == set(scaling.__all__) - others


@every_rule
def test_a_rule_is_its_formula_in_double_precision(rule):
    values = rule()
    assert all(type(value) is float for value in values)
    np.testing.assert_allclose(values, rule.expected(), rtol=1e-12)
    whole = {name: int(value) for name, value in rule.arguments.items() if value >= 1}
    assert rule(**whole) == values, "whole numbers are numbers"


@every_rule
def test_traced_numbers_give_the_same(rule, x64):
    with x64:
        jitted = jax.jit(rule)(**rule.arguments)
        assert {value.dtype for value in jitted} == {np.dtype(np.float64)}
        np.testing.assert_allclose(jitted, rule(), rtol=1e-12)


@every_rule
def test_lanes_give_what_each_lane_gives(rule):
    for name, value in rule.arguments.items():
        lanes = value * np.array([0.9, 0.95, 1.0])
        alone = [rule(**{name: lane}) for lane in lanes]
        together = rule(**{name: lanes})
        mapped = jax.vmap(lambda lane, name=name: rule(**{name: lane}))(jnp.asarray(lanes))
        for column, values, wide in zip(zip(*alone, strict=True), together, mapped, strict=True):
            np.testing.assert_allclose(np.broadcast_to(values, 3), column, rtol=1e-12)
            np.testing.assert_allclose(wide, column, rtol=1e-4)


@every_rule
def test_a_rule_has_the_derivatives_of_its_formula(rule, x64):
    with x64:
        for name, value in rule.arguments.items():
            found = jax.jacfwd(lambda number, name=name: rule(**{name: number}))(value)
            step = 1e-6 * value
            above = np.array(rule.expected(**{name: value + step}))
            below = np.array(rule.expected(**{name: value - step}))
            slopes = (above - below) / (2 * step)
            np.testing.assert_allclose(found, slopes, rtol=1e-5, atol=1e-12)


@every_rule_of_batch
def test_the_base_batch_changes_nothing(rule):
    own = [value for name, value in rule.arguments.items() if name not in BATCH]
    np.testing.assert_allclose(rule(batch=32), own, rtol=1e-15)


@every_rule_of_batch
def test_twice_a_factor_of_two_is_a_factor_of_four(rule):
    names = [name for name in rule.arguments if name not in BATCH]
    once = dict(zip(names, rule(batch=64), strict=True))
    np.testing.assert_allclose(rule(**once, batch=64), rule(batch=128), rtol=1e-12)
    back = dict(zip(names, rule(batch=128), strict=True))
    np.testing.assert_allclose(rule(**back, batch=8), rule(batch=32), rtol=1e-12)


def test_complete_p_of_the_base_model_changes_nothing_and_composes():
    assert scaling.complete_p(1, 1) == (1.0,) * 5
    for alpha in (0.5, 1.0):
        twice = np.square(scaling.complete_p(2, 3, alpha=alpha))
        np.testing.assert_allclose(scaling.complete_p(4, 9, alpha=alpha), twice, rtol=1e-12)


def test_the_noise_scale_bounds_the_rules_of_the_batch():
    batch = np.geomspace(1, 1e8, 50)
    sgd = scaling.noise_scale(1.0, batch=batch, noise_scale=1e4)
    adam = scaling.surge(1.0, batch=batch, noise_scale=1e4)
    # Far below the noise scale they are the linear and the square-root rule.
    growth = [
        scaling.linear(sgd[0], batch=10, base_batch=1),
        scaling.sqrt(adam[0], batch=10, base_batch=1),
    ]
    at_ten = [rule(1.0, batch=10, noise_scale=1e4) for rule in (scaling.noise_scale, scaling.surge)]
    np.testing.assert_allclose(at_ten, growth, rtol=2e-3)
    assert np.all(np.diff(sgd) > 0)
    assert sgd[-1] == pytest.approx(1, rel=1e-3)
    assert scaling.noise_scale(1.0, batch=7, noise_scale=0) == 1
    # Adam's rate peaks at the noise scale, and is symmetric around it in the logarithm.
    assert scaling.surge(1.0, batch=1e4, noise_scale=1e4) == 1 > adam.max()
    np.testing.assert_allclose(adam, scaling.surge(1.0, batch=1e8 / batch, noise_scale=1e4))


def test_the_decay_timescale_counts_examples_alike_in_any_batch():
    small = scaling.decay_timescale(1e-3, 0.1, batch=64, dataset_size=6400)
    large = scaling.decay_timescale(1e-3, 0.2, batch=128, dataset_size=6400)
    assert small.epochs == large.epochs == 100
    assert small.iterations == 2 * large.iterations == 10_000


def test_a_horizon_of_either_sign_goes_there_and_back():
    for exponent in (-0.5, 0.307):
        there = scaling.horizon(1e-3, tokens=3e9, base_tokens=2e8, exponent=exponent)
        back = scaling.horizon(there, tokens=2e8, base_tokens=3e9, exponent=exponent)
        assert back == pytest.approx(1e-3, rel=1e-12)
        assert (there < 1e-3) == (exponent < 0)


def test_adapters_have_the_published_scales():
    assert scaling.lora(1e-4, rank=16) == (2.0, 1e-3, 1e-3)
    assert scaling.lora(1e-4, rank=16, alpha=16, scaling="sqrt_rank").scale == 4
    with pytest.raises(ValueError, match="`rank` must be finite and at least 1"):
        scaling.lora(1e-4, rank=0.5)


def test_adam_sde_stops_where_no_average_is_left():
    adam = lambda batch: scaling.adam_sde(0.1, 0.9, 0.999, 1e-8, batch=batch, base_batch=1)
    assert adam(10).b1 == pytest.approx(0, abs=1e-12)
    with pytest.raises(
        ValueError, match=r"`batch` / `base_batch` times \(1 - `b1`\) must be at most 1"
    ):
        adam(11)


def test_shapes_that_do_not_broadcast_are_named():
    with pytest.raises(
        ValueError, match="`lr`, `batch`, `base_batch` must have shapes that broadcast"
    ):
        scaling.linear(np.ones(2), batch=np.ones(3), base_batch=1)


def test_a_scaled_rate_drives_a_schedule():
    peak = scaling.sqrt(1e-3, batch=np.array([64, 256]), base_batch=64)
    schedule = lrax.cosine(peak, steps=10)
    np.testing.assert_allclose(schedule(0), [1e-3, 2e-3], rtol=1e-6)
