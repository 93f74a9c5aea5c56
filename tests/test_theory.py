"""Bounds, laws and step sizes of theory, against transcriptions of the papers in float64."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from scipy import ndimage

import lrax

T = 60
SHAPES = {
    "constant": np.ones(T),
    "linear": 1 - np.arange(T) / T,
    "cosine": (1 + np.cos(np.pi * np.arange(T) / T)) / 2,
    "warmup from 0": np.minimum(np.arange(T) / 20, 1),
    "pause": np.where(np.arange(T) % 7 == 2, 0.0, 1.0),
    "tiny": 1e-25 * np.linspace(1, 0.1, T),
}


def values(schedule, steps):
    """The rates as one small program."""
    return np.asarray(jax.jit(lrax.Schedule.__call__)(schedule, np.arange(steps)))


def bound(rates, distance, norms):
    """Theorem 10 of Defazio et al. as it stands, a sum of sums."""
    squares = rates**2 * norms**2
    total = (distance**2 + squares.sum()) / (2 * rates.sum())
    for k in range(len(rates) - 1):
        if rates[k]:
            mean = squares[k:].sum() / rates[k:].sum()
            total += rates[k] / rates[k + 1 :].sum() * mean / 2
    return total


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("norms", [3.0, np.linspace(5, 1, T)], ids=["one norm", "norms"])
def test_the_bound_is_the_papers(name, norms):
    rates = SHAPES[name]
    found = lrax.theory.last_iterate_bound(rates, distance=2.0, grad_norm=norms)
    np.testing.assert_allclose(found, bound(rates, 2.0, norms), rtol=2e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_no_other_factor_has_a_lower_bound(name):
    rates = SHAPES[name]
    rate, least = lrax.theory.best_base_rate(rates, distance=2.0, grad_norm=3.0)
    np.testing.assert_allclose(least, bound(rates * float(rate), 2.0, 3.0), rtol=2e-6)
    assert min(bound(rates * float(rate) * factor, 2.0, 3.0) for factor in (0.9, 1.1)) > least


def test_many_schedules_have_a_bound_each():
    names = ("linear", "cosine", "tiny")
    rates = np.stack([SHAPES[name] for name in names])[None]
    norms = np.linspace(5, 1, T)
    found = lrax.theory.last_iterate_bound(rates, distance=2.0, grad_norm=norms)
    np.testing.assert_allclose(found, [[bound(SHAPES[n], 2.0, norms) for n in names]], rtol=2e-6)
    _, least = lrax.theory.best_base_rate(rates)
    assert least.shape == (1, 3)
    with pytest.raises(ValueError, match="`rates` must have a number above 0"):
        lrax.theory.last_iterate_bound([[0.1, 0.1], [0.0, 0.0]])


def test_the_published_values():
    steps = np.arange(100)
    rate, least = lrax.theory.best_base_rate(1 - steps / 100)
    np.testing.assert_allclose([rate, least], [0.0973, 0.2036], atol=5e-5)
    np.testing.assert_allclose(lrax.theory.best_base_rate(np.ones(100))[1], 0.2485, atol=5e-5)


def test_a_million_updates_in_float32():
    steps = 10**6
    rate, least = lrax.theory.best_base_rate(np.ones(steps))
    # A constant rate has a closed form, in harmonic numbers.
    noise = (1 + np.sum(1 / np.arange(1.0, steps))) / 2
    np.testing.assert_allclose(rate, np.sqrt(1 / (2 * steps) / noise), rtol=3e-6)
    np.testing.assert_allclose(least, np.sqrt(2 / steps * noise), rtol=3e-6)


def test_the_bound_has_a_derivative_in_every_number_of_a_schedule():
    def of(schedule):
        return lrax.theory.last_iterate_bound(schedule.values(T))

    # No phase ends at a whole count, where the derivative would differ from side to side.
    schedule = lrax.wsd(peak=0.2, steps=60.3, warmup=5.4, cooldown=20.7)
    slopes = jax.jit(jax.grad(of))(schedule)
    for name in ("peak", "steps", "warmup", "cooldown"):
        value, step = float(schedule.hyperparams[name]), 1e-3
        ends = [
            bound(np.float64(values(schedule.replace(**{name: value * factor}), T)), 1.0, 1.0)
            for factor in (1 - step, 1 + step)
        ]
        slope = (ends[1] - ends[0]) / (2 * step * value)
        np.testing.assert_allclose(slopes.hyperparams[name], slope, rtol=2e-3, atol=2e-5)


def test_the_bound_has_the_derivative_in_rates_of_0():
    rates = SHAPES["warmup from 0"]
    slopes = jax.jit(jax.grad(lrax.theory.last_iterate_bound))(rates)
    for k in (0, 1, 30, T - 1):
        nudge = 1e-6 * (np.arange(T) == k)
        slope = (bound(rates + nudge, 1.0, 1.0) - bound(rates - nudge, 1.0, 1.0)) / 2e-6
        np.testing.assert_allclose(slopes[k], slope, rtol=1e-3)


def test_a_bound_without_a_rate_after_a_positive_one_is_infinite():
    assert lrax.theory.last_iterate_bound([0.1, 0.1, 0.0]) == np.inf
    zeros = jax.jit(lrax.theory.last_iterate_bound)(jnp.zeros(3))
    assert zeros == np.inf


def refined(norms, power, width):
    """The schedule of Defazio et al. as their program has it, with SciPy's filter."""
    pad = 2 * width
    padded = np.pad(norms, (0, pad), mode="reflect")
    weights = ndimage.median_filter(padded, size=width, mode="nearest")[:-pad] ** power
    sums = np.cumsum(weights[::-1])[::-1]
    return weights * np.append(sums[1:], 0) / sums[-1]


@pytest.mark.parametrize(("norm", "power"), [("l2", -2.0), ("l1", -1.0)])
@pytest.mark.parametrize("window", [None, 1, 7])
def test_refined_schedules_are_the_authors(norm, power, window):
    norms = np.random.default_rng(0).lognormal(-2, 0.5, T)
    width = window or 2 * (int(0.1 * T) // 2) + 1
    expected = refined(norms, power, width)
    found = lrax.theory.refined_schedule(norms, norm=norm, window=window, normalize=False)
    np.testing.assert_allclose(found, expected, rtol=3e-6)
    found = lrax.theory.refined_schedule(norms, norm=norm, window=window)
    np.testing.assert_allclose(found, expected / expected.max(), rtol=3e-6)


def test_equal_gradients_call_for_the_linear_decay():
    rates = lrax.theory.refined_schedule(np.full(T, 1e-25))
    np.testing.assert_allclose(rates, np.linspace(1, 0, T), atol=1e-6)


@pytest.mark.slow
def test_norms_that_a_monitor_recorded_make_a_schedule_that_ends_lower_than_a_constant_rate():
    task = lrax.tasks.diabetes()
    peak, steps = 0.05, 200
    train = lambda schedules, **more: lrax.sweep(
        task,
        lambda schedule: optax.sgd(schedule, momentum=0.9),
        {"schedule": schedules},
        steps=steps,
        seeds=8,
        progress=False,
        **more,
    )
    line = train([lrax.linear(peak, 0.0, steps)], monitors=[lrax.monitors.grad_norm])
    norms = np.median(line.monitors["grad_norm"][0], axis=0)
    assert norms.shape == (steps,)
    rates = lrax.theory.refined_schedule(norms, norm="l2")
    refined = lrax.from_values(peak * np.asarray(rates) / np.max(rates))
    ends = train([refined, lrax.constant(peak)]).scores  # by the training loss
    assert ends[0].mean() < ends[1].mean()
    assert np.sum(ends[0] < ends[1]) >= 6  # of 8 seeds


def test_a_refined_schedule_has_a_lower_bound_than_the_linear_decay():
    norms = np.geomspace(10, 0.1, T)
    rates = np.asarray(lrax.theory.refined_schedule(norms, window=1))[:-1]
    rates = {"refined": rates, "linear": np.linspace(1, 0, T)[:-1]}
    bounds = {
        name: lrax.theory.best_base_rate(some, grad_norm=norms[:-1])[1]
        for name, some in rates.items()
    }
    assert bounds["refined"] < 0.7 * bounds["linear"]


CURVES = {name: 3e-4 * SHAPES[name] for name in ("constant", "linear", "cosine", "pause")}
CURVES["to 0, and on"] = np.repeat([3e-4, 1e-4, 0.0, 2e-4], T // 4)
ANNEALING = {"L0": 2.6, "A": 0.5, "alpha": 0.4, "C": 4.0, "decay": 0.97}
MULTI_POWER = {"L0": 2.6, "A": 0.6, "alpha": 0.45, "B": 400.0, "C": 2.0}
MULTI_POWER |= {"beta": 0.6, "gamma": 0.65}


def annealing(rates, L0, A, alpha, C, decay):
    """The law of Tissue et al., sum by sum."""
    losses = []
    for s in range(len(rates)):
        falls = [
            (rates[k - 1] - rates[k]) * decay ** (i - k)
            for i in range(1, s + 1)
            for k in range(1, i + 1)
        ]
        losses.append(L0 + A * rates[: s + 1].sum() ** -alpha - C * sum(falls))
    return losses


def multi_power(rates, L0, A, alpha, B, C, beta, gamma):
    """The law of Luo et al., sum by sum; a rate of 0 saturates at once."""
    losses = []
    for s in range(len(rates)):
        gained = 0.0
        for k in range(1, s + 1):
            since = rates[k : s + 1].sum()
            if since:
                power = rates[k] ** -gamma if rates[k] else np.inf
                gained += (rates[k - 1] - rates[k]) * (1 - (1 + C * power * since) ** -beta)
        losses.append(L0 + A * rates[: s + 1].sum() ** -alpha - B * gained)
    return losses


FUNCTIONAL = {"L0": 2.6, "A": 8.0, "alpha": 0.5, "B": 300.0, "C": 900.0, "beta": 1.8, "D": 500.0}


def functional(rates, L0, A, alpha, B, C, beta, D):
    """The law of Li et al., the integral of each update by Gauss' rule."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    ends = np.cumsum(rates)
    z = ends - rates + rates * (nodes[:, None] + 1) / 2
    losses = []
    for s, t in enumerate(ends):
        signal = (1 + C * z[:, : s + 1]) ** -alpha
        kernel = C * (1 - 1 / beta) * (1 + C * (t - z[:, : s + 1])) ** -(2 - 1 / beta)
        inside = weights @ (kernel * (B + D * signal)) / 2
        noise = np.sum(inside * rates[: s + 1] ** 2)
        losses.append(L0 + A * (1 + C * t) ** -alpha + noise)
    return losses


@pytest.mark.parametrize("name", CURVES)
def test_laws_are_the_papers(name):
    rates = CURVES[name]
    losses = lrax.theory.functional_law(rates, **FUNCTIONAL)
    np.testing.assert_allclose(losses, functional(rates, **FUNCTIONAL), rtol=3e-5)
    losses = lrax.theory.functional_law(rates, **FUNCTIONAL | {"D": 0.0})
    np.testing.assert_allclose(losses, functional(rates, **FUNCTIONAL | {"D": 0.0}), rtol=1e-6)
    losses = lrax.theory.annealing_law(rates, **ANNEALING)
    np.testing.assert_allclose(losses, annealing(rates, **ANNEALING), rtol=1e-6)
    losses = lrax.theory.multi_power_law(rates, **MULTI_POWER)
    np.testing.assert_allclose(losses, multi_power(rates, **MULTI_POWER), rtol=1e-6)


@pytest.mark.parametrize(
    ("law", "transcribed", "numbers"),
    [("multi_power_law", multi_power, MULTI_POWER), ("functional_law", functional, FUNCTIONAL)],
)
def test_a_law_of_traced_rates_is_that_of_concrete_ones_and_has_derivatives(
    law, transcribed, numbers
):
    rates, weights = CURVES["cosine"], np.linspace(0, 1, T)

    def last(rates, L0, **numbers):
        losses = getattr(lrax.theory, law)(rates, L0=L0, **numbers)
        return jnp.sum(weights * losses), losses

    slopes, losses = jax.jit(jax.grad(last, has_aux=True))(rates, **numbers)
    np.testing.assert_allclose(losses, transcribed(rates, **numbers), rtol=1e-5)
    direction = 1e-4 * rates * np.cos(np.arange(T))
    ends = [weights @ transcribed(rates + sign * direction, **numbers) for sign in (-1, 1)]
    np.testing.assert_allclose(slopes @ direction, (ends[1] - ends[0]) / 2, rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 3, 8, 27])
def test_chebyshev_contracts_every_curvature_as_its_polynomial(steps):
    mu, smoothness = 0.5, 10.0
    rates = np.float64(values(lrax.theory.chebyshev(mu, smoothness, steps), steps))
    curvatures = np.linspace(mu, smoothness, 2001)
    left = np.prod(1 - rates[:, None] * curvatures, axis=0)
    polynomial = np.polynomial.Chebyshev.basis(steps)
    least = 1 / polynomial((smoothness + mu) / (smoothness - mu))
    np.testing.assert_allclose(np.abs(left).max(), least, rtol=1e-3)
    angles = (2 * np.arange(1, steps + 1) - 1) * np.pi / (2 * steps)
    nodes = (smoothness + mu) / 2 - (smoothness - mu) / 2 * np.cos(angles)
    np.testing.assert_allclose(np.sort(1 / rates), nodes, rtol=1e-6)


def test_chebyshev_takes_the_order_of_the_paper():
    rates = values(lrax.theory.chebyshev(1.0, 10.0, 8), 8)
    np.testing.assert_array_equal(1 + np.argsort(np.argsort(-rates)), [1, 8, 4, 5, 2, 7, 3, 6])


@pytest.mark.parametrize("steps", [3, 64, 65, 97, 257])
def test_no_remaining_steps_of_chebyshev_amplify_rounding_errors(steps):
    curvatures = np.linspace(1e-3, 1, 4001)
    rates = np.float64(values(lrax.theory.chebyshev(1e-3, 1.0, steps), steps))
    factors = 1 - rates[::-1, None] * curvatures
    assert np.abs(np.cumprod(factors, axis=0)).max() < 1 + 1e-6


@pytest.mark.parametrize("steps", [100, 128, 150])
def test_chebyshev_is_stable_in_float32(steps):
    curvatures = np.geomspace(1e-3, 1, 50, dtype=np.float32)

    def distance(rates):
        x = np.zeros(50, np.float32)
        for rate in rates:
            x = x - rate * (curvatures * x - curvatures)  # the minimum is at 1
        return np.abs(x - 1).max()

    rates = values(lrax.theory.chebyshev(1e-3, 1.0, steps), steps)
    least = 1 / np.cosh(steps * np.arccosh((1 + 1e-3) / (1 - 1e-3)))
    assert distance(rates) < 1.05 * least
    with np.errstate(all="ignore"):
        assert not np.isfinite(distance(np.sort(rates)[::-1]))


def recursion(times):
    """The silver step sizes by the recursion of Altschuler and Parrilo."""
    sizes = [np.sqrt(2)]
    for i in range(1, times):
        sizes = [*sizes, 1 + (1 + np.sqrt(2)) ** (i - 1), *sizes]
    return np.array(sizes)


def test_silver_is_the_recursion_of_the_paper():
    rates = values(lrax.theory.silver(4.0, 255), 255)
    np.testing.assert_allclose(rates, recursion(8) / 4, rtol=1e-6)


def test_silver_is_faster_than_a_constant_rate():
    # Huber's loss of one number, with the kink that is the worst case of gradient descent.
    steps = 127
    gaps = {}
    for name, rates in {"silver": recursion(7), "constant": np.ones(steps)}.items():
        kinks = np.geomspace(1e-4, 1, 200)
        x = np.ones(200)
        for rate in rates:
            x = x - rate * np.clip(x, -kinks, kinks)
        far = np.abs(x) > kinks
        gaps[name] = np.where(far, kinks * np.abs(x) - kinks**2 / 2, x**2 / 2).max()
    np.testing.assert_allclose(gaps["constant"], 1 / (4 * steps + 2), rtol=1e-3)
    assert gaps["silver"] < 0.3 * gaps["constant"]


@pytest.mark.parametrize(
    "schedule",
    [lambda: lrax.theory.chebyshev(0.5, 10.0, 6), lambda: lrax.theory.silver(10.0, 7)],
    ids=["chebyshev", "silver"],
)
def test_step_sizes_are_schedules(schedule):
    schedule = schedule()
    steps = schedule.hyperparams["steps"].value
    rates = values(schedule, 2 * steps)
    np.testing.assert_array_equal(rates[:steps], rates[steps:])
    assert repr(lrax.Schedule.from_dict(schedule.to_dict())) == repr(schedule)
    assert schedule.span() >= steps
    counts = np.array([-3, 0, steps])
    np.testing.assert_allclose(schedule(counts), rates[0], rtol=1e-6)
    # Numbers may be traced, and may have an axis of lanes.
    lanes = jax.vmap(lambda value: schedule.replace(smoothness=value))(np.array([10.0, 20.0]))
    other = values(schedule.replace(smoothness=20.0), steps)
    np.testing.assert_allclose(
        np.stack([jax.jit(lanes)(count) for count in range(steps)])[:, 1], other, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("law", "numbers"),
    [
        ("annealing_law", ANNEALING),
        ("multi_power_law", MULTI_POWER),
        pytest.param("functional_law", FUNCTIONAL, marks=pytest.mark.slow),
    ],
)
def test_laws_have_derivatives_after_a_warmup_from_0(law, numbers):
    last = lambda rates: getattr(lrax.theory, law)(rates, **numbers)[-1]
    slopes = jax.jit(jax.grad(last))(3e-4 * SHAPES["warmup from 0"])
    assert np.all(np.isfinite(slopes))


LAW = {"A": 1.0, "B": 2.0, "C": 10.0}


@jax.jit
def final(rates, numbers):
    return lrax.theory.functional_law(rates, L0=1.0, **LAW, **numbers)[-1]


@pytest.mark.parametrize("beta", [1.25, 2.0, 3.0])
@pytest.mark.parametrize("alpha", [0.1, 0.3, 1.5])
def test_the_functional_law_likes_no_other_schedule_better(alpha, beta):
    numbers = {"alpha": alpha, "beta": beta}
    steps = 120
    schedule = lrax.theory.functional_schedule(0.5, steps, **numbers, **LAW)
    best = values(schedule, steps).astype(float)
    assert best.max() <= 0.5 * (1 + 1e-6)
    left = 1 - np.arange(steps) / steps
    noise = np.cumsum(np.random.default_rng(0).normal(size=(20, steps)), axis=1)
    others = [best * np.exp(0.01 * wave) for wave in noise]
    others += [best * factor for factor in (0.8, 1.2)]
    others += [rate * left**power for rate in (0.05, 0.5) for power in (0, 1, 2)]
    least = final(best, numbers)
    assert all(final(np.minimum(rates, 0.5), numbers) > least * (1 - 3e-5) for rates in others)


@pytest.mark.parametrize("beta", [1.5, 2.0, 3.0])
def test_easy_tasks_have_the_papers_power_decay(beta):
    alpha = 1.0
    firsts = []
    for steps in (10**6, 10**9):
        schedule = lrax.theory.functional_schedule(0.5, steps, alpha=alpha, beta=beta, **LAW)
        numbers = schedule.hyperparams
        assert repr(schedule).startswith("polynomial(")  # there is no plateau
        np.testing.assert_allclose(numbers["power"], 2 * beta - 1, rtol=1e-6)
        firsts.append(float(numbers["init"]))
    # Over a long run the decay goes to 0, and its peak falls as the paper has it.
    np.testing.assert_allclose(numbers["steps"], 10**9, rtol=0.1)
    power = np.log(firsts[1] / firsts[0]) / np.log(10**3)
    np.testing.assert_allclose(power, -(alpha - 1 + 1 / beta) / (alpha + 1 / beta), atol=0.03)


def test_hard_tasks_have_a_plateau_and_an_ever_shorter_decay():
    shares = []
    for steps in (10**3, 10**5, 10**7):
        schedule = lrax.theory.functional_schedule(0.5, steps, alpha=0.2, beta=2.0, **LAW)
        counts = np.linspace(0, steps - 1, 1000).astype(int)
        rates = jax.jit(lrax.Schedule.__call__)(schedule, counts)
        shares.append(np.mean(rates < 0.5))
    assert 1 > shares[0] > 1.2 * shares[1] > 1.2**2 * shares[2]
