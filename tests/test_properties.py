"""Properties of schedules for hyperparameters that nobody chose."""

import jax
import numpy as np
import pytest
from cases import reference
from hypothesis import example, given, settings, strategies as st

import lrax

SHAPES = [
    "linear",
    "cosine",
    "1-sqrt",
    "sqrt",
    "1-square",
    "square",
    "exp2",
    "exp10",
    "rex",
    "log",
    "geometric",
    "inverse",
]
INCLUSIVE = ["left", "both", "right", "neither"]
FIRST = np.arange(200, dtype=np.float32)
COUNTS = np.array([*range(-1, 130), 2**24 - 1, 2**24 + 1, 2**31 - 1], np.float32)

rates = st.floats(2.0**-26, 10.0, width=32)
lengths = st.integers(1, 60)
parts = st.floats(0, 1, width=32)
short = settings(max_examples=60, deadline=None, derandomize=True)
# Compiled once for each structure of a schedule, whatever its numbers.
compiled = jax.jit(lambda schedule: schedule(COUNTS))
at = jax.jit(lambda schedule, counts: schedule(counts))


def values(schedule):
    """The rates at `COUNTS`, which are those of the formula in float64."""
    result = np.asarray(compiled(schedule), np.float64)
    wanted = reference(schedule, COUNTS)
    np.testing.assert_allclose(result, wanted, rtol=2e-6, atol=1e-6 * np.max(wanted))
    return result


def monotone(values, up):
    slack = 1e-6 * np.max(values, initial=0)
    assert np.all(np.diff(values) >= -slack) if up else np.all(np.diff(values) <= slack)


@short
@given(
    rates,
    rates,
    st.integers(0, 60),
    st.integers(0, 60),
    st.sampled_from(SHAPES),
    st.sampled_from(INCLUSIVE),
)
def test_a_ramp_is_monotone_and_exact_at_its_ends(start, end, steps, begin, shape, inclusive):
    result = values(lrax.ramp(start, end, steps, shape=shape, inclusive=inclusive, begin=begin))
    monotone(result, up=end >= start)
    low, high = sorted([np.float32(start), np.float32(end)])
    assert np.all(result >= low * (1 - 1e-6))
    assert np.all(result <= high * (1 + 1e-6))
    assert np.all(result[np.float32(begin + steps) <= COUNTS] == np.float32(end))
    assert np.all(result[np.float32(begin) > COUNTS] == np.float32(start))
    if steps > 1:
        first, last = result[begin + 1], result[begin + steps]
        assert (
            (first == np.float32(start)) == (inclusive in ("left", "both"))
            or start == end
            or shape == "1-sqrt"
        )
        assert last == np.float32(end) if inclusive in ("both", "right") else True


@short
@given(rates, st.integers(0, 100), parts, parts, parts, st.sampled_from(SHAPES))
def test_wsd_has_three_phases(peak, steps, warm, cool, low, shape):
    warmup = int(steps * warm)
    cooldown = int((steps - warmup) * cool)
    end = max(low, 1e-3) * peak
    result = values(lrax.wsd(peak, steps, warmup, cooldown, end=end, shape=shape))
    monotone(result[1 : 1 + warmup], up=True)
    assert np.all(result[1 + warmup : 1 + steps - cooldown] == np.float32(peak))
    monotone(result[1 + warmup :], up=False)
    assert np.all(result[steps <= COUNTS] == np.float32(end))


@short
@example(1.0, 2, 1.0, 0.0)
@given(rates, st.integers(1, 100), parts, parts)
def test_warmup_cosine_rises_then_falls(peak, steps, warm, low):
    warmup = int(steps * warm)
    end = np.float32(low * peak if low > 2.0**-30 else 0)  # nothing that XLA flushes to zero
    result = values(lrax.warmup_cosine(peak, steps, warmup, end=end))
    # A warmup of all steps never gets to its peak: a decay without steps is a jump, and `end` is
    # the rate of the update `steps`. Optax refuses such a cosine. transformers' `linear` jumps as
    # here; its `cosine` does one update later, and so does that of `lrax.compat.transformers`.
    monotone(result[1 : 1 + warmup + (warmup < steps)], up=True)
    monotone(result[1 + warmup :], up=False)
    assert np.all(result[steps <= COUNTS] == end)
    if warmup < steps:
        assert result[1 + warmup] == np.float32(peak)
        assert np.max(result) <= np.float32(peak) * (
            1 + 2e-7
        )  # a digit, where a sum of both ends is rounded up


@short
@given(rates, st.integers(1, 30), st.sampled_from([1.0, 1.5, 2.0, 3.0]), parts, st.integers(1, 6))
def test_restarts_fall_on_their_steps(peak, first, mult, decay, cycles):
    # Wherever a cycle begins at a whole step, the rate is that of its peak; no floor of a logarithm
    # is one step off.
    schedule = lrax.cosine_restarts(peak, first, mult=mult, decay=decay, cycles=cycles)
    starts = first * np.concatenate([[0], np.cumsum(mult ** np.arange(cycles))])
    whole = starts == np.round(starts)
    peaks = np.concatenate(
        [np.float32(peak) * np.float64(np.float32(decay)) ** np.arange(cycles), [0]]
    )
    held = peak * np.exp(
        -39
    )  # powers of the decay are held before they leave float32, all of them below this
    counts = np.float32([*starts, *np.maximum(starts[1:] - 1, 0)])
    result = np.asarray(
        at(schedule, np.resize(counts, 13))
    )  # of one length for all numbers of cycles
    np.testing.assert_allclose(result[: cycles + 1][whole], peaks[whole], rtol=1e-6, atol=held)
    before = result[cycles + 1 : 2 * cycles + 1]
    if first > 2:
        assert np.all(before <= peaks[:-1] + held)


@pytest.mark.parametrize("factor", [1e-37, 1e-20, 1e20])
def test_a_factor_of_any_size_is_applied(factor):
    # Powers are held before they leave float32, but the first is none that could.
    rates = [1e-3, 1e-3, np.float32(1e-3) * np.float32(factor)]
    for schedule in (
        lrax.step_decay(1e-3, 2, factor),
        lrax.multistep(1e-3, [2], factor),
        lrax.exponential(1e-3, factor, 2, staircase=True),
    ):
        np.testing.assert_allclose(schedule.values(3), rates, rtol=1e-5, atol=1e-38)


@pytest.mark.parametrize("mult", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("first", [1, 7, 10, 1000])
def test_restarts_are_exact_over_the_whole_range_of_steps(first, mult):
    schedule = lrax.cosine_restarts(1.0, first, mult=mult)
    starts, start, length = [], 0.0, float(first)
    while start < 2**24 and len(starts) < 2000:
        starts.append(start)
        start, length = start + length, length * mult
    starts = np.array([start for start in starts if start == round(start)])
    np.testing.assert_array_equal(jax.jit(schedule)(starts), np.ones(len(starts)))


@short
@given(
    rates,
    rates,
    lengths,
    st.integers(0, 60),
    st.sampled_from(["triangular", "triangular2", "exp_range"]),
    parts,
)
def test_cyclic_stays_between_its_bounds(low, high, up, down, mode, gamma):
    low, high = sorted([low, high])
    result = values(lrax.cyclic(low, high, up, down, mode=mode, gamma=gamma))
    assert np.all(
        (result >= np.float32(low) * (1 - 1e-6)) & (result <= np.float32(high) * (1 + 1e-6))
    )


@short
@given(
    st.lists(st.tuples(rates, st.integers(0, 40)), min_size=2, max_size=5), st.sampled_from(SHAPES)
)
@pytest.mark.slow
def test_phases_that_meet_are_continuous(points, shape):
    # Each phase ends where the next begins, so no step is larger than that of a phase of its own.
    ends, lengths = [point[0] for point in points], [point[1] for point in points[1:]]
    phases = [
        lrax.ramp(ends[i], ends[i + 1], length, shape=shape) for i, length in enumerate(lengths)
    ]
    boundaries = np.cumsum(lengths)
    joined = lrax.join([*phases, lrax.constant(ends[-1])], boundaries)
    result = values(joined)
    np.testing.assert_array_equal(result[boundaries[-1] <= COUNTS], np.float32(ends[-1]))
    for i, length in enumerate(lengths):
        if length:
            begin = int(boundaries[i]) - length
            assert result[1 + begin] == np.float32(ends[i])


@short
@given(
    rates,
    st.integers(1, 100),
    st.integers(0, 100),
    st.integers(0, 60),
    parts,
    st.sampled_from(SHAPES),
)
def test_a_cooldown_begins_at_the_rate_where_it_is_attached(peak, steps, begin, length, low, shape):
    base = lrax.cosine(peak, steps, end=0.1 * peak)
    end = max(low, 1e-3) * 0.1 * peak
    result = values(lrax.cooldown(base, begin, length, end, shape=shape))
    np.testing.assert_array_equal(result[: begin + 1], np.asarray(compiled(base))[: begin + 1])
    monotone(result[begin + 1 :], up=False)
    assert np.all(result[begin + length <= COUNTS] == np.float32(end))


@pytest.mark.slow
@short
@given(rates, st.integers(1, 50), st.integers(0, 50), st.floats(0.25, 4.0, width=32))
def test_clocks(peak, steps, by, factor):
    base = lrax.warmup_cosine(peak, steps + 10, 10, end=0.1 * peak)
    plain = at(base, FIRST)
    np.testing.assert_array_equal(at(lrax.shift(base, by), FIRST)[:100], plain[by : by + 100])
    np.testing.assert_array_equal(at(lrax.delay(base, by), FIRST)[by:], plain[: 200 - by])
    np.testing.assert_array_equal(
        at(lrax.shift(lrax.delay(base, by), by), FIRST)[:100], plain[:100]
    )
    np.testing.assert_array_equal(
        at(lrax.repeat(base, steps), FIRST)[: 3 * steps], np.tile(plain[:steps], 3)
    )
    np.testing.assert_allclose(
        at(lrax.stretch(base, factor), FIRST),
        at(base.replace(steps=(steps + 10) * factor, warmup=10 * factor), FIRST),
        rtol=1e-3,
        atol=1e-6 * peak,
    )


@short
@given(rates, st.integers(0, 2**63), parts, st.sampled_from(["normal", "uniform"]))
@pytest.mark.slow
def test_noise_stays_within_its_limit_and_is_replayed(peak, seed, limit, kind):
    schedule = lrax.with_noise(peak, seed, limit=limit, kind=kind, std=0.5)
    result = values(schedule)
    assert np.all(np.abs(result / np.float32(peak) - 1) <= limit * (1 + 1e-6) + 1e-6)
    np.testing.assert_array_equal(
        [at(schedule, np.float32(count)) for count in (3, 77)], result[[4, 78]]
    )


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.slow
def test_noise_has_the_distribution_it_says(kind):
    from scipy import stats

    noise = lrax.with_noise(1.0, 0, limit=0.5, std=0.3, kind=kind).values(20_000) - 1
    wanted = (
        stats.uniform(-0.5, 1)
        if kind == "uniform"
        else stats.truncnorm(-0.5 / 0.3, 0.5 / 0.3, scale=0.3)
    )
    assert stats.kstest(noise, wanted.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.03
