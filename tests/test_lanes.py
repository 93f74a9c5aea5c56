"""Arrays with an axis of lanes in front give what `jax.vmap` gives."""

import jax
import numpy as np
import pytest
from cases import CASES
from jax import numpy as jnp
from jax.tree_util import Partial

import lrax

COUNTS = np.concatenate([np.arange(0, 103, 2.5), [2**24]]).astype(np.float32)
FACTORS = np.array([1.0, 1.1, 1.3])

BUILDERS = {case.builder: case for case in reversed(CASES)}


def rate(schedule, count):
    return schedule(count)


by_vmap = jax.jit(jax.vmap(rate, in_axes=(0, None)))


def lanes(schedules):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *schedules)


# A list of these is one entry per boundary, and must be as long.
REFUSED = {("wsd_s", "cooldown"), ("multistep", "factor")}


def lanes_of(case, name):
    """Values of one argument, one per lane, all of them valid."""
    value = case.numbers[name]
    factors = FACTORS
    if name in ("warmup", "cooldown", "pct_start", "gamma", "until", "hold", "limit", "low", "b2"):
        factors = 1 / FACTORS  # what must fit into another argument, or be below 1
    return np.array([value * factor for factor in factors])


def test_the_peaks_of_one_cycle_are_lanes():
    for words in [dict(), dict(phases=3), dict(shape="linear")]:
        rates = lrax.one_cycle(np.array([0.1, 0.11]), 100, **words)(5.0)
        wanted = [lrax.one_cycle(peak, 100, **words)(5.0) for peak in (0.1, 0.11)]
        np.testing.assert_allclose(rates, wanted, rtol=1e-6)
    rates = lrax.one_cycle(0.1, np.array([100, 200]))(50)
    wanted = [lrax.one_cycle(0.1, steps)(50) for steps in (100, 200)]
    np.testing.assert_allclose(rates, wanted, rtol=1e-6)


@jax.jit
def rates_of(schedules):
    return [schedule(COUNTS) for schedule in schedules]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if case is BUILDERS[case.builder] else [pytest.mark.slow])
        for case in CASES
        if case.numbers
    ],
    ids=str,
)
def test_an_array_for_each_number_is_lanes(case):
    alone, together = [], []
    for name in case.numbers:
        values = lanes_of(case, name)
        if (case.builder, name) in REFUSED:
            with pytest.raises(ValueError, match=f"`{name}`"):
                case.build(**{name: values})
            continue
        together.append(case.build(**{name: values}))
        alone += [case.build(**{name: value}) for value in values]
        assert jax.eval_shape(together[-1].values, np.arange(4)).shape == (3, 4)
    wanted = np.reshape(by_vmap(lanes(alone), COUNTS), (len(together), 3, len(COUNTS)))
    np.testing.assert_allclose(np.stack(rates_of(together)), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("case", BUILDERS.values(), ids=str)
def test_an_array_on_the_host_is_lanes_too(case):
    for name in list(case.numbers)[:1]:
        values = lanes_of(case, name)
        wanted = np.stack([case.build(**{name: value})(COUNTS) for value in values])
        found = case.build(**{name: values})(COUNTS)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_leaves_that_were_stacked_by_vmap_are_lanes():
    schedules = [case.build() for case in CASES]
    stacked = [lanes([schedule, schedule]) for schedule in schedules]
    for found, wanted in zip(rates_of(stacked), rates_of(schedules), strict=True):
        np.testing.assert_allclose(found, np.stack([wanted, wanted]), rtol=1e-5, atol=1e-7)


def test_a_number_of_a_function_and_of_a_formula_of_ones_own_are_lanes_of_a_stack():
    shape = Partial(lambda power, p: p**power, np.float32(2.0))
    ramps = [lrax.ramp(0.1, end, 100, shape=shape) for end in (0.0, 0.01)]
    own = [lrax.Schedule(table, {"rows": np.float32([1, 2, scale])}) for scale in (3, 4)]
    for schedules in (ramps, own):
        wanted = [schedule(COUNTS) for schedule in schedules]
        np.testing.assert_allclose(lrax.stack(schedules)(COUNTS), wanted, rtol=1e-6)


def table(count, rows):
    return rows[jnp.clip(count, 0, 2).astype(int)]


def test_lanes_of_several_axes_and_of_parts_meet():
    peaks, steps = np.array([[0.1], [0.2]]), np.array([50.0, 100.0, 150.0])
    rates = lrax.cosine(peaks, steps)(COUNTS)
    wanted = [[lrax.cosine(peak, length)(COUNTS) for length in steps] for peak in peaks[:, 0]]
    np.testing.assert_allclose(rates, wanted, rtol=1e-5, atol=1e-7)
    cooled = lrax.cooldown(lrax.one_cycle(steps / 1000, 100), at=steps / 5, steps=10)
    wanted = [lrax.cooldown(lrax.one_cycle(n / 1000, 100), n / 5, 10)(COUNTS) for n in steps]
    np.testing.assert_allclose(cooled(COUNTS), wanted, rtol=1e-5, atol=1e-7)


def test_noise_has_a_key_per_lane():
    keys = jax.random.split(jax.random.key(0), 3)
    noisy = lrax.with_noise(0.1, keys).replace(std=0.5)
    wanted = [lrax.with_noise(0.1, key, std=0.5)(COUNTS) for key in keys]
    np.testing.assert_array_equal(noisy(COUNTS), wanted)


def test_lanes_of_different_numbers_are_named():
    with pytest.raises(
        ValueError, match=r"of the same length, got `peak` \(2,\) and `steps` \(3,\)"
    ):
        lrax.cosine(np.array([0.1, 0.2]), np.array([1, 2, 3]))(0)
    parts = [lrax.linear(init=np.ones(2), end=0.0, steps=4), lrax.scale(1.0, np.ones(3))]
    with pytest.raises(
        ValueError, match=r"got `factor` of `scale` \(3,\) and `init` of `linear` \(2,\)$"
    ):
        lrax.join(parts, [4])(0)
