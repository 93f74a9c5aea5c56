"""`lrax.controllers`: each rule does what its method says, and equals the framework's own."""

import feedback
import golden
import jax
import numpy as np
import optax
import pytest
from feedback import rates_of
from golden.record_plateau import BASE
from jax import numpy as jnp

import lrax

plateau = lrax.controllers.plateau
RECORDED = golden.read("plateau")["settings"]


def ours(framework, keywords):
    """The numbers of `plateau` that stand for a framework's own arguments, and its words."""
    numbers = {name: keywords[name] for name in ("factor", "patience", "cooldown")}
    numbers["floor"] = keywords["min_lr"] / BASE
    if framework == "keras":
        return numbers | {"rtol": 0.0, "atol": keywords["min_delta"], "eps": 0.0}
    relative = keywords["threshold_mode"] == "rel"
    numbers["rtol"] = keywords["threshold"] if relative else 0.0
    numbers["atol"] = 0.0 if relative else keywords["threshold"]
    return numbers | {"eps": keywords["eps"] / BASE}


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_plateau_equals_the_frameworks(framework, mode, x64):
    settings = [
        setting
        for setting in RECORDED
        if setting["name"] == framework and setting["keywords"]["mode"] == mode
    ]
    assert len(settings) >= 25
    # Keras keeps its rate in float32.
    precision = 1e-12 if framework == "torch" else 1e-6
    make = lambda **numbers: BASE * plateau(mode=mode, counting=framework, **numbers)
    feedback.equals_recorded(make, settings, lambda keys: ours(framework, keys), x64, precision)
    assert sum(len(set(setting["rates"])) > 2 for setting in settings) > 10


# keywords, metrics, scales
CASES = {
    "patience passes without improvement": (
        {"patience": 2},
        [1.0, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 0.5, 0.5, 0.5, 0.25],
    ),
    "patience of Keras is one shorter": (
        {"patience": 2, "counting": "keras"},
        [1.0, 1, 1, 1, 1],
        [1, 1, 0.5, 0.5, 0.25],
    ),
    "patience 0 of Keras is 1": (
        {"patience": 0, "counting": "keras"},
        [1.0, 0.5, 0.5, 0.4],
        [1, 1, 0.5, 0.5],
    ),
    "the first metric is better than none": ({"patience": 0, "rtol": 0.5}, [1e9, 1.0], [1, 1]),
    "a negative metric that worsens is no improvement": (
        {"patience": 0, "rtol": 0.1},
        [-1.0, -0.95, -1.05, -1.2],
        [1, 0.5, 0.25, 0.25],
    ),
    "a negative metric is maximised": (
        {"patience": 0, "mode": "max", "rtol": 0.1},
        [-1.0, -1.05, -0.85],
        [1, 0.5, 0.5],
    ),
    "NaN is bad": ({"patience": 0}, [1.0, np.nan, 0.5], [1, 0.5, 0.5]),
    "NaN first is not the best": ({"patience": 1, "counting": "keras"}, [np.nan, 5.0], [0.5, 0.5]),
    "NaN is ignored": ({"patience": 0, "nan": "ignore"}, [1.0, np.nan, 1.5], [1, 1, 0.5]),
    "the cooldown ignores": (
        {"patience": 0, "cooldown": 2},
        [1.0, 1, 1, 1, 1],
        [1, 0.5, 0.5, 0.5, 0.25],
    ),
    "the cooldown still learns the best": (
        {"patience": 0, "cooldown": 1},
        [1.0, 1, 0.5, 0.7],
        [1, 0.5, 0.5, 0.25],
    ),
    "the floor holds": ({"patience": 0, "floor": 0.3}, [1.0, 1, 1, 1], [1, 0.5, 0.3, 0.3]),
    "eps leaves small reductions out": (
        {"patience": 0, "eps": 0.3},
        [1.0, 1, 1],
        [1, 0.5, 0.5],
    ),
    "factor 1 never reduces": ({"patience": 0, "factor": 1.0}, [1.0, 1, 1], [1, 1, 1]),
    "a fall from a spike is no plateau": (
        {"patience": 1, "spike": 0.5},
        [1.0, 8, 7, 6, 5, 4, 3, 2, 2, 2],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5],
    ),
    "without a spike it is one": ({"patience": 1}, [1.0, 8, 7, 6, 5], [1, 1, 0.5, 0.5, 0.25]),
    "a spike that stays is a plateau": (
        {"patience": 1, "spike": 0.5},
        [1.0, 8, 8, 8, 8],
        [1, 1, 0.5, 0.5, 0.25],
    ),
    "a slow rise is a plateau": (
        {"patience": 2, "spike": 0.5},
        [1.0, 1.1, 1.05, 1.2, 1.3],
        [1, 1, 1, 0.5, 0.5],
    ),
    "a spike of a negative metric": (
        {"patience": 0, "spike": 0.5},
        [-2.0, -0.5, -1.0, -0.9],
        [1, 0.5, 0.5, 0.25],
    ),
    "a spike downwards, and NaN is none": (
        {"patience": 1, "spike": 0.5, "mode": "max"},
        [4.0, 1.0, 2.0, np.nan, 3.0],
        [1, 1, 1, 1, 1],
    ),
    "a spike to infinity": ({"patience": 1, "spike": 0.5}, [1.0, np.inf, 9, 8], [1, 1, 1, 1]),
    "a restart at the floor": (
        {"patience": 0, "floor": 0.25, "restart": True},
        [1.0, 1, 1, 1, 5, 5, 4],
        [1, 0.5, 0.25, 1, 1, 0.5, 0.5],
    ),
    "a restart has a cooldown": (
        {"patience": 0, "floor": 0.5, "restart": True, "cooldown": 1},
        [1.0, 1, 1, 1, 5, 6, 7],
        [1, 0.5, 0.5, 1, 1, 0.5, 0.5],
    ),
    "a restart of Keras": (
        {"patience": 1, "floor": 0.5, "restart": True, "counting": "keras"},
        [1.0, 1, 1, 5, 5],
        [1, 0.5, 1, 1, 0.5],
    ),
    "infinity is no improvement on infinity": ({"patience": 0}, [np.inf, 1.0], [0.5, 0.5]),
}


@pytest.mark.parametrize("name", CASES)
def test_plateau(name):
    keywords, metrics, scales = CASES[name]
    np.testing.assert_allclose(
        rates_of(plateau(**{"factor": 0.5, **keywords}), metrics), scales, rtol=1e-6
    )


def test_plateau_does_not_fire_on_a_loss_that_improves_slowly():
    # In bfloat16, where Optax keeps its best value, neighbours near 1 are 0.008 apart.
    losses = 1.0 - 1e-3 * np.arange(100)
    optimizer = lrax.scale_by_lr(plateau(patience=3))
    state = optimizer.init(jnp.ones(3, jnp.bfloat16))
    update = jax.jit(
        lambda state, loss: optimizer.update(jnp.ones(3, jnp.bfloat16), state, value=loss)[1]
    )
    for loss in losses:
        state = update(state, loss)
    assert lrax.get_lr(state) == 1.0


STEPS = 30
NUMBERS = np.arange(STEPS) // 5  # a measurement before each fifth update
SIGNALS = {
    "measurement": {"measurement": {"val_loss": NUMBERS}},
    "fresh": {"fresh": {"val_loss": np.arange(STEPS) % 5 == 0}},
    "both": {
        "measurement": {"val_loss": NUMBERS},
        "fresh": {"val_loss": np.arange(STEPS) % 5 == 0},
    },
}


@pytest.mark.parametrize("name", SIGNALS)
def test_patience_counts_measurements(name):
    rule = lrax.constant(1e-1) * plateau(factor=0.1, patience=0, metric="val_loss")
    rates = rates_of(rule, np.ones(STEPS), "val_loss", **SIGNALS[name])
    np.testing.assert_allclose(rates, 0.1 * 0.1 ** np.minimum(NUMBERS, 5), rtol=1e-5)


def test_a_signal_that_is_not_measured_yet_is_no_measurement():
    losses = [np.nan, np.nan, 1.0, 1.0, 1.0]
    numbers = np.array([0, 0, 1, 1, 2])
    given = {
        "measurement": {"val_loss": numbers},
        "fresh": {"val_loss": np.array([False, False, True, False, True])},
    }
    rule = plateau(factor=0.5, patience=0, metric="val_loss")
    np.testing.assert_array_equal(rates_of(rule, losses, "val_loss", **given), [1, 1, 1, 1, 0.5])


def test_without_signals_every_update_is_a_measurement():
    rule = 0.1 * plateau(factor=0.1, patience=0, metric="val_loss")
    rates = rates_of(rule, np.ones(4), "val_loss")
    np.testing.assert_allclose(rates, [1e-1, 1e-2, 1e-3, 1e-4], rtol=1e-5)


def test_a_chain_driven_by_hand_falls_after_measurements():
    optimizer = optax.chain(
        optax.scale_by_adam(),
        lrax.scale_by_lr(lrax.constant(1e-1) * plateau(factor=0.1, patience=0, metric="val_loss")),
    )
    params = jnp.ones(3)

    @jax.jit
    def update(state, val_loss, fresh):
        return optimizer.update(
            params, state, params, val_loss=val_loss, fresh={"val_loss": fresh}, value=jnp.ones(())
        )[1]

    state = optimizer.init(params)
    rates = []
    for step in range(15):
        state = update(state, 1.0, step % 5 == 0)
        rates.append(float(lrax.get_lr(state)))
    np.testing.assert_allclose(rates, [0.1] * 5 + [0.01] * 5 + [0.001] * 5, rtol=1e-5)


def test_a_rule_inside_of_multisteps_misses_no_measurement():
    # It sees every second update, and the flag only at odd ones: none of those it sees.
    optimizer = optax.MultiSteps(
        lrax.scale_by_lr(plateau(factor=0.5, patience=0, metric="val_loss")), 2
    )
    state = optimizer.init(jnp.ones(2))
    update = jax.jit(optimizer.update)
    for step in range(12):
        _, state = update(
            jnp.ones(2),
            state,
            val_loss=1.0,
            measurement={"val_loss": step // 4},
            fresh={"val_loss": step % 4 == 0},
        )
    assert lrax.get_lr(state) == 0.25


def test_plateau_in_a_run_and_in_a_sweep_of_its_patience():
    task = lrax.tasks.diabetes()
    val_loss = lrax.every(10, lambda params: task.evaluate(params)["val_loss"])

    def sgd(learning_rate, patience):
        # No measurement is twice as good as the best, so all but the first one are bad.
        rule = plateau(factor=0.1, patience=patience, rtol=0.99, metric="val_loss")
        return lrax.scale_by_lr(learning_rate * rule)

    grid = {"learning_rate": [0.01], "patience": [0, 2, 100]}
    result = lrax.sweep(
        task,
        sgd,
        grid,
        steps=45,
        signals={"val_loss": val_loss},
        monitors=[lrax.monitors.learning_rate],
    )
    measurements = np.arange(45) // 10
    for patience, rates in zip(
        result.hyperparams["patience"], result.monitors["learning_rate"][:, 0], strict=True
    ):
        reductions = measurements // (patience + 1)
        np.testing.assert_allclose(rates, 0.01 * 0.1**reductions, rtol=1e-5)


def test_two_metrics_are_followed_at_once():
    both = plateau(factor=0.5, patience=0, metric="a") * plateau(factor=0.1, patience=0, metric="b")
    optimizer = lrax.scale_by_lr(both)
    state = optimizer.init(jnp.ones(2))
    for a, b in ((1.0, 1.0), (1.0, 0.5), (0.5, 0.5)):
        _, state = optimizer.update(jnp.ones(2), state, a=a, b=b)
    assert float(lrax.get_lr(state)) == pytest.approx(0.05)


NUMBERS_OF_PLATEAU = ("factor", "patience", "rtol", "atol", "cooldown", "floor", "eps")


@pytest.mark.parametrize("name", NUMBERS_OF_PLATEAU)
@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, "1", None, [0.5, 0.5]], ids=repr)
def test_bad_numbers_are_named(name, bad):
    with pytest.raises((ValueError, TypeError), match=f"`{name}` must be"):
        plateau(**{name: bad})


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"factor": 1.5}, "`factor` must be at most 1, got 1.5"),
        ({"mode": "lowest"}, "`mode` must be one of 'min', 'max', got 'lowest'"),
        ({"counting": "timm"}, "`counting` must be one of 'torch', 'keras', got 'timm'"),
        ({"nan": "raise"}, "`nan` must be one of 'bad', 'ignore', got 'raise'"),
        ({"spike": np.nan}, "`spike` must be at least 0, got nan"),
        ({"spike": -1.0}, "`spike` must be at least 0, got -1"),
        ({"restart": 1}, "`restart` must be a bool, got 1"),
        ({"metric": "val loss"}, "`metric` must be the name of an argument of `update`"),
        ({"metric": None}, "`metric` must be the name of an argument of `update`"),
    ],
)
def test_bad_words_are_named(keywords, message):
    with pytest.raises((ValueError, TypeError), match=message):
        plateau(**keywords)


def test_a_metric_that_is_not_given_is_named():
    optimizer = lrax.scale_by_lr(plateau(metric="val_loss"))
    state = optimizer.init(jnp.ones(2))
    with pytest.raises(TypeError, match=r"`val_loss` must be given to `update`.*val_loss=\.\.\."):
        optimizer.update(jnp.ones(2), state, value=1.0)
    with pytest.raises(ValueError, match=r"`val_loss` must be a scalar, got one of shape \(2,\)"):
        optimizer.update(jnp.ones(2), state, val_loss=jnp.ones(2))
    for name in ("fresh", "measurement"):
        with pytest.raises(TypeError, match=f"`{name}` must be a dict by the names of signals"):
            optimizer.update(jnp.ones(2), state, val_loss=1.0, **{name: True})
