"""Points that somebody else proposes: the real Optuna among them."""

import dataclasses
import math
import warnings

import chex
import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax

STEPS = 20


def traced(optimizer):
    """The optimizer, and a list that grows with every trace."""
    traces = []

    def build(learning_rate, momentum):
        traces.append(0)
        return optimizer(learning_rate, momentum)

    return build, traces


def point(learning_rate, momentum=0.5):
    return {"learning_rate": learning_rate, "momentum": momentum}


def valley():
    """After one step of SGD from 1 on x^2 / 2 with rate r, x = 1 - r: the best rate is 1."""
    return lrax.Task(
        init=lambda key: jnp.ones(()),
        loss=lambda x, batch: x**2 / 2,
        batch=lambda step, key: (),
        evaluate=lambda x: {"error": x**2 / 2, "score": -abs(x)},
    )


def test_values_are_those_of_a_sweep_and_no_later_batch_compiles():
    optimizer, traces = traced(optax.sgd)
    search = lrax.AskTell(
        problems.regression(), optimizer, steps=STEPS, size=4, seeds=2, objective="val_loss"
    )
    points = [
        point(0.01),
        point(0.1),
        point(0.05, 0.9),
        point(0.1, 0.0),
        point(0.02),
        point(0.2),
        point(0.03),
    ]
    outcomes = search.evaluate(points[:3])
    first = len(traces)
    outcomes += search.evaluate(points[3:4]) + search.evaluate(points[4:])
    assert len(traces) == first
    wanted = lrax.sweep(
        problems.regression(),
        optax.sgd,
        lrax.points(points),
        steps=STEPS,
        seeds=2,
        objective="val_loss",
    )
    # Near zero, a loss of float32 depends on the order of sums, and so on the size of the program.
    np.testing.assert_allclose(
        [o.value for o in outcomes], wanted.values.mean(axis=1), rtol=1e-5, atol=1e-7
    )
    assert [o.status for o in outcomes] == ["done"] * 7
    assert [hyperparams for hyperparams, _ in search.history] == points
    assert search.best.hyperparams == pytest.approx(wanted.best.hyperparams)
    chex.assert_trees_all_close(search.best.params, wanted.best.params, rtol=1e-4)


def test_more_points_than_a_batch_holds():
    search = lrax.AskTell(valley(), optax.sgd, steps=1, size=3, objective="error")
    rates = np.linspace(0.1, 1.3, 8)
    outcomes = search.evaluate([{"learning_rate": rate} for rate in rates])
    np.testing.assert_allclose([o.value for o in outcomes], (1 - rates) ** 2 / 2, atol=1e-6)


def test_diverged_points_are_worth_the_worst_value_known():
    search = lrax.AskTell(problems.regression(), optax.sgd, steps=STEPS, size=2)
    (first,) = search.evaluate([point(1e9)])
    assert first.status == "diverged"
    start = lrax.sweep(problems.regression(), optax.sgd, [0.1], steps=1).losses[0, 0, 0]
    np.testing.assert_allclose(
        first.value, start, rtol=1e-6
    )  # of its own loss before the first update
    good, bad = search.evaluate([point(0.1), point(math.nan)])
    assert good.status == "done"
    assert good.value < bad.value == pytest.approx(first.value)
    assert bad.status == "diverged"

    search = lrax.AskTell(
        problems.regression(), optax.sgd, steps=STEPS, size=3, objective="val_loss"
    )
    (first,) = search.evaluate([point(1e9)])
    assert math.isnan(first.value)  # nothing is known yet
    with pytest.raises(ValueError, match="none of 1 points has finished"):
        _ = search.best
    outcomes = search.evaluate([point(0.1), point(1e-6), point(1e9)])
    assert outcomes[2] == lrax.Outcome(outcomes[1].value, "diverged")

    search = lrax.AskTell(valley(), optax.sgd, steps=3, size=3, objective="score", mode="max")
    outcomes = search.evaluate([{"learning_rate": rate} for rate in (1.0, 0.5, math.inf)])
    np.testing.assert_allclose([o.value for o in outcomes], [0.0, -0.125, -0.125], atol=1e-6)
    assert search.best.hyperparams == {"learning_rate": 1.0}

    search = lrax.AskTell(problems.regression(), optax.sgd, steps=STEPS, size=2, diverged="failed")
    good, bad = search.evaluate([point(0.1), point(1e9)])
    assert math.isfinite(good.value)
    assert math.isnan(bad.value)


class Study:
    """The protocol of Optuna's study, without Optuna; proposes what it is given."""

    def __init__(self, proposals):
        self.proposals, self.asked, self.told = list(proposals), 0, {}

    def ask(self):
        self.asked += 1
        return self.asked - 1

    def tell(self, trial, value=None, state=None):
        assert trial not in self.told
        self.told[trial] = value if state is None else state.name


def test_any_study_with_ask_and_tell_will_do():
    study = Study([0.1, 0.5, 0.9, 1.0, 1.1])
    search = lrax.AskTell(valley(), optax.sgd, steps=1, size=2, objective="error")
    search.optimize(study, lambda trial: {"learning_rate": study.proposals[trial]}, trials=5)
    np.testing.assert_allclose(
        list(study.told.values()), (1 - np.array(study.proposals)) ** 2 / 2, atol=1e-6
    )
    assert search.best.hyperparams == {"learning_rate": 1.0}


def test_no_trial_is_left_running():
    pytest.importorskip("optuna", exc_type=ImportError)
    study = Study([0.1, 0.5])
    search = lrax.AskTell(valley(), optax.sgd, steps=1, size=2)
    with pytest.raises(TypeError, match=r"`points\[1\]\['learning_rate'\]` must be a real number"):
        search.optimize(
            study, lambda trial: {"learning_rate": 0.1 if trial == 0 else "high"}, trials=4
        )
    assert study.told == {0: "FAIL", 1: "FAIL"}


def test_after_an_interrupt_unfinished_points_are_failed_and_the_rest_is_kept(monkeypatch):
    pytest.importorskip("optuna", exc_type=ImportError)
    study = Study([0.1, 0.5, 0.9, 1.0, 1.1, 1.2])
    search = lrax.AskTell(valley(), optax.sgd, steps=1, size=2)
    whole = lrax.sweeps.ask_tell.sweep
    calls = []

    def interrupted(*args, **kwargs):
        result = whole(*args, **kwargs)
        calls.append(result)
        if len(calls) == 2:
            return dataclasses.replace(result, status=np.full(result.status.shape, "interrupted"))
        return result

    monkeypatch.setattr(lrax.sweeps.ask_tell, "sweep", interrupted)
    search.optimize(study, lambda trial: {"learning_rate": study.proposals[trial]}, trials=6)
    assert [type(value) for value in study.told.values()] == [float, float, str, str]
    assert [outcome.status for _, outcome in search.history] == [
        "done",
        "done",
        "interrupted",
        "interrupted",
    ]
    calls.clear()
    calls.append(None)
    outcomes = search.evaluate([{"learning_rate": rate} for rate in study.proposals])
    assert [outcome.status for outcome in outcomes] == ["interrupted"] * 6
    assert len(calls) == 2


@pytest.fixture
def optuna():
    optuna = pytest.importorskip("optuna", exc_type=ImportError)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def tpe(optuna, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def test_optuna_finds_the_known_optimum(optuna):
    study = optuna.create_study(direction="minimize", sampler=tpe(optuna))
    search = lrax.AskTell(valley(), optax.sgd, steps=1, size=8, objective="error")
    search.optimize(
        study,
        lambda t: {"learning_rate": t.suggest_float("learning_rate", 1e-4, 1e4, log=True)},
        trials=60,
    )
    assert len(study.trials) == len(search.history) == 60
    assert study.best_params["learning_rate"] == pytest.approx(1.0, rel=0.15)
    assert search.best.hyperparams["learning_rate"] == pytest.approx(
        study.best_params["learning_rate"]
    )
    told = [trial.value for trial in study.trials]
    np.testing.assert_allclose(told, [outcome.value for _, outcome in search.history])


@pytest.mark.parametrize("diverged", ["worst", pytest.param("failed", marks=pytest.mark.slow)])
def test_optuna_in_two_dimensions_with_lanes_that_diverge(optuna, diverged):
    study = optuna.create_study(direction="minimize", sampler=tpe(optuna, seed=1))
    optimizer, traces = traced(optax.sgd)
    search = lrax.AskTell(problems.regression(), optimizer, steps=STEPS, size=8, diverged=diverged)
    space = lambda trial: {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e2, log=True),
        "momentum": trial.suggest_float("momentum", 0.0, 0.95),
    }
    search.optimize(study, space, trials=8)
    first = len(traces)
    search.optimize(study, space, trials=36)  # the last batch is half empty
    assert len(traces) == first
    assert len(study.trials) == 44
    lost = [i for i, (_, outcome) in enumerate(search.history) if outcome.status == "diverged"]
    states = {study.trials[i].state.name for i in lost}
    assert states == {"COMPLETE" if diverged == "worst" else "FAIL"}
    grid = {"learning_rate": lrax.log_grid(1e-4, 1e2, 19), "momentum": [0.0, 0.5, 0.9]}
    best = lrax.sweep(problems.regression(), optax.sgd, grid, steps=STEPS)
    initial = best.losses[0, 0, 0]
    assert study.best_value - np.min(best.scores) < 0.02 * initial
    trained = lrax.train(problems.regression(), optax.sgd, steps=STEPS)(
        study.best_params, jax.random.key(0)
    )
    np.testing.assert_allclose(np.mean(trained.losses[-2:]), study.best_value, rtol=1e-4, atol=1e-7)


def test_optunas_direction_must_agree(optuna):
    search = lrax.AskTell(valley(), optax.sgd, steps=1, objective="score", mode="max")
    with pytest.raises(
        ValueError, match="`study` must have the direction of `mode`, 'max', got minimize"
    ):
        search.optimize(optuna.create_study(), lambda trial: {}, trials=1)


def test_optuna_with_a_categorical_hyperparameter(optuna):
    # After one step of rate r from 1 on x^2 / 2 the error is (1 - r)^2 / 2. "half" is half of the
    # rate given, so that 2 with "half" and 1 with "whole" are the optima; "none" never moves.
    shapes = {"none": lrax.constant(0.0), "half": lrax.constant(0.5), "whole": lambda count: 1.0}
    optimizer, traces = scaled_by(lambda lr, shape: optax.sgd(lambda count: lr * shape(count)))
    search = lrax.AskTell(
        valley(), optimizer, steps=1, size=8, objective="error", choices={"shape": shapes}
    )
    points = [{"lr": lr, "shape": shape} for lr in (0.5, 1.0, 2.0) for shape in shapes]
    values = [outcome.value for outcome in search.evaluate(points)]
    sizes = {"none": 0.0, "half": 0.5, "whole": 1.0}
    wanted = [(1 - point["lr"] * sizes[point["shape"]]) ** 2 / 2 for point in points]
    np.testing.assert_allclose(values, wanted, atol=1e-6)
    first = len(traces)
    study = optuna.create_study(direction="minimize", sampler=tpe(optuna))
    space = lambda t: {
        "lr": t.suggest_float("lr", 0.2, 0.9),
        "shape": t.suggest_categorical("shape", list(shapes)),
    }
    search.optimize(study, space, trials=24)
    assert len(traces) == first, "no batch compiles anew, whatever its categories"
    assert study.best_params["shape"] == "whole"
    assert search.best.hyperparams["shape"] in (shapes["whole"], shapes["half"])
    assert search.history[0][0] == {"lr": 0.5, "shape": "none"}


def scaled_by(optimizer):
    traces = []

    def build(lr, shape):
        traces.append(0)
        return optimizer(lr, shape)

    return build, traces


def test_choices_may_be_pytrees_of_numbers():
    pairs = {"slow": {"lr": 0.5, "scale": 0.5}, "fast": {"lr": 1.0, "scale": 1.0}}
    search = lrax.AskTell(
        valley(),
        lambda pair: optax.sgd(pair["lr"] * pair["scale"]),
        steps=1,
        size=2,
        objective="error",
        choices={"pair": pairs},
    )
    values = [o.value for o in search.evaluate([{"pair": "fast"}, {"pair": "slow"}])]
    np.testing.assert_allclose(values, [0.0, 0.75**2 / 2], atol=1e-6)
    assert search.best.hyperparams == {"pair": pairs["fast"]}


def test_choices_of_a_tasks_function():
    def task(target, shift):
        value = lambda x: (x - target["to"] - shift) ** 2 / 2
        return lrax.Task(
            init=lambda key: jnp.ones(()),
            loss=lambda x, batch: value(x),
            batch=lambda step, key: (),
            evaluate=lambda x: {"error": value(x)},
        )

    targets = {"near": {"to": 1.0}, "far": {"to": 3.0}}
    search = lrax.AskTell(
        task,
        lambda learning_rate: optax.sgd(learning_rate),
        steps=1,
        size=2,
        objective="error",
        choices={"target": targets},
    )
    points = [{"learning_rate": 0.5, "target": name, "shift": 0.0} for name in targets]
    values = [outcome.value for outcome in search.evaluate(points)]
    np.testing.assert_allclose(values, [0.0, 0.5], atol=1e-6)


def test_a_stop_rule_prunes_trials(optuna):
    study = optuna.create_study(direction="minimize", sampler=tpe(optuna))
    rule = lrax.Halving(eta=2, first=0.25, margin=0)
    search = lrax.AskTell(problems.regression(), optax.adam, steps=STEPS, size=16, stop=rule)
    space = lambda t: {"learning_rate": t.suggest_float("learning_rate", 1e-5, 1.0, log=True)}
    search.optimize(study, space, trials=16)
    outcomes = [outcome for _, outcome in search.history]
    states = [trial.state.name for trial in study.trials]
    pruned = [outcome.status == "pruned" for outcome in outcomes]
    assert 4 <= sum(pruned) < 16
    assert [state == "PRUNED" for state in states] == pruned
    told = [trial.value for trial in study.trials]
    np.testing.assert_allclose(told, [outcome.value for outcome in outcomes])
    assert study.best_value == min(o.value for o in outcomes if o.status == "done")
    assert study.best_params == pytest.approx(search.best.hyperparams)


def test_copies_that_fill_a_batch_do_not_decide_what_is_pruned():
    rates = [0.1, 1e-4, 3e-2, 1e-5]
    call = dict(steps=STEPS, stop=lrax.Halving(eta=2, first=0.25, margin=0))
    wanted = lrax.sweep(problems.regression(), optax.adam, rates, seeds=1, **call)
    search = lrax.AskTell(problems.regression(), optax.adam, size=16, **call)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):  # the last one is copied
        outcomes = search.evaluate([{"learning_rate": rates[i]} for i in order])
        pruned = [wanted.status[i, 0] for i in order]
        assert [outcome.status for outcome in outcomes] == pruned
    assert 0 < pruned.count("pruned") < 4


def test_several_objectives_are_refused(optuna):
    study = optuna.create_study(directions=["minimize", "maximize"])
    search = lrax.AskTell(valley(), optax.sgd, steps=1, objective="error")
    with pytest.raises(ValueError, match="`study` must have one objective, got 2: AskTell trains"):
        search.optimize(study, lambda trial: {}, trials=1)
    assert not study.trials


def test_the_direction_is_read_from_the_objective(optuna):
    search = lrax.AskTell(valley(), optax.sgd, steps=1, objective="score")
    search.evaluate([{"learning_rate": 1.0}, {"learning_rate": 0.5}])
    assert search.best.hyperparams == {"learning_rate": 1.0}
    with pytest.raises(ValueError, match="the direction of `mode`, 'max', got minimize"):
        search.optimize(optuna.create_study(), lambda trial: {}, trials=1)


def test_bad_arguments_are_named():
    make = lambda **kw: lrax.AskTell(valley(), optax.sgd, **{"steps": 1, **kw})
    for kw, error, message in [
        ({"steps": 0}, ValueError, "`steps` must be at least 1"),
        ({"size": 0}, ValueError, "`size` must be at least 1"),
        ({"mode": "best"}, ValueError, "`mode` must be one of"),
        ({"diverged": "never"}, ValueError, "`diverged` must be one of"),
    ]:
        with pytest.raises(error, match=message):
            make(**kw)
    with pytest.raises(TypeError, match=r"`task` must be a lrax\.Task"):
        lrax.AskTell(3, optax.sgd, steps=1)
    for choices, error, message in [
        ([1], TypeError, "`choices` must be {name: {label: choice}}"),
        ({"lr": [1]}, TypeError, r"`choices\['lr'\]` must be {label: choice}"),
        ({"lr": {}}, ValueError, r"`choices\['lr'\]` must have at least one label"),
        ({"lr": {"a": 1.0, "b": (1.0,)}}, ValueError, r"`choices\['lr'\]` must be schedules, or"),
    ]:
        with pytest.raises(error, match=message):
            make(choices=choices)
    with pytest.raises(
        ValueError, match=r"`points\[0\]\['learning_rate'\]` must be one of 'a', got"
    ):
        make(choices={"learning_rate": {"a": 1.0}}).evaluate([{"learning_rate": "b"}])
    with pytest.raises(TypeError, match=r"for a categorical one give `choices={'learning_rate'"):
        make().evaluate([{"learning_rate": "cosine"}])
    for points, error, message in [
        ({"learning_rate": 0.1}, TypeError, "`points` must be a dict for each point"),
        ([], ValueError, "`points` must hold at least one point"),
        ([0.1], TypeError, r"`points\[0\]` must be a dict of hyperparameters"),
        (
            [{"learning_rate": 0.1}, {"lr": 0.1}],
            ValueError,
            r"`points\[1\]` must name \['learning_rate'\]",
        ),
        (
            [{"learning_rate": [0.1]}],
            TypeError,
            r"`points\[0\]\['learning_rate'\]` must be a real number",
        ),
        ([{"rate": 0.1}], ValueError, "`grid` must name parameters of the optimizer"),
    ]:
        with pytest.raises(error, match=message):
            make().evaluate(points)
    with pytest.raises(ValueError, match="`trials` must be at least 1"):
        make().optimize(Study([]), lambda trial: {}, trials=0)
    with pytest.raises(TypeError, match="`space` must be a function"):
        make().optimize(Study([]), {"learning_rate": (0.1, 1.0)}, trials=1)


def test_a_rule_without_a_mask_is_refused_in_a_batch_that_is_not_full():
    class Wrong:
        def looks(self, steps):
            return (1,)

        def keep(self, record):
            return True

    search = lrax.AskTell(problems.regression(), optax.adam, steps=STEPS, size=4, stop=Wrong())
    with pytest.raises(ValueError, match="`stop` must have `keep` return a mask"):
        search.evaluate([{"learning_rate": 0.1}, {"learning_rate": 0.2}])
