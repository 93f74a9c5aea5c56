"""`Forecast`: what it predicts, and that it keeps slow points that end best."""

import numpy as np
import optax
import problems
import pytest

import lrax
from lrax.sweeps.forecast import forecasts

STEPS = 900
POINTS = 24
RATES = np.geomspace(1e-3, 0.1, POINTS)


def cosine(learning_rate):
    return lrax.cosine(learning_rate, STEPS)


RULE = lrax.Forecast(cosine)
WAYS = np.stack([np.asarray(cosine(rate).values(STEPS), np.float64) for rate in RATES])


def overfitting(seeds=2, noise=0.0):
    """A loss of the way that falls and rises again: high rates are far along it."""
    way = np.log(np.cumsum(WAYS, axis=1))
    losses = 0.3 + 0.1 * (way - np.log(2.0)) ** 2
    rng = np.random.default_rng(0)
    return losses[:, None] * np.exp(noise * rng.normal(size=(POINTS, seeds, STEPS)))


def evidence(losses, done, **changed):
    fields = dict(
        losses=losses[..., :done],
        objective=losses[..., :done],
        hyperparams={"learning_rate": RATES},
        monitors={},
        done=done,
        steps=STEPS,
        alive=np.ones(len(losses), bool),
        look=0,
        rates=WAYS,
    )
    return lrax.Evidence(**{**fields, **changed})


def stopped(rule, losses):
    """The points that a rule leaves, and its share of the work."""
    alive, work, before = np.ones(len(losses), bool), 0, 0
    for look, done in enumerate(rule.looks(STEPS)):
        work, before = work + alive.sum() * (done - before), done
        seen = np.where(alive[:, None, None], losses, np.nan)
        alive = alive & rule.keep(evidence(seen, done, alive=alive, look=look))
    return alive, (work + alive.sum() * (STEPS - before)) / losses[..., 0].size * losses.shape[
        1
    ] / STEPS


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_slow_points_that_end_best_are_kept_where_halving_loses_them(noise):
    losses = overfitting(noise=noise)
    best = int(np.argmin(losses[..., -90:].mean(axis=(1, 2))))
    halved, _ = stopped(lrax.Halving(), losses)
    assert not halved[best]
    left, work = stopped(RULE, losses)
    assert left[best]
    assert work < 0.4


def test_the_change_of_slow_points_is_foretold():
    losses, done = overfitting(), 225
    now, then = forecasts(evidence(losses, done))
    slow = RATES < 0.02  # some faster point has gone as far as they will go
    ends = np.log(losses[:, 0, -1])
    falling = slow & (ends < now - 0.05)
    assert falling.sum() > 8
    np.testing.assert_allclose(then[falling], ends[falling], atol=0.05)
    np.testing.assert_allclose(now, np.log(losses[:, 0, done - 1]), atol=0.1)


def test_evaluations_tell_as_much_as_losses():
    losses, at = overfitting(), np.array([5, 10, 20, 40, 80, 120, 160, 200, 225])
    given = evidence(losses, 225, objective=losses[..., at - 1], objective_at=at)
    told = forecasts(given)[1]
    np.testing.assert_allclose(told, forecasts(evidence(losses, 225))[1], atol=0.15)


def test_noise_counts_for_less_where_the_rate_will_fall():
    losses = overfitting()
    constant = np.repeat(RATES[:, None], STEPS, axis=1)
    fast = RATES > 0.05
    _, falling = forecasts(evidence(losses, 300))
    _, held = forecasts(evidence(losses, 300, rates=constant))
    assert np.all(falling[fast] < held[fast])


def test_the_order_of_points_does_not_matter():
    losses, order = overfitting(noise=0.1), np.random.default_rng(1).permutation(POINTS)
    kept = RULE.keep(evidence(losses, 225))
    given = evidence(losses[order], 225, rates=WAYS[order], hyperparams={"x": RATES[order]})
    np.testing.assert_array_equal(RULE.keep(given), kept[order])


def test_diverged_points_are_dropped_and_some_point_goes_on():
    losses = overfitting()
    losses[3, 0, 50] = np.nan
    losses[4, 1, 60] = np.inf
    kept = RULE.keep(evidence(losses, 225))
    assert not kept[3]
    assert not kept[4]
    losses[:, 0, 70] = np.nan
    assert RULE.keep(evidence(losses, 225)).any()
    returns = -overfitting()  # losses that are not positive have no logarithm
    assert RULE.keep(evidence(returns, 225)).any()


def test_what_the_rule_must_be():
    assert lrax.Forecast(cosine) == RULE
    assert repr(RULE) == f"Forecast(rates={__name__}.cosine, first={1 / 9}, share=0.7)"
    for bad in (None, 0.1, "cosine"):
        with pytest.raises(TypeError, match="`rates` must be a function"):
            lrax.Forecast(bad)
    with pytest.raises(ValueError, match="`record` must have the `rates`"):
        RULE.keep(evidence(overfitting(), 225, rates=None))
    for steps in (1, 2, 10, 10**9):
        looks = RULE.looks(steps)
        assert list(looks) == sorted(set(looks))
        assert all(0 < look < steps for look in looks)
        assert len(looks) < 16


def test_a_sweep_stops_by_forecast():
    rates = lambda learning_rate: lrax.cosine(learning_rate, 90)
    sgd = lambda learning_rate: optax.sgd(rates(learning_rate))
    options = dict(steps=90, seeds=2, objective="val_loss", stop=lrax.Forecast(rates))
    grid = lrax.log_grid(1e-3, 1.0, 12)
    whole = lrax.sweep(problems.regression(), sgd, grid, **options)
    full = lrax.sweep(problems.regression(), sgd, grid, **{**options, "stop": None})
    assert whole.best.hyperparams == full.best.hyperparams
    assert 2 <= np.sum(whole.stopped_at == 90) <= 6
    assert np.sum(whole.stopped_at) < 0.5 * 12 * 90


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 10])
def test_a_sweep_of_digits_keeps_the_best_rate_at_two_fifths_of_the_work(seed):
    rates = lambda learning_rate: lrax.warmup_cosine(learning_rate, 300, 15)
    adam = lambda learning_rate: optax.adam(rates(learning_rate))
    options = dict(steps=300, seeds=[seed, seed + 1], objective="val_loss", progress=False)
    grid = lrax.log_grid(1e-5, 1.0, 24)
    task = lrax.tasks.digits()
    full = lrax.sweep(task, adam, grid, stop=None, **options)
    told = lrax.sweep(task, adam, grid, stop=lrax.Forecast(rates), **options)
    assert told.best.hyperparams == full.best.hyperparams
    assert np.sum(told.stopped_at) <= 0.4 * 24 * 300


def test_rates_that_are_no_schedules_are_named():
    with pytest.raises(TypeError, match=r"`stop` must have `rates` return a schedule.*got 0\.1"):
        lrax.sweep(
            lrax.tasks.diabetes(), optax.adam, [0.1], steps=8, stop=lrax.Forecast(lambda **p: 0.1)
        )
