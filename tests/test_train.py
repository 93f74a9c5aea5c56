"""`lrax.train`: one run as a pure function."""

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax

KEY = jax.random.key(3)


def by_hand(optimizer, steps):
    """The same run as a user would write it, batch by batch."""
    task = problems.regression()
    init_key, data_key, _ = jax.random.split(KEY, 3)
    params = task.init(init_key)
    state, losses = optimizer.init(params), []
    for step in range(steps):
        batch = task.batch.at(step, data_key)
        loss, grads = jax.value_and_grad(task.loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(loss)
    return np.array(losses), params


def test_is_the_loop_that_one_would_write():
    losses, params = by_hand(optax.adam(lrax.warmup_cosine(0.1, 12, 3)), 12)
    train = lrax.train(
        problems.regression(), lambda peak: optax.adam(lrax.warmup_cosine(peak, 12, 3)), steps=12
    )
    for hyperparams in ({"peak": 0.1}, 0.1):
        trained = jax.jit(train)(hyperparams, KEY)
        np.testing.assert_allclose(trained.losses, losses, rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), trained.params, params
        )


def test_is_pure_and_maps_over_rates_and_keys():
    train = lrax.train(problems.regression(), optax.sgd, steps=5)
    rates = {"learning_rate": jnp.array([0.01, 0.1])}
    keys = jax.random.split(KEY, 3)
    with jax.checking_leaks():
        mapped = jax.vmap(jax.vmap(train, in_axes=(0, None)), in_axes=(None, 0))
        trained = jax.jit(mapped)(rates, keys)
    losses, params = trained.losses, trained.params
    assert losses.shape == (3, 2, 5)
    assert params["w"].shape == (3, 2, 3)
    alone = train({"learning_rate": 0.1}, keys[2])
    np.testing.assert_allclose(losses[2, 1], alone.losses, rtol=1e-5)


def test_is_differentiable_in_the_rate():
    train = lrax.train(problems.regression(), optax.sgd, steps=4)
    last = lambda rate: train(rate, KEY).losses[-1]
    slope = jax.grad(last)(0.05)
    np.testing.assert_allclose(slope, (last(0.052) - last(0.048)) / 0.004, rtol=2e-2)


def test_batches_from_a_function_have_a_new_key_every_step():
    def batch(step, key):
        return {**problems.drawn(key), "step": step, "key": key}

    def loss(params, batch):
        return problems.squared_error(params, batch), {
            "step": batch["step"],
            "draw": jax.random.uniform(batch["key"]),
        }

    result = lrax.sweep(problems.regression(batch=batch, loss=loss), optax.sgd, 0.1, steps=6)
    np.testing.assert_array_equal(result.aux["step"][0, 0], np.arange(6))
    assert len(np.unique(result.aux["draw"])) == 6


@pytest.mark.slow
def test_a_loss_with_a_key_draws_anew_every_step_and_equally_in_every_lane():
    def loss(params, batch, key):
        noise = jax.random.normal(key)
        return problems.squared_error(params, batch) + 0.0 * noise, {
            "noise": noise,
            "dropped": batch["x"],
            "note": "x",
        }

    task = problems.regression(loss=loss)
    result = lrax.sweep(task, optax.sgd, [0.01, 0.1], steps=6, seeds=2)
    assert list(result.aux) == ["noise"]
    noise = result.aux["noise"]
    assert noise.shape == (2, 2, 6)
    np.testing.assert_array_equal(noise[0], noise[1])
    assert len(np.unique(noise)) == 12


def batch_norm_task():
    """A model with running statistics, the way of Flax's batch norm."""

    def init(key):
        return problems.init(key), {"mean": jnp.zeros(3), "count": jnp.zeros((), jnp.int32)}

    def loss(params, state, batch):
        mean = batch["x"].mean(axis=0)
        state = {"mean": 0.9 * state["mean"] + 0.1 * mean, "count": state["count"] + 1}
        return problems.squared_error(params, {**batch, "x": batch["x"] - mean[None]}), (
            state,
            {"norm": jnp.sum(mean**2)},
        )

    def evaluate(params, state):
        return {
            "val_loss": problems.squared_error(
                params, {"x": problems.X - state["mean"][None], "y": problems.Y}
            )
        }

    return problems.regression(init=init, loss=loss, evaluate=evaluate, stateful=True)


def test_a_model_with_state():
    task = batch_norm_task()
    trained = lrax.train(task, optax.sgd, steps=7)(0.1, jax.random.key(0))
    losses, params, state = trained.losses, trained.params, trained.state
    assert state["count"] == 7
    _, data_key, _ = jax.random.split(jax.random.key(0), 3)
    mean = np.zeros(3)
    for step in range(7):
        mean = 0.9 * mean + 0.1 * np.asarray(task.batch.at(step, data_key)["x"]).mean(axis=0)
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-5)

    result = lrax.sweep(task, optax.sgd, [0.1, 0.01], steps=7, objective="val_loss")
    np.testing.assert_allclose(result.losses[0, 0], losses, rtol=1e-5)
    np.testing.assert_allclose(
        result.metrics["val_loss"][0, 0], task.evaluate(params, state)["val_loss"], rtol=1e-5
    )
    assert result.aux["norm"].shape == (2, 1, 7)
    assert jax.tree.structure(result.best.params) == jax.tree.structure(params)
    np.testing.assert_allclose(result.best.state["mean"], state["mean"], rtol=1e-5)


def test_state_that_is_a_pair_is_not_taken_for_state_and_aux():
    def loss(params, state, batch):
        return problems.squared_error(params, batch), (state[0] + 1, state[1] + 2)

    init = lambda key: (problems.init(key), (jnp.zeros(()), jnp.zeros(())))
    task = problems.regression(init=init, loss=loss, evaluate=None, stateful=True)
    trained = lrax.train(task, optax.sgd, steps=3)(0.1, KEY)
    assert [float(part) for part in trained.state] == [3.0, 6.0]


def pair_task(stateful):
    """Parameters that are a pair, with a state that is one of the same structure, or without."""

    def loss(params, batch):
        return jnp.mean((params[0] * batch["x"][:, 0] + params[1] - batch["y"]) ** 2)

    def with_state(params, state, batch):
        return loss(params, batch), (state[0] + 1, state[1])

    pair = lambda key: (jax.random.normal(key), jnp.zeros(()))
    init = (lambda key: (pair(key), pair(key))) if stateful else pair
    chosen = with_state if stateful else loss
    return problems.regression(init=init, loss=chosen, evaluate=None, stateful=stateful)


@pytest.mark.parametrize("stateful", [False, True])
def test_parameters_that_are_a_pair_are_no_parameters_and_state(stateful):
    task = pair_task(stateful)
    key = jax.random.key(0)  # that of a sweep with one seed
    start = (np.float32(2.0), np.float32(0.5))
    trained = lrax.train(task, optax.sgd, steps=3, params=start)(0.01, key)
    result = lrax.sweep(task, optax.sgd, [0.01], steps=3, params=start)
    batch = task.batch.at(0, jax.random.split(key, 3)[1])
    first = float(jnp.mean((2.0 * batch["x"][:, 0] + 0.5 - batch["y"]) ** 2))
    assert float(trained.losses[0]) == pytest.approx(first, rel=1e-5)
    np.testing.assert_allclose(result.losses[0, 0], trained.losses, rtol=1e-5)
    if stateful:  # the state starts as `init` makes it, or as it is given
        made = task.init(jax.random.split(key, 3)[0])[1]
        assert float(trained.state[0]) == pytest.approx(float(made[0]) + 3)
        both = lrax.train(task, optax.sgd, steps=3, params=(start, start))(0.01, key)
        np.testing.assert_allclose(both.losses, trained.losses)
        assert both.state[0] == 5.0
        both = lrax.sweep(task, optax.sgd, [0.01], steps=3, params=(start, start))
        assert both.best.state[0] == 5.0


def test_parameters_of_another_structure_are_named():
    train = lrax.train(problems.regression(), optax.sgd, steps=1, params={"w": np.zeros(3)})
    with pytest.raises(ValueError, match="`params` must have the structure of the task's"):
        train(0.1, KEY)


def with_a_count(key):
    return problems.init(key), {"count": jnp.zeros((), jnp.int32)}


@pytest.mark.parametrize(
    "loss",
    [
        problems.squared_error,
        lambda params, batch: problems.squared_error(params[0], batch),
        lambda params, batch: (problems.squared_error(params[0], batch), params[1]),
    ],
    ids=["in the loss", "in its gradient", "with the state as aux"],
)
def test_a_state_that_was_not_announced_is_named(loss):
    task = problems.regression(init=with_a_count, loss=loss, evaluate=None)
    for run in (
        lambda: lrax.train(task, optax.sgd, steps=1)(0.1, KEY),
        lambda: lrax.sweep(task, optax.sgd, [0.1], steps=1),
    ):
        with pytest.raises(Exception, match=r".") as raised:
            run()
        notes = "".join(raised.value.__notes__)
        assert notes.count("give the `lrax.Task` the argument `stateful=True`") == 1


def test_an_error_of_other_parameters_gets_no_such_note():
    def loss(params, batch):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        lrax.train(problems.regression(loss=loss), optax.sgd, steps=1)(0.1, KEY)
    assert "stateful" not in "".join(getattr(raised.value, "__notes__", ()))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda rate: optax.polyak_sgd(max_learning_rate=rate),
        lambda rate: optax.chain(optax.sgd(rate), optax.contrib.reduce_on_plateau(patience=2)),
        lambda rate: optax.chain(
            optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5, max_learning_rate=rate)
        ),
        lambda rate: optax.lbfgs(rate),
    ],
    ids=["polyak", "plateau", "backtracking", "lbfgs"],
)
def test_rules_that_follow_the_loss_are_given_it(optimizer):
    losses = jax.jit(lrax.train(problems.regression(), optimizer, steps=15))(0.1, KEY).losses
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            dict(loss=lambda params, batch: batch["y"]),
            TypeError,
            r"scalar or \(scalar, aux\), got a loss of shape \(8,\)",
        ),
        (dict(loss=lambda params: 0.0), TypeError, r"`loss` must take \(params, batch\)"),
        (
            dict(stateful=True),
            TypeError,
            r"`init` of a stateful task must return \(params, state\)",
        ),
        (dict(init=3), TypeError, "`init` must be a function, got 3"),
        (dict(loss=None), TypeError, "`loss` must be a function"),
        (dict(evaluate=3), TypeError, "`evaluate` must be a function or None"),
        (dict(batch=problems.X), TypeError, "`batch` must be .*minibatches.*, got ndarray"),
        (dict(stateful=1), TypeError, "`stateful` must be a bool"),
    ],
)
def test_bad_tasks_are_named(fields, error, message):
    with pytest.raises(error, match=message):
        lrax.train(problems.regression(**fields), optax.sgd, steps=2)(0.1, KEY)


def test_bad_arguments_are_named():
    task = problems.regression()
    with pytest.raises(ValueError, match="`steps` must be at least 1, got 0"):
        lrax.train(task, optax.sgd, steps=0)
    with pytest.raises(TypeError, match="`steps` must be an int"):
        lrax.train(task, optax.sgd, steps=2.0)
    with pytest.raises(
        TypeError,
        match=r"`task` must be a lrax.Task or a function of hyperparameters that returns one, got dict",
    ):
        lrax.train({}, optax.sgd, steps=2)
    with pytest.raises(TypeError, match=r"not `optax.adam\(1e-3\)`"):
        lrax.train(task, optax.adam(1e-3), steps=2)
    with pytest.raises(
        TypeError, match=r"`optimizer` must return an optax\.GradientTransformation, got 3"
    ):
        lrax.train(task, lambda rate: 3, steps=2)(0.1, KEY)
    wrong_state = lambda params, state, batch: (
        problems.squared_error(params, batch),
        {"other": 1.0},
    )
    stateful = problems.regression(
        init=lambda key: (problems.init(key), jnp.zeros(2)), loss=wrong_state, stateful=True
    )
    with pytest.raises(TypeError, match="with a state like that of `init`"):
        lrax.train(stateful, optax.sgd, steps=2)(0.1, KEY)


def test_an_optimizer_of_keywords_alone_has_no_first_parameter():
    task = lrax.tasks.diabetes()
    with pytest.raises(TypeError, match="`optimizer` must take at least one named parameter"):
        lrax.train(task, lambda **keywords: optax.sgd(**keywords), steps=1)(0.1, jax.random.key(0))
