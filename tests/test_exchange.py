"""Lanes that exchange states and rates between segments."""

import dataclasses

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax
from lrax.sweeps.engine import cache
from lrax.sweeps.exchange_loop import _moved as moved
from lrax.sweeps.exchanging import Answer

TASK = problems.regression()
RATES = [0.01, 0.1, 0.3, 1.0]


class Nothing:
    def move(self, record, rng):
        return lrax.Move({})


class Told:
    """A rule that answers with what it is given."""

    def __init__(self, **move):
        self._move = {"hyperparams": {}, **move}

    def move(self, record, rng):
        return lrax.Move(**self._move)


def exchanged(rule, rates=RATES, task=TASK, optimizer=optax.sgd, **options):
    call = {"steps": 40, "every": 10, "seeds": 2, **options}
    return lrax.sweep_exchange(task, optimizer, rates, exchange=rule, **call)


def population(rates, losses, every=1):
    """A record of segments: rates and losses `[segments, points, seeds]`."""
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    curves = np.repeat(np.moveaxis(losses, 0, -1), every, axis=-1)
    done = every * len(rates)
    finite = np.where(np.isfinite(losses), losses, np.inf)
    return lrax.Population(
        curves, np.moveaxis(finite, 0, -1), {"lr": rates}, "lr", every, done, 2 * done
    )


def random(seed=0):
    return np.random.default_rng(seed)


def cosine(rate):
    return optax.sgd(lrax.cosine(rate, 40))


@pytest.mark.parametrize("optimizer", [optax.sgd, cosine], ids=["sgd", "cosine"])
def test_nothing_to_exchange_is_the_plain_sweep_to_the_bit(optimizer):
    """The count of a schedule goes on too."""
    name = "learning_rate" if optimizer is optax.sgd else "rate"
    plain = lrax.sweep(TASK, optimizer, {name: RATES}, steps=40, seeds=2, stop=None)
    same = exchanged(Nothing(), {name: RATES}, optimizer=optimizer, every=13)
    np.testing.assert_array_equal(same.losses, plain.losses)
    np.testing.assert_array_equal(same.metrics["val_loss"], plain.metrics["val_loss"])
    np.testing.assert_array_equal(same.rates, np.broadcast_to(np.c_[RATES], (4, 4, 1)).repeat(2, 2))
    np.testing.assert_array_equal(same.ancestors, same.source)
    assert not same.back.any()
    # Later segments, and later calls, find the programs compiled.
    programs = len(cache._entries)
    again = exchanged(lrax.PopulationBasedTraining(), {name: RATES}, optimizer=optimizer, every=5)
    assert len(cache._entries) == programs
    assert np.isfinite(again.values).any()


def test_states_and_rates_come_from_where_the_rule_says():
    source = np.tile([[2], [1], [2], [1]], 2)
    rates = {"learning_rate": np.full((4, 2), 0.1)}
    found = exchanged(Told(hyperparams=rates, source=source))
    # The same state, rate and batches: the same losses from there on.
    np.testing.assert_array_equal(found.losses[0, :, 10:], found.losses[2, :, 10:])
    np.testing.assert_array_equal(found.losses[1, :, 10:], found.losses[3, :, 10:])
    assert np.any(found.losses[0, :, :10] != found.losses[2, :, :10])
    assert found.ancestors[:, 0, 0].tolist() == [2, 2, 2, 2]
    point, seed = found.best_lane
    loss = TASK.evaluate(found.best.params)["val_loss"]
    np.testing.assert_allclose(loss, found.metrics["val_loss"][point, seed], rtol=1e-5, atol=1e-9)
    assert found.best_rates.tolist() == [
        found.rates[0, found.ancestors[0, point, seed], 0],
        *[0.1] * 3,
    ]


@pytest.mark.parametrize("back", [1, 2])
def test_a_lane_takes_a_state_of_another_lane_from_segments_ago(back):
    source = np.tile([[2], [1], [3], [0]], 2)

    class Last:
        def move(self, record, rng):
            at_end = record.done == record.steps
            return lrax.Move({}, source, np.full((4, 2), back)) if at_end else lrax.Move({})

    found = exchanged(Last())
    before = exchanged(Nothing(), steps=40 - 10 * back)
    for name, values in before.metrics.items():
        np.testing.assert_array_equal(found.metrics[name], values[source[:, 0]])
    undone = [-1] * back
    assert found.ancestors[:, 0, 0].tolist() == [*[2] * (4 - back), *undone]
    assert found.ancestors[:, 2, 1].tolist() == [*[3] * (4 - back), *undone]


def test_the_same_call_gives_the_same_bits():
    first, second = (exchanged(lrax.PopulationBasedTraining()) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)
    np.testing.assert_array_equal(first.rates, second.rates)
    other = exchanged(lrax.PopulationBasedTraining(), key=jax.random.key(1))
    assert np.any(first.rates != other.rates)


def test_pbt_moves_the_rates_to_the_best_and_saves_the_worst():
    rates = [1e-4, 1e-3, 3e-3, 1e-2, 0.1, 1e3]
    fixed = exchanged(Nothing(), rates, objective="val_loss")
    found = exchanged(lrax.PopulationBasedTraining(), rates, objective="val_loss")
    assert np.all(fixed.values[4] == np.nanmin(fixed.values, axis=0))
    worst = np.nanmax(np.where(np.isfinite(fixed.values), fixed.values, np.nan), axis=0)
    assert np.all(found.values < worst)
    assert not np.isfinite(fixed.values[5]).any()
    distance = lambda rates: np.abs(np.log(rates / 0.1)).mean()
    assert distance(found.rates[-1]) < distance(found.rates[0])


def test_pbt_replaces_the_last_by_the_first_and_perturbs_the_copy():
    scores = [[3.0], [1.0], [2.0], [np.nan], [5.0], [4.0], [6.0], [7.0]]
    move = lrax.PopulationBasedTraining(quantile=0.25).move(
        population([np.arange(1.0, 9)[:, None]], [scores]), random()
    )
    kept = [0, 1, 2, 4, 5]  # 3 has diverged, 6 and 7 are the last quarter with it
    assert [i for i in range(8) if move.source[i, 0] == i] == [*kept, 6]
    assert set(move.source[[3, 7], 0]) <= {1, 2}
    ratios = move.hyperparams["lr"][:, 0] / (1 + move.source[:, 0])
    assert all(np.isclose(ratio, [0.8, 1.25]).any() for ratio in ratios[[3, 7]])
    assert np.all(ratios[[*kept, 6]] == 1)
    lost = lrax.PopulationBasedTraining().move(
        population([[[1.0], [2.0]]], [[[np.nan], [np.nan]]]), random()
    )
    assert lost.source[:, 0].tolist() == [0, 1]


def test_fan_out_follows_the_formulas_of_the_paper():
    rule = lrax.FanOut(spread=0.3, step=0.7, momentum=0.8, temperature=0.5, decay=0.1)
    rates = random(1).uniform(0.1, 1.0, (3, 5, 2))
    losses = random(2).uniform(0.5, 2.0, (3, 5, 2))
    move = rule.move(population(rates, losses), random())
    velocity = np.zeros(2)
    for eta, loss in zip(rates, losses, strict=True):
        weights = np.exp((loss.mean(axis=0) - loss) / 0.5)
        weights /= weights.sum(axis=0)
        base = eta.mean(axis=0)
        velocity = 0.8 * velocity + 0.2 * ((weights * eta).sum(axis=0) - base)
    base = 0.9 * base + 0.7 * velocity
    multipliers = [1 + 0.3 * (r - 2) / 2 for r in range(5)]
    expected = base * np.array(multipliers)[:, None]
    np.testing.assert_allclose(np.sort(move.hyperparams["lr"], axis=0), expected, rtol=1e-12)
    np.testing.assert_allclose(rule.fan(2.0, 5), 2 * np.array(multipliers))
    np.testing.assert_allclose(rule.fan(2.0, 1), 2.0)
    # A lane that is not finite has no weight, and no part in the mean.
    losses[-1, 0] = np.nan
    move = rule.move(population(rates, losses), random())
    assert np.isfinite(move.hyperparams["lr"]).all()
    assert not move.averaged[0].any()
    assert np.all(move.averaged[1:])
    assert np.all(move.source[0] == np.argmin(losses[-1, 1:], axis=0) + 1)


def test_lanes_converge_to_their_mean_and_the_base_rate_rises_if_higher_is_better():
    rates = [0.01, 0.1, 0.2, 0.3]
    one = exchanged(Nothing(), rates, steps=10)
    many = exchanged(lrax.FanOut(), rates, steps=10)
    assert np.ptp(many.metrics["val_loss"], axis=0).max() == 0
    assert np.all(many.values < one.values.max(axis=0))

    def end(points):
        """The parameters of every lane, as the mean of some points."""
        averaged = np.isin(np.arange(4), points)[:, None]
        rule = Told(averaged=averaged)
        return exchanged(rule, rates, steps=10, seeds=1).best.params["w"]

    ends = [end([point]) for point in range(4)]
    np.testing.assert_allclose(end(range(4)), np.mean(ends, axis=0), rtol=1e-5)
    base = exchanged(lrax.FanOut(spread=0.5), [0.01, 0.02, 0.03, 0.04]).rates.mean(axis=1)
    assert np.all(np.diff(base, axis=0) > 0)


def test_the_mean_of_complex_parameters_is_complex():
    own = np.arange(2)[:, None]
    move = Answer({}, own, np.zeros_like(own), averaged=np.ones((2, 1), bool))
    params = np.array([[1 + 1j], [3 - 3j]], np.complex64)
    assert moved([params], move, averages=True).ravel().tolist() == [2 - 1j] * 2


def test_rollback_saves_the_lane_that_spiked_and_touches_no_other():
    rates = [0.01, 0.1, 100.0, 0.05]
    fixed = exchanged(Nothing(), rates)
    found = exchanged(lrax.Rollback(back_off=0.01), rates)
    np.testing.assert_array_equal(found.losses[[0, 1, 3]], fixed.losses[[0, 1, 3]])
    assert not np.isfinite(fixed.values[2]).any()
    assert np.isfinite(found.values[2]).all()
    assert found.back[0, 2].all()
    assert not found.back[:, [0, 1, 3]].any()
    np.testing.assert_allclose(found.rates[1, 2], 1.0)
    assert found.ancestors[0, 2].tolist() == [-1, -1]
    # It went back to where it began.
    start = TASK.init(jax.random.split(jax.random.key(0))[0])
    assert jax.tree.structure(start) == jax.tree.structure(found.best.params)
    losses = found.losses[2, :, 10], fixed.losses[0, :, 10]
    assert np.all(losses[0] > losses[1])


def momentum(rate):
    return optax.sgd(rate, momentum=0.9)


def test_a_few_bad_batches_cost_a_lane_one_segment():
    """Three batches of digits with inputs thirty times too large, at updates 100 to 102."""
    digits = lrax.tasks.digits()
    data = digits.batch.arrays

    def batch(step, key):
        rows = jax.random.randint(key, (32,), 0, len(data["targets"]))
        scale = jnp.where((step >= 100) & (step < 103), 30.0, 1.0)
        return {
            "inputs": scale * jnp.asarray(data["inputs"])[rows],
            "targets": jnp.asarray(data["targets"])[rows],
        }

    task = dataclasses.replace(digits, batch=batch)
    call = dict(optimizer=momentum, steps=180, every=30, objective="val_loss")
    rates = [0.001, 0.003, 0.1]
    plain = exchanged(Nothing(), rates, task, **call)
    found = exchanged(lrax.Rollback(), rates, task, **call)
    # The lanes with low rates forget the bad batches before their segment ends.
    assert np.all(plain.losses[:, :, 100] > 1.5 * plain.losses[:, :, 99])
    np.testing.assert_array_equal(found.losses[:2], plain.losses[:2])
    np.testing.assert_array_equal(found.values[:2], plain.values[:2])
    assert not found.back[:, :2].any()
    # The other one goes back once, to before the bad batches, and goes on with those after them.
    np.testing.assert_array_equal(found.losses[2, :, :120], plain.losses[2, :, :120])
    assert found.back[:, 2].tolist() == [[0, 0], [0, 0], [0, 0], [1, 1], [0, 0], [0, 0]]
    np.testing.assert_array_equal(found.rates[:, 2], [[0.1] * 2] * 4 + [[0.05] * 2] * 2)
    assert found.ancestors[:, 2, 0].tolist() == [2, 2, 2, -1, 2, 2]
    healthy = plain.losses[2, :, 60:90].mean(axis=-1)
    assert np.all(found.losses[2, :, 120:].mean(axis=-1) < healthy)
    assert np.all(plain.losses[2, :, 120:].mean(axis=-1) > 4 * healthy)
    assert np.all(found.values[2] < plain.values[2])


def test_damage_that_shows_a_segment_later_is_undone_as_well():
    """The last update of the second segment is ruined by its gradient; its loss shows nothing."""

    def kicked(params, batch):
        total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params))
        kick = jnp.where(batch["step"] == 39, 1e4, 0.0)
        loss = problems.squared_error(params, batch)
        return loss + kick * (total - jax.lax.stop_gradient(total))

    def batch(step, key):
        return {**problems.drawn(key), "step": step}

    task = problems.regression(loss=kicked, batch=batch)
    call = dict(steps=160, every=20, objective="val_loss")
    plain = exchanged(Nothing(), [1e-8, 0.02], task, **call)
    found = exchanged(lrax.Rollback(), [1e-8, 0.02], task, **call)
    np.testing.assert_array_equal(found.losses[0], plain.losses[0])
    # After one segment back it is still ruined, after two it is not.
    assert found.back[:, 1].tolist() == [[0, 0], [0, 0], [1, 1], [2, 2], *[[0, 0]] * 4]
    assert found.ancestors[:, 1, 0].tolist() == [1, -1, -1, -1, 1, 1, 1, 1]
    np.testing.assert_array_equal(found.rates[-1, 1], 0.005)
    after = found.losses[1, :, 80:90].mean(axis=-1)
    assert np.all(after < 2 * plain.losses[1, :, 20:30].mean(axis=-1))
    assert np.all(found.losses[1, :, 60] > 1e3 * after)
    assert np.all(found.values[1] < 0.1 * plain.values[1])


@pytest.mark.parametrize(
    ("losses", "spiked"),
    [
        ([1.0, 1.0, 3.9], False),
        ([1.0, 1.0, 4.1], True),
        ([1.0, np.nan, 1.0], False),
        ([1.0, 2.0, np.nan], True),
        ([-1.0, -2.0, 3.9], False),
        ([-1.0, -2.0, 4.1], True),
    ],
)
def test_a_spike_is_a_rise_above_the_least_loss(losses, spiked):
    record = population(np.ones((3, 1, 1)), np.reshape(losses, (3, 1, 1)), every=10)
    move = lrax.Rollback().move(record, random())
    assert move.back.item() == spiked
    assert move.hyperparams["lr"].item() == (0.5 if spiked else 1.0)


@pytest.mark.parametrize(
    ("move", "message"),
    [
        ({"hyperparams": {"rate": 1.0}}, "change hyperparameters of the grid"),
        ({"hyperparams": {"learning_rate": np.ones(4)}}, "return finite values of 'learning_rate'"),
        ({"source": np.full((4, 2), 4)}, "return sources from 0 to 3"),
        ({"back": np.ones((4, 2), bool)}, "return whole numbers `back` from 0 to 2"),
        ({"back": np.full((4, 2), 3)}, "return whole numbers `back` from 0 to 2"),
        ({"averaged": np.ones((4, 2))}, "return a mask `averaged`"),
    ],
)
def test_a_rule_that_answers_nonsense_is_named(move, message):
    with pytest.raises(ValueError, match=f"`exchange` must {message}"):
        exchanged(Told(**move))


def test_bad_calls_are_named():
    with pytest.raises(TypeError, match=r"`exchange` must be lrax\.PopulationBasedTraining"):
        exchanged(lrax.PopulationBasedTraining)
    with pytest.raises(ValueError, match=r"`every` must be .*40"):
        exchanged(lrax.PopulationBasedTraining(), every=41)
    with pytest.raises(ValueError, match="`name` must be one of"):
        exchanged(lrax.PopulationBasedTraining(), name="momentum")


def test_choices_are_copied_and_only_the_rate_is_perturbed():
    schedules = [lrax.constant(1.0), lrax.linear(1.0, 0.0, 40)]
    optimizer = lambda schedule, rate: optax.sgd(schedule * rate)
    grid = {"schedule": schedules, "rate": [1e-4, 0.1]}
    found = exchanged(lrax.PopulationBasedTraining(), grid, optimizer=optimizer)
    assert found.name == "rate"
    assert set(np.unique(found.hyperparams["schedule"])) <= {0.0, 1.0}
    assert found.best.hyperparams["schedule"] in schedules
    assert jnp.isfinite(found.values).all()


@pytest.mark.parametrize("index", [2.0, -1.0, 0.5])
def test_a_choice_that_does_not_exist_is_named(index):
    schedules = [lrax.constant(1.0), lrax.linear(1.0, 0.0, 40)]
    optimizer = lambda schedule, rate: optax.sgd(schedule * rate)
    rule = Told(hyperparams={"schedule": np.full((4, 2), index)})  # 2 schedules x 2 rates
    with pytest.raises(ValueError, match=r"indices from 0 to 1 of the choices of 'schedule'"):
        exchanged(rule, {"schedule": schedules, "rate": [1e-4, 0.1]}, optimizer=optimizer)
