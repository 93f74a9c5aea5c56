"""The optimum's interval and its good rates, on simulated curves whose truth is known."""

import numpy as np
import pytest
from test_result import made

import lrax
from lrax.sweeps.optimum import optimum

OCTAVE = np.log(2)
RATES = lrax.log_grid(1e-4, 1e-1, 13)  # four to a decade


def mean_curve(x, kind):
    """A loss over natural logarithms of the rate; its minimum is at 0."""
    return {
        "even": 1.0 + 0.1 * x**2,
        "steep": 0.3 * np.exp(-0.5 * x) + 0.1 * np.exp(1.5 * x),
        "cliff": 1.0 + 0.1 * x**2 + np.where(x > 1.2, 3.0, 0.0),
        "flat": 1.0 + 0.0005 * x**2,
        "negative": -1.0 + 0.1 * x**2,  # as of an accuracy to maximise
    }[kind]


def smooth_noise(generator, points, seeds):
    """Noise of neighbouring rates that is partly the same, of a standard deviation of 1."""
    own = generator.normal(size=(points + 2, seeds))
    return (own[:-2] + own[1:-1] + own[2:]) / np.sqrt(3)


def simulated(kind, seeds, generator, noise=0.04):
    """Scores on `RATES`, with luck of the seeds and noise that grows with the rate."""
    center = np.log(3e-3) + generator.uniform(-0.6, 0.6)
    x = np.log(RATES)[:, None] - center
    grown = noise * np.exp(0.3 * x) * smooth_noise(generator, len(RATES), seeds)
    return mean_curve(x, kind) + generator.normal(size=seeds) + grown, center


@pytest.mark.parametrize("kind", ["even", "steep", "cliff", "negative"])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_intervals_hold_the_truth_and_are_narrow(kind, seeds):
    generator = np.random.default_rng(seeds)
    held = []
    widths = []
    for _ in range(100):
        scores, center = simulated(kind, seeds, generator)
        low, high = np.log(optimum(RATES, scores).interval)
        held.append(low <= center <= high)
        widths.append((high - low) / OCTAVE)
    # 95 % are meant; beside a cliff they are as wide as the grid's spacing asks for, and hold more.
    assert np.mean(held) >= (0.88 if seeds == 2 else 0.9)
    assert np.median(widths) <= {2: 3.5, 3: 1.5, 5: 1.0, 10: 0.9}[seeds]


def test_the_luck_of_a_seed_does_not_matter():
    scores, _ = simulated("steep", 3, np.random.default_rng(0))
    found = optimum(RATES, scores)
    lucky = optimum(RATES, scores + np.array([10.0, -20.0, 10.0]))
    assert lucky.value == pytest.approx(found.value)
    assert lucky.interval == pytest.approx(found.interval)


def test_noise_widens_and_seeds_narrow_the_interval():
    def width(seeds, noise):
        generator = np.random.default_rng(7)
        ends = [
            optimum(RATES, simulated("even", seeds, generator, noise)[0]).interval
            for _ in range(40)
        ]
        return np.median([np.log(high / low) for low, high in ends])

    widths = [width(3, 0.01), width(3, 0.04), width(3, 0.16)]
    assert widths == sorted(widths)
    assert width(20, 0.16) < width(5, 0.16) < width(3, 0.16)


def test_a_flat_curve_says_flat_and_a_sharp_one_does_not():
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores, center = simulated("flat", 5, generator, noise=0.001)
        # Without the luck of the seeds, whose mean would be a part of the best score.
        scores = scores - scores.mean() + 1.0
        found = optimum(RATES, scores)
        low, high = np.log(found.good)
        assert found.flat
        assert low <= np.log(found.value) <= high
        # Where the loss is 1 % above its least: 0.0005 x^2 = 0.01.
        assert center - np.sqrt(20) - 0.1 <= low
        assert high <= center + np.sqrt(20) + 0.1
        assert "flat: from" in str(found)
        assert "within 1 % of the best" in str(found)
        scores, _ = simulated("even", 5, generator, noise=0.001)
        assert not optimum(RATES, scores - scores.mean() + 1.0).flat
    # A constant is as flat as can be.
    constant = optimum(RATES, np.ones((13, 3)))
    assert constant.good == pytest.approx((1e-4, 1e-1))
    assert constant.flat


def test_rates_are_seldom_called_good_that_are_not():
    generator = np.random.default_rng(1)
    wrong = claims = 0
    for _ in range(150):
        center = np.log(3e-3) + generator.uniform(-0.6, 0.6)
        x = np.log(RATES)[:, None] - center
        scores = 1 + 0.02 * x**2 + 0.01 * smooth_noise(generator, len(RATES), 5)
        found = optimum(RATES, scores)
        if found.good is not None:
            claims += 1
            wrong += np.max(np.abs(np.log(found.good) - center)) > np.sqrt(0.5) + 0.01
    assert claims > 10
    assert wrong <= 0.08 * 150


def test_noise_or_a_single_seed_allows_no_claim():
    generator = np.random.default_rng(2)
    scores, _ = simulated("even", 3, generator, noise=0.3)
    assert optimum(RATES, scores).good is None
    scores, _ = simulated("even", 1, generator, noise=0.0)
    found = optimum(RATES, scores)
    assert found.good is None
    assert not found.flat
    assert "unknown" in str(found)


def test_rates_next_to_the_cliff_of_divergence_and_lanes_without_a_number():
    generator = np.random.default_rng(3)
    x = np.log(RATES / 3e-3)[:, None]
    scores = 1 - 0.1 * x + 0.01 * smooth_noise(generator, 13, 3)
    scores[7:] = np.inf  # it falls until it diverges
    found = optimum(RATES, scores)
    assert found.at_edge is None
    assert found.value == pytest.approx(RATES[6])
    assert found.interval[1] == pytest.approx(RATES[7])  # up to the first rate that diverged
    assert RATES[4] < found.interval[0] < RATES[6]
    # One lane that is lost is a rate that is lost, whatever stands in its place.
    for lost in (np.nan, np.inf):
        scores[7:] = 0.5
        scores[7:, 1] = lost
        assert optimum(RATES, scores) == found


def test_the_vertex_is_not_beyond_a_rate_that_was_lost():
    # The best rate lies next to one with a diverged seed, and the curve falls towards it.
    rates = np.exp([0, 0.2, 0.4, 0.6, 0.8])
    scores = np.array([[0.9, 0.9], [0.5, 0.5], [np.inf, 0.5], [0.499, 0.499], [1.2, 1.2]])
    found = optimum(rates, scores)
    assert found.value == found.point == rates[3]
    assert rates[2] <= found.interval[0] <= found.value <= found.interval[1]
    assert "interpolated" not in str(found)


def test_without_a_parabola_the_value_is_the_point_itself():
    found = optimum(np.array([0.01, 0.1, 1.0]), np.array([[2.0], [1.0], [np.inf]]))
    assert found.value == found.point == 0.1
    assert "interpolated" not in str(found)


def test_at_an_edge_noise_reaches_into_the_grid():
    generator = np.random.default_rng(4)
    falling = -0.01 * np.log(RATES)[:, None]
    quiet = optimum(RATES, falling + 1e-4 * smooth_noise(generator, 13, 3))
    assert (quiet.at_edge, quiet.interval) == ("high", (pytest.approx(RATES[-2]), np.inf))
    held = 0
    for _ in range(60):
        # The optimum is inside, but noise puts some of the best points at the edge.
        x = np.log(RATES / RATES[-3])[:, None]
        found = optimum(RATES, 0.1 * x**2 + 0.1 * smooth_noise(generator, 13, 3))
        held += found.interval[0] <= RATES[-3] <= found.interval[1]
    assert held >= 54


def test_ties_have_an_optimum():
    # An accuracy on few examples: seeds and rates that agree exactly.
    accuracy = np.array([[3, 3], [5, 5], [8, 8], [9, 9], [9, 9], [9, 8], [5, 5], [2, 2]]) / 10
    rates = lrax.log_grid(1e-3, 1.0, 8)
    found = optimum(rates, -accuracy)
    low, high = found.interval
    assert rates[2] < low < found.value < high < rates[6]


def test_maximising_is_minimising_the_negative():
    scores, _ = simulated("negative", 3, np.random.default_rng(5))
    least = made(scores, hyperparams={"lr": RATES})
    most = made(-scores, hyperparams={"lr": RATES}, mode="max")
    assert most.optimum() == least.optimum()


def test_a_rate_that_the_grid_has_twice_is_one_rate():
    rates, scores = [1e-3, 1e-2, 1e-1], [[3, 3.1], [2, 2.1], [1, 1.1]]
    once = optimum(np.array(rates), np.array(scores))
    twice = optimum(np.array([*rates, 1e-1]), np.array([*scores, [1, 1.1]]))
    assert once.at_edge == "high"
    assert twice == once


def test_the_only_value_of_a_grid_is_said_to_be_that():
    assert "the only value of the grid" in str(optimum(np.array([0.1]), np.array([[1.0, 1.1]])))
