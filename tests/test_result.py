"""`SweepResult`, from plain arrays: ranking, optimum, table, pictures, files."""

import dataclasses
import json
import os
from typing import NamedTuple

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax
from lrax.sweeps.optimum import optimum
from lrax.sweeps.result import SweepResult
from lrax.sweeps.status import statuses

RATES = lrax.log_grid(1e-3, 1e-1, 5)


def made(final, first=2.0, metrics=None, params=None, **fields):
    """A result whose curves fall from `first` to `final [points, seeds]`."""
    final = np.asarray(final, np.float32)
    losses = np.linspace(np.full_like(final, first), final, 40, axis=-1)
    losses[..., -4:] = final[..., None]
    points, seeds = final.shape
    defaults = dict(
        hyperparams={"lr": lrax.log_grid(1e-3, 1e-1, points)},
        seeds=[str(seed) for seed in range(seeds)],
        losses=losses,
        aux={},
        metrics={name: np.asarray(values, np.float32) for name, values in (metrics or {}).items()},
        evaluations={},
        evaluated_at=np.array([], int),
        status=statuses(losses, np.ones(final.shape, bool), np.full(points, 40), whole=True),
        stopped_at=np.full(points, 40),
        objective="train_loss",
        mode="min",
        info={"device": "cpu (cpu)", "steps": 40, "versions": {"jax": "0"}},
        best_params=params,
    )
    return SweepResult(**{**defaults, **fields})


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


def test_when_everything_diverged_there_is_no_best():
    result = made(np.full((3, 1), np.nan))
    for ask in (lambda: result.best, result.optimum):
        with pytest.raises(ValueError, match=r"every .* diverged"):
            ask()
    assert "3 diverged" in repr(result)
    assert "diverged" in result.table()
    assert result.plot() is not None


def test_statuses():
    steps = np.arange(100)
    falls, spike, grows = np.exp(-steps / 20), np.ones(100), np.ones(100)
    spike[30:50] = 50.0
    recovers = np.where(steps < 60, spike, 0.5)
    grows[20:] = 6.0
    noisy = np.where(
        steps % 20 == 0, 8.0, 0.95
    )  # single batches of four times the loss do not make a divergence
    noisy[0] = 1.0
    losses = np.stack(
        [falls, spike, recovers, grows, noisy, falls, -grows, np.where(steps < 99, falls, np.inf)]
    )
    finite = np.array([True] * 5 + [False] + [True] * 2)
    expected = ["done", "diverged", "done", "diverged", "done", "diverged", "done", "diverged"]
    whole = np.full(8, 100)
    assert statuses(losses[:, None], finite[:, None], whole, whole=True)[:, 0].tolist() == expected
    words = statuses(losses[:, None], finite[:, None], whole, whole=False)[:, 0].tolist()
    assert words == [word.replace("done", "interrupted") for word in expected]
    overflow = np.array([[2.0, 1e38, np.inf, 3.0]], np.float32)
    assert statuses(overflow[None], np.ones((1, 1), bool), np.array([4]), whole=True)[
        :, 0
    ].tolist() == ["diverged"]
    losses[:, 60:] = np.nan  # which is what is there of a point that was stopped
    words = statuses(losses[:4, None], finite[:4, None], np.array([60, 60, 60, 100]), whole=True)[
        :, 0
    ].tolist()
    assert words == ["pruned", "diverged", "diverged", "diverged"]


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
    assert optimum(rates, -rising)[::2] == (pytest.approx(rates[-1]), "high")
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
    assert rows[2].endswith("1 diverged, 1 done")


def test_to_pandas():
    frame = made([[1.0, 1.2], [0.1, 0.3]], metrics={"val": [[1, 2], [3, 4]]}).to_pandas()
    assert list(frame.columns) == ["lr", "seed", "train_loss", "val", "status"]
    assert frame["val"].tolist() == [1, 2, 3, 4]
    assert frame["seed"].tolist() == ["0", "1", "0", "1"]
    best = frame.groupby("lr")["train_loss"].mean()
    assert best.idxmin() == pytest.approx(0.1)


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
        result, aux={"norm": result.losses}, evaluations={"z": np.ones((2, 2, 1))}
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
    with pytest.raises(ValueError, match="`like` must have the 5 leaves of the file, got 1"):
        SweepResult.load(tmp_path / "result.npz", like=np.ones(3))


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


def test_files_are_read_without_pickle_and_without_lrax(tmp_path):
    made([[1.0], [0.1]]).save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz", allow_pickle=False) as file:
        assert file["array/losses"].shape == (2, 1, 40)
        assert json.loads(str(file["facts"]))["format"] == "lrax.SweepResult/2"


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
    with pytest.raises(ValueError, match="`path` must be a whole file"):
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


@pytest.mark.parametrize(
    "final",
    [
        [[1.0, 1.2], [0.1, 0.3], [np.nan, 0.5], [np.nan, np.nan]],
        [[1.0]],
        [[-1.0, -2.0], [-5.0, -4.0]],
    ],
    ids=["diverged", "single", "negative"],
)
def test_plot(final, tmp_path):
    result = made(final)
    figure = result.plot()
    left, right = figure.axes[:2]
    assert left.get_xscale() == "log"
    marked = [line for line in left.lines if line.get_label() == "diverged"]
    assert [len(line.get_xdata()) for line in marked] == ([2] if np.isnan(final).any() else [])
    assert len([line for line in right.lines if len(line.get_xdata()) == 40]) == len(final)
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_plot_over_a_rate_that_may_be_zero():
    figure = made([[1.0], [0.5]], hyperparams={"decay": np.array([0.0, 0.1])}).plot()
    assert figure.axes[0].get_xscale() == "linear"


def test_without_the_extras_the_error_names_them(monkeypatch):
    result = made([[1.0], [0.1]])
    for module, ask, extra in (
        ("pandas", result.to_pandas, "sweep"),
        ("matplotlib.figure", result.plot, "plot"),
    ):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(ImportError, match=rf'pip install "lrax\[{extra}\]"'):
            ask()
