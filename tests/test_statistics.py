"""What a sweep's scores say, against SciPy, transcriptions and simulations whose truth is known."""

import itertools

import jax
import numpy as np
import optax
import problems
import pytest
from scipy import stats
from test_result import made

import lrax
from lrax.sweeps import statistics
from lrax.sweeps.optimum import optimum

RNG = np.random.default_rng(0)


# The optimum


def bowl(x, kind):
    """A loss whose minimum is at 0, over natural logarithms of the rate."""
    if kind == "parabola":
        return 0.1 * x**2
    steep = 0.2 * (
        1.5 * np.exp(-0.5 * x) + 0.5 * np.exp(1.5 * x) - 2.0
    )  # falls by a power, rises three times as steep
    return np.where(x > 2.0, np.inf, steep) if kind == "cliff" else steep


def simulated(kind, points, seeds, generator):
    """Scores of seeds that differ in level and in their optimum; and the optimum of the mean."""
    x = np.linspace(-1.75, 1.75, points) * np.log(10)
    true = generator.uniform(-1, 1)
    own = true + generator.normal(0, 0.2, seeds) if seeds > 1 else true
    scores = (
        bowl(x[:, None] - own, kind)
        + generator.normal(0, 0.3, seeds)
        + generator.normal(0, 0.02, (points, seeds))
    )
    return np.exp(x), scores, true


@pytest.mark.parametrize("kind", ["parabola", "steep", "cliff"])
@pytest.mark.parametrize(("points", "seeds"), [(8, 2), (8, 5), (15, 3), (29, 2), (29, 5), (15, 1)])
def test_the_interval_covers_the_optimum(kind, points, seeds):
    generator = np.random.default_rng(points + seeds)
    runs, covered, errors = 60, 0, []
    for _ in range(runs):
        rates, scores, true = simulated(kind, points, seeds, generator)
        found = optimum(rates, scores)
        assert found.at_edge is None
        assert found.interval[0] <= found.rate <= found.interval[1]
        covered += found.interval[0] <= np.exp(true) <= found.interval[1]
        errors.append(np.log(found.rate) - true)
    # 95 % are promised; of 60 intervals that cover 90 % of the time, 49 do with a probability of 98
    # %.
    assert covered >= 49 if seeds > 1 else covered >= 42
    assert (
        np.sqrt(np.mean(np.square(errors))) < 0.5
    )  # a fifth of a decade, on grids of a half, a quarter, an eighth


def test_the_interval_narrows_with_the_seeds():
    generator = np.random.default_rng(0)
    rates = lrax.log_grid(1e-4, 1e-1, 25)
    x = np.log(rates / 3e-3)[:, None]
    widths = []
    for seeds in (3, 48):
        scores = bowl(x - generator.normal(0, 0.5, seeds), "parabola")
        low, high = optimum(rates, scores).interval
        widths.append(np.log(high / low))
    assert widths[1] < 0.5 * widths[0]


def test_the_optimum_of_a_parabola_is_its_vertex_on_any_grid():
    for n in (4, 7, 25, 90):
        rates = lrax.log_grid(1e-4, 1.0, n)
        assert optimum(rates, np.log(rates / 7e-3)[:, None] ** 2).rate == pytest.approx(7e-3)
    uneven = np.sort(np.exp(RNG.uniform(np.log(1e-4), 0, 30)))
    assert optimum(uneven, np.log(uneven / 7e-3)[:, None] ** 2).rate == pytest.approx(7e-3)


def test_a_cliff_does_not_move_the_optimum():
    rates = lrax.log_grid(1e-4, 1e-1, 13)
    scores = np.log(rates / 4e-3)[:, None] ** 2
    cliff = scores.copy()
    cliff[rates > 1.5e-2] += 1e4
    assert optimum(rates, cliff).rate == pytest.approx(4e-3, rel=0.01)


def test_at_the_edge_the_interval_is_open():
    rates = lrax.log_grid(1e-4, 1e-1, 7)
    falling = -np.log(rates)[:, None] + np.zeros(3)
    found = optimum(rates, falling)
    assert found.value == found.point == pytest.approx(1e-1)
    assert found.interval == (pytest.approx(10**-1.5), np.inf)
    assert found.at_edge == "high"
    assert (
        str(found)
        == "0.1 is the highest of the grid: the optimum may lie above, extend the grid that way"
    )
    found = optimum(rates, -falling)
    assert found.value == found.point == pytest.approx(1e-4)
    assert found.interval == (0.0, pytest.approx(10**-3.5))
    assert found.at_edge == "low"
    assert "may lie below" in str(found)
    assert optimum(rates[:1], falling[:1]).interval == (0.0, np.inf)
    inside = optimum(rates, np.log(rates / 2e-3)[:, None] ** 2)
    assert str(inside).startswith("0.002, between 0.00")


def test_flat_and_degenerate_curves_have_an_optimum_too():
    rates = lrax.log_grid(1e-4, 1e-1, 7)
    flat = np.ones((7, 2))
    flat[3] = 0.5
    assert optimum(rates, flat).rate == pytest.approx(rates[3])
    huge = np.log(rates / 2e-3)[:, None] ** 2 * 1e30
    assert optimum(rates, huge).rate == pytest.approx(2e-3)
    assert optimum(rates, huge * 1e-60).rate == pytest.approx(2e-3)
    assert optimum(rates, (huge / 1e30).astype(np.float32)).rate == pytest.approx(2e-3, rel=1e-4)


# One standard error


def test_one_standard_error_is_the_textbooks():
    scores = np.array([[1.0, 1.6, 1.3], [0.85, 0.9, 0.9], [0.6, 0.9, 1.0], [0.9, 1.0, 0.9]])
    rates = np.array([1e-3, 1e-2, 1e-1, 1.0])
    means, error = scores.mean(axis=1), stats.sem(scores[2])
    assert means.argmin() == 2
    assert means[1] < means[2] + error < means[0]
    assert statistics.one_standard_error(rates, scores) == 1e-2
    shared = scores + np.array(
        [0.0, 5.0, 9.0]
    )  # of what the points of a seed share, the pairs know nothing
    assert statistics.one_standard_error(rates, shared) == 1e-3
    assert statistics.one_standard_error(rates, shared, pair=True) == statistics.one_standard_error(
        rates, scores, pair=True
    )


def test_one_standard_error_of_a_result():
    result = made([[1.0, 1.4], [0.5, 0.62], [0.4, 0.6], [0.9, 0.9], [np.nan, 0.1]])
    rates = result.hyperparams["lr"]
    assert result.one_standard_error() == pytest.approx(rates[1])
    # By seed the second is 0.1 and 0.02 worse: 0.06 in the mean, with a standard error of 0.04.
    assert result.one_standard_error(paired=True) == pytest.approx(rates[2])
    with pytest.raises(ValueError, match="at least 2 seeds"):
        made([[1.0], [0.5]]).one_standard_error()
    with pytest.raises(ValueError, match="every point diverged"):
        made(np.full((3, 2), np.nan)).one_standard_error()
    with pytest.raises(ValueError, match="`name` must be one of 'lr', got 'wd'"):
        result.one_standard_error("wd")


# Sensitivity


def test_sensitivity_by_hand():
    # Initial loss 2: the rates score 1.5, 1.0, 1.2, and 2 for the one that diverged and the one
    # that ended above.
    result = made([[1.5], [1.0], [1.2], [2.5], [np.nan]], first=2.0)
    assert result.sensitivity() == pytest.approx((1.5 + 1.0 + 1.2 + 2.0 + 2.0) / 5 - 1.0)
    rates = result.hyperparams["lr"]
    assert result.sensitivity(high=rates[2]) == pytest.approx(3.7 / 3 - 1.0)
    assert result.sensitivity(low=rates[1], high=rates[2]) == pytest.approx(0.1)
    assert result.sensitivity(initial=3.0) == pytest.approx((1.5 + 1.0 + 1.2 + 2.5 + 3.0) / 5 - 1.0)


def test_sensitivity_averages_what_seeds_score_and_clips_each():
    result = made([[1.0, 3.0], [np.nan, 0.5]], first=2.0)
    assert result.sensitivity() == pytest.approx(np.mean([(1 + 2) / 2, (2 + 0.5) / 2]) - 1.25)


def test_sensitivity_weighs_rates_by_their_share_of_the_scale():
    fine = lrax.log_grid(1e-4, 1.0, 401)
    loss = lambda rates: np.minimum(0.1 * np.log(rates / 1e-2) ** 2, 1.0)[:, None]
    uneven = np.unique(np.concatenate([fine[::20], fine[180:220]]))  # as after zoom() and merge()
    for rates in (fine, uneven):
        x = np.log(rates)
        ends = (
            x[0] - (x[1] - x[0]) / 2,
            x[-1] + (x[-1] - x[-2]) / 2,
        )  # the ends stand for as much beyond as within
        truth = np.mean(loss(np.exp(np.linspace(*ends, 100_000))))
        assert statistics.sensitivity(rates, loss(rates), 1.0) == pytest.approx(truth, rel=0.01)
    assert abs(np.mean(loss(uneven)) / truth - 1) > 0.3  # the plain mean would be far off
    assert statistics.sensitivity(np.array([0.1]), np.ones((1, 2)), 2.0) == 0.0


def test_sensitivity_of_a_metric_needs_its_initial_value():
    metric = {"acc": [[0.5], [0.9], [0.6]]}
    result = made(np.ones((3, 1)), metrics=metric, objective="acc", mode="max")
    with pytest.raises(
        ValueError, match=r"`initial` must be given for the objective 'acc'.*task\.evaluate"
    ):
        result.sensitivity()
    assert result.sensitivity(initial=0.55) == pytest.approx(0.9 - (0.55 + 0.9 + 0.6) / 3)
    along = made(
        np.ones((3, 1)),
        metrics=metric,
        objective="acc",
        mode="max",
        evaluations={"acc": np.array([[[0.55, 0.7]]] * 3)},
        evaluated_at=np.array([0, 20]),
    )
    assert along.sensitivity() == pytest.approx(result.sensitivity(initial=0.55))
    with pytest.raises(
        ValueError,
        match=r"`low` and `high` must hold values of 'lr' between them, got 5\.0 and inf",
    ):
        result.sensitivity(low=5.0)
    with pytest.raises(ValueError, match="`initial` must be finite, got nan"):
        statistics.sensitivity(np.array([0.1, 1.0]), np.ones((2, 1)), np.nan)
    with pytest.raises(ValueError, match="`rates` must be finite and positive"):
        statistics.sensitivity(np.array([0.0, 1.0]), np.ones((2, 1)), 1.0)


# Pairs


def test_paired_is_scipys_t_interval():
    scores = RNG.normal(1.0, 0.1, (4, 6)) + RNG.normal(0, 5, 6)
    found = statistics.paired(scores, 2)
    for point in (0, 1, 3):
        expected = stats.ttest_rel(scores[point], scores[2])
        np.testing.assert_allclose(found.interval[point], expected.confidence_interval(0.95))
        np.testing.assert_allclose(
            found.mean[point] / found.standard_error[point], expected.statistic
        )
    assert found.mean[2] == found.standard_error[2] == 0.0
    assert found.p_value[2] == 1.0
    narrow = statistics.paired(scores, 2, 0.5)
    assert np.all(np.diff(narrow.interval[:2]) < np.diff(found.interval[:2]))


@pytest.mark.parametrize("seeds", [2, 5, 9])
def test_the_p_value_is_the_permutation_test_of_scipy(seeds):
    scores = RNG.normal(0, 1, (3, seeds)) + np.array([[0.0], [0.5], [2.0]])
    found = statistics.paired(scores, 0)
    for point in (1, 2):
        expected = stats.permutation_test(
            (scores[point] - scores[0],), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert found.p_value[point] == pytest.approx(expected.pvalue)


def test_the_p_value_of_many_seeds_is_drawn_and_of_few_is_limited():
    scores = np.stack([np.zeros(30), RNG.normal(0.3, 1, 30)])
    expected = stats.ttest_1samp(scores[1], 0).pvalue
    assert statistics.paired(scores, 0).p_value[1] == pytest.approx(expected, rel=0.15)
    assert (
        statistics.paired(np.array([[0.0] * 5, [1.0, 1.1, 1.2, 1.3, 1.4]]), 0).p_value[1] == 2 / 32
    )


def test_the_p_value_is_as_often_small_as_it_says():
    generator = np.random.default_rng(1)
    values = [statistics.paired(generator.standard_t(2, (2, 7)), 0).p_value[1] for _ in range(600)]
    for level in (0.05, 0.2):
        assert np.mean(np.array(values) <= level) <= level + 2 * np.sqrt(level * (1 - level) / 600)
    assert np.mean(np.array(values) <= 0.2) > 0.12


def test_pairs_with_diverged_lanes():
    scores = np.array([[1.0, 1.0, 1.0], [1.1, np.inf, 1.2], [0.9, np.inf, 0.8], [np.inf] * 3])
    found = statistics.paired(scores, 0)
    assert np.all(np.isinf(found.mean[1:]))
    assert np.all(np.isinf(found.standard_error[1:]))
    assert found.interval[1].tolist() == [-np.inf, np.inf]
    assert not any(np.any(np.isnan(values)) for values in found[1:-1])
    assert found.status.tolist() == ["done", *["diverged"] * 3]
    for point in (1, 2, 3):  # the limit of ever larger losses
        large = np.where(np.isinf(scores[point]), 1e6, scores[point]) - 1
        signs = np.array(list(itertools.product((1, -1), repeat=3)))
        as_far = np.abs(signs @ large) >= np.abs(large.sum()) * (1 - 1e-12)
        assert found.p_value[point] == pytest.approx(as_far.mean())


def test_pairs_with_a_diverged_reference():
    """A seed in which one lane diverged has a sign; where both did, there is no difference."""
    scores = np.array([[1.0, 1.0, 1.0], [1.1, np.inf, 1.2], [0.9, np.inf, 0.8]])
    found = statistics.paired(scores, 1)
    np.testing.assert_allclose(found.differences[0], [-0.1, -np.inf, -0.2])
    np.testing.assert_allclose(found.differences[2], [-0.2, np.nan, -0.4])
    np.testing.assert_array_equal(found.mean, [-np.inf, np.nan, np.nan])
    assert found.status.tolist() == ["diverged"] * 3
    assert np.all(np.isinf(found.interval))
    # Of 8 choices of signs, 2 are as far as three differences of one sign; a tie leaves 4 of 8.
    assert found.p_value.tolist() == [2 / 8, 1.0, 4 / 8]


def test_pairs_with_a_point_that_was_not_trained_to_the_end():
    scores = np.array([[1.0, 1.2], [np.inf, np.inf], [0.9, np.inf]])
    status = np.array([["done"] * 2, ["pruned"] * 2, ["done", "diverged"]])
    found = statistics.paired(scores, 0, status=status)
    assert found.status.tolist() == ["done", "pruned", "diverged"]
    for values in (found.differences, found.mean, found.p_value):
        assert np.isnan(values[1]).all()
    assert found.mean[2] == np.inf
    with pytest.raises(ValueError, match="trained to the end, got one that was pruned"):
        statistics.paired(scores, 1, status=status)


def test_pairs_of_a_result():
    result = made([[1.0, 1.4, 1.2], [0.5, 0.9, 0.71], [0.9, 0.9, 0.8]])
    found = result.paired()
    assert found.reference == 1
    np.testing.assert_allclose(found.differences[0], [0.5, 0.5, 0.49], rtol=1e-5)
    assert result.paired(0).mean[1] == pytest.approx(-found.mean[0])
    largest = made(
        np.ones((3, 2)),
        metrics={"acc": [[0.1, 0.2], [0.9, 0.8], [0.5, 0.6]]},
        objective="acc",
        mode="max",
    )
    assert largest.paired().mean.tolist() == pytest.approx([0.7, 0.0, 0.3])
    for call, error, message in (
        (
            lambda: result.paired(3),
            ValueError,
            "`reference` must be an index of one of 3 points, got 3",
        ),
        (lambda: result.paired(-1), ValueError, "`reference` must be at least 0"),
        (lambda: result.paired(0.5), TypeError, "`reference` must be an int"),
        (
            lambda: result.paired(confidence=95),
            ValueError,
            "`confidence` must be between 0 and 1, both excluded, got 95",
        ),
        (lambda: made([[1.0], [0.5]]).paired(), ValueError, "at least 2 seeds"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_means_are_scipys():
    values = RNG.normal(0, 1, (3, 5))
    mean, interval = statistics.means(values, 0.9)
    for row, m, ends in zip(values, mean, interval, strict=True):
        np.testing.assert_allclose(
            ends, stats.t.interval(0.9, 4, loc=row.mean(), scale=stats.sem(row))
        )
        assert m == pytest.approx(row.mean())
    assert np.isnan(statistics.means(np.array([[1.0, np.inf]]))[0][0])


def test_a_sensitivity_of_nothing_is_not_the_best_possible():
    rates, lost = np.array([0.1, 1.0]), np.full((2, 2), np.inf)
    with pytest.raises(ValueError, match="the sensitivity is not known"):
        statistics.sensitivity(rates, lost, 1.0)
    result = made([[1.0], [0.5], [np.nan], [np.nan]])
    assert result.sensitivity() > 0
    with pytest.raises(ValueError, match="the sensitivity is not known"):
        result.sensitivity(low=0.02)  # of the rates in question every one diverged


# Confirm


def test_confirm_trains_the_first_points_on_fresh_seeds():
    task = problems.regression()
    result = lrax.sweep(
        task, optax.adam, lrax.log_grid(1e-3, 1.0, 7), steps=30, seeds=3, objective="val_loss"
    )
    found = lrax.confirm(task, optax.adam, result, seeds=4, top=2)
    assert found.result.seeds == ["3", "4", "5", "6"]
    assert found.result.objective == "val_loss"
    assert [point["learning_rate"] for point in found.hyperparams] == pytest.approx(
        result.hyperparams["learning_rate"][result.ranking[:2]]
    )
    same = lrax.sweep(
        task,
        optax.adam,
        result.hyperparams["learning_rate"][result.ranking[:2]],
        steps=30,
        seeds=[3, 4, 5, 6],
        objective="val_loss",
    )
    np.testing.assert_allclose(found.mean, same.values.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        found.claimed, result.values[result.ranking[:2]].mean(axis=1), rtol=1e-6
    )
    assert np.all((found.interval[:, 0] < found.mean) & (found.mean < found.interval[:, 1]))
    assert found.paired.mean[1] == pytest.approx(found.mean[1] - found.mean[0], rel=1e-4)
    assert len(str(found).splitlines()) == 2
    assert "p " in str(found).splitlines()[1]


@pytest.mark.parametrize("eval_every", [120, None])
def test_confirm_ranks_by_evaluations_at_the_same_times(eval_every):
    call = dict(steps=320, seeds=2, objective="val_loss", select="best", eval_every=eval_every)
    task = problems.regression()
    # The last point diverges, and is evaluated before update 120, when it is stopped.
    result = lrax.sweep(task, optax.sgd, [1e-3, 1e-2, 1e6], **call)
    assert result.evaluated_at[0] < 120
    found = lrax.confirm(task, optax.sgd, result, seeds=[7, 9], top=2)
    wanted = [] if eval_every is None else [120, 240, 320]
    assert found.result.evaluated_at.tolist() == wanted
    # What the sweep had is of the same evaluations.
    ends = result.metrics["val_loss"] if eval_every is None else result.values
    np.testing.assert_allclose(found.claimed, ends[result.ranking[:2]].mean(axis=1), rtol=1e-6)


@pytest.mark.slow
def test_confirm_undoes_the_winners_curse():
    """Where all points are equal, the best one is too good by the curse; confirmed, it is not."""
    task = lrax.Task(
        init=lambda key: {"w": jax.random.normal(key)},
        loss=lambda params, batch: params["w"] + 0.0 * batch["x"].sum(),
        batch=lrax.minibatches({"x": np.zeros((4, 1), np.float32)}, size=4),
    )
    none = lambda lr: optax.scale(0.0 * lr)
    result = lrax.sweep(
        task, none, lrax.log_grid(1e-3, 1.0, 24), steps=2, seeds=2, rng="independent"
    )
    found = lrax.confirm(task, none, result, seeds=12, top=1)
    assert found.claimed[0] < -0.9
    assert found.interval[0, 0] < 0.0 < found.interval[0, 1]


def test_confirm_names_bad_arguments():
    task = problems.regression()
    result = lrax.sweep(task, optax.adam, [1e-2, 1e-1], steps=5, seeds=2)
    for arguments, error, message in (
        (dict(seeds=1), ValueError, "`seeds` must be at least 2, got 1"),
        (
            dict(seeds=[1, 2]),
            ValueError,
            r"must not be among the seeds that chose the points, got \[1\]",
        ),
        (dict(seeds=[7]), ValueError, r"`seeds` must be at least 2, .* got \[7\]"),
        (dict(top=0), ValueError, "`top` must be at least 1, got 0"),
        (
            dict(confidence=1.0),
            ValueError,
            "`confidence` must be between 0 and 1, both excluded, got 1.0",
        ),
    ):
        with pytest.raises(error, match=message):
            lrax.confirm(task, optax.adam, result, **arguments)
    with pytest.raises(TypeError, match="`result` must be a SweepResult, got ndarray"):
        lrax.confirm(task, optax.adam, result.losses)
    with pytest.raises(ValueError, match="every point diverged"):
        lrax.confirm(task, optax.adam, made(np.full((2, 2), np.nan)))
    stopped = made([[1.0, 1.0]], steps=80, status=np.full((1, 2), "interrupted"))
    with pytest.raises(
        ValueError, match="must be of a whole sweep, got one interrupted at 40 of 80"
    ):
        lrax.confirm(task, optax.adam, stopped)


def test_confirm_after_keys_takes_seeds_far_away():
    task = problems.regression()
    result = lrax.sweep(
        task, optax.adam, [1e-2, 1e-1], steps=5, seeds=jax.random.split(jax.random.key(0), 2)
    )
    assert lrax.confirm(task, optax.adam, result, seeds=2).result.seeds == ["1000000", "1000001"]
