"""`lrax.sweep`: lanes side by side are the runs they stand for, in one program."""

import logging
import os
import re
import signal
import threading

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax
from lrax.sweeps import progress
from lrax.sweeps.engine import segments

RATES = lrax.log_grid(1e-3, 1e-1, 4)
TASK = problems.regression()


@pytest.fixture(scope="module")
def result():
    return lrax.sweep(
        TASK,
        optax.adam,
        {"learning_rate": RATES},
        steps=30,
        seeds=2,
        objective="val_loss",
        eval_every=10,
    )


def test_lanes_equal_the_same_lanes_alone(result):
    train = jax.jit(lrax.train(TASK, optax.adam, steps=30))
    for point, rate in enumerate(RATES):
        for seed in range(2):
            trained = train({"learning_rate": rate}, jax.random.key(seed))
            losses, params = trained.losses, trained.params
            np.testing.assert_allclose(result.losses[point, seed], losses, rtol=1e-5)
            metric = problems.evaluate(params)["val_loss"]
            np.testing.assert_allclose(result.metrics["val_loss"][point, seed], metric, rtol=1e-5)


def test_what_comes_back(result):
    assert result.losses.shape == (4, 2, 30)
    assert result.losses.dtype == np.float32
    assert result.status.tolist() == [["done", "done"]] * 4
    assert result.evaluations["val_loss"].shape == (4, 2, 3)
    assert result.evaluated_at.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(
        result.evaluations["val_loss"][..., -1], result.metrics["val_loss"]
    )
    point, seed = np.unravel_index(np.argmin(result.metrics["val_loss"]), (4, 2))
    assert result.best.hyperparams == {"learning_rate": RATES[point]}
    again = problems.evaluate(result.best.params)["val_loss"]
    np.testing.assert_allclose(again, result.metrics["val_loss"][result.best_lane], rtol=1e-5)
    assert result.best_lane == (point, seed)
    assert result.seeds == ["0", "1"]
    assert {
        "device",
        "compile_seconds",
        "run_seconds",
        "versions",
        "steps",
        "rng",
    } <= result.info.keys()


def test_seeds_share_what_they_should(result):
    # Common random numbers: one start for all rates, another for another seed.
    assert np.all(result.losses[:, :, 0] == result.losses[:1, :, 0])
    assert result.losses[0, 0, 0] != result.losses[0, 1, 0]
    other = lrax.sweep(TASK, optax.adam, RATES, steps=3, seeds=2, rng="independent")
    assert len(np.unique(other.losses[:, :, 0])) == 8
    key = jax.random.fold_in(jax.random.key(1), 2)
    alone = lrax.train(TASK, optax.adam, steps=3)(RATES[2], key)
    np.testing.assert_allclose(other.losses[2, 1], alone.losses, rtol=1e-5)


def test_seeds_by_number_and_by_key(result):
    options = dict(grid={"learning_rate": RATES}, steps=30)
    np.testing.assert_allclose(
        lrax.sweep(TASK, optax.adam, seeds=[1], **options).losses, result.losses[:, 1:], rtol=1e-5
    )
    keys = jax.random.split(jax.random.key(5), 2)
    by_key = lrax.sweep(TASK, optax.adam, seeds=keys, **options)
    alone = lrax.train(TASK, optax.adam, steps=30)(RATES[1], keys[1])
    np.testing.assert_allclose(by_key.losses[1, 1], alone.losses, rtol=1e-5)


def test_a_lane_of_nan_changes_no_bit_of_the_others():
    sane = lrax.sweep(TASK, optax.adam, [1e-3, 1e-2, 1e-1], steps=20, seeds=2)
    for bad in (np.nan, np.inf, 1e30):
        result = lrax.sweep(TASK, optax.adam, [1e-3, bad, 1e-1], steps=20, seeds=2)
        np.testing.assert_array_equal(result.losses[[0, 2]], sane.losses[[0, 2]])
        np.testing.assert_array_equal(
            result.metrics["val_loss"][[0, 2]], sane.metrics["val_loss"][[0, 2]]
        )
        assert result.status[:, 0].tolist() == ["done", "diverged", "done"]
        assert result.ranking[-1] == 1
        assert result.best.hyperparams["learning_rate"] != bad


def test_a_product_of_hyperparameters():
    def adamw(lr, decay, warmup):
        return optax.adamw(lrax.warmup_cosine(lr, 10, warmup), weight_decay=decay)

    grid = {"lr": [0.01, 0.1], "decay": [0.0, 0.1, 0.2], "warmup": 2}
    result = lrax.sweep(TASK, adamw, grid, steps=10)
    assert result.hyperparams["lr"].tolist() == [0.01] * 3 + [0.1] * 3
    assert result.hyperparams["decay"].tolist() == [0.0, 0.1, 0.2] * 2
    alone = lrax.train(TASK, adamw, steps=10)(
        {"lr": 0.1, "decay": 0.2, "warmup": 2}, jax.random.key(0)
    )
    np.testing.assert_allclose(result.losses[5, 0], alone.losses, rtol=1e-5)


@pytest.fixture
def compilations(caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        yield lambda: [record for record in caplog.records if "Compiling" in record.getMessage()]


def test_other_rates_of_equal_size_recompile_nothing(compilations):
    def task():  # new arrays of the same shapes, in pytrees, are no reason to compile either
        return problems.regression(
            batch=lrax.minibatches({"x": problems.X + 0, "y": problems.Y}, size=8)
        )

    adam = lambda rate: optax.adam(rate)  # unknown to the sweeps of other tests
    options = dict(seeds=2, eval_every=7, progress=False)
    lrax.sweep(task(), adam, RATES, steps=20, **options)
    before = len(compilations())
    assert before > 0
    lrax.sweep(task(), adam, 2 * RATES, steps=31, **options)
    assert len(compilations()) == before


def test_segments_do_not_show(result, monkeypatch):
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)  # every segment is one step long
    short = lrax.sweep(TASK, optax.adam, {"learning_rate": RATES}, steps=30, seeds=2)
    np.testing.assert_array_equal(short.losses, result.losses)
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 1e9)  # as long as they may grow
    long = lrax.sweep(TASK, optax.adam, {"learning_rate": RATES}, steps=30, seeds=2)
    np.testing.assert_array_equal(long.losses, result.losses)


def compiled(task, points, **options):
    """The programs that train and evaluate a chunk of so many points."""
    programs = problems.engine(task, np.linspace(0.1, 1.0, points), **options).programs
    return programs.train.compiled, programs.evaluate.compiled


def test_the_program_holds_no_data_and_calls_no_host():
    x = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    data = {"x": x, "y": x[:, 0]}
    held_out = np.random.default_rng(1).normal(size=(6000, 3)).astype(np.float32)
    task = problems.regression(
        batch=lrax.minibatches(data, size=8),
        evaluate=lambda params: {
            "val_loss": problems.squared_error(params, {"x": held_out, "y": held_out[:, 0]})
        },
    )
    train, evaluate = compiled(task, points=4)
    for program, size in ((train, x.nbytes), (evaluate, held_out.nbytes)):
        text = program.as_text()
        assert not re.search(r"f32\[\d{4},3\]\S* constant\(", text)
        assert "callback" not in text
        assert program.memory_analysis().argument_size_in_bytes > size
        for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
            assert collective not in text


def test_memory_is_linear_in_lanes_and_lanes_are_donated():
    x = np.zeros((20000, 3), np.float32)
    task = problems.regression(batch=lrax.minibatches({"x": x, "y": x[:, 0]}, size=8))
    sizes = {points: compiled(task, points)[0].memory_analysis() for points in (4, 64)}
    extra = sizes[64].argument_size_in_bytes - sizes[4].argument_size_in_bytes
    assert extra < x.nbytes / 4  # sixty more lanes, and not one more copy of the data
    assert sizes[64].temp_size_in_bytes < x.nbytes * 4
    assert (
        sizes[64].alias_size_in_bytes >= 60 * 4 * 4 * 3
    )  # parameters and Adam's two moments are updated in place


def test_ctrl_c_returns_what_is_done(monkeypatch):
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
    previous = signal.getsignal(signal.SIGINT)
    advance = progress.Progress.advance

    def advance_and_interrupt(self, steps, **facts):
        advance(self, steps, **facts)
        if self.done == 5:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress.Progress, "advance", advance_and_interrupt)
    result = lrax.sweep(TASK, optax.adam, [1e-3, 1e-1, np.nan], steps=30)
    assert 5 <= result.losses.shape[-1] <= 7
    assert result.status[:, 0].tolist() == ["interrupted", "interrupted", "diverged"]
    whole = lrax.sweep(TASK, optax.adam, [1e-3, 1e-1, np.nan], steps=result.losses.shape[-1])
    np.testing.assert_array_equal(result.losses, whole.losses)
    np.testing.assert_array_equal(result.metrics["val_loss"], whole.metrics["val_loss"])
    assert signal.getsignal(signal.SIGINT) is previous
    assert "2 interrupted" in repr(result)


def test_a_second_ctrl_c_raises(monkeypatch):
    def interrupt_twice(self, steps, **facts):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress.Progress, "advance", interrupt_twice)
    with pytest.raises(KeyboardInterrupt):
        lrax.sweep(TASK, optax.adam, RATES, steps=30)


def test_runs_on_another_thread():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(lrax.sweep(TASK, optax.adam, RATES, steps=3))
    )
    thread.start()
    thread.join()
    assert len(found) == 1


def test_progress_shows_steps_and_the_leader(capsys):
    lrax.sweep(TASK, optax.adam, RATES, steps=30, progress=True)
    shown = capsys.readouterr().err
    assert "30/30" in shown
    assert "best learning_rate=" in shown
    lrax.sweep(TASK, optax.adam, RATES, steps=30)
    assert capsys.readouterr().err == ""  # nobody watches a captured stderr


def test_progress_without_tqdm(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    lrax.sweep(TASK, optax.adam, [1e-3, np.nan], steps=30, progress=True)
    shown = capsys.readouterr().err
    assert "sweep: step 30/30" in shown
    assert "alive=1/2" in shown


def test_no_evaluate_and_a_single_step():
    result = lrax.sweep(problems.regression(evaluate=None), optax.sgd, 0.1, steps=1)
    assert result.losses.shape == (1, 1, 1)
    assert result.metrics == {}
    assert result.best.hyperparams == {"learning_rate": 0.1}


def test_bfloat16_parameters_stay_bfloat16():
    task = problems.regression(
        init=lambda key: jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), problems.init(key))
    )
    result = lrax.sweep(
        task,
        lambda rate: optax.chain(optax.scale_by_adam(), lrax.scale_by_lr(rate)),
        RATES,
        steps=10,
    )
    assert result.best.params["w"].dtype == jnp.bfloat16
    assert np.all(result.status == "done")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            dict(grid={"rate": [1.0]}),
            ValueError,
            r"`grid` must name parameters of the optimizer, which are \['learning_ra",
        ),
        (dict(grid={}), ValueError, "`grid` must name at least one hyperparameter"),
        (
            dict(grid={"learning_rate": ["a"]}),
            TypeError,
            r"`grid\['learning_rate'\]` must hold numbers, Schedules or pytrees of one structure",
        ),
        (dict(grid={"learning_rate": []}), ValueError, "must be a number or a list of them"),
        (
            dict(grid={"b1": [0.9]}),
            ValueError,
            r"every parameter of the optimizer without a default, not \['learning_ra",
        ),
        (dict(steps=0), ValueError, "`steps` must be at least 1, got 0"),
        (dict(seeds=0), ValueError, "`seeds` must be at least 1, got 0"),
        (dict(seeds=[1, 1]), ValueError, r"`seeds` must be .* all different, got \[1, 1\]"),
        (dict(seeds=[0.5]), TypeError, r"`seeds\[0\]` must be an int"),
        (
            dict(seeds=jax.random.key(0)),
            ValueError,
            r"`seeds` must be an array of at least one key, got shape \(\)",
        ),
        (
            dict(seeds=jax.random.key(0, impl="rbg")[None]),
            ValueError,
            "`seeds` must be threefry keys, got",
        ),
        (
            dict(objective="accuracy"),
            ValueError,
            "`objective` must be one of 'train_loss', 'val_loss', got 'accuracy'",
        ),
        (dict(mode="least"), ValueError, "`mode` must be one of 'min', 'max'"),
        (dict(rng="shared"), ValueError, "`rng` must be one of 'common', 'independent'"),
        (dict(eval_every=0), ValueError, "`eval_every` must be at least 1"),
        (dict(task=None), TypeError, "`task` must be a lrax.Task or a function"),
        (dict(optimizer=optax.adam(0.1)), TypeError, "whose rate can no longer be swept"),
        (
            dict(task=problems.regression(evaluate=lambda p: 3.0)),
            TypeError,
            "`evaluate` must return a dict of scalars",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        lrax.sweep(**{**dict(task=TASK, optimizer=optax.adam, grid=RATES, steps=2), **arguments})
