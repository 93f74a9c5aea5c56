"""Any pure training function as a lane of a sweep."""

import signal

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from reinforcement import ppo

import lrax
from lrax.sweeps import function as module

RATES = [0.01, 0.1, 0.3, 1.5]
STEPS = 12


def descent(hyperparams, key):
    """Gradient descent on a parabola from a random place; curves of two lengths, and scalars."""

    def step(x, _):
        x = x - hyperparams["rate"] * 2 * x
        return x, x**2

    _, losses = jax.lax.scan(step, 1 + jax.random.uniform(key), length=STEPS)
    return {"loss": losses, "half": losses[::2], "final_loss": losses[-1], "steps": STEPS}


def swept(function=descent, grid=None, **options):
    grid = {"rate": RATES} if grid is None else grid
    return lrax.sweep_function(
        function, grid, **{"seeds": 3, "objective": "final_loss", "progress": False, **options}
    )


@pytest.fixture(scope="module")
def whole():
    return swept(execution=2)


def assert_equal(result, wanted):
    for name, values in (wanted.metrics | wanted.curves).items():
        np.testing.assert_array_equal((result.metrics | result.curves)[name], values)
    np.testing.assert_array_equal(result.status, wanted.status)


@pytest.mark.parametrize("execution", ["auto", "vmap", "loop", 1, 2, 5])
def test_it_is_the_function_mapped_over_points_and_seeds(execution):
    result = swept(execution=execution)
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    points = {"rate": jnp.array(RATES, jnp.float32)}
    truth = jax.jit(jax.vmap(jax.vmap(descent, (None, 0)), (0, None)))(points, keys)
    assert set(result.metrics) == {"final_loss", "steps"}
    assert set(result.curves) == {"loss", "half"}
    assert result.curves["loss"].shape == (4, 3, STEPS)
    assert result.curves["half"].shape == (4, 3, STEPS // 2)
    for name, values in (result.metrics | result.curves).items():
        np.testing.assert_allclose(values, truth[name], rtol=1e-5)
    assert result.best.hyperparams == {"rate": 0.3}
    assert np.all(result.status == "done")


def test_all_points_of_a_seed_have_its_key():
    function = lambda hyperparams, key: {"final_loss": jax.random.uniform(key)}
    found = swept(function, seeds=[7, 3]).metrics["final_loss"]
    wanted = [jax.random.uniform(jax.random.key(seed)) for seed in (7, 3)]
    np.testing.assert_array_equal(found, np.tile(wanted, (len(RATES), 1)))
    np.testing.assert_array_equal(
        swept(function, seeds=jax.vmap(jax.random.key)(jnp.array([7, 3]))).metrics["final_loss"],
        found,
    )


def test_schedules_are_an_axis():
    def function(hyperparams, key):
        return {"final_loss": hyperparams["schedule"](5) * hyperparams["factor"]}

    schedules = [lrax.constant(0.1), lrax.cosine(0.2, 10)]
    result = swept(function, {"schedule": schedules, "factor": [1.0, 3.0]}, seeds=1)
    wanted = [s(5) * f for s in schedules for f in (1.0, 3.0)]
    np.testing.assert_allclose(result.metrics["final_loss"][:, 0], wanted, rtol=1e-6)
    assert len(result.choices["schedule"]) == 2


def test_a_lane_of_nan_has_diverged_and_changes_no_other(whole):
    result = swept(grid={"rate": [0.01, np.nan, 0.3, 1.5]}, execution=2)
    assert result.status.tolist() == [["done"] * 3, ["diverged"] * 3, *[["done"] * 3] * 2]
    others = [0, 2, 3]
    np.testing.assert_array_equal(result.curves["loss"][others], whole.curves["loss"][others])
    assert result.best.hyperparams == {"rate": 0.3}
    assert result.ranking[-1] == 1


def test_an_interrupted_sweep_goes_on_to_the_same_bits(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(module.hardware, "cores", lambda: 1)
    path = tmp_path / "sweep"
    part = swept(execution=2, budget=0, checkpoint=path)
    assert 0 < np.sum(part.status == "done") < 12
    assert set(part.status.ravel()) == {"done", "interrupted"}
    done = part.status == "done"
    np.testing.assert_array_equal(part.curves["loss"][done], whole.curves["loss"][done])
    assert np.isnan(part.curves["loss"][~done]).all()
    ran = []
    run = module._Runner.run
    monkeypatch.setattr(
        module._Runner, "run", lambda self, i, args: ran.append(i) or run(self, i, args)
    )
    assert_equal(swept(execution=2, checkpoint=path), whole)
    count = len(ran)
    assert 0 not in ran  # what has run is not run again
    assert_equal(swept(execution=2, checkpoint=path), whole)
    assert len(ran) == count
    with pytest.raises(ValueError, match="`checkpoint` must be of the same sweep"):
        swept(execution=2, checkpoint=path, grid={"rate": [0.02]})
    other = lambda hyperparams, key: {"final_loss": hyperparams["rate"] * 2.0}
    with pytest.raises(ValueError, match="function: "):
        swept(other, execution=2, checkpoint=path)


def test_ctrl_c_returns_what_is_done(whole, monkeypatch):
    monkeypatch.setattr(module.hardware, "cores", lambda: 1)

    def interrupt(kind, facts):
        if kind == "segment":
            signal.raise_signal(signal.SIGINT)

    part = swept(execution=2, on_event=interrupt)
    assert set(part.status.ravel()) == {"done", "interrupted"}


def test_events():
    events = []
    result = swept(execution=2, on_event=lambda *event: events.append(event))
    assert events[0][0] == "start"
    assert events[-1] == ("end", {"result": result})
    done = [facts["done"] for kind, facts in events if kind == "segment"]
    assert done == sorted(done)
    assert done[-1] == 12


def test_what_there_is_not_is_named(whole):
    with pytest.raises(ValueError, match="curves"):
        whole.losses  # noqa: B018


def test_the_settings_of_the_caller_hold_on_all_threads():
    x64 = jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64(True)
    with x64:
        assert swept(execution=2).metrics["final_loss"].dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(function=3), TypeError, "`function` must be a function of"),
        (dict(grid={}), TypeError, "`grid` must be"),
        (dict(grid=[0.1]), TypeError, "`grid` must be"),
        (
            dict(function=lambda hyperparams, key: {"entropy": 1.0}, objective="entropy"),
            ValueError,
            "`mode` must be",
        ),
        (dict(objective="score"), ValueError, "`objective` must be one of"),
        (dict(objective="loss"), ValueError, "`objective` must be one of"),
        (dict(execution="steps"), ValueError, "`execution` must be"),
        (dict(execution=0), ValueError, "`execution` must be at least 1"),
        (dict(seeds=0), ValueError, "`seeds` must be"),
        (dict(devices=0), ValueError, "`devices` must be"),
        (dict(budget=-1), ValueError, "`budget` must be"),
        (dict(on_event=3), TypeError, "`on_event` must be a function"),
        (dict(function=lambda hyperparams, key: 1.0), TypeError, "`function` must return"),
        (dict(function=lambda hyperparams, key: {}), TypeError, "`function` must return"),
        (
            dict(function=lambda hyperparams, key: {"final_loss": jnp.zeros((2, 2))}),
            ValueError,
            r"`function` must return scalars and arrays of one axis, got 'final_loss'",
        ),
        (
            dict(function=lambda hyperparams, key: {"final_loss": 1j}),
            ValueError,
            "`function` must return real numbers, got 'final_loss' of complex64",
        ),
    ],
)
def test_bad_arguments_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        swept(**changes)


def test_it_is_not_called_inside_of_jit():
    with pytest.raises(ValueError, match=r"`lrax\.sweep_function` must not be called inside"):
        jax.jit(lambda x: swept() and x)(1.0)


@pytest.mark.slow
def test_the_best_rate_of_a_reinforcement_learner_has_the_highest_return():
    grid = {"learning_rate": lrax.log_grid(1e-5, 1.0, 6)}
    result = swept(ppo, grid, seeds=4, objective="final_return")
    means = result.metrics["final_return"].mean(axis=1)
    assert result.best.hyperparams["learning_rate"] == grid["learning_rate"][np.argmax(means)]
    assert means.max() > means[0] + 0.1  # the smallest rate learns nothing
    assert result.best.hyperparams["learning_rate"] > 1e-4
    keys = jax.vmap(jax.random.key)(jnp.arange(4))
    rates = {"learning_rate": jnp.asarray(grid["learning_rate"], jnp.float32)}
    truth = jax.jit(jax.vmap(jax.vmap(ppo, (None, 0)), (0, None)))(rates, keys)
    early = result.curves["return"][..., :2]
    np.testing.assert_allclose(early, truth["return"][..., :2], rtol=1e-3)
