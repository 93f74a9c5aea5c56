"""`controllers.kl` equals rl_games and skrl, and RSL-RL's rule; a PPO learns from any low rate."""

import feedback
import golden
import jax
import numpy as np
import pytest
import reinforcement
from golden.record_kl import BASE
from jax import numpy as jnp

import lrax

kl = lrax.controllers.kl
RECORDED = golden.read("kl")["settings"]


def ours(keywords):
    """The numbers of `kl` that stand for a scheduler's own arguments."""
    return {
        "target": keywords["kl_threshold"],
        "kl_factor": keywords.get("kl_factor", 2.0),
        "lr_factor": keywords.get("lr_factor", 1.5),
        "floor": keywords.get("min_lr", 1e-6) / BASE,
        "ceiling": keywords.get("max_lr", 1e-2) / BASE,
    }


def test_kl_equals_rl_games_and_skrl(x64):
    assert len(RECORDED) >= 60
    assert {setting["name"] for setting in RECORDED} == {"rl_games", "skrl"}
    make = lambda **numbers: BASE * kl(metric="value", zero="small", **numbers)
    feedback.equals_recorded(make, RECORDED, ours, x64)


def of_rsl_rl(divergences, target):
    """The adaptive schedule of RSL-RL, relative to its rate of 1e-3.

    It stands in the middle of `PPO.update` of rsl-rl-lib 5.5.1, so it is copied, not recorded.
    """
    scale, scales = 1.0, []
    for divergence in divergences:
        if divergence > target * 2.0:
            scale = max(1e-2, scale / 1.5)
        elif 0.0 < divergence < target / 2.0:
            scale = min(10.0, scale * 1.5)
        scales.append(scale)
    return scales


def test_kl_equals_rsl_rl(x64):
    random = np.random.default_rng(0)
    divergences = 0.01 * np.exp(np.cumsum(random.normal(size=200)))
    divergences[::9], divergences[::14] = 0.0, -0.01
    with x64:
        scales = feedback.rates_of(kl(0.01), divergences, "kl")
    expected = of_rsl_rl(divergences, 0.01)
    np.testing.assert_allclose(scales, expected, rtol=1e-12)
    assert min(expected) < 0.02
    assert max(expected) > 1


# keywords, divergences, scales
CASES = {
    "NaN is left out": ({}, [np.nan, 5.0], [1, 0.5]),
    "infinity is too far": ({}, [np.inf], [0.5]),
    "0 is left out": ({}, [0.0, 0.1], [1, 2]),
    "0 is small": ({"zero": "small"}, [0.0, -1.0], [2, 4]),
    "between the two nothing changes": ({}, [0.5, 1.0, 2.0], [1, 1, 1]),
    "floor and ceiling": (
        {"floor": 0.4, "ceiling": 1.5},
        [9.0, 9.0, 0.1, 0.1, 0.1],
        [0.5, 0.4, 0.8, 1.5, 1.5],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_kl(name):
    keywords, divergences, scales = CASES[name]
    rates = feedback.rates_of(kl(1.0, lr_factor=2.0, **keywords), divergences, "kl")
    np.testing.assert_allclose(rates, scales, rtol=1e-6)


def test_a_mean_of_each_pass_counts_once():
    numbers = np.arange(12) // 4
    measurement = {"measurement": {"kl": numbers}}
    rates = feedback.rates_of(kl(1.0, lr_factor=2.0), np.full(12, 9.0), "kl", **measurement)
    np.testing.assert_array_equal(rates, 0.5 ** (1 + numbers))


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["ignore", "small"])  # as the two published programs have it
def test_a_reinforcement_learner_learns_from_rates_that_are_too_low(zero):
    rates = jnp.array([1e-5, 1e-4, 1e-2])
    keys = jax.vmap(jax.random.key)(jnp.arange(4))

    def curves(rate_of):
        train = lambda rate, key: reinforcement.ppo({"rate": rate}, key, rate=rate_of, epochs=4)
        return jax.jit(jax.vmap(jax.vmap(train, (None, 0)), (0, None)))(rates, keys)

    steady = curves(lambda rate: lrax.constant(rate))
    ruled = curves(lambda rate: rate * kl(0.01, floor=1e-4, ceiling=1e4, zero=zero))
    assert steady["final_return"][:2].mean() < 0.5
    assert ruled["final_return"].mean(1).min() > 0.8
    divergences = np.median(ruled["kl"][..., 15:], axis=(1, 2))
    np.testing.assert_array_less(np.abs(np.log(divergences / 0.01)), np.log(3))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"target": 0.0}, "`target` must be finite and positive, got 0"),
        ({"kl_factor": 0.5}, "`kl_factor` must be finite and at least 1, got 0.5"),
        ({"lr_factor": np.nan}, "`lr_factor` must be finite and at least 1, got nan"),
        ({"floor": 2.0, "ceiling": 1.0}, "`ceiling` must be at least `floor`, got 2.0 and 1.0"),
        ({"zero": "skip"}, "`zero` must be one of 'ignore', 'small', got 'skip'"),
    ],
)
def test_bad_arguments_are_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        kl(**{"target": 0.01, **keywords})
