"""`SweepResult`, from plain arrays: ranking, optimum, table, pictures, files."""

import dataclasses
import json
import os
import pickle
import re
from typing import NamedTuple

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax
from lrax.sweeps.best import Best
from lrax.sweeps.direction import mode_of
from lrax.sweeps.optimum import optimum
from lrax.sweeps.result import SweepResult
from lrax.sweeps.status import statuses

RATES = lrax.log_grid(1e-3, 1e-1, 5)


def made(final, first=2.0, metrics=None, params=None, losses=None, **fields):
    """A result whose curves fall from `first` to `final [points, seeds]`."""
    final = np.asarray(final, np.float32)
    points, seeds = final.shape
    if losses is None:
        losses = np.linspace(np.full_like(final, first), final, 40, axis=-1)
        losses[..., -4:] = final[..., None]
    objective = fields.get("objective", "train_loss")
    stopped_at = fields.get("stopped_at", np.full(points, losses.shape[-1]))
    finite = np.ones(final.shape, bool)
    status, causes = statuses(losses, finite, stopped_at, whole=True, objective=objective)
    defaults = dict(
        hyperparams={"lr": lrax.log_grid(1e-3, 1e-1, points)},
        seeds=[str(seed) for seed in range(seeds)],
        losses=losses,
        steps=losses.shape[-1],
        metrics={name: np.asarray(values, np.float32) for name, values in (metrics or {}).items()},
        status=status,
        causes=causes,
        stopped_at=stopped_at,
        objective=objective,
        mode="min",
        info={"device": "cpu (cpu)", "steps": 40, "versions": {"jax": "0"}},
        best_params=params,
    )
    return SweepResult(**{**defaults, **fields})


def function_result(**fields):
    """A result of `sweep_function`: returns that rise, best at the middle rate."""
    time = np.arange(60)
    heights = np.array([50.0, 190.0, 30.0])[:, None, None] + np.array([0.0, 2.0])[:, None]
    returns = (heights * (1 - np.exp(-time / 15)) + 20).astype(np.float32)
    defaults = dict(
        hyperparams={"lr": np.array([1e-3, 1e-2, 1e-1])},
        seeds=["0", "1"],
        losses=None,
        steps=1,
        curves={"loss": -returns[..., ::2] / 10, "return": returns},
        metrics={"final_return": returns[..., -6:].mean(axis=-1)},
        status=np.full((3, 2), "done"),
        causes=np.full((3, 2), ""),
        stopped_at=np.ones(3, int),
        objective="final_return",
        mode="max",
        info={"steps": 1},
    )
    return SweepResult(**{**defaults, **fields})


SHAPES = [lrax.warmup_cosine(3e-3, 60, 6), lrax.wsd(3e-3, 60, 6, 12), lrax.constant(1e-3)]


def with_choices(**fields):
    """Three schedules times two rates of the embedding; the best are the second and 1.0."""
    final = np.array([[0.5], [0.4], [0.3], [0.2], [0.9], [0.8]]) + np.array([0.0, 0.01])
    defaults = dict(
        hyperparams={
            "schedule": np.repeat([0.0, 1.0, 2.0], 2),
            "embedding": np.tile([0.3, 1.0], 3),
        },
        choices={"schedule": SHAPES},
        labels={"schedule": ["cosine", "wsd", "constant"]},
    )
    return made(final, **{**defaults, **fields})


def test_ranking_averages_seeds_and_puts_diverged_last():
    result = made([[1.0, 1.0], [0.1, 1.2], [0.8, 0.9], [np.nan, 0.0], [np.nan, np.nan]])
    assert result.ranking.tolist() == [1, 2, 0, 3, 4]
    assert result.best_lane == (1, 0)
    assert result.best.hyperparams == {"lr": pytest.approx(RATES[1])}
    assert np.all(np.isinf(result.scores[3:].max(axis=1)))
    assert result.status[3].tolist() == ["diverged", "done"]


def test_an_objective_to_maximise():
    accuracy = [[0.5, 0.5], [0.9, 0.7], [0.6, 0.6], [np.nan, 1.0], [0.1, 0.1]]
    result = made(np.ones((5, 2)), metrics={"acc": accuracy}, objective="acc", mode="max")
    assert result.ranking.tolist()[:4] == [1, 2, 0, 4]
    assert result.best_lane == (1, 0)


def test_another_objective_ranks_the_same_lanes():
    metrics = {"acc": [[0.5, 0.5], [0.9, 0.7], [0.6, 0.6]], "speed": [[3, 3], [1, 1], [2, 2]]}
    result = made([[0.1, 0.2], [0.5, 0.5], [0.3, 0.3]], metrics=metrics, params={"w": 7.0})
    by_accuracy = result.rank_by("acc")
    assert (by_accuracy.objective, by_accuracy.mode) == ("acc", "max")
    assert by_accuracy.ranking.tolist() == [1, 2, 0]
    assert by_accuracy.best.params is None  # those of another lane were kept
    assert by_accuracy.losses is result.losses
    assert (result.objective, result.best.params) == ("train_loss", {"w": 7.0})
    slowest = result.rank_by("speed", mode="max")
    assert slowest.best_lane == (0, 0)
    assert slowest.best.params == {"w": 7.0}
    assert slowest.rank_by("speed").mode == "max"
    for arguments, message in [
        (("nothing",), "`objective` must be one of 'train_loss', 'acc', 'speed', got 'nothing'"),
        (("speed",), "`mode` must be 'min' or 'max' for the `objective` 'speed'"),
        (("acc", "first"), "`select` must be one of 'last', 'best', 'tail', got 'first'"),
    ]:
        with pytest.raises(ValueError, match=message):
            result.rank_by(arguments[0], select=arguments[1] if len(arguments) > 1 else None)


def test_another_evaluation_ranks():
    curves = np.array([[[0.1, 0.9, 0.2]], [[0.3, 0.5, 0.4]]])
    facts = dict(evaluations={"acc": curves}, evaluated_at=np.array([10, 20, 40]))
    result = made(np.ones((2, 1)), metrics={"acc": curves[..., -1]}, **facts)
    assert result.rank_by("acc").ranking.tolist() == [1, 0]
    assert result.rank_by("acc", select="best").ranking.tolist() == [0, 1]


EXPLODED = np.stack([np.geomspace(2.0, 1e9 * (i + 1), 40) for i in range(3)])[:, None]
NOTHING = {
    "all exploded": (made(EXPLODED[..., -1], losses=EXPLODED), "every point diverged.*lower rates"),
    "nan at last": (made(np.full((3, 1), np.nan)), "no rate can help; check the data"),
    "a nan metric": (
        made(np.ones((3, 2)), metrics={"acc": np.full((3, 2), np.nan)}, objective="acc"),
        "'acc' is not a finite number at any point.*although 6 lanes finished",
    ),
    "one seed of each point": (
        made(np.ones((2, 2)), metrics={"acc": [[np.nan, 1], [1, np.nan]]}, objective="acc"),
        "'acc' is not a finite number",
    ),
    "all pruned": (
        made(np.ones((2, 1)), status=np.full((2, 1), "pruned")),
        "no point was trained to the end: the lanes are pruned",
    ),
    "a function's": (
        function_result(status=np.full((3, 2), "diverged"), causes=np.full((3, 2), "bad")),
        "every point has an output that is not finite",
    ),
}


@pytest.mark.parametrize(("result", "reason"), NOTHING.values(), ids=NOTHING)
def test_where_nothing_finished_every_view_says_why(result, reason):
    assert re.search(f"no best: .*{reason}", repr(result))
    assert "*" not in result.table()
    questions = [lambda: result.best, result.optimum, result.sensitivity, result.paired]
    for ask in [*questions, result.one_standard_error, result.zoom]:
        with pytest.raises(ValueError, match=f"there is no best point: .*{reason}"):
            ask()
    for plot in (result.plot, result.plot_curves, result.plot_parallel):
        texts = plot().findobj(lambda artist: hasattr(artist, "get_text"))
        words = " ".join(" ".join(text.get_text() for text in texts).split())
        assert re.search(reason, words)
    assert not any(word in repr(result) for word in ("best lr", "nan"))


def test_a_loss_that_is_nan_before_the_first_update_is_not_blamed_on_the_rate():
    losses = np.full((2, 2, 30), np.nan, np.float32)
    result = made(np.ones((2, 2)), losses=losses)
    assert set(result.causes.ravel()) == {"loss is NaN from update 0"}
    assert "lower rates" not in result.why_no_best
    losses[..., 0] = 2.0
    result = made(np.ones((2, 2)), losses=losses)
    assert set(result.causes.ravel()) == {"loss is NaN from update 1"}
    assert "lower rates" in result.why_no_best


def judged(losses, finite=None, **options):
    """Status and causes of lanes `[points, steps]` with one seed, or `[points, seeds, steps]`."""
    losses = np.asarray(losses, np.float32)
    losses = losses if losses.ndim == 3 else losses[:, None]
    finite = np.ones(losses.shape[:2], bool) if finite is None else np.array(finite)[:, None]
    stopped = options.pop("stopped_at", np.full(len(losses), losses.shape[-1]))
    status, causes = statuses(losses, finite, stopped, whole=True, **options)
    assert np.all((status == "diverged") == (causes != ""))
    return (status[:, 0], causes[:, 0]) if losses.shape[1] == 1 else (status, causes)


STEPS = np.arange(100)


def test_statuses():
    falls, spike, grows = np.exp(-STEPS / 20), np.ones(100), np.ones(100)
    spike[30:50] = 50.0
    recovers = np.where(STEPS < 60, spike, 0.5)
    grows[20:] = 6.0
    # Single batches of four times the loss do not make a divergence.
    noisy = np.where(STEPS % 20 == 0, 8.0, 0.95)
    noisy[0] = 1.0
    infinite = np.where(STEPS < 99, falls, np.inf)
    lanes = [falls, spike, recovers, grows, noisy, falls, -grows, infinite]
    finite = [True] * 5 + [False] + [True] * 2
    expected = ["done", "diverged", "done", "diverged", "done", "diverged", "done", "diverged"]
    status, causes = judged(lanes, finite)
    assert status.tolist() == expected
    assert causes[[1, 3, 5, 7]].tolist() == [
        "loss rose to 50x its start",
        "loss rose to 6x its start",
        "parameters are not finite",
        "loss is infinite from update 99",
    ]
    part, _ = statuses(
        np.stack(lanes)[:, None], np.array(finite)[:, None], np.full(8, 100), whole=False
    )
    assert part[:, 0].tolist() == [word.replace("done", "interrupted") for word in expected]
    assert judged([[2.0, 1e38, np.inf, 3.0]])[0].tolist() == ["diverged"]
    stopped = np.array(lanes[:4])
    stopped[:, 60:] = np.nan  # as it is after a point was stopped
    status, _ = judged(stopped, stopped_at=np.array([60, 60, 60, 100]))
    assert status.tolist() == ["pruned", "diverged", "diverged", "diverged"]


CALM = np.stack([0.3 + 0.7 * np.exp(-STEPS / decay) for decay in (1000, 100, 20)])
RISEN = np.where(STEPS < 10, 1.0, 6.0)


@pytest.mark.parametrize("first", [0.0, 1e-6, 1e-3, 0.1, 1.0, 20.0])
def test_one_batch_makes_no_divergence(first):
    losses = np.concatenate([CALM, [RISEN]])
    losses[:, 0] = first
    status, _ = judged(losses)
    assert status.tolist()[:3] == ["done"] * 3
    if first <= 1:
        assert status[3] == "diverged"


def test_the_starts_of_all_seeds_are_pooled():
    losses = np.stack([np.concatenate([CALM, [RISEN]])] * 3, axis=1)
    losses[:, 0, 0] = 0.0  # the first batch of one seed
    status, causes = judged(losses)
    assert status.tolist() == [["done"] * 3] * 3 + [["diverged"] * 3]
    assert causes[3].tolist()[1:] == ["loss rose to 6x its start"] * 2
    assert causes[3, 0] == "loss rose by 6x its usual size"  # of zero there are no multiples


def test_negative_losses():
    time = np.arange(200)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 200)
    falls = -0.01 - time / 10 + noise
    flat = -0.01 + noise
    rises = -0.01 + time / 5 + noise
    status, causes = judged([falls, flat, rises])
    assert status.tolist() == ["done", "done", "diverged"]
    assert causes[2].startswith("loss rose by ")
    assert judged([-5 - time / 50, -5 + 0 * time])[0].tolist() == ["done", "done"]
    assert judged([-5 + time / 20, -5 + 0 * time])[0].tolist() == ["done", "done"]
    assert judged([-5 + time / 5, -5 + 0 * time])[0].tolist() == ["diverged", "done"]


def test_where_every_lane_explodes_every_lane_has_diverged():
    assert judged([[2.0, 1e6, 1e12, 1e18]])[0].tolist() == ["diverged"]
    saturated = np.where(STEPS == 0, 2.3, [[1e3], [1e4], [3e4]])
    lanes = np.concatenate([saturated, CALM[:1] * 2.3])
    assert judged(lanes)[0].tolist() == ["diverged"] * 3 + ["done"]


def test_under_another_objective_only_lanes_that_are_not_finite_have_diverged():
    lanes = [RISEN, 1e6 * RISEN, np.where(STEPS < 50, 1.0, np.nan)]
    status, causes = judged(lanes, objective="final_return")
    assert status.tolist() == ["done", "done", "diverged"]
    assert causes[2] == "loss is NaN from update 50"


def test_what_diverged_means_may_be_said():
    lanes = np.concatenate([CALM, [RISEN], [np.where(STEPS < 50, 1.0, np.nan)]])
    word = lambda **options: (judged(lanes, **options)[0] == "diverged").tolist()
    assert word() == word(diverged=4) == word(diverged="auto") == [False] * 3 + [True] * 2
    assert word(diverged=10) == word(diverged=None) == [False] * 4 + [True]
    assert word(diverged=3.0, objective="acc") == [False] * 3 + [True] * 2
    ends_high = lambda losses: losses[..., -1] > 0.5
    assert word(diverged=ends_high) == [True, True, False, True, True]
    _, causes = judged(lanes, diverged=ends_high)
    assert causes.tolist() == [
        *["by the function `diverged`"] * 2,
        "",
        "by the function `diverged`",
        "loss is NaN from update 50",
    ]
    for bad, error in (
        (1.0, ValueError),
        (np.nan, ValueError),
        (0, ValueError),
        ("no", ValueError),
    ):
        with pytest.raises(error, match="`diverged` must be"):
            judged(lanes, diverged=bad)
    for bad in (True, [4.0]):
        with pytest.raises(TypeError, match="`diverged` must be a factor"):
            judged(lanes, diverged=bad)
    for mask in (np.ones(5, bool), np.ones((5, 1))):
        with pytest.raises(ValueError, match=r"`diverged` must return a mask of shape \(5, 1\)"):
            judged(lanes, diverged=lambda losses, mask=mask: mask)


def test_thinned_losses_are_judged_by_the_updates_they_are_of():
    losses = np.concatenate([CALM, [np.where(STEPS < 50, 1.0, np.nan)]])[:, ::10]
    stopped_at = np.array([100, 100, 35, 100])
    status, causes = judged(losses, stopped_at=stopped_at, loss_every=10, done=100)
    assert status.tolist() == ["done", "done", "pruned", "diverged"]
    assert causes[3] == "loss is NaN from update 50"


def test_statuses_of_a_function():
    finite = np.array([[True, True], [True, False], [False, False]])
    status, _ = statuses(None, finite, np.array([1, 1, 0]), whole=False, objective="return")
    assert status.tolist() == [["done"] * 2, ["done", "diverged"], ["interrupted"] * 2]
    status, causes = statuses(None, finite, np.array([1, 1, 1]), whole=True, objective="return")
    assert status[1].tolist() == ["done", "diverged"]
    assert causes[1].tolist() == ["", "an output is not finite"]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *[(name, "min") for name in ("train_loss", "val_loss", "val_bits_per_char", "perplexity")],
        *[(name, "min") for name in ("error_rate", "testNLL", "rmse", "log-mse", "Error")],
        *[(name, "max") for name in ("val_accuracy", "final_return", "val_r2", "top5_acc")],
        *[(name, "max") for name in ("valAccuracy", "roc_auc", "macro/f1", "score", "mean.reward")],
    ],
)
def test_the_direction_is_in_the_name(name, mode):
    assert mode_of(name) == mode_of(name, None) == mode
    assert mode_of(name, "min") == "min"
    assert mode_of(name, "max") == "max"


@pytest.mark.parametrize(
    "name", ["reward_loss", "glossy", "returns_", "speed", "neg_mse", "accuracy_error", "", "x"]
)
def test_a_direction_is_not_guessed(name):
    with pytest.raises(ValueError, match=r"`mode` must be 'min' or 'max' .*; pass `mode=`"):
        mode_of(name)
    with pytest.raises(ValueError, match="`mode` must be one of 'min', 'max' or None, got 'up'"):
        mode_of(name, "up")


def test_huge_and_infinite_numbers_are_no_trouble():
    top = float(np.finfo(np.float32).max)
    result = made([[top, top], [1.0, 1.0], [0.5, top], [-top, top]], metrics={"m": np.ones((4, 2))})
    assert result.ranking[0] in (1, 3)
    for view in (result.table, result.plot, result.plot_curves, result.plot_parallel):
        assert view() is not None
    accuracy = [[np.inf, np.inf], [0.5, 0.5], [0.9, 0.8], [-np.inf, 1.0]]
    result = made(np.ones((4, 2)), metrics={"accuracy": accuracy}, objective="accuracy", mode="max")
    assert result.ranking[:2].tolist() == [2, 1]
    assert result.best.hyperparams == {"lr": pytest.approx(10 ** (-5 / 3))}
    assert result.plot() is not None


def test_pruned_points_rank_between_the_others_and_the_diverged():
    result = made([[1.0], [2.0], [0.1], [0.2], [np.nan]])
    status = np.array([["done"], ["done"], ["pruned"], ["pruned"], ["diverged"]])
    losses = result.losses.copy()
    for point, at in ((2, 10), (3, 20)):
        losses[point, :, at:] = np.nan
    result = made(
        result.final_losses, losses=losses, status=status, stopped_at=np.array([40, 40, 10, 20, 40])
    )
    assert result.ranking.tolist() == [0, 1, 3, 2, 4]
    assert np.isinf(result.scores[2:]).all()
    assert np.isfinite(
        result.final_losses[2:4]
    ).all()  # over the last tenth of the steps that they had
    assert "2 pruned" in repr(result)


def test_optimum_is_the_vertex_of_a_parabola():
    rates = lrax.log_grid(1e-4, 1e-1, 7)
    true = 2e-3
    scores = (np.log(rates / true) ** 2)[:, None] + np.array([0.0, 0.3])
    found = optimum(rates, scores)
    assert found.rate == pytest.approx(true)
    low, high = found.interval
    assert low < true < high
    assert low >= rates[2]  # half way to the neighbours of 3e-3, whose grid point is the best
    assert found.at_edge is None
    shuffled = np.random.default_rng(0).permutation(7)
    assert optimum(rates[shuffled], scores[shuffled]) == found


def test_optimum_widens_with_the_noise_of_the_seeds():
    rates = lrax.log_grid(1e-4, 1e-1, 13)
    centers = np.array([5e-4, 2e-3, 8e-3])
    scores = np.log(rates[:, None] / centers) ** 2
    low, high = optimum(rates, scores).interval
    assert low < 1e-3
    assert high > 4e-3
    assert optimum(rates, scores[:, 1:2]).interval[1] < high


def test_optimum_at_the_edges_and_beside_a_cliff():
    rates = lrax.log_grid(1e-4, 1e-1, 7)
    rising = np.log(rates)[:, None]
    assert optimum(rates, rising).at_edge == "low"
    high = optimum(rates, -rising)
    assert (high.value, high.at_edge) == (pytest.approx(rates[-1]), "high")
    cliff = -rising.copy()
    cliff[4:] = np.inf  # falls until it diverges: nothing to fit on the right
    found = optimum(rates, cliff)
    assert found.rate == pytest.approx(rates[3])
    assert found.at_edge is None
    with pytest.raises(ValueError, match="every rate diverged"):
        optimum(rates, np.full((7, 2), np.inf))
    with pytest.raises(ValueError, match="`rates` must be positive"):
        optimum(np.array([0.0, 1.0]), np.ones((2, 1)))


def test_optimum_along_one_name_of_a_product():
    decay = np.tile([0.0, 0.1], 5)
    lr = np.repeat(RATES, 2)
    final = (np.log(lr / 4e-2) ** 2 + np.where(decay > 0, 0.0, 5.0))[:, None] / 10
    result = made(final, hyperparams={"lr": lr, "decay": decay})
    assert result.optimum("lr").rate == pytest.approx(4e-2)
    with pytest.raises(ValueError, match="`name` must be one of 'lr', 'decay', got 'rate'"):
        result.optimum("rate")


def test_table_marks_the_best():
    result = made(
        [[1.0, 1.2], [0.1, 0.3], [np.nan, 0.5]], metrics={"val": [[1, 1], [2, 2], [np.nan, 3]]}
    )
    header, *rows = result.table().splitlines()
    assert header.split() == ["lr", "train", "loss", "val", "status"]
    assert [row.startswith("*") for row in rows] == [False, True, False]
    assert rows[1].split() == ["*", "0.01", "0.2", "±0.1", "2", "±0", "done"]
    assert rows[2].endswith("1 diverged, 1 done: loss is NaN from update 0")


def test_the_table_says_when_a_point_was_pruned():
    status = np.array([["done", "done"], ["pruned", "pruned"], ["diverged", "pruned"]])
    result = made(
        [[0.1, 0.2], [1.0, 1.2], [3.0, 1.0]],
        metrics={"val": [[1, 1], [2, 2], [3, 3]]},
        status=status,
        causes=np.where(status == "diverged", "loss is infinite from update 3", ""),
        stopped_at=np.array([40, 20, 10]),
    )
    _, *rows = result.table().splitlines()
    assert rows[1].split()[-5:] == ["2", "±0", "pruned", "at", "20"]
    assert rows[2].endswith("1 diverged, 1 pruned at 10: loss is infinite from update 3")
    assert "pruned at 20" in result._repr_html_()


def test_to_pandas():
    frame = made([[1.0, 1.2], [0.1, 0.3]], metrics={"val": [[1, 2], [3, 4]]}).to_pandas()
    assert list(frame.columns) == ["lr", "seed", "train_loss", "val", "status", "cause"]
    assert frame["val"].tolist() == [1, 2, 3, 4]
    assert frame["seed"].tolist() == ["0", "1", "0", "1"]
    best = frame.groupby("lr")["train_loss"].mean()
    assert best.idxmin() == pytest.approx(0.1)


def test_a_result_of_a_function_has_curves_in_place_of_losses():
    result = function_result()
    assert repr(result) == "SweepResult(3 points x 2 seeds; best lr=0.01)"
    with pytest.raises(ValueError, match=r"no `\.losses`.*`\.curves`.*'loss', 'return'"):
        _ = result.losses
    assert result.best.hyperparams == {"lr": 0.01}
    assert result.optimum().point == pytest.approx(0.01)
    assert result.table().splitlines()[0].split() == ["lr", "final_return", "status"]
    assert result.table().splitlines()[2].startswith("*")
    assert result.series().name == "return"
    frame = result.to_pandas("loss")
    assert frame.shape == (3 * 2 * 30, 4)
    np.testing.assert_array_equal(frame["loss"], result.curves["loss"].ravel())
    # The entries of a function's curve need not be updates; pictures call the axis the same.
    assert frame["time"].tolist() == list(range(30)) * 6
    assert result.plot_curves("loss").axes[0].get_xlabel() == "time"
    dataset = result.to_xarray()
    assert dataset["curves/return"].sel(lr=0.01, seed="1").shape == (60,)
    assert dataset["curves/loss"].sel(lr=0.01, seed="1").shape == (30,)
    with pytest.raises(ValueError, match="`initial` must be given for the objective"):
        result.sensitivity()
    assert result.sensitivity(initial=20.0) > 0
    again = pickle.loads(pickle.dumps(result))
    assert repr(again) == repr(result)
    whole = function_result(objective="return", select="tail")
    assert whole.ranking.tolist() == result.ranking.tolist()
    np.testing.assert_allclose(whole.values, result.metrics["final_return"], rtol=1e-6)


EVALUATIONS = np.array(
    [[[3.0, 0.1, 2.0, 0.9]], [[3.0, 1.0, 0.5, 0.5]], [[3.0, 2.0, 1.0, 0.4]]], np.float32
)


@pytest.mark.parametrize(
    ("select", "best", "values"),
    [("last", 2, [0.9, 0.5, 0.4]), ("best", 0, [0.1, 0.5, 0.4]), ("tail", 2, [0.9, 0.5, 0.4])],
)
@pytest.mark.parametrize("with_last", [True, False])
def test_which_evaluation_ranks(select, best, values, with_last):
    at = np.array([10, 20, 30, 40])
    kept = slice(None) if with_last else slice(-1)
    fields = dict(evaluations={"error": EVALUATIONS[..., kept]}, evaluated_at=at[kept])
    metrics = {"error": EVALUATIONS[..., -1]}
    result = made(np.ones((3, 1)), metrics=metrics, objective="error", select=select, **fields)
    np.testing.assert_allclose(result.values[:, 0], values)
    assert result.ranking[0] == best
    assert result.table().splitlines()[1 + best].startswith("*")
    head = result.table().splitlines()[0]
    assert (f"{select} error" in head) == (select != "last")
    high = made(
        np.ones((3, 1)),
        metrics={"accuracy": EVALUATIONS[..., -1]},
        objective="accuracy",
        mode="max",
        select=select,
        evaluations={"accuracy": EVALUATIONS[..., kept]},
        evaluated_at=at[kept],
    )
    expected = {"last": [0.9, 0.5, 0.4], "best": [3, 3, 3], "tail": [0.9, 0.5, 0.4]}[select]
    np.testing.assert_allclose(high.values[:, 0], expected)


def test_the_tail_is_the_last_tenth_of_the_evaluations_a_point_had():
    values = np.tile(np.arange(40.0), (2, 1, 1))
    values[1, :, 30:] = np.nan
    result = made(
        np.ones((2, 1)),
        metrics={"error": np.array([[39.0], [29.0]])},
        objective="error",
        select="tail",
        evaluations={"error": values},
        evaluated_at=np.arange(1, 41),
        stopped_at=np.array([40, 30]),
    )
    np.testing.assert_allclose(result.values[:, 0], [37.5, 28.0])
    assert result.status[:, 0].tolist() == ["done", "pruned"]


def test_the_training_loss_is_always_the_mean_of_its_last_tenth():
    losses = np.ones((2, 1, 40)) * np.array([0.5, 0.6])[:, None, None]
    losses[0, :, -4:] = 0.7
    for select in ("last", "best", "tail"):
        assert made([[0.7], [0.6]], losses=losses, select=select).ranking.tolist() == [1, 0]


def test_thinned_losses():
    losses = np.linspace([[2.0], [2.0]], [[1.0], [0.5]], 20, axis=-1)
    stopped = np.array([35, 200])
    losses[0, :, 4:] = np.nan
    result = made([[1.0], [0.5]], losses=losses, loss_every=10, steps=200, stopped_at=stopped)
    np.testing.assert_allclose(
        result.final_losses[:, 0], [losses[0, 0, 3], losses[1, 0, -2:].mean()]
    )
    assert result.series().at.tolist() == list(range(0, 200, 10))
    assert "200 steps" in repr(result)
    assert result.to_pandas("train_loss")["step"].max() == 190


def test_choices_are_shown_by_their_labels_and_given_as_they_are():
    result = with_choices()
    assert result.best.hyperparams == {"schedule": SHAPES[1], "embedding": 1.0}
    assert repr(result).endswith("best schedule=wsd, embedding=1)")
    rows = [row.split() for row in result.table().splitlines()]
    assert [row[-5] for row in rows[1:]] == ["cosine"] * 2 + ["wsd"] * 2 + ["constant"] * 2
    frame = result.to_pandas()
    assert frame["schedule"].tolist() == ["cosine"] * 4 + ["wsd"] * 4 + ["constant"] * 4
    dataset = result.to_xarray()
    assert dataset.schedule.values.tolist() == ["cosine", "wsd", "constant"]
    found = dataset.train_loss.sel(schedule="wsd", embedding=1.0).values
    np.testing.assert_allclose(found, result.final_losses[3])
    assert result.optimum().value == 1.0  # of the first numeric name, with the best schedule
    for ask in (result.optimum, result.one_standard_error, result.sensitivity):
        with pytest.raises(ValueError, match="`name` must be a numeric hyperparameter, got 'sch"):
            ask("schedule")
    grid = result.extend(1)
    assert grid["schedule"] == SHAPES
    np.testing.assert_allclose(grid["embedding"], [1 / 0.3])


def test_choices_merge_by_their_labels():
    result = with_choices()
    other = with_choices(
        hyperparams={
            "schedule": np.repeat([0.0, 1.0], 3),
            "embedding": np.tile([0.3, 1.0, 3.0], 2),
        },
        choices={"schedule": [SHAPES[2], lrax.linear(0.1, 0.0, 60)]},
        labels={"schedule": ["constant", "linear"]},
    )
    both = result | other
    assert len(both.status) == 6 + 4  # two of the others are the constant's again
    assert both.labels["schedule"] == ["cosine", "wsd", "constant", "linear"]
    points = [
        (both.shown("schedule", point), both.shown("embedding", point)) for point in range(6, 10)
    ]
    assert points == [("constant", "3"), ("linear", "0.3"), ("linear", "1"), ("linear", "3")]
    assert both.value("schedule", 7) == other.choices["schedule"][1]
    with pytest.raises(ValueError, match="must have the same axes of choices"):
        result.merge(made(np.ones((6, 2)), hyperparams=result.hyperparams))


def test_first_losses_tell_other_tasks_apart_where_all_points_start_alike():
    common = dict(info={"rng": "common"})
    result = made([[1.0, 1.1], [0.2, 0.3]], **common)
    others = dict(hyperparams={"lr": np.array([0.3, 1.0])}, **common)
    assert len((result | made([[0.4, 0.5], [0.6, 0.7]], **others)).status) == 4
    with pytest.raises(ValueError, match="must be of the same task: with common random numbers"):
        result.merge(made([[0.4, 0.5], [0.6, 0.7]], first=3.0, **others))
    # The task's own hyperparameters change where its losses begin.
    smoothed = np.array([[2.5, 2.5], [4.0, 4.0]])
    assert len((result | made([[0.4, 0.5], [0.6, 0.7]], first=smoothed, **others)).status) == 4


def test_best_prints_in_a_line_or_two():
    params = {"w": np.zeros((1000, 1000), np.float32), "b": np.zeros(1000, np.float32)}
    state = {"mean": np.zeros(1000)}
    best = with_choices(best_params=params, best_state=state, best_opt_state=(params, 3)).best
    assert len(repr(best)) < 400
    assert "params: 2 arrays of 1,001,000 numbers, state, opt_state" in repr(best)
    assert "embedding=1;" in repr(best)
    many = {f"hyperparameter_{i}": lrax.join([lrax.constant(0.1)] * 9, range(8)) for i in range(40)}
    assert len(repr(Best(many))) < 400
    with pytest.raises(dataclasses.FrozenInstanceError):
        best.params = None


def test_the_optimum_says_what_it_is():
    result = made([[1.0, 1.1], [0.2, 0.3], [0.1, 0.15], [0.6, 0.5], [2.0, 2.0]])
    found = result.optimum()
    assert found.rate == found.value != found.point
    assert found.point == pytest.approx(result.best.hyperparams["lr"])
    text = f"interpolated, the best point of the grid is {found.point:.3g}"
    assert text in str(found)
    assert "two seeds: a third one" in str(found)
    one = made([[1.0], [0.2], [0.1], [0.6], [2.0]]).optimum()
    assert "one seed: the interval does not include how seeds differ" in str(one)
    assert "(" not in str(made(np.array([[1.0], [0.2], [0.1], [0.6], [2]]) + np.zeros(3)).optimum())


def test_a_series_of_every_kind():
    result = made(
        [[1.0], [0.1]],
        aux={"norm": np.ones((2, 1, 40))},
        monitors={"grad_norm": np.full((2, 1, 4), 2.0)},
        record_every=10,
        evaluations={"error": np.full((2, 1, 2), 3.0)},
        metrics={"error": [[3.0], [3.0]]},
        evaluated_at=np.array([20, 40]),
    )
    assert result.series("norm").at.tolist() == list(range(40))
    assert result.series("grad_norm").at.tolist() == [0, 10, 20, 30]
    assert result.series("error").at.tolist() == [20, 40]
    assert result.to_pandas("grad_norm")["step"].tolist() == [0, 10, 20, 30] * 2
    assert set(result.to_xarray().data_vars) >= {"aux/norm", "monitors/grad_norm", "losses"}
    with pytest.raises(ValueError, match=r"`curve` must be one of \['train_loss', 'grad_norm'"):
        result.to_pandas("loss")


def test_the_name_of_a_monitor_stands_for_all_entries_of_its_dict():
    monitors = {f"cosine/{part}": np.full((2, 1, 4), i) for i, part in enumerate("abcd")}
    monitors["cosine_of_all"] = np.ones((2, 1, 4))
    result = made([[1.0], [0.1]], monitors=monitors, record_every=10)
    frame = result.to_pandas("cosine")
    assert list(frame.columns) == ["lr", "seed", "step", *(f"cosine/{part}" for part in "abcd")]
    assert frame["step"].tolist() == [0, 10, 20, 30] * 2
    assert frame["cosine/c"].unique().tolist() == [2]
    assert result.to_pandas("cosine/b")["cosine/b"].tolist() == [1] * 8
    panels = result.plot_curves("cosine").axes[:4]
    assert [axes.get_ylabel() for axes in panels] == [f"cosine/{part}" for part in "abcd"]
    assert [set(axes.lines[0].get_ydata()) for axes in panels] == [{0}, {1}, {2}, {3}]
    for name in ("cosine/", "cos", "cosine/e"):
        for view in (result.to_pandas, result.plot_curves):
            with pytest.raises(ValueError, match="`curve` must be one of"):
                view(name)


class Pair(NamedTuple):
    first: object
    second: object


PARAMS = {
    "layers": [{"w": np.ones((2, 3), np.float32)}, {"w": np.zeros(3, jnp.bfloat16)}],
    "pair": Pair(np.arange(3), (np.float32(1.5), None)),
    "by_number": {3: np.array(True)},
    "empty": {},
}


def test_save_and_load(tmp_path):
    result = made(
        [[1.0, 1.2], [0.1, np.nan]],
        metrics={"z": np.ones((2, 2)), "a": np.zeros((2, 2))},
        params=PARAMS,
    )
    result = dataclasses.replace(
        result,
        aux={"norm": result.losses},
        monitors={"update_ratio/group": np.ones((2, 2, 4))},
        record_every=10,
        evaluations={"z": np.ones((2, 2, 1))},
        evaluated_at=np.array([40]),
        select="best",
        best_state={"mean": np.arange(3.0)},
        best_opt_state=(np.arange(2), {}),
    )
    result.save(tmp_path / "result")
    assert os.listdir(tmp_path) == ["result.npz"]
    loaded = SweepResult.load(tmp_path / "result.npz")
    for field in dataclasses.fields(SweepResult):
        if field.name != "best_params":
            a, b = getattr(loaded, field.name), getattr(result, field.name)
            assert jax.tree.structure(a) == jax.tree.structure(b)
            jax.tree.map(np.testing.assert_array_equal, a, b)
    assert list(loaded.metrics) == ["z", "a"]
    assert loaded.table() == result.table()

    params = loaded.best.params
    assert params["layers"][1]["w"].dtype == jnp.bfloat16
    assert params["pair"]["second"][1] is None
    assert params["empty"] == {}
    assert params["by_number"][3] == np.array(True)
    whole = SweepResult.load(tmp_path / "result.npz", like=PARAMS).best.params
    assert jax.tree.structure(whole) == jax.tree.structure(PARAMS)
    jax.tree.map(np.testing.assert_array_equal, whole, PARAMS)
    with pytest.raises(ValueError, match=r"`like` must have the 5 leaves .* got 1 leaves"):
        SweepResult.load(tmp_path / "result.npz", like=np.ones(3))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Statistics:
    mean: object
    count: object


@pytest.mark.parametrize("params", [PARAMS, Pair(np.ones(2), np.zeros(3)), (np.ones(2), {})])
@pytest.mark.parametrize("state", [Statistics(np.arange(3.0), np.array(4)), None])
def test_like_restores_parameters_and_state(tmp_path, params, state):
    path = tmp_path / "r.npz"
    made([[1.0], [0.1]], params=params, best_state=state).save(path)
    same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
    # Parameters alone, as for a task without a state.
    best = SweepResult.load(path, like=params).best
    same(best.params, params)
    if state is None:
        assert best.state is None
        with pytest.raises(ValueError, match="`like` must have the"):
            SweepResult.load(path, like=(params, Statistics(0, 0)))
        return
    assert not isinstance(best.state, Statistics)
    best = SweepResult.load(path, like=(params, state)).best
    same(best.params, params)
    same(best.state, state)
    with pytest.raises(ValueError, match=r"\(params, state\) of . and 2 leaves, got"):
        SweepResult.load(path, like=(params, Statistics(0, None)))


def test_choices_and_curves_survive_the_file(tmp_path):
    result = with_choices()
    result.save(tmp_path / "r.npz")
    loaded = SweepResult.load(tmp_path / "r.npz")
    assert loaded.table() == result.table()
    assert repr(loaded.choices) == repr(result.choices)
    for again, schedule in zip(loaded.choices["schedule"], SHAPES, strict=True):
        np.testing.assert_array_equal(again.values(60), schedule.values(60))
    assert loaded.best.hyperparams["schedule"] is loaded.choices["schedule"][1]
    own = lambda count: 0.1
    for choices in ([own] * 3, [*SHAPES[:2], own], [*SHAPES[:2], SHAPES[2] * own]):
        with_choices(choices={"schedule": choices}).save(tmp_path / "f.npz")
        loaded = SweepResult.load(tmp_path / "f.npz")
        assert loaded.best.hyperparams == {"schedule": "wsd", "embedding": 1.0}
        with pytest.raises(ValueError, match="holds labels in place of the choices of 'schedule'"):
            loaded.extend()
    function_result().save(tmp_path / "c.npz")
    loaded = SweepResult.load(tmp_path / "c.npz")
    assert not loaded.has_losses
    assert loaded.table() == function_result().table()
    np.testing.assert_array_equal(loaded.curves["return"], function_result().curves["return"])


def test_a_builder_that_this_version_lacks_leaves_the_labels(tmp_path, monkeypatch):
    result = with_choices()
    result.save(tmp_path / "r.npz")

    def refuses(described):
        raise ValueError(f"no builder {described['schedule']!r}")

    monkeypatch.setattr(lrax.Schedule, "from_dict", refuses)
    loaded = SweepResult.load(tmp_path / "r.npz")
    assert loaded.choices == {}
    assert loaded.best.hyperparams == {"schedule": "wsd", "embedding": 1.0}
    assert loaded.table() == result.table()


def test_a_real_result_survives_the_file(tmp_path):
    result = lrax.sweep(
        problems.regression(), optax.adam, [1e-2, 1e-1], steps=5, seeds=2, objective="val_loss"
    )
    result.save(tmp_path / "r.npz")
    loaded = SweepResult.load(tmp_path / "r.npz")
    np.testing.assert_array_equal(loaded.losses, result.losses)
    assert loaded.best.hyperparams == result.best.hyperparams
    assert float(problems.evaluate(loaded.best.params)["val_loss"]) == pytest.approx(
        loaded.scores.min()
    )


def scheduled(schedule, momentum):
    return optax.chain(optax.trace(momentum), lrax.scale_by_lr(schedule))


def test_a_real_sweep_of_schedules_from_end_to_end(tmp_path):
    """A tiny rate, a good one and one that explodes, each as a schedule."""
    task = problems.regression()
    shapes = [lrax.constant(1e-4), lrax.linear(0.2, 0.0, 20), lambda count: 1e6]
    grid = {"schedule": shapes, "momentum": [0.0, 0.5]}
    call = dict(steps=20, seeds=2, progress=False)
    result = lrax.sweep(
        task,
        scheduled,
        grid,
        monitors=[lrax.monitors.learning_rate],
        record_every=5,
        objective="val_loss",
        **call,
    )
    assert result.best.hyperparams["schedule"] is shapes[1]
    assert set(result.status[4:].ravel()) == {"diverged"}
    assert all(cause.startswith("loss is ") for cause in result.causes[4:].ravel())
    assert set(result.status[:4].ravel()) == {"done"}
    assert "linear" in repr(result)
    assert result.labels["schedule"][1] == "linear"
    optimizer = scheduled(**result.best.hyperparams)
    assert callable(optimizer.update)
    assert result.to_pandas("learning_rate")["step"].tolist()[:4] == [0, 5, 10, 15]
    result.save(tmp_path / "r")
    loaded = SweepResult.load(tmp_path / "r.npz")
    assert loaded.table() == result.table()
    np.testing.assert_array_equal(
        loaded.monitors["learning_rate"], result.monitors["learning_rate"]
    )
    confirmed = lrax.confirm(task, scheduled, result, seeds=2, top=2)
    assert [point["schedule"] for point in confirmed.hyperparams] == [shapes[1]] * 2
    assert str(confirmed).startswith("schedule=linear, momentum=")
    more = lrax.sweep(
        task,
        scheduled,
        {"schedule": [lrax.cosine(0.2, 20)], "momentum": [0.0, 0.5]},
        monitors=[lrax.monitors.learning_rate],
        record_every=5,
        objective="val_loss",
        **call,
    )
    both = result | more
    assert both.labels["schedule"][-1] == "cosine"
    assert both.value("schedule", 7) is more.choices["schedule"][0]


def test_a_function_that_returns_scalars_only():
    well = lambda hyperparams, key: {"error": (hyperparams["x"] - 2.0) ** 2}
    result = lrax.sweep_function(well, {"x": [1.0, 2.0, 4.0]}, objective="error", progress=False)
    assert result.best.hyperparams == {"x": 2.0}
    assert len(result.plot().axes) == 1
    assert "<img" in result._repr_html_()
    with pytest.raises(ValueError, match="the result has no curves"):
        result.plot_curves()


def test_files_are_read_without_pickle_and_without_lrax(tmp_path):
    made([[1.0], [0.1]]).save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz", allow_pickle=False) as file:
        assert file["array/losses"].shape == (2, 1, 40)
        assert json.loads(str(file["facts"]))["format"] == "lrax.SweepResult/3"


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "r.npz"
    made([[1.0], [0.1]]).save(path)
    whole = path.read_bytes()
    for broken in (b"", b"not a file", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(
            ValueError, match=r"`path` must be a whole file of a lrax\.SweepResult, got .*r.npz"
        ):
            SweepResult.load(path)
    np.savez(path, other=np.ones(3))
    with pytest.raises(ValueError, match="`path` must be a whole file"):
        SweepResult.load(path)
    with pytest.raises(FileNotFoundError):
        SweepResult.load(tmp_path / "missing.npz")
    evil = np.array([{"a": 1}], dtype=object)
    np.savez(path, **{"array/losses": evil}, facts=np.array("{}"))
    with pytest.raises(ValueError, match=r"`path` must (be a whole file|hold lrax\.SweepResult/3)"):
        SweepResult.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", np.zeros((2, 2))),
        ("causes", np.full((2, 1), "")),
        ("stopped_at", np.ones(3, int)),
        ("losses", np.ones((2, 40))),
        ("losses", np.ones((3, 2, 40))),
        ("hyperparams", {"lr": np.ones(3)}),
        ("hyperparams", {"lr": np.array(["a", "b"])}),
        ("metrics", {"m": np.ones(2)}),
        ("labels", {"lr": []}),
        ("labels", {"other": ["a"]}),
    ],
)
def test_a_file_whose_arrays_do_not_fit_is_refused(field, value, tmp_path):
    path = tmp_path / "r.npz"
    result = made([[1.0, 1.2], [0.1, 0.3]])
    object.__setattr__(result, field, value)
    result.save(path)
    with pytest.raises(
        ValueError, match=r"`path` must be a whole file of a lrax\.SweepResult, got"
    ):
        SweepResult.load(path)


def test_a_failed_save_keeps_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "r.npz"
    result = made([[1.0], [0.1]])
    result.save(path)
    before = path.read_bytes()

    def fails(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fails)
    with pytest.raises(OSError, match="No space left"):
        result.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.npz"]
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError):
        result.save(tmp_path / "no_such_folder" / "r.npz")


def test_without_the_extras_the_error_names_them(monkeypatch):
    result = made([[1.0], [0.1]])
    for module, ask, extra in (
        ("pandas", result.to_pandas, "sweep"),
        ("matplotlib.figure", result.plot, "plot"),
    ):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(ImportError, match=rf'pip install "lrax\[{extra}\] @'):
            ask()
