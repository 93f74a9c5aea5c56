"""`controllers.kl` equals rl_games, skrl and RSL-RL; a PPO learns from any low rate."""

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
    base = keywords.get("learning_rate", BASE)
    lowest = 1e-5 if "desired_kl" in keywords else 1e-6
    return {
        "base": base,
        "target": keywords.get("kl_threshold", keywords.get("desired_kl")),
        "kl_factor": keywords.get("kl_factor", 2.0),
        "lr_factor": keywords.get("lr_factor", 1.5),
        "floor": keywords.get("min_lr", lowest) / base,
        "ceiling": keywords.get("max_lr", 1e-2) / base,
    }


@pytest.mark.parametrize(
    ("zero", "names"), [("small", {"rl_games", "skrl"}), ("ignore", {"rsl_rl"})]
)
def test_kl_equals_its_published_forms(zero, names, x64):
    settings = [setting for setting in RECORDED if setting["name"] in names]
    assert {setting["name"] for setting in settings} == names
    assert len(settings) >= 30 * len(names)
    rates = [rate for setting in settings for rate in setting["rates"]]
    assert min(rates) <= 1e-5
    assert max(rates) >= 1e-2
    make = lambda base, **numbers: base * kl(metric="value", zero=zero, **numbers)
    feedback.equals_recorded(make, settings, ours, x64)


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
