"""Early stopping: laws on made-up curves, the papers' rules, and real curves stopped afterwards."""

import itertools
import math

import numpy as np
import optax
import pytest

import lrax
from lrax.sweeps.rules import LOOKS, Halving, Median, neighbours, smoothed
from lrax.sweeps.stopping import Evidence, Stopping, as_rule

RULES = [
    Halving(),
    Halving(margin=0),
    Halving(eta=2, first=1 / 8),
    Halving(eta=1.5, margin=1.0),
    Median(),
]
SEEDS = [1, 2, 5]

every_rule = pytest.mark.parametrize("rule", RULES, ids=str)


def line(points):
    return np.geomspace(1e-4, 1.0, points)[:, None]


def curves(points, seeds, count, generator, noise=0.05):
    """Losses that fall from 2.3 to a bowl over the logarithm of the rate, with shared noise."""
    x = np.linspace(-3, 3, points)[:, None, None]
    level = 0.2 * (x - generator.uniform(-2, 2)) ** 2
    fall = np.exp(-np.arange(1, count + 1) / 40)
    shared = generator.normal(0, 0.3, (1, seeds, count))
    own = generator.normal(0, noise, (points, seeds, count)) + generator.normal(
        0, noise, (points, seeds, 1)
    )
    return (level + (2.3 - level) * fall + shared + own).astype(np.float32)


def asked(rule, history, coordinates, *, look=0, points=None, choices=()):
    """The rule's answer for points alive, among `points` at the start."""
    alive = np.zeros(points or len(history), bool)
    alive[: len(history)] = True
    widen = lambda values: np.concatenate(
        [values, np.full((len(alive) - len(values), *values.shape[1:]), np.nan)]
    )
    names = [str(i) for i in range(coordinates.shape[1])]
    hyperparams = dict(zip(names, widen(coordinates).T, strict=True))
    done = history.shape[-1]
    record = Evidence(
        losses=np.zeros((len(alive), *history.shape[1:])),
        objective=widen(history),
        hyperparams=hyperparams,
        monitors={},
        done=done,
        steps=9 * done,
        alive=alive,
        look=look,
        choices=choices,
    )
    keep = rule.keep(record)
    assert keep.shape == alive.shape
    assert not keep[~alive].any()
    return keep[: len(history)]


def best(history):
    return int(np.argmin(smoothed(history).mean(axis=1)))


def halving(losses, eta):
    """Jamieson and Talwalkar, figure 3: of the points left the best `1 / eta` by loss stay."""
    return set(sorted(range(len(losses)), key=lambda i: losses[i])[: math.ceil(len(losses) / eta)])


def share_of_work(rule, history_at, coordinates, steps):
    """The share of the full grid's updates that are made, and the points left at the end."""
    points = len(coordinates)
    alive, work, before = np.arange(points), 0, 0
    for i, rung in enumerate(rule.looks(steps)):
        work, before = work + len(alive) * (rung - before), rung
        alive = alive[
            asked(rule, history_at(rung)[alive], coordinates[alive], look=i, points=points)
        ]
    return (work + len(alive) * (steps - before)) / (len(coordinates) * steps), alive


# The laws


@every_rule
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("points", [1, 2, 3, 7, 24, 48])
def test_the_best_and_its_neighbours_go_on(rule, points, seeds):
    for seed in range(5):
        history = curves(points, seeds, 60, np.random.default_rng(seed), noise=0.5)
        keep = asked(rule, history, line(points))
        leader = best(history)
        assert keep.dtype == bool
        assert keep.shape == (points,)
        assert keep[leader]
        assert keep[max(leader - 1, 0) : leader + 2].all()
        np.testing.assert_array_equal(
            keep, asked(rule, history.copy(), line(points))
        )  # and nothing is random


@every_rule
@pytest.mark.parametrize("seeds", SEEDS)
def test_the_order_of_the_points_does_not_matter(rule, seeds):
    history, order = (
        curves(24, seeds, 60, np.random.default_rng(0)),
        np.random.default_rng(1).permutation(24),
    )
    np.testing.assert_array_equal(
        asked(rule, history[order], line(24)[order]), asked(rule, history, line(24))[order]
    )


@every_rule
def test_only_the_order_of_a_hyperparameters_values_matters(rule):
    history = curves(24, 2, 60, np.random.default_rng(0))
    np.testing.assert_array_equal(
        asked(rule, history, line(24)), asked(rule, history, np.log(line(24)))
    )


@every_rule
def test_a_seeds_luck_does_not_matter(rule):
    history = curves(24, 2, 60, np.random.default_rng(0)).astype(np.float64)
    luck = np.random.default_rng(1).normal(size=(1, 2, 60))
    if isinstance(rule, Halving):  # the median rule compares one update's losses to those of others
        np.testing.assert_array_equal(
            asked(rule, history, line(24)), asked(rule, history + luck, line(24))
        )
    np.testing.assert_array_equal(
        asked(rule, history, line(24)), asked(rule, 3 * history + 7, line(24))
    )


@pytest.mark.parametrize("eta", [1.5, 2, 3, 4, 7])
@pytest.mark.parametrize("points", [9, 10, 27, 48, 100])
def test_halving_without_margins_is_that_of_the_paper(eta, points):
    rule = Halving(eta=eta, margin=0)
    for seed in range(5):
        # Neighbours of the best are among the first where losses rise with the distance.
        generator = np.random.default_rng(seed)
        losses = np.abs(np.arange(points) - generator.integers(points) + 0.1) ** generator.uniform(
            0.5, 3
        )
        history = np.repeat(losses, 3).reshape(points, 1, 3)
        kept = set(np.flatnonzero(asked(rule, history, line(points))).tolist())
        wanted = halving(losses.tolist(), eta)
        protected = set(np.flatnonzero(neighbours(line(points), best(history))).tolist())
        if protected <= wanted:
            assert kept == wanted
        assert len(kept) == max(len(wanted), len(protected) + 1)


def test_the_share_of_a_rung_is_of_the_points_at_the_start():
    history = np.repeat(np.arange(24.0), 3).reshape(24, 1, 3)
    keep = lambda **when: asked(Halving(margin=0), history, line(24), **when).sum()
    assert [keep(), keep(look=0, points=48), keep(look=1, points=48), keep(look=2, points=48)] == [
        8,
        16,
        6,
        3,
    ]


@pytest.mark.parametrize("seeds", SEEDS)
def test_a_larger_eta_keeps_fewer(seeds):
    history = curves(48, seeds, 60, np.random.default_rng(0))
    kept = [asked(Halving(eta=eta, margin=0), history, line(48)) for eta in (1.1, 1.5, 2, 3, 5, 20)]
    for more, fewer in itertools.pairwise(kept):
        assert np.all(more >= fewer)
        assert (
            more.sum() > fewer.sum() or fewer.sum() <= 7
        )  # the best one and three neighbours on each side


@pytest.mark.parametrize("seeds", SEEDS)
def test_a_larger_margin_keeps_more_of_what_noise_hides(seeds):
    noisy, clear = (
        curves(48, seeds, 400, np.random.default_rng(0), 0.3),
        curves(48, seeds, 400, np.random.default_rng(0), 0),
    )
    counts = [
        asked(Halving(margin=margin), noisy, line(48)).sum() for margin in (0, 0.5, 2, 5, 1e6)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[2]
    assert counts[-1] <= 16 + 8 + 6  # at most half as many again, and neighbours
    assert asked(Halving(), clear, line(48)).sum() <= 16 + 2  # ties of the bowl's two sides


def test_batches_that_all_points_see_are_no_noise():
    generator = np.random.default_rng(0)
    x = np.linspace(-1, 1, 48)[:, None, None]
    for seeds in (1, 2):
        shared = generator.normal(0, 10, (1, seeds, 500))
        keep = asked(Halving(), x**2 + 0.01 * x + shared, line(48))
        assert keep.sum() == 16


def test_noise_of_long_ago_counts_for_nothing():
    x = np.linspace(-1, 1, 48)[:, None, None]
    history = x**2 + 0.01 * x + np.zeros(500)
    history[..., :450] += np.random.default_rng(0).normal(0, 10, (48, 1, 450))
    assert asked(Halving(), history, line(48)).sum() == 16


def test_two_seeds_that_agree_by_chance_are_no_proof():
    scores = np.geomspace(1, 2, 12)[:, None] + 0.3 * np.random.default_rng(0).normal(
        size=(12, 1)
    ) * [1, -1]
    scores[4] = scores[3] + 0.01  # worse than the last that is kept, with both seeds alike
    history = scores[..., None] * np.ones(20)
    assert asked(Halving(), history, line(12))[4]
    assert not asked(Halving(margin=0), history, line(12))[4]


# Divergence, ties and small numbers


@every_rule
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("seeds", SEEDS)
def test_a_diverged_point_is_dropped(rule, bad, seeds):
    history = curves(12, seeds, 60, np.random.default_rng(0))
    history[9:, -1, 40:] = bad
    keep = asked(rule, history, line(12))
    assert not keep[9:].any()
    assert keep.sum() >= 3
    history[:, :, 40:] = bad
    history[5] = 1.0
    np.testing.assert_array_equal(
        np.flatnonzero(asked(rule, history, line(12))), [5]
    )  # beside it there is nothing


@every_rule
def test_where_all_diverged_those_with_fewest_seeds_lost_go_on(rule):
    history = curves(12, 3, 60, np.random.default_rng(0))
    history[:, 0, -1] = np.nan
    history[[0, 1, *range(5, 12)], 1, -1] = np.nan
    keep = asked(rule, history, line(12))
    assert keep[2:5].all()
    assert 3 <= keep.sum() <= 8


@every_rule
def test_huge_losses_are_no_trouble(rule):
    history = curves(24, 2, 60, np.random.default_rng(0)).astype(np.float64)
    far = np.argsort(np.abs(np.arange(24) - best(history)))[-8:]
    history[far[:4]] = np.finfo(np.float32).max
    history[far[4:]] = np.finfo(np.float64).max
    keep = asked(rule, history, line(24))
    assert keep[best(history)]
    assert not keep[far].any()
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(keep, asked(rule, history.astype(np.float32), line(24)))


@every_rule
@pytest.mark.parametrize("seeds", SEEDS)
def test_ties(rule, seeds):
    keep = asked(rule, np.ones((9, seeds, 20)), line(9))
    assert keep[0]
    assert 3 <= keep.sum() <= 9
    if isinstance(rule, Median):
        assert keep.all()  # none is strictly worse than the middle one
    else:
        assert keep.sum() == math.ceil(9 / rule.eta)


@every_rule
@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 11])
@pytest.mark.parametrize("seeds", SEEDS)
def test_a_short_history_will_do(rule, count, seeds):
    assert asked(rule, curves(12, seeds, count, np.random.default_rng(0)), line(12)).sum() >= 3


def test_scores_are_of_the_last_tenth():
    history = np.random.default_rng(0).normal(size=(3, 2, 107))
    np.testing.assert_allclose(smoothed(history), history[..., -10:].mean(axis=-1))
    history[0, 1, -4] = np.nan
    assert smoothed(history)[0, 1] == np.inf
    history[..., :90] = np.nan  # has recovered
    assert np.isfinite(smoothed(history)[1:]).all()


# Neighbours


def test_neighbours_of_a_line_are_more_on_a_finer_one():
    for points, reach in ((2, 1), (16, 1), (17, 2), (24, 2), (48, 3)):
        near = neighbours(line(points), points // 2)
        wanted = [i for i in range(points) if 0 < abs(i - points // 2) <= reach]
        np.testing.assert_array_equal(np.flatnonzero(near), wanted)
    np.testing.assert_array_equal(np.flatnonzero(neighbours(line(48), 0)), [1, 2, 3])


def test_neighbours_of_a_product_differ_in_one_hyperparameter():
    grid = np.array(list(itertools.product([1e-3, 1e-2, 1e-1], [0.0, 0.1, 0.2, 0.3], [5.0])))
    near = neighbours(grid, 5)  # 1e-2, 0.1
    np.testing.assert_array_equal(
        grid[near], [[1e-3, 0.1, 5], [1e-2, 0.0, 5], [1e-2, 0.2, 5], [1e-1, 0.1, 5]]
    )


def test_a_neighbour_may_be_off_the_line_where_the_line_has_gaps():
    grid = np.array([[1, 1], [2, 5], [3, 5], [4, 1]])
    np.testing.assert_array_equal(neighbours(grid, 0), [False, True, False, False])
    np.testing.assert_array_equal(neighbours(grid[[0, 3, 2]], 0), [False, True, True])


def test_neighbours_of_scattered_points_are_on_both_sides():
    grid = lrax.sobol({"lr": (1e-4, 1e-1), "wd": (1e-3, 1.0)}, 32)
    points = np.stack([grid["lr"], grid["wd"]], axis=1)
    for i in range(32):
        near = points[neighbours(points, i)]
        assert 2 <= len(near) <= 4
        for values, own in zip(near.T, points[i], strict=True):
            column = points[:, 0] if own == points[i, 0] else points[:, 1]
            assert (values > own).any() or own == column.max()
            assert (values < own).any() or own == column.min()


def test_a_choice_has_no_neighbours_and_a_number_has_them_within_its_choice():
    grid = np.array(list(itertools.product([0.0, 1.0, 2.0], [1e-3, 1e-2, 1e-1])))
    near = neighbours(grid, 4, (0,))  # choice 1, 1e-2
    np.testing.assert_array_equal(np.flatnonzero(near), [3, 5])
    history = np.ones((9, 1, 20)) * (1 + np.abs(np.arange(9) - 4.0))[:, None, None]
    history[[1, 7]] = 50.0  # the best rate with the other choices
    keep = asked(Halving(eta=5, margin=0), history, grid, choices=("0",))
    np.testing.assert_array_equal(np.flatnonzero(keep), [3, 4, 5])
    as_number = asked(Halving(eta=5, margin=0), history, grid)
    np.testing.assert_array_equal(np.flatnonzero(as_number), [1, 3, 4, 5, 7])


# Looks and arguments


def test_looks():
    assert Halving().looks(900) == (100, 300)
    assert Halving(eta=2, first=1 / 8).looks(800) == (100, 200, 400)
    assert Halving(eta=10, first=0.5).looks(10) == (5,)
    assert Median().looks(1000) == tuple(range(100, 1000, 100))
    assert Median(first=0.5, every=0.2).looks(10) == (5, 7, 9)
    for rule, steps in itertools.product(RULES, [*range(1, 40), 600, 10**6]):
        looks = rule.looks(steps)
        assert list(looks) == sorted(set(looks))
        assert all(0 < look < steps and isinstance(look, int) for look in looks)


@pytest.mark.parametrize(
    "rule",
    [
        Median(every=1e-9),
        Median(first=1e-300, every=1e-300),
        Halving(eta=1 + 1e-12),
        Halving(eta=math.nextafter(1, 2)),
        Halving(first=1e-300),
        Halving(eta=1 + 1e-12, first=1e-300),
        Halving(eta=1.001, first=0.9),
    ],
    ids=str,
)
def test_extreme_rules_look_a_hundred_times_at_most(rule):
    for steps in (1, 2, 10, 1000, 10**9):
        looks = rule.looks(steps)
        assert len(looks) <= LOOKS + 1
        assert len(looks) > 10 or steps <= 1000 or rule == Halving(first=1e-300)
        assert all(0 < look < steps for look in looks)
    history = curves(24, 2, 60, np.random.default_rng(0))
    assert asked(rule, history, line(24))[best(history)]


def test_many_small_rungs_keep_the_share_of_few_large_ones():
    fine, coarse = Halving(eta=1 + 1e-12, margin=0), Halving(eta=3, margin=0)
    points, steps = 900, 9000
    history = np.repeat(np.arange(float(points)), 2).reshape(points, 1, 2)
    alive = np.arange(points)
    looks = fine.looks(steps)
    for look, at in enumerate(looks):
        record = Evidence(history, history, {"0": np.arange(900.0)}, {}, at, steps, None, look)
        mask = np.isin(np.arange(points), alive)
        alive = np.flatnonzero(fine.keep(record._replace(alive=mask)))
    at_end = asked(coarse, history, np.arange(900.0)[:, None], look=1).sum()
    assert at_end == 100
    assert len(alive) == pytest.approx(points / 9, rel=0.05)


def test_a_lane_whose_loss_was_once_not_finite_is_out():
    objective = np.ones((6, 1, 4)) * np.arange(6)[:, None, None]
    losses = np.ones((6, 1, 40))
    losses[0, 0, 5] = np.nan
    record = Evidence(losses, objective, {"lr": np.arange(6.0)}, {}, 40, 90, np.ones(6, bool), 0)
    for rule in RULES:
        assert rule.keep(record).tolist()[:2] == [False, True]


def test_a_rule_of_ones_own():
    class Last:
        def looks(self, steps):
            return (steps // 2,)

        def keep(self, record):
            return np.arange(len(record.alive)) > 0

    class Half:
        looks = Last.looks

    assert isinstance(Last(), Stopping)
    rule = Last()
    assert as_rule(rule) is rule
    assert as_rule(None) is as_rule("diverged") is None
    for bad in (Half(), Last, Halving, 3, lambda record: record.alive):
        with pytest.raises(TypeError, match=r"`stop` must be 'diverged', .*`looks` and `keep`"):
            as_rule(bad)
    with pytest.raises(ValueError, match="`stop` must be one of 'diverged', got 'halving'"):
        as_rule("halving")


@pytest.mark.parametrize(
    ("rule", "name", "values"),
    [
        (Halving, "eta", [1, 0.5, -3, np.nan, np.inf]),
        (Halving, "first", [0, 1, -0.1, 9, np.nan]),
        (Halving, "margin", [-1, np.nan, np.inf, [1.0, 2.0]]),
        (Median, "first", [0, 1, np.nan]),
        (Median, "every", [0, 1, -0.5, np.nan]),
    ],
)
def test_bad_arguments_are_named(rule, name, values):
    for value in values:
        with pytest.raises((TypeError, ValueError), match=f"`{name}` must be"):
            rule(**{name: value})
    for value in ("3", None, True):
        with pytest.raises(TypeError, match=f"`{name}` must be a real number"):
            rule(**{name: value})


def test_rules_are_values():
    assert Halving() == Halving(eta=3)
    assert len({Halving(), Halving(margin=2.0), Median()}) == 2
    assert eval(repr(Halving(eta=2))) == Halving(eta=2)


# The median rule


@pytest.mark.parametrize("seeds", SEEDS)
def test_the_median_rule_is_that_of_the_paper(seeds):
    for seed in range(10):
        history = curves(20, seeds, 10, np.random.default_rng(seed), noise=1.0).astype(np.float64)
        losses = history.mean(axis=1)  # [points, 10], of which each is a stretch of its own
        averages = sorted(losses.mean(axis=1))
        wanted = losses.min(axis=1) <= (averages[9] + averages[10]) / 2
        wanted |= neighbours(line(20), best(history))
        wanted[best(history)] = True
        np.testing.assert_array_equal(asked(Median(), history, line(20)), wanted)


def test_the_median_rule_leaves_three():
    history = np.geomspace(1, 1e6, 20)[:, None, None] * np.ones((20, 2, 30))
    history[0] = 1e-3
    rule, alive = Median(), np.arange(20)
    for _ in range(10):
        alive = alive[asked(rule, history[alive], line(20)[alive])]
    np.testing.assert_array_equal(alive, [0, 1, 2])


# The real thing


def adam(learning_rate):
    return optax.adam(lrax.wsd(learning_rate, 600, 60, 120))


def momentum(learning_rate):
    return optax.sgd(lrax.warmup_cosine(learning_rate, 600, 60), momentum=0.9)


@pytest.fixture(
    scope="module", params=[(adam, 1e-5, 1.0), (momentum, 1e-4, 10.0)], ids=["adam", "momentum"]
)
def full_grid(request):
    optimizer, low, high = request.param
    task, rates = lrax.tasks.digits(), {"learning_rate": lrax.log_grid(low, high, 24)}
    return lrax.sweep(
        task,
        optimizer,
        rates,
        steps=600,
        seeds=3,  # of two seeds, a rate beside the cliff of divergence may be best by luck
        objective="val_loss",
        eval_every=20,
        progress=False,
    )


@pytest.mark.parametrize(
    ("rule", "most"), [(Halving(), 0.45), (Halving(eta=2, first=1 / 8), 0.55), (Median(), 0.65)]
)
@pytest.mark.parametrize("objective", ["val_loss", "train_loss"])
@pytest.mark.slow
def test_real_sweeps_find_the_full_grids_best(full_grid, rule, most, objective):
    if objective == "val_loss":
        history_at = lambda rung: full_grid.evaluations["val_loss"][
            ..., : np.sum(full_grid.evaluated_at <= rung)
        ]
        values = full_grid.scores.mean(axis=1)
    else:
        history_at = lambda rung: full_grid.losses[..., :rung]
        values = smoothed(full_grid.losses).mean(axis=1)
    work, left = share_of_work(
        rule, history_at, full_grid.hyperparams["learning_rate"][:, None], 600
    )
    assert work < most
    assert values[left].min() <= 1.02 * values.min()
