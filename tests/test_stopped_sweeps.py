"""Points that are stopped early keep what they have, and change nothing for the others."""

import time

import numpy as np
import optax
import problems
import pytest

import lrax
from lrax.sweeps.engine import chunks, loop as running
from lrax.sweeps.engine.loop import LOOK_STEPS, LOOKS

TASK = problems.regression()
RATES = lrax.log_grid(1e-5, 10.0, 24)
STEPS = 90


def swept(**options):
    defaults = dict(steps=STEPS, seeds=2, objective="val_loss", stop=lrax.Halving())
    return lrax.sweep(TASK, optax.adam, RATES, **{**defaults, **options})


@pytest.fixture(scope="module")
def full():
    return swept(stop=None)


@pytest.fixture(scope="module")
def halved():
    return swept()


def assert_same(result, wanted):
    for name in ("losses", "status", "stopped_at", "evaluated_at"):
        np.testing.assert_array_equal(getattr(result, name), getattr(wanted, name))
    for name, values in wanted.metrics.items():
        np.testing.assert_array_equal(result.metrics[name], values)


def test_survivors_are_those_of_the_full_grid(full, halved):
    survived = halved.stopped_at == STEPS
    assert 3 <= survived.sum() < 12
    assert halved.best.hyperparams == full.best.hyperparams
    np.testing.assert_allclose(halved.losses[survived], full.losses[survived], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        halved.metrics["val_loss"][survived], full.metrics["val_loss"][survived], rtol=1e-4
    )
    assert halved.status[survived].tolist() == full.status[survived].tolist()
    np.testing.assert_allclose(halved.best.params["w"], full.best.params["w"], rtol=1e-5)


def test_a_pruned_point_keeps_its_curve_status_and_metrics(full, halved):
    for at in lrax.Halving().looks(STEPS):
        here = halved.stopped_at == at
        assert here.any()
        np.testing.assert_allclose(
            halved.losses[here, :, :at], full.losses[here, :, :at], rtol=1e-5
        )
        assert np.isnan(halved.losses[here, :, at:]).all()
        assert np.isfinite(halved.metrics["val_loss"][here]).all()
        assert set(halved.status[here].ravel()) <= {"pruned", "diverged"}
    assert halved.evaluated_at.tolist() == list(lrax.Halving().looks(STEPS))
    assert np.isinf(halved.scores[halved.stopped_at < STEPS]).all()
    first = halved.ranking[: int((halved.stopped_at == STEPS).sum())]
    assert np.all(halved.stopped_at[first] == STEPS)
    assert "pruned" in halved.table()
    assert halved.optimum().at_edge is None
    assert halved.plot() is not None


def test_fewer_lanes_are_trained(monkeypatch):
    cells = []
    train = chunks.Chunks.train

    def counted(self, first, count):
        cells.append(count * self.layout.cells)
        return train(self, first, count)

    monkeypatch.setattr(chunks.Chunks, "train", counted)
    swept(steps=900)
    assert sum(cells) < 0.6 * 900 * 2 * len(RATES)


def test_the_hosts_work_does_not_count_as_time_of_a_segment(monkeypatch):
    ended, begun = [0.0], []
    length = running.next_length

    def timed(name):
        work = getattr(running.Loop, name)

        def call(self):
            work(self)
            ended.append(time.perf_counter())

        monkeypatch.setattr(running.Loop, name, call)

    def measured(lanes, count, last, took):
        begun.append((time.perf_counter() - took, ended[-1]))
        return length(lanes, count, last, took)

    timed("_evaluate")
    timed("_look")
    monkeypatch.setattr(running, "next_length", measured)
    swept(eval_every=20)
    assert len(ended) > 5
    assert all(since >= work for since, work in begun)


def test_survivors_that_fill_half_a_chunk_move_to_smaller_ones(full):
    result = swept(execution="vmap")
    assert "points are left, in smaller chunks" in result.explain()
    survived = result.stopped_at == STEPS
    np.testing.assert_allclose(result.losses[survived], full.losses[survived], rtol=1e-5, atol=1e-6)


def constant(learning_rate):
    return lrax.constant(learning_rate)


RULES = [
    *(lrax.Halving(eta=2, first=0.1), lrax.Median(), "diverged"),
    lrax.Forecast(constant, first=0.2),
]


@pytest.mark.parametrize(
    ("rng", "rule"),
    [
        *(("common", rule) for rule in RULES),
        ("independent", RULES[0]),
        *(pytest.param("independent", rule, marks=pytest.mark.slow) for rule in RULES[1:]),
    ],
)
def test_it_goes_on_after_an_interruption_to_the_same_bits(rule, rng, tmp_path):
    options = dict(stop=rule, rng=rng, checkpoint_every=0)
    whole = swept(**options)
    for _ in range(60):
        part = swept(budget=0, checkpoint=tmp_path / "sweep", **options)
        if part.losses.shape[-1] > STEPS // 3:
            break
    assert_same(swept(checkpoint=tmp_path / "sweep", **options), whole)
    with pytest.raises(ValueError, match="stop: "):
        swept(checkpoint=tmp_path / "sweep", **{**options, "stop": None})


def test_diverged_points_leave_and_change_no_bit_of_the_others():
    steps = LOOKS * LOOK_STEPS
    rates = np.concatenate([np.full(8, np.nan), lrax.log_grid(1e-3, 1e-1, 8)])
    options = dict(steps=steps, seeds=2, execution=8)
    events = []
    result = lrax.sweep(
        TASK, optax.adam, rates, **options, on_event=lambda *event: events.append(event)
    )
    kept = lrax.sweep(TASK, optax.adam, rates, stop=None, **options)
    np.testing.assert_array_equal(result.losses, kept.losses)
    assert result.stopped_at.tolist() == [LOOK_STEPS] * 8 + [steps] * 8
    np.testing.assert_array_equal(result.status, kept.status)
    assert [facts["stopped"] for kind, facts in events if kind == "stop"] == [list(range(8))]


def test_when_all_have_diverged_it_ends():
    steps = LOOKS * LOOK_STEPS
    events = []
    result = lrax.sweep(
        TASK,
        optax.sgd,
        [np.nan, np.inf],
        steps=steps,
        on_event=lambda kind, facts: events.append((kind, facts)),
    )
    assert result.losses.shape == (2, 1, steps)
    assert np.all(result.status == "diverged")
    assert max(facts["done"] for kind, facts in events if kind == "segment") < steps
    with pytest.raises(ValueError, match="every point diverged"):
        result.best  # noqa: B018
    assert result.best_params is None


def test_a_rule_is_checked():
    for stop in (3, "halving", lrax.Halving):
        with pytest.raises((TypeError, ValueError), match="`stop` must be "):
            swept(stop=stop)


class Seeing:
    """Stops nothing and keeps what it was shown."""

    def __init__(self):
        self.seen = []

    def __repr__(self):
        return "Seeing()"

    def looks(self, steps):
        return (7, 10)

    def keep(self, record):
        self.seen.append(record)
        return record.alive


def test_a_rule_knows_which_update_a_column_belongs_to():
    rule = Seeing()
    short = dict(steps=12, monitors=[lrax.monitors.grad_norm])
    whole = swept(**short, stop=None)
    swept(**short, stop=rule, loss_every=4, record_every=3)
    assert [record.done for record in rule.seen] == [7, 10]
    for record in rule.seen:
        assert (record.loss_every, record.record_every) == (4, 3)
        losses, norms = whole.losses[..., :: record.loss_every], whole.monitors["grad_norm"]
        at = record.losses.shape[-1]
        assert at == -(-record.done // 4)
        np.testing.assert_allclose(record.losses, losses[..., :at], rtol=1e-5)
        at = record.monitors["grad_norm"].shape[-1]
        norms = norms[..., :: record.record_every][..., :at]
        np.testing.assert_allclose(record.monitors["grad_norm"], norms, rtol=1e-4)
