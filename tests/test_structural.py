"""Sweeps over structure: every choice is the sweep of its own, and the best is the best of all."""

import dataclasses
import json

import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax
from lrax.sweeps import structural
from lrax.sweeps.structural import product

RATES = {"learning_rate": [0.01, 0.1, 1e6]}


def build(batch_size, optimizer):
    return regression(batch_size), optimizer


def regression(batch_size):
    return problems.regression(
        batch=lrax.minibatches({"x": problems.X, "y": problems.Y}, size=batch_size)
    )


STRUCTURE = {"batch_size": [4, 8], "optimizer": [optax.sgd, optax.adam]}


@pytest.fixture(scope="module")
def result():
    return lrax.sweep_over(STRUCTURE, build, RATES, steps=10, seeds=2, objective="val_loss")


def test_every_choice_is_its_own_sweep(result):
    assert [tuple(choice.values()) for choice, _ in result] == [
        (4, optax.sgd), (4, optax.adam), (8, optax.sgd), (8, optax.adam)
    ]  # fmt: skip
    for choice, own in result:
        wanted = lrax.sweep(*build(**choice), RATES, steps=10, seeds=2, objective="val_loss")
        np.testing.assert_array_equal(own.losses, wanted.losses)
        np.testing.assert_array_equal(own.status, wanted.status)


def test_the_best_is_the_best_of_all(result):
    scores = [own.scores.mean(axis=1).min() for own in result.results]
    at = int(np.argmin(scores))
    assert result.best.choice == result.choices[at]
    assert result.best.hyperparams == result.results[at].best.hyperparams
    assert result.best.params is result.results[at].best_params
    assert len(repr(result.best)) < 400
    assert repr(result.best).startswith("BestChoice(batch_size=")
    ranked = [result.results[i].scores[point].mean() for i, point in result.ranking]
    assert ranked == sorted(ranked)
    assert len(ranked) == 12


def test_choices_may_be_looked_up(result):
    part = result.where(batch_size=8)
    assert len(part) == 2
    assert part.results[1] is result.results[3]
    assert result.where(batch_size=8, optimizer=optax.adam).results == [result.results[3]]
    with pytest.raises(ValueError, match=r"`batch_size` must be one of the swept .* got 5"):
        result.where(batch_size=5)
    with pytest.raises(
        ValueError, match="`name` must be one of 'batch_size', 'optimizer', got 'width'"
    ):
        result.where(width=5)


def test_optima_for_each_choice(result):
    optima = result.optima()
    assert [choice for choice, _ in optima] == result.choices
    assert optima[0][1] == result.results[0].optimum()


def test_pairs_across_choices(result):
    """All points of all choices against one, by seed: as if they were points of one sweep."""
    found = result.paired()
    best, point = result.ranking[0]
    against = result.results[best].scores[point]
    for (choice, pairs), own in zip(found, result.results, strict=True):
        assert choice == result.choices[result.results.index(own)]
        assert pairs.reference == (best, point)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(pairs.differences, own.scores - against)
        lost = (own.status == "diverged").any(axis=1)
        assert pairs.status.tolist() == np.where(lost, "diverged", "done").tolist()
    assert found[best][1].mean[point] == 0
    # A diverged reference is an answer: every point without a diverged lane is better.
    at = (0, int(np.argmax((result.results[0].status == "diverged").all(axis=1))))
    _, pairs = result.paired(at)[3]
    finite = np.isfinite(result.results[3].scores).all(axis=1)
    assert finite.any()
    assert np.all(pairs.mean[finite] == -np.inf)
    assert np.all(pairs.status == "diverged")


def test_pairs_without_an_answer_are_refused(result):
    a, b = result.results[:2]
    other = lrax.StructuralResult(result.choices[:2], [a, dataclasses.replace(b, seeds=["4", "5"])])
    with pytest.raises(ValueError, match=r"the same seeds to be paired, got \['0', '1'\] for"):
        other.paired()
    # Its scores are those of fewer updates.
    ended = dataclasses.replace(b, status=np.full(b.status.shape, "interrupted"))
    other = lrax.StructuralResult(result.choices[:2], [a, ended])
    assert other.paired((0, 1))[1][1].status.tolist() == ["interrupted"] * 3
    with pytest.raises(ValueError, match="trained to the end, got one that was interrupted"):
        other.paired((1, 0))
    for reference, error, message in [
        (3, TypeError, r"`reference` must be \(choice, point\), got 3"),
        ((4, 0), ValueError, r"`reference\[0\]` must be"),
        ((0, 3), ValueError, r"`reference\[1\]` must be"),
    ]:
        with pytest.raises(error, match=message):
            result.paired(reference)


def test_table_and_repr(result):
    lines = result.table().splitlines()
    assert lines[0].split() == [*STRUCTURE, "learning_rate", "train", "loss", "val_loss", "status"]
    assert len(lines) == 13
    starred = [line for line in lines if line.startswith("*")]
    assert len(starred) == 1
    choice, hyperparams = result.best.choice, result.best.hyperparams
    rate = f"{hyperparams['learning_rate']:.3g}"
    wanted = [str(choice["batch_size"]), choice["optimizer"].__name__, rate]
    assert starred[0].split()[1:4] == wanted
    assert sum("diverged" in line for line in lines) >= 2
    assert repr(result).startswith("StructuralResult(4 choices, 12 points; best batch_size=")


def test_pandas(result):
    pytest.importorskip("pandas", exc_type=ImportError)
    frame = result.to_pandas()
    assert list(frame.columns[:4]) == ["batch_size", "optimizer", "learning_rate", "seed"]
    assert len(frame) == 4 * 3 * 2
    assert frame["batch_size"].tolist() == [4] * 12 + [8] * 12
    assert set(frame["optimizer"]) == {"sgd", "adam"}


def test_save_and_load(result, tmp_path):
    path = tmp_path / "new" / "folder"
    result.save(path)
    loaded = lrax.StructuralResult.load(path)
    assert loaded.table() == result.table()
    assert loaded.choices[1] == {"batch_size": 4, "optimizer": "adam"}
    (path / "choices.json").write_text(json.dumps({"format": "another", "choices": []}))
    with pytest.raises(ValueError, match=r"must hold lrax\.StructuralResult/1, got 'another'"):
        lrax.StructuralResult.load(path)
    (path / "choices.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"`path` must be a folder written by StructuralResult\.save"
    ):
        lrax.StructuralResult.load(path)
    with pytest.raises(FileNotFoundError):
        lrax.StructuralResult.load(tmp_path / "nowhere")


@pytest.mark.slow
def test_grids_and_steps_may_depend_on_the_choice():
    def grid(batch_size, optimizer):
        return (
            {"learning_rate": [0.1]}
            if optimizer == "adam"
            else {"learning_rate": [0.01, 0.1], "momentum": [0.9]}
        )

    result = lrax.sweep_over(
        {"batch_size": np.array([4, 8]), "optimizer": ["sgd", "adam"]},
        lambda batch_size, optimizer: (regression(batch_size), getattr(optax, optimizer)),
        grid,
        steps=lambda batch_size, optimizer: 80 // batch_size,
    )
    assert [own.losses.shape for own in result.results] == [
        (2, 1, 20),
        (1, 1, 20),
        (2, 1, 10),
        (1, 1, 10),
    ]
    assert [type(choice["batch_size"]) for choice in result.choices] == [int] * 4
    lines = result.table().splitlines()
    assert lines[0].split() == [
        "batch_size",
        "optimizer",
        "learning_rate",
        "momentum",
        "train",
        "loss",
        "val_loss",
        "status",
    ]
    cells = [line.lstrip("* ").split() for line in lines]
    assert len(cells[3]) == len(cells[1]) - 1  # adam has no momentum


def test_choices_of_the_same_functions_share_a_program():
    traces = []

    def sgd(learning_rate):
        traces.append(0)
        return optax.sgd(learning_rate)

    def count(names):
        traces.clear()
        lrax.sweep_over(
            {"again": names}, lambda again: (problems.regression(), sgd), RATES, steps=2
        )
        return len(traces)

    once = count([1])
    assert once > 0
    assert count([1, 2, 3]) == 0


def test_when_everything_diverges_there_is_no_best():
    result = lrax.sweep_over(
        {"batch_size": [4]}, lambda batch_size: (regression(batch_size), optax.sgd), [1e9], steps=5
    )
    with pytest.raises(ValueError, match="every point diverged"):
        _ = result.best
    assert result.optima() == [({"batch_size": 4}, None)]
    assert "*" not in result.table()
    assert "no best: every point diverged" in repr(result)


def interrupting(monkeypatch, at, how):
    whole, calls = structural.sweep, []

    def sweep(*args, **kwargs):
        calls.append(0)
        if len(calls) == at and how == "raised":
            raise KeyboardInterrupt
        result = whole(*args, **kwargs)
        if len(calls) == at:
            return dataclasses.replace(result, status=np.full(result.status.shape, "interrupted"))
        return result

    monkeypatch.setattr(structural, "sweep", sweep)


@pytest.mark.parametrize(("how", "kept"), [("raised", 1), ("returned", 2)])
def test_ctrl_c_keeps_what_is_done(monkeypatch, how, kept):
    interrupting(monkeypatch, 2, how)
    result = lrax.sweep_over(STRUCTURE, build, RATES, steps=2)
    assert len(result) == len(result.choices) == kept


def test_ctrl_c_in_the_first_is_raised(monkeypatch):
    interrupting(monkeypatch, 1, "raised")
    with pytest.raises(KeyboardInterrupt):
        lrax.sweep_over(STRUCTURE, build, RATES, steps=2)


def test_errors_say_which_choice():
    def bad(width):
        loss = lambda params, batch: jnp.zeros(width if width > 1 else ())
        return problems.regression(loss=loss), optax.sgd

    with pytest.raises(TypeError, match="`loss` must return a scalar") as raised:
        lrax.sweep_over({"width": [1, 2]}, bad, [0.1], steps=1)
    assert (
        "in the sweep over width=2, after 1 of 2 choices" in raised.value.__notes__
    )  # beside JAX's own, if any


def test_the_product():
    assert product({"a": [1, 2], "b": ("xy",)}) == [{"a": 1, "b": "xy"}, {"a": 2, "b": "xy"}]


def test_bad_arguments_are_named():
    trained = []

    def make(width):
        trained.append(width)
        return problems.regression(), optax.sgd

    for arguments, error, message in [
        (([4, 8], make, RATES), TypeError, "`structure` must be {name: values}, got list"),
        (({}, make, RATES), ValueError, "`structure` must name at least one choice"),
        (
            ({"width": 4}, make, RATES),
            TypeError,
            r"`structure\['width'\]` must be a list of values",
        ),
        (
            ({"width": "ab"}, make, RATES),
            TypeError,
            r"`structure\['width'\]` must be a list of values",
        ),
        (
            ({"width": []}, make, RATES),
            ValueError,
            r"`structure\['width'\]` must hold at least one value",
        ),
        (({"width": [4]}, 3, RATES), TypeError, "`build` must be a function"),
        (
            ({"width": [4]}, lambda width: 3, RATES),
            TypeError,
            r"`build` must return \(task, optimizer\).* for width=4",
        ),
        (
            ({"width": [4]}, make, {"width": [1.0]}),
            ValueError,
            r"different names, got \['width'\] in both",
        ),
    ]:
        with pytest.raises(error, match=message):
            lrax.sweep_over(*arguments, steps=1)
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        lrax.sweep_over({"width": [4]}, make, RATES, steps=0)
    with pytest.raises(ValueError, match="`objective` must be one of"):
        lrax.sweep_over({"width": [4]}, make, RATES, steps=1, objective="speed")
