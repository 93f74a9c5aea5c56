"""What can be swept beside numbers: schedules, functions of the count, pytrees, a task's settings."""

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax

TASK = problems.regression()
KEY = jax.random.key(0)
SHAPES = [lrax.warmup_cosine(0.3, 12, 3), lrax.wsd(0.3, 12, 3, 4), lrax.warmup_linear(0.3, 12, 3)]


def sgd(schedule):
    return lrax.scale_by_lr(schedule)


def swept(optimizer, grid, task=TASK, **options):
    return lrax.sweep(task, optimizer, grid, **{"steps": 12, "seeds": 2, **options})


def test_a_list_of_schedules_is_an_axis_of_one_program():
    result = swept(sgd, {"schedule": SHAPES}, monitors=[lrax.monitors.learning_rate])
    for i, schedule in enumerate(SHAPES):
        alone = lrax.train(TASK, lambda schedule=schedule: sgd(schedule), steps=12)({}, KEY)
        np.testing.assert_allclose(result.losses[i, 0], alone.losses, rtol=1e-5)
        rates = result.monitors["learning_rate"][i, 0]
        np.testing.assert_allclose(rates, schedule.values(12), rtol=1e-6)
    assert result.labels["schedule"] == ["warmup_cosine", "wsd", "warmup_linear"]
    assert all(name in result.table() for name in result.labels["schedule"])
    best = result.best.hyperparams["schedule"]
    assert best is SHAPES[int(result.hyperparams["schedule"][result.ranking[0]])]


def test_functions_of_the_count_and_schedules_share_an_axis():
    by_hand = lambda count: 0.3 * 0.9**count
    shapes = [SHAPES[0], by_hand, optax.cosine_decay_schedule(0.3, 12)]
    result = swept(sgd, {"schedule": shapes})
    for i, schedule in enumerate(shapes):
        alone = lrax.train(TASK, lambda schedule=schedule: sgd(schedule), steps=12)({}, KEY)
        np.testing.assert_allclose(result.losses[i, 0], alone.losses, rtol=1e-5)


def test_a_schedule_with_lanes_is_an_axis():
    result = swept(sgd, {"schedule": lrax.stack(SHAPES)})
    listed = swept(sgd, {"schedule": SHAPES})
    np.testing.assert_allclose(result.losses, listed.losses, rtol=1e-6)
    peaks = lrax.linear(np.array([0.1, 0.3]), 0.0, 12)
    lanes = swept(sgd, {"schedule": peaks})
    one = swept(lambda peak: sgd(lrax.linear(peak, 0.0, 12)), {"peak": [0.1, 0.3]})
    np.testing.assert_allclose(lanes.losses, one.losses, rtol=1e-5)


def test_choices_and_numbers_make_a_product():
    def optimizer(schedule, momentum):
        return optax.chain(optax.trace(momentum), lrax.scale_by_lr(schedule))

    result = swept(optimizer, {"schedule": SHAPES[:2], "momentum": [0.1, 0.9]})
    assert result.hyperparams["momentum"].tolist() == [0.1, 0.9] * 2
    alone = lrax.train(TASK, lambda: optimizer(SHAPES[1], 0.9), steps=12)({}, jax.random.key(1))
    np.testing.assert_allclose(result.losses[3, 1], alone.losses, rtol=1e-5)
    assert result.optimum("momentum").at_edge in ("low", "high")


def test_pytrees_of_one_structure_are_an_axis():
    tables = [{"w": 1.0, "b": 0.1}, {"w": 0.5, "b": 1.0}]

    def optimizer(factors):
        return optax.chain(lrax.scale_by_multipliers(factors), optax.sgd(0.1))

    result = swept(optimizer, {"factors": tables})
    for i, table in enumerate(tables):
        alone = lrax.train(TASK, lambda table=table: optimizer(table), steps=12)({}, KEY)
        np.testing.assert_allclose(result.losses[i, 0], alone.losses, rtol=1e-5)
    assert result.best.hyperparams["factors"] in tables


@pytest.mark.parametrize(
    ("axis", "error", "message"),
    [
        (["adam", "sgd"], TypeError, r"`grid\['schedule'\]` must hold numbers.*lrax.sweep_over"),
        ([True, False], TypeError, r"`grid\['schedule'\]` must hold numbers.*lrax.sweep_over"),
        ([optax.sgd(0.1), optax.adam(0.1)], TypeError, "lrax.sweep_over"),
        ([{"w": 1.0}, {"w": 1.0, "b": 2.0}], ValueError, "pytrees of one structure.*sweep_over"),
        ([{"w": [1.0]}, {"w": [1.0, 2.0]}], ValueError, "pytrees of one structure"),
        ([{"w": "a"}, {"w": "b"}], TypeError, r"`grid\['schedule'\]` must be a real number"),
        ([None, None], TypeError, r"`grid\['schedule'\]` must hold numbers"),
        ([], ValueError, r"`grid\['schedule'\]` must be a number or a list of them"),
    ],
)
def test_what_changes_the_program_is_refused_with_the_call_that_serves(axis, error, message):
    with pytest.raises(error, match=message):
        swept(sgd, {"schedule": axis})


def smoothed(scale, offset=0.0):
    """A task whose initial parameters and loss depend on hyperparameters."""
    init = lambda key: jax.tree.map(lambda leaf: scale * leaf, problems.init(key))
    loss = lambda params, batch: problems.squared_error(params, batch) + offset
    return problems.regression(init=init, loss=loss)


def test_a_task_may_be_a_function_of_hyperparameters():
    grid = {"learning_rate": [0.01, 0.1], "scale": [0.5, 2.0], "offset": [0.0, 3.0]}
    result = swept(optax.sgd, grid, task=smoothed, objective="val_loss")
    for point in (0, 3, 6):
        values = {name: float(column[point]) for name, column in result.hyperparams.items()}
        task = smoothed(values["scale"], values["offset"])
        alone = lrax.train(task, optax.sgd, steps=12)(values["learning_rate"], jax.random.key(1))
        np.testing.assert_allclose(result.losses[point, 1], alone.losses, rtol=1e-5)
        found = result.metrics["val_loss"][point, 1]
        np.testing.assert_allclose(found, alone.metrics["val_loss"], rtol=1e-4)
    # The same function of train takes both sorts of names.
    train = lrax.train(smoothed, optax.sgd, steps=12)
    again = train({"learning_rate": 0.1, "scale": 2.0, "offset": 3.0}, jax.random.key(1))
    np.testing.assert_allclose(again.losses, result.losses[7, 1], rtol=1e-5)


def test_a_tasks_settings_are_swept_without_compiling_anew():
    calls = []

    def counted(scale):
        calls.append(scale)
        return smoothed(scale)

    rates = lambda rate: optax.sgd(rate)
    swept(rates, {"rate": [0.1], "scale": [1.0, 2.0, 3.0]}, task=counted)
    traced = len(calls)
    swept(rates, {"rate": [0.2], "scale": [4.0, 5.0, 6.0]}, task=counted)
    assert len(calls) == traced + 1  # once with numbers, for the data; the programs are there


def test_a_name_goes_where_it_is_a_parameter_and_others_are_refused():
    with pytest.raises(
        ValueError, match=r"must name parameters of the optimizer or the task's fun"
    ):
        swept(optax.sgd, {"learning_rate": [0.1], "scale": [1.0], "width": [3]}, task=smoothed)
    with pytest.raises(ValueError, match=r"every parameter of the task's function.*\['scale'\]"):
        swept(optax.sgd, {"learning_rate": [0.1]}, task=smoothed)
    with pytest.raises(
        TypeError, match=r"`task` must be a lrax\.Task or a function that returns one"
    ):
        swept(optax.sgd, {"learning_rate": [0.1], "scale": [1.0]}, task=lambda scale: scale)


def test_an_if_on_a_swept_number_is_explained():
    def optimizer(rate):
        return optax.sgd(rate if rate > 0.1 else 0.1)

    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        swept(optimizer, {"rate": [0.1, 0.2]})
    notes = "".join(caught.value.__notes__)
    assert "tracers" in notes
    assert "lrax.sweep_over" in notes


def test_a_sweep_is_refused_inside_jit_and_without_it():
    with pytest.raises(ValueError, match=r"must not be called inside `jax\.jit`"):
        jax.jit(lambda rate: swept(optax.sgd, [0.1]).losses)(0.1)
    with jax.disable_jit(), pytest.raises(ValueError, match=r"cannot run under `jax\.disable_jit`"):
        swept(optax.sgd, [0.1])


def test_raw_keys_are_refused_and_not_read_as_seeds():
    with pytest.raises(TypeError, match=r"use `jax\.random\.key` in place of"):
        swept(optax.sgd, [0.1], seeds=jax.random.PRNGKey(5))


def test_saved_results_keep_the_choices(tmp_path):
    result = swept(sgd, {"schedule": SHAPES})
    result.save(tmp_path / "r")
    loaded = lrax.SweepResult.load(tmp_path / "r.npz")
    assert loaded.labels == result.labels
    assert loaded.table() == result.table()
    jnp.asarray(loaded.losses)
