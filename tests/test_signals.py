"""Signals: measured on a cadence inside one program, handed to the optimizer's `update`."""

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax

TASK = problems.regression()
KEY = jax.random.key(0)


def spying(names):
    """An optimizer that keeps in its state what `update` was handed."""

    def spy(rate):
        def init(params):
            zero = jnp.zeros(())
            return {
                name: zero
                for name in (
                    *names,
                    *(f"{kind} {n}" for kind in ("fresh", "measurement") for n in names),
                )
            }

        def update(updates, state, params=None, *, fresh, measurement, **extra):
            seen = {name: jnp.asarray(extra[name], jnp.float32) for name in names}
            seen |= {f"fresh {name}": fresh[name].astype(jnp.float32) for name in names}
            seen |= {f"measurement {n}": measurement[n].astype(jnp.float32) for n in names}
            return jax.tree.map(lambda u: -rate * u, updates), seen

        return optax.GradientTransformationExtraArgs(init, update)

    return spy


def seen(signals, steps=10, **options):
    names = list(signals)
    monitors = {"seen": lambda step: step.opt_state, "loss": lambda step: step.loss}
    train = lrax.train(
        TASK, spying(names), steps=steps, signals=signals, monitors=monitors, **options
    )
    trained = jax.jit(train)(0.1, KEY)
    return trained, {n.removeprefix("seen/"): np.asarray(v) for n, v in trained.monitors.items()}


def test_a_function_of_params_is_measured_before_the_updates_that_it_is_due_in():
    val_loss = lambda params: TASK.evaluate(params)["val_loss"]
    _, found = seen({"val_loss": lrax.every(3, val_loss)})
    np.testing.assert_array_equal(found["fresh val_loss"], [1, 0, 0, 1, 0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(found["measurement val_loss"], [1, 1, 1, 2, 2, 2, 3, 3, 3, 4])
    # Between two measurements the last value stands.
    for begin in (0, 3, 6):
        assert len(np.unique(found["val_loss"][begin : begin + 3])) == 1
    # The value of update 0 is that of the initial parameters.
    params = TASK.init(jax.random.split(KEY, 3)[0])
    np.testing.assert_allclose(found["val_loss"][0], val_loss(params), rtol=1e-6)


def test_a_function_of_a_step_reaches_the_update_after_it():
    trained, found = seen({"noise": lrax.every(2, lambda step: 10 * step.loss)})
    assert np.isnan(found["noise"][0])
    np.testing.assert_array_equal(found["fresh noise"], [0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    losses = np.asarray(trained.losses)
    np.testing.assert_allclose(found["noise"][1::2], 10 * losses[0:-1:2], rtol=1e-6)
    np.testing.assert_allclose(found["noise"][2::2], 10 * losses[0:-2:2], rtol=1e-6)


def test_a_signal_may_take_the_models_state():
    init = lambda key: (problems.init(key), {"seen": jnp.zeros((), jnp.int32)})
    loss = lambda params, state, batch: (
        problems.squared_error(params, batch),
        {"seen": state["seen"] + 8},
    )
    task = problems.regression(init=init, loss=loss, evaluate=None, stateful=True)
    signals = {"examples": lrax.every(4, lambda params, state: state["seen"])}
    monitors = {"seen": lambda step: step.opt_state}
    train = lrax.train(task, spying(["examples"]), steps=9, signals=signals, monitors=monitors)
    found = train(0.1, KEY).monitors["seen/examples"]
    np.testing.assert_array_equal(found, [0, 0, 0, 0, 32, 32, 32, 32, 64])


def test_a_rule_follows_the_validation_loss_inside_a_sweep_of_its_patience():
    """The rule counts measurements, not updates, and every lane has its own patience."""

    def followed(patience):
        # A rate so small that nothing improves: every measurement but the first is a bad one.
        rule = 1e-8 * lrax.controllers.plateau(
            factor=0.5, patience=patience, metric="val_loss", rtol=0.5
        )
        return lrax.scale_by_lr(rule)

    val_loss = lambda params: TASK.evaluate(params)["val_loss"]
    result = lrax.sweep(
        TASK,
        followed,
        {"patience": [0, 1, 3, 1000]},
        steps=41,
        seeds=2,
        signals={"val_loss": lrax.every(5, val_loss)},
        monitors=[lrax.monitors.learning_rate],
    )
    rates = result.monitors["learning_rate"][:, 0, -1] / 1e-8
    # Measurements at 0, 5, ..., 40: the first is the best, eight are bad.
    np.testing.assert_allclose(rates, [0.5**8, 0.5**4, 0.5**2, 1.0], rtol=1e-5)


def test_signals_survive_a_checkpoint_to_the_bit(tmp_path):
    def followed(patience):
        rule = 0.3 * lrax.controllers.plateau(factor=0.5, patience=patience, metric="val_loss")
        return lrax.scale_by_lr(rule)

    val_loss = lambda params: TASK.evaluate(params)["val_loss"]
    call = dict(
        steps=60,
        seeds=2,
        signals={"val_loss": lrax.every(7, val_loss)},
        monitors=[lrax.monitors.learning_rate],
        record_every=4,
        eval_every=20,
    )
    whole = lrax.sweep(TASK, followed, {"patience": [0, 2]}, **call)
    part = lrax.sweep(
        TASK, followed, {"patience": [0, 2]}, checkpoint=tmp_path / "s", budget=0, **call
    )
    assert part.losses.shape[-1] < 60
    again = lrax.sweep(TASK, followed, {"patience": [0, 2]}, checkpoint=tmp_path / "s", **call)
    np.testing.assert_array_equal(again.losses, whole.losses)
    np.testing.assert_array_equal(again.monitors["learning_rate"], whole.monitors["learning_rate"])


def test_line_searches_accept_the_arguments_of_signals():
    optimizer = lambda rate: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5, max_learning_rate=rate)
    )
    signals = {"val_loss": lrax.every(2, lambda params: TASK.evaluate(params)["val_loss"])}
    losses = lrax.train(TASK, optimizer, steps=10, signals=signals)(0.5, KEY).losses
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("signals", "error", "message"),
    [
        ([], TypeError, r"`signals` must be \{name: lrax.every\(n, function\)\}"),
        ({"a": lambda params: 0.0}, TypeError, r"`signals\['a'\]` must be lrax.every"),
        ({"grad": lrax.every(1, lambda params: 0.0)}, ValueError, "must not be named 'grad'"),
        ({"a b": lrax.every(1, lambda params: 0.0)}, ValueError, "must be named like arguments"),
    ],
)
def test_bad_signals_are_named(signals, error, message):
    with pytest.raises(error, match=message):
        lrax.train(TASK, optax.sgd, steps=2, signals=signals)
    with pytest.raises(error, match=message):
        lrax.sweep(TASK, optax.sgd, [0.1], steps=2, signals=signals)


def test_bad_cadences_are_named():
    with pytest.raises(ValueError, match="`n` must be at least 1, got 0"):
        lrax.every(0, lambda params: 0.0)
    with pytest.raises(TypeError, match=r"`n` must be an int, got 2\.5"):
        lrax.every(2.5, lambda params: 0.0)
    with pytest.raises(TypeError, match="`function` must be a function of params or of a step"):
        lrax.every(2, 0.5)
    with pytest.raises(
        TypeError, match=r"`function` must take params, \(params, state\) or a step"
    ):
        lrax.every(2, lambda: 0.5)
