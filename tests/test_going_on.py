"""Runs that go on: from given parameters, from a kept result, from a checkpoint with more steps."""

import dataclasses

import chex
import jax
import numpy as np
import optax
import problems
import pytest

import lrax

TASK = problems.regression()
RATES = [0.01, 0.1, 0.3]


def momentum(learning_rate):
    return optax.sgd(learning_rate, momentum=0.9)


def swept(steps=20, **options):
    return lrax.sweep(TASK, momentum, RATES, steps=steps, **{"seeds": 2, **options})


def test_all_lanes_start_from_given_parameters():
    before = swept()
    tuned = swept(steps=3, params=before.best.params)
    at_start = lrax.train(TASK, momentum, steps=3, params=before.best.params)
    alone = at_start(0.1, jax.random.key(1))
    np.testing.assert_allclose(tuned.losses[1, 1], alone.losses, rtol=1e-5)
    assert tuned.losses[..., 0].mean() < 0.5 * before.losses[..., 0].mean()
    # One start for each seed, told by its rank.
    starts = [TASK.init(jax.random.key(7)), before.best.params]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    each = swept(steps=3, params=stacked)
    for seed, params in enumerate(starts):
        train = lrax.train(TASK, momentum, steps=3, params=params)
        alone = train(0.3, jax.random.key(seed))
        np.testing.assert_allclose(each.losses[2, seed], alone.losses, rtol=1e-5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"w": np.zeros(3)}, "`params` must have the structure of the task's"),
        ({"w": np.zeros(4), "b": 0.0}, r"`params\['w'\]` must be of shape \(3,\), or \(2, 3\)"),
        ({"w": np.zeros((5, 3)), "b": 0.0}, r"`params\['w'\]` must be of shape .*got \(5, 3\)"),
    ],
)
def test_other_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        swept(params=params)


def test_more_steps_from_a_kept_result_are_the_longer_run():
    half = swept(steps=20, keep="state", monitors=[lrax.monitors.grad_norm], record_every=3)
    more = swept(steps=50, resume=half, monitors=[lrax.monitors.grad_norm], record_every=3)
    whole = swept(steps=50, monitors=[lrax.monitors.grad_norm], record_every=3)
    np.testing.assert_allclose(more.losses, whole.losses, rtol=1e-5)
    grad_norm = more.monitors["grad_norm"]
    np.testing.assert_allclose(grad_norm, whole.monitors["grad_norm"], rtol=1e-4)
    np.testing.assert_allclose(more.metrics["val_loss"], whole.metrics["val_loss"], rtol=1e-5)
    assert more.info["resumed_at"] == 20
    assert half.steps == 20
    assert more.steps == 50


def test_a_cooldown_branches_off_a_plateau():
    """The schedule may change where a run goes on; the optimizer's state must not."""
    plateau = lambda rate: lrax.scale_by_lr(lrax.constant(rate))
    cooled = lambda rate: lrax.scale_by_lr(lrax.cooldown(rate, 30, 10))
    call = dict(seeds=2, monitors=[lrax.monitors.learning_rate])
    stable = lrax.sweep(TASK, plateau, {"rate": [0.01, 0.1]}, steps=30, keep="state", **call)
    branch = lrax.sweep(TASK, cooled, {"rate": [0.01, 0.1]}, steps=40, resume=stable, **call)
    whole = lrax.sweep(TASK, cooled, {"rate": [0.01, 0.1]}, steps=40, **call)
    np.testing.assert_allclose(branch.losses, whole.losses, rtol=1e-5)
    rates = branch.monitors["learning_rate"][1, 0]
    np.testing.assert_allclose(rates[:31], 0.1)
    assert rates[-1] < 0.01


@pytest.fixture(scope="module")
def kept():
    return swept(keep="state")


def test_the_lanes_of_a_kept_result_are_what_all_runs_ended_with(kept):
    """Measured once more they give the sweep's metrics; the best one is the best lane."""
    lanes = kept.lanes
    again = jax.vmap(jax.vmap(TASK.evaluate))(lanes.params)
    np.testing.assert_allclose(again["val_loss"], kept.metrics["val_loss"], rtol=1e-5)
    best = lanes.at(*kept.best_lane)
    chex.assert_trees_all_equal(best.params, kept.best_params)
    chex.assert_trees_all_equal(best.opt_state, kept.best_opt_state)
    # Ranked by what is to be high, the worst lane is the best one, with its own parameters.
    worst = kept.rank_by("val_loss", mode="max")
    assert worst.best_lane != kept.best_lane
    chex.assert_trees_all_equal(worst.best.params, lanes.at(*worst.best_lane).params)


def test_lanes_that_were_not_kept_are_not_known(kept):
    # The last point was stopped and its lanes are gone; the second was stopped and is still there.
    arrays = {
        name: values[:2] if name.startswith("lanes/") else values
        for name, values in kept.kept.arrays.items()
    }
    arrays |= {"placed": np.array([True, True, False]), "alive": np.array([True, False, False])}
    stopped = dataclasses.replace(kept, kept=kept.kept._replace(arrays=arrays))
    lanes = stopped.lanes
    assert np.isnan(lanes.params["w"][1:]).all()
    np.testing.assert_array_equal(lanes.params["w"][0], kept.lanes.params["w"][0])
    with pytest.raises(ValueError, match=r"`lanes` needs a result .* with `keep='state'`"):
        _ = dataclasses.replace(kept, kept=None).lanes
    with pytest.raises(ValueError, match="no point was trained to the end"):
        _ = dataclasses.replace(kept, best_params=None).lanes


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(steps=10), ValueError, "`steps` must be at least the 20 of `resume`, got 10"),
        (dict(seeds=3), ValueError, "`resume` must be of the same seeds"),
        (dict(seeds=[0, 2]), ValueError, "`resume` must be of the same seeds"),
        (
            dict(monitors=[lrax.monitors.grad_norm]),
            ValueError,
            "`monitors` must be those of `resume`",
        ),
    ],
)
def test_another_run_is_refused(changes, error, message):
    half = swept(steps=20, keep="state")
    with pytest.raises(error, match=message):
        swept(**{"steps": 30, "resume": half, **changes})
    with pytest.raises(ValueError, match="`resume` must be a result of the same points"):
        lrax.sweep(TASK, momentum, [0.1, 0.2, 0.3], steps=30, seeds=2, resume=half)
    with pytest.raises(ValueError, match="the parameters and the optimizer state of this task"):
        lrax.sweep(TASK, optax.sgd, RATES, steps=30, seeds=2, resume=half)
    with pytest.raises(
        ValueError, match="`resume` must be a result of a sweep with `keep='state'`"
    ):
        swept(steps=30, resume=swept(steps=20))
    with pytest.raises(TypeError, match="`resume` must be a SweepResult, got dict"):
        swept(steps=30, resume={})


def test_the_best_lane_goes_on_by_hand():
    """The parameters and the optimizer's state of the best lane are those of the run alone."""
    result = swept()
    best = result.best
    longer = swept(steps=21)
    point, seed = result.best_lane
    optimizer = momentum(**best.hyperparams)
    key = jax.random.key(seed)
    batch = TASK.batch.at(20, jax.random.split(key, 3)[1])
    loss, grads = jax.value_and_grad(TASK.loss)(best.params, batch)
    np.testing.assert_allclose(loss, longer.losses[point, seed, 20], rtol=1e-4)
    _, state = optimizer.update(grads, best.opt_state, best.params)
    assert jax.tree.structure(state) == jax.tree.structure(best.opt_state)
    assert len(repr(best)) < 400


def test_a_checkpoint_goes_on_with_more_steps(tmp_path):
    path = tmp_path / "sweep.npz"
    swept(steps=20, checkpoint=path)
    more = swept(steps=50, checkpoint=path)
    assert more.info["resumed_at"] == 20
    np.testing.assert_allclose(more.losses, swept(steps=50).losses, rtol=1e-5)
    with pytest.raises(ValueError, match="`steps` must be at least the 50 of the checkpoint"):
        swept(steps=40, checkpoint=path)


def test_ranked_and_kept_by_the_best_evaluation():
    """A rate that is fast at first and diverges later has the best evaluation on the way."""
    call = dict(steps=60, objective="val_loss", eval_every=5, stop=None)
    rates = [0.05, 0.75]
    result = lrax.sweep(
        TASK, optax.sgd, rates, seeds=2, select="best", keep="best_evaluation", **call
    )
    values = result.evaluations["val_loss"]
    assert values.shape[-1] == len(result.evaluated_at) == 12
    assert result.evaluated_at[-1] == 60
    lowest = values.min(axis=-1).mean(axis=1)
    assert result.ranking[0] == np.argmin(lowest)
    point, seed = result.best_lane
    kept = TASK.evaluate(result.best.params)["val_loss"]
    np.testing.assert_allclose(kept, values[point, seed].min(), rtol=1e-5)
    with pytest.raises(ValueError, match="`keep` must not be 'best_evaluation' for the objective"):
        lrax.sweep(TASK, optax.sgd, rates, steps=3, keep="best_evaluation")


def test_an_accuracy_is_raised_and_an_unknown_name_is_refused():
    accuracy = lambda params: {"val_accuracy": -TASK.evaluate(params)["val_loss"], "speed": 0.0}
    task = problems.regression(evaluate=accuracy)
    result = lrax.sweep(task, optax.sgd, [1e-5, 0.1], steps=30, objective="val_accuracy")
    assert result.mode == "max"
    assert result.best.hyperparams["learning_rate"] == 0.1
    with pytest.raises(
        ValueError, match="`mode` must be 'min' or 'max' for the `objective` 'speed'"
    ):
        lrax.sweep(task, optax.sgd, [0.1], steps=3, objective="speed")
